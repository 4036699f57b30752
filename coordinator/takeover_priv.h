/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * takeover_priv.h - shared by takeover.c (moves, passive states), takeover_stand.c (candidate) and
 * takeover_serve.c (coordinator). Nobody else includes it.
 */
#ifndef CSVFS_COORDINATOR_TAKEOVER_PRIV_H
#define CSVFS_COORDINATOR_TAKEOVER_PRIV_H

#include "coordinator/claim_io.h"
#include "coordinator/takeover.h"

#define TAKEOVER_PATIENCE_NS (3 * NS_PER_SEC) /* the one who should stand does not: others do */

/* takeover_hang.c: what a follower has seen of its coordinator's claim. */
struct hang {
	uint64_t unheard_ns; /* told by the node */
	uint64_t since_ns; /* end of the first look that showed `seen`; NEVER: none did */
	uint64_t still_ns; /* how long it stood still since */
	uint64_t sent_ns, next_ns; /* a look: the one under way began, the next one is due */
	uint64_t hung_ns; /* since when it is known to hang; NEVER: it is not */
	bool reading;
	struct claim seen;
	uint64_t shown_ns; /* end of the first look ever that showed `seen`; 0: there was none */
};

struct takeover {
	struct takeover_config cfg;
	struct member *m;
	struct mem *mem;
	enum takeover_state state;
	uint64_t now_ns;
	struct fence fence;
	struct claim_io io;
	struct claim claim; /* the one we wrote last, with who is given up in our term (takeover_given.c), and who was fenced (takeover_fenced.c) */
	uint64_t list_changes, list_sent, list_durable; /* changes of these lists: made, sent, taken by the LUN */
	uint64_t listed_at[CLAIM_GIVEN_UP_MAX], taken_back_at; /* of each entry; of the last that went */
	uint64_t counted_at; /* the change that said first that our term counts */
	uint64_t served_by_ns; /* SERVE: it is given up in order then, though not all are served; NEVER: nobody wants that */
	bool all_served; /* SERVE: told by the node */
	bool list_full; /* said once */
	uint64_t served_before; /* the last term before ours in which somebody may have been served */
	uint32_t before_count; /* given up in that one */
	struct claim_given_up before[CLAIM_GIVEN_UP_MAX];
	struct claim watched; /* HEADSTART, WATCH, FROZEN: a claim seen before */
	uint64_t watched_ns; /* HEADSTART, FROZEN: end of the first look that showed it */
	uint64_t frozen_sent_ns; /* FROZEN: the look under way began; 0: there is none */
	uint64_t epoch; /* ours, OPEN and later */
	uint32_t incarnation; /* under which we stand or coordinate */
	uint32_t lost_incarnation;
	uint64_t view; /* number of the view in which we stood */
	uint32_t view_count; /* its nodes, for lost_split */
	bool lost_fenced; /* TK_LOST was entered because our key was gone */
	uint32_t following; /* node; 0: nobody */
	bool cold; /* nobody here saw the last coordinator: unknown lives may have writes in flight */
	uint64_t beaten_ns; /* HEADSTART, WATCH, FROZEN: the claim was first seen to have moved; 0: it has not */
	bool looks; /* HEADSTART: at the claim */
	uint32_t served_under; /* takeover_served_under() */
	bool quit; /* candidate: withdraw when nothing is in flight */
	bool restart; /* candidate: the view changed, stand again when nothing is in flight */
	bool in_order; /* handover: no fence is needed */
	bool was_released; /* `claim` replaced a released one, and nobody was served under it */
	bool has_claimed; /* `claim` was sent to the LUN, and we do not know yet whether it shows there */
	bool lost_split, unfit, stopping;
	bool has_served; /* in any term */
	bool claim_read; /* since we followed anybody: who is at large is known */
	bool split_guessed; /* lost_split: the LUN has not refused us, our key was gone when we came back */
	uint64_t guessed_ns; /* ... the last time */
	uint64_t tell_ns, tell_due_ns; /* candidates: our STATE was told again last; when they are looked at again */
	uint64_t pathless_ns; /* stopping: nobody waits longer for a path; 0: not set yet */
	bool ready, closed; /* told by the node in OPEN, DRAIN */
	bool swept; /* DRAIN, the last one: keys that nobody owns are gone */
	uint32_t handover; /* DRAIN: whom we give it to */
	bool to_stay; /* it was to stay when we chose it */
	uint32_t moving_to; /* asked for */
	uint32_t await_count; /* RECLAIM: who has not reclaimed yet */
	uint32_t await[NODES_MAX];
	uint32_t connected[NODES_MAX]; /* RECLAIM: nodes whose sessions stand; 0: a free place */
	struct hang hang;
	uint32_t hung_node; /* we stand, or stood, against its epoch; 0: against nobody */
	uint64_t hung_epoch;
	bool fencing_all; /* the running fence: all but */
	uint64_t fencing_unlisted; /* the member's unlisted_count when it began */
	uint64_t hear; /* it waits for this STATE of ours; 0: it does not */
	uint64_t step, lost_step; /* steps taken; the one that went to LOST */
	uint64_t beat_news; /* path_news, when the last beat was sent */
	uint64_t beat_sent_ns,
		beat_taken_ns; /* of the beat under way; of the last that the LUN took */
	uint64_t deadline_ns, beat_ns, poll_ns, unfit_ns, refence_ns, told_view;
	uint64_t seen_ns; /* since when we know of a coordinator; NEVER: of none since we started */
	uint64_t fenced_ns; /* the claim was read: all others were fenced before */
	uint64_t quiet_ns; /* RECLAIM: nobody is served before, since somebody may still serve or be served; 0: nobody */
	char reason[160];
};

