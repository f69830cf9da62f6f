/* Entries that one call of getdents64() brings: 3 in the new behaviour, more in the old. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	static char buffer[32768];
	int fd = open("/proc", O_RDONLY | O_DIRECTORY), entries = 0;
	long length = fd < 0 ? -1 : syscall(SYS_getdents64, fd, buffer, sizeof(buffer));

	if (length <= 0)
		return 2;
	/* The length of an entry stands behind two numbers of eight bytes. */
	for (long at = 0; at < length; at += *(unsigned short *)(buffer + at + 16))
		entries++;
	return entries == 3 ? 0 : entries > 3 ? 1 : 2;
}
