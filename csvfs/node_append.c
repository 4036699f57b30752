/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_append.c - the coordinator's side of O_APPEND: nobody sees the place of an append without its data.
 *
 *   FS_APPEND -> the file is longer, durable -> its node writes -> FS_APPENDED
 *
 * In between the place reads as zeros, or as what a write that failed has left there.
 *
 * Rules
 *  1. Who asks for a layout to read behind where another node's append begins that is under way, waits for its end. Whoever
 *     is told the size with a layout meanwhile is told that place with it (*shown*), and asks before it reads behind that.
 *     The node that appends sees to its own readers (rule 13 of dp.h).
 *  2. Appends of different nodes take turns, in order of arrival: so none waits for one that waits for it. A change of the file's
 *     size takes its turn with them: else an append would land behind the end that a truncation has just made. Those of one node go to
 *     the engine one after the other, for there one may have to wait for something, and the next one not: the pieces of a large
 *     asynchronous write stay in order.
 *  3. Where it begins is known when the engine has answered. Until then no other node is granted a layout, and
 *     it does not go to the engine while one is being granted.
 *  4. A new coordinator hears of those under way before it serves: from the nodes that were told their places (RECLAIM_APPENDS);
 *     and what was executed, and not answered, stands in the reply cache.
 *  5. It is over by FS_APPENDED, or with the rights of its node: then the place is what a failed append leaves, a hole or zeros.
 *     After recall_ns it is late: who reads, or appends, waits for it no longer. A change of the file's size does: its node
 *     may still write there, where others would be by then.
 *     What is over is named with the version of the layout: FS_APPENDED may come twice, and between two places that begin alike the
 *     file was made shorter, which shows in the version.
 *  6. A node whose rights have ended has no places (rule 17 of dp.h), and says so at once, before it asks anew for those that it needs: later
 *     what it says to be over might be a new one, where others have made the file shorter. What it had asked for, and heard
 *     nothing of, is asked for again as it was: with its place comes the version of then. It is not named before that. To name one is to claim a right (rule 7 of node_server.c): who
 *     was given up is told so, be it that it holds nothing else.
 *
 * What waits is looked at again with the queue of the inode, before it (node_server_pump).
 */
#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/node_int.h"

/* There was no memory to tell the coordinator. */
#define UNTOLD_AGAIN_NS (100 * NS_PER_MS)

/* Those that are not late. */
static uint32_t current(const struct lease_ino *li)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < li->appends.count; i++)
		count += !li->appends.told[i].late;
	return count;
}

static bool under_way(const struct lease_ino *li)
{
	return li->appends.placing || current(li);
}

static bool others_are_late(const struct lease_ino *li, const struct sreq *s)
{
	for (uint32_t i = 0; i < li->appends.count; i++) {
		if (li->appends.told[i].late && li->appends.told[i].idx != s->idx)
			return true;
	}
	return false;
}

static bool others(const struct lease_ino *li, const struct sreq *s)
{
	return under_way(li) && li->appends.idx != s->idx;
}

static uint64_t first_at(const struct lease_ino *li)
{
	uint64_t first = UINT64_MAX;

	for (uint32_t i = 0; i < li->appends.count; i++) {
		if (!li->appends.told[i].late && li->appends.told[i].off < first)
			first = li->appends.told[i].off;
	}
	return first;
}

/* It was told, and did not hear of it: those who wait for its end would wait for ever. */
static struct lease_place *told_before(struct lease_ino *li, const struct sreq *s)
{
	for (uint32_t i = 0; i < li->appends.count; i++) {
		const struct fs_reqid *id = &li->appends.told[i].id;

		if (id->node == s->id.node && id->life == s->id.life && id->slot == s->id.slot && id->seq == s->id.seq)
			return &li->appends.told[i];
	}
	return NULL;
}

static bool no_room(const struct lease_ino *li)
{
	const struct lease_appends *a = &li->appends;

	return a->placing + current(li) >= LEASE_APPENDS_MAX || a->placing + a->count >= LEASE_PLACES_MAX;
}

