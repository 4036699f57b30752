/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * volume.h - the metadata engine as the rest of csvfs sees it: one open volume on the coordinator.
 *
 * A state machine that is stepped: it emits LUN commands with TAG_META tags and is given their
 * completions. It does nothing but metadata; who may ask what, layouts and recalls are csvfs/node.c's.
 */
#ifndef CSVFS_METADATA_VOLUME_H
#define CSVFS_METADATA_VOLUME_H

#include "csvfs/base/list.h"
#include "csvfs/base/mem.h"
#include "csvfs/base/platform.h"
#include "csvfs/base/trace.h"

struct vol;
struct txn;

enum vol_state {
	VOL_CLOSED,
	VOL_OPENING, /* reads superblock, journal; replays; clears orphans' bookkeeping */
	VOL_READY,
	VOL_CLOSING, /* no new requests; commits, checkpoints, empties the journal */
	VOL_FROZEN,  /* cannot go on: vol_error says why. Nothing more is written. */
};

/* Why it is frozen. */
enum vol_reason {
	VOL_FINE = 0,
	VOL_LOST_PATH, /* outcome of a write unknown, or the LUN does not answer: let another node take over */
	VOL_FENCED,    /* reservation conflict: another node has taken over */
	VOL_DAMAGED,   /* the volume cannot be opened, or replay cannot be done: next node would fail too */
	VOL_NO_SPACE,  /* a thin LUN is full, or fails what is written for a reason that it does not say */
	VOL_PROTECTED, /* the LUN is write protected */
	VOL_NO_MEMORY,
};

struct vol_ops; /* txn.h */

struct vol_config {
	struct mem *mem;
	const struct vol_ops *ops; /* &metadata_ops */
	const struct trace *trace;
	uint64_t cache_bytes; /* block cache; at least 4 MiB */
	uint64_t lun_bytes;
	bool readonly;
	bool write_cache; /* the LUN has one: flushes are needed */
	uint64_t tag_seed; /* tags of this life start behind it: completions of an earlier one never match */
	/*
	 * May this node's slot of the reply cache be taken by another? NULL: never. Asked only when all
	 * are in use; false while the node is a member or may still resend.
	 */
	bool (*node_is_gone)(void *ctx, uint32_t node);
	/* True while any node has ino open: unlink then keeps it as an orphan. Called inside vol_step(). */
	bool (*ino_is_open)(void *ctx, uint64_t ino);
	/*
	 * The request has changed the attributes or the names of these inodes, and nobody has seen it yet. False:
	 * others may still rely on how they were; it is undone, and waits until vol_unheld(). NULL as the
	 * request: the engine's own work, which does not wait. Called inside vol_step().
	 */
	bool (*may_change)(void *ctx, struct vol_req *r, const uint64_t *inos, uint32_t count);
	void *ctx;
};

/* A request in the engine. The caller fills rq, reply room; keeps it until it comes back. */
struct vol_req {
	struct list link;
	struct fs_request rq; /* copied in; rq.data must stay valid */
	struct fs_reply reply;
	void *owner;	      /* the caller's */
	uint64_t lsn;	      /* the engine's: the reply waits until this is durable */
	uint32_t step;	      /* of the operation: progress of work longer than one transaction, */
	uint32_t anew;	      /* how often it began again, */
	uint64_t seen;	      /* and what it saw in its first step */
	uint32_t rounds;      /* the engine's: how often it went on */
	/* Not NULL: runs this as the operation instead of rq (the engine itself, tests). */
	int (*call)(struct txn *t, void *arg);
	void *arg;
};

struct vol *vol_create(const struct vol_config *cfg); /* NULL: not enough memory */
void vol_destroy(struct vol *v);

/* Call vol_step() after each of these: they only note what is to be done. */

/* VOL_CLOSED -> VOL_OPENING. `epoch` is the one just claimed. */
void vol_open(struct vol *v, uint64_t epoch, struct effects *fx);

/* -> VOL_CLOSING; when VOL_CLOSED is reached everything is in place and the journal is empty. */
void vol_close(struct vol *v, struct effects *fx);

/*
 * Coordination is lost: forget everything, write nothing more. Requests not yet answered come back
 * from vol_next_done() with err = -ECONNRESET: their outcome is unknown, the next coordinator knows.
 * -> VOL_CLOSED. Late completions are ignored.
 */
