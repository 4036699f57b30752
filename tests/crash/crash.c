/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * csvcrash - power fails at every point of a script; what comes back must be a state that was there.
 *
 *   csvcrash [--seeds N] [--first SEED] [--actions N] [--variants N] [--every N] [-v]
 *   csvcrash --case SEED.POINT.VARIANT [-v]
 *
 * A case: script SEED runs up to POINT (a command ended, or a step was taken), power fails, of the
 * loose writes those of VARIANT survive. Then
 *   1. the check of fsck.csvfs finds no fault, before and after recovery;
 *   2. the engine opens the volume (in some cases power fails again in the middle of that);
 *   3. the volume is as it was after some number of requests, all that were acknowledged included;
 *   4. (some cases) requests without a reply are sent again: each takes effect exactly once.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "csvfs/base/assert.h"
#include "tests/crash/script.h"
#include "tools/check/check.h"

#define VOLUME_BYTES (24u << 20)
#define CHECK_BYTES (16u << 20)

static struct {
	uint32_t seeds, actions, variants, every;
	uint64_t first;
	bool verbose;
	uint64_t only_seed, only_point;
	uint32_t only_variant;
	bool only;
} opt = {.seeds = 32, .actions = 12, .variants = 6, .every = 1, .first = 1};

static struct {
	struct world *main, *model, *again;
	struct disk *main_disk, *model_disk, *child, *grandchild;
	struct script script;
	void *check_region;
	uint64_t seed, point, cases, nested, resent;
	uint32_t variant;
	bool failed;
} run;

void csv_assert_fail(const char *expr, const char *file, int line)
{
	fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, expr);
	fprintf(stderr, "FAILED: csvcrash --case %llu.%llu.%u\n", (unsigned long long)run.seed,
		(unsigned long long)run.point, run.variant);
	exit(1);
}

static void fail(const char *what)
{
	run.failed = true;
	printf("FAILED: %s\n  replay: csvcrash --actions %u --case %llu.%llu.%u -v\n", what,
		opt.actions, (unsigned long long)run.seed, (unsigned long long)run.point,
		run.variant);
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

static bool check(struct disk *d, const char *when)
{
	struct check_dev dev = {.ctx = d, .read = check_read, .at = check_at, .bytes = VOLUME_BYTES};
	struct check_options o = {.on_problem = on_problem};
	struct check_report rep;
	struct mem mem;
	char what[128];

	mem_init(&mem, run.check_region, CHECK_BYTES);
	o.mem = &mem;
	if (check_volume(&dev, &o, &rep) == 0 && check_faults(&rep) == 0)
		return true;
	(void)snprintf(what, sizeof(what), "the check finds faults %s", when);
	fail(what);
	return false;
}

/* ------------------------------------------------------------------ one case */

static bool opened(struct disk *d)
{
	struct world *w = run.again;

	world_open(w, d);
	while (vol_state(w->vol) == VOL_OPENING && world_complete(w))
		world_step(w);
	if (vol_state(w->vol) == VOL_READY)
		return true;
	printf("  %s\n", vol_error(w->vol));
	fail("the volume does not open");
	return false;
}

/* Power fails again while the journal is replayed. */
static struct disk *opened_twice(struct disk *d, struct prng *r)
{
	struct world *w = run.again;
	uint64_t stop = w->completions + prng_below(r, 40);

	world_open(w, d);
	while (vol_state(w->vol) == VOL_OPENING && w->completions < stop && world_complete(w))
		world_step(w);
	disk_crash(d, run.grandchild, 2 + (uint32_t)prng_below(r, 20), prng_u64(r));
	world_abandon(w);
	run.nested++;
	return opened(run.grandchild) ? run.grandchild : NULL;
}

static bool state_is_known(uint32_t *at)
{
	const struct script *s = &run.script;
	uint32_t lo = s->acked ? s->acked - 1 : 0;
	int err;
	uint64_t is = script_dump(run.again, s->cluster_bytes, false, &err);

	if (err) {
		printf("  error %d\n", err);
		fail("the recovered volume cannot be read");
		return false;
	}
	for (uint32_t i = s->states; i-- > lo;) {
		*at = i;
		if (s->state[i] == is)
			return true;
	}
	for (uint32_t i = 0; i < lo; i++)
		if (s->state[i] == is)
			printf("  it is state %u, but %u were acknowledged\n", i, lo);
	if (opt.verbose || opt.only) {
		(void)script_dump(run.again, s->cluster_bytes, true, &err);
		fprintf(stderr, "model, %u executed, %u acknowledged:\n", s->states - 1, lo);
		(void)script_dump(run.script.model, s->cluster_bytes, true, &err);
	}
	fail("the recovered volume is in no state that was there since the last acknowledged one");
	return false;
}

/* All that was executed and not answered is sent again, in its order: then all of it is there once. */
static bool resend(uint32_t at)
{
	struct script *s = &run.script;
	uint32_t lo = s->acked ? s->acked - 1 : 0;
	bool whole = true;
	int err;

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
		err = world_request(run.again, &rq, &rp);
		if (err) {
			printf("  %s sent again: error %d\n", fs_op_name(rq.op), err);
			fail("a request sent again was executed twice, or not as the first time");
			return false;
		}
		run.resent++;
	}
	if (!whole)
		return true;
	if (script_dump(run.again, s->cluster_bytes, false, &err) == s->state[s->states - 1] && !err)
		return true;
	fail("after sending again the volume is not as if all were executed once");
	return false;
}

