#include "kernel.h"
/* Static locals of one name in several functions: an inserted one renumbers the others. */
#ifdef PATCHED
int inserted(void) { static int state; return state++; }
#endif
int first(void) { static int state = 1; return state++; }
int second(int what)
{
	static int state = 2;
#ifdef PATCHED
	state += value_of(what);
#endif
	return state++;
}
