/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/crash/world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "metadata/engine.h"

#define REGION_BYTES (40u << 20)

bool world_traces;

static void sink(void *ctx, enum trace_level level, const char *line)
{
	(void)ctx;
	if (world_traces)
		fprintf(stderr, "    %d %s\n", (int)level, line);
}

static const struct trace trace_to = {TRACE_DEBUG, sink, NULL};

static void make_vol(struct world *w, uint64_t bytes)
{
	struct vol_config cfg = {
		.mem = &w->mem,
		.ops = w->ops,
		.trace = &trace_to,
		.cache_bytes = w->small ? 4u << 20 : 16u << 20,
		.lun_bytes = bytes,
		.write_cache = w->write_cache,
		.ino_is_open = w->ino_is_open,
	};

	mem_init(&w->mem, w->region, REGION_BYTES);
	w->vol = vol_create(&cfg);
	csv_assert(w->vol);
}

struct world *world_new(const struct vol_ops *ops, bool write_cache)
{
	struct world *w = calloc(1, sizeof(*w));

	w->ops = ops;
	w->write_cache = write_cache;
	w->region = aligned_alloc(4096, REGION_BYTES);
	w->fx = calloc(1, sizeof(*w->fx));
	w->fx->arena = malloc(EFFECTS_ARENA);
	return w;
}

void world_free(struct world *w)
{
	free(w->region);
	free(w->fx->arena);
	free(w->fx);
	free(w);
}

/* The claim is not what is tested here: it is written whole, at once. */
static void take_claim(struct world *w)
{
	uint8_t buf[2 * BLOCK_SIZE];
	struct claim c, best = {.epoch = 0};
	uint32_t place = 0;

	disk_read(w->disk, CLAIM_BLOCK * BLOCK_SIZE, buf, sizeof(buf));
	for (uint32_t i = 0; i < 2; i++) {
		if (claim_decode(&c, buf + i * BLOCK_SIZE, NULL) || c.epoch < best.epoch)
			continue;
		best = c;
		place = i;
	}
	best.epoch++;
	best.heartbeat++;
	best.state = CLAIM_HELD;
	w->claim = best;
	claim_encode(&best, buf);
	disk_write_now(w->disk, (CLAIM_BLOCK + 1 - place) * BLOCK_SIZE, buf, BLOCK_SIZE);
}

void world_open(struct world *w, struct disk *d)
{
	w->disk = d;
	if (!w->vol)
		make_vol(w, (uint64_t)d->pages * DISK_PAGE);
	take_claim(w);
	vol_open(w->vol, w->claim.epoch, w->fx);
	world_step(w);
}

static void send(struct world *w, const struct effect *e)
{
	struct world_cmd *c = &w->cmd[w->cmd_count++];

	csv_assert(e->type == FX_LUN && w->cmd_count <= WORLD_CMDS);
	c->tag = e->tag;
	c->lun = e->lun;
	if (e->lun.op == LUN_WRITE)
		c->handle = disk_send(
			w->disk, e->lun.off, e->lun.buf, (uint32_t)e->lun.len, e->lun.fua);
	if (e->lun.op == LUN_FLUSH)
		c->handle = disk_flush(w->disk);
}

void world_step(struct world *w)
{
	uint32_t turns = 0;

	w->now_ns += 1000;
	do {
		effects_reset(w->fx);
		if (turns)
			vol_spare(w->vol);
		vol_step(w->vol, w->now_ns, w->fx);
		for (uint32_t i = 0; i < w->fx->count; i++)
			send(w, &w->fx->fx[i]);
	} while (vol_deadline(w->vol) <= w->now_ns && turns++ < 1000);
}

static void end(struct world *w, struct world_cmd *c, struct event *ev)
{
	switch (c->lun.op) {
	case LUN_READ:
		disk_read(w->disk, c->lun.off, c->lun.buf, c->lun.len);
		break;
	case LUN_WRITE:
		disk_done(w->disk, c->handle);
		break;
	case LUN_FLUSH:
		disk_flushed(w->disk, c->handle);
		break;
	default:
		ev->lun.status = LUN_UNSUPPORTED;
	}
}

static bool held(const struct world *w, const struct world_cmd *c)
{
	return w->hold_places && c->lun.op == LUN_WRITE && !c->lun.fua;
}

