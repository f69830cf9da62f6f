/* Adds a route with locked cwnd 0: EINVAL is the new behaviour, success the old one. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct number {
	struct rtattr attr;
	unsigned int value;
};

static int add_route(const char *to, unsigned int window)
{
	struct {
		struct nlmsghdr head;
		struct rtmsg route;
		struct number dst;
		struct number oif;
		struct rtattr metrics;
		struct number lock;
		struct number cwnd;
	} request = {
		.head = { sizeof(request), RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, 1, 0 },
		.route = { .rtm_family = AF_INET, .rtm_dst_len = 32, .rtm_table = RT_TABLE_MAIN,
			   .rtm_protocol = RTPROT_BOOT, .rtm_scope = RT_SCOPE_LINK, .rtm_type = RTN_UNICAST },
		.dst = { { RTA_LENGTH(4), RTA_DST }, inet_addr(to) },
		.oif = { { RTA_LENGTH(4), RTA_OIF }, if_nametoindex("lo") },
		.metrics = { RTA_LENGTH(2 * sizeof(struct number)), RTA_METRICS },
		.lock = { { RTA_LENGTH(4), RTAX_LOCK }, 1 << RTAX_CWND },
		.cwnd = { { RTA_LENGTH(4), RTAX_CWND }, window },
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
	struct ifreq loopback = { .ifr_name = "lo" };
	int fd, error;

	if (unshare(CLONE_NEWNET))
		return 2;
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	loopback.ifr_flags = IFF_UP;
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &loopback))
		return 2;
	if (add_route("192.0.2.1", 10))
		return 2;
	error = add_route("192.0.2.2", 0);
	return error == -EINVAL ? 0 : error == 0 ? 1 : 2;
}
