/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fence.c - the fence as a state machine over persistent reservations (SPC-4, 5.13; type 5: write
 * exclusive, registrants only).
 *
 *	READ -> HOLDER -> [RESERVE] -> [HEAR] -> PREEMPT.. -> [RESET | WAIT] -> VERIFY -> VERIFY_HOLDER -> ENDED
 *	  ^                                           |                               |             |
 *	  +---------- a key came or went in between: another round -------------------+-------------+
 *
 * Why each step:
 *  - The reservation comes first. Without one, a node that is not registered may write.
 *  - A key that nobody has told us of may be of one who has just come: it announced it before it registered, and that word
 *    may still be on its way to us. So what had been said when the keys were read is heard first.
 *  - After the last PREEMPT a LOGICAL UNIT RESET, once for all victims: a command that passed the
 *    reservation check before the PREEMPT may be held in the target, and land on top of what we
 *    write later. That was seen to happen.
 *  - PREEMPT AND ABORT shall end the victim's commands in the target, and so leave less for the reset to wait for. It is not
 *    believed: LIO before Linux 6.1 (core_scsi3_pro_preempt) aborts nothing if the victim does not hold the reservation, and
 *    answers GOOD all the same. tgt refuses it. Then PREEMPT.
 *  - A key that is gone is not drained: who took it away may have died before its barrier. So
 *    the barrier is needed for each victim that is not known to be clean, however its PREEMPT ended.
 *  - RESERVATION CONFLICT does not say that we were fenced: PREEMPT of a key that is not
 *    registered any more ends in it as well. The keys are read again.
 *  - The end is proven by reading, not inferred from status.
 *
 * Invariants, asserted by fence_check()
 *  1. One command at a time; a completion with another tag changes nothing.
 *  2. Our own key and the kept ones are never preempted.
 *  3. FENCE_DONE only after a verification that found no victim, our key, and a reservation,
 *     with no barrier outstanding.
 *  4. Retries and rounds are bounded: a fence ends.
 */
#include "coordinator/fence.h"

#include <string.h>

#include "csvfs/base/assert.h"

#define FENCE_QUICK_RETRIES 3 /* UNIT ATTENTION is told once per session: these go at once */

#define TO(s) (1u << (s))
static const uint32_t fence_moves[FENCE_STATES] = {
	[FENCE_IDLE] = TO(FENCE_READ),
	[FENCE_READ] = TO(FENCE_HOLDER) | TO(FENCE_ENDED),
	[FENCE_HOLDER] = TO(FENCE_RESERVE) | TO(FENCE_HEAR) | TO(FENCE_PREEMPT) | TO(FENCE_RESET) |
			 TO(FENCE_VERIFY) | TO(FENCE_READ) | TO(FENCE_ENDED),
	[FENCE_RESERVE] = TO(FENCE_HEAR) | TO(FENCE_PREEMPT) | TO(FENCE_RESET) | TO(FENCE_VERIFY) |
			  TO(FENCE_READ) | TO(FENCE_ENDED),
	[FENCE_HEAR] = TO(FENCE_PREEMPT) | TO(FENCE_RESET) | TO(FENCE_VERIFY) | TO(FENCE_ENDED),
	[FENCE_PREEMPT] = TO(FENCE_RESET) | TO(FENCE_VERIFY) | TO(FENCE_READ) | TO(FENCE_ENDED),
	[FENCE_RESET] = TO(FENCE_WAIT) | TO(FENCE_VERIFY) | TO(FENCE_READ) | TO(FENCE_ENDED),
	[FENCE_WAIT] = TO(FENCE_VERIFY) | TO(FENCE_ENDED),
	[FENCE_VERIFY] = TO(FENCE_VERIFY_HOLDER) | TO(FENCE_READ) | TO(FENCE_ENDED),
	[FENCE_VERIFY_HOLDER] = TO(FENCE_READ) | TO(FENCE_ENDED),
	[FENCE_ENDED] = TO(FENCE_READ) | TO(FENCE_IDLE),
};

const char *fence_state_name(enum fence_state s)
{
	static const char names[FENCE_STATES][16] = {
		"idle",
		"read",
		"holder",
		"reserve",
		"hear",
		"preempt",
		"reset",
		"wait",
		"verify",
		"verify-holder",
		"ended",
	};

	return s < FENCE_STATES ? names[s] : "?";
}

