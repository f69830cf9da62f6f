#include "kernel.h"
/* A function goes; its caller changes. */
#ifndef PATCHED
static noinline int helper(int what) { outside("helper"); return value_of(what) * 3; }
#endif
int show(int what)
{
#ifdef PATCHED
	return value_of(what);
#else
	return helper(what);
#endif
}
