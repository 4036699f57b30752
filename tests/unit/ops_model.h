/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ops_model.h - random operations, each compared with a plain model of a file system in memory: names,
 * links, attributes, states and places of all clusters, xattrs. To be included after what runs
 * requests, which also provides model_hook() (called now and then: faults, background work) and
 * model_may_be_full() (is -ENOSPC right now?).
 */
#ifndef CSVFS_TESTS_OPS_MODEL_H
#define CSVFS_TESTS_OPS_MODEL_H

#include <sys/xattr.h>

#include "csvfs/base/prng.h"

#define M_NODES 300
#define M_ENTRIES 600
#define M_MAP 1024
#define M_XATTRS 3
#define M_NAMES 60

struct m_node {
	bool used, open;
	uint64_t ino, size;
	uint32_t mode, uid, gid, nlink, parent; /* parent: index, of a directory */
	uint32_t target_len;
	uint8_t fill;
	uint8_t state[M_MAP];
	uint64_t lun[M_MAP];
	struct {
		bool there;
		uint32_t len;
		uint8_t fill;
	} x[M_XATTRS];
};

struct m_entry {
	bool used;
	uint32_t dir, node;
	char name[NAME_BYTES_MAX + 1];
};

static struct {
	struct prng p;
	struct m_node n[M_NODES];
	struct m_entry e[M_ENTRIES];
	uint32_t ops, failed;
} m;

static void model_hook(uint32_t op);
static bool model_may_be_full(void);

/* ------------------------------------------------------------------ the model's own */

static uint32_t m_rand(uint32_t n)
{
	return (uint32_t)prng_below(&m.p, n);
}

static void m_name(char *out)
{
	uint32_t i = m_rand(M_NAMES);

	/* Some are as long as names can be, so that nodes split unevenly. */
	snprintf(out, NAME_BYTES_MAX + 1, "%c%0*u", 'a' + (char)(i % 26),
		i % 5 == 0 ? 254 : (int)(i % 30) + 1, i);
}

static struct m_entry *m_find(uint32_t dir, const char *name)
{
	for (uint32_t i = 0; i < M_ENTRIES; i++) {
		if (m.e[i].used && m.e[i].dir == dir && !strcmp(m.e[i].name, name))
			return &m.e[i];
	}
	return NULL;
}

static uint32_t m_count(uint32_t dir)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < M_ENTRIES; i++)
		n += m.e[i].used && m.e[i].dir == dir;
	return n;
}

static void m_add(uint32_t dir, const char *name, uint32_t node)
{
	for (uint32_t i = 0; i < M_ENTRIES; i++) {
		if (!m.e[i].used) {
			m.e[i] = (struct m_entry){.used = true, .dir = dir, .node = node};
			strcpy(m.e[i].name, name);
			return;
		}
	}
	fail();
}

static bool m_is_dir(uint32_t node)
{
	return S_ISDIR(m.n[node].mode);
}

static void m_free(struct m_node *n)
{
	memset(n, 0, sizeof(*n));
}

/* A link of node is gone. */
static void m_drop(uint32_t node)
{
	struct m_node *n = &m.n[node];

	n->nlink = S_ISDIR(n->mode) ? 0 : n->nlink - 1;
	if (n->nlink == 0 && !n->open)
		m_free(n);
}

/* A random node of a kind (0: any) that can be reached by its number; M_NODES: none. */
static uint32_t m_pick(uint32_t type, bool linked)
{
	for (uint32_t tries = 0; tries < 400; tries++) {
		uint32_t i = m_rand(M_NODES);

		if (m.n[i].used && (!type || (m.n[i].mode & S_IFMT) == type) &&
			(!linked || m.n[i].nlink))
			return i;
	}
	return type == S_IFDIR ? 0 : M_NODES;
}

static uint32_t m_free_slot(void)
{
	for (uint32_t i = 0; i < M_NODES; i++) {
		if (!m.n[i].used)
			return i;
	}
	return M_NODES;
}

static uint32_t m_entries(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < M_ENTRIES; i++)
		n += m.e[i].used;
	return n;
}

/* True when the operation was done. */
static bool m_expect(int err, int expected)
{
	if (err == -ENOSPC && expected == 0) {
		assert_true(model_may_be_full());
		m.failed++;
		return false;
	}
	assert_int_equal(err, expected);
	m.failed += err != 0;
	return err == 0;
}

/* ------------------------------------------------------------------ comparing */

