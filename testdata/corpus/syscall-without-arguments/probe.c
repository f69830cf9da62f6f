/* getpgrp(2): one more than getpgid(2) says is the new behaviour, the same number the old one. */
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	long more = syscall(SYS_getpgrp) - syscall(SYS_getpgid, 0);

	return more == 1 ? 0 : more == 0 ? 1 : 2;
}
