// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the host hears: framed records over the serial port, and the kernel log as it appears.
 *
 * The frame's form is described in channel.rs, which reads it. Integers go over the wire byte by byte, so the byte
 * order of the machine does not matter.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <termios.h>
#include <unistd.h>

#define HEARTBEAT_MS 1000	/* The host takes a much longer silence for a hang. */

static struct {
	int fd;
	uint8_t nonce[8];
	uint32_t seq;
	uint8_t frame[RECORD_MAX + 16384];
	size_t used;
	long long last_ms;
} channel = { .fd = -1 };

static uint32_t crc32_of(const uint8_t *data, size_t len)
{
	uint32_t crc = ~0u;

	while (len--) {
		crc ^= *data++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return ~crc;
}

static void store32(uint8_t *at, uint32_t value)
{
	for (int byte = 0; byte < 4; byte++)
		at[byte] = value >> (8 * byte);
}

void add_bytes(const void *data, size_t len)
{
	if (channel.used + 4 + len + 4 > sizeof channel.frame)
		len = 0;	/* Cannot happen with the limits above; an empty field is seen by the host. */
	store32(channel.frame + channel.used, len);
	memcpy(channel.frame + channel.used + 4, data, len);
	channel.used += 4 + len;
}

void add_text(const char *key, const char *value)
{
	add_bytes(key, strlen(key));
	add_bytes(value, strlen(value));
}

void add_number(const char *key, long long value)
{
	char text[24];

	snprintf(text, sizeof text, "%lld", value);
	add_text(key, text);
}

/* Frame: magic, nonce, sequence number, payload length, payload, CRC-32 of everything after the magic. */
void record(const char *kind)
{
	memcpy(channel.frame, "KPVM", 4);
	memcpy(channel.frame + 4, channel.nonce, 8);
	store32(channel.frame + 12, channel.seq++);
	channel.used = 20;
	add_bytes(kind, strlen(kind));
}

void send_record(void)
{
	size_t done = 0;

	store32(channel.frame + 16, channel.used - 20);
	store32(channel.frame + channel.used, crc32_of(channel.frame + 4, channel.used - 4));
	channel.used += 4;
	while (done < channel.used) {
		ssize_t put = write(channel.fd, channel.frame + done, channel.used - done);

		if (put < 0 && errno != EINTR && errno != EAGAIN)
			return;	/* The host sees a missing record. There is no other way to tell it. */
		if (put > 0)
			done += put;
	}
	channel.last_ms = now_ms();
}

__attribute__((noreturn)) static void power_off(void)
{
	if (channel.fd >= 0)
		tcdrain(channel.fd);
	sync();
	reboot(RB_POWER_OFF);
	/* A machine without a power switch: QEMU runs with -no-reboot, so a reset ends it as well. */
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

void final(const char *why)
{
	uint32_t records = channel.seq;

	record("final");
	add_number("records", records);
	add_text("why", why);
	send_record();
	power_off();
}

/* The environment is not as we need it: no verdict about any patch. */
void fault(const char *what, int error)
{
	if (channel.fd < 0) {
		fprintf(stderr, "init: %s: %s\n", what, strerror(error));
		power_off();
	}
	record("fault");
	add_text("what", what);
	add_text("error", error ? strerror(error) : "");
	send_record();
	final("fault");
}

void open_channel(const char *device, const uint8_t nonce[8])
{
	struct termios raw;
	int fd = open(device, O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd < 0 || tcgetattr(fd, &raw))
		fault(device, errno);
	/* Cooked, the line discipline would turn each newline byte into two. */
	cfmakeraw(&raw);
	cfsetspeed(&raw, B115200);
	if (tcsetattr(fd, TCSANOW, &raw))
		fault(device, errno);
	memcpy(channel.nonce, nonce, sizeof channel.nonce);
	channel.fd = fd;
}

static int kmsg = -1;

/* Sends one batch. Returns whether the log may hold more. */
static int drain_batch(void)
{
	static char line[8192];
	static char batch[RECORD_MAX];
	size_t used = 0;
	int lost = 0;

	while (used + sizeof line + 1 < sizeof batch) {
		ssize_t got = read(kmsg, line, sizeof line - 1);

		if (got < 0 && errno == EPIPE) {
			lost = 1;
			continue;
		}
		if (got <= 0)
			break;
		memcpy(batch + used, line, got);
		used += got;
		if (batch[used - 1] != '\n')
			batch[used++] = '\n';
	}
	if (!used && !lost)
		return 0;
	record("klog");
	add_number("lost", lost);
	add_bytes("lines", 5);
	add_bytes(batch, used);
	send_record();
	return 1;
}

void drain_kmsg(void)
{
	while (drain_batch())
		;
}

void heartbeat(void)
{
	if (now_ms() - channel.last_ms < HEARTBEAT_MS)
		return;
	record("alive");
	send_record();
}

void open_kmsg(void)
{
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	/* Without the log a splat would go unseen, and a run that sees nothing must not pass. */
	if (kmsg < 0)
		fault("open /dev/kmsg, needs CONFIG_PRINTK", errno);
}

