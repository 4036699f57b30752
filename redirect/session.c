/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redirect/session.h"

#include <string.h>

#include "csvfs/base/assert.h"

/* Entries that accepted connections may not take, so that session_open() finds one. */
#define RESERVED_OUTGOING (2 * NODES_MAX)

#define ACCEPTED_BIT (1ull << 63)

/* ------------------------------------------------------------------ states */

/* From each state: the states it may move to, as bits. */
static const uint8_t moves[] = {
	[SESSION_FREE] = 1 << SESSION_CLOSED | 1 << SESSION_HELLO_WAIT,
	[SESSION_CLOSED] = 1 << SESSION_CONNECTING | 1 << SESSION_FREE,
	[SESSION_CONNECTING] = 1 << SESSION_HELLO_SENT | 1 << SESSION_CLOSED,
	[SESSION_HELLO_SENT] = 1 << SESSION_UP | 1 << SESSION_CLOSED,
	[SESSION_HELLO_WAIT] = 1 << SESSION_UP | 1 << SESSION_CLOSED,
	[SESSION_UP] = 1 << SESSION_CLOSED,
};

const char *session_state_name(enum session_state state)
{
	switch (state) {
	case SESSION_FREE:
		return "free";
	case SESSION_CLOSED:
		return "closed";
	case SESSION_CONNECTING:
		return "connecting";
	case SESSION_HELLO_SENT:
		return "hello sent";
	case SESSION_HELLO_WAIT:
		return "hello awaited";
	case SESSION_UP:
		return "up";
	}
	return "?";
}

static void session_move(struct session *s, enum session_state to)
{
	csv_assert(moves[s->state] & (1u << to));
	s->state = to;
	s->since_ns = s->all->now_ns;
}

static void copy_text(char *to, size_t room, const char *from)
{
	size_t n = strnlen(from, room - 1);

	memmove(to, from, n);
	to[n] = 0;
}

/* ------------------------------------------------------------------ the table */

struct sessions *sessions_create(struct mem *mem, const uint8_t uuid[16], uint32_t node,
	const char *name, uint64_t life, const struct trace *t)
{
	struct sessions *ss = mem_alloc(mem, sizeof(*ss));

	csv_assert(life != 0);
	csv_assert(node != 0);
	if (!ss)
		return NULL;
	ss->room = mem_alloc(mem, sizeof(*ss->room));
	if (!ss->room) {
		mem_free(mem, ss, sizeof(*ss));
		return NULL;
	}
	memcpy(ss->uuid, uuid, 16);
	ss->node = node;
	ss->life = life;
	copy_text(ss->name, sizeof(ss->name), name);
	ss->trace = t;
	return ss;
}

void sessions_set_epoch(struct sessions *ss, uint64_t epoch)
{
	if (epoch > ss->epoch)
		ss->epoch = epoch;
}

static struct session *session_new(struct sessions *ss, uint32_t least_free)
{
	struct session *s = NULL;
	uint32_t free = 0;

	for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
		if (ss->s[i].state != SESSION_FREE)
			continue;
		free++;
		if (!s)
			s = &ss->s[i];
	}
	if (free <= least_free)
		return NULL;
	memset(s, 0, sizeof(*s));
	s->all = ss;
	if (s - ss->s >= ss->used)
		ss->used = (uint32_t)(s - ss->s) + 1;
	return s;
}

static void session_free(struct session *s)
{
	struct sessions *ss = s->all;

	session_move(s, SESSION_FREE);
	while (ss->used && ss->s[ss->used - 1].state == SESSION_FREE)
		ss->used--;
}

static struct session *session_of_conn(struct sessions *ss, uint64_t conn)
{
	for (uint32_t i = 0; i < ss->used; i++)
		if (ss->s[i].state != SESSION_FREE && ss->s[i].conn == conn)
			return &ss->s[i];
	return NULL;
}

static struct session *session_up_with(struct sessions *ss, uint32_t peer, bool outgoing)
{
	for (uint32_t i = 0; i < ss->used; i++) {
		struct session *s = &ss->s[i];

		if (s->state == SESSION_UP && s->peer == peer && s->outgoing == outgoing)
			return s;
	}
	return NULL;
}

