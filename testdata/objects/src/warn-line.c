#include "kernel.h"
/* Nothing but the lines of two WARN_ON() moves. */
#define WARN() asm volatile("1: " NOP table("__bug_table", "aw", distance("1b") \
	distance("file_name") ".short %c0, 1\n") : : "i"(__LINE__))
extern const char file_name[];
#ifdef PATCHED
#line 100
#else
#line 10
#endif
int bystander(int what) { if (what > 7) WARN(); return value_of(what); }
int show(int what) { if (what > 8) WARN(); return value_of(what); }
