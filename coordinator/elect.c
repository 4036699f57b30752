/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "coordinator/elect.h"

#include <stddef.h>

static bool is_victim(const struct member *m, const struct member_node *n)
{
	for (uint32_t i = 0; i < m->victim_count; i++)
		if (m->victims[i].node == n->node &&
			m->victims[i].incarnation == n->state.incarnation)
			return true;
	return n->fenced || (n->unlisted && n->unlisted == n->state.incarnation);
}

bool elect_able(const struct member *m, const struct member_node *n)
{
	return n->answered && n->state.path == MPATH_OK && !n->silent && !is_victim(m, n);
}

bool elect_accused(const struct member *m, uint64_t epoch)
{
	for (uint32_t i = 0; i < m->node_count && epoch; i++)
		if (m->nodes[i].answered && m->nodes[i].state.role == ROLE_CANDIDATE &&
			m->nodes[i].state.against == epoch)
			return true;
	return false;
}

const struct member_node *elect_coordinator(const struct member *m)
{
	const struct member_node *best = NULL;

	for (uint32_t i = 0; i < m->node_count; i++) {
		const struct member_node *n = &m->nodes[i];

		if (!n->answered || n->state.role < ROLE_RECOVERING)
			continue;
		if (elect_accused(m, n->state.epoch))
			continue;
		if (!best || n->state.epoch > best->state.epoch)
			best = n;
	}
	return best;
}

const struct member_node *elect_standing(const struct member *m)
{
	const struct member_node *first = NULL;

	for (uint32_t i = 0; i < m->node_count; i++) {
		const struct member_node *n = &m->nodes[i];

		if (!n->answered || n->state.role != ROLE_CANDIDATE || !n->stood || n->silent)
			continue;
		if (!first || n->stood < first->stood)
			first = n;
	}
	return first;
}

bool elect_all_heard(const struct member *m)
{
	const struct member_view *v = member_view(m);

	for (uint32_t i = 0; i < v->count; i++) {
		const struct member_node *n = member_find(m, v->nodes[i]);

		if (!n || !n->heard)
			return false;
	}
	return true;
}

uint32_t elect_others(const struct member *m, uint32_t node)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < m->node_count; i++) {
		const struct member_state *s = &m->nodes[i].state;

		/* Who hangs withdraws no more: it is fenced. */
		if (m->nodes[i].silent || (s->role >= ROLE_RECOVERING && elect_accused(m, s->epoch)))
			continue;
		count += m->nodes[i].answered && m->nodes[i].node != node &&
			 s->role >= ROLE_CANDIDATE;
	}
	return count;
}

const struct member_node *elect_released(const struct member *m)
{
	uint64_t epoch = member_epoch_seen(m);

	for (uint32_t i = 0; i < m->node_count; i++) {
		const struct member_node *n = &m->nodes[i];

		if (n->answered && n->state.role == ROLE_NONE && n->state.handover &&
			n->state.epoch == epoch)
			return n;
	}
	return NULL;
}

static bool better(const struct member_node *a, const struct member_node *b)
{
	if (a->state.leaving != b->state.leaving)
		return a->state.leaving < b->state.leaving;
	if (a->state.unfit != b->state.unfit)
		return b->state.unfit;
	if (a->state.load != b->state.load)
		return a->state.load < b->state.load;
	return a->node < b->node;
}

const struct member_node *elect_best(const struct member *m, uint32_t except)
{
	const struct member_node *best = NULL, *heir = NULL, *released = elect_released(m);

	for (uint32_t i = 0; i < m->node_count; i++) {
		const struct member_node *n = &m->nodes[i];

		if (n->node == except || !elect_able(m, n))
			continue;
		if (released && n->node == released->state.handover && !n->state.unfit && !n->excused)
			heir = n;
		if (!best || better(n, best))
			best = n;
	}
	/* Who has just given it up takes it back only if nobody else can. */
	if (heir && (!heir->state.leaving || best->state.leaving))
		return heir;
	return best;
}

const struct member_node *elect_best_staying(const struct member *m, uint32_t except)
{
	const struct member_node *n = elect_best(m, except);

	return n && !n->state.leaving ? n : NULL;
}

bool elect_keeps(const void *ctx, uint64_t key)
{
	const struct member *m = ctx;
	const struct member_node *n = member_find(m, FENCE_KEY_NODE(key));

	if (!n || !n->member || !n->heard || n->state.incarnation != FENCE_KEY_INCARNATION(key))
		return false;
	if (is_victim(m, n) || n->silent || n->state.role >= ROLE_RECOVERING)
		return false;
	return n->state.path == MPATH_COMING || n->state.path == MPATH_OK;
}
