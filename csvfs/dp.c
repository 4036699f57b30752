/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dp.c - see dp.h for the rules, the verdicts and the invariants.
 *
 *        +--> ASK ----+                        +--> LATER --> READY --+
 *        +--> APPEND -+ (planned again)        |                      |
 *  NEW --+--> PARKED --> READY --> (again)     |                      v
 *        +----------------------------------> IO / CORE <-------------+
 *        |                                     |   both phases of a write with edges
 *        |                                     +--> COMMIT --+
 *        +--> ENDED <--------------------------+-------------+
 *
 * Only IO, CORE, LATER, COMMIT (and READY out of LATER) are inside the file's gate.
 */
#include "csvfs/dp.h"

#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/dp_int.h"

static bool move_ok(enum dp_state from, enum dp_state to)
{
#define S(s) (1u << DP_ST_##s)
	static const uint32_t allowed[] = {
		[DP_ST_NEW] = S(ASK) | S(APPEND) | S(PARKED) | S(IO) | S(CORE) | S(ENDED),
		[DP_ST_ASK] = S(ASK) | S(APPEND) | S(PARKED) | S(IO) | S(CORE) | S(ENDED),
		[DP_ST_APPEND] = S(ASK) | S(APPEND) | S(PARKED) | S(IO) | S(CORE) | S(ENDED),
		[DP_ST_PARKED] = S(READY) | S(ENDED),
		[DP_ST_READY] = S(ASK) | S(APPEND) | S(PARKED) | S(IO) | S(CORE) | S(ENDED),
		[DP_ST_LATER] = S(READY) | S(ENDED),
		[DP_ST_IO] = S(IO) | S(CORE) | S(LATER) | S(COMMIT) | S(ENDED) | S(NEW),
		[DP_ST_CORE] = S(IO) | S(CORE) | S(LATER) | S(COMMIT) | S(ENDED) | S(NEW),
		[DP_ST_COMMIT] = S(ENDED) | S(NEW),
		[DP_ST_ENDED] = 0,
	};
#undef S
	return (allowed[from] >> to) & 1;
}

static void set_state(struct dp *dp, struct dp_op *op, enum dp_state st)
{
	csv_assert(move_ok(op->state, st));
	if (op->state == DP_ST_IO) {
		csv_assert(dp->direct_count > 0);
		dp->direct_count--;
		if (!dp->direct_count && dp->gate == GATE_CLOSED)
			dp->volume_drained = true;
	}
	if (st == DP_ST_IO)
		dp->direct_count++;
	op->state = st;
}

/* ------------------------------------------------------------------ files */

static struct dp_file *file_of(struct layout_file *lf)
{
	return lf ? container_of(lf, struct dp_file, lf) : NULL;
}

static struct dp_file *file_get(struct dp *dp, uint64_t ino)
{
	bool is_new;
	struct dp_file *f = file_of(layout_file_get(&dp->layout, ino, &is_new));

	if (f && is_new) {
		list_init(&f->inside);
		list_init(&f->waiting);
		list_init(&f->asking);
		list_init(&f->appends);
		list_init(&f->drained);
		list_init(&f->tlink);
		list_init(&f->ulink);
		f->clean = NO_CLUSTER;
	}
	return f;
}

/* A file stays while something is known of it, owed to it, or somebody is busy with it. */
static void file_put(struct dp *dp, struct dp_file *f)
{
	if (f->lf.count || f->lf.size_known || f->lf.closed || f->touched)
		return;
	if (f->op_count || !list_empty(&f->drained))
		return;
	layout_file_free(&dp->layout, &f->lf);
}

static void owe_drained(struct dp *dp, struct dp_file *f)
{
	if (f->lf.closed && !f->inside_count && !f->answered_count && list_empty(&f->drained))
		list_add_tail(&f->drained, &dp->drained);
}

/* ------------------------------------------------------------------ locks */

void dp_unpark(struct dp *dp, struct dp_op *op)
{
	if (op->cause == DP_BY_LOCK)
		op->file->lock_waiters--;
	list_del(&op->link);
	list_del(&op->hlink);
	set_state(dp, op, DP_ST_READY);
	list_add_tail(&op->link, &dp->ready);
}

void dp_wake_lock_waiters(struct dp *dp, struct dp_file *f)
{
	if (!f->lock_waiters)
		return;
	list_for_each_entry_safe(op, tmp, &f->waiting, struct dp_op, link) {
		if (op->cause == DP_BY_LOCK && !dp_plan_must_wait(f, op))
			dp_unpark(dp, op);
	}
}

