#include "kernel.h"
/* The index of formats grows; only a debugfs file reads it. */
struct entry { const char *format; int line; };
#define INDEXED(text) do { \
	static struct entry _entry = { text, __LINE__ }; \
	static struct entry *_entry_ptr used section(".printk_index") = &_entry; \
	_printk(text); } while (0)
int bystander(int what) { INDEXED("one\n"); return value_of(what); }
#ifdef PATCHED
int show(int what) { INDEXED("two\n"); INDEXED("three\n"); return value_of(what); }
#else
int show(int what) { INDEXED("two\n"); return value_of(what); }
#endif
