/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * load.c - what applications do on every node, and the oracle.
 *
 * Data: registers.c.
 *
 * Names: each name belongs to one client, which knows whether it exists; every create, unlink and
 * rename must say exactly what that client expects (invariant 11). Others look names up, and must see
 * what was there when nothing changed meanwhile (coherence).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/sim/load_int.h"

static void next_op(struct sim *s, void *arg);

void load_create(struct sim *s)
{
	struct load *l = calloc(1, sizeof(*l));

	s->load = l;
	registers_create(s);
	for (uint32_t i = 1; i <= SIM_NODES_MAX; i++) {
		for (uint32_t c = 0; c < CLIENTS_MAX; c++) {
			for (uint32_t k = 0; k < NAMES_MAX; k++)
				trace_format(l->names[i][c][k].text, 32, "n%u-%u-%u", i, c, k);
		}
	}
}

void load_destroy(struct sim *s)
{
	registers_destroy(s);
	free(s->load);
}

void load_set_file(struct sim *s, uint32_t f, uint64_t ino)
{
	s->load->ino[f] = ino;
}

void load_san_loss(struct sim *s)
{
	registers_power_lost(s);
}

/* ------------------------------------------------------------------ operations */

static void finished(struct client *c)
{
	struct sim *s = c->s;

	if (s->verbose)
		sim_log(s, "   %s client %u: %s done, file %u, sectors %u+%u, id %lx, since %lu us%s", c->n->name,
			c->nr, c->what, c->file, c->first, c->count, c->id, c->start_ns / 1000,
			c->dsync ? ", dsync" : "");

	/* only_hangs: whoever did not hang itself waits for a takeover at most. */
	if (s->plan.only_hangs && !s->healing && c->n->woke_ns <= c->start_ns) {
		if (s->now_ns - c->start_ns > s->stall_ns)
			s->stall_ns = s->now_ns - c->start_ns;
		if (s->now_ns - c->start_ns > HANG_STALL_NS)
			sim_fail(s, "%s client %u: %s took %lu ms", c->n->name, c->nr, c->what,
				(s->now_ns - c->start_ns) / MS);
	}
	if (s->aimed.alone_ns && !s->healing && c->start_ns > s->aimed.alone_ns) {
		if (s->now_ns - c->start_ns > s->stall_ns)
			s->stall_ns = s->now_ns - c->start_ns;
		if (s->now_ns - c->start_ns > LONE_STALL_NS)
			sim_fail(s, "%s client %u, alone: %s took %lu ms", c->n->name, c->nr, c->what,
				(s->now_ns - c->start_ns) / MS);
	}
	if (s->aimed.cut_ns && !s->healing && c->n->id != s->aimed.cut && c->start_ns > s->aimed.cut_ns) {
		if (s->now_ns - c->start_ns > s->stall_ns)
			s->stall_ns = s->now_ns - c->start_ns;
		if (s->now_ns - c->start_ns > LONG_CUT_STALL_NS)
			sim_fail(s, "%s client %u, while another node is cut off: %s took %lu ms", c->n->name, c->nr, c->what,
				(s->now_ns - c->start_ns) / MS);
	}
	c->idle = true;
	call_ends(&c->call);
	s->ops_done++;
	sim_at_node(s, c->n, s->now_ns + (c->probe ? MS / 10 : sim_delay(s, 100 * 1000, 300 * MS)), next_op, c);
}

/* True: it was not done, or nobody knows, and that may be. */
static bool bad_err(struct client *c, int32_t err)
{
	if ((err == -EINTR && c->call.killed) || (err == -ENOSPC && c->s->plan.tight) ||
		(err == -EIO && c->s->plan.hold_ns) ||
		(sim_refused(c->s, err) && (c->call.data || (c->zeroing && c->s->plan.image))))
		return true;
	sim_fail(c->s, "%s client %u: %s gave error %d", c->n->name, c->nr, c->what, err);
	return false;
}

/* Each call begins here. The kernel lets nobody kill a close. */
static void begins(struct client *c, bool data, bool may_die)
{
	call_begins(&c->call, c->n, c, data);
	if (may_die)
		call_may_be_killed(c->s, &c->call, 10);
}

