/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dbuf.h - a buffer of file data, shared by the shells: what the handles of platform.h stand for.
 *
 * A dbuf is counted: each holder has one reference and gives it back with dbuf_put(). The memory is
 * aligned to 4096 bytes, so that it can go to a LUN or a file opened with O_DIRECT as it is. Freed
 * buffers are kept in a pool by size, since a fresh megabyte from the kernel costs more than the
 * copy it was meant to save.
 *
 * Any thread may call any of these. The bytes themselves are not guarded: whoever fills a buffer
 * does so before it hands a reference to another thread.
 */
#ifndef CSVFS_DBUF_H
#define CSVFS_DBUF_H

#include <stddef.h>
#include <stdint.h>

#define DBUF_ALIGN 4096u
#define DBUF_BYTES_MAX (4u << 20) /* a 1 MiB request, and the clusters around both its ends */

struct dbuf {
	uint8_t *bytes;
	uint32_t len; /* in use: the holder's to set; 0 when new */
	uint32_t room; /* at least what was asked for */
	/* dbuf.c's */
	uint32_t refs;
	uint32_t class_nr;
	struct dbuf *next;
};

/*
 * A buffer with room for at least `room_bytes` (1 .. DBUF_BYTES_MAX), its contents undefined, with
 * one reference. NULL: too large, or no memory.
 */
struct dbuf *dbuf_get(uint32_t room_bytes);

/* One more reference; returns b. */
struct dbuf *dbuf_ref(struct dbuf *b);

/* One reference less; the last one gives the memory back to the pool. NULL is allowed. */
void dbuf_put(struct dbuf *b);

/* Bytes of buffers in use now (with rounding); in the pool. For statistics and tests of leaks. */
uint64_t dbuf_live_bytes(void);
uint64_t dbuf_pool_bytes(void);

/* The pool's memory goes back to the system. */
void dbuf_trim(void);

/* The handle that stands for the buffer in events and effects: 0 is none. It carries a reference. */
static inline uint64_t dbuf_handle(const struct dbuf *b)
{
	return (uint64_t)(uintptr_t)b;
}

static inline struct dbuf *dbuf_of(uint64_t handle)
{
	return (struct dbuf *)(uintptr_t)handle;
}

#endif
