/* SPDX-License-Identifier: GPL-2.0-or-later */
/* node_int.h - what the files csvfs/node*.c share. Nobody else includes it. */
#ifndef CSVFS_NODE_INT_H
#define CSVFS_NODE_INT_H

#include "coordinator/cache_lease.h"
#include "coordinator/lease.h"
#include "coordinator/lock.h"
#include "coordinator/member.h"
#include "coordinator/takeover.h"
#include "csvfs/base/list.h"
#include "csvfs/io_mode.h"
#include "csvfs/node.h"
#include "csvfs/node_file.h"
#include "metadata/txn.h"
#include "metadata/volume.h"
#include "redirect/client.h"
#include "redirect/session.h"
#include "redirect/wire.h"

/* A request of this node on its way through redirect/client: what to do with its answer. */
enum creq_kind {
	CQ_KERNEL, /* answer the kernel's tag */
	CQ_LAYOUT, /* a LAYOUT_GET of the data path: publish, then answer its tag */
	CQ_CREATE, /* the kernel's, and the file is open then */
	CQ_OPEN,
	CQ_CLOSE,
	CQ_COMMIT,
	CQ_RETURN,
	CQ_LOCK, /* the kernel's, in one of these stages (node_held.c) */
};

enum lock_stage {
	LKS_DROP, /* UNLOCK, before a flock changes its kind */
	LKS_GET, /* LOCK */
	LKS_WEAKEN, /* UNLOCK, and that was all */
	LKS_TEST, /* GETLK */
	LKS_CANCEL,
	LKS_TAKE_BACK, /* LOCK_CANCEL of what is no lock: node_held_given_up() */
};

#define LOST_BUCKETS 256u

struct creq {
	struct list link;
	enum creq_kind kind;
	uint64_t id; /* what redirect/client knows it by */
	uint64_t tag; /* the kernel's */
	uint64_t ino, off, len;
	uint32_t generation; /* of an open that waits */
	enum fs_op op;
	uint64_t since_ns;
	/* node_cache.c */
	struct cache_note *note;
	uint64_t seen; /* changes of ours when it was asked */
	bool changes;
	enum lock_stage stage;
	bool cancelled; /* its process is dying, and waits for the answer */
	bool uncancelled; /* ... and there was no memory to say so to the coordinator */
	bool closes; /* an UNLOCK of FLUSH: it waits as long as we are served */
	struct fs_lock lock; /* what the kernel wants */
	/* An open that is answered in the next step (node_due.c): */
	int32_t err;
	struct fs_reply *created; /* ... a CREATE, with that; NULL: with err */
};

/* An append of ours that was told its place, and has not ended. */
struct own_append {
	struct list link;
	uint64_t tag; /* the data path's: its append, as long as that goes on */
	uint64_t ino, off, version;
};

/* ------------------------------------------------------------------ the coordinator's side */

enum sreq_stage {
	SREQ_LEASE, /* waits for the inode: recalls, an exclusive operation, its turn */
	SREQ_LOOK, /* it sets the size: where is the end? */
	SREQ_ZERO_READ, /* reads the block in which the new end lies */
	SREQ_ZERO_WRITE,
	SREQ_ENGINE,
};

#define SREQ_DATA_ROOM (64u << 10)
#define SREQ_HELD_MAX 16

/* A request being served, of our own kernel or of another node. */
struct sreq {
	struct list link; /* all of them */
	struct list waiting; /* at its inode, in SREQ_LEASE */
	struct vol_req vr;
	enum sreq_stage stage;
	uint32_t node, idx;
	bool local, exclusive, was_open, drop;
	bool placeless; /* its node has no place among the peers now: nothing is recorded for it */
	bool sweep; /* our own: frees an orphan */
	bool trim; /* our own: node_space.c */
	bool round; /* ... for want of space, not what a node that is gone had ahead */
	bool pressed; /* there was no space for it once */
	uint64_t wire_tag;
	struct fs_reqid id;
	struct {
		enum fs_op op;
		uint32_t flags;
		uint64_t off, len;
	} asked; /* what sets the size, while it is looked where the end is */
	uint64_t new_size, zero_from;
	uint64_t lun_tag, zero_off, zero_len;
	uint64_t zero_since_ns, zero_retry_ns; /* the latter 0: not to be sent again */
	uint64_t zero_sent_ns, zero_failing_ns; /* nothing but LUN_FAILING since what was sent then; 0: something else */
	uint32_t zero_retries;
	uint8_t *zero_buf;
	void *data; /* copy of the request's data and extents */
	uint32_t data_bytes, extent_bytes, room_bytes;
	struct fs_extent *extents;
	/* node_cache_serve.c */
	uint64_t seen; /* number of the newest change that its reply shows for certain */
	uint64_t lease_life; /* of its node's leases, when it came */
	uint64_t held[SREQ_HELD_MAX]; /* inodes that others must forget before it can be */
	uint32_t held_count;
	bool changed; /* it was executed, not answered from the reply cache */
	/* node_times.c */
	bool times_asked;
	uint64_t times_ino, times_nr, times_mask, times_due_ns;
	uint64_t times_again; /* who is served again, and is to be asked again */
};

