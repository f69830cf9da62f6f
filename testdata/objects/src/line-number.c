#include "kernel.h"
/* Lines move: __LINE__ as an argument that means a line is noise, any other constant is not. */
#ifdef PATCHED
#line 1000
int inserted(int what) { return value_of(what); }
#else
#line 10
#endif
int sleeps(int what) { __might_sleep("a.c", __LINE__); return value_of(what); }
int prints(int what) { _printk("failed at %s (%d)\n", "a.c", __LINE__); return value_of(what); }
int counts(int what) { _printk("%d of %d\n", 3, __LINE__); return value_of(what); }
void jumps(void) { _printk("failed at %s (%d)\n", "a.c", __LINE__); }
