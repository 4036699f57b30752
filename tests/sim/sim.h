/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sim.h - the simulator: N nodes of real core and real data-path logic, one LUN, one cluster, one
 * clock, one random number generator.
 *
 * Everything that happens is an item in one queue, ordered by virtual time (then by order of
 * insertion). Delays, faults and the workload are drawn from the seed, so a seed is a run: the same
 * binary and seed give the same trace and the same hash.
 *
 *   main.c    seeds, options, replay with the narrated trace
 *   queue.c   the queue and the clock
 *   lun.c     the LUN: volatile cache, registrations, commands that land late
 *   cluster.c corosync: views, quorum, messages in total order; partitions
 *   net.c     connections between nodes
 *   drive.c   a node: carries out the effects of its core; the data path
 *   load.c    the workload on every node; registers.c: the oracle that knows what may be read
 *   gone.c    ... and when what a dead node has written can no longer land on whose writes
 *   call.c    one call of a process of the workload
 *   locks.c   processes that lock files, and the oracle that knows who may hold what
 *   more.c    all other calls, of one process per node that knows exactly what it must find
 *   edge.c    writes of parts of blocks, by all nodes into two files
 *   bulk.c    a process with much under way at once; crowd.c: many processes that begin at once
 *   admin.c   administrators
 *   minimise.c  a failing seed's faults and workload made as small as can be
 *   shell.c   what the FUSE side does around a request
 *   aimed.c   faults that meet one moment, where a mutant needs them
 *   weather.c what the SAN does to several nodes at once
 *   faults.c  crashes, pauses, path losses, partitions; then everything heals
 *
 * A run has a safety phase with faults, then a liveness phase: all heals, and every operation that is
 * outstanding must end, all nodes unmount, and the fsck library finds nothing.
 */
#ifndef CSVFS_TESTS_SIM_H
#define CSVFS_TESTS_SIM_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "csvfs/base/list.h"
#include "csvfs/base/mem.h"
#include "csvfs/base/platform.h"
#include "csvfs/base/prng.h"
#include "csvfs/base/trace.h"
#include "csvfs/dp.h"
#include "csvfs/node.h"
#include "coordinator/fence.h"

#define SIM_NODES_MAX 5
#define SIM_VOLUME_BYTES (64ull << 20)
/* In one of eight runs the volume is smaller than the LUN at first; csvctl grow comes among the moves. */
#define sim_grows(s) ((s)->seed % 8 == 5)
#define SIM_CLUSTER_BYTES 16384u
#define MS NS_PER_MS
#define SEC NS_PER_SEC
/* The wall clock of all nodes shows this when the time is 0. */
#define WALL 1000000000000000000ll

