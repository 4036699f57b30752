/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <time.h>

#include "engine_lun.h"
#include "csvfs/base/prng.h"
#include "metadata/alloc.h"

/* ------------------------------------------------------------------ operations */

struct take {
	uint64_t goal, who;
	uint32_t want;
	uint64_t start;
	uint32_t got;
	int fail;
};

static int take_op(struct txn *t, void *arg)
{
	struct take *k = arg;
	int err = alloc_clusters(t, k->goal, k->who, k->want, &k->start, &k->got);

	return err ? err : k->fail;
}

static int give_op(struct txn *t, void *arg)
{
	const struct take *k = arg;

	return alloc_free_clusters(t, k->start, k->got);
}

struct inodes {
	uint64_t parent, ino;
	bool is_new;
};

static int inode_op(struct txn *t, void *arg)
{
	struct inodes *i = arg;

	return alloc_inode(t, i->parent, &i->ino, &i->is_new);
}

static int inode_free_op(struct txn *t, void *arg)
{
	return alloc_free_inode(t, ((struct inodes *)arg)->ino);
}

static int inode_used_op(struct txn *t, void *arg)
{
	return alloc_inode_used(t, ((struct inodes *)arg)->ino);
}

static int block_op(struct txn *t, void *arg)
{
	struct help_put *p = arg;
	struct block *b;
	int err = alloc_block(t, 0, p->value == 1, &p->blkno);

	if (!err)
		err = txn_new(t, p->blkno, HELP_MAGIC, HELP_OWNER, &b);
	if (!err)
		((struct disk_value_block *)b->data)->len = le32_of(8);
	return err;
}

static uint64_t free_now(struct lun *l)
{
	struct fs_statfs st;

	alloc_statfs(l->v, &st);
	return st.bfree;
}

/* Index, summary blocks and group blocks say the same. */
static void all_agree(struct lun *l)
{
	const struct disk_super *s = l->v->geo;
	uint64_t free = 0;

	lun_settle(l);
	for (uint64_t g = 0; g < le64_get(s->group_count); g++) {
		struct disk_summary *m = (struct disk_summary *)lun_peek(
			l, le64_get(s->summary_start) + g / SUMMARY_PER_BLOCK);
		struct disk_summary_entry e = m->e[g % SUMMARY_PER_BLOCK];
		struct disk_group *d;
		struct verify_report rep;

		assert_int_equal(le16_get(e.free_clusters), l->v->alloc.groups[g].free);
		assert_int_equal(le16_get(e.flags), l->v->alloc.groups[g].flags);
		free += le16_get(e.free_clusters);
		if (!(le16_get(e.flags) & SUMMARY_INIT))
			continue;
		d = (struct disk_group *)lun_peek(l, le64_get(s->group_start) + g);
		assert_int_equal(
			verify_block(d, MAGIC_GROUP, le64_get(s->group_start) + g, s, &rep),
			PROBLEM_NONE);
		assert_int_equal(le32_get(d->free_clusters), le16_get(e.free_clusters));
	}
	assert_int_equal(free, free_now(l));
}

/* ------------------------------------------------------------------ data */

static void what_is_taken_and_given_back_adds_up(void **state)
{
	struct lun *l = lun_new(128u << 20, 4096);
	static struct take held[200];
	struct prng r = {42};
	uint64_t before = free_now(l), taken = 0;
	uint32_t n = 0;

	for (uint32_t i = 0; i < 2000; i++) {
		if (n < 200 && prng_below(&r, 2)) {
			held[n] = (struct take){
				0, prng_below(&r, 5), 1 + prng_below(&r, 300), 0, 0, 0};
			assert_int_equal(lun_op(l, take_op, &held[n]), 0);
			assert_in_range(held[n].got, 1, held[n].want);
			taken += held[n++].got;
		} else if (n) {
			uint32_t k = (uint32_t)prng_below(&r, n);

			assert_int_equal(lun_op(l, give_op, &held[k]), 0);
			taken -= held[k].got;
			held[k] = held[--n];
		}
		assert_int_equal(free_now(l), before - taken);
	}
	/* No cluster was given twice. */
	for (uint32_t a = 0; a < n; a++)
		for (uint32_t b = 0; b < a; b++)
			assert_true(held[a].start + held[a].got <= held[b].start ||
				    held[b].start + held[b].got <= held[a].start);
	all_agree(l);
	lun_crash(l);
	lun_open(l);
	assert_int_equal(free_now(l), before - taken);
	while (n)
		assert_int_equal(lun_op(l, give_op, &held[--n]), 0);
	assert_int_equal(free_now(l), before);
	all_agree(l);
	lun_free(l);
}

