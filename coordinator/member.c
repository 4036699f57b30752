/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * member.c - views of the cluster, what each node says of itself, the fence list.
 *
 * A view
 *
 *	rings equal, quorate --> new view: STATEs awaited --> all told, or MEMBER_AGREE_NS --> agreed
 *	not quorate, corosync gone --> new view that does not count
 *
 * EV_CPG_CONF and EV_QUORUM name their ring, and come in either order. While the rings differ the view
 * before stays; MEMBER_FORM_NS later it counts no more. Only member lists are believed, never lists of
 * who joined or left: a node that is in both lists may be another life of itself. Which life it is,
 * its STATE says.
 *
 * Why STATEs may be trusted to be the same everywhere: CPG delivers messages and configurations
 * of a group in one order to all its members. So all members of a view agree which CANDIDATE was
 * delivered first (member_node.stood). Members of other views agree on nothing; they are fenced.
 *
 * A STATE names the view it answers by ring and a sum of the member list. It may be delivered
 * before the view is formed here (EV_QUORUM comes later), so that it is kept, and compared when
 * the view forms.
 *
 * The fence list holds each (node, incarnation) that can no longer be trusted to stop by itself:
 *	- it was in the last view that counted and is not in this one;
 *	- its node told another life, or another incarnation, or that its path is lost;
 *	- it was put there (recall not answered); if there is no room it is marked (member_node.unlisted) until there is.
 * Not in the list: incarnations that were told MPATH_NONE. MPATH_CLEAN are in it without `dirty`.
 * It leaves the list by FENCED, which is sent when the fence is done, or by the coordinator's
 * STATE: whoever coordinates has fenced everything that was on any list when it claimed, and has
 * seen every view since. So what is not in its list, and came onto ours before this view, is
 * settled.
 *
 * Each STATE carries the list of its sender, and is added to everybody's: who has just come
 * knows what happened before, and a key that its own node has replaced by another on the LUN is
 * not forgotten. (Found by tests/unit/test_takeover.c: a coordinator cut off with a write in
 * flight came back with another incarnation, and the next one, new in the cluster, saw no old
 * key to drain.)
 *
 * Invariants, asserted by member_check()
 *  1. view.nodes is ascending.
 *  2. A view that counts has us in it; agreed only if it counts.
 *  3. A deadline for STATEs runs exactly while a view that counts is not agreed.
 *  4. Each (node, incarnation) is in the fence list once, incarnation 0 never.
 *  5. A node is known once; answered only if it is a member.
 *  6. Who left the group is heard no more: the incarnation of an older life is never kept from a
 *     fence.
 */
#include "coordinator/member.h"

#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/base/claim.h"
#include "csvfs/base/crc32c.h"
#include "csvfs/base/cursor.h"

#define MSG_MAGIC 0x6d767343u /* "Csvm" */
#define MSG_VERSION 1
#define FENCED_PER_MSG 100

enum msg_type { MSG_STATE = 1, MSG_FENCED = 2, MSG_MOVE = 3 };

/* ------------------------------------------------------------------ nodes */

static struct member_node *node_find(struct member *m, uint32_t node)
{
	for (uint32_t i = 0; i < m->node_count; i++)
		if (m->nodes[i].node == node)
			return &m->nodes[i];
	return NULL;
}

/* An entry for it; the place of a node that is long gone when all are taken. NULL: no room. */
static struct member_node *node_get(struct member *m, uint32_t node)
{
	struct member_node *n = node_find(m, node);

	if (n)
		return n;
	if (m->node_count < sizeof(m->nodes) / sizeof(m->nodes[0])) {
		n = &m->nodes[m->node_count++];
	} else {
		for (uint32_t i = 0; i < m->node_count && !n; i++)
			if (!m->nodes[i].member && !m->nodes[i].counted && !m->nodes[i].heard)
				n = &m->nodes[i];
		if (!n)
			return NULL;
	}
	memset(n, 0, sizeof(*n));
	n->node = node;
	return n;
}

static bool conf_has(const struct cpg_conf *conf, uint32_t node)
{
	for (uint32_t i = 0; i < conf->member_count; i++)
		if (conf->members[i] == node)
			return true;
	return false;
}

/* Sorted, each once, so that every member gets the same sum of the list. */
static void conf_copy(struct cpg_conf *to, const struct cpg_conf *from)
{
	uint32_t count = from->member_count < NODES_MAX ? from->member_count : NODES_MAX;

	*to = *from;
	to->member_count = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t node = from->members[i], at = to->member_count;

		if (conf_has(to, node))
			continue;
		for (; at > 0 && to->members[at - 1] > node; at--)
			to->members[at] = to->members[at - 1];
		to->members[at] = node;
		to->member_count++;
	}
}

