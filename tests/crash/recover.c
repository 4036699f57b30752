/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/crash/recover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "csvfs/base/assert.h"
#include "metadata/engine.h"
#include "metadata/inode.h"
#include "tools/check/check.h"

#define CHECK_BYTES (24u << 20)

struct recover rec;

static struct disk *child, *grandchild, *third;
static void *check_region;
static uint32_t variant;

void csv_assert_fail(const char *expr, const char *file, int line)
{
	fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, expr);
	fprintf(stderr, "FAILED: csvcrash --case %s.%u\n", rec.id, variant);
	exit(1);
}

void recover_fail(const char *what)
{
	rec.failed = true;
	printf("FAILED: %s\n  replay: csvcrash --case %s.%u -v\n", what, rec.id, variant);
}

void recover_start(const struct vol_ops *ops)
{
	child = disk_new(CRASH_VOLUME_BYTES);
	grandchild = disk_new(CRASH_VOLUME_BYTES);
	third = disk_new(CRASH_VOLUME_BYTES);
	check_region = aligned_alloc(4096, CHECK_BYTES);
	rec.again = world_new(ops, true);
	rec.again->in_order = true;
}

void recover_config(bool write_cache, bool small)
{
	rec.again->write_cache = write_cache;
	rec.again->small = small;
	rec.again->vol = NULL;
	child->cache = grandchild->cache = third->cache = write_cache;
}

/* ------------------------------------------------------------------ the check */

static int check_read(void *ctx, uint64_t off, void *buf, uint32_t len)
{
	disk_read(ctx, off, buf, len);
	return 0;
}

static const void *check_at(void *ctx, uint64_t off)
{
	return disk_at(ctx, off);
}

static void on_problem(void *ctx, const struct check_problem *p)
{
	char text[256];

	if (problem_severity(p->code) == SEVERITY_NOTE)
		return;
	(void)check_problem_text(p, text, sizeof(text));
	printf("  %s\n", text);
}

bool recover_check(struct disk *d, const char *when)
{
	struct check_dev dev = {
		.ctx = d, .read = check_read, .at = check_at, .bytes = CRASH_VOLUME_BYTES};
	struct check_options o = {.on_problem = on_problem};
	struct check_report rep;
	struct mem mem;
	char what[128];

	mem_init(&mem, check_region, CHECK_BYTES);
	o.mem = &mem;
	if (check_volume(&dev, &o, &rep) == 0 && check_faults(&rep) == 0)
		return true;
	(void)snprintf(what, sizeof(what), "the check finds faults %s", when);
	recover_fail(what);
	return false;
}

/* ------------------------------------------------------------------ one case */

static bool opened(struct disk *d)
{
	struct world *w = rec.again;

	world_open(w, d);
	while (vol_state(w->vol) == VOL_OPENING && world_complete(w))
		world_step(w);
	if (vol_state(w->vol) == VOL_READY)
		return true;
	printf("  %s\n", vol_error(w->vol));
	recover_fail("the volume does not open");
	return false;
}

/* Power fails again while the journal is replayed. */
static struct disk *opened_twice(struct prng *r)
{
	struct world *w = rec.again;
	uint64_t stop = w->completions + prng_below(r, 40);

	world_open(w, child);
	while (vol_state(w->vol) == VOL_OPENING && w->completions < stop && world_complete(w))
		world_step(w);
	disk_crash(child, grandchild, 2 + (uint32_t)prng_below(r, 20), prng_u64(r));
	world_abandon(w);
	rec.nested++;
	return opened(grandchild) ? grandchild : NULL;
}

static bool state_is_known(const struct allowed *a, uint32_t *at)
{
	int err;
	uint64_t is = a->dump(rec.again, false, &err);

	if (err) {
		printf("  error %d\n", err);
		recover_fail("the recovered volume cannot be read");
		return false;
	}
	for (uint32_t i = a->states; i-- > a->lo;) {
		*at = i;
		if (a->state[i] == is)
			return true;
	}
	for (uint32_t i = 0; i < a->lo; i++)
		if (a->state[i] == is)
			printf("  it is state %u, but %u were acknowledged\n", i, a->lo);
	if (rec.print)
		(void)a->dump(rec.again, true, &err);
	recover_fail("the recovered volume is in no state that was there since the last "
		     "acknowledged one");
	return false;
}

/*
 * What was on its way when power failed may stay on its way, until after the next open. Nobody can make
 * good what it overwrites then (that is what fencing is for), but as long as nothing was: it is of
 * an older epoch, and does not count.
 */
static bool late_records(const struct disk *from, struct disk **d, const struct allowed *a,
	uint32_t at, struct prng *r)
{
	const struct vol *v = rec.again->vol;
	uint64_t lo = v->journal.start * BLOCK_SIZE;
	int err;

	if (v->journal.head.at != v->journal.tail.at || *d == third ||
		!disk_land(from, *d, lo, lo + v->journal.blocks * BLOCK_SIZE))
		return true;
	rec.late++;
	disk_crash(*d, third, (uint32_t)prng_below(r, 2), prng_u64(r));
	world_abandon(rec.again);
	*d = third;
	if (!recover_check(third, "after a late write") || !opened(third))
		return false;
	if (a->dump(rec.again, false, &err) == a->state[at] && !err)
		return true;
	recover_fail("a write of an older epoch that landed late has changed the volume");
	return false;
}

static int no_intent(struct txn *t, void *arg)
{
	struct disk_intent it;
	uint64_t ino;

	return inode_intent_next(t, 0, &ino, &it);
}

static bool closes_clean(struct disk *d, const struct allowed *a)
{
	struct world *w = rec.again;
	uint64_t before, after;
	int err;

	world_settle(w, true);
	vol_check(w->vol);
	if (a->loose_ends && world_call(w, no_intent, NULL) != -ENOENT) {
		recover_fail("what replay found begun is not brought to its end");
		return false;
	}
	before = a->dump(w, false, &err);
	vol_close(w->vol, w->fx);
	world_settle(w, false);
	if (vol_state(w->vol) != VOL_CLOSED) {
		recover_fail("the volume does not close");
		return false;
	}
	if (!recover_check(d, "after close") || !opened(d))
		return false;
	after = a->dump(w, false, &err);
	if (vol_needed_replay(w->vol) || before != after) {
		recover_fail("closed in order and opened again, it is not the same");
		return false;
	}
	return true;
}

bool recover_case(const struct disk *from, uint32_t which, uint64_t seed, const struct allowed *a)
{
	struct prng r = {seed * 101 + which};
	struct disk *d = child;
	uint32_t at;
	bool good;

	variant = which;
	rec.cases++;
	disk_crash(from, child, variant, seed);
	good = recover_check(child, "after the crash");
	if (good && prng_below(&r, 4) == 0) {
		d = opened_twice(&r);
		good = d != NULL;
	} else if (good) {
		good = opened(child);
	}
	good = good && state_is_known(a, &at) && late_records(from, &d, a, at, &r);
	if (good && a->more)
		good = a->more(at, &r);
	if (good && prng_below(&r, a->loose_ends ? 2 : 16) == 0)
		good = closes_clean(d, a);
	world_abandon(rec.again);
	disk_reset(third, NULL);
	disk_reset(grandchild, NULL);
	disk_reset(child, NULL);
	return good;
}
