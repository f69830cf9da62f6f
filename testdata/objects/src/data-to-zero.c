#include "kernel.h"
/* Variables that began with something begin with zero, which takes their bytes out of the object. */
#ifdef PATCHED
#define START(value)
#else
#define START(value) = (value)
#endif
int limit START(5);
static int level section(".data..read_mostly") START(2);
static int top START(3);
void set(int what) { level = what; top = what; }
int show(int what) { return what < limit + level + top; }
