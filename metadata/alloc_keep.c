/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * alloc_keep.c - free chunks that data leaves to metadata (alloc.c, A5, A6), and what statfs(2) shows of it.
 *
 * The extents of a file become more when space that was asked for ahead is first-written here and there, or
 * holes are punched; on a full volume, too (extent.c, rule 3). How many blocks can the trees of all files come to have?
 *  - A leaf has room for 143 extents. Each half of one that is split has 71 at least, so 71 clusters of the file lie
 *    there and in no other leaf: a file of n clusters has n / 71 leaves at most. With the inner nodes (one for 100)
 *    and the headers of chunks that is a block for 70 clusters. META_PER_CLUSTER: a block for 64.
 *  - The first leaf is there from the 16th extent on: files of 16 clusters, all in pieces, need a block each.
 *    META_PER_CLUSTER_SMALL is for them.
 * A6 is for the day on which all clusters that data can have are used: so many chunks as their trees may need are never
 * given to data. The half of the reserve that ordinary metadata cannot have serves for it first. It is not known which clusters are
 * UNWRITTEN, nor need it be: those that are written can be punched. And no more than a 64th is kept of the volume: 0.4 % with
 * clusters of 64 KiB (nothing up to 8 GiB, for which the reserve is enough), 1.6 % with 16 KiB and less. So with 4 and
 * 8 KiB very many files of 16 to 64 clusters, all of them written in pieces, could need more.
 *
 * How many chunks are free is known of groups that were looked at, and of those that are free as a whole. Of others it is
 * guessed, as many as there can be: A6 counts those that are known.
 */
#include "metadata/alloc.h"

/* What a file with a short name needs: an inode of 576 bytes, an entry in a tree that is 2/3 full. */
#define META_PER_FILE 1024u
#define META_PER_CLUSTER (BLOCK_SIZE / 64u)
#define META_PER_CLUSTER_SMALL (BLOCK_SIZE / 16u)
#define LOOK_STEP 64u

/* ------------------------------------------------------------------ how many there are */

/* Chunks of group g that lie in front of the reserve. */
static uint32_t chunks_for_data(const struct alloc *a, uint32_t g)
{
	uint64_t first = (uint64_t)g * a->group_chunks, end = a->reserve_start / a->chunk_clusters;

	if (first >= end)
		return 0;
	return end - first < a->group_chunks ? (uint32_t)(end - first) : a->group_chunks;
}

bool alloc_chunk_is_whole(const struct alloc *a, const struct disk_group *d, uint32_t c)
{
	uint32_t bit = c * a->chunk_clusters, end = bit + a->chunk_clusters;

	return !alloc_bit(d->meta, c) && alloc_bits_next(d->used, bit, end, true) == end;
}

static void whole_set(struct alloc *a, uint32_t g, uint32_t whole, bool guessed)
{
	struct alloc_group *e = &a->groups[g];

	a->whole += whole - (uint64_t)e->whole;
	a->guessed += (guessed ? whole : 0) - (uint64_t)(e->guessed ? e->whole : 0);
	e->whole = (uint16_t)whole;
	e->guessed = guessed;
}

void alloc_whole_count(struct alloc *a, uint32_t g, const struct disk_group *d)
{
	uint32_t end = chunks_for_data(a, g), whole = 0;

	for (uint32_t c = 0; c < end; c++)
		whole += alloc_chunk_is_whole(a, d, c);
	whole_set(a, g, whole, false);
}

void alloc_whole_guess(struct alloc *a, uint32_t g)
{
	uint32_t most = a->groups[g].free / a->chunk_clusters, end = chunks_for_data(a, g);

	whole_set(a, g, most < end ? most : end, a->groups[g].free < GROUP_CLUSTERS);
}

/* ------------------------------------------------------------------ how many are kept */

static uint64_t cluster_bytes(const struct alloc *a)
{
	return (uint64_t)a->cluster_blocks * BLOCK_SIZE;
}

/* A6: what a cluster of data may need. */
static uint64_t bytes_each(const struct alloc *a)
{
	uint64_t most = cluster_bytes(a) / 64;

	csv_assert(most >= META_PER_CLUSTER);
	return most < META_PER_CLUSTER_SMALL ? most : META_PER_CLUSTER_SMALL;
}

static uint64_t reserve_bytes(const struct alloc *a)
{
	return (a->clusters - a->reserve_start) * cluster_bytes(a);
}

uint64_t alloc_kept(const struct alloc *a)
{
	uint64_t all = a->reserve_start * bytes_each(a), has = reserve_bytes(a) / 2;

	/* What is kept is not data's, and needs none itself. */
	return all > has ? (all - has) / (CHUNK_SIZE + a->chunk_clusters * bytes_each(a)) : 0;
}

/* Free clusters that data may come to have. */
static uint64_t free_for_data(const struct alloc *a)
{
	uint64_t not_data = a->clusters - a->reserve_start + alloc_kept(a) * a->chunk_clusters;

	return a->free > not_data ? a->free - not_data : 0;
}

uint64_t alloc_whole_to_spare(const struct alloc *a)
{
	uint64_t kept = alloc_kept(a), known = a->whole - a->guessed;
	uint64_t keep = kept + free_for_data(a) * META_PER_FILE / CHUNK_SIZE;
	uint64_t spare = a->whole > keep ? a->whole - keep : 0;

	if (known <= kept)
		return 0;
	return spare < known - kept ? spare : known - kept;
}

int alloc_whole_look(struct txn *t)
{
	struct alloc *a = &t->v->alloc;
	struct block *b;
	int err;

	for (uint32_t n = 0; a->guessed && !alloc_whole_to_spare(a) && a->whole > alloc_kept(a); n++) {
		if (n == LOOK_STEP)
			return -EINPROGRESS;
		while (!a->groups[a->look_at % a->group_count].guessed || !a->groups[a->look_at % a->group_count].whole)
			a->look_at = (a->look_at + 1) % a->group_count;
		err = alloc_group_get(t, a->look_at, &b);
		if (err == -EAGAIN)
			return err;
		/* One that cannot be read gives nobody anything. */
		if (err)
			whole_set(a, a->look_at, 0, false);
		else
			alloc_whole_count(a, a->look_at, (const struct disk_group *)b->data);
	}
	return 0;
}

/* ------------------------------------------------------------------ statfs */

void alloc_statfs(struct vol *v, struct fs_statfs *st)
{
	const struct alloc *a = &v->alloc;

	memset(st, 0, sizeof(*st));
	st->bsize = le32_get(v->geo->cluster_bytes);
	st->namelen = NAME_BYTES_MAX;
	st->blocks = a->clusters;
	st->bfree = a->free;
	st->bavail = free_for_data(a);
	/* Inodes are made as they are needed: as many as would fit. */
	st->ffree = st->bavail * a->cluster_blocks * 7;
	st->files = st->ffree + a->inodes;
}
