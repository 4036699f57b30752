/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When cpg.c leaves the group of a corosync that lives, but does not answer as it should. Its calls are answered here. */
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

cs_error_t cpg_model_initialize(cpg_handle_t *h, cpg_model_t model, cpg_model_data_t *data, void *ctx)
{
	*h = 1;
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_group_is_left_when_the_core_knows_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
