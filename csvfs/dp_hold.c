/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dp_hold.c - the limit of patience (hold=): dp.h, rule 12; who waits for an administrator (rule 18); and open files whose locks
 * were lost (rule 10).
 */
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

bool dp_hold_over(const struct dp *dp, const struct dp_op *op, uint64_t now_ns)
{
	return dp->cfg.hold_ns && dp_since(now_ns, op->begun_ns) >= dp->cfg.hold_ns;
}

static struct dp_op *overdue(const struct dp *dp, uint64_t now_ns)
{
	list_for_each_entry(op, &dp->parked, struct dp_op, hlink) {
		if (dp_hold_over(dp, op, now_ns))
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

void dp_pause(struct dp *dp, bool on)
{
	dp->paused = on;
	if (on)
		return;
	list_for_each_entry_safe(op, tmp, &dp->parked, struct dp_op, hlink) {
		if (op->cause == DP_BY_PAUSE)
			dp_unpark(dp, op);
	}
}

/* ------------------------------------------------------------------ what is known of an open file */

struct dp_handle *dp_handle_find(const struct dp *dp, uint64_t handle)
{
	list_for_each_entry(h, &dp->handles[handle % DP_HANDLE_BUCKETS], struct dp_handle, link) {
		if (h->handle == handle)
			return h;
	}
	return NULL;
}

/* NULL: no memory; then it is noted for all up to there: rather too many than one too few. */
static struct dp_handle *note(struct dp *dp, uint64_t handle, uint64_t *upto)
{
	struct dp_handle *h = dp_handle_find(dp, handle);

	if (h)
		return h;
	h = mem_alloc(dp->cfg.mem, sizeof(*h));
	if (!h) {
		if (handle > *upto)
			*upto = handle;
		return NULL;
	}
	h->handle = handle;
	list_add(&h->link, &dp->handles[handle % DP_HANDLE_BUCKETS]);
	dp->handle_count++;
	return h;
}

void dp_handles_lost(struct dp *dp, const uint64_t *handles, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct dp_handle *h = note(dp, handles[i], &dp->lost_upto);

		if (h)
			h->lost = true;
	}
}

void dp_handle_failed(struct dp *dp, uint64_t handle)
{
	struct dp_handle *h = handle ? note(dp, handle, &dp->failed_upto) : NULL;

	if (h)
		h->failed = true;
}

bool dp_handle_has_failed(const struct dp *dp, uint64_t handle)
{
	const struct dp_handle *h = dp_handle_find(dp, handle);

	return (h && h->failed) || handle <= dp->failed_upto;
}

void dp_handle_closed(struct dp *dp, uint64_t handle)
{
	struct dp_handle *h = dp->handle_count ? dp_handle_find(dp, handle) : NULL;

	if (!h)
		return;
	list_del(&h->link);
	dp->handle_count--;
	mem_free(dp->cfg.mem, h, sizeof(*h));
}
