/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bdev_file.c - a block device that is an image file.
 *
 * Several bdevs of this process may stand on one image (the core's and each data thread's): they
 * share one open file and its lock. The lock is an open-file-description lock over the whole file:
 * exclusive for writing, so that a second csvfs, or a tool, is told that the image is in use.
 *
 * What the page cache has is read at once; what would wait for the disk (a read that is not cached,
 * a flush) is done by a worker thread, so that the owner's loop never waits.
 *
 * A flush has nothing to do when no write has ended since the last one began; and flushes that wait
 * for one another are one. A journal commit flushes before its record and again after it, most often
 * with no data written in between: half of all fdatasync calls are saved.
 *
 * Where a flush takes no longer than it takes to wake a worker (memory, a disk with a safe cache) the owner does
 * it himself: so it is measured, and after the first one that takes long the next goes to the workers again. The same
 * of reads where the file system cannot say what the page cache has (tmpfs knows no RWF_NOWAIT).
 *
 * Lock order: images_lock before image.lock; sync_lock is taken alone. The fields of struct
 * file_bdev belong to the owner's thread, but for `ended`, which image.lock protects.
 */
#include "csvfs/bdev.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "csvfs/base/assert.h"

#define WORKERS_MAX 4
#define FAST_NS (50 * 1000ull) /* a flush, or a small read, that takes less is fast, */
#define FAST_COUNT 8u /* and after so many of them the next is expected to be */
#define SMALL_BYTES (64u << 10) /* a longer read takes its time by its length alone */
#define IMAGE_BLOCK 512u

struct file_bdev;

/* A request on its way through a worker. */
struct work {
	struct list link;
	struct file_bdev *fb;
	struct bdev_req *r;
	enum lun_status status;
	const char *text;
};

/* One open image, shared by all bdevs of the process that stand on it. */
struct image {
	struct list link; /* images; images_lock */
	uint32_t users; /* images_lock */
	dev_t dev;
	ino_t ino;
	int fd;
	bool readonly, nolock;
	pthread_mutex_t lock;
	pthread_cond_t more; /* work was queued, or stop */
	struct list queue; /* struct work; lock */
	uint32_t workers, idle;
	pthread_t thread[WORKERS_MAX];
	bool stop;
	/*
	 * A flush failed: the kernel has dropped what it could not write and tells it only once. So
	 * no later flush of this open file may succeed. That is said as an error (LUN_MEDIUM), not as an outcome that
	 * is unknown: then the path would be opened anew, and the flush repeated and answered with success. sync_lock
	 */
	bool lost;
	/*
	 * A write is counted when it has ended, never before: what is in the page cache only in part
	 * must not be taken for flushed. What an earlier csvfs left in the page cache counts as one.
	 */
	_Atomic uint64_t written;
	pthread_mutex_t sync_lock; /* held by who flushes */
	uint32_t fast; /* flushes one after the other that were; sync_lock */
	uint64_t synced; /* value of `written` that the last flush began with; sync_lock */
	_Atomic bool no_nowait; /* the file system knows no RWF_NOWAIT */
	/* Small reads one after the other that were fast. A count that is lost does no harm. */
	_Atomic uint32_t fast_reads;
};

struct file_bdev {
	struct bdev b;
	struct image *im;
	int event_fd; /* a worker has ended something */
	struct list todo; /* submitted, not begun */
	struct list ended; /* struct work; image.lock */
	uint32_t working; /* works in the image's hands */
};

static pthread_mutex_t images_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list images = {&images, &images};

static struct file_bdev *fb_of(const struct bdev *b)
{
	return container_of(b, struct file_bdev, b);
}

/* ------------------------------------------------------------------ doing it */

static enum lun_status status_of_errno(int err)
{
	switch (err) {
	case ENOSPC:
	case EDQUOT:
		return LUN_NOSPACE;
	case EROFS:
	case EBADF: /* opened for reading */
		return LUN_PROTECTED;
	case EIO:
		return LUN_MEDIUM;
	default:
		return LUN_UNKNOWN;
	}
}

