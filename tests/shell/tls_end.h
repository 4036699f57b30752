/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tls_end.h - one end of connections over TLS, and what has come to it, for tests. */
#ifndef TESTS_SHELL_TLS_END_H
#define TESTS_SHELL_TLS_END_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "csvfs/base/list.h"
#include "csvfs/base/prng.h"
#include "csvfs/dbuf.h"
#include "redirect/pki.h"
#include "redirect/tls.h"
#include "redirect/wire.h"

#define MIB (1u << 20)

static char pki[64]; /* of this run, removed at its end */

/* ------------------------------------------------------------------ a node of the test */

struct arrived {
	struct list link;
	struct event ev;
};

struct end {
	struct tls *tls;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct list events;
};

static inline void deliver(void *ctx, const struct event *ev)
{
	struct arrived *a = malloc(sizeof(*a));
	struct end *e = ctx;

	a->ev = *ev;
	pthread_mutex_lock(&e->lock);
	list_add_tail(&a->link, &e->events);
	pthread_cond_signal(&e->more);
	pthread_mutex_unlock(&e->lock);
}

static inline const char *dir_of(const char *node)
{
	static char dir[4][128];
	static int n;
	char *d = dir[n++ % 4];

	snprintf(d, sizeof(dir[0]), "%s/%s", pki, node);
	return d;
}

static inline int end_try(struct end *e, const char *node, uint16_t port, char *text)
{
	struct tls_config cfg = {.addr = "127.0.0.1",
		.port = port,
		.pki_dir = dir_of(node),
		.deliver = deliver,
		.ctx = e};

	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->more, NULL);
	list_init(&e->events);
	e->tls = NULL;
	return tls_start(&cfg, &e->tls, text, TLS_TEXT_MAX);
}

static inline void end_start(struct end *e, const char *node)
{
	char text[TLS_TEXT_MAX];

	if (end_try(e, node, 0, text))
		fail_msg("%s", text);
}

static inline void event_free(struct end *e, struct event *ev)
{
	if (ev->type != EV_NET_MSG)
		return;
	dbuf_put(dbuf_of(ev->net.data));
	tls_event_done(e->tls, ev);
}

static inline bool event_wait(struct end *e, struct event *ev, int ms)
{
	struct arrived *a = NULL;
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&e->lock);
	while (list_empty(&e->events))
		if (pthread_cond_timedwait(&e->more, &e->lock, &until))
			break;
	if (!list_empty(&e->events)) {
		a = list_first_entry(&e->events, struct arrived, link);
		list_del(&a->link);
	}
	pthread_mutex_unlock(&e->lock);
	if (!a)
		return false;
	*ev = a->ev;
	free(a);
	return true;
}

static inline struct event expect(struct end *e, enum ev_type type)
{
	struct event ev;

	if (!event_wait(e, &ev, 10000))
		fail_msg("no event of type %d in 10 s", type);
	if (ev.type == EV_NET_DOWN && type != EV_NET_DOWN)
		fail_msg("down: %s", ev.net.reason);
	assert_int_equal(ev.type, type);
	return ev;
}

static inline void expect_silence(struct end *e, int ms)
{
	struct event ev;

	assert_false(event_wait(e, &ev, ms));
}

static inline void end_stop(struct end *e)
{
	struct event ev;

	while (event_wait(e, &ev, 0))
		event_free(e, &ev);
	tls_stop(e->tls);
	/* What came between is freed by hand: there is no tls any more to give it back to. */
	while (event_wait(e, &ev, 0)) {
		if (ev.type != EV_NET_MSG)
			continue;
		dbuf_put(dbuf_of(ev.net.data));
		free((void *)(uintptr_t)ev.net.bytes);
	}
}

/* a -> b, up on both sides: the connection's number at b. */
static inline uint64_t join(
	struct end *a, uint64_t conn, struct end *b, const char *b_name, const char *a_name)
{
	struct event up_a, up_b;

	tls_connect(a->tls, conn, "127.0.0.1", tls_port(b->tls), b_name);
	up_a = expect(a, EV_NET_UP);
	up_b = expect(b, EV_NET_UP);
	assert_int_equal(up_a.net.conn, conn);
	assert_string_equal(up_a.net.name, b_name);
	assert_string_equal(up_b.net.name, a_name);
	assert_true(up_b.net.conn & TLS_CONN_ACCEPTED);
	return up_b.net.conn;
}

static inline uint32_t ping_frame(uint8_t *room, uint64_t seq)
{
	struct msg m = {.type = MSG_PING};
	uint32_t len;

	m.ping.seq = seq;
	len = wire_encode(&m, room, 64);
	assert_int_not_equal(len, 0);
	return len;
}

static inline void send_ping(struct end *e, uint64_t conn, uint64_t seq)
{
	uint8_t frame[64];

	tls_send(e->tls, conn, frame, ping_frame(frame, seq), 0, 0, 0);
}

static inline uint64_t ping_seq(const struct event *ev)
{
	static struct wire_room room;
	struct msg m;

	assert_int_equal(wire_decode(&m, ev->net.bytes, ev->net.len, &room), 0);
	assert_int_equal(m.type, MSG_PING);
	return m.ping.seq;
}

/* A block write of len bytes from b, at off in it. */
static inline void send_write(struct end *e, uint64_t conn, struct dbuf *b, uint32_t off, uint32_t len)
{
	struct msg m = {.type = MSG_BLOCK, .data_len = len};
	uint8_t frame[256];
	uint32_t n;

	m.block.op = BLOCK_WRITE;
	m.block.node = m.block.incarnation = 1;
	m.block.len = len;
	n = wire_encode(&m, frame, sizeof(frame));
	assert_int_not_equal(n, 0);
	tls_send(e->tls, conn, frame, n, dbuf_handle(b), off, len);
}

static inline void fill(struct dbuf *b, uint32_t len, uint64_t seed)
{
	struct prng r = {seed};

	for (uint32_t i = 0; i < len; i += 8) {
		uint64_t v = prng_u64(&r);

		memcpy(b->bytes + i, &v, 8);
	}
	b->len = len;
}

static inline void must(int err, const char *text)
{
	if (err)
		fail_msg("%s", text);
}

static inline int drop_pki(void **state)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", pki);
	return system(cmd) ? -1 : 0;
}

#endif
