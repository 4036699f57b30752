/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * coord_lab.h - a small cluster in one process for the tests of coordinator/: nodes with member and
 * takeover, corosync, and a LUN with reservations; virtual time, delays and faults drawn from a
 * seed.
 *
 * Each node acts as csvfs/node.c does. Its "metadata engine" is a stream of writes that carry the
 * epoch. The oracle watches the LUN: when an epoch was opened, no write of an older one lands
 * any more.
 */
#ifndef CSVFS_TESTS_COORD_LAB_H
#define CSVFS_TESTS_COORD_LAB_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/claim_io.h"
#include "coordinator/elect.h"
#include "coordinator/takeover.h"
#include "csvfs/base/assert.h"
#include "csvfs/base/prng.h"

#define LAB_NODES 5
#define LAB_OPS 512
#define LAB_INBOX 1024
#define LAB_LEASE_OVER (2200 * NS_PER_MS)
#define MS NS_PER_MS
#define SEC NS_PER_SEC

struct lab_msg {
	uint64_t at_ns;
	struct event ev;
	uint8_t bytes[CPG_MSG_MAX];
};

struct lab_inbox {
	uint32_t head, count;
	uint64_t last_ns;
	struct lab_msg m[LAB_INBOX];
};

struct lab_node {
	uint32_t id;
	bool up; /* the daemon runs */
	bool path; /* its way to the LUN works */
	bool paused; /* it gets nothing and says nothing, but the LUN's answers */
	bool asleep; /* with paused: not these either, until it wakes */
	bool port_cut; /* nobody hears it, nor it them, but over corosync */
	uint32_t served_under; /* the incarnation with which it was served last */
	uint32_t heard_node; /* whom it follows, and when it heard it last */
	uint64_t heard_ns;
	bool deaf; /* node.c's part is not played: nobody answers TK_OPEN, TK_RECLAIM, TK_DRAIN */
	bool slow_close; /* the engine does not close */
	bool slow_serve; /* not all are served for a while */
	bool gone; /* it has stopped in order */
	bool lingers; /* then it stays in the group */
	bool hasty; /* it registers also where no view counts: what it had sent before a cut arrives late */
	bool other; /* another machine, with another name, under this number */
	bool in_group;
	uint64_t life;
	uint32_t incarnation, next_incarnation;
	bool announcing, registering;
	uint64_t path_at_ns; /* opens its path then */
	uint32_t engine_ops;
	uint64_t write_at_ns;
	uint64_t reclaim_epoch; /* told the coordinator so */
	enum takeover_state state;
	struct member m;
	struct takeover *t;
	void *region;
	struct mem mem;
	struct lab_inbox cpg, quorum;
	uint32_t part;
};

struct lab_op {
	bool used, arrived, lands, told;
	uint32_t node;
	uint64_t life, tag, at_ns, key_used;
	enum lun_status status;
	struct lun_cmd cmd;
	uint8_t data[BLOCK_SIZE];
	uint64_t epoch; /* of an engine's write */
};

struct lab {
	struct prng rng;
	uint32_t count;
	bool two_node, standalone, no_reservations;
	uint64_t now_ns;
	struct lab_node node[LAB_NODES + 1];
	uint64_t ring_seq;
	uint64_t ring_of[LAB_NODES + 1]; /* by part */
	/* the LUN */
	uint64_t reg[LAB_NODES + 1];
	uint64_t strange_key; /* of nobody in the cluster */
	uint32_t holder; /* node; 99: the stranger; 0: no reservation */
	bool abort_ok, reset_ok;
	bool busy; /* it carries nothing out: BUSY to all but READ KEYS */
	bool attention[LAB_NODES + 1];
	uint64_t hold_ns; /* writes that have passed the check are held so long */
	uint8_t block[16][BLOCK_SIZE];
	struct lab_op op[LAB_OPS];
	/* the oracle */
	uint64_t opened; /* highest epoch that was opened */
	uint64_t late; /* writes that landed too late */
	uint64_t served, resets, preempts;
	uint64_t twice; /* an epoch that was opened twice */
	bool quiet_trace;
	uint64_t min_ns, max_ns; /* delay of a LUN command */
	char log[1 << 18];
	size_t log_used;
};

static const uint8_t lab_uuid[16] = {7, 7, 7};

