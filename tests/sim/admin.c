/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * admin.c - administrators: what they ask of a node with csvctl, and the oracle: each question is answered once, unless
 * its node dies. What they are told is not looked at here: they need not get what they ask for.
 */
#include "tests/sim/sim.h"

#define TAG_ADMIN (1ull << 61)

struct asked {
	struct list link;
	struct snode *n;
	uint64_t tag, life, at_ns;
	enum ctl_op op;
};

/* Questions draw from a generator of their own. */
static uint64_t adraw(struct sim *s, uint64_t n)
{
	return prng_below(&s->admins.rng, n);
}

void admins_create(struct sim *s)
{
	list_init(&s->admins.asked);
	s->admins.rng.s = s->seed * 0xd1342543de82ef95ull + 11;
}

void admin_ask(struct sim *s, struct snode *n, const struct ctl_request *rq)
{
	struct event ev = {.type = EV_CTL, .ctl = *rq, .tag = TAG_ADMIN | ++s->admins.count};
	struct asked *a = sim_alloc(s, sizeof(*a));

	*a = (struct asked){.n = n, .tag = ev.tag, .life = n->life_nr, .at_ns = s->now_ns, .op = rq->op};
	list_add_tail(&a->link, &s->admins.asked);
	s->controls++;
	sim_log(s, "node %u: csvctl request %d '%s'%s, %lu bytes", n->id, (int)rq->op, rq->name,
		rq->on ? ", on" : "", rq->bytes);
	node_feed(s, n, &ev);
}

void admin_answered(struct sim *s, struct snode *n, const struct effect *e)
{
	sim_log(s, "%s: %.*s", n->name, (int)e->net.len, (const char *)e->net.bytes);
	/* With a tag it is an administrator's question, without one the simulator's own. */
	if (!e->tag)
		return;
	list_for_each_entry (a, &s->admins.asked, struct asked, link) {
		if (a->n != n || a->tag != e->tag)
			continue;
		list_del(&a->link);
		sim_free(a);
		return;
	}
	sim_fail(s, "%s: csvctl was answered twice", n->name);
}

void admins_node_down(struct sim *s, struct snode *n)
{
	list_for_each_entry_safe (a, tmp, &s->admins.asked, struct asked, link) {
		if (a->n != n)
			continue;
		list_del(&a->link);
		sim_free(a);
	}
}

bool admins_idle(const struct sim *s)
{
	return list_empty(&s->admins.asked);
}

/*
 * Who missed that it was stopped or has ended would begin one when he coordinates, months later. What the others know while
 * nobody coordinates counts when somebody does.
 */
bool admins_agree(const struct sim *s)
{
	const struct snode *c = NULL;

	for (uint32_t i = 1; i <= s->plan.nodes; i++)
		if (s->n[i].up && node_coordinates(s->n[i].core))
			c = &s->n[i];
	for (uint32_t i = 1; c && i <= s->plan.nodes; i++)
		if (s->n[i].up && node_admin_scrub_wanted(s->n[i].core) != node_admin_scrub_wanted(c->core))
			return false;
	return c;
}

void admins_say_stuck(struct sim *s)
{
	list_for_each_entry (a, &s->admins.asked, struct asked, link)
		sim_log(s, "%s: csvctl request %d, since %lu us", a->n->name, (int)a->op, a->at_ns / 1000);
	for (uint32_t i = 1; i <= s->plan.nodes; i++)
		if (s->n[i].up)
			sim_log(s, "%s: a scrub is%s wanted", s->n[i].name, node_admin_scrub_wanted(s->n[i].core) ? "" : " not");
}

/* ------------------------------------------------------------------ what they do */

struct undo {
	struct snode *n;
	uint64_t life;
	enum ctl_op op;
};

static void undo(struct sim *s, void *arg)
{
	struct undo *u = arg;
	struct ctl_request rq = {.op = u->op};

	if (u->n->up && u->n->life_nr == u->life)
		admin_ask(s, u->n, &rq);
	sim_free(u);
}

/* For a while: a pause also for longer than a recall has time. */
static void hold_or_redirect(struct sim *s, struct snode *n)
{
	struct ctl_request rq = {.op = adraw(s, 2) ? CTL_PAUSE : CTL_REDIRECT, .on = true};
	struct undo *u = sim_alloc(s, sizeof(*u));

	*u = (struct undo){n, n->life_nr, rq.op == CTL_PAUSE ? CTL_RESUME : CTL_REDIRECT};
	sim_at(s, s->now_ns + 50 * MS + adraw(s, rq.op == CTL_PAUSE ? 20000 : 4000) * MS, undo, u);
	admin_ask(s, n, &rq);
}

static void move(struct sim *s, struct snode *n)
{
	struct ctl_request rq = {.op = CTL_MOVE};

	trace_format(rq.name, sizeof(rq.name), "n%lu", 1 + adraw(s, s->plan.nodes + 1));
	admin_ask(s, n, &rq);
}

static void scrub(struct sim *s, struct snode *n)
{
	static const char *const what[] = {"start", "start", "status", "stop"};
	struct ctl_request rq = {.op = CTL_SCRUB};

	trace_format(rq.name, sizeof(rq.name), "%s", what[adraw(s, 4)]);
	admin_ask(s, n, &rq);
}

/* To a size that may be too small, too large, or that of the LUN; or only to be told what would happen. */
static void grow(struct sim *s, struct snode *n)
{
	struct ctl_request rq = {.op = CTL_GROW, .on = adraw(s, 3) == 0};

	if (adraw(s, 2))
		rq.bytes = SIM_VOLUME_BYTES / 64 * (44 + adraw(s, 24));
	admin_ask(s, n, &rq);
}

static void next_question(struct sim *s, void *arg)
{
	struct snode *n = &s->n[1 + adraw(s, s->plan.nodes)];
	struct ctl_request rq = {.op = CTL_STATE};

	(void)arg;
	if (s->healing)
		return;
	sim_at(s, s->now_ns + 100 * MS + adraw(s, 3000) * MS, next_question, NULL);
	if (!n->up || n->stopping)
		return;
	switch (adraw(s, 16)) {
	case 0:
		move(s, n);
		return;
	case 1:
		hold_or_redirect(s, n);
		return;
	case 2:
	case 3:
	case 4:
		admin_ask(s, n, &rq);
		return;
	case 5:
	case 6:
	case 7:
	case 8:
		grow(s, n);
		return;
	default:
		scrub(s, n);
		return;
	}
}

void admins_start(struct sim *s)
{
	if (s->plan.ctl)
		sim_at(s, s->now_ns + 2 * SEC, next_question, NULL);
}
