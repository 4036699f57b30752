/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pairs.c - operations of the table alone, two in one commit, and a few at once; power may fail at
 * every point from when they are submitted until the volume is closed.
 *
 * The same requests go to a model that never crashes, in the order in which the volume executed them:
 * it says what the states are. Besides recover.h:
 *   - a read that shows a change is answered only when that change is durable;
 *   - space is never in use for two things: not even for one in what a crash would leave now, and for
 *     another in what is not durable yet (invariant 8).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "csvfs/base/assert.h"
#include "metadata/engine.h"
#include "metadata/extent.h"
#include "metadata/inode.h"
#include "metadata/ops.h"
#include "tests/crash/crash.h"
#include "tests/crash/script.h"
#include "tests/crash/table.h"

#define C 4096u
#define JOBS_MAX 20u
#define DATA_MAX 8u
#define LIFE 0x11fe0001u
#define OWNED_MAX 4096u
#define NEW_ATTRS 14u

enum phase { JOB_REQUEST, JOB_DATA, JOB_COMMIT, JOB_DONE };

struct job {
	const struct table_op *op;
	uint32_t id;
	enum phase phase;
	struct vol_req req;
	uint32_t executed; /* states when the request in flight had been executed; 0: not yet */
	bool changed;
	uint64_t seq;
	struct fs_extent got[16], wrote[DATA_MAX];
	uint32_t wrote_count;
	uint64_t data[DATA_MAX];
	uint32_t data_count;
	uint64_t h0, h1; /* of a read: the reply before and after the first operation */
	uint8_t room[8192];
};

/* A cluster of the volume, and what it is of the file. */
struct owned {
	uint64_t cluster, what;
};
struct owners {
	struct owned o[OWNED_MAX];
	uint32_t count;
};

/* A volume that is the start of many runs. */
struct base {
	struct disk *disk;
	uint64_t things[T_COUNT];
};

static struct {
	struct base roomy, many, full, hole, short16, short20;
	const struct base *base;
	struct world *main, *model;
	struct disk *main_disk, *model_disk;
	struct job job[JOBS_MAX];
	uint32_t jobs;
	uint64_t state[3 * JOBS_MAX];
	uint32_t logged[3 * JOBS_MAX]; /* job that made state i + 1, */
	enum phase logged_phase[3 * JOBS_MAX];
	uint32_t states, followed;
	uint32_t lo;
	struct prng prng;
	uint64_t seed, point, changes, tried_lo;
	struct owners now; /* of the main volume when something was executed last */
	bool owners_known, look_at_owners, exhaustive, long_run;
	uint64_t pairs, joined, runs;
	uint64_t least_bytes; /* of the volume: it has grown */
} run;

/* ------------------------------------------------------------------ who has which space */

static int owners_of(struct txn *t, void *arg)
{
	struct owners *o = arg;

	o->count = 0;
	for (uint32_t i = T_A; i < T_COUNT; i++) {
		struct extent_walk w;
		struct extent e;
		struct inode in;
		int err = things[i] ? inode_get_outside(t, things[i], &in) : -ESTALE;

		if (err == -ESTALE || (!err && inode_type(&in) != S_IFREG))
			continue;
		for (err = err ? err : extent_first(&in, 0, &w, &e); !err;
			err = extent_next(&w, &e)) {
			if (e.state == EXT_HOLE)
				continue;
			for (uint64_t k = 0; k < e.len && o->count < OWNED_MAX; k++)
				o->o[o->count++] = (struct owned){
					e.start + k, (uint64_t)i << 40 | (e.off + k)};
		}
		if (err != -ENOENT)
			return err;
	}
	return 0;
}

static int by_cluster(const void *a, const void *b)
{
	const struct owned *x = a, *y = b;

	return x->cluster < y->cluster ? -1 : x->cluster > y->cluster;
}

