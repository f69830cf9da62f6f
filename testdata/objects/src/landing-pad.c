#include "kernel.h"
/* On aarch64 a landing pad stands before the place that the tracer hooks: the same distance in each function. */
#if defined(__aarch64__)
#define pad __attribute__((target("branch-protection=bti")))
#else
#define pad
#endif
#ifdef PATCHED
#define STEP 100
#else
#define STEP 7
#endif
pad int one(int what) { return value_of(what + STEP) + 1; }
pad int two(int what) { return value_of(what + STEP) + 2; }
pad int three(int what) { return value_of(what + STEP) + 3; }
