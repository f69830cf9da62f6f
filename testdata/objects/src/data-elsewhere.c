#include "kernel.h"
/* Variables that come to lie in another kind of memory: of each processor, decrypted. */
#ifdef PATCHED
#define OTHER(name) section(name)
#else
#define OTHER(name)
#endif
long counter OTHER(".data..percpu") = 1;
int shared OTHER(".bss..decrypted");
int show(int what)
{
	counter++;
	return what + shared;
}
