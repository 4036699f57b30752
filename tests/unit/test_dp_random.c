/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random histories of one file behind dp.c: many reads and writes at once, completed in any order, torn,
 * failed, of unknown outcome; gates that close, layouts that are recalled, truncations; grants that
 * arrive late. Each byte that is read must be one that some order of the writes explains, and a
 * byte that was never written is zero, though the LUN is full of old data (invariants 6, 7).
 *
 * The oracle keeps for each byte the set of values it may have: every write stores a value of its own
 * (1 .. 63), so that a set is a word of 64 bits.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "csvfs/base/prng.h"
#include "csvfs/dp.h"

#define CS 4096u
#define BS 512u
#define CLUSTERS 24u
#define FILE_BYTES (CLUSTERS * CS)
#define LUN_CLUSTERS 64u
#define OPS 12
#define INO 9
#define REGION (8u << 20)
#define OLD 0xee /* what lies on the LUN from before */

struct sim;

enum where { AT_NOBODY, AT_LUN, AT_CORE, AT_COORD, AT_COMMIT, AT_ANSWERED, AT_DP };

struct seen {
	uint64_t off, end, value; /* written by somebody while this op was under way; 0: zeros */
};

struct mop {
	struct dp_op op;
	enum where at;
	uint8_t img[3 * 65536];
	uint8_t data[65536];
	uint64_t value;
	uint64_t begun;		/* the op's number */
	bool placed; /* known where it writes: an append is not at first */
	bool granted;
	uint64_t place; /* the coordinator knows, from `granted` on */
	/* at the LUN: pieces of the segments not applied yet */
	uint32_t applied;
	/* zombies of a direct attempt whose outcome is unknown */
	bool zombie;
	struct seg zsegs[SEGS_MAX];
	uint32_t zseg_count, zapplied;
	uint8_t zimg[3 * 65536];
	/* the oracle's */
	struct seen seen[2048];
	uint32_t seen_count;
	uint64_t min_size, max_size, was_seen; /* was_seen: the end of the file when it began */
	uint64_t before[FILE_BYTES];
};

/* What goes from the coordinator to the node, in order. */
enum mtype { M_GRANT, M_APPEND, M_RECALL, M_BLOCK_DONE, M_SIZE };
struct message {
	enum mtype type;
	struct mop *m;
	uint64_t begun;
	struct fs_extent e[CLUSTERS];
	uint64_t off, count, size;
	int err;
};

struct sim {
	struct prng r;
	void *region;
	struct mem mem;
	struct dp *dp;
	uint8_t *lun;
	struct mop *ops;
	uint64_t begun;
	uint64_t poss[FILE_BYTES]; /* what each byte may hold */
	struct dp_now now;
	enum gate gate;
	uint64_t lease_ns;
	bool volume_drained;
	/* coordinator */
	uint32_t state[CLUSTERS];
	uint32_t place[CLUSTERS];
	bool used[LUN_CLUSTERS];
	uint64_t size;
	bool recalling, drained, closed, unknown_tail;
	bool no_errors; /* of this history */
	struct message *q;
	uint32_t q_head, q_tail;
	/* what the node has told, in order: processed later */
	struct event told[4096];
	struct mop *told_op[4096];
	uint64_t told_begun[4096];
	uint32_t t_head, t_tail;
	uint64_t reads, writes, first_writes, truncates, recalls, unknowns, cancels, waits, late, spoilt, tails, untaken;
};

#define Q 4096u

static uint64_t rnd(struct sim *s, uint64_t n)
{
	return prng_below(&s->r, n);
}

/* ------------------------------------------------------------------ oracle */

/* Bytes [off, end) got, or may have got, `value` while `m` was under way. */
static void note(struct mop *m, uint64_t off, uint64_t end, uint64_t value)
{
	assert_true(m->seen_count < 2048);
	m->seen[m->seen_count++] = (struct seen){off, end, value};
}

