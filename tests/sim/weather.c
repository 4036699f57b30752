/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * weather.c - what the SAN does to several nodes at once: a switch fails, and most of them lose their paths within
 * moments and have them again one after the other; the target is busy (BUSY, TASK SET FULL: not carried out, to be sent
 * again) for a while, to all or to one; with --set slow_fence=1 it takes seconds to take a node's rights away;
 * with crawl=1 all takes long.
 *
 * All is drawn from a generator of its own: no other run changes.
 */
#include "tests/sim/sim.h"

static uint64_t wdraw(struct sim *s, uint64_t n)
{
	return prng_below(&s->weather.rng, n);
}

static void goes(struct sim *s, void *arg)
{
	struct snode *n = arg;

	if (!n->up || n->path_cut || s->healing)
		return;
	s->path_losses++;
	sim_log(s, "node %u: path CUT, as others", n->id);
	lun_cut(s, n);
}

static void comes(struct sim *s, void *arg)
{
	struct snode *n = arg;

	if (n->path_cut)
		sim_log(s, "node %u: path RESTORED", n->id);
	lun_restore(s, n);
}

static void fabric(struct sim *s, void *arg)
{
	(void)arg;
	if (s->healing)
		return;
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		uint64_t at = s->now_ns + wdraw(s, 6000) * MS;

		if (wdraw(s, 100) >= 70)
			continue;
		sim_at(s, at, goes, &s->n[i]);
		sim_at(s, at + 300 * MS + wdraw(s, 9000) * MS, comes, &s->n[i]);
	}
	sim_at(s, s->now_ns + 8 * SEC + wdraw(s, 12000) * MS, fabric, NULL);
}

static void busy(struct sim *s, void *arg)
{
	uint64_t t = wdraw(s, 3) ? wdraw(s, 300) * MS : wdraw(s, 9000) * MS;

	(void)arg;
	if (s->healing)
		return;
	s->weather.busy_until = s->now_ns + t;
	s->weather.busy_percent = wdraw(s, 2) ? 100 : 50;
	s->weather.busy_node = wdraw(s, 2) ? 1 + (uint32_t)wdraw(s, s->plan.nodes) : 0;
	sim_log(s, "the target is BUSY for %lu ms", t / MS);
	sim_at(s, s->now_ns + t + 500 * MS + wdraw(s, 6000) * MS, busy, NULL);
}

bool weather_busy(struct sim *s, uint32_t node)
{
	return s->weather.busy_until > s->now_ns && (!s->weather.busy_node || s->weather.busy_node == node) &&
	       wdraw(s, 100) < s->weather.busy_percent;
}

/*
 * A target at its end: a write takes nearly as long as a path may be silent, and most reads longer than a look at the claim
 * that counts.
 */
static uint64_t crawls(struct sim *s, enum lun_op op)
{
	if (op == LUN_WRITE)
		return (3500 + wdraw(s, 400)) * MS;
	if (op != LUN_READ)
		return 0;
	return (wdraw(s, 4) ? 510 + wdraw(s, 300) : wdraw(s, 50)) * MS;
}

/*
 * A target that takes seconds to take somebody's rights away, and carries out all else meanwhile: what may still land,
 * lands before the fence is done, and after much that was written elsewhere.
 */
uint64_t weather_holds(struct sim *s, enum lun_op op)
{
	bool fences = op == LUN_PR_PREEMPT || op == LUN_PR_PREEMPT_ABORT || op == LUN_RESET;

	/* All are up by then. */
	if (s->plan.crawl && !s->healing && s->now_ns > 3 * SEC)
		return crawls(s, op);
	if (!s->plan.slow_fence || !fences || s->healing)
		return 0;
	return wdraw(s, 3) ? wdraw(s, 3000) * MS : 0;
}

void weather_start(struct sim *s)
{
	if (s->plan.fabric)
		sim_at(s, s->now_ns + 3 * SEC, fabric, NULL);
	if (s->plan.busy)
		sim_at(s, s->now_ns + 2 * SEC, busy, NULL);
}

void weather_heal(struct sim *s)
{
	s->weather.busy_until = 0;
}
