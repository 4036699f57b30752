/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuse_mount.c - the mount itself: options, what is negotiated with the kernel, its end; and what the kernel
 * is told to forget.
 */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "csvfs/fuse_ops_int.h"

#include <sys/mount.h> /* last: it has a BLOCK_SIZE of its own */

/* What the kernel has and the library's headers have not (Linux 6.6). */
#define INIT_DIRECT_IO_ALLOW_MMAP (1ull << 36)

struct inval {
	struct list link;
	fuse_ino_t nodeid;
	bool attr_only;
	char name[NAME_BYTES_MAX + 1];
};

/* ------------------------------------------------------------------ the kernel must forget */

static void *inval_main(void *arg)
{
	struct fuse_ops *f = arg;
	struct inval *v;

	pthread_mutex_lock(&f->inval_lock);
	for (;;) {
		while (list_empty(&f->invals) && !f->inval_stop)
			pthread_cond_wait(&f->inval_more, &f->inval_lock);
		if (f->inval_stop)
			break;
		v = list_first_entry(&f->invals, struct inval, link);
		list_del(&v->link);
		pthread_mutex_unlock(&f->inval_lock);
		/* These wait for locks of the kernel that its own requests may hold: no lock of ours. */
		if (v->name[0])
			(void)fuse_lowlevel_notify_inval_entry(
				f->se, v->nodeid, v->name, strlen(v->name));
		else
			(void)fuse_lowlevel_notify_inval_inode(
				f->se, v->nodeid, v->attr_only ? -1 : 0, 0);
		free(v);
		pthread_mutex_lock(&f->inval_lock);
	}
	pthread_mutex_unlock(&f->inval_lock);
	return NULL;
}

static void inval(struct fuse_ops *f, fuse_ino_t nodeid, const char *name, bool attr_only)
{
	struct inval *v = calloc(1, sizeof(*v));

	if (!v)
		return; /* nothing is cached for long where this is needed */
	v->nodeid = nodeid;
	v->attr_only = attr_only;
	if (name)
		snprintf(v->name, sizeof(v->name), "%s", name);
	pthread_mutex_lock(&f->inval_lock);
	list_add_tail(&v->link, &f->invals);
	pthread_cond_signal(&f->inval_more);
	pthread_mutex_unlock(&f->inval_lock);
}

void fuse_ops_inval(struct fuse_ops *f, uint64_t ino, uint64_t generation, const char *name)
{
	inval(f, fuse_ops_nodeid(f, ino, generation), name, false);
}

void fuse_ops_inval_attr(struct fuse_ops *f, uint64_t nodeid)
{
	inval(f, nodeid, NULL, true);
}

/* ------------------------------------------------------------------ mount */

void fuse_mount_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fuse_ops *f = userdata;

	conn->max_write = IO_BYTES_MAX;
	conn->max_read = IO_BYTES_MAX;
	conn->max_readahead = IO_BYTES_MAX;
	conn->max_background = 256;
	conn->congestion_threshold = 192;
	conn->time_gran = 1;
	conn->want |=
		conn->capable &
		(FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS |
			FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_POSIX_ACL |
			FUSE_CAP_DONT_MASK | FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS);
	conn->want &=
		~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
			    FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_ATOMIC_O_TRUNC |
			    FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_READDIRPLUS |
			    FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_IOCTL_DIR);
	/* Nobody else can lock: the kernel does, and a close has nothing to tell (fuse_lock_flush). */
	if (f->cfg.cache)
		conn->want &= ~(unsigned)(FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS);
}

/*
 * The answer to INIT gets the flags that the library does not know: shared mmap of files opened with direct
 * I/O (git and sqlite need it), and whose setgid bit an access list takes away; and the one that libfuse 3.14.0
 * takes and does not pass on: lookups in one directory, several at a time. Without it one that waits holds up
 * all others there, and who is behind it cannot be killed.
 */
static ssize_t io_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct fuse_ops *f = userdata;
	struct fuse_init_out out;

	if (f->in_init && count == 2 && iov[1].iov_len == sizeof(out)) {
		struct iovec mine[2] = {iov[0], {&out, sizeof(out)}};

		memcpy(&out, iov[1].iov_base, sizeof(out));
		if (f->kernel_setxattr_ext)
			out.flags |= FUSE_SETXATTR_EXT;
		if (f->kernel_parallel)
			out.flags |= FUSE_PARALLEL_DIROPS;
		if (f->kernel_mmap) {
			out.flags |= FUSE_INIT_EXT;
			out.flags2 |= (uint32_t)(INIT_DIRECT_IO_ALLOW_MMAP >> 32);
		}
		return writev(fd, mine, 2);
	}
	return writev(fd, iov, count);
}

