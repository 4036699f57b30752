/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check_volume.h - for the tests of the fsck library: a volume in memory with everything on it, made by
 * the engine; checking it, damaging it, restoring it. Included by one .c file per program.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "csvfs/base/claim.h"
#include "csvfs/base/prng.h"
#include "metadata/fields.h"
#include "metadata/format_inode.h"
#include "metadata/ops.h"
#include "metadata/run_sync.h"
#include "tools/check/check.h"

#define VOLUME_BYTES (32u << 20)
#define BLOCKS (VOLUME_BYTES / BLOCK_SIZE)
#define MEM_BYTES (64u << 20)
/* A check of a volume of this size reads each block a few times; more is running in circles. */
#define READS_MAX (BLOCKS * 8)

/* ------------------------------------------------------------------ a volume in memory */

static uint8_t *disk;	 /* the volume that tests look at and damage */
static uint8_t *sound;	 /* as it was */
static uint8_t *region;	 /* memory of the check */
static uint64_t reads;
static uint64_t bad_block = NEVER; /* cannot be read */
static bool used[BLOCKS]; /* blocks of the sound volume whose content counts */
static bool touched[BLOCKS]; /* written by the engine or a repair since restore_touched() */

static int mem_read(void *ctx, uint64_t off, void *buf, uint64_t len)
{
	assert_true(off <= VOLUME_BYTES && len <= VOLUME_BYTES - off);
	memcpy(buf, disk + off, len);
	return 0;
}

static int mem_write(void *ctx, uint64_t off, const void *buf, uint64_t len, bool fua)
{
	assert_true(off <= VOLUME_BYTES && len <= VOLUME_BYTES - off);
	memcpy(disk + off, buf, len);
	for (uint64_t b = off / BLOCK_SIZE; b * BLOCK_SIZE < off + len; b++)
		touched[b] = true;
	return 0;
}

static int mem_flush(void *ctx)
{
	return 0;
}

static const struct sync_dev sync_dev = {
	.bytes = VOLUME_BYTES, .read = mem_read, .write = mem_write, .flush = mem_flush};

static int check_read(void *ctx, uint64_t off, void *buf, uint32_t len)
{
	reads++;
	if (bad_block != NEVER && off <= bad_block * BLOCK_SIZE && bad_block * BLOCK_SIZE < off + len)
		return -EIO;
	return mem_read(ctx, off, buf, len);
}

/* ------------------------------------------------------------------ checking */

static struct check_report rep;
static bool verbose;
static char first_problem[512];

static void on_problem(void *ctx, const struct check_problem *p)
{
	char text[512];

	check_problem_text(p, text, sizeof(text));
	if (problem_severity(p->code) == SEVERITY_NOTE)
		return;
	if (!first_problem[0])
		snprintf(first_problem, sizeof(first_problem), "%s", text);
	if (verbose)
		print_message("  %s\n", text);
}

static uint64_t sectors_left = NEVER; /* then the power fails */
static uint64_t sectors;	      /* that were written */

static int check_write(void *ctx, uint64_t off, const void *buf, uint32_t len)
{
	const uint8_t *p = buf;

	for (uint32_t at = 0; at < len; at += 512) {
		if (!sectors_left)
			return -EIO;
		if (sectors_left != NEVER)
			sectors_left--;
		sectors++;
		(void)mem_write(ctx, off + at, p + at, 512, true);
	}
	return 0;
}

static enum { NO_REPAIR, SAFE_REPAIR, FULL_REPAIR } repair; /* what the next checks may do */
static int repair_err;

/* Number of faults; the report is in rep. */
static uint64_t check(void)
{
	const struct check_dev dev = {
		.read = check_read, .bytes = VOLUME_BYTES, .write = check_write};
	struct check_options o = {.on_problem = on_problem};
	struct mem mem;
	int err;

	mem_init(&mem, region, MEM_BYTES);
	o.mem = &mem;
	reads = 0;
	first_problem[0] = 0;
	if (repair) {
		repair_err = check_repair(&dev, &o, repair == FULL_REPAIR, &rep);
		return check_faults(&rep);
	}
	err = check_volume(&dev, &o, &rep);
	assert_true(err == 0 || err == -EUCLEAN);
	assert_true(err == 0 || rep.by_severity[SEVERITY_FATAL]);
	assert_true(reads <= READS_MAX);
	return check_faults(&rep);
}

