/* SPDX-License-Identifier: GPL-2.0-or-later */
/* client_impl.h - what client.c and client_block.c share; nobody else includes it. */
#ifndef CSVFS_REDIRECT_CLIENT_IMPL_H
#define CSVFS_REDIRECT_CLIENT_IMPL_H

#include "csvfs/base/list.h"
#include "redirect/client.h"

#define CLIENT_BUCKETS 256

/*
 * Bytes of block I/O on their way through one peer: enough to keep a 10 Gbit/s link busy, and few enough
 * that a PING behind them is not late.
 */
#define CLIENT_BLOCK_WINDOW (16u << 20)

enum client_rq_state {
	CLIENT_RQ_QUEUED, /* waits for a slot */
	CLIENT_RQ_READY, /* waits for a coordinator */
	CLIENT_RQ_SENT,
};

struct client_rq {
	struct list link; /* queued, ready or sent */
	struct list link_all; /* in order of submission */
	struct list hash;
	enum client_rq_state state;
	uint32_t times_sent;
	bool unnamed; /* it was sent under rights that have ended */
	bool expired; /* its process was answered with an error already */
	uint64_t tag, wire_tag, submitted_ns;
	void *blob; /* extents and data of rq */
	uint32_t blob_bytes;
	struct fs_request rq;
};

enum client_piece_state {
	CLIENT_PIECE_HELD,
	CLIENT_PIECE_SENT,
	CLIENT_PIECE_UNKNOWN,
	CLIENT_PIECE_DONE,
};
#define CLIENT_PIECE_STATES 4

struct client_piece {
	uint64_t lun_off;
	uint32_t len, buf_off;
	enum client_piece_state state;
	uint32_t session_nr; /* SENT: over this one */
	struct session *session;
};

struct client_io {
	struct list link; /* in order of submission */
	struct list hash;
	uint64_t tag, nr, data, submitted_ns;
	bool write, fua, flush;
	bool ever_sent; /* or begun elsewhere with unknown outcome */
	bool expired; /* answered already; the older attempt's outcome is awaited */
	int32_t err; /* of the first piece that failed */
	uint32_t count[CLIENT_PIECE_STATES]; /* pieces in each state */
	uint32_t piece_count;
	struct client_piece pieces[];
};

struct client {
	struct client_config cfg;
	struct msg out;

	struct list all, queued, ready, sent;
	struct list bucket[CLIENT_BUCKETS];
	uint32_t count;
	uint64_t next_wire_tag;
	struct client_rq *slot_user[SLOTS_MAX + 1]; /* [0] is not used */
	uint64_t slot_seq[SLOTS_MAX + 1];
	uint32_t slots_used;
	bool local;
	struct session *session; /* with nr: it may have gone down and up again */
	uint32_t session_nr;
	uint64_t requests, resent, late_replies, longest_stall_ns;

	struct list ios;
	struct list io_bucket[CLIENT_BUCKETS];
	uint64_t next_io_nr;
	uint32_t pieces[CLIENT_PIECE_STATES]; /* of all I/Os */
	uint64_t sent_bytes;
	uint32_t expired_writes;
	struct session *peer;
	uint32_t peer_nr, incarnation;
	uint64_t pause_ns; /* nothing is sent over session pause_nr before */
	uint32_t pause_nr;
	uint64_t block_ops, block_read_bytes, block_write_bytes, block_longest_stall_ns;

	bool more; /* the last step ended because the effects were full */
	bool paused; /* ... because a peer has just refused */
};

void client_block_init(struct client *c);
void client_block_step(struct client *c, uint64_t now_ns, struct effects *fx);
void client_block_get_stats(const struct client *c, struct client_stats *st);
void client_block_check(const struct client *c);

#endif
