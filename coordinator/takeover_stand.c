/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * takeover_stand.c - the candidate: from STAND to a claim that shows on the LUN. The whole
 * picture and the invariants are at the head of takeover.c.
 */
#include "coordinator/takeover.h"

#include <string.h>

#include "csvfs/base/assert.h"
#include "coordinator/elect.h"
#include "coordinator/takeover_priv.h"

#define TAKEOVER_POLL_NS (500 * NS_PER_MS) /* between two looks at a stranger's claim */

static void enter_fence(struct takeover *t, struct effects *fx)
{
	char list[160];
	size_t at = 0;

	if (t->cfg.no_reservations) {
		/* Whoever had it before is gone, and so are its writes: an image has a lock, a LUN was drained by our login (io_mode.h, P5). */
		member_victims_forget(t->m);
		takeover_enter(t, TK_FENCE);
		takeover_enter(t, TK_CLAIM_READ);
		claim_io_read(&t->io, fx);
		return;
	}
	list[0] = 0;
	for (uint32_t i = 0; i < t->m->victim_count; i++)
		at += trace_format(list + at, sizeof(list) - at, " %u/%x", t->m->victims[i].node,
			t->m->victims[i].incarnation);
	trace(t->cfg.trace, TRACE_INFO,
		"view %llu, epoch %llu was seen -> fence%s, and every unknown key",
		(unsigned long long)t->view, (unsigned long long)member_epoch_seen(t->m), list);
	takeover_enter(t, TK_FENCE);
	takeover_start_fence(t, true, fx);
}

void takeover_served_under(struct takeover *t, uint32_t incarnation)
{
	t->served_under = incarnation;
}

static bool in_view(const struct takeover *t, uint32_t node)
{
	const struct member_node *n = member_find(t->m, node);

	return n && n->member;
}

/* After a look at the claim, or without one. */
static void headstart_or_fence(struct takeover *t, struct effects *fx)
{
	if (!member_view(t->m)->halved || t->cfg.no_reservations || t->cfg.standalone) {
		enter_fence(t, fx);
		return;
	}
	trace(t->cfg.trace, TRACE_INFO,
		"the other half may be quorate too -> gives its coordinator %u s",
		(unsigned)(TAKEOVER_HEADSTART_NS / NS_PER_SEC));
	takeover_enter(t, TK_HEADSTART);
	t->deadline_ns = t->now_ns + TAKEOVER_HEADSTART_NS;
	t->watched_ns = t->beaten_ns = 0;
	t->looks = t->served_under != t->incarnation;
	if (t->looks)
		claim_io_read(&t->io, fx);
}

/* Proceeds when we are the first CANDIDATE of this view and the only one left. */
static void standing(struct takeover *t, struct effects *fx)
{
	const struct member_node *me = member_self(t->m), *first = elect_standing(t->m);
	const struct member_node *released = elect_released(t->m);

	if (!member_view(t->m)->agreed || !me->answered || me->state.role != ROLE_CANDIDATE)
		return;
	if (!first)
		return; /* the group has changed, and the view is about to */
	if (first->node != takeover_self(t)) {
		takeover_withdraw(t, "another candidate was first");
		return;
	}
	if (elect_others(t->m, takeover_self(t)))
		return;
	/* What one that hangs has sent may still be carried out: its claim, too. */
	for (uint32_t i = 0; i < t->m->node_count; i++)
		if (t->m->nodes[i].silent)
			member_victim_add(t->m, t->m->nodes[i].node, t->m->nodes[i].state.incarnation, true);
	if (released && !t->m->victim_count && !t->m->victims_overflow && elect_all_heard(t->m)) {
		trace(t->cfg.trace, TRACE_INFO, "node %u gave up epoch %llu in order -> no fence",
			released->node, (unsigned long long)released->state.epoch);
		t->in_order = true;
		takeover_enter(t, TK_CLAIM_READ);
		claim_io_read(&t->io, fx);
	} else if (t->seen_ns == NEVER && !t->cfg.no_reservations) {
		takeover_enter(t, TK_LOOK);
		claim_io_read(&t->io, fx);
	} else {
		headstart_or_fence(t, fx);
	}
}