static void wake(struct dp *dp, struct dp_file *f, enum dp_cause cause)
{
	list_for_each_entry_safe(op, tmp, &f->waiting, struct dp_op, link) {
		if (op->cause == cause)
			dp_unpark(dp, op);
	}
}

static void unlock(struct dp *dp, struct dp_op *op)
{
	struct dp_file *f = op->file;

	if (!op->locked)
		return;
	op->locked = false;
	if (op->exclusive)
		f->exclusive_count--;
	dp_wake_lock_waiters(dp, f);
}

/* ------------------------------------------------------------------ ends */

static void leave(struct dp *dp, struct dp_op *op)
{
	struct dp_file *f = op->file;

	if (op->promised)
		layout_unpromise(&dp->layout);
	op->promised = false;
	unlock(dp, op);
	if (!op->inside)
		return;
	op->inside = false;
	if (op->given_up)
		f->given_up_count--;
	op->given_up = false;
	list_del(&op->ilink);
	csv_assert(f->inside_count > 0);
	f->inside_count--;
	owe_drained(dp, f);
}

/* Rule 13. */
static void append_ends(struct dp *dp, struct dp_op *op)
{
	if (list_empty(&op->alink))
		return;
	list_del(&op->alink);
	op->note_appended = op->placed;
	wake(dp, op->file, DP_BY_APPEND);
}

static enum dp_verdict ask_place(struct dp *dp, struct dp_op *op)
{
	struct dp_file *f = op->file;

	set_state(dp, op, DP_ST_APPEND);
	if (list_empty(&op->alink))
		list_add_tail(&op->alink, &f->appends);
	dp_place_asked(dp, op);
	return DP_NEED_APPEND;
}

static enum dp_verdict end(struct dp *dp, struct dp_op *op, int32_t result)
{
	append_ends(dp, op);
	if (op->inside && op->io_write && result < 0)
		dp_plan_failed(op);
	leave(dp, op);
	set_state(dp, op, DP_ST_ENDED);
	op->result = result;
	op->file->op_count--;
	file_put(dp, op->file);
	op->file = NULL;
	return DP_DONE;
}

/* The op comes in sorted by its age: who waited before and must wait again keeps its place. */
static enum dp_verdict park(struct dp *dp, struct dp_op *op, enum dp_cause cause)
{
	struct list *at = &op->file->waiting;

	set_state(dp, op, DP_ST_PARKED);
	op->cause = cause;
	if (cause == DP_BY_LOCK)
		op->file->lock_waiters++;
	while (at->prev != &op->file->waiting &&
		list_entry(at->prev, struct dp_op, link)->seq > op->seq)
		at = at->prev;
	list_add_tail(&op->link, at);
	dp_hold_parked(dp, op);
	return DP_WAIT;
}

static enum dp_verdict ask(struct dp *dp, struct dp_op *op)
{
	struct dp_file *f = op->file;

	/*
	 * A question under way that covers ours is ours too. Not for a read: the answer may be
	 * older than the read, and a hole that was filled in between would read as zero.
	 */
	list_for_each_entry(o, &f->asking, struct dp_op, link) {
		if (op->need_write && o->need_write && o->need_edge >= op->need_edge &&
			o->need_off <= op->need_off &&
			o->need_off + o->need_len >= op->need_off + op->need_len)
			return park(dp, op, DP_BY_ASK);
	}
	/* The coordinator grants ahead: the first answers often cover what the others want to ask. */
	if (f->ask_count >= DP_ASKS_MAX)
		return park(dp, op, DP_BY_ASK);
	/* Each answer brings something; if not, the coordinator and we do not mean the same. */
	if (op->need_off != op->last_need_off || f->lf.drops != op->last_drops)
		op->asks = 0;
	op->last_need_off = op->need_off;
	op->last_drops = f->lf.drops;
	if (++op->asks > DP_ASKS_IN_VAIN)
		return end(dp, op, -EIO);
	set_state(dp, op, DP_ST_ASK);
	list_add_tail(&op->link, &f->asking);
	f->ask_count++;
	return DP_NEED_LAYOUT;
}

/* ------------------------------------------------------------------ going inside */

enum gate dp_gate_now(const struct dp *dp, uint64_t now_ns)
{
	return dp->gate == GATE_DIRECT && now_ns < dp->lease_ns ? GATE_DIRECT : GATE_CLOSED;
}

/* In place and to be durable: the write itself can say so, and no commit is needed (rule 8). */
static bool wants_fua(const struct dp_op *op)
{
	return op->io_write && (op->sync || op->dsync);
}

