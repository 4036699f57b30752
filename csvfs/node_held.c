/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_held.c - file locks of this node: what its processes ask for, and what it may say that it holds.
 *
 *   a kernel's LOCK      ->  [UNLOCK: flock changes its kind]  ->  LOCK (makes stronger)
 *                                                               ->  [UNLOCK to READ]  ->  answer
 *   NONE, FLUSH, RELEASE ->  UNLOCK  ->  answer
 *
 * The rule that makes all of it safe to be done twice (coordinator/PROTOCOL.md, "Locks"):
 *
 *  H1 What we hold here (n->held, which is what we reclaim) is never more than what the coordinator has of us:
 *     a LOCK counts from its answer on, an UNLOCK from before it is sent. Nor less for long: without memory to ask for an UNLOCK we say
 *     anew what we hold.
 *  H2 Answers come in the order of execution. So what is still to be unlocked when a LOCK's answer comes was
 *     not executed before it, and is taken off at once.
 *  H3 A request that fails takes nothing away: the limit is looked at before it is sent. What is granted may be more
 *     for a moment than what is left: a read lock over many write locks, before all is made one.
 *  H4 Through an open file whose locks were lost nothing is changed any more: who has them now may use what it is a lock for. The data
 *     path sees to reads and writes (rule 10 of dp.h); what changes the size (the place of an append does), or takes space away, is
 *     refused here, and what of it was under way does nothing if it has not been executed.
 *  H5 What a process asked that was told EINTR or EIO since (it was killed, hold= was over) does nothing either when it is asked again:
 *     its locks go as it ends, and with them what H4 knows the open file by; another node may have the file by then.
 *     Nor when it is out, and still waits where it is served, in the engine, too: the UNLOCK that comes behind it would not wait. That is told
 *     before any UNLOCK can be. What does not wait there any more nobody overtakes: until a change of the data is done, nobody has a layout.
 */
#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/node_int.h"

/* Kept free for LOCKs that are under way. */
#define ROOM 256
/* There was no memory to ask the coordinator. */
#define ASK_AGAIN_NS (100 * NS_PER_MS)

void node_held_init(struct node *n)
{
	/* H3: what was granted is never refused here; begin_lock() and begin_unlock() know the limit. */
	lock_init(&n->held, n->mem, UINT32_MAX, UINT32_MAX);
	n->cancel_at_ns = n->unsaid_at_ns = NEVER;
	for (uint32_t i = 0; i < LOST_BUCKETS; i++)
		list_init(&n->lost_handles[i]);
}

static struct lock lock_of(const struct creq *q)
{
	return node_lock_of(0, q->ino, &q->lock);
}

/* ------------------------------------------------------------------ to the coordinator */

static void ask(struct node *n, const struct creq *q, enum lock_stage stage, struct effects *fx)
{
	struct fs_request *rq = &n->scratch_rq;

	memset(rq, 0, sizeof(*rq));
	rq->op = stage == LKS_TEST ? FS_GETLK : stage == LKS_GET ? FS_LOCK : FS_UNLOCK;
	rq->ino = q->ino;
	rq->time_ns = 0;
	rq->lock = q->lock;
	if (stage == LKS_DROP)
		rq->lock.type = FS_LK_NONE;
	node_ask_as(n,
		&(struct creq){.kind = CQ_LOCK, .tag = q->tag, .lock = q->lock, .stage = stage, .closes = q->closes, .cancelled = q->cancelled},
		rq, fx);
}

static bool unlocks(enum lock_stage stage)
{
	return stage == LKS_DROP || stage == LKS_WEAKEN;
}

/* What an UNLOCK that is under way takes from us. */
static int take_off(struct node *n, const struct creq *q)
{
	struct lock l = lock_of(q);

	if (q->lock.flags & FS_LK_HANDLE) {
		lock_drop_handle(&n->held, q->ino, 0, q->lock.handle);
		return 0;
	}
	return lock_weaken(&n->held, &l, q->stage == LKS_WEAKEN && q->lock.type == FS_LK_READ);
}

