/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dp.h - the data path's logic: what one read or write of a file means for the LUN. Pure; does no I/O.
 *
 * A shell (csvfs/datapath.c, the simulator) owns struct dp_op, asks what to do next, does it, and
 * comes back with the outcome. Each call gives a verdict:
 *
 *   dp_begin --> DP_SUBMIT ------dp_done----------+--> (again one of these)
 *            --> DP_HANDOVER --dp_block_done/retry-+
 *            --> DP_NEED_LAYOUT --dp_layout_done---+
 *            --> DP_NEED_APPEND --dp_append_done---+
 *            --> DP_WAIT: parked here; dp_next_ready() hands it back, then dp_begin
 *            --> DP_COMMIT --dp_block_done--> DP_DONE
 *            --> DP_DONE: op->result; dp forgets the op
 *
 * Rules
 *  1. A *first write* (into UNWRITTEN space of ours) writes whole clusters, data and zeros, holding
 *     an exclusive lock on them; only when it succeeded are they WRITTEN. Whoever else wants to write
 *     there waits and is then planned anew, as an overwrite. (invariants 6, 7)
 *  2. A write that is not in whole LUN blocks reads the blocks at its edges, holding an exclusive lock
 *     on its range. Every write in flight has a lock, a plain one a shared lock, so that an edge
 *     that was read is still so when it is written back.
 *     That other nodes leave the blocks at its edges alone, is a right to be asked for (fs_extent.edge, FS_LAYOUT_EDGE):
 *     a block that is read and written back undoes what somebody else has written into it meanwhile. Whole blocks, and
 *     first writes, need none. Nor does anything while no other node is there (sole_node).
 *  3. Reads take no lock. HOLE and UNWRITTEN read as zero. What was known to be a hole before this
 *     read began is asked for again (unless sole_node): another node may have filled it since. So
 *     is the end of the file by a read that reaches behind it.
 *  4. What the last WRITTEN cluster holds behind the end of the file nobody knows: a write behind the end may have failed
 *     in part, or its node may have died in it. So whoever makes a file longer zeroes from its old end on: the coordinator
 *     for a size that is set, and a write that leaves a gap behind the end (the *tail*: to the end of the cluster), before it
 *     writes, with the right that nobody else writes there (FS_LAYOUT_EDGE). Once is enough while that right lasts
 *     and no write of ours fails; a first write with that right zeroes as well. Clusters that lie behind the end as a whole
 *     are not WRITTEN.
 *  5. Gate of a file: an op is *inside* from its first DP_SUBMIT/DP_HANDOVER to DP_DONE, waiting for
 *     the core or for its commit included. DP_NEED_* and DP_WAIT are outside. Closed: nobody enters;
 *     EV_DRAINED(ino) when nobody is inside. If the layout is dropped all the same, those inside
 *     are planned anew when they come back, whatever their outcome. What the core has of them it
 *     gives back without doing it: it knows by op->rights what was planned before. What it is told of them then
 *     (EV_WRITTEN, EV_COMMIT) does not count.
 *     Whose question for the layout was answered (dp_answered) goes inside, if the answer is enough, though the
 *     gate be closed by now: what several nodes want in turn brings each of them on by one write at least.
 *  6. Gate of the volume: GATE_DIRECT within the lease gives DP_SUBMIT, else DP_HANDOVER.
 *     EV_DRAINED(0) when it is closed and no DP_SUBMIT is in flight. A read, or a first write,
 *     that ends after the lease is not answered: DP_HANDOVER.
 *  7. Outcomes on the own path: RETRY is submitted again for up to DP_RETRY_NS, three times at least (what the core held
 *     it for does not count), and then handed over: a write as unknown, a read as refused, and this path is given up; MEDIUM is
 *     EIO; FAILING is submitted again as after RETRY, and is EIO when it is so for DP_RETRY_NS since it was sent first: if RETRY came
 *     before, the last half of that time nothing else; else it goes on as after RETRY. NOSPACE is ENOSPC;
 *     anything else is handed over as unknown. Never an error for a lost path. A read whose outcome is unknown is submitted again as after RETRY, with pauses from the first time on: a path
 *     that is lost closes the gate meanwhile; one that stands gets it back from the core, again and again. What the target refuses for good (not executed, and no path's fault) is an error, as through a
 *     peer: UNSUPPORTED is EIO, PROTECTED is EROFS. Asked for again it would be refused again, for ever.
 *  8. A write that extends the file, or must be durable, ends with
 *     DP_COMMIT: EV_COMMIT, answered on FX_BLOCK_DONE. EV_WRITTEN of what it first-wrote comes before.
 *  9. Punching a hole, fallocate(2), frees whole clusters; the parts of clusters at its two ends are written
 *     with zeros before (op.zero, each within one cluster). That changes no size and fills no hole.
 * 10. An op through an open file whose locks were lost is never (again) submitted: another node may have those
 *     locks by now. It gets EIO.
 * 11. What is known stays bounded: past extents_max the file that was not used for the longest time is told to the core
 *     (EV_SHED), which gives its layout back as if it were recalled. Only so is nothing forgotten that the
 *     coordinator has not heard of yet.
 *
 * 12. A limit of patience (hold_ns) ends the wait of an application, not what was sent: a write whose older attempt may still land
 *     is answered with EIO and stays inside (dp_given_up), until the core says that it is over. No write of one of its
 *     bytes begins before that, and no layout goes back. Whoever waits here for so long ends with EIO, and so does
 *     what was read in vain for so long.
 * 13. Nobody here sees the place of an append without its data: from when it asks for its place until it has ended, a read that
 *     may reach into it waits for it. A read that has waited, and meets the next, ends where that begins, once it has its place. But it does
 *     not end before its first byte if the file goes on behind that: it waits for all that begin before, and asks first if it is to say that it does not.
 *     Other nodes' readers wait at the coordinator, which hears of the end (EV_APPENDED; csvfs/node_append.c), and says
 *     with the size from where on it is to be asked (dp_layout_shown).
 * 14. Nothing is written under a layout that was given for reading alone, even where it would do: the coordinator has to know who
 *     writes a file, to ask for its times (csvfs/node_times.c), and has others forget what they know of them.
 * 15. What needs no I/O (a hole, the end of the file) is answered while the gate is direct and the lease runs, as I/O is; else the
 *     coordinator is asked first: since we were given up others may have written there.
 * 16. What the core has no memory to take (ENOMEM to DP_HANDOVER) is not an error: it is handed over again after DP_AGAIN_NS, inside
 *     meanwhile. A write whose older attempt may still land goes to the core again and again, whatever else has become of it
 *     by then: only the core knows when that is over.
 * 17. A place that an append was told is its own as long as the rights of the node last: when they have ended others may have made
 *     the file shorter, and longer again. The version of the layout tells: with the same one, under a new layout, it goes on. Else it
 *     asks for another place, and the old one stays a hole; but what may lie there already would be in the file twice: such
 *     an append ends with EIO. (What was first-written, and not told, nobody sees.)
 * 18. Paused (dp_pause): what is not inside yet waits, outside; what is inside, was answered, or is an append that has its place, goes
 *     on to its end. So a layout that is recalled goes back as ever: nobody else waits for our administrator.
 *
 * Events: after each call that gave a verdict or applied an effect, before any other thread calls dp (so
 * under the lock that guards it), post in this order: what dp_op_event() gives until it says false;
 * the EV_REQUEST, EV_BLOCK or EV_COMMIT of the verdict; what dp_next_event() gives. For EV_DRAINED
 * promises that whatever was inside has told the core before.
 *
 * Invariants (dp_check)
 *  D1 exclusive locks of a file overlap no other lock;
 *  D2 nothing is inside a file that reported drained and is still closed;
 *  D3 direct_count is the number of ops in DP_ST_IO, inside the number of those in IO, LATER, CORE, COMMIT;
 *  D4 nobody waits without a cause: a closed gate, a conflicting lock, an ask under way, an append, a pause;
 *  D5 the invariants of layout.h;
 *  D6 the files that something is known of are the ones on the list of use (dp_shed.c).
 */
#ifndef CSVFS_DP_H
#define CSVFS_DP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "csvfs/base/list.h"
#include "csvfs/base/mem.h"
#include "csvfs/base/platform.h"
#include "csvfs/layout.h"

#define DP_RETRY_NS (5 * NS_PER_SEC)
#define DP_AGAIN_NS (100 * NS_PER_MS) /* rule 16 */
#define DP_TOUCH_NS NS_PER_SEC
#define DP_READ_NS (3600 * NS_PER_SEC) /* a read is told again after that; else only after a change */
#define DP_ASKS_MAX 8 /* questions for the layout of one file under way at once */
#define DP_ASKS_IN_VAIN 100 /* answers in a row that do not bring the byte asked for: EIO */

enum dp_verdict {
	DP_DONE = 1,
	DP_SUBMIT,	/* op->segs on the own session; then dp_done() */
	DP_HANDOVER,	/* the same as EV_BLOCK to the core; then dp_block_done() or dp_block_retry() */
	DP_NEED_LAYOUT, /* EV_REQUEST FS_LAYOUT_GET of op->need_*; then dp_layout_done() */
	DP_NEED_APPEND, /* EV_REQUEST FS_APPEND of op->len; then dp_append_done() */
	DP_COMMIT,	/* EV_COMMIT of op->range; then dp_block_done() */
	DP_WAIT,
};

enum dp_state {
	DP_ST_NEW = 0,
	DP_ST_ASK,	/* DP_NEED_LAYOUT */
	DP_ST_APPEND,	/* DP_NEED_APPEND */
	DP_ST_PARKED,	/* DP_WAIT for a gate, a lock, another op's question */
	DP_ST_LATER,	/* DP_WAIT to submit again; inside */
	DP_ST_READY,	/* on its way to dp_next_ready() */
	DP_ST_IO,	/* DP_SUBMIT; inside */
	DP_ST_CORE,	/* DP_HANDOVER; inside */
	DP_ST_COMMIT,	/* DP_COMMIT; inside */
	DP_ST_ENDED,
};

enum dp_cause { DP_BY_GATE, DP_BY_LOCK, DP_BY_ASK, DP_BY_APPEND, DP_BY_PAUSE };

struct dp_zero {
	uint32_t buf_off, len;
};

/*
 * One read or write. Memory is the caller's: dp_op_init(), the first part filled in, dp_begin().
 *
 * I/O goes to and from an *image*: img_len bytes, of which the caller's own data are the `len` bytes
 * from `skip` on; segs[].buf_off and zeros[] count from the image's start. A read fills an image (the
 * answer is `result` bytes from skip). A write whose `bounce` is not set has skip 0 and img_len len:
 * the caller's data is the image. With `bounce`, before each DP_SUBMIT or DP_HANDOVER with io_write,
 * dp_fill() makes the image from zeros, what was read into it before, and data.
 */
struct dp_op {
	uint64_t ino, off;
	uint32_t len;	/* 0 .. IO_BYTES_MAX */
	uint64_t handle; /* of the open file; 0: none */
	bool write;
	bool partly;	/* a write may end where the space does */
	bool append;	/* O_APPEND: off is found by FS_APPEND */
	bool sync;	/* O_SYNC: data and all attributes durable when answered */
	bool dsync;	/* O_DSYNC: data, and what is needed to read it again */
	bool atime;	/* a read that may set atime */
	bool zero;	/* write zeros where it is not zero yet, up to the end of the file (rule 9) */
	void *owner;	/* the caller's */

	int32_t result; /* DP_DONE: bytes, or a negative errno */

	bool io_write, io_fua;
	bool io_unknown; /* DP_HANDOVER: a direct attempt was made and may still land */
	bool io_conflict; /* ... or was refused, since our registration is gone */
	bool io_told; /* ... and the core has heard of it, but had no memory: what it knows of the path by now is newer */
	bool io_refused; /* DP_HANDOVER of a read: nothing is under way, but this path has not done it for DP_RETRY_NS */
	bool bounce;
	uint32_t img_len, skip;
	uint32_t seg_count, zero_count;

	uint64_t need_off, need_len;
	bool need_write;
	bool need_edge; /* parts of blocks are to be written: rule 2 */
	bool need_near; /* into a known hole: what lies around it is known as well */

	/* For EV_COMMIT. off, len: clusters first-written (len 0: none); size: the file is as long. */
	struct {
		uint64_t ino, off, len, size;
		int64_t mtime_ns;
	} range;

	/* dp's own */
	enum dp_state state;
	enum dp_cause cause;
	bool asked;	 /* the layout was asked for since the op began: a hole is a hole */
	int put_failed;	 /* an answer could not be recorded while it asked: why not, or -EIO for one that cannot be */
	bool answered;	 /* in ASK: the answer is there, and holds up EV_DRAINED */
	bool edges;	 /* in the phase that reads the edges of a write */
	bool tail;	 /* zeroes the tail of the file; then it is planned as what it is (rule 4) */
	bool first;	 /* writes into unwritten clusters */
	bool promised;	 /* holds a promise of layout.h */
	bool inside, locked, exclusive;
	bool placed;	 /* an append that was told its place */
	bool tried;	 /* ... and may have left its data there, for all to see (rule 17) */
	uint32_t place_rights; /* of the node when it was asked for */
	uint64_t place_version_1; /* of the file's layout when it was told, and one; 0: not known */
	bool waited;	 /* a read, for an append: rule 13 */
	bool note_written, note_touched, note_appended;
	bool given_up;	 /* answered with EIO, and may still land (rule 12) */
	bool overdue;	 /* has waited for hold_ns */
	uint64_t begun_ns;
	int64_t note_mtime_ns, note_atime_ns; /* of note_touched */
	uint64_t seq;	 /* order of arrival */
	uint64_t drops;	 /* of the file when planned */
	uint32_t rights; /* of the node when it went inside: dp_rights() */
	uint64_t lock_off, lock_end;
	uint64_t img_off; /* in the file */
	uint64_t sent_ns, retry_since_ns, not_before_ns;
	uint64_t failing_since_ns; /* nothing but LUN_FAILING since what was sent then; 0: something else */
	uint32_t retries;
	uint64_t last_need_off, last_drops, answer_drops;
	uint32_t asks;
	struct dp_file *file;
	uint64_t append_from; /* of an append without a place: not before that */
	struct list alink; /* appends of the file */
	struct list link;  /* waiting, asking, later, ready */
	struct list ilink; /* inside the file */
	struct list hlink; /* parked */

	/* Last, and not cleared: the counts above say how many there are. */
	struct seg segs[SEGS_MAX];
	struct dp_zero zeros[SEGS_MAX];
};

static inline void dp_op_init(struct dp_op *op)
{
	memset(op, 0, offsetof(struct dp_op, segs));
}

struct dp_now {
	uint64_t now_ns;  /* CLOCK_BOOTTIME */
	int64_t wall_ns;  /* CLOCK_REALTIME: mtime */
};

struct dp_config {
	struct mem *mem;
	uint64_t data_start; /* byte of the LUN: what lies before it is no file's */
	uint32_t cluster_bytes;
	uint32_t block_bytes; /* of the LUN; 4096 suits every LUN while it is not known */
	bool sole_node; /* no other node changes files: holes stay, the kernel appends by itself */
	uint64_t hold_ns; /* nobody waits here for longer (rule 12); 0: for ever */
	uint32_t extents_max; /* to be known of all files together (rule 11); 0: no limit */
};

struct dp;

/* NULL: out of memory. */
struct dp *dp_create(const struct dp_config *cfg);
/* No op is left inside or waiting. */
void dp_destroy(struct dp *dp);

/* As soon as it is known, at any time. */
void dp_set_block_bytes(struct dp *dp, uint32_t block_bytes);

enum dp_verdict dp_begin(struct dp *dp, struct dp_op *op, struct dp_now now);

/* Of DP_SUBMIT. With several commands: the worst outcome, see dp_worst(). */
enum dp_verdict dp_done(
	struct dp *dp, struct dp_op *op, enum lun_status status, struct dp_now now);

/*
 * FX_BLOCK_DONE, of DP_HANDOVER or DP_COMMIT. -ENOMEM of the former: it was not taken (rule 16); any other error promises that
 * nothing of it can still land.
 */
enum dp_verdict dp_block_done(struct dp *dp, struct dp_op *op, int err, struct dp_now now);
/*
 * FX_BLOCK_DONE that says that it may still land: the caller answers the application, which is never answered again, and keeps
 * the op until the one that follows. Its state is DP_ST_CORE.
 */
void dp_given_up(struct dp *dp, struct dp_op *op);
/* FX_BLOCK_RETRY. */
enum dp_verdict dp_block_retry(struct dp *dp, struct dp_op *op, struct dp_now now);

/* FX_REPLY to DP_NEED_LAYOUT, without an error, has come: dp_layout_done() will follow. In the order of the effects. */
void dp_answered(struct dp *dp, struct dp_op *op);

/* FX_LAYOUT_PUT's; and, before dp_append_done(), that of FX_REPLY's attributes (rule 17). */
void dp_layout_version(struct dp *dp, uint64_t ino, uint64_t version);
void dp_place_version(struct dp_op *op, uint64_t version);
/* After DP_NEED_APPEND, if the question was not asked at once: it is asked now. */
void dp_place_asked(struct dp *dp, struct dp_op *op);
/* The rights under which it asked have not ended: it will not ask once more for that. */
bool dp_place_stands(const struct dp *dp, const struct dp_op *op);
/* The place that it is about to be told (dp_append_done()) is not taken: it asks for another one. */
void dp_place_void(struct dp_op *op);

/* FX_REPLY to the two questions; FX_LAYOUT_PUT has been applied before. */
enum dp_verdict dp_layout_done(struct dp *dp, struct dp_op *op, int err, struct dp_now now);
enum dp_verdict dp_append_done(
	struct dp *dp, struct dp_op *op, int err, uint64_t off, struct dp_now now);

/*
 * The process that waits was killed. True: the op waited here, with nothing under way, and has ended (result -EINTR). False:
 * it waits elsewhere: send EV_CANCEL when it is in DP_ST_ASK, APPEND, CORE or COMMIT, else just wait.
 */
bool dp_cancel(struct dp *dp, struct dp_op *op);

/* An op to go on with, by dp_begin(); NULL: none now. What time has made due is in dp_next_event() then. */
struct dp_op *dp_next_ready(struct dp *dp, uint64_t now_ns);
/* When to call dp_next_ready() and dp_next_event() though nothing else has happened; NEVER. */
uint64_t dp_deadline(const struct dp *dp);

/* ---- effects of the core. -ENOMEM, -EINVAL: not recorded; who asked gets ENOMEM, or EIO. */
int dp_layout_put(struct dp *dp, uint64_t ino, uint64_t off, uint64_t len, uint64_t size,
	const struct fs_extent *e, uint32_t count);
void dp_layout_size(struct dp *dp, uint64_t ino, uint64_t size);
/* After each of the two: behind `shown` other nodes append. What is there is asked for before it is read. */
void dp_layout_shown(struct dp *dp, uint64_t ino, uint64_t shown);
void dp_layout_close(struct dp *dp, uint64_t ino);
void dp_layout_drop(struct dp *dp, uint64_t ino);
void dp_layout_drop_all(struct dp *dp); /* FX_LAYOUT_DROP of ino 0 */
void dp_gate(struct dp *dp, enum gate gate, uint64_t lease_ns);
/* FX_GATE's, after dp_gate(): rule 18. */
void dp_pause(struct dp *dp, bool on);
/* FX_GATE's number of the node's rights; before dp_gate(). EV_BLOCK carries op->rights. */
void dp_rights(struct dp *dp, uint32_t rights);
/* These open files held locks that are lost: what is not done yet through them, and what comes, gets EIO. */
void dp_handles_lost(struct dp *dp, const uint64_t *handles, uint32_t count);
/* A write through this open file is answered with an error. 0: none. */
void dp_handle_failed(struct dp *dp, uint64_t handle);
bool dp_handle_has_failed(const struct dp *dp, uint64_t handle);
/* It is closed, and its number is not used again. */
void dp_handle_closed(struct dp *dp, uint64_t handle);

/* EV_WRITTEN, EV_TOUCHED, EV_APPENDED of op, but for the tag: that of its EV_REQUEST. False: no more. */
bool dp_op_event(struct dp_op *op, struct event *ev);
/* EV_TOUCHED that is due; EV_DRAINED, and before it EV_TOUCHED of that file; EV_SHED. False: no more. */
bool dp_next_event(struct dp *dp, struct event *ev);

/*
 * The newest in-place write of ino that no EV_TOUCHED told of yet, as one: before a request that
 * makes the file's times durable (FSYNC, CLOSE).
 */
bool dp_take_touched(struct dp *dp, uint64_t ino, struct event *ev);
/* Its time, for this node's own stat; 0: there is none. */
int64_t dp_touched_ns(struct dp *dp, uint64_t ino);
/* The same of a read. */
int64_t dp_read_ns(struct dp *dp, uint64_t ino);
/*
 * The file's attributes came with a layout that is still here: before another node makes it one of which a write takes
 * something away (setuid, setgid, capabilities), the coordinator takes that layout back.
 */
void dp_attr_seen(struct dp *dp, uint64_t ino);
bool dp_attr_holds(struct dp *dp, uint64_t ino);
/* Its times are set: the next read is news again. */
void dp_times_set(struct dp *dp, uint64_t ino);

/* Zero ranges of an image; for a write also its data (none: op->zero). */
void dp_fill(const struct dp_op *op, void *image, const void *data);

/* The outcome of two commands of one I/O together. */
enum lun_status dp_worst(enum lun_status a, enum lun_status b);

enum gate dp_gate_now(const struct dp *dp, uint64_t now_ns);

/* True when an op of that file is somewhere inside or waiting. For tests. */
bool dp_busy(const struct dp *dp, uint64_t ino);

void dp_check(struct dp *dp);

#endif
