/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test_session.c - sessions between nodes over a network in memory, which delivers in order, late, or
 * not at all, and tells the two ends of a broken connection at different times.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "csvfs/base/list.h"
#include "csvfs/base/mem.h"
#include "csvfs/base/prng.h"
#include "redirect/session.h"

#define MS NS_PER_MS
#define MEM_BYTES (8u << 20)
#define WIRES 256
#define ACCEPTED (1ull << 63)

/* ------------------------------------------------------------------ nodes and the network */

struct node {
	uint32_t id;
	char name[NODE_NAME_MAX];
	char certificate[NODE_NAME_MAX]; /* what others see */
	uint8_t uuid[16];
	void *region;
	struct mem mem;
	struct sessions *ss;
	struct effects fx;
	bool deaf; /* gets nothing, notices nothing: a hung machine */
	bool gives_none; /* no leases: it does not coordinate */
	uint64_t proven_ns; /* 0: all the time */
	uint32_t ups, downs, msgs, data_freed;
	enum msg_type last;
};

/* One connection: the side that connected is end 0. */
struct wire {
	bool used, cut;
	struct node *node[2];
	uint64_t conn[2];
	bool open[2]; /* that end has not been told of its end */
	struct list queue[2]; /* towards that end */
};

struct frame {
	struct list link;
	uint64_t at_ns;
	uint64_t data;
	uint32_t data_len, len;
	uint8_t bytes[];
};

struct net {
	uint64_t now_ns;
	uint32_t count;
	struct node *nodes[4];
	struct wire wires[WIRES];
	uint64_t next_accepted;
	struct prng r;
	uint64_t delay_ns;
	char said[512]; /* the last warning that was traced */
};

static void said(void *ctx, enum trace_level level, const char *line)
{
	struct net *n = ctx;

	if (level == TRACE_WARN)
		snprintf(n->said, sizeof(n->said), "%s", line);
}

static struct trace narrator = {.level = TRACE_DEBUG, .sink = said};

static struct node *node_add(struct net *n, uint32_t id, const char *name)
{
	struct node *x = calloc(1, sizeof(*x));

	x->id = id;
	snprintf(x->name, sizeof(x->name), "%s", name);
	snprintf(x->certificate, sizeof(x->certificate), "%s", name);
	memset(x->uuid, 7, 16);
	x->region = aligned_alloc(4096, MEM_BYTES);
	mem_init(&x->mem, x->region, MEM_BYTES);
	x->fx.arena = malloc(EFFECTS_ARENA);
	narrator.ctx = n;
	x->ss = sessions_create(&x->mem, x->uuid, id, name, 1000 + id, &narrator);
	assert_non_null(x->ss);
	n->nodes[n->count++] = x;
	return x;
}

static void wire_clear(struct wire *w, int end)
{
	while (!list_empty(&w->queue[end])) {
		struct frame *f = list_first_entry(&w->queue[end], struct frame, link);

		list_del(&f->link);
		free(f);
	}
}

static void net_free(struct net *n)
{
	for (uint32_t i = 0; i < WIRES; i++) {
		if (!n->wires[i].used)
			continue;
		wire_clear(&n->wires[i], 0);
		wire_clear(&n->wires[i], 1);
	}
	for (uint32_t i = 0; i < n->count; i++) {
		free(n->nodes[i]->region);
		free(n->nodes[i]->fx.arena);
		free(n->nodes[i]);
	}
}

static struct wire *wire_of(struct net *n, const struct node *x, uint64_t conn, int *end)
{
	for (uint32_t i = 0; i < WIRES; i++)
		for (*end = 0; n->wires[i].used && *end < 2; ++*end)
			if (n->wires[i].node[*end] == x && n->wires[i].conn[*end] == conn)
				return &n->wires[i];
	return NULL;
}

static void node_event(struct net *n, struct node *x, struct event *ev);

