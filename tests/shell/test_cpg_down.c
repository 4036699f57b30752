/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cpg.c on a corosync whose calls are answered here: when its group is left, and which configuration is told of two that come together. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>

#include <corosync/cpg.h>
#include <corosync/quorum.h>

#include "coordinator/cpg.h"

static int readable;
static atomic_bool fails;
static atomic_int joined, left, down, left_when_told;
static cpg_model_v1_data_t calls;
static void *context;
static void (*_Atomic script)(void);
static struct cpg_conf told;
static atomic_int confs, scripts;

cs_error_t cpg_model_initialize(cpg_handle_t *h, cpg_model_t model, cpg_model_data_t *data, void *ctx)
{
	*h = 1;
	calls = *(cpg_model_v1_data_t *)data;
	context = ctx;
	return CS_OK;
}

cs_error_t cpg_context_get(cpg_handle_t h, void **ctx)
{
	*ctx = context;
	return CS_OK;
}

cs_error_t cpg_finalize(cpg_handle_t h)
{
	left++;
	return CS_OK;
}

cs_error_t cpg_local_get(cpg_handle_t h, unsigned int *node)
{
	*node = 1;
	return CS_OK;
}

cs_error_t cpg_membership_get(cpg_handle_t h, struct cpg_name *group, struct cpg_address *list, int *count)
{
	*count = 0;
	return CS_OK;
}

cs_error_t cpg_join(cpg_handle_t h, const struct cpg_name *group)
{
	joined++;
	return CS_OK;
}

cs_error_t cpg_leave(cpg_handle_t h, const struct cpg_name *group)
{
	return CS_OK;
}

cs_error_t cpg_fd_get(cpg_handle_t h, int *fd)
{
	*fd = readable;
	return CS_OK;
}

cs_error_t cpg_dispatch(cpg_handle_t h, cs_dispatch_flags_t types)
{
	uint64_t count;

	if (read(readable, &count, sizeof(count)) < 0)
		return CS_OK;
	if (script) {
		script();
		scripts++;
	}
	return fails ? CS_ERR_LIBRARY : CS_OK;
}

cs_error_t quorum_model_initialize(
	quorum_handle_t *h, quorum_model_t model, quorum_model_data_t *data, uint32_t *type, void *ctx)
{
	*h = 1;
	*type = QUORUM_SET;
	return CS_OK;
}

cs_error_t quorum_finalize(quorum_handle_t h)
{
	return CS_OK;
}

cs_error_t quorum_trackstart(quorum_handle_t h, unsigned int flags)
{
	return CS_OK;
}

cs_error_t quorum_fd_get(quorum_handle_t h, int *fd)
{
	*fd = -1;
	return CS_OK;
}

static void on_event(void *ctx, const struct event *ev)
{
	if (ev->type == EV_CPG_CONF) {
		told = ev->conf;
		confs++;
	}
	if (ev->type != EV_CPG_DOWN)
		return;
	left_when_told = left;
	down++;
}

static void wait_for(const atomic_int *what, int value)
{
	for (uint32_t i = 0; i < 1000 && *what < value; i++)
		(void)poll(NULL, 0, 5);
	assert_int_equal(*what, value);
}

/* To the others who leaves a group whose ring stays is a daemon that has ended, and its core may not know yet. */
static void the_group_is_left_when_the_core_knows_it(void **state)
{
	static const uint8_t uuid[16] = {1};
	const uint64_t one = 1;
	struct cpg *cpg;
	char err[160];

	readable = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(readable >= 0);
	assert_int_equal(cpg_open(&cpg, uuid, on_event, NULL, err, sizeof(err)), 0);
	assert_int_equal(joined, 1);
	fails = true;
	assert_int_equal(write(readable, &one, sizeof(one)), sizeof(one));
	wait_for(&down, 1);
	(void)poll(NULL, 0, 50);
	assert_int_equal(left_when_told, 0);
	assert_int_equal(left, 0);
	assert_int_equal(cpg_send(cpg, "x", 1), -ENOTCONN);
	/* It has handled that, and asks. */
	fails = false;
	cpg_rejoin(cpg);
	wait_for(&joined, 2);
	assert_int_equal(left, 1);
	cpg_close(cpg);
	assert_int_equal(left, 2);
	close(readable);
}

static struct cpg_address group[] = {{1, 11, 0}, {2, 22, CPG_REASON_NODEDOWN}, {3, 33, CPG_REASON_NODEDOWN}};
static const struct cpg_address back[] = {{2, 22, CPG_REASON_NODEUP}};
static const uint32_t ring_of_all[] = {1, 2, 3};

static void all_are_there(void)
{
	calls.cpg_confchg_fn(1, NULL, group, 3, NULL, 0, group, 3);
	calls.cpg_totem_confchg_fn(1, (struct cpg_ring_id){.nodeid = 1, .seq = 8}, 3, ring_of_all);
}

/* Corosync was stopped for a while, and finds one of the two again: it says first who has gone. */
static void one_is_back(void)
{
	calls.cpg_confchg_fn(1, NULL, group, 1, group + 1, 2, NULL, 0);
	calls.cpg_confchg_fn(1, NULL, group, 2, NULL, 0, back, 1);
}

static void the_ring_is_told(void)
{
	calls.cpg_totem_confchg_fn(1, (struct cpg_ring_id){.nodeid = 1, .seq = 12}, 2, ring_of_all);
}

static void says(void (*what)(void))
{
	const uint64_t one = 1;

	scripts = 0;
	script = what;
	assert_int_equal(write(readable, &one, sizeof(one)), sizeof(one));
	wait_for(&scripts, 1);
	script = NULL;
}

/* What a new ring's group looks like is not told under the name of the old one, of which a part may be quorate. */
static void of_a_change_of_the_ring_nothing_is_told_before_the_ring(void **state)
{
	static const uint8_t uuid[16] = {1};
	struct cpg *cpg;
	char err[160];

	readable = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(readable >= 0);
	fails = false;
	group[0].pid = (uint32_t)getpid();
	assert_int_equal(cpg_open(&cpg, uuid, on_event, NULL, err, sizeof(err)), 0);
	confs = 0;
	says(all_are_there);
	assert_true(told.ring_seq == 8 && told.member_count == 3);
	confs = 0;
	says(one_is_back);
	assert_int_equal(confs, 0);
	says(the_ring_is_told);
	assert_int_equal(confs, 1);
	assert_true(told.ring_seq == 12 && told.member_count == 2);
	cpg_close(cpg);
	close(readable);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_group_is_left_when_the_core_knows_it),
		cmocka_unit_test(of_a_change_of_the_ring_nothing_is_told_before_the_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