/* What the coordinator knows of a node that uses the volume. Its place is the index of lease.h. */
struct peer {
	uint32_t node; /* 0: free */
	uint64_t life;
	bool reclaimed; /* has told all it holds, in this epoch and session */
	bool told; /* takeover knows that */
	bool served; /* SERVE was sent, */
	uint64_t serve_ping; /* and with it this PING */
	bool recalling; /* it is asked anew for what was recalled from it: lease_ino's recall_again */
	uint64_t heard_epoch; /* the newest of ours in which it is known to have heard SERVE */
	bool missed; /* a request of it was not taken: we had slept */
	bool entitled; /* a member when we took over, or served since: what it reclaims counts */
	bool claims; /* has reclaimed a layout in this session */
	bool reclaim_new; /* the next RECLAIM is the first: what we knew before is void */
	uint64_t unheard_ns; /* when its last session ended */
	uint32_t reclaims; /* so many since: what RECLAIM_END says must be the same */
	bool older; /* an older life of the node may have rights here; they end when it is fenced, and nothing of it is under way */
	bool reclaim_due; /* what it reclaimed has not replaced yet what we knew */
	uint64_t evicted_ns; /* given up; it uses nothing of ours any more from then on; 0: no */
	bool clean; /* ... and it was using nothing by then */
	bool evicting; /* fence is under way */
	uint32_t blocks; /* block I/Os in flight here in its name */
	/* node_carry.c */
	bool placed; /* it has no path, and it is settled who carries its block I/O: */
	uint32_t way; /* that node; 0: we */
	uint64_t carried; /* peers that may have I/O of it in flight */
	uint64_t ending; /* ... and have been told to end that */
	uint64_t carry_due_ns; /* when it has to have ended what it carries for others; 0: nothing */
};

/* A block I/O served for another node. */
struct served {
	struct list link;
	uint64_t lun_tag, wire_tag;
	uint32_t node;
	enum block_op op;
	bool fua, dead; /* dead: the session it came over is gone, nobody wants the answer */
	bool unknown; /* a write that may still land: answered when our incarnation is fenced */
	uint64_t off, len, data;
	uint32_t retries;
	uint64_t since_ns, retry_ns;
	uint64_t sent_ns, failing_since_ns; /* nothing but LUN_FAILING since what was sent then; 0: something else */
	uint64_t counted; /* our term in which it is one of peer.blocks; 0: we carry it for a coordinator */
};

/* Whose block I/O we do because our coordinator says so. */
struct carry {
	uint32_t node, ticket;
	uint64_t life;
	bool ending; /* none is taken any more, and some is in flight */
};

/* A flush of our own, on our own path. */
struct nflush {
	struct list link;
	struct fwait *wait;
	uint64_t lun_tag, tag;
	uint64_t retry_ns;
};

/* ------------------------------------------------------------------ attributes and names that we may know */

#define NODE_CACHE_BUCKETS 16384u
#define NODE_CACHE_SLOTS 4096u
#define NODE_CACHE_INOS_MAX 65536u
#define NODE_CACHE_NAMES_MAX 65536u

/* Of all inodes and names with one hash: what requests of ours change. */
struct node_cache_slot {
	uint32_t pending; /* not answered yet */
	uint64_t changed; /* number of the newest */
};

struct node_cache {
	struct list *inos, *names; /* NODE_CACHE_BUCKETS heads each */
	struct list age; /* of inodes, oldest first */
	uint32_t ino_count, name_count;
	struct node_cache_slot slot[NODE_CACHE_SLOTS];
	uint64_t changes, hits;
	struct fs_request rq; /* the one being asked, with what it gives up */
};

/* ------------------------------------------------------------------ */

/*
 * A step is taken at least every half of it. Less than the least time in which others can give away what we
 * hold: corosync's token (1 s and more), then a fence.
 */
#define NODE_AWAKE_NS NS_PER_SEC

enum io_mode { IO_PAUSED, IO_DIRECT, IO_BLOCK_REDIRECTED };

enum reclaim_st { RECLAIM_NONE, RECLAIM_LOOKING, RECLAIM_SENDING, RECLAIM_SENT, RECLAIM_SERVED };

