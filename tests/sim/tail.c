/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tail.c - on each node somebody follows the file to which all porters append, as tail -f does.
 *
 * In between it reads the beginning of the file again: with the answer it learns how long the file is. What it reads is
 * records, never the zeros of a place whose data is not there yet, whatever is lost meanwhile. An append that ends in an error
 * leaves such a place, and one whose node is lost or given up, or that takes longer than others wait for it: from the
 * first such on that is not looked at any more.
 *
 * With --set follow=1 the beginning is a hole, so there is an answer each time, and what it made known is read at once, one
 * record: no more than what it said there is.
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

static bool may_be_zeros(const struct sim *s)
{
	const struct sim_plan *pl = &s->plan;

	return s->append_failed || s->media_errors || pl->hold_ns || pl->tight || more_append_is_old(s, APPEND_NS);
}

static void look(struct sim *s, void *arg);

static void got(struct sim *s, void *arg, int32_t result)
{
	struct tail *t = arg;
	uint32_t at;

	if (result < 0 || may_be_zeros(s))
		return;
	for (at = 0; at + t->record <= (uint32_t)result; at += t->record) {
		bool zero = !t->again || !s->plan.follow;

		for (uint32_t i = 0; i < t->record; i++)
			zero &= !t->buf[at + i];
		if (zero)
			sim_fail(s, "%s tail: the record at %lu is zeros", t->n->name, t->at + at);
		s->tailed++;
	}
	if (!t->again)
		t->at += at;
	sim_at_node(s, t->n, s->now_ns + (t->again && s->plan.follow ? 0 : EVERY_NS), look, t);
}

static void look(struct sim *s, void *arg)
{
	struct tail *t = arg;

	if (!t->n->up || t->n->life_nr != t->life || s->healing || s->failed || may_be_zeros(s))
		return;
	t->again = !t->again && t->at;
	node_io(s, t->n, t->ino, 0, false, false, t->again ? 0 : t->at,
		t->again || s->plan.follow ? t->record : BYTES / t->record * t->record, t->buf, got, t);
}

void tail_follow(struct sim *s, struct snode *n, uint64_t ino, uint32_t record)
{
	struct tail *t = sim_alloc(s, sizeof(*t));

	t->s = s;
	t->n = n;
	t->life = n->life_nr;
	t->ino = ino;
	t->record = record;
	t->at = more_records_at(s);
	look(s, t);
}
