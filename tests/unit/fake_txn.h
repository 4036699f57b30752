/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fake_txn.h - metadata/txn.h in memory, for tests of trees and operations without the engine. To be
 * included by one .c file: its functions take the place of the engine's at link time.
 *
 * It undoes what a failed operation changed, as the engine does, and it is stricter: a block that was
 * written without txn_dirty(), freed twice, or read after it was freed, fails the test. Faults:
 *   fake.fail_get   the n-th txn_get of the operation gives -EAGAIN (0: none)
 *   fake.fail_alloc the n-th allocation gives -ENOSPC (0: none)
 */
#ifndef CSVFS_TESTS_FAKE_TXN_H
#define CSVFS_TESTS_FAKE_TXN_H

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "metadata/format_inode.h"
#include "metadata/txn.h"

#define FAKE_FIRST_BLOCK 256u
#define FAKE_INODE_BLOCK (1u << 20) /* inode blocks have numbers from here on */
#define FAKE_BLOCKS_MAX (1u << 17)
#define FAKE_CLUSTERS_MAX (1u << 20)
#define FAKE_CLUSTER_FIRST 4096u

#define FAKE_ASSERT(e)                                                                             \
	do {                                                                                       \
		if (!(e)) {                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #e);                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct fake_block {
	struct block b;
	bool used;
	uint8_t data[BLOCK_SIZE];
	uint64_t seen_op; /* operation that has `before` and last read it */
	uint64_t dirty_op;
	uint8_t before[BLOCK_SIZE];
	uint64_t owner;
	uint8_t slots; /* inode block */
};

struct fake_undo {
	enum { UNDO_ALLOC, UNDO_FREE, UNDO_SLOT, UNDO_UNSLOT, UNDO_CLUSTERS, UNDO_UNCLUSTERS } what;
	uint64_t a, b;
	uint64_t owner;
	uint32_t magic;
};

struct txn {
	uint64_t op; /* number of the running operation */
	int64_t time_ns;
	struct disk_super super, super_before;
	bool super_dirty;

	struct fake_block *block[FAKE_BLOCKS_MAX]; /* tree and value blocks, then inode blocks */
	uint64_t next_block, next_inode_block;
	uint32_t blocks_used, inodes_used;
	uint8_t cluster[FAKE_CLUSTERS_MAX / 8];
	uint64_t cluster_count, clusters_used, cluster_hint;

	struct fake_undo *undo;
	uint32_t undo_count, undo_room;
	uint64_t *seen;
	uint32_t seen_count, seen_room;

	uint32_t gets, allocs, fail_get, fail_alloc;
	uint32_t dirtied, dirtied_max, gets_max;
	uint64_t space
		[TXN_OP_BLOCKS]; /* chunk headers, groups, summaries that the operation changed */
	uint32_t kicks;
	uint32_t room_cost, room_asked; /* txn_room() says so much less each time it is asked */
	uint32_t blocks_limit; /* tree and value blocks that exist; 0: no limit */
	uint32_t run_max; /* longest run alloc_clusters gives */
	bool (*is_open)(void *ctx, uint64_t ino);
	void *ctx;
	uint32_t damages;
	bool quiet;
	void (*verify)(
		const struct block *b); /* of each block that a successful operation changed */
};

static struct txn fake;

static inline uint32_t fake_index(uint64_t blkno)
{
	if (blkno >= FAKE_INODE_BLOCK)
		return (uint32_t)(blkno - FAKE_INODE_BLOCK) + FAKE_BLOCKS_MAX / 2;
	return (uint32_t)blkno;
}

static inline bool fake_exists(uint64_t blkno)
{
	return (blkno >= FAKE_FIRST_BLOCK && blkno < FAKE_BLOCKS_MAX / 2) ||
	       (blkno >= FAKE_INODE_BLOCK && blkno < FAKE_INODE_BLOCK + FAKE_BLOCKS_MAX / 2);
}

static inline void fake_init(uint64_t clusters)
{
	for (uint32_t i = 0; i < FAKE_BLOCKS_MAX; i++)
		free(fake.block[i]);
	free(fake.undo);
	free(fake.seen);
	memset(&fake, 0, sizeof(fake));
	fake.next_block = FAKE_FIRST_BLOCK;
	fake.next_inode_block = FAKE_INODE_BLOCK;
	fake.cluster_count = clusters;
	FAKE_ASSERT(clusters <= FAKE_CLUSTERS_MAX);
	fake.cluster_hint = FAKE_CLUSTER_FIRST;
	fake.run_max = 256;
	fake.super.cluster_bytes = le32_of(65536);
	fake.super.cluster_count = le64_of(clusters);
	/* All that is an inode's or a cluster's lies in front of its end. */
	fake.super.block_count = le64_of(FAKE_INODE_BLOCK + FAKE_BLOCKS_MAX / 2 + clusters * 16);
	fake.super.data_start = le64_of(FAKE_FIRST_BLOCK);
	fake.super.volume_bytes = le64_of(clusters * 65536);
	memcpy(fake.super.dir_hash_key, "0123456789abcdef", 16);
	fake.time_ns = 1700000000000000000;
}

static inline void fake_begin(void)
{
	fake.op++;
	fake.undo_count = 0;
	fake.seen_count = 0;
	fake.gets = 0;
	fake.allocs = 0;
	fake.dirtied = 0;
	fake.room_asked = 0;
	fake.super_before = fake.super;
	fake.super_dirty = false;
	memset(fake.space, 0, sizeof(fake.space));
	fake.time_ns += 1000;
}

static inline void fake_log(int what, uint64_t a, uint64_t b, uint32_t magic, uint64_t owner)
{
	if (fake.undo_count == fake.undo_room) {
		fake.undo_room = fake.undo_room ? fake.undo_room * 2 : 64;
		fake.undo = realloc(fake.undo, fake.undo_room * sizeof(*fake.undo));
	}
	fake.undo[fake.undo_count++] = (struct fake_undo){what, a, b, owner, magic};
}

static inline struct fake_block *fake_see(uint64_t blkno)
{
	struct fake_block *f = fake.block[fake_index(blkno)];

	if (f->seen_op != fake.op) {
		f->seen_op = fake.op;
		memcpy(f->before, f->data, BLOCK_SIZE);
		if (fake.seen_count == fake.seen_room) {
			fake.seen_room = fake.seen_room ? fake.seen_room * 2 : 64;
			fake.seen = realloc(fake.seen, fake.seen_room * sizeof(*fake.seen));
		}
		fake.seen[fake.seen_count++] = blkno;
	}
	return f;
}

static inline void fake_count(void)
{
	fake.dirtied++;
	FAKE_ASSERT(fake.dirtied <= TXN_OP_BLOCKS);
}

/* One more block of the allocator's is changed, if it was not already. */
static inline void fake_space(uint64_t id)
{
	for (uint32_t i = 0; i < TXN_OP_BLOCKS; i++) {
		if (fake.space[i] == id)
			return;
		if (fake.space[i] == 0) {
			fake.space[i] = id;
			fake_count();
			return;
		}
	}
}

static inline void fake_space_block(uint64_t blkno)
{
	fake_space(1ull << 60 | blkno / CHUNK_BLOCKS);
}

static inline void fake_space_clusters(uint64_t start, uint64_t len)
{
	for (uint64_t g = start / GROUP_CLUSTERS; g <= (start + len - 1) / GROUP_CLUSTERS; g++)
		fake_space(1ull << 61 | g);
	fake_space(1ull << 62);
}

static inline void fake_mark(uint64_t start, uint64_t count, bool used)
{
	for (uint64_t c = start; c < start + count; c++) {
		FAKE_ASSERT(c >= FAKE_CLUSTER_FIRST && c < fake.cluster_count);
		FAKE_ASSERT(((fake.cluster[c / 8] >> (c % 8)) & 1) == !used);
		fake.cluster[c / 8] ^= (uint8_t)(1u << (c % 8));
	}
	fake.clusters_used += used ? count : -count;
}

static inline void fake_revert(const struct fake_undo *u)
{
	struct fake_block *f =
		fake.block[fake_index(u->what <= UNDO_UNSLOT ? u->a : FAKE_FIRST_BLOCK)];

	switch (u->what) {
	case UNDO_ALLOC:
		f->used = false;
		fake.blocks_used--;
		break;
	case UNDO_FREE:
		f->used = true;
		f->b.magic = u->magic;
		f->owner = u->owner;
		fake.blocks_used++;
		break;
	case UNDO_SLOT:
		f->slots &= (uint8_t) ~(1u << u->b);
		f->used = f->slots;
		fake.inodes_used--;
		break;
	case UNDO_UNSLOT:
		f->slots |= (uint8_t)(1u << u->b);
		f->used = true;
		fake.inodes_used++;
		break;
	case UNDO_CLUSTERS:
		fake_mark(u->a, u->b, false);
		break;
	case UNDO_UNCLUSTERS:
		fake_mark(u->a, u->b, true);
		break;
	}
}

/* The operation ended with err. Its changes stay when keep is set. */
static inline void fake_end(bool keep)
{
	for (uint32_t i = 0; i < fake.seen_count; i++) {
		struct fake_block *f = fake.block[fake_index(fake.seen[i])];

		if (f->dirty_op != fake.op) {
			FAKE_ASSERT(memcmp(f->before, f->data, BLOCK_SIZE) == 0); /* no txn_dirty */
			continue;
		}
		if (!keep)
			memcpy(f->data, f->before, BLOCK_SIZE);
		else if (f->used && fake.verify)
			fake.verify(&f->b);
	}
	FAKE_ASSERT(fake.super_dirty ||
		    memcmp(&fake.super, &fake.super_before, sizeof(fake.super)) == 0);
	if (!keep) {
		fake.super = fake.super_before;
		while (fake.undo_count > 0)
			fake_revert(&fake.undo[--fake.undo_count]);
	}
	if (fake.dirtied > fake.dirtied_max)
		fake.dirtied_max = fake.dirtied;
	if (fake.gets > fake.gets_max)
		fake.gets_max = fake.gets;
}

int txn_get(struct txn *t, uint64_t blkno, uint32_t magic, uint64_t owner, struct block **out)
{
	struct fake_block *f;

	if (t->fail_get && ++t->gets == t->fail_get)
		return -EAGAIN;
	if (!t->fail_get)
		t->gets++;
	if (!fake_exists(blkno) || !t->block[fake_index(blkno)] ||
		!t->block[fake_index(blkno)]->used)
		return txn_damaged(t, PROBLEM_BLKNO_RANGE, blkno, owner, 0, 0);
	f = t->block[fake_index(blkno)];
	if (f->b.magic != magic)
		return txn_damaged(t, PROBLEM_HEADER_MAGIC, blkno, owner, f->b.magic, magic);
	if (owner != OWNER_ANY && f->owner != owner)
		return txn_damaged(t, PROBLEM_HEADER_OWNER, blkno, owner, f->owner, owner);
	*out = &fake_see(blkno)->b;
	return 0;
}

void txn_changes(struct txn *t, uint64_t ino)
{
	(void)t;
	(void)ino;
}

void txn_dirty(struct txn *t, struct block *b)
{
	struct fake_block *f = fake_see(b->blkno);

	FAKE_ASSERT(f->used);
	if (f->dirty_op != t->op) {
		FAKE_ASSERT(memcmp(f->before, f->data, BLOCK_SIZE) == 0); /* written before */
		f->dirty_op = t->op;
		fake_count();
	}
}

int txn_new(struct txn *t, uint64_t blkno, uint32_t magic, uint64_t owner, struct block **out)
{
	struct fake_block *f = fake_see(blkno);
	struct disk_header *h = (struct disk_header *)f->data;

	FAKE_ASSERT(f->used);
	f->b.magic = magic;
	f->owner = owner;
	f->dirty_op = t->op;
	fake_count();
	memset(f->data, 0, BLOCK_SIZE);
	h->magic = le32_of(magic);
	h->blkno = le64_of(blkno);
	h->owner = le64_of(owner);
	*out = &f->b;
	return 0;
}

void txn_forget(struct txn *t, uint64_t blkno)
{
	FAKE_ASSERT(!t->block[fake_index(blkno)]->used);
}

int txn_damaged(struct txn *t, enum problem p, uint64_t blkno, uint64_t ino, uint64_t found,
	uint64_t expected)
{
	t->damages++;
	if (!t->quiet)
		fprintf(stderr, "damaged: %s block %llu ino %llu found %llx expected %llx\n",
			problem_name(p), (unsigned long long)blkno, (unsigned long long)ino,
			(unsigned long long)found, (unsigned long long)expected);
	return -EUCLEAN;
}

uint32_t txn_room(const struct txn *t)
{
	uint32_t used = t->dirtied + fake.room_asked++ * fake.room_cost;

	return used < TXN_OP_BLOCKS ? TXN_OP_BLOCKS - used : 0;
}

void txn_kick(struct txn *t)
{
	t->kicks++;
}

bool txn_ino_is_open(struct txn *t, uint64_t ino)
{
	return t->is_open && t->is_open(t->ctx, ino);
}

struct vol *txn_vol(struct txn *t)
{
	return NULL;
}

int64_t txn_time(const struct txn *t)
{
	return t->time_ns;
}

const struct disk_super *txn_super(struct txn *t)
{
	return &t->super;
}

struct disk_super *txn_super_dirty(struct txn *t)
{
	t->super_dirty = true;
	return &t->super;
}

static inline struct fake_block *fake_place(uint64_t blkno)
{
	struct fake_block **f = &fake.block[fake_index(blkno)];

	if (!*f) {
		*f = calloc(1, sizeof(**f));
		(*f)->b.blkno = blkno;
		(*f)->b.data = (*f)->data;
	}
	return *f;
}

static inline bool fake_full(struct txn *t)
{
	return ++t->allocs == t->fail_alloc;
}

int alloc_block(struct txn *t, uint64_t near, bool reserve, uint64_t *blkno)
{
	uint64_t no = t->next_block, tries = 0;
	struct fake_block *f;

	if (fake_full(t) || (t->blocks_limit && t->blocks_used >= t->blocks_limit && !reserve))
		return -ENOSPC;
	while (fake_place(no)->used) {
		no = no + 1 < FAKE_BLOCKS_MAX / 2 ? no + 1 : FAKE_FIRST_BLOCK;
		FAKE_ASSERT(++tries < FAKE_BLOCKS_MAX / 2);
	}
	f = fake_place(no);
	f->used = true;
	t->next_block = no + 1 < FAKE_BLOCKS_MAX / 2 ? no + 1 : FAKE_FIRST_BLOCK;
	t->blocks_used++;
	fake_log(UNDO_ALLOC, no, 0, 0, 0);
	fake_space_block(no);
	*blkno = no;
	return 0;
}

int alloc_free_block(struct txn *t, uint64_t blkno)
{
	struct fake_block *f = t->block[fake_index(blkno)];

	FAKE_ASSERT(fake_exists(blkno) && f && f->used);
	fake_see(blkno);
	if (f->dirty_op != t->op)
		fake_count();
	fake_space_block(blkno);
	f->dirty_op = t->op;
	f->used = false;
	t->blocks_used--;
	fake_log(UNDO_FREE, blkno, 0, f->b.magic, f->owner);
	return 0;
}

int alloc_inode(struct txn *t, uint64_t parent_ino, uint64_t *ino, bool *is_new)
{
	struct fake_block *f;
	uint64_t no;

	if (fake_full(t))
		return -ENOSPC;
	for (no = FAKE_INODE_BLOCK;; no++) {
		f = fake_place(no);
		if (f->slots != 0xfe)
			break;
	}
	*is_new = !f->slots;
	f->used = true;
	f->b.magic = MAGIC_INODE;
	for (unsigned int s = 1; s <= INODES_PER_BLOCK; s++) {
		if (f->slots & (1u << s))
			continue;
		f->slots |= (uint8_t)(1u << s);
		t->inodes_used++;
		fake_log(UNDO_SLOT, no, s, 0, 0);
		fake_space_block(no);
		*ino = INO_MAKE(no, s);
		return 0;
	}
	abort();
}

int alloc_free_inode(struct txn *t, uint64_t ino)
{
	struct fake_block *f = t->block[fake_index(INO_BLOCK(ino))];

	FAKE_ASSERT(f && f->slots & (1u << INO_SLOT(ino)));
	f->slots &= (uint8_t) ~(1u << INO_SLOT(ino));
	f->used = f->slots; /* an empty block is given back */
	t->inodes_used--;
	fake_log(UNDO_UNSLOT, INO_BLOCK(ino), INO_SLOT(ino), 0, 0);
	fake_space_block(INO_BLOCK(ino));
	return 0;
}

int alloc_inode_used(struct txn *t, uint64_t ino)
{
	struct fake_block *f;

	if (!fake_exists(INO_BLOCK(ino)) || INO_BLOCK(ino) < FAKE_INODE_BLOCK)
		return -ESTALE;
	f = t->block[fake_index(INO_BLOCK(ino))];
	return f && f->slots & (1u << INO_SLOT(ino)) ? 0 : -ESTALE;
}

static inline bool fake_is_used(uint64_t c)
{
	return (fake.cluster[c / 8] >> (c % 8)) & 1;
}

int alloc_clusters(
	struct txn *t, uint64_t goal, uint64_t who, uint32_t want, uint64_t *start, uint32_t *got)
{
	uint64_t c = goal >= FAKE_CLUSTER_FIRST && goal < t->cluster_count ? goal : t->cluster_hint;

	FAKE_ASSERT(want > 0);
	if (fake_full(t) || t->clusters_used >= t->cluster_count - FAKE_CLUSTER_FIRST)
		return -ENOSPC;
	while (fake_is_used(c))
		c = c + 1 < t->cluster_count ? c + 1 : FAKE_CLUSTER_FIRST;
	*start = c;
	*got = 0;
	while (*got < want && *got < t->run_max && c < t->cluster_count && !fake_is_used(c)) {
		(*got)++;
		c++;
	}
	fake_mark(*start, *got, true);
	fake_log(UNDO_CLUSTERS, *start, *got, 0, 0);
	fake_space_clusters(*start, *got);
	return 0;
}

int alloc_free_clusters(struct txn *t, uint64_t start, uint32_t count)
{
	FAKE_ASSERT(count > 0);
	/* One group at a time: the work of one call has a bound. */
	FAKE_ASSERT(start / GROUP_CLUSTERS == (start + count - 1) / GROUP_CLUSTERS);
	fake_mark(start, count, false);
	fake_log(UNDO_UNCLUSTERS, start, count, 0, 0);
	fake_space_clusters(start, count);
	return 0;
}

void alloc_statfs(struct vol *v, struct fs_statfs *st)
{
	memset(st, 0, sizeof(*st));
	st->bsize = 65536;
	st->blocks = fake.cluster_count - FAKE_CLUSTER_FIRST;
	st->bfree = st->blocks - fake.clusters_used;
	st->bavail = st->bfree;
	st->namelen = NAME_BYTES_MAX;
}

int alloc_count_inodes(struct txn *t)
{
	(void)t;
	return 0;
}

#endif
