#include "kernel.h"
/* A function that cannot be redirected, and whose address is kept. */
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
int (*kept)(int) = helper;
int caller(int what) { return helper(what + 1) * 2; }
