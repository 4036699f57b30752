/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fakecore.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "csvfs/base/assert.h"
#include "csvfs/dbuf.h"
#include "csvfs/fuse_ops.h"

struct node_ev {
	struct event ev;
	struct node_ev *next;
};

struct held {
	struct event ev;
	struct held *next;
};

#define EVICTED_MAX 8u

struct fakecore {
	struct fakecore_config cfg;
	struct datapath *d;
	struct fuse_ops *fuse;
	pthread_t id;
	pthread_mutex_t lock;
	pthread_cond_t more, changed;
	struct node_ev *first, **last;
	bool quit, unmounted, path_up, path_closed, path_failed;
	uint64_t counts[64];

	/* the core thread's */
	int image_fd;
	uint64_t clusters;
	uint8_t *state;
	uint64_t size;
	int64_t mtime_ns;
	uint32_t mode;
	bool gate_open, draining, gate_drained;
	uint32_t rights;	/* how often they have ended */
	uint64_t version;	/* of the layout */
	struct event asked[EVICTED_MAX];
	uint32_t asked_count, places;
	struct event late_place; /* its type is 0: none */
	struct fs_reply later; /* its answer, which is said behind so many more: */
	uint32_t later_left;
	struct held *held;	/* blocks that wait for the gate to open or the path to be drained */
	struct event late;	/* was given up, and has not landed */
	uint64_t lands_ns;	/* 0: not yet given up; NEVER: it has landed */
	uint64_t setattr_tag;	/* waits for the file to be drained */
	uint64_t new_size;
	bool truncating;
	uint64_t next_flap_ns, next_recall_ns, next_reopen_ns;
	bool reopening;
	struct effects fx;
};

static uint64_t now_ns(void)
{
	return bdev_now_ns();
}

static void post(void *ctx, const struct event *ev)
{
	struct fakecore *c = ctx;
	struct node_ev *n = malloc(sizeof(*n));

	n->ev = *ev;
	n->next = NULL;
	pthread_mutex_lock(&c->lock);
	*c->last = n;
	c->last = &n->next;
	c->counts[ev->type]++;
	pthread_cond_signal(&c->more);
	pthread_mutex_unlock(&c->lock);
}

static void on_path(void *ctx, enum path_state st, const char *text)
{
	struct event ev = {.type = EV_PATH};

	ev.path.state = st;
	snprintf(ev.path.text, sizeof(ev.path.text), "%s", text);
	post(ctx, &ev);
}

static void on_unmount(void *ctx)
{
	struct event ev = {.type = EV_STOP};

	post(ctx, &ev);
}

/* ------------------------------------------------------------------ effects */

static void apply(struct fakecore *c, struct effect *e)
{
	if (!datapath_apply(c->d, e))
		csv_assert(!"an effect of the data path");
}

static void set_gate(struct fakecore *c, bool open)
{
	struct effect e = {.type = FX_GATE};

	e.gate.rights = c->rights;
	e.gate.gate = open ? GATE_DIRECT : GATE_CLOSED;
	e.gate.lease_ns = now_ns() + 3600 * NS_PER_SEC;
	c->gate_open = open;
	c->gate_drained = false;
	apply(c, &e);
}

static void reply(struct fakecore *c, uint64_t tag, struct fs_reply *rp)
{
	struct effect e = {.type = FX_REPLY, .tag = tag, .reply = rp};

	if (tag & DATAPATH_TAG)
		apply(c, &e);
	else
		fuse_ops_reply(c->fuse, tag, rp);
}

static void block_done(struct fakecore *c, uint64_t tag, int err)
{
	struct effect e = {.type = FX_BLOCK_DONE, .tag = tag};

	e.block.err = err;
	apply(c, &e);
}

static void layout_fx(struct fakecore *c, enum fx_type type)
{
	struct effect e = {.type = type};

	e.layout.ino = FAKE_FILE;
	e.layout.size = e.layout.shown = c->size;
	e.layout.version = c->version;
	apply(c, &e);
}

/* ------------------------------------------------------------------ requests */