static void lab_log(struct lab *l, const char *fmt, ...)
{
	va_list ap;

	if (l->log_used + 400 > sizeof(l->log))
		l->log_used = 0;
	l->log_used += (size_t)snprintf(
		l->log + l->log_used, 64, "%7llu ", (unsigned long long)(l->now_ns / MS));
	va_start(ap, fmt);
	l->log_used += (size_t)vsnprintf(l->log + l->log_used, 300, fmt, ap);
	va_end(ap);
	l->log[l->log_used++] = '\n';
	l->log[l->log_used] = 0;
}

struct lab_sink {
	struct lab *l;
	uint32_t node;
	struct trace trace;
};
static struct lab_sink lab_sinks[LAB_NODES + 1];

static void lab_trace(void *ctx, enum trace_level level, const char *line)
{
	struct lab_sink *s = ctx;

	(void)level;
	lab_log(s->l, "n%u: %s", s->node, line);
}

static struct effects lab_fx;

static uint64_t lab_rand(struct lab *l, uint64_t min, uint64_t max)
{
	return max > min ? min + prng_below(&l->rng, max - min) : min;
}

/* ------------------------------------------------------------------ corosync */

static void lab_inbox_put(
	struct lab *l, struct lab_inbox *in, const struct event *ev, uint64_t delay_ns)
{
	struct lab_msg *m;

	csv_assert(in->count < LAB_INBOX);
	m = &in->m[(in->head + in->count++) % LAB_INBOX];
	m->ev = *ev;
	m->at_ns = l->now_ns + delay_ns;
	if (m->at_ns < in->last_ns)
		m->at_ns = in->last_ns;
	in->last_ns = m->at_ns;
	if (ev->type == EV_CPG_MSG) {
		memcpy(m->bytes, ev->msg.bytes, ev->msg.len);
		m->ev.msg.bytes = m->bytes;
	}
}

static bool lab_quorate(const struct lab *l, uint32_t count)
{
	return (l->two_node && l->count == 2) || count * 2 > l->count;
}

/* Tells every node of the part its members; a new ring: and its quorum. */
static void lab_tell_conf(struct lab *l, uint32_t part, bool new_ring)
{
	struct event conf = {.type = EV_CPG_CONF}, quorum = {.type = EV_QUORUM};

	for (uint32_t i = 1; i <= l->count; i++) {
		if (l->node[i].part != part)
			continue;
		if (!conf.conf.ring_node)
			conf.conf.ring_node = i;
		quorum.conf.members[quorum.conf.member_count++] = i;
		if (l->node[i].up && l->node[i].in_group)
			conf.conf.members[conf.conf.member_count++] = i;
	}
	if (!conf.conf.ring_node)
		return;
	if (new_ring)
		l->ring_of[part] = ++l->ring_seq;
	conf.conf.ring_seq = quorum.conf.ring_seq = l->ring_of[part];
	quorum.conf.ring_node = conf.conf.ring_node;
	quorum.conf.quorate = lab_quorate(l, quorum.conf.member_count);
	for (uint32_t i = 1; i <= l->count; i++) {
		struct lab_node *n = &l->node[i];

		if (n->part != part || !n->up || !n->in_group)
			continue;
		lab_inbox_put(l, &n->cpg, &conf, lab_rand(l, 0, 5 * MS));
		lab_inbox_put(l, &n->quorum, &quorum, lab_rand(l, 0, 5 * MS));
	}
}

static void lab_cpg_send(struct lab *l, uint32_t from, const void *bytes, uint32_t len)
{
	struct event ev = {.type = EV_CPG_MSG};

	ev.msg.node = from;
	ev.msg.bytes = bytes;
	ev.msg.len = len;
	for (uint32_t i = 1; i <= l->count; i++) {
		struct lab_node *n = &l->node[i];

		if (n->up && n->in_group && n->part == l->node[from].part)
			lab_inbox_put(l, &n->cpg, &ev, lab_rand(l, 0, 3 * MS));
	}
}

/* ------------------------------------------------------------------ the LUN */

