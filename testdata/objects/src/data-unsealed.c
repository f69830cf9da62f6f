#include "kernel.h"
/* What could not be written once the kernel runs can be, and a patched function does. */
#ifdef PATCHED
static int limit[4] = { 1, 2, 3, 4 };
static int level = 2;
#else
static const int limit[4] = { 1, 2, 3, 4 };
static int level section(".data..ro_after_init") = 2;
#endif
int peek(int what) { return limit[what & 3] + *(volatile int *)&level; }
int show(int what)
{
#ifdef PATCHED
	limit[what & 3] = what;
	level = what;
#endif
	return what;
}
