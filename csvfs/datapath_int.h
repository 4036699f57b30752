/* SPDX-License-Identifier: GPL-2.0-or-later */
/* datapath_int.h - what datapath.c and datapath_session.c share. Nobody else includes it. */
#ifndef CSVFS_DATAPATH_INT_H
#define CSVFS_DATAPATH_INT_H

#include <pthread.h>

#include "csvfs/datapath.h"
#include "csvfs/dbuf.h"
#include "csvfs/dp.h"
#include "csvfs/fuse_ops.h"

#define INLINE_REQS 4
#define EARLY_MAX 16
#define FAILED_MAX 256

/* What the owner of an I/O finds in `returned`. */
enum io_news {
	NEWS_READY, /* dp_begin() it again */
	NEWS_BLOCK, /* FX_BLOCK_DONE */
	NEWS_RETRY, /* FX_BLOCK_RETRY */
	NEWS_LAYOUT, /* FX_REPLY */
	NEWS_APPEND,
	NEWS_SEEN, /* FX_REPLY: what must go first, before a write, is known */
	NEWS_KILLED, /* FX_REPLY: it is gone */
	NEWS_ENDED, /* cancelled */
};

struct io {
	struct fs_request rq; /* LAYOUT_GET, APPEND: valid until its FX_REPLY */
	struct dthread *t;
	uint64_t unique; /* the kernel's number of the request; 0: the I/O is free */
	uint32_t tid;	 /* the thread that waits; 0: unknown */
	uint64_t nodeid; /* what the kernel calls the file */
	uint32_t idx, gen;
	uint64_t start_ns;
	bool via_core; /* a part of it went through the core */
	bool early; /* its interrupt has come before it */
	bool given_up; /* answered; it may still land, and ends later (dp.h, rule 12) */
	struct fuse_ops_writer writer;
	bool looking; /* before it may begin: what must go first? */
	uint32_t killing; /* FS_SET_KILL_*: this */
	/* Not a request of the kernel: who asked for it is told. */
	void (*done)(void *arg, int err);
	void *arg;
	struct dbuf *data; /* of a write */
	struct dbuf *img; /* what the segments address */
	struct list link; /* free, returned */
	struct list turn; /* an append, in datapath.turns */
	bool asked; /* ... for its place */
	bool in_queue; /* ... it would, and it is not its turn */
	bool behind; /* ... when an older append of this file was under way */
	enum io_news news;
	int news_err;
	uint64_t news_off;

	uint32_t left; /* commands not ended */
	enum lun_status worst;
	struct bdev_req *reqs, inline_reqs[INLINE_REQS];
	struct iovec *iov, inline_iov[INLINE_REQS];
	uint32_t req_room;

	struct dp_op op;
};

enum session_cmd { CMD_NONE, CMD_OPEN, CMD_CLOSE };

struct dthread {
	struct datapath *d;
	unsigned nr;
	pthread_t id;
	bool started;
	int epfd, wakefd;

	/* the thread's own */
	struct bdev *b;
	int b_fd;
	int b_events;
	bool submitted; /* to be sent */
	struct dbuf *rbuf;
	uint8_t *whole; /* a request that is not a WRITE, in one piece */
	struct list free;
	struct bdev_req register_req;
	uint64_t idle_ns; /* when it had nothing to do, for the last time; of look(): */
	uint32_t luck, looks;

	/* for await_older() of the other threads */
	_Atomic uint64_t reads; /* odd: it is reading a request, and does not know yet which */
	_Atomic uint64_t append; /* the kernel's number of an append that it has read, and that has no turn yet; 0: none */

	/* under datapath.lock */
	struct list returned;
	bool woken;
	enum session_cmd cmd;
	bool want_register;
	bool up, lost; /* of the session */
	struct datapath_stats stats;
};

struct datapath {
	struct datapath_config cfg;
	int fuse_fd;
	pthread_mutex_t lock;
	struct dp *dp;
	struct mem mem;
	void *region;
	struct io **ios;
	uint32_t io_count;
	struct list turns; /* appends (struct io), in the order in which the kernel has sent them */
	uint32_t block_bytes; /* of the LUN; 0: not known yet */
	bool stop, unmounted;
	/*
	 * The last interrupts of what is none of our I/Os: another thread may have read the request, and not have come to
	 * datapath_io_get() yet. (The library would have the kernel ask again, but only when it gets its next request.)
	 */
	uint64_t early[EARLY_MAX];
	uint32_t early_at;

	/* Writes that failed, through which open file and of which thread; of open files up to failed_upto not all are known. */
	struct {
		uint64_t handle;
		uint32_t tid;
	} failed[FAILED_MAX];
	uint32_t failed_count;
	uint64_t failed_upto;

	unsigned closing, registering; /* threads that have not done it yet */
	bool path_told; /* FAILED or LOST was said since the last opening */
	uint64_t key;
	enum lun_status register_worst;
	char register_text[128];
	void (*register_done)(void *arg, enum lun_status status, const char *text);
	void *register_arg;

	unsigned threads;
	struct dthread t[DATAPATH_THREADS_MAX];
};

/* In place of the kernel's number of a request. */
#define DATAPATH_OWN UINT64_MAX

/* An I/O of the thread for that request of the kernel; NULL: no memory. */
struct io *datapath_io_get(struct dthread *t, uint64_t unique, uint32_t tid);
void datapath_io_put(struct io *io);
/* What the core, and who cancels it, calls it: until it is put. */
uint64_t datapath_io_tag(const struct io *io);
/* Its op is filled in: plan it, and do what the plan says. It ends with an answer, sooner or later. */
void datapath_io_begin(struct io *io);
/* The same of a kernel's write past the page cache: setuid, setgid and capabilities of the file go first. */
void datapath_io_begin_write(struct io *io);
/* Goes on with what came back to this thread. */
void datapath_io_run(struct dthread *t);
/* The kernel's INTERRUPT. True: the request that it means is one of ours. */
bool datapath_io_interrupt(struct datapath *d, uint64_t unique);
/*
 * datapath.lock is held. A write through that open file, of that thread, is about to be answered with an error; was there one since this
 * was asked for last? And the open file is closed.
 */
void datapath_failed(struct datapath *d, uint64_t handle, uint32_t tid);
bool datapath_take_failed(struct datapath *d, uint64_t handle, uint32_t tid);
void datapath_forget_failed(struct datapath *d, uint64_t handle);
/* To the kernel: an error (negative), or data. */
void datapath_write_fails(struct datapath *d, uint64_t unique, uint64_t handle, uint32_t tid, int err);
void datapath_answer(struct datapath *d, uint64_t unique, int err, const void *data, size_t len);

/* datapath.lock is held: the thread looks at `returned` and its commands soon. */
void datapath_wake(struct dthread *t);

/* datapath_session.c, called by the thread that owns the session */
void datapath_session_commands(struct dthread *t); /* does what other threads asked for */
void datapath_session_poll(struct dthread *t); /* brings epoll up to date */
void datapath_session_watch(struct dthread *t);
void datapath_session_close(struct dthread *t);

#endif
