/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * takeover_hang.c - a follower's watch over the coordinator it follows: does that hang?
 *
 * A daemon that is stopped or stuck stays a member of the group: its corosync is well, and no view changes.
 * It shows in two places: it answers nothing (the node tells: takeover_unheard()), and its claim stands
 * still. Either alone proves nothing.
 *
 *	heard --TAKEOVER_UNEASY_NS without a word--> looks at the claim, again and again
 *	      --unheard for TAKEOVER_HUNG_NS, the claim still for TAKEOVER_STILL_NS--> stands against its epoch
 *
 * Rules
 *  1. A network that is cut at the redirect port only costs nobody the epoch: the claim moves.
 *  2. Nor does a LUN that is slow: a look that took longer than TAKEOVER_LOOK_NS is no observation, and
 *     what was seen before it is void. So is a look at another epoch.
 *  3. The claim stood still from the end of the first look that showed it to the start of the last.
 *  4. One stands: whom elect_best() names without the one that hangs. Who does not hear the coordinator
 *     either, and sees nobody stand for TAKEOVER_PATIENCE_NS, stands as well.
 *  5. Standing is not yet taking over: CANDIDATE *against* an epoch is told to all, and from its delivery on
 *     nobody follows that epoch (elect_coordinator()). The accused gives up when it hears of it.
 *  6. A candidate has no session and no claim yet. It tells its STATE every TAKEOVER_TELL_NS, whatever it waits for. Who has heard
 *     nothing for TAKEOVER_HUNG_NS, while a STATE of its own came back that it had sent long after the candidate's
 *     last (so the group delivers, and it has not slept itself), takes it for one that hangs: passes over it, and fences it
 *     like anybody who was lost. If it wakes all the same, the LUN decides between the two as between the halves of a split.
 */
#include "coordinator/takeover.h"

#include <string.h>

#include "coordinator/elect.h"
#include "coordinator/takeover_priv.h"

void takeover_hang_forget(struct takeover *t)
{
	t->hang.reading = false;
	t->hang.since_ns = t->hang.hung_ns = NEVER;
	t->hang.still_ns = 0;
	t->hang.next_ns = 0;
}

void takeover_unheard(struct takeover *t, uint64_t since_ns)
{
	t->hang.unheard_ns = since_ns;
}

/* The coordinator that we follow; NULL: there is none that could be watched. */
static const struct member_node *watched(const struct takeover *t)
{
	const struct member_node *n = elect_coordinator(t->m);

	if (t->state != TK_FOLLOW || !n || n->node != t->following || t->cfg.no_reservations)
		return NULL;
	return takeover_path_works(t) ? n : NULL;
}

static bool unheard_for(const struct takeover *t, uint64_t ns)
{
	return t->hang.unheard_ns != NEVER && t->now_ns >= t->hang.unheard_ns + ns;
}

static void looked(struct takeover *t, const struct member_node *n)
{
	struct hang *h = &t->hang;
	const struct claim *best =
		claim_io_result(&t->io) == CLAIM_DONE ? claim_io_best(&t->io) : NULL;
	bool moved = best && (!h->shown_ns || takeover_claim_moved(best, &h->seen));

	h->reading = false;
	if (moved) {
		h->seen = *best;
		h->shown_ns = t->now_ns;
	}
	/* Rule 2. */
	if (!best || best->epoch != n->state.epoch || t->now_ns - h->sent_ns > TAKEOVER_LOOK_NS) {
		h->since_ns = NEVER;
		h->still_ns = 0;
	} else if (h->since_ns == NEVER || moved) {
		h->since_ns = t->now_ns;
		h->still_ns = 0;
	} else {
		h->still_ns = h->sent_ns > h->since_ns ? h->sent_ns - h->since_ns : 0;
	}
}