static void ask(struct client *c, reply_fn fn)
{
	c->rq.time_ns = (int64_t)c->s->now_ns;
	begins(c, false, c->rq.op != FS_CLOSE);
	c->call.tag = node_request(c->s, c->n, &c->rq, fn, c);
}

static void new_rq(struct client *c, enum fs_op op, const char *what)
{
	memset(&c->rq, 0, sizeof(c->rq));
	c->rq.op = op;
	c->what = what;
	c->rq.ino = c->s->root_ino;
	c->start_ns = c->s->now_ns;
}

static void name_changed(struct client *c, struct name *x, enum presence is)
{
	x->is = is;
	x->busy = false;
	x->version++;
}

/* What was asked of this name may still be done, whenever that is: another one takes its place. */
static void renew(struct client *c, struct name *x)
{
	struct name *mine = c->s->load->names[c->n->id][c->nr];

	trace_format(x->text, sizeof(x->text), "n%u-%u-%u.%u", c->n->id, c->nr, (uint32_t)(x - mine),
		++x->renewed);
	x->is = ABSENT;
	x->busy = false;
	x->version++;
}

/* ENOSPC: it was not done. Others: the process was killed, or the limit has ended its patience. */
static void name_failed(struct client *c, int32_t err)
{
	if (!bad_err(c, err))
		return;
	c->name->busy = c->name2->busy = false;
	if (err != -ENOSPC) {
		renew(c, c->name);
		if (c->name2 != c->name)
			renew(c, c->name2);
	}
	finished(c);
}

static void created(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct client *c = arg;

	if (rp->err) {
		name_failed(c, rp->err);
		return;
	}
	c->name->ino = rp->attr.ino;
	name_changed(c, c->name, PRESENT);
	finished(c);
}

static void unlinked(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct client *c = arg;

	if (rp->err) {
		name_failed(c, rp->err);
		return;
	}
	name_changed(c, c->name, ABSENT);
	finished(c);
}

static void renamed(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct client *c = arg;

	if (rp->err) {
		name_failed(c, rp->err);
		return;
	}
	c->name2->ino = c->name->ino;
	name_changed(c, c->name, ABSENT);
	name_changed(c, c->name2, PRESENT);
	finished(c);
}

static void looked_up(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct client *c = arg;
	bool there = !rp->err;

	if (rp->err && rp->err != -ENOENT) {
		if (bad_err(c, rp->err))
			finished(c);
		return;
	}
	if (s->verbose)
		sim_log(s, "   %s client %u: '%s' is %lx", c->n->name, c->nr, c->name->text,
			there ? rp->attr.ino : 0);
	if (c->name->is == UNSURE && !c->name->busy && c->name == c->name2) {
		/* Our own, after our node died: now we know. */
		c->name->is = there ? PRESENT : ABSENT;
		c->name->ino = rp->attr.ino;
	} else if (c->name->version == c->version && !c->name->busy && c->name->is != UNSURE) {
		if (there != (c->name->is == PRESENT))
			sim_fail(s, "%s: '%s' is %s, but should be %s", c->n->name, c->name->text,
				there ? "there" : "absent", there ? "absent" : "there");
		else if (there && rp->attr.ino != c->name->ino)
			sim_fail(s, "%s: '%s' is inode %lx, but should be %lx", c->n->name,
				c->name->text, rp->attr.ino, c->name->ino);
	}
	finished(c);
}

