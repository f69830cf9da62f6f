#include "kernel.h"
/* Functions in one section, one of which passes the address of another: the assembler may know the distance. */
#define together section(".sched.text") noinline
int pass(void *function, int what);
static together int before(int what) { return value_of(what) * 3 + 5; }
static together int callback(int what) { return value_of(what) * 3; }
together int show(int what)
{
#ifdef PATCHED
	what += 100;
#endif
	return pass(callback, before(what));
}
