/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dp_plan.c - from a range of a file to blocks of the LUN: which blocks are read, which written, what is
 * zero, and which range nobody else may write meanwhile. The rules are those of dp.h.
 */
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/dp_int.h"

/* ------------------------------------------------------------------ locks */

bool dp_plan_conflict(const struct dp_op *a, const struct dp_op *b)
{
	return (a->exclusive || b->exclusive) && a->lock_off < b->lock_end &&
	       b->lock_off < a->lock_end;
}

/* Rule 12: it would be undone. */
static bool behind_given_up(const struct dp_op *op, const struct dp_op *o)
{
	return o->given_up && op->lock_off < o->lock_end && o->lock_off < op->lock_end;
}

bool dp_plan_must_wait(const struct dp_file *f, const struct dp_op *op)
{
	if (!op->exclusive && !f->exclusive_count && !f->lock_waiters && !f->given_up_count)
		return false;
	list_for_each_entry(o, &f->inside, struct dp_op, ilink) {
		if (o != op && o->locked && (dp_plan_conflict(op, o) || behind_given_up(op, o)))
			return true;
	}
	if (!f->lock_waiters)
		return false;
	list_for_each_entry(o, &f->waiting, struct dp_op, link) {
		if (o->seq >= op->seq)
			break;
		if (o->cause == DP_BY_LOCK && dp_plan_conflict(op, o))
			return true;
	}
	return false;
}

static void lock(struct dp_file *f, struct dp_op *op)
{
	csv_assert(!op->locked);
	op->locked = true;
	if (op->exclusive)
		f->exclusive_count++;
}

/* ------------------------------------------------------------------ plan: mapping */

static void add_zero(struct dp_op *op, uint64_t off, uint64_t end)
{
	uint32_t buf_off = (uint32_t)(off - op->img_off), len = (uint32_t)(end - off);
	struct dp_zero *z = op->zero_count ? &op->zeros[op->zero_count - 1] : NULL;

	if (z && z->buf_off + z->len == buf_off) {
		z->len += len;
		return;
	}
	csv_assert(op->zero_count < SEGS_MAX);
	op->zeros[op->zero_count++] = (struct dp_zero){.buf_off = buf_off, .len = len};
}

static void add_seg(struct dp_op *op, uint64_t off, uint64_t end, uint64_t lun_off)
{
	uint32_t buf_off = (uint32_t)(off - op->img_off), len = (uint32_t)(end - off);
	struct seg *s = op->seg_count ? &op->segs[op->seg_count - 1] : NULL;

	if (s && s->buf_off + s->len == buf_off && s->lun_off + s->len == lun_off) {
		s->len += len;
		return;
	}
	csv_assert(op->seg_count < SEGS_MAX);
	op->segs[op->seg_count++] = (struct seg){.lun_off = lun_off, .len = len, .buf_off = buf_off};
}

static enum plan need(struct dp_op *op, uint64_t off, uint64_t end, bool write)
{
	op->need_off = off;
	op->need_len = end - off;
	op->need_write = write;
	op->need_edge = op->need_near = false;
	return PLAN_ASK;
}

enum plan dp_plan_ask(struct dp_op *op)
{
	return need(op, op->off, op->off + op->len, false);
}

/* [off, end) of the file, known and with space, as segments. */
static void map_segs(const struct dp_file *f, struct dp_op *op, uint64_t off, uint64_t end)
{
	struct fs_extent e;
	uint64_t stop;

	for (uint64_t at = off; at < end; at = stop) {
		bool known = layout_at(&f->lf, at, &e, NULL);

		csv_assert(known);
		stop = e.off + e.len < end ? e.off + e.len : end;
		add_seg(op, at, stop, e.lun_off + (at - e.off));
	}
}

/* ------------------------------------------------------------------ plan: reads */

static uint64_t end_of(const struct dp_file *f)
{
	return f->lf.size > f->end ? f->lf.size : f->end;
}

