/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/tool.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "coordinator/member.h"
#include "csvfs/base/assert.h"

#define OPEN_TIMEOUT_MS 15000u
#define WAIT_NS (5 * NS_PER_SEC)

const char *tool_name = "csvfs";

void csv_assert_fail(const char *expr, const char *file, int line)
{
	fprintf(stderr, "%s: %s:%d: assertion failed: %s\n", tool_name, file, line, expr);
	abort();
}

void tool_error(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "%s: ", tool_name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

/* ------------------------------------------------------------------ text */

char *tool_uuid_text(const uint8_t uuid[16], char out[37])
{
	char *p = out;

	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		p += sprintf(p, "%02x", uuid[i]);
	}
	return out;
}

bool tool_parse_uuid(const char *s, uint8_t uuid[16])
{
	unsigned n = 0, v;

	if (strlen(s) != 36)
		return false;
	for (unsigned i = 0; i < 36;) {
		if (i == 8 || i == 13 || i == 18 || i == 23) {
			if (s[i++] != '-')
				return false;
			continue;
		}
		if (!isxdigit((unsigned char)s[i]) || !isxdigit((unsigned char)s[i + 1]) ||
			sscanf(s + i, "%2x", &v) != 1)
			return false;
		uuid[n++] = (uint8_t)v;
		i += 2;
	}
	return true;
}

void tool_random(void *out, size_t n)
{
	if (getrandom(out, n, 0) != (ssize_t)n) {
		tool_error("the kernel gives no random numbers: %s", strerror(errno));
		exit(1);
	}
}

/* ------------------------------------------------------------------ the volume */