/* All of it, or an errno. RWF_NOWAIT in flags: EAGAIN when it would have to wait. */
static int move(int fd, const struct bdev_req *r, int flags)
{
	struct iovec whole = {r->cmd.buf, r->cmd.len};
	const struct iovec *v = r->iov ? r->iov : &whole;
	int count = r->iov ? r->iov_count : 1;
	uint64_t off = r->cmd.off, skip = 0;
	bool write = r->cmd.op == LUN_WRITE;
	struct stat st;

	/* Was cut while it is mounted: a write would let it grow again, with zeros for what is lost. */
	if (write && (fstat(fd, &st) || (uint64_t)st.st_size < off + r->cmd.len))
		return EIO;
	for (int i = 0; i < count;) {
		struct iovec one = {(uint8_t *)v[i].iov_base + skip, v[i].iov_len - skip};
		/* The rest of an entry alone; else all that are left. */
		const struct iovec *from = skip ? &one : v + i;
		int n = skip ? 1 : count - i < 64 ? count - i : 64;
		ssize_t got = write ? pwritev2(fd, from, n, (off_t)off, 0)
				    : preadv2(fd, from, n, (off_t)off, flags);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return errno;
		if (got == 0)
			return EIO; /* the image is shorter than it was when it was opened */
		off += (uint64_t)got;
		skip += (uint64_t)got;
		while (i < count && skip >= v[i].iov_len)
			skip -= v[i++].iov_len;
	}
	return 0;
}

static bool is_fast(uint64_t start_ns)
{
	return bdev_now_ns() - start_ns < FAST_NS;
}

static int timed_read(struct image *im, const struct bdev_req *r)
{
	uint64_t start_ns = bdev_now_ns();
	int err = move(im->fd, r, 0);

	if (r->cmd.len > SMALL_BYTES)
		return err;
	im->fast_reads = err || !is_fast(start_ns) ? 0 : im->fast_reads + 1;
	return err;
}

/* EAGAIN: it would have to wait, or nobody knows. */
static int read_at_once(struct image *im, const struct bdev_req *r)
{
	int err;

	if (!im->no_nowait) {
		err = move(im->fd, r, RWF_NOWAIT);
		if (err != EOPNOTSUPP)
			return err;
		im->no_nowait = true;
	}
	return r->cmd.len <= SMALL_BYTES && im->fast_reads >= FAST_COUNT ? timed_read(im, r)
									 : EAGAIN;
}

static enum lun_status sync_locked(struct image *im, const char **text)
{
	uint64_t written = im->written, start_ns;

	if (!im->lost && written != im->synced) {
		start_ns = bdev_now_ns();
		if (fdatasync(im->fd))
			im->lost = true;
		im->synced = written;
		im->fast = is_fast(start_ns) ? im->fast + 1 : 0;
	}
	if (im->lost)
		*text = "a flush of the image failed: what was written may be lost";
	return im->lost ? LUN_MEDIUM : LUN_OK;
}

static enum lun_status sync_image(struct image *im, const char **text)
{
	enum lun_status status;

	pthread_mutex_lock(&im->sync_lock);
	status = sync_locked(im, text);
	pthread_mutex_unlock(&im->sync_lock);
	return status;
}

/* Flushes if that takes no time; else false. */
static bool sync_at_once(struct image *im, enum lun_status *status, const char **text)
{
	bool at_once;

	if (pthread_mutex_trylock(&im->sync_lock))
		return false;
	at_once = im->lost || im->written == im->synced || im->fast >= FAST_COUNT;
	if (at_once)
		*status = sync_locked(im, text);
	pthread_mutex_unlock(&im->sync_lock);
	return at_once;
}

static enum lun_status do_blocking(struct image *im, struct bdev_req *r, const char **text)
{
	int err = 0;

	switch (r->cmd.op) {
	case LUN_READ:
		err = timed_read(im, r);
		break;
	case LUN_WRITE: /* with FUA; the data is in the page cache already */
	case LUN_FLUSH:
		return sync_image(im, text);
	case LUN_UNMAP:
		if (fallocate(im->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)r->cmd.off,
			    (off_t)r->cmd.len))
			err = errno;
		im->written++;
		if (err == EOPNOTSUPP)
			return LUN_UNSUPPORTED;
		break;
	default:
		break;
	}
	if (err)
		*text = strerrordesc_np(err);
	return err ? status_of_errno(err) : LUN_OK;
}

