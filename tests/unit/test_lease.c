/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "coordinator/lease.h"
#include "csvfs/base/prng.h"

#define C 65536ull
#define R 0u
#define W FS_LAYOUT_WRITE
#define E (FS_LAYOUT_WRITE | FS_LAYOUT_EDGE)

static struct mem mem;
static struct lease_table *t;

static int setup(void **state)
{
	static void *region;

	if (!region)
		region = aligned_alloc(4096, 8u << 20);
	mem_init(&mem, region, 8u << 20);
	t = mem_alloc(&mem, sizeof(*t));
	lease_init(t, &mem);
	return 0;
}

static struct fs_extent ext(uint64_t off, uint64_t len, enum ext_state st)
{
	return (struct fs_extent){.off = off, .len = len, .lun_off = st == EXT_HOLE ? 0 : 1 << 20,
		.state = st};
}

/* As node_server.c does: one node is slow to give back; when its time is nearly over another request asks a second node. */
static void who_is_asked_later_has_its_time_too(void **state)
{
	struct lease_ino *li = lease_get(t, 7);

	(void)state;
	li->open_mask = 7;
	for (uint32_t i = 0; i < 3; i++)
		lease_hold(li, i, false);
	assert_int_equal(lease_recall(li, 1, 100), 1);
	assert_int_equal(li->recall_deadline_ns, 100);
	assert_int_equal(lease_recall(li, 3, 199), 2);
	assert_int_equal(li->recall_deadline_ns, 100);
	lease_check(t);
	assert_int_equal(lease_overdue(li, 200), 1);
	assert_int_equal(li->recall_deadline_ns, 200);
	assert_int_equal(lease_overdue(li, 300), 3);
	lease_return(t, li, 0);
	assert_int_equal(li->recall_deadline_ns, 300);
	lease_return(t, li, 1);
	assert_true(li->recall_deadline_ns == NEVER);
	/* Nobody's time runs: it begins with this one. */
	assert_int_equal(lease_recall(li, 4, 400), 4);
	assert_int_equal(lease_overdue(li, 500), 4);
	lease_check(t);
}

static void one_owner_per_unwritten_range(void **state)
{
	struct lease_ino *li = lease_get(t, 7);
	struct fs_extent e[1] = {ext(0, 4 * C, EXT_UNWRITTEN)};
	uint32_t n = 1;

	assert_int_equal(lease_grant(t, li, 0, W, 0, C, e, &n), 0);
	assert_int_equal(e[0].state, EXT_UNWRITTEN);
	assert_int_equal(lease_conflicts(li, 1, R, 3 * C, C), 1);
	assert_int_equal(lease_conflicts(li, 1, W, 3 * C, C), 1);
	assert_int_equal(lease_conflicts(li, 1, R, 4 * C, C), 0);
	assert_int_equal(lease_conflicts(li, 0, W, 0, 4 * C), 0);
	assert_int_equal(lease_own(t, li, 1, 2 * C, C, false), -EEXIST);
	lease_check(t);
	lease_return(t, li, 0);
	assert_int_equal(lease_conflicts(li, 1, W, 0, 4 * C), 0);
	lease_put(t, li);
	assert_null(lease_find(t, 7));
}

