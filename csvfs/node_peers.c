/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_peers.c - the coordinator's side: which nodes are served, what they reclaim, who is given up.
 * The rules are at the head of node_server.c (1, 5, 7).
 */
#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/node_int.h"

#define BIT(idx) (1ull << (idx))
#define LOCAL_AGAIN_NS SESSION_RETRY_MIN_NS /* as another node would */

static uint32_t peer_idx(const struct node *n, const struct peer *p)
{
	return (uint32_t)(p - n->peers);
}

/* It has said nothing of any file in the present reclaim. */
static void nothing_named(struct node *n, uint32_t idx)
{
	for (struct lease_ino *li = lease_next_of(&n->leases, idx, 0); li; li = lease_next_of(&n->leases, idx, li->ino)) {
		li->reclaim_mask &= ~BIT(idx);
		li->reclaim_held &= ~BIT(idx);
	}
}

struct peer *node_peer_get(struct node *n, uint32_t node, uint64_t life)
{
	struct peer *p = node_peer(n, node);

	if (!p)
		p = node_peer(n, 0);
	if (!p && n->peers_end < NODES_MAX)
		p = &n->peers[n->peers_end++];
	if (p && (p->node != node || p->life != life)) {
		uint32_t blocks = p->node == node ? p->blocks : 0;
		uint64_t carried = p->node == node ? p->carried : 0, ending = p->node == node ? p->ending : 0;
		bool older = p->node == node;

		memset(p, 0, sizeof(*p));
		p->older = older;
		p->reclaim_new = true; /* an older life may have said something that is not in force yet */
		p->node = node;
		p->life = life;
		p->blocks = blocks;
		p->carried = carried;
		p->ending = ending;
		/* What is named from now on is the present life's: end_older() tells them apart by that. */
		nothing_named(n, peer_idx(n, p));
	}
	return p;
}

/* Recalls that a lost session took with it: as many as there is room for, and the others in the next step. */
static void recall_again(struct node *n, struct peer *p, struct effects *fx)
{
	uint32_t idx = peer_idx(n, p);
	struct session *to = session_from(n->sessions, p->node);

	for (struct lease_ino *li = lease_next_of(&n->leases, idx, 0); li && to;
		li = lease_next_of(&n->leases, idx, li->ino)) {
		struct msg m = {.type = MSG_RECALL, .recall = {.ino = li->ino}};

		if (!(li->recall_again & li->recall_mask & BIT(idx)))
			continue;
		if (!effects_room(fx, 80, 16384)) {
			n->again = true;
			return;
		}
		li->recall_again &= ~BIT(idx);
		(void)session_send(to, &m, 0, 0, fx);
	}
	p->recalling = false;
}

static void recall_all_again(struct node *n, struct peer *p, struct effects *fx)
{
	uint32_t idx = peer_idx(n, p);

	for (struct lease_ino *li = lease_next_of(&n->leases, idx, 0); li; li = lease_next_of(&n->leases, idx, li->ino))
		li->recall_again |= BIT(idx);
	p->recalling = true;
	recall_again(n, p, fx);
}

bool node_server_admits(struct node *n, uint32_t node, uint64_t life)
{
	const struct member_node *m = member_find(&n->member, node);
	struct peer *p = node_peer(n, node);

	if (!m || !m->member || m->state.life != life)
		return false;
	return !(p && p->life == life && p->evicting);
}

/* It will send no CLOSE of what it had open. If it was the last one, and wrote there, what a CLOSE takes back is taken back here. */
static void closed_unsaid(struct node *n, struct lease_ino *li, uint32_t idx)
{
	bool wrote = li->write_mask & BIT(idx);

	lease_closed(li, idx);
	if (wrote && !li->open_mask)
		node_space_left_ahead(n, li);
}

/* All that it has; `named`: but for what it has told in the present reclaim to be open. */
static void drop_rights(struct node *n, uint32_t idx, bool named)
{
	struct lease_ino *li = lease_next_of(&n->leases, idx, 0), *next;

	for (; li; li = next) {
		next = lease_next_of(&n->leases, idx, li->ino);
		lease_return(&n->leases, li, idx);
		node_append_drop(n, li, idx);
		if (!named || !(li->reclaim_mask & BIT(idx)))
			closed_unsaid(n, li, idx);
		lease_put(&n->leases, li);
	}
	n->leases_changed = true;
}

