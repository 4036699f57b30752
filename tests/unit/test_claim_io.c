/* SPDX-License-Identifier: GPL-2.0-or-later */
/* claim_io.c: what a claim block that cannot be read for a moment, or for good, does to the choice between the two. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "coordinator/claim_io.h"

#define REGION (1u << 20)

static const uint8_t uuid[16] = {1};

static struct claim_io io;
static struct mem mem;
static void *region;
static struct effects fx;
static uint64_t now_ns;

static int setup(void **state)
{
	(void)state;
	region = aligned_alloc(4096, REGION);
	mem_init(&mem, region, REGION);
	fx.arena = malloc(EFFECTS_ARENA);
	effects_reset(&fx);
	now_ns = NS_PER_SEC;
	return claim_io_init(&io, &mem, uuid, 100);
}

static int teardown(void **state)
{
	(void)state;
	claim_io_fini(&io, &mem);
	assert_int_equal(mem.live, 0);
	free(fx.arena);
	free(region);
	return 0;
}

/* What lies in block `i`. */
static void holds(unsigned i, uint64_t heartbeat)
{
	struct claim c = {.epoch = 7, .heartbeat = heartbeat, .state = CLAIM_HELD, .node = 1, .incarnation = 5, .life = 9};

	memcpy(c.uuid, uuid, 16);
	claim_encode(&c, io.buf[i]);
}

static void ends(unsigned i, enum lun_status status)
{
	struct event ev = {.type = EV_LUN_DONE, .now_ns = now_ns, .tag = io.tag[i], .lun.status = status};

	assert_true(io.tag[i]);
	assert_true(claim_io_lun_done(&io, &ev, &fx));
}

/* What is to be sent again is sent. */
static void goes_on(void)
{
	assert_true(claim_io_deadline(&io) != NEVER);
	if (now_ns < claim_io_deadline(&io))
		now_ns = claim_io_deadline(&io);
	effects_reset(&fx);
	claim_io_step(&io, now_ns, &fx);
	assert_true(fx.count > 0);
}

static void both_are_refused(int times)
{
	for (int i = 0; i < times; i++) {
		ends(0, LUN_RETRY);
		ends(1, LUN_RETRY);
		goes_on();
	}
}

/* Block 0 fails until the read has had enough of it, or for `max_ns`. */
static void block_0_fails(uint64_t max_ns)
{
	uint64_t began_ns = now_ns;

	while (!io.tag[1] && claim_io_busy(&io) && now_ns - began_ns < max_ns) {
		ends(0, LUN_FAILING);
		if (claim_io_busy(&io))
			goes_on();
	}
}

static void a_moments_failure_makes_no_older_claim_count(void **state)
{
	(void)state;
	claim_io_read(&io, &fx);
	both_are_refused(5);
	holds(1, 41);
	ends(0, LUN_FAILING);
	ends(1, LUN_OK);
	assert_true(claim_io_busy(&io));
	goes_on();
	block_0_fails(9 * NS_PER_SEC);
	assert_true(claim_io_busy(&io));
	/* It was refused once more: that is no failure of the place. */
	ends(0, LUN_RETRY);
	goes_on();
	block_0_fails(9 * NS_PER_SEC);
	assert_true(claim_io_busy(&io));
	holds(0, 42);
	ends(0, LUN_OK);
	assert_int_equal(claim_io_result(&io), CLAIM_DONE);
	assert_int_equal(claim_io_best(&io)->heartbeat, 42);
}

static void a_block_that_fails_for_seconds_is_damaged_and_the_other_one_is_read_anew(void **state)
{
	uint64_t began_ns;

	(void)state;
	began_ns = now_ns;
	claim_io_read(&io, &fx);
	holds(1, 41);
	ends(1, LUN_OK);
	block_0_fails(60 * NS_PER_SEC);
	assert_in_range(now_ns - began_ns, CLAIM_FAILING_NS, CLAIM_FAILING_NS + NS_PER_SEC);
	/* It has beaten since. */
	assert_true(claim_io_busy(&io));
	assert_null(claim_io_best(&io));
	assert_int_equal(io.tag[0], 0);
	holds(1, 61);
	ends(1, LUN_OK);
	assert_false(claim_io_busy(&io));
	assert_int_equal(claim_io_result(&io), CLAIM_DONE);
	assert_int_equal(claim_io_best(&io)->heartbeat, 61);
	assert_int_equal(io.place, 0);
}

static void two_blocks_that_fail_are_a_lun_that_fails(void **state)
{
	uint64_t began_ns = now_ns;

	(void)state;
	claim_io_read(&io, &fx);
	while (claim_io_busy(&io)) {
		ends(0, LUN_FAILING);
		ends(1, LUN_FAILING);
		if (claim_io_busy(&io))
			goes_on();
	}
	assert_int_equal(claim_io_result(&io), CLAIM_FAILED);
	assert_in_range(now_ns - began_ns, CLAIM_FAILING_NS, CLAIM_FAILING_NS + NS_PER_SEC);
}

static void what_fails_and_is_refused_by_turns_ends(void **state)
{
	(void)state;
	claim_io_read(&io, &fx);
	holds(1, 41);
	ends(1, LUN_OK);
	for (int i = 0; claim_io_busy(&io); i++) {
		ends(0, i % 50 ? LUN_FAILING : LUN_RETRY);
		if (claim_io_busy(&io))
			goes_on();
	}
	assert_int_equal(claim_io_result(&io), CLAIM_FAILED);
	assert_true(now_ns < 60 * NS_PER_SEC);
}

static void a_beat_does_not_wait(void **state)
{
	struct claim c = {.epoch = 7, .heartbeat = 42, .state = CLAIM_HELD, .node = 1};
	uint64_t began_ns = now_ns;
	unsigned place = io.place;

	(void)state;
	claim_io_write(&io, &c, &fx);
	while (claim_io_busy(&io)) {
		ends(place, LUN_FAILING);
		if (claim_io_busy(&io))
			goes_on();
	}
	assert_int_equal(claim_io_result(&io), CLAIM_FAILED);
	assert_int_not_equal(io.place, place);
	assert_true(now_ns - began_ns < NS_PER_SEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_moments_failure_makes_no_older_claim_count, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_block_that_fails_for_seconds_is_damaged_and_the_other_one_is_read_anew, setup, teardown),
		cmocka_unit_test_setup_teardown(two_blocks_that_fail_are_a_lun_that_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(what_fails_and_is_refused_by_turns_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(a_beat_does_not_wait, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