enum stop_st { STOP_NO, STOP_FILES, STOP_TAKEOVER, STOP_HOLDER, STOP_UNREGISTER, STOP_WAIT, STOP_EXIT };

struct node_stats {
	uint64_t red_read_bytes, red_write_bytes;
	uint64_t served_ops, served_read_bytes, served_write_bytes;
	uint64_t meta_ops, meta_stall_ns, data_stall_ns;
	uint64_t takeovers;
};

/* ------------------------------------------------------------------ an administrator's requests */

/* Who waits for an answer: csvctl here (node 0), or another node. */
struct admin_asker {
	uint64_t tag;
	uint32_t node;
};

enum ngrow_st { NGROW_IDLE, NGROW_ASK, NGROW_RUN };

struct node_grow {
	enum ngrow_st st;
	struct admin_asker asker;
	struct ctl_request rq;
	uint64_t until_ns;
	bool own_known;
	uint64_t own_bytes, was_bytes, bytes; /* of the LUN to us; of the volume before and after */
	uint32_t count, late;
	struct grow_member {
		uint32_t node;
		bool answered;
		uint64_t life, bytes; /* 0: it cannot tell */
	} member[NODES_MAX];
};

#define ADMIN_SENT_MAX 16

struct admin {
	uint64_t sent[ADMIN_SENT_MAX]; /* tags of requests that the coordinator has; 0: free */
	uint64_t size_tag, size_retry_ns, size_until_ns; /* LUN_CAPACITY of ours */
	struct admin_asker size_asker; /* the coordinator that wants to know; tag 0: none */
	struct node_grow grow;
	/* A scrub was asked for and is not done: whoever coordinates runs it, from the start after a change. */
	bool scrub_wanted, scrub_started; /* started: in this term, here */
	bool scrub_told; /* all that have a session know whether one is wanted */
	uint64_t scrub_tell_ns; /* when the others are told again */
};

struct node {
	struct node_config cfg;
	struct mem *mem;
	const struct trace *trace;
	uint64_t now_ns;
	int64_t wall_ns;

	struct io_path path;
	struct member member;
	struct takeover *tk;
	struct sessions *sessions;
	struct client *client;
	struct file_table files;
	uint64_t file_deadline_ns;
	bool reopens; /* somebody waits until the coordinator knows who has left (node_reopen.c) */
	struct list creqs;
	struct list due_opens, due_waits; /* creq, fwait: node_due.c */
	struct list own_appends; /* told their place, not over */
	struct list times_waiting; /* sreq: for nodes to tell what they have written */
	bool times_again; /* there was no room to ask all of them again */
	uint64_t times_count;
	uint64_t creq_count, lock_seq;
	uint64_t handles; /* the highest number of an open file that the kernel has asked for */
	struct fs_request scratch_rq;
	struct lock_table held; /* locks of ours, as far as we may rely on them */
	struct msg_append untold[SLOTS_MAX]; /* places of ours that are over; there was no memory to say so */
	uint32_t untold_count;
	uint64_t untold_at_ns; /* then it is tried again */
	uint64_t cancel_at_ns; /* then LOCK_CANCEL is tried again; NEVER */
	uint64_t unsaid_at_ns; /* then our own table is told what we hold; NEVER */
	struct list lost_handles[LOST_BUCKETS]; /* open files that held locks which were lost (node_held.c) */
	uint32_t lost_count;
	uint64_t lost_upto; /* no memory for each: all handles up to here */
	bool losing; /* requests through them wait for their answer, for which there was no room */
	struct node_cache cache;

	/* membership */
	enum member_path told_path;
	uint32_t told_incarnation;
	bool was_lost; /* takeover is LOST: the path was closed for it */

	/* session to the coordinator */
	uint32_t coord_node; /* outgoing session wanted to it; 0: none, or ourselves */
	struct session *coord;
	uint64_t coord_epoch, coord_before; /* its epoch; the last before it in which somebody may have been served */
	uint64_t coord_heard_ns; /* the last word from it, or when we began to follow it */
	enum reclaim_st reclaim;
	struct file *reclaim_at; /* it, and all before it, have been said */
	struct {
		uint64_t ino; /* 0: of none yet */
		uint64_t owned, edges; /* ranges from there on have not; NEVER: all have */
	} reclaim_part; /* of the one behind it */
	uint32_t reclaim_count, reclaim_look;
	uint64_t served_epoch; /* in which we were served last; 0: never */
	bool ever_served;
	bool standing; /* a coordinator serves or served us, and nothing has put that in doubt since */
	uint32_t evictions;
	uint32_t rights_ended; /* of others, by us */