static void oracle_begin(struct sim *s, struct mop *m)
{
	m->seen_count = 0;
	m->min_size = m->max_size = s->size;
	/* The place of an append that is under way need not be seen yet. */
	for (int i = 0; i < OPS; i++) {
		struct mop *o = &s->ops[i];

		if (o != m && o->at != AT_NOBODY && o->granted && o->place < m->min_size)
			m->min_size = o->place;
	}
	m->granted = false;
	m->was_seen = m->min_size;
	m->placed = !m->op.append;
	memcpy(m->before + m->op.off, s->poss + m->op.off, m->op.len * sizeof(s->poss[0]));
	for (int i = 0; i < OPS; i++) {
		struct mop *o = &s->ops[i];

		if (o == m || o->at == AT_NOBODY)
			continue;
		if (o->op.write && o->placed)
			note(m, o->op.off, o->op.off + o->op.len, o->value);
		if (m->op.write && m->placed)
			note(o, m->op.off, m->op.off + m->op.len, m->value);
	}
}

/* An append has found its place: now the others can know what it writes where. */
static void oracle_placed(struct sim *s, struct mop *m)
{
	m->placed = true;
	for (int i = 0; i < OPS; i++) {
		if (&s->ops[i] != m && s->ops[i].at != AT_NOBODY)
			note(&s->ops[i], m->op.off, m->op.off + m->op.len, m->value);
	}
}

static uint64_t seen_mask(const struct mop *m, uint64_t b)
{
	uint64_t mask = 0;

	for (uint32_t i = 0; i < m->seen_count; i++) {
		if (b >= m->seen[i].off && b < m->seen[i].end)
			mask |= 1ull << m->seen[i].value;
	}
	return mask;
}

static void oracle_written(struct sim *s, struct mop *m, bool ok)
{
	for (uint64_t b = m->op.off; b < m->op.off + m->op.len && b < FILE_BYTES; b++) {
		if (ok)
			s->poss[b] = 1ull << m->value | seen_mask(m, b);
		else
			s->poss[b] |= 1ull << m->value;
	}
}

static void oracle_read(struct sim *s, struct mop *m)
{
	uint64_t end = m->op.off + m->op.len, lo, hi;

	lo = m->min_size < end ? m->min_size : end;
	hi = m->max_size < end ? m->max_size : end;
	lo = lo > m->op.off ? lo - m->op.off : 0;
	hi = hi > m->op.off ? hi - m->op.off : 0;
	assert_true((uint64_t)m->op.result >= lo);
	assert_true((uint64_t)m->op.result <= hi);
	/* Of an append that is under way nothing is seen. (One before the end that it began with came after a truncation.) */
	for (int i = 0; i < OPS; i++) {
		const struct mop *o = &s->ops[i];

		if (o->at != AT_NOBODY && o->op.append && o->placed && m->op.result && o->op.off >= m->was_seen &&
			o->op.off < m->op.off + (uint64_t)m->op.result)
			fail_msg("a read of %lu bytes at %lu looks into an append at %lu", (uint64_t)m->op.result,
				m->op.off, o->op.off);
	}
	for (uint32_t i = 0; i < (uint32_t)m->op.result; i++) {
		uint64_t b = m->op.off + i, v = m->img[m->op.skip + i];

		if (v > 63 || !((m->before[b] | seen_mask(m, b)) >> v & 1)) {
			fprintf(stderr, "byte %lu reads %lu, may be %lx\n", b, v,
				m->before[b] | seen_mask(m, b));
			fail();
		}
	}
	(void)s;
}

static void size_is(struct sim *s, uint64_t size)
{
	s->unknown_tail &= size / CS == s->size / CS;
	s->size = size;
	for (int i = 0; i < OPS; i++) {
		if (s->ops[i].at == AT_NOBODY)
			continue;
		if (size < s->ops[i].min_size)
			s->ops[i].min_size = size;
		if (size > s->ops[i].max_size)
			s->ops[i].max_size = size;
	}
}

/* ------------------------------------------------------------------ the LUN */

static void lun_apply(struct sim *s, const struct seg *g, uint8_t *img, bool write)
{
	assert_true(g->lun_off % BS == 0 && g->len % BS == 0);
	assert_true(g->lun_off + g->len <= LUN_CLUSTERS * CS);
	if (write)
		memcpy(s->lun + g->lun_off, img + g->buf_off, g->len);
	else
		memcpy(img + g->buf_off, s->lun + g->lun_off, g->len);
}

