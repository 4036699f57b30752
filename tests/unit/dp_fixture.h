/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dp_fixture.h - one file, one dp, and calls that check it: for the tests of dp.h's rules. */
#ifndef CSVFS_TESTS_DP_FIXTURE_H
#define CSVFS_TESTS_DP_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "csvfs/dp_int.h"

#define CS 65536u
#define BS 512u
#define REGION (16u << 20)
#define INO 5
#define LEASE (100 * NS_PER_SEC)

struct fixture {
	void *region;
	struct mem mem;
	struct dp *dp;
	struct dp_now now;
};

static inline int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));
	struct dp_config c = {.mem = &x->mem, .cluster_bytes = CS, .block_bytes = BS};

	x->region = aligned_alloc(4096, REGION);
	mem_init(&x->mem, x->region, REGION);
	x->dp = dp_create(&c);
	assert_non_null(x->dp);
	dp_gate(x->dp, GATE_DIRECT, LEASE);
	x->now = (struct dp_now){.now_ns = NS_PER_SEC, .wall_ns = 1000};
	*state = x;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *x = *state;

	dp_check(x->dp);
	dp_destroy(x->dp);
	assert_int_equal(x->mem.live, 0);
	free(x->region);
	free(x);
	return 0;
}

/* Rule 14: as if it had asked for a layout to write. */
static inline void may_write(struct dp *dp, uint64_t ino)
{
	dp_file_find(dp, ino)->writes = true;
}

/* [c, c + n) clusters at LUN cluster 100 + c. */
static inline void put_shared(struct fixture *x, uint64_t c, uint64_t n, uint32_t state, uint64_t size)
{
	struct fs_extent e = {
		.off = c * CS, .len = n * CS, .lun_off = (100 + c) * CS, .state = state};

	assert_int_equal(dp_layout_put(x->dp, INO, c * CS, n * CS, size, &e, 1), 0);
	may_write(x->dp, INO);
}

/* The same, and nobody else writes there. */
static inline void put(struct fixture *x, uint64_t c, uint64_t n, uint32_t state, uint64_t size)
{
	struct fs_extent e = {
		.off = c * CS, .len = n * CS, .lun_off = (100 + c) * CS, .state = state,
		.edge = state == EXT_WRITTEN || state == EXT_UNWRITTEN};

	if (state == EXT_HOLE)
		e.lun_off = 0;
	assert_int_equal(dp_layout_put(x->dp, INO, c * CS, n * CS, size, &e, 1), 0);
	may_write(x->dp, INO);
}

static inline enum dp_verdict go(struct fixture *x, struct dp_op *op, bool write, uint64_t off, uint32_t len)
{
	dp_op_init(op);
	op->ino = INO;
	op->write = write;
	op->off = off;
	op->len = len;
	return dp_begin(x->dp, op, x->now);
}

static inline enum dp_verdict done(struct fixture *x, struct dp_op *op, enum lun_status st)
{
	enum dp_verdict v = dp_done(x->dp, op, st, x->now);

	dp_check(x->dp);
	return v;
}

static inline enum dp_verdict block_done(struct fixture *x, struct dp_op *op, int err)
{
	enum dp_verdict v = dp_block_done(x->dp, op, err, x->now);

	dp_check(x->dp);
	return v;
}

static inline bool drained(struct fixture *x, uint64_t ino)
{
	struct event ev;
	bool found = false;

	while (dp_next_event(x->dp, &ev))
		found |= ev.type == EV_DRAINED && ev.ino == ino;
	return found;
}

/* Files keep what is known; the last act of most tests. */
static inline void forget(struct fixture *x)
{
	dp_layout_drop(x->dp, INO);
}

static inline enum dp_verdict sync_write(struct fixture *x, struct dp_op *op, uint64_t off, bool sync)
{
	dp_op_init(op);
	op->ino = INO;
	op->write = true;
	op->off = off;
	op->len = 4096;
	op->sync = sync;
	op->dsync = true;
	return dp_begin(x->dp, op, x->now);
}

#endif