static void attr_of(struct fakecore *c, uint64_t ino, struct fs_attr *a)
{
	*a = (struct fs_attr){.ino = ino, .generation = 1, .nlink = ino == FAKE_ROOT ? 2 : 1};
	a->mode = ino == FAKE_ROOT ? S_IFDIR | 0777 : c->mode;
	a->size = ino == FAKE_ROOT ? 4096 : c->size;
	a->mtime_ns = c->mtime_ns;
	a->version = c->version;
}

static void layout_get(struct fakecore *c, const struct event *ev)
{
	const struct fs_request *rq = ev->rq;
	static struct fs_extent x[EXTENTS_PER_REPLY];
	uint64_t cs = c->cfg.cluster_bytes, first = rq->off / cs, last = (rq->off + rq->len - 1) / cs;
	struct effect e = {.type = FX_LAYOUT_PUT};
	struct fs_reply rp = {0};
	uint32_t n = 0;

	e.layout.version = c->version;
	if (rq->flags & FS_LAYOUT_WRITE)
		last += 3; /* ahead */
	if (last >= c->clusters)
		last = c->clusters - 1;
	if (first > last) {
		rp.err = rq->flags & FS_LAYOUT_WRITE ? -ENOSPC : 0;
		e.layout.ino = FAKE_FILE;
		e.layout.size = e.layout.shown = c->size;
		apply(c, &e);
		reply(c, ev->tag, &rp);
		return;
	}
	for (uint64_t i = first; i <= last && n < EXTENTS_PER_REPLY; i++) {
		if ((rq->flags & FS_LAYOUT_WRITE) && c->state[i] == EXT_HOLE)
			c->state[i] = EXT_UNWRITTEN;
		x[n++] = (struct fs_extent){.off = i * cs, .len = cs,
			.lun_off = c->state[i] == EXT_HOLE ? 0 : i * cs, .state = c->state[i],
			.edge = (rq->flags & FS_LAYOUT_EDGE) && c->state[i] != EXT_HOLE};
	}
	e.layout.ino = FAKE_FILE;
	e.layout.off = first * cs;
	e.layout.len = n * cs;
	e.layout.size = e.layout.shown = c->size;
	e.layout.extents = x;
	e.layout.extent_count = n;
	apply(c, &e);
	reply(c, ev->tag, &rp);
}

static void append(struct fakecore *c, const struct event *ev)
{
	struct fs_reply rp = {0};

	if (c->cfg.places_late && !c->rights && ++c->places > c->cfg.evicts) {
		c->late_place = *ev;
		return;
	}
	if (c->later_left && !--c->later_left)
		reply(c, c->late_place.tag, &c->later);
	attr_of(c, FAKE_FILE, &rp.attr);
	rp.off = c->size;
	__atomic_store_n(&c->size, c->size + ev->rq->len, __ATOMIC_RELAXED);
	if (ev == &c->late_place && c->cfg.places_later) {
		c->later = rp;
		c->later_left = c->cfg.evicts;
		return;
	}
	reply(c, ev->tag, &rp);
}

static void evict(struct fakecore *c)
{
	c->rights++;
	c->version++;
	c->size = 0;
	memset(c->state, EXT_HOLE, c->clusters);
	set_gate(c, c->gate_open);
	layout_fx(c, FX_LAYOUT_DROP);
	if (c->late_place.type)
		append(c, &c->late_place);
	while (c->asked_count)
		layout_get(c, &c->asked[--c->asked_count]);
}

/* True: not now. */
static bool evicts(struct fakecore *c, const struct event *ev)
{
	if (c->rights || c->asked_count == c->cfg.evicts)
		return false;
	c->asked[c->asked_count++] = *ev;
	if (c->asked_count == c->cfg.evicts)
		evict(c);
	return true;
}

