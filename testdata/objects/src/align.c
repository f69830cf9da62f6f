#include "kernel.h"
/* The alignment of code changes and nothing else. */
#ifdef PATCHED
__attribute__((aligned(64)))
#endif
int show(int what) { return value_of(what) + 3; }