static ssize_t io_read(int fd, void *buf, size_t len, void *userdata)
{
	(void)userdata;
	return read(fd, buf, len);
}

static const struct fuse_custom_io custom_io = {.read = io_read, .writev = io_writev};

void fuse_ops_process(struct fuse_ops *f, void *bytes, size_t len)
{
	struct fuse_buf b = {.mem = bytes, .size = fuse_more_translate(f, bytes, len)};
	const struct fuse_in_header *h = bytes;
	const struct fuse_init_in *in = (const void *)(h + 1);

	if (h->opcode != FUSE_INIT) {
		fuse_session_process_buf(f->se, &b);
		return;
	}
	f->kernel_setxattr_ext = in->flags & FUSE_SETXATTR_EXT;
	f->kernel_parallel = in->flags & FUSE_PARALLEL_DIROPS;
	f->kernel_mmap = len >= sizeof(*h) + sizeof(*in) && (in->flags & FUSE_INIT_EXT) &&
			 (in->flags2 & (uint32_t)(INIT_DIRECT_IO_ALLOW_MMAP >> 32));
	f->in_init = true;
	fuse_session_process_buf(f->se, &b);
	f->in_init = false;
}

int fuse_ops_fd(struct fuse_ops *f)
{
	return fuse_session_fd(f->se);
}

uint64_t fuse_ops_ino_of(const struct fuse_ops *f, uint64_t nodeid)
{
	return fuse_ops_ino(f, nodeid);
}

bool fuse_ops_atime(const struct fuse_ops *f)
{
	return !f->cfg.readonly && !f->cfg.noatime;
}

static void no_settle(void *ctx, uint64_t ino)
{
	(void)ctx;
	(void)ino;
}

static void no_closed(void *ctx, uint64_t handle)
{
	(void)ctx;
	(void)handle;
}

static int64_t no_touched(void *ctx, uint64_t ino)
{
	(void)ctx;
	(void)ino;
	return 0;
}

static void no_zero(void *ctx, uint64_t ino, uint64_t handle, uint64_t off, uint32_t len,
	void (*begins)(void *arg, uint64_t tag), void (*done)(void *arg, int err), void *arg)
{
	(void)ctx;
	(void)ino;
	(void)handle;
	(void)off;
	(void)len;
	(void)begins;
	done(arg, -EIO);
}

static bool no_failed(void *ctx, uint64_t handle, uint32_t tid)
{
	(void)ctx;
	(void)handle;
	(void)tid;
	return false;
}

void fuse_ops_set_hooks(struct fuse_ops *f, const struct fuse_ops_hooks *h)
{
	if (h)
		f->hooks = *h;
	else
		f->hooks = (struct fuse_ops_hooks){.settle = no_settle,
			.touched_ns = no_touched,
			.read_ns = no_touched,
			.times_set = no_settle,
			.zero = no_zero,
			.closed = no_closed,
			.failed = no_failed};
}

/* A comma in the name of an image would end the option. */
static void add_escaped(char *out, size_t room, const char *s)
{
	size_t n = strlen(out);

	for (; *s && n + 3 < room; s++) {
		if (*s == ',' || *s == '\\')
			out[n++] = '\\';
		out[n++] = *s;
	}
	out[n] = 0;
}

/* proc(5): what would end a word there is written as three octal digits. In place. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = 0;
}

/* The device ("major:minor") of what is mounted at that path, on top; "": nothing, or not to be found out. */
static void device_at(const char *path, char *device, size_t room)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *words, *word[5];
	size_t line_room = 0;

	device[0] = 0;
	while (mounts && getline(&line, &line_room, mounts) > 0) {
		words = line;
		for (int i = 0; i < 5; i++)
			word[i] = strsep(&words, " ");
		if (!words)
			continue;
		unescape(word[4]);
		if (!strcmp(word[4], path))
			snprintf(device, room, "%s", word[2]);
	}
	free(line);
	if (mounts)
		fclose(mounts);
}

/*
 * After umount -l the connection lives until the last file is closed; by then something else may be mounted there. While we live our
 * device is nobody else's.
 */
static bool mounted_here(const struct fuse_ops *f)
{
	char device[sizeof(f->device)];

	if (!f->device[0])
		return true;
	device_at(f->mountpoint, device, sizeof(device));
	return !strcmp(device, f->device);
}

static void make_options(const struct fuse_ops_config *cfg, char *out, size_t room)
{
	bool root = geteuid() == 0;

	snprintf(out, room,
		"max_read=%u,default_permissions,subtype=csvfs%s%s%s%s%s%s%s%s,fsname=", IO_BYTES_MAX,
		cfg->readonly ? ",ro" : "", cfg->noatime ? ",noatime" : "",
		cfg->noexec ? ",noexec" : "", cfg->sync ? ",sync" : "",
		cfg->dirsync ? ",dirsync" : "", root ? ",allow_other" : "",
		root && !cfg->nodev ? ",dev" : "", root && !cfg->nosuid ? ",suid" : "");
	add_escaped(out, room, cfg->fsname ? cfg->fsname : "csvfs");
}