/* Rule 10. */
static bool is_lost(const struct dp *dp, const struct dp_op *op)
{
	const struct dp_handle *h = op->handle && dp->handle_count ? dp_handle_find(dp, op->handle) : NULL;

	return op->handle && ((h && h->lost) || op->handle <= dp->lost_upto);
}

/* What it was planned on is not known to be ours any more. */
static bool is_void(const struct dp *dp, const struct dp_op *op)
{
	return op->drops != op->file->lf.drops || op->rights != dp->rights || is_lost(dp, op);
}

static enum dp_verdict enter(struct dp *dp, struct dp_op *op, bool unknown, struct dp_now now)
{
	struct dp_file *f = op->file;

	if (!op->inside) {
		op->inside = true;
		op->drops = f->lf.drops;
		op->rights = dp->rights;
		list_add_tail(&op->ilink, &f->inside);
		f->inside_count++;
	}
	op->io_fua = wants_fua(op);
	op->io_told = unknown && op->io_unknown;
	op->io_unknown = unknown;
	op->io_refused = unknown && !op->io_write && dp_gate_now(dp, now.now_ns) == GATE_DIRECT;
	op->sent_ns = now.now_ns;
	op->tried |= op->placed && op->io_write && !op->tail && dp_plan_in_written(op);
	if (!unknown && dp_gate_now(dp, now.now_ns) == GATE_DIRECT) {
		set_state(dp, op, DP_ST_IO);
		return DP_SUBMIT;
	}
	set_state(dp, op, DP_ST_CORE);
	return DP_HANDOVER;
}

static enum dp_verdict end_read(struct dp *dp, struct dp_op *op, struct dp_now now);

/*
 * Rule 15. True: what we know stands now: the lease runs, or the coordinator has just been asked. Else others may have written, since
 * we were given up, where we believe that there is nothing.
 */
static bool stands(const struct dp *dp, const struct dp_op *op, struct dp_now now)
{
	return op->asked || dp->cfg.sole_node || dp_gate_now(dp, now.now_ns) == GATE_DIRECT;
}

/* Rule 17. While we know nothing of the file it may have its place still: `known` is what the layout tells. */
static bool is_misplaced(const struct dp *dp, const struct dp_op *op, uint64_t known)
{
	return op->placed && op->place_rights != dp->rights && (!op->place_version_1 || op->place_version_1 != known);
}

static enum dp_verdict place_anew(struct dp *dp, struct dp_op *op)
{
	if (op->tried)
		return end(dp, op, -EIO);
	op->placed = op->asked = false;
	op->note_appended = true;
	return ask_place(dp, op);
}

/* `answered`: a closed gate does not keep it out, as far as what was granted is enough (rule 5). */
static enum dp_verdict plan_as(struct dp *dp, struct dp_op *op, bool answered, struct dp_now now)
{
	struct dp_file *f = op->file;
	enum plan p;

	if (is_lost(dp, op))
		return end(dp, op, -EIO);
	/* Before anything is planned, which takes locks. Of what nothing is known it is asked first, and seen then. */
	if (is_misplaced(dp, op, f->lf.size_known ? f->version_1 : op->place_version_1))
		return place_anew(dp, op);
	if (dp->paused && !answered && !op->placed)
		return park(dp, op, DP_BY_PAUSE);
	/* With one node the kernel holds the file's lock and knows its end. */
	if (op->write && op->append && !op->placed && !dp->cfg.sole_node)
		return ask_place(dp, op);
	dp_shed_used(dp, f);
	if (f->lf.closed && !answered)
		return park(dp, op, DP_BY_GATE);
	op->retries = 0;
	p = dp_plan(dp, op);
	if (p == PLAN_NOTHING && op->len && !stands(dp, op, now))
		p = dp_plan_ask(op);
	switch (p) {
	case PLAN_IO:
		return enter(dp, op, false, now);
	case PLAN_NOTHING:
		return op->write ? end(dp, op, op->result) : end_read(dp, op, now);
	case PLAN_ASK:
		return f->lf.closed ? park(dp, op, DP_BY_GATE) : ask(dp, op);
	case PLAN_LOCKED:
		return park(dp, op, f->lf.closed ? DP_BY_GATE : DP_BY_LOCK);
	case PLAN_APPEND:
		op->waited = true;
		return park(dp, op, DP_BY_APPEND);
	case PLAN_NOMEM:
		return end(dp, op, -ENOMEM);
	}
	csv_assert(!"a plan");
	return DP_DONE;
}

