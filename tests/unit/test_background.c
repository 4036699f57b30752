/* SPDX-License-Identifier: GPL-2.0-or-later */
/* V5 of volume.c: one file whose background work fails keeps that of no other from being done. */
#include "metadata/engine.h"
#include "metadata/inode.h"
#include "tests/unit/ops_engine.h"

static void open_with(const struct vol_ops *ops)
{
	struct run_sync_config cfg = {.dev = &engine.dev, .ops = ops, .mem_bytes = 128u << 20,
		.steal = true, .write_cache = true, .trace = &engine_trace};
	char why[256] = "";

	if (run_sync_open(&cfg, &engine.rs, why))
		fail_msg("%s", why);
}

static int nothing(struct txn *t, uint64_t *ino)
{
	return -ENOENT;
}

/* ------------------------------------------------------------------ a damaged file */

#define SMALL 4096ull
#define EXTENTS 3000u

static uint64_t large_file(uint64_t root, const char *name)
{
	uint64_t f = create(root, name);

	for (uint64_t i = 0; i < EXTENTS; i++)
		assert_int_equal(do_layout(f, 2 * i * SMALL, 1, FS_LAYOUT_WRITE), 0);
	return f;
}

/* All blocks of its tree in their places have a wrong bit each. */
static void damage_tree_of(uint64_t ino)
{
	uint8_t block[BLOCK_SIZE];
	uint32_t n = 0;

	for (uint64_t at = 0; at < engine.dev.bytes; at += BLOCK_SIZE) {
		const struct disk_header *h = (const struct disk_header *)block;

		assert_int_equal(engine.dev.read(engine.dev.ctx, at, block, BLOCK_SIZE), 0);
		if (le32_get(h->magic) != MAGIC_TREE || le64_get(h->owner) != ino)
			continue;
		block[3000] ^= 1;
		assert_int_equal(engine.dev.write(engine.dev.ctx, at, block, BLOCK_SIZE, true), 0);
		n++;
	}
	assert_true(n > 0);
}

struct left {
	uint64_t first;
	uint32_t count;
};

static int intents_left(struct txn *t, void *arg)
{
	struct left *l = arg;
	struct disk_intent it;
	uint64_t ino = 0;
	int err;

	*l = (struct left){0};
	while (!(err = inode_intent_next(t, ino, &ino, &it))) {
		l->first = l->first ? l->first : ino;
		l->count++;
	}
	return err == -ENOENT ? 0 : err;
}

static void a_damaged_file_does_not_keep_others_from_being_freed(void **state)
{
	struct vol_ops later = metadata_ops;
	uint64_t root = engine_mkfs_of(SMALL, 256ull << 20, 16 << 20), damaged, free_before;
	struct left l;

	later.background = nothing;
	damaged = large_file(root, "a");
	free_before = engine_free_clusters();
	(void)large_file(root, "b");
	(void)large_file(root, "c");
	assert_int_equal(run_sync_close(engine.rs), 0);
	open_with(&later);
	for (const char *name = "abc"; *name; name++)
		assert_int_equal(do_name(FS_UNLINK, root, (const char[]){*name, 0}), 0);
	assert_int_equal(run_sync_op(engine.rs, intents_left, &l), 0);
	assert_int_equal(l.count, 3);
	assert_int_equal(run_sync_close(engine.rs), 0);
	damage_tree_of(damaged);
	open_with(&metadata_ops);
	assert_int_equal(run_sync_settle(engine.rs), 0);
	assert_int_equal(run_sync_op(engine.rs, intents_left, &l), 0);
	assert_int_equal(l.count, 1);
	assert_int_equal(l.first, damaged);
	assert_true(engine_free_clusters() >= free_before);
	/* One that comes later is not kept from it either. */
	(void)large_file(root, "d");
	assert_int_equal(do_name(FS_UNLINK, root, "d"), 0);
	assert_int_equal(run_sync_settle(engine.rs), 0);
	assert_int_equal(run_sync_op(engine.rs, intents_left, &l), 0);
	assert_int_equal(l.count, 1);
	engine_end();
}

/* ------------------------------------------------------------------ rounds */

static struct {
	uint32_t left[16]; /* steps, by inode */
	uint32_t failed;
	uint64_t add_at, add; /* a step of add_at makes one for `add` */
} todo;

#define BAD 5u

static int step(struct txn *t, uint64_t *ino)
{
	uint64_t at = *ino + 1;

	while (at < 16 && !todo.left[at])
		at++;
	if (at == 16)
		return -ENOENT;
	*ino = at;
	if (at == BAD) {
		todo.failed++;
		return -EUCLEAN;
	}
	todo.left[at]--;
	if (at == todo.add_at) {
		todo.add_at = 0;
		todo.left[todo.add] = 1;
		txn_kick(t);
	}
	return 0;
}

static int kick(struct txn *t, void *arg)
{
	txn_kick(t);
	return 0;
}

static void what_comes_before_the_one_that_failed_is_done_in_a_new_round(void **state)
{
	struct vol_ops ops = metadata_ops;

	(void)engine_mkfs(64 << 20, 4 << 20);
	assert_int_equal(run_sync_close(engine.rs), 0);
	memset(&todo, 0, sizeof(todo));
	todo.left[BAD] = 1;
	todo.left[7] = 3;
	todo.left[9] = 2;
	todo.add_at = 9;
	todo.add = 2;
	ops.background = step;
	open_with(&ops);
	assert_int_equal(run_sync_settle(engine.rs), 0);
	for (uint32_t i = 0; i < 16; i++)
		assert_int_equal(todo.left[i], i == BAD);
	/* Once in each round, and rounds end. */
	assert_int_equal(todo.failed, 2);
	todo.left[3] = todo.left[12] = 2;
	assert_int_equal(run_sync_op(engine.rs, kick, NULL), 0);
	assert_int_equal(run_sync_settle(engine.rs), 0);
	assert_int_equal(todo.left[3] + todo.left[12], 0);
	assert_int_equal(todo.failed, 3);
	engine_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_damaged_file_does_not_keep_others_from_being_freed),
		cmocka_unit_test(what_comes_before_the_one_that_failed_is_done_in_a_new_round),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
