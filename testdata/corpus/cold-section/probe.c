/* io_uring_setup(0): ERANGE is the new behaviour, EINVAL the old one. A good call must still work. */
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#endif

int main(void)
{
	char params[120] = { 0 }, good[120] = { 0 };

	if (syscall(SYS_io_uring_setup, 0, params) != -1)
		return 2;
	if (errno != ERANGE && errno != EINVAL)
		return 2;
	if (errno == EINVAL)
		return 1;
	return syscall(SYS_io_uring_setup, 4, good) >= 0 ? 0 : 2;
}
