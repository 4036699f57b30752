/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_stop.c - leaving: files are closed, the claim is handed on, the sessions end, our key goes, exit.
 * Each step has an end of its own, so that an unmount ends even if nobody answers. If all leave at once nobody exits
 * before the last one has marked the volume clean: with a daemon its host may go, and with that the quorum.
 */
#include <errno.h>
#include <string.h>

#include "coordinator/elect.h"
#include "csvfs/node_int.h"

#define STOP_FILES_NS (10 * NS_PER_SEC)
/* Nobody else may need long to see us go; the claim and the key are worth waiting for. */
#define STOP_TAKEOVER_NS (20 * NS_PER_SEC)
/*
 * ... and so is one fence on a target that refuses resets, and the lease of who was fenced: left in the midst of that, there is a takeover,
 * which fences again.
 */
#define STOP_FENCE_NS (FENCE_WAIT_NS + 3 * NS_PER_SEC)
/* Longer than a coordinator waits for us. */
#define STOP_WAIT_NS (15 * NS_PER_SEC)
/* For a successor: while we are there, well and done, it need not fence, nor wait for leases. */
#define STOP_SUCCESSOR_NS (2 * NS_PER_SEC)
/* So long after it others may be told to leave, too: hosts are not shut down at the same nanosecond. */
#define STOP_LINGER_NS (500 * NS_PER_MS)

void node_exit(struct node *n, int32_t err, const char *text, struct effects *fx)
{
	struct effect *e;

	if (n->exited)
		return;
	n->exited = true;
	if (text != n->exit_text)
		trace_format(n->exit_text, sizeof(n->exit_text), "%s", text);
	e = effects_add(fx, FX_EXIT, 0);
	e->net.err = err;
	e->net.bytes = n->exit_text;
	e->net.len = (uint32_t)strlen(n->exit_text);
}

/* The others have been told of the path as we leave it (node.c, tell_path()). */
static void let_go(struct node *n, bool late, struct effects *fx)
{
	if (n->stop_dirty) {
		/* Nobody may count on it: it is given up, and fenced, when it is gone. */
		n->stop = STOP_EXIT;
		return;
	}
	if (n->path.st == PST_UP && n->told_path == MPATH_OK)
		return;
	/* It is coming, and a command is out: a REGISTER that lands later would leave a key behind who looks for such at the end. */
	if (n->path.st != PST_UP && n->path.tag && !late)
		return;
	io_path_end(&n->path, fx);
	/* It is said in the next step, and nothing else may come for long. */
	n->again |= member_own(&n->member)->leaving != LEAVING_DONE;
	member_set_leaving(&n->member, LEAVING_DONE);
}

/* Those who are with us: does one stay, how many leave and are not done? */
static bool one_stays(const struct node *n, uint32_t *not_done)
{
	const struct member_view *v = member_view(&n->member);
	bool stays = false;

	*not_done = 0;
	for (uint32_t i = 0; i < v->count; i++) {
		const struct member_node *m = member_find(&n->member, v->nodes[i]);

		if (m->node == n->cfg.node)
			continue;
		stays |= !m->heard || !m->state.leaving;
		*not_done += m->state.leaving != LEAVING_DONE;
	}
	return stays;
}

static bool others_finish(const struct node *n)
{
	uint32_t not_done;
	bool stays = one_stays(n, &not_done);

	if (!member_view(&n->member)->quorate || !not_done)
		return false;
	return !stays || (!elect_coordinator(&n->member) && elect_best(&n->member, n->cfg.node));
}

/*
 * When our host goes the rest may be without quorum, and is deaf until corosync has noticed (its token's time). If those are shut down with
 * us they say so in a moment; until somebody serves they cannot even be unmounted. (Whose mount fails was no part of it.)
 */
static bool lingers(struct node *n)
{
	const struct member_node *c = elect_coordinator(&n->member);
	uint32_t not_done;
	bool stays = one_stays(n, &not_done);

	if (n->exit_err || !member_view(&n->member)->quorate || !stays)
		return false;
	if (!c || c->state.role != ROLE_SERVING)
		n->stop_linger_ns = n->now_ns + STOP_LINGER_NS;
	return n->now_ns < n->stop_linger_ns;
}

/* Until when we wait for others at most: who stays now may leave as well meanwhile. */
static void stop_limit(struct node *n)
{
	uint32_t not_done;

	n->stop_at_ns = n->stop_done_ns + (one_stays(n, &not_done) ? STOP_SUCCESSOR_NS : STOP_WAIT_NS);
}

/* We use the LUN no more. */
static void stop_done(struct node *n)
{
	n->stop = STOP_WAIT;
	n->stop_done_ns = n->now_ns;
	n->stop_linger_ns = n->now_ns + STOP_LINGER_NS;
	stop_limit(n);
}

static bool waits(struct node *n)
{
	bool lingering = lingers(n);

	stop_limit(n);
	n->stop_look_ns = lingering ? n->stop_linger_ns : NEVER;
	return n->now_ns < n->stop_at_ns && (lingering || others_finish(n));
}

