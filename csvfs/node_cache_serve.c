/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_cache_serve.c - cache leases, the coordinator's side: who may keep what, and that nothing changes before
 * all others have forgotten it.
 *
 * The engine runs a request, and asks node_cache_may_change() before anybody can see what it did. If others have a
 * lease of an inode that it changed, it is undone and waits; they are asked; when the last one has answered, or its
 * time is over, it runs again. So each answer, here or from a node's memory, is of one order of all changes.
 */
#include <errno.h>
#include <string.h>

#include "coordinator/cache_lease.h"
#include "csvfs/base/assert.h"
#include "csvfs/node_int.h"

#define BIT(idx) (1ull << (idx))

void node_cache_no_wait(struct node *n, struct sreq *s)
{
	for (uint32_t i = 0; i < s->held_count; i++)
		cache_lease_wait(&n->cache_leases, s->held[i], false);
	s->held_count = 0;
}

/* Rule 2 of node_cache.c: it has forgotten these itself, in the session in which it asked. */
static bool given_up(const struct node *n, const struct sreq *s, uint64_t ino)
{
	const struct fs_request *rq = &s->vr.rq;

	if (s->sweep || !node_cache_changes(rq) || s->lease_life != n->cache_leases.life[s->idx])
		return false;
	return ino == rq->ino || ino == rq->ino2 || ino == rq->given[0] || ino == rq->given[1];
}

bool node_cache_may_change(void *ctx, struct vol_req *r, const uint64_t *inos, uint32_t count)
{
	struct node *n = ctx;
	struct cache_lease_table *t = &n->cache_leases;
	struct sreq *s = r ? r->owner : NULL;
	uint32_t idx = s && !s->sweep ? s->idx : NODES_MAX;
	bool may = true;

	csv_assert(count <= SREQ_HELD_MAX);
	if (s)
		node_cache_no_wait(n, s);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t but = s && given_up(n, s, inos[i]) ? BIT(s->idx) : 0;

		may &= cache_lease_change(t, inos[i], but, n->now_ns);
	}
	if (s && !may) {
		memcpy(s->held, inos, count * sizeof(*inos));
		s->held_count = count;
		for (uint32_t i = 0; i < count; i++)
			cache_lease_wait(t, inos[i], true);
		/* It has made nothing: ino_is_open() looks at it. */
		r->reply.attr.ino = 0;
		return false;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint64_t nr = cache_lease_changed(t, inos[i], idx);

		if (s)
			s->seen = nr;
	}
	if (s)
		s->changed = true;
	return true;
}

/* The directory whose name the reply is about; 0: none. */
static uint64_t dir_of(const struct sreq *s)
{
	const struct fs_request *rq = &s->vr.rq;
	int32_t err = s->vr.reply.err;

	switch (rq->op) {
	case FS_LOOKUP:
		if (!strcmp(rq->name, ".") || !strcmp(rq->name, ".."))
			return 0;
		return !err || err == -ENOENT ? rq->ino : 0;
	case FS_CREATE:
		return err || !s->changed || (rq->valid & FS_NO_NAME) ? 0 : rq->ino;
	case FS_MKNOD:
	case FS_MKDIR:
	case FS_SYMLINK:
	case FS_UNLINK:
	case FS_RMDIR:
		/* Not of a recorded reply: what it made may have gone since. */
		return err || !s->changed ? 0 : rq->ino;
	case FS_LINK:
		return err || !s->changed ? 0 : rq->ino2;
	default:
		return 0;
	}
}

void node_cache_grant(struct node *n, struct sreq *s)
{
	struct cache_lease_table *t = &n->cache_leases;
	struct fs_reply *rp = &s->vr.reply;
	uint64_t dir = dir_of(s);

	rp->lease = 0;
	if (s->stage != SREQ_ENGINE || takeover_state(n->tk) != TK_SERVE ||
		s->lease_life != t->life[s->idx])
		return;
	/* Without a name, and changed: it may have been removed before it was asked for again, and its number be another file's soon. */
	if (!rp->err && rp->attr.ino && (rp->attr.nlink || !fs_op_needs_slot(s->vr.rq.op)) && !node_times_change(n, rp->attr.ino, s->idx) &&
		cache_lease_grant(t, rp->attr.ino, s->idx, s->seen, true, n->now_ns))
		rp->lease |= FS_LEASE_ATTR;
	if (dir && cache_lease_grant(t, dir, s->idx, s->seen, false, n->now_ns))
		rp->lease |= FS_LEASE_NAME;
}

void node_cache_gone(struct node *n, struct session *s, const struct msg *m)
{
	struct peer *p = node_peer(n, s->peer);

	if (!n->vol || !p || s != session_from(n->sessions, s->peer))
		return;
	for (uint32_t i = 0; i < m->cache.count; i++)
		cache_lease_gone(&n->cache_leases, m->cache.inos[i], (uint32_t)(p - n->peers), m->tag);
}

static void send_recalls(struct node *n, uint32_t idx, struct effects *fx)
{
	struct session *to = session_from(n->sessions, n->peers[idx].node);
	uint64_t inos[WIRE_INOS_MAX];
	struct msg m = {.type = MSG_CACHE_RECALL, .cache.inos = inos};

	while (effects_room(fx, 80, 64u << 10)) {
		m.cache.count = cache_lease_unsent(&n->cache_leases, idx, inos, WIRE_INOS_MAX, &m.tag);
		if (!m.cache.count)
			return;
		/* No session: nothing arrives there, and its time runs out. */
		if (to)
			(void)session_send(to, &m, 0, 0, fx);
	}
}

/* True: who waited may go on. */
bool node_cache_serve_step(struct node *n, struct effects *fx)
{
	struct cache_lease_table *t = &n->cache_leases;
	bool freed;

	cache_lease_step(t, n->now_ns);
	if (!list_empty(&t->asked)) {
		for (uint32_t i = 0; i < NODES_MAX; i++) {
			if (n->peers[i].node)
				send_recalls(n, i, fx);
		}
	}
	freed = t->freed;
	t->freed = false;
	return freed;
}

void node_cache_cut(struct node *n, const struct peer *p)
{
	cache_lease_cut(&n->cache_leases, (uint32_t)(p - n->peers), n->now_ns);
}
