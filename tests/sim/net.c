/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net.c - connections between nodes: in order, delayed, broken at any moment, with what was on its
 * way lost; a node that lost power leaves them half open.
 */
#include <string.h>

#include "redirect/wire.h"
#include "tests/sim/sim.h"

#define ACCEPTED (1ull << 63)

struct frame {
	struct sim_conn *c;
	struct snode *to;
	enum ev_type type;
	uint64_t data;
	uint32_t data_len, len;
	uint8_t bytes[];
};

static void conn_event(struct sim *s, struct snode *n, enum ev_type type, uint64_t conn,
	const char *name, const char *reason)
{
	struct event ev = {.type = type};

	ev.net.conn = conn;
	strncpy(ev.net.name, name ? name : "", sizeof(ev.net.name) - 1);
	strncpy(ev.net.reason, reason ? reason : "", sizeof(ev.net.reason) - 1);
	node_feed(s, n, &ev);
}

static bool lives(struct sim *s, const struct sim_conn *c, uint32_t node)
{
	const struct snode *n = &s->n[node];

	return n->up && n->life_nr == (node == c->a ? c->life_a : c->life_b);
}

static bool reachable(struct sim *s, const struct sim_conn *c)
{
	return s->n[c->a].net_side == s->n[c->b].net_side && !s->n[c->a].port_cut && !s->n[c->b].port_cut;
}

static void conn_break(struct sim *s, struct sim_conn *c, uint32_t except);

#define HEADER 32u /* redirect/WIRE.md */
#define TYPE_AT 6u
#define BODY_LEN_AT 8u
#define DATA_LEN_AT 12u
#define HELLO 1
#define HELLO_OK 2
#define REQUEST 16
#define REPLY 17
#define RECALL 18
#define RECLAIM_END 20
#define SERVE 21
#define BLOCK 32
#define CACHE_RECALL 26
#define BLOCK_REPLY 33

static void put32(uint8_t *at, uint32_t v)
{
	memcpy(at, &v, 4);
}

/* Some bytes of the body are others. Not every such frame is wrong: one that is not is let be (false). */
static bool mangle(struct sim *s, uint8_t *b, uint32_t len)
{
	static struct wire_room room;
	static struct msg m;
	uint32_t body = len - HEADER;

	for (uint32_t k = 0; body && k < 8; k++) {
		uint32_t at = HEADER + (uint32_t)draw(s, body), width = 1u << draw(s, 4);
		uint8_t keep[8], with = chance(s, 50) ? 0xff : (uint8_t)draw(s, 256);

		if (width > len - at)
			width = 1;
		memcpy(keep, b + at, width);
		memset(b + at, with, width);
		if (wire_decode(&m, b, len, &room))
			return true;
		memcpy(b + at, keep, width);
	}
	return false;
}

/*
 * A frame that is not in the protocol, made of one that is: whoever gets it drops the connection, and nothing else
 * happens. False: it is a HELLO that the other side has to answer with HELLO_NO.
 */
static bool spoil(struct sim *s, struct frame *f, uint8_t *b, uint32_t *len)
{
	uint32_t body = *len - HEADER;
	bool hello = b[TYPE_AT] == HELLO || b[TYPE_AT] == HELLO_OK;

	s->spoilt++;
	switch (draw(s, hello ? 14 : 11)) {
	case 0:
		*len = (uint32_t)draw(s, *len); /* cut off */
		return true;
	case 1:
		if (!body)
			return spoil(s, f, b, len);
		body = (uint32_t)draw(s, body);
		put32(b + BODY_LEN_AT, body);
		*len = HEADER + body;
		return true;
	case 2:
		put32(b + BODY_LEN_AT, body + 8);
		*len += 8;
		return true;
	case 3:
		b[draw(s, 4)] ^= 0x20;
		return true;
	case 4:
		b[4] = (uint8_t)(b[4] + 1 + draw(s, 200)); /* another version */
		return true;
	case 5:
		put32(b + DATA_LEN_AT, f->data_len + 512);
		return true;
	case 6:
		b[TYPE_AT] = (uint8_t)(60 + draw(s, 100));
		return true;
	case 7:
		put32(b + BODY_LEN_AT, 0x7fffffff);
		return true;
	case 8:
	case 9:
	case 10:
		return mangle(s, b, *len) || spoil(s, f, b, len);
	case 11:
		b[HEADER + draw(s, 16)] ^= 1; /* another volume */
		return false;
	case 12:
		/* The receiver's own number; or not the one that was called. */
		b[HEADER + 16] = b[TYPE_AT] == HELLO ? (uint8_t)f->to->id
						     : (uint8_t)(1 + b[HEADER + 16] % s->plan.nodes);
		return false;
	default:
		b[*len - 1] ^= 8; /* another name than its certificate's */
		return false;
	}
}

