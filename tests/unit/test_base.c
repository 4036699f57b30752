/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <errno.h>
#include <cmocka.h>

#include "csvfs/base/claim.h"
#include "csvfs/base/crc32c.h"
#include "csvfs/base/cursor.h"
#include "csvfs/base/mem.h"
#include "csvfs/base/prng.h"
#include "csvfs/base/trace.h"

static void crc_is_castagnoli(void **state)
{
	/* RFC 3720, appendix B.4 */
	uint8_t zeros[32] = {0};

	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aa);
	assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

/* Long ones are taken in thirds, short ones are not: both ways must give the same. */
static void crc_of_any_length_is_that_of_its_parts(void **state)
{
	static uint8_t data[10000];
	struct prng r = {7};

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)prng_below(&r, 256);
	for (size_t n = 4000; n < sizeof(data); n += 37) {
		uint32_t parts = 0;

		for (size_t at = 0; at < n; at += 1000)
			parts = crc32c(parts, data + at, n - at < 1000 ? n - at : 1000);
		assert_int_equal(crc32c(0, data, n), parts);
	}
}

static void cursor_remembers_an_overrun(void **state)
{
	uint8_t b[10] = {0};
	struct cursor c = cursor_of(b, sizeof(b));

	cursor_put_u64(&c, 0x1122334455667788ull);
	assert_true(cursor_ok(&c));
	cursor_put_u32(&c, 1);
	assert_false(cursor_ok(&c));
	assert_int_equal(b[8], 0);
	c = cursor_of_const(b, 8);
	assert_true(cursor_u64(&c) == 0x1122334455667788ull);
	assert_int_equal(cursor_u8(&c), 0);
	assert_false(cursor_ok(&c));
}

static void memory_ends_with_null_and_comes_back(void **state)
{
	size_t size = 64 << 10;
	void *region = aligned_alloc(4096, size), *p[32];
	struct mem m;
	int n = 0;

	mem_init(&m, region, size);
	while (n < 32 && (p[n] = mem_alloc(&m, 4096)))
		n++;
	assert_int_equal(n, 16);
	assert_int_equal((uintptr_t)p[3] & 4095, 0);
	mem_free(&m, p[3], 4096);
	p[4] = mem_alloc(&m, 4000);
	assert_ptr_equal(p[4], p[3]);
	free(region);
}

/* As a cache takes it: a header for each page. */
static void small_blocks_between_pages_cost_no_pages(void **state)
{
	size_t size = 64 << 10;
	void *region = aligned_alloc(4096, size), *page, *small;
	struct mem m;
	int n = 0;

	mem_init(&m, region, size);
	for (; (small = mem_alloc(&m, 192)) && (page = mem_alloc(&m, 4096)); n++) {
		assert_int_equal((uintptr_t)page & 4095, 0);
		memset(small, 1, 192);
		memset(page, 2, 4096);
	}
	assert_int_equal(n, 15);
	free(region);
}

static void claim_survives_the_disk_and_no_flipped_bit(void **state)
{
	uint8_t block[BLOCK_SIZE];
	struct claim in = {.uuid = {1, 2}, .epoch = 7, .heartbeat = 9, .state = CLAIM_HELD, .node = 3,
			.incarnation = 4, .life = 5, .name = "n3", .given_up_count = CLAIM_GIVEN_UP_MAX,
			.served = 6, .kept = true, .fenced_more = true, .fenced_count = CLAIM_FENCED_MAX},
		     out;
	uint8_t other[16] = {9};

	for (uint32_t i = 0; i < CLAIM_GIVEN_UP_MAX; i++) {
		in.given_up[i].node = 100 + i;
		in.given_up[i].life = UINT64_MAX - i;
		in.fenced[i] = (struct claim_fenced){200 + i, UINT32_MAX - i, i};
	}
	claim_encode(&in, block);
	assert_int_equal(claim_decode(&out, block, in.uuid), 0);
	assert_memory_equal(&in, &out, sizeof(in));
	assert_int_equal(claim_decode(&out, block, other), -ESTALE);
	/* One of a version that does not say in which epoch somebody was served. */
	in.served = 0;
	claim_encode(&in, block);
	assert_int_equal(claim_decode(&out, block, NULL), 0);
	assert_int_equal(out.served, in.epoch);
	for (int i = 0; i < BLOCK_SIZE * 8; i += 37) {
		block[i / 8] ^= (uint8_t)(1 << (i % 8));
		assert_int_equal(claim_decode(&out, block, NULL), -EUCLEAN);
		block[i / 8] ^= (uint8_t)(1 << (i % 8));
	}
}

