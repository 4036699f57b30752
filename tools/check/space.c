/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Space: what summary, groups and chunk headers say; what the walk found in use; and, at the end, the
 * comparison of the two.
 */
#include "tools/check/mend.h"

/* ------------------------------------------------------------------ tables */

struct ck_group *ck_group(const struct check *c, uint64_t number)
{
	struct ck_group **page;

	if (number >= c->group_count)
		return NULL;
	page = c->groups[number / CK_PAGE];
	return page ? page[number % CK_PAGE] : NULL;
}

struct ck_group *ck_group_new(struct check *c, uint64_t number)
{
	struct ck_group ***page = &c->groups[number / CK_PAGE];
	struct ck_group *g = ck_group(c, number);

	if (g)
		return g;
	if (!*page)
		*page = mem_alloc(c->o->mem, CK_PAGE * sizeof(**page));
	if (!*page)
		return NULL;
	g = mem_alloc(c->o->mem, sizeof(*g));
	(*page)[number % CK_PAGE] = g;
	return g;
}

static uint64_t group_blocks(const struct check *c)
{
	return (uint64_t)GROUP_CLUSTERS * c->cluster_blocks;
}

struct ck_chunk *ck_chunk(const struct check *c, uint64_t blkno)
{
	const struct ck_group *g = ck_group(c, blkno / group_blocks(c));

	if (!g || !g->chunks)
		return NULL;
	return g->chunks[blkno % group_blocks(c) / CHUNK_BLOCKS];
}

struct ck_chunk *ck_chunk_new(struct check *c, struct ck_group *g, uint64_t blkno, bool inode)
{
	struct ck_chunk *k;

	if (!g->chunks)
		g->chunks = mem_alloc(c->o->mem, c->chunks_per_group * sizeof(*g->chunks));
	if (!g->chunks)
		return NULL;
	k = mem_alloc(c->o->mem, sizeof(*k));
	if (!k)
		return NULL;
	if (inode) {
		k->inodes = mem_alloc(c->o->mem, CHUNK_BLOCKS * sizeof(*k->inodes));
		if (!k->inodes)
			return NULL;
	}
	k->blkno = blkno;
	k->inode = inode;
	g->chunks[blkno % group_blocks(c) / CHUNK_BLOCKS] = k;
	c->rep->meta_chunks++;
	return k;
}

uint32_t ck_group_clusters(const struct check *c, uint64_t number)
{
	const uint64_t left = c->cluster_count - number * GROUP_CLUSTERS;

	return left < GROUP_CLUSTERS ? (uint32_t)left : GROUP_CLUSTERS;
}

uint32_t ck_bits_set(const uint8_t *map, uint32_t from, uint32_t to)
{
	uint32_t n = 0;

	for (uint32_t i = from; i < to; i++)
		n += bit_get(map, i);
	return n;
}

/* ------------------------------------------------------------------ chunk headers */

static void chunk_slots(struct check *c, struct ck_chunk *k, const struct disk_chunk *d)
{
	for (uint32_t i = 0; i < CHUNK_BLOCKS; i++) {
		const bool used = k->inode && i && bit_get(k->used, i);

		if (d->slots[i] & (used ? 1u : 255u))
			ck_report(c, PROBLEM_CHUNK_SLOTS, k->blkno, 0, d->slots[i], 0,
				"slots of a block without inodes:");
		else if (used && !d->slots[i])
			ck_report(c, PROBLEM_CHUNK_SLOTS, k->blkno, 0, i, i,
				"no inode in a block that is in use: number");
	}
	memcpy(k->slots, d->slots, sizeof(k->slots));
}

static void chunk_header(struct check *c, struct ck_chunk *k)
{
	const struct disk_chunk *d = ck_block(c, k->blkno, MAGIC_CHUNK, 0);

	if (!d)
		return;
	k->readable = true;
	memcpy(k->used, d->used, sizeof(k->used));
	if (!bit_get(k->used, 0))
		ck_report(c, PROBLEM_CHUNK_SELF, k->blkno, 0, 0, 1, "mark of the header itself");
	if (le32_get(d->used_blocks) != ck_bits_set(k->used, 0, CHUNK_BLOCKS))
		ck_report(c, PROBLEM_CHUNK_COUNT, k->blkno, 0, le32_get(d->used_blocks),
			ck_bits_set(k->used, 0, CHUNK_BLOCKS), "number of blocks in use");
	if (le32_get(d->is_inode) != k->inode)
		ck_report(c, PROBLEM_CHUNK_KIND, k->blkno, 0, le32_get(d->is_inode), k->inode,
			"holds inodes:");
	if (!ck_zero(d->reserved, sizeof(d->reserved)))
		ck_report(c, PROBLEM_RESERVED, k->blkno, 0, 0, 0, "reserved field of the chunk");
	ck_tail(c, d, sizeof(*d), k->blkno);
	chunk_slots(c, k, d);
}

