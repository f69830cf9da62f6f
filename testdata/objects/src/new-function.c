#include "kernel.h"
/* A new static function comes along with its caller. */
#ifdef PATCHED
static noinline int helper(int what) { outside("helper"); return value_of(what) * 3; }
#endif
int show(int what)
{
#ifdef PATCHED
	return helper(what);
#else
	return value_of(what);
#endif
}