static void lab_submit(
	struct lab *l, uint32_t node, uint64_t tag, const struct lun_cmd *cmd, uint64_t epoch)
{
	for (uint32_t i = 0; i < LAB_OPS; i++) {
		struct lab_op *o = &l->op[i];

		if (o->used)
			continue;
		memset(o, 0, offsetof(struct lab_op, data));
		o->used = true;
		o->node = node;
		o->life = l->node[node].life;
		o->tag = tag;
		o->cmd = *cmd;
		o->epoch = epoch;
		o->at_ns = l->now_ns + lab_rand(l, l->min_ns, l->max_ns);
		if (cmd->op == LUN_WRITE && cmd->buf)
			memcpy(o->data, cmd->buf, BLOCK_SIZE);
		return;
	}
	csv_assert(!"too many commands");
}

static bool lab_registered(const struct lab *l, uint64_t key)
{
	for (uint32_t i = 1; i <= l->count; i++)
		if (l->reg[i] == key)
			return true;
	return l->strange_key == key;
}

/* PREEMPT AND ABORT says OK and ends nothing, unless its victim holds the reservation: so does LIO before Linux 6.1. */
static enum lun_status lab_preempt(struct lab *l, struct lab_op *o)
{
	bool aborts = o->cmd.op == LUN_PR_PREEMPT_ABORT;

	if (aborts && !l->abort_ok)
		return LUN_UNSUPPORTED;
	if (l->reg[o->node] != o->cmd.key || !lab_registered(l, o->cmd.victim))
		return LUN_CONFLICT;
	l->preempts++;
	for (uint32_t i = 1; i <= l->count; i++) {
		if (l->reg[i] != o->cmd.victim)
			continue;
		l->reg[i] = 0;
		l->attention[i] = true;
		for (uint32_t k = 0; k < LAB_OPS && aborts && l->holder == i; k++)
			if (l->op[k].used && l->op[k].node == i && l->op[k].arrived)
				l->op[k].lands = false;
		if (l->holder == i)
			l->holder = o->node;
	}
	if (l->strange_key == o->cmd.victim) {
		l->strange_key = 0;
		if (l->holder == 99)
			l->holder = o->node;
	}
	return LUN_OK;
}

/* The command has reached the target. A write is checked here and lands later. */
static void lab_arrive(struct lab *l, struct lab_op *o)
{
	uint64_t latest = l->now_ns;

	o->arrived = true;
	o->status = LUN_OK;
	if ((l->busy || l->attention[o->node]) && o->cmd.op != LUN_PR_READ_KEYS) {
		l->attention[o->node] = false;
		o->status = LUN_RETRY;
		return;
	}
	switch (o->cmd.op) {
	case LUN_WRITE:
		if (l->holder && !l->reg[o->node]) {
			o->status = LUN_CONFLICT;
			break;
		}
		o->lands = true;
		o->at_ns =
			l->now_ns + lab_rand(l, l->min_ns, l->max_ns) + lab_rand(l, 0, l->hold_ns);
		return;
	case LUN_PR_REGISTER:
		l->reg[o->node] = o->cmd.key;
		break;
	case LUN_PR_RESERVE:
		if (!l->reg[o->node] || (l->holder && l->holder != o->node))
			o->status = LUN_CONFLICT;
		else
			l->holder = o->node;
		break;
	case LUN_PR_PREEMPT:
	case LUN_PR_PREEMPT_ABORT:
		o->status = lab_preempt(l, o);
		break;
	case LUN_RESET:
		if (!l->reset_ok) {
			o->status = LUN_UNSUPPORTED;
			break;
		}
		/* Done when what is in the target has ended. */
		l->resets++;
		for (uint32_t k = 0; k < LAB_OPS; k++)
			if (l->op[k].used && l->op[k].arrived && l->op[k].lands &&
				l->op[k].at_ns >= latest)
				latest = l->op[k].at_ns + 1;
		for (uint32_t i = 1; i <= l->count; i++)
			l->attention[i] = true;
		o->at_ns = latest;
		return;
	default:
		break;
	}
	o->at_ns = l->now_ns + lab_rand(l, l->min_ns, l->max_ns);
}

static void lab_step_node(struct lab *l, struct lab_node *n, struct event *ev);

