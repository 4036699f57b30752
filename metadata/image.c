/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "metadata/image.h"

#include <errno.h>
#include <string.h>

#include "csvfs/base/claim.h"
#include "csvfs/base/trace.h"
#include "metadata/verify.h"

#define GROUPS_MAX (1u << 20) /* the index of all groups is in memory: 4 MiB */
#define RESERVE_BYTES_MIN (4ull << 20)
#define RESERVE_BYTES_MAX (64ull << 20)
/* Room in the fixed areas for a volume so many times as large, */
#define GROW_TIMES_MIN 16u
#define GROW_TIMES_MAX 64u
#define GROW_PART 1024u /* the second one if that takes no more than this part of the volume */
#define BATCH 64u /* blocks written at once */

/* What the volume looks like; all in blocks or clusters. */
struct layout {
	const struct sync_dev *dev;
	const struct image_params *p;
	uint64_t bytes, blocks, clusters, groups;
	uint64_t summary_start, summary_blocks, group_start, journal_start, journal_blocks;
	uint64_t data_start, reserve;
	uint32_t cluster;	 /* bytes */
	uint32_t cluster_blocks;
	uint8_t *buf; /* BATCH blocks */
	uint32_t buf_count;
	uint64_t buf_at; /* block number of the first one */
};

static uint64_t round_up(uint64_t v, uint64_t unit)
{
	return (v + unit - 1) / unit * unit;
}

static int refuse(char why[128], const char *text)
{
	(void)trace_format(why, 128, "%s", text);
	return -EINVAL;
}

static uint64_t default_journal(uint64_t bytes)
{
	uint64_t j = bytes / 1024;

	if (j < IMAGE_JOURNAL_BYTES_MIN)
		return IMAGE_JOURNAL_BYTES_MIN;
	return j > (128ull << 20) ? 128ull << 20 : round_up(j, BLOCK_SIZE);
}

uint64_t image_reserve(uint64_t bytes, uint32_t cluster_bytes)
{
	uint64_t reserve = bytes / 64;

	if (reserve < RESERVE_BYTES_MIN)
		reserve = RESERVE_BYTES_MIN;
	if (reserve > RESERVE_BYTES_MAX)
		reserve = RESERVE_BYTES_MAX;
	/* It begins with a chunk. */
	reserve = round_up(reserve, CHUNK_SIZE) + bytes % CHUNK_SIZE / cluster_bytes * cluster_bytes;
	return reserve / cluster_bytes;
}

/* For how many groups there is to be room. */
static uint64_t group_room(const struct layout *l)
{
	uint64_t room = l->groups * GROW_TIMES_MAX;

	if (room > l->blocks / GROW_PART)
		room = l->blocks / GROW_PART;
	if (room < l->groups * GROW_TIMES_MIN)
		room = l->groups * GROW_TIMES_MIN;
	return room < GROUPS_MAX ? room : GROUPS_MAX;
}

static int layout_make(struct layout *l, char why[128])
{
	const struct image_params *p = l->p;
	uint64_t journal, room;

	l->bytes = p->volume_bytes ? p->volume_bytes : l->dev->bytes / BLOCK_SIZE * BLOCK_SIZE;
	l->cluster = p->cluster_bytes ? p->cluster_bytes : CLUSTER_DEFAULT;
	journal = p->journal_bytes ? p->journal_bytes : default_journal(l->bytes);
	if (l->cluster < CLUSTER_MIN || l->cluster > CLUSTER_MAX || l->cluster & (l->cluster - 1))
		return refuse(why, "the cluster size must be a power of two from 4 KiB to 1 MiB");
	if (l->bytes % BLOCK_SIZE || l->bytes < IMAGE_BYTES_MIN || l->bytes > VOLUME_BYTES_MAX)
		return refuse(why, "the volume must be from 16 MiB to 256 TiB, a multiple of 4 KiB");
	if (l->bytes > l->dev->bytes)
		return refuse(why, "the device is smaller than the volume would be");
	if (journal % BLOCK_SIZE || journal < IMAGE_JOURNAL_BYTES_MIN ||
		journal > IMAGE_JOURNAL_BYTES_MAX || journal > l->bytes / 2)
		return refuse(why, "the journal must be from 4 MiB to 1 GiB and at most half the volume");
	l->cluster_blocks = l->cluster / BLOCK_SIZE;
	l->blocks = l->bytes / BLOCK_SIZE;
	l->clusters = l->bytes / l->cluster;
	l->groups = (l->clusters + GROUP_CLUSTERS - 1) / GROUP_CLUSTERS;
	if (l->groups > GROUPS_MAX)
		return refuse(why, "a volume of this size needs larger clusters");
	l->summary_start = REPLY_BLOCK + NODES_MAX;
	l->summary_blocks = (l->groups + SUMMARY_PER_BLOCK - 1) / SUMMARY_PER_BLOCK;
	room = group_room(l);
	l->group_start = l->summary_start + (room + SUMMARY_PER_BLOCK - 1) / SUMMARY_PER_BLOCK;
	l->journal_start = l->group_start + room;
	l->journal_blocks = journal / BLOCK_SIZE;
	l->data_start = round_up(l->journal_start + l->journal_blocks, CHUNK_BLOCKS);
	l->reserve = image_reserve(l->bytes, l->cluster);
	if (l->data_start * BLOCK_SIZE + l->reserve * l->cluster + (2u << 20) > l->bytes)
		return refuse(why, "the volume is too small for its journal");
	return 0;
}

