/* SIOCGARP with an unterminated name: the new code finds the device (ENXIO), the old one does not (ENODEV). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static int ask(int fd, const char name[16])
{
	struct arpreq request = { 0 };
	struct sockaddr_in *address = (struct sockaddr_in *)&request.arp_pa;

	address->sin_family = AF_INET;
	address->sin_addr.s_addr = inet_addr("192.0.2.1");
	memcpy(request.arp_dev, name, 16);
	errno = 0;
	return ioctl(fd, SIOCGARP, &request) ? errno : 0;
}

int main(void)
{
	struct ifreq rename = { .ifr_name = "lo", .ifr_newname = "fifteen-letters" };
	int fd, error;

	if (unshare(CLONE_NEWNET))
		return 2;
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFNAME, &rename))
		return 2;
	if (ask(fd, "fifteen-letters") != ENXIO)
		return 2;
	error = ask(fd, (char [16]){ "fifteen-letters" "x" });
	return error == ENXIO ? 0 : error == ENODEV ? 1 : 2;
}
