/* SPDX-License-Identifier: GPL-2.0-or-later */
/* many_extents.h - a file with more extents than the engine's smallest cache has room for, on ops_engine.h. */
#ifndef CSVFS_TESTS_UNIT_MANY_EXTENTS_H
#define CSVFS_TESTS_UNIT_MANY_EXTENTS_H

#include "tests/unit/ops_engine.h"

#define SMALL 4096ull
#define CACHE_SMALL (4u << 20) /* the least: 1,024 blocks */
#define BITS 17u
#define EXTENTS (1u << BITS) /* their leaves do not fit into the small cache */

/* `count` clusters of one file, WRITTEN, no two of them an extent. */
static inline uint64_t written_file(uint64_t root, uint32_t count)
{
	uint64_t f = create(root, "f");

	for (uint64_t i = 0; i < count; i++) {
		uint64_t off = i * 40503 % count * SMALL;

		assert_int_equal(do_layout(f, off, SMALL, FS_LAYOUT_WRITE), 0);
		assert_int_equal(do_commit(f, off, SMALL, off + SMALL), 0);
	}
	assert_int_equal(run_sync_settle(engine.rs), 0);
	return f;
}

static inline uint64_t looks(void)
{
	struct vol_stats st;

	vol_get_stats(run_sync_vol(engine.rs), &st);
	return st.cache_hits + st.cache_misses;
}

#endif
