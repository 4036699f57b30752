/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * datapath.c - the data threads: see datapath.h. What to do is decided in dp.c; here it is done.
 *
 * A thread owns the I/Os (struct io) of the requests it read, and its session: it alone submits them
 * and answers them. What the core's thread or another thread finds out about an I/O goes to its owner
 * through `returned` and the eventfd.
 *
 * Locks: datapath.lock guards dp, the table of I/Os and every thread's `returned`. post() is called
 * with it held (datapath.h), answers to the kernel and submissions to the LUN are made without.
 * What a thread has read, as far as it matters to the others (await_older()), is told without.
 */
#include "csvfs/datapath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "csvfs/base/assert.h"
#include "csvfs/datapath_int.h"

#define ANSWER_NS (4 * NS_PER_SEC)
#define LAYOUT_BYTES (1ull << 30)
#define EXTENTS_MAX (640u << 10) /* 30 MiB of them; then files' layouts go back */
#define FUSE_BATCH 64 /* requests read before the LUN is served again */
#define WATCH_MS 200
#define LOOK_NS (30 * 1000ull) /* see look() */
#define LUCK_ENOUGH 4u
#define LUCK_MAX 16u
#define LOOKS 16u
/* A smaller write is copied out of the receive buffer, which stays warm; a larger one keeps it. */
#define COPY_BYTES (32u << 10)

/* What a WRITE has in front of its data. The data then begin at the buffer's start, aligned. */
#define HEAD_BYTES (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))

/* ------------------------------------------------------------------ requests of the kernel */

/*
 * Requests are numbered as they are queued, and read in that order (fuse_get_unique() in Linux' fs/fuse/dev.c). In that order appends take
 * their turns (datapath_io.c): none before every older one that another thread has read, or is reading. That takes no longer than to
 * read, which never blocks; and the oldest one waits for nobody.
 */
static void await_older(struct dthread *t, uint64_t unique)
{
	struct datapath *d = t->d;

	for (unsigned i = 0; i < d->threads; i++) {
		struct dthread *o = &d->t[i];
		uint64_t older, reads = o->reads;

		if (o == t)
			continue;
		/* What it begins to read later is younger. */
		while ((reads & 1) && o->reads == reads)
			sched_yield();
		while ((older = o->append) && older < unique)
			sched_yield();
	}
}

static void start(struct io *io, const struct fuse_in_header *h, uint64_t fh, uint64_t off,
	uint32_t len, uint32_t flags, bool kills)
{
	struct datapath *d = io->t->d;
	struct dp_op *op = &io->op;
	bool early = io->early;

	op->ino = fuse_ops_ino_of(d->cfg.fuse, h->nodeid);
	io->nodeid = h->nodeid;
	op->handle = fh;
	op->off = off;
	op->len = len;
	op->append = op->write && (flags & O_APPEND);
	op->sync = d->cfg.sync || (flags & O_SYNC) == O_SYNC;
	op->dsync = flags & O_DSYNC;
	op->atime = !op->write && !(flags & O_NOATIME) && fuse_ops_atime(d->cfg.fuse);
	io->start_ns = bdev_now_ns();
	if (op->append)
		await_older(io->t, h->unique);
	if (kills)
		datapath_io_begin_write(io);
	else
		datapath_io_begin(io);
	/* (It may have its answer by now: then nothing is found.) */
	if (early)
		(void)datapath_io_interrupt(d, h->unique);
}

/* A program that asks for direct I/O finds out the LUN's block size by what is refused. */
static bool misaligned(const struct datapath *d, uint64_t off, uint32_t len, uint32_t flags)
{
	return (flags & O_DIRECT) && d->block_bytes > 512 && ((off | len) & (d->block_bytes - 1));
}

static void on_read(
	struct dthread *t, const struct fuse_in_header *h, const struct fuse_read_in *in)
{
	struct io *io;

	if (misaligned(t->d, in->offset, in->size, in->flags)) {
		datapath_answer(t->d, h->unique, -EINVAL, NULL, 0);
		return;
	}
	io = datapath_io_get(t, h->unique, h->pid);
	if (!io) {
		datapath_answer(t->d, h->unique, -ENOMEM, NULL, 0);
		return;
	}
	start(io, h, in->fh, in->offset, in->size, in->flags, false);
}

/* The data of the request just read, which the receive buffer holds. */
static struct dbuf *take_data(struct dthread *t, uint32_t len)
{
	struct dbuf *b;

