/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "metadata/fields.h"

#include <string.h>

#include "csvfs/base/claim.h"
#include "csvfs/base/crc32c.h"
#include "metadata/format_inode.h"

/* One value; an array of values; a member of an array of structs. */
#define F(st, member, name, type)                                                                  \
	{name, type, offsetof(st, member), 1, 0, 0, sizeof(((st *)0)->member)}
#define ARRAY(st, member, name, type, n, stride, first)                                            \
	{name, type, offsetof(st, member), n, stride, first, 0}
#define BITS(st, member, name, n) {name, FIELD_BIT, offsetof(st, member), n, 0, 0, 0}

#define HEADER                                                                                     \
	F(struct disk_header, magic, "magic", FIELD_HEX32),                                        \
		F(struct disk_header, crc, "crc", FIELD_HEX32),                                    \
		F(struct disk_header, uuid, "uuid", FIELD_UUID),                                   \
		F(struct disk_header, blkno, "blkno", FIELD_U64),                                  \
		F(struct disk_header, owner, "owner", FIELD_U64),                                  \
		F(struct disk_header, lsn, "lsn", FIELD_U64),                                      \
		F(struct disk_header, epoch, "epoch", FIELD_U64)

#define S struct disk_super
static const struct field super_fields[] = {
	HEADER,
	F(S, version, "version", FIELD_U32),
	F(S, cluster_bytes, "cluster_bytes", FIELD_U32),
	F(S, volume_bytes, "volume_bytes", FIELD_U64),
	F(S, block_count, "block_count", FIELD_U64),
	F(S, cluster_count, "cluster_count", FIELD_U64),
	F(S, compat, "compat", FIELD_HEX64),
	F(S, incompat, "incompat", FIELD_HEX64),
	F(S, rocompat, "rocompat", FIELD_HEX64),
	F(S, summary_start, "summary_start", FIELD_U64),
	F(S, summary_blocks, "summary_blocks", FIELD_U64),
	F(S, group_start, "group_start", FIELD_U64),
	F(S, group_count, "group_count", FIELD_U64),
	F(S, journal_start, "journal_start", FIELD_U64),
	F(S, journal_blocks, "journal_blocks", FIELD_U64),
	F(S, reply_start, "reply_start", FIELD_U64),
	F(S, reply_blocks, "reply_blocks", FIELD_U64),
	F(S, data_start, "data_start", FIELD_U64),
	F(S, root_ino, "root_ino", FIELD_U64),
	F(S, orphan_root, "orphan_root", FIELD_U64),
	F(S, intent_root, "intent_root", FIELD_U64),
	F(S, created_ns, "created_ns", FIELD_TIME),
	F(S, reserve_clusters, "reserve_clusters", FIELD_U64),
	F(S, dir_hash_key, "dir_hash_key", FIELD_BYTES),
	F(S, label, "label", FIELD_STRING),
	F(S, cluster_name, "cluster_name", FIELD_STRING),
	F(S, lun_identity, "lun_identity", FIELD_STRING),
};
#undef S

static const struct field summary_fields[] = {
	HEADER,
	ARRAY(struct disk_summary, e[0].free_clusters, "free_clusters", FIELD_U16,
		SUMMARY_PER_BLOCK, sizeof(struct disk_summary_entry), 0),
	ARRAY(struct disk_summary, e[0].flags, "flags", FIELD_U16, SUMMARY_PER_BLOCK,
		sizeof(struct disk_summary_entry), 0),
};

static const struct field group_fields[] = {
	HEADER,
	F(struct disk_group, free_clusters, "free_clusters", FIELD_U32),
	F(struct disk_group, meta_chunks, "meta_chunks", FIELD_U32),
	BITS(struct disk_group, used, "used", GROUP_CLUSTERS),
	BITS(struct disk_group, meta, "meta", GROUP_CLUSTERS),
	BITS(struct disk_group, inode, "inode", GROUP_CLUSTERS),
	BITS(struct disk_group, meta_free, "meta_free", GROUP_CLUSTERS),
};

