/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * takeover.c - election, takeover, handover, and the coordinator's claim.
 *
 *	passive    IDLE  AGREE  HOLD  FOLLOW  FROZEN         (any to any, as the view says)
 *	               | nobody coordinates, we are to
 *	candidate  STAND --> [LOOK --> [WATCH]] --> [HEADSTART] --> FENCE --> CLAIM_READ
 *	               ^ the view changed, from any of these            --> CLAIM_WRITE --> CLAIM_VERIFY
 *	               | the claim with our epoch shows on the LUN
 *	ours       OPEN --> RECLAIM --> SERVE --> DRAIN --> RELEASE --> passive, or STOPPED
 *	               | not quorate, path lost, fenced, a higher epoch: at once, from any of these
 *	           LOST --> passive; to stand again takes another incarnation
 *
 * After a handover in order STAND goes straight to CLAIM_READ. LOOK is taken by who has never seen a
 * coordinator, HEADSTART in half of a cluster.
 *
 * Why two nodes never both coordinate:
 *  - In one view, CPG delivers every CANDIDATE in the same order to all. The first goes on, and
 *    only when every other has ended what it had in flight and withdrawn.
 *  - In different views, each fences the other's keys on the LUN before it writes its claim; the
 *    LUN serialises them, and who finds its own key gone is out.
 *  - What a fenced one still had in flight has ended before the claim is read (fence.h), so the
 *    epoch read is the last one, and replay sees the last journal.
 *
 * Invariants, asserted by takeover_check()
 *  1. The claim is written only after everybody who is not a member with a current incarnation was
 *     fenced in this view, or after a handover in order; never without a working path.
 *  2. An epoch is claimed once: the new one is above every epoch on the LUN and of every STATE.
 *  3. The role that we publish is never less than what we do: NONE is published only when no
 *     command of a claim or fence is in flight and the engine is closed; or with the path told
 *     LOST.
 *  4. One of fence, claim read and claim write is in flight in candidate states; in ours a fence
 *     and a beat may be at the same time. Their buffers are not touched until they are in.
 *  5. Who was in LOST stands again with another incarnation only.
 *  6. Whoever was fenced by somebody outside of its view, or has seen him coordinate (lost_split), stands again only when the
 *     view has more nodes, or the claim is clean or has stood still for TAKEOVER_FROZEN_NS. Who is
 *     not known to have been fenced (split_guessed), and whose own claim is the last one, waits for
 *     a head start's time. A standalone mount that never was ours is REFUSED when the claim beats.
 */
#include "coordinator/takeover.h"

#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "coordinator/elect.h"
#include "coordinator/takeover_priv.h"

#define STEPS_MAX 64

#define TO(s) (1u << (s))
#define PASSIVE (TO(TK_IDLE) | TO(TK_AGREE) | TO(TK_HOLD) | TO(TK_FOLLOW) | TO(TK_FROZEN))
/* Every candidate may be told to stop, to stand again, or lose its path. */
#define CANDIDATE_ENDS (PASSIVE | TO(TK_STAND) | TO(TK_LOST) | TO(TK_STOPPED))
static const uint32_t takeover_moves[TK_STATES] = {
	[TK_IDLE] = PASSIVE | TO(TK_STOPPED),
	[TK_AGREE] = PASSIVE | TO(TK_STAND) | TO(TK_STOPPED),
	[TK_HOLD] = PASSIVE | TO(TK_STAND) | TO(TK_STOPPED),
	[TK_FOLLOW] = PASSIVE | TO(TK_STAND) | TO(TK_STOPPED),
	[TK_STAND] =
		CANDIDATE_ENDS | TO(TK_HEADSTART) | TO(TK_LOOK) | TO(TK_FENCE) | TO(TK_CLAIM_READ),
	[TK_HEADSTART] = CANDIDATE_ENDS | TO(TK_FENCE),
	[TK_LOOK] =
		CANDIDATE_ENDS | TO(TK_WATCH) | TO(TK_HEADSTART) | TO(TK_FENCE) | TO(TK_REFUSED),
	[TK_WATCH] = CANDIDATE_ENDS | TO(TK_HEADSTART) | TO(TK_FENCE) | TO(TK_REFUSED),
	[TK_FENCE] = CANDIDATE_ENDS | TO(TK_CLAIM_READ),
	[TK_CLAIM_READ] = CANDIDATE_ENDS | TO(TK_FENCE) | TO(TK_CLAIM_WRITE) | TO(TK_REFUSED),
	[TK_CLAIM_WRITE] = CANDIDATE_ENDS | TO(TK_CLAIM_VERIFY),
	[TK_CLAIM_VERIFY] = CANDIDATE_ENDS | TO(TK_OPEN),
	[TK_OPEN] = TO(TK_RECLAIM) | TO(TK_LOST),
	[TK_RECLAIM] = TO(TK_SERVE) | TO(TK_LOST),
	[TK_SERVE] = TO(TK_DRAIN) | TO(TK_LOST),
	[TK_DRAIN] = TO(TK_RELEASE) | TO(TK_LOST),
	[TK_RELEASE] = PASSIVE | TO(TK_STOPPED) | TO(TK_LOST),
	[TK_LOST] = PASSIVE | TO(TK_STOPPED),
	[TK_FROZEN] = PASSIVE | TO(TK_STAND) | TO(TK_REFUSED) | TO(TK_STOPPED),
	[TK_REFUSED] = TO(TK_FOLLOW) | TO(TK_IDLE) | TO(TK_STOPPED),
	[TK_STOPPED] = 0,
};

