/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * csvsim - runs seeds.  csvsim [--seeds N] [--from SEED] [--seed SEED] [-v] [--jobs N] ...
 *
 *   --seed N --minimise	takes away what a failing seed does not need, and prints the command that replays
 *			what is left (with --set and --drop)
 *   --set FIELD=VALUE,...	what struct sim_plan (sim.h) says instead of the seed
 *
 * Exit 0: no seed failed. A failing seed is printed with the command that replays it, and replayed with
 * its narrated trace into a file when -v is given.
 */
#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "csvfs/base/assert.h"
#include "metadata/ops.h"
#include "metadata/run_sync.h"
#include "tests/sim/sim.h"
#include "tools/check/check.h"

void load_set_file(struct sim *s, uint32_t f, uint64_t ino);

/* What one worker has run: in memory that all share. */
struct share {
	uint64_t done, failed;
	uint64_t hash; /* of all runs, in whatever order */
	bool stop; /* a seed has failed, or an assertion */
	struct sim totals;
};

static bool given_up, cut_off, well; /* --given-up, --cut-off, --well */

static const char *direction(void)
{
	return given_up ? " --given-up" : cut_off ? " --cut-off" : well ? " --well" : "";
}
static struct sim *current;
static struct share *shares, *my_share;
static uint32_t share_count;

/*
 * What a node that died still held (file data, its memory) ends with the process: that is no leak of
 * the code under test, whose memory is its region.
 */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

void csv_assert_fail(const char *expr, const char *file, int line)
{
	if (current && current->verbose)
		fflush(stdout);
	fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, expr);
	trial_failed(current, expr);
	if (my_share)
		my_share->stop = true;
	if (current)
		fprintf(stderr, "FAILED seed %lu at %lu us: replay with: csvsim --seed %lu -v%s\n",
			current->seed, current->now_ns / 1000, current->seed,
			direction());
	abort();
}

