/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What lets a tool write: beside the registration that the last node has left, and for long, with the claim: tools/tool.c and take.c on a
 * LUN and by a clock that are played here (bdev_sync.h), with a mount that comes at a given command, or time.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "coordinator/member.h"
#include "tools/tool.h"

#define KEPT FENCE_KEY(3, 0x77u)
#define NEWER FENCE_KEY(3, 0x78u)
#define MOUNT FENCE_KEY(5, 0x99u)

static struct {
	struct bdev_info info;
	uint8_t block[2][BLOCK_SIZE]; /* of the claim */
	uint64_t key[4]; /* registered; 0: a free place */
	uint64_t holder, ours;
	bool one_nexus; /* our REGISTER replaces the kept key */
	bool no_keys;
	bool bare; /* it knows no reservations */
	enum lun_status reset; /* what it answers */
	unsigned resets, writes; /* writes: not of a claim */
	uint64_t now_ns, at_ns; /* then(), too */
	enum lun_op at; /* before the nth of these, then() */
	unsigned nth;
	void (*then)(void);
} lun;

static void claim_put(struct claim *c, unsigned place)
{
	memset(c->uuid, 7, sizeof(c->uuid));
	claim_encode(c, lun.block[place]);
}

static void lun_is_left(void)
{
	struct claim c = {.epoch = 4, .served = 4, .heartbeat = 9, .state = CLAIM_CLEAN, .kept = true,
		.fenced_count = 1, .fenced = {{2, 0x55, 0}}};

	memset(&lun, 0, sizeof(lun));
	c.node = FENCE_KEY_NODE(KEPT);
	c.incarnation = FENCE_KEY_INCARNATION(KEPT);
	claim_put(&c, 0);
	claim_put(&c, 1);
	lun.key[0] = lun.holder = KEPT;
}

static void key_replace(uint64_t from, uint64_t to)
{
	for (int i = 0; i < 4; i++) {
		if (lun.key[i] != from)
			continue;
		lun.key[i] = to;
		lun.holder = lun.holder == from ? to : lun.holder;
		return;
	}
}

static bool has(uint64_t key)
{
	for (int i = 0; i < 4; i++)
		if (lun.key[i] == key)
			return true;
	return false;
}

/* Unmounted in order by all. */
static void lun_is_free(bool bare)
{
	struct claim c = {.epoch = 4, .served = 4, .heartbeat = 8, .state = CLAIM_CLEAN, .node = 3};

	memset(&lun, 0, sizeof(lun));
	lun.bare = bare;
	claim_put(&c, 1);
	c.heartbeat++;
	claim_put(&c, 0);
}

/* ------------------------------------------------------------------ what may come in between */

static void a_fence_is_over(void)
{
	key_replace(KEPT, MOUNT);
}

static void a_mount_serves(void)
{
	struct claim c = {.epoch = 5, .served = 5, .heartbeat = 1, .state = CLAIM_HELD, .node = 5, .incarnation = 0x99};

	a_fence_is_over();
	claim_put(&c, 0);
}

/* In the fence of one that takes over, before it has taken anything. */
static void a_mount_registers(void)
{
	key_replace(0, MOUNT);
}

static void its_node_tries_to_mount(void)
{
	key_replace(KEPT, NEWER);
}

static void another_tool_writes(void)
{
	struct claim c;

	assert_int_equal(claim_decode(&c, lun.block[0], NULL), 0);
	c.heartbeat++;
	claim_put(&c, 1);
}

/* Over the older place, as ours; the second time over the other one. */
static void a_mount_claims(void)
{
	struct claim c = {.epoch = 5, .served = 5, .heartbeat = 1, .state = CLAIM_HELD, .node = 5, .life = 55};

	claim_put(&c, 1);
}

static void a_mount_beats(void)
{
	struct claim c = {.epoch = 5, .served = 5, .heartbeat = 2, .state = CLAIM_HELD, .node = 5, .life = 55};

	claim_put(&c, 0);
}

static void a_mount_claims_and_beats(void)
{
	a_mount_claims();
	lun.then = a_mount_beats;
	lun.at_ns = lun.now_ns + 600 * NS_PER_MS;
}

