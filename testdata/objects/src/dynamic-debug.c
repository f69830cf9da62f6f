#include "kernel.h"
/* Descriptors of pr_debug(): their lines move, and a new one appears. */
struct _ddebug { const char *module, *function, *file, *format; unsigned line : 18, class : 6, flags : 8; long key; } __attribute__((aligned(8)));
extern void __dynamic_pr_debug(struct _ddebug *descriptor, const char *format);
#define pr_debug(text) do { static struct _ddebug used section("__dyndbg") \
	__UNIQUE_ID_ddebug = { "module", __func__, "a.c", text, __LINE__, 0, 0, 0 }; \
	if (__UNIQUE_ID_ddebug.key) __dynamic_pr_debug(&__UNIQUE_ID_ddebug, text); } while (0)
#ifdef PATCHED
#line 100
#endif
int bystander(int what) { pr_debug("bystander\n"); return value_of(what); }
#ifdef PATCHED
int show(int what) { pr_debug("show\n"); pr_debug("more\n"); return value_of(what); }
#else
int show(int what) { pr_debug("show\n"); return value_of(what); }
#endif
