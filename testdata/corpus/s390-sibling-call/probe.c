/* With a limit of exactly 77 files the patched kernel opens nothing; with 78 both open. */
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>

static int opened(rlim_t limit)
{
	struct rlimit files = { limit, 1024 };

	if (setrlimit(RLIMIT_NOFILE, &files))
		return -2;
	return open("/proc/version", O_RDONLY);
}

int main(void)
{
	int odd, plain = opened(78);

	if (plain < 0)
		return 2;
	odd = opened(77);
	if (odd >= 0)
		return 1;
	return odd == -1 && errno == EMLINK ? 0 : 2;
}