/*
 * The last claim's life is of nobody that we have met: another cluster, or a mount without one. But if one of our group has told its
 * epoch, or a later one, it is of somebody whom that one has met.
 */
static bool is_stranger(const struct takeover *t, const struct claim *c)
{
	if (c->state == CLAIM_CLEAN || member_epoch_seen(t->m) >= c->epoch)
		return false;
	for (uint32_t i = 0; i < t->m->node_count; i++)
		if (t->m->nodes[i].state.life == c->life)
			return false;
	return true;
}

static void looked(struct takeover *t, struct effects *fx)
{
	const struct claim *best = claim_io_best(&t->io);

	if (!best) {
		takeover_refuse(t, "neither claim block is valid (fsck.csvfs repairs them)");
		return;
	}
	/*
	 * Nobody of this view saw the last coordinator. Its node, and others, may have come back
	 * since and replaced their keys: there is nothing to preempt, and still something in
	 * flight.
	 */
	t->cold = best->state != CLAIM_CLEAN;
	takeover_fenced_seen(t, best);
	if (!is_stranger(t, best)) {
		headstart_or_fence(t, fx);
		return;
	}
	trace(t->cfg.trace, TRACE_INFO,
		"claim of %s (epoch %llu) is held -> watches whether it beats", best->name,
		(unsigned long long)best->epoch);
	t->watched = *best;
	t->beaten_ns = 0;
	takeover_enter(t, TK_WATCH);
	t->deadline_ns = t->now_ns + TAKEOVER_WATCH_NS;
	t->poll_ns = t->now_ns + TAKEOVER_POLL_NS;
}

/*
 * Somebody coordinates whom we do not see. In half of a cluster that is the other half: its nodes are our own,
 * and may have been started anew, so their lives say nothing. We have lost the split, and wait (invariant 12 of
 * the system). With more than half, a claim of one of our nodes is of one that has not noticed yet.
 */
static void claim_lives(struct takeover *t, const struct claim *best, struct effects *fx)
{
	if (member_view(t->m)->halved && !t->cfg.standalone && !(best->node & NODE_ALONE)) {
		takeover_lose_fenced(t, "the other half of the cluster coordinates");
	} else if (!is_stranger(t, best)) {
		headstart_or_fence(t, fx);
	} else {
		takeover_refuse_in_use(t, best);
	}
}

/*
 * Who coordinates in the other half takes our key from us in this time. But he may not know that of a path under which nobody has served
 * us yet: then the claim tells, by a look at each end. What is beaten lives, unless it was one write of a dead node that landed late, or of
 * one that is about to hear that it is not quorate: so it is looked again. Nobody has taken anything from us: we keep what we have, and wait.
 */
static void headstart(struct takeover *t, struct effects *fx)
{
	const struct claim *best = claim_io_best(&t->io);

	if (!t->watched_ns) {
		memset(&t->watched, 0, sizeof(t->watched));
		if (best)
			t->watched = *best;
		t->watched_ns = t->now_ns;
		/* However slow that was: who has a lease lands a beat in every 2 s. */
		t->deadline_ns = t->now_ns + TAKEOVER_HEADSTART_NS;
	} else if (t->poll_ns == NEVER && t->now_ns >= t->deadline_ns) {
		t->poll_ns = t->now_ns;
		claim_io_read(&t->io, fx);
	} else if (t->poll_ns == NEVER) {
		return;
	} else if (!best || best->state == CLAIM_CLEAN || !takeover_claim_moved(best, &t->watched) || in_view(t, best->node)) {
		enter_fence(t, fx);
	} else if (t->beaten_ns && t->now_ns >= t->beaten_ns + TAKEOVER_LIVES_NS) {
		takeover_wait_for_half(t);
	} else {
		if (!t->beaten_ns)
			t->beaten_ns = t->now_ns;
		t->watched = *best;
		t->poll_ns = NEVER;
		t->deadline_ns = t->now_ns + TAKEOVER_HEADSTART_NS;
	}
}

