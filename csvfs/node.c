/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node.c - one node: routes events to the modules, and joins them where one's state is another's
 * input: path -> membership -> takeover -> engine and sessions -> requests -> gate.
 *
 * Each step handles one event and then runs node_advance(), which brings every module up to date, in
 * that order. The step's time is the event's.
 */
#include "csvfs/node.h"

#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/node_int.h"

static uint64_t or_default(uint64_t v, uint64_t d)
{
	return v ? v : d;
}

static void set_defaults(struct node_config *c)
{
	c->lease_ns = or_default(c->lease_ns, NODE_LEASE_NS);
	c->commit_ns = or_default(c->commit_ns, 3 * NS_PER_SEC);
	c->recall_ns = or_default(c->recall_ns, 10 * NS_PER_SEC);
	c->reclaim_ns = or_default(c->reclaim_ns, 3 * NS_PER_SEC);
	c->path_retry_ns = or_default(c->path_retry_ns, NS_PER_SEC);
	if (!c->reclaim_ranges || c->reclaim_ranges > WIRE_RANGES_MAX)
		c->reclaim_ranges = WIRE_RANGES_MAX;
	c->owned_many = c->owned_many ? c->owned_many : OWNED_MANY;
}

static bool make_parts(struct node *n)
{
	const struct node_config *cfg = &n->cfg;
	struct member_config mc = {.trace = n->trace,
		.standalone = cfg->standalone,
		.expected_nodes = cfg->expected_nodes};
	struct takeover_config tc = {.trace = n->trace,
		.member = &n->member,
		.mem = n->mem,
		.standalone = cfg->standalone,
		.no_reservations = !cfg->reservations,
		.tag_seed = cfg->life & 0xffffff,
		.lease_over_ns = node_lease_over_ns(cfg)};
	struct client_config cc = {
		.mem = n->mem, .trace = n->trace, .node = cfg->node, .life = cfg->life};

	memcpy(mc.uuid, cfg->uuid, 16);
	mc.self.node = cfg->node;
	mc.self.life = cfg->life;
	mc.self.port = cfg->port;
	memcpy(mc.self.name, cfg->name, sizeof(mc.self.name));
	memcpy(mc.self.addr, cfg->addr, sizeof(mc.self.addr));
	member_init(&n->member, &mc);
	memcpy(tc.uuid, cfg->uuid, 16);
	n->tk = takeover_create(&tc);
	n->sessions = sessions_create(n->mem, cfg->uuid, cfg->node, cfg->name, cfg->life, n->trace);
	n->client = client_create(&cc);
	return n->tk && n->sessions && n->client;
}

struct node *node_create(const struct node_config *cfg, struct mem *mem, const struct trace *t)
{
	struct node *n = mem_alloc(mem, sizeof(*n));

	if (!n)
		return NULL;
	n->cfg = *cfg;
	set_defaults(&n->cfg);
	n->mem = mem;
	n->trace = t;
	n->file_deadline_ns = NEVER;
	n->stop_at_ns = n->stop_look_ns = NEVER;
	list_init(&n->creqs);
	list_init(&n->own_appends);
	node_file_init(n);
	node_due_init(n);
	node_held_init(n);
	node_server_init(n);
	node_data_init(n);
	node_admin_init(n);
	if (node_cache_init(n) || cache_lease_init(&n->cache_leases, mem))
		return NULL;
	io_path_init(&n->path, cfg->node, cfg->seed, cfg->reservations, n->cfg.path_retry_ns, t);
	n->path.left_behind = cfg->left_behind;
	return make_parts(n) ? n : NULL;
}

/* ------------------------------------------------------------------ sessions */


/*
 * Our rights are void, and maybe nobody has fenced us for that. What is in flight on our path was planned under them, and they are
 * given to others now: it must have ended before we say what we hold, as after a path that was lost. Also if it was lost just before.
 */
static void fence_before_we_say(struct node *n, struct effects *fx)
{
	n->fence_first |= n->path.unfenced != 0;
	if (n->path.st != PST_UP || !n->cfg.reservations || n->path.incarnation != n->direct_incarnation)
		return;
	n->fence_first = true;
	io_path_excuse(&n->path);
	io_path_lose(&n->path, "what we held is void, and what is in flight must end", n->now_ns, fx);
	n->again = true;
}