static void a_mount_has_come_and_gone(void)
{
	struct claim c = {.epoch = 5, .served = 5, .heartbeat = 7, .state = CLAIM_CLEAN, .node = 5};

	claim_put(&c, 0);
}

static void time_goes_by(void)
{
	lun.now_ns += 3 * NS_PER_SEC;
}

/* ------------------------------------------------------------------ time */

static void time_is(uint64_t ns)
{
	void (*then)(void) = lun.then;

	lun.now_ns = ns;
	if (!then || !lun.at_ns || ns < lun.at_ns)
		return;
	lun.at_ns = 0;
	lun.then = NULL;
	then();
}

int clock_gettime(clockid_t id, struct timespec *t)
{
	(void)id;
	*t = (struct timespec){(time_t)(lun.now_ns / NS_PER_SEC), (long)(lun.now_ns % NS_PER_SEC)};
	return 0;
}

int nanosleep(const struct timespec *t, struct timespec *left)
{
	(void)left;
	time_is(lun.now_ns + (uint64_t)t->tv_sec * NS_PER_SEC + (uint64_t)t->tv_nsec);
	return 0;
}

/* ------------------------------------------------------------------ bdev_sync.h */

static void comes(enum lun_op op)
{
	void (*then)(void) = lun.then;

	if (!then || lun.at_ns || op != lun.at || --lun.nth)
		return;
	lun.then = NULL;
	then();
}

int bdev_sync_open(const struct bdev_config *cfg, uint32_t timeout_ms, struct bdev_sync **out, char *text,
	size_t text_bytes)
{
	(void)cfg;
	(void)timeout_ms;
	(void)text;
	(void)text_bytes;
	lun.info.lun_bytes = 64 << 20;
	lun.info.block_bytes = 512;
	lun.info.reservations = !lun.bare;
	*out = (struct bdev_sync *)&lun;
	return 0;
}

void bdev_sync_close(struct bdev_sync *s)
{
	(void)s;
}

const struct bdev_info *bdev_sync_info(const struct bdev_sync *s)
{
	(void)s;
	return &lun.info;
}

const char *bdev_sync_text(const struct bdev_sync *s)
{
	(void)s;
	return "it is played";
}

static uint8_t *claim_at(uint64_t off)
{
	const uint64_t blkno = off / BLOCK_SIZE;

	return blkno == CLAIM_BLOCK || blkno == CLAIM_BLOCK + 1 ? lun.block[blkno - CLAIM_BLOCK] : NULL;
}

int bdev_sync_read(struct bdev_sync *s, uint64_t off, void *buf, uint64_t len)
{
	const uint8_t *claim = claim_at(off);

	(void)s;
	comes(LUN_READ);
	if (claim)
		memcpy(buf, claim, len);
	else
		memset(buf, 0, len);
	return 0;
}

int bdev_sync_write(struct bdev_sync *s, uint64_t off, const void *buf, uint64_t len, bool fua)
{
	uint8_t *claim = claim_at(off);

	(void)s;
	(void)fua;
	comes(LUN_WRITE);
	if (claim)
		memcpy(claim, buf, len);
	else
		lun.writes++;
	return 0;
}

int bdev_sync_flush(struct bdev_sync *s)
{
	(void)s;
	return 0;
}

enum lun_status bdev_sync_cmd(struct bdev_sync *s, const struct lun_cmd *cmd, uint64_t *keys, uint32_t *key_count)
{
	uint32_t count = 0;

	(void)s;
	comes(cmd->op);
	if (cmd->op == LUN_RESET) {
		lun.resets++;
		return lun.reset;
	}
	if (lun.bare)
		return LUN_UNSUPPORTED;
	if (cmd->op == LUN_PR_REGISTER) {
		if (!lun.ours)
			key_replace(lun.one_nexus ? KEPT : 0, cmd->key);
		else
			key_replace(lun.ours, cmd->key);
		lun.ours = cmd->key;
	} else if (cmd->op == LUN_PR_UNREGISTER) {
		if (lun.holder == lun.ours)
			lun.holder = 0;
		key_replace(lun.ours, 0);
		lun.ours = 0;
	} else if (cmd->op == LUN_PR_READ_RESERVATION) {
		if (lun.holder)
			keys[count++] = lun.holder;
	} else if (cmd->op == LUN_PR_READ_KEYS) {
		if (lun.no_keys)
			return LUN_MEDIUM;
		for (int i = 0; i < 4; i++)
			if (lun.key[i])
				keys[count++] = lun.key[i];
	}
	if (key_count)
		*key_count = count;
	return LUN_OK;
}

