/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ops_fixture.h - a fresh volume for each test on fake_txn.h, checked behind it. To be included once. */
#ifndef CSVFS_TESTS_OPS_FIXTURE_H
#define CSVFS_TESTS_OPS_FIXTURE_H

#include "tests/unit/ops_run.h"

static uint64_t root;

static int setup(void **state)
{
	root = run_mkfs(1u << 16);
	run.faults = true;
	return 0;
}

static int teardown(void **state)
{
	run.faults = false;
	run_background();
	check_volume();
	return 0;
}

static inline struct fs_attr attr_of(uint64_t ino)
{
	assert_int_equal(do_getattr(ino), 0);
	return run.r.reply.attr;
}

static inline uint64_t lookup(uint64_t dir, const char *name)
{
	return do_name(FS_LOOKUP, dir, name) ? 0 : run.r.reply.attr.ino;
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

#endif
