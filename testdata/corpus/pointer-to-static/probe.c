/* Which nice value a process gets that asks for 7; another value shows that the rest still works. */
#include <errno.h>
#include <sys/resource.h>

static int asked_for(int nice)
{
	if (setpriority(PRIO_PROCESS, 0, nice) != 0)
		return -1;
	errno = 0;
	return getpriority(PRIO_PROCESS, 0);
}

int main(void)
{
	if (asked_for(6) != 6)
		return 2;
	switch (asked_for(7)) {
	case 8:
		return 0;
	case 7:
		return 1;
	}
	return 2;
}
