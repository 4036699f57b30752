/* SPDX-License-Identifier: GPL-2.0-or-later */
/* node_alone.h - the core of one node, standalone, for tests that call its parts directly. */
#ifndef CSVFS_TESTS_UNIT_NODE_ALONE_H
#define CSVFS_TESTS_UNIT_NODE_ALONE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "csvfs/node_int.h"

#define REGION (96u << 20)

static struct mem mem;
static struct node *n;
static struct effects fx;

/* A new one, at the time 0; the one before is forgotten, and its memory used again. */
static inline void node_alone(void)
{
	static void *region;
	struct node_config cfg = {.node = 1, .name = "n1", .life = 5, .standalone = true, .root_ino = 1};

	if (!region)
		region = aligned_alloc(4096, REGION);
	if (!fx.arena)
		fx.arena = malloc(EFFECTS_ARENA);
	effects_reset(&fx);
	mem_init(&mem, region, REGION);
	n = node_create(&cfg, &mem, NULL);
	assert_non_null(n);
}

#endif
