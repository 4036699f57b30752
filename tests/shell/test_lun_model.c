/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is the simulator's LUN (tests/sim/lun.c) like a real one? The same short scripts, step by step, on the model and
 * on a tgtd. Where targets differ it is a characteristic of the model (struct sim_plan); where the model is not as
 * tgtd is with tgtd's characteristics, the step says both.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/shell/bdev_user.h"
#include "tests/shell/target.h"
#include "tests/sim/sim.h"

#define NODES 3
#define K(node, n) ((uint64_t)(node) << 32 | (n))

enum what { CMD, LEAVE, COME, RESTART };

/* What is answered: a status, and how many keys a READ KEYS or READ RESERVATION has shown. */
struct answer {
	int status;
	int keys; /* -1: whatever */
};
#define SAME \
	{    \
		-1, -1 \
	}

struct step {
	const char *says;
	uint32_t node;
	enum what what;
	struct lun_cmd cmd;
	struct answer sim, real; /* real SAME: as sim */
};

static bool have_target;

/* ------------------------------------------------------------------ the model, with nobody around it */

static struct sim S;
static struct answer got;
static bool answered;

void sim_log(struct sim *s, const char *fmt, ...)
{
	(void)s;
	(void)fmt;
}

void sim_fail(struct sim *s, const char *fmt, ...)
{
	(void)s;
	fail_msg("%s", fmt);
}

void node_feed(struct sim *s, struct snode *n, struct event *ev)
{
	(void)s;
	(void)n;
	if (ev->type != EV_LUN_DONE)
		return;
	answered = true;
	got = (struct answer){(int)ev->lun.status, (int)ev->lun.key_count};
}

void load_node_evicted(struct sim *s, struct snode *n)
{
	(void)s;
	(void)n;
}

void load_node_drained(struct sim *s, uint32_t node)
{
	(void)s;
	(void)node;
}

void load_node_fenced(struct sim *s, struct snode *n)
{
	(void)s;
	(void)n;
}

bool weather_busy(struct sim *s, uint32_t node)
{
	(void)s;
	(void)node;
	return false;
}

uint64_t weather_holds(struct sim *s, enum lun_op op)
{
	(void)s;
	(void)op;
	return 0;
}

void leave_reset_refused(struct sim *s, const struct snode *n)
{
	(void)s;
	(void)n;
}

void load_san_loss(struct sim *s)
{
	(void)s;
}

uint64_t aimed_holds(struct sim *s, uint32_t node, uint64_t off, bool carried)
{
	(void)s;
	(void)node;
	return 0;
}

uint64_t sim_data_new(const void *bytes, uint32_t len)
{
	(void)bytes;
	(void)len;
	return 0;
}

void sim_data_ref(uint64_t h)
{
	(void)h;
}

void sim_data_put(uint64_t h)
{
	(void)h;
}

uint8_t *sim_data_bytes(uint64_t h)
{
	(void)h;
	return NULL;
}

static void sim_settle(void)
{
	while (S.heap_count)
		(void)sim_run_one(&S);
}

static void sim_come(uint32_t node)
{
	S.n[node].up = true;
	lun_path_open(&S, &S.n[node]);
	sim_settle();
}

static void sim_begin(void)
{
	memset(&S, 0, sizeof(S));
	S.rng.s = 1;
	S.plan.nodes = NODES;
	S.plan.write_cache = true;
	/* What of the characteristics is tgt's. */
	S.plan.abort_supported = false;
	S.plan.forgets = true;
	S.plan.reset_tells_all = true;
	for (uint32_t i = 1; i <= NODES; i++) {
		S.n[i].id = i;
		S.n[i].s = &S;
		S.n[i].life_nr = 1;
	}
	lun_create(&S);
	for (uint32_t i = 1; i <= NODES; i++)
		sim_come(i);
}

static struct answer sim_step(const struct step *t)
{
	struct effect e = {.type = FX_LUN, .lun = t->cmd};
	struct snode *n = &S.n[t->node];

	answered = false;
	got = (struct answer){LUN_OK, 0};
	switch (t->what) {
	case CMD:
		lun_submit(&S, n, &e);
		break;
	case LEAVE:
		lun_path_close(&S, n);
		break;
	case COME:
		sim_come(t->node);
		break;
	case RESTART:
		lun_power_loss(&S);
		sim_settle();
		for (uint32_t i = 1; i <= NODES; i++)
			sim_come(i);
		break;
	}
	sim_settle();
	assert_true(t->what != CMD || answered);
	return got;
}

