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
 */
#include "csvfs/datapath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
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
#include "csvfs/dbuf.h"
#include "csvfs/dp.h"
#include "csvfs/fuse_ops.h"

#define ANSWER_NS (4 * NS_PER_SEC)
#define LAYOUT_BYTES (1ull << 30)
#define FUSE_BATCH 64 /* requests read before the LUN is served again */
#define WATCH_MS 200
#define INLINE_REQS 4
/* A smaller write is copied out of the receive buffer, which stays warm; a larger one keeps it. */
#define COPY_BYTES (32u << 10)

/* What a WRITE has in front of its data. The data then begin at the buffer's start, aligned. */
#define HEAD_BYTES (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))

/* What the owner of an I/O finds in `returned`. */
enum io_news {
	NEWS_READY,	/* dp_begin() it again */
	NEWS_BLOCK,	/* FX_BLOCK_DONE */
	NEWS_RETRY,	/* FX_BLOCK_RETRY */
	NEWS_LAYOUT,	/* FX_REPLY */
	NEWS_APPEND,
	NEWS_ENDED,	/* cancelled */
};

struct io {
	struct fs_request rq; /* LAYOUT_GET, APPEND: valid until its FX_REPLY */
	struct dthread *t;
	uint64_t unique; /* the kernel's number of the request; 0: the I/O is free */
	uint32_t idx, gen;
	uint64_t start_ns;
	bool via_core;	   /* a part of it went through the core */
	struct dbuf *data; /* of a write */
	struct dbuf *img;  /* what the segments address */
	struct list link;  /* free, returned */
	enum io_news news;
	int news_err;
	uint64_t news_off;

	uint32_t left; /* commands not ended */
	enum lun_status worst;
	struct bdev_req *reqs, inline_reqs[INLINE_REQS];
	struct iovec *iov, inline_iov[INLINE_REQS];
	uint32_t req_room;

	struct dp_op op;
};

enum session_cmd { CMD_NONE, CMD_OPEN, CMD_CLOSE };

struct dthread {
	struct datapath *d;
	unsigned nr;
	pthread_t id;
	bool started;
	int epfd, wakefd;

	/* the thread's own */
	struct bdev *b;
	int b_fd;
	int b_events;
	bool submitted; /* to be sent */
	struct dbuf *rbuf;
	uint8_t *whole; /* a request that is not a WRITE, in one piece */
	struct list free;
	struct bdev_req register_req;

	/* under datapath.lock */
	struct list returned;
	bool woken;
	enum session_cmd cmd;
	bool want_register;
	bool up, lost; /* of the session */
	struct datapath_stats stats;
};

struct datapath {
	struct datapath_config cfg;
	int fuse_fd;
	pthread_mutex_t lock;
	struct dp *dp;
	struct mem mem;
	void *region;
	struct io **ios;
	uint32_t io_count;
	uint32_t block_bytes; /* of the LUN; 0: not known yet */
	bool stop, unmounted;

	unsigned closing, registering; /* threads that have not done it yet */
	bool path_told;		       /* FAILED or LOST was said since the last opening */
	uint64_t key;
	enum lun_status register_worst;
	char register_text[128];
	void (*register_done)(void *arg, enum lun_status status, const char *text);
	void *register_arg;

	unsigned threads;
	struct dthread t[DATAPATH_THREADS_MAX];
};

static struct dp_now now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (struct dp_now){
		.now_ns = bdev_now_ns(),
		.wall_ns = (int64_t)ts.tv_sec * (int64_t)NS_PER_SEC + ts.tv_nsec,
	};
}

/* ------------------------------------------------------------------ I/Os */

static uint64_t tag_of(const struct io *io)
{
	return DATAPATH_TAG | (uint64_t)(io->gen & 0x3fffffffu) << 32 | io->idx;
}

/* Locked. NULL: nobody waits for it any more. */
static struct io *io_of(struct datapath *d, uint64_t tag)
{
	uint32_t idx = (uint32_t)tag;

	if (idx >= d->io_count || !d->ios[idx]->unique || tag_of(d->ios[idx]) != tag)
		return NULL;
	return d->ios[idx];
}

