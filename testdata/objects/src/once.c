#include "kernel.h"
/* Flags of _ONCE macros and lock classes: every function has its own, by the same names. */
struct lock_class_key { char bytes[8]; };
extern void register_lock(struct lock_class_key *key, const char *name);
#define WARN_ONCE(text) do { static _Bool section(".data..once") __already_done; \
	if (!__already_done) { __already_done = 1; _printk(text); } } while (0)
#define INIT_LOCK(text) do { static struct lock_class_key __key; register_lock(&__key, text); } while (0)
#ifdef PATCHED
int inserted(int what) { WARN_ONCE("inserted\n"); INIT_LOCK("inserted"); return value_of(what); }
#endif
int bystander(int what) { WARN_ONCE("bystander\n"); INIT_LOCK("bystander"); return value_of(what); }
int show(int what)
{
	WARN_ONCE("show\n");
	INIT_LOCK("show");
#ifdef PATCHED
	what += 100;
#endif
	return value_of(what);
}