	if (len <= COPY_BYTES) {
		b = dbuf_get(len ? len : 1);
		if (b)
			memcpy(b->bytes, t->rbuf->bytes, len);
	} else {
		b = t->rbuf;
		t->rbuf = NULL;
	}
	if (b)
		b->len = len;
	return b;
}

static void on_write(struct dthread *t, const struct fuse_in_header *h,
	const struct fuse_write_in *in, size_t data_len)
{
	bool cached = in->write_flags & FUSE_WRITE_CACHE;
	struct io *io;

	if (in->size != data_len || in->size > IO_BYTES_MAX ||
		(!cached && misaligned(t->d, in->offset, in->size, in->flags))) {
		datapath_write_fails(t->d, h->unique, in->fh, h->pid, -EINVAL);
		return;
	}
	io = datapath_io_get(t, h->unique, h->pid);
	if (io)
		io->data = take_data(t, in->size);
	if (!io || !io->data) {
		datapath_write_fails(t->d, h->unique, in->fh, h->pid, -ENOMEM);
		if (io)
			datapath_io_put(io);
		return;
	}
	io->op.write = true;
	io->op.partly = !cached;
	io->writer = (struct fuse_ops_writer){
		in->write_flags & FUSE_WRITE_KILL_SUIDGID, h->pid, h->gid};
	/* The page cache writes pages where they belong, whatever the file was opened for. */
	start(io, h, in->fh, in->offset, in->size,
		cached ? in->flags & ~(uint32_t)O_APPEND : in->flags, !cached);
}

static void unmounted(struct dthread *t)
{
	struct datapath *d = t->d;
	bool first;

	/* The descriptor says so for ever. */
	(void)epoll_ctl(t->epfd, EPOLL_CTL_DEL, d->fuse_fd, NULL);
	pthread_mutex_lock(&d->lock);
	first = !d->unmounted;
	d->unmounted = true;
	pthread_mutex_unlock(&d->lock);
	if (first)
		d->cfg.on_unmount(d->cfg.ctx);
}

static void dispatch(struct dthread *t, uint8_t *head, size_t n)
{
	const struct fuse_in_header *h = (const void *)head;

	if (h->opcode == FUSE_WRITE && n >= HEAD_BYTES) {
		on_write(t, h, (const void *)(h + 1), n - HEAD_BYTES);
		return;
	}
	if (h->opcode == FUSE_READ && n >= sizeof(*h) + sizeof(struct fuse_read_in)) {
		on_read(t, h, (const void *)(h + 1));
		return;
	}
	if (h->opcode == FUSE_INTERRUPT && n >= sizeof(*h) + sizeof(struct fuse_interrupt_in)) {
		const struct fuse_interrupt_in *in = (const void *)(h + 1);

		if (datapath_io_interrupt(t->d, in->unique))
			return;
	}
	if (n <= HEAD_BYTES) {
		fuse_ops_process(t->d->cfg.fuse, head, n);
		return;
	}
	memcpy(t->whole, head, HEAD_BYTES);
	memcpy(t->whole + HEAD_BYTES, t->rbuf->bytes, n - HEAD_BYTES);
	fuse_ops_process(t->d->cfg.fuse, t->whole, n);
}

/* The number of an append that finds its place by FS_APPEND; 0: it is none. */
static uint64_t append_of(const uint8_t *head, ssize_t n)
{
	const struct fuse_in_header *h = (const void *)head;
	const struct fuse_write_in *in = (const void *)(h + 1);

	if (n < (ssize_t)HEAD_BYTES || h->opcode != FUSE_WRITE || (in->write_flags & FUSE_WRITE_CACHE) || !(in->flags & O_APPEND))
		return 0;
	return h->unique;
}

/* One request. False: none is there. */
static bool receive(struct dthread *t)
{
	_Alignas(8) uint8_t head[HEAD_BYTES];
	struct iovec v[2];
	ssize_t n;

	if (!t->rbuf)
		t->rbuf = dbuf_get(IO_BYTES_MAX);
	if (!t->rbuf)
		return false; /* the poll comes back: by then something may have ended */
	v[0] = (struct iovec){head, sizeof(head)};
	v[1] = (struct iovec){t->rbuf->bytes, IO_BYTES_MAX};
	t->reads++;
	n = readv(t->d->fuse_fd, v, 2);
	t->append = append_of(head, n);
	t->reads++;
	if (n < 0) {
		/* ENOENT: the request was interrupted before it was read; there may be others. */
		if (errno == ENOENT || errno == EINTR)
			return true;
		/* Any other error (ENOMEM: our pages could not be had) has ended that request at most. */
		if (errno == ENODEV || errno == ECONNABORTED)
			unmounted(t);
		return false;
	}
	if ((size_t)n < sizeof(struct fuse_in_header))
		return true;
	dispatch(t, head, (size_t)n);
	t->append = 0;
	return true;
}

