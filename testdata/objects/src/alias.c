#include "kernel.h"
/* A system call has several names; each function counts once. */
#define alias(name) __attribute__((alias(name)))
int __se_sys_show(int what)
{
#ifdef PATCHED
	what += 100;
#endif
	return value_of(what);
}
int sys_show(int what) alias("__se_sys_show");
#ifdef PATCHED
static noinline int adds(int what) { return value_of(what) + 1; }
static int adds_too(int what) alias("adds") used;
int sys_adds(int what) { return adds(what) + adds(value_of(what)); }
#endif