/* ------------------------------------------------------------------ the real one */

static struct user U[NODES + 1];

static void keep_count(struct bdev_req *q)
{
	got.keys = (int)q->key_count;
	user_done(q);
}

static struct answer real_cmd(struct user *u, struct lun_cmd cmd)
{
	struct bdev_req r = {.cmd = cmd, .done = keep_count};
	uint64_t end = bdev_now_ns() + 5 * NS_PER_SEC;

	got = (struct answer){LUN_OK, 0};
	bdev_submit(u->b, &r);
	(void)bdev_service(u->b, POLLOUT);
	while (!user_ended(&r) && bdev_now_ns() < end)
		user_turn(u, 5);
	if (!user_ended(&r))
		abort(); /* r is on the stack */
	got.status = (int)r.status;
	return got;
}

static struct answer real_step(const struct step *t)
{
	struct user *u = &U[t->node];

	switch (t->what) {
	case CMD:
		return real_cmd(u, t->cmd);
	case LEAVE:
		bdev_close(u->b);
		break;
	case COME:
		assert_true(user_open(u, TARGET_URL, t->node, BDEV_SESSION_CORE));
		break;
	case RESTART:
		for (uint32_t i = 1; i <= NODES; i++)
			bdev_close(U[i].b);
		target_kill();
		target_start();
		for (uint32_t i = 1; i <= NODES; i++)
			assert_true(user_open(&U[i], TARGET_URL, i, BDEV_SESSION_CORE));
		break;
	}
	return (struct answer){LUN_OK, 0};
}

/* ------------------------------------------------------------------ scripts */

static uint8_t buf[4096] __attribute__((aligned(4096)));

#define REG(node, key_) node, CMD, {.op = LUN_PR_REGISTER, .key = key_}
#define RESERVE(node, key_) node, CMD, {.op = LUN_PR_RESERVE, .key = key_}
#define PREEMPT(node, key_, v) node, CMD, {.op = LUN_PR_PREEMPT, .key = key_, .victim = v}
#define PREEMPT_ABORT(node, key_, v) node, CMD, {.op = LUN_PR_PREEMPT_ABORT, .key = key_, .victim = v}
#define KEYS(node) node, CMD, {.op = LUN_PR_READ_KEYS}
#define HOLDER(node) node, CMD, {.op = LUN_PR_READ_RESERVATION}
#define WRITE(node) node, CMD, {.op = LUN_WRITE, .off = 8192, .len = 4096, .buf = buf}
#define READ(node) node, CMD, {.op = LUN_READ, .off = 8192, .len = 4096, .buf = buf}
#define RESET(node) node, CMD, {.op = LUN_RESET}
#define TEST(node) node, CMD, {.op = LUN_TEST}
#define DO(node, w) node, w, {.op = 0}
#define IS(st, n) \
	{         \
		st, n \
	}

