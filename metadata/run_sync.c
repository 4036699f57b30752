/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "metadata/run_sync.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/base/claim.h"

#define MEM_BYTES_DEFAULT (64u << 20)
#define CACHE_BYTES_DEFAULT (16u << 20)
#define STEP_NS (1 * NS_PER_MS) /* the virtual clock moves on by this with each step */

struct run_sync {
	struct run_sync_config cfg;
	struct sync_dev dev;
	struct mem mem;
	void *region;
	struct vol *vol;
	struct effects *fx;
	struct claim claim;
	uint32_t claim_place; /* block that holds the claim that counts */
	uint64_t now_ns;
	void *batch; /* vol_req.owner of our own requests */
};

static int say(char why[256], int err, const char *fmt, ...)
{
	va_list ap;

	if (!why)
		return err;
	va_start(ap, fmt);
	(void)vsnprintf(why, 256, fmt, ap);
	va_end(ap);
	return err;
}

/* ------------------------------------------------------------------ the loop */

static enum lun_status carry_out(struct run_sync *rs, const struct lun_cmd *c)
{
	int err;

	switch (c->op) {
	case LUN_READ:
		err = rs->dev.read(rs->dev.ctx, c->off, c->buf, c->len);
		break;
	case LUN_WRITE:
		err = rs->dev.write(rs->dev.ctx, c->off, c->buf, c->len, c->fua);
		break;
	case LUN_FLUSH:
		err = rs->dev.flush(rs->dev.ctx);
		break;
	default: /* the size of the device is known for as long as it is open */
		return LUN_UNSUPPORTED;
	}
	switch (err) {
	case 0: return LUN_OK;
	case -ENOSPC: return LUN_NOSPACE;
	case -EROFS: return LUN_PROTECTED;
	case -ETIMEDOUT: return LUN_UNKNOWN;
	case -EBADE: return LUN_CONFLICT;
	case -EAGAIN: return LUN_RETRY;
	}
	return LUN_MEDIUM;
}

/* One step and all its effects. False: nothing was to be done. */
static bool turn(struct run_sync *rs)
{
	uint64_t at = vol_deadline(rs->vol);

	rs->now_ns += STEP_NS;
	effects_reset(rs->fx);
	vol_spare(rs->vol);
	vol_step(rs->vol, rs->now_ns, rs->fx);
	for (uint32_t i = 0; i < rs->fx->count; i++) {
		struct effect *e = &rs->fx->fx[i];
		struct event ev = {.type = EV_LUN_DONE, .now_ns = rs->now_ns, .tag = e->tag};

		csv_assert(e->type == FX_LUN);
		ev.lun.status = carry_out(rs, &e->lun);
		vol_lun_done(rs->vol, &ev, rs->fx);
	}
	if (rs->fx->count || at <= rs->now_ns)
		return true;
	at = vol_deadline(rs->vol);
	return at <= rs->now_ns;
}

/* Until there is nothing to be done now; a command that is to be repeated is waited for. */
static void run(struct run_sync *rs)
{
	while (turn(rs) || (vol_busy(rs->vol) && vol_deadline(rs->vol) != NEVER)) {
		if (vol_state(rs->vol) == VOL_FROZEN || vol_state(rs->vol) == VOL_CLOSED)
			return;
	}
}

int run_sync_settle(struct run_sync *rs)
{
	struct vol_stats st;

	do {
		uint64_t at = vol_deadline(rs->vol);

		/* Waiting costs nothing here. */
		if (at != NEVER && at > rs->now_ns)
			rs->now_ns = at;
		run(rs);
		vol_get_stats(rs->vol, &st);
	} while (vol_state(rs->vol) == VOL_READY && vol_deadline(rs->vol) != NEVER);
	return vol_state(rs->vol) == VOL_READY ? 0 : -EIO;
}

/* ------------------------------------------------------------------ the claim */

static int claim_read(struct run_sync *rs, char why[256])
{
	uint8_t buf[2 * BLOCK_SIZE] __attribute__((aligned(4096)));
	struct claim c;
	bool any = false;
	int err = rs->dev.read(rs->dev.ctx, CLAIM_BLOCK * BLOCK_SIZE, buf, sizeof(buf));

	if (err)
		return say(why, err, "cannot read the claim: %s", strerror(-err));
	for (uint32_t i = 0; i < 2; i++) {
		if (claim_decode(&c, buf + i * BLOCK_SIZE, NULL))
			continue;
		if (any && (c.epoch < rs->claim.epoch || (c.epoch == rs->claim.epoch &&
								 c.heartbeat < rs->claim.heartbeat)))
			continue;
		rs->claim = c;
		rs->claim_place = CLAIM_BLOCK + i;
		any = true;
	}
	return any ? 0 : say(why, -EUCLEAN, "this is not a csvfs volume (no claim)");
}

