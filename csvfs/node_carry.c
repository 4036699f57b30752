/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_carry.c - who does the block I/O of a node that has no path: its coordinator, or another node that this one names.
 *
 *	coordinator                      carrier                       a node without a path
 *	  CARRY on, ticket ----------->  does its block I/O
 *	  WAY, ticket ---------------------------------------------->  connects to the carrier, and shows the ticket
 *	  CARRY off ------------------>  takes no more
 *	             <------- CARRIED    nothing of it is in flight here
 *
 * Rules
 *  1. It is spread: who carries for the fewest is next, the coordinator itself first among equals (it needs no session more).
 *  2. The coordinator gives away nothing of a node, and serves it in no new session, while somebody may have I/O of it in
 *     flight: from before CARRY is sent until CARRIED, or until the carrier has reclaimed in a new session (rule 3), is
 *     fenced, or has left. Also if only the path that it had then is fenced, and its session is gone: it may hang, and never say so.
 *  3. A node carries what its present session with its coordinator has told it to, and nothing else. It says RECLAIM_END only when
 *     nothing of others is in flight here: who takes over knows nothing of who carried for whom. If the target holds a write for
 *     too long for that, it gives up its path's incarnation: when that is fenced the write cannot land.
 *  4. Who does not answer CARRY is fenced, as who does not answer a recall.
 *  5. A ticket is of one CARRY: what was sent before, and lay somewhere on its way since, is refused.
 *  6. If the session to the carrier ends with writes whose outcome is unknown, their node begins anew with its
 *     coordinator, whose SERVE says that nothing of it is in flight anywhere (rule 2).
 *  7. What a carrier has read, or says that it has written, counts only while its node's lease runs: it does not know, as the
 *     coordinator does, that the node was given up. What was written is sent once more, if the node still has the right to.
 *  8. A path that has come back carries when the coordinator has answered since all were told of it (rule 7 of node_data.c). Who was
 *     fenced, and does not know yet that its session is over, would carry under a key that nobody has fenced.
 */
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/node_int.h"

#define BIT(idx) (1ull << (idx))
#define HOLD_NS (1500 * NS_PER_MS)   /* rule 3; a member has 3 s to reclaim */
#define AGAIN_NS (2 * NS_PER_SEC)    /* a session to the carrier that was lost */
#define REFUSED_NS (200 * NS_PER_MS) /* ... and one over which it refused */
#define DRAINS_NS (20 * NS_PER_MS)   /* the coordinator refused: it hands over, say */

/* ------------------------------------------------------------------ the coordinator */

bool node_carry_busy(const struct peer *p)
{
	return p->blocks || p->carried;
}

static const struct member_node *member_of(const struct node *n, const struct peer *p)
{
	const struct member_node *m = member_find(&n->member, p->node);

	return m && m->member && m->state.life == p->life && !m->state.leaving ? m : NULL;
}

static bool has_no_path(const struct node *n, const struct peer *p)
{
	const struct member_node *m = p->served ? member_of(n, p) : NULL;

	return m && m->state.path != MPATH_OK;
}

static bool can_carry(struct node *n, const struct peer *c)
{
	const struct member_node *m = c->served && !c->evicted_ns ? member_of(n, c) : NULL;

	return m && m->state.path == MPATH_OK && c->node != n->cfg.node && session_from(n->sessions, c->node);
}

static uint32_t load_of(const struct node *n, uint32_t node)
{
	uint32_t load = 0;

	for (uint32_t i = 0; i < n->peers_end; i++)
		load += n->peers[i].node && n->peers[i].placed && n->peers[i].way == node;
	return load;
}

static void tell(struct node *n, uint32_t to, enum msg_type type, uint32_t node, uint64_t life, uint32_t ticket,
	struct effects *fx)
{
	struct msg m = {.type = type, .carry = {.node = node, .ticket = ticket, .life = life}};
	struct session *s = session_from(n->sessions, to);

	m.carry.on = type == MSG_CARRY && ticket;
	if (s)
		(void)session_send(s, &m, 0, 0, fx);
}

