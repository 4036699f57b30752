/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names: entries that lead nowhere or to where they may not, directories that contain each other, who
 * has no name; and the lists of those that have none for a reason.
 */
#include <sys/stat.h>

#include "csvfs/base/trace.h"
#include "tools/check/mend.h"

/* ------------------------------------------------------------------ entries */

/* True: the entry may stay in directory `dir`. Its type is put right. */
static bool entry_fits(struct check *c, uint64_t dir, struct ck_rec *rec)
{
	struct disk_dirent d;
	struct ck_inode *i;
	uint64_t ino;

	memcpy(&d, rec->value, sizeof(d));
	ino = le64_get(d.ino);
	i = ck_inode(c, ino);
	if (!i || !i->type || ino == c->root_ino)
		return false;
	if (i->type != d.type) {
		/* The arena's own copy. */
		memcpy((uint8_t *)(uintptr_t)rec->value + offsetof(struct disk_dirent, type),
			&i->type, 1);
	}
	if (!ck_is_dir(i))
		return true;
	if (i->parent != dir || (i->flags & CK_PLACED))
		return false;
	i->flags |= CK_PLACED;
	return true;
}

static bool entries_put(
	struct check *c, uint64_t dir, struct disk_inode *d, const struct ck_recs *r)
{
	uint64_t blocks;

	if (r->full || !ck_build(c, r, TREE_DIR, dir, d->area, &blocks))
		return false;
	d->tree_blocks = le64_of(blocks);
	d->size = le64_of(r->count);
	ck_inode_put(c, dir, d);
	return true;
}

static int mend_entries(struct check *c, uint64_t ino, struct ck_inode *i)
{
	struct disk_inode d;
	struct ck_recs r;
	uint64_t n = 0, all;

	if (!ck_is_dir(i) || !(i->flags & CK_MEND_NAMES) || !ck_inode_get(c, ino, &d))
		return 0;
	i->flags = (uint16_t)(i->flags & ~CK_MEND_NAMES);
	ck_gather(c, &r, TREE_DIR, ino, d.area, INODE_INLINE_BYTES);
	all = r.count;
	ck_names_fit(c, &r);
	if (r.count != all)
		c->m->dirs_lost = true;
	for (uint64_t k = 0; k < r.count; k++)
		if (entry_fits(c, ino, &r.rec[k]))
			r.rec[n++] = r.rec[k];
	r.count = n;
	(void)entries_put(c, ino, &d, &r);
	return 0;
}

int ck_mend_names(struct check *c)
{
	return ck_inodes_each(c, mend_entries);
}

/* ------------------------------------------------------------------ root and lost+found */

static uint64_t directory_make(struct check *c, uint64_t ino, uint64_t parent)
{
	const struct ck_recs none = {.count = 0};
	struct disk_inode d = {.mode = le32_of(S_IFDIR | (parent ? 0700 : 0755)),
		.nlink = le32_of(2),
		.generation = le64_of((c->m->lsn & 0x7fffffff) | 1)};
	uint64_t blocks;

	d.ino = le64_of(ino);
	d.parent = le64_of(parent ? parent : ino);
	d.atime_ns = d.mtime_ns = d.ctime_ns = d.btime_ns = c->super.created_ns;
	(void)ck_build(c, &none, TREE_DIR, ino, d.area, &blocks);
	ck_inode_put(c, ino, &d);
	return ino;
}

static int find_root(struct check *c, uint64_t ino, struct ck_inode *i)
{
	/* Only the root is its own parent. */
	if (ck_is_dir(i) && i->disk_parent == ino && !c->m->lost_found)
		c->m->lost_found = ino;
	return 0;
}

bool ck_mend_root(struct check *c)
{
	struct ck_inode *i = ck_inode(c, c->root_ino);
	uint64_t ino;

	if ((!c->root_ino && !c->rep->meta_chunks) ||
		(i && ck_is_dir(i) && i->disk_parent == c->root_ino))
		return false;
	c->m->lost_found = 0;
	(void)ck_inodes_each(c, find_root);
	ino = c->m->lost_found;
	c->m->lost_found = 0;
	if (!ino && i && ck_is_dir(i))
		return false; /* its parent is a number that is put right */
	if (!ino && i && !i->type) {
		ino = directory_make(c, c->root_ino, 0);
		ck_chunk_mark(c, INO_BLOCK(ino), (uint8_t)(1u << INO_SLOT(ino)));
	} else if (!ino) {
		ino = ck_inode_alloc(c);
		if (ino)
			(void)directory_make(c, ino, 0);
	}
	if (!ino)
		return false;
	c->super.root_ino = le64_of(ino);
	c->root_ino = ino;
	ck_mend_supers(c);
	return true;
}

/* A place in the bucket of the name; the record stands behind those that are sorted. */
static void entry_add(struct check *c, struct ck_recs *r, const char *name, uint32_t len,
	uint64_t ino, uint8_t type)
{
	uint8_t value[DIRENT_BYTES + 64];
	struct disk_dirent d = {.ino = le64_of(ino), .type = type};

	memcpy(value, &d, sizeof(d));
	memcpy(value + DIRENT_BYTES, name, len);
	ck_recs_add(r, ck_bucket(c, (const uint8_t *)name, len) + COOKIE_INDEX_MAX - (ino & 127), 0,
		value, DIRENT_BYTES + len);
}