/* ------------------------------------------------------------------ incarnations that end */

/* It holds nothing, and uses nothing any more, whatever its path was (let_go() in csvfs/node_stop.c). */
static bool left_in_order(const struct member_node *n)
{
	return n->state.leaving == LEAVING_DONE;
}

/* It has said itself that this incarnation is over, or that it leaves and holds nothing, or has ended altogether; and may be back, and not heard yet. */
static bool knows_it(const struct member_node *n, uint32_t incarnation)
{
	if (n && n->member && n->heard)
		return n->state.incarnation != incarnation || n->state.path == MPATH_LOST || n->state.path == MPATH_CLEAN ||
		       left_in_order(n);
	return n && (n->ended || left_in_order(n)) && incarnation == n->ended_last;
}

/* Of a coordinator's leases, and of those that it gave, its claim tells more. Not of one that was followed by another. */
static void lost(struct member *m, const struct member_node *n, uint64_t now_ns)
{
	if (n && n->state.role >= ROLE_RECOVERING && n->state.epoch >= member_epoch_seen(m))
		m->office_lost_ns = now_ns;
	else
		m->lost_ns = now_ns;
}

static bool was_fenced(const struct member_node *n, uint32_t incarnation)
{
	return incarnation && (n->fenced_last[0] == incarnation || n->fenced_last[1] == incarnation);
}

/* With a path it has logged in again, which has ended the session of before (takeover_fenced.c, rules 2 and 3). */
static bool later_path(const struct member_node *n, uint32_t incarnation, uint32_t name)
{
	uint32_t now = n->state.incarnation;

	if (name && name != claim_name_crc(n->state.name))
		return false;
	return n->heard && n->state.path == MPATH_OK && now && now != incarnation && !was_fenced(n, now);
}

static void victim_done(struct member *m, uint32_t node, uint32_t incarnation, uint64_t now_ns)
{
	struct member_victim *v = member_victims_find(m, node, incarnation);
	struct member_node *n = node_get(m, node);
	uint32_t name = member_name_crc(m, node, incarnation);
	bool dirty = v ? v->dirty : !n || n->state.path != MPATH_CLEAN;

	m->changes++;
	if (!knows_it(n, incarnation) && !(n && was_fenced(n, incarnation)))
		lost(m, n, now_ns);
	if (v)
		*v = m->victims[--m->victim_count];
	if (n && n->unlisted == incarnation)
		n->unlisted = 0;
	if (!n || was_fenced(n, incarnation))
		return;
	/* Its path may have been lost twice, and be told in any order: the present incarnation is not forgotten for an older one. */
	if (!n->state.incarnation || n->fenced_last[1] != n->state.incarnation)
		n->fenced_last[1] = n->fenced_last[0];
	n->fenced_last[0] = incarnation;
	n->fenced = was_fenced(n, n->state.incarnation);
	if (dirty && !later_path(n, incarnation, name)) {
		n->at_large = incarnation;
		n->at_large_name = name;
	}
}

/* The incarnation a node had is given up: by departure, by another life, by another path. */
static void incarnation_ended(struct member *m, struct member_node *n, const char *why)
{
	struct member_state *s = &n->state;
	bool fenced = was_fenced(n, s->incarnation);

	if (s->path != MPATH_NONE && s->incarnation && !fenced) {
		trace(m->cfg.trace, TRACE_INFO,
			"node %u %s, its path was %s -> to be fenced: %u/%x", n->node, why,
			member_path_name(s->path), n->node, s->incarnation);
		member_victim_add(m, n->node, s->incarnation, s->path != MPATH_CLEAN);
	}
	if (s->incarnation) {
		n->ended_name = member_name_crc(m, n->node, s->incarnation);
		n->ended_last = s->incarnation;
	}
	s->incarnation = 0; /* path stays what it was told last: how it left */
	n->fenced = false;
}

/* ------------------------------------------------------------------ views */

static bool told_this_view(const struct member *m, const struct member_node *n)
{
	return n->heard && n->told_seq == m->view.ring.seq && n->told_node == m->view.ring.node &&
	       n->told_sum == m->view_sum;
}

