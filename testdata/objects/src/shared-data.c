#include "kernel.h"
/* Variables in sections that they share: references name the section and a distance. */
static int first section(".data..read_mostly") = 1;
static int second section(".data..read_mostly") = 2;
static long counter section(".data..percpu");
int bystander(int what) { first += what; return first; }
int show(int what)
{
	second += what;
	counter++;
#ifdef PATCHED
	second += value_of(what);
#endif
	return second;
}
