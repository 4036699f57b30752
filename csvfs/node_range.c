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

bool node_range_remove(struct node *n, struct list *l, uint64_t off, uint64_t len)
{
	uint64_t end = off + len;

	list_for_each_entry_safe (r, tmp, l, struct frange, link) {
		uint64_t r_end = r->off + r->len;

		if (r_end <= off || r->off >= end)
			continue;
		if (r->off < off && r_end > end) {
			struct list *next = r->link.next;

			r->len = off - r->off;
			return range_add(n, next, end, r_end - end) != NULL;
		}
		if (r->off < off) {
			r->len = off - r->off;
		} else if (r_end > end) {
			r->off = end;
			r->len = r_end - end;
		} else {
			list_del(&r->link);
			mem_free(n->mem, r, sizeof(*r));
		}
	}
	return true;
}
