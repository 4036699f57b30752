/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_data.c - block I/O that the data path hands over, block I/O served for others, and the mode.
 *
 *   DIRECT            the gate is open: the data threads submit by themselves
 *   BLOCK REDIRECTED  no path (or the administrator's wish): block I/O goes through the coordinator, or whom that names
 *                     (node_carry.c)
 *   PAUSED            held: nothing may be done, or nobody is there to do it
 *
 * Rules
 *  1. The gate is open only when the path is UP, the cluster quorate, and our lease runs (invariant 14).
 *  2. On the way back from redirected to direct what a peer still has of ours is waited for there; only
 *     what was not sent goes direct. New writes need not wait for it: it was not acknowledged, so
 *     no application can know which came first; and it is not sent again before rule 3 (invariant 9).
 *  3. A write whose outcome is unknown is sent again only when its older attempt can no longer land: our
 *     lost incarnation is fenced, and a coordinator serves us in a session at whose beginning nothing of ours was in
 *     flight anywhere (node_carry.c).
 *  4. For another node we do block I/O only while it is a member that we serve, or our coordinator has told us to, and our
 *     own path is UP. What fails here with an unknown outcome is answered only when our own lost
 *     incarnation is fenced: until then it might still land.
 *  5. The data path submits and answers for NODE_AWAKE_NS after a step of ours, no longer: when the whole
 *     daemon sleeps it is not us who could tell it to stop. After a sleep nothing goes on before the
 *     LUN has shown that we were not fenced. (Writes need no such care: the target refuses them.)
 *  6. When our rights were taken away, block I/O that was planned under them is not done any more, on no
 *     path: its place may be another's. The data path plans it anew (FX_GATE's `rights`).
 *  7. A path that has come back is used when a coordinator has answered what we sent it since all members were
 *     told of the new incarnation, or we coordinate. Who gives up a node without a path has no key to
 *     take away, and may be out of our sight: its word must come first.
 */
#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/node_int.h"

/* An EV_BLOCK of our own: the flush of an fsync. The data path's tags have one of the two top bits. */
#define FLUSH_TAG (1ull << 61)
#define IS_FLUSH(tag) ((tag) >> 61 == 1)
#define RETRY_NS (20 * NS_PER_MS)
#define RETRIES_MAX 500
/* Less than a recall's time: whose I/O it is, cannot give the file's layout back meanwhile. */
#define FAILING_NS (5 * NS_PER_SEC)

void node_data_init(struct node *n)
{
	list_init(&n->flushes);
	n->mode = IO_PAUSED;
	strcpy(n->mode_reason, "starting");
}

const char *node_mode_name(const struct node *n)
{
	switch (n->mode) {
	case IO_PAUSED:
		return "paused";
	case IO_DIRECT:
		return "direct";
	case IO_BLOCK_REDIRECTED:
		return "block-redirected";
	}
	return "?";
}

/* ------------------------------------------------------------------ our own */

static void block_done(uint64_t tag, int32_t err, struct effects *fx)
{
	effects_add(fx, FX_BLOCK_DONE, tag)->block.err = err;
}

static void flush_done(struct node *n, struct nflush *f, int32_t err, struct effects *fx)
{
	struct fwait *w = f->wait;

	list_del(&f->link);
	mem_free(n->mem, f, sizeof(*f));
	node_file_flush_done(n, w, err, fx);
}

/* Effects for our own flushes are not the data path's. */
static void take_flushes(struct node *n, uint32_t from, struct effects *fx)
{
	for (uint32_t i = from; i < fx->count; i++) {
		struct effect *e = &fx->fx[i];
		int32_t err;

		if (e->type != FX_BLOCK_DONE || !IS_FLUSH(e->tag))
			continue;
		err = e->block.err;
		/* Nothing: handle 0 is none. */
		e->type = FX_DATA_FREE;
		e->data = 0;
		list_for_each_entry_safe (f, tmp, &n->flushes, struct nflush, link) {
			if (f->tag == e->tag) {
				flush_done(n, f, err, fx);
				break;
			}
		}
	}
}

