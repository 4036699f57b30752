/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_lock.c - the coordinator's side of file locks: requests of all nodes, who waits, what is reclaimed.
 *
 * Rules
 *  1. Nothing is granted but in SERVE, when every member has said what it holds or is fenced: a new
 *     coordinator knows all locks that anybody may still rely on before it adds one.
 *  2. A request that has to wait waits in the table, in order of arrival; no thread waits for it. It goes with
 *     its session: the node asks again in the next one.
 *  3. Answers leave in the order of execution, so a node can tell what came first (node_held.c).
 *  4. The locks of a node that is gone, or was given up, end like its layouts: when it is fenced, nothing that is done
 *     here on its behalf is in flight, and its lease is over, or it has ended: it reads nothing under them any more.
 */
#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/node_int.h"

/* A LOCK that waits. */
struct lreq {
	struct list link;
	struct lock_wait w;
	uint32_t node;
	bool local;
	uint64_t wire_tag, seq;
	struct fs_reqid id;
};

void node_lock_init(struct node *n)
{
	list_init(&n->lreqs);
	/* A node stops by itself at LOCKS_NODE_MAX; what is under way comes on top. */
	lock_init(&n->locks, n->mem, LOCKS_MAX, 2 * LOCKS_NODE_MAX);
}

struct lock node_lock_of(uint32_t idx, uint64_t ino, const struct fs_lock *l)
{
	return (struct lock){
		.key = {.ino = ino, .owner = l->owner, .idx = idx, .flock = l->flags & FS_LK_FLOCK},
		.handle = l->handle,
		.start = l->start,
		.end = l->end,
		.pid = l->pid,
		.write = l->type == FS_LK_WRITE};
}

/* ------------------------------------------------------------------ answers */

struct asker {
	uint32_t node;
	bool local;
	uint64_t wire_tag;
	const struct fs_reqid *id;
	enum fs_op op;
};

static void answer(struct node *n, const struct asker *a, struct fs_reply *rp, struct effects *fx)
{
	struct session *to = a->local ? NULL : session_from(n->sessions, a->node);
	struct msg m = {.type = MSG_REPLY, .tag = a->wire_tag};

	if (a->local) {
		node_answer(n, a->wire_tag, a->id, rp, fx);
		return;
	}
	m.reply.op = a->op;
	m.reply.id = *a->id;
	m.reply.r = *rp;
	if (to)
		(void)session_send(to, &m, 0, 0, fx);
}

static void answer_err(struct node *n, const struct asker *a, int32_t err, struct effects *fx)
{
	struct fs_reply rp = {.err = err};

	answer(n, a, &rp, fx);
}

static void lreq_end(struct node *n, struct lreq *q, int32_t err, struct effects *fx)
{
	struct asker a = {q->node, q->local, q->wire_tag, &q->id, FS_LOCK};

	lock_leave(&n->locks, &q->w);
	list_del(&q->link);
	answer_err(n, &a, err, fx);
	mem_free(n->mem, q, sizeof(*q));
}

void node_lock_step(struct node *n, struct effects *fx)
{
	struct lock_wait *w;

	while (effects_room(fx, 80, 16384) && (w = lock_next_ended(&n->locks)))
		lreq_end(n, container_of(w, struct lreq, w), w->err, fx);
}

/* ------------------------------------------------------------------ requests */

static struct lreq *lreq_find(struct node *n, uint32_t node, uint64_t life, uint64_t seq)
{
	list_for_each_entry (q, &n->lreqs, struct lreq, link) {
		if (q->node == node && q->id.life == life && q->seq == seq)
			return q;
	}
	return NULL;
}

static int enqueue(struct node *n, const struct asker *a, const struct lock *want, uint64_t seq)
{
	struct lreq *q;
	int err;

	if (n->locks.waits >= LOCK_WAITS_MAX)
		return -ENOLCK;
	q = mem_alloc(n->mem, sizeof(*q));
	if (!q)
		return -ENOLCK;
	q->w.want = *want;
	q->node = a->node;
	q->local = a->local;
	q->wire_tag = a->wire_tag;
	q->id = *a->id;
	q->seq = seq;
	err = lock_enqueue(&n->locks, &q->w);
	if (err) {
		mem_free(n->mem, q, sizeof(*q));
		return err;
	}
	list_add_tail(&q->link, &n->lreqs);
	return 0;
}

static void serve_lock(struct node *n, const struct asker *a, const struct lock *want,
	const struct fs_request *rq, struct effects *fx)
{
	int err;

	if (rq->lock.type == FS_LK_NONE) {
		answer_err(n, a, -EINVAL, fx);
		return;
	}
	if (lreq_find(n, a->node, a->id->life, rq->lock.seq))
		return;
	err = lock_get(&n->locks, want);
	if (err == -EAGAIN && (rq->lock.flags & FS_LK_WAIT)) {
		err = enqueue(n, a, want, rq->lock.seq);
		if (!err)
			return;
	}
	answer_err(n, a, err, fx);
}

static void serve_unlock(struct node *n, const struct asker *a, const struct lock *want,
	const struct fs_request *rq, struct effects *fx)
{
	int err = 0;

	if (rq->lock.flags & FS_LK_HANDLE)
		lock_drop_handle(&n->locks, rq->ino, want->key.idx, want->handle);
	else
		err = lock_weaken(&n->locks, want, rq->lock.type == FS_LK_READ);
	/* The node does not rely on it any more, and waits. */
	if (err)
		node_server_ask_again(n, a->node, a->local, a->wire_tag, fx);
	else
		answer_err(n, a, 0, fx);
	node_lock_step(n, fx);
}

