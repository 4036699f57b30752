/* SPDX-License-Identifier: GPL-2.0-or-later */
/* member_say.c - what we say of ourselves; member.c publishes it. */
#include "coordinator/member.h"

#include <stddef.h>

#include "csvfs/base/assert.h"

void member_set_path(struct member *m, enum member_path path, uint32_t incarnation)
{
	struct member_state *s = &m->cfg.self;

	csv_assert((path == MPATH_NONE) == (incarnation == 0));
	if (s->path == path && s->incarnation == incarnation)
		return;
	s->path = path;
	s->incarnation = incarnation;
	m->publish = true;
	m->changes++;
}

void member_set_load(struct member *m, uint32_t load)
{
	m->publish |= m->cfg.self.load != load;
	m->cfg.self.load = load;
}

void member_tell_again(struct member *m)
{
	m->publish = true;
}

uint64_t member_ask_back(struct member *m)
{
	m->publish = true;
	return m->told_count + 1;
}

bool member_came_back(const struct member *m, uint64_t ask)
{
	return m->back_count >= ask && m->form_ns == NEVER;
}

void member_set_silent(struct member *m, uint32_t node)
{
	struct member_node *n = NULL;

	for (uint32_t i = 0; i < m->node_count; i++)
		if (m->nodes[i].node == node)
			n = &m->nodes[i];

	csv_assert(n && node != m->cfg.self.node);
	n->silent = true;
	m->changes++;
}

void member_set_leaving(struct member *m, enum member_leaving leaving)
{
	struct member_state *s = &m->cfg.self;

	csv_assert(leaving >= s->leaving);
	if (s->leaving == leaving)
		return;
	s->leaving = leaving;
	m->publish = true;
	m->changes++;
}

void member_set_role(
	struct member *m, enum member_role role, uint64_t epoch, uint32_t handover, bool unfit)
{
	struct member_state *s = &m->cfg.self;

	if (s->role == role && s->epoch == epoch && s->handover == handover && s->unfit == unfit)
		return;
	s->role = role;
	s->epoch = epoch;
	s->handover = handover;
	s->unfit = unfit;
	m->publish = true;
	m->changes++;
}

void member_set_against(struct member *m, uint64_t epoch)
{
	if (m->cfg.self.against == epoch)
		return;
	m->cfg.self.against = epoch;
	m->publish = true;
	m->changes++;
}

void member_set_before(struct member *m, uint64_t epoch)
{
	if (m->cfg.self.before == epoch)
		return;
	m->cfg.self.before = epoch;
	m->publish = true;
	m->changes++;
}
