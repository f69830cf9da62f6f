#include "kernel.h"
/* Sections of a group: of each group, a linker keeps one. The patch uses one that is there and adds another. */
#define IN_A_GROUP(name, value)                                                                    \
	extern const int name[];                                                                   \
	asm(".pushsection .rodata." #name ",\"aG\",%progbits," #name ",comdat\n"                   \
	    "\t.weak " #name "\n\t.type " #name ",%object\n\t.size " #name ",8\n\t.balign 4\n"      \
	    #name ":\n\t.long " #value ", " #value "\n\t.popsection")

IN_A_GROUP(shared, 3);
#ifdef PATCHED
IN_A_GROUP(fresh, 4);
#endif
int show(int what)
{
#ifdef PATCHED
	return value_of(shared[what & 1] + fresh[what & 1]);
#else
	return value_of(shared[what & 1]);
#endif
}
int other(int what)
{
	return shared[what & 1];
}
