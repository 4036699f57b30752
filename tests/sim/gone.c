/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gone.c - the oracle of invariant 9 for who died with writes under way.
 *
 * What such a node has sent may land until it is fenced. Who gets a layout of the file after the coordinator has given that
 * node up gets it when nothing of it can land any more: so what is acknowledged to him then is not overwritten. Who
 * had one before keeps it, and writes beside it: there the last writes of the dead may still show (PROTOCOL.md). Who had
 * one is looked up in the coordinator, at the first step in which it knows that the node is gone.
 *
 * Whoever opens the file when its own node knows that the other one is gone has waited for the same, whatever its node had before
 * (node_reopen.c), and whoever coordinates: what it has read does not change any more either.
 *
 * And when a coordinator has given up a node that lives, what its killed processes have asked for is over: it asks for it no more.
 */
#include "csvfs/node_int.h"
#include "tests/sim/load_int.h"

void gone_died(struct sim *s, struct snode *n)
{
	struct gone *g = &s->load->gone[n->id];

	*g = (struct gone){.life = n->core->cfg.life, .death = ++s->load->deaths, .looking = true};
}

void gone_killed(struct sim *s, struct snode *n)
{
	s->load->killed[n->id] = n->core->cfg.life;
}

static uint32_t holders(struct sim *s, const struct node *core, uint32_t file)
{
	struct lease_ino *li = s->load->ino[file] ? lease_find(&core->leases, s->load->ino[file]) : NULL;
	uint32_t mask = 0;

	for (uint32_t i = 0; li && i < core->peers_end; i++) {
		if (li->holder_mask & 1ull << i)
			mask |= 1u << core->peers[i].node;
	}
	return mask;
}

static bool knows(struct node *core, uint32_t node, uint64_t life)
{
	const struct peer *p = node_peer(core, node);

	return p && p->life == life && !p->evicted_ns;
}

static bool sees(const struct node *core, uint32_t node, uint64_t life)
{
	const struct member_node *m = member_find(&core->member, node);

	return !member_view(&core->member)->quorate || (m && m->member && m->state.life == life);
}

/* One that was cut off may not know yet that another one coordinates. */
static bool newest(struct sim *s, const struct snode *n)
{
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		if (s->n[i].up && takeover_epoch(s->n[i].core->tk) > takeover_epoch(n->core->tk))
			return false;
	}
	return true;
}

/* Who lives, and whose killed processes had something under way. */
static void look_at_killed(struct sim *s, struct snode *n)
{
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		uint64_t *life = &s->load->killed[i];

		if (!*life || knows(n->core, i, *life) || !newest(s, n))
			continue;
		*life = 0;
		registers_killed_ends(s, &s->n[i]);
	}
}

void gone_look(struct sim *s, struct snode *n)
{
	for (uint32_t i = 1; i <= s->plan.nodes && n->up && s->load->deaths; i++) {
		struct gone *g = &s->load->gone[i];

		if (i != n->id && g->death && !g->known_ns[n->id] && !sees(n->core, i, g->life))
			g->known_ns[n->id] = s->now_ns;
	}
	if (!n->up || node_office(n->core) != OFFICE_SERVES)
		return;
	look_at_killed(s, n);
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		struct gone *g = &s->load->gone[i];

		if (!g->looking || knows(n->core, i, g->life))
			continue;
		g->looking = false;
		g->given = true;
		/* Its next life is none of those. */
		for (uint32_t f = 0; f < s->plan.files; f++)
			g->held[f] = holders(s, n->core, f) & ~(1u << i);
	}
}

static const struct gone *gone_of(const struct client *c, const struct entry *e)
{
	const struct gone *g = &c->s->load->gone[e->by];

	return e->death && e->death == g->death ? g : NULL;
}

bool gone_before_open(const struct client *c, const struct entry *e)
{
	const struct gone *g = gone_of(c, e);

	return g && g->known_ns[c->n->id] && c->opened_ns[c->file] > g->known_ns[c->n->id];
}

bool gone_is_over(const struct client *c, const struct entry *e)
{
	const struct gone *g = gone_of(c, e);

	return (g && g->given && !(g->held[c->file] & 1u << c->n->id)) || gone_before_open(c, e);
}
