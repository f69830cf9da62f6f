/* LOOP_GET_STATUS64 of a device without a file: 0 if it fails with ENODEV, 1 with ENXIO. */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>

int main(void)
{
	struct loop_info64 info;
	int fd = open("/dev/loop0", O_RDONLY);

	if (fd < 0 || !ioctl(fd, LOOP_GET_STATUS64, &info))
		return 2;
	return errno == ENODEV ? 0 : errno == ENXIO ? 1 : 2;
}