/* Of what a crash would leave, and of what the volume now does. */
static bool owners_agree(struct owners *left, struct owners *now)
{
	uint32_t k = 0;

	qsort(left->o, left->count, sizeof(left->o[0]), by_cluster);
	qsort(now->o, now->count, sizeof(now->o[0]), by_cluster);
	for (uint32_t i = 0; i < left->count; i++) {
		while (k < now->count && now->o[k].cluster < left->o[i].cluster)
			k++;
		if (k == now->count)
			return true;
		if (now->o[k].cluster != left->o[i].cluster || now->o[k].what == left->o[i].what)
			continue;
		printf("  cluster %llu is cluster %llu of file %llu, and already given to file "
		       "%llu\n",
			(unsigned long long)left->o[i].cluster,
			(unsigned long long)(left->o[i].what & 0xffffffff),
			(unsigned long long)(left->o[i].what >> 40),
			(unsigned long long)(now->o[k].what >> 40));
		return false;
	}
	return true;
}

/* ------------------------------------------------------------------ what was executed */

static int note_execute(struct txn *t, struct vol_req *r)
{
	int err = metadata_ops.execute(t, r);
	struct job *j = r->owner;

	if (!j || (err && err != -EINPROGRESS))
		return err;
	if (run.look_at_owners && txn_room(t) != TXN_OP_BLOCKS)
		run.owners_known = owners_of(t, &run.now) == 0;
	if (err)
		return err;
	j->changed = txn_room(t) != TXN_OP_BLOCKS;
	if (j->changed) {
		csv_assert(run.states < 3 * JOBS_MAX);
		run.logged[run.states - 1] = j->id;
		run.logged_phase[run.states - 1] = j->phase;
		run.states++;
	}
	j->executed = run.states;
	return 0;
}

static int note_replied(struct txn *t, struct vol_req *r)
{
	return metadata_ops.replied(t, r);
}

static int note_make_root(struct txn *t)
{
	return metadata_ops.make_root(t);
}

static int note_background(struct txn *t, uint64_t *ino)
{
	return metadata_ops.background(t, ino);
}

static const struct vol_ops pair_ops = {
	note_execute, note_replied, note_make_root, note_background};

static int count_orphans(struct txn *t, void *arg)
{
	uint64_t *n = arg, ino = 0;
	int err;

	*n = 0;
	while ((err = op_next_orphan(t, ino, &ino)) == 0)
		++*n;
	return err == -ENOENT ? 0 : err;
}

static uint64_t dump(struct world *w, bool print, int *err)
{
	uint64_t hash = script_dump(w, C, print, err), orphans = 0;

	if (!*err)
		*err = world_call(w, count_orphans, &orphans);
	return hash ^ orphans << 60;
}

/* ------------------------------------------------------------------ requests */

static void request(struct job *j, struct fs_request *rq)
{
	table_request(j->op, rq);
	rq->time_ns = 1700000000000000000ll + 1000 * (j->id + 1);
	if (j->phase == JOB_COMMIT) {
		rq->op = FS_LAYOUT_COMMIT;
		rq->extents = j->wrote;
		rq->extent_count = j->wrote_count;
		rq->valid = FS_SET_SIZE | FS_SET_MTIME;
		rq->attr.size = j->op->off + j->op->len;
		rq->attr.mtime_ns = rq->time_ns;
	}
	if (!fs_op_needs_slot(rq->op))
		return;
	rq->id.slot = j->id + 1;
	rq->id.life = LIFE;
	rq->id.seq = j->seq;
}

static void submit(struct job *j)
{
	memset(&j->req, 0, sizeof(j->req));
	j->seq++;
	j->executed = 0;
	request(j, &j->req.rq);
	j->req.owner = j;
	j->req.reply = (struct fs_reply){.extents = j->got,
		.extent_room = 16,
		.data = j->room,
		.data_room = sizeof(j->room)};
	vol_submit(run.main->vol, &j->req);
}

