/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * datapath_io.c - one read or write of a file, from its plan to its answer: dp.c says what to do, here it
 * is done; what the core answers finds its way back to the thread that owns the I/O.
 */
#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "csvfs/base/assert.h"
#include "csvfs/datapath_int.h"

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

uint64_t datapath_io_tag(const struct io *io)
{
	return DATAPATH_TAG | (uint64_t)(io->gen & 0x3fffffffu) << 32 | io->idx;
}

/* Locked. NULL: nobody waits for it any more. */
static struct io *io_of(struct datapath *d, uint64_t tag)
{
	uint32_t idx = (uint32_t)tag;

	if (idx >= d->io_count || !d->ios[idx]->unique || datapath_io_tag(d->ios[idx]) != tag)
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

/* Locked. */
static bool came_early(struct datapath *d, uint64_t unique)
{
	for (uint32_t i = 0; i < EARLY_MAX && i < d->early_at; i++) {
		if (d->early[i] == unique)
			return true;
	}
	return false;
}

struct io *datapath_io_get(struct dthread *t, uint64_t unique, uint32_t tid)
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
	list_init(&io->turn);
	io->in_queue = io->asked = false;
	io->via_core = io->given_up = false;
	io->looking = false;
	io->killing = 0;
	io->done = NULL;
	io->data = io->img = NULL;
	io->left = 0;
	dp_op_init(&io->op);
	io->op.owner = io;
	/* From now on an interrupt finds it. */
	pthread_mutex_lock(&t->d->lock);
	io->unique = unique;
	io->tid = tid;
	io->early = came_early(t->d, unique);
	pthread_mutex_unlock(&t->d->lock);
	return io;
}

static void turn_ends(struct io *io);

void datapath_io_put(struct io *io)
{
	struct datapath *d = io->t->d;

	if (io->img != io->data)
		dbuf_put(io->img);
	dbuf_put(io->data);
	io->img = io->data = NULL;
	pthread_mutex_lock(&d->lock);
	turn_ends(io);
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
		dp_fill(op, io->img->bytes, io->data ? io->data->bytes : NULL);
	return true;
}

/* ------------------------------------------------------------------ answers to the kernel */

void datapath_answer(struct datapath *d, uint64_t unique, int err, const void *data, size_t len)
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
		datapath_answer(d, io->unique, op->result, NULL, 0);
		return;
	}
	if (!image_ready(io)) {
		datapath_answer(d, io->unique, -ENOMEM, NULL, 0);
		return;
	}
	dp_fill(op, io->img->bytes, NULL);
	datapath_answer(d, io->unique, 0, io->img->bytes + op->skip, (size_t)op->result);
}

/*
 * After a failed write that is asynchronous (io_uring, libaio) and reaches past the end that it knows, the kernel sets the size to that
 * end. Another node may have made the file longer: op_setattr() (fuse_ops.c) has to know that there was such a write. It is the thread
 * of the write that does so, before anything else.
 */
void datapath_failed(struct datapath *d, uint64_t handle, uint32_t tid)
{
	uint32_t first = 0;

	dp_handle_failed(d->dp, handle);
	for (uint32_t i = 0; i < d->failed_count; i++) {
		if (d->failed[i].handle == handle && d->failed[i].tid == tid)
			return;
		if (d->failed[i].handle < d->failed[first].handle)
			first = i;
	}
	/* Of the one that was opened first it is forgotten who: then it may be anybody. */
	if (d->failed_count == FAILED_MAX) {
		if (d->failed[first].handle > d->failed_upto)
			d->failed_upto = d->failed[first].handle;
		d->failed[first] = d->failed[--d->failed_count];
	}
	d->failed[d->failed_count].handle = handle;
	d->failed[d->failed_count++].tid = tid;
}

bool datapath_take_failed(struct datapath *d, uint64_t handle, uint32_t tid)
{
	for (uint32_t i = 0; i < d->failed_count; i++) {
		if (d->failed[i].handle == handle && d->failed[i].tid == tid) {
			d->failed[i] = d->failed[--d->failed_count];
			return true;
		}
	}
	return handle <= d->failed_upto && dp_handle_has_failed(d->dp, handle);
}