/* Rule 1. */
static void place(struct node *n, struct peer *x, struct effects *fx)
{
	uint32_t least = n->cfg.carry_elsewhere ? UINT32_MAX : load_of(n, 0), at = NODES_MAX, ticket;

	for (uint32_t i = 0; i < n->peers_end; i++) {
		struct peer *c = &n->peers[i];
		uint32_t load;

		if (!c->node || c == x || (x->carried & BIT(i)) || !can_carry(n, c))
			continue;
		load = load_of(n, c->node);
		if (load < least) {
			least = load;
			at = i;
		}
	}
	x->placed = true;
	if (at == NODES_MAX) {
		/* It may have had another way, which was forgotten with who did it. */
		tell(n, x->node, MSG_WAY, 0, 0, 0, fx);
		return;
	}
	x->way = n->peers[at].node;
	x->carried |= BIT(at);
	/* Rule 5. Of no other term. */
	ticket = (uint32_t)takeover_epoch(n->tk) << 16 | (++n->tickets & 0xffff);
	ticket += !ticket;
	trace(n->trace, TRACE_INFO, "node %u has no path: node %u does its block I/O", x->node, x->way);
	tell(n, x->way, MSG_CARRY, x->node, x->life, ticket, fx);
	tell(n, x->node, MSG_WAY, x->way, 0, ticket, fx);
}

static void displace(struct node *n, struct peer *x, struct effects *fx)
{
	const struct peer *c = x->way ? node_peer(n, x->way) : NULL;

	if (!x->placed || (has_no_path(n, x) && (!x->way || (c && can_carry(n, c)))))
		return;
	if (x->way && x->served)
		tell(n, x->node, MSG_WAY, 0, 0, 0, fx);
	x->placed = false;
	x->way = 0;
}

static void carried(struct node *n, struct peer *x, uint64_t mask)
{
	if (!(x->carried & mask))
		return;
	x->carried &= ~mask;
	x->ending &= ~mask;
	n->leases_changed = n->again = true;
}

/* Its path was lost since it was told to carry, and is fenced: it may hang, for ever, but nothing of it lands. Rule 8: nor later. */
static bool over_with_its_path(const struct node *n, const struct peer *c)
{
	const struct member_node *m = member_find(&n->member, c->node);

	return m && m->member && m->state.life == c->life && m->state.path != MPATH_OK && !member_victim_pending(&n->member, c->node);
}

/* Rule 2: who is to carry no more for x, and does not know it. */
static void end_carrying(struct node *n, struct peer *x, struct effects *fx)
{
	for (uint64_t left = x->carried; left; left &= left - 1) {
		uint32_t i = (uint32_t)__builtin_ctzll(left);
		struct peer *c = &n->peers[i];

		if (x->placed && x->way == c->node)
			continue;
		if (!c->served && over_with_its_path(n, c)) {
			carried(n, x, BIT(i));
			continue;
		}
		if (!c->carry_due_ns)
			c->carry_due_ns = n->now_ns + n->cfg.recall_ns;
		/* Who has no session says, as it reclaims, that nothing is in flight (rule 3). */
		if (!c->served || (x->ending & BIT(i)))
			continue;
		x->ending |= BIT(i);
		tell(n, c->node, MSG_CARRY, x->node, x->life, 0, fx);
	}
}

static bool is_to_end(const struct node *n, uint32_t idx)
{
	for (uint32_t i = 0; i < n->peers_end; i++) {
		const struct peer *x = &n->peers[i];

		if ((x->carried & BIT(idx)) && !(x->placed && x->way == n->peers[idx].node))
			return true;
	}
	return false;
}

/* Rule 4. */
static void time_is_up(struct node *n, uint32_t idx, struct effects *fx)
{
	struct peer *c = &n->peers[idx];
	const struct member_node *m = member_find(&n->member, c->node);

	if (!is_to_end(n, idx)) {
		c->carry_due_ns = 0;
		return;
	}
	if (n->now_ns < c->carry_due_ns || n->unsure)
		return;
	c->carry_due_ns = n->now_ns + n->cfg.recall_ns;
	/* What an older life did is not this one's to end. */
	if (c->older)
		return;
	/* Without a path it writes nothing; what it had in flight ends with its incarnation. */
	if (m && m->member && m->state.path == MPATH_OK)
		node_peers_evict(n, c, "CARRY", fx);
}

void node_carry_step(struct node *n, struct effects *fx)
{
	bool serves = takeover_state(n->tk) == TK_SERVE;

	for (uint32_t i = 0; i < n->peers_end; i++) {
		struct peer *x = &n->peers[i];

		if (!x->node || x->node == n->cfg.node)
			continue;
		if (!effects_room(fx, 80, 16384)) {
			n->again = true;
			return;
		}
		displace(n, x, fx);
		if (x->carried)
			end_carrying(n, x, fx);
		if (serves && !x->placed && has_no_path(n, x))
			place(n, x, fx);
		if (x->carry_due_ns)
			time_is_up(n, i, fx);
	}
}

