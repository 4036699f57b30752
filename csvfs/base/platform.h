/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * platform.h - the boundary between the core and its drivers: events in, effects out.
 *
 * The core (csvfs/node*.c, coordinator/, redirect/, metadata/, csvfs/base/) does no I/O, reads no
 * clock, starts no thread and has no memory but what it was given. A driver feeds it events and
 * carries out its effects: the daemon (csvfs/loop.c), the simulator (tests/sim/), and for the
 * metadata engine alone metadata/run_sync.c.
 *
 * Rules of ownership and order
 *  1. One thread at a time calls node_step(); it never blocks. event.now_ns never goes back (CLOCK_BOOTTIME in
 *     the daemon: a lease must not stand still during suspend). node_deadline() is the only timer.
 *  2. The driver may carry out the effects of a step in any order. There is no order between two
 *     effects unless one is emitted after the other's completion event. Two exceptions, which the
 *     transports give for nothing and the protocols need: FX_NET_SEND on one connection and
 *     FX_CPG_SEND keep their order; FX_LAYOUT_*, FX_GATE, FX_BLOCK_* and FX_REPLY keep their order.
 *  3. An event's memory is valid during the call; an effect's until the next step. The buffer of an
 *     FX_LUN read or write belongs to the driver until its EV_LUN_DONE. File data never enters the
 *     core: it travels as a handle (0: none), which belongs to whoever was last given it.
 *  4. Every command and request has a tag. The core ignores completions whose tag it no longer knows.
 *  5. A write that failed, was cancelled or timed out has an unknown outcome (LUN_UNKNOWN): read
 *     back, fence or stop; never assume.
 *  6. A driver never retries, reconnects or gives up on its own: those are decisions.
 */
#ifndef CSVFS_BASE_PLATFORM_H
#define CSVFS_BASE_PLATFORM_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/fsreq.h"
#include "csvfs/base/limits.h"

/* ------------------------------------------------------------------ commands to the LUN */

enum lun_op {
	LUN_READ = 1,
	LUN_WRITE,	  /* fua: durable when done (FUA bit, or write and flush) */
	LUN_FLUSH,	  /* SYNCHRONIZE CACHE: every write completed before, by any node, is durable */
	LUN_UNMAP,
	/* SPC-4 persistent reservations, type 5 (write exclusive, registrants only). */
	LUN_PR_REGISTER,  /* REGISTER AND IGNORE EXISTING KEY with `key`, on every session of this path */
	LUN_PR_UNREGISTER, /* the same with key 0 */
	LUN_PR_RESERVE,	  /* RESERVE with `key` */
	LUN_PR_PREEMPT,	  /* PREEMPT: our `key` takes away `victim` (and its reservation) */
	LUN_PR_PREEMPT_ABORT, /* the same; asks to end the victim's commands, too. OK does not say that it was done: see fence.c */
	LUN_PR_READ_KEYS, /* -> keys[], generation */
	LUN_PR_READ_RESERVATION, /* -> keys[0] = holder's key (key_count 0: nobody) */
	LUN_PR_CLEAR,	  /* all registrations and the reservation go */
	/*
	 * LOGICAL UNIT RESET, and what the target needs beside it (iscsi_reinst.h). When done: nothing that was sent before by a session
	 * which was registered once, and is so no more, can still land.
	 */
	LUN_RESET,
	LUN_TEST,	  /* TEST UNIT READY */
	LUN_CAPACITY,	  /* READ CAPACITY(16): how large the LUN is now -> lun_bytes */
};

enum lun_status {
	LUN_OK = 0,
	LUN_CONFLICT,	 /* RESERVATION CONFLICT: not executed; we may have been fenced */
	LUN_MEDIUM,	 /* the medium failed at this place; others may work */
	LUN_UNKNOWN,	 /* lost, cancelled, timed out: it may have happened, may still happen */
	LUN_UNSUPPORTED, /* ILLEGAL REQUEST: not executed, the target does not know it */
	LUN_RETRY,	 /* UNIT ATTENTION, BUSY, TASK SET FULL: not executed, may be sent again */
	LUN_NOSPACE,	 /* a thin LUN is out of space (07h/27h): not executed */
	LUN_PROTECTED,	 /* the LUN is write protected: not executed */
	/*
	 * Of READ, WRITE and FLUSH: what is behind the LUN has failed (LIO says so of a bad place, and of a full thin pool), perhaps
	 * for a moment. Nothing of it is under way. Sent again for some seconds, then as good as LUN_MEDIUM; never a lost path.
	 */
	LUN_FAILING,
};

