/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * datapath_serve URL MOUNTPOINT BYTES - the data path alone over a LUN, as one file: what csvfs can reach
 * when no metadata stands in its way. Runs until it is unmounted.
 */
#include <stdio.h>
#include <stdlib.h>

#include "fakecore.h"

int main(int argc, char **argv)
{
	struct fakecore_config cfg = {.cluster_bytes = 65536, .written = true, .threads = 1};
	struct fakecore *c;

	if (argc < 4) {
		fprintf(stderr, "usage: datapath_serve URL MOUNTPOINT BYTES [THREADS]\n");
		return 2;
	}
	cfg.url = argv[1];
	cfg.mountpoint = argv[2];
	cfg.file_bytes = strtoull(argv[3], NULL, 0);
	if (argc > 4)
		cfg.threads = (unsigned)atoi(argv[4]);
	c = fakecore_start(&cfg);
	if (!c)
		return 1;
	fakecore_wait(c);
	fakecore_stop(c);
	return 0;
}
