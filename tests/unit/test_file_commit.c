/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A node that has no memory to ask for a commit or a CLOSE (node_file.c), against a coordinator that the test plays. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "tests/unit/node_alone.h"

#define INO 7
#define OTHERS 1000u
#define UNANSWERED 1

static uint64_t place;

static void coordinator(enum fs_op op, int32_t err)
{
	node_alone_reply(op, (struct fs_reply){.err = err, .off = place});
}

static void open_file(uint64_t ino)
{
	struct fs_request rq = {.op = FS_OPEN, .ino = ino};

	node_file_open(n, 1, &rq, &fx);
	coordinator(FS_OPEN, 0);
	effects_reset(&fx);
}

static int setup(void **state)
{
	(void)state;
	node_alone();
	n->path.write_cache = false; /* an fsync is its commit */
	client_serve_local(n->client);
	open_file(INO);
	return 0;
}

static size_t high;

/* What is freed from now on is all there is. */
static void memory_ends(void)
{
	high = mem.high;
	mem.high = mem.low;
	memset(mem.free, 0, sizeof(mem.free));
}

static void memory_is_back(void)
{
	mem.high = high;
}

/* Closed for good, under a layout, with something inside its gate. */
static struct file *closing(struct file *f)
{
	f->layout = LAYOUT_KEPT;
	node_file_close_one(n, f->ino, &fx);
	assert_int_equal(f->st, FILE_CLOSING);
	return f;
}

/* Enough to remember a CLOSE, and none to send it. */
static void memory_ends_but_for_a_question(void)
{
	void *spare = mem_alloc(&mem, sizeof(struct creq));

	memory_ends();
	mem_free(&mem, spare, sizeof(struct creq));
}

static void all_is_forgotten_though_a_close_finds_no_memory(void **state)
{
	uint64_t first;

	(void)state;
	for (uint64_t ino = 100; ino < 100 + OTHERS; ino++)
		open_file(ino);
	for (struct file *f = node_file_next(n, NULL); f; f = node_file_next(n, f))
		f->layout = LAYOUT_KEPT;
	first = closing(node_file_next(n, NULL))->ino;
	memory_ends_but_for_a_question();
	node_file_forget_layouts(n, &fx);
	memory_is_back();
	for (uint64_t ino = 100; ino < 100 + OTHERS; ino++) {
		if (ino != first)
			assert_int_equal(node_file_find(n, ino)->layout, LAYOUT_NONE);
	}
}

static void first_write(uint64_t off)
{
	struct event ev = {.type = EV_WRITTEN};

	ev.range.ino = INO;
	ev.range.off = off;
	ev.range.len = 65536;
	ev.range.rights = n->evictions;
	node_file_written(n, &ev, &fx);
}

static void drained(void)
{
	struct event ev = {.type = EV_DRAINED, .ino = INO};

	node_file_layout_event(n, &ev, &fx);
}

static void passes(uint64_t ns)
{
	n->now_ns += ns;
	node_file_step(n, n->now_ns, &fx);
}

static bool asks(void)
{
	uint64_t wire_tag;

	return client_next_local(n->client, &wire_tag) != NULL;
}

/* It was answered to its application. Who wants the layout does not wait for long. */
static void what_is_recalled_without_memory_is_committed_when_there_is_some(void **state)
{
	struct file *f = node_file_find(n, INO);

	(void)state;
	f->layout = LAYOUT_KEPT;
	first_write(0);
	node_file_recall(n, INO, &fx);
	memory_ends();
	drained();
	passes(NS_PER_SEC);
	assert_int_equal(f->layout, LAYOUT_COMMITTING);
	memory_is_back();
	assert_false(asks());
	passes(NS_PER_SEC);
	assert_false(f->lost);
	coordinator(FS_LAYOUT_COMMIT, 0);
	coordinator(FS_LAYOUT_RETURN, 0);
	assert_int_equal(f->layout, LAYOUT_NONE);
	assert_false(f->lost);
}