/* H1: we rely on it no longer, then we say so. */
static int unlock(struct node *n, struct creq *q, enum lock_stage stage, struct effects *fx)
{
	int err;

	q->stage = stage;
	err = take_off(n, q);
	if (!err)
		ask(n, q, stage, fx);
	return err;
}

/*
 * H1. There was no memory to ask for an UNLOCK, and nobody will ask for it again: here it is not held any more. Each session begins with
 * all that we hold, and nothing else is left of us there; our own table is told the same later.
 */
static void unsaid(struct node *n, struct effects *fx)
{
	if (n->coord)
		session_drop(n->coord, "no memory to say what is unlocked: starts over", fx);
	else
		n->unsaid_at_ns = n->now_ns + ASK_AGAIN_NS;
}

void node_held_say_again(struct node *n)
{
	const struct peer *self = node_peer(n, n->cfg.node);

	if (n->now_ns < n->unsaid_at_ns)
		return;
	n->unsaid_at_ns = NEVER;
	/* Not known to us as a coordinator: whoever is one, or will be, asks what we hold. */
	if (!self || !self->reclaimed)
		return;
	if (!node_lock_hold_only(n, (uint32_t)(self - n->peers)))
		n->unsaid_at_ns = n->now_ns + ASK_AGAIN_NS;
}

/* ------------------------------------------------------------------ a process asks */

static void begin_lock(struct node *n, struct creq *q, struct effects *fx)
{
	struct lock l = lock_of(q);
	int err = 0;

	if (n->held.count + ROOM > LOCKS_NODE_MAX) {
		err = -ENOLCK;
	} else if (q->lock.type == FS_LK_WRITE && l.key.flock && lock_has(&n->held, &l, false)) {
		/* As flock(2) says: the old lock goes first. Who keeps it would wait for who does the same. */
		err = unlock(n, q, LKS_DROP, fx);
	} else {
		ask(n, q, LKS_GET, fx);
	}
	if (err)
		node_reply_err(n, q->tag, err, fx);
}

static void begin_unlock(struct node *n, struct creq *q, struct effects *fx)
{
	struct lock l = lock_of(q);
	int err = 0;

	q->lock.type = FS_LK_NONE;
	q->lock.flags &= FS_LK_FLOCK;
	if (n->held.count >= LOCKS_NODE_MAX && lock_splits(&n->held, &l)) {
		err = -ENOLCK;
	} else if (lock_has(&n->held, &l, false) || lock_has(&n->held, &l, true)) {
		err = unlock(n, q, LKS_WEAKEN, fx);
		n->dying = n->dying || q->closes;
		if (!err)
			return;
	}
	node_reply_err(n, q->tag, err, fx);
}

void node_held_request(
	struct node *n, uint64_t tag, const struct fs_request *rq, struct effects *fx)
{
	struct creq q = {.kind = CQ_LOCK, .tag = tag, .ino = rq->ino, .lock = rq->lock};

	q.lock.seq = ++n->lock_seq;
	q.closes = rq->op == FS_UNLOCK;
	if (rq->op == FS_GETLK)
		ask(n, &q, LKS_TEST, fx);
	else if (rq->op == FS_UNLOCK || rq->lock.type == FS_LK_NONE)
		begin_unlock(n, &q, fx);
	else
		begin_lock(n, &q, fx);
}

struct lost_handle {
	struct list link;
	uint64_t handle;
};

bool node_held_is_lost(const struct node *n, uint64_t handle)
{
	if (!handle || (!n->lost_count && !n->lost_upto))
		return false; /* nearly always */
	list_for_each_entry (h, &n->lost_handles[handle % LOST_BUCKETS], struct lost_handle, link) {
		if (h->handle == handle)
			return true;
	}
	return handle <= n->lost_upto;
}

