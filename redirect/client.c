/* SPDX-License-Identifier: GPL-2.0-or-later */
/* client.c - requests to the coordinator. Block I/O through a peer is in client_block.c. */
#include "redirect/client_impl.h"

#include <errno.h>
#include <linux/falloc.h>
#include <string.h>

#include "csvfs/base/assert.h"

struct client *client_create(const struct client_config *cfg)
{
	struct client *c = mem_alloc(cfg->mem, sizeof(*c));

	csv_assert(cfg->node != 0);
	csv_assert(cfg->life != 0);
	if (!c)
		return NULL;
	c->cfg = *cfg;
	list_init(&c->all);
	list_init(&c->queued);
	list_init(&c->ready);
	list_init(&c->sent);
	for (uint32_t i = 0; i < CLIENT_BUCKETS; i++)
		list_init(&c->bucket[i]);
	client_block_init(c);
	return c;
}

/* ------------------------------------------------------------------ entries */

static struct list *bucket_of(struct client *c, uint64_t wire_tag)
{
	return &c->bucket[wire_tag % CLIENT_BUCKETS];
}

static void entry_move(struct client *c, struct client_rq *e, enum client_rq_state to)
{
	list_del(&e->link);
	e->state = to;
	switch (to) {
	case CLIENT_RQ_QUEUED:
		list_add_tail(&e->link, &c->queued);
		return;
	case CLIENT_RQ_READY:
		list_add_tail(&e->link, &c->ready);
		return;
	case CLIENT_RQ_SENT:
		list_add_tail(&e->link, &c->sent);
		return;
	}
}

static struct client_rq *entry_new(struct client *c, const struct fs_request *rq)
{
	uint32_t extent_bytes = rq->extent_count * (uint32_t)sizeof(*rq->extents);
	struct client_rq *e = mem_alloc(c->cfg.mem, sizeof(*e));

	if (!e)
		return NULL;
	e->rq = *rq;
	e->blob_bytes = rq->data_len + extent_bytes;
	if (!e->blob_bytes)
		return e;
	e->blob = mem_alloc(c->cfg.mem, e->blob_bytes);
	if (!e->blob) {
		mem_free(c->cfg.mem, e, sizeof(*e));
		return NULL;
	}
	/* Extents first: they need the alignment. */
	if (extent_bytes)
		memcpy(e->blob, rq->extents, extent_bytes);
	if (rq->data_len)
		memcpy((uint8_t *)e->blob + extent_bytes, rq->data, rq->data_len);
	e->rq.extents = extent_bytes ? e->blob : NULL;
	e->rq.data = rq->data_len ? (uint8_t *)e->blob + extent_bytes : NULL;
	return e;
}

/* R1: a slot nobody uses, with its next sequence number. False: all are in use. */
static bool slot_take(struct client *c, struct client_rq *e)
{
	for (uint32_t slot = 1; slot <= SLOTS_MAX; slot++) {
		if (c->slot_user[slot])
			continue;
		c->slot_user[slot] = e;
		c->slots_used++;
		e->rq.id.slot = slot;
		e->rq.id.seq = ++c->slot_seq[slot];
		return true;
	}
	return false;
}

static void slot_give(struct client *c, struct client_rq *e)
{
	struct client_rq *next;

	if (!e->rq.id.slot)
		return;
	csv_assert(c->slot_user[e->rq.id.slot] == e);
	c->slot_user[e->rq.id.slot] = NULL;
	c->slots_used--;
	if (list_empty(&c->queued))
		return;
	next = list_first_entry(&c->queued, struct client_rq, link);
	if (slot_take(c, next))
		entry_move(c, next, CLIENT_RQ_READY);
}

static void entry_free(struct client *c, struct client_rq *e)
{
	list_del(&e->link);
	list_del(&e->hash);
	list_del(&e->link_all);
	slot_give(c, e);
	mem_free(c->cfg.mem, e->blob, e->blob_bytes);
	mem_free(c->cfg.mem, e, sizeof(*e));
	c->count--;
}

