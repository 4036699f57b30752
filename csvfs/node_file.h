/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_file.h - what a node remembers of each file it has open: handles, layout, what it first-wrote
 * and did not commit yet.
 *
 *   OPENING --reply--> OPEN --last handle closed--> CLOSING --drained, committed, closed--> (gone)
 *
 * In OPEN and CLOSING, independent of it, the layout:
 *   kept --RECALL, SHED, many pieces or CLOSING--> draining --EV_DRAINED--> committing --reply--> returning --reply--> none
 *                                                                         <-- no memory to ask ---+
 *
 * Invariants (node_file_check)
 *  F1 a layout is held only while the file is open at the coordinator;
 *  F2 a layout is returned only when nothing is in flight behind the closed gate of the file, and all
 *     that was first-written under it is committed (invariants 7, 13);
 *  F3 an fsync, a sync write and a write that extends the file are answered only when the commit that
 *     covers them was answered by the coordinator (invariant 16);
 *  F4 it is asked for once more (node_reopen.c) only while it is OPEN.
 */
#ifndef CSVFS_NODE_FILE_H
#define CSVFS_NODE_FILE_H

#include "csvfs/base/list.h"
#include "csvfs/base/platform.h"

struct node;
struct creq;

enum file_st { FILE_OPENING, FILE_OPEN, FILE_CLOSING };
enum layout_st { LAYOUT_NONE, LAYOUT_KEPT, LAYOUT_DRAINING, LAYOUT_COMMITTING, LAYOUT_RETURNING };

/*
 * Ranges of a file that are a node's to first-write. With so many its layout goes back, and it begins anew: each first write here and there
 * cuts one more out, they all have to be said when a coordinator is replaced, and are looked through.
 */
#define OWNED_MANY 16384u

/* First writes after which a file's are committed, before their time. */
#define DIRTY_MANY (EXTENTS_PER_REPLY / 2)

struct frange {
	struct list link;
	uint64_t off, len;
};

/* Who waits for a commit: a write of the data path, an fsync, or a request that comes after what was written before it. */
enum fwait_kind {
	FWAIT_WRITE,
	FWAIT_FSYNC,
	FWAIT_REQUEST,
	FWAIT_TIMES, /* tag: the number of a coordinator's question (node_times.c) */
};

struct fwait {
	struct list link;
	uint64_t tag; /* 0: was answered */
	enum fwait_kind kind;
	struct fs_request *rq; /* FWAIT_REQUEST: is asked then */
	bool need_commit, need_flush;
	bool due; /* it came before the round did: with the last commit of that it is done */
	int32_t err;
	uint64_t since_ns;
	/* FWAIT_FSYNC */
	uint64_t ino, handle;
	uint32_t lost; /* err tells of so many losses; 0: of none */
};

struct file {
	struct list hash;
	uint64_t ino, generation; /* the generation: while it is open */
	enum file_st st;
	enum layout_st layout;
	uint32_t opens;
	bool recalled; /* a recall, not only our own wish, wants the layout back */
	bool voided; /* what we hold counts no longer: it is on its way out */
	uint32_t lost; /* how often first writes were: who waits for an fsync is told, and so is the next one through each open file */
	int32_t lost_err; /* EIO or ENOSPC */
	uint64_t lost_upto; /* of the last time: open files up to this number hear; NEVER: nobody has, and who opens it now will */
	struct list told; /* node_lost.c */
	bool lost_write; /* ... one was, for which there was no memory: the next write that is to be durable is told */
	bool reopening; /* it is asked for once more (node_reopen.c) */
	uint64_t asked_departures; /* how many the coordinator was known to know of when it was asked for last */
	uint64_t departures; /* the same of what it has answered last */
	bool writes; /* a layout to write was asked for since it was opened */
	bool commit_in_flight;
	bool unsent; /* there was no memory to ask for the last commit: for the next one not before commit_at_ns, unless somebody waits */
	uint64_t commit_at_ns;
	uint32_t dirty_count; /* first writes since the last commit was sent */
	uint64_t size; /* the file is at least this long, not committed yet; 0: nothing */
	int64_t mtime_ns; /* written in place, not committed yet; 0: no */
	uint64_t flying_size; /* in the commit that is in flight */
	int64_t flying_mtime_ns; /* in the commit that is in flight; 0: none */
	int64_t atime_ns; /* the same of a read */
	int64_t seen_atime_ns, seen_change_ns; /* atime and last change, as the coordinator last said */
	struct list owned; /* ranges given to us to first-write (frange) */
	struct list edges; /* ranges in which nobody else writes */
	struct list dirty; /* first-written, to be committed */
	struct list due; /* of those what is committed in this round */
	struct list flying; /* in the commit that is in flight */
	struct list open_waiters; /* creq: opens to be answered */
	struct list waits; /* fwait: for this round, or the next one */
	struct list flying_waits;
};

#define FILE_BUCKETS 1024

struct file_table {
	struct list bucket[FILE_BUCKETS];
	uint32_t count;
	struct file *at; /* node_file_walk() */
};

/* Lists of frange, sorted and disjoint. False: no memory; what was there may be gone in part. */
bool node_range_insert(struct node *n, struct list *l, uint64_t off, uint64_t len);
/* *at: where to look first, a link of the list or the list itself; then where the next one behind is looked for. */
bool node_range_remove(struct node *n, struct list *l, struct list **at, uint64_t off, uint64_t len);
bool node_range_many(const struct list *l, uint32_t many);
void node_range_clear(struct node *n, struct list *l);

void node_file_init(struct node *n);
/*
 * Which life of that number is open here, for what is asked in its name; 0: none. A node that was given up with the
 * file open does not hold it any more, and the number may be another file's before it is back.
 */