static void on_connect(struct net *n, struct node *x, const struct effect *e)
{
	struct node *to = n->nodes[e->net.port];
	struct wire *w = n->wires;

	while (w->used)
		w++;
	assert_true(w < n->wires + WIRES);
	memset(w, 0, sizeof(*w));
	w->used = true;
	w->node[0] = x;
	w->node[1] = to;
	w->conn[0] = e->net.conn;
	w->conn[1] = ACCEPTED | ++n->next_accepted;
	w->open[0] = w->open[1] = true;
	list_init(&w->queue[0]);
	list_init(&w->queue[1]);
	/* "You are up" is a frame of no bytes. */
	for (int end = 0; end < 2; end++) {
		struct frame *f = calloc(1, sizeof(*f));

		f->at_ns = n->now_ns + prng_below(&n->r, n->delay_ns + 1);
		list_add_tail(&f->link, &w->queue[end]);
	}
}

static void effects_run(struct net *n, struct node *x)
{
	for (uint32_t i = 0; i < x->fx.count; i++) {
		const struct effect *e = &x->fx.fx[i];
		struct frame *f;
		struct wire *w;
		int end;

		if (e->type == FX_NET_CONNECT) {
			on_connect(n, x, e);
			continue;
		}
		if (e->type == FX_DATA_FREE) {
			x->data_freed++;
			continue;
		}
		w = wire_of(n, x, e->net.conn, &end);
		if (e->type == FX_NET_CLOSE) {
			if (!w)
				continue;
			w->open[end] = false;
			w->cut = true;
			continue;
		}
		assert_int_equal(e->type, FX_NET_SEND);
		if (!w || w->cut)
			continue;
		f = malloc(sizeof(*f) + e->net.len);
		f->at_ns = n->now_ns + prng_below(&n->r, n->delay_ns + 1);
		f->len = e->net.len;
		f->data = e->net.data;
		f->data_len = e->net.data_len;
		memcpy(f->bytes, e->net.bytes, f->len);
		list_add_tail(&f->link, &w->queue[!end]);
	}
}

static void node_event(struct net *n, struct node *x, struct event *ev)
{
	const struct msg *m;
	struct session *s;
	enum session_note note;

	ev->now_ns = n->now_ns;
	effects_reset(&x->fx);
	/* What shows a coordinator that it is one is so old. */
	x->ss->proven_ns = x->gives_none ? 0 : x->proven_ns ? x->proven_ns : n->now_ns;
	m = ev->type == EV_TIMER ? NULL : sessions_event(x->ss, ev, &x->fx, &s);
	if (m) {
		x->msgs++;
		x->last = m->type;
		assert_int_equal(s->state, SESSION_UP);
	}
	sessions_step(x->ss, n->now_ns, &x->fx);
	while ((note = sessions_note(x->ss, &s)) != SESSION_NOTE_NONE) {
		session_check(x->ss);
		/* S4: strictly in turn, for each session; `owner` remembers. */
		if (note == SESSION_NOTE_UP) {
			assert_null(s->owner);
			s->owner = x;
			x->ups++;
		} else {
			assert_ptr_equal(s->owner, x);
			s->owner = NULL;
			x->downs++;
		}
	}
	session_check(x->ss);
	assert_true(sessions_deadline(x->ss) > n->now_ns);
	effects_run(n, x);
}

static void frame_deliver(struct net *n, struct wire *w, int end)
{
	struct frame *f = list_first_entry(&w->queue[end], struct frame, link);
	struct event ev = {.type = f->len ? EV_NET_MSG : EV_NET_UP};

	list_del(&f->link);
	ev.net.conn = w->conn[end];
	if (f->len) {
		ev.net.bytes = f->bytes;
		ev.net.len = f->len;
		ev.net.data = f->data;
		ev.net.data_len = f->data_len;
	} else {
		snprintf(ev.net.name, sizeof(ev.net.name), "%s", w->node[!end]->certificate);
	}
	node_event(n, w->node[end], &ev);
	free(f);
}