/* What a seed draws before it begins: which faults this run has at all (swarm). */
struct sim_plan {
	uint32_t nodes;
	bool two_node;
	bool write_cache;	/* the LUN has a volatile cache */
	bool abort_supported;	/* PREEMPT AND ABORT */
	bool crash, daemon_kill, pause, path_loss, partition, move, late_writes, san_loss, net_break;
	bool hang, port_cut, slow_lun, flap, coro_restart;
	/*
	 * Runs in which only some faults happen, so that more can be demanded. Harmless: the port cut, a
	 * slow LUN, broken connections: nobody loses the epoch. Hangs: of the coordinator, one at a time:
	 * the others wait for HANG_STALL_NS at most.
	 */
	bool only_harmless, only_hangs;
	bool given_up; /* csvsim --given-up: those three faults at once, and no others */
	bool cut_off; /* csvsim --cut-off: one node after the other is cut off and learns of it late; no other faults */
	bool well; /* csvsim --well: nodes crash and paths are lost, and nothing else: who is up loses no rights */
	uint64_t safety_ns;
	uint32_t clients;	/* per node */
	uint32_t files, names;
	uint32_t lockers; /* per node */
	uint32_t watchers; /* per node: leases.c */
	bool zeroing;		/* files are truncated, and holes punched */
	bool porters;	   /* more.c */
	bool scribes;	   /* edge.c */
	/* What no seed draws, for what is too rare among all else: --set one_hole=1 */
	bool one_hole; /* edge.c: the lanes have one cluster that was never written */
	bool reboots, next_term, unheard, moves, dies_asking, lost_asks, slow_release, carries, writes_on, dies_held, drain_looks, times, power, oversleeps, lone, silent, heirs, long_cut, long_split, releases, second_life; /* aimed.c */
	bool neighbours; /* edge.c: two nodes write parts of blocks, and one of them writes the other's */
	bool slow_fence; /* weather.c: what takes rights away takes seconds */
	bool crawl; /* weather.c: a write takes nearly as long as a path may be silent */
	bool elsewhere; /* who has no path goes through another than its coordinator whenever one can */
	bool follow; /* tail.c, more.c: one node appends, and all hear how long the file is */
	bool hosts_off; /* leave.c: each host goes when its daemon has, with its corosync */
	bool lost_grants; /* net.c: a layout is granted, and its connection breaks before its node knows */
	bool kills;	   /* processes are killed while they wait */
	bool tight;	   /* little space: what is freed is used again at once, and ENOSPC */
	/* A node's logins are one I_T nexus, as SPC has it with a fixed ISID: it replaces its own key (LIO, arrays; tgtd makes a new one). */
	bool one_nexus;
	bool forgets;	   /* a target that restarts knows no registration any more, as tgtd */
	bool no_reset;	   /* the target refuses LOGICAL UNIT RESET; what hangs in it has landed, or is lost, within FENCE_WAIT_NS */
	bool reset_tells_all; /* who resets the LUN gets UNIT ATTENTION itself, as from tgtd */
	bool hostile;	   /* frames that are not in the protocol, peers that are not who they say */
	bool slow_net;	   /* one node's connections are slow for a while */
	bool ctl;	   /* administrators */
	bool media;	   /* file data in bad places of the LUN, or none left behind a thin one */
	bool busy, fabric; /* weather.c */
	bool bulk;	   /* bulk.c */
	bool crowd;	   /* crowd.c */
	bool alone;	   /* one node, without a cluster */
	bool image;	   /* ... and what it has is no LUN: nothing of an earlier life or path lands late, and no reservations */
	bool bare;	   /* ... or it is a LUN without reservations */
	bool silent_aborts; /* what a reset ends gets no answer (TAS=0) */
	bool ring_cut;	   /* corosync's network is not the one of our connections, and is cut alone */
	uint64_t hold_ns;  /* held requests end with EIO after this; 0: never */
};

struct sim;
struct run_sync;
typedef void (*sim_fn)(struct sim *s, void *arg);

struct item {
	uint64_t at_ns, order;
	sim_fn fn;
	void *arg;
	uint32_t node;	 /* 0: nobody's; else only while that life of it lives */
	uint64_t life_nr;
};

/* ---- the LUN */
/* Its logical blocks: of 4096 bytes in one of four runs. Not drawn: no other run changes. */
#define sim_block_bytes(s) ((s)->seed % 4 == 2 ? 4096u : 512u)
/*
 * In every other run PREEMPT AND ABORT ends commands only if its victim holds the reservation, and says OK all the same: LIO
 * before Linux 6.1. Not drawn, either.
 */
#define sim_aborts_holder_only(s) ((s)->seed % 2)
struct lun_cmd_state;
struct sim_nexus {
	uint32_t node;
	uint64_t life_nr; /* which life of the node */
	uint64_t key;	  /* registered; 0: not */
	bool alive;	  /* the initiator still listens */
	bool attention;	  /* the next command gets UNIT ATTENTION */
	struct sim_nexus *next;
};

struct sim_lun {
	uint32_t block_bytes;
	struct sim_nexus *nexuses;
	struct sim_nexus *holder;
	bool reserved;
	uint64_t holder_key;
	uint32_t generation;
	struct list commands; /* in flight */
	uint64_t writes;
};

/* ---- a node */
struct sim_conn {
	struct list link;
	uint64_t conn_a, conn_b; /* ids at either end */
	uint32_t a, b;		 /* a connected */
	uint64_t life_a, life_b;
	bool up, closed;
	uint32_t ended_by; /* this side has closed it: what it had sent arrives, and nothing else; 0: nobody */
	uint64_t last_a, last_b; /* time of the last delivery in each direction: order is kept */
};

