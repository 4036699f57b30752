/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who is granted a layout of what a node had that is gone, and when (rule 8 of node_server.c). */
#include <string.h>

#include "coordinator/takeover_priv.h"
#include "metadata/engine.h"
#include "metadata/ops.h"
#include "tests/unit/node_alone.h"

#define GONE 2
#define LEN 65536u

static struct peer *gone;
static struct sreq ask;

/* A coordinator with a file that it and another node have open. The other one has a layout of it, to write in place, and is gone. */
static int setup(void **state)
{
	struct vol_config vc = {.cache_bytes = 4u << 20, .lun_bytes = 1u << 30, .ops = &metadata_ops};
	struct lease_ino *li;

	(void)state;
	node_alone();
	vc.mem = n->mem;
	n->now_ns = NS_PER_SEC;
	n->tk->state = TK_SERVE;
	n->vol = vol_create(&vc);
	assert_non_null(n->vol);
	n->peers[0] = (struct peer){.node = 1, .life = 5, .served = true};
	n->peers[1] = (struct peer){.node = GONE, .life = 6, .evicting = true, .evicted_ns = 4 * NS_PER_SEC};
	gone = &n->peers[1];
	n->peers_end = 2;
	li = lease_get(&n->leases, 7);
	li->open_mask = 3;
	lease_hold(li, 1, false);
	memset(&ask, 0, sizeof(ask));
	ask.node = 1;
	ask.id.life = 5;
	ask.vr.rq = (struct fs_request){.op = FS_LAYOUT_GET, .ino = 7, .len = LEN};
	list_add_tail(&ask.link, &n->sreqs);
	list_add_tail(&ask.waiting, &li->waiting);
	return 0;
}

static int down(void **state)
{
	(void)state;
	vol_destroy(n->vol);
	n->vol = NULL;
	return 0;
}

/* Its daemon is started again, and is in the group; it has begun to say what it holds. The first life is still to be fenced. */
static void next_life_is_here(void)
{
	member_victim_add(&n->member, GONE, 0x55, true);
	assert_ptr_equal(node_peer_get(n, GONE, 7), gone);
	assert_true(gone->older);
	n->member.nodes[n->member.node_count++] = (struct member_node){.node = GONE, .member = true, .heard = true, .answered = true,
		.state = {.node = GONE, .life = 7, .incarnation = 0x66, .path = MPATH_OK}};
}

static void first_life_has_locked(uint64_t ino)
{
	struct lock l = {.key = {.ino = ino, .owner = 1, .idx = 1}, .end = 9, .write = true};

	assert_int_equal(lock_get(&n->locks, &l), 0);
}

static bool first_life_has_rights(void)
{
	const struct lease_ino *li = lease_find(&n->leases, 7);

	node_peers_departed(n, &fx);
	assert_true(li && n->peers[1].node == GONE && n->peers[1].life == 7);
	assert_int_equal(!!(li->holder_mask & 2), gone->older);
	assert_int_equal(!!(li->open_mask & 2), gone->older);
	assert_int_equal(n->locks.node_count[1], gone->older);
	return gone->older;
}

static bool goes_on(void)
{
	node_server_pump(n, lease_find(&n->leases, 7), &fx);
	return ask.stage == SREQ_ENGINE;
}

static void until_it_is_fenced_nobody_reads_nor_writes_what_it_may_still_write(void **state)
{
	(void)state;
	for (int write = 0; write < 2; write++) {
		ask.vr.rq.flags = write ? FS_LAYOUT_WRITE : 0;
		assert_false(goes_on());
	}
	gone->evicting = false;
	assert_true(goes_on()); /* its lease still runs: it reads, at most */
}

/* Whose node had a layout before would read there at once. */
static void until_it_is_fenced_nobody_opens_it(void **state)
{
	struct lease_ino *li = lease_find(&n->leases, 7);

	(void)state;
	lease_hold(li, 0, false);
	ask.vr.rq.op = FS_OPEN;
	assert_false(goes_on());
	gone->evicting = false;
	gone->carried = 1;
	assert_false(goes_on());
	gone->carried = 0;
	assert_true(goes_on());
}

static void what_it_had_nothing_of_is_opened(void **state)
{
	(void)state;
	lease_return(&n->leases, lease_find(&n->leases, 7), 1);
	ask.vr.rq.op = FS_OPEN;
	assert_true(goes_on());
}

static void nor_before_what_is_done_for_it_has_ended(void **state)
{
	(void)state;
	gone->evicting = false;
	gone->blocks = 1;
	assert_false(goes_on());
	gone->blocks = 0;
	gone->carried = 1;
	assert_false(goes_on());
	gone->carried = 0;
	assert_true(goes_on());
}