bool takeover_is_candidate(const struct takeover *t); /* STAND .. CLAIM_VERIFY */
bool takeover_is_ours(const struct takeover *t); /* OPEN .. RELEASE */
uint32_t takeover_self(const struct takeover *t);
uint64_t takeover_own_key(const struct takeover *t);
bool takeover_path_works(const struct takeover *t);
bool takeover_quiet(const struct takeover *t); /* no fence, no claim in flight */
bool takeover_claim_moved(const struct claim *a, const struct claim *b);
void takeover_say(const struct takeover *t, enum trace_level level, const char *text);

/* Every change of state goes through it: checks the table of moves, tells the role. */
void takeover_enter(struct takeover *t, enum takeover_state to);
/* -> LOST, with the path told LOST. */
void takeover_lose(struct takeover *t, const char *why);
/* The same, by somebody outside of our view. */
void takeover_lose_fenced(struct takeover *t, const char *why);
/* A candidate ends as soon as nothing of it is in flight. */
void takeover_withdraw(struct takeover *t, const char *why);
/* A candidate's: the other half coordinates, and has taken nothing from us. It waits (FROZEN), and keeps its path and what it has. */
void takeover_wait_for_half(struct takeover *t);
void takeover_become_unfit(struct takeover *t, const char *why, uint64_t for_ns);
void takeover_refuse(struct takeover *t, const char *why);
void takeover_refuse_in_use(struct takeover *t, const struct claim *by);
void takeover_stand(struct takeover *t, const char *why);

void takeover_start_fence(struct takeover *t, bool all_but, struct effects *fx);
/* A fence that ended before its barrier is not forgotten: the next one drains. */
void takeover_fence_noted(struct takeover *t);
void takeover_fence_succeeded(struct takeover *t, struct effects *fx);

/* takeover_given.c: our claim follows this one; `seen`: the highest epoch that anybody told. */
void takeover_given_begin(struct takeover *t, const struct claim *last, uint64_t seen);
/* SERVE begins, and with it a list of our own. */
void takeover_given_serve(struct takeover *t);
/* It is given up in order: if it does not count yet, it never will. */
void takeover_given_drain(struct takeover *t);
void takeover_given_sent(struct takeover *t);
void takeover_given_durable(struct takeover *t);
/* The list has changed since a claim was sent. */
bool takeover_given_due(const struct takeover *t);

/* takeover_fenced.c: a fence has ended, in whatever way. */
void takeover_fenced_noted(struct takeover *t);
/* A claim that is not ours. */
void takeover_fenced_seen(struct takeover *t, const struct claim *c);
/* Our claim follows `last`; `ours`: what we wrote, or knew, before. */
void takeover_fenced_begin(struct takeover *t, const struct claim *ours, const struct claim *last);
/* While we coordinate: who is back goes off the list. */
void takeover_fenced_step(struct takeover *t);
/* Another coordinates, and has read the claim after us. */
void takeover_fenced_forget(struct takeover *t);

void takeover_hang_forget(struct takeover *t);
/* In FOLLOW: looks, judges. */
void takeover_hang_step(struct takeover *t, struct effects *fx);
/* True: the coordinator hangs, and we stand. */
bool takeover_hang_stands(struct takeover *t);
uint64_t takeover_hang_deadline(const struct takeover *t);
/* Candidates tell that they are there; who does not hangs. */
void takeover_hang_candidates(struct takeover *t);

/* We leave, and do not coordinate: somebody else ends the claim, or we cannot (takeover_serve.c, who is last). */
bool takeover_may_go(const struct takeover *t);
/* What others judge us by has been delivered to all. */
bool takeover_told(const struct takeover *t);
/* In RECLAIM: nobody is served before. */
uint64_t takeover_quiet_ns(const struct takeover *t);
/* There is a coordinator. */
void takeover_seen(struct takeover *t);

void takeover_candidate(struct takeover *t, struct effects *fx);
void takeover_ours(struct takeover *t, struct effects *fx);

#endif