/* What is due at both ends of one connection. */
static void wire_run(struct net *n, struct wire *w)
{
	for (int end = 0; end < 2; end++) {
		struct event down = {.type = EV_NET_DOWN};

		while (w->used && w->open[end] && !w->node[end]->deaf &&
			!list_empty(&w->queue[end]) &&
			list_first_entry(&w->queue[end], struct frame, link)->at_ns <= n->now_ns)
			frame_deliver(n, w, end);
		if (!w->cut || !w->open[end] || w->node[end]->deaf || !list_empty(&w->queue[end]))
			continue;
		w->open[end] = false;
		down.net.conn = w->conn[end];
		strcpy(down.net.reason, "the connection broke");
		node_event(n, w->node[end], &down);
	}
	if (w->cut && !w->open[0] && !w->open[1]) {
		wire_clear(w, 0);
		wire_clear(w, 1);
		w->used = false;
	}
}

static void run(struct net *n, uint64_t for_ns)
{
	uint64_t end_ns = n->now_ns + for_ns;

	for (; n->now_ns < end_ns; n->now_ns += 10 * MS) {
		for (uint32_t i = 0; i < WIRES; i++)
			if (n->wires[i].used)
				wire_run(n, &n->wires[i]);
		for (uint32_t i = 0; i < n->count; i++) {
			struct event ev = {.type = EV_TIMER};

			if (!n->nodes[i]->deaf && n->now_ns >= sessions_deadline(n->nodes[i]->ss))
				node_event(n, n->nodes[i], &ev);
		}
	}
}

static void cut_all(struct net *n)
{
	for (uint32_t i = 0; i < WIRES; i++)
		n->wires[i].cut |= n->wires[i].used;
}

static struct net *net_new(void)
{
	struct net *n = calloc(1, sizeof(*n));

	n->now_ns = 1000 * NS_PER_SEC;
	n->r.s = 1;
	return n;
}

/* From x to y; the port is y's place in the table. */
static struct session *open_to(struct net *n, struct node *x, struct node *y)
{
	uint16_t port = 0;

	while (n->nodes[port] != y)
		port++;
	return session_open(x->ss, y->id, y->name, "10.0.0.1", port);
}

/* The caller's step between two runs. */
#define AT(n, x) (effects_reset(&(x)->fx), (x)->ss->now_ns = (n)->now_ns)

static void finish(struct net *n)
{
	net_free(n);
	free(n);
}

/* ------------------------------------------------------------------ tests */

static void two_nodes_get_to_know_each_other(void **state)
{
	struct net *n = net_new();
	struct node *a = node_add(n, 1, "n1"), *b = node_add(n, 2, "n2");
	struct session *s, *t;

	b->ss->incarnation = 77;
	sessions_set_epoch(b->ss, 5);
	s = open_to(n, a, b);
	assert_ptr_equal(open_to(n, a, b), s);
	run(n, 200 * MS);
	assert_int_equal(s->state, SESSION_UP);
	assert_int_equal(s->peer_life, 1002);
	assert_int_equal(s->peer_incarnation, 77);
	assert_int_equal(s->peer_epoch, 5);
	assert_ptr_equal(session_to(a->ss, 2), s);
	assert_null(session_from(a->ss, 2));
	t = session_from(b->ss, 1);
	assert_non_null(t);
	assert_string_equal(t->name, "n1");
	assert_int_equal(t->peer_life, 1001);
	/* And for a long time nothing but pings. */
	run(n, 60 * NS_PER_SEC);
	assert_int_equal(a->ups, 1);
	assert_int_equal(a->downs, 0);
	assert_int_equal(s->ping_seq >= 60, 1);
	finish(n);
}

static void refused(const char *what, struct net *n, struct node *a, struct node *b)
{
	struct session *s = open_to(n, a, b);

	run(n, NS_PER_SEC);
	assert_int_equal(a->ups + b->ups, 0);
	assert_int_not_equal(s->state, SESSION_UP);
	if (!strstr(s->why, what))
		fail_msg("'%s' does not say '%s'", s->why, what);
	if (!strstr(n->said, "refused: "))
		fail_msg("the other side says '%s'", n->said);
	finish(n);
}