void node_reclaim_epoch(struct node *n, uint64_t epoch, uint64_t before, struct effects *fx)
{
	if (!n->served_epoch || n->served_epoch >= before)
		return;
	/*
	 * Nothing is ours that could be void, and nothing of it is in flight: we may be the last one, who leaves. Locks may be left when all
	 * files have been closed at once (a mount that was busy).
	 */
	if (!n->files.count && !n->held.count && list_empty(&n->own_appends)) {
		n->served_epoch = 0;
		return;
	}
	trace(n->trace, TRACE_ERROR,
		"epoch %lu, others were served in %lu, and we in %lu last: our layouts are void", epoch,
		before, n->served_epoch);
	node_evicted(n, true, fx);
	n->served_epoch = 0;
	fence_before_we_say(n, fx);
}

/*
 * Our rights have ended: what was not committed is lost, and a later fsync says so. We start over with
 * the coordinator: a new session, in which we reclaim what is still ours, the opens.
 */
void node_evicted(struct node *n, bool in_session, struct effects *fx)
{
	n->evictions++;
	n->voiding = true;
	client_void_commits(n->client);
	node_append_evicted(n, fx);
	n->standing = false;
	node_held_lost(n, fx);
	node_file_forget_layouts(n, fx);
	node_carry_evicted(n, fx);
	if (n->coord && !in_session) {
		session_drop(n->coord, "evicted: starts over", fx);
		node_session_notes(n, fx);
	}
}

static void served_by(struct node *n, struct session *s, struct effects *fx)
{
	/* What was asked before is answered without a lease, and that of the last coordinator may be over before the next PING is due. */
	(void)session_ping(s, fx);
	n->reclaim = RECLAIM_SERVED;
	n->standing = true;
	n->served_epoch = n->coord_epoch;
	client_serve_remote(n->client, s);
	trace(n->trace, TRACE_INFO, "node %u serves us, epoch %lu", s->peer, n->coord_epoch);
}

static void voided(struct node *n, struct effects *fx)
{
	trace(n->trace, TRACE_ERROR, "our layouts are void: others went on without us");
	node_evicted(n, true, fx);
	/* Who is heard of when a coordinator takes over, and does not answer it, keeps its registration, and is not entitled. */
	fence_before_we_say(n, fx);
	node_carry_stop(n);
	node_reclaim_begin(n, RECLAIM_SENDING);
}

static void on_reply(struct node *n, struct session *s, const struct msg *m, struct effects *fx)
{
	struct fs_reply rp = m->reply.r;

	/* Granted long ago, maybe, and another's by now. We say what we hold, and ask again. */
	if (m->reply.op == FS_LOCK && !rp.err && n->now_ns >= n->lease_ns) {
		session_drop(s, "a lock was granted too late to rely on it", fx);
		node_session_notes(n, fx);
		return;
	}
	node_answer(n, m->tag, &m->reply.id, &rp, fx);
}

