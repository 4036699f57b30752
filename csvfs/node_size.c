/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_size.c - the coordinator's side of a request that sets the size of a file (rule 3 of node_server.c): it looks where
 * the file ends, zeroes the rest of that cluster on the LUN, and only then does the engine do it.
 *
 *   LOOK at the new end --[the file ends before]--> LOOK at its end --> [ZERO_READ ->] ZERO_WRITE --> ENGINE
 *
 * Nobody has a layout of the file meanwhile. What the LUN refuses for now is sent again after a pause, for some seconds; then it is
 * the path's matter, as on the data path (rule 7 of dp.h).
 */
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/node_int.h"

#define RETRY_NS (20 * NS_PER_MS)
#define RETRIES_MAX 250
#define FAILING_NS (5 * NS_PER_SEC)

bool node_size_set_by(const struct fs_request *rq)
{
	return (rq->op == FS_SETATTR && (rq->valid & FS_SET_SIZE)) ||
	       (rq->op == FS_FALLOCATE && !(rq->flags & FALLOC_FL_KEEP_SIZE));
}

static void look_at(struct node *n, struct sreq *s, uint64_t off)
{
	struct fs_request *rq = &s->vr.rq;

	s->stage = SREQ_LOOK;
	s->zero_from = off;
	rq->op = FS_LAYOUT_GET;
	/* Behind the largest size there is nothing to be looked at. How large the file is, is said all the same. */
	rq->off = (off < FILE_BYTES_MAX ? off : FILE_BYTES_MAX - BLOCK_SIZE) & ~(uint64_t)(BLOCK_SIZE - 1);
	rq->len = BLOCK_SIZE;
	rq->flags = 0;
	rq->id.slot = 0;
	vol_submit(n->vol, &s->vr);
}

void node_size_look(struct node *n, struct sreq *s)
{
	const struct fs_request *rq = &s->vr.rq;

	/* Invariant 11: it is asked again. What was written behind its end since is not to be zeroed. */
	if (vol_replied(n->vol, &s->id)) {
		node_server_engine(n, s);
		return;
	}
	s->asked.op = rq->op;
	s->asked.off = rq->off;
	s->asked.len = rq->len;
	s->asked.flags = rq->flags;
	s->new_size = rq->op == FS_SETATTR ? rq->attr.size : rq->off + rq->len;
	look_at(n, s, s->new_size);
}

static void as_asked(struct sreq *s)
{
	struct fs_request *rq = &s->vr.rq;

	rq->op = s->asked.op;
	rq->off = s->asked.off;
	rq->len = s->asked.len;
	rq->flags = s->asked.flags;
	rq->id = s->id;
	s->vr.reply.extent_count = 0;
}

static void set_size(struct node *n, struct sreq *s)
{
	as_asked(s);
	node_server_engine(n, s);
}

static void refused(struct node *n, struct sreq *s, int32_t err, struct effects *fx)
{
	struct lease_ino *li = lease_find(&n->leases, s->vr.rq.ino);

	li->exclusive = false;
	n->leases_changed = true;
	as_asked(s);
	node_server_finish(n, s, err, fx);
}

static void zero_write(struct node *n, struct sreq *s, struct effects *fx)
{
	struct effect *e;

	s->stage = SREQ_ZERO_WRITE;
	s->zero_sent_ns = n->now_ns;
	s->lun_tag = node_lun(n, TAG_SERVE, LUN_WRITE, fx, &e);
	e->lun.off = s->zero_off;
	e->lun.len = s->zero_len;
	e->lun.buf = s->zero_buf;
}

static void zero_read(struct node *n, struct sreq *s, struct effects *fx)
{
	struct effect *e;

	s->stage = SREQ_ZERO_READ;
	s->zero_sent_ns = n->now_ns;
	s->lun_tag = node_lun(n, TAG_SERVE, LUN_READ, fx, &e);
	e->lun.off = s->zero_off;
	e->lun.len = BLOCK_SIZE;
	e->lun.buf = s->zero_buf;
}

