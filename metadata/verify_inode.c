/* SPDX-License-Identifier: GPL-2.0-or-later */
/* verify_inode.c - see verify_inode.h; the format is format_inode.h's. */
#include "metadata/verify_inode.h"

#include <sys/stat.h>

#include "csvfs/base/fsreq.h"

static enum problem found(
	struct verify_report *rep, enum problem p, uint64_t what, uint64_t expected)
{
	if (rep) {
		rep->problem = p;
		rep->found = what;
		rep->expected = expected;
	}
	return p;
}

static bool all_zero(const uint8_t *p, uint32_t len)
{
	/* Each byte is the one before. */
	return !len || (!p[0] && !memcmp(p, p + 1, len - 1));
}

static uint64_t u64_at(const uint8_t *p)
{
	le64 v;

	memcpy(&v, p, sizeof(v));
	return le64_get(v);
}

/* A block of a tree, of a value, of inodes: between the fixed areas and the end of the volume. */
static bool blkno_possible(uint64_t blkno, const struct disk_super *super)
{
	if (blkno == 0)
		return false;
	return !super ||
	       (blkno >= le64_get(super->data_start) && blkno < le64_get(super->block_count));
}

bool verify_clusters_for_data(const struct disk_super *super, uint64_t start, uint64_t clusters)
{
	const uint64_t blocks = le32_get(super->cluster_bytes) / BLOCK_SIZE;
	const uint64_t last = (le64_get(super->block_count) - 1) / blocks;

	return start >= (le64_get(super->data_start) + blocks - 1) / blocks && start <= last &&
	       clusters <= last - start;
}

static bool ino_possible(uint64_t ino, const struct disk_super *super)
{
	return INO_SLOT(ino) != 0 && blkno_possible(INO_BLOCK(ino), super);
}

/* ------------------------------------------------------------------ records */

static enum problem verify_extent(uint64_t key, const uint8_t *value, uint32_t len,
	const struct disk_super *super, struct verify_report *rep)
{
	uint64_t start, clusters, limit = FILE_BYTES_MAX / CLUSTER_MIN;
	struct disk_extent e;
	uint32_t state;

	if (len != sizeof(e))
		return found(rep, PROBLEM_TREE_RECORD, len, sizeof(e));
	memcpy(&e, value, sizeof(e));
	start = le64_get(e.start);
	clusters = le32_get(e.len);
	state = le32_get(e.state);
	if (clusters == 0 || clusters > EXTENT_LEN_MAX)
		return found(rep, PROBLEM_EXTENT_EMPTY, clusters, EXTENT_LEN_MAX);
	if (state != EXT_UNWRITTEN && state != EXT_WRITTEN && state != EXT_SHARED)
		return found(rep, PROBLEM_EXTENT_STATE, state, EXT_WRITTEN);
	if (super)
		limit = FILE_BYTES_MAX / le32_get(super->cluster_bytes);
	if (key >= limit || clusters > limit - key)
		return found(rep, PROBLEM_EXTENT_BEYOND, key + clusters, limit);
	if (super && (start >= le64_get(super->cluster_count) ||
			     clusters > le64_get(super->cluster_count) - start))
		return found(rep, PROBLEM_EXTENT_RANGE, start, le64_get(super->cluster_count));
	/* Data there would be written over superblocks, claim or journal. */
	if (super && !verify_clusters_for_data(super, start, clusters))
		return found(rep, PROBLEM_CLUSTER_IN_META, start,
			le64_get(super->data_start) * BLOCK_SIZE / le32_get(super->cluster_bytes));
	return PROBLEM_NONE;
}

