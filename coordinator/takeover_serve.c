/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * takeover_serve.c - the coordinator: from the claim to its release. The whole picture and the
 * invariants are at the head of takeover.c.
 *
 * Who is last. Nodes that leave tell it (member_leaving). The claim is marked CLEAN by one of them when no other
 * will use the LUN again:
 *  - a coordinator that leaves hands over to one that stays. If nobody does who could, it goes on serving until all
 *    others are done, which need it to close their files;
 *  - who leaves and does not coordinate goes when another one serves, or stays: takeover_may_go(). Else it may be the one that
 *    was just given the epoch, and takes over like any other;
 *  - who was to get the epoch may want to leave at the same moment. CPG's order decides, which is the same for
 *    all: who is READY before DRAINING is delivered goes, and is waited for; who is not takes over. Who gave it to one that leaves by
 *    then is there until that one serves, and takes over again if it cannot.
 */
#include "coordinator/takeover.h"

#include <string.h>

#include "csvfs/base/assert.h"
#include "coordinator/elect.h"
#include "coordinator/takeover_priv.h"

#define TAKEOVER_FENCE_AGAIN_NS (5 * NS_PER_SEC)
#define AFTER_FENCE_NS NS_PER_SEC /* to hear of it, and to reclaim */

/* While we coordinate: whoever lands on the fence list is fenced, whatever else goes on. */
static void background_fence(struct takeover *t, struct effects *fx)
{
	if (fence_running(&t->fence))
		return;
	takeover_fenced_noted(t);
	switch (fence_result(&t->fence)) {
	case FENCE_NONE:
		break;
	case FENCE_DONE:
		takeover_fence_succeeded(t, fx);
		break;
	case FENCE_FENCED:
		takeover_lose_fenced(t, "fenced by another node");
		return;
	case FENCE_UNKNOWN:
		takeover_lose(t, "the path broke while fencing");
		return;
	case FENCE_FAILED:
		takeover_say(t, TRACE_ERROR, "a node cannot be fenced -> tries again");
		fence_forget(&t->fence);
		t->refence_ns = t->now_ns + TAKEOVER_FENCE_AGAIN_NS;
		return;
	}
	if (!t->m->victim_count && !t->m->victims_overflow)
		return;
	if (t->cfg.no_reservations) {
		member_victims_forget(t->m);
	} else if (t->now_ns >= t->refence_ns) {
		takeover_start_fence(t, t->m->victims_overflow, fx);
	}
}

/* The claim beats, so that others see a living coordinator, and we see that we are one. */
static void beat(struct takeover *t, struct effects *fx)
{
	if (claim_io_busy(&t->io))
		return;
	switch (claim_io_result(&t->io)) {
	case CLAIM_NONE:
	case CLAIM_BUSY:
		break;
	case CLAIM_DONE:
		t->beat_taken_ns = t->beat_sent_ns;
		takeover_given_durable(t);
		break;
	case CLAIM_FENCED:
		takeover_lose_fenced(t, "RESERVATION CONFLICT on the beat: fenced by another node");
		return;
	case CLAIM_UNKNOWN:
		takeover_lose(t, "the path broke at the beat");
		return;
	case CLAIM_FAILED:
		takeover_say(t, TRACE_ERROR,
			"a claim block cannot be written -> the other one goes on beating");
		claim_io_forget(&t->io);
		break;
	}
	/*
	 * What others wait for is said at once. If that fails it goes with the next beat. Whose path has come waits for a word
	 * of ours that is newer, and that is as old as our last beat.
	 */
	if (t->now_ns < t->beat_ns && !takeover_given_due(t) && t->beat_news == t->m->path_news)
		return;
	t->beat_news = t->m->path_news;
	t->beat_ns = t->now_ns + TAKEOVER_BEAT_NS;
	t->beat_sent_ns = t->now_ns;
	takeover_given_sent(t);
	t->claim.heartbeat++;
	claim_io_write(&t->io, &t->claim, fx);
}

