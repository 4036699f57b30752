/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * csvcrash - power fails at every point; what comes back must be a state that was there.
 *
 *   csvcrash [OPTION...] [PART...]      parts: single grow pairs scripts; all of them if none is named
 *   csvcrash --case ID [-v]
 *
 *   single    each operation of csvfs/base/fsreq.h alone: every subset of up to 6 loose writes, and
 *             each loose write torn at each sector (--cuts N: only every Nth of those)
 *   grow      the volume grows while two things are done, and what is new is used
 *   pairs     each two of them in one commit, in both orders; an operation and a read of what it changed;
 *             space that one frees and the other takes; long work
 *   scripts   up to four actors at once: [--seeds N] [--first SEED] [--actions N]
 *
 *   --variants N   of the loose writes' subsets in pairs and scripts, at most this many
 *   --every N      only every Nth point
 *   --share K/N    the Kth part of N of the pairs: for several processes at once
 *
 * A case: something runs up to a point (a command was sent or ended), power fails, of the loose writes
 * those of the variant survive; recover.h says what must be true then. It has an id, which replays
 * it: script.ACTIONS.SEED.POINT.VARIANT or OPERATION+OPERATION.SEED.POINT.VARIANT.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/crash/crash.h"
#include "tests/crash/script.h"

struct crash_options opt = {.seeds = 32,
	.actions = 12,
	.variants = 6,
	.every = 1,
	.cuts = 1,
	.first = 1,
	.share = 1,
	.shares = 1};

static bool parse_case(const char *id)
{
	unsigned long long seed, at;

	opt.only = true;
	if (sscanf(id, "script.%u.%llu.%llu.%u", &opt.actions, &seed, &at, &opt.variant) == 4) {
		opt.first = seed;
		opt.seeds = 1;
	} else if (sscanf(id, "%39[a-z0-9-]+%39[a-z0-9-].%llu.%llu.%u", opt.a, opt.b, &seed, &at,
			   &opt.variant) != 5) {
		return false;
	}
	opt.seed = seed;
	opt.point = at;
	return true;
}

static void options(int argc, char **argv)
{
	static const struct option names[] = {{"seeds", 1, NULL, 's'}, {"first", 1, NULL, 'f'},
		{"actions", 1, NULL, 'a'}, {"variants", 1, NULL, 'n'}, {"every", 1, NULL, 'e'},
		{"cuts", 1, NULL, 'u'}, {"share", 1, NULL, 'h'}, {"case", 1, NULL, 'c'},
		{NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "v", names, NULL)) != -1) {
		switch (c) {
		case 's':
			opt.seeds = (uint32_t)atoi(optarg);
			break;
		case 'f':
			opt.first = strtoull(optarg, NULL, 10);
			break;
		case 'a':
			opt.actions = (uint32_t)atoi(optarg);
			break;
		case 'n':
			opt.variants = (uint32_t)atoi(optarg);
			break;
		case 'e':
			opt.every = (uint32_t)atoi(optarg);
			break;
		case 'u':
			opt.cuts = (uint32_t)atoi(optarg);
			break;
		case 'h':
			if (sscanf(optarg, "%u/%u", &opt.share, &opt.shares) != 2)
				exit(2);
			break;
		case 'v':
			opt.verbose = true;
			break;
		case 'c':
			if (!parse_case(optarg))
				exit(2);
			break;
		default:
			exit(2);
		}
	}
	if (!opt.every || !opt.cuts || !opt.share || opt.share > opt.shares)
		exit(2);
}

static bool wanted(int argc, char **argv, const char *part)
{
	for (int i = optind; i < argc; i++)
		if (!strcmp(argv[i], part))
			return true;
	return optind == argc;
}

int main(int argc, char **argv)
{
	options(argc, argv);
	world_traces = opt.verbose;
	rec.print = opt.verbose || opt.only;
	recover_start(&script_ops);
	if (opt.only && opt.a[0]) {
		pairs_only();
	} else {
		if (!opt.only && wanted(argc, argv, "single"))
			pairs_single();
		if (!opt.only && wanted(argc, argv, "grow") && !rec.failed)
			pairs_grow();
		if (!opt.only && wanted(argc, argv, "pairs") && !rec.failed)
			pairs_run();
		if (wanted(argc, argv, "scripts") && !rec.failed)
			drive_scripts();
	}
	pairs_report();
	printf("%llu cases (%llu with a second crash, %llu with a late write, %llu requests sent "
	       "again): %s\n",
		(unsigned long long)rec.cases, (unsigned long long)rec.nested,
		(unsigned long long)rec.late, (unsigned long long)rec.resent,
		rec.failed ? "FAILED" : "all good");
	return rec.failed;
}