static void m_compare_map(struct m_node *n)
{
	uint64_t off = 0, count = 0;

	while (off < M_MAP) {
		assert_int_equal(do_layout(n->ino, off * CLUSTER, (M_MAP - off) * CLUSTER, 0), 0);
		assert_true(run.r.reply.extent_count > 0);
		for (uint32_t i = 0; i < run.r.reply.extent_count; i++) {
			const struct fs_extent *x = &run.extents[i];

			assert_int_equal(x->off, off * CLUSTER);
			assert_true(x->len > 0 && x->off / CLUSTER + x->len / CLUSTER <= M_MAP);
			for (uint64_t c = 0; c < x->len / CLUSTER; c++, off++) {
				assert_int_equal(n->state[off], x->state);
				count += x->state != EXT_HOLE;
				if (x->state != EXT_HOLE)
					assert_int_equal(n->lun[off], x->lun_off + c * CLUSTER);
			}
		}
	}
	assert_int_equal(run.r.reply.attr.blocks, count * CLUSTER / 512);
}

static void m_compare_xattrs(struct m_node *n)
{
	char name[16];

	for (uint32_t i = 0; i < M_XATTRS; i++) {
		snprintf(name, sizeof(name), "user.%u", i);
		assert_int_equal(do_name(FS_GETXATTR, n->ino, name), n->x[i].there ? 0 : -ENODATA);
		if (!n->x[i].there)
			continue;
		assert_int_equal(run.r.reply.data_len, n->x[i].len);
		for (uint32_t k = 0; k < n->x[i].len; k++)
			assert_int_equal(run.data[k], n->x[i].fill);
	}
}

static void m_compare_node(uint32_t i)
{
	struct m_node *n = &m.n[i];
	const struct fs_attr *a = &run.r.reply.attr;

	assert_int_equal(do_getattr(n->ino), 0);
	assert_int_equal(a->mode, n->mode);
	assert_int_equal(a->uid, n->uid);
	assert_int_equal(a->gid, n->gid);
	assert_int_equal(a->nlink, n->nlink);
	if (!m_is_dir(i))
		assert_int_equal(a->size, n->size);
	if (S_ISREG(n->mode))
		m_compare_map(n);
	if (S_ISLNK(n->mode)) {
		assert_int_equal(do_name(FS_READLINK, n->ino, ""), 0);
		assert_int_equal(run.r.reply.data_len, n->target_len);
		for (uint32_t k = 0; k < n->target_len; k++)
			assert_int_equal(run.data[k], n->fill);
	}
	m_compare_xattrs(n);
}

static void m_compare_dir(uint32_t dir)
{
	uint32_t seen = 0;
	uint64_t cookie = 0;

	for (;;) {
		struct fs_request *q = rq(FS_READDIR, m.n[dir].ino, NULL);

		q->off = cookie;
		q->len = 400 + m_rand(2000);
		assert_int_equal(run_request(), 0);
		if (run.r.reply.data_len == 0)
			break;
		for (uint32_t at = 0; at < run.r.reply.data_len;) {
			struct fs_dirent d;
			struct m_entry *e;
			char name[256] = "";

			memcpy(&d, run.data + at, sizeof(d));
			memcpy(name, run.data + at + sizeof(d), d.namelen);
			at += (uint32_t)FS_DIRENT_SIZE(d.namelen);
			assert_true(d.cookie > cookie);
			cookie = d.cookie;
			if (!strcmp(name, ".") || !strcmp(name, ".."))
				continue;
			e = m_find(dir, name);
			assert_non_null(e);
			assert_int_equal(d.ino, m.n[e->node].ino);
			assert_int_equal(d.type, m.n[e->node].mode >> 12);
			seen++;
		}
	}
	assert_int_equal(seen, m_count(dir));
	if (m.n[dir].nlink) {
		assert_int_equal(do_name(FS_LOOKUP, m.n[dir].ino, ".."), 0);
		assert_int_equal(run.r.reply.attr.ino, m.n[m.n[dir].parent].ino);
	}
}

static void m_compare_all(void)
{
	bool faults = run.faults;

	run.faults = false;
	for (uint32_t i = 0; i < M_NODES; i++) {
		if (!m.n[i].used)
			continue;
		m_compare_node(i);
		if (m_is_dir(i))
			m_compare_dir(i);
	}
	run.faults = faults;
}

/* ------------------------------------------------------------------ operations on names */

