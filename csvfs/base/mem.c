/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/base/mem.h"

#include <string.h>

#include "csvfs/base/assert.h"

/*
 * Class 2k is 2^(k+4) bytes, class 2k+1 is one and a half times that; so rounding wastes a third at
 * most. From 4096 on only powers of two, since those blocks are aligned to 4096.
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
		at = need >= 4096 ? (m->used + 4095) & ~(size_t)4095 : m->used;
		if (need > m->size || at > m->size - need)
			return NULL;
		p = m->base + at;
		m->used = at + need;
	}
	m->live += need;
	memset(p, 0, size_bytes);
	return p;
}

void mem_free(struct mem *m, void *p, size_t size_bytes)
{
	size_t need;
	unsigned c = mem_class(size_bytes, &need);

	if (!p)
		return;
	csv_assert((uint8_t *)p >= m->base);
	csv_assert((uint8_t *)p < m->base + m->used);
	csv_assert(m->live >= need);
	/* A use after free shows: the block does not keep what it held. */
	memset(p, 0xdb, need < 256 ? need : 256);
	memcpy(p, &m->free[c], sizeof(void *));
	m->free[c] = p;
	m->live -= need;
}