/* ------------------------------------------------------------------ writing */

static int write_out(struct layout *l)
{
	int err = 0;

	if (l->buf_count)
		err = l->dev->write(l->dev->ctx, l->buf_at * BLOCK_SIZE, l->buf,
			(uint64_t)l->buf_count * BLOCK_SIZE, false);
	l->buf_count = 0;
	return err;
}

/* The next block to fill; consecutive ones are written together. NULL: *err. */
static void *next_block(struct layout *l, uint32_t magic, uint64_t blkno, int *err)
{
	uint8_t *b;

	*err = 0;
	if (l->buf_count == BATCH || (l->buf_count && l->buf_at + l->buf_count != blkno))
		*err = write_out(l);
	if (*err)
		return NULL;
	if (!l->buf_count)
		l->buf_at = blkno;
	b = l->buf + (size_t)l->buf_count++ * BLOCK_SIZE;
	memset(b, 0, BLOCK_SIZE);
	verify_init_header(b, magic, l->p->uuid, blkno, 0);
	return b;
}

static void copy_text(char *out, size_t room, const char *text)
{
	if (text)
		memcpy(out, text, strlen(text) < room ? strlen(text) : room - 1);
}

static int write_super(struct layout *l, uint64_t blkno)
{
	const struct image_params *p = l->p;
	struct disk_super *s;
	int err;

	s = next_block(l, MAGIC_SUPER, blkno, &err);
	if (!s)
		return err;
	s->version = le32_of(FORMAT_VERSION);
	s->cluster_bytes = le32_of(l->cluster);
	s->volume_bytes = le64_of(l->bytes);
	s->block_count = le64_of(l->blocks);
	s->cluster_count = le64_of(l->clusters);
	s->summary_start = le64_of(l->summary_start);
	s->summary_blocks = le64_of(l->summary_blocks);
	s->group_start = le64_of(l->group_start);
	s->group_count = le64_of(l->groups);
	s->journal_start = le64_of(l->journal_start);
	s->journal_blocks = le64_of(l->journal_blocks);
	s->reply_start = le64_of(REPLY_BLOCK);
	s->reply_blocks = le64_of(NODES_MAX);
	s->data_start = le64_of(l->data_start);
	s->created_ns = le64_of((uint64_t)p->time_ns);
	s->reserve_clusters = le64_of(l->reserve);
	memcpy(s->dir_hash_key, p->dir_hash_key, 16);
	copy_text(s->label, sizeof(s->label), p->label);
	copy_text(s->cluster_name, sizeof(s->cluster_name), p->cluster_name);
	copy_text(s->lun_identity, sizeof(s->lun_identity), p->lun_identity);
	verify_seal(s);
	return write_out(l);
}

static int write_replies(struct layout *l)
{
	int err = 0;

	for (uint64_t i = 0; i < NODES_MAX; i++) {
		void *b = next_block(l, MAGIC_REPLY, REPLY_BLOCK + i, &err);

		if (!b)
			return err;
		verify_seal(b);
	}
	return write_out(l);
}

/* Clusters of the group that are in use from the start, or do not exist: a bitmap's worth. */
static uint32_t group_used(const struct layout *l, uint64_t g, struct disk_group *d)
{
	uint64_t fixed = l->data_start / l->cluster_blocks;
	uint64_t last = (l->blocks - 1) / l->cluster_blocks; /* of the superblock at the end */
	uint32_t used = 0;

	for (uint32_t i = 0; i < GROUP_CLUSTERS; i++) {
		uint64_t c = g * GROUP_CLUSTERS + i;

		if (c >= fixed && c < l->clusters && c != last)
			continue;
		used++;
		if (d)
			d->used[i / 8] |= (uint8_t)(1u << (i % 8));
	}
	return used;
}

/* Whole groups of free clusters are not written: the summary says so. */
static bool group_is_whole(const struct layout *l, uint64_t g)
{
	uint64_t first = g * GROUP_CLUSTERS * l->cluster_blocks;

	return first >= l->data_start && g + 1 < l->groups;
}

