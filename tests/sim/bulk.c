/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bulk.c - a process of one node that has much under way at once, as a copy of a disk has: all of its file in writes of
 * 1 MiB, then many reads of that length, with bounds anywhere. Most of all while its node goes through another one: there
 * no more than 16 MiB may wait for an answer.
 *
 * It writes alone, and no read begins before all writes have ended: so it knows what each byte must be, but where a
 * write failed, or was not synced when its node died or was given up.
 */
#include <errno.h>
#include <string.h>

#include "tests/sim/sim.h"

#define UNIT (1u << 20)
#define UNITS (BULK_BYTES / UNIT)
#define DEPTH 20u
#define ROUNDS_MAX 6u

struct bulk_io {
	struct bulk *b;
	uint64_t off;
	uint32_t len;
	bool write;
	uint8_t *buf;
};

struct bulk {
	struct sim *s;
	struct snode *n;
	uint64_t ino, life;
	uint64_t stamp[UNITS]; /* 0: zeros; BULK_UNKNOWN */
	uint64_t begun;
	struct bulk_io io[DEPTH];
	uint32_t out, rounds;
	bool alive, open, busy, reading, last, ending, stopping;
	struct call call;
	struct fs_request rq;
};

#define BULK_UNKNOWN UINT64_MAX

/* Of the whole process: fresh memory would cost more than what is done with it. */
static uint8_t room[DEPTH][UNIT];

static void next_call(struct sim *s, void *arg);

static uint64_t bdraw(struct bulk *b, uint64_t n)
{
	return prng_below(&b->s->weather.rng, n);
}

void bulk_create(struct sim *s)
{
	s->bulk = sim_alloc(s, sizeof(*s->bulk));
	s->bulk->s = s;
}

void bulk_set_file(struct sim *s, uint64_t ino)
{
	s->bulk->ino = ino;
}

/* Each word of a unit is its own, and of this write. */
static uint64_t word_of(uint64_t stamp, uint64_t off)
{
	return stamp ? stamp << 32 | off / 8 : 0;
}

static bool bad_err(struct bulk *b, int32_t err)
{
	const struct sim_plan *p = &b->s->plan;

	if ((err == -EIO && p->hold_ns) || sim_refused(b->s, err))
		return true;
	sim_fail(b->s, "%s bulk: error %d", b->n->name, err);
	return false;
}

static void check(struct bulk_io *o)
{
	struct bulk *b = o->b;
	uint64_t want;

	for (uint64_t at = (o->off + 7) & ~7ull; at + 8 <= o->off + o->len; at += 8) {
		uint64_t is;

		if (b->stamp[at / UNIT] == BULK_UNKNOWN) {
			at = (at / UNIT + 1) * UNIT - 8;
			continue;
		}
		memcpy(&is, o->buf + (at - o->off), 8);
		want = word_of(b->stamp[at / UNIT], at);
		if (is == want)
			continue;
		sim_fail(b->s, "%s bulk: at %lu is %lx, not %lx", b->n->name, at, is, want);
		return;
	}
}

static void again(struct bulk *b, uint64_t in_ns)
{
	sim_at_node(b->s, b->n, b->s->now_ns + in_ns, next_call, b);
}

static void round_ends(struct bulk *b)
{
	struct sim *s = b->s;

	if (s->verbose)
		sim_log(s, "   %s bulk: a round of %s has ended", b->n->name, b->reading ? "reads" : "writes");
	b->busy = false;
	s->ops_done += DEPTH;
	again(b, MS);
}

static void io_done(struct sim *s, void *arg, int32_t result)
{
	struct bulk_io *o = arg;
	struct bulk *b = o->b;

	if (result < 0 && !bad_err(b, result))
		return;
	if (result >= 0 && o->write && (uint32_t)result != o->len)
		sim_fail(s, "%s bulk: a write was cut short", b->n->name);
	if (o->write)
		b->stamp[o->off / UNIT] = result < 0 ? BULK_UNKNOWN : b->begun;
	/* What was never written may lie behind the end. */
	if (!o->write && result >= 0 && !s->failed) {
		memset(o->buf + result, 0, o->len - (uint32_t)result);
		check(o);
	}
	if (!--b->out)
		round_ends(b);
}

