/* SPDX-License-Identifier: GPL-2.0-or-later */
/* node_file.c - see node_file.h. */
#include "csvfs/node_file.h"

#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/node_int.h"

/* There was no memory to ask the coordinator. */
#define ASK_AGAIN_NS (100 * NS_PER_MS)

/* ------------------------------------------------------------------ commit */

static bool nothing_to_commit(const struct file *f)
{
	return list_empty(&f->dirty) && list_empty(&f->due) && !f->size && !f->mtime_ns && !f->atime_ns;
}

static void commit_later(struct node *n, struct file *f, uint64_t at_ns)
{
	if (at_ns < f->commit_at_ns)
		f->commit_at_ns = at_ns;
	if (f->commit_at_ns < n->file_deadline_ns)
		n->file_deadline_ns = f->commit_at_ns;
}

uint32_t node_file_life(struct node *n, uint64_t ino)
{
	const struct file *f = node_file_find(n, ino);

	return f && f->st != FILE_OPENING ? (uint32_t)(f->generation & FS_GENERATION_MASK) : 0;
}

/*
 * A round takes all that was first-written before, in one commit or in many. Who waits, waits for the end of the next round at most: first
 * writes may come faster than they are committed, and those of a round are done all the same.
 */
static void round_begins(struct file *f)
{
	list_splice_tail(&f->dirty, &f->due);
	list_for_each_entry(w, &f->waits, struct fwait, link)
		w->due = true;
}

static void round_ends(struct file *f)
{
	list_for_each_entry_safe (w, tmp, &f->waits, struct fwait, link) {
		if (!w->due)
			continue;
		list_del(&w->link);
		list_add_tail(&w->link, &f->flying_waits);
	}
}

/* One commit in flight per file: what comes meanwhile goes with a later one. */
static void commit_send(struct node *n, struct file *f, struct effects *fx)
{
	struct fs_extent ext[EXTENTS_PER_REPLY];
	struct fs_request *rq = &n->scratch_rq;
	uint64_t ino = f->ino;
	uint32_t count = 0;

	csv_assert(!f->commit_in_flight);
	memset(rq, 0, sizeof(*rq));
	rq->op = FS_LAYOUT_COMMIT;
	rq->ino = f->ino;
	rq->generation = node_file_life(n, f->ino);
	rq->time_ns = n->wall_ns;
	if (f->size) {
		rq->valid |= FS_SET_SIZE;
		rq->attr.size = f->size;
	}
	/* 0: no write since utimensat(2) or truncate(2) said what the time is. */
	if (f->mtime_ns) {
		rq->valid |= FS_SET_MTIME;
		rq->attr.mtime_ns = f->mtime_ns;
	}
	if (f->atime_ns) {
		rq->valid |= FS_SET_ATIME;
		rq->attr.atime_ns = f->atime_ns;
	}
	if (list_empty(&f->due))
		round_begins(f);
	list_for_each_entry_safe (r, tmp, &f->due, struct frange, link) {
		if (count == EXTENTS_PER_REPLY)
			break;
		ext[count++] =
			(struct fs_extent){.off = r->off, .len = r->len, .state = EXT_WRITTEN};
		list_del(&r->link);
		list_add_tail(&r->link, &f->flying);
	}
	rq->extents = ext;
	rq->extent_count = count;
	f->flying_size = f->size;
	f->size = 0;
	f->flying_mtime_ns = f->mtime_ns;
	f->mtime_ns = f->atime_ns = 0;
	f->commit_at_ns = list_empty(&f->due) && list_empty(&f->dirty) ? NEVER : n->now_ns;
	f->dirty_count = 0;
	f->commit_in_flight = true;
	if (list_empty(&f->due))
		round_ends(f);
	f->unsent = true;
	node_ask(n, CQ_COMMIT, 0, rq, fx);
	/* If it was not sent that has been acted on, and the file may be gone. */
	f = node_file_find(n, ino);
	if (f && f->commit_in_flight)
		f->unsent = false;
}

static void wait_done(struct node *n, struct fwait *w, struct effects *fx)
{
	if (w->need_commit || w->need_flush)
		return;
	list_del(&w->link);
	node_due_wait(n, w, fx);
}

/* From here on only its flush knows of it. */
static void wait_committed(struct node *n, struct fwait *w, struct effects *fx)
{
	list_del(&w->link);
	w->need_commit = false;
	wait_done(n, w, fx);
}

static void layout_advance(struct node *n, struct file *f, struct effects *fx);
static void layout_close_gate(struct node *n, struct file *f, struct effects *fx);