struct session *session_to(struct sessions *ss, uint32_t peer)
{
	return session_up_with(ss, peer, true);
}

struct session *session_from(struct sessions *ss, uint32_t peer)
{
	return session_up_with(ss, peer, false);
}

struct session *session_open(
	struct sessions *ss, uint32_t peer, const char *name, const char *addr, uint16_t port)
{
	struct session *s = NULL;

	for (uint32_t i = 0; i < ss->used; i++)
		if (ss->s[i].state != SESSION_FREE && ss->s[i].outgoing && ss->s[i].peer == peer)
			s = &ss->s[i];
	if (!s) {
		s = session_new(ss, 0);
		if (!s)
			return NULL;
		session_move(s, SESSION_CLOSED);
		s->outgoing = true;
		s->peer = peer;
		s->retry_wait_ns = SESSION_RETRY_MIN_NS;
		copy_text(s->why, sizeof(s->why), "not connected yet");
	}
	s->wanted = !ss->stopping;
	if (s->port != port || strcmp(s->addr, addr) != 0 || strcmp(s->name, name) != 0) {
		/* It is somewhere else now: no reason to wait. */
		s->retry_ns = 0;
		s->retry_wait_ns = SESSION_RETRY_MIN_NS;
		s->port = port;
		copy_text(s->addr, sizeof(s->addr), addr);
		if (s->state != SESSION_UP)
			copy_text(s->name, sizeof(s->name), name);
	}
	return s;
}

/* ------------------------------------------------------------------ sending */

bool session_room(const struct msg *m, const struct effects *fx)
{
	return effects_room(fx, 1, wire_bound(m) + 16);
}

static bool send_frame(
	struct session *s, struct msg *m, uint64_t data, uint32_t data_off, struct effects *fx)
{
	uint32_t room = wire_bound(m), len;
	struct effect *e;
	void *frame;

	m->epoch = s->all->epoch;
	if (room > WIRE_HEADER_BYTES + FRAME_BODY_MAX)
		return false;
	frame = effects_alloc(fx, room);
	len = wire_encode(m, frame, room);
	if (!len)
		return false;
	e = effects_add(fx, FX_NET_SEND, 0);
	e->net.conn = s->conn;
	e->net.bytes = frame;
	e->net.len = len;
	e->net.data = m->data_len ? data : 0;
	e->net.data_off = data_off;
	e->net.data_len = m->data_len;
	return true;
}

bool session_send(
	struct session *s, struct msg *m, uint64_t data, uint32_t data_off, struct effects *fx)
{
	return s->state == SESSION_UP && send_frame(s, m, data, data_off, fx);
}

static void send_hello(struct session *s, enum msg_type type, struct effects *fx)
{
	struct sessions *ss = s->all;
	struct msg *m = &ss->out;

	memset(m, 0, sizeof(*m));
	m->type = type;
	memcpy(m->hello.uuid, ss->uuid, 16);
	m->hello.node = ss->node;
	m->hello.life = ss->life;
	m->hello.incarnation = ss->incarnation;
	copy_text(m->hello.name, sizeof(m->hello.name), ss->name);
	(void)send_frame(
		s, m, 0, 0, fx); /* a name that cannot be sent: the other side's time ends it */
}

static void send_ping(struct session *s, enum msg_type type, uint64_t seq, struct effects *fx)
{
	struct msg *m = &s->all->out;

	memset(m, 0, sizeof(*m));
	m->type = type;
	m->ping.seq = seq;
	if (type == MSG_PONG)
		m->ping.age_ns = s->all->proven_ns ? s->all->now_ns - s->all->proven_ns : WIRE_NO_LEASE;
	(void)send_frame(s, m, 0, 0, fx);
}

uint64_t session_ping(struct session *s, struct effects *fx)
{
	uint64_t now_ns = s->all->now_ns;

	s->ping_ns = now_ns + SESSION_PING_NS;
	s->ping_seq++;
	s->ping_sent_ns[s->ping_seq % SESSION_PINGS] = now_ns;
	send_ping(s, MSG_PING, s->ping_seq, fx);
	return s->ping_seq;
}

