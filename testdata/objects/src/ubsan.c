#include "kernel.h"
/* What -fsanitize=bounds leaves: nameless data in numbered sections; the numbers move, and one function changes. */
struct location { const char *file; int line, column; };
extern void __ubsan_handle(void *data, long index);
#ifdef PATCHED
#define FIRST ".data..Lubsan_data2"
#define SECOND ".data..Lubsan_data3"
#else
#define FIRST ".data..Lubsan_data1"
#define SECOND ".data..Lubsan_data2"
#endif
static struct location first asm(".Lubsan_first") section(FIRST) = { "ubsan.c", 1, 2 };
static struct location second asm(".Lubsan_second") section(SECOND) = { "ubsan.c", 3, 4 };
int bystander(long what) { if (what > 8) __ubsan_handle(&first, what); return value_of(what); }
int show(long what)
{
	if (what > 9)
		__ubsan_handle(&second, what);
#ifdef PATCHED
	what += 100;
#endif
	return value_of(what);
}