const char *takeover_state_name(enum takeover_state s)
{
	static const char names[TK_STATES][16] = {
		"idle",
		"agree",
		"hold",
		"follow",
		"stand",
		"headstart",
		"look",
		"watch",
		"fence",
		"claim-read",
		"claim-write",
		"claim-verify",
		"open",
		"reclaim",
		"serve",
		"drain",
		"release",
		"lost",
		"frozen",
		"refused",
		"stopped",
	};

	return s < TK_STATES ? names[s] : "?";
}

/* ------------------------------------------------------------------ small things */

bool takeover_is_candidate(const struct takeover *t)
{
	return t->state >= TK_STAND && t->state <= TK_CLAIM_VERIFY;
}

bool takeover_is_ours(const struct takeover *t)
{
	return t->state >= TK_OPEN && t->state <= TK_RELEASE;
}

uint32_t takeover_self(const struct takeover *t)
{
	return member_own(t->m)->node;
}

uint64_t takeover_own_key(const struct takeover *t)
{
	return FENCE_KEY(takeover_self(t), t->incarnation);
}

bool takeover_path_works(const struct takeover *t)
{
	const struct member_state *s = member_own(t->m);

	return s->path == MPATH_OK && s->incarnation != t->lost_incarnation &&
	       !member_was_fenced(t->m, s->incarnation);
}

bool takeover_quiet(const struct takeover *t)
{
	return !fence_running(&t->fence) && !claim_io_busy(&t->io);
}

void takeover_say(const struct takeover *t, enum trace_level level, const char *text)
{
	trace(t->cfg.trace, level, "%s", text);
}

static void set_reason(struct takeover *t, const char *text)
{
	(void)trace_format(t->reason, sizeof(t->reason), "%s", text);
}

static enum member_role role_of(enum takeover_state s)
{
	switch (s) {
	case TK_STAND:
	case TK_HEADSTART:
	case TK_LOOK:
	case TK_WATCH:
	case TK_FENCE:
	case TK_CLAIM_READ:
	case TK_CLAIM_WRITE:
	case TK_CLAIM_VERIFY:
		return ROLE_CANDIDATE;
	case TK_OPEN:
	case TK_RECLAIM:
		return ROLE_RECOVERING;
	case TK_SERVE:
		return ROLE_SERVING;
	case TK_DRAIN:
	case TK_RELEASE:
		return ROLE_DRAINING;
	case TK_IDLE:
	case TK_AGREE:
	case TK_HOLD:
	case TK_FOLLOW:
	case TK_LOST:
	case TK_FROZEN:
	case TK_REFUSED:
	case TK_STOPPED:
	case TK_STATES:
		break;
	}
	return ROLE_NONE;
}

/* Others are to be preferred: we could not take over, or may not try for now (invariant 6). */
static bool is_unfit(const struct takeover *t)
{
	return t->unfit || t->lost_split;
}

/* What we publish follows from the state, in this one place (invariant 3). */
static void tell_role(struct takeover *t)
{
	enum member_role role = role_of(t->state);
	uint64_t epoch = role >= ROLE_RECOVERING ? t->epoch : member_epoch_seen(t->m);
	bool released = role == ROLE_NONE && t->handover && epoch == t->epoch;

	member_set_role(t->m, role, epoch, released ? t->handover : 0, is_unfit(t));
	member_set_against(t->m, role == ROLE_CANDIDATE && t->hung_node ? t->hung_epoch : 0);
	member_set_before(t->m, role >= ROLE_RECOVERING ? t->served_before : 0);
}