static void watching(struct takeover *t, struct effects *fx)
{
	const struct claim *best = claim_io_best(&t->io);

	if (t->poll_ns == NEVER) { /* a read has come back */
		if (best && takeover_claim_moved(best, &t->watched) && best->state != CLAIM_CLEAN) {
			/*
			 * One beat may be a write of a dead node that landed late. And one of our own cluster that has
			 * been cut off may not know it for a while. Who still beats after that lives.
			 */
			if (t->beaten_ns && t->now_ns >= t->beaten_ns + TAKEOVER_LIVES_NS) {
				claim_lives(t, best, fx);
				return;
			}
			if (!t->beaten_ns)
				t->beaten_ns = t->now_ns;
			t->watched = *best;
			t->deadline_ns = t->now_ns + TAKEOVER_WATCH_NS;
		}
		t->poll_ns = t->now_ns + TAKEOVER_POLL_NS;
	}
	if ((best && best->state == CLAIM_CLEAN) || t->now_ns >= t->deadline_ns) {
		trace(t->cfg.trace, TRACE_INFO, "claim of %s has no one behind it",
			t->watched.name);
		headstart_or_fence(t, fx);
	} else if (t->now_ns >= t->poll_ns) {
		t->poll_ns = NEVER;
		claim_io_read(&t->io, fx);
	}
}

static void fencing(struct takeover *t, struct effects *fx)
{
	switch (fence_result(&t->fence)) {
	case FENCE_NONE:
		break;
	case FENCE_DONE:
		takeover_fence_succeeded(t, fx);
		takeover_enter(t, TK_CLAIM_READ);
		claim_io_read(&t->io, fx);
		break;
	case FENCE_FENCED:
		takeover_lose_fenced(t, "fenced by another node");
		break;
	case FENCE_UNKNOWN:
		takeover_lose(t, "the path broke while fencing");
		break;
	case FENCE_FAILED:
		takeover_become_unfit(t, "the target could not fence",
			t->fence.busy ? TAKEOVER_BUSY_NS : TAKEOVER_UNFIT_NS);
		break;
	}
}

static bool recent(const struct takeover *t, uint64_t at_ns)
{
	return at_ns && t->now_ns < at_ns + TAKEOVER_LOST_NS;
}

/*
 * Whom we have fenced may not know it. It answers what it knows, and uses what it holds, until its lease is over
 * (PROTOCOL.md, "Whom a takeover waits for"): nobody is served anything else before. Replay and reclaim take their
 * time meanwhile. What was lost longer than TAKEOVER_LOST_NS ago has been settled by the coordinator that we follow.
 * If nobody but coordinators were lost, whose claim is held: all their leases run from beats, and of those we may have seen the last.
 */
static uint64_t quiet_until(const struct takeover *t, const struct claim *last)
{
	const struct hang *h = &t->hang;
	uint64_t from = t->now_ns;
	/* Who has released it waited for all whom it knew to be lost, and that is since before we were here. */
	bool known = t->was_released || (t->seen_ns != NEVER && !recent(t, t->seen_ns));

	if (t->in_order || last->state == CLAIM_CLEAN || t->cfg.no_reservations)
		return 0;
	if (!t->cold && known && !recent(t, t->m->lost_ns)) {
		if (!t->hung_node && !recent(t, t->m->office_lost_ns))
			return 0;
		if (last->state == CLAIM_HELD && h->shown_ns && !takeover_claim_moved(last, &h->seen))
			from = h->shown_ns;
	}
	return from + t->cfg.lease_over_ns;
}

