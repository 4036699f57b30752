/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cluster.c - the model of corosync: views, quorum, messages in total order within a partition.
 *
 * A change of membership gets a new ring id. The CPG and the quorum callback come in either order, and
 * not at the same time on every node. A message is delivered to every member of the sender's
 * partition, or, when the sender dies as it sends, to all or to none.
 */
#include <string.h>

#include "tests/sim/sim.h"

struct conf_note {
	struct snode *n;
	struct cpg_conf conf;
	enum ev_type type;
};

static void conf_deliver(struct sim *s, void *arg)
{
	struct conf_note *c = arg;
	struct event ev = {.type = c->type, .conf = c->conf};
	struct snode *n = c->n;

	sim_log(s, "%s: %s of ring %u.%lu, %u members%s", n->name,
		c->type == EV_QUORUM ? "quorum" : "group", c->conf.ring_node, c->conf.ring_seq,
		c->conf.member_count, c->conf.quorate ? ", quorate" : "");
	if (n->up)
		node_feed(s, n, &ev);
	sim_free(c);
}

static bool alive(const struct snode *n)
{
	return n->up && n->in_group;
}

static void conf_send(struct sim *s, struct snode *n, enum ev_type type, uint64_t delay)
{
	struct conf_note *c = sim_alloc(s, sizeof(*c));
	uint32_t total = 0;
	uint64_t at;

	c->n = n;
	c->type = type;
	c->conf.ring_seq = s->ring_seq;
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		struct snode *m = &s->n[i];
		/* corosync itself runs on while only our daemon is down, unless the node crashed */
		bool there = type == EV_QUORUM ? m->up || m->in_group : alive(m);

		if (!there || m->side != n->side)
			continue;
		if (!c->conf.ring_node)
			c->conf.ring_node = i;
		c->conf.members[c->conf.member_count++] = i;
		total++;
	}
	/* two_node: one of two is quorate, once both have been seen together (wait_for_all) */
	if (total == s->plan.nodes)
		n->seen_all = true;
	c->conf.quorate = s->plan.two_node ? n->seen_all : 2 * total > s->plan.nodes;
	/* Of one kind they come in order. */
	at = s->now_ns + delay;
	if (at < n->last_conf[type == EV_QUORUM])
		at = n->last_conf[type == EV_QUORUM];
	n->last_conf[type == EV_QUORUM] = at;
	sim_at_node(s, n, at, conf_deliver, c);
}

void cluster_change(struct sim *s)
{
	s->ring_seq += 4;
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		struct snode *n = &s->n[i];
		uint64_t a = sim_delay(s, 1 * MS, 200 * MS), b = sim_delay(s, 1 * MS, 200 * MS);

		if (!n->up)
			continue;
		if (n->in_group)
			conf_send(s, n, EV_CPG_CONF, a);
		conf_send(s, n, EV_QUORUM, b);
	}
}

void cluster_join(struct sim *s, struct snode *n)
{
	n->in_group = true;
	cluster_change(s);
}

struct cpg_note {
	struct snode *n;
	uint32_t from, len;
	uint64_t ring;
	uint8_t bytes[];
};

static void msg_deliver(struct sim *s, void *arg)
{
	struct cpg_note *c = arg;
	struct event ev = {.type = EV_CPG_MSG};

	ev.msg.node = c->from;
	ev.msg.bytes = c->bytes;
	ev.msg.len = c->len;
	if (alive(c->n))
		node_feed(s, c->n, &ev);
	sim_free(c);
}

struct cpg_send {
	uint32_t from, side, len;
	uint64_t life_nr;
	uint8_t bytes[CPG_MSG_MAX];
};

/* The moment at which the total order is decided: everybody gets it from here, in this order. */
static void msg_order(struct sim *s, void *arg)
{
	struct cpg_send *m = arg;
	struct snode *from = &s->n[m->from];

	if (from->side != m->side || (from->life_nr != m->life_nr && chance(s, 50))) {
		sim_free(m);
		return;
	}
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		struct snode *n = &s->n[i];
		struct cpg_note *c;
		uint64_t at;

		if (!alive(n) || n->side != m->side)
			continue;
		c = sim_alloc(s, sizeof(*c) + m->len);
		c->n = n;
		c->from = m->from;
		c->len = m->len;
		memcpy(c->bytes, m->bytes, m->len);
		/*
		 * The group's own configurations are in the order of messages, too (virtual synchrony):
		 * what was sent in a new one comes behind it. One delay for all else keeps the order.
		 */
		at = s->now_ns + 100 * 1000;
		if (at < n->last_conf[0])
			at = n->last_conf[0];
		n->last_conf[0] = at;
		sim_at_node(s, n, at, msg_deliver, c);
	}
	sim_free(m);
}

void cluster_send(struct sim *s, struct snode *n, const void *bytes, uint32_t len)
{
	struct cpg_send *m = sim_alloc(s, sizeof(*m));

	m->from = n->id;
	m->side = n->side;
	m->life_nr = n->life_nr;
	m->len = len;
	memcpy(m->bytes, bytes, len);
	/* A constant delay: one sender's messages keep their order. */
	sim_at(s, s->now_ns + 300 * 1000, msg_order, m);
}