static const struct ck_rec *entry_find(const struct ck_recs *r, const char *name, uint32_t len)
{
	for (uint64_t i = 0; i < r->count; i++)
		if (r->rec[i].len == DIRENT_BYTES + len &&
			!memcmp(r->rec[i].value + DIRENT_BYTES, name, len))
			return &r->rec[i];
	return NULL;
}

/* 0: it was made just now, or cannot be; else it can be used in this round. */
static uint64_t lost_found(struct check *c)
{
	static const char name[] = "lost+found";
	const uint32_t len = sizeof(name) - 1;
	const struct ck_rec *rec;
	struct disk_inode root;
	struct disk_dirent e;
	struct ck_recs r;
	uint64_t ino;

	if (!ck_inode_get(c, c->root_ino, &root))
		return 0;
	ck_gather(c, &r, TREE_DIR, c->root_ino, root.area, INODE_INLINE_BYTES);
	rec = entry_find(&r, name, len);
	if (rec) {
		const struct ck_inode *i;

		memcpy(&e, rec->value, sizeof(e));
		i = ck_inode(c, le64_get(e.ino));
		if (i && ck_is_dir(i))
			return le64_get(e.ino);
		/* Some file has that name: a user's. */
		rec = entry_find(&r, "lost+found.fsck", len + 5);
		if (rec)
			memcpy(&e, rec->value, sizeof(e));
		i = rec ? ck_inode(c, le64_get(e.ino)) : NULL;
		if (i)
			return ck_is_dir(i) ? le64_get(e.ino) : 0;
	}
	ino = ck_inode_alloc(c);
	if (!ino)
		return 0;
	entry_add(c, &r, entry_find(&r, name, len) ? "lost+found.fsck" : name,
		entry_find(&r, name, len) ? len + 5 : len, ino, S_IFDIR >> 12);
	ck_recs_sort(&r);
	if (entries_put(c, c->root_ino, &root, &r))
		(void)directory_make(c, ino, c->root_ino);
	return 0;
}

/* ------------------------------------------------------------------ links */

/* In a chunk whose header was lost: what no entry names may have been deleted long ago. */
static bool stale(const struct check *c, uint64_t ino)
{
	const struct ck_mend *m = c->m;

	for (uint32_t i = 0; i < m->probed_count && !m->dirs_lost; i++)
		if (m->probed[i] == INO_BLOCK(ino) / CHUNK_BLOCKS * CHUNK_BLOCKS)
			return true;
	return false;
}

static bool named(const struct check *c, uint64_t ino, const struct ck_inode *i)
{
	return ino == c->root_ino || (ck_is_dir(i) ? i->parent != 0 : i->links != 0);
}

/* True: it has no name, and should have one. */
static bool is_lost(const struct check *c, uint64_t ino, const struct ck_inode *i)
{
	return !named(c, ino, i) && i->nlink && !(i->flags & CK_ORPHAN) && !(i->flags & CK_FREEING);
}

/* Flags and link count of who has no name, or no right to one of these flags. */
static int mend_flags(struct check *c, uint64_t ino, struct ck_inode *i)
{
	const uint32_t gone = INODE_ORPHAN | INODE_FREEING;
	struct disk_inode d;
	uint32_t flags;

	if (named(c, ino, i) ? i->nlink && !(i->flags & (CK_ORPHAN | CK_FREEING))
			     : is_lost(c, ino, i))
		return 0;
	if (!ck_inode_get(c, ino, &d))
		return 0;
	flags = le32_get(d.flags);
	if (named(c, ino, i)) {
		flags &= ~(gone | INODE_NAMELESS);
		if (!i->nlink)
			d.nlink = le32_of(ck_is_dir(i) ? 2 : i->links);
	} else if (ck_is_dir(i) && le64_get(d.size)) {
		/* What is in it is to be found again. */
		flags &= ~(gone | INODE_NAMELESS);
		d.nlink = le32_of(2);
	} else if (!i->nlink && !(flags & gone)) {
		flags |= INODE_ORPHAN;
	} else if (i->nlink && (flags & gone) && (i->flags & CK_LISTED)) {
		d.nlink = le32_of(0);
	} else if (i->nlink) {
		flags &= ~(gone | INODE_NAMELESS);
	} else {
		return 0;
	}
	c->lists_bad = true;
	d.flags = le32_of(flags);
	ck_inode_put(c, ino, &d);
	return 0;
}

static int count_lost(struct check *c, uint64_t ino, struct ck_inode *i)
{
	struct disk_inode d;

	if (!is_lost(c, ino, i))
		return 0;
	if (!stale(c, ino)) {
		c->m->lost++;
		return 0;
	}
	if (!ck_inode_get(c, ino, &d))
		return 0;
	d = (struct disk_inode){.generation = d.generation};
	ck_inode_put(c, ino, &d);
	return 0;
}

