/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What lets a tool write beside the registration that the last node has left: tools/tool.c on a LUN that is played here
 * (bdev_sync.h), with a mount that comes at a given command.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

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

/* ------------------------------------------------------------------ bdev_sync.h */

static void comes(enum lun_op op)
{
	if (!lun.then || op != lun.at || --lun.nth)
		return;
	lun.then();
	lun.then = NULL;
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

int bdev_sync_read(struct bdev_sync *s, uint64_t off, void *buf, uint64_t len)
{
	(void)s;
	comes(LUN_READ);
	memcpy(buf, lun.block[off / BLOCK_SIZE - CLAIM_BLOCK], len);
	return 0;
}

int bdev_sync_write(struct bdev_sync *s, uint64_t off, const void *buf, uint64_t len, bool fua)
{
	(void)s;
	(void)off;
	(void)buf;
	(void)len;
	(void)fua;
	fail();
	return -1;
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_writes_beside_the_kept_key),
		cmocka_unit_test(a_mount_that_has_yet_to_fence_is_no_hindrance),
		cmocka_unit_test(who_comes_between_the_look_and_the_registration_is_seen),
		cmocka_unit_test(beside_a_newer_key_of_the_same_node_nothing_is_written),
		cmocka_unit_test(without_the_keys_nothing_is_written),
		cmocka_unit_test(a_key_that_its_own_replaced_is_put_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
