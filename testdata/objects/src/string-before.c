#include "kernel.h"
/* A new string moves the others: their users do the same as before. */
#ifdef PATCHED
void added(void) { outside("a string that comes first"); }
#endif
void show(void) { outside("a string that moves"); }
void edited(int what)
{
#ifdef PATCHED
	value_of(what);
#endif
	outside("a string that moves, too");
}