/* Its time to be committed comes while the gate is being closed, for the last time. */
static void what_a_closed_file_was_written_without_memory_is_committed_when_there_is_some(void **state)
{
	struct file *f = node_file_find(n, INO);

	(void)state;
	first_write(0);
	closing(f);
	memory_ends();
	passes(60 * NS_PER_SEC);
	assert_int_equal(f->layout, LAYOUT_DRAINING);
	drained();
	memory_is_back();
	passes(NS_PER_SEC);
	coordinator(FS_LAYOUT_COMMIT, 0);
	coordinator(FS_CLOSE, 0);
	assert_null(node_file_find(n, INO));
}

/* What the coordinator says is final: it would say so again, and somebody waits for the layout. */
static void what_the_coordinator_has_refused_is_not_tried_again_on_the_way_out(void **state)
{
	struct file *f = node_file_find(n, INO);

	(void)state;
	f->layout = LAYOUT_KEPT;
	first_write(0);
	node_file_recall(n, INO, &fx);
	drained();
	coordinator(FS_LAYOUT_COMMIT, -ENOMEM);
	assert_true(f->lost);
	coordinator(FS_LAYOUT_RETURN, 0);
}

static void written_in_place(int64_t mtime_ns)
{
	struct event ev = {.type = EV_TOUCHED};

	ev.range.ino = INO;
	ev.range.mtime_ns = mtime_ns;
	node_file_touched(n, &ev, &fx);
}

/* Of the next commit; 0: it says none. */
static int64_t mtime_asked(void)
{
	const struct fs_request *rq;
	uint64_t wire_tag;
	int64_t mtime_ns;

	rq = client_next_local(n->client, &wire_tag);
	assert_non_null(rq);
	assert_int_equal(rq->op, FS_LAYOUT_COMMIT);
	mtime_ns = rq->valid & FS_SET_MTIME ? rq->attr.mtime_ns : 0;
	client_again_local(n->client, wire_tag);
	return mtime_ns;
}

static void the_time_of_a_write_outlives_a_commit_that_fails(void **state)
{
	struct file *f = node_file_find(n, INO);
	struct fs_attr a = {.ino = INO, .mtime_ns = 10, .ctime_ns = 10};

	(void)state;
	f->layout = LAYOUT_KEPT;
	written_in_place(50);
	passes(60 * NS_PER_SEC);
	coordinator(FS_LAYOUT_COMMIT, -ENOMEM);
	node_file_overlay(n, &a);
	assert_int_equal(a.mtime_ns, 50);
	passes(60 * NS_PER_SEC);
	assert_int_equal(mtime_asked(), 50);
	coordinator(FS_LAYOUT_COMMIT, 0);
}

/* The commit would undo it. */
static void a_time_that_is_set_behind_a_commit_that_fails_stays(void **state)
{
	struct fs_request rq = {.op = FS_SETATTR, .ino = INO, .valid = FS_SET_MTIME, .attr.mtime_ns = 20};
	struct file *f = node_file_find(n, INO);

	(void)state;
	f->layout = LAYOUT_KEPT;
	first_write(0);
	written_in_place(50);
	node_file_in_turn(n, 10, &rq, &fx);
	coordinator(FS_LAYOUT_COMMIT, -ENOMEM);
	coordinator(FS_SETATTR, 0);
	passes(60 * NS_PER_SEC);
	assert_int_equal(mtime_asked(), 0);
	coordinator(FS_LAYOUT_COMMIT, 0);
}

/* A reclaim, which takes more than one step, goes on behind the file before it. */
static void reclaim_goes_on_when_the_file_that_it_was_at_is_gone(void **state)
{
	struct file *before, *f;
	uint64_t ino;

	(void)state;
	for (ino = 100; ino < 110; ino++)
		open_file(ino);
	before = node_file_next(n, NULL);
	f = node_file_next(n, before);
	ino = f->ino;
	n->reclaim_at = closing(f);
	f->layout = LAYOUT_RETURNING;
	node_file_close_reply(n, ino, &fx);
	assert_null(node_file_find(n, ino));
	assert_ptr_equal(n->reclaim_at, before);
	ino = before->ino;
	closing(before)->layout = LAYOUT_RETURNING;
	node_file_close_reply(n, ino, &fx);
	assert_null(n->reclaim_at);
}