static void m_make(void)
{
	static const uint32_t modes[] = {S_IFREG | 0644, S_IFREG | 0600, S_IFDIR | 0755,
		S_IFLNK | 0777, S_IFIFO | 0600, S_IFREG | 04755};
	uint32_t dir = m_pick(S_IFDIR, false), mode = modes[m_rand(6)], slot = m_free_slot();
	char name[256], target[4096];
	struct m_node *n;
	int expected = 0;

	if (slot == M_NODES || m_entries() == M_ENTRIES)
		return;
	m_name(name);
	if (m.n[dir].nlink == 0)
		expected = -ENOENT;
	else if (m_find(dir, name))
		expected = -EEXIST;
	rq(S_ISDIR(mode)	? FS_MKDIR
		: S_ISLNK(mode) ? FS_SYMLINK
				: FS_MKNOD,
		m.n[dir].ino, name)
		->mode = mode;
	run.r.rq.cred.uid = m_rand(3);
	run.r.rq.cred.gid = m_rand(3);
	if (S_ISLNK(mode)) {
		run.r.rq.data_len = 1 + m_rand(m_rand(2) ? 4095 : 432);
		memset(target, 'a' + (int)(m.ops % 20), sizeof(target));
		run.r.rq.data = target;
	}
	if (!m_expect(run_request(), expected))
		return;
	n = &m.n[slot];
	*n = (struct m_node){.used = true,
		.ino = run.r.reply.attr.ino,
		.mode = mode,
		.uid = run.r.rq.cred.uid,
		.gid = run.r.rq.cred.gid,
		.nlink = 1};
	if (S_ISDIR(mode)) {
		n->nlink = 2;
		n->parent = dir;
		m.n[dir].nlink++;
	}
	if (S_ISLNK(mode)) {
		n->target_len = run.r.rq.data_len;
		n->size = n->target_len;
		n->fill = (uint8_t)target[0];
	}
	m_add(dir, name, slot);
}

static void m_link(void)
{
	uint32_t dir = m_pick(S_IFDIR, false), node = m_pick(0, false);
	char name[256];
	int expected = 0;

	if (node == M_NODES || m_entries() == M_ENTRIES)
		return;
	m_name(name);
	if (m.n[dir].nlink == 0)
		expected = -ENOENT;
	else if (m_find(dir, name))
		expected = -EEXIST;
	else if (m_is_dir(node))
		expected = -EPERM;
	else if (m.n[node].nlink == 0)
		expected = -ENOENT;
	if (!m_expect(do_link(m.n[node].ino, m.n[dir].ino, name), expected))
		return;
	m.n[node].nlink++;
	m_add(dir, name, node);
}

static void m_remove(void)
{
	uint32_t dir = m_pick(S_IFDIR, true);
	bool rmdir = m_rand(3) == 0;
	struct m_entry *e;
	char name[256];
	int expected = 0;
	uint32_t node;

	m_name(name);
	e = m_find(dir, name);
	if (!e)
		expected = -ENOENT;
	else if (rmdir && !m_is_dir(e->node))
		expected = -ENOTDIR;
	else if (!rmdir && m_is_dir(e->node))
		expected = -EISDIR;
	else if (rmdir && m_count(e->node))
		expected = -ENOTEMPTY;
	if (!m_expect(do_name(rmdir ? FS_RMDIR : FS_UNLINK, m.n[dir].ino, name), expected))
		return;
	node = e->node;
	e->used = false;
	if (rmdir)
		m.n[dir].nlink--;
	m_drop(node);
}

/* Is `what` dir itself, or above it? */
static bool m_above(uint32_t what, uint32_t dir)
{
	while (dir != what && dir != 0)
		dir = m.n[dir].parent;
	return dir == what;
}

static int m_rename_error(
	uint32_t da, struct m_entry *a, uint32_t db, struct m_entry *b, uint32_t flags)
{
	if (m.n[da].nlink == 0 || m.n[db].nlink == 0 || !a)
		return -ENOENT;
	if (flags == 2) {
		if (!b)
			return -ENOENT;
		if (a->node == b->node)
			return 0;
		if (da != db && ((m_is_dir(a->node) && m_above(a->node, db)) ||
					(m_is_dir(b->node) && m_above(b->node, da))))
			return -EINVAL;
		return 0;
	}
	if (b && flags == 1)
		return -EEXIST;
	if (b && a->node == b->node)
		return 0;
	if (da != db && m_is_dir(a->node) && m_above(a->node, db))
		return -EINVAL;
	if (!b)
		return 0;
	if (m_is_dir(a->node) != m_is_dir(b->node))
		return m_is_dir(a->node) ? -ENOTDIR : -EISDIR;
	return m_is_dir(b->node) && m_count(b->node) ? -ENOTEMPTY : 0;
}

