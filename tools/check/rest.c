/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extended attributes, values in blocks, orphans, intents, the reply cache. */
#include <sys/stat.h>

#include "csvfs/base/fsreq.h"
#include "tools/check/internal.h"

/* ------------------------------------------------------------------ values in blocks */

bool ck_value(struct check *c, uint64_t from, uint64_t ino, const uint8_t *list, uint32_t n,
	uint32_t bytes, enum problem code, bool no_zero)
{
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t want = bytes < VALUE_BLOCK_BYTES ? bytes : VALUE_BLOCK_BYTES;
		const struct disk_value_block *b;
		uint64_t blkno;
		le64 v;

		memcpy(&v, list + 8 * i, sizeof(v));
		blkno = le64_get(v);
		if (!ck_use_block(c, blkno, from, ino, false))
			return false;
		b = ck_block(c, blkno, MAGIC_XATTR, ino);
		if (!b)
			return false;
		if (le32_get(b->index) != i || le32_get(b->len) != want) {
			ck_report(c, code, blkno, ino, le32_get(b->len), want,
				"length of a value's piece");
			return false;
		}
		if (no_zero && memchr(b->data, 0, want))
			ck_report(c, code, blkno, ino, 0, 0, "zero byte in target");
		if (!ck_zero(b->data + want, VALUE_BLOCK_BYTES - want) || le64_get(b->reserved))
			ck_report(c, PROBLEM_RESERVED, blkno, ino, 0, 0, "bytes behind a value");
		bytes -= want;
	}
	return true;
}

/* ------------------------------------------------------------------ extended attributes */

struct xattrs {
	uint64_t count, names_bytes;
};

static void xattr_problem(
	struct check *c, const struct ck_walk *w, uint64_t found, uint64_t want, const char *what)
{
	ck_report(c, PROBLEM_XATTR, w->blkno, w->ino, found, want, what);
}

static void xattr_value(struct check *c, struct ck_walk *w, const struct disk_xattr *d,
	const uint8_t *rest, uint32_t rest_bytes)
{
	const uint32_t bytes = le32_get(d->value_bytes);
	uint32_t n;

	if (d->place == XATTR_INLINE) {
		if (bytes != rest_bytes || bytes > XATTR_INLINE_MAX)
			xattr_problem(c, w, bytes, rest_bytes, "length of an attribute's value");
		return;
	}
	n = (bytes + VALUE_BLOCK_BYTES - 1) / VALUE_BLOCK_BYTES;
	if (d->place != XATTR_BLOCKS || bytes <= XATTR_INLINE_MAX || bytes > XATTR_BYTES_MAX ||
		rest_bytes != 8 * n) {
		xattr_problem(c, w, bytes, XATTR_BYTES_MAX, "length of an attribute's value");
		return;
	}
	(void)ck_value(c, w->blkno, w->ino, rest, n, bytes, PROBLEM_XATTR, false);
}

static int xattr_record(
	struct check *c, struct ck_walk *w, uint64_t key, const uint8_t *value, uint32_t len)
{
	struct xattrs *x = w->ctx;
	const uint8_t *name = value + sizeof(struct disk_xattr);
	struct disk_xattr d;

	if (len < sizeof(d)) {
		xattr_problem(c, w, len, sizeof(d), "length of an attribute");
		return 0;
	}
	memcpy(&d, value, sizeof(d));
	if (!d.name_bytes || d.name_bytes > len - sizeof(d) || memchr(name, 0, d.name_bytes)) {
		xattr_problem(c, w, d.name_bytes, len - sizeof(d), "name of an attribute");
		return 0;
	}
	if (ck_bucket(c, name, d.name_bytes) != (key & ~255ull))
		xattr_problem(c, w, key & ~255ull, ck_bucket(c, name, d.name_bytes),
			"bucket of an attribute's cookie");
	x->count++;
	x->names_bytes += d.name_bytes + 1u;
	xattr_value(c, w, &d, name + d.name_bytes, len - (uint32_t)sizeof(d) - d.name_bytes);
	return 0;
}

int ck_xattrs(struct check *c, uint64_t blkno, const struct disk_inode *d, uint64_t ino)
{
	struct xattrs x = {0, 0};
	struct ck_walk w = {.kind = TREE_XATTRS, .ino = ino, .record = xattr_record, .ctx = &x};
	const uint64_t root = le64_get(d->xattr_root);
	int err = 0;

	if (root)
		err = ck_walk_block(c, &w, root, blkno);
	if (err || w.damaged)
		return err;
	if (le32_get(d->xattr_count) != x.count)
		ck_report(c, PROBLEM_XATTR, blkno, w.ino, le32_get(d->xattr_count), x.count,
			"number of attributes");
	if (le32_get(d->xattr_names) != x.names_bytes)
		ck_report(c, PROBLEM_XATTR, blkno, w.ino, le32_get(d->xattr_names), x.names_bytes,
			"length of attributes' names");
	return 0;
}

/* ------------------------------------------------------------------ orphans, intents */

static int orphan_record(
	struct check *c, struct ck_walk *w, uint64_t key, const uint8_t *value, uint32_t len)
{
	struct ck_inode *i = ck_inode(c, key);