static void view_agree(struct member *m, uint64_t now_ns)
{
	struct member_view *v = &m->view;
	bool all = true;

	if (!v->quorate || v->agreed)
		return;
	for (uint32_t i = 0; i < v->count; i++)
		all = all && node_find(m, v->nodes[i])->answered;
	if (!all && now_ns < m->agree_ns)
		return;
	for (uint32_t i = 0; i < v->count && !all; i++)
		if (!node_find(m, v->nodes[i])->answered)
			trace(m->cfg.trace, TRACE_WARN,
				"view %llu: node %u is silent -> goes on without it",
				(unsigned long long)v->number, v->nodes[i]);
	v->agreed = true;
	m->agree_ns = NEVER;
	m->changes++;
	trace(m->cfg.trace, TRACE_INFO, "view %llu agreed", (unsigned long long)v->number);
}

static void trace_view(const struct member *m)
{
	const struct member_view *v = &m->view;
	char list[NODES_MAX * 11 + 1];
	size_t at = 0;

	list[0] = 0;
	for (uint32_t i = 0; i < v->count; i++)
		at += trace_format(list + at, sizeof(list) - at, " %u", v->nodes[i]);
	trace(m->cfg.trace, TRACE_INFO, "view %llu: nodes%s, ring %u.%llx%s%s",
		(unsigned long long)v->number, v->count ? list : " -", v->ring.node,
		(unsigned long long)v->ring.seq, v->quorate ? ", quorate" : ", NOT quorate",
		v->halved ? ", half of the cluster" : "");
}

/*
 * Who was in the last view that counted and is missing now has left. In the same ring: its daemon has ended. With its
 * corosync: it may have been cut off, and not know it.
 */
static void view_departures(struct member *m, bool same_ring, uint64_t now_ns)
{
	for (uint32_t i = 0; i < m->node_count; i++) {
		struct member_node *n = &m->nodes[i];

		if (n->counted && !n->member) {
			m->departures++;
			incarnation_ended(m, n, "left");
			n->ended = same_ring;
			if (!same_ring && !left_in_order(n))
				lost(m, n, now_ns);
		} else if (n->ended && !n->member && !left_in_order(n) && !conf_has(&m->quorum, n->node)) {
			/* A corosync that is stopped says of its clients that they ended, too. */
			n->ended = false;
			lost(m, n, now_ns);
		}
		n->counted = n->member;
	}
}

static void view_new(struct member *m, bool quorate, uint64_t now_ns)
{
	struct member_view *v = &m->view;
	bool same_ring = v->quorate && v->ring.seq == m->cpg.ring_seq && v->ring.node == m->cpg.ring_node;
	bool same_nodes = m->quorate_view.member_count == m->cpg.member_count &&
			  !memcmp(m->quorate_view.members, m->cpg.members, m->cpg.member_count * sizeof(v->nodes[0]));

	v->number++;
	v->ring = (struct member_ring){m->cpg.ring_seq, m->cpg.ring_node};
	v->count = m->cpg.member_count;
	memcpy(v->nodes, m->cpg.members, sizeof(v->nodes));
	v->quorate = quorate;
	v->agreed = false;
	m->view_sum = 0;
	for (uint32_t i = 0; i < v->count; i++) {
		le32 node = le32_of(v->nodes[i]);

		m->view_sum = crc32c(m->view_sum, &node, sizeof(node));
	}
	m->agree_ns = quorate ? now_ns + MEMBER_AGREE_NS : NEVER;
	m->form_ns = NEVER;
	m->publish = true;
	m->changes++;
	if (quorate) {
		uint32_t count = m->quorum.member_count;

		/* A half whose corosync starts anew, and is not quorate meanwhile, is half of the same cluster still. */
		if (count != m->quorate_count || !same_nodes)
			m->half = count * 2 <= m->quorate_count;
		m->quorate_count = count;
		m->quorate_view = m->cpg;
	}
	v->halved = quorate && m->half;
	trace_view(m);
	for (uint32_t i = 0; i < v->count; i++) {
		struct member_node *n = node_get(m, v->nodes[i]);

		csv_assert(n); /* NODES_MAX members, twice as many places */
		n->member = true;
	}
	for (uint32_t i = 0; i < m->node_count; i++) {
		struct member_node *n = &m->nodes[i];

		n->member = conf_has(&m->cpg, n->node);
		n->answered = n->member && told_this_view(m, n);
	}
	if (quorate)
		view_departures(m, same_ring, now_ns);
	view_agree(m, now_ns);
}

static bool view_is(const struct member *m, bool quorate)
{
	const struct member_view *v = &m->view;

	return v->number && v->quorate == quorate && v->ring.seq == m->cpg.ring_seq &&
	       v->ring.node == m->cpg.ring_node && v->count == m->cpg.member_count &&
	       !memcmp(v->nodes, m->cpg.members, v->count * sizeof(v->nodes[0]));
}