/*
 * A node says in each session anew what it has. Until it has said all, what we knew before stands, too:
 * between two of its messages nobody may be granted what it is about to name.
 */
static void begin_reclaim(struct node *n, struct peer *p)
{
	uint32_t idx = peer_idx(n, p);

	if (!p->reclaim_new)
		return;
	p->reclaim_new = p->claims = false;
	p->reclaims = 0;
	memset(n->asked[idx], 0, sizeof(n->asked[idx]));
	lock_stage_clear(&n->locks, idx);
	nothing_named(n, idx);
}

/* Who has closed the volume keeps no record of anybody: the next coordinator is told anew, and judges. */
static bool reclaims_here(const struct node *n, const struct session *s)
{
	return takeover_mine(n->tk) && !s->outgoing &&
	       (n->vol || takeover_state(n->tk) != TK_DRAIN);
}

static void end_reclaim(struct node *n, struct peer *p)
{
	uint32_t idx = peer_idx(n, p);
	struct lease_ino *li = lease_next_of(&n->leases, idx, 0), *next;

	for (; li; li = next) {
		next = lease_next_of(&n->leases, idx, li->ino);
		if (!(li->reclaim_mask & li->reclaim_held & BIT(idx)))
			lease_return(&n->leases, li, idx);
		if (!(li->reclaim_mask & BIT(idx))) {
			node_append_drop(n, li, idx);
			closed_unsaid(n, li, idx);
			n->sweep_anew = true;
		}
		lease_put(&n->leases, li);
	}
	n->leases_changed = true;
}

void node_peers_reclaim_locks(
	struct node *n, struct session *s, const struct msg *m, struct effects *fx)
{
	struct peer *p;

	if (!reclaims_here(n, s))
		return;
	p = node_peer_get(n, s->peer, s->peer_life);
	if (!p)
		return;
	begin_reclaim(n, p);
	p->claims = true;
	if (node_lock_stage(n, peer_idx(n, p), m))
		session_drop(s, "no memory for what you hold: ask again", fx);
}

/* Who serves already has heard of them all. */
void node_peers_reclaim_appends(struct node *n, struct session *s, const struct msg *m)
{
	struct peer *p;

	if (!reclaims_here(n, s))
		return;
	p = node_peer_get(n, s->peer, s->peer_life);
	if (!p)
		return;
	begin_reclaim(n, p);
	/* Rule 7: a place is a right as well. */
	p->claims = true;
	if (!p->entitled || n->entitled_epoch == takeover_epoch(n->tk))
		return;
	for (uint32_t i = 0; i < m->reclaim_appends.count; i++)
		node_append_reclaimed(n, p, &m->reclaim_appends.appends[i]);
}

/*
 * What it has reclaimed may be another's by now: it must forget it, and say what it has then. What we still knew
 * it to have stays until it has said so.
 */
static void void_claims(struct node *n, struct peer *p, struct effects *fx)
{
	struct session *s = session_from(n->sessions, p->node);

	p->reclaimed = false;
	p->reclaim_new = true;
	if (s)
		(void)session_send(s, &(struct msg){.type = MSG_VOID}, 0, 0, fx);
}

/*
 * True: it has asked for a commit that runs, under a layout that it does not name any more: it has forgotten it since (it was given up,
 * and is back). What it held goes to others only when that is over: it would mark as written what is theirs, and give a file that
 * they made shorter its length back. (node_peers_departed() waits for it when the node stays away.)
 */
static bool commits_unheld(const struct node *n, const struct peer *p)
{
	uint64_t bit = BIT(peer_idx(n, p));

	list_for_each_entry (s, &n->sreqs, struct sreq, link) {
		const struct lease_ino *li;

		if (s->node != p->node || s->drop || s->stage == SREQ_LEASE)
			continue;
		/* Nor do its locks go before a change of the size that runs. */
		if (s->exclusive)
			return true;
		if (s->vr.rq.op != FS_LAYOUT_COMMIT)
			continue;
		li = lease_find(&n->leases, s->vr.rq.ino);
		if (!li || !(li->reclaim_mask & li->reclaim_held & bit))
			return true;
	}
	return false;
}

/*
 * It may wait in the engine, for others to forget what it changes, say. Not of these: what its node has first-written under rights that
 * still stand; that it has closed a file; and a size that it sets: what is behind that has been zeroed on the LUN, and
 * nobody else has a layout before it is done.
 */