static void remember_lost(struct node *n, uint64_t handle)
{
	struct lost_handle *h;

	if (node_held_is_lost(n, handle))
		return;
	h = mem_alloc(n->mem, sizeof(*h));
	if (!h) {
		/* Rather too many than one too few. */
		if (handle > n->lost_upto)
			n->lost_upto = handle;
		return;
	}
	h->handle = handle;
	list_add_tail(&h->link, &n->lost_handles[handle % LOST_BUCKETS]);
	n->lost_count++;
}

static void forget_lost(struct node *n, uint64_t handle)
{
	if (!n->lost_count)
		return;
	list_for_each_entry_safe (h, tmp, &n->lost_handles[handle % LOST_BUCKETS], struct lost_handle, link) {
		if (h->handle != handle)
			continue;
		list_del(&h->link);
		n->lost_count--;
		mem_free(n->mem, h, sizeof(*h));
	}
}

void node_held_closed(struct node *n, const struct fs_request *rq, struct effects *fx)
{
	struct creq q = {.kind = CQ_LOCK, .ino = rq->ino};
	bool any = false;

	forget_lost(n, rq->lock.handle);
	if (!rq->lock.handle || !n->held.count)
		return; /* nearly always */
	for (const struct lock *l = lock_next(&n->held, NULL); l && !any;
		l = lock_next(&n->held, l))
		any = l->key.ino == rq->ino && l->handle == rq->lock.handle;
	if (!any)
		return;
	q.lock.handle = rq->lock.handle;
	q.lock.flags = FS_LK_HANDLE;
	q.lock.end = FS_LK_END;
	(void)unlock(n, &q, LKS_WEAKEN, fx);
}

/* ------------------------------------------------------------------ the coordinator answers */

/* H3: no memory to remember what was granted. Just that, and not what was held before, goes back. */
static void give_back(struct node *n, const struct creq *q, struct effects *fx)
{
	struct creq back = {.ino = q->ino, .lock = q->lock};
	struct lock want = lock_of(q), part = want;
	bool to_read;

	while (lock_lacks(&n->held, &want, &part, &to_read)) {
		back.lock.start = part.start;
		back.lock.end = part.end;
		back.lock.type = to_read ? FS_LK_READ : FS_LK_NONE;
		if (unlock(n, &back, LKS_WEAKEN, fx))
			unsaid(n, fx);
		part.start = part.end + 1;
	}
}

/* H1: what is granted counts only if there is memory to take off it what is to be unlocked (H2). */
static int count_in(struct node *n, const struct creq *q)
{
	const uint32_t kind = q->lock.flags & FS_LK_FLOCK;
	struct lock l = lock_of(q);
	uint32_t cuts = 0;
	struct list spare;
	int err;

	list_for_each_entry (o, &n->creqs, struct creq, link) {
		if (o->kind == CQ_LOCK && unlocks(o->stage) && !(o->lock.flags & FS_LK_HANDLE) && o->ino == q->ino &&
			o->lock.owner == q->lock.owner && (o->lock.flags & FS_LK_FLOCK) == kind)
			cuts += 2;
	}
	list_init(&spare);
	err = lock_reserve(&n->held, &spare, cuts);
	if (!err)
		err = lock_get(&n->held, &l);
	lock_unreserve(&n->held, &spare);
	csv_assert(err != -EAGAIN); /* H1 */
	return err;
}

static void got(struct node *n, struct creq *q, struct effects *fx)
{
	struct lock l = lock_of(q);
	int err = count_in(n, q), off;

	if (err) {
		give_back(n, q, fx);
		node_reply_err(n, q->tag, -ENOLCK, fx);
		return;
	}
	/* H2. */
	list_for_each_entry (o, &n->creqs, struct creq, link) {
		if (o->kind != CQ_LOCK || !unlocks(o->stage))
			continue;
		off = take_off(n, o);
		csv_assert(!off); /* count_in() */
	}
	if (q->lock.type == FS_LK_READ && lock_has(&n->held, &l, true)) {
		err = unlock(n, q, LKS_WEAKEN, fx);
		/* INTERRUPT came, and comes once. */
		n->dying = n->dying || q->cancelled;
		if (!err)
			return;
	}
	node_reply_err(n, q->tag, err, fx);
}