static uint64_t reply_hash(const struct fs_reply *rp)
{
	uint64_t h = 0xcbf29ce484222325ull;
	const struct fs_attr *a = &rp->attr;
	uint64_t v[] = {(uint64_t)(int64_t)rp->err, a->mode, a->nlink, a->size, a->blocks, a->uid,
		(uint64_t)a->mtime_ns, (uint64_t)a->ctime_ns, rp->off, rp->data_len,
		rp->extent_count};

	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++)
		h = (h ^ v[i]) * 0x100000001b3ull;
	for (uint32_t i = 0; i < rp->data_len; i++)
		h = (h ^ ((const uint8_t *)rp->data)[i]) * 0x100000001b3ull;
	for (uint32_t i = 0; i < rp->extent_count; i++)
		h = (h ^ rp->extents[i].len ^ (uint64_t)rp->extents[i].state << 60) *
		    0x100000001b3ull;
	return h;
}

/* The model does it; the reply is in *rp. */
static int model_request(struct job *j, enum phase phase, struct fs_reply *rp)
{
	static struct fs_extent x[16];
	static uint8_t room[8192];
	struct job as = *j;
	struct fs_request rq;

	as.phase = phase;
	request(&as, &rq);
	for (uint32_t i = 0; i < as.wrote_count; i++)
		as.wrote[i].lun_off = 0;
	*rp = (struct fs_reply){
		.extents = x, .extent_room = 16, .data = room, .data_room = sizeof(room)};
	return world_request(run.model, &rq, rp);
}

static void fill_cluster(const struct job *j, uint64_t off, uint64_t page[C / 8])
{
	memset(page, 0, C);
	page[0] = 0xdadb000000000000ull ^ (uint64_t)j->op->at << 32 ^ off / C;
}

/* The clusters of our range that are to be first-written: where. */
static uint32_t first_writes(
	const struct job *j, const struct fs_extent *x, uint32_t n, struct fs_extent *out)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < n; i++)
		for (uint64_t o = 0; x[i].state == EXT_UNWRITTEN && o < x[i].len; o += C)
			if (x[i].off + o >= j->op->off && x[i].off + o < j->op->off + j->op->len)
				out[count++] = (struct fs_extent){
					x[i].off + o, C, x[i].lun_off + o, EXT_WRITTEN, 0};
	return count;
}

static void model_data(const struct job *j, const struct fs_reply *rp)
{
	struct fs_extent x[DATA_MAX];
	uint32_t n = first_writes(j, rp->extents, rp->extent_count, x);
	uint64_t page[C / 8];

	for (uint32_t i = 0; i < n; i++) {
		fill_cluster(j, x[i].off, page);
		disk_write_now(run.model_disk, x[i].lun_off, page, C);
	}
}

static void follow_one(struct job *j, uint32_t at, enum phase phase)
{
	struct fs_reply rp;
	int err = model_request(j, phase, &rp);

	if (err) {
		printf("  model, %s: error %d\n", j->op->name, err);
		recover_fail("what the volume executed the model cannot");
		return;
	}
	if (phase == JOB_REQUEST && j->op->writes)
		model_data(j, &rp);
	run.state[at] = dump(run.model, false, &err);
	if (err)
		recover_fail("the model cannot be read");
}

static void follow(void)
{
	for (; run.followed < run.states && !rec.failed; run.followed++) {
		follow_one(&run.job[run.logged[run.followed - 1]], run.followed,
			run.logged_phase[run.followed - 1]);
		for (uint32_t i = 0; i < run.jobs; i++) {
			struct job *j = &run.job[i];
			struct fs_reply rp;

			if (j->op < table_reads || j->op >= table_reads + table_reads_count)
				continue;
			(void)model_request(j, JOB_REQUEST, &rp);
			j->h1 = reply_hash(&rp);
		}
	}
}

/* ------------------------------------------------------------------ replies */