static void an_undone_operation_leaves_the_index_as_it_was(void **state)
{
	struct lun *l = lun_new(64u << 20, 65536);
	struct take k = {0, 1, 50, 0, 0, -EEXIST}, first = {0, 1, 1, 0, 0, 0};
	uint64_t before;

	assert_int_equal(lun_op(l, take_op, &first), 0);
	before = free_now(l);
	assert_int_equal(lun_op(l, take_op, &k), -EEXIST);
	assert_int_equal(free_now(l), before);
	k.start = first.start;
	k.got = 2; /* the second is free: damage, found after the first was given back */
	assert_int_equal(lun_op(l, give_op, &k), -EUCLEAN);
	assert_int_equal(free_now(l), before);
	all_agree(l);
	lun_free(l);
}

static void two_growing_files_do_not_interleave(void **state)
{
	struct lun *l = lun_new(128u << 20, 65536);
	uint64_t end[3] = {0};
	uint32_t breaks = 0;

	/* 48 MiB in all, one cluster at a time, in turn. */
	for (uint32_t i = 0; i < 3 * 256; i++) {
		struct take k = {end[i % 3], 100 + i % 3, 1, 0, 0, 0};

		assert_int_equal(lun_op(l, take_op, &k), 0);
		if (end[i % 3] && k.start != end[i % 3])
			breaks++;
		end[i % 3] = k.start + k.got;
	}
	/* A break each MiB (16 clusters) at most. */
	assert_in_range(breaks, 0, 3 * 256 / 16);
	lun_free(l);
}

static void writers_keep_out_of_each_others_windows(void **state)
{
	struct lun *l = lun_new(256u << 20, 65536);
	uint64_t end[3] = {0};
	uint32_t breaks = 0;

	/* A MiB at a time, in turn: what follows is free for its writer the next time. */
	for (uint32_t i = 0; i < 3 * 32; i++) {
		struct take k = {end[i % 3], 100 + i % 3, 16, 0, 0, 0};

		assert_int_equal(lun_op(l, take_op, &k), 0);
		if (end[i % 3] && k.start != end[i % 3])
			breaks++;
		end[i % 3] = k.start + k.got;
	}
	assert_in_range(breaks, 0, 3 * 16);
	lun_free(l);
}

/* Windows of files that are gone cover all that is free: small files lie side by side all the same (A5). */
static void who_finds_space_in_a_window_has_it_for_itself(void **state)
{
	struct lun *l = lun_new(128u << 20, 65536);
	struct take large[70] = {{0}}, k = {0, 1, 1, 0, 0, 0};
	uint64_t end = 0;
	uint32_t count = 0, breaks = 0;

	for (; count < 70; count++) {
		large[count] = (struct take){0, 100 + count, 32, 0, 0, 0};
		if (lun_op(l, take_op, &large[count]))
			break;
	}
	assert_true(count > 50); /* else there is space between the windows */
	while (count--)
		assert_int_equal(lun_op(l, give_op, &large[count]), 0);
	for (uint32_t i = 0; i < 256; i++) {
		assert_int_equal(lun_op(l, take_op, &k), 0);
		breaks += k.start != end;
		end = k.start + 1;
	}
	assert_in_range(breaks, 1, 256 / 16 + 2);
	all_agree(l);
	lun_free(l);
}

static void a_large_request_gets_an_aligned_run(void **state)
{
	struct lun *l = lun_new(256u << 20, 65536);
	struct take odd = {0, 1, 1, 0, 0, 0}, k = {0, 2, 256, 0, 0, 0};

	assert_int_equal(lun_op(l, take_op, &odd), 0);
	assert_int_equal(lun_op(l, take_op, &k), 0);
	assert_int_equal(k.got, 256);
	assert_int_equal(k.start % 16, 0);
	lun_free(l);
}

static void freed_clusters_wait_for_their_commit(void **state)
{
	struct lun *l = lun_new(64u << 20, 65536);
	struct take k = {0, 1, 4, 0, 0, 0}, again;
	struct vol_req r, q;

	assert_int_equal(lun_op(l, take_op, &k), 0);
	lun_submit(l, &r, give_op, &k); /* executed, its commit is in flight */
	again = (struct take){k.start, 1, 4, 0, 0, 0};
	lun_submit(l, &q, take_op, &again);
	assert_true(again.got &&
		    (again.start >= k.start + k.got || again.start + again.got <= k.start));
	lun_run(l);
	assert_ptr_equal(lun_done(l), &r);
	assert_ptr_equal(lun_done(l), &q);
	again = (struct take){k.start, 1, 4, 0, 0, 0};
	assert_int_equal(lun_op(l, take_op, &again), 0);
	assert_int_equal(again.start, k.start);
	lun_free(l);
}