/* Rule 13. False: the read waits. *end: as far as it goes. */
static bool before_appends(const struct dp_file *f, const struct dp_op *op, uint64_t *end)
{
	uint64_t first = UINT64_MAX;
	bool behind = false;

	list_for_each_entry(a, &f->appends, struct dp_op, alink) {
		behind |= *end > (a->placed ? a->off : a->append_from);
		if (a->placed && a->off < first)
			first = a->off;
	}
	if (!behind)
		return true;
	/* Those without a place yet come behind those that have one. */
	if (!op->waited || first == UINT64_MAX)
		return false;
	/* Others may have written behind them. (No append that comes now begins before the end.) */
	if (first <= op->off && f->lf.size_known && op->off < end_of(f))
		return false;
	if (*end > first)
		*end = first > op->off ? first : op->off;
	return true;
}

static enum plan plan_read(struct dp *dp, struct dp_file *f, struct dp_op *op)
{
	uint64_t bs = dp->cfg.block_bytes, end = op->off + op->len, stop;
	struct fs_extent e;

	if (!before_appends(f, op, &end))
		return PLAN_APPEND;
	if (end == op->off) {
		/* The file may have grown meanwhile; and what was said may have been taken back, as we waited. */
		if ((!op->asked || !f->lf.size_known) && op->len)
			return need(op, op->off, op->off + op->len, false);
		op->result = 0;
		return PLAN_NOTHING;
	}
	if (!f->lf.size_known)
		return need(op, op->off, end, false);
	if (end > f->shown) {
		/* The file may have grown meanwhile. */
		if (!op->asked)
			return need(op, op->off, end, false);
		end = f->shown;
	}
	op->result = end > op->off ? (int32_t)(end - op->off) : 0;
	if (!op->result)
		return PLAN_NOTHING;
	op->img_off = dp_round_down(op->off, bs);
	op->skip = (uint32_t)(op->off - op->img_off);
	op->img_len = (uint32_t)(dp_round_up(end, bs) - op->img_off);
	for (uint64_t at = op->img_off; at < end; at = stop) {
		if (!layout_at(&f->lf, at, &e, NULL))
			return need(op, at < op->off ? op->off : at, end, false);
		if (e.state == EXT_HOLE && !op->asked && !dp->cfg.sole_node)
			return need(op, at < op->off ? op->off : at, end, false);
		stop = e.off + e.len;
		if (stop > op->img_off + op->img_len)
			stop = op->img_off + op->img_len;
		if (e.state == EXT_WRITTEN || e.state == EXT_SHARED)
			add_seg(op, at, stop, e.lun_off + (at - e.off));
		else
			add_zero(op, at, stop);
	}
	return op->seg_count ? PLAN_IO : PLAN_NOTHING;
}

/* ------------------------------------------------------------------ plan: writes */

/* Every byte of it has space; `first`: some of it is unwritten. [off, end): its blocks. */
static bool find_space(
	const struct dp *dp, const struct dp_file *f, struct dp_op *op, uint64_t off, uint64_t end)
{
	struct fs_extent e;
	bool known;

	op->first = false;
	for (uint64_t at = off; at < end; at = e.off + e.len) {
		known = layout_at(&f->lf, at, &e, NULL);
		if (!known || e.state == EXT_HOLE || e.state == EXT_SHARED) {
			need(op, at < op->off ? op->off : at, op->off + op->len, true);
			op->need_near = known && e.state == EXT_HOLE;
			/* Who writes parts of blocks here, or leaves gaps, will do so again: once asked, it is asked. */
			op->need_edge = !dp->cfg.sole_node &&
				(f->gaps || off < op->off || end > op->off + op->len);
			return false;
		}
		op->first |= e.state == EXT_UNWRITTEN;
	}
	return true;
}

static enum ext_state state_at(const struct dp_file *f, uint64_t off)
{
	struct fs_extent e;
	bool known = layout_at(&f->lf, off, &e, NULL);

	csv_assert(known);
	return (enum ext_state)e.state;
}

/* Nobody else writes around `off` (rules 2 and 4). */
static bool may_write_parts(const struct dp *dp, const struct dp_file *f, uint64_t off)
{
	struct fs_extent e;
	bool known = layout_at(&f->lf, off, &e, NULL);

	csv_assert(known);
	return dp->cfg.sole_node || e.state == EXT_UNWRITTEN || e.edge;
}

