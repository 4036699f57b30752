/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ops_run.h - runs operations on fake_txn.h as the engine does, with faults by choice, and checks the
 * whole volume. To be included by one .c file.
 */
#ifndef CSVFS_TESTS_OPS_RUN_H
#define CSVFS_TESTS_OPS_RUN_H

#include "metadata/ops_parts.h"
#include "metadata/verify_inode.h"
#include "tests/unit/ops_req.h"
#include "tests/unit/fake_txn.h"

static inline void run_verify(const struct block *b)
{
	struct verify_report rep = {0};
	enum problem p;

	if (b->magic == MAGIC_INODE)
		p = verify_inodes(b->data, &fake.super, &rep);
	else if (b->magic == MAGIC_TREE)
		p = verify_tree(b->data, &fake.super, &rep);
	else
		p = verify_value(b->data, &fake.super, &rep);
	if (p)
		print_error("block %llu: %s, found %llu, expected %llu\n",
			(unsigned long long)b->blkno, problem_name(p),
			(unsigned long long)rep.found, (unsigned long long)rep.expected);
	assert_int_equal(p, PROBLEM_NONE);
}

/* One call of the engine: an operation that stays or is undone. */
static inline int run_once(int (*fn)(struct txn *t, struct vol_req *r))
{
	uint32_t step = run.r.step, kicks = fake.kicks;
	int err;

	fake_begin();
	fake.time_ns = run.r.rq.time_ns ? run.r.rq.time_ns : fake.time_ns;
	memset(&run.r.reply.attr, 0, sizeof(run.r.reply.attr));
	run.r.reply.data_len = 0;
	run.r.reply.extent_count = 0;
	err = fn(&fake, &run.r);
	fake_end(err == 0 || err == -EINPROGRESS);
	if (err && err != -EINPROGRESS) {
		run.r.step = step;
		fake.kicks = kicks;
		run.undone++;
	}
	run.steps++;
	return err;
}

/* Runs run.r.rq to its end. */
static inline int run_request_once(void)
{
	int err;

	do
		err = run_once(op_execute);
	while (err == -EINPROGRESS);
	return err;
}

static int run_request(void)
{
	int err = -EAGAIN;

	run_room();
	run.r.step = 0;
	for (uint32_t n = 1; run.faults && err == -EAGAIN; n++) {
		fake.fail_get = n;
		err = run_once(op_execute);
		fake.fail_get = 0;
		if (err == -EINPROGRESS)
			err = -EAGAIN;
	}
	if (err != -EAGAIN)
		return err;
	for (uint32_t n = 1; run.faults; n++) {
		fake.fail_alloc = n;
		err = run_once(op_execute);
		fake.fail_alloc = 0;
		if (err == -EINPROGRESS)
			break;
		/* A layout may have been given for a part: that is success. */
		if (err != -ENOSPC || fake.allocs < n)
			return err;
	}
	return run_request_once();
}

static inline int background(struct txn *t, struct vol_req *r)
{
	uint64_t ino = 0;

	return op_background(t, &ino);
}

/* All that goes on in the background is done. */
static inline uint32_t run_background(void)
{
	uint32_t steps = 0;

	memset(&run.r, 0, sizeof(run.r));
	while (run_once(background) == 0)
		steps++;
	return steps;
}

static inline int make_root(struct txn *t, struct vol_req *r)
{
	return inode_make_root(t);
}

static inline uint64_t run_mkfs(uint64_t clusters)
{
	fake_init(clusters);
	fake.is_open = run_is_open;
	fake.verify = run_verify;
	memset(&run, 0, sizeof(run));
	assert_int_equal(run_once(make_root), 0);
	return le64_get(fake.super.root_ino);
}

/* ---- the whole volume */

struct walk {
	uint32_t inodes, blocks;
	uint64_t clusters;
	uint8_t *seen; /* clusters */
};