static void who_left_in_order_is_not_waited_for(void **state)
{
	(void)state;
	gone->clean = true;
	assert_true(goes_on());
}

/* The engine looks where the data is, and that takes until the coordinator knows that the other node is gone. */
static struct sreq *looked_at(uint32_t node)
{
	struct lease_ino *li = lease_find(&n->leases, 7);
	struct sreq *s = mem_alloc(n->mem, sizeof(*s));

	gone->evicting = false;
	gone->evicted_ns = 0;
	n->peers[0].reclaimed = n->peers[0].told = true;
	list_del(&ask.link);
	list_del(&ask.waiting);
	*s = ask;
	s->node = node;
	s->id.life = node == 1 ? 5 : 6;
	s->local = node == 1;
	s->vr.owner = s;
	list_init(&s->waiting);
	list_add_tail(&s->link, &n->sreqs);
	list_add_tail(&s->waiting, &li->waiting);
	node_server_pump(n, li, &fx);
	assert_int_equal(s->stage, SREQ_ENGINE);
	assert_int_equal(li->granting, 1);
	list_del(&s->vr.link);
	list_add_tail(&s->vr.link, &n->vol->done);
	member_victim_add(&n->member, GONE, 0x55, true);
	gone->evicting = true;
	gone->evicted_ns = 4 * NS_PER_SEC;
	return s;
}

static void what_was_looked_at_when_it_went_waits_for_its_fence(void **state)
{
	const struct sreq *s = looked_at(1);
	struct lease_ino *li = lease_find(&n->leases, 7);

	(void)state;
	list_add_tail(&ask.waiting, &li->waiting);
	list_add_tail(&ask.link, &n->sreqs);
	node_server_step(n, &fx);
	assert_int_equal(s->stage, SREQ_LEASE);
	assert_false(li->holder_mask & 1);
	assert_false(li->granting);
	assert_ptr_equal(list_first_entry(&li->waiting, struct sreq, waiting), s);
	n->member.victim_count = 0;
	node_server_step(n, &fx);
	assert_int_equal(s->stage, SREQ_ENGINE);
	assert_int_equal(ask.stage, SREQ_LEASE); /* two at once could be given one range */
}

/* Rule 9: it is gone itself. */
static void nor_is_done_later_what_it_had_asked_for(void **state)
{
	struct lease_ino *li;

	(void)state;
	node_alone_session(GONE)->peer_life = 6;
	(void)looked_at(GONE);
	node_server_step(n, &fx);
	li = lease_find(&n->leases, 7);
	assert_true(list_empty(&n->sreqs) && list_empty(&li->waiting));
	assert_false(li->write_mask);
}

/* Its daemon is started again, and says that it holds nothing, before the first life is fenced. */
static void nor_is_it_over_because_its_next_life_is_here(void **state)
{
	(void)state;
	next_life_is_here();
	assert_true(lease_find(&n->leases, 7)->holder_mask & 2);
	assert_false(goes_on());
	n->leases_changed = false;
	node_peers_departed(n, &fx);
	assert_false(n->leases_changed);
	n->member.victim_count = 0;
	node_peers_departed(n, &fx);
	assert_true(n->leases_changed); /* who waits is looked at */
	assert_true(goes_on());
}

/* The next life gives up starting, and leaves in order; the first one is still not fenced. */
static void nor_because_its_next_life_has_left_in_order(void **state)
{
	(void)state;
	member_victim_add(&n->member, GONE, 0x55, true);
	(void)node_peer_get(n, GONE, 7);
	n->member.nodes[n->member.node_count++] = (struct member_node){
		.node = GONE, .state = {.node = GONE, .life = 7, .path = MPATH_NONE, .leaving = LEAVING_DONE}};
	node_peers_departed(n, &fx);
	assert_true(gone->evicting && !gone->clean);
	assert_false(goes_on());
	n->member.victim_count = 0;
}

/* What is asked back is the first life's, and only its fence brings it. */
static void next_life_is_not_fenced_for_what_the_first_one_had(void **state)
{
	struct lease_ino *li = lease_find(&n->leases, 7);

	(void)state;
	n->cfg.recall_ns = 10 * NS_PER_SEC;
	next_life_is_here();
	(void)node_peers_recall(n, li, li->holder_mask);
	n->now_ns += 20 * NS_PER_SEC;
	node_peers_timers(n, &fx);
	assert_false(gone->evicting);
	n->member.victim_count = 0;
	node_peers_departed(n, &fx);
	n->now_ns += 20 * NS_PER_SEC;
	node_peers_timers(n, &fx);
	assert_false(gone->evicting || gone->older);
	/* For what it gets itself it answers, as everybody has to. */
	lease_hold(li, 1, false);
	(void)node_peers_recall(n, li, li->holder_mask);
	n->now_ns += 20 * NS_PER_SEC;
	node_peers_timers(n, &fx);
	assert_true(gone->evicting);
}

