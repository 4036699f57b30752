/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check.h - is this volume right? The library behind fsck.csvfs, and the oracle of the crash tests
 * and of the simulator.
 *
 * It walks everything that can be reached from the superblock, rebuilds from that what every bitmap
 * and counter should say, and compares. It shares the format's definitions with the engine, but none
 * of its code for trees, space and journal: what both would get wrong in the same way, neither finds.
 *
 * What follows from the rest (copies, bitmaps, counters) it can write anew: see repair.c.
 *
 * Pure, as the core: it reads through a callback, takes all memory from one region, and never
 * stops at damage. A volume that was not unmounted in order is checked as it will be after replay:
 * the journal's images are laid over the blocks in memory.
 *
 * Bounds: each metadata block is followed once (a second reference is a problem, not a path), no
 * recursion, so the work is proportional to the blocks in use whatever the volume says. Memory:
 * about 30 bytes per inode, one bit per cluster of groups in use.
 */
#ifndef CSVFS_TOOLS_CHECK_H
#define CSVFS_TOOLS_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/mem.h"
#include "metadata/problem.h"

/* Offsets and lengths are multiples of BLOCK_SIZE. 0 or a negative errno. */
struct check_dev {
	void *ctx;
	int (*read)(void *ctx, uint64_t off, void *buf, uint32_t len);
	/* May be NULL. Of a device in memory: where the block stands, valid during the check. */
	const void *(*at)(void *ctx, uint64_t off);
	uint64_t bytes;
	/* Only for a repair; durable when it returns. NULL: nothing is ever written. */
	int (*write)(void *ctx, uint64_t off, const void *buf, uint32_t len);
};

/*
 * One problem. `blkno`: the block in which it stands, 0 also when it stands nowhere. `ino`: the inode
 * concerned, 0: none. `found` is what stands there, `want` what should; for ranges of blocks or
 * clusters `found` is the first and `want` how many. `what`: the field, or a few words.
 */
struct check_problem {
	enum problem code;
	uint64_t blkno, ino;
	uint64_t found, want;
	const char *what;
};

enum check_phase {
	CHECK_SUPER,
	CHECK_JOURNAL,
	CHECK_SPACE,
	CHECK_INODES,
	CHECK_DIRECTORIES,
	CHECK_REST,
	CHECK_COMPARE,
};

struct check_options {
	struct mem *mem; /* used up by the check: the caller starts a new one for the next */
	/* Both may be NULL. Called during check_volume(). */
	void (*on_problem)(void *ctx, const struct check_problem *p);
	void (*on_phase)(void *ctx, enum check_phase phase);
	void *ctx;
	/*
	 * When the walk is done and report.repairable is true, write what repair.c can make anew. The
	 * caller checks again afterwards: that says whether it is clean now.
	 */
	bool repair;
};

struct check_report {
	uint64_t count[PROBLEM_COUNT];
	uint64_t by_severity[SEVERITY_FATAL + 1];
	bool replayed; /* the journal was needed and laid over the volume */
	bool repairable; /* there are faults, and each follows from what is not damaged */
	uint64_t repaired; /* blocks that were written */
	uint64_t epoch, lsn; /* of the claim; newest transaction seen */
	uint8_t uuid[16];
	uint64_t files, directories, symlinks, others, orphans;
	uint64_t extents, data_clusters, free_clusters;
	uint64_t meta_chunks, meta_blocks;
	uint64_t journal_records;
};

/*
 * 0: the check ran to its end, *rep says what it found. -EUCLEAN: a FATAL problem ended it.
 * -ENOMEM: the region was too small, nothing can be said.
 */
int check_volume(
	const struct check_dev *dev, const struct check_options *o, struct check_report *rep);

/* Problems that are faults of the volume: all but notes. */
uint64_t check_faults(const struct check_report *rep);

/* "block 77, inode 616: header-crc: crc is 17, should be 23". Returns the length. */
size_t check_problem_text(const struct check_problem *p, char *out, size_t out_bytes);

#endif
