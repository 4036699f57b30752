/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuse_ops.c - the kernel's requests but for READ and WRITE: each becomes one EV_REQUEST, and its
 * FX_REPLY the answer. Decides nothing.
 *
 * Locks: fuse_ops.lock guards the table of requests; post() is called with it held, so that the core
 * cannot answer a request that is still being handed over.
 */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "csvfs/base/assert.h"
#include "csvfs/fuse_ops_int.h"

#define CACHE_SECONDS 3600.0
#define BLKSIZE 65536 /* st_blksize: what stdio and cp read and write at once */

/* A request that the core has. */
struct frq {
	struct fs_request rq; /* first, and valid until the answer: EV_REQUEST points to it */
	fuse_req_t req;	      /* NULL: nobody waits for the answer */
	size_t size;	      /* READDIR, GETXATTR, LISTXATTR: room of the kernel */
	uint32_t idx, gen;
	bool open_dot;	      /* LOOKUP of ".": by inode number */
	uint64_t handle; /* OPEN, CREATE: its number from now on */
	bool statx;	      /* GETATTR: fuse_more.c */
	/* FALLOCATE: parts of clusters to be written with zeros before */
	uint32_t part_count, part_at;
	struct {
		uint64_t off;
		uint32_t len;
	} part[2];
	void *data;
	struct list link;     /* free */
};

static struct fuse_ops *ops_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static uint64_t ino_of(fuse_req_t req, fuse_ino_t nodeid)
{
	return nodeid == FUSE_ROOT_ID ? ops_of(req)->cfg.root_ino : nodeid;
}

/* ------------------------------------------------------------------ the table of requests */

static uint64_t tag_of(const struct frq *q)
{
	return FUSE_OPS_TAG | (uint64_t)(q->gen & 0x3fffffffu) << 32 | q->idx;
}

static struct frq *frq_new_slot(struct fuse_ops *f)
{
	struct frq *q = calloc(1, sizeof(*q)), **t;

	if (!q)
		return NULL;
	t = realloc(f->table, (f->table_len + 1) * sizeof(*t));
	if (!t) {
		free(q);
		return NULL;
	}
	f->table = t;
	q->idx = f->table_len;
	f->table[f->table_len++] = q;
	return q;
}

/* A request with its common fields filled in; NULL: it has been answered with ENOMEM. */
static struct frq *frq_get(fuse_req_t req, struct fuse_ops *f, enum fs_op op, uint64_t ino)
{
	struct frq *q = NULL;
	struct timespec ts;

	pthread_mutex_lock(&f->lock);
	if (!list_empty(&f->free)) {
		q = list_first_entry(&f->free, struct frq, link);
		list_del(&q->link);
	} else {
		q = frq_new_slot(f);
	}
	if (q)
		f->pending++;
	pthread_mutex_unlock(&f->lock);
	if (!q) {
		if (req)
			fuse_reply_err(req, ENOMEM);
		return NULL;
	}
	list_init(&q->link);
	memset(&q->rq, 0, sizeof(q->rq));
	q->req = req;
	q->size = 0;
	q->open_dot = q->statx = false;
	q->handle = op == FS_OPEN || op == FS_CREATE
			    ? __atomic_add_fetch(&f->handles, 1, __ATOMIC_RELAXED)
			    : 0;
	clock_gettime(CLOCK_REALTIME, &ts);
	q->rq.op = op;
	q->rq.ino = ino;
	q->rq.time_ns = (int64_t)ts.tv_sec * (int64_t)NS_PER_SEC + ts.tv_nsec;
	if (req) {
		const struct fuse_ctx *c = fuse_req_ctx(req);

		q->rq.cred = (struct fs_cred){.uid = c->uid, .gid = c->gid, .umask = c->umask};
	}
	return q;
}

static void frq_put(struct fuse_ops *f, struct frq *q)
{
	free(q->data);
	q->data = NULL;
	pthread_mutex_lock(&f->lock);
	q->req = NULL;
	q->gen++;
	list_add(&q->link, &f->free);
	csv_assert(f->pending > 0);
	f->pending--;
	pthread_mutex_unlock(&f->lock);
}

