/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * locks.c - processes that lock files, and the oracle: no two of them hold conflicting locks at once.
 *
 * What a process holds is what it was told: from the answer that granted it to the request that gives it away.
 * When one is told that it has a lock that another one holds, it is a fault, unless the node of the other
 * is fenced at the LUN at that moment, and its lease over: until then its processes read under their locks. Then that
 * node owes to find out, in this life, that it was given up. And what goes through an open file whose locks were lost so
 * must fail.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#define LOCKERS_MAX 2
#define FILES_MAX 2
#define POS 12

struct locker {
	struct sim *s;
	struct snode *n;
	uint32_t nr;
	bool alive, idle, ending;
	bool flock, open;
	uint64_t life, owner, handle;
	uint32_t file;
	uint32_t evictions; /* of the node when the file was opened */
	uint32_t owed; /* so many evictions its node must have seen at the end; 0: no matter */
	bool lost; /* it held something when its node was given up */
	bool unsure; /* the node was given up while it was asking */
	bool give_up; /* EDEADLK: somebody has to */
	uint8_t held[POS], saved[POS]; /* 0 nothing, 1 read, 2 write */
	uint8_t believed[POS]; /* when others were given it: what its node has not given away itself since */
	uint32_t first, last;
	uint64_t tag, asks;
	uint64_t key; /* under which its node was registered when it was granted something last */
	bool cancelled, asked_lost;
	struct fs_request rq;
	const char *what;
	uint8_t buf[512];
};

struct locks {
	struct locker l[SIM_NODES_MAX + 1][LOCKERS_MAX];
	uint64_t ino[FILES_MAX];
	uint64_t handles, grants;
	bool stopping;
};

static void next_op(struct sim *s, void *arg);

void locks_create(struct sim *s)
{
	s->locks = calloc(1, sizeof(*s->locks));
}

void locks_destroy(struct sim *s)
{
	free(s->locks);
}

void locks_set_file(struct sim *s, uint32_t f, uint64_t ino)
{
	if (f < FILES_MAX)
		s->locks->ino[f] = ino;
}

uint64_t locks_file(const struct sim *s, uint32_t f)
{
	return s->locks->ino[f] ? s->locks->ino[f] : s->locks->ino[0];
}

/* ------------------------------------------------------------------ the oracle */

static bool against(const struct locker *a, const struct locker *b)
{
	if (a == b || !a->open || !b->open || a->file != b->file || a->flock != b->flock)
		return false;
	for (uint32_t i = 0; i < POS; i++) {
		if (a->held[i] && b->held[i] && a->held[i] + b->held[i] > 2)
			return true;
	}
	return false;
}

/* Others have what it was told it has: its node has been given up, and owes to find out. */
static void owes(struct locker *c)
{
	sim_log(c->s, "   %s locker %u has lost its locks, %s owes to see it", c->n->name, c->nr,
		c->n->name);
	c->owed = c->n->evictions + 1;
	memcpy(c->believed, c->held, sizeof(c->held));
	memset(c->held, 0, sizeof(c->held));
	memset(c->saved, 0, sizeof(c->saved));
}

/* It gives up by itself what it does not know to be lost yet. When nothing is left there is nothing to be told. */
static void gives_up(struct locker *c, uint32_t first, uint32_t last)
{
	bool left = false;

	if (node_stands(c->n->core) && c->s->now_ns >= c->n->woke_ns + SEC)
		return;
	for (uint32_t i = 0; i < POS; i++) {
		if (i >= first && i <= last)
			c->believed[i] = 0;
		left |= c->believed[i] != 0;
	}
	if (!left)
		c->owed = 0;
}

/* Whether it is fenced or not: its data threads answer reads. */
static bool lease_runs(const struct snode *n)
{
	return n->up && dp_gate_now(n->dp, n->s->now_ns) == GATE_DIRECT;
}

