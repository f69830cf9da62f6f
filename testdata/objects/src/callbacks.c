#include "kernel.h"
/* Several callbacks, two of one kind: each is kept and called what it is. Force does nothing. */
struct record { int (*function)(void *object); char *name; };
#ifdef PATCHED
static int first(void *object) { outside("first"); return 0; }
static int second(void *object) { outside("second"); return 0; }
static int last(void *object) { outside("last"); return 0; }
static struct record first_record section(".kpatch.callbacks.pre_patch") used = { first, 0 };
static struct record second_record section(".kpatch.callbacks.pre_patch") used = { second, 0 };
static struct record last_record section(".kpatch.callbacks.post_unpatch") used = { last, 0 };
#endif
int show(int what);
#ifdef PATCHED
void *__kpatch_force_func_show section(".kpatch.force") = show;
#endif
int show(int what)
{
#ifdef PATCHED
	what += 100;
#endif
	return value_of(what);
}
