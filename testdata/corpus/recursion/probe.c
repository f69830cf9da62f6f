/* Nests epoll files until the kernel says ELOOP: 2 links is the new behaviour, 4 the old one. */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

int main(void)
{
	struct epoll_event event = { .events = EPOLLIN };
	int inner = epoll_create1(0), links = 0;
	int ends[2];

	if (inner < 0 || pipe(ends) || epoll_ctl(inner, EPOLL_CTL_ADD, ends[0], &event))
		return 2;
	for (;;) {
		int outer = epoll_create1(0);

		if (outer < 0)
			return 2;
		if (epoll_ctl(outer, EPOLL_CTL_ADD, inner, &event)) {
			if (errno != ELOOP)
				return 2;
			break;
		}
		inner = outer;
		links++;
	}
	return links == 2 ? 0 : links == 4 ? 1 : 2;
}
