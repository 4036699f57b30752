/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * io_mode.h - a node's own way to the LUN: log in, register, notice the loss, come back.
 *
 *                 io_path_start / retry_at
 *   CLOSED -------------------> OPENING --up--> ANNOUNCE -> REGISTER -> KEYS -------+
 *     ^                                       |                  older keys of ours |
 *     |                                       | failed                PREEMPT <-----+
 *     |                                       v                          | unsupported, or drain wanted
 *     +---------- CLOSING <--- lost (any state after OPENING)          DRAIN
 *                                                                        v
 *                            UP <- SETTLE <- RESERVE <- HOLDER <- VERIFY-+
 *
 *   Without reservations: OPENING --up--> [DRAIN ->] SETTLE -> UP (P5).
 *
 * Invariants (io_path_check)
 *  P1 the path is UP only with a registered key that was read back (invariant 10);
 *     and before it is registered every member was told of it (member_announced), else a takeover
 *     would take the key for a stranger's;
 *  P2 each login has an incarnation of its own;
 *  P3 while `unfenced` is not 0 a write of that incarnation may still land: nothing of ours may be
 *     acknowledged on another way, and the path does not get UP, before it was fenced by the
 *     coordinator (io_path_fenced) or by us (PREEMPT and DRAIN; without reservations DRAIN) (invariant 9);
 *  P4 before it is known that nobody else uses the LUN under our number (number_is_ours), only keys of this life are
 *     preempted here: an earlier life's is fenced by who coordinates, and that has looked whether the volume is in use;
 *  P5 without reservations nobody can be fenced, and the end of a session ends nothing in the target: what a path that was
 *     lost, or an earlier life (left_behind), may have in flight there is drained by the next login, before it is UP.
 */
#ifndef CSVFS_IO_MODE_H
#define CSVFS_IO_MODE_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/platform.h"
#include "csvfs/base/prng.h"
#include "csvfs/base/trace.h"

enum path_st {
	PST_CLOSED,
	PST_OPENING,
	PST_ANNOUNCE,
	PST_REGISTER,
	PST_KEYS,
	PST_PREEMPT,
	PST_DRAIN,
	PST_VERIFY,
	PST_HOLDER,
	PST_RESERVE,
	PST_SETTLE,
	PST_UP,
	PST_CLOSING,
};

struct io_path {
	const struct trace *trace;
	struct prng rng;
	uint32_t node;
	bool reservations;
	bool stolen;   /* our lost login's key was gone, and no member says it fenced it; the owner clears it */
	bool key_gone; /* somebody took our registration away: what we hold is void; the owner clears it */
	enum path_st st;
	uint32_t incarnation; /* of the present login; 0: none */
	uint64_t announced_ns; /* when every member of our view knew it */
	uint32_t unfenced;    /* P3 */
	bool left_behind;     /* P5; the owner sets it before the path is opened */
	uint64_t tag, tag_count;
	uint64_t retry_at_ns, retry_ns;
	uint64_t settle_until_ns;
	uint32_t looks;	  /* how often our registration was seen to be there, while UP */
	bool look_again; /* somebody waits for one that begins after the present one */
	uint64_t look_ns; /* when the registrations are looked at again */
	uint64_t look_sent_ns; /* when the present look began */
	uint64_t proven_ns; /* when the newest look began that showed our registration; 0: none did, in this login */
	uint64_t first_loss_ns, lost_ns;
	uint32_t losses; /* that count for how long it settles */
	uint32_t lost_count, retries;
	bool outage; /* since it was lost no other node had a path either */
	bool excused; /* io_path_excuse() */
	bool ended; /* io_path_end() */
	bool taken; /* io_path_taken(), since the last login began */
	bool no_reset; /* the target refuses LUN resets; the owner may know it, too */
	bool waits_out; /* in DRAIN: the target knows no LUN reset */
	uint64_t old_key;
	uint32_t preempted; /* of `unfenced`: we have sent the PREEMPT of its key ourselves */
	uint32_t before; /* the incarnation of this life that was the last to register, and was lost; 0: none */
	bool number_is_ours; /* no other node has our number, as the owner knows since it has been served */
	uint32_t block_bytes;
	uint64_t lun_bytes;
	bool write_cache;
	char reason[192]; /* why it is not up */
};

void io_path_init(struct io_path *p, uint32_t node, uint64_t seed, bool reservations,
	uint64_t retry_ns, const struct trace *t);
void io_path_start(struct io_path *p, uint64_t now_ns, struct effects *fx);
/* EV_PATH, or an EV_LUN_DONE; true when it was for the path. */
bool io_path_event(struct io_path *p, const struct event *ev, struct effects *fx);
/* Timers. */
void io_path_step(struct io_path *p, uint64_t now_ns, struct effects *fx);
uint64_t io_path_deadline(const struct io_path *p);

/* The core saw by itself that the path is of no use (a conflict, an unknown outcome). */
void io_path_lose(struct io_path *p, const char *why, uint64_t now_ns, struct effects *fx);

/* Nothing is in flight, and the node goes: the path is closed, wherever it was on its way, and not opened again. */
void io_path_end(struct io_path *p, struct effects *fx);

/*
 * Is our registration still there? Known when `looks` > *since, or the path is UP no longer. False: not
 * to be known now.
 */
bool io_path_look(struct io_path *p, uint32_t *since);

/* A look begins by then at the latest; nothing while one is under way. */
void io_path_look_by(struct io_path *p, uint64_t by_ns);

/*
 * No other node has a path that is of use to us now: it is the SAN that is away, not this path that comes and goes.
 * The loss does not count for the next time, and a path that settles is used at once.
 */
void io_path_outage(struct io_path *p, uint64_t now_ns);

/*
 * Somebody knows that the way is mended: what was lost before does not count, and a path that settles is used at once
 * (true).
 */
bool io_path_trust(struct io_path *p, uint64_t now_ns);

/*
 * What is lost before the LUN has shown our registration again is lost through this node (it slept, or others went on
 * without it), not through a path that comes and goes: it does not count, either.
 */
void io_path_excuse(struct io_path *p);

/*
 * Somebody has taken our registration away. Where the target refuses LUN resets (no_reset) his fence takes long, and a key of
 * ours that he finds in the end makes him begin anew: two halves of a cluster would do that in turn, and none would serve. So the
 * next login waits until he is done, or says that he has fenced us.
 */
void io_path_taken(struct io_path *p);

/* Every member knows the incarnation now: it may be registered. */
void io_path_announced(struct io_path *p, uint64_t now_ns, struct effects *fx);

/* The coordinator has fenced that incarnation of ours: its writes can no longer land. */
void io_path_fenced(struct io_path *p, uint32_t incarnation);

static inline bool io_path_up(const struct io_path *p)
{
	return p->st == PST_UP;
}

static inline uint64_t io_path_key(uint32_t node, uint32_t incarnation)
{
	return (uint64_t)node << 32 | incarnation;
}

const char *io_path_state_name(enum path_st st);
void io_path_check(const struct io_path *p);

#endif
