/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * engine.h - the inside of the metadata engine: struct vol and its parts. Only the engine's own files
 * include it (cache, txn, journal, checkpoint, replay, alloc, reply, vio, volume). Others: txn.h,
 * volume.h. How the parts work together: DESIGN.md in this folder.
 */
#ifndef CSVFS_METADATA_ENGINE_H
#define CSVFS_METADATA_ENGINE_H

#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "metadata/txn.h"
#include "metadata/verify.h"
#include "metadata/volume.h"

/* ------------------------------------------------------------------ vio.c: LUN commands */

#define VIO_MAX 1024u
#define VIO_TRIES_MAX 100u

enum vio_state { VIO_FREE, VIO_QUEUED, VIO_FLIGHT, VIO_LATER };

struct vio {
	struct list link; /* free, queue or later; none in flight */
	uint64_t tag;
	enum vio_state state;
	enum lun_op op;
	bool fua;
	bool zombie; /* the engine that sent it was abandoned: nobody waits for it any more */
	enum lun_status said; /* the last time */
	uint32_t tries, same; /* all; those in a row that ended as the last one did */
	uint64_t blkno, blocks;
	void *buf;
	uint64_t at_ns; /* VIO_LATER */
	/* LUN_OK; of a read LUN_MEDIUM too. All else is repeated, or freezes the volume. */
	void (*done)(struct vol *v, struct vio *io, enum lun_status st);
	void *arg;
};

struct vios {
	struct vio *all; /* VIO_MAX */
	struct list free, queue, later;
	uint32_t busy; /* queued, in flight or later */
	uint32_t zombies;
	uint64_t count;
	bool failing; /* a read of this opening has failed to the end, for a reason that the target does not say */
};

int vio_create(struct vol *v);
void vio_destroy(struct vol *v);
/* NULL: too many at once. The command leaves with the next vio_pump(). */
struct vio *vio_send(struct vol *v, enum lun_op op, uint64_t blkno, uint64_t blocks, void *buf,
	void (*done)(struct vol *v, struct vio *io, enum lun_status st), void *arg);
/* The same where there is always room: block reads leave half of the table to the rest. */
struct vio *vio_must(struct vol *v, enum lun_op op, uint64_t blkno, uint64_t blocks, void *buf,
	void (*done)(struct vol *v, struct vio *io, enum lun_status st));
bool vio_room(const struct vol *v, uint32_t n);
void vio_pump(struct vol *v, struct effects *fx);
void vio_done(struct vol *v, const struct event *ev);
/* Nobody waits for any of them any more; those with the driver keep their buffers. */
void vio_abandon(struct vol *v);
uint64_t vio_deadline(const struct vol *v);

/* ------------------------------------------------------------------ cache.c */

enum block_state { BLOCK_READING = 1, BLOCK_VALID, BLOCK_BAD };

#define BLK_PINNED (1u << 0) /* never evicted: superblock, reply cache */
#define BLK_RUNNING (1u << 1) /* on running.blocks */
#define BLK_COMMITTING (1u << 2) /* its image is in the commit in flight */
#define BLK_FORGOTTEN (1u << 3) /* freed: by the running transaction, or a committing one */
#define BLK_FORGETTING (1u << 4) /* freed by the commit in flight */

struct cache {
	struct block **buckets;
	uint32_t mask;
	uint32_t max, count; /* blocks; of those that exist */
	uint32_t lru_count; /* of those that may be evicted */
	struct list lru; /* coldest first */
	struct block *spare; /* made, not used */
	uint64_t hits, misses;
};

int cache_create(struct vol *v);
void cache_destroy(struct vol *v);
void cache_reset(struct vol *v);
struct block *cache_find(struct vol *v, uint64_t blkno);
/* A block that is not in the cache yet, content undefined. NULL: no room. */
struct block *cache_add(struct vol *v, uint64_t blkno);
void cache_drop(struct vol *v, struct block *b);
/* Puts it on the LRU list, or takes it off, as its state says. */
void cache_settle(struct vol *v, struct block *b);
/* How many blocks an operation could get now. */
uint32_t cache_room(const struct vol *v);

/* ------------------------------------------------------------------ fetch.c */

#define FETCH_RUNS 16u
#define FETCH_BLOCKS_MAX 16u