/*
 * Sends the next commit if somebody wants one now. True: it was sent. Without memory for that it has been answered already, and `f`
 * may be gone.
 */
static bool commit_pump(struct node *n, struct file *f, struct effects *fx)
{
	if (f->commit_in_flight || f->st == FILE_OPENING)
		return false;
	if (nothing_to_commit(f)) {
		list_for_each_entry_safe (w, tmp, &f->waits, struct fwait, link)
			wait_committed(n, w, fx);
		f->commit_at_ns = NEVER;
		f->unsent = false;
		return false;
	}
	if (list_empty(&f->waits) && (f->layout != LAYOUT_COMMITTING || f->unsent) && f->commit_at_ns > n->now_ns)
		return false;
	commit_send(n, f, fx);
	return true;
}

static void seen(struct file *f, const struct fs_attr *a)
{
	f->seen_atime_ns = a->atime_ns;
	f->seen_change_ns = a->mtime_ns > a->ctime_ns ? a->mtime_ns : a->ctime_ns;
}

/* First writes are lost: who waits for an fsync hears of it now (F3), who asks for the next one then (node_lost.c). */
static void say_lost(struct file *f, struct list *waits)
{
	node_lost_note(f, -EIO);
	node_lost_tell(f, waits);
}

/* The data path takes for written what the coordinator will not hear of: the layout goes back, and it learns anew what is. */
static void learn_anew(struct node *n, struct file *f, struct effects *fx)
{
	if (f->st == FILE_OPEN && f->layout == LAYOUT_KEPT)
		layout_close_gate(n, f, fx);
}

/* While nobody serves us what we know is all that the file's users have: it stays. */
static void shed(struct node *n, struct file *f, const char *why, struct effects *fx)
{
	if (f->st != FILE_OPEN || f->layout != LAYOUT_KEPT || !client_served(n->client))
		return;
	trace(n->trace, TRACE_DEBUG, "%s: layout of ino %lx goes back", why, f->ino);
	layout_close_gate(n, f, fx);
}

/*
 * What a commit was of, when it has ended. If it failed while we keep the layout it is tried again (true): the data path takes
 * it for written, and nobody would ever commit it. So it is while the layout goes back if nobody but we have failed it: there was no
 * memory to ask, and what is lost then are writes that were answered. The size goes with the ranges, though the writes that made the file
 * longer were told of the failure: behind the end nothing counts as written, and they may be done later, as after any EIO.
 */
static bool flown(struct node *n, struct file *f, int32_t err)
{
	bool kept = f->layout == LAYOUT_KEPT && f->st == FILE_OPEN;
	bool again = err && err != -ESTALE && (kept || (f->unsent && err == -ENOMEM));
	struct list *at = f->owned.next;

	list_for_each_entry_safe (r, tmp, &f->flying, struct frange, link) {
		uint64_t off = r->off, len = r->len;

		list_del(&r->link);
		mem_free(n->mem, r, sizeof(*r)); /* so there is memory for it */
		if (again)
			again = node_range_insert(n, &f->due, off, len);
		else
			(void)node_range_remove(n, &f->owned, &at, off, len);
	}
	if (again && f->flying_size > f->size)
		f->size = f->flying_size;
	if (again && f->flying_mtime_ns > f->mtime_ns)
		f->mtime_ns = f->flying_mtime_ns;
	f->flying_mtime_ns = 0;
	return again;
}

/* It comes next, and says what the time is. */
static bool sets_mtime(const struct fwait *w)
{
	return w->tag && w->rq && w->rq->op == FS_SETATTR && (w->rq->valid & (FS_SET_MTIME | FS_SET_SIZE));
}

/* Who waits has what was in it behind it, also who came while it flew: that includes its own first write. */
static void commit_failed(struct node *n, struct file *f, int32_t err, struct effects *fx)
{
	bool lost = !list_empty(&f->flying);

	trace(n->trace, TRACE_ERROR, "commit of ino %lx failed: %d", f->ino, err);
	lost &= !flown(n, f, err);
	list_splice_tail(&f->waits, &f->flying_waits);
	if (lost) {
		node_lost_note(f, err);
		node_lost_tell(f, &f->flying_waits);
		learn_anew(n, f, fx);
	}
	list_for_each_entry_safe (w, tmp, &f->flying_waits, struct fwait, link) {
		if (w->kind == FWAIT_FSYNC)
			w->err = err == -ENOSPC ? err : -EIO;
		else if (!(w->rq && w->rq->op == FS_SETATTR))
			w->err = err;
		if (sets_mtime(w))
			f->mtime_ns = 0;
		wait_committed(n, w, fx);
	}
	f->commit_at_ns = NEVER;
	if (!nothing_to_commit(f))
		commit_later(n, f, n->now_ns + (f->unsent ? ASK_AGAIN_NS : n->cfg.commit_ns));
}

