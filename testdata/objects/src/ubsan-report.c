#include "kernel.h"
/* options of clang: -fsanitize=array-bounds,shift */
/* options of gcc: -fsanitize=bounds,shift */
/* Descriptors of the compiler's own: nameless, numbered, and they move with each line above them and each word in front. */
static int marks[4];
#ifdef PATCHED
static int more[5];
#endif
int show(int what)
{
#ifdef PATCHED
	more[what] = what;
	what += more[value_of(what)];
#endif
	return value_of(marks[what]);
}
int bystander(int what) { return marks[what] << what; }
int other(int what) { return 1 << marks[what]; }
