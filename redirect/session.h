/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * session.h - the sessions of one node: who is at the other end of a connection, and is it alive.
 *
 * A session is a TLS connection over which both sides have said who they are. The side that needs
 * service connects (an *outgoing* session), so between two nodes there is at most one session in each
 * direction. What is said over a session once it is up is not this file's concern, but for PING, PONG
 * and frames of an older epoch.
 *
 *	            session_open()        EV_NET_UP            HELLO_OK
 *	 CLOSED ------------> CONNECTING ----------> HELLO_SENT --------> UP      outgoing
 *	   ^  ^--- retry_ns ---+   |                     |                |
 *	   |                       +---- EV_NET_DOWN, HELLO_NO, no answer +
 *	   |
 *	   |    EV_NET_UP of a connection that is not ours     HELLO
 *	 (none) ------------------------------> HELLO_WAIT ---------> UP      accepted
 *
 * Rules
 *  1. The other side's name is what its certificate says. A HELLO that names another node, another
 *     volume, or our own node id is refused with a text that says what to do.
 *  2. A PING goes out every SESSION_PING_NS, and sooner while the caller is `eager`. A session over which no frame has come for SESSION_DEAD_NS
 *     is dead, and closed: TCP alone notices a lost peer in minutes.
 *  3. The lease runs from the time a PING was *sent* that was then answered, less the age of what the other side
 *     had by then for a proof that it may give leases at all (proven_ns). So it is no later than that proof, and
 *     ends with what the other side knows for certain: that nobody had taken its place then, and that it had not given us up.
 *  4. Frames that belong to an epoch (requests, replies, recalls, reclaim, fencing) are dropped when
 *     theirs is older than ours (invariant 1 of the system).
 *  5. Of accepted sessions from one node only the newest stays: the older ones are what a node left
 *     behind when it lost its connection.
 *  6. A frame that cannot be decoded, or that does not fit the state, ends the session.
 *  7. Connecting again waits 100 ms, twice as long each time up to 2 s; 100 ms again after a session was up.
 *
 * Invariants (session_check)
 *  S1 CLOSED: no connection. Every other state: exactly one, and no two sessions have the same.
 *  S2 UP: peer, life and name are known, and the name is the certificate's.
 *  S3 at most one outgoing session and one accepted session that is UP per peer.
 *  S4 a session that was reported up is reported down before it is reported up again.
 *  S5 the lease of a session is never later than its newest PING.
 */
#ifndef CSVFS_REDIRECT_SESSION_H
#define CSVFS_REDIRECT_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/mem.h"
#include "csvfs/base/platform.h"
#include "csvfs/base/trace.h"
#include "redirect/wire.h"

#define SESSION_PING_NS NS_PER_SEC
#define SESSION_EAGER_NS (50 * NS_PER_MS) /* while the caller waits for a newer word; not before the last PING is answered */
#define SESSION_DEAD_NS (4 * NS_PER_SEC)
#define SESSION_CONNECT_NS (5 * NS_PER_SEC) /* TCP, TLS and HELLO together */
#define SESSION_RETRY_MIN_NS (100 * NS_PER_MS)
#define SESSION_RETRY_MAX_NS (2 * NS_PER_SEC)
#define SESSION_PINGS 8 /* that can be unanswered before a session is dead; a power of two */

/* Out and in per node, and as many again that have not said who they are. */
#define SESSIONS_MAX (4 * NODES_MAX)

enum session_state {
	SESSION_FREE = 0, /* an unused entry of the table */
	SESSION_CLOSED,
	SESSION_CONNECTING,
	SESSION_HELLO_SENT,
	SESSION_HELLO_WAIT,
	SESSION_UP,
};

struct session {
	enum session_state state;
	bool outgoing; /* we connected */
	bool wanted; /* outgoing: connect again when it is lost */
	uint64_t conn; /* 0: none */
	uint32_t peer; /* node id; 0: not known yet */
	uint32_t peer_incarnation;
	uint64_t peer_life;
	uint64_t peer_epoch; /* newest seen from there */
	char name[NODE_NAME_MAX]; /* outgoing: expected; else from the certificate */
	char addr[ADDR_MAX];
	uint16_t port;
	char why[192]; /* why it is not up, for an administrator */
	bool distrusted; /* ... it ended last because a certificate was refused, here or there */
	void *owner; /* the caller's: what it knows of this peer */

	/* session.c's own */
	uint32_t nr; /* grows with each session that was up: a stale pointer shows */
	bool told_up, note_up, note_down;
	uint64_t since_ns; /* of the state */
	uint64_t heard_ns; /* last frame */
	uint64_t ping_ns; /* when the next PING is due */
	uint64_t ping_seq; /* of the newest PING; 0: none */
	uint64_t ping_sent_ns[SESSION_PINGS];
	uint64_t pong_seq; /* the newest PING that was answered */
	bool eager; /* set by the caller: it waits for a newer lease */
	uint64_t lease_ns; /* from when the lease runs (rule 3); 0: there is none */
	uint64_t retry_ns, retry_wait_ns;
	uint64_t stale_frames;
	struct sessions *all;
};