#define LUN_KEYS_MAX 256

struct lun_cmd {
	enum lun_op op;
	bool fua;
	uint64_t off, len;    /* bytes, multiples of the LUN's block size */
	void *buf;	      /* the core's memory; NULL when `data` is used */
	uint64_t data;	      /* handle of file data (served for another node): READ gives, WRITE takes */
	uint64_t key, victim; /* persistent reservations */
};

/* ------------------------------------------------------------------ data path */

/* One piece of a file read or write: where on the LUN, and where in the request's buffer. */
struct seg {
	uint64_t lun_off;
	uint32_t len;	  /* bytes */
	uint32_t buf_off; /* bytes */
};

/* What the data threads may do by themselves. */
enum gate {
	GATE_CLOSED, /* nothing: hand every block I/O to the core */
	GATE_DIRECT, /* submit to the LUN on the own session */
};

/* ------------------------------------------------------------------ events */

enum ev_type {
	EV_START = 1,
	EV_TIMER,    /* node_deadline() has come */
	EV_REQUEST,  /* tag, rq: from the local kernel, or csvctl's file requests */
	EV_CANCEL,   /* tag: the process that waits for EV_REQUEST or EV_BLOCK was killed */
	EV_LUN_DONE, /* tag, lun */
	EV_PATH,     /* path: answer to FX_PATH_OPEN, or the path was lost */

	EV_CPG_CONF, /* conf: membership of our CPG group */
	EV_QUORUM,   /* conf: members of the cluster, quorate */
	EV_CPG_MSG,  /* msg: from node `node`, our own messages too */
	EV_CPG_DOWN, /* corosync is gone; conf.members is empty */

	EV_NET_UP,   /* conn, name: TLS is established with the node of that name (from its certificate) */
	EV_NET_DOWN, /* conn, reason: gone, or could not be established */
	EV_NET_MSG,  /* conn, bytes, data */

	EV_BLOCK,    /* tag, block: the data path hands a block I/O over */
	EV_WRITTEN,  /* range: first-written now and not committed yet (data path, no reply wanted) */
	EV_COMMIT,   /* tag, range: answer FX_BLOCK_DONE when size/state of the range are durable */
	EV_DRAINED,  /* ino (0: the whole volume): nothing is in flight behind the closed gate */
	EV_SHED,     /* ino: the data path knows too much: this file's layout shall go back */
	EV_APPENDED, /* tag, range.ino, range.off: the append that asked with this tag, and was told this place, is over */
	EV_TOUCHED,  /* ino: written in place since the last commit; range.mtime_ns; or read: atime_ns */
	EV_TIMES,    /* tag, ino: ends FX_TIMES */

	EV_CTL,	     /* tag, ctl: an administrator's request */
	EV_STOP,     /* unmounted: leave the cluster in order, then FX_EXIT */
};

struct cpg_conf {
	uint64_t ring_seq;
	uint32_t ring_node;
	bool quorate;	 /* of EV_QUORUM */
	uint32_t member_count;
	uint32_t members[NODES_MAX];
	/* Nodes that left our CPG group because their daemon ended (CPG_REASON_PROCDOWN/LEAVE). A hint. */
};

enum ctl_op {
	CTL_STATE = 1, /* -> text: JSON */
	CTL_MOVE,      /* name: node that shall coordinate */
	CTL_PAUSE,
	CTL_RESUME,
	CTL_REDIRECT,  /* on */
	CTL_GROW,      /* bytes: the volume's new size, 0: the LUN's; on: only say what would happen */
	CTL_CAPACITY,  /* of another node: how large the LUN is to it -> text: bytes */
	CTL_SCRUB,     /* name: start, stop, status (-> text: JSON); from the coordinator: on: it runs */
};

struct ctl_request {
	enum ctl_op op;
	bool on;
	uint64_t bytes;
	char name[NODE_NAME_MAX];
};

