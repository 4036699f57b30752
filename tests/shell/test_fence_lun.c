/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fence and takeover on a real target (tgtd): what the models of the unit tests only assume. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>

#include "coordinator/fence.h"
#include "coordinator/takeover.h"
#include "tests/shell/bdev_user.h"
#include "tests/shell/target.h"

#define CMDS 16

static bool have_target;
static const uint8_t uuid[16] = {5};
static const struct trace no_trace = {TRACE_ERROR, NULL, NULL};

/* A node's core session, and who waits for its completions. */
struct runner {
	struct user u;
	struct fence fence;
	struct member member;
	struct takeover *tk;
	struct mem mem;
	void *region;
	struct effects fx;
	struct bdev_req req[CMDS];
	bool used[CMDS];
	uint64_t tag[CMDS];
	uint64_t key;
	uint32_t ops[32]; /* how often each command was sent */
};

static void effects_out(struct runner *r)
{
	for (uint32_t i = 0; i < r->fx.count; i++) {
		unsigned k = 0;

		if (r->fx.fx[i].type != FX_LUN)
			continue;
		while (r->used[k])
			k++;
		assert_true(k < CMDS);
		r->used[k] = true;
		r->tag[k] = r->fx.fx[i].tag;
		memset(&r->req[k], 0, sizeof(r->req[k]));
		r->req[k].cmd = r->fx.fx[i].lun;
		r->ops[r->req[k].cmd.op]++;
		user_send(&r->u, &r->req[k]);
	}
	effects_reset(&r->fx);
}

/* The keys of a completion live only in its callback. */
static uint64_t seen_keys[LUN_KEYS_MAX];

static void keep_keys(struct bdev_req *q)
{
	if (q->key_count && q->keys)
		memcpy(seen_keys, q->keys, q->key_count * sizeof(seen_keys[0]));
	q->keys = seen_keys;
	user_done(q);
}

static void turn(struct runner *r)
{
	for (unsigned k = 0; k < CMDS; k++)
		if (r->used[k] && !user_ended(&r->req[k]))
			r->req[k].done = keep_keys;
	user_turn(&r->u, 2);
	for (unsigned k = 0; k < CMDS; k++) {
		struct event ev = {.type = EV_LUN_DONE, .now_ns = bdev_now_ns()};

		if (!r->used[k] || !user_ended(&r->req[k]))
			continue;
		r->used[k] = false;
		ev.tag = r->tag[k];
		ev.lun.status = r->req[k].status;
		ev.lun.keys = r->req[k].keys;
		ev.lun.key_count = r->req[k].key_count;
		if (r->tk)
			takeover_lun_done(r->tk, &ev, &r->fx);
		else
			(void)fence_lun_done(&r->fence, &ev, &r->fx);
	}
	if (r->tk) {
		struct event ev = {.type = EV_TIMER, .now_ns = bdev_now_ns()};

		member_event(&r->member, &ev);
		takeover_step(r->tk, ev.now_ns, &r->fx);
	} else {
		fence_step(&r->fence, bdev_now_ns(), &r->fx);
	}
	effects_out(r);
}

static void runner_open(struct runner *r, uint32_t node)
{
	memset(r, 0, sizeof(*r));
	r->fx.arena = malloc(EFFECTS_ARENA);
	assert_true(user_open(&r->u, TARGET_URL, node, BDEV_SESSION_CORE));
	r->key = FENCE_KEY(node, 0x100 + node);
	assert_int_equal(
		user_do(&r->u, (struct lun_cmd){.op = LUN_PR_REGISTER, .key = r->key}), LUN_OK);
	fence_init(&r->fence, NULL, 1);
}

static void runner_close(struct runner *r)
{
	bdev_close(r->u.b);
	if (r->tk)
		takeover_destroy(r->tk);
	free(r->region);
	free(r->fx.arena);
}