static struct io *io_new(struct dthread *t)
{
	struct datapath *d = t->d;
	struct io *io = malloc(sizeof(*io)), **ios;

	if (!io)
		return NULL;
	memset(io, 0, offsetof(struct io, op));
	io->t = t;
	io->reqs = io->inline_reqs;
	io->iov = io->inline_iov;
	io->req_room = INLINE_REQS;
	pthread_mutex_lock(&d->lock);
	ios = realloc(d->ios, (d->io_count + 1) * sizeof(*ios));
	if (ios) {
		d->ios = ios;
		io->idx = d->io_count;
		d->ios[d->io_count++] = io;
	}
	pthread_mutex_unlock(&d->lock);
	if (!ios) {
		free(io);
		return NULL;
	}
	return io;
}

static struct io *io_get(struct dthread *t, uint64_t unique)
{
	struct io *io;

	if (list_empty(&t->free)) {
		io = io_new(t);
		if (!io)
			return NULL;
	} else {
		io = list_first_entry(&t->free, struct io, link);
		list_del(&io->link);
	}
	list_init(&io->link);
	io->via_core = false;
	io->data = io->img = NULL;
	io->left = 0;
	dp_op_init(&io->op);
	io->op.owner = io;
	io->unique = unique;
	return io;
}

static void io_put(struct io *io)
{
	struct datapath *d = io->t->d;

	if (io->img != io->data)
		dbuf_put(io->img);
	dbuf_put(io->data);
	io->img = io->data = NULL;
	pthread_mutex_lock(&d->lock);
	io->unique = 0;
	io->gen++;
	pthread_mutex_unlock(&d->lock);
	list_add(&io->link, &io->t->free);
}

static bool reqs_room(struct io *io, uint32_t n)
{
	struct bdev_req *r;
	struct iovec *v;

	if (n <= io->req_room)
		return true;
	r = calloc(n, sizeof(*r));
	v = calloc(n, sizeof(*v));
	if (!r || !v) {
		free(r);
		free(v);
		return false;
	}
	if (io->reqs != io->inline_reqs) {
		free(io->reqs);
		free(io->iov);
	}
	io->reqs = r;
	io->iov = v;
	io->req_room = n;
	return true;
}

/* The buffer that the segments address; a write of whole blocks has it already. */
static bool image_ready(struct io *io)
{
	struct dp_op *op = &io->op;

	if (io->img == io->data)
		io->img = NULL;
	if (io->img && (io->img->room < op->img_len || (op->write && !op->bounce))) {
		dbuf_put(io->img);
		io->img = NULL;
	}
	if (op->write && !op->bounce) {
		io->img = io->data;
		return true;
	}
	if (!io->img)
		io->img = dbuf_get(op->img_len);
	if (!io->img)
		return false;
	io->img->len = op->img_len;
	if (op->write && op->bounce && op->io_write)
		dp_fill(op, io->img->bytes, io->data->bytes);
	return true;
}

/* ------------------------------------------------------------------ answers to the kernel */

static void send_out(struct datapath *d, uint64_t unique, int err, const void *data, size_t len)
{
	struct fuse_out_header h = {
		.len = (uint32_t)(sizeof(h) + len), .error = err, .unique = unique};
	struct iovec v[2] = {{&h, sizeof(h)}, {(void *)(uintptr_t)data, len}};

	/* ENOENT: the process that waited is gone; EIO, ENODEV: so is the mount. */
	(void)!writev(d->fuse_fd, v, len ? 2 : 1);
}

static void count(struct io *io, uint64_t end_ns)
{
	struct datapath_stats *st = &io->t->stats;
	const struct dp_op *op = &io->op;
	uint64_t took_ns = end_ns - io->start_ns, bytes = op->result > 0 ? (uint64_t)op->result : 0;

	if (took_ns > st->longest_ns)
		st->longest_ns = took_ns;
	if (!op->write && !op->seg_count && !io->via_core) {
		st->zero_reads++;
		return;
	}
	if (op->write && io->via_core) {
		st->core_writes++;
		st->core_write_bytes += bytes;
	} else if (op->write) {
		st->direct_writes++;
		st->direct_write_bytes += bytes;
	} else if (io->via_core) {
		st->core_reads++;
		st->core_read_bytes += bytes;
	} else {
		st->direct_reads++;
		st->direct_read_bytes += bytes;
	}
}