/* `c` was told that it holds what it holds now. */
static void check_grant(struct locker *c)
{
	struct locks *k = c->s->locks;

	k->grants++;
	c->key = lun_key(c->s, c->n->id);
	for (uint32_t n = 1; n <= c->s->plan.nodes; n++) {
		for (uint32_t i = 0; i < LOCKERS_MAX; i++) {
			struct locker *o = &k->l[n][i];

			if (!o->alive || !against(c, o))
				continue;
			if (!lease_runs(o->n) && (!o->key || lun_key(c->s, n) != o->key ||
							 !node_stands(o->n->core))) {
				owes(o);
			} else {
				sim_fail(c->s,
					"%s locker %u was granted what %s locker %u holds (file "
					"%u)",
					c->n->name, c->nr, o->n->name, i, c->file);
				return;
			}
		}
	}
}

void locks_node_evicted(struct sim *s, struct snode *n)
{
	for (uint32_t i = 0; i < LOCKERS_MAX; i++) {
		struct locker *c = &s->locks->l[n->id][i];
		bool any = false;

		for (uint32_t p = 0; p < POS; p++)
			any |= c->held[p] != 0;
		memset(c->held, 0, sizeof(c->held));
		memset(c->saved, 0, sizeof(c->saved));
		c->lost |= any;
		c->unsure |= !c->idle;
	}
}

/* ------------------------------------------------------------------ operations */

static void finished(struct locker *c)
{
	if (c->s->verbose)
		sim_log(c->s, "   %s locker %u: %s done, file %u", c->n->name, c->nr, c->what,
			c->file);
	c->idle = true;
	c->s->ops_done++;
	sim_at_node(c->s, c->n, c->s->now_ns + sim_delay(c->s, 100 * 1000, 500 * MS), next_op, c);
}

static void bad_err(struct locker *c, int32_t err)
{
	sim_fail(c->s, "%s locker %u: %s gave error %d", c->n->name, c->nr, c->what, err);
}

static void new_rq(struct locker *c, enum fs_op op, const char *what)
{
	memset(&c->rq, 0, sizeof(c->rq));
	c->rq.op = op;
	c->rq.ino = c->s->locks->ino[c->file];
	c->rq.time_ns = (int64_t)c->s->now_ns;
	c->rq.lock.owner = c->flock ? c->handle : c->owner;
	c->rq.lock.handle = c->handle;
	c->rq.lock.end = FS_LK_END;
	c->rq.lock.flags = c->flock ? FS_LK_FLOCK : 0;
	c->what = what;
	c->cancelled = false;
	c->asks++;
}

static void ask(struct locker *c, reply_fn fn)
{
	c->tag = node_request(c->s, c->n, &c->rq, fn, c);
}

static void set_range(struct locker *c, uint8_t *held, uint8_t as)
{
	for (uint32_t i = c->first; i <= c->last; i++)
		held[i] = as;
}

static void plain_done(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct locker *c = arg;

	(void)s;
	if (rp->err)
		bad_err(c, rp->err);
	else
		finished(c);
}

static void locked(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct locker *c = arg;
	bool wait = c->rq.lock.flags & FS_LK_WAIT;

	switch (rp->err) {
	case 0:
		break;
	case -EAGAIN:
		if (wait)
			bad_err(c, rp->err);
		break;
	case -EINTR:
		if (!c->cancelled)
			bad_err(c, rp->err);
		break;
	case -EDEADLK:
		if (!wait || c->flock)
			bad_err(c, rp->err);
		c->give_up = true;
		break;
	default:
		bad_err(c, rp->err);
		return;
	}
	if (c->unsure) {
		/* What it was told may be of before. It cannot tell, and closes the file. */
		memset(c->held, 0, sizeof(c->held));
	} else if (rp->err) {
		memcpy(c->held, c->saved, sizeof(c->held));
		check_grant(c);
	} else {
		set_range(c, c->held, c->rq.lock.type == FS_LK_WRITE ? 2 : 1);
		check_grant(c);
	}
	if (!s->failed)
		finished(c);
}