bool session_ponged(const struct session *s, uint64_t ping)
{
	return s->pong_seq >= ping;
}

static void send_goodbye(struct session *s, const char *text, struct effects *fx)
{
	struct msg *m = &s->all->out;

	memset(m, 0, sizeof(*m));
	m->type = MSG_GOODBYE;
	copy_text(m->goodbye.text, sizeof(m->goodbye.text), text);
	(void)send_frame(s, m, 0, 0, fx);
}

/* ------------------------------------------------------------------ ends */

/* The session has no connection any more. What was reported up will be reported down. */
static void session_down(struct session *s, const char *why)
{
	struct sessions *ss = s->all;
	bool news = strcmp(s->why, why) != 0;

	if (s->state == SESSION_UP || news)
		trace(ss->trace, s->state == SESSION_UP ? TRACE_WARN : TRACE_INFO,
			"session %s %s: %s -> closed: %s", s->outgoing ? "to" : "from",
			s->name[0] ? s->name : "?", session_state_name(s->state), why);
	copy_text(s->why, sizeof(s->why), why);
	s->conn = 0;
	session_move(s, SESSION_CLOSED);
	/* Rule 7. */
	s->retry_ns = ss->now_ns + s->retry_wait_ns;
	s->retry_wait_ns *= 2;
	if (s->retry_wait_ns > SESSION_RETRY_MAX_NS)
		s->retry_wait_ns = SESSION_RETRY_MAX_NS;
	if (s->note_up) {
		s->note_up = false;
		ss->notes--;
	}
	if (s->told_up && !s->note_down) {
		s->note_down = true;
		ss->notes++;
	}
	if (!s->told_up && !s->wanted)
		session_free(s);
}

static void net_close(uint64_t conn, struct effects *fx)
{
	effects_add(fx, FX_NET_CLOSE, 0)->net.conn = conn;
}

void session_drop(struct session *s, const char *why, struct effects *fx)
{
	if (!s->conn)
		return;
	net_close(s->conn, fx);
	session_down(s, why);
}

void session_close(struct session *s, const char *goodbye, struct effects *fx)
{
	if (s->state == SESSION_FREE)
		return;
	s->wanted = false;
	if (s->state == SESSION_UP && goodbye)
		send_goodbye(s, goodbye, fx);
	if (s->conn)
		session_drop(s, goodbye ? goodbye : "closed here", fx);
	else if (!s->told_up)
		session_free(s);
}

void sessions_stop(struct sessions *ss, const char *goodbye, struct effects *fx)
{
	ss->stopping = true;
	for (uint32_t i = 0; i < ss->used; i++)
		session_close(&ss->s[i], goodbye, fx);
}

/* ------------------------------------------------------------------ hello */

static void uuid_text(char out[40], const uint8_t u[16])
{
	static const char hex[] = "0123456789abcdef";
	uint32_t n = 0;

	for (uint32_t i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			out[n++] = '-';
		out[n++] = hex[u[i] >> 4];
		out[n++] = hex[u[i] & 15];
	}
	out[n] = 0;
}

/*
 * Rule 1: why the other side is not who it says, in words for its administrator; 0: it is.
 * `certificate` is the name that its certificate proves.
 */
static uint32_t hello_refused(const struct sessions *ss, const struct msg_hello *h,
	const char *certificate, char text[WIRE_TEXT_MAX])
{
	char ours[40], theirs[40];

	if (memcmp(h->uuid, ss->uuid, 16) != 0) {
		uuid_text(ours, ss->uuid);
		uuid_text(theirs, h->uuid);
		trace_format(text, WIRE_TEXT_MAX,
			"%s serves volume %s here, %s asked for %s: give each volume its own port",
			ss->name, ours, h->name, theirs);
		return HELLO_NO_VOLUME;
	}
	if (strcmp(h->name, certificate) != 0) {
		trace_format(text, WIRE_TEXT_MAX,
			"node %s has the certificate of %s: make its own with 'csvctl pki node DIR "
			"%s'",
			h->name, certificate, h->name);
		return HELLO_NO_NAME;
	}
	if (h->node == ss->node) {
		trace_format(text, WIRE_TEXT_MAX,
			"%s and %s both have node id %u: change one nodeid in corosync.conf",
			h->name, ss->name, h->node);
		return HELLO_NO_NODE;
	}
	if (ss->stopping) {
		trace_format(text, WIRE_TEXT_MAX, "%s is unmounting", ss->name);
		return HELLO_NO_STOPPING;
	}
	return 0;
}

