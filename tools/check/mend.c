/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rounds of a repair, what they keep in memory, and the mending of single inodes. Rules: mend.h.
 */
#include <sys/stat.h>

#include "csvfs/base/fsreq.h"
#include "metadata/fields.h"
#include "tools/check/mend.h"

/* ------------------------------------------------------------------ blocks to be written */

static uint32_t put_slot(const struct ck_mend *m, uint64_t blkno)
{
	uint32_t i = (uint32_t)(blkno * 0x9e3779b97f4a7c15ull >> 32) & (m->put_room - 1);

	while (m->puts[i].data && m->puts[i].blkno != blkno)
		i = (i + 1) & (m->put_room - 1);
	return i;
}

const void *ck_put_find(const struct check *c, uint64_t blkno)
{
	return c->m->put_count ? c->m->puts[put_slot(c->m, blkno)].data : NULL;
}

/* The table is never more than half full. */
static bool puts_grow(struct ck_mend *m)
{
	struct ck_put *old = m->puts;
	const uint32_t old_room = m->put_room;

	m->put_room = old_room ? old_room * 2 : 1024;
	m->puts = mem_alloc(&m->keep, m->put_room * sizeof(*m->puts));
	if (!m->puts) {
		m->puts = old;
		m->put_room = old_room;
		return false;
	}
	for (uint32_t i = 0; i < old_room; i++)
		if (old[i].data)
			m->puts[put_slot(m, old[i].blkno)] = old[i];
	mem_free(&m->keep, old, old_room * sizeof(*old));
	return true;
}

void ck_put_sealed(struct check *c, uint64_t blkno, const void *block)
{
	struct ck_mend *m = c->m;
	uint32_t i;

	if (m->put_count * 2 >= m->put_room && !puts_grow(m)) {
		m->no_memory = true;
		return;
	}
	i = put_slot(m, blkno);
	if (!m->puts[i].data) {
		m->puts[i].data = mem_alloc(&m->keep, BLOCK_SIZE);
		if (!m->puts[i].data) {
			m->no_memory = true;
			return;
		}
		m->puts[i].blkno = blkno;
		m->put_count++;
	}
	memcpy(m->puts[i].data, block, BLOCK_SIZE);
	m->changes++;
}

void ck_put(struct check *c, uint64_t blkno, uint32_t magic, uint64_t owner, void *block)
{
	struct disk_header *h = block;
	const struct disk_header *now = ck_read(c, blkno, 0);
	uint64_t found, want;

	if (now && !ck_header(c, now, blkno, magic, owner, &found, &want) &&
		!memcmp(now + 1, h + 1, BLOCK_SIZE - sizeof(*h)))
		return;
	h->magic = le32_of(magic);
	memcpy(h->uuid, c->super.h.uuid, 16);
	h->blkno = le64_of(blkno);
	h->owner = le64_of(owner);
	h->epoch = le64_of(c->m->epoch);
	h->lsn = le64_of(c->m->lsn);
	h->reserved = le64_of(0);
	fields_seal(h);
	ck_put_sealed(c, blkno, h);
}

bool ck_try(struct check *c, uint64_t blkno, uint32_t magic, uint64_t owner, void *block)
{
	uint64_t found, want;
	const void *b;

	if (blkno >= c->block_count)
		return false;
	b = ck_read(c, blkno, 0);
	if (b && ck_header(c, b, blkno, magic, owner, &found, &want))
		b = ck_restore(c, blkno, magic, owner);
	if (!b)
		return false;
	memcpy(block, b, BLOCK_SIZE);
	return true;
}

bool ck_inode_get(struct check *c, uint64_t ino, struct disk_inode *out)
{
	struct disk_inode_block b;

	if (!ck_try(c, INO_BLOCK(ino), MAGIC_INODE, 0, &b))
		return false;
	*out = b.slot[INO_SLOT(ino) - 1];
	return true;
}

void ck_inode_put(struct check *c, uint64_t ino, const struct disk_inode *d)
{
	struct disk_inode_block b;

	if (!ck_try(c, INO_BLOCK(ino), MAGIC_INODE, 0, &b))
		memset(&b, 0, sizeof(b));
	b.slot[INO_SLOT(ino) - 1] = *d;
	ck_put(c, INO_BLOCK(ino), MAGIC_INODE, 0, &b);
}

/* ------------------------------------------------------------------ an inode's fields */