static void on_message(
	struct node *n, struct session *s, const struct msg *m, uint64_t data, struct effects *fx)
{
	switch (m->type) {
	case MSG_REQUEST:
		node_server_request(n, s->peer, false, m->tag, &m->request, fx);
		return;
	case MSG_REPLY:
		if (s == n->coord)
			on_reply(n, s, m, fx);
		return;
	case MSG_RECALL:
		if (s == n->coord)
			node_file_recall(n, m->recall.ino, fx);
		return;
	case MSG_CACHE_RECALL:
	case MSG_CACHE_GONE:
		node_cache_message(n, s, m, fx);
		return;
	case MSG_RECLAIM:
		node_server_reclaim(n, s, m, fx);
		return;
	case MSG_RECLAIM_LOCKS:
		node_peers_reclaim_locks(n, s, m, fx);
		return;
	case MSG_TIMES:
	case MSG_TIMES_TOLD:
		node_times_message(n, s, m, fx);
		return;
	case MSG_RECLAIM_APPENDS:
		node_peers_reclaim_appends(n, s, m);
		return;
	case MSG_RECLAIM_END:
		node_server_reclaim_end(n, s, m->reclaim_end.count, fx);
		return;
	case MSG_SERVE:
		if (s == n->coord && n->reclaim == RECLAIM_SENT)
			served_by(n, s, fx);
		return;
	case MSG_VOID:
		if (s == n->coord && n->reclaim == RECLAIM_SENT)
			voided(n, fx);
		return;
	case MSG_BLOCK:
		node_data_serve(n, s, m, data, fx);
		return;
	case MSG_BLOCK_REPLY:
		node_data_reply(n, s, m, data, fx);
		return;
	case MSG_CARRY:
	case MSG_CARRIED:
	case MSG_WAY:
		node_carry_message(n, s, m, fx);
		return;
	case MSG_CTL:
	case MSG_CTL_REPLY:
		if (node_admin_message(n, s, m, fx))
			return;
		break;
	case MSG_HELLO:
	case MSG_HELLO_OK:
	case MSG_HELLO_NO:
	case MSG_PING:
	case MSG_PONG:
	case MSG_GOODBYE:
		break;
	}
	/* Nothing here asks for it: whoever sends it speaks another dialect. */
	session_drop(s, "a message that this version does not expect", fx);
	if (data)
		effects_add(fx, FX_DATA_FREE, 0)->data = data;
}

static void coord_down(struct node *n, struct effects *fx)
{
	node_admin_coord_down(n, fx);
	node_cache_clear(n);
	node_carry_stop(n);
	if (!n->serving_local)
		client_down(n->client);
	node_reclaim_begin(n, RECLAIM_NONE);
}

void node_session_notes(struct node *n, struct effects *fx)
{
	struct session *s;
	enum session_note note;

	while ((note = sessions_note(n->sessions, &s)) != SESSION_NOTE_NONE) {
		if (note == SESSION_NOTE_UP && s == n->coord) {
			node_reclaim_begin(n, io_path_look(&n->path, &n->reclaim_look) ? RECLAIM_LOOKING : RECLAIM_SENDING);
			node_reclaim_epoch(n, n->coord_epoch, n->coord_before, fx);
		} else if (note == SESSION_NOTE_UP && !s->outgoing) {
			struct peer *p = node_peer(n, s->peer);

			if (!node_server_admits(n, s->peer, s->peer_life)) {
				session_drop(s, "not admitted now", fx);
			} else if (p) {
				/* The one before may not have been seen to end: who waits there asks again here. */
				node_lock_forget_waiters(n, p->node);
				p->reclaimed = p->served = false;
				p->reclaim_new = true;
			}
			node_admin_session_up(n);
		} else if (note == SESSION_NOTE_DOWN) {
			if (s == n->coord)
				coord_down(n, fx);
			node_data_session_down(n, s);
			node_carry_session_down(n, s, fx);
			if (!s->outgoing)
				node_server_session_down(n, s);
		}
	}
}

static void on_net(struct node *n, const struct event *ev, struct effects *fx)
{
	struct session *s = NULL;
	const struct msg *m = sessions_event(n->sessions, ev, fx, &s);

	/* What the event did to the session comes before the message that came over it. */
	node_session_notes(n, fx);
	if (m)
		on_message(n, s, m, ev->type == EV_NET_MSG ? ev->net.data : 0, fx);
}

/* One outgoing session, to whoever coordinates; none while that is us or nobody. */
static void follow(struct node *n, struct effects *fx)
{
	struct takeover_coordinator c = takeover_coordinator(n->tk);
	bool want = takeover_state(n->tk) == TK_FOLLOW && c.node && c.node != n->cfg.node &&
		    c.role >= ROLE_RECOVERING && n->stop <= STOP_TAKEOVER;

	if (n->coord && (!want || n->coord_node != c.node || n->coord_epoch != c.epoch)) {
		trace(n->trace, TRACE_INFO, "session to node %u ends: it coordinates no longer",
			n->coord_node);
		session_close(n->coord, "you coordinate no longer", fx);
		node_session_notes(n, fx);
		coord_down(n, fx);
		n->coord = NULL;
		n->coord_node = 0;
	}
	if (want && !n->coord && n->carrier_node == c.node)
		node_carry_follow(n, fx);
	if (want && !n->coord) {
		n->coord = session_open(n->sessions, c.node, c.name, c.addr, c.port);
		n->coord_node = c.node;
		n->coord_epoch = c.epoch;
		n->coord_before = c.before;
		n->coord_heard_ns = n->now_ns;
		n->reclaim = RECLAIM_NONE;
	}
	/* Rule 7 of node_data.c: until that word has come block I/O takes the long way. */
	if (n->coord)
		n->coord->eager = n->cfg.reservations && n->path.st == PST_UP && n->reclaim == RECLAIM_SERVED &&
				  n->seen_incarnation != n->path.incarnation;
	if (n->coord && n->coord->state == SESSION_UP && n->coord->heard_ns > n->coord_heard_ns)
		n->coord_heard_ns = n->coord->heard_ns;
	takeover_unheard(n->tk, n->coord ? n->coord_heard_ns : NEVER);
}