static void session_up(struct session *s, const struct msg *m)
{
	struct sessions *ss = s->all;

	s->peer = m->hello.node;
	s->peer_life = m->hello.life;
	s->peer_incarnation = m->hello.incarnation;
	s->peer_epoch = m->epoch;
	s->nr = ++ss->ups;
	s->ping_ns = ss->now_ns;
	s->ping_seq = s->pong_seq = 0;
	s->eager = false;
	s->lease_ns = 0;
	s->retry_wait_ns = SESSION_RETRY_MIN_NS;
	s->why[0] = 0;
	s->distrusted = false;
	session_move(s, SESSION_UP);
	s->note_up = true;
	ss->notes++;
	trace(ss->trace, TRACE_INFO, "session %s %s is up: node %u, life %llx, epoch %llu",
		s->outgoing ? "to" : "from", s->name, s->peer, (unsigned long long)s->peer_life,
		(unsigned long long)s->peer_epoch);
}

/* Accepted: the other side says who it is. */
static void hello_in(struct session *s, const struct msg *m, struct effects *fx)
{
	struct sessions *ss = s->all;
	char text[WIRE_TEXT_MAX];
	struct session *older;
	uint32_t no;

	no = hello_refused(ss, &m->hello, s->name, text);
	if (no) {
		memset(&ss->out, 0, sizeof(ss->out));
		ss->out.type = MSG_HELLO_NO;
		ss->out.hello_no.code = (enum hello_no)no;
		copy_text(ss->out.hello_no.text, sizeof(ss->out.hello_no.text), text);
		(void)send_frame(s, &ss->out, 0, 0, fx);
		trace(ss->trace, TRACE_WARN, "refused: %s", text);
		session_drop(s, text, fx);
		return;
	}
	/* Rule 5. */
	older = session_from(ss, m->hello.node);
	if (older)
		session_drop(older, "it connected again", fx);
	send_hello(s, MSG_HELLO_OK, fx);
	session_up(s, m);
}

/* Outgoing: the other side's answer. */
static void hello_answer(struct session *s, const struct msg *m, struct effects *fx)
{
	struct sessions *ss = s->all;
	char text[WIRE_TEXT_MAX];

	if (m->type == MSG_HELLO_NO) {
		s->retry_wait_ns = SESSION_RETRY_MAX_NS;
		trace_format(text, sizeof(text), "refused by %s: %s", s->name, m->hello_no.text);
		if (m->epoch > s->peer_epoch)
			s->peer_epoch = m->epoch;
		session_drop(s, text, fx);
		return;
	}
	if (hello_refused(ss, &m->hello, s->name, text)) {
		s->retry_wait_ns = SESSION_RETRY_MAX_NS;
		session_drop(s, text, fx);
		return;
	}
	if (m->hello.node != s->peer) {
		trace_format(text, sizeof(text), "%s is node %u, not %u", s->name, m->hello.node,
			s->peer);
		session_drop(s, text, fx);
		return;
	}
	session_up(s, m);
}

/* ------------------------------------------------------------------ events */

