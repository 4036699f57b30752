/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * takeover.h - which node coordinates the volume: election, fence, claim, reclaim, handover.
 *
 * csvfs/node.c feeds it, calls takeover_step() at the end of every step, and acts on the state:
 *
 *   state            what node.c does
 *   TK_IDLE          not quorate: gate closed, everything held (invariant 14 of the system)
 *   TK_AGREE         nothing yet; I/O on existing layouts goes on while leases last
 *   TK_HOLD          as TK_AGREE: nobody can coordinate
 *   TK_FOLLOW        keep a session to takeover_coordinator() when its role is RECOVERING or more
 *   TK_STAND .. TK_CLAIM_VERIFY   nothing: we are the candidate
 *   TK_OPEN          vol_open(takeover_epoch()) -> takeover_volume_ready() or
 *   takeover_volume_failed() TK_RECLAIM       takes reclaims, of ourselves too ->
 *   takeover_reclaimed(node) for each TK_SERVE         serves TK_DRAIN         stops requests,
 *   vol_close() -> takeover_volume_closed() [or _failed()] TK_RELEASE       nothing: the claim
 *   is given up; then TK_FOLLOW, TK_HOLD or TK_STOPPED TK_LOST          vol_abandon();
 *   FX_PATH_CLOSE; comes back with another incarnation. Lasts until
 *                    the next step: it is seen once, after takeover_step(). The path was told
 *                    MPATH_LOST.
 *   TK_FROZEN        lost a split: as TK_IDLE; the other side's claim is watched
 *   TK_REFUSED       takeover_reason(): in use by somebody else, or no valid claim. Ends nothing by
 *                    itself: FX_EXIT while mounting, else hold
 *   TK_STOPPED       after takeover_stop(): drain, MPATH_CLEAN, leave the group
 *
 * Pure. Moves, timeline and invariants are at the head of takeover.c and in PROTOCOL.md.
 */
#ifndef CSVFS_COORDINATOR_TAKEOVER_H
#define CSVFS_COORDINATOR_TAKEOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/claim.h"
#include "csvfs/base/mem.h"
#include "csvfs/base/platform.h"
#include "csvfs/base/trace.h"
#include "coordinator/fence.h"
#include "coordinator/member.h"

/* In a split where both sides may be quorate, who did not coordinate waits before it preempts. */
#define TAKEOVER_HEADSTART_NS (2 * NS_PER_SEC)
#define TAKEOVER_RECLAIM_NS (3 * NS_PER_SEC)
/*
 * More for one whose session stands: it looks for its registration first, and if its path is lost just then it knows after 4 s
 * (the answer's limit), and reclaims without.
 */
#define TAKEOVER_RECLAIM_MORE_NS (5 * NS_PER_SEC)
/* The coordinator's lease runs from its beats: it beats more often than it has to. */
#define TAKEOVER_BEAT_NS (CLAIM_BEAT_NS / 4)
/* A claim that stood still so long has nobody behind it: 2.5 beats. */
#define TAKEOVER_WATCH_NS (CLAIM_BEAT_NS * 5 / 2)
/* A claim that moves, and moves so long after that, has somebody behind it. */
#define TAKEOVER_LIVES_NS (CLAIM_BEAT_NS * 3 / 2)
/* The loser of a split tries again when the winner's claim stood still so long. */
#define TAKEOVER_FROZEN_NS (5 * CLAIM_BEAT_NS)
/* A coordinator that hangs (takeover_hang.c): a follower looks at its claim after UNEASY without a word. */
#define TAKEOVER_UNEASY_NS (1500 * NS_PER_MS)
#define TAKEOVER_HUNG_NS (5 * NS_PER_SEC)
#define TAKEOVER_STILL_NS (CLAIM_BEAT_NS * 7 / 4)
#define TAKEOVER_LOOK_NS (500 * NS_PER_MS) /* from one look to the next; a slower one does not count */
/* A candidate says so often that it is there. */
#define TAKEOVER_TELL_NS NS_PER_SEC
/*
 * Of whom the last coordinator had lost before, its successor need not think: by then all members have known of the loss
 * (MEMBER_AGREE_NS), and what was lost had a lease of 2 s.
 */
