/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images that somebody made on purpose: each block is sound by itself and has its checksum, together they say what is not so. Whoever
 * mounts one may lose what is on it, but no coordinator stops, and nothing outside of the files is written.
 */
#include "metadata/format_inode.h"
#include "metadata/inode.h"
#include "tests/unit/ops_engine.h"

#define BYTES (256ull << 20)

static uint64_t root, target;

static void make_volume(void)
{
	root = engine_mkfs(BYTES, 8u << 20);
}

/* Not in order: a damaged one may have things left that it cannot do. */
static void drop_volume(void)
{
	run_sync_crash(engine.rs);
	run_sync_mem_free(engine.mem);
	free(engine.region);
}

/* ------------------------------------------------------------------ intents */

static enum intent_op says;
static uint32_t has;

static int intent_op(struct txn *t, void *arg)
{
	struct inode in;
	int err = inode_get(t, target, &in);

	if (!err)
		err = inode_intent_set(&in, says, 0, 0);
	if (!err)
		in.d->flags = le32_of((inode_flags(&in) & ~(uint32_t)(INODE_TRUNCATE | INODE_FREEING)) | has);
	return err;
}

/* The record says one thing, the inode another: what the inode is stays. */
static void intent_stands_for(uint64_t ino, enum intent_op op, uint32_t flag)
{
	uint64_t blocks;

	target = ino;
	says = op;
	has = flag;
	rq(FS_GETATTR, ino, NULL);
	assert_int_equal(run_request(), 0);
	blocks = run.r.reply.attr.blocks;
	assert_int_equal(run_sync_op(engine.rs, intent_op, NULL), 0);
	run_sync_crash(engine.rs);
	engine_open();
	(void)run_sync_settle(engine.rs);
	rq(FS_GETATTR, ino, NULL);
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.attr.blocks, blocks);
	assert_int_equal(vol_state(run_sync_vol(engine.rs)), VOL_READY);
}

static void intent_alone_takes_nothing_away(void **state)
{
	static const enum intent_op ops[] = {INTENT_TRUNCATE, INTENT_FREE};

	for (uint32_t i = 0; i < 2; i++) {
		uint64_t ino;

		make_volume();
		assert_int_equal(do_symlink(root, "link", "abc", 3), 0);
		intent_stands_for(run.r.reply.attr.ino, ops[i], 0);
		ino = mkdir_(root, "dir");
		(void)create(ino, "in it");
		intent_stands_for(ino, ops[i], 0);
		ino = create(root, "file");
		assert_int_equal(do_layout(ino, 0, 5 * CLUSTER, FS_LAYOUT_WRITE), 0);
		intent_stands_for(ino, ops[i], 0);
		drop_volume();
	}
	make_volume();
	target = create(root, "file");
	assert_int_equal(do_layout(target, 0, 5 * CLUSTER, FS_LAYOUT_WRITE), 0);
	intent_stands_for(target, INTENT_FREE, INODE_TRUNCATE);
	drop_volume();
}

int main(void)
{
	const struct CMUnitTest tests[] = {

		cmocka_unit_test(intent_alone_takes_nothing_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
