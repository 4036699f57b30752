/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many blocks an operation dirties at most (txn.h), on a volume as years of use may leave it: in each of many groups a
 * chunk of metadata with one block free. So each block that is made or freed costs a header, a group and maybe a summary.
 */
#include "metadata/engine.h"
#include "metadata/format_inode.h"
#include "tests/unit/ops_engine.h"

#define AGED_CLUSTER 4096u
#define AGED_BYTES (2ull << 30)
#define AGED_GROUPS 80u
#define GROUP_BLOCKS ((uint64_t)GROUP_CLUSTERS)

static uint64_t root, near, made;
static uint8_t value[XATTR_BYTES_MAX];

static int free_op(struct txn *t, void *arg)
{
	return alloc_free_block(t, *(uint64_t *)arg);
}

/* Nobody's blocks: what they hold is never looked at, and they are not written. */
static int fill_op(struct txn *t, void *arg)
{
	return alloc_block(t, near, false, &made);
}

static uint64_t aged_volume(void)
{
	uint64_t ino, last[AGED_GROUPS];

	root = engine_mkfs_of(AGED_CLUSTER, AGED_BYTES, 32u << 20);
	ino = create(root, "file");
	for (uint32_t g = 0; g < AGED_GROUPS; g++) {
		near = (g + 4) * GROUP_BLOCKS + 1024;
		for (uint32_t i = 0; i < CHUNK_BLOCKS - 1; i++)
			assert_int_equal(run_sync_op(engine.rs, fill_op, NULL), 0);
		last[g] = made;
	}
	/* Then: what is free would be found first. */
	for (uint32_t g = 0; g < AGED_GROUPS; g++)
		assert_int_equal(run_sync_op(engine.rs, free_op, &last[g]), 0);
	memset(value, 'v', sizeof(value));
	return ino;
}

static void large_attributes_go_with_their_file(void **state)
{
	for (uint32_t blocks = 1; blocks < VALUE_BLOCKS_MAX; blocks += 3) {
		uint64_t ino = aged_volume();

		assert_int_equal(do_setxattr(ino, "user.a", value, sizeof(value), 0), 0);
		assert_int_equal(do_setxattr(ino, "user.b", value, blocks * VALUE_BLOCK_BYTES, 0), 0);
		assert_int_equal(do_setxattr(ino, "user.c", value, sizeof(value), 0), 0);
		assert_int_equal(do_name(FS_UNLINK, root, "file"), 0);
		assert_int_equal(run_sync_settle(engine.rs), 0);
		rq(FS_GETATTR, ino, NULL);
		assert_int_equal(run_request(), -ESTALE);
		engine_end();
	}
}

static void large_attribute_is_put_in_place_of_another(void **state)
{
	uint64_t ino = aged_volume();
	char names[2][10] = {"user.a", "user.b"};

	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(do_setxattr(ino, names[i % 2], value, sizeof(value), 0), 0);
	engine_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(large_attributes_go_with_their_file),
		cmocka_unit_test(large_attribute_is_put_in_place_of_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
