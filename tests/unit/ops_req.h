/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ops_req.h - makes file-system requests, for tests. Who runs them says ops_run.h (alone, on
 * fake_txn.h) or ops_engine.h (the whole engine). To be included by one of them.
 */
#ifndef CSVFS_TESTS_OPS_REQ_H
#define CSVFS_TESTS_OPS_REQ_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "metadata/ops.h"

#define CLUSTER 65536ull
#define WRITTEN_NS 1900000000000000000 /* after all else that happens in a test */
#define DATA_ROOM (1u << 17)
#define EXTENT_ROOM 256

static struct {
	struct vol_req r; /* the last request and its reply */
	uint8_t data[DATA_ROOM];
	struct fs_extent extents[EXTENT_ROOM];
	bool faults; /* each operation is first undone at every block and every allocation */
	uint32_t steps, undone;
	uint64_t open[64];
} run;

/* Runs run.r.rq to its end; reply in run.r.reply. */
static int run_request(void);

static inline bool run_is_open(void *ctx, uint64_t ino)
{
	for (uint32_t i = 0; i < 64; i++) {
		if (run.open[i] == ino)
			return true;
	}
	return false;
}

static inline void run_set_open(uint64_t ino, bool open)
{
	uint64_t from = open ? 0 : ino, to = open ? ino : 0;

	for (uint32_t i = 0; i < 64; i++) {
		if (run.open[i] == from) {
			run.open[i] = to;
			return;
		}
	}
	fail();
}

static inline void run_room(void)
{
	run.r.reply.data = run.data;
	run.r.reply.data_room = DATA_ROOM;
	run.r.reply.extents = run.extents;
	run.r.reply.extent_room = EXTENT_ROOM;
}

/* One that is too long fills the field and has no end there. */
static inline void run_name(char *field, const char *name)
{
	size_t len = strlen(name);

	memcpy(field, name, len > NAME_BYTES_MAX ? NAME_BYTES_MAX + 1 : len);
}

static inline struct fs_request *rq(enum fs_op op, uint64_t ino, const char *name)
{
	memset(&run.r, 0, sizeof(run.r));
	run.r.rq.op = op;
	run.r.rq.ino = ino;
	run.r.rq.id.node = 1;
	run.r.rq.cred = (struct fs_cred){1000, 1000, 0};
	if (name)
		run_name(run.r.rq.name, name);
	return &run.r.rq;
}

/* ---- the most used requests */

static inline int do_make(
	enum fs_op op, uint64_t dir, const char *name, uint32_t mode, uint64_t *ino)
{
	int err;

	rq(op, dir, name)->mode = mode;
	err = run_request();
	if (ino)
		*ino = err ? 0 : run.r.reply.attr.ino;
	return err;
}

static inline uint64_t create(uint64_t dir, const char *name)
{
	uint64_t ino;

	assert_int_equal(do_make(FS_CREATE, dir, name, 0644, &ino), 0);
	return ino;
}

static inline uint64_t mkdir_(uint64_t dir, const char *name)
{
	uint64_t ino;

	assert_int_equal(do_make(FS_MKDIR, dir, name, 0755, &ino), 0);
	return ino;
}

static inline int do_symlink(uint64_t dir, const char *name, const void *target, uint32_t len)
{
	struct fs_request *q = rq(FS_SYMLINK, dir, name);

	q->data = target;
	q->data_len = len;
	return run_request();
}

static inline int do_name(enum fs_op op, uint64_t dir, const char *name)
{
	rq(op, dir, name);
	return run_request();
}

static inline int do_link(uint64_t ino, uint64_t dir, const char *name)
{
	rq(FS_LINK, ino, name)->ino2 = dir;
	return run_request();
}

static inline int do_rename(
	uint64_t dir, const char *name, uint64_t dir2, const char *name2, uint32_t flags)
{
	struct fs_request *q = rq(FS_RENAME, dir, name);

	q->ino2 = dir2;
	run_name(q->name2, name2);
	q->flags = flags;
	return run_request();
}

static inline int do_getattr(uint64_t ino)
{
	rq(FS_GETATTR, ino, NULL);
	return run_request();
}

static inline int do_size(uint64_t ino, uint64_t size)
{
	struct fs_request *q = rq(FS_SETATTR, ino, NULL);

	q->valid = FS_SET_SIZE;
	q->attr.size = size;
	return run_request();
}

static inline int do_layout(uint64_t ino, uint64_t off, uint64_t len, uint32_t flags)
{
	struct fs_request *q = rq(FS_LAYOUT_GET, ino, NULL);

	q->off = off;
	q->len = len;
	q->flags = flags;
	return run_request();
}

static inline int do_commit(uint64_t ino, uint64_t off, uint64_t len, uint64_t size)
{
	struct fs_request *q = rq(FS_LAYOUT_COMMIT, ino, NULL);
	static struct fs_extent x;

	x = (struct fs_extent){.off = off, .len = len};
	q->extents = &x;
	q->extent_count = len ? 1 : 0;
	q->valid = size ? FS_SET_SIZE | FS_SET_MTIME : 0;
	q->attr.size = size;
	q->attr.mtime_ns = WRITTEN_NS;
	return run_request();
}

static inline int do_fallocate(uint64_t ino, uint64_t off, uint64_t len, uint32_t flags)
{
	struct fs_request *q = rq(FS_FALLOCATE, ino, NULL);

	q->off = off;
	q->len = len;
	q->flags = flags;
	q->valid = FS_EDGES_ZEROED;
	return run_request();
}

/* Writes a file as a node does: layout, data, commit. */
static inline void do_write(uint64_t ino, uint64_t off, uint64_t len)
{
	uint64_t from = off / CLUSTER * CLUSTER, to = (off + len + CLUSTER - 1) / CLUSTER * CLUSTER;

	while (from < to) {
		const struct fs_extent *x = run.extents;

		assert_int_equal(do_layout(ino, from, to - from, FS_LAYOUT_WRITE), 0);
		assert_int_equal(x->off, from);
		assert_int_not_equal(x->state, EXT_HOLE);
		from += x->len;
	}
	from = off / CLUSTER * CLUSTER;
	assert_int_equal(do_commit(ino, from, to - from, off + len), 0);
}

static inline int do_setxattr(
	uint64_t ino, const char *name, const void *value, uint32_t len, uint32_t flags)
{
	struct fs_request *q = rq(FS_SETXATTR, ino, name);

	q->data = value;
	q->data_len = len;
	q->flags = flags;
	return run_request();
}

/* State of the cluster that holds byte off. */
static inline uint32_t state_at(uint64_t ino, uint64_t off)
{
	assert_int_equal(do_layout(ino, off, 1, 0), 0);
	assert_true(run.r.reply.extent_count > 0);
	return run.extents[0].state;
}

#endif