static void change_name(struct client *c)
{
	struct name *mine = c->s->load->names[c->n->id][c->nr];
	struct name *x = &mine[draw(c->s, c->s->plan.names)], *y = &mine[draw(c->s, c->s->plan.names)];

	c->name = c->name2 = x;
	if (x->is == UNSURE) {
		new_rq(c, FS_LOOKUP, "lookup of its own name");
		strcpy(c->rq.name, x->text);
		c->version = x->version;
		ask(c, looked_up);
		return;
	}
	x->busy = true;
	x->version++;
	if (c->s->verbose)
		sim_log(c->s, "   %s client %u: changes '%s'", c->n->name, c->nr, x->text);
	if (x->is == ABSENT) {
		new_rq(c, FS_MKNOD, "create");
		c->rq.mode = S_IFREG | 0644;
		strcpy(c->rq.name, x->text);
		ask(c, created);
	} else if (y != x && y->is == ABSENT && chance(c->s, 40)) {
		y->busy = true;
		y->version++;
		c->name2 = y;
		new_rq(c, FS_RENAME, "rename");
		strcpy(c->rq.name, x->text);
		strcpy(c->rq.name2, y->text);
		c->rq.ino2 = c->s->root_ino;
		ask(c, renamed);
	} else {
		new_rq(c, FS_UNLINK, "unlink");
		strcpy(c->rq.name, x->text);
		ask(c, unlinked);
	}
}

static void look_name(struct client *c)
{
	struct sim *s = c->s;
	uint32_t n = 1 + (uint32_t)draw(s, s->plan.nodes), k = (uint32_t)draw(s, s->plan.clients);

	c->name = &s->load->names[n][k][draw(s, s->plan.names)];
	c->name2 = NULL;
	c->version = c->name->version;
	new_rq(c, FS_LOOKUP, "lookup");
	strcpy(c->rq.name, c->name->text);
	ask(c, looked_up);
}

static void io_done(struct sim *s, void *arg, int32_t result)
{
	struct client *c = arg;
	uint32_t got = result > 0 ? (uint32_t)result / SECTOR : 0;

	if (result < 0) {
		if (!bad_err(c, result))
			return;
		if (!c->reading && s->plan.media && result != -EINTR && s->seed % 2) {
			s->load->failed.file = c->file;
			s->load->failed.first = c->first;
			s->load->failed.end = c->first + c->count;
			s->load->failed.cut = false;
		}
		/* The limit ends the patience, not what was sent. */
		if (!c->reading && (result != -EIO || !s->plan.hold_ns))
			registers_give_up(c, result);
		else if (!c->reading)
			registers_may_land(c);
		finished(c);
		return;
	}
	if (!c->reading) {
		if (got != c->count)
			sim_fail(s, "%s: a write was cut short", c->n->name);
		registers_end(c);
	} else {
		/* Behind the end of the file: reads as nothing, which stands for zero. */
		memset(c->buf + got * SECTOR, 0, (c->count - got) * SECTOR);
		for (uint32_t i = 0; i < c->count && !s->failed; i++)
			registers_check(c, c->first + i, c->buf + i * SECTOR);
	}
	finished(c);
}

static void zeroed(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct client *c = arg;

	(void)s;
	if (rp->err && !bad_err(c, rp->err))
		return;
	/* Nobody waits for it any more, and it may still be carried out, until its node is given up (H5 of node_held.c). */
	if (!rp->err)
		registers_end(c);
	else if (rp->err == -ENOSPC)
		registers_give_up(c, -EINTR);
	else
		registers_killed(c);
	finished(c);
}

/* What a write that failed has left behind the end is cut off by the one, and must not come back with the other. */
static void truncate_at_failed(struct client *c)
{
	struct sim *s = c->s;
	uint32_t first = s->load->failed.first, end = s->load->failed.end;

	c->file = s->load->failed.file;
	c->first = s->load->failed.cut ? end + (uint32_t)draw(s, 8)
				       : first - (uint32_t)draw(s, first + 1 < 4 ? first + 1 : 4);
	s->load->failed.cut ^= true;
	if (c->first >= FILE_SECTORS)
		c->first = FILE_SECTORS - 1;
}

static void zeroes(struct client *c, uint32_t file)
{
	c->file = file;
	c->reading = false;
	c->zeroing = c->dsync = true;
	c->id = ++c->s->load->next_id << 8 | c->n->id << 4 | c->nr;
}

static void ask_zeroes(struct client *c)
{
	c->rq.ino = c->s->load->ino[c->file];
	registers_begin(c);
	ask(c, zeroed);
}