void takeover_enter(struct takeover *t, enum takeover_state to)
{
	csv_assert(takeover_moves[t->state] & TO(to));
	trace(t->cfg.trace, TRACE_DEBUG, "takeover: %s -> %s", takeover_state_name(t->state),
		takeover_state_name(to));
	t->state = to;
	t->deadline_ns = t->poll_ns = NEVER;
	t->frozen_sent_ns = 0;
	if (to != TK_FOLLOW)
		t->following = 0;
	/* Who did not answer us may be well: it says to the next one what it holds. */
	if (!takeover_is_ours(t))
		member_victims_undecide(t->m);
	takeover_hang_forget(t);
	tell_role(t);
}

/*
 * Coordination, or the right to stand for it, is gone together with the path's incarnation. The
 * path is told LOST in the same STATE as the role: nobody may take our key for a harmless one
 * while the engine's last writes are in flight.
 */
void takeover_lose(struct takeover *t, const char *why)
{
	const struct member_state *s = member_own(t->m);

	set_reason(t, why);
	trace(t->cfg.trace, TRACE_WARN, "%s -> %s, epoch %llu, incarnation %x is given up", why,
		takeover_is_ours(t) ? "coordinates no more" : "does not stand",
		(unsigned long long)t->epoch, t->incarnation);
	t->lost_incarnation = t->incarnation;
	t->quit = t->restart = t->in_order = false;
	t->handover = t->moving_to = 0;
	fence_cancel(&t->fence);
	takeover_fence_noted(t);
	claim_io_cancel(&t->io);
	if (s->incarnation == t->incarnation && s->path != MPATH_NONE)
		member_set_path(t->m, MPATH_LOST, s->incarnation);
	takeover_enter(t, TK_LOST);
	t->lost_fenced = false;
	t->lost_step = t->step;
	t->deadline_ns = t->now_ns + 1;
}

static void lose_split(struct takeover *t, bool guessed)
{
	t->lost_split = true;
	t->split_guessed = guessed;
	/* Our corosync may just have gone, too: when it is back alone, nobody has come. */
	t->view_count = t->m->quorate_view.member_count;
	memset(&t->watched, 0, sizeof(t->watched));
	t->watched_ns = t->frozen_sent_ns = t->beaten_ns = 0;
}

void takeover_lose_fenced(struct takeover *t, const char *why)
{
	lose_split(t, false);
	takeover_lose(t, why);
	t->lost_fenced = true;
}

void takeover_wait_for_half(struct takeover *t)
{
	static const char why[] = "the other half of the cluster coordinates";

	lose_split(t, false);
	set_reason(t, why);
	takeover_withdraw(t, why);
}

bool takeover_lost_fenced(const struct takeover *t)
{
	return t->state == TK_LOST && t->lost_fenced;
}

bool takeover_write_protected(const struct takeover *t)
{
	return t->unfit && t->io.is_protected;
}

void takeover_withdraw(struct takeover *t, const char *why)
{
	if (!t->quit)
		trace(t->cfg.trace, TRACE_INFO, "%s -> withdraws", why);
	t->quit = true;
}

void takeover_become_unfit(struct takeover *t, const char *why, uint64_t for_ns)
{
	set_reason(t, why);
	t->unfit = true;
	t->unfit_ns = t->now_ns + for_ns;
	takeover_withdraw(t, why);
}

void takeover_refuse(struct takeover *t, const char *why)
{
	set_reason(t, why);
	trace(t->cfg.trace, TRACE_ERROR, "%s -> refused", why);
	takeover_enter(t, TK_REFUSED);
}

void takeover_refuse_in_use(struct takeover *t, const struct claim *by)
{
	char why[160];

	if (by->node & NODE_ALONE)
		(void)trace_format(why, sizeof(why), "in use by %s, without a cluster", by->name);
	else
		(void)trace_format(why, sizeof(why), "in use by %s (node %u)", by->name, by->node);
	takeover_refuse(t, why);
}

/* ------------------------------------------------------------------ fencing */

/*
 * Who has left in order, and is still in the group, has not taken its key away if that held the reservation. It is no stranger's:
 * nothing of it needs to be drained, and it is not at large.
 */
