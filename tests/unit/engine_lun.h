/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * engine_lun.h - the engine with a LUN whose every answer the test decides: commands wait until they
 * are answered.
 */
#ifndef CSVFS_TESTS_UNIT_ENGINE_LUN_H
#define CSVFS_TESTS_UNIT_ENGINE_LUN_H

#include "engine_help.h"

#define LUN_CMDS 1024

struct lun_wait {
	uint64_t tag;
	struct lun_cmd c;
};

struct lun {
	struct run_sync_mem_dev *mem;
	struct sync_dev dev;
	void *region;
	struct mem m;
	struct effects *fx;
	struct vol_config cfg;
	struct vol *v;
	uint64_t now_ns, epoch;
	struct lun_wait cmd[LUN_CMDS];
	uint32_t count;
	uint64_t sent[16]; /* commands so far, by enum lun_op */
	uint64_t bad[2]; /* blocks that cannot be read until they are written; 0: none */
};

static inline bool lun_covers(const struct lun_cmd *c, uint64_t blkno)
{
	return blkno && c->off <= blkno * BLOCK_SIZE && blkno * BLOCK_SIZE < c->off + c->len;
}

static inline void lun_step(struct lun *l)
{
	uint32_t turns = 0;

	do {
		effects_reset(l->fx);
		if (turns)
			vol_spare(l->v);
		vol_step(l->v, l->now_ns, l->fx);
		for (uint32_t i = 0; i < l->fx->count; i++) {
			assert_true(l->count < LUN_CMDS);
			l->cmd[l->count].tag = l->fx->fx[i].tag;
			l->cmd[l->count++].c = l->fx->fx[i].lun;
			l->sent[l->fx->fx[i].lun.op]++;
		}
		assert_true(turns++ < 10000);
	} while (vol_deadline(l->v) <= l->now_ns);
	vol_check(l->v);
}

/* Answers command number i; a good one is carried out. */
static inline void lun_answer(struct lun *l, uint32_t i, enum lun_status st)
{
	struct lun_wait w = l->cmd[i];
	struct event ev = {.type = EV_LUN_DONE, .now_ns = l->now_ns, .tag = w.tag};

	assert_true(i < l->count);
	memmove(&l->cmd[i], &l->cmd[i + 1], (--l->count - i) * sizeof(w));
	for (uint32_t k = 0; st == LUN_OK && k < 2; k++) {
		if (w.c.op == LUN_WRITE && lun_covers(&w.c, l->bad[k]))
			l->bad[k] = 0;
		if (w.c.op == LUN_READ && lun_covers(&w.c, l->bad[k]))
			st = LUN_MEDIUM;
	}
	if (st == LUN_OK && w.c.op == LUN_READ)
		l->dev.read(l->dev.ctx, w.c.off, w.c.buf, w.c.len);
	if (st == LUN_OK && w.c.op == LUN_WRITE)
		l->dev.write(l->dev.ctx, w.c.off, w.c.buf, w.c.len, w.c.fua);
	if (st == LUN_OK && w.c.op == LUN_CAPACITY)
		ev.lun.lun_bytes = l->dev.bytes;
	ev.lun.status = st;
	vol_lun_done(l->v, &ev, l->fx);
	lun_step(l);
}

/* The first waiting command of that kind; -1: none. */
static inline int lun_find(const struct lun *l, enum lun_op op)
{
	for (uint32_t i = 0; i < l->count; i++)
		if (l->cmd[i].c.op == op)
			return (int)i;
	return -1;
}

/* Is it a write into the journal's ring? */
static inline bool lun_is_record(const struct lun *l, const struct lun_cmd *c)
{
	uint64_t blkno = c->off / BLOCK_SIZE;
	uint64_t ring = le64_get(l->v->geo->journal_start) + JOURNAL_HEADS;

	return c->op == LUN_WRITE && blkno >= ring && blkno < le64_get(l->v->geo->data_start);
}

static inline int lun_find_record(const struct lun *l)
{
	for (uint32_t i = 0; i < l->count; i++)
		if (lun_is_record(l, &l->cmd[i].c))
			return (int)i;
	return -1;
}

/* Answers everything well, until nothing waits. */
static inline void lun_run(struct lun *l)
{
	lun_step(l);
	while (l->count)
		lun_answer(l, 0, LUN_OK);
}

/* As lun_run, and all that only waits for time. */
static inline void lun_settle(struct lun *l)
{
	do {
		if (vol_deadline(l->v) != NEVER && vol_deadline(l->v) > l->now_ns)
			l->now_ns = vol_deadline(l->v);
		lun_run(l);
	} while (vol_state(l->v) == VOL_READY && vol_deadline(l->v) != NEVER);
}

