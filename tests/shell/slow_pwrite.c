/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * slow_pwrite.c - LD_PRELOAD for tgtd: its writes wait while the file named by $HOLD exists, after the
 * reservation check and before they land. So a test can have a write in flight for as long as it likes.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t off)
{
	static ssize_t (*real)(int, const void *, size_t, off64_t);
	const char *hold = getenv("HOLD");

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "pwrite64");
	while (hold && access(hold, F_OK) == 0)
		usleep(2000);
	return real(fd, buf, len, off);
}
