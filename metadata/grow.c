/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * grow.c - the volume becomes larger, while it is in use.
 *
 *   IDLE --vol_grow()--> COPY --copy_done()--> RUN --grow_done()--> PLACE --both are in place--> IDLE
 *   RUN --the operation failed--> IDLE
 *
 * mkfs leaves room behind the summary and the groups, so nothing moves. One transaction changes the
 * superblocks, the summary, the group that was the last and the one that is.
 *
 * Invariants
 *  G1. The copy of the superblock at the new end is durable before the transaction: it lies behind the old
 *      end, so until then it is nobody's block.
 *  G2. New space is used only when both superblocks tell of it in their places. Replay goes by the one that
 *      it finds in place; so it never meets an image of a block that lies behind the end which this one tells.
 *  G3. What the old last group gains waits in the overlay, as a metadata chunk that was freed (A2).
 *  G4. In PLACE nothing is executed: who changes a superblock in each commit would keep both from their
 *      places for ever. It lasts a commit and two checkpoints of one block.
 *  G5. The geometry changes when no command of the scrub is in flight: it may read, or write, the old last copy.
 *  G6. The memory for the larger index is taken before anything is written. Who had none for it afterwards would go on
 *      with the old geometry on a volume that has grown, and write its last copy to where a file's data may be.
 */
#include "metadata/alloc.h"
#include "metadata/image.h"

#define IN_PLACE_FIRST 1u
#define IN_PLACE_COPY 2u
#define GROUPS_AT_ONCE (100u * (uint32_t)SUMMARY_PER_BLOCK) /* their summary fits into one operation */

/* What of a superblock follows from the size. */
static void set_geometry(struct disk_super *s, uint64_t bytes)
{
	uint64_t cluster = le32_get(s->cluster_bytes), clusters = bytes / cluster;
	uint64_t groups = (clusters + GROUP_CLUSTERS - 1) / GROUP_CLUSTERS;

	s->volume_bytes = le64_of(bytes);
	s->block_count = le64_of(bytes / BLOCK_SIZE);
	s->cluster_count = le64_of(clusters);
	s->group_count = le64_of(groups);
	s->summary_blocks = le64_of((groups + SUMMARY_PER_BLOCK - 1) / SUMMARY_PER_BLOCK);
	s->reserve_clusters = le64_of(image_reserve(bytes, (uint32_t)cluster));
}

/* The largest size for which there is room in the fixed areas. */
static uint64_t bytes_max(const struct disk_super *s)
{
	uint64_t summary = le64_get(s->group_start) - le64_get(s->summary_start);
	uint64_t groups = le64_get(s->journal_start) - le64_get(s->group_start);
	uint64_t bytes;

	if (groups > summary * SUMMARY_PER_BLOCK)
		groups = summary * SUMMARY_PER_BLOCK;
	bytes = groups * GROUP_CLUSTERS * le32_get(s->cluster_bytes);
	return bytes < VOLUME_BYTES_MAX ? bytes : VOLUME_BYTES_MAX;
}

/* ------------------------------------------------------------------ the operation */

/* The cluster that holds the superblock's last copy; clusters or more: none does. */
static uint64_t last_cluster(const struct disk_super *s)
{
	return (le64_get(s->block_count) - 1) * BLOCK_SIZE / le32_get(s->cluster_bytes);
}

/* The summary of group g, in a block that may be new. */
static int set_summary(struct txn *t, uint32_t g, uint32_t free, uint32_t flags)
{
	const struct disk_super *was = t->v->geo;
	uint64_t i = g / SUMMARY_PER_BLOCK, blkno = le64_get(was->summary_start) + i;
	struct disk_summary_entry *e;
	struct block *b;
	int err;

	if (i >= le64_get(was->summary_blocks) && g % SUMMARY_PER_BLOCK == 0)
		err = txn_new(t, blkno, MAGIC_SUMMARY, 0, &b);
	else
		err = txn_get(t, blkno, MAGIC_SUMMARY, 0, &b);
	if (err)
		return err;
	txn_dirty(t, b);
	e = &((struct disk_summary *)b->data)->e[g % SUMMARY_PER_BLOCK];
	e->free_clusters = le16_of((uint16_t)free);
	e->flags = le16_of((uint16_t)flags);
	return 0;
}