	/* node_carry.c: whose block I/O we do; who does ours */
	struct carry carry[NODES_MAX];
	uint32_t carry_count;
	uint64_t carry_hold_ns; /* since when our reclaim waits for it; 0: it does not */
	uint32_t way_node, way_ticket; /* our coordinator's word; 0: itself */
	uint32_t carrier_node;
	struct session *carrier; /* outgoing, to carrier_node */
	uint64_t carrier_life, carrier_after_ns;
	uint64_t way_after_ns; /* the coordinator refused: not before */
	uint32_t tickets;

	/* mode and gate */
	uint32_t seen_incarnation; /* node_data.c, rule 7 */
	enum io_mode mode;
	char mode_reason[192];
	int64_t mode_since_ns;
	enum gate gate;
	uint64_t gate_lease_ns, lease_ns;
	uint32_t gate_rights;
	bool gate_paused;
	uint32_t direct_incarnation; /* the last under which the gate was open */
	bool fence_first; /* before we reclaim: node_reclaim_epoch() */
	bool voiding; /* block I/O that was planned before we lost our rights goes back to the data path */
	/* A node that slept knows nothing of what happened meanwhile (node.c, woke()). */
	uint64_t stepped_ns,
		awake_ns; /* of the last step; until then the data path may believe in us */
	bool dying; /* somebody who is, or who closes: node_ask_step() */
	bool unsure;
	uint32_t unsure_look;
	bool admin_pause, admin_redirect;
	struct list flushes;
	uint64_t lun_count;

	/* coordinator */
	struct vol *vol, *old_vol; /* old_vol: abandoned, its last commands have not come back */
	uint64_t vol_seed;
	bool serving_local;
	uint64_t local_after_ns; /* there was no memory for a request of our own: the next one not before */
	struct lease_table leases;
	struct lock_table locks;
	struct cache_lease_table cache_leases;
	struct list lreqs; /* LOCKs that wait */
	struct peer peers[NODES_MAX];
	uint32_t peers_end; /* none has ever been behind that */
	/* Requests (seq, by slot) for appends that a peer sent, and heard nothing of: until we serve. */
	uint64_t asked[NODES_MAX][SLOTS_MAX + 1];
	struct list sreqs, served;
	uint64_t recall_deadline_ns;
	bool leases_changed;
	uint64_t entitled_epoch; /* in which who was silent has lost its rights */
	bool orphans_left; /* to be swept in this term, */
	uint64_t sweep_after_ns; /* the next one not before: there was no memory */
	bool sweeping; /* one of them is being freed */
	bool sweep_anew; /* somebody has not closed what it had open: from the first on, once more */
	uint64_t orphan_off;
	uint64_t append_deadline_ns; /* the earliest of those in the leases, or earlier */
	struct list short_of_space; /* sreq, by `waiting`: node_space.c */
	uint64_t press_after_ns;

	struct admin admin;

	enum stop_st stop;
	bool again; /* a module was told something that another one acts on: step again, now */
	uint64_t stop_tag, stop_at_ns;
	uint64_t stop_done_ns, stop_linger_ns, stop_look_ns; /* STOP_WAIT: since when, how long in any case, and when to look again for that */
	char exit_text[224];
	int32_t exit_err; /* leaving because the mount failed; exit_text says why */
	bool exited, unregistered;
	bool stop_dirty; /* a time ran out: something of ours may be in flight */
	bool stop_longer; /* its time was made longer, for a fence */
	struct node_stats stats;
};

/*
 * What proves to a node that its rights are its own began before it was fenced; it uses them until lease_ns
 * after that. One tenth more, for clocks of different speed.
 */
static inline uint64_t node_lease_over_ns(const struct node_config *c)
{
	uint64_t over = c->lease_ns + c->lease_ns / 10;

	return over > CACHE_LEASE_OVER_NS ? over : CACHE_LEASE_OVER_NS;
}

/* node.c */
/* Others may have what we hold: it is lost. in_session: and the coordinator knows. */
void node_evicted(struct node *n, bool in_session, struct effects *fx);
/* node_reclaim.c: what we hold is said from the beginning, or not now. */
void node_reclaim_begin(struct node *n, enum reclaim_st st);
void node_reclaim_send(struct node *n, struct effects *fx);

/* Before layouts are reclaimed in `epoch`: forgets them if somebody was served since we were (`before`: in which epoch). */
void node_reclaim_epoch(struct node *n, uint64_t epoch, uint64_t before, struct effects *fx);
/* Acts on what the sessions have noted: one is up, one is gone. */
void node_session_notes(struct node *n, struct effects *fx);
uint64_t node_lun(struct node *n, enum tag_owner owner, enum lun_op op, struct effects *fx,
	struct effect **e);