/*
 * Two callbacks of two libraries make one view. Not quorate is believed at once. Quorate in
 * another ring says nothing of this one: what was before stays for the moment that the other
 * callback needs.
 */
static void view_form(struct member *m, uint64_t now_ns)
{
	bool same_ring = m->have_cpg && m->have_quorum && m->cpg.ring_seq == m->quorum.ring_seq &&
			 m->cpg.ring_node == m->quorum.ring_node;
	bool quorate = m->have_quorum && m->quorum.quorate && conf_has(&m->cpg, m->cfg.self.node);

	if (quorate && !same_ring && now_ns < m->form_ns) {
		if (m->form_ns == NEVER)
			m->form_ns = now_ns + MEMBER_FORM_NS;
		return;
	}
	m->form_ns = NEVER;
	if (!m->have_cpg && !m->view.number)
		return; /* not joined yet */
	if (!view_is(m, quorate && same_ring))
		view_new(m, quorate && same_ring, now_ns);
}

/* ------------------------------------------------------------------ messages */

static void put_text(struct cursor *c, const char *text, size_t room)
{
	size_t n = strnlen(text, room - 1);

	cursor_put_u8(c, (uint8_t)n);
	cursor_put(c, text, n);
}

static void get_text(struct cursor *c, char *text, size_t room)
{
	uint8_t n = cursor_u8(c);
	const void *p = cursor_take(c, n);

	if (!p || n >= room || memchr(p, 0, n)) {
		c->bad = true;
		return;
	}
	memcpy(text, p, n);
	text[n] = 0;
}

static struct cursor msg_begin(
	const struct member *m, struct effects *fx, enum msg_type type, void **bytes)
{
	struct cursor c;

	*bytes = effects_alloc(fx, CPG_MSG_MAX);
	c = cursor_of(*bytes, CPG_MSG_MAX);
	cursor_put_u32(&c, MSG_MAGIC);
	cursor_put_u8(&c, MSG_VERSION);
	cursor_put_u8(&c, (uint8_t)type);
	cursor_put_u16(&c, 0);
	cursor_put(&c, m->cfg.uuid, 16);
	return c;
}

static void msg_end(struct cursor *c, void *bytes, struct effects *fx)
{
	struct effect *e = effects_add(fx, FX_CPG_SEND, 0);

	csv_assert(cursor_ok(c));
	e->net.bytes = bytes;
	e->net.len = (uint32_t)(c->p - (uint8_t *)bytes);
}

/* Writer and reader of STATE stand together: PROTOCOL.md has the same table. */
static void state_encode(const struct member *m, const struct member_state *s, struct cursor *c)
{
	cursor_put_u64(c, m->view.ring.seq);
	cursor_put_u32(c, m->view.ring.node);
	cursor_put_u32(c, m->view_sum);
	cursor_put_u32(c, s->node);
	cursor_put_u8(c, (uint8_t)s->path);
	cursor_put_u8(c, (uint8_t)s->role);
	cursor_put_u8(c, s->unfit);
	cursor_put_u8(c, (uint8_t)s->leaving);
	cursor_put_u64(c, s->life);
	cursor_put_u32(c, s->incarnation);
	cursor_put_u32(c, s->handover);
	cursor_put_u64(c, s->epoch);
	cursor_put_u32(c, s->load);
	cursor_put_u16(c, s->port);
	put_text(c, s->name, sizeof(s->name));
	put_text(c, s->addr, sizeof(s->addr));
	cursor_put_u8(c, m->victims_overflow);
	cursor_put_u8(c, (uint8_t)m->victim_count);
	for (uint32_t i = 0; i < m->victim_count; i++) {
		cursor_put_u32(c, m->victims[i].node);
		cursor_put_u32(c, m->victims[i].incarnation);
		cursor_put_u8(c, m->victims[i].dirty);
	}
	cursor_put_u64(c, s->against);
	cursor_put_u64(c, s->before);
}

/* The list that follows the rest of a STATE. */
struct told_list {
	bool overflow;
	uint32_t count;
	struct member_victim v[MEMBER_VICTIMS_MAX];
};

static void list_decode(struct cursor *c, struct told_list *list)
{
	list->overflow = cursor_u8(c) != 0;
	list->count = cursor_u8(c);
	if (list->count > MEMBER_VICTIMS_MAX)
		c->bad = true;
	for (uint32_t i = 0; cursor_ok(c) && i < list->count; i++) {
		list->v[i].node = cursor_u32(c);
		list->v[i].incarnation = cursor_u32(c);
		list->v[i].dirty = cursor_u8(c) != 0;
	}
}