static void claim_read(struct takeover *t, struct effects *fx)
{
	const struct claim *best = claim_io_best(&t->io);
	const struct member_state *own = member_own(t->m);
	const struct member_node *released = elect_released(t->m);
	uint64_t seen = member_epoch_seen(t->m);
	struct claim *c = &t->claim;
	const struct claim was = *c;

	if (!best) {
		takeover_refuse(t, "neither claim block is valid (fsck.csvfs repairs them)");
		return;
	}
	if (t->in_order &&
		(!released || best->state == CLAIM_HELD || best->epoch != released->state.epoch)) {
		t->in_order = false;
		takeover_say(
			t, TRACE_WARN, "the claim was not given up in order -> fences after all");
		enter_fence(t, fx);
		return;
	}
	t->fenced_ns = t->now_ns;
	/* It may be our own that we see: the view changed when we had just written it. */
	t->was_released = best->state == CLAIM_RELEASED ||
			  (t->was_released && best->epoch == c->epoch && best->life == c->life && best->node == c->node);
	t->quiet_ns = quiet_until(t, best);
	/* Keys may have been left behind, by whom nobody serves any more. */
	if (best->state == CLAIM_CLEAN)
		t->m->lost_ns = t->m->office_lost_ns = 0;
	memset(c, 0, sizeof(*c));
	takeover_fenced_begin(t, &was, best);
	takeover_given_begin(t, best, seen);
	memcpy(c->uuid, t->cfg.uuid, 16);
	/* Invariant 2: above all that anybody may have used. */
	c->epoch = (best->epoch > seen ? best->epoch : seen) + 1;
	c->heartbeat = 1;
	c->state = CLAIM_HELD;
	c->node = own->node;
	c->incarnation = t->incarnation;
	c->life = own->life;
	memcpy(c->name, own->name, sizeof(c->name));
	trace(t->cfg.trace, TRACE_INFO, "claim of %s, epoch %llu -> claims epoch %llu", best->name,
		(unsigned long long)best->epoch, (unsigned long long)c->epoch);
	takeover_enter(t, TK_CLAIM_WRITE);
	t->beat_sent_ns = t->now_ns;
	t->has_claimed = true;
	claim_io_write(&t->io, c, fx);
}

static void claim_verified(struct takeover *t)
{
	const struct claim *best = claim_io_best(&t->io);

	t->has_claimed = false;
	if (!best || best->epoch < t->claim.epoch) {
		takeover_become_unfit(t, "the LUN did not keep the claim", TAKEOVER_UNFIT_NS);
		return;
	}
	if (best->epoch != t->claim.epoch || best->life != t->claim.life) {
		takeover_withdraw(t, "another node's claim shows");
		return;
	}
	t->epoch = t->claim.epoch;
	t->beat_ns = t->now_ns + TAKEOVER_BEAT_NS;
	t->beat_taken_ns = t->beat_sent_ns;
	t->ready = t->closed = false;
	t->handover = 0;
	t->refence_ns = 0;
	t->told_view = 0;
	takeover_seen(t);
	t->reason[0] = 0;
	trace(t->cfg.trace, TRACE_INFO, "epoch %llu is ours -> replay",
		(unsigned long long)t->epoch);
	takeover_enter(t, TK_OPEN);
}

/* What came back for a claim operation; true when it is done and well. */
static bool claim_came(struct takeover *t)
{
	switch (claim_io_result(&t->io)) {
	case CLAIM_NONE:
	case CLAIM_BUSY:
		return false;
	case CLAIM_DONE:
		return true;
	case CLAIM_FENCED:
		takeover_lose_fenced(
			t, "RESERVATION CONFLICT on the claim: fenced by another node");
		return false;
	case CLAIM_UNKNOWN:
		takeover_lose(t, "the path broke at the claim");
		return false;
	case CLAIM_FAILED:
		if (t->io.retries > CLAIM_RETRIES_MAX)
			takeover_become_unfit(t, "the target is busy", TAKEOVER_BUSY_NS);
		else
			takeover_become_unfit(t,
				t->io.is_protected ? "the LUN is write protected"
						   : "the LUN fails at the claim blocks",
				TAKEOVER_UNFIT_NS);
		return false;
	}
	return false;
}

