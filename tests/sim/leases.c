/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * leases.c - processes that look at attributes and names over and over, and the oracle: nobody sees the older state
 * after anybody has seen the newer one, be it as the answer to a change of his own.
 *
 * A *cell* is something that has one state after the other: the owner of a file, its second name (which its link
 * count shows, too), a name. One process at a time changes a cell, so its states are numbered. A look must show a
 * state not older than the newest that was acknowledged or seen before it began, and not newer than the newest that
 * was begun. A change whose node dies before the answer may happen at any time, until a process of that node's next life
 * has looked: what that one sees, as it was before or as it is after the change, is final. With --set dies_held=1, in which nothing
 * else goes wrong, what anybody sees who looks half a second after that is final, too.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "metadata/run_sync.h"
#include "tests/sim/sim.h"

#define WATCHERS_MAX 2
#define FILES 2
#define NAMES 1
#define CELLS (2 * FILES + NAMES)
#define OWNER_BASE 1000u

enum kind { CELL_OWNER, CELL_LINK, CELL_NAME };

struct cell {
	enum kind kind;
	uint64_t ino; /* the file's; CELL_NAME: of the state that has one */
	char name[16];
	bool busy;
	uint64_t asker_gone_ns;
	uint32_t asker; /* a node whose life has ended before it knew what became of its change; 0: none */
	uint32_t acked, begun, seen;
	uint32_t never_from, never_to; /* states that it never was in, and will not be; 0: none */
};

struct watcher {
	struct sim *s;
	struct snode *n;
	uint32_t nr;
	bool alive, idle, ending, changing;
	struct cell *c;
	uint64_t since_ns, look_ns;
	uint32_t least, burst;
	struct fs_request rq;
	const char *what;
};

struct leases {
	struct watcher w[SIM_NODES_MAX + 1][WATCHERS_MAX];
	struct cell cell[CELLS];
	uint32_t cells;
	uint64_t dir;
	bool stopping;
};

static void next_op(struct sim *s, void *arg);

void leases_create(struct sim *s)
{
	struct leases *l = calloc(1, sizeof(*l));

	s->leases = l;
	for (uint32_t i = 0; i < NAMES; i++) {
		struct cell *c = &l->cell[l->cells++];

		c->kind = CELL_NAME;
		trace_format(c->name, sizeof(c->name), "w%u", i);
	}
}

void leases_destroy(struct sim *s)
{
	free(s->leases);
}

/* A directory of their own: in others something changes all the time, and nobody would be given a lease. */
void leases_make(struct sim *s, struct run_sync *rs)
{
	struct leases *l = s->leases;
	struct fs_request rq = {
		.op = FS_MKDIR, .ino = s->root_ino, .mode = S_IFDIR | 0755, .name = "watched"};
	struct fs_reply rp = {0};

	if (run_sync_request(rs, &rq, &rp))
		sim_fail(s, "making watched: error %d", rp.err);
	l->dir = rp.attr.ino;
	for (uint32_t f = 0; f < FILES; f++) {
		struct cell *c = &l->cell[l->cells++], *link = &l->cell[l->cells++];

		rq = (struct fs_request){.op = FS_MKNOD, .ino = l->dir, .mode = S_IFREG | 0644};
		trace_format(rq.name, sizeof(rq.name), "file%u", f);
		if (run_sync_request(rs, &rq, &rp))
			sim_fail(s, "making %s: error %d", rq.name, rp.err);
		c->kind = CELL_OWNER;
		link->kind = CELL_LINK;
		c->ino = link->ino = rp.attr.ino;
		trace_format(link->name, sizeof(link->name), "link%u", f);
	}
}

/* ------------------------------------------------------------------ the oracle */

/* Does this look show state v? */
static bool shows(const struct watcher *w, uint32_t v, const struct fs_reply *rp)
{
	switch (w->c->kind) {
	case CELL_OWNER:
		return rp->attr.uid == (v ? OWNER_BASE + v : 0);
	case CELL_LINK:
		if (w->rq.op == FS_LOOKUP)
			return v & 1 ? !rp->err && rp->attr.nlink == 2 && rp->attr.ino == w->c->ino
				     : rp->err == -ENOENT;
		return !rp->err && rp->attr.nlink == 1 + (v & 1);
	case CELL_NAME:
		return v & 1 ? !rp->err : rp->err == -ENOENT;
	}
	return false;
}

