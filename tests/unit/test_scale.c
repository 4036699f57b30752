/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a call costs when a directory, a file or the journal is large: counted in blocks, not in time. With
 * CSVFS_SCALE=1000000 (files and extents; 60,000 else) it takes minutes.
 */
#include "tests/unit/ops_engine.h"

#define CACHE (16u << 20)

#ifdef __SANITIZE_ADDRESS__
#define SCALE 25000
#else
#define SCALE 60000
#endif

static uint32_t scale(void)
{
	const char *s = getenv("CSVFS_SCALE");

	return s ? (uint32_t)strtoul(s, NULL, 10) : SCALE;
}

static const char *name_of(uint32_t i)
{
	static char name[24];

	snprintf(name, sizeof(name), "file-%08u", i);
	return name;
}

/* What the engine has done so far. */
struct work {
	uint64_t commits, journal, looked_at, fetched;
};

static struct work now(void)
{
	struct vol_stats st;

	vol_get_stats(run_sync_vol(engine.rs), &st);
	return (struct work){st.commits, st.journal_bytes / BLOCK_SIZE,
		st.cache_hits + st.cache_misses, st.cache_misses};
}

static struct work since(struct work from)
{
	struct work to = now();

	return (struct work){to.commits - from.commits, to.journal - from.journal,
		to.looked_at - from.looked_at, to.fetched - from.fetched};
}

static void tell(const char *what, uint32_t n, struct work w)
{
	print_message("%s: a call writes %.2f blocks, looks at %.1f, fetches %.2f\n", what,
		(double)w.journal / n, (double)w.looked_at / n, (double)w.fetched / n);
}

/* What no cache of this size can hold is read, once for a call; and the call looks again at what it saw before. */
static void at_most_half_as_much_again(struct work first, struct work last, uint32_t calls)
{
	assert_true(last.journal * 2 <= first.journal * 3);
	assert_true(last.fetched <= calls);
	assert_true((last.looked_at - last.fetched * 12) * 2 <= first.looked_at * 3);
}

/* Closed and opened: nothing is in the cache but what opening reads. */
static void cold(void)
{
	assert_int_equal(run_sync_close(engine.rs), 0);
	engine_open();
}

static void a_directory_of_many_files(void **state)
{
	uint64_t root = engine_mkfs(64ull << 30, CACHE), dir = mkdir_(root, "d"), was;
	uint32_t n = scale(), part = 10000, most = 0;
	struct work first, last, w;
	struct check_report rep;

	(void)state;
	assert_int_equal(run_sync_settle(engine.rs), 0);
	was = engine_free_clusters();
	w = now();
	for (uint32_t i = 0; i < n; i++) {
		create(dir, name_of(i));
		if (i + 1 == part)
			first = since(w);
		if (i + 1 == n - part)
			w = now();
	}
	last = since(w);
	tell("the first 10,000 creates", part, first);
	tell("the last 10,000 creates", part, last);
	at_most_half_as_much_again(first, last, part);
	/* A random name, with nothing in the cache but the directory's own inode. */
	for (uint32_t i = 0; i < 20; i++) {
		cold();
		assert_int_equal(do_getattr(dir), 0);
		w = now();
		assert_int_equal(do_name(FS_LOOKUP, dir, name_of(i * 7919u % n)), 0);
		w = since(w);
		most = w.fetched > most ? (uint32_t)w.fetched : most;
	}
	print_message("a cold lookup fetches %u blocks at most\n", most);
	assert_in_range(most, 1, 5);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(do_name(FS_UNLINK, dir, name_of((uint32_t)(i * 7919ull % n))), 0);
	assert_int_equal(run_sync_settle(engine.rs), 0);
	assert_int_equal(engine_free_clusters(), was);
	engine_check(&rep);
	assert_int_equal(rep.files, 0);
	engine_end();
}