static void expect_clean(struct takeover *t)
{
	for (uint32_t i = 0; i < t->m->node_count; i++) {
		const struct member_node *n = &t->m->nodes[i];

		if (n->node != takeover_self(t) && n->member && n->heard && !n->fenced && n->state.path == MPATH_CLEAN)
			member_victim_add(t->m, n->node, n->state.incarnation, false);
	}
}

void takeover_start_fence(struct takeover *t, bool all_but, struct effects *fx)
{
	struct fence_order o = {
		.key = takeover_own_key(t),
		.all_but = all_but,
		.barrier = t->m->victims_overflow || (all_but && t->cold),
		.keep = elect_keeps,
		.keep_ctx = t->m,
		.victims = t->m->victims,
	};

	if (all_but)
		expect_clean(t);
	o.victim_count = t->m->victim_count;
	t->fencing_all = all_but;
	t->fencing_unlisted = t->m->unlisted_count;
	fence_start(&t->fence, &o, t->now_ns, fx);
}

/* The group's order is the proof: a word of ours that was said later has come back. */
static void hear(struct takeover *t, struct effects *fx)
{
	if (t->fence.state != FENCE_HEAR) {
		t->hear = 0;
		return;
	}
	if (!t->hear)
		t->hear = member_ask_back(t->m);
	if (!member_came_back(t->m, t->hear))
		return;
	t->hear = 0;
	fence_heard(&t->fence, fx);
}

void takeover_fence_noted(struct takeover *t)
{
	takeover_fenced_noted(t);
	if (!fence_left_undrained(&t->fence))
		return;
	trace(t->cfg.trace, TRACE_WARN,
		"a fence ended before its barrier -> whoever fences next drains, and fences all but the members");
	member_victims_more(t->m);
}

void takeover_fence_succeeded(struct takeover *t, struct effects *fx)
{
	takeover_fenced_noted(t);
	if (t->fencing_all)
		member_victims_covered(t->m, t->fencing_unlisted, t->now_ns);
	member_send_fenced(t->m, t->fence.fenced, t->fence.fenced_count, t->now_ns, fx);
	fence_forget(&t->fence);
}

/* ------------------------------------------------------------------ passive */

static void passive_move(struct takeover *t, enum takeover_state to)
{
	if (t->state != to)
		takeover_enter(t, to);
	else
		tell_role(t);
}

void takeover_seen(struct takeover *t)
{
	if (t->seen_ns == NEVER)
		t->seen_ns = t->now_ns;
}

static void follow(struct takeover *t, uint32_t node)
{
	const struct member_node *n = member_find(t->m, node);

	if (t->state != TK_FOLLOW || t->following != node) {
		passive_move(t, TK_FOLLOW);
		t->following = node;
		t->hung_node = 0;
		takeover_hang_forget(t);
		if (!node)
			t->deadline_ns = t->now_ns + TAKEOVER_PATIENCE_NS;
		else
			trace(t->cfg.trace, TRACE_INFO, "node %u is %s, epoch %llu -> follows it",
				node, member_role_name(n->state.role),
				(unsigned long long)n->state.epoch);
	}
	if (n && n->state.role >= ROLE_RECOVERING) {
		takeover_seen(t);
		/* What we claimed is not the last claim any more, or never was one. */
		t->has_claimed &= n->state.epoch < t->claim.epoch;
		t->lost_split = false;
		takeover_fenced_forget(t);
		tell_role(t);
	}
}

void takeover_stand(struct takeover *t, const char *why)
{
	const struct member_view *v = member_view(t->m);

	/* Only when quiet: nothing of an earlier try decides this one. */
	takeover_fence_noted(t);
	fence_forget(&t->fence);
	claim_io_forget(&t->io);
	t->incarnation = member_own(t->m)->incarnation;
	t->view = v->number;
	t->quit = t->restart = t->in_order = t->cold = false;
	trace(t->cfg.trace, TRACE_INFO, "view %llu: %s -> stands with %x",
		(unsigned long long)v->number, why, t->incarnation);
	takeover_enter(t, TK_STAND);
}

void takeover_fenced_outside(struct takeover *t)
{
	const struct member_view *v = member_view(t->m);

	if (t->lost_split && t->split_guessed)
		t->guessed_ns = t->now_ns;
	/* Without a cluster anybody may have mounted it. Our corosync may just be away, too: it will be back with the half that it was. */
	if (t->lost_split || !(t->cfg.standalone || (v->quorate ? v->halved : t->m->half)))
		return;
	trace(t->cfg.trace, TRACE_WARN, "our key is gone, and nobody here took it -> looks whether the other half coordinates");
	lose_split(t, true);
	t->guessed_ns = t->now_ns;
}