static void written_at(uint64_t ino, uint64_t off, uint64_t now_ns)
{
	struct event ev = {.type = EV_WRITTEN};

	n->now_ns = now_ns;
	ev.range.ino = ino;
	ev.range.off = off;
	ev.range.len = 65536;
	ev.range.size = off + 65536;
	ev.range.mtime_ns = 1;
	node_file_written(n, &ev, &fx);
}

static void at(uint64_t now_ns)
{
	n->now_ns = now_ns;
	node_file_step(n, now_ns, &fx);
}

/* While one commit flies another file's time comes: what was written meanwhile has its own still. */
static void what_is_written_while_a_commit_flies_has_its_time(void **state)
{
	const uint64_t s = NS_PER_SEC;

	(void)state;
	n->cfg.commit_ns = 3 * s;
	open_file(INO + 1);
	written_at(INO, 0, 10 * s);
	written_at(INO + 1, 0, 11 * s);
	at(13 * s); /* INO's commit is out */
	written_at(INO, 65536, 13 * s + s / 2);
	at(14 * s); /* that of the other one */
	coordinator(FS_LAYOUT_COMMIT, 0);
	coordinator(FS_LAYOUT_COMMIT, 0);
	assert_int_equal(node_file_deadline(n), 16 * s + s / 2);
	at(16 * s + s / 2);
	coordinator(FS_LAYOUT_COMMIT, 0);
	assert_true(node_file_deadline(n) == NEVER);
}

/* Else a truncation by another node waits for it for ever. */
static void the_end_of_an_append_is_told_when_there_is_memory(void **state)
{
	(void)state;
	n->now_ns = NS_PER_SEC;
	memory_ends();
	node_append_tell(n, INO, 4096, 1, &fx);
	assert_true(node_deadline(n) <= 2 * NS_PER_SEC);
	memory_is_back();
	n->now_ns = 2 * NS_PER_SEC;
	node_ask_step(n, &fx);
	coordinator(FS_APPENDED, 0);
	node_ask_step(n, &fx);
	assert_false(client_has_local(n->client));
}

#define A 100
#define B 101

static void append(uint64_t tag)
{
	struct fs_request rq = {.op = FS_APPEND, .ino = INO, .len = 4096};
	struct event ev = {.type = EV_REQUEST, .tag = tag, .rq = &rq};

	node_kernel_request(n, &ev, &fx);
}

static void append_ends(uint64_t tag, uint64_t off)
{
	struct event ev = {.type = EV_APPENDED, .tag = tag};

	ev.range.ino = INO;
	ev.range.off = off;
	node_append_ended(n, &ev, &fx);
}

/* The file was made shorter while we were given up: another append's place begins where that of the first one did. */
static void places_are_over_when_the_rights_end_and_not_later(void **state)
{
	(void)state;
	append(A);
	place = 8192;
	coordinator(FS_APPEND, 0);
	node_evicted(n, true, &fx);
	append(B);
	coordinator(FS_APPENDED, 0);
	coordinator(FS_APPEND, 0);
	append_ends(A, 8192);
	assert_false(asks());
	assert_false(list_empty(&n->own_appends)); /* a coordinator that comes next hears of it */
	append_ends(B, 8192);
	coordinator(FS_APPENDED, 0);
	assert_true(list_empty(&n->own_appends));
	assert_false(asks());
}

static void nothing_is_appended_before_old_places_could_be_said_to_be_over(void **state)
{
	(void)state;
	n->now_ns = NS_PER_SEC;
	append(A);
	coordinator(FS_APPEND, 0);
	memory_ends();
	node_evicted(n, true, &fx);
	memory_is_back();
	effects_reset(&fx);
	append(B);
	assert_int_equal(fx.fx[0].type, FX_REPLY);
	assert_int_equal(fx.fx[0].reply->err, -ENOMEM);
	n->now_ns = 2 * NS_PER_SEC;
	node_ask_step(n, &fx);
	append(B);
	coordinator(FS_APPENDED, 0);
	coordinator(FS_APPEND, 0);
}

