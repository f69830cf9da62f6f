#include "kernel.h"
/* A constant in the code. */
int show(int what)
{
#ifdef PATCHED
	return value_of(what + 100);
#else
	return value_of(what + 5);
#endif
}
int bystander(int what) { return value_of(what) + 1; }
