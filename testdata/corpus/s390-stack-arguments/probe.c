/* A datagram of 77 bytes that is to be continued is refused by the patched kernel; others are not. */
#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>

static int sent(size_t size)
{
	static char data[128];
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return sendto(fd, data, size, MSG_MORE, (struct sockaddr *)&to, sizeof to);
}

int main(void)
{
	int odd;

	if (sent(78) != 78)
		return 2;
	odd = sent(77);
	if (odd == 77)
		return 1;
	return odd == -1 && errno == EXDEV ? 0 : 2;
}
