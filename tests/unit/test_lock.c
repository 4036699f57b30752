/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "coordinator/lock.h"
#include "csvfs/base/prng.h"

#define INO 7
#define ALL_END ((uint64_t)INT64_MAX)
#define REGION (8u << 20)

static struct mem mem;
static struct lock_table *t;
static void *region;

static int setup(void **state)
{
	if (!region)
		region = aligned_alloc(4096, REGION);
	mem_init(&mem, region, REGION);
	t = mem_alloc(&mem, sizeof(*t));
	lock_init(t, &mem, 1000, 500);
	return 0;
}

static struct lock lk(uint32_t idx, uint64_t owner, uint64_t start, uint64_t end, bool write)
{
	return (struct lock){.key = {.ino = INO, .owner = owner, .idx = idx},
		.handle = owner,
		.start = start,
		.end = end,
		.write = write};
}

static struct lock fl(uint32_t idx, uint64_t owner, bool write)
{
	struct lock l = lk(idx, owner, 0, ALL_END, write);

	l.key.flock = true;
	return l;
}

static int get(struct lock l)
{
	int err = lock_get(t, &l);

	lock_check(t);
	return err;
}

static int weaken(struct lock l, bool to_read)
{
	int err = lock_weaken(t, &l, to_read);

	return err;
}

static void nodes_exclude_each_other(void **state)
{
	assert_int_equal(get(lk(0, 1, 0, 99, true)), 0);
	assert_int_equal(get(lk(1, 1, 50, 60, false)), -EAGAIN);
	assert_int_equal(get(lk(1, 1, 100, 160, true)), 0);
	assert_int_equal(get(lk(0, 2, 0, 0, false)), -EAGAIN);
	assert_int_equal(get(lk(0, 1, 0, 99, true)), 0);
	assert_int_equal(weaken(lk(0, 1, 0, 99, true), true), 0);
	lock_check(t);
	assert_int_equal(get(lk(1, 1, 50, 60, false)), 0);
	assert_int_equal(get(lk(0, 1, 50, 60, true)), -EAGAIN);
	assert_int_equal(t->count, 3);
	lock_drop_node(t, 1);
	lock_check(t);
	assert_int_equal(get(lk(0, 1, 50, 60, true)), 0);
	assert_int_equal(t->count, 3);
	assert_int_equal(weaken(lk(0, 1, 0, ALL_END, true), false), 0);
	assert_int_equal(t->count, 0);
}

static void flock_and_fcntl_do_not_see_each_other(void **state)
{
	assert_int_equal(get(lk(0, 1, 0, ALL_END, true)), 0);
	assert_int_equal(get(fl(1, 1, true)), 0);
	assert_int_equal(get(fl(0, 1, false)), -EAGAIN);
	lock_drop_handle(t, INO, 0, 1);
	assert_int_equal(get(fl(0, 1, false)), -EAGAIN);
	lock_drop_handle(t, INO, 1, 1);
	assert_int_equal(get(fl(0, 1, false)), 0);
}

static struct lock through(struct lock l, uint64_t handle)
{
	l.handle = handle;
	return l;
}

/*
 * The owner of an OFD lock is an address. A file is closed, the next one is at that address and locks, and the RELEASE of the
 * first comes after that: it takes what only the first one held.
 */
static void the_late_release_of_an_older_file_leaves_what_a_newer_one_locked(void **state)
{
	for (int write = 0; write < 2; write++) {
		assert_int_equal(get(through(lk(0, 9, 0, 99, write), 1)), 0);
		assert_int_equal(get(through(lk(0, 9, 50, 59, false), 2)), 0);
		lock_drop_handle(t, INO, 0, 1);
		lock_check(t);
		assert_int_equal(t->count, 1);
		assert_int_equal(get(lk(1, 1, 55, 55, true)), -EAGAIN);
		assert_int_equal(get(lk(1, 1, 49, 49, true)), 0);
		assert_int_equal(get(lk(1, 1, 60, 60, true)), 0);
		lock_drop_handle(t, INO, 0, 2);
		lock_drop_handle(t, INO, 1, 1);
		assert_int_equal(t->count, 0);
	}
	assert_int_equal(get(through(fl(0, 9, true), 1)), 0);
	assert_int_equal(get(through(fl(0, 9, true), 2)), 0);
	lock_drop_handle(t, INO, 0, 1);
	assert_int_equal(get(fl(1, 1, false)), -EAGAIN);
}