static void answer_read(struct io *io)
{
	struct datapath *d = io->t->d;
	const struct dp_op *op = &io->op;

	if (op->result <= 0) {
		send_out(d, io->unique, op->result, NULL, 0);
		return;
	}
	if (!image_ready(io)) {
		send_out(d, io->unique, -ENOMEM, NULL, 0);
		return;
	}
	dp_fill(op, io->img->bytes, NULL);
	send_out(d, io->unique, 0, io->img->bytes + op->skip, (size_t)op->result);
}

static void answer_write(struct io *io)
{
	struct fuse_write_out out = {.size = (uint32_t)io->op.result};

	if (io->op.result < 0)
		send_out(io->t->d, io->unique, io->op.result, NULL, 0);
	else
		send_out(io->t->d, io->unique, 0, &out, sizeof(out));
}

static void answer(struct io *io)
{
	if (io->op.write)
		answer_write(io);
	else
		answer_read(io);
	io_put(io);
}

/* ------------------------------------------------------------------ what a verdict wants done */

static void wake(struct dthread *t)
{
	uint64_t one = 1;

	if (t->woken)
		return;
	t->woken = true;
	(void)!write(t->wakefd, &one, sizeof(one));
}

/* Locked: to the owner of the I/O, whichever thread found it out. */
static void news(struct io *io, enum io_news what, int err, uint64_t off)
{
	csv_assert(list_empty(&io->link));
	io->news = what;
	io->news_err = err;
	io->news_off = off;
	list_add_tail(&io->link, &io->t->returned);
	wake(io->t);
}

/* Locked: ops that were parked and may go on now. */
static void return_ready(struct datapath *d, uint64_t now_ns)
{
	struct dp_op *op;

	while ((op = dp_next_ready(d->dp, now_ns)))
		news(op->owner, NEWS_READY, 0, 0);
}

static void post_events(struct datapath *d)
{
	struct event ev;

	while (dp_next_event(d->dp, &ev))
		d->cfg.post(d->cfg.ctx, &ev);
}

static void post_block(struct io *io)
{
	struct datapath *d = io->t->d;
	const struct dp_op *op = &io->op;
	struct event ev = {.type = EV_BLOCK, .tag = tag_of(io)};

	ev.block.write = op->io_write;
	ev.block.fua = op->io_fua;
	ev.block.unknown = op->io_unknown && op->io_write;
	ev.block.ino = op->ino;
	ev.block.seg_count = op->seg_count;
	ev.block.segs = op->segs;
	ev.block.data = dbuf_handle(io->img);
	ev.block.len = op->img_len;
	d->cfg.post(d->cfg.ctx, &ev);
}

static void post_request(struct io *io, enum fs_op what)
{
	struct datapath *d = io->t->d;
	const struct dp_op *op = &io->op;
	struct event ev = {.type = EV_REQUEST, .tag = tag_of(io), .rq = &io->rq};

	memset(&io->rq, 0, sizeof(io->rq));
	io->rq.op = what;
	io->rq.ino = op->ino;
	io->rq.time_ns = now().wall_ns;
	if (what == FS_APPEND) {
		io->rq.len = op->len;
	} else {
		io->rq.off = op->need_off;
		io->rq.len = op->need_len;
		io->rq.flags = op->need_write ? FS_LAYOUT_WRITE : 0;
	}
	d->cfg.post(d->cfg.ctx, &ev);
}

static void post_commit(struct io *io)
{
	struct datapath *d = io->t->d;
	const struct dp_op *op = &io->op;
	struct event ev = {.type = EV_COMMIT, .tag = tag_of(io)};

	ev.range.ino = op->range.ino;
	ev.range.off = op->range.off;
	ev.range.len = op->range.len;
	ev.range.size = op->range.size;
	ev.range.mtime_ns = op->range.mtime_ns;
	d->cfg.post(d->cfg.ctx, &ev);
}