static void pause_ms(long ms)
{
	const struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

bool tool_open(struct tool_volume *v, const char *volume, const char *initiator, unsigned flags)
{
	const struct bdev_config cfg = {.url = volume,
		.initiator = initiator,
		.session = BDEV_SESSION_RANDOM,
		.readonly = flags & TOOL_READONLY,
		.nolock = flags & TOOL_NOLOCK};
	const uint64_t until_ns = bdev_now_ns() + (flags & TOOL_WAIT ? WAIT_NS : 0);
	char text[256];
	int err;

	/* Who writes finishes it, or says why not: whoever reads its words, or the target, may have gone. */
	if (!(flags & TOOL_READONLY))
		signal(SIGPIPE, SIG_IGN);
	memset(v, 0, sizeof(*v));
	bdev_url_text(volume, v->name, sizeof(v->name));
	for (;;) {
		err = bdev_sync_open(&cfg, OPEN_TIMEOUT_MS, &v->dev, text, sizeof(text));
		if (err != -EBUSY || bdev_now_ns() >= until_ns)
			break;
		pause_ms(100);
	}
	if (err) {
		tool_error("%s", text);
		return false;
	}
	v->info = bdev_sync_info(v->dev);
	v->bytes = v->info->lun_bytes / BLOCK_SIZE * BLOCK_SIZE;
	if (v->info->block_bytes > BLOCK_SIZE) {
		tool_error("%s: the LUN has blocks of %u bytes; csvfs needs 4096 or less", v->name,
			v->info->block_bytes);
		tool_close(v);
		return false;
	}
	return true;
}

void tool_close(struct tool_volume *v)
{
	/* What was left on purpose holds the reservation, and stays. */
	if (v->beside)
		(void)bdev_sync_cmd(v->dev, &(struct lun_cmd){.op = LUN_PR_UNREGISTER}, NULL, NULL);
	v->beside = false;
	bdev_sync_close(v->dev);
	v->dev = NULL;
}

int tool_read(struct tool_volume *v, uint64_t off, void *buf, uint64_t len)
{
	return bdev_sync_read(v->dev, off, buf, len);
}

static int dev_read(void *ctx, uint64_t off, void *buf, uint64_t len)
{
	struct tool_volume *v = ctx;

	(void)tool_beat(v); /* the next write says what came of it */
	return bdev_sync_read(v->dev, off, buf, len);
}

static int dev_write(void *ctx, uint64_t off, const void *buf, uint64_t len, bool fua)
{
	struct tool_volume *v = ctx;

	return tool_beat(v) ? -EIO : bdev_sync_write(v->dev, off, buf, len, fua);
}

static int dev_flush(void *ctx)
{
	struct tool_volume *v = ctx;

	return bdev_sync_flush(v->dev);
}

static int check_read(void *ctx, uint64_t off, void *buf, uint32_t len)
{
	return dev_read(ctx, off, buf, len);
}

static int check_write(void *ctx, uint64_t off, const void *buf, uint32_t len)
{
	return dev_write(ctx, off, buf, len, true);
}

static int check_claim(void *ctx, const struct claim *claim)
{
	return claim->state == CLAIM_HELD ? tool_take(ctx, claim) : tool_release(ctx);
}

struct sync_dev tool_sync_dev(struct tool_volume *v)
{
	return (struct sync_dev){
		.ctx = v, .bytes = v->bytes, .read = dev_read, .write = dev_write, .flush = dev_flush};
}

struct check_dev tool_check_dev(struct tool_volume *v)
{
	return (struct check_dev){
		.ctx = v, .bytes = v->bytes, .read = check_read, .write = check_write, .claim = check_claim};
}

/* ------------------------------------------------------------------ is it mounted? */

/*
 * True: the claim is held, and changed while we looked, so somebody is alive. What is being unmounted at
 * this moment beats once more and then lets go: so a beat is not believed before the time is over.
 */
static bool claim_beats(struct tool_volume *v, struct claim *c)
{
	const uint64_t until_ns = bdev_now_ns() + CLAIM_BEAT_NS * 5 / 2;
	const struct claim first = *c;

	while (bdev_now_ns() < until_ns && c->state == CLAIM_HELD) {
		pause_ms(200);
		if (!tool_claim(v, c))
			break;
	}
	return c->state == CLAIM_HELD &&
	       (c->epoch != first.epoch || c->heartbeat != first.heartbeat);
}

/* False: it cannot be known. A target that knows no reservations has no registrations. */
static bool registered(struct tool_volume *v, uint64_t keys[LUN_KEYS_MAX], uint32_t *count)
{
	const struct lun_cmd cmd = {.op = LUN_PR_READ_KEYS};
	enum lun_status st;

	*count = 0;
	if (v->info->is_file)
		return true;
	st = bdev_sync_cmd(v->dev, &cmd, keys, count);
	return st == LUN_OK || st == LUN_UNSUPPORTED;
}

/*
 * Nothing is registered but what the claim says was left on purpose, and tools that were ended while they worked. A node that did
 * not get to mount may have put a newer key in place of its own: enough for a look, not for writing (tool_register()).
 */
static bool only_kept(const struct claim *c, const uint64_t *keys, uint32_t count)
{
	bool found = false;

	if (!c->kept || !claim_owes(c))
		return false;
	for (uint32_t i = 0; i < count; i++) {
		if (keys[i] >> 32 && keys[i] >> 32 != c->node)
			return false;
		found |= keys[i] >> 32 == c->node;
	}
	return found;
}

/*
 * A tool's key (of node 0) stays where one was ended while it wrote. One that is at work shows by its claim, and who writes takes that first.
 */
static uint32_t of_nodes(const uint64_t *keys, uint32_t count)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < count; i++)
		n += keys[i] >> 32 != 0;
	return n;
}

/* Who is unmounting just now takes its registration away in a moment. *count: of nodes. */
static bool wait_for_registrations(struct tool_volume *v, uint32_t *count)
{
	uint64_t keys[LUN_KEYS_MAX];
	struct claim c;
	bool known;

	for (int i = 0;; i++) {
		known = registered(v, keys, count);
		v->kept = known && *count && tool_claim(v, &c) && only_kept(&c, keys, *count);
		*count = of_nodes(keys, *count);
		if (v->kept) {
			v->judged = c;
			tool_claim_see(v);
		}
		if (!known || !*count || v->kept || i == 20)
			return known;
		pause_ms(100);
	}
}

