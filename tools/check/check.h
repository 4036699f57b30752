/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check.h - is this volume right? The library behind fsck.csvfs, and the oracle of the crash tests
 * and of the simulator.
 *
 * It walks everything that can be reached from the superblock, rebuilds from that what every bitmap
 * and counter should say, and compares. It shares the format's definitions with the engine, but none
 * of its code for trees, space and journal: what both would get wrong in the same way, neither finds.
 *
 * What is wrong it can repair: mend.h says how.
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

struct claim;

/* Offsets and lengths are multiples of BLOCK_SIZE. 0 or a negative errno. */
struct check_dev {
	void *ctx;
	int (*read)(void *ctx, uint64_t off, void *buf, uint32_t len);
	/* May be NULL. Of a device in memory: where the block stands, valid during the check. */
	const void *(*at)(void *ctx, uint64_t off);
	uint64_t bytes;
	/* Only for a repair; durable when it returns. NULL: nothing is ever written. */
	int (*write)(void *ctx, uint64_t off, const void *buf, uint32_t len);
	/*
	 * Of a device that others may use: makes the claim that of the repair, HELD before all else that is written, CLEAN after it.
	 * Not 0 for HELD: it is not ours to write, and nothing is. NULL: nobody else is there, and the repair writes it itself.
	 */
	int (*claim)(void *ctx, const struct claim *claim);
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

/* Which superblock is believed. */
enum check_super { CHECK_SUPER_VOTE, CHECK_SUPER_FIRST, CHECK_SUPER_COPY, CHECK_SUPER_LAST };

struct check_options {
	enum check_super super;
	struct mem *mem; /* used up by the check: the caller starts a new one for the next */
	/* Both may be NULL. Called during check_volume(). */
	void (*on_problem)(void *ctx, const struct check_problem *p);
	void (*on_phase)(void *ctx, enum check_phase phase);
	/* Of the phase: groups done, of how many. May be NULL. */
	void (*on_progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
};

struct check_report {
	uint64_t count[PROBLEM_COUNT];
	uint64_t by_severity[SEVERITY_FATAL + 1];
	bool replayed; /* the journal was needed and laid over the volume */
	bool repairable; /* there are faults, and each follows from what is not damaged: nothing is lost */
	uint64_t repaired; /* blocks that a repair has written */
	uint64_t left; /* faults that a repair could not mend: then nothing was written */
	uint64_t found_again, cleared; /* inodes that went to lost+found; that could not be saved */
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

/*
 * The same, and then everything that was found is put right; `all` false: only if nothing is lost by
 * it (report.repairable). *rep is of the check before the repair, but for `repaired` and `left`. What
 * is to be written is worked out in memory and checked there until it is clean; then it is written
 * through the volume's journal. So power may fail at any time. 0, -EUCLEAN: a FATAL problem, nothing
 * was written; -ENOMEM; -EIO: a write failed, the repair is not complete; -ENOSPC: faults are left,
 * and nothing was written; what check_dev.claim() said: nothing was written.
 */
int check_repair(const struct check_dev *dev, const struct check_options *o, bool all,
	struct check_report *rep);

/* Problems that are faults of the volume: all but notes. */
uint64_t check_faults(const struct check_report *rep);

/* "block 77, inode 616: header-crc: crc is 17, should be 23". Returns the length. */
size_t check_problem_text(const struct check_problem *p, char *out, size_t out_bytes);

#endif