/* ------------------------------------------------------------------ workers */

static void *worker(void *arg)
{
	struct image *im = arg;

	pthread_mutex_lock(&im->lock);
	while (!im->stop || !list_empty(&im->queue)) {
		struct work *w;
		uint64_t one = 1;

		if (list_empty(&im->queue)) {
			im->idle++;
			pthread_cond_wait(&im->more, &im->lock);
			im->idle--;
			continue;
		}
		w = list_first_entry(&im->queue, struct work, link);
		list_del(&w->link);
		pthread_mutex_unlock(&im->lock);
		w->status = do_blocking(im, w->r, &w->text);
		pthread_mutex_lock(&im->lock);
		list_add_tail(&w->link, &w->fb->ended);
		(void)!write(
			w->fb->event_fd, &one, sizeof(one)); /* only fails when already very full */
	}
	pthread_mutex_unlock(&im->lock);
	return NULL;
}

static void hand_over(struct file_bdev *fb, struct bdev_req *r)
{
	struct image *im = fb->im;
	struct work *w = calloc(1, sizeof(*w));

	csv_assert(w != NULL);
	w->fb = fb;
	w->r = r;
	w->text = "";
	fb->working++;
	pthread_mutex_lock(&im->lock);
	list_add_tail(&w->link, &im->queue);
	if (!im->idle && im->workers < WORKERS_MAX &&
		!pthread_create(&im->thread[im->workers], NULL, worker, im))
		im->workers++;
	csv_assert(im->workers > 0); /* not one thread can be started */
	pthread_cond_signal(&im->more);
	pthread_mutex_unlock(&im->lock);
}

/* Takes what the workers have ended. */
static void take_ended(struct file_bdev *fb, bool tell)
{
	struct list ended;
	uint64_t n;

	(void)!read(fb->event_fd, &n, sizeof(n)); /* only to make it quiet */
	list_init(&ended);
	pthread_mutex_lock(&fb->im->lock);
	list_splice_tail(&fb->ended, &ended);
	pthread_mutex_unlock(&fb->im->lock);
	list_for_each_entry_safe (w, tmp, &ended, struct work, link) {
		struct bdev_req *r = w->r;
		enum lun_status status = w->status;
		const char *text = w->text;

		free(w);
		fb->working--;
		if (tell)
			bdev_done(&fb->b, r, status, text);
	}
}

/* ------------------------------------------------------------------ the driver */

/* A write is in the page cache, or there was none: now the disk. */
static void begin_sync(struct file_bdev *fb, struct bdev_req *r)
{
	enum lun_status status;
	const char *text = "";

	if (sync_at_once(fb->im, &status, &text))
		bdev_done(&fb->b, r, status, text);
	else
		hand_over(fb, r);
}

/* An image that was cut keeps the size it had: what is missing gives errors. */
static int look_at_size(struct file_bdev *fb)
{
	uint64_t bytes;
	struct stat st;

	if (fstat(fb->im->fd, &st))
		return errno;
	bytes = (uint64_t)st.st_size / IMAGE_BLOCK * IMAGE_BLOCK;
	if (bytes > fb->b.info.lun_bytes)
		fb->b.info.lun_bytes = bytes;
	return 0;
}

/* Behind the end as it was when we last looked: it may have grown since. */
static bool is_behind(struct file_bdev *fb, const struct lun_cmd *c)
{
	if (c->op != LUN_READ && c->op != LUN_WRITE && c->op != LUN_UNMAP)
		return false;
	if (c->off + c->len <= fb->b.info.lun_bytes)
		return false;
	return look_at_size(fb) || c->off + c->len > fb->b.info.lun_bytes;
}