/* Both ends are cut off, and every gap is filled: more entries than any other request needs at once. */
static void a_read_lock_over_many_of_an_older_file(void **state)
{
	for (uint64_t i = 0; i < 10; i++)
		assert_int_equal(get(through(lk(0, 9, 10 * i, 10 * i + 5, i % 2), 1)), 0);
	assert_int_equal(get(through(lk(0, 9, 3, 92, false), 2)), 0);
	assert_int_equal(t->count, 12);
	lock_drop_handle(t, INO, 0, 1);
	lock_check(t);
	assert_int_equal(t->count, 10);
	lock_drop_handle(t, INO, 0, 2);
	assert_int_equal(t->count, 0);
}

static void the_middle_of_a_range_goes_and_comes_back_as_one(void **state)
{
	assert_int_equal(get(lk(0, 1, 0, 99, true)), 0);
	assert_int_equal(weaken(lk(0, 1, 40, 49, true), false), 0);
	lock_check(t);
	assert_int_equal(t->count, 2);
	assert_int_equal(get(lk(1, 9, 40, 49, true)), 0);
	assert_int_equal(get(lk(0, 1, 30, 60, false)), -EAGAIN);
	lock_drop_handle(t, INO, 1, 9);
	/* What is held for writing stays so: a lock never gets weaker by getting one. */
	assert_int_equal(get(lk(0, 1, 30, 60, false)), 0);
	assert_int_equal(t->count, 3);
	assert_int_equal(get(lk(0, 1, 35, 55, true)), 0);
	assert_int_equal(t->count, 1);
	assert_int_equal(weaken(lk(0, 1, 10, 19, true), true), 0);
	assert_int_equal(t->count, 3);
	lock_check(t);
}

static void waiters_go_on_in_order(void **state)
{
	struct lock_wait w[3] = {{.want = lk(1, 1, 0, 9, true)}, {.want = lk(2, 1, 0, 9, true)},
		{.want = lk(3, 1, 5, 9, false)}};

	assert_int_equal(get(lk(0, 1, 0, 9, true)), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(lock_enqueue(t, &w[i]), 0);
	assert_null(lock_next_ended(t));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(weaken(lk((uint32_t)i, 1, 0, 9, true), false), 0);
		assert_ptr_equal(lock_next_ended(t), &w[i]);
		assert_int_equal(w[i].err, 0);
		assert_null(lock_next_ended(t));
		lock_check(t);
	}
}

static void who_was_interrupted_gets_nothing(void **state)
{
	struct lock_wait a = {.want = lk(1, 1, 0, 9, true)}, b = {.want = lk(2, 1, 0, 9, true)};

	assert_int_equal(get(lk(0, 1, 0, 9, true)), 0);
	assert_int_equal(lock_enqueue(t, &a), 0);
	assert_int_equal(lock_enqueue(t, &b), 0);
	lock_leave(t, &a);
	lock_drop_node(t, 0);
	assert_ptr_equal(lock_next_ended(t), &b);
	assert_null(lock_next_ended(t));
	lock_leave(t, &b);
	lock_leave(t, &a);
	lock_check(t);
}

static void a_circle_over_nodes_and_files_is_seen(void **state)
{
	struct lock_wait w[3] = {{.want = lk(0, 1, 0, 9, true)}, {.want = lk(1, 1, 0, 9, true)},
		{.want = lk(2, 1, 0, 9, true)}};

	for (uint32_t i = 0; i < 3; i++) {
		struct lock l = lk(i, 1, 0, 9, true);

		l.key.ino = i + 1;
		assert_int_equal(get(l), 0);
		w[i].want.key.ino = (i + 1) % 3 + 1;
	}
	assert_int_equal(lock_enqueue(t, &w[0]), 0);
	assert_int_equal(lock_enqueue(t, &w[1]), 0);
	assert_int_equal(lock_enqueue(t, &w[2]), -EDEADLK);
	lock_check(t);
}

