/* SPDX-License-Identifier: GPL-2.0-or-later */
/* scsi.c: answers of targets, sound, cut short, and senseless. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "csvfs/base/prng.h"
#include "csvfs/scsi.h"
#include "tests/shell/full_status.h"

static size_t add_designator(uint8_t *d, size_t at, uint8_t kind, const void *id, uint8_t len)
{
	d[at] = 1;
	d[at + 1] = kind;
	d[at + 3] = len;
	memcpy(d + at + 4, id, len);
	at += 4u + len;
	scsi_put_be(d + 2, at - 4, 2);
	return at;
}

static void the_most_unique_name_of_the_lun_is_taken(void **state)
{
	static const uint8_t naa[16] = {0x60, 0x0a, 0x0b, 0x80, 1, 2, 3}, local[8] = {0x30, 9},
			     nobody[16] = {0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0xe};
	uint8_t d[256] = {0, 0x83};
	char out[64] = "";
	size_t at;

	(void)state;
	scsi_identity(d, sizeof(d), out, sizeof(out));
	assert_string_equal(out, "");
	at = add_designator(d, 4, 0x03, local, 8);
	at = add_designator(d, at, 0x03, nobody, 16);
	scsi_identity(d, at, out, sizeof(out));
	assert_string_equal(out, "naa.3009000000000000"); /* better than none */
	at = add_designator(d, at, 0x01, "IET  x-1  ", 10);
	scsi_identity(d, at, out, sizeof(out));
	assert_string_equal(out, "t10.IET  x-1");
	at = add_designator(d, at, 0x13, naa, 16); /* of the port */
	scsi_identity(d, at, out, sizeof(out));
	assert_string_equal(out, "t10.IET  x-1");
	at = add_designator(d, at, 0x03, naa, 16);
	scsi_identity(d, at, out, sizeof(out));
	assert_string_equal(out, "naa.600a0b80010203000000000000000000");
	scsi_identity(d, at - 1, out, 12); /* cut short: the last one does not count */
	assert_string_equal(out, "t10.IET  x-");
}

static void the_port_of_the_target_is_found(void **state)
{
	static const uint8_t port[4] = {0, 0, 1, 7}, group[4] = {0, 0, 0, 9};
	uint8_t d[64] = {0, 0x83};
	size_t at;

	(void)state;
	assert_int_equal(scsi_port(d, 3), 0);
	at = add_designator(d, 4, 0x15, group, 4);
	at = add_designator(d, at, 0x04, group, 4); /* of the logical unit */
	assert_int_equal(scsi_port(d, at), 0);
	at = add_designator(d, at, 0x94, port, 4); /* PIV: the protocol is named, too */
	assert_int_equal(scsi_port(d, at), 0x107);
	assert_int_equal(scsi_port(d, at - 1), 0);
	scsi_put_be(d + 2, at - 5, 2);
	assert_int_equal(scsi_port(d, at), 0);
	d[at - 5] = 3; /* its length */
	scsi_put_be(d + 2, at - 4, 2);
	assert_int_equal(scsi_port(d, at), 0);
}

static void sizes_that_cannot_be_are_refused(void **state)
{
	struct bdev_info i = {0};
	uint8_t d[32] = {0};

	(void)state;
	scsi_put_be(d, 1023, 8);
	scsi_put_be(d + 8, 4096, 4);
	d[14] = 0x80;
	assert_false(scsi_capacity(d, 14, &i));
	assert_true(scsi_capacity(d, 32, &i));
	assert_true(i.lun_bytes == 4u << 20 && i.block_bytes == 4096 && i.unmap);
	scsi_put_be(d, UINT64_MAX, 8);
	assert_false(scsi_capacity(d, 32, &i));
	scsi_put_be(d, UINT64_MAX / 4096, 8);
	assert_false(scsi_capacity(d, 32, &i));
	scsi_put_be(d, 1023, 8);
	scsi_put_be(d + 8, 520, 4);
	assert_false(scsi_capacity(d, 32, &i));
	scsi_put_be(d + 8, 0, 4);
	assert_false(scsi_capacity(d, 32, &i));
}