static void lab_complete(struct lab *l, struct lab_op *o)
{
	struct lab_node *n = &l->node[o->node];
	struct event ev = {.type = EV_LUN_DONE, .tag = o->tag};
	uint64_t keys[2 * (LAB_NODES + 2)];
	uint32_t count = 0;

	if (o->lands) {
		uint64_t b = o->cmd.off / BLOCK_SIZE;

		if (o->epoch && o->epoch < l->opened) {
			l->late++;
			lab_log(l, "LATE: a write of n%u, epoch %llu, lands in epoch %llu", o->node,
				(unsigned long long)o->epoch, (unsigned long long)l->opened);
		}
		memcpy(l->block[b % 16], o->data, BLOCK_SIZE);
	}
	o->used = false;
	if (!n->up || n->life != o->life || o->told)
		return;
	if (o->cmd.op == LUN_WRITE && !o->lands && o->status == LUN_OK)
		o->status = LUN_UNKNOWN; /* aborted */
	ev.lun.status = o->status;
	if (o->cmd.op == LUN_READ && o->status == LUN_OK)
		memcpy(o->cmd.buf, l->block[o->cmd.off / BLOCK_SIZE % 16], BLOCK_SIZE);
	if (o->cmd.op == LUN_PR_READ_KEYS)
		for (uint32_t i = 1; i <= l->count; i++)
			for (int session = 0; session < 2 && l->reg[i]; session++)
				keys[count++] = l->reg[i];
	if (o->cmd.op == LUN_PR_READ_KEYS && l->strange_key)
		keys[count++] = l->strange_key;
	if (o->cmd.op == LUN_PR_READ_RESERVATION && l->holder)
		keys[count++] = l->holder == 99 ? l->strange_key : l->reg[l->holder];
	ev.lun.keys = keys;
	ev.lun.key_count = count;
	lab_step_node(l, n, &ev);
}

/* Everything outstanding of the path ends unknown; what is in the target already still lands. */
static void lab_path_break(struct lab *l, struct lab_node *n)
{
	struct event ev = {.type = EV_LUN_DONE};

	for (uint32_t i = 0; i < LAB_OPS; i++) {
		struct lab_op *o = &l->op[i];
		uint64_t tag = o->tag;

		if (!o->used || o->node != n->id || o->life != n->life)
			continue;
		if (o->told)
			continue;
		o->told = true;
		if (!o->arrived)
			o->used = false;
		ev.tag = tag;
		ev.lun.status = LUN_UNKNOWN;
		if (n->up)
			lab_step_node(l, n, &ev);
	}
	n->engine_ops = 0;
}

/* ------------------------------------------------------------------ a node */

static void lab_path_open(struct lab *l, struct lab_node *n)
{
	n->incarnation = 0;
	if (!n->path)
		return;
	n->incarnation = n->id * 1000 + n->next_incarnation++;
	n->announcing = true;
	n->registering = false;
	member_set_path(&n->m, MPATH_COMING, n->incarnation);
	(void)l;
}

static void lab_path_recycle(struct lab *l, struct lab_node *n, uint64_t delay_ns)
{
	member_set_path(&n->m, n->incarnation ? MPATH_LOST : MPATH_NONE, n->incarnation);
	n->announcing = n->registering = false;
	n->path_at_ns = l->now_ns + delay_ns;
	lab_path_break(l, n);
}

static void lab_engine_write(struct lab *l, struct lab_node *n)
{
	struct lun_cmd cmd = {.op = LUN_WRITE, .off = 8 * BLOCK_SIZE, .len = BLOCK_SIZE};

	n->engine_ops++;
	lab_submit(l, n->id, TAG(TAG_META, 1), &cmd, takeover_epoch(n->t));
	n->write_at_ns = l->now_ns + lab_rand(l, 5 * MS, 200 * MS);
}