static void submit(struct bulk *b, uint32_t k, bool write, uint64_t off)
{
	struct bulk_io *o = &b->io[k];
	struct dp_op op = {.ino = b->ino, .off = off, .len = UNIT, .write = write, .dsync = true};

	*o = (struct bulk_io){b, off, UNIT, write, room[k]};
	for (uint64_t i = 0; write && i < UNIT; i += 8) {
		uint64_t w = word_of(b->begun, off + i);

		memcpy(o->buf + i, &w, 8);
	}
	node_io_as(b->s, b->n, &op, o->buf, io_done, o);
}

static void begin(struct bulk *b)
{
	b->busy = true;
	if (b->reading) {
		b->out = DEPTH;
		for (uint32_t k = 0; k < DEPTH && !b->s->failed; k++)
			submit(b, k, false, bdraw(b, BULK_BYTES - UNIT));
		return;
	}
	b->begun++;
	b->out = UNITS;
	for (uint32_t u = 0; u < UNITS; u++)
		b->stamp[u] = BULK_UNKNOWN;
	for (uint32_t u = 0; u < UNITS && !b->s->failed; u++)
		submit(b, u, true, (uint64_t)u * UNIT);
}

static void opened(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct bulk *b = arg;

	if (rp->err && !bad_err(b, rp->err))
		return;
	b->open = !rp->err;
	b->busy = false;
	again(b, MS);
}

static void closed(struct sim *s, void *arg, const struct fs_reply *rp)
{
	((struct bulk *)arg)->ending = true;
}

static void ask(struct bulk *b, enum fs_op op, reply_fn fn)
{
	b->busy = true;
	b->rq = (struct fs_request){.op = op, .ino = b->ino, .time_ns = (int64_t)b->s->now_ns};
	(void)node_request(b->s, b->n, &b->rq, fn, b);
}

static bool is_redirected(const struct snode *n)
{
	return node_stands(n->core) && dp_gate_now(n->dp, n->s->now_ns) == GATE_CLOSED;
}

/* Rounds are many bytes, so there are few: when they matter most, and the last one, of reads, when all has healed. */
static void next_call(struct sim *s, void *arg)
{
	struct bulk *b = arg;

	if (!b->alive || b->busy || b->ending || s->failed)
		return;
	if (!b->open && (!b->stopping || !b->last)) {
		ask(b, FS_OPEN, opened);
		return;
	}
	if (b->stopping && b->last) {
		ask(b, FS_CLOSE, closed);
		return;
	}
	b->last = b->stopping;
	if (!b->stopping && (b->rounds >= ROUNDS_MAX || (!is_redirected(b->n) && bdraw(b, 200)))) {
		again(b, 20 * MS);
		return;
	}
	b->rounds++;
	b->reading = b->stopping || !b->reading;
	begin(b);
}

void bulk_node_up(struct sim *s, struct snode *n)
{
	struct bulk *b = s->bulk;

	if (!s->plan.bulk || n->id != 1 + s->seed % s->plan.nodes)
		return;
	b->n = n;
	b->alive = true;
	b->open = b->busy = b->reading = b->last = b->ending = false;
	b->out = 0;
	again(b, MS);
}

void bulk_node_down(struct sim *s, struct snode *n)
{
	if (s->bulk->n == n)
		s->bulk->alive = false;
}

void bulk_stop(struct sim *s)
{
	s->bulk->stopping = true;
}

bool bulk_idle(const struct sim *s)
{
	return !s->plan.bulk || (s->bulk->alive && s->bulk->ending);
}

void bulk_say_stuck(struct sim *s)
{
	const struct bulk *b = s->bulk;

	if (!bulk_idle(s))
		sim_log(s, "bulk: %s%s, %u under way", b->alive ? "alive" : "is down", b->busy ? ", busy" : "",
			b->out);
}
