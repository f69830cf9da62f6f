/* getdents64() into a bad buffer must fail with EFAULT. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd = argc > 1 ? open(argv[1], O_RDONLY | O_DIRECTORY) : -1;

	if (fd < 0)
		return 2;
	return syscall(SYS_getdents64, fd, (void *)8, 4096) == -1 && errno == EFAULT ? 0 : 2;
}