static enum dp_verdict plan(struct dp *dp, struct dp_op *op, struct dp_now now)
{
	return plan_as(dp, op, false, now);
}

/* The layout went away while it was inside: what was done, was done to space that is not ours now. */
static enum dp_verdict replan(struct dp *dp, struct dp_op *op, struct dp_now now)
{
	leave(dp, op);
	set_state(dp, op, DP_ST_NEW);
	op->asked = false;
	return plan(dp, op, now);
}

/* Behind the last byte that a file can have, as at any file's end: a read finds nothing, a write is cut. */
static int check_op(struct dp_op *op)
{
	if (op->len > IO_BYTES_MAX)
		return -EINVAL;
	if (op->off >= FILE_BYTES_MAX && op->len && op->write)
		return -EFBIG;
	if (op->off >= FILE_BYTES_MAX)
		op->len = 0;
	else if (op->len > FILE_BYTES_MAX - op->off)
		op->len = (uint32_t)(FILE_BYTES_MAX - op->off);
	return 0;
}

static enum dp_verdict begin_new(struct dp *dp, struct dp_op *op, struct dp_now now)
{
	int err = check_op(op);

	op->seq = ++dp->seq;
	op->begun_ns = now.now_ns;
	list_init(&op->link);
	list_init(&op->ilink);
	list_init(&op->hlink);
	list_init(&op->alink);
	if (err || !op->len) {
		op->state = DP_ST_ENDED;
		op->result = err;
		return DP_DONE;
	}
	/* Before it is asked for its place: that alone makes the file longer. */
	op->file = is_lost(dp, op) ? NULL : file_get(dp, op->ino);
	if (!op->file) {
		op->state = DP_ST_ENDED;
		op->result = is_lost(dp, op) ? -EIO : -ENOMEM;
		return DP_DONE;
	}
	op->file->op_count++;
	return plan(dp, op, now);
}

enum dp_verdict dp_begin(struct dp *dp, struct dp_op *op, struct dp_now now)
{
	if (op->state == DP_ST_NEW)
		return begin_new(dp, op, now);
	csv_assert(op->state == DP_ST_READY);
	if (op->overdue)
		return end(dp, op, -EIO);
	if (op->inside && (dp_may_land(op) || !is_void(dp, op)))
		return enter(dp, op, dp_may_land(op), now);
	if (op->inside)
		leave(dp, op);
	return plan(dp, op, now);
}

/* ------------------------------------------------------------------ completion */

/* Told at once, then at most every DP_TOUCH_NS: the last one within that time. */
static void tell_soon(struct dp *dp, struct dp_file *f, struct dp_op *op, struct dp_now now)
{
	if (f->touched)
		return;
	if (f->told_ns && dp_since(now.now_ns, f->told_ns) < DP_TOUCH_NS) {
		f->touched = true;
		f->touch_due_ns = now.now_ns + DP_TOUCH_NS;
		list_add_tail(&f->tlink, &dp->touched);
		return;
	}
	f->told_ns = now.now_ns;
	op->note_mtime_ns = f->touched_wall_ns;
	op->note_atime_ns = f->read_wall_ns;
	f->touched_wall_ns = f->read_wall_ns = 0;
	op->note_touched = true;
}

static void note_touched(struct dp *dp, struct dp_file *f, struct dp_op *op, struct dp_now now)
{
	f->touched_wall_ns = now.wall_ns;
	tell_soon(dp, f, op, now);
}

/* The core knows which reads set atime; here those are dropped that cannot. */
static void note_read(struct dp *dp, struct dp_file *f, struct dp_op *op, struct dp_now now)
{
	if (!op->atime || (!f->changed && f->read_noted_ns && dp_since(now.now_ns, f->read_noted_ns) < DP_READ_NS))
		return;
	f->changed = false;
	f->read_noted_ns = now.now_ns;
	f->read_wall_ns = now.wall_ns;
	tell_soon(dp, f, op, now);
}

static enum dp_verdict end_read(struct dp *dp, struct dp_op *op, struct dp_now now)
{
	note_read(dp, op->file, op, now);
	return end(dp, op, op->result);
}

static enum dp_verdict written(struct dp *dp, struct dp_op *op, struct dp_now now)
{
	struct dp_file *f = op->file;
	uint64_t cs = dp->cfg.cluster_bytes, end_off = op->off + op->len;

