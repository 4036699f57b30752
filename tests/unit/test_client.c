/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test_client.c - requests of a node whose coordinators come and go. The other side is a model:
 * coordinators that share one reply cache, as on disk.
 */
#include "tests/unit/client_world.h"

static struct fs_request request(enum fs_op op)
{
	struct fs_request rq = {.op = op, .ino = 1};

	if (op == FS_LOOKUP || op == FS_MKDIR || op == FS_UNLINK)
		strcpy(rq.name, "name");
	return rq;
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

/* A LOCK that is not out: what was granted and not answered went with the session. */
static void a_lock_can_be_given_up_while_nobody_serves(void **state)
{
	struct world *w = world_new(1);
	struct fs_request rq = {.op = FS_LOCK,
		.ino = 5,
		.lock = {.type = FS_LK_WRITE, .flags = FS_LK_WAIT, .end = FS_LK_END}};
	struct fs_request un = {.op = FS_UNLOCK, .ino = 5, .lock = {.end = FS_LK_END}};
	struct client_stats st;
	uint64_t tag;
	bool sent;

	assert_int_equal(client_submit(w->c, 1, &rq, 0), 0);
	assert_int_equal(client_submit(w->c, 2, &rq, 0), 0);
	assert_int_equal(client_submit(w->c, 3, &un, 0), 0);
	client_serve_remote(w->c, session_make(w, 2));
	step(w);
	assert_int_equal(w->frame_count, 3);
	/* Out, it waits for another process, however long. */
	assert_false(client_cancel(w->c, 1));
	assert_false(client_next_expired(w->c, NEVER, &tag, &sent));
	client_down(w->c);
	assert_true(client_cancel(w->c, 1));
	assert_true(client_next_expired(w->c, NEVER, &tag, &sent));
	assert_int_equal(tag, 2);
	/* To unlock is never given up. */
	assert_false(client_next_expired(w->c, NEVER, &tag, &sent));
	client_get_stats(w->c, &st);
	assert_int_equal(st.ready, 1);
	client_check(w->c);
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
	bool sent;

	client_serve_remote(w->c, session_make(w, 2));
	assert_int_equal(client_submit(w->c, 1, &rq, 100), 0);
	step(w);
	client_down(w->c);
	assert_int_equal(client_submit(w->c, 2, &rq, 200), 0);
	assert_int_equal(client_submit(w->c, 3, &rq, 300), 0);
	assert_true(client_next_expired(w->c, 250, &tag, &sent));
	assert_int_equal(tag, 1);
	assert_true(sent);
	assert_true(client_next_expired(w->c, 250, &tag, &sent));
	assert_int_equal(tag, 2);
	assert_false(sent);
	assert_false(client_next_expired(w->c, 250, &tag, &sent));
	client_check(w->c);
	client_get_stats(w->c, &st);
	assert_int_equal(st.slots_used, 2);
	client_serve_remote(w->c, session_make(w, 2));
	step(w);
	id = frame_msg(w, 1)->request.id;
	wire_tag = frame_msg(w, 1)->tag;
	assert_int_equal(frame_msg(w, 0)->tag, wire_tag); /* it was sent again */
	/* What it made must be known: a file that is open, the place of an append. */
	assert_true(client_answered(w->c, wire_tag, &id, 400, &tag));
	assert_int_equal(tag, 1);
	client_get_stats(w->c, &st);
	assert_int_equal(st.slots_used, 1);
	world_free(w);
}

/* The coordinator would never learn of it, and the node believe that it is done. */
static void what_commits_or_gives_back_never_expires(void **state)
{
	const enum fs_op ops[] = {FS_LAYOUT_COMMIT, FS_LAYOUT_RETURN, FS_CLOSE, FS_OPEN};
	struct world *w = world_new(1);
	uint64_t tag;
	bool sent;

	for (uint32_t i = 0; i < 4; i++) {
		struct fs_request rq = request(ops[i]);

		rq.name[0] = 0;
		assert_int_equal(client_submit(w->c, i, &rq, 100), 0);
	}
	assert_false(client_next_expired(w->c, NEVER, &tag, &sent));
	client_serve_remote(w->c, session_make(w, 2));
	step(w);
	assert_int_equal(w->frame_count, 4);
	assert_false(client_next_expired(w->c, NEVER, &tag, &sent));
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_wait_for_a_coordinator_that_serves),
		cmocka_unit_test(a_request_is_copied_with_its_data),
		cmocka_unit_test(what_cannot_be_carried_is_refused_at_once),
		cmocka_unit_test(only_what_was_never_sent_can_be_cancelled),
		cmocka_unit_test(a_lock_can_be_given_up_while_nobody_serves),
		cmocka_unit_test(a_slot_is_used_again_only_after_the_reply),
		cmocka_unit_test(a_reply_of_another_life_or_slot_is_ignored),
		cmocka_unit_test(an_expired_request_keeps_its_slot_until_its_reply),
		cmocka_unit_test(what_commits_or_gives_back_never_expires),
		cmocka_unit_test(a_step_sends_no_more_than_fits),
		cmocka_unit_test(every_request_is_executed_once_and_answered_once),
		cmocka_unit_test(requests_are_sent_again_in_the_order_of_the_first_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