static void another_volume_is_refused(void **state)
{
	struct net *n = net_new();
	struct node *a = node_add(n, 1, "n1"), *b = node_add(n, 2, "n2");

	memset(b->ss->uuid, 9, 16);
	refused("n2 serves volume 09090909-0909-0909-0909-090909090909 here, n1 asked for 07070707",
		n, a, b);
}

static void the_certificate_of_another_node_is_refused(void **state)
{
	struct net *n = net_new();
	struct node *a = node_add(n, 1, "n1"), *b = node_add(n, 2, "n2");

	strcpy(a->certificate, "n3");
	refused("node n1 has the certificate of n3: make its own with 'csvctl pki node DIR n1'", n,
		a, b);
}

static void two_nodes_with_one_id_do_not_talk(void **state)
{
	struct net *n = net_new();
	struct node *a = node_add(n, 2, "n1"), *b = node_add(n, 2, "n2");

	refused("n1 and n2 both have node id 2", n, a, b);
}

static void who_answers_with_another_certificate_is_dropped(void **state)
{
	struct net *n = net_new();
	struct node *a = node_add(n, 1, "n1"), *b = node_add(n, 2, "n2");
	struct session *s;

	strcpy(b->certificate, "n3");
	s = open_to(n, a, b);
	run(n, 50 * MS);
	assert_non_null(strstr(s->why, "certificate of n3"));
	assert_int_equal(a->ups + b->ups, 0);
	finish(n);
}

static void a_silent_peer_is_dead_after_four_seconds(void **state)
{
	struct net *n = net_new();
	struct node *a = node_add(n, 1, "n1"), *b = node_add(n, 2, "n2");
	struct session *s = open_to(n, a, b);

	run(n, NS_PER_SEC);
	assert_int_equal(s->state, SESSION_UP);
	b->deaf = true;
	run(n, SESSION_DEAD_NS - SESSION_PING_NS);
	assert_int_equal(s->state, SESSION_UP);
	run(n, SESSION_PING_NS + 50 * MS);
	assert_int_equal(a->downs, 1);
	assert_non_null(strstr(s->why, "nothing heard for 4 s"));
	/* It comes back to life, and so does the session. */
	b->deaf = false;
	run(n, SESSION_CONNECT_NS + SESSION_RETRY_MAX_NS + NS_PER_SEC);
	assert_int_equal(s->state, SESSION_UP);
	assert_int_equal(a->ups, 2);
	assert_int_equal(b->ups, 2);
	finish(n);
}

static void connecting_again_waits_longer_each_time_up_to_two_seconds(void **state)
{
	struct net *n = net_new();
	struct node *a = node_add(n, 1, "n1"), *b = node_add(n, 2, "n2");
	struct session *s = open_to(n, a, b);
	uint64_t tries = 0, last_ns = 0, gaps[8];

	for (uint64_t i = 0; tries < 8 && i < 10000; i++) {
		run(n, 10 * MS);
		if (s->conn > tries) {
			gaps[tries] = last_ns ? n->now_ns - last_ns : 0;
			tries = s->conn;
			last_ns = n->now_ns;
		}
		cut_all(n);
	}
	assert_int_equal(tries, 8);
	assert_in_range(gaps[1] / MS, 100, 140);
	assert_in_range(gaps[2] / MS, 200, 240);
	assert_in_range(gaps[4] / MS, 800, 840);
	assert_in_range(gaps[6] / MS, 2000, 2040);
	assert_in_range(gaps[7] / MS, 2000, 2040);
	/* It is known to be elsewhere now: no reason to wait for two seconds. */
	(void)session_open(a->ss, 2, "n2", "10.0.0.2", 1);
	run(n, 150 * MS);
	assert_int_equal(s->state, SESSION_UP);
	assert_int_equal(s->retry_wait_ns, SESSION_RETRY_MIN_NS);
	finish(n);
}

