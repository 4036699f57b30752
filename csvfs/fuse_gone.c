/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuse_gone.c - what was removed, and a process of this node still holds: it stands in a directory, has one open, or a
 * fifo, or anything with O_PATH. (A regular file that is open stays at the coordinator until it is closed.)
 *
 * No name leads to it and it has no content, so nobody but this kernel can ask for it: what is left, its attributes, is
 * kept here until the kernel forgets it, or the mount ends. So chmod, chown, utimensat and extended attributes work as
 * on any Linux file system, whoever coordinates; and nothing can be made in it (ENOENT).
 *
 * It is here from the reply to the request of this node that removed it, which says what it was. If it was still open somewhere
 * (it may have been closed, and the RELEASE be on its way), the coordinator is asked until it says ESTALE. If another node
 * removed it: from the first ESTALE, with the attributes that were seen last.
 *
 * Lock: fuse_ops.gone_lock, held by whoever looks at the table. gone_count: atomic, so that who finds nothing pays nothing.
 */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "csvfs/base/cursor.h"
#include "csvfs/fuse_ops_int.h"

#define GONE_MAX 4096u
#define ACL_PREFIX "system.posix_acl_"

struct gone {
	struct list hash, age;
	fuse_ino_t nodeid;
	bool open; /* the coordinator still has it, and knows better */
	struct fs_attr attr;
	uint8_t *xattrs; /* for fs_gone_get_xattr() */
	size_t bytes;
};

static struct list *bucket(struct fuse_ops *f, fuse_ino_t nodeid)
{
	_Static_assert(GONE_BUCKETS == 1 << 8, "the top 8 bits");
	return &f->gone[nodeid * 0x9e3779b97f4a7c15ull >> 56];
}

static struct gone *find(struct fuse_ops *f, fuse_ino_t nodeid)
{
	list_for_each_entry (g, bucket(f, nodeid), struct gone, hash) {
		if (g->nodeid == nodeid)
			return g;
	}
	return NULL;
}

static void drop(struct fuse_ops *f, struct gone *g)
{
	list_del(&g->hash);
	list_del(&g->age);
	free(g->xattrs);
	free(g);
	__atomic_sub_fetch(&f->gone_count, 1, __ATOMIC_RELAXED);
}

void fuse_gone_init(struct fuse_ops *f)
{
	pthread_mutex_init(&f->gone_lock, NULL);
	list_init(&f->gone_age);
	for (unsigned i = 0; i < GONE_BUCKETS; i++)
		list_init(&f->gone[i]);
}

void fuse_gone_end(struct fuse_ops *f)
{
	while (!list_empty(&f->gone_age))
		drop(f, list_first_entry(&f->gone_age, struct gone, age));
}

static bool is_any(struct fuse_ops *f)
{
	return __atomic_load_n(&f->gone_count, __ATOMIC_RELAXED) != 0;
}

void fuse_gone_forget(struct fuse_ops *f, fuse_ino_t nodeid)
{
	struct gone *g;

	if (!is_any(f))
		return;
	pthread_mutex_lock(&f->gone_lock);
	g = find(f, nodeid);
	if (g)
		drop(f, g);
	pthread_mutex_unlock(&f->gone_lock);
}

static struct gone *add(struct fuse_ops *f, const struct fs_attr *a)
{
	fuse_ino_t nodeid = fuse_ops_nodeid(f, a->ino, a->generation);
	struct gone *g = find(f, nodeid);

	if (g)
		return g;
	g = calloc(1, sizeof(*g));
	if (!g)
		return NULL;
	/* A kernel that forgets does say so; this is for one that holds more than anybody would. */
	if (f->gone_count >= GONE_MAX)
		drop(f, list_first_entry(&f->gone_age, struct gone, age));
	g->nodeid = nodeid;
	g->attr = *a;
	g->attr.nlink = 0;
	list_add(&g->hash, bucket(f, nodeid));
	list_add_tail(&g->age, &f->gone_age);
	__atomic_add_fetch(&f->gone_count, 1, __ATOMIC_RELAXED);
	return g;
}

void fuse_gone_removed(struct fuse_ops *f, const struct fs_reply *rp)
{
	struct cursor c = cursor_of_const(rp->data, rp->data_len);
	struct fs_attr a;
	struct gone *g;
	bool open;

	if (rp->err || !fs_gone_get(&c, &a, &open))
		return;
	pthread_mutex_lock(&f->gone_lock);
	g = add(f, &a);
	if (g)
		g->open = open;
	if (g && cursor_left(&c) && !g->xattrs) {
		g->xattrs = malloc(cursor_left(&c));
		g->bytes = g->xattrs ? cursor_left(&c) : 0;
		memcpy(g->xattrs, c.p, g->bytes);
	}
	pthread_mutex_unlock(&f->gone_lock);
}