static void a_reader_is_told_zeros_and_must_be_asked_before_the_first_write(void **state)
{
	struct lease_ino *li = lease_get(t, 7);
	struct fs_extent e[2] = {ext(0, C, EXT_WRITTEN), ext(C, C, EXT_UNWRITTEN)};
	uint32_t n = 2;

	assert_int_equal(lease_grant(t, li, 2, R, 0, 2 * C, e, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(e[1].state, EXT_HOLE);
	assert_int_equal(e[1].lun_off, 0);
	/* Reading disturbs nobody; writing there must wait for node 2. */
	assert_int_equal(lease_conflicts(li, 1, R, C, C), 0);
	assert_int_equal(lease_conflicts(li, 1, W, C, C), 1 << 2);
	lease_return(t, li, 2);
	assert_int_equal(lease_conflicts(li, 1, W, C, C), 0);
	lease_put(t, li);
}

static void what_others_own_behind_the_asked_range_is_cut_off(void **state)
{
	struct lease_ino *li = lease_get(t, 7);
	struct fs_extent own[1] = {ext(4 * C, 2 * C, EXT_UNWRITTEN)};
	struct fs_extent e[3] = {ext(0, C, EXT_WRITTEN), ext(C, 5 * C, EXT_UNWRITTEN),
		ext(6 * C, C, EXT_WRITTEN)};
	uint32_t n = 1;

	assert_int_equal(lease_grant(t, li, 0, W, 4 * C, 2 * C, own, &n), 0);
	n = 3;
	assert_int_equal(lease_grant(t, li, 1, W, 0, 2 * C, e, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(e[1].len, 3 * C);
	assert_int_equal(e[1].state, EXT_UNWRITTEN);
	lease_check(t);
	lease_reset(t);
}

static void what_a_node_owns_is_never_called_a_hole_to_it(void **state)
{
	struct lease_ino *li = lease_get(t, 7);
	struct fs_extent e[1] = {ext(0, 8 * C, EXT_UNWRITTEN)};
	uint32_t n = 1;

	/* It owns clusters 2 and 3, and may have first-written them; it reads at 0. */
	assert_int_equal(lease_own(t, li, 1, 2 * C, 2 * C, false), 0);
	assert_int_equal(lease_grant(t, li, 1, R, 0, C, e, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(e[0].state, EXT_HOLE);
	assert_int_equal(e[0].len, 2 * C);
	e[0] = ext(2 * C, 6 * C, EXT_UNWRITTEN);
	n = 1;
	assert_int_equal(lease_grant(t, li, 1, R, 2 * C, C, e, &n), 0);
	assert_int_equal(e[0].state, EXT_UNWRITTEN);
	assert_int_equal(e[0].len, 2 * C);
	lease_reset(t);
}

static void a_commit_ends_ownership_of_its_range_only(void **state)
{
	struct lease_ino *li = lease_get(t, 7);

	assert_int_equal(lease_own(t, li, 3, 0, 8 * C, false), 0);
	assert_int_equal(lease_commit(t, li, 3, 2 * C, C), 0);
	assert_int_equal(lease_conflicts(li, 1, R, 2 * C, C), 0);
	assert_int_equal(lease_conflicts(li, 1, R, 0, 2 * C), 1 << 3);
	assert_int_equal(lease_conflicts(li, 1, R, 3 * C, C), 1 << 3);
	assert_int_equal(lease_own(t, li, 3, 2 * C, C, false), 0);
	lease_check(t);
	lease_reset(t);
}

static void ranges_agree_with_a_map_of_owners(void **state)
{
	struct prng r = {42};
	uint8_t owner[64] = {0};
	struct lease_ino *li = lease_get(t, 9);

	for (int i = 0; i < 20000; i++) {
		uint32_t idx = (uint32_t)prng_below(&r, 3), at = (uint32_t)prng_below(&r, 64);
		uint32_t len = 1 + (uint32_t)prng_below(&r, 64 - at);
		bool clash = false;

		for (uint32_t k = at; k < at + len; k++)
			clash |= owner[k] && owner[k] != idx + 1;
		if (prng_below(&r, 2)) {
			int err = lease_own(t, li, idx, at * C, len * C, false);

			assert_int_equal(err, clash ? -EEXIST : 0);
			for (uint32_t k = at; k < at + len && !err; k++)
				owner[k] = (uint8_t)(idx + 1);
		} else {
			assert_int_equal(lease_commit(t, li, idx, at * C, len * C), 0);
			for (uint32_t k = at; k < at + len; k++)
				owner[k] = owner[k] == idx + 1 ? 0 : owner[k];
		}
		lease_check(t);
		for (uint32_t k = 0; k < 64; k++) {
			uint64_t want = owner[k] && owner[k] != 4 ? 1ull << (owner[k] - 1) : 0;

			assert_true(lease_conflicts(li, 3, R, k * C, C) == want);
		}
	}
	lease_reset(t);
	assert_int_equal(t->count, 0);
}

/* Another node's part of a block would be undone by what is read and written back around it. */
static void who_writes_parts_of_blocks_waits_for_all_other_writers(void **state)
{
	struct lease_ino *li = lease_get(t, 7);
	struct fs_extent e[1] = {ext(0, 8 * C, EXT_WRITTEN)};
	uint32_t n = 1;

	assert_int_equal(lease_grant(t, li, 0, R, 0, C, e, &n), 0);
	assert_int_equal(e[0].state, EXT_WRITTEN);
	assert_int_equal(e[0].edge, 0);
	/* Whole blocks: any number of nodes, also in what another was told for reading only. */
	assert_int_equal(lease_conflicts(li, 1, W, 0, C), 0);
	assert_int_equal(lease_grant(t, li, 1, W, 0, C, e, &n), 0);
	assert_int_equal(lease_conflicts(li, 2, E, 4 * C, C), 3);
	assert_int_equal(lease_conflicts(li, 1, E, 4 * C, C), 1);
	lease_return(t, li, 0);
	lease_return(t, li, 1);
	assert_int_equal(lease_conflicts(li, 2, E, 4 * C, C), 0);
	lease_put(t, li);
}

static void in_an_edge_range_others_read_and_do_not_write(void **state)
{
	struct lease_ino *li = lease_get(t, 7);
	struct fs_extent e[1] = {ext(0, 8 * C, EXT_WRITTEN)};
	uint32_t n = 1;

	/* Not alone: what it asked for, no more. The rest it must ask for again to write there. */
	e[0] = ext(20 * C, C, EXT_WRITTEN);
	assert_int_equal(lease_grant(t, li, 3, R, 20 * C, C, e, &n), 0);
	e[0] = ext(2 * C, 6 * C, EXT_WRITTEN);
	assert_int_equal(lease_grant(t, li, 0, E, 2 * C, C, e, &n), 0);
	assert_int_equal(n, 1);
	assert_true(e[0].edge == 1 && e[0].len == C && e[0].state == EXT_WRITTEN);
	/* A reader, now and later, is no writer, and no reason for a recall. */
	e[0] = ext(0, 8 * C, EXT_WRITTEN);
	assert_int_equal(lease_conflicts(li, 1, R, 0, 8 * C), 0);
	assert_int_equal(lease_grant(t, li, 1, R, 0, 8 * C, e, &n), 0);
	assert_true(e[0].state == EXT_SHARED && e[0].len == 2 * C && !e[0].edge);
	e[0] = ext(2 * C, 6 * C, EXT_WRITTEN);
	assert_int_equal(lease_grant(t, li, 1, R, 2 * C, C, e, &n), 0);
	assert_true(e[0].state == EXT_SHARED && e[0].len == C);
	assert_int_equal(lease_conflicts(li, 0, E, 7 * C, C), 1 << 3);
	lease_return(t, li, 3);
	assert_int_equal(lease_conflicts(li, 0, E, 7 * C, C), 0);
	/* A writer of whole blocks waits for who has the range, and is told the others. */
	assert_int_equal(lease_conflicts(li, 1, W, 2 * C + 512, 512), 1);
	assert_int_equal(lease_conflicts(li, 1, E, 2 * C + 512, 512), 1);
	assert_int_equal(lease_conflicts(li, 1, W, 3 * C, C), 0);
	e[0] = ext(0, 8 * C, EXT_WRITTEN);
	assert_int_equal(lease_grant(t, li, 1, W, 0, C, e, &n), 0);
	assert_true(e[0].state == EXT_WRITTEN && e[0].len == 2 * C && !e[0].edge);
	assert_int_equal(lease_conflicts(li, 0, E, 7 * C, C), 1 << 1);
	lease_check(t);
	lease_reset(t);
}

static void two_nodes_have_edge_ranges_beside_each_other(void **state)
{
	struct lease_ino *li = lease_get(t, 7);
	struct fs_extent e[1];
	uint32_t n = 1;

	lease_hold(li, 4, false); /* so that neither is alone */
	li->writer_mask = 0;
	for (uint32_t idx = 0; idx < 2; idx++) {
		e[0] = ext(idx * C, 8 * C, EXT_WRITTEN);
		assert_int_equal(lease_conflicts(li, idx, E, idx * C, C), 0);
		assert_int_equal(lease_grant(t, li, idx, E, idx * C, C, e, &n), 0);
		assert_true(e[0].edge && e[0].len == C);
	}
	assert_int_equal(lease_conflicts(li, 0, E, 0, 2 * C), 1 << 1);
	assert_int_equal(lease_own(t, li, 0, 0, 2 * C, true), -EEXIST);
	lease_check(t);
	lease_reset(t);
}

static void space_to_first_write_is_an_edge_range_as_far_as_it_goes(void **state)
{
	struct lease_ino *li = lease_get(t, 7);
	struct fs_extent e[2] = {ext(0, C, EXT_WRITTEN), ext(C, 16 * C, EXT_UNWRITTEN)};
	uint32_t n = 2;

	lease_hold(li, 4, false);
	li->writer_mask = 0;
	/* Another one's window ends it. */
	assert_int_equal(lease_own(t, li, 4, 9 * C, C, false), 0);
	assert_int_equal(lease_grant(t, li, 0, E, C / 2, C, e, &n), 0);
	assert_int_equal(n, 2);
	assert_true(e[0].edge && e[1].edge && e[1].len == 8 * C);
	assert_int_equal(lease_commit(t, li, 0, C, 8 * C), 0);
	assert_int_equal(lease_conflicts(li, 4, W, 8 * C, C), 1);
	assert_int_equal(lease_conflicts(li, 4, R, 8 * C, C), 0);
	lease_check(t);
	lease_reset(t);
}

/* A node alone asks once, however far its file is known and whatever it first-writes there. */
static void alone_it_has_all_that_it_is_told_and_keeps_it_over_commits(void **state)
{
	struct lease_ino *li = lease_get(t, 7);
	struct fs_extent e[3] = {ext(0, C, EXT_WRITTEN), ext(C, 3 * C, EXT_UNWRITTEN),
		ext(6 * C, C, EXT_WRITTEN)};
	uint32_t n = 3;

	assert_int_equal(lease_grant(t, li, 0, E, 0, 2 * C, e, &n), 0);
	assert_int_equal(n, 3);
	assert_true(e[0].edge && e[1].edge && e[2].edge);
	assert_int_equal(e[1].state, EXT_UNWRITTEN);
	assert_int_equal(lease_commit(t, li, 0, C, C), 0);
	assert_int_equal(lease_conflicts(li, 1, R, C, C), 0);
	assert_int_equal(lease_conflicts(li, 1, W, C, C), 1);
	e[0] = ext(C, 2 * C, EXT_WRITTEN);
	n = 1;
	assert_int_equal(lease_grant(t, li, 0, R, C, C, e, &n), 0);
	assert_true(e[0].edge && e[0].state == EXT_WRITTEN);
	lease_check(t);
	lease_return(t, li, 0);
	assert_int_equal(li->edge_count, 0);
	lease_put(t, li);
}

static void with_too_many_edge_ranges_all_begin_anew(void **state)
{
	struct lease_ino *li = lease_get(t, 7);

	for (uint32_t i = 0; i < LEASE_EDGES_MAX; i++)
		assert_int_equal(lease_own(t, li, i % 2, 2 * i * C, C, true), 0);
	assert_int_equal(lease_conflicts(li, 1, E, 1 * C, C), 3);
	assert_int_equal(lease_conflicts(li, 1, W, 1 * C, C), 0);
	lease_check(t);
	lease_reset(t);
}

static void opens_are_per_node(void **state)
{
	assert_int_equal(lease_set_open(t, 5, 1, true), 0);
	assert_int_equal(lease_set_open(t, 5, 2, true), 0);
	assert_int_equal(lease_set_open(t, 5, 1, false), 0);
	assert_true(lease_is_open(t, 5));
	assert_ptr_equal(lease_next_of(t, 2, 0), lease_find(t, 5));
	assert_null(lease_next_of(t, 1, 0));
	assert_int_equal(lease_set_open(t, 5, 2, false), 0);
	assert_false(lease_is_open(t, 5));
	assert_null(lease_find(t, 5));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(one_owner_per_unwritten_range, setup),
		cmocka_unit_test_setup(
			a_reader_is_told_zeros_and_must_be_asked_before_the_first_write, setup),
		cmocka_unit_test_setup(what_others_own_behind_the_asked_range_is_cut_off, setup),
		cmocka_unit_test_setup(what_a_node_owns_is_never_called_a_hole_to_it, setup),
		cmocka_unit_test_setup(a_commit_ends_ownership_of_its_range_only, setup),
		cmocka_unit_test_setup(ranges_agree_with_a_map_of_owners, setup),
		cmocka_unit_test_setup(who_writes_parts_of_blocks_waits_for_all_other_writers, setup),
		cmocka_unit_test_setup(in_an_edge_range_others_read_and_do_not_write, setup),
		cmocka_unit_test_setup(two_nodes_have_edge_ranges_beside_each_other, setup),
		cmocka_unit_test_setup(
			space_to_first_write_is_an_edge_range_as_far_as_it_goes, setup),
		cmocka_unit_test_setup(
			alone_it_has_all_that_it_is_told_and_keeps_it_over_commits, setup),
		cmocka_unit_test_setup(with_too_many_edge_ranges_all_begin_anew, setup),
		cmocka_unit_test_setup(opens_are_per_node, setup),
		cmocka_unit_test_setup(who_is_asked_later_has_its_time_too, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
