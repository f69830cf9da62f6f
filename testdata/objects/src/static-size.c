#include "kernel.h"
/* Static locals of one name and different sizes; the function of one is removed. */
#ifndef PATCHED
int removed(int what) { static char state[4]; state[what] = 1; return state[what ^ 1]; }
#endif
int show(int what)
{
	static char state[16];
	state[what] = 2;
#ifdef PATCHED
	what += value_of(what);
#endif
	return state[what ^ 1];
}
