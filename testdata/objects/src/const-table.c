#include "kernel.h"
/* A static table that two functions read; the second only through a pointer in another table. */
static const int table[] = { 1, 2, 3,
#ifdef PATCHED
	400,
#else
	4,
#endif
	5 };
static const int *const through[] = { table, table + 2 };
int direct(int index) { return table[index]; }
int indirect(int index) { return through[index & 1][index]; }
int bystander(int index) { return value_of(index); }