uint64_t node_carry_deadline(const struct node *n)
{
	uint64_t d = NEVER;

	for (uint32_t i = 0; i < n->peers_end && !n->unsure; i++) {
		if (n->peers[i].carry_due_ns && n->peers[i].carry_due_ns < d)
			d = n->peers[i].carry_due_ns;
	}
	return d;
}

void node_carry_awake(struct node *n)
{
	for (uint32_t i = 0; i < n->peers_end; i++) {
		if (n->peers[i].carry_due_ns)
			n->peers[i].carry_due_ns = n->now_ns + n->cfg.recall_ns;
	}
}

void node_carry_none(struct node *n, uint32_t idx)
{
	for (uint32_t i = 0; i < n->peers_end; i++) {
		carried(n, &n->peers[i], BIT(idx));
		/* It has not heard of it, or has forgotten it. */
		if (n->peers[i].node && n->peers[i].way && n->peers[i].way == n->peers[idx].node) {
			n->peers[i].placed = false;
			n->peers[i].way = 0;
		}
	}
}

static void has_ended(struct node *n, const struct session *s, uint32_t node)
{
	struct peer *c = n->vol && !s->outgoing ? node_peer(n, s->peer) : NULL;
	struct peer *x = c ? node_peer(n, node) : NULL;

	if (!x || !c->served || c->life != s->peer_life || !(x->ending & BIT(c - n->peers)))
		return;
	carried(n, x, BIT(c - n->peers));
	/* It answers: for what else it was asked it has its time anew. */
	c->carry_due_ns = is_to_end(n, (uint32_t)(c - n->peers)) ? n->now_ns + n->cfg.recall_ns : 0;
}

/* ------------------------------------------------------------------ who carries */

static bool in_flight(const struct node *n, uint32_t node)
{
	list_for_each_entry (v, &n->served, struct served, link) {
		if (v->node == node)
			return true;
	}
	return false;
}

static struct carry *find(struct node *n, uint32_t node)
{
	for (uint32_t i = 0; i < n->carry_count; i++) {
		if (n->carry[i].node == node)
			return &n->carry[i];
	}
	return NULL;
}

static void has_carried(struct node *n, struct carry *k, struct effects *fx)
{
	struct msg m = {.type = MSG_CARRIED, .carry = {.node = k->node, .life = k->life}};

	*k = n->carry[--n->carry_count];
	(void)session_send(n->coord, &m, 0, 0, fx);
}

static void told_to_carry(struct node *n, const struct msg *m, struct effects *fx)
{
	struct carry *k = find(n, m->carry.node);

	if (!k && n->carry_count < NODES_MAX)
		k = &n->carry[n->carry_count++];
	if (!k)
		return;
	*k = (struct carry){.node = m->carry.node, .ticket = m->carry.ticket, .life = m->carry.life, .ending = !m->carry.on};
	if (k->ending && !in_flight(n, k->node))
		has_carried(n, k, fx);
}

bool node_carry_may(const struct node *n, const struct session *s, uint32_t ticket)
{
	if (s->outgoing || n->reclaim != RECLAIM_SERVED || n->stop != STOP_NO)
		return false;
	if (n->cfg.reservations && n->seen_incarnation != n->path.incarnation)
		return false;
	for (uint32_t i = 0; i < n->carry_count; i++) {
		const struct carry *k = &n->carry[i];

		if (k->node == s->peer)
			return k->life == s->peer_life && k->ticket == ticket && !k->ending;
	}
	return false;
}

void node_carry_freed(struct node *n, uint32_t node, struct effects *fx)
{
	struct carry *k = find(n, node);

	if (k && k->ending && n->coord && !in_flight(n, node))
		has_carried(n, k, fx);
	n->again |= n->carry_hold_ns != 0;
}

void node_carry_stop(struct node *n)
{
	n->carry_count = 0;
	n->carry_hold_ns = 0;
	n->way_node = 0;
	n->way_after_ns = 0;
}

