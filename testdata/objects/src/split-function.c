#include "kernel.h"
/* options of x86_64-clang: -fbasic-block-sections=list=src/split-function.clusters */
/* A list cuts functions into clusters of blocks: the parts have a size and no type. Only one part changes, and the function
 * and its other part come along. */
int bystander(int what)
{
	if (what == 3) {
		outside("x");
		return value_of(7);
	}
	return value_of(what);
}
int show(int what)
{
	if (what == 4) {
#ifdef PATCHED
		outside("new");
#else
		outside("old");
#endif
		return value_of(9);
	}
	if (what == 5) {
		outside("five");
		return value_of(11);
	}
	return value_of(what);
}
