#include "kernel.h"
/* Variables that were zero, and so without any bytes in the object, begin with something else. */
#ifdef PATCHED
#define START(value) = (value)
#else
#define START(value)
#endif
int limit START(5);
static int level START(2);
void set(int what) { level = what; }
int show(int what)
{
	static long count START(7);
	return what < limit + level + count++;
}