struct sessions {
	uint8_t uuid[16];
	uint32_t node;
	uint64_t life;
	char name[NODE_NAME_MAX];
	const struct trace *trace;
	uint32_t incarnation; /* what our HELLO says: set by the caller, 0: no path */
	uint64_t epoch; /* newest we know: sessions_set_epoch() */
	bool stopping;
	uint64_t now_ns; /* of the step */
	uint64_t proven_ns; /* set by the caller: when our right to give leases was proven last; 0: we give none */
	uint64_t next_conn;
	uint32_t ups, notes, used; /* used: entries behind it are free */
	char stranger[192]; /* why a connection was refused last */
	struct wire_room *room;
	struct msg msg; /* the one just decoded */
	struct msg out; /* the one being sent */
	struct session s[SESSIONS_MAX];
};

/* What became of a session since the caller last asked. */
enum session_note {
	SESSION_NOTE_NONE = 0,
	SESSION_NOTE_UP,
	SESSION_NOTE_DOWN, /* s->why; an accepted one is gone after this note */
};

/* NULL: not enough memory. `life` is not 0. */
struct sessions *sessions_create(struct mem *mem, const uint8_t uuid[16], uint32_t node,
	const char *name, uint64_t life, const struct trace *trace);

/* Only grows. Older frames of rule 4 are dropped from now on. */
void sessions_set_epoch(struct sessions *ss, uint64_t epoch);

/*
 * An outgoing session to that node: the one there is, or a new one, which connects with the next
 * sessions_step(), and again whenever it is lost, until session_close(). Where it is may change: a new
 * address is used for the next connection. NULL: the table is full (a bug elsewhere).
 */
struct session *session_open(
	struct sessions *ss, uint32_t peer, const char *name, const char *addr, uint16_t port);

/* The session of that node that is UP, or NULL: outgoing (we ask it) or accepted (it asks us). */
struct session *session_to(struct sessions *ss, uint32_t peer);
struct session *session_from(struct sessions *ss, uint32_t peer);

/*
 * The session ends; an outgoing one is not connected again. `goodbye` (may be NULL) is sent first.
 * A session that was told to be up gets its note DOWN all the same.
 */
void session_close(struct session *s, const char *goodbye, struct effects *fx);

/* Drops the connection (a protocol error, a stuck peer); an outgoing session connects again later. */
void session_drop(struct session *s, const char *why, struct effects *fx);

/* Every session: say goodbye, close, take no new ones. */
void sessions_stop(struct sessions *ss, const char *goodbye, struct effects *fx);

/*
 * EV_NET_UP, EV_NET_DOWN, EV_NET_MSG. When the event brought a message for the caller it is returned,
 * with its session in *from: valid until the next call, and only while the event is. Its data handle
 * (ev->net.data) is then the caller's; otherwise it has been freed. NULL: nothing for the caller; ask
 * sessions_note().
 */
const struct msg *sessions_event(
	struct sessions *ss, const struct event *ev, struct effects *fx, struct session **from);

/* Timers: connects, pings, ends what is dead. Call in every step, with its time. */
void sessions_step(struct sessions *ss, uint64_t now_ns, struct effects *fx);
uint64_t sessions_deadline(const struct sessions *ss);

/*
 * Notes, each once; call until SESSION_NOTE_NONE after sessions_event(), sessions_step(), session_drop()
 * and session_close(). A message that sessions_event() returned came while its session was up.
 */
enum session_note sessions_note(struct sessions *ss, struct session **s);

/*
 * Sends m, stamped with our epoch, and [data_off, data_off + m->data_len) of the handle. False: the session
 * is not UP or m cannot be carried (wire.h); nothing was sent. Room for it is the caller's to ask:
 * session_room().
 */
bool session_send(
	struct session *s, struct msg *m, uint64_t data, uint32_t data_off, struct effects *fx);
bool session_room(const struct msg *m, const struct effects *fx);

/*
 * A PING goes out now; its number. When it is answered the other end has come as far as it: all that was sent before has been heard there.
 */
uint64_t session_ping(struct session *s, struct effects *fx);
bool session_ponged(const struct session *s, uint64_t ping);

/*
 * From when the lease runs that this peer gave with word of our epoch or a newer one, ns (rule 3); 0: it gave none.
 */
uint64_t session_lease_ns(const struct session *s);

const char *session_state_name(enum session_state state);
void session_check(const struct sessions *ss);

#endif