static bool withdrawn(struct node *n, struct sreq *s)
{
	if (s->stage != SREQ_ENGINE || s->vr.rq.op == FS_LAYOUT_COMMIT || s->vr.rq.op == FS_FREE_ORPHAN || node_size_set_by(&s->vr.rq))
		return false;
	if (!vol_withdraw(n->vol, &s->vr))
		return false;
	n->again = true;
	return true;
}

/*
 * What it asked for in the session before, and what has waited since, here or in the engine. It asks again, and may ask for less by then: what
 * it had asked for through an open file whose locks it knows to be lost, or for a process that is no more (H4, H5 of node_held.c). None of it has
 * been executed.
 */
static void forget_asked_before(struct node *n, const struct peer *p)
{
	list_for_each_entry_safe (s, tmp, &n->sreqs, struct sreq, link) {
		if (s->node != p->node || s->drop)
			continue;
		if (s->stage == SREQ_LEASE)
			node_server_forget(n, s);
		else if (withdrawn(n, s))
			s->drop = true;
	}
}

/*
 * What a node says that it holds replaces what we knew: an older life's when that is fenced, and its own when nothing
 * that we do for it can land any more. It wrote that under what it does not name now (it was given up meanwhile, and has
 * forgotten), and nobody may have that before.
 */
static bool reclaim_in_force(struct node *n, struct peer *p, struct effects *fx)
{
	if (!p->reclaim_due)
		return true;
	if (p->older && (member_victim_pending(&n->member, p->node) || node_server_older_asks(n, p->node, p->life, fx)))
		return false;
	/* While we take over nothing of before is known here that could be kept. */
	if (node_carry_busy(p) && takeover_state(n->tk) == TK_SERVE)
		return false;
	if (commits_unheld(n, p))
		return false;
	p->reclaim_due = p->older = false;
	node_carry_none(n, peer_idx(n, p));
	forget_asked_before(n, p);
	end_reclaim(n, p);
	if (!lock_stage_apply(&n->locks, peer_idx(n, p)))
		return true;
	trace(n->trace, TRACE_ERROR, "node %u reclaims a lock that is another's", p->node);
	takeover_fence_node(n->tk, p->node, "reclaimed a lock that is another's");
	void_claims(n, p, fx);
	return false;
}

void node_server_reclaim(struct node *n, struct session *s, const struct msg *m, struct effects *fx)
{
	struct peer *p;
	struct lease_ino *li;
	int err = 0;

	if (!reclaims_here(n, s))
		return;
	p = node_peer_get(n, s->peer, s->peer_life);
	if (!p)
		return;
	begin_reclaim(n, p);
	p->reclaims++;
	p->claims |= m->reclaim.holder;
	/* Rule 7: void. What it gave up may be in the hands of others; it says all again, without that. */
	if (m->reclaim.holder && !p->entitled)
		return;
	li = lease_get(&n->leases, m->reclaim.ino);
	if (!li) {
		session_drop(s, "no memory for what you hold: ask again", fx);
		return;
	}
	li->reclaim_mask |= BIT(peer_idx(n, p));
	if (m->reclaim.holder)
		li->reclaim_held |= BIT(peer_idx(n, p));
	if (m->reclaim.open)
		li->open_mask |= BIT(peer_idx(n, p));
	/* Rule 2 of node_times.c: who asked, and was not granted, is no writer yet. Once we serve, we know whom we granted it. */
	if (m->reclaim.writes && takeover_state(n->tk) != TK_SERVE)
		li->write_mask |= BIT(peer_idx(n, p));
	if (m->reclaim.holder)
		lease_hold(li, peer_idx(n, p), m->reclaim.blank);
	for (uint32_t i = 0; i < m->reclaim.range_count && !err; i++)
		err = lease_own(&n->leases, li, peer_idx(n, p), m->reclaim.ranges[i].off,
			m->reclaim.ranges[i].len, false);
	for (uint32_t i = 0; i < m->reclaim.edge_count && !err; i++)
		err = lease_own(&n->leases, li, peer_idx(n, p), m->reclaim.edges[i].off,
			m->reclaim.edges[i].len, true);
	if (err == -ENOMEM) {
		session_drop(s, "no memory for what you hold: ask again", fx);
	} else if (err) {
		trace(n->trace, TRACE_ERROR,
			"node %u reclaims a range of ino %lx that is another's", s->peer,
			m->reclaim.ino);
		takeover_fence_node(n->tk, s->peer, "reclaimed what is another's");
	}
	lease_put(&n->leases, li);
}