/* node_ask.c: what we ask our coordinator, and what the kernel asks us */
void node_kernel_request(struct node *n, const struct event *ev, struct effects *fx);
void node_kernel_cancel(struct node *n, uint64_t tag, struct effects *fx);
/* Some open files have lost their locks: what changes a file through them is over. */
void node_ask_lost(struct node *n, struct effects *fx);
void node_ask(struct node *n, enum creq_kind kind, uint64_t tag, const struct fs_request *rq,
	struct effects *fx);
/* The same, with what node_held.c keeps of it. */
void node_ask_as(
	struct node *n, const struct creq *as, const struct fs_request *rq, struct effects *fx);
void node_reply_err(struct node *n, uint64_t tag, int32_t err, struct effects *fx);
void node_reply_kernel(struct node *n, uint64_t tag, const struct fs_reply *rp, struct effects *fx);
void node_answer(struct node *n, uint64_t wire_tag, const struct fs_reqid *id, struct fs_reply *rp,
	struct effects *fx);
/* Who is dying and waits for a change that was sent, and who closes: it ends when nobody serves us. */
void node_ask_step(struct node *n, struct effects *fx);
/* What was held for longer than the mount's limit ends with EIO. */
void node_expire_held(struct node *n, struct effects *fx);

/* node_stop.c: leaving */
void node_leave(struct node *n);
void node_stop_step(struct node *n, struct effects *fx);
/* True if the completion was ours. */
bool node_stop_lun_done(struct node *n, const struct event *ev, struct effects *fx);
/* Ends the daemon, once; `text` is for the log and for who waits for the mount. */
void node_exit(struct node *n, int32_t err, const char *text, struct effects *fx);
/*
 * The mount is not done yet, an administrator waits for an answer, and no repeat would help: leave in
 * order, with that error. Nothing once we have been served: that is an outage then, which applications
 * wait out.
 */
void node_refuse_mount(struct node *n, int32_t err, const char *text);
void node_refuse_frozen(struct node *n); /* the volume is frozen */

/* node_server.c: the coordinator's side of requests */
void node_server_init(struct node *n);
/* takeover says: the engine is ours, or no longer. Every step. */
void node_server_step(struct node *n, struct effects *fx);
uint64_t node_server_deadline(const struct node *n);
void node_server_request(struct node *n, uint32_t node, bool local, uint64_t wire_tag,
	const struct fs_request *rq, struct effects *fx);
/* There is no memory for it: it is refused, or comes again. */
void node_server_no_memory(struct node *n, uint32_t node, bool local, uint64_t wire_tag,
	const struct fs_request *rq, struct effects *fx);
/* It is not answered, and comes again: of another node in its next session. */
void node_server_ask_again(struct node *n, uint32_t node, bool local, uint64_t wire_tag, struct effects *fx);
void node_server_reclaim(
	struct node *n, struct session *s, const struct msg *m, struct effects *fx);
void node_server_reclaim_end(struct node *n, struct session *s, uint32_t count, struct effects *fx);
void node_server_session_down(struct node *n, struct session *s);
bool node_server_admits(struct node *n, uint32_t node, uint64_t life);
struct peer *node_peer(struct node *n, uint32_t node);
/* node_peers.c */
struct peer *node_peer_get(struct node *n, uint32_t node, uint64_t life);
/* Nothing that waits for `node` (0: for anybody) is done: nobody hears of it, and who lives asks again. Rule 9 of node_server.c. */
void node_server_forget_waiters(struct node *n, uint32_t node);
/* What may change something, and waits here still, is not done: its process has been told that nobody knows. */
void node_server_take_back(struct node *n, const struct fs_reqid *id, struct effects *fx);
/* A request of that node is being executed, of whatever life. */
bool node_server_executes(const struct node *n, const struct peer *p);
/*
 * Requests of an older life of the node: those that only wait are dropped, nobody hears their answer. True: others
 * are being executed. The node must not look before they have ended, or what it sees would change behind its back.
 */
