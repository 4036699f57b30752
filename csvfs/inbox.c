/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/inbox.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "csvfs/base/assert.h"

struct inbox {
	pthread_mutex_t lock;
	struct inbox_item *first, **last;
	bool rung; /* fd is readable, or about to be */
	int fd;
};

struct inbox *inbox_create(void)
{
	struct inbox *b = calloc(1, sizeof(*b));

	csv_assert(b != NULL);
	pthread_mutex_init(&b->lock, NULL);
	b->last = &b->first;
	b->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	csv_assert(b->fd >= 0);
	return b;
}

void inbox_destroy(struct inbox *b)
{
	struct inbox_item *i = inbox_take(b);

	while (i) {
		struct inbox_item *next = i->next;

		free(i);
		i = next;
	}
	close(b->fd);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static struct inbox_item *item_new(
	enum inbox_kind kind, const struct event *ev, const void *bytes, uint32_t len)
{
	struct inbox_item *i = malloc(sizeof(*i) + (bytes ? len : 0));

	csv_assert(i != NULL);
	i->next = NULL;
	i->kind = kind;
	i->ev = *ev;
	if (bytes) {
		memcpy(i->bytes, bytes, len);
		i->ev.msg.bytes = i->bytes;
	}
	return i;
}

static void ring_locked(struct inbox *b)
{
	uint64_t one = 1;

	if (b->rung)
		return;
	b->rung = true;
	(void)!write(
		b->fd, &one, sizeof(one)); /* cannot be full: it was read when rung was cleared */
}

static void post(struct inbox *b, struct inbox_item *i, bool ring)
{
	pthread_mutex_lock(&b->lock);
	*b->last = i;
	b->last = &i->next;
	if (ring)
		ring_locked(b);
	pthread_mutex_unlock(&b->lock);
}

void inbox_post(struct inbox *b, enum inbox_kind kind, const struct event *ev, const void *bytes,
	uint32_t len)
{
	post(b, item_new(kind, ev, bytes, len), true);
}

void inbox_post_quietly(struct inbox *b, enum inbox_kind kind, const struct event *ev)
{
	post(b, item_new(kind, ev, NULL, 0), false);
}

bool inbox_is_empty(struct inbox *b)
{
	bool empty;

	pthread_mutex_lock(&b->lock);
	empty = !b->first;
	pthread_mutex_unlock(&b->lock);
	return empty;
}

void inbox_ring(struct inbox *b)
{
	pthread_mutex_lock(&b->lock);
	ring_locked(b);
	pthread_mutex_unlock(&b->lock);
}

struct inbox_item *inbox_take(struct inbox *b)
{
	struct inbox_item *i;
	uint64_t n;

	pthread_mutex_lock(&b->lock);
	i = b->first;
	b->first = NULL;
	b->last = &b->first;
	if (b->rung)
		(void)!read(b->fd, &n, sizeof(n));
	b->rung = false;
	pthread_mutex_unlock(&b->lock);
	return i;
}

int inbox_fd(const struct inbox *b)
{
	return b->fd;
}