void sim_log(struct sim *s, const char *fmt, ...)
{
	char line[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	for (const char *p = line; *p; p++)
		s->hash = (s->hash ^ (uint8_t)*p) * 0x100000001b3ull;
	if (s->verbose)
		printf("%10.6f %s\n", (double)s->now_ns / 1e9, line);
}

void sim_fail(struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (s->failed)
		return;
	s->failed = true;
	va_start(ap, fmt);
	vsnprintf(s->why, sizeof(s->why), fmt, ap);
	va_end(ap);
	trial_failed(s, s->why);
	if (s->verbose)
		printf("%10.6f FAILED: %s\n", (double)s->now_ns / 1e9, s->why);
}

struct alloc {
	struct list link;
	uint8_t bytes[];
};
_Static_assert(sizeof(struct alloc) == 16, "what malloc() aligns stays aligned");

void *sim_alloc(struct sim *s, size_t bytes)
{
	struct alloc *a = calloc(1, sizeof(*a) + bytes);

	list_add(&a->link, &s->allocs);
	return a->bytes;
}

void sim_free(void *p)
{
	struct alloc *a = container_of(p, struct alloc, bytes);

	list_del(&a->link);
	free(a);
}

/* ------------------------------------------------------------------ the volume */

static int mem_read(void *ctx, uint64_t off, void *buf, uint64_t len)
{
	(void)ctx;
	lun_get(off, buf, len);
	return 0;
}

static int mem_write(void *ctx, uint64_t off, const void *buf, uint64_t len, bool fua)
{
	(void)ctx;
	(void)fua;
	lun_put(off, buf, len);
	return 0;
}

static int mem_flush(void *ctx)
{
	(void)ctx;
	return 0;
}

/* Little is left, so what is freed is used again at once. */
static void fill_volume(struct sim *s, struct run_sync *rs)
{
	struct fs_request rq = {.op = FS_STATFS, .ino = s->root_ino};
	struct fs_reply rp = {0};
	uint64_t room = (s->plan.files * 128u + 256u + draw(s, 2048)) << 10, avail;

	if (run_sync_request(rs, &rq, &rp))
		sim_fail(s, "statfs: error %d", rp.err);
	avail = rp.statfs.bavail * rp.statfs.bsize;
	rq = (struct fs_request){.op = FS_MKNOD, .ino = s->root_ino, .mode = S_IFREG | 0644,
		.name = "hog"};
	rp = (struct fs_reply){0};
	if (run_sync_request(rs, &rq, &rp))
		sim_fail(s, "making the hog: error %d", rp.err);
	if (avail <= room)
		return;
	rq = (struct fs_request){.op = FS_FALLOCATE, .ino = rp.attr.ino,
		.len = (avail - room) / SIM_CLUSTER_BYTES * SIM_CLUSTER_BYTES};
	rp = (struct fs_reply){0};
	if (run_sync_request(rs, &rq, &rp))
		sim_fail(s, "filling the volume: error %d", rp.err);
}

static void make_volume(struct sim *s)
{
	struct sync_dev dev = {.ctx = s, .bytes = SIM_VOLUME_BYTES, .read = mem_read,
		.write = mem_write, .flush = mem_flush};
	struct image_params p = {.cluster_bytes = SIM_CLUSTER_BYTES, .cluster_name = "sim",
		.journal_bytes = IMAGE_JOURNAL_BYTES_MIN, .time_ns = 1};
	struct run_sync_config rc = {.dev = &dev, .ops = &metadata_ops, .mem_bytes = 32u << 20,
		.cache_bytes = 4u << 20};
	struct run_sync *rs;
	char why[256] = "";

	if (sim_grows(s))
		p.volume_bytes = SIM_VOLUME_BYTES * 3 / 4;
	for (int i = 0; i < 16; i++)
		p.uuid[i] = s->uuid[i] = (uint8_t)(i + s->seed);
	if (run_sync_mkfs(&dev, &p, &metadata_ops, NULL, why) || run_sync_open(&rc, &rs, why)) {
		sim_fail(s, "mkfs: %s", why);
		return;
	}
	s->root_ino = le64_get(vol_super(run_sync_vol(rs))->root_ino);
	s->data_start = le64_get(vol_super(run_sync_vol(rs))->data_start) * BLOCK_SIZE;
	for (uint32_t f = 0; f < s->plan.files; f++) {
		struct fs_request rq = {.op = FS_MKNOD, .ino = s->root_ino, .mode = S_IFREG | 0644};
		struct fs_reply rp = {0};

		snprintf(rq.name, sizeof(rq.name), "data%u", f);
		if (run_sync_request(rs, &rq, &rp))
			sim_fail(s, "making data%u: error %d", f, rp.err);
		load_set_file(s, f, rp.attr.ino);
		locks_set_file(s, f, rp.attr.ino);
		if (f & 1) {
			/* Half of the files grow by being written, half are sparse from the start. */
			rq = (struct fs_request){.op = FS_SETATTR, .ino = rp.attr.ino,
				.valid = FS_SET_SIZE, .attr.size = 128u << 10};
			(void)run_sync_request(rs, &rq, &rp);
		}
	}
	if (!s->failed) {
		struct fs_request rq = {.op = FS_MKNOD, .ino = s->root_ino, .mode = S_IFREG | 0644,
			.name = "shared"};
		struct fs_reply rp = {0};

		if (run_sync_request(rs, &rq, &rp))
			sim_fail(s, "making the shared file: error %d", rp.err);
		more_set_file(s, rp.attr.ino);
		rq = (struct fs_request){.op = FS_SETATTR, .ino = rp.attr.ino, .valid = FS_SET_SIZE,
			.attr.size = more_records_at(s)};
		if (rq.attr.size && run_sync_request(rs, &rq, &rp))
			sim_fail(s, "making the shared file longer: error %d", rp.err);
		edges_make(s, rs);
	}
	if (s->plan.bulk && !s->failed) {
		struct fs_request rq = {.op = FS_MKNOD, .ino = s->root_ino, .mode = S_IFREG | 0644,
			.name = "bulk"};
		struct fs_reply rp = {0};

		if (run_sync_request(rs, &rq, &rp))
			sim_fail(s, "making the file of the bulk: error %d", rp.err);
		bulk_set_file(s, rp.attr.ino);
	}
	if (s->plan.tight)
		fill_volume(s, rs);
	leases_make(s, rs);
	run_sync_close(rs);
}

static int check_read(void *ctx, uint64_t off, void *buf, uint32_t len)
{
	(void)ctx;
	lun_get_stable(off, buf, len);
	return 0;
}

static void on_problem(void *ctx, const struct check_problem *p)
{
	char text[256];

	check_problem_text(p, text, sizeof(text));
	sim_log(ctx, "fsck: %s", text);
}

static void fsck(struct sim *s, const char *when)
{
	static void *region;
	struct mem mem;
	struct check_dev dev = {.ctx = s, .read = check_read, .bytes = SIM_VOLUME_BYTES};
	struct check_options o = {.mem = &mem, .on_problem = on_problem, .ctx = s};
	struct check_report rep = {0};
	int err;

	if (!region)
		region = aligned_alloc(4096, 32u << 20);
	mem_init(&mem, region, 32u << 20);
	err = check_volume(&dev, &o, &rep);
	if (rep.orphans && s->leave_clean && !s->leave_fault && !s->leave_late)
		sim_fail(s, "all have unmounted in order, and %lu files without a name are left", rep.orphans);
	if (err || check_faults(&rep))
		sim_fail(s, "fsck %s: error %d, %lu faults", when, err, check_faults(&rep));
}

/* ------------------------------------------------------------------ a run */

static uint64_t dump_at_ns; /* --dump-at: what everybody waits for then */
static uint32_t forbidden; /* bits of faults that the command line excludes */

/* --given-up, --cut-off, --well: one thing in each seed, as often as it can be. */
static void directed(const struct sim *s, struct sim_plan *p)
{
	if (given_up) {
		p->given_up = true;
		p->media = p->ring_cut = p->busy = p->fabric = p->bulk = p->crowd = p->alone = false;
		p->only_harmless = p->only_hangs = false;
		p->lockers = 2;
		p->hold_ns = 0;
		p->safety_ns = 70 * SEC;
	}
	if (well) {
		bool two_node = p->two_node;

		p->well = p->crash = p->daemon_kill = p->path_loss = p->fabric = true;
		p->pause = p->partition = p->san_loss = p->net_break = p->hang = p->port_cut = p->slow_lun = p->flap = false;
		p->coro_restart = p->ring_cut = p->hostile = p->slow_net = p->media = p->busy = p->bulk = p->alone = false;
		p->image = p->only_harmless = p->only_hangs = p->tight = false;
		p->nodes = two_node ? 2 : s->seed % 2 ? 3 : 5;
		p->lockers = 2;
		p->hold_ns = 0;
	}
	if (cut_off) {
		p->cut_off = true;
		/* Where nothing is taken away, more is known of what must be there. */
		p->zeroing = s->seed / 2 % 3;
		p->media = p->ring_cut = p->busy = p->fabric = p->bulk = p->crowd = p->alone = false;
		p->only_harmless = p->only_hangs = p->tight = false;
		p->lockers = p->clients = 2;
		p->files = p->watchers = 2;
		p->porters = p->hostile = p->slow_net = false;
		p->nodes = s->seed % 2 ? 3 : 5;
		p->two_node = false;
		p->hold_ns = 0;
		p->safety_ns = 60 * SEC;
	}
}

/* From a generator of their own: no other run changes. */
static void draw_more(struct sim *s)
{
	struct sim_plan *p = &s->plan;

	s->media_rng.s = s->seed * 0xaf251af3b0f025b5ull + 5;
	p->media = prng_below(&s->media_rng, 100) < 15 && !(forbidden & 1u << 20);
	p->ring_cut = prng_below(&s->media_rng, 100) < 20 && !(forbidden & 1u << 21);
	/* Who locks, or watches, knows of no error. */
	if (p->media)
		p->lockers = p->watchers = 0;
	s->weather.rng.s = s->seed * 0xc2b2ae3d27d4eb4full + 13;
	p->busy = prng_below(&s->weather.rng, 100) < 12 && !(forbidden & 1u << 22);
	p->fabric = prng_below(&s->weather.rng, 100) < 12 && !(forbidden & 1u << 23);
	p->bulk = prng_below(&s->weather.rng, 100) < 3 && !p->tight;
	p->crowd = prng_below(&s->weather.rng, 100) < 8 && !p->media;
	/* Much of it goes through another node. */
	p->fabric |= p->bulk && !(forbidden & 1u << 23);
	p->alone = prng_below(&s->weather.rng, 100) < 3;
	p->image = p->alone && prng_below(&s->weather.rng, 100) < 40;
	/* Not drawn: no other run changes. */
	p->bare = p->alone && !p->image && s->seed % 2;
	p->no_reset = s->seed % 50 == 41;
	p->silent_aborts = s->seed % 12 == 6;
	/* What is sent through another node is to be waited for longer than that. */
	if (p->hold_ns && prng_below(&s->weather.rng, 2)) {
		p->path_loss = p->slow_lun = true;
		p->hold_ns = 300 * MS + prng_below(&s->weather.rng, 1500) * MS;
	}
}

static void leave_alone(struct sim_plan *p)
{
	p->nodes = 1;
	p->two_node = p->partition = p->flap = p->coro_restart = p->port_cut = p->net_break = p->slow_net = false;
	p->hostile = p->ring_cut = p->only_harmless = p->only_hangs = false;
	if (p->image)
		p->path_loss = p->late_writes = p->san_loss = p->slow_lun = p->fabric = p->busy = false;
}

static void draw_plan(struct sim *s)
{
	struct sim_plan *p = &s->plan;

	p->nodes = 2 + (uint32_t)draw(s, 3);
	p->two_node = p->nodes == 2;
	p->write_cache = chance(s, 60);
	p->abort_supported = chance(s, 50);
	p->crash = chance(s, 50) && !(forbidden & 1);
	p->daemon_kill = chance(s, 40) && !(forbidden & 2);
	p->pause = chance(s, 30) && !(forbidden & 4);
	p->path_loss = chance(s, 50) && !(forbidden & 8);
	p->partition = chance(s, 30) && !(forbidden & 16);
	p->move = chance(s, 50) && !(forbidden & 32);
	p->late_writes = chance(s, 40) && !(forbidden & 64);
	p->san_loss = chance(s, 20) && !(forbidden & 128);
	p->net_break = chance(s, 40) && !(forbidden & 256);
	p->hang = chance(s, 30) && !(forbidden & 512);
	p->port_cut = chance(s, 25) && !(forbidden & 1024);
	p->slow_lun = chance(s, 20) && !(forbidden & 2048);
	p->flap = chance(s, 25) && !(forbidden & 4096);
	p->safety_ns = 5 * SEC + draw(s, 40) * SEC;
	p->clients = 1 + (uint32_t)draw(s, 3);
	p->files = 1 + (uint32_t)draw(s, 4);
	p->names = 1 + (uint32_t)draw(s, 6);
	p->lockers = (uint32_t)draw(s, 3);
	p->zeroing = chance(s, 50);
	p->porters = chance(s, 50);
	p->kills = chance(s, 30) && !(forbidden & 8192);
	p->tight = chance(s, 30) && !(forbidden & 16384);
	p->hostile = chance(s, 20) && !(forbidden & 32768);
	p->slow_net = chance(s, 20) && !(forbidden & 65536);
	p->ctl = chance(s, 20) && !(forbidden & 131072);
	p->hold_ns = chance(s, 12) && !(forbidden & 262144) ? 300 * MS + draw(s, 10000) * MS : 0;
	p->forgets = chance(s, 50);
	p->reset_tells_all = chance(s, 50);
	p->coro_restart = chance(s, 25) && !(forbidden & 524288);
	/* Who asks for a lock and is told EIO does not know what it holds. */
	if (p->hold_ns)
		p->lockers = 0;
	/* A watcher knows of no error. */
	p->watchers = p->hold_ns || p->tight ? 0 : (uint32_t)draw(s, 3);
	p->scribes = chance(s, 40);
	p->only_harmless = chance(s, 6);
	p->only_hangs = !p->only_harmless && chance(s, 6) && p->hang;
	draw_more(s);
	directed(s, p);
	p->image &= p->alone;
	p->bare &= p->alone;
	if (p->alone)
		p->only_harmless = p->only_hangs = false;
	if (!p->only_harmless && !p->only_hangs)
		return;
	p->crash = p->daemon_kill = p->pause = p->path_loss = p->partition = p->move = p->late_writes =
		p->san_loss = p->flap = p->coro_restart = p->ctl = p->tight = p->ring_cut = p->media = false;
	p->busy = p->fabric = p->bulk = false;
	p->hostile &= p->only_harmless;
	p->slow_net &= p->only_harmless;
	p->hold_ns = 0;
	p->hang = p->only_hangs;
	p->port_cut = p->slow_lun = p->net_break = p->only_harmless;
	p->safety_ns += 60 * SEC;
}

/* A run takes up to a million. */
#define STEPS_MAX 20000000

static void run_until(struct sim *s, uint64_t t)
{
	while (!s->failed && s->heap_count && s->heap[0].at_ns <= t && s->steps <= STEPS_MAX && sim_run_one(s))
		;
	if (s->steps > STEPS_MAX)
		sim_fail(s, "a run without end: %lu steps", s->steps);
	if (s->now_ns < t)
		s->now_ns = t;
}

static bool all_down(const struct sim *s)
{
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		if (s->n[i].up)
			return false;
	}
	return true;
}

