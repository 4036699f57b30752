/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What waits at the coordinator, and was asked by a process that is no more, is not done behind the end of its locks (H5 of node_held.c). */
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>

#include "coordinator/takeover_priv.h"
#include "metadata/ops.h"
#include "tests/unit/node_alone.h"

#define OTHER 2
#define INO 7

static struct sreq *hole;

/* A request that waits at the inode, behind another one: of `node`, that is known there as the first one of slot 3. */
static struct sreq *waits(uint32_t node, struct fs_request rq)
{
	struct sreq *s = mem_alloc(n->mem, sizeof(*s));

	assert_non_null(s);
	s->node = node;
	s->idx = node - 1;
	s->local = node == 1;
	s->wire_tag = 1;
	s->exclusive = true;
	s->id = (struct fs_reqid){.node = node, .life = 5, .slot = 3, .seq = 1};
	s->vr.rq = rq;
	s->vr.rq.id = s->id;
	s->vr.owner = s;
	list_add_tail(&s->link, &n->sreqs);
	list_add_tail(&s->waiting, &lease_get(&n->leases, INO)->waiting);
	return s;
}

static struct fs_request punch(void)
{
	return (struct fs_request){.op = FS_FALLOCATE, .ino = INO, .len = 65536, .flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE};
}

static int setup(void **state)
{
	struct vol_config vc = {.cache_bytes = 4u << 20, .lun_bytes = 1u << 30, .ops = &metadata_ops};
	struct lease_ino *li;

	(void)state;
	node_alone();
	vc.mem = n->mem;
	n->vol = vol_create(&vc);
	assert_non_null(n->vol);
	n->peers[0] = (struct peer){.node = 1, .life = 5, .served = true};
	n->peers[1] = (struct peer){.node = OTHER, .life = 5, .served = true};
	n->peers_end = 2;
	(void)node_alone_session(OTHER);
	li = lease_get(&n->leases, INO);
	li->exclusive = true;
	return 0;
}

static int down(void **state)
{
	(void)state;
	node_lock_check(n);
	vol_destroy(n->vol);
	n->vol = NULL;
	return 0;
}

/* It comes before the UNLOCK of the RELEASE, in the same session. */
static void taken_back(uint64_t slot, uint64_t seq)
{
	struct fs_request rq = {.op = FS_LOCK_CANCEL, .ino = INO, .id = {.node = OTHER, .life = 5},
		.lock = {.owner = slot, .handle = seq, .seq = 99}};

	node_lock_serve(n, 1, false, 2, &rq, &fx);
}

static uint32_t sent(void)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < fx.count; i++)
		count += fx.fx[i].type == FX_NET_SEND;
	return count;
}

static void what_waits_is_not_done(void **state)
{
	(void)state;
	(void)waits(OTHER, punch());
	taken_back(3, 1);
	assert_true(list_empty(&n->sreqs));
	assert_true(list_empty(&lease_find(&n->leases, INO)->waiting));
	assert_true(n->leases_changed); /* who waits behind it is looked at */
	assert_int_equal(sent(), 2);
}

static void what_is_another_is_done(void **state)
{
	(void)state;
	hole = waits(OTHER, punch());
	taken_back(2, 1);
	taken_back(3, 2);
	taken_back(0, 1);
	hole->id.life = 4;
	taken_back(3, 1);
	hole->id.life = 5;
	hole->id.node = 1;
	taken_back(3, 1);
	assert_ptr_equal(list_first_entry(&n->sreqs, struct sreq, link), hole);
	assert_false(hole->pressed);
	assert_int_equal(sent(), 5);
}