static void stop_takeover(struct node *n, bool late, struct effects *fx)
{
	bool stopped = takeover_state(n->tk) == TK_STOPPED || takeover_state(n->tk) == TK_REFUSED;
	struct effect *e;

	/* Rule 3 of node_carry.c: what it has taken for others ends first. */
	if ((!stopped || node_data_serving(n)) && !late)
		return;
	n->stop_dirty |= !stopped || node_data_serving(n);
	sessions_stop(n->sessions, "unmounted", fx);
	node_session_notes(n, fx);
	if (n->path.st != PST_UP || !n->cfg.reservations || n->stop_dirty) {
		stop_done(n);
		return;
	}
	n->stop = STOP_HOLDER;
	n->stop_tag = node_lun(n, TAG_NODE, LUN_PR_READ_RESERVATION, fx, &e);
}

static void stop_one(struct node *n, struct effects *fx)
{
	bool late = n->now_ns >= n->stop_at_ns;

	switch (n->stop) {
	case STOP_NO:
		return;
	case STOP_FILES:
		node_file_close_all(n, fx);
		if ((n->files.count || !list_empty(&n->creqs)) && !late)
			return;
		n->stop_dirty = n->files.count != 0;
		n->stop = STOP_TAKEOVER;
		n->stop_at_ns = n->now_ns + STOP_TAKEOVER_NS;
		takeover_stop(n->tk);
		return;
	case STOP_TAKEOVER:
		if (late && !n->stop_longer && takeover_waits_out(n->tk)) {
			n->stop_longer = true;
			n->stop_at_ns = n->now_ns + STOP_FENCE_NS;
			return;
		}
		stop_takeover(n, late, fx);
		return;
	case STOP_HOLDER:
	case STOP_UNREGISTER:
		if (late)
			stop_done(n);
		return;
	case STOP_WAIT:
		let_go(n, late, fx);
		if (!waits(n))
			n->stop = STOP_EXIT;
		return;
	case STOP_EXIT:
		if (n->exit_err)
			node_exit(n, n->exit_err, n->exit_text, fx);
		else
			node_exit(n, 0, "unmounted", fx);
		return;
	}
}

void node_leave(struct node *n)
{
	if (n->stop != STOP_NO)
		return;
	n->stop = STOP_FILES;
	n->stop_at_ns = n->now_ns + STOP_FILES_NS;
	member_set_leaving(&n->member, LEAVING_SOON);
	/* It may be the last one: nobody else would close the files, and mark the volume clean. */
	takeover_try_again(n->tk);
	n->again = true;
}

void node_refuse_mount(struct node *n, int32_t err, const char *text)
{
	if (n->ever_served || n->stop != STOP_NO)
		return;
	n->exit_err = err;
	trace_format(n->exit_text, sizeof(n->exit_text), "%s", text);
	n->stop = STOP_FILES;
	n->stop_at_ns = n->now_ns;
	n->again = true;
}

/* What another coordinator, or the same one in a moment, would find again. */
void node_refuse_frozen(struct node *n)
{
	char text[sizeof(n->exit_text)];

	if (vol_reason(n->vol) == VOL_DAMAGED) {
		trace_format(text, sizeof(text), "damaged: %s", vol_error(n->vol));
		node_refuse_mount(n, -EUCLEAN, text);
	} else if (vol_reason(n->vol) == VOL_PROTECTED) {
		node_refuse_mount(n, -EROFS,
			n->cfg.readonly ? "made by a newer csvfs, and not unmounted in order: mount it "
					  "there, or run its fsck.csvfs -p"
					: vol_error(n->vol));
	}
}

void node_stop_step(struct node *n, struct effects *fx)
{
	enum stop_st was = n->stop;

	stop_one(n, fx);
	if (n->stop != was)
		n->again = true;
}

/*
 * Nobody is left who needs it: the others are done, and nobody who was fenced may still have something to send. In a cluster that is not
 * quorate the rest may go on.
 */
static bool may_end_reservation(const struct node *n)
{
	char why[160];
	uint32_t not_done;

	if (one_stays(n, &not_done) || not_done || !member_view(&n->member)->quorate)
		return false;
	if (!takeover_fenced_at_large(n->tk, why, sizeof(why)))
		return true;
	trace(n->trace, TRACE_WARN,
		"%s -> our registration stays at the LUN, and keeps away what it may still send", why);
	return false;
}

/*
 * Our key goes, but not with a reservation that others still need: if we hold it and are not alone,
 * the next coordinator preempts our key, which harms nobody.
 */
bool node_stop_lun_done(struct node *n, const struct event *ev, struct effects *fx)
{
	uint64_t ours = io_path_key(n->cfg.node, n->path.incarnation);
	struct effect *e;

	if (!n->stop_tag || ev->tag != n->stop_tag)
		return false;
	n->stop_tag = 0;
	/* Not executed (a unit attention, after somebody's reset): again. The state's end sets the limit. */
	if (ev->lun.status == LUN_RETRY) {
		n->stop_tag = node_lun(n, TAG_NODE,
			n->stop == STOP_HOLDER ? LUN_PR_READ_RESERVATION : LUN_PR_UNREGISTER, fx,
			&e);
		e->lun.key = ours;
		return true;
	}
	if (n->stop == STOP_HOLDER && ev->lun.status == LUN_OK &&
		(!ev->lun.key_count || ev->lun.keys[0] != ours || may_end_reservation(n))) {
		n->stop = STOP_UNREGISTER;
		n->stop_tag = node_lun(n, TAG_NODE, LUN_PR_UNREGISTER, fx, &e);
		e->lun.key = ours;
		return true;
	}
	n->unregistered = n->stop == STOP_UNREGISTER && ev->lun.status == LUN_OK;
	stop_done(n);
	return true;
}