/* ------------------------------------------------------------------ submit, cancel */

int client_submit(struct client *c, uint64_t tag, const struct fs_request *rq, uint64_t now_ns)
{
	struct client_rq *e;

	if (!wire_request_ok(rq))
		return -EINVAL;
	e = entry_new(c, rq);
	if (!e)
		return -ENOMEM;
	e->tag = tag;
	e->wire_tag = ++c->next_wire_tag;
	e->submitted_ns = now_ns;
	e->rq.id = (struct fs_reqid){.node = c->cfg.node, .life = c->cfg.life};
	list_init(&e->link);
	list_add_tail(&e->link_all, &c->all);
	list_add_tail(&e->hash, bucket_of(c, e->wire_tag));
	c->count++;
	c->requests++;
	/* Who comes later does not overtake those that wait: while one waits no slot is free. */
	if (fs_op_needs_slot(rq->op) && !slot_take(c, e))
		entry_move(c, e, CLIENT_RQ_QUEUED);
	else
		entry_move(c, e, CLIENT_RQ_READY);
	return 0;
}

/* A LOCK that is not out: what was granted and not answered went with the session. */
static bool forgettable(const struct client_rq *e)
{
	return e->rq.op == FS_LOCK && e->state == CLIENT_RQ_READY;
}

bool client_cancel(struct client *c, uint64_t tag)
{
	list_for_each_entry (e, &c->all, struct client_rq, link_all) {
		if (e->tag != tag || e->expired)
			continue;
		if (e->times_sent && !forgettable(e)) /* R5 */
			return false;
		entry_free(c, e);
		return true;
	}
	return false;
}

/* No process's: what gives back or commits the coordinator must come to know, and who waits for an OPEN has a limit itself. */
static bool of_no_process(enum fs_op op)
{
	return op == FS_UNLOCK || op == FS_LOCK_CANCEL || op == FS_LAYOUT_COMMIT || op == FS_LAYOUT_RETURN ||
	       op == FS_OPEN || op == FS_CLOSE || op == FS_APPENDED;
}

bool client_next_expired(struct client *c, uint64_t before_ns, uint64_t *tag, bool *sent)
{
	list_for_each_entry (e, &c->all, struct client_rq, link_all) {
		if (e->submitted_ns >= before_ns)
			return false;
		/* A LOCK that is out waits for another process. */
		if (e->expired || of_no_process(e->rq.op) || (e->rq.op == FS_LOCK && !forgettable(e)))
			continue;
		*tag = e->tag;
		/* R1: what may have been executed keeps its slot until that is known. */
		*sent = e->times_sent && !forgettable(e);
		if (*sent)
			e->expired = true;
		else
			entry_free(c, e);
		return true;
	}
	return false;
}

/* ------------------------------------------------------------------ who serves */

bool client_served(const struct client *c)
{
	return c->local || c->session;
}

void client_void_commits(struct client *c)
{
	list_for_each_entry(q, &c->all, struct client_rq, link_all) {
		if (q->rq.op != FS_LAYOUT_COMMIT)
			continue;
		q->rq.extent_count = 0;
		q->rq.valid &= ~FS_SET_SIZE;
	}
}

void client_unname_appends(struct client *c)
{
	list_for_each_entry(q, &c->all, struct client_rq, link_all)
		q->unnamed = true;
}

/*
 * What no coordinator carries out, whatever is there by then, and refuses before it looks. If it was executed before, that is
 * answered all the same: by slot, sequence number and kind.
 */
static void make_void(struct fs_request *rq)
{
	if (rq->op == FS_APPEND) {
		rq->len = 0;
	} else if (rq->op == FS_FALLOCATE) {
		rq->len = 0;
		rq->flags |= FALLOC_FL_KEEP_SIZE;
	} else if (rq->op == FS_SETATTR) {
		/* It was read, before all that was known of that: nothing changes, not even the ctime. */
		rq->valid = FS_SET_READ;
		rq->attr.atime_ns = INT64_MIN;
	} else {
		/* No name can be made, removed or be another's that is this one, nor is it one of an attribute. */
		memcpy(rq->name, ".", sizeof("."));
	}
}

