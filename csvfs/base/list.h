/* SPDX-License-Identifier: GPL-2.0-or-later */
/* list.h - intrusive doubly linked list, as in the Linux kernel. */
#ifndef CSVFS_BASE_LIST_H
#define CSVFS_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next, *prev;
};

#define container_of(p, type, member) ((type *)((char *)(p)-offsetof(type, member)))
#define list_entry(p, type, member) container_of(p, type, member)
#define list_first_entry(h, type, member) list_entry((h)->next, type, member)

static inline void list_init(struct list *h)
{
	h->next = h;
	h->prev = h;
}

static inline bool list_empty(const struct list *h)
{
	return h->next == h;
}

/* Before h: at the tail when h is the head. */
static inline void list_add_tail(struct list *n, struct list *h)
{
	n->prev = h->prev;
	n->next = h;
	h->prev->next = n;
	h->prev = n;
}

static inline void list_add(struct list *n, struct list *h)
{
	list_add_tail(n, h->next);
}

/* The entry is left initialised: deleting it again does no harm. */
static inline void list_del(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}

/* All of `from` goes to the tail of `to`. */
static inline void list_splice_tail(struct list *from, struct list *to)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

#define list_for_each_entry(pos, head, type, member)                                               \
	for (type *pos = list_entry((head)->next, type, member); &pos->member != (head);           \
	     pos = list_entry(pos->member.next, type, member))

#define list_for_each_entry_safe(pos, tmp, head, type, member)                                     \
	for (type *pos = list_entry((head)->next, type, member),                                   \
		  *tmp = list_entry(pos->member.next, type, member);                               \
	     &pos->member != (head); pos = tmp, tmp = list_entry(tmp->member.next, type, member))

#endif