static void clear(struct check *c, uint64_t ino, struct disk_inode *d)
{
	const le64 generation = d->generation;

	if (le32_get(d->mode))
		c->m->cleared++;
	memset(d, 0, sizeof(*d));
	d->generation = generation;
	ck_inode_put(c, ino, d);
}

static void mend_flags(struct disk_inode *d)
{
	uint32_t flags = le32_get(d->flags) & INODE_FLAGS_KNOWN;

	if (!S_ISREG(le32_get(d->mode)))
		flags &= ~(INODE_TRUNCATE | INODE_KEEP | INODE_CAPS);
	if (flags & INODE_FREEING)
		flags &= ~(INODE_TRUNCATE | INODE_ORPHAN);
	if (!S_ISREG(le32_get(d->mode)) || !(flags & INODE_ORPHAN))
		flags &= ~INODE_NAMELESS;
	d->flags = le32_of(flags);
}

static void mend_fields(struct check *c, uint64_t ino, struct disk_inode *d)
{
	const uint32_t mode = le32_get(d->mode);

	d->ino = le64_of(ino);
	if (!le64_get(d->generation))
		d->generation = le64_of((c->m->lsn & 0x7fffffff) | 1);
	mend_flags(d);
	if (!S_ISDIR(mode))
		d->parent = le64_of(0);
	else if (!INO_SLOT(le64_get(d->parent)) || INO_BLOCK(le64_get(d->parent)) >= c->block_count)
		d->parent = le64_of(c->root_ino);
	if (!S_ISBLK(mode) && !S_ISCHR(mode))
		d->rdev = le32_of(0);
	if (S_ISREG(mode))
		ck_mend_size(c, ino, d);
	memset(d->reserved, 0, sizeof(d->reserved));
	if (S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode))
		return;
	d->size = le64_of(0);
	memset(d->area, 0, sizeof(d->area));
}

/* ------------------------------------------------------------------ an inode's trees */

static void mend_xattrs(struct check *c, uint64_t ino, struct disk_inode *d)
{
	struct ck_recs r;
	uint64_t names_bytes, root;

	if (!le64_get(d->xattr_root) && !le32_get(d->xattr_count) && !le32_get(d->xattr_names))
		return;
	/* Of one that has lost its root the leaves are found. */
	ck_gather_block(c, &r, TREE_XATTRS, ino, le64_get(d->xattr_root));
	ck_xattrs_fit(c, &r, ino, &names_bytes);
	if (!ck_build_block(c, &r, TREE_XATTRS, ino, &root))
		return;
	d->xattr_root = le64_of(root);
	d->xattr_count = le32_of((uint32_t)r.count);
	d->xattr_names = le32_of((uint32_t)names_bytes);
}

static uint64_t clusters_of(const struct ck_recs *r, uint64_t *end)
{
	struct disk_extent e;
	uint64_t sum = 0;

	*end = 0;
	for (uint64_t i = 0; i < r->count; i++) {
		memcpy(&e, r->rec[i].value, sizeof(e));
		sum += le32_get(e.len);
		*end = r->rec[i].key + le32_get(e.len);
	}
	return sum;
}

/* Of a file or directory. `made`: the inode is new, nothing but leaves is left of the old one. */
static void mend_tree(struct check *c, uint64_t ino, struct disk_inode *d, bool made)
{
	const bool dir = S_ISDIR(le32_get(d->mode));
	const enum tree_kind kind = dir ? TREE_DIR : TREE_EXTENTS;
	struct ck_recs r;
	uint64_t blocks, end = 0;

	ck_gather(c, &r, kind, ino, made ? NULL : d->area, INODE_INLINE_BYTES);
	if (dir)
		ck_names_fit(c, &r);
	else
		ck_extents_fit(c, &r);
	if (!ck_build(c, &r, kind, ino, d->area, &blocks))
		return;
	d->tree_blocks = le64_of(blocks);
	d->clusters = le64_of(dir ? 0 : clusters_of(&r, &end));
	if (dir)
		d->size = le64_of(r.count);
	else if (made)
		d->size = le64_of(end * c->cluster_bytes);
}

static bool is_suspect(const struct ck_mend *m, uint64_t ino)
{
	for (uint32_t i = 0; i < m->suspect_count; i++)
		if (m->suspect[i] == ino)
			return true;
	return false;
}

