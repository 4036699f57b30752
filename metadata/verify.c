/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "metadata/verify.h"

#include <string.h>

#include "csvfs/base/crc32c.h"
#include "metadata/verify_inode.h"

static uint32_t block_crc(const void *block)
{
	const uint8_t zero[4] = {0};
	const size_t at = offsetof(struct disk_header, crc);
	uint32_t crc = crc32c(0, block, at);

	crc = crc32c(crc, zero, 4);
	return crc32c(crc, (const uint8_t *)block + at + 4, BLOCK_SIZE - at - 4);
}

void verify_seal(void *block)
{
	struct disk_header *h = block;

	h->crc = le32_of(block_crc(block));
}

void verify_init_header(
	void *block, uint32_t magic, const uint8_t uuid[16], uint64_t blkno, uint64_t owner)
{
	struct disk_header *h = block;

	memset(h, 0, sizeof(*h));
	h->magic = le32_of(magic);
	memcpy(h->uuid, uuid, 16);
	h->blkno = le64_of(blkno);
	h->owner = le64_of(owner);
}

static enum problem found(
	struct verify_report *rep, enum problem p, uint64_t value, uint64_t expected)
{
	rep->problem = p;
	rep->found = value;
	rep->expected = expected;
	return p;
}

static bool known_magic(uint32_t magic)
{
	static const uint32_t known[] = {MAGIC_SUPER, MAGIC_SUMMARY, MAGIC_GROUP, MAGIC_CHUNK,
		MAGIC_REPLY, MAGIC_JHEAD, MAGIC_INODE, MAGIC_TREE, MAGIC_XATTR};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i] == magic)
			return true;
	return false;
}

static uint64_t uuid_word(const uint8_t uuid[16])
{
	le64 w;

	memcpy(&w, uuid, 8);
	return le64_get(w);
}

static enum problem header(const void *block, uint32_t magic, const uint8_t uuid[16],
	uint64_t blkno, bool just_sealed, struct verify_report *rep)
{
	const struct disk_header *h = block;
	uint32_t is = le32_get(h->magic);

	/* The type first: what was never one of our blocks has no checksum to speak of. */
	if (magic ? is != magic : !known_magic(is))
		return found(rep, PROBLEM_HEADER_MAGIC, is, magic);
	if (!just_sealed && le32_get(h->crc) != block_crc(block))
		return found(rep, PROBLEM_HEADER_CRC, le32_get(h->crc), block_crc(block));
	if (uuid && memcmp(uuid, h->uuid, 16))
		return found(rep, PROBLEM_HEADER_UUID, uuid_word(h->uuid), uuid_word(uuid));
	if (le64_get(h->blkno) != blkno)
		return found(rep, PROBLEM_HEADER_BLKNO, le64_get(h->blkno), blkno);
	if (le64_get(h->reserved))
		return found(rep, PROBLEM_RESERVED, le64_get(h->reserved), 0);
	return found(rep, PROBLEM_NONE, 0, 0);
}

enum problem verify_header(const void *block, uint32_t magic, const uint8_t uuid[16],
	uint64_t blkno, struct verify_report *rep)
{
	return header(block, magic, uuid, blkno, false, rep);
}

/* ------------------------------------------------------------------ by type */

/* Bits of a word, added up in pairs, nibbles, bytes. */
static uint32_t bits_of(uint64_t w)
{
	w -= w >> 1 & 0x5555555555555555ull;
	w = (w & 0x3333333333333333ull) + (w >> 2 & 0x3333333333333333ull);
	w = (w + (w >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return (uint32_t)(w * 0x0101010101010101ull >> 56);
}

static uint32_t bits_set(const uint8_t *map, uint32_t bytes)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < bytes; i += 8) {
		uint64_t w;

		memcpy(&w, map + i, 8);
		n += bits_of(w);
	}
	return n;
}

static bool is_power_of_two(uint64_t v)
{
	return v && !(v & (v - 1));
}

static bool has_end(const char *s, size_t bytes)
{
	return memchr(s, 0, bytes) != NULL;
}

