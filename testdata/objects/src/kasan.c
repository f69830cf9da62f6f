#include "kernel.h"
/* options of clang: -fsanitize=kernel-address -mllvm -asan-globals=1 -mllvm -asan-stack=1 -mllvm -asan-instrumentation-with-call-threshold=0 */
/* options of gcc: -fsanitize=kernel-address --param asan-globals=1 --param asan-stack=1 --param asan-instrumentation-with-call-threshold=0 */
/* Each variable and each string has a red zone and a row in a list that a constructor registers. New ones move all others;
   the lines of variables on the stack, which GCC notes, move, too. */
extern int value_in(const int *room);
static int counter;
static const int weights[4] = { 3, 1, 4, 1 };
int shared_limit = 5;
#ifdef PATCHED
static int fresh = 7;
#endif
int show(int what)
{
	static int calls;
	calls++;
#ifdef PATCHED
	fresh += what;
	_printk("a string that is new: %d\n", fresh);
#endif
	_printk("shown: %d %d\n", what, calls + counter++);
	return value_of(weights[what & 3]);
}
int bystander(int what)
{
	int room[4] = { what };
	_printk("not changed: %d %d\n", value_in(room), shared_limit);
	return counter;
}