static void say_stuck(struct sim *s, const char *what)
{
	load_say_stuck(s);
	locks_say_stuck(s);
	more_say_stuck(s);
	leases_say_stuck(s);
	edges_say_stuck(s);
	bulk_say_stuck(s);
	crowds_say_stuck(s);
	admins_say_stuck(s);
	nodes_say_stuck(s);
	lun_say_stuck(s);
	sim_fail(s, "%s: does not end", what);
}

static bool at_rest(const struct sim *s)
{
	return admins_idle(s) && bulk_idle(s) && crowds_idle(s) && edges_idle(s) && leases_idle(s) && load_idle(s) && locks_idle(s) && more_idle(s);
}

/* Who has just woken up, and does not know yet how the others stand, cannot leave together with them: its last word comes when they are gone. */
static bool all_stand(const struct sim *s)
{
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		if (s->n[i].up && !node_stands(s->n[i].core))
			return false;
	}
	return true;
}

static void phases(struct sim *s)
{
	uint64_t limit;

	aimed_paths(s);
	for (uint32_t i = 1; i <= s->plan.nodes; i++)
		node_start(s, &s->n[i]);
	faults_start(s);
	aimed_start(s);
	weather_start(s);
	admins_start(s);
	if (s->plan.only_harmless || s->plan.only_hangs) {
		run_until(s, 2 * SEC);
		s->settled_epoch = node_epoch(s->n[1].core);
	}
	if (dump_at_ns && dump_at_ns < s->plan.safety_ns) {
		run_until(s, dump_at_ns);
		load_say_stuck(s);
		nodes_say_stuck(s);
		lun_say_stuck(s);
	}
	run_until(s, s->plan.safety_ns);
	faults_heal(s);
	load_stop(s);
	locks_stop(s);
	more_stop(s);
	leases_stop(s);
	edges_stop(s);
	bulk_stop(s);
	crowds_stop(s);
	/* Liveness: a quorate set that heals ends everything within its own time-outs. */
	limit = s->now_ns + 180 * SEC;
	while (!s->failed && s->now_ns < limit && !(at_rest(s) && all_stand(s) && admins_agree(s)))
		run_until(s, s->now_ns + 100 * MS);
	if (!s->failed && !at_rest(s))
		say_stuck(s, "an operation of an application");
	else if (!s->failed && !all_stand(s))
		say_stuck(s, "a node");
	else if (!s->failed && !admins_agree(s))
		say_stuck(s, "that a node does not know whether a scrub is wanted");
	locks_final_check(s);
	leave_all(s);
	limit = s->now_ns + 120 * SEC;
	while (!s->failed && s->now_ns < limit && !all_down(s))
		run_until(s, s->now_ns + 100 * MS);
	if (!s->failed && !all_down(s))
		say_stuck(s, "unmounting");
	run_until(s, s->now_ns + 20 * SEC);
	if (!s->failed)
		fsck(s, "at the end");
	if (!s->failed)
		leave_check(s);
}

