/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ranges of a file that a node remembers (node_range.c), against a map. */
#include <string.h>

#include "csvfs/base/prng.h"
#include "tests/unit/node_alone.h"

#define UNITS 64u

static struct list l;

static void is_as_in(const bool *map)
{
	uint64_t end = 0;
	bool first = true, found[UNITS] = {false};

	list_for_each_entry (r, &l, struct frange, link) {
		assert_true(r->len > 0);
		assert_true(first || r->off >= end);
		first = false;
		end = r->off + r->len;
		assert_true(end <= UNITS);
		for (uint64_t u = r->off; u < end; u++)
			found[u] = true;
	}
	assert_memory_equal(found, map, sizeof(found));
}

static void ranges_agree_with_a_map(void **state)
{
	struct prng r = {7};
	bool map[UNITS] = {false};

	(void)state;
	node_alone();
	list_init(&l);
	for (uint32_t i = 0; i < 20000; i++) {
		struct list *at = l.next;

		for (uint32_t k = (uint32_t)prng_below(&r, 3); k; k--) {
			uint32_t off = (uint32_t)prng_below(&r, UNITS), len = 1 + (uint32_t)prng_below(&r, UNITS - off);

			assert_true(node_range_insert(n, &l, off, len));
			memset(map + off, true, len);
		}
		/* As a commit's, and now and then one that is before the last. */
		at = l.next;
		for (uint32_t k = 0, off = 0; k < 4 && off < UNITS; k++) {
			uint32_t len = 1 + (uint32_t)prng_below(&r, 5);

			len = off + len > UNITS ? UNITS - off : len;
			assert_true(node_range_remove(n, &l, &at, off, len));
			memset(map + off, false, len);
			is_as_in(map);
			off = prng_below(&r, 8) ? off + len + (uint32_t)prng_below(&r, 12) : (uint32_t)prng_below(&r, UNITS);
		}
	}
}

static void many(void **state)
{
	(void)state;
	node_alone();
	list_init(&l);
	assert_false(node_range_many(&l, 1));
	assert_true(node_range_insert(n, &l, 0, 1));
	assert_true(node_range_many(&l, 1));
	assert_false(node_range_many(&l, 2));
	assert_true(node_range_insert(n, &l, 2, 1));
	assert_true(node_range_many(&l, 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_agree_with_a_map),
		cmocka_unit_test(many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