static void begin_setattr(struct fakecore *c, const struct event *ev)
{
	struct fs_reply rp = {0};

	if (ev->rq->valid & FS_SET_KILL_SUID)
		c->mode &= ~(uint32_t)S_ISUID;
	if ((ev->rq->valid & FS_SET_KILL_SGID) || (c->mode & S_IXGRP))
		c->mode &= ~(uint32_t)S_ISGID;
	if (ev->rq->valid & FS_SET_MTIME)
		c->mtime_ns = ev->rq->attr.mtime_ns;
	if (ev->rq->valid & FS_SET_MODE)
		c->mode = S_IFREG | (ev->rq->attr.mode & 07777);
	if (ev->rq->valid & FS_SET_SIZE) {
		c->setattr_tag = ev->tag;
		c->new_size = ev->rq->attr.size;
		c->truncating = true;
		if (!c->draining)
			layout_fx(c, FX_LAYOUT_CLOSE);
		c->draining = true;
		return;
	}
	attr_of(c, FAKE_FILE, &rp.attr);
	reply(c, ev->tag, &rp);
}

/* As the coordinator does: the tail of the cluster is zeroed, clusters behind it are freed. */
static void truncate_now(struct fakecore *c)
{
	uint64_t cs = c->cfg.cluster_bytes, keep = (c->new_size + cs - 1) / cs;
	static uint8_t zeros[CLUSTER_MAX];
	struct fs_reply rp = {0};

	if (c->new_size < c->size) {
		if (c->new_size % cs && c->state[keep - 1] == EXT_WRITTEN)
			csv_assert(pwrite(c->image_fd, zeros, keep * cs - c->new_size,
					   (off_t)c->new_size) > 0);
		for (uint64_t i = keep; i < c->clusters; i++)
			c->state[i] = EXT_HOLE;
	}
	c->size = c->new_size;
	c->truncating = false;
	attr_of(c, FAKE_FILE, &rp.attr);
	reply(c, c->setattr_tag, &rp);
}

static void readdir_reply(struct fakecore *c, const struct event *ev)
{
	static const char *const names[] = {".", "..", "file"};
	static const uint64_t inos[] = {FAKE_ROOT, FAKE_ROOT, FAKE_FILE};
	_Alignas(8) uint8_t out[256] = {0};
	struct fs_reply rp = {.data = out};

	for (uint64_t i = ev->rq->off; i < 3; i++) {
		struct fs_dirent d = {.ino = inos[i], .cookie = i + 1,
			.type = i < 2 ? S_IFDIR >> 12 : S_IFREG >> 12,
			.namelen = (uint32_t)strlen(names[i])};

		if (rp.data_len + FS_DIRENT_SIZE(d.namelen) > ev->rq->len)
			break;
		memcpy(out + rp.data_len, &d, sizeof(d));
		memcpy(out + rp.data_len + sizeof(d), names[i], d.namelen);
		rp.data_len += (uint32_t)FS_DIRENT_SIZE(d.namelen);
	}
	reply(c, ev->tag, &rp);
}

static void request(struct fakecore *c, const struct event *ev)
{
	const struct fs_request *rq = ev->rq;
	struct fs_reply rp = {0};

	switch (rq->op) {
	case FS_LAYOUT_GET:
		if (!evicts(c, ev))
			layout_get(c, ev);
		return;
	case FS_SETATTR:
		begin_setattr(c, ev);
		return;
	case FS_READDIR:
		readdir_reply(c, ev);
		return;
	case FS_LOOKUP:
		if (strcmp(rq->name, "file"))
			rp.err = -ENOENT;
		attr_of(c, FAKE_FILE, &rp.attr);
		break;
	case FS_GETATTR:
	case FS_OPEN:
		attr_of(c, rq->ino, &rp.attr);
		break;
	case FS_APPEND:
		append(c, ev);
		return;
	case FS_STATFS:
		rp.statfs = (struct fs_statfs){.blocks = 1000, .bfree = 10, .bavail = 5, .bsize = 4096,
			.namelen = 255};
		break;
	case FS_CLOSE:
	case FS_FSYNC:
	case FS_FALLOCATE:
		break;
	case FS_GETXATTR:
	case FS_LISTXATTR:
		rp.err = -ENODATA;
		break;
	default:
		rp.err = -EOPNOTSUPP;
		break;
	}
	reply(c, ev->tag, &rp);
}