/* All leave at one moment: it coordinates in the end, and its path must not be lost for that. */
static void who_holds_nothing_loses_nothing_in_an_epoch_without_it(void **state)
{
	(void)state;
	n->served_epoch = 5;
	node_reclaim_epoch(n, 7, 5, &fx);
	assert_int_equal(n->evictions, 0);
	node_reclaim_epoch(n, 7, 6, &fx);
	assert_int_equal(n->evictions, 1);
	node_alone(); /* nothing is open */
	n->served_epoch = 5;
	node_reclaim_epoch(n, 7, 6, &fx);
	assert_int_equal(n->evictions, 0);
	assert_int_equal(n->served_epoch, 0);
}

/* A mount that was busy: the files were closed at once, and nobody has unlocked what was locked. It may be another's by now. */
static void who_holds_locks_alone_loses_them_in_an_epoch_without_it(void **state)
{
	struct lock l = {.key = {.ino = INO, .owner = 9}, .end = 99, .write = true};

	(void)state;
	node_alone();
	assert_int_equal(lock_get(&n->held, &l), 0);
	assert_int_equal(n->files.count, 0);
	n->served_epoch = 5;
	node_reclaim_epoch(n, 7, 5, &fx);
	assert_int_equal(n->held.count, 1);
	node_reclaim_epoch(n, 7, 6, &fx);
	assert_int_equal(n->evictions, 1);
	assert_int_equal(n->held.count, 0);
}

/* So may the space be where it was to append. */
static void who_has_a_place_alone_loses_it_in_an_epoch_without_it(void **state)
{
	(void)state;
	append(A);
	place = 8192;
	coordinator(FS_APPEND, 0);
	assert_false(list_empty(&n->own_appends));
	n->files.count = 0; /* closed at once */
	n->served_epoch = 5;
	node_reclaim_epoch(n, 7, 6, &fx);
	assert_int_equal(n->evictions, 1);
}

static void is_given(uint64_t off, uint64_t len)
{
	struct fs_extent x = {.off = off, .len = len, .lun_off = 1 << 20, .state = EXT_UNWRITTEN};
	const struct fs_reply rp = {.extents = &x, .extent_count = 1};
	const struct fs_request rq = {.op = FS_LAYOUT_GET, .ino = INO, .off = off, .len = 1};

	node_file_layout_reply(n, INO, &rq, &rp, &fx);
	effects_reset(&fx);
}

static uint32_t owned(const struct file *f)
{
	uint32_t count = 0;

	list_for_each_entry (r, &f->owned, struct frange, link)
		count++;
	return count;
}

/* One commit's worth, each in a place of its own. */
static void writes_here_and_there(uint64_t *at)
{
	for (uint32_t i = 0; i < DIRTY_MANY; i++, *at += 2 * 65536)
		first_write(*at);
	effects_reset(&fx);
}

/* A preallocated disk image, of which here a cluster is written and there one. */
static void what_is_cut_into_many_pieces_goes_back_and_is_asked_for_anew(void **state)
{
	struct file *f = node_file_find(n, INO);
	uint64_t at = 65536;
	uint32_t commits = 0;

	(void)state;
	is_given(0, 1ull << 40);
	for (; f->layout == LAYOUT_KEPT; commits++) {
		assert_true(owned(f) < OWNED_MANY);
		writes_here_and_there(&at);
		coordinator(FS_LAYOUT_COMMIT, 0);
	}
	assert_int_equal(commits, OWNED_MANY / DIRTY_MANY);
	assert_true(owned(f) >= OWNED_MANY);
	assert_int_equal(f->layout, LAYOUT_DRAINING);
	assert_int_equal(fx.fx[fx.count - 1].type, FX_LAYOUT_CLOSE);
	/* What was inside the gate ends, and is committed first. */
	first_write(at);
	drained();
	coordinator(FS_LAYOUT_COMMIT, 0);
	coordinator(FS_LAYOUT_RETURN, 0);
	assert_int_equal(f->layout, LAYOUT_NONE);
	assert_int_equal(owned(f), 0);
	assert_int_equal(f->lost, 0);
	/* It begins with what it is given then. */
	is_given(at, 1ull << 30);
	writes_here_and_there(&at);
	coordinator(FS_LAYOUT_COMMIT, 0);
	assert_int_equal(f->layout, LAYOUT_KEPT);
	assert_int_equal(owned(f), DIRTY_MANY);
}

