#include "kernel.h"
/* An object linked from two files of one name (make compiles it twice): both change a static function of one name. */
#if PART == 1
static int state = 1;
#else
static long state = 2;
#endif
static noinline int helper(int what)
{
#ifdef PATCHED
	what += 100;
#endif
	return value_of(what) + state++;
}
#if PART == 1
int one(int what) { return helper(what) + helper(what + 1); }
#else
int two(int what) { return helper(what) - helper(what + 1); }
#endif
