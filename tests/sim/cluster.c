/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cluster.c - the model of corosync: rings, quorum, the group of our daemons, messages in total order.
 *
 * Corosync runs on each node and has a life of its own: it goes on when our daemon dies, and dies and comes
 * back under a daemon that lives. When nodes come or go, those that are left form a ring with a new id. A
 * daemon that joins or leaves the group changes the group's configuration, and neither the ring nor the quorum.
 *
 * The CPG and the quorum callback of one ring come in either order, and not at the same time on every node.
 * Messages, joins and leaves are in one order, with the group's configurations among them (virtual synchrony),
 * and stand still in a ring that has lost a member until a new one is formed: the token does not come round.
 * What waits then goes out in the new ring.
 *
 * tests/shell/test_cpg_model.c runs the same scripts here and on real corosyncs.
 */
#include <string.h>

#include "tests/sim/sim.h"

/* ------------------------------------------------------------------ what a daemon is told */

struct conf_note {
	struct snode *n;
	struct cpg_conf conf;
	enum ev_type type;
	uint32_t coro_life;
};

static void conf_deliver(struct sim *s, void *arg)
{
	struct conf_note *c = arg;
	struct event ev = {.type = c->type, .conf = c->conf};
	struct snode *n = c->n;

	/* Of a corosync that has died nothing comes any more. */
	if (n->up && n->coro.life == c->coro_life) {
		sim_log(s, "%s: %s of ring %u.%lu, %u members%s", n->name,
			c->type == EV_QUORUM ? "quorum" : "group", c->conf.ring_node,
			c->conf.ring_seq, c->conf.member_count, c->conf.quorate ? ", quorate" : "");
		node_feed(s, n, &ev);
	}
	sim_free(c);
}

static bool in_group(const struct snode *n)
{
	return n->coro.up && n->coro.member && n->coro.member == n->life_nr;
}

static bool same_ring(const struct snode *a, const struct snode *b)
{
	return a->coro.up && b->coro.up && a->coro.ring_seq == b->coro.ring_seq &&
	       a->coro.ring_node == b->coro.ring_node;
}

bool cluster_together(const struct snode *a, const struct snode *b)
{
	return a->side == b->side && same_ring(a, b);
}

static void conf_send(struct sim *s, struct snode *n, enum ev_type type, uint64_t delay)
{
	struct conf_note *c = sim_alloc(s, sizeof(*c));
	struct cpg_conf *conf = &c->conf;
	uint64_t at;

	c->n = n;
	c->type = type;
	c->coro_life = n->coro.life;
	conf->ring_seq = n->coro.ring_seq;
	conf->ring_node = n->coro.ring_node;
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		if (same_ring(&s->n[i], n) && (type == EV_QUORUM || in_group(&s->n[i])))
			conf->members[conf->member_count++] = i;
	}
	/* two_node: one of two is quorate, once both have been seen together (wait_for_all) */
	if (type == EV_QUORUM)
		conf->quorate = s->plan.two_node ? n->coro.seen_all
						 : 2 * conf->member_count > s->plan.nodes;
	/* Of one kind they come in order. */
	at = (s->now_ns > n->late_until ? s->now_ns : n->late_until) + delay;
	if (at < n->last_conf[type == EV_QUORUM])
		at = n->last_conf[type == EV_QUORUM];
	n->last_conf[type == EV_QUORUM] = at;
	sim_at_node(s, n, at, conf_deliver, c);
}

static void group_changed(struct sim *s, const struct snode *n)
{
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		struct snode *m = &s->n[i];

		if (same_ring(m, n) && in_group(m))
			conf_send(s, m, EV_CPG_CONF, sim_delay(s, MS, 200 * MS));
	}
}

/* ------------------------------------------------------------------ what is in the order of messages */

enum sent { SENT_TEXT, SENT_JOIN, SENT_LEAVE };

struct cpg_sent {
	struct list link;
	enum sent what;
	struct snode *from;
	uint64_t life_nr;
	uint32_t coro_life, len;
	uint8_t bytes[];
};

struct msg_note {
	struct snode *n;
	uint32_t from, len, coro_life;
	uint8_t bytes[];
};

static void msg_deliver(struct sim *s, void *arg)
{
	struct msg_note *c = arg;
	struct event ev = {.type = EV_CPG_MSG};

	ev.msg.node = c->from;
	ev.msg.bytes = c->bytes;
	ev.msg.len = c->len;
	if (c->n->up && c->n->coro.life == c->coro_life)
		node_feed(s, c->n, &ev);
	sim_free(c);
}

static void text_ordered(struct sim *s, const struct cpg_sent *m)
{
	bool unheard = aimed_unheard(s, m->from, m->bytes, m->len);

	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		struct snode *n = &s->n[i];
		struct msg_note *c;
		uint64_t at;

		if (!same_ring(n, m->from) || !in_group(n) || (unheard && n != m->from))
			continue;
		c = sim_alloc(s, sizeof(*c) + m->len);
		c->n = n;
		c->coro_life = n->coro.life;
		c->from = m->from->id;
		c->len = m->len;
		memcpy(c->bytes, m->bytes, m->len);
		/*
		 * The group's own configurations are in the order of messages, too: what was sent in a
		 * new one comes behind it. One delay for all else keeps the order.
		 */
		at = s->now_ns + 100 * 1000;
		if (at < n->last_conf[0])
			at = n->last_conf[0];
		n->last_conf[0] = at;
		sim_at_node(s, n, at, msg_deliver, c);
	}
}

