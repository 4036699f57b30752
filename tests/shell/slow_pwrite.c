/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * slow_pwrite.c - LD_PRELOAD for tgtd: its writes wait while the file named by $HOLD exists, after the
 * reservation check and before they land. So a test can have a write in flight for as long as it likes.
 *
 * If the file is not empty only those writes are caught whose data begins as it does. Each of them makes
 * $HOLD.held, and waits until that is gone; others that come when $HOLD is gone pass.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static void wait_while(const char *path)
{
	while (access(path, F_OK) == 0)
		usleep(2000);
}

static void maybe_hold(const char *hold, const void *buf, size_t len)
{
	char want[64], held[4096];
	int fd = open(hold, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return;
	n = read(fd, want, sizeof(want));
	close(fd);
	if (n <= 0) {
		wait_while(hold);
		return;
	}
	if ((size_t)n > len || memcmp(want, buf, (size_t)n))
		return;
	snprintf(held, sizeof(held), "%s.held", hold);
	close(open(held, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	wait_while(held);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t off)
{
	static ssize_t (*real)(int, const void *, size_t, off64_t);
	const char *hold = getenv("HOLD");

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "pwrite64");
	if (hold)
		maybe_hold(hold, buf, len);
	return real(fd, buf, len, off);
}