/* Two wait; the grant to one of them makes the other's wait a circle. */
static void a_grant_can_close_a_circle(void **state)
{
	struct lock_wait b = {.want = lk(1, 1, 0, 9, true)}, c = {.want = lk(2, 1, 0, 9, true)},
			 b2 = {.want = lk(1, 1, 20, 29, true)};

	assert_int_equal(get(lk(0, 1, 0, 9, true)), 0);
	assert_int_equal(get(lk(2, 1, 20, 29, true)), 0);
	assert_int_equal(lock_enqueue(t, &b), 0); /* b waits for a */
	assert_int_equal(lock_enqueue(t, &c), 0); /* so does c */
	assert_int_equal(lock_enqueue(t, &b2), 0); /* another thread of b waits for c */
	lock_drop_node(t, 0);
	assert_ptr_equal(lock_next_ended(t), &b);
	assert_int_equal(b.err, 0);
	assert_ptr_equal(lock_next_ended(t), &c);
	assert_int_equal(c.err, -EDEADLK);
	assert_null(lock_next_ended(t));
	lock_check(t);
}

/* The same, but what closes the circle is granted at once, to another thread. */
static void a_grant_without_a_wait_can_close_a_circle(void **state)
{
	struct lock_wait h = {.want = lk(0, 1, 0, 9, true)}, g = {.want = lk(2, 1, 20, 29, true)};

	assert_int_equal(get(lk(0, 1, 20, 29, true)), 0);
	assert_int_equal(get(lk(1, 1, 0, 9, false)), 0);
	assert_int_equal(lock_enqueue(t, &h), 0); /* h waits for k, which reads */
	assert_int_equal(lock_enqueue(t, &g), 0); /* g waits for h */
	assert_int_equal(get(lk(2, 1, 0, 9, false)), 0); /* another thread of g reads, too */
	assert_ptr_equal(lock_next_ended(t), &h);
	assert_int_equal(h.err, -EDEADLK);
	assert_null(lock_next_ended(t));
	/* h gives up what it has, as it should. */
	lock_drop_node(t, 0);
	assert_ptr_equal(lock_next_ended(t), &g);
	assert_int_equal(g.err, 0);
	lock_check(t);
}

/* Two circles through one grant: who waits in the second is told, too. Who waits for it in none goes on waiting. */
static void a_grant_can_close_two_circles(void **state)
{
	struct lock_wait h[3], g[2];

	for (uint32_t i = 0; i < 3; i++) {
		h[i].want = lk(i, 1, 0, 9, true);
		assert_int_equal(get(lk(i, 1, 20 + i, 20 + i, true)), 0);
	}
	assert_int_equal(get(lk(4, 1, 0, 9, false)), 0);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(lock_enqueue(t, &h[i]), 0);
	for (uint32_t i = 0; i < 2; i++) {
		g[i].want = lk(3, 1, 20 + i, 20 + i, true);
		assert_int_equal(lock_enqueue(t, &g[i]), 0);
	}
	assert_int_equal(get(lk(3, 1, 5, 5, false)), 0);
	for (uint32_t i = 0; i < 2; i++) {
		assert_ptr_equal(lock_next_ended(t), &h[i]);
		assert_int_equal(h[i].err, -EDEADLK);
	}
	assert_null(lock_next_ended(t));
	assert_int_equal(t->waits, 3);
	lock_check(t);
}

#define MANY 2000

/* Owner 1 of node 0 holds single bytes, and for each of them somebody waits. */
static struct lock_wait *many_wait(bool one_process)
{
	struct lock_wait *w = test_calloc(MANY, sizeof(*w));

	lock_init(t, &mem, 3 * MANY, 3 * MANY);
	for (uint64_t i = 0; i < MANY; i++) {
		struct lock l = lk(0, 1, 2 * i, 2 * i, true);

		assert_int_equal(lock_get(t, &l), 0);
		w[i].want = lk(1, one_process ? 1 : i, 2 * i, 2 * i, true);
		assert_int_equal(lock_enqueue(t, &w[i]), 0);
	}
	t->steps = 0;
	return w;
}