static enum problem verify_dirent(uint64_t key, const uint8_t *value, uint32_t len,
	const struct disk_super *super, struct verify_report *rep)
{
	const uint8_t *name = value + DIRENT_BYTES;
	uint32_t n;

	if (len <= DIRENT_BYTES || len > DIRENT_BYTES + NAME_BYTES_MAX)
		return found(rep, PROBLEM_TREE_RECORD, len, DIRENT_BYTES + NAME_BYTES_MAX);
	if (key <= COOKIE_INDEX_MAX || key > INT64_MAX)
		return found(rep, PROBLEM_DIRENT_HASH, key, INT64_MAX);
	n = len - DIRENT_BYTES;
	if (memchr(name, 0, n) || memchr(name, '/', n))
		return found(rep, PROBLEM_DIRENT_NAME, n, 0);
	if (name[0] == '.' && (n == 1 || (n == 2 && name[1] == '.')))
		return found(rep, PROBLEM_DIRENT_NAME, n, 0);
	if (!ino_possible(u64_at(value), super))
		return found(rep, PROBLEM_DIRENT_INO, u64_at(value), 0);
	switch (value[8] << 12) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		return PROBLEM_NONE;
	}
	return found(rep, PROBLEM_DIRENT_TYPE, value[8], 0);
}

static enum problem verify_xattr(uint64_t key, const uint8_t *value, uint32_t len,
	const struct disk_super *super, struct verify_report *rep)
{
	struct disk_xattr x;
	uint32_t bytes, blocks, expected;

	if (len < sizeof(x) + 1)
		return found(rep, PROBLEM_TREE_RECORD, len, sizeof(x) + 1);
	if (key <= COOKIE_INDEX_MAX || key > INT64_MAX)
		return found(rep, PROBLEM_XATTR, key, INT64_MAX);
	memcpy(&x, value, sizeof(x));
	bytes = le32_get(x.value_bytes);
	blocks = (bytes + VALUE_BLOCK_BYTES - 1) / VALUE_BLOCK_BYTES;
	if (x.name_bytes == 0 || bytes > XATTR_BYTES_MAX)
		return found(rep, PROBLEM_XATTR, bytes, XATTR_BYTES_MAX);
	if (x.place == XATTR_INLINE && bytes <= XATTR_INLINE_MAX)
		expected = (uint32_t)sizeof(x) + x.name_bytes + bytes;
	else if (x.place == XATTR_BLOCKS && bytes > XATTR_INLINE_MAX)
		expected = (uint32_t)sizeof(x) + x.name_bytes + 8 * blocks;
	else
		return found(rep, PROBLEM_XATTR, x.place, bytes);
	if (len != expected)
		return found(rep, PROBLEM_XATTR, len, expected);
	if (memchr(value + sizeof(x), 0, x.name_bytes))
		return found(rep, PROBLEM_XATTR, x.name_bytes, 0);
	for (uint32_t i = 0; x.place == XATTR_BLOCKS && i < blocks; i++) {
		uint64_t blkno = u64_at(value + sizeof(x) + x.name_bytes + 8 * i);

		if (!blkno_possible(blkno, super))
			return found(rep, PROBLEM_BLKNO_RANGE, blkno, 0);
	}
	return PROBLEM_NONE;
}

static enum problem verify_intent(uint64_t key, const uint8_t *value, uint32_t len,
	const struct disk_super *super, struct verify_report *rep)
{
	struct disk_intent it;
	uint32_t op;

	if (len != sizeof(it))
		return found(rep, PROBLEM_TREE_RECORD, len, sizeof(it));
	memcpy(&it, value, sizeof(it));
	op = le32_get(it.op);
	if (op < INTENT_TRUNCATE || op > INTENT_ZERO)
		return found(rep, PROBLEM_INTENT, op, INTENT_TRUNCATE);
	if (op >= INTENT_PUNCH && le64_get(it.from) >= le64_get(it.to))
		return found(rep, PROBLEM_INTENT, le64_get(it.from), le64_get(it.to));
	return ino_possible(key, super) ? PROBLEM_NONE : found(rep, PROBLEM_INTENT, key, 0);
}