static void truncate_to(struct client *c, uint32_t first)
{
	c->first = first;
	c->count = FILE_SECTORS - first;
	new_rq(c, FS_SETATTR, "truncate");
	c->rq.valid = FS_SET_SIZE;
	c->rq.attr.size = (uint64_t)first * SECTOR;
	ask_zeroes(c);
}

bool load_lost_lately(const struct sim *s)
{
	return s->lost_ns && s->now_ns - s->lost_ns < 4 * SEC;
}

static uint32_t any_file(struct sim *s)
{
	uint32_t f = (uint32_t)draw(s, s->plan.files), lost = 0;

	if (!load_lost_lately(s))
		return f;
	while (lost < s->plan.files && s->load->ino[lost] != s->lost_ino)
		lost++;
	if (lost == s->plan.files)
		return f;
	if (s->now_ns - s->lost_ns < 150 * MS)
		return f == lost ? (f + 1) % s->plan.files : f;
	return chance(s, 75) ? lost : f;
}

/* `again`: that has been done, and there is to be space. */
static void take_away(struct client *c, bool again)
{
	new_rq(c, FS_FALLOCATE, again ? "fallocate" : "punch");
	c->rq.flags = again ? 1 : 3; /* FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE */
	c->rq.off = (uint64_t)c->first * SECTOR;
	c->rq.len = (uint64_t)c->count * SECTOR;
	ask_zeroes(c);
}

/* Takes space away: a shorter file, or a hole in it (whole clusters: the kernel's side sees to the ends). */
static void zero_one(struct client *c)
{
	struct sim *s = c->s;
	uint32_t per = SIM_CLUSTER_BYTES / SECTOR;

	zeroes(c, any_file(s));
	if (s->load->failed.cut || chance(s, 50)) {
		c->first = (uint32_t)draw(s, FILE_SECTORS);
		if (s->load->failed.end && (s->load->failed.cut || chance(s, 50)))
			truncate_at_failed(c);
		truncate_to(c, c->first);
		return;
	}
	c->first = per * (uint32_t)draw(s, FILE_SECTORS / per);
	c->count = per * (1 + (uint32_t)draw(s, (FILE_SECTORS - c->first) / per));
	take_away(c, false);
}

/*
 * Where the SAN loses power, a first write is answered only when durable: of a cluster that is lost in part nothing at all
 * would be known.
 */
static bool all_in_place(const struct client *c)
{
	for (uint32_t i = c->first; i < c->first + c->count; i++) {
		if (!registers_in_place(c, i))
			return false;
	}
	return true;
}

static void do_io(struct client *c)
{
	struct sim *s = c->s;
	struct load *l = s->load;

	c->redirected = c->zeroing = false;
	c->start_ns = s->now_ns;
	c->what = c->reading ? "read" : "write";
	c->dsync = chance(s, 20) || (s->plan.san_loss && !all_in_place(c));
	c->quiet = c->reading && registers_quiet(c);
	if (!c->reading) {
		c->id = ++l->next_id << 8 | c->n->id << 4 | c->nr;
		for (uint32_t i = 0; i < c->count * SECTOR; i += 8)
			memcpy(c->buf + i, &c->id, 8);
		registers_begin(c);
		if (c->spoilt)
			s->spoil_id = c->id;
		c->spoilt = false;
	}
	begins(c, true, true);
	node_io(s, c->n, l->ino[c->file], 0, !c->reading, c->dsync,
		(uint64_t)c->first * SECTOR, c->count * SECTOR, c->buf, io_done, c);
}

static void opened(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct client *c = arg;

	(void)s;
	if (rp->err) {
		if (bad_err(c, rp->err))
			finished(c);
		return;
	}
	c->opened[c->file] = c->life;
	c->opened_ns[c->file] = c->start_ns;
	do_io(c);
}

static void io_or_open(struct client *c)
{
	if (c->opened[c->file] == c->life) {
		do_io(c);
		return;
	}
	new_rq(c, FS_OPEN, "open");
	c->rq.ino = c->s->load->ino[c->file];
	ask(c, opened);
}

