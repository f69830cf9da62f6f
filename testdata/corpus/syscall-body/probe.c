/* getpriority(2): nice value 3 is the new behaviour, 0 the old one. */
#include <errno.h>
#include <sys/resource.h>

int main(void)
{
	int nice;

	if (setpriority(PRIO_PROCESS, 0, 0))
		return 2;
	errno = 0;
	nice = getpriority(PRIO_PROCESS, 0);
	if (errno)
		return 2;
	return nice == 3 ? 0 : nice == 0 ? 1 : 2;
}
