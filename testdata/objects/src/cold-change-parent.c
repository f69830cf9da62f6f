#include "kernel.h"
/* Only the function changes: the part comes along. GCC moves what is unlikely into a .cold part. */
extern void __attribute__((cold)) fails(const char *why);
int bystander(int what) { if (what == 3) { fails("bystander"); outside("x"); return value_of(7); } return value_of(what); }
int show(int what)
{
	if (what == 4) { fails("show"); outside("y"); return value_of(9); }
#ifdef PATCHED
	return value_of(what + 1);
#else
	return value_of(what + 2);
#endif
}