/* INTERRUPT comes once: nobody else asks for it again. */
static void cancel_later(struct node *n, uint64_t seq)
{
	list_for_each_entry (q, &n->creqs, struct creq, link) {
		if (q->kind != CQ_LOCK || q->stage != LKS_GET || q->lock.seq != seq)
			continue;
		q->uncancelled = true;
		n->cancel_at_ns = n->now_ns + ASK_AGAIN_NS;
	}
}

/* H3. It was granted, and less is held here already: what its process asked for. */
static bool is_held(const struct creq *q)
{
	return q->stage == LKS_WEAKEN && q->lock.type == FS_LK_READ;
}

void node_held_answer(struct node *n, struct creq *q, const struct fs_reply *rp, struct effects *fx)
{
	struct fs_reply *out;

	if (unlocks(q->stage) && rp->err == -ENOMEM)
		unsaid(n, fx);
	switch (q->stage) {
	case LKS_DROP:
		if (!q->tag)
			return;
		if (rp->err)
			node_reply_err(n, q->tag, rp->err, fx);
		else
			ask(n, q, LKS_GET, fx);
		return;
	case LKS_GET:
		if (rp->err)
			node_reply_err(n, q->tag, rp->err, fx);
		else
			got(n, q, fx);
		return;
	case LKS_WEAKEN:
		if (q->tag)
			node_reply_err(n, q->tag, is_held(q) ? 0 : rp->err, fx);
		return;
	case LKS_TEST:
		if (!q->tag)
			return; /* given up */
		out = effects_alloc(fx, sizeof(*out));
		*out = *rp;
		effects_add(fx, FX_REPLY, q->tag)->reply = out;
		return;
	case LKS_CANCEL:
		/* Of ours: the coordinator needs none for it. */
		if (rp->err == -ENOMEM)
			cancel_later(n, q->lock.seq);
		return;
	case LKS_TAKE_BACK:
		/* H5. What it asked for is forgotten with the session, or asked again and does nothing, before the next UNLOCK. */
		if (rp->err == -ENOMEM)
			unsaid(n, fx);
		return;
	}
}

/*
 * Its process waits no longer, and it goes on: what is to be unlocked is, later. A LOCK of which only that is left
 * holds what was asked for, and to close(2) it is all the same.
 */
static void leave(struct node *n, struct creq *q, struct effects *fx)
{
	node_reply_err(n, q->tag, q->closes || is_held(q) ? 0 : -EINTR, fx);
	q->tag = 0;
}

static void ask_cancel(struct node *n, const struct creq *q, struct effects *fx)
{
	struct fs_request *rq = &n->scratch_rq;

	memset(rq, 0, sizeof(*rq));
	rq->op = FS_LOCK_CANCEL;
	rq->ino = q->ino;
	rq->lock.seq = q->lock.seq;
	node_ask_as(n, &(struct creq){.kind = CQ_LOCK, .stage = LKS_CANCEL, .lock.seq = q->lock.seq}, rq, fx);
}

/* H5. The number is of no LOCK: a coordinator that does not know of this finds none. */
void node_held_given_up(struct node *n, const struct creq *q, struct effects *fx)
{
	const struct fs_reqid *out = client_change_out(n->client, q->id);
	struct fs_request *rq = &n->scratch_rq;
	struct fs_reqid id;

	if (!out)
		return;
	if (n->serving_local) {
		id = *out;
		node_server_take_back(n, &id, fx);
		return;
	}
	memset(rq, 0, sizeof(*rq));
	rq->op = FS_LOCK_CANCEL;
	rq->ino = q->ino;
	rq->lock.owner = out->slot;
	rq->lock.handle = out->seq;
	rq->lock.seq = ++n->lock_seq;
	node_ask_as(n, &(struct creq){.kind = CQ_LOCK, .stage = LKS_TAKE_BACK}, rq, fx);
}

