/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * volume.c - one open volume: runs requests, and lets journal and checkpoint take their steps.
 *
 *   CLOSED --vol_open()--> OPENING --open_step()--> READY --vol_close()--> CLOSING --> CLOSED
 *   OPENING, READY, CLOSING --vol_freeze()--> FROZEN
 *   any --vol_abandon()--> CLOSED
 *
 * A request is on exactly one list: queue (to run), later (long work), the waiters of a block, stalled (waits for
 * room), held (waits for others to forget what it changes), the waiters of the running transaction or of the commit in
 * flight, or done.
 *
 * Invariants
 *  V1. A reply is on the done list only when everything it saw or changed is durable.
 *  V2. In FROZEN and CLOSED nothing is sent to the LUN.
 *  V3. Commands of an earlier life have all ended before anything is read or written by the next.
 *  V4. Long work (the background's; a request that goes on after ROUNDS_AT_ONCE) holds up nobody: it does one step for
 *      each vol_spare(), so a thread that runs the engine for a request does none of it; and it leaves half of journal
 *      and cache, and the running transaction from LONG_BLOCKS on, to others.
 *  V5. The background goes from one inode to the next. One whose step fails is left out until the next round, which comes
 *      when there is something new: it keeps the work of no other, nor the space that this frees, from being done.
 */
#include "metadata/engine.h"

#define REQUESTS_PER_STEP 512u
#define ROUNDS_AT_ONCE 8u
#define LONG_BLOCKS 256u /* 1 MiB: what others wait for at most, beside their own, in each of two commits */
#define CACHE_BYTES_MIN (4u << 20)

void vol_freeze(struct vol *v, enum vol_reason reason, const char *fmt, ...)
{
	va_list ap;

	if (v->state == VOL_FROZEN || v->state == VOL_CLOSED)
		return;
	va_start(ap, fmt);
	(void)trace_vformat(v->error, sizeof(v->error), fmt, ap);
	va_end(ap);
	/* What storage that fails does not give says nothing of the volume. */
	if (v->state == VOL_OPENING && reason == VOL_DAMAGED && v->vio.failing) {
		reason = VOL_NO_SPACE;
		(void)trace_format(v->error, sizeof(v->error), "reads keep failing behind the target: its storage is broken");
	}
	v->state = VOL_FROZEN;
	v->reason = reason;
	trace(v->cfg.trace, TRACE_ERROR, "volume frozen: %s", v->error);
}

/* ------------------------------------------------------------------ requests */

static void to_queue_front(struct vol *v, struct list *from)
{
	while (!list_empty(from)) {
		struct list *last = from->prev;

		list_del(last);
		list_add(last, &v->queue);
	}
}

void vol_unstall(struct vol *v)
{
	to_queue_front(v, &v->stalled);
}

void vol_wake(struct vol *v, struct block *b)
{
	for (struct list *p = b->waiters.next; p != &b->waiters; p = p->next)
		v->waiting--;
	to_queue_front(v, &b->waiters);
}

static void reply_reset(struct fs_reply *r)
{
	void *data = r->data;
	struct fs_extent *extents = r->extents;
	uint32_t data_room = r->data_room, extent_room = r->extent_room;

	memset(r, 0, sizeof(*r));
	r->data = data;
	r->extents = extents;
	r->data_room = data_room;
	r->extent_room = extent_room;
}

static bool internal(const struct vol *v, const struct vol_req *r)
{
	return r == &v->root_req || r == &v->bg_req || r == &v->grow.req || r == &v->scrub.req;
}

/* V1: the list of what it waits for. */
static void answer(struct vol *v, struct vol_req *r, int err, uint64_t lsn)
{
	r->reply.err = err;
	r->lsn = lsn;
	if (lsn <= v->lsn_durable)
		list_add_tail(&r->link, &v->done);
	else if (v->journal.lsn && lsn <= v->journal.lsn)
		list_add_tail(&r->link, &v->journal.waiters);
	else
		list_add_tail(&r->link, &v->run.waiters);
}

/* V5. What is behind the one that failed, and then, if it came meanwhile, what is before it. */
static void background_done(struct vol *v, int err)
{
	if (!err || err == -EINPROGRESS) {
		v->bg_wanted = true;
	} else if (err == -ENOENT) {
		v->bg_wanted = v->bg_wanted || (v->bg_after && v->bg_again);
		v->bg_after = 0;
		v->bg_again = false;
	} else {
		trace(v->cfg.trace, TRACE_ERROR, "background work on inode %llu fails: error %d",
			(unsigned long long)v->bg_ino, err);
		/* Else it was found nowhere: there is nothing to go on with. */
		v->bg_wanted = v->bg_wanted || v->bg_ino > v->bg_after;
		v->bg_after = v->bg_ino > v->bg_after ? v->bg_ino : 0;
	}
}

static void internal_done(struct vol *v, struct vol_req *r, int err)
{
	if (r == &v->grow.req) {
		grow_done(v, err);
		return;
	}
	if (r == &v->scrub.req) {
		scrub_judged(v, err);
		return;
	}
	if (r == &v->root_req) {
		v->root_lsn = v->run.lsn;
		if (err)
			vol_freeze(v, VOL_DAMAGED, "the root directory cannot be made: error %d",
				err);
		return;
	}
	v->bg_active = false;
	vol_unstall(v);
	background_done(v, err);
}

static bool all_idle(const struct vol *v)
{
	return !v->run.count && !v->journal.lsn && !v->vio.busy && ckpt_all_done(v);
}

/* -EAGAIN: it runs again when what it waits for is there. */
static void wait_for(struct vol *v, struct vol_req *r)
{
	struct txn *t = &v->txn;

	if (t->wait == WAIT_BLOCK) {
		list_add_tail(&r->link, &t->wait_block->waiters);
		v->waiting++;
		return;
	}
	if (t->wait == WAIT_HELD) {
		list_add_tail(&r->link, &v->held);
		return;
	}
	csv_assert(t->wait == WAIT_ROOM); /* an operation makes up no -EAGAIN of its own */
	if (!all_idle(v)) {
		list_add_tail(&r->link, &v->stalled);
		return;
	}
	/* Nothing will ever give it more room. */
	trace(v->cfg.trace, TRACE_ERROR, "request %s needs more than the cache or a transaction holds",
		fs_op_name(r->rq.op));
	if (internal(v, r))
		internal_done(v, r, -ENOMEM);
	else
		answer(v, r, -ENOMEM, 0);
}

/* What it did may show, or others must forget first how it was. */
static int may_show(struct vol *v, struct vol_req *r, int err)
{
	struct txn *t = &v->txn;

	if ((err && err != -EINPROGRESS) || !t->changed_count || !v->cfg.may_change)
		return err;
	if (v->cfg.may_change(
		    v->cfg.ctx, internal(v, r) ? NULL : r, t->changed, t->changed_count))
		return err;
	t->wait = WAIT_HELD;
	return -EAGAIN;
}

/* J5: what dirtied more than it was admitted for waits for a transaction that is emptier. */
static int may_stay(struct vol *v, int err)
{
	if ((err && err != -EINPROGRESS) || journal_fits(v))
		return err;
	return txn_wait_room(&v->txn);
}

static int execute(struct vol *v, struct vol_req *r)
{
	struct txn *t = &v->txn;
	int err;

	if (r->call)
		return may_show(v, r, may_stay(v, r->call(t, r->arg)));
	reply_reset(&r->reply);
	err = reply_find(v, r);
	if (err < 0)
		return err;
	if (err) {
		int32_t was = r->reply.err;

		err = v->cfg.ops->replied(t, r);
		/*
		 * open(O_TMPFILE): nobody has heard of the file, and without a name nobody has seen it. It may have been
		 * freed, as of a node that was given up; then it is made anew, and nothing was done twice.
		 */
		if (err != -ESTALE || r->rq.op != FS_CREATE || !(r->rq.valid & FS_NO_NAME))
			return err ? err : was;
		reply_reset(&r->reply);
	}
	err = may_show(v, r, may_stay(v, v->cfg.ops->execute(t, r)));
	if (!err)
		reply_record(t, r);
	return err;
}

/*
 * J3: may this request say of data that it is on the LUN? All but those that change names and attributes
 * alone, and grants of space: those cost one flush less.
 */
static bool says_data(const struct vol *v, const struct vol_req *r)
{
	switch (r->rq.op) {
	case FS_MKNOD:
	case FS_MKDIR:
	case FS_SYMLINK:
	case FS_LINK:
	case FS_UNLINK:
	case FS_RMDIR:
	case FS_RENAME:
	case FS_CREATE:
	case FS_SETXATTR:
	case FS_REMOVEXATTR:
	case FS_OPEN:
	case FS_LAYOUT_GET:
		return false;
	default:
		return !internal(v, r);
	}
}

static void run_request(struct vol *v, struct vol_req *r)
{
	struct txn *t = &v->txn;
	uint32_t step = r->step;
	uint64_t lsn;
	int err;

	txn_begin(v, r->rq.time_ns);
	err = execute(v, r);
	if (t->refused)
		err = -EROFS;
	if (err && err != -EINPROGRESS) {
		txn_undo(t);
		r->step = step;
	}
	if (err == -EAGAIN) {
		wait_for(v, r);
		return;
	}
	/* What was deleted is still being freed: no space is only true when that is done. */
	if (err == -ENOSPC && !internal(v, r) && v->state == VOL_READY &&
		(v->bg_wanted || v->bg_active)) {
		list_add_tail(&r->link, &v->stalled);
		return;
	}
	lsn = t->seen_lsn;
	if ((!err || err == -EINPROGRESS) && txn_keep(t)) {
		lsn = v->run.lsn;
		v->run.flush = v->run.flush || says_data(v, r);
	}
	if (internal(v, r))
		internal_done(v, r, err);
	else if (err == -EINPROGRESS)
		list_add_tail(&r->link, r->rounds++ < ROUNDS_AT_ONCE ? &v->queue : &v->later);
	else
		answer(v, r, err, lsn);
}

static bool admits(const struct vol *v)
{
	/* Few enough that those that wait for blocks do not push out each other's. */
	return journal_admits(v) && cache_room(v) >= TXN_OP_BLOCKS + v->waiting * 8 &&
	       v->waiting < v->cache.max / 32;
}

static bool long_work_is_due(const struct vol *v)
{
	bool some = !list_empty(&v->later) ||
		    (v->state == VOL_READY && v->bg_wanted && !v->bg_active);

	return some && !grow_holds(v) && v->run.count < LONG_BLOCKS &&
	       journal_used(v) <= v->journal.blocks / 2 &&
	       v->ckpt.needed_count <= v->cache.max / 2 && admits(v);
}

/* V4: one step, of the background's and the requests' in turn. */
static void run_long_work(struct vol *v)
{
	struct vol_req *r;

	if (!long_work_is_due(v))
		return;
	v->bg_turn = !v->bg_turn;
	if (v->state == VOL_READY && v->bg_wanted && !v->bg_active &&
		(v->bg_turn || list_empty(&v->later))) {
		v->bg_wanted = false;
		v->bg_active = true;
		run_request(v, &v->bg_req);
		return;
	}
	r = list_first_entry(&v->later, struct vol_req, link);
	list_del(&r->link);
	run_request(v, r);
}

/* Room can only come from a commit and a checkpoint: they are asked for. */
static void run_requests(struct vol *v)
{
	uint32_t left = REQUESTS_PER_STEP;
	bool spare = v->spare;

	v->spare = false;
	v->more = false;
	v->tight = false;
	if (grow_holds(v))
		return;
	while (!list_empty(&v->queue) && v->state != VOL_FROZEN) {
		struct vol_req *r = list_first_entry(&v->queue, struct vol_req, link);

		if (v->state == VOL_OPENING && r != &v->root_req)
			return;
		if (!admits(v)) {
			v->tight = true;
			return;
		}
		if (!left--) {
			v->more = true;
			return;
		}
		list_del(&r->link);
		run_request(v, r);
	}
	if (spare)
		run_long_work(v);
}

/* ------------------------------------------------------------------ opening */

static void open_read_done(struct vol *v, struct vio *io, enum lun_status st)
{
	v->open_pending--;
	if (st == LUN_OK)
		return;
	/* Of superblocks there are others. */
	if (v->open <= OPEN_SUPERS) {
		memset(io->buf, 0, io->blocks * BLOCK_SIZE);
		return;
	}
	vol_freeze(v, VOL_DAMAGED, "%s: blocks from %llu on cannot be read",
		problem_name(PROBLEM_MEDIUM), (unsigned long long)io->blkno);
}

static void open_read(struct vol *v, uint64_t blkno, uint64_t blocks, uint8_t *buf)
{
	(void)vio_must(v, LUN_READ, blkno, blocks, buf, open_read_done);
	v->open_pending++;
}

/* The LUN may have grown since this node logged in, and the volume with it. */
static void open_size(struct vol *v)
{
	(void)vio_must(v, LUN_CAPACITY, 0, 0, NULL, open_read_done);
	v->open_pending++;
	v->open_asked = true;
}

static void open_problem(struct vol *v, const struct verify_report *rep, uint64_t blkno)
{
	vol_freeze(v, VOL_DAMAGED, "%s: block %llu: found %llx, expected %llx; run fsck.csvfs",
		problem_name(rep->problem), (unsigned long long)blkno,
		(unsigned long long)rep->found, (unsigned long long)rep->expected);
}

static void open_begin(struct vol *v)
{
	cache_reset(v);
	fetch_reset(v);
	list_init(&v->run.blocks);
	v->run.count = 0;
	v->run.forgot = 0;
	v->run.flush = false;
	list_init(&v->ckpt.needed);
	v->ckpt.needed_count = 0;
	v->ckpt.state = CKPT_IDLE;
	v->ckpt.idle_ns = NEVER;
	v->journal.commit_count = 0;
	v->journal.lsn = 0;
	v->waiting = 0;
	v->root_lsn = 0;
	v->bg_wanted = false;
	v->bg_active = false;
	v->bg_again = false;
	v->bg_after = 0;
	v->replayed = false;
	v->super_restore = false;
	v->open_asked = false;
	grow_reset(v);
	scrub_reset(v);
	v->open_next = 0;
	v->open = OPEN_SUPER;
	open_read(v, SUPER_BLOCK, 1, v->ckpt.buf);
}

/*
 * The first valid superblock says where the journal is: its geometry is all that is used of it. What
 * is sealed but cannot be used is told at once; a copy would say the same.
 */
static void open_super(struct vol *v, uint64_t blkno, enum open_phase next, uint64_t next_blkno)
{
	struct verify_report rep;
	const struct disk_super *s = (const struct disk_super *)v->ckpt.buf;

	if (verify_header(s, MAGIC_SUPER, NULL, blkno, &rep) != PROBLEM_NONE) {
		if (next == OPEN_REPLAY) {
			vol_freeze(v, VOL_DAMAGED, "%s: this is not a csvfs volume",
				problem_name(PROBLEM_SUPER_NONE));
			return;
		}
		v->open = next;
		open_read(v, next_blkno, 1, v->ckpt.buf);
		return;
	}
	if (verify_super(s, blkno, v->cfg.lun_bytes, &rep) != PROBLEM_NONE) {
		if (rep.problem == PROBLEM_SUPER_TRUNCATED && !v->open_asked) {
			open_size(v);
			return;
		}
		vol_freeze(v, VOL_DAMAGED, "%s: found %llu, expected %llu: %s",
			problem_name(rep.problem), (unsigned long long)rep.found,
			(unsigned long long)rep.expected, problem_text(rep.problem));
		return;
	}
	if (le64_get(s->rocompat) & ~FEATURE_ROCOMPAT_KNOWN && !v->cfg.readonly) {
		vol_freeze(v, VOL_DAMAGED,
			"the volume has features that allow reading only: %llx",
			(unsigned long long)le64_get(s->rocompat));
		return;
	}
	memcpy(v->geo, s, BLOCK_SIZE);
	v->open = OPEN_REPLAY;
	replay_start(v);
}

static struct block *pinned(struct vol *v, uint64_t blkno)
{
	struct block *b = cache_add(v, blkno);

	csv_assert(b); /* the cache is empty, and larger than this */
	b->flags = BLK_PINNED;
	b->state = BLOCK_VALID;
	return b;
}

static void open_replayed(struct vol *v)
{
	v->super = pinned(v, SUPER_BLOCK);
	v->super_copy = pinned(v, SUPER_COPY_BLOCK);
	v->open = OPEN_SUPERS;
	open_read(v, SUPER_BLOCK, 1, v->super->data);
	open_read(v, SUPER_COPY_BLOCK, 1, v->super_copy->data);
}

static bool super_good(struct vol *v, struct block *b)
{
	struct verify_report rep;

	b->magic = MAGIC_SUPER;
	if (verify_super(b->data, b->blkno, v->cfg.lun_bytes, &rep) == PROBLEM_NONE &&
		!memcmp(((struct disk_super *)b->data)->h.uuid, v->geo->h.uuid, 16))
		return true;
	trace(v->cfg.trace, TRACE_WARN, "%s: block %llu: %s", problem_name(PROBLEM_SUPER_COPY),
		(unsigned long long)b->blkno, problem_name(rep.problem));
	return false;
}

/* The journal has been replayed, so of the first two at most one can be torn. */
static void open_supers(struct vol *v)
{
	bool first = super_good(v, v->super), copy = super_good(v, v->super_copy);

	if (!first && !copy) {
		vol_freeze(v, VOL_DAMAGED, "%s: blocks 0 and %d are both damaged; run fsck.csvfs",
			problem_name(PROBLEM_SUPER_PRIMARY), SUPER_COPY_BLOCK);
		return;
	}
	v->super_restore = !first || !copy;
	if (!first) {
		memcpy(v->super->data, v->super_copy->data, BLOCK_SIZE);
		((struct disk_super *)v->super->data)->h.blkno = le64_of(SUPER_BLOCK);
	}
	/* The journal may have made it larger. */
	memcpy(v->geo, v->super->data, BLOCK_SIZE);
	if (alloc_create(v)) {
		vol_freeze(v, VOL_NO_MEMORY, "no memory for the index of %llu groups",
			(unsigned long long)le64_get(v->geo->group_count));
		return;
	}
	v->open = OPEN_REPLIES;
	open_read(v, REPLY_BLOCK, NODES_MAX, v->ckpt.buf);
}

static void open_summary_read(struct vol *v)
{
	uint64_t left = le64_get(v->geo->summary_blocks) - v->open_next;

	open_read(v, le64_get(v->geo->summary_start) + v->open_next,
		left < CKPT_BATCH ? left : CKPT_BATCH, v->ckpt.buf);
}

static void open_replies(struct vol *v)
{
	struct verify_report rep;

	for (uint32_t i = 0; i < NODES_MAX; i++) {
		struct block *b = pinned(v, REPLY_BLOCK + i);

		memcpy(b->data, v->ckpt.buf + (size_t)i * BLOCK_SIZE, BLOCK_SIZE);
		b->magic = MAGIC_REPLY;
		if (verify_block(b->data, MAGIC_REPLY, b->blkno, v->geo, &rep) != PROBLEM_NONE) {
			open_problem(v, &rep, b->blkno);
			return;
		}
		reply_load(v, i, b);
	}
	v->open = OPEN_SUMMARY;
	open_summary_read(v);
}

static int open_fixup(struct txn *t, void *arg)
{
	struct vol *v = arg;
	struct disk_super *s = txn_super_dirty(t);

	if (!le64_get(s->root_ino))
		return v->cfg.ops->make_root(t);
	return 0;
}

static void open_summary(struct vol *v)
{
	uint64_t blocks = le64_get(v->geo->summary_blocks);
	struct verify_report rep;

	for (uint32_t i = 0; i < CKPT_BATCH && v->open_next < blocks; i++, v->open_next++) {
		const uint8_t *block = v->ckpt.buf + (size_t)i * BLOCK_SIZE;
		uint64_t blkno = le64_get(v->geo->summary_start) + v->open_next;

		if (verify_block(block, MAGIC_SUMMARY, blkno, v->geo, &rep) != PROBLEM_NONE) {
			open_problem(v, &rep, blkno);
			return;
		}
		alloc_load(v, (uint32_t)v->open_next, (const struct disk_summary *)block);
	}
	if (v->open_next < blocks) {
		open_summary_read(v);
		return;
	}
	v->open = OPEN_DONE;
	if (v->cfg.readonly)
		return;
	if (v->super_restore || !le64_get(((struct disk_super *)v->super->data)->root_ino)) {
		v->open = OPEN_ROOT;
		v->root_req.call = open_fixup;
		v->root_req.arg = v;
		list_add(&v->root_req.link, &v->queue);
	}
}

static void open_done(struct vol *v)
{
	v->state = VOL_READY;
	v->opened = true;
	v->bg_wanted = !v->cfg.readonly && v->cfg.ops->background;
	trace(v->cfg.trace, TRACE_INFO, "volume open: epoch %llu, transaction %llu%s",
		(unsigned long long)v->epoch, (unsigned long long)v->run.lsn,
		v->replayed ? ", after replay" : "");
}

static void open_step(struct vol *v)
{
	uint64_t last = v->cfg.lun_bytes / BLOCK_SIZE - 1;

	while (v->state == VOL_OPENING && !v->open_pending) {
		switch (v->open) {
		case OPEN_WAIT:
			if (v->vio.zombies)
				return; /* V3 */
			open_begin(v);
			break;
		case OPEN_SUPER:
			open_super(v, SUPER_BLOCK, OPEN_SUPER_COPY, SUPER_COPY_BLOCK);
			break;
		case OPEN_SUPER_COPY:
			open_super(v, SUPER_COPY_BLOCK, OPEN_SUPER_LAST, last);
			break;
		case OPEN_SUPER_LAST:
			open_super(v, last, OPEN_REPLAY, 0);
			break;
		case OPEN_REPLAY:
			replay_step(v);
			if (v->replay.state != REPLAY_DONE)
				return;
			open_replayed(v);
			break;
		case OPEN_SUPERS: open_supers(v); break;
		case OPEN_REPLIES: open_replies(v); break;
		case OPEN_SUMMARY: open_summary(v); break;
		case OPEN_ROOT:
			if (!v->root_lsn || v->root_lsn > v->lsn_durable)
				return;
			v->open = OPEN_DONE;
			break;
		case OPEN_DONE: open_done(v); break;
		}
	}
}

/* ------------------------------------------------------------------ closing */

static void close_done(struct vol *v, struct vio *io, enum lun_status st)
{
	(void)io;
	csv_assert(st == LUN_OK);
	v->close = CLOSE_DONE;
}

/* The third superblock: written only now, when the first two are durable in their places. */
static void close_super(struct vol *v)
{
	struct disk_super *s = (struct disk_super *)v->journal.head_buf;
	uint64_t last = le64_get(v->geo->block_count) - 1;

	memcpy(s, v->super->data, BLOCK_SIZE);
	s->h.blkno = le64_of(last);
	verify_seal(s);
	v->close = CLOSE_SUPER;
	vio_must(v, LUN_WRITE, last, 1, s, close_done)->fua = true;
}

static void close_step(struct vol *v)
{
	switch (v->close) {
	case CLOSE_DRAIN:
		if (!list_empty(&v->queue) || !list_empty(&v->later) || !list_empty(&v->stalled) ||
			!list_empty(&v->held) || v->waiting)
			return;
		if (!all_idle(v) || grow_busy(v))
			return;
		if (v->cfg.readonly)
			v->close = CLOSE_DONE;
		else
			close_super(v);
		break;
	case CLOSE_SUPER:
		break;
	case CLOSE_DONE:
		break;
	}
	if (v->close != CLOSE_DONE)
		return;
	v->state = VOL_CLOSED;
	trace(v->cfg.trace, TRACE_INFO, "volume closed: journal empty, transaction %llu",
		(unsigned long long)v->run.lsn);
}

/* ------------------------------------------------------------------ interface */

struct vol *vol_create(const struct vol_config *cfg)
{
	struct vol *v = mem_alloc(cfg->mem, sizeof(*v));

	if (!v)
		return NULL;
	csv_assert(cfg->ops);
	v->cfg = *cfg;
	if (v->cfg.cache_bytes < CACHE_BYTES_MIN)
		v->cfg.cache_bytes = CACHE_BYTES_MIN;
	list_init(&v->queue);
	list_init(&v->later);
	list_init(&v->stalled);
	list_init(&v->held);
	list_init(&v->done);
	list_init(&v->root_req.link);
	list_init(&v->bg_req.link);
	v->geo = mem_alloc(cfg->mem, BLOCK_SIZE);
	if (!v->geo || grow_create(v) || vio_create(v) || cache_create(v) || txn_create(v) || journal_create(v) ||
		ckpt_create(v)) {
		vol_destroy(v);
		return NULL;
	}
	fetch_create(v);
	return v;
}

void vol_destroy(struct vol *v)
{
	struct mem *m = v->cfg.mem;

	csv_assert(!vol_busy(v));
	replay_free(v);
	grow_destroy(v);
	scrub_destroy(v);
	alloc_destroy(v);
	ckpt_destroy(v);
	journal_destroy(v);
	txn_destroy(v);
	fetch_destroy(v);
	cache_destroy(v);
	vio_destroy(v);
	mem_free(m, v->geo, BLOCK_SIZE);
	mem_free(m, v, sizeof(*v));
}

static int background(struct txn *t, void *arg)
{
	struct vol *v = arg;

	if (!v->bg_after)
		v->bg_again = false;
	v->bg_ino = v->bg_after;
	return v->cfg.ops->background(t, &v->bg_ino);
}

void vol_open(struct vol *v, uint64_t epoch, struct effects *fx)
{
	(void)fx;
	csv_assert(v->state == VOL_CLOSED);
	v->state = VOL_OPENING;
	v->opened = false;
	v->open = OPEN_WAIT;
	v->open_pending = 0;
	v->vio.failing = false;
	v->epoch = epoch;
	v->reason = VOL_FINE;
	v->error[0] = 0;
	v->bg_req.call = background;
	v->bg_req.arg = v;
}

void vol_close(struct vol *v, struct effects *fx)
{
	(void)fx;
	if (v->state == VOL_OPENING) {
		vol_abandon(v);
	} else if (v->state == VOL_READY) {
		v->state = VOL_CLOSING;
		v->close = CLOSE_DRAIN;
		vol_unstall(v);
	}
}

/* Its outcome is unknown: it may have been executed, and even be durable. */
static void give_back(struct vol *v, struct list *from)
{
	while (!list_empty(from)) {
		struct vol_req *r = list_first_entry(from, struct vol_req, link);

		list_del(&r->link);
		if (internal(v, r))
			continue;
		r->reply.err = -ECONNRESET;
		list_add_tail(&r->link, &v->done);
	}
}

void vol_abandon(struct vol *v)
{
	if (v->state == VOL_CLOSED)
		return;
	give_back(v, &v->journal.waiters);
	give_back(v, &v->run.waiters);
	for (uint32_t i = 0; i <= v->cache.mask; i++)
		for (struct block *b = v->cache.buckets[i]; b; b = b->hash)
			if (b->state == BLOCK_READING)
				give_back(v, &b->waiters);
	give_back(v, &v->stalled);
	give_back(v, &v->held);
	give_back(v, &v->later);
	give_back(v, &v->queue);
	v->waiting = 0;
	vio_abandon(v);
	replay_free(v);
	v->state = VOL_CLOSED;
}

enum vol_state vol_state(const struct vol *v)
{
	return v->state;
}

const char *vol_error(const struct vol *v)
{
	return v->error;
}

enum vol_reason vol_reason(const struct vol *v)
{
	return v->reason;
}

bool vol_busy(const struct vol *v)
{
	return v->vio.busy > 0;
}

bool vol_needed_replay(const struct vol *v)
{
	return v->replayed;
}

void vol_submit(struct vol *v, struct vol_req *r)
{
	r->lsn = 0;
	r->step = 0;
	r->anew = 0;
	r->seen = 0;
	r->rounds = 0;
	list_add_tail(&r->link, &v->queue);
}

void vol_spare(struct vol *v)
{
	v->spare = true;
}

void vol_unheld(struct vol *v)
{
	to_queue_front(v, &v->held);
}

static bool is_on(const struct list *l, const struct vol_req *r)
{
	for (const struct list *at = l->next; at != l; at = at->next) {
		if (at == &r->link)
			return true;
	}
	return false;
}

static bool waits_for_block(struct vol *v, const struct vol_req *r)
{
	for (uint32_t i = 0; v->waiting && i <= v->cache.mask; i++)
		for (const struct block *b = v->cache.buckets[i]; b; b = b->hash)
			if (b->state == BLOCK_READING && is_on(&b->waiters, r))
				return true;
	return false;
}

bool vol_withdraw(struct vol *v, struct vol_req *r)
{
	bool block;

	/* Something of it is done. */
	if (r->rounds)
		return false;
	block = waits_for_block(v, r);
	if (!block && !is_on(&v->held, r) && !is_on(&v->stalled, r) && !is_on(&v->queue, r))
		return false;
	v->waiting -= block;
	list_del(&r->link);
	r->reply.err = -ECONNRESET;
	list_add_tail(&r->link, &v->done);
	return true;
}

struct vol_req *vol_next_done(struct vol *v)
{
	struct vol_req *r;

	if (list_empty(&v->done))
		return NULL;
	r = list_first_entry(&v->done, struct vol_req, link);
	list_del(&r->link);
	return r;
}

void vol_lun_done(struct vol *v, const struct event *ev, struct effects *fx)
{
	(void)fx;
	if (ev->now_ns > v->now_ns)
		v->now_ns = ev->now_ns;
	vio_done(v, ev);
}

void vol_step(struct vol *v, uint64_t now_ns, struct effects *fx)
{
	if (now_ns > v->now_ns)
		v->now_ns = now_ns;
	if (v->state == VOL_OPENING)
		open_step(v);
	if (v->state == VOL_CLOSED || v->state == VOL_FROZEN)
		return;
	grow_step(v);
	scrub_step(v);
	if (v->state != VOL_OPENING || v->open == OPEN_ROOT) {
		run_requests(v);
		if (v->state != VOL_FROZEN)
			journal_step(v);
		if (v->state != VOL_FROZEN)
			ckpt_step(v);
	}
	if (v->state == VOL_CLOSING)
		close_step(v);
	if (v->state != VOL_FROZEN)
		vio_pump(v, fx);
}

uint64_t vol_deadline(const struct vol *v)
{
	uint64_t at;

	if (v->state == VOL_CLOSED || v->state == VOL_FROZEN)
		return NEVER;
	at = vio_deadline(v);
	if (scrub_deadline(v) < at)
		at = scrub_deadline(v);
	if (v->more || long_work_is_due(v))
		return v->now_ns;
	if (v->ckpt.state == CKPT_IDLE && !v->journal.lsn && v->ckpt.idle_ns < at)
		at = v->ckpt.idle_ns;
	return at;
}

const struct disk_super *vol_super(const struct vol *v)
{
	if (!v->opened || v->state == VOL_CLOSED)
		return NULL;
	return (const struct disk_super *)v->super->data;
}

void vol_get_stats(const struct vol *v, struct vol_stats *st)
{
	st->commits = v->commits;
	st->journal_bytes = v->journal_bytes;
	st->checkpoints = v->checkpoints;
	st->cache_hits = v->cache.hits;
	st->cache_misses = v->cache.misses;
	st->journal_used_blocks = journal_used(v);
	st->journal_blocks = v->journal.blocks;
}

void vol_check(const struct vol *v)
{
	uint32_t needed = 0;
	uint64_t seq = 0;

	if (v->state != VOL_READY && v->state != VOL_CLOSING)
		return;
	/* J4, J5 */
	csv_assert(v->journal.tail.at <= v->journal.durable.at);
	csv_assert(v->journal.durable.at <= v->journal.head.at);
	csv_assert(journal_used(v) <= v->journal.blocks);
	csv_assert(v->run.count <= v->journal.txn_max);
	csv_assert(v->run.forgot <= v->run.count);
	csv_assert(v->lsn_durable < v->run.lsn);
	/* C2 */
	list_for_each_entry(b, &v->ckpt.needed, struct block, needed)
	{
		csv_assert(b->journal_seq >= seq && b->journal_seq >= v->journal.tail.seq);
		csv_assert(b->journal_lsn <= v->lsn_durable);
		csv_assert(list_empty(&b->lru)); /* only the journal has it: not to be evicted */
		seq = b->journal_seq;
		needed++;
	}
	csv_assert(needed == v->ckpt.needed_count);
	/* V1 */
	list_for_each_entry(r, &v->done, struct vol_req, link)
		csv_assert(r->lsn <= v->lsn_durable || r->reply.err == -ECONNRESET);
	alloc_check(v);
}