/* What lies at zero_from is known: [zero_from, end of its cluster) must read as zero. fallocate(2) makes no file shorter. */
bool node_size_looked(struct node *n, struct sreq *s, struct effects *fx)
{
	const struct fs_reply *rp = &s->vr.reply;
	const struct fs_extent *e = rp->extents;
	uint64_t block = s->zero_from & ~(uint64_t)(BLOCK_SIZE - 1), end;
	uint32_t cluster = le32_get(vol_super(n->vol)->cluster_bytes);

	/* Nothing was zeroed: no size may be set, but 0. */
	if (rp->err && s->new_size) {
		as_asked(s);
		return false;
	}
	if (s->new_size > rp->attr.size && s->zero_from != rp->attr.size) {
		look_at(n, s, rp->attr.size);
		return true;
	}
	if ((s->asked.op == FS_FALLOCATE && s->new_size <= rp->attr.size) ||
		!(s->zero_from & (cluster - 1)) || !rp->extent_count || e->state != EXT_WRITTEN ||
		e->off > block || e->off + e->len <= block) {
		set_size(n, s);
		return true;
	}
	end = (s->zero_from + cluster - 1) & ~(uint64_t)(cluster - 1);
	s->zero_off = e->lun_off + (block - e->off);
	s->zero_len = end - block;
	s->zero_since_ns = n->now_ns;
	s->zero_failing_ns = 0;
	mem_free(n->mem, s->zero_buf, CLUSTER_MAX); /* it has one if it has waited for space since */
	s->zero_buf = mem_alloc(n->mem, CLUSTER_MAX);
	if (!s->zero_buf)
		refused(n, s, -ENOMEM, fx);
	else if (s->zero_from == block)
		zero_write(n, s, fx);
	else
		zero_read(n, s, fx);
	return true;
}

static bool again_later(struct node *n, struct sreq *s)
{
	if (s->zero_retries++ >= RETRIES_MAX)
		return false;
	s->zero_retry_ns = n->now_ns + RETRY_NS;
	return true;
}

/* Without a path the coordination ends, and this with it. */
void node_size_step(struct node *n, struct effects *fx)
{
	if (n->path.st != PST_UP)
		return;
	list_for_each_entry (s, &n->sreqs, struct sreq, link) {
		if (!s->zero_retry_ns || n->now_ns < s->zero_retry_ns || !effects_room(fx, 4, 4096))
			continue;
		s->zero_retry_ns = 0;
		if (s->stage == SREQ_ZERO_READ)
			zero_read(n, s, fx);
		else
			zero_write(n, s, fx);
	}
}

uint64_t node_size_deadline(const struct node *n)
{
	uint64_t d = NEVER;

	if (n->path.st != PST_UP)
		return d;
	list_for_each_entry (s, &n->sreqs, struct sreq, link)
		if (s->zero_retry_ns && s->zero_retry_ns < d)
			d = s->zero_retry_ns;
	return d;
}

static void zeroing_done(struct node *n, struct sreq *s, enum lun_status status, struct effects *fx)
{
	uint32_t within = (uint32_t)(s->zero_from & (BLOCK_SIZE - 1));

	if (status != LUN_FAILING)
		s->zero_failing_ns = 0;
	switch (status) {
	case LUN_OK:
		if (s->stage == SREQ_ZERO_WRITE) {
			set_size(n, s);
			return;
		}
		memset(s->zero_buf + within, 0, BLOCK_SIZE - within);
		s->zero_since_ns = n->now_ns;
		zero_write(n, s, fx);
		return;
	case LUN_RETRY:
		if (again_later(n, s))
			return;
		break;
	case LUN_FAILING:
		if (!s->zero_failing_ns)
			s->zero_failing_ns = s->zero_sent_ns;
		/* What was refused for most of the time says nothing of the place. */
		if (n->now_ns >= s->zero_since_ns + FAILING_NS && n->now_ns < s->zero_failing_ns + FAILING_NS / 2)
			break;
		if (n->now_ns < s->zero_since_ns + FAILING_NS)
			s->zero_retry_ns = n->now_ns + RETRY_NS;
		else
			refused(n, s, -EIO, fx);
		return;
	case LUN_MEDIUM:
	case LUN_UNSUPPORTED:
		refused(n, s, -EIO, fx);
		return;
	case LUN_NOSPACE:
		refused(n, s, -ENOSPC, fx);
		return;
	case LUN_PROTECTED:
		refused(n, s, s->stage == SREQ_ZERO_WRITE ? -EROFS : -EIO, fx);
		return;
	case LUN_CONFLICT:
	case LUN_UNKNOWN:
		break;
	}
	/* The path is on its way out; the request is asked again elsewhere. */
	io_path_lose(&n->path, "a write of the coordinator failed", n->now_ns, fx);
}

bool node_size_lun_done(struct node *n, const struct event *ev, struct effects *fx)
{
	list_for_each_entry (s, &n->sreqs, struct sreq, link) {
		if (!s->lun_tag || s->lun_tag != ev->tag)
			continue;
		s->lun_tag = 0;
		if (s->drop)
			node_server_finish(n, s, 0, fx);
		else
			zeroing_done(n, s, ev->lun.status, fx);
		return true;
	}
	return false;
}
