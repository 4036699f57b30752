/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "coordinator/claim_io.h"

#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"

int claim_io_init(struct claim_io *c, struct mem *mem, const uint8_t uuid[16], uint64_t tag_base)
{
	memset(c, 0, sizeof(*c));
	memcpy(c->uuid, uuid, 16);
	c->next_tag = tag_base;
	c->retry_ns = NEVER;
	c->seen_err[0] = c->seen_err[1] = -EUCLEAN;
	c->buf[0] = mem_alloc(mem, BLOCK_SIZE);
	c->buf[1] = mem_alloc(mem, BLOCK_SIZE);
	c->out = mem_alloc(mem, BLOCK_SIZE);
	if (c->buf[0] && c->buf[1] && c->out)
		return 0;
	claim_io_fini(c, mem);
	return -ENOMEM;
}

void claim_io_fini(struct claim_io *c, struct mem *mem)
{
	mem_free(mem, c->buf[0], BLOCK_SIZE);
	mem_free(mem, c->buf[1], BLOCK_SIZE);
	mem_free(mem, c->out, BLOCK_SIZE);
	c->buf[0] = c->buf[1] = c->out = NULL;
}

static void send_one(struct claim_io *c, unsigned i, struct effects *fx)
{
	struct effect *e;

	csv_assert(!c->tag[i]);
	c->tag[i] = TAG(TAG_TAKEOVER, ++c->next_tag);
	c->again[i] = false;
	e = effects_add(fx, FX_LUN, c->tag[i]);
	e->lun.op = c->writing ? LUN_WRITE : LUN_READ;
	e->lun.fua = c->writing;
	e->lun.off = (uint64_t)(CLAIM_BLOCK + i) * BLOCK_SIZE;
	e->lun.len = BLOCK_SIZE;
	e->lun.buf = c->writing ? c->out : c->buf[i];
}

static void start(struct claim_io *c, bool writing)
{
	csv_assert(!claim_io_busy(c));
	c->writing = writing;
	c->result = CLAIM_BUSY;
	c->retries = c->failings = 0;
	c->failing_since_ns[0] = c->failing_since_ns[1] = NEVER;
	c->again[0] = c->again[1] = false;
	c->retry_ns = NEVER;
}

void claim_io_read(struct claim_io *c, struct effects *fx)
{
	start(c, false);
	for (unsigned i = 0; i < 2; i++) {
		c->seen_err[i] = -EIO;
		send_one(c, i, fx);
	}
}

void claim_io_write(struct claim_io *c, const struct claim *claim, struct effects *fx)
{
	start(c, true);
	claim_encode(claim, c->out);
	send_one(c, c->place, fx);
}

bool claim_io_busy(const struct claim_io *c)
{
	return c->result == CLAIM_BUSY || c->tag[0] || c->tag[1];
}

static bool newer(const struct claim *a, const struct claim *b)
{
	return a->epoch > b->epoch || (a->epoch == b->epoch && a->heartbeat > b->heartbeat);
}

const struct claim *claim_io_best(const struct claim_io *c)
{
	if (!c->seen_err[0] && !c->seen_err[1])
		return &c->seen[newer(&c->seen[1], &c->seen[0])];
	if (!c->seen_err[0])
		return &c->seen[0];
	return !c->seen_err[1] ? &c->seen[1] : NULL;
}

static bool sending_again(const struct claim_io *c)
{
	return c->again[0] || c->again[1];
}

/* When both blocks are in: the next claim goes where the one that counts is not. */
static void finish(struct claim_io *c)
{
	const struct claim *best;

	if (c->tag[0] || c->tag[1] || sending_again(c) || c->result != CLAIM_BUSY)
		return;
	c->result = CLAIM_DONE;
	if (c->writing) {
		c->is_protected = false;
		c->place ^= 1;
		return;
	}
	best = claim_io_best(c);
	c->place = best == &c->seen[0] ? 1 : 0;
	/*
	 * One block that cannot be read is damage, and is written over; two are a LUN that fails.
	 */
	if (c->seen_err[0] == -EIO && c->seen_err[1] == -EIO)
		c->result = CLAIM_FAILED;
}