static const struct field chunk_fields[] = {
	HEADER,
	F(struct disk_chunk, used_blocks, "used_blocks", FIELD_U32),
	F(struct disk_chunk, is_inode, "is_inode", FIELD_U32),
	BITS(struct disk_chunk, used, "used", CHUNK_BLOCKS),
	ARRAY(struct disk_chunk, slots[0], "slots", FIELD_U8, CHUNK_BLOCKS, 1, 0),
};

#define R struct disk_reply_block
#define REPLY(member, type)                                                                        \
	ARRAY(R, e[0].member, "e." #member, type, SLOTS_MAX, sizeof(struct disk_reply_entry), 1)
static const struct field reply_fields[] = {
	HEADER,
	F(R, life, "life", FIELD_HEX64),
	F(R, node, "node", FIELD_U32),
	REPLY(seq, FIELD_U64),
	REPLY(err, FIELD_U32),
	REPLY(op, FIELD_U32),
	REPLY(ino, FIELD_U64),
	REPLY(generation, FIELD_U64),
	REPLY(off, FIELD_U64),
	REPLY(mode, FIELD_U32),
	REPLY(version_1, FIELD_U64),
};
#undef R

#define H struct disk_jhead
static const struct field jhead_fields[] = {
	HEADER,
	F(H, count, "count", FIELD_U64),
	F(H, tail_seq, "tail_seq", FIELD_U64),
	F(H, tail_pos, "tail_pos", FIELD_U64),
	F(H, tail_lsn, "tail_lsn", FIELD_U64),
	F(H, head_seq, "head_seq", FIELD_U64),
	F(H, head_lsn, "head_lsn", FIELD_U64),
};
#undef H

#define J struct disk_jrec
#define IMAGE(member, type)                                                                        \
	ARRAY(J, image[0].member, "image." #member, type, JREC_IMAGES_MAX,                         \
		sizeof(((J *)0)->image[0]), 0)
static const struct field jrec_fields[] = {
	F(J, magic, "magic", FIELD_HEX32),
	F(J, crc, "crc", FIELD_HEX32),
	F(J, uuid, "uuid", FIELD_UUID),
	F(J, epoch, "epoch", FIELD_U64),
	F(J, seq, "seq", FIELD_U64),
	F(J, lsn, "lsn", FIELD_U64),
	F(J, flags, "flags", FIELD_HEX32),
	F(J, count, "count", FIELD_U32),
	IMAGE(blkno, FIELD_U64),
	IMAGE(crc, FIELD_HEX32),
};
#undef J

#define I struct disk_inode_block
#define INODE(member, type)                                                                        \
	ARRAY(I, slot[0].member, "inode." #member, type, INODES_PER_BLOCK, INODE_BYTES, 1)
static const struct field inode_fields[] = {
	HEADER,
	INODE(ino, FIELD_U64),
	INODE(generation, FIELD_U64),
	INODE(size, FIELD_U64),
	INODE(clusters, FIELD_U64),
	INODE(tree_blocks, FIELD_U64),
	INODE(mode, FIELD_MODE),
	INODE(uid, FIELD_U32),
	INODE(gid, FIELD_U32),
	INODE(nlink, FIELD_U32),
	INODE(rdev, FIELD_HEX32),
	INODE(flags, FIELD_HEX32),
	INODE(atime_ns, FIELD_TIME),
	INODE(mtime_ns, FIELD_TIME),
	INODE(ctime_ns, FIELD_TIME),
	INODE(btime_ns, FIELD_TIME),
	INODE(version, FIELD_U64),
	INODE(parent, FIELD_U64),
	INODE(xattr_root, FIELD_U64),
	INODE(xattr_count, FIELD_U32),
	INODE(xattr_names, FIELD_U32),
};
#undef I

/* Records of a node stand where its slots say: csvdb prints them, this table has the fixed part. */
#define NODE(member, type)                                                                         \
	{"node." #member, type,                                                                    \
		offsetof(struct disk_tree_block, node) + offsetof(struct disk_node, member), 1, 0, \
		0, 0}
#define SLOT(member, type)                                                                         \
	{"slot." #member, type,                                                                    \
		offsetof(struct disk_tree_block, node) + sizeof(struct disk_node) +                \
			offsetof(struct disk_slot, member),                                        \
		(TREE_NODE_BYTES - sizeof(struct disk_node)) / sizeof(struct disk_slot),           \
		sizeof(struct disk_slot), 0, 0}
static const struct field tree_fields[] = {
	HEADER,
	NODE(kind, FIELD_U8),
	NODE(level, FIELD_U8),
	NODE(count, FIELD_U16),
	NODE(heap, FIELD_U16),
	NODE(frag, FIELD_U16),
	SLOT(key, FIELD_HEX64),
	SLOT(off, FIELD_U16),
	SLOT(len, FIELD_U16),
};

static const struct field value_fields[] = {
	HEADER,
	F(struct disk_value_block, index, "index", FIELD_U32),
	F(struct disk_value_block, len, "len", FIELD_U32),
	F(struct disk_value_block, data, "data", FIELD_BYTES),
};

/* As csvfs/base/claim.c writes it; test_check.c compares the two. */
static const struct field claim_fields[] = {
	{"magic", FIELD_HEX32, 0, 1, 0, 0, 4},
	{"crc", FIELD_HEX32, 4, 1, 0, 0, 4},
	{"uuid", FIELD_UUID, 8, 1, 0, 0, 16},
	{"epoch", FIELD_U64, 24, 1, 0, 0, 8},
	{"heartbeat", FIELD_U64, 32, 1, 0, 0, 8},
	{"life", FIELD_HEX64, 40, 1, 0, 0, 8},
	{"state", FIELD_U32, 48, 1, 0, 0, 4},
	{"node", FIELD_U32, 52, 1, 0, 0, 4},
	{"incarnation", FIELD_HEX32, 56, 1, 0, 0, 4},
	{"given_up", FIELD_U32, 60, 1, 0, 0, 4},
	{"name", FIELD_STRING, 64, 1, 0, 0, NODE_NAME_MAX},
	{"given_up.life", FIELD_HEX64, 128, CLAIM_GIVEN_UP_MAX, 16, 0, 8},
	{"given_up.node", FIELD_U32, 136, CLAIM_GIVEN_UP_MAX, 16, 0, 4},
	{"served", FIELD_U64, 1152, 1, 0, 0, 8},
	{"flags", FIELD_HEX32, 1160, 1, 0, 0, 4},
	{"fenced", FIELD_U32, 1164, 1, 0, 0, 4},
	{"fenced.node", FIELD_U32, 1168, CLAIM_FENCED_MAX, 16, 0, 4},
	{"fenced.incarnation", FIELD_HEX32, 1172, CLAIM_FENCED_MAX, 16, 0, 4},
	{"fenced.name_crc", FIELD_HEX32, 1176, CLAIM_FENCED_MAX, 16, 0, 4},
};

#define LAYOUT(magic, name, table) {magic, name, table, sizeof(table) / sizeof((table)[0])}
static const struct block_layout layouts[] = {
	LAYOUT(MAGIC_SUPER, "superblock", super_fields),
	LAYOUT(CLAIM_MAGIC, "claim", claim_fields),
	LAYOUT(MAGIC_SUMMARY, "summary", summary_fields),
	LAYOUT(MAGIC_GROUP, "group", group_fields),
	LAYOUT(MAGIC_CHUNK, "chunk", chunk_fields),
	LAYOUT(MAGIC_REPLY, "reply", reply_fields),
	LAYOUT(MAGIC_JHEAD, "journal-head", jhead_fields),
	LAYOUT(MAGIC_JREC, "journal-record", jrec_fields),
	LAYOUT(MAGIC_INODE, "inode-block", inode_fields),
	LAYOUT(MAGIC_TREE, "tree-node", tree_fields),
	LAYOUT(MAGIC_XATTR, "value-block", value_fields),
};

const struct block_layout *fields_layout(uint32_t i)
{
	return i < sizeof(layouts) / sizeof(layouts[0]) ? &layouts[i] : NULL;
}

const struct block_layout *fields_of(uint32_t magic)
{
	const struct block_layout *l;

	for (uint32_t i = 0; (l = fields_layout(i)); i++)
		if (l->magic == magic)
			return l;
	return NULL;
}

/* Decimal number up to the closing bracket, which must be the end. */
static bool parse_index(const char *s, uint32_t *index)
{
	uint32_t v = 0;

	if (*s == ']')
		return false;
	for (; *s >= '0' && *s <= '9'; s++) {
		if (v > 100000)
			return false;
		v = v * 10 + (uint32_t)(*s - '0');
	}
	*index = v;
	return s[0] == ']' && !s[1];
}

const struct field *field_find(const struct block_layout *l, const char *name, uint32_t *at)
{
	const char *bracket = strchr(name, '[');
	size_t len = bracket ? (size_t)(bracket - name) : strlen(name);
	uint32_t index;

	for (uint32_t i = 0; i < l->field_count; i++) {
		const struct field *f = &l->fields[i];

		if (strlen(f->name) != len || memcmp(f->name, name, len))
			continue;
		index = f->first;
		if (bracket && !parse_index(bracket + 1, &index))
			return NULL;
		if (index < f->first || index - f->first >= f->count)
			return NULL;
		*at = index - f->first;
		return f;
	}
	return NULL;
}

uint32_t field_offset(const struct field *f, uint32_t at)
{
	if (f->type == FIELD_BIT)
		return f->offset + at / 8;
	return f->offset + at * f->stride;
}

uint32_t field_bytes(const struct field *f)
{
	switch (f->type) {
	case FIELD_U8:
	case FIELD_BIT:
		return 1;
	case FIELD_U16:
		return 2;
	case FIELD_U32:
	case FIELD_HEX32:
	case FIELD_MODE:
		return 4;
	case FIELD_U64:
	case FIELD_HEX64:
	case FIELD_TIME:
		return 8;
	case FIELD_UUID:
	case FIELD_STRING:
	case FIELD_BYTES:
		return f->len;
	}
	return 0;
}

bool field_is_number(const struct field *f)
{
	return f->type != FIELD_UUID && f->type != FIELD_STRING && f->type != FIELD_BYTES;
}

bool field_get(const void *block, const struct field *f, uint32_t at, uint64_t *value)
{
	const uint8_t *p = (const uint8_t *)block + field_offset(f, at);
	uint64_t v = 0;

	if (!field_is_number(f))
		return false;
	if (f->type == FIELD_BIT) {
		*value = (p[0] >> (at % 8)) & 1;
		return true;
	}
	for (uint32_t i = field_bytes(f); i-- > 0;)
		v = v << 8 | p[i];
	*value = v;
	return true;
}

bool field_set(void *block, const struct field *f, uint32_t at, uint64_t value)
{
	uint8_t *p = (uint8_t *)block + field_offset(f, at);
	uint32_t bytes = field_bytes(f);

	if (!field_is_number(f))
		return false;
	if (f->type == FIELD_BIT) {
		uint8_t bit = (uint8_t)(1u << (at % 8));

		if (value > 1)
			return false;
		p[0] = value ? (uint8_t)(p[0] | bit) : (uint8_t)(p[0] & ~bit);
		return true;
	}
	if (bytes < 8 && value >> (8 * bytes))
		return false;
	for (uint32_t i = 0; i < bytes; i++)
		p[i] = (uint8_t)(value >> (8 * i));
	return true;
}

/* Every block type has its crc at byte 4, over the whole block with that field zero. */
static uint32_t block_crc(const void *block)
{
	const uint8_t zero[4] = {0};
	uint32_t crc = crc32c(0, block, 4);

	crc = crc32c(crc, zero, 4);
	return crc32c(crc, (const uint8_t *)block + 8, BLOCK_SIZE - 8);
}

void fields_seal(void *block)
{
	le32 crc = le32_of(block_crc(block));

	memcpy((uint8_t *)block + 4, &crc, 4);
}

bool fields_sealed(const void *block)
{
	le32 crc;

	memcpy(&crc, (const uint8_t *)block + 4, 4);
	return le32_get(crc) == block_crc(block);
}
