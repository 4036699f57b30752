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
#include <sys/syscall.h>
#include <time.h>

#include "csvfs/base/assert.h"
#include "csvfs/fuse_ops_int.h"

static struct fuse_ops *ops_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
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
static struct frq *frq_get(fuse_req_t req, struct fuse_ops *f, enum fs_op op, fuse_ino_t nodeid)
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
	q->touched_ns = 0;
	q->later = NULL;
	q->handle = op == FS_OPEN || op == FS_CREATE
			    ? __atomic_add_fetch(&f->handles, 1, __ATOMIC_RELAXED)
			    : 0;
	q->rq.lock.handle = q->handle;
	clock_gettime(CLOCK_REALTIME, &ts);
	q->rq.op = op;
	q->rq.ino = fuse_ops_ino(f, nodeid);
	q->rq.generation = fuse_ops_generation(nodeid);
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
	free(q->later);
	q->data = q->later = NULL;
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

	f->cfg.signalled(f->cfg.ctx, (uint32_t)fuse_req_ctx(req)->pid, (uint64_t)(uintptr_t)data);
}

/* fcntl(2): a wait for somebody's lock ends with EINTR, whatever the signal. (Unlocking does not.) */
static void lock_interrupted(fuse_req_t req, void *data)
{
	struct fuse_ops *f = ops_of(req);
	struct event ev = {.type = EV_CANCEL, .tag = (uint64_t)(uintptr_t)data};

	f->cfg.post(f->cfg.ctx, &ev);
}

static void frq_post(struct fuse_ops *f, struct frq *q)
{
	struct event ev = {.type = EV_REQUEST, .tag = tag_of(q), .rq = &q->rq};
	bool locks = q->rq.op == FS_LOCK && q->rq.lock.type != FS_LK_NONE;
	fuse_interrupt_func_t on_signal = locks ? lock_interrupted : interrupted;
	fuse_req_t req = q->req;

	if (fuse_gone_answer(f, q)) {
		frq_put(f, q);
		return;
	}
	/*
	 * The answer may come as soon as this is posted, and ends req: it waits for the lock. The
	 * library may call on_signal() at once: its EV_CANCEL then comes behind the EV_REQUEST.
	 */
	pthread_mutex_lock(&f->lock);
	f->cfg.post(f->cfg.ctx, &ev);
	if (req)
		fuse_req_interrupt_func(req, on_signal, (void *)(uintptr_t)ev.tag);
	pthread_mutex_unlock(&f->lock);
}

/*
 * SETATTR of the size, FALLOCATE: like a write, they may take setgid away (fuse_kill.c). Which file has such a bit is
 * known if no other node sets any; else it is asked for first.
 */
static void post_change(struct fuse_ops *f, struct frq *q)
{
	const struct fs_request *rq = &q->rq;

	if (rq->cred.uid == 0 || (f->cfg.cache && fuse_ops_is_plain(f, rq->ino, PLAIN_MODE))) {
		frq_post(f, q);
		return;
	}
	q->later = malloc(sizeof(*q->later));
	if (!q->later) {
		frq_fail(q, ENOMEM);
		return;
	}
	*q->later = *rq;
	memset(&q->rq, 0, sizeof(q->rq));
	q->rq.op = FS_GETATTR;
	q->rq.ino = q->later->ino;
	q->rq.generation = q->later->generation;
	q->rq.cred = q->later->cred;
	q->rq.time_ns = q->later->time_ns;
	frq_post(f, q);
}