/* What csvfs/node.c does on its state. Returns true when there is more to do at once. */
static bool lab_act(struct lab *l, struct lab_node *n)
{
	enum takeover_state s = takeover_state(n->t);
	bool entered = s != n->state;
	struct takeover_coordinator c = takeover_coordinator(n->t);
	bool announced = n->hasty ? n->m.announced == FENCE_KEY(n->id, n->incarnation)
				  : member_announced(&n->m, n->incarnation);

	n->state = s;
	if (n->announcing && !n->registering && announced) {
		struct lun_cmd cmd = {
			.op = LUN_PR_REGISTER, .key = FENCE_KEY(n->id, n->incarnation)};

		n->registering = true;
		lab_submit(l, n->id, TAG(TAG_NODE, n->incarnation), &cmd, 0);
	}
	if (c.node && c.role >= ROLE_RECOVERING && !n->deaf && !n->paused &&
		n->reclaim_epoch != c.epoch && l->node[c.node].up &&
		takeover_state(l->node[c.node].t) == TK_RECLAIM &&
		takeover_epoch(l->node[c.node].t) == c.epoch) {
		n->reclaim_epoch = c.epoch;
		takeover_reclaimed(l->node[c.node].t, n->id);
	}
	if (s == TK_LOST && entered) {
		lab_path_recycle(l, n, 100 * MS);
		return true;
	}
	if (s == TK_OPEN && entered) {
		if (takeover_epoch(n->t) <= l->opened)
			l->twice++;
		l->opened = takeover_epoch(n->t);
		lab_log(l, "n%u opens epoch %llu", n->id, (unsigned long long)l->opened);
		if (!n->deaf)
			takeover_volume_ready(n->t);
		return !n->deaf;
	}
	if (s == TK_SERVE && entered)
		l->served = takeover_epoch(n->t);
	if (s == TK_SERVE && !n->slow_serve && takeover_given_all_served(n->t, true))
		return true;
	if (s == TK_DRAIN && !n->engine_ops && !n->deaf && !n->slow_close)
		takeover_volume_closed(n->t);
	if (s == TK_STOPPED && entered) {
		n->announcing = n->registering = false;
		if (n->incarnation && member_own(&n->m)->path != MPATH_LOST)
			member_set_path(&n->m, MPATH_CLEAN, n->incarnation);
		member_set_leaving(&n->m, LEAVING_DONE);
		n->gone = true;
		return true;
	}
	if (n->incarnation && !n->gone && member_was_fenced(&n->m, n->incarnation) &&
		member_own(&n->m)->path != MPATH_LOST) {
		lab_path_recycle(l, n, 50 * MS);
		return true;
	}
	return entered;
}

static bool lab_serves(const struct lab_node *n)
{
	return takeover_state(n->t) == TK_SERVE;
}

/* What node.c knows by its session: is the coordinator that it follows heard, and does it serve us? */
static void lab_hear(struct lab *l, struct lab_node *n)
{
	struct takeover_coordinator c = takeover_coordinator(n->t);
	const struct lab_node *o = &l->node[c.node];
	bool hears = o->up && !o->paused && !o->port_cut && !n->port_cut;

	if (lab_serves(n))
		n->served_under = n->incarnation;
	if (takeover_state(n->t) != TK_FOLLOW || !c.node) {
		n->heard_node = 0;
		takeover_unheard(n->t, NEVER);
		return;
	}
	if (n->heard_node != c.node || hears)
		n->heard_ns = l->now_ns;
	n->heard_node = c.node;
	takeover_unheard(n->t, n->heard_ns);
	/* As node_data.c, path_seen(): a PONG does not say which incarnation the coordinator knows. */
	if (hears && lab_serves(o) && member_own(&n->m)->path == MPATH_OK)
		n->served_under = n->incarnation;
}

static void lab_step_node(struct lab *l, struct lab_node *n, struct event *ev)
{
	ev->now_ns = l->now_ns;
	effects_reset(&lab_fx);
	member_event(&n->m, ev);
	if (ev->type == EV_LUN_DONE && TAG_OWNER(ev->tag) == TAG_TAKEOVER)
		takeover_lun_done(n->t, ev, &lab_fx);
	if (ev->type == EV_LUN_DONE && TAG_OWNER(ev->tag) == TAG_META && n->engine_ops)
		n->engine_ops--;
	if (ev->type == EV_LUN_DONE && ev->tag == TAG(TAG_NODE, n->incarnation) && n->registering) {
		n->registering = false;
		if (ev->lun.status == LUN_OK) {
			n->announcing = false;
			member_set_path(&n->m, MPATH_OK, n->incarnation);
		}
	}
	for (;;) {
		uint32_t count;
		struct effect *copy;
		uint8_t *bytes;
		bool more;

		lab_hear(l, n);
		takeover_served_under(n->t, n->served_under);
		takeover_step(n->t, l->now_ns, &lab_fx);
		/*
		 * lab_act() may step again, through a path that breaks: effects are carried out
		 * first.
		 */
		count = lab_fx.count;
		copy = malloc(sizeof(*copy) * (count + 1));
		bytes = malloc(lab_fx.arena_used + 1);
		memcpy(copy, lab_fx.fx, sizeof(*copy) * count);
		memcpy(bytes, lab_fx.arena, lab_fx.arena_used);
		for (uint32_t i = 0; i < count; i++) {
			if (copy[i].type == FX_LUN)
				lab_submit(l, n->id, copy[i].tag, &copy[i].lun, 0);
			else if (copy[i].type == FX_CPG_SEND)
				lab_cpg_send(l, n->id,
					bytes + ((const uint8_t *)copy[i].net.bytes - lab_fx.arena),
					copy[i].net.len);
		}
		free(copy);
		free(bytes);
		effects_reset(&lab_fx);
		more = lab_act(l, n);
		if (!more)
			break;
		effects_reset(&lab_fx);
	}
}

