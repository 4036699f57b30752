/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inbox.h - the one way into the core's thread: a queue of events that any thread may fill.
 *
 * Events of one thread are taken in the order in which it posted them.
 */
#ifndef CSVFS_INBOX_H
#define CSVFS_INBOX_H

#include "csvfs/base/platform.h"

enum inbox_kind {
	INBOX_EVENT, /* for node_step() as it is; now_ns and wall_ns are set by the loop */
	INBOX_NET, /* the same, and then it goes back: tls_event_done() */
	INBOX_DATA_PATH, /* ev.path.state, text: of the data sessions together */
	INBOX_REGISTERED, /* ev.tag, ev.lun.status: of the data sessions together */
	INBOX_UNMOUNTED,
};

struct inbox_item {
	struct inbox_item *next;
	enum inbox_kind kind;
	struct event ev;
	uint8_t bytes[]; /* copy of what ev points to, if that does not live long enough */
};

struct inbox;

struct inbox *inbox_create(void);
void inbox_destroy(struct inbox *b); /* drops what is in it */

/* `bytes` (of an EV_CPG_MSG) are copied and ev->msg.bytes made to point to the copy; NULL: none. */
void inbox_post(struct inbox *b, enum inbox_kind kind, const struct event *ev, const void *bytes,
	uint32_t len);

/* The same by who looks after it himself that it is taken: inbox_fd() need not become readable. */
void inbox_post_quietly(struct inbox *b, enum inbox_kind kind, const struct event *ev);
bool inbox_is_empty(struct inbox *b);
/* Makes inbox_fd() readable until the next inbox_take(). */
void inbox_ring(struct inbox *b);

/* All that is there, oldest first, as a list by `next`; the caller frees each with free(). */
struct inbox_item *inbox_take(struct inbox *b);

/* Readable while something is there that was not posted quietly. */
int inbox_fd(const struct inbox *b);

#endif
