/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_ask.c - what this node asks its coordinator: each request of the kernel, and those that the node
 * makes for itself (opens, layouts, commits). A question is a creq; it ends with node_answer(),
 * once, whoever coordinates by then.
 */
#include <errno.h>
#include <string.h>

#include "csvfs/node_int.h"

void node_reply_err(struct node *n, uint64_t tag, int32_t err, struct effects *fx)
{
	struct fs_reply *rp = effects_alloc(fx, sizeof(*rp));

	memset(rp, 0, sizeof(*rp));
	rp->err = err;
	effects_add(fx, FX_REPLY, tag)->reply = rp;
}

static void creq_done(struct node *n, struct creq *q, struct fs_reply *rp, struct effects *fx);

void node_ask_as(
	struct node *n, const struct creq *as, const struct fs_request *rq, struct effects *fx)
{
	struct creq *q = mem_alloc(n->mem, sizeof(*q));
	uint64_t ino = rq->ino;
	int err = -ENOMEM;

	if (q) {
		*q = *as;
		q->id = ++n->creq_count;
		q->ino = rq->ino;
		q->off = rq->off;
		q->len = rq->len;
		q->op = rq->op;
		q->since_ns = n->now_ns;
		list_add_tail(&q->link, &n->creqs);
		rq = node_cache_asks(n, q, rq);
		err = rq ? client_submit(n->client, q->id, rq, n->now_ns) : -ENOMEM;
	}
	if (!err)
		return;
	if (as->kind == CQ_RETURN || as->kind == CQ_CLOSE) {
		/* Not over: the coordinator would wait for it, and fence us. */
		if (q)
			list_del(&q->link);
		mem_free(n->mem, q, sizeof(*q));
		node_file_unasked(n, ino, fx);
	} else if (q) {
		struct fs_reply rp = {.err = err};

		creq_done(n, q, &rp, fx);
	} else if (as->kind == CQ_COMMIT || as->kind == CQ_OPEN) {
		struct fs_reply rp = {.err = err};

		/* Nobody else says that it is over. */
		if (as->kind == CQ_COMMIT)
			node_file_commit_reply(n, rq->ino, &rp, fx);
		else
			node_file_open_reply(n, rq->ino, &rp, fx);
	} else if (as->kind == CQ_LOCK) {
		struct fs_reply rp = {.err = err};
		struct creq none = *as;

		node_held_answer(n, &none, &rp, fx);
	} else if (as->tag) {
		node_reply_err(n, as->tag, err, fx);
	}
}

/* It changes a file through an open one: what that is stays here (H4 of node_held.c). */
static bool through_handle(const struct fs_request *rq)
{
	return (rq->op == FS_SETATTR || rq->op == FS_FALLOCATE || rq->op == FS_APPEND) && rq->lock.handle;
}

void node_ask(struct node *n, enum creq_kind kind, uint64_t tag, const struct fs_request *rq,
	struct effects *fx)
{
	struct creq as = {.kind = kind, .tag = tag};

	if (through_handle(rq)) {
		if (node_held_is_lost(n, rq->lock.handle)) {
			node_reply_err(n, tag, -EIO, fx);
			return;
		}
		as.lock.handle = rq->lock.handle;
		if (rq != &n->scratch_rq)
			n->scratch_rq = *rq;
		n->scratch_rq.lock.handle = 0;
		rq = &n->scratch_rq;
	}
	node_ask_as(n, &as, rq, fx);
}

/* H4: who waits is told; the answer is heard as if somebody waited for it, and shown to nobody. */
void node_ask_lost(struct node *n, struct effects *fx)
{
	n->losing = false;
	list_for_each_entry (q, &n->creqs, struct creq, link) {
		if (q->kind != CQ_KERNEL || !node_held_is_lost(n, q->lock.handle))
			continue;
		client_void_change(n->client, q->id);
		if (!q->tag)
			continue;
		/* There may be a thousand of them. */
		if (!effects_room(fx, 4, 4096)) {
			n->losing = n->again = true;
			continue;
		}
		node_reply_err(n, q->tag, -EIO, fx);
		q->tag = 0;
	}
}