/* ------------------------------------------------------------------ block I/O handed over */

static void do_block(struct fakecore *c, const struct event *ev)
{
	struct dbuf *b = dbuf_of(ev->block.data);
	int err = 0;

	for (uint32_t i = 0; i < ev->block.seg_count; i++) {
		const struct seg *s = &ev->block.segs[i];
		struct dbuf *part;
		struct effect e = {.type = FX_BLOCK_DATA, .tag = ev->tag};

		if (ev->block.write) {
			if (pwrite(c->image_fd, b->bytes + s->buf_off, s->len, (off_t)s->lun_off) !=
				(ssize_t)s->len)
				err = -EIO;
			continue;
		}
		part = dbuf_get(s->len);
		part->len = s->len;
		if (pread(c->image_fd, part->bytes, s->len, (off_t)s->lun_off) != (ssize_t)s->len)
			err = -EIO;
		e.blockdata.data = dbuf_handle(part);
		e.blockdata.buf_off = s->buf_off;
		e.blockdata.len = s->len;
		apply(c, &e);
		e = (struct effect){.type = FX_DATA_FREE};
		e.data = dbuf_handle(part);
		apply(c, &e);
	}
	block_done(c, ev->tag, err);
}

static bool give_up(struct fakecore *c, const struct event *ev)
{
	struct effect e = {.type = FX_BLOCK_DONE, .tag = ev->tag, .block = {-EIO, true}};

	if (!c->cfg.lands_ms || c->lands_ns || !ev->block.write)
		return false;
	c->late = *ev;
	c->lands_ns = now_ns() + c->cfg.lands_ms * NS_PER_MS;
	apply(c, &e);
	return true;
}

static void hold(struct fakecore *c, const struct event *ev)
{
	struct held *h;

	if (give_up(c, ev))
		return;
	h = malloc(sizeof(*h));
	h->ev = *ev;
	h->next = c->held;
	c->held = h;
}

/* Direct again: those that wait try it themselves. Closed and drained: they go another way. */
static void release_held(struct fakecore *c)
{
	struct held *h;

	if (!c->gate_open && !c->gate_drained)
		return;
	while ((h = c->held)) {
		struct effect e = {.type = FX_BLOCK_RETRY, .tag = h->ev.tag};

		c->held = h->next;
		if (c->gate_open)
			apply(c, &e);
		else
			do_block(c, &h->ev);
		free(h);
	}
}

/* ------------------------------------------------------------------ events */

static void written(struct fakecore *c, const struct event *ev)
{
	uint64_t cs = c->cfg.cluster_bytes;

	csv_assert(ev->range.off % cs == 0 && ev->range.len % cs == 0);
	for (uint64_t i = ev->range.off / cs; i < (ev->range.off + ev->range.len) / cs; i++) {
		csv_assert(c->state[i] != EXT_HOLE);
		c->state[i] = EXT_WRITTEN;
	}
	c->mtime_ns = ev->range.mtime_ns;
}

static void commit(struct fakecore *c, const struct event *ev)
{
	if (ev->range.size > c->size)
		__atomic_store_n(&c->size, ev->range.size, __ATOMIC_RELAXED);
	c->mtime_ns = ev->range.mtime_ns;
	layout_fx(c, FX_LAYOUT_SIZE);
	block_done(c, ev->tag, 0);
}

static void drained(struct fakecore *c, uint64_t ino)
{
	if (!ino) {
		c->gate_drained = true;
		release_held(c);
		return;
	}
	csv_assert(c->draining);
	c->draining = false;
	if (c->truncating)
		truncate_now(c);
	layout_fx(c, FX_LAYOUT_DROP);
}