/* One block of one segment at a time: anything may come in between. */
static bool apply_some(struct sim *s, const struct seg *segs, uint32_t count, uint8_t *img, bool write,
	uint32_t *applied)
{
	uint32_t skip = *applied;

	for (uint32_t i = 0; i < count; i++) {
		struct seg g = segs[i];

		if (skip >= g.len) {
			skip -= g.len;
			continue;
		}
		g.lun_off += skip;
		g.buf_off += skip;
		g.len -= skip;
		if (g.len > BS && rnd(s, 2))
			g.len = BS;
		lun_apply(s, &g, img, write);
		*applied += g.len;
		return true;
	}
	return false;
}

static void apply_all(struct sim *s, const struct seg *segs, uint32_t count, uint8_t *img, bool write,
	uint32_t *applied)
{
	while (apply_some(s, segs, count, img, write, applied))
		;
}

/* ------------------------------------------------------------------ node side of the shell */

static void told(struct sim *s, const struct event *ev, struct mop *m)
{
	assert_true(s->t_tail - s->t_head < 4096);
	s->told[s->t_tail % 4096] = *ev;
	s->told_op[s->t_tail % 4096] = m;
	s->told_begun[s->t_tail % 4096] = m ? m->begun : 0;
	s->t_tail++;
}

static void events(struct sim *s)
{
	struct event ev;

	while (dp_next_event(s->dp, &ev)) {
		if (ev.type == EV_DRAINED && !ev.ino) {
			for (int i = 0; i < OPS; i++)
				assert_true(s->ops[i].at != AT_LUN);
			s->volume_drained = true;
			continue;
		}
		told(s, &ev, NULL);
	}
}

static void ended(struct sim *s, struct mop *m)
{
	struct dp_op *op = &m->op;

	assert_int_equal(op->state, DP_ST_ENDED);
	/* A lost path is never an error (invariant 12). */
	if (op->result < 0 && op->result != -EINTR && op->result != -ENOSPC)
		assert_true(op->result == -EIO && !s->no_errors);
	if (op->write) {
		s->writes++;
		if (m->placed)
			oracle_written(s, m, op->result >= 0);
		if (op->result >= 0 && !(op->zero && op->result == 0))
			assert_int_equal(op->result, op->len);
	} else if (op->result >= 0) {
		s->reads++;
		dp_fill(op, m->img, NULL);
		oracle_read(s, m);
	}
	m->at = AT_NOBODY;
}

static void act(struct sim *s, struct mop *m, enum dp_verdict v)
{
	struct dp_op *op = &m->op;
	struct event ev;

	while (dp_op_event(op, &ev))
		told(s, &ev, m);
	switch (v) {
	case DP_SUBMIT:
	case DP_HANDOVER:
		assert_true(op->img_len <= sizeof(m->img));
		if (op->write && op->io_write)
			dp_fill(op, m->img, m->data);
		if (v == DP_SUBMIT)
			assert_true(s->gate == GATE_DIRECT && s->now.now_ns < s->lease_ns);
		m->at = v == DP_SUBMIT ? AT_LUN : AT_CORE;
		m->applied = 0;
		s->first_writes += op->first;
		s->tails += op->tail && op->io_write;
		break;
	case DP_NEED_LAYOUT:
	case DP_NEED_APPEND:
		m->at = AT_COORD;
		ev = (struct event){.type = EV_REQUEST};
		told(s, &ev, m);
		break;
	case DP_COMMIT:
		m->at = AT_COMMIT;
		ev = (struct event){.type = EV_COMMIT};
		ev.range.off = op->range.off;
		ev.range.len = op->range.len;
		ev.range.size = op->range.size;
		told(s, &ev, m);
		break;
	case DP_WAIT:
		m->at = AT_DP;
		s->waits++;
		break;
	case DP_DONE:
		ended(s, m);
		break;
	}
	events(s);
	dp_check(s->dp);
}

