#include "kernel.h"
/* WARN_ON(): an entry of struct bug_entry for each site. Lines of both move, one function changes. */
#define WARN() asm volatile("1: " NOP table("__bug_table", "aw", distance("1b") \
	distance("file_name") ".short %c0, 1\n") : : "i"(__LINE__))
extern const char file_name[];
#ifdef PATCHED
#line 100
#else
#line 10
#endif
int bystander(int what) { if (what > 7) WARN(); return value_of(what); }
#ifdef PATCHED
int show(int what) { if (what > 8) WARN(); if (what < 2) WARN(); return value_of(what + 1); }
#else
int show(int what) { if (what > 8) WARN(); return value_of(what); }
#endif