/*
 * Locked. Tells the core, in the order that dp.h asks for. Returns DP_SUBMIT or DP_DONE for the caller
 * to do when it has unlocked; DP_WAIT: nothing.
 */
static enum dp_verdict tell(struct io *io, enum dp_verdict v, struct dp_now tn)
{
	struct datapath *d = io->t->d;
	struct event ev;

	/* Without a buffer it cannot go on: the op ends as if the medium had failed. */
	if ((v == DP_SUBMIT || v == DP_HANDOVER) && !image_ready(io))
		v = v == DP_SUBMIT ? dp_done(d->dp, &io->op, LUN_MEDIUM, tn)
				   : dp_block_done(d->dp, &io->op, -ENOMEM, tn);
	while (dp_op_event(&io->op, &ev))
		d->cfg.post(d->cfg.ctx, &ev);
	switch (v) {
	case DP_HANDOVER:
		io->via_core = true;
		post_block(io);
		v = DP_WAIT;
		break;
	case DP_NEED_LAYOUT:
		io->t->stats.layout_gets++;
		post_request(io, FS_LAYOUT_GET);
		v = DP_WAIT;
		break;
	case DP_NEED_APPEND:
		post_request(io, FS_APPEND);
		v = DP_WAIT;
		break;
	case DP_COMMIT:
		io->t->stats.commits++;
		post_commit(io);
		v = DP_WAIT;
		break;
	case DP_DONE:
		count(io, tn.now_ns);
		break;
	case DP_SUBMIT:
	case DP_WAIT:
		break;
	}
	post_events(d);
	return_ready(d, tn.now_ns);
	return v;
}

static void submit(struct io *io);

static void act(struct io *io, enum dp_verdict v)
{
	if (v == DP_SUBMIT)
		submit(io);
	else if (v == DP_DONE)
		answer(io);
}

static void begin(struct io *io)
{
	struct datapath *d = io->t->d;
	enum dp_verdict v;
	struct dp_now tn = now();

	pthread_mutex_lock(&d->lock);
	v = tell(io, dp_begin(d->dp, &io->op, tn), tn);
	pthread_mutex_unlock(&d->lock);
	act(io, v);
}

static void io_ended(struct io *io, enum lun_status status)
{
	struct datapath *d = io->t->d;
	enum dp_verdict v;
	struct dp_now tn = now();

	pthread_mutex_lock(&d->lock);
	v = tell(io, dp_done(d->dp, &io->op, status, tn), tn);
	pthread_mutex_unlock(&d->lock);
	act(io, v);
}

static void req_done(struct bdev_req *r)
{
	struct io *io = r->owner;

	io->worst = dp_worst(io->worst, r->status);
	csv_assert(io->left > 0);
	if (!--io->left)
		io_ended(io, io->worst);
}

static void submit(struct io *io)
{
	struct dthread *t = io->t;
	struct dp_op *op = &io->op;

	if (!t->b || !reqs_room(io, op->seg_count)) {
		io_ended(io, t->b ? LUN_MEDIUM : LUN_UNKNOWN);
		return;
	}
	io->worst = LUN_OK;
	io->left = op->seg_count;
	for (uint32_t i = 0; i < op->seg_count; i++) {
		struct bdev_req *r = &io->reqs[i];

		io->iov[i] = (struct iovec){io->img->bytes + op->segs[i].buf_off, op->segs[i].len};
		r->cmd = (struct lun_cmd){
			.op = op->io_write ? LUN_WRITE : LUN_READ,
			.fua = op->io_fua,
			.off = op->segs[i].lun_off,
			.len = op->segs[i].len,
		};
		r->iov = &io->iov[i];
		r->iov_count = 1;
		r->done = req_done;
		r->owner = io;
		bdev_submit(t->b, r);
	}
	t->submitted = true;
}

/* ------------------------------------------------------------------ news of the core and of others */

static enum dp_verdict go_on(struct io *io, struct dp_now tn)
{
	struct dp *dp = io->t->d->dp;
	struct dp_op *op = &io->op;