static void assert_clean(void)
{
	verbose = true;
	assert_int_equal(check(), 0);
	verbose = false;
}

/* ------------------------------------------------------------------ a volume with everything on it */

static struct run_sync *rs;

static bool keep_open(void *ctx, uint64_t ino)
{
	return true;
}

static int request(struct fs_request *rq, struct fs_reply *rp)
{
	static uint64_t seq;

	rq->time_ns = 1700000000000000000;
	if (fs_op_needs_slot(rq->op))
		rq->id = (struct fs_reqid){.node = 7, .slot = 3, .life = 99, .seq = ++seq};
	return run_sync_request(rs, rq, rp);
}

static uint64_t make(uint64_t parent, const char *name, enum fs_op op, uint32_t mode, const void *data,
	uint32_t len)
{
	struct fs_request rq = {.op = op, .ino = parent, .mode = mode, .data = data, .data_len = len};
	struct fs_reply rp = {0};

	snprintf(rq.name, sizeof(rq.name), "%s", name);
	assert_int_equal(request(&rq, &rp), 0);
	return rp.attr.ino;
}

static void named(uint64_t parent, const char *name, enum fs_op op, uint64_t ino2)
{
	struct fs_request rq = {.op = op, .ino = parent, .ino2 = ino2};
	struct fs_reply rp = {0};

	if (op == FS_LINK) {
		rq.ino = ino2;
		rq.ino2 = parent;
	}
	snprintf(rq.name, sizeof(rq.name), "%s", name);
	assert_int_equal(request(&rq, &rp), 0);
}

static void set_xattr(uint64_t ino, const char *name, uint32_t len)
{
	static uint8_t value[XATTR_BYTES_MAX];
	struct fs_request rq = {.op = FS_SETXATTR, .ino = ino, .data = value, .data_len = len};
	struct fs_reply rp = {0};

	memset(value, 'x', sizeof(value));
	snprintf(rq.name, sizeof(rq.name), "%s", name);
	assert_int_equal(request(&rq, &rp), 0);
}

/* Space for [off, off + len), and the first half of it written. */
static void allocate(uint64_t ino, uint64_t off, uint64_t len)
{
	struct fs_extent extents[EXTENTS_PER_REPLY];
	struct fs_request rq = {
		.op = FS_LAYOUT_GET, .ino = ino, .off = off, .len = len, .flags = FS_LAYOUT_WRITE};
	struct fs_reply rp = {.extents = extents, .extent_room = EXTENTS_PER_REPLY};
	struct fs_extent written;

	assert_int_equal(request(&rq, &rp), 0);
	assert_true(rp.extent_count > 0);
	written = extents[0];
	rq = (struct fs_request){.op = FS_LAYOUT_COMMIT, .ino = ino, .extent_count = 1,
		.extents = &written, .valid = FS_SET_SIZE};
	rq.attr.size = off + len;
	rp = (struct fs_reply){0};
	assert_int_equal(request(&rq, &rp), 0);
}

static void open_volume(void)
{
	const struct run_sync_config cfg = {
		.dev = &sync_dev, .ops = &metadata_ops, .ino_is_open = keep_open, .steal = true};
	char why[256] = "";

	if (run_sync_open(&cfg, &rs, why))
		fail_msg("%s", why);
}

static void make_volume(uint32_t cluster_bytes)
{
	struct image_params p = {.cluster_bytes = cluster_bytes, .label = "test", .time_ns = 1};
	char why[256] = "";

	memset(disk, 0, VOLUME_BYTES);
	memset(p.uuid, 0x5a, 16);
	memset(p.dir_hash_key, 0xa5, 16);
	if (run_sync_mkfs(&sync_dev, &p, &metadata_ops, NULL, why))
		fail_msg("%s", why);
}

static uint64_t root(void)
{
	return le64_get(((struct disk_super *)disk)->root_ino);
}

