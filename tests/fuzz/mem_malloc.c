/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mem_malloc.c - csvfs/base/mem.h with the C library's memory, in place of mem.c: so that a sanitizer sees
 * every access behind the end of an allocation, which within one region it cannot.
 */
#include <stdlib.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/base/list.h"
#include "csvfs/base/mem.h"

/* In front of each allocation, aligned as that must be. */
struct piece {
	struct list link;
	void *base; /* of the region that it would come from */
	void *start;
	size_t size;
};

static struct list pieces = {&pieces, &pieces};

static struct piece *piece_of(void *p)
{
	return (struct piece *)((uint8_t *)p - sizeof(struct piece));
}

/* Whoever begins a region anew has forgotten what was in it. */
void mem_init(struct mem *m, void *base, size_t size_bytes)
{
	struct list *next;

	for (struct list *l = pieces.next; l != &pieces; l = next) {
		struct piece *piece = list_entry(l, struct piece, link);

		next = l->next;
		if (piece->base != base)
			continue;
		list_del(l);
		free(piece->start);
	}
	memset(m, 0, sizeof(*m));
	m->base = base;
	m->size = size_bytes;
}

void *mem_alloc(struct mem *m, size_t size_bytes)
{
	size_t align = size_bytes >= 4096 ? 4096 : 64, head = align;
	struct piece *piece;
	uint8_t *start;

	_Static_assert(sizeof(struct piece) <= 64, "room in front");
	if (size_bytes > m->size || m->live > m->size - size_bytes)
		return NULL;
	if (posix_memalign((void **)&start, align, head + size_bytes))
		return NULL;
	memset(start, 0, head + size_bytes);
	piece = piece_of(start + head);
	piece->base = m->base;
	piece->start = start;
	piece->size = size_bytes;
	list_add_tail(&piece->link, &pieces);
	m->live += size_bytes;
	return start + head;
}

/* Nothing else lies in the region. */
void *mem_half(struct mem *m, size_t *size_bytes)
{
	*size_bytes = m->size / 2 & ~(size_t)4095;
	m->size -= *size_bytes;
	return (uint8_t *)m->base + (m->size & ~(size_t)4095);
}

void mem_free(struct mem *m, void *p, size_t size_bytes)
{
	if (!p)
		return;
	csv_assert(piece_of(p)->size == size_bytes);
	csv_assert(piece_of(p)->base == m->base);
	m->live -= size_bytes;
	list_del(&piece_of(p)->link);
	free(piece_of(p)->start);
}