static void data_io(struct client *c)
{
	struct sim *s = c->s;

	c->file = any_file(s);
	c->reading = chance(s, 50);
	c->count = 1 + (uint32_t)draw(s, chance(s, 30) ? IO_SECTORS_MAX : 8);
	c->first = (uint32_t)draw(s, FILE_SECTORS - c->count);
	io_or_open(c);
}

static bool probe_io(struct client *c, bool reading, uint32_t first, uint32_t count)
{
	c->reading = reading;
	c->first = first;
	c->count = count;
	io_or_open(c);
	return true;
}

/*
 * Rule 4 of the data path, one step after the other, and at once, since others write there, too: a file ends within a
 * cluster; a write behind its end fails, and leaves something there; that is not shown; a write leaves a gap over
 * it, which must read as zeros.
 */
static bool probe_tail(struct client *c)
{
	struct sim *s = c->s;
	uint32_t per = SIM_CLUSTER_BYTES / SECTOR, was = c->probe;

	if (!was && (s->seed % 2 == 0 || !s->plan.media || !s->plan.zeroing || prng_below(&s->media_rng, 100) >= 3))
		return false;
	if (was && c->opened[c->file] == c->life)
		c->probe = was % 6 + 1;
	switch (was) {
	case 0:
		c->probe = 1;
		c->tail = per * (uint32_t)prng_below(&s->media_rng, FILE_SECTORS / per) + 4;
		zeroes(c, (uint32_t)prng_below(&s->media_rng, s->plan.files));
		truncate_to(c, c->tail);
		return true;
	case 1: /* there is a cluster, and it is not new */
		return probe_io(c, false, c->tail - 2, 2);
	case 2:
		c->spoilt = true;
		return probe_io(c, false, c->tail + 1, 4);
	case 3:
		return probe_io(c, true, c->tail, 8);
	case 4:
		return probe_io(c, false, c->tail + 8 + (uint32_t)prng_below(&s->media_rng, 16), 1);
	case 5:
		return probe_io(c, true, c->tail, 8);
	}
	c->probe = 0;
	return false;
}

static void plain_done(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct client *c = arg;

	(void)s;
	if (!rp->err || bad_err(c, rp->err))
		finished(c);
}

static bool close_file(struct client *c, uint32_t f)
{
	if (c->opened[f] != c->life)
		return false;
	c->opened[f] = 0;
	new_rq(c, FS_CLOSE, "close");
	c->rq.ino = c->s->load->ino[f];
	ask(c, plain_done);
	return true;
}

static bool close_one(struct client *c)
{
	for (uint32_t f = 0; f < c->s->plan.files; f++) {
		if (close_file(c, f))
			return true;
	}
	return false;
}

static void fsynced(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct client *c = arg;

	if (rp->err == -EIO && c->n->evictions) {
		/* What was not synced is lost with the node's rights, and this says so. */
		finished(c);
		return;
	}
	if (rp->err) {
		if (bad_err(c, rp->err))
			finished(c);
		return;
	}
	for (uint32_t i = 0; i < FILE_SECTORS; i++) {
		struct sector *x = &s->load->sectors[c->file][i];
		uint32_t bit = 1u << c->n->id;

		if (!(x->loose & bit))
			continue;
		x->loose &= ~bit;
		for (uint32_t k = 0; k < x->count; k++) {
			struct entry *e = &x->e[k];

			if (e->by != c->n->id || e->durable)
				continue;
			if (e->acked && e->end < c->start_ns && (!e->weak || registers_synced(c, i, e)))
				registers_durable(c, i, e);
			else if (!e->weak)
				x->loose |= bit;
		}
	}
	if (s->plan.power)
		aimed_synced(s, c->n);
	finished(c);
}

static void fsync_one(struct client *c)
{
	new_rq(c, FS_FSYNC, "fsync");
	c->evicted_ns = c->n->evicted_ns;
	c->rq.flags = c->s->plan.power || c->s->ops_done % 2; /* fdatasync(2) */
	c->file = (uint32_t)draw(c->s, c->s->plan.files);
	c->rq.ino = c->s->load->ino[c->file];
	ask(c, fsynced);
}

/*
 * With --set dies_asking=1 (aimed.c), while the one who has the file hangs: who is about to die takes away a part of it. When
 * that one is fenced, each node writes in a place of its own there; and when the first one wakes, all look.
 */