static void read_replied(struct job *j)
{
	uint64_t h = reply_hash(&j->req.reply);

	j->phase = JOB_DONE;
	if (h == j->h0 && h != j->h1)
		return;
	if (h != j->h1)
		recover_fail("a read shows what never was");
	else if (h != j->h0 && run.lo < 1)
		run.lo = 1;
}

/* The same error as the model's, unless another request was executed in between. */
static void failed(struct job *j)
{
	uint32_t states = run.states;
	struct fs_reply rp;
	int err = j->req.reply.err;

	j->phase = JOB_DONE;
	if (run.jobs == 1) {
		printf("  %s: error %d\n", j->op->name, err);
		recover_fail("an operation fails that can be done");
		return;
	}
	if (states == 1 && run.job[0].phase != JOB_DONE)
		return;
	if (model_request(j, JOB_REQUEST, &rp) == err)
		return;
	printf("  %s: error %d, the model's is %d\n", j->op->name, err, rp.err);
	recover_fail("an operation fails, but not on the model");
}

static void replied(struct job *j)
{
	uint64_t page[C / 8];
	struct fs_reply rp;

	if (j->op >= table_reads && j->op < table_reads + table_reads_count) {
		read_replied(j);
		return;
	}
	if (j->req.reply.err) {
		failed(j);
		return;
	}
	if (j->changed && j->executed > run.lo + 1)
		run.lo = j->executed - 1;
	if (!j->op->writes || j->phase == JOB_COMMIT) {
		j->phase = JOB_DONE;
		return;
	}
	/* The space was there before: the model has not been asked yet. */
	if (!j->changed && model_request(j, JOB_REQUEST, &rp) == 0)
		model_data(j, &rp);
	j->wrote_count = first_writes(j, j->got, j->req.reply.extent_count, j->wrote);
	for (uint32_t i = 0; i < j->wrote_count; i++) {
		fill_cluster(j, j->wrote[i].off, page);
		j->data[j->data_count++] =
			disk_send(run.main_disk, j->wrote[i].lun_off, page, C, false);
	}
	j->phase = j->data_count ? JOB_DATA : JOB_COMMIT;
	if (j->phase == JOB_COMMIT)
		submit(j);
}

static bool data_done(void)
{
	for (uint32_t i = 0; i < run.jobs; i++) {
		struct job *j = &run.job[i];

		if (j->phase != JOB_DATA)
			continue;
		disk_done(run.main_disk, j->data[--j->data_count]);
		if (!j->data_count) {
			j->phase = JOB_COMMIT;
			submit(j);
		}
		return true;
	}
	return false;
}

/* ------------------------------------------------------------------ power fails */

/* What was executed and not answered is sent again, in its order. */
static bool more(uint32_t at, struct prng *r)
{
	struct owners left;
	int err;

	if (run.owners_known && at + 1 < run.states) {
		err = world_call(rec.again, owners_of, &left);
		if (err || !owners_agree(&left, &run.now)) {
			recover_fail("space is given away before what freed it is durable");
			return false;
		}
	}
	if (le64_get(vol_super(rec.again->vol)->volume_bytes) < run.least_bytes) {
		recover_fail("a volume that has grown is small again");
		return false;
	}
	if (prng_below(r, 2) || run.long_run)
		return true;
	for (uint32_t i = run.lo; i + 1 < run.states; i++) {
		struct job *j = &run.job[run.logged[i]];
		struct fs_reply rp = {.err = 0};

		if (j->executed != i + 2 || j->phase == JOB_DONE || !j->req.rq.id.slot)
			return true;
		err = world_request(rec.again, &j->req.rq, &rp);
		/* What it was about may be gone since: who made that has waited for the reply. */
		if (err && (err != -ESTALE || i >= at)) {
			printf("  %s sent again: error %d\n", j->op->name, err);
			recover_fail("a request sent again was executed twice, or not as the first "
				     "time");
			return false;
		}
		rec.resent++;
	}
	if (dump(rec.again, false, &err) == run.state[run.states - 1] && !err)
		return true;
	recover_fail("after sending again the volume is not as if all were executed once");
	return false;
}

