/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When may the office be given up in order? When all who have reclaimed have heard that they are served (rule 8 of takeover_given.c). */
#include "coordinator/takeover_priv.h"
#include "tests/unit/node_alone.h"

#define ELSEWHERE 2

static struct session *session;
static struct peer *peer;
static struct member_node *member;

static int setup(void **state)
{
	(void)state;
	node_alone();
	n->now_ns = NS_PER_SEC;
	n->tk->state = TK_SERVE; /* and its term counts */
	n->tk->epoch = 7;
	n->peers[0] = (struct peer){.node = 1, .life = 5, .served = true, .reclaimed = true, .told = true};
	peer = &n->peers[1];
	*peer = (struct peer){.node = ELSEWHERE, .life = 5, .reclaimed = true, .told = true};
	n->peers_end = 2;
	member = &n->member.nodes[n->member.node_count++];
	member->node = ELSEWHERE;
	member->member = member->heard = true;
	session = node_alone_session(ELSEWHERE);
	return 0;
}

static bool may_go(void)
{
	node_peers_all_served(n);
	return n->tk->all_served;
}

static void serve_is_sent(void)
{
	peer->served = true;
	peer->serve_ping = session_ping(session, &fx);
}

static void who_was_sent_serve_has_not_heard_it_before_it_has_answered(void **state)
{
	(void)state;
	assert_false(may_go());
	serve_is_sent();
	assert_false(may_go());
	session->pong_seq = peer->serve_ping;
	assert_true(may_go());
	/* Its session breaks: what it has heard it has heard, in this term. */
	peer->served = peer->reclaimed = false;
	session->state = SESSION_CLOSED;
	assert_true(may_go());
	n->tk->epoch++;
	assert_false(may_go());
}

static void a_session_that_breaks_before_the_answer_says_nothing(void **state)
{
	(void)state;
	serve_is_sent();
	peer->served = peer->reclaimed = false;
	session->ping_seq = session->pong_seq = 0;
	assert_false(may_go());
	serve_is_sent();
	session->pong_seq = peer->serve_ping;
	assert_true(may_go());
}

static void who_is_done_or_gone_is_not_waited_for(void **state)
{
	(void)state;
	assert_false(may_go());
	member->state.leaving = LEAVING_DONE;
	assert_true(may_go());
	member->state.leaving = LEAVING_NO;
	assert_false(may_go());
	member->member = false;
	assert_true(may_go());
}

/* The PING before was answered by one that had no lease to give yet, and the next one would be due in a second. */
static void who_is_served_asks_for_its_lease_at_once(void **state)
{
	struct msg m = {.type = MSG_SERVE};
	uint8_t frame[256];
	struct event ev = {.type = EV_NET_MSG, .now_ns = 2 * NS_PER_SEC, .net = {.conn = 9, .bytes = frame}};
	static struct wire_room room;
	uint32_t pings = 0;

	(void)state;
	member->state.node = ELSEWHERE;
	session->outgoing = true;
	n->coord = session;
	n->reclaim = RECLAIM_SENT;
	ev.net.len = wire_encode(&m, frame, sizeof(frame));
	effects_reset(&fx);
	node_step(n, &ev, &fx);
	for (uint32_t i = 0; i < fx.count; i++) {
		if (fx.fx[i].type != FX_NET_SEND)
			continue;
		assert_int_equal(wire_decode(&m, fx.fx[i].net.bytes, fx.fx[i].net.len, &room), 0);
		pings += m.type == MSG_PING;
	}
	assert_int_equal(pings, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(who_was_sent_serve_has_not_heard_it_before_it_has_answered, setup),
		cmocka_unit_test_setup(a_session_that_breaks_before_the_answer_says_nothing, setup),
		cmocka_unit_test_setup(who_is_done_or_gone_is_not_waited_for, setup),
		cmocka_unit_test_setup(who_is_served_asks_for_its_lease_at_once, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
