/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "coordinator/cache_lease.h"

#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"

#define BIT(idx) (1ull << (idx))
#define BUCKETS 16384u
#define NOBODY NODES_MAX

static uint64_t mix(uint64_t ino)
{
	return ino * 0x9e3779b97f4a7c15ull;
}

static struct list *bucket_of(const struct cache_lease_table *t, uint64_t ino)
{
	return &t->bucket[mix(ino) >> 50];
}
_Static_assert(BUCKETS == 1 << 14, "bucket_of takes the top 14 bits");

static struct cache_lease_slot *slot_of(const struct cache_lease_table *t, uint64_t ino)
{
	return &t->slot[mix(ino) >> 52];
}
_Static_assert(CACHE_LEASE_SLOTS == 1 << 12, "slot_of takes the top 12 bits");

int cache_lease_init(struct cache_lease_table *t, struct mem *mem)
{
	memset(t, 0, sizeof(*t));
	t->mem = mem;
	t->bucket = mem_alloc(mem, BUCKETS * sizeof(*t->bucket));
	t->slot = mem_alloc(mem, CACHE_LEASE_SLOTS * sizeof(*t->slot));
	list_init(&t->age);
	list_init(&t->asked);
	if (!t->bucket || !t->slot)
		return -ENOMEM;
	for (uint32_t i = 0; i < BUCKETS; i++)
		list_init(&t->bucket[i]);
	return 0;
}

static struct cache_lease *find(const struct cache_lease_table *t, uint64_t ino)
{
	list_for_each_entry (e, bucket_of(t, ino), struct cache_lease, hash) {
		if (e->ino == ino)
			return e;
	}
	return NULL;
}

static void take_from(struct cache_lease_table *t, struct cache_lease *e, uint64_t nodes)
{
	t->freed |= (e->asks & nodes) != 0;
	e->holders &= ~nodes;
	e->asks &= ~nodes;
	e->unsent &= ~nodes;
	if (e->holders && !e->asks && !list_empty(&e->asked)) {
		list_del(&e->asked);
		list_add_tail(&e->age, &t->age);
	}
	if (e->holders)
		return;
	list_del(&e->hash);
	list_del(&e->age);
	list_del(&e->asked);
	t->count--;
	mem_free(t->mem, e, sizeof(*e));
}

void cache_lease_reset(struct cache_lease_table *t)
{
	for (uint32_t i = 0; i < BUCKETS && t->count; i++) {
		list_for_each_entry_safe (e, tmp, &t->bucket[i], struct cache_lease, hash)
			take_from(t, e, e->holders);
	}
	memset(t->slot, 0, CACHE_LEASE_SLOTS * sizeof(*t->slot));
	memset(t->over_ns, 0, sizeof(t->over_ns));
	t->freed = false;
}

/* C2: whatever becomes of the message. A PING answered behind it gives nothing before it has been read. */
static void ask(struct cache_lease_table *t, struct cache_lease *e, uint64_t nodes, uint64_t now_ns)
{
	nodes &= e->holders & ~e->asks;
	if (!nodes)
		return;
	/* C4. Who is asked again before all of these have forgotten it has answered since, or has another session. */
	if (!e->asks)
		e->nr = ++t->asks_made;
	e->asks |= nodes;
	e->unsent |= nodes;
	e->until_ns = now_ns + CACHE_LEASE_OVER_NS;
	t->recalled++;
	list_del(&e->age);
	list_del(&e->asked);
	list_add_tail(&e->asked, &t->asked);
}

bool cache_lease_change(struct cache_lease_table *t, uint64_t ino, uint64_t but, uint64_t now_ns)
{
	struct cache_lease *e = find(t, ino);

	if (!e || !(e->holders & ~but))
		return true;
	ask(t, e, e->holders & ~but, now_ns);
	slot_of(t, ino)->cool_until_ns = now_ns + CACHE_LEASE_COOL_NS;
	return false;
}

uint64_t cache_lease_changed(struct cache_lease_table *t, uint64_t ino, uint32_t idx)
{
	struct cache_lease_slot *s = slot_of(t, ino);

	if (s->by != idx) {
		s->of_others = s->newest;
		s->by = idx;
	}
	s->newest = ++t->changes;
	return s->newest;
}

void cache_lease_wait(struct cache_lease_table *t, uint64_t ino, bool begins)
{
	struct cache_lease_slot *s = slot_of(t, ino);

	csv_assert(begins || s->waits);
	s->waits += begins ? 1 : -1u;
}

/* The table is full: what was given first is asked back, and then there is room. */
static bool make_room(struct cache_lease_table *t, uint64_t now_ns)
{
	if (t->count < CACHE_LEASE_INODES_MAX)
		return true;
	if (!list_empty(&t->age)) {
		struct cache_lease *e = list_first_entry(&t->age, struct cache_lease, age);

		ask(t, e, e->holders, now_ns);
	}
	return false;
}