/* Ends the request, or hands it to a worker. */
static void begin(struct file_bdev *fb, struct bdev_req *r)
{
	int err = 0;

	if (is_behind(fb, &r->cmd)) {
		bdev_done(&fb->b, r, LUN_UNSUPPORTED, "behind the end of the image");
		return;
	}
	switch (r->cmd.op) {
	case LUN_READ:
		err = read_at_once(fb->im, r);
		if (err == EAGAIN) {
			hand_over(fb, r);
			return;
		}
		break;
	case LUN_WRITE:
		err = move(fb->im->fd, r, 0);
		fb->im->written++; /* if it failed, too: a part of it may be there */
		if (!err && r->cmd.fua) {
			begin_sync(fb, r);
			return;
		}
		break;
	case LUN_FLUSH:
		begin_sync(fb, r);
		return;
	case LUN_UNMAP:
		hand_over(fb, r);
		return;
	case LUN_TEST:
	case LUN_RESET: /* what a session had begun has ended with it (file_abort) */
		break;
	case LUN_CAPACITY:
		err = look_at_size(fb);
		r->lun_bytes = fb->b.info.lun_bytes;
		break;
	default:
		bdev_done(&fb->b, r, LUN_UNSUPPORTED, "an image file has no reservations");
		return;
	}
	bdev_done(&fb->b, r, err ? status_of_errno(err) : LUN_OK, err ? strerrordesc_np(err) : "");
}

static void file_service(struct bdev *b, int revents)
{
	struct file_bdev *fb = fb_of(b);
	struct list todo;

	(void)revents;
	if (b->state == BDEV_OPENING) {
		bdev_up(b);
		return;
	}
	if (fb->working)
		take_ended(fb, true);
	list_init(&todo);
	list_splice_tail(&fb->todo, &todo);
	while (!list_empty(&todo)) {
		struct bdev_req *r = list_first_entry(&todo, struct bdev_req, link);

		list_del(&r->link);
		list_add_tail(&r->link, &b->busy);
		begin(fb, r);
	}
}

static void file_submit(struct bdev *b, struct bdev_req *r)
{
	list_del(&r->link);
	list_add_tail(&r->link, &fb_of(b)->todo);
}

static int file_fd(const struct bdev *b)
{
	return fb_of(b)->event_fd;
}

/* An eventfd can always be written: POLLOUT makes the owner's loop come at once. */
static int file_events(const struct bdev *b)
{
	struct file_bdev *fb = fb_of(b);
	int events = fb->working ? POLLIN : 0;

	if (b->state == BDEV_OPENING || !list_empty(&fb->todo) || !list_empty(&b->late))
		events |= POLLOUT;
	return events;
}

static void file_abort(struct bdev *b)
{
	struct file_bdev *fb = fb_of(b);

	/*
	 * A worker may be inside a request: its buffers are the owner's again only when it is out.
	 */
	while (fb->working) {
		struct pollfd p = {.fd = fb->event_fd, .events = POLLIN};

		(void)poll(&p, 1, 100);
		take_ended(fb, false);
	}
	list_splice_tail(&fb->todo, &b->busy);
}

/* ------------------------------------------------------------------ images */

static void image_put(struct image *im)
{
	pthread_mutex_lock(&images_lock);
	if (--im->users) {
		pthread_mutex_unlock(&images_lock);
		return;
	}
	list_del(&im->link);
	pthread_mutex_unlock(&images_lock);
	pthread_mutex_lock(&im->lock);
	im->stop = true;
	pthread_cond_broadcast(&im->more);
	pthread_mutex_unlock(&im->lock);
	for (uint32_t i = 0; i < im->workers; i++)
		pthread_join(im->thread[i], NULL);
	close(im->fd);
	pthread_cond_destroy(&im->more);
	pthread_mutex_destroy(&im->sync_lock);
	pthread_mutex_destroy(&im->lock);
	free(im);
}

static void file_free(struct bdev *b)
{
	struct file_bdev *fb = fb_of(b);

	if (fb->im)
		image_put(fb->im);
	if (fb->event_fd >= 0)
		close(fb->event_fd);
	free(fb);
}

static const struct bdev_ops file_ops = {
	.abort = file_abort,
	.free = file_free,
	.submit = file_submit,
	.service = file_service,
	.fd = file_fd,
	.events = file_events,
};

static int image_lock(int fd, const struct bdev_config *cfg, char *text, size_t text_bytes)
{
	struct flock fl = {.l_type = cfg->readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};

	if (cfg->nolock || fcntl(fd, F_OFD_SETLK, &fl) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES) {
		snprintf(text, text_bytes,
			"%s: in use by another csvfs or tool on this machine; unmount it first",
			cfg->url);
		return -EBUSY;
	}
	snprintf(text, text_bytes, "%s: cannot be locked: %s", cfg->url, strerror(errno));
	return -errno;
}