void node_data_block(struct node *n, const struct event *ev, struct effects *fx)
{
	bool news = !ev->block.told && n->path.st == PST_UP;

	/* On a path that is up nothing ends so unless somebody took our registration away. */
	if (ev->block.conflict && news)
		n->path.key_gone = true;
	if (ev->block.unknown && news)
		io_path_lose(&n->path, "the LUN refused a write, or it was lost", n->now_ns, fx);
	if (ev->block.refused && news)
		io_path_lose(&n->path, "the LUN has kept refusing a read", n->now_ns, fx);
	/* Rule 6. */
	if (ev->block.rights != n->evictions)
		effects_add(fx, FX_BLOCK_RETRY, ev->tag);
	else if (client_block_submit(n->client, ev))
		block_done(ev->tag, -ENOMEM, fx); /* it comes again */
}

/* Rule 6. Before anything is sent. */
static void give_back_void(struct node *n, struct effects *fx)
{
	uint64_t tag;

	while (n->voiding && effects_room(fx, 4, 4096)) {
		n->voiding = client_block_next_void(n->client, &tag);
		if (n->voiding)
			effects_add(fx, FX_BLOCK_RETRY, tag);
	}
	n->again |= n->voiding;
}

/* Writes that were given up and can land no more. */
static void give_back_over(struct node *n, struct effects *fx)
{
	uint64_t tag;

	while (effects_room(fx, 4, 4096) && client_block_next_over(n->client, &tag))
		block_done(tag, -EIO, fx);
}

/* To the queue of what waits for a way, ours or a peer's. */
static void flush_queue(struct node *n, struct nflush *f, struct effects *fx)
{
	struct event ev = {.type = EV_BLOCK, .now_ns = n->now_ns, .wall_ns = n->wall_ns};

	f->retry_ns = NEVER;
	ev.tag = f->tag;
	ev.block.flush = true;
	if (client_block_submit(n->client, &ev))
		flush_done(n, f, -ENOMEM, fx);
}

void node_data_flush(struct node *n, struct fwait *w, struct effects *fx)
{
	struct nflush *f = mem_alloc(n->mem, sizeof(*f));

	if (!f) {
		node_file_flush_done(n, w, -ENOMEM, fx);
		return;
	}
	f->wait = w;
	f->tag = FLUSH_TAG | ++n->lun_count;
	list_add_tail(&f->link, &n->flushes);
	flush_queue(n, f, fx);
}

static void flush_direct(struct node *n, struct nflush *f, struct effects *fx)
{
	struct effect *e;

	f->retry_ns = NEVER;
	f->lun_tag = node_lun(n, TAG_NODE, LUN_FLUSH, fx, &e);
}

/* The data path's I/O that was handed over while we are direct (again) goes back to it. */
static void give_back(struct node *n, struct effects *fx)
{
	uint64_t tag;

	while (effects_room(fx, 4, 4096) && client_block_next_idle(n->client, &tag)) {
		if (!IS_FLUSH(tag)) {
			effects_add(fx, FX_BLOCK_RETRY, tag);
			continue;
		}
		list_for_each_entry (f, &n->flushes, struct nflush, link) {
			if (f->tag == tag) {
				flush_direct(n, f, fx);
				break;
			}
		}
	}
}

void node_data_cancel(struct node *n, uint64_t tag, struct effects *fx)
{
	if (client_block_cancel(n->client, tag)) {
		block_done(tag, -EINTR, fx);
		return;
	}
	list_for_each_entry (f, &n->flushes, struct nflush, link) {
		if (f->wait->tag == tag)
			node_file_flush_cancel(n, f->wait, fx);
	}
}

void node_data_expired(struct node *n, uint64_t tag, bool lands, struct effects *fx)
{
	uint32_t from = fx->count;

	block_done(tag, -EIO, fx);
	fx->fx[from].block.lands = lands;
	take_flushes(n, from, fx);
}

void node_data_reply(
	struct node *n, struct session *s, const struct msg *m, uint64_t data, struct effects *fx)
{
	enum client_block_result result;
	uint32_t from = fx->count;
	struct msg late;

	/* Rule 7 of node_carry.c. */
	if (s != n->coord && m->block_reply.status == LUN_OK && n->now_ns >= n->lease_ns) {
		late = *m;
		late.block_reply.status = LUN_RETRY;
		late.data_len = 0;
		m = &late;
	}
	result = client_block_reply(n->client, s, m, data, n->now_ns, fx);
	if (result != CLIENT_BLOCK_OK && result != CLIENT_BLOCK_STALE)
		node_carry_refused(n, s);
	take_flushes(n, from, fx);
}

