// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The whole user space of a proof machine: PID 1, which works through the plan that the host wrote into /plan.
 *
 * Why not a shell script: the outcome must be exact. Modules are loaded by system call so that the errno itself
 * reaches the host, every record is framed and checksummed so that console noise cannot be mistaken for a result,
 * and the kernel log is forwarded while it grows.
 *
 * These files are neutral towards the architecture: no assembly and no system call numbers of our own.
 */
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

/* Taint bits that belong to loading a livepatch: out of tree, unsigned, livepatch. */
#define EXPECTED_TAINT (1UL << 12 | 1UL << 13 | 1UL << 15)

static unsigned long taint(void)
{
	char text[32];

	if (slurp("/proc/sys/kernel/tainted", text, sizeof text) < 0)
		fault("read the taint bits, needs CONFIG_PROC_SYSCTL", errno);
	return strtoul(text, NULL, 10);
}

static char *plan;

static char *decoded(char *word)
{
	char *out = word, *in = word;

	if (!strcmp(word, "-"))
		return word + 1;
	while (*in) {
		unsigned int byte;

		if (*in == '%' && sscanf(in + 1, "%2x", &byte) == 1) {
			*out++ = byte;
			in += 3;
		} else {
			*out++ = *in++;
		}
	}
	*out = 0;
	return word;
}

/* Takes the next line off the plan. A plan without its "end" line was cut short. */
static struct line next_line(void)
{
	struct line line = { .word = { "", "", "", "", "", "", "", "" }, .count = 0 };
	char *rest = strchr(plan, '\n'), *word;

	if (!rest)
		fault("the plan has no end", 0);
	*rest = 0;
	for (word = strtok(plan, " "); word && line.count < MAX_WORDS; word = strtok(NULL, " "))
		line.word[line.count++] = decoded(word);
	plan = rest + 1;
	if (!line.count)
		fault("the plan has an empty line", 0);
	return line;
}

static void read_plan(void)
{
	struct stat info;
	int fd = open("/plan", O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0 || fstat(fd, &info) || !(plan = malloc(info.st_size + 1)))
		fault("open /plan", errno);
	got = read(fd, plan, info.st_size);
	if (got != info.st_size)
		fault("read /plan", errno);
	plan[got] = 0;
	close(fd);
}

/* The first line: a nonce that ties every record to this boot, and the port, which differs by architecture. */
static void follow_plan_header(void)
{
	struct line line = next_line();
	uint8_t nonce[8];

	if (line.count != 4 || strcmp(line.word[0], "plan") || strcmp(line.word[1], "1") || strlen(line.word[2]) != 16)
		fault("the plan has an unknown header", 0);
	for (int byte = 0; byte < 8; byte++) {
		unsigned int value = 0;

		sscanf(line.word[2] + 2 * byte, "%2x", &value);
		nonce[byte] = value;
	}
	open_channel(line.word[3], nonce);
}

/* What a case must leave unchanged. */
struct machine_state {
	unsigned long taint;
	int livepatches;
	int modules;
};

static struct machine_state look_around(void)
{
	struct machine_state found = {
		.taint = taint(),
		.livepatches = each_subdirectory(LIVEPATCH, NULL, NULL),
		.modules = 0,
	};
	FILE *modules = fopen("/proc/modules", "re");

	for (int c; modules && (c = getc(modules)) != EOF;)
		found.modules += c == '\n';
	if (modules)
		fclose(modules);
	return found;
}

static int left_clean(struct machine_state before, struct machine_state after)
{
	unsigned long new_taint = after.taint & ~before.taint & ~EXPECTED_TAINT;

	return !new_taint && after.livepatches == before.livepatches && after.modules == before.modules;
}

/* Runs the steps of one case. The next one starts only if this one passed and left the machine unchanged. */
static void run_case(int index, int steps)
{
	struct machine_state before = look_around(), after;
	int going = 1, clean;

	record("case-begin");
	add_number("case", index);
	send_record();
	for (int step = 0; step < steps; step++) {
		struct line line = next_line();

		if (line.count < 5 || strcmp(line.word[0], "step"))
			fault("the plan has a malformed step", 0);
		if (going)
			going = run_step(&line, index);
	}
	after = look_around();
	clean = going && left_clean(before, after);
	drain_kmsg();
	record("case-end");
	add_number("case", index);
	add_number("taint-before", before.taint);
	add_number("taint-after", after.taint);
	add_number("clean", clean);
	send_record();
	if (!clean)
		final("stopped");
}

static void run_plan(void)
{
	for (;;) {
		struct line line = next_line();

		if (!strcmp(line.word[0], "end"))
			return;
		if (line.count != 3 || strcmp(line.word[0], "case"))
			fault("the plan has a malformed case", 0);
		run_case(atoi(line.word[1]), atoi(line.word[2]));
	}
}

static void mount_one(const char *type, const char *where)
{
	mkdir(where, 0755);
	if (mount(type, where, type, 0, NULL) && errno != EBUSY)
		fault(type, errno);
}

static void install_applets(void)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		execl("/bin/busybox", "busybox", "--install", "-s", "/bin", (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		fault("install the busybox applets", pid < 0 ? errno : 0);
}

static void say_hello(void)
{
	struct utsname names;

	uname(&names);
	record("hello");
	add_text("release", names.release);
	add_text("machine", names.machine);
	add_text("version", names.version);
	add_number("cpus", sysconf(_SC_NPROCESSORS_ONLN));
	add_number("taint", taint());
	add_number("livepatch", !access(LIVEPATCH, F_OK));
	send_record();
}

int main(void)
{
	umask(022);
	setenv("PATH", "/bin", 1);
	setenv("HOME", "/", 1);
	read_plan();
	mount_one("devtmpfs", "/dev");
	follow_plan_header();
	mount_one("proc", "/proc");
	mount_one("sysfs", "/sys");
	mount_one("tmpfs", "/tmp");
	/* Only where the kernel has it; nothing here depends on it. */
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	mount("tracefs", TRACING, "tracefs", 0, NULL);
	open_kmsg();
	install_applets();
	say_hello();
	drain_kmsg();
	run_plan();
	drain_kmsg();
	final("end");
}