static void workload_create(struct sim *s)
{
	load_create(s);
	locks_create(s);
	more_create(s);
	leases_create(s);
	edges_create(s);
	bulk_create(s);
	crowds_create(s);
	admins_create(s);
}

static void workload_destroy(struct sim *s)
{
	load_destroy(s);
	locks_destroy(s);
	more_destroy(s);
	leases_destroy(s);
	edges_destroy(s);
	crowds_destroy(s);
}

static void count_run(struct sim *totals, const struct sim *s)
{
	totals->ops_done += s->ops_done;
	totals->data_ops += s->data_ops;
	totals->steps += s->steps;
	totals->crashes += s->crashes;
	totals->path_losses += s->path_losses;
	totals->partitions += s->partitions;
	totals->pauses += s->pauses;
	totals->moves += s->moves;
	totals->san_losses += s->san_losses;
	totals->hangs += s->hangs;
	totals->port_cuts += s->port_cuts;
	totals->slow_luns += s->slow_luns;
	totals->flaps += s->flaps;
	totals->coro_restarts += s->coro_restarts;
	totals->ring_cuts += s->ring_cuts;
	totals->media_errors += s->media_errors;
	totals->controls += s->controls;
	totals->spoilt += s->spoilt;
	totals->tailed += s->tailed;
	totals->waited_out += s->waited_out;
	totals->statted += s->statted;
	totals->left_kept += s->left_kept;
	totals->candidate_hangs += s->candidate_hangs;
	totals->looks += s->looks;
	if (s->stall_ns > totals->stall_ns)
		totals->stall_ns = s->stall_ns;
}

