/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_dump.c - csvdb shows any block, whatever is in it. */
#include <stdio.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "metadata/format.h"
#include "tests/fuzz/damage.h"
#include "tests/fuzz/fuzz.h"
#include "tools/dump.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	csv_assert(freopen("/dev/null", "w", stdout));
	damage_start(DAMAGE_ALL);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct disk *d = damage_apply(data, size);
	const uint64_t *blkno;
	uint32_t n = damage_blocks(&blkno);

	for (uint32_t i = 0; i < n; i++)
		dump_block(disk_at(d, blkno[i] * BLOCK_SIZE));
	return 0;
}