/* A read of several neighbours at once. */
struct fetch_run {
	uint64_t number; /* of this read; 0: not in use */
	uint64_t first;
	uint32_t count;
	uint8_t *buf; /* FETCH_BLOCKS_MAX blocks; NULL: never used */
};

struct fetch {
	struct fetch_run run[FETCH_RUNS];
	uint32_t blocks; /* read at once; 1: no neighbours */
	uint64_t number;
};

void fetch_create(struct vol *v);
void fetch_destroy(struct vol *v);
/* No read is in flight any more. */
void fetch_reset(struct vol *v);
/* Can there be a metadata block of the cache at this number? */
bool fetch_may_read(const struct vol *v, uint64_t blkno);
/* The block is not in the cache: -EAGAIN, the operation waits for it; or an error. */
int fetch_block(struct txn *t, uint64_t blkno);

/* ------------------------------------------------------------------ txn.c */

enum wait { WAIT_NONE, WAIT_BLOCK, WAIT_ROOM, WAIT_HELD };

struct undo {
	struct block *b;
	uint64_t dirty_lsn;
	uint8_t flags;
	bool made; /* the operation brought it into the cache */
};

#define ALLOC_TOUCH_MAX (TXN_UNDO_BLOCKS + 1)
#define TXN_INODES_MAX 16u /* more than any operation changes: a rename changes four */

struct txn {
	struct vol *v;
	int64_t time_ns;
	uint64_t op; /* number of the operation; grows by one */
	uint64_t seen_lsn; /* newest change that it could have seen */
	struct undo undo[TXN_UNDO_BLOCKS];
	uint8_t *copies; /* TXN_UNDO_BLOCKS blocks: what stood there */
	uint32_t undo_count;
	enum wait wait;
	struct block *wait_block;
	bool refused; /* it changed something, but the volume is read-only */
	bool kicked;
	uint64_t changed[TXN_INODES_MAX]; /* inodes that it changed */
	uint32_t changed_count;
	uint32_t touched[ALLOC_TOUCH_MAX]; /* groups whose index entry it changed */
	uint32_t touched_count;
};

/* The transaction that operations now add to. */
struct running {
	uint64_t lsn;
	struct list blocks;
	uint32_t count; /* on the list, */
	uint32_t forgot; /* of those: freed, without an image */
	bool flush; /* it may say that data is written: see J3 */
	struct list waiters; /* requests that wait until it is durable */
};

int txn_create(struct vol *v);
void txn_destroy(struct vol *v);
void txn_begin(struct vol *v, int64_t time_ns);
/* Its changes stay; false: there were none. */
bool txn_keep(struct txn *t);
void txn_undo(struct txn *t);
/* The operation waits until blocks of the cache, or clusters, become free. */
int txn_wait_room(struct txn *t);

/* ------------------------------------------------------------------ journal.c */

#define JOURNAL_RECORDS_MAX 4u /* of one transaction */

enum journal_state { JOURNAL_IDLE, JOURNAL_FLUSH, JOURNAL_WRITE };

struct journal_pos {
	uint64_t seq; /* record */
	uint64_t lsn;
	uint64_t at; /* blocks since the start of the ring, counted on through every turn of it */
};

struct journal {
	enum journal_state state;
	uint64_t start; /* first block of the ring */
	uint64_t blocks; /* of the ring */
	uint32_t txn_max; /* blocks in one transaction */
	uint8_t *bufs[JOURNAL_RECORDS_MAX];
	uint32_t buf_count;
	struct journal_pos head; /* where the next commit goes */
	struct journal_pos durable; /* behind the last durable record */
	struct journal_pos tail; /* as in the newest durable journal head */
	uint64_t head_count; /* of journal heads written */
	uint8_t *head_buf;
	/* The commit in flight. */
	uint64_t lsn; /* 0: none */
	struct journal_pos pos;
	struct block **commit; /* txn_max + TXN_OP_BLOCKS */
	uint32_t commit_count;
	uint32_t records, writes;
	uint32_t record_blocks[JOURNAL_RECORDS_MAX]; /* of each: with its header */
	struct list waiters;
};