static int claim_write(struct run_sync *rs, enum claim_state state)
{
	uint8_t buf[BLOCK_SIZE] __attribute__((aligned(4096)));
	uint32_t place = rs->claim_place == CLAIM_BLOCK ? CLAIM_BLOCK + 1 : CLAIM_BLOCK;
	int err;

	rs->claim.state = state;
	rs->claim.heartbeat++;
	claim_encode(&rs->claim, buf);
	err = rs->dev.write(rs->dev.ctx, (uint64_t)place * BLOCK_SIZE, buf, BLOCK_SIZE, true);
	if (!err)
		rs->claim_place = place;
	return err;
}

static int take_claim(struct run_sync *rs, char why[256])
{
	int err;

	if (rs->cfg.claim) {
		rs->claim = *rs->cfg.claim;
		return 0;
	}
	err = claim_read(rs, why);
	if (err || rs->cfg.readonly)
		return err;
	if (rs->claim.state == CLAIM_HELD && !rs->cfg.steal)
		return say(why, -EBUSY, "node \"%s\" holds the volume (epoch %llu)",
			rs->claim.name, (unsigned long long)rs->claim.epoch);
	rs->claim.epoch++;
	rs->claim.given_up_count = 0; /* of the term before: who was served in it knows by the epoch */
	rs->claim.served = rs->claim.epoch;
	rs->claim.heartbeat = 0;
	/* No node's: but what the last one left at the LUN on purpose is still there. */
	if (!rs->claim.kept) {
		rs->claim.node = 1;
		rs->claim.incarnation = 0;
	}
	(void)snprintf(rs->claim.name, sizeof(rs->claim.name), "tool");
	err = claim_write(rs, CLAIM_HELD);
	return err ? say(why, err, "cannot write the claim: %s", strerror(-err)) : 0;
}

/* ------------------------------------------------------------------ open and close */

static void release(struct run_sync *rs)
{
	free(rs->region);
	if (rs->fx)
		free(rs->fx->arena);
	free(rs->fx);
	free(rs);
}

static struct run_sync *make(const struct run_sync_config *cfg)
{
	struct run_sync *rs = calloc(1, sizeof(*rs));
	size_t bytes = cfg->mem_bytes ? cfg->mem_bytes : MEM_BYTES_DEFAULT;
	struct vol_config vc = {
		.ops = cfg->ops,
		.trace = cfg->trace,
		.cache_bytes = cfg->cache_bytes ? cfg->cache_bytes : CACHE_BYTES_DEFAULT,
		.lun_bytes = cfg->dev->bytes,
		.readonly = cfg->readonly,
		.write_cache = cfg->write_cache,
		.ino_is_open = cfg->ino_is_open,
		.ctx = cfg->ctx,
	};

	if (!rs)
		return NULL;
	rs->cfg = *cfg;
	rs->dev = *cfg->dev;
	rs->region = aligned_alloc(4096, (bytes + 4095) & ~(size_t)4095);
	rs->fx = calloc(1, sizeof(*rs->fx));
	if (rs->fx)
		rs->fx->arena = malloc(EFFECTS_ARENA);
	if (!rs->region || !rs->fx || !rs->fx->arena) {
		release(rs);
		return NULL;
	}
	mem_init(&rs->mem, rs->region, bytes);
	vc.mem = &rs->mem;
	rs->vol = vol_create(&vc);
	if (!rs->vol) {
		release(rs);
		return NULL;
	}
	return rs;
}

int run_sync_open(const struct run_sync_config *cfg, struct run_sync **out, char why[256])
{
	struct run_sync *rs = make(cfg);
	int err;

	*out = NULL;
	if (!rs)
		return say(why, -ENOMEM, "not enough memory");
	err = take_claim(rs, why);
	if (err) {
		release(rs);
		return err;
	}
	vol_open(rs->vol, rs->claim.epoch, rs->fx);
	run(rs);
	if (vol_state(rs->vol) == VOL_READY) {
		*out = rs;
		return 0;
	}
	(void)say(why, 0, "%s", vol_error(rs->vol));
	switch (vol_reason(rs->vol)) {
	case VOL_DAMAGED: err = -EUCLEAN; break;
	case VOL_NO_MEMORY: err = -ENOMEM; break;
	case VOL_PROTECTED: err = -EROFS; break;
	default: err = -EIO; break;
	}
	vol_abandon(rs->vol);
	release(rs);
	return err;
}

int run_sync_close(struct run_sync *rs)
{
	int err = 0;

	vol_close(rs->vol, rs->fx);
	run(rs);
	if (vol_state(rs->vol) != VOL_CLOSED)
		err = -EIO;
	else if (!rs->cfg.readonly && !rs->cfg.claim)
		err = claim_write(rs, CLAIM_CLEAN);
	if (!err && !rs->cfg.readonly)
		err = rs->dev.flush(rs->dev.ctx);
	release(rs);
	return err;
}

void run_sync_crash(struct run_sync *rs)
{
	release(rs);
}

struct vol *run_sync_vol(struct run_sync *rs)
{
	return rs->vol;
}

