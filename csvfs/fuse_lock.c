/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuse_lock.c - file locks: what the kernel asks becomes FS_LOCK, FS_UNLOCK, FS_GETLK. Decides nothing.
 *
 * What the kernel tells of a lock (Linux, fs/fuse/file.c):
 *   POSIX   owner = the process's table of files; let go by FLUSH, which each close(2) sends
 *   OFD     owner = the open file; nothing is sent when it ends but RELEASE, which does not name the owner
 *   flock   owner = the open file, and a flag; RELEASE as well
 * So every open file has a number (handle), the locks remember it, and RELEASE names it.
 *
 * A request that waits (SETLKW) is like any other that the core has not answered: no thread waits for it, and
 * INTERRUPT becomes EV_CANCEL.
 */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <sys/file.h>

#include "csvfs/fuse_ops_int.h"

static uint8_t *slot_of(fuse_req_t req, fuse_ino_t ino)
{
	struct fuse_ops *f = fuse_req_userdata(req);

	return &f->locked[(ino ^ ino >> 13) % LOCKED_SLOTS];
}

static void range_of(struct fs_lock *to, const struct flock *l)
{
	to->start = (uint64_t)l->l_start;
	to->end = l->l_len ? to->start + (uint64_t)l->l_len - 1 : FS_LK_END;
	to->pid = (uint32_t)l->l_pid;
	to->type = l->l_type == F_WRLCK	  ? FS_LK_WRITE
		   : l->l_type == F_RDLCK ? FS_LK_READ
					  : FS_LK_NONE;
}

static struct fs_request *begin(
	fuse_req_t req, enum fs_op op, fuse_ino_t ino, const struct fuse_file_info *fi)
{
	struct fs_request *rq = fuse_ops_begin(req, op, ino);

	if (!rq)
		return NULL;
	rq->lock.owner = fi->lock_owner;
	rq->lock.handle = fi->fh;
	rq->lock.end = FS_LK_END;
	return rq;
}

void fuse_lock_get(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock)
{
	struct fs_request *rq = begin(req, FS_GETLK, ino, fi);

	if (!rq)
		return;
	range_of(&rq->lock, lock);
	fuse_ops_post(req, rq);
}

static void lock_it(fuse_req_t req, fuse_ino_t ino, struct fs_request *rq)
{
	if (rq->lock.type != FS_LK_NONE)
		__atomic_store_n(slot_of(req, ino), 1, __ATOMIC_RELEASE);
	fuse_ops_post(req, rq);
}

void fuse_lock_set(
	fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock, int sleep)
{
	struct fs_request *rq = begin(req, FS_LOCK, ino, fi);

	if (!rq)
		return;
	range_of(&rq->lock, lock);
	if (sleep)
		rq->lock.flags |= FS_LK_WAIT;
	lock_it(req, ino, rq);
}

void fuse_lock_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op)
{
	struct fs_request *rq = begin(req, FS_LOCK, ino, fi);

	if (!rq)
		return;
	rq->lock.flags = FS_LK_FLOCK | (op & LOCK_NB ? 0 : FS_LK_WAIT);
	rq->lock.type = op & LOCK_EX ? FS_LK_WRITE : op & LOCK_SH ? FS_LK_READ : FS_LK_NONE;
	lock_it(req, ino, rq);
}

/*
 * A close: the process's POSIX locks of the file go, all of them. (What was written needs nothing here: it goes
 * with RELEASE, or was told before.)
 */
void fuse_lock_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fuse_ops *f = fuse_req_userdata(req);
	struct fs_request *rq;

	/* The kernel has the locks of a lone node: it need not ask again, and to close(2) this is success. */
	if (f->cfg.cache) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	if (!__atomic_load_n(slot_of(req, ino), __ATOMIC_ACQUIRE)) {
		fuse_reply_err(req, 0);
		return;
	}
	rq = begin(req, FS_UNLOCK, ino, fi);
	if (rq)
		fuse_ops_post(req, rq);
}

/* The open file ends, and with it what was locked through it. */
void fuse_lock_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fuse_ops *f = fuse_req_userdata(req); /* before it may have been answered */
	struct fs_request *rq = begin(req, FS_CLOSE, ino, fi);

	if (!rq)
		return;
	f->hooks.closed(f->hooks.ctx, fi->fh);
	f->hooks.settle(f->hooks.ctx, rq->ino);
	fuse_ops_post(req, rq);
}

void fuse_lock_answer(fuse_req_t req, const struct fs_request *rq, const struct fs_reply *rp)
{
	static const short type[] = {
		[FS_LK_NONE] = F_UNLCK, [FS_LK_READ] = F_RDLCK, [FS_LK_WRITE] = F_WRLCK};
	struct flock l = {.l_whence = SEEK_SET};

	if (rp->err || rq->op != FS_GETLK) {
		fuse_reply_err(req, -rp->err);
		return;
	}
	l.l_type = type[rp->lock.type];
	l.l_start = (off_t)rp->lock.start;
	l.l_len = rp->lock.end == FS_LK_END ? 0 : (off_t)(rp->lock.end - rp->lock.start + 1);
	l.l_pid = (pid_t)rp->lock.pid;
	fuse_reply_lock(req, &l);
}
