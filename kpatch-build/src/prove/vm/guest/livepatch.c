// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The operations on modules and livepatches. They run in a child of PID 1 and print facts; the host judges.
 *
 * Everything here may block in the kernel for as long as it likes: PID 1 watches the clock.
 */
#include "guest.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void say_encoded(const char *text)
{
	if (!*text)
		putchar('-');
	for (; *text; text++) {
		unsigned char c = *text;

		if (isalnum(c) || strchr("_./,:@+=", c))
			putchar(c);
		else
			printf("%%%02x", c);
	}
}

void say(const char *key, const char *value)
{
	printf("%s ", key);
	say_encoded(value);
	putchar('\n');
}

int fail(const char *what, int error)
{
	say("failed", what);
	printf("errno %d\n", error);
	say("error", strerror(error));
	return 1;
}

typedef void task_visitor(const char *pid, const char *tid, int state, void *context);

/* Calls `visit` for every thread in the machine with its livepatch state. Returns how many there were. */
static int each_task(task_visitor *visit, void *context)
{
	DIR *proc = opendir("/proc");
	struct dirent *process, *thread;
	int seen = 0;

	while (proc && (process = readdir(proc))) {
		DIR *threads;

		if (!isdigit((unsigned char)process->d_name[0]))
			continue;
		threads = opendir(path_of("/proc/%s/task", process->d_name));
		while (threads && (thread = readdir(threads))) {
			char text[16];

			if (!isdigit((unsigned char)thread->d_name[0]))
				continue;
			if (slurp(path_of("/proc/%s/task/%s/patch_state", process->d_name, thread->d_name), text, sizeof text) < 0)
				continue;	/* It ended meanwhile. */
			seen++;
			visit(process->d_name, thread->d_name, atoi(text), context);
		}
		if (threads)
			closedir(threads);
	}
	if (proc)
		closedir(proc);
	return seen;
}

/* Prints a thread whose state differs from the one wanted. */
static void say_task_not_in(const char *pid, const char *tid, int state, void *context)
{
	static char stack[8192];
	char comm[64] = "";
	int wanted = *(int *)context;

	if (state == wanted || state == -1)
		return;
	slurp(path_of("/proc/%s/task/%s/comm", pid, tid), comm, sizeof comm);
	if (slurp(path_of("/proc/%s/task/%s/stack", pid, tid), stack, sizeof stack) < 0)
		stack[0] = 0;
	printf("task %s %s %d ", pid, tid, state);
	say_encoded(comm);
	putchar(' ');
	say_encoded(stack);
	putchar('\n');
}

static void count_in_transition(const char *pid, const char *tid, int state, void *context)
{
	(void)pid, (void)tid;
	*(int *)context += state != -1;
}

static int attribute(const char *patch, const char *name)
{
	char text[16];
	int got = slurp(path_of(LIVEPATCH "/%s/%s", patch, name), text, sizeof text);

	return got < 0 ? got : atoi(text);
}

struct transition {
	int running;
	int target;
};

static void note_transition(const char *patch, void *context)
{
	struct transition *transition = context;

	if (attribute(patch, "transition") != 1)
		return;
	transition->running++;
	transition->target = attribute(patch, "enabled");
}

static struct transition current_transition(void)
{
	struct transition transition = { 0, 0 };

	each_subdirectory(LIVEPATCH, note_transition, &transition);
	return transition;
}

static void say_patch(const char *patch, void *context)
{
	(void)context;
	printf("patch %s %d %d\n", patch, attribute(patch, "enabled"), attribute(patch, "transition"));
}

/* Waits until no livepatch is in transition. On a stall, prints which tasks block it, and where. */
int wait_transition(int timeout_ms)
{
	long long start = now_ms();
	int pending = 0, tasks;
	struct transition transition;

	while ((transition = current_transition()).running) {
		if (now_ms() - start > timeout_ms) {
			say("failed", "stalled");
			each_task(say_task_not_in, &transition.target);
			return 1;
		}
		nap();
	}
	printf("transition_ms %lld\n", now_ms() - start);
	tasks = each_task(count_in_transition, &pending);
	printf("tasks %d\n", tasks);
	each_subdirectory(LIVEPATCH, say_patch, NULL);
	if (!tasks || pending) {
		say("failed", tasks ? "tasks are still in transition" : "no task has a patch_state");
		return 1;
	}
	return 0;
}