enum path_state {
	PATH_UP,     /* sessions are logged in; block_bytes, lun_bytes are known */
	PATH_LOST,   /* a session broke, or a command had no answer in time: text says why */
	PATH_FAILED, /* FX_PATH_OPEN did not succeed */
	PATH_CLOSED, /* FX_PATH_CLOSE is done: every command has been answered (LUN_UNKNOWN) */
};

struct event {
	enum ev_type type;
	uint64_t now_ns;  /* CLOCK_BOOTTIME; never goes back */
	int64_t wall_ns;  /* CLOCK_REALTIME: for time stamps and "since when" only */
	uint64_t tag;
	union {
		const struct fs_request *rq;
		struct {
			enum lun_status status;
			uint64_t data; /* handle, of a read for another node */
			uint32_t key_count, generation;
			const uint64_t *keys;
			uint64_t lun_bytes; /* of LUN_CAPACITY */
		} lun;
		struct {
			enum path_state state;
			uint32_t block_bytes;
			uint64_t lun_bytes;
			bool write_cache;      /* WCE: flushes are needed */
			bool reservations;     /* the target knows persistent reservations */
			char text[192];
		} path;
		struct cpg_conf conf;
		struct {
			uint32_t node;
			const void *bytes;
			uint32_t len;
		} msg;
		struct {
			uint64_t conn;
			char name[NODE_NAME_MAX]; /* EV_NET_UP */
			char reason[192];	  /* EV_NET_DOWN */
			bool distrust; /* EV_NET_DOWN: a certificate was refused, here or there */
			const void *bytes;	  /* EV_NET_MSG: one whole frame, without its data */
			uint32_t len;
			uint64_t data; /* handle of the frame's data */
			uint32_t data_len;
		} net;
		struct {
			bool write, fua, flush;
			bool unknown; /* a direct attempt was made and its outcome is unknown */
			bool conflict; /* ... it was refused: our registration is gone */
			bool told; /* ... that was said before, and the answer was -ENOMEM */
			bool refused; /* a read that our path has not done for too long; nothing of it is under way */
			uint32_t rights; /* FX_GATE's, when it was planned */
			uint64_t ino;
			uint32_t seg_count;
			const struct seg *segs;
			uint64_t data; /* handle; stays the data path's */
			uint32_t len;
		} block;
		struct {
			uint64_t ino, off, len;
			int64_t mtime_ns;
			int64_t atime_ns; /* EV_TOUCHED: when it was read; 0: no news */
			uint64_t size; /* end of the write: the file is at least this long */
			uint32_t rights; /* WRITTEN, COMMIT: of the node (FX_GATE) when the write was planned */
		} range;
		uint64_t ino;
		struct ctl_request ctl;
	};
};

/* ------------------------------------------------------------------ effects */

enum fx_type {
	FX_LUN = 1,	 /* tag, lun -> EV_LUN_DONE */
	FX_PATH_OPEN,	 /* log in on every session -> EV_PATH */
	FX_PATH_CLOSE,	 /* drop every session; what is outstanding ends LUN_UNKNOWN -> EV_PATH closed */

	FX_CPG_SEND,	 /* bytes, len */

	FX_NET_CONNECT,	 /* conn (chosen by the core, top bit clear), addr, port, name -> EV_NET_UP/DOWN */
	FX_NET_SEND,	 /* conn, bytes, len, data */
	FX_NET_CLOSE,	 /* conn; no event follows */

	FX_REPLY,	 /* tag, reply: ends EV_REQUEST */
	FX_BLOCK_DONE,	 /* tag, status: ends EV_BLOCK, EV_COMMIT; err: 0 or a negative errno; -ENOMEM of EV_BLOCK: it comes again */
	FX_BLOCK_RETRY,	 /* tag: ends EV_BLOCK: the gate is open, or the plan is void: see to it yourself */
	FX_BLOCK_DATA,	 /* tag, blockdata: bytes read for a piece of EV_BLOCK; copy them to its buffer */