static struct fuse_session *mount_session(
	struct fuse_ops *f, const char *options, char *text, size_t text_bytes)
{
	char *argv[] = {(char *)(uintptr_t) "csvfs", (char *)(uintptr_t) "-o",
		(char *)(uintptr_t)options, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	struct fuse_session *se =
		fuse_session_new(&args, &fuse_ops_lowlevel, sizeof(fuse_ops_lowlevel), f);

	fuse_opt_free_args(&args);
	if (!se) {
		snprintf(text, text_bytes, "cannot start FUSE");
		return NULL;
	}
	if (fuse_session_mount(se, f->mountpoint)) {
		snprintf(text, text_bytes, "cannot mount on %s", f->mountpoint);
		fuse_session_destroy(se);
		return NULL;
	}
	if (fuse_session_custom_io(se, &custom_io, fuse_session_fd(se))) {
		snprintf(
			text, text_bytes, "this libfuse cannot have its input and output replaced");
		fuse_session_unmount(se);
		fuse_session_destroy(se);
		return NULL;
	}
	return se;
}

static struct fuse_ops *ops_new(const struct fuse_ops_config *cfg)
{
	struct fuse_ops *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->cfg = *cfg;
	fuse_ops_set_hooks(f, NULL);
	pthread_mutex_init(&f->lock, NULL);
	pthread_mutex_init(&f->inval_lock, NULL);
	pthread_cond_init(&f->inval_more, NULL);
	list_init(&f->free);
	list_init(&f->invals);
	fuse_gone_init(f);
	f->mountpoint = realpath(cfg->mountpoint, NULL);
	if (!f->mountpoint)
		f->mountpoint = strdup(cfg->mountpoint);
	if (!f->mountpoint) {
		fuse_ops_destroy(f);
		return NULL;
	}
	return f;
}

int fuse_ops_mount(
	const struct fuse_ops_config *cfg, struct fuse_ops **out, char *text, size_t text_bytes)
{
	struct fuse_ops *f = ops_new(cfg);
	char options[512];
	int err, fd;

	*out = NULL;
	if (!f)
		return -ENOMEM;
	make_options(cfg, options, sizeof(options));
	f->se = mount_session(f, options, text, text_bytes);
	if (!f->se) {
		fuse_ops_destroy(f);
		return -EIO;
	}
	device_at(f->mountpoint, f->device, sizeof(f->device));
	fd = fuse_session_fd(f->se);
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	err = pthread_create(&f->inval_thread, NULL, inval_main, f);
	if (err) {
		snprintf(text, text_bytes, "cannot start a thread");
		fuse_ops_destroy(f);
		return -err;
	}
	f->inval_running = true;
	*out = f;
	return 0;
}

/* The kernel has ended the connection. */
static bool is_over(const struct fuse_ops *f)
{
	struct pollfd p = {.fd = fuse_session_fd(f->se)};

	return poll(&p, 1, 0) == 1 && (p.revents & POLLERR);
}

void fuse_ops_unmount(struct fuse_ops *f)
{
	pid_t pid;

	/* Already: then something else may be mounted there now. */
	if (is_over(f) || !mounted_here(f))
		return;
	if (!umount2(f->mountpoint, MNT_DETACH) || errno != EPERM)
		return;
	pid = fork();
	if (!pid) {
		execlp("fusermount3", "fusermount3", "-u", "-q", "-z", "--", f->mountpoint, NULL);
		_exit(127);
	}
	if (pid > 0)
		(void)waitpid(pid, NULL, 0);
}

void fuse_ops_destroy(struct fuse_ops *f)
{
	if (!f)
		return;
	if (f->inval_running) {
		pthread_mutex_lock(&f->inval_lock);
		f->inval_stop = true;
		pthread_cond_signal(&f->inval_more);
		pthread_mutex_unlock(&f->inval_lock);
		pthread_join(f->inval_thread, NULL);
	}
	while (!list_empty(&f->invals)) {
		struct inval *v = list_first_entry(&f->invals, struct inval, link);

		list_del(&v->link);
		free(v);
	}
	if (f->se) {
		/* It sees itself whether the connection is over. Its descriptor is closed all the same. */
		if (is_over(f) || mounted_here(f))
			fuse_session_unmount(f->se);
		fuse_session_destroy(f->se);
	}
	fuse_ops_forget_requests(f);
	fuse_gone_end(f);
	free(f->mountpoint);
	free(f);
}