static void spoilt_deliver(struct sim *s, struct frame *f, struct event *ev)
{
	uint8_t *b = sim_alloc(s, f->len + 8);
	bool drops;

	memcpy(b, f->bytes, f->len);
	drops = spoil(s, f, b, &ev->net.len);
	ev->net.bytes = b;
	sim_log(s, "%s: a SPOILT frame, of type %s", f->to->name,
		msg_type_name((enum msg_type)f->bytes[TYPE_AT]));
	node_feed(s, f->to, ev);
	if (drops && !f->c->closed && !f->c->ended_by && !s->failed && f->to->up)
		sim_fail(s, "%s took a frame that is not in the protocol", f->to->name);
	sim_free(b);
}

/* A peer that answers with less than it was asked for: in the protocol, and of no use. */
static void lie(struct sim *s, struct frame *f, struct event *ev)
{
	if (!s->plan.hostile || s->healing || f->bytes[TYPE_AT] != BLOCK_REPLY || f->data_len < 1024 || draw(s, 8))
		return;
	s->spoilt++;
	sim_log(s, "%s: an answer of %u bytes is cut SHORT", f->to->name, f->data_len);
	ev->net.data_len = f->data_len / 1024 * 512;
	put32(f->bytes + DATA_LEN_AT, ev->net.data_len);
}

static const struct msg *message(const struct frame *f)
{
	static struct wire_room room;
	static struct msg m;

	return wire_decode(&m, f->bytes, f->len, &room) ? NULL : &m;
}

/*
 * With --set lost_grants=1: a node is granted a layout, and its connection breaks before it hears of that. It has another one
 * soon, but it takes long to say there what it holds. Meanwhile it is recalled: load.c lets that file alone at first, and then
 * does little else.
 */
static bool loses_grant(struct sim *s, const struct frame *f)
{
	const struct msg *m = s->plan.lost_grants && f->bytes[TYPE_AT] == REPLY ? message(f) : NULL;

	if (!m || s->healing || m->reply.op != FS_LAYOUT_GET || m->reply.r.err || load_lost_lately(s) || draw(s, 3))
		return false;
	s->lost_ino = m->reply.r.attr.ino;
	s->lost_ns = s->now_ns;
	s->lost_node = f->to->id;
	sim_log(s, "node %u: the answer to LAYOUT_GET of ino %lx is LOST", s->lost_node, s->lost_ino);
	return true;
}

/* ... what it says that it holds, that it is served then, and that it gives back. */
static uint64_t slow_after_loss(struct sim *s, const struct frame *f, uint32_t from)
{
	const struct msg *m;

	if (!s->plan.lost_grants || !load_lost_lately(s) || (from != s->lost_node && f->to->id != s->lost_node))
		return 0;
	if (f->bytes[TYPE_AT] == RECLAIM_END)
		return draw(s, SEC);
	m = f->bytes[TYPE_AT] == REQUEST ? message(f) : NULL;
	if (f->bytes[TYPE_AT] == SERVE || (m && m->request.op == FS_LAYOUT_RETURN))
		return draw(s, 100 * MS);
	return 0;
}

static bool loses_ask(struct sim *s, const struct frame *f)
{
	const struct msg *m = s->plan.lost_asks && f->bytes[TYPE_AT] == REQUEST ? message(f) : NULL;

	return m && aimed_loses_ask(s, m);
}

