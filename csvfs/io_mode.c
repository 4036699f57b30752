/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/io_mode.h"

#include <string.h>

#include "csvfs/base/assert.h"

#define RETRY_STEP_NS (50 * NS_PER_MS)
#define RETRIES_MAX 60
/* What an older login has in flight is waited out where the target knows no LUN reset: as long as by a fence (fence.h). */
#define DRAIN_NS (30 * NS_PER_SEC)
/* Where there is no LUN reset, whoever has taken our registration away needs so long until he is done. */
#define AWAY_NS (DRAIN_NS + 5 * NS_PER_SEC)
/* A path that nobody uses is looked at so often; who took our registration away shows, too. */
#define LOOK_NS (2 * NS_PER_SEC)
/* A path that comes and goes is not used at once: each loss within FLAP_NS makes it wait longer. */
#define FLAP_NS (300 * NS_PER_SEC)
static const uint64_t settle_ns[] = {0, 0, 5 * NS_PER_SEC, 30 * NS_PER_SEC, 300 * NS_PER_SEC};

/* Allowed moves: row from, bit to. */
#define TO(s) (1u << PST_##s)
static const uint16_t moves[] = {
	[PST_CLOSED] = TO(OPENING),
	[PST_OPENING] = TO(ANNOUNCE) | TO(DRAIN) | TO(SETTLE) | TO(CLOSED) | TO(CLOSING),
	[PST_ANNOUNCE] = TO(REGISTER) | TO(CLOSING),
	[PST_REGISTER] = TO(KEYS) | TO(CLOSING),
	[PST_KEYS] = TO(PREEMPT) | TO(DRAIN) | TO(HOLDER) | TO(CLOSING),
	[PST_PREEMPT] = TO(VERIFY) | TO(DRAIN) | TO(CLOSING),
	[PST_DRAIN] = TO(VERIFY) | TO(SETTLE) | TO(CLOSING),
	[PST_VERIFY] = TO(PREEMPT) | TO(HOLDER) | TO(CLOSING),
	[PST_HOLDER] = TO(RESERVE) | TO(SETTLE) | TO(CLOSING),
	[PST_RESERVE] = TO(SETTLE) | TO(CLOSING),
	[PST_SETTLE] = TO(UP) | TO(CLOSING),
	[PST_UP] = TO(CLOSING),
	[PST_CLOSING] = TO(CLOSED),
};

const char *io_path_state_name(enum path_st st)
{
	switch (st) {
	case PST_CLOSED: return "closed";
	case PST_OPENING: return "opening";
	case PST_ANNOUNCE: return "announce";
	case PST_REGISTER: return "register";
	case PST_KEYS: return "keys";
	case PST_PREEMPT: return "preempt";
	case PST_DRAIN: return "drain";
	case PST_VERIFY: return "verify";
	case PST_HOLDER: return "holder";
	case PST_RESERVE: return "reserve";
	case PST_SETTLE: return "settle";
	case PST_UP: return "up";
	case PST_CLOSING: return "closing";
	}
	return "?";
}

static void move(struct io_path *p, enum path_st to)
{
	csv_assert(moves[p->st] & (1u << to));
	p->st = to;
}

void io_path_init(struct io_path *p, uint32_t node, uint64_t seed, bool reservations,
	uint64_t retry_ns, const struct trace *t)
{
	memset(p, 0, sizeof(*p));
	p->trace = t;
	p->node = node;
	p->rng.s = seed;
	p->reservations = reservations;
	p->retry_ns = retry_ns;
	p->retry_at_ns = NEVER;
	p->settle_until_ns = p->look_ns = NEVER;
	p->st = PST_CLOSED;
	p->write_cache = true; /* until a login says that there is none: what goes through a peer may be in one */
	strcpy(p->reason, "not opened yet");
}

static void set_reason(struct io_path *p, const char *why)
{
	trace_format(p->reason, sizeof(p->reason), "%s", why);
}

