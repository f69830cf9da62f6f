#include "kernel.h"
/* Only the part changes: the function comes along. GCC moves what is unlikely into a .cold part. */
extern void __attribute__((cold)) fails(const char *why);
int bystander(int what) { if (what == 3) { fails("bystander"); outside("x"); return value_of(7); } return value_of(what); }
int show(int what)
{
	if (what == 4) {
		fails("show");
#ifdef PATCHED
		outside("new");
#else
		outside("old");
#endif
		return value_of(9);
	}
	return value_of(what);
}