/* Places of the fixed areas: each follows the one before, all are within the volume. */
static enum problem verify_areas(const struct disk_super *s, struct verify_report *rep)
{
	uint64_t blocks = le64_get(s->block_count);
	uint64_t clusters = le64_get(s->cluster_count);
	uint64_t groups = (clusters + GROUP_CLUSTERS - 1) / GROUP_CLUSTERS;
	uint64_t at = REPLY_BLOCK;

	if (le64_get(s->reply_start) != at || le64_get(s->reply_blocks) != NODES_MAX)
		return found(rep, PROBLEM_SUPER_GEOMETRY, le64_get(s->reply_start), at);
	at += NODES_MAX;
	if (le64_get(s->group_count) != groups)
		return found(rep, PROBLEM_SUPER_GEOMETRY, le64_get(s->group_count), groups);
	if (le64_get(s->summary_start) != at)
		return found(rep, PROBLEM_SUPER_GEOMETRY, le64_get(s->summary_start), at);
	if (le64_get(s->summary_blocks) != (groups + SUMMARY_PER_BLOCK - 1) / SUMMARY_PER_BLOCK)
		return found(rep, PROBLEM_SUPER_GEOMETRY, le64_get(s->summary_blocks), groups);
	at += le64_get(s->summary_blocks);
	/* Behind these two there is room to grow. */
	if (le64_get(s->group_start) < at || le64_get(s->group_start) >= blocks)
		return found(rep, PROBLEM_SUPER_GEOMETRY, le64_get(s->group_start), at);
	at = le64_get(s->group_start) + groups;
	if (le64_get(s->journal_start) < at || le64_get(s->journal_start) >= blocks)
		return found(rep, PROBLEM_SUPER_GEOMETRY, le64_get(s->journal_start), at);
	at = le64_get(s->journal_start);
	if (le64_get(s->journal_blocks) < (4u << 20) / BLOCK_SIZE ||
		le64_get(s->journal_blocks) > (1u << 30) / BLOCK_SIZE)
		return found(rep, PROBLEM_SUPER_GEOMETRY, le64_get(s->journal_blocks), 1024);
	at += le64_get(s->journal_blocks);
	at = (at + CHUNK_BLOCKS - 1) & ~(uint64_t)(CHUNK_BLOCKS - 1);
	if (le64_get(s->data_start) != at || at >= blocks)
		return found(rep, PROBLEM_SUPER_GEOMETRY, le64_get(s->data_start), at);
	return PROBLEM_NONE;
}

static enum problem verify_super_content(const struct disk_super *s, struct verify_report *rep)
{
	uint64_t bytes = le64_get(s->volume_bytes);
	uint32_t cluster = le32_get(s->cluster_bytes);

	if (le32_get(s->version) != FORMAT_VERSION)
		return found(rep, PROBLEM_SUPER_VERSION, le32_get(s->version), FORMAT_VERSION);
	if (le64_get(s->incompat) & ~FEATURE_INCOMPAT_KNOWN)
		return found(rep, PROBLEM_SUPER_FEATURE, le64_get(s->incompat),
			FEATURE_INCOMPAT_KNOWN);
	if (!is_power_of_two(cluster) || cluster < CLUSTER_MIN || cluster > CLUSTER_MAX)
		return found(rep, PROBLEM_SUPER_CLUSTER_SIZE, cluster, CLUSTER_DEFAULT);
	if (!bytes || bytes > VOLUME_BYTES_MAX || bytes % BLOCK_SIZE ||
		le64_get(s->block_count) != bytes / BLOCK_SIZE ||
		le64_get(s->cluster_count) != bytes / cluster)
		return found(rep, PROBLEM_SUPER_GEOMETRY, bytes, le64_get(s->block_count));
	if (verify_areas(s, rep) != PROBLEM_NONE)
		return rep->problem;
	if (le64_get(s->reserve_clusters) > le64_get(s->cluster_count))
		return found(rep, PROBLEM_SUPER_RESERVE, le64_get(s->reserve_clusters),
			le64_get(s->cluster_count));
	if (!has_end(s->label, sizeof(s->label)) ||
		!has_end(s->cluster_name, sizeof(s->cluster_name)) ||
		!has_end(s->lun_identity, sizeof(s->lun_identity)))
		return found(rep, PROBLEM_SUPER_STRING, 0, 0);
	/* 0: the root is made by the first open. */
	if ((le64_get(s->root_ino) >> 3) >= le64_get(s->block_count) ||
		(le64_get(s->root_ino) && (le64_get(s->root_ino) & 7) == 0))
		return found(rep, PROBLEM_SUPER_ROOT, le64_get(s->root_ino), 0);
	if (le64_get(s->orphan_root) >= le64_get(s->block_count))
		return found(rep, PROBLEM_SUPER_ROOT, le64_get(s->orphan_root), 0);
	if (le64_get(s->intent_root) >= le64_get(s->block_count))
		return found(rep, PROBLEM_SUPER_ROOT, le64_get(s->intent_root), 0);
	return found(rep, PROBLEM_NONE, 0, 0);
}

