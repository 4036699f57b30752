/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test_client.c - requests and block I/O of a node whose coordinators and peers come and go.
 *
 * The other side is a model: coordinators that share one reply cache, as on disk, and peers that write to
 * one LUN, where a write of a lost session may still land until it is fenced.
 */
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

static struct fs_request request(enum fs_op op)
{
	struct fs_request rq = {.op = op, .ino = 1};

	if (op == FS_LOOKUP || op == FS_MKDIR || op == FS_UNLINK)
		strcpy(rq.name, "name");
	return rq;
}

/* The i-th frame as a message; valid until the next. */
static const struct msg *frame_msg(struct world *w, uint32_t i)
{
	static struct msg m;

	assert_true(i < w->frame_count);
	assert_int_equal(wire_decode(&m, w->frames[i].bytes, w->frames[i].len, &w->room), 0);
	return &m;
}

/* ------------------------------------------------------------------ requests, one rule each */

static void requests_wait_for_a_coordinator_that_serves(void **state)
{
	struct world *w = world_new(1);
	struct fs_request rq = request(FS_MKDIR);
	struct session *s = session_make(w, 2);

	assert_int_equal(client_submit(w->c, 11, &rq, w->now_ns), 0);
	step(w);
	assert_int_equal(w->frame_count, 0); /* R2: a session alone is not enough */
	client_serve_remote(w->c, s);
	step(w);
	assert_int_equal(w->frame_count, 1);
	assert_int_equal(frame_msg(w, 0)->request.op, FS_MKDIR);
	assert_string_equal(frame_msg(w, 0)->request.name, "name");
	world_free(w);
}

static void a_request_is_copied_with_its_data(void **state)
{
	struct world *w = world_new(1);
	struct fs_extent x[2] = {
		{0, 4096, 8192, EXT_WRITTEN, 0}, {8192, 4096, 16384, EXT_WRITTEN, 0}};
	struct fs_request rq = request(FS_LAYOUT_COMMIT), sl = request(FS_SYMLINK);
	char target[] = "where it points";
	const struct msg *m;

	rq.extents = x;
	rq.extent_count = 2;
	strcpy(sl.name, "link");
	sl.data = target;
	sl.data_len = sizeof(target) - 1;
	assert_int_equal(client_submit(w->c, 1, &rq, 0), 0);
	assert_int_equal(client_submit(w->c, 2, &sl, 0), 0);
	memset(x, 0xff, sizeof(x));
	memset(target, 'x', sizeof(target));
	client_serve_remote(w->c, session_make(w, 2));
	step(w);
	m = frame_msg(w, 0);
	assert_int_equal(m->request.extent_count, 2);
	assert_int_equal(m->request.extents[1].lun_off, 16384);
	m = frame_msg(w, 1);
	assert_memory_equal(m->request.data, "where it points", 15);
	world_free(w);
}

static void what_cannot_be_carried_is_refused_at_once(void **state)
{
	struct world *w = world_new(1);
	struct fs_request rq = request(FS_LOOKUP);

	strcpy(rq.name, "a/b");
	assert_int_equal(client_submit(w->c, 1, &rq, 0), -EINVAL);
	client_check(w->c);
	world_free(w);
}

static void only_what_was_never_sent_can_be_cancelled(void **state)
{
	struct world *w = world_new(1);
	struct fs_request rq = request(FS_UNLINK);
	struct client_stats st;

	assert_int_equal(client_submit(w->c, 1, &rq, 0), 0);
	assert_int_equal(client_submit(w->c, 2, &rq, 0), 0);
	assert_true(client_cancel(w->c, 1));
	assert_false(client_cancel(w->c, 1));
	client_serve_remote(w->c, session_make(w, 2));
	step(w);
	assert_int_equal(w->frame_count, 1);
	assert_false(client_cancel(w->c, 2)); /* it may have been executed */
	client_down(w->c);
	assert_false(client_cancel(w->c, 2));
	client_get_stats(w->c, &st);
	assert_int_equal(st.ready, 1);
	assert_int_equal(st.slots_used, 1);
	world_free(w);
}

