/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tail.c - on each node somebody follows the file to which all porters append, as tail -f does.
 *
 * In between it reads the beginning of the file again: with the answer it learns how long the file is. What it reads is records, never the zeros of a place whose data is not there yet. An append that ends in an error leaves
 * such a place, and so may one during which its node, its path or the coordinator is lost: from the first
 * fault on that is not looked at any more.
 */
#include <string.h>

#include "tests/sim/sim.h"

#define EVERY_NS (11 * MS)
#define BYTES 8192u

struct tail {
	struct sim *s;
	struct snode *n;
	uint64_t life, ino, at;
	uint32_t record;
	bool again; /* from the beginning */
	uint8_t buf[BYTES];
};

static bool rough(const struct sim *s)
{
	const struct sim_plan *pl = &s->plan;

	for (uint32_t i = 1; i <= pl->nodes; i++) {
		if (s->n[i].losses)
			return true;
	}
	return s->crashes || s->path_losses || s->partitions || s->pauses || s->moves || s->san_losses || s->hangs ||
	       s->port_cuts || s->slow_luns || s->slow_net_node || s->flaps || s->coro_restarts || s->ring_cuts || s->media_errors ||
	       s->spoilt || pl->hold_ns || pl->tight || s->append_failed;
}

static void look(struct sim *s, void *arg);

static void got(struct sim *s, void *arg, int32_t result)
{
	struct tail *t = arg;
	uint32_t at;

	if (result < 0 || rough(s))
		return;
	for (at = 0; at + t->record <= (uint32_t)result; at += t->record) {
		bool zero = true;

		for (uint32_t i = 0; i < t->record; i++)
			zero &= !t->buf[at + i];
		if (zero)
			sim_fail(s, "%s tail: the record at %lu is zeros", t->n->name, t->at + at);
		s->tailed++;
	}
	if (!t->again)
		t->at += at;
	sim_at_node(s, t->n, s->now_ns + EVERY_NS, look, t);
}

static void look(struct sim *s, void *arg)
{
	struct tail *t = arg;

	if (!t->n->up || t->n->life_nr != t->life || s->healing || s->failed || rough(s))
		return;
	t->again = !t->again && t->at;
	node_io(s, t->n, t->ino, 0, false, false, t->again ? 0 : t->at,
		t->again ? t->record : BYTES / t->record * t->record, t->buf, got, t);
}

void tail_follow(struct sim *s, struct snode *n, uint64_t ino, uint32_t record)
{
	struct tail *t = sim_alloc(s, sizeof(*t));

	t->s = s;
	t->n = n;
	t->life = n->life_nr;
	t->ino = ino;
	t->record = record;
	look(s, t);
}