void node_data_session_down(struct node *n, struct session *s)
{
	/* Also when it refused us before, and is our peer no longer: pieces may still be there. */
	if (s->outgoing &&
		(client_block_session(n->client) == s || !client_block_session(n->client)))
		client_block_peer(n->client, NULL, 0);
	else if (s->outgoing)
		client_block_lost(n->client);
	list_for_each_entry (v, &n->served, struct served, link) {
		if (v->node == s->peer && !s->outgoing)
			v->dead = true;
	}
}

/* ------------------------------------------------------------------ served for others */

static void served_free(struct node *n, struct served *v, struct effects *fx)
{
	struct peer *p = node_peer(n, v->node);

	if (p && p->blocks && v->counted == takeover_epoch(n->tk))
		p->blocks--;
	/* Rule 8 of node_server.c: somebody may have waited for it. */
	if (p && !p->blocks && !p->served)
		n->leases_changed = true;
	if (v->data)
		effects_add(fx, FX_DATA_FREE, 0)->data = v->data;
	list_del(&v->link);
	node_carry_freed(n, v->node, fx);
	mem_free(n->mem, v, sizeof(*v));
}

static void served_reply(
	struct node *n, struct served *v, enum lun_status status, struct effects *fx)
{
	struct session *s = session_from(n->sessions, v->node);
	struct msg m = {.type = MSG_BLOCK_REPLY, .tag = v->wire_tag};

	m.block_reply.status = status;
	if (s && !v->dead) {
		if (status == LUN_OK && v->op == BLOCK_READ) {
			m.data_len = (uint32_t)v->len;
			n->stats.served_read_bytes += v->len;
		} else if (status == LUN_OK && v->op == BLOCK_WRITE) {
			n->stats.served_write_bytes += v->len;
		}
		n->stats.served_ops++;
		(void)session_send(s, &m, m.data_len ? v->data : 0, 0, fx);
	}
	served_free(n, v, fx);
}

static void served_submit(struct node *n, struct served *v, struct effects *fx)
{
	struct effect *e;
	enum lun_op op = v->op == BLOCK_READ	? LUN_READ
			 : v->op == BLOCK_WRITE ? LUN_WRITE
						: LUN_FLUSH;

	v->retry_ns = NEVER;
	v->sent_ns = n->now_ns;
	v->lun_tag = node_lun(n, TAG_SERVE, op, fx, &e);
	e->lun.fua = v->fua;
	e->lun.off = v->off;
	e->lun.len = v->len;
	e->lun.data = v->data;
}

static void refuse(
	struct session *s, const struct msg *m, enum lun_status status, struct effects *fx)
{
	struct msg out = {.type = MSG_BLOCK_REPLY, .tag = m->tag};

	out.block_reply.status = status;
	(void)session_send(s, &out, 0, 0, fx);
}

void node_data_serve(
	struct node *n, struct session *s, const struct msg *m, uint64_t data, struct effects *fx)
{
	struct peer *p = node_peer(n, s->peer);
	struct served *v;
	uint64_t end = m->block.lun_off + m->block.len;
	/* While we drain its I/O ends, as requests do: it asks whoever comes next. */
	bool ours = p && p->served && !s->outgoing && takeover_state(n->tk) != TK_DRAIN;
	bool ready = (ours || node_carry_may(n, s, m->block.incarnation)) && n->path.st == PST_UP;
	bool fits = m->block.op == BLOCK_FLUSH ||
		    (end >= m->block.lun_off &&
			    !((m->block.lun_off | m->block.len) & (n->path.block_bytes - 1)));

	/* Rule 4. NOT EXECUTED is what RETRY says: the asker looks for another way. */
	if (!ready || !fits) {
		refuse(s, m, ready ? LUN_UNSUPPORTED : LUN_RETRY, fx);
		if (data)
			effects_add(fx, FX_DATA_FREE, 0)->data = data;
		return;
	}
	v = mem_alloc(n->mem, sizeof(*v));
	if (!v) {
		refuse(s, m, LUN_RETRY, fx);
		if (data)
			effects_add(fx, FX_DATA_FREE, 0)->data = data;
		return;
	}
	v->wire_tag = m->tag;
	v->node = s->peer;
	v->op = m->block.op;
	v->fua = m->block.fua;
	v->off = m->block.lun_off;
	v->len = m->block.len;
	v->data = data;
	v->since_ns = n->now_ns;
	list_add_tail(&v->link, &n->served);
	v->counted = ours ? takeover_epoch(n->tk) : 0;
	if (ours)
		p->blocks++;
	served_submit(n, v, fx);
}

