/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes that own many pieces of a file tell a coordinator that takes over (node_reclaim.c): all of them, and it
 * does not look through those that it knows for each.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "coordinator/takeover_priv.h"
#include "csvfs/node_int.h"

#define INO 7u
#define REGION (128u << 20)
#define UNIT 65536u
#define MANY 70000u

struct held {
	struct mem mem;
	struct node *n;
	struct file *f;
};

static struct held coordinator, holder[2];
static struct effects fx, coordinator_fx;
static uint32_t messages, said;

static void make(struct held *h, uint32_t id)
{
	struct node_config cfg = {.node = id, .name = "n", .life = id, .standalone = true, .root_ino = 1};

	if (!h->mem.base)
		h->mem.base = aligned_alloc(4096, REGION);
	mem_init(&h->mem, h->mem.base, REGION);
	h->n = node_create(&cfg, &h->mem, NULL);
	assert_non_null(h->n);
}

/* Every `step`th unit from `first` on. */
static void owns(struct held *h, uint32_t first, uint32_t step, uint32_t count)
{
	h->f = node_file_new(h->n, INO);
	assert_non_null(h->f);
	h->f->st = FILE_OPEN;
	h->f->layout = LAYOUT_KEPT;
	for (uint32_t i = 0; i < count; i++) {
		struct frange *r = mem_alloc(&h->mem, sizeof(*r));

		assert_non_null(r);
		r->off = (uint64_t)(first + i * step) * UNIT;
		r->len = UNIT;
		list_add_tail(&r->link, &h->f->owned);
	}
}

static void follows(struct held *h)
{
	struct session *s = &h->n->sessions->s[0], *c = &coordinator.n->sessions->s[h->n->cfg.node];

	*s = (struct session){.state = SESSION_UP, .conn = 1, .peer = coordinator.n->cfg.node, .outgoing = true, .all = h->n->sessions};
	*c = (struct session){.state = SESSION_UP, .conn = h->n->cfg.node, .peer = h->n->cfg.node, .peer_life = h->n->cfg.life,
		.all = coordinator.n->sessions};
	h->n->coord = s;
	node_peer_get(coordinator.n, h->n->cfg.node, h->n->cfg.life)->entitled = true;
	node_reclaim_begin(h->n, RECLAIM_SENDING);
}

static int setup(void **state)
{
	(void)state;
	if (!fx.arena) {
		fx.arena = malloc(EFFECTS_ARENA);
		coordinator_fx.arena = malloc(EFFECTS_ARENA);
	}
	make(&coordinator, 1);
	make(&holder[0], 2);
	make(&holder[1], 3);
	coordinator.n->tk->state = TK_RECLAIM;
	return 0;
}

/* In so much of the room that a step has, and the coordinator hears it. */
static void says_a_part(struct held *h, uint32_t room_bytes)
{
	static struct wire_room room;
	struct session *s = &coordinator.n->sessions->s[h->n->cfg.node];

	effects_reset(&fx);
	effects_reset(&coordinator_fx);
	fx.arena_used = EFFECTS_ARENA - room_bytes;
	node_reclaim_send(h->n, &fx);
	for (uint32_t i = 0; i < fx.count; i++) {
		struct msg m;

		assert_int_equal(fx.fx[i].type, FX_NET_SEND);
		assert_int_equal(wire_decode(&m, fx.fx[i].net.bytes, fx.fx[i].net.len, &room), 0);
		if (m.type == MSG_RECLAIM_END) {
			said = m.reclaim_end.count;
			continue;
		}
		assert_int_equal(m.type, MSG_RECLAIM);
		messages++;
		node_server_reclaim(coordinator.n, s, &m, &coordinator_fx);
	}
}

static uint32_t says_all(struct held *h, uint32_t room_bytes)
{
	uint32_t steps = 0;

	for (messages = said = 0; h->n->reclaim == RECLAIM_SENDING; steps++)
		says_a_part(h, room_bytes);
	assert_int_equal(h->n->reclaim, RECLAIM_SENT);
	assert_int_equal(said, messages);
	return steps;
}

/* What `h` owns is `idx`'s, and nothing else is. */
static void knows_all_of(const struct held *h, uint32_t idx)
{
	const struct lease_ino *li = lease_find(&coordinator.n->leases, INO);
	struct list *at = h->f->owned.next;

	assert_non_null(li);
	list_for_each_entry (r, &li->ranges.all, struct lease_range, link) {
		const struct frange *own = list_entry(at, struct frange, link);

		if (r->idx != idx)
			continue;
		assert_true(at != &h->f->owned);
		assert_true(r->off == own->off && r->len == own->len);
		at = at->next;
	}
	assert_true(at == &h->f->owned);
	lease_check(&coordinator.n->leases);
}