void vol_abandon(struct vol *v);

enum vol_state vol_state(const struct vol *v);
const char *vol_error(const struct vol *v); /* empty when nothing is wrong */
enum vol_reason vol_reason(const struct vol *v);
/* True while the driver still has buffers of ours (commands without completion): no vol_destroy. */
bool vol_busy(const struct vol *v);
bool vol_needed_replay(const struct vol *v);

/* Requests are executed in order of submission, except those that wait for a block. */
void vol_submit(struct vol *v, struct vol_req *r);
/* It has been executed, here or at an older coordinator: submitted again it is answered, and changes nothing. */
bool vol_replied(const struct vol *v, const struct fs_reqid *id);
/* Has just that one been an append that was executed, and where? */
bool vol_appended(const struct vol *v, const struct fs_reqid *id, uint64_t *ino, uint64_t *off, uint64_t *version);
/* Executed and durable, in order; NULL: none now. */
struct vol_req *vol_next_done(struct vol *v);

/*
 * The LUN has now lun_bytes: the volume becomes `bytes` long, or as much as one transaction can make it (then
 * call again). 0: it has begun; -EALREADY: it is that long; -EFBIG: the LUN, or the room that mkfs left,
 * is smaller; -EBUSY: it grows just now; -ENOMEM: nothing was begun; -EROFS: not open for writing.
 */
int vol_grow(struct vol *v, uint64_t lun_bytes, uint64_t bytes);
/* As large as it can become: mkfs has left room for so much. */
uint64_t vol_grow_max(const struct vol *v);
/* -EINPROGRESS, or how the last one ended. A failure is told once: it is no answer to the next who asks for growth. */
int vol_grow_result(struct vol *v);
/* Requests that may_change() has made wait are tried again. */
void vol_unheld(struct vol *v);
/* True: it waits (for that, for room, for a block, or for its turn), nothing of it is done, and it ends with -ECONNRESET. */
bool vol_withdraw(struct vol *v, struct vol_req *r);

/*
 * Looks at all metadata as it is on the LUN, slowly, and repairs what has a sound copy (scrub.c). 0; -EBUSY: it runs
 * already; -EALREADY: there is nothing to stop; -EROFS, -EAGAIN: not open for writing. It ends with the volume's opening.
 */
int vol_scrub(struct vol *v, bool start);

#define VOL_SCRUB_FINDINGS 32
struct vol_finding {
	uint64_t blkno;
	uint32_t problem; /* enum problem */
	bool repaired;
};
struct vol_scrub {
	bool running, complete; /* complete: the last one has seen everything */
	uint32_t group, groups; /* how far it is */
	uint64_t checked, found, repaired; /* blocks */
	uint32_t finding_count; /* the first ones */
	struct vol_finding finding[VOL_SCRUB_FINDINGS];
};
void vol_get_scrub(const struct vol *v, struct vol_scrub *st);

/* A completion with a TAG_META tag. */
void vol_lun_done(struct vol *v, const struct event *ev, struct effects *fx);
/* Runs what can run; commits; checkpoints. Call after every submit and completion, and at deadline. */
void vol_step(struct vol *v, uint64_t now_ns, struct effects *fx);
/*
 * Nothing else is to be done at this moment: the next vol_step() may do one step of what is long (freeing a file of a
 * million extents). To be said whenever vol_deadline() has come.
 */
void vol_spare(struct vol *v);
uint64_t vol_deadline(const struct vol *v);

/*
 * Reply cache. A request with rq.id.slot != 0 is recorded in the transaction of its effect. One that
 * was executed before (same node, life, slot, seq) gives its recorded reply, never a second
 * execution; one older than what is recorded gives -ESTALE. A request that failed changed nothing
 * and is not recorded. So a server submits whatever it is sent.
 */

struct vol_stats {
	uint64_t commits, journal_bytes, checkpoints, cache_hits, cache_misses;
	uint64_t journal_used_blocks, journal_blocks;
};
struct disk_super;
/* The superblock as it now is; NULL before VOL_READY, and when closed. Of a volume that is frozen, too: its last replies are looked at. */
const struct disk_super *vol_super(const struct vol *v);
void vol_get_stats(const struct vol *v, struct vol_stats *st);

/* All numbered invariants of the engine, asserted. For tests and the simulator. */
void vol_check(const struct vol *v);

#endif
