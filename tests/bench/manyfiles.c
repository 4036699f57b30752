/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * manyfiles IMAGE FILES DIRECTORIES - makes a sparse image with a volume of that many files, each with
 * one cluster, without a mount. For measuring what the number of files costs: fsck, opening, csvdb.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "csvfs/base/assert.h"
#include "metadata/ops.h"
#include "metadata/run_sync.h"

#define BATCH 48u

void csv_assert_fail(const char *expr, const char *file, int line)
{
	fprintf(stderr, "%s:%d: %s\n", file, line, expr);
	abort();
}

static int fd;

static int dev_read(void *ctx, uint64_t off, void *buf, uint64_t len)
{
	return pread(fd, buf, len, (off_t)off) == (ssize_t)len ? 0 : -EIO;
}

static int dev_write(void *ctx, uint64_t off, const void *buf, uint64_t len, bool fua)
{
	return pwrite(fd, buf, len, (off_t)off) == (ssize_t)len ? 0 : -EIO;
}

static int dev_flush(void *ctx)
{
	return 0;
}

static struct run_sync *rs;
static struct vol_req reqs[BATCH];
static struct fs_extent extents[BATCH][EXTENTS_PER_REPLY];
static uint64_t seq;

static void batch(uint32_t n, const char *what)
{
	for (uint32_t i = 0; i < n; i++) {
		reqs[i].rq.time_ns = 1700000000000000000;
		if (fs_op_needs_slot(reqs[i].rq.op))
			reqs[i].rq.id = (struct fs_reqid){
				.node = 7, .slot = i + 1, .life = 99, .seq = ++seq};
	}
	if (run_sync_batch(rs, reqs, n))
		exit((fprintf(stderr, "%s: the volume froze\n", what), 1));
	for (uint32_t i = 0; i < n; i++)
		if (reqs[i].reply.err)
			exit((fprintf(stderr, "%s: error %d\n", what, reqs[i].reply.err), 1));
}

static uint64_t root_ino(void)
{
	uint8_t block[BLOCK_SIZE];
	le64 v;

	(void)dev_read(NULL, 0, block, sizeof(block));
	memcpy(&v, block + 192, sizeof(v));
	return le64_get(v);
}

static uint64_t directory(uint64_t number)
{
	memset(reqs, 0, sizeof(reqs[0]));
	reqs[0].rq = (struct fs_request){.op = FS_MKDIR, .ino = root_ino(), .mode = S_IFDIR | 0755};
	snprintf(reqs[0].rq.name, sizeof(reqs[0].rq.name), "directory-%llu",
		(unsigned long long)number);
	batch(1, "mkdir");
	return reqs[0].reply.attr.ino;
}

static void files(uint64_t dir, uint64_t first, uint32_t n)
{
	uint64_t ino[BATCH];

	memset(reqs, 0, sizeof(reqs));
	for (uint32_t i = 0; i < n; i++) {
		reqs[i].rq =
			(struct fs_request){.op = FS_MKNOD, .ino = dir, .mode = S_IFREG | 0644};
		snprintf(reqs[i].rq.name, sizeof(reqs[i].rq.name), "file-%08llu.data",
			(unsigned long long)first + i);
	}
	batch(n, "create");
	for (uint32_t i = 0; i < n; i++)
		ino[i] = reqs[i].reply.attr.ino;
	memset(reqs, 0, sizeof(reqs));
	for (uint32_t i = 0; i < n; i++) {
		reqs[i].rq = (struct fs_request){
			.op = FS_LAYOUT_GET, .ino = ino[i], .len = 4096, .flags = FS_LAYOUT_WRITE};
		reqs[i].reply.extents = extents[i];
		reqs[i].reply.extent_room = EXTENTS_PER_REPLY;
	}
	batch(n, "layout");
	memset(reqs, 0, sizeof(reqs));
	for (uint32_t i = 0; i < n; i++) {
		reqs[i].rq = (struct fs_request){.op = FS_LAYOUT_COMMIT,
			.ino = ino[i],
			.extent_count = 1,
			.extents = extents[i],
			.valid = FS_SET_SIZE};
		reqs[i].rq.attr.size = 4096;
	}
	batch(n, "commit");
}

int main(int argc, char **argv)
{
	const uint64_t count = argc == 4 ? strtoull(argv[2], NULL, 0) : 0;
	const uint64_t dirs = argc == 4 ? strtoull(argv[3], NULL, 0) : 0;
	const uint64_t bytes = (count * 80 + (256 << 10)) << 10;
	const struct sync_dev dev = {.bytes = bytes & ~0xfffffull,
		.read = dev_read,
		.write = dev_write,
		.flush = dev_flush};
	const struct run_sync_config cfg = {.dev = &dev,
		.ops = &metadata_ops,
		.mem_bytes = 512u << 20,
		.cache_bytes = 256u << 20};
	struct image_params p = {.label = "many", .time_ns = 1, .uuid = {1}, .dir_hash_key = {2}};
	char why[256] = "";

	if (!count || !dirs)
		return fprintf(stderr, "usage: manyfiles IMAGE FILES DIRECTORIES\n"), 2;
	fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || ftruncate(fd, (off_t)dev.bytes) ||
		run_sync_mkfs(&dev, &p, &metadata_ops, NULL, why) || run_sync_open(&cfg, &rs, why))
		return fprintf(stderr, "%s: %s\n", argv[1], why[0] ? why : strerror(errno)), 1;
	for (uint64_t d = 0; d < dirs; d++) {
		const uint64_t dir = directory(d), end = count * (d + 1) / dirs;

		for (uint64_t i = count * d / dirs; i < end; i += BATCH)
			files(dir, i, end - i < BATCH ? (uint32_t)(end - i) : BATCH);
	}
	return run_sync_close(rs) ? 1 : 0;
}