static void a_slot_is_used_again_only_after_the_reply(void **state)
{
	struct world *w = world_new(1);
	struct fs_request rq = request(FS_MKDIR);
	struct client_stats st;
	struct fs_reqid id;
	uint64_t tag, wire_tag;

	client_serve_remote(w->c, session_make(w, 2));
	for (uint64_t i = 1; i <= SLOTS_MAX + 3; i++)
		assert_int_equal(client_submit(w->c, i, &rq, w->now_ns), 0);
	rq = request(FS_LOOKUP); /* needs no slot, waits for nobody */
	assert_int_equal(client_submit(w->c, 1000, &rq, w->now_ns), 0);
	step(w);
	client_get_stats(w->c, &st);
	assert_int_equal(st.sent, SLOTS_MAX + 1);
	assert_int_equal(st.queued, 3);
	id = frame_msg(w, 7)->request.id;
	wire_tag = frame_msg(w, 7)->tag;
	assert_true(client_answered(w->c, wire_tag, &id, w->now_ns, &tag));
	assert_int_equal(tag, 8);
	step(w);
	/* First in, first out; the same slot with the next sequence number. */
	assert_int_equal(frame_msg(w, SLOTS_MAX + 1)->request.id.slot, id.slot);
	assert_int_equal(frame_msg(w, SLOTS_MAX + 1)->request.id.seq, id.seq + 1);
	client_get_stats(w->c, &st);
	assert_int_equal(st.queued, 2);
	/* The reply comes once more: R4. */
	assert_false(client_answered(w->c, wire_tag, &id, w->now_ns, &tag));
	world_free(w);
}

static void a_reply_of_another_life_or_slot_is_ignored(void **state)
{
	struct world *w = world_new(1);
	struct fs_request rq = request(FS_MKDIR);
	struct fs_reqid id, bad;
	uint64_t tag = 0, wire_tag;

	assert_int_equal(client_submit(w->c, 5, &rq, 0), 0);
	client_serve_remote(w->c, session_make(w, 2));
	step(w);
	id = frame_msg(w, 0)->request.id;
	wire_tag = frame_msg(w, 0)->tag;
	bad = id;
	bad.life++;
	assert_false(client_answered(w->c, wire_tag, &bad, 0, &tag));
	bad = id;
	bad.seq++;
	assert_false(client_answered(w->c, wire_tag, &bad, 0, &tag));
	bad = id;
	bad.slot++;
	assert_false(client_answered(w->c, wire_tag, &bad, 0, &tag));
	assert_false(client_answered(w->c, wire_tag + 1, &id, 0, &tag));
	client_down(w->c); /* READY again: an answer now is the old coordinator's */
	assert_false(client_answered(w->c, wire_tag, &id, 0, &tag));
	client_serve_remote(w->c, session_make(w, 2));
	step(w);
	assert_true(client_answered(w->c, wire_tag, &id, 0, &tag));
	assert_int_equal(tag, 5);
	world_free(w);
}

static void an_expired_request_keeps_its_slot_until_its_reply(void **state)
{
	struct world *w = world_new(1);
	struct fs_request rq = request(FS_MKDIR);
	struct client_stats st;
	struct fs_reqid id;
	uint64_t tag, wire_tag;

	client_serve_remote(w->c, session_make(w, 2));
	assert_int_equal(client_submit(w->c, 1, &rq, 100), 0);
	step(w);
	client_down(w->c);
	assert_int_equal(client_submit(w->c, 2, &rq, 200), 0);
	assert_int_equal(client_submit(w->c, 3, &rq, 300), 0);
	assert_true(client_next_expired(w->c, 250, &tag));
	assert_int_equal(tag, 1);
	assert_true(client_next_expired(w->c, 250, &tag));
	assert_int_equal(tag, 2);
	assert_false(client_next_expired(w->c, 250, &tag));
	client_check(w->c);
	client_get_stats(w->c, &st);
	assert_int_equal(st.slots_used, 2);
	client_serve_remote(w->c, session_make(w, 2));
	step(w);
	id = frame_msg(w, 1)->request.id;
	wire_tag = frame_msg(w, 1)->tag;
	assert_int_equal(frame_msg(w, 0)->tag, wire_tag); /* it was sent again */
	assert_false(client_answered(w->c, wire_tag, &id, 400, &tag));
	client_get_stats(w->c, &st);
	assert_int_equal(st.slots_used, 1);
	world_free(w);
}

static void a_step_sends_no_more_than_fits(void **state)
{
	struct world *w = world_new(1);
	struct fs_request rq = request(FS_LOOKUP);
	uint32_t steps = 0;

	for (uint64_t i = 0; i < 3000; i++)
		assert_int_equal(client_submit(w->c, i, &rq, 0), 0);
	client_serve_remote(w->c, session_make(w, 2));
	do {
		step(w);
		assert_true(w->fx.count <= EFFECTS_MAX - 256);
		steps++;
	} while (client_deadline(w->c) == 0);
	assert_int_equal(w->frame_count, 3000);
	assert_in_range(steps, 3, 6);
	world_free(w);
}