void node_peers_serve(struct node *n, struct peer *p, struct effects *fx)
{
	struct session *s = session_from(n->sessions, p->node);
	struct msg m = {.type = MSG_SERVE};

	if (p->served && p->recalling)
		recall_again(n, p, fx);
	/* What it asked for over its last session must have ended before it may ask again. */
	if (p->served || !p->reclaimed || !reclaim_in_force(n, p, fx) || node_carry_busy(p) ||
		takeover_state(n->tk) != TK_SERVE)
		return;
	if (node_server_older_asks(n, p->node, p->life, fx))
		return;
	/* Rule 7: what it is given from now on is its own, whoever coordinates next. */
	if (!takeover_given_remove(n->tk, p->node)) {
		n->again |= takeover_given_to_say(n->tk);
		return;
	}
	if (p->node == n->cfg.node) {
		p->served = true;
		n->serving_local = n->standing = true;
		n->served_epoch = takeover_epoch(n->tk);
		client_serve_local(n->client);
		trace(n->trace, TRACE_INFO, "we serve, epoch %lu", takeover_epoch(n->tk));
		return;
	}
	if (!s || !session_send(s, &m, 0, 0, fx))
		return;
	p->served = true;
	p->serve_ping = session_ping(s, fx);
	recall_all_again(n, p, fx);
	node_times_again(n, peer_idx(n, p), fx);
}

static bool has_heard_serve(struct node *n, struct peer *p)
{
	uint64_t epoch = takeover_epoch(n->tk);
	const struct session *s = session_from(n->sessions, p->node);

	if (p->served && (p->node == n->cfg.node || (s && session_ponged(s, p->serve_ping))))
		p->heard_epoch = epoch;
	return p->heard_epoch == epoch;
}

/* It has reclaimed, and would lose that to the next coordinator. Who is done has nothing to lose. */
static bool waits_for_serve(struct node *n, const struct peer *p)
{
	const struct member_node *m = member_find(&n->member, p->node);

	return (p->told || p->reclaimed) && !p->evicted_ns && m && m->member && m->state.leaving != LEAVING_DONE;
}

void node_peers_all_served(struct node *n)
{
	bool all = true;

	for (unsigned i = 0; i < n->peers_end; i++) {
		struct peer *p = &n->peers[i];

		/* Whose session has broken since comes back, and is as well as the others. */
		if (p->node && !has_heard_serve(n, p) && waits_for_serve(n, p))
			all = false;
	}
	n->again |= takeover_given_all_served(n->tk, all);
}

void node_server_reclaim_end(struct node *n, struct session *s, uint32_t count, struct effects *fx)
{
	struct peer *p;

	if (!reclaims_here(n, s))
		return;
	p = node_peer_get(n, s->peer, s->peer_life);
	if (!p) {
		session_drop(s, "more nodes than a volume can have", fx);
		return;
	}
	begin_reclaim(n, p);
	/* It began before we could listen. What we have not heard of it would be another's. */
	if (p->reclaims != count) {
		session_drop(s, "we have not heard all that you hold: say it again", fx);
		return;
	}
	if (p->claims && !p->entitled) {
		/* Rule 7. */
		trace(n->trace, TRACE_ERROR,
			"node %u reclaims what it had, but was not with us -> void", p->node);
		void_claims(n, p, fx);
		return;
	}
	/* It has forgotten what it knew in its session before. */
	cache_lease_drop_node(&n->cache_leases, peer_idx(n, p));
	p->reclaimed = p->entitled = p->reclaim_due = true;
	p->evicted_ns = 0;
	if (!(p->older && member_victim_pending(&n->member, p->node)))
		node_carry_none(n, peer_idx(n, p));
	if (!reclaim_in_force(n, p, fx) && !p->reclaimed)
		return;
	takeover_reclaimed(n->tk, p->node);
	n->again = true;
	node_peers_serve(n, p, fx);
}

void node_server_session_down(struct node *n, struct session *s)
{
	struct peer *p = node_peer(n, s->peer);

	if (p && !session_from(n->sessions, s->peer)) {
		node_lock_forget_waiters(n, p->node);
		node_cache_cut(n, p);
		p->reclaimed = p->served = false;
		p->reclaim_new = true;
		p->unheard_ns = n->now_ns;
	}
}