/* Clusters [from, to) of the group that was the last are free now. */
static int old_group_gains(struct txn *t, uint32_t g, uint32_t from, uint32_t to)
{
	struct block *b;
	int err;

	if (from >= to)
		return 0;
	err = alloc_group_get(t, g, &b);
	if (err)
		return err;
	txn_dirty(t, b);
	alloc_group_give((struct disk_group *)b->data, from, to - from);
	err = alloc_pend(t, (uint64_t)g * GROUP_CLUSTERS + from, to - from, true);
	return err ? err : alloc_group_changed(t, g, b);
}

/* Clusters of group g that are used from the start: its end lies behind the volume's, or the copy is there. */
static int make_last_group(struct txn *t, const struct disk_super *is, uint32_t g)
{
	uint64_t first = (uint64_t)g * GROUP_CLUSTERS, last = last_cluster(is);
	uint32_t end = (uint32_t)(le64_get(is->cluster_count) - first);
	struct disk_group *d;
	struct block *b;
	int err = txn_new(t, le64_get(is->group_start) + g, MAGIC_GROUP, 0, &b);

	if (err)
		return err;
	d = (struct disk_group *)b->data;
	d->free_clusters = le32_of(GROUP_CLUSTERS);
	alloc_group_take(d, end, GROUP_CLUSTERS - end);
	if (last - first < end)
		alloc_group_take(d, (uint32_t)(last - first), 1);
	return set_summary(t, g, le32_get(d->free_clusters), SUMMARY_INIT);
}

/* The volume ends in the same group as before, but later: only where the last copy is has changed. */
static int take_last(struct txn *t, const struct disk_super *is, uint32_t g)
{
	uint64_t last = last_cluster(is);
	struct block *b;
	int err;

	if (last >= le64_get(is->cluster_count))
		return 0;
	err = alloc_group_get(t, g, &b);
	if (err)
		return err;
	txn_dirty(t, b);
	alloc_group_take((struct disk_group *)b->data, (uint32_t)(last % GROUP_CLUSTERS), 1);
	return alloc_group_changed(t, g, b);
}

/* From where on the old last group's clusters are the volume's for the first time. */
static uint32_t gains_from(const struct disk_super *was, uint64_t old_first)
{
	uint64_t from = le64_get(was->cluster_count), last = last_cluster(was);

	/* The old copy is of no use any more. */
	if (last == from - 1)
		from = last;
	return (uint32_t)(from - old_first);
}

static int grow_op(struct txn *t, void *arg)
{
	struct vol *v = arg;
	const struct disk_super *was = v->geo, *is = v->grow.geo;
	uint32_t old_last = (uint32_t)le64_get(was->group_count) - 1;
	uint32_t new_last = (uint32_t)le64_get(is->group_count) - 1;
	uint64_t old_first = (uint64_t)old_last * GROUP_CLUSTERS, end = GROUP_CLUSTERS;
	struct disk_super *s;
	int err;

	if (old_last == new_last)
		end = le64_get(is->cluster_count) - old_first;
	err = old_group_gains(t, old_last, gains_from(was, old_first), (uint32_t)end);
	if (!err && old_last == new_last)
		err = take_last(t, is, old_last);
	for (uint32_t g = old_last + 1; !err && g < new_last; g++)
		err = set_summary(t, g, GROUP_CLUSTERS, 0);
	if (!err && old_last != new_last)
		err = make_last_group(t, is, new_last);
	if (err)
		return err;
	s = txn_super_dirty(t);
	set_geometry(s, le64_get(is->volume_bytes));
	return 0;
}

/* ------------------------------------------------------------------ the index */

