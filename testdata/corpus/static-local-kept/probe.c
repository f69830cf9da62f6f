/* Calls syslog(2) as the check asks. "size" ends with 0 for an odd buffer size, 1 for an even one. */
#include <string.h>
#include <stdlib.h>
#include <sys/klog.h>

int main(int argc, char **argv)
{
	int size;

	if (argc < 2)
		return 2;
	if (!strcmp(argv[1], "off"))
		return klogctl(6, NULL, 0) ? 2 : 0;
	if (!strcmp(argv[1], "on"))
		return klogctl(7, NULL, 0) ? 2 : 0;
	if (!strcmp(argv[1], "level") && argc == 3)
		return klogctl(8, NULL, atoi(argv[2])) ? 2 : 0;
	size = klogctl(10, NULL, 0);
	if (size <= 0)
		return 2;
	return size & 1 ? 0 : 1;
}