static void mend_inode(struct check *c, uint64_t ino, uint16_t flags)
{
	struct disk_inode d;

	if (!ck_inode_get(c, ino, &d))
		return;
	if (!ck_mend_mode(c, ino, &d)) {
		clear(c, ino, &d);
		return;
	}
	mend_fields(c, ino, &d);
	if (flags & CK_MEND_TREES) {
		if (c->m->suspect_count < CK_SUSPECTS_MAX && !is_suspect(c->m, ino))
			c->m->suspect[c->m->suspect_count++] = ino;
		if (S_ISREG(le32_get(d.mode)) || S_ISDIR(le32_get(d.mode)))
			mend_tree(c, ino, &d, false);
		mend_xattrs(c, ino, &d);
	}
	if (S_ISLNK(le32_get(d.mode)) && !ck_mend_symlink(c, ino, &d)) {
		clear(c, ino, &d);
		return;
	}
	ck_inode_put(c, ino, &d);
}

/* ------------------------------------------------------------------ lost blocks of inodes */

/* Leaves of its tree are left: an inode for them. Its name may be, too. */
static void inode_make(struct check *c, uint64_t ino, uint8_t kind)
{
	struct disk_inode d = {.ino = le64_of(ino),
		.generation = le64_of((c->m->lsn & 0x7fffffff) | 1),
		.nlink = le32_of(1)};

	if (kind == TREE_DIR) {
		d.mode = le32_of(S_IFDIR | 0700);
		d.nlink = le32_of(2);
		d.parent = le64_of(c->root_ino);
	} else {
		d.mode = le32_of(S_IFREG | 0600);
	}
	d.atime_ns = d.mtime_ns = d.ctime_ns = d.btime_ns = c->super.created_ns;
	mend_tree(c, ino, &d, true);
	ck_inode_put(c, ino, &d);
}

static void inodes_lost(struct check *c, uint64_t blkno)
{
	struct disk_inode_block b;

	memset(&b, 0, sizeof(b));
	for (uint32_t s = 0; s < INODES_PER_BLOCK; s++)
		b.slot[s].generation = le64_of((c->m->lsn & 0x7fffffff) | 1);
	ck_put(c, blkno, MAGIC_INODE, 0, &b);
	/* Some of them may have been directories. */
	c->m->dirs_lost = true;
	for (uint32_t s = 1; s <= INODES_PER_BLOCK; s++) {
		const uint64_t ino = INO_MAKE(blkno, s);
		uint64_t count;
		const struct ck_leaf *l = ck_leaves(c, ino, &count);
		uint8_t kind = 0;

		for (uint64_t i = 0; i < count; i++)
			if (l[i].kind == TREE_DIR || l[i].kind == TREE_EXTENTS)
				kind = l[i].kind;
		if (kind)
			inode_make(c, ino, kind);
	}
}

static void chunk_inodes(struct check *c, struct ck_chunk *k)
{
	for (uint32_t b = 1; b < CHUNK_BLOCKS; b++) {
		if (bit_get(k->used, b) && !k->inodes[b])
			inodes_lost(c, k->blkno + b);
		for (uint32_t s = 0; k->inodes[b] && s < INODES_PER_BLOCK; s++) {
			const uint16_t flags = k->inodes[b][s].flags;

			if (flags & (CK_MEND_FIELDS | CK_MEND_TREES))
				mend_inode(c, INO_MAKE(k->blkno + b, s + 1), flags);
		}
	}
}

static void mend_inodes(struct check *c)
{
	for (uint64_t n = 0; n < c->group_count; n++) {
		const struct ck_group *g = ck_group(c, n);

		for (uint32_t i = 0; g && g->chunks && i < c->chunks_per_group; i++)
			if (g->chunks[i] && g->chunks[i]->inode)
				chunk_inodes(c, g->chunks[i]);
	}
}

/* ------------------------------------------------------------------ clusters of two files */

/* True: the file may go on with this cluster. */
static bool keeps(struct check *c, uint64_t cluster)
{
	struct ck_group *g = ck_group(c, cluster / GROUP_CLUSTERS);
	const uint64_t i = cluster % GROUP_CLUSTERS;

	if (cluster >= c->cluster_count - le64_get(c->super.reserve_clusters))
		return false;
	if (!g || !g->twice || !bit_get(g->twice, i))
		return true;
	if (!g->kept)
		g->kept = mem_alloc(c->o->mem, GROUP_BITMAP_BYTES);
	if (!g->kept || bit_get(g->kept, i))
		return false;
	bit_set(g->kept, i);
	return true;
}