/* Nobody coordinates in an agreed view: is it us who should? */
static void elect(struct takeover *t)
{
	const struct member_node *best = elect_best(t->m, 0);
	bool ours = best && best->node == takeover_self(t) && takeover_path_works(t);

	if (!best || (ours && t->unfit)) {
		passive_move(t, TK_HOLD);
	} else if (ours && t->lost_split) {
		passive_move(t, TK_FROZEN);
	} else if (!takeover_quiet(t)) {
		return; /* a look at the claim from FROZEN is under way */
	} else if (ours) {
		passive_move(t, TK_AGREE);
		t->hung_node = 0;
		takeover_stand(t, "nobody coordinates, we are to");
	} else if (t->state == TK_FOLLOW && !t->following && t->now_ns >= t->deadline_ns &&
		   takeover_path_works(t) && !t->unfit && !t->lost_split) {
		t->hung_node = 0;
		takeover_stand(t, "who should stand does not");
	} else {
		follow(t, 0);
	}
}

/* Others judge us by the STATE that they have: until our last one is there, neither do we. */
bool takeover_told(const struct takeover *t)
{
	const struct member_node *me = member_self(t->m);
	const struct member_state *own = member_own(t->m);

	return me->answered && me->state.role == own->role && me->state.path == own->path &&
	       me->state.incarnation == own->incarnation && me->state.unfit == own->unfit &&
	       own->unfit == is_unfit(t) && me->state.leaving == own->leaving;
}

static void passive(struct takeover *t)
{
	const struct member_view *v = member_view(t->m);
	const struct member_node *n;

	t->m->asked_move = 0;
	if (t->stopping && takeover_may_go(t)) {
		/* First all hear that we are not counted on. If it still holds then, we go. */
		if (member_own(t->m)->leaving < LEAVING_READY)
			member_set_leaving(t->m, LEAVING_READY);
		if (!v->quorate || !v->agreed || takeover_told(t))
			takeover_enter(t, TK_STOPPED);
		return;
	}
	if (!v->quorate) {
		passive_move(t, TK_IDLE);
		return;
	}
	if (t->lost_split && v->count > t->view_count)
		t->lost_split = false;
	tell_role(t);
	if (!v->agreed) {
		/* Whom we follow goes on serving meanwhile, if it is still there. */
		if (t->state != TK_FOLLOW || !t->following || !member_present(t->m, t->following))
			passive_move(t, TK_AGREE);
		return;
	}
	if (!takeover_told(t))
		return;
	if (takeover_hang_stands(t))
		return;
	n = elect_coordinator(t->m);
	if (!n)
		n = elect_standing(t->m);
	if (n)
		follow(t, n->node);
	else
		elect(t);
}

/* REFUSED ends when somebody of our own cluster coordinates, or by the node's decision to exit. */
static void refused(struct takeover *t)
{
	const struct member_node *n = elect_coordinator(t->m);

	if (t->stopping)
		takeover_enter(t, TK_STOPPED);
	else if (member_view(t->m)->agreed && n && n->node != takeover_self(t))
		follow(t, n->node);
}

bool takeover_claim_moved(const struct claim *a, const struct claim *b)
{
	return a->epoch != b->epoch || a->heartbeat != b->heartbeat || a->state != b->state ||
	       a->life != b->life;
}

/* Unless it moves before, the claim that is watched keeps nobody from standing then. */
static uint64_t frozen_until(const struct takeover *t)
{
	/*
	 * Whoever takes a coordinator's key away claims next. If nobody has, our key may just have been forgotten, or
	 * replaced by ourselves: the other half has the time that a head start gives it, and another one before we fence.
	 */
	if (!t->split_guessed || t->watched.life != member_own(t->m)->life)
		return t->watched_ns + TAKEOVER_FROZEN_NS;
	return (t->guessed_ns > t->watched_ns ? t->guessed_ns : t->watched_ns) + TAKEOVER_HEADSTART_NS;
}

/*
 * Two that mount the volume without a cluster, at one moment: each has found it free, and one has fenced the other. Who
 * has never had it does not wait for it. (The claim itself and one beat may be of one that died right after.)
 */