const char *fence_result_name(enum fence_result r)
{
	switch (r) {
	case FENCE_NONE:
		return "none";
	case FENCE_DONE:
		return "done";
	case FENCE_FENCED:
		return "fenced";
	case FENCE_UNKNOWN:
		return "unknown";
	case FENCE_FAILED:
		return "failed";
	}
	return "?";
}

void fence_init(struct fence *f, const struct trace *trace, uint64_t tag_base)
{
	memset(f, 0, sizeof(*f));
	f->trace = trace;
	f->next_tag = tag_base;
	f->retry_ns = NEVER;
}

static void fence_move(struct fence *f, enum fence_state to)
{
	csv_assert(fence_moves[f->state] & TO(to));
	f->state = to;
	f->retries = 0;
	f->retry_ns = NEVER;
}

static int victim_index(const struct fence *f, uint64_t key);
static bool is_victim(const struct fence *f, uint64_t key);

/* A stranger's key is gone, or may be: nobody else knows of it. */
static void note_stranger(struct fence *f, const struct member_victim *v)
{
	if (victim_index(f, FENCE_KEY(v->node, v->incarnation)) < 0 &&
		f->fenced_count < sizeof(f->fenced) / sizeof(f->fenced[0]))
		f->fenced[f->fenced_count++] = *v;
}

/* Its key may be gone, or ours: what it was shows in the end. */
static void remember_conflict(struct fence *f)
{
	const struct member_victim *v = &f->targets[f->at];

	for (uint32_t i = 0; i < f->conflict_count; i++)
		if (f->conflicts[i].node == v->node && f->conflicts[i].incarnation == v->incarnation)
			return;
	if (victim_index(f, FENCE_KEY(v->node, v->incarnation)) < 0 && f->conflict_count < LUN_KEYS_MAX)
		f->conflicts[f->conflict_count++] = *v;
}

/*
 * The fence is done, so it was theirs that were gone: somebody else has just taken them, who may be dead before he says so. Not of
 * one that we have preempted since, or that a member has announced.
 */
static void note_conflicts(struct fence *f)
{
	for (uint32_t i = 0; i < f->conflict_count; i++) {
		const struct member_victim *v = &f->conflicts[i];
		bool noted = !is_victim(f, FENCE_KEY(v->node, v->incarnation));

		for (uint32_t k = 0; k < f->fenced_count; k++)
			noted |= f->fenced[k].node == v->node && f->fenced[k].incarnation == v->incarnation;
		if (!noted)
			note_stranger(f, v);
	}
}

static void fence_end(struct fence *f, enum fence_result result, const char *why)
{
	enum fence_state at = f->state;

	/* The last PREEMPT was carried out, or may have been: the key is gone, and nothing is drained. */
	if (at == FENCE_PREEMPT && f->targets[f->at].dirty) {
		f->barrier = true;
		note_stranger(f, &f->targets[f->at]);
	}
	fence_move(f, FENCE_ENDED);
	f->result = result;
	if (result == FENCE_DONE) {
		note_conflicts(f);
		trace(f->trace, TRACE_INFO, "fence done after %u rounds", f->rounds);
		return;
	}
	trace(f->trace, TRACE_WARN, "fence %s in %s: %s", fence_result_name(result), fence_state_name(at), why);
}

/* The command of the present state. */
static void fence_send(struct fence *f, struct effects *fx)
{
	const struct member_victim *v = &f->targets[f->at];
	struct effect *e;

	csv_assert(!f->tag);
	f->retry_ns = NEVER;
	f->tag = TAG(TAG_TAKEOVER, ++f->next_tag);
	e = effects_add(fx, FX_LUN, f->tag);
	e->lun.key = f->key;
	switch (f->state) {
	case FENCE_READ:
	case FENCE_VERIFY:
		e->lun.op = LUN_PR_READ_KEYS;
		break;
	case FENCE_HOLDER:
	case FENCE_VERIFY_HOLDER:
		e->lun.op = LUN_PR_READ_RESERVATION;
		break;
	case FENCE_RESERVE:
		e->lun.op = LUN_PR_RESERVE;
		break;
	case FENCE_PREEMPT:
		e->lun.op = v->dirty && !f->abort_refused ? LUN_PR_PREEMPT_ABORT : LUN_PR_PREEMPT;
		e->lun.victim = FENCE_KEY(v->node, v->incarnation);
		break;
	case FENCE_RESET:
		e->lun.op = LUN_RESET;
		break;
	case FENCE_IDLE:
	case FENCE_HEAR:
	case FENCE_WAIT:
	case FENCE_ENDED:
	case FENCE_STATES:
		csv_assert(!"a state with a command");
	}
}