static void fence_one(struct runner *r, uint64_t key)
{
	struct member_victim v = {.node = FENCE_KEY_NODE(key),
		.incarnation = FENCE_KEY_INCARNATION(key),
		.dirty = true};
	struct fence_order o = {.key = r->key, .victims = &v, .victim_count = 1};

	fence_start(&r->fence, &o, bdev_now_ns(), &r->fx);
	effects_out(r);
}

static void clear(void)
{
	struct user u;

	assert_true(user_open(&u, TARGET_URL, 9, BDEV_SESSION_CORE));
	(void)user_do(&u, (struct lun_cmd){.op = LUN_PR_REGISTER, .key = 99});
	(void)user_do(&u, (struct lun_cmd){.op = LUN_PR_CLEAR, .key = 99});
	bdev_close(u.b);
}

static uint8_t block[2][4096] __attribute__((aligned(4096)));

static void a_write_held_in_the_target_lands_before_the_fence_is_done(void **state)
{
	struct runner a, b;
	struct bdev_req held;
	uint64_t end;

	if (!have_target)
		skip();
	clear();
	runner_open(&a, 1);
	runner_open(&b, 2);
	assert_int_equal(
		user_do(&a.u, (struct lun_cmd){.op = LUN_PR_RESERVE, .key = a.key}), LUN_OK);
	memset(block[0], 'a', 4096);
	memset(block[1], 'b', 4096);
	held = (struct bdev_req){
		.cmd = {.op = LUN_WRITE, .off = 65536, .len = 4096, .buf = block[0]}};
	target_hold(true);
	user_send(&a.u, &held);
	usleep(100000);
	fence_one(&b, a.key);
	for (end = bdev_now_ns() + 700 * NS_PER_MS; bdev_now_ns() < end;)
		turn(&b);
	assert_true(fence_running(&b.fence)); /* the barrier waits */
	target_hold(false);
	for (end = bdev_now_ns() + 5 * NS_PER_SEC; fence_running(&b.fence) && bdev_now_ns() < end;)
		turn(&b);
	assert_int_equal(fence_result(&b.fence), FENCE_DONE);
	assert_int_equal(b.ops[LUN_RESET], 1);
	assert_int_equal(
		user_do(&b.u,
			(struct lun_cmd){
				.op = LUN_WRITE, .off = 65536, .len = 4096, .buf = block[1]}),
		LUN_OK);
	assert_true(user_wait(&a.u, &held, 3000));
	assert_int_equal(
		user_do(&a.u,
			(struct lun_cmd){
				.op = LUN_WRITE, .off = 65536, .len = 4096, .buf = block[0]}),
		LUN_CONFLICT);
	memset(block[0], 0, 4096);
	assert_int_equal(
		user_do(&b.u,
			(struct lun_cmd){
				.op = LUN_READ, .off = 65536, .len = 4096, .buf = block[0]}),
		LUN_OK);
	assert_memory_equal(block[0], block[1], 4096);
	/* Again: it is done already, and drained again, since nobody can know. */
	fence_forget(&b.fence);
	fence_one(&b, a.key);
	for (end = bdev_now_ns() + 5 * NS_PER_SEC; fence_running(&b.fence) && bdev_now_ns() < end;)
		turn(&b);
	assert_int_equal(fence_result(&b.fence), FENCE_DONE);
	runner_close(&a);
	runner_close(&b);
}

static void of_two_that_fence_each_other_exactly_one_wins(void **state)
{
	if (!have_target)
		skip();
	for (int i = 0; i < 10; i++) {
		struct runner a, b;
		uint64_t end = bdev_now_ns() + 5 * NS_PER_SEC;
		int done, fenced;

		clear();
		runner_open(&a, 1);
		runner_open(&b, 2);
		fence_one(&a, b.key);
		fence_one(&b, a.key);
		while ((fence_running(&a.fence) || fence_running(&b.fence)) &&
			bdev_now_ns() < end) {
			turn(i & 1 ? &a : &b);
			turn(i & 1 ? &b : &a);
		}
		done = (fence_result(&a.fence) == FENCE_DONE) +
		       (fence_result(&b.fence) == FENCE_DONE);
		fenced = (fence_result(&a.fence) == FENCE_FENCED) +
			 (fence_result(&b.fence) == FENCE_FENCED);
		assert_int_equal(done, 1);
		assert_int_equal(fenced, 1);
		runner_close(&a);
		runner_close(&b);
	}
}

