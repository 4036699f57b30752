/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cursor.h - reads and writes bytes within bounds.
 *
 * An overrun is remembered, not returned: a parser reads all fields in straight order and asks
 * cursor_ok() once, before it uses any of them. After an overrun every read gives zero and every
 * write does nothing.
 */
#ifndef CSVFS_BASE_CURSOR_H
#define CSVFS_BASE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "csvfs/base/le.h"

struct cursor {
	uint8_t *p, *end;
	bool bad;
};

static inline struct cursor cursor_of(void *p, size_t length_bytes)
{
	return (struct cursor){p, (uint8_t *)p + length_bytes, false};
}

/* For reading only. */
static inline struct cursor cursor_of_const(const void *p, size_t length_bytes)
{
	return (struct cursor){(uint8_t *)(uintptr_t)p, (uint8_t *)(uintptr_t)p + length_bytes, false};
}

static inline bool cursor_ok(const struct cursor *c)
{
	return !c->bad;
}

static inline size_t cursor_left(const struct cursor *c)
{
	return (size_t)(c->end - c->p);
}

/* The next n bytes, in place; NULL on overrun. */
static inline void *cursor_take(struct cursor *c, size_t n)
{
	void *p = c->p;

	if (c->bad || n > cursor_left(c)) {
		c->bad = true;
		return NULL;
	}
	c->p += n;
	return p;
}

static inline uint8_t cursor_u8(struct cursor *c)
{
	uint8_t *p = cursor_take(c, 1);

	return p ? *p : 0;
}

static inline uint16_t cursor_u16(struct cursor *c)
{
	le16 *p = cursor_take(c, 2);

	return p ? le16_get(*p) : 0;
}

static inline uint32_t cursor_u32(struct cursor *c)
{
	le32 *p = cursor_take(c, 4);

	return p ? le32_get(*p) : 0;
}

static inline uint64_t cursor_u64(struct cursor *c)
{
	le64 *p = cursor_take(c, 8);

	return p ? le64_get(*p) : 0;
}

static inline void cursor_put(struct cursor *c, const void *data, size_t n)
{
	void *p = cursor_take(c, n);

	if (!c->bad && n)
		memcpy(p, data, n);
}

static inline void cursor_put_u8(struct cursor *c, uint8_t v)
{
	cursor_put(c, &v, 1);
}

static inline void cursor_put_u16(struct cursor *c, uint16_t v)
{
	le16 x = le16_of(v);

	cursor_put(c, &x, 2);
}

static inline void cursor_put_u32(struct cursor *c, uint32_t v)
{
	le32 x = le32_of(v);

	cursor_put(c, &x, 4);
}

static inline void cursor_put_u64(struct cursor *c, uint64_t v)
{
	le64 x = le64_of(v);

	cursor_put(c, &x, 8);
}

#endif