/* It hangs, and never says what it holds: nobody would give back, or end, what the first one had. */
static void rights_of_the_first_life_end_though_the_next_one_hangs(void **state)
{
	struct sreq stat = {.node = GONE, .idx = 1, .stage = SREQ_ENGINE, .id.life = 6, .vr.rq = {.op = FS_GETATTR, .ino = 7}};

	(void)state;
	first_life_has_locked(9);
	next_life_is_here();
	assert_true(first_life_has_rights());
	n->member.victim_count = 0;
	/* What others do for it, and what is executed. */
	gone->blocks = 1;
	assert_true(first_life_has_rights());
	gone->blocks = 0;
	gone->carried = 1;
	assert_true(first_life_has_rights());
	gone->carried = 0;
	list_init(&stat.waiting);
	list_add_tail(&stat.link, &n->sreqs);
	assert_true(first_life_has_rights());
	list_del(&stat.link);
	/* Our term does not count yet. */
	n->tk->counted_at = n->tk->list_durable + 1;
	assert_true(first_life_has_rights());
	assert_false(goes_on());
	n->tk->counted_at = n->tk->list_durable;
	n->leases_changed = false;
	assert_false(first_life_has_rights());
	assert_true(n->leases_changed && goes_on());
	assert_false(gone->evicting || gone->evicted_ns);
}

/* Both carried for each other, and both are started again at once. */
static void two_that_carried_for_each_other_do_not_wait_for_each_other(void **state)
{
	(void)state;
	next_life_is_here();
	n->peers[2] = (struct peer){.node = 3, .life = 9, .older = true, .carried = 2};
	n->peers_end = 3;
	gone->carried = 4;
	n->member.victim_count = 0;
	node_peers_departed(n, &fx);
	node_peers_departed(n, &fx);
	assert_false(gone->older || n->peers[2].older);
}

/* The next life is in the middle of saying what it holds, and is entitled to it. */
static void what_the_next_life_has_said_stays(void **state)
{
	struct lease_ino *first = lease_find(&n->leases, 7);
	struct msg_range own = {.len = LEN};
	struct msg_lock lock = {.ino = 9, .lock = {.owner = 4, .end = 9, .type = FS_LK_WRITE}};
	struct msg locks = {.type = MSG_RECLAIM_LOCKS, .reclaim_locks = {.count = 1, .locks = &lock}};
	struct msg file = {.type = MSG_RECLAIM, .reclaim = {.ino = 8, .open = true, .holder = true, .range_count = 1, .ranges = &own}};
	struct session *s = node_alone_session(GONE);
	const struct lease_ino *li;

	(void)state;
	s->peer_life = 7;
	first->reclaim_mask = first->reclaim_held = 2; /* the first one had said that, of this file */
	first_life_has_locked(10);
	next_life_is_here();
	gone->entitled = true; /* as when the volume is opened */
	node_peers_reclaim_locks(n, s, &locks, &fx);
	node_server_reclaim(n, s, &file, &fx);
	n->member.victim_count = 0;
	assert_false(first_life_has_rights());
	li = lease_find(&n->leases, 8);
	assert_true(li && (li->open_mask & 2) && (li->holder_mask & 2) && !list_empty(&li->ranges.all));
	node_server_reclaim_end(n, s, 1, &fx);
	assert_int_equal(n->locks.node_count[1], 1);
	li = lease_find(&n->leases, 8);
	assert_true(li && (li->open_mask & 2) && (li->holder_mask & 2) && !list_empty(&li->ranges.all));
}

/* The next one has said nothing yet, and is known to be entitled: what counts as named is the first one's, and ends with it. */
static void what_the_first_life_had_said_is_not_the_next_ones(void **state)
{
	struct lease_ino *first = lease_find(&n->leases, 7);

	(void)state;
	first->reclaim_mask = first->reclaim_held = 2;
	next_life_is_here();
	n->member.victim_count = 0;
	assert_false(first_life_has_rights());
}