	switch (io->news) {
	case NEWS_READY:
		return dp_begin(dp, op, tn);
	case NEWS_BLOCK:
		return dp_block_done(dp, op, io->news_err, tn);
	case NEWS_RETRY:
		return dp_block_retry(dp, op, tn);
	case NEWS_LAYOUT:
		return dp_layout_done(dp, op, io->news_err, tn);
	case NEWS_APPEND:
		return dp_append_done(dp, op, io->news_err, io->news_off, tn);
	case NEWS_ENDED:
		break;
	}
	return DP_DONE;
}

static void run_returned(struct dthread *t)
{
	struct datapath *d = t->d;
	struct dp_now tn = now();
	enum dp_verdict v;
	struct io *io;

	pthread_mutex_lock(&d->lock);
	return_ready(d, tn.now_ns);
	while (!list_empty(&t->returned)) {
		io = list_first_entry(&t->returned, struct io, link);
		list_del(&io->link);
		v = tell(io, go_on(io, tn), tn);
		pthread_mutex_unlock(&d->lock);
		act(io, v);
		tn = now();
		pthread_mutex_lock(&d->lock);
	}
	pthread_mutex_unlock(&d->lock);
}

static void put_layout(struct datapath *d, const struct effect *e)
{
	/* An error reaches whoever asked: dp_layout_done() says so. */
	(void)dp_layout_put(d->dp, e->layout.ino, e->layout.off, e->layout.len, e->layout.size,
		e->layout.extents, e->layout.extent_count);
}

/* Bytes read on another way, for a part of the image. */
static void block_data(struct datapath *d, const struct effect *e)
{
	struct io *io = io_of(d, e->tag);
	struct dbuf *from = dbuf_of(e->blockdata.data);
	uint32_t off = e->blockdata.buf_off, len = e->blockdata.len;

	if (!io || !io->img || io->op.io_write || io->op.state != DP_ST_CORE)
		return;
	if (off > io->op.img_len || len > io->op.img_len - off || len > from->len)
		return;
	memcpy(io->img->bytes + off, from->bytes, len);
}

static void reply(struct datapath *d, const struct effect *e)
{
	struct io *io = io_of(d, e->tag);

	if (!io)
		return;
	if (io->op.state == DP_ST_ASK)
		news(io, NEWS_LAYOUT, e->reply->err, 0);
	else if (io->op.state == DP_ST_APPEND)
		news(io, NEWS_APPEND, e->reply->err, e->reply->off);
}

static void block_ends(struct datapath *d, const struct effect *e)
{
	struct io *io = io_of(d, e->tag);

	if (!io)
		return;
	if (e->type == FX_BLOCK_RETRY && io->op.state == DP_ST_CORE)
		news(io, NEWS_RETRY, 0, 0);
	else if (e->type == FX_BLOCK_DONE &&
		 (io->op.state == DP_ST_CORE || io->op.state == DP_ST_COMMIT))
		news(io, NEWS_BLOCK, e->block.err, 0);
}

bool datapath_apply(struct datapath *d, const struct effect *e)
{
	bool mine = true;

	if (e->type == FX_DATA_FREE) {
		dbuf_put(dbuf_of(e->data));
		return true;
	}
	pthread_mutex_lock(&d->lock);
	switch (e->type) {
	case FX_REPLY:
		mine = e->tag & DATAPATH_TAG;
		if (mine)
			reply(d, e);
		break;
	case FX_BLOCK_DONE:
	case FX_BLOCK_RETRY:
		block_ends(d, e);
		break;
	case FX_BLOCK_DATA:
		block_data(d, e);
		break;
	case FX_LAYOUT_PUT:
		put_layout(d, e);
		break;
	case FX_LAYOUT_SIZE:
		dp_layout_size(d->dp, e->layout.ino, e->layout.size);
		break;
	case FX_LAYOUT_CLOSE:
		dp_layout_close(d->dp, e->layout.ino);
		break;
	case FX_LAYOUT_DROP:
		dp_layout_drop(d->dp, e->layout.ino);
		break;
	case FX_GATE:
		dp_gate(d->dp, e->gate.gate, e->gate.lease_ns);
		break;
	default:
		mine = false;
		break;
	}
	if (mine) {
		post_events(d);
		return_ready(d, bdev_now_ns());
	}
	pthread_mutex_unlock(&d->lock);
	return mine;
}

