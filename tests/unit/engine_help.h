/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * engine_help.h - a volume in memory with the smallest possible operations, for tests of the engine
 * alone: the root is a bare inode slot, requests do nothing.
 */
#ifndef CSVFS_TESTS_UNIT_ENGINE_HELP_H
#define CSVFS_TESTS_UNIT_ENGINE_HELP_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <errno.h>
#include <cmocka.h>

#include "metadata/engine.h"
#include "metadata/format_inode.h"
#include "metadata/run_sync.h"

/* A block that any test may fill: a value block, whose content has few rules. */
#define HELP_MAGIC MAGIC_XATTR
#define HELP_OWNER help_owner(t)

/* A number that an inode could have. */
static inline uint64_t help_owner(struct txn *t)
{
	return (le64_get(txn_super(t)->data_start) + 1) << 3 | 1;
}

static inline int help_make_root(struct txn *t)
{
	struct disk_super *s = txn_super_dirty(t);

	/* The data area's first block, as an inode number: nothing here ever reads it. */
	s->root_ino = le64_of(le64_get(s->data_start) << 3 | 9);
	return 0;
}

static inline int help_execute(struct txn *t, struct vol_req *r)
{
	(void)t;
	(void)r;
	return 0;
}

static inline int help_background(struct txn *t, uint64_t *ino)
{
	(void)t;
	(void)ino;
	return -ENOENT;
}

static const struct vol_ops help_ops = {
	.execute = help_execute,
	.replied = help_execute,
	.make_root = help_make_root,
	.background = help_background,
};

static inline void help_trace(void *ctx, enum trace_level level, const char *line)
{
	(void)ctx;
	if (getenv("CSVFS_TEST_TRACE"))
		fprintf(stderr, "%d %s\n", level, line);
}

static const struct trace help_sink = {TRACE_DEBUG, help_trace, NULL};

struct help {
	struct run_sync_mem_dev *mem;
	struct sync_dev dev;
	struct run_sync_config cfg;
	struct run_sync *rs;
	struct vol *v;
	char why[256];
};

static inline struct image_params help_params(uint32_t cluster_bytes)
{
	return (struct image_params){
		.cluster_bytes = cluster_bytes,
		.uuid = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		.label = "test",
		.time_ns = 1700000000000000000ll,
	};
}

static inline void help_open(struct help *h)
{
	h->cfg.steal = true;
	assert_int_equal(run_sync_open(&h->cfg, &h->rs, h->why), 0);
	h->v = run_sync_vol(h->rs);
}

static inline void help_close(struct help *h)
{
	vol_check(h->v);
	assert_int_equal(run_sync_close(h->rs), 0);
	h->rs = NULL;
}

static inline void help_crash(struct help *h)
{
	run_sync_crash(h->rs);
	h->rs = NULL;
}

static inline struct help *help_new(uint64_t bytes, uint32_t cluster_bytes)
{
	struct help *h = calloc(1, sizeof(*h));
	struct image_params p = help_params(cluster_bytes);

	h->mem = run_sync_mem_new(bytes);
	h->dev = run_sync_mem_dev(h->mem);
	h->cfg = (struct run_sync_config){
		.dev = &h->dev,
		.ops = &help_ops,
		.trace = &help_sink,
		.cache_bytes = 4u << 20,
		.mem_bytes = 32u << 20,
	};
	assert_int_equal(run_sync_mkfs(&h->dev, &p, &help_ops, &help_sink, h->why), 0);
	help_open(h);
	return h;
}

static inline void help_free(struct help *h)
{
	if (h->rs)
		help_close(h);
	run_sync_mem_free(h->mem);
	free(h);
}

/* ------------------------------------------------------------------ operations of tests */

/* Allocates a block and stores a number in it. */
struct help_put {
	uint64_t blkno; /* 0: allocate one */
	uint64_t value;
	int fail; /* after everything was done */
};

static inline int help_put(struct txn *t, void *arg)
{
	struct help_put *p = arg;
	struct disk_value_block *d;
	uint64_t blkno = p->blkno;
	struct block *b;
	int err;

	if (!blkno) {
		err = alloc_block(t, 0, false, &blkno);
		if (!err)
			err = txn_new(t, blkno, HELP_MAGIC, HELP_OWNER, &b);
	} else {
		err = txn_get(t, blkno, HELP_MAGIC, HELP_OWNER, &b);
	}
	if (err)
		return err;
	txn_dirty(t, b);
	d = (struct disk_value_block *)b->data;
	d->len = le32_of(8);
	memcpy(d->data, &p->value, 8);
	if (!p->fail)
		p->blkno = blkno;
	return p->fail;
}

static inline int help_get(struct txn *t, void *arg)
{
	struct help_put *p = arg;
	struct block *b;
	int err = txn_get(t, p->blkno, HELP_MAGIC, HELP_OWNER, &b);

	if (!err)
		memcpy(&p->value, ((struct disk_value_block *)b->data)->data, 8);
	return err;
}

static inline int help_free_block(struct txn *t, void *arg)
{
	return alloc_free_block(t, ((struct help_put *)arg)->blkno);
}

#endif