static void the_lease_runs_from_the_sending_of_an_answered_ping(void **state)
{
	struct net *n = net_new();
	struct node *a = node_add(n, 1, "n1"), *b = node_add(n, 2, "n2");
	struct session *s = open_to(n, a, b);
	uint64_t sent_ns;

	run(n, 500 * MS);
	assert_int_not_equal(session_lease_ns(s), 0);
	n->delay_ns = 900 * MS; /* answers are late */
	for (int i = 0; i < 200; i++) {
		run(n, 100 * MS);
		sent_ns = session_lease_ns(s);
		/* A time of sending, in the past, and never older than what silence allows. */
		assert_true(sent_ns <= n->now_ns);
		assert_true(n->now_ns - sent_ns < SESSION_DEAD_NS);
	}
	b->deaf = true;
	run(n, 100 * MS);
	sent_ns = session_lease_ns(s);
	run(n, 2 * NS_PER_SEC);
	assert_true(
		session_lease_ns(s) <= sent_ns + SESSION_PING_NS); /* one answer was on its way */
	sent_ns = session_lease_ns(s);
	run(n, NS_PER_SEC);
	assert_int_equal(session_lease_ns(s), sent_ns);
	finish(n);
}

/* A path that has come waits for a word that is newer: it comes at once, and does not drown one that is slow. */
static void who_waits_for_a_newer_word_asks_at_once(void **state)
{
	struct net *n = net_new();
	struct node *a = node_add(n, 1, "n1"), *b = node_add(n, 2, "n2");
	struct session *s = open_to(n, a, b);
	uint64_t from_ns, lease_ns;

	run(n, 2300 * MS);
	from_ns = n->now_ns;
	assert_true(session_lease_ns(s) < from_ns);
	s->eager = true;
	run(n, SESSION_EAGER_NS);
	assert_true(session_lease_ns(s) >= from_ns);
	n->delay_ns = 900 * MS;
	for (int i = 0; i < 100; i++) {
		run(n, 100 * MS);
		lease_ns = session_lease_ns(s);
		assert_true(n->now_ns - lease_ns < SESSION_DEAD_NS);
		assert_true(s->ping_seq - s->pong_seq < SESSION_PINGS);
	}
	finish(n);
}

/* A coordinator that was fenced and does not know it yet answers for a while: that must not keep a lease alive. */
static void a_lease_is_no_newer_than_the_proof_behind_it(void **state)
{
	struct net *n = net_new();
	struct node *a = node_add(n, 1, "n1"), *b = node_add(n, 2, "n2");
	struct session *s = open_to(n, a, b);
	uint64_t proof_ns, lease_ns;

	run(n, 2 * NS_PER_SEC);
	proof_ns = b->proven_ns = n->now_ns; /* nothing proves from now on that b may give leases */
	for (int i = 0; i < 50; i++) {
		run(n, 100 * MS);
		assert_true(session_lease_ns(s) <= proof_ns);
	}
	assert_true(session_lease_ns(s) + SESSION_PING_NS > proof_ns);
	b->proven_ns = 0;
	run(n, 2 * NS_PER_SEC);
	lease_ns = session_lease_ns(s);
	assert_true(lease_ns > proof_ns);
	b->gives_none = true;
	run(n, 3 * NS_PER_SEC);
	assert_true(session_lease_ns(s) <= lease_ns + SESSION_PING_NS);
	finish(n);
}

static void word_of_an_older_epoch_gives_no_lease(void **state)
{
	struct net *n = net_new();
	struct node *a = node_add(n, 1, "n1"), *b = node_add(n, 2, "n2");
	struct session *s = open_to(n, a, b);
	uint64_t lease_ns;

	run(n, 2 * NS_PER_SEC);
	lease_ns = session_lease_ns(s);
	assert_int_not_equal(lease_ns, 0);
	sessions_set_epoch(a->ss, 9); /* b, the old coordinator, does not know */
	run(n, 3 * NS_PER_SEC);
	assert_int_equal(session_lease_ns(s), lease_ns);
	sessions_set_epoch(b->ss, 9);
	run(n, 2 * NS_PER_SEC);
	assert_true(session_lease_ns(s) > lease_ns);
	finish(n);
}