static void set_id(void)
{
	(void)snprintf(rec.id, sizeof(rec.id), "%s+%s.%llu.%llu", opt.a, opt.b,
		(unsigned long long)run.seed, (unsigned long long)run.point);
}

static void point(void)
{
	struct allowed a = {.state = run.state,
		.states = run.states,
		.lo = run.lo,
		.dump = dump,
		.more = more,
		.loose_ends = run.long_run};
	uint64_t seed = run.seed * 65537 + run.point;
	uint32_t variants, simple;

	run.point++;
	set_id();
	if (rec.failed || (run.changes == run.main_disk->changes && run.tried_lo == run.lo))
		return;
	run.changes = run.main_disk->changes;
	run.tried_lo = run.lo;
	if (opt.only) {
		if (run.point == opt.point)
			(void)recover_case(run.main_disk, opt.variant, seed, &a);
		return;
	}
	if (run.point % opt.every)
		return;
	variants = disk_variants(run.main_disk, run.exhaustive ? UINT32_MAX : opt.variants);
	simple = 2 + (1u << run.main_disk->subsets_of);
	for (uint32_t v = 0; v < variants && !rec.failed; v++)
		if (v < simple || (v + run.point) % opt.cuts == 0)
			(void)recover_case(run.main_disk, v, seed, &a);
}

/* ------------------------------------------------------------------ one run */

static bool busy(void)
{
	for (uint32_t i = 0; i < run.jobs; i++)
		if (run.job[i].phase != JOB_DONE)
			return true;
	return false;
}

static void collect(void)
{
	struct vol_req *r;

	follow();
	while (!rec.failed && (r = vol_next_done(run.main->vol)) != NULL)
		replied(r->owner);
}

/* False: nothing will happen any more. */
static bool one_step(void)
{
	struct world *w = run.main;
	bool did = false;

	world_step(w);
	collect();
	point();
	if (prng_below(&run.prng, 2))
		did = data_done();
	did = did || world_complete(w) || data_done();
	collect();
	point();
	if (did)
		return true;
	if (vol_deadline(w->vol) == NEVER)
		return false;
	w->now_ns += 2 * NS_PER_SEC;
	return true;
}

static bool goes_on(void)
{
	return !rec.failed && vol_state(run.main->vol) != VOL_FROZEN;
}

static void to_the_end(void)
{
	while (goes_on() && one_step())
		;
	if (goes_on() && busy())
		recover_fail("a request is never answered");
	if (!rec.failed && vol_state(run.main->vol) == VOL_FROZEN)
		recover_fail(vol_error(run.main->vol));
}

static void start_base(const struct base *b, bool write_cache)
{
	run.base = b;
	memcpy(things, b->things, sizeof(things));
	disk_reset(run.main_disk, b->disk);
	disk_reset(run.model_disk, b->disk);
	if (run.main->write_cache != write_cache || !run.main->vol) {
		run.main->write_cache = run.main_disk->cache = write_cache;
		run.main->vol = NULL;
		recover_config(write_cache, false);
	}
	world_open(run.main, run.main_disk);
	world_settle(run.main, true);
	world_open(run.model, run.model_disk);
	world_settle(run.model, true);
}

/* On the volume as it is now: the first state. */
static void start_more(const struct table_op *const *ops, uint32_t n)
{
	struct fs_reply rp;
	int err;

	run.jobs = n;
	run.states = run.followed = 1;
	run.lo = 0;
	run.changes = UINT64_MAX;
	run.owners_known = false;
	/* What is in the cache need not be waited for: so they meet in one commit. */
	run.state[0] = dump(run.main, false, &err);
	if (err || dump(run.model, false, &err) != run.state[0])
		recover_fail("the two volumes are not alike at the start");
	for (uint32_t i = 0; i < n && !rec.failed; i++) {
		struct job *j = &run.job[i];

		uint64_t seq = j->seq;

		memset(j, 0, sizeof(*j));
		j->seq = seq; /* grows for as long as the process lives */
		j->op = ops[i];
		j->id = i;
		if (j->op >= table_reads && j->op < table_reads + table_reads_count) {
			(void)model_request(j, JOB_REQUEST, &rp);
			j->h0 = j->h1 = reply_hash(&rp);
		}
		submit(j);
	}
}