/*
 * A claim of ours may be the last one on the LUN, and nobody was served under it. Who leaves gives it up in order first: left as it is, it
 * looks like that of one that has died. Not if somebody has told a later epoch: that was claimed after ours, in whose place it is.
 */
static bool claim_is_left(const struct takeover *t)
{
	return t->has_claimed && t->claim.epoch >= member_epoch_seen(t->m);
}

/* Things that end any candidacy. True: nothing further in this round. */
static bool candidate_ends(struct takeover *t)
{
	const struct member_view *v = member_view(t->m);
	const struct member_node *other = elect_coordinator(t->m);

	/* Until our own CANDIDATE is delivered the one that hangs still counts. */
	if (other && t->hung_node && other->state.epoch == t->hung_epoch)
		other = NULL;
	if (!takeover_path_works(t) || member_own(t->m)->incarnation != t->incarnation) {
		takeover_lose(t, member_was_fenced(t->m, t->incarnation)
					 ? "fenced while a candidate"
					 : "the path was lost while a candidate");
		return true;
	}
	if (t->stopping && !claim_is_left(t) && takeover_may_go(t))
		takeover_withdraw(t, "stopping");
	else if (!v->quorate)
		takeover_withdraw(t, "not quorate");
	else if (v->agreed && other && other->node != takeover_self(t))
		takeover_withdraw(t, "another node coordinates already");
	else if (v->number != t->view)
		t->restart = true;
	if (!t->quit && !t->restart)
		return false;
	fence_cancel(&t->fence);
	takeover_fence_noted(t);
	claim_io_cancel(&t->io);
	if (!takeover_quiet(t))
		return true;
	if (fence_result(&t->fence) == FENCE_FENCED) {
		takeover_lose_fenced(t, "fenced by another node");
	} else if (fence_result(&t->fence) == FENCE_UNKNOWN ||
		   claim_io_result(&t->io) == CLAIM_UNKNOWN) {
		takeover_lose(t, "the path broke while a candidate");
	} else if (claim_io_result(&t->io) == CLAIM_FENCED) {
		takeover_lose_fenced(
			t, "RESERVATION CONFLICT on the claim: fenced by another node");
	} else if (t->quit) {
		takeover_enter(t, v->quorate ? TK_AGREE : TK_IDLE);
	} else {
		takeover_stand(t, "the view changed");
	}
	return true;
}

void takeover_candidate(struct takeover *t, struct effects *fx)
{
	if (candidate_ends(t))
		return;
	switch (t->state) {
	case TK_STAND:
		standing(t, fx);
		break;
	case TK_HEADSTART:
		if (t->looks && claim_came(t))
			headstart(t, fx);
		else if (!t->looks && t->now_ns >= t->deadline_ns)
			enter_fence(t, fx);
		break;
	case TK_LOOK:
		if (claim_came(t))
			looked(t, fx);
		break;
	case TK_WATCH:
		if (claim_came(t))
			watching(t, fx);
		break;
	case TK_FENCE:
		fencing(t, fx);
		break;
	case TK_CLAIM_READ:
		if (claim_came(t))
			claim_read(t, fx);
		break;
	case TK_CLAIM_WRITE:
		if (claim_came(t)) {
			takeover_enter(t, TK_CLAIM_VERIFY);
			claim_io_read(&t->io, fx);
		}
		break;
	case TK_CLAIM_VERIFY:
		if (claim_came(t))
			claim_verified(t);
		break;
	default:
		csv_assert(!"a candidate");
	}
}