static bool is_anothers(struct takeover *t)
{
	if (!t->cfg.standalone || t->has_served || !t->watched.epoch || t->watched.state != CLAIM_HELD)
		return false;
	if (!t->beaten_ns)
		t->beaten_ns = t->now_ns;
	return t->now_ns >= t->beaten_ns + TAKEOVER_LIVES_NS;
}

/* A look came back. True: nobody outside of our view coordinates. */
static bool frozen_looked(struct takeover *t)
{
	const struct claim *best = claim_io_result(&t->io) == CLAIM_DONE ? claim_io_best(&t->io) : NULL;
	uint64_t sent_ns = t->frozen_sent_ns, until_ns;

	t->frozen_sent_ns = 0;
	t->poll_ns = t->now_ns + CLAIM_BEAT_NS / 2;
	if (!best)
		return false;
	if (takeover_claim_moved(best, &t->watched)) {
		if (is_anothers(t)) {
			takeover_refuse_in_use(t, best);
			return false;
		}
		t->watched = *best;
		t->watched_ns = t->now_ns;
	}
	until_ns = frozen_until(t);
	if (until_ns > t->now_ns && until_ns < t->poll_ns)
		t->poll_ns = until_ns;
	return best->state == CLAIM_CLEAN || sent_ns >= until_ns;
}

/*
 * Invariant 6: somebody outside of our view has fenced us, or may have. As long as its claim beats it
 * coordinates; a clean one says that all who were with it have gone. What was seen outlasts the loss of our path, and
 * of our quorum: a claim's values never come again, so one that is unchanged afterwards did not beat meanwhile.
 */
static void frozen(struct takeover *t, struct effects *fx)
{
	if (!t->lost_split || claim_io_busy(&t->io))
		return;
	if (!takeover_path_works(t)) {
		t->frozen_sent_ns = 0;
		t->poll_ns = NEVER;
		return;
	}
	if (t->frozen_sent_ns && frozen_looked(t)) {
		if (t->watched.life == member_own(t->m)->life)
			takeover_say(t, TRACE_WARN, "nobody has claimed since we did -> tries again");
		else
			trace(t->cfg.trace, TRACE_WARN, "the claim of %s %s -> tries again", t->watched.name,
				t->watched.state == CLAIM_CLEAN ? "is clean" : "has stood still");
		t->lost_split = false;
	} else if (t->state == TK_FROZEN && (t->poll_ns == NEVER || t->now_ns >= t->poll_ns)) {
		t->poll_ns = NEVER;
		t->frozen_sent_ns = t->now_ns;
		claim_io_read(&t->io, fx);
	}
}

/*
 * The node has seen LOST at the end of the step before, and abandoned the engine. What the lost
 * incarnation has in flight is not waited for: whoever coordinates next drains it, and we may
 * follow it at once.
 */
static void lost(struct takeover *t)
{
	if (t->step != t->lost_step)
		takeover_enter(t, TK_IDLE);
}

/* ------------------------------------------------------------------ the machine */

static void run(struct takeover *t, struct effects *fx)
{
	if (t->unfit && t->now_ns >= t->unfit_ns) {
		t->unfit = false;
		tell_role(t);
	}
	if (t->stopping && !t->pathless_ns)
		t->pathless_ns = t->now_ns + TAKEOVER_PATHLESS_NS;
	takeover_hang_candidates(t);
	hear(t, fx);
	fence_step(&t->fence, t->now_ns, fx);
	takeover_fence_noted(t);
	claim_io_step(&t->io, t->now_ns, fx);
	switch (t->state) {
	case TK_FROZEN:
		frozen(t, fx);
		if (t->state == TK_FROZEN)
			passive(t);
		break;
	case TK_FOLLOW:
		takeover_hang_step(t, fx);
		passive(t);
		break;
	case TK_IDLE:
	case TK_AGREE:
	case TK_HOLD:
		passive(t);
		break;
	case TK_STAND:
	case TK_HEADSTART:
	case TK_LOOK:
	case TK_WATCH:
	case TK_FENCE:
	case TK_CLAIM_READ:
	case TK_CLAIM_WRITE:
	case TK_CLAIM_VERIFY:
		takeover_candidate(t, fx);
		break;
	case TK_OPEN:
	case TK_RECLAIM:
	case TK_SERVE:
	case TK_DRAIN:
	case TK_RELEASE:
		takeover_ours(t, fx);
		break;
	case TK_LOST:
		lost(t);
		break;
	case TK_REFUSED:
		refused(t);
		break;
	case TK_STOPPED:
	case TK_STATES:
		break;
	}
}