void node_file_commit_reply(
	struct node *n, uint64_t ino, const struct fs_reply *rp, struct effects *fx)
{
	struct file *f = node_file_find(n, ino);

	if (!f || !f->commit_in_flight)
		return;
	f->commit_in_flight = false;
	if (rp->err) {
		commit_failed(n, f, rp->err, fx);
	} else {
		struct effect *e = effects_add(fx, FX_LAYOUT_SIZE, 0);

		(void)flown(n, f, 0);
		if (node_range_many(&f->owned, n->cfg.owned_many))
			shed(n, f, "too many pieces are to be first-written", fx);
		seen(f, &rp->attr);
		e->layout.ino = ino;
		e->layout.size = rp->attr.size;
		e->layout.shown = rp->off;
		list_for_each_entry_safe (w, tmp, &f->flying_waits, struct fwait, link)
			wait_committed(n, w, fx);
	}
	if (commit_pump(n, f, fx))
		return;
	/* What came while it flew: node_file_step() has left it out. */
	commit_later(n, f, f->commit_at_ns);
	layout_advance(n, f, fx);
}

static struct fwait *wait_new(struct node *n, struct file *f, uint64_t tag, enum fwait_kind kind)
{
	struct fwait *w = mem_alloc(n->mem, sizeof(*w));

	if (!w)
		return NULL;
	w->tag = tag;
	w->kind = kind;
	w->need_commit = true;
	w->since_ns = n->now_ns;
	list_add_tail(&w->link, &f->waits);
	return w;
}

static bool waits_cancel(struct node *n, struct list *waits, uint64_t tag, struct effects *fx)
{
	list_for_each_entry (w, waits, struct fwait, link) {
		if (w->tag != tag || w->kind == FWAIT_TIMES)
			continue;
		node_due_tell(n, w, -EINTR, fx);
		return true;
	}
	return false;
}

void node_file_flush_cancel(struct node *n, struct fwait *w, struct effects *fx)
{
	node_due_tell(n, w, -EINTR, fx);
}

/* The commit goes on, and so does the OPEN: if nobody wants the file when its answer comes, it is closed. */
bool node_file_cancel(struct node *n, uint64_t tag, struct effects *fx)
{
	for (struct file *f = node_file_next(n, NULL); f; f = node_file_next(n, f)) {
		if (waits_cancel(n, &f->waits, tag, fx) ||
			waits_cancel(n, &f->flying_waits, tag, fx))
			return true;
		list_for_each_entry (q, &f->open_waiters, struct creq, link) {
			if (q->tag != tag)
				continue;
			list_del(&q->link);
			node_reply_err(n, tag, -EINTR, fx);
			mem_free(n->mem, q, sizeof(*q));
			return true;
		}
	}
	/* Its commit is answered, and what comes then is not (node_due.c): it is not begun. */
	return waits_cancel(n, &n->due_waits, tag, fx);
}

/* First-written and not yet committed: without memory to remember it, commit nothing and say EIO. */
static void remember_dirty(struct node *n, struct file *f, uint64_t off, uint64_t len, struct effects *fx)
{
	if (!len || node_range_insert(n, &f->dirty, off, len))
		return;
	say_lost(f, &f->waits);
	f->lost_write = true;
	trace(n->trace, TRACE_ERROR, "no memory to remember a first write of ino %lx", f->ino);
	learn_anew(n, f, fx);
}

void node_file_written(struct node *n, const struct event *ev, struct effects *fx)
{
	struct file *f = node_file_find(n, ev->range.ino);

	if (!f)
		return;
	/* Written before our rights were lost, and told since: that is lost, too, and its place may be another's. */
	if (ev->range.rights != n->evictions) {
		say_lost(f, &f->waits);
		return;
	}
	remember_dirty(n, f, ev->range.off, ev->range.len, fx);
	/* Behind the end nothing counts as written: whoever makes the file longer zeroes in its last cluster only. */
	if (ev->range.size > f->size)
		f->size = ev->range.size;
	if (ev->range.mtime_ns > f->mtime_ns)
		f->mtime_ns = ev->range.mtime_ns;
	/* Many places: not all at once in the end. What is looked through for each write stays short. */
	if (++f->dirty_count < DIRTY_MANY) {
		commit_later(n, f, n->now_ns + n->cfg.commit_ns);
		return;
	}
	commit_later(n, f, n->now_ns);
	commit_pump(n, f, fx);
}

