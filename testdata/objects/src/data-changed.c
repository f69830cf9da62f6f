#include "kernel.h"
/* The initial content of a variable that running code has in use. */
#ifdef PATCHED
int limit = 20;
#else
int limit = 10;
#endif
int show(int what) { return what < limit; }