static void begin(struct sim *s, struct mop *m)
{
	struct dp_op *op = &m->op;

	dp_op_init(op);
	memset(m->img, 0xdd, sizeof(m->img));
	op->ino = INO;
	op->owner = m;
	op->write = rnd(s, 3) > 0;
	op->off = rnd(s, FILE_BYTES);
	op->len = (uint32_t)(1 + rnd(s, rnd(s, 2) ? 3 * CS : 1500));
	/* Often whole blocks, often near where others are. */
	if (rnd(s, 2)) {
		op->off &= ~(uint64_t)(BS - 1);
		op->len = (op->len + BS - 1) & ~(BS - 1);
	}
	if (rnd(s, 3))
		op->off %= 5 * CS;
	if (op->off + op->len > FILE_BYTES)
		op->len = (uint32_t)(FILE_BYTES - op->off);
	op->append = op->write && rnd(s, 10) == 0 && s->size + 16 * CS < FILE_BYTES;
	op->sync = rnd(s, 20) == 0;
	op->dsync = op->sync || rnd(s, 20) == 0;
	m->value = 1 + (uint64_t)(m - s->ops) * 5 + rnd(s, 5); /* nobody else's now */
	if (op->write && !op->append && rnd(s, 12) == 0) {
		op->zero = true;
		m->value = 0;
		op->len = (uint32_t)(1 + rnd(s, CS - op->off % CS));
	}
	m->zombie = false;
	m->begun = ++s->begun;
	memset(m->data, (int)m->value, op->len);
	m->at = AT_DP;
	oracle_begin(s, m);
	act(s, m, dp_begin(s->dp, op, s->now));
}

/* ------------------------------------------------------------------ coordinator */

static struct message *msg(struct sim *s, enum mtype type, struct mop *m)
{
	struct message *x = &s->q[s->q_tail++ % Q];

	assert_true(s->q_tail - s->q_head < Q);
	memset(x, 0, sizeof(*x));
	x->type = type;
	x->m = m;
	x->begun = m ? m->begun : 0;
	return x;
}

static uint32_t new_place(struct sim *s)
{
	for (;;) {
		uint32_t p = (uint32_t)rnd(s, LUN_CLUSTERS);

		if (s->used[p])
			continue;
		s->used[p] = true;
		/* A freed cluster keeps what it held, and worse: what another file wrote. */
		memset(s->lun + p * CS, OLD, CS);
		return p;
	}
}

/* [size, end of its cluster) on the LUN, if that is written. */
static uint8_t *tail_of(struct sim *s, uint64_t size, uint32_t *len)
{
	uint64_t c = size / CS;

	*len = size % CS ? (uint32_t)(CS - size % CS) : 0;
	if (!*len || s->state[c] != EXT_WRITTEN)
		return NULL;
	return s->lun + (uint64_t)s->place[c] * CS + size % CS;
}

static void zero_tail(struct sim *s, uint64_t size)
{
	uint32_t len;
	uint8_t *tail = tail_of(s, size, &len);

	s->unknown_tail = false;
	if (tail)
		memset(tail, 0, len);
}

/* A node has died in a write behind the end: nobody knows of it, and what of it has landed stays. */
static void spoil_tail(struct sim *s)
{
	uint32_t len;
	uint8_t *tail = tail_of(s, s->size, &len);

	if (tail)
		memset(tail, OLD, len);
	s->spoilt += tail != NULL;
	s->unknown_tail |= tail != NULL;
}

static void grant(struct sim *s, struct mop *m)
{
	struct message *x = msg(s, m->op.state == DP_ST_APPEND ? M_APPEND : M_GRANT, m);
	uint64_t first = m->op.need_off / CS, last = (m->op.need_off + m->op.need_len - 1) / CS;

	/* The test's file is no larger; and what was left behind the end would show until the append is written. */
	if (x->type == M_APPEND && (s->size + m->op.len > FILE_BYTES || s->unknown_tail)) {
		x->err = -ENOSPC;
		return;
	}
	if (x->type == M_APPEND) {
		x->off = s->size;
		x->size = s->size;
		m->granted = true;
		m->place = s->size;
		size_is(s, s->size + m->op.len);
		return;
	}
	if (m->op.need_write && rnd(s, 2))
		last += rnd(s, 4); /* ahead */
	if (last >= CLUSTERS)
		last = CLUSTERS - 1;
	x->off = first * CS;
	x->size = s->size;
	for (uint64_t i = first; i <= last; i++) {
		if (m->op.need_write && s->state[i] == EXT_HOLE) {
			s->state[i] = EXT_UNWRITTEN;
			s->place[i] = new_place(s);
		}
		x->e[x->count++] = (struct fs_extent){.off = i * CS, .len = CS,
			.lun_off = s->state[i] == EXT_HOLE ? 0 : (uint64_t)s->place[i] * CS,
			.state = s->state[i],
			.edge = s->state[i] != EXT_HOLE && (m->op.need_edge || rnd(s, 2))};
	}
}