void node_file_commit(struct node *n, const struct event *ev, struct effects *fx)
{
	struct file *f = node_file_find(n, ev->range.ino);
	struct fwait *w = f ? wait_new(n, f, ev->tag, FWAIT_WRITE) : NULL;

	if (!w) {
		struct effect *e = effects_add(fx, FX_BLOCK_DONE, ev->tag);

		e->block.err = f ? -ENOMEM : -ESTALE;
		return;
	}
	/* The data path plans it anew, whatever we say. */
	if (ev->range.rights != n->evictions) {
		wait_committed(n, w, fx);
		return;
	}
	if (f->lost_write)
		w->err = -EIO;
	f->lost_write = false;
	/* size 0: only to be told that what was first-written before is committed. */
	if (ev->range.size > f->size)
		f->size = ev->range.size;
	if (ev->range.mtime_ns > f->mtime_ns)
		f->mtime_ns = ev->range.mtime_ns;
	commit_pump(n, f, fx);
}

/* A read that the coordinator would do nothing with is not told. */
static bool read_counts(const struct file *f, int64_t when_ns)
{
	struct fs_attr a = {.atime_ns = f->seen_atime_ns,
		.ctime_ns = f->seen_change_ns,
		.mtime_ns = f->mtime_ns ? f->mtime_ns : f->seen_change_ns};

	return fs_atime_due(&a, when_ns);
}

void node_file_touched(struct node *n, const struct event *ev, struct effects *fx)
{
	struct file *f = node_file_find(n, ev->range.ino);

	if (!f)
		return;
	if (ev->range.mtime_ns > f->mtime_ns)
		f->mtime_ns = ev->range.mtime_ns;
	if (ev->range.atime_ns && read_counts(f, ev->range.atime_ns))
		f->atime_ns = ev->range.atime_ns;
	if (!nothing_to_commit(f))
		commit_later(n, f, n->now_ns + n->cfg.commit_ns);
}

void node_file_commit_times(struct node *n, uint64_t ino, uint64_t nr, struct effects *fx)
{
	struct file *f = node_file_find(n, ino);

	if (f && (f->commit_in_flight || !nothing_to_commit(f)) && wait_new(n, f, nr, FWAIT_TIMES))
		commit_pump(n, f, fx);
	else
		node_times_told(n, nr, fx);
}

void node_file_overlay(struct node *n, struct fs_attr *attr)
{
	struct file *f = node_file_find(n, attr->ino);

	if (!f)
		return;
	seen(f, attr);
	if (f->flying_mtime_ns)
		fs_attr_written(attr, f->flying_mtime_ns);
	if (f->mtime_ns)
		fs_attr_written(attr, f->mtime_ns);
	if (f->atime_ns && fs_atime_due(attr, f->atime_ns))
		attr->atime_ns = f->atime_ns;
}

void node_file_fsync(struct node *n, uint64_t tag, const struct fs_request *rq, struct effects *fx)
{
	struct file *f = node_file_find(n, rq->ino);
	struct fwait *w;

	/* A directory, or a file without a handle here: every reply it saw was durable before it left. */
	if (!f) {
		node_reply_err(n, tag, 0, fx);
		return;
	}
	w = wait_new(n, f, tag, FWAIT_FSYNC);
	if (!w) {
		node_reply_err(n, tag, -ENOMEM, fx);
		return;
	}
	w->ino = f->ino;
	w->handle = rq->lock.handle;
	node_lost_fsync(f, w);
	if (n->path.write_cache) {
		w->need_flush = true;
		node_data_flush(n, w, fx);
	}
	commit_pump(n, f, fx);
}

void node_file_in_turn(struct node *n, uint64_t tag, const struct fs_request *rq, struct effects *fx)
{
	struct file *f = node_file_find(n, rq->ino);
	struct fs_request *copy;
	struct fwait *w;

	if (!f || (nothing_to_commit(f) && !f->commit_in_flight)) {
		node_ask(n, CQ_KERNEL, tag, rq, fx);
		return;
	}
	copy = mem_alloc(n->mem, sizeof(*copy));
	w = copy ? wait_new(n, f, tag, FWAIT_REQUEST) : NULL;
	if (!w) {
		if (copy)
			mem_free(n->mem, copy, sizeof(*copy));
		node_reply_err(n, tag, -ENOMEM, fx);
		return;
	}
	*copy = *rq;
	w->rq = copy;
	commit_pump(n, f, fx);
}