bool node_data_serving(const struct node *n)
{
	return !list_empty(&n->served);
}

/* As rule 7 of dp.h. */
static void served_failing(struct node *n, struct served *v, struct effects *fx)
{
	if (!v->failing_since_ns)
		v->failing_since_ns = v->sent_ns;
	/* That a flush succeeds when it is sent again does not say that what it failed to write was written. */
	if (v->op != BLOCK_FLUSH && n->now_ns < v->since_ns + FAILING_NS) {
		v->retry_ns = n->now_ns + RETRY_NS;
	} else if (v->op != BLOCK_FLUSH && n->now_ns < v->failing_since_ns + FAILING_NS / 2) {
		/* What was refused for most of the time says nothing of the place. */
		served_reply(n, v, LUN_RETRY, fx);
	} else {
		trace(n->trace, TRACE_ERROR, "LUN: a command at %llu keeps failing behind the target: its storage is full (thin "
			"provisioning), or broken", (unsigned long long)v->off);
		served_reply(n, v, LUN_MEDIUM, fx);
	}
}

static void served_done(
	struct node *n, struct served *v, const struct event *ev, struct effects *fx)
{
	v->lun_tag = 0;
	if (ev->lun.status != LUN_FAILING)
		v->failing_since_ns = 0;
	if (ev->lun.data)
		v->data = ev->lun.data;
	/* Rule 5: read before we slept, perhaps another's by now. */
	if (n->unsure && v->op == BLOCK_READ && ev->lun.status == LUN_OK) {
		if (v->data)
			effects_add(fx, FX_DATA_FREE, 0)->data = v->data;
		v->data = 0;
		v->retry_ns = n->now_ns + RETRY_NS;
		return;
	}
	/* No cache to flush. */
	if (v->op == BLOCK_FLUSH && ev->lun.status == LUN_UNSUPPORTED) {
		served_reply(n, v, LUN_OK, fx);
		return;
	}
	switch (ev->lun.status) {
	case LUN_RETRY:
		if (v->retries++ < RETRIES_MAX) {
			v->retry_ns = n->now_ns + RETRY_NS;
			return;
		}
		served_reply(n, v, LUN_RETRY, fx);
		return;
	case LUN_FAILING:
		served_failing(n, v, fx);
		return;
	case LUN_OK:
	case LUN_MEDIUM:
	case LUN_UNSUPPORTED:
	case LUN_NOSPACE:
	case LUN_PROTECTED:
		served_reply(n, v, ev->lun.status, fx);
		return;
	case LUN_CONFLICT:
	case LUN_UNKNOWN:
		/* Answered by served_step() when our incarnation is fenced. */
		v->unknown = true;
		n->path.key_gone |= ev->lun.status == LUN_CONFLICT && n->path.st == PST_UP;
		io_path_lose(&n->path,
			ev->lun.status == LUN_CONFLICT ? "reservation conflict"
						       : "a served command was lost",
			n->now_ns, fx);
		return;
	}
}

static void served_step(struct node *n, struct effects *fx)
{
	list_for_each_entry_safe (v, tmp, &n->served, struct served, link) {
		if (!effects_room(fx, 8, 8192))
			return;
		if (v->unknown && !n->path.unfenced)
			served_reply(n, v, v->op == BLOCK_WRITE ? LUN_UNKNOWN : LUN_RETRY, fx);
		else if (!v->lun_tag && !v->unknown && n->path.st != PST_UP)
			served_reply(n, v, LUN_RETRY, fx);
		else if (!v->lun_tag && !v->unknown && n->now_ns >= v->retry_ns)
			served_submit(n, v, fx);
	}
}

bool node_data_lun_done(struct node *n, const struct event *ev, struct effects *fx)
{
	list_for_each_entry (v, &n->served, struct served, link) {
		if (v->lun_tag && v->lun_tag == ev->tag) {
			served_done(n, v, ev, fx);
			return true;
		}
	}
	list_for_each_entry (f, &n->flushes, struct nflush, link) {
		if (!f->lun_tag || f->lun_tag != ev->tag)
			continue;
		f->lun_tag = 0;
		switch (ev->lun.status) {
		case LUN_OK:
		case LUN_UNSUPPORTED: /* no cache to flush */
			flush_done(n, f, 0, fx);
			return true;
		case LUN_MEDIUM:
		case LUN_FAILING:
		case LUN_NOSPACE:
		case LUN_PROTECTED:
			flush_done(n, f, -EIO, fx);
			return true;
		case LUN_RETRY:
			f->retry_ns = n->now_ns + RETRY_NS;
			return true;
		case LUN_CONFLICT:
		case LUN_UNKNOWN:
			io_path_lose(&n->path, "a flush was lost", n->now_ns, fx);
			f->retry_ns = n->now_ns;
			return true;
		}
	}
	return false;
}