static void runner_takeover(struct runner *r, uint32_t node)
{
	struct member_config mc = {.trace = &no_trace, .standalone = true};
	struct takeover_config tc = {
		.trace = &no_trace, .standalone = true, .tag_seed = node << 20};
	struct event ev = {.type = EV_START, .now_ns = bdev_now_ns()};

	runner_open(r, node);
	memcpy(mc.uuid, uuid, 16);
	memcpy(tc.uuid, uuid, 16);
	mc.self = (struct member_state){.node = node, .life = bdev_now_ns()};
	snprintf(mc.self.name, sizeof(mc.self.name), "host%u", node);
	member_init(&r->member, &mc);
	r->region = aligned_alloc(4096, 1 << 17);
	mem_init(&r->mem, r->region, 1 << 17);
	tc.member = &r->member;
	tc.mem = &r->mem;
	r->tk = takeover_create(&tc);
	assert_non_null(r->tk);
	member_event(&r->member, &ev);
	member_set_path(&r->member, MPATH_OK, FENCE_KEY_INCARNATION(r->key));
}

static bool run_to(struct runner *r, enum takeover_state s, struct runner *other)
{
	uint64_t end = bdev_now_ns() + 20 * NS_PER_SEC;

	while (takeover_state(r->tk) != s && bdev_now_ns() < end) {
		turn(r);
		if (takeover_state(r->tk) == TK_OPEN)
			takeover_volume_ready(r->tk);
		if (takeover_state(r->tk) == TK_RECLAIM)
			takeover_reclaimed(r->tk, member_own(&r->member)->node);
		if (takeover_state(r->tk) == TK_DRAIN)
			takeover_volume_closed(r->tk);
		if (other)
			turn(other);
	}
	return takeover_state(r->tk) == s;
}

static void standalone_mounts_respect_a_living_claim_on_the_lun(void **state)
{
	struct claim c = {.state = CLAIM_CLEAN};
	struct runner a, b;

	if (!have_target)
		skip();
	clear();
	runner_open(&a, 3);
	memcpy(c.uuid, uuid, 16);
	claim_encode(&c, block[0]);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(user_do(&a.u, (struct lun_cmd){.op = LUN_WRITE,
						       .fua = true,
						       .off = (CLAIM_BLOCK + i) * BLOCK_SIZE,
						       .len = BLOCK_SIZE,
						       .buf = block[0]}),
			LUN_OK);
	runner_close(&a);
	clear();

	runner_takeover(&a, 1);
	assert_true(run_to(&a, TK_SERVE, NULL));
	assert_int_equal(takeover_epoch(a.tk), 1);
	runner_takeover(&b, 2);
	assert_true(run_to(&b, TK_REFUSED, &a));
	assert_string_equal(takeover_reason(b.tk), "in use by host1 (node 1)");
	assert_int_equal(takeover_state(a.tk), TK_SERVE);
	runner_close(&b);
	/* It dies; its registration stays in the target. */
	runner_close(&a);
	runner_takeover(&b, 2);
	assert_true(run_to(&b, TK_SERVE, NULL));
	assert_int_equal(takeover_epoch(b.tk), 2);
	takeover_stop(b.tk);
	assert_true(run_to(&b, TK_STOPPED, NULL));
	runner_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_write_held_in_the_target_lands_before_the_fence_is_done),
		cmocka_unit_test(of_two_that_fence_each_other_exactly_one_wins),
		cmocka_unit_test(standalone_mounts_respect_a_living_claim_on_the_lun),
	};
	int failed;

	have_target = target_up();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	if (have_target)
		target_down();
	return failed;
}
