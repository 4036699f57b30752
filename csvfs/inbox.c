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

void inbox_post(struct inbox *b, enum inbox_kind kind, const struct event *ev, const void *bytes,
	uint32_t len)
{
	struct inbox_item *i = malloc(sizeof(*i) + (bytes ? len : 0));
	bool was_empty;
	uint64_t one = 1;

	csv_assert(i != NULL);
	i->next = NULL;
	i->kind = kind;
	i->ev = *ev;
	if (bytes) {
		memcpy(i->bytes, bytes, len);
		i->ev.msg.bytes = i->bytes;
	}
	pthread_mutex_lock(&b->lock);
	was_empty = !b->first;
	*b->last = i;
	b->last = &i->next;
	pthread_mutex_unlock(&b->lock);
	if (was_empty)
		(void)!write(b->fd, &one, sizeof(one)); /* fails only when it is readable anyway */
}

struct inbox_item *inbox_take(struct inbox *b)
{
	struct inbox_item *i;
	uint64_t n;

	(void)!read(
		b->fd, &n, sizeof(n)); /* before the list: a later post makes it readable again */
	pthread_mutex_lock(&b->lock);
	i = b->first;
	b->first = NULL;
	b->last = &b->first;
	pthread_mutex_unlock(&b->lock);
	return i;
}

int inbox_fd(const struct inbox *b)
{
	return b->fd;
}