void client_void_change(struct client *c, uint64_t tag)
{
	list_for_each_entry(q, &c->all, struct client_rq, link_all) {
		if (q->tag == tag && fs_op_needs_slot(q->rq.op))
			make_void(&q->rq);
	}
}

const struct fs_reqid *client_change_out(const struct client *c, uint64_t tag)
{
	list_for_each_entry (e, &c->sent, struct client_rq, link) {
		if (e->tag == tag && e->rq.id.slot)
			return &e->rq.id;
	}
	return NULL;
}

void client_serve_remote(struct client *c, struct session *s)
{
	csv_assert(s->state == SESSION_UP);
	if (client_served(c))
		client_down(c);
	c->session = s;
	c->session_nr = s->nr;
	trace(c->cfg.trace, TRACE_INFO, "served by %s -> %u requests go out", s->name, c->count);
}

void client_serve_local(struct client *c)
{
	if (client_served(c))
		client_down(c);
	c->local = true;
	trace(c->cfg.trace, TRACE_INFO, "served here -> %u requests", c->count);
}

void client_down(struct client *c)
{
	struct list again;

	c->session = NULL;
	c->local = false;
	/* R3: in the order of sending, and before those that were never sent. */
	list_init(&again);
	list_splice_tail(&c->sent, &again);
	list_for_each_entry (e, &again, struct client_rq, link)
		e->state = CLIENT_RQ_READY;
	list_splice_tail(&c->ready, &again);
	list_splice_tail(&again, &c->ready);
}

/* ------------------------------------------------------------------ out and back */

static void entry_sent(struct client *c, struct client_rq *e)
{
	if (e->times_sent++)
		c->resent++;
	e->unnamed = false;
	entry_move(c, e, CLIENT_RQ_SENT);
}

bool client_has_local(const struct client *c)
{
	return c->local && !list_empty(&c->ready);
}

const struct fs_request *client_next_local(struct client *c, uint64_t *wire_tag)
{
	struct client_rq *e;

	if (!client_has_local(c))
		return NULL;
	e = list_first_entry(&c->ready, struct client_rq, link);
	entry_sent(c, e);
	*wire_tag = e->wire_tag;
	return &e->rq;
}

void client_again_local(struct client *c, uint64_t wire_tag)
{
	list_for_each_entry (e, bucket_of(c, wire_tag), struct client_rq, hash) {
		if (e->wire_tag != wire_tag || e->state != CLIENT_RQ_SENT)
			continue;
		/* R3: it was sent before all that are ready. */
		list_del(&e->link);
		e->state = CLIENT_RQ_READY;
		list_add(&e->link, &c->ready);
		return;
	}
}

bool client_answered(struct client *c, uint64_t wire_tag, const struct fs_reqid *id,
	uint64_t now_ns, uint64_t *tag)
{
	list_for_each_entry (e, bucket_of(c, wire_tag), struct client_rq, hash) {
		uint64_t stall_ns;

		if (e->wire_tag != wire_tag)
			continue;
		if (e->state != CLIENT_RQ_SENT || id->node != e->rq.id.node ||
			id->life != e->rq.id.life || id->slot != e->rq.id.slot ||
			id->seq != e->rq.id.seq)
			break; /* R4 */
		stall_ns = now_ns - e->submitted_ns;
		if (stall_ns > c->longest_stall_ns && e->rq.op != FS_LOCK)
			c->longest_stall_ns = stall_ns;
		*tag = e->tag;
		entry_free(c, e);
		return true;
	}
	c->late_replies++;
	return false;
}