static void frq_fail(struct frq *q, int err)
{
	struct fuse_ops *f = ops_of(q->req);

	fuse_reply_err(q->req, err);
	frq_put(f, q);
}

static void interrupted(fuse_req_t req, void *data)
{
	struct fuse_ops *f = ops_of(req);
	struct event ev = {.type = EV_CANCEL, .tag = (uint64_t)(uintptr_t)data};

	f->cfg.post(f->cfg.ctx, &ev);
}

static void frq_post(struct fuse_ops *f, struct frq *q)
{
	struct event ev = {.type = EV_REQUEST, .tag = tag_of(q), .rq = &q->rq};
	fuse_req_t req = q->req;

	/*
	 * The answer may come as soon as this is posted, and ends req: it waits for the lock. The
	 * library may call interrupted() at once: its EV_CANCEL then comes behind the EV_REQUEST.
	 */
	pthread_mutex_lock(&f->lock);
	f->cfg.post(f->cfg.ctx, &ev);
	if (req)
		fuse_req_interrupt_func(req, interrupted, (void *)(uintptr_t)ev.tag);
	pthread_mutex_unlock(&f->lock);
}

static bool set_name(struct frq *q, char to[NAME_BYTES_MAX + 1], const char *name)
{
	size_t n = strlen(name);

	if (n > NAME_BYTES_MAX) {
		frq_fail(q, ENAMETOOLONG);
		return false;
	}
	memcpy(to, name, n + 1);
	return true;
}

static bool set_data(struct frq *q, const void *data, size_t len)
{
	if (!len)
		return true;
	q->data = malloc(len);
	if (!q->data) {
		frq_fail(q, ENOMEM);
		return false;
	}
	memcpy(q->data, data, len);
	q->rq.data = q->data;
	q->rq.data_len = (uint32_t)len;
	return true;
}

/* A request on a name in a directory. */
static struct frq *frq_named(fuse_req_t req, enum fs_op op, fuse_ino_t parent, const char *name)
{
	struct fuse_ops *f = ops_of(req);
	struct frq *q = frq_get(req, f, op, ino_of(req, parent));

	if (!q || !set_name(q, q->rq.name, name))
		return NULL;
	return q;
}

static struct frq *frq_plain(fuse_req_t req, enum fs_op op, fuse_ino_t ino)
{
	return frq_get(req, ops_of(req), op, ino_of(req, ino));
}

struct fs_request *fuse_ops_begin(fuse_req_t req, enum fs_op op, fuse_ino_t ino)
{
	struct frq *q = frq_plain(req, op, ino);

	return q ? &q->rq : NULL;
}

void fuse_ops_post(fuse_req_t req, struct fs_request *rq)
{
	frq_post(ops_of(req), container_of(rq, struct frq, rq));
}

/* ------------------------------------------------------------------ requests */

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct frq *q;

	/* Of a file handle (NFS, open_by_handle_at): the inode itself, by its number. */
	if (!strcmp(name, ".")) {
		q = frq_plain(req, FS_GETATTR, parent);
		if (q)
			q->open_dot = true;
	} else {
		q = frq_named(req, FS_LOOKUP, parent, name);
	}
	if (q)
		frq_post(ops_of(req), q);
}

/* The core keeps nothing per inode that the kernel knows. */
static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	(void)ino;
	(void)nlookup;
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	(void)count;
	(void)forgets;
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct frq *q = frq_plain(req, FS_GETATTR, ino);

	(void)fi;
	if (!q)
		return;
	q->statx = fuse_more_beside.statx;
	frq_post(ops_of(req), q);
}

/* What is beyond the years 1677 and 2262 becomes the last that can be kept (as utimensat(2) says). */
static int64_t ns_of(struct timespec ts)
{
	const int64_t last_s = INT64_MAX / (int64_t)NS_PER_SEC;

	if (ts.tv_sec >= last_s)
		return INT64_MAX;
	if (ts.tv_sec < -last_s)
		return -last_s * (int64_t)NS_PER_SEC;
	return (int64_t)ts.tv_sec * (int64_t)NS_PER_SEC + ts.tv_nsec;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int set,
	struct fuse_file_info *fi)
{
	struct frq *q = frq_plain(req, FS_SETATTR, ino);
	struct fs_request *rq;