static struct cache_lease *make(struct cache_lease_table *t, uint64_t ino, uint64_t now_ns)
{
	struct cache_lease *e = make_room(t, now_ns) ? mem_alloc(t->mem, sizeof(*e)) : NULL;

	if (!e)
		return NULL;
	e->ino = ino;
	list_init(&e->asked);
	list_add_tail(&e->age, &t->age);
	list_add(&e->hash, bucket_of(t, ino));
	t->count++;
	return e;
}

bool cache_lease_grant(struct cache_lease_table *t, uint64_t ino, uint32_t idx, uint64_t seen,
	bool own_too, uint64_t now_ns)
{
	const struct cache_lease_slot *s = slot_of(t, ino);
	uint64_t newest = s->by == idx && !own_too ? s->of_others : s->newest;
	struct cache_lease *e;

	csv_assert(idx < NODES_MAX);
	if (newest > seen || s->waits || now_ns < s->cool_until_ns)
		return false;
	e = find(t, ino);
	if (e && (e->asks & BIT(idx)))
		return false;
	if (!e)
		e = make(t, ino, now_ns);
	if (!e)
		return false;
	e->holders |= BIT(idx);
	t->granted++;
	return true;
}

void cache_lease_gone(struct cache_lease_table *t, uint64_t ino, uint32_t idx, uint64_t nr)
{
	struct cache_lease *e = find(t, ino);

	/* It can forget only what it was asked for: what else it had, it may have been given since. */
	if (e && (e->asks & BIT(idx)) && nr >= e->nr && nr <= t->asks_made)
		take_from(t, e, BIT(idx));
}

void cache_lease_drop_node(struct cache_lease_table *t, uint32_t idx)
{
	t->life[idx]++;
	t->over_ns[idx] = 0;
	for (uint32_t i = 0; i < BUCKETS && t->count; i++) {
		list_for_each_entry_safe (e, tmp, &t->bucket[i], struct cache_lease, hash) {
			if (e->holders & BIT(idx))
				take_from(t, e, BIT(idx));
		}
	}
}

void cache_lease_cut(struct cache_lease_table *t, uint32_t idx, uint64_t now_ns)
{
	t->over_ns[idx] = now_ns + CACHE_LEASE_OVER_NS;
}

void cache_lease_step(struct cache_lease_table *t, uint64_t now_ns)
{
	for (uint32_t i = 0; i < NODES_MAX; i++) {
		if (t->over_ns[i] && now_ns >= t->over_ns[i])
			cache_lease_drop_node(t, i);
	}
	list_for_each_entry_safe (e, tmp, &t->asked, struct cache_lease, asked) {
		if (now_ns >= e->until_ns)
			take_from(t, e, e->asks);
	}
}

uint64_t cache_lease_deadline(const struct cache_lease_table *t)
{
	uint64_t d = NEVER;

	for (uint32_t i = 0; i < NODES_MAX; i++) {
		if (t->over_ns[i] && t->over_ns[i] < d)
			d = t->over_ns[i];
	}
	list_for_each_entry (e, &t->asked, struct cache_lease, asked) {
		if (e->unsent)
			return 0;
		if (e->until_ns < d)
			d = e->until_ns;
	}
	return d;
}

uint32_t cache_lease_unsent(
	struct cache_lease_table *t, uint32_t idx, uint64_t *inos, uint32_t room, uint64_t *nr)
{
	uint32_t n = 0;

	*nr = t->asks_made;
	list_for_each_entry (e, &t->asked, struct cache_lease, asked) {
		if (n == room)
			break;
		if (!(e->unsent & BIT(idx)))
			continue;
		e->unsent &= ~BIT(idx);
		inos[n++] = e->ino;
	}
	return n;
}

static void check(const struct cache_lease_table *t, const struct cache_lease *e)
{
	csv_assert(find(t, e->ino) == e);
	csv_assert(e->holders); /* C3 */
	csv_assert(!(e->asks & ~e->holders)); /* C1 */
	csv_assert(!(e->unsent & ~e->asks));
	csv_assert(e->nr <= t->asks_made);
}

/* Each is on one of the two lists (C2); the buckets are many, and mostly empty. */
void cache_lease_check(const struct cache_lease_table *t)
{
	uint32_t count = 0;

	list_for_each_entry (e, &t->age, struct cache_lease, age) {
		check(t, e);
		csv_assert(!e->asks);
		count++;
	}
	list_for_each_entry (e, &t->asked, struct cache_lease, asked) {
		check(t, e);
		csv_assert(e->asks);
		count++;
	}
	csv_assert(count == t->count);
}