bool client_unanswered(const struct client *c, uint32_t slot, enum fs_op op, uint64_t *ino, uint64_t *seq)
{
	const struct client_rq *e = c->slot_user[slot];

	if (!e || !e->times_sent || e->unnamed || e->rq.op != op || !e->rq.len)
		return false;
	*ino = e->rq.ino;
	*seq = e->rq.id.seq;
	return true;
}

static void requests_step(struct client *c, struct effects *fx)
{
	struct msg *m = &c->out;

	while (c->session && c->session->state == SESSION_UP && c->session->nr == c->session_nr &&
		!list_empty(&c->ready)) {
		struct client_rq *e = list_first_entry(&c->ready, struct client_rq, link);
		bool sent;

		m->type = MSG_REQUEST;
		m->data_len = 0;
		m->tag = e->wire_tag;
		m->request = e->rq;
		if (!session_room(m, fx)) {
			c->more = true;
			return;
		}
		sent = session_send(c->session, m, 0, 0, fx);
		csv_assert(sent); /* wire_request_ok() was asked */
		entry_sent(c, e);
	}
}

void client_step(struct client *c, uint64_t now_ns, struct effects *fx)
{
	c->more = false;
	c->paused = false;
	requests_step(c, fx);
	client_block_step(c, now_ns, fx);
}

uint64_t client_deadline(const struct client *c)
{
	if (c->more)
		return 0;
	return c->paused ? c->pause_ns : NEVER;
}

/* ------------------------------------------------------------------ statistics, invariants */

static uint32_t list_count(const struct list *h)
{
	uint32_t n = 0;

	for (const struct list *l = h->next; l != h; l = l->next)
		n++;
	return n;
}

void client_get_stats(const struct client *c, struct client_stats *st)
{
	memset(st, 0, sizeof(*st));
	st->queued = list_count(&c->queued);
	st->ready = list_count(&c->ready);
	st->sent = list_count(&c->sent);
	st->slots_used = c->slots_used;
	st->oldest_ns = NEVER;
	list_for_each_entry (e, &c->all, struct client_rq, link_all) {
		/* Who waits for another process's lock is not held up by us. */
		if (e->rq.op == FS_LOCK)
			continue;
		st->oldest_ns = e->submitted_ns;
		break;
	}
	st->requests = c->requests;
	st->resent = c->resent;
	st->late_replies = c->late_replies;
	st->longest_stall_ns = c->longest_stall_ns;
	client_block_get_stats(c, st);
}

static uint32_t check_list(const struct client *c, const struct list *h, enum client_rq_state state)
{
	uint32_t n = 0;

	list_for_each_entry (e, h, struct client_rq, link) {
		bool slotted = fs_op_needs_slot(e->rq.op) && state != CLIENT_RQ_QUEUED;

		csv_assert(e->state == state);
		csv_assert((e->rq.id.slot != 0) == slotted); /* R1 */
		if (slotted) {
			csv_assert(c->slot_user[e->rq.id.slot] == e);
			csv_assert(c->slot_seq[e->rq.id.slot] == e->rq.id.seq);
		}
		csv_assert(state != CLIENT_RQ_QUEUED || !e->times_sent);
		csv_assert(state != CLIENT_RQ_SENT || e->times_sent);
		csv_assert(!e->expired || e->times_sent); /* R5 */
		n++;
	}
	return n;
}

void client_check(const struct client *c)
{
	uint32_t n, used = 0;

	n = check_list(c, &c->queued, CLIENT_RQ_QUEUED);
	n += check_list(c, &c->ready, CLIENT_RQ_READY);
	n += check_list(c, &c->sent, CLIENT_RQ_SENT);
	csv_assert(n == c->count);
	csv_assert(list_count(&c->all) == n);
	for (uint32_t slot = 1; slot <= SLOTS_MAX; slot++)
		used += c->slot_user[slot] != NULL;
	csv_assert(used == c->slots_used);
	csv_assert(list_empty(&c->queued) || used == SLOTS_MAX);
	csv_assert(list_empty(&c->sent) || client_served(c)); /* R2 */
	csv_assert(!(c->local && c->session));
	client_block_check(c);
}