/* ------------------------------------------------------------------ requests, all rules at once */

#define TAGS 3000

/* What the reply cache on disk remembers, and what was done how often. */
struct cache {
	uint64_t seq[SLOTS_MAX + 1], tag_of[SLOTS_MAX + 1];
	uint8_t executed[TAGS], answered[TAGS];
	enum fs_op op[TAGS];
};

/* The coordinator does it, or finds that it was done. */
static void execute(struct cache *k, const struct fs_request *rq)
{
	uint64_t tag = rq->time_ns; /* the test hides its number there */

	assert_true(tag < TAGS);
	assert_int_equal(rq->id.node, NODE);
	assert_int_equal(rq->id.life, LIFE);
	if (rq->id.slot) {
		if (rq->id.seq == k->seq[rq->id.slot]) {
			assert_int_equal(k->tag_of[rq->id.slot], tag);
			return;
		}
		assert_int_equal(rq->id.seq, k->seq[rq->id.slot] + 1);
		k->seq[rq->id.slot] = rq->id.seq;
		k->tag_of[rq->id.slot] = tag;
	}
	k->executed[tag]++;
}

static void answer(struct world *w, struct cache *k, uint64_t wire_tag, const struct fs_reqid *id)
{
	uint64_t tag;

	if (client_answered(w->c, wire_tag, id, w->now_ns, &tag))
		k->answered[tag]++;
	client_check(w->c);
}

/* One frame of those on their way is executed; its reply arrives, or is lost with the session. */
static void coordinator_works(struct world *w, struct cache *k, uint32_t reply_percent)
{
	struct fs_reqid id;
	uint64_t wire_tag;
	const struct msg *m;

	if (!w->frame_count)
		return;
	m = frame_msg(w, 0);
	id = m->request.id;
	wire_tag = m->tag;
	execute(k, &m->request);
	free(w->frames[0].bytes);
	memmove(&w->frames[0], &w->frames[1], --w->frame_count * sizeof(w->frames[0]));
	if (prng_below(&w->r, 100) < reply_percent)
		answer(w, k, wire_tag, &id);
	if (prng_below(&w->r, 100) < 10)
		answer(w, k, wire_tag, &id); /* or late, or twice */
}

static void local_works(struct world *w, struct cache *k, uint32_t reply_percent)
{
	const struct fs_request *rq;
	struct fs_reqid id;
	uint64_t wire_tag;

	rq = client_next_local(w->c, &wire_tag);
	if (!rq)
		return;
	id = rq->id;
	execute(k, rq);
	if (prng_below(&w->r, 100) < reply_percent)
		answer(w, k, wire_tag, &id);
}

static void submit_some(struct world *w, struct cache *k, uint64_t *next)
{
	static const enum fs_op ops[] = {FS_MKDIR, FS_UNLINK, FS_OPEN, FS_FSYNC};
	struct fs_request rq;

	for (uint64_t n = prng_below(&w->r, 30); n && *next < TAGS; n--) {
		k->op[*next] = ops[prng_below(&w->r, 4)];
		rq = request(k->op[*next]);
		rq.time_ns = (int64_t)*next;
		assert_int_equal(client_submit(w->c, *next, &rq, w->now_ns), 0);
		++*next;
	}
}

static void coordinator_changes(struct world *w, struct session **s)
{
	if (*s) {
		frames_drop(w, (*s)->conn);
		session_lose(w, *s);
		*s = NULL;
	}
	client_down(w->c);
	client_check(w->c);
	if (prng_below(&w->r, 2)) {
		*s = session_make(w, 2 + (uint32_t)prng_below(&w->r, 3));
		client_serve_remote(w->c, *s);
	} else if (prng_below(&w->r, 2)) {
		client_serve_local(w->c);
	}
}