/* Groups behind the old end: nothing is used in them but what the end needs. */
static void new_groups(struct vol *v, uint32_t from, const struct disk_super *s)
{
	struct alloc *a = &v->alloc;
	uint64_t last = (le64_get(s->block_count) - 1) * BLOCK_SIZE / le32_get(s->cluster_bytes);

	for (uint32_t g = from; g < a->group_count; g++) {
		uint64_t free = a->clusters - (uint64_t)g * GROUP_CLUSTERS;

		if (g + 1 < a->group_count)
			alloc_index_set(v, g, GROUP_CLUSTERS, 0);
		else
			alloc_index_set(v, g, (uint32_t)(free - (last < a->clusters)), SUMMARY_INIT);
	}
}

/* The reserve is elsewhere now: what was not found may be there, and its chunks are for data. */
static void old_groups(struct vol *v, uint32_t count, uint64_t reserve_was)
{
	struct alloc *a = &v->alloc;

	for (uint32_t g = 0; g < a->group_count; g++) {
		if (g < count)
			a->groups[g].hints = 0;
		if ((uint64_t)(g + 1) * GROUP_CLUSTERS > reserve_was)
			alloc_whole_guess(a, g);
	}
}

static void index_free(struct vol *v)
{
	struct grow *g = &v->grow;

	mem_free(v->cfg.mem, g->groups, g->group_count * sizeof(*g->groups));
	mem_free(v->cfg.mem, g->sums, g->sum_count * sizeof(*g->sums));
	g->groups = NULL;
	g->sums = NULL;
}

/* G6. */
static int index_alloc(struct vol *v)
{
	struct grow *g = &v->grow;

	g->group_count = (uint32_t)le64_get(g->geo->group_count);
	g->sum_count = (uint32_t)le64_get(g->geo->summary_blocks);
	g->groups = mem_alloc(v->cfg.mem, g->group_count * sizeof(*g->groups));
	g->sums = mem_alloc(v->cfg.mem, g->sum_count * sizeof(*g->sums));
	if (g->groups && g->sums)
		return 0;
	index_free(v);
	return -ENOMEM;
}

static void grow_index(struct vol *v)
{
	struct alloc *a = &v->alloc;
	struct grow *n = &v->grow;
	struct mem *m = v->cfg.mem;
	uint64_t reserve_was = a->reserve_start;
	uint32_t was = a->group_count;

	memcpy(n->groups, a->groups, was * sizeof(*n->groups));
	memcpy(n->sums, a->sums, a->sum_count * sizeof(*n->sums));
	mem_free(m, a->groups, was * sizeof(*n->groups));
	mem_free(m, a->sums, a->sum_count * sizeof(*n->sums));
	a->groups = n->groups;
	a->sums = n->sums;
	n->groups = NULL;
	n->sums = NULL;
	a->group_count = n->group_count;
	a->sum_count = n->sum_count;
	a->clusters = le64_get(n->geo->cluster_count);
	a->reserve_start = (a->clusters - le64_get(n->geo->reserve_clusters)) &
			   ~(uint64_t)(a->chunk_clusters - 1);
	new_groups(v, was, n->geo);
	old_groups(v, was, reserve_was);
}

/* ------------------------------------------------------------------ the steps */

static void end(struct vol *v, int err)
{
	struct grow *g = &v->grow;

	g->state = GROW_IDLE;
	g->err = err;
	index_free(v);
	vol_unstall(v);
	trace(v->cfg.trace, err ? TRACE_ERROR : TRACE_INFO, "grow to %llu bytes: error %d",
		(unsigned long long)g->bytes, err);
}

static void copy_done(struct vol *v, struct vio *io, enum lun_status st)
{
	(void)io;
	csv_assert(st == LUN_OK && v->grow.state == GROW_COPY);
	v->grow.state = GROW_RUN;
	memset(&v->grow.req, 0, sizeof(v->grow.req));
	v->grow.req.call = grow_op;
	v->grow.req.arg = v;
	list_add_tail(&v->grow.req.link, &v->queue);
}