	(void)value;
	c->rep->orphans++;
	if (len) {
		ck_report(c, PROBLEM_TREE_RECORD, w->blkno, key, len, 0,
			"length of an orphan's record");
		c->lists_bad = true;
	}
	if (!i || !i->type) {
		ck_report(c, PROBLEM_ORPHAN_INO, w->blkno, 0, key, key,
			"lists an inode that is not in use: inode");
		return 0;
	}
	i->flags |= CK_LISTED;
	if (i->links)
		ck_report(c, PROBLEM_ORPHAN_LINKED, w->blkno, key, i->links, 0, "orphan's names");
	if (!(i->flags & CK_ORPHAN)) {
		ck_report(c, PROBLEM_INODE_FLAGS, INO_BLOCK(key), key, 0, INODE_ORPHAN,
			"in the list of orphans, but flags");
		c->lists_bad = true;
	}
	return 0;
}

int ck_orphans(struct check *c)
{
	struct ck_walk w = {.kind = TREE_ORPHANS, .record = orphan_record};
	const uint64_t root = le64_get(c->super.orphan_root);

	return root ? ck_walk_block(c, &w, root, c->super_at) : 0;
}

static int intent_record(
	struct check *c, struct ck_walk *w, uint64_t key, const uint8_t *value, uint32_t len)
{
	struct ck_inode *i = ck_inode(c, key);
	struct disk_intent d;

	if (len != sizeof(d)) {
		ck_report(c, PROBLEM_INTENT, w->blkno, key, len, sizeof(d), "length of an intent");
		return 0;
	}
	memcpy(&d, value, sizeof(d));
	if (!i || !i->type) {
		ck_report(c, PROBLEM_INTENT, w->blkno, 0, key, key,
			"names an inode that is not in use: inode");
		return 0;
	}
	i->flags |= CK_LISTED_INTENT;
	if (le32_get(d.op) < INTENT_TRUNCATE || le32_get(d.op) > INTENT_ZERO)
		ck_report(c, PROBLEM_INTENT, w->blkno, key, le32_get(d.op), INTENT_FREE,
			"operation of an intent");
	if (le32_get(d.op) == INTENT_FREE && i->links)
		ck_report(c, PROBLEM_INTENT, w->blkno, key, i->links, 0,
			"is to be freed, but has names:");
	if (!(i->flags & CK_INTENT)) {
		ck_report(c, PROBLEM_INODE_FLAGS, INO_BLOCK(key), key, 0, 1,
			"has an intent, but flags");
		c->lists_bad = true;
	}
	if (le32_get(d.reserved0) || le64_get(d.reserved) ||
		(le64_get(d.to) && le32_get(d.op) < INTENT_PUNCH)) {
		ck_report(c, PROBLEM_RESERVED, w->blkno, key, 0, 0, "reserved field of an intent");
		c->lists_bad = true;
	}
	return 0;
}

int ck_intents(struct check *c)
{
	struct ck_walk w = {.kind = TREE_INTENTS, .record = intent_record};
	const uint64_t root = le64_get(c->super.intent_root);

	return root ? ck_walk_block(c, &w, root, c->super_at) : 0;
}

/* ------------------------------------------------------------------ reply cache */

static void reply_entries(struct check *c, uint64_t blkno, const struct disk_reply_block *b)
{
	for (uint32_t i = 0; i < SLOTS_MAX; i++) {
		const struct disk_reply_entry *e = &b->e[i];
		const uint32_t err = le32_get(e->err);

		if (!le64_get(e->seq) && !ck_zero(e, sizeof(*e)))
			ck_report(c, PROBLEM_REPLY, blkno, 0, i + 1, i + 1,
				"entry without a number: slot");
		if (err && err < (uint32_t)-4095)
			ck_report(c, PROBLEM_REPLY, blkno, 0, err, 0, "error of an entry");
		if (le64_get(e->seq) && !fs_op_needs_slot((enum fs_op)le32_get(e->op)))
			ck_report(c, PROBLEM_REPLY, blkno, 0, le32_get(e->op), 0,
				"operation of an entry");
		if (le32_get(e->mode) && (!le64_get(e->ino) || !fs_type_known(le32_get(e->mode))))
			ck_report(c, PROBLEM_REPLY, blkno, 0, le32_get(e->mode), 0, "mode of an entry");
		if (le64_get(e->version_1) && le32_get(e->op) != FS_APPEND)
			ck_report(c, PROBLEM_REPLY, blkno, 0, le64_get(e->version_1), 0, "version of an entry");
		if (le64_get(e->reserved) || le32_get(e->reserved0))
			ck_report(
				c, PROBLEM_RESERVED, blkno, 0, 0, 0, "reserved field of an entry");
	}
}

int ck_replies(struct check *c)
{
	const uint64_t start = le64_get(c->super.reply_start);
	uint32_t nodes[NODES_MAX];
	uint32_t count = 0;

	for (uint64_t i = 0; i < NODES_MAX; i++) {
		const uint64_t faults = check_faults(c->rep);
		const struct disk_reply_block *b = ck_block(c, start + i, MAGIC_REPLY, 0);
		uint32_t node = 0;

		if (!b) {
			c->reply_bad |= 1ull << i;
			continue;
		}
		if (le64_get(b->life))
			reply_entries(c, start + i, b);
		if (!ck_zero(b->reserved, sizeof(b->reserved)) || le32_get(b->reserved0))
			ck_report(c, PROBLEM_RESERVED, start + i, 0, 0, 0, "reserved field");
		ck_tail(c, b, sizeof(*b), start + i);
		node = le32_get(b->node);
		for (uint32_t k = 0; le64_get(b->life) && k < count; k++)
			if (nodes[k] == node)
				ck_report(c, PROBLEM_REPLY, start + i, 0, node, node,
					"second slot: of node");
		if (le64_get(b->life))
			nodes[count++] = node;
		if (check_faults(c->rep) != faults)
			c->reply_bad |= 1ull << i;
	}
	return 0;
}