static void keys_are_told_once_and_all_or_none(void **state)
{
	uint64_t keys[4];
	uint32_t generation;
	uint8_t d[56] = {0};

	(void)state;
	scsi_put_be(d, 7, 4);
	scsi_put_be(d + 4, 48, 4);
	for (unsigned k = 0; k < 6; k++)
		scsi_put_be(d + 8 + 8 * k, 100 + k, 8);
	/* What is not told of may be there still. */
	assert_int_equal(scsi_pr_keys(d, sizeof(d), false, &generation, keys, 4), SCSI_KEYS_CUT);
	assert_int_equal(scsi_pr_keys(d, 27, false, &generation, keys, 4), SCSI_KEYS_CUT);
	scsi_put_be(d + 8 + 8 * 1, 100, 8);
	scsi_put_be(d + 8 + 8 * 4, 103, 8);
	assert_int_equal(scsi_pr_keys(d, sizeof(d), false, &generation, keys, 4), 4);
	assert_true(generation == 7 && keys[0] == 100 && keys[2] == 103 && keys[3] == 105);
	assert_int_equal(scsi_pr_keys(d, 24, true, &generation, keys, 4), 1);
	assert_int_equal(scsi_pr_keys(d, 23, true, &generation, keys, 4), 0);
	assert_int_equal(scsi_pr_keys(d, 7, false, &generation, keys, 4), 0);
}

static struct scsi_nexus seen[4];
static unsigned seen_count;

static void see(void *ctx, const struct scsi_nexus *x)
{
	assert_null(ctx);
	assert_true(seen_count < 4);
	seen[seen_count++] = *x;
}

static bool full(const uint8_t *d, size_t n)
{
	seen_count = 0;
	return scsi_pr_full(d, n, see, NULL);
}

static void registrations_are_told_by_name(void **state)
{
	uint8_t d[1024] = {0};
	size_t n = 8;

	(void)state;
	assert_true(full(d, 8));
	assert_int_equal(seen_count, 0);
	n = full_add(d, n, 0xa, 1, "iqn.2026-11.test:v,i,0x8012345600Ff");
	n = full_add(d, n, 0xb, 1, "iqn.x,i,0x000000000001");
	d[n - 28 - 24 + 12] = 2; /* ALL_TG_PT */
	n = full_add(d, n, 0xc, 0, "iqn.2026-11.test:device");
	n = full_add(d, n, 0xd, 1, "iqn.y,i,0x000000000002");
	d[n - 28] = 6; /* a transport that is not iSCSI */
	assert_true(full(d, n));
	assert_int_equal(seen_count, 4);
	assert_true(seen[0].iscsi && seen[0].key == 0xa && seen[0].port == 1);
	assert_string_equal(seen[0].name, "iqn.2026-11.test:v");
	assert_memory_equal(seen[0].isid, "\x80\x12\x34\x56\x00\xff", 6);
	assert_true(seen[1].iscsi && seen[1].port == 0);
	assert_true(!seen[2].iscsi && seen[2].key == 0xc && !seen[2].name[0]);
	assert_true(!seen[3].iscsi && seen[3].key == 0xd);
}