static void net_up(struct sessions *ss, const struct event *ev, struct effects *fx)
{
	struct session *s = session_of_conn(ss, ev->net.conn);
	char text[192];

	if (!s && !(ev->net.conn & ACCEPTED_BIT)) {
		net_close(ev->net.conn, fx); /* we gave it up while it connected */
		return;
	}
	if (!s) {
		s = ss->stopping ? NULL : session_new(ss, RESERVED_OUTGOING);
		if (!s) {
			net_close(ev->net.conn, fx);
			return;
		}
		s->conn = ev->net.conn;
		copy_text(s->name, sizeof(s->name), ev->net.name);
		s->heard_ns = ss->now_ns;
		session_move(s, SESSION_HELLO_WAIT);
		return;
	}
	if (s->state != SESSION_CONNECTING)
		return;
	if (strcmp(s->name, ev->net.name) != 0) {
		trace_format(text, sizeof(text), "%s answers with the certificate of %s", s->addr,
			ev->net.name);
		session_drop(s, text, fx);
		return;
	}
	s->heard_ns = ss->now_ns;
	session_move(s, SESSION_HELLO_SENT);
	send_hello(s, MSG_HELLO, fx);
}

static void pong(struct session *s, const struct msg *m)
{
	uint64_t seq = m->ping.seq, sent_ns;

	/* Rule 3. Only word of our epoch counts: an older coordinator's right to give leases is over. */
	if (seq == 0 || seq > s->ping_seq || s->ping_seq - seq >= SESSION_PINGS ||
		m->epoch < s->all->epoch)
		return;
	if (seq > s->pong_seq)
		s->pong_seq = seq;
	sent_ns = s->ping_sent_ns[seq % SESSION_PINGS];
	if (m->ping.age_ns < sent_ns && sent_ns - m->ping.age_ns > s->lease_ns)
		s->lease_ns = sent_ns - m->ping.age_ns;
}

/* Rule 4: what belongs to an epoch. */
static bool of_epoch(enum msg_type type)
{
	return (type >= MSG_REQUEST && type <= MSG_TIMES_TOLD) || (type >= MSG_CARRY && type <= MSG_WAY);
}

/* A message of an established session. True: it is for the caller. */
static bool session_msg(struct session *s, const struct msg *m, struct effects *fx)
{
	char text[192];

	if (m->epoch > s->peer_epoch)
		s->peer_epoch = m->epoch;
	switch (m->type) {
	case MSG_PING:
		send_ping(s, MSG_PONG, m->ping.seq, fx);
		return false;
	case MSG_PONG:
		pong(s, m);
		return false;
	case MSG_GOODBYE:
		trace_format(text, sizeof(text), "%s said goodbye: %s", s->name, m->goodbye.text);
		session_drop(s, text, fx);
		return false;
	case MSG_HELLO:
	case MSG_HELLO_OK:
	case MSG_HELLO_NO:
		session_drop(s, "sent a second HELLO", fx);
		return false;
	case MSG_REQUEST:
	case MSG_REPLY:
	case MSG_RECALL:
	case MSG_RECLAIM:
	case MSG_RECLAIM_END:
	case MSG_RECLAIM_LOCKS:
	case MSG_RECLAIM_APPENDS:
	case MSG_TIMES:
	case MSG_TIMES_TOLD:
	case MSG_CACHE_RECALL:
	case MSG_CACHE_GONE:
	case MSG_SERVE:
	case MSG_VOID:
	case MSG_BLOCK:
	case MSG_BLOCK_REPLY:
	case MSG_CARRY:
	case MSG_CARRIED:
	case MSG_WAY:
	case MSG_CTL:
	case MSG_CTL_REPLY:
		break;
	}
	if (of_epoch(m->type) && m->epoch < s->all->epoch) {
		s->stale_frames++;
		trace(s->all->trace, TRACE_DEBUG, "dropped %s of epoch %llu from %s, ours is %llu",
			msg_type_name(m->type), (unsigned long long)m->epoch, s->name,
			(unsigned long long)s->all->epoch);
		return false;
	}
	return true;
}

