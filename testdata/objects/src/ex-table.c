#include "kernel.h"
/* A place that may fault and where to go on; on two machines by way of code in .fixup. */
#if defined(__powerpc64__)
#define KIND
#define BACK "b 2b\n"
#elif defined(__s390x__)
#define KIND ".short 1, 0\n"
#define BACK "jg 2b\n"
#else
#define KIND ".short 1, 0\n"
#endif
#ifdef BACK
#define FIX table(".fixup", "ax", "3: " NOP BACK) table("__ex_table", "a", distance("1b") distance("3b") KIND)
#else
#define FIX table("__ex_table", "a", distance("1b") distance("2b") KIND)
#endif
#define MAY_FAULT() asm volatile("1: " NOP "2: " NOP FIX)
int bystander(int what) { MAY_FAULT(); return value_of(what); }
int show(int what)
{
	MAY_FAULT();
#ifdef PATCHED
	what += 100;
#endif
	return value_of(what);
}