/* The first life's commit is still executed here; the next life has said that it holds nothing, and has gone before that was in force. */
static void what_the_first_life_asked_for_ends_before_its_rights(void **state)
{
	struct sreq commit = {.node = GONE, .idx = 1, .stage = SREQ_ENGINE, .id.life = 6, .vr.rq = {.op = FS_LAYOUT_COMMIT, .ino = 7}};

	(void)state;
	list_init(&commit.waiting);
	list_add_tail(&commit.link, &n->sreqs);
	(void)node_peer_get(n, GONE, 7);
	n->member.nodes[n->member.node_count++] =
		(struct member_node){.node = GONE, .heard = true, .state = {.node = GONE, .life = 7, .path = MPATH_NONE}};
	for (int i = 0; i < 4; i++) {
		node_peers_departed(n, &fx);
		n->tk->list_sent = n->tk->list_durable = n->tk->list_changes; /* the claim that lists it is durable */
		n->now_ns += 5 * NS_PER_SEC;
	}
	assert_non_null(lease_find(&n->leases, 7));
	assert_true(lease_find(&n->leases, 7)->holder_mask & 2);
	list_del(&commit.link);
}

/* The first life did a third node's block I/O; that it is not fenced for long is not the next one's fault. */
static void next_life_is_not_fenced_for_what_the_first_one_carried(void **state)
{
	(void)state;
	n->cfg.recall_ns = 10 * NS_PER_SEC;
	next_life_is_here();
	n->peers[2] = (struct peer){.node = 3, .life = 8, .carried = 2};
	n->peers_end = 3;
	node_carry_step(n, &fx);
	n->now_ns += 20 * NS_PER_SEC;
	node_carry_step(n, &fx);
	assert_false(gone->evicting);
	n->member.victim_count = 0;
}

/* Who had done it is gone with what was told of it: the node is told that nobody else does, or it would go on asking there. */
static void who_loses_its_carrier_is_told_off(void **state)
{
	uint32_t sent = 0;

	(void)state;
	gone->older = gone->evicting = false;
	gone->evicted_ns = 0;
	gone->served = true;
	(void)node_alone_session(GONE);
	n->sessions->s[0].peer_life = gone->life;
	n->member.nodes[n->member.node_count++] = (struct member_node){.node = GONE, .member = true, .heard = true,
		.state = {.node = GONE, .life = gone->life, .path = MPATH_NONE}};
	effects_reset(&fx);
	node_carry_step(n, &fx);
	assert_true(gone->placed && !gone->way);
	for (uint32_t i = 0; i < fx.count; i++)
		sent += fx.fx[i].type == FX_NET_SEND;
	assert_int_equal(sent, 1);
}

static void nor_who_had_nothing_of_that_file(void **state)
{
	(void)state;
	lease_return(&n->leases, lease_find(&n->leases, 7), 1);
	assert_true(goes_on());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(until_it_is_fenced_nobody_reads_nor_writes_what_it_may_still_write, setup, down),
		cmocka_unit_test_setup_teardown(until_it_is_fenced_nobody_opens_it, setup, down),
		cmocka_unit_test_setup_teardown(what_it_had_nothing_of_is_opened, setup, down),
		cmocka_unit_test_setup_teardown(nor_before_what_is_done_for_it_has_ended, setup, down),
		cmocka_unit_test_setup_teardown(who_left_in_order_is_not_waited_for, setup, down),
		cmocka_unit_test_setup_teardown(what_was_looked_at_when_it_went_waits_for_its_fence, setup, down),
		cmocka_unit_test_setup_teardown(nor_is_done_later_what_it_had_asked_for, setup, down),
		cmocka_unit_test_setup_teardown(nor_is_it_over_because_its_next_life_is_here, setup, down),
		cmocka_unit_test_setup_teardown(nor_because_its_next_life_has_left_in_order, setup, down),
		cmocka_unit_test_setup_teardown(next_life_is_not_fenced_for_what_the_first_one_had, setup, down),
		cmocka_unit_test_setup_teardown(what_the_first_life_asked_for_ends_before_its_rights, setup, down),
		cmocka_unit_test_setup_teardown(rights_of_the_first_life_end_though_the_next_one_hangs, setup, down),
		cmocka_unit_test_setup_teardown(two_that_carried_for_each_other_do_not_wait_for_each_other, setup, down),
		cmocka_unit_test_setup_teardown(what_the_next_life_has_said_stays, setup, down),
		cmocka_unit_test_setup_teardown(what_the_first_life_had_said_is_not_the_next_ones, setup, down),
		cmocka_unit_test_setup_teardown(next_life_is_not_fenced_for_what_the_first_one_carried, setup, down),
		cmocka_unit_test_setup_teardown(who_loses_its_carrier_is_told_off, setup, down),
		cmocka_unit_test_setup_teardown(nor_who_had_nothing_of_that_file, setup, down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