static void lab_start(struct lab *l, uint32_t id)
{
	struct lab_node *n = &l->node[id];
	struct member_config mc = {0};
	struct takeover_config tc = {0};
	struct event ev = {.type = EV_START};

	lab_sinks[id] = (struct lab_sink){.l = l, .node = id};
	lab_sinks[id].trace = (struct trace){TRACE_DEBUG, lab_trace, &lab_sinks[id]};
	memcpy(mc.uuid, lab_uuid, 16);
	mc.trace = &lab_sinks[id].trace;
	mc.self.node = id;
	mc.self.life = n->life = prng_u64(&l->rng) | 1;
	mc.self.port = 7660;
	snprintf(mc.self.name, sizeof(mc.self.name), n->other ? "other%u" : "n%u", id);
	snprintf(mc.self.addr, sizeof(mc.self.addr), "10.0.0.%u", id);
	mc.standalone = l->standalone;
	member_init(&n->m, &mc);
	if (!n->region)
		n->region = aligned_alloc(4096, 1 << 18);
	mem_init(&n->mem, n->region, 1 << 18);
	tc.standalone = l->standalone;
	tc.no_reservations = l->no_reservations;
	tc.trace = mc.trace;
	tc.member = &n->m;
	tc.mem = &n->mem;
	memcpy(tc.uuid, lab_uuid, 16);
	tc.tag_seed = prng_u64(&l->rng) >> 12;
	tc.lease_over_ns = LAB_LEASE_OVER;
	n->t = takeover_create(&tc);
	csv_assert(n->t);
	n->up = true;
	n->in_group = !l->standalone;
	n->gone = n->paused = n->deaf = n->slow_close = n->slow_serve = n->announcing = n->registering = false;
	n->incarnation = 0;
	n->reclaim_epoch = 0;
	n->state = TK_IDLE;
	n->engine_ops = 0;
	memset(&n->cpg, 0, offsetof(struct lab_inbox, m));
	memset(&n->quorum, 0, offsetof(struct lab_inbox, m));
	n->path_at_ns = l->now_ns + 10 * MS;
	lab_log(l, "--- n%u starts", id);
	lab_step_node(l, n, &ev);
	lab_tell_conf(l, n->part, !l->ring_of[n->part]);
	/* Who starts is told the quorum as it is. */
	lab_tell_conf(l, n->part, false);
}

/* The daemon dies: what it sent to the target goes on there. */
static void lab_kill(struct lab *l, uint32_t id)
{
	struct lab_node *n = &l->node[id];

	lab_log(l, "--- n%u dies", id);
	n->up = n->in_group = false;
	for (uint32_t i = 0; i < LAB_OPS; i++)
		if (l->op[i].used && l->op[i].node == id && !l->op[i].arrived)
			l->op[i].used = false;
	lab_tell_conf(l, n->part, false);
}

static inline void lab_split(struct lab *l, const uint32_t *part)
{
	bool told[LAB_NODES + 1] = {false};

	lab_log(l, "--- the network changes: %u %u %u %u", part[0], part[1],
		l->count > 2 ? part[2] : 0, l->count > 3 ? part[3] : 0);
	for (uint32_t i = 1; i <= l->count; i++)
		l->node[i].part = part[i - 1];
	for (uint32_t i = 1; i <= l->count; i++)
		if (!told[l->node[i].part]) {
			told[l->node[i].part] = true;
			lab_tell_conf(l, l->node[i].part, true);
		}
}