static void start_jobs(const struct table_op *const *ops, uint32_t n, uint64_t seed)
{
	run.seed = seed;
	run.point = 0;
	run.prng.s = run.main->prng.s = seed * 7919 + n;
	start_more(ops, n);
}

static void run_jobs(
	const struct base *b, const struct table_op *const *ops, uint32_t n, uint64_t seed)
{
	uint64_t commits;

	run.runs++;
	start_base(b, seed % 4 != 3);
	run.main->hold_places = seed / 4 % 2;
	commits = run.main->vol->commits;
	start_jobs(ops, n, seed);
	to_the_end();
	if (n == 2) {
		run.pairs++;
		run.joined += run.main->vol->commits == commits + 1 && run.states == 3;
	}
	if (!rec.failed) {
		vol_close(run.main->vol, run.main->fx);
		to_the_end();
		if (vol_state(run.main->vol) != VOL_CLOSED)
			recover_fail("the volume does not close");
	}
	if (vol_state(run.main->vol) != VOL_CLOSED)
		world_abandon(run.main);
	world_abandon(run.model);
}

/* ------------------------------------------------------------------ all runs */

static void make_base(struct base *b, enum fixture kind, uint64_t volume_bytes)
{
	struct world *w = world_new(&metadata_ops, false);

	b->disk = disk_new(CRASH_VOLUME_BYTES);
	b->disk->cache = false;
	w->volume_bytes = volume_bytes;
	table_fixture(w, b->disk, kind);
	memcpy(b->things, things, sizeof(things));
	world_free(w);
}

/* Who adds an operation adds it to the table. */
static void table_is_whole(void)
{
	for (uint32_t op = FS_NONE + 1; op < 64; op++) {
		bool there = false;

		for (uint32_t i = 0; i < table_count; i++)
			there = there || (uint32_t)table[i].op == op;
		if (there || !fs_op_needs_slot((enum fs_op)op))
			continue;
		printf("  no %s in the table\n", fs_op_name((enum fs_op)op));
		recover_fail("an operation is not tested");
	}
}

static void start(void)
{
	if (run.main)
		return;
	table_is_whole();
	run.main_disk = disk_new(CRASH_VOLUME_BYTES);
	run.model_disk = disk_new(CRASH_VOLUME_BYTES);
	run.main = world_new(&pair_ops, true);
	run.model = world_new(&metadata_ops, false);
	run.model->in_order = true;
	run.main->ino_is_open = run.model->ino_is_open = rec.again->ino_is_open = table_is_open;
	make_base(&run.roomy, FIXTURE_ROOMY, 0);
	make_base(&run.many, FIXTURE_LONG, 0);
	make_base(&run.full, FIXTURE_FULL, 0);
	make_base(&run.hole, FIXTURE_HOLE, 0);
	make_base(&run.short16, FIXTURE_ROOMY, 16 << 20);
	make_base(&run.short20, FIXTURE_ROOMY, 20 << 20);
}

static void names(const char *a, const char *b)
{
	(void)snprintf(opt.a, sizeof(opt.a), "%s", a);
	(void)snprintf(opt.b, sizeof(opt.b), "%s", b);
}

/* Whether there is a write cache changes with i only: that makes two new engines. */
static uint64_t seed_of(uint32_t i, uint32_t k)
{
	return 1 + i / 2 % 4 + 4 * ((i + k) % 2);
}

