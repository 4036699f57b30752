/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a node that coordinates takes over of its own (node_peers.c). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "csvfs/node_int.h"

#define INO 7
#define REGION (64u << 20)

static struct mem mem;
static struct node *n;
static struct effects fx;

static int setup(void **state)
{
	static void *region;
	struct node_config cfg = {
		.node = 1, .name = "n1", .life = 5, .standalone = true, .root_ino = 1};
	struct fs_request rq = {.op = FS_OPEN, .ino = INO};
	struct fs_reply rp = {.attr = {.ino = INO, .generation = 1, .mode = 0100644, .nlink = 1}};
	struct fs_reqid id;
	const struct fs_request *asked;
	uint64_t wire_tag;

	if (!region)
		region = aligned_alloc(4096, REGION);
	if (!fx.arena)
		fx.arena = malloc(EFFECTS_ARENA);
	effects_reset(&fx);
	mem_init(&mem, region, REGION);
	n = node_create(&cfg, &mem, NULL);
	assert_non_null(n);
	client_serve_local(n->client);
	node_file_open(n, 1, &rq, &fx);
	asked = client_next_local(n->client, &wire_tag);
	assert_non_null(asked);
	id = asked->id;
	node_answer(n, wire_tag, &id, &rp, &fx);
	return 0;
}

static struct lease_ino *reclaimed(enum layout_st st)
{
	struct file *f = node_file_find(n, INO);

	f->layout = st;
	assert_true(node_range_insert(n, &f->owned, 0, 65536));
	node_peers_reclaim_self(n, &fx);
	return lease_find(&n->leases, INO);
}

static void what_it_holds_is_its_own_again(void **state)
{
	struct lease_ino *li = reclaimed(LAYOUT_KEPT);

	assert_non_null(li);
	assert_int_equal(li->open_mask, 1);
	assert_int_equal(li->holder_mask, 1);
	assert_false(list_empty(&li->ranges));
}

/* The last coordinator may have taken it, and given it to another node. */
static void what_was_on_its_way_back_is_not(void **state)
{
	struct lease_ino *li = reclaimed(LAYOUT_RETURNING);

	assert_non_null(li);
	assert_int_equal(li->open_mask, 1);
	assert_int_equal(li->holder_mask, 0);
	assert_true(list_empty(&li->ranges));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_it_holds_is_its_own_again, setup),
		cmocka_unit_test_setup(what_was_on_its_way_back_is_not, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