static void requests_run(uint64_t seed)
{
	struct world *w = world_new(seed);
	struct cache *k = calloc(1, sizeof(*k));
	struct session *s = NULL;
	struct client_stats st;
	uint64_t next = 0;

	for (uint32_t i = 0; i < 4000; i++) {
		uint64_t what = prng_below(&w->r, 100);

		w->now_ns += NS_PER_MS;
		if (what < 5)
			submit_some(w, k, &next);
		else if (what < 7)
			coordinator_changes(w, &s);
		else if (what < 70)
			coordinator_works(w, k, 80);
		else
			local_works(w, k, 80);
		step(w);
	}
	/* Peace: one coordinator, no losses. */
	if (s)
		frames_drop(w, s->conn);
	client_down(w->c);
	client_serve_remote(w->c, session_make(w, 9));
	for (uint32_t i = 0; i < 20000; i++) {
		step(w);
		coordinator_works(w, k, 100);
	}
	for (uint64_t i = 0; i < next; i++) {
		assert_int_equal(k->answered[i], 1);
		if (fs_op_needs_slot(k->op[i]))
			assert_int_equal(k->executed[i], 1);
		else
			assert_true(k->executed[i] >= 1);
	}
	client_get_stats(w->c, &st);
	assert_int_equal(st.queued + st.ready + st.sent + st.slots_used, 0);
	assert_int_equal(st.oldest_ns, NEVER);
	free(k);
	world_free(w);
}

static void every_request_is_executed_once_and_answered_once(void **state)
{
	for (uint64_t seed = 1; seed <= 30; seed++)
		requests_run(seed);
}

static void requests_are_sent_again_in_the_order_of_the_first_time(void **state)
{
	struct world *w = world_new(1);
	struct fs_request rq = request(FS_MKDIR);
	uint64_t first[SLOTS_MAX + 20], tag;
	uint32_t n;

	for (uint64_t i = 0; i < SLOTS_MAX + 20; i++)
		assert_int_equal(client_submit(w->c, i, &rq, 0), 0);
	client_serve_remote(w->c, session_make(w, 2));
	step(w);
	for (uint32_t i = 0; i < 20;
		i++) { /* every third is answered: those that wait come in between */
		struct fs_reqid id = frame_msg(w, 3 * i)->request.id;

		assert_true(client_answered(w->c, frame_msg(w, 3 * i)->tag, &id, 0, &tag));
		step(w);
	}
	n = 0;
	for (uint32_t i = 0; i < w->frame_count; i++)
		if (i >= SLOTS_MAX || i % 3)
			first[n++] = frame_msg(w, i)->tag;
	assert_int_equal(n, SLOTS_MAX);
	/* Ready, and not sent when the coordinator goes: behind all that were. */
	rq = request(FS_LOOKUP);
	assert_int_equal(client_submit(w->c, 1000, &rq, 0), 0);
	for (int round = 0; round < 3; round++) {
		frames_drop(w, 0);
		client_down(w->c);
		client_serve_remote(w->c, session_make(w, 2));
		step(w);
		assert_int_equal(w->frame_count, n + 1);
		for (uint32_t i = 0; i < n; i++)
			assert_int_equal(frame_msg(w, i)->tag, first[i]);
		assert_int_equal(frame_msg(w, n)->request.op, FS_LOOKUP);
	}
	world_free(w);
}

/* ------------------------------------------------------------------ block I/O, one rule each */

static void block(
	struct world *w, uint64_t tag, bool write, bool unknown, uint64_t lun_off, uint32_t len)
{
	struct seg seg = {lun_off, len, 0};
	struct event ev = {.type = EV_BLOCK, .now_ns = w->now_ns, .tag = tag};

	ev.block.write = write;
	ev.block.unknown = unknown;
	ev.block.segs = &seg;
	ev.block.seg_count = 1;
	ev.block.data = 0x1000 + tag;
	ev.block.len = len;
	assert_int_equal(client_block_submit(w->c, &ev), 0);
	client_check(w->c);
}

static enum client_block_result reply(struct world *w, struct session *s, uint64_t wire_tag,
	enum lun_status status, uint32_t data_len)
{
	struct msg m = {.type = MSG_BLOCK_REPLY, .tag = wire_tag, .data_len = data_len};
	enum client_block_result res;

	m.block_reply.status = status;
	effects_reset(&w->fx);
	res = client_block_reply(w->c, s, &m, data_len ? 777 : 0, w->now_ns, &w->fx);
	client_check(w->c);
	return res;
}

static uint32_t effects_of(const struct world *w, enum fx_type type, uint64_t tag)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w->fx.count; i++)
		n += w->fx.fx[i].type == type && w->fx.fx[i].tag == tag;
	return n;
}