void datapath_forget_failed(struct datapath *d, uint64_t handle)
{
	for (uint32_t i = d->failed_count; i-- > 0;)
		if (d->failed[i].handle == handle)
			d->failed[i] = d->failed[--d->failed_count];
}

void datapath_write_fails(struct datapath *d, uint64_t unique, uint64_t handle, uint32_t tid, int err)
{
	pthread_mutex_lock(&d->lock);
	datapath_failed(d, handle, tid);
	pthread_mutex_unlock(&d->lock);
	datapath_answer(d, unique, err, NULL, 0);
}

static void answer_write(struct io *io)
{
	struct fuse_write_out out = {.size = (uint32_t)io->op.result};

	if (io->op.result < 0)
		datapath_write_fails(io->t->d, io->unique, io->op.handle, io->tid, io->op.result);
	else
		datapath_answer(io->t->d, io->unique, 0, &out, sizeof(out));
}

static void answer(struct io *io)
{
	void (*done)(void *arg, int err) = io->done;
	void *arg = io->arg;
	int result = io->op.result;

	if (io->given_up) {
		datapath_io_put(io);
		return;
	}
	if (done) {
		datapath_io_put(io);
		done(arg, result < 0 ? result : 0);
		return;
	}
	if (io->op.write)
		answer_write(io);
	else
		answer_read(io);
	datapath_io_put(io);
}

/* ------------------------------------------------------------------ what a verdict wants done */

void datapath_wake(struct dthread *t)
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
	datapath_wake(io->t);
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

static void post_op_events(struct io *io)
{
	struct datapath *d = io->t->d;
	struct event ev;

	while (dp_op_event(&io->op, &ev)) {
		ev.tag = datapath_io_tag(io);
		d->cfg.post(d->cfg.ctx, &ev);
	}
}

static void post_block(struct io *io)
{
	struct datapath *d = io->t->d;
	const struct dp_op *op = &io->op;
	struct event ev = {.type = EV_BLOCK, .tag = datapath_io_tag(io)};

	ev.block.write = op->io_write;
	ev.block.fua = op->io_fua;
	ev.block.unknown = op->io_unknown && op->io_write;
	ev.block.conflict = op->io_unknown && op->io_conflict;
	ev.block.told = op->io_told;
	ev.block.refused = op->io_refused;
	ev.block.rights = op->rights;
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
	struct event ev = {.type = EV_REQUEST, .tag = datapath_io_tag(io), .rq = &io->rq};

	memset(&io->rq, 0, sizeof(io->rq));
	io->rq.op = what;
	io->rq.ino = op->ino;
	io->rq.time_ns = now().wall_ns;
	if (what == FS_APPEND) {
		io->rq.len = op->len;
		io->rq.lock.handle = op->handle;
	} else if (what == FS_SETATTR) {
		io->rq.valid = io->killing;
	} else if (what == FS_LAYOUT_GET) {
		io->rq.off = op->need_off;
		io->rq.len = op->need_len;
		io->rq.flags = (op->need_near ? FS_LAYOUT_NEAR : FS_LAYOUT_AROUND) |
			(op->need_write ? FS_LAYOUT_WRITE : 0) | (op->need_edge ? FS_LAYOUT_EDGE : 0);
	}
	d->cfg.post(d->cfg.ctx, &ev);
}

/*
 * Appends of a file ask for their places in the order in which the kernel has sent them, whichever threads have read them, and however
 * long each has looked first at what a write takes away: a large asynchronous write is sent in pieces, all at once. An older one whose
 * place is of rights that have ended may have to ask once more: it is waited for until it has, or has ended.
 */
static bool has_asked(const struct io *io)
{
	return io->asked && !io->in_queue && dp_place_stands(io->t->d->dp, &io->op);
}

static bool is_its_turn(const struct io *io)
{
	/* Alone on the volume the kernel has placed it. */
	if (list_empty(&io->turn))
		return true;
	list_for_each_entry (o, &io->t->d->turns, struct io, turn) {
		if (o == io)
			return true;
		if (o->op.ino == io->op.ino && !has_asked(o))
			return false;
	}
	return true;
}

