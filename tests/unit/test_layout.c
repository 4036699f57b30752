/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "csvfs/base/prng.h"
#include "csvfs/layout.h"

#define CS 4096u
#define DATA_START 8u
#define REGION (16u << 20)

struct fixture {
	void *region;
	struct mem mem;
	struct layout l;
	struct layout_file *f;
};

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));
	bool is_new;

	x->region = aligned_alloc(4096, REGION);
	mem_init(&x->mem, x->region, REGION);
	assert_int_equal(layout_init(&x->l, &x->mem, DATA_START * CS, CS, sizeof(struct layout_file)), 0);
	x->f = layout_file_get(&x->l, 5, &is_new);
	assert_true(is_new);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	layout_fini(&x->l);
	assert_int_equal(x->mem.live, 0); /* nothing leaks */
	free(x->region);
	free(x);
	return 0;
}

static struct fs_extent ext(uint64_t c, uint64_t n, uint64_t lun_c, uint32_t state)
{
	return (struct fs_extent){
		.off = c * CS, .len = n * CS, .lun_off = lun_c * CS, .state = state};
}

static uint32_t state_of(struct fixture *x, uint64_t c)
{
	struct fs_extent e;

	if (!layout_at(x->f, c * CS, &e, NULL))
		return UINT32_MAX;
	return e.state;
}

static void unknown_says_where_the_next_begins(void **state)
{
	struct fixture *x = *state;
	struct fs_extent e = ext(10, 2, 100, EXT_WRITTEN), got;
	uint64_t next;

	assert_int_equal(layout_put(&x->l, x->f, 10 * CS, 2 * CS, &e, 1), 0);
	assert_false(layout_at(x->f, 0, &got, &next));
	assert_true(next == 10 * CS);
	assert_true(layout_at(x->f, 11 * CS + 5, &got, &next));
	assert_true(got.off == 10 * CS && got.len == 2 * CS && got.lun_off == 100 * CS);
	assert_false(layout_at(x->f, 12 * CS, &got, &next));
	assert_true(next == UINT64_MAX);
}

static void neighbours_that_can_be_one_are_one(void **state)
{
	struct fixture *x = *state;
	struct fs_extent e = ext(0, 4, 100, EXT_WRITTEN), h = ext(8, 1, 7, EXT_HOLE);

	assert_int_equal(layout_put(&x->l, x->f, 0, 4 * CS, &e, 1), 0);
	e = ext(6, 2, 106, EXT_WRITTEN);
	assert_int_equal(layout_put(&x->l, x->f, 6 * CS, 2 * CS, &e, 1), 0);
	assert_int_equal(x->f->count, 2);
	e = ext(4, 2, 104, EXT_WRITTEN);
	assert_int_equal(layout_put(&x->l, x->f, 4 * CS, 2 * CS, &e, 1), 0);
	assert_int_equal(x->f->count, 1);
	/* Holes join whatever place they name; other states only where they continue on the LUN. */
	assert_int_equal(layout_put(&x->l, x->f, 8 * CS, CS, &h, 1), 0);
	h = ext(9, 1, 0, EXT_HOLE);
	assert_int_equal(layout_put(&x->l, x->f, 9 * CS, CS, &h, 1), 0);
	assert_int_equal(x->f->count, 2);
	e = ext(10, 1, 500, EXT_WRITTEN);
	assert_int_equal(layout_put(&x->l, x->f, 10 * CS, CS, &e, 1), 0);
	e = ext(11, 1, 600, EXT_WRITTEN);
	assert_int_equal(layout_put(&x->l, x->f, 11 * CS, CS, &e, 1), 0);
	assert_int_equal(x->f->count, 4);
	layout_check(&x->l);
}