/* The node's corosync. It lives on when our daemon dies, and dies while it lives. */
struct sim_coro {
	bool up;
	bool alone;    /* just started: it has not found the others yet */
	bool seen_all; /* since it started: two_node's wait_for_all */
	bool flushing;
	uint32_t life;	/* counts lives */
	uint32_t ring;	/* members, a bit each */
	uint32_t ring_node;
	uint64_t ring_seq;
	uint64_t member;  /* life of our daemon that is in the group; 0: none */
	struct list sent; /* what has not been ordered yet */
};

struct snode {
	struct sim *s;
	uint32_t id;
	char name[NODE_NAME_MAX];
	bool up;	      /* the daemon runs */
	bool stopping;
	uint64_t life_nr;     /* counts lives */
	uint64_t paused_until;
	uint64_t woke_ns; /* end of the last pause */
	uint64_t hangs_until; /* only_hangs: and then some time to recover */
	struct node *core;
	struct mem mem, dp_mem;
	void *region, *dp_region;
	struct effects fx;
	struct dp *dp;
	uint64_t timer_at, dp_timer_at;
	struct sim_nexus *nexus;
	bool fenced; /* its key was taken away, before it had let go, and it has not registered since: it may still have something to send */
	bool let_go; /* its last life, in order */
	bool path_cut;	      /* the way to the LUN is cut */
	bool answers_lost;    /* ... back from it; what is sent arrives */
	bool port_cut;	      /* its redirect port, to and from all others; corosync's network is well */
	uint64_t path_ops;
	uint64_t next_conn;
	bool ready;
	struct list ops;      /* data operations (sop) */
	struct list inbox;    /* events, in order */
	bool busy;
	/* cluster */
	struct sim_coro coro;
	uint64_t last_conf[2];
	bool frozen; /* a pause is of the whole machine, corosync with it */
	uint32_t evictions;
	uint64_t evicted_ns; /* the last one */
	uint64_t office; /* the epoch in which it serves, or drains; 0: none */
	uint32_t losses; /* how often what it had open was not known for a while: also when it need not know */
	uint32_t side;	      /* partition it is in: of corosync, and of our connections */
	uint32_t net_side;
	uint64_t late_until;  /* its corosync tells it nothing new before */
};

