/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_due.c - answers to who waited for a file: until it is open, or for a commit.
 *
 * There may be more of them than effects in a step: thousands of processes open one file, or write to it with O_DSYNC. What each is told
 * is settled when the open, or the commit, ends. So who does not fit into that step waits for the next one here and not at the file: that
 * may be closed, lost or opened anew meanwhile, which changes nothing about the answer.
 */
#include <errno.h>

#include "csvfs/node_int.h"

static bool room(const struct effects *fx)
{
	return effects_room(fx, 4, 4096);
}

void node_due_init(struct node *n)
{
	list_init(&n->due_opens);
	list_init(&n->due_waits);
}

bool node_due(const struct node *n)
{
	return !list_empty(&n->due_opens) || !list_empty(&n->due_waits);
}

/* ------------------------------------------------------------------ an open */

static void open_tell(struct node *n, struct creq *q, const struct fs_reply *created, struct effects *fx)
{
	if (created)
		node_reply_kernel(n, q->tag, created, fx);
	else
		node_reply_err(n, q->tag, q->err, fx);
	mem_free(n->mem, q->created, sizeof(*q->created));
	mem_free(n->mem, q, sizeof(*q));
}

static struct fs_reply *keep(struct node *n, const struct fs_reply *rp)
{
	struct fs_reply *kept = mem_alloc(n->mem, sizeof(*kept));

	if (!kept)
		return NULL;
	*kept = *rp;
	/* Its frame's; an OPEN has none. */
	kept->data_len = kept->extent_count = 0;
	kept->data = NULL;
	kept->extents = NULL;
	return kept;
}

int32_t node_due_open(struct node *n, struct creq *q, int32_t err, const struct fs_reply *rp, struct effects *fx)
{
	const struct fs_reply *created = q->kind == CQ_CREATE && !err ? rp : NULL;

	q->err = err;
	if (room(fx)) {
		open_tell(n, q, created, fx);
		return err;
	}
	if (created) {
		q->created = keep(n, created);
		q->err = q->created ? 0 : -ENOMEM;
	}
	list_add_tail(&q->link, &n->due_opens);
	return q->err;
}

/* ------------------------------------------------------------------ a commit */

void node_due_tell(struct node *n, struct fwait *w, int32_t err, struct effects *fx)
{
	if (w->tag && w->lost && err == w->err)
		node_lost_told(n, w);
	if (w->tag && w->kind == FWAIT_REQUEST && !err)
		node_ask(n, CQ_KERNEL, w->tag, w->rq, fx);
	else if (w->tag && w->kind == FWAIT_TIMES)
		node_times_told(n, w->tag, fx);
	else if (w->tag && w->kind != FWAIT_WRITE)
		node_reply_err(n, w->tag, err, fx);
	else if (w->tag)
		effects_add(fx, FX_BLOCK_DONE, w->tag)->block.err = err;
	w->tag = 0;
}

static void wait_tell(struct node *n, struct fwait *w, struct effects *fx)
{
	node_due_tell(n, w, w->err, fx);
	mem_free(n->mem, w->rq, sizeof(*w->rq));
	mem_free(n->mem, w, sizeof(*w));
}

void node_due_wait(struct node *n, struct fwait *w, struct effects *fx)
{
	if (!w->tag || room(fx))
		wait_tell(n, w, fx);
	else
		list_add_tail(&w->link, &n->due_waits);
}

/* ------------------------------------------------------------------ the next step */

void node_due_step(struct node *n, struct effects *fx)
{
	while (!list_empty(&n->due_opens) && room(fx)) {
		struct creq *q = list_first_entry(&n->due_opens, struct creq, link);

		list_del(&q->link);
		open_tell(n, q, q->created, fx);
	}
	while (!list_empty(&n->due_waits) && room(fx)) {
		struct fwait *w = list_first_entry(&n->due_waits, struct fwait, link);

		list_del(&w->link);
		wait_tell(n, w, fx);
	}
}