static bool own_victim(const struct takeover *t)
{
	for (uint32_t i = 0; i < t->m->victim_count; i++)
		if (t->m->victims[i].node == takeover_self(t) &&
			t->m->victims[i].incarnation == t->incarnation)
			return true;
	return false;
}

static bool ours_ends(struct takeover *t)
{
	const struct member_view *v = member_view(t->m);
	const struct member_node *other = elect_coordinator(t->m);
	const struct member_state *own = member_own(t->m);

	if (own->path != MPATH_OK || own->incarnation != t->incarnation)
		takeover_lose(t, "the coordinator's path was lost");
	else if (member_was_fenced(t->m, t->incarnation) || own_victim(t))
		takeover_lose(t, "the coordinator is to be fenced");
	else if (!v->quorate)
		takeover_lose(t, "not quorate any more");
	else if (elect_accused(t->m, t->epoch))
		takeover_lose(t, "said to hang: another node takes over");
	else if (other && other->node != takeover_self(t) && other->state.epoch > t->epoch)
		takeover_lose(t, "another node coordinates a higher epoch");
	return t->state == TK_LOST;
}

static void await_remove(struct takeover *t, uint32_t node)
{
	for (uint32_t i = 0; i < t->await_count; i++)
		if (t->await[i] == node) {
			t->await[i] = t->await[--t->await_count];
			return;
		}
}

void takeover_reclaimed(struct takeover *t, uint32_t node)
{
	if (t->state == TK_RECLAIM)
		await_remove(t, node);
}

static bool is_connected(const struct takeover *t, uint32_t node)
{
	for (uint32_t i = 0; i < NODES_MAX; i++)
		if (t->connected[i] == node)
			return true;
	return false;
}

void takeover_connected(struct takeover *t, uint32_t node, bool yes)
{
	if (is_connected(t, node) == yes)
		return;
	for (uint32_t i = 0; i < NODES_MAX; i++) {
		if (t->connected[i] != (yes ? 0 : node))
			continue;
		t->connected[i] = yes ? node : 0;
		return;
	}
}

static void begin_reclaim(struct takeover *t)
{
	const struct member_view *v = member_view(t->m);

	memset(t->connected, 0, sizeof(t->connected));
	t->await_count = 0;
	for (uint32_t i = 0; i < v->count; i++)
		if (member_find(t->m, v->nodes[i])->heard && v->nodes[i] != takeover_hung(t))
			t->await[t->await_count++] = v->nodes[i];
	takeover_enter(t, TK_RECLAIM);
	t->deadline_ns = t->now_ns + TAKEOVER_RECLAIM_NS;
	trace(t->cfg.trace, TRACE_INFO, "epoch %llu: the volume is open -> %u nodes reclaim",
		(unsigned long long)t->epoch, t->await_count);
}

uint64_t takeover_quiet_ns(const struct takeover *t)
{
	const struct member *m = t->m;
	uint64_t lost = m->lost_ns;

	/* Somebody may have been lost since. */
	if (m->office_lost_ns > t->fenced_ns && m->office_lost_ns > lost)
		lost = m->office_lost_ns;
	if (!lost || t->cfg.no_reservations || t->quiet_ns > lost + t->cfg.lease_over_ns)
		return t->quiet_ns;
	return lost + t->cfg.lease_over_ns;
}

/*
 * Who is there, and has given up its path, since what it does for others must end before it can say what it holds (csvfs/node_carry.c): it
 * waits for us to fence that. Nobody is served before, and so it has a moment after that, too.
 */
static void wait_for_whom_we_fence(struct takeover *t)
{
	for (uint32_t i = 0; i < t->await_count; i++) {
		const struct member_node *n = member_find(t->m, t->await[i]);

		if (n && n->member && !n->silent && is_connected(t, n->node) && member_victim_pending(t->m, n->node) &&
			t->deadline_ns < t->now_ns + AFTER_FENCE_NS)
			t->deadline_ns = t->now_ns + AFTER_FENCE_NS;
	}
}

