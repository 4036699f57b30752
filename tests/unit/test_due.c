/* SPDX-License-Identifier: GPL-2.0-or-later */
/* More answers, or messages, than there are effects in a step (node_due.c, and where else a list without a limit is gone through). */
#include <errno.h>
#include <string.h>

#include "coordinator/takeover_priv.h"
#include "tests/unit/node_alone.h"

#define INO 7
#define COUNT 1500u
#define LATER 5000u
#define ELSEWHERE 2

static uint32_t told[LATER + 1]; /* by tag: how often, */
static int32_t answer[LATER + 1]; /* and with what */

static int setup(void **state)
{
	(void)state;
	node_alone();
	memset(told, 0, sizeof(told));
	n->path.write_cache = false; /* an fsync is its commit */
	client_serve_local(n->client);
	return 0;
}

/* What has been told in this step. How many were. */
static uint32_t hear(void)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < fx.count; i++) {
		const struct effect *e = &fx.fx[i];

		if (e->type != FX_REPLY && e->type != FX_BLOCK_DONE)
			continue;
		assert_in_range(e->tag, 1, LATER);
		told[e->tag]++;
		answer[e->tag] = e->type == FX_REPLY ? e->reply->err : e->block.err;
		count++;
	}
	effects_reset(&fx);
	return count;
}

/* The next steps, as soon as they may be. */
static void all_steps(void)
{
	for (uint32_t steps = 0; node_due(n); steps++) {
		assert_in_range(steps, 0, 9);
		assert_int_equal(node_deadline(n), 0);
		node_due_step(n, &fx);
		hear();
	}
}

static void all_heard(int32_t err)
{
	for (uint32_t tag = 1; tag <= COUNT; tag++) {
		assert_int_equal(told[tag], 1);
		assert_int_equal(answer[tag], err);
	}
}

/* Answers what the node asks next, which is `op`. */
static void coordinator(enum fs_op op, int32_t err)
{
	node_alone_answer(op, INO, err);
}

/* ------------------------------------------------------------------ opens */

static void open_as(uint64_t tag)
{
	struct fs_request rq = {.op = FS_OPEN, .ino = INO};

	node_file_open(n, tag, &rq, &fx);
}

static void close_one(void)
{
	node_file_close_one(n, INO, &fx);
}

static void thousands_open_a_file_at_once(void **state)
{
	uint32_t first;

	(void)state;
	for (uint32_t tag = 1; tag <= COUNT; tag++)
		open_as(tag);
	coordinator(FS_OPEN, 0);
	first = hear();
	assert_in_range(first, 1, COUNT - 1);
	/* Who has heard closes it. It stays open for those who have not. */
	for (uint32_t i = 0; i < first; i++)
		close_one();
	assert_int_equal(node_file_find(n, INO)->st, FILE_OPEN);
	effects_reset(&fx);
	all_steps();
	all_heard(0);
	assert_int_equal(node_file_find(n, INO)->opens, COUNT - first);
	for (uint32_t i = first; i < COUNT; i++)
		close_one();
	assert_int_equal(node_file_find(n, INO)->st, FILE_CLOSING);
}

/* It is forgotten then. Who opens it in the same moment is told of its own OPEN. */
static void thousands_cannot_open_it(void **state)
{
	(void)state;
	for (uint32_t tag = 1; tag <= COUNT; tag++)
		open_as(tag);
	coordinator(FS_OPEN, -EIO);
	hear();
	assert_true(node_due(n));
	assert_null(node_file_find(n, INO));
	open_as(LATER);
	coordinator(FS_OPEN, 0);
	hear();
	all_steps();
	all_heard(-EIO);
	assert_int_equal(told[LATER], 1);
	assert_int_equal(answer[LATER], 0);
	assert_int_equal(node_file_find(n, INO)->opens, 1);
}

/* Another life of that number: nothing comes of the OPEN, and the file is closed while they hear of it. */
static void thousands_mean_another_life_of_it(void **state)
{
	struct fs_request rq = {.op = FS_OPEN, .ino = INO, .generation = 9};

	(void)state;
	for (uint32_t tag = 1; tag <= COUNT; tag++)
		node_file_open(n, tag, &rq, &fx);
	coordinator(FS_OPEN, 0);
	hear();
	assert_int_equal(node_file_find(n, INO)->st, FILE_CLOSING);
	node_file_close_reply(n, INO, &fx);
	assert_null(node_file_find(n, INO));
	effects_reset(&fx);
	all_steps();
	all_heard(-ESTALE);
}

/* Its CREATE was answered while the file was on its way to be opened. */
static void create_behind_them(uint64_t tag)
{
	struct fs_reply rp = {.attr = {.ino = INO, .generation = 1}};
	struct creq *q = mem_alloc(&mem, sizeof(*q));

	q->kind = CQ_CREATE;
	q->tag = tag;
	list_init(&q->link);
	assert_true(node_file_created(n, q, &rp, &fx));
}

