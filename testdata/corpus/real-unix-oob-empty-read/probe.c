/* recv(2) of nothing with one urgent byte waiting: 0 is the new behaviour, EAGAIN the old one. */
#include <errno.h>
#include <sys/socket.h>

int main(void)
{
	int pair[2];
	char byte = 'u';
	ssize_t got;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || send(pair[0], &byte, 1, MSG_OOB) != 1)
		return 2;
	got = recv(pair[1], &byte, 0, MSG_DONTWAIT);
	return got == 0 ? 0 : errno == EAGAIN ? 1 : 2;
}