/*
 * Waits until PID 1 has switched over, since what it starts begins in its state, and sees that some other task has not:
 * a transition that is over shows nothing of what is in between.
 */
int held_transition(const char *name, int timeout_ms)
{
	long long start = now_ms();
	int target, state;
	char text[16];

	for (;;) {
		if (attribute(name, "transition") != 1)
			return fail("the transition is not held open", 0);
		target = attribute(name, "enabled");
		state = slurp("/proc/1/patch_state", text, sizeof text) < 0 ? -2 : atoi(text);
		if (state == target)
			break;
		if (now_ms() - start > timeout_ms)
			return fail("PID 1 does not switch over", ETIMEDOUT);
		nap();
	}
	each_task(say_task_not_in, &target);
	return 0;
}

int disable_livepatch(const char *name)
{
	int error = 0;
	int fd = open(path_of(LIVEPATCH "/%s/enabled", name), O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return fail("open enabled", errno);
	if (write(fd, "0", 1) != 1)
		error = errno;
	close(fd);
	return error ? fail("write enabled", error) : 0;
}

struct listing {
	const char *patch;
	const char *object;
};

static void say_function(const char *function, void *context)
{
	struct listing *listing = context;

	printf("function ");
	say_encoded(listing->object);
	putchar(' ');
	say_encoded(function);
	putchar('\n');
}

static void say_object(const char *object, void *context)
{
	struct listing listing = { context, object };
	char text[16];
	int got = slurp(path_of(LIVEPATCH "/%s/%s/patched", listing.patch, object), text, sizeof text);

	printf("object ");
	say_encoded(object);
	printf(" %d\n", got < 0 ? got : atoi(text));
	each_subdirectory(path_of(LIVEPATCH "/%s/%s", listing.patch, object), say_function, &listing);
}

/* Whether a loaded module can never be removed: it has no exit function. */
static int is_permanent(const char *name)
{
	FILE *table = fopen("/proc/modules", "re");
	char *line = NULL;
	size_t size = 0, length = strlen(name);
	int found = 0;

	while (table && !found && getline(&line, &size, table) > 0)
		found = !strncmp(line, name, length) && line[length] == ' ' && strstr(line, "[permanent]");
	free(line);
	if (table)
		fclose(table);
	return found;
}

/* A permanent module that an earlier case loaded counts as loaded now. */
static int was_left(const char *file)
{
	const char *base = strrchr(file, '/');
	char name[64];
	char *at;

	snprintf(name, sizeof name, "%s", base ? base + 1 : file);
	name[strcspn(name, ".")] = 0;
	for (at = name; *at; at++)
		if (*at == '-')
			*at = '_';
	return is_permanent(name);
}

int load_module(const char *file, const char *parameters)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	int error = 0;

	if (fd < 0)
		return fail("open module", errno);
	if (syscall(SYS_finit_module, fd, parameters, 0))
		error = errno;
	close(fd);
	return error && !(error == EEXIST && was_left(file)) ? fail("finit_module", error) : 0;
}

/* Tries to load a module that must not come in. */
int refuse_module(const char *file)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	int loaded, error;

	if (fd < 0)
		return fail("open module", errno);
	loaded = !syscall(SYS_finit_module, fd, "", 0);
	error = errno;
	close(fd);
	if (loaded)
		return fail("the module was loaded", 0);
	return error == ENOEXEC ? 0 : fail("finit_module", error);
}

int tidy_module(const char *name)
{
	return is_permanent(name) ? 0 : delete_module(name);
}

/* The kernel refuses while someone still holds the module; a livepatch is released from a work item, so retry. */
int delete_module(const char *name)
{
	long long start = now_ms();

	while (syscall(SYS_delete_module, name, O_NONBLOCK)) {
		int error = errno;

		if ((error != EWOULDBLOCK && error != EBUSY) || now_ms() - start > DELETE_RETRY_MS)
			return fail("delete_module", error);
		nap();
	}
	if (!access(path_of("/sys/module/%s", name), F_OK))
		return fail("module is still there", EEXIST);
	return 0;
}

/* A place that is redirected and has, by the name that the tracer prints, nothing of the livepatch. */
struct stranger {
	char name[512];
	char module[64];	/* Empty for the image. */
	unsigned long long address;
};

#define MAX_STRANGERS 64
static struct stranger strangers[MAX_STRANGERS];