static void command(struct io_path *p, enum lun_op op, uint64_t victim, struct effects *fx)
{
	struct effect *e;

	p->tag = TAG(TAG_NODE, (1ull << 48) | ++p->tag_count);
	e = effects_add(fx, FX_LUN, p->tag);
	e->lun.op = op;
	e->lun.key = io_path_key(p->node, p->incarnation);
	e->lun.victim = victim;
}

/* The command that the state waits for; sent on entering it, and again after LUN_RETRY. */
static void send(struct io_path *p, struct effects *fx)
{
	switch (p->st) {
	case PST_REGISTER:
		command(p, LUN_PR_REGISTER, 0, fx);
		return;
	case PST_KEYS:
	case PST_VERIFY:
	case PST_UP:
		command(p, p->reservations ? LUN_PR_READ_KEYS : LUN_TEST, 0, fx);
		return;
	case PST_PREEMPT:
		command(p, LUN_PR_PREEMPT, p->old_key, fx);
		return;
	case PST_DRAIN:
		command(p, LUN_RESET, 0, fx);
		return;
	case PST_HOLDER:
		command(p, LUN_PR_READ_RESERVATION, 0, fx);
		return;
	case PST_RESERVE:
		command(p, LUN_PR_RESERVE, 0, fx);
		return;
	case PST_CLOSED:
	case PST_OPENING:
	case PST_ANNOUNCE:
	case PST_SETTLE:
	case PST_CLOSING:
		break;
	}
	csv_assert(false);
}

static void enter(struct io_path *p, enum path_st st, struct effects *fx)
{
	move(p, st);
	p->retries = 0;
	p->waits_out = false;
	send(p, fx);
}

static void settle(struct io_path *p, uint64_t now_ns)
{
	uint64_t wait = settle_ns[p->losses < 5 ? p->losses : 4];

	csv_assert(!p->unfenced); /* P3 */
	move(p, PST_SETTLE);
	p->settle_until_ns = now_ns + wait;
	if (!wait)
		return;
	trace_format(p->reason, sizeof(p->reason),
		"back after %u losses: used when it has held for %lu s", p->losses,
		wait / NS_PER_SEC);
	trace(p->trace, TRACE_INFO, "path: back after %u losses -> used in %lu s", p->losses,
		wait / NS_PER_SEC);
}

bool io_path_trust(struct io_path *p, uint64_t now_ns)
{
	p->losses = 0;
	if (p->st != PST_SETTLE || now_ns >= p->settle_until_ns)
		return false;
	p->settle_until_ns = now_ns;
	trace(p->trace, TRACE_INFO, "path: the administrator trusts it -> used at once");
	return true;
}

void io_path_outage(struct io_path *p, uint64_t now_ns)
{
	if (p->st == PST_UP)
		return;
	if (!p->outage && p->losses)
		p->losses--;
	p->outage = true;
	if (p->st != PST_SETTLE || now_ns >= p->settle_until_ns)
		return;
	p->settle_until_ns = now_ns;
	trace(p->trace, TRACE_INFO, "path: nobody else has one -> used at once");
}

void io_path_excuse(struct io_path *p)
{
	p->excused = p->st == PST_UP;
}

void io_path_taken(struct io_path *p)
{
	p->taken = true;
}

void io_path_start(struct io_path *p, uint64_t now_ns, struct effects *fx)
{
	move(p, PST_OPENING);
	p->retry_at_ns = NEVER;
	p->taken = false;
	do {
		p->incarnation = (uint32_t)prng_u64(&p->rng);
	} while (!p->incarnation || p->incarnation == p->unfenced || p->incarnation == p->before);
	effects_add(fx, FX_PATH_OPEN, 0);
}

