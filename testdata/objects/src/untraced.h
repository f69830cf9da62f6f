#include "kernel.h"
/* A function that cannot be redirected. */
#if defined(__aarch64__) || defined(__loongarch__)
#define untraced __attribute__((patchable_function_entry(0, 0))) noinline
#else
#define untraced notrace noinline
#endif
static untraced int helper(int what)
{
#ifdef PATCHED
	return value_of(what) + value_of(2);
#else
	return value_of(what) + value_of(1);
#endif
}