/* Nobody has a layout, or is given one, until it is done; but it does not wait for space then, when others have the file. */
static void what_is_executed_ends_soon(void **state)
{
	struct sreq trim = {.trim = true, .round = true, .drop = true};

	(void)state;
	list_init(&trim.waiting);
	list_add_tail(&trim.link, &n->sreqs);
	n->tk->state = TK_SERVE;
	for (int back = 0; back < 2; back++) {
		hole = waits(OTHER, punch());
		list_del(&hole->waiting);
		node_server_engine(n, hole);
		if (back)
			taken_back(3, 1);
		assert_int_equal(hole->stage, SREQ_ENGINE);
		list_del(&hole->vr.link); /* there is no space */
		assert_int_equal(node_space_wait(n, hole, &fx), !back);
		list_del(&hole->link);
		list_del(&hole->waiting);
	}
	assert_int_equal(sent(), 1);
}

/* It waits in the engine, for others to forget a name, say: nobody's layout waits for that. */
static struct sreq *waits_in_the_engine(void)
{
	struct sreq *s = waits(OTHER, (struct fs_request){.op = FS_RENAME, .ino = INO, .ino2 = INO, .name = "new", .name2 = "old"});

	list_del(&s->waiting);
	list_init(&s->waiting);
	s->exclusive = false;
	node_server_engine(n, s);
	assert_int_equal(s->stage, SREQ_ENGINE);
	assert_null(vol_next_done(n->vol));
	return s;
}

static void end(struct sreq *s)
{
	list_del(&s->link);
	mem_free(n->mem, s, sizeof(*s));
}

static void what_waits_in_the_engine_is_not_done(void **state)
{
	struct sreq *s;

	(void)state;
	n->tk->state = TK_SERVE;
	s = waits_in_the_engine();
	n->again = false;
	taken_back(3, 1);
	assert_ptr_equal(vol_next_done(n->vol), &s->vr);
	assert_int_equal(s->vr.reply.err, -EINTR);
	assert_false(s->drop);
	assert_true(n->again);
	end(s);
}

/* Its session has broken, and the process ended then: that is asked again, and does nothing. It is the first one that must not run. */
static void what_was_asked_in_the_session_before_is_not_done(void **state)
{
	struct session *to = node_alone_session(OTHER);
	struct sreq *s;

	(void)state;
	n->tk->state = TK_SERVE;
	s = waits_in_the_engine();
	n->peers[1].entitled = true;
	to->peer_life = 5;
	node_server_reclaim_end(n, to, 0, &fx);
	assert_false(n->peers[1].reclaim_due);
	assert_ptr_equal(vol_next_done(n->vol), &s->vr);
	assert_true(s->drop);
	end(s);
}

/* A process of the node that coordinates. */
static void what_waits_at_its_own_node_is_not_done(void **state)
{
	struct fs_request rq = punch();
	struct event ev = {.type = EV_REQUEST, .tag = 8, .rq = &rq};
	uint64_t wire_tag;

	(void)state;
	client_serve_local(n->client);
	n->serving_local = true;
	n->cfg.standalone = false;
	node_kernel_request(n, &ev, &fx);
	rq = *client_next_local(n->client, &wire_tag);
	hole = waits(1, rq);
	hole->id = rq.id;
	hole->wire_tag = wire_tag;
	effects_reset(&fx);
	node_kernel_cancel(n, 8, &fx);
	assert_int_equal(fx.count, 1);
	assert_int_equal(fx.fx[0].reply->err, -EINTR);
	assert_true(list_empty(&n->sreqs) && list_empty(&n->creqs));
	assert_false(client_has_local(n->client));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_waits_is_not_done, setup, down),
		cmocka_unit_test_setup_teardown(what_is_another_is_done, setup, down),
		cmocka_unit_test_setup_teardown(what_is_executed_ends_soon, setup, down),
		cmocka_unit_test_setup_teardown(what_waits_in_the_engine_is_not_done, setup, down),
		cmocka_unit_test_setup_teardown(what_was_asked_in_the_session_before_is_not_done, setup, down),
		cmocka_unit_test_setup_teardown(what_waits_at_its_own_node_is_not_done, setup, down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