bool node_server_older_asks(struct node *n, uint32_t node, uint64_t life, struct effects *fx);
void node_peers_serve(struct node *n, struct peer *p, struct effects *fx);
void node_peers_reclaim_self(struct node *n, struct effects *fx);
/* They are to give back what they have of it, in a recall's time. Returns who was not asked before. */
uint64_t node_peers_recall(struct node *n, struct lease_ino *li, uint64_t mask);
void node_peers_timers(struct node *n, struct effects *fx);
/* Ends the sessions of those that are no members. */
void node_peers_end_strangers(struct node *n, struct effects *fx);
/* It has not answered: its rights end when it is fenced. */
void node_peers_evict(struct node *n, struct peer *p, const char *what, struct effects *fx);
/* We slept, and were not replaced meanwhile. */
void node_peers_awake(struct node *n, struct effects *fx);
void node_peers_departed(struct node *n, struct effects *fx);
/* Tells takeover, which may want to hand over, when all who have reclaimed are served. */
void node_peers_all_served(struct node *n);
/* When somebody's rights end, or it has to have answered CARRY. */
uint64_t node_peers_deadline(const struct node *n);
/* Somebody was given up a moment ago, and may not know it. */
bool node_peers_linger(const struct node *n);
void node_peers_reclaim_appends(struct node *n, struct session *s, const struct msg *m);
void node_peers_reclaim_locks(
	struct node *n, struct session *s, const struct msg *m, struct effects *fx);
void node_server_check(const struct node *n);
/* A request from its beginning. */
void node_server_serve(struct node *n, struct sreq *s, struct effects *fx);
/* The same of one that has waited elsewhere (node_space.c, node_times.c), if its node still has a place. */
void node_server_again(struct node *n, struct sreq *s, struct effects *fx);
/* What waits at an inode. */
void node_server_pump(struct node *n, struct lease_ino *li, struct effects *fx);
/* It is done; it ends with that error, or 0. */
void node_server_engine(struct node *n, struct sreq *s);
void node_server_finish(struct node *n, struct sreq *s, int32_t err, struct effects *fx);
/* It waited, and nobody answers it; others may have waited for it. */
void node_server_forget(struct node *n, struct sreq *s);
/* Whose node's place among the peers is looked up anew. False: it has none now, and asks again when it has. */
bool node_server_has_place(struct node *n, struct sreq *s);

/* node_size.c: what sets the size of a file, when it is its turn. */
bool node_size_set_by(const struct fs_request *rq);
void node_size_look(struct node *n, struct sreq *s);
/* False: it could not look; the request has ended with that error. */
bool node_size_looked(struct node *n, struct sreq *s, struct effects *fx);
bool node_size_lun_done(struct node *n, const struct event *ev, struct effects *fx);
void node_size_step(struct node *n, struct effects *fx);
uint64_t node_size_deadline(const struct node *n);

/* node_times.c */
/* True: it waits for nodes that write `ino` to say when they did, and begins anew then. */
bool node_times_wait(struct node *n, struct sreq *s, uint64_t ino, struct effects *fx);
/* Before it is given a layout to write. False: others know its times, and are asked to forget them. */
bool node_times_may_write(struct node *n, struct lease_ino *li, struct sreq *s);
/* Others write it: who stats it asks each time. */
bool node_times_change(const struct node *n, uint64_t ino, uint32_t idx);
/* MSG_TIMES of our coordinator; MSG_TIMES_TOLD. */
void node_times_message(struct node *n, const struct session *s, const struct msg *m, struct effects *fx);
/* That peer is served again. */
void node_times_again(struct node *n, uint32_t idx, struct effects *fx);
void node_times_step(struct node *n, struct effects *fx);
uint64_t node_times_deadline(const struct node *n);
/* The node's side: the coordinator asks; what was written is committed. */
void node_times_told(struct node *n, uint64_t nr, struct effects *fx);
/* A layout to write is asked for. */
void node_times_writes(struct node *n, uint64_t ino);

/* node_append.c */
bool node_append_waits(struct lease_ino *li, struct sreq *s);
void node_append_placing(struct lease_ino *li, const struct sreq *s);
void node_append_placed(struct node *n, const struct sreq *s);
/* Fills in what of the file may be shown without asking: reply.off. */
void node_append_show(const struct lease_ino *li, struct sreq *s);
void node_append_over(struct node *n, struct lease_ino *li, const struct sreq *s);
/* None of that node's is under way any more. */
void node_append_drop(struct node *n, struct lease_ino *li, uint32_t idx);
void node_append_timers(struct node *n);
/* A node reclaims one. */
void node_append_reclaimed(struct node *n, const struct peer *p, const struct msg_append *a);
/* All have reclaimed, and nobody is served yet: those that were asked for, and executed by who coordinated before. */
void node_append_find(struct node *n);
/* Our own: told to be under way, to be over; what we have of them, to a new coordinator, to ourselves. */
void node_append_answered(struct node *n, const struct creq *q, struct fs_reply *rp, struct effects *fx);
void node_append_tell(struct node *n, uint64_t ino, uint64_t off, uint64_t version, struct effects *fx);
void node_append_ended(struct node *n, const struct event *ev, struct effects *fx);
/* There was no memory to tell it of one of that file's. */
bool node_append_is_untold(const struct node *n, uint64_t ino);
void node_append_tell_again(struct node *n, struct effects *fx);
void node_append_reclaim(struct node *n, struct effects *fx);
/* Our rights have ended, and with them our places. */
void node_append_evicted(struct node *n, struct effects *fx);
void node_append_reclaim_self(struct node *n, const struct peer *p);