/* It stops the whole coordinator for so long: nobody else is to be looked at than who was granted something. */
static void an_unlock_costs_what_it_concerns(void **state)
{
	struct lock_wait *w = many_wait(false);

	assert_int_equal(weaken(lk(0, 1, 100, 100, true), false), 0);
	assert_ptr_equal(lock_next_ended(t), &w[50]);
	assert_null(lock_next_ended(t));
	assert_in_range(t->steps, 1, 100);
	lock_reset(t);
	test_free(w);

	/* Who was granted it waits in many other threads: all that they wait for is looked at, up to a limit. */
	w = many_wait(true);
	assert_int_equal(weaken(lk(0, 1, 100, 100, true), false), 0);
	assert_ptr_equal(lock_next_ended(t), &w[50]);
	assert_null(lock_next_ended(t));
	assert_in_range(t->steps, 1, 200001);
	lock_reset(t);
	test_free(w);
}

/* One unlock lets so many go on that it would take long: in turns with all else. */
static void many_grants_come_in_rounds(void **state)
{
	struct lock_wait *w = test_calloc(MANY, sizeof(*w)), *e;
	uint32_t rounds = 0, i = 0;

	lock_init(t, &mem, 3 * MANY, 3 * MANY);
	assert_int_equal(get(lk(0, 1, 0, 2 * MANY, true)), 0);
	for (uint64_t k = 0; k < MANY; k++) {
		w[k].want = lk(1, k, 2 * k, 2 * k, true);
		assert_int_equal(lock_enqueue(t, &w[k]), 0);
	}
	assert_int_equal(weaken(lk(0, 1, 0, ALL_END, true), false), 0);
	for (; !list_empty(&t->changed); rounds++) {
		while ((e = lock_next_ended(t))) {
			assert_ptr_equal(e, &w[i++]);
			assert_int_equal(e->err, 0);
		}
		lock_check(t);
	}
	assert_int_equal(i, MANY);
	assert_in_range(rounds, 2, 10);
	lock_reset(t);
	test_free(w);
}

static void a_search_for_a_deadlock_has_a_limit(void **state)
{
	struct lock_wait *w = many_wait(true), last = {.want = lk(2, 1, 1, 1, true)};

	assert_int_equal(get(lk(1, 1, 1, 1, true)), 0);
	assert_in_range(t->steps, 1, MANY + 10); /* nobody waits for that */
	t->steps = 0;
	assert_int_equal(lock_enqueue(t, &last), 0);
	assert_in_range(t->steps, 1, 20000);
	t->steps = 0;
	assert_int_equal(get(lk(1, 1, 1, 1, true)), 0);
	assert_in_range(t->steps, 1, 20000);
	lock_reset(t);
	test_free(w);
}

static void a_full_table_says_so_and_changes_nothing(void **state)
{
	lock_init(t, &mem, 6, 4);
	assert_int_equal(get(lk(0, 1, 0, 9, true)), 0);
	assert_int_equal(get(lk(0, 1, 20, 29, true)), 0);
	assert_int_equal(get(lk(0, 1, 40, 49, false)), 0);
	assert_int_equal(get(lk(0, 1, 60, 69, true)), -ENOLCK); /* might need two */
	assert_int_equal(weaken(lk(0, 1, 4, 5, true), false), 0);
	assert_int_equal(get(lk(1, 1, 100, 100, false)), 0);
	assert_int_equal(get(lk(1, 1, 102, 102, false)), 0);
	assert_int_equal(get(lk(2, 1, 104, 104, false)), -ENOLCK);
	/* To let go is allowed even then. */
	assert_int_equal(weaken(lk(0, 1, 24, 25, true), false), 0);
	lock_check(t);
	assert_int_equal(t->count, 7);
}

/* As a node does when its session is new. */
static int reclaim_all(uint32_t idx)
{
	for (struct lock *l = lock_next(t, NULL); l; l = lock_next(t, l)) {
		if (l->key.idx == idx && lock_stage(t, l))
			return -ENOMEM;
	}
	return lock_stage_apply(t, idx);
}