static bool must_wait(struct lease_ino *li, const struct sreq *s)
{
	const struct fs_request *rq = &s->vr.rq;
	const struct lease_place *was;

	switch (rq->op) {
	case FS_APPEND:
		was = told_before(li, s);
		/* Behind the truncation that waits for its place it would not hear of that for ever. */
		if (was)
			return was->late && others(li, s);
		list_for_each_entry (w, &li->appends.waiting, struct sreq, waiting) {
			if (w->vr.rq.op == FS_APPEND || node_size_set_by(&w->vr.rq))
				return true;
		}
		return others(li, s) || li->appends.placing || no_room(li);
	case FS_LSEEK:
		return others(li, s);
	case FS_LAYOUT_GET:
		if (!others(li, s))
			return false;
		if (li->appends.placing)
			return true;
		return !(rq->flags & FS_LAYOUT_WRITE) && rq->off + rq->len > first_at(li);
	default:
		return node_size_set_by(rq) && (others(li, s) || others_are_late(li, s));
	}
}

/* True: the request has left the queue of its inode, and waits. */
bool node_append_waits(struct lease_ino *li, struct sreq *s)
{
	if (!must_wait(li, s))
		return false;
	list_del(&s->waiting);
	list_add_tail(&s->waiting, &li->appends.waiting);
	return true;
}

void node_append_placing(struct lease_ino *li, const struct sreq *s)
{
	csv_assert(!others(li, s));
	li->appends.idx = s->idx;
	li->appends.placing++;
}

static void waited_for(struct node *n, struct lease_appends *a, uint32_t idx)
{
	a->idx = idx;
	a->deadline_ns = n->now_ns + n->cfg.recall_ns;
	if (a->deadline_ns < n->append_deadline_ns)
		n->append_deadline_ns = a->deadline_ns;
}

static void add(struct node *n, struct lease_ino *li, uint32_t idx, uint64_t off, uint64_t version, const struct fs_reqid *id)
{
	struct lease_appends *a = &li->appends;
	bool late = current(li) && a->idx != idx;

	trace(n->trace, TRACE_DEBUG, "node %u appends to ino %lx at %lu", n->peers[idx].node, li->ino, off);
	a->told[a->count++] = (struct lease_place){.off = off, .version = version, .id = *id, .idx = idx, .late = late};
	if (!late)
		waited_for(n, a, idx);
}

void node_append_placed(struct node *n, const struct sreq *s)
{
	struct lease_ino *li = lease_find(&n->leases, s->vr.rq.ino);
	struct lease_place *was;

	csv_assert(li && li->appends.placing);
	li->appends.placing--;
	if (s->vr.reply.err || s->placeless || !(li->open_mask & 1ull << s->idx))
		return;
	was = told_before(li, s);
	if (was) {
		was->late = false;
		waited_for(n, &li->appends, s->idx);
		return;
	}
	add(n, li, s->idx, s->vr.reply.off, s->vr.reply.attr.version, &s->id);
}

void node_append_show(const struct lease_ino *li, struct sreq *s)
{
	s->vr.reply.off = s->vr.reply.attr.size;
	if (li && others(li, s) && s->vr.reply.off > first_at(li))
		s->vr.reply.off = first_at(li);
}

void node_append_over(struct node *n, struct lease_ino *li, const struct sreq *s)
{
	struct lease_appends *a = &li->appends;

	for (uint32_t i = 0; i < a->count; i++) {
		if (a->told[i].idx != s->idx || a->told[i].off != s->vr.rq.off || a->told[i].version != s->vr.rq.attr.version)
			continue;
		trace(n->trace, TRACE_DEBUG, "node %u has appended to ino %lx at %lu", s->node, li->ino, a->told[i].off);
		a->told[i] = a->told[--a->count];
		return;
	}
}

void node_append_drop(struct node *n, struct lease_ino *li, uint32_t idx)
{
	struct lease_appends *a = &li->appends;

	for (uint32_t i = 0; i < a->count;) {
		if (a->told[i].idx != idx) {
			i++;
			continue;
		}
		a->told[i] = a->told[--a->count];
		n->leases_changed = true;
	}
}

static void all_late(struct node *n, struct lease_ino *li)
{
	struct lease_appends *a = &li->appends;

	trace(n->trace, TRACE_WARN, "ino %lx: node %u has not told the end of an append in %lu s -> readers go on", li->ino,
		n->peers[a->idx].node, n->cfg.recall_ns / NS_PER_SEC);
	for (uint32_t i = 0; i < a->count; i++)
		a->told[i].late = true;
	n->leases_changed = true;
}