static void frame_deliver(struct sim *s, void *arg)
{
	struct frame *f = arg;
	struct sim_conn *c = f->c;
	uint64_t conn = f->to->id == c->a ? c->conn_a : c->conn_b;
	struct event ev = {.type = f->type};
	bool bad = s->plan.hostile && !s->healing &&
		   draw(s, f->bytes[TYPE_AT] <= HELLO_OK ? 20 : 1000) == 0;

	/* Cut while it was on its way: the connection is stuck until somebody gives it up. */
	if (!reachable(s, c))
		c->closed = true;
	if (!c->closed && c->up && !c->ended_by && (loses_grant(s, f) || loses_ask(s, f)))
		conn_break(s, c, 0);
	if (!c->closed && c->up && c->ended_by != f->to->id && lives(s, c, f->to->id)) {
		ev.net.conn = conn;
		ev.net.bytes = f->bytes;
		ev.net.len = f->len;
		ev.net.data = f->data;
		ev.net.data_len = f->data_len;
		f->data = 0;
		lie(s, f, &ev);
		if (bad)
			spoilt_deliver(s, f, &ev);
		else
			node_feed(s, f->to, &ev);
	}
	if (f->data)
		sim_data_put(f->data);
	sim_free(f);
}

static void down_deliver(struct sim *s, void *arg)
{
	struct frame *f = arg;
	struct sim_conn *c = f->c;

	if (lives(s, c, f->to->id) && c->ended_by != f->to->id)
		conn_event(s, f->to, EV_NET_DOWN, f->to->id == c->a ? c->conn_a : c->conn_b, NULL,
			"connection reset");
	sim_free(f);
}

static void tell_down(struct sim *s, struct sim_conn *c, uint32_t node, uint64_t delay)
{
	struct frame *f = sim_alloc(s, sizeof(*f));

	f->c = c;
	f->to = &s->n[node];
	sim_at_node(s, f->to, s->now_ns + delay, down_deliver, f);
}

/* TLS comes to nothing: a certificate is refused. (A node that has never been served gives up its mount then.) */
static void distrusted(struct sim *s, struct snode *n, uint64_t conn)
{
	struct event ev = {.type = EV_NET_DOWN};

	ev.net.conn = conn;
	ev.net.distrust = true;
	strcpy(ev.net.reason, "certificate has expired");
	node_feed(s, n, &ev);
}

static void connected(struct sim *s, void *arg)
{
	uint32_t stranger;
	struct sim_conn *c = arg;
	struct snode *a = &s->n[c->a], *b = &s->n[c->b];

	if (c->closed || !lives(s, c, c->a))
		return;
	c->life_b = b->life_nr;
	if (!b->up || !reachable(s, c) || b->paused_until > s->now_ns) {
		c->closed = true;
		conn_event(s, a, EV_NET_DOWN, c->conn_a, NULL, "connection refused");
		return;
	}
	c->up = true;
	c->conn_b = ACCEPTED | ++b->next_conn;
	/* The name is the certificate's. */
	stranger = s->plan.hostile && !s->healing ? (uint32_t)draw(s, 60) : 9;
	if (stranger == 0 && a->ready) {
		c->closed = true;
		distrusted(s, a, c->conn_a);
		return;
	}
	conn_event(s, b, EV_NET_UP, c->conn_b, stranger == 1 ? "mallory" : a->name, NULL);
	if (!c->closed)
		conn_event(s, a, EV_NET_UP, c->conn_a, stranger == 2 ? "mallory" : b->name, NULL);
}

void net_connect(struct sim *s, struct snode *n, const struct effect *e)
{
	struct sim_conn *c = sim_alloc(s, sizeof(*c));

	c->a = n->id;
	c->conn_a = e->net.conn;
	c->life_a = n->life_nr;
	list_add_tail(&c->link, &s->conns);
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		if (!strcmp(s->n[i].name, e->net.name))
			c->b = i;
	}
	if (!c->b) {
		sim_fail(s, "connects to an unknown node '%s'", e->net.name);
		return;
	}
	sim_at_node(s, n, s->now_ns + sim_delay(s, 1 * MS, 20 * MS), connected, c);
}

static struct sim_conn *find(struct sim *s, struct snode *n, uint64_t conn)
{
	list_for_each_entry(c, &s->conns, struct sim_conn, link) {
		if (c->a == n->id && c->conn_a == conn && c->life_a == n->life_nr)
			return c;
		if (c->b == n->id && c->conn_b == conn && c->life_b == n->life_nr && c->up)
			return c;
	}
	return NULL;
}

