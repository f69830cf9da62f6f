#include "kernel.h"
/* GCC makes copies of functions for constant parameters and numbers them; a new one comes before the others. */
static noinline int scale(int what, int by) { return value_of(what) * by + value_of(by); }
#ifdef PATCHED
static noinline int shift(int what, int by) { return (value_of(what) << by) - value_of(by); }
int inserted(int what) { return shift(what, 3) + shift(value_of(what), 3); }
#endif
int bystander(int what) { return scale(what, 7) + scale(value_of(what), 7); }
int show(int what)
{
#ifdef PATCHED
	what += 100;
#endif
	return scale(what, 7);
}