#define TAKEOVER_LOST_NS (5 * NS_PER_SEC)
/* A coordinator that leaves with all others waits for them so long: longer than they take to close their files. */
#define TAKEOVER_LEAVE_NS (12 * NS_PER_SEC)
/* Who leaves, has no path and nobody who ends the claim for it waits so long for one. */
#define TAKEOVER_PATHLESS_NS (5 * NS_PER_SEC)
/* Who gives up in order a term that counts serves all who have reclaimed before, and waits for them so long. */
#define TAKEOVER_SERVED_NS (3 * NS_PER_SEC)
/* Who could not take over lets others try so long. */
#define TAKEOVER_UNFIT_NS (15 * NS_PER_SEC)
/* ... if the target was too busy to answer: that may be over at any moment. */
#define TAKEOVER_BUSY_NS NS_PER_SEC

enum takeover_state {
	TK_IDLE,
	TK_AGREE,
	TK_HOLD,
	TK_FOLLOW,
	TK_STAND, /* CANDIDATE is published: are we the first in this view? */
	TK_HEADSTART,
	TK_LOOK, /* reads the claim before anybody is fenced: is a stranger using the LUN? */
	TK_WATCH, /* and does his claim beat? */
	TK_FENCE,
	TK_CLAIM_READ,
	TK_CLAIM_WRITE,
	TK_CLAIM_VERIFY,
	TK_OPEN,
	TK_RECLAIM,
	TK_SERVE,
	TK_DRAIN,
	TK_RELEASE,
	TK_LOST,
	TK_FROZEN,
	TK_REFUSED,
	TK_STOPPED,
	TK_STATES
};

struct takeover_config {
	const struct trace *trace;
	struct member *member;
	struct mem *mem; /* two blocks */
	uint8_t uuid[16];
	bool standalone; /* refuses a claim that beats, instead of fencing it */
	bool no_reservations; /* an image file, or a LUN that was drained before the path was up: no fence, no watching */
	uint64_t tag_seed; /* tags of this life start behind it */
	/* From the proof that it is fenced: who was lost may believe in its office, or in what it holds, for so long. */
	uint64_t lease_over_ns;
};

struct takeover_coordinator {
	uint32_t node; /* 0: none known */
	uint64_t life;
	uint64_t epoch;
	uint64_t before; /* RECOVERING and later: the newest epoch before in which somebody may have been served */
	enum member_role role;
	const char *name, *addr; /* valid until the next step */
	uint16_t port;
};

struct takeover;

/* NULL: not enough memory. */
struct takeover *takeover_create(const struct takeover_config *cfg);
void takeover_destroy(struct takeover *t);

/* A completion with a TAG_TAKEOVER tag. */
void takeover_lun_done(struct takeover *t, const struct event *ev, struct effects *fx);
/* After every event, with member_event() done: runs what can run, then member_publish(). */
void takeover_step(struct takeover *t, uint64_t now_ns, struct effects *fx);
/* Of this and of the member module. */
uint64_t takeover_deadline(const struct takeover *t);

enum takeover_state takeover_state(const struct takeover *t);
const char *takeover_state_name(enum takeover_state s);
/* Why LOST, FROZEN, REFUSED, or the last try to take over failed; "" if nothing did. */
const char *takeover_reason(const struct takeover *t);
/* In TK_LOST: others have taken our registration away, so they have given us up. */
bool takeover_lost_fenced(const struct takeover *t);
/* We do not stand for a while, since the LUN did not take our claim: it is write protected. */
bool takeover_write_protected(const struct takeover *t);
/* OPEN and later: the epoch we claimed. Else the highest that anybody told. */
uint64_t takeover_epoch(const struct takeover *t);
/*
 * When the last beat (or the claim) that the LUN has taken was sent: from then on we knew
 * ourselves not fenced. The coordinator's own lease runs from it. 0: none in this epoch.
 */
uint64_t takeover_beat_ns(const struct takeover *t);
/* Who coordinates or is about to; ourselves too. */
struct takeover_coordinator takeover_coordinator(const struct takeover *t);
/* True from OPEN to DRAIN: the metadata engine is ours. */
bool takeover_mine(const struct takeover *t);

void takeover_volume_ready(struct takeover *t); /* in TK_OPEN */
/*
 * OPEN .. DRAIN: vol is frozen. failed: by something that comes back with each try, so others stand first
 * for a while; lost: since the path broke or another has fenced us, which says nothing about the next try.
 */