/* A new image, not in the table yet. */
static int image_open(
	const struct bdev_config *cfg, struct image **out, char *text, size_t text_bytes)
{
	struct image *im;
	struct stat st;
	/* O_NONBLOCK: of a fifo it is said that it is none, instead of waiting for who writes to it. */
	int err, fd = open(cfg->url, (cfg->readonly ? O_RDONLY : O_RDWR) | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0) {
		err = -errno;
		snprintf(text, text_bytes, "%s: %s", cfg->url, strerror(errno));
		return err;
	}
	err = fstat(fd, &st) ? -errno : 0;
	if (!err && !S_ISREG(st.st_mode)) {
		snprintf(text, text_bytes,
			"%s: not an image file; for a LUN write iscsi://host/target-name/lun",
			cfg->url);
		err = -ENOTBLK;
	}
	if (!err)
		err = image_lock(fd, cfg, text, text_bytes);
	/*
	 * What a flush could not write (see `lost`) is in the page cache still, and passes there for written: replay would take
	 * it for being in its place. What is on the disk shall be read.
	 */
	if (!err && !cfg->readonly)
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	im = err ? NULL : calloc(1, sizeof(*im));
	if (!im) {
		close(fd);
		return err ? err : -ENOMEM;
	}
	*im = (struct image){.dev = st.st_dev,
		.ino = st.st_ino,
		.fd = fd,
		.readonly = cfg->readonly,
		.nolock = cfg->nolock,
		.written = 1};
	pthread_mutex_init(&im->sync_lock, NULL);
	pthread_mutex_init(&im->lock, NULL);
	pthread_cond_init(&im->more, NULL);
	list_init(&im->queue);
	*out = im;
	return 0;
}

static int image_get(
	const struct bdev_config *cfg, struct image **out, char *text, size_t text_bytes)
{
	struct stat st;
	int err = 0;

	*out = NULL;
	pthread_mutex_lock(&images_lock);
	if (stat(cfg->url, &st) == 0) {
		list_for_each_entry (im, &images, struct image, link)
			if (im->dev == st.st_dev && im->ino == st.st_ino &&
				im->readonly == cfg->readonly && im->nolock == cfg->nolock)
				*out = im;
	}
	if (*out) {
		(*out)->users++;
	} else {
		err = image_open(cfg, out, text, text_bytes);
		if (!err) {
			(*out)->users = 1;
			list_add_tail(&(*out)->link, &images);
		}
	}
	pthread_mutex_unlock(&images_lock);
	return err;
}

int file_bdev_open(const struct bdev_config *cfg, struct bdev **out, char *text, size_t text_bytes)
{
	struct file_bdev *fb = calloc(1, sizeof(*fb));
	struct stat st;
	int err = -ENOMEM;

	snprintf(text, text_bytes, "out of memory");
	if (!fb)
		return err;
	bdev_init(&fb->b, &file_ops, cfg);
	fb->b.patient = true;
	list_init(&fb->todo);
	list_init(&fb->ended);
	fb->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	err = fb->event_fd < 0 ? -errno : image_get(cfg, &fb->im, text, text_bytes);
	if (!err && fstat(fb->im->fd, &st))
		err = -errno;
	if (!err && st.st_size < (off_t)IMAGE_BLOCK) {
		if (st.st_size)
			snprintf(text, text_bytes, "%s: the file is too small: %lld bytes",
				cfg->url, (long long)st.st_size);
		else
			snprintf(text, text_bytes, "%s: the file is empty", cfg->url);
		err = -ENODATA;
	}
	if (err) {
		file_free(&fb->b);
		return err;
	}
	fb->b.info = (struct bdev_info){
		.block_bytes = IMAGE_BLOCK,
		.max_transfer_bytes = 1u << 30,
		.lun_bytes = (uint64_t)st.st_size / IMAGE_BLOCK * IMAGE_BLOCK,
		.write_cache = true,
		.unmap = true,
		.readonly = cfg->readonly,
		.is_file = true,
		.vendor = "image file",
	};
	*out = &fb->b;
	return 0;
}
