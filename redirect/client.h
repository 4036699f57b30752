/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * client.h - what this node asks of others: requests to the coordinator, wherever it is, and block I/O
 * through a peer while this node has no path of its own.
 *
 * Requests. Each is kept until its reply is here, across sessions and coordinators, for ever.
 *
 *	client_submit() -> QUEUED --a slot is free--> READY --served--> SENT --reply--> answered
 *	                                                ^-- coordinator down, or could not take it --+
 *
 *  R1 A request that may change something has a slot and a sequence number of its own from READY on, and
 *     keeps both when it is sent again: the coordinator's reply cache then executes it at most once
 *     (invariant 11 of the system). A slot is used again only after the reply.
 *  R2 Requests are sent only between client_serve_*() and client_down(): before a new coordinator has
 *     heard what this node holds (reclaim), an answer could be wrong.
 *  R3 Sent again, requests keep the order in which they were sent first.
 *  R4 A reply counts if its tag is that of a SENT request and its id is the request's. Others are late
 *     (the coordinator answered twice, or a life ago) and ignored.
 *  R5 Only a request that was never sent can be cancelled: a sent one may have been executed.
 *
 * Block I/O. One EV_BLOCK is carried as pieces, one message each, since each is one command on the LUN.
 *
 *	client_block_submit() -> HELD --peer--> SENT --reply--> DONE       (all pieces: FX_BLOCK_DONE)
 *	                          ^               |
 *	   refused, read lost ----+               +-- write: session lost, or the peer does not know
 *	   client_block_resend()  ^               v
 *	                          +----------- UNKNOWN
 *
 *  B1 A write whose outcome is unknown (invariant 9) is not sent again before the node's core says that the
 *     older attempt can no longer land: it was fenced, or the same life of the peer says so.
 *  B2 While a write is UNKNOWN no other write of one of its bytes is sent.
 *  B3 Nothing is acknowledged before every piece is DONE.
 *  B4 A peer that has just refused is not asked again before CLIENT_BLOCK_PAUSE_NS: else it would be as fast
 *     as the network is.
 *  B5 A write that was given up (a limit of patience) is not sent again; that it can land no more is told.
 *
 * Invariants of both are asserted by client_check(). Nothing here emits more than effects_room() allows:
 * what did not fit goes with the next step, and client_deadline() says "now".
 */
#ifndef CSVFS_REDIRECT_CLIENT_H
#define CSVFS_REDIRECT_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/mem.h"
#include "csvfs/base/platform.h"
#include "csvfs/base/trace.h"
#include "redirect/session.h"

#define CLIENT_BLOCK_PAUSE_NS (100 * NS_PER_MS)

struct client;

struct client_config {
	struct mem *mem;
	const struct trace *trace;
	uint32_t node;
	uint64_t life;
};

/* NULL: not enough memory. */
struct client *client_create(const struct client_config *cfg);

/* ------------------------------------------------------------------ requests */

/*
 * Takes a copy of rq, with its data and extents; its id is filled in here. It is answered with `tag`.
 * -EINVAL: no coordinator could read it (a name too long, a range out of limits); -ENOMEM. Then the
 * caller answers, and nothing is kept.
 */
int client_submit(struct client *c, uint64_t tag, const struct fs_request *rq, uint64_t now_ns);

/* True: it had never been sent, is forgotten, and the caller answers (-EINTR). False: it goes on. */
bool client_cancel(struct client *c, uint64_t tag);

/*
 * All rights were lost: a LAYOUT_COMMIT that has not been answered says nothing any more, if it has not been
 * executed. The space may be another's.
 */
void client_void_commits(struct client *c);
/* client_unanswered() does not tell of an APPEND of before until it has been sent again. */
void client_unname_appends(struct client *c);
/*
 * The same of one request that may change something: nobody is told any more what it did. Sent again it does nothing, but its answer is that of before if it was executed. Any other request is left as it is.
 */
void client_void_change(struct client *c, uint64_t tag);
/* Has that one been sent to who serves now? Its id, valid until it is answered; NULL: no, or it has no slot. */
const struct fs_reqid *client_change_out(const struct client *c, uint64_t tag);

/* The coordinator serves us, over this session or in this process: send all that is unanswered. */
void client_serve_remote(struct client *c, struct session *s);
void client_serve_local(struct client *c);

/* Nobody serves: what was sent goes back to READY. Also when the coordinator's session went down. */
void client_down(struct client *c);
bool client_served(const struct client *c);

/*
 * While serving locally: the next request to hand to the coordinator in this process, or NULL. It stays
 * valid until client_answered() with its *wire_tag, or client_down().
 */
const struct fs_request *client_next_local(struct client *c, uint64_t *wire_tag);
/* The coordinator in this process could not take it, and did nothing: it is the next one again. */
void client_again_local(struct client *c, uint64_t wire_tag);
/* Would that give one? */
bool client_has_local(const struct client *c);

/*
 * A reply has come: MSG_REPLY's tag and id, or a local one's. True: it ends the request that was
 * submitted with *tag, which is forgotten here. False: a late or doubled reply, to be ignored.
 */
