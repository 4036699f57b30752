/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whatever stands in metadata blocks, with right checksums: operations say EUCLEAN or succeed; nothing
 * crashes, asserts or runs for ever. Damage is by seed: CSVFS_TEST_ROUNDS=n for more than the few here,
 * CSVFS_TEST_SEED=n for that one again.
 */
#include <signal.h>

#include "metadata/format_inode.h"
#include "metadata/verify.h"
#include "tests/unit/ops_engine.h"
#include "csvfs/base/prng.h"

#define BYTES (64ull << 20)
#define DIRS 12
#define FILES 40

static struct prng p;
static uint8_t *sound, *disk;
static uint64_t inos[400], root;
static uint32_t ino_count, refused, accepted, now;

static void say_seed(int sig)
{
	fprintf(stderr, "CSVFS_TEST_SEED=%u\n", now);
	signal(sig, SIG_DFL);
}

static uint32_t rnd(uint32_t n)
{
	return (uint32_t)prng_below(&p, n);
}

static int disk_read(void *ctx, uint64_t off, void *buf, uint64_t len)
{
	memcpy(buf, disk + off, len);
	return 0;
}

static int disk_write(void *ctx, uint64_t off, const void *buf, uint64_t len, bool fua)
{
	memcpy(disk + off, buf, len);
	return 0;
}

static int disk_flush(void *ctx)
{
	return 0;
}

static void keep(uint64_t ino)
{
	if (ino_count < 400)
		inos[ino_count++] = ino;
}

static void fill(void)
{
	char name[300], target[4095];
	uint64_t dirs[DIRS], ino;

	memset(name, 'n', sizeof(name));
	memset(target, 't', sizeof(target));
	dirs[0] = root;
	keep(root);
	for (uint32_t i = 1; i < DIRS; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		dirs[i] = mkdir_(dirs[rnd(i)], name);
		keep(dirs[i]);
	}
	for (uint32_t i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%0*u", (int)rnd(200) + 1, i);
		ino = create(dirs[rnd(DIRS)], name);
		keep(ino);
		for (uint32_t k = 0; k < (i < 3 ? 200 : rnd(6)); k++)
			(void)do_layout(ino, rnd(1000) * CLUSTER, 1, FS_LAYOUT_WRITE);
		(void)do_commit(ino, 0, 300 * CLUSTER, 900 * CLUSTER);
		if (i % 4 == 0)
			assert_int_equal(do_setxattr(ino, "user.a", target, rnd(4000), 0), 0);
		if (i % 8 == 0)
			assert_int_equal(do_setxattr(ino, "user.b", target, 10, 0), 0);
		if (i % 5 == 0) {
			snprintf(name, sizeof(name), "l%u", i);
			assert_int_equal(
				do_symlink(dirs[rnd(DIRS)], name, target, 1 + rnd(4095)), 0);
			keep(run.r.reply.attr.ino);
		}
	}
	/* One directory with nodes of its own; orphans. */
	for (uint32_t i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "many %u", i);
		ino = create(dirs[1], name);
		if (i % 30)
			continue;
		keep(ino);
		run_set_open(ino, true);
		assert_int_equal(do_name(FS_UNLINK, dirs[1], name), 0);
		run_set_open(ino, false);
	}
}

/* Blocks that hold inodes, trees, values. */
static uint64_t pick_block(void)
{
	for (;;) {
		uint64_t blkno = rnd(BYTES / BLOCK_SIZE);
		const struct disk_header *h = (const void *)(sound + blkno * BLOCK_SIZE);
		uint32_t magic = le32_get(h->magic);

		if (le64_get(h->blkno) == blkno &&
			(magic == MAGIC_INODE || magic == MAGIC_TREE || magic == MAGIC_XATTR))
			return blkno;
	}
}

static void damage(uint64_t blkno)
{
	uint8_t *b = disk + blkno * BLOCK_SIZE;
	uint32_t at, n = 1 + rnd(3);

	if (rnd(6) == 0) {
		/* The content of another block, in this one's name. */
		memcpy(b + 64, sound + pick_block() * BLOCK_SIZE + 64, BLOCK_SIZE - 64);
		n = 0;
	}
	for (uint32_t i = 0; i < n; i++) {
		/* Most of what matters stands at the front of nodes and inodes. */
		at = 64 + (rnd(2) ? rnd(200) : rnd(BLOCK_SIZE - 64));
		switch (rnd(4)) {
		case 0:
			b[at] ^= (uint8_t)(1u << rnd(8));
			break;
		case 1:
			b[at] = (uint8_t)rnd(256);
			break;
		case 2:
			b[at] = (uint8_t)(b[at] + (rnd(2) ? 1 : 255));
			break;
		case 3:
			/* Some other field of the same size. */
			memmove(b + at, b + 64 + rnd(BLOCK_SIZE - 80), at + 8 < BLOCK_SIZE ? 8 : 1);
			break;
		}
	}
	verify_seal(b);
}