int journal_create(struct vol *v);
void journal_destroy(struct vol *v);
/* The journal is empty and goes on behind `pos`. */
void journal_reset(struct vol *v, const struct journal_pos *pos, uint64_t head_count);
uint64_t journal_used(const struct vol *v);
/* True while an operation that dirties TXN_OP_BLOCKS fits into the running transaction. */
bool journal_admits(const struct vol *v);
/* The running transaction fits with what the operation has dirtied, and its reply: which may be more than that. */
bool journal_fits(const struct vol *v);
void journal_step(struct vol *v);
/* Ring block `at` as a block of the LUN. */
uint64_t journal_blkno(const struct vol *v, uint64_t at);
/* The next journal head goes to `blkno`, also out of turn. */
void journal_next_head(struct vol *v, uint64_t blkno);
/* Writes a journal head: tail, durable end, the present epoch. */
void journal_write_head(struct vol *v, const struct journal_pos *tail,
	void (*done)(struct vol *v, struct vio *io, enum lun_status st));

/* ------------------------------------------------------------------ checkpoint.c */

enum ckpt_state { CKPT_IDLE, CKPT_WRITE, CKPT_FLUSH, CKPT_HEAD };
#define CKPT_BATCH JREC_IMAGES_MAX

struct pair {
	uint64_t key, value;
};

struct ckpt {
	enum ckpt_state state;
	struct list needed; /* blocks, in order of journal_seq */
	uint32_t needed_count;
	uint8_t *buf; /* CKPT_BATCH blocks; also used while opening */
	struct pair batch[CKPT_BATCH]; /* blkno, journal_seq */
	uint32_t batch_count, writes;
	struct journal_pos new_tail;
	uint64_t idle_commits; /* commits when idle_ns was set */
	uint64_t idle_ns; /* when to write everything in its place; NEVER: nothing to do */
};

int ckpt_create(struct vol *v);
void ckpt_destroy(struct vol *v);
void ckpt_step(struct vol *v);
/* The journal head at `blkno`, which is not sound, is written anew, with the present tail; false: not now. */
bool ckpt_renew_head(struct vol *v, uint64_t blkno);
/* Everything is in its place and the durable journal head says so. */
bool ckpt_all_done(const struct vol *v);

/* Sorts by key, then value. */
void pair_sort(struct pair *p, size_t n);

/* ------------------------------------------------------------------ replay.c */

enum replay_state {
	REPLAY_OFF,
	REPLAY_HEADS, /* reads the two journal heads */
	REPLAY_SCAN, /* reads the run, verifies it whole */
	REPLAY_BEYOND, /* looks whether anything newer stands behind its end */
	REPLAY_GROUPS, /* reads a batch of the groups' images */
	REPLAY_GONE, /* drops what those do not name as metadata */
	REPLAY_IMAGES, /* reads a batch of images and what is in their places */
	REPLAY_WRITE,
	REPLAY_FLUSH,
	REPLAY_HEAD, /* writes a journal head: empty, in our epoch */
	REPLAY_DONE,
};

struct replay {
	enum replay_state state;
	uint32_t pending;
	struct disk_jhead head; /* that replay starts from */
	struct journal_pos pos; /* record expected next */
	struct journal_pos end; /* behind the last whole transaction */
	uint64_t epoch; /* of the last record */
	bool in_txn; /* the first record of the transaction was seen, not yet the last */
	uint8_t *rec; /* header of the record whose images are read */
	uint32_t image; /* image expected next; 0 .. count */
	bool in_rec;
	uint64_t window; /* ring position of the next block to read */
	uint32_t window_blocks;
	struct pair *map; /* blkno, ring position */
	size_t map_room, map_count, map_whole; /* entries; of whole transactions */
	size_t next; /* batch to apply */
	uint32_t batch;
	uint64_t applied, skipped;
	bool settled; /* what stood in the places before is durable, as far as that matters (R3) */
};

void replay_start(struct vol *v);
void replay_step(struct vol *v);
void replay_free(struct vol *v);

/* ------------------------------------------------------------------ alloc.c */

struct alloc_group {
	uint16_t free;
	uint16_t whole; /* free chunks outside the reserve; of a group not looked at yet: at most */
	uint8_t flags; /* SUMMARY_* */
	uint8_t hints; /* HINT_* */
	bool guessed; /* `whole` is */
};

/* Sums over the groups of one summary block. */
struct alloc_sum {
	uint32_t free, meta_free, inode_free; /* clusters; groups with that flag */
};

/* Clusters freed, not yet to be used again. */
struct alloc_pending {
	struct list link;
	uint64_t lsn, op;
	uint64_t start;
	uint32_t count;
	bool chunk; /* was metadata: wait for the journal's tail, not only for the commit */
};