static uint64_t looked_at(void)
{
	return lease_find(&coordinator.n->leases, INO)->ranges.looked_at;
}

static uint32_t idx_of(const struct held *h)
{
	return (uint32_t)(node_peer(coordinator.n, h->n->cfg.node) - coordinator.n->peers);
}

static void two_nodes_say_all_their_pieces_and_none_is_looked_for_among_all_others(void **state)
{
	(void)state;
	owns(&holder[0], 0, 3, MANY);
	owns(&holder[1], 1, 3, MANY);
	for (uint32_t i = 0; i < 2; i++) {
		follows(&holder[i]);
		(void)says_all(&holder[i], EFFECTS_ARENA);
		assert_int_equal(node_peer(coordinator.n, 2 + i)->reclaims, said);
	}
	for (uint32_t i = 0; i < 2; i++)
		knows_all_of(&holder[i], idx_of(&holder[i]));
	assert_true(looked_at() <= 2 * 4 * MANY);
}

static void what_a_step_has_no_room_for_is_said_in_the_next(void **state)
{
	(void)state;
	owns(&holder[0], 5, 2, MANY);
	follows(&holder[0]);
	assert_true(says_all(&holder[0], 2u << 20) > 1);
	assert_int_equal(messages, (MANY + WIRE_RANGES_MAX - 1) / WIRE_RANGES_MAX);
	knows_all_of(&holder[0], idx_of(&holder[0]));
}

/* Its session breaks in the middle: the coordinator that it speaks to then may be another one. */
static void who_begins_anew_says_all_of_it(void **state)
{
	(void)state;
	owns(&holder[0], 0, 2, MANY);
	follows(&holder[0]);
	says_a_part(&holder[0], 2u << 20);
	assert_int_equal(holder[0].n->reclaim, RECLAIM_SENDING);
	make(&coordinator, 1);
	coordinator.n->tk->state = TK_RECLAIM;
	follows(&holder[0]);
	(void)says_all(&holder[0], EFFECTS_ARENA);
	knows_all_of(&holder[0], idx_of(&holder[0]));
}

/* Nothing is done under it any more: the rest of it need not be known. The file is open still. */
static void what_is_no_layout_is_said_once(void **state)
{
	(void)state;
	owns(&holder[0], 0, 2, MANY);
	holder[0].f->layout = LAYOUT_RETURNING;
	follows(&holder[0]);
	(void)says_all(&holder[0], EFFECTS_ARENA);
	assert_int_equal(messages, 1);
	assert_true(list_empty(&lease_find(&coordinator.n->leases, INO)->ranges.all));
}

static void who_takes_over_itself_tells_itself_all_in_one_walk(void **state)
{
	(void)state;
	/* Others have told theirs before. */
	owns(&holder[0], 1, 3, MANY);
	follows(&holder[0]);
	(void)says_all(&holder[0], EFFECTS_ARENA);
	owns(&coordinator, 0, 3, MANY);
	effects_reset(&coordinator_fx);
	node_peers_reclaim_self(coordinator.n, &coordinator_fx);
	assert_int_equal(takeover_state(coordinator.n->tk), TK_RECLAIM);
	knows_all_of(&coordinator, idx_of(&coordinator));
	assert_true(looked_at() <= 2 * 4 * MANY);
}

/* After it has taken over, what was first-written meanwhile is committed, one piece of each. */
static void commits_in_order_look_at_each_piece_once(void **state)
{
	struct lease_ino *li;
	uint64_t before;

	(void)state;
	owns(&holder[0], 0, 2, MANY);
	follows(&holder[0]);
	(void)says_all(&holder[0], EFFECTS_ARENA);
	li = lease_find(&coordinator.n->leases, INO);
	before = li->ranges.looked_at;
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(lease_commit(&coordinator.n->leases, li, idx_of(&holder[0]), 2ull * i * UNIT, UNIT / 2), 0);
	assert_true(li->ranges.looked_at - before <= 4 * MANY);
	lease_check(&coordinator.n->leases);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(two_nodes_say_all_their_pieces_and_none_is_looked_for_among_all_others, setup),
		cmocka_unit_test_setup(what_a_step_has_no_room_for_is_said_in_the_next, setup),
		cmocka_unit_test_setup(who_begins_anew_says_all_of_it, setup),
		cmocka_unit_test_setup(what_is_no_layout_is_said_once, setup),
		cmocka_unit_test_setup(who_takes_over_itself_tells_itself_all_in_one_walk, setup),
		cmocka_unit_test_setup(commits_in_order_look_at_each_piece_once, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
