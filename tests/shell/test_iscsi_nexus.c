/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iscsi_nexus.c: who is gone, and is yet to be ended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "csvfs/iscsi_nexus.h"
#include "csvfs/iscsi_reinst.h"
#include "tests/shell/full_status.h"

#define SELF "iqn.us"
#define OUR_ISID 0x800000010000ull

static struct iscsi_nexus_table *T;
static uint8_t D[SCSI_FULL_BYTES];
static size_t N;

/* A table of its own for each test, in which we are registered. */
static void begin(int lun)
{
	static const uint8_t isid[6] = {0x80, 0, 0, 1, 0, 0};

	T = iscsi_nexus_table("here:3260", "iqn.target", lun);
	assert_non_null(T);
	assert_ptr_equal(T, iscsi_nexus_table("here:3260", "iqn.target", lun));
	assert_ptr_not_equal(T, iscsi_nexus_table("there:3260", "iqn.target", lun));
	iscsi_nexus_ours(T, SELF, isid);
}

static void list_begin(void)
{
	char port[256];

	memset(D, 0, 8);
	N = full_add(D, 8, 1, 1, full_port(port, sizeof(port), SELF, OUR_ISID));
}

static void list(uint64_t key, const char *name, uint64_t isid)
{
	char port[256];

	N = full_add(D, N, key, 1, full_port(port, sizeof(port), name, isid));
}

static void listed(void)
{
	assert_true(iscsi_nexus_seen(T, SELF, D, N));
}

static const char *why;
static struct scsi_nexus next;

static enum iscsi_nexus_next ask(void)
{
	return iscsi_nexus_next(T, SELF, &next, &why);
}

static void who_is_gone_is_told_until_it_has_ended(void **state)
{
	(void)state;
	begin(1);
	assert_int_equal(ask(), ISCSI_NEXUS_NONE);
	list_begin();
	list(0xa, "iqn.v", 0x800000000001);
	list(0xa, "iqn.v", 0x800000000002);
	list(0xb, "iqn.w", 0x800000000001);
	listed();
	assert_int_equal(ask(), ISCSI_NEXUS_NONE);
	list_begin();
	list(0xb, "iqn.w", 0x800000000001);
	listed();
	assert_int_equal(ask(), ISCSI_NEXUS_NEXT);
	assert_true(next.key == 0xa && next.isid[5] == 1);
	assert_string_equal(next.name, "iqn.v");
	assert_int_equal(ask(), ISCSI_NEXUS_NEXT);
	assert_int_equal(next.isid[5], 1);
	iscsi_nexus_ended(T, &next);
	assert_int_equal(ask(), ISCSI_NEXUS_NEXT);
	assert_int_equal(next.isid[5], 2);
	iscsi_nexus_ended(T, &next);
	assert_int_equal(ask(), ISCSI_NEXUS_NONE);
	listed();
	assert_int_equal(ask(), ISCSI_NEXUS_NONE);
	/* An answer without sense changes nothing. */
	assert_false(iscsi_nexus_seen(T, SELF, D, N - 1));
	assert_int_equal(ask(), ISCSI_NEXUS_NONE);
	/* It comes again, and goes: so does what it has sent meanwhile. */
	list(0xc, "iqn.v", 0x800000000001);
	listed();
	list_begin();
	listed();
	assert_int_equal(ask(), ISCSI_NEXUS_NEXT);
	assert_true(next.key == 0xc);
	iscsi_nexus_ended(T, &next);
	assert_int_equal(ask(), ISCSI_NEXUS_NEXT);
	assert_true(next.key == 0xb);
	iscsi_nexus_ended(T, &next);
	assert_int_equal(ask(), ISCSI_NEXUS_NONE);
}

static void what_came_and_went_meanwhile_has_not_ended(void **state)
{
	struct scsi_nexus was;

	(void)state;
	begin(2);
	list_begin();
	list(0xa, "iqn.v", 1);
	listed();
	list_begin();
	listed();
	assert_int_equal(ask(), ISCSI_NEXUS_NEXT);
	was = next;
	list(0xb, "iqn.v", 1);
	listed();
	assert_int_equal(ask(), ISCSI_NEXUS_NONE);
	iscsi_nexus_ended(T, &was);
	list_begin();
	listed();
	iscsi_nexus_ended(T, &was);
	assert_int_equal(ask(), ISCSI_NEXUS_NEXT);
	assert_true(next.key == 0xb);
}

static void our_own_are_never_told(void **state)
{
	static const uint8_t isid[6] = {0x80, 0, 0, 1, 0, 7};

	(void)state;
	begin(3);
	iscsi_nexus_ours(T, SELF, isid);
	list_begin();
	list(1, SELF, OUR_ISID + 7);
	list(1, SELF, OUR_ISID + 9); /* of an earlier life, with more sessions */
	listed();
	list_begin();
	listed();
	assert_int_equal(ask(), ISCSI_NEXUS_NEXT);
	assert_int_equal(next.isid[5], 9);
	/* To another node in the same process they are others'. */
	iscsi_nexus_ended(T, &next);
	assert_int_equal(ask(), ISCSI_NEXUS_NONE);
	assert_int_equal(iscsi_nexus_next(T, "iqn.other", &next, &why), ISCSI_NEXUS_NEXT);
	assert_int_equal(next.isid[5], 7);
}

