#include "kernel.h"
/* Tables of places with nothing else in an entry: which there are depends on the machine. */
#if defined(__x86_64__)
#define PLACE() asm volatile("1: " NOP table(".smp_locks", "a", distance("1b")) \
	table(".retpoline_sites", "a", distance("1b")) table(".return_sites", "a", distance("1b")) \
	table(".call_sites", "a", distance("1b")) table(".ibt_endbr_seal", "a", distance("1b")))
#elif defined(__s390x__)
#define PLACE() asm volatile("1: " NOP table(".s390_indirect_call", "a", distance("1b")) \
	table(".s390_return_mem", "a", distance("1b")))
#elif defined(__powerpc64__)
#define PLACE() asm volatile("1: " NOP ".pushsection __lwsync_fixup,\"a\"\n.balign 8\n2: .8byte 1b - 2b\n.popsection\n" \
	".pushsection __barrier_nospec_fixup,\"a\"\n.balign 8\n3: .8byte 1b - 3b\n.popsection\n")
#else
#define PLACE() asm volatile("1: " NOP)
#endif
int bystander(int what) { PLACE(); return value_of(what); }
int show(int what)
{
	PLACE();
#ifdef PATCHED
	what += 100;
#endif
	return value_of(what);
}