static void a_frame_of_an_older_epoch_is_dropped(void **state)
{
	struct msg recall = {.type = MSG_RECALL},
		   block = {.type = MSG_BLOCK_REPLY, .data_len = 512};
	struct net *n = net_new();
	struct node *a = node_add(n, 1, "n1"), *b = node_add(n, 2, "n2");
	struct session *s;

	recall.recall.ino = 5;
	sessions_set_epoch(b->ss, 3);
	(void)open_to(n, a, b);
	run(n, NS_PER_SEC);
	s = session_from(b->ss, 1);
	AT(n, b);
	assert_true(session_send(s, &recall, 0, 0, &b->fx));
	effects_run(n, b);
	run(n, 50 * MS);
	assert_int_equal(a->msgs, 1);
	assert_int_equal(a->last, MSG_RECALL);
	sessions_set_epoch(a->ss, 4);
	AT(n, b);
	assert_true(session_send(s, &recall, 0, 0, &b->fx));
	/* Block I/O belongs to an incarnation, not to an epoch: it passes, with its data. */
	assert_true(session_send(s, &block, 4242, 0, &b->fx));
	effects_run(n, b);
	run(n, 50 * MS);
	assert_int_equal(a->msgs, 2);
	assert_int_equal(a->last, MSG_BLOCK_REPLY);
	assert_int_equal(a->data_freed, 0);
	assert_int_equal(session_to(a->ss, 2)->stale_frames, 1);
	assert_int_equal(session_to(a->ss, 2)->peer_epoch, 3);
	finish(n);
}

static void the_newest_connection_of_a_node_replaces_its_older_ones(void **state)
{
	struct net *n = net_new();
	struct node *a = node_add(n, 1, "n1"), *b = node_add(n, 2, "n2");
	struct session *s = open_to(n, a, b);
	uint64_t first;

	run(n, NS_PER_SEC);
	first = session_from(b->ss, 1)->conn;
	/* a loses the connection, b does not notice; a connects again. */
	for (uint32_t i = 0; i < WIRES; i++) {
		struct wire *w = &n->wires[i];
		struct event down = {.type = EV_NET_DOWN};

		if (!w->used)
			continue;
		w->open[0] = false;
		down.net.conn = w->conn[0];
		node_event(n, a, &down);
	}
	run(n, 500 * MS);
	assert_int_equal(s->state, SESSION_UP);
	assert_int_not_equal(session_from(b->ss, 1)->conn, first);
	assert_int_equal(b->ups, 2);
	assert_int_equal(b->downs, 1);
	finish(n);
}

static void both_directions_are_two_sessions(void **state)
{
	struct net *n = net_new();
	struct node *a = node_add(n, 1, "n1"), *b = node_add(n, 2, "n2");
	struct session *s = open_to(n, a, b), *t = open_to(n, b, a);

	run(n, NS_PER_SEC);
	assert_int_equal(s->state, SESSION_UP);
	assert_int_equal(t->state, SESSION_UP);
	assert_ptr_equal(session_to(a->ss, 2), s);
	assert_non_null(session_from(a->ss, 2));
	AT(n, a);
	session_close(s, "not needed any more", &a->fx);
	effects_run(n, a);
	run(n, NS_PER_SEC);
	assert_null(session_to(a->ss, 2));
	assert_null(session_from(b->ss, 1));
	assert_int_equal(t->state, SESSION_UP); /* the other one goes on */
	assert_int_equal(a->ups, 2);
	assert_int_equal(a->downs, 1);
	finish(n);
}