/* False: the right to a block at one of its ends is to be asked for; need_* are filled in. */
static bool find_edges(
	const struct dp *dp, const struct dp_file *f, struct dp_op *op, uint64_t off, uint64_t end)
{
	uint64_t cs = dp->cfg.cluster_bytes, op_end = op->off + op->len, from = end - 1;

	if (off < op->off && !may_write_parts(dp, f, off))
		from = off;
	else if (end == op_end || may_write_parts(dp, f, end - 1))
		return true;
	/* Whole clusters: one question for all who write parts of blocks in one. */
	need(op, dp_round_down(from, cs), dp_round_up(op_end, cs), true);
	op->need_edge = true;
	return false;
}

void dp_plan_wrote(struct dp *dp, const struct dp_op *op)
{
	struct dp_file *f = op->file;
	uint64_t end = op->off + op->len, cluster = dp_round_down(end, dp->cfg.cluster_bytes);
	struct fs_extent e;
	bool known;

	if (end <= end_of(f))
		return;
	f->end = end;
	if (end == cluster)
		return;
	known = layout_at(&f->lf, end - 1, &e, NULL);
	csv_assert(known);
	/* What it zeroed stays zero with the right alone: once it is WRITTEN others may write there, and fail. */
	if (e.state == EXT_UNWRITTEN && (dp->cfg.sole_node || e.edge))
		f->clean = cluster;
}

void dp_plan_zeroed(struct dp *dp, const struct dp_op *op)
{
	op->file->clean = dp_round_down(op->img_off, dp->cfg.cluster_bytes);
}

void dp_plan_failed(const struct dp_op *op)
{
	op->file->clean = NO_CLUSTER;
}

/*
 * Rule 4. PLAN_NOTHING: there is no gap, or it reads as zero. PLAN_IO: the image is the tail. With the right to it, what is
 * known of the end is right, or others have asked for space behind it and not written there yet.
 */
static enum plan plan_tail(struct dp *dp, struct dp_file *f, struct dp_op *op)
{
	uint64_t bs = dp->cfg.block_bytes, cs = dp->cfg.cluster_bytes;
	uint64_t end = end_of(f), from = dp_round_down(end, cs), a = dp_round_down(end, bs);
	struct fs_extent e;

	if (op->off <= end || end == from || f->clean == from)
		return PLAN_NOTHING;
	f->gaps = true;
	if (!layout_at(&f->lf, from, &e, NULL))
		return need(op, from, from + cs, false);
	if (e.state == EXT_HOLE || e.state == EXT_UNWRITTEN)
		return PLAN_NOTHING;
	if (e.state == EXT_SHARED || !may_write_parts(dp, f, from)) {
		need(op, from, from + cs, true);
		op->need_edge = true;
		return PLAN_ASK;
	}
	op->tail = op->bounce = true;
	op->first = false;
	op->img_off = op->lock_off = a;
	op->img_len = (uint32_t)(from + cs - a);
	op->lock_end = from + cs;
	op->exclusive = true;
	add_zero(op, end, from + cs);
	op->edges = a < end;
	if (dp_plan_must_wait(f, op))
		return PLAN_LOCKED;
	lock(f, op);
	if (op->edges)
		map_segs(f, op, a, a + bs);
	else
		dp_plan_map_write(op);
	return PLAN_IO;
}

/* write(2): as many bytes as there is room for. (What FS_APPEND made room for in the file is all of it.) */
bool dp_plan_shorten(const struct dp *dp, struct dp_op *op)
{
	if (!op->partly || (op->append && !dp->cfg.sole_node) || op->need_off <= op->off)
		return false;
	csv_assert(op->need_off < op->off + op->len);
	op->len = (uint32_t)(op->need_off - op->off);
	return true;
}

/*
 * The image: the write in whole blocks, and at an end that lies in an unwritten cluster the whole
 * cluster. What it has around the data is zeros there (rule 1), and is read from the LUN where
 * the cluster is written (rule 2).
 */