static inline void lun_create(struct lun *l)
{
	mem_init(&l->m, l->region, 48u << 20);
	l->cfg.mem = &l->m;
	l->cfg.lun_bytes = l->dev.bytes;
	l->v = vol_create(&l->cfg);
	assert_non_null(l->v);
	l->count = 0;
}

static inline void lun_open(struct lun *l)
{
	vol_open(l->v, ++l->epoch, l->fx);
	lun_run(l);
}

/* Made with a good LUN that has a write cache; journal 0: the default; room: what the LUN can become. */
static inline struct lun *lun_new_room(uint64_t bytes, uint64_t room, uint32_t cluster_bytes, uint64_t journal)
{
	struct lun *l = calloc(1, sizeof(*l));
	struct image_params p = help_params(cluster_bytes);
	char why[256];

	p.journal_bytes = journal;
	l->mem = run_sync_mem_new(room);
	l->dev = run_sync_mem_dev(l->mem);
	l->dev.bytes = bytes;
	assert_int_equal(run_sync_mkfs(&l->dev, &p, &help_ops, &help_sink, why), 0);
	l->region = aligned_alloc(4096, 48u << 20);
	l->fx = calloc(1, sizeof(*l->fx));
	l->fx->arena = malloc(EFFECTS_ARENA);
	l->epoch = 2;
	l->now_ns = NS_PER_SEC;
	l->cfg = (struct vol_config){
		.ops = &help_ops,
		.trace = &help_sink,
		.cache_bytes = 4u << 20,
		.write_cache = true,
		.tag_seed = 0x1234567,
	};
	lun_create(l);
	lun_open(l);
	assert_int_equal(vol_state(l->v), VOL_READY);
	return l;
}

static inline struct lun *lun_new_journal(uint64_t bytes, uint32_t cluster_bytes, uint64_t journal)
{
	return lun_new_room(bytes, bytes, cluster_bytes, journal);
}

static inline struct lun *lun_new(uint64_t bytes, uint32_t cluster_bytes)
{
	return lun_new_journal(bytes, cluster_bytes, 0);
}

/* Power is lost; what was answered well is there. A new engine, closed. */
static inline void lun_crash(struct lun *l)
{
	lun_create(l);
}

static inline void lun_free(struct lun *l)
{
	run_sync_mem_free(l->mem);
	free(l->region);
	free(l->fx->arena);
	free(l->fx);
	free(l);
}

static inline void lun_submit(struct lun *l, struct vol_req *r,
	int (*fn)(struct txn *t, void *arg), void *arg)
{
	memset(r, 0, sizeof(*r));
	r->call = fn;
	r->arg = arg;
	r->owner = r;
	vol_submit(l->v, r);
	lun_step(l);
}

/* The next request that is done; NULL: none. */
static inline struct vol_req *lun_done(struct lun *l)
{
	return vol_next_done(l->v);
}

/* Runs it to its end with a good LUN. */
static inline int lun_op(struct lun *l, int (*fn)(struct txn *t, void *arg), void *arg)
{
	struct vol_req r;

	lun_submit(l, &r, fn, arg);
	lun_run(l);
	assert_ptr_equal(lun_done(l), &r);
	return r.reply.err;
}

/* One with something in it. */
static inline struct lun *lun_one(struct help_put *p)
{
	struct lun *l = lun_new(64u << 20, 65536);

	*p = (struct help_put){0, 1, 0};
	assert_int_equal(lun_op(l, help_put, p), 0);
	lun_settle(l);
	return l;
}

/* A request whose flush is done and whose record waits for its answer. */
static inline uint32_t lun_record_waits(struct lun *l, struct vol_req *r, struct help_put *p)
{
	p->value++;
	lun_submit(l, r, help_put, p);
	lun_answer(l, (uint32_t)lun_find(l, LUN_FLUSH), LUN_OK);
	return (uint32_t)lun_find_record(l);
}

static inline uint8_t *lun_peek(struct lun *l, uint64_t blkno)
{
	static uint8_t buf[BLOCK_SIZE];

	l->dev.read(l->dev.ctx, blkno * BLOCK_SIZE, buf, BLOCK_SIZE);
	return buf;
}

static inline void lun_poke(struct lun *l, uint64_t blkno, const void *data)
{
	l->dev.write(l->dev.ctx, blkno * BLOCK_SIZE, data, BLOCK_SIZE, true);
}

/* One bit of a block is wrong. */
static inline void lun_flip(struct lun *l, uint64_t blkno)
{
	uint8_t *b = lun_peek(l, blkno);

	b[200] ^= 1;
	lun_poke(l, blkno, b);
}

#endif
