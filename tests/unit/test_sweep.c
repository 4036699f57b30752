/* SPDX-License-Identifier: GPL-2.0-or-later */
/* node_sweep.c: files without a name are freed, though one of them is damaged, or there is no memory for a while. */
#include "coordinator/takeover_priv.h"
#include "metadata/engine.h"
#include "tests/unit/node_alone.h"
#include "tests/unit/ops_engine.h"

#define FILES 40u
#define BAD 12u /* the file whose block of inodes is damaged */

static uint64_t ino[FILES];

/* Files that nobody has open, and that have no name. */
static void orphans(void)
{
	uint64_t root = engine_mkfs(256ull << 20, 16 << 20);
	char name[16];

	for (uint32_t i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "%u", i);
		ino[i] = create(root, name);
		run_set_open(ino[i], true);
		assert_int_equal(do_name(FS_UNLINK, root, name), 0);
	}
	assert_int_equal(run_sync_close(engine.rs), 0);
	free(engine.region);
	memset(run.open, 0, sizeof(run.open));
}

static int count_orphans(struct txn *t, void *arg)
{
	uint64_t at = 0;
	int err;

	for (*(uint32_t *)arg = 0; !(err = op_next_orphan(t, at, &at));)
		++*(uint32_t *)arg;
	return err == -ENOENT ? 0 : err;
}

static uint32_t orphans_left(void)
{
	uint32_t count;

	engine_open();
	assert_int_equal(run_sync_op(engine.rs, count_orphans, &count), 0);
	run_sync_crash(engine.rs);
	return count;
}

static void damage(uint64_t blkno)
{
	uint8_t b[BLOCK_SIZE];

	assert_int_equal(engine.dev.read(engine.dev.ctx, blkno * BLOCK_SIZE, b, BLOCK_SIZE), 0);
	b[200] ^= 1;
	assert_int_equal(engine.dev.write(engine.dev.ctx, blkno * BLOCK_SIZE, b, BLOCK_SIZE, true), 0);
}

static void carry_out(void)
{
	for (uint32_t i = 0; i < fx.count; i++) {
		const struct effect *e = &fx.fx[i];
		struct event ev = {.type = EV_LUN_DONE, .now_ns = n->now_ns, .tag = e->tag};

		if (e->type != FX_LUN)
			continue;
		if (e->lun.op == LUN_READ)
			assert_int_equal(engine.dev.read(engine.dev.ctx, e->lun.off, e->lun.buf, e->lun.len), 0);
		if (e->lun.op == LUN_WRITE)
			assert_int_equal(
				engine.dev.write(engine.dev.ctx, e->lun.off, e->lun.buf, e->lun.len, true), 0);
		ev.lun.status = LUN_OK;
		vol_lun_done(n->vol, &ev, &fx);
	}
}

/* A node that serves alone, with the volume just opened. */
static void serves(void)
{
	struct vol_config vc = {.mem = &mem, .trace = &engine_trace, .cache_bytes = 4u << 20, .write_cache = true,
		.lun_bytes = engine.dev.bytes, .tag_seed = 1ull << 40, .ops = &metadata_ops, .ino_is_open = run_is_open};

	node_alone();
	n->now_ns = NS_PER_SEC;
	n->vol = vol_create(&vc);
	assert_non_null(n->vol);
	vol_open(n->vol, 3, &fx);
	for (uint32_t i = 0; vol_state(n->vol) != VOL_READY; i++) {
		assert_true(i < 1000);
		effects_reset(&fx);
		vol_step(n->vol, n->now_ns, &fx);
		carry_out();
	}
	n->tk->state = TK_SERVE;
	node_sweep_begin(n);
}

/* All that is to be done within so many seconds; what there is to do later is far apart. */
static void run_for(uint64_t seconds)
{
	uint64_t end = n->now_ns + seconds * NS_PER_SEC;
	uint32_t steps = 0;

	while (n->now_ns < end) {
		assert_true(steps++ < 20000);
		effects_reset(&fx);
		vol_spare(n->vol);
		node_server_step(n, &fx);
		carry_out();
		n->now_ns += 10 * NS_PER_MS;
	}
}

static void one_that_is_damaged_keeps_none_behind_it(void **state)
{
	uint32_t same = 0, left;

	orphans();
	for (uint32_t i = 0; i < FILES; i++)
		same += ino[i] / 8 == ino[BAD] / 8;
	damage(ino[BAD] / 8);
	serves();
	run_for(5);
	assert_false(n->orphans_left || n->sweeping);
	left = orphans_left();
	print_message("%u of %u files are in the damaged block, %u are left\n", same, FILES, left);
	assert_int_equal(left, same);
	run_sync_mem_free(engine.mem);
}

static void without_memory_it_goes_on_later(void **state)
{
	struct mem none, *was;
	uint8_t *little = aligned_alloc(4096, 4096);

	orphans();
	serves();
	mem_init(&none, little, 0);
	was = n->mem;
	n->mem = &none;
	effects_reset(&fx);
	node_server_step(n, &fx);
	carry_out();
	assert_true(n->orphans_left && !n->sweeping);
	assert_true(node_sweep_deadline(n) > n->now_ns);
	assert_true(node_sweep_deadline(n) <= n->now_ns + 10 * NS_PER_SEC);
	n->mem = was;
	run_for(15);
	assert_false(n->orphans_left || n->sweeping);
	assert_int_equal(node_sweep_deadline(n), NEVER);
	assert_int_equal(orphans_left(), 0);
	run_sync_mem_free(engine.mem);
	free(little);
}

/* Rule 7 of takeover_given.c: whoever holds one, and is away, hears of it from the next coordinator only if our term counts. */
static void none_is_freed_before_the_term_counts(void **state)
{
	(void)state;
	orphans();
	serves();
	n->tk->counted_at = 1;
	run_for(5);
	assert_true(n->orphans_left && !n->sweeping);
	assert_int_equal(node_sweep_deadline(n), NEVER);
	n->tk->list_durable = 1;
	assert_true(node_sweep_deadline(n) <= n->now_ns);
	run_for(5);
	assert_false(n->orphans_left || n->sweeping);
	assert_int_equal(orphans_left(), 0);
	run_sync_mem_free(engine.mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_that_is_damaged_keeps_none_behind_it),
		cmocka_unit_test(without_memory_it_goes_on_later),
		cmocka_unit_test(none_is_freed_before_the_term_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
