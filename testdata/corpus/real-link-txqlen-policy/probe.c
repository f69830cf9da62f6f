/* RTM_SETLINK with IFLA_TXQLEN: 1000 must be taken, 100000 is refused by the new code. */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int set_txqlen(unsigned int length)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg link;
		struct rtattr attr;
		unsigned int length;
	} request = {
		.head = { sizeof(request), RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0 },
		.link = { .ifi_family = AF_UNSPEC, .ifi_index = (int)if_nametoindex("lo") },
		.attr = { RTA_LENGTH(sizeof(unsigned int)), IFLA_TXQLEN },
		.length = length,
	};
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
		char rest[512];
	} answer;
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), error = 1;

	if (fd >= 0 && send(fd, &request, sizeof(request), 0) == (ssize_t)sizeof(request) &&
	    recv(fd, &answer, sizeof(answer), 0) > 0 && answer.head.nlmsg_type == NLMSG_ERROR)
		error = answer.error.error;
	close(fd);
	return error;
}

int main(void)
{
	int error;

	if (set_txqlen(1000))
		return 2;
	error = set_txqlen(100000);
	if (set_txqlen(1000))
		return 2;
	return error == -ERANGE || error == -EINVAL ? 0 : error == 0 ? 1 : 2;
}
