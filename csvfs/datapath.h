/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * datapath.h - the data threads: read requests from /dev/fuse, do file I/O, answer.
 *
 * Each thread is one epoll loop over the FUSE descriptor and a session to the LUN of its own. The
 * thread that reads a READ or WRITE plans it (dp.h), submits it and answers it from the completion.
 * Every other request goes to fuse_ops.c, on the same thread.
 *
 * Threads and locks: dp is guarded by one mutex. post() is called with it held, so: never call
 * datapath_*() while holding what post() takes. datapath_apply() is called by whoever steps the core;
 * all other calls by any thread.
 *
 * Tags of what the data path sends to the core have DATAPATH_TAG set, those of fuse_ops.c have
 * FUSE_OPS_TAG set; the core's answers to tags with neither are somebody else's.
 */
#ifndef CSVFS_DATAPATH_H
#define CSVFS_DATAPATH_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/platform.h"
#include "csvfs/bdev.h"

#define DATAPATH_TAG (1ull << 63)
#define DATAPATH_THREADS_MAX 16

struct datapath;
struct fuse_ops;

struct datapath_config {
	struct fuse_ops *fuse;
	/* Session i is opened with this and `session` BDEV_SESSION_DATA(i); on_state, ctx: set here. */
	struct bdev_config bdev;
	unsigned threads; /* 1 .. DATAPATH_THREADS_MAX; one is right for iSCSI */
	uint64_t data_start; /* byte of the LUN: what lies before it is no file's; a volume that grows keeps it */
	uint32_t cluster_bytes;
	bool standalone; /* this node alone changes files */
	bool sync; /* every write is durable when it is answered, with all attributes */
	uint64_t answer_ns; /* a command without answer for so long: the path is lost [4 s] */
	uint64_t hold_ns; /* an I/O that waits for longer ends with EIO; 0: never */
	uint64_t layout_bytes; /* memory for layouts; touched as used [1 GiB] */

	/* An event for the core's inbox. What it points to stays valid until its answer. */
	void (*post)(void *ctx, const struct event *ev);

	/* The process of an I/O had a signal (dying.h); called without any lock. NULL: every signal kills. */
	void (*signalled)(void *ctx, uint32_t tid, uint64_t tag);

	/* Called by a data thread that may have posted something, without any lock. NULL: not wanted. */
	void (*turn)(void *ctx);

	/*
	 * All data sessions together: PATH_UP (each is), PATH_FAILED, PATH_LOST (the first that broke;
	 * said once per opening), PATH_CLOSED (answer to datapath_path_close: every command has ended).
	 * Called from a data thread.
	 */
	void (*on_path)(void *ctx, enum path_state state, const char *text);

	/* The kernel has unmounted us; no more requests come. Called once, from a data thread. */
	void (*on_unmount)(void *ctx);
	void *ctx;
};

/* Starts the threads: requests are read from now on. 0 or a negative errno. */
int datapath_start(const struct datapath_config *cfg, struct datapath **out);

/*
 * After on_unmount, or to give up: ends the threads, closes sessions. Requests not answered yet get
 * no answer from here (the kernel ends them when the descriptor closes).
 */
void datapath_stop(struct datapath *d);

/*
 * FX_PATH_OPEN, FX_PATH_CLOSE for the data sessions. datapath_path_open() after PATH_UP is allowed
 * only after a PATH_CLOSED.
 */
void datapath_path_open(struct datapath *d);
void datapath_path_close(struct datapath *d);

/* LUN_PR_REGISTER with key (0: LUN_PR_UNREGISTER) on every data session; done: the worst outcome. */
void datapath_register(struct datapath *d, uint64_t key,
	void (*done)(void *arg, enum lun_status status, const char *text), void *arg);

/*
 * Carries out FX_BLOCK_*, FX_LAYOUT_*, FX_GATE, FX_DATA_FREE, and FX_REPLY with DATAPATH_TAG. False:
 * not for the data path. Copies what it needs.
 */
bool datapath_apply(struct datapath *d, const struct effect *e);

/* dying.h: is that I/O still to be answered? Its process is dying: it ends with EINTR if nothing of it can land. */
bool datapath_waits(struct datapath *d, uint64_t tag);
void datapath_cancel(struct datapath *d, uint64_t tag);

struct datapath_stats {
	uint64_t direct_reads, direct_writes; /* requests done on the own path alone */
	uint64_t direct_read_bytes, direct_write_bytes;
	uint64_t core_reads, core_writes; /* requests of which a part went through the core */
	uint64_t core_read_bytes, core_write_bytes;
	uint64_t zero_reads; /* answered without I/O */
	uint64_t layout_gets, commits;
	uint64_t in_flight;
	uint64_t longest_ns; /* slowest answer to a read or write since start */
	uint64_t oldest_ns; /* how long the oldest one has been waiting now; 0: none */
};
void datapath_get_stats(struct datapath *d, struct datapath_stats *st);
void datapath_reset_longest(struct datapath *d);

#endif