static void fence_go(struct fence *f, enum fence_state to, struct effects *fx)
{
	fence_move(f, to);
	fence_send(f, fx);
}

static void fence_again(struct fence *f, const char *why, struct effects *fx)
{
	if (++f->rounds > FENCE_ROUNDS_MAX) {
		fence_end(f, FENCE_FAILED, why);
		return;
	}
	trace(f->trace, TRACE_INFO, "fence: %s -> reads the keys again", why);
	fence_go(f, FENCE_READ, fx);
}

void fence_start(struct fence *f, const struct fence_order *o, uint64_t now_ns, struct effects *fx)
{
	csv_assert(!fence_running(f));
	csv_assert(!o->all_but || o->keep);
	csv_assert(o->victim_count <= MEMBER_VICTIMS_MAX);
	csv_assert(FENCE_KEY_INCARNATION(o->key));
	(void)now_ns;
	f->result = FENCE_NONE;
	f->cancel = f->busy = f->noted = false;
	f->key = o->key;
	f->all_but = o->all_but;
	f->barrier = o->barrier;
	f->keep = o->keep;
	f->keep_ctx = o->keep_ctx;
	f->fenced_count = o->victim_count;
	if (o->victim_count)
		memcpy(f->fenced, o->victims, o->victim_count * sizeof(f->fenced[0]));
	f->victim_count = o->victim_count;
	if (o->victim_count)
		memcpy(f->victims, o->victims, o->victim_count * sizeof(f->victims[0]));
	memset(f->drained, 0, sizeof(f->drained));
	f->rounds = 1;
	f->target_count = f->at = f->conflict_count = 0;
	fence_go(f, FENCE_READ, fx);
}

void fence_cancel(struct fence *f)
{
	if (!fence_running(f) || f->cancel)
		return;
	f->cancel = true;
	if (!f->tag)
		fence_end(f, FENCE_FAILED, "cancelled");
}

bool fence_left_undrained(struct fence *f)
{
	bool left = f->state == FENCE_ENDED && f->result != FENCE_DONE && f->barrier;

	if (left)
		f->barrier = false;
	return left;
}

void fence_forget(struct fence *f)
{
	csv_assert(!fence_running(f));
	if (f->state == FENCE_ENDED)
		fence_move(f, FENCE_IDLE);
	f->result = FENCE_NONE;
}

bool fence_running(const struct fence *f)
{
	return f->state != FENCE_IDLE && f->state != FENCE_ENDED;
}

enum fence_result fence_result(const struct fence *f)
{
	return f->result;
}

uint64_t fence_deadline(const struct fence *f)
{
	return f->retry_ns;
}

static int victim_index(const struct fence *f, uint64_t key)
{
	for (uint32_t i = 0; i < f->victim_count; i++)
		if (FENCE_KEY(f->victims[i].node, f->victims[i].incarnation) == key)
			return (int)i;
	return -1;
}

static bool is_victim(const struct fence *f, uint64_t key)
{
	if (key == f->key)
		return false;
	if (victim_index(f, key) >= 0)
		return true;
	return f->all_but && !f->keep(f->keep_ctx, key);
}

static bool keys_have(const struct event *ev, uint64_t key)
{
	for (uint32_t i = 0; i < ev->lun.key_count; i++)
		if (ev->lun.keys[i] == key)
			return true;
	return false;
}

/* Each session of a node registers: a key may be there many times, and is preempted once. */
static void targets_find(struct fence *f, const struct event *ev)
{
	f->target_count = f->at = 0;
	for (uint32_t i = 0; i < ev->lun.key_count; i++) {
		uint64_t key = ev->lun.keys[i];
		int v = victim_index(f, key);
		bool known = false;

		for (uint32_t j = 0; j < f->target_count; j++)
			known |= FENCE_KEY(f->targets[j].node, f->targets[j].incarnation) == key;
		if (known || !is_victim(f, key) || f->target_count == LUN_KEYS_MAX)
			continue;
		f->targets[f->target_count++] = (struct member_victim){
			.node = FENCE_KEY_NODE(key),
			.incarnation = FENCE_KEY_INCARNATION(key),
			.dirty = v < 0 || f->victims[v].dirty,
		};
		if (v >= 0)
			f->drained[v] = false;
	}
	/* Gone is not drained. */
	for (uint32_t i = 0; i < f->victim_count; i++)
		if (f->victims[i].dirty && !f->drained[i] &&
			!keys_have(ev, FENCE_KEY(f->victims[i].node, f->victims[i].incarnation)))
			f->barrier = true;
}

