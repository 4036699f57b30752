/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dp_check.c - the invariants of dp.h; what tests ask. */
#include "csvfs/base/assert.h"
#include "csvfs/dp_int.h"

static void check_inside(const struct dp_file *f, uint32_t *direct)
{
	uint32_t inside = 0, exclusive = 0, given_up = 0;

	list_for_each_entry(op, &f->inside, struct dp_op, ilink) {
		csv_assert(op->inside);
		csv_assert(op->file == f);
		csv_assert(op->state == DP_ST_IO || op->state == DP_ST_CORE ||
			   op->state == DP_ST_LATER || op->state == DP_ST_COMMIT ||
			   op->state == DP_ST_READY);
		csv_assert(!op->promised || (op->locked && op->exclusive));
		*direct += op->state == DP_ST_IO;
		inside++;
		exclusive += op->locked && op->exclusive;
		given_up += op->given_up;
		if (!op->locked || !op->exclusive)
			continue;
		list_for_each_entry(o, &f->inside, struct dp_op, ilink)
			csv_assert(o == op || !o->locked || !dp_plan_conflict(op, o));
	}
	csv_assert(inside == f->inside_count);
	csv_assert(exclusive == f->exclusive_count);
	csv_assert(given_up == f->given_up_count);
	csv_assert(list_empty(&f->drained) || (f->lf.closed && !inside));
	csv_assert(f->touched == !list_empty(&f->tlink));
}

static void check_waiting(const struct dp *dp, const struct dp_file *f)
{
	uint32_t lock_waiters = 0, asks = 0, answered = 0;
	uint64_t seq = 0;

	list_for_each_entry(op, &f->waiting, struct dp_op, link) {
		csv_assert(op->state == DP_ST_PARKED);
		csv_assert(op->seq > seq);
		seq = op->seq;
		switch (op->cause) {
		case DP_BY_GATE:
			csv_assert(f->lf.closed);
			break;
		case DP_BY_LOCK:
			csv_assert(dp_plan_must_wait(f, op));
			lock_waiters++;
			break;
		case DP_BY_ASK:
			csv_assert(f->ask_count > 0);
			break;
		case DP_BY_APPEND:
			csv_assert(!list_empty(&f->appends));
			break;
		case DP_BY_PAUSE:
			csv_assert(dp->paused);
			break;
		}
	}
	list_for_each_entry(op, &f->asking, struct dp_op, link) {
		csv_assert(op->state == DP_ST_ASK);
		asks++;
		answered += op->answered;
	}
	csv_assert(answered == f->answered_count);
	csv_assert(!answered || list_empty(&f->drained));
	csv_assert(lock_waiters == f->lock_waiters);
	csv_assert(asks == f->ask_count);
}

void dp_check(struct dp *dp)
{
	uint32_t direct = 0;

	layout_check(&dp->layout);
	dp_shed_check(dp);
	for (struct layout_file *lf = layout_next(&dp->layout, NULL); lf;
		lf = layout_next(&dp->layout, lf)) {
		check_inside(container_of(lf, struct dp_file, lf), &direct);
		check_waiting(dp, container_of(lf, struct dp_file, lf));
	}
	csv_assert(direct == dp->direct_count);
	list_for_each_entry(op, &dp->ready, struct dp_op, link)
		csv_assert(op->state == DP_ST_READY);
	list_for_each_entry(op, &dp->later, struct dp_op, link)
		csv_assert(op->state == DP_ST_LATER);
}

bool dp_busy(const struct dp *dp, uint64_t ino)
{
	/* Looking changes nothing; the table's functions take it writable. */
	struct dp_file *f = dp_file_find((struct dp *)(uintptr_t)dp, ino);

	return f && f->op_count;
}
