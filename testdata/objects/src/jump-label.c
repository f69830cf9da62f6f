#include "kernel.h"
/* A static key: code, target and key of a branch that the kernel rewrites. */
extern char key[16];
#define BRANCH(to) asm goto("1: " NOP table("__jump_table", "aw", distance("1b") distance("%l[" #to "]") \
	".quad key - .\n") : : : : to)
int bystander(int what) { BRANCH(yes); return value_of(what); yes: return 2; }
int show(int what)
{
	BRANCH(yes);
#ifdef PATCHED
	what += 100;
#endif
	return value_of(what);
yes:
	return 1;
}