static void commit(struct sim *s, uint64_t off, uint64_t len, uint64_t size)
{
	for (uint64_t i = off / CS; i < (off + len) / CS; i++) {
		assert_int_not_equal(s->state[i], EXT_HOLE);
		s->state[i] = EXT_WRITTEN;
	}
	if (size > s->size)
		size_is(s, size);
}

/* Nothing of the node is in flight: shrink or grow, as SETATTR does. */
static void truncate(struct sim *s)
{
	uint64_t size = rnd(s, FILE_BYTES + 1), keep = (size + CS - 1) / CS;

	s->truncates++;
	if (size >= s->size)
		zero_tail(s, s->size);
	if (size < s->size) {
		zero_tail(s, size);
		for (uint64_t i = keep; i < CLUSTERS; i++) {
			if (s->state[i] != EXT_HOLE)
				s->used[s->place[i]] = false;
			s->state[i] = EXT_HOLE;
		}
		for (uint64_t b = size; b < FILE_BYTES; b++)
			s->poss[b] = 1;
		for (int i = 0; i < OPS; i++) {
			if (s->ops[i].at != AT_NOBODY)
				note(&s->ops[i], size, FILE_BYTES, 0);
		}
	}
	size_is(s, size);
}

static void drained(struct sim *s)
{
	assert_true(s->recalling);
	for (int i = 0; i < OPS; i++)
		assert_false(s->ops[i].op.inside && s->ops[i].at != AT_NOBODY);
	s->recalling = false;
	if (rnd(s, 2))
		truncate(s);
	if (rnd(s, 2))
		spoil_tail(s);
	s->closed = false;
	dp_layout_drop(s->dp, INO);
	events(s);
}

/* One thing that the node has told reaches the coordinator. */
static void hear(struct sim *s)
{
	uint32_t i = s->t_head % 4096;
	struct event copy = s->told[i], *ev = &copy;
	struct mop *m = s->told_op[i];
	bool same = m && m->begun == s->told_begun[i];

	if (s->t_head == s->t_tail)
		return;
	s->t_head++;
	switch (ev->type) {
	case EV_REQUEST:
		if (!same || m->at != AT_COORD)
			break;
		/* Nothing is granted while it is recalled. */
		if (s->recalling)
			told(s, ev, m);
		else
			grant(s, m);
		break;
	case EV_WRITTEN:
		assert_true(ev->range.off % CS == 0 && ev->range.len % CS == 0);
		commit(s, ev->range.off, ev->range.len, ev->range.size);
		break;
	case EV_COMMIT:
		commit(s, ev->range.off, ev->range.len, ev->range.size);
		if (rnd(s, 2)) {
			msg(s, M_SIZE, NULL)->size = s->size;
		}
		msg(s, M_BLOCK_DONE, m);
		break;
	case EV_DRAINED:
		drained(s);
		break;
	default:
		break;
	}
}

/* One thing that the coordinator has said reaches the node. */
static void listen(struct sim *s)
{
	struct message *x = &s->q[s->q_head % Q];
	struct mop *m = x->m;

	if (s->q_head == s->q_tail)
		return;
	s->q_head++;
	switch (x->type) {
	case M_GRANT:
		assert_int_equal(dp_layout_put(s->dp, INO, x->off, x->count * CS, x->size, x->e,
					 (uint32_t)x->count), 0);
		if (m->begun != x->begun)
			break;
		dp_answered(s->dp, &m->op);
		m->at = AT_ANSWERED;
		break;
	case M_APPEND:
		if (m->begun != x->begun)
			break;
		if (!x->err) {
			m->op.off = x->off;
			oracle_placed(s, m);
		}
		act(s, m, dp_append_done(s->dp, &m->op, x->err, x->off, s->now));
		break;
	case M_RECALL:
		s->closed = true;
		dp_layout_close(s->dp, INO);
		events(s);
		break;
	case M_SIZE:
		dp_layout_size(s->dp, INO, x->size);
		break;
	case M_BLOCK_DONE:
		act(s, m, dp_block_done(s->dp, &m->op, x->err, s->now));
		break;
	}
}

/* ------------------------------------------------------------------ what can happen */