/* The answer to that GETATTR. */
static void post_later(struct fuse_ops *f, struct frq *q, const struct fs_attr *a)
{
	const struct fuse_ctx *c = fuse_req_ctx(q->req);
	struct fuse_ops_writer w = {true, (uint32_t)c->pid, c->gid};

	q->rq = *q->later;
	free(q->later);
	q->later = NULL;
	fuse_ops_saw(f, a);
	/* Capabilities are the kernel's to take here. */
	q->rq.valid |= fuse_ops_kills(a, &w) & (FS_SET_KILL_SUID | FS_SET_KILL_SGID);
	frq_post(f, q);
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

static void set_new_parent(struct frq *q, fuse_ino_t nodeid)
{
	q->rq.ino2 = fuse_ops_ino(ops_of(q->req), nodeid);
	q->rq.generation2 = fuse_ops_generation(nodeid);
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
	struct frq *q = frq_get(req, f, op, parent);

	if (!q || !set_name(q, q->rq.name, name))
		return NULL;
	return q;
}

static struct frq *frq_plain(fuse_req_t req, enum fs_op op, fuse_ino_t ino)
{
	return frq_get(req, ops_of(req), op, ino);
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
	(void)nlookup;
	fuse_gone_forget(ops_of(req), ino);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		fuse_gone_forget(ops_of(req), forgets[i].ino);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct frq *q = frq_plain(req, FS_GETATTR, ino);

	(void)fi;
	if (!q)
		return;
	q->statx = fuse_more_beside.statx;
	/* While the core asks the coordinator it may be told, and its answer not know of it. */
	q->touched_ns = ops_of(req)->hooks.touched_ns(ops_of(req)->hooks.ctx, q->rq.ino);
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

static bool proc_line(pid_t pid, const char *what, char *line, int room)
{
	char path[64];
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	in = pid > 0 ? fopen(path, "re") : NULL;
	if (!in)
		return false;
	line[0] = 0;
	(void)!fgets(line, room, in);
	fclose(in);
	return true;
}

/*
 * The thread `pid` waits in a system call that starts asynchronous I/O, or does such I/O for another one: a worker of io_uring, whose
 * "system call" is whatever its maker was in.
 */
static bool does_async_io(pid_t pid)
{
	char line[64];
	long nr;

	if (proc_line(pid, "comm", line, sizeof(line)) && (!strncmp(line, "iou-wrk-", 8) || !strncmp(line, "iou-sqp-", 8)))
		return true;
	if (!proc_line(pid, "syscall", line, sizeof(line)))
		return false;
	nr = strtol(line, NULL, 10);
	return nr == SYS_io_submit || nr == SYS_io_uring_enter;
}

/*
 * Nobody's ftruncate(2): after an asynchronous write that failed (fuse_direct_IO()) the kernel sets the size to what this host knew
 * last, to take away what it might have written behind that. Here a write that fails makes nothing longer, and another host may have.
 * Nothing in the request tells the two apart. But the kernel does so once, and in the thread of that write, which waited for it; so
 * what follows, and what another thread asks for, is somebody's ftruncate(). (The size does not tell: what the kernel knows may be
 * older than what it was told last, or the end of a write of its own.)
 */
static bool is_kernels_own(fuse_req_t req, int set, const struct fuse_file_info *fi)
{
	struct fuse_ops *f = ops_of(req);
	pid_t pid = fuse_req_ctx(req)->pid;

	return fi && (set & FUSE_SET_ATTR_SIZE) && f->hooks.failed(f->hooks.ctx, fi->fh, (uint32_t)pid) &&
	       does_async_io(pid);
}

static void op_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *st, int set, struct fuse_file_info *fi)
{
	struct fs_request *rq;
	struct frq *q;

	if (is_kernels_own(req, set, fi)) {
		op_getattr(req, ino, fi);
		return;
	}
	q = frq_plain(req, FS_SETATTR, ino);
	if (!q)
		return;
	rq = &q->rq;
	if (fi && (set & FUSE_SET_ATTR_SIZE))
		rq->lock.handle = fi->fh;
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
		rq->attr.atime_ns =
			set & FUSE_SET_ATTR_ATIME_NOW ? rq->time_ns : ns_of(st->st_atim);
	}
	if (set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) {
		rq->valid |= FS_SET_MTIME;
		rq->attr.mtime_ns =
			set & FUSE_SET_ATTR_MTIME_NOW ? rq->time_ns : ns_of(st->st_mtim);
	}
	if (set & FUSE_SET_ATTR_CTIME) {
		rq->valid |= FS_SET_CTIME;
		rq->attr.ctime_ns = ns_of(st->st_ctim);
	}
	ops_of(req)->hooks.settle(ops_of(req)->hooks.ctx, rq->ino);
	ops_of(req)->hooks.times_set(ops_of(req)->hooks.ctx, rq->ino);
	(rq->valid & FS_SET_SIZE ? post_change : frq_post)(ops_of(req), q);
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

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	q = frq_named(req, FS_RENAME, parent, name);
	if (!q || !set_name(q, q->rq.name2, newname))
		return;
	set_new_parent(q, newparent);
	q->rq.flags = flags;
	frq_post(ops_of(req), q);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct frq *q = frq_plain(req, FS_LINK, ino);

	/* FS_LINK: ino, ino2 = new parent, name. */
	if (!q || !set_name(q, q->rq.name, newname))
		return;
	set_new_parent(q, newparent);
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

static void op_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
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
	struct fuse_ops *f = ops_of(req); /* before it may have been answered */
	struct frq *q = frq_plain(req, FS_FSYNC, ino);

	if (!q)
		return;
	q->rq.lock.handle = fi->fh;
	q->rq.flags = datasync ? 1 : 0;
	if (!datasync)
		f->hooks.settle(f->hooks.ctx, q->rq.ino);
	frq_post(f, q);
}

