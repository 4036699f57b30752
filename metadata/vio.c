/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vio.c - the engine's commands to the LUN: tags, bounded repeats, what a bad end means.
 *
 * Rules
 *  1. A buffer given to the driver is its own until the completion. So an abandoned engine is not
 *     opened again, nor destroyed, before every command of its earlier life has ended (vol_busy):
 *     this also keeps an old write of ours from landing over a new one.
 *  2. LUN_RETRY means "not executed": sent again, a bounded number of times. A read of unknown
 *     outcome is sent again too. So are a read and a write after LUN_FAILING; not a flush: that it succeeds then
 *     does not say that what it failed to write was written. A write or flush of unknown outcome is never repeated: it freezes
 *     the volume, since only fencing and replay can tell what happened.
 *     What was refused before says nothing of the place: only tries in a row that fail are counted as failing.
 *     Failing for good, a read is as after a medium error. A write freezes the volume as one that finds no space does: whoever
 *     opens it next tries again, and it goes on when there is space, or what is behind the LUN is well.
 *  3. Only a medium error is the fault of one block, and one request's error. All else is the way to
 *     the LUN: frozen, so that the request is asked again where there is one (invariant 12).
 */
#include "metadata/engine.h"

#define RETRY_FIRST_NS (10 * NS_PER_MS)
#define RETRY_LAST_NS (500 * NS_PER_MS)
#define FAILING_TRIES_MAX 12u /* some 4 s: less than a recall's time */
#define UNKNOWN_READS_MAX 20u
#define TAG_MASK 0xffffffffffffffull

int vio_create(struct vol *v)
{
	struct vios *q = &v->vio;

	list_init(&q->free);
	list_init(&q->queue);
	list_init(&q->later);
	q->all = mem_alloc(v->cfg.mem, VIO_MAX * sizeof(*q->all));
	if (!q->all)
		return -ENOMEM;
	for (uint32_t i = 0; i < VIO_MAX; i++)
		list_add_tail(&q->all[i].link, &q->free);
	return 0;
}

void vio_destroy(struct vol *v)
{
	mem_free(v->cfg.mem, v->vio.all, VIO_MAX * sizeof(*v->vio.all));
}

bool vio_room(const struct vol *v, uint32_t n)
{
	return v->vio.busy + n <= VIO_MAX;
}

static void vio_free(struct vol *v, struct vio *io)
{
	if (io->zombie)
		v->vio.zombies--;
	io->state = VIO_FREE;
	io->zombie = false;
	v->vio.busy--;
	list_del(&io->link);
	list_add_tail(&io->link, &v->vio.free);
}

struct vio *vio_send(struct vol *v, enum lun_op op, uint64_t blkno, uint64_t blocks, void *buf,
	void (*done)(struct vol *v, struct vio *io, enum lun_status st), void *arg)
{
	struct vios *q = &v->vio;
	struct vio *io;

	if (list_empty(&q->free))
		return NULL;
	io = list_first_entry(&q->free, struct vio, link);
	list_del(&io->link);
	/* The place in the table makes the lower bits of the tag, a counter the rest. */
	q->count++;
	io->tag = TAG(TAG_META, v->cfg.tag_seed + q->count * VIO_MAX + (uint64_t)(io - q->all));
	io->state = VIO_QUEUED;
	io->op = op;
	io->fua = false;
	io->tries = io->same = 0;
	io->said = LUN_OK;
	io->blkno = blkno;
	io->blocks = blocks;
	io->buf = buf;
	io->done = done;
	io->arg = arg;
	q->busy++;
	list_add_tail(&io->link, &q->queue);
	return io;
}

struct vio *vio_must(struct vol *v, enum lun_op op, uint64_t blkno, uint64_t blocks, void *buf,
	void (*done)(struct vol *v, struct vio *io, enum lun_status st))
{
	struct vio *io = vio_send(v, op, blkno, blocks, buf, done, NULL);

	csv_assert(io);
	return io;
}

void vio_pump(struct vol *v, struct effects *fx)
{
	struct vios *q = &v->vio;

	list_for_each_entry_safe(io, tmp, &q->later, struct vio, link)
	{
		if (io->at_ns > v->now_ns)
			continue;
		list_del(&io->link);
		list_add_tail(&io->link, &q->queue);
		io->state = VIO_QUEUED;
	}
	while (!list_empty(&q->queue) && effects_room(fx, 1, 0)) {
		struct vio *io = list_first_entry(&q->queue, struct vio, link);
		struct effect *e = effects_add(fx, FX_LUN, io->tag);

		list_del(&io->link);
		io->state = VIO_FLIGHT;
		e->lun.op = io->op;
		e->lun.fua = io->fua;
		e->lun.off = io->blkno * BLOCK_SIZE;
		e->lun.len = io->blocks * BLOCK_SIZE;
		e->lun.buf = io->buf;
	}
}

