/* SO_PRIORITY of a new unix socket, or, with an argument, whether the limit is enforced with ENFILE. */
#include <errno.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), priority = -1;
	socklen_t len = sizeof(priority);

	(void)argv;
	if (argc > 1)
		return fd < 0 && errno == ENFILE ? 0 : 1;
	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, &len))
		return 2;
	return priority == 3 ? 0 : priority == 0 ? 1 : 2;
}