static void reclaiming(struct takeover *t)
{
	wait_for_whom_we_fence(t);
	for (uint32_t i = 0; i < t->await_count;) {
		const struct member_node *n = member_find(t->m, t->await[i]);
		bool done = n && n->state.leaving == LEAVING_DONE; /* holds nothing, and follows nobody */
		uint64_t more = is_connected(t, t->await[i]) ? TAKEOVER_RECLAIM_MORE_NS : 0;
		/* A candidate that hangs is not waited for. It may have been found after our fence, which spared it. */
		bool late = t->now_ns >= t->deadline_ns + more || (n && n->silent);

		if (n && n->member && !done && !late) {
			i++;
			continue;
		}
		if (!done && n && n->member && n->node != takeover_self(t) && n->state.incarnation &&
			!(n->silent && n->fenced)) {
			trace(t->cfg.trace, TRACE_WARN, "node %u %s -> fence %u/%x", n->node,
				n->silent ? "hangs" : "did not reclaim in time", n->node,
				n->state.incarnation);
			member_victim_decide(t->m, n->node, n->state.incarnation);
		}
		await_remove(t, t->await[i]);
	}
	/*
	 * Whoever is silent, or has left, must not write any more when others are served. While the rings
	 * differ somebody may have left who is not on the fence list yet.
	 */
	if (t->m->form_ns != NEVER)
		return;
	if (t->await_count || t->m->victim_count || t->m->victims_overflow ||
		t->now_ns < takeover_quiet_ns(t))
		return;
	trace(t->cfg.trace, TRACE_INFO, "epoch %llu: serves", (unsigned long long)t->epoch);
	t->has_served = true;
	takeover_enter(t, TK_SERVE);
	t->was_released = false;
	takeover_given_serve(t);
}

/* A fenced node that came back into the view may not know: it is told once in each view, and when it says that it waits for another incarnation's fence (member.c). */
static void tell_fenced(struct takeover *t, struct effects *fx)
{
	struct member_victim told[NODES_MAX];
	uint32_t count = 0;

	if (!member_view(t->m)->agreed ||
		(t->told_view == member_view(t->m)->number && t->now_ns < t->m->fenced_again_ns))
		return;
	t->told_view = member_view(t->m)->number;
	t->m->fenced_again_ns = NEVER;
	for (uint32_t i = 0; i < t->m->node_count && count < NODES_MAX; i++) {
		const struct member_node *n = &t->m->nodes[i];

		if (n->answered && n->fenced && n->state.path != MPATH_NONE)
			told[count++] = (struct member_victim){
				.node = n->node, .incarnation = n->state.incarnation};
	}
	member_send_fenced(t->m, told, count, t->now_ns, fx);
}

static void begin_drain(struct takeover *t, uint32_t target, const char *why)
{
	trace(t->cfg.trace, TRACE_INFO, "%s -> drains, epoch %llu goes to node %u", why,
		(unsigned long long)t->epoch, target);
	t->handover = target;
	t->closed = t->swept = false;
	takeover_given_drain(t);
	takeover_enter(t, TK_DRAIN);
}

/*
 * All others have let go for good: nobody is left who might go on. What they left at the LUN (a key that held the
 * reservation, or of a path that was lost) is fenced first.
 */
static bool others_done(struct takeover *t)
{
	const struct member_view *v = member_view(t->m);
	bool done = true;

	for (uint32_t i = 0; i < v->count; i++) {
		const struct member_node *n = member_find(t->m, v->nodes[i]);

		if (n->node == takeover_self(t))
			continue;
		if (!n->heard || n->state.leaving != LEAVING_DONE) {
			done = false;
		} else if (n->state.incarnation && !n->fenced) {
			done = false;
			if (!member_victim_pending(t->m, n->node))
				member_victim_add(t->m, n->node, n->state.incarnation,
					n->state.path != MPATH_CLEAN);
		}
	}
	return done;
}