enum problem verify_record(enum tree_kind kind, uint64_t key, const uint8_t *value, uint32_t len,
	const struct disk_super *super, struct verify_report *rep)
{
	switch (kind) {
	case TREE_EXTENTS:
		return verify_extent(key, value, len, super, rep);
	case TREE_DIR:
		return verify_dirent(key, value, len, super, rep);
	case TREE_XATTRS:
		return verify_xattr(key, value, len, super, rep);
	case TREE_ORPHANS:
		if (len != 0)
			return found(rep, PROBLEM_TREE_RECORD, len, 0);
		return ino_possible(key, super) ? PROBLEM_NONE
						: found(rep, PROBLEM_ORPHAN_INO, key, 0);
	case TREE_INTENTS:
		return verify_intent(key, value, len, super, rep);
	}
	return found(rep, PROBLEM_TREE_KIND, kind, 0);
}

/* ------------------------------------------------------------------ nodes */

static enum problem verify_slots(const uint8_t *node, uint32_t bytes,
	const struct disk_super *super, struct verify_report *rep)
{
	const struct disk_node *h = (const struct disk_node *)node;
	const struct disk_slot *s = (const struct disk_slot *)(node + sizeof(*h));
	uint32_t count = le16_get(h->count), heap = le16_get(h->heap), live = 0;
	uint64_t key, last = 0, end = 0;
	enum problem p;

	for (uint32_t i = 0; i < count; i++, s++) {
		uint32_t off = le16_get(s->off), len = le16_get(s->len);

		key = le64_get(s->key);
		if (off < heap || off > bytes || len > bytes - off)
			return found(rep, PROBLEM_TREE_RECORD, off, heap);
		live += len;
		if (i > 0 && key <= last)
			return found(rep, PROBLEM_TREE_ORDER, key, last);
		last = key;
		if (h->level > 0) {
			if (len != sizeof(le64))
				return found(rep, PROBLEM_TREE_RECORD, len, sizeof(le64));
			if (i == 0 && key != 0)
				return found(rep, PROBLEM_TREE_BOUNDS, key, 0);
			if (!blkno_possible(u64_at(node + off), super))
				return found(rep, PROBLEM_BLKNO_RANGE, u64_at(node + off), 0);
			continue;
		}
		p = verify_record(h->kind, key, node + off, len, super, rep);
		if (p)
			return p;
		if (h->kind == TREE_EXTENTS) {
			const struct disk_extent *e = (const struct disk_extent *)(node + off);

			if (key < end)
				return found(rep, PROBLEM_EXTENT_OVERLAP, key, end);
			end = key + le32_get(e->len);
		}
	}
	if (live + le16_get(h->frag) != bytes - heap)
		return found(rep, PROBLEM_TREE_RECORD, live + le16_get(h->frag), bytes - heap);
	return PROBLEM_NONE;
}

enum problem verify_node(const uint8_t *node, uint32_t bytes, uint32_t kind,
	const struct disk_super *super, struct verify_report *rep)
{
	const struct disk_node *h = (const struct disk_node *)node;
	uint32_t count = le16_get(h->count), heap = le16_get(h->heap);

	if (h->kind < TREE_EXTENTS || h->kind > TREE_INTENTS || (kind && h->kind != kind))
		return found(rep, PROBLEM_TREE_KIND, h->kind, kind);
	if (h->level >= TREE_LEVELS_MAX)
		return found(rep, PROBLEM_TREE_LEVEL, h->level, TREE_LEVELS_MAX - 1);
	if (heap > bytes || sizeof(*h) + count * sizeof(struct disk_slot) > heap)
		return found(rep, PROBLEM_TREE_COUNT, count,
			(bytes - sizeof(*h)) / sizeof(struct disk_slot));
	if (h->level > 0 && count == 0)
		return found(rep, PROBLEM_TREE_COUNT, 0, 1);
	return verify_slots(node, bytes, super, rep);
}

enum problem verify_tree(
	const void *block, const struct disk_super *super, struct verify_report *rep)
{
	const struct disk_tree_block *b = block;
	const struct disk_node *h = (const struct disk_node *)b->node;
	uint64_t owner = le64_get(b->h.owner);

	/* Only a leaf root in an inode may be empty. */
	if (le16_get(h->count) == 0)
		return found(rep, PROBLEM_TREE_COUNT, 0, 1);
	if ((owner == 0) != (h->kind == TREE_ORPHANS || h->kind == TREE_INTENTS))
		return found(rep, PROBLEM_HEADER_OWNER, owner, h->kind);
	return verify_node(b->node, TREE_NODE_BYTES, 0, super, rep);
}