	f->changed = true;
	op->tried = true;
	dp_plan_wrote(dp, op);
	op->range.ino = op->ino;
	op->range.mtime_ns = now.wall_ns;
	op->range.size = end_off;
	op->range.off = op->range.len = 0;
	if (op->first) {
		op->range.off = dp_round_down(op->img_off, cs);
		op->range.len = dp_round_up(op->img_off + op->img_len, cs) - op->range.off;
		layout_written(&dp->layout, &f->lf, op->range.off, op->range.len);
		op->promised = false;
	}
	unlock(dp, op);
	op->note_written = op->first;
	if (end_off > f->lf.size || op->sync || (op->dsync && op->first)) {
		set_state(dp, op, DP_ST_COMMIT);
		return DP_COMMIT;
	}
	if (!op->first)
		note_touched(dp, f, op, now);
	if (op->dsync) {
		/*
		 * In place and durable, but an earlier first write may have made the place, and that it is
		 * written may not be committed: without that it reads as zero after a crash (invariant 16).
		 */
		op->range.size = 0;
		op->range.mtime_ns = 0;
		set_state(dp, op, DP_ST_COMMIT);
		return DP_COMMIT;
	}
	return end(dp, op, (int32_t)op->len);
}

/*
 * Rule 4: the gap is zero, and the write begins. It stays inside, where it got in with the right to the tail: that it is
 * recalled by now must not send it back to where it began, again and again.
 */
static enum dp_verdict tail_zeroed(struct dp *dp, struct dp_op *op, struct dp_now now)
{
	dp_plan_zeroed(dp, op);
	unlock(dp, op);
	if (dp_plan(dp, op) == PLAN_IO)
		return enter(dp, op, false, now);
	leave(dp, op);
	set_state(dp, op, DP_ST_NEW);
	return plan(dp, op, now);
}

static enum dp_verdict io_ok(struct dp *dp, struct dp_op *op, struct dp_now now)
{
	op->retries = 0;
	if (is_void(dp, op))
		return replan(dp, op, now);
	if (!op->write)
		return end_read(dp, op, now);
	if (op->edges) {
		dp_plan_map_write(op);
		return enter(dp, op, false, now);
	}
	return op->tail ? tail_zeroed(dp, op, now) : written(dp, op, now);
}

static enum dp_verdict later(struct dp *dp, struct dp_op *op, uint64_t at_ns)
{
	op->not_before_ns = at_ns;
	set_state(dp, op, DP_ST_LATER);
	list_add_tail(&op->link, &dp->later);
	return DP_WAIT;
}

/*
 * Rule 7: at once three times (a unit attention tells once), then with growing pauses. Seconds alone say nothing: each
 * may have been at a slow LUN until a reset ended it.
 */
static enum dp_verdict io_again(struct dp *dp, struct dp_op *op, struct dp_now now)
{
	uint64_t pause_ns;

	if (is_void(dp, op))
		return replan(dp, op, now);
	if (!op->retries)
		op->retry_since_ns = now.now_ns;
	op->retries++;
	if (op->retries <= 3)
		return enter(dp, op, false, now);
	/* Nothing of it is under way: its wait can be ended. */
	if (!op->io_write && dp_hold_over(dp, op, now.now_ns))
		return end(dp, op, -EIO);
	/* What was refused for most of the time says nothing of the place. */
	if (dp_since(now.now_ns, op->retry_since_ns) > DP_RETRY_NS)
		return op->failing_since_ns && dp_since(now.now_ns, op->failing_since_ns) > DP_RETRY_NS / 2
			       ? end(dp, op, -EIO)
			       : enter(dp, op, true, now);
	pause_ns = NS_PER_MS << (op->retries < 10 ? op->retries - 4 : 6);
	return later(dp, op, now.now_ns + pause_ns);
}

/* With pauses from the first time on. */
static enum dp_verdict io_pauses(struct dp *dp, struct dp_op *op, uint64_t since_ns, struct dp_now now)
{
	if (!op->retries)
		op->retry_since_ns = since_ns;
	if (op->retries < 3)
		op->retries = 3;
	return io_again(dp, op, now);
}

/*
 * A read that nobody knows the outcome of has changed nothing. Either the path is lost, and the gate closes in a moment; or this
 * target answers so: then the core, which has no reason to close anything, would give it back at once.
 */
static enum dp_verdict read_unknown(struct dp *dp, struct dp_op *op, struct dp_now now)
{
	if (dp_gate_now(dp, now.now_ns) != GATE_DIRECT)
		return enter(dp, op, true, now);
	return io_pauses(dp, op, now.now_ns, now);
}