void io_path_lose(struct io_path *p, const char *why, uint64_t now_ns, struct effects *fx)
{
	bool was_up = p->st == PST_UP;

	if (p->st == PST_CLOSED || p->st == PST_CLOSING)
		return;
	set_reason(p, why);
	trace(p->trace, TRACE_WARN, "path: %s -> closed (%s)", io_path_state_name(p->st), why);
	if (was_up) {
		if (now_ns - p->first_loss_ns > FLAP_NS || !p->losses) {
			p->losses = 0;
			p->first_loss_ns = now_ns;
		}
		if (!p->excused)
			p->losses++;
		p->excused = false;
		p->lost_count++;
		p->outage = false;
		p->lost_ns = now_ns;
		/* Only a path that was up carried writes. */
		p->unfenced = p->incarnation;
	}
	if (p->st > PST_ANNOUNCE)
		p->before = p->incarnation;
	p->incarnation = 0;
	p->tag = 0;
	p->proven_ns = 0;
	p->settle_until_ns = p->look_ns = NEVER;
	move(p, PST_CLOSING);
	effects_add(fx, FX_PATH_CLOSE, 0);
}

void io_path_end(struct io_path *p, struct effects *fx)
{
	if (p->ended)
		return;
	p->ended = true;
	p->retry_at_ns = NEVER;
	if (p->st == PST_CLOSED || p->st == PST_CLOSING)
		return;
	trace(p->trace, TRACE_INFO, "path: closed, incarnation %x has ended", p->incarnation);
	p->incarnation = 0;
	p->tag = 0;
	p->proven_ns = 0;
	p->settle_until_ns = p->look_ns = NEVER;
	move(p, PST_CLOSING);
	effects_add(fx, FX_PATH_CLOSE, 0);
}

bool io_path_look(struct io_path *p, uint32_t *since)
{
	if (p->st != PST_UP || !p->reservations)
		return false;
	*since = p->looks;
	/* One that is under way began before now: its answer proves less. The next one comes at once. */
	p->look_again = p->tag != 0;
	if (p->tag)
		*since = p->looks + 1;
	else
		p->look_ns = 0;
	return true;
}

void io_path_look_by(struct io_path *p, uint64_t by_ns)
{
	if (p->st == PST_UP && p->reservations && !p->tag && by_ns < p->look_ns)
		p->look_ns = by_ns;
}

void io_path_announced(struct io_path *p, uint64_t now_ns, struct effects *fx)
{
	csv_assert(p->st == PST_ANNOUNCE);
	p->announced_ns = now_ns;
	enter(p, PST_REGISTER, fx);
}

void io_path_fenced(struct io_path *p, uint32_t incarnation)
{
	if (p->unfenced != incarnation)
		return;
	p->unfenced = 0;
	if (p->st == PST_CLOSED && p->taken && p->no_reset && p->retry_at_ns != NEVER)
		p->retry_at_ns = 0;
	p->taken = false;
	/* Nothing of it can land now, so there is nothing to be waited out; if it was for another one that goes on. */
	if (p->st == PST_DRAIN && p->waits_out && (!p->old_key || (uint32_t)p->old_key == incarnation))
		p->retry_at_ns = 0;
}

static void on_path(struct io_path *p, const struct event *ev, struct effects *fx)
{
	switch (ev->path.state) {
	case PATH_UP:
		if (p->st != PST_OPENING)
			return;
		p->block_bytes = ev->path.block_bytes;
		p->lun_bytes = ev->path.lun_bytes;
		p->write_cache = ev->path.write_cache;
		if (p->reservations)
			move(p, PST_ANNOUNCE);
		else if (p->unfenced || p->left_behind)
			enter(p, PST_DRAIN, fx); /* P5 */
		else
			settle(p, ev->now_ns);
		return;
	case PATH_FAILED:
		if (p->st != PST_OPENING)
			return;
		set_reason(p, ev->path.text);
		p->incarnation = 0;
		move(p, PST_CLOSED);
		p->retry_at_ns = p->ended ? NEVER : ev->now_ns + p->retry_ns;
		return;
	case PATH_LOST:
		/* A command that failed may have told first; this says why. */
		if (p->st == PST_CLOSING)
			set_reason(p, ev->path.text);
		io_path_lose(p, ev->path.text, ev->now_ns, fx);
		return;
	case PATH_CLOSED:
		if (p->st != PST_CLOSING)
			return;
		move(p, PST_CLOSED);
		p->retry_at_ns = p->ended ? NEVER : ev->now_ns + (p->taken && p->no_reset ? AWAY_NS : p->retry_ns);
		return;
	}
}

