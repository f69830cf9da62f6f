#include "kernel.h"
/* GCC passes what a pointer points at instead of the pointer and renames the function; its body changes. */
struct pair { int one, two; };
static noinline int sum(const struct pair *pair)
{
	int one = pair->one, two = pair->two;
#ifdef PATCHED
	return value_of(one) + two + 100;
#else
	return value_of(one) + two;
#endif
}
int show(int one, int two) { struct pair pair = { one, two }; return sum(&pair) + value_of(two); }
int bystander(int one) { struct pair pair = { one, one }; return sum(&pair) - value_of(one); }
