/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an inode is when its mode or its size cannot be right. Its area says most of it: the root of a tree tells a
 * file from a directory, text or value blocks of its own are a link's target, zeros a special file's. Which
 * kind of special file only the entry that names it can say.
 */
#include <sys/stat.h>

#include "csvfs/base/fsreq.h"
#include "metadata/verify_inode.h"
#include "tools/check/mend.h"

static bool is_special(uint32_t mode)
{
	return S_ISCHR(mode) || S_ISBLK(mode) || S_ISFIFO(mode) || S_ISSOCK(mode);
}

/* ------------------------------------------------------------------ links */

/* Bytes in value blocks of this inode that its area begins with; 0: none are there, or not all are whole. */
static uint64_t target_in_blocks(struct check *c, uint64_t ino, const struct disk_inode *d)
{
	const uint32_t most = (SYMLINK_BYTES_MAX + VALUE_BLOCK_BYTES - 1) / VALUE_BLOCK_BYTES;
	struct disk_value_block b;
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < most; i++) {
		uint32_t len;
		le64 v;

		memcpy(&v, d->area + 8 * i, sizeof(v));
		if (!le64_get(v))
			break;
		if (!ck_try(c, le64_get(v), MAGIC_XATTR, ino, &b) || le32_get(b.index) != i)
			return 0;
		len = le32_get(b.len);
		if (!len || len > VALUE_BLOCK_BYTES || memchr(b.data, 0, len))
			return 0;
		bytes += len;
		if (len < VALUE_BLOCK_BYTES)
			break;
	}
	return bytes > INODE_INLINE_BYTES && bytes <= SYMLINK_BYTES_MAX ? bytes : 0;
}

/* Text at the start of the area with zeros behind it: how long it is; 0: it is none. */
static uint64_t target_inline(const struct disk_inode *d)
{
	const uint8_t *end = memchr(d->area, 0, INODE_INLINE_BYTES);
	const uint64_t bytes = end ? (uint64_t)(end - d->area) : INODE_INLINE_BYTES;

	return ck_zero(d->area + bytes, INODE_INLINE_BYTES - bytes) ? bytes : 0;
}

/* Each block is the inode's own: then the inode's word for their order and length counts, if the bytes agree. */
static bool blocks_fit(
	struct check *c, uint64_t ino, const struct disk_inode *d, uint64_t size, bool put)
{
	const uint32_t n = (uint32_t)((size + VALUE_BLOCK_BYTES - 1) / VALUE_BLOCK_BYTES);
	struct disk_value_block b;

	for (uint32_t i = 0; i < n; i++) {
		const uint64_t left = size - (uint64_t)i * VALUE_BLOCK_BYTES;
		const uint32_t want = left < VALUE_BLOCK_BYTES ? (uint32_t)left : VALUE_BLOCK_BYTES;
		le64 v;

		memcpy(&v, d->area + 8 * i, sizeof(v));
		if (!ck_try(c, le64_get(v), MAGIC_XATTR, ino, &b) || memchr(b.data, 0, want))
			return false;
		if (!put && (!ck_zero(b.data + want, VALUE_BLOCK_BYTES - want)))
			return false;
		b.index = le32_of(i);
		b.len = le32_of(want);
		memset(b.data + want, 0, VALUE_BLOCK_BYTES - want);
		b.reserved = le64_of(0);
		if (put)
			ck_put(c, le64_get(v), MAGIC_XATTR, ino, &b);
	}
	return true;
}

static uint64_t target_bytes(struct check *c, uint64_t ino, const struct disk_inode *d)
{
	const uint64_t size = le64_get(d->size), text = target_inline(d);
	uint64_t bytes;

	if (size && size == text)
		return size;
	if (size > INODE_INLINE_BYTES && size <= SYMLINK_BYTES_MAX &&
		blocks_fit(c, ino, d, size, false))
		return size;
	/* What is there says how long it is, and not the size. */
	bytes = target_in_blocks(c, ino, d);
	if (bytes || (text && d->area[0] >= ' '))
		return bytes ? bytes : text;
	return size;
}

bool ck_mend_symlink(struct check *c, uint64_t ino, struct disk_inode *d)
{
	const uint64_t size = target_bytes(c, ino, d);
	uint32_t n;

	if (!size || size > SYMLINK_BYTES_MAX)
		return false;
	d->size = le64_of(size);
	if (size <= INODE_INLINE_BYTES) {
		memset(d->area + size, 0, INODE_INLINE_BYTES - size);
		return !memchr(d->area, 0, size);
	}
	n = (uint32_t)((size + VALUE_BLOCK_BYTES - 1) / VALUE_BLOCK_BYTES);
	memset(d->area + 8 * n, 0, INODE_INLINE_BYTES - 8 * n);
	return blocks_fit(c, ino, d, size, true);
}

/* ------------------------------------------------------------------ files */