/*
 * Our rights last until lease_ns after the last proof that nobody had been given them: a PING of ours that the
 * coordinator answered while it served us, a beat of our claim that the LUN took, or a look at the LUN that
 * showed the registration which our coordinator knows. Each counts from when it was sent. Who gives our rights away has
 * fenced us first and waits for longer than that (node_peers_departed; takeover_quiet_ns). The LUN is asked when no
 * word has come. A PING that the coordinator answers proves as much as it can itself: the answer says how old its own
 * proof is.
 */
static void lease_step(struct node *n)
{
	enum takeover_state tk = takeover_state(n->tk);
	bool mine = takeover_mine(n->tk), served = n->coord && n->reclaim == RECLAIM_SERVED;
	uint64_t word = mine ? takeover_beat_ns(n->tk) : served ? session_lease_ns(n->coord) : 0;
	uint64_t looked = n->path.proven_ns, due = looked + n->cfg.lease_ns / 4;
	uint64_t proof = word;

	/* The coordinator's are its beats alone: others can see when the last one was (takeover_stand.c, quiet_until()), until it has released. */
	if (!mine && tk != TK_RELEASE && n->seen_incarnation == n->path.incarnation && looked > proof)
		proof = looked;
	if (proof && proof + n->cfg.lease_ns > n->lease_ns)
		n->lease_ns = proof + n->cfg.lease_ns;
	if (word && word + n->cfg.lease_ns / 4 * 3 > due)
		due = word + n->cfg.lease_ns / 4 * 3;
	if (!mine)
		io_path_look_by(&n->path, due);
	n->sessions->proven_ns =
		tk >= TK_RECLAIM && tk <= TK_DRAIN ? n->lease_ns - n->cfg.lease_ns : 0;
}

/* ------------------------------------------------------------------ path and membership */

/* What takeover and the others must know of our path follows from its state. */
static void tell_path(struct node *n, struct effects *fx)
{
	enum member_path st = MPATH_NONE;
	uint32_t incarnation = 0;

	if (n->path.ended)
		return;
	if (n->stop >= STOP_HOLDER && n->path.st == PST_UP && !n->stop_dirty) {
		/* Nothing is in flight: if our key stays, it can be preempted without a drain. */
		st = n->unregistered ? MPATH_NONE : MPATH_CLEAN;
		incarnation = n->unregistered ? 0 : n->path.incarnation;
	} else if (n->path.st == PST_UP) {
		st = MPATH_OK;
		incarnation = n->path.incarnation;
	} else if (n->path.st > PST_OPENING && n->path.st < PST_UP) {
		st = MPATH_COMING;
		incarnation = n->path.incarnation;
	} else if (n->path.unfenced) {
		st = MPATH_LOST;
		incarnation = n->path.unfenced;
	}
	if (st == n->told_path && incarnation == n->told_incarnation)
		return;
	n->told_path = st;
	n->told_incarnation = incarnation;
	member_set_path(&n->member, st, incarnation);
	sessions_set_epoch(n->sessions, takeover_epoch(n->tk));
	n->sessions->incarnation = incarnation;
}

/*
 * The one we follow has one only as long as it speaks: of a coordinator that hangs the last word still stands, and who
 * would replace it must have a path.
 */