static void path(struct fakecore *c, const struct event *ev)
{
	pthread_mutex_lock(&c->lock);
	c->path_up = ev->path.state == PATH_UP;
	c->path_failed |= ev->path.state == PATH_FAILED;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	if (ev->path.state == PATH_CLOSED)
		datapath_path_open(c->d);
	else if (ev->path.state == PATH_UP && !c->cfg.closed_gate) {
		set_gate(c, true);
		release_held(c);
		c->reopening = false;
	} else if (ev->path.state == PATH_FAILED) {
		fprintf(stderr, "fakecore: path failed: %s\n", ev->path.text);
	} else if (ev->path.state == PATH_LOST && !c->reopening) {
		c->reopening = true;
		set_gate(c, false);
		datapath_path_close(c->d);
	}
}

static void step(struct fakecore *c, const struct event *ev)
{
	switch (ev->type) {
	case EV_REQUEST:
		request(c, ev);
		break;
	case EV_BLOCK:
		hold(c, ev);
		release_held(c);
		break;
	case EV_WRITTEN:
		written(c, ev);
		break;
	case EV_TOUCHED:
		c->mtime_ns = ev->range.mtime_ns;
		break;
	case EV_COMMIT:
		commit(c, ev);
		break;
	case EV_DRAINED:
		drained(c, ev->ino);
		break;
	case EV_PATH:
		path(c, ev);
		break;
	case EV_STOP:
		pthread_mutex_lock(&c->lock);
		c->unmounted = true;
		pthread_cond_broadcast(&c->changed);
		pthread_mutex_unlock(&c->lock);
		break;
	default:
		break;
	}
}

static void disturb(struct fakecore *c)
{
	uint64_t t = now_ns();

	if (c->lands_ns && t >= c->lands_ns) {
		c->lands_ns = NEVER;
		do_block(c, &c->late);
	}
	if (c->cfg.flap_ms && t >= c->next_flap_ns && !c->reopening) {
		c->next_flap_ns = t + c->cfg.flap_ms * NS_PER_MS;
		set_gate(c, !c->gate_open);
		release_held(c);
	}
	if (c->cfg.recall_ms && t >= c->next_recall_ns && !c->draining) {
		c->next_recall_ns = t + c->cfg.recall_ms * NS_PER_MS;
		c->draining = true;
		layout_fx(c, FX_LAYOUT_CLOSE);
	}
	if (c->cfg.reopen_ms && t >= c->next_reopen_ns && !c->reopening) {
		c->next_reopen_ns = t + c->cfg.reopen_ms * NS_PER_MS;
		c->reopening = true;
		set_gate(c, false);
		datapath_path_close(c->d);
	}
}

static void *core_main(void *arg)
{
	struct fakecore *c = arg;

	for (;;) {
		struct node_ev *n = NULL;
		struct timespec ts;

		pthread_mutex_lock(&c->lock);
		while (!c->quit && !c->first) {
			clock_gettime(CLOCK_REALTIME, &ts);
			ts.tv_nsec += 5000000;
			if (ts.tv_nsec >= 1000000000) {
				ts.tv_nsec -= 1000000000;
				ts.tv_sec++;
			}
			if (pthread_cond_timedwait(&c->more, &c->lock, &ts) == ETIMEDOUT)
				break;
		}
		n = c->first;
		if (n) {
			c->first = n->next;
			if (!c->first)
				c->last = &c->first;
		}
		if (!n && c->quit) {
			pthread_mutex_unlock(&c->lock);
			return NULL;
		}
		pthread_mutex_unlock(&c->lock);
		if (n)
			step(c, &n->ev);
		free(n);
		disturb(c);
	}
}

/* ------------------------------------------------------------------ life */

/* Every signal kills; requests that are none of the data path's are answered at once. */
static void signalled(void *ctx, uint32_t tid, uint64_t tag)
{
	struct fakecore *c = ctx;

	(void)tid;
	if (tag & DATAPATH_TAG)
		datapath_cancel(c->d, tag);
}