/* ------------------------------------------------------------------ the loop */

static int timeout_ms(struct dthread *t)
{
	struct datapath *d = t->d;
	uint64_t deadline_ns, now_ns = bdev_now_ns(), ms;

	pthread_mutex_lock(&d->lock);
	deadline_ns = dp_deadline(d->dp);
	pthread_mutex_unlock(&d->lock);
	if (deadline_ns <= now_ns)
		return 0;
	if (t->b && t->b_fd < 0 && bdev_state(t->b) == BDEV_OPENING)
		return 50;
	ms = (deadline_ns - now_ns) / NS_PER_MS + 1;
	return ms < WATCH_MS ? (int)ms : WATCH_MS;
}

static void woken(struct dthread *t)
{
	uint64_t n;

	(void)!read(t->wakefd, &n, sizeof(n));
	pthread_mutex_lock(&t->d->lock);
	t->woken = false;
	pthread_mutex_unlock(&t->d->lock);
}

static bool stopping(struct datapath *d)
{
	bool stop;

	pthread_mutex_lock(&d->lock);
	stop = d->stop;
	pthread_mutex_unlock(&d->lock);
	return stop;
}

static bool receive_all(struct dthread *t)
{
	if (!receive(t))
		return false;
	for (int k = 1; k < FUSE_BATCH && receive(t); k++)
		;
	return true;
}

static void serve(struct dthread *t, const struct epoll_event *evs, int n)
{
	struct datapath *d = t->d;

	for (int i = 0; i < n; i++) {
		if (evs[i].data.fd == t->wakefd) {
			woken(t);
		} else if (evs[i].data.fd == d->fuse_fd) {
			if (bdev_now_ns() - t->idle_ns < LOOK_NS && t->luck < LUCK_MAX)
				t->luck++;
			(void)receive_all(t);
		} else if (t->b && evs[i].data.fd == t->b_fd) {
			(void)bdev_service(t->b, (int)evs[i].events);
		}
	}
}

/*
 * Who creates files one after the other asks again a few microseconds after each answer, and to be woken takes
 * longer than that. So the thread looks for a moment before it sleeps, as long as that mostly finds something;
 * and gives its processor to whoever wants it meanwhile. Only where the thread runs the core as well: else the
 * answer is still to come. True: requests were read.
 */
static bool look(struct dthread *t)
{
	uint64_t end_ns;

	t->idle_ns = bdev_now_ns();
	if (!t->d->cfg.turn || t->luck < LUCK_ENOUGH)
		return false;
	end_ns = t->idle_ns + LOOK_NS;
	do {
		if (receive_all(t)) {
			t->luck += t->luck < LUCK_MAX;
			return true;
		}
		sched_yield();
	} while (bdev_now_ns() < end_ns);
	t->luck -= LUCK_ENOUGH;
	return false;
}

/* Sleeps until there is something to do; of what `look` does not see, a part is served each time. */
static void await(struct dthread *t)
{
	struct epoll_event evs[4];
	bool found = look(t);

	if (!found || ++t->looks % LOOKS == 0)
		serve(t, evs, epoll_wait(t->epfd, evs, 4, found ? 0 : timeout_ms(t)));
}

/* The data thread that runs. */
static __thread struct dthread *self;

static void *thread_main(void *arg)
{
	struct dthread *t = arg;
	struct datapath *d = t->d;

	self = t;

	while (!stopping(d)) {
		datapath_session_poll(t);
		await(t);
		datapath_session_commands(t);
		if (d->cfg.turn)
			d->cfg.turn(d->cfg.ctx); /* what it gives back is run at once */
		datapath_io_run(t);
		/* What was submitted goes out at once, all together. */
		if (t->b && (t->submitted || t->b_fd < 0)) {
			t->submitted = false;
			(void)bdev_service(t->b, t->b_fd < 0 ? 0 : POLLOUT);
		}
		datapath_session_watch(t);
		/* The last thing before sleeping: nothing of ours may stay in the inbox. */
		if (d->cfg.turn)
			d->cfg.turn(d->cfg.ctx);
	}
	datapath_session_close(t);
	if (d->cfg.turn)
		d->cfg.turn(d->cfg.ctx);
	return NULL;
}