static inline void lab_path_set(struct lab *l, uint32_t id, bool up)
{
	struct lab_node *n = &l->node[id];

	if (n->path == up)
		return;
	lab_log(l, "--- n%u's path is %s", id, up ? "back" : "lost");
	n->path = up;
	if (!n->up)
		return;
	if (up) {
		n->path_at_ns = l->now_ns + 100 * MS;
	} else {
		struct event ev = {.type = EV_TIMER};

		lab_path_recycle(l, n, 0);
		n->path_at_ns = NEVER;
		lab_step_node(l, n, &ev);
	}
}

static void lab_init(struct lab *l, uint32_t count, uint64_t seed)
{
	struct claim c = {.epoch = 0, .state = CLAIM_CLEAN};

	for (uint32_t i = 1; i <= LAB_NODES; i++)
		free(l->node[i].region);
	memset(l, 0, sizeof(*l));
	if (!lab_fx.arena)
		lab_fx.arena = malloc(EFFECTS_ARENA);
	l->rng.s = seed;
	l->count = count;
	l->two_node = true;
	l->abort_ok = l->reset_ok = true;
	l->now_ns = 100 * SEC;
	l->min_ns = 200000;
	l->max_ns = 2 * MS;
	memcpy(c.uuid, lab_uuid, 16);
	claim_encode(&c, l->block[1]);
	claim_encode(&c, l->block[2]);
	for (uint32_t i = 1; i <= count; i++) {
		l->node[i].id = i;
		l->node[i].path = true;
		l->node[i].next_incarnation = 1;
		l->node[i].path_at_ns = NEVER;
	}
}

static void lab_drop(struct lab *l)
{
	for (uint32_t i = 1; i <= LAB_NODES; i++) {
		free(l->node[i].region);
		l->node[i].region = NULL;
	}
}

/* ------------------------------------------------------------------ time */

static void lab_earliest(uint64_t *at, uint64_t ns)
{
	if (ns < *at)
		*at = ns;
}

static uint64_t lab_next(const struct lab *l)
{
	uint64_t at = NEVER;

	for (uint32_t i = 0; i < LAB_OPS; i++)
		if (l->op[i].used && !(l->op[i].arrived && l->node[l->op[i].node].asleep))
			lab_earliest(&at, l->op[i].at_ns);
	for (uint32_t i = 1; i <= l->count; i++) {
		const struct lab_node *n = &l->node[i];

		if (!n->up || n->paused)
			continue;
		if (n->cpg.count)
			lab_earliest(&at, n->cpg.m[n->cpg.head].at_ns);
		if (n->quorum.count)
			lab_earliest(&at, n->quorum.m[n->quorum.head].at_ns);
		lab_earliest(&at, takeover_deadline(n->t));
		lab_earliest(&at, n->path_at_ns);
		if (takeover_mine(n->t) && !n->deaf)
			lab_earliest(&at, n->write_at_ns > l->now_ns ? n->write_at_ns : l->now_ns);
	}
	return at;
}

static bool lab_inbox_take(struct lab *l, struct lab_node *n, struct lab_inbox *in)
{
	struct lab_msg m;

	if (!in->count || in->m[in->head].at_ns > l->now_ns)
		return false;
	m = in->m[in->head];
	if (m.ev.type == EV_CPG_MSG)
		m.ev.msg.bytes = m.bytes;
	in->head = (in->head + 1) % LAB_INBOX;
	in->count--;
	lab_step_node(l, n, &m.ev);
	return true;
}

static void lab_node_time(struct lab *l, struct lab_node *n)
{
	struct event ev = {.type = EV_TIMER};

	while (n->up && !n->paused && lab_inbox_take(l, n, &n->cpg))
		;
	while (n->up && !n->paused && lab_inbox_take(l, n, &n->quorum))
		;
	if (!n->up || n->paused)
		return;
	if (n->path_at_ns <= l->now_ns) {
		n->path_at_ns = NEVER;
		if (!n->gone)
			lab_path_open(l, n);
		lab_step_node(l, n, &ev);
	}
	if (takeover_mine(n->t) && !n->deaf && n->write_at_ns <= l->now_ns &&
		takeover_state(n->t) != TK_DRAIN)
		lab_engine_write(l, n);
	else if (n->write_at_ns <= l->now_ns)
		n->write_at_ns = l->now_ns + 50 * MS;
	lab_step_node(l, n, &ev);
	/* Stopped in order: leaves the group when its last STATE is out. */
	if (n->gone && n->up && !n->lingers && member_self(&n->m)->state.path == member_own(&n->m)->path &&
		member_self(&n->m)->state.leaving == LEAVING_DONE) {
		lab_log(l, "--- n%u has left", n->id);
		n->up = n->in_group = false;
		lab_tell_conf(l, n->part, false);
	}
}