	(void)fi;
	if (!q)
		return;
	rq = &q->rq;
	if (set & FUSE_SET_ATTR_MODE) {
		rq->valid |= FS_SET_MODE;
		rq->attr.mode = st->st_mode;
	}
	if (set & FUSE_SET_ATTR_UID) {
		rq->valid |= FS_SET_UID;
		rq->attr.uid = st->st_uid;
	}
	if (set & FUSE_SET_ATTR_GID) {
		rq->valid |= FS_SET_GID;
		rq->attr.gid = st->st_gid;
	}
	if (set & FUSE_SET_ATTR_SIZE) {
		rq->valid |= FS_SET_SIZE;
		rq->attr.size = (uint64_t)st->st_size;
	}
	if (set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) {
		rq->valid |= FS_SET_ATIME;
		rq->attr.atime_ns = set & FUSE_SET_ATTR_ATIME_NOW ? rq->time_ns
								  : ns_of(st->st_atim);
	}
	if (set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) {
		rq->valid |= FS_SET_MTIME;
		rq->attr.mtime_ns = set & FUSE_SET_ATTR_MTIME_NOW ? rq->time_ns
								  : ns_of(st->st_mtim);
	}
	if (set & FUSE_SET_ATTR_CTIME) {
		rq->valid |= FS_SET_CTIME;
		rq->attr.ctime_ns = ns_of(st->st_ctim);
	}
	ops_of(req)->hooks.settle(ops_of(req)->hooks.ctx, rq->ino);
	ops_of(req)->hooks.times_set(ops_of(req)->hooks.ctx, rq->ino);
	frq_post(ops_of(req), q);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct frq *q = frq_plain(req, FS_READLINK, ino);

	if (q)
		frq_post(ops_of(req), q);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct frq *q = frq_named(req, FS_SYMLINK, parent, name);

	if (!q)
		return;
	if (strlen(target) > SYMLINK_BYTES_MAX) {
		frq_fail(q, ENAMETOOLONG);
		return;
	}
	q->rq.mode = S_IFLNK | 0777;
	if (set_data(q, target, strlen(target)))
		frq_post(ops_of(req), q);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct frq *q = frq_named(req, FS_MKNOD, parent, name);

	if (!q)
		return;
	q->rq.mode = mode;
	q->rq.rdev = (uint32_t)rdev;
	frq_post(ops_of(req), q);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct frq *q = frq_named(req, FS_MKDIR, parent, name);

	if (!q)
		return;
	q->rq.mode = (mode & 07777) | S_IFDIR;
	frq_post(ops_of(req), q);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct frq *q = frq_named(req, FS_UNLINK, parent, name);

	if (q)
		frq_post(ops_of(req), q);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct frq *q = frq_named(req, FS_RMDIR, parent, name);

	if (q)
		frq_post(ops_of(req), q);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
	const char *newname, unsigned int flags)
{
	struct frq *q;

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	q = frq_named(req, FS_RENAME, parent, name);
	if (!q || !set_name(q, q->rq.name2, newname))
		return;
	q->rq.ino2 = ino_of(req, newparent);
	q->rq.flags = flags;
	frq_post(ops_of(req), q);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct frq *q = frq_plain(req, FS_LINK, ino);

	/* FS_LINK: ino, ino2 = new parent, name. */
	if (!q || !set_name(q, q->rq.name, newname))
		return;
	q->rq.ino2 = ino_of(req, newparent);
	frq_post(ops_of(req), q);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct frq *q = frq_plain(req, FS_OPEN, ino);

	if (!q)
		return;
	q->rq.flags = (uint32_t)fi->flags;
	frq_post(ops_of(req), q);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	struct fuse_file_info *fi)
{
	bool tmpfile = fuse_more_beside.tmpfile;
	struct frq *q = frq_named(req, FS_CREATE, parent, tmpfile ? "-" : name);

	if (!q)
		return;
	q->rq.mode = (mode & 07777) | S_IFREG;
	q->rq.flags = (uint32_t)fi->flags;
	q->rq.valid = tmpfile ? FS_NO_NAME : 0;
	frq_post(ops_of(req), q);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct frq *q = frq_plain(req, FS_FSYNC, ino);
	struct fuse_ops *f = ops_of(req);

	(void)fi;
	if (!q)
		return;
	q->rq.flags = datasync ? 1 : 0;
	if (!datasync)
		f->hooks.settle(f->hooks.ctx, q->rq.ino);
	frq_post(f, q);
}

