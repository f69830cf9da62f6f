// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Runs one step in a child of its own and reports how it ended.
 *
 * A child, so that an oops, a time-out or a crash of the step is a result: the kernel kills the process that
 * oopsed, and PID 1 lives on to say so.
 */
#include "guest.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_TAIL 4096	/* What a script may say: enough for a message, small enough for a slow serial port. */
#define KILL_GRACE_MS 2000	/* After SIGKILL; a task that needs longer is stuck in the kernel. */

static int script(const char *file)
{
	execl("/bin/sh", "sh", file, (char *)NULL);
	say("failed", "cannot run /bin/sh");
	return 127;
}

/* Runs in the child. Words: "step" index time-out status-that-goes-on operation arguments. */
static int operate(const struct line *line)
{
	const char *operation = line->word[4], *first = line->word[5], *second = line->word[6];
	int timeout_ms = atoi(line->word[2]);

	if (!strcmp(operation, "load-module"))
		return load_module(first, second);
	if (!strcmp(operation, "refuse-module"))
		return refuse_module(first);
	if (!strcmp(operation, "unload-module"))
		return delete_module(first);
	if (!strcmp(operation, "tidy-module"))
		return tidy_module(first);
	if (!strcmp(operation, "script"))
		return script(first);
	if (!strcmp(operation, "load-livepatch"))
		return load_livepatch(first, second);
	if (!strcmp(operation, "held-transition"))
		return held_transition(first, timeout_ms);
	if (!strcmp(operation, "wait-transition"))
		return wait_transition(timeout_ms);
	if (!strcmp(operation, "disable-livepatch"))
		return disable_livepatch(first);
	if (!strcmp(operation, "unload-livepatch"))
		return unload_livepatch(first, timeout_ms);
	say("failed", "unknown operation");
	return 126;
}

struct child {
	pid_t pid;
	int output;
	int status;
	int ended;
	int timed_out;
	size_t used;
	size_t dropped;
	char tail[RECORD_MAX];
	char where[8192];	/* Filled on a time-out: what each process of the step was doing. */
};

/* Keeps the end of what the child prints: the end is where the reason stands. */
static void keep_output(struct child *child, size_t limit)
{
	char chunk[4096];
	ssize_t got;

	while ((got = read(child->output, chunk, sizeof chunk)) > 0) {
		if (child->used + got > limit) {
			size_t drop = child->used + got - limit;

			memmove(child->tail, child->tail + drop, child->used - drop);
			child->used -= drop;
			child->dropped += drop;
		}
		memcpy(child->tail + child->used, chunk, got);
		child->used += got;
	}
}

/* PID 1 inherits orphans, so anything may turn up here. */
static void reap(struct child *child)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == child->pid) {
			child->status = status;
			child->ended = 1;
		}
	}
}

static void become_step(const struct line *line, int output)
{
	int null = open("/dev/null", O_RDONLY);
	int status;

	/* A session of its own: on a time-out everything the step started is killed together. */
	setsid();
	dup2(null, 0);
	dup2(output, 1);
	dup2(output, 2);
	status = operate(line);
	fflush(stdout);
	_exit(status);
}

static void start(struct child *child, const struct line *line)
{
	int ends[2];

	memset(child, 0, sizeof *child);
	if (pipe2(ends, O_CLOEXEC))
		fault("pipe", errno);
	child->pid = fork();
	if (child->pid < 0)
		fault("fork", errno);
	if (!child->pid)
		become_step(line, ends[1]);
	close(ends[1]);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	child->output = ends[0];
}

/* Notes the kernel stack of every process of the step: whoever reads of a time-out asks where it was. */
static void note_where(struct child *child)
{
	static char stack[4096];
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	size_t used = 0;

	while (proc && (entry = readdir(proc)) && used < sizeof child->where) {
		char comm[64] = "";

		if (!isdigit((unsigned char)entry->d_name[0]) || getsid(atoi(entry->d_name)) != child->pid)
			continue;
		slurp(path_of("/proc/%s/comm", entry->d_name), comm, sizeof comm);
		if (slurp(path_of("/proc/%s/stack", entry->d_name), stack, sizeof stack) < 0)
			stack[0] = 0;
		used += snprintf(child->where + used, sizeof child->where - used, "%s (pid %s)\n%s\n", comm, entry->d_name,
				 stack);
	}
	if (proc)
		closedir(proc);
}

/*
 * Lets the child run until it ends. The end is seen with waitpid and not as the end of its output: a script may
 * leave a process behind that keeps the pipe open, which is how a proof makes a task sleep in a patched function.
 */
static void watch(struct child *child, long long deadline, size_t limit)
{
	while (!child->ended) {
		struct pollfd input = { .fd = child->output, .events = POLLIN };

		poll(&input, 1, POLL_MS);
		if (input.revents & POLLHUP)
			nap();
		keep_output(child, limit);
		drain_kmsg();
		heartbeat();
		reap(child);
		if (child->ended || now_ms() < deadline)
			continue;
		if (child->timed_out)
			break;	/* Not even SIGKILL ended it. */
		note_where(child);
		child->timed_out = 1;
		deadline = now_ms() + KILL_GRACE_MS;
		kill(-child->pid, SIGKILL);
	}
	keep_output(child, limit);
	close(child->output);
}

static void add_ending(const struct child *child)
{
	if (child->timed_out)
		add_text("end", child->ended ? "timeout" : "stuck");
	else if (WIFEXITED(child->status))
		add_text("end", "exit");
	else
		add_text("end", "signal");
	add_number("status", child->timed_out ? 0 : WIFEXITED(child->status) ? WEXITSTATUS(child->status) : WTERMSIG(child->status));
}

/* Returns whether the case may go on. */
int run_step(const struct line *line, int case_index)
{
	static struct child child;
	size_t limit = strcmp(line->word[4], "script") ? RECORD_MAX : OUTPUT_TAIL;
	long long begun = now_ms();
	/* Operations watch their own time and can say who made them wait, so give them time to say it. */
	long long grace = strcmp(line->word[4], "script") ? 3000 + DELETE_RETRY_MS : 0;

	record("step-begin");
	add_number("case", case_index);
	add_text("step", line->word[1]);
	send_record();
	start(&child, line);
	watch(&child, begun + atoi(line->word[2]) + grace, limit);
	drain_kmsg();
	record("step-end");
	add_number("case", case_index);
	add_text("step", line->word[1]);
	add_number("millis", now_ms() - begun);
	add_ending(&child);
	add_number("dropped", child.dropped);
	add_text("where", child.where);
	add_bytes("output", 6);
	add_bytes(child.tail, child.used);
	send_record();
	return child.ended && !child.timed_out && WIFEXITED(child.status) && WEXITSTATUS(child.status) == atoi(line->word[3]);
}