struct alloc_overlay {
	struct alloc_overlay *next;
	uint32_t group;
	uint32_t count; /* bits set */
	uint8_t bits[GROUP_BITMAP_BYTES];
};

#define ALLOC_WINDOWS 128
#define ALLOC_OVERLAY_BUCKETS 256
struct alloc_window {
	uint64_t who;
	uint64_t start, end; /* clusters; end 0: free entry */
	uint64_t used; /* operation that used it last */
};

struct alloc {
	struct alloc_group *groups;
	struct alloc_sum *sums;
	uint32_t group_count, sum_count;
	uint32_t cluster_blocks, chunk_clusters, group_chunks;
	uint64_t clusters, free, reserve_start;
	uint64_t whole, guessed; /* sum over the groups; over those where it is guessed */
	uint32_t look_at; /* alloc_keep.c: group to be looked at next */
	uint64_t meta_hint, inode_hint; /* chunk used last; 0: none */
	uint32_t data_hint; /* group */
	/* alloc_count.c: inodes in use in the chunks before `counted`, and what the running operation adds. */
	uint64_t inodes, counted;
	int64_t inodes_op;
	struct list pending_data, pending_chunks;
	struct alloc_overlay *overlay[ALLOC_OVERLAY_BUCKETS];
	struct alloc_window windows[ALLOC_WINDOWS];
};

int alloc_create(struct vol *v); /* after the superblock is known */
void alloc_destroy(struct vol *v);
/* Summary block number i, read while opening. */
void alloc_load(struct vol *v, uint32_t i, const struct disk_summary *s);
/* The running operation is undone; its blocks have been restored. */
void alloc_undo(struct txn *t);
/* Commit is durable, or the tail has moved: what may be used again? */
void alloc_release(struct vol *v);
/* The running operation begins; is kept. */
void alloc_count_begin(struct vol *v);
void alloc_count_keep(struct vol *v);
/* Freed space waits for the journal's tail. */
bool alloc_waits_for_tail(const struct vol *v);
/* Earlier operations freed space that comes back with the next commit or checkpoint. */
bool alloc_pending(const struct txn *t);
void alloc_check(const struct vol *v);

/* ------------------------------------------------------------------ reply.c */

struct reply_cache {
	struct block *b[NODES_MAX];
	uint32_t node[NODES_MAX];
	uint64_t life[NODES_MAX];
};

void reply_load(struct vol *v, uint32_t i, struct block *b);
/* 1: executed before, r->reply is filled as recorded; 0: not; -ESTALE; -EBUSY: no node slot. */
int reply_find(struct vol *v, struct vol_req *r);
/* Within the operation, after it succeeded. */
void reply_record(struct txn *t, struct vol_req *r);

/* ------------------------------------------------------------------ grow.c */

enum grow_state { GROW_IDLE, GROW_COPY, GROW_RUN, GROW_PLACE };

struct grow {
	enum grow_state state;
	struct disk_super *geo; /* as the volume will be; also the copy at its new end */
	uint64_t bytes, lun_bytes;
	uint32_t in_place; /* GROW_PLACE: which superblocks are */
	/* The index of the volume as it will be, G6; NULL: it does not grow. */
	struct alloc_group *groups;
	struct alloc_sum *sums;
	uint32_t group_count, sum_count;
	struct vol_req req;
	int err;
};

int grow_create(struct vol *v);
/* The volume is opened: what an earlier life had begun is forgotten. */
void grow_reset(struct vol *v);
void grow_destroy(struct vol *v);
/* The operation has been executed, or has failed. */
void grow_done(struct vol *v, int err);
void grow_step(struct vol *v);
bool grow_busy(const struct vol *v);
/* G4: operations wait. */
bool grow_holds(const struct vol *v);
/* The block that must go to its place now, alone; NULL: none. */
struct block *grow_places(const struct vol *v);
/* This image of a superblock is durable in its place. */
void grow_placed(struct vol *v, const void *image);

/* ------------------------------------------------------------------ scrub.c */

#define SCRUB_WINDOW 64u
enum scrub_state { SCRUB_IDLE, SCRUB_NEXT, SCRUB_READ, SCRUB_LOOK, SCRUB_JUDGE, SCRUB_RENEW };
enum scrub_area {
	SCRUB_SUPERS,
	SCRUB_LAST,
	SCRUB_REPLIES,
	SCRUB_SUMMARY,
	SCRUB_HEADS,
	SCRUB_GROUP,
	SCRUB_CHUNK,
};
enum scrub_verdict { SCRUB_GONE, SCRUB_REPAIRED, SCRUB_BROKEN };