static void lun_step(struct sim *s, struct mop *m)
{
	struct dp_op *op = &m->op;
	uint64_t dice = rnd(s, 100);
	enum lun_status st = LUN_OK;

	if (dice < 40) {
		(void)apply_some(s, op->segs, op->seg_count, m->img, op->io_write, &m->applied);
		return;
	}
	if (dice < 44) {
		st = LUN_RETRY;
	} else if (dice < 47 || s->volume_drained) {
		/* What is left of it may land at any time, until the core has fenced us. */
		st = rnd(s, 4) ? LUN_UNKNOWN : LUN_CONFLICT;
		s->unknowns++;
		if (op->io_write && st == LUN_UNKNOWN) {
			m->zombie = true;
			memcpy(m->zsegs, op->segs, sizeof(op->segs[0]) * op->seg_count);
			memcpy(m->zimg, m->img, op->img_len);
			m->zseg_count = op->seg_count;
			m->zapplied = m->applied;
		}
	} else if (dice < 48 && !s->no_errors) {
		st = LUN_MEDIUM;
	} else {
		apply_all(s, op->segs, op->seg_count, m->img, op->io_write, &m->applied);
	}
	act(s, m, dp_done(s->dp, op, st, s->now));
}

static void core_step(struct sim *s, struct mop *m)
{
	struct dp_op *op = &m->op;

	/* It has no memory, and so knows nothing of what may land. */
	if (!m->applied && rnd(s, 40) == 0) {
		s->untaken += m->zombie;
		act(s, m, dp_block_done(s->dp, op, -ENOMEM, s->now));
		return;
	}
	/* Fenced: what has not landed by now never will. */
	if (m->zombie && rnd(s, 3))
		return;
	m->zombie = false;
	if (s->gate == GATE_DIRECT) {
		act(s, m, dp_block_retry(s->dp, op, s->now));
		return;
	}
	if (rnd(s, 4))
		(void)apply_some(s, op->segs, op->seg_count, m->img, op->io_write, &m->applied);
	if (rnd(s, 3))
		return;
	apply_all(s, op->segs, op->seg_count, m->img, op->io_write, &m->applied);
	act(s, m, dp_block_done(s->dp, op, 0, s->now));
}

static void cancel(struct sim *s, struct mop *m)
{
	s->cancels++;
	if (dp_cancel(s->dp, &m->op)) {
		act(s, m, DP_DONE);
		return;
	}
	/* The core has not begun with it: nothing of it can land. */
	if (m->at == AT_CORE && !m->zombie && !m->applied && !s->no_errors)
		act(s, m, dp_block_done(s->dp, &m->op, -EINTR, s->now));
	else if (m->at == AT_COORD)
		m->begun = ++s->begun, act(s, m, m->op.state == DP_ST_APPEND
				? dp_append_done(s->dp, &m->op, -EINTR, 0, s->now)
				: dp_layout_done(s->dp, &m->op, -EINTR, s->now));
}

static void gate_step(struct sim *s, bool more)
{
	s->volume_drained = false;
	s->gate = rnd(s, 4) ? GATE_DIRECT : GATE_CLOSED;
	s->lease_ns = s->now.now_ns + (rnd(s, 8) ? 100 * NS_PER_SEC : NS_PER_MS);
	dp_gate(s->dp, s->gate, s->lease_ns);
	dp_pause(s->dp, more && rnd(s, 4) == 0);
	events(s);
}

static void step(struct sim *s, bool more)
{
	struct mop *m = &s->ops[rnd(s, OPS)];
	struct dp_op *op;

	s->now.now_ns += rnd(s, NS_PER_MS / 4);
	s->now.wall_ns++;
	while ((op = dp_next_ready(s->dp, s->now.now_ns)))
		act(s, op->owner, dp_begin(s->dp, op, s->now));
	if (m->zombie && rnd(s, 3) == 0)
		(void)apply_some(s, m->zsegs, m->zseg_count, m->zimg, true, &m->zapplied);
	switch (m->at) {
	case AT_NOBODY:
		if (more && rnd(s, 3))
			begin(s, m);
		break;
	case AT_LUN:
		lun_step(s, m);
		break;
	case AT_CORE:
		core_step(s, m);
		break;
	case AT_ANSWERED:
		if (rnd(s, 2))
			break;
		act(s, m, dp_layout_done(s->dp, &m->op, 0, s->now));
		s->late += s->closed && m->op.inside;
		break;
	case AT_DP:
	case AT_COORD:
	case AT_COMMIT:
		if (rnd(s, 100) == 0)
			cancel(s, m);
		break;
	}
	if (rnd(s, 2))
		hear(s);
	if (rnd(s, 2))
		listen(s);
	if (rnd(s, 60) == 0 || (!more && s->gate == GATE_CLOSED))
		gate_step(s, more);
	if (more && !s->recalling && rnd(s, 150) == 0) {
		s->recalling = true;
		s->recalls++;
		(void)msg(s, M_RECALL, NULL);
	}
}