static bool state_decode(
	struct cursor *c, struct member_state *s, struct member_node *told, struct told_list *list)
{
	uint8_t path, role, leaving;

	memset(s, 0, sizeof(*s));
	told->told_seq = cursor_u64(c);
	told->told_node = cursor_u32(c);
	told->told_sum = cursor_u32(c);
	s->node = cursor_u32(c);
	path = cursor_u8(c);
	role = cursor_u8(c);
	s->unfit = cursor_u8(c) != 0;
	leaving = cursor_u8(c);
	s->life = cursor_u64(c);
	s->incarnation = cursor_u32(c);
	s->handover = cursor_u32(c);
	s->epoch = cursor_u64(c);
	s->load = cursor_u32(c);
	s->port = cursor_u16(c);
	get_text(c, s->name, sizeof(s->name));
	get_text(c, s->addr, sizeof(s->addr));
	list_decode(c, list);
	s->against = cursor_u64(c);
	s->before = cursor_u64(c);
	if (!cursor_ok(c) || path > MPATH_CLEAN || role > ROLE_DRAINING || leaving > LEAVING_DONE)
		return false;
	if ((path == MPATH_NONE) != (s->incarnation == 0))
		return false;
	s->path = (enum member_path)path;
	s->role = (enum member_role)role;
	s->leaving = (enum member_leaving)leaving;
	return true;
}

static void state_trace(
	const struct member *m, const struct member_node *n, const struct member_state *s)
{
	if (n->heard && n->state.life == s->life && n->state.path == s->path &&
		n->state.incarnation == s->incarnation && n->state.role == s->role &&
		n->state.epoch == s->epoch)
		return;
	trace(m->cfg.trace, TRACE_DEBUG, "node %u tells: life %llx, path %s %x, %s, epoch %llu",
		s->node, (unsigned long long)s->life, member_path_name(s->path), s->incarnation,
		member_role_name(s->role), (unsigned long long)s->epoch);
}

/*
 * Of a node that is not in the group as we know it: the STATE of one that is about to appear
 * counts, the last words of one that is gone do not (invariant 6).
 */
static bool state_is_timely(const struct member *m, const struct member_node *n,
	const struct member_state *s, const struct member_node *told)
{
	if (!m->have_cpg || conf_has(&m->cpg, n->node))
		return true;
	return n->state.life != s->life || told->told_seq > m->cpg.ring_seq;
}

/* The order of messages says to all alike who goes without the epoch that is given up, and who waits for it. */
static void drain_begins(struct member *m, const struct member_node *coordinator)
{
	for (uint32_t i = 0; i < m->node_count; i++) {
		struct member_node *n = &m->nodes[i];

		n->excused = n != coordinator && n->heard && n->state.leaving >= LEAVING_READY;
	}
}

static void state_delivered(
	struct member *m, const struct member_state *s, const struct member_node *told)
{
	struct member_node *n = node_get(m, s->node);
	bool same_told, has_answered, other_path;

	if (!n || !state_is_timely(m, n, s, told))
		return;
	state_trace(m, n, s);
	has_answered = n->answered && n->heard && n->state.life == s->life;
	if (n->state.life != s->life) {
		m->departures += n->state.life != 0;
		incarnation_ended(m, n, "came back with another life");
		n->stood = 0;
	} else if (n->state.incarnation != s->incarnation) {
		/* Told NONE: the node itself has proof that nothing of it is in flight. */
		if (s->path != MPATH_NONE)
			incarnation_ended(m, n, "has another incarnation");
	}
	same_told = n->told_seq == told->told_seq && n->told_node == told->told_node &&
		    n->told_sum == told->told_sum;
	if (s->role == ROLE_NONE)
		n->stood = 0;
	else if (!n->stood || !same_told)
		n->stood = ++m->stands;
	if ((s->path == MPATH_COMING || s->path == MPATH_OK) &&
		(s->path != n->state.path || s->incarnation != n->state.incarnation))
		m->path_news++;
	if (s->role == ROLE_DRAINING && n->state.role != ROLE_DRAINING)
		drain_begins(m, n);
	other_path = s->path != n->state.path || s->incarnation != n->state.incarnation;
	n->told_ns = m->now_ns;
	n->silent = false;
	n->ended = false; /* that was another life, or its connection to corosync alone */
	n->state = *s;
	n->told_seq = told->told_seq;
	n->told_node = told->told_node;
	n->told_sum = told->told_sum;
	n->heard = true;
	n->fenced = was_fenced(n, s->incarnation);
	if (later_path(n, n->at_large, n->at_large_name))
		n->at_large = 0;
	if (s->path == MPATH_LOST && !n->fenced)
		member_victim_add(m, n->node, s->incarnation, true);
	/* Who is ahead of us, in the view that comes, has answered in this one: else nobody would coordinate until it does. */
	n->answered = n->member && (has_answered || told_this_view(m, n));
	/*
	 * It may have come back under another one, or be late in a view that was agreed without it, and the word that this one is
	 * fenced was for who was here then.
	 */
	if (n->fenced && s->path != MPATH_NONE && (other_path || (n->answered && !has_answered)))
		m->fenced_again_ns = m->now_ns;
	m->changes++;
	if (s->node == m->cfg.self.node) {
		m->announced = FENCE_KEY(s->node, s->incarnation);
		m->back_count += m->back_count < m->told_count;
	}
}