static bool asks_of_the_hung(struct client *c)
{
	struct sim *s = c->s;
	uint64_t fenced_ns = s->aimed.wakes_ns - 30 * MS, at_ns;

	if (!s->plan.dies_asking || !s->aimed.wakes_ns || s->now_ns >= s->aimed.wakes_ns + 100 * MS)
		return false;
	at_ns = c->n->id == s->aimed.asks ? s->aimed.hangs_ns + 100 * MS : c->nr ? fenced_ns : s->aimed.hangs_ns;
	if (s->now_ns < at_ns) {
		c->idle = true;
		sim_at_node(s, c->n, at_ns + draw(s, 20) * MS, next_op, c);
		return true;
	}
	c->file = 0;
	c->first = 0;
	c->count = 2 * SIM_CLUSTER_BYTES / SECTOR;
	if (c->n->id == s->aimed.asks && c->opened[0] == c->life) {
		zeroes(c, 0);
		take_away(c, false);
		return true;
	}
	c->reading = s->now_ns > s->aimed.wakes_ns;
	if (!c->reading) {
		c->count /= s->plan.nodes;
		c->first = (c->n->id - 1) * c->count;
	}
	io_or_open(c);
	return true;
}

/*
 * With --set oversleeps=1 (aimed.c): one takes two clusters away, has space for both again, and writes in the first: the second is its
 * own, and reads as zero. While it hangs the others write there, and when it wakes it reads that.
 */
static bool oversleeps(struct client *c)
{
	struct sim *s = c->s;
	bool hangs = c->n->id == s->aimed.asks, first = hangs && !c->nr, before = s->now_ns < s->aimed.hangs_ns;

	if (!s->plan.oversleeps || s->now_ns >= s->aimed.wakes_ns + 100 * MS)
		return false;
	if (before && (!first || s->aimed.owns == 3)) {
		c->idle = true;
		/* What waits for one that hangs happens in the order in which it would have. */
		sim_at_node(s, c->n, s->aimed.hangs_ns + 1 + (first ? 0 : draw(s, 20) * MS), next_op, c);
		return true;
	}
	c->file = 0;
	c->first = 0;
	c->count = 2 * SIM_CLUSTER_BYTES / SECTOR;
	c->reading = hangs ? !before : s->now_ns > s->aimed.wakes_ns;
	if (before && c->opened[0] == c->life && s->aimed.owns++ < 2) {
		zeroes(c, 0);
		take_away(c, s->aimed.owns == 2);
		return true;
	}
	c->count /= 2;
	if (hangs && !before)
		c->first = c->count;
	else if (!hangs && !c->reading)
		c->first = c->n->id % 2 ? c->count : c->count * 3 / 2;
	if (!c->reading)
		c->count /= 2;
	io_or_open(c);
	return true;
}

/*
 * With --set heirs=1 (aimed.c): one has the first file alone, and writes to its beginning until it dies; afterwards they
 * all do. Or one process of each other node reads along, as a backup does, and the others open the file when the first one is dead.
 */
static bool heirs(struct client *c)
{
	struct sim *s = c->s;
	bool alone = s->now_ns < s->aimed.hangs_ns;

	if (!s->plan.heirs || !s->aimed.asks || s->load->stopping)
		return false;
	if (alone && c->n->id != s->aimed.asks) {
		bool along = s->aimed.watched && !c->nr;

		if (!along && close_file(c, 0))
			return true;
		c->file = !along;
		c->reading = along || chance(s, 50);
	} else {
		c->file = 0;
		c->reading = !alone && chance(s, 50);
	}
	c->count = 1 + (uint32_t)draw(s, 8);
	c->first = (uint32_t)draw(s, 12);
	io_or_open(c);
	return true;
}