void net_send(struct sim *s, struct snode *n, const struct effect *e)
{
	struct sim_conn *c = find(s, n, e->net.conn);
	bool from_a;
	struct frame *f;
	uint64_t at, *last;

	if (!c || c->closed || !c->up || c->ended_by)
		return;
	from_a = c->a == n->id;
	f = sim_alloc(s, sizeof(*f) + e->net.len);
	f->c = c;
	f->type = EV_NET_MSG;
	f->to = &s->n[from_a ? c->b : c->a];
	f->len = e->net.len;
	memcpy(f->bytes, e->net.bytes, e->net.len);
	if (e->net.data_len) {
		f->data = sim_data_new(sim_data_bytes(e->net.data) + e->net.data_off,
			e->net.data_len);
		f->data_len = e->net.data_len;
	}
	last = from_a ? &c->last_a : &c->last_b;
	at = s->now_ns + sim_delay(s, 50 * 1000, 3 * MS);
	if (s->slow_net_until > s->now_ns && (c->a == s->slow_net_node || c->b == s->slow_net_node))
		at += draw(s, 200 * MS);
	at += slow_after_loss(s, f, n->id);
	if (s->plan.carries && f->bytes[TYPE_AT] == BLOCK)
		at += aimed_lags(s, n->id, f->to->id);
	if (at < *last)
		at = *last;
	*last = at;
	sim_at_node(s, f->to, at, frame_deliver, f);
	if (s->plan.dies_asking && f->bytes[TYPE_AT] == RECALL && f->to->up)
		aimed_recalled(s, f->to);
	if (s->plan.dies_held && f->bytes[TYPE_AT] == CACHE_RECALL && f->to->up)
		aimed_forgets(s, f->to);
}

static void conn_break(struct sim *s, struct sim_conn *c, uint32_t except)
{
	if (c->closed || c->ended_by)
		return;
	c->closed = true;
	if (c->a != except && lives(s, c, c->a))
		tell_down(s, c, c->a, sim_delay(s, 1 * MS, 50 * MS));
	if (c->up && c->b != except && lives(s, c, c->b))
		tell_down(s, c, c->b, sim_delay(s, 1 * MS, 50 * MS));
}

void net_close(struct sim *s, struct snode *n, uint64_t conn)
{
	struct sim_conn *c = find(s, n, conn);
	uint64_t at, last;

	if (!c || c->closed)
		return;
	if (c->ended_by) {
		c->ended_by = n->id; /* both have: nobody needs to be told */
		return;
	}
	/* With unread bytes behind it the other side's TCP throws away what has arrived; else it is read, and then the end. */
	if (!c->up || chance(s, 50)) {
		conn_break(s, c, n->id);
		return;
	}
	c->ended_by = n->id;
	at = s->now_ns + sim_delay(s, 1 * MS, 50 * MS);
	last = n->id == c->a ? c->last_a : c->last_b;
	tell_down(s, c, n->id == c->a ? c->b : c->a, (at < last ? last : at) - s->now_ns);
}

void net_node_died(struct sim *s, struct snode *n, bool silently)
{
	list_for_each_entry(c, &s->conns, struct sim_conn, link) {
		if ((c->a != n->id || c->life_a != n->life_nr) &&
			(c->b != n->id || c->life_b != n->life_nr))
			continue;
		/* Half open: the other side must notice by itself. */
		if (!silently)
			conn_break(s, c, n->id);
	}
}

void net_end_half(struct sim *s, uint32_t a, uint32_t b)
{
	list_for_each_entry(c, &s->conns, struct sim_conn, link) {
		if ((c->a != a || c->b != b) && (c->a != b || c->b != a))
			continue;
		if (c->closed || c->ended_by || !c->up)
			continue;
		c->ended_by = a;
		tell_down(s, c, b, 1500 * MS);
		if (s->n[a].up)
			conn_event(s, &s->n[a], EV_NET_DOWN, c->a == a ? c->conn_a : c->conn_b, NULL, "connection reset");
		return;
	}
}

void net_break_between(struct sim *s, uint32_t a, uint32_t b)
{
	list_for_each_entry(c, &s->conns, struct sim_conn, link) {
		if ((c->a == a && c->b == b) || (c->a == b && c->b == a))
			conn_break(s, c, 0);
	}
}

void net_break_all(struct sim *s, struct snode *n)
{
	list_for_each_entry(c, &s->conns, struct sim_conn, link) {
		if (c->a == n->id || c->b == n->id)
			conn_break(s, c, 0);
	}
}