/* It was granted them; that they became more by unlocking is no reason to give it up. */
static void who_has_more_locks_than_the_table_takes_reclaims_them(void **state)
{
	lock_init(t, &mem, 4, 3);
	assert_int_equal(get(lk(0, 1, 0, 99, true)), 0);
	assert_int_equal(get(lk(1, 1, 200, 299, false)), 0);
	for (uint64_t i = 1; i < 9; i++)
		assert_int_equal(weaken(lk(0, 1, 10 * i, 10 * i, true), false), 0);
	assert_int_equal(t->count, 10);
	assert_int_equal(reclaim_all(0), 0);
	lock_check(t);
	assert_int_equal(t->count, 10);
	assert_int_equal(get(lk(1, 1, 11, 11, false)), -EAGAIN);
	assert_int_equal(reclaim_all(1), 0);
	assert_int_equal(t->count, 10);
}

/* Memory that is used up is found when a lock is put aside: what is known of the node stands until it has said all. */
static void a_reclaim_without_memory_loses_nothing(void **state)
{
	struct lock far = lk(0, 1, 500, 599, true);

	for (uint64_t i = 0; i < 9; i++)
		assert_int_equal(get(lk(0, 1, 10 * i, 10 * i + 5, true)), 0);
	while (mem_alloc(&mem, sizeof(struct lock)))
		;
	assert_int_equal(reclaim_all(0), -ENOMEM);
	lock_stage_clear(t, 0);
	lock_check(t);
	assert_int_equal(t->count, 9);
	/* When all is put aside none is needed any more. */
	setup(NULL);
	assert_int_equal(lock_stage(t, &far), 0);
	while (mem_alloc(&mem, 16))
		;
	assert_int_equal(lock_stage_apply(t, 0), 0);
	lock_check(t);
	assert_int_equal(t->count, 1);
}

/* An error of a node, and no reason to end here. */
static void who_contradicts_itself_is_told(void **state)
{
	struct lock a = lk(0, 1, 0, 9, true), b = lk(0, 1, 5, 19, false), c = lk(0, 1, 10, 19, true);

	assert_int_equal(lock_stage(t, &a), 0);
	assert_int_equal(lock_stage(t, &a), 0);
	assert_int_equal(lock_stage_apply(t, 0), 0);
	assert_int_equal(lock_stage(t, &a), 0);
	assert_int_equal(lock_stage(t, &b), 0);
	assert_int_equal(lock_stage(t, &c), 0);
	assert_int_equal(lock_stage_apply(t, 0), -EEXIST);
	lock_check(t);
	assert_int_equal(t->count, 1);
}

/* Until a node has said all that it has, what was known of it stands. */
static void a_reclaim_replaces_what_was_known(void **state)
{
	struct lock a = lk(0, 1, 0, 9, true), b = lk(1, 1, 0, 9, true);

	assert_int_equal(get(lk(0, 1, 0, 19, true)), 0);
	assert_int_equal(lock_stage(t, &a), 0);
	assert_int_equal(get(lk(1, 1, 10, 19, true)), -EAGAIN);
	assert_int_equal(lock_stage_apply(t, 0), 0);
	lock_check(t);
	assert_int_equal(get(lk(1, 1, 10, 19, true)), 0);
	assert_int_equal(lock_stage(t, &b), 0);
	assert_int_equal(lock_stage_apply(t, 1), -EEXIST);
	lock_check(t);
}

/* ------------------------------------------------------------------ against a naive model */

#define POS 24
#define NODES 3
#define OWNERS 2 /* of each kind on each node */
#define KEYS (NODES * OWNERS * 2)
#define WAITS 6

static uint8_t model[2][KEYS][POS]; /* 0 nothing, 1 read, 2 write */
static uint64_t handle[2][KEYS][POS];
static struct lock_wait *mw[WAITS];
static uint32_t mw_order[WAITS], order;

static uint32_t key_nr(const struct lock_key *k)
{
	return (k->idx * OWNERS + (uint32_t)k->owner - 1) * 2 + k->flock;
}