static void interrupt(struct sim *s, void *arg)
{
	struct locker *c = arg;
	struct event ev = {.type = EV_CANCEL, .tag = c->tag};

	if (!c->alive || c->idle || c->rq.op != FS_LOCK || !(c->rq.lock.flags & FS_LK_WAIT))
		return;
	c->cancelled = true;
	node_feed(s, c->n, &ev);
}

static void take(struct locker *c)
{
	struct sim *s = c->s;
	uint32_t a = (uint32_t)draw(s, POS), b = (uint32_t)draw(s, POS);
	uint8_t as = chance(s, 60) ? 2 : 1;

	new_rq(c, FS_LOCK, "lock");
	c->first = c->flock ? 0 : a < b ? a : b;
	c->last = c->flock ? POS - 1 : a < b ? b : a;
	if (!c->flock) {
		c->rq.lock.start = c->first;
		c->rq.lock.end = c->last;
	}
	c->rq.lock.type = as == 2 ? FS_LK_WRITE : FS_LK_READ;
	if (chance(s, 60)) {
		c->rq.lock.flags |= FS_LK_WAIT;
		c->what = "lock, and wait";
	}
	/* flock(2): the old one goes first. */
	if (c->flock && c->believed[0] == 1 && as == 2)
		gives_up(c, 0, POS - 1);
	if (c->flock && c->held[0] == 1 && as == 2)
		memset(c->held, 0, sizeof(c->held));
	memcpy(c->saved, c->held, sizeof(c->saved));
	for (uint32_t i = c->first; i <= c->last; i++) {
		if (c->held[i] > as)
			c->held[i] = as;
	}
	ask(c, locked);
	if ((c->rq.lock.flags & FS_LK_WAIT) && chance(s, 30))
		sim_at_node(s, c->n, s->now_ns + sim_delay(s, MS, 2 * SEC), interrupt, c);
}

static void let_go(struct locker *c)
{
	uint32_t a = (uint32_t)draw(c->s, POS), b = (uint32_t)draw(c->s, POS);

	c->first = c->flock ? 0 : a < b ? a : b;
	c->last = c->flock ? POS - 1 : a < b ? b : a;
	new_rq(c, FS_LOCK, "unlock");
	if (!c->flock) {
		c->rq.lock.start = c->first;
		c->rq.lock.end = c->last;
	}
	c->rq.lock.type = FS_LK_NONE;
	set_range(c, c->held, 0);
	gives_up(c, c->first, c->last);
	ask(c, plain_done);
}

static void closed(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct locker *c = arg;

	(void)s;
	if (rp->err) {
		bad_err(c, rp->err);
		return;
	}
	c->open = false;
	finished(c);
}

static void flushed(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct locker *c = arg;

	(void)s;
	if (rp->err) {
		bad_err(c, rp->err);
		return;
	}
	new_rq(c, FS_CLOSE, "close");
	ask(c, closed);
}

/* As the kernel does it: FLUSH of the owner, then RELEASE of the handle. */
static void close_file(struct locker *c)
{
	gives_up(c, 0, POS - 1);
	memset(c->held, 0, sizeof(c->held));
	if (c->flock) {
		new_rq(c, FS_CLOSE, "close");
		ask(c, closed);
		return;
	}
	new_rq(c, FS_UNLOCK, "flush");
	ask(c, flushed);
}

static void opened(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct locker *c = arg;

	(void)s;
	if (rp->err) {
		bad_err(c, rp->err);
		return;
	}
	c->open = true;
	finished(c);
}

static void open_file(struct locker *c)
{
	c->file = (uint32_t)draw(c->s, c->s->plan.files < FILES_MAX ? c->s->plan.files : FILES_MAX);
	c->handle = ++c->s->locks->handles;
	c->flock = chance(c->s, 30);
	c->lost = c->unsure = c->give_up = false;
	c->evictions = c->n->evictions;
	new_rq(c, FS_OPEN, "open");
	ask(c, opened);
}