void node_append_timers(struct node *n)
{
	if (n->now_ns < n->append_deadline_ns)
		return;
	n->append_deadline_ns = NEVER;
	for (unsigned b = 0; b < LEASE_BUCKETS; b++) {
		list_for_each_entry (li, &n->leases.bucket[b], struct lease_ino, hash) {
			struct lease_appends *a = &li->appends;

			if (!current(li))
				continue;
			if (n->now_ns >= a->deadline_ns)
				all_late(n, li);
			else if (a->deadline_ns < n->append_deadline_ns)
				n->append_deadline_ns = a->deadline_ns;
		}
	}
}

/* ------------------------------------------------------------------ a new coordinator */

static void found(struct node *n, const struct msg_append *at, uint32_t idx, const struct fs_reqid *id)
{
	struct lease_ino *li = lease_find(&n->leases, at->ino);

	/* By rule 2 there are none of two nodes, but for one that took longer than others wait (rule 5). */
	if (!li || !(li->open_mask & 1ull << idx) || li->appends.count == LEASE_PLACES_MAX)
		return;
	/* They are said in any order. What lies behind another node's was given when that was late already. */
	for (uint32_t i = 0; current(li) && li->appends.idx != idx && i < li->appends.count; i++) {
		const struct lease_place *p = &li->appends.told[i];

		if (!p->late && (at->version > p->version || (at->version == p->version && at->off > p->off)))
			li->appends.told[i].late = true;
	}
	add(n, li, idx, at->off, at->version, id);
}

/* In a session that comes after one that broke it says them again. */
static bool known(const struct node *n, const struct msg_append *at, uint32_t idx)
{
	const struct lease_ino *li = lease_find(&n->leases, at->ino);

	for (uint32_t i = 0; li && i < li->appends.count; i++) {
		if (li->appends.told[i].idx == idx && li->appends.told[i].off == at->off && li->appends.told[i].version == at->version)
			return true;
	}
	return false;
}

void node_append_reclaimed(struct node *n, const struct peer *p, const struct msg_append *a)
{
	static const struct fs_reqid none;
	uint32_t idx = (uint32_t)(p - n->peers);

	if (a->slot)
		n->asked[idx][a->slot] = a->seq;
	else if (!known(n, a, idx))
		found(n, a, idx, &none);
}

void node_append_find(struct node *n)
{
	for (uint32_t i = 0; i < NODES_MAX; i++) {
		const struct peer *p = &n->peers[i];

		for (uint32_t slot = 1; slot <= SLOTS_MAX; slot++) {
			struct fs_reqid id = {.node = p->node, .life = p->life, .slot = slot, .seq = n->asked[i][slot]};
			struct msg_append at;

			if (p->node && id.seq && vol_appended(n->vol, &id, &at.ino, &at.off, &at.version))
				found(n, &at, i, &id);
			n->asked[i][slot] = 0;
		}
	}
}

/* ------------------------------------------------------------------ the node that appends */

/* False: no memory. A coordinator that comes next would not hear of it. */
static bool own_begun(struct node *n, uint64_t tag, uint64_t ino, const struct fs_reply *rp)
{
	struct own_append *a = mem_alloc(n->mem, sizeof(*a));

	if (!a)
		return false;
	a->tag = tag;
	a->ino = ino;
	a->off = rp->off;
	a->version = rp->attr.version;
	list_add_tail(&a->link, &n->own_appends);
	return true;
}

/* Nobody writes where nobody waits for it. */
void node_append_answered(struct node *n, const struct creq *q, struct fs_reply *rp, struct effects *fx)
{
	bool wanted = q->tag && !node_held_is_lost(n, q->lock.handle);

	if (!rp->err && !(wanted && own_begun(n, q->tag, q->ino, rp))) {
		node_append_tell(n, q->ino, rp->off, rp->attr.version, fx);
		rp->err = -ENOMEM;
	}
}

static void own_over(struct node *n, struct own_append *a, struct effects *fx)
{
	struct own_append was = *a;

	list_del(&a->link);
	mem_free(n->mem, a, sizeof(*a)); /* so there is memory to say so */
	node_append_tell(n, was.ino, was.off, was.version, fx);
}

/*
 * Who coordinates may know of the places still: not every loss of rights is its doing. It is told now, before it is asked for
 * others: by the time they end, one of those may be where they were.
 */