static bool run_seed(uint64_t seed, bool verbose, uint64_t *hash, struct sim *totals)
{
	struct sim *s = calloc(1, sizeof(*s));
	bool ok;

	s->seed = seed;
	s->rng.s = seed * 0x9e3779b97f4a7c15ull + 1;
	s->verbose = verbose;
	list_init(&s->conns);
	list_init(&s->allocs);
	current = s;
	draw_plan(s);
	plan_cut(s);
	if (s->plan.alone)
		leave_alone(&s->plan);
	for (uint32_t i = 1; i <= SIM_NODES_MAX; i++) {
		s->n[i].id = i;
		s->n[i].s = s;
		trace_format(s->n[i].name, NODE_NAME_MAX, "n%u", i);
		s->n[i].region = totals->n[i].region;
		s->n[i].dp_region = totals->n[i].dp_region;
		s->n[i].fx.arena = totals->n[i].fx.arena;
	}
	lun_create(s);
	workload_create(s);
	make_volume(s);
	if (!s->failed)
		phases(s);
	ok = !s->failed;
	*hash = s->hash;
	if (!ok)
		fprintf(stderr, "FAILED seed %lu: %s\n   replay with: csvsim --seed %lu -v%s\n", seed,
			s->why, seed, direction());
	for (uint32_t i = 1; i <= SIM_NODES_MAX; i++) {
		totals->n[i].region = s->n[i].region;
		totals->n[i].dp_region = s->n[i].dp_region;
		totals->n[i].fx.arena = s->n[i].fx.arena;
	}
	count_run(totals, s);
	totals->now_ns += s->now_ns;
	workload_destroy(s);
	lun_destroy(s);
	list_for_each_entry_safe(a, tmp, &s->allocs, struct alloc, link)
		free(a);
	free(s->heap);
	free(s);
	current = NULL;
	return ok;
}