enum tool_use tool_use_of(struct tool_volume *v, char *text, size_t text_bytes)
{
	struct claim c;
	bool found = tool_claim(v, &c), held = found && c.state == CLAIM_HELD;
	char owes[160] = "";
	uint32_t keys;

	snprintf(text, text_bytes, "not mounted");
	/* Who holds an image's lock needs no look at the claim: nobody else can have it. */
	if (held && !v->info->is_file) {
		if (claim_beats(v, &c)) {
			snprintf(text, text_bytes, "mounted: node %u (%s) coordinates it now", c.node,
				c.name);
			return TOOL_MOUNTED;
		}
		held = c.state == CLAIM_HELD;
	}
	tool_claim_see(v);
	v->dirty = found && c.state != CLAIM_CLEAN;
	if (!wait_for_registrations(v, &keys)) {
		snprintf(text, text_bytes, "who is registered at the LUN cannot be known: %s",
			bdev_sync_text(v->dev));
		return TOOL_UNKNOWN;
	}
	if (found && claim_owes(&c))
		claim_owes_text(&c, owes, sizeof(owes));
	if (keys && !v->kept) {
		snprintf(text, text_bytes,
			"%u registration%s at the LUN: a node may have it mounted, or died with it mounted%s%s",
			keys, keys == 1 ? "" : "s", *owes ? "; " : "", owes);
		return TOOL_REGISTERED;
	}
	if (v->kept)
		snprintf(text, text_bytes,
			"%s: the registration that keeps away what it may still send stays until it has mounted the volume", owes);
	else if (held)
		snprintf(text, text_bytes, "not unmounted in order by node %u (%s)", c.node, c.name);
	return held ? TOOL_UNCLEAN : TOOL_FREE;
}

/* Of a newer key of the same node nothing is known here: it may be about to mount the volume. */
static bool keys_as_judged(struct tool_volume *v, char *why, size_t why_bytes)
{
	const struct claim *j = &v->judged;
	bool ours = false, left = false, others = false;
	uint64_t keys[LUN_KEYS_MAX];
	uint32_t count;

	if (!registered(v, keys, &count)) {
		snprintf(why, why_bytes, "who is registered at the LUN cannot be known: %s", bdev_sync_text(v->dev));
		return false;
	}
	for (uint32_t i = 0; i < count; i++) {
		ours |= keys[i] == v->key;
		left |= keys[i] == FENCE_KEY(j->node, j->incarnation);
		others |= keys[i] >> 32 != 0;
	}
	if (v->kept && !left)
		snprintf(why, why_bytes,
			"the registration that was left is gone: node %u, or another one, is mounting it, or has tried to", j->node);
	else if (!v->kept && others)
		snprintf(why, why_bytes, "a node has registered at the LUN: it is mounting it, or has it mounted");
	else if (!ours)
		snprintf(why, why_bytes, "our registration at the LUN is gone: a node is mounting it, or has it mounted");
	else
		return true;
	return false;
}

/* The keys first: who was registered, and is not any more, has left a claim. */
bool tool_as_judged(struct tool_volume *v, char *why, size_t why_bytes)
{
	if (v->beside && !keys_as_judged(v, why, why_bytes))
		return false;
	snprintf(why, why_bytes, "the claim has changed: it is used by another tool, or was mounted just now");
	return tool_claim_is_seen(v);
}

/*
 * Where all sessions of a host are one nexus to the target, ours has replaced the one that was left: that is put back. To take ours
 * away would end the reservation.
 */
