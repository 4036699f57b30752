/* SPDX-License-Identifier: GPL-2.0-or-later */
/* member_ask.c - questions to what member.c knows. */
#include "coordinator/member.h"

#include <string.h>

#include "csvfs/base/claim.h"

const char *member_role_name(enum member_role role)
{
	static const char *const names[] = {"none", "candidate", "recovering", "serving", "draining"};

	return role <= ROLE_DRAINING ? names[role] : "?";
}

const char *member_path_name(enum member_path path)
{
	static const char *const names[] = {"none", "coming", "ok", "lost", "clean"};

	return path <= MPATH_CLEAN ? names[path] : "?";
}

const struct member_view *member_view(const struct member *m)
{
	return &m->view;
}

const struct member_node *member_find(const struct member *m, uint32_t node)
{
	for (uint32_t i = 0; i < m->node_count; i++)
		if (m->nodes[i].node == node)
			return &m->nodes[i];
	return NULL;
}

uint32_t member_name_crc(const struct member *m, uint32_t node, uint32_t incarnation)
{
	const struct member_node *n = member_find(m, node);

	if (n && n->state.incarnation == incarnation && n->state.name[0])
		return claim_name_crc(n->state.name);
	if (n && n->ended_last == incarnation && n->ended_name)
		return n->ended_name;
	for (uint32_t i = 0; i < m->victim_count; i++)
		if (m->victims[i].node == node && m->victims[i].incarnation == incarnation && m->victims[i].name_crc)
			return m->victims[i].name_crc;
	return n && n->at_large == incarnation ? n->at_large_name : 0;
}

const struct member_node *member_self(const struct member *m)
{
	return member_find(m, m->cfg.self.node);
}

const struct member_state *member_own(const struct member *m)
{
	return &m->cfg.self;
}

const struct member_node *member_named(const struct member *m, const char *name)
{
	for (uint32_t i = 0; i < m->node_count; i++)
		if (m->nodes[i].member && m->nodes[i].heard &&
			!strcmp(m->nodes[i].state.name, name))
			return &m->nodes[i];
	return NULL;
}

bool member_present(const struct member *m, uint32_t node)
{
	const struct member_node *n = member_find(m, node);

	return n && n->member;
}

uint64_t member_epoch_seen(const struct member *m)
{
	uint64_t epoch = m->cfg.self.epoch;

	for (uint32_t i = 0; i < m->node_count; i++)
		if (m->nodes[i].state.epoch > epoch)
			epoch = m->nodes[i].state.epoch;
	return epoch;
}
