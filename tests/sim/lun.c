/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lun.c - the model of a LUN.
 *
 * A command is checked against the reservation when it arrives, is carried out some time later, and
 * answered later still. A command whose initiator died or lost its session is carried out all the
 * same, perhaps seconds later, unless an abort or a reset ended it first: the zombie write of the
 * design. PREEMPT alone does not touch commands that have passed the check.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "csvfs/base/assert.h"
#include "tests/sim/sim.h"

#define CACHE_UNIT 4096u
#define UNITS (SIM_VOLUME_BYTES / CACHE_UNIT)

struct lun_cmd_state {
	struct list link;
	struct sim *s;
	uint32_t node;
	uint64_t life_nr;
	struct sim_nexus *nexus;
	bool checked, done, orphan, data_path;
	bool told; /* an answer is on its way */
	bool lost; /* the target has forgotten it */
	uint64_t late_ns; /* its sender is slow to see that it gets no answer */
	bool mute; /* the way back is cut: nobody hears the answer */
	bool executed; /* ... that there was */
	enum lun_status fails; /* the place is bad, or there is none; LUN_OK: it is well */
	bool stalled; /* it has been held longer since its sender is gone */
	uint32_t refs; /* items in the queue */
	struct lun_cmd cmd;
	uint64_t tag;
	uint8_t *copy; /* a write's bytes when it was submitted */
	void *buf;
	void (*cb)(struct sim *s, struct snode *n, void *arg, enum lun_status st);
	void *arg;
	uint64_t keys[64];
	uint32_t key_count;
	uint64_t lun_bytes;
	enum lun_status status;
};

/*
 * The memory of a process's LUNs, one after the other: fresh memory for each would cost more than all that a run does
 * with it. What a run has touched is zero again for the next.
 */
static struct {
	uint8_t *bytes;
	uint8_t touched[UNITS];
	uint8_t *old[UNITS];		/* of a unit in the volatile cache: what is there if power is lost */
	uint32_t cached[UNITS], cached_count;
	uint8_t *spare[UNITS];
	uint32_t spare_count;
} memory;

static void cache_empty(void)
{
	for (uint32_t i = 0; i < memory.cached_count; i++) {
		memory.spare[memory.spare_count++] = memory.old[memory.cached[i]];
		memory.old[memory.cached[i]] = NULL;
	}
	memory.cached_count = 0;
}

static void cache_add(uint64_t unit)
{
	if (memory.old[unit])
		return;
	memory.old[unit] = memory.spare_count ? memory.spare[--memory.spare_count] : malloc(CACHE_UNIT);
	memcpy(memory.old[unit], memory.bytes + unit * CACHE_UNIT, CACHE_UNIT);
	memory.cached[memory.cached_count++] = (uint32_t)unit;
}