static uint64_t some_ino(void)
{
	return inos[rnd(ino_count)];
}

static int name_request(uint64_t ino, uint64_t ino2, uint32_t what)
{
	char name[32], name2[32];

	snprintf(name, sizeof(name), rnd(2) ? "d%u" : "many %u", rnd(20));
	snprintf(name2, sizeof(name2), rnd(2) ? "d%u" : "x%u", rnd(20));
	switch (what) {
	case 0:
		return do_name(FS_LOOKUP, ino, name);
	case 1:
		return do_name(FS_READDIR, ino, "");
	case 2:
		return do_make(FS_CREATE, ino, name2, 0644, NULL);
	case 3:
		return do_make(FS_MKDIR, ino, name2, 0755, NULL);
	case 4:
		return do_symlink(ino, name2, run.data, 3000);
	case 5:
		return do_link(ino, ino2, name2);
	case 6:
		return do_name(FS_UNLINK, ino, name);
	case 7:
		return do_name(FS_RMDIR, ino, name);
	case 8:
		return do_rename(ino, name, ino2, name2, rnd(3));
	}
	return do_name(FS_READLINK, ino, "");
}

static int file_request(uint64_t ino, uint32_t what)
{
	uint64_t off = rnd(1000) * CLUSTER;

	switch (what) {
	case 0:
		return do_size(ino, off);
	case 1:
		return do_layout(ino, off, 1 + rnd(40) * CLUSTER, FS_LAYOUT_WRITE);
	case 2:
		return do_layout(ino, off, CLUSTER * 1000, 0);
	case 3:
		return do_commit(ino, off, CLUSTER * (1 + rnd(300)), off);
	case 4:
		return do_fallocate(ino, off, 1 + rnd(40) * CLUSTER, FALLOC_FL_ZERO_RANGE);
	case 5:
		return do_fallocate(ino, off, 1 + rnd(400) * CLUSTER,
			FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
	case 6:
		return do_name(FS_GETXATTR, ino, rnd(2) ? "user.a" : "user.b");
	case 7:
		return do_setxattr(ino, rnd(2) ? "user.a" : "user.c", run.data, rnd(9000), 0);
	case 8:
		return do_name(FS_REMOVEXATTR, ino, rnd(2) ? "user.a" : "user.b");
	}
	return do_name(rnd(2) ? FS_FREE_ORPHAN : FS_CLOSE, rnd(2) ? ino : 0, "");
}

static void some_request(void)
{
	uint64_t ino = some_ino();
	int err = rnd(2) ? name_request(ino, some_ino(), rnd(10)) : file_request(ino, rnd(10));

	if (err == -EUCLEAN)
		refused++;
	else
		accepted++;
}

static void damaged_blocks_never_stop_the_engine(void **state)
{
	const char *rounds = getenv("CSVFS_TEST_ROUNDS"), *one = getenv("CSVFS_TEST_SEED");
	uint32_t first = one ? (uint32_t)atoi(one) : 0;
	uint32_t n = one ? 1 : rounds ? (uint32_t)atoi(rounds) : 400;
	struct image_params ip = {.cluster_bytes = CLUSTER, .uuid = {7}, .dir_hash_key = {9}};

	signal(SIGABRT, say_seed);
	disk = calloc(1, BYTES);
	sound = malloc(BYTES);
	memset(&run, 0, sizeof(run));
	engine.dev = (struct sync_dev){NULL, BYTES, disk_read, disk_write, disk_flush};
	engine.cache_bytes = 4 << 20;
	assert_int_equal(run_sync_mkfs(&engine.dev, &ip, &metadata_ops, NULL, NULL), 0);
	engine_open();
	root = le64_get(vol_super(run_sync_vol(engine.rs))->root_ino);
	p.s = 1;
	fill();
	assert_int_equal(run_sync_close(engine.rs), 0);
	memcpy(sound, disk, BYTES);

	for (uint32_t seed = first; seed < first + n; seed++) {
		uint32_t blocks;

		now = seed;
		p.s = seed;
		blocks = 2 + rnd(14);
		memcpy(disk, sound, BYTES);
		for (uint32_t i = 0; i < blocks; i++)
			damage(pick_block());
		engine_open();
		if (rnd(4) == 0)
			run_set_open(some_ino(), true);
		for (uint32_t i = 0; i < 60; i++)
			some_request();
		vol_check(run_sync_vol(engine.rs));
		run_sync_crash(engine.rs);
		memset(run.open, 0, sizeof(run.open));
	}
	print_message("%u volumes: %u requests found damage, %u did not\n", n, refused, accepted);
	assert_true(one || refused > n);
	free(disk);
	free(sound);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(damaged_blocks_never_stop_the_engine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
