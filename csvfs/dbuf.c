/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/dbuf.h"

#include <pthread.h>
#include <stdlib.h>

#include "csvfs/base/assert.h"

/* Class k holds buffers of 4096 << k bytes. */
#define CLASSES 11
#define POOL_BYTES_MAX (64u << 20) /* more than this goes back to the system at once */

static struct {
	pthread_mutex_t lock;
	struct dbuf *free[CLASSES];
	uint64_t pool_bytes, live_bytes;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint32_t class_bytes(uint32_t class_nr)
{
	return DBUF_ALIGN << class_nr;
}

static struct dbuf *dbuf_new(uint32_t class_nr)
{
	struct dbuf *b = malloc(sizeof(*b));
	void *p = NULL;

	if (!b)
		return NULL;
	if (posix_memalign(&p, DBUF_ALIGN, class_bytes(class_nr))) {
		free(b);
		return NULL;
	}
	*b = (struct dbuf){.bytes = p, .room = class_bytes(class_nr), .class_nr = class_nr};
	return b;
}

static void dbuf_destroy(struct dbuf *b)
{
	free(b->bytes);
	free(b);
}

struct dbuf *dbuf_get(uint32_t room_bytes)
{
	uint32_t k = 0;
	struct dbuf *b;

	if (room_bytes > DBUF_BYTES_MAX)
		return NULL;
	while (class_bytes(k) < room_bytes)
		k++;
	pthread_mutex_lock(&pool.lock);
	b = pool.free[k];
	if (b) {
		pool.free[k] = b->next;
		pool.pool_bytes -= b->room;
	}
	pool.live_bytes += class_bytes(k);
	pthread_mutex_unlock(&pool.lock);
	if (!b)
		b = dbuf_new(k);
	if (!b) {
		pthread_mutex_lock(&pool.lock);
		pool.live_bytes -= class_bytes(k);
		pthread_mutex_unlock(&pool.lock);
		return NULL;
	}
	b->next = NULL;
	b->len = 0;
	__atomic_store_n(&b->refs, 1, __ATOMIC_RELAXED);
	return b;
}

struct dbuf *dbuf_ref(struct dbuf *b)
{
	uint32_t was = __atomic_fetch_add(&b->refs, 1, __ATOMIC_RELAXED);

	csv_assert(was > 0);
	return b;
}

void dbuf_put(struct dbuf *b)
{
	uint32_t was;

	if (!b)
		return;
	was = __atomic_fetch_sub(&b->refs, 1, __ATOMIC_ACQ_REL);
	csv_assert(was > 0);
	if (was > 1)
		return;
	pthread_mutex_lock(&pool.lock);
	pool.live_bytes -= b->room;
	if (pool.pool_bytes + b->room <= POOL_BYTES_MAX) {
		b->next = pool.free[b->class_nr];
		pool.free[b->class_nr] = b;
		pool.pool_bytes += b->room;
		b = NULL;
	}
	pthread_mutex_unlock(&pool.lock);
	if (b)
		dbuf_destroy(b);
}

uint64_t dbuf_live_bytes(void)
{
	uint64_t n;

	pthread_mutex_lock(&pool.lock);
	n = pool.live_bytes;
	pthread_mutex_unlock(&pool.lock);
	return n;
}

uint64_t dbuf_pool_bytes(void)
{
	uint64_t n;

	pthread_mutex_lock(&pool.lock);
	n = pool.pool_bytes;
	pthread_mutex_unlock(&pool.lock);
	return n;
}

void dbuf_trim(void)
{
	struct dbuf *b, *all = NULL;

	pthread_mutex_lock(&pool.lock);
	for (uint32_t k = 0; k < CLASSES; k++) {
		while ((b = pool.free[k])) {
			pool.free[k] = b->next;
			b->next = all;
			all = b;
		}
	}
	pool.pool_bytes = 0;
	pthread_mutex_unlock(&pool.lock);
	while ((b = all)) {
		all = b->next;
		dbuf_destroy(b);
	}
}
