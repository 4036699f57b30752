/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Directories: every entry of every directory, then what follows from all of them together: link
 * counts, parents, reachability.
 */
#include <sys/stat.h>

#include "tools/check/mend.h"

/* ------------------------------------------------------------------ cookies */

static uint64_t rotl(uint64_t v, unsigned n)
{
	return v << n | v >> (64 - n);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

static uint64_t le_bytes(const uint8_t *p, uint32_t n)
{
	uint64_t v = 0;

	while (n--)
		v = v << 8 | p[n];
	return v;
}

/* SipHash-2-4 (Aumasson and Bernstein), the reference's byte order. */
static uint64_t siphash24(const uint8_t key[16], const uint8_t *p, uint32_t len)
{
	const uint64_t k0 = le_bytes(key, 8), k1 = le_bytes(key + 8, 8);
	uint64_t v[4] = {k0 ^ 0x736f6d6570736575ull, k1 ^ 0x646f72616e646f6dull,
		k0 ^ 0x6c7967656e657261ull, k1 ^ 0x7465646279746573ull};
	uint32_t left = len;
	uint64_t m;

	for (;; p += 8, left -= 8) {
		m = left >= 8 ? le_bytes(p, 8) : le_bytes(p, left) | (uint64_t)len << 56;
		v[3] ^= m;
		sip_round(v);
		sip_round(v);
		v[0] ^= m;
		if (left < 8)
			break;
	}
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t ck_bucket(const struct check *c, const uint8_t *name, uint32_t len)
{
	const uint64_t highest = (1ull << 63) - 256;
	uint64_t b = siphash24(c->super.dir_hash_key, name, len) >> 1 & ~255ull;

	if (!b)
		return 256;
	return b == highest ? highest - 256 : b;
}

/* ------------------------------------------------------------------ entries */

struct entries {
	uint64_t count;
	uint64_t bucket; /* of the names kept in c->names: 256 bytes each, length first */
	uint32_t names;
};

static bool name_ok(const uint8_t *name, uint32_t len)
{
	if (!len || len > NAME_BYTES_MAX || memchr(name, '/', len) || memchr(name, 0, len))
		return false;
	return !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

/* Equal names have one bucket, and a bucket's entries follow one another. */
static bool name_is_new(
	struct check *c, struct entries *e, uint64_t bucket, const uint8_t *name, uint32_t len)
{
	if (e->bucket != bucket)
		e->names = 0;
	e->bucket = bucket;
	for (uint32_t i = 0; i < e->names; i++)
		if (c->names[i * 256] == len && !memcmp(c->names + i * 256 + 1, name, len))
			return false;
	if (e->names <= COOKIE_INDEX_MAX) {
		c->names[e->names * 256] = (uint8_t)len;
		memcpy(c->names + e->names * 256 + 1, name, len);
		e->names++;
	}
	return true;
}

/* The directory's own word counts: the entry in its parent stays, when it comes to a repair. */
static void second_parent(struct check *c, struct ck_walk *w, uint64_t ino, struct ck_inode *i)
{
	struct ck_inode *first = ck_inode(c, i->parent), *self = ck_inode(c, w->ino);

	ck_report(c, PROBLEM_DIR_TWO_PARENTS, w->blkno, ino, w->ino, w->ino,
		"has a second name: in directory");
	self->flags |= CK_MEND_NAMES;
	if (i->disk_parent != w->ino || ino == c->root_ino || !first)
		return;
	first->flags |= CK_MEND_NAMES;
	i->parent = w->ino;
}

static void link_to(struct check *c, struct ck_walk *w, uint64_t ino, uint8_t type)
{
	struct ck_inode *self = ck_inode(c, w->ino), *i = ck_inode(c, ino);

	if (!i || !i->type) {
		ck_report(c, PROBLEM_DIRENT_INO, w->blkno, w->ino, ino, ino,
			"entry names an inode that is not in use: inode");
		if (c->m)
			ck_missed_inode(c, ino);
		return;
	}
	if (i->type != type) {
		ck_report(
			c, PROBLEM_DIRENT_TYPE, w->blkno, ino, type, i->type, "type in the entry");
		self->flags |= CK_MEND_NAMES;
	}
	i->links++;
	if (i->type != S_IFDIR >> 12)
		return;
	self->subdirs++;
	if (i->parent)
		second_parent(c, w, ino, i);
	else
		i->parent = w->ino;
}

static int dirent_record(
	struct check *c, struct ck_walk *w, uint64_t key, const uint8_t *value, uint32_t len)
{
	struct entries *e = w->ctx;
	const uint8_t *name = value + DIRENT_BYTES;
	const uint32_t name_bytes = len - DIRENT_BYTES;
	struct disk_dirent d;
	uint64_t bucket;

	e->count++;
	if (len <= DIRENT_BYTES || !name_ok(name, name_bytes)) {
		ck_report(c, PROBLEM_DIRENT_NAME, w->blkno, w->ino, key, key,
			"impossible name; entry with cookie");
		if (len < DIRENT_BYTES)
			return 0;
	} else {
		bucket = ck_bucket(c, name, name_bytes);
		if (bucket != (key & ~255ull))
			ck_report(c, PROBLEM_DIRENT_HASH, w->blkno, w->ino, key & ~255ull, bucket,
				"bucket of a name's cookie");
		if (!name_is_new(c, e, bucket, name, name_bytes))
			ck_report(c, PROBLEM_DIRENT_DUPLICATE, w->blkno, w->ino, key, key,
				"same name twice; entry with cookie");
	}
	memcpy(&d, value, sizeof(d));
	link_to(c, w, le64_get(d.ino), d.type);
	return 0;
}

static int check_directory(struct check *c, uint64_t ino, struct ck_inode *i)
{
	const uint64_t blkno = INO_BLOCK(ino);
	struct entries e = {0, 0, 0};
	struct ck_walk w = {
		.kind = TREE_DIR, .ino = ino, .blkno = blkno, .record = dirent_record, .ctx = &e};
	const struct disk_inode_block *b;
	struct disk_inode d;
	int err;

	if (i->type != S_IFDIR >> 12)
		return 0;
	b = ck_read(c, blkno, ino);
	if (!b)
		return 0;
	memcpy(&d, &b->slot[INO_SLOT(ino) - 1], sizeof(d));
	err = ck_walk(c, &w, d.area, INODE_INLINE_BYTES);
	if (err)
		return err;
	if (w.damaged) {
		/* What is in the lost part cannot be counted. */
		i->flags |= CK_DAMAGED;
		return 0;
	}
	if (le64_get(d.size) != e.count)
		CK_INODE_NUMBER(c, PROBLEM_DIR_COUNT, ino, size, le64_get(d.size), e.count,
			"number of entries");
	if (le64_get(d.tree_blocks) != w.tree_blocks)
		CK_INODE_NUMBER(c, PROBLEM_INODE_TREE_BLOCKS, ino, tree_blocks,
			le64_get(d.tree_blocks), w.tree_blocks, "number of tree blocks");
	return 0;
}

int ck_directories(struct check *c)
{
	struct ck_inode *root = ck_inode(c, c->root_ino);

	/* 0: the first opening of the volume makes it. */
	if (!c->root_ino && !c->rep->meta_chunks)
		return 0;
	if (!root || root->type != S_IFDIR >> 12) {
		ck_report(c, PROBLEM_SUPER_ROOT, c->super_at, c->root_ino, c->root_ino, c->root_ino,
			"root is no directory: inode");
		if (c->m && !root)
			ck_missed_inode(c, c->root_ino);
	} else {
		root->parent = c->root_ino;
	}
	return ck_inodes_each(c, check_directory);
}

/* ------------------------------------------------------------------ what all entries say together */

static void check_dir_links(struct check *c, uint64_t ino, struct ck_inode *i)
{
	const uint64_t blkno = INO_BLOCK(ino);

	if (!(i->flags & CK_DAMAGED) && i->nlink != 2 + i->subdirs)
		CK_INODE_NUMBER(
			c, PROBLEM_INODE_NLINK, ino, nlink, i->nlink, 2 + i->subdirs, "link count");
	if (i->disk_parent != i->parent)
		ck_report(c, PROBLEM_INODE_PARENT, blkno, ino, i->disk_parent, i->parent, "parent");
}

/*
 * Follows the parents up to the root, or to what is known to lead there. The chain is marked as it is
 * walked, so a loop ends it. Says what is wrong with the chain once, at its top.
 */
static void check_reached(struct check *c, uint64_t ino)
{
	uint64_t at = ino;
	struct ck_inode *i;

	for (i = ck_inode(c, at); i && i->type && !(i->flags & (CK_REACHED | CK_ON_PATH));
		i = ck_inode(c, at)) {
		i->flags |= CK_ON_PATH;
		if (at == c->root_ino || !i->parent)
			break;
		at = i->parent;
	}
	if (i && (i->flags & CK_ON_PATH) && at != c->root_ino && i->parent) {
		i->flags |= CK_LOOP;
		ck_report(c, PROBLEM_DIR_LOOP, INO_BLOCK(at), at, i->parent, i->parent,
			"contains itself: through directory");
	}
	for (i = ck_inode(c, ino); i && (i->flags & CK_ON_PATH); i = ck_inode(c, ino)) {
		i->flags = (uint16_t)((i->flags & ~CK_ON_PATH) | CK_REACHED);
		ino = i->parent;
	}
}

static int check_links(struct check *c, uint64_t ino, struct ck_inode *i)
{
	const uint64_t blkno = INO_BLOCK(ino);
	const bool listed = i->flags & (CK_LISTED | CK_LISTED_INTENT);
	const bool dir = i->type == S_IFDIR >> 12;

	if (dir)
		check_reached(c, ino);
	if ((i->flags & CK_ORPHAN) && !(i->flags & CK_LISTED))
		ck_report(c, PROBLEM_ORPHAN_NOT_LISTED, blkno, ino, 0, 0,
			"orphan, but not in the list of orphans");
	if ((i->flags & CK_INTENT) && !(i->flags & CK_LISTED_INTENT))
		ck_report(c, PROBLEM_INTENT_NOT_LISTED, blkno, ino, 0, 0,
			"work on it is to go on, but there is no intent");
	if (dir && (i->parent || i->nlink)) {
		if (i->parent)
			check_dir_links(c, ino, i);
		else
			ck_report(c, PROBLEM_INODE_UNREACHABLE, blkno, ino, 0, 0,
				"no directory names it");
		return 0;
	}
	if (!i->links && i->nlink) {
		ck_report(c, PROBLEM_INODE_UNREACHABLE, blkno, ino, 0, 0, "no directory names it");
	} else if (i->links != i->nlink) {
		CK_INODE_NUMBER(
			c, PROBLEM_INODE_NLINK, ino, nlink, i->nlink, i->links, "link count");
	} else if (!i->links && !listed) {
		ck_report(c, PROBLEM_INODE_UNREACHABLE, blkno, ino, 0, 0,
			"no directory names it, and it is no orphan");
	}
	return 0;
}

int ck_links(struct check *c)
{
	return ck_inodes_each(c, check_links);
}