static bool others_have_a_path(const struct node *n)
{
	bool silent = n->coord && n->now_ns >= n->coord_heard_ns + TAKEOVER_UNEASY_NS;

	for (uint32_t i = 0; i < n->member.node_count; i++) {
		const struct member_node *o = &n->member.nodes[i];

		if (o->node == n->cfg.node || (silent && o->node == n->coord_node))
			continue;
		if (o->member && o->answered && o->state.path == MPATH_OK)
			return true;
	}
	return false;
}

static void path_step(struct node *n, struct effects *fx)
{
	enum takeover_state tk = takeover_state(n->tk);

	n->path.no_reset |= takeover_resets_refused(n->tk);
	if (n->path.unfenced && member_was_fenced(&n->member, n->path.unfenced)) {
		trace(n->trace, TRACE_INFO, "our incarnation %x is fenced", n->path.unfenced);
		io_path_fenced(&n->path, n->path.unfenced);
	}
	if (n->path.st == PST_UP && n->cfg.reservations &&
		member_was_fenced(&n->member, n->path.incarnation)) {
		uint32_t gone = n->path.incarnation;

		/* Not asked for: we were given up. What we held may be another's by now. */
		trace(n->trace, TRACE_ERROR, "evicted: our incarnation %x was fenced", gone);
		io_path_excuse(&n->path);
		io_path_lose(&n->path, "evicted by the coordinator", n->now_ns, fx);
		io_path_fenced(&n->path, gone);
		node_evicted(n, false, fx);
	}
	/* Others may go on without us: only a coordinator can say that what we hold is still ours. */
	if (tk == TK_IDLE || tk == TK_LOST || tk == TK_FROZEN)
		n->standing = false;
	if (n->path.stolen) {
		n->path.stolen = false;
		takeover_fenced_outside(n->tk);
	}
	if (n->path.key_gone) {
		n->path.key_gone = false;
		node_evicted(n, false, fx);
		/* Somebody of outside took it, maybe, and ended nothing with it. */
		fence_before_we_say(n, fx);
	}
	if (tk == TK_LOST && !n->was_lost) {
		if (takeover_lost_fenced(n->tk)) {
			io_path_excuse(&n->path);
			io_path_taken(&n->path);
		}
		io_path_lose(&n->path, takeover_reason(n->tk), n->now_ns, fx);
		if (takeover_lost_fenced(n->tk))
			node_evicted(n, false, fx);
	}
	n->was_lost = tk == TK_LOST;
	if (n->path.st == PST_ANNOUNCE && n->stop < STOP_WAIT && member_announced(&n->member, n->path.incarnation))
		io_path_announced(&n->path, n->now_ns, fx);
	/* Hysteresis is for a path that comes and goes while there is a better one. */
	if (n->path.st != PST_UP && !others_have_a_path(n))
		io_path_outage(&n->path, n->now_ns);
	io_path_step(&n->path, n->now_ns, fx);
	tell_path(n, fx);
}

/* ------------------------------------------------------------------ the step */

uint64_t node_lun(
	struct node *n, enum tag_owner owner, enum lun_op op, struct effects *fx, struct effect **e)
{
	uint64_t tag = TAG(owner, ++n->lun_count);

	*e = effects_add(fx, FX_LUN, tag);
	(*e)->lun.op = op;
	return tag;
}

static void on_lun_done(struct node *n, const struct event *ev, struct effects *fx)
{
	switch (TAG_OWNER(ev->tag)) {
	case TAG_META:
		if (n->vol)
			vol_lun_done(n->vol, ev, fx);
		if (n->old_vol)
			vol_lun_done(n->old_vol, ev, fx);
		return;
	case TAG_TAKEOVER:
		takeover_lun_done(n->tk, ev, fx);
		return;
	case TAG_SERVE:
		if (node_data_lun_done(n, ev, fx))
			return;
		(void)node_size_lun_done(n, ev, fx);
		return;
	case TAG_NODE:
		if (io_path_event(&n->path, ev, fx) || node_stop_lun_done(n, ev, fx) ||
			node_admin_lun_done(n, ev, fx))
			return;
		(void)node_data_lun_done(n, ev, fx);
		return;
	}
}

static void on_start(struct node *n, struct effects *fx)
{
	io_path_start(&n->path, n->now_ns, fx);
}