/* Blocks a chunk has left: a free block, or in an inode chunk a free slot. */
static bool chunk_has_room(const struct ck_chunk *k)
{
	for (uint32_t i = 1; i < CHUNK_BLOCKS; i++)
		if (!bit_get(k->used, i) || (k->inode && k->slots[i] != 0xfe))
			return true;
	return false;
}

/* ------------------------------------------------------------------ groups */

/* The chunk's clusters are the walk's from now on: an extent there is an error. */
static void chunk_claims_clusters(struct check *c, uint64_t number, struct ck_group *g, uint32_t i)
{
	const uint32_t first = i * c->chunk_clusters;

	for (uint32_t k = 0; k < c->chunk_clusters; k++)
		bit_set(g->seen, first + k);
	if (g->readable &&
		ck_bits_set(g->used, first, first + c->chunk_clusters) != c->chunk_clusters)
		ck_report(c, PROBLEM_GROUP_META_UNUSED, le64_get(c->super.group_start) + number, 0,
			number * GROUP_CLUSTERS + first, number * GROUP_CLUSTERS + first,
			"metadata chunk with clusters that are marked as free: from cluster");
}

static int load_chunk(struct check *c, uint64_t number, struct ck_group *g, uint32_t i, bool inode)
{
	const uint64_t blkno = number * group_blocks(c) + (uint64_t)i * CHUNK_BLOCKS;
	struct ck_chunk *k;

	if (blkno < c->data_start || blkno + CHUNK_BLOCKS > c->block_count) {
		ck_report(c, PROBLEM_BLKNO_RANGE, le64_get(c->super.group_start) + number, 0, blkno,
			0, "metadata chunk outside the data area: block");
		return 0;
	}
	k = ck_chunk_new(c, g, blkno, inode);
	if (!k)
		return -ENOMEM;
	chunk_claims_clusters(c, number, g, i);
	chunk_header(c, k);
	return 0;
}

/* The group's block is lost: its chunks are those places where a valid chunk header stands. */
static int probe_chunks(struct check *c, uint64_t number, struct ck_group *g)
{
	for (uint32_t i = 0; i < c->chunks_per_group; i++) {
		const uint64_t blkno = number * group_blocks(c) + (uint64_t)i * CHUNK_BLOCKS;
		const struct disk_chunk *d;
		uint64_t found, want;
		int err;

		if (blkno < c->data_start || blkno + CHUNK_BLOCKS > c->block_count)
			continue;
		d = ck_read(c, blkno, 0);
		if (!d || ck_header(c, d, blkno, MAGIC_CHUNK, 0, &found, &want))
			continue;
		err = load_chunk(c, number, g, i, le32_get(d->is_inode) != 0);
		if (err)
			return err;
	}
	return 0;
}

static void group_counts(
	struct check *c, uint64_t number, struct ck_group *g, const struct disk_group *d)
{
	const uint64_t blkno = le64_get(c->super.group_start) + number;
	const uint32_t covered = ck_group_clusters(c, number);
	const uint32_t free_clusters = covered - ck_bits_set(d->used, 0, covered);
	const uint32_t chunks = ck_bits_set(d->meta, 0, c->chunks_per_group);
	const uint32_t rest = (c->chunks_per_group + 7) / 8;