static bool has_older(const struct io *io)
{
	list_for_each_entry (o, &io->t->d->turns, struct io, turn) {
		if (o == io)
			return false;
		if (o->op.ino == io->op.ino)
			return true;
	}
	return false;
}

static void post_append(struct io *io)
{
	io->in_queue = false;
	io->asked = true;
	io->behind = !list_empty(&io->turn) && has_older(io);
	dp_place_asked(io->t->d->dp, &io->op);
	post_request(io, FS_APPEND);
}

/* Locked. One has asked for its place, or never will: those behind that wait for that. */
static void next_turns(struct datapath *d, uint64_t ino)
{
	list_for_each_entry (o, &d->turns, struct io, turn) {
		if (o->op.ino != ino)
			continue;
		if (o->in_queue)
			post_append(o);
		else if (!has_asked(o))
			return;
	}
}

static void turn_ends(struct io *io)
{
	if (list_empty(&io->turn))
		return;
	list_del(&io->turn);
	io->in_queue = false;
	next_turns(io->t->d, io->op.ino);
}

static void ask_place(struct io *io)
{
	io->in_queue = !is_its_turn(io);
	if (io->in_queue)
		return;
	post_append(io);
	next_turns(io->t->d, io->op.ino);
}

static void post_commit(struct io *io)
{
	struct datapath *d = io->t->d;
	const struct dp_op *op = &io->op;
	struct event ev = {.type = EV_COMMIT, .tag = datapath_io_tag(io)};

	ev.range.ino = op->range.ino;
	ev.range.off = op->range.off;
	ev.range.len = op->range.len;
	ev.range.size = op->range.size;
	ev.range.mtime_ns = op->range.mtime_ns;
	ev.range.rights = op->rights;
	d->cfg.post(d->cfg.ctx, &ev);
}

/*
 * Locked. Tells the core, in the order that dp.h asks for. Returns DP_SUBMIT or DP_DONE for the caller
 * to do when it has unlocked; DP_WAIT: nothing.
 */
static enum dp_verdict tell(struct io *io, enum dp_verdict v, struct dp_now tn)
{
	struct datapath *d = io->t->d;

	/* Without a buffer it cannot go on: the op ends as if the medium had failed; or waits for one, before the core has it. */
	if ((v == DP_SUBMIT || v == DP_HANDOVER) && !image_ready(io))
		v = v == DP_SUBMIT ? dp_done(d->dp, &io->op, LUN_MEDIUM, tn)
				   : dp_block_done(d->dp, &io->op, -ENOMEM, tn);
	post_op_events(io);
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
		ask_place(io);
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

void datapath_io_begin(struct io *io)
{
	struct datapath *d = io->t->d;
	enum dp_verdict v;
	struct dp_now tn = now();

	pthread_mutex_lock(&d->lock);
	v = tell(io, dp_begin(d->dp, &io->op, tn), tn);
	pthread_mutex_unlock(&d->lock);
	act(io, v);
}

/* That there is nothing to take away is known, and no other node has set it since (dp_attr_holds()). */
static bool is_plain(struct datapath *d, const struct io *io)
{
	const struct fuse_ops *f = d->cfg.fuse;

	return (d->cfg.standalone || dp_attr_holds(d->dp, io->op.ino)) &&
	       fuse_ops_is_plain(f, io->op.ino, PLAIN_CAPS) &&
	       (!io->writer.unprivileged || fuse_ops_is_plain(f, io->op.ino, PLAIN_MODE));
}

void datapath_io_begin_write(struct io *io)
{
	struct datapath *d = io->t->d;
	struct dp_now tn = now();
	enum dp_verdict v = DP_WAIT;

	pthread_mutex_lock(&d->lock);
	if (io->op.append && !d->cfg.standalone)
		list_add_tail(&io->turn, &d->turns);
	if (is_plain(d, io)) {
		v = tell(io, dp_begin(d->dp, &io->op, tn), tn);
	} else {
		io->looking = true;
		post_request(io, FS_GETATTR);
	}
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
		/* Asked for before the rights ended, and answered behind that: an older one asks, or has asked, once more, and is before it. */
		if (!io->news_err && io->behind && !dp_place_stands(dp, op))
			dp_place_void(op);
		return dp_append_done(dp, op, io->news_err, io->news_off, tn);
	case NEWS_SEEN:
		io->looking = false;
		if (!io->news_err && !io->killing)
			return dp_begin(dp, op, tn);
		if (!io->news_err) {
			post_request(io, FS_SETATTR);
			return DP_WAIT;
		}
		op->result = io->news_err;
		break;
	case NEWS_KILLED:
		io->killing = 0;
		if (!io->news_err) {
			/* The kernel does not know that the mode has changed. */
			fuse_ops_inval_attr(io->t->d->cfg.fuse, io->nodeid);
			return dp_begin(dp, op, tn);
		}
		op->result = io->news_err;
		break;
	case NEWS_ENDED:
		break;
	}
	return DP_DONE;
}