static void a_read_through_a_peer_brings_its_pieces(void **state)
{
	struct seg segs[3] = {{0, 4096, 0}, {65536, 512, 4096}, {1 << 20, 3 << 20, 8192}};
	struct event ev = {.type = EV_BLOCK, .tag = 5};
	struct world *w = world_new(1);
	struct session *s = session_make(w, 2);

	ev.block.segs = segs;
	ev.block.seg_count = 3;
	ev.block.len = 4 << 20;
	assert_int_equal(client_block_submit(w->c, &ev), 0);
	client_block_peer(w->c, s, 9);
	step(w);
	assert_int_equal(w->frame_count, 5); /* the last one is longer than a message: three */
	for (uint32_t i = 0; i < 5; i++) {
		const struct msg *m = frame_msg(w, i);
		const struct effect *e;

		assert_int_equal(m->block.op, BLOCK_READ);
		assert_int_equal(m->block.incarnation, 9);
		assert_int_equal(reply(w, s, m->tag, LUN_OK, m->block.len), CLIENT_BLOCK_OK);
		assert_int_equal(w->fx.fx[0].type, FX_BLOCK_DATA);
		e = &w->fx.fx[0];
		assert_int_equal(e->tag, 5);
		assert_int_equal(e->blockdata.len, i == 0 ? 4096 : i == 1 ? 512 : 1 << 20);
		assert_int_equal(e->blockdata.buf_off, i == 0	? 0
						       : i == 1 ? 4096
								: 8192 + (i - 2) * (1u << 20));
		assert_int_equal(effects_of(w, FX_BLOCK_DONE, 5), i == 4);
		assert_int_equal(effects_of(w, FX_DATA_FREE, 0), 1);
	}
	world_free(w);
}

static void an_unknown_write_waits_for_the_word_that_it_cannot_land(void **state)
{
	struct world *w = world_new(1);
	struct session *s = session_make(w, 2);

	client_block_peer(w->c, s, 9);
	block(w, 1, true, true, 0, 4096); /* a direct attempt was made */
	block(w, 2, true, false, 2048, 4096); /* B2: overlaps it */
	block(w, 3, true, false, 8192, 4096);
	step(w);
	assert_int_equal(w->frame_count, 1);
	assert_int_equal(frame_msg(w, 0)->block.lun_off, 8192);
	client_block_resend(w->c);
	step(w);
	assert_int_equal(w->frame_count, 3);
	/* The session is lost: what was sent over it may still land. */
	session_lose(w, s);
	client_block_peer(w->c, NULL, 0);
	s = session_make(w, 3);
	client_block_peer(w->c, s, 9);
	frames_drop(w, 0);
	step(w);
	assert_int_equal(w->frame_count, 0);
	client_block_resend(w->c);
	step(w);
	assert_int_equal(w->frame_count, 3);
	world_free(w);
}

static void a_read_lost_with_its_session_is_simply_sent_again(void **state)
{
	struct world *w = world_new(1);
	struct session *s = session_make(w, 2), *t = session_make(w, 3);
	uint64_t old_tag;

	client_block_peer(w->c, s, 9);
	block(w, 1, false, false, 0, 4096);
	step(w);
	old_tag = frame_msg(w, 0)->tag;
	session_lose(w, s);
	client_block_peer(w->c, t, 9);
	frames_drop(w, 0);
	step(w);
	assert_int_equal(w->frame_count, 1);
	/* A reply over a session that did not carry it. */
	assert_int_equal(reply(w, s, old_tag, LUN_OK, 4096), CLIENT_BLOCK_STALE);
	assert_int_equal(effects_of(w, FX_DATA_FREE, 0), 1);
	assert_int_equal(effects_of(w, FX_BLOCK_DONE, 1), 0);
	assert_int_equal(reply(w, t, frame_msg(w, 0)->tag, LUN_OK, 4096), CLIENT_BLOCK_OK);
	assert_int_equal(effects_of(w, FX_BLOCK_DONE, 1), 1);
	world_free(w);
}

static void a_peer_without_a_path_is_used_no_more(void **state)
{
	struct world *w = world_new(1);
	struct session *s = session_make(w, 2);
	uint64_t tag;

	client_block_peer(w->c, s, 9);
	block(w, 1, true, false, 0, 4096);
	block(w, 2, true, false, 4096, 4096);
	block(w, 3, true, false, 8192, 4096);
	step(w);
	/* Not executed; the peer does not know; and one was done before. */
	assert_int_equal(reply(w, s, frame_msg(w, 0)->tag, LUN_RETRY, 0), CLIENT_BLOCK_NO_PATH);
	assert_null(client_block_session(w->c));
	assert_int_equal(reply(w, s, frame_msg(w, 1)->tag, LUN_UNKNOWN, 0), CLIENT_BLOCK_NO_PATH);
	assert_int_equal(reply(w, s, frame_msg(w, 2)->tag, LUN_OK, 0), CLIENT_BLOCK_OK);
	assert_int_equal(effects_of(w, FX_BLOCK_DONE, 3), 1);
	/* Our own path is back: the first is ours again, the second only after the fence. */
	assert_true(client_block_next_idle(w->c, &tag));
	assert_int_equal(tag, 1);
	assert_false(client_block_next_idle(w->c, &tag));
	client_block_resend(w->c);
	assert_true(client_block_next_idle(w->c, &tag));
	assert_int_equal(tag, 2);
	client_check(w->c);
	world_free(w);
}

