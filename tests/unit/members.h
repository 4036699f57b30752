/* SPDX-License-Identifier: GPL-2.0-or-later */
/* members.h - NODES member modules, driven by hand: views from scripted events, and STATEs from each other. */
#ifndef CSVFS_TESTS_UNIT_MEMBERS_H
#define CSVFS_TESTS_UNIT_MEMBERS_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "coordinator/elect.h"
#include "coordinator/member.h"
#include "csvfs/base/assert.h"
#include "csvfs/base/prng.h"

#define NODES 4

static struct member m[NODES + 1];
static struct effects fx;
static uint64_t now;
static char story[1 << 16];
static size_t story_used;

static inline void sink(void *ctx, enum trace_level level, const char *line)
{
	if (ctx)
		story_used += (size_t)snprintf(
			story + story_used, sizeof(story) - story_used, "%s\n", line);
}

/* Only node 1's story is told. */
static const struct trace told = {TRACE_INFO, sink, story}, silent = {TRACE_INFO, sink, NULL};

static inline bool said(const char *text)
{
	bool yes = strstr(story, text) != NULL;

	if (!yes)
		fprintf(stderr, "%snever said: %s\n", story, text);
	return yes;
}

static inline void start(uint32_t node, uint64_t life, uint32_t expected_nodes)
{
	struct member_config cfg = {.trace = node == 1 ? &told : &silent,
		.uuid = {9},
		.expected_nodes = expected_nodes};

	cfg.self = (struct member_state){.node = node, .life = life, .port = 1};
	snprintf(cfg.self.name, sizeof(cfg.self.name), "n%u", node);
	snprintf(cfg.self.addr, sizeof(cfg.self.addr), "10.0.0.%u", node);
	member_init(&m[node], &cfg);
}

static inline void init(uint32_t node, uint64_t life)
{
	start(node, life, NODES);
}

static inline int begin(void **state)
{
	now = 1000 * NS_PER_SEC;
	story_used = 0;
	story[0] = 0;
	if (!fx.arena)
		fx.arena = malloc(EFFECTS_ARENA);
	for (uint32_t i = 1; i <= NODES; i++)
		init(i, 100 + i);
	return 0;
}

static inline void give(uint32_t node, struct event *ev)
{
	ev->now_ns = now;
	member_event(&m[node], ev);
	member_check(&m[node]);
}

static inline struct event conf_event(enum ev_type type, uint64_t ring, uint32_t members, bool quorate)
{
	struct event ev = {.type = type};

	ev.conf.ring_seq = ring;
	ev.conf.quorate = quorate;
	for (uint32_t i = 1; i <= NODES; i++)
		if (members & (1u << i)) {
			if (!ev.conf.ring_node)
				ev.conf.ring_node = i;
			ev.conf.members[ev.conf.member_count++] = i;
		}
	return ev;
}

#define N(i) (1u << (i))

static inline void cpg(uint32_t node, uint64_t ring, uint32_t members)
{
	struct event ev = conf_event(EV_CPG_CONF, ring, members, false);

	give(node, &ev);
}

static inline void quorum(uint32_t node, uint64_t ring, uint32_t members, bool quorate)
{
	struct event ev = conf_event(EV_QUORUM, ring, members, quorate);

	give(node, &ev);
}

static inline void timer(uint32_t node)
{
	struct event ev = {.type = EV_TIMER};

	give(node, &ev);
}

/* What `node` has to say goes to all in the mask, in one order. */
static inline uint32_t publish(uint32_t node, uint32_t to)
{
	uint32_t count;

	effects_reset(&fx);
	member_publish(&m[node], now, &fx);
	count = fx.count;
	for (uint32_t i = 0; i < count; i++) {
		struct event ev = {.type = EV_CPG_MSG};

		assert_int_equal(fx.fx[i].type, FX_CPG_SEND);
		assert_true(fx.fx[i].net.len <= CPG_MSG_MAX);
		ev.msg.node = node;
		ev.msg.bytes = fx.fx[i].net.bytes;
		ev.msg.len = fx.fx[i].net.len;
		for (uint32_t k = 1; k <= NODES; k++)
			if (to & N(k))
				give(k, &ev);
	}
	return count;
}

static inline void view_all(uint64_t ring, uint32_t members)
{
	for (uint32_t i = 1; i <= NODES; i++)
		if (members & N(i)) {
			cpg(i, ring, members);
			quorum(i, ring, members, true);
		}
	for (uint32_t i = 1; i <= NODES; i++)
		if (members & N(i))
			assert_int_equal(publish(i, members), 1);
	for (uint32_t i = 1; i <= NODES; i++)
		if (members & N(i))
			assert_true(member_view(&m[i])->agreed);
}

static inline void path(uint32_t node, enum member_path p, uint32_t incarnation, uint32_t to)
{
	member_set_path(&m[node], p, incarnation);
	assert_int_equal(publish(node, to), 1);
}

#define TEST(f) cmocka_unit_test_setup(f, begin)

#endif