void datapath_io_run(struct dthread *t)
{
	struct datapath *d = t->d;
	struct dp_now tn = now();
	enum dp_verdict v;
	struct io *io;

	pthread_mutex_lock(&d->lock);
	return_ready(d, tn.now_ns);
	post_events(d);
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
	dp_layout_version(d->dp, e->layout.ino, e->layout.version);
	dp_layout_shown(d->dp, e->layout.ino, e->layout.shown);
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

static void answered(struct datapath *d, struct io *io, int err)
{
	if (!err)
		dp_answered(d->dp, &io->op);
	news(io, NEWS_LAYOUT, err, 0);
}

static void reply(struct datapath *d, const struct effect *e)
{
	struct io *io = io_of(d, e->tag);

	if (!io)
		return;
	if (!e->reply->err && (io->looking || io->killing || io->op.state == DP_ST_ASK))
		fuse_ops_saw(d->cfg.fuse, &e->reply->attr);
	if (io->looking) {
		io->killing = e->reply->err ? 0 : fuse_ops_kills(&e->reply->attr, &io->writer);
		news(io, NEWS_SEEN, e->reply->err, 0);
	} else if (io->killing) {
		news(io, NEWS_KILLED, e->reply->err, 0);
	} else if (io->op.state == DP_ST_ASK) {
		if (!e->reply->err)
			dp_attr_seen(d->dp, io->op.ino);
		answered(d, io, e->reply->err);
	} else if (io->op.state == DP_ST_APPEND) {
		dp_place_version(&io->op, e->reply->attr.version);
		news(io, NEWS_APPEND, e->reply->err, e->reply->off);
	}
}

/* What is no request of the kernel's (the ends of a hole), and whoever asked for it is told. */
struct given_up {
	void (*done)(void *arg, int err);
	void *arg;
	int err;
};

static void give_up(struct datapath *d, struct io *io, int err, struct given_up *own)
{
	if (io->op.state != DP_ST_CORE || io->given_up)
		return;
	dp_given_up(d->dp, &io->op);
	io->given_up = true;
	turn_ends(io);
	if (io->done) {
		*own = (struct given_up){io->done, io->arg, err};
		io->done = NULL;
		return;
	}
	if (io->op.write)
		datapath_failed(d, io->op.handle, io->tid);
	datapath_answer(d, io->unique, err, NULL, 0);
	io->unique = DATAPATH_OWN;
}

static void block_ends(struct datapath *d, const struct effect *e, struct given_up *own)
{
	struct io *io = io_of(d, e->tag);

	if (!io)
		return;
	if (e->type == FX_BLOCK_DONE && e->block.lands)
		give_up(d, io, e->block.err, own);
	else if (e->type == FX_BLOCK_RETRY && io->op.state == DP_ST_CORE)
		news(io, NEWS_RETRY, 0, 0);
	else if (e->type == FX_BLOCK_DONE &&
		 (io->op.state == DP_ST_CORE || io->op.state == DP_ST_COMMIT))
		news(io, NEWS_BLOCK, e->block.err, 0);
}

/* Locked. */
static void times(struct datapath *d, const struct effect *e)
{
	struct event ev;

	if (dp_take_touched(d->dp, e->layout.ino, &ev))
		d->cfg.post(d->cfg.ctx, &ev);
	ev = (struct event){.type = EV_TIMES, .tag = e->tag, .ino = e->layout.ino};
	d->cfg.post(d->cfg.ctx, &ev);
}

bool datapath_apply(struct datapath *d, const struct effect *e)
{
	struct given_up own = {NULL, NULL, 0};
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
		block_ends(d, e, &own);
		break;
	case FX_BLOCK_DATA:
		block_data(d, e);
		break;
	case FX_LAYOUT_PUT:
		put_layout(d, e);
		break;
	case FX_LAYOUT_SIZE:
		dp_layout_size(d->dp, e->layout.ino, e->layout.size);
		dp_layout_shown(d->dp, e->layout.ino, e->layout.shown);
		break;
	case FX_LAYOUT_CLOSE:
		dp_layout_close(d->dp, e->layout.ino);
		break;
	case FX_LAYOUT_DROP:
		if (e->layout.ino)
			dp_layout_drop(d->dp, e->layout.ino);
		else
			dp_layout_drop_all(d->dp);
		break;
	case FX_TIMES:
		times(d, e);
		break;
	case FX_LOCKS_LOST:
		dp_handles_lost(d->dp, e->lost.handles, e->lost.count);
		break;
	case FX_GATE:
		dp_rights(d->dp, e->gate.rights);
		dp_gate(d->dp, e->gate.gate, e->gate.lease_ns);
		dp_pause(d->dp, e->gate.paused);
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
	if (own.done)
		own.done(own.arg, own.err);
	return mine;
}

bool datapath_io_interrupt(struct datapath *d, uint64_t unique)
{
	struct io *io = NULL;
	uint64_t tag = 0;
	uint32_t tid = 0;

	pthread_mutex_lock(&d->lock);
	for (uint32_t i = 0; i < d->io_count && !io; i++) {
		if (d->ios[i]->unique == unique && unique != DATAPATH_OWN)
			io = d->ios[i];
	}
	if (io) {
		tag = datapath_io_tag(io);
		tid = io->tid;
	} else if (d->threads > 1) {
		d->early[d->early_at++ % EARLY_MAX] = unique;
	}
	pthread_mutex_unlock(&d->lock);
	if (io && d->cfg.signalled)
		d->cfg.signalled(d->cfg.ctx, tid, tag);
	else if (io)
		datapath_cancel(d, tag);
	return io != NULL;
}

bool datapath_waits(struct datapath *d, uint64_t tag)
{
	bool waits;

	pthread_mutex_lock(&d->lock);
	waits = io_of(d, tag) != NULL;
	pthread_mutex_unlock(&d->lock);
	return waits;
}

void datapath_cancel(struct datapath *d, uint64_t tag)
{
	struct event ev = {.type = EV_CANCEL, .tag = tag};
	struct io *io;

	pthread_mutex_lock(&d->lock);
	io = io_of(d, tag);
	if (io && dp_cancel(d->dp, &io->op)) {
		list_del(&io->link); /* it may have been on its way back as ready */
		post_op_events(io);
		news(io, NEWS_ENDED, 0, 0);
		post_events(d);
		return_ready(d, bdev_now_ns());
	} else if (io && list_empty(&io->link)) {
		switch (io->op.state) {
		case DP_ST_NEW:
			if (io->looking || io->killing)
				d->cfg.post(d->cfg.ctx, &ev);
			break;
		case DP_ST_APPEND:
			if (!io->in_queue) {
				d->cfg.post(d->cfg.ctx, &ev);
				break;
			}
			/* The core knows nothing of it. */
			turn_ends(io);
			news(io, NEWS_APPEND, -EINTR, 0);
			break;
		case DP_ST_ASK:
		case DP_ST_CORE:
		case DP_ST_COMMIT:
			d->cfg.post(d->cfg.ctx, &ev);
			break;
		default:
			break; /* ends by itself, soon, or comes to a state that can be left */
		}
	}
	pthread_mutex_unlock(&d->lock);
}