static void an_error_of_the_medium_is_told_when_all_pieces_are_done(void **state)
{
	struct seg segs[2] = {{0, 4096, 0}, {65536, 4096, 4096}};
	struct event ev = {.type = EV_BLOCK, .tag = 5};
	struct world *w = world_new(1);
	struct session *s = session_make(w, 2);

	ev.block.write = true;
	ev.block.segs = segs;
	ev.block.seg_count = 2;
	assert_int_equal(client_block_submit(w->c, &ev), 0);
	client_block_peer(w->c, s, 9);
	step(w);
	assert_int_equal(w->frames[1].data_off, 4096);
	assert_int_equal(w->frames[1].data_len, 4096);
	assert_int_equal(reply(w, s, frame_msg(w, 0)->tag, LUN_MEDIUM, 0), CLIENT_BLOCK_OK);
	assert_int_equal(effects_of(w, FX_BLOCK_DONE, 5), 0);
	assert_int_equal(reply(w, s, frame_msg(w, 1)->tag, LUN_OK, 0), CLIENT_BLOCK_OK);
	assert_int_equal(effects_of(w, FX_BLOCK_DONE, 5), 1);
	assert_int_equal(w->fx.fx[0].block.err, -EIO);
	world_free(w);
}

static void the_window_bounds_what_is_on_its_way(void **state)
{
	struct world *w = world_new(1);
	struct session *s = session_make(w, 2);

	client_block_peer(w->c, s, 9);
	for (uint64_t i = 0; i < 40; i++)
		block(w, i, true, false, i << 20, 1 << 20);
	step(w);
	assert_int_equal(w->frame_count, 16);
	assert_int_equal(client_deadline(w->c), NEVER); /* a reply makes room */
	assert_int_equal(reply(w, s, frame_msg(w, 0)->tag, LUN_OK, 0), CLIENT_BLOCK_OK);
	step(w);
	assert_int_equal(w->frame_count, 17);
	world_free(w);
}

static void a_flush_is_carried_and_repeated(void **state)
{
	struct event ev = {.type = EV_BLOCK, .tag = 5};
	struct world *w = world_new(1);
	struct session *s = session_make(w, 2);

	ev.block.flush = true;
	assert_int_equal(client_block_submit(w->c, &ev), 0);
	client_block_peer(w->c, s, 9);
	step(w);
	assert_int_equal(frame_msg(w, 0)->block.op, BLOCK_FLUSH);
	assert_int_equal(reply(w, s, frame_msg(w, 0)->tag, LUN_UNKNOWN, 0), CLIENT_BLOCK_NO_PATH);
	/* B4: the core may choose the same peer again, but it is asked again only later. */
	client_block_peer(w->c, s, 9);
	step(w);
	assert_int_equal(w->frame_count, 1);
	assert_int_equal(client_deadline(w->c), w->now_ns + CLIENT_BLOCK_PAUSE_NS);
	w->now_ns += CLIENT_BLOCK_PAUSE_NS;
	step(w);
	assert_int_equal(w->frame_count, 2);
	assert_int_equal(client_deadline(w->c), NEVER);
	assert_int_equal(reply(w, s, frame_msg(w, 1)->tag, LUN_OK, 0), CLIENT_BLOCK_OK);
	assert_int_equal(effects_of(w, FX_BLOCK_DONE, 5), 1);
	world_free(w);
}