static bool may_repeat(const struct vol *v, const struct vio *io, enum lun_status st)
{
	if (io->tries >= VIO_TRIES_MAX)
		return false;
	/* Nobody waits for an opening who could be answered with EIO. */
	if (st == LUN_FAILING)
		return io->op != LUN_FLUSH && (v->state == VOL_OPENING || io->same < FAILING_TRIES_MAX);
	return st == LUN_RETRY || (st == LUN_UNKNOWN && io->op == LUN_READ && io->same < UNKNOWN_READS_MAX);
}

static void repeat_later(struct vol *v, struct vio *io)
{
	uint64_t wait_ns = RETRY_FIRST_NS << (io->same < 6 ? io->same : 6);

	io->tries++;
	io->same++;
	io->state = VIO_LATER;
	io->at_ns = v->now_ns + (wait_ns < RETRY_LAST_NS ? wait_ns : RETRY_LAST_NS);
	list_add_tail(&io->link, &v->vio.later);
}

/* Rule 2: what could not be written, nobody may believe to be written. */
static void failed(struct vol *v, const struct vio *io, enum lun_status st)
{
	const char *what = io->op == LUN_FLUSH ? "flush" : io->op == LUN_READ ? "read" : "write";
	unsigned long long blkno = io->blkno;

	switch (st) {
	case LUN_CONFLICT:
		vol_freeze(v, VOL_FENCED,
			"reservation conflict on a %s of block %llu: another node has fenced us", what,
			blkno);
		return;
	case LUN_MEDIUM:
		vol_freeze(v, VOL_DAMAGED, "medium error on a %s of block %llu", what, blkno);
		return;
	case LUN_NOSPACE:
		vol_freeze(v, VOL_NO_SPACE, "the LUN is out of space (thin provisioning)");
		return;
	case LUN_FAILING:
		vol_freeze(v, VOL_NO_SPACE, "a %s of block %llu keeps failing behind the target: its storage is full (thin "
			"provisioning), or broken", what, blkno);
		return;
	case LUN_PROTECTED:
		vol_freeze(v, VOL_PROTECTED, "the LUN is write protected");
		return;
	case LUN_RETRY:
		vol_freeze(v, VOL_LOST_PATH, "the LUN kept refusing a %s of block %llu", what,
			blkno);
		return;
	case LUN_UNKNOWN:
	case LUN_UNSUPPORTED:
	case LUN_OK:
		break;
	}
	vol_freeze(v, VOL_LOST_PATH, "outcome of a %s of block %llu is unknown", what, blkno);
}

void vio_done(struct vol *v, const struct event *ev)
{
	struct vios *q = &v->vio;
	uint64_t n = (ev->tag - v->cfg.tag_seed) & TAG_MASK;
	struct vio *io = &q->all[n % VIO_MAX];
	enum lun_status st = ev->lun.status;

	if (io->tag != ev->tag || io->state != VIO_FLIGHT)
		return;
	if (io->zombie || v->state == VOL_FROZEN) {
		vio_free(v, io);
		return;
	}
	if (st != io->said)
		io->same = 0;
	io->said = st;
	if (may_repeat(v, io, st)) {
		repeat_later(v, io);
		return;
	}
	/* A device that does not know SYNCHRONIZE CACHE has no cache to lose. */
	if ((io->op == LUN_FLUSH || io->op == LUN_CAPACITY) && st == LUN_UNSUPPORTED)
		st = LUN_OK;
	else if (io->op == LUN_CAPACITY && st == LUN_OK && ev->lun.lun_bytes > v->cfg.lun_bytes)
		v->cfg.lun_bytes = ev->lun.lun_bytes;
	/* The last of many tries, of which the others were refused, says nothing of the place. */
	if (st == LUN_FAILING && io->op != LUN_FLUSH && io->same < FAILING_TRIES_MAX)
		st = LUN_RETRY;
	if (st == LUN_FAILING && io->op == LUN_READ) {
		q->failing = true;
		st = LUN_MEDIUM;
	}
	if (st == LUN_OK || (st == LUN_MEDIUM && io->op == LUN_READ))
		io->done(v, io, st);
	else
		failed(v, io, st);
	vio_free(v, io);
}

void vio_abandon(struct vol *v)
{
	struct vios *q = &v->vio;

	for (uint32_t i = 0; i < VIO_MAX; i++) {
		struct vio *io = &q->all[i];

		if (io->state == VIO_QUEUED || io->state == VIO_LATER) {
			vio_free(v, io);
		} else if (io->state == VIO_FLIGHT && !io->zombie) {
			io->zombie = true;
			q->zombies++;
		}
	}
}

uint64_t vio_deadline(const struct vol *v)
{
	uint64_t at = NEVER;

	if (!list_empty(&v->vio.queue))
		return v->now_ns;
	list_for_each_entry(io, &v->vio.later, struct vio, link)
		if (io->at_ns < at)
			at = io->at_ns;
	return at;
}