static bool others_leave(const struct takeover *t)
{
	const struct member_view *v = member_view(t->m);

	for (uint32_t i = 0; i < v->count; i++) {
		const struct member_node *n = member_find(t->m, v->nodes[i]);

		if (n->node != takeover_self(t) && n->heard && n->state.leaving)
			return true;
	}
	return false;
}

/* DRAINING has been delivered. */
static bool others_excused(const struct takeover *t)
{
	const struct member_view *v = member_view(t->m);

	for (uint32_t i = 0; i < v->count; i++) {
		const struct member_node *n = member_find(t->m, v->nodes[i]);

		if (n->node == takeover_self(t) || n->excused)
			continue;
		if (!n->heard || !n->state.leaving || elect_able(t->m, n))
			return false;
	}
	return true;
}

static void leaving(struct takeover *t)
{
	const struct member_node *n = elect_best_staying(t->m, takeover_self(t));

	if (!takeover_told(t))
		return;
	if (n || others_done(t) || !others_leave(t) || t->now_ns >= t->deadline_ns) {
		begin_drain(t, n ? n->node : 0, "stopping");
		t->to_stay = n != NULL;
	}
}

/* Rules 7 and 8 of takeover_given.c. */
static bool serves_all_first(struct takeover *t)
{
	if (!takeover_given_counts(t) || t->all_served)
		return false;
	if (t->served_by_ns == NEVER)
		t->served_by_ns = t->now_ns + TAKEOVER_SERVED_NS;
	return t->now_ns < t->served_by_ns;
}

bool takeover_resets_refused(const struct takeover *t)
{
	return t->fence.reset_refused;
}

/*
 * Closed, and somebody was lost since: whoever follows us relies on it that we have waited (quiet_until()), that is for the fence, and for
 * the lease of who may not know of it.
 */
static bool owes_a_wait(const struct takeover *t)
{
	return t->m->victim_count || t->m->victims_overflow || t->now_ns < takeover_quiet_ns(t);
}

bool takeover_waits_out(const struct takeover *t)
{
	return t->fence.state == FENCE_WAIT || (t->state == TK_DRAIN && owes_a_wait(t));
}

/*
 * Who drains waits until nobody is left to be fenced, and serves nobody meanwhile: where each fence takes FENCE_WAIT_NS the
 * office is kept as long.
 */
static bool fences_slowly(const struct takeover *t)
{
	return t->fence.reset_refused && (fence_running(&t->fence) || t->m->victim_count || t->m->victims_overflow);
}

static void serving(struct takeover *t)
{
	const struct member_node *n;

	if (t->m->asked_move) {
		t->moving_to = t->m->asked_move;
		t->m->asked_move = 0;
	}
	if (!t->stopping && !t->moving_to) {
		t->served_by_ns = NEVER;
		return;
	}
	if (t->stopping && t->deadline_ns == NEVER && takeover_told(t))
		t->deadline_ns = t->now_ns + TAKEOVER_LEAVE_NS;
	if (serves_all_first(t) || fences_slowly(t))
		return;
	if (t->stopping) {
		leaving(t);
		return;
	}
	n = member_find(t->m, t->moving_to);
	if (t->moving_to != takeover_self(t) && n && elect_able(t->m, n))
		begin_drain(t, t->moving_to, "asked to move");
	else
		takeover_say(
			t, TRACE_WARN, "asked to move to a node that cannot coordinate -> stays");
	t->moving_to = 0;
}

/*
 * Before that the claim beats: data rests on it, and it may be long, if the ring has to form anew before the others hear that we drain. A beat
 * that is under way would put the release off.
 */
static bool may_release(const struct takeover *t)
{
	return t->closed && !owes_a_wait(t) && member_self(t->m)->state.role == ROLE_DRAINING;
}

