#include "kernel.h"
/* A static call where objtool has run: place and key. Other machines have no such table. */
#if defined(__x86_64__)
#define SITE() asm volatile("1: call __SCT__hook\n" table(".static_call_sites", "aw", distance("1b") distance("__SCK__hook")))
#else
#define SITE() outside("hook")
#endif
int bystander(int what) { SITE(); return value_of(what); }
int show(int what)
{
	SITE();
#ifdef PATCHED
	what += 100;
#endif
	return value_of(what);
}