static void next_op(struct sim *s, void *arg)
{
	struct client *c = arg;

	if (!c->alive || !c->idle || s->failed)
		return;
	c->idle = false;
	if (asks_of_the_hung(c) || oversleeps(c) || heirs(c))
		return;
	if (s->load->stopping) {
		if (close_one(c))
			return;
		c->ending = true;
		c->idle = true;
		return;
	}
	/* Where writes fail, ends of files that they may have passed. */
	if (s->plan.zeroing && (s->load->failed.cut || chance(s, s->plan.cut_off || s->plan.media || s->plan.lost_grants ? 15 : 3))) {
		zero_one(c);
		return;
	}
	if (probe_tail(c))
		return;
	/* aimed.c. */
	if (s->plan.writes_on && c->n->late_until > s->now_ns) {
		if (prng_below(&s->aimed.rng, 4))
			data_io(c);
		else
			fsync_one(c);
		return;
	}
	switch (draw(s, 10)) {
	case 0:
	case 1:
		change_name(c);
		return;
	case 2:
		look_name(c);
		return;
	case 3:
		fsync_one(c);
		return;
	case 4:
		if (chance(s, 30) && close_one(c))
			return;
		/* fall through */
	default:
		data_io(c);
		return;
	}
}

/* ------------------------------------------------------------------ nodes come and go */

void load_node_up(struct sim *s, struct snode *n)
{
	for (uint32_t i = 0; i < s->plan.clients; i++) {
		struct client *c = &s->load->c[n->id][i];

		memset(c, 0, sizeof(*c));
		c->s = s;
		c->n = n;
		c->nr = i;
		c->life = n->life_nr;
		c->alive = c->idle = true;
		sim_at_node(s, n, s->now_ns + 1000 * i, next_op, c);
	}
}

void load_node_evicted(struct sim *s, struct snode *n)
{
	registers_forget(s, n->id);
}

void load_node_down(struct sim *s, struct snode *n)
{
	struct load *l = s->load;
	bool died = false;

	registers_forget(s, n->id);
	for (uint32_t i = 0; i < s->plan.clients; i++) {
		struct client *c = &l->c[n->id][i];

		for (uint32_t k = 0; k < NAMES_MAX; k++) {
			struct name *x = &l->names[n->id][i][k];

			if (x->busy)
				name_changed(c, x, UNSURE);
		}
		if (c->alive && !c->idle && !c->reading) {
			l->orphans[n->id] = true;
			if (!died)
				gone_died(s, n);
			died = true;
			for (uint32_t k = c->first; k < c->first + c->count; k++) {
				struct sector *x = &l->sectors[c->file][k];

				for (uint32_t j = 0; j < x->count; j++) {
					if (x->e[j].id != c->id || x->e[j].end != NEVER)
						continue;
					x->e[j].node = c->redirected || c->zeroing ? 0 : n->id;
					x->e[j].asked = c->zeroing ? n->id : 0;
					x->e[j].death = c->zeroing ? 0 : l->gone[n->id].death;
				}
			}
		}
		c->alive = false;
	}
}

void load_op_redirected(struct sim *s, void *arg)
{
	uintptr_t at = (uintptr_t)arg, first = (uintptr_t)s->load->c;

	if (at >= first && at < first + sizeof(s->load->c))
		((struct client *)arg)->redirected = true;
}

bool load_idle(const struct sim *s)
{
	for (uint32_t n = 1; n <= s->plan.nodes; n++) {
		for (uint32_t i = 0; i < s->plan.clients; i++) {
			const struct client *c = &s->load->c[n][i];

			if (!c->alive || !c->ending)
				return false;
		}
	}
	return true;
}

void load_say_stuck(struct sim *s)
{
	for (uint32_t n = 1; n <= s->plan.nodes; n++) {
		for (uint32_t i = 0; i < s->plan.clients; i++) {
			const struct client *c = &s->load->c[n][i];

			if (c->alive && c->ending)
				continue;
			sim_log(s, "n%u client %u: %s, file %u ino %lx, since %lu us%s%s", n, i,
				c->alive ? c->what ? c->what : "nothing yet" : "is down", c->file,
				s->load->ino[c->file], c->start_ns / 1000, c->idle ? ", idle" : "",
				c->ending ? ", ending" : "");
		}
	}
}

void load_stop(struct sim *s)
{
	s->load->stopping = true;
}
