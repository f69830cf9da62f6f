/* 0: the fdinfo of an eventfd counts the two writes, 1: it does not count, 2: something else. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int main(void)
{
	char path[64], line[128];
	uint64_t one = 1;
	unsigned long writes = 0;
	int fd = eventfd(0, 0), counted = 0;
	FILE *info;

	if (fd < 0 || write(fd, &one, 8) != 8 || write(fd, &one, 8) != 8)
		return 2;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = fopen(path, "r");
	if (!info)
		return 2;
	while (fgets(line, sizeof(line), info))
		counted |= sscanf(line, "eventfd-writes: %lu", &writes) == 1;
	if (!counted)
		return 1;
	return writes == 2 ? 0 : 2;
}
