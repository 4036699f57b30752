/* SPDX-License-Identifier: GPL-2.0-or-later */
/* node_range.c - the ranges of a file that a node owns, has written, or commits (node_file.h). */
#include "csvfs/node_int.h"

void node_range_clear(struct node *n, struct list *l)
{
	list_for_each_entry_safe (r, tmp, l, struct frange, link) {
		list_del(&r->link);
		mem_free(n->mem, r, sizeof(*r));
	}
}

static struct frange *range_add(struct node *n, struct list *before, uint64_t off, uint64_t len)
{
	struct frange *r = mem_alloc(n->mem, sizeof(*r));

	if (!r)
		return NULL;
	r->off = off;
	r->len = len;
	list_add_tail(&r->link, before);
	return r;
}

bool node_range_insert(struct node *n, struct list *l, uint64_t off, uint64_t len)
{
	uint64_t end = off + len;

	list_for_each_entry_safe (r, tmp, l, struct frange, link) {
		if (r->off > end)
			return range_add(n, &r->link, off, end - off) != NULL;
		if (r->off + r->len < off)
			continue;
		/* Touches or overlaps: take it into ours. */
		if (r->off < off)
			off = r->off;
		if (r->off + r->len > end)
			end = r->off + r->len;
		list_del(&r->link);
		mem_free(n->mem, r, sizeof(*r));
	}
	return range_add(n, l, off, end - off) != NULL;
}

/* The first that ends behind `off`, from *at on if that is not behind it. */
static struct frange *range_from(const struct list *l, struct list *at, uint64_t off)
{
	struct frange *r;

	if (at->prev != l) {
		r = list_entry(at->prev, struct frange, link);
		if (r->off + r->len > off)
			at = l->next;
	}
	for (; at != l; at = at->next) {
		r = list_entry(at, struct frange, link);
		if (r->off + r->len > off)
			return r;
	}
	return NULL;
}

bool node_range_remove(struct node *n, struct list *l, struct list **at, uint64_t off, uint64_t len)
{
	uint64_t end = off + len;
	struct frange *r = range_from(l, *at, off);

	while (r && r->off < end) {
		uint64_t r_end = r->off + r->len;
		struct list *next = r->link.next;

		if (r->off < off && r_end > end) {
			r->len = off - r->off;
			r = range_add(n, next, end, r_end - end);
			*at = r ? &r->link : next;
			return r != NULL;
		}
		if (r_end > end) {
			r->off = end;
			r->len = r_end - end;
			break;
		}
		if (r->off < off) {
			r->len = off - r->off;
		} else {
			list_del(&r->link);
			mem_free(n->mem, r, sizeof(*r));
		}
		r = next == l ? NULL : list_entry(next, struct frange, link);
	}
	*at = r ? &r->link : l;
	return true;
}

bool node_range_many(const struct list *l, uint32_t many)
{
	uint32_t count = 0;

	list_for_each_entry (r, l, struct frange, link) {
		if (++count >= many)
			return true;
	}
	return false;
}