/* A directory's handle is not known to the core: there is nothing it would keep for it. */
static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fuse_reply_open(req, fi);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, 0);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
	struct fuse_file_info *fi)
{
	struct frq *q = frq_plain(req, FS_READDIR, ino);

	(void)fi;
	if (!q)
		return;
	q->rq.off = (uint64_t)off;
	q->rq.len = size;
	q->size = size;
	frq_post(ops_of(req), q);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	op_fsync(req, ino, datasync, fi);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct frq *q = frq_plain(req, FS_STATFS, ino ? ino : FUSE_ROOT_ID);

	if (q)
		frq_post(ops_of(req), q);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
	size_t size, int flags)
{
	struct frq *q = frq_named(req, FS_SETXATTR, ino, name);

	if (!q)
		return;
	if (size > XATTR_BYTES_MAX) {
		frq_fail(q, E2BIG);
		return;
	}
	q->rq.flags = (uint32_t)flags;
	q->rq.valid = fuse_more_beside.kill_sgid ? FS_SET_KILL_SUID : 0;
	if (set_data(q, value, size))
		frq_post(ops_of(req), q);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct frq *q = frq_named(req, FS_GETXATTR, ino, name);

	if (!q)
		return;
	q->size = size;
	frq_post(ops_of(req), q);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct frq *q = frq_plain(req, FS_LISTXATTR, ino);

	if (!q)
		return;
	q->size = size;
	frq_post(ops_of(req), q);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct frq *q = frq_named(req, FS_REMOVEXATTR, ino, name);

	if (q)
		frq_post(ops_of(req), q);
}

static void add_part(struct frq *q, uint64_t off, uint64_t end)
{
	if (off >= end)
		return;
	q->part[q->part_count].off = off;
	q->part[q->part_count++].len = (uint32_t)(end - off);
}

/* What the engine leaves alone of a range that shall become zero: it works in whole clusters. */
static void find_parts(struct frq *q, uint64_t cs)
{
	uint64_t off = q->rq.off, end = off + q->rq.len;
	uint64_t first = (off + cs - 1) & ~(cs - 1), last = end & ~(cs - 1);

	q->part_count = q->part_at = 0;
	if (end < off)
		return; /* the engine says what is wrong with it */
	if (first > last) {
		add_part(q, off, end);
		return;
	}
	add_part(q, off, first);
	add_part(q, last, end);
}

static void next_part(void *arg, int err)
{
	struct frq *q = arg;
	struct fuse_ops *f = ops_of(q->req);
	uint32_t i = q->part_at++;

	if (err < 0)
		frq_fail(q, -err);
	else if (i < q->part_count)
		f->hooks.zero(f->hooks.ctx, q->rq.ino, q->part[i].off, q->part[i].len, next_part, q);
	else
		frq_post(f, q);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
	struct fuse_file_info *fi)
{
	struct frq *q = frq_plain(req, FS_FALLOCATE, ino);

	(void)fi;
	if (!q)
		return;
	q->rq.flags = (uint32_t)mode;
	q->rq.off = (uint64_t)off;
	q->rq.len = (uint64_t)len;
	if (!(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))) {
		frq_post(ops_of(req), q);
		return;
	}
	q->rq.valid = FS_EDGES_ZEROED;
	find_parts(q, ops_of(req)->hooks.cluster_bytes);
	next_part(q, 0);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
	struct fuse_file_info *fi)
{
	struct frq *q = frq_plain(req, FS_LSEEK, ino);

	(void)fi;
	if (!q)
		return;
	q->rq.off = (uint64_t)off;
	q->rq.flags = (uint32_t)whence;
	frq_post(ops_of(req), q);
}

/* ------------------------------------------------------------------ answers */