/* Which command ends next. */
static uint32_t choose(struct world *w)
{
	uint32_t at = w->in_order ? 0 : (uint32_t)prng_below(&w->prng, w->cmd_count);

	for (uint32_t i = 0; i < w->cmd_count; i++) {
		uint32_t k = (at + i) % w->cmd_count;

		if (!held(w, &w->cmd[k]))
			return k;
	}
	return at;
}

bool world_complete(struct world *w)
{
	struct event ev = {.type = EV_LUN_DONE, .now_ns = w->now_ns};
	struct world_cmd c;
	uint32_t at;

	if (!w->cmd_count)
		return false;
	at = choose(w);
	c = w->cmd[at];
	w->cmd_count--;
	memmove(&w->cmd[at], &w->cmd[at + 1], (w->cmd_count - at) * sizeof(c));
	ev.tag = c.tag;
	end(w, &c, &ev);
	w->completions++;
	vol_lun_done(w->vol, &ev, w->fx);
	return true;
}

void world_evict(struct world *w)
{
	while (!list_empty(&w->vol->cache.lru))
		cache_drop(w->vol, list_first_entry(&w->vol->cache.lru, struct block, lru));
}

void world_abandon(struct world *w)
{
	vol_abandon(w->vol);
	for (uint32_t i = 0; i < w->cmd_count; i++) {
		struct event ev = {.type = EV_LUN_DONE, .tag = w->cmd[i].tag};

		ev.lun.status = LUN_UNKNOWN;
		vol_lun_done(w->vol, &ev, w->fx);
	}
	w->cmd_count = 0;
	while (vol_next_done(w->vol))
		;
	csv_assert(!vol_busy(w->vol));
}

void world_settle(struct world *w, bool later)
{
	do {
		if (later && vol_deadline(w->vol) != NEVER)
			w->now_ns += 2 * NS_PER_SEC;
		world_step(w);
		while (world_complete(w))
			world_step(w);
	} while (later && vol_state(w->vol) == VOL_READY && vol_deadline(w->vol) != NEVER);
}

static int run_to_end(struct world *w, struct vol_req *r)
{
	vol_submit(w->vol, r);
	world_step(w);
	while (!vol_next_done(w->vol)) {
		if (vol_state(w->vol) == VOL_FROZEN || !world_complete(w)) {
			world_abandon(w);
			return -EIO;
		}
		world_step(w);
	}
	return r->reply.err;
}

int world_request(struct world *w, const struct fs_request *rq, struct fs_reply *reply)
{
	struct vol_req r;
	int err;

	memset(&r, 0, sizeof(r));
	r.rq = *rq;
	r.reply = *reply;
	err = run_to_end(w, &r);
	*reply = r.reply;
	return err;
}

int world_call(struct world *w, int (*fn)(struct txn *t, void *arg), void *arg)
{
	struct vol_req r;

	memset(&r, 0, sizeof(r));
	r.call = fn;
	r.arg = arg;
	return run_to_end(w, &r);
}

/* ------------------------------------------------------------------ mkfs */

static int dev_read(void *ctx, uint64_t off, void *buf, uint64_t len)
{
	disk_read(ctx, off, buf, len);
	return 0;
}

static int dev_write(void *ctx, uint64_t off, const void *buf, uint64_t len, bool fua)
{
	disk_write_now(ctx, off, buf, (uint32_t)len);
	return 0;
}

static int dev_flush(void *ctx)
{
	return 0;
}

void world_mkfs(struct world *w, struct disk *d, uint32_t cluster_bytes)
{
	struct sync_dev dev = {d, (uint64_t)d->pages * DISK_PAGE, dev_read, dev_write, dev_flush};
	struct image_params p = {
		.cluster_bytes = cluster_bytes,
		.volume_bytes = w->volume_bytes,
		.journal_bytes = IMAGE_JOURNAL_BYTES_MIN,
		.uuid = {0xc5, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		.dir_hash_key = {1, 1, 2, 3, 5, 8},
		.time_ns = 1700000000000000000ll,
	};
	char why[128];

	csv_assert(image_format(&dev, &p, why) == 0);
	w->disk = d;
	world_open(w, d);
	world_settle(w, true);
	csv_assert(vol_state(w->vol) == VOL_READY);
	vol_close(w->vol, w->fx);
	world_settle(w, true);
	csv_assert(vol_state(w->vol) == VOL_CLOSED);
}