/* Everything has ended: what lies on the LUN is what the oracle knows. */
static void verify(struct sim *s)
{
	for (uint32_t c = 0; c < CLUSTERS; c++) {
		for (uint64_t b = c * CS; b < (c + 1) * CS; b++) {
			uint64_t v = 0;

			if (s->state[c] == EXT_WRITTEN)
				v = s->lun[(uint64_t)s->place[c] * CS + b % CS];
			/* Behind the end: in its last cluster only, and what it holds there nobody knows. */
			if (b >= s->size && b / CS != s->size / CS)
				assert_int_not_equal(s->state[c], EXT_WRITTEN);
			if (b < s->size)
				assert_true(v < 64 && (s->poss[b] >> v & 1));
		}
	}
}

static void history(uint64_t seed, uint64_t *total)
{
	static struct sim sim;
	struct sim *s = &sim;
	struct dp_config c = {.mem = &s->mem, .cluster_bytes = CS, .block_bytes = BS};
	int idle = 0;

	memset(s, 0, sizeof(*s));
	s->r.s = seed;
	s->region = aligned_alloc(4096, REGION);
	s->lun = malloc(LUN_CLUSTERS * CS);
	s->ops = calloc(OPS, sizeof(*s->ops));
	s->q = calloc(Q, sizeof(*s->q));
	memset(s->lun, OLD, LUN_CLUSTERS * CS);
	mem_init(&s->mem, s->region, REGION);
	s->dp = dp_create(&c);
	s->now.now_ns = NS_PER_SEC;
	s->no_errors = rnd(s, 2);
	for (uint64_t b = 0; b < FILE_BYTES; b++)
		s->poss[b] = 1;
	gate_step(s, true);
	for (int i = 0; i < 6000; i++)
		step(s, true);
	while (idle < OPS || s->q_head != s->q_tail || s->t_head != s->t_tail || s->recalling) {
		step(s, false);
		idle = 0;
		for (int i = 0; i < OPS; i++)
			idle += s->ops[i].at == AT_NOBODY;
		assert_true(++total[9] < 100000000);
	}
	verify(s);
	dp_layout_drop(s->dp, INO);
	dp_check(s->dp);
	assert_false(dp_busy(s->dp, INO));
	dp_destroy(s->dp);
	assert_int_equal(s->mem.live, 0);
	total[0] += s->reads;
	total[1] += s->writes;
	total[2] += s->first_writes;
	total[3] += s->truncates;
	total[4] += s->recalls;
	total[5] += s->unknowns;
	total[6] += s->cancels;
	total[7] += s->waits;
	total[8] += s->late;
	total[10] += s->spoilt;
	total[11] += s->tails;
	total[12] += s->untaken;
	free(s->q);
	free(s->ops);
	free(s->lun);
	free(s->region);
}

static uint64_t seeds = 40, first_seed = 1;

static void every_byte_read_is_explained_by_some_order_of_the_writes(void **state)
{
	uint64_t total[13] = {0};

	for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++) {
		if (first_seed != 1)
			fprintf(stderr, "seed %lu\n", seed);
		history(seed, total);
	}
	printf("%lu histories: %lu reads, %lu writes, %lu first writes, %lu truncations, %lu recalls, "
	       "%lu lost, %lu cancelled, %lu waits, %lu in late, %lu tails spoilt, %lu zeroed, %lu not taken\n", seeds, total[0], total[1], total[2], total[3],
		total[4], total[5], total[6], total[7], total[8], total[10], total[11], total[12]);
	/* The test tests something. */
	assert_true(total[2] > seeds && total[3] > seeds && total[7] > seeds && total[8] > seeds);
	assert_true(total[10] > seeds && total[11] > seeds && total[12] > 0);
}

/* test_dp_random [SEED [COUNT]] */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_read_is_explained_by_some_order_of_the_writes),
	};

	if (argc > 1) {
		first_seed = strtoull(argv[1], NULL, 0);
		seeds = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