enum dp_verdict dp_done(struct dp *dp, struct dp_op *op, enum lun_status status, struct dp_now now)
{
	csv_assert(op->state == DP_ST_IO);
	csv_assert(op->inside);
	op->io_conflict = status == LUN_CONFLICT;
	if (status != LUN_FAILING)
		op->failing_since_ns = 0;
	else if (!op->retries || !op->failing_since_ns)
		op->failing_since_ns = op->sent_ns;
	switch (status) {
	case LUN_OK:
		/*
		 * Rule 6: after the lease the space may have been another file's when it was read; and to answer a
		 * first write would promise what nobody else will ever know of.
		 */
		if ((!op->io_write || op->first) && now.now_ns >= dp->lease_ns)
			return enter(dp, op, false, now);
		return io_ok(dp, op, now);
	case LUN_RETRY:
		return io_again(dp, op, now);
	case LUN_FAILING:
		/* The time that the target took counts: the file's gate waits for this. */
		return io_pauses(dp, op, op->failing_since_ns, now);
	case LUN_MEDIUM:
	case LUN_UNSUPPORTED:
		return end(dp, op, -EIO);
	case LUN_NOSPACE:
		return end(dp, op, -ENOSPC);
	case LUN_PROTECTED:
		return end(dp, op, op->io_write ? -EROFS : -EIO);
	case LUN_UNKNOWN:
		if (!op->io_write)
			return read_unknown(dp, op, now);
		break;
	case LUN_CONFLICT:
		break;
	}
	return enter(dp, op, true, now);
}

/*
 * If the layout went away meanwhile, what was first-written is lost with it (node_file.c says so to an
 * fsync of what was acknowledged before; this write was not): it is written again.
 */
static enum dp_verdict committed(struct dp *dp, struct dp_op *op, int err, struct dp_now now)
{
	struct layout_file *lf = &op->file->lf;

	if (!err && is_void(dp, op))
		return replan(dp, op, now);
	if (!err && lf->size_known && lf->size < op->range.size) {
		if (op->file->shown == lf->size)
			op->file->shown = op->range.size;
		lf->size = op->range.size;
	}
	return end(dp, op, err ? err : (int32_t)op->len);
}

/* Rule 16. Without an older attempt nothing of it is under way: it may be planned anew, or end. */
static enum dp_verdict not_taken(struct dp *dp, struct dp_op *op, struct dp_now now)
{
	op->retries = 0;
	if (!dp_may_land(op) && dp_hold_over(dp, op, now.now_ns))
		return end(dp, op, -EIO);
	return later(dp, op, now.now_ns + DP_AGAIN_NS);
}

enum dp_verdict dp_block_done(struct dp *dp, struct dp_op *op, int err, struct dp_now now)
{
	csv_assert(op->inside);
	csv_assert(err <= 0);
	if (op->state == DP_ST_COMMIT)
		return committed(dp, op, err, now);
	csv_assert(op->state == DP_ST_CORE);
	/* Whether it landed or not: nobody will be told, and what it first-wrote counts as never written. */
	if (op->given_up)
		return end(dp, op, -EIO);
	if (err == -ENOMEM)
		return not_taken(dp, op, now);
	if (err)
		return end(dp, op, err);
	return io_ok(dp, op, now);
}

enum dp_verdict dp_block_retry(struct dp *dp, struct dp_op *op, struct dp_now now)
{
	csv_assert(op->state == DP_ST_CORE);
	csv_assert(!op->given_up);
	if (is_void(dp, op))
		return replan(dp, op, now);
	/* How long the LUN refused it before says nothing of now. */
	op->retries = 0;
	return enter(dp, op, false, now);
}

/* ------------------------------------------------------------------ answers to questions */

void dp_answered(struct dp *dp, struct dp_op *op)
{
	csv_assert(op->state == DP_ST_ASK);
	(void)dp;
	if (op->answered || op->file->lf.closed)
		return;
	op->answered = true;
	op->answer_drops = op->file->lf.drops;
	op->file->answered_count++;
}

enum dp_verdict dp_layout_done(struct dp *dp, struct dp_op *op, int err, struct dp_now now)
{
	struct dp_file *f = op->file;
	bool was = op->answered, answered = was && op->answer_drops == f->lf.drops;
	enum dp_verdict v;

	csv_assert(op->state == DP_ST_ASK);
	csv_assert(f->ask_count > 0);
	list_del(&op->link);
	f->ask_count--;
	wake(dp, f, DP_BY_ASK);
	if (!err)
		err = op->put_failed;
	op->put_failed = 0;
	if (err == -ENOSPC && dp_plan_shorten(dp, op))
		err = 0;
	op->asked = true;
	op->answered = false;
	f->writes |= !err && op->need_write;
	f->op_count++; /* it stays until here */
	v = err ? end(dp, op, err) : plan_as(dp, op, answered, now);
	f->op_count--;
	f->answered_count -= was;
	if (was)
		owe_drained(dp, f);
	file_put(dp, f);
	return v;
}

