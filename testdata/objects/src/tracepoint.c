#include "kernel.h"
/* A tracepoint of the file: its data stays the kernel's, its place in the list of all is not taken along. */
struct tracepoint { const char *name; long enabled; };
struct tracepoint __tracepoint_seen section("__tracepoints") = { "seen", 0 };
asm(table("__tracepoints_ptrs", "a", ".long __tracepoint_seen - .\n"));
int show(int what)
{
	if (__tracepoint_seen.enabled)
		outside(__tracepoint_seen.name);
#ifdef PATCHED
	what += 100;
#endif
	return value_of(what);
}
