/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * member_victims.c - the fence list. Who comes onto it, and leaves it, is said at the head of member.c.
 *
 * It has room for MEMBER_VICTIMS_MAX. For more than that a fence of all but the members stands in (victims_overflow), and a member
 * that is well keeps its key in that. So a member that the coordinator has decided to fence, and that has no room on the list, is marked
 * (member_node.unlisted): it is none of those that are kept, and pending until it is known to be fenced.
 */
#include "coordinator/member.h"

#include <stddef.h>

struct member_victim *member_victims_find(struct member *m, uint32_t node, uint32_t incarnation)
{
	for (uint32_t i = 0; i < m->victim_count; i++)
		if (m->victims[i].node == node && m->victims[i].incarnation == incarnation)
			return &m->victims[i];
	return NULL;
}

void member_victim_add(struct member *m, uint32_t node, uint32_t incarnation, bool dirty)
{
	struct member_victim *v = member_victims_find(m, node, incarnation);
	uint32_t name = member_name_crc(m, node, incarnation);

	if (!incarnation)
		return;
	m->changes++;
	if (v) {
		v->dirty |= dirty;
		v->decided = false;
		v->name_crc = name;
	} else if (m->victim_count < MEMBER_VICTIMS_MAX) {
		m->victims[m->victim_count++] =
			(struct member_victim){node, incarnation, dirty, false, m->view.number, name};
	} else {
		m->victims_overflow = true;
		m->unlisted_count++;
	}
}

static void mark(struct member *m, uint32_t node, uint32_t incarnation)
{
	for (uint32_t i = 0; i < m->node_count; i++)
		if (m->nodes[i].node == node)
			m->nodes[i].unlisted = incarnation;
}

void member_victim_decide(struct member *m, uint32_t node, uint32_t incarnation)
{
	struct member_victim *v = member_victims_find(m, node, incarnation);
	bool ours = !v || v->decided;

	member_victim_add(m, node, incarnation, true);
	v = member_victims_find(m, node, incarnation);
	if (v)
		v->decided = ours;
	else
		mark(m, node, incarnation);
}

/* There may be room for them now. */
void member_victims_list_rest(struct member *m)
{
	for (uint32_t i = 0; i < m->node_count; i++) {
		struct member_node *n = &m->nodes[i];
		uint32_t incarnation = n->unlisted;

		n->unlisted = 0;
		/* Under another one it is back by itself: the one of before is a victim like any other. */
		if (incarnation && incarnation == n->state.incarnation)
			member_victim_decide(m, n->node, incarnation);
		else if (incarnation)
			member_victim_add(m, n->node, incarnation, true);
	}
}

void member_victims_undecide(struct member *m)
{
	for (uint32_t i = 0; i < m->victim_count;) {
		if (m->victims[i].decided)
			m->victims[i] = m->victims[--m->victim_count];
		else
			i++;
	}
	for (uint32_t i = 0; i < m->node_count; i++)
		m->nodes[i].unlisted = 0;
	m->changes++;
}

void member_victims_more(struct member *m)
{
	m->publish |= !m->victims_overflow;
	m->victims_overflow = true;
	m->unlisted_count++;
	m->changes++;
}

void member_victims_covered(struct member *m, uint64_t unlisted_count, uint64_t now_ns)
{
	if (!m->victims_overflow || m->unlisted_count != unlisted_count)
		return;
	m->victims_overflow = false;
	/* They have heard of it, and would tell us of it again with each STATE of theirs. */
	m->publish = true;
	m->lost_ns = now_ns;
}

void member_victims_forget(struct member *m)
{
	m->victim_count = 0;
	m->victims_overflow = false;
	for (uint32_t i = 0; i < m->node_count; i++)
		m->nodes[i].unlisted = 0;
}

bool member_victim_pending(const struct member *m, uint32_t node)
{
	if (m->victims_overflow)
		return true;
	for (uint32_t i = 0; i < m->node_count; i++)
		if (m->nodes[i].node == node && m->nodes[i].unlisted)
			return true;
	for (uint32_t i = 0; i < m->victim_count; i++)
		if (m->victims[i].node == node)
			return true;
	return false;
}
