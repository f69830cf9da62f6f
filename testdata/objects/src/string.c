#include "kernel.h"
/* Only the string changes: the code and its relocations stay. */
void show(void)
{
#ifdef PATCHED
	outside("new text");
#else
	outside("old text");
#endif
}
void bystander(void) { outside("the same on both sides"); }