	if (le32_get(d->free_clusters) != free_clusters)
		ck_report(c, PROBLEM_GROUP_FREE, blkno, 0, le32_get(d->free_clusters),
			free_clusters, "number of free clusters");
	if (le32_get(d->meta_chunks) != chunks)
		ck_report(c, PROBLEM_GROUP_META_COUNT, blkno, 0, le32_get(d->meta_chunks), chunks,
			"number of metadata chunks");
	if (ck_bits_set(d->used, covered, GROUP_CLUSTERS) != GROUP_CLUSTERS - covered)
		ck_report(c, PROBLEM_GROUP_BEYOND_END, blkno, 0,
			ck_bits_set(d->used, covered, GROUP_CLUSTERS), GROUP_CLUSTERS - covered,
			"marks behind the end of the volume");
	if (ck_bits_set(d->meta, c->chunks_per_group, rest * 8) ||
		!ck_zero(d->meta + rest, GROUP_BITMAP_BYTES - rest))
		ck_report(c, PROBLEM_GROUP_BEYOND_END, blkno, 0, 0, 0,
			"metadata chunks behind the last one of the group");
	if (!ck_zero(d->reserved, sizeof(d->reserved)))
		ck_report(c, PROBLEM_RESERVED, blkno, 0, 0, 0, "reserved field of the group");
	for (uint32_t i = 0; i < GROUP_CLUSTERS; i++) {
		if (bit_get(d->inode, i) && !bit_get(d->meta, i))
			ck_report(c, PROBLEM_GROUP_INODE_CHUNK, blkno, 0, i, i,
				"inode chunk is no metadata chunk: chunk");
		if (bit_get(d->meta_free, i) && !bit_get(d->meta, i))
			ck_report(c, PROBLEM_GROUP_META_FREE, blkno, 0, i, i,
				"room in what is no metadata chunk: chunk");
	}
	memcpy(g->used, d->used, sizeof(g->used));
	g->readable = true;
}

/* Whether each chunk's mark in meta_free is what its header says; what the summary's flags must be. */
static uint32_t group_room(
	struct check *c, uint64_t number, struct ck_group *g, const uint8_t *meta_free)
{
	const uint64_t blkno = le64_get(c->super.group_start) + number;
	uint32_t flags = SUMMARY_INIT;

	for (uint32_t i = 0; g->chunks && i < c->chunks_per_group; i++) {
		const struct ck_chunk *k = g->chunks[i];
		bool room;

		if (!k || !k->readable)
			continue;
		room = chunk_has_room(k);
		if (room != bit_get(meta_free, i))
			ck_report(c, PROBLEM_GROUP_META_FREE, blkno, 0, bit_get(meta_free, i), room,
				"mark of a chunk that has room");
		if (room)
			flags |= k->inode ? SUMMARY_INODE_FREE : SUMMARY_META_FREE;
	}
	return flags;
}

static int load_group(
	struct check *c, uint64_t number, uint32_t sum_free, uint32_t sum_flags, uint64_t sum_blkno)
{
	const uint64_t blkno = le64_get(c->super.group_start) + number;
	struct ck_group *g = ck_group_new(c, number);
	struct disk_group d;
	const void *b;
	uint32_t flags;
	int err;

	if (!g)
		return -ENOMEM;
	b = ck_block(c, blkno, MAGIC_GROUP, 0);
	if (!b)
		return probe_chunks(c, number, g);
	memcpy(&d, b, sizeof(d));
	ck_tail(c, b, sizeof(d), blkno);
	group_counts(c, number, g, &d);
	for (uint32_t i = 0; i < c->chunks_per_group; i++) {
		if (!bit_get(d.meta, i))
			continue;
		err = load_chunk(c, number, g, i, bit_get(d.inode, i));
		if (err)
			return err;
	}
	flags = group_room(c, number, g, d.meta_free);
	c->rep->free_clusters += le32_get(d.free_clusters);
	if (!sum_blkno)
		return 0;
	if (sum_free != le32_get(d.free_clusters))
		ck_report(c, PROBLEM_SUMMARY_FREE, sum_blkno, 0, sum_free,
			le32_get(d.free_clusters), "free clusters of a group");
	if (sum_flags != flags)
		ck_report(c, PROBLEM_SUMMARY_FLAGS, sum_blkno, 0, sum_flags, flags,
			"flags of a group");
	return 0;
}

/* Clusters of the fixed areas that lie in this group. */
uint32_t ck_fixed_clusters(const struct check *c, uint64_t number)
{
	const uint64_t end = c->data_start / c->cluster_blocks;
	const uint64_t first = number * GROUP_CLUSTERS;

	if (end <= first)
		return 0;
	return end - first < GROUP_CLUSTERS ? (uint32_t)(end - first) : GROUP_CLUSTERS;
}

