#include "kernel.h"
/* A changed callee that its caller reaches by a jump or a branch inside the section. */
static noinline int callee(int what)
{
#ifdef PATCHED
	return value_of(what) + value_of(2);
#else
	return value_of(what) + value_of(1);
#endif
}
int caller(int what) { return callee(what + 1); }
int other(int what) { return callee(what) * 2; }