/* Its node's life before this one had asked for the newest state: it is v now, and v is not that one or it is. */
static void settle(struct watcher *w, uint32_t v)
{
	struct cell *c = w->c;

	c->asker = 0;
	c->busy = false;
	if (v == c->begun) {
		c->acked = v;
		return;
	}
	sim_log(w->s, "   the change of %lx '%s' to state %u was never made", c->ino, c->name, c->begun);
	if (!c->never_to || c->never_to + 1 != c->begun)
		c->never_from = c->begun;
	/* Odd states and even ones are to go on in turn. */
	c->never_to = ++c->begun;
}

/* Who was killed was fenced long before this look began. */
static bool is_final(const struct watcher *w)
{
	return w->s->plan.dies_held && w->c->asker && w->look_ns >= w->c->asker_gone_ns + 500 * MS;
}

static void check(struct watcher *w, const struct fs_reply *rp)
{
	struct sim *s = w->s;
	struct cell *c = w->c;

	s->looks++;
	for (uint32_t v = w->least; v <= c->begun; v++) {
		if ((c->never_to && v >= c->never_from && v <= c->never_to) || !shows(w, v, rp))
			continue;
		if (v > c->seen)
			c->seen = v;
		if (c->asker == w->n->id || is_final(w))
			settle(w, v);
		return;
	}
	sim_fail(s,
		"%s watcher %u: %s of %s '%s' ino %lx shows error %d, owner %u, %u links; state %u "
		"to %u",
		w->n->name, w->nr, w->what,
		c->kind == CELL_OWNER  ? "the owner"
		: c->kind == CELL_LINK ? "the link"
				       : "the name",
		c->name, c->ino, rp->err, rp->attr.uid, rp->attr.nlink, w->least, c->begun);
}

/* ------------------------------------------------------------------ looks and changes */

static void done(struct watcher *w)
{
	uint64_t pause = w->burst ? draw(w->s, 2 * MS) : sim_delay(w->s, 100 * MS, 2 * SEC);

	w->idle = true;
	w->changing = false;
	w->s->ops_done++;
	sim_at_node(w->s, w->n, w->s->now_ns + 1000 + pause, next_op, w);
}

static void looked(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct watcher *w = arg;

	if (s->verbose)
		sim_log(s, "   %s watcher %u: %s '%s' %lx -> %d, owner %u, %u links (%u to %u)",
			w->n->name, w->nr, w->what, w->c->name, w->c->ino, rp->err, rp->attr.uid,
			rp->attr.nlink, w->least, w->c->begun);
	check(w, rp);
	done(w);
}

static void look(struct watcher *w)
{
	struct cell *c = w->c;

	w->least = c->acked > c->seen ? c->acked : c->seen;
	w->look_ns = w->s->now_ns;
	memset(&w->rq, 0, sizeof(w->rq));
	w->rq.time_ns = (int64_t)w->s->now_ns;
	if (c->kind == CELL_NAME || (c->kind == CELL_LINK && chance(w->s, 50))) {
		w->what = "lookup";
		w->rq.op = FS_LOOKUP;
		w->rq.ino = w->s->leases->dir;
		strcpy(w->rq.name, c->name);
	} else {
		w->what = "stat";
		w->rq.op = FS_GETATTR;
		w->rq.ino = c->ino;
	}
	node_request(w->s, w->n, &w->rq, looked, w);
}

static void changed(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct watcher *w = arg;
	struct cell *c = w->c;

	if (s->verbose)
		sim_log(s, "   %s watcher %u: %s '%s' %lx is state %u", w->n->name, w->nr, w->what,
			c->name, c->ino, c->begun);
	if (rp->err)
		sim_fail(s, "%s watcher %u: %s gave error %d", w->n->name, w->nr, w->what, rp->err);
	c->acked = c->begun;
	c->busy = false;
	done(w);
}

