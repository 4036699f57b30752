/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * alloc_count.c - how many inodes are in use, for statfs(2).
 *
 * No counter on disk says it: each create would have to change a block more for it. So the chunks of inodes are
 * counted by the first statfs of a term, one block read per MiB of inodes and one per group of the volume that is in
 * use, and from then on the count goes along. A chunk counts when it is before `counted`; what an operation changes
 * counts when it is kept (A3).
 */
#include <errno.h>

#include "metadata/alloc.h"

#define GROUPS_PER_STEP 64u

void alloc_count_begin(struct vol *v)
{
	v->alloc.inodes_op = 0;
}

void alloc_count_change(struct txn *t, uint64_t chunk, int by)
{
	struct alloc *a = &t->v->alloc;

	if (chunk < a->counted)
		a->inodes_op += by;
}

void alloc_count_keep(struct vol *v)
{
	struct alloc *a = &v->alloc;

	/* Of a chunk that could not be read more may be freed than was counted. */
	if (a->inodes_op < 0 && (uint64_t)-a->inodes_op > a->inodes)
		a->inodes_op = -(int64_t)a->inodes;
	a->inodes += (uint64_t)a->inodes_op;
	a->inodes_op = 0;
}

static uint32_t used_in(const struct disk_chunk *h)
{
	uint32_t n = 0;

	for (uint32_t i = 1; i < CHUNK_BLOCKS; i++)
		for (uint32_t bits = h->slots[i]; bits; bits &= bits - 1)
			n++;
	return n;
}

/* The chunks of group g from the first uncounted one on. -EAGAIN; what cannot be read is left out. */
static int count_group(struct txn *t, uint32_t g)
{
	struct alloc *a = &t->v->alloc;
	uint64_t first = (uint64_t)g * a->group_chunks;
	const struct disk_group *d;
	struct block *b;
	uint32_t c;
	int err = 0;

	if (a->groups[g].flags & SUMMARY_INIT) {
		err = alloc_group_get(t, g, &b);
		if (err == -EAGAIN)
			return err;
	}
	if ((a->groups[g].flags & SUMMARY_INIT) && !err) {
		d = (const struct disk_group *)b->data;
		while ((c = alloc_bits_next(d->inode, (uint32_t)(a->counted - first), a->group_chunks,
				true)) < a->group_chunks) {
			a->counted = first + c; /* what lies between are no inodes */
			err = alloc_chunk_header(t, first + c, &b);
			if (err == -EAGAIN)
				return err;
			if (!err)
				a->inodes += used_in((const struct disk_chunk *)b->data);
			a->counted++;
		}
	}
	a->counted = first + a->group_chunks;
	return 0;
}

int alloc_count_inodes(struct txn *t)
{
	struct alloc *a = &t->v->alloc;
	uint32_t left = GROUPS_PER_STEP;
	int err;

	for (; a->counted / a->group_chunks < a->group_count; left--) {
		if (!left)
			return -EINPROGRESS;
		err = count_group(t, (uint32_t)(a->counted / a->group_chunks));
		if (err)
			return err;
	}
	return 0;
}
