/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Space: volumes filled with files of all sizes, full of holes, and emptied; nothing is lost and nothing wasted. */
#include "csvfs/base/prng.h"
#include "tests/unit/ops_engine.h"

static int name_op(enum fs_op op, uint64_t dir, uint32_t i)
{
	char name[16];

	snprintf(name, sizeof(name), "%u", i);
	return do_name(op, dir, name);
}

/* A file with one cluster in use; its number is its name. */
static int small_file(uint64_t dir, uint32_t i)
{
	uint64_t ino;
	char name[16];
	int err;

	snprintf(name, sizeof(name), "%u", i);
	err = do_make(FS_CREATE, dir, name, 0644, &ino);
	return err ? err : do_layout(ino, 0, 1, FS_LAYOUT_WRITE);
}

static uint64_t available(void)
{
	rq(FS_STATFS, 0, NULL);
	assert_int_equal(run_request(), 0);
	return run.r.reply.statfs.bavail;
}

/* Files of one cluster until there is no space: the count. Nothing but the last MiB is left. */
static uint32_t fill_small(uint64_t dir, uint32_t from, uint32_t cluster)
{
	uint32_t n = from;
	int err;

	while (!(err = small_file(dir, n)))
		n++;
	assert_int_equal(err, -ENOSPC);
	assert_true(available() <= (1u << 20) / cluster);
	/* It was the data that found no space: names can still be made, and removed. */
	if (name_op(FS_UNLINK, dir, n))
		assert_int_equal(name_op(FS_LOOKUP, dir, n), -ENOENT);
	assert_int_equal(do_make(FS_MKNOD, dir, "more", S_IFIFO | 0600, NULL), 0);
	assert_int_equal(name_op(FS_UNLINK, dir, n - 1), 0);
	assert_int_equal(do_name(FS_UNLINK, dir, "more"), 0);
	assert_int_equal(small_file(dir, n - 1), 0);
	return n;
}

static void small_files_use_all_space(uint32_t cluster, uint64_t bytes)
{
	uint64_t root = engine_mkfs_of(cluster, bytes, 16 << 20), dir = mkdir_(root, "d"), was;
	struct check_report rep;
	uint32_t n, again;

	assert_int_equal(run_sync_settle(engine.rs), 0);
	was = engine_free_clusters();
	n = fill_small(dir, 0, cluster);
	engine_check(&rep);
	/* Metadata took what it needed and no more: a KiB for a file. */
	assert_true(rep.meta_chunks * CHUNK_SIZE < n * 1024ull + (4u << 20));
	/* Full of holes: each of them is found again, and a file can be made for each. */
	for (uint32_t i = 0; i < n; i += 2)
		assert_int_equal(name_op(FS_UNLINK, dir, i), 0);
	assert_int_equal(run_sync_settle(engine.rs), 0);
	again = fill_small(dir, n, cluster);
	assert_true(again - n + 16 >= (n + 1) / 2);
	for (uint32_t i = 0; i < again; i++) {
		if (i >= n || i % 2)
			assert_int_equal(name_op(FS_UNLINK, dir, i), 0);
	}
	assert_int_equal(run_sync_settle(engine.rs), 0);
	assert_int_equal(engine_free_clusters(), was);
	print_message("clusters of %u: %u files, %lu chunks of metadata\n", cluster, n,
		(unsigned long)rep.meta_chunks);
	engine_end();
}

static void small_files_leave_chunks_for_metadata(void **state)
{
	(void)state;
	small_files_use_all_space(65536, 512ull << 20);
	small_files_use_all_space(4096, 64ull << 20);
	small_files_use_all_space(1u << 20, 2ull << 30);
}

/* ---- two hundred times */

#define FILES 400u
#ifdef __SANITIZE_ADDRESS__
#define ROUNDS 50u
#else
#define ROUNDS 200u
#endif

struct fill {
	struct prng prng;
	uint64_t dir;
	uint64_t ino[FILES]; /* 0: there is none */
	bool is_open[FILES];
};

static void close_file(struct fill *f, uint32_t i)
{
	if (!f->is_open[i])
		return;
	run_set_open(f->ino[i], false);
	f->is_open[i] = false;
	rq(FS_FREE_ORPHAN, f->ino[i], NULL);
	assert_int_equal(run_request(), 0);
}

static void drop_file(struct fill *f, uint32_t i)
{
	int err = name_op(FS_UNLINK, f->dir, i);

	assert_int_equal(err, 0); /* on a full volume, too */
	close_file(f, i);
	f->ino[i] = 0;
}

/* A file is made, grows (with what is allocated ahead of it), shrinks, is closed or goes. -ENOSPC: full. */
static int fill_step(struct fill *f)
{
	uint32_t i = (uint32_t)prng_below(&f->prng, FILES), open = 0;
	char name[16];
	int err = 0;

	snprintf(name, sizeof(name), "%u", i);
	if (!f->ino[i])
		return do_make(FS_CREATE, f->dir, name, 0644, &f->ino[i]);
	switch (prng_below(&f->prng, 8)) {
	case 0:
		drop_file(f, i);
		return 0;
	case 1:
		return do_size(f->ino[i], prng_below(&f->prng, 40) * CLUSTER);
	case 2:
		close_file(f, i);
		return 0;
	case 3:
		for (uint32_t k = 0; k < FILES; k++)
			open += f->is_open[k];
		if (!f->is_open[i] && open < 60) {
			run_set_open(f->ino[i], true);
			f->is_open[i] = true;
		}
		return 0;
	default:
		err = do_layout(f->ino[i], prng_below(&f->prng, 60) * CLUSTER,
			1 + (uint32_t)prng_below(&f->prng, 8) * CLUSTER, FS_LAYOUT_WRITE);
		return err;
	}
}

static void empty_all(struct fill *f)
{
	for (uint32_t i = 0; i < FILES; i++)
		if (f->ino[i])
			drop_file(f, i);
	assert_int_equal(run_sync_settle(engine.rs), 0);
}

static void two_hundred_fills_and_empties_lose_nothing(void **state)
{
	uint64_t root = engine_mkfs(64ull << 20, 4 << 20), was;
	static struct fill f;
	struct check_report rep;
	uint32_t full = 0;

	(void)state;
	f.dir = mkdir_(root, "d");
	assert_int_equal(run_sync_settle(engine.rs), 0);
	was = engine_free_clusters();
	for (uint32_t round = 0; round < ROUNDS; round++) {
		f.prng = (struct prng){round};
		for (uint32_t step = 0, stop = 0; step < 3000 && stop < 5; step++) {
			int err = fill_step(&f);

			assert_true(err == 0 || err == -ENOSPC);
			stop += err == -ENOSPC;
			full += err == -ENOSPC;
		}
		if (round % 20 == 0)
			engine_check(&rep);
		if (round % 20 ==
			10) { /* power fails in the middle: who was open is not any more */
			run_sync_crash(engine.rs);
			engine_open();
		}
		empty_all(&f);
		assert_int_equal(engine_free_clusters(), was);
	}
	engine_check(&rep);
	print_message("%u times there was no space\n", full);
	assert_true(full > ROUNDS);
	engine_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_files_leave_chunks_for_metadata),
		cmocka_unit_test(two_hundred_fills_and_empties_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
