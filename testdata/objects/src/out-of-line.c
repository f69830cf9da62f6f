#include "kernel.h"
/* Kernels up to 5.15 keep the code for faults in .fixup, and 4.15 to 5.4 the reports of counters in .text..refcount, of
 * all functions together. One piece may run on into the next. */
#if defined(__x86_64__)
#define FAULT(code) asm volatile("1: nop\n2:\n" \
	".pushsection .fixup,\"ax\"\n3: mov $" #code ",%%eax\njmp 2b\n.popsection\n" \
	table("__ex_table", "a", distance("1b") distance("3b") distance("value_of")) ::: "eax")
#define FAULTS() asm volatile("1: nop\n4: nop\n2:\n" \
	".pushsection .fixup,\"ax\"\n3: inc %%eax\n5: inc %%eax\njmp 6f\nnop\n6: jmp 2b\n.popsection\n" \
	table("__ex_table", "a", distance("1b") distance("3b") distance("value_of") \
		distance("4b") distance("5b") distance("value_of") ) ::: "eax")
#define COUNT(where) asm volatile("lock incl %0\njs 1f\n3:\n" \
	".pushsection .text..refcount,\"ax\"\n1: lea %0,%%rcx\n2: .byte 0x0f, 0x0b\n4:\n" \
	table(".discard.unreachable", "", distance("4b")) ".popsection\n" \
	table("__ex_table", "a", distance("2b") distance("3b") distance("value_of")) : "+m"(where) :: "rcx")
#else
#define FAULT(code) outside("a fault")
#define FAULTS() outside("some faults")
#define COUNT(where) (where)++
#endif
static int counter;
int first(int what) { FAULT(11); COUNT(counter); return value_of(what); }
int show(int what)
{
	FAULT(12);
#ifdef PATCHED
	FAULTS();
	COUNT(counter);
	what += 100;
#endif
	COUNT(counter);
	return value_of(what);
}
int several(int what) { FAULTS(); COUNT(counter); FAULT(13); return value_of(what); }
#ifdef PATCHED
int code(int what) { FAULT(14); return what; }
#else
int code(int what) { FAULT(15); return what; }
#endif
int last(int what) { FAULTS(); FAULT(16); COUNT(counter); return value_of(what); }
