#include "kernel.h"
/* A statement of assembly outside of functions: its bytes belong to nobody. */
#ifdef PATCHED
asm("nop");
#endif
int show(int what)
{
#ifdef PATCHED
	return value_of(what + 100);
#else
	return value_of(what + 5);
#endif
}