static void serve_getlk(
	struct node *n, const struct asker *a, const struct lock *want, struct effects *fx)
{
	const struct lock *l = lock_conflict(&n->locks, want);
	struct fs_reply rp = {0};

	if (l) {
		rp.lock.type = l->write ? FS_LK_WRITE : FS_LK_READ;
		rp.lock.start = l->start;
		rp.lock.end = l->end;
		/* Elsewhere that number is another process. */
		rp.lock.pid = l->key.idx == want->key.idx ? l->pid : 0;
	}
	answer(n, a, &rp, fx);
}

/*
 * Rule 6 of WIRE.md, section 6. What was granted to that owner there, and is not answered yet, is answered first. False: there is
 * no room for that now.
 */
static bool answer_granted(struct node *n, const struct lock *want, struct effects *fx)
{
	list_for_each_entry_safe (w, tmp, &n->locks.ended, struct lock_wait, ended) {
		const struct lock_key *k = &w->want.key;

		if (k->ino != want->key.ino || k->idx != want->key.idx || k->owner != want->key.owner || k->flock != want->key.flock)
			continue;
		if (!effects_room(fx, 80, 16384))
			return false;
		lreq_end(n, container_of(w, struct lreq, w), w->err, fx);
	}
	return true;
}

void node_lock_serve(struct node *n, uint32_t idx, bool local, uint64_t wire_tag,
	const struct fs_request *rq, struct effects *fx)
{
	struct asker a = {n->peers[idx].node, local, wire_tag, &rq->id, rq->op};
	struct lock want = node_lock_of(idx, rq->ino, &rq->lock);
	struct fs_reqid other = rq->id;
	struct lreq *q;

	if (!answer_granted(n, &want, fx)) {
		node_server_ask_again(n, a.node, local, wire_tag, fx);
		return;
	}
	switch (rq->op) {
	case FS_LOCK:
		serve_lock(n, &a, &want, rq, fx);
		return;
	case FS_UNLOCK:
		serve_unlock(n, &a, &want, rq, fx);
		return;
	case FS_GETLK:
		serve_getlk(n, &a, &want, fx);
		return;
	case FS_LOCK_CANCEL:
		other.slot = (uint32_t)rq->lock.owner;
		other.seq = rq->lock.handle;
		if (other.slot)
			node_server_take_back(n, &other, fx);
		q = lreq_find(n, a.node, rq->id.life, rq->lock.seq);
		if (q)
			lreq_end(n, q, list_empty(&q->w.link) ? q->w.err : -EINTR, fx);
		answer_err(n, &a, 0, fx);
		return;
	default:
		break;
	}
	csv_assert(!"a request about locks");
}

/* ------------------------------------------------------------------ nodes come and go */

/* Rule 2. */
void node_lock_forget_waiters(struct node *n, uint32_t node)
{
	list_for_each_entry_safe (q, tmp, &n->lreqs, struct lreq, link) {
		if (node && q->node != node)
			continue;
		lock_leave(&n->locks, &q->w);
		list_del(&q->link);
		mem_free(n->mem, q, sizeof(*q));
	}
}

void node_lock_close_down(struct node *n)
{
	node_lock_forget_waiters(n, 0);
	lock_reset(&n->locks);
}

void node_lock_drop(struct node *n, uint32_t idx)
{
	node_lock_forget_waiters(n, n->peers[idx].node);
	lock_stage_clear(&n->locks, idx);
	lock_drop_node(&n->locks, idx);
}

int node_lock_stage(struct node *n, uint32_t idx, const struct msg *m)
{
	int err = 0;

	for (uint32_t i = 0; i < m->reclaim_locks.count && !err; i++) {
		const struct msg_lock *l = &m->reclaim_locks.locks[i];
		struct lock have = node_lock_of(idx, l->ino, &l->lock);

		err = lock_stage(&n->locks, &have);
	}
	return err;
}

/* Our own. */
int node_lock_stage_held(struct node *n, uint32_t idx)
{
	int err = 0;

	lock_stage_clear(&n->locks, idx);
	for (const struct lock *l = lock_next(&n->held, NULL); l && !err; l = lock_next(&n->held, l)) {
		struct lock have = *l;

		have.key.idx = idx;
		err = lock_stage(&n->locks, &have);
	}
	return err;
}

bool node_lock_hold_only(struct node *n, uint32_t idx)
{
	/* One that is granted, and whose asker does not know it yet, would go with the others. */
	if (!list_empty(&n->locks.ended))
		return false;
	if (node_lock_stage_held(n, idx)) {
		lock_stage_clear(&n->locks, idx);
		return false;
	}
	(void)lock_stage_apply(&n->locks, idx); /* all of it was ours already */
	return true;
}

uint64_t node_lock_deadline(const struct node *n)
{
	return list_empty(&n->locks.changed) && list_empty(&n->locks.ended) ? NEVER : 0;
}

void node_lock_check(const struct node *n)
{
	uint32_t waiting = 0;

	lock_check(&n->locks);
	list_for_each_entry (q, &n->lreqs, struct lreq, link) {
		waiting += !list_empty(&q->w.link);
		/* Nobody waits in the name of a node that has gone. */
		csv_assert(n->peers[q->w.want.key.idx].node == q->node);
	}
	csv_assert(waiting == n->locks.waits);
}