/* P4 */
static bool is_older_of_ours(const struct io_path *p, uint64_t key)
{
	uint32_t incarnation = (uint32_t)key;

	return key >> 32 == p->node &&
	       (p->number_is_ours || incarnation == p->before || incarnation == p->unfenced);
}

/* Our key must be there; an older one of this node is preempted; others are not our business. */
static void on_keys(struct io_path *p, const struct event *ev, struct effects *fx)
{
	uint64_t ours = io_path_key(p->node, p->incarnation);
	bool found = false, lost_is_there = false;

	p->old_key = 0;
	for (uint32_t i = 0; i < ev->lun.key_count; i++) {
		lost_is_there |= ev->lun.keys[i] == io_path_key(p->node, p->unfenced);
		if (ev->lun.keys[i] == ours)
			found = true;
		else if (is_older_of_ours(p, ev->lun.keys[i]))
			p->old_key = ev->lun.keys[i];
	}
	if (!found) {
		io_path_taken(p);
		io_path_lose(p, "the target does not show our registration", ev->now_ns, fx);
		return;
	}
	/*
	 * Its key is gone. If a login in between, which broke, has left one: perhaps it was that which took it. (If our own REGISTER has replaced
	 * that, as on LIO, we cannot tell: that costs a head start.)
	 */
	if (p->unfenced && p->st == PST_KEYS && !lost_is_there && (!p->old_key || p->unfenced != p->preempted))
		p->stolen = true;
	if (p->old_key) {
		trace(p->trace, TRACE_INFO, "path: an older key of ours, %lx -> preempt it", p->old_key);
		p->unfenced = p->unfenced ? p->unfenced : (uint32_t)p->old_key;
		if ((uint32_t)p->old_key == p->unfenced)
			p->preempted = p->unfenced;
		enter(p, PST_PREEMPT, fx);
	} else if (p->unfenced && p->st == PST_KEYS) {
		/* Its key is gone, but nobody told us that its commands have ended. */
		enter(p, PST_DRAIN, fx);
	} else {
		p->unfenced = 0;
		enter(p, PST_HOLDER, fx);
	}
}

static void on_look(struct io_path *p, const struct event *ev, struct effects *fx)
{
	uint64_t ours = io_path_key(p->node, p->incarnation);
	bool old = p->look_again;

	p->look_ns = ev->now_ns + (ev->lun.status == LUN_RETRY ? RETRY_STEP_NS :
					  p->look_again ? 0 : LOOK_NS);
	if (ev->lun.status == LUN_RETRY || !p->reservations)
		return;
	p->look_again = false;
	if (ev->lun.status != LUN_OK) {
		io_path_lose(p, "the LUN does not tell its registrations", ev->now_ns, fx);
		return;
	}
	for (uint32_t i = 0; i < ev->lun.key_count; i++) {
		if (ev->lun.keys[i] == ours) {
			p->looks++;
			p->proven_ns = p->look_sent_ns;
			p->excused = p->excused && old;
			return;
		}
	}
	p->key_gone = true;
	io_path_taken(p);
	io_path_lose(p, "our registration was taken away: fenced by another node", ev->now_ns, fx);
}

/* Without reservations there is no key to be seen: whose writes they were does not matter, none can land now. */
static void on_drained(struct io_path *p, uint64_t now_ns, struct effects *fx)
{
	if (p->reservations) {
		enter(p, PST_VERIFY, fx);
		return;
	}
	p->waits_out = p->left_behind = false;
	p->unfenced = 0;
	settle(p, now_ns);
}

