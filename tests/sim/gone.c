/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gone.c - the oracle of invariant 9 for who died with writes under way.
 *
 * What such a node has sent may land until it is fenced. Who gets a layout of the file after the coordinator has given that
 * node up gets it when nothing of it can land any more: so what is acknowledged to him then is not overwritten. Who
 * had one before keeps it, and writes beside it: there the last writes of the dead may still show (PROTOCOL.md). Who had
 * one is looked up in the coordinator, at the first step in which it knows that the node is gone.
 */
#include "csvfs/node_int.h"
#include "tests/sim/load_int.h"

void gone_died(struct sim *s, struct snode *n)
{
	struct gone *g = &s->load->gone[n->id];

	*g = (struct gone){.life = n->core->cfg.life, .death = ++s->load->deaths, .looking = true};
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

void gone_look(struct sim *s, struct snode *n)
{
	if (!n->up || node_office(n->core) != OFFICE_SERVES)
		return;
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

bool gone_is_over(const struct client *c, const struct entry *e)
{
	const struct gone *g = &c->s->load->gone[e->by];

	return e->death && e->death == g->death && g->given && !(g->held[c->file] & 1u << c->n->id);
}