	FX_LAYOUT_PUT,	 /* layout: what is known of a range of a file; replaces what was known there */
	FX_LAYOUT_SIZE,	 /* layout.ino, size, shown */
	FX_LAYOUT_CLOSE, /* layout.ino: gate of the file closed -> EV_DRAINED(ino) when nothing is inside */
	FX_LAYOUT_DROP,	 /* layout.ino (0: of all files): nothing is known any more; the file's gate is open again */
	FX_TIMES,	 /* tag, layout.ino: EV_TOUCHED for what was written there and not told yet, then EV_TIMES */
	FX_GATE,	 /* gate, lease_ns, paused: of the volume. Closed: -> EV_DRAINED(0) when nothing is in flight */
	FX_DATA_FREE,	 /* data: the core's reference goes (after the effects before it in this step) */

	FX_CTL_REPLY,	 /* tag, err, bytes = text, len */
	FX_INVAL,	 /* inval: the kernel must forget its attributes and pages */
	FX_EXIT,	 /* err, bytes = text for the log: the daemon ends (0: in order) */

	FX_LOCKS_LOST,	 /* lost: I/O through these open files fails from now on, what waits too */

	FX_CPG_JOIN,	 /* after EV_CPG_DOWN: try to join again -> EV_CPG_CONF or EV_CPG_DOWN */
};

struct effect {
	enum fx_type type;
	uint64_t tag;
	union {
		struct lun_cmd lun;
		struct {
			uint64_t conn;
			const void *bytes; /* FX_CPG_SEND, FX_NET_SEND, FX_CTL_REPLY, FX_EXIT */
			uint32_t len;
			/*
			 * Handle sent along, bytes [data_off, data_off + data_len). The shell takes a
			 * reference of its own for the sending; the core's stays where it was.
			 */
			uint64_t data;
			uint32_t data_off, data_len;
			uint16_t port;
			char addr[ADDR_MAX];
			char name[NODE_NAME_MAX];
			int32_t err;
		} net;
		const struct fs_reply *reply;
		struct {
			int32_t err;
			/*
			 * A write whose application waits no longer (hold=), and which may still land: another FX_BLOCK_DONE
			 * ends it.
			 */
			bool lands;
		} block;
		struct {
			uint64_t data; /* handle; still the core's (FX_DATA_FREE follows) */
			uint32_t buf_off, len;
		} blockdata;
		struct {
			uint64_t ino, off, len, size, shown; /* shown: rule 13 of dp.h */
			uint64_t version; /* of PUT: fs_attr's */
			uint32_t extent_count;
			const struct fs_extent *extents;
		} layout;
		struct {
			uint64_t ino, generation;
		} inval;
		struct {
			uint32_t count;
			const uint64_t *handles;
		} lost;
		struct {
			enum gate gate;
			uint64_t lease_ns; /* no I/O is submitted or answered after this time */
			bool paused; /* by an administrator: nothing new begins; what has begun goes on */
			/* Grows when all rights were lost at once: what was planned before is void. */
			uint32_t rights;
		} gate;
		uint64_t data;
	};
};

#define EFFECTS_MAX 1024
#define EFFECTS_ARENA (8u << 20)

struct effects {
	uint32_t count;
	uint32_t arena_used;
	struct effect fx[EFFECTS_MAX];
	uint8_t *arena; /* EFFECTS_ARENA bytes, for what effects point to */
};

/* Before each step. */
void effects_reset(struct effects *fx);

/*
 * A new effect of that type, zeroed. There is always room: whoever emits many in one step asks
 * effects_room() first, and leaves the rest to the next step (node_deadline() then says: now).
 */
struct effect *effects_add(struct effects *fx, enum fx_type type, uint64_t tag);

/* True while at least n more effects and n_bytes of arena fit, with a reserve for others. */
bool effects_room(const struct effects *fx, uint32_t n, uint32_t n_bytes);

/* Memory that lives as long as the effects of this step. */
void *effects_alloc(struct effects *fx, uint32_t length_bytes);

/*
 * The tag's top byte says which part of the core waits for it; csvfs/node.c routes completions by it.
 */
enum tag_owner {
	TAG_META = 1,	 /* metadata/ */
	TAG_TAKEOVER = 2, /* coordinator/ */
	TAG_SERVE = 3,	 /* block I/O served for another node */
	TAG_NODE = 4,	 /* csvfs/node.c itself: flush for fsync, registration of the path */
};
#define TAG(owner, n) (((uint64_t)(owner) << 56) | ((uint64_t)(n) & 0xffffffffffffffull))
#define TAG_OWNER(tag) ((enum tag_owner)((tag) >> 56))

#endif