/* ------------------------------------------------------------------ requests of the kernel */

static void start(struct io *io, const struct fuse_in_header *h, uint64_t off, uint32_t len,
	uint32_t flags)
{
	struct datapath *d = io->t->d;
	struct dp_op *op = &io->op;

	op->ino = h->nodeid == FUSE_ROOT_ID ? fuse_ops_root(d->cfg.fuse) : h->nodeid;
	op->off = off;
	op->len = len;
	op->append = op->write && (flags & O_APPEND);
	op->sync = (flags & O_SYNC) == O_SYNC;
	op->dsync = flags & O_DSYNC;
	io->start_ns = bdev_now_ns();
	begin(io);
}

/* A program that asks for direct I/O finds out the LUN's block size by what is refused. */
static bool misaligned(const struct datapath *d, uint64_t off, uint32_t len, uint32_t flags)
{
	return (flags & O_DIRECT) && d->block_bytes > 512 && ((off | len) & (d->block_bytes - 1));
}

static void on_read(struct dthread *t, const struct fuse_in_header *h,
	const struct fuse_read_in *in)
{
	struct io *io;

	if (misaligned(t->d, in->offset, in->size, in->flags)) {
		send_out(t->d, h->unique, -EINVAL, NULL, 0);
		return;
	}
	io = io_get(t, h->unique);
	if (!io) {
		send_out(t->d, h->unique, -ENOMEM, NULL, 0);
		return;
	}
	start(io, h, in->offset, in->size, in->flags);
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
		send_out(t->d, h->unique, -EINVAL, NULL, 0);
		return;
	}
	io = io_get(t, h->unique);
	if (io)
		io->data = take_data(t, in->size);
	if (!io || !io->data) {
		send_out(t->d, h->unique, -ENOMEM, NULL, 0);
		if (io)
			io_put(io);
		return;
	}
	io->op.write = true;
	/* The page cache writes pages where they belong, whatever the file was opened for. */
	start(io, h, in->offset, in->size, cached ? in->flags & ~(uint32_t)O_APPEND : in->flags);
}

/* True: the request that shall be interrupted was ours. */
static bool on_interrupt(struct datapath *d, uint64_t unique)
{
	struct io *io = NULL;

	pthread_mutex_lock(&d->lock);
	for (uint32_t i = 0; i < d->io_count && !io; i++) {
		if (d->ios[i]->unique == unique)
			io = d->ios[i];
	}
	if (io && dp_cancel(d->dp, &io->op)) {
		list_del(&io->link); /* it may have been on its way back as ready */
		news(io, NEWS_ENDED, 0, 0);
		post_events(d);
		return_ready(d, bdev_now_ns());
	} else if (io && list_empty(&io->link)) {
		struct event ev = {.type = EV_CANCEL, .tag = tag_of(io)};

		switch (io->op.state) {
		case DP_ST_ASK:
		case DP_ST_APPEND:
		case DP_ST_CORE:
		case DP_ST_COMMIT:
			d->cfg.post(d->cfg.ctx, &ev);
			break;
		default:
			break; /* ends by itself, soon */
		}
	}
	pthread_mutex_unlock(&d->lock);
	return io != NULL;
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

		if (on_interrupt(t->d, in->unique))
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
	n = readv(t->d->fuse_fd, v, 2);
	if (n < 0) {
		/* ENOENT: the request was interrupted before it was read; there may be others. */
		if (errno == ENOENT || errno == EINTR)
			return true;
		if (errno != EAGAIN)
			unmounted(t);
		return false;
	}
	if ((size_t)n < sizeof(struct fuse_in_header))
		return true;
	dispatch(t, head, (size_t)n);
	return true;
}

/* ------------------------------------------------------------------ the session to the LUN */

static void path_says(struct datapath *d, enum path_state st, const char *text)
{
	d->cfg.on_path(d->cfg.ctx, st, text);
}

/* Once per opening: the first reason is the cause. */
static void path_bad(struct dthread *t, enum path_state st, const char *text)
{
	struct datapath *d = t->d;
	bool first;

	pthread_mutex_lock(&d->lock);
	first = !d->path_told;
	d->path_told = true;
	t->up = false;
	t->lost = true;
	pthread_mutex_unlock(&d->lock);
	if (first)
		path_says(d, st, text);
}