static void a_node_that_stops_says_goodbye_and_takes_nobody(void **state)
{
	struct net *n = net_new();
	struct node *a = node_add(n, 1, "n1"), *b = node_add(n, 2, "n2");
	struct session *s = open_to(n, a, b);

	run(n, NS_PER_SEC);
	AT(n, b);
	sessions_stop(b->ss, "unmounted", &b->fx);
	effects_run(n, b);
	run(n, 5 * NS_PER_SEC);
	assert_int_not_equal(s->state, SESSION_UP);
	assert_int_equal(a->downs, 1);
	assert_int_equal(b->downs, 1);
	assert_int_equal(b->ups, 1);
	finish(n);
}

static void event_raw(struct net *n, struct node *x, uint64_t conn, enum msg_type type)
{
	struct event ev = {.type = EV_NET_MSG};
	struct msg m = {.type = type};
	uint8_t frame[1024];

	m.hello.node = 9;
	m.hello.life = 1;
	strcpy(m.hello.name, "n9");
	if (type == MSG_PING)
		memset(&m.hello, 0, sizeof(m.hello));
	ev.net.len = wire_encode(&m, frame, sizeof(frame));
	if (!ev.net.len) {
		memset(frame, 0xee, 40);
		ev.net.len = 40;
	}
	ev.net.conn = conn;
	ev.net.bytes = frame;
	ev.net.data = 99;
	node_event(n, x, &ev);
}

static void what_does_not_fit_the_state_ends_the_connection(void **state)
{
	static const enum msg_type wrong[] = {
		MSG_PING, MSG_HELLO_OK, MSG_RECALL, (enum msg_type)99};
	struct net *n = net_new();
	struct node *b = node_add(n, 2, "n2");

	for (uint32_t i = 0; i < 4; i++) {
		struct event up = {.type = EV_NET_UP};

		up.net.conn = ACCEPTED | (i + 1);
		strcpy(up.net.name, "n9");
		node_event(n, b, &up);
		assert_int_equal(b->ss->s[0].state, SESSION_HELLO_WAIT);
		event_raw(n, b, up.net.conn, wrong[i]);
		assert_int_equal(b->ss->s[0].state, SESSION_FREE);
		assert_int_equal(b->data_freed, i + 1); /* data that nobody takes is freed */
	}
	/* A message over a connection that is gone. */
	event_raw(n, b, ACCEPTED | 1, MSG_PING);
	assert_int_equal(b->data_freed, 5);
	assert_int_equal(b->ups, 0);
	finish(n);
}

static void strangers_do_not_fill_the_table(void **state)
{
	struct net *n = net_new();
	struct node *a = node_add(n, 1, "n1"), *b = node_add(n, 2, "n2");
	uint32_t waiting = 0;

	for (uint32_t i = 0; i < 2 * SESSIONS_MAX; i++) {
		struct event up = {.type = EV_NET_UP};

		up.net.conn = ACCEPTED | (1000 + i);
		strcpy(up.net.name, "n9");
		node_event(n, a, &up);
	}
	for (uint32_t i = 0; i < SESSIONS_MAX; i++)
		waiting += a->ss->s[i].state == SESSION_HELLO_WAIT;
	assert_true(waiting < SESSIONS_MAX);
	assert_non_null(open_to(n, a, b));
	/* Who does not say HELLO in time is gone. */
	run(n, SESSION_CONNECT_NS + 100 * MS);
	assert_int_equal(session_to(a->ss, 2)->state, SESSION_UP);
	assert_int_equal(a->ss->used <= 2 || a->ss->s[0].state == SESSION_FREE, 1);
	finish(n);
}