void grow_done(struct vol *v, int err)
{
	csv_assert(v->grow.state == GROW_RUN);
	if (err) {
		end(v, err);
		return;
	}
	v->grow.state = GROW_PLACE;
	v->grow.in_place = 0;
}

int vol_grow(struct vol *v, uint64_t lun_bytes, uint64_t bytes)
{
	struct grow *g = &v->grow;
	uint64_t groups, cluster = le32_get(v->geo->cluster_bytes), last;
	int err;

	if (v->state != VOL_READY || v->cfg.readonly)
		return -EROFS;
	if (g->state != GROW_IDLE)
		return -EBUSY;
	bytes = bytes / BLOCK_SIZE * BLOCK_SIZE;
	if (bytes <= le64_get(v->geo->volume_bytes))
		return -EALREADY;
	if (bytes > lun_bytes || bytes > bytes_max(v->geo))
		return -EFBIG;
	groups = (bytes / cluster + GROUP_CLUSTERS - 1) / GROUP_CLUSTERS;
	if (groups > le64_get(v->geo->group_count) + GROUPS_AT_ONCE)
		bytes = (le64_get(v->geo->group_count) + GROUPS_AT_ONCE) * GROUP_CLUSTERS * cluster;
	memcpy(g->geo, v->super->data, BLOCK_SIZE);
	set_geometry(g->geo, bytes);
	err = index_alloc(v);
	if (err)
		return err;
	last = le64_get(g->geo->block_count) - 1;
	g->geo->h.blkno = le64_of(last);
	verify_seal(g->geo);
	g->bytes = bytes;
	g->lun_bytes = lun_bytes;
	g->err = -EINPROGRESS;
	g->state = GROW_COPY;
	vio_must(v, LUN_WRITE, last, 1, g->geo, copy_done)->fua = true; /* G1 */
	return 0;
}

uint64_t vol_grow_max(const struct vol *v)
{
	return bytes_max(v->geo);
}

int vol_grow_result(struct vol *v)
{
	int err = v->grow.err;

	if (err != -EINPROGRESS)
		v->grow.err = 0;
	return err;
}

bool grow_busy(const struct vol *v)
{
	return v->grow.state != GROW_IDLE;
}

bool grow_holds(const struct vol *v)
{
	return v->grow.state == GROW_PLACE;
}

struct block *grow_places(const struct vol *v)
{
	if (v->grow.state != GROW_PLACE)
		return NULL;
	return v->grow.in_place & IN_PLACE_FIRST ? v->super_copy : v->super;
}

void grow_placed(struct vol *v, const void *image)
{
	const struct disk_super *s = image;
	uint64_t blkno = le64_get(s->h.blkno);

	if (v->grow.state != GROW_PLACE || le64_get(s->volume_bytes) != v->grow.bytes)
		return;
	v->grow.in_place |= blkno == SUPER_BLOCK ? IN_PLACE_FIRST : IN_PLACE_COPY;
}

void grow_step(struct vol *v)
{
	/* G2. */
	if (v->grow.state != GROW_PLACE || v->grow.in_place != (IN_PLACE_FIRST | IN_PLACE_COPY))
		return;
	if (scrub_in_flight(v)) /* G5 */
		return;
	grow_index(v);
	v->grow.geo->h.blkno = v->geo->h.blkno;
	memcpy(v->geo, v->grow.geo, BLOCK_SIZE);
	v->cfg.lun_bytes = v->grow.lun_bytes;
	scrub_grown(v);
	end(v, 0);
}

int grow_create(struct vol *v)
{
	list_init(&v->grow.req.link);
	v->grow.geo = mem_alloc(v->cfg.mem, BLOCK_SIZE);
	return v->grow.geo ? 0 : -ENOMEM;
}

void grow_reset(struct vol *v)
{
	v->grow.state = GROW_IDLE;
	index_free(v);
}

void grow_destroy(struct vol *v)
{
	index_free(v);
	mem_free(v->cfg.mem, v->grow.geo, BLOCK_SIZE);
}