/* ------------------------------------------------------------------ tests */

/* The tool looks, and may write: what it does first is to register. `then` comes before the nth `op` of that. */
static bool writes(enum lun_op op, unsigned nth, void (*then)(void))
{
	struct tool_volume v;
	char text[400];
	bool ok;

	assert_true(tool_open(&v, "iscsi://played/it/1", NULL, 0));
	assert_int_equal(tool_use_of(&v, text, sizeof(text)), TOOL_FREE);
	assert_true(v.kept && strstr(text, "node 2 was fenced"));
	lun.at = op;
	lun.nth = nth;
	lun.then = then;
	ok = tool_register(&v);
	assert_int_equal(ok, lun.ours && lun.ours != KEPT);
	assert_true(!then || !lun.then);
	tool_close(&v);
	return ok;
}

static void it_writes_beside_the_kept_key(void **state)
{
	(void)state;
	lun_is_left();
	assert_true(writes(0, 0, NULL));
	assert_true(has(KEPT) && lun.holder == KEPT && !lun.ours);
}

/* Of a mount that has not taken the kept key yet the fence takes the tool's as well. */
static void a_mount_that_has_yet_to_fence_is_no_hindrance(void **state)
{
	(void)state;
	lun_is_left();
	assert_true(writes(LUN_PR_REGISTER, 1, a_mount_registers));
	assert_true(has(KEPT) && has(MOUNT) && lun.holder == KEPT);
}

/* Found in the lab with the tool held up between its look and its registration: it repaired under a coordinator. */
static void who_comes_between_the_look_and_the_registration_is_seen(void **state)
{
	static void (*const things[])(void) = {
		a_fence_is_over, a_mount_serves, its_node_tries_to_mount, another_tool_writes};
	static const enum lun_op before[] = {LUN_PR_REGISTER, LUN_PR_READ_KEYS};

	(void)state;
	for (size_t i = 0; i < sizeof(things) / sizeof(things[0]); i++) {
		for (size_t k = 0; k < 2; k++) {
			const bool tool = things[i] == another_tool_writes;
			uint64_t left = things[i] == its_node_tries_to_mount ? NEWER : MOUNT;

			lun_is_left();
			assert_false(writes(before[k], 1, things[i]));
			left = tool ? KEPT : left;
			assert_true(!lun.ours && has(left) && lun.holder == left);
		}
	}
}

/* It looks no worse than the kept one: enough for fsck.csvfs -n. */
static void beside_a_newer_key_of_the_same_node_nothing_is_written(void **state)
{
	(void)state;
	lun_is_left();
	its_node_tries_to_mount();
	assert_false(writes(0, 0, NULL));
	assert_true(!lun.ours && lun.holder == NEWER);
}

static void no_keys(void)
{
	lun.no_keys = true;
}

static void without_the_keys_nothing_is_written(void **state)
{
	(void)state;
	lun_is_left();
	assert_false(writes(LUN_PR_REGISTER, 1, no_keys));
	assert_true(!lun.ours && lun.holder == KEPT);
}

/* All sessions of a host are one nexus: what was left is put back, and nobody is without a reservation. */
static void a_key_that_its_own_replaced_is_put_back(void **state)
{
	(void)state;
	lun_is_left();
	lun.one_nexus = true;
	assert_false(writes(0, 0, NULL));
	assert_true(has(KEPT) && lun.holder == KEPT);
}

/* ------------------------------------------------------------------ the claim */

/* The tool has looked, and takes the claim for its first write. `then` comes before the nth `op` of that. */
static int takes(struct tool_volume *v, enum lun_op op, unsigned nth, void (*then)(void))
{
	const struct claim as = {.epoch = 5, .node = 1, .name = "a tool"};
	char text[400];
	enum tool_use use;

	assert_true(tool_open(v, "iscsi://played/it/1", NULL, 0));
	use = tool_use_of(v, text, sizeof(text));
	assert_true(use == TOOL_FREE || use == TOOL_UNCLEAN);
	lun.at = op;
	lun.nth = nth;
	lun.then = then;
	return tool_take(v, &as);
}