/* L2: the grant was made before the coordinator heard of the first write. */
static void stale_grant_does_not_unwrite(void **state)
{
	struct fixture *x = *state;
	struct fs_extent e = ext(0, 8, 100, EXT_UNWRITTEN);

	assert_int_equal(layout_put(&x->l, x->f, 0, 8 * CS, &e, 1), 0);
	assert_int_equal(layout_promise(&x->l), 0);
	layout_written(&x->l, x->f, 2 * CS, 3 * CS);
	assert_int_equal(x->f->count, 3);
	assert_int_equal(layout_put(&x->l, x->f, 0, 8 * CS, &e, 1), 0);
	assert_int_equal(state_of(x, 1), EXT_UNWRITTEN);
	assert_int_equal(state_of(x, 2), EXT_WRITTEN);
	assert_int_equal(state_of(x, 4), EXT_WRITTEN);
	assert_int_equal(state_of(x, 5), EXT_UNWRITTEN);
	/* Another place, or dropped meanwhile: believed. */
	e.lun_off = 900 * CS;
	assert_int_equal(layout_put(&x->l, x->f, 0, 8 * CS, &e, 1), 0);
	assert_int_equal(state_of(x, 2), EXT_UNWRITTEN);
	layout_drop(&x->l, x->f);
	assert_int_equal(state_of(x, 2), UINT32_MAX);
	layout_check(&x->l);
}

static void unsound_grant_changes_nothing(void **state)
{
	struct fixture *x = *state;
	struct fs_extent bad[2] = {ext(2, 2, 100, EXT_WRITTEN), ext(3, 1, 200, EXT_WRITTEN)};
	struct fs_extent e = ext(0, 8, 100, EXT_UNWRITTEN);

	assert_int_equal(layout_put(&x->l, x->f, 0, 8 * CS, &e, 1), 0);
	assert_int_equal(layout_put(&x->l, x->f, 0, 8 * CS, bad, 2), -EINVAL); /* overlap */
	assert_int_equal(layout_put(&x->l, x->f, 3 * CS, CS, bad, 1), -EINVAL); /* outside */
	bad[0].len = 100;
	assert_int_equal(layout_put(&x->l, x->f, 0, 8 * CS, bad, 1), -EINVAL);
	bad[0] = ext(2, 2, 100, 9);
	assert_int_equal(layout_put(&x->l, x->f, 0, 8 * CS, bad, 1), -EINVAL);
	bad[0] = ext(2, UINT64_MAX / CS - 1, 100, EXT_WRITTEN);
	assert_int_equal(layout_put(&x->l, x->f, 0, 8 * CS, bad, 1), -EINVAL);
	for (uint32_t state = EXT_UNWRITTEN; state <= EXT_SHARED; state++) {
		bad[0] = ext(2, 2, DATA_START - 1, state); /* journal or superblock */
		assert_int_equal(layout_put(&x->l, x->f, 0, 8 * CS, bad, 1), -EINVAL);
		bad[0] = ext(2, 2, UINT64_MAX / CS, state);
		assert_int_equal(layout_put(&x->l, x->f, 0, 8 * CS, bad, 1), -EINVAL);
	}
	assert_int_equal(x->f->count, 1);
	assert_int_equal(state_of(x, 3), EXT_UNWRITTEN);
	layout_check(&x->l);
}

/* L3: whatever else is used up, a first write that was let through can be recorded. */
static void promised_memory_is_there_when_all_is_used_up(void **state)
{
	struct fixture *x = *state;
	struct fs_extent e = ext(0, 1000, 100, EXT_UNWRITTEN);
	uint64_t c = 2000;

	assert_int_equal(layout_put(&x->l, x->f, 0, 1000 * CS, &e, 1), 0);
	assert_int_equal(layout_promise(&x->l), 0);
	assert_int_equal(layout_promise(&x->l), 0);
	for (size_t size = 1 << 20; size >= 16; size /= 2) {
		while (mem_alloc(&x->mem, size))
			;
		while (mem_alloc(&x->mem, size / 4 * 3))
			;
	}
	e = ext(c, 1, 8, EXT_WRITTEN);
	assert_int_equal(layout_put(&x->l, x->f, c * CS, CS, &e, 1), -ENOMEM);
	assert_int_equal(layout_promise(&x->l), -ENOMEM);
	layout_check(&x->l);
	layout_written(&x->l, x->f, 10 * CS, CS);
	layout_written(&x->l, x->f, 20 * CS, CS);
	assert_int_equal(x->f->count, 5);
	layout_check(&x->l);
	mem_init(&x->mem, x->region, REGION); /* the region is given up as a whole */
	assert_int_equal(layout_init(&x->l, &x->mem, DATA_START * CS, CS, sizeof(struct layout_file)), 0);
}

/* ------------------------------------------------------------------ against a plain array */

#define N 300

struct model {
	uint32_t state[N]; /* UINT32_MAX: unknown */
	uint64_t lun[N];
};