/* ------------------------------------------------------------------ life */

static void settle(void *ctx, uint64_t ino)
{
	struct datapath *d = ctx;
	struct event ev;

	pthread_mutex_lock(&d->lock);
	if (dp_take_touched(d->dp, ino, &ev))
		d->cfg.post(d->cfg.ctx, &ev);
	pthread_mutex_unlock(&d->lock);
}

static void zero(void *ctx, uint64_t ino, uint64_t handle, uint64_t off, uint32_t len,
	void (*begins)(void *arg, uint64_t tag), void (*done)(void *arg, int err), void *arg)
{
	struct io *io = datapath_io_get(self, DATAPATH_OWN, 0);

	(void)ctx;
	if (!io) {
		done(arg, -ENOMEM);
		return;
	}
	io->done = done;
	io->arg = arg;
	io->op.write = io->op.zero = true;
	io->op.ino = ino;
	io->op.handle = handle;
	io->op.off = off;
	io->op.len = len;
	io->start_ns = bdev_now_ns();
	begins(arg, datapath_io_tag(io));
	datapath_io_begin(io);
}

static void closed(void *ctx, uint64_t handle)
{
	struct datapath *d = ctx;

	pthread_mutex_lock(&d->lock);
	dp_handle_closed(d->dp, handle);
	datapath_forget_failed(d, handle);
	pthread_mutex_unlock(&d->lock);
}

static bool failed(void *ctx, uint64_t handle, uint32_t tid)
{
	struct datapath *d = ctx;
	bool has;

	pthread_mutex_lock(&d->lock);
	has = datapath_take_failed(d, handle, tid);
	pthread_mutex_unlock(&d->lock);
	return has;
}

static int64_t read_ns(void *ctx, uint64_t ino)
{
	struct datapath *d = ctx;
	int64_t ns;

	pthread_mutex_lock(&d->lock);
	ns = dp_read_ns(d->dp, ino);
	pthread_mutex_unlock(&d->lock);
	return ns;
}

static void times_set(void *ctx, uint64_t ino)
{
	struct datapath *d = ctx;

	pthread_mutex_lock(&d->lock);
	dp_times_set(d->dp, ino);
	pthread_mutex_unlock(&d->lock);
}

static int64_t touched_ns(void *ctx, uint64_t ino)
{
	struct datapath *d = ctx;
	int64_t ns;

	pthread_mutex_lock(&d->lock);
	ns = dp_touched_ns(d->dp, ino);
	pthread_mutex_unlock(&d->lock);
	return ns;
}

static int thread_init(struct dthread *t, struct datapath *d, unsigned nr)
{
	struct epoll_event ev = {.events = EPOLLIN};

	t->d = d;
	t->nr = nr;
	t->b_fd = -1;
	list_init(&t->free);
	list_init(&t->returned);
	t->epfd = epoll_create1(EPOLL_CLOEXEC);
	t->wakefd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	t->whole = malloc(HEAD_BYTES + IO_BYTES_MAX);
	if (t->epfd < 0 || t->wakefd < 0 || !t->whole)
		return -ENOMEM;
	ev.data.fd = t->wakefd;
	if (epoll_ctl(t->epfd, EPOLL_CTL_ADD, t->wakefd, &ev))
		return -errno;
	ev.data.fd = d->fuse_fd;
	/* One request wakes one thread. */
	if (d->threads > 1)
		ev.events |= EPOLLEXCLUSIVE;
	if (epoll_ctl(t->epfd, EPOLL_CTL_ADD, d->fuse_fd, &ev))
		return -errno;
	return 0;
}

static void datapath_free(struct datapath *d)
{
	for (unsigned i = 0; i < d->threads; i++) {
		struct dthread *t = &d->t[i];

		if (t->epfd > 0)
			close(t->epfd);
		if (t->wakefd > 0)
			close(t->wakefd);
		free(t->whole);
		dbuf_put(t->rbuf);
	}
	for (uint32_t i = 0; i < d->io_count; i++) {
		struct io *io = d->ios[i];

		if (io->img != io->data)
			dbuf_put(io->img);
		dbuf_put(io->data);
		if (io->reqs != io->inline_reqs) {
			free(io->reqs);
			free(io->iov);
		}
		free(io);
	}
	free(d->ios);
	if (d->region)
		munmap(d->region, d->cfg.layout_bytes);
	free(d);
}

