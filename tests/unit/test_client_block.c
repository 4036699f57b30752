/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test_client_block.c - block I/O of a node whose peers come and go. They write to one LUN, where a write
 * of a lost session may still land until it is fenced.
 */
#include "tests/unit/client_world.h"

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
	bool lands;

	block(w, 1, true, false, 0, 4096);
	assert_true(client_block_cancel(w->c, 1));
	client_block_peer(w->c, s, 9);
	block(w, 2, true, false, 0, 4096);
	block(w, 3, false, false, 0, 4096);
	step(w);
	assert_false(client_block_cancel(w->c, 2));
	assert_true(client_block_next_expired(w->c, w->now_ns + 1, &tag, &lands));
	assert_int_equal(tag, 2);
	assert_true(lands);
	assert_true(client_block_next_expired(w->c, w->now_ns + 1, &tag, &lands));
	assert_int_equal(tag, 3);
	assert_false(lands);
	assert_false(client_block_next_expired(w->c, w->now_ns + 1, &tag, &lands));
	client_check(w->c);
	/* The read's bytes come too late for its buffer. */
	assert_int_equal(reply(w, s, frame_msg(w, 1)->tag, LUN_OK, 4096), CLIENT_BLOCK_OK);
	assert_int_equal(effects_of(w, FX_BLOCK_DATA, 3), 0);
	assert_int_equal(effects_of(w, FX_BLOCK_DONE, 3), 0);
	session_lose(w, s);
	client_block_peer(w->c, NULL, 0);
	client_get_stats(w->c, &st);
	assert_int_equal(st.block_unknown, 1); /* the write may still land */
	assert_false(client_block_next_over(w->c, &tag));
	client_block_resend(w->c);
	step(w);
	assert_true(client_block_next_over(w->c, &tag)); /* not sent again, and told */
	assert_int_equal(tag, 2);
	assert_false(client_block_next_over(w->c, &tag));
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
