/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * take.c - a tool that works on a volume for long, and keeps everybody else out while it writes.
 *
 * What was found out without a claim (a check takes hours, and most end without a write) is worth something only while nobody
 * else was at the volume. Each mount writes the claim before it writes anything else. So:
 *  T1. Before the first write the two blocks of the claim are what they were when the volume was judged not to be mounted, byte by
 *      byte. Else nothing is written.
 *  T2. Then the claim is taken, in a new epoch, over the older of the two places, as a node does it, and beats. Who else has begun between
 *      T1's look and this write shows within 2.5 beats, in which the blocks are looked at every 0.2 s: a mount writes its own every half second, another tool has
 *      overwritten ours, or been overwritten. Who takes more than TAKE_NS from the look to the write gives up, so none comes later.
 *  T3. It beats while there is work, and before each beat the blocks are compared with what we have written: a claim that is not
 *      ours ends all writing. Who mounts sees a claim that beats, and is refused.
 *  T4. On a LUN with reservations we are registered since before the look of T1 (tool_register()). A mount that has not seen our claim
 *      fences us: it takes our key, drains, and our writes end in RESERVATION CONFLICT.
 *  T5. Who dies leaves a claim that does not beat and a key of node 0: a mount watches the one, takes the other, and replays.
 * An image's lock keeps all others out: there the claim is written, and nothing is waited for.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/tool.h"

#define SHOWS_NS (CLAIM_BEAT_NS * 5 / 2)
#define TAKE_NS (2 * NS_PER_SEC)
#define BEAT_NS (CLAIM_BEAT_NS / 4)
#define DRAIN_NS (30 * NS_PER_SEC)

static void pause_ms(long ms)
{
	const struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

/* ------------------------------------------------------------------ looking */

/* Which of the two counts; -1: none. */
static int best_of(uint8_t blocks[2][BLOCK_SIZE], struct claim *out)
{
	struct claim c;
	int best = -1;

	for (int i = 0; i < 2; i++) {
		if (claim_decode(&c, blocks[i], NULL))
			continue;
		if (best >= 0 && (c.epoch < out->epoch || (c.epoch == out->epoch && c.heartbeat <= out->heartbeat)))
			continue;
		*out = c;
		best = i;
	}
	return best;
}

bool tool_claim(struct tool_volume *v, struct claim *out)
{
	uint8_t *block = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE);

	memset(v->now, 0, sizeof(v->now));
	for (uint64_t i = 0; block && i < 2; i++)
		if (!tool_read(v, (CLAIM_BLOCK + i) * BLOCK_SIZE, block, BLOCK_SIZE))
			memcpy(v->now[i], block, BLOCK_SIZE);
	free(block);
	return best_of(v->now, out) >= 0;
}

bool tool_claim_is_seen(struct tool_volume *v)
{
	struct claim c;

	(void)tool_claim(v, &c);
	return !memcmp(v->now, v->seen, sizeof(v->now));
}

void tool_claim_see(struct tool_volume *v)
{
	memcpy(v->seen, v->now, sizeof(v->seen));
}

bool tool_drain(struct tool_volume *v)
{
	enum lun_status st;

	if (!v->dirty || v->info->is_file)
		return true;
	st = bdev_sync_cmd(v->dev, &(struct lun_cmd){.op = LUN_RESET}, NULL, NULL);
	if (st == LUN_UNSUPPORTED)
		pause_ms(DRAIN_NS / NS_PER_MS);
	else if (st != LUN_OK)
		tool_error("%s: what was sent to the LUN before cannot be ended: %s", v->name, bdev_sync_text(v->dev));
	v->dirty = st != LUN_OK && st != LUN_UNSUPPORTED;
	return !v->dirty;
}

/* ------------------------------------------------------------------ ours */

/* To the place where the last one is not. */
static int write_ours(struct tool_volume *v)
{
	const unsigned to = v->place ^ 1;
	uint8_t *block = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE);
	int err = block ? 0 : -ENOMEM;

	v->claim.heartbeat++;
	if (block)
		claim_encode(&v->claim, block);
	if (!err)
		err = bdev_sync_write(v->dev, (CLAIM_BLOCK + to) * BLOCK_SIZE, block, BLOCK_SIZE, true);
	if (!err) {
		memcpy(v->seen[to], block, BLOCK_SIZE);
		v->place = to;
		v->beat_ns = bdev_now_ns();
	}
	free(block);
	return err;
}

static int lose(struct tool_volume *v, const char *why)
{
	v->taken = false;
	v->lost = true;
	tool_error("%s: %s. Nothing more is written", v->name, why);
	return -EIO;
}

/* T3 */
static int keep(struct tool_volume *v)
{
	if (!v->info->is_file && !tool_claim_is_seen(v))
		return lose(v, "the claim was taken by another one meanwhile, or cannot be read");
	return write_ours(v) ? lose(v, "the claim cannot be written") : 0;
}

static bool beat_is_due(const struct tool_volume *v)
{
	return !v->info->is_file && bdev_now_ns() >= v->beat_ns + BEAT_NS;
}

int tool_beat(struct tool_volume *v)
{
	if (v->lost)
		return -EIO;
	return v->taken && beat_is_due(v) ? keep(v) : 0;
}

/* T2: whoever had begun has shown itself. We beat meanwhile: a mount that looks for as long shall see us. */
static bool nobody_shows(struct tool_volume *v)
{
	const uint64_t until_ns = bdev_now_ns() + SHOWS_NS;

	while (!v->info->is_file && bdev_now_ns() < until_ns) {
		pause_ms(200);
		if (!tool_claim_is_seen(v))
			return false;
		if (beat_is_due(v) && write_ours(v))
			return false;
	}
	return true;
}

static int busy(const struct tool_volume *v, const char *why)
{
	tool_error("%s: %s. What was found on it means nothing any more, and nothing was written. Unmount it on every node and "
		   "try again", v->name, why);
	return -EBUSY;
}

static int take(struct tool_volume *v, const struct claim *as)
{
	char why[BDEV_TEXT_MAX + 64];
	struct claim c;
	uint64_t begin_ns;

	if (!tool_register(v))
		return -EBUSY;
	v->claim = *as;
	v->claim.state = CLAIM_HELD;
	v->claim.heartbeat = 0;
	tool_random(&v->claim.life, sizeof(v->claim.life));
	v->place = best_of(v->seen, &c) == 1;
	begin_ns = bdev_now_ns();
	if (!tool_as_judged(v, why, sizeof(why)))
		return busy(v, why);
	if (write_ours(v)) {
		tool_error("%s: cannot write the claim: %s", v->name, bdev_sync_text(v->dev));
		return -EIO;
	}
	if (!v->info->is_file && bdev_now_ns() > begin_ns + TAKE_NS)
		return busy(v, "the LUN is too slow to take the claim");
	if (!nobody_shows(v))
		return busy(v, "another one has taken the claim: a node mounts it, or another tool works on it");
	return 0;
}

int tool_take(struct tool_volume *v, const struct claim *as)
{
	int err = v->lost ? -EBUSY : v->taken ? 0 : take(v, as);

	v->taken = !err;
	v->lost = err;
	return err;
}

int tool_release(struct tool_volume *v)
{
	if (!v->taken)
		return -EIO;
	v->claim.state = CLAIM_CLEAN;
	/* Twice: whatever was wrong with one of the blocks. */
	if (keep(v))
		return -EIO;
	if (write_ours(v))
		return lose(v, "the claim cannot be written");
	v->taken = false;
	return 0;
}
