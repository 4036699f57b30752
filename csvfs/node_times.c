/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_times.c - when a file was written last, across nodes: stat(2) on one shows each write that has returned on
 * another, in place too.
 *
 * A write in place costs no message: its node remembers mtime, and commits it within seconds, with fsync(2), or with the close.
 * So the coordinator asks:
 *
 *   LOOKUP, GETATTR, SETATTR of times -> TIMES to each other node that writes the file -> it commits -> TIMES_TOLD -> the request
 *
 * Rules
 *  1. The coordinator knows who writes: who has the file open, and asked for a layout to write since (write_mask; rule 14 of dp.h).
 *     It is reclaimed.
 *  2. Before a node is given its first one all others forget the file's attributes; while it has it, no other node may keep them
 *     (coordinator/PROTOCOL.md, "Cache leases").
 *  3. A node answers when all that had been written as it was asked is committed. One whose session breaks is asked again when it
 *     is served again. Nobody waits longer than ASK_NS (it hangs, or is cut off), nor for who has left.
 *  4. What SETATTR says comes after what was written before it: its own node commits that first (node_file_in_turn()).
 *  5. Who drains asks nobody, and so does not answer what would have to be asked for: the next coordinator does.
 */
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/node_int.h"

#define BIT(idx) (1ull << (idx))

/* As long as others' memory of a file is waited for. */
#define ASK_NS CACHE_LEASE_OVER_NS

/* Who writes: first what the data path has not told (FX_TIMES), then node_file_commit_times(). */
static void look(struct node *n, uint64_t ino, uint64_t nr, struct effects *fx)
{
	effects_add(fx, FX_TIMES, nr)->layout.ino = ino;
}

/* ------------------------------------------------------------------ the coordinator */

static uint64_t writers(const struct node *n, uint64_t ino, uint32_t idx)
{
	const struct lease_ino *li = lease_find(&n->leases, ino);

	return li ? li->write_mask & ~BIT(idx) : 0;
}

bool node_times_change(const struct node *n, uint64_t ino, uint32_t idx)
{
	return writers(n, ino, idx) != 0;
}

bool node_times_may_write(struct node *n, struct lease_ino *li, struct sreq *s)
{
	node_cache_no_wait(n, s);
	if ((li->write_mask & BIT(s->idx)) || !(li->open_mask & BIT(s->idx)))
		return true;
	if (!cache_lease_change(&n->cache_leases, li->ino, BIT(s->idx), n->now_ns)) {
		s->held[0] = li->ino;
		s->held_count = 1;
		cache_lease_wait(&n->cache_leases, li->ino, true);
		return false;
	}
	li->write_mask |= BIT(s->idx);
	return true;
}

/* Who is not served now is asked when it is. */
static void ask(struct node *n, uint32_t idx, const struct sreq *s, struct effects *fx)
{
	struct msg m = {.type = MSG_TIMES, .tag = s->times_nr, .recall = {.ino = s->times_ino}};
	const struct peer *p = &n->peers[idx];
	struct session *to;

	if (p->node == n->cfg.node) {
		look(n, s->times_ino, s->times_nr, fx);
		return;
	}
	to = p->served ? session_from(n->sessions, p->node) : NULL;
	if (to)
		(void)session_send(to, &m, 0, 0, fx);
}

static bool left(const struct node *n, uint32_t idx)
{
	const struct member_node *m = member_find(&n->member, n->peers[idx].node);

	return !m || !m->member || m->state.life != n->peers[idx].life;
}

/* Those who are served again. */
static void ask_again(struct node *n, struct effects *fx)
{
	n->times_again = false;
	list_for_each_entry (s, &n->times_waiting, struct sreq, waiting) {
		uint64_t mask = s->times_again & s->times_mask;

		for (uint32_t idx = 0; mask && idx < NODES_MAX; idx++) {
			if (!(mask & BIT(idx)))
				continue;
			if (!effects_room(fx, 80, 16384)) {
				n->times_again = n->again = true;
				return;
			}
			s->times_again &= ~BIT(idx);
			ask(n, idx, s, fx);
		}
	}
}

