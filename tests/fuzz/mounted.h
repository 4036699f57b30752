/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mounted.h - a volume is opened, all of it is looked at, everything is done to it, it is closed. */
#ifndef CSVFS_TESTS_FUZZ_MOUNTED_H
#define CSVFS_TESTS_FUZZ_MOUNTED_H

#include "tests/crash/world.h"

void mounted_start(void);
void mounted_run(struct disk *d);

#endif
