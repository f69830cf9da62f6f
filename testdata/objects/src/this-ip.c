#include "kernel.h"
/* A function that names a place in itself (_THIS_IP_). */
extern void locked(unsigned long from);
#define THIS_IP ({ __label__ here; here: (unsigned long)&&here; })
int bystander(int what) { locked(THIS_IP); return value_of(what); }
int show(int what)
{
	locked(THIS_IP);
#ifdef PATCHED
	what += 100;
#endif
	return value_of(what);
}