static void m_move_dir(uint32_t node, uint32_t from, uint32_t to)
{
	if (!m_is_dir(node))
		return;
	m.n[node].parent = to;
	m.n[from].nlink--;
	m.n[to].nlink++;
}

static void m_rename(void)
{
	uint32_t da = m_pick(S_IFDIR, false), db = m_rand(3) ? m_pick(S_IFDIR, false) : da;
	uint32_t flags = m_rand(5), node;
	char name[256], name2[256];
	struct m_entry *a, *b;

	flags = flags > 2 ? 0 : flags;
	m_name(name);
	m_name(name2);
	a = m_find(da, name);
	b = m_find(db, name2);
	if (!m_expect(do_rename(m.n[da].ino, name, m.n[db].ino, name2, flags),
		    m_rename_error(da, a, db, b, flags)))
		return;
	if (b && a->node == b->node)
		return;
	node = a->node;
	if (flags == 2) {
		a->node = b->node;
		b->node = node;
		m_move_dir(a->node, db, da);
		m_move_dir(b->node, da, db);
		return;
	}
	a->used = false;
	m_move_dir(node, da, db);
	if (b) {
		uint32_t old = b->node;

		b->node = node;
		if (m_is_dir(old))
			m.n[db].nlink--;
		m_drop(old);
	} else {
		m_add(db, name2, node);
	}
}

/* ------------------------------------------------------------------ operations on files */

static void m_setattr(void)
{
	uint32_t node = m_pick(0, false);
	struct fs_request *q;

	if (node == M_NODES)
		return;
	q = rq(FS_SETATTR, m.n[node].ino, NULL);
	q->valid = FS_SET_MODE | FS_SET_UID;
	q->attr.mode = m_rand(01000);
	q->attr.uid = m_rand(1000);
	if (m_expect(run_request(), 0)) {
		m.n[node].mode = (m.n[node].mode & S_IFMT) | q->attr.mode;
		m.n[node].uid = q->attr.uid;
	}
}

static void m_xattr(void)
{
	uint32_t node = m_pick(0, false), i = m_rand(M_XATTRS), how = m_rand(4);
	static uint8_t value[XATTR_BYTES_MAX];
	struct m_node *n;
	char name[16];
	int expected = 0;
	uint32_t len = m_rand(m_rand(4) ? 1000 : 20000);

	if (node == M_NODES)
		return;
	n = &m.n[node];
	snprintf(name, sizeof(name), "user.%u", i);
	if (how == 3) {
		if (m_expect(do_name(FS_REMOVEXATTR, n->ino, name), n->x[i].there ? 0 : -ENODATA))
			n->x[i].there = false;
		return;
	}
	if (how == XATTR_CREATE && n->x[i].there)
		expected = -EEXIST;
	if (how == XATTR_REPLACE && !n->x[i].there)
		expected = -ENODATA;
	memset(value, (int)(m.ops & 0xff), len);
	if (!m_expect(do_setxattr(n->ino, name, value, len, how), expected))
		return;
	n->x[i].there = true;
	n->x[i].len = len;
	n->x[i].fill = (uint8_t)m.ops;
}

/* What the file now has, where that is the allocator's choice: checks what must not have changed. */
static void m_adopt(struct m_node *n, uint64_t from)
{
	bool faults = run.faults;
	uint64_t off = 0;

	run.faults = false;
	while (off < M_MAP) {
		assert_int_equal(do_layout(n->ino, off * CLUSTER, (M_MAP - off) * CLUSTER, 0), 0);
		for (uint32_t i = 0; i < run.r.reply.extent_count; i++) {
			for (uint64_t c = 0; c < run.extents[i].len / CLUSTER; c++, off++) {
				assert_true(off < M_MAP);
				if (n->state[off] != EXT_HOLE || run.extents[i].state == EXT_HOLE)
					continue;
				assert_true(off >= from);
				assert_int_equal(run.extents[i].state, EXT_UNWRITTEN);
				n->state[off] = EXT_UNWRITTEN;
				n->lun[off] = run.extents[i].lun_off + c * CLUSTER;
			}
		}
	}
	m_compare_map(n);
	run.faults = faults;
}