static struct creq *creq_find(struct node *n, uint64_t id)
{
	list_for_each_entry (q, &n->creqs, struct creq, link) {
		if (q->id == id)
			return q;
	}
	return NULL;
}

/* Copied: an effect outlives the frame that the reply came in. */
void node_reply_kernel(
	struct node *n, uint64_t tag, const struct fs_reply *rp, struct effects *fx)
{
	struct fs_reply *out;

	if (!tag)
		return; /* killed meanwhile */
	out = effects_alloc(fx, sizeof(*out));
	*out = *rp;
	if (rp->data_len) {
		out->data = effects_alloc(fx, rp->data_len);
		memcpy(out->data, rp->data, rp->data_len);
	}
	if (rp->extent_count) {
		uint32_t bytes = rp->extent_count * (uint32_t)sizeof(*rp->extents);

		out->extents = effects_alloc(fx, bytes);
		memcpy(out->extents, rp->extents, bytes);
	}
	effects_add(fx, FX_REPLY, tag)->reply = out;
}

static void creq_layout(struct node *n, struct creq *q, struct fs_reply *rp, struct effects *fx)
{
	struct fs_request rq = {.op = q->op, .ino = q->ino, .off = q->off, .len = q->len};
	uint32_t bytes = rp->extent_count * (uint32_t)sizeof(*rp->extents);

	if (bytes) {
		struct fs_extent *copy = effects_alloc(fx, bytes);

		memcpy(copy, rp->extents, bytes);
		rp->extents = copy;
	}
	rp->err = node_file_layout_reply(n, q->ino, &rq, rp, fx);
	node_reply_kernel(n, q->tag, rp, fx);
}

static void creq_done(struct node *n, struct creq *q, struct fs_reply *rp, struct effects *fx)
{
	list_del(&q->link);
	node_cache_learns(n, q, rp);
	switch (q->kind) {
	case CQ_CREATE:
		if (!rp->err && node_file_created(n, q, rp, fx))
			return;
		if (!rp->err && !q->tag)
			node_file_close_one(n, rp->attr.ino, fx);
		/* fall through */
	case CQ_KERNEL:
		if (q->op == FS_APPEND)
			node_append_answered(n, q, rp, fx);
		if (node_held_is_lost(n, q->lock.handle))
			rp->err = -EIO;
		if (!rp->err && rp->attr.ino)
			node_file_overlay(n, &rp->attr);
		node_reply_kernel(n, q->tag, rp, fx);
		break;
	case CQ_LAYOUT:
		creq_layout(n, q, rp, fx);
		break;
	case CQ_OPEN:
		node_file_open_reply(n, q->ino, rp, fx);
		break;
	case CQ_CLOSE:
		node_file_close_reply(n, q->ino, fx);
		break;
	case CQ_COMMIT:
		node_file_commit_reply(n, q->ino, rp, fx);
		break;
	case CQ_RETURN:
		node_file_return_reply(n, q->ino, fx);
		break;
	case CQ_LOCK:
		node_held_answer(n, q, rp, fx);
		break;
	}
	/* Who waits for another process's lock is not stalled. */
	if (q->kind != CQ_LOCK && n->now_ns - q->since_ns > n->stats.meta_stall_ns)
		n->stats.meta_stall_ns = n->now_ns - q->since_ns;
	n->stats.meta_ops++;
	mem_free(n->mem, q, sizeof(*q));
}

void node_answer(struct node *n, uint64_t wire_tag, const struct fs_reqid *id, struct fs_reply *rp,
	struct effects *fx)
{
	uint64_t tag;
	struct creq *q;