struct scrub {
	enum scrub_state state;
	enum scrub_area area;
	uint64_t blkno, end; /* read next; of the area */
	uint32_t count; /* blocks of this read */
	uint32_t group, chunk_at; /* chunk of the group */
	bool group_known, seek; /* seek: for the next group, from this one on */
	bool stop;
	bool reading; /* a command of ours is in flight */
	bool renewed; /* it was written directly; does it stand? */
	uint64_t suspects; /* bits of this read */
	uint32_t looks, turns;
	enum problem problem; /* of the suspect, */
	enum scrub_verdict verdict; /* what the operation found */
	uint64_t due_ns;
	uint8_t *buf, *again; /* NULL: never started */
	struct disk_group group_block; /* as they were when the walk came there */
	struct disk_chunk chunk;
	struct vol_req req;
	struct vol_scrub st;
};

void scrub_step(struct vol *v);
uint64_t scrub_deadline(const struct vol *v);
/* The operation has been executed, or has failed. */
void scrub_judged(struct vol *v, int err);
/* A command of its own is in flight. */
bool scrub_in_flight(const struct vol *v);
/* The geometry has changed, while none was. */
void scrub_grown(struct vol *v);
void scrub_reset(struct vol *v);
void scrub_destroy(struct vol *v);

/* ------------------------------------------------------------------ volume.c */

enum open_phase {
	OPEN_WAIT, /* commands of an earlier life are still with the driver */
	OPEN_SUPER, /* block 0 */
	OPEN_SUPER_COPY, /* block 3 */
	OPEN_SUPER_LAST, /* last block */
	OPEN_REPLAY,
	OPEN_SUPERS, /* both superblocks again, into the cache */
	OPEN_REPLIES,
	OPEN_SUMMARY,
	OPEN_ROOT, /* a new volume gets its root directory; a superblock is restored from its copy */
	OPEN_DONE,
};

enum close_phase { CLOSE_DRAIN, CLOSE_SUPER, CLOSE_DONE };

struct vol {
	struct vol_config cfg;
	enum vol_state state;
	enum vol_reason reason;
	char error[256];
	uint64_t now_ns;
	uint64_t epoch;
	enum open_phase open;
	enum close_phase close;
	uint32_t open_pending;
	uint64_t open_next; /* summary block */
	bool replayed;
	bool opened; /* it was VOL_READY: what the superblock says was checked */
	bool open_asked; /* how large the LUN is now */
	bool super_restore; /* one of the first two is damaged */
	uint64_t lsn_durable;

	struct vios vio;
	struct cache cache;
	struct fetch fetch;
	struct txn txn;
	struct running run;
	struct journal journal;
	struct ckpt ckpt;
	struct replay replay;
	struct alloc alloc;
	struct reply_cache reply;
	struct grow grow;
	struct scrub scrub;

	struct disk_super *geo; /* geometry: as it is in place, and as replay would find it (grow.c, G2) */
	struct block *super, *super_copy;

	struct list queue; /* to run */
	struct list later; /* long work: V4 */
	struct list stalled; /* wait for room: run again after a commit or checkpoint */
	struct list held; /* wait for vol_unheld() */
	struct list done;
	uint32_t waiting; /* requests on a block's list */
	struct vol_req root_req, bg_req;
	uint64_t root_lsn; /* 0: root_req has not run */
	bool bg_wanted, bg_active; /* there is something to do; bg_req is queued or waits */
	bool bg_again; /* there was something new since this round left one out */
	uint64_t bg_after, bg_ino; /* V5: of this round: inode that failed last; inode of this step */
	bool bg_turn; /* of long work the background's is next but one */
	bool spare; /* vol_spare() */
	bool more; /* the step ended with requests that could run, */
	bool tight; /* or that wait for room in journal or cache */
	uint64_t commits, journal_bytes, checkpoints;
};

void vol_freeze(struct vol *v, enum vol_reason reason, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Requests that waited for room are run again. */
void vol_unstall(struct vol *v);
/* Those that waited for this block. */
void vol_wake(struct vol *v, struct block *b);

#endif