struct mem *run_sync_mem(struct run_sync *rs)
{
	return &rs->mem;
}

/* ------------------------------------------------------------------ requests */

int run_sync_batch(struct run_sync *rs, struct vol_req *reqs, uint32_t count)
{
	uint32_t done = 0;

	for (uint32_t i = 0; i < count; i++)
		vol_submit(rs->vol, &reqs[i]);
	while (done < count) {
		bool more = turn(rs);

		while (vol_next_done(rs->vol))
			done++;
		if (vol_state(rs->vol) == VOL_FROZEN) {
			/* They come back unanswered: what became of them the next open shows. */
			vol_abandon(rs->vol);
			while (vol_next_done(rs->vol))
				done++;
			return -EIO;
		}
		csv_assert(done == count || more || vol_busy(rs->vol));
	}
	return 0;
}

int run_sync_request(struct run_sync *rs, const struct fs_request *rq, struct fs_reply *reply)
{
	struct vol_req r;
	int err;

	memset(&r, 0, sizeof(r));
	r.rq = *rq;
	r.reply = *reply;
	err = run_sync_batch(rs, &r, 1);
	*reply = r.reply;
	return err ? err : reply->err;
}

int run_sync_op(struct run_sync *rs, int (*fn)(struct txn *t, void *arg), void *arg)
{
	struct vol_req r;
	int err;

	memset(&r, 0, sizeof(r));
	r.call = fn;
	r.arg = arg;
	err = run_sync_batch(rs, &r, 1);
	return err ? err : r.reply.err;
}

int run_sync_mkfs(const struct sync_dev *dev, const struct image_params *p,
	const struct vol_ops *ops, const struct trace *trace, char why[256])
{
	struct run_sync_config cfg = {.dev = dev, .ops = ops, .trace = trace};
	struct run_sync *rs;
	char text[128] = "";
	int err = image_format(dev, p, text);

	if (err)
		return say(why, err, "%s", text);
	err = run_sync_open(&cfg, &rs, why);
	if (err)
		return err;
	err = run_sync_close(rs);
	return err ? say(why, err, "cannot finish the new volume") : 0;
}

/* ------------------------------------------------------------------ memory */

#define MEM_PIECE 65536u
#define MEM_PIECES 16384u /* of one table */

struct run_sync_mem_dev {
	uint64_t bytes, tables;
	uint8_t ***table; /* pieces that were never written have no memory, nor have whole tables */
};

struct run_sync_mem_dev *run_sync_mem_new(uint64_t bytes)
{
	struct run_sync_mem_dev *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->bytes = bytes;
	m->tables = bytes / MEM_PIECE / MEM_PIECES + 1;
	m->table = calloc(m->tables, sizeof(*m->table));
	if (!m->table) {
		free(m);
		return NULL;
	}
	return m;
}

void run_sync_mem_free(struct run_sync_mem_dev *m)
{
	for (uint64_t t = 0; t < m->tables; t++) {
		for (uint32_t i = 0; m->table[t] && i < MEM_PIECES; i++)
			free(m->table[t][i]);
		free(m->table[t]);
	}
	free(m->table);
	free(m);
}

/* NULL: it is all zeros (or, to write, there is no memory). */
static uint8_t *mem_piece(struct run_sync_mem_dev *m, uint64_t off, bool write)
{
	uint8_t ***t = &m->table[off / MEM_PIECE / MEM_PIECES], **p;

	if (!*t && write)
		*t = calloc(MEM_PIECES, sizeof(**t));
	if (!*t)
		return NULL;
	p = &(*t)[off / MEM_PIECE % MEM_PIECES];
	if (!*p && write)
		*p = calloc(1, MEM_PIECE);
	return *p;
}

static int mem_io(struct run_sync_mem_dev *m, uint64_t off, uint8_t *buf, uint64_t len, bool write)
{
	if (off > m->bytes || len > m->bytes - off)
		return -EIO;
	while (len) {
		uint64_t in = off % MEM_PIECE, n = MEM_PIECE - in;
		uint8_t *p = mem_piece(m, off, write);

		if (n > len)
			n = len;
		if (write && !p)
			return -EIO;
		if (write)
			memcpy(p + in, buf, n);
		else if (p)
			memcpy(buf, p + in, n);
		else
			memset(buf, 0, n);
		off += n;
		buf += n;
		len -= n;
	}
	return 0;
}

static int mem_read(void *ctx, uint64_t off, void *buf, uint64_t len)
{
	return mem_io(ctx, off, buf, len, false);
}

static int mem_write(void *ctx, uint64_t off, const void *buf, uint64_t len, bool fua)
{
	return mem_io(ctx, off, (uint8_t *)(uintptr_t)buf, len, true);
}

static int mem_flush(void *ctx)
{
	return 0;
}

struct sync_dev run_sync_mem_dev(struct run_sync_mem_dev *m)
{
	return (struct sync_dev){m, m->bytes, mem_read, mem_write, mem_flush};
}
