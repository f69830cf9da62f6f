#include "kernel.h"
/* Zeros with bytes and without are the same content. */
#ifdef PATCHED
#define FREQUENT section(".data..read_mostly")
#define RARE
#else
#define FREQUENT
#define RARE section(".data..read_mostly")
#endif
int limit FREQUENT = 0;
int level RARE = 0;
int show(int what)
{
#ifdef PATCHED
	what++;
#endif
	return what < limit + level;
}