static void a_full_volume_waits_for_what_is_being_freed(void **state)
{
	struct lun *l = lun_new(16u << 20, 65536);
	struct take k = {0, 1, 1, 0, 0, 0}, last = k, again;
	struct vol_req r, q;

	while (lun_op(l, take_op, &k) == 0)
		last = k;
	assert_int_equal(lun_op(l, take_op, &k), -ENOSPC);
	lun_submit(l, &r, give_op, &last);
	again = (struct take){0, 2, 1, 0, 0, 0};
	lun_submit(l, &q, take_op, &again);
	assert_null(lun_done(l));
	lun_run(l);
	assert_ptr_equal(lun_done(l), &r);
	assert_ptr_equal(lun_done(l), &q);
	assert_int_equal(q.reply.err, 0);
	assert_int_equal(again.start, last.start);
	lun_free(l);
}

static void every_cluster_outside_the_reserve_can_be_had(void **state)
{
	struct lun *l = lun_new(64u << 20, 65536);
	const struct alloc *a = &l->v->alloc;
	uint64_t most = a->reserve_start - le64_get(l->v->geo->data_start) / a->cluster_blocks;
	uint64_t n = 0;
	struct take k;

	for (uint64_t who = 0;; who++) {
		k = (struct take){0, who % 200, 1 + who % 7, 0, 0, 0};
		if (lun_op(l, take_op, &k))
			break;
		assert_true(k.start + k.got <= a->reserve_start);
		n += k.got;
	}
	assert_int_equal(n, most);
	/* Metadata goes on: ordinary operations with half of the reserve, deletes with all of it. */
	for (uint64_t reserve = 0; reserve < 2; reserve++) {
		struct help_put p = {0, reserve, 0};
		uint32_t blocks = 0;

		while (lun_op(l, block_op, &p) == 0)
			blocks++;
		assert_int_equal(lun_op(l, block_op, &p), -ENOSPC);
		assert_true(blocks >= 255);
	}
	all_agree(l);
	lun_free(l);
}

static void freeing_what_is_not_a_files_is_damage(void **state)
{
	struct lun *l = lun_new(64u << 20, 65536);
	struct help_put p = {0, 0, 0};
	struct take k = {0, 1, 4, 0, 0, 0}, bad[5];

	assert_int_equal(lun_op(l, block_op, &p), 0);
	assert_int_equal(lun_op(l, take_op, &k), 0);
	bad[0] = (struct take){.start = 0, .got = 1};
	bad[1] = (struct take){.start = 1ull << 60, .got = 1};
	bad[2] = (struct take){.start = k.start, .got = k.got + 1};
	bad[3] = (struct take){.start = p.blkno / 16, .got = 1};
	bad[4] = (struct take){.start = l->v->alloc.clusters - 1, .got = 2};
	for (int i = 0; i < 5; i++)
		assert_int_equal(lun_op(l, give_op, &bad[i]), -EUCLEAN);
	assert_int_equal(lun_op(l, give_op, &k), 0);
	assert_int_equal(lun_op(l, give_op, &k), -EUCLEAN);
	lun_free(l);
}

/* ------------------------------------------------------------------ metadata chunks */

static void a_chunk_goes_back_to_data_only_behind_the_tail(void **state)
{
	static const char data[BLOCK_SIZE] = "data";
	static struct help_put p[2 * 255];
	struct lun *l = lun_new(64u << 20, 65536);
	struct vol *v = l->v;
	uint64_t chunk, lsn;
	struct take k;

	for (uint32_t i = 0; i < 2 * 255; i++)
		assert_int_equal(lun_op(l, block_op, &p[i]), 0);
	chunk = p[255].blkno / CHUNK_BLOCKS;
	assert_int_not_equal(chunk, p[0].blkno / CHUNK_BLOCKS);
	assert_int_equal(lun_op(l, help_free_block, &p[0]), 0);
	for (uint32_t i = 255; i < 2 * 255; i++)
		assert_int_equal(lun_op(l, help_free_block, &p[i]), 0);
	lsn = v->lsn_durable;
	assert_false(list_empty(&v->alloc.pending_chunks));
	/* Replay could still write into it: data must stay away. */
	assert_true(v->journal.tail.lsn <= lsn);
	k = (struct take){chunk * 16, 1, 16, 0, 0, 0};
	assert_int_equal(lun_op(l, take_op, &k), 0);
	assert_int_not_equal(k.start / 16, chunk);
	lun_settle(l);
	assert_true(list_empty(&v->alloc.pending_chunks));
	assert_true(v->journal.tail.lsn > lsn);
	k = (struct take){chunk * 16, 1, 16, 0, 0, 0};
	assert_int_equal(lun_op(l, take_op, &k), 0);
	assert_int_equal(k.start, chunk * 16);
	/* Whatever stands in the journal now, a crash does not touch that data. */
	lun_poke(l, chunk * CHUNK_BLOCKS + 5, data);
	lun_crash(l);
	lun_open(l);
	assert_memory_equal(lun_peek(l, chunk * CHUNK_BLOCKS + 5), data, 4);
	all_agree(l);
	lun_free(l);
}

