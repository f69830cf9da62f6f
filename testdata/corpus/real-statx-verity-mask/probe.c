/* statx(2) of a procfs file: the verity bit in the mask is the new behaviour. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/stat.h>

int main(void)
{
	struct statx info;

	if (statx(AT_FDCWD, "/proc/version", 0, STATX_BASIC_STATS, &info))
		return 2;
	/* The bit for automounts has always been there. */
	if (!(info.stx_attributes_mask & 0x1000))
		return 2;
	return info.stx_attributes_mask & 0x100000 ? 0 : 1;
}