static void session_up(struct dthread *t, const struct bdev_info *info)
{
	struct datapath *d = t->d;
	bool all = true;

	pthread_mutex_lock(&d->lock);
	t->up = true;
	d->block_bytes = info->block_bytes;
	dp_set_block_bytes(d->dp, info->block_bytes);
	for (unsigned i = 0; i < d->threads; i++)
		all &= d->t[i].up;
	pthread_mutex_unlock(&d->lock);
	if (all)
		path_says(d, PATH_UP, "");
}

static void on_state(void *ctx, struct bdev *b, enum bdev_state st)
{
	struct dthread *t = ctx;

	if (st == BDEV_UP)
		session_up(t, bdev_info(b));
	else if (st == BDEV_DOWN)
		path_bad(t, t->up ? PATH_LOST : PATH_FAILED, bdev_text(b));
}

static void unpoll(struct dthread *t)
{
	if (t->b_fd >= 0)
		(void)epoll_ctl(t->epfd, EPOLL_CTL_DEL, t->b_fd, NULL);
	t->b_fd = -1;
}

static void session_close(struct dthread *t)
{
	struct bdev *b = t->b;

	unpoll(t);
	/* No new ones while the old ones end: submit() sees that there is no session. */
	t->b = NULL;
	bdev_close(b);
	pthread_mutex_lock(&t->d->lock);
	t->up = false;
	pthread_mutex_unlock(&t->d->lock);
}

static void session_open(struct dthread *t)
{
	struct bdev_config cfg = t->d->cfg.bdev;
	char text[BDEV_TEXT_MAX] = "";

	session_close(t);
	cfg.session = BDEV_SESSION_DATA(t->nr);
	cfg.on_state = on_state;
	cfg.ctx = t;
	if (bdev_open(&cfg, &t->b, text, sizeof(text))) {
		t->b = NULL;
		path_bad(t, PATH_FAILED, text);
	}
}

static void register_ended(struct dthread *t, enum lun_status status, const char *text)
{
	struct datapath *d = t->d;
	void (*done)(void *, enum lun_status, const char *) = NULL;

	pthread_mutex_lock(&d->lock);
	if (dp_worst(status, d->register_worst) == status && status != LUN_OK)
		snprintf(d->register_text, sizeof(d->register_text), "%s", text ? text : "");
	d->register_worst = dp_worst(d->register_worst, status);
	if (!--d->registering)
		done = d->register_done;
	pthread_mutex_unlock(&d->lock);
	if (done)
		done(d->register_arg, d->register_worst, d->register_text);
}

static void register_done(struct bdev_req *r)
{
	register_ended(r->owner, r->status, r->text);
}

static void register_here(struct dthread *t)
{
	struct bdev_req *r = &t->register_req;
	uint64_t key = t->d->key;

	if (!t->b) {
		register_ended(t, LUN_UNKNOWN, "no session");
		return;
	}
	memset(r, 0, sizeof(*r));
	r->cmd.op = key ? LUN_PR_REGISTER : LUN_PR_UNREGISTER;
	r->cmd.key = key;
	r->done = register_done;
	r->owner = t;
	bdev_submit(t->b, r);
	t->submitted = true;
}

static void run_commands(struct dthread *t)
{
	struct datapath *d = t->d;
	enum session_cmd cmd;
	bool last = false, want_register;

	pthread_mutex_lock(&d->lock);
	cmd = t->cmd;
	want_register = t->want_register;
	t->cmd = CMD_NONE;
	t->want_register = false;
	pthread_mutex_unlock(&d->lock);
	if (cmd == CMD_OPEN)
		session_open(t);
	if (cmd == CMD_CLOSE) {
		session_close(t);
		pthread_mutex_lock(&d->lock);
		last = !--d->closing;
		pthread_mutex_unlock(&d->lock);
	}
	if (want_register)
		register_here(t);
	if (last)
		path_says(d, PATH_CLOSED, "");
}