static void registrations_that_make_no_sense_are_none(void **state)
{
	static const char *const bad[] = {
		"iqn.x,i,0x80123456000", /* a digit too few */
		"iqn.x,i,0x80123456000g",
		"iqn.x,j,0x801234560001",
		",i,0x801234560001",
		"iqn x,i,0x801234560001",
		"iqn.x,i,0x801234560001,i,0x801234560002",
		"iqn\n.x,i,0x801234560001",
		"iqn.x",
		"",
	};
	uint8_t d[1024] = {0};
	char name[300];
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		n = full_add(d, full_add(d, 8, 1, 1, "iqn.good,i,0x801234560001"), 2, 1, bad[i]);
		if (full(d, n) || seen_count)
			fail_msg("taken: %s", bad[i]);
	}
	memset(name, 'n', sizeof(name));
	strcpy(name + SCSI_NAME_MAX - 1, ",i,0x801234560001");
	n = full_add(d, 8, 1, 1, name);
	assert_true(full(d, n));
	assert_int_equal(strlen(seen[0].name), SCSI_NAME_MAX - 1);
	strcpy(name + SCSI_NAME_MAX, ",i,0x801234560001");
	name[SCSI_NAME_MAX - 1] = 'n';
	assert_false(full(d, full_add(d, 8, 1, 1, name)));
	/* Lengths: of the answer, of the TransportID, of its text; an end that is not there. */
	n = full_add(d, 8, 1, 1, "iqn.good,i,0x801234560001");
	assert_true(full(d, n));
	assert_false(full(d, n - 1) || full(d, 7));
	for (unsigned at = 8 + 20; at < 8 + 24; at++) {
		d[at] ^= 0x80;
		assert_false(full(d, n));
		d[at] ^= 0x80;
	}
	d[8 + 26] = 0x80;
	assert_false(full(d, n));
	d[8 + 26] = 0;
	d[8 + 27] = 25;
	assert_false(full(d, n));
	d[8 + 27] = 28;
	assert_true(full(d, n));
	scsi_put_be(d + 4, n - 8 - 4, 4);
	assert_false(full(d, n));
}

/* LIO leaves out what does not fit. */
static void a_list_that_may_be_cut_off_is_none(void **state)
{
	uint8_t *d = calloc(1, SCSI_FULL_BYTES + 100);
	uint64_t key = 0;
	size_t n = 8;

	(void)state;
	assert_non_null(d);
	while (n < SCSI_FULL_BYTES - 400)
		n = full_add(d, n, ++key, 0, "iqn.device");
	while (n < SCSI_FULL_BYTES - 200)
		n = full_add(d, n, ++key, 0, "iqn.device");
	assert_false(full(d, n));
	free(d);
}

static void no_answer_is_read_beyond_its_end(void **state)
{
	struct prng r = {.s = 42};

	(void)state;
	for (int round = 0; round < 20000; round++) {
		size_t n = prng_below(&r, 64);
		uint8_t *d = malloc(n ? n : 1); /* exactly: a sanitizer sees a byte too many */
		struct bdev_info i = {0};
		uint64_t keys[4];
		uint32_t a = 0, b = 0;
		bool x, y, z;

		for (size_t k = 0; k < n; k++)
			d[k] = prng_below(&r, 3) ? (uint8_t)prng_below(&r, 20)
						 : (uint8_t)prng_u64(&r);
		(void)scsi_inquiry(d, n, i.vendor, sizeof(i.vendor));
		(void)scsi_has_page(d, n, 0xb0);
		scsi_identity(d, n, i.identity, sizeof(i.identity));
		scsi_limits(d, n, &a, &b);
		(void)scsi_capacity(d, n, &i);
		scsi_caching(d, n, &x, &y, &z);
		(void)scsi_tas(d, n);
		(void)scsi_pr_keys(d, n, round % 2, &a, keys, 4);
		(void)full(d, n);
		free(d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_most_unique_name_of_the_lun_is_taken),
		cmocka_unit_test(the_port_of_the_target_is_found),
		cmocka_unit_test(sizes_that_cannot_be_are_refused),
		cmocka_unit_test(keys_are_told_once_and_all_or_none),
		cmocka_unit_test(registrations_are_told_by_name),
		cmocka_unit_test(registrations_that_make_no_sense_are_none),
		cmocka_unit_test(a_list_that_may_be_cut_off_is_none),
		cmocka_unit_test(no_answer_is_read_beyond_its_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