static bool closes_clean(struct disk *d)
{
	struct world *w = run.again;
	uint64_t before, after;
	int err;

	world_settle(w, true);
	vol_check(w->vol);
	before = script_dump(w, run.script.cluster_bytes, false, &err);
	vol_close(w->vol, w->fx);
	world_settle(w, false);
	if (vol_state(w->vol) != VOL_CLOSED) {
		fail("the volume does not close");
		return false;
	}
	if (!check(d, "after close") || !opened(d))
		return false;
	after = script_dump(w, run.script.cluster_bytes, false, &err);
	if (vol_needed_replay(w->vol) || before != after) {
		fail("closed in order and opened again, it is not the same");
		return false;
	}
	return true;
}

static void run_case(uint32_t variant)
{
	uint64_t id = run.seed * 1000003 + run.point * 101 + variant;
	struct prng r = {id};
	struct disk *d = run.child;
	uint32_t at;
	bool good;

	run.variant = variant;
	run.cases++;
	disk_crash(run.main_disk, run.child, variant, run.seed * 65537 + run.point);
	good = check(d, "after the crash");
	if (good && prng_below(&r, 4) == 0) {
		d = opened_twice(d, &r);
		good = d != NULL;
	} else if (good) {
		good = opened(d);
	}
	good = good && state_is_known(&at);
	if (good && prng_below(&r, 2) == 0)
		good = resend(at);
	if (good && prng_below(&r, 16) == 0)
		good = closes_clean(d);
	world_abandon(run.again);
	disk_reset(run.grandchild, NULL);
	disk_reset(run.child, NULL);
}

/* Power may fail here. */
static void point(void)
{
	uint32_t variants = disk_variants(run.main_disk, opt.variants);

	run.point++;
	if (run.failed)
		return;
	if (opt.only) {
		if (run.point == opt.only_point)
			run_case(opt.only_variant);
		return;
	}
	if (run.point % opt.every)
		return;
	for (uint32_t v = 0; v < variants && !run.failed; v++)
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
	struct fs_request rq = {.op = FS_SETATTR, .ino = s->node[1].ino[MAIN],
		.valid = FS_SET_MODE, .attr.mode = S_IFDIR | 0777};
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
	disk_reset(run.main_disk, NULL);
	disk_reset(run.model_disk, NULL);
	run.main->prng.s = seed;
	run.main->small = run.again->small = seed % 2;
	run.main->write_cache = run.main_disk->cache = run.again->write_cache = seed % 8 != 7;
	run.child->cache = run.grandchild->cache = run.main_disk->cache;
	run.main->vol = run.model->vol = run.again->vol = NULL;
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
	while (!script_finished(s) && !run.failed && !s->fault[0]) {
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
	if (!run.failed && !s->fault[0]) {
		vol_close(run.main->vol, run.main->fx);
		world_step(run.main);
		while (world_complete(run.main)) {
			point();
			world_step(run.main);
			point();
		}
		if (vol_state(run.main->vol) != VOL_CLOSED)
			fail("the volume does not close");
	}
	if (s->fault[0])
		fail(s->fault);
	if (vol_state(run.main->vol) != VOL_CLOSED)
		world_abandon(run.main);
	world_abandon(run.model);
}

static void options(int argc, char **argv)
{
	static const struct option names[] = {{"seeds", 1, NULL, 's'}, {"first", 1, NULL, 'f'},
		{"actions", 1, NULL, 'a'}, {"variants", 1, NULL, 'n'}, {"every", 1, NULL, 'e'},
		{"case", 1, NULL, 'c'}, {NULL, 0, NULL, 0}};
	unsigned long long seed, at;
	int c;

	while ((c = getopt_long(argc, argv, "v", names, NULL)) != -1) {
		switch (c) {
		case 's': opt.seeds = (uint32_t)atoi(optarg); break;
		case 'f': opt.first = strtoull(optarg, NULL, 10); break;
		case 'a': opt.actions = (uint32_t)atoi(optarg); break;
		case 'n': opt.variants = (uint32_t)atoi(optarg); break;
		case 'e': opt.every = (uint32_t)atoi(optarg); break;
		case 'v': opt.verbose = true; break;
		case 'c':
			if (sscanf(optarg, "%llu.%llu.%u", &seed, &at, &opt.only_variant) != 3)
				exit(2);
			opt.only = true;
			opt.only_seed = seed;
			opt.only_point = at;
			opt.first = seed;
			opt.seeds = 1;
			break;
		default: exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	options(argc, argv);
	world_traces = opt.verbose;
	run.main_disk = disk_new(VOLUME_BYTES);
	run.model_disk = disk_new(VOLUME_BYTES);
	run.child = disk_new(VOLUME_BYTES);
	run.grandchild = disk_new(VOLUME_BYTES);
	run.main = world_new(&script_ops, true);
	run.model = world_new(&script_ops, false);
	run.again = world_new(&script_ops, true);
	run.model->in_order = run.again->in_order = true;
	run.check_region = aligned_alloc(4096, CHECK_BYTES);
	for (uint64_t seed = opt.first; seed < opt.first + opt.seeds && !run.failed; seed++)
		script_run(seed);
	printf("%llu cases (%llu with a second crash, %llu requests sent again), %u scripts: %s\n",
		(unsigned long long)run.cases, (unsigned long long)run.nested,
		(unsigned long long)run.resent, opt.seeds, run.failed ? "FAILED" : "all good");
	return run.failed;
}