void sim_trial(uint64_t seed)
{
	struct sim *totals = calloc(1, sizeof(*totals));
	uint64_t hash;

	(void)run_seed(seed, false, &hash, totals);
}

/* A failure ends all workers. */
static bool stopped(bool keep)
{
	for (uint32_t j = 0; j < share_count && !keep; j++) {
		if (__atomic_load_n(&shares[j].stop, __ATOMIC_RELAXED))
			return true;
	}
	return false;
}

static void run_share(struct share *sh, uint64_t from, uint64_t to, uint32_t step, bool verbose,
	bool keep, uint64_t twice)
{
	uint64_t h, h2;

	my_share = sh;
	for (uint64_t seed = from; seed < to; seed += step) {
		bool ok = run_seed(seed, verbose, &h, &sh->totals);

		sh->done++;
		sh->hash += h;
		/* The same seed twice is the same run, or a replay would show something else. */
		if (ok && !verbose && seed % 100 < twice) {
			(void)run_seed(seed, false, &h2, &sh->totals);
			if (h != h2) {
				fprintf(stderr, "FAILED seed %lu: two runs differ\n", seed);
				ok = false;
			}
		}
		sh->failed += !ok;
		sh->stop |= !ok;
		if (stopped(keep))
			return;
	}
}

static void add_up(struct sim *t, const struct share *sh, uint64_t *done, uint64_t *failed)
{
	*done += sh->done;
	*failed += sh->failed;
	t->hash += sh->hash;
	t->steps += sh->totals.steps;
	t->ops_done += sh->totals.ops_done;
	t->data_ops += sh->totals.data_ops;
	t->now_ns += sh->totals.now_ns;
	t->crashes += sh->totals.crashes;
	t->path_losses += sh->totals.path_losses;
	t->partitions += sh->totals.partitions;
	t->pauses += sh->totals.pauses;
	t->moves += sh->totals.moves;
	t->san_losses += sh->totals.san_losses;
	t->hangs += sh->totals.hangs;
	t->port_cuts += sh->totals.port_cuts;
	t->slow_luns += sh->totals.slow_luns;
	t->flaps += sh->totals.flaps;
	t->coro_restarts += sh->totals.coro_restarts;
	t->ring_cuts += sh->totals.ring_cuts;
	t->media_errors += sh->totals.media_errors;
	t->controls += sh->totals.controls;
	t->spoilt += sh->totals.spoilt;
	t->tailed += sh->totals.tailed;
	t->waited_out += sh->totals.waited_out;
	t->statted += sh->totals.statted;
	t->left_kept += sh->totals.left_kept;
	t->looks += sh->totals.looks;
	if (sh->totals.stall_ns > t->stall_ns)
		t->stall_ns = sh->totals.stall_ns;
}

