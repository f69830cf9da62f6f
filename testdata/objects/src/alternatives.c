#include "kernel.h"
/* Code that the kernel replaces if the processor has a feature. */
#if defined(__powerpc64__)
#define ALTERNATIVE() asm volatile("1: " NOP "2:\n" \
	".pushsection __ftr_alt_97,\"ax\"\n3: " NOP "4:\n.popsection\n" \
	".pushsection __ftr_fixup,\"a\"\n.balign 8\n5: .8byte 16, 16, 1b - 5b, 2b - 5b, 3b - 5b, 4b - 5b\n.popsection\n")
#else
#define ALTERNATIVE() asm volatile("1: " NOP "2:\n" \
	".pushsection .altinstr_replacement,\"ax\"\n3: " NOP "4:\n.popsection\n" \
	table(".altinstructions", "a", distance("1b") distance("3b") ".short 16\n.byte 2b - 1b, 4b - 3b\n"))
#endif
int bystander(int what) { ALTERNATIVE(); return value_of(what); }
int show(int what)
{
	ALTERNATIVE();
#ifdef PATCHED
	what += 100;
#endif
	return value_of(what);
}
