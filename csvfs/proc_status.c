/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/proc_status.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* 65536 groups of at most ten digits, and all else. */
#define STATUS_BYTES (1u << 20)

char *proc_status(uint32_t tid, int *err)
{
	size_t used = 0;
	char path[64], *text;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/status", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		*err = -errno;
		return NULL;
	}
	text = malloc(STATUS_BYTES);
	*err = text ? 0 : -ENOMEM;
	while (text && (n = read(fd, text + used, STATUS_BYTES - 1 - used)) != 0) {
		if (n < 0) {
			*err = -errno;
			free(text);
			text = NULL;
			break;
		}
		used += (size_t)n;
	}
	(void)close(fd);
	if (text)
		text[used] = 0;
	return text;
}