/* The checksum is right, and what it covers is not: no claim, rather than one with another list. */
static void a_claim_with_an_impossible_list_is_none(void **state)
{
	static const struct {
		uint32_t at, value;
	} bad[] = {{60, CLAIM_GIVEN_UP_MAX + 1}, {60, UINT32_MAX}, {60, 4}, {136, 0}, {136, 12}, {1152, 8},
		{1164, CLAIM_FENCED_MAX + 1}, {1164, UINT32_MAX}, {1164, 3}, {1168, 0}, {1188, 0}};
	struct claim in = {.epoch = 7, .state = CLAIM_HELD, .node = 3, .given_up_count = 3,
			.given_up = {{11, 1}, {12, 2}, {13, 3}}, .fenced_count = 2, .fenced = {{21, 1, 5}, {22, 1, 0}}}, out;
	uint8_t block[BLOCK_SIZE];
	le32 v;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		claim_encode(&in, block);
		assert_int_equal(claim_decode(&out, block, NULL), 0);
		v = le32_of(bad[i].value);
		memcpy(block + bad[i].at, &v, sizeof(v));
		memset(block + 4, 0, 4);
		v = le32_of(crc32c(0, block, BLOCK_SIZE));
		memcpy(block + 4, &v, sizeof(v));
		assert_int_equal(claim_decode(&out, block, NULL), -EUCLEAN);
	}
}

static void a_claim_names_who_was_fenced(void **state)
{
	struct claim c = {.fenced_count = 1, .fenced = {{3, 1, 0}}};
	char b[160], small[24];

	assert_true(claim_owes(&c));
	claim_owes_text(&c, b, sizeof(b));
	assert_string_equal(b, "node 3 was fenced and has not been back");
	c.fenced[c.fenced_count++].node = 70000;
	c.fenced_more = true;
	claim_owes_text(&c, b, sizeof(b));
	assert_string_equal(b, "nodes 3, 70000 and more were fenced and have not been back");
	claim_owes_text(&c, small, sizeof(small));
	assert_true(strlen(small) < sizeof(small));
	c = (struct claim){0};
	assert_false(claim_owes(&c));
}

static void trace_formats_like_printf(void **state)
{
	char b[64];

	trace_format(b, sizeof(b), "view %u lost node %d -> fence %d/%04x %s%% %lu", 7u, -2, 2, 0x8fu,
		"x", 1ul << 40);
	assert_string_equal(b, "view 7 lost node -2 -> fence 2/008f x% 1099511627776");
	assert_int_equal(trace_format(b, 4, "%s", "abcdef"), 3);
	assert_string_equal(b, "abc");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crc_is_castagnoli),
		cmocka_unit_test(crc_of_any_length_is_that_of_its_parts),
		cmocka_unit_test(cursor_remembers_an_overrun),
		cmocka_unit_test(memory_ends_with_null_and_comes_back),
		cmocka_unit_test(small_blocks_between_pages_cost_no_pages),
		cmocka_unit_test(claim_survives_the_disk_and_no_flipped_bit),
		cmocka_unit_test(a_claim_with_an_impossible_list_is_none),
		cmocka_unit_test(a_claim_names_who_was_fenced),
		cmocka_unit_test(trace_formats_like_printf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
