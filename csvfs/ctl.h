/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ctl.h - the socket at which csvctl asks: one request a connection, a line; the answer is text.
 *
 *	state | move NODE | pause | resume | redirect on | redirect off | grow [BYTES] [dry] |
 *	scrub start | scrub stop | scrub status
 *
 *	-> "ok\n" or "error ERRNO\n", and then the text (of state: JSON) up to the end of the
 *	connection
 *
 * All in the core's thread. At most CTL_CLIENTS at once, each for CTL_SECONDS; who is slower is
 * dropped.
 */
#ifndef CSVFS_CTL_H
#define CSVFS_CTL_H

#include <stddef.h>

#include "csvfs/base/platform.h"

#define CTL_FOLDER "/run/csvfs"
#define CTL_CLIENTS 16
#define CTL_LINE_MAX 256
#define CTL_SECONDS 60

struct ctl;

/*
 * Makes the socket (mode 0600, and the folder it is in), and a link to it in CTL_FOLDER. 0, or -errno and a line of text:
 * -EADDRINUSE, a daemon answers there.
 */
int ctl_open(const char *path,
	void (*on_request)(void *ctx, uint64_t tag, const struct ctl_request *rq), void *ctx,
	struct ctl **out, char *text, size_t text_bytes);
void ctl_close(struct ctl *c); /* sends what can be sent at once; removes the socket */

/* Readable when ctl_service() has something to do. */
int ctl_fd(const struct ctl *c);
void ctl_service(struct ctl *c);

/* The answer to the request with that tag; ignored if the client is gone. */
void ctl_reply(struct ctl *c, uint64_t tag, int32_t err, const char *text, size_t len);

#endif