static int usage(void)
{
	fprintf(stderr, "usage: csvsim [--seeds N] [--from SEED] [--seed SEED] [-v] [--twice PERCENT]"
			" [--keep-going] [--jobs N]\n"
			"  [--no-faults MASK] [--given-up] [--cut-off] [--dump-at SECONDS]\n"
			"  [--set FIELD=VALUE,...] [--drop FAULT[-FAULT],...]\n"
			"     (no seed draws one_hole, one_nexus, neighbours, slow_fence, crawl, follow, hosts_off, lost_grants, and those of aimed.c: tests/sim/sim.h)\n"
			"  --seed SEED --minimise\n");
	return 2;
}

struct options {
	uint64_t seeds, from, twice;
	uint32_t jobs;
	bool verbose, keep, shrink;
};

/* With a value: false if it is not known, or not understood. */
static bool option(struct options *o, const char *name, const char *value)
{
	if (!strcmp(name, "--set"))
		return plan_set(value);
	if (!strcmp(name, "--drop"))
		return plan_drop(value);
	if (!strcmp(name, "--seeds"))
		o->seeds = strtoull(value, NULL, 0);
	else if (!strcmp(name, "--from"))
		o->from = strtoull(value, NULL, 0);
	else if (!strcmp(name, "--dump-at"))
		dump_at_ns = (uint64_t)(strtod(value, NULL) * 1e9);
	else if (!strcmp(name, "--jobs"))
		o->jobs = (uint32_t)strtoul(value, NULL, 0);
	else if (!strcmp(name, "--twice"))
		o->twice = strtoull(value, NULL, 0);
	else if (!strcmp(name, "--no-faults"))
		forbidden = (uint32_t)strtoul(value, NULL, 0);
	else if (!strcmp(name, "--seed"))
		o->from = strtoull(value, NULL, 0), o->seeds = 1;
	else
		return false;
	return true;
}

