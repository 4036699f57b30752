/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * reply.c - the reply cache: a request is executed at most once, across coordinators.
 *
 * One block per node slot, one entry per request slot. The entry is written by the operation that
 * carries the request out, so effect and record are durable together or not at all.
 */
#include "metadata/engine.h"

void reply_load(struct vol *v, uint32_t i, struct block *b)
{
	const struct disk_reply_block *d = (const struct disk_reply_block *)b->data;

	v->reply.b[i] = b;
	v->reply.node[i] = le32_get(d->node);
	v->reply.life[i] = le64_get(d->life);
}

static int node_slot(const struct vol *v, uint32_t node)
{
	for (int i = 0; i < (int)NODES_MAX; i++)
		if (v->reply.life[i] && v->reply.node[i] == node)
			return i;
	return -1;
}

/* A free one; else that of a node that is gone, the one used longest ago. -1: none. */
static int take_slot(const struct vol *v)
{
	uint64_t best_lsn = UINT64_MAX;
	int best = -1;

	for (int i = 0; i < (int)NODES_MAX; i++)
		if (!v->reply.life[i])
			return i;
	for (int i = 0; i < (int)NODES_MAX; i++) {
		const struct disk_header *h = (const struct disk_header *)v->reply.b[i]->data;

		if (le64_get(h->lsn) >= best_lsn)
			continue;
		if (!v->cfg.node_is_gone || !v->cfg.node_is_gone(v->cfg.ctx, v->reply.node[i]))
			continue;
		best = i;
		best_lsn = le64_get(h->lsn);
	}
	return best;
}

/* Of the layout in which it got its place. Not recorded: one that no layout has. */
static uint64_t append_version(const struct disk_reply_entry *e)
{
	return le64_get(e->version_1) - 1;
}

static void fill(struct txn *t, struct vol_req *r, const struct block *b)
{
	const struct disk_reply_block *d = (const struct disk_reply_block *)b->data;
	const struct disk_reply_entry *e = &d->e[r->rq.id.slot - 1];

	if (b->dirty_lsn > t->seen_lsn)
		t->seen_lsn = b->dirty_lsn;
	r->reply.err = (int32_t)le32_get(e->err);
	r->reply.attr.ino = le64_get(e->ino);
	r->reply.attr.generation = le64_get(e->generation);
	r->reply.attr.mode = le32_get(e->mode);
	r->reply.off = le64_get(e->off);
	if (r->rq.op == FS_APPEND)
		r->reply.attr.version = append_version(e);
}

int reply_find(struct vol *v, struct vol_req *r)
{
	const struct fs_reqid *id = &r->rq.id;
	const struct disk_reply_block *d;
	uint64_t seq;
	int i;

	if (!id->slot)
		return 0;
	if (id->slot > SLOTS_MAX || !id->life)
		return -EINVAL;
	i = node_slot(v, id->node);
	if (i < 0)
		return take_slot(v) < 0 ? -EBUSY : 0;
	/* A new life of the node: it has no request of the old one to send again. */
	if (v->reply.life[i] != id->life)
		return 0;
	d = (const struct disk_reply_block *)v->reply.b[i]->data;
	seq = le64_get(d->e[id->slot - 1].seq);
	if (id->seq > seq)
		return 0;
	if (id->seq < seq)
		return -ESTALE;
	if (le32_get(d->e[id->slot - 1].op) != (uint32_t)r->rq.op)
		return -ESTALE;
	fill(&v->txn, r, v->reply.b[i]);
	return 1;
}

static const struct disk_reply_entry *entry_of(const struct vol *v, const struct fs_reqid *id)
{
	int i = id->slot && id->slot <= SLOTS_MAX ? node_slot(v, id->node) : -1;

	if (i < 0 || v->reply.life[i] != id->life)
		return NULL;
	return &((const struct disk_reply_block *)v->reply.b[i]->data)->e[id->slot - 1];
}

bool vol_replied(const struct vol *v, const struct fs_reqid *id)
{
	const struct disk_reply_entry *e = entry_of(v, id);

	return e && le64_get(e->seq) >= id->seq;
}

bool vol_appended(const struct vol *v, const struct fs_reqid *id, uint64_t *ino, uint64_t *off, uint64_t *version)
{
	const struct disk_reply_entry *e = entry_of(v, id);

	if (!e || le64_get(e->seq) != id->seq || le32_get(e->op) != FS_APPEND || le32_get(e->err))
		return false;
	*ino = le64_get(e->ino);
	*off = le64_get(e->off);
	*version = append_version(e);
	return true;
}

void reply_record(struct txn *t, struct vol_req *r)
{
	struct vol *v = t->v;
	const struct fs_reqid *id = &r->rq.id;
	struct disk_reply_block *d;
	struct disk_reply_entry *e;
	int i;

	if (!id->slot)
		return;
	i = node_slot(v, id->node);
	if (i < 0)
		i = take_slot(v);
	csv_assert(i >= 0); /* reply_find() has looked */
	txn_dirty(t, v->reply.b[i]);
	d = (struct disk_reply_block *)v->reply.b[i]->data;
	if (v->reply.life[i] != id->life || v->reply.node[i] != id->node) {
		memset(d->e, 0, sizeof(d->e));
		d->node = le32_of(id->node);
		d->life = le64_of(id->life);
		v->reply.node[i] = id->node;
		v->reply.life[i] = id->life;
	}
	e = &d->e[id->slot - 1];
	memset(e, 0, sizeof(*e));
	e->seq = le64_of(id->seq);
	e->err = le32_of((uint32_t)r->reply.err);
	e->op = le32_of((uint32_t)r->rq.op);
	e->ino = le64_of(r->reply.attr.ino);
	e->generation = le64_of(r->reply.attr.generation);
	e->mode = le32_of(r->reply.attr.mode);
	e->off = le64_of(r->reply.off);
	if (r->rq.op == FS_APPEND)
		e->version_1 = le64_of(r->reply.attr.version + 1);
}
