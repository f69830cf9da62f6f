#include "kernel.h"
/* A table of functions, one of which is exchanged: open files have its address, and it is compared. */
struct operations { int (*open)(int); int (*close)(int); };
struct file { const struct operations *operations; };
static int open_one(int index) { return value_of(index); }
static int open_two(int index) { return value_of(index + 1); }
static int close(int index) { return value_of(index + 2); }
static const struct operations operations = {
#ifdef PATCHED
	.open = open_two,
#else
	.open = open_one,
#endif
	.close = close,
};
int (*volatile other)(int) = open_one;
int (*volatile another)(int) = open_two;
int is_ours(struct file *file) { return file->operations == &operations; }
void opened(struct file *file) { file->operations = &operations; }
int bystander(int index) { return value_of(index); }