/* Of one file: 0, or what is not known now. */
static int reclaim_own(struct node *n, const struct file *f, struct lease_ino *li, uint32_t idx)
{
	int err = 0;

	list_for_each_entry (r, &f->owned, struct frange, link)
		err = err ? err : lease_own(&n->leases, li, idx, r->off, r->len, false);
	list_for_each_entry (r, &f->edges, struct frange, link)
		err = err ? err : lease_own(&n->leases, li, idx, r->off, r->len, true);
	return err;
}

/* Our own rights, told to ourselves. */
void node_peers_reclaim_self(struct node *n, struct effects *fx)
{
	struct peer *p = node_peer_get(n, n->cfg.node, n->cfg.life);
	struct file *f = NULL;
	int err = 0;

	csv_assert(p);
	/* Rule 3 of node_carry.c. */
	if (takeover_state(n->tk) == TK_RECLAIM && node_carry_holds(n, fx))
		return;
	node_reclaim_epoch(n, takeover_epoch(n->tk), takeover_coordinator(n->tk).before, fx);
	/* Who coordinates next, us maybe, fences what we have just given up. */
	if (n->fence_first && n->path.unfenced)
		return;
	/* Rule 7, of ourselves. */
	if (takeover_given_up(n->tk, n->cfg.node, n->cfg.life)) {
		trace(n->trace, TRACE_ERROR, "the last coordinator gave us up: our layouts are void");
		node_evicted(n, true, fx);
	}
	while (!err && (f = node_file_next(n, f))) {
		struct lease_ino *li = f->st == FILE_OPENING ? NULL : lease_get(&n->leases, f->ino);

		if (!li) {
			err = f->st == FILE_OPENING ? 0 : -ENOMEM;
			continue;
		}
		li->open_mask |= BIT(peer_idx(n, p));
		if (f->writes)
			li->write_mask |= BIT(peer_idx(n, p));
		/* On its way back (reclaim_file()): it may have arrived, and another node have been given it. */
		if (f->layout == LAYOUT_NONE || f->layout == LAYOUT_RETURNING || f->voided)
			continue;
		lease_hold(li, peer_idx(n, p), true);
		err = reclaim_own(n, f, li, peer_idx(n, p));
	}
	node_append_reclaim_self(n, p);
	err = err ? err : node_lock_stage_held(n, peer_idx(n, p));
	if (err) {
		/* What we do not know of ourselves we would give to others. */
		takeover_volume_failed(n->tk, err == -ENOMEM ? "no memory for what we hold ourselves" :
							       "another node holds what is ours");
		n->again = true;
		return;
	}
	(void)lock_stage_apply(&n->locks, peer_idx(n, p));
	p->reclaimed = p->entitled = true;
	takeover_reclaimed(n->tk, n->cfg.node);
	n->again = true;
}

void node_peers_evict(struct node *n, struct peer *p, const char *what, struct effects *fx)
{
	struct session *s = session_from(n->sessions, p->node);

	if (p->evicting || p->evicted_ns)
		return;
	trace(n->trace, TRACE_ERROR, "node %u did not answer %s in %lu s -> fence it", p->node, what,
		n->cfg.recall_ns / NS_PER_SEC);
	p->evicting = true;
	p->evicted_ns = n->now_ns + node_lease_over_ns(&n->cfg);
	p->clean = false;
	p->served = p->reclaimed = p->entitled = false;
	node_server_forget_waiters(n, p->node);
	takeover_fence_node(n->tk, p->node, "it did not answer in time");
	if (s)
		session_drop(s, "you did not answer in time: you are fenced", fx);
}

/* It gives back what is committed, and it is we who have not answered its commit yet (rule 6 of node_server.c). */
static bool waits_for_us(const struct node *n, const struct peer *p, uint64_t ino)
{
	list_for_each_entry (s, &n->sreqs, struct sreq, link) {
		if (s->node == p->node && s->vr.rq.op == FS_LAYOUT_COMMIT && s->vr.rq.ino == ino && !s->drop)
			return true;
	}
	return false;
}

/* Such a node writes nothing: it waits for a path, and so do we. Not if it was not heard of for a recall's time: it hangs, and may for ever. */
static uint64_t without_path(const struct node *n)
{
	uint64_t mask = 0;

	for (uint32_t i = 0; i < NODES_MAX; i++) {
		const struct member_node *m = n->peers[i].node ? member_find(&n->member, n->peers[i].node) : NULL;

		if (m && m->member && m->state.path != MPATH_OK &&
			(session_from(n->sessions, n->peers[i].node) || n->now_ns < n->peers[i].unheard_ns + n->cfg.recall_ns))
			mask |= BIT(i);
	}
	return mask;
}