/* A copy of the cluster, made with the commit (M1); UINT64_MAX: there is no room. It is in free space, so nothing is risked. */
static uint64_t copy(struct check *c, uint64_t cluster)
{
	const uint64_t to = ck_cluster_alloc(c);
	struct ck_mend *m = c->m;
	struct ck_copy *more;

	if (to == UINT64_MAX)
		return to;
	if (m->copy_count == m->copy_room) {
		const uint32_t room = m->copy_room ? 2 * m->copy_room : 256;

		more = mem_alloc(&m->keep, room * sizeof(*more));
		if (!more) {
			m->no_memory = true;
			return UINT64_MAX;
		}
		if (m->copy_count)
			memcpy(more, m->copies, m->copy_count * sizeof(*more));
		mem_free(&m->keep, m->copies, m->copy_room * sizeof(*more));
		m->copies = more;
		m->copy_room = room;
	}
	m->copies[m->copy_count++] = (struct ck_copy){cluster, to};
	return to;
}

/* Adds one cluster behind the last record, or as a record of its own. */
static void append(struct ck_recs *r, uint64_t first, uint64_t key, uint64_t start, uint32_t state)
{
	struct disk_extent e;

	if (r->count > first) {
		struct ck_rec *last = &r->rec[r->count - 1];
		uint64_t n;

		memcpy(&e, last->value, sizeof(e));
		n = le32_get(e.len);
		if (last->key + n == key && le64_get(e.start) + n == start &&
			le32_get(e.state) == state && n < EXTENT_LEN_MAX) {
			e.len = le32_of((uint32_t)n + 1);
			memcpy(r->values, &e, sizeof(e));
			return;
		}
	}
	e = (struct disk_extent){le64_of(start), le32_of(1), le32_of(state)};
	ck_recs_add(r, key, UINT64_MAX, &e, sizeof(e));
}

/*
 * The first file that has a cluster keeps it, others get a copy: which of them is the rightful owner
 * nobody can tell, and so each reads what it read before. Unwritten space reads as zero: a hole does.
 */
static void unshare(struct check *c, uint64_t ino)
{
	struct disk_inode d;
	struct ck_recs r;
	uint64_t from, blocks, end;

	if (!ck_inode_get(c, ino, &d) || !S_ISREG(le32_get(d.mode)))
		return;
	ck_gather(c, &r, TREE_EXTENTS, ino, d.area, INODE_INLINE_BYTES);
	ck_extents_fit(c, &r);
	from = r.count;
	for (uint64_t i = 0; i < from; i++) {
		struct disk_extent e;

		memcpy(&e, r.rec[i].value, sizeof(e));
		for (uint64_t k = 0; k < le32_get(e.len); k++) {
			uint64_t at = le64_get(e.start) + k;

			if (!keeps(c, at))
				at = le32_get(e.state) == EXT_UNWRITTEN ? UINT64_MAX : copy(c, at);
			if (at != UINT64_MAX)
				append(&r, from, r.rec[i].key + k, at, le32_get(e.state));
		}
	}
	memmove(r.rec, r.rec + from, (r.count - from) * sizeof(*r.rec));
	r.count -= from;
	if (r.full || !ck_build(c, &r, TREE_EXTENTS, ino, d.area, &blocks))
		return;
	d.tree_blocks = le64_of(blocks);
	d.clusters = le64_of(clusters_of(&r, &end));
	ck_inode_put(c, ino, &d);
}

/* Those come last that were damaged themselves: it is theirs that is wrong, most likely. */
static int mend_shared(struct check *c, uint64_t ino, struct ck_inode *i)
{
	if ((i->flags & CK_MEND_SPACE) && is_suspect(c->m, ino) == c->m->suspects_turn)
		unshare(c, ino);
	return 0;
}

static int mend_space(struct check *c)
{
	int err;

	c->m->suspects_turn = false;
	err = ck_inodes_each(c, mend_shared);
	c->m->suspects_turn = true;
	return err ? err : ck_inodes_each(c, mend_shared);
}

/* ------------------------------------------------------------------ rounds */

/* One stratum is mended: the first that needs it (M4). */
static int mend(struct check *c)
{
	struct ck_mend *m = c->m;
	int err;

	mend_inodes(c);
	if (m->changes)
		return 0;
	if (ck_mend_root(c))
		return 0;
	err = mend_space(c);
	if (!err && !m->changes)
		err = ck_mend_names(c);
	if (!err && !m->changes)
		err = ck_mend_links(c);
	if (!err && !m->changes)
		err = ck_mend_lists(c);
	if (err || m->changes)
		return err;
	ck_mend_numbers(c);
	ck_mend_supers(c);
	ck_mend_maps(c);
	return 0;
}