static bool m_against(const struct lock *w, uint32_t k)
{
	uint32_t f = (uint32_t)w->key.ino - 1;

	if (k == key_nr(&w->key) || (k & 1) != w->key.flock)
		return false;
	for (uint64_t i = w->start; i <= w->end && i < POS; i++) {
		if (model[f][k][i] == 2 || (model[f][k][i] && w->write))
			return true;
	}
	return false;
}

static bool m_conflict(const struct lock *w)
{
	for (uint32_t k = 0; k < KEYS; k++) {
		if (m_against(w, k))
			return true;
	}
	return false;
}

static void m_get(const struct lock *w)
{
	uint32_t f = (uint32_t)w->key.ino - 1, k = key_nr(&w->key);
	uint8_t as = w->write ? 2 : 1;

	for (uint64_t i = w->start; i <= w->end && i < POS; i++) {
		handle[f][k][i] = w->handle;
		if (model[f][k][i] < as)
			model[f][k][i] = as;
	}
}

/* Whoever waits, over any number of others, for the owner of `w`. */
static bool m_deadlock(const struct lock *w)
{
	bool reach[KEYS] = {false}, more = true;

	for (uint32_t k = 0; k < KEYS; k++)
		reach[k] = m_against(w, k);
	while (more) {
		more = false;
		for (uint32_t i = 0; i < WAITS; i++) {
			if (!mw[i] || !reach[key_nr(&mw[i]->want.key)])
				continue;
			for (uint32_t k = 0; k < KEYS; k++) {
				if (!reach[k] && m_against(&mw[i]->want, k))
					reach[k] = more = true;
			}
		}
	}
	return reach[key_nr(&w->key)];
}

static void compare(void)
{
	static uint8_t is[2][KEYS][POS];

	memset(is, 0, sizeof(is));
	for (struct lock *l = lock_next(t, NULL); l; l = lock_next(t, l)) {
		uint32_t f = (uint32_t)l->key.ino - 1, k = key_nr(&l->key);

		for (uint64_t i = l->start; i <= l->end && i < POS; i++) {
			is[f][k][i] = l->write ? 2 : 1;
			assert_int_equal(l->handle, handle[f][k][i]);
		}
	}
	assert_memory_equal(is, model, sizeof(is));
	lock_check(t);
}

static void ended_ones(void)
{
	struct lock_wait *w;
	uint32_t last[2] = {0, 0};

	while ((w = lock_next_ended(t))) {
		uint32_t i = 0, f = (uint32_t)w->want.key.ino - 1;

		while (mw[i] != w)
			i++;
		mw[i] = NULL;
		if (w->err == -EDEADLK) {
			assert_true(m_deadlock(&w->want));
		} else {
			assert_int_equal(w->err, 0);
			assert_false(m_conflict(&w->want));
			assert_true(mw_order[i] > last[f]);
			last[f] = mw_order[i];
			m_get(&w->want);
		}
		free(w);
	}
	for (uint32_t i = 0; i < WAITS; i++) {
		if (!mw[i])
			continue;
		assert_true(m_conflict(&mw[i]->want));
		assert_false(!mw[i]->want.key.flock && m_deadlock(&mw[i]->want));
	}
}

static void m_drop(uint32_t f, uint32_t k, uint64_t h)
{
	for (uint32_t i = 0; i < POS; i++) {
		if (h && handle[f][k][i] != h)
			continue;
		model[f][k][i] = 0;
	}
}

static void random_get(struct lock l)
{
	int err = lock_get(t, &l);
	uint32_t i = 0;
	struct lock_wait *w;

	assert_int_equal(err, m_conflict(&l) ? -EAGAIN : 0);
	if (!err)
		m_get(&l);
	while (i < WAITS && mw[i])
		i++;
	if (!err || i == WAITS)
		return;
	w = malloc(sizeof(*w));
	memset(w, 0, sizeof(*w));
	w->want = l;
	err = lock_enqueue(t, w);
	assert_int_equal(err, !l.key.flock && m_deadlock(&l) ? -EDEADLK : 0);
	if (err) {
		free(w);
		return;
	}
	mw[i] = w;
	mw_order[i] = ++order;
}