uint64_t node_peers_recall(struct node *n, struct lease_ino *li, uint64_t mask)
{
	mask = lease_recall(li, mask, n->now_ns + n->cfg.recall_ns);
	if (!mask)
		return 0;
	li->recall_later |= mask & without_path(n);
	if (li->recall_deadline_ns < n->recall_deadline_ns)
		n->recall_deadline_ns = li->recall_deadline_ns;
	return mask;
}

void node_peers_timers(struct node *n, struct effects *fx)
{
	if (n->now_ns < n->recall_deadline_ns)
		return;
	n->recall_deadline_ns = NEVER;
	/* Its answer may be waiting to be read, or another node may coordinate: node_peers_awake() looks again. */
	if (n->unsure)
		return;
	for (unsigned b = 0; b < LEASE_BUCKETS; b++) {
		list_for_each_entry (li, &n->leases.bucket[b], struct lease_ino, hash) {
			uint64_t over;

			if (n->now_ns < li->recall_deadline_ns) {
				if (li->recall_deadline_ns < n->recall_deadline_ns)
					n->recall_deadline_ns = li->recall_deadline_ns;
				continue;
			}
			over = lease_overdue(li, n->now_ns + n->cfg.recall_ns);
			/* They have time from now on, whenever their path is back. */
			li->recall_later |= over & without_path(n);
			for (uint32_t i = 0; i < NODES_MAX; i++) {
				if (!(over & ~li->recall_later & BIT(i)) || n->peers[i].node == n->cfg.node)
					continue;
				/* What an older life had, this one cannot give back: end_older(). */
				if (waits_for_us(n, &n->peers[i], li->ino) || n->peers[i].older)
					continue;
				node_peers_evict(n, &n->peers[i], "a recall", fx);
			}
			if (li->recall_deadline_ns < n->recall_deadline_ns)
				n->recall_deadline_ns = li->recall_deadline_ns;
		}
	}
}

/* Who was asked has its time anew: what it said while we slept, and was not sure, was not heard. */
static void recalls_start_anew(struct node *n)
{
	n->recall_deadline_ns = NEVER;
	for (unsigned b = 0; b < LEASE_BUCKETS; b++) {
		list_for_each_entry (li, &n->leases.bucket[b], struct lease_ino, hash) {
			if (li->recall_deadline_ns == NEVER)
				continue;
			(void)lease_overdue(li, n->now_ns + n->cfg.recall_ns);
			n->recall_deadline_ns = li->recall_deadline_ns;
		}
	}
}

void node_peers_awake(struct node *n, struct effects *fx)
{
	recalls_start_anew(n);
	node_carry_awake(n);
	takeover_be_patient(n->tk, n->now_ns);
	for (unsigned i = 0; i < n->peers_end; i++) {
		struct peer *p = &n->peers[i];
		struct session *s = p->missed ? session_from(n->sessions, p->node) : NULL;

		p->missed = false;
		if (s)
			session_drop(s, "slept: ask again", fx);
		n->again |= s != NULL;
	}
}

/*
 * A session may outlive the office in which it was served, and another one of ours begin. Our answers to its PINGs would go on to
 * prove the lease of a node that is no member any more, and is given up: node_peers_departed() knows of those alone that are
 * served in this one.
 */
void node_peers_end_strangers(struct node *n, struct effects *fx)
{
	for (uint32_t i = 0; i < n->member.node_count; i++) {
		const struct member_node *m = &n->member.nodes[i];
		struct session *s = m->member || m->node == n->cfg.node
					    ? NULL
					    : session_from(n->sessions, m->node);

		if (s && !node_peer(n, m->node))
			session_drop(s, "you are no member now", fx);
	}
}

/* No process's that could be told of an error: what the coordinator does not come to know it would wait for, or never let go. */
static bool must_be_heard(enum fs_op op)
{
	return op == FS_LAYOUT_COMMIT || op == FS_LAYOUT_RETURN || op == FS_CLOSE || op == FS_APPENDED || op == FS_UNLOCK;
}