void takeover_step(struct takeover *t, uint64_t now_ns, struct effects *fx)
{
	t->now_ns = now_ns;
	t->step++;
	for (unsigned i = 0; i < STEPS_MAX; i++) {
		enum takeover_state state = t->state;
		uint64_t changes = t->m->changes;

		run(t, fx);
		member_publish(t->m, now_ns, fx);
		if (t->state == state && t->m->changes == changes)
			break;
	}
	takeover_check(t);
	member_check(t->m);
}

/* What was due in this step was looked at; if it still stands, it waits for something else. */
static void earlier(const struct takeover *t, uint64_t *at, uint64_t ns)
{
	if (ns > t->now_ns && ns < *at)
		*at = ns;
}

uint64_t takeover_deadline(const struct takeover *t)
{
	uint64_t at = NEVER;

	earlier(t, &at, t->deadline_ns);
	earlier(t, &at, t->poll_ns);
	earlier(t, &at, member_deadline(t->m));
	earlier(t, &at, fence_deadline(&t->fence));
	earlier(t, &at, claim_io_deadline(&t->io));
	earlier(t, &at, takeover_hang_deadline(t));
	earlier(t, &at, t->tell_due_ns);
	if (t->unfit)
		earlier(t, &at, t->unfit_ns);
	if (t->stopping)
		earlier(t, &at, t->pathless_ns);
	if (takeover_is_ours(t)) {
		earlier(t, &at, t->beat_ns);
		earlier(t, &at, t->refence_ns);
		earlier(t, &at, t->m->fenced_again_ns);
		if (t->state == TK_SERVE)
			earlier(t, &at, t->served_by_ns);
		if (t->state == TK_RECLAIM || (t->state == TK_DRAIN && t->closed))
			earlier(t, &at, takeover_quiet_ns(t));
		if (t->state == TK_RECLAIM)
			earlier(t, &at, t->deadline_ns + TAKEOVER_RECLAIM_MORE_NS);
	}
	return at;
}

void takeover_lun_done(struct takeover *t, const struct event *ev, struct effects *fx)
{
	t->now_ns = ev->now_ns;
	if (!fence_lun_done(&t->fence, ev, fx))
		(void)claim_io_lun_done(&t->io, ev, fx);
}

/* ------------------------------------------------------------------ told and asked by the node */

struct takeover *takeover_create(const struct takeover_config *cfg)
{
	struct takeover *t = mem_alloc(cfg->mem, sizeof(*t));

	if (!t)
		return NULL;
	t->cfg = *cfg;
	t->m = cfg->member;
	t->mem = cfg->mem;
	t->deadline_ns = t->poll_ns = t->seen_ns = t->tell_due_ns = NEVER;
	t->hang.unheard_ns = NEVER;
	takeover_hang_forget(t);
	/* The fence's tags and the claim's never meet. */
	fence_init(&t->fence, cfg->trace, cfg->tag_seed & ~(1ull << 54));
	if (claim_io_init(&t->io, cfg->mem, cfg->uuid, cfg->tag_seed | (1ull << 54))) {
		mem_free(cfg->mem, t, sizeof(*t));
		return NULL;
	}
	return t;
}

void takeover_destroy(struct takeover *t)
{
	claim_io_fini(&t->io, t->mem);
	mem_free(t->mem, t, sizeof(*t));
}

enum takeover_state takeover_state(const struct takeover *t)
{
	return t->state;
}

const char *takeover_reason(const struct takeover *t)
{
	return t->reason;
}

uint64_t takeover_epoch(const struct takeover *t)
{
	return takeover_is_ours(t) ? t->epoch : member_epoch_seen(t->m);
}

uint64_t takeover_beat_ns(const struct takeover *t)
{
	return takeover_is_ours(t) ? t->beat_taken_ns : 0;
}

bool takeover_mine(const struct takeover *t)
{
	return t->state >= TK_OPEN && t->state <= TK_DRAIN;
}

struct takeover_coordinator takeover_coordinator(const struct takeover *t)
{
	uint32_t node =
		takeover_is_candidate(t) || takeover_is_ours(t) ? takeover_self(t) : t->following;
	const struct member_node *n = node ? member_find(t->m, node) : NULL;
	const struct member_state *s;

	if (!n)
		return (struct takeover_coordinator){0};
	s = node == takeover_self(t) ? member_own(t->m) : &n->state;
	return (struct takeover_coordinator){
		.node = node,
		.life = s->life,
		.epoch = s->epoch,
		.before = s->before,
		.role = s->role,
		.name = s->name,
		.addr = s->addr,
		.port = s->port,
	};
}

