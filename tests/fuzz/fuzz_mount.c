/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_mount.c - the engine on a damaged volume (any block of it): it answers, with errors, or freezes.
 */
#include "tests/fuzz/damage.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/mounted.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	damage_start(DAMAGE_ALL);
	mounted_start();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	mounted_run(damage_apply(data, size));
	return 0;
}
