/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A coordinator tells itself what it holds (node_peers_reclaim_self()): all of it, or it does not go on. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <errno.h>
#include <cmocka.h>

#include "coordinator/takeover_priv.h"
#include "csvfs/node_int.h"

#define INO 7u
#define REGION (64u << 20)
#define UNIT 65536u
#define RANGES 5u

static uint8_t *region;
static struct mem mem, coord_mem;
static struct node *n;
static struct effects fx;
static struct file file;
static struct frange ranges[2 * RANGES];

/* It owns every second unit, and has a lock; its tables as coordinator have so much memory. */
static void holds_much(size_t bytes)
{
	struct node_config cfg = {.node = 1, .name = "n1", .life = 5, .standalone = true, .root_ino = 1};
	struct fs_lock l = {.owner = 9, .handle = 9, .start = 3, .end = 4, .type = FS_LK_WRITE};
	struct lock have;

	if (!region)
		region = aligned_alloc(4096, REGION + (1u << 20));
	if (!fx.arena)
		fx.arena = malloc(EFFECTS_ARENA);
	effects_reset(&fx);
	mem_init(&mem, region, REGION);
	mem_init(&coord_mem, region + REGION, bytes);
	n = node_create(&cfg, &mem, NULL);
	assert_non_null(n);
	n->leases.mem = n->locks.mem = &coord_mem;
	n->tk->state = TK_RECLAIM;
	file = (struct file){.ino = INO, .st = FILE_OPEN, .layout = LAYOUT_KEPT, .writes = true};
	list_init(&file.owned);
	list_init(&file.edges);
	list_add(&file.hash, &n->files.bucket[(INO * 0x9e3779b97f4a7c15ull) >> 54]);
	for (uint32_t i = 0; i < 2 * RANGES; i++) {
		ranges[i] = (struct frange){.off = 2ull * i * UNIT, .len = UNIT};
		list_add_tail(&ranges[i].link, i < RANGES ? &file.owned : &file.edges);
	}
	have = node_lock_of(0, INO, &l);
	assert_int_equal(lock_get(&n->held, &have), 0);
}

static uint32_t count(const struct list *l)
{
	uint32_t found = 0;

	list_for_each_entry (r, l, struct lease_range, link)
		found++;
	return found;
}

static void what_it_cannot_remember_it_does_not_serve(void **state)
{
	const struct lease_ino *li;
	size_t bytes = 0;
	uint32_t failed = 0;

	for (;; bytes += 16) {
		holds_much(bytes);
		node_peers_reclaim_self(n, &fx);
		if (n->peers[0].reclaimed)
			break;
		failed++;
		assert_int_equal(takeover_state(n->tk), TK_LOST);
		assert_string_equal(takeover_reason(n->tk), "no memory for what we hold ourselves");
	}
	assert_true(failed > 2 * RANGES);
	assert_int_equal(takeover_state(n->tk), TK_RECLAIM);
	li = lease_find(&n->leases, INO);
	assert_non_null(li);
	assert_int_equal(count(&li->ranges.all), RANGES);
	assert_int_equal(count(&li->edges.all), RANGES);
	assert_int_equal(n->locks.count, 1);
}

/* The last coordinator may have taken it, and given it to another node. */
static void what_was_on_its_way_back_is_not_its_own_again(void **state)
{
	const struct lease_ino *li;

	holds_much(1u << 20);
	file.layout = LAYOUT_RETURNING;
	node_peers_reclaim_self(n, &fx);
	assert_true(n->peers[0].reclaimed);
	li = lease_find(&n->leases, INO);
	assert_non_null(li);
	assert_int_equal(li->open_mask, 1);
	assert_int_equal(li->holder_mask, 0);
	assert_int_equal(count(&li->ranges.all), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_cannot_remember_it_does_not_serve),
		cmocka_unit_test(what_was_on_its_way_back_is_not_its_own_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
