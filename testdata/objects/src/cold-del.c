#include "kernel.h"
/* A function loses its own. GCC moves what is unlikely into a .cold part. */
extern void __attribute__((cold)) fails(const char *why);
int bystander(int what) { if (what == 3) { fails("bystander"); outside("x"); return value_of(7); } return value_of(what); }
int show(int what)
{
#ifndef PATCHED
	if (what == 4) { fails("show"); outside("y"); return value_of(9); }
#endif
	return value_of(what);
}
