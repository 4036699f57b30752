/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * crowd.c - many processes of one node that begin at the same moment: more requests than a node may have under way.
 * Each makes a name in one directory; then one of them lists it, page by page; then each removes its name.
 *
 * Each must be told that it has done what it wanted, once; and the list shows exactly what was made. One that was
 * killed, or told that there is no space, or that its patience has an end, may have done it or not: then the
 * next ones begin in a new directory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/sim/sim.h"

#define CROWD_MAX 90u
#define PAGE 700u

enum crowd_stage { CROWD_DIR, CROWD_MAKE, CROWD_LIST, CROWD_REMOVE };

struct one {
	struct crowd *c;
	struct call call;
	struct fs_request rq;
	bool listed;
};

struct crowd {
	struct sim *s;
	struct snode *n;
	bool alive, busy, ending, spoilt;
	enum crowd_stage stage;
	uint64_t dir, cookie;
	uint32_t generation, count, out, listed;
	struct one one[CROWD_MAX];
};

struct crowds {
	bool stopping;
	struct crowd c[SIM_NODES_MAX + 1];
};

static void next_step(struct sim *s, void *arg);

static uint64_t cdraw(struct crowd *c, uint64_t n)
{
	return prng_below(&c->s->weather.rng, n);
}

void crowds_create(struct sim *s)
{
	s->crowds = s->plan.crowd ? calloc(1, sizeof(*s->crowds)) : NULL;
}

void crowds_destroy(struct sim *s)
{
	free(s->crowds);
}

/* True: it was not done, or nobody knows, and that may be. */
static bool bad_err(struct one *o, int32_t err)
{
	const struct sim_plan *p = &o->c->s->plan;

	if ((err == -EINTR && o->call.killed) || (err == -ENOSPC && p->tight) || (err == -EIO && p->hold_ns))
		return true;
	sim_fail(o->c->s, "%s crowd: %s gave error %d", o->c->n->name,
		o->c->stage == CROWD_MAKE     ? "create"
		: o->c->stage == CROWD_REMOVE ? "unlink"
					      : "a call",
		err);
	return false;
}

static void step_ends(struct crowd *c, uint64_t pause_ns)
{
	c->busy = false;
	sim_at_node(c->s, c->n, c->s->now_ns + pause_ns, next_step, c);
}

static void ask(struct one *o, enum fs_op op, reply_fn fn)
{
	struct crowd *c = o->c;

	o->rq.op = op;
	o->rq.ino = o->rq.ino ? o->rq.ino : c->dir;
	o->rq.time_ns = (int64_t)c->s->now_ns;
	call_begins(&o->call, c->n, o, false);
	call_may_be_killed(c->s, &o->call, 3);
	o->call.tag = node_request(c->s, c->n, &o->rq, fn, o);
}

static void one_done(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct one *o = arg;
	struct crowd *c = o->c;

	call_ends(&o->call);
	s->ops_done++;
	if (rp->err && !bad_err(o, rp->err))
		return;
	c->spoilt |= rp->err != 0;
	if (--c->out)
		return;
	c->stage = c->spoilt ? CROWD_DIR : c->stage == CROWD_MAKE ? CROWD_LIST : CROWD_MAKE;
	step_ends(c, c->stage == CROWD_MAKE ? 2 * SEC + cdraw(c, 5000) * MS : MS);
}

static void all_at_once(struct crowd *c)
{
	if (c->stage == CROWD_MAKE)
		c->count = CROWD_MAX - (uint32_t)cdraw(c, 30);
	c->out = c->count;
	for (uint32_t i = 0; i < c->count && !c->s->failed; i++) {
		struct one *o = &c->one[i];

		memset(&o->rq, 0, sizeof(o->rq));
		o->c = c;
		o->listed = false;
		trace_format(o->rq.name, sizeof(o->rq.name), "%u", i);
		o->rq.mode = c->stage == CROWD_MAKE ? S_IFREG | 0600 : 0;
		ask(o, c->stage == CROWD_MAKE ? FS_MKNOD : FS_UNLINK, one_done);
	}
}

static void list_page(struct crowd *c);

static bool is_listed(struct crowd *c, const char *name, uint32_t len)
{
	char copy[8] = "";
	uint32_t i;

	if (len >= sizeof(copy))
		return false;
	memcpy(copy, name, len);
	i = (uint32_t)strtoul(copy, NULL, 10);
	if (i >= c->count || c->one[i].listed)
		return false;
	c->listed++;
	return c->one[i].listed = true;
}