void node_held_cancel_again(struct node *n, struct effects *fx)
{
	if (n->now_ns < n->cancel_at_ns)
		return;
	n->cancel_at_ns = NEVER;
	list_for_each_entry (q, &n->creqs, struct creq, link) {
		if (q->kind != CQ_LOCK || !q->uncancelled)
			continue;
		q->uncancelled = false;
		if (q->stage == LKS_GET)
			ask_cancel(n, q, fx);
	}
}

/*
 * The process got a signal, or is dying: WIRE.md, section 6, rule 5. Done again for a LOCK that was out and is not any
 * more, since INTERRUPT comes once: node_ask_step().
 */
void node_held_cancel(struct node *n, struct creq *q, struct effects *fx)
{
	bool first = !q->cancelled;

	q->cancelled = true;
	if (unlocks(q->stage)) {
		leave(n, q, fx);
		return;
	}
	/* Not out, or to be answered at once: then nobody waits for it there. */
	if (client_cancel(n->client, q->id)) {
		list_del(&q->link);
		node_reply_err(n, q->tag, -EINTR, fx);
		mem_free(n->mem, q, sizeof(*q));
		return;
	}
	if (q->stage == LKS_TEST) {
		leave(n, q, fx);
		return;
	}
	n->dying = true;
	if (first && (q->lock.flags & FS_LK_WAIT))
		ask_cancel(n, q, fx);
}

/* The user's limit for waiting is over. What is to be unlocked is, later; only nobody waits for it. */
void node_held_expire(struct node *n, uint64_t before_ns, struct effects *fx)
{
	list_for_each_entry (q, &n->creqs, struct creq, link) {
		if (q->kind != CQ_LOCK || !unlocks(q->stage) || !q->tag || q->since_ns >= before_ns)
			continue;
		if (!effects_room(fx, 4, 4096))
			return;
		node_reply_err(n, q->tag, q->closes || is_held(q) ? 0 : -EIO, fx);
		q->tag = 0;
	}
}

/* ------------------------------------------------------------------ reclaim, and the end of it */

void node_held_reclaim(struct node *n, struct effects *fx)
{
	const struct lock *l = lock_next(&n->held, NULL);
	struct msg_lock locks[WIRE_LOCKS_MAX];
	struct msg m = {.type = MSG_RECLAIM_LOCKS, .reclaim_locks.locks = locks};

	while (l) {
		m.reclaim_locks.count = 0;
		memset(locks, 0, sizeof(locks));
		for (; l && m.reclaim_locks.count < WIRE_LOCKS_MAX; l = lock_next(&n->held, l)) {
			struct msg_lock *to = &locks[m.reclaim_locks.count++];

			to->ino = l->key.ino;
			to->lock = (struct fs_lock){.owner = l->key.owner,
				.handle = l->handle,
				.start = l->start,
				.end = l->end,
				.pid = l->pid,
				.type = l->write ? FS_LK_WRITE : FS_LK_READ,
				.flags = l->key.flock ? FS_LK_FLOCK : 0};
		}
		(void)session_send(n->coord, &m, 0, 0, fx);
	}
}

/* Given up: another node may own by now what we held. */
void node_held_lost(struct node *n, struct effects *fx)
{
	struct effect *e;
	uint64_t *handles;
	uint32_t count = 0;

	if (!n->held.count)
		return;
	handles = effects_alloc(fx, n->held.count * (uint32_t)sizeof(*handles));
	for (const struct lock *l = lock_next(&n->held, NULL); l; l = lock_next(&n->held, l)) {
		if (!count || handles[count - 1] != l->handle)
			handles[count++] = l->handle;
		remember_lost(n, l->handle);
	}
	node_ask_lost(n, fx);
	trace(n->trace, TRACE_ERROR,
		"%u locks are lost -> I/O on the open files that held them fails", n->held.count);
	e = effects_add(fx, FX_LOCKS_LOST, 0);
	e->lost.count = count;
	e->lost.handles = handles;
	lock_reset(&n->held);
}

void node_held_check(const struct node *n)
{
	lock_check(&n->held);
}