struct sim {
	uint64_t seed;
	struct prng rng;
	struct sim_plan plan;
	uint64_t now_ns;
	uint64_t order;
	struct item *heap;
	uint32_t heap_count, heap_room;
	struct sim_lun lun;
	struct snode n[SIM_NODES_MAX + 1]; /* 1 .. plan.nodes */
	struct list conns;
	struct list allocs;
	uint64_t ring_seq;
	bool healing;	    /* liveness phase: no more faults */
	bool verbose;
	uint64_t hash;	    /* of everything that happened: determinism */
	uint64_t steps;
	bool failed;
	char why[256];
	struct load *load;
	struct locks *locks;
	struct more *more;
	struct prng frng; /* of the fault at hand: what is drawn for one does not change another */
	uint64_t lost_ino, lost_ns; /* lost_grants: the last one */
	uint32_t lost_node;
	uint64_t slow_net_until;
	uint32_t slow_net_node;
	uint64_t waited_out; /* writes that were acknowledged when nothing of a dead node could land on them any more (gone.c) */
	uint32_t controls, spoilt;
	uint64_t tailed;    /* records that tail.c looked at */
	uint64_t statted;   /* times that edge.c looked at */
	bool append_failed; /* one of more.c; or its node was lost meanwhile, or given up at any time */
	uint32_t faults; /* drawn so far: their numbers */
	struct leases *leases;
	struct {
		struct prng rng;
		struct list asked;
		uint64_t count;
	} admins;
	struct prng candidate_rng;
	uint32_t candidate_hangs;
	struct prng impatient_rng;
	uint32_t impatient;
	struct prng leave_rng;
	bool leaving; /* the end has begun */
	bool leave_fault; /* something happens while all leave */
	bool leave_clean; /* what the last one leaves has to be */
	uint64_t leave_ns; /* since when they leave */
	bool leave_late; /* ... but for a fence that took too long */
	uint32_t left_kept;
	struct prng media_rng;
	struct {
		struct prng rng; /* bulk.c and crowd.c draw from it, too */
		uint64_t busy_until;
		uint32_t busy_percent, busy_node; /* 0: all */
	} weather;
	struct {
		struct prng rng;
		uint32_t node;  /* unheard: which tells of its path next; 0: none */
		uint32_t holds; /* ... whose writes the target holds, ... */
		uint64_t holds_until;
		/* heirs: who has the file alone, until hangs_ns, when it dies. dies_asking: who is to die, and from when to when the one of whom it asks something hangs; not again before next */
		uint32_t asks;
		bool watched; /* heirs: the others read along */
		uint64_t hangs_ns, wakes_ns, next_ns;
		uint64_t alone_ns; /* lone: the other one has been away for long; 0: it has not */
		uint64_t cut_ns; /* long_cut: since when ... */
		uint32_t cut; /* ... that one is cut off */
		uint32_t owns; /* oversleeps: steps that the one which is to hang has taken */
		/* carries: what goes to that node for block I/O is late */
		uint32_t lags_to;
		uint64_t lags_until;
		uint32_t evictions; /* ... of the node that is told VOID, before */
	} aimed;
	struct bulk *bulk;
	struct crowds *crowds;
	uint64_t spoil_id; /* the write of this number (load.c) is to fail; 0: none */
	uint64_t bad_off; /* a place of the LUN that fails for good; 0: none yet */
	uint32_t media_errors, ring_cuts;
	struct edges *edges;
	uint8_t uuid[16];
	uint64_t root_ino;
	uint64_t data_start; /* byte of the LUN */
	uint32_t crashes, path_losses, partitions, pauses, moves, san_losses;
	uint32_t hangs, port_cuts, slow_luns, flaps, coro_restarts;
	uint64_t looks;
	uint64_t ops_done, data_ops, takeovers;
	uint64_t slow_until_ns; /* the LUN */
	uint64_t office_epoch, served_epoch; /* the newest in which somebody coordinated, and anybody was served */
	uint64_t lost_epoch; /* the newest office that was lost, and had served nobody; 0: none */
	uint64_t settled_epoch; /* only_harmless: when all were served first; 0: not yet */
	uint64_t stall_ns;	/* the longest that a request took on a node that did not hang */
};

#define HANG_STALL_NS (10 * SEC)
/* The loss is seen after 4 s, two head starts, a lease, and what the commands take; 10 s more if it waited for a claim that stands still. */
#define LONE_STALL_NS (15 * SEC)
/* Corosync, one fence whose reset is refused, a lease, and what the commands take. */
#define LONG_CUT_STALL_NS (FENCE_WAIT_NS + 10 * SEC)
/* One of both may have registered once more in the midst of the other's fence. */
#define LONG_SPLIT_STALL_NS (2 * FENCE_WAIT_NS + 20 * SEC)

/* A place of the LUN does it to file data, and so does the host's file system to those of an image. */
static inline bool sim_refused(const struct sim *s, int32_t err)
{
	return ((err == -EIO || err == -EROFS) && s->plan.media) || (err == -ENOSPC && (s->plan.media || s->plan.image));
}

/* Draws. */
static inline uint64_t draw(struct sim *s, uint64_t n)
{
	return prng_below(&s->rng, n);
}
static inline bool chance(struct sim *s, uint32_t percent)
{
	return prng_below(&s->rng, 100) < percent;
}
/* Mostly near lo, with a long tail up to hi. */
uint64_t sim_delay(struct sim *s, uint64_t lo, uint64_t hi);

