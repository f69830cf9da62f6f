/* Compares TCP_KEEPCNT of a new socket with the number given: one more is the new behaviour. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), count = 0, base;
	socklen_t len = sizeof(count);

	if (argc < 2 || fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, &len))
		return 2;
	base = atoi(argv[1]);
	return count == base + 1 ? 0 : count == base ? 1 : 2;
}
