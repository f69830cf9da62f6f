/* getcpu(2): node 7 is the new behaviour, node 0 the old one; bad pointers must give EFAULT in both. */
#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	unsigned int cpu = 99, node = 99;

	if (syscall(SYS_getcpu, &cpu, &node, NULL) || cpu > 4095)
		return 2;
	errno = 0;
	if (syscall(SYS_getcpu, (void *)8, NULL, NULL) != -1 || errno != EFAULT)
		return 2;
	errno = 0;
	if (syscall(SYS_getcpu, NULL, (void *)8, NULL) != -1 || errno != EFAULT)
		return 2;
	return node == 7 ? 0 : node == 0 ? 1 : 2;
}
