// SPDX-License-Identifier: GPL-2.0-or-later
/* What the parts of the guest program share: util.c, channel.c, livepatch.c, steps.c and init.c. */
#ifndef GUEST_H
#define GUEST_H

#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>

#define POLL_MS 10
#define RECORD_MAX 65536	/* The most that one record carries. */
#define DELETE_RETRY_MS 5000	/* The kernel drops a livepatch's last reference from a work item. */
#define LIVEPATCH "/sys/kernel/livepatch"
#define TRACING "/sys/kernel/tracing"

/* util.c */
long long now_ms(void);
void nap(void);
int slurp(const char *path, char *out, size_t size);
__attribute__((format(printf, 1, 2))) const char *path_of(const char *format, ...);
typedef void name_visitor(const char *name, void *context);
int each_subdirectory(const char *path, name_visitor *visit, void *context);

/* channel.c */
void open_channel(const char *device, const uint8_t nonce[8]);
void open_kmsg(void);
void record(const char *kind);
void add_bytes(const void *data, size_t len);
void add_text(const char *key, const char *value);
void add_number(const char *key, long long value);
void send_record(void);
void heartbeat(void);
void drain_kmsg(void);
__attribute__((noreturn)) void final(const char *why);
__attribute__((noreturn)) void fault(const char *what, int error);

/* livepatch.c: run in a child, print facts, return the exit status. */
void say(const char *key, const char *value);
int fail(const char *what, int error);
int load_module(const char *file, const char *parameters);
int delete_module(const char *name);
int refuse_module(const char *file);
int tidy_module(const char *name);
int load_livepatch(const char *file, const char *name);
int held_transition(const char *name, int timeout_ms);
int wait_transition(int timeout_ms);
int disable_livepatch(const char *name);
int unload_livepatch(const char *name, int timeout_ms);

/* One line of the plan, split at blanks and decoded. */
#define MAX_WORDS 8
struct line {
	char *word[MAX_WORDS];	/* Those that are not there are empty. */
	int count;
};

/* steps.c: returns whether the case may go on. */
int run_step(const struct line *line, int case_index);

#endif
