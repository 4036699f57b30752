/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fence.h - takes the right to write to the LUN away from incarnations of nodes, and proves it.
 *
 * When a fence is done: no key of a victim is registered, ours is, a reservation exists, and no
 * command that a victim sent before can still land. Every step can be repeated; a fence that
 * ended in any way can be started again from its beginning.
 *
 * Pure. States and invariants are at the head of fence.c.
 */
#ifndef CSVFS_COORDINATOR_FENCE_H
#define CSVFS_COORDINATOR_FENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/platform.h"
#include "csvfs/base/trace.h"
#include "coordinator/member.h"

#define FENCE_RETRY_NS (100 * NS_PER_MS) /* between two tries of a command answered LUN_RETRY */
#define FENCE_RETRIES_MAX 100
#define FENCE_ROUNDS_MAX 8 /* from READ_KEYS to verification: victims that register again */
/* The longest a target may hold a command, when it knows no reset. */
#define FENCE_WAIT_NS (30 * NS_PER_SEC)

/* Nobody hears longer than that: without a word that comes back the view is about to change. */
#define FENCE_HEAR_NS (2 * NS_PER_SEC)

enum fence_state {
	FENCE_IDLE,
	FENCE_READ, /* READ KEYS: who is registered? */
	FENCE_HOLDER, /* READ RESERVATION: is there one? Without, an unregistered node may write */
	FENCE_RESERVE,
	FENCE_HEAR, /* there are keys that nobody has told us of: what had been said by now is heard first */
	FENCE_PREEMPT, /* one victim after the other */
	FENCE_RESET, /* LOGICAL UNIT RESET: the drain barrier */
	FENCE_WAIT, /* the target knows no reset: the longest I/O is waited out */
	FENCE_VERIFY, /* READ KEYS: victims gone, ours there */
	FENCE_VERIFY_HOLDER, /* READ RESERVATION: it was there all the time */
	FENCE_ENDED, /* fence_result() says how */
	FENCE_STATES
};

enum fence_result {
	FENCE_NONE, /* not ended yet */
	FENCE_DONE,
	FENCE_FENCED, /* we have been fenced ourselves: our key is gone, or a CONFLICT */
	FENCE_UNKNOWN, /* the path broke: nothing is known of the victims */
	FENCE_FAILED, /* the target does not do what is needed, or never stopped saying RETRY */
};

struct fence {
	const struct trace *trace;
	enum fence_state state;
	enum fence_result result;
	uint64_t key; /* ours */
	bool all_but; /* every registered key is a victim, except those that keep() knows */
	bool (*keep)(const void *ctx, uint64_t key);
	const void *keep_ctx;
	uint32_t victim_count;
	struct member_victim victims[MEMBER_VICTIMS_MAX];
	/* When done: every victim, and every key that was preempted. */
	uint32_t fenced_count;
	bool noted; /* its end, by the owner */
	struct member_victim fenced[MEMBER_VICTIMS_MAX + LUN_KEYS_MAX];
	/* private */
	uint64_t tag, next_tag; /* outstanding (0: none); counter */
	uint32_t conflict_count;
	struct member_victim conflicts[LUN_KEYS_MAX]; /* strangers whose PREEMPT ended in CONFLICT */
	uint32_t target_count, at;
	struct member_victim targets[LUN_KEYS_MAX]; /* registered keys to preempt in this round */
	bool drained[MEMBER_VICTIMS_MAX]; /* victim i: what it had in flight has ended, by a barrier of this fence */
	bool barrier; /* the drain barrier is still needed */
	bool abort_refused; /* the target knows no PREEMPT AND ABORT; kept from fence to fence */
	bool reset_refused;
	bool cancel;
	bool busy; /* it has failed because the target said RETRY without end */
	uint32_t retries, rounds;
	uint64_t retry_ns; /* send again, or end of FENCE_WAIT; NEVER: not waiting */
};

void fence_init(struct fence *f, const struct trace *trace, uint64_t tag_base);

/*
 * Fences `victims` (copied). all_but: and every other registered key that keep() does not know
 * at the moment it is about to be preempted: members go on registering meanwhile. `key` is ours,
 * registered. Not while one runs.
 */
struct fence_order {
	uint64_t key;
	bool all_but;
	bool barrier; /* the drain barrier in any case */
	bool (*keep)(const void *ctx, uint64_t key); /* all_but only */
	const void *keep_ctx;
	const struct member_victim *victims;
	uint32_t victim_count;
};
void fence_start(
	struct fence *f, const struct fence_order *order, uint64_t now_ns, struct effects *fx);

/* In FENCE_HEAR: all has been delivered to us that had been to anybody when it was entered. keep() decides now. */
void fence_heard(struct fence *f, struct effects *fx);
/* Sends no further command; ends as FENCE_FAILED once the outstanding one is in. */
void fence_cancel(struct fence *f);
/*
 * It has ended before its drain barrier: somebody whose key is gone may still have a write held in the target, and
 * no later fence can see that at the keys. Said once.
 */
bool fence_left_undrained(struct fence *f);
/* After it has ended and its result was taken: FENCE_IDLE. */
void fence_forget(struct fence *f);

bool fence_running(const struct fence *f);
/* True when the completion was the fence's. Stale tags are not. */
bool fence_lun_done(struct fence *f, const struct event *ev, struct effects *fx);
void fence_step(struct fence *f, uint64_t now_ns, struct effects *fx);
uint64_t fence_deadline(const struct fence *f);
enum fence_result fence_result(const struct fence *f);
void fence_check(const struct fence *f);

const char *fence_state_name(enum fence_state s);
const char *fence_result_name(enum fence_result r);

#endif