static void m_layout(struct m_node *n)
{
	uint64_t from = m_rand(300), to = from + 1 + m_rand(20);
	int err = do_layout(n->ino, from * CLUSTER + m_rand(2) * 77, (to - from) * CLUSTER - 100,
		FS_LAYOUT_WRITE);

	if (!m_expect(err, 0))
		return;
	assert_int_not_equal(run.extents[0].state, EXT_HOLE);
	m_adopt(n, from);
	assert_int_not_equal(n->state[from], EXT_HOLE);
}

static void m_commit(struct m_node *n)
{
	uint64_t from = m_rand(300), to = from + 1 + m_rand(60);
	/* A commit names the size, unless the file is that long (PROTOCOL.md, "The end of a file"). */
	bool inside = to <= (n->size + CLUSTER - 1) / CLUSTER;
	uint64_t size = inside && m_rand(2) ? 0 : to * CLUSTER - m_rand(1000);

	if (!m_expect(do_commit(n->ino, from * CLUSTER, (to - from) * CLUSTER, size), 0))
		return;
	for (uint64_t c = from; c < to; c++) {
		if (n->state[c] == EXT_UNWRITTEN)
			n->state[c] = EXT_WRITTEN;
	}
	if (size > n->size)
		n->size = size;
}

static void m_cut(struct m_node *n, uint64_t from, uint64_t to)
{
	for (uint64_t c = from; c < to && c < M_MAP; c++)
		n->state[c] = EXT_HOLE;
}

/* Space ahead of the end, which is or was there, goes or, if fallocate put it there, stays. */
static void m_trimmed(struct m_node *n, uint64_t size)
{
	uint64_t end = (size + CLUSTER - 1) / CLUSTER;
	bool faults = run.faults;

	run.faults = false;
	assert_int_equal(do_layout(n->ino, end * CLUSTER, M_MAP * CLUSTER - end * CLUSTER, 0), 0);
	if (run.r.reply.extent_count == 1 && run.extents[0].state == EXT_HOLE)
		m_cut(n, end, M_MAP);
	run.faults = faults;
}

static void m_truncate(struct m_node *n)
{
	uint64_t size = m_rand(4) ? m_rand(320 * CLUSTER) : m_rand(CLUSTER);

	if (!m_expect(do_size(n->ino, size), 0))
		return;
	if (size <= n->size)
		m_cut(n, (size + CLUSTER - 1) / CLUSTER, M_MAP);
	else
		m_trimmed(n, n->size);
	n->size = size;
}

