/* SPDX-License-Identifier: GPL-2.0-or-later */
/* loop_int.h - what loop.c, loop_lun.c and loop_state.c share. */
#ifndef CSVFS_LOOP_INT_H
#define CSVFS_LOOP_INT_H

#include <pthread.h>

#include "coordinator/cpg.h"
#include "csvfs/bdev.h"
#include "csvfs/ctl.h"
#include "csvfs/datapath.h"
#include "csvfs/dbuf.h"
#include "csvfs/dying.h"
#include "csvfs/fuse_ops.h"
#include "csvfs/inbox.h"
#include "csvfs/log.h"
#include "csvfs/loop.h"
#include "redirect/tls.h"

/*
 * The path is all sessions of this node together: the core's own, and those of the data threads.
 *
 *	CLOSED --FX_PATH_OPEN--> OPENING --both up: PATH_UP--> UP --one breaks: PATH_LOST--> LOST
 *	   ^                        | one fails                |                              |
 *	   |                     FAILING ----------------------+---------- FX_PATH_CLOSE -----+
 *	   |        both closed:    |                          v
 *	   +---------- PATH_FAILED--+           CLOSING --both closed: PATH_CLOSED--> CLOSED
 */
enum loop_path {
	LP_CLOSED,
	LP_OPENING,
	LP_FAILING,
	LP_UP,
	LP_LOST,
	LP_CLOSING,
};

/* A command of the core on its own session. */
struct lun_io {
	struct list link; /* ended: waits to become EV_LUN_DONE */
	struct loop *loop;
	struct bdev_req req;
	struct iovec iov;
	uint64_t tag;
	uint64_t data; /* reference of ours to file data, while in flight */
	uint32_t waits; /* sessions that have not answered: own, data threads' */
	enum lun_status status;
	uint64_t lun_bytes;
	uint32_t key_count, generation;
	uint64_t *keys;
};

struct loop {
	const struct loop_config *lc;
	const struct config *cfg;
	struct node *node;
	struct effects *fx;
	void *region;
	size_t region_bytes;
	struct mem mem;
	struct inbox *inbox;
	struct ctl *ctl;
	struct cpg *cpg;
	struct tls *tls;
	struct fuse_ops *fuse;
	struct datapath *data;
	struct dying *dying;
	int ep, signal_fd;
	/*
	 * Held by who calls node_step() and carries out its effects: the loop's thread, or a data thread
	 * (loop.c, rule 3). Everything here belongs to the holder.
	 */
	pthread_mutex_t core;
	uint64_t now_ns;
	uint64_t sleep_ns; /* until when the loop's thread sleeps; 0: it does not */

	/* loop_lun.c */
	enum loop_path path;
	struct bdev *own;
	bool own_up, own_down; /* what on_state has said */
	bool data_up, data_open; /* data_open: PATH_CLOSED is still to come */
	char path_text[BDEV_TEXT_MAX], logged_text[BDEV_TEXT_MAX];
	struct bdev_config own_cfg;
	int own_fd, own_events; /* as registered with epoll; -1: not */
	struct list ended; /* struct lun_io */
	struct list registering; /* struct lun_io that the data sessions have not answered */
	uint32_t unsent; /* commands submitted since the last flush */

	bool ready, stopping, exiting;
	uint32_t stop_signals;
	int32_t exit_err;
	char exit_text[256];
};

/* loop_lun.c: the core's own session, and the path as a whole */
void loop_lun_init(struct loop *l);
void loop_lun_close(struct loop *l);
void loop_lun_submit(struct loop *l, uint64_t tag, const struct lun_cmd *cmd);
void loop_lun_service(struct loop *l, int revents);
void loop_lun_flush(struct loop *l);
void loop_lun_poll(struct loop *l); /* brings epoll up to date */
/* No answer for too long? When to ask again. */
uint64_t loop_lun_watch(struct loop *l);
/*
 * The next command that has ended, as an event; false: none. `io`: to be freed with
 * loop_lun_free().
 */
bool loop_lun_next(struct loop *l, struct event *ev, struct lun_io **io);
void loop_lun_free(struct lun_io *io);
void loop_lun_registered(struct loop *l, const struct event *ev);

void loop_path_open(struct loop *l);
void loop_path_close(struct loop *l);
void loop_path_data(struct loop *l, const struct event *ev);
/* Acts on what the sessions have said; called when no callback is running. */
void loop_path_step(struct loop *l);

/* loop_state.c: the core's answer to CTL_STATE, with what only the shells know. malloc'ed. */
char *loop_state(struct loop *l, const char *json, size_t len, size_t *out_len);

#endif