	if (!client_answered(n->client, wire_tag, id, n->now_ns, &tag))
		return;
	q = creq_find(n, tag);
	if (q)
		creq_done(n, q, rp, fx);
}

/* The number that the open file is to have is ours alone. */
static void ask_create(struct node *n, const struct event *ev, struct effects *fx)
{
	node_lost_opens(n, ev->rq);
	n->scratch_rq = *ev->rq;
	n->scratch_rq.lock.handle = 0;
	node_ask(n, CQ_CREATE, ev->tag, &n->scratch_rq, fx);
}

/* LAYOUT_GET and APPEND: the data path knows files by their number. */
static void ask_for_data_path(struct node *n, const struct event *ev, struct effects *fx)
{
	uint64_t ino = ev->rq->ino;
	bool append = ev->rq->op == FS_APPEND;

	/* Rule 6 of node_append.c. */
	if (append && node_append_is_untold(n, ino)) {
		node_reply_err(n, ev->tag, -ENOMEM, fx);
		return;
	}
	n->scratch_rq = *ev->rq;
	n->scratch_rq.generation = node_file_life(n, ino);
	if (!append && (ev->rq->flags & FS_LAYOUT_WRITE))
		node_times_writes(n, ino);
	node_ask(n, append ? CQ_KERNEL : CQ_LAYOUT, ev->tag, &n->scratch_rq, fx);
}

void node_kernel_request(struct node *n, const struct event *ev, struct effects *fx)
{
	switch (ev->rq->op) {
	case FS_OPEN:
		node_file_open(n, ev->tag, ev->rq, fx);
		return;
	case FS_CLOSE:
		node_held_closed(n, ev->rq, fx);
		node_file_close(n, ev->tag, ev->rq, fx);
		return;
	case FS_FSYNC:
		node_file_fsync(n, ev->tag, ev->rq, fx);
		return;
	case FS_LSEEK:
		node_file_in_turn(n, ev->tag, ev->rq, fx);
		return;
	case FS_LAYOUT_GET:
	case FS_APPEND:
		ask_for_data_path(n, ev, fx);
		return;
	case FS_CREATE:
		ask_create(n, ev, fx);
		return;
	case FS_LOCK:
	case FS_UNLOCK:
	case FS_GETLK:
		node_held_request(n, ev->tag, ev->rq, fx);
		return;
	case FS_LAYOUT_COMMIT:
	case FS_LAYOUT_RETURN:
	case FS_APPENDED:
	case FS_FREE_ORPHAN:
	case FS_LOCK_CANCEL:
	case FS_NONE:
		node_reply_err(n, ev->tag, -EINVAL, fx);
		return;
	case FS_LOOKUP:
	case FS_GETATTR:
		if (node_cache_answer(n, ev->tag, ev->rq, fx))
			return;
		node_ask(n, CQ_KERNEL, ev->tag, ev->rq, fx);
		return;
	case FS_SETATTR:
		if (!(ev->rq->valid & (FS_SET_ATIME | FS_SET_MTIME | FS_SET_SIZE)))
			break;
		node_file_in_turn(n, ev->tag, ev->rq, fx);
		return;
	case FS_READLINK:
	case FS_READDIR:
	case FS_STATFS:
	case FS_GETXATTR:
	case FS_LISTXATTR:
	case FS_MKNOD:
	case FS_MKDIR:
	case FS_SYMLINK:
	case FS_LINK:
	case FS_UNLINK:
	case FS_RMDIR:
	case FS_RENAME:
	case FS_SETXATTR:
	case FS_REMOVEXATTR:
	case FS_FALLOCATE:
		break;
	}
	node_ask(n, CQ_KERNEL, ev->tag, ev->rq, fx);
}

/*
 * Names and attributes are cached in the kernel of a standalone mount. What was told to have been interrupted, and is carried
 * out all the same, would leave it with what was there before: a name that is listed and cannot be found. So a
 * change that is under way is waited for, as with every local file system; but not when it has to wait for the LUN.
 */
