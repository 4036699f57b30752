/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * V4 of volume.c: what is long (freeing a file of many extents) holds up nobody. Counted in blocks and commits, not in
 * time: a truncate of 1,000,000 extents must not stall others for 100 ms.
 */
#include "metadata/engine.h"
#include "tests/unit/ops_engine.h"

#define SMALL_CLUSTER 4096ull
#define EXTENTS 20000u
#define GROUPS 250u
#define CMDS 2048
/* Two commits, each with LONG_BLOCKS and one step more; and what the foreign request itself changes. */
#define HELD_UP_BLOCKS (2 * (256 + TXN_OP_BLOCKS) + 32)

static struct {
	struct vol *v;
	struct effects *fx;
	uint64_t now_ns, seq;
	struct effect cmd[CMDS];
	uint32_t count;
} lun;

static void step(bool spare)
{
	effects_reset(lun.fx);
	if (spare)
		vol_spare(lun.v);
	vol_step(lun.v, ++lun.now_ns, lun.fx);
	for (uint32_t i = 0; i < lun.fx->count; i++) {
		assert_true(lun.count < CMDS);
		lun.cmd[lun.count++] = lun.fx->fx[i];
	}
}

/* What was sent so far ends well. */
static void answer(void)
{
	uint32_t n = lun.count;

	for (uint32_t i = 0; i < n; i++) {
		struct lun_cmd *c = &lun.cmd[i].lun;
		struct event ev = {.type = EV_LUN_DONE, .now_ns = lun.now_ns, .tag = lun.cmd[i].tag};

		if (c->op == LUN_READ)
			engine.dev.read(engine.dev.ctx, c->off, c->buf, (uint32_t)c->len);
		if (c->op == LUN_WRITE)
			engine.dev.write(engine.dev.ctx, c->off, c->buf, (uint32_t)c->len, c->fua);
		vol_lun_done(lun.v, &ev, lun.fx);
	}
	memmove(lun.cmd, lun.cmd + n, (lun.count - n) * sizeof(lun.cmd[0]));
	lun.count -= n;
	step(false);
}

static uint64_t journal_blocks(void)
{
	struct vol_stats st;

	vol_get_stats(lun.v, &st);
	return st.journal_bytes / BLOCK_SIZE;
}

static void submit(struct vol_req *r, enum fs_op op, uint64_t ino)
{
	memset(r, 0, sizeof(*r));
	r->rq.op = op;
	r->rq.ino = ino;
	r->rq.time_ns = 1700000000000000000 + (int64_t)++lun.seq;
	if (fs_op_needs_slot(op))
		r->rq.id = (struct fs_reqid){.node = 2, .slot = (uint16_t)op, .life = 9, .seq = lun.seq};
}

/* Serves only requests, as a thread does that has one of its own to answer. */
static bool is_done(struct vol_req *r)
{
	for (uint32_t turns = 0; turns < 100; turns++) {
		struct vol_req *d = vol_next_done(lun.v);

		if (d) {
			assert_ptr_equal(d, r);
			assert_int_equal(r->reply.err, 0);
			return true;
		}
		answer();
	}
	return false;
}

static void foreign(uint64_t root)
{
	struct vol_req r;

	submit(&r, FS_MKNOD, root);
	r.rq.mode = S_IFREG | 0644;
	sprintf(r.rq.name, "other-%llu", (unsigned long long)lun.seq);
	vol_submit(lun.v, &r);
	step(false);
	assert_true(is_done(&r));
}

static uint64_t clusters_of(uint64_t ino)
{
	struct vol_req r;

	submit(&r, FS_GETATTR, ino);
	vol_submit(lun.v, &r);
	step(false);
	assert_true(is_done(&r));
	return r.reply.attr.blocks * 512 / SMALL_CLUSTER;
}

static int space(uint64_t ino, uint64_t at, uint64_t clusters, uint32_t flags)
{
	struct fs_request *q = rq(FS_FALLOCATE, ino, NULL);

	q->off = at * SMALL_CLUSTER;
	q->len = clusters * SMALL_CLUSTER;
	q->flags = flags;
	q->valid = flags ? FS_EDGES_ZEROED : 0;
	return run_request();
}

/* Numbers 0.. in an order that nobody would choose. */
static uint32_t *shuffled(uint32_t n)
{
	uint32_t *at = malloc(n * sizeof(*at)), seed = 1;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t k = (seed = seed * 1664525 + 1013904223) / 16 % (i + 1);

		at[i] = at[k];
		at[k] = i;
	}
	return at;
}

