/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuse_answer.c - the core's reply to a request becomes the kernel's answer. Decides nothing. */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "csvfs/base/assert.h"
#include "csvfs/fuse_ops_int.h"

#define CACHE_SECONDS 3600.0
#define BLKSIZE 65536 /* st_blksize: what stdio and cp read and write at once */

static struct timespec ts_of(int64_t ns)
{
	int64_t s = ns / (int64_t)NS_PER_SEC, rest = ns % (int64_t)NS_PER_SEC;

	if (rest < 0) {
		s--;
		rest += (int64_t)NS_PER_SEC;
	}
	return (struct timespec){.tv_sec = s, .tv_nsec = rest};
}

static struct fs_attr *seen_slot(struct fuse_ops *f, fuse_ino_t nodeid)
{
	_Static_assert(SEEN_SLOTS == 1 << 12, "the top 12 bits");
	return &f->seen[nodeid * 0x9e3779b97f4a7c15ull >> 52];
}

static void stat_of(struct fuse_ops *f, struct stat *st, const struct fs_attr *a)
{
	int64_t touched_ns = f->hooks.touched_ns(f->hooks.ctx, a->ino);
	int64_t read_ns = f->hooks.read_ns(f->hooks.ctx, a->ino);
	struct fs_attr now = *a;

	/* What is gone is answered by whichever thread has the request. */
	if (a->nlink)
		*seen_slot(f, fuse_ops_nodeid(f, a->ino, a->generation)) = now;
	if (S_ISREG(a->mode))
		fuse_ops_saw(f, a);
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
	e->ino = fuse_ops_nodeid(f, a->ino, a->generation);
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
		fuse_ops_close_unasked(f, q->rq.ino); /* whichever life: it is open */
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
	out.entry.nodeid = fuse_ops_nodeid(f, rp->attr.ino, rp->attr.generation);
	out.entry.generation = rp->attr.generation;
	out.entry.entry_valid = out.entry.attr_valid = (uint64_t)timeout_of(f);
	fuse_more_kernel_attr(&out.entry.attr, &st);
	if (fuse_reply_buf(q->req, (const char *)&out, sizeof(out)) == -ENOENT)
		fuse_ops_close_unasked(f, rp->attr.ino);
}

const struct fs_attr *fuse_answer_seen(struct fuse_ops *f, const struct frq *q)
{
	const struct fs_attr *a = seen_slot(f, fuse_ops_nodeid(f, q->rq.ino, q->rq.generation));

	return a->ino == q->rq.ino && fs_is_life(q->rq.generation, a->generation) ? a : NULL;
}

static void answer_attr(struct fuse_ops *f, struct frq *q, const struct fs_reply *rp)
{
	struct fs_attr a = rp->attr;
	struct stat st;

	if (rp->err) {
		fuse_reply_err(q->req, -rp->err);
		return;
	}
	if (q->rq.op == FS_GETATTR && q->touched_ns)
		fs_attr_written(&a, q->touched_ns);
	stat_of(f, &st, &a);
	if (q->statx)
		fuse_more_answer_statx(q->req, &st, ts_of(rp->attr.btime_ns), timeout_of(f));
	else
		fuse_reply_attr(q->req, &st, timeout_of(f));
}

/* If its attributes are not known here any more, its atime is not worth a question. */
static void was_read(struct fuse_ops *f, const struct frq *q)
{
	fuse_ino_t nodeid = fuse_ops_nodeid(f, q->rq.ino, q->rq.generation);
	struct fs_attr *a = seen_slot(f, nodeid);

	if (a->ino != q->rq.ino || !fs_is_life(q->rq.generation, a->generation) ||
		!fuse_ops_atime(f) || !fs_atime_due(a, q->rq.time_ns) ||
		(S_ISDIR(a->mode) && (f->cfg.nodiratime || q->handle == DIR_NOATIME)))
		return;
	a->atime_ns = q->rq.time_ns; /* once is enough */
	fuse_ops_was_read(f, nodeid, q->rq.time_ns);
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

static void answer_lseek(struct frq *q, const struct fs_reply *rp)
{
	if (rp->err)
		fuse_reply_err(q->req, -rp->err);
	else
		fuse_reply_lseek(q->req, (off_t)rp->off);
}

void fuse_answer(struct fuse_ops *f, struct frq *q, const struct fs_reply *rp)
{
	switch (q->rq.op) {
	case FS_GETATTR:
		(q->open_dot ? answer_entry : answer_attr)(f, q, rp);
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
	case FS_READDIR:
		if (!rp->err)
			was_read(f, q);
		(q->rq.op == FS_READLINK ? answer_readlink : answer_readdir)(q, rp);
		return;
	case FS_GETXATTR:
	case FS_LISTXATTR:
		answer_xattr(q, rp);
		return;
	case FS_STATFS:
		answer_statfs(q, rp);
		return;
	case FS_LSEEK:
		answer_lseek(q, rp);
		return;
	case FS_LOCK:
	case FS_UNLOCK:
	case FS_GETLK:
		fuse_lock_answer(q->req, &q->rq, rp);
		return;
	case FS_UNLINK:
	case FS_RMDIR:
	case FS_RENAME:
		fuse_gone_removed(f, rp);
		fuse_reply_err(q->req, -rp->err);
		return;
	case FS_SETXATTR:
		fuse_kill_xattr_set(f, &q->rq);
		/* fall through */
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
	case FS_APPENDED:
	case FS_APPEND:
	case FS_LOCK_CANCEL:
	case FS_FREE_ORPHAN:
		break;
	}
	csv_assert(!"a request of the kernel");
}