/*
 * The incarnation under which a member is present and well is nobody's victim by hearsay: the
 * other half of a split had it on its list, and has lost. Of ourselves we know that before our own STATE comes back: two
 * nodes that each had taken themselves for a victim would both leave it to the other one to take over, for ever.
 */
static bool hearsay(const struct member *m, const struct member_victim *v)
{
	const struct member_node *n = member_find(m, v->node);
	bool ours = v->node == m->cfg.self.node;
	const struct member_state *s = ours ? member_own(m) : n ? &n->state : NULL;

	if (!s || !n)
		return false;
	if (was_fenced(n, v->incarnation))
		return true;
	return (ours || (n->member && n->heard)) && s->incarnation == v->incarnation &&
	       (s->path == MPATH_OK || s->path == MPATH_COMING);
}

static void list_delivered(struct member *m, uint32_t from, const struct told_list *list)
{
	const struct member_node *n = member_find(m, from);
	bool settled;

	if (from == m->cfg.self.node || !n)
		return;
	settled = n->answered && n->state.role >= ROLE_RECOVERING &&
		  n->state.epoch >= member_epoch_seen(m);
	for (uint32_t i = 0; settled && i < m->victim_count;) {
		bool keep = m->victims[i].view >= m->view.number;

		for (uint32_t k = 0; k < list->count; k++)
			keep |= m->victims[i].node == list->v[k].node &&
				m->victims[i].incarnation == list->v[k].incarnation;
		if (keep)
			i++;
		else
			m->victims[i] = m->victims[--m->victim_count];
	}
	if (settled)
		m->victims_overflow = false;
	m->victims_overflow |= list->overflow;
	for (uint32_t i = 0; i < list->count; i++)
		if (!hearsay(m, &list->v[i]))
			member_victim_add(
				m, list->v[i].node, list->v[i].incarnation, list->v[i].dirty);
}

static void fenced_delivered(struct member *m, struct cursor *c, uint32_t from, uint64_t now_ns)
{
	uint16_t count = cursor_u16(c);

	for (uint16_t i = 0; i < count; i++) {
		uint32_t node = cursor_u32(c), incarnation = cursor_u32(c);

		if (!cursor_ok(c))
			return;
		trace(m->cfg.trace, TRACE_INFO, "node %u says: %u/%x is fenced", from, node,
			incarnation);
		victim_done(m, node, incarnation, now_ns);
	}
}

static void msg_delivered(struct member *m, const struct event *ev)
{
	struct cursor c = cursor_of_const(ev->msg.bytes, ev->msg.len);
	uint32_t magic = cursor_u32(&c);
	uint8_t version = cursor_u8(&c), type = cursor_u8(&c);
	const void *uuid;
	struct member_state s;
	struct member_node told;
	struct told_list list;

	(void)cursor_u16(&c);
	uuid = cursor_take(&c, 16);
	if (!cursor_ok(&c) || magic != MSG_MAGIC || version != MSG_VERSION ||
		memcmp(uuid, m->cfg.uuid, 16)) {
		trace(m->cfg.trace, TRACE_WARN,
			"node %u sent a message that is not ours (version %u) -> ignored",
			ev->msg.node, version);
		return;
	}
	switch (type) {
	case MSG_STATE:
		if (state_decode(&c, &s, &told, &list) && s.node == ev->msg.node &&
			(s.node != m->cfg.self.node || s.life == m->cfg.self.life)) {
			state_delivered(m, &s, &told);
			list_delivered(m, s.node, &list);
			view_agree(m, ev->now_ns);
			return;
		}
		break;
	case MSG_FENCED:
		fenced_delivered(m, &c, ev->msg.node, ev->now_ns);
		if (cursor_ok(&c))
			return;
		break;
	case MSG_MOVE:
		m->asked_move = cursor_u32(&c);
		m->changes++;
		if (cursor_ok(&c))
			return;
		m->asked_move = 0;
		break;
	}
	trace(m->cfg.trace, TRACE_WARN, "node %u sent a malformed message of type %u -> ignored",
		ev->msg.node, type);
}