enum dp_verdict dp_append_done(
	struct dp *dp, struct dp_op *op, int err, uint64_t off, struct dp_now now)
{
	csv_assert(op->state == DP_ST_APPEND);
	op->off = off;
	op->placed = !err;
	if (op->placed)
		wake(dp, op->file, DP_BY_APPEND);
	if (!err)
		err = check_op(op);
	/* While we have had a layout nobody has made the file shorter: this is behind no gap. */
	if (!err && op->drops == op->file->lf.drops && off > op->file->end)
		op->file->end = off;
	if (err)
		return end(dp, op, err);
	return plan(dp, op, now);
}

bool dp_cancel(struct dp *dp, struct dp_op *op)
{
	if (op->state != DP_ST_PARKED && (op->state != DP_ST_READY || op->inside) &&
		(op->state != DP_ST_LATER || op->io_write))
		return false;
	list_del(&op->link);
	list_del(&op->hlink);
	if (op->state == DP_ST_PARKED && op->cause == DP_BY_LOCK) {
		op->file->lock_waiters--;
		dp_wake_lock_waiters(dp, op->file);
	}
	(void)end(dp, op, -EINTR);
	return true;
}

static void touches_fall_due(struct dp *dp, uint64_t now_ns)
{
	struct dp_file *f;

	while (!list_empty(&dp->touched)) {
		f = list_first_entry(&dp->touched, struct dp_file, tlink);
		if (f->touch_due_ns > now_ns)
			return;
		f->told_ns = now_ns;
		list_del(&f->tlink);
		list_add_tail(&f->tlink, &dp->due);
	}
}

struct dp_op *dp_next_ready(struct dp *dp, uint64_t now_ns)
{
	struct dp_op *op;

	list_for_each_entry_safe(o, tmp, &dp->later, struct dp_op, link) {
		if (o->not_before_ns > now_ns)
			continue;
		list_del(&o->link);
		set_state(dp, o, DP_ST_READY);
		list_add_tail(&o->link, &dp->ready);
	}
	touches_fall_due(dp, now_ns);
	dp_hold_expire(dp, now_ns);
	if (list_empty(&dp->ready))
		return NULL;
	op = list_first_entry(&dp->ready, struct dp_op, link);
	list_del(&op->link);
	return op;
}

uint64_t dp_deadline(const struct dp *dp)
{
	uint64_t first = dp_hold_deadline(dp);

	if (!list_empty(&dp->ready) || !list_empty(&dp->due))
		return 0;
	if (!list_empty(&dp->touched) &&
		list_first_entry(&dp->touched, struct dp_file, tlink)->touch_due_ns < first)
		first = list_first_entry(&dp->touched, struct dp_file, tlink)->touch_due_ns;
	list_for_each_entry(o, &dp->later, struct dp_op, link) {
		if (o->not_before_ns < first)
			first = o->not_before_ns;
	}
	return first;
}

/* ------------------------------------------------------------------ the core's effects */

int dp_layout_put(struct dp *dp, uint64_t ino, uint64_t off, uint64_t len, uint64_t size,
	const struct fs_extent *e, uint32_t count)
{
	struct dp_file *f = file_get(dp, ino);
	int err;

	if (!f)
		return -ENOMEM;
	err = layout_put(&dp->layout, &f->lf, off, len, e, count);
	if (err) {
		/* Whose answer it was is not known here; who takes it for recorded believes an end of file, or a hole, that is old. */
		list_for_each_entry(o, &f->asking, struct dp_op, link)
			o->put_failed = err == -ENOMEM ? err : -EIO;
		file_put(dp, f);
		return err;
	}
	f->lf.size = f->shown = size;
	f->lf.size_known = true;
	dp_shed_put(dp, f);
	return 0;
}

void dp_layout_close(struct dp *dp, uint64_t ino)
{
	struct dp_file *f = file_get(dp, ino);

	/* Without memory for it nothing of it is known either, and nobody is inside: whoever comes must ask, and waits. */
	if (!f) {
		csv_assert(!dp->unknown_drained);
		dp->unknown_drained = ino;
		return;
	}
	f->lf.closed = true;
	f->attr_seen = false;
	owe_drained(dp, f);
}