static void memory_ends(void)
{
	for (size_t size = 1u << 20; size >= 16; size /= 2)
		while (mem_alloc(&mem, size) || mem_alloc(&mem, size / 2 * 3))
			;
}

static void what_a_create_shows_is_kept(void **state)
{
	bool shown = false;

	(void)state;
	for (uint32_t tag = 1; tag <= COUNT; tag++)
		open_as(tag);
	create_behind_them(LATER);
	coordinator(FS_OPEN, 0);
	assert_int_equal(node_file_find(n, INO)->opens, COUNT + 1);
	hear();
	while (node_due(n)) {
		node_due_step(n, &fx);
		for (uint32_t i = 0; i < fx.count; i++)
			shown |= fx.fx[i].tag == LATER && fx.fx[i].reply->attr.ino == INO;
		hear();
	}
	assert_true(shown);
	assert_int_equal(told[LATER], 1);
}

static void a_create_that_cannot_be_kept_has_not_opened_it(void **state)
{
	struct fs_reply opened = {.attr = {.ino = INO, .generation = 1}};

	(void)state;
	for (uint32_t tag = 1; tag <= COUNT; tag++)
		open_as(tag);
	create_behind_them(LATER);
	/* No room for any: those that are told give memory back. */
	while (effects_room(&fx, 4, 4096))
		effects_add(&fx, FX_DATA_FREE, 0);
	memory_ends();
	node_file_open_reply(n, INO, &opened, &fx);
	assert_int_equal(node_file_find(n, INO)->opens, COUNT);
	hear();
	all_steps();
	all_heard(0);
	assert_int_equal(told[LATER], 1);
	assert_int_equal(answer[LATER], -ENOMEM);
}

/* ------------------------------------------------------------------ commits */

static void first_write(void)
{
	struct event ev = {.type = EV_WRITTEN, .range = {.ino = INO, .len = 65536}};

	open_as(LATER);
	coordinator(FS_OPEN, 0);
	ev.range.rights = n->evictions;
	node_file_written(n, &ev, &fx);
	effects_reset(&fx);
}

static void fsync_as(uint64_t tag)
{
	struct fs_request rq = {.op = FS_FSYNC, .ino = INO};

	node_file_fsync(n, tag, &rq, &fx);
}

static void dsync_as(uint64_t tag)
{
	struct event ev = {.type = EV_COMMIT, .tag = tag, .range.ino = INO};

	ev.range.rights = n->evictions;
	node_file_commit(n, &ev, &fx);
}

/* By turns an fsync and a write with O_DSYNC. The first one sends the commit; those behind it wait for it, too: there is nothing else. */
static void all_wait(void)
{
	first_write();
	for (uint32_t tag = 1; tag <= COUNT; tag++) {
		if (tag % 2)
			fsync_as(tag);
		else
			dsync_as(tag);
	}
}

static void thousands_wait_for_one_commit(void **state)
{
	(void)state;
	all_wait();
	coordinator(FS_LAYOUT_COMMIT, 0);
	hear();
	assert_true(node_due(n));
	/* What becomes of the file is nothing to them. */
	close_one();
	node_file_find(n, INO)->layout = LAYOUT_RETURNING;
	node_file_close_reply(n, INO, &fx);
	assert_null(node_file_find(n, INO));
	effects_reset(&fx);
	all_steps();
	all_heard(0);
}

static void thousands_wait_for_a_commit_that_fails(void **state)
{
	(void)state;
	all_wait();
	coordinator(FS_LAYOUT_COMMIT, -EIO);
	hear();
	assert_true(node_due(n));
	/* Our rights are over. */
	node_evicted(n, true, &fx);
	effects_reset(&fx);
	all_steps();
	all_heard(-EIO);
}

/* It would be told twice. */
static void who_is_killed_is_told_once(void **state)
{
	(void)state;
	all_wait();
	node_kernel_cancel(n, COUNT, &fx);
	hear();
	assert_int_equal(answer[COUNT], -EINTR);
	coordinator(FS_LAYOUT_COMMIT, 0);
	hear();
	node_kernel_cancel(n, COUNT - 1, &fx);
	hear();
	all_steps();
	assert_int_equal(told[COUNT], 1);
	assert_int_equal(told[COUNT - 1], 1);
	assert_int_equal(answer[COUNT - 1], -EINTR);
}