bool node_carry_holds(struct node *n, struct effects *fx)
{
	if (!node_data_serving(n)) {
		n->carry_hold_ns = 0;
		return false;
	}
	if (!n->carry_hold_ns)
		n->carry_hold_ns = n->now_ns;
	if (n->now_ns >= n->carry_hold_ns + HOLD_NS && n->path.st == PST_UP && n->cfg.reservations) {
		io_path_excuse(&n->path);
		io_path_lose(&n->path, "what it carries for others must end", n->now_ns, fx);
		n->again = true;
	}
	return true;
}

uint64_t node_carry_own_deadline(const struct node *n)
{
	uint64_t d = NEVER;

	if (n->carry_hold_ns && n->path.st == PST_UP && (n->reclaim == RECLAIM_SENDING || takeover_state(n->tk) == TK_RECLAIM))
		d = n->carry_hold_ns + HOLD_NS;
	if (n->way_node && n->carrier_after_ns > n->now_ns && n->carrier_after_ns < d)
		d = n->carrier_after_ns;
	if (n->way_after_ns > n->now_ns && n->way_after_ns < d)
		d = n->way_after_ns;
	return d;
}

/* ------------------------------------------------------------------ who has no path */

struct session *node_carry_way(const struct node *n, uint32_t *ticket)
{
	if (n->carrier && n->carrier->state == SESSION_UP && n->way_node == n->carrier_node && n->now_ns >= n->carrier_after_ns) {
		*ticket = n->way_ticket;
		return n->carrier;
	}
	*ticket = (uint32_t)n->cfg.life | 1;
	return n->now_ns >= n->way_after_ns ? n->coord : NULL;
}

static void let_go(struct node *n, const char *why, struct effects *fx)
{
	session_close(n->carrier, why, fx);
	node_session_notes(n, fx);
	n->carrier = NULL;
	n->carrier_node = 0;
}

void node_carry_evicted(struct node *n, struct effects *fx)
{
	if (n->carrier)
		let_go(n, "evicted: starts over", fx);
}

void node_carry_follow(struct node *n, struct effects *fx)
{
	uint32_t want = n->reclaim == RECLAIM_SERVED && n->path.st != PST_UP && n->stop <= STOP_FILES ? n->way_node : 0;
	const struct member_node *m = member_find(&n->member, n->carrier ? n->carrier_node : want);

	if (n->carrier) {
		if (!m || !m->member || m->state.life != n->carrier_life || n->carrier_node == takeover_coordinator(n->tk).node) {
			let_go(n, "you are no member now", fx);
		} else if (n->carrier_node != want && !client_block_under_way(n->client, n->carrier)) {
			bool well = n->carrier->state == SESSION_UP;

			let_go(n, "no longer needed", fx);
			/* Another one may be named at once. One that was lost is not tried at once. */
			if (well)
				n->carrier_after_ns = n->now_ns;
		}
		return;
	}
	if (!want || !m || !m->member || !m->answered || n->now_ns < n->carrier_after_ns)
		return;
	n->carrier = session_open(n->sessions, want, m->state.name, m->state.addr, m->state.port);
	n->carrier_node = want;
	n->carrier_life = m->state.life;
}

void node_carry_refused(struct node *n, const struct session *s)
{
	if (s == n->carrier)
		n->carrier_after_ns = n->now_ns + REFUSED_NS;
	else if (s == n->coord)
		n->way_after_ns = n->now_ns + DRAINS_NS;
}

/* Rule 6. In another state than SERVED the next SERVE is yet to come. */
void node_carry_session_down(struct node *n, struct session *s, struct effects *fx)
{
	if (s != n->carrier)
		return;
	n->carrier_after_ns = n->now_ns + AGAIN_NS;
	if (n->coord && n->reclaim == RECLAIM_SERVED && client_block_unknown(n->client))
		session_drop(n->coord, "the way of our block I/O is lost: starts over", fx);
}

void node_carry_message(struct node *n, const struct session *s, const struct msg *m, struct effects *fx)
{
	if (m->type == MSG_CARRIED) {
		has_ended(n, s, m->carry.node);
	} else if (s != n->coord || n->reclaim != RECLAIM_SERVED) {
		return;
	} else if (m->type == MSG_CARRY) {
		told_to_carry(n, m, fx);
	} else {
		n->way_node = m->carry.node == n->cfg.node || m->carry.node == n->coord_node ? 0 : m->carry.node;
		n->way_ticket = m->carry.ticket;
	}
}