static void dispatch(struct node *n, const struct event *ev, struct effects *fx)
{
	switch (ev->type) {
	case EV_START:
		on_start(n, fx);
		break;
	case EV_TIMER:
		if (n->vol)
			vol_spare(n->vol);
		break;
	case EV_CPG_CONF:
	case EV_QUORUM:
	case EV_CPG_MSG:
	case EV_CPG_DOWN:
		break; /* member_event() has had it */
	case EV_REQUEST:
		node_kernel_request(n, ev, fx);
		break;
	case EV_CANCEL:
		node_kernel_cancel(n, ev->tag, fx);
		break;
	case EV_LUN_DONE:
		on_lun_done(n, ev, fx);
		break;
	case EV_PATH:
		(void)io_path_event(&n->path, ev, fx);
		break;
	case EV_NET_UP:
	case EV_NET_DOWN:
	case EV_NET_MSG:
		on_net(n, ev, fx);
		break;
	case EV_BLOCK:
		node_data_block(n, ev, fx);
		break;
	case EV_WRITTEN:
		node_file_written(n, ev, fx);
		break;
	case EV_COMMIT:
		node_file_commit(n, ev, fx);
		break;
	case EV_APPENDED:
		node_append_ended(n, ev, fx);
		break;
	case EV_TOUCHED:
		node_file_touched(n, ev, fx);
		break;
	case EV_TIMES:
		node_file_commit_times(n, ev->ino, ev->tag, fx);
		break;
	case EV_DRAINED:
	case EV_SHED:
		node_file_layout_event(n, ev, fx);
		break;
	case EV_CTL:
		node_ctl(n, ev, fx);
		break;
	case EV_STOP:
		node_leave(n);
		break;
	}
}

/* Our own requests, while we coordinate. */
static void local_requests(struct node *n, struct effects *fx)
{
	const struct fs_request *rq;
	uint64_t wire_tag;

	while (n->serving_local && !n->unsure && n->now_ns >= n->local_after_ns && effects_room(fx, 16, 128u << 10) &&
		(rq = client_next_local(n->client, &wire_tag)))
		node_server_request(n, n->cfg.node, true, wire_tag, rq, fx);
}

/* Somebody may coordinate in our place, and serve by now: who takes over waits for our lease. */
static bool office_in_doubt(const struct node *n)
{
	return takeover_mine(n->tk) && n->cfg.reservations && n->now_ns >= n->lease_ns;
}

/*
 * No step for so long: stopped, or the whole machine paused. Others may have gone on without us, and their
 * word for it may still wait behind other events. Whoever took over has fenced us first: until the LUN has
 * shown our registration nothing is answered from what we knew, and the data path (node_data.c, rule 5)
 * has stopped by itself. A coordinator that is awake, and has no proof of its registration, answers nothing either.
 */
static void woke(struct node *n)
{
	uint64_t gap = n->now_ns - n->stepped_ns;
	bool slept = gap >= NODE_AWAKE_NS;

	n->stepped_ns = n->now_ns;
	if (!slept && (n->unsure || !office_in_doubt(n)))
		return;
	if (!io_path_look(&n->path, &n->unsure_look))
		return;
	if (!n->unsure && slept)
		trace(n->trace, TRACE_WARN,
			"slept for %lu ms -> looks whether we are still registered",
			gap / NS_PER_MS);
	else if (!n->unsure)
		trace(n->trace, TRACE_WARN,
			"the LUN has not shown us registered for %lu ms -> answers nothing until it does",
			n->cfg.lease_ns / NS_PER_MS);
	n->unsure = true;
	io_path_excuse(&n->path);
	takeover_be_patient(n->tk, n->now_ns);
}

/* What is answered now was true when the LUN last showed us as one who may write. */
static void sure(struct node *n, struct effects *fx)
{
	if (n->path.st == PST_UP && (n->path.looks <= n->unsure_look || office_in_doubt(n)))
		return;
	n->unsure = false;
	node_peers_awake(n, fx);
}

