/* SPDX-License-Identifier: GPL-2.0-or-later */
/* call.c - a call of a process into the file system, and the signal that may end it while it waits. */
#include "tests/sim/sim.h"

struct kill_note {
	struct call *c;
	uint64_t nr, life;
};

static void kill_call(struct sim *s, void *arg)
{
	struct kill_note *k = arg;
	struct call *c = k->c;
	struct event ev = {.type = EV_CANCEL, .tag = c->tag};

	if (c->waits && c->nr == k->nr && c->n->life_nr == k->life) {
		c->killed = true;
		if (c->data)
			node_io_cancel(s, c->n, c->who);
		else
			node_feed(s, c->n, &ev);
	}
	sim_free(k);
}

void call_begins(struct call *c, struct snode *n, const void *who, bool data)
{
	c->n = n;
	c->who = who;
	c->nr++;
	c->data = data;
	c->killed = false;
	c->waits = true;
}

void call_ends(struct call *c)
{
	c->waits = false;
}

void call_may_be_killed(struct sim *s, struct call *c, uint32_t percent)
{
	struct kill_note *k;

	if (!s->plan.kills || !chance(s, percent))
		return;
	k = sim_alloc(s, sizeof(*k));
	*k = (struct kill_note){c, c->nr, c->n->life_nr};
	sim_at_node(s, c->n, s->now_ns + sim_delay(s, 10 * 1000, 4 * SEC), kill_call, k);
}
