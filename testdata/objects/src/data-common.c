#include "kernel.h"
/* A variable without a section (-fcommon) is zero; with an initial value it has one. */
#ifdef PATCHED
int limit __attribute__((common));
int level = 2;
#else
int limit;
int level __attribute__((common));
#endif
int show(int what) { return what < limit + level; }
