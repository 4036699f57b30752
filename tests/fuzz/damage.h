/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * damage.h - for fuzzing what reads a volume: the input is a list of edits, each 8 bytes, of a sound
 * volume with everything on it. Checksums are put right again, so that the input gets past them.
 */
#ifndef CSVFS_TESTS_FUZZ_DAMAGE_H
#define CSVFS_TESTS_FUZZ_DAMAGE_H

#include <stddef.h>

#include "tests/crash/world.h"

enum damage_where {
	DAMAGE_ALL,
	DAMAGE_TREES, /* inodes, nodes of trees, value blocks */
	DAMAGE_JOURNAL, /* heads, records, images in them */
};

#define DAMAGE_EDIT_BYTES 8u
#define DAMAGE_BYTES_MAX (1 + 64 * DAMAGE_EDIT_BYTES)

/* Makes the volumes; once. */
void damage_start(enum damage_where where);
/*
 * The disk with these edits, until the next call. The first byte chooses the volume: one that was closed,
 * or one that lost power with work in its journal (DAMAGE_JOURNAL: always that).
 */
struct disk *damage_apply(const uint8_t *data, size_t size);
/* Blocks that were edited, or of which an image in the journal was. */
uint32_t damage_blocks(const uint64_t **blkno);

#endif