enum problem verify_super(
	const void *block, uint64_t blkno, uint64_t lun_bytes, struct verify_report *rep)
{
	const struct disk_super *s = block;

	if (verify_header(block, MAGIC_SUPER, NULL, blkno, rep) != PROBLEM_NONE)
		return rep->problem;
	if (verify_super_content(s, rep) != PROBLEM_NONE)
		return rep->problem;
	if (lun_bytes && le64_get(s->volume_bytes) > lun_bytes)
		return found(
			rep, PROBLEM_SUPER_TRUNCATED, lun_bytes, le64_get(s->volume_bytes));
	return PROBLEM_NONE;
}

static enum problem verify_summary(const struct disk_summary *s, struct verify_report *rep)
{
	const uint32_t known = SUMMARY_INIT | SUMMARY_META_FREE | SUMMARY_INODE_FREE;

	for (uint32_t i = 0; i < SUMMARY_PER_BLOCK; i++) {
		if (le16_get(s->e[i].free_clusters) > GROUP_CLUSTERS)
			return found(rep, PROBLEM_SUMMARY_FREE, le16_get(s->e[i].free_clusters),
				GROUP_CLUSTERS);
		if (le16_get(s->e[i].flags) & ~known)
			return found(rep, PROBLEM_SUMMARY_FLAGS, le16_get(s->e[i].flags), known);
	}
	return PROBLEM_NONE;
}

static enum problem verify_group(const struct disk_group *g, struct verify_report *rep)
{
	uint32_t free = GROUP_CLUSTERS - bits_set(g->used, GROUP_BITMAP_BYTES);
	uint32_t meta = bits_set(g->meta, GROUP_BITMAP_BYTES);

	if (le32_get(g->free_clusters) != free)
		return found(rep, PROBLEM_GROUP_FREE, le32_get(g->free_clusters), free);
	if (le32_get(g->meta_chunks) != meta)
		return found(rep, PROBLEM_GROUP_META_COUNT, le32_get(g->meta_chunks), meta);
	for (uint32_t i = 0; i < GROUP_BITMAP_BYTES; i++) {
		if (g->inode[i] & ~g->meta[i])
			return found(rep, PROBLEM_GROUP_INODE_CHUNK, g->inode[i], g->meta[i]);
		if (g->meta_free[i] & ~g->meta[i])
			return found(rep, PROBLEM_GROUP_META_FREE, g->meta_free[i], g->meta[i]);
	}
	return PROBLEM_NONE;
}

static enum problem verify_chunk(const struct disk_chunk *c, struct verify_report *rep)
{
	uint32_t used = bits_set(c->used, sizeof(c->used));

	if (le32_get(c->used_blocks) != used)
		return found(rep, PROBLEM_CHUNK_COUNT, le32_get(c->used_blocks), used);
	if (!(c->used[0] & 1))
		return found(rep, PROBLEM_CHUNK_SELF, c->used[0], 1);
	if (le32_get(c->is_inode) > 1)
		return found(rep, PROBLEM_CHUNK_KIND, le32_get(c->is_inode), 1);
	for (uint32_t i = 0; i < CHUNK_BLOCKS; i++) {
		bool may = i && le32_get(c->is_inode) && (c->used[i / 8] >> (i % 8) & 1);

		/* A used block of an inode chunk has at least one inode, else it would be free. */
		if (c->slots[i] & (may ? 1 : 0xff))
			return found(rep, PROBLEM_CHUNK_SLOTS, c->slots[i], i);
		if (may && !c->slots[i])
			return found(rep, PROBLEM_CHUNK_SLOTS, 0, i);
	}
	return PROBLEM_NONE;
}