static void a_cancelled_or_expired_io_ends_when_nothing_can_land(void **state)
{
	struct world *w = world_new(1);
	struct session *s = session_make(w, 2);
	struct client_stats st;
	uint64_t tag;

	block(w, 1, true, false, 0, 4096);
	assert_true(client_block_cancel(w->c, 1));
	client_block_peer(w->c, s, 9);
	block(w, 2, true, false, 0, 4096);
	block(w, 3, false, false, 0, 4096);
	step(w);
	assert_false(client_block_cancel(w->c, 2));
	assert_true(client_block_next_expired(w->c, w->now_ns + 1, &tag));
	assert_int_equal(tag, 2);
	assert_true(client_block_next_expired(w->c, w->now_ns + 1, &tag));
	assert_int_equal(tag, 3);
	assert_false(client_block_next_expired(w->c, w->now_ns + 1, &tag));
	client_check(w->c);
	/* The read's bytes come too late for its buffer. */
	assert_int_equal(reply(w, s, frame_msg(w, 1)->tag, LUN_OK, 4096), CLIENT_BLOCK_OK);
	assert_int_equal(effects_of(w, FX_BLOCK_DATA, 3), 0);
	assert_int_equal(effects_of(w, FX_BLOCK_DONE, 3), 0);
	session_lose(w, s);
	client_block_peer(w->c, NULL, 0);
	client_get_stats(w->c, &st);
	assert_int_equal(st.block_unknown, 1); /* the write may still land */
	client_block_resend(w->c);
	client_get_stats(w->c, &st);
	assert_int_equal(st.block_unknown + st.block_held + st.block_sent, 0);
	world_free(w);
}

/* ------------------------------------------------------------------ block I/O, all rules at once */

#define CELLS 64
#define CELL_BYTES 8192u
#define ZOMBIES 4096

/* A write that has left a peer, or our own dead path, and may land any time until it is fenced. */
struct zombie {
	uint32_t cell, value;
	bool live;
};

struct lun {
	uint32_t cell[CELLS]; /* number of the write that is there */
	uint32_t submitted[CELLS]; /* newest write of the cell */
	uint32_t acked[CELLS];
	struct zombie zombies[ZOMBIES];
	uint32_t zombie_count;
	uint64_t acks;
};

/* The application's view: after the answer, the newest write is there; before it, the one before or it. */
static void lun_check(const struct lun *l)
{
	for (uint32_t i = 0; i < CELLS; i++) {
		assert_true(l->cell[i] >= l->acked[i]);
		assert_true(l->cell[i] <= l->submitted[i]);
	}
}

/* The tag of a write: its cell, and its number among the cell's. */
static uint64_t tag_of(uint32_t cell, uint32_t value)
{
	return (uint64_t)value << 8 | cell;
}

static void zombie_add(struct lun *l, uint32_t cell, uint32_t value)
{
	assert_true(l->zombie_count < ZOMBIES);
	l->zombies[l->zombie_count++] = (struct zombie){cell, value, true};
}

static void zombie_lands(struct world *w, struct lun *l)
{
	struct zombie *z;

	if (!l->zombie_count)
		return;
	z = &l->zombies[prng_below(&w->r, l->zombie_count)];
	if (!z->live)
		return;
	z->live = false;
	l->cell[z->cell] = z->value;
	lun_check(l);
}

static void submit_write(struct world *w, struct lun *l)
{
	uint32_t i = (uint32_t)prng_below(&w->r, CELLS);
	bool unknown = prng_below(&w->r, 10) == 0;

	if (l->submitted[i] != l->acked[i])
		return; /* the application waits for the answer */
	l->submitted[i]++;
	if (unknown)
		zombie_add(l, i, l->submitted[i]);
	block(w, tag_of(i, l->submitted[i]), true, unknown, (uint64_t)i * CELL_BYTES, CELL_BYTES);
}

/* What the peer does with the oldest frame: all that can happen to a write. */
static void peer_works(struct world *w, struct lun *l, struct session *s)
{
	static const enum lun_status outcomes[] = {LUN_OK, LUN_OK, LUN_OK, LUN_OK, LUN_OK, LUN_OK,
		LUN_RETRY, LUN_UNKNOWN, LUN_CONFLICT, LUN_OK};
	enum lun_status status = outcomes[prng_below(&w->r, 10)];
	uint32_t cell, value;
	struct frame f;
	uint64_t wire_tag;

	if (!w->frame_count)
		return;
	f = w->frames[0];
	wire_tag = frame_msg(w, 0)->tag;
	cell = (uint32_t)(frame_msg(w, 0)->block.lun_off / CELL_BYTES);
	value = (uint32_t)((f.data - 0x1000) >> 8);
	memmove(&w->frames[0], &w->frames[1], --w->frame_count * sizeof(w->frames[0]));
	free(f.bytes);
	if (status == LUN_OK) {
		l->cell[cell] = value;
		lun_check(l);
	} else if (status == LUN_UNKNOWN) {
		zombie_add(l, cell, value);
	}
	(void)reply(w, s, wire_tag, status, 0);
	for (uint32_t i = 0; i < w->fx.count; i++) {
		if (w->fx.fx[i].type != FX_BLOCK_DONE)
			continue;
		assert_int_equal(w->fx.fx[i].block.err, 0);
		assert_int_equal(w->fx.fx[i].tag, tag_of(cell, value));
		l->acked[cell] = value;
		l->acks++;
	}
	lun_check(l);
}

