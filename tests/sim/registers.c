/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registers.c - the oracle of load.c's data.
 *
 * Data: each sector of each file is a register. A write fills the sectors it covers with its own
 * number; a read of [start, end] may see write x unless another write w began after x had ended and
 * ended before the read began. Zero is the write that was there first (invariant 6); a truncation and a
 * punched hole write it again. The write of a node that died may show at any time until the LUN can no
 * longer be reached by it; over what others write who had to wait for that it does not (invariant 9, gone.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/load_int.h"

static struct entry *entry_add(struct sector *x)
{
	if (x->count == x->room) {
		x->room = x->room ? 2 * x->room : 3;
		x->e = realloc(x->e, x->room * sizeof(*x->e));
	}
	return &x->e[x->count++];
}

void registers_create(struct sim *s)
{
	for (uint32_t f = 0; f < s->plan.files; f++) {
		for (uint32_t i = 0; i < FILE_SECTORS; i++)
			*entry_add(&s->load->sectors[f][i]) =
				(struct entry){.over = NEVER, .acked = true, .durable = true};
		s->load->ends[f].bound = FILE_SECTORS;
	}
}

void registers_destroy(struct sim *s)
{
	for (uint32_t f = 0; f < FILES_MAX; f++) {
		for (uint32_t i = 0; i < FILE_SECTORS; i++)
			free(s->load->sectors[f][i].e);
	}
}

/* No read under way began before. */
static uint64_t oldest_start(struct sim *s)
{
	uint64_t t = s->now_ns;

	for (uint32_t n = 1; n <= s->plan.nodes; n++) {
		for (uint32_t i = 0; i < s->plan.clients; i++) {
			const struct client *c = &s->load->c[n][i];

			if (c->alive && !c->idle && c->start_ns < t)
				t = c->start_ns;
		}
	}
	return t;
}

/* Nothing brings e back: it was overwritten, for good, before the oldest read under way began. */
static bool is_past(const struct sector *x, const struct entry *e, uint64_t oldest)
{
	for (uint32_t k = 0; k < x->count; k++) {
		const struct entry *w = &x->e[k];

		if (w != e && w->acked && w->durable && !w->weak && e->end < w->start && w->end < oldest)
			return true;
	}
	return false;
}

/*
 * Where writes fail again and again (no space), each may show, and there may be more of them than room: then nothing
 * is known of the sector until one is durable that began later.
 */
static void make_room(struct sim *s, struct sector *x, uint64_t oldest)
{
	uint32_t worst = 0;

	for (uint32_t k = 0; k < x->count;) {
		if (is_past(x, &x->e[k], oldest))
			x->e[k] = x->e[--x->count];
		else
			k++;
	}
	if (x->count < HISTORY)
		return;
	for (uint32_t k = 1; k < x->count; k++) {
		if (x->e[k].over < x->e[worst].over)
			worst = k;
	}
	if (x->e[worst].over >= oldest)
		x->lost_ns = s->now_ns;
	x->e[worst] = x->e[--x->count];
}

/*
 * Where nothing takes space away, and something in the cluster is durable, it is WRITTEN for good. A write there needs no
 * commit: no fence, and no death of its node, takes back what was acknowledged.
 */
bool registers_in_place(const struct client *c, uint32_t i)
{
	return !c->s->plan.zeroing && c->s->load->written[c->file][i / CLUSTER_SECTORS];
}

void registers_durable(struct client *c, uint32_t i, struct entry *e)
{
	e->durable = true;
	c->s->load->written[c->file][i / CLUSTER_SECTORS] = true;
}

static bool truncates(const struct client *c)
{
	return c->zeroing && c->rq.op == FS_SETATTR;
}

/* Whose node died, may still be carried out. */
static bool any_under_way(const struct client *c)
{
	for (uint32_t i = 0; i < FILE_SECTORS; i++) {
		const struct sector *x = &c->s->load->sectors[c->file][i];

		for (uint32_t k = 0; k < x->count; k++) {
			if (x->e[k].end == NEVER)
				return true;
		}
	}
	return false;
}

/* How long the file can be: nothing that was acknowledged before it was made shorter makes it longer again. */
static void end_moves(struct client *c)
{
	uint32_t *bound = &c->s->load->ends[c->file].bound, *since = &c->s->load->ends[c->file].since;
	uint32_t end = truncates(c) ? c->first : c->zeroing ? 0 : c->first + c->count;

	if (truncates(c)) {
		c->quiet = registers_quiet(c) && !any_under_way(c);
		*since = c->quiet ? 0 : *since;
	}
	*bound = end > *bound ? end : *bound;
	*since = end > *since ? end : *since;
}

void registers_size_seen(struct sim *s, uint64_t ino, uint64_t size)
{
	/* A call that has ended may go on. */
	if (s->plan.kills || s->plan.hold_ns || s->plan.media || s->plan.tight)
		return;
	for (uint32_t f = 0; f < s->plan.files; f++) {
		if (s->load->ino[f] == ino && size > (uint64_t)s->load->ends[f].bound * SECTOR)
			sim_fail(s, "file %u has %lu bytes, and ends at %u since it was truncated", f, size,
				s->load->ends[f].bound * SECTOR);
	}
}

void registers_begin(struct client *c)
{
	struct load *l = c->s->load;
	uint64_t oldest = oldest_start(c->s);

	end_moves(c);

	for (uint32_t i = c->first; i < c->first + c->count; i++) {
		struct sector *x = &l->sectors[c->file][i];
		bool durable = c->dsync || (!c->s->plan.san_loss && registers_in_place(c, i));

		if (x->count >= HISTORY / 4)
			make_room(c->s, x, oldest);
		if (!durable)
			x->loose |= 1u << c->n->id;
		*entry_add(x) = (struct entry){.id = c->id, .start = c->s->now_ns, .end = NEVER,
			.over = NEVER, .by = c->n->id, .durable = durable,
			.value = c->zeroing ? 0 : c->id};
	}
}

/*
 * What was told to have failed may show until it is overwritten: a later write of its own node does not overtake it, and
 * neither does a truncation or a punch of anybody.
 */
static bool cannot_follow(const struct entry *e, const struct entry *w)
{
	return e->given_ns && e->given_ns < w->start && (w->by == e->by || !w->value);
}

static void settle(struct sector *x, const struct entry *w)
{
	for (uint32_t k = 0; k < x->count; k++) {
		struct entry *e = &x->e[k];

		if (e != w && (e->end < w->start || cannot_follow(e, w)) && w->end < e->over)
			e->over = w->end;
	}
}

/* What a dead node had under way, and c has waited for. */
static void overtake(const struct client *c, struct sector *x, const struct entry *w)
{
	for (uint32_t k = 0; k < x->count; k++) {
		struct entry *e = &x->e[k];

		if (e->end != NEVER || w->end >= e->over || !gone_is_over(c, e))
			continue;
		e->over = w->end;
		c->s->waited_out++;
	}
}

void registers_end(struct client *c)
{
	struct load *l = c->s->load;

	if (truncates(c) && c->quiet)
		l->ends[c->file].bound = l->ends[c->file].since;

	for (uint32_t i = c->first; i < c->first + c->count; i++) {
		struct sector *x = &l->sectors[c->file][i];

		for (uint32_t k = 0; k < x->count; k++) {
			if (x->e[k].id == c->id) {
				x->e[k].end = c->s->now_ns;
				x->e[k].acked = true;
				if (!x->e[k].weak) {
					settle(x, &x->e[k]);
					overtake(c, x, &x->e[k]);
				}
				if (x->e[k].durable)
					registers_durable(c, i, &x->e[k]);
				if (x->e[k].durable && x->e[k].start > x->lost_ns)
					x->lost_ns = 0;
			}
		}
	}
}

/* Who makes the file longer ends later than who fails within it, and shows what that one left: no zeros are promised then. */
bool registers_quiet(const struct client *c)
{
	for (uint32_t n = 1; n <= c->s->plan.nodes; n++) {
		for (uint32_t i = 0; i < c->s->plan.clients; i++) {
			const struct client *w = &c->s->load->c[n][i];

			if (w != c && w->alive && !w->idle && !w->reading && w->file == c->file)
				return false;
		}
	}
	return true;
}

/*
 * A write that failed, or whose node died, and that a read does not show though it is over: it has not reached that
 * sector, and does not show later. Not behind an end of the file that moves either.
 */
static void missed(struct client *c, struct sector *x, uint64_t value)
{
	if (!c->quiet || c->s->plan.san_loss)
		return;
	for (uint32_t k = 0; k < x->count; k++) {
		struct entry *e = &x->e[k];
		/* What a node had asked for before it died may still be done. */
		uint64_t over = e->failed ? e->end : e->node && e->end != NEVER ? e->end + DEAD_NS : NEVER;

		if (!e->acked && e->value != value && over < c->start_ns && c->s->now_ns < e->over)
			e->over = c->s->now_ns;
	}
}

/* Nothing of that value may be newer than e. */
static bool older(const struct client *c, const struct sector *x, const struct entry *e, uint64_t value)
{
	for (uint32_t k = 0; k < x->count; k++) {
		const struct entry *o = &x->e[k];

		if (o->value == value && o->over >= c->start_ns && (o->end >= e->start || !o->acked))
			return false;
	}
	return true;
}

/*
 * What was acknowledged, and may have been lost with its node, was lost if a read that began later does not show it. It
 * stays lost: its place may be another's by now.
 */
static void lost(struct client *c, struct sector *x, uint64_t value)
{
	if (c->s->plan.san_loss)
		return;
	for (uint32_t k = 0; k < x->count; k++) {
		struct entry *e = &x->e[k];

		if (!e->weak || !e->acked || e->value == value || e->end >= c->start_ns || e->gone_ns)
			continue;
		e->undone = older(c, x, e, value);
		e->gone_ns = c->s->now_ns;
		if (e->gone_ns < e->over)
			e->over = e->gone_ns;
	}
}

/* What a dead node had under way, and what c reads does not show: c has opened the file when nothing of it could land any more. */
static void landed_not(struct client *c, uint32_t i, uint64_t value)
{
	struct sector *x = &c->s->load->sectors[c->file][i];

	if (c->s->plan.san_loss || !registers_in_place(c, i))
		return;
	for (uint32_t k = 0; k < x->count; k++) {
		struct entry *e = &x->e[k];

		if (e->end == NEVER && e->value != value && c->s->now_ns < e->over && gone_before_open(c, e)) {
			e->over = c->s->now_ns;
			c->s->waited_out++;
		}
	}
}

void registers_check(struct client *c, uint32_t i, const uint8_t *bytes)
{
	struct sector *x = &c->s->load->sectors[c->file][i];
	uint64_t v, w;

	memcpy(&v, bytes, 8);
	memcpy(&w, bytes + SECTOR - 8, 8);
	if (memcmp(bytes, bytes + 8, SECTOR - 8)) {
		sim_fail(c->s, "%s: file %u sector %u is torn: %lx .. %lx", c->n->name, c->file, i, v, w);
		return;
	}
	for (uint32_t k = 0; k < x->count; k++) {
		if (x->e[k].value == v && x->e[k].over >= c->start_ns) {
			missed(c, x, v);
			landed_not(c, i, v);
			lost(c, x, v);
			return;
		}
	}
	if (x->lost_ns)
		return;
	sim_fail(c->s, "%s: file %u sector %u reads as %lx, which is %s", c->n->name, c->file, i, v,
		v ? "not what was written last" : "zero, though it was written");
	for (uint32_t k = 0; k < x->count; k++)
		sim_log(c->s, "   may be %lx (%lx): written %lu .. %lu us, until %lu", x->e[k].value,
			x->e[k].id, x->e[k].start / 1000, x->e[k].end / 1000, x->e[k].over / 1000);
}

/*
 * What its node had not made durable may be gone with it, as with every file system: then what was
 * there before shows again.
 */
void registers_forget(struct sim *s, uint32_t node)
{
	for (uint32_t i = 0; i < s->plan.files * FILE_SECTORS; i++) {
		struct sector *x = &s->load->sectors[i / FILE_SECTORS][i % FILE_SECTORS];
		bool any = false;

		if (!(x->loose & 1u << node))
			continue;
		for (uint32_t k = 0; k < x->count; k++) {
			struct entry *w = &x->e[k];

			/* It sleeps, and answers when it wakes, before it knows: the target had it before it was fenced. */
			w->weak |= !w->acked && !w->durable && w->by == node && s->n[node].paused_until > s->now_ns;
			if (w->acked && !w->durable && !w->weak && w->by == node) {
				any = w->weak = true;
				w->weak_ns = s->now_ns;
			}
		}
		for (uint32_t k = 0; k < x->count && any; k++)
			x->e[k].over = x->e[k].gone_ns ? x->e[k].gone_ns : NEVER;
		for (uint32_t k = 0; k < x->count && any; k++) {
			if (x->e[k].acked && !x->e[k].weak)
				settle(x, &x->e[k]);
		}
	}
}

/*
 * Its node has heard that it was given up while an fsync(2) was under way, and that was told to be well: then all that had been
 * acknowledged before it is there.
 */
bool registers_synced(struct client *c, uint32_t i, struct entry *e)
{
	struct sector *x = &c->s->load->sectors[c->file][i];

	if (c->s->plan.san_loss || c->n->evicted_ns < c->start_ns || e->weak_ns <= c->evicted_ns)
		return false;
	if (e->undone)
		sim_fail(c->s, "%s: file %u sector %u: %lx was lost, and fsync says that it is durable", c->n->name, c->file, i,
			e->value);
	e->weak = false;
	registers_durable(c, i, e);
	settle(x, e);
	return true;
}

/* Part of what is under way may have been done before, and is answered with the rest. */
void registers_power_lost(struct sim *s)
{
	for (uint32_t n = 1; n <= s->plan.nodes; n++)
		registers_forget(s, n);
	for (uint32_t i = 0; i < s->plan.files * FILE_SECTORS; i++) {
		struct sector *x = &s->load->sectors[i / FILE_SECTORS][i % FILE_SECTORS];

		for (uint32_t k = 0; k < x->count; k++)
			x->e[k].weak |= !x->e[k].acked && !x->e[k].durable;
	}
}

static void asks_no_more(struct sim *s, void *arg)
{
	const struct snode *n = arg;

	for (uint32_t i = 0; i < s->plan.files * FILE_SECTORS; i++) {
		struct sector *x = &s->load->sectors[i / FILE_SECTORS][i % FILE_SECTORS];

		for (uint32_t k = 0; k < x->count; k++) {
			if (x->e[k].asked == n->id && x->e[k].end == NEVER)
				x->e[k].end = s->now_ns;
		}
	}
}

void registers_killed(struct client *c)
{
	gone_killed(c->s, c->n);
	for (uint32_t i = c->first; i < c->first + c->count; i++) {
		struct sector *x = &c->s->load->sectors[c->file][i];

		for (uint32_t k = 0; k < x->count; k++)
			x->e[k].killed |= x->e[k].id == c->id;
	}
}

void registers_killed_ends(struct sim *s, struct snode *n)
{
	for (uint32_t i = 0; i < s->plan.files * FILE_SECTORS; i++) {
		struct sector *x = &s->load->sectors[i / FILE_SECTORS][i % FILE_SECTORS];

		for (uint32_t k = 0; k < x->count; k++) {
			if (x->e[k].killed && x->e[k].by == n->id)
				x->e[k].asked = n->id;
		}
	}
	load_node_fenced(s, n);
}

/* What it has asked for and is begun is done, or dropped, in that time. Of a later life there is nothing yet. */
void load_node_fenced(struct sim *s, struct snode *n)
{
	sim_at(s, s->now_ns + 100 * MS, asks_no_more, n);
}

void load_node_drained(struct sim *s, uint32_t node)
{
	struct load *l = s->load;

	if (!l->orphans[node])
		return;
	l->orphans[node] = false;
	for (uint32_t i = 0; i < s->plan.files * FILE_SECTORS; i++) {
		struct sector *x = &l->sectors[i / FILE_SECTORS][i % FILE_SECTORS];

		for (uint32_t k = 0; k < x->count; k++) {
			if (x->e[k].node == node && x->e[k].end == NEVER)
				x->e[k].end = s->now_ns;
		}
	}
}

/* It may show, in part too, until it is overwritten; it cannot land any more. */
void registers_give_up(struct client *c, int32_t err)
{
	struct load *l = c->s->load;

	for (uint32_t i = c->first; i < c->first + c->count; i++) {
		struct sector *x = &l->sectors[c->file][i];

		for (uint32_t k = 0; k < x->count; k++) {
			if (x->e[k].id != c->id)
				continue;
			x->e[k].end = c->s->now_ns;
			x->e[k].failed = err != -EINTR; /* killed, it may have been waiting for its commit */
		}
	}
}

void registers_may_land(struct client *c)
{
	for (uint32_t i = c->first; i < c->first + c->count; i++) {
		struct sector *x = &c->s->load->sectors[c->file][i];

		for (uint32_t k = 0; k < x->count; k++) {
			if (x->e[k].id == c->id)
				x->e[k].given_ns = c->s->now_ns;
		}
	}
}