static void command_all(struct datapath *d, enum session_cmd cmd)
{
	for (unsigned i = 0; i < d->threads; i++) {
		d->t[i].cmd = cmd;
		wake(&d->t[i]);
	}
}

void datapath_path_open(struct datapath *d)
{
	pthread_mutex_lock(&d->lock);
	d->path_told = false;
	for (unsigned i = 0; i < d->threads; i++)
		d->t[i].lost = false;
	command_all(d, CMD_OPEN);
	pthread_mutex_unlock(&d->lock);
}

void datapath_path_close(struct datapath *d)
{
	pthread_mutex_lock(&d->lock);
	d->closing = d->threads;
	command_all(d, CMD_CLOSE);
	pthread_mutex_unlock(&d->lock);
}

void datapath_register(struct datapath *d, uint64_t key,
	void (*done)(void *arg, enum lun_status status, const char *text), void *arg)
{
	pthread_mutex_lock(&d->lock);
	csv_assert(!d->registering);
	d->key = key;
	d->registering = d->threads;
	d->register_worst = LUN_OK;
	d->register_text[0] = 0;
	d->register_done = done;
	d->register_arg = arg;
	for (unsigned i = 0; i < d->threads; i++) {
		d->t[i].want_register = true;
		wake(&d->t[i]);
	}
	pthread_mutex_unlock(&d->lock);
}

/* A command without an answer for too long is reported; who closes the session decides. */
static void watch(struct dthread *t)
{
	uint64_t oldest_ns = t->b ? bdev_oldest_ns(t->b) : NEVER, now_ns = bdev_now_ns();
	char text[64];

	if (oldest_ns == NEVER || t->lost || now_ns < oldest_ns + t->d->cfg.answer_ns)
		return;
	snprintf(text, sizeof(text), "no answer for %llu s",
		(unsigned long long)((now_ns - oldest_ns) / NS_PER_SEC));
	path_bad(t, t->up ? PATH_LOST : PATH_FAILED, text);
}

/* ------------------------------------------------------------------ the loop */

static void poll_session(struct dthread *t)
{
	int fd = t->b ? bdev_fd(t->b) : -1, events = fd >= 0 ? bdev_events(t->b) : 0;
	struct epoll_event ev = {.events = (uint32_t)events, .data.fd = fd};

	if (fd == t->b_fd && events == t->b_events)
		return;
	if (fd != t->b_fd)
		unpoll(t);
	if (fd >= 0)
		(void)epoll_ctl(t->epfd, t->b_fd == fd ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev);
	t->b_fd = fd;
	t->b_events = events;
}

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

static void serve(struct dthread *t, const struct epoll_event *evs, int n)
{
	struct datapath *d = t->d;

	for (int i = 0; i < n; i++) {
		if (evs[i].data.fd == t->wakefd) {
			woken(t);
		} else if (evs[i].data.fd == d->fuse_fd) {
			for (int k = 0; k < FUSE_BATCH && receive(t); k++)
				;
		} else if (t->b && evs[i].data.fd == t->b_fd) {
			(void)bdev_service(t->b, (int)evs[i].events);
		}
	}
}

static void *thread_main(void *arg)
{
	struct dthread *t = arg;
	struct datapath *d = t->d;
	struct epoll_event evs[4];
	int n;

	while (!stopping(d)) {
		poll_session(t);
		n = epoll_wait(t->epfd, evs, 4, timeout_ms(t));
		serve(t, evs, n);
		run_commands(t);
		run_returned(t);
		/* What was submitted goes out at once, all together. */
		if (t->b && (t->submitted || t->b_fd < 0)) {
			t->submitted = false;
			(void)bdev_service(t->b, t->b_fd < 0 ? 0 : POLLOUT);
		}
		watch(t);
	}
	session_close(t);
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
		.cluster_bytes = d->cfg.cluster_bytes,
		.block_bytes = BLOCK_SIZE,
		.sole_node = d->cfg.standalone,
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
	return d;
}

int datapath_start(const struct datapath_config *cfg, struct datapath **out)
{
	struct datapath *d = datapath_new(cfg);
	struct fuse_ops_hooks hooks = {.settle = settle, .touched_ns = touched_ns, .ctx = d};
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
		wake(&d->t[i]);
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
