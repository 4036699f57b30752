/* SPDX-License-Identifier: GPL-2.0-or-later */
/* shell.c - what fuse_ops.c and fuse_lock.c do around a request: what only the data path knows is told or shown in time. */
#include "tests/sim/sim.h"

/* The core hears of what was written in place, before it is asked to make the file's times durable. */
static void settle(struct sim *s, struct snode *n, uint64_t ino)
{
	struct event ev = {0};

	if (dp_take_touched(n->dp, ino, &ev))
		node_feed(s, n, &ev);
}

void shell_asks(struct sim *s, struct snode *n, const struct fs_request *rq)
{
	switch (rq->op) {
	case FS_SETATTR:
		settle(s, n, rq->ino);
		dp_times_set(n->dp, rq->ino);
		return;
	case FS_FSYNC:
		if (!(rq->flags & 1)) /* fdatasync(2) */
			settle(s, n, rq->ino);
		return;
	case FS_CLOSE:
		if (rq->lock.handle)
			dp_handle_closed(n->dp, rq->lock.handle);
		settle(s, n, rq->ino);
		return;
	default:
		return;
	}
}

/* As stat_of(). */
void shell_shows(struct snode *n, struct fs_attr *attr)
{
	int64_t touched_ns = dp_touched_ns(n->dp, attr->ino), read_ns = dp_read_ns(n->dp, attr->ino);

	if (touched_ns)
		fs_attr_written(attr, touched_ns);
	if (read_ns && fs_atime_due(attr, read_ns))
		attr->atime_ns = read_ns;
}
