/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_reclaim.c - tells a coordinator that takes over what this node holds: a part per step, then the end; SERVE is the answer.
 *
 * All of it is said, however many steps that takes. A range that was left out would be nobody's there: it would be told to others as zeros,
 * though what was first-written in it is answered, and not committed yet.
 */
#include <string.h>

#include "csvfs/node_int.h"

#define MESSAGE_BYTES (32u << 10)
_Static_assert(2 * WIRE_RANGES_MAX * 16 < MESSAGE_BYTES - 4096, "a RECLAIM with all its ranges");

void node_reclaim_begin(struct node *n, enum reclaim_st st)
{
	n->reclaim = st;
	n->reclaim_at = NULL;
	n->reclaim_count = 0;
	n->reclaim_part.ino = 0;
}

/* The first that is not said yet, or the list itself. */
static struct list *ranges_from(struct list *l, uint64_t off)
{
	list_for_each_entry (r, l, struct frange, link) {
		if (r->off >= off)
			return &r->link;
	}
	return l;
}

static uint64_t offset_at(const struct list *l, const struct list *at)
{
	return at == l ? NEVER : list_entry(at, struct frange, link)->off;
}

/* As many as one message takes, from *at on. */
static uint32_t some_ranges(const struct node *n, const struct list *l, struct list **at, struct msg_range *out)
{
	uint32_t count = 0;

	for (; *at != l && count < n->cfg.reclaim_ranges; *at = (*at)->next) {
		const struct frange *r = list_entry(*at, struct frange, link);

		out[count++] = (struct msg_range){r->off, r->len};
	}
	return count;
}

/* With many ranges in several messages. False: no room for more now, and it goes on there in the next step. */
static bool reclaim_file(struct node *n, struct file *f, struct effects *fx)
{
	struct msg_range ranges[WIRE_RANGES_MAX], edges[WIRE_RANGES_MAX];
	bool begun = n->reclaim_part.ino == f->ino;
	struct list *owned_at = ranges_from(&f->owned, begun ? n->reclaim_part.owned : 0);
	struct list *edges_at = ranges_from(&f->edges, begun ? n->reclaim_part.edges : 0);
	struct msg m = {0};

	do {
		if (!effects_room(fx, 8, 3 * MESSAGE_BYTES) || (m.type && n->cfg.reclaim_ranges < WIRE_RANGES_MAX)) {
			n->reclaim_part.ino = f->ino;
			n->reclaim_part.owned = offset_at(&f->owned, owned_at);
			n->reclaim_part.edges = offset_at(&f->edges, edges_at);
			return false;
		}
		memset(&m, 0, sizeof(m));
		m.type = MSG_RECLAIM;
		m.reclaim.ino = f->ino;
		m.reclaim.open = true;
		m.reclaim.writes = f->writes;
		/* On its way back: nothing is done under it, and it may have arrived. */
		m.reclaim.holder =
			f->layout != LAYOUT_NONE && f->layout != LAYOUT_RETURNING && !f->voided;
		m.reclaim.blank = m.reclaim.holder;
		m.reclaim.ranges = ranges;
		m.reclaim.edges = edges;
		if (m.reclaim.holder) {
			m.reclaim.range_count = some_ranges(n, &f->owned, &owned_at, ranges);
			m.reclaim.edge_count = some_ranges(n, &f->edges, &edges_at, edges);
		}
		(void)session_send(n->coord, &m, 0, 0, fx);
		n->reclaim_count++;
	} while (m.reclaim.holder && (owned_at != &f->owned || edges_at != &f->edges));
	n->reclaim_part.ino = 0;
	return true;
}

void node_reclaim_send(struct node *n, struct effects *fx)
{
	struct msg m = {0};
	struct file *f = n->reclaim_at;

	/* If our registration is gone we were given up, and path_step() forgets what we hold. */
	if (n->reclaim == RECLAIM_LOOKING &&
		(n->path.st != PST_UP || n->path.looks > n->reclaim_look) && !n->path.key_gone)
		n->reclaim = RECLAIM_SENDING;
	n->fence_first &= n->path.unfenced != 0;
	if (n->reclaim != RECLAIM_SENDING || n->coord->state != SESSION_UP || n->fence_first || node_carry_holds(n, fx))
		return;
	for (f = node_file_next(n, f); f; f = node_file_next(n, f)) {
		if (f->st != FILE_OPENING && !reclaim_file(n, f, fx))
			return;
		n->reclaim_at = f;
	}
	/* Together with the end: between the two none may come or go. */
	if (!effects_room(fx, 80 + n->held.count / WIRE_LOCKS_MAX, (1u << 20) + n->held.count * 64))
		return;
	node_held_reclaim(n, fx);
	node_append_reclaim(n, fx);
	memset(&m, 0, sizeof(m));
	m.type = MSG_RECLAIM_END;
	m.reclaim_end.count = n->reclaim_count;
	(void)session_send(n->coord, &m, 0, 0, fx);
	n->reclaim = RECLAIM_SENT;
	n->reclaim_at = NULL;
	trace(n->trace, TRACE_INFO, "reclaimed %u files at node %u", n->reclaim_count,
		n->coord->peer);
}