/* ------------------------------------------------------------------ extended attributes */

static bool xattr_find(const struct gone *g, const char *name, struct fs_gone_xattr *x)
{
	struct cursor c = cursor_of_const(g->xattrs, g->bytes);
	size_t len = strlen(name);

	while (fs_gone_get_xattr(&c, x))
		if (x->name_len == len && !memcmp(x->name, name, len))
			return true;
	return false;
}

static int get(const struct gone *g, const char *name, struct fs_reply *rp)
{
	struct fs_gone_xattr x;

	if (!xattr_find(g, name, &x))
		return -ENODATA;
	memcpy(rp->data, x.value, x.value_len);
	rp->data_len = x.value_len;
	return 0;
}

/*
 * Of a symlink, from who removed it. If that was another node it is not known: on ESTALE the kernel walks the path
 * again, and finds what has that name now.
 */
static int target(const struct gone *g, struct fs_reply *rp)
{
	return get(g, "", rp) ? -ESTALE : 0;
}

/* As the engine lists them: trusted.* for root alone. */
static int list(const struct gone *g, uint32_t uid, struct fs_reply *rp)
{
	struct cursor c = cursor_of_const(g->xattrs, g->bytes);
	char *out = rp->data;
	struct fs_gone_xattr x;
	uint32_t used = 0;

	while (fs_gone_get_xattr(&c, &x)) {
		bool trusted = x.name_len >= 8 && !memcmp(x.name, "trusted.", 8);

		if (!x.name_len || (trusted && uid != 0))
			continue;
		memcpy(out + used, x.name, x.name_len);
		out[used + x.name_len] = 0;
		used += x.name_len + 1;
	}
	rp->data_len = used;
	return 0;
}

static void take_away(struct gone *g, const struct fs_gone_xattr *x)
{
	size_t n = FS_GONE_XATTR_BYTES((size_t)x->name_len, x->value_len);
	uint8_t *at = (uint8_t *)(uintptr_t)x->name - 5;

	memmove(at, at + n, (size_t)(g->xattrs + g->bytes - (at + n)));
	g->bytes -= n;
}