void claim_io_cancel(struct claim_io *c)
{
	if (c->result == CLAIM_BUSY)
		c->result = CLAIM_FAILED;
	c->again[0] = c->again[1] = false;
	c->retry_ns = NEVER;
}

void claim_io_forget(struct claim_io *c)
{
	csv_assert(!claim_io_busy(c));
	c->result = CLAIM_NONE;
}

/* LUN_FAILING, of a block that is read. */
static void read_failing(struct claim_io *c, unsigned i, uint64_t now_ns)
{
	unsigned other = i ^ 1;

	if (c->failing_since_ns[i] == NEVER)
		c->failing_since_ns[i] = now_ns;
	if (++c->failings > CLAIM_FAILINGS_MAX)
		c->result = CLAIM_FAILED;
	if (c->result != CLAIM_BUSY)
		return;
	if (now_ns - c->failing_since_ns[i] < CLAIM_FAILING_NS) {
		c->again[i] = true;
		c->retry_ns = now_ns + CLAIM_RETRY_NS;
	} else if (!c->tag[other] && !c->again[other] && c->seen_err[other] != -EIO) {
		c->seen_err[other] = -EIO;
		c->again[other] = true;
		c->retry_ns = now_ns;
	}
}

bool claim_io_lun_done(struct claim_io *c, const struct event *ev, struct effects *fx)
{
	unsigned i = ev->tag == c->tag[1];
	enum lun_status status = ev->lun.status;

	(void)fx;
	if (!ev->tag || ev->tag != c->tag[i])
		return false;
	c->tag[i] = 0;
	if (status != LUN_FAILING)
		c->failing_since_ns[i] = NEVER;
	/* The other place may be well, and a beat does not wait. */
	else if (c->writing)
		status = c->retries < CLAIM_FAILING_MAX ? LUN_RETRY : LUN_MEDIUM;
	switch (status) {
	case LUN_OK:
		if (!c->writing)
			c->seen_err[i] = claim_decode(&c->seen[i], c->buf[i], c->uuid);
		break;
	case LUN_RETRY:
		if (++c->retries > CLAIM_RETRIES_MAX)
			c->result = CLAIM_FAILED;
		if (c->result != CLAIM_BUSY)
			break;
		c->again[i] = true;
		c->retry_ns = c->retries <= 4 ? ev->now_ns : ev->now_ns + CLAIM_RETRY_NS;
		break;
	case LUN_CONFLICT:
		c->result = CLAIM_FENCED;
		break;
	case LUN_UNKNOWN:
		c->result = CLAIM_UNKNOWN;
		break;
	case LUN_FAILING:
		read_failing(c, i, ev->now_ns);
		break;
	case LUN_MEDIUM:
	case LUN_UNSUPPORTED:
	case LUN_NOSPACE:
	case LUN_PROTECTED:
		if (!c->writing)
			break; /* seen_err stays -EIO */
		c->place ^= 1;
		c->is_protected = status == LUN_PROTECTED;
		c->result = CLAIM_FAILED;
		break;
	}
	if (c->result != CLAIM_BUSY)
		claim_io_cancel(c);
	finish(c);
	return true;
}

void claim_io_step(struct claim_io *c, uint64_t now_ns, struct effects *fx)
{
	if (now_ns < c->retry_ns)
		return;
	c->retry_ns = NEVER;
	for (unsigned i = 0; i < 2; i++)
		if (c->again[i])
			send_one(c, i, fx);
}

uint64_t claim_io_deadline(const struct claim_io *c)
{
	return c->retry_ns;
}

enum claim_result claim_io_result(const struct claim_io *c)
{
	return c->result;
}
