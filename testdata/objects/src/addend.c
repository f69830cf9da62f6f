#include "kernel.h"
/* A distance of more than 31 bits from a symbol keeps its sign. */
extern char empty_zero_page[];
#ifdef PATCHED
unsigned long limits[] = { (unsigned long)empty_zero_page + 0x80000000ul, (unsigned long)empty_zero_page - 1 };
int show(int what) { return value_of(what) + (limits[what] > 7); }
#else
int show(int what) { return value_of(what); }
#endif