void takeover_volume_failed(struct takeover *t, const char *reason);
void takeover_volume_lost(struct takeover *t, const char *reason);
void takeover_volume_closed(struct takeover *t); /* in TK_DRAIN */
/* In TK_RECLAIM, in each step: does its session stand? */
void takeover_connected(struct takeover *t, uint32_t node, bool yes);
/* In TK_RECLAIM: the node has reclaimed all it had (or has nothing). Elsewhere it does nothing. */
void takeover_reclaimed(struct takeover *t, uint32_t node);

/*
 * The administrator's move, on any node: passed on to the coordinator. -ENOENT: the target is no
 * member, -ENODEV: it has no path, -EAGAIN: nobody serves just now, -EALREADY: it coordinates,
 * -EBUSY: it could not take over a moment ago.
 */
int takeover_move(struct takeover *t, uint32_t target, struct effects *fx);

/*
 * Every step, following: since when the coordinator has not been heard, by whatever way the node has to it.
 * NEVER: there is none to be heard.
 */
void takeover_unheard(struct takeover *t, uint64_t since_ns);
/*
 * Every step: the incarnation under which a coordinator, or we, served this node last. It is known to whoever coordinates in another part of
 * the cluster: he served it, or has taken away all keys but those of his own members.
 */
void takeover_served_under(struct takeover *t, uint32_t incarnation);
/*
 * We took over from this node because it hung, and it has not spoken since; 0: nobody. It is fenced, not
 * waited for, and holds nothing any more.
 */
uint32_t takeover_hung(const struct takeover *t);

/*
 * On the coordinator that serves: the node has lost its layouts and locks, so that others may have them. True
 * when the claim on the LUN says so: until then nobody may. Asked in every step; what it takes comes with
 * takeover_step(). False for ever when the list is full, which a term of another coordinator ends.
 */
bool takeover_given_add(struct takeover *t, uint32_t node, uint64_t life);
/* It holds nothing of before: true when the claim says so. Before it may have anything again. */
bool takeover_given_remove(struct takeover *t, uint32_t node);
/* One of these has changed the list, and the next takeover_step() would say so to the LUN. */
bool takeover_given_to_say(const struct takeover *t);
/*
 * On the coordinator that serves: the claim on the LUN says that its term counts. Before that nobody is served, and nothing is taken from
 * anybody, be it space that somebody may still hold: the next coordinator would not know of it.
 */
bool takeover_given_counts(const struct takeover *t);
/* Have all who have reclaimed heard that they are served? The office may be given up in order then. True: they have, which is news. */
bool takeover_given_all_served(struct takeover *t, bool all);
/* From OPEN on: was it given up in the last term before ours that served anybody? */
bool takeover_given_up(const struct takeover *t, uint32_t node, uint64_t life);

/*
 * On the coordinator: a node did not answer a recall, or broke the rules. Its present
 * incarnation goes on the fence list; member_victim_pending(node) is false when it is fenced.
 */
void takeover_fence_node(struct takeover *t, uint32_t node, const char *reason);

/* We may have slept: what others have said meanwhile is yet to be read. Who reclaims has its time anew. */
void takeover_be_patient(struct takeover *t, uint64_t now_ns);

/*
 * Our key is gone, and nobody of our view says that it took it away: in half of a cluster that may have been the
 * other half, which coordinates now (TK_FROZEN). Or a target that restarted has forgotten it, or our new login replaced it.
 */
void takeover_fenced_outside(struct takeover *t);

/* We are about to leave: that we could not take over a moment ago does not keep us from one more try. */
void takeover_try_again(struct takeover *t);
/* A fence of ours has found out that the target refuses resets. */
bool takeover_resets_refused(const struct takeover *t);
/* A fence of ours waits for FENCE_WAIT_NS, since the target refuses resets; or, as we drain, who was lost is still waited for. */
bool takeover_waits_out(const struct takeover *t);
/* Leave in order: hand over if others can, else mark the claim CLEAN. Ends in TK_STOPPED. */
void takeover_stop(struct takeover *t);

/*
 * Somebody was fenced, as far as we know, who has not been back: if we are the last to leave our registration stays, and with it the
 * reservation, which keeps the writes away that it may still send. `why`: for the log.
 */
bool takeover_fenced_at_large(const struct takeover *t, char *why, size_t why_bytes);

void takeover_check(const struct takeover *t);

#endif