static bool options(struct options *o, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-v"))
			o->verbose = true;
		else if (!strcmp(argv[i], "--minimise"))
			o->shrink = true;
		else if (!strcmp(argv[i], "--keep-going"))
			o->keep = true;
		else if (!strcmp(argv[i], "--given-up"))
			given_up = true;
		else if (!strcmp(argv[i], "--cut-off"))
			cut_off = true;
		else if (!strcmp(argv[i], "--well"))
			well = true;
		else if (i + 1 == argc || !option(o, argv[i], argv[i + 1]))
			return false;
		else
			i++;
	}
	if (o->jobs > o->seeds)
		o->jobs = (uint32_t)o->seeds;
	return o->jobs > 0;
}

int main(int argc, char **argv)
{
	struct options o = {.seeds = 200, .from = 1, .twice = 2, .jobs = 1};
	uint64_t failed = 0, done = 0;
	struct share *sum;
	struct sim *totals = calloc(1, sizeof(*totals));
	struct timespec t0, t1;
	double sec;

	if (!options(&o, argc, argv))
		return usage();
	if (o.shrink)
		return minimise(o.from);
	/* Memory that a run gives back serves the next one: the kernel's zeroing of fresh pages was a tenth of the time. */
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	sum = mmap(NULL, o.jobs * sizeof(*sum), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	shares = sum;
	share_count = o.jobs;
	for (uint32_t j = 1; j < o.jobs; j++) {
		fflush(NULL);
		if (fork() == 0) {
			run_share(&sum[j], o.from + j, o.from + o.seeds, o.jobs, o.verbose, o.keep, o.twice);
			exit(0);
		}
	}
	run_share(&sum[0], o.from, o.from + o.seeds, o.jobs, o.verbose, o.keep, o.twice);
	for (uint32_t j = 1; j < o.jobs; j++) {
		int status;

		/* A worker that died on an assertion has said so; its seed counts as failed. */
		if (wait(&status) > 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
			failed++;
	}
	for (uint32_t j = 0; j < o.jobs; j++)
		add_up(totals, &sum[j], &done, &failed);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	sec = (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9;
	printf("%lu seeds, %lu failed, %.1f s (%.0f a second); %lu virtual hours, %lu operations, "
	       "%lu of data; %u crashes, %u paths lost, %u partitions, %u pauses, %u moves, "
	       "%u SAN power losses, %u hangs (stall %.1f s), %u ports cut, %u slow LUNs, %u flaps, "
	       "%u corosync restarts, %u rings cut, %u bad places, %u spoilt frames, "
	       "%u csvctl, %lu looks at names and owners, %lu appended records followed, %lu times of files, %lu writes over what a dead node had under way, %u registrations left for who was fenced; %lu steps, hash %016lx\n", done, failed, sec, (double)done / sec,
		totals->now_ns / SEC / 3600, totals->ops_done, totals->data_ops, totals->crashes,
		totals->path_losses, totals->partitions, totals->pauses, totals->moves,
		totals->san_losses, totals->hangs, (double)totals->stall_ns / 1e9, totals->port_cuts,
		totals->slow_luns, totals->flaps, totals->coro_restarts,
		totals->ring_cuts, totals->media_errors, totals->spoilt, totals->controls, totals->looks, totals->tailed, totals->statted, totals->waited_out,
		totals->left_kept, totals->steps, totals->hash);
	return failed != 0;
}
