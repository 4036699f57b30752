/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dp_int.h - what dp.c and dp_plan.c share. Nobody else includes it. */
#ifndef CSVFS_DP_INT_H
#define CSVFS_DP_INT_H

#include "csvfs/dp.h"

struct dp_file {
	struct layout_file lf;
	struct list inside;	/* ops, by ilink */
	struct list waiting;	/* ops in PARKED, in order of arrival */
	struct list asking;	/* ops in ASK */
	struct list drained;	/* in dp.drained: EV_DRAINED is owed */
	uint32_t op_count;	/* ops that name this file */
	uint32_t inside_count, exclusive_count, lock_waiters, ask_count;
	uint32_t given_up_count; /* inside, and answered: rule 12 */
	uint32_t answered_count; /* ops in ASK: they may go inside though the gate is closed */
	struct list appends;	/* ops, by alink: under way, from the question for their place on */
	bool gaps;		/* we have left a gap behind its end: rule 4 */
	uint64_t version_1;	/* of its layout, and one; 0: not known */
	uint64_t shown;		/* what lies behind, before lf.size, is asked for before it is read: rule 13 */
	uint64_t end;		/* of what we wrote there, committed or not; counts when it is behind lf.size */
	uint64_t clean;		/* in this cluster all bytes behind the end are zero; NO_CLUSTER: nobody knows */
	bool writes;		/* the coordinator knows that we may: rule 14 */
	bool attr_seen;		/* dp_attr_holds() */
	bool touched;		/* written in place, not told yet; in dp.touched or dp.due */
	int64_t touched_wall_ns, read_wall_ns; /* what is to be told; 0: nothing of that kind */
	bool changed;		/* by us, since a read of it was noted */
	uint64_t read_noted_ns; /* 0: never */
	uint64_t touch_due_ns;	/* to be told then */
	struct list tlink;
	uint64_t told_ns;	/* when EV_TOUCHED was last given */
	struct list ulink;	/* in dp.used */
};

#define NO_CLUSTER UINT64_MAX

#define DP_HANDLE_BUCKETS 64

/* What is known of an open file: its locks were lost; a write through it has failed. */
struct dp_handle {
	struct list link;
	uint64_t handle;
	bool lost, failed;
};

struct dp {
	struct dp_config cfg;
	struct layout layout;
	enum gate gate;
	uint64_t lease_ns;
	uint32_t rights;
	bool paused;
	uint64_t seq;
	uint32_t direct_count;	/* ops in IO */
	bool volume_drained;	/* EV_DRAINED(0) is owed */
	uint64_t unknown_drained; /* ... of this file, for which there was no memory; 0: none */
	struct list ready;	/* ops */
	struct list later;	/* ops, any order: few */
	struct list parked;	/* ops in PARKED, by hlink */
	uint64_t look_ns;	/* when it is looked for those that have waited too long */
	struct list drained;	/* files */
	struct list handles[DP_HANDLE_BUCKETS]; /* dp_handle */
	uint32_t handle_count;
	uint64_t lost_upto, failed_upto; /* no memory for each: all handles up to here */
	struct list touched;	/* files, by tlink, in order of touch_due_ns */
	struct list due;	/* of those, the ones that dp_next_event() tells now */
	struct list used;	/* files with extents, by ulink, least recently used first */
	uint64_t shed_ino;	/* told, and still known; 0: none */
	uint32_t shed_again;	/* with so many extents it was in vain: told again */
};

struct dp_handle *dp_handle_find(const struct dp *dp, uint64_t handle);

static inline struct dp_file *dp_file_find(struct dp *dp, uint64_t ino)
{
	struct layout_file *lf = layout_find(&dp->layout, ino);

	return lf ? container_of(lf, struct dp_file, lf) : NULL;
}

/*
 * 0 when `then` is later: each thread reads its clock before it takes the lock that guards dp, and another may have come in
 * between with a later time.
 */
static inline uint64_t dp_since(uint64_t now_ns, uint64_t then_ns)
{
	return now_ns > then_ns ? now_ns - then_ns : 0;
}

/* Rule 16, of an op that the core has not: an older attempt may still land. */
static inline bool dp_may_land(const struct dp_op *op)
{
	return op->io_write && op->io_unknown;
}

/* What a plan came to. */
enum plan {
	PLAN_IO,	/* segs are filled in */
	PLAN_NOTHING,	/* no I/O: answered at once */
	PLAN_ASK,	/* need_* are filled in */
	PLAN_LOCKED,	/* the range is locked by another op */
	PLAN_APPEND,	/* an append there is under way */
	PLAN_NOMEM,
};

static inline uint64_t dp_round_down(uint64_t x, uint64_t unit)
{
	return x & ~(unit - 1);
}

static inline uint64_t dp_round_up(uint64_t x, uint64_t unit)
{
	return (x + unit - 1) & ~(unit - 1);
}

/*
 * What op means for the LUN, by what is known now. PLAN_IO: its segments are filled in; a write has its
 * lock, and a promise of layout.h if it is a first write. PLAN_NOTHING: op->result is.
 */
enum plan dp_plan(struct dp *dp, struct dp_op *op);
/* PLAN_ASK, for all of it. */
enum plan dp_plan_ask(struct dp_op *op);

/* The second phase of a write whose edges have been read: the whole image. */
void dp_plan_map_write(struct dp_op *op);

/* Rule 4, of a write that has ended well, before it is recorded; of a tail; of a write that failed. */
void dp_plan_wrote(struct dp *dp, const struct dp_op *op);
void dp_plan_zeroed(struct dp *dp, const struct dp_op *op);
void dp_plan_failed(const struct dp_op *op);
/* What is written there is seen before anybody is told of it. (Not known any more: nothing new.) */
bool dp_plan_in_written(const struct dp_op *op);
/* There is no more space: true: what lies before has some, and is written. */
bool dp_plan_shorten(const struct dp *dp, struct dp_op *op);

/* The locks of two writes exclude each other. */
bool dp_plan_conflict(const struct dp_op *a, const struct dp_op *b);

/* With a lock that is held, or with one that somebody who came earlier waits for. */
bool dp_plan_must_wait(const struct dp_file *f, const struct dp_op *op);

void dp_unpark(struct dp *dp, struct dp_op *op);
/* After somebody who waited for a lock has left the queue: those behind. */
void dp_wake_lock_waiters(struct dp *dp, struct dp_file *f);

/* dp_hold.c */
void dp_hold_parked(struct dp *dp, struct dp_op *op);
/* It has waited for as long as anybody may. */
bool dp_hold_over(const struct dp *dp, const struct dp_op *op, uint64_t now_ns);
void dp_hold_expire(struct dp *dp, uint64_t now_ns);
uint64_t dp_hold_deadline(const struct dp *dp);

/* dp_event.c */
void dp_event_touched(struct event *ev, uint64_t ino, int64_t mtime_ns, int64_t atime_ns);

/* dp_shed.c: which file's layout goes back when too much is known. */
void dp_shed_put(struct dp *dp, struct dp_file *f); /* something became known of it */
void dp_shed_used(struct dp *dp, struct dp_file *f);
void dp_shed_dropped(struct dp *dp, struct dp_file *f);
bool dp_shed_next(struct dp *dp, struct event *ev);
void dp_shed_check(struct dp *dp);

#endif
