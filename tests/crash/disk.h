/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * disk.h - a LUN with a volatile write cache, in memory, that can lose power at any moment.
 *
 * A write is in flight, then done. It must survive a loss of power when it is done and was FUA, or a
 * flush that began after it was done has ended. Any other write may survive, in whole, in part (by
 * sectors of 512 bytes), or not at all, each for itself, in any order.
 */
#ifndef CSVFS_TESTS_CRASH_DISK_H
#define CSVFS_TESTS_CRASH_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/prng.h"

#define DISK_PAGE 4096u
#define DISK_SECTOR 512u

struct disk_write {
	uint64_t off;
	uint32_t len;
	uint8_t *data;
	uint64_t done; /* number of its completion; 0: in flight */
	bool fua, must;
};

struct disk {
	const struct disk *under; /* what survived of it is what this one began with; NULL: zeros */
	uint32_t pages;
	bool cache; /* false: what is done is durable */
	uint8_t **safe; /* per page: survived for certain; NULL: as `under` */
	uint8_t **view; /* what a read gets; NULL: as safe */
	uint32_t *touched; /* pages with one of the two */
	uint32_t touched_count;
	struct disk_write *w; /* in the order they were sent, from first on */
	uint32_t w_count, w_room;
	uint64_t completions;
	uint64_t changes; /* of what a loss of power can leave */
	uint32_t subsets_of; /* loose writes, for every subset */
	bool tear_all; /* every loose write at every sector */
};

struct disk *disk_new(uint64_t bytes);
void disk_free(struct disk *d);
/* Empty, over `under`. */
void disk_reset(struct disk *d, const struct disk *under);

/* The page that holds this byte, as a read gets it; valid until the disk changes. */
const void *disk_at(const struct disk *d, uint64_t off);
void disk_read(const struct disk *d, uint64_t off, void *buf, uint64_t len);
/* A write is sent; the handle stays valid until the next flush or loss of power. */
uint64_t disk_send(struct disk *d, uint64_t off, const void *buf, uint32_t len, bool fua);
void disk_done(struct disk *d, uint64_t handle);
/* A flush begins: pass what it gives to disk_flushed(). */
uint64_t disk_flush(const struct disk *d);
void disk_flushed(struct disk *d, uint64_t token);
/* Sent, done, durable. */
void disk_write_now(struct disk *d, uint64_t off, const void *buf, uint32_t len);

/* Writes that may or may not survive. */
uint32_t disk_loose(const struct disk *d);

/* What of this range was in flight when power failed lands now, whole. False: nothing was. */
bool disk_land(const struct disk *from, struct disk *to, uint64_t lo, uint64_t hi);

/*
 * `out` becomes what is there after a loss of power: variant 0: nothing loose survives, 1: all does;
 * then every subset, as long as there are few; then (tear_all) each loose write cut at each sector,
 * its first or its last part surviving, of the others none or all; then subsets at random, torn.
 */
void disk_crash(const struct disk *d, struct disk *out, uint32_t variant, uint64_t seed);
/* Number of variants worth trying; `most` at most. */
uint32_t disk_variants(const struct disk *d, uint32_t most);

#endif