static void while_nobody_serves_the_pieces_stay(void **state)
{
	struct file *f = node_file_find(n, INO);
	struct fs_reply rp = {.err = 0};
	uint64_t at = 65536;

	(void)state;
	is_given(0, 1ull << 40);
	n->cfg.owned_many = 4;
	writes_here_and_there(&at);
	client_down(n->client);
	node_file_commit_reply(n, INO, &rp, &fx);
	assert_true(owned(f) > 4);
	assert_int_equal(f->layout, LAYOUT_KEPT);
}

static bool was_answered(uint64_t tag)
{
	for (uint32_t i = 0; i < fx.count; i++)
		if (fx.fx[i].type == FX_REPLY && fx.fx[i].tag == tag)
			return true;
	return false;
}

static void first_writes_here_and_there(uint64_t *off)
{
	for (int i = 0; i < 300; i++, *off += 2 * 65536)
		first_write(*off);
}

/* More than one commit takes, in the time of one: what comes behind an fsync is none of its business. */
static void an_fsync_ends_though_first_writes_come_faster_than_commits(void **state)
{
	struct fs_request rq = {.op = FS_FSYNC, .ino = INO};
	uint64_t off = 0;
	uint32_t commits = 0;

	(void)state;
	n->cfg.owned_many = OWNED_MANY;
	node_file_find(n, INO)->layout = LAYOUT_KEPT;
	first_writes_here_and_there(&off);
	for (int i = 0; i < 3; i++) {
		first_writes_here_and_there(&off);
		effects_reset(&fx);
		coordinator(FS_LAYOUT_COMMIT, 0);
	}
	effects_reset(&fx);
	node_file_fsync(n, 77, &rq, &fx);
	for (; commits < 12 && !was_answered(77); commits++) {
		first_writes_here_and_there(&off);
		effects_reset(&fx);
		coordinator(FS_LAYOUT_COMMIT, 0);
	}
	/* What is left of the round, and one more, of all that was first-written before it. */
	assert_in_range(commits, 2, 9);
	assert_true(was_answered(77));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(who_holds_nothing_loses_nothing_in_an_epoch_without_it, setup),
		cmocka_unit_test_setup(who_holds_locks_alone_loses_them_in_an_epoch_without_it, setup),
		cmocka_unit_test_setup(who_has_a_place_alone_loses_it_in_an_epoch_without_it, setup),
		cmocka_unit_test_setup(all_is_forgotten_though_a_close_finds_no_memory, setup),
		cmocka_unit_test_setup(what_is_recalled_without_memory_is_committed_when_there_is_some, setup),
		cmocka_unit_test_setup(what_a_closed_file_was_written_without_memory_is_committed_when_there_is_some, setup),
		cmocka_unit_test_setup(what_the_coordinator_has_refused_is_not_tried_again_on_the_way_out, setup),
		cmocka_unit_test_setup(the_time_of_a_write_outlives_a_commit_that_fails, setup),
		cmocka_unit_test_setup(a_time_that_is_set_behind_a_commit_that_fails_stays, setup),
		cmocka_unit_test_setup(reclaim_goes_on_when_the_file_that_it_was_at_is_gone, setup),
		cmocka_unit_test_setup(what_is_written_while_a_commit_flies_has_its_time, setup),
		cmocka_unit_test_setup(the_end_of_an_append_is_told_when_there_is_memory, setup),
		cmocka_unit_test_setup(places_are_over_when_the_rights_end_and_not_later, setup),
		cmocka_unit_test_setup(nothing_is_appended_before_old_places_could_be_said_to_be_over, setup),
		cmocka_unit_test_setup(what_is_cut_into_many_pieces_goes_back_and_is_asked_for_anew, setup),
		cmocka_unit_test_setup(while_nobody_serves_the_pieces_stay, setup),
		cmocka_unit_test_setup(an_fsync_ends_though_first_writes_come_faster_than_commits, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
