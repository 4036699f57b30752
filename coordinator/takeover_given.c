/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * takeover_given.c - who was given up: the list in the claim.
 *
 * A node that is cut off loses its layouts and locks to others. It may not know: without a path there is no key
 * whose absence would tell it. Its coordinator tells it when it comes back; the next coordinator must know, too.
 *
 *	give up --> listed in memory --> claim with it durable --> others are served what it had
 *	it comes back, is told VOID, says that it holds nothing --> off the list --> durable --> it is served
 *
 * Rules
 *  1. Nobody is served what a node had before the claim that lists it is durable. Who takes over has fenced us
 *     first and reads the claim then, so it sees each entry that we acted on.
 *  2. A node is served again after the claim without it is durable: else the next coordinator would void
 *     what it was given since.
 *  3. The list is of one term, of those in which anybody was served. Who was served last in one before that has lost its
 *     rights anyway, and knows it (node_reclaim_epoch()).
 *  4. A node is on it once: a later life of a node means that the one before has ended.
 *  5. When it is full nothing more is given up: what those nodes had is waited for.
 *  6. A term that ends before it serves takes nothing from anybody, and is not counted: its claim has the list of the one before
 *     it, and says which that was. A list of our own, and that our term counts, is durable before anybody is served.
 *  7. A term that is given up in order before it counts never does: its claim says again what it said before SERVE. That hides nothing. What
 *     serves, or takes, asks here first (given_remove, given_add, counts), and hears "no" until we know that the LUN has taken the claim that
 *     counts our term, and outside of SERVE. We have known no such thing when SERVE ends, and it does not come back in this term. What the LUN
 *     has taken of it nevertheless, unheard, is older than the claim that gives it up: that is sent when nothing else is on its way.
 *  8. One that counts is given up in order when all who have reclaimed have heard that they are served (or TAKEOVER_SERVED_NS later):
 *     whoever has not would lose what it holds to the next term.
 */
#include "coordinator/takeover.h"

#include <string.h>

#include "csvfs/base/assert.h"
#include "coordinator/takeover_priv.h"

static struct claim_given_up *find(struct claim *c, uint32_t node)
{
	for (uint32_t i = 0; i < c->given_up_count; i++)
		if (c->given_up[i].node == node)
			return &c->given_up[i];
	return NULL;
}

void takeover_given_begin(struct takeover *t, const struct claim *last, uint64_t seen)
{
	t->before_count = last->given_up_count;
	memcpy(t->before, last->given_up, sizeof(t->before));
	/* Rule 6. Of a term that the LUN does not know nobody can tell. */
	t->served_before = seen > last->epoch ? seen : last->served;
	t->claim.served = t->served_before;
	t->claim.given_up_count = last->given_up_count;
	memcpy(t->claim.given_up, last->given_up, sizeof(t->claim.given_up));
	t->list_durable = t->list_sent = t->list_changes;
	t->taken_back_at = 0;
	t->list_full = false;
	for (uint32_t i = 0; i < t->before_count; i++)
		trace(t->cfg.trace, TRACE_INFO, "node %u, life %llx, was given up in epoch %llu",
			t->before[i].node, (unsigned long long)t->before[i].life,
			(unsigned long long)last->epoch);
}

void takeover_given_serve(struct takeover *t)
{
	t->claim.given_up_count = 0;
	t->claim.served = t->epoch;
	t->taken_back_at = t->counted_at = ++t->list_changes;
	t->served_by_ns = NEVER;
	t->all_served = false;
}

bool takeover_given_counts(const struct takeover *t)
{
	return t->state == TK_SERVE && t->list_durable >= t->counted_at;
}

bool takeover_given_all_served(struct takeover *t, bool all)
{
	bool was = t->all_served;

	t->all_served = all && takeover_given_counts(t);
	return t->all_served && !was;
}

void takeover_given_drain(struct takeover *t)
{
	if (takeover_given_counts(t))
		return;
	/* Rule 7. */
	trace(t->cfg.trace, TRACE_INFO, "epoch %llu has served nobody -> it does not count",
		(unsigned long long)t->epoch);
	t->claim.served = t->served_before;
	t->claim.given_up_count = t->before_count;
	memcpy(t->claim.given_up, t->before, sizeof(t->claim.given_up));
	t->list_changes++;
}

void takeover_given_sent(struct takeover *t)
{
	t->list_sent = t->list_changes;
}

void takeover_given_durable(struct takeover *t)
{
	t->list_durable = t->list_sent;
}

bool takeover_given_due(const struct takeover *t)
{
	return t->list_sent != t->list_changes;
}

bool takeover_given_to_say(const struct takeover *t)
{
	return t->state == TK_SERVE && takeover_given_due(t) && !claim_io_busy(&t->io);
}

bool takeover_given_add(struct takeover *t, uint32_t node, uint64_t life)
{
	struct claim *c = &t->claim;
	struct claim_given_up *g = find(c, node);

	csv_assert(node);
	if (t->state != TK_SERVE)
		return false;
	if (g && g->life == life)
		return t->list_durable >= t->listed_at[g - c->given_up];
	if (!g && c->given_up_count == CLAIM_GIVEN_UP_MAX) {
		if (!t->list_full)
			trace(t->cfg.trace, TRACE_ERROR,
				"node %u has gone, and the claim has no room for one more that was given up "
				"-> what it had is held until another node coordinates (csvctl move)",
				node);
		t->list_full = true;
		return false;
	}
	if (!g)
		g = &c->given_up[c->given_up_count++];
	*g = (struct claim_given_up){node, life};
	t->listed_at[g - c->given_up] = ++t->list_changes;
	trace(t->cfg.trace, TRACE_INFO, "node %u, life %llx, is given up -> the claim is to say so", node,
		(unsigned long long)life);
	return false;
}

bool takeover_given_remove(struct takeover *t, uint32_t node)
{
	struct claim *c = &t->claim;
	struct claim_given_up *g = find(c, node);

	if (t->state != TK_SERVE)
		return false;
	if (g) {
		uint32_t last = --c->given_up_count;

		t->listed_at[g - c->given_up] = t->listed_at[last];
		*g = c->given_up[last];
		t->taken_back_at = ++t->list_changes;
		t->list_full = false;
		trace(t->cfg.trace, TRACE_INFO, "node %u holds nothing of before -> the claim is to say so",
			node);
	}
	return t->list_durable >= t->taken_back_at;
}

bool takeover_given_up(const struct takeover *t, uint32_t node, uint64_t life)
{
	if (!takeover_is_ours(t))
		return false;
	for (uint32_t i = 0; i < t->before_count; i++)
		if (t->before[i].node == node && t->before[i].life == life)
			return true;
	return false;
}