/* ------------------------------------------------------------------ inodes */

static enum problem verify_symlink(
	const struct disk_inode *in, const struct disk_super *super, struct verify_report *rep)
{
	uint64_t size = le64_get(in->size), blocks, blkno;

	if (size == 0 || size > SYMLINK_BYTES_MAX)
		return found(rep, PROBLEM_SYMLINK, size, SYMLINK_BYTES_MAX);
	if (size <= INODE_INLINE_BYTES) {
		if (memchr(in->area, 0, size))
			return found(rep, PROBLEM_SYMLINK, 0, size);
		return all_zero(in->area + size, (uint32_t)(INODE_INLINE_BYTES - size))
			       ? PROBLEM_NONE
			       : found(rep, PROBLEM_INODE_INLINE, 0, size);
	}
	blocks = (size + VALUE_BLOCK_BYTES - 1) / VALUE_BLOCK_BYTES;
	for (uint64_t i = 0; i < blocks; i++) {
		blkno = u64_at(in->area + 8 * i);
		if (!blkno_possible(blkno, super))
			return found(rep, PROBLEM_BLKNO_RANGE, blkno, 0);
	}
	return all_zero(in->area + 8 * blocks, (uint32_t)(INODE_INLINE_BYTES - 8 * blocks))
		       ? PROBLEM_NONE
		       : found(rep, PROBLEM_INODE_INLINE, 0, blocks);
}

/* What the type decides: the area, and which counters may be other than zero. */
static enum problem verify_area(
	const struct disk_inode *in, const struct disk_super *super, struct verify_report *rep)
{
	uint32_t type = le32_get(in->mode) & S_IFMT;
	enum problem p = PROBLEM_NONE;

	switch (type) {
	case S_IFREG:
		p = verify_node(in->area, INODE_INLINE_BYTES, TREE_EXTENTS, super, rep);
		break;
	case S_IFDIR:
		p = verify_node(in->area, INODE_INLINE_BYTES, TREE_DIR, super, rep);
		break;
	case S_IFLNK:
		p = verify_symlink(in, super, rep);
		break;
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		if (!all_zero(in->area, INODE_INLINE_BYTES))
			p = found(rep, PROBLEM_INODE_INLINE, type, 0);
		break;
	default:
		return found(rep, PROBLEM_INODE_MODE, le32_get(in->mode), S_IFREG);
	}
	if (p)
		return p;
	if (type != S_IFREG && le64_get(in->clusters))
		return found(rep, PROBLEM_INODE_BLOCKS, le64_get(in->clusters), 0);
	if (type != S_IFREG && type != S_IFDIR && le64_get(in->tree_blocks))
		return found(rep, PROBLEM_INODE_BLOCKS, le64_get(in->tree_blocks), 0);
	if (type == S_IFREG && le64_get(in->size) > FILE_BYTES_MAX)
		return found(rep, PROBLEM_INODE_SIZE, le64_get(in->size), FILE_BYTES_MAX);
	if (type != S_IFREG && type != S_IFDIR && type != S_IFLNK && le64_get(in->size))
		return found(rep, PROBLEM_INODE_SIZE, le64_get(in->size), 0);
	return PROBLEM_NONE;
}

static enum problem verify_flags(const struct disk_inode *in, struct verify_report *rep)
{
	uint32_t flags = le32_get(in->flags), type = le32_get(in->mode) & S_IFMT;
	uint32_t nlink = le32_get(in->nlink);