/* Frames that the peer had not looked at may have been, or will be, written all the same. */
static void peer_lost(struct world *w, struct lun *l, struct session *s)
{
	for (uint32_t i = 0; i < w->frame_count; i++)
		if (w->frames[i].conn == s->conn)
			zombie_add(l, (uint32_t)(frame_msg(w, i)->block.lun_off / CELL_BYTES),
				(uint32_t)((w->frames[i].data - 0x1000) >> 8));
	frames_drop(w, s->conn);
	session_lose(w, s);
	client_block_peer(w->c, NULL, 0);
	client_check(w->c);
}

static void fence(struct world *w, struct lun *l)
{
	for (uint32_t i = 0; i < l->zombie_count; i++)
		if (l->zombies[i].live && prng_below(&w->r, 2))
			l->cell[l->zombies[i].cell] = l->zombies[i].value;
	lun_check(l);
	l->zombie_count = 0;
	client_block_resend(w->c);
	client_check(w->c);
}

static void blocks_run(uint64_t seed)
{
	struct world *w = world_new(seed);
	struct lun *l = calloc(1, sizeof(*l));
	struct session *s = session_make(w, 2);
	struct client_stats st;

	client_block_peer(w->c, s, 9);
	for (uint32_t i = 0; i < 6000; i++) {
		uint64_t what = prng_below(&w->r, 1000);

		w->now_ns += 20 * NS_PER_MS;
		if (what < 300)
			submit_write(w, l);
		else if (what < 400)
			zombie_lands(w, l);
		else if (what < 410)
			fence(w, l);
		else if (what < 415 && s)
			peer_lost(w, l, s), s = NULL;
		else if (s)
			peer_works(w, l, s);
		if (!s)
			s = session_make(w, 2 + (uint32_t)prng_below(&w->r, 3));
		if (!client_block_session(w->c) && prng_below(&w->r, 4) == 0)
			client_block_peer(w->c, s, 9);
		step(w);
	}
	for (uint32_t i = 0; i < 3000; i++) {
		w->now_ns += CLIENT_BLOCK_PAUSE_NS;
		fence(w, l);
		client_block_peer(w->c, s, 9);
		step(w);
		peer_works(w, l, s);
	}
	client_get_stats(w->c, &st);
	assert_int_equal(st.block_held + st.block_sent + st.block_unknown, 0);
	assert_true(l->acks > 200);
	for (uint32_t i = 0; i < CELLS; i++)
		assert_int_equal(l->acked[i], l->submitted[i]);
	free(l);
	world_free(w);
}

static void no_write_lands_after_a_newer_one_was_answered(void **state)
{
	for (uint64_t seed = 1; seed <= 30; seed++)
		blocks_run(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_wait_for_a_coordinator_that_serves),
		cmocka_unit_test(a_request_is_copied_with_its_data),
		cmocka_unit_test(what_cannot_be_carried_is_refused_at_once),
		cmocka_unit_test(only_what_was_never_sent_can_be_cancelled),
		cmocka_unit_test(a_slot_is_used_again_only_after_the_reply),
		cmocka_unit_test(a_reply_of_another_life_or_slot_is_ignored),
		cmocka_unit_test(an_expired_request_keeps_its_slot_until_its_reply),
		cmocka_unit_test(a_step_sends_no_more_than_fits),
		cmocka_unit_test(every_request_is_executed_once_and_answered_once),
		cmocka_unit_test(requests_are_sent_again_in_the_order_of_the_first_time),
		cmocka_unit_test(a_read_through_a_peer_brings_its_pieces),
		cmocka_unit_test(an_unknown_write_waits_for_the_word_that_it_cannot_land),
		cmocka_unit_test(a_read_lost_with_its_session_is_simply_sent_again),
		cmocka_unit_test(a_peer_without_a_path_is_used_no_more),
		cmocka_unit_test(an_error_of_the_medium_is_told_when_all_pieces_are_done),
		cmocka_unit_test(the_window_bounds_what_is_on_its_way),
		cmocka_unit_test(a_flush_is_carried_and_repeated),
		cmocka_unit_test(a_cancelled_or_expired_io_ends_when_nothing_can_land),
		cmocka_unit_test(no_write_lands_after_a_newer_one_was_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