/* ------------------------------------------------------------------ events */

void member_init(struct member *m, const struct member_config *cfg)
{
	struct member_node *n;

	memset(m, 0, sizeof(*m));
	m->cfg = *cfg;
	m->agree_ns = m->form_ns = m->join_ns = m->again_ns = m->fenced_again_ns = NEVER;
	m->quorate_count = cfg->expected_nodes;
	n = node_get(m, cfg->self.node);
	n->state = cfg->self;
}

static void node_forget_told(struct member_node *n)
{
	n->told_seq = 0;
	n->told_node = n->told_sum = 0;
	n->stood = 0;
}

static void conf_event(struct member *m, const struct event *ev)
{
	struct cpg_conf old = m->cpg;

	m->down = false;
	m->join_ns = NEVER;
	conf_copy(&m->cpg, &ev->conf);
	if (m->have_cpg && old.ring_seq == m->cpg.ring_seq && old.ring_node == m->cpg.ring_node &&
		old.member_count == m->cpg.member_count &&
		!memcmp(old.members, m->cpg.members, old.member_count * sizeof(old.members[0])))
		return;
	m->have_cpg = true;
	for (uint32_t i = 0; i < m->node_count; i++) {
		struct member_node *n = &m->nodes[i];

		/*
		 * What was told before this configuration answers none that comes to look like
		 * the one it was told in. Who was not in the group may have told early: that
		 * stays.
		 */
		if (conf_has(&old, n->node))
			node_forget_told(n);
		if (conf_has(&old, n->node) && !conf_has(&m->cpg, n->node))
			n->heard = n->silent = false;
	}
	view_form(m, ev->now_ns);
}

static void down_event(struct member *m, const struct event *ev)
{
	if (!m->down)
		trace(m->cfg.trace, TRACE_ERROR,
			"corosync is gone -> no view counts; joining again");
	m->down = true;
	m->have_cpg = m->have_quorum = false;
	memset(&m->cpg, 0, sizeof(m->cpg));
	for (uint32_t i = 0; i < m->node_count; i++) {
		node_forget_told(&m->nodes[i]);
		m->nodes[i].heard = false;
	}
	m->announced = 0;
	m->back_count = m->told_count;
	m->join_ns = ev->now_ns + MEMBER_REJOIN_NS;
	view_form(m, ev->now_ns);
}

static void standalone_start(struct member *m, uint64_t now_ns)
{
	m->have_cpg = m->have_quorum = true;
	m->cpg = (struct cpg_conf){
		.ring_seq = 1, .ring_node = m->cfg.self.node, .quorate = true, .member_count = 1};
	m->cpg.members[0] = m->cfg.self.node;
	m->quorum = m->cpg;
	view_form(m, now_ns);
}

void member_event(struct member *m, const struct event *ev)
{
	m->now_ns = ev->now_ns;
	switch (ev->type) {
	case EV_START:
		if (m->cfg.standalone)
			standalone_start(m, ev->now_ns);
		break;
	case EV_CPG_CONF:
		conf_event(m, ev);
		break;
	case EV_QUORUM:
		conf_copy(&m->quorum, &ev->conf);
		m->have_quorum = true;
		view_form(m, ev->now_ns);
		break;
	case EV_CPG_MSG:
		msg_delivered(m, ev);
		break;
	case EV_CPG_DOWN:
		down_event(m, ev);
		break;
	default:
		break;
	}
	if (ev->now_ns >= m->form_ns)
		view_form(m, ev->now_ns);
	view_agree(m, ev->now_ns);
}

uint64_t member_deadline(const struct member *m)
{
	uint64_t at = m->agree_ns < m->form_ns ? m->agree_ns : m->form_ns;

	at = at < m->join_ns ? at : m->join_ns;
	return at < m->again_ns ? at : m->again_ns;
}

/* ------------------------------------------------------------------ what we say */

