/* SPDX-License-Identifier: GPL-2.0-or-later */
/* crash.h - the parts of csvcrash: what is done to a volume while power fails. */
#ifndef CSVFS_TESTS_CRASH_CRASH_H
#define CSVFS_TESTS_CRASH_CRASH_H

#include "tests/crash/recover.h"

struct crash_options {
	uint64_t first;
	uint32_t seeds, actions, variants, every, cuts, share, shares;
	bool verbose;
	/* One case only. */
	bool only;
	char a[40], b[40]; /* operations; a empty: a script */
	uint64_t seed, point;
	uint32_t variant;
};
extern struct crash_options opt;

/* drive.c: scripts of several actors, by seed. */
void drive_scripts(void);
/* pairs.c: one operation at a time, and two in one commit. */
void pairs_single(void);
void pairs_grow(void);
void pairs_run(void);
void pairs_only(void);
/* What pairs.c says about itself when all is done. */
void pairs_report(void);

#endif