void node_times_again(struct node *n, uint32_t idx, struct effects *fx)
{
	list_for_each_entry (s, &n->times_waiting, struct sreq, waiting)
		s->times_again |= BIT(idx);
	ask_again(n, fx);
}

bool node_times_wait(struct node *n, struct sreq *s, uint64_t ino, struct effects *fx)
{
	uint64_t mask = (s->times_asked && s->times_ino == ino) || s->drop ? 0 : writers(n, ino, s->idx);

	if (!mask)
		return false;
	/* Rule 5. */
	if (takeover_state(n->tk) != TK_SERVE) {
		s->drop = true;
		return false;
	}
	s->times_asked = true;
	/* Of no other term: an answer to a question of before is none to this one. */
	s->times_nr = takeover_epoch(n->tk) << 40 | ++n->times_count;
	s->times_ino = ino;
	s->times_mask = s->times_again = 0;
	for (uint32_t idx = 0; idx < NODES_MAX; idx++) {
		if (!(mask & BIT(idx)) || left(n, idx))
			continue;
		s->times_mask |= BIT(idx);
		ask(n, idx, s, fx);
	}
	if (!s->times_mask)
		return false;
	s->times_due_ns = n->now_ns + ASK_NS;
	s->stage = SREQ_LEASE;
	csv_assert(list_empty(&s->waiting));
	list_add_tail(&s->waiting, &n->times_waiting);
	return true;
}

static void heard(struct node *n, uint32_t idx, uint64_t nr)
{
	list_for_each_entry (s, &n->times_waiting, struct sreq, waiting) {
		if (s->times_nr != nr)
			continue;
		s->times_mask &= ~BIT(idx);
		n->again |= !s->times_mask;
		return;
	}
}

void node_times_message(struct node *n, const struct session *s, const struct msg *m, struct effects *fx)
{
	const struct peer *p = node_peer(n, s->peer);

	if (m->type == MSG_TIMES && s == n->coord)
		look(n, m->recall.ino, m->tag, fx);
	else if (m->type == MSG_TIMES_TOLD && n->vol && p && !s->outgoing)
		heard(n, (uint32_t)(p - n->peers), m->tag);
}

static bool all_left(struct node *n, const struct sreq *s)
{
	for (uint32_t idx = 0; idx < NODES_MAX; idx++) {
		if ((s->times_mask & BIT(idx)) && !left(n, idx))
			return false;
	}
	return true;
}

void node_times_step(struct node *n, struct effects *fx)
{
	if (n->times_again)
		ask_again(n, fx);
	list_for_each_entry_safe (s, tmp, &n->times_waiting, struct sreq, waiting) {
		if (s->times_mask && n->now_ns < s->times_due_ns && !all_left(n, s))
			continue;
		if (!effects_room(fx, 80, 16384)) {
			n->again = true;
			return;
		}
		node_server_again(n, s, fx);
	}
}

uint64_t node_times_deadline(const struct node *n)
{
	if (list_empty(&n->times_waiting))
		return NEVER;
	return list_first_entry(&n->times_waiting, struct sreq, waiting)->times_due_ns;
}

/* ------------------------------------------------------------------ who writes */

void node_times_told(struct node *n, uint64_t nr, struct effects *fx)
{
	struct msg m = {.type = MSG_TIMES_TOLD, .tag = nr};

	if (n->serving_local) {
		const struct peer *self = node_peer(n, n->cfg.node);

		if (self)
			heard(n, (uint32_t)(self - n->peers), nr);
		return;
	}
	if (n->coord)
		(void)session_send(n->coord, &m, 0, 0, fx);
}

void node_times_writes(struct node *n, uint64_t ino)
{
	struct file *f = node_file_find(n, ino);

	if (f)
		f->writes = true;
}