/* ------------------------------------------------------------------ mode and gate */

/*
 * Rule 7. Whoever knows the new incarnation fences it before it gives our rights away.
 */
static bool path_seen(struct node *n)
{
	if (n->path.st != PST_UP)
		return false;
	if (n->serving_local || (n->reclaim == RECLAIM_SERVED && n->coord &&
					session_lease_ns(n->coord) > n->path.announced_ns))
		n->seen_incarnation = n->path.incarnation;
	return !n->cfg.reservations || n->seen_incarnation == n->path.incarnation;
}

static enum io_mode choose_mode(struct node *n, const char **why)
{
	enum takeover_state tk = takeover_state(n->tk);
	bool quorate = tk != TK_IDLE && tk != TK_FROZEN && tk != TK_REFUSED && tk != TK_STOPPED;
	bool peer = n->coord && n->coord->state == SESSION_UP && n->reclaim == RECLAIM_SERVED;
	bool seen = path_seen(n);

	*why = "";
	if (n->stop >= STOP_TAKEOVER || tk == TK_STOPPED) {
		*why = "unmounting";
		return IO_PAUSED;
	}
	if (!quorate) {
		*why = tk == TK_REFUSED || tk == TK_FROZEN ? takeover_reason(n->tk)
		       : member_view(&n->member)->quorate  ? "waiting for a coordinator"
							   : "the cluster is not quorate";
		return IO_PAUSED;
	}
	if (!n->standing) {
		*why = "waiting for a coordinator";
		return IO_PAUSED;
	}
	if (seen && !(n->admin_redirect && n->coord_node)) {
		/* A lease that is over does not come back by itself: only the coordinator gives it. */
		if (n->now_ns >= n->lease_ns) {
			*why = "no word from a coordinator: the lease has run out";
			return IO_PAUSED;
		}
		return IO_DIRECT;
	}
	*why = n->path.st != PST_UP ? n->path.reason
	       : seen		    ? "asked for by the administrator"
				    : "the path is back: waiting for the coordinator's word";
	if (peer && !n->path.unfenced && n->now_ns < n->lease_ns)
		return IO_BLOCK_REDIRECTED;
	if (seen)
		*why = "redirection asked for, and no coordinator to redirect to";
	else if (n->path.unfenced && peer)
		*why = "path lost: waiting until the old session is fenced";
	return IO_PAUSED;
}

/*
 * The data path begins nothing new. What it has begun goes on, as without a pause: a layout could not go back before that has ended,
 * and who does not give one back is fenced. Whoever unmounts lets go on what waits.
 */
static bool is_paused(const struct node *n)
{
	return n->admin_pause && n->stop == STOP_NO;
}

/* Rule 5. Not with each step: that would be an effect for each event. */
static uint64_t awake(struct node *n)
{
	if (!n->unsure && n->now_ns + NODE_AWAKE_NS / 2 >= n->awake_ns)
		n->awake_ns = n->now_ns + NODE_AWAKE_NS;
	return n->awake_ns;
}

static void set_gate(struct node *n, enum gate g, struct effects *fx)
{
	uint64_t lease = n->cfg.standalone && !n->cfg.reservations ? NEVER : n->lease_ns;
	struct effect *e;

	if (n->cfg.reservations && g == GATE_DIRECT && awake(n) < lease)
		lease = n->awake_ns;

	if (g == n->gate && n->gate_rights == n->evictions && n->gate_paused == is_paused(n) &&
		(g == GATE_CLOSED || lease == n->gate_lease_ns))
		return;
	if (g == GATE_DIRECT)
		n->direct_incarnation = n->path.incarnation;
	n->gate_rights = n->evictions;
	n->gate_paused = is_paused(n);
	n->gate = g;
	n->gate_lease_ns = lease;
	e = effects_add(fx, FX_GATE, 0);
	e->gate.gate = g;
	e->gate.lease_ns = lease;
	e->gate.rights = n->evictions;
	e->gate.paused = n->gate_paused;
}

