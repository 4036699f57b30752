/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * verify.h - seals metadata blocks before a write, verifies them after each read and before each
 * write. The engine and fsck use the same functions.
 */
#ifndef CSVFS_METADATA_VERIFY_H
#define CSVFS_METADATA_VERIFY_H

#include <stdbool.h>

#include "metadata/format.h"
#include "metadata/problem.h"

/* What was found, for the log. */
struct verify_report {
	enum problem problem;
	uint64_t found, expected;
};

/* Puts checksum over the block; everything else in the header must stand. */
void verify_seal(void *block);

/* Sets magic, uuid, blkno and owner; lsn, epoch and crc come when the block is sealed. */
void verify_init_header(
	void *block, uint32_t magic, const uint8_t uuid[16], uint64_t blkno, uint64_t owner);

/*
 * Header only: magic (0: any), crc, uuid (NULL: any), blkno. And then the whole block by its type:
 * what can be told without looking at any other block. `super`: NULL while it is not known yet.
 */
enum problem verify_header(const void *block, uint32_t magic, const uint8_t uuid[16],
	uint64_t blkno, struct verify_report *rep);
enum problem verify_content(
	const void *block, const struct disk_super *super, struct verify_report *rep);
enum problem verify_block(const void *block, uint32_t magic, uint64_t blkno,
	const struct disk_super *super, struct verify_report *rep);
/* The same of a block that verify_seal() has just been called for: its checksum is not made a second time. */
enum problem verify_sealed(const void *block, uint32_t magic, uint64_t blkno,
	const struct disk_super *super, struct verify_report *rep);

/* The superblock: version, features, geometry; lun_bytes 0: not compared. */
enum problem verify_super(
	const void *block, uint64_t blkno, uint64_t lun_bytes, struct verify_report *rep);

/* A journal record's header block, without its images. */
enum problem verify_jrec(const void *block, const uint8_t uuid[16], struct verify_report *rep);

#endif