static void after_preempt(struct fence *f, struct effects *fx)
{
	if (!f->barrier)
		fence_go(f, FENCE_VERIFY, fx);
	else
		fence_go(f, FENCE_RESET, fx);
}

/* The next target that is still one: a member's key may have been announced meanwhile. */
static bool target_next(struct fence *f)
{
	while (f->at < f->target_count) {
		const struct member_victim *v = &f->targets[f->at];

		if (is_victim(f, FENCE_KEY(v->node, v->incarnation)))
			return true;
		f->at++;
	}
	return false;
}

static void preempt(struct fence *f, struct effects *fx)
{
	if (target_next(f))
		fence_go(f, FENCE_PREEMPT, fx);
	else
		after_preempt(f, fx);
}

static bool targets_unknown(const struct fence *f)
{
	for (uint32_t i = 0; i < f->target_count; i++)
		if (victim_index(f, FENCE_KEY(f->targets[i].node, f->targets[i].incarnation)) < 0)
			return true;
	return false;
}

static void after_holder(struct fence *f, uint64_t now_ns, struct effects *fx)
{
	if (!targets_unknown(f)) {
		preempt(f, fx);
		return;
	}
	fence_move(f, FENCE_HEAR);
	f->retry_ns = now_ns + FENCE_HEAR_NS;
}

void fence_heard(struct fence *f, struct effects *fx)
{
	csv_assert(f->state == FENCE_HEAR);
	preempt(f, fx);
}

static void read_done(struct fence *f, const struct event *ev, struct effects *fx)
{
	if (!keys_have(ev, f->key)) {
		fence_end(f, FENCE_FENCED, "our own key is not registered");
		return;
	}
	targets_find(f, ev);
	fence_go(f, FENCE_HOLDER, fx);
}

static void preempt_done(struct fence *f, struct effects *fx)
{
	const struct member_victim *v = &f->targets[f->at];

	trace(f->trace, TRACE_INFO, "fence: %u/%x preempted%s", v->node, v->incarnation,
		v->dirty ? "" : ", it was clean");
	if (v->dirty)
		f->barrier = true;
	note_stranger(f, v);
	f->at++;
	if (target_next(f)) {
		f->retries = 0;
		fence_send(f, fx);
		return;
	}
	after_preempt(f, fx);
}

static void barrier_done(struct fence *f, struct effects *fx)
{
	f->barrier = false;
	for (uint32_t i = 0; i < f->victim_count; i++)
		f->drained[i] = true;
	fence_go(f, FENCE_VERIFY, fx);
}

static void verify_done(struct fence *f, const struct event *ev, struct effects *fx)
{
	bool again = false;

	if (!keys_have(ev, f->key)) {
		fence_end(f, FENCE_FENCED, "our own key is not registered any more");
		return;
	}
	for (uint32_t i = 0; i < ev->lun.key_count; i++) {
		int v = victim_index(f, ev->lun.keys[i]);

		if (!is_victim(f, ev->lun.keys[i]))
			continue;
		/* It has registered again, and may have written since the barrier: also if another node takes its key away now. */
		if (v >= 0)
			f->drained[v] = false;
		again = true;
	}
	if (again)
		fence_again(f, "a victim is still registered", fx);
	else
		fence_go(f, FENCE_VERIFY_HOLDER, fx);
}

static void command_ok(struct fence *f, const struct event *ev, struct effects *fx)
{
	switch (f->state) {
	case FENCE_READ:
		read_done(f, ev, fx);
		break;
	case FENCE_HOLDER:
		if (ev->lun.key_count)
			after_holder(f, ev->now_ns, fx);
		else
			fence_go(f, FENCE_RESERVE, fx);
		break;
	case FENCE_RESERVE:
		trace(f->trace, TRACE_INFO, "fence: the LUN had no reservation -> reserved");
		after_holder(f, ev->now_ns, fx);
		break;
	case FENCE_PREEMPT:
		preempt_done(f, fx);
		break;
	case FENCE_RESET:
		trace(f->trace, TRACE_INFO, "fence: LUN reset, nothing older can land");
		barrier_done(f, fx);
		break;
	case FENCE_VERIFY:
		verify_done(f, ev, fx);
		break;
	case FENCE_VERIFY_HOLDER:
		if (ev->lun.key_count)
			fence_end(f, FENCE_DONE, "");
		else
			fence_again(f, "the reservation is gone", fx);
		break;
	case FENCE_IDLE:
	case FENCE_HEAR:
	case FENCE_WAIT:
	case FENCE_ENDED:
	case FENCE_STATES:
		csv_assert(!"a state with a command");
	}
}