void node_append_evicted(struct node *n, struct effects *fx)
{
	client_unname_appends(n->client);
	list_for_each_entry_safe (a, tmp, &n->own_appends, struct own_append, link)
		own_over(n, a, fx);
}

/* EV_APPENDED. What is not known any more was of rights that have ended, and has been told. */
void node_append_ended(struct node *n, const struct event *ev, struct effects *fx)
{
	list_for_each_entry (a, &n->own_appends, struct own_append, link) {
		if (a->tag != ev->tag || a->ino != ev->range.ino || a->off != ev->range.off)
			continue;
		own_over(n, a, fx);
		return;
	}
}

static uint32_t own_unanswered(const struct node *n, uint32_t from, struct msg_append *out)
{
	for (uint32_t slot = from; slot <= SLOTS_MAX; slot++) {
		*out = (struct msg_append){.slot = slot};
		if (client_unanswered(n->client, slot, FS_APPEND, &out->ino, &out->seq))
			return slot;
	}
	return 0;
}

void node_append_reclaim(struct node *n, struct effects *fx)
{
	struct msg_append appends[WIRE_APPENDS_MAX];
	struct msg m = {.type = MSG_RECLAIM_APPENDS, .reclaim_appends.appends = appends};
	uint32_t slot = 0;

	list_for_each_entry (a, &n->own_appends, struct own_append, link) {
		appends[m.reclaim_appends.count++] = (struct msg_append){.ino = a->ino, .off = a->off, .version = a->version};
		if (m.reclaim_appends.count < WIRE_APPENDS_MAX - SLOTS_MAX)
			continue;
		(void)session_send(n->coord, &m, 0, 0, fx);
		m.reclaim_appends.count = 0;
	}
	while ((slot = own_unanswered(n, slot + 1, &appends[m.reclaim_appends.count])))
		m.reclaim_appends.count++;
	if (m.reclaim_appends.count)
		(void)session_send(n->coord, &m, 0, 0, fx);
}

void node_append_reclaim_self(struct node *n, const struct peer *p)
{
	uint32_t idx = (uint32_t)(p - n->peers), slot = 0;
	struct msg_append m;

	memset(n->asked[idx], 0, sizeof(n->asked[idx]));
	list_for_each_entry (a, &n->own_appends, struct own_append, link) {
		m = (struct msg_append){.ino = a->ino, .off = a->off, .version = a->version};
		node_append_reclaimed(n, p, &m);
	}
	while ((slot = own_unanswered(n, slot + 1, &m)))
		node_append_reclaimed(n, p, &m);
}

/* A change of the file's size waits for it however late it is (rule 5), so it must come to be known. */
static void untold(struct node *n, const struct msg_append *at)
{
	if (n->untold_count == SLOTS_MAX)
		return;
	n->untold[n->untold_count++] = *at;
	n->untold_at_ns = n->now_ns + UNTOLD_AGAIN_NS;
}

bool node_append_is_untold(const struct node *n, uint64_t ino)
{
	for (uint32_t i = 0; i < n->untold_count; i++) {
		if (n->untold[i].ino == ino)
			return true;
	}
	return false;
}

void node_append_tell_again(struct node *n, struct effects *fx)
{
	uint32_t count = n->now_ns >= n->untold_at_ns ? n->untold_count : 0;

	while (count-- && effects_room(fx, 4, 4096)) {
		struct msg_append a = n->untold[0];

		memmove(&n->untold[0], &n->untold[1], --n->untold_count * sizeof(a));
		node_append_tell(n, a.ino, a.off, a.version, fx);
	}
}

void node_append_tell(struct node *n, uint64_t ino, uint64_t off, uint64_t version, struct effects *fx)
{
	struct fs_request *rq = &n->scratch_rq;
	uint64_t id = n->creq_count + 1;
	const struct creq *q;

	memset(rq, 0, sizeof(*rq));
	rq->op = FS_APPENDED;
	rq->ino = ino;
	rq->generation = node_file_life(n, ino);
	rq->off = off;
	rq->attr.version = version;
	rq->time_ns = n->wall_ns;
	node_ask(n, CQ_KERNEL, 0, rq, fx);
	/* Without memory to ask there is none of that number at the end. */
	q = list_empty(&n->creqs) ? NULL : list_entry(n->creqs.prev, struct creq, link);
	if (!q || q->id != id)
		untold(n, &(struct msg_append){.ino = ino, .off = off, .version = version});
}
