/* copy_file_range(2) of an empty file to an offset at RLIMIT_FSIZE: 0 is new, EFBIG old. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

int main(void)
{
	char from[] = "/tmp/copy-range-from.XXXXXX", to[] = "/tmp/copy-range-to.XXXXXX";
	struct rlimit limit = { 4096, 4096 };
	int in = mkstemp(from), out = mkstemp(to);
	off_t in_at = 0, out_at = 8192;
	ssize_t copied;

	unlink(from);
	unlink(to);
	signal(SIGXFSZ, SIG_IGN);
	if (in < 0 || out < 0 || setrlimit(RLIMIT_FSIZE, &limit))
		return 2;
	copied = copy_file_range(in, &in_at, out, &out_at, 100, 0);
	if (copied == 0)
		return 0;
	return copied < 0 && errno == EFBIG ? 1 : 2;
}