static void make_image(struct dp *dp, struct dp_file *f, struct dp_op *op)
{
	uint64_t bs = dp->cfg.block_bytes, cs = dp->cfg.cluster_bytes, end = op->off + op->len;
	uint64_t a = dp_round_down(op->off, bs), b = dp_round_up(end, bs);
	bool head_new = state_at(f, a) == EXT_UNWRITTEN, tail_new = state_at(f, b - 1) == EXT_UNWRITTEN;

	if (head_new)
		a = dp_round_down(a, cs);
	if (tail_new)
		b = dp_round_up(b, cs);
	op->img_off = a;
	op->img_len = (uint32_t)(b - a);
	op->skip = (uint32_t)(op->off - a);
	op->bounce = op->zero || a < op->off || b > end;
	if (head_new && a < op->off)
		add_zero(op, a, op->off);
	if (tail_new && b > end)
		add_zero(op, end, b);
	op->edges = false;
	if (!head_new && a < op->off) {
		map_segs(f, op, a, a + bs);
		op->edges = true;
	}
	if (!tail_new && b > end && (b - bs > a || !op->edges)) {
		map_segs(f, op, b - bs, b);
		op->edges = true;
	}
	op->lock_off = a;
	op->lock_end = b;
	op->exclusive = op->first || op->edges;
}

void dp_plan_map_write(struct dp_op *op)
{
	op->edges = false;
	op->seg_count = 0;
	op->io_write = true;
	map_segs(op->file, op, op->img_off, op->img_off + op->img_len);
}

/* Rule 9. PLAN_IO: there is something to be written; the op ends with the file then. */
static enum plan plan_zero(struct dp *dp, struct dp_file *f, struct dp_op *op)
{
	uint64_t end = op->off + op->len;
	bool sure = op->asked || dp->cfg.sole_node;
	struct fs_extent e;

	csv_assert(op->off / dp->cfg.cluster_bytes == (end - 1) / dp->cfg.cluster_bytes);
	op->result = 0;
	if (!f->lf.size_known || (end > f->lf.size && !op->asked))
		return need(op, op->off, end, false);
	if (op->off >= f->lf.size)
		return PLAN_NOTHING;
	if (end > f->lf.size)
		op->len = (uint32_t)(f->lf.size - op->off);
	if (!layout_at(&f->lf, op->off, &e, NULL) || (e.state == EXT_HOLE && !sure))
		return need(op, op->off, end, false);
	return e.state == EXT_HOLE || e.state == EXT_UNWRITTEN ? PLAN_NOTHING : PLAN_IO;
}

static enum plan plan_write(struct dp *dp, struct dp_file *f, struct dp_op *op)
{
	uint64_t bs = dp->cfg.block_bytes, off, end = op->off + op->len;
	enum plan p;

	op->result = (int32_t)op->len;
	if (!f->lf.size_known)
		return need(op, op->off, end, true);
	off = dp_round_down(op->off, bs);
	end = dp_round_up(end, bs);
	if (!find_space(dp, f, op, off, end) || !find_edges(dp, f, op, off, end))
		return PLAN_ASK;
	/* Rule 14. */
	if (!f->writes && !dp->cfg.sole_node)
		return need(op, op->off, op->off + op->len, true);
	/* Last: who was answered goes inside, and has all that it needs. */
	p = plan_tail(dp, f, op);
	if (p != PLAN_NOTHING)
		return p;
	make_image(dp, f, op);
	if (dp_plan_must_wait(f, op))
		return PLAN_LOCKED;
	if (op->first) {
		if (layout_promise(&dp->layout))
			return PLAN_NOMEM;
		op->promised = true;
	}
	lock(f, op);
	if (op->edges)
		op->io_write = false;
	else
		dp_plan_map_write(op);
	return PLAN_IO;
}

enum plan dp_plan(struct dp *dp, struct dp_op *op)
{
	enum plan p;

	op->seg_count = op->zero_count = 0;
	op->first = op->edges = op->bounce = op->io_write = op->io_unknown = false;
	op->exclusive = op->tail = false;
	if (!op->write)
		return plan_read(dp, op->file, op);
	if (op->zero) {
		p = plan_zero(dp, op->file, op);
		if (p != PLAN_IO)
			return p;
	}
	return plan_write(dp, op->file, op);
}

bool dp_plan_in_written(const struct dp_op *op)
{
	struct fs_extent e;

	for (uint64_t at = op->img_off; at < op->img_off + op->img_len; at = e.off + e.len) {
		if (!layout_at(&op->file->lf, at, &e, NULL))
			return false;
		if (e.state != EXT_UNWRITTEN)
			return true;
	}
	return false;
}