static void command_retry(struct fence *f, uint64_t now_ns, struct effects *fx)
{
	f->retries++;
	if (f->retries > FENCE_RETRIES_MAX) {
		f->busy = true;
		fence_end(f, FENCE_FAILED, "the target says RETRY without end");
	} else if (f->retries <= FENCE_QUICK_RETRIES) {
		fence_send(f, fx);
	} else {
		f->retry_ns = now_ns + FENCE_RETRY_NS;
	}
}

static void command_unsupported(struct fence *f, uint64_t now_ns, struct effects *fx)
{
	if (f->state == FENCE_PREEMPT && f->targets[f->at].dirty && !f->abort_refused) {
		f->abort_refused = true;
		trace(f->trace, TRACE_INFO,
			"fence: the target refuses PREEMPT AND ABORT -> PREEMPT");
		fence_send(f, fx);
	} else if (f->state == FENCE_RESET) {
		f->reset_refused = true;
		fence_move(f, FENCE_WAIT);
		f->retry_ns = now_ns + FENCE_WAIT_NS;
		trace(f->trace, TRACE_WARN, "fence: the target refuses LUN reset -> waits %u s",
			(unsigned)(FENCE_WAIT_NS / NS_PER_SEC));
	} else {
		fence_end(f, FENCE_FAILED, "the target does not know the command");
	}
}

bool fence_lun_done(struct fence *f, const struct event *ev, struct effects *fx)
{
	if (!f->tag || ev->tag != f->tag)
		return false;
	f->tag = 0;
	if (f->cancel && ev->lun.status != LUN_UNKNOWN) {
		fence_end(f, FENCE_FAILED, "cancelled");
		return true;
	}
	switch (ev->lun.status) {
	case LUN_OK:
		command_ok(f, ev, fx);
		break;
	case LUN_CONFLICT:
		if (f->state == FENCE_PREEMPT) {
			/* Whoever took the key away may not have drained it, and may be dead. */
			if (f->targets[f->at].dirty)
				f->barrier = true;
			remember_conflict(f);
			fence_again(f, "RESERVATION CONFLICT", fx);
		} else if (f->state == FENCE_READ) {
			fence_end(f, FENCE_FAILED, "READ KEYS is refused");
		} else {
			fence_again(f, "RESERVATION CONFLICT", fx);
		}
		break;
	case LUN_UNKNOWN:
		fence_end(f, FENCE_UNKNOWN, "the path broke");
		break;
	case LUN_UNSUPPORTED:
		command_unsupported(f, ev->now_ns, fx);
		break;
	case LUN_RETRY:
	case LUN_FAILING:
		command_retry(f, ev->now_ns, fx);
		break;
	case LUN_MEDIUM:
	case LUN_NOSPACE:
	case LUN_PROTECTED:
		fence_end(f, FENCE_FAILED, "the target failed");
		break;
	}
	return true;
}

void fence_step(struct fence *f, uint64_t now_ns, struct effects *fx)
{
	if (now_ns < f->retry_ns)
		return;
	if (f->state == FENCE_WAIT)
		barrier_done(f, fx);
	else if (f->state == FENCE_HEAR)
		preempt(f, fx);
	else
		fence_send(f, fx);
}

void fence_check(const struct fence *f)
{
	bool waiting = f->retry_ns != NEVER;

	csv_assert(fence_running(f) == (f->tag || waiting));
	csv_assert(!(f->tag && waiting));
	csv_assert((f->result != FENCE_NONE) == (f->state == FENCE_ENDED));
	csv_assert(f->result != FENCE_DONE || !f->barrier);
	csv_assert(f->rounds <= FENCE_ROUNDS_MAX + 1);
	csv_assert(f->retries <= FENCE_RETRIES_MAX + 1);
	for (uint32_t i = 0; i < f->target_count; i++) {
		uint64_t key = FENCE_KEY(f->targets[i].node, f->targets[i].incarnation);

		csv_assert(key != f->key);
	}
}
