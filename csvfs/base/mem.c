/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/base/mem.h"

#include <string.h>

#include "csvfs/base/assert.h"

/*
 * Class 2k is 2^(k+4) bytes, class 2k+1 is one and a half times that; so rounding wastes a third at
 * most. From 4096 on only powers of two, since those blocks are aligned to 4096. They come from the other end of the region: between
 * small ones each would cost up to as much again to be aligned, and a cache has a small one for each block.
 */
static unsigned mem_class(size_t size, size_t *rounded)
{
	unsigned k = 0;
	size_t pow = 16;

	for (;; k++, pow <<= 1) {
		if (size <= pow) {
			*rounded = pow;
			return 2 * k;
		}
		if (pow < 4096 && pow >= 32 && size <= pow + pow / 2) {
			*rounded = pow + pow / 2;
			return 2 * k + 1;
		}
	}
}

void mem_init(struct mem *m, void *base, size_t size_bytes)
{
	csv_assert(((uintptr_t)base & 4095) == 0);
	memset(m, 0, sizeof(*m));
	m->base = base;
	m->size = size_bytes;
	m->high = size_bytes & ~(size_t)4095;
}

void *mem_alloc(struct mem *m, size_t size_bytes)
{
	size_t need, at;
	unsigned c = mem_class(size_bytes, &need);
	void *p;

	if (c >= MEM_CLASSES)
		return NULL;
	p = m->free[c];
	if (p) {
		memcpy(&m->free[c], p, sizeof(void *));
	} else {
		if (need > m->high - m->low)
			return NULL;
		at = need >= 4096 ? m->high - need : m->low;
		if (need >= 4096)
			m->high = at;
		else
			m->low = at + need;
		p = m->base + at;
		m->used += need;
	}
	m->live += need;
	memset(p, 0, size_bytes);
	return p;
}

void *mem_half(struct mem *m, size_t *size_bytes)
{
	*size_bytes = (m->high - m->low) / 2 & ~(size_t)4095;
	m->high -= *size_bytes;
	m->used += *size_bytes;
	return m->base + m->high;
}

void mem_free(struct mem *m, void *p, size_t size_bytes)
{
	size_t need;
	unsigned c = mem_class(size_bytes, &need);

	if (!p)
		return;
	csv_assert((uint8_t *)p >= m->base && (uint8_t *)p < m->base + m->size);
	csv_assert((uint8_t *)p < m->base + m->low || (uint8_t *)p >= m->base + m->high);
	csv_assert(m->live >= need);
	/* A use after free shows: the block does not keep what it held. */
	memset(p, 0xdb, need < 256 ? need : 256);
	memcpy(p, &m->free[c], sizeof(void *));
	m->free[c] = p;
	m->live -= need;
}