static inline uint64_t walk_tree(struct walk *w, struct tree *tr)
{
	struct tree_cursor cur;
	struct tree_rec rec;
	uint64_t nodes = 0, n = 0;
	struct block *last[TREE_LEVELS_MAX] = {NULL};
	int err = tree_first(tr, 0, &cur, &rec);

	while (!err) {
		for (uint32_t i = tr->holder ? 1 : 0; i < cur.depth; i++) {
			if (cur.at[i].b != last[i])
				nodes++;
			last[i] = cur.at[i].b;
		}
		n++;
		if (tr->kind == TREE_EXTENTS) {
			struct disk_extent e;

			memcpy(&e, rec.value, sizeof(e));
			for (uint32_t i = 0; i < le32_get(e.len); i++) {
				uint64_t c = le64_get(e.start) + i;

				assert_true(fake_is_used(c));
				assert_false(w->seen[c / 8] >> (c % 8) & 1); /* used twice */
				w->seen[c / 8] |= (uint8_t)(1u << (c % 8));
				w->clusters++;
			}
		}
		if (tr->kind == TREE_XATTRS) {
			struct disk_xattr x;

			memcpy(&x, rec.value, sizeof(x));
			if (x.place == XATTR_BLOCKS)
				w->blocks += (le32_get(x.value_bytes) + VALUE_BLOCK_BYTES - 1) /
					     VALUE_BLOCK_BYTES;
		}
		err = tree_next(&cur, &rec);
	}
	assert_int_equal(err, -ENOENT);
	w->blocks += nodes;
	if (tr->holder)
		assert_int_equal(nodes,
			le64_get((
				(struct disk_inode *)(tr->root - offsetof(struct disk_inode, area)))
					 ->tree_blocks));
	return n;
}

static inline void walk_inode(struct walk *w, const struct inode *in)
{
	uint64_t before = w->clusters, size = le64_get(in->d->size);
	uint32_t type = inode_type(in);
	struct tree tr;

	w->inodes++;
	if (type == S_IFREG || type == S_IFDIR) {
		uint64_t n;

		inode_tree(in, &tr);
		n = walk_tree(w, &tr);
		if (type == S_IFDIR)
			assert_int_equal(n, size);
	}
	assert_int_equal(w->clusters - before, le64_get(in->d->clusters));
	if (type == S_IFLNK && size > INODE_INLINE_BYTES)
		w->blocks += (size + VALUE_BLOCK_BYTES - 1) / VALUE_BLOCK_BYTES;
	if (le64_get(in->d->xattr_root)) {
		tree_block(&tr, &fake, TREE_XATTRS, in->ino, le64_get(in->d->xattr_root));
		assert_int_equal(walk_tree(w, &tr), le32_get(in->d->xattr_count));
	}
}

/* Every inode slot in use; every block and cluster in use belongs to exactly one of them. */
static inline void check_volume(void)
{
	struct walk w = {.seen = calloc(1, FAKE_CLUSTERS_MAX / 8)};
	struct tree tr;

	fake_begin();
	for (uint32_t i = FAKE_BLOCKS_MAX / 2; i < FAKE_BLOCKS_MAX; i++) {
		if (!fake.block[i])
			break;
		for (unsigned int s = 1; s <= INODES_PER_BLOCK; s++) {
			struct inode in;

			if (!(fake.block[i]->slots & (1u << s)))
				continue;
			assert_int_equal(
				inode_get_freeing(&fake, INO_MAKE(fake.block[i]->b.blkno, s), &in),
				0);
			walk_inode(&w, &in);
		}
	}
	tree_block(&tr, &fake, TREE_ORPHANS, 0, le64_get(fake.super.orphan_root));
	walk_tree(&w, &tr);
	tree_block(&tr, &fake, TREE_INTENTS, 0, le64_get(fake.super.intent_root));
	walk_tree(&w, &tr);
	fake_end(true);
	assert_int_equal(w.inodes, fake.inodes_used);
	assert_int_equal(w.blocks, fake.blocks_used);
	assert_int_equal(w.clusters, fake.clusters_used);
	assert_int_equal(fake.damages, 0);
	free(w.seen);
}

#endif
