/* A context that is 77 instead of 0 is refused with another error by the patched kernel. */
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	unsigned long context = 77;

	if (syscall(SYS_io_setup, 1, (void *)8) != -1 || errno != EFAULT)
		return 2;
	if (syscall(SYS_io_setup, 1, &context) != -1)
		return 2;
	return errno == EDOM ? 0 : errno == EINVAL ? 1 : 2;
}
