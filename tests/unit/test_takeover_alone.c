/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Takeover by a mount without a cluster: one node that excludes all others. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/coord_lab.h"

static void standalone_mount_refuses_a_living_one_and_fences_a_dead_one(void **state)
{
	uint64_t at;

	lab_init(&L, 2, 5);
	L.standalone = true;
	lab_start(&L, 1);
	CHECK(run_to(1, TK_SERVE));
	lab_start(&L, 2);
	CHECK(run_to(2, TK_REFUSED));
	assert_string_equal(takeover_reason(tk(2)), "in use by n1 (node 1)");
	lab_run(&L, 5 * SEC, NULL);
	CHECK(st(1) == TK_SERVE && L.preempts == 0);
	L.node[2].up = false;
	lab_kill(&L, 1);
	at = L.now_ns;
	lab_start(&L, 2);
	CHECK(run_to(2, TK_SERVE));
	CHECK(L.now_ns - at < TAKEOVER_WATCH_NS + LAB_LEASE_OVER + SEC);
	CHECK(L.reg[1] == 0 && takeover_epoch(tk(2)) == 2);
	takeover_stop(tk(2));
	lab_run(&L, 2 * SEC, NULL);
	at = L.now_ns;
	lab_start(&L, 1);
	CHECK(run_to(1, TK_SERVE));
	CHECK(L.now_ns - at < SEC); /* the claim is clean: nothing to watch */
}

static void of_two_standalone_mounts_at_one_moment_one_is_refused(void **state)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		uint32_t served, other;

		lab_init(&L, 2, seed);
		L.standalone = true;
		lab_start(&L, 1);
		lab_start(&L, 2);
		lab_run(&L, 20 * SEC, NULL);
		served = st(1) == TK_SERVE ? 1 : 2;
		other = 3 - served;
		CHECK(st(served) == TK_SERVE && st(other) == TK_REFUSED);
		CHECK(takeover_epoch(tk(served)) == 1 && L.holder == served);
		CHECK(strstr(takeover_reason(tk(other)), served == 1 ? "in use by n1 " : "in use by n2 "));
	}
}

static void image_behind_a_lock_waits_for_nothing(void **state)
{
	uint64_t at;

	lab_init(&L, 1, 5);
	L.standalone = L.no_reservations = true;
	lab_start(&L, 1);
	CHECK(run_to(1, TK_SERVE));
	lab_kill(&L, 1);
	lab_run(&L, 10 * MS, NULL);
	at = L.now_ns;
	lab_start(&L, 1);
	CHECK(run_to(1, TK_SERVE));
	CHECK(L.now_ns - at < SEC / 2 && takeover_epoch(tk(1)) == 2 && L.preempts == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(standalone_mount_refuses_a_living_one_and_fences_a_dead_one),
		cmocka_unit_test(of_two_standalone_mounts_at_one_moment_one_is_refused),
		cmocka_unit_test(image_behind_a_lock_waits_for_nothing),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	lab_drop(&L);
	free(lab_fx.arena);
	return failed;
}