void node_file_flush_done(struct node *n, struct fwait *w, int32_t err, struct effects *fx)
{
	w->need_flush = false;
	if (err)
		w->err = err;
	wait_done(n, w, fx);
}

/* ------------------------------------------------------------------ open and close */

void node_file_open_send(struct node *n, struct file *f, struct effects *fx)
{
	struct fs_request *rq = &n->scratch_rq;

	node_reopen_asks(n, f);
	memset(rq, 0, sizeof(*rq));
	rq->op = FS_OPEN;
	rq->ino = f->ino;
	rq->time_ns = n->wall_ns;
	node_ask(n, CQ_OPEN, 0, rq, fx);
}

void node_file_open(struct node *n, uint64_t tag, const struct fs_request *rq, struct effects *fx)
{
	struct file *f = node_file_find(n, rq->ino);
	struct creq *q;

	node_lost_opens(n, rq);
	if (f && f->st == FILE_OPEN) {
		bool lives = fs_is_life(rq->generation, f->generation);

		if (!lives || !node_reopen_due(n, f)) {
			f->opens += lives;
			node_reply_err(n, tag, lives ? 0 : -ESTALE, fx);
			return;
		}
	}
	q = mem_alloc(n->mem, sizeof(*q));
	if (q && !f) {
		f = node_file_new(n, rq->ino);
		if (f)
			node_file_open_send(n, f, fx);
		f = node_file_find(n, rq->ino); /* without memory it is gone again */
	}
	if (!q || !f) {
		mem_free(n->mem, q, sizeof(*q));
		node_reply_err(n, tag, -ENOMEM, fx);
		return;
	}
	q->kind = CQ_KERNEL;
	q->tag = tag;
	q->generation = rq->generation;
	q->since_ns = n->now_ns;
	list_add_tail(&q->link, &f->open_waiters);
	if (f->st == FILE_OPEN)
		node_reopen_waits(n, f, fx);
}

bool node_file_created(struct node *n, struct creq *q, struct fs_reply *rp, struct effects *fx)
{
	struct file *f = node_file_find(n, rp->attr.ino);

	if (f && f->st != FILE_OPEN) {
		if (q->tag) {
			q->generation = (uint32_t)(rp->attr.generation & FS_GENERATION_MASK);
			list_add_tail(&q->link, &f->open_waiters);
		}
		return q->tag;
	}
	if (!f)
		f = node_file_new(n, rp->attr.ino);
	/* The coordinator thinks it open; our next CLOSE of it puts that right. It is not: a handle that is not counted loses its file. */
	if (!f) {
		rp->err = -ENOMEM;
		return false;
	}
	f->opens++;
	if (f->st == FILE_OPENING) {
		node_reopen_asks(n, f);
		node_file_open_reply(n, f->ino, rp, fx);
	}
	return false;
}

static void layout_close_gate(struct node *n, struct file *f, struct effects *fx)
{
	struct effect *e = effects_add(fx, FX_LAYOUT_CLOSE, 0);

	e->layout.ino = f->ino;
	/* Of a file that is closed without one nothing is held, and none is to be reclaimed. */
	f->voided |= f->layout == LAYOUT_NONE;
	f->layout = LAYOUT_DRAINING;
}

static void close_send(struct node *n, struct file *f, struct effects *fx)
{
	struct fs_request *rq = &n->scratch_rq;

	memset(rq, 0, sizeof(*rq));
	rq->op = FS_CLOSE;
	rq->ino = f->ino;
	rq->time_ns = n->wall_ns;
	node_ask(n, CQ_CLOSE, 0, rq, fx);
}

/*
 * A process that was killed may have asked for a layout, and the coordinator grant it still. Behind the CLOSE that
 * would be a layout of a file that is not open: the next coordinator would not hear of it.
 */
static bool asks_layout(struct node *n, uint64_t ino)
{
	list_for_each_entry (q, &n->creqs, struct creq, link) {
		if (q->kind == CQ_LAYOUT && q->ino == ino)
			return true;
	}
	return false;
}

/*
 * The layout goes back when drained and committed; a closing file is closed with it, unless it is still asked for:
 * then it goes back first, for the answer may wait for that.
 */