static void inodes_fill_blocks_and_chunks_and_empty_them(void **state)
{
	static struct inodes in[255 * 7 + 10];
	struct lun *l = lun_new(64u << 20, 65536);
	uint32_t n = sizeof(in) / sizeof(in[0]), blocks = 0;
	uint64_t before = free_now(l);

	for (uint32_t i = 0; i < n; i++) {
		in[i].parent = i ? in[0].ino : 0;
		assert_int_equal(lun_op(l, inode_op, &in[i]), 0);
		assert_in_range(in[i].ino & 7, 1, 7);
		blocks += in[i].is_new;
		assert_int_equal(lun_op(l, inode_used_op, &in[i]), 0);
	}
	assert_int_equal(blocks, (n + 6) / 7);
	assert_int_equal(free_now(l), before - 32); /* two chunks */
	all_agree(l);
	for (uint32_t i = 0; i < n; i++) {
		assert_int_equal(lun_op(l, inode_free_op, &in[i]), 0);
		assert_int_equal(lun_op(l, inode_used_op, &in[i]), -ESTALE);
	}
	assert_int_equal(lun_op(l, inode_free_op, &in[0]), -EUCLEAN);
	assert_int_equal(free_now(l), before);
	all_agree(l);
	lun_free(l);
}

static void any_number_can_be_asked_for_as_an_inode(void **state)
{
	struct lun *l = lun_new(64u << 20, 65536);
	struct inodes in = {0, 0, false}, ask;
	struct prng r = {7};

	assert_int_equal(lun_op(l, inode_op, &in), 0);
	for (uint32_t i = 0; i < 2000; i++) {
		ask.ino = prng_u64(&r) >> prng_below(&r, 64);
		if (ask.ino != in.ino)
			assert_int_equal(lun_op(l, inode_used_op, &ask), -ESTALE);
	}
	for (uint64_t d = 0; d < 4096; d++) {
		ask.ino = (in.ino & ~4095ull) + d;
		assert_int_equal(lun_op(l, inode_used_op, &ask), ask.ino == in.ino ? 0 : -ESTALE);
	}
	lun_free(l);
}

/* ------------------------------------------------------------------ large volumes */

struct counter {
	struct run_sync_mem_dev *mem;
	struct sync_dev under;
	uint64_t written;
};

static int count_read(void *ctx, uint64_t off, void *buf, uint64_t len)
{
	struct counter *c = ctx;

	return c->under.read(c->under.ctx, off, buf, len);
}

static int count_write(void *ctx, uint64_t off, const void *buf, uint64_t len, bool fua)
{
	struct counter *c = ctx;

	c->written += len;
	return c->under.write(c->under.ctx, off, buf, len, fua);
}

static int count_flush(void *ctx)
{
	return 0;
}

static void large_volumes_are_made_fast_and_small(void **state)
{
	static const struct {
		uint64_t bytes;
		uint32_t cluster;
	} sizes[] = {{1ull << 40, 65536}, {16ull << 40, 65536}, {16ull << 40, 16384},
		{256ull << 40, 65536}, {256ull << 40, 1u << 20}, {(16ull << 40) + 12288, 65536}};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct counter c = {.mem = run_sync_mem_new(sizes[i].bytes)};
		struct sync_dev dev = {&c, sizes[i].bytes, count_read, count_write, count_flush};
		struct image_params p = help_params(sizes[i].cluster);
		struct run_sync_config cfg = {.dev = &dev, .ops = &help_ops, .trace = &help_sink};
		struct take k = {1ull << 20, 1, 16, 0, 0, 0};
		struct run_sync *rs;
		clock_t start = clock();
		char why[256] = "";

		c.under = run_sync_mem_dev(c.mem);
		assert_int_equal(run_sync_mkfs(&dev, &p, &help_ops, &help_sink, why), 0);
		assert_true(c.written < (64u << 20));
		assert_true(clock() - start < 2 * CLOCKS_PER_SEC);
		assert_int_equal(run_sync_open(&cfg, &rs, why), 0);
		assert_int_equal(run_sync_op(rs, take_op, &k), 0);
		assert_int_equal(run_sync_close(rs), 0);
		run_sync_mem_free(c.mem);
	}
}