static const struct step script[] = {
	{"nobody is registered", KEYS(1), IS(LUN_OK, 0), SAME},
	{"nothing is reserved", HOLDER(1), IS(LUN_OK, 0), SAME},
	{"anybody writes", WRITE(3), IS(LUN_OK, 0), SAME},
	{"1 registers", REG(1, K(1, 10)), IS(LUN_OK, 0), SAME},
	{"2 registers", REG(2, K(2, 20)), IS(LUN_OK, 0), SAME},
	{"two keys", KEYS(3), IS(LUN_OK, 2), SAME},
	{"a reservation needs a registration", RESERVE(3, K(3, 30)), IS(LUN_CONFLICT, 0), SAME},
	{"1 reserves", RESERVE(1, K(1, 10)), IS(LUN_OK, 0), SAME},
	{"and again", RESERVE(1, K(1, 10)), IS(LUN_OK, 0), SAME},
	{"it shows", HOLDER(3), IS(LUN_OK, 1), SAME},
	{"2 cannot reserve", RESERVE(2, K(2, 20)), IS(LUN_CONFLICT, 0), SAME},
	{"a registrant writes", WRITE(2), IS(LUN_OK, 0), SAME},
	{"who is none does not", WRITE(3), IS(LUN_CONFLICT, 0), SAME},
	{"but reads", READ(3), IS(LUN_OK, 0), SAME},
	{"PREEMPT AND ABORT is not known", PREEMPT_ABORT(2, K(2, 20), K(1, 10)),
		IS(LUN_UNSUPPORTED, 0), SAME},
	{"nothing came of it", KEYS(3), IS(LUN_OK, 2), SAME},
	{"a key that nobody has", PREEMPT(2, K(2, 20), K(1, 99)), IS(LUN_CONFLICT, 0), SAME},
	{"who is not registered preempts nobody", PREEMPT(3, K(3, 30), K(1, 10)), IS(LUN_CONFLICT, 0),
		SAME},
	{"2 preempts the holder", PREEMPT(2, K(2, 20), K(1, 10)), IS(LUN_OK, 0), SAME},
	{"one key is left", KEYS(3), IS(LUN_OK, 1), SAME},
	{"the reservation has passed on", HOLDER(3), IS(LUN_OK, 1), SAME},
	{"1 is told of it first", TEST(1), IS(LUN_RETRY, 0), SAME},
	{"then it is no registrant", WRITE(1), IS(LUN_CONFLICT, 0), SAME},
	{"it comes back with another key", REG(1, K(1, 11)), IS(LUN_OK, 0), SAME},
	{"and writes", WRITE(1), IS(LUN_OK, 0), SAME},

	{"2 resets the LUN", RESET(2), IS(LUN_OK, 0), SAME},
	{"1 is told", TEST(1), IS(LUN_RETRY, 0), SAME},
	{"once", TEST(1), IS(LUN_OK, 0), SAME},
	{"2 is told itself", TEST(2), IS(LUN_RETRY, 0), SAME},
	{"a reset takes no registration", KEYS(2), IS(LUN_OK, 2), SAME},
	{"and no reservation", HOLDER(2), IS(LUN_OK, 1), SAME},
	{"3 is told, too", TEST(3), IS(LUN_RETRY, 0), SAME},

	{"the holder's session ends", DO(2, LEAVE), IS(LUN_OK, 0), SAME},
	{"its registration stays", KEYS(1), IS(LUN_OK, 2), SAME},
	{"its reservation, too", HOLDER(1), IS(LUN_OK, 1), SAME},
	{"1 writes", WRITE(1), IS(LUN_OK, 0), SAME},
	{"3 does not", WRITE(3), IS(LUN_CONFLICT, 0), SAME},
	{"who is gone is preempted", PREEMPT(1, K(1, 11), K(2, 20)), IS(LUN_OK, 0), SAME},
	{"one key", KEYS(1), IS(LUN_OK, 1), SAME},
	{"it logs in", DO(2, COME), IS(LUN_OK, 0), SAME},
	{"and registers", REG(2, K(2, 21)), IS(LUN_OK, 0), SAME},
	{"two keys", KEYS(1), IS(LUN_OK, 2), SAME},

	{"the target restarts", DO(1, RESTART), IS(LUN_OK, 0), SAME},
	{"it has forgotten who was registered", KEYS(1), IS(LUN_OK, 0), SAME},
	{"and what was reserved", HOLDER(1), IS(LUN_OK, 0), SAME},
	{"anybody writes", WRITE(3), IS(LUN_OK, 0), SAME},
};
#define STEPS (sizeof(script) / sizeof(script[0]))

static void run_script(struct answer (*step)(const struct step *t), bool real)
{
	uint32_t wrong = 0;

	for (uint32_t i = 0; i < STEPS; i++) {
		const struct step *t = &script[i];
		struct answer want = real && t->real.status >= 0 ? t->real : t->sim;
		struct answer is = step(t);

		if (is.status == want.status &&
			(want.keys < 0 || is.status != LUN_OK || is.keys == want.keys))
			continue;
		fprintf(stderr, "%s, step %u, \"%s\" (node %u): status %d and %d keys, not %d and %d\n",
			real ? "tgtd" : "model", i, t->says, t->node, is.status, is.keys, want.status,
			want.keys);
		wrong++;
	}
	assert_int_equal(wrong, 0);
}

static void the_model_answers_so(void **state)
{
	(void)state;
	sim_begin();
	run_script(sim_step, false);
	lun_destroy(&S);
	free(S.heap);
}

static void a_real_target_answers_so(void **state)
{
	(void)state;
	if (!have_target)
		skip();
	for (uint32_t i = 1; i <= NODES; i++) {
		assert_true(user_open(&U[i], TARGET_URL, i, BDEV_SESSION_CORE));
		while (user_cmd(&U[i], (struct lun_cmd){.op = LUN_TEST}) == LUN_RETRY)
			;
	}
	run_script(real_step, true);
	for (uint32_t i = 1; i <= NODES; i++)
		bdev_close(U[i].b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_model_answers_so),
		cmocka_unit_test(a_real_target_answers_so),
	};
	int failed;

	have_target = target_up();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	if (have_target)
		target_down();
	return failed;
}
