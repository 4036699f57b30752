/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_check.c - the library of fsck.csvfs on a damaged volume: it ends, reads each block a few times
 * at most, and does the same when it may repair.
 */
#include <errno.h>
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
}

static int check(struct disk *d, bool repair)
{
	/* A repair changes what stands there: no pointers into it then. */
	struct check_dev dev = {.ctx = d,
		.read = read_disk,
		.at = repair ? NULL : at_disk,
		.bytes = (uint64_t)d->pages * DISK_PAGE,
		.write = write_disk};
	struct check_options o = {.on_problem = on_problem, .repair = repair};
	struct check_report rep;
	struct mem mem;
	int err;

	mem_init(&mem, region, MEM_BYTES);
	o.mem = &mem;
	reads = 0;
	err = check_volume(&dev, &o, &rep);
	csv_assert(err == 0 || err == -EUCLEAN);
	csv_assert(reads <= READS_MAX);
	return err;
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

	(void)check(d, false);
	(void)check(d, true);
	(void)check(d, false);
	return 0;
}