static void single(const struct table_op *o, uint64_t seed)
{
	names(o->name, "nothing");
	run.exhaustive = !o->is_long;
	run.long_run = o->is_long;
	run.main_disk->subsets_of = 6;
	run.main_disk->tear_all = !o->is_long;
	run_jobs(o->is_long ? &run.many : &run.roomy, &o, 1, seed);
	run.exhaustive = run.long_run = false;
	run.main_disk->subsets_of = 3;
	run.main_disk->tear_all = false;
}

void pairs_single(void)
{
	start();
	for (uint32_t i = 0; i < table_count && !rec.failed; i++)
		single(&table[i], seed_of(i, i / 4));
}

static void pair(const struct table_op *a, const struct table_op *b, uint64_t seed, bool full)
{
	const struct table_op *both[] = {a, b};

	char name[40];

	(void)snprintf(name, sizeof(name), "%s%s", full ? "full-" : "", b->name);
	names(a->name, name);
	run.look_at_owners = full;
	run_jobs(full ? &run.full : &run.roomy, both, 2, seed);
	run.look_at_owners = false;
}

/*
 * A chunk of metadata is filled and emptied, and its clusters, the only free ones, become data's: what
 * the journal still has of it must not come back.
 */
static void reused_chunk(uint64_t seed)
{
	static struct table_op attrs[16];
	static char name[16][32];
	static const struct table_op write = {"write", FS_LAYOUT_GET, T_HOLES, .off = 0,
		.len = 8 * C, .flags = FS_LAYOUT_WRITE, .writes = true};
	const struct table_op *ops[17];

	names("reused-chunk", "nothing");
	for (uint32_t i = 0; i < 16; i++) {
		(void)snprintf(name[i], sizeof(name[i]), "user.%u", i);
		attrs[i] = (struct table_op){"removexattr", FS_REMOVEXATTR, T_A, .n1 = name[i]};
		ops[i] = &attrs[i];
	}
	ops[16] = &write;
	start_base(&run.hole, true);
	run.main->hold_places = true;
	for (uint32_t i = 0; i < 16; i++) {
		struct table_op set = {"set", FS_SETXATTR, T_A, .n1 = name[i], .data_len = 65536};
		struct fs_reply rp = {.err = 0};
		struct fs_request rq;

		table_request(&set, &rq);
		csv_assert(world_request(run.main, &rq, &rp) == 0);
		rp = (struct fs_reply){.err = 0};
		csv_assert(world_request(run.model, &rq, &rp) == 0);
	}
	run.runs++;
	start_jobs(ops, 17, seed);
	to_the_end();
	world_abandon(run.main);
	world_abandon(run.model);
}

/*
 * The volume grows while two things are done, and then what is new is used: by data, up to its end, and by chunks of
 * metadata, whose blocks are in the journal together with the superblocks or soon after them.
 */