static void layout_advance(struct node *n, struct file *f, struct effects *fx)
{
	struct fs_request *rq = &n->scratch_rq;

	if (f->layout == LAYOUT_COMMITTING && !f->commit_in_flight && nothing_to_commit(f)) {
		f->layout = LAYOUT_RETURNING;
		if (f->st == FILE_CLOSING && !asks_layout(n, f->ino)) {
			close_send(n, f, fx);
			return;
		}
		memset(rq, 0, sizeof(*rq));
		rq->op = FS_LAYOUT_RETURN;
		rq->ino = f->ino;
		rq->time_ns = n->wall_ns;
		node_ask(n, CQ_RETURN, 0, rq, fx);
	}
}

void node_file_unasked(struct node *n, uint64_t ino, struct effects *fx)
{
	struct file *f = node_file_find(n, ino);

	/* A recall of what we do not hold: in the next session it comes again. */
	if (!f || f->layout != LAYOUT_RETURNING) {
		if (n->coord)
			session_drop(n->coord, "no memory to answer a recall: starts over", fx);
		return;
	}
	trace(n->trace, TRACE_WARN, "no memory to give ino %lx back: later", ino);
	f->layout = LAYOUT_COMMITTING;
	commit_later(n, f, n->now_ns + ASK_AGAIN_NS);
}

/* The last handle of this node is gone. */
static void closed_here(struct node *n, struct file *f, struct effects *fx)
{
	f->st = FILE_CLOSING;
	switch (f->layout) {
	case LAYOUT_NONE:
	case LAYOUT_KEPT:
		layout_close_gate(n, f, fx);
		break;
	case LAYOUT_DRAINING:
	case LAYOUT_COMMITTING:
	case LAYOUT_RETURNING:
		break; /* a recall is on its way; closing follows it */
	}
}

void node_file_open_reply(
	struct node *n, uint64_t ino, const struct fs_reply *rp, struct effects *fx)
{
	struct file *f = node_file_find(n, ino);

	bool first = f && f->st == FILE_OPENING;

	if (!f || (!first && !f->reopening))
		return;
	f->reopening = false;
	if (!rp->err) {
		f->st = FILE_OPEN;
		f->generation = first ? rp->attr.generation : f->generation;
		f->departures = f->asked_departures;
		seen(f, &rp->attr);
		if (!list_empty(&f->open_waiters) && node_reopen_due(n, f)) {
			node_reopen_waits(n, f, fx);
			return;
		}
	}
	list_for_each_entry_safe (q, tmp, &f->open_waiters, struct creq, link) {
		int32_t err = rp->err;

		if (!err && !fs_is_life(q->generation, f->generation))
			err = -ESTALE;
		list_del(&q->link);
		f->opens += !node_due_open(n, q, err, rp, fx);
	}
	if (!rp->err || !first) {
		if (!f->opens)
			closed_here(n, f, fx); /* whoever wanted it was killed, or meant another life */
		return;
	}
	/* No handle came of it, so there is nothing of ours to commit. */
	list_for_each_entry_safe (w, tmp, &f->waits, struct fwait, link)
		wait_committed(n, w, fx);
	node_file_free(n, f);
}

void node_file_close(struct node *n, uint64_t tag, const struct fs_request *rq, struct effects *fx)
{
	/* The kernel does not wait for a RELEASE. */
	node_reply_err(n, tag, 0, fx);
	node_lost_closed(n, rq);
	node_file_close_one(n, rq->ino, fx);
}

void node_file_close_one(struct node *n, uint64_t ino, struct effects *fx)
{
	struct file *f = node_file_find(n, ino);

	if (f && f->opens && !--f->opens && !f->reopening)
		closed_here(n, f, fx);
}

void node_file_close_all(struct node *n, struct effects *fx)
{
	for (unsigned b = 0; b < FILE_BUCKETS && n->files.count; b++) {
		list_for_each_entry_safe (f, tmp, &n->files.bucket[b], struct file, hash) {
			if (!effects_room(fx, 16, 64u << 10))
				return;
			if (f->st != FILE_OPEN)
				continue;
			f->opens = 0;
			if (!f->reopening)
				closed_here(n, f, fx);
		}
	}
}

static void drained(struct node *n, struct file *f, struct effects *fx)
{
	if (f->layout != LAYOUT_DRAINING)
		return;
	f->layout = LAYOUT_COMMITTING;
	if (!commit_pump(n, f, fx))
		layout_advance(n, f, fx);
}

void node_file_layout_event(struct node *n, const struct event *ev, struct effects *fx)
{
	struct file *f = node_file_find(n, ev->ino);

	/* ino 0, the whole volume: io_mode.c's. */
	if (!f)
		return;
	if (ev->type == EV_DRAINED)
		drained(n, f, fx);
	else
		shed(n, f, "too much is known", fx);
}

