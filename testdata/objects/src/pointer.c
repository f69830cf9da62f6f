#include "kernel.h"
/* A pointer to a changed function stays the kernel's own; a new function's is the livepatch's. */
extern void remember(int (*callback)(int));
int callback(int what)
{
#ifdef PATCHED
	return value_of(what) + 1;
#else
	return value_of(what);
#endif
}
#ifdef PATCHED
static int fresh(int what) { return value_of(what) + 2; }
#endif
void show(void)
{
	remember(callback);
#ifdef PATCHED
	remember(fresh);
#endif
}