static bool lands_at_once(const struct node *n, const struct creq *q)
{
	return n->cfg.standalone && fs_op_needs_slot(q->op) && q->op != FS_FALLOCATE &&
	       client_served(n->client);
}

/*
 * H5: who asked is told that nobody knows whether it was done. It goes on, since what it did must be heard of (a CREATE is closed);
 * but asked again it does nothing, nor where it waits. q may be gone then.
 */
static void give_up(struct node *n, struct creq *q, int32_t err, struct effects *fx)
{
	client_void_change(n->client, q->id);
	if (q->tag)
		node_reply_err(n, q->tag, err, fx);
	q->tag = 0;
	node_held_given_up(n, q, fx);
}

/*
 * Nobody coordinates, or not any more: who is dying is told now, and a LOCK that was out is not. So is who closes: a process that ends
 * waits there deaf to all signals, and what it asks for happens without it.
 */
void node_ask_step(struct node *n, struct effects *fx)
{
	if (n->losing)
		node_ask_lost(n, fx);
	node_held_cancel_again(n, fx);
	node_held_say_again(n);
	node_append_tell_again(n, fx);
	if (!n->dying || client_served(n->client))
		return;
	n->dying = false;
	list_for_each_entry_safe (q, tmp, &n->creqs, struct creq, link) {
		if (q->kind > CQ_CREATE && q->kind != CQ_LOCK)
			continue;
		if ((!q->cancelled && !q->closes) || !q->tag)
			continue;
		if (!effects_room(fx, 4, 4096)) {
			n->dying = n->again = true;
			return;
		}
		if (q->kind == CQ_LOCK) {
			node_held_cancel(n, q, fx);
			continue;
		}
		give_up(n, q, -EINTR, fx);
	}
}

/* The process that waits is dying. What was sent may have been executed, and is given up (H5). */
void node_kernel_cancel(struct node *n, uint64_t tag, struct effects *fx)
{
	bool unsent;

	list_for_each_entry (q, &n->creqs, struct creq, link) {
		if (q->kind == CQ_LOCK && q->tag == tag) {
			node_held_cancel(n, q, fx);
			return;
		}
		if (q->kind > CQ_CREATE || q->tag != tag)
			continue;
		unsent = client_cancel(n->client, q->id);
		if (!unsent && lands_at_once(n, q)) {
			q->cancelled = n->dying = true;
			return;
		}
		give_up(n, q, -EINTR, fx);
		if (unsent) {
			struct fs_reply never = {.err = -EINTR};

			list_del(&q->link);
			node_cache_unasked(n, q);
			if (q->kind == CQ_LAYOUT)
				node_file_layout_reply(n, q->ino, NULL, &never, fx);
			mem_free(n->mem, q, sizeof(*q));
		}
		return;
	}
	if (!node_file_cancel(n, tag, fx))
		node_data_cancel(n, tag, fx);
}

void node_expire_held(struct node *n, struct effects *fx)
{
	uint64_t id, before;
	bool lands, sent;

	if (!n->cfg.hold_ns || n->now_ns < n->cfg.hold_ns)
		return;
	before = n->now_ns - n->cfg.hold_ns;
	node_held_expire(n, before, fx);
	node_file_expire(n, before, fx);
	while (effects_room(fx, 4, 4096) && client_next_expired(n->client, before, &id, &sent)) {
		struct creq *q = creq_find(n, id);
		struct fs_reply rp = {.err = -EIO};

		if (!q)
			continue;
		if (!sent) {
			node_cache_unasked(n, q);
			creq_done(n, q, &rp, fx);
			continue;
		}
		/* As when it is killed: what it opens is closed, what it appends is told to be over. */
		give_up(n, q, -EIO, fx);
	}
	while (effects_room(fx, 4, 4096) && client_block_next_expired(n->client, before, &id, &lands))
		node_data_expired(n, id, lands, fx);
}
