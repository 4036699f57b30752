/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_check.c - the library of fsck.csvfs on a damaged volume: it ends, reads each block a few times
 * at most; and what it has repaired has no fault any more.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "csvfs/base/assert.h"
#include "tests/fuzz/damage.h"
#include "tests/fuzz/fuzz.h"
#include "tools/check/check.h"

#define MEM_BYTES (64u << 20)
#define READS_MAX 200000u

static void *region;
static uint64_t reads;

static int read_disk(void *ctx, uint64_t off, void *buf, uint32_t len)
{
	reads++;
	disk_read(ctx, off, buf, len);
	return 0;
}

static const void *at_disk(void *ctx, uint64_t off)
{
	reads++;
	return disk_at(ctx, off);
}

static int write_disk(void *ctx, uint64_t off, const void *buf, uint32_t len)
{
	csv_assert(off % DISK_PAGE == 0 && len % DISK_PAGE == 0);
	disk_write_now(ctx, off, buf, len);
	return 0;
}

static void on_problem(void *ctx, const struct check_problem *p)
{
	char text[256];

	(void)check_problem_text(p, text, sizeof(text));
	if (getenv("FUZZ_VERBOSE"))
		fprintf(stderr, "  %s\n", text);
}

/* Its result, and whether it found faults. */
static int check(struct disk *d, bool repair, bool *faults)
{
	/* A repair changes what stands there: no pointers into it then. */
	struct check_dev dev = {.ctx = d,
		.read = read_disk,
		.at = repair ? NULL : at_disk,
		.bytes = (uint64_t)d->pages * DISK_PAGE,
		.write = write_disk};
	struct check_options o = {.on_problem = on_problem};
	struct check_report rep;
	struct mem mem;
	int err;

	mem_init(&mem, region, MEM_BYTES);
	o.mem = &mem;
	reads = 0;
	err = repair ? check_repair(&dev, &o, true, &rep) : check_volume(&dev, &o, &rep);
	csv_assert(err == 0 || err == -EUCLEAN || (repair && err == -ENOSPC));
	csv_assert(reads <= READS_MAX);
	*faults = check_faults(&rep) > 0;
	return err;
}

/* With a right checksum, and wrong: then nobody knows what is right. */
static bool super_edited(const struct disk *d)
{
	const uint64_t *blkno;
	uint32_t n = damage_blocks(&blkno);

	for (uint32_t i = 0; i < n; i++)
		if (blkno[i] == SUPER_BLOCK || blkno[i] == SUPER_COPY_BLOCK ||
			blkno[i] == d->pages - 1)
			return true;
	return false;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	region = aligned_alloc(4096, MEM_BYTES);
	damage_start(DAMAGE_ALL);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct disk *d = damage_apply(data, size);
	bool faults;

	if (check(d, false, &faults) || !faults)
		return 0;
	if (check(d, true, &faults) || super_edited(d))
		return 0;
	csv_assert(check(d, false, &faults) == 0);
	csv_assert(!faults);
	return 0;
}