void node_server_ask_again(struct node *n, uint32_t node, bool local, uint64_t wire_tag, struct effects *fx)
{
	struct session *s = local ? NULL : session_from(n->sessions, node);

	trace(n->trace, TRACE_WARN, "no memory, or room, for a request of node %u: it is to ask again", node);
	if (local) {
		n->local_after_ns = n->now_ns + LOCAL_AGAIN_NS;
		client_again_local(n->client, wire_tag);
	} else if (s) {
		session_drop(s, "no memory, or room, for what you ask: ask again", fx);
	}
	n->again = true;
}

/*
 * Nothing was done for it now. What was done before (it is asked again, and its answer was lost: invariant 11) must not be told
 * to have failed; all else may be refused.
 */
void node_server_no_memory(struct node *n, uint32_t node, bool local, uint64_t wire_tag,
	const struct fs_request *rq, struct effects *fx)
{
	struct fs_reply rp = {.err = -ENOMEM};
	struct msg m = {.type = MSG_REPLY, .tag = wire_tag, .reply = {.op = rq->op, .id = rq->id, .r = rp}};
	struct session *to = session_from(n->sessions, node);

	if (must_be_heard(rq->op) || vol_replied(n->vol, &rq->id))
		node_server_ask_again(n, node, local, wire_tag, fx);
	else if (local)
		node_answer(n, wire_tag, &rq->id, &rp, fx);
	else if (to)
		(void)session_send(to, &m, 0, 0, fx);
}

/* Of whatever life: a place has the rights of one at a time, and an older one's end first. */
bool node_server_executes(const struct node *n, const struct peer *p)
{
	list_for_each_entry (s, &n->sreqs, struct sreq, link) {
		if (s->node == p->node && s->stage != SREQ_LEASE)
			return true;
	}
	return false;
}

void node_server_forget_waiters(struct node *n, uint32_t node)
{
	node_lock_forget_waiters(n, node);
	list_for_each_entry_safe (s, tmp, &n->sreqs, struct sreq, link) {
		if (node && s->node != node)
			continue;
		if (s->stage == SREQ_LEASE)
			node_server_forget(n, s);
		else if (node && withdrawn(n, s))
			s->drop = true;
	}
}

/*
 * A size that is being set does not wait for anybody: nobody is given a layout before it is done, and it does not come back to SREQ_LEASE for want
 * of space. What was executed before is answered with what is recorded.
 */
void node_server_take_back(struct node *n, const struct fs_reqid *id, struct effects *fx)
{
	list_for_each_entry (s, &n->sreqs, struct sreq, link) {
		if (s->drop || s->id.slot != id->slot || s->id.seq != id->seq || s->id.node != id->node || s->id.life != id->life)
			continue;
		s->pressed = true;
		if (vol_replied(n->vol, id))
			return;
		if (withdrawn(n, s)) {
			s->vr.reply.err = -EINTR;
			return;
		}
		if (s->stage != SREQ_LEASE)
			return;
		n->leases_changed = true;
		node_server_finish(n, s, -EINTR, fx);
		return;
	}
}

/*
 * Nothing that it began can end any more. Of another life of its node: this one is gone, but for what is on
 * the fence list from that very step on. Of the same: it has said so, as it left. Without a path it reads no data, but it may
 * know what reads as zero. That it has been fenced (before we saw it leave) says nothing of its reads.
 */
static bool left_cleanly(const struct node *n, const struct peer *p, const struct member_node *m)
{
	if (!m || m->state.life != p->life || p->older)
		return !member_victim_pending(&n->member, p->node);
	return m->state.path == MPATH_CLEAN || m->state.leaving == LEAVING_DONE;
}

/*
 * Its rights are over. When it is with us again it may be in the middle of saying what it has: what it has open of that
 * stays (layouts and locks were not taken from it: it is not entitled).
 */
static void forget(struct node *n, struct peer *p, bool back)
{
	struct peer was = *p;

	trace(n->trace, TRACE_INFO, "rights of node %u end", p->node);
	n->rights_ended++;
	n->sweep_anew = true;
	drop_rights(n, peer_idx(n, p), back && !p->reclaim_new);
	memset(p, 0, sizeof(*p));
	if (!back)
		return;
	p->node = was.node;
	p->life = was.life;
	p->claims = was.claims;
	p->reclaim_new = was.reclaim_new;
	p->reclaims = was.reclaims;
}