/* True: ss->msg is for the caller. */
static bool net_msg(struct session *s, const struct event *ev, struct effects *fx)
{
	struct msg *m = &s->all->msg;

	s->heard_ns = s->all->now_ns;
	if (wire_decode(m, ev->net.bytes, ev->net.len, s->all->room) ||
		m->data_len != ev->net.data_len) {
		session_drop(s, "sent a frame that is not in the protocol", fx);
		return false;
	}
	switch (s->state) {
	case SESSION_UP:
		return session_msg(s, m, fx);
	case SESSION_HELLO_WAIT:
		if (m->type == MSG_HELLO)
			hello_in(s, m, fx);
		else
			session_drop(s, "did not begin with HELLO", fx);
		return false;
	case SESSION_HELLO_SENT:
		if (m->type == MSG_HELLO_OK || m->type == MSG_HELLO_NO)
			hello_answer(s, m, fx);
		else
			session_drop(s, "did not answer HELLO", fx);
		return false;
	case SESSION_CONNECTING:
	case SESSION_CLOSED:
	case SESSION_FREE:
		break;
	}
	session_drop(s, "sent a frame before it was connected", fx);
	return false;
}

/* A connection that never came up: said once, not with each try. */
static void stranger(struct sessions *ss, const char *reason)
{
	if (strcmp(ss->stranger, reason) == 0)
		return;
	copy_text(ss->stranger, sizeof(ss->stranger), reason);
	trace(ss->trace, TRACE_WARN, "refused a connection: %s", reason);
}

const struct msg *sessions_event(
	struct sessions *ss, const struct event *ev, struct effects *fx, struct session **from)
{
	struct session *s;

	ss->now_ns = ev->now_ns;
	*from = NULL;
	if (ev->type == EV_NET_UP) {
		net_up(ss, ev, fx);
		return NULL;
	}
	s = session_of_conn(ss, ev->net.conn);
	if (ev->type == EV_NET_DOWN) {
		if (s) {
			s->distrusted = ev->net.distrust;
			session_down(s, ev->net.reason);
		} else if (ev->net.conn & ACCEPTED_BIT)
			stranger(ss, ev->net.reason);
		return NULL;
	}
	csv_assert(ev->type == EV_NET_MSG);
	if (s && net_msg(s, ev, fx)) {
		*from = s;
		return &ss->msg;
	}
	if (ev->net.data)
		effects_add(fx, FX_DATA_FREE, 0)->data = ev->net.data;
	return NULL;
}

enum session_note sessions_note(struct sessions *ss, struct session **out)
{
	*out = NULL;
	if (!ss->notes)
		return SESSION_NOTE_NONE;
	/* Downs first: the older session of a peer ends before its newer one begins. */
	for (uint32_t i = 0; i < ss->used; i++) {
		struct session *s = &ss->s[i];

		if (s->state == SESSION_FREE || !s->note_down)
			continue;
		s->note_down = false;
		s->told_up = false;
		ss->notes--;
		*out = s;
		if (s->state == SESSION_CLOSED && !s->wanted)
			session_free(s);
		return SESSION_NOTE_DOWN;
	}
	for (uint32_t i = 0; i < ss->used; i++) {
		struct session *s = &ss->s[i];

		if (s->state == SESSION_FREE || !s->note_up)
			continue;
		s->note_up = false;
		s->told_up = true;
		ss->notes--;
		*out = s;
		return SESSION_NOTE_UP;
	}
	csv_assert(false);
	return SESSION_NOTE_NONE;
}

/* ------------------------------------------------------------------ time */

static void session_connect(struct session *s, struct effects *fx)
{
	struct effect *e = effects_add(fx, FX_NET_CONNECT, 0);

	s->conn = ++s->all->next_conn;
	e->net.conn = s->conn;
	e->net.port = s->port;
	copy_text(e->net.addr, sizeof(e->net.addr), s->addr);
	copy_text(e->net.name, sizeof(e->net.name), s->name);
	session_move(s, SESSION_CONNECTING);
}

/* Rule 2. An answer that is on its way is waited for: more than SESSION_PINGS of ours would make it void. */
static uint64_t next_ping_ns(const struct session *s)
{
	uint64_t eager_ns;

	if (!s->eager || s->pong_seq != s->ping_seq || !s->ping_seq)
		return s->ping_ns;
	eager_ns = s->ping_sent_ns[s->ping_seq % SESSION_PINGS] + SESSION_EAGER_NS;
	return eager_ns < s->ping_ns ? eager_ns : s->ping_ns;
}