static void nobody_can_log_in_for_these(void **state)
{
	(void)state;
	begin(4);
	list_begin();
	N = full_add(D, N, 0xa, 0, "iqn.v");
	listed();
	assert_int_equal(ask(), ISCSI_NEXUS_NONE);
	list_begin();
	listed();
	assert_int_equal(ask(), ISCSI_NEXUS_NEVER);
	assert_non_null(strstr(why, "no iSCSI session"));
	begin(5);
	list_begin();
	list(0xa, "iqn.v", 1);
	D[N - 28 - 24 + 19] = 2; /* another port of the target */
	listed();
	list_begin();
	listed();
	assert_int_equal(ask(), ISCSI_NEXUS_NEVER);
	assert_non_null(strstr(why, "another port"));
}

/* LIO shows names in lower case, whatever has logged in. */
static void names_differ_in_case_and_are_one(void **state)
{
	static const uint8_t isid[6] = {0x80, 0, 0, 1, 0, 0};

	(void)state;
	T = iscsi_nexus_table("here:3260", "iqn.target", 7);
	iscsi_nexus_ours(T, "iqn.US", isid);
	for (int gone = 0; gone < 2; gone++) {
		list_begin(); /* with us */
		if (!gone)
			list(0xa, "iqn.v", 1);
		assert_true(iscsi_nexus_seen(T, "iqn.US", D, N));
	}
	assert_int_equal(iscsi_nexus_next(T, "iqn.US", &next, &why), ISCSI_NEXUS_NEXT);
	assert_string_equal(next.name, "iqn.v");
}

/* A tool is not registered, and its ISID is another one each time. */
static void who_is_not_registered_knows_its_port_all_the_same(void **state)
{
	(void)state;
	T = iscsi_nexus_table("here:3260", "iqn.target", 8);
	list_begin();
	listed();
	N = 8;
	memset(D, 0, N);
	listed();
	assert_int_equal(ask(), ISCSI_NEXUS_NEVER);
	iscsi_nexus_port(T, 0);
	assert_int_equal(ask(), ISCSI_NEXUS_NEVER);
	iscsi_nexus_port(T, 1);
	assert_int_equal(ask(), ISCSI_NEXUS_NEXT);
	assert_string_equal(next.name, SELF);
}

static void whom_the_target_did_not_tell_is_not_forgotten(void **state)
{
	(void)state;
	begin(9);
	list_begin();
	listed();
	assert_int_equal(ask(), ISCSI_NEXUS_NONE);
	iscsi_nexus_full(T);
	listed();
	assert_int_equal(ask(), ISCSI_NEXUS_NEVER);
	assert_non_null(strstr(why, "remember"));
}

static void what_has_no_room_is_not_forgotten(void **state)
{
	(void)state;
	begin(6);
	for (unsigned round = 0; round < 40; round++) {
		/* 4000 in all: but those that have ended have no place. */
		list_begin();
		for (unsigned i = 0; i < 100; i++)
			list(0xa, "iqn.v", round * 100 + i);
		listed();
		list_begin();
		listed();
		for (unsigned i = 0; i < 100; i++) {
			assert_int_equal(ask(), ISCSI_NEXUS_NEXT);
			iscsi_nexus_ended(T, &next);
		}
		assert_int_equal(ask(), ISCSI_NEXUS_NONE);
	}
	for (unsigned round = 0; round < 21; round++) {
		list_begin();
		for (unsigned i = 0; i < 100; i++)
			list(0xa, "iqn.w", round * 100 + i);
		listed();
	}
	assert_int_equal(ask(), ISCSI_NEXUS_NEVER);
	assert_non_null(strstr(why, "remember"));
}

static void only_lio_needs_it(void **state)
{
	(void)state;
	assert_true(iscsi_reinst_needed("LIO-ORG IBLOCK") && iscsi_reinst_needed("LIO-ORG"));
	assert_false(iscsi_reinst_needed("IET VIRTUAL-DISK") || iscsi_reinst_needed("") || iscsi_reinst_needed("LIO-ORGX Y"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_is_gone_is_told_until_it_has_ended),
		cmocka_unit_test(what_came_and_went_meanwhile_has_not_ended),
		cmocka_unit_test(our_own_are_never_told),
		cmocka_unit_test(nobody_can_log_in_for_these),
		cmocka_unit_test(names_differ_in_case_and_are_one),
		cmocka_unit_test(who_is_not_registered_knows_its_port_all_the_same),
		cmocka_unit_test(whom_the_target_did_not_tell_is_not_forgotten),
		cmocka_unit_test(what_has_no_room_is_not_forgotten),
		cmocka_unit_test(only_lio_needs_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