/* Not to the byte: nobody knows where in its last cluster the file ended. */
void ck_mend_size(struct check *c, uint64_t ino, struct disk_inode *d)
{
	const uint64_t size = le64_get(d->size);
	uint64_t written = 0, end = 0;
	struct disk_extent e;
	struct ck_recs r;

	ck_gather(c, &r, TREE_EXTENTS, ino, d->area, INODE_INLINE_BYTES);
	ck_extents_fit(c, &r);
	for (uint64_t i = 0; i < r.count; i++) {
		memcpy(&e, r.rec[i].value, sizeof(e));
		end = r.rec[i].key + le32_get(e.len);
		if (le32_get(e.state) != EXT_UNWRITTEN)
			written = end;
	}
	if (size > FILE_BYTES_MAX)
		d->size = le64_of((written ? written : end) * c->cluster_bytes);
	else if (!(le32_get(d->flags) & INODE_TRUNCATE) &&
		 written > (size + c->cluster_bytes - 1) / c->cluster_bytes)
		d->size = le64_of(written * c->cluster_bytes);
}

/* ------------------------------------------------------------------ types */

struct naming {
	uint64_t ino;
	uint32_t type; /* S_IFMT bits; 0: no entry was met */
};

static int naming_dir(struct check *c, uint64_t ino, struct ck_inode *i)
{
	struct naming *n = c->m->naming;
	struct disk_dirent e;
	struct disk_inode d;
	struct ck_recs r;

	if (!ck_is_dir(i) || n->type || !ck_inode_get(c, ino, &d))
		return 0;
	ck_gather(c, &r, TREE_DIR, ino, d.area, INODE_INLINE_BYTES);
	for (uint64_t k = 0; k < r.count && !n->type; k++) {
		if (r.rec[k].len <= sizeof(e))
			continue;
		memcpy(&e, r.rec[k].value, sizeof(e));
		if (le64_get(e.ino) == n->ino)
			n->type = (uint32_t)e.type << 12;
	}
	return 0;
}

/* The type in an entry that names it; 0: none does. Looks into every directory, so not for many of them. */
static uint32_t type_by_name(struct check *c, uint64_t ino)
{
	struct naming n = {.ino = ino};

	if (c->m->namings++ > CK_NAMINGS_MAX)
		return 0;
	c->m->naming = &n;
	(void)ck_inodes_each(c, naming_dir);
	c->m->naming = NULL;
	return fs_type_known(n.type) ? n.type : 0;
}

/* 0: the area says nothing. */
static uint32_t type_by_area(struct check *c, uint64_t ino, const struct disk_inode *d)
{
	struct verify_report rep;

	if (!verify_node(d->area, INODE_INLINE_BYTES, 0, &c->super, &rep)) {
		if (d->area[0] == TREE_DIR)
			return S_IFDIR;
		if (d->area[0] == TREE_EXTENTS)
			return S_IFREG;
	}
	if (target_inline(d) && d->area[0] >= ' ')
		return S_IFLNK;
	return target_in_blocks(c, ino, d) ? S_IFLNK : 0;
}

/* Nothing of what only files and directories have. */
static bool holds_nothing(const struct disk_inode *d)
{
	return ck_zero(d->area, INODE_INLINE_BYTES) && !le64_get(d->size) &&
	       !le64_get(d->clusters) && !le64_get(d->tree_blocks) && !le64_get(d->parent);
}

/* A free inode is all zero: who is in use has his own number at least, or a tree with something in it. */
static bool in_use(struct check *c, uint64_t ino, const struct disk_inode *d)
{
	struct disk_node n;

	if (le32_get(d->mode) || le64_get(d->ino) == ino)
		return true;
	memcpy(&n, d->area, sizeof(n));
	return type_by_area(c, ino, d) && (le16_get(n.count) || le64_get(d->size));
}

bool ck_mend_mode(struct check *c, uint64_t ino, struct disk_inode *d)
{
	const uint32_t was = le32_get(d->mode), known = was & (S_IFMT | 07777);
	uint32_t type = type_by_area(c, ino, d), named = 0;

	if (!in_use(c, ino, d))
		return false;
	if (!type && holds_nothing(d)) {
		/* A special file. Its device number is none without being of a device. */
		if (!is_special(known) || (le32_get(d->rdev) && !S_ISCHR(known) && !S_ISBLK(known)))
			named = type_by_name(c, ino);
		if (is_special(named))
			type = named;
		else if (!fs_type_known(known) && !named)
			type = le32_get(d->rdev) ? S_IFCHR : S_IFIFO;
	}
	if (!type && fs_type_known(known))
		type = known & S_IFMT;
	/* A root that is damaged, too: by its name, or by what it was once. */
	if (!type)
		type = named ? named : type_by_name(c, ino);
	if (!type)
		type = le64_get(d->parent) ? S_IFDIR : S_IFREG;
	if (S_ISLNK(type))
		d->mode = le32_of(S_IFLNK | 0777);
	else if (was == known && type == (known & S_IFMT))
		d->mode = le32_of(was);
	else if (fs_type_known(known))
		/* Permissions that stand beside what is wrong: without those that give rights. */
		d->mode = le32_of(type | (known & 0777));
	else
		d->mode = le32_of(type | (S_ISDIR(type) ? 0700 : 0600));
	return true;
}