static uint64_t session_deadline(const struct session *s)
{
	uint64_t dead_ns, ping_ns;

	switch (s->state) {
	case SESSION_FREE:
		return NEVER;
	case SESSION_CLOSED:
		return s->wanted && s->addr[0] && !s->note_down ? s->retry_ns : NEVER;
	case SESSION_CONNECTING:
	case SESSION_HELLO_SENT:
	case SESSION_HELLO_WAIT:
		return s->since_ns + SESSION_CONNECT_NS;
	case SESSION_UP:
		dead_ns = s->heard_ns + SESSION_DEAD_NS;
		ping_ns = next_ping_ns(s);
		return dead_ns < ping_ns ? dead_ns : ping_ns;
	}
	return NEVER;
}

static void session_step(struct session *s, struct effects *fx)
{
	uint64_t now_ns = s->all->now_ns;
	char text[192];

	switch (s->state) {
	case SESSION_FREE:
		return;
	case SESSION_CLOSED:
		session_connect(s, fx);
		return;
	case SESSION_CONNECTING:
	case SESSION_HELLO_SENT:
	case SESSION_HELLO_WAIT:
		trace_format(text, sizeof(text), "no answer in %u s (%s)",
			(unsigned)(SESSION_CONNECT_NS / NS_PER_SEC), session_state_name(s->state));
		session_drop(s, text, fx);
		return;
	case SESSION_UP:
		break;
	}
	if (now_ns >= s->heard_ns + SESSION_DEAD_NS) {
		trace_format(text, sizeof(text), "nothing heard for %u s",
			(unsigned)(SESSION_DEAD_NS / NS_PER_SEC));
		session_drop(s, text, fx);
		return;
	}
	(void)session_ping(s, fx);
}

void sessions_step(struct sessions *ss, uint64_t now_ns, struct effects *fx)
{
	ss->now_ns = now_ns;
	for (uint32_t i = 0; i < ss->used; i++)
		if (now_ns >= session_deadline(&ss->s[i]))
			session_step(&ss->s[i], fx);
}

uint64_t sessions_deadline(const struct sessions *ss)
{
	uint64_t first_ns = NEVER;

	for (uint32_t i = 0; i < ss->used; i++) {
		uint64_t ns = session_deadline(&ss->s[i]);

		if (ns < first_ns)
			first_ns = ns;
	}
	return first_ns;
}

uint64_t session_lease_ns(const struct session *s)
{
	return s->state == SESSION_UP ? s->lease_ns : 0;
}

/* ------------------------------------------------------------------ invariants */

static void check_one(const struct session *s)
{
	bool live = s->state != SESSION_FREE && s->state != SESSION_CLOSED;

	csv_assert(live == (s->conn != 0)); /* S1 */
	csv_assert(!live || s->outgoing == !(s->conn & ACCEPTED_BIT));
	csv_assert(!s->note_up || s->state == SESSION_UP); /* S4 */
	csv_assert(!s->note_down || s->told_up);
	csv_assert(!(s->note_up && s->told_up));
	if (s->state != SESSION_UP)
		return;
	csv_assert(s->peer != 0 && s->peer != s->all->node); /* S2 */
	csv_assert(s->peer_life != 0);
	csv_assert(s->name[0] != 0);
	csv_assert(s->note_up || s->told_up);
	csv_assert(s->lease_ns <= (s->ping_seq ? s->ping_sent_ns[s->ping_seq % SESSION_PINGS] : 0));
}

void session_check(const struct sessions *ss)
{
	uint32_t notes = 0;

	for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
		const struct session *s = &ss->s[i];

		if (s->state == SESSION_FREE)
			continue;
		csv_assert(i < ss->used);
		check_one(s);
		notes += s->note_up + s->note_down;
		for (uint32_t j = 0; j < i; j++) {
			const struct session *o = &ss->s[j];

			if (o->state == SESSION_FREE)
				continue;
			csv_assert(!s->conn || s->conn != o->conn); /* S1 */
			csv_assert(s->state != SESSION_UP || o->state != SESSION_UP ||
				   s->peer != o->peer || s->outgoing != o->outgoing); /* S3 */
		}
	}
	csv_assert(notes == ss->notes);
}
