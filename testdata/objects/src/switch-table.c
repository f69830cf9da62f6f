#include "kernel.h"
/* A switch becomes a table; one value in it changes. */
int show(int what)
{
	switch (what) {
	case 0: return 11;
	case 1: return 7;
	case 2: return 23;
#ifdef PATCHED
	case 3: return 400;
#else
	case 3: return 4;
#endif
	case 4: return 91;
	case 5: return 17;
	default: return -1;
	}
}
int bystander(int what)
{
	switch (what) {
	case 0: return 31;
	case 1: return 5;
	case 2: return 77;
	case 3: return 2;
	case 4: return 64;
	default: return 0;
	}
}