static void unregister(struct tool_volume *v)
{
	const uint64_t left = FENCE_KEY(v->judged.node, v->judged.incarnation);
	struct lun_cmd cmd = {.op = LUN_PR_READ_RESERVATION};
	uint64_t keys[LUN_KEYS_MAX];
	uint32_t count;
	bool holds = v->kept && bdev_sync_cmd(v->dev, &cmd, keys, &count) == LUN_OK && count && keys[0] == v->key;

	cmd = holds ? (struct lun_cmd){.op = LUN_PR_REGISTER, .key = left} : (struct lun_cmd){.op = LUN_PR_UNREGISTER};
	/* If it fails ours stays, which harms nobody: the next mount takes it away. */
	(void)bdev_sync_cmd(v->dev, &cmd, NULL, NULL);
}

/*
 * First registered, then looked: a mount takes the kept key away before its fence reads the keys for the last time
 * (coordinator/fence.c, VERIFY). So if it is there now no fence has got as far, and the one that comes finds ours, too, and
 * takes it away and drains it before anything is read. Where no key was left, a mount that registers after us finds ours, and of one that
 * was before us we find the key, or, if it has unmounted since, another claim.
 */
bool tool_register(struct tool_volume *v)
{
	char why[BDEV_TEXT_MAX + 64];
	uint32_t random;

	if (v->beside || v->info->is_file || !v->info->reservations)
		return true;
	tool_random(&random, sizeof(random));
	/* Of node 0, which none is: whoever mounts it next knows it for a tool's. */
	v->key = random | 1;
	if (bdev_sync_cmd(v->dev, &(struct lun_cmd){.op = LUN_PR_REGISTER, .key = v->key}, NULL, NULL) != LUN_OK) {
		tool_error("%s: cannot register at the LUN: %s", v->name, bdev_sync_text(v->dev));
		return false;
	}
	v->beside = true;
	if (tool_as_judged(v, why, sizeof(why)))
		return true;
	tool_error("%s: %s. Nothing was written. Unmount it on every node and try again%s", v->name, why,
		v->kept ? "; if it was not mounted, mount and unmount it once" : "");
	unregister(v);
	v->beside = false;
	return false;
}

bool tool_clear_registrations(struct tool_volume *v)
{
	struct lun_cmd cmd = {.op = LUN_PR_REGISTER};
	enum lun_status st;

	tool_random(&cmd.key, sizeof(cmd.key));
	cmd.key = (uint32_t)cmd.key | 1;
	st = bdev_sync_cmd(v->dev, &cmd, NULL, NULL);
	if (st == LUN_OK) {
		cmd.op = LUN_PR_CLEAR;
		st = bdev_sync_cmd(v->dev, &cmd, NULL, NULL);
	}
	if (st != LUN_OK)
		tool_error("%s: cannot clear the registrations: %s", v->name, lun_status_name(st));
	v->kept = v->beside = false;
	v->dirty = true;
	return st == LUN_OK;
}

bool tool_nobody_at_large(struct tool_volume *v)
{
	uint8_t *block = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE);
	struct claim c, other;
	uint64_t at = CLAIM_BLOCK;
	bool ok = block != NULL;

	if (!tool_claim_is_seen(v)) {
		tool_error("%s: the claim has changed: it was mounted just now", v->name);
		ok = false;
	}
	if (ok && tool_claim(v, &c) && (claim_owes(&c) || c.kept)) {
		/* Over the other one, as each claim. */
		if (!tool_read(v, at * BLOCK_SIZE, block, BLOCK_SIZE) && !claim_decode(&other, block, NULL) &&
			other.epoch == c.epoch && other.heartbeat == c.heartbeat)
			at++;
		c.fenced_count = 0;
		c.fenced_more = c.kept = false;
		c.heartbeat++;
		claim_encode(&c, block);
		ok = !bdev_sync_write(v->dev, at * BLOCK_SIZE, block, BLOCK_SIZE, true);
		if (!ok)
			tool_error("%s: cannot write the claim: %s", v->name, bdev_sync_text(v->dev));
		(void)tool_claim(v, &c);
		tool_claim_see(v);
	}
	free(block);
	return ok;
}