/* The claim says CLEAN only if nobody is left who might go on. */
static void draining(struct takeover *t, struct effects *fx)
{
	const struct member_node *n = member_find(t->m, t->handover);
	bool last = t->stopping && others_done(t);

	if (!takeover_quiet(t) || !may_release(t))
		return;
	if (t->stopping && !last && others_excused(t))
		return;
	/* Who lost its path while it registered may have left a key, and has none to tell. */
	if (last && !t->swept && !t->cfg.no_reservations && !t->cfg.standalone) {
		t->swept = true;
		t->cold = false;
		takeover_start_fence(t, true, fx);
		return;
	}
	if (t->handover && !(n && elect_able(t->m, n) && !n->state.leaving)) {
		n = elect_best_staying(t->m, t->stopping ? takeover_self(t) : 0);
		if (!n && t->stopping)
			n = elect_best(t->m, takeover_self(t));
		t->handover = n ? n->node : 0;
	}
	t->claim.heartbeat++;
	t->claim.state = last ? CLAIM_CLEAN : CLAIM_RELEASED;
	/* node_stop.c does it. */
	t->claim.kept = last && !t->cfg.no_reservations && claim_owes(&t->claim);
	trace(t->cfg.trace, TRACE_INFO, "epoch %llu: closed -> claim %s",
		(unsigned long long)t->epoch, t->claim.state == CLAIM_CLEAN ? "clean" : "released");
	takeover_enter(t, TK_RELEASE);
	claim_io_write(&t->io, &t->claim, fx);
}

/*
 * Whom we have given it to has decided to leave as well, meanwhile. If its path breaks before it serves, nobody but us can
 * mark the volume clean.
 */
static bool successor_leaves(const struct takeover *t)
{
	const struct member_node *n = member_find(t->m, t->handover);

	return t->to_stay && t->claim.state != CLAIM_CLEAN && n && n->member && n->heard &&
	       (n->state.leaving == LEAVING_SOON || n->state.leaving == LEAVING_READY);
}

static void releasing(struct takeover *t, struct effects *fx)
{
	if (claim_io_busy(&t->io))
		return;
	switch (claim_io_result(&t->io)) {
	case CLAIM_NONE:
	case CLAIM_BUSY:
		break;
	case CLAIM_DONE:
		if (t->stopping && !successor_leaves(t))
			takeover_enter(t, TK_STOPPED);
		else
			takeover_enter(t, TK_AGREE);
		break;
	case CLAIM_FENCED:
		takeover_lose_fenced(
			t, "RESERVATION CONFLICT on the release: fenced by another node");
		break;
	case CLAIM_UNKNOWN:
		takeover_lose(t, "the path broke at the release");
		break;
	case CLAIM_FAILED:
		/* The other place was chosen meanwhile. */
		if (t->now_ns < t->poll_ns && t->poll_ns != NEVER)
			break;
		t->poll_ns = t->now_ns + CLAIM_BEAT_NS;
		claim_io_write(&t->io, &t->claim, fx);
		break;
	}
}

void takeover_ours(struct takeover *t, struct effects *fx)
{
	if (ours_ends(t))
		return;
	if (t->state != TK_RELEASE) {
		takeover_fenced_step(t);
		background_fence(t, fx);
		if (t->state != TK_LOST && !(t->state == TK_DRAIN && may_release(t)))
			beat(t, fx);
		if (t->state == TK_LOST)
			return;
	}
	switch (t->state) {
	case TK_OPEN:
		if (t->ready)
			begin_reclaim(t);
		break;
	case TK_RECLAIM:
		/* Who was away when that was told opens its path, and reclaims, only when it has heard it. */
		tell_fenced(t, fx);
		reclaiming(t);
		break;
	case TK_SERVE:
		tell_fenced(t, fx);
		serving(t);
		break;
	case TK_DRAIN:
		draining(t, fx);
		break;
	case TK_RELEASE:
		releasing(t, fx);
		break;
	default:
		csv_assert(!"ours");
	}
}