static void sizes_that_make_no_volume_are_refused(void **state)
{
	struct run_sync_mem_dev *mem = run_sync_mem_new(64u << 20);
	struct sync_dev dev = run_sync_mem_dev(mem);
	struct image_params p;
	char why[128];

	p = help_params(3000);
	assert_int_equal(image_format(&dev, &p, why), -EINVAL);
	p = help_params(2u << 20);
	assert_int_equal(image_format(&dev, &p, why), -EINVAL);
	p = help_params(0);
	p.volume_bytes = 65u << 20;
	assert_int_equal(image_format(&dev, &p, why), -EINVAL);
	p.volume_bytes = 8u << 20;
	assert_int_equal(image_format(&dev, &p, why), -EINVAL);
	p.volume_bytes = 0;
	p.journal_bytes = 60u << 20;
	assert_int_equal(image_format(&dev, &p, why), -EINVAL);
	p.journal_bytes = 1u << 20;
	assert_int_equal(image_format(&dev, &p, why), -EINVAL);
	run_sync_mem_free(mem);
}

/*
 * A5, A6, after a restart: one group seems to have more free chunks than it has; what was never used is what is kept. The search for
 * a chunk passes hundreds of such groups by, and leaves them as they are.
 */
static void groups_that_are_kept_are_not_made_by_looking_at_them(void **state)
{
	struct lun *l = lun_new(264ull << 30, 4096);
	const struct alloc *a = &l->v->alloc;
	uint64_t far = (a->reserve_start / GROUP_CLUSTERS - 2) * GROUP_CLUSTERS;
	struct take k = {0, 1, GROUP_CLUSTERS, 0, 0, 0};
	struct help_put p = {0, 0, 0};
	uint32_t made = 0, now = 0;

	/* The one chunk of metadata is full. */
	for (uint32_t i = 1; i < CHUNK_BLOCKS; i++)
		assert_int_equal(lun_op(l, block_op, &p), 0);
	for (uint64_t c = 0; c < 6; c++) {
		struct take one = {far + c * a->chunk_clusters + 5, 2, 1, 0, 0, 0};

		assert_int_equal(lun_op(l, take_op, &one), 0);
		assert_int_equal(one.start, one.goal);
	}
	/* Until no chunk is left to data. */
	while (!lun_op(l, take_op, &k) && k.got >= a->chunk_clusters)
		;
	lun_settle(l);
	lun_crash(l);
	lun_open(l);
	a = &l->v->alloc;
	for (uint32_t g = 0; g < a->group_count; g++)
		made += a->groups[g].flags & SUMMARY_INIT;
	assert_in_range(a->group_count - made, l->v->journal.txn_max, UINT32_MAX);
	assert_true(a->whole > alloc_kept(a));
	assert_int_equal(lun_op(l, block_op, &p), 0);
	for (uint32_t g = 0; g < a->group_count; g++)
		now += a->groups[g].flags & SUMMARY_INIT;
	assert_in_range(now, made, made + 1);
	lun_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_taken_and_given_back_adds_up),
		cmocka_unit_test(an_undone_operation_leaves_the_index_as_it_was),
		cmocka_unit_test(two_growing_files_do_not_interleave),
		cmocka_unit_test(writers_keep_out_of_each_others_windows),
		cmocka_unit_test(who_finds_space_in_a_window_has_it_for_itself),
		cmocka_unit_test(a_large_request_gets_an_aligned_run),
		cmocka_unit_test(freed_clusters_wait_for_their_commit),
		cmocka_unit_test(a_full_volume_waits_for_what_is_being_freed),
		cmocka_unit_test(every_cluster_outside_the_reserve_can_be_had),
		cmocka_unit_test(freeing_what_is_not_a_files_is_damage),
		cmocka_unit_test(a_chunk_goes_back_to_data_only_behind_the_tail),
		cmocka_unit_test(inodes_fill_blocks_and_chunks_and_empty_them),
		cmocka_unit_test(any_number_can_be_asked_for_as_an_inode),
		cmocka_unit_test(groups_that_are_kept_are_not_made_by_looking_at_them),
		cmocka_unit_test(large_volumes_are_made_fast_and_small),
		cmocka_unit_test(sizes_that_make_no_volume_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