static void read_done(struct sim *s, void *arg, int32_t result)
{
	struct locker *c = arg;

	if (result < 0 && (result != -EIO || c->n->evictions == c->evictions)) {
		bad_err(c, result);
		return;
	}
	if (result >= 0 && c->asked_lost) {
		sim_fail(s, "%s locker %u: a read through a file whose locks were lost succeeds",
			c->n->name, c->nr);
		return;
	}
	finished(c);
}

static void read_file(struct locker *c)
{
	c->what = "read";
	c->rq.op = FS_NONE;
	c->asked_lost = c->lost;
	node_io(c->s, c->n, c->s->locks->ino[c->file], c->handle, false, false, 0, sizeof(c->buf),
		c->buf, read_done, c);
}

static void next_op(struct sim *s, void *arg)
{
	struct locker *c = arg;

	if (!c->alive || !c->idle || s->failed)
		return;
	if (s->locks->stopping && !c->open) {
		c->ending = true;
		return;
	}
	c->idle = false;
	if (!c->open) {
		open_file(c);
		return;
	}
	if (c->lost && chance(s, 70)) {
		read_file(c);
		return;
	}
	if (s->locks->stopping || c->unsure || c->lost || c->give_up) {
		close_file(c);
		return;
	}
	switch (draw(s, 10)) {
	case 0:
		close_file(c);
		return;
	case 1:
		read_file(c);
		return;
	case 2:
	case 3:
	case 4:
		let_go(c);
		return;
	default:
		take(c);
		return;
	}
}

/* ------------------------------------------------------------------ nodes come and go */

void locks_node_up(struct sim *s, struct snode *n)
{
	for (uint32_t i = 0; i < s->plan.lockers; i++) {
		struct locker *c = &s->locks->l[n->id][i];

		memset(c, 0, sizeof(*c));
		c->s = s;
		c->n = n;
		c->nr = i;
		c->life = n->life_nr;
		c->owner = 1000 + i;
		c->alive = c->idle = true;
		sim_at_node(s, n, s->now_ns + 1000 * i, next_op, c);
	}
}

void locks_node_down(struct sim *s, struct snode *n)
{
	for (uint32_t i = 0; i < LOCKERS_MAX; i++)
		memset(&s->locks->l[n->id][i], 0, sizeof(struct locker));
}

void locks_stop(struct sim *s)
{
	s->locks->stopping = true;
}

bool locks_idle(const struct sim *s)
{
	for (uint32_t n = 1; n <= s->plan.nodes; n++) {
		for (uint32_t i = 0; i < s->plan.lockers; i++) {
			const struct locker *c = &s->locks->l[n][i];

			if (!c->alive || !c->ending)
				return false;
		}
	}
	return true;
}

/* All is at rest. */
void locks_final_check(struct sim *s)
{
	for (uint32_t n = 1; n <= s->plan.nodes; n++) {
		for (uint32_t i = 0; i < LOCKERS_MAX && s->n[n].up; i++) {
			if (s->n[n].evictions < s->locks->l[n][i].owed)
				sim_fail(s, "n%u lost locks to others, and never heard of it", n);
		}
	}
}

void locks_say_stuck(struct sim *s)
{
	for (uint32_t n = 1; n <= s->plan.nodes; n++) {
		for (uint32_t i = 0; i < s->plan.lockers; i++) {
			const struct locker *c = &s->locks->l[n][i];

			if (c->alive && c->ending)
				continue;
			sim_log(s, "n%u locker %u: %s, file %u%s%s", n, i,
				c->alive ? c->what ? c->what : "nothing yet" : "is down", c->file,
				c->idle ? ", idle" : "", c->flock ? ", flock" : "");
		}
	}
}