	if (flags & ~INODE_FLAGS_KNOWN)
		return found(rep, PROBLEM_INODE_FLAGS, flags, INODE_FLAGS_KNOWN);
	if ((flags & (INODE_TRUNCATE | INODE_KEEP | INODE_CAPS)) && type != S_IFREG)
		return found(rep, PROBLEM_INODE_FLAGS, flags, 0);
	if ((flags & INODE_NAMELESS) && (type != S_IFREG || !(flags & INODE_ORPHAN)))
		return found(rep, PROBLEM_INODE_FLAGS, flags, INODE_ORPHAN);
	/* Without a link: waits for its last close, or is being freed; one of the two. */
	if ((nlink == 0) != ((flags & (INODE_ORPHAN | INODE_FREEING)) != 0))
		return found(rep, PROBLEM_INODE_NLINK, nlink, flags);
	if ((flags & INODE_FREEING) && (flags & (INODE_ORPHAN | INODE_TRUNCATE)))
		return found(rep, PROBLEM_INODE_FLAGS, flags, INODE_FREEING);
	return PROBLEM_NONE;
}

enum problem verify_inode(const struct disk_inode *in, uint64_t ino, const struct disk_super *super,
	struct verify_report *rep)
{
	uint32_t mode = le32_get(in->mode), count = le32_get(in->xattr_count);
	uint64_t parent = le64_get(in->parent), root = le64_get(in->xattr_root);
	enum problem p;

	if (mode == 0) {
		if (le64_get(in->ino) || !all_zero((const uint8_t *)&in->size,
						 INODE_BYTES - offsetof(struct disk_inode, size)))
			return found(rep, PROBLEM_INODE_MODE, le64_get(in->ino), 0);
		return PROBLEM_NONE;
	}
	if (le64_get(in->ino) != ino)
		return found(rep, PROBLEM_INODE_SLOT, le64_get(in->ino), ino);
	if (le64_get(in->generation) == 0)
		return found(rep, PROBLEM_INODE_GENERATION, 0, 1);
	p = verify_flags(in, rep);
	if (!p)
		p = verify_area(in, super, rep);
	if (p)
		return p;
	if (((mode & S_IFMT) == S_IFDIR) != (parent != 0) ||
		(parent && !ino_possible(parent, super)))
		return found(rep, PROBLEM_INODE_PARENT, parent, 0);
	if ((root == 0) != (count == 0) || (root && !blkno_possible(root, super)))
		return found(rep, PROBLEM_XATTR, root, count);
	if (le32_get(in->xattr_names) > XATTR_BYTES_MAX || le32_get(in->xattr_names) < 2ull * count)
		return found(rep, PROBLEM_XATTR, le32_get(in->xattr_names), 2ull * count);
	if (!all_zero((const uint8_t *)in->reserved, sizeof(in->reserved)))
		return found(rep, PROBLEM_RESERVED, 1, 0);
	return PROBLEM_NONE;
}

enum problem verify_inodes(
	const void *block, const struct disk_super *super, struct verify_report *rep)
{
	const struct disk_inode_block *b = block;
	enum problem p = PROBLEM_NONE;

	if (le64_get(b->h.owner) != 0)
		return found(rep, PROBLEM_HEADER_OWNER, le64_get(b->h.owner), 0);
	for (unsigned int s = 1; s <= INODES_PER_BLOCK && !p; s++)
		p = verify_inode(&b->slot[s - 1], INO_MAKE(le64_get(b->h.blkno), s), super, rep);
	return p;
}

enum problem verify_value(
	const void *block, const struct disk_super *super, struct verify_report *rep)
{
	const struct disk_value_block *b = block;
	uint32_t len = le32_get(b->len), index = le32_get(b->index);

	if (len == 0 || len > VALUE_BLOCK_BYTES)
		return found(rep, PROBLEM_XATTR, len, VALUE_BLOCK_BYTES);
	if (index >= VALUE_BLOCKS_MAX)
		return found(rep, PROBLEM_XATTR, index, VALUE_BLOCKS_MAX);
	if (!ino_possible(le64_get(b->h.owner), super))
		return found(rep, PROBLEM_HEADER_OWNER, le64_get(b->h.owner), 0);
	if (le64_get(b->reserved) || !all_zero(b->data + len, VALUE_BLOCK_BYTES - len))
		return found(rep, PROBLEM_RESERVED, 1, 0);
	return PROBLEM_NONE;
}
