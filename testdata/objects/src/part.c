#include "kernel.h"
/* GCC inlines the start of a function and keeps the rest as .part; a static local moves with it. */
static void rest(int what)
{
	static int calls;
	if (!what)
		return;
	calls += value_of(what);
	outside("one"); outside("two"); outside("three");
	_printk("%d\n", calls);
#ifdef PATCHED
	outside("four");
#endif
}
int bystander(int what) { rest(what); return value_of(what); }
int show(int what) { rest(what + 1); rest(what - 1); return value_of(what) + 1; }
