/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lock.c - see lock.h. */
#include "coordinator/lock.h"

#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"

/*
 * So many locks and waits are looked at for deadlocks: when somebody begins to wait, and when an inode's locks have
 * changed. What is not found by then is not refused: they wait, and can be interrupted.
 */
#define SEARCH_MAX 20000
#define SEARCH_GRANTS_MAX (10 * SEARCH_MAX)

/* What is tried again in one round: each try walks along locks, and the coordinator has one thread. */
#define ROUND_STEPS 1000000

static uint64_t mix(uint64_t x)
{
	return x * 0x9e3779b97f4a7c15ull;
}

static struct list *bucket_of(const struct lock_table *t, uint64_t ino)
{
	return (struct list *)(uintptr_t)&t->bucket[mix(ino) >> 54];
}
_Static_assert(LOCK_BUCKETS == 1 << 10, "bucket_of takes the top 10 bits");

static struct list *wait_bucket_of(const struct lock_table *t, const struct lock_key *k)
{
	return (struct list *)(uintptr_t)&t->wait_bucket[mix(k->owner + k->idx) >> 56];
}
_Static_assert(LOCK_WAIT_BUCKETS == 1 << 8, "wait_bucket_of takes the top 8 bits");

void lock_init(struct lock_table *t, struct mem *mem, uint32_t limit, uint32_t node_limit)
{
	memset(t, 0, sizeof(*t));
	t->mem = mem;
	t->limit = limit;
	t->node_limit = node_limit;
	for (unsigned i = 0; i < LOCK_BUCKETS; i++)
		list_init(&t->bucket[i]);
	for (unsigned i = 0; i < LOCK_WAIT_BUCKETS; i++)
		list_init(&t->wait_bucket[i]);
	for (unsigned i = 0; i < NODES_MAX; i++)
		list_init(&t->staged[i]);
	list_init(&t->changed);
	list_init(&t->ended);
}

/* ------------------------------------------------------------------ inodes and owners */

static struct lock_ino *ino_find(const struct lock_table *t, uint64_t ino)
{
	list_for_each_entry (li, bucket_of(t, ino), struct lock_ino, hash) {
		if (li->ino == ino)
			return li;
	}
	return NULL;
}

static struct lock_ino *ino_get(struct lock_table *t, uint64_t ino)
{
	struct lock_ino *li = ino_find(t, ino);

	if (li)
		return li;
	li = mem_alloc(t->mem, sizeof(*li));
	if (!li)
		return NULL;
	li->ino = ino;
	list_init(&li->held);
	list_init(&li->waiting);
	list_init(&li->changed);
	list_add(&li->hash, bucket_of(t, ino));
	return li;
}

static void ino_put(struct lock_table *t, struct lock_ino *li)
{
	if (!list_empty(&li->held) || !list_empty(&li->waiting) || li->staged)
		return;
	list_del(&li->hash);
	list_del(&li->changed);
	mem_free(t->mem, li, sizeof(*li));
}

static bool same_owner(const struct lock_key *a, const struct lock_key *b)
{
	return a->owner == b->owner && a->idx == b->idx && a->flock == b->flock;
}

static bool overlap(const struct lock *a, const struct lock *b)
{
	return a->start <= b->end && b->start <= a->end;
}

static bool against(const struct lock *a, const struct lock *b)
{
	return a->key.flock == b->key.flock && overlap(a, b) && (a->write || b->write) &&
	       !same_owner(&a->key, &b->key);
}

/* Somebody has let go of what lies from start to end: who waits for a part of that may go on. */
static void ino_changed(struct lock_table *t, struct lock_ino *li, uint64_t start, uint64_t end)
{
	list_for_each_entry (w, &li->waiting, struct lock_wait, link) {
		if (w->want.start > end || start > w->want.end)
			continue;
		w->again = true;
		if (list_empty(&li->changed))
			list_add_tail(&li->changed, &t->changed);
	}
}

static const struct lock *conflict_in(const struct lock_ino *li, const struct lock *want)
{
	list_for_each_entry (l, &li->held, struct lock, link) {
		if (l->start > want->end)
			break;
		if (against(l, want))
			return l;
	}
	return NULL;
}