static void round_start(struct ck_mend *m)
{
	m->changes = 0;
	m->leaf_count = 0;
	m->leaves_known = false;
	m->alloc_group = m->data_at = m->lost_found = 0;
}

/* The rounds, until the volume in memory is clean. *left: faults that stay. */
static int rounds(struct ck_mend *m, const struct check_dev *dev, const struct check_options *o,
	uint64_t *left)
{
	const struct check_options quiet = {.mem = o->mem, .super = o->super};
	const struct mem fresh = *o->mem;
	struct check_report rep;
	int err = 0;

	for (uint32_t round = 0; round < CK_ROUNDS_MAX; round++) {
		struct check *c;

		*o->mem = fresh;
		c = mem_alloc(o->mem, sizeof(*c));
		if (!c)
			return -ENOMEM;
		c->m = m;
		round_start(m);
		err = ck_run(c, dev, &quiet, &rep);
		if (err)
			return err;
		if (c->lsn_seen >= m->lsn)
			m->lsn = c->lsn_seen + 1;
		/* What this round puts it reads again: that must not count as too new. */
		c->lsn_max = m->lsn;
		/* The first round only makes the skeleton. */
		if (!round)
			continue;
		*left = check_faults(&rep);
		if (!*left && !m->changes)
			return ck_commit(c);
		/* The check itself may have found blocks again: then it looks at all of it anew. */
		if (!m->changes)
			err = mend(c);
		if (!err && m->no_memory)
			err = -ENOMEM;
		if (err || !m->changes)
			break;
	}
	return err ? err : -ENOSPC;
}

static void split(struct mem *all, struct ck_mend *m)
{
	size_t half, quarter;
	uint8_t *at = mem_half(all, &half);

	quarter = half / 2 & ~(size_t)4095;
	mem_init(&m->keep, at, quarter);
	m->arena = at + quarter;
	m->arena_bytes = half - quarter;
}

static bool journal_broken(const struct check_report *rep)
{
	return rep->count[PROBLEM_JOURNAL_RECORD] || rep->count[PROBLEM_JOURNAL_IMAGE] ||
	       rep->count[PROBLEM_JOURNAL_TARGET] || rep->count[PROBLEM_JOURNAL_ORDER] ||
	       rep->count[PROBLEM_JOURNAL_HEAD] || rep->count[PROBLEM_HEADER_LSN];
}

static int repair(const struct check_dev *dev, const struct check_options *o, bool all,
	struct check_report *rep)
{
	const struct mem fresh = *o->mem;
	struct ck_mend m = {.salvage = false};
	struct check *c = mem_alloc(o->mem, sizeof(*c));
	uint64_t left = 0;
	int err = -ENOMEM;

	if (c)
		err = ck_run(c, dev, o, rep);
	rep->left = check_faults(rep);
	if (err || !rep->left || !dev->write || (!all && !rep->repairable)) {
		*o->mem = fresh;
		return err;
	}
	m.epoch = (rep->epoch > c->epoch_seen ? rep->epoch : c->epoch_seen) + 1;
	m.lsn = c->lsn_seen + 1;
	if (c->lsn_max < CK_NUMBER_MAX && c->lsn_max >= m.lsn)
		m.lsn = c->lsn_max + 1;
	m.salvage = journal_broken(rep);
	m.missed = rep->count[PROBLEM_BLOCK_NOT_META] || rep->count[PROBLEM_DIRENT_INO] ||
		   rep->count[PROBLEM_SUPER_ROOT] || rep->count[PROBLEM_ORPHAN_INO] ||
		   rep->count[PROBLEM_INTENT] || rep->count[PROBLEM_CLUSTER_IN_META];
	*o->mem = fresh;
	split(o->mem, &m);
	err = rounds(&m, dev, o, &left);
	rep->left = left;
	rep->repaired = m.written;
	rep->found_again = m.found_again;
	rep->cleared = m.cleared;
	*o->mem = fresh;
	return err;
}

int check_repair(const struct check_dev *dev, const struct check_options *o, bool all,
	struct check_report *rep)
{
	const struct mem fresh = *o->mem;
	int err;

	/* To put one together is more than to mend what follows from the rest. */
	if (all && dev->write && o->super == CHECK_SUPER_VOTE)
		dev = ck_vote(dev, o->mem);
	err = repair(dev, o, all, rep);
	*o->mem = fresh;
	return err;
}