static int make_dp(struct datapath *d)
{
	struct dp_config c = {
		.mem = &d->mem,
		.data_start = d->cfg.data_start,
		.cluster_bytes = d->cfg.cluster_bytes,
		.block_bytes = BLOCK_SIZE,
		.sole_node = d->cfg.standalone,
		.extents_max = EXTENTS_MAX,
		.hold_ns = d->cfg.hold_ns,
	};

	d->region = mmap(NULL, d->cfg.layout_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (d->region == MAP_FAILED) {
		d->region = NULL;
		return -ENOMEM;
	}
	mem_init(&d->mem, d->region, d->cfg.layout_bytes);
	d->dp = dp_create(&c);
	return d->dp ? 0 : -ENOMEM;
}

static struct datapath *datapath_new(const struct datapath_config *cfg)
{
	struct datapath *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->cfg = *cfg;
	if (!d->cfg.answer_ns)
		d->cfg.answer_ns = ANSWER_NS;
	if (!d->cfg.layout_bytes)
		d->cfg.layout_bytes = LAYOUT_BYTES;
	d->threads = cfg->threads ? cfg->threads : 1;
	if (d->threads > DATAPATH_THREADS_MAX)
		d->threads = DATAPATH_THREADS_MAX;
	d->fuse_fd = fuse_ops_fd(cfg->fuse);
	pthread_mutex_init(&d->lock, NULL);
	list_init(&d->turns);
	return d;
}

int datapath_start(const struct datapath_config *cfg, struct datapath **out)
{
	struct datapath *d = datapath_new(cfg);
	struct fuse_ops_hooks hooks = {.settle = settle,
		.touched_ns = touched_ns,
		.read_ns = read_ns,
		.times_set = times_set,
		.zero = zero,
		.closed = closed,
		.failed = failed,
		.cluster_bytes = cfg->cluster_bytes,
		.ctx = d};
	int err;

	*out = NULL;
	if (!d)
		return -ENOMEM;
	err = make_dp(d);
	for (unsigned i = 0; i < d->threads && !err; i++)
		err = thread_init(&d->t[i], d, i);
	if (err) {
		datapath_free(d);
		return err;
	}
	fuse_ops_set_hooks(cfg->fuse, &hooks);
	/* Before the first request can be read: post() and the answers need it. */
	*out = d;
	for (unsigned i = 0; i < d->threads && !err; i++) {
		err = -pthread_create(&d->t[i].id, NULL, thread_main, &d->t[i]);
		d->t[i].started = !err;
	}
	if (err) {
		datapath_stop(d);
		*out = NULL;
	}
	return err;
}

void datapath_stop(struct datapath *d)
{
	if (!d)
		return;
	pthread_mutex_lock(&d->lock);
	d->stop = true;
	for (unsigned i = 0; i < d->threads; i++)
		datapath_wake(&d->t[i]);
	pthread_mutex_unlock(&d->lock);
	for (unsigned i = 0; i < d->threads; i++) {
		if (d->t[i].started)
			pthread_join(d->t[i].id, NULL);
	}
	fuse_ops_set_hooks(d->cfg.fuse, NULL);
	datapath_free(d);
}

void datapath_get_stats(struct datapath *d, struct datapath_stats *st)
{
	uint64_t first_ns = NEVER, now_ns = bdev_now_ns();

	memset(st, 0, sizeof(*st));
	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; i < d->threads; i++) {
		const struct datapath_stats *s = &d->t[i].stats;

		st->direct_reads += s->direct_reads;
		st->direct_writes += s->direct_writes;
		st->direct_read_bytes += s->direct_read_bytes;
		st->direct_write_bytes += s->direct_write_bytes;
		st->core_reads += s->core_reads;
		st->core_writes += s->core_writes;
		st->core_read_bytes += s->core_read_bytes;
		st->core_write_bytes += s->core_write_bytes;
		st->zero_reads += s->zero_reads;
		st->layout_gets += s->layout_gets;
		st->commits += s->commits;
		if (s->longest_ns > st->longest_ns)
			st->longest_ns = s->longest_ns;
	}
	for (uint32_t i = 0; i < d->io_count; i++) {
		if (!d->ios[i]->unique)
			continue;
		st->in_flight++;
		if (d->ios[i]->start_ns < first_ns)
			first_ns = d->ios[i]->start_ns;
	}
	pthread_mutex_unlock(&d->lock);
	st->oldest_ns = first_ns < now_ns ? now_ns - first_ns : 0;
}

void datapath_reset_longest(struct datapath *d)
{
	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; i < d->threads; i++)
		d->t[i].stats.longest_ns = 0;
	pthread_mutex_unlock(&d->lock);
}