static void m_fallocate(struct m_node *n)
{
	static const uint32_t all[] = {0, FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
	uint32_t flags = all[m_rand(5)];
	uint64_t off = m_rand(250 * CLUSTER), len = 1 + m_rand(40 * CLUSTER);
	uint64_t from = (off + CLUSTER - 1) / CLUSTER, to = (off + len) / CLUSTER;
	int err = do_fallocate(n->ino, off, len, flags);

	if (off + len >= n->size)
		to = (off + len + CLUSTER - 1) / CLUSTER;
	for (uint64_t c = from; !err && (flags & FALLOC_FL_ZERO_RANGE) && c < to; c++)
		n->state[c] = n->state[c] == EXT_HOLE ? EXT_HOLE : EXT_UNWRITTEN;
	/* A part of the space may have been got. */
	if (!(flags & FALLOC_FL_PUNCH_HOLE))
		m_adopt(n, off / CLUSTER);
	if (!m_expect(err, 0))
		return;
	if (flags & FALLOC_FL_PUNCH_HOLE) {
		m_cut(n, from, to);
		return;
	}
	for (uint64_t c = off / CLUSTER; c * CLUSTER < off + len; c++)
		assert_int_not_equal(n->state[c], EXT_HOLE);
	if (!(flags & FALLOC_FL_KEEP_SIZE) && off + len > n->size)
		n->size = off + len;
}

static void m_append(struct m_node *n)
{
	uint32_t len = (uint32_t)m_rand(10000);

	if (n->size > 250 * CLUSTER)
		return;
	rq(FS_APPEND, n->ino, NULL)->len = len;
	if (!m_expect(run_request(), len ? 0 : -EINVAL) || !len)
		return;
	assert_int_equal(run.r.reply.off, n->size);
	n->size += run.r.rq.len;
}

static void m_lseek(struct m_node *n)
{
	uint64_t off = m_rand(300 * CLUSTER), at = off;
	bool hole = m_rand(2);

	rq(FS_LSEEK, n->ino, NULL)->off = off;
	run.r.rq.flags = hole ? SEEK_HOLE : SEEK_DATA;
	while (at < n->size && (n->state[at / CLUSTER] != EXT_WRITTEN) != hole)
		at = (at / CLUSTER + 1) * CLUSTER;
	if (at > n->size)
		at = n->size;
	if (!m_expect(run_request(), off >= n->size || (!hole && at >= n->size) ? -ENXIO : 0))
		return;
	assert_int_equal(run.r.reply.off, at);
}

static void m_data_op(struct m_node *n)
{
	switch (m_rand(20)) {
	default:
		m_layout(n);
		break;
	case 0:
	case 1:
	case 2:
	case 3:
		m_commit(n);
		break;
	case 4:
		m_truncate(n);
		break;
	case 5:
	case 6:
		m_fallocate(n);
		break;
	case 7:
		m_append(n);
		break;
	case 8:
		m_lseek(n);
		break;
	}
}

/* One file at a time, so that it comes to have many extents. */
static void m_data(void)
{
	uint32_t node = m_pick(S_IFREG, false);

	if (node == M_NODES)
		return;
	for (uint32_t n = 1 + m_rand(16); n; n--)
		m_data_op(&m.n[node]);
}

static void m_open_close(void)
{
	uint32_t node = m_pick(0, false), opens = 0;
	struct m_node *n = &m.n[node];

	if (node == M_NODES || node == 0)
		return;
	for (uint32_t i = 0; i < M_NODES; i++)
		opens += m.n[i].open;
	if (!n->open) {
		if (opens < 40) {
			run_set_open(n->ino, true);
			n->open = true;
		}
		return;
	}
	run_set_open(n->ino, false);
	n->open = false;
	if (n->nlink == 0) {
		assert_int_equal(do_name(m_rand(2) ? FS_FREE_ORPHAN : FS_CLOSE, n->ino, ""), 0);
		assert_int_equal(do_getattr(n->ino), -ESTALE);
		m_free(n);
		return;
	}
	assert_int_equal(do_name(FS_CLOSE, n->ino, ""), 0);
	if (S_ISREG(n->mode))
		m_trimmed(n, n->size);
}

static void model_run(uint64_t seed, uint64_t root, uint32_t steps)
{
	memset(&m, 0, sizeof(m));
	m.p.s = seed;
	m.n[0] = (struct m_node){.used = true, .ino = root, .mode = S_IFDIR | 0755, .nlink = 2};
	for (m.ops = 0; m.ops < steps; m.ops++) {
		uint32_t what = m_rand(100);
		/* Grows, then shrinks. */
		uint32_t remove = (m.ops / 700) % 2 ? 40 : 10;

		model_hook(m.ops);
		if (what < remove)
			m_remove();
		else if (what < 50)
			m_make();
		else if (what < 55)
			m_link();
		else if (what < 65)
			m_rename();
		else if (what < 70)
			m_setattr();
		else if (what < 75)
			m_xattr();
		else if (what < 82)
			m_open_close();
		else
			m_data();
		if (m.ops % 200 == 199)
			m_compare_all();
	}
	m_compare_all();
}

/* Everything is removed: what remains is the root. */
static void model_empty(void)
{
	run.faults = false;
	for (bool more = true; more;) {
		more = false;
		for (uint32_t i = 0; i < M_ENTRIES; i++) {
			struct m_entry *e = &m.e[i];
			uint32_t node = e->node, dir = e->dir;
			bool is_dir = m_is_dir(node);

			if (!e->used || (is_dir && m_count(node)))
				continue;
			assert_int_equal(
				do_name(is_dir ? FS_RMDIR : FS_UNLINK, m.n[dir].ino, e->name), 0);
			e->used = false;
			m.n[dir].nlink -= is_dir;
			m_drop(node);
			more = true;
		}
	}
	for (uint32_t i = 1; i < M_NODES; i++) {
		if (!m.n[i].used)
			continue;
		run_set_open(m.n[i].ino, false);
		assert_int_equal(do_name(FS_FREE_ORPHAN, m.n[i].ino, ""), 0);
		m_free(&m.n[i]);
	}
	for (uint32_t i = 0; i < M_XATTRS; i++) {
		char name[16];

		snprintf(name, sizeof(name), "user.%u", i);
		if (m.n[0].x[i].there)
			assert_int_equal(do_name(FS_REMOVEXATTR, m.n[0].ino, name), 0);
		m.n[0].x[i].there = false;
	}
	assert_int_equal(m_entries(), 0);
}

#endif