static void random_op(struct prng *r)
{
	uint64_t a = prng_below(r, POS), b = prng_below(r, POS);
	struct lock l = {.key = {.ino = 1 + prng_below(r, 2),
				 .owner = 1 + prng_below(r, OWNERS),
				 .idx = (uint32_t)prng_below(r, NODES),
				 .flock = prng_below(r, 4) == 0},
		.start = a < b ? a : b,
		.end = a < b ? b : a,
		.write = prng_below(r, 2)};
	uint32_t f = (uint32_t)l.key.ino - 1, k = key_nr(&l.key), i;

	l.handle = 1 + prng_below(r, 2);
	switch (prng_below(r, 12)) {
	case 0: {
		bool to_read = prng_below(r, 2);

		assert_int_equal(lock_weaken(t, &l, to_read), 0);
		for (uint64_t p = l.start; p <= l.end; p++) {
			if (model[f][k][p] > to_read)
				model[f][k][p] = to_read;
		}
		break;
	}
	case 1:
		lock_drop_handle(t, l.key.ino, l.key.idx, l.handle);
		for (k = 0; k < KEYS; k++) {
			if (k / 2 / OWNERS == l.key.idx)
				m_drop(f, k, l.handle);
		}
		break;
	case 2:
		if (prng_below(r, 6))
			return;
		lock_drop_node(t, l.key.idx);
		for (k = 0; k < KEYS; k++) {
			if (k / 2 / OWNERS == l.key.idx) {
				m_drop(0, k, 0);
				m_drop(1, k, 0);
			}
		}
		break;
	case 3:
		i = (uint32_t)prng_below(r, WAITS);
		if (mw[i]) {
			lock_leave(t, mw[i]);
			free(mw[i]);
			mw[i] = NULL;
		}
		break;
	default:
		random_get(l);
		break;
	}
	ended_ones();
	compare();
}
static void like_the_model(void **state)
{
	struct prng r;

	for (uint64_t seed = 1; seed <= 60; seed++) {
		setup(NULL);
		memset(model, 0, sizeof(model));
		r.s = seed;
		for (int i = 0; i < 1500; i++)
			random_op(&r);
		lock_reset(t);
		for (int i = 0; i < WAITS; i++) {
			free(mw[i]);
			mw[i] = NULL;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(nodes_exclude_each_other, setup),
		cmocka_unit_test_setup(flock_and_fcntl_do_not_see_each_other, setup),
		cmocka_unit_test_setup(
			the_late_release_of_an_older_file_leaves_what_a_newer_one_locked, setup),
		cmocka_unit_test_setup(a_read_lock_over_many_of_an_older_file, setup),
		cmocka_unit_test_setup(the_middle_of_a_range_goes_and_comes_back_as_one, setup),
		cmocka_unit_test_setup(waiters_go_on_in_order, setup),
		cmocka_unit_test_setup(who_was_interrupted_gets_nothing, setup),
		cmocka_unit_test_setup(a_circle_over_nodes_and_files_is_seen, setup),
		cmocka_unit_test_setup(a_grant_can_close_a_circle, setup),
		cmocka_unit_test_setup(a_grant_without_a_wait_can_close_a_circle, setup),
		cmocka_unit_test_setup(a_grant_can_close_two_circles, setup),
		cmocka_unit_test_setup(an_unlock_costs_what_it_concerns, setup),
		cmocka_unit_test_setup(many_grants_come_in_rounds, setup),
		cmocka_unit_test_setup(a_search_for_a_deadlock_has_a_limit, setup),
		cmocka_unit_test_setup(a_full_table_says_so_and_changes_nothing, setup),
		cmocka_unit_test_setup(
			who_has_more_locks_than_the_table_takes_reclaims_them, setup),
		cmocka_unit_test_setup(a_reclaim_without_memory_loses_nothing, setup),
		cmocka_unit_test_setup(who_contradicts_itself_is_told, setup),
		cmocka_unit_test_setup(a_reclaim_replaces_what_was_known, setup),
		cmocka_unit_test_setup(like_the_model, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
