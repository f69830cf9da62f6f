#include "kernel.h"
/* What kpatch-macros.h leaves behind: a callback, and a function to overlook. */
int show(int what)
{
#ifdef PATCHED
	return value_of(what) + 1;
#else
	return value_of(what);
#endif
}
int overlooked(int what)
{
#ifdef PATCHED
	return value_of(what) + 2;
#else
	return value_of(what);
#endif
}
#ifdef PATCHED
static int prepare(void *object) { outside("prepare"); return 0; }
struct record { int (*function)(void *object); char *name; };
static struct record prepare_record section(".kpatch.callbacks.pre_patch") used = { prepare, 0 };
void *__kpatch_ignore_func_overlooked section(".kpatch.ignore.functions") = overlooked;
#endif