static int set(struct gone *g, const struct fs_request *rq)
{
	uint32_t name_len = (uint32_t)strlen(rq->name);
	size_t n = FS_GONE_XATTR_BYTES((size_t)name_len, rq->data_len);
	struct fs_gone_xattr x;
	struct cursor c;
	bool there = xattr_find(g, rq->name, &x);
	uint8_t *more;

	/* An access list would change the mode, and here is nobody who knows how. */
	if (strncmp(rq->name, "user.", 5) && strncmp(rq->name, "trusted.", 8) &&
		strncmp(rq->name, "security.", 9))
		return -EOPNOTSUPP;
	if (rq->flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	if (there && (rq->flags & XATTR_CREATE))
		return -EEXIST;
	if (!there && (rq->flags & XATTR_REPLACE))
		return -ENODATA;
	if (g->bytes + n > XATTR_BYTES_MAX)
		return -ENOSPC;
	if (there)
		take_away(g, &x);
	more = realloc(g->xattrs, g->bytes + n);
	if (!more)
		return -ENOMEM;
	g->xattrs = more;
	c = cursor_of(more + g->bytes, n);
	fs_gone_put_xattr(&c, rq->name, name_len, rq->data, rq->data_len);
	g->bytes += n;
	g->attr.ctime_ns = rq->time_ns;
	return 0;
}

static int unset(struct gone *g, const struct fs_request *rq)
{
	struct fs_gone_xattr x;

	if (!xattr_find(g, rq->name, &x))
		return strncmp(rq->name, ACL_PREFIX, strlen(ACL_PREFIX)) ? -ENODATA : 0;
	take_away(g, &x);
	g->attr.ctime_ns = rq->time_ns;
	return 0;
}

/* ------------------------------------------------------------------ requests */

static int set_attr(struct gone *g, const struct fs_request *rq)
{
	struct fs_attr *a = &g->attr;

	if (rq->valid & FS_SET_SIZE)
		return -ESTALE;
	a->ctime_ns = rq->time_ns;
	if (rq->valid & FS_SET_MODE)
		a->mode = (a->mode & S_IFMT) | (rq->attr.mode & 07777);
	if (rq->valid & FS_SET_UID)
		a->uid = rq->attr.uid;
	if (rq->valid & FS_SET_GID)
		a->gid = rq->attr.gid;
	if (rq->valid & FS_SET_ATIME)
		a->atime_ns = rq->attr.atime_ns;
	if (rq->valid & FS_SET_MTIME)
		a->mtime_ns = rq->attr.mtime_ns;
	if (rq->valid & FS_SET_CTIME)
		a->ctime_ns = rq->attr.ctime_ns;
	return 0;
}

/* Of q->rq.ino, which is `g`. -EAGAIN: ask the core. */
static int serve(struct gone *g, const struct frq *q, struct fs_reply *rp)
{
	const struct fs_request *rq = &q->rq;

	switch (rq->op) {
	case FS_GETATTR:
		return q->open_dot || q->later ? -EAGAIN : 0;
	case FS_SETATTR:
		return set_attr(g, rq);
	case FS_READLINK:
		return S_ISLNK(g->attr.mode) ? target(g, rp) : -EINVAL;
	case FS_GETXATTR:
		return get(g, rq->name, rp);
	case FS_LISTXATTR:
		return list(g, rq->cred.uid, rp);
	case FS_SETXATTR:
		return set(g, rq);
	case FS_REMOVEXATTR:
		return unset(g, rq);
	case FS_FSYNC:
		return 0;
	case FS_LOOKUP:
	case FS_READDIR:
	case FS_MKNOD:
	case FS_MKDIR:
	case FS_SYMLINK:
	case FS_LINK:
	case FS_UNLINK:
	case FS_RMDIR:
	case FS_RENAME:
	case FS_CREATE:
		return -ENOENT;
	default:
		return -EAGAIN;
	}
}

bool fuse_gone_answer(struct fuse_ops *f, struct frq *q)
{
	char data[XATTR_BYTES_MAX];
	struct fs_reply rp = {.err = -EAGAIN, .data = data};
	struct gone *g, *dir;

	if (!is_any(f) || !q->req)
		return false;
	pthread_mutex_lock(&f->gone_lock);
	g = find(f, fuse_ops_nodeid(f, q->rq.ino, q->rq.generation));
	dir = q->rq.ino2 ? find(f, fuse_ops_nodeid(f, q->rq.ino2, q->rq.generation2)) : NULL;
	if (g && !g->open)
		rp.err = serve(g, q, &rp);
	else if (dir && !dir->open)
		rp.err = -ENOENT;
	if (g)
		rp.attr = g->attr;
	pthread_mutex_unlock(&f->gone_lock);
	if (rp.err == -EAGAIN)
		return false;
	fuse_answer(f, q, &rp);
	return true;
}

bool fuse_gone_stale(struct fuse_ops *f, struct frq *q)
{
	const struct fs_attr *a = q->req ? fuse_answer_seen(f, q) : NULL;
	struct gone *g;

	switch (q->rq.op) {
	case FS_LOOKUP:
	case FS_MKNOD:
	case FS_MKDIR:
	case FS_SYMLINK:
	case FS_UNLINK:
	case FS_RMDIR:
		/*
		 * The kernel walks the path again on ESTALE, and may find another directory of that name by now. If it
		 * comes to the same one, there is no name that leads there.
		 */
	case FS_GETATTR:
	case FS_SETATTR:
	case FS_READLINK:
	case FS_READDIR:
	case FS_GETXATTR:
	case FS_LISTXATTR:
	case FS_SETXATTR:
	case FS_REMOVEXATTR:
		break;
	default:
		/* Which of two is gone is not known; and CREATE says so of a name that came up meanwhile. */
		return false;
	}
	pthread_mutex_lock(&f->gone_lock);
	g = a ? add(f, a) : find(f, fuse_ops_nodeid(f, q->rq.ino, q->rq.generation));
	if (g && g->open && a && a->ctime_ns >= g->attr.ctime_ns) {
		g->attr = *a;
		g->attr.nlink = 0;
	}
	if (g)
		g->open = false;
	pthread_mutex_unlock(&f->gone_lock);
	return q->rq.op != FS_LOOKUP && (q->rq.op < FS_MKNOD || q->rq.op > FS_RMDIR) &&
	       fuse_gone_answer(f, q);
}