void takeover_volume_ready(struct takeover *t)
{
	if (t->state == TK_OPEN)
		t->ready = true;
}

void takeover_volume_closed(struct takeover *t)
{
	if (t->state == TK_DRAIN)
		t->closed = true;
}

void takeover_volume_failed(struct takeover *t, const char *reason)
{
	if (!takeover_mine(t))
		return;
	t->unfit = true;
	t->unfit_ns = t->now_ns + TAKEOVER_UNFIT_NS;
	takeover_lose(t, reason);
}

void takeover_volume_lost(struct takeover *t, const char *reason)
{
	if (takeover_mine(t))
		takeover_lose(t, reason);
}

int takeover_move(struct takeover *t, uint32_t target, struct effects *fx)
{
	const struct member_node *n = member_find(t->m, target);
	struct takeover_coordinator c = takeover_coordinator(t);

	if (!n || !n->member)
		return -ENOENT;
	if (!elect_able(t->m, n))
		return -ENODEV;
	if (n->state.unfit || n->state.leaving)
		return -EBUSY;
	if (c.role != ROLE_SERVING)
		return -EAGAIN;
	if (c.node == target)
		return -EALREADY;
	if (t->state == TK_SERVE)
		t->moving_to = target;
	else
		member_send_move(t->m, target, fx);
	return 0;
}

void takeover_fence_node(struct takeover *t, uint32_t node, const char *reason)
{
	const struct member_node *n = member_find(t->m, node);

	if (!takeover_mine(t) || !n || !n->state.incarnation)
		return;
	trace(t->cfg.trace, TRACE_WARN, "node %u: %s -> fence %u/%x", node, reason, node,
		n->state.incarnation);
	member_victim_decide(t->m, node, n->state.incarnation);
}

void takeover_be_patient(struct takeover *t, uint64_t now_ns)
{
	if (t->state == TK_RECLAIM)
		t->deadline_ns = now_ns + TAKEOVER_RECLAIM_NS;
}

bool takeover_may_go(const struct takeover *t)
{
	const struct member_view *v = member_view(t->m);
	const struct member_node *c = elect_coordinator(t->m);

	/* We cannot, or have never had a part in it. */
	if (!v->quorate || t->seen_ns == NEVER || is_unfit(t))
		return true;
	if (!takeover_path_works(t) && t->now_ns >= t->pathless_ns)
		return true;
	/* Until all know that we leave we may be given the epoch. */
	if (!v->agreed || !takeover_told(t))
		return false;
	if (c && c->node != takeover_self(t))
		return c->state.role == ROLE_SERVING ||
		       (c->state.role == ROLE_DRAINING && member_self(t->m)->excused);
	return elect_best_staying(t->m, takeover_self(t)) != NULL;
}

void takeover_try_again(struct takeover *t)
{
	if (!t->unfit)
		return;
	trace(t->cfg.trace, TRACE_INFO, "leaves, and could not take over (%s) -> may try once more", t->reason);
	t->unfit = false;
	tell_role(t);
}

void takeover_stop(struct takeover *t)
{
	if (!member_own(t->m)->leaving)
		member_set_leaving(t->m, LEAVING_SOON);
	t->stopping = true;
}

void takeover_check(const struct takeover *t)
{
	const struct member_state *own = member_own(t->m);

	fence_check(&t->fence);
	/* 3 */
	csv_assert(own->role == role_of(t->state));
	if (takeover_is_ours(t))
		csv_assert(own->epoch == t->epoch);
	/* 1, 2 */
	if (t->state == TK_CLAIM_WRITE || t->state == TK_CLAIM_VERIFY) {
		csv_assert(t->claim.incarnation == t->incarnation);
		csv_assert(t->in_order || t->cfg.no_reservations || !fence_running(&t->fence));
	}
	if (takeover_is_ours(t))
		csv_assert(t->epoch == t->claim.epoch && t->epoch > 0);
	/* 4 */
	if (takeover_is_candidate(t))
		csv_assert(!(fence_running(&t->fence) && claim_io_busy(&t->io)));
	/* 5 */
	if (t->state == TK_LOST)
		csv_assert(own->path != MPATH_OK || own->incarnation != t->incarnation);
	if (takeover_is_candidate(t) || takeover_is_ours(t))
		csv_assert(t->incarnation != t->lost_incarnation);
}