void sim_log(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sim_fail(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Zeroed; what is not freed goes with the run. */
void *sim_alloc(struct sim *s, size_t bytes);
void sim_free(void *p);

/* queue.c */
void sim_at(struct sim *s, uint64_t at_ns, sim_fn fn, void *arg);
void sim_at_node(struct sim *s, struct snode *n, uint64_t at_ns, sim_fn fn, void *arg);
bool sim_run_one(struct sim *s);
/* A paused node goes on now; what happened to it meanwhile comes first, in its order. */
void sim_wake(struct sim *s, struct snode *n);

/* lun.c */
void lun_create(struct sim *s);
void lun_destroy(struct sim *s);
/* Before the run: what is on the volume when it begins. */
void lun_put(uint64_t off, const void *bytes, uint64_t len);
/* What is read now; what is read after a loss of power at this moment. */
void lun_get(uint64_t off, void *bytes, uint64_t len);
void lun_get_stable(uint64_t off, void *bytes, uint64_t len);
void lun_submit(struct sim *s, struct snode *n, const struct effect *e);
void lun_path_open(struct sim *s, struct snode *n);
void lun_path_close(struct sim *s, struct snode *n);
void lun_node_died(struct sim *s, struct snode *n);
/* The SAN loses power for a moment: what was not flushed may be gone; all sessions break. */
void lun_power_loss(struct sim *s);
void lun_cut(struct sim *s, struct snode *n);
void lun_restore(struct sim *s, struct snode *n);
/* A data-path command: the callback gets the status. */
void lun_io(struct sim *s, struct snode *n, bool write, bool fua, uint64_t off, uint32_t len, void *buf,
	void (*done)(struct sim *s, struct snode *n, void *arg, enum lun_status st), void *arg);
void lun_say_stuck(struct sim *s);
uint32_t lun_registrations(const struct sim *s);
/* Under which that node may write now; 0: it may not. */
uint64_t lun_key(const struct sim *s, uint32_t node);
bool lun_idle_of(struct sim *s, uint32_t node);

/* cluster.c */
/* Who reaches whom has changed: new rings are formed where it matters. */
void cluster_change(struct sim *s);
/* Corosync starts; alone: in a ring of itself at first. It dies (the others lose the token later). */
void cluster_start(struct sim *s, struct snode *n, bool alone);
void cluster_stop(struct sim *s, struct snode *n);
void cluster_send(struct sim *s, struct snode *n, const void *bytes, uint32_t len);
void cluster_join(struct sim *s, struct snode *n);
void cluster_leave(struct sim *s, struct snode *n, uint64_t life_nr);
/* Do they reach each other, and know it? */
bool cluster_together(const struct snode *a, const struct snode *b);

/* net.c */
void net_connect(struct sim *s, struct snode *n, const struct effect *e);
void net_send(struct sim *s, struct snode *n, const struct effect *e);
void net_close(struct sim *s, struct snode *n, uint64_t conn);
void net_node_died(struct sim *s, struct snode *n, bool silently);
void net_break_all(struct sim *s, struct snode *n);
void net_break_between(struct sim *s, uint32_t a, uint32_t b);
/* To a it has ended; b reads on for a while. */
void net_end_half(struct sim *s, uint32_t a, uint32_t b);

/* drive.c */
void node_start(struct sim *s, struct snode *n);
void node_crash(struct sim *s, struct snode *n);	/* power loss */
void node_kill(struct sim *s, struct snode *n);		/* only the daemon; the kernel closes its sockets */
void node_stop(struct sim *s, struct snode *n);
void node_feed(struct sim *s, struct snode *n, struct event *ev);

/* A request of a client to its node's core. The callback gets the reply. */
typedef void (*reply_fn)(struct sim *s, void *arg, const struct fs_reply *rp);
uint64_t node_request(
	struct sim *s, struct snode *n, const struct fs_request *rq, reply_fn fn, void *arg);
/* File data through the data path. `buf` holds len bytes until the callback. */
typedef void (*data_fn)(struct sim *s, void *arg, int32_t result);
void node_io(struct sim *s, struct snode *n, uint64_t ino, uint64_t handle, bool write, bool dsync, uint64_t off,
	uint32_t len, uint8_t *buf, data_fn fn, void *arg);
/* Any operation: the public part of `like` says which. The arg is also what node_io_cancel() finds it by. */
void node_io_as(struct sim *s, struct snode *n, const struct dp_op *like, uint8_t *buf, data_fn fn, void *arg);
/* The process that waits for it is killed. */
void node_io_cancel(struct sim *s, struct snode *n, const void *arg);
uint64_t sim_data_new(const void *bytes, uint32_t len);
void sim_data_ref(uint64_t h);
void sim_data_put(uint64_t h);
uint8_t *sim_data_bytes(uint64_t h);

/* call.c */
struct call {
	struct snode *n;
	const void *who; /* as node_io_cancel() knows it */
	uint64_t nr;	 /* counts them */
	uint64_t tag;	 /* of a request: node_request() */
	bool data;	 /* of the data path */
	bool waits, killed;
};
void call_begins(struct call *c, struct snode *n, const void *who, bool data);
void call_ends(struct call *c);
/* Some time from now, in some of the runs: a signal. */
void call_may_be_killed(struct sim *s, struct call *c, uint32_t percent);

/* load.c */
void load_create(struct sim *s);
void load_destroy(struct sim *s);
void load_node_up(struct sim *s, struct snode *n);
void load_node_down(struct sim *s, struct snode *n);
/* A step of n is done: it may know by now who is gone. */
void gone_look(struct sim *s, struct snode *n);
void load_node_evicted(struct sim *s, struct snode *n);
/* Commands of that node's earlier lives and paths can no longer land. */
void registers_size_seen(struct sim *s, uint64_t ino, uint64_t size);
void load_node_drained(struct sim *s, uint32_t node);
/* Its key is gone. */
void load_node_fenced(struct sim *s, struct snode *n);
/* No client of load.c: nothing happens. */
void load_op_redirected(struct sim *s, void *arg);
/* Of lost_grants: it still does what it does then. */
bool load_lost_lately(const struct sim *s);
bool load_idle(const struct sim *s);
void load_stop(struct sim *s);
void load_say_stuck(struct sim *s);
void nodes_say_stuck(struct sim *s);
void load_final_check(struct sim *s);
void load_san_loss(struct sim *s);

/* locks.c */
void locks_create(struct sim *s);
void locks_destroy(struct sim *s);
void locks_set_file(struct sim *s, uint32_t f, uint64_t ino);
uint64_t locks_file(const struct sim *s, uint32_t f);
void locks_node_up(struct sim *s, struct snode *n);
void locks_node_down(struct sim *s, struct snode *n);
void locks_node_evicted(struct sim *s, struct snode *n);
void locks_stop(struct sim *s);
bool locks_idle(const struct sim *s);
void locks_final_check(struct sim *s);
void locks_say_stuck(struct sim *s);

/* tail.c: from now on, until everything heals. */
void tail_follow(struct sim *s, struct snode *n, uint64_t ino, uint32_t record);

/* more.c */
void more_create(struct sim *s);
void more_destroy(struct sim *s);
void more_set_file(struct sim *s, uint64_t ino);
/* Where the records begin in it. */
uint64_t more_records_at(const struct sim *s);
void more_node_up(struct sim *s, struct snode *n);
void more_node_down(struct sim *s, struct snode *n);
void more_stop(struct sim *s);
bool more_idle(const struct sim *s);
void more_say_stuck(struct sim *s);
/* Shorter than others wait for an append: a coordinator's time of a recall, and it may have been told late. */
#define APPEND_NS (5 * SEC)
/* Is an append to the shared file under way that was asked for longer ago than this? */
bool more_append_is_old(const struct sim *s, uint64_t ns);
/* edge.c */
void edges_create(struct sim *s);
void edges_destroy(struct sim *s);
void edges_make(struct sim *s, struct run_sync *rs);
void edges_node_up(struct sim *s, struct snode *n);
void edges_node_down(struct sim *s, struct snode *n);
void edges_node_evicted(struct sim *s, struct snode *n);
void edges_stop(struct sim *s);
bool edges_idle(const struct sim *s);
void edges_say_stuck(struct sim *s);

/* bulk.c */
#define BULK_BYTES (4u << 20)
void bulk_create(struct sim *s);
void bulk_set_file(struct sim *s, uint64_t ino);
void bulk_node_up(struct sim *s, struct snode *n);
void bulk_node_down(struct sim *s, struct snode *n);
void bulk_stop(struct sim *s);
bool bulk_idle(const struct sim *s);
void bulk_say_stuck(struct sim *s);

/* crowd.c */
void crowds_create(struct sim *s);
void crowds_destroy(struct sim *s);
void crowds_node_up(struct sim *s, struct snode *n);
void crowds_node_down(struct sim *s, struct snode *n);
void crowds_stop(struct sim *s);
bool crowds_idle(const struct sim *s);
void crowds_say_stuck(struct sim *s);

/* shell.c */
void shell_asks(struct sim *s, struct snode *n, const struct fs_request *rq);
void shell_shows(struct snode *n, struct fs_attr *attr);

/* weather.c */
void weather_start(struct sim *s);
void weather_heal(struct sim *s);
/* A command of that node that arrives now is not carried out. */
bool weather_busy(struct sim *s, uint32_t node);
/* So much longer does a command take. */
uint64_t weather_holds(struct sim *s, enum lun_op op);

/* aimed.c */
#define AIMED_SIDE 8u /* of a cut: one node is there */
void aimed_plan(struct sim_plan *p);
void aimed_start(struct sim *s);
/* A node is cut off until then: --given-up. Until when it is. */
uint64_t aimed_cut_off(struct sim *s, struct snode *n, uint64_t back_ns);
/* Another one is about to be cut off, and knows it late: --cut-off. After how long it is. */
uint64_t aimed_before_cut(struct sim *s, struct snode *n);
/* Nobody else gets this message. */
bool aimed_unheard(struct sim *s, struct snode *n, const void *bytes, uint32_t len);
struct msg;
/* So much longer is block I/O on its way: --set carries=1. */
uint64_t aimed_lags(struct sim *s, uint32_t from, uint32_t to);
/* The connection of a request breaks as it arrives: --set lost_asks=1. */
bool aimed_loses_ask(struct sim *s, const struct msg *m);
/* It is about to be asked for a layout: --set dies_asking=1. */
void aimed_recalled(struct sim *s, struct snode *has);
/* Before the nodes start. */
void aimed_paths(struct sim *s);
void aimed_synced(struct sim *s, const struct snode *n);
/* So much longer is a write of that node, there, held; carried: of another one, that it does it for. */
uint64_t aimed_holds(struct sim *s, uint32_t node, uint64_t off, bool carried);
/* It is about to be asked to forget what it knows: --set dies_held=1. */
void aimed_forgets(struct sim *s, struct snode *has);

/* admin.c */
void admins_create(struct sim *s);
void admins_start(struct sim *s);
void admin_ask(struct sim *s, struct snode *n, const struct ctl_request *rq);
void admin_answered(struct sim *s, struct snode *n, const struct effect *e);
void admins_node_down(struct sim *s, struct snode *n);
bool admins_idle(const struct sim *s);
/* All know alike whether a scrub is wanted. */
bool admins_agree(const struct sim *s);
void admins_say_stuck(struct sim *s);

/* leases.c */
void leases_create(struct sim *s);
void leases_destroy(struct sim *s);
void leases_make(struct sim *s, struct run_sync *rs);
void leases_node_up(struct sim *s, struct snode *n);
void leases_node_down(struct sim *s, struct snode *n);
void leases_stop(struct sim *s);
bool leases_idle(const struct sim *s);
/* Somebody on that node waits for his change to be done. */
bool leases_waits_long(const struct sim *s, const struct snode *n);
/* A node that waits for a change of a file's attributes or names to be done, neither of these two; 0: none. */
uint32_t leases_changer(const struct sim *s, uint32_t not, uint32_t nor);
void leases_say_stuck(struct sim *s);

/* faults.c */
#define FAULTS_MAX 1024
void faults_start(struct sim *s);

/* main.c: one run, as the minimiser's child. */
void sim_trial(uint64_t seed);

/* minimise.c */
int minimise(uint64_t seed);
/* --set and --drop. False: not understood. */
bool plan_set(const char *text);
bool plan_drop(const char *text);
/* After the plan was drawn. */
void plan_cut(struct sim *s);
bool fault_dropped(uint32_t nr);
void trial_failed(const struct sim *s, const char *why);
void faults_heal(struct sim *s);

/* leave.c: all nodes unmount; what is left when they have */
void leave_all(struct sim *s);
/* Its daemon has ended. */
void leave_exited(struct sim *s, struct snode *n);
/* The target has refused its LUN reset. */
void leave_reset_refused(struct sim *s, const struct snode *n);
void leave_check(struct sim *s);

#endif