static void change(struct watcher *w)
{
	struct cell *c = w->c;
	struct fs_request *rq = &w->rq;
	bool add;

	c->busy = w->changing = true;
	w->since_ns = w->s->now_ns;
	add = ++c->begun & 1;
	memset(rq, 0, sizeof(*rq));
	rq->time_ns = (int64_t)w->s->now_ns;
	rq->ino = w->s->leases->dir;
	switch (c->kind) {
	case CELL_OWNER:
		w->what = "chown";
		rq->op = FS_SETATTR;
		rq->ino = c->ino;
		rq->valid = FS_SET_UID;
		rq->attr.uid = OWNER_BASE + c->begun;
		break;
	case CELL_LINK:
		w->what = add ? "link" : "unlink";
		rq->op = add ? FS_LINK : FS_UNLINK;
		if (add) {
			rq->ino = c->ino;
			rq->ino2 = w->s->leases->dir;
		}
		strcpy(rq->name, c->name);
		break;
	case CELL_NAME:
		w->what = add ? "create" : "unlink";
		rq->op = add ? FS_MKNOD : FS_UNLINK;
		rq->mode = add ? S_IFREG | 0644 : 0;
		strcpy(rq->name, c->name);
		break;
	}
	node_request(w->s, w->n, rq, changed, w);
}

static void next_op(struct sim *s, void *arg)
{
	struct watcher *w = arg;
	struct leases *l = s->leases;

	if (!w->alive || !w->idle || s->failed)
		return;
	if (l->stopping) {
		w->ending = true;
		return;
	}
	w->idle = false;
	if (!w->burst) {
		w->burst = 2 + (uint32_t)draw(s, 8);
		w->c = &l->cell[draw(s, l->cells)];
		for (uint32_t i = 0; i < l->cells; i++) {
			if (l->cell[i].asker == w->n->id || (l->cell[i].asker && s->plan.dies_held))
				w->c = &l->cell[i];
		}
	}
	w->burst--;
	/* What changes all the time nobody has a lease of. In half of the runs things are quiet. */
	if (!w->c->busy && chance(s, s->seed & 1 ? 10 : 1))
		change(w);
	else
		look(w);
}

/* ------------------------------------------------------------------ nodes come and go */

void leases_node_up(struct sim *s, struct snode *n)
{
	for (uint32_t i = 0; i < s->plan.watchers; i++) {
		struct watcher *w = &s->leases->w[n->id][i];

		memset(w, 0, sizeof(*w));
		w->s = s;
		w->n = n;
		w->nr = i;
		w->alive = w->idle = true;
		sim_at_node(s, n, s->now_ns + 1000 * i, next_op, w);
	}
}

void leases_node_down(struct sim *s, struct snode *n)
{
	for (uint32_t i = 0; i < WATCHERS_MAX; i++) {
		struct watcher *w = &s->leases->w[n->id][i];

		if (w->alive && w->changing) {
			w->c->asker = n->id;
			w->c->asker_gone_ns = s->now_ns;
		}
		w->alive = false;
	}
}

bool leases_waits_long(const struct sim *s, const struct snode *n)
{
	for (uint32_t i = 0; i < s->plan.watchers; i++) {
		const struct watcher *w = &s->leases->w[n->id][i];

		if (w->alive && w->changing && s->now_ns - w->since_ns > 100 * MS)
			return true;
	}
	return false;
}

uint32_t leases_changer(const struct sim *s, uint32_t not, uint32_t nor)
{
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		for (uint32_t k = 0; k < s->plan.watchers && i != not && i != nor; k++) {
			const struct watcher *w = &s->leases->w[i][k];

			if (w->alive && w->changing)
				return i;
		}
	}
	return 0;
}

bool leases_idle(const struct sim *s)
{
	for (uint32_t n = 1; n <= s->plan.nodes; n++) {
		for (uint32_t i = 0; i < s->plan.watchers; i++) {
			const struct watcher *w = &s->leases->w[n][i];

			if (!w->alive || !w->ending)
				return false;
		}
	}
	return true;
}

void leases_stop(struct sim *s)
{
	s->leases->stopping = true;
}

void leases_say_stuck(struct sim *s)
{
	for (uint32_t n = 1; n <= s->plan.nodes; n++) {
		for (uint32_t i = 0; i < s->plan.watchers; i++) {
			const struct watcher *w = &s->leases->w[n][i];

			if (!w->alive || !w->ending)
				sim_log(s, "n%u watcher %u: %s%s", n, i, w->alive ? "" : "is down ",
					w->what ? w->what : "nothing yet");
		}
	}
}