static void layout_drop(struct node *n, struct file *f, struct effects *fx)
{
	struct effect *e = effects_add(fx, FX_LAYOUT_DROP, 0);

	e->layout.ino = f->ino;
	f->layout = LAYOUT_NONE;
	f->recalled = f->voided = false;
	node_range_clear(n, &f->owned);
	node_range_clear(n, &f->edges);
}

void node_file_return_reply(struct node *n, uint64_t ino, struct effects *fx)
{
	struct file *f = node_file_find(n, ino);

	if (!f || f->layout != LAYOUT_RETURNING)
		return;
	layout_drop(n, f, fx);
	/* Closed by the last handle while the recall was answered. */
	if (f->st == FILE_CLOSING && !asks_layout(n, ino))
		layout_close_gate(n, f, fx);
}

void node_file_close_reply(struct node *n, uint64_t ino, struct effects *fx)
{
	struct file *f = node_file_find(n, ino);

	if (!f || f->st != FILE_CLOSING)
		return;
	layout_drop(n, f, fx);
	f->writes = false;
	if (list_empty(&f->open_waiters)) {
		node_file_free(n, f);
		return;
	}
	f->st = FILE_OPENING;
	node_file_open_send(n, f, fx);
}

void node_file_recall(struct node *n, uint64_t ino, struct effects *fx)
{
	struct file *f = node_file_find(n, ino);
	struct fs_request *rq = &n->scratch_rq;

	if (f && f->layout == LAYOUT_KEPT) {
		f->recalled = true;
		layout_close_gate(n, f, fx);
		return;
	}
	if (f && f->layout != LAYOUT_NONE)
		return; /* it is on its way back */
	/* We hold nothing (the grant was lost with a session, or it crossed our return): say so. */
	memset(rq, 0, sizeof(*rq));
	rq->op = FS_LAYOUT_RETURN;
	rq->ino = ino;
	rq->time_ns = n->wall_ns;
	node_ask(n, CQ_RETURN, 0, rq, fx);
}

static bool gives_layout_back(const struct node *n, uint64_t ino)
{
	list_for_each_entry (q, &n->creqs, struct creq, link) {
		if (q->kind == CQ_RETURN && q->ino == ino)
			return true;
	}
	return false;
}

/* False: there is no memory for it. The data path was told nothing of it then, and must not take it for an answer. */
static bool layout_take(struct node *n, struct file *f, const struct fs_request *rq,
	const struct fs_reply *rp, struct effects *fx)
{
	struct effect *e;
	uint64_t start, end;

	/* Granted before the return was seen: what is returned covers it. Also if it says that we hold nothing. */
	if (f->layout != LAYOUT_KEPT && (f->layout != LAYOUT_NONE || gives_layout_back(n, f->ino)))
		return true;
	f->layout = LAYOUT_KEPT;
	for (uint32_t i = 0; i < rp->extent_count; i++) {
		const struct fs_extent *x = &rp->extents[i];

		if ((x->state == EXT_UNWRITTEN && !node_range_insert(n, &f->owned, x->off, x->len)) ||
			(x->edge && !node_range_insert(n, &f->edges, x->off, x->len))) {
			trace(n->trace, TRACE_ERROR, "no memory for the layout of ino %lx", f->ino);
			return false;
		}
	}
	start = rp->extent_count ? rp->extents[0].off : rq->off;
	end = rp->extent_count ? rp->extents[rp->extent_count - 1].off +
					 rp->extents[rp->extent_count - 1].len
			       : rq->off;
	e = effects_add(fx, FX_LAYOUT_PUT, 0);
	e->layout.ino = f->ino;
	e->layout.off = start;
	e->layout.len = end - start;
	e->layout.size = rp->attr.size;
	e->layout.shown = rp->off;
	e->layout.version = rp->attr.version;
	e->layout.extent_count = rp->extent_count;
	e->layout.extents = rp->extents;
	return true;
}

int node_file_layout_reply(struct node *n, uint64_t ino, const struct fs_request *rq,
	const struct fs_reply *rp, struct effects *fx)
{
	struct file *f = node_file_find(n, ino);
	int err = rp->err;

	if (!f)
		return err;
	if (!err && !layout_take(n, f, rq, rp, fx))
		err = -ENOMEM;
	/* It was waited for: see asks_layout(). */
	if (f->st == FILE_CLOSING && (f->layout == LAYOUT_KEPT ||
					     (f->layout == LAYOUT_NONE && !asks_layout(n, ino))))
		layout_close_gate(n, f, fx);
	return err;
}

