/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cache.c - cached metadata blocks, found by number.
 *
 * A block is on the LRU list exactly while it may be evicted: valid, in its place on the LUN, not part
 * of a transaction, not pinned. So a search for room never walks over blocks that must stay.
 */
#include "metadata/engine.h"

int cache_create(struct vol *v)
{
	struct cache *c = &v->cache;
	uint32_t n = 256;

	list_init(&c->lru);
	c->max = (uint32_t)(v->cfg.cache_bytes / BLOCK_SIZE);
	while (n < c->max && n < (1u << 19))
		n <<= 1;
	c->mask = n - 1;
	c->buckets = mem_alloc(v->cfg.mem, n * sizeof(*c->buckets));
	return c->buckets ? 0 : -ENOMEM;
}

static uint32_t bucket_of(const struct cache *c, uint64_t blkno)
{
	return (uint32_t)((blkno * 0x9e3779b97f4a7c15ull) >> 32) & c->mask;
}

struct block *cache_find(struct vol *v, uint64_t blkno)
{
	struct block *b = v->cache.buckets[bucket_of(&v->cache, blkno)];

	while (b && b->blkno != blkno)
		b = b->hash;
	return b;
}

static void unhash(struct cache *c, struct block *b)
{
	struct block **p = &c->buckets[bucket_of(c, b->blkno)];

	while (*p != b)
		p = &(*p)->hash;
	*p = b->hash;
}

static bool evictable(const struct block *b)
{
	return b->state != BLOCK_READING && !b->flags && !b->journal_seq;
}

void cache_settle(struct vol *v, struct block *b)
{
	struct cache *c = &v->cache;
	bool on = !list_empty(&b->lru);

	if (on == evictable(b))
		return;
	if (on) {
		list_del(&b->lru);
		c->lru_count--;
	} else {
		list_add_tail(&b->lru, &c->lru);
		c->lru_count++;
	}
}

void cache_drop(struct vol *v, struct block *b)
{
	struct cache *c = &v->cache;

	csv_assert(list_empty(&b->waiters));
	csv_assert(list_empty(&b->running));
	if (!list_empty(&b->lru)) {
		list_del(&b->lru);
		c->lru_count--;
	}
	if (b->journal_seq) {
		list_del(&b->needed);
		v->ckpt.needed_count--;
	}
	unhash(c, b);
	b->hash = c->spare;
	c->spare = b;
	c->count--;
}

static struct block *make_block(struct vol *v)
{
	struct block *b = mem_alloc(v->cfg.mem, sizeof(*b));

	if (!b)
		return NULL;
	b->data = mem_alloc(v->cfg.mem, BLOCK_SIZE);
	if (!b->data) {
		mem_free(v->cfg.mem, b, sizeof(*b));
		return NULL;
	}
	return b;
}

/* The coldest block goes, unless the present operation uses it: then everything is in use. */
static bool evict_one(struct vol *v)
{
	struct cache *c = &v->cache;
	struct block *b;

	if (list_empty(&c->lru))
		return false;
	b = list_first_entry(&c->lru, struct block, lru);
	if (b->op == v->txn.op && v->txn.op)
		return false;
	cache_drop(v, b);
	return true;
}

struct block *cache_add(struct vol *v, uint64_t blkno)
{
	struct cache *c = &v->cache;
	uint8_t *data;
	struct block *b;
	uint32_t at;

	csv_assert(!cache_find(v, blkno));
	if (c->count >= c->max && !evict_one(v))
		return NULL;
	if (!c->spare) {
		b = make_block(v);
		if (!b && !evict_one(v))
			return NULL;
		if (!b)
			b = c->spare;
		else
			b->hash = NULL;
		c->spare = b;
	}
	b = c->spare;
	c->spare = b->hash;
	data = b->data;
	memset(b, 0, sizeof(*b));
	b->data = data;
	b->blkno = blkno;
	list_init(&b->lru);
	list_init(&b->running);
	list_init(&b->needed);
	list_init(&b->waiters);
	at = bucket_of(c, blkno);
	b->hash = c->buckets[at];
	c->buckets[at] = b;
	c->count++;
	return b;
}

uint32_t cache_room(const struct vol *v)
{
	const struct cache *c = &v->cache;

	return c->max - c->count + c->lru_count;
}

void cache_reset(struct vol *v)
{
	struct cache *c = &v->cache;

	for (uint32_t i = 0; i <= c->mask; i++) {
		while (c->buckets[i]) {
			struct block *b = c->buckets[i];

			c->buckets[i] = b->hash;
			b->hash = c->spare;
			c->spare = b;
		}
	}
	c->count = 0;
	c->lru_count = 0;
	list_init(&c->lru);
}

void cache_destroy(struct vol *v)
{
	struct cache *c = &v->cache;

	if (c->buckets)
		cache_reset(v);
	while (c->spare) {
		struct block *b = c->spare;

		c->spare = b->hash;
		mem_free(v->cfg.mem, b->data, BLOCK_SIZE);
		mem_free(v->cfg.mem, b, sizeof(*b));
	}
	mem_free(v->cfg.mem, c->buckets, (c->mask + 1) * sizeof(*c->buckets));
}