bool client_answered(struct client *c, uint64_t wire_tag, const struct fs_reqid *id,
	uint64_t now_ns, uint64_t *tag);

/*
 * Requests that have waited since before `before_ns` (a limit the user set), one per call: their processes are to be
 * answered with an error. *sent: it may have been executed; it keeps its slot and is sent again until its real
 * reply has come, which client_answered() tells as any other. Not sent: it is forgotten.
 */
bool client_next_expired(struct client *c, uint64_t before_ns, uint64_t *tag, bool *sent);

/* Does a request of this kind use the slot (1 to SLOTS_MAX) that was sent, and has no answer yet? Not one that is void, or unnamed. */
bool client_unanswered(const struct client *c, uint32_t slot, enum fs_op op, uint64_t *ino, uint64_t *seq);

/* ------------------------------------------------------------------ block I/O through a peer */

/*
 * Of an EV_BLOCK; the segments are copied, the data handle stays the data path's until FX_BLOCK_DONE or
 * FX_BLOCK_RETRY. A write with block.unknown starts UNKNOWN. -ENOMEM.
 */
int client_block_submit(struct client *c, const struct event *ev);

/*
 * Through this session from now on; NULL: through none. Pieces that were sent over another one become HELD
 * (reads, flushes) or UNKNOWN (writes). Call with NULL as soon as a session is down.
 * `incarnation`: this node's, in whose name the peer writes.
 */
void client_block_peer(struct client *c, struct session *s, uint32_t incarnation);
const struct session *client_block_session(const struct client *c);
/* A session has ended that was not the peer's: what was sent over it, before, has an unknown outcome, too. */
void client_block_lost(struct client *c);

/* Has a write an unknown outcome? Is a piece under way over that session? */
bool client_block_unknown(const struct client *c);
bool client_block_under_way(const struct client *c, const struct session *s);

/* Older attempts of the UNKNOWN writes can no longer land (B1): they are HELD again. */
void client_block_resend(struct client *c);

enum client_block_result {
	CLIENT_BLOCK_OK, /* dealt with; FX_BLOCK_DATA, FX_BLOCK_DONE were emitted */
	CLIENT_BLOCK_STALE, /* late; ignored */
	CLIENT_BLOCK_NO_PATH, /* the peer has no path now: no peer is set any more, choose another */
	CLIENT_BLOCK_FENCED, /* the peer says that our incarnation is fenced: as NO_PATH */
};

/*
 * MSG_BLOCK_REPLY, with the handle of its data (freed here) and the session it came over. Emits what it
 * ends.
 */
enum client_block_result client_block_reply(struct client *c, struct session *s,
	const struct msg *m, uint64_t data, uint64_t now_ns, struct effects *fx);

/*
 * The own path is back. Takes one I/O none of whose pieces is SENT or UNKNOWN; the caller emits
 * FX_BLOCK_RETRY with *tag. False: there is none.
 */
bool client_block_next_idle(struct client *c, uint64_t *tag);

/*
 * All that was planned is void: takes one I/O of file data none of whose pieces is SENT, UNKNOWN ones
 * included; the caller emits FX_BLOCK_RETRY with *tag. It is done anew under rights that are given only when
 * no older attempt can land (B1). False: there is none.
 */
bool client_block_next_void(struct client *c, uint64_t *tag);

/* True: nothing of it had been sent (a read: or nothing is any more): forgotten, the caller answers -EINTR. */
bool client_block_cancel(struct client *c, uint64_t tag);

/*
 * As client_next_expired(). *lands: a write that was sent and may still land (B5); its data and its tag stay in use until
 * FX_BLOCK_DONE or client_block_next_over() says that it is over.
 */
bool client_block_next_expired(struct client *c, uint64_t before_ns, uint64_t *tag, bool *lands);
/* Such a write that can land no more; the caller emits FX_BLOCK_DONE. False: there is none. */
bool client_block_next_over(struct client *c, uint64_t *tag);

/* ------------------------------------------------------------------ both */

/* Sends what may be sent and fits. Call at the end of every step. */
void client_step(struct client *c, uint64_t now_ns, struct effects *fx);
/* 0: something is left to send and can be; a time: B4; NEVER: nothing to do before the next event. */
uint64_t client_deadline(const struct client *c);

struct client_stats {
	uint32_t queued, ready, sent; /* requests now */
	uint32_t block_held, block_sent, block_unknown; /* block I/Os now (by their worst piece) */
	uint32_t slots_used;
	uint64_t oldest_ns; /* when the oldest request without reply was submitted; NEVER: none */
	uint64_t block_oldest_ns; /* the same of block I/O */
	uint64_t requests, resent, late_replies;
	uint64_t longest_stall_ns, block_longest_stall_ns; /* from submit to reply */
	uint64_t block_ops, block_read_bytes, block_write_bytes; /* through peers */
};
void client_get_stats(const struct client *c, struct client_stats *st);

/* Asserts R1 to R5, B1 to B4 as far as a state can show them. */
void client_check(const struct client *c);

#endif