const struct lock *lock_conflict(const struct lock_table *t, const struct lock *want)
{
	const struct lock_ino *li = ino_find(t, want->key.ino);

	return li ? conflict_in(li, want) : NULL;
}

bool lock_has(const struct lock_table *t, const struct lock *want, bool write)
{
	const struct lock_ino *li = ino_find(t, want->key.ino);

	if (!li)
		return false;
	list_for_each_entry (l, &li->held, struct lock, link) {
		if (same_owner(&l->key, &want->key) && l->write == write && overlap(l, want))
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------ held ranges */

static void held_free(struct lock_table *t, struct lock *l)
{
	list_del(&l->link);
	t->count--;
	t->node_count[l->key.idx]--;
	mem_free(t->mem, l, sizeof(*l));
}

/* Memory for what an operation may need, before it changes anything. */
int lock_reserve(struct lock_table *t, struct list *spare, uint32_t n)
{
	while (n--) {
		struct lock *l = mem_alloc(t->mem, sizeof(*l));

		if (!l)
			return -ENOLCK;
		list_add(&l->link, spare);
	}
	return 0;
}

void lock_unreserve(struct lock_table *t, struct list *spare)
{
	list_for_each_entry_safe (l, tmp, spare, struct lock, link) {
		list_del(&l->link);
		mem_free(t->mem, l, sizeof(*l));
	}
}

/* By where they begin. */
static void place(struct lock_ino *li, struct lock *l)
{
	struct list *at = &li->held;

	list_del(&l->link);
	while (at->prev != &li->held && list_entry(at->prev, struct lock, link)->start > l->start)
		at = at->prev;
	list_add_tail(&l->link, at);
}

static void put_in(struct lock_table *t, struct lock_ino *li, struct lock *l)
{
	place(li, l);
	t->count++;
	t->node_count[l->key.idx]++;
}

static void held_add(struct lock_table *t, struct lock_ino *li, struct list *spare,
	const struct lock *from, uint64_t start, uint64_t end, bool write)
{
	struct lock *l;

	csv_assert(!list_empty(spare));
	l = list_first_entry(spare, struct lock, link);
	list_del(&l->link);
	*l = *from;
	l->start = start;
	l->end = end;
	l->write = write;
	list_init(&l->link);
	put_in(t, li, l);
}

/* K2: what could be one is one. */
static void merge(struct lock_table *t, struct lock_ino *li, const struct lock_key *k)
{
	struct lock *last = NULL;

	list_for_each_entry_safe (l, tmp, &li->held, struct lock, link) {
		if (!same_owner(&l->key, k))
			continue;
		if (last && last->write == l->write && last->handle == l->handle &&
			last->end + 1 == l->start) {
			last->end = l->end;
			held_free(t, l);
			continue;
		}
		last = l;
	}
}

/* Cuts [start, end] out of one lock: nothing, a head, a tail, or both are left. */
static void cut(struct lock_table *t, struct lock_ino *li, struct list *spare, struct lock *l,
	uint64_t start, uint64_t end)
{
	uint64_t old_end = l->end;

	if (l->start < start && old_end > end) {
		l->end = start - 1;
		held_add(t, li, spare, l, end + 1, old_end, l->write);
	} else if (l->start < start) {
		l->end = start - 1;
	} else if (old_end > end) {
		l->start = end + 1;
		place(li, l);
	} else {
		held_free(t, l);
	}
}

static uint32_t own_in(const struct lock_ino *li, const struct lock *want)
{
	uint32_t n = 0;

	list_for_each_entry (l, &li->held, struct lock, link)
		n += same_owner(&l->key, &want->key) && overlap(l, want);
	return n;
}

/* A lock becomes the part of it that lies within `want`; a head, a tail, or both stay what it was. */
static void split(struct lock_table *t, struct lock_ino *li, struct list *spare, struct lock *l,
	const struct lock *want)
{
	struct lock was = *l;

	if (was.start < want->start)
		held_add(t, li, spare, &was, was.start, want->start - 1, was.write);
	if (was.end > want->end)
		held_add(t, li, spare, &was, want->end + 1, was.end, was.write);
	l->start = was.start > want->start ? was.start : want->start;
	l->end = was.end < want->end ? was.end : want->end;
	place(li, l);
}

static bool retagged(const struct lock *l, const struct lock *want)
{
	return same_owner(&l->key, &want->key) && overlap(l, want) && l->handle != want->handle;
}

static uint32_t retags_needed(const struct lock_ino *li, const struct lock *want)
{
	uint32_t n = 0;

	list_for_each_entry (l, &li->held, struct lock, link) {
		if (retagged(l, want))
			n += (l->start < want->start) + (l->end > want->end);
	}
	return n;
}

/*
 * What the owner holds of it goes with this open file from now on. Else the late RELEASE of an older one, at whose
 * address the kernel has the newer one now (the owner of an OFD lock and of flock), would take what was granted.
 */
static void retag(
	struct lock_table *t, struct lock_ino *li, struct list *spare, const struct lock *want)
{
	list_for_each_entry_safe (l, tmp, &li->held, struct lock, link) {
		if (!retagged(l, want))
			continue;
		split(t, li, spare, l, want);
		l->handle = want->handle;
		l->pid = want->pid;
	}
}

/* A read lock wherever the owner holds nothing: what is held for writing stays so. */
static void fill(
	struct lock_table *t, struct lock_ino *li, struct list *spare, const struct lock *want)
{
	uint64_t at = want->start;

	list_for_each_entry (l, &li->held, struct lock, link) {
		if (!same_owner(&l->key, &want->key) || !overlap(l, want))
			continue;
		if (l->start > at)
			held_add(t, li, spare, want, at, l->start - 1, false);
		at = l->end + 1;
	}
	if (at <= want->end)
		held_add(t, li, spare, want, at, want->end, false);
}

/* The owner holds all of it already, through this open file. */
static bool covered(const struct lock_ino *li, const struct lock *want)
{
	uint64_t at = want->start;

	list_for_each_entry (l, &li->held, struct lock, link) {
		if (!same_owner(&l->key, &want->key) || !overlap(l, want))
			continue;
		if (l->start > at || (want->write && !l->write) || l->handle != want->handle)
			return false;
		at = l->end + 1;
	}
	return at > want->end;
}

/* Nothing stands against it. */
static int take(struct lock_table *t, struct lock_ino *li, const struct lock *want)
{
	struct list spare;
	uint32_t need;
	int err;

	if (covered(li, want))
		return 0;
	list_init(&spare);
	need = want->write ? 2 : own_in(li, want) + 1 + retags_needed(li, want);
	if (t->count + need > t->limit || t->node_count[want->key.idx] + need > t->node_limit)
		err = -ENOLCK;
	else
		err = lock_reserve(t, &spare, need);
	if (!err && want->write) {
		list_for_each_entry_safe (l, tmp, &li->held, struct lock, link) {
			if (same_owner(&l->key, &want->key) && overlap(l, want))
				cut(t, li, &spare, l, want->start, want->end);
		}
		held_add(t, li, &spare, want, want->start, want->end, true);
	} else if (!err) {
		retag(t, li, &spare, want);
		fill(t, li, &spare, want);
	}
	lock_unreserve(t, &spare);
	merge(t, li, &want->key);
	return err;
}

static uint32_t cuts_needed(const struct lock_ino *li, const struct lock *want, bool to_read)
{
	uint32_t n = 0;

	list_for_each_entry (l, &li->held, struct lock, link) {
		if (!same_owner(&l->key, &want->key) || !overlap(l, want) || (to_read && !l->write))
			continue;
		if (to_read)
			n += (l->start < want->start) + (l->end > want->end);
		else
			n += l->start < want->start && l->end > want->end;
	}
	return n;
}

static void weaken_one(struct lock_table *t, struct lock_ino *li, struct list *spare,
	struct lock *l, const struct lock *want, bool to_read)
{
	if (!to_read) {
		cut(t, li, spare, l, want->start, want->end);
		return;
	}
	split(t, li, spare, l, want);
	l->write = false;
}

int lock_weaken(struct lock_table *t, const struct lock *want, bool to_read)
{
	struct lock_ino *li = ino_find(t, want->key.ino);
	struct list spare;
	int err;

	csv_assert(want->start <= want->end);
	if (!li || !own_in(li, want))
		return 0;
	list_init(&spare);
	err = lock_reserve(t, &spare, cuts_needed(li, want, to_read));
	if (err) {
		lock_unreserve(t, &spare);
		return err;
	}
	list_for_each_entry_safe (l, tmp, &li->held, struct lock, link) {
		if (same_owner(&l->key, &want->key) && overlap(l, want) && (l->write || !to_read))
			weaken_one(t, li, &spare, l, want, to_read);
	}
	csv_assert(list_empty(&spare));
	merge(t, li, &want->key);
	ino_changed(t, li, want->start, want->end);
	ino_put(t, li);
	return 0;
}

/* All that was taken through `handle`; NULL: all of the node. */
static void drop_from(
	struct lock_table *t, struct lock_ino *li, uint32_t idx, const uint64_t *handle)
{
	uint64_t start = UINT64_MAX, end = 0;

	list_for_each_entry_safe (l, tmp, &li->held, struct lock, link) {
		if (l->key.idx != idx || (handle && l->handle != *handle))
			continue;
		if (l->start < start)
			start = l->start;
		if (l->end > end)
			end = l->end;
		held_free(t, l);
	}
	if (start <= end)
		ino_changed(t, li, start, end);
	ino_put(t, li);
}

void lock_drop_handle(struct lock_table *t, uint64_t ino, uint32_t idx, uint64_t handle)
{
	struct lock_ino *li = ino_find(t, ino);

	if (li)
		drop_from(t, li, idx, &handle);
}

void lock_drop_node(struct lock_table *t, uint32_t idx)
{
	for (unsigned b = 0; b < LOCK_BUCKETS && t->node_count[idx]; b++) {
		list_for_each_entry_safe (li, tmp, &t->bucket[b], struct lock_ino, hash)
			drop_from(t, li, idx, NULL);
	}
	csv_assert(!t->node_count[idx]);
}

/* ------------------------------------------------------------------ waiting */

static bool waits(const struct lock_wait *w)
{
	return !list_empty(&w->link);
}

static bool spend(struct lock_table *t, uint32_t *left)
{
	if (!*left)
		return false;
	--*left;
	t->steps++;
	return true;
}

/* All that the owner waits for has to be followed; each once. */
static void follow_later(
	struct lock_table *t, const struct lock_key *k, struct list *todo, uint32_t *left)
{
	list_for_each_entry (w, wait_bucket_of(t, k), struct lock_wait, hash) {
		if (!spend(t, left))
			return;
		if (w->seen == t->searches || !same_owner(&w->want.key, k))
			continue;
		w->seen = t->searches;
		list_add(&w->ended, todo);
	}
}

/*
 * Does one of those in `todo` (a stack made of their own `ended` links) wait, over others maybe, for `whom`? NULL:
 * all are followed, and are `seen` by this search.
 */
static bool leads_to(
	struct lock_table *t, struct list *todo, const struct lock_key *whom, uint32_t *left)
{
	bool found = false;

	while (!list_empty(todo) && *left && !found) {
		struct lock_wait *at = list_first_entry(todo, struct lock_wait, ended);
		const struct lock_ino *li = ino_find(t, at->want.key.ino);
		const struct lock_key *last = NULL;

		list_del(&at->ended);
		list_for_each_entry (l, &li->held, struct lock, link) {
			if (found || l->start > at->want.end || !spend(t, left))
				break;
			if (!against(l, &at->want) || (last && same_owner(last, &l->key)))
				continue;
			last = &l->key;
			found = whom && same_owner(last, whom);
			follow_later(t, last, todo, left);
		}
	}
	while (!list_empty(todo))
		list_del(todo->next);
	return found;
}

/* Does somebody whom `w` waits for wait, over others maybe, for `w`'s owner? */
static bool deadlock(struct lock_table *t, struct lock_wait *w)
{
	struct list todo;
	uint32_t left = SEARCH_MAX;

	list_init(&todo);
	w->seen = ++t->searches;
	list_add(&w->ended, &todo);
	return leads_to(t, &todo, &w->want.key, &left);
}

int lock_enqueue(struct lock_table *t, struct lock_wait *w)
{
	struct lock_ino *li = ino_find(t, w->want.key.ino);

	csv_assert(li && conflict_in(li, &w->want));
	list_init(&w->link);
	list_init(&w->hash);
	list_init(&w->ended);
	w->err = 0;
	w->again = false;
	w->seen = 0;
	if (!w->want.key.flock && deadlock(t, w))
		return -EDEADLK;
	list_add_tail(&w->link, &li->waiting);
	list_add_tail(&w->hash, wait_bucket_of(t, &w->want.key));
	t->waits++;
	return 0;
}

void lock_leave(struct lock_table *t, struct lock_wait *w)
{
	struct lock_ino *li;

	list_del(&w->ended);
	if (!waits(w))
		return;
	list_del(&w->link);
	list_del(&w->hash);
	t->waits--;
	li = ino_find(t, w->want.key.ino);
	csv_assert(li);
	ino_put(t, li);
}

static void end_wait(struct lock_table *t, struct lock_wait *w, int err)
{
	list_del(&w->link);
	list_del(&w->hash);
	t->waits--;
	w->err = err;
	list_add_tail(&w->ended, &t->ended);
}

/* Nearly always one of the two waits for nothing. */
static bool may_close(
	struct lock_table *t, const struct lock_ino *li, const struct lock *got, uint32_t *left)
{
	bool owner = false, for_it = false;

	list_for_each_entry (w, wait_bucket_of(t, &got->key), struct lock_wait, hash) {
		if (owner || !spend(t, left))
			break;
		owner = same_owner(&w->want.key, &got->key);
	}
	list_for_each_entry (w, &li->waiting, struct lock_wait, link) {
		if (!owner || for_it || !spend(t, left))
			break;
		for_it = against(got, &w->want);
	}
	return for_it;
}

/* Who waits for `got`, and is waited for, over others maybe, by the owner of it. */
static struct lock_wait *in_circle(
	struct lock_table *t, const struct lock_ino *li, const struct lock *got, uint32_t *left)
{
	struct list todo;

	if (!may_close(t, li, got, left))
		return NULL;
	list_init(&todo);
	t->searches++;
	follow_later(t, &got->key, &todo, left);
	(void)leads_to(t, &todo, NULL, left);
	/* Also if it has not come to an end: what it has seen is true. */
	list_for_each_entry (w, &li->waiting, struct lock_wait, link) {
		(void)spend(t, left);
		if (w->seen == t->searches && against(got, &w->want))
			return w;
	}
	return NULL;
}

/*
 * A grant closes a circle if its owner waits elsewhere, and somebody in that circle waits for what was granted. That one
 * is refused: in Linux it would find the circle when it tries again.
 */
static void refuse_circles(
	struct lock_table *t, const struct lock_ino *li, const struct lock *got, uint32_t *left)
{
	struct lock_wait *w;

	while (!got->key.flock && *left && (w = in_circle(t, li, got, left)))
		end_wait(t, w, -EDEADLK);
}

int lock_get(struct lock_table *t, const struct lock *want)
{
	uint32_t left = SEARCH_MAX;
	struct lock_ino *li;
	int err;

	csv_assert(want->start <= want->end);
	csv_assert(want->key.idx < NODES_MAX);
	li = ino_get(t, want->key.ino);
	if (!li)
		return -ENOLCK;
	err = conflict_in(li, want) ? -EAGAIN : take(t, li, want);
	if (!err && !list_empty(&li->waiting))
		refuse_circles(t, li, want, &left);
	ino_put(t, li);
	return err;
}

static bool round_over(const struct lock_table *t)
{
	return t->tries > ROUND_STEPS / (t->count + 1);
}

/* In order of arrival. What is left when the round is over is still to be looked at `again`. */
static void look_again(struct lock_table *t, struct lock_ino *li)
{
	uint32_t left = SEARCH_GRANTS_MAX;
	bool all = true;

	csv_assert(list_empty(&t->ended));
	list_for_each_entry_safe (w, tmp, &li->waiting, struct lock_wait, link) {
		if (!w->again)
			continue;
		all = !round_over(t);
		if (!all)
			break;
		w->again = false;
		t->tries++;
		t->steps++;
		if (!conflict_in(li, &w->want))
			end_wait(t, w, take(t, li, &w->want));
	}
	list_del(&li->changed);
	if (!all)
		list_add_tail(&li->changed, &t->changed);
	list_for_each_entry_safe (w, tmp, &t->ended, struct lock_wait, ended) {
		if (!w->err)
			refuse_circles(t, li, &w->want, &left);
	}
}

struct lock_wait *lock_next_ended(struct lock_table *t)
{
	struct lock_wait *w;

	while (list_empty(&t->ended) && !list_empty(&t->changed) && !round_over(t)) {
		struct lock_ino *li = list_first_entry(&t->changed, struct lock_ino, changed);

		look_again(t, li);
		ino_put(t, li);
	}
	if (list_empty(&t->ended)) {
		t->tries = 0;
		return NULL;
	}
	w = list_first_entry(&t->ended, struct lock_wait, ended);
	list_del(&w->ended);
	return w;
}

bool lock_splits(const struct lock_table *t, const struct lock *want)
{
	const struct lock_ino *li = ino_find(t, want->key.ino);

	return li && cuts_needed(li, want, false);
}

bool lock_lacks(
	const struct lock_table *t, const struct lock *want, struct lock *part, bool *to_read)
{
	const struct lock_ino *li = ino_find(t, want->key.ino);

	*to_read = false;
	if (part->start > want->end)
		return false;
	part->end = want->end;
	if (!li)
		return true;
	list_for_each_entry (l, &li->held, struct lock, link) {
		if (!same_owner(&l->key, &want->key) || !overlap(l, part))
			continue;
		if (l->start > part->start) {
			part->end = l->start - 1;
			return true;
		}
		*to_read = want->write && !l->write;
		if (*to_read && l->end < want->end)
			part->end = l->end;
		if (*to_read || l->end >= want->end)
			return *to_read;
		part->start = l->end + 1;
	}
	return true;
}

/* ------------------------------------------------------------------ reclaim */

/* The inode stays, too: to apply it needs no memory. */
int lock_stage(struct lock_table *t, const struct lock *l)
{
	struct lock_ino *li;
	struct lock *s;

	csv_assert(l->key.idx < NODES_MAX);
	csv_assert(l->start <= l->end);
	li = ino_get(t, l->key.ino);
	if (!li)
		return -ENOMEM;
	s = mem_alloc(t->mem, sizeof(*s));
	if (!s) {
		ino_put(t, li);
		return -ENOMEM;
	}
	*s = *l;
	list_add_tail(&s->link, &t->staged[l->key.idx]);
	li->staged++;
	return 0;
}

void lock_stage_clear(struct lock_table *t, uint32_t idx)
{
	list_for_each_entry_safe (l, tmp, &t->staged[idx], struct lock, link) {
		struct lock_ino *li = ino_find(t, l->key.ino);

		list_del(&l->link);
		li->staged--;
		ino_put(t, li);
		mem_free(t->mem, l, sizeof(*l));
	}
}

int lock_stage_apply(struct lock_table *t, uint32_t idx)
{
	int err = 0;

	lock_drop_node(t, idx);
	list_for_each_entry_safe (l, tmp, &t->staged[idx], struct lock, link) {
		struct lock_ino *li = ino_find(t, l->key.ino);
		struct lock_key key = l->key;

		if (covered(li, l))
			continue; /* said twice */
		/* By K2 nobody's own overlap: who claims that is in error as well. */
		if (conflict_in(li, l) || own_in(li, l)) {
			err = -EEXIST;
			continue;
		}
		li->staged--;
		put_in(t, li, l);
		merge(t, li, &key);
	}
	lock_stage_clear(t, idx);
	return err;
}

/* ------------------------------------------------------------------ all of it */

struct lock *lock_next(const struct lock_table *t, const struct lock *prev)
{
	struct list *b =
		prev ? bucket_of(t, prev->key.ino) : (struct list *)(uintptr_t)&t->bucket[0];
	const struct list *end = &t->bucket[LOCK_BUCKETS];
	const struct list *at;

	if (prev) {
		const struct lock_ino *li = ino_find(t, prev->key.ino);

		if (prev->link.next != &li->held)
			return list_entry(prev->link.next, struct lock, link);
		at = li->hash.next;
	} else {
		at = b->next;
	}
	for (;;) {
		for (; at != b; at = at->next) {
			struct lock_ino *li = list_entry(at, struct lock_ino, hash);

			if (!list_empty(&li->held))
				return list_first_entry(&li->held, struct lock, link);
		}
		if (++b == end)
			return NULL;
		at = b->next;
	}
}

void lock_reset(struct lock_table *t)
{
	for (unsigned b = 0; b < LOCK_BUCKETS; b++) {
		list_for_each_entry_safe (li, tmp, &t->bucket[b], struct lock_ino, hash) {
			list_for_each_entry_safe (w, tmp2, &li->waiting, struct lock_wait, link) {
				list_del(&w->link);
				list_del(&w->hash);
				t->waits--;
			}
			list_for_each_entry_safe (l, tmp3, &li->held, struct lock, link)
				held_free(t, l);
			ino_put(t, li);
		}
	}
	while (!list_empty(&t->ended))
		list_del(t->ended.next);
	for (uint32_t i = 0; i < NODES_MAX; i++)
		lock_stage_clear(t, i);
	csv_assert(!t->count && !t->waits);
}

static uint32_t check_ino(const struct lock_ino *li, uint32_t *node_count)
{
	uint32_t n = 0;
	uint64_t begun = 0;

	csv_assert(!list_empty(&li->held) || !list_empty(&li->waiting) || li->staged);
	list_for_each_entry (a, &li->held, struct lock, link) {
		csv_assert(a->key.ino == li->ino);
		csv_assert(a->start <= a->end);
		csv_assert(a->start >= begun);
		begun = a->start;
		n++;
		node_count[a->key.idx]++;
		for (const struct list *x = a->link.next; x != &li->held; x = x->next) {
			const struct lock *b = list_entry(x, struct lock, link);
			bool twin = same_owner(&a->key, &b->key) && a->write == b->write &&
				    a->handle == b->handle;

			csv_assert(!against(a, b)); /* K1 */
			csv_assert(!same_owner(&a->key, &b->key) || !overlap(a, b)); /* K2 */
			csv_assert(!twin || (a->end + 1 != b->start && b->end + 1 != a->start));
		}
	}
	list_for_each_entry (w, &li->waiting, struct lock_wait, link) {
		csv_assert(w->again || conflict_in(li, &w->want)); /* K3 */
		csv_assert(!w->again || !list_empty(&li->changed));
	}
	return n;
}

void lock_check(const struct lock_table *t)
{
	uint32_t n = 0, waiting = 0, node_count[NODES_MAX] = {0};

	/* Of those who coordinate nothing most have none; K4 is all there is to be said of it then. */
	for (unsigned b = 0; b < LOCK_BUCKETS && (t->count || t->waits); b++) {
		list_for_each_entry (li, &t->bucket[b], struct lock_ino, hash)
			n += check_ino(li, node_count);
	}
	for (unsigned b = 0; b < LOCK_WAIT_BUCKETS && t->waits; b++) {
		list_for_each_entry (w, &t->wait_bucket[b], struct lock_wait, hash)
			waiting += waits(w);
	}
	csv_assert(n == t->count); /* K4 */
	csv_assert(waiting == t->waits);
	for (uint32_t i = 0; i < NODES_MAX; i++)
		csv_assert(node_count[i] == t->node_count[i]);
}