/*
 * What an older life of it had ends when that is fenced, and nothing lands any more that it asked for. Its lease is not waited for: it
 * has ended altogether, and reads nothing. The present life may hang before it has said what it holds, and could neither give that back
 * nor end it. It has been granted nothing here (node_peers_serve() waits for this). What it has named so far stays; the locks that it has said are
 * put aside still. Not before our term counts: until then nobody's rights end (takeover_given.c, rule 7).
 */
static void end_older(struct node *n, struct peer *p)
{
	uint32_t idx = peer_idx(n, p);

	if (!p->older || member_victim_pending(&n->member, p->node))
		return;
	/* Before we wait for what others carry for it: they may be dead as well, and wait for what it carried. */
	node_carry_none(n, idx);
	if (node_carry_busy(p) || node_server_executes(n, p) || !takeover_given_counts(n->tk))
		return;
	csv_assert(!p->served);
	trace(n->trace, TRACE_INFO, "rights of an earlier life of node %u end", p->node);
	p->older = false;
	n->sweep_anew = true;
	node_lock_forget_waiters(n, p->node);
	lock_drop_node(&n->locks, idx);
	end_reclaim(n, p);
}

/* A node that left: its rights end when it is fenced (if it was unclean) and its lease is over. */
void node_peers_departed(struct node *n, struct effects *fx)
{
	node_carry_step(n, fx);
	for (unsigned i = 0; i < n->peers_end; i++) {
		struct peer *p = &n->peers[i];
		const struct member_node *m;
		struct session *from;

		if (!p->node || p->node == n->cfg.node)
			continue;
		m = member_find(&n->member, p->node);
		from = session_from(n->sessions, p->node);
		end_older(n, p);
		if (p->evicting && !member_victim_pending(&n->member, p->node)) {
			p->evicting = false;
			n->leases_changed = true; /* rule 8 of node_server.c */
			node_carry_none(n, i);
			if (!p->clean)
				p->evicted_ns = n->now_ns + node_lease_over_ns(&n->cfg);
		}
		if (m && m->member && m->state.life == p->life && !p->evicted_ns)
			continue;
		if (!p->evicted_ns) {
			p->clean = left_cleanly(n, p, m);
			p->served = p->reclaimed = p->entitled = false;
			/* Here: its place may be another's before its session is seen to end. */
			node_server_forget_waiters(n, p->node);
			p->evicting = true;
			p->evicted_ns = n->now_ns + (p->clean ? 0 : node_lease_over_ns(&n->cfg));
			/*
			 * It may not have seen that it left, and believe itself served: it starts over in
			 * a new session, and is served when it is a member again.
			 */
			if (from && from->peer_life == p->life)
				session_drop(from, "you are no member now", fx);
			n->again = true;
		}
		/* What is executed for it was right under what it has, and names its place. */
		if (p->evicting || member_victim_pending(&n->member, p->node) || node_carry_busy(p) || node_server_executes(n, p))
			continue;
		if (n->now_ns < p->evicted_ns)
			continue;
		/* Rule 7: what is another's from now on, whoever coordinates next will know. */
		if (!takeover_given_add(n->tk, p->node, p->life)) {
			n->again |= takeover_given_to_say(n->tk);
			continue;
		}
		/* Rule 4 of node_lock.c. */
		if (n->locks.node_count[i]) {
			trace(n->trace, TRACE_INFO, "%u locks of node %u end",
				n->locks.node_count[i], p->node);
			node_lock_drop(n, i);
		}
		if (n->cache_leases.over_ns[i])
			continue;
		forget(n, p, m && m->member && m->state.life == p->life);
	}
}

uint64_t node_peers_deadline(const struct node *n)
{
	uint64_t d = node_carry_deadline(n);

	for (unsigned i = 0; i < n->peers_end; i++) {
		if (n->peers[i].node && n->peers[i].evicted_ns > n->now_ns && n->peers[i].evicted_ns < d)
			d = n->peers[i].evicted_ns;
	}
	return d;
}

bool node_peers_linger(const struct node *n)
{
	for (unsigned i = 0; i < n->peers_end; i++) {
		if (n->peers[i].evicting || n->now_ns < n->peers[i].evicted_ns)
			return true;
	}
	return false;
}

bool node_gave_up(const struct node *n, uint32_t node)
{
	for (unsigned i = 0; i < n->peers_end; i++) {
		if (n->peers[i].node == node)
			return !n->peers[i].reclaimed;
	}
	return true;
}

uint32_t node_rights_ended(const struct node *n)
{
	return n->rights_ended;
}