static void a_session_that_was_not_reported_up_is_not_reported_down(void **state)
{
	struct net *n = net_new();
	struct node *a = node_add(n, 1, "n1"), *b = node_add(n, 2, "n2");
	struct event up = {.type = EV_NET_UP}, ok = {.type = EV_NET_MSG};
	struct msg m = {.type = MSG_HELLO_OK};
	struct session *s = open_to(n, a, b), *t;
	uint8_t frame[256];

	AT(n, a);
	sessions_step(a->ss, n->now_ns, &a->fx);
	up.now_ns = ok.now_ns = n->now_ns;
	up.net.conn = ok.net.conn = s->conn;
	strcpy(up.net.name, "n2");
	assert_null(sessions_event(a->ss, &up, &a->fx, &t));
	memcpy(m.hello.uuid, a->uuid, 16);
	m.hello.node = 2;
	m.hello.life = 1;
	strcpy(m.hello.name, "n2");
	ok.net.bytes = frame;
	ok.net.len = wire_encode(&m, frame, sizeof(frame));
	assert_null(sessions_event(a->ss, &ok, &a->fx, &t));
	assert_int_equal(s->state, SESSION_UP);
	session_drop(s, "changed our mind", &a->fx);
	session_check(a->ss);
	assert_int_equal(sessions_note(a->ss, &t), SESSION_NOTE_NONE);
	finish(n);
}

/* Anything may break at any time; in the end everybody talks to everybody. */
static void chaos_ends_with_everybody_connected(void **state)
{
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct net *n = net_new();
		struct node *x[3] = {
			node_add(n, 1, "n1"), node_add(n, 2, "n2"), node_add(n, 3, "n3")};

		n->r.s = seed;
		n->delay_ns = prng_below(&n->r, 300) * MS;
		for (int i = 0; i < 3; i++)
			for (int j = 0; j < 3; j++)
				if (i != j)
					assert_non_null(open_to(n, x[i], x[j]));
		for (int i = 0; i < 300; i++) {
			struct node *v = x[prng_below(&n->r, 3)];
			uint64_t what = prng_below(&n->r, 8);

			run(n, prng_below(&n->r, 400) * MS);
			if (what == 0)
				v->deaf = !v->deaf;
			else if (what == 1)
				n->wires[prng_below(&n->r, 8)].cut = true;
			else if (what == 2)
				sessions_set_epoch(v->ss, prng_below(&n->r, 20));
		}
		for (int i = 0; i < 3; i++)
			x[i]->deaf = false;
		n->delay_ns = 20 * MS;
		run(n, 20 * NS_PER_SEC);
		for (int i = 0; i < 3; i++)
			for (int j = 0; j < 3; j++)
				if (i != j) {
					assert_non_null(session_to(x[i]->ss, x[j]->id));
					assert_non_null(session_from(x[i]->ss, x[j]->id));
				}
		for (int i = 0; i < 3; i++)
			assert_int_equal(x[i]->ups, x[i]->downs + 4);
		finish(n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_nodes_get_to_know_each_other),
		cmocka_unit_test(another_volume_is_refused),
		cmocka_unit_test(the_certificate_of_another_node_is_refused),
		cmocka_unit_test(two_nodes_with_one_id_do_not_talk),
		cmocka_unit_test(who_answers_with_another_certificate_is_dropped),
		cmocka_unit_test(a_silent_peer_is_dead_after_four_seconds),
		cmocka_unit_test(connecting_again_waits_longer_each_time_up_to_two_seconds),
		cmocka_unit_test(the_lease_runs_from_the_sending_of_an_answered_ping),
		cmocka_unit_test(who_waits_for_a_newer_word_asks_at_once),
		cmocka_unit_test(a_lease_is_no_newer_than_the_proof_behind_it),
		cmocka_unit_test(word_of_an_older_epoch_gives_no_lease),
		cmocka_unit_test(a_frame_of_an_older_epoch_is_dropped),
		cmocka_unit_test(the_newest_connection_of_a_node_replaces_its_older_ones),
		cmocka_unit_test(both_directions_are_two_sessions),
		cmocka_unit_test(a_node_that_stops_says_goodbye_and_takes_nobody),
		cmocka_unit_test(what_does_not_fit_the_state_ends_the_connection),
		cmocka_unit_test(strangers_do_not_fill_the_table),
		cmocka_unit_test(a_session_that_was_not_reported_up_is_not_reported_down),
		cmocka_unit_test(chaos_ends_with_everybody_connected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
