/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * takeover_fenced.c - who was fenced and has not been back: the second list in the claim.
 *
 * What keeps a fenced node's writes away is the reservation, and that ends when the last registration goes. A machine that was
 * paused, with commands in its queues and its session at the target still logged in, sends them whenever it goes on:
 * hours later, after everybody else has unmounted in order.
 *
 *	fenced --> listed --> every claim has it, of whatever term --> it has a path of its own again --> off the list
 *	the last node leaves, and the list is not empty --> its registration stays, the claim says so (`kept`)
 *
 * Rules
 *  1. Listed is every key that was taken away and that its node had not left in order: of a member that was lost, of one that
 *     never answered, of a stranger. Not the one that a claim says was left on purpose, nor a tool's (node 0).
 *  2. A node is back when it has a path that works, under an incarnation that is not fenced. It has logged in since, and so ended
 *     the session of before (RFC 7143 6.3.5). That its daemon lives says nothing of what its kernel, or another life, has queued.
 *  3. A number may be another machine's later (a node of another cluster; in older versions each node without one): it is known by its name, too,
 *     the one that was told with the incarnation. Of a stranger none was told: it is back when its number is, but only when nobody is left
 *     whose name is known. Whose nodes the strangers were the holder of the claim shows, whom we did not know either: if it was of our
 *     cluster it comes back under its name. (The number of a node without a cluster is its machine's own.)
 *  4. Who takes over has the list of the claim, and adds whom it fenced itself, and whom it knows to be fenced: the last coordinator
 *     may have died before it wrote that.
 *  5. When the list is full that is said, and stays: only the administrator's word ends it (fsck.csvfs --nodes-off, mkfs.csvfs).
 */
#include "coordinator/takeover.h"

#include <string.h>

#include "csvfs/base/assert.h"
#include "coordinator/elect.h"
#include "coordinator/takeover_priv.h"

static void add(struct takeover *t, const struct claim_fenced *f)
{
	struct claim *c = &t->claim;

	if (!f->node || !f->incarnation)
		return;
	for (uint32_t i = 0; i < c->fenced_count; i++) {
		struct claim_fenced *g = &c->fenced[i];

		if (g->node != f->node)
			continue;
		/* Rule 3: who that was does not change. */
		if (g->incarnation == f->incarnation && (g->name_crc || !f->name_crc))
			return;
		if (g->incarnation == f->incarnation || (g->name_crc && g->name_crc == f->name_crc)) {
			*g = *f;
			t->list_changes++;
			return;
		}
	}
	t->list_changes++;
	if (c->fenced_count == CLAIM_FENCED_MAX) {
		c->fenced_more = true;
		return;
	}
	c->fenced[c->fenced_count++] = *f;
}

static void drop(struct takeover *t, uint32_t i)
{
	struct claim *c = &t->claim;

	c->fenced[i] = c->fenced[--c->fenced_count];
	t->list_changes++;
}

static bool listed(const struct claim *c, uint32_t node, uint32_t incarnation)
{
	for (uint32_t i = 0; i < c->fenced_count; i++) {
		if (c->fenced[i].node == node && c->fenced[i].incarnation == incarnation)
			return true;
	}
	return false;
}

static bool named(const struct claim *c)
{
	for (uint32_t i = 0; i < c->fenced_count; i++) {
		if (c->fenced[i].name_crc)
			return true;
	}
	return false;
}

/* Rule 3. */
static bool is_its_name(const struct takeover *t, const struct claim_fenced *f, const char *name)
{
	if (f->name_crc)
		return f->name_crc == claim_name_crc(name);
	return f->node & NODE_ALONE || (!t->cfg.standalone && !named(&t->claim));
}

/*
 * Rule 2. We may not have heard that the incarnation of which its STATE speaks was fenced, if our corosync was away then: the
 * list knows it.
 */
static bool is_back(const struct takeover *t, const struct claim_fenced *f)
{
	const struct member_node *n = member_find(t->m, f->node);

	if (!n || !n->member || !n->heard || n->state.path != MPATH_OK || !n->state.incarnation || n->fenced ||
		member_victim_pending(t->m, f->node) || listed(&t->claim, f->node, n->state.incarnation))
		return false;
	return is_its_name(t, f, n->state.name);
}

/* Rule 1. It said so only after this fence had begun (expect_clean()): what it had written has ended before. */
static bool has_left_in_order(const struct takeover *t, const struct member_victim *v)
{
	const struct member_node *n = member_find(t->m, v->node);

	return n && n->member && n->heard && n->state.path == MPATH_CLEAN && n->state.incarnation == v->incarnation;
}

void takeover_fenced_noted(struct takeover *t)
{
	struct fence *f = &t->fence;
	/* Who was to be fenced, and may not be, is still a victim. */
	uint32_t from = fence_result(f) == FENCE_DONE ? 0 : f->victim_count;

	if (f->state != FENCE_ENDED || f->noted)
		return;
	f->noted = true;
	for (uint32_t i = from; i < f->fenced_count; i++) {
		const struct member_victim *v = &f->fenced[i];

		if (!v->dirty || (i >= f->victim_count && has_left_in_order(t, v)))
			continue;
		add(t, &(struct claim_fenced){v->node, v->incarnation,
			       v->name_crc ? v->name_crc : member_name_crc(t->m, v->node, v->incarnation)});
		/* A stranger's key may be gone. If another one goes on, and not we, it finds nothing of it: it hears of it in our STATE. */
		if (i >= f->victim_count && fence_result(f) != FENCE_DONE && v->node)
			member_victim_add(t->m, v->node, v->incarnation, true);
	}
}

void takeover_fenced_seen(struct takeover *t, const struct claim *c)
{
	t->claim_read = true;
	for (uint32_t i = 0; i < c->fenced_count; i++)
		add(t, &c->fenced[i]);
	t->claim.fenced_more |= c->fenced_more;
}

void takeover_fenced_forget(struct takeover *t)
{
	t->claim.fenced_count = 0;
	t->claim.fenced_more = t->claim_read = false;
}

/* Somebody whom we know by its life wrote it, and listed whom it had fenced. */
static bool is_of_ours(const struct takeover *t, const struct claim *last)
{
	for (uint32_t i = 0; last->state != CLAIM_CLEAN && i < t->m->node_count; i++) {
		if (t->m->nodes[i].state.life == last->life)
			return true;
	}
	return false;
}

/* Rule 4. */
static void add_known(struct takeover *t, const struct claim *last)
{
	bool strangers = !is_of_ours(t, last);

	for (uint32_t i = 0; i < t->m->node_count; i++) {
		const struct member_node *n = &t->m->nodes[i];

		/* Of a stranger it can be told whether its key had been left on purpose while the claim is there that says so. */
		if (n->at_large && (n->state.life || strangers))
			add(t, &(struct claim_fenced){n->node, n->at_large, n->at_large_name});
	}
}

void takeover_fenced_begin(struct takeover *t, const struct claim *ours, const struct claim *last)
{
	const struct claim_fenced holder = {
		last->node, last->incarnation, last->name[0] ? claim_name_crc(last->name) : 0};
	struct claim *c = &t->claim;
	char text[160];

	c->fenced_count = ours->fenced_count;
	memcpy(c->fenced, ours->fenced, sizeof(c->fenced));
	c->fenced_more = ours->fenced_more;
	takeover_fenced_seen(t, last);
	if (!t->cfg.no_reservations)
		add_known(t, last);
	for (uint32_t i = 0; i < c->fenced_count; i++) {
		if (c->fenced[i].node != holder.node || c->fenced[i].incarnation != holder.incarnation)
			continue;
		/* Rule 1: it has left in order. Else we know now who that was. */
		if (last->kept)
			drop(t, i--);
		else if (holder.name_crc)
			c->fenced[i].name_crc = holder.name_crc;
	}
	/* Nobody here saw it: its key may be gone already, by one that did not get as far as a claim. Rule 3: and whose the strangers are. */
	if ((t->cold || !is_of_ours(t, last)) && last->state != CLAIM_CLEAN && !last->kept && !t->cfg.no_reservations &&
		!elect_keeps(t->m, FENCE_KEY(last->node, last->incarnation)))
		add(t, &holder);
	takeover_fenced_step(t);
	if (claim_owes(c)) {
		claim_owes_text(c, text, sizeof(text));
		trace(t->cfg.trace, TRACE_INFO, "%s", text);
	}
}

static void drop_back(struct takeover *t, bool with_name)
{
	struct claim *c = &t->claim;

	for (uint32_t i = 0; i < c->fenced_count; i++) {
		if (!c->fenced[i].name_crc == with_name || !is_back(t, &c->fenced[i]))
			continue;
		trace(t->cfg.trace, TRACE_INFO, "node %u is back since %u/%x was fenced", c->fenced[i].node,
			c->fenced[i].node, c->fenced[i].incarnation);
		drop(t, i--);
	}
}

void takeover_fenced_step(struct takeover *t)
{
	drop_back(t, true);
	drop_back(t, false);
}

bool takeover_fenced_at_large(const struct takeover *t, char *why, size_t why_bytes)
{
	if (t->cfg.no_reservations)
		return false;
	if (!t->claim_read) {
		(void)trace_format(why, why_bytes, "who was fenced, and has not been back, was not read");
		return true;
	}
	if (!claim_owes(&t->claim))
		return false;
	claim_owes_text(&t->claim, why, why_bytes);
	return true;
}