/* Every kind of block, every kind of record. */
static void fill_volume(void)
{
	char name[NAME_BYTES_MAX + 1], target[3000];
	uint64_t dir, file, sub;

	memset(target, 't', sizeof(target));
	dir = make(root(), "dir", FS_MKDIR, S_IFDIR | 0755, NULL, 0);
	sub = make(dir, "sub", FS_MKDIR, S_IFDIR | 0755, NULL, 0);
	make(sub, "subsub", FS_MKDIR, S_IFDIR | 0755, NULL, 0);
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "a file with a name that is not short, number %d", i);
		make(dir, name, FS_MKNOD, S_IFREG | 0644, NULL, 0);
	}
	allocate(make(root(), "one", FS_MKNOD, S_IFREG | 0644, NULL, 0), 0, 4096);
	allocate(make(root(), "two", FS_MKNOD, S_IFREG | 0644, NULL, 0), 0, 4096);
	make(root(), "fast", FS_SYMLINK, 0, "target", 6);
	make(root(), "slow", FS_SYMLINK, 0, target, sizeof(target));
	make(root(), "fifo", FS_MKNOD, S_IFIFO | 0600, NULL, 0);
	file = make(sub, "data", FS_MKNOD, S_IFREG | 0644, NULL, 0);
	named(root(), "hard link", FS_LINK, file);
	set_xattr(file, "user.small", 20);
	set_xattr(file, "user.large", 20000);
	for (uint64_t i = 0; i < 60; i++)
		allocate(file, i * 3 * (128 << 10), 4096);
	file = make(root(), "orphan", FS_MKNOD, S_IFREG | 0644, NULL, 0);
	allocate(file, 0, 4096);
	named(root(), "orphan", FS_UNLINK, 0);
}

__attribute__((unused)) static void restore(void)
{
	memcpy(disk, sound, VOLUME_BYTES);
}

__attribute__((unused)) static void restore_block(uint64_t blkno)
{
	memcpy(disk + blkno * BLOCK_SIZE, sound + blkno * BLOCK_SIZE, BLOCK_SIZE);
}

/* As restore(), in a time that depends on what was written. What a test has changed itself it marks. */
__attribute__((unused)) static void restore_touched(void)
{
	for (uint64_t b = 0; b < BLOCKS; b++)
		if (touched[b])
			restore_block(b);
	memset(touched, 0, sizeof(touched));
}

static const struct block_layout *layout_at(uint64_t blkno)
{
	le32 magic;

	memcpy(&magic, sound + blkno * BLOCK_SIZE, sizeof(magic));
	return fields_of(le32_get(magic));
}

/* In use: the check reads it, so that a wrong checksum there is found. */
__attribute__((unused)) static bool in_use(uint64_t blkno)
{
	bool found;

	if (!layout_at(blkno))
		return false;
	disk[blkno * BLOCK_SIZE + 4] ^= 1;
	found = check() > 0;
	restore_block(blkno);
	return found;
}

__attribute__((unused)) static int setup(void **state)
{
	region = aligned_alloc(4096, MEM_BYTES);
	disk = aligned_alloc(4096, VOLUME_BYTES);
	sound = aligned_alloc(4096, VOLUME_BYTES);
	if (!region || !disk || !sound)
		return -1;
	make_volume(4096);
	open_volume();
	fill_volume();
	if (run_sync_close(rs))
		return -1;
	memcpy(sound, disk, VOLUME_BYTES);
	for (uint64_t b = 0; b < BLOCKS; b++)
		used[b] = in_use(b);
	return 0;
}

static int teardown(void **state)
{
	free(region);
	free(disk);
	free(sound);
	return 0;
}

/* ------------------------------------------------------------------ places in it */

/* The place of a record: whose value has `tail` at its end. Every name below is there once. */
static uint8_t *entry(const char *name)
{
	const size_t n = strlen(name);

	for (uint64_t b = 0; b < BLOCKS; b++) {
		uint8_t *p = disk + b * BLOCK_SIZE;

		if (!used[b] || (layout_at(b)->magic != MAGIC_INODE && layout_at(b)->magic != MAGIC_TREE))
			continue;
		for (size_t i = 64 + DIRENT_BYTES; i + n <= BLOCK_SIZE; i++)
			if (!memcmp(p + i, name, n) && p[i - 1] < 16 && p[i - 2] == 0)
				return p + i - DIRENT_BYTES;
	}
	fail_msg("no entry %s", name);
	return NULL;
}

__attribute__((unused)) static uint64_t entry_ino(const char *name)
{
	le64 v;

	memcpy(&v, entry(name), sizeof(v));
	return le64_get(v);
}