static enum problem verify_reply(const struct disk_reply_block *r, struct verify_report *rep)
{
	if (!le64_get(r->life))
		return PROBLEM_NONE;
	for (uint32_t i = 0; i < SLOTS_MAX; i++)
		if ((int32_t)le32_get(r->e[i].err) > 0)
			return found(rep, PROBLEM_REPLY, le32_get(r->e[i].err), 0);
	return PROBLEM_NONE;
}

static enum problem verify_jhead(const struct disk_jhead *h, struct verify_report *rep)
{
	if (le64_get(h->head_seq) < le64_get(h->tail_seq))
		return found(rep, PROBLEM_JOURNAL_ORDER, le64_get(h->head_seq),
			le64_get(h->tail_seq));
	if (le64_get(h->head_lsn) < le64_get(h->tail_lsn) || !le64_get(h->tail_lsn))
		return found(rep, PROBLEM_JOURNAL_ORDER, le64_get(h->head_lsn),
			le64_get(h->tail_lsn));
	return PROBLEM_NONE;
}

enum problem verify_content(
	const void *block, const struct disk_super *super, struct verify_report *rep)
{
	const struct disk_header *h = block;

	found(rep, PROBLEM_NONE, 0, 0);
	switch (le32_get(h->magic)) {
	case MAGIC_SUPER: return verify_super_content(block, rep);
	case MAGIC_SUMMARY: return verify_summary(block, rep);
	case MAGIC_GROUP: return verify_group(block, rep);
	case MAGIC_CHUNK: return verify_chunk(block, rep);
	case MAGIC_REPLY: return verify_reply(block, rep);
	case MAGIC_JHEAD: return verify_jhead(block, rep);
	case MAGIC_INODE: return verify_inodes(block, super, rep);
	case MAGIC_TREE: return verify_tree(block, super, rep);
	case MAGIC_XATTR: return verify_value(block, super, rep);
	}
	return PROBLEM_NONE;
}

enum problem verify_block(const void *block, uint32_t magic, uint64_t blkno,
	const struct disk_super *super, struct verify_report *rep)
{
	if (verify_header(block, magic, super ? super->h.uuid : NULL, blkno, rep) != PROBLEM_NONE)
		return rep->problem;
	return verify_content(block, super, rep);
}

enum problem verify_sealed(const void *block, uint32_t magic, uint64_t blkno,
	const struct disk_super *super, struct verify_report *rep)
{
	if (header(block, magic, super->h.uuid, blkno, true, rep) != PROBLEM_NONE)
		return rep->problem;
	return verify_content(block, super, rep);
}

enum problem verify_jrec(const void *block, const uint8_t uuid[16], struct verify_report *rep)
{
	const struct disk_jrec *r = block;

	if (le32_get(r->magic) != MAGIC_JREC)
		return found(rep, PROBLEM_HEADER_MAGIC, le32_get(r->magic), MAGIC_JREC);
	if (le32_get(r->crc) != block_crc(block))
		return found(rep, PROBLEM_HEADER_CRC, le32_get(r->crc), block_crc(block));
	if (memcmp(uuid, r->uuid, 16))
		return found(rep, PROBLEM_HEADER_UUID, uuid_word(r->uuid), uuid_word(uuid));
	if (le32_get(r->count) > JREC_IMAGES_MAX)
		return found(
			rep, PROBLEM_JOURNAL_RECORD, le32_get(r->count), JREC_IMAGES_MAX);
	if (le32_get(r->flags) & ~(JREC_FIRST | JREC_LAST))
		return found(rep, PROBLEM_JOURNAL_RECORD, le32_get(r->flags), 3);
	return found(rep, PROBLEM_NONE, 0, 0);
}