/* The moment at which the total order is decided: everybody gets it from here, in this order. */
static void ordered(struct sim *s, const struct cpg_sent *m)
{
	struct snode *n = m->from;

	switch (m->what) {
	case SENT_TEXT:
		/* Who dies as it sends has sent it, or has not. */
		if (n->life_nr == m->life_nr || !chance(s, 50))
			text_ordered(s, m);
		return;
	case SENT_JOIN:
		if (n->life_nr != m->life_nr)
			return;
		n->coro.member = m->life_nr;
		break;
	case SENT_LEAVE:
		if (n->coro.member != m->life_nr)
			return;
		n->coro.member = 0;
		break;
	}
	group_changed(s, n);
}

/* Does the token come round? */
static bool ring_whole(const struct sim *s, const struct snode *n)
{
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		const struct snode *m = &s->n[i];

		if (!(n->coro.ring & 1u << i))
			continue;
		if (!same_ring(m, n) || m->side != n->side ||
			(m->frozen && m->paused_until > s->now_ns))
			return false;
	}
	return true;
}

static void flush(struct sim *s, void *arg)
{
	struct snode *n = arg;

	n->coro.flushing = false;
	list_for_each_entry_safe (m, tmp, &n->coro.sent, struct cpg_sent, link) {
		if (m->coro_life == n->coro.life && !ring_whole(s, n)) {
			n->coro.flushing = true;
			sim_at(s, s->now_ns + 20 * MS, flush, n);
			return;
		}
		list_del(&m->link);
		if (m->coro_life == n->coro.life)
			ordered(s, m);
		sim_free(m);
	}
}

static void arrives(struct sim *s, void *arg)
{
	struct cpg_sent *m = arg;

	list_add_tail(&m->link, &m->from->coro.sent);
	if (!m->from->coro.flushing)
		flush(s, m->from);
}

static void send(struct sim *s, struct snode *n, enum sent what, uint64_t life_nr,
	const void *bytes, uint32_t len)
{
	struct cpg_sent *m;

	if (!n->coro.up)
		return;
	m = sim_alloc(s, sizeof(*m) + len);
	m->what = what;
	m->from = n;
	m->life_nr = life_nr;
	m->coro_life = n->coro.life;
	m->len = len;
	if (len)
		memcpy(m->bytes, bytes, len);
	/* A constant delay: one sender's messages keep their order. */
	sim_at(s, s->now_ns + 300 * 1000, arrives, m);
}

void cluster_send(struct sim *s, struct snode *n, const void *bytes, uint32_t len)
{
	send(s, n, SENT_TEXT, n->life_nr, bytes, len);
}

/* ------------------------------------------------------------------ rings */

static uint32_t reachable(const struct sim *s, const struct snode *n)
{
	uint32_t ring = 1u << n->id;

	for (uint32_t i = 1; i <= s->plan.nodes && !n->coro.alone; i++) {
		const struct snode *m = &s->n[i];

		if (m->coro.up && !m->coro.alone && m->side == n->side)
			ring |= 1u << i;
	}
	return ring;
}

void cluster_change(struct sim *s)
{
	uint32_t fresh = 0, all = (1u << (s->plan.nodes + 1)) - 2;

	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		const struct snode *n = &s->n[i];
		uint32_t ring = reachable(s, n);

		if (n->coro.up && ring != n->coro.ring)
			fresh |= ring;
	}
	if (!fresh)
		return;
	s->ring_seq += 4;
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		struct snode *n = &s->n[i];

		if (!n->coro.up || !(fresh & 1u << i))
			continue;
		n->coro.ring = reachable(s, n);
		n->coro.ring_seq = s->ring_seq;
		n->coro.ring_node = (uint32_t)__builtin_ctz(n->coro.ring);
		n->coro.seen_all |= n->coro.ring == all;
	}
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		struct snode *n = &s->n[i];
		uint64_t a = sim_delay(s, 1 * MS, 200 * MS), b = sim_delay(s, 1 * MS, 200 * MS);

		if (!n->coro.up || !(fresh & 1u << i) || !n->up)
			continue;
		if (in_group(n))
			conf_send(s, n, EV_CPG_CONF, a);
		conf_send(s, n, EV_QUORUM, b);
	}
}

static void no_longer_alone(struct sim *s, void *arg)
{
	struct snode *n = arg;

	n->coro.alone = false;
	cluster_change(s);
}

void cluster_start(struct sim *s, struct snode *n, bool alone)
{
	if (n->coro.up)
		return;
	n->coro.up = true;
	n->coro.life++;
	n->coro.ring = 0;
	n->coro.member = 0;
	n->coro.seen_all = false;
	n->coro.alone = alone;
	if (!n->coro.sent.next)
		list_init(&n->coro.sent);
	if (alone)
		sim_at(s, s->now_ns + 100 * MS + draw(s, 700) * MS, no_longer_alone, n);
	cluster_change(s);
}

static void down_deliver(struct sim *s, void *arg)
{
	struct snode *n = arg;
	struct event ev = {.type = EV_CPG_DOWN};

	sim_log(s, "%s: corosync is down", n->name);
	node_feed(s, n, &ev);
}

void cluster_stop(struct sim *s, struct snode *n)
{
	if (!n->coro.up)
		return;
	n->coro.up = false;
	n->coro.life++;
	n->coro.member = 0;
	if (n->up)
		sim_at_node(s, n, s->now_ns + sim_delay(s, MS, 20 * MS), down_deliver, n);
}

void cluster_join(struct sim *s, struct snode *n)
{
	if (!n->coro.up) {
		sim_at_node(s, n, s->now_ns + MS, down_deliver, n);
		return;
	}
	send(s, n, SENT_JOIN, n->life_nr, NULL, 0);
	conf_send(s, n, EV_QUORUM, sim_delay(s, MS, 200 * MS));
}

void cluster_leave(struct sim *s, struct snode *n, uint64_t life_nr)
{
	send(s, n, SENT_LEAVE, life_nr, NULL, 0);
}