static int add_lost(struct check *c, uint64_t ino, struct ck_inode *i)
{
	struct ck_recs *r = c->m->recs;
	struct ck_recs before = *r;
	char name[40];
	size_t len;

	if (!is_lost(c, ino, i))
		return 0;
	before.count = c->m->recs_before;
	len = trace_format(name, sizeof(name), "#%llu", (unsigned long long)ino);
	if (entry_find(&before, name, (uint32_t)len))
		len = trace_format(name, sizeof(name), "#%llu.%llu", (unsigned long long)ino,
			(unsigned long long)c->m->lsn);
	entry_add(c, r, name, (uint32_t)len, ino, i->type);
	c->m->found_again++;
	return 0;
}

static int break_loop(struct check *c, uint64_t ino, struct ck_inode *i)
{
	struct ck_inode *parent = (i->flags & CK_LOOP) ? ck_inode(c, i->parent) : NULL;

	(void)ino;
	if (!parent)
		return 0;
	parent->flags |= CK_MEND_NAMES;
	i->parent = 0;
	c->m->lost++;
	return 0;
}

int ck_mend_links(struct check *c)
{
	struct disk_inode d;
	struct ck_recs r;
	uint64_t ino;
	int err;

	c->m->lost = 0;
	err = ck_inodes_each(c, break_loop);
	if (err || c->m->lost)
		return err ? err : ck_mend_names(c);
	err = ck_inodes_each(c, mend_flags);
	if (!err && !c->m->changes)
		err = ck_inodes_each(c, count_lost);
	if (err || c->m->changes || !c->m->lost)
		return err;
	ino = lost_found(c);
	if (!ino || c->m->changes || !ck_inode_get(c, ino, &d))
		return 0;
	ck_gather(c, &r, TREE_DIR, ino, d.area, INODE_INLINE_BYTES);
	c->m->recs = &r;
	c->m->recs_before = r.count;
	err = ck_inodes_each(c, add_lost);
	ck_recs_sort(&r);
	if (!err)
		(void)entries_put(c, ino, &d, &r);
	return err;
}

/* ------------------------------------------------------------------ orphans, intents */

static int add_orphan(struct check *c, uint64_t ino, struct ck_inode *i)
{
	if (i->flags & CK_ORPHAN)
		ck_recs_add(c->m->recs, ino, 0, "", 0);
	return 0;
}

static int add_intent(struct check *c, uint64_t ino, struct ck_inode *i)
{
	struct disk_intent it = {.op = le32_of(INTENT_TRUNCATE)};
	struct disk_inode d;

	if (!(i->flags & CK_INTENT) || !ck_inode_get(c, ino, &d))
		return 0;
	if (le32_get(d.flags) & INODE_FREEING)
		it.op = le32_of(INTENT_FREE);
	else
		it.from = le64_of((le64_get(d.size) + c->cluster_bytes - 1) / c->cluster_bytes);
	ck_recs_add(c->m->recs, ino, 0, &it, sizeof(it));
	return 0;
}

/* Those of the old ones that still say what their inode says. */
static void intents_fit(struct check *c, struct ck_recs *r)
{
	uint64_t n = 0;

	for (uint64_t k = 0; k < r->count; k++) {
		const struct ck_inode *i = ck_inode(c, r->rec[k].key);
		struct disk_intent *it = (struct disk_intent *)(uintptr_t)r->rec[k].value;
		struct disk_inode d;
		uint32_t op;

		if (!i || !i->type || !(i->flags & CK_INTENT) || r->rec[k].len != sizeof(*it) ||
			!ck_inode_get(c, r->rec[k].key, &d))
			continue;
		op = le32_get(it->op);
		if (op < INTENT_TRUNCATE || op > INTENT_ZERO || (op == INTENT_FREE) != !!(le32_get(d.flags) & INODE_FREEING))
			continue;
		if (op >= INTENT_PUNCH && le64_get(it->from) >= le64_get(it->to))
			continue;
		if (op < INTENT_PUNCH)
			it->to = le64_of(0);
		it->reserved0 = le32_of(0);
		it->reserved = le64_of(0);
		r->rec[n++] = r->rec[k];
	}
	r->count = n;
}

int ck_mend_lists(struct check *c)
{
	uint64_t orphans, intents;
	struct ck_recs r;
	int err;

	if (!c->lists_bad)
		return 0;
	(void)ck_leaves(c, 0, &orphans);
	ck_recs_start(c, &r);
	c->m->recs = &r;
	err = ck_inodes_each(c, add_orphan);
	ck_recs_sort(&r);
	if (err || r.full || !ck_build_block(c, &r, TREE_ORPHANS, 0, &orphans))
		return err;
	ck_gather_block(c, &r, TREE_INTENTS, 0, le64_get(c->super.intent_root));
	intents_fit(c, &r);
	err = ck_inodes_each(c, add_intent);
	ck_recs_sort(&r);
	if (err || r.full || !ck_build_block(c, &r, TREE_INTENTS, 0, &intents))
		return err;
	c->super.orphan_root = le64_of(orphans);
	c->super.intent_root = le64_of(intents);
	ck_mend_supers(c);
	return 0;
}
