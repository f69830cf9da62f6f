#include "kernel.h"
/* An object linked from two files of one name (make compiles it twice): statics of one name, told apart by file. */
#if PART == 1
static int state = 1;
static noinline int helper(int what) { return value_of(what) + state++; }
int one(int what) { return helper(what) + helper(what + 1); }
#else
static int state = 2;
static noinline int helper(int what) { return value_of(what) - state++; }
int two(int what)
{
#ifdef PATCHED
	what += 100;
#endif
	return helper(what) - helper(what + 1);
}
#endif