/* The summary's block is lost: a group is taken to be in use if its block looks like one. */
static int load_unsummarised(struct check *c, uint64_t number)
{
	const struct disk_header *h = ck_read(c, le64_get(c->super.group_start) + number, 0);
	const bool looks = h && le32_get(h->magic) == MAGIC_GROUP &&
			   !memcmp(h->uuid, c->super.h.uuid, sizeof(h->uuid));

	/* The first and the last hold fixed areas: they were written when the volume was made. */
	if (looks || ck_fixed_clusters(c, number) || number + 1 == c->group_count)
		return load_group(c, number, 0, 0, 0);
	return 0;
}

/* The summary says that the group was never written: all of it is free. */
static int load_unwritten(struct check *c, uint64_t number, uint32_t free_clusters, uint32_t flags,
	uint64_t sum_blkno)
{
	const uint32_t covered = ck_group_clusters(c, number);

	if (ck_fixed_clusters(c, number) || number + 1 == c->group_count) {
		ck_report(c, PROBLEM_SUMMARY_LOST_GROUP, sum_blkno, 0, number, number,
			"never written, but holds fixed areas: group");
		return load_unsummarised(c, number);
	}
	if (flags)
		ck_report(c, PROBLEM_SUMMARY_FLAGS, sum_blkno, 0, flags, 0,
			"flags of a group that was never written");
	if (free_clusters != covered)
		ck_report(c, PROBLEM_SUMMARY_FREE, sum_blkno, 0, free_clusters, covered,
			"free clusters of a group");
	c->rep->free_clusters += covered;
	return 0;
}

static int load_summary(struct check *c, uint64_t index)
{
	const uint64_t blkno = le64_get(c->super.summary_start) + index;
	struct disk_summary s;
	const void *b = ck_block(c, blkno, MAGIC_SUMMARY, 0);
	int err = 0;

	if (b)
		memcpy(&s, b, sizeof(s));
	for (uint32_t i = 0; i < SUMMARY_PER_BLOCK && !err; i++) {
		const uint64_t number = index * SUMMARY_PER_BLOCK + i;
		uint32_t free_clusters, flags;

		if (number >= c->group_count) {
			if (b && !ck_zero(&s.e[i], sizeof(s.e[i])))
				ck_report(c, PROBLEM_SUMMARY_PADDING, blkno, 0, i, i,
					"entry behind the last group: number");
			continue;
		}
		if (!b) {
			err = load_unsummarised(c, number);
			continue;
		}
		free_clusters = le16_get(s.e[i].free_clusters);
		flags = le16_get(s.e[i].flags);
		if (flags & SUMMARY_INIT) {
			err = load_group(c, number, free_clusters, flags, blkno);
			continue;
		}
		err = load_unwritten(c, number, free_clusters, flags, blkno);
	}
	return err;
}

/* The fixed areas, and the cluster with the superblock's last copy, are nobody's. */
static int mark_fixed(struct check *c)
{
	const uint64_t last = (c->block_count - 1) / c->cluster_blocks;
	struct ck_group *g;

	for (uint64_t n = 0; n < c->group_count && ck_fixed_clusters(c, n); n++) {
		const uint32_t fixed = ck_fixed_clusters(c, n);

		g = ck_group_new(c, n);
		if (!g)
			return -ENOMEM;
		for (uint32_t i = 0; i < fixed; i++)
			bit_set(g->seen, i);
		if (g->readable && ck_bits_set(g->used, 0, fixed) != fixed)
			ck_report(c, PROBLEM_GROUP_FIXED_AREA, le64_get(c->super.group_start) + n,
				0, n * GROUP_CLUSTERS, fixed, "not all marked as used: clusters");
	}
	if (last >= c->cluster_count)
		return 0;
	g = ck_group_new(c, last / GROUP_CLUSTERS);
	if (!g)
		return -ENOMEM;
	bit_set(g->seen, last % GROUP_CLUSTERS);
	if (g->readable && !bit_get(g->used, last % GROUP_CLUSTERS))
		ck_report(c, PROBLEM_GROUP_FIXED_AREA,
			le64_get(c->super.group_start) + last / GROUP_CLUSTERS, 0, last, 1,
			"with the superblock's copy is marked as free: cluster");
	return 0;
}

int ck_space_load(struct check *c)
{
	const uint64_t blocks = le64_get(c->super.summary_blocks);
	int err;

	for (uint64_t i = 0; i < blocks; i++) {
		err = load_summary(c, i);
		if (err)
			return err;
	}
	err = mark_fixed(c);
	if (err)
		return err;
	return 0;
}