void dp_layout_drop(struct dp *dp, uint64_t ino)
{
	struct dp_file *f = dp_file_find(dp, ino);

	if (!f)
		return;
	layout_drop(&dp->layout, &f->lf);
	f->writes = f->attr_seen = false;
	f->end = f->version_1 = 0;
	f->clean = NO_CLUSTER;
	/* The file may be made shorter now, before they get their places. */
	list_for_each_entry (a, &f->appends, struct dp_op, alink)
		a->append_from = 0;
	dp_shed_dropped(dp, f);
	list_del(&f->drained);
	wake(dp, f, DP_BY_GATE);
	file_put(dp, f);
}

void dp_layout_drop_all(struct dp *dp)
{
	struct layout_file *lf = layout_next(&dp->layout, NULL), *next;

	/* Only the file itself may be freed by it. */
	for (; lf; lf = next) {
		next = layout_next(&dp->layout, lf);
		dp_layout_drop(dp, lf->ino);
	}
}

void dp_gate(struct dp *dp, enum gate gate, uint64_t lease_ns)
{
	dp->gate = gate;
	dp->lease_ns = lease_ns;
	dp->volume_drained = gate == GATE_CLOSED && !dp->direct_count;
}

void dp_rights(struct dp *dp, uint32_t rights)
{
	dp->rights = rights;
}

/* ------------------------------------------------------------------ events */

/* The file may be gone afterwards. */
static void tell_touched(struct dp *dp, struct dp_file *f, struct event *ev)
{
	f->touched = false;
	list_del(&f->tlink);
	dp_event_touched(ev, f->lf.ino, f->touched_wall_ns, f->read_wall_ns);
	f->touched_wall_ns = f->read_wall_ns = 0;
	file_put(dp, f);
}

static bool tell_drained(struct event *ev, uint64_t ino)
{
	memset(ev, 0, sizeof(*ev));
	ev->type = EV_DRAINED;
	ev->ino = ino;
	return true;
}

bool dp_next_event(struct dp *dp, struct event *ev)
{
	uint64_t ino = dp->unknown_drained;
	struct dp_file *f;

	if (!list_empty(&dp->due)) {
		tell_touched(dp, list_first_entry(&dp->due, struct dp_file, tlink), ev);
		return true;
	}
	if (!list_empty(&dp->drained)) {
		f = list_first_entry(&dp->drained, struct dp_file, drained);
		if (f->touched) {
			tell_touched(dp, f, ev);
			return true;
		}
		list_del(&f->drained);
		return tell_drained(ev, f->lf.ino);
	}
	dp->unknown_drained = 0;
	if (ino)
		return tell_drained(ev, ino);
	if (!dp->volume_drained)
		return dp_shed_next(dp, ev);
	dp->volume_drained = false;
	return tell_drained(ev, 0);
}

bool dp_take_touched(struct dp *dp, uint64_t ino, struct event *ev)
{
	struct dp_file *f = dp_file_find(dp, ino);

	if (!f || !f->touched)
		return false;
	tell_touched(dp, f, ev);
	return true;
}

/* ------------------------------------------------------------------ life, check */

struct dp *dp_create(const struct dp_config *cfg)
{
	struct dp *dp = mem_alloc(cfg->mem, sizeof(*dp));

	if (!dp)
		return NULL;
	dp->cfg = *cfg;
	dp->gate = GATE_CLOSED;
	list_init(&dp->ready);
	list_init(&dp->later);
	list_init(&dp->parked);
	list_init(&dp->drained);
	for (unsigned i = 0; i < DP_HANDLE_BUCKETS; i++)
		list_init(&dp->handles[i]);
	list_init(&dp->touched);
	list_init(&dp->due);
	list_init(&dp->used);
	if (layout_init(&dp->layout, cfg->mem, cfg->data_start, cfg->cluster_bytes, sizeof(struct dp_file))) {
		mem_free(cfg->mem, dp, sizeof(*dp));
		return NULL;
	}
	dp_set_block_bytes(dp, cfg->block_bytes);
	return dp;
}

void dp_destroy(struct dp *dp)
{
	struct mem *mem;

	if (!dp)
		return;
	mem = dp->cfg.mem;
	layout_fini(&dp->layout);
	mem_free(mem, dp, sizeof(*dp));
}

void dp_set_block_bytes(struct dp *dp, uint32_t block_bytes)
{
	csv_assert(block_bytes > 0);
	csv_assert((block_bytes & (block_bytes - 1)) == 0);
	csv_assert(block_bytes <= dp->cfg.cluster_bytes);
	dp->cfg.block_bytes = block_bytes;
}