static void on_done(struct io_path *p, const struct event *ev, struct effects *fx)
{
	enum lun_status s = ev->lun.status;

	if (p->st == PST_UP) {
		on_look(p, ev, fx);
		return;
	}
	if (s == LUN_RETRY && p->retries++ < RETRIES_MAX) {
		p->retry_at_ns = ev->now_ns + RETRY_STEP_NS;
		return;
	}
	if (s == LUN_UNSUPPORTED && p->st == PST_DRAIN) {
		trace(p->trace, TRACE_WARN, "path: the target refuses LUN reset -> waits %lu s", DRAIN_NS / NS_PER_SEC);
		p->waits_out = p->no_reset = true;
		p->retry_at_ns = ev->now_ns + DRAIN_NS;
		return;
	}
	/* Somebody may hold the reservation already: that is as good. */
	if (s != LUN_OK && !(p->st == PST_RESERVE && s == LUN_CONFLICT)) {
		p->taken |= s == LUN_CONFLICT;
		io_path_lose(p, s == LUN_UNSUPPORTED ?
				"the target refuses persistent reservations" :
				s == LUN_CONFLICT ? "fenced by another node" :
				"a registration command failed", ev->now_ns, fx);
		return;
	}
	switch (p->st) {
	case PST_REGISTER:
		enter(p, PST_KEYS, fx);
		return;
	case PST_KEYS:
	case PST_VERIFY:
		on_keys(p, ev, fx);
		return;
	case PST_PREEMPT:
		enter(p, PST_DRAIN, fx);
		return;
	case PST_DRAIN:
		on_drained(p, ev->now_ns, fx);
		return;
	case PST_HOLDER:
		if (ev->lun.key_count)
			settle(p, ev->now_ns);
		else
			enter(p, PST_RESERVE, fx);
		return;
	case PST_RESERVE:
		settle(p, ev->now_ns);
		return;
	case PST_CLOSED:
	case PST_OPENING:
	case PST_ANNOUNCE:
	case PST_SETTLE:
	case PST_UP:
	case PST_CLOSING:
		break;
	}
	csv_assert(false);
}

bool io_path_event(struct io_path *p, const struct event *ev, struct effects *fx)
{
	if (ev->type == EV_PATH) {
		on_path(p, ev, fx);
	} else if (ev->type == EV_LUN_DONE && p->tag && ev->tag == p->tag) {
		p->tag = 0;
		on_done(p, ev, fx);
	} else {
		return false;
	}
	io_path_step(p, ev->now_ns, fx);
	return true;
}

/* What was put off is sent again, and what was waited for is over. */
static void retry(struct io_path *p, uint64_t now_ns, struct effects *fx)
{
	p->retry_at_ns = NEVER;
	if (p->st == PST_CLOSED)
		io_path_start(p, now_ns, fx);
	else if (p->st == PST_DRAIN && p->waits_out)
		on_drained(p, now_ns, fx);
	else if (p->st > PST_ANNOUNCE && p->st < PST_SETTLE)
		send(p, fx);
}

void io_path_step(struct io_path *p, uint64_t now_ns, struct effects *fx)
{
	if (now_ns >= p->retry_at_ns)
		retry(p, now_ns, fx);
	if (p->st == PST_SETTLE && now_ns >= p->settle_until_ns) {
		p->settle_until_ns = NEVER;
		move(p, PST_UP);
		p->reason[0] = 0;
		p->look_ns = now_ns + LOOK_NS;
		trace(p->trace, TRACE_INFO, "path: up, incarnation %x", p->incarnation);
	}
	if (p->st == PST_UP && now_ns >= p->look_ns) {
		p->look_ns = NEVER;
		p->look_sent_ns = now_ns;
		send(p, fx);
	}
}

uint64_t io_path_deadline(const struct io_path *p)
{
	uint64_t d = p->retry_at_ns < p->settle_until_ns ? p->retry_at_ns : p->settle_until_ns;

	return p->look_ns < d ? p->look_ns : d;
}

void io_path_check(const struct io_path *p)
{
	csv_assert(p->st != PST_UP || p->incarnation); /* P1, P2 */
	csv_assert(p->st != PST_UP || !p->unfenced);   /* P3 */
}