static int write_summary(struct layout *l)
{
	int err = 0;

	for (uint64_t i = 0; i < l->summary_blocks; i++) {
		struct disk_summary *s = next_block(l, MAGIC_SUMMARY, l->summary_start + i, &err);

		if (!s)
			return err;
		for (uint64_t k = 0; k < SUMMARY_PER_BLOCK; k++) {
			uint64_t g = i * SUMMARY_PER_BLOCK + k;
			bool whole = g < l->groups && group_is_whole(l, g);

			if (g >= l->groups)
				break;
			s->e[k].free_clusters = le16_of((uint16_t)(
				GROUP_CLUSTERS - (whole ? 0 : group_used(l, g, NULL))));
			s->e[k].flags = le16_of((uint16_t)(whole ? 0 : SUMMARY_INIT));
		}
		verify_seal(s);
	}
	return write_out(l);
}

static int write_groups(struct layout *l)
{
	int err = 0;

	for (uint64_t g = 0; g < l->groups; g++) {
		struct disk_group *d;

		if (group_is_whole(l, g)) {
			g = l->groups - 2; /* the last one is next */
			continue;
		}
		d = next_block(l, MAGIC_GROUP, l->group_start + g, &err);
		if (!d)
			return err;
		d->free_clusters = le32_of(GROUP_CLUSTERS - group_used(l, g, d));
		verify_seal(d);
	}
	return write_out(l);
}

static int write_journal(struct layout *l)
{
	int err = 0;

	for (uint64_t i = 0; i < JOURNAL_HEADS; i++) {
		struct disk_jhead *h = next_block(l, MAGIC_JHEAD, l->journal_start + i, &err);

		if (!h)
			return err;
		h->h.epoch = le64_of(1);
		h->count = le64_of(i);
		h->tail_seq = le64_of(1);
		h->tail_lsn = le64_of(1);
		h->head_seq = le64_of(1);
		h->head_lsn = le64_of(1);
		verify_seal(h);
	}
	/* What a format with the same uuid may have left behind as the first record. */
	err = write_out(l);
	if (err)
		return err;
	memset(l->buf, 0, BLOCK_SIZE);
	return l->dev->write(l->dev->ctx, (l->journal_start + JOURNAL_HEADS) * BLOCK_SIZE, l->buf,
		BLOCK_SIZE, false);
}

static int write_claims(struct layout *l)
{
	struct claim c;
	int err = 0;

	memset(&c, 0, sizeof(c));
	memcpy(c.uuid, l->p->uuid, 16);
	c.epoch = 1;
	c.state = CLAIM_CLEAN;
	if (l->p->before)
		claim_keep(&c, l->p->before);
	for (uint64_t i = 0; i < 2 && !err; i++) {
		claim_encode(&c, l->buf);
		c.heartbeat++; /* which of the two is newer must be plain */
		err = l->dev->write(l->dev->ctx, (CLAIM_BLOCK + i) * BLOCK_SIZE, l->buf, BLOCK_SIZE,
			false);
	}
	return err;
}

int image_format(const struct sync_dev *dev, const struct image_params *p, char why[128])
{
	uint8_t buf[BATCH * BLOCK_SIZE] __attribute__((aligned(4096)));
	struct layout l = {.dev = dev, .p = p, .buf = buf};
	int err = layout_make(&l, why);

	if (err)
		return err;
	/* Superblocks last: what was begun and not finished is no volume. */
	memset(buf, 0, REPLY_BLOCK * BLOCK_SIZE);
	err = dev->write(dev->ctx, 0, buf, REPLY_BLOCK * BLOCK_SIZE, false);
	if (!err)
		err = dev->write(dev->ctx, (l.blocks - 1) * BLOCK_SIZE, buf, BLOCK_SIZE, false);
	if (!err)
		err = write_claims(&l);
	if (!err)
		err = write_replies(&l);
	if (!err)
		err = write_summary(&l);
	if (!err)
		err = write_groups(&l);
	if (!err)
		err = write_journal(&l);
	if (!err)
		err = dev->flush(dev->ctx);
	if (!err)
		err = write_super(&l, l.blocks - 1);
	if (!err)
		err = write_super(&l, SUPER_COPY_BLOCK);
	if (!err)
		err = write_super(&l, SUPER_BLOCK);
	if (!err)
		err = dev->flush(dev->ctx);
	if (err == -ENOSPC)
		(void)trace_format(why, 128, "cannot write to the device: no space left on it");
	else if (err)
		(void)trace_format(why, 128, "cannot write to the device: error %d", err);
	return err;
}