void takeover_hang_step(struct takeover *t, struct effects *fx)
{
	const struct member_node *n = watched(t);
	struct hang *h = &t->hang;

	if (!n || !unheard_for(t, TAKEOVER_UNEASY_NS)) {
		takeover_hang_forget(t);
		return;
	}
	if (h->reading && !claim_io_busy(&t->io))
		looked(t, n);
	if (h->still_ns < TAKEOVER_STILL_NS || !unheard_for(t, TAKEOVER_HUNG_NS)) {
		h->hung_ns = NEVER;
	} else if (h->hung_ns == NEVER) {
		h->hung_ns = t->now_ns;
		trace(t->cfg.trace, TRACE_WARN,
			"node %u, epoch %llu: no word for %llu ms, and its claim stands still -> it hangs",
			n->node, (unsigned long long)n->state.epoch,
			(unsigned long long)((t->now_ns - h->unheard_ns) / NS_PER_MS));
	}
	if (h->reading || t->now_ns < h->next_ns || !takeover_quiet(t))
		return;
	h->reading = true;
	h->sent_ns = t->now_ns;
	h->next_ns = t->now_ns + TAKEOVER_LOOK_NS;
	claim_io_read(&t->io, fx);
}

bool takeover_hang_stands(struct takeover *t)
{
	const struct member_node *n = watched(t), *best;
	struct hang *h = &t->hang;

	if (!n || h->hung_ns == NEVER || t->unfit || t->lost_split || !takeover_quiet(t))
		return false;
	best = elect_best(t->m, n->node);
	/* Rule 4. */
	if ((!best || best->node != takeover_self(t)) &&
		t->now_ns < h->hung_ns + TAKEOVER_PATIENCE_NS)
		return false;
	t->hung_node = n->node;
	t->hung_epoch = n->state.epoch;
	takeover_stand(t, "the coordinator hangs");
	return true;
}

uint64_t takeover_hang_deadline(const struct takeover *t)
{
	const struct hang *h = &t->hang;

	if (!watched(t) || h->unheard_ns == NEVER)
		return NEVER;
	if (!unheard_for(t, TAKEOVER_UNEASY_NS))
		return h->unheard_ns + TAKEOVER_UNEASY_NS;
	return h->reading ? NEVER : h->next_ns;
}

/* Rule 6. */
void takeover_hang_candidates(struct takeover *t)
{
	const uint64_t quiet_ns = TAKEOVER_HUNG_NS - TAKEOVER_TELL_NS;
	const struct member_node *me = member_self(t->m);
	bool tell = takeover_is_candidate(t);
	uint64_t due_ns = NEVER;

	for (uint32_t i = 0; i < t->m->node_count && !t->cfg.no_reservations; i++) {
		const struct member_node *n = &t->m->nodes[i];

		if (n == me || !n->member || n->silent || n->state.role != ROLE_CANDIDATE || !n->state.incarnation)
			continue;
		if (t->now_ns < n->told_ns + quiet_ns) {
			due_ns = n->told_ns + quiet_ns < due_ns ? n->told_ns + quiet_ns : due_ns;
			continue;
		}
		tell = true;
		if (t->now_ns < n->told_ns + TAKEOVER_HUNG_NS || me->told_ns < n->told_ns + quiet_ns)
			continue;
		trace(t->cfg.trace, TRACE_WARN, "node %u, a candidate: no word for %llu ms -> it hangs", n->node,
			(unsigned long long)((t->now_ns - n->told_ns) / NS_PER_MS));
		member_set_silent(t->m, n->node);
	}
	if (tell && t->now_ns >= t->tell_ns + TAKEOVER_TELL_NS) {
		t->tell_ns = t->now_ns;
		member_tell_again(t->m);
	}
	if (tell && t->tell_ns + TAKEOVER_TELL_NS < due_ns)
		due_ns = t->tell_ns + TAKEOVER_TELL_NS;
	t->tell_due_ns = due_ns;
}

uint32_t takeover_hung(const struct takeover *t)
{
	const struct member_node *n = t->hung_node ? member_find(t->m, t->hung_node) : NULL;

	/* It has said nothing since: its STATE is still that of a coordinator. */
	if (!n || n->state.role < ROLE_RECOVERING || n->state.epoch != t->hung_epoch)
		return 0;
	return t->hung_node;
}