static struct timespec ts_of(int64_t ns)
{
	int64_t s = ns / (int64_t)NS_PER_SEC, rest = ns % (int64_t)NS_PER_SEC;

	if (rest < 0) {
		s--;
		rest += (int64_t)NS_PER_SEC;
	}
	return (struct timespec){.tv_sec = s, .tv_nsec = rest};
}

static uint64_t *plain_slot(const struct fuse_ops *f, uint64_t ino)
{
	return (uint64_t *)(uintptr_t)&f->plain[(ino ^ ino >> 13) % PLAIN_SLOTS];
}

bool fuse_ops_is_plain(const struct fuse_ops *f, uint64_t ino)
{
	return __atomic_load_n(plain_slot(f, ino), __ATOMIC_RELAXED) == ino;
}

void fuse_ops_saw_mode(struct fuse_ops *f, uint64_t ino, uint32_t mode)
{
	uint64_t *slot = plain_slot(f, ino), was = ino;
	bool plain = !(mode & S_ISUID) && (mode & (S_ISGID | S_IXGRP)) != (S_ISGID | S_IXGRP);

	if (plain)
		__atomic_store_n(slot, ino, __ATOMIC_RELAXED);
	else
		(void)__atomic_compare_exchange_n(
			slot, &was, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static void stat_of(struct fuse_ops *f, struct stat *st, const struct fs_attr *a)
{
	int64_t touched_ns = f->hooks.touched_ns(f->hooks.ctx, a->ino);
	int64_t read_ns = f->hooks.read_ns(f->hooks.ctx, a->ino);
	struct fs_attr now = *a;

	if (S_ISREG(a->mode))
		fuse_ops_saw_mode(f, a->ino, a->mode);
	memset(st, 0, sizeof(*st));
	st->st_ino = a->ino;
	st->st_mode = a->mode;
	st->st_nlink = a->nlink;
	st->st_uid = a->uid;
	st->st_gid = a->gid;
	st->st_rdev = a->rdev;
	st->st_size = (off_t)a->size;
	st->st_blocks = (blkcnt_t)a->blocks;
	st->st_blksize = BLKSIZE;
	/* What was written here a moment ago shows here, told to the core or not. 0: nothing was. */
	if (touched_ns)
		fs_attr_written(&now, touched_ns);
	if (read_ns && fs_atime_due(&now, read_ns))
		now.atime_ns = read_ns;
	st->st_atim = ts_of(now.atime_ns);
	st->st_mtim = ts_of(now.mtime_ns);
	st->st_ctim = ts_of(now.ctime_ns);
}

static double timeout_of(const struct fuse_ops *f)
{
	return f->cfg.cache ? CACHE_SECONDS : 0;
}

static void entry_of(struct fuse_ops *f, struct fuse_entry_param *e, const struct fs_attr *a)
{
	memset(e, 0, sizeof(*e));
	e->ino = fuse_ops_nodeid(f, a->ino);
	e->generation = a->generation;
	e->attr_timeout = e->entry_timeout = timeout_of(f);
	stat_of(f, &e->attr, a);
}

static void answer_entry(struct fuse_ops *f, struct frq *q, const struct fs_reply *rp)
{
	struct fuse_entry_param e;

	if (rp->err == -ENOENT && q->rq.op == FS_LOOKUP && f->cfg.cache) {
		/* "No such name" may be kept as well. */
		memset(&e, 0, sizeof(e));
		e.entry_timeout = timeout_of(f);
		fuse_reply_entry(q->req, &e);
		return;
	}
	if (rp->err) {
		fuse_reply_err(q->req, q->open_dot && rp->err == -ENOENT ? ESTALE : -rp->err);
		return;
	}
	entry_of(f, &e, &rp->attr);
	fuse_reply_entry(q->req, &e);
}

/* An interrupted open is not followed by a RELEASE: the handle that the core counted goes again. */
static void close_unasked(struct fuse_ops *f, uint64_t ino)
{
	struct frq *q = frq_get(NULL, f, FS_CLOSE, ino);

	if (q)
		frq_post(f, q);
}

#define OPEN_FLAGS (FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES)

/*
 * The library has no field for FOPEN_PARALLEL_DIRECT_WRITES, without which the kernel sends one
 * write of a file at a time: so the kernel's own struct (linux/fuse.h).
 */
static void answer_open(struct fuse_ops *f, struct frq *q, const struct fs_reply *rp)
{
	struct fuse_open_out out = {.fh = q->handle, .open_flags = OPEN_FLAGS};

	if (rp->err) {
		fuse_reply_err(q->req, -rp->err);
		return;
	}
	if (fuse_reply_buf(q->req, (const char *)&out, sizeof(out)) == -ENOENT)
		close_unasked(f, q->rq.ino);
}

static void answer_create(struct fuse_ops *f, struct frq *q, const struct fs_reply *rp)
{
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out = {.open = {.fh = q->handle, .open_flags = OPEN_FLAGS}};
	struct stat st;

	if (rp->err) {
		fuse_reply_err(q->req, -rp->err);
		return;
	}
	stat_of(f, &st, &rp->attr);
	out.entry.nodeid = fuse_ops_nodeid(f, rp->attr.ino);
	out.entry.generation = rp->attr.generation;
	out.entry.entry_valid = out.entry.attr_valid = (uint64_t)timeout_of(f);
	fuse_more_kernel_attr(&out.entry.attr, &st);
	if (fuse_reply_buf(q->req, (const char *)&out, sizeof(out)) == -ENOENT)
		close_unasked(f, rp->attr.ino);
}

static void answer_attr(struct fuse_ops *f, struct frq *q, const struct fs_reply *rp)
{
	struct stat st;

	if (rp->err) {
		fuse_reply_err(q->req, -rp->err);
		return;
	}
	stat_of(f, &st, &rp->attr);
	if (q->statx)
		fuse_more_answer_statx(q->req, &st, ts_of(rp->attr.btime_ns), timeout_of(f));
	else
		fuse_reply_attr(q->req, &st, timeout_of(f));
}

static void answer_readlink(struct frq *q, const struct fs_reply *rp)
{
	char target[SYMLINK_BYTES_MAX + 1];

	if (rp->err || rp->data_len > SYMLINK_BYTES_MAX) {
		fuse_reply_err(q->req, rp->err ? -rp->err : EIO);
		return;
	}
	memcpy(target, rp->data, rp->data_len);
	target[rp->data_len] = 0;
	fuse_reply_readlink(q->req, target);
}

/* The stream of fs_dirent has the kernel's sizes, so what fits there fits here. */
static size_t dirents(fuse_req_t req, char *out, size_t room, const struct fs_reply *rp)
{
	const uint8_t *p = rp->data, *end = p + rp->data_len;
	char name[NAME_BYTES_MAX + 1];
	struct fs_dirent d;
	size_t used = 0, n;

	while ((size_t)(end - p) >= sizeof(d)) {
		struct stat st = {0};

		memcpy(&d, p, sizeof(d));
		if (d.namelen > NAME_BYTES_MAX || FS_DIRENT_SIZE(d.namelen) > (size_t)(end - p))
			break;
		memcpy(name, p + sizeof(d), d.namelen);
		name[d.namelen] = 0;
		st.st_ino = d.ino;
		st.st_mode = d.type << 12;
		n = fuse_add_direntry(req, out + used, room - used, name, &st, (off_t)d.cookie);
		if (n > room - used)
			break;
		used += n;
		p += FS_DIRENT_SIZE(d.namelen);
	}
	return used;
}

static void answer_readdir(struct frq *q, const struct fs_reply *rp)
{
	char *out;

	if (rp->err) {
		fuse_reply_err(q->req, -rp->err);
		return;
	}
	out = malloc(q->size ? q->size : 1);
	if (!out) {
		fuse_reply_err(q->req, ENOMEM);
		return;
	}
	fuse_reply_buf(q->req, out, dirents(q->req, out, q->size, rp));
	free(out);
}

static void answer_xattr(struct frq *q, const struct fs_reply *rp)
{
	if (rp->err)
		fuse_reply_err(q->req, -rp->err);
	else if (!q->size)
		fuse_reply_xattr(q->req, rp->data_len);
	else if (rp->data_len > q->size)
		fuse_reply_err(q->req, ERANGE);
	else
		fuse_reply_buf(q->req, rp->data, rp->data_len);
}

static void answer_statfs(struct frq *q, const struct fs_reply *rp)
{
	const struct fs_statfs *s = &rp->statfs;
	struct statvfs v = {
		.f_bsize = s->bsize,
		.f_frsize = s->bsize,
		.f_blocks = s->blocks,
		.f_bfree = s->bfree,
		.f_bavail = s->bavail,
		.f_files = s->files,
		.f_ffree = s->ffree,
		.f_favail = s->ffree,
		.f_namemax = s->namelen,
	};

	if (rp->err)
		fuse_reply_err(q->req, -rp->err);
	else
		fuse_reply_statfs(q->req, &v);
}

static void answer(struct fuse_ops *f, struct frq *q, const struct fs_reply *rp)
{
	switch (q->rq.op) {
	case FS_GETATTR:
		if (!q->open_dot) {
			answer_attr(f, q, rp);
			return;
		}
		answer_entry(f, q, rp);
		return;
	case FS_LOOKUP:
	case FS_MKNOD:
	case FS_MKDIR:
	case FS_SYMLINK:
	case FS_LINK:
		answer_entry(f, q, rp);
		return;
	case FS_SETATTR:
		answer_attr(f, q, rp);
		return;
	case FS_OPEN:
		answer_open(f, q, rp);
		return;
	case FS_CREATE:
		answer_create(f, q, rp);
		return;
	case FS_READLINK:
		answer_readlink(q, rp);
		return;
	case FS_READDIR:
		answer_readdir(q, rp);
		return;
	case FS_GETXATTR:
	case FS_LISTXATTR:
		answer_xattr(q, rp);
		return;
	case FS_STATFS:
		answer_statfs(q, rp);
		return;
	case FS_LSEEK:
		if (rp->err)
			fuse_reply_err(q->req, -rp->err);
		else
			fuse_reply_lseek(q->req, (off_t)rp->off);
		return;
	case FS_LOCK:
	case FS_UNLOCK:
	case FS_GETLK:
		fuse_lock_answer(q->req, &q->rq, rp);
		return;
	case FS_UNLINK:
	case FS_RMDIR:
	case FS_RENAME:
	case FS_SETXATTR:
	case FS_REMOVEXATTR:
	case FS_FALLOCATE:
	case FS_CLOSE:
	case FS_FSYNC:
		fuse_reply_err(q->req, -rp->err);
		return;
	case FS_NONE:
	case FS_LAYOUT_GET:
	case FS_LAYOUT_COMMIT:
	case FS_LAYOUT_RETURN:
	case FS_APPEND:
	case FS_LOCK_CANCEL:
	case FS_FREE_ORPHAN:
		break;
	}
	csv_assert(!"a request of the kernel");
}

void fuse_ops_reply(struct fuse_ops *f, uint64_t tag, const struct fs_reply *rp)
{
	uint32_t idx = (uint32_t)tag;
	struct frq *q = NULL;

	pthread_mutex_lock(&f->lock);
	if (idx < f->table_len && tag_of(f->table[idx]) == tag)
		q = f->table[idx];
	pthread_mutex_unlock(&f->lock);
	if (!q)
		return;
	if (q->req)
		answer(f, q, rp);
	frq_put(f, q);
}

uint32_t fuse_ops_pending(struct fuse_ops *f)
{
	uint32_t n;

	pthread_mutex_lock(&f->lock);
	n = f->pending;
	pthread_mutex_unlock(&f->lock);
	return n;
}

/* Those that the core never answered, too: the session is gone, and the kernel's requests with it. */
void fuse_ops_forget_requests(struct fuse_ops *f)
{
	for (uint32_t i = 0; i < f->table_len; i++) {
		free(f->table[i]->data);
		free(f->table[i]);
	}
	free(f->table);
}

const struct fuse_lowlevel_ops fuse_ops_lowlevel = {
	.init = fuse_mount_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.symlink = op_symlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.create = op_create,
	.flush = fuse_lock_flush,
	.getlk = fuse_lock_get,
	.setlk = fuse_lock_set,
	.flock = fuse_lock_flock,
	.release = fuse_lock_release,
	.fsync = op_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
};