/* node_carry.c: who does the block I/O of a node without a path */
/* The coordinator's side: somebody may have block I/O of it in flight. */
bool node_carry_busy(const struct peer *p);
void node_carry_step(struct node *n, struct effects *fx);
uint64_t node_carry_deadline(const struct node *n);
/* We slept: who was to answer has its time anew. */
void node_carry_awake(struct node *n);
/* That peer has nothing of others in flight. */
void node_carry_none(struct node *n, uint32_t idx);
/* CARRY, CARRIED, WAY. */
void node_carry_message(struct node *n, const struct session *s, const struct msg *m, struct effects *fx);
/* The carrier's side. May we do it? One has ended. */
bool node_carry_may(const struct node *n, const struct session *s, uint32_t ticket);
void node_carry_freed(struct node *n, uint32_t node, struct effects *fx);
/* Our coordinator serves us no more. */
void node_carry_stop(struct node *n);
uint64_t node_carry_own_deadline(const struct node *n);
/* True: RECLAIM_END has to wait until what we carry has ended. */
bool node_carry_holds(struct node *n, struct effects *fx);
/* The asking node's side: the session to who does it, and what is to be shown there. NULL: nobody. */
struct session *node_carry_way(const struct node *n, uint32_t *ticket);
void node_carry_follow(struct node *n, struct effects *fx);
/* Our rights have ended: what is under way there was planned under them. */
void node_carry_evicted(struct node *n, struct effects *fx);
void node_carry_refused(struct node *n, const struct session *s);
void node_carry_session_down(struct node *n, struct session *s, struct effects *fx);

/* node_space.c */
/* The engine had no space for it. True: it waits, until what is allocated ahead of writers has been taken back. */
bool node_space_wait(struct node *n, struct sreq *s, struct effects *fx);
void node_space_step(struct node *n, struct effects *fx);
/* The last node that had the file open, and wrote there, is gone. */
void node_space_left_ahead(struct node *n, struct lease_ino *li);

/* node_sweep.c */
/* All files without a name, from the first on: the volume is opened. */
void node_sweep_begin(struct node *n);
void node_sweep_step(struct node *n);
/* The engine's answer; the caller frees the request. */
void node_sweep_done(struct node *n, struct sreq *s);
uint64_t node_sweep_deadline(const struct node *n);

/* node_lock.c: file locks, the coordinator's side */
void node_lock_init(struct node *n);
struct lock node_lock_of(uint32_t idx, uint64_t ino, const struct fs_lock *l);
void node_lock_serve(struct node *n, uint32_t idx, bool local, uint64_t wire_tag,
	const struct fs_request *rq, struct effects *fx);
/* Answers those whose waiting has ended. */
void node_lock_step(struct node *n, struct effects *fx);
/* Requests that wait are asked again in the next session. node 0: all. */
void node_lock_forget_waiters(struct node *n, uint32_t node);
void node_lock_close_down(struct node *n);
/* The node has lost its locks. */
void node_lock_drop(struct node *n, uint32_t idx);
int node_lock_stage(struct node *n, uint32_t idx, const struct msg *m);
int node_lock_stage_held(struct node *n, uint32_t idx);
/* We, who coordinate, hold what node_held.c says and no more. False: not now. */
bool node_lock_hold_only(struct node *n, uint32_t idx);
uint64_t node_lock_deadline(const struct node *n);
void node_lock_check(const struct node *n);

/* node_held.c: file locks of this node */
void node_held_init(struct node *n);
void node_held_request(
	struct node *n, uint64_t tag, const struct fs_request *rq, struct effects *fx);
/* RELEASE of an open file: what was locked through it goes. */
/* The locks of this open file were lost: nothing is changed through it. */
bool node_held_is_lost(const struct node *n, uint64_t handle);
void node_held_closed(struct node *n, const struct fs_request *rq, struct effects *fx);
void node_held_answer(
	struct node *n, struct creq *q, const struct fs_reply *rp, struct effects *fx);
void node_held_cancel(struct node *n, struct creq *q, struct effects *fx);
void node_held_cancel_again(struct node *n, struct effects *fx);
/* Nobody waits for q any more: where it is out, it is not to be carried out behind an UNLOCK that comes later. */
void node_held_given_up(struct node *n, const struct creq *q, struct effects *fx);
/* There was no memory to say what is unlocked. */
void node_held_say_again(struct node *n);
void node_held_expire(struct node *n, uint64_t before_ns, struct effects *fx);
void node_held_reclaim(struct node *n, struct effects *fx);
void node_held_lost(struct node *n, struct effects *fx);
void node_held_check(const struct node *n);

