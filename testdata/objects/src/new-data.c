#include "kernel.h"
/* A new variable comes along; the old one is the kernel's. */
static int counter;
#ifdef PATCHED
static int other;
#endif
int show(int what)
{
	counter += value_of(what);
#ifdef PATCHED
	other += counter;
	if (other > 9)
		outside("other");
	other = value_of(other);
#endif
	return counter;
}
int again(void) { return counter++; }
