/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * recover.h - one case: power has failed, some of the loose writes have survived; what comes back?
 *
 *   1. the check of fsck.csvfs finds no fault, before and after recovery;
 *   2. the engine opens the volume (in a quarter of the cases power fails again in the middle of that);
 *   3. the volume is as it was after some number of requests, all that were acknowledged included;
 *   4. a write of the journal that was in flight lands now, late: it changes nothing any more;
 *   5. what the caller adds (requests are sent again); in some cases it is closed, checked, opened.
 */
#ifndef CSVFS_TESTS_CRASH_RECOVER_H
#define CSVFS_TESTS_CRASH_RECOVER_H

#include "tests/crash/world.h"

#define CRASH_VOLUME_BYTES (24u << 20)

/* What the recovered volume may be. */
struct allowed {
	const uint64_t *state; /* after 0, 1, ... requests */
	uint32_t states;
	uint32_t lo; /* the first that is not too old */
	uint64_t (*dump)(struct world *w, bool print, int *err);
	bool loose_ends; /* work goes on behind replay: when that is done, none is left */
	/* May be NULL. The volume is open and as in state `at`; false: it has failed. */
	bool (*more)(uint32_t at, struct prng *r);
};

extern struct recover {
	struct world *again;
	uint64_t cases, nested, resent, late;
	char id[160]; /* what to give --case, but for the variant */
	bool failed, print;
} rec;

void recover_start(const struct vol_ops *ops);
/* Disks of the next cases: with a write cache or not; what a read of `small` caches misses. */
void recover_config(bool write_cache, bool small);
void recover_fail(const char *what);
/* False: it has failed, and how was printed. */
bool recover_check(struct disk *d, const char *when);
/* `seed` and the variant say all: the same ones are the same case. */
bool recover_case(const struct disk *d, uint32_t variant, uint64_t seed, const struct allowed *a);

#endif
