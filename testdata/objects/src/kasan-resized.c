#include "kernel.h"
/* options of clang: -fsanitize=kernel-address -mllvm -asan-globals=1 -mllvm -asan-stack=0 -mllvm -asan-instrumentation-with-call-threshold=0 */
/* options of gcc: -fsanitize=kernel-address --param asan-globals=1 --param asan-stack=0 --param asan-instrumentation-with-call-threshold=0 */
/* A variable that gets longer, and stays as long with its red zone: LLVM's symbol does not tell. */
#ifdef PATCHED
static int marks[4];
#else
static int marks[3];
#endif
int show(int what)
{
	marks[what & (sizeof(marks) / sizeof(marks[0]) - 1)]++;
	return value_of(marks[0]);
}