static void grown(uint64_t seed, const struct base *b, const char *name)
{
	static const struct table_op big[] = {
		{"allocate", FS_FALLOCATE, T_HOLES, .off = 0, .len = 1900 * C},
		{"mkdir", FS_MKDIR, T_SMALL, .n1 = "new dir", .mode = S_IFDIR | 0755},
		{"write", FS_LAYOUT_GET, T_SUID, .len = 4 * C, .flags = FS_LAYOUT_WRITE, .writes = true},
		{"unlink-open", FS_UNLINK, T_SMALL, .n1 = "open"}};
	static struct table_op attr[NEW_ATTRS];
	static char attr_name[NEW_ATTRS][8];
	const struct table_op *first[] = {&big[1], &big[2]}, *second[NEW_ATTRS + 2] = {&big[0], &big[3]};
	uint64_t bytes = CRASH_VOLUME_BYTES;
	int err = 0;

	for (uint32_t i = 0; i < NEW_ATTRS; i++) {
		(void)snprintf(attr_name[i], sizeof(attr_name[i]), "user.%c", 'A' + (char)i);
		attr[i] = (struct table_op){"attr", FS_SETXATTR, T_A, .n1 = attr_name[i],
			.data_len = 65536};
		second[i + 2] = &attr[i];
	}

	names("grow", name);
	run.runs++;
	start_base(b, seed % 4 != 3);
	run.main->hold_places = seed / 4 % 2;
	start_jobs(first, 2, seed);
	csv_assert(vol_grow(run.main->vol, bytes, bytes) == 0);
	/* No longer: what uses the new space comes as soon as that is there. */
	while (goes_on() && (busy() || (err = vol_grow_result(run.main->vol)) == -EINPROGRESS))
		if (!one_step())
			break;
	csv_assert(vol_grow(run.model->vol, bytes, bytes) == 0);
	world_settle(run.model, true);
	if (!rec.failed && (err || vol_grow_result(run.model->vol)))
		recover_fail("the volume has not grown");
	run.least_bytes = bytes;
	start_more(second, seed % 4 < 2 ? NEW_ATTRS + 2 : 2);
	to_the_end();
	if (!rec.failed && run.states < 2)
		recover_fail("what is new cannot be used");
	vol_close(run.main->vol, run.main->fx);
	to_the_end();
	run.least_bytes = 0;
	if (vol_state(run.main->vol) != VOL_CLOSED)
		world_abandon(run.main);
	world_abandon(run.model);
}

void pairs_grow(void)
{
	start();
	for (uint64_t seed = 1; seed <= 8 && !rec.failed; seed++)
		grown(seed, seed % 2 ? &run.short16 : &run.short20, seed % 2 ? "short16" : "short20");
}

void pairs_run(void)
{
	start();
	for (uint64_t seed = 1; seed <= 2 && !rec.failed; seed++)
		reused_chunk(seed);
	for (uint32_t i = opt.share - 1; i < table_count; i += opt.shares) {
		for (uint32_t k = 0; k < table_count && !rec.failed; k++)
			if (table[i].frees && table[k].takes && !table[i].is_long)
				pair(&table[i], &table[k], seed_of(i, k), true);
		for (uint32_t k = 0; k < table_count && !rec.failed && !table[i].is_long; k++)
			if (!table[k].is_long)
				pair(&table[i], &table[k], seed_of(i, k), false);
		for (uint32_t k = 0; k < table_reads_count && !rec.failed && !table[i].is_long; k++)
			pair(&table[i], &table_reads[k], seed_of(i, k), false);
	}
}

static const struct table_op *find(const char *name)
{
	for (uint32_t i = 0; i < table_count; i++)
		if (!strcmp(table[i].name, name))
			return &table[i];
	for (uint32_t i = 0; i < table_reads_count; i++)
		if (!strcmp(table_reads[i].name, name))
			return &table_reads[i];
	return NULL;
}

void pairs_only(void)
{
	char a_name[40], b_name[40];
	const struct table_op *a = find(opt.a), *b;
	bool full;

	start();
	(void)strcpy(a_name, opt.a);
	(void)strcpy(b_name, opt.b);
	full = !strncmp(b_name, "full-", 5);
	b = find(full ? b_name + 5 : b_name);
	if (!strcmp(a_name, "grow"))
		grown(opt.seed, strcmp(b_name, "short16") ? &run.short20 : &run.short16, b_name);
	else if (!strcmp(a_name, "reused-chunk"))
		reused_chunk(opt.seed);
	else if (a && b)
		pair(a, b, opt.seed, full);
	else if (a && !strcmp(b_name, "nothing"))
		single(a, opt.seed);
	else
		printf("no such operation\n");
}

void pairs_report(void)
{
	if (run.runs)
		printf("%llu runs; of %llu pairs %llu changed something in one commit\n",
			(unsigned long long)run.runs, (unsigned long long)run.pairs,
			(unsigned long long)run.joined);
}