/* A directory's handle is not known to the core: there is nothing it would keep for it. */
static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->fh = fi->flags & O_NOATIME ? DIR_NOATIME : 0;
	fuse_reply_open(req, fi);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, 0);
}

static void op_readdir(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct frq *q = frq_plain(req, FS_READDIR, ino);

	if (!q)
		return;
	q->rq.off = (uint64_t)off;
	q->rq.len = size;
	q->size = size;
	q->handle = fi->fh;
	frq_post(ops_of(req), q);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	op_fsync(req, ino, datasync, fi);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	/* Of the volume, whatever became of the file that was named. */
	struct frq *q = frq_plain(req, FS_STATFS, FUSE_ROOT_ID);

	(void)ino;
	if (q)
		frq_post(ops_of(req), q);
}

static void op_setxattr(
	fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct frq *q = frq_named(req, FS_SETXATTR, ino, name);

	if (!q)
		return;
	if (size > XATTR_BYTES_MAX) {
		frq_fail(q, E2BIG);
		return;
	}
	q->rq.flags = (uint32_t)flags;
	/* The kernel asks for it with a default list, too, which changes no mode (acl(5)). */
	if (fuse_more_beside.kill_sgid && !strcmp(name, "system.posix_acl_access"))
		q->rq.valid = FS_SET_KILL_SUID;
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

/* A signal ends this as it ends a write; what comes behind has a tag of its own (frq_post()), and hears of it then. */
static void part_begins(void *arg, uint64_t tag)
{
	struct frq *q = arg;

	fuse_req_interrupt_func(q->req, interrupted, (void *)(uintptr_t)tag);
}

static void next_part(void *arg, int err)
{
	struct frq *q = arg;
	struct fuse_ops *f = ops_of(q->req);
	uint32_t i = q->part_at++;

	if (err < 0)
		frq_fail(q, -err);
	else if (i < q->part_count)
		f->hooks.zero(
			f->hooks.ctx, q->rq.ino, q->rq.lock.handle, q->part[i].off, q->part[i].len, part_begins, next_part, q);
	else
		post_change(f, q);
}

static void op_fallocate(
	fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	struct frq *q = frq_plain(req, FS_FALLOCATE, ino);

	if (!q)
		return;
	q->rq.lock.handle = fi->fh;
	q->rq.flags = (uint32_t)mode;
	q->rq.off = (uint64_t)off;
	q->rq.len = (uint64_t)len;
	if (!(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))) {
		post_change(ops_of(req), q);
		return;
	}
	q->rq.valid = FS_EDGES_ZEROED;
	find_parts(q, ops_of(req)->hooks.cluster_bytes);
	next_part(q, 0);
}

static void op_lseek(
	fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct frq *q = frq_plain(req, FS_LSEEK, ino);

	(void)fi;
	if (!q)
		return;
	q->rq.off = (uint64_t)off;
	q->rq.flags = (uint32_t)whence;
	frq_post(ops_of(req), q);
}

/* ------------------------------------------------------------------ the core's side */

/* An interrupted open is not followed by a RELEASE: the handle that the core counted goes again. */
void fuse_ops_close_unasked(struct fuse_ops *f, fuse_ino_t nodeid)
{
	struct frq *q = frq_get(NULL, f, FS_CLOSE, nodeid);

	if (q)
		frq_post(f, q);
}

void fuse_ops_was_read(struct fuse_ops *f, fuse_ino_t nodeid, int64_t when_ns)
{
	struct frq *q = frq_get(NULL, f, FS_SETATTR, nodeid);

	if (!q)
		return;
	q->rq.valid = FS_SET_READ;
	q->rq.attr.atime_ns = when_ns;
	frq_post(f, q);
}

bool fuse_ops_waits(struct fuse_ops *f, uint64_t tag)
{
	uint32_t idx = (uint32_t)tag;
	bool waits;

	pthread_mutex_lock(&f->lock);
	waits = idx < f->table_len && tag_of(f->table[idx]) == tag && f->table[idx]->req;
	pthread_mutex_unlock(&f->lock);
	return waits;
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
	if (q->later && !rp->err) {
		post_later(f, q, &rp->attr);
		return;
	}
	if (q->later)
		q->rq = *q->later; /* it fails like this */
	if (q->req && !(rp->err == -ESTALE && fuse_gone_stale(f, q)))
		fuse_answer(f, q, rp);
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
		free(f->table[i]->later);
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