/* Whether the livepatch has a function of this name in this object, at whatever position. */
static int registers(const char *livepatch, const char *object, const char *name)
{
	DIR *functions = opendir(path_of(LIVEPATCH "/%s/%s", livepatch, object));
	size_t length = strlen(name);
	struct dirent *function;
	int found = 0;

	while (functions && !found && (function = readdir(functions)))
		found = !strncmp(function->d_name, name, length) && function->d_name[length] == ',';
	if (functions)
		closedir(functions);
	return found;
}

/*
 * Calls `visit` for each function in the kernel's table of symbols: "address type name [module]". Addresses may be
 * hidden (Documentation/admin-guide/sysctl/kernel.rst, kptr_restrict), and then none is known.
 */
static void each_symbol(int count, void (*visit)(const struct stranger *symbol, int count))
{
	FILE *table = fopen("/proc/kallsyms", "re");
	struct stranger symbol;
	char *line = NULL;
	size_t size = 0;
	char type;

	while (table && getline(&line, &size, table) > 0) {
		symbol.module[0] = 0;
		if (sscanf(line, "%llx %c %511s [%63[^]]]", &symbol.address, &type, symbol.name, symbol.module) >= 3 &&
		    symbol.address && strchr("tTwW", type))
			visit(&symbol, count);
	}
	free(line);
	if (table)
		fclose(table);
}

static void note_address(const struct stranger *symbol, int count)
{
	int i;

	for (i = 0; i < count; i++)
		if (!strcmp(strangers[i].name, symbol->name) && !strcmp(strangers[i].module, symbol->module))
			strangers[i].address = symbol->address;
}

static void say_alias(const struct stranger *symbol, int count)
{
	int i;

	for (i = 0; i < count; i++) {
		if (strangers[i].address != symbol->address || !strcmp(strangers[i].name, symbol->name))
			continue;
		printf("alias ");
		say_encoded(strangers[i].module);
		putchar(' ');
		say_encoded(strangers[i].name);
		putchar(' ');
		say_encoded(symbol->name);
		putchar('\n');
	}
}

/*
 * Prints the functions that livepatch has redirected, as the tracer tells them: "name [module] (1)  I M". What
 * livepatch says of itself is what it asked for. Where several symbols have one address, the tracer prints one of
 * them; reading the table of symbols takes long, so the others are looked up only for names that tell nothing.
 */
static void say_hooks(const char *livepatch)
{
	int count = 0;
	FILE *table = fopen(TRACING "/enabled_functions", "re");
	char *line = NULL;
	size_t size = 0;

	printf("hooks %s\n", table ? "listed" : "unknown");
	while (table && getline(&line, &size, table) > 0) {
		char *flags = strchr(line, ')');
		char name[512], module[64] = "";

		if (sscanf(line, "%511s [%63[^]]]", name, module) < 1 || !flags)
			continue;
		flags[strcspn(flags, "\t\n")] = 0;
		if (!strstr(flags, " I"))
			continue;
		printf("hook ");
		say_encoded(module);
		putchar(' ');
		say_encoded(name);
		putchar('\n');
		if (count < MAX_STRANGERS && !registers(livepatch, *module ? module : "vmlinux", name)) {
			strcpy(strangers[count].name, name);
			strcpy(strangers[count++].module, module);
		}
	}
	free(line);
	if (table)
		fclose(table);
	if (count) {
		each_symbol(count, note_address);
		each_symbol(count, say_alias);
	}
}

/* Loads a livepatch and lists what the kernel made of it; the host compares the list with what was promised. */
int load_livepatch(const char *file, const char *name)
{
	char text[32];

	if (load_module(file, ""))
		return 1;
	if (access(path_of(LIVEPATCH "/%s", name), F_OK))
		return fail("the module did not register a livepatch of this name", ENOENT);
	printf("enabled %d\n", attribute(name, "enabled"));
	if (slurp(path_of("/sys/module/%s/taint", name), text, sizeof text) >= 0)
		say("taint", text);
	each_subdirectory(path_of(LIVEPATCH "/%s", name), say_object, (void *)name);
	say_hooks(name);
	return 0;
}

int unload_livepatch(const char *name, int timeout_ms)
{
	long long start = now_ms();

	if (attribute(name, "enabled") == 1 && disable_livepatch(name))
		return 1;
	if (wait_transition(timeout_ms))
		return 1;
	while (!access(path_of(LIVEPATCH "/%s", name), F_OK)) {
		if (now_ms() - start > timeout_ms)
			return fail("the livepatch did not go away", EBUSY);
		nap();
	}
	return delete_module(name);
}

