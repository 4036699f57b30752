/* SPDX-License-Identifier: GPL-2.0-or-later */
/* drive.c - runs a script of several actors (script.h); power may fail at every point of it. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "csvfs/base/assert.h"
#include "tests/crash/crash.h"
#include "tests/crash/script.h"

static struct {
	struct world *main, *model;
	struct disk *main_disk, *model_disk;
	struct script script;
	uint64_t seed, point;
	uint64_t changes, acked; /* at the last point that was tried */
} run;

/* ------------------------------------------------------------------ one case */

static uint64_t dump(struct world *w, bool print, int *err)
{
	return script_dump(w, run.script.cluster_bytes, print, err);
}

/* All that was executed and not answered is sent again, in its order: then all of it is there once. */
static bool resend(uint32_t at, struct prng *r)
{
	struct script *s = &run.script;
	uint32_t lo = s->acked ? s->acked - 1 : 0;
	bool whole = true;
	int err;

	if (prng_below(r, 2))
		return true;
	for (uint32_t i = lo; i + 1 < s->states; i++) {
		struct actor *a = &s->actor[s->logged[i]];
		struct fs_extent x[64];
		struct fs_reply rp = {.extents = x, .extent_room = 64};
		struct fs_request rq;

		if (a->executed != i + 2 || !script_resend(s, a->id, &rq)) {
			whole = whole && i < at;
			continue;
		}
		rq.data = a->room;
		err = world_request(rec.again, &rq, &rp);
		if (err) {
			printf("  %s sent again: error %d\n", fs_op_name(rq.op), err);
			recover_fail("a request sent again was executed twice, or not as the first "
				     "time");
			return false;
		}
		rec.resent++;
	}
	if (!whole)
		return true;
	if (dump(rec.again, false, &err) == s->state[s->states - 1] && !err)
		return true;
	recover_fail("after sending again the volume is not as if all were executed once");
	return false;
}

static void run_case(uint32_t variant)
{
	const struct script *s = &run.script;
	struct allowed a = {.state = s->state, .states = s->states, .dump = dump, .more = resend};

	a.lo = s->acked ? s->acked - 1 : 0;
	(void)snprintf(rec.id, sizeof(rec.id), "script.%u.%llu.%llu", opt.actions,
		(unsigned long long)run.seed, (unsigned long long)run.point);
	(void)recover_case(run.main_disk, variant, run.seed * 65537 + run.point, &a);
}

/* Power may fail here. */
static void point(void)
{
	uint32_t variants = disk_variants(run.main_disk, opt.variants);

	run.point++;
	if (rec.failed)
		return;
	if (opt.only) {
		if (run.point == opt.point)
			run_case(opt.variant);
		return;
	}
	/* What can be left, and what must be, are as at the last point. */
	if (run.changes == run.main_disk->changes && run.acked == run.script.acked)
		return;
	run.changes = run.main_disk->changes;
	run.acked = run.script.acked;
	if (run.point % opt.every)
		return;
	for (uint32_t v = 0; v < variants && !rec.failed; v++)
		run_case(v);
}

/* ------------------------------------------------------------------ one script */

static bool complete_one(struct script *s)
{
	if (prng_below(&s->prng, 2) && script_data_done(s))
		return true;
	return world_complete(run.main) || script_data_done(s);
}

/*
 * The journal comes to stand so that the script goes over the end of the ring, and is nearly full: of
 * what was checkpointed meanwhile nothing has reached its place yet.
 */
static void warm_up(struct script *s, uint32_t commits)
{
	struct fs_request rq = {.op = FS_SETATTR,
		.ino = s->node[1].ino[MAIN],
		.valid = FS_SET_MODE,
		.attr.mode = S_IFDIR | 0777};
	struct fs_reply rp;

	for (uint32_t i = 0; i < commits; i++) {
		memset(&rp, 0, sizeof(rp));
		rq.time_ns = 6;
		csv_assert(world_request(run.main, &rq, &rp) == 0);
	}
	rq.ino = s->node[1].ino[MODEL];
	csv_assert(world_request(run.model, &rq, &rp) == 0);
}

static void script_run(uint64_t seed)
{
	struct script *s = &run.script;
	uint32_t clusters[] = {4096, 4096, 65536};
	uint32_t cluster = clusters[seed % 3], quiet = 0;
	int err;

	run.seed = seed;
	run.point = 0;
	run.changes = UINT64_MAX;
	disk_reset(run.main_disk, NULL);
	disk_reset(run.model_disk, NULL);
	run.main->prng.s = seed;
	run.main->small = seed % 2;
	run.main->write_cache = run.main_disk->cache = seed % 8 != 7;
	recover_config(seed % 8 != 7, seed % 2);
	run.main->vol = run.model->vol = NULL;
	world_mkfs(run.main, run.main_disk, cluster);
	world_mkfs(run.model, run.model_disk, cluster);
	world_open(run.main, run.main_disk);
	world_settle(run.main, true);
	world_open(run.model, run.model_disk);
	world_settle(run.model, true);
	script_start(s, run.main, run.model, seed, 1 + (uint32_t)(seed % ACTORS_MAX), opt.actions,
		cluster);
	run.main->hold_places = seed % 4 == 1;
	if (seed % 4 == 1)
		warm_up(s, 470 + (uint32_t)prng_below(&s->prng, 40));
	s->state[0] = script_dump(run.model, cluster, false, &err);
	while (!script_finished(s) && !rec.failed && !s->fault[0]) {
		if (!quiet && prng_below(&s->prng, 12) == 0)
			quiet = 40;
		/* Time passes, so that a checkpoint begins: in between, and while all is quiet. */
		if (quiet == 20 || prng_below(&s->prng, 12) == 0)
			run.main->now_ns += 2 * NS_PER_SEC;
		if (prng_below(&s->prng, 5) == 0)
			world_evict(run.main);
		if (quiet)
			quiet--;
		else
			script_submit(s);
		world_step(run.main);
		script_collect(s);
		point();
		if (complete_one(s))
			point();
	}
	if (!rec.failed && !s->fault[0]) {
		vol_close(run.main->vol, run.main->fx);
		world_step(run.main);
		while (world_complete(run.main)) {
			point();
			world_step(run.main);
			point();
		}
		if (vol_state(run.main->vol) != VOL_CLOSED)
			recover_fail("the volume does not close");
	}
	if (s->fault[0])
		recover_fail(s->fault);
	if (vol_state(run.main->vol) != VOL_CLOSED)
		world_abandon(run.main);
	world_abandon(run.model);
}

void drive_scripts(void)
{
	run.main_disk = disk_new(CRASH_VOLUME_BYTES);
	run.model_disk = disk_new(CRASH_VOLUME_BYTES);
	run.main = world_new(&script_ops, true);
	run.model = world_new(&script_ops, false);
	run.model->in_order = true;
	for (uint64_t seed = opt.first; seed < opt.first + opt.seeds && !rec.failed; seed++)
		script_run(seed);
}