/* ------------------------------------------------------------------ what the walk finds */

bool ck_use_block(struct check *c, uint64_t blkno, uint64_t from, uint64_t ino, bool inode)
{
	struct ck_chunk *k;
	uint32_t i;

	if (c->find_owners) {
		k = ck_chunk(c, blkno);
		i = (uint32_t)(blkno % CHUNK_BLOCKS);
		if (!k || !i || bit_get(k->again, i))
			return false;
		bit_set(k->again, i);
		return true;
	}
	if (blkno < c->data_start || blkno >= c->block_count) {
		ck_report(c, PROBLEM_BLKNO_RANGE, from, ino, blkno, blkno,
			"points outside: to block");
		return false;
	}
	k = ck_chunk(c, blkno);
	i = (uint32_t)(blkno % CHUNK_BLOCKS);
	if (!k || !i || k->inode != inode) {
		ck_report(c, PROBLEM_BLOCK_NOT_META, from, ino, blkno, blkno,
			"points to what is no metadata chunk of this kind: block");
		if (c->m && !k)
			ck_missed_block(c, blkno, ino);
		return false;
	}
	if (bit_get(k->seen, i)) {
		ck_report(c, PROBLEM_BLOCK_DOUBLE, from, ino, blkno, blkno,
			"points to a block that is in use elsewhere: block");
		return false;
	}
	bit_set(k->seen, i);
	c->rep->meta_blocks++;
	if (k->readable && !bit_get(k->used, i))
		ck_report(c, PROBLEM_BLOCK_NOT_MARKED, from, ino, blkno, blkno,
			"points to a block that is marked as free: block");
	return true;
}

enum use { USE_FINE, USE_META, USE_TWICE };

static enum use use_cluster(struct check *c, struct ck_group *g, uint64_t cluster)
{
	const uint32_t i = (uint32_t)(cluster % GROUP_CLUSTERS);
	const uint64_t blkno = cluster * c->cluster_blocks;

	if (!bit_get(g->seen, i)) {
		bit_set(g->seen, i);
		c->rep->data_clusters++;
		return USE_FINE;
	}
	if (blkno < c->data_start || cluster == (c->block_count - 1) / c->cluster_blocks)
		return USE_META;
	return ck_chunk(c, blkno) ? USE_META : USE_TWICE;
}

static int use_end(struct check *c, struct ck_group *g, enum use use, uint64_t start, uint64_t n,
	uint64_t from, uint64_t ino)
{
	if (!n || use == USE_FINE)
		return 0;
	if (use == USE_META) {
		ck_report(c, PROBLEM_CLUSTER_IN_META, from, ino, start, n,
			"extent in metadata: clusters");
		return 0;
	}
	if (!g->twice)
		g->twice = mem_alloc(c->o->mem, GROUP_BITMAP_BYTES);
	if (!g->twice)
		return -ENOMEM;
	for (uint64_t i = start; i < start + n; i++)
		bit_set(g->twice, i % GROUP_CLUSTERS);
	c->double_clusters += n;
	return 0;
}

/* Clusters of one group. */
static int use_run(struct check *c, struct ck_group *g, uint64_t start, uint32_t n, uint64_t from,
	uint64_t ino)
{
	enum use last = USE_FINE, use;
	uint64_t at = start, free_at = start;
	int err;

	for (uint64_t i = start; i < start + n; i++) {
		use = use_cluster(c, g, i);
		if (use != last) {
			err = use_end(c, g, last, at, i - at, from, ino);
			if (err)
				return err;
			last = use;
			at = i;
		}
	}
	err = use_end(c, g, last, at, start + n - at, from, ino);
	for (uint64_t i = start; g->readable && i <= start + n; i++) {
		if (i < start + n && !bit_get(g->used, i % GROUP_CLUSTERS))
			continue;
		if (i > free_at)
			ck_report(c, PROBLEM_CLUSTER_NOT_MARKED, from, ino, free_at, i - free_at,
				"used, but marked as free: clusters");
		free_at = i + 1;
	}
	return err;
}

