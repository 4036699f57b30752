/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dying.h - whose process had a signal while its request waits, and whether that signal ends the process.
 *
 * The kernel's INTERRUPT says only that there was one. Disk I/O waits through signals that do not kill
 * (timers, SIGCHLD): EINTR would be an error that applications do not expect of a disk (invariant 12; NFS
 * calls it killable). And INTERRUPT comes once for a request: a SIGKILL that follows another signal
 * is not told. So who had one is looked at again until the request is answered.
 */
#ifndef CSVFS_DYING_H
#define CSVFS_DYING_H

#include <stdbool.h>
#include <stdint.h>

struct dying;

struct dying_config {
	bool (*waits)(void *ctx, uint64_t tag); /* is it still to be answered? */
	void (*cancel)(
		void *ctx, uint64_t tag); /* its process is dying; said again while it waits */
	void (*more)(void *ctx); /* dying_step() is wanted: dying_deadline() has changed */
	void *ctx;
};

/* NULL: no memory. */
struct dying *dying_create(const struct dying_config *cfg);
void dying_destroy(struct dying *d);

/*
 * The process of a request had a signal; `tid`: the thread that waits, 0: not to be seen from here, which
 * counts as dying. Calls cancel(), now or from a later dying_step(). From any thread, with no lock held that
 * waits() and cancel() take.
 */
void dying_signalled(struct dying *d, uint32_t tid, uint64_t tag);

/* Looks at them again, if it is time. */
void dying_step(struct dying *d, uint64_t now_ns);
uint64_t dying_deadline(struct dying *d);

/* The text of /proc/TID/status: a signal is pending that ends this thread. */
bool dying_status(const char *status);

#endif