static void set_mode(struct node *n, enum io_mode m, const char *why)
{
	if (m != n->mode) {
		n->mode_since_ns = n->wall_ns;
		n->mode = m;
		trace(n->trace, m == IO_DIRECT ? TRACE_INFO : TRACE_WARN, "I/O is %s%s%s",
			node_mode_name(n), why[0] ? ": " : "", why);
	}
	trace_format(n->mode_reason, sizeof(n->mode_reason), "%s", why);
}

uint64_t node_epoch(const struct node *n)
{
	return takeover_epoch(n->tk);
}

bool node_coordinates(const struct node *n)
{
	return takeover_state(n->tk) == TK_SERVE;
}

enum node_office node_office(const struct node *n)
{
	enum takeover_state st = takeover_state(n->tk);

	if (st == TK_LOST)
		return OFFICE_LOST;
	if (st == TK_DRAIN || st == TK_RELEASE)
		return OFFICE_DRAINS;
	return st == TK_SERVE ? OFFICE_SERVES : OFFICE_NONE;
}

bool node_has_let_go(const struct node *n)
{
	return takeover_state(n->tk) == TK_STOPPED;
}

bool node_is_candidate(const struct node *n)
{
	struct takeover_coordinator c = takeover_coordinator(n->tk);

	return c.node == n->cfg.node && c.role == ROLE_CANDIDATE;
}

bool node_stands(const struct node *n)
{
	return n->standing && n->mode != IO_PAUSED;
}

/* Rule 3: is every older attempt of an unknown write over? */
static bool old_attempts_over(const struct node *n)
{
	return !n->path.unfenced &&
	       (n->serving_local || n->reclaim == RECLAIM_SERVED || n->cfg.standalone);
}

void node_data_step(struct node *n, struct effects *fx)
{
	const char *why;
	enum io_mode m;
	uint32_t from = fx->count, ticket;
	struct session *way;

	if (n->cfg.standalone && !n->cfg.reservations)
		n->lease_ns = NEVER;
	served_step(n, fx);
	give_back_void(n, fx);
	if (old_attempts_over(n) && !n->voiding)
		client_block_resend(n->client);
	give_back_over(n, fx);
	m = choose_mode(n, &why);
	if (is_paused(n))
		set_mode(n, IO_PAUSED, "asked for by the administrator");
	else
		set_mode(n, m, why);
	switch (m) {
	case IO_DIRECT:
		set_gate(n, GATE_DIRECT, fx);
		/* While unsure the gate's time is over, and what is given back would come again at once. */
		if (!n->unsure)
			give_back(n, fx);
		break;
	case IO_BLOCK_REDIRECTED:
		set_gate(n, GATE_CLOSED, fx);
		if (n->voiding)
			break;
		way = node_carry_way(n, &ticket);
		if (client_block_session(n->client) != way)
			client_block_peer(n->client, way, ticket);
		break;
	case IO_PAUSED:
		set_gate(n, GATE_CLOSED, fx);
		if (client_block_session(n->client))
			client_block_peer(n->client, NULL, 0);
		break;
	}
	list_for_each_entry_safe (f, tmp, &n->flushes, struct nflush, link) {
		if (n->now_ns < f->retry_ns)
			continue;
		if (!effects_room(fx, 4, 4096))
			break; /* node_data_deadline() says: now */
		/* Its path is gone, and may be for long: a peer flushes as well. */
		if (n->path.st == PST_UP)
			flush_direct(n, f, fx);
		else
			flush_queue(n, f, fx);
	}
	take_flushes(n, from, fx);
}

uint64_t node_data_deadline(const struct node *n)
{
	uint64_t d = NEVER;

	list_for_each_entry (v, &n->served, struct served, link) {
		if (!v->lun_tag && v->retry_ns < d)
			d = v->retry_ns;
	}
	list_for_each_entry (f, &n->flushes, struct nflush, link) {
		if (f->retry_ns < d)
			d = f->retry_ns;
	}
	if (n->gate == GATE_DIRECT && n->lease_ns < d)
		d = n->lease_ns;
	if (n->gate == GATE_DIRECT && n->cfg.reservations && !n->unsure &&
		n->awake_ns - NODE_AWAKE_NS / 2 < d)
		d = n->awake_ns - NODE_AWAKE_NS / 2;
	return d;
}