/*
 * At once, not when drained: what is inside was planned on extents that may be another's by now. The data
 * path plans it anew when it comes back, whatever became of it.
 */
static void forget_layout(struct node *n, struct file *f, struct effects *fx)
{
	if (!list_empty(&f->dirty) || !list_empty(&f->due) || !list_empty(&f->flying)) {
		trace(n->trace, TRACE_ERROR,
			"first writes of ino %lx were not committed, and are lost", f->ino);
		say_lost(f, &f->waits);
		node_lost_tell(f, &f->flying_waits);
	}
	node_range_clear(n, &f->dirty);
	node_range_clear(n, &f->due);
	/* The commit that is out says nothing of them any more (client_void_commits): its answer takes none from what is ours by then. */
	node_range_clear(n, &f->flying);
	node_range_clear(n, &f->owned);
	node_range_clear(n, &f->edges);
	/* Nor how long the file is. Who was answered has that committed, and others may have made it shorter since. */
	f->size = f->flying_size = 0;
	f->recalled = false;
	if (f->st == FILE_OPEN) {
		f->layout = LAYOUT_NONE;
		return;
	}
	/* On its way out, with nothing inside: the close that is to come, or was sent, ends it. */
	f->voided = true;
	if (f->layout == LAYOUT_RETURNING)
		return;
	f->layout = LAYOUT_COMMITTING;
	if (!commit_pump(n, f, fx))
		layout_advance(n, f, fx);
}

void node_file_forget_layouts(struct node *n, struct effects *fx)
{
	/*
	 * One for all of them, of which there may be more than effects in a step. Also of those without one: there it may be known that
	 * we are a writer (rule 14 of dp.h), which the coordinator does not know any more.
	 */
	effects_add(fx, FX_LAYOUT_DROP, 0)->layout.ino = 0;
	n->files.at = NULL;
	for (struct file *f; (f = node_file_walk(n));) {
		if (f->layout != LAYOUT_NONE)
			forget_layout(n, f, fx);
	}
}

static void expire(struct node *n, struct list *waits, uint64_t before_ns, struct effects *fx)
{
	list_for_each_entry_safe (w, tmp, waits, struct fwait, link) {
		/* A flush that is out knows of it, and has a limit of its own. So has the coordinator that asked for times. */
		if (w->need_flush || w->kind == FWAIT_TIMES || w->since_ns >= before_ns || !effects_room(fx, 4, 4096))
			continue;
		w->err = -EIO;
		wait_committed(n, w, fx);
	}
}

/* The OPEN goes on, as if they had been killed. */
static void expire_opens(struct node *n, struct file *f, uint64_t before_ns, struct effects *fx)
{
	list_for_each_entry_safe (q, tmp, &f->open_waiters, struct creq, link) {
		if (q->since_ns >= before_ns || !effects_room(fx, 4, 4096))
			return;
		list_del(&q->link);
		node_reply_err(n, q->tag, -EIO, fx);
		mem_free(n->mem, q, sizeof(*q));
	}
}

void node_file_expire(struct node *n, uint64_t before_ns, struct effects *fx)
{
	for (struct file *f = node_file_next(n, NULL); f; f = node_file_next(n, f)) {
		expire_opens(n, f, before_ns, fx);
		expire(n, &f->waits, before_ns, fx);
		expire(n, &f->flying_waits, before_ns, fx);
	}
}

void node_file_step(struct node *n, uint64_t now_ns, struct effects *fx)
{
	if (now_ns < n->file_deadline_ns)
		return;
	n->file_deadline_ns = NEVER;
	n->files.at = NULL;
	for (struct file *f; (f = node_file_walk(n));) {
		if (commit_pump(n, f, fx))
			continue;
		layout_advance(n, f, fx);
		if (!f->commit_in_flight && f->commit_at_ns < n->file_deadline_ns)
			n->file_deadline_ns = f->commit_at_ns;
	}
}

uint64_t node_file_deadline(const struct node *n)
{
	return n->file_deadline_ns;
}

void node_file_check(const struct node *n)
{
	for (unsigned i = 0; i < FILE_BUCKETS; i++) {
		list_for_each_entry (f, &n->files.bucket[i], struct file, hash) {
			csv_assert(f->st != FILE_OPENING || f->layout == LAYOUT_NONE); /* F1 */
			csv_assert(f->st == FILE_OPEN || !f->reopening); /* F4 */
			csv_assert(
				f->layout != LAYOUT_RETURNING || list_empty(&f->flying)); /* F2 */
			csv_assert(f->commit_in_flight || list_empty(&f->flying_waits)); /* F3 */
		}
	}
}