void lun_create(struct sim *s)
{
	if (!memory.bytes)
		memory.bytes = mmap(NULL, SIM_VOLUME_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	csv_assert(memory.bytes != MAP_FAILED);
	cache_empty();
	for (uint32_t u = 0; u < UNITS; u++) {
		if (memory.touched[u])
			memset(memory.bytes + u * CACHE_UNIT, 0, CACHE_UNIT);
	}
	memset(memory.touched, 0, sizeof(memory.touched));
	s->lun.block_bytes = sim_block_bytes(s);
	list_init(&s->lun.commands);
}

static void put(uint64_t off, const void *bytes, uint64_t len)
{
	if (len)
		memset(memory.touched + off / CACHE_UNIT, 1, (off + len - 1) / CACHE_UNIT - off / CACHE_UNIT + 1);
	memcpy(memory.bytes + off, bytes, len);
}

void lun_put(uint64_t off, const void *bytes, uint64_t len)
{
	csv_assert(!memory.cached_count);
	put(off, bytes, len);
}

void lun_get(uint64_t off, void *bytes, uint64_t len)
{
	memcpy(bytes, memory.bytes + off, len);
}

void lun_get_stable(uint64_t off, void *bytes, uint64_t len)
{
	uint8_t *to = bytes;

	for (uint64_t part; len; off += part, to += part, len -= part) {
		uint64_t unit = off / CACHE_UNIT, at = off % CACHE_UNIT;

		part = CACHE_UNIT - at < len ? CACHE_UNIT - at : len;
		memcpy(to, (memory.old[unit] ? memory.old[unit] : memory.bytes + unit * CACHE_UNIT) + at, part);
	}
}

static void cmd_free(struct lun_cmd_state *c)
{
	list_del(&c->link);
	if (c->cmd.data && c->cmd.op == LUN_WRITE)
		sim_data_put(c->cmd.data);
	free(c->copy);
	free(c);
}

void lun_destroy(struct sim *s)
{
	list_for_each_entry_safe(c, tmp, &s->lun.commands, struct lun_cmd_state, link)
		cmd_free(c);
	while (s->lun.nexuses) {
		struct sim_nexus *x = s->lun.nexuses;

		s->lun.nexuses = x->next;
		free(x);
	}
}

static void later(struct sim *s, struct lun_cmd_state *c, uint64_t delay, sim_fn fn)
{
	c->refs++;
	sim_at(s, s->now_ns + delay, fn, c);
}

/* At the end of each handler: nobody else will look at it. */
static void drop(struct lun_cmd_state *c)
{
	if (!--c->refs && c->done)
		cmd_free(c);
}

static bool key_registered(struct sim *s, uint64_t key)
{
	for (struct sim_nexus *x = s->lun.nexuses; x; x = x->next) {
		if (x->key == key)
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------ answers */

static void deliver(struct sim *s, void *arg)
{
	struct lun_cmd_state *c = arg;
	struct snode *n = &s->n[c->node];
	struct event ev = {.type = EV_LUN_DONE, .tag = c->tag};

	if (n->life_nr != c->life_nr || !n->up || c->orphan) {
		drop(c);
		return;
	}
	if (n->paused_until > s->now_ns) {
		sim_at_node(s, n, n->paused_until, deliver, c);
		return;
	}
	c->orphan = true; /* answered */
	if (c->data_path) {
		c->cb(s, n, c->arg, c->status);
	} else {
		ev.lun.status = c->status;
		ev.lun.keys = c->keys;
		ev.lun.key_count = c->key_count;
		ev.lun.lun_bytes = c->lun_bytes;
		if (c->cmd.op == LUN_READ && !c->cmd.buf && c->status == LUN_OK)
			ev.lun.data = sim_data_new(c->copy, (uint32_t)c->cmd.len);
		node_feed(s, n, &ev);
	}
	drop(c);
}

static void answer(struct sim *s, struct lun_cmd_state *c, enum lun_status st)
{
	uint64_t late = c->late_ns;

	c->status = st;
	if (c->mute) {
		/* Who sent it learns with the end of the session that it does not know. */
		c->executed = true;
		return;
	}
	c->done = c->told = true;
	/* What tells a node that it was fenced may be long on its way, while its data goes on. */
	if (s->plan.cut_off && s->n[c->node].late_until > s->now_ns &&
		(c->cmd.op == LUN_PR_READ_KEYS || st == LUN_CONFLICT))
		late = draw(s, 5 * SEC);
	/* Queued for nobody: deliver() looks whether the life still lives. */
	later(s, c, late + sim_delay(s, 20 * 1000, 2 * MS), deliver);
}

/* ------------------------------------------------------------------ carrying out */

static void do_write(struct sim *s, struct lun_cmd_state *c)
{
	uint64_t first = c->cmd.off / CACHE_UNIT, last = (c->cmd.off + c->cmd.len - 1) / CACHE_UNIT;
	bool cached = s->plan.write_cache && !c->cmd.fua;

	for (uint64_t u = first; u <= last && cached; u++)
		cache_add(u);
	put(c->cmd.off, c->copy, c->cmd.len);
	for (uint64_t u = first; u <= last && !cached; u++) {
		/* With what was in the cache around it. */
		if (memory.old[u])
			memcpy(memory.old[u], memory.bytes + u * CACHE_UNIT, CACHE_UNIT);
	}
	s->lun.writes++;
}

static void drained(struct sim *s, uint64_t key)
{
	uint32_t node = (uint32_t)(key >> 32);

	if (node && node <= s->plan.nodes && lun_idle_of(s, node))
		load_node_drained(s, node);
}

/*
 * The target has ended it, done or not, and does not answer. Its session finds that out (csvfs/iscsi_tas.h): when it next sends
 * something, which after half a second it does; then there is some grace, and to ask for many takes its time.
 */
static void found_out(struct sim *s, void *arg)
{
	struct lun_cmd_state *c = arg;

	if (!c->orphan)
		answer(s, c, LUN_RETRY);
	drop(c);
}

static void end_silently(struct sim *s, struct lun_cmd_state *c)
{
	if (c->cmd.op == LUN_WRITE && chance(s, 50))
		do_write(s, c);
	c->done = true;
	if (!c->orphan)
		later(s, c, 500 * MS + draw(s, 1500 * MS), found_out);
}

/* Ends every command of others that has not been answered: it can no longer land. */
static void abort_commands(struct sim *s, struct sim_nexus *of)
{
	list_for_each_entry(c, &s->lun.commands, struct lun_cmd_state, link) {
		/* What has not arrived is not there to be ended: it meets the reservation when it comes. */
		if (c->done || c->lost || c->executed || !c->checked || (of && c->nexus != of))
			continue;
		if (!of && s->plan.silent_aborts) {
			end_silently(s, c);
			continue;
		}
		/* A reset waits for writes that are being carried out, as tgt does. */
		if (!of && c->cmd.op == LUN_WRITE)
			do_write(s, c);
		c->done = true;
		if (!of && !c->orphan)
			answer(s, c, c->cmd.op == LUN_WRITE ? LUN_OK : LUN_RETRY);
		else if (!c->orphan)
			answer(s, c, LUN_UNKNOWN);
	}
}

/* Its machine may be paused, with commands in its queues, and go on when everybody else has gone. */
static void key_lost(struct sim *s, const struct sim_nexus *x)
{
	struct snode *n = &s->n[x->node];
	bool again = n->up && n->nexus && n->nexus != x && n->nexus->key;

	if (n->life_nr - !n->up == x->life_nr && (n->up ? n->core && node_has_let_go(n->core) : n->let_go))
		return;
	n->fenced |= !again;
}

static enum lun_status preempt(struct sim *s, struct lun_cmd_state *c, bool abort)
{
	bool found = false;

	if (!c->nexus->key || c->nexus->key != c->cmd.key)
		return LUN_CONFLICT;
	if (abort && !s->plan.abort_supported)
		return LUN_UNSUPPORTED;
	if (sim_aborts_holder_only(s) && !(s->lun.reserved && s->lun.holder_key == c->cmd.victim))
		abort = false;
	for (struct sim_nexus *x = s->lun.nexuses; x; x = x->next) {
		if (x->key != c->cmd.victim || x == c->nexus)
			continue;
		found = true;
		x->key = 0;
		if (x->node != c->node)
			key_lost(s, x);
		x->attention = true;
		/*
		 * A node that lives and has not lost its path is given up: what it did not sync may go. One that has lost it is not, but
		 * if it sleeps it may have left, too.
		 */
		if ((!s->n[x->node].path_cut || s->n[x->node].paused_until > s->now_ns) && x->node != c->node && s->n[x->node].up)
			load_node_evicted(s, &s->n[x->node]);
		if (!s->n[x->node].up)
			load_node_fenced(s, &s->n[x->node]);
		if (abort)
			abort_commands(s, x);
	}
	if (s->lun.reserved && s->lun.holder_key == c->cmd.victim) {
		s->lun.holder_key = c->cmd.key;
		found = true;
	}
	s->lun.generation++;
	if (!found)
		return LUN_CONFLICT;
	if (abort)
		drained(s, c->cmd.victim);
	return LUN_OK;
}

static enum lun_status pr(struct sim *s, struct lun_cmd_state *c)
{
	struct sim_nexus *me = c->nexus;

	if (s->plan.bare)
		return LUN_UNSUPPORTED;
	switch (c->cmd.op) {
	case LUN_PR_REGISTER:
		for (struct sim_nexus *x = s->lun.nexuses; x && s->plan.one_nexus; x = x->next) {
			if (x->node != me->node || x == me || !x->key)
				continue;
			if (s->lun.reserved && s->lun.holder_key == x->key)
				s->lun.holder_key = c->cmd.key;
			x->key = 0;
		}
		me->key = c->cmd.key;
		s->n[me->node].fenced = false;
		return LUN_OK;
	case LUN_PR_UNREGISTER:
		if (s->lun.reserved && s->lun.holder_key == me->key) {
			uint64_t key = me->key;

			me->key = 0;
			if (!key_registered(s, key))
				s->lun.reserved = false;
		}
		me->key = 0;
		return LUN_OK;
	case LUN_PR_RESERVE:
		if (!me->key)
			return LUN_CONFLICT;
		if (s->lun.reserved && s->lun.holder_key != me->key)
			return LUN_CONFLICT;
		s->lun.reserved = true;
		s->lun.holder_key = me->key;
		return LUN_OK;
	case LUN_PR_PREEMPT:
		return preempt(s, c, false);
	case LUN_PR_PREEMPT_ABORT:
		return preempt(s, c, true);
	case LUN_PR_READ_KEYS:
		for (struct sim_nexus *x = s->lun.nexuses; x && c->key_count < 64; x = x->next) {
			if (x->key)
				c->keys[c->key_count++] = x->key;
		}
		return LUN_OK;
	case LUN_PR_READ_RESERVATION:
		if (s->lun.reserved)
			c->keys[c->key_count++] = s->lun.holder_key;
		return LUN_OK;
	default:
		return LUN_UNSUPPORTED;
	}
}

static void reset_lun(struct sim *s, struct sim_nexus *by)
{
	abort_commands(s, NULL);
	for (struct sim_nexus *x = s->lun.nexuses; x; x = x->next)
		x->attention = x != by || s->plan.reset_tells_all;
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		bool mine = false;

		for (struct sim_nexus *x = s->lun.nexuses; x; x = x->next)
			mine |= x->node == i && x->alive && x->key;
		if (!mine)
			load_node_drained(s, i);
	}
}

/* No space behind a thin LUN: nothing is written. A bad place: what is before it. */
static void fail_write(struct sim *s, struct lun_cmd_state *c)
{
	uint32_t bs = s->lun.block_bytes, len = (uint32_t)c->cmd.len;

	c->cmd.len = c->fails != LUN_MEDIUM && c->fails != LUN_FAILING ? 0 : prng_below(&s->media_rng, len / bs) * bs;
	if (c->cmd.len)
		do_write(s, c);
	c->cmd.len = len;
}

/* The write that load.c wants to see fail. */
static bool is_spoilt(struct sim *s, const struct lun_cmd_state *c)
{
	uint64_t id;

	if (!s->spoil_id || c->cmd.op != LUN_WRITE)
		return false;
	for (uint64_t at = 0; at + 8 <= c->cmd.len; at += 512) {
		memcpy(&id, c->copy + at, 8);
		if (id == s->spoil_id) {
			s->spoil_id = 0;
			return true;
		}
	}
	return false;
}

/* In some plans one place fails for good, as LIO says it: each command that touches it, of everybody, until all is healed. */
static bool is_bad_for_good(struct sim *s, const struct lun_cmd_state *c)
{
	if (s->seed % 3)
		return false;
	if (!s->bad_off && !prng_below(&s->media_rng, 100))
		s->bad_off = c->cmd.off;
	return s->bad_off && c->cmd.off <= s->bad_off && s->bad_off < c->cmd.off + c->cmd.len;
}

/* In file data alone: an engine that cannot read or write its own blocks stops, and that is all there would be to see. */
static void maybe_bad(struct sim *s, struct lun_cmd_state *c)
{
	bool write = c->cmd.op == LUN_WRITE, spoilt, bad;

	if (!s->plan.media || s->healing || (!write && c->cmd.op != LUN_READ) ||
		(!c->data_path && !c->cmd.data && c->cmd.buf))
		return;
	spoilt = is_spoilt(s, c);
	bad = !spoilt && is_bad_for_good(s, c);
	if (!spoilt && !bad && prng_below(&s->media_rng, 100))
		return;
	s->media_errors++;
	c->fails = write && !spoilt && prng_below(&s->media_rng, 2) ? LUN_NOSPACE : LUN_MEDIUM;
	/* What the target will have nothing to do with for now: a part of it is write protected, a firmware that errs. */
	if (!spoilt && c->cmd.off % 3 == 0)
		c->fails = write && c->cmd.off % 2 == 0 ? LUN_PROTECTED : LUN_UNSUPPORTED;
	if (bad)
		c->fails = LUN_FAILING;
	sim_log(s, "node %u: %s at %lu+%lu %s", c->node, write ? "write" : "read", c->cmd.off,
		(uint64_t)c->cmd.len,
		c->fails == LUN_NOSPACE	      ? "finds NO SPACE"
		: c->fails == LUN_PROTECTED   ? "is write PROTECTED"
		: c->fails == LUN_UNSUPPORTED ? "is REFUSED"
		: c->fails == LUN_FAILING     ? "FAILS behind the target"
					      : "meets a BAD PLACE");
}

/* The host's file system under an image file is full for a moment. What the engine wrote beside it ends well, unheard. */
static void maybe_full(struct sim *s, struct lun_cmd_state *c)
{
	if (!s->plan.image || s->healing || c->cmd.op != LUN_WRITE || c->data_path || c->cmd.data ||
		prng_below(&s->media_rng, 400))
		return;
	s->media_errors++;
	c->fails = LUN_NOSPACE;
	sim_log(s, "node %u: write of metadata at %lu+%lu finds NO SPACE", c->node, c->cmd.off, (uint64_t)c->cmd.len);
}

/* No reset ends what a dead node has under way: it is over when the last of it has landed. */
static void landed(struct sim *s, uint32_t node)
{
	if (s->plan.no_reset && lun_idle_of(s, node))
		load_node_drained(s, node);
}

static void carry_out(struct sim *s, void *arg)
{
	struct lun_cmd_state *c = arg;
	enum lun_status st = LUN_OK;
	uint32_t node = c->node;

	if (c->done || c->lost) {
		c->done |= c->orphan;
		drop(c);
		return;
	}
	/* What its sender has left behind in the target hangs there with pleasure. */
	if (c->orphan && !c->stalled && c->cmd.op == LUN_WRITE && s->plan.late_writes && !s->healing &&
		(chance(s, 50) || s->plan.heirs)) {
		c->stalled = true;
		later(s, c, draw(s, s->plan.heirs ? 2 * SEC : 9 * SEC), carry_out);
		drop(c);
		return;
	}
	switch (c->cmd.op) {
	case LUN_READ:
		if (c->orphan || c->fails || s->n[c->node].life_nr != c->life_nr)
			break;
		/* What the core reads of file data comes with the answer. */
		if (!c->buf)
			c->copy = malloc(c->cmd.len);
		lun_get(c->cmd.off, c->buf ? c->buf : c->copy, c->cmd.len);
		break;
	case LUN_WRITE:
		if (c->fails)
			fail_write(s, c);
		else
			do_write(s, c);
		break;
	case LUN_FLUSH:
		cache_empty();
		break;
	case LUN_UNMAP:
	case LUN_TEST:
		break;
	case LUN_CAPACITY:
		c->lun_bytes = SIM_VOLUME_BYTES;
		break;
	case LUN_RESET:
		if (s->plan.no_reset) {
			st = LUN_UNSUPPORTED;
			leave_reset_refused(s, &s->n[c->node]);
			break;
		}
		c->done = true;
		reset_lun(s, c->nexus);
		break;
	default:
		if (!c->orphan)
			st = pr(s, c);
		break;
	}
	c->done = c->orphan;
	if (!c->orphan)
		answer(s, c, c->fails ? c->fails : st);
	drop(c);
	landed(s, node);
}

static bool is_write(enum lun_op op)
{
	return op == LUN_WRITE || op == LUN_UNMAP;
}

static void arrive(struct sim *s, void *arg)
{
	struct lun_cmd_state *c = arg;
	uint64_t hold = sim_delay(s, 20 * 1000, 5 * MS);

	if (s->slow_until_ns > s->now_ns)
		hold += draw(s, 3 * SEC);
	hold += weather_holds(s, c->cmd.op);
	if (c->done || c->lost) {
		c->done |= c->orphan;
		drop(c);
		return;
	}
	if (c->nexus->attention && !c->orphan && c->cmd.op != LUN_PR_REGISTER) {
		c->nexus->attention = false;
		answer(s, c, LUN_RETRY);
		drop(c);
		return;
	}
	if (!c->orphan && weather_busy(s, c->node)) {
		answer(s, c, LUN_RETRY);
		drop(c);
		return;
	}
	if (is_write(c->cmd.op) && s->lun.reserved && !c->nexus->key) {
		c->done = c->orphan;
		if (!c->orphan)
			answer(s, c, LUN_CONFLICT);
		drop(c);
		return;
	}
	c->checked = true;
	maybe_bad(s, c);
	maybe_full(s, c);
	/* A command that hangs in the target: what fencing must reckon with. */
	if (s->plan.late_writes && c->cmd.op == LUN_WRITE && chance(s, 3) && !s->healing)
		/* With --well not so long that it takes a recall's time, with a path that is lost then (4 s). */
		hold += draw(s, (s->plan.well ? 4 : 8) * SEC);
	if (c->cmd.op == LUN_WRITE)
		hold += aimed_holds(s, c->node, c->cmd.off, c->cmd.data != 0);
	later(s, c, hold, carry_out);
	drop(c);
}

static void timed_out(struct sim *s, void *arg)
{
	struct lun_cmd_state *c = arg;
	struct snode *n = &s->n[c->node];
	struct event ev = {.type = EV_PATH};

	/* It never arrived. Who sent it is told with the end of the session. */
	c->done = c->orphan;
	if (!c->orphan && n->up && n->life_nr == c->life_nr && n->nexus == c->nexus) {
		ev.path.state = PATH_LOST;
		strcpy(ev.path.text, "no answer for 4 s");
		node_feed(s, n, &ev);
	}
	drop(c);
}

/* It arrived, and may have been carried out; the answer is lost. */
static void unanswered(struct sim *s, void *arg)
{
	struct lun_cmd_state *c = arg;
	struct snode *n = &s->n[c->node];
	struct event ev = {.type = EV_PATH};

	if (!c->orphan && n->up && n->life_nr == c->life_nr && n->nexus == c->nexus) {
		ev.path.state = PATH_LOST;
		strcpy(ev.path.text, "no answer for 4 s");
		node_feed(s, n, &ev);
	}
	drop(c);
}

static void mute(struct sim *s, struct lun_cmd_state *c)
{
	c->mute = true;
	later(s, c, 4 * SEC, unanswered);
}

static struct lun_cmd_state *cmd_new(struct sim *s, struct snode *n, const struct lun_cmd *cmd)
{
	struct lun_cmd_state *c = calloc(1, sizeof(*c));

	c->s = s;
	c->node = n->id;
	c->life_nr = n->life_nr;
	c->nexus = n->nexus;
	c->cmd = *cmd;
	c->buf = cmd->buf;
	if (cmd->op == LUN_WRITE) {
		const void *from = cmd->data ? sim_data_bytes(cmd->data) : cmd->buf;

		c->copy = malloc(cmd->len);
		memcpy(c->copy, from, cmd->len);
		if (cmd->data)
			sim_data_ref(cmd->data);
	}
	list_add_tail(&c->link, &s->lun.commands);
	return c;
}

static void send(struct sim *s, struct snode *n, struct lun_cmd_state *c)
{
	if ((c->cmd.op == LUN_READ || c->cmd.op == LUN_WRITE) &&
		(c->cmd.off + c->cmd.len > SIM_VOLUME_BYTES || !c->cmd.len ||
			(c->cmd.off | c->cmd.len) & (s->lun.block_bytes - 1))) {
		sim_fail(s, "node %u: a command outside the LUN or not aligned", n->id);
		answer(s, c, LUN_UNSUPPORTED);
		return;
	}
	if (!n->nexus || !n->nexus->alive) {
		answer(s, c, LUN_UNKNOWN);
		return;
	}
	/* With the way cut nothing arrives, and no answer comes: the shell's time-out says so. */
	if (n->path_cut && !n->answers_lost) {
		later(s, c, 4 * SEC, timed_out);
		return;
	}
	if (n->path_cut)
		mute(s, c);
	later(s, c, sim_delay(s, 10 * 1000, 1 * MS), arrive);
}

void lun_submit(struct sim *s, struct snode *n, const struct effect *e)
{
	struct lun_cmd_state *c = cmd_new(s, n, &e->lun);

	c->tag = e->tag;
	send(s, n, c);
}

void lun_io(struct sim *s, struct snode *n, bool write, bool fua, uint64_t off, uint32_t len, void *buf,
	void (*done)(struct sim *s, struct snode *n, void *arg, enum lun_status st), void *arg)
{
	struct lun_cmd cmd = {.op = write ? LUN_WRITE : LUN_READ, .fua = fua, .off = off, .len = len,
		.buf = buf};
	struct lun_cmd_state *c = cmd_new(s, n, &cmd);

	c->data_path = true;
	c->cb = done;
	c->arg = arg;
	send(s, n, c);
}

/* ------------------------------------------------------------------ sessions */

static void path_up(struct sim *s, void *arg)
{
	struct snode *n = arg;
	struct event ev = {.type = EV_PATH};

	if (n->path_cut) {
		ev.path.state = PATH_FAILED;
		strcpy(ev.path.text, "no answer from the portal");
	} else {
		struct sim_nexus *x = calloc(1, sizeof(*x));

		x->node = n->id;
		x->life_nr = n->life_nr;
		x->alive = true;
		x->next = s->lun.nexuses;
		s->lun.nexuses = x;
		n->nexus = x;
		ev.path.state = PATH_UP;
		ev.path.block_bytes = s->lun.block_bytes;
		ev.path.lun_bytes = SIM_VOLUME_BYTES;
		ev.path.write_cache = s->plan.write_cache;
		ev.path.reservations = !s->plan.image && !s->plan.bare;
	}
	node_feed(s, n, &ev);
}

void lun_path_open(struct sim *s, struct snode *n)
{
	sim_at_node(s, n, s->now_ns + sim_delay(s, 1 * MS, 50 * MS), path_up, n);
}

/* Its answer is on the way already. */
static bool answered(const struct lun_cmd_state *c)
{
	return c->told;
}

/* What was sent may land all the same; what is answered from now on reaches nobody. */
static void orphan_commands(struct sim *s, struct snode *n, bool tell, uint64_t late_ns)
{
	list_for_each_entry_safe(c, tmp, &s->lun.commands, struct lun_cmd_state, link) {
		struct lun_cmd_state *u;

		if (c->node != n->id || c->life_nr != n->life_nr || c->orphan)
			continue;
		if (tell && !answered(c)) {
			/* The shell's answer: unknown. The command itself goes on without its sender. */
			u = calloc(1, sizeof(*u));
			*u = *c;
			u->refs = 0;
			u->copy = NULL;
			u->cmd.data = 0;
			u->done = true;
			u->told = u->mute = false;
			u->late_ns = draw(s, 1 + late_ns);
			list_init(&u->link);
			list_add_tail(&u->link, &s->lun.commands);
			answer(s, u, LUN_UNKNOWN);
		} else if (tell) {
			continue; /* its answer is on the way already */
		}
		c->orphan = true;
		c->buf = NULL;
		if (!c->refs)
			c->done = true;
	}
}

static void path_closed(struct sim *s, void *arg)
{
	struct event ev = {.type = EV_PATH};

	ev.path.state = PATH_CLOSED;
	node_feed(s, arg, &ev);
}

void lun_path_close(struct sim *s, struct snode *n)
{
	/* Who is fenced meanwhile may already go through a peer when it gives up the last command. */
	uint64_t late_ns = chance(s, 50) ? 0 : sim_delay(s, 0, 500 * MS);

	if (n->nexus) {
		orphan_commands(s, n, true, late_ns);
		n->nexus->alive = false;
		n->nexus = NULL;
	}
	/* After the answers of the commands. */
	sim_at_node(s, n, s->now_ns + 3 * MS + late_ns, path_closed, n);
}

void lun_node_died(struct sim *s, struct snode *n)
{
	orphan_commands(s, n, false, 0);
	if (n->nexus)
		n->nexus->alive = false;
	n->nexus = NULL;
}

uint64_t lun_key(const struct sim *s, uint32_t node)
{
	for (const struct sim_nexus *x = s->lun.nexuses; x; x = x->next) {
		if (x->node == node && x->alive && x->key)
			return x->key;
	}
	return 0;
}

bool lun_idle_of(struct sim *s, uint32_t node)
{
	list_for_each_entry(c, &s->lun.commands, struct lun_cmd_state, link) {
		if (c->node == node && c->orphan && !c->done)
			return false;
	}
	return true;
}

static void path_lost(struct sim *s, void *arg)
{
	struct snode *n = arg;
	struct event ev = {.type = EV_PATH};

	if (!n->path_cut && n->nexus && n->nexus->alive)
		return;
	ev.path.state = PATH_LOST;
	strcpy(ev.path.text, "no answer for 4 s");
	node_feed(s, n, &ev);
}

void lun_cut(struct sim *s, struct snode *n)
{
	n->path_cut = true;
	/* Cut in both directions, or what is sent arrives, and what is answered does not. */
	n->answers_lost = chance(s, 50);
	list_for_each_entry(c, &s->lun.commands, struct lun_cmd_state, link) {
		if (n->answers_lost && c->node == n->id && !c->orphan && !c->told)
			mute(s, c);
	}
	if (n->up)
		sim_at_node(s, n, s->now_ns + (chance(s, 50) ? 10 * MS : 4 * SEC), path_lost, n);
}

void lun_restore(struct sim *s, struct snode *n)
{
	n->path_cut = n->answers_lost = false;
}

void lun_power_loss(struct sim *s)
{
	for (uint64_t u = 0; u < UNITS; u++) {
		uint8_t *now = memory.bytes + u * CACHE_UNIT;

		/* Written before the loss or not, in blocks: torn. */
		for (uint32_t at = 0; at < CACHE_UNIT && memory.old[u]; at += s->lun.block_bytes) {
			if (!chance(s, 50))
				memcpy(now + at, memory.old[u] + at, s->lun.block_bytes);
		}
	}
	cache_empty();
	list_for_each_entry(c, &s->lun.commands, struct lun_cmd_state, link)
		c->lost = true;
	for (struct sim_nexus *x = s->lun.nexuses; x; x = x->next) {
		x->alive = false;
		if (s->plan.forgets)
			x->key = 0;
		/* With its session. */
		s->n[x->node].fenced = false;
	}
	if (s->plan.forgets)
		s->lun.reserved = false;
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		struct snode *n = &s->n[i];

		if (n->up)
			sim_at_node(s, n, s->now_ns + sim_delay(s, 1 * MS, 2 * SEC), path_lost, n);
	}
	load_san_loss(s);
}

uint32_t lun_registrations(const struct sim *s)
{
	uint32_t count = 0;

	for (const struct sim_nexus *x = s->lun.nexuses; x; x = x->next)
		count += x->key != 0;
	return count;
}

void lun_say_stuck(struct sim *s)
{
	list_for_each_entry(c, &s->lun.commands, struct lun_cmd_state, link) {
		if (!c->orphan)
			sim_log(s, "LUN: command %d of n%u at %lu: done %d lost %d told %d refs %u, nexus %s, key %lx",
				(int)c->cmd.op, c->node, c->cmd.off, c->done, c->lost, c->told, c->refs,
				c->nexus && c->nexus->alive ? "alive" : "dead",
				c->nexus ? c->nexus->key : 0);
	}
}