int ck_use_clusters(struct check *c, uint64_t start, uint64_t count, uint64_t from, uint64_t ino)
{
	struct ck_group *g;
	int err;

	if (start >= c->cluster_count || count > c->cluster_count - start) {
		ck_report(c, PROBLEM_EXTENT_RANGE, from, ino, start + count, c->cluster_count,
			"end of an extent on the volume");
		return 0;
	}
	if (start + count > c->cluster_count - le64_get(c->super.reserve_clusters))
		ck_report(c, PROBLEM_CLUSTER_IN_RESERVE, from, ino, start + count,
			c->cluster_count - le64_get(c->super.reserve_clusters), "end of an extent");
	/* Nothing sensible is left to say, and the work must stay bounded. */
	if (c->double_clusters > c->cluster_count)
		return 0;
	while (count) {
		uint32_t n = GROUP_CLUSTERS - (uint32_t)(start % GROUP_CLUSTERS);

		if (n > count)
			n = (uint32_t)count;
		g = ck_group(c, start / GROUP_CLUSTERS);
		if (!g) {
			ck_report(c, PROBLEM_SUMMARY_LOST_GROUP, from, ino, start / GROUP_CLUSTERS,
				start / GROUP_CLUSTERS,
				"extent in a group that was never written: group");
			g = ck_group_new(c, start / GROUP_CLUSTERS);
			if (!g)
				return -ENOMEM;
		}
		err = use_run(c, g, start, n, from, ino);
		if (err)
			return err;
		start += n;
		count -= n;
	}
	return 0;
}

/* ------------------------------------------------------------------ comparison */

static void compare_clusters(struct check *c, uint64_t number, const struct ck_group *g)
{
	const uint64_t blkno = le64_get(c->super.group_start) + number;
	const uint32_t covered = ck_group_clusters(c, number);
	uint32_t i = 0, start;

	if (!g->readable)
		return;
	while (i < covered) {
		/* Most bytes agree. */
		if (i % 8 == 0 && g->used[i / 8] == g->seen[i / 8]) {
			i += 8;
			continue;
		}
		start = i;
		while (i < covered && bit_get(g->used, i) && !bit_get(g->seen, i))
			i++;
		if (i > start)
			ck_report(c, PROBLEM_CLUSTER_LEAK, blkno, 0,
				number * GROUP_CLUSTERS + start, i - start,
				"marked as used, but nothing uses them: clusters");
		else
			i++;
	}
}

static void compare_chunk(struct check *c, const struct ck_chunk *k)
{
	uint32_t start;

	if (!k->readable)
		return;
	for (uint32_t i = 1; i < CHUNK_BLOCKS; i++) {
		start = i;
		while (i < CHUNK_BLOCKS && bit_get(k->used, i) && !bit_get(k->seen, i))
			i++;
		if (i > start)
			ck_report(c, PROBLEM_BLOCK_LEAK, k->blkno, 0, k->blkno + start, i - start,
				"marked as used, but nothing uses them: blocks");
	}
}

/*
 * Invariant 4: where the journal holds an image for, no data lies: a replay would overwrite it. (A chunk
 * that was freed may still have images; its clusters are not used again before they are gone.) But if a
 * head is lost, the run may begin at the older one's tail, and replay drops what it has for a chunk that is data's now.
 */
static void compare_journal(struct check *c)
{
	for (uint32_t i = 0; i < c->image_room; i++) {
		const struct ck_image *im = &c->images[i];
		const uint64_t cluster = im->blkno / c->cluster_blocks;
		const struct ck_group *g = ck_group(c, cluster / GROUP_CLUSTERS);

		if (!im->pos || im->blkno < c->data_start || im->blkno == c->block_count - 1)
			continue;
		if (!ck_chunk(c, im->blkno) && g && bit_get(g->seen, cluster % GROUP_CLUSTERS))
			ck_report(c, PROBLEM_JOURNAL_TARGET, im->pos, 0, im->blkno, im->blkno,
				"image for what is data now: block");
	}
}

int ck_space_compare(struct check *c)
{
	for (uint64_t n = 0; n < c->group_count; n++) {
		const struct ck_group *g = ck_group(c, n);

		if (!g)
			continue;
		compare_clusters(c, n, g);
		for (uint32_t i = 0; g->chunks && i < c->chunks_per_group; i++)
			if (g->chunks[i])
				compare_chunk(c, g->chunks[i]);
	}
	/* A repair makes the journal empty. */
	if (!c->m && !c->head_lost)
		compare_journal(c);
	return 0;
}