static bool of_a_tool(void)
{
	for (int i = 0; i < 4; i++)
		if (lun.key[i] && lun.key[i] >> 32 == 0)
			return true;
	return false;
}

static struct claim in_place(unsigned i)
{
	struct claim c;

	assert_int_equal(claim_decode(&c, lun.block[i], NULL), 0);
	return c;
}

static bool can_write(struct tool_volume *v)
{
	static const uint8_t block[BLOCK_SIZE] __attribute__((aligned(BLOCK_SIZE)));
	const struct sync_dev dev = tool_sync_dev(v);

	return !dev.write(dev.ctx, 100 * BLOCK_SIZE, block, BLOCK_SIZE, true);
}

static void the_claim_is_held_and_beats_and_is_let_go(void **state)
{
	struct tool_volume v;
	uint64_t beat;

	(void)state;
	for (int bare = 0; bare < 2; bare++) {
		lun_is_free(bare);
		assert_int_equal(takes(&v, 0, 0, NULL), 0);
		/* A mount that had begun would have beaten by now. */
		assert_true(lun.now_ns >= 5 * NS_PER_SEC);
		assert_true(in_place(1).state == CLAIM_HELD && in_place(1).epoch == 5);
		assert_int_equal(of_a_tool(), !bare);
		/* And who looked for as long as we waited has seen it beat. */
		assert_true(in_place(0).state == CLAIM_HELD && in_place(0).heartbeat + in_place(1).heartbeat > 10);
		for (int i = 0; i < 40; i++) {
			beat = in_place(0).heartbeat + in_place(1).heartbeat;
			lun.now_ns += 600 * NS_PER_MS;
			assert_true(can_write(&v));
			assert_true(in_place(0).heartbeat + in_place(1).heartbeat != beat);
		}
		assert_int_equal(lun.writes, 40);
		assert_int_equal(tool_release(&v), 0);
		for (unsigned i = 0; i < 2; i++)
			assert_true(in_place(i).state == CLAIM_CLEAN && in_place(i).epoch == 5);
		tool_close(&v);
		assert_false(of_a_tool());
	}
}

/* Worked out on a volume that is not that any more. */
static void who_was_there_since_the_look_ends_it(void **state)
{
	static void (*const things[])(void) = {
		a_mount_serves, a_mount_registers, a_mount_has_come_and_gone, another_tool_writes, a_mount_claims};
	static const enum lun_op before[] = {LUN_PR_REGISTER, LUN_PR_READ_KEYS, LUN_READ};
	uint8_t was[2][BLOCK_SIZE];
	struct tool_volume v;

	(void)state;
	for (size_t i = 0; i < sizeof(things) / sizeof(things[0]); i++) {
		for (int k = 0; k < 6; k++) {
			const bool bare = k > 3;

			/* What only registers has none to see on a bare LUN, and after the keys were read it has yet to fence us. */
			if (things[i] == a_mount_registers && k > 1)
				continue;
			lun_is_free(bare);
			assert_int_equal(takes(&v, bare ? LUN_READ : before[k % 3], bare ? (unsigned)k - 3 : 1, things[i]), -EBUSY);
			memcpy(was, lun.block, sizeof(was));
			assert_true(!lun.then && !lun.writes && !can_write(&v));
			tool_close(&v);
			assert_false(of_a_tool());
			assert_memory_equal(was, lun.block, sizeof(was));
			/* But for one that comes between the two blocks of the look: that shows behind our claim. */
			for (unsigned n = 0; k < 5 && n < 2; n++)
				assert_string_not_equal(in_place(n).name, "a tool");
		}
	}
}

