/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mem.h - the core's memory: one region given at start, divided by size class.
 *
 * The core calls no malloc: what it may use is decided once, by the driver, and shows in one place.
 * Blocks of a class that were freed are used again; a region is never given back.
 */
#ifndef CSVFS_BASE_MEM_H
#define CSVFS_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

#define MEM_CLASSES 40

struct mem {
	uint8_t *base;
	size_t size, used;	  /* bytes of the region; of it handed out at least once */
	size_t low, high;	  /* between them nothing was handed out yet */
	size_t live;		  /* bytes in use, with rounding */
	void *free[MEM_CLASSES];  /* one free list per class: powers of two and the step between */
};

/* `base` must be aligned to 4096 and, like everything from mem_alloc, outlives the core. */
void mem_init(struct mem *m, void *base, size_t size_bytes);

/*
 * Zeroed memory, aligned to 16 (to 4096 from 4096 bytes on). NULL when the region is used up: the
 * caller makes the request wait or refuses it, it does not stop.
 */
void *mem_alloc(struct mem *m, size_t size_bytes);

/*
 * Half of what was never handed out, in whole pages, for an owner that divides it itself; it does not come back, but with the
 * whole state (*m) of before.
 */
void *mem_half(struct mem *m, size_t *size_bytes);

/* `size_bytes` must be what mem_alloc was asked for. NULL is allowed. */
void mem_free(struct mem *m, void *p, size_t size_bytes);

#endif
