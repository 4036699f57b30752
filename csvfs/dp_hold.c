/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dp_hold.c - the limit of patience (hold=): dp.h, rule 12; and open files whose locks were lost (rule 10). */
#include <errno.h>

#include "csvfs/base/assert.h"
#include "csvfs/dp_int.h"

/* How often it is looked who has waited too long. */
#define LOOK_NS (100 * NS_PER_MS)

void dp_given_up(struct dp *dp, struct dp_op *op)
{
	(void)dp;
	csv_assert(op->state == DP_ST_CORE);
	csv_assert(op->inside);
	csv_assert(op->io_write);
	if (op->given_up)
		return;
	op->given_up = true;
	op->file->given_up_count++;
}

void dp_hold_parked(struct dp *dp, struct dp_op *op)
{
	list_add_tail(&op->hlink, &dp->parked);
}

static struct dp_op *overdue(const struct dp *dp, uint64_t now_ns)
{
	list_for_each_entry(op, &dp->parked, struct dp_op, hlink) {
		if (now_ns - op->begun_ns >= dp->cfg.hold_ns)
			return op;
	}
	return NULL;
}

/* Whoever was never sent simply ends. */
void dp_hold_expire(struct dp *dp, uint64_t now_ns)
{
	struct dp_op *op;

	if (!dp->cfg.hold_ns || list_empty(&dp->parked) || now_ns < dp->look_ns)
		return;
	dp->look_ns = now_ns + LOOK_NS;
	while ((op = overdue(dp, now_ns))) {
		op->overdue = true;
		dp_unpark(dp, op);
		dp_wake_lock_waiters(dp, op->file);
	}
}

uint64_t dp_hold_deadline(const struct dp *dp)
{
	return dp->cfg.hold_ns && !list_empty(&dp->parked) ? dp->look_ns : NEVER;
}

/* ------------------------------------------------------------------ locks that were lost */

void dp_handles_lost(struct dp *dp, const uint64_t *handles, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct dp_lost *l = mem_alloc(dp->cfg.mem, sizeof(*l));

		if (!l) {
			/* Rather too many than one too few. */
			if (handles[i] > dp->lost_upto)
				dp->lost_upto = handles[i];
			continue;
		}
		l->handle = handles[i];
		list_add(&l->link, &dp->lost[l->handle % DP_LOST_BUCKETS]);
		dp->lost_count++;
	}
}

void dp_handle_closed(struct dp *dp, uint64_t handle)
{
	if (!dp->lost_count)
		return;
	list_for_each_entry_safe(l, tmp, &dp->lost[handle % DP_LOST_BUCKETS], struct dp_lost, link) {
		if (l->handle != handle)
			continue;
		list_del(&l->link);
		dp->lost_count--;
		mem_free(dp->cfg.mem, l, sizeof(*l));
	}
}
