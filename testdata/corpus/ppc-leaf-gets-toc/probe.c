/* In the patched kernel a file called odd cannot be written back; others can. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static int synced(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT, 0600);

	return fd < 0 ? -2 : fsync(fd);
}

int main(void)
{
	int odd;

	if (synced("/tmp/even"))
		return 2;
	odd = synced("/tmp/odd");
	if (!odd)
		return 1;
	return odd == -1 && errno == EDOM ? 0 : 2;
}
