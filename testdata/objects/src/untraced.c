#include "kernel.h"
/* A function that cannot be redirected. */
#if defined(__aarch64__) || defined(__loongarch__)
__attribute__((patchable_function_entry(0, 0)))
#else
notrace
#endif
int show(int what)
{
#ifdef PATCHED
	return value_of(what) + 1;
#else
	return value_of(what);
#endif
}