static void advance(struct node *n, struct effects *fx)
{
	n->again = false;
	path_step(n, fx);
	takeover_served_under(n->tk, n->seen_incarnation);
	takeover_step(n->tk, n->now_ns, fx);
	/* A state that takeover reached just now may want something of the path at once. */
	path_step(n, fx);
	sessions_set_epoch(n->sessions, takeover_epoch(n->tk));
	follow(n, fx);
	node_carry_follow(n, fx);
	lease_step(n);
	if (n->unsure)
		sure(n, fx);
	sessions_step(n->sessions, n->now_ns, fx);
	node_session_notes(n, fx);
	node_server_step(n, fx);
	if (n->coord)
		node_reclaim_send(n, fx);
	local_requests(n, fx);
	node_server_step(n, fx);
	node_admin_step(n, fx);
	node_ask_step(n, fx);
	node_reopen_step(n, fx);
	node_file_step(n, n->now_ns, fx);
	node_data_step(n, fx);
	node_due_step(n, fx);
	if (!n->voiding)
		client_step(n->client, n->now_ns, fx);
	node_expire_held(n, fx);
	if (n->coord && n->coord->distrusted)
		node_refuse_mount(n, -EACCES, n->coord->why);
	node_stop_step(n, fx);
	if (!n->ever_served && client_served(n->client))
		n->ever_served = n->path.number_is_ours = true;
	/* Not at once: its key at the LUN would stay behind. */
	if (takeover_state(n->tk) == TK_REFUSED)
		node_refuse_mount(n, -EBUSY, takeover_reason(n->tk));
	if (takeover_write_protected(n->tk))
		node_refuse_mount(n, -EROFS, takeover_reason(n->tk));
}

void node_step(struct node *n, const struct event *ev, struct effects *fx)
{
	csv_assert(ev->now_ns >= n->now_ns);
	effects_reset(fx);
	n->now_ns = ev->now_ns;
	woke(n);
	n->wall_ns = ev->wall_ns;
	n->sessions->now_ns = ev->now_ns;
	member_event(&n->member, ev);
	dispatch(n, ev, fx);
	advance(n, fx);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void node_not_sent(struct node *n, const void *bytes, uint32_t len)
{
	member_not_sent(&n->member, bytes, len);
}

uint64_t node_deadline(const struct node *n)
{
	uint64_t d = least(n->stop_at_ns, n->stop_look_ns);

	d = least(d, io_path_deadline(&n->path));
	d = least(d, takeover_deadline(n->tk));
	d = least(d, sessions_deadline(n->sessions));
	d = least(d, client_deadline(n->client));
	d = least(d, node_file_deadline(n));
	d = least(d, n->cancel_at_ns);
	d = least(d, n->unsaid_at_ns);
	d = least(d, n->untold_count ? n->untold_at_ns : NEVER);
	d = least(d, node_server_deadline(n));
	d = least(d, node_data_deadline(n));
	d = least(d, node_admin_deadline(n));
	d = least(d, node_carry_own_deadline(n));
	/* hold= is looked at in each step: node_expire_held(). */
	if (n->cfg.hold_ns || (n->path.st == PST_UP && n->cfg.reservations))
		d = least(d, n->stepped_ns + NODE_AWAKE_NS / 2);
	if (n->again || node_due(n) || (n->reclaim == RECLAIM_SENDING && !n->carry_hold_ns && !n->fence_first) || (n->stop == STOP_EXIT && !n->exited))
		d = 0;
	/* What a reply made us ask of ourselves, behind local_requests(): nothing else would wake us. */
	if (n->serving_local && !n->unsure && client_has_local(n->client))
		d = least(d, n->local_after_ns);
	if (n->exited)
		d = NEVER;
	return d;
}

bool node_ready(const struct node *n)
{
	return n->ever_served;
}

uint64_t node_served_epoch(const struct node *n)
{
	return n->served_epoch;
}

uint32_t node_evictions(const struct node *n)
{
	return n->evictions;
}

void node_check(const struct node *n)
{
	io_path_check(&n->path);
	member_check(&n->member);
	takeover_check(n->tk);
	session_check(n->sessions);
	client_check(n->client);
	node_file_check(n);
	node_held_check(n);
	node_cache_check(n);
	node_server_check(n);
	if (n->vol)
		vol_check(n->vol);
}
