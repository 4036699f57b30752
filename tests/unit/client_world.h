/* SPDX-License-Identifier: GPL-2.0-or-later */
/* client_world.h - a client, its sessions, and the frames it sent: for test_client and test_client_block. */
#ifndef CSVFS_TESTS_CLIENT_WORLD_H
#define CSVFS_TESTS_CLIENT_WORLD_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "csvfs/base/mem.h"
#include "csvfs/base/prng.h"
#include "redirect/client.h"

#define MEM_BYTES (32u << 20)
#define NODE 1
#define LIFE 0xabcdefull
#define FRAMES_MAX 4096

struct frame {
	uint64_t conn, data;
	uint32_t data_off, data_len, len;
	uint8_t *bytes;
};

struct world {
	void *region;
	struct mem mem;
	struct sessions *ss;
	struct client *c;
	struct effects fx;
	uint64_t now_ns;
	struct prng r;
	struct frame frames[FRAMES_MAX]; /* sent, and not looked at yet */
	uint32_t frame_count;
	struct wire_room room;
};

static struct world *world_new(uint64_t seed)
{
	struct world *w = calloc(1, sizeof(*w));
	struct client_config cfg = {.mem = &w->mem, .node = NODE, .life = LIFE};
	uint8_t uuid[16] = {1};

	w->region = aligned_alloc(4096, MEM_BYTES);
	mem_init(&w->mem, w->region, MEM_BYTES);
	w->fx.arena = malloc(EFFECTS_ARENA);
	w->now_ns = 1000 * NS_PER_SEC;
	w->r.s = seed;
	w->ss = sessions_create(&w->mem, uuid, NODE, "n1", LIFE, NULL);
	w->c = client_create(&cfg);
	assert_non_null(w->c);
	return w;
}

static void frames_drop(struct world *w, uint64_t conn)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w->frame_count; i++) {
		if (conn && w->frames[i].conn != conn)
			w->frames[n++] = w->frames[i];
		else
			free(w->frames[i].bytes);
	}
	w->frame_count = n;
}

static void world_free(struct world *w)
{
	frames_drop(w, 0);
	free(w->region);
	free(w->fx.arena);
	free(w);
}

/* Effects of the network become frames; the others stay to be looked at by the caller. */
static void frames_collect(struct world *w)
{
	for (uint32_t i = 0; i < w->fx.count; i++) {
		const struct effect *e = &w->fx.fx[i];
		struct frame *f = &w->frames[w->frame_count];

		if (e->type != FX_NET_SEND)
			continue;
		assert_true(w->frame_count < FRAMES_MAX);
		w->frame_count++;
		f->conn = e->net.conn;
		f->data = e->net.data;
		f->data_off = e->net.data_off;
		f->data_len = e->net.data_len;
		f->len = e->net.len;
		f->bytes = malloc(f->len);
		memcpy(f->bytes, e->net.bytes, f->len);
	}
}

static void session_event(struct world *w, struct event *ev)
{
	struct session *s;

	ev->now_ns = w->now_ns;
	effects_reset(&w->fx);
	assert_null(sessions_event(w->ss, ev, &w->fx, &s));
	while (sessions_note(w->ss, &s) != SESSION_NOTE_NONE)
		;
}

/* A session to that node, up. */
static struct session *session_make(struct world *w, uint32_t node)
{
	struct event up = {.type = EV_NET_UP}, hello = {.type = EV_NET_MSG};
	struct msg m = {.type = MSG_HELLO_OK};
	char name[8];
	uint8_t frame[256];
	struct session *s;

	snprintf(name, sizeof(name), "n%u", node);
	s = session_open(w->ss, node, name, "10.0.0.1", 1);
	if (s->state == SESSION_UP)
		return s;
	while (s->state != SESSION_CONNECTING) {
		w->now_ns += 100 * NS_PER_MS;
		effects_reset(&w->fx);
		sessions_step(w->ss, w->now_ns, &w->fx);
	}
	up.net.conn = hello.net.conn = s->conn;
	strcpy(up.net.name, name);
	session_event(w, &up);
	m.hello.uuid[0] = 1;
	m.hello.node = node;
	m.hello.life = 50 + node;
	strcpy(m.hello.name, name);
	hello.net.bytes = frame;
	hello.net.len = wire_encode(&m, frame, sizeof(frame));
	session_event(w, &hello);
	assert_int_equal(s->state, SESSION_UP);
	return s;
}

static void session_lose(struct world *w, struct session *s)
{
	struct event down = {.type = EV_NET_DOWN};

	down.net.conn = s->conn;
	session_event(w, &down);
}

static void step(struct world *w)
{
	effects_reset(&w->fx);
	client_step(w->c, w->now_ns, &w->fx);
	client_check(w->c);
	frames_collect(w);
}

/* The i-th frame as a message; valid until the next. */
static const struct msg *frame_msg(struct world *w, uint32_t i)
{
	static struct msg m;

	assert_true(i < w->frame_count);
	assert_int_equal(wire_decode(&m, w->frames[i].bytes, w->frames[i].len, &w->room), 0);
	return &m;
}

#endif