static void model_put(struct model *m, uint64_t c, uint64_t n, const struct fs_extent *e,
	uint32_t count)
{
	struct model was = *m;

	for (uint64_t i = c; i < c + n; i++)
		m->state[i] = UINT32_MAX;
	for (uint32_t k = 0; k < count; k++) {
		for (uint64_t i = 0; i < e[k].len / CS; i++) {
			uint64_t at = e[k].off / CS + i;

			m->state[at] = e[k].state;
			m->lun[at] = e[k].state == EXT_HOLE ? 0 : e[k].lun_off / CS + i;
			if (e[k].state == EXT_UNWRITTEN && was.state[at] == EXT_WRITTEN &&
				was.lun[at] == m->lun[at])
				m->state[at] = EXT_WRITTEN;
		}
	}
}

static void random_put(struct fixture *x, struct model *m, struct prng *r)
{
	uint64_t c = prng_below(r, N - 1), n = 1 + prng_below(r, N - c), at = c;
	struct fs_extent e[8];
	uint32_t count = 0;

	while (at < c + n && count < 8) {
		uint64_t len = 1 + prng_below(r, c + n - at);

		/* Mostly at its natural place, so that pieces join. */
		if (prng_below(r, 5))
			e[count++] = ext(at, len, 1000 + at + 1000 * (prng_below(r, 6) == 0),
				(uint32_t)prng_below(r, 4));
		at += len;
	}
	assert_int_equal(layout_put(&x->l, x->f, c * CS, n * CS, e, count), 0);
	model_put(m, c, n, e, count);
}

static void random_written(struct fixture *x, struct model *m, struct prng *r)
{
	uint64_t c = prng_below(r, N - 1), n = 1 + prng_below(r, N - c < 20 ? N - c : 20);

	assert_int_equal(layout_promise(&x->l), 0);
	layout_written(&x->l, x->f, c * CS, n * CS);
	for (uint64_t i = c; i < c + n; i++) {
		if (m->state[i] == EXT_UNWRITTEN)
			m->state[i] = EXT_WRITTEN;
	}
}

static void compare(struct fixture *x, const struct model *m)
{
	struct fs_extent e;

	for (uint64_t i = 0; i < N; i++) {
		if (!layout_at(x->f, i * CS + 17, &e, NULL)) {
			assert_int_equal(m->state[i], UINT32_MAX);
			continue;
		}
		assert_int_equal(m->state[i], e.state);
		if (e.state != EXT_HOLE)
			assert_true(e.lun_off + (i * CS - e.off) == m->lun[i] * CS);
	}
}

static void any_history_agrees_with_an_array(void **state)
{
	struct fixture *x = *state;
	struct prng r = {42};
	struct model m;

	memset(&m, 0xff, sizeof(m));
	for (int i = 0; i < 20000; i++) {
		if (prng_below(&r, 200) == 0) {
			layout_drop(&x->l, x->f);
			memset(&m, 0xff, sizeof(m));
		} else if (prng_below(&r, 2)) {
			random_put(x, &m, &r);
		} else {
			random_written(x, &m, &r);
		}
		if (i % 16 == 0) {
			layout_check(&x->l);
			compare(x, &m);
		}
	}
}

static void files_are_apart_and_all_are_seen(void **state)
{
	struct fixture *x = *state;
	struct fs_extent e = ext(0, 1, 9, EXT_WRITTEN);
	uint32_t seen = 0;
	bool is_new;

	for (uint64_t ino = 100; ino < 10100; ino++) {
		struct layout_file *f = layout_file_get(&x->l, ino, &is_new);

		assert_true(is_new);
		assert_int_equal(layout_put(&x->l, f, 0, CS, &e, 1), 0);
	}
	for (struct layout_file *f = layout_next(&x->l, NULL); f; f = layout_next(&x->l, f))
		seen++;
	assert_int_equal(seen, 10001);
	assert_non_null(layout_find(&x->l, 9999));
	layout_file_free(&x->l, layout_find(&x->l, 9999));
	assert_null(layout_find(&x->l, 9999));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(unknown_says_where_the_next_begins),
		T(neighbours_that_can_be_one_are_one),
		T(stale_grant_does_not_unwrite),
		T(unsound_grant_changes_nothing),
		T(promised_memory_is_there_when_all_is_used_up),
		T(any_history_agrees_with_an_array),
		T(files_are_apart_and_all_are_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