/* The i-th of the extents, in an order that jumps. 40503 is odd: each once in 2^24 clusters. */
static uint64_t place(uint32_t i)
{
	return (uint64_t)(i * 40503u % (1u << 24)) * 2 * 4096;
}

static void a_file_of_many_extents(void **state)
{
	uint64_t root = engine_mkfs_of(4096, 32ull << 30, CACHE), f = create(root, "f"), was;
	uint32_t n = scale(), part = 10000, others = 0, largest = 0;
	struct work first, last, w = now();
	struct check_report rep;
	static struct vol_req r[64];

	(void)state;
	assert_int_equal(run_sync_settle(engine.rs), 0);
	was = engine_free_clusters();
	for (uint32_t i = 0; i < n; i++) {
		if (i == n - part)
			w = now();
		assert_int_equal(do_layout(f, place(i), 4096, FS_LAYOUT_WRITE), 0);
		assert_int_equal(do_commit(f, place(i), 4096, place(i) + 4096), 0);
		if (i + 1 == part)
			first = since(w);
	}
	last = since(w);
	tell("the first 10,000 first writes", part, first);
	tell("the last 10,000 first writes", part, last);
	assert_true(last.journal <= first.journal * 2);
	assert_true(last.looked_at <= first.looked_at * 2);
	engine_check(&rep);
	assert_true(rep.extents > n - n / 50);
	/* Truncated: answered at once, and done in steps with the calls of others between them. */
	w = now();
	assert_int_equal(do_size(f, 0), 0);
	w = since(w);
	print_message("the truncate is answered after %lu blocks in the journal\n",
		(unsigned long)w.journal);
	assert_true(w.journal < 400);
	while (engine_free_clusters() < was && others < n) {
		struct work before = now();

		memset(r, 0, sizeof(r));
		r[0].rq.op = FS_GETATTR;
		r[0].rq.ino = root;
		assert_int_equal(run_sync_batch(engine.rs, r, 1), 0);
		before = since(before);
		if (before.journal > largest)
			largest = (uint32_t)before.journal;
		others++;
	}
	print_message("%u calls of others meanwhile; %u blocks in the journal between two of them "
		      "at most\n",
		others, largest);
	assert_true(largest < 300);
	assert_int_equal(run_sync_settle(engine.rs), 0);
	assert_int_equal(engine_free_clusters(), was);
	engine_check(&rep);
	engine_end();
}

static uint64_t written;
static struct sync_dev plain;

static int count_read(void *ctx, uint64_t off, void *buf, uint64_t len)
{
	(void)ctx;
	return plain.read(plain.ctx, off, buf, len);
}

static int count_write(void *ctx, uint64_t off, const void *buf, uint64_t len, bool fua)
{
	(void)ctx;
	written += len;
	return plain.write(plain.ctx, off, buf, len, fua);
}

static int count_flush(void *ctx)
{
	(void)ctx;
	return plain.flush(plain.ctx);
}

static void a_large_volume_is_made_and_opened_with_little(void **state)
{
	struct image_params p = {
		.cluster_bytes = CLUSTER, .uuid = {7}, .dir_hash_key = {9}, .time_ns = 1};
	struct run_sync_mem_dev *mem = run_sync_mem_new(16ull << 40);

	(void)state;
	plain = run_sync_mem_dev(mem);
	engine.dev = (struct sync_dev){NULL, plain.bytes, count_read, count_write, count_flush};
	engine.cache_bytes = CACHE;
	assert_int_equal(run_sync_mkfs(&engine.dev, &p, &metadata_ops, NULL, NULL), 0);
	print_message("mkfs of 16 TiB writes %lu KiB\n", (unsigned long)(written >> 10));
	assert_true(written < 4u << 20);
	written = 0;
	engine_open();
	assert_int_equal(run_sync_close(engine.rs), 0);
	assert_true(written < 1u << 20);
	run_sync_mem_free(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_directory_of_many_files),
		cmocka_unit_test(a_file_of_many_extents),
		cmocka_unit_test(a_large_volume_is_made_and_opened_with_little),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
