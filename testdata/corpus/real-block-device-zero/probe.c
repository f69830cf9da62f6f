/* mount(2) of a node with device number 0: ENODEV is the new behaviour, ENXIO the old one. */
#include <errno.h>
#include <sys/mount.h>

int main(int argc, char **argv)
{
	if (argc != 3 || mount(argv[1], argv[2], "ext4", MS_RDONLY, "") == 0)
		return 2;
	return errno == ENODEV ? 0 : errno == ENXIO ? 1 : 2;
}
