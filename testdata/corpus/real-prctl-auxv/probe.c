/* Sets an auxiliary vector of one entry and looks for the rest of the old one. */
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(void)
{
	unsigned long entry[2] = { 17, 100 }, seen[64] = { 0 };
	unsigned int word;
	int fd;

	if (prctl(PR_SET_MM, PR_SET_MM_AUXV, entry, sizeof(entry), 0))
		return 2;
	fd = open("/proc/self/auxv", O_RDONLY);
	if (fd < 0 || read(fd, seen, sizeof(seen)) < (ssize_t)sizeof(entry))
		return 2;
	if (seen[0] != 17 || seen[1] != 100)
		return 2;
	for (word = 2; word < 64; word++)
		if (seen[word])
			return 1;
	return 0;
}