uint32_t node_file_life(struct node *n, uint64_t ino);

/* Local kernel requests; each is answered, now or later, by FX_REPLY with its tag. */
void node_file_open(struct node *n, uint64_t tag, const struct fs_request *rq, struct effects *fx);
void node_file_close(struct node *n, uint64_t tag, const struct fs_request *rq, struct effects *fx);
/*
 * The mount is gone: whatever is open is closed, as many files as there is room for in `fx`. The kernel does not tell
 * of handles whose last close ended the mount (umount -l).
 */
void node_file_close_all(struct node *n, struct effects *fx);
/* Asks the coordinator for it. */
void node_file_open_send(struct node *n, struct file *f, struct effects *fx);
/* Closes one of the opens that we count of it, if it is open here. */
void node_file_close_one(struct node *n, uint64_t ino, struct effects *fx);
void node_file_fsync(struct node *n, uint64_t tag, const struct fs_request *rq, struct effects *fx);
/*
 * LSEEK, or SETATTR of times or size: what was written here before is committed, then the coordinator is asked. A commit that it
 * executes behind a utimensat(2) would undo that; and one that fails takes no time of a write away.
 */
void node_file_in_turn(struct node *n, uint64_t tag, const struct fs_request *rq, struct effects *fx);
/*
 * Its CREATE is answered: it is open. That may have been done long ago, and the file be opened by its name, or closed, since. True: it is
 * on its way to be opened, or closed, and `q` is answered when it is open (again). rp->err is -ENOMEM if it cannot be open here.
 */
bool node_file_created(struct node *n, struct creq *q, struct fs_reply *rp, struct effects *fx);

/* The data path's events. */
void node_file_written(struct node *n, const struct event *ev, struct effects *fx);
void node_file_commit(struct node *n, const struct event *ev, struct effects *fx);
void node_file_touched(struct node *n, const struct event *ev, struct effects *fx);
/* What is written there and not committed is, now: then node_times_told(nr). */
void node_file_commit_times(struct node *n, uint64_t ino, uint64_t nr, struct effects *fx);
void node_file_layout_event(struct node *n, const struct event *ev, struct effects *fx);

/* Answers of the coordinator, by kind of request. */
/* What to tell who asked: what is not recorded for want of memory was not answered. */
int node_file_layout_reply(struct node *n, uint64_t ino, const struct fs_request *rq,
	const struct fs_reply *rp, struct effects *fx);
void node_file_open_reply(
	struct node *n, uint64_t ino, const struct fs_reply *rp, struct effects *fx);
void node_file_commit_reply(
	struct node *n, uint64_t ino, const struct fs_reply *rp, struct effects *fx);
void node_file_return_reply(struct node *n, uint64_t ino, struct effects *fx);
void node_file_close_reply(struct node *n, uint64_t ino, struct effects *fx);

/*
 * Whoever waits with that tag (an open, an fsync, a write that waits for its commit) is dying: answers it with EINTR.
 * False: nobody does.
 */
bool node_file_cancel(struct node *n, uint64_t tag, struct effects *fx);
/* The same of one that waits for its flush only. */
void node_file_flush_cancel(struct node *n, struct fwait *w, struct effects *fx);

/* node_lost.c: once more first writes are lost; and these who wait for an fsync are told. */
void node_lost_note(struct file *f, int32_t err);
void node_lost_tell(const struct file *f, struct list *waits);
/* An open file is asked for; an fsync begins; it is answered, to somebody who hears it; its open file is closed; the file is. */
void node_lost_opens(struct node *n, const struct fs_request *rq);
void node_lost_fsync(const struct file *f, struct fwait *w);
void node_lost_told(struct node *n, const struct fwait *w);
void node_lost_closed(struct node *n, const struct fs_request *rq);
void node_lost_clear(struct node *n, struct file *f);

/* node_reopen.c: somebody has left since the coordinator was asked last. Then an open waits, in f->open_waiters. */
bool node_reopen_due(const struct node *n, const struct file *f);
void node_reopen_waits(struct node *n, struct file *f, struct effects *fx);
/* It is asked for now, whether for the first time or not. */
void node_reopen_asks(const struct node *n, struct file *f);
void node_reopen_step(struct node *n, struct effects *fx);

void node_file_recall(struct node *n, uint64_t ino, struct effects *fx);
/* There was no memory to ask for its RETURN or CLOSE: later. */
void node_file_unasked(struct node *n, uint64_t ino, struct effects *fx);
void node_file_flush_done(struct node *n, struct fwait *w, int32_t err, struct effects *fx);

/* Our lease ran out: nothing that we hold is ours any more. */
void node_file_forget_layouts(struct node *n, struct effects *fx);

/* NULL: nobody here has it open. */
struct file *node_file_find(struct node *n, uint64_t ino);
/* The file after `prev` (NULL: the first), in table order. For reclaim. */
struct file *node_file_next(struct node *n, struct file *prev);
/*
 * The same behind files.at (NULL: the first), and that is there then. For a loop in which files may go: without memory to send it, a CLOSE
 * ends where it is asked for.
 */
struct file *node_file_walk(struct node *n);
/* NULL: no memory. OPENING, and in the table. */
struct file *node_file_new(struct node *n, uint64_t ino);
void node_file_free(struct node *n, struct file *f);

/* mtime that we wrote and did not commit shows in our own stat. */
void node_file_overlay(struct node *n, struct fs_attr *attr);

/* Whoever has waited here for a commit since before that is told EIO; the commit goes on, and who asked for times waits for it. */
void node_file_expire(struct node *n, uint64_t before_ns, struct effects *fx);

void node_file_step(struct node *n, uint64_t now_ns, struct effects *fx);
uint64_t node_file_deadline(const struct node *n);
void node_file_check(const struct node *n);

#endif