/* Between the look and our claim, or just after it. */
static void who_claims_at_the_same_time_shows(void **state)
{
	static void (*const things[])(void) = {a_mount_claims, a_mount_beats, another_tool_writes};
	struct tool_volume v;

	(void)state;
	lun_is_free(true);
	assert_int_equal(takes(&v, LUN_WRITE, 1, a_mount_claims_and_beats), -EBUSY);
	assert_true(in_place(0).node == 5 && !lun.then && !can_write(&v));
	lun_is_free(true);
	assert_int_equal(takes(&v, LUN_WRITE, 1, time_goes_by), -EBUSY);
	assert_false(can_write(&v));
	for (uint64_t ms = 1; ms < 5000; ms += 700) {
		for (size_t i = 0; i < 3; i++) {
			lun_is_free(true);
			lun.at_ns = ms * NS_PER_MS;
			assert_int_equal(takes(&v, 0, 0, things[i]), -EBUSY);
			assert_true(!lun.then && !can_write(&v) && !lun.writes);
		}
	}
}

static void who_takes_it_from_us_ends_all_writing(void **state)
{
	static void (*const things[])(void) = {a_mount_claims, a_mount_beats, a_mount_has_come_and_gone};
	struct tool_volume v;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		lun_is_free(true);
		assert_int_equal(takes(&v, 0, 0, NULL), 0);
		assert_true(can_write(&v));
		things[i]();
		lun.now_ns += NS_PER_SEC;
		assert_false(can_write(&v));
		assert_false(can_write(&v));
		assert_int_equal(tool_release(&v), -EIO);
		assert_int_equal(lun.writes, 1);
		assert_true(in_place(0).node == 5 || in_place(1).node == 5);
	}
}

/* One was ended while it wrote: the next one goes on. */
static void what_a_dead_tool_has_left_keeps_nobody_away(void **state)
{
	struct claim c = {.epoch = 4, .served = 4, .heartbeat = 30, .state = CLAIM_HELD, .node = 1, .name = "fsck.csvfs"};
	struct tool_volume v;

	(void)state;
	lun_is_free(false);
	lun.key[0] = 0x1235;
	claim_put(&c, 0);
	assert_int_equal(takes(&v, 0, 0, NULL), 0);
	assert_true(v.dirty && can_write(&v));
	assert_int_equal(tool_release(&v), 0);
	tool_close(&v);
}

/* ------------------------------------------------------------------ what a dead life has sent */

static bool drains(enum claim_state state, enum lun_status reset)
{
	struct claim c = {.epoch = 4, .served = 4, .heartbeat = 30, .state = state, .node = 2};
	struct tool_volume v;
	char text[400];
	bool ok;

	lun_is_free(true);
	claim_put(&c, 0);
	lun.reset = reset;
	assert_true(tool_open(&v, "iscsi://played/it/1", NULL, 0));
	(void)tool_use_of(&v, text, sizeof(text));
	lun.now_ns = NS_PER_SEC;
	ok = tool_drain(&v);
	tool_close(&v);
	return ok;
}

static void what_a_dead_life_has_sent_is_waited_for(void **state)
{
	(void)state;
	assert_true(drains(CLAIM_CLEAN, LUN_OK) && !lun.resets);
	assert_true(drains(CLAIM_HELD, LUN_OK) && lun.resets == 1 && lun.now_ns == NS_PER_SEC);
	assert_true(drains(CLAIM_RELEASED, LUN_OK) && lun.resets == 1);
	assert_true(drains(CLAIM_HELD, LUN_UNSUPPORTED) && lun.now_ns == 31 * NS_PER_SEC);
	assert_false(drains(CLAIM_HELD, LUN_UNKNOWN));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_writes_beside_the_kept_key),
		cmocka_unit_test(a_mount_that_has_yet_to_fence_is_no_hindrance),
		cmocka_unit_test(who_comes_between_the_look_and_the_registration_is_seen),
		cmocka_unit_test(beside_a_newer_key_of_the_same_node_nothing_is_written),
		cmocka_unit_test(without_the_keys_nothing_is_written),
		cmocka_unit_test(a_key_that_its_own_replaced_is_put_back),
		cmocka_unit_test(the_claim_is_held_and_beats_and_is_let_go),
		cmocka_unit_test(who_was_there_since_the_look_ends_it),
		cmocka_unit_test(who_claims_at_the_same_time_shows),
		cmocka_unit_test(who_takes_it_from_us_ends_all_writing),
		cmocka_unit_test(what_a_dead_tool_has_left_keeps_nobody_away),
		cmocka_unit_test(what_a_dead_life_has_sent_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