/* Neighbours in the file lie in different groups: each step changes as many blocks as it may. */
static uint64_t scattered_file(uint64_t root)
{
	uint64_t a = create(root, "a"), filler = create(root, "filler"), n = 0;
	uint32_t *at = shuffled(EXTENTS);

	while (!space(filler, n, GROUP_CLUSTERS, 0))
		n += GROUP_CLUSTERS;
	assert_true(n > GROUPS * GROUP_CLUSTERS);
	for (uint64_t i = 0; i < GROUPS; i++)
		assert_int_equal(space(filler, i * GROUP_CLUSTERS + 100, EXTENTS / GROUPS,
					 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
			0);
	assert_int_equal(do_size(a, 2 * EXTENTS * SMALL_CLUSTER), 0);
	assert_int_equal(run_sync_settle(engine.rs), 0);
	for (uint32_t i = 0; i < EXTENTS; i++)
		assert_int_equal(
			do_layout(a, 2 * at[i] * SMALL_CLUSTER, 1, FS_LAYOUT_WRITE), 0);
	free(at);
	assert_int_equal(run_sync_settle(engine.rs), 0);
	return a;
}

static uint64_t begin(uint64_t *root)
{
	uint64_t a;

	*root = engine_mkfs_of(SMALL_CLUSTER, 24ull << 30, 16 << 20);
	a = scattered_file(*root);
	memset(&lun, 0, sizeof(lun));
	lun.v = run_sync_vol(engine.rs);
	lun.now_ns = 1ull << 50;
	lun.fx = calloc(1, sizeof(*lun.fx));
	lun.fx->arena = malloc(EFFECTS_ARENA);
	return a;
}

static void end(void)
{
	struct check_report rep;

	for (uint32_t i = 0; i < 10000 && (lun.count || vol_deadline(lun.v) <= lun.now_ns); i++) {
		answer();
		step(true);
	}
	engine_check(&rep);
	free(lun.fx->arena);
	free(lun.fx);
	engine_end();
}

/* As much of it as can be done before the commit in flight has ended. */
static uint32_t all_that_may_be_done(void)
{
	uint32_t steps = 0;

	while (vol_deadline(lun.v) <= lun.now_ns && steps < 10000) {
		step(true);
		steps++;
	}
	return steps;
}

static void freeing_holds_up_nobody(void **state)
{
	uint64_t root, a = begin(&root), left, was, worst = 0;
	struct vol_req r;
	uint32_t rounds = 0;

	submit(&r, FS_SETATTR, a);
	r.rq.valid = FS_SET_SIZE;
	vol_submit(lun.v, &r);
	step(false);
	assert_true(is_done(&r));
	left = clusters_of(a);
	assert_true(left > EXTENTS * 9 / 10);
	/* Who runs the engine for requests alone does nothing of it. */
	for (uint32_t i = 0; i < 100; i++)
		foreign(root);
	answer();
	assert_int_equal(vol_deadline(lun.v) <= lun.now_ns, true);
	/* One whose request comes when all that may be was done before it waits for so much. */
	for (; vol_deadline(lun.v) <= lun.now_ns; rounds++) {
		assert_true(all_that_may_be_done() < 1000);
		was = journal_blocks();
		foreign(root);
		was = journal_blocks() - was;
		worst = was > worst ? was : worst;
		assert_true(was <= HELD_UP_BLOCKS);
	}
	assert_int_equal(clusters_of(a), 0);
	print_message("%u requests meanwhile, each waited for %llu blocks of the journal at most\n",
		rounds, (unsigned long long)worst);
	assert_true(rounds > 10);
	end();
}

/* All is punched, which is told at once; who asks for a layout then has to wait until it is carried out. */
static void submit_long(struct vol_req *r, uint64_t a)
{
	struct vol_req punch;

	submit(&punch, FS_FALLOCATE, a);
	punch.rq.flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	punch.rq.valid = FS_EDGES_ZEROED;
	punch.rq.len = 2 * EXTENTS * SMALL_CLUSTER;
	vol_submit(lun.v, &punch);
	step(false);
	assert_true(is_done(&punch));
	assert_int_equal(punch.reply.err, 0);
	assert_true(clusters_of(a) > EXTENTS * 9 / 10);
	submit(r, FS_LAYOUT_GET, a);
	r->rq.len = 1;
	vol_submit(lun.v, r);
}

static void a_long_request_holds_up_nobody(void **state)
{
	uint64_t root, a = begin(&root), was;
	struct vol_req r;
	uint32_t rounds = 0;
	bool done = false;

	submit_long(&r, a);
	step(false);
	for (uint32_t i = 0; i < 100; i++)
		foreign(root);
	for (; !done; rounds++) {
		struct vol_req other;

		assert_true(all_that_may_be_done() < 1000);
		was = journal_blocks();
		submit(&other, FS_MKNOD, root);
		other.rq.mode = S_IFREG | 0644;
		sprintf(other.rq.name, "other-%llu", (unsigned long long)lun.seq);
		vol_submit(lun.v, &other);
		for (struct vol_req *d = NULL; d != &other;) {
			answer();
			d = vol_next_done(lun.v);
			done = done || d == &r;
		}
		assert_true(journal_blocks() - was <= HELD_UP_BLOCKS);
		done = done || vol_next_done(lun.v) == &r;
	}
	assert_int_equal(r.reply.err, 0);
	assert_int_equal(clusters_of(a), 0);
	assert_true(rounds > 10);
	end();
}

/* Given up in the middle, it comes back like any other. */
static void a_long_request_comes_back_when_all_is_given_up(void **state)
{
	uint64_t root, a = begin(&root);
	struct vol_req r;

	submit_long(&r, a);
	for (uint32_t i = 0; i < 100; i++) {
		step(false);
		answer();
	}
	assert_null(vol_next_done(lun.v));
	vol_abandon(lun.v);
	assert_ptr_equal(vol_next_done(lun.v), &r);
	assert_int_equal(r.reply.err, -ECONNRESET);
	run_sync_crash(engine.rs);
	engine_open();
	free(lun.fx->arena);
	free(lun.fx);
	engine_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(freeing_holds_up_nobody),
		cmocka_unit_test(a_long_request_holds_up_nobody),
		cmocka_unit_test(a_long_request_comes_back_when_all_is_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