struct fakecore *fakecore_start(const struct fakecore_config *cfg)
{
	struct fakecore *c = calloc(1, sizeof(*c));
	struct fuse_ops_config fc = {.mountpoint = cfg->mountpoint, .fsname = "fake",
		.root_ino = FAKE_ROOT, .cache = cfg->standalone, .post = post, .signalled = signalled, .ctx = c};
	struct datapath_config dc = {.threads = cfg->threads, .cluster_bytes = cfg->cluster_bytes,
		.standalone = cfg->standalone, .answer_ns = cfg->answer_ms * NS_PER_MS, .post = post, .on_path = on_path,
		.on_unmount = on_unmount, .ctx = c};
	char text[256] = "";

	c->cfg = *cfg;
	c->last = &c->first;
	c->mode = S_IFREG | 0666;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->more, NULL);
	pthread_cond_init(&c->changed, NULL);
	c->image_fd = cfg->image ? open(cfg->image, O_RDWR) : -1;
	c->clusters = cfg->file_bytes / cfg->cluster_bytes;
	c->state = calloc(1, c->clusters);
	if (cfg->written) {
		memset(c->state, EXT_WRITTEN, c->clusters);
		c->size = cfg->file_bytes;
	}
	c->gate_drained = true;
	if (fuse_ops_mount(&fc, &c->fuse, text, sizeof(text))) {
		fprintf(stderr, "fakecore: %s\n", text);
		return NULL;
	}
	dc.fuse = c->fuse;
	dc.bdev.url = cfg->url;
	dc.bdev.node = 1;
	dc.bdev.fault = cfg->fault;
	csv_assert(!datapath_start(&dc, &c->d));
	csv_assert(!pthread_create(&c->id, NULL, core_main, c));
	datapath_path_open(c->d);
	pthread_mutex_lock(&c->lock);
	while (!c->path_up && !c->path_failed)
		pthread_cond_wait(&c->changed, &c->lock);
	pthread_mutex_unlock(&c->lock);
	return c;
}

void fakecore_wait(struct fakecore *c)
{
	pthread_mutex_lock(&c->lock);
	while (!c->unmounted)
		pthread_cond_wait(&c->changed, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

void fakecore_unmount(struct fakecore *c)
{
	fuse_ops_unmount(c->fuse);
}

/* The core thread ends before the data path: what was posted in between nobody takes. */
static void drop_late(struct fakecore *c)
{
	struct node_ev *n;

	while ((n = c->first)) {
		c->first = n->next;
		free(n);
	}
}

void fakecore_stop(struct fakecore *c)
{
	fuse_ops_unmount(c->fuse);
	fakecore_wait(c);
	pthread_mutex_lock(&c->lock);
	c->quit = true;
	pthread_cond_signal(&c->more);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->id, NULL);
	datapath_stop(c->d);
	drop_late(c);
	fuse_ops_destroy(c->fuse);
	if (c->image_fd >= 0)
		close(c->image_fd);
	free(c->state);
	free(c);
}

void fakecore_stats(struct fakecore *c, struct datapath_stats *st)
{
	datapath_get_stats(c->d, st);
}

bool fakecore_until_in_flight(struct fakecore *c, unsigned count)
{
	struct datapath_stats st;

	for (int i = 0; i < 2000; i++) {
		fakecore_stats(c, &st);
		if (st.in_flight == count)
			return true;
		usleep(5000);
	}
	return false;
}

uint64_t fakecore_size(struct fakecore *c)
{
	return __atomic_load_n(&c->size, __ATOMIC_RELAXED);
}

void fakecore_set_size(struct fakecore *c, uint64_t size)
{
	__atomic_store_n(&c->size, size, __ATOMIC_RELAXED);
	layout_fx(c, FX_LAYOUT_DROP);
}

void fakecore_lose_locks(struct fakecore *c, uint64_t handle)
{
	struct effect e = {.type = FX_LOCKS_LOST};

	e.lost.count = 1;
	e.lost.handles = &handle;
	apply(c, &e);
}

uint64_t fakecore_count(struct fakecore *c, enum ev_type type)
{
	uint64_t n;

	pthread_mutex_lock(&c->lock);
	n = c->counts[type];
	pthread_mutex_unlock(&c->lock);
	return n;
}
