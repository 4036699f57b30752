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

/* Answers what the node asks next, which is `op`, as the coordinator: with rp, of the file asked for unless it names one. */
static inline void node_alone_reply(enum fs_op op, struct fs_reply rp)
{
	const struct fs_request *rq;
	struct fs_reqid id;
	uint64_t wire_tag;

	rq = client_next_local(n->client, &wire_tag);
	assert_non_null(rq);
	assert_int_equal(rq->op, op);
	id = rq->id;
	rp.attr.ino = rp.attr.ino ? rp.attr.ino : rq->ino;
	rp.attr.generation = 1;
	rp.attr.mode = 0100644;
	rp.attr.nlink = 1;
	node_answer(n, wire_tag, &id, &rp, &fx);
}

static inline void node_alone_answer(enum fs_op op, uint64_t ino, int32_t err)
{
	node_alone_reply(op, (struct fs_reply){.err = err, .attr.ino = ino});
}

/* The first session is up, from `node` with life 5. */
static inline struct session *node_alone_session(uint32_t node)
{
	struct session *s = &n->sessions->s[0];

	s->all = n->sessions;
	s->state = SESSION_UP;
	s->conn = 9;
	s->peer = node;
	s->peer_life = 5;
	n->sessions->used = 1;
	return s;
}

#endif