void member_publish(struct member *m, uint64_t now_ns, struct effects *fx)
{
	struct member_node told = {0};
	struct cursor c;
	void *bytes;

	if (now_ns >= m->join_ns) {
		(void)effects_add(fx, FX_CPG_JOIN, 0);
		m->join_ns = NEVER;
	}
	if (now_ns >= m->again_ns) {
		m->publish = true;
		m->again_ns = NEVER;
	}
	/* While two rings differ there is no view to answer; it will ask again. */
	if (!m->publish || !m->have_cpg || m->form_ns != NEVER)
		return;
	m->publish = false;
	m->again_ns = NEVER;
	m->told_count++;
	if (m->cfg.standalone) {
		told.told_seq = m->view.ring.seq;
		told.told_node = m->view.ring.node;
		told.told_sum = m->view_sum;
		state_delivered(m, &m->cfg.self, &told);
		view_agree(m, now_ns);
		return;
	}
	c = msg_begin(m, fx, MSG_STATE, &bytes);
	state_encode(m, &m->cfg.self, &c);
	msg_end(&c, bytes, fx);
}

void member_send_fenced(struct member *m, const struct member_victim *v, uint32_t count,
	uint64_t now_ns, struct effects *fx)
{
	struct cursor c;
	void *bytes;

	/*
	 * Taken out here at once: a victim that is added again after this, before the message
	 * comes back, is fenced twice, which does no harm.
	 */
	for (uint32_t i = 0; i < count; i++)
		victim_done(m, v[i].node, v[i].incarnation, now_ns);
	member_victims_list_rest(m);
	while (count && !m->cfg.standalone && m->have_cpg) {
		uint32_t n = count < FENCED_PER_MSG ? count : FENCED_PER_MSG;

		c = msg_begin(m, fx, MSG_FENCED, &bytes);
		cursor_put_u16(&c, (uint16_t)n);
		for (uint32_t i = 0; i < n; i++) {
			cursor_put_u32(&c, v[i].node);
			cursor_put_u32(&c, v[i].incarnation);
		}
		msg_end(&c, bytes, fx);
		v += n;
		count -= n;
	}
}

void member_not_sent(struct member *m, const void *bytes, uint32_t len)
{
	struct cursor c = cursor_of_const(bytes, len);
	uint8_t type;

	(void)cursor_u32(&c);
	(void)cursor_u8(&c);
	type = cursor_u8(&c);
	csv_assert(cursor_ok(&c));
	if (type == MSG_STATE) {
		/* It does not come back: who waits for it (member_ask_back()) waits for the next one. */
		csv_assert(m->told_count);
		m->told_count--;
		m->again_ns = m->now_ns + MEMBER_AGAIN_NS;
	} else if (type == MSG_FENCED) {
		m->fenced_again_ns = m->now_ns + MEMBER_AGAIN_NS;
	}
	/* A move is asked for again by the administrator. */
}

void member_send_move(struct member *m, uint32_t target, struct effects *fx)
{
	struct cursor c;
	void *bytes;

	c = msg_begin(m, fx, MSG_MOVE, &bytes);
	cursor_put_u32(&c, target);
	msg_end(&c, bytes, fx);
}

bool member_announced(const struct member *m, uint32_t incarnation)
{
	return m->view.quorate && member_self(m)->answered && m->announced == FENCE_KEY(m->cfg.self.node, incarnation);
}

bool member_was_fenced(const struct member *m, uint32_t incarnation)
{
	return was_fenced(member_self(m), incarnation);
}

void member_check(const struct member *m)
{
	const struct member_view *v = &m->view;

	csv_assert(v->count <= NODES_MAX);
	for (uint32_t i = 1; i < v->count; i++)
		csv_assert(v->nodes[i - 1] < v->nodes[i]);
	if (v->quorate)
		csv_assert(member_present(m, m->cfg.self.node));
	csv_assert(!v->agreed || v->quorate);
	csv_assert((m->agree_ns != NEVER) == (v->quorate && !v->agreed));
	csv_assert(m->victim_count <= MEMBER_VICTIMS_MAX);
	for (uint32_t i = 0; i < m->victim_count; i++) {
		csv_assert(m->victims[i].incarnation);
		for (uint32_t j = 0; j < i; j++)
			csv_assert(m->victims[i].node != m->victims[j].node ||
				   m->victims[i].incarnation != m->victims[j].incarnation);
	}
	for (uint32_t i = 0; i < m->node_count; i++) {
		const struct member_node *n = &m->nodes[i];

		for (uint32_t j = 0; j < i; j++)
			csv_assert(m->nodes[j].node != n->node);
		csv_assert(!n->answered || n->member);
		csv_assert(!n->heard || n->state.node == n->node);
	}
}
