/* Locks 8 TiB of address space on fault only and reads back VmLck. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define SIZE (8ULL << 40)

int main(void)
{
	char line[256], *found = NULL;
	unsigned long long locked = 0;
	FILE *status;
	void *map = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED || mlock2(map, SIZE, MLOCK_ONFAULT))
		return 2;
	status = fopen("/proc/self/status", "r");
	while (status && fgets(line, sizeof(line), status))
		if (!strncmp(line, "VmLck:", 6)) {
			found = line + 6;
			break;
		}
	if (!found || sscanf(found, "%llu", &locked) != 1)
		return 2;
	munlock(map, SIZE);
	return locked == SIZE / 1024 ? 0 : 1;
}