/* node_due.c: answers for which there was no room in a step */
void node_due_init(struct node *n);
/* An open ends. What it is told in the end: `err`; or that there was no memory. Frees it. */
int32_t node_due_open(struct node *n, struct creq *q, int32_t err, const struct fs_reply *rp, struct effects *fx);
/* Who waited for a commit, or a flush, is told w->err. Frees it. */
void node_due_wait(struct node *n, struct fwait *w, struct effects *fx);
/* Tells it now, and once: who was killed was told then. */
void node_due_tell(struct node *n, struct fwait *w, int32_t err, struct effects *fx);
bool node_due(const struct node *n);
void node_due_step(struct node *n, struct effects *fx);

/* node_data.c: block I/O of this node, and that of others which it serves; mode and gate */
void node_data_init(struct node *n);
void node_data_block(struct node *n, const struct event *ev, struct effects *fx);
void node_data_flush(struct node *n, struct fwait *w, struct effects *fx);
void node_data_cancel(struct node *n, uint64_t tag, struct effects *fx);
/* The user's limit for waiting is over. */
void node_data_expired(struct node *n, uint64_t tag, bool lands, struct effects *fx);
void node_data_reply(
	struct node *n, struct session *s, const struct msg *m, uint64_t data, struct effects *fx);
void node_data_serve(
	struct node *n, struct session *s, const struct msg *m, uint64_t data, struct effects *fx);
bool node_data_lun_done(struct node *n, const struct event *ev, struct effects *fx);
void node_data_session_down(struct node *n, struct session *s);
void node_data_step(struct node *n, struct effects *fx);
uint64_t node_data_deadline(const struct node *n);
bool node_data_serving(const struct node *n);
const char *node_mode_name(const struct node *n);

/* node_admin.c */
void node_admin_init(struct node *n);
/* From csvctl on this node; the answer comes with FX_CTL_REPLY. */
void node_admin_request(
	struct node *n, uint64_t tag, const struct ctl_request *rq, struct effects *fx);
bool node_admin_message(
	struct node *n, struct session *s, const struct msg *m, struct effects *fx);
bool node_admin_lun_done(struct node *n, const struct event *ev, struct effects *fx);
/* A node has a new session to us, and may not know what the others were told. */
void node_admin_session_up(struct node *n);
/* The session to the coordinator has ended. */
void node_admin_coord_down(struct node *n, struct effects *fx);
void node_admin_step(struct node *n, struct effects *fx);
uint64_t node_admin_deadline(const struct node *n);
void node_admin_reply(struct node *n, const struct admin_asker *a, int32_t err, const char *text,
	struct effects *fx);

/* node_cache.c: attributes and names that this node answers from memory */
int node_cache_init(struct node *n);
/* True: answered. */
bool node_cache_answer(
	struct node *n, uint64_t tag, const struct fs_request *rq, struct effects *fx);
/* Before q is asked. The request to send: rq, or a copy with more in it. NULL: no memory. */
const struct fs_request *node_cache_asks(
	struct node *n, struct creq *q, const struct fs_request *rq);
/* Does it change what it names, for certain enough that the node forgets that by itself? */
bool node_cache_changes(const struct fs_request *rq);
/* q was answered. */
void node_cache_learns(struct node *n, struct creq *q, const struct fs_reply *rp);
/* q was never sent. */
void node_cache_unasked(struct node *n, struct creq *q);
/* MSG_CACHE_RECALL of our coordinator; MSG_CACHE_GONE. */
void node_cache_message(
	struct node *n, struct session *s, const struct msg *m, struct effects *fx);
void node_cache_clear(struct node *n);
void node_cache_check(const struct node *n);

/* node_cache_serve.c: the coordinator's side of that */
bool node_cache_may_change(void *ctx, struct vol_req *r, const uint64_t *inos, uint32_t count);
void node_cache_no_wait(struct node *n, struct sreq *s);
/* Says in the reply of s what its node may keep. */
void node_cache_grant(struct node *n, struct sreq *s);
void node_cache_gone(struct node *n, struct session *s, const struct msg *m);
bool node_cache_serve_step(struct node *n, struct effects *fx);
/* The session of p is gone. */
void node_cache_cut(struct node *n, const struct peer *p);

/* node_ctl.c */
void node_ctl(struct node *n, const struct event *ev, struct effects *fx);

#endif