/* The target was reset, say. */
static void thousands_of_flushes_are_sent_again(void **state)
{
	uint32_t sent = 0;

	(void)state;
	first_write();
	n->path.write_cache = true;
	for (uint32_t tag = 1; tag <= COUNT; tag++)
		fsync_as(tag);
	effects_reset(&fx);
	n->path.st = PST_UP;
	list_for_each_entry (f, &n->flushes, struct nflush, link)
		f->retry_ns = n->now_ns;
	for (uint32_t steps = 0; node_data_deadline(n) <= n->now_ns; steps++) {
		assert_in_range(steps, 0, 9);
		node_data_step(n, &fx);
		for (uint32_t i = 0; i < fx.count; i++)
			sent += fx.fx[i].type == FX_LUN;
		effects_reset(&fx);
	}
	assert_int_equal(sent, COUNT);
}

/* ------------------------------------------------------------------ the coordinator's */

static struct peer *peer;

static int coordinates(void **state)
{
	setup(state);
	n->tk->state = TK_SERVE;
	n->peers[0] = (struct peer){.node = 1, .life = 5, .served = true, .reclaimed = true, .told = true};
	peer = &n->peers[1];
	*peer = (struct peer){.node = ELSEWHERE, .life = 5, .reclaimed = true, .told = true};
	n->peers_end = 2;
	node_alone_session(ELSEWHERE);
	return 0;
}

static uint32_t messages(void)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < fx.count; i++)
		count += fx.fx[i].type == FX_NET_SEND;
	effects_reset(&fx);
	return count;
}

/* How many steps it takes. */
static uint32_t served(void)
{
	uint32_t steps = 0, sent = 0;

	do {
		assert_in_range(steps, 0, 9);
		n->again = false;
		node_peers_serve(n, peer, &fx);
		node_times_step(n, &fx);
		sent += messages();
		steps++;
	} while (n->again);
	assert_true(peer->served);
	assert_in_range(sent, COUNT + 2, COUNT + 3); /* SERVE, PING */
	return steps;
}

static void thousands_of_recalls_are_said_again(void **state)
{
	(void)state;
	for (uint64_t ino = 1; ino <= COUNT; ino++) {
		struct lease_ino *li = lease_get(&n->leases, ino);

		li->open_mask = li->holder_mask = 2;
		assert_int_equal(node_peers_recall(n, li, 2), 2);
	}
	assert_in_range(served(), 2, 9);
}

/* Some are answered before all have been said, and the session breaks again. */
static void the_session_breaks_while_they_are_said(void **state)
{
	uint32_t sent, left = COUNT;

	thousands_of_recalls_are_said_again(state);
	peer->served = false;
	node_peers_serve(n, peer, &fx);
	sent = messages() - 2;
	assert_true(peer->recalling);
	assert_in_range(sent, 1, COUNT - 1);
	for (struct lease_ino *li = lease_next_of(&n->leases, 1, 0), *next; sent--; li = next, left--) {
		next = lease_next_of(&n->leases, 1, li->ino);
		lease_return(&n->leases, li, 1);
		lease_closed(li, 1);
		lease_put(&n->leases, li);
	}
	peer->served = false;
	node_peers_serve(n, peer, &fx);
	sent = messages() - 2;
	for (uint32_t steps = 0; peer->recalling; sent += messages(), steps++) {
		assert_in_range(steps, 0, 9);
		node_peers_serve(n, peer, &fx);
	}
	assert_int_equal(sent, left);
}

static void thousands_of_questions_for_times_are_asked_again(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < COUNT; i++) {
		struct sreq *s = mem_alloc(&mem, sizeof(*s));

		s->times_ino = INO;
		s->times_nr = i + 1;
		s->times_mask = 2;
		s->times_due_ns = NEVER;
		list_add_tail(&s->waiting, &n->times_waiting);
	}
	n->member.nodes[n->member.node_count++] =
		(struct member_node){.node = ELSEWHERE, .member = true, .state.life = 5};
	assert_in_range(served(), 2, 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(thousands_open_a_file_at_once, setup),
		cmocka_unit_test_setup(thousands_cannot_open_it, setup),
		cmocka_unit_test_setup(thousands_mean_another_life_of_it, setup),
		cmocka_unit_test_setup(what_a_create_shows_is_kept, setup),
		cmocka_unit_test_setup(a_create_that_cannot_be_kept_has_not_opened_it, setup),
		cmocka_unit_test_setup(thousands_wait_for_one_commit, setup),
		cmocka_unit_test_setup(thousands_wait_for_a_commit_that_fails, setup),
		cmocka_unit_test_setup(who_is_killed_is_told_once, setup),
		cmocka_unit_test_setup(thousands_of_flushes_are_sent_again, setup),
		cmocka_unit_test_setup(thousands_of_recalls_are_said_again, coordinates),
		cmocka_unit_test_setup(the_session_breaks_while_they_are_said, coordinates),
		cmocka_unit_test_setup(thousands_of_questions_for_times_are_asked_again, coordinates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
