#include "kernel.h"
/* What could be written cannot be any more. The content is the same, so the kernel's copy stays in use. */
#ifdef PATCHED
#define SEALED const
#define LATE section(".data..ro_after_init")
#else
#define SEALED
#define LATE
#endif
SEALED int limit[4] = { 1, 2, 3, 4 };
int level LATE = 2;
int show(int what)
{
#ifdef PATCHED
	what++;
#endif
	return limit[what & 3] + level;
}
