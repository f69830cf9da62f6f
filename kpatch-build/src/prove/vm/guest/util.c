// SPDX-License-Identifier: GPL-2.0-or-later
/* Time, small files and folders: what the other parts do often. */
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

void nap(void)
{
	poll(NULL, 0, POLL_MS);
}

/* Reads a small file into `out`, without the trailing newline. Returns its length or -errno. */
int slurp(const char *path, char *out, size_t size)
{
	size_t used = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	while (used + 1 < size) {
		ssize_t got = read(fd, out + used, size - 1 - used);

		if (got < 0) {
			int error = -errno;

			close(fd);
			return error;
		}
		if (got == 0)
			break;
		used += got;
	}
	close(fd);
	while (used && out[used - 1] == '\n')
		used--;
	out[used] = 0;
	return used;
}

/* Formats a path into a buffer that lives until the next call. */
const char *path_of(const char *format, ...)
{
	static char path[4096];
	va_list args;

	va_start(args, format);
	vsnprintf(path, sizeof path, format, args);
	va_end(args);
	return path;
}

/* Calls `visit`, if there is one, for each folder in a folder. Returns how many there are; none if it is not there. */
int each_subdirectory(const char *path, name_visitor *visit, void *context)
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	int seen = 0;

	while (directory && (entry = readdir(directory))) {
		if (entry->d_name[0] == '.' || entry->d_type != DT_DIR)
			continue;
		seen++;
		if (visit)
			visit(entry->d_name, context);
	}
	if (directory)
		closedir(directory);
	return seen;
}