/* Until no node has anything to do before `for_ns` from now, or `until` is true. */
static bool lab_run(struct lab *l, uint64_t for_ns, bool (*until)(struct lab *l))
{
	uint64_t end = l->now_ns + for_ns, steps = 0;

	while (!until || !until(l)) {
		uint64_t at = lab_next(l);

		if (at > end) {
			l->now_ns = end;
			return !until;
		}
		csv_assert(++steps < 2000000); /* nobody spins */
		if (at > l->now_ns)
			l->now_ns = at;
		for (uint32_t i = 0; i < LAB_OPS; i++) {
			struct lab_op *o = &l->op[i];

			if (!o->used || o->at_ns > l->now_ns)
				continue;
			if (!o->arrived)
				lab_arrive(l, o);
			else if (!l->node[o->node].asleep)
				lab_complete(l, o);
		}
		for (uint32_t i = 1; i <= l->count; i++)
			lab_node_time(l, &l->node[i]);
	}
	return true;
}

/* ------------------------------------------------------------------ questions */

static uint32_t lab_serving(struct lab *l)
{
	for (uint32_t i = 1; i <= l->count; i++)
		if (l->node[i].up && takeover_state(l->node[i].t) == TK_SERVE)
			return i;
	return 0;
}

/* One serves, all others that run follow it. */
static bool lab_settled(struct lab *l)
{
	uint32_t s = lab_serving(l);

	if (!s)
		return false;
	for (uint32_t i = 1; i <= l->count; i++) {
		struct takeover_coordinator c;

		if (!l->node[i].up || i == s)
			continue;
		c = takeover_coordinator(l->node[i].t);
		if (takeover_state(l->node[i].t) != TK_FOLLOW || c.node != s ||
			c.role != ROLE_SERVING)
			return false;
	}
	return true;
}

static inline bool lab_said(const struct lab *l, const char *text)
{
	return strstr(l->log, text) != NULL;
}

/* ------------------------------------------------------------------ what a test says */

/* C is who coordinates, B and D are the others. */
static struct lab L;
static uint32_t C, B, D;

static inline void lab_check(bool ok, const char *what, int line)
{
	if (ok && !L.late && !L.twice)
		return;
	fprintf(stderr, "%s\nline %d: %s%s%s\n", L.log, line, what, L.late ? "; a late write" : "",
		L.twice ? "; an epoch opened twice" : "");
	fail();
}
/* The oracle is asked each time: a write of an old epoch that landed late, an epoch opened twice. */
#define CHECK(e) lab_check(e, #e, __LINE__)

static inline enum takeover_state st(uint32_t node)
{
	return takeover_state(L.node[node].t);
}

static inline struct takeover *tk(uint32_t node)
{
	return L.node[node].t;
}

static inline void names(void)
{
	C = lab_serving(&L);
	B = C == 1 ? 2 : 1;
	D = 6 - B - C;
}

static inline void up_with(uint32_t count, uint64_t seed, bool abort_ok)
{
	lab_init(&L, count, seed);
	L.abort_ok = abort_ok;
	for (uint32_t i = 1; i <= count; i++)
		lab_start(&L, i);
	CHECK(lab_run(&L, 10 * SEC, lab_settled));
	names();
}

static inline void up(uint32_t count)
{
	up_with(count, 42, true);
}

static enum takeover_state want_state;
static uint32_t want_node;

static inline bool is_in_state(struct lab *l)
{
	return l->node[want_node].up && takeover_state(l->node[want_node].t) == want_state;
}

static inline bool run_to(uint32_t node, enum takeover_state s)
{
	want_node = node;
	want_state = s;
	return lab_run(&L, 20 * SEC, is_in_state);
}

/* `node` alone, the others together. */
static inline void cut_off(uint32_t node)
{
	uint32_t part[LAB_NODES] = {0};

	part[node - 1] = 1;
	lab_split(&L, part);
}

static inline void join_all(void)
{
	const uint32_t part[LAB_NODES] = {0};

	lab_split(&L, part);
}

#endif