static void page_read(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct one *o = arg;
	struct crowd *c = o->c;
	uint32_t at = 0;

	call_ends(&o->call);
	if (rp->err) {
		if (!bad_err(o, rp->err))
			return;
		c->stage = CROWD_DIR;
		step_ends(c, MS);
		return;
	}
	while (at + sizeof(struct fs_dirent) <= rp->data_len) {
		const char *d = (const char *)rp->data + at;
		struct fs_dirent e;

		memcpy(&e, d, sizeof(e));
		if (d[sizeof(e)] != '.' && !is_listed(c, d + sizeof(e), e.namelen)) {
			sim_fail(s, "%s crowd: its directory lists '%.*s'", c->n->name, (int)e.namelen,
				d + sizeof(e));
			return;
		}
		c->cookie = e.cookie;
		at += (uint32_t)FS_DIRENT_SIZE(e.namelen);
	}
	if (at) {
		list_page(c);
		return;
	}
	if (c->listed != c->count)
		sim_fail(s, "%s crowd: its directory has %u of %u names", c->n->name, c->listed, c->count);
	c->stage = CROWD_REMOVE;
	step_ends(c, MS);
}

static void list_page(struct crowd *c)
{
	struct one *o = &c->one[0];

	memset(&o->rq, 0, sizeof(o->rq));
	o->rq.off = c->cookie;
	o->rq.len = PAGE;
	ask(o, FS_READDIR, page_read);
}

static void dir_made(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct one *o = arg;
	struct crowd *c = o->c;

	call_ends(&o->call);
	if (rp->err && !bad_err(o, rp->err))
		return;
	c->spoilt = false;
	if (!rp->err) {
		c->dir = rp->attr.ino;
		c->stage = CROWD_MAKE;
	}
	step_ends(c, MS + cdraw(c, 4000) * MS);
}

static void make_dir(struct crowd *c)
{
	struct one *o = &c->one[0];

	memset(&o->rq, 0, sizeof(o->rq));
	o->c = c;
	o->rq.ino = c->s->root_ino;
	o->rq.mode = 0700;
	trace_format(o->rq.name, sizeof(o->rq.name), "crowd%u-%lu.%u", c->n->id, c->n->life_nr,
		c->generation++);
	ask(o, FS_MKDIR, dir_made);
}

static void next_step(struct sim *s, void *arg)
{
	struct crowd *c = arg;

	if (!c->alive || c->busy || c->ending || s->failed)
		return;
	if (s->crowds->stopping && (c->stage == CROWD_DIR || c->stage == CROWD_MAKE)) {
		c->ending = true;
		return;
	}
	c->busy = true;
	switch (c->stage) {
	case CROWD_DIR:
		make_dir(c);
		return;
	case CROWD_LIST:
		c->cookie = c->listed = 0;
		list_page(c);
		return;
	case CROWD_MAKE:
	case CROWD_REMOVE:
		all_at_once(c);
		return;
	}
}

void crowds_node_up(struct sim *s, struct snode *n)
{
	struct crowd *c;

	if (!s->plan.crowd)
		return;
	c = &s->crowds->c[n->id];
	memset(c, 0, sizeof(*c));
	c->s = s;
	c->n = n;
	c->alive = true;
	sim_at_node(s, n, s->now_ns, next_step, c);
}

void crowds_node_down(struct sim *s, struct snode *n)
{
	if (s->plan.crowd)
		s->crowds->c[n->id].alive = false;
}

void crowds_stop(struct sim *s)
{
	if (s->plan.crowd)
		s->crowds->stopping = true;
}

bool crowds_idle(const struct sim *s)
{
	for (uint32_t n = 1; n <= s->plan.nodes && s->plan.crowd; n++) {
		if (!s->crowds->c[n].alive || !s->crowds->c[n].ending)
			return false;
	}
	return true;
}

void crowds_say_stuck(struct sim *s)
{
	for (uint32_t n = 1; n <= s->plan.nodes && s->plan.crowd; n++) {
		const struct crowd *c = &s->crowds->c[n];

		if (!c->alive || !c->ending)
			sim_log(s, "n%u crowd: stage %d, %u under way%s", n, (int)c->stage, c->out,
				c->alive ? "" : ", is down");
	}
}
