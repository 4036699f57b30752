/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * edge.c - writes of parts of the LUN's blocks, by all nodes into two files.
 *
 * A scribe on each node writes where nobody else does, byte by byte: in one file the nodes' lanes lie in turn, shorter
 * than a block, and nobody writes whole blocks. In the other each block has an owner, who always writes it whole, and
 * a head in which all others write, too. So in each block there are bytes of every node, and what its only writer
 * was told is written must be there: no other node's write of another part of that block may undo it.
 * (Offsets here: the files, one behind the other.)
 *
 * With --set neighbours=1 (and three nodes) there is little else than two nodes that write parts of blocks, each in a cluster
 * of its own, one of which reads the other's, and now and then writes a block there.
 *
 * With --set lost_asks=1, drain_looks=1, or times=1, one node writes, and all others ask when a file was written last.
 *
 * A byte is known from the end of its last write to the beginning of the next one. What a write leaves that was not
 * acknowledged, and what was not synced when its node died or was given up, is unknown until it is written again. A write
 * that the limit of patience has ended may land later: its node's own later writes of these bytes wait for it, and so
 * does whoever wants to write another part of their blocks.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "metadata/run_sync.h"
#include "tests/sim/sim.h"

#define LANE 136u
#define HALF (6u * SIM_CLUSTER_BYTES)
#define FILE_BYTES (2u * HALF)
#define HEAD 64u
#define IO_MAX (8u << 10)
#define UNKNOWN 0x100
#define ASK_NS (2 * SEC) /* what node_times.c waits, and less */

struct byte {
	uint64_t begun_ns, ended_ns; /* the last write of it */
	uint16_t is;
	bool soft; /* written, not synced */
};

/* What a node has written, and some of it may not be synced. */
struct soft {
	uint32_t off, len;
};

struct scribe {
	struct sim *s;
	struct snode *n;
	bool alive, idle, ending;
	uint32_t opened, closed; /* files */
	uint32_t file;
	struct call call;
	uint64_t start_ns;
	uint64_t off;
	uint32_t len;
	bool reading, dsync, looking;
	uint64_t looked; /* at the end: up to here */
	uint64_t was;	 /* around_move() */
	/* As it asks for the file's times: when the last write began that had returned; and what the data path has not told. */
	uint64_t wrote_ns, wrote_both[2];
	int64_t touched_ns;
	int64_t set_ns; /* the last mtime that it has set */
	struct fs_request rq;
	const char *what;
	uint8_t buf[IO_MAX];
};

struct edges {
	uint64_t ino[2];
	uint64_t wrote_ns[2]; /* when the last write began that has returned */
	bool filled; /* one_hole: it is one no more */
	bool stopping;
	struct scribe c[SIM_NODES_MAX + 1];
	struct {
		struct soft *of;
		uint32_t count, room;
	} soft[SIM_NODES_MAX + 1];
	uint8_t owner[FILE_BYTES]; /* the node that writes it; 0: any, and it is not looked at */
	struct byte b[FILE_BYTES];
};

static const char *const names[2] = {"lanes", "blocks"};

static void next_call(struct sim *s, void *arg);

/*
 * In some runs one node owns all blocks, and asks for no edge range, and there is no space that was never written. So
 * nobody else's question takes an edge range away, nor does a first write, and it is kept over takeovers.
 */
static bool edges_settled(const struct sim *s)
{
	return s->seed % 5 == 3 || s->plan.moves;
}

static uint8_t owner_at(const struct sim *s, uint64_t off)
{
	uint32_t unit = s->lun.block_bytes, nodes = s->plan.nodes;

	if (off < HALF)
		return (uint8_t)(1 + off / LANE % nodes);
	if (off % unit < HEAD)
		return 0;
	if (s->plan.neighbours)
		return 2;
	return (uint8_t)(edges_settled(s) ? 1 : 1 + off / unit % nodes);
}

void edges_create(struct sim *s)
{
	s->edges = calloc(1, s->plan.scribes ? sizeof(*s->edges) : offsetof(struct edges, owner));
	for (uint32_t i = 0; i < FILE_BYTES && s->plan.scribes; i++)
		s->edges->owner[i] = owner_at(s, i);
}

void edges_destroy(struct sim *s)
{
	for (uint32_t i = 0; i <= SIM_NODES_MAX; i++)
		free(s->edges->soft[i].of);
	free(s->edges);
}

static void ask_sync(struct sim *s, struct run_sync *rs, struct fs_request *rq, struct fs_reply *rp)
{
	*rp = (struct fs_reply){0};
	if (run_sync_request(rs, rq, rp))
		sim_fail(s, "making the scribes' files: error %d", rp->err);
}

/*
 * one_hole: the lanes were written before the run, but for their second cluster, and the first write there crosses its
 * beginning: so its node has asked for an edge range in which it first-writes. Nobody is told before that there is a hole, or that it
 * may write elsewhere, so that nobody is recalled for another reason.
 */
static uint64_t hole_bytes(const struct sim *s, uint32_t f)
{
	return !f && s->plan.one_hole ? SIM_CLUSTER_BYTES : 0;
}

static bool was_written(const struct sim *s, uint32_t f)
{
	return f ? edges_settled(s) || s->plan.neighbours : s->plan.one_hole;
}

void edges_make(struct sim *s, struct run_sync *rs)
{
	struct fs_reply rp;

	for (uint32_t f = 0; f < 2; f++) {
		struct fs_request rq = {.op = FS_MKNOD, .ino = s->root_ino, .mode = S_IFREG | 0644};
		uint64_t hole = hole_bytes(s, f), from = 2 * hole;
		struct fs_extent old[2] = {{.off = from, .len = HALF - from, .state = EXT_WRITTEN},
			{.off = 0, .len = hole, .state = EXT_WRITTEN}};

		strcpy(rq.name, names[f]);
		ask_sync(s, rs, &rq, &rp);
		s->edges->ino[f] = rp.attr.ino;
		if (!was_written(s, f))
			continue;
		for (uint32_t i = 0; i < 2 && old[i].len; i++) {
			rq = (struct fs_request){.op = FS_FALLOCATE, .ino = s->edges->ino[f], .off = old[i].off,
				.len = old[i].len};
			ask_sync(s, rs, &rq, &rp);
		}
		rq = (struct fs_request){.op = FS_LAYOUT_COMMIT, .ino = s->edges->ino[f], .extents = old,
			.extent_count = hole ? 2 : 1};
		ask_sync(s, rs, &rq, &rp);
	}
}

static uint32_t owner_of(const struct sim *s, uint64_t off)
{
	return s->edges->owner[off];
}

/* ------------------------------------------------------------------ what must be read */

static void begin_write(struct scribe *c)
{
	for (uint64_t i = c->off; i < c->off + c->len; i++) {
		struct byte *b = &c->s->edges->b[i];

		if (owner_of(c->s, i) != c->n->id)
			continue;
		b->begun_ns = c->s->now_ns;
		b->ended_ns = NEVER;
	}
}

static void soft_add(struct edges *e, uint32_t node, uint64_t off, uint32_t len)
{
	if (e->soft[node].count == e->soft[node].room) {
		e->soft[node].room = e->soft[node].room ? 2 * e->soft[node].room : 16;
		e->soft[node].of = realloc(e->soft[node].of, e->soft[node].room * sizeof(struct soft));
	}
	e->soft[node].of[e->soft[node].count++] = (struct soft){(uint32_t)off, len};
}

static void end_write(struct scribe *c, bool done)
{
	for (uint64_t i = c->off; i < c->off + c->len; i++) {
		struct byte *b = &c->s->edges->b[i];

		if (owner_of(c->s, i) != c->n->id)
			continue;
		b->ended_ns = c->s->now_ns;
		b->is = done ? c->buf[i - c->off] : UNKNOWN;
		b->soft = done && !c->dsync;
	}
	if (done && c->start_ns > c->s->edges->wrote_ns[c->off / HALF])
		c->s->edges->wrote_ns[c->off / HALF] = c->start_ns;
	if (done && !c->dsync)
		soft_add(c->s->edges, c->n->id, c->off, c->len);
}

static void check_read(struct scribe *c, uint32_t got)
{
	struct sim *s = c->s;

	memset(c->buf + got, 0, c->len - got);
	for (uint64_t i = c->off; i < c->off + c->len; i++) {
		const struct byte *b = &s->edges->b[i];
		uint8_t is = c->buf[i - c->off];

		if (!owner_of(s, i) || b->is == UNKNOWN || b->is == is)
			continue;
		if (b->begun_ns >= c->start_ns || b->ended_ns >= c->start_ns)
			continue;
		sim_fail(s, "%s scribe: byte %lu is %x, not %x, which n%u has written %lu us before",
			c->n->name, i, is, b->is, owner_of(s, i), (s->now_ns - b->ended_ns) / 1000);
		return;
	}
}

static void forget_soft(struct sim *s, uint32_t node)
{
	struct edges *e = s->edges;

	for (uint32_t k = 0; k < e->soft[node].count; k++) {
		const struct soft *w = &e->soft[node].of[k];

		for (uint32_t i = w->off; i < w->off + w->len; i++) {
			struct byte *b = &e->b[i];

			if (b->soft && e->owner[i] == node) {
				b->soft = false;
				b->is = UNKNOWN;
			}
		}
	}
	e->soft[node].count = 0;
}

/* A sync that began then. */
static void synced(struct edges *e, uint32_t node, uint32_t file, uint64_t start_ns)
{
	uint32_t left = 0;

	for (uint32_t k = 0; k < e->soft[node].count; k++) {
		const struct soft w = e->soft[node].of[k];
		bool soft = false;

		for (uint32_t i = w.off; i < w.off + w.len; i++) {
			struct byte *b = &e->b[i];

			if (e->owner[i] == node && i / HALF == file && b->ended_ns < start_ns)
				b->soft = false;
			soft |= e->owner[i] == node && b->soft;
		}
		if (soft)
			e->soft[node].of[left++] = w;
	}
	e->soft[node].count = left;
}

/* ------------------------------------------------------------------ calls */

static bool moves_often(const struct sim *s)
{
	return s->plan.drain_looks || s->plan.times;
}

static bool one_writes(const struct sim *s)
{
	return s->plan.lost_asks || moves_often(s);
}

/*
 * --set times=1, a third of the seeds each: SETS, the writer sets the times itself; FAILS, it truncates in vain; SWAPS, the
 * others exchange the two names, and look at when what a name leads to was written.
 */
enum { SETS, FAILS, SWAPS };

static bool of_times(const struct sim *s, uint64_t what)
{
	return s->plan.times && s->seed / 2 % 3 == what;
}

/* With --set lost_asks=1: it is no writer when it opens a file, and all others may remember what that is. */
static bool writes_alone(const struct scribe *c)
{
	return c->n->id == 2 + c->s->seed % 2;
}

static void finished(struct scribe *c)
{
	struct sim *s = c->s;
	uint64_t pause_ns;

	if (s->verbose)
		sim_log(s, "   %s scribe: %s done: %lu+%u, since %lu us%s", c->n->name, c->what, c->off,
			c->len, c->start_ns / 1000, c->dsync ? ", dsync" : "");
	c->idle = true;
	call_ends(&c->call);
	s->ops_done++;
	if (moves_often(s))
		pause_ns = draw(s, writes_alone(c) ? 2 * MS : 60 * MS);
	else
		pause_ns = sim_delay(s, 100 * 1000, 300 * MS);
	sim_at_node(s, c->n, s->now_ns + pause_ns, next_call, c);
}

/* True: it was not done, or nobody knows, and that may be. */
static bool bad_err(struct scribe *c, int32_t err)
{
	if ((err == -EINTR && c->call.killed) || (err == -ENOSPC && c->s->plan.tight) ||
		(err == -EIO && c->s->plan.hold_ns) ||
		sim_refused(c->s, err))
		return true;
	sim_fail(c->s, "%s scribe: %s gave error %d", c->n->name, c->what, err);
	return false;
}

static void begins(struct scribe *c, const char *what, bool data)
{
	call_begins(&c->call, c->n, c, data);
	c->what = what;
	c->start_ns = c->s->now_ns;
}

static void ask(struct scribe *c, enum fs_op op, const char *what, reply_fn fn)
{
	begins(c, what, false);
	memset(&c->rq, 0, sizeof(c->rq));
	c->rq.op = op;
	c->rq.ino = c->s->edges->ino[c->file];
	c->rq.time_ns = (int64_t)c->s->now_ns;
	if (op == FS_LOOKUP) {
		c->rq.ino = c->s->root_ino;
		strcpy(c->rq.name, names[c->file]);
	}
	c->call.tag = node_request(c->s, c->n, &c->rq, fn, c);
}

static bool fills_hole(const struct scribe *c)
{
	return c->s->plan.one_hole && c->off < SIM_CLUSTER_BYTES && c->off + c->len > SIM_CLUSTER_BYTES;
}

static void written(struct sim *s, void *arg, int32_t result)
{
	struct scribe *c = arg;

	if (result < 0 && !bad_err(c, result))
		return;
	if (result >= 0 && (uint32_t)result != c->len)
		sim_fail(s, "%s scribe: a write was cut short", c->n->name);
	end_write(c, result >= 0);
	s->edges->filled |= fills_hole(c);
	finished(c);
}

static void was_read(struct sim *s, void *arg, int32_t result)
{
	struct scribe *c = arg;

	(void)s;
	if (result < 0 && !bad_err(c, result))
		return;
	if (result >= 0)
		check_read(c, (uint32_t)result);
	if (result >= 0 && c->looking)
		c->looked = c->off + c->len;
	finished(c);
}

static void data_call(struct scribe *c, bool reading)
{
	struct sim *s = c->s;
	struct dp_op op = {.ino = s->edges->ino[c->off / HALF], .off = c->off % HALF, .len = c->len,
		.write = !reading};

	begins(c, reading ? "read" : "write", true);
	c->reading = reading;
	c->dsync = op.dsync = !reading && (s->plan.san_loss || fills_hole(c) || chance(s, 50));
	if (!reading) {
		memset(c->buf, (int)(1 + draw(s, 255)), c->len);
		begin_write(c);
	}
	call_may_be_killed(s, &c->call, 10);
	node_io_as(s, c->n, &op, c->buf, reading ? was_read : written, c);
}

/*
 * Where the others are, too: the nearer, the sooner one undoes the other. From cluster to cluster, so that there is always
 * space that has not been written yet.
 */
static uint64_t hot(struct sim *s, uint64_t from)
{
	uint64_t stay = s->plan.unheard ? 60 * SEC : 4 * SEC;
	uint64_t at = s->now_ns / stay % (HALF / SIM_CLUSTER_BYTES) * SIM_CLUSTER_BYTES;

	if (!chance(s, 85))
		return from + draw(s, HALF);
	if (s->plan.one_hole)
		at = SIM_CLUSTER_BYTES;
	return from + at + draw(s, 2 * s->lun.block_bytes);
}

static void write_lane(struct scribe *c, uint64_t off)
{
	struct sim *s = c->s;
	uint64_t lane = off / LANE;

	/* Behind the last lane there may be none of this node in all the file. */
	while (lane * LANE < HALF && owner_of(s, lane * LANE) != c->n->id)
		lane++;
	c->off = lane * LANE + draw(s, LANE);
	c->len = 1 + (uint32_t)draw(s, LANE - c->off % LANE);
	if (c->off + c->len > HALF)
		c->off = (c->n->id - 1) * LANE;
	data_call(c, false);
}

static void around_hole(struct scribe *c)
{
	struct sim *s = c->s;
	uint64_t lane = SIM_CLUSTER_BYTES / LANE * LANE, from = 2 * SIM_CLUSTER_BYTES;
	uint64_t at = from + draw(s, HALF - from);

	if (!c->reading || chance(s, 50)) {
		c->off = at;
		c->len = 1 + (uint32_t)draw(s, HALF - at < IO_MAX ? HALF - at : IO_MAX);
		data_call(c, true);
	} else if (owner_of(s, lane) != c->n->id) {
		write_lane(c, at);
	} else {
		c->off = lane + draw(s, SIM_CLUSTER_BYTES - lane);
		c->len = (uint32_t)(SIM_CLUSTER_BYTES - c->off + 1 + draw(s, lane + LANE - SIM_CLUSTER_BYTES));
		data_call(c, false);
	}
}

/*
 * moves: the first node has an edge range at the end of the file, the second one at its begin. Then another node coordinates, at the
 * middle of each four seconds, and the first one reads at the begin, and writes whole blocks there if that says it may.
 */
static void around_move(struct scribe *c)
{
	struct sim *s = c->s;
	uint64_t t = s->now_ns % (4 * SEC), last = HALF + HALF - SIM_CLUSTER_BYTES;
	bool first = c->n->id == 1, later = t > 2300 * MS;
	bool looks = c->n->id > 2 || (first && later && c->was < s->now_ns - t + 2300 * MS);

	c->was = s->now_ns;
	c->off = HALF;
	c->len = 1 + (uint32_t)draw(s, HEAD - 1);
	if (looks || (first && later))
		c->len = s->lun.block_bytes;
	else if (first)
		c->off = last;
	if (looks ? !first && chance(s, 50) : !first && t < 1 * SEC)
		write_lane(c, hot(s, 0));
	else
		data_call(c, looks);
}

static void write_block(struct scribe *c)
{
	struct sim *s = c->s;
	uint64_t unit = s->lun.block_bytes, off = hot(s, HALF) & ~(unit - 1);

	c->off = off;
	if (owner_of(s, off + HEAD) == c->n->id) {
		c->len = (uint32_t)unit;
	} else {
		c->off += draw(s, HEAD - 1);
		c->len = 1 + (uint32_t)draw(s, HEAD - c->off % unit);
	}
	data_call(c, false);
}

/*
 * Of the neighbours: who writes parts of blocks in its cluster, without a word once it has asked; who does so in the next one, reads
 * the first one's, and now and then writes a block there; and all others read elsewhere, and hold on to that. So each of the
 * two has what it asked for, and no more, and it is asked for seldom.
 */
static void neighbour_call(struct scribe *c)
{
	struct sim *s = c->s;
	uint64_t at = HALF + draw(s, 2) * s->lun.block_bytes, what = draw(s, 10);

	c->len = s->lun.block_bytes;
	if (c->n->id > 2) {
		c->off = at + HALF - SIM_CLUSTER_BYTES;
	} else if (c->n->id == 1 || what < 5) {
		c->off = at + c->n->id * SIM_CLUSTER_BYTES + draw(s, HEAD - 1);
		c->len = 1 + (uint32_t)draw(s, HEAD - c->off % s->lun.block_bytes);
	} else {
		c->off = at + SIM_CLUSTER_BYTES;
	}
	data_call(c, c->n->id > 2 || (c->n->id == 2 && what >= 5 && what < 9));
}

static void read_some(struct scribe *c)
{
	uint64_t from = chance(c->s, 50) ? HALF : 0;

	c->off = hot(c->s, from);
	c->len = 1 + (uint32_t)draw(c->s, IO_MAX);
	if (c->off % HALF + c->len > HALF)
		c->len = (uint32_t)(HALF - c->off % HALF);
	data_call(c, true);
}

static void opened(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct scribe *c = arg;

	(void)s;
	if (rp->err && !bad_err(c, rp->err))
		return;
	c->opened += !rp->err;
	finished(c);
}

static void closed(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct scribe *c = arg;

	(void)rp;
	call_ends(&c->call);
	c->idle = true;
	if (++c->closed == c->opened)
		c->ending = true;
	else
		sim_at_node(s, c->n, s->now_ns, next_call, c);
}

static void fsynced(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct scribe *c = arg;

	if (rp->err == -EIO && c->n->evictions) {
		/* What was not synced is lost with the node's rights, and this says so. */
		finished(c);
		return;
	}
	if (rp->err && !bad_err(c, rp->err))
		return;
	if (!rp->err)
		synced(s->edges, c->n->id, c->file, c->start_ns);
	finished(c);
}

/*
 * mtime ends with the node that has not synced it: from the first such on it is not looked at. Nor in an answer that took as
 * long as a node is waited for that does not tell it: the target holds its commit, say.
 */
static bool times_may_be_old(const struct sim *s)
{
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		/* A move in order takes nothing away. */
		if (s->n[i].losses && !moves_often(s))
			return true;
	}
	return s->crashes || s->partitions || s->pauses || s->san_losses || s->hangs || s->port_cuts || s->slow_luns ||
	       s->slow_net_node || s->flaps || s->coro_restarts || s->ring_cuts || s->media_errors || s->spoilt ||
	       (s->append_failed && !moves_often(s)) || s->plan.hold_ns;
}

/* stat(2) shows each write that has returned, here or elsewhere. */
static void stat_done(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct scribe *c = arg;
	int64_t mtime_ns = rp->attr.mtime_ns;
	bool look = !rp->err && c->wrote_ns && (!s->plan.times || of_times(s, FAILS)) && !times_may_be_old(s) && s->now_ns - c->start_ns < ASK_NS;

	if (rp->err && !bad_err(c, rp->err))
		return;
	/* As the answer to the kernel is made. */
	if (c->touched_ns > mtime_ns)
		mtime_ns = c->touched_ns;
	if (look && mtime_ns < (int64_t)c->wrote_ns + WALL)
		sim_fail(s, "%s scribe: mtime is %ld us older than a write that had returned", c->n->name,
			(long)(((int64_t)c->wrote_ns + WALL - mtime_ns) / 1000));
	s->statted += look;
	finished(c);
}

/* A stat by name shows either file, and each write of it that had returned. */
static void name_seen(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct scribe *c = arg;
	uint64_t wrote_ns;

	if (rp->err && !bad_err(c, rp->err))
		return;
	wrote_ns = c->wrote_both[rp->attr.ino == s->edges->ino[1]];
	if (!rp->err && wrote_ns && !times_may_be_old(s) && s->now_ns - c->start_ns < ASK_NS &&
		rp->attr.mtime_ns < (int64_t)wrote_ns + WALL)
		sim_fail(s, "%s scribe: stat by name: mtime is %ld us older than a write that had returned before, asked %lu us ago", c->n->name,
			(long)(((int64_t)wrote_ns + WALL - rp->attr.mtime_ns) / 1000), (s->now_ns - c->start_ns) / 1000);
	finished(c);
}

static void swapped(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct scribe *c = arg;

	(void)s;
	if (rp->err && !bad_err(c, rp->err))
		return;
	finished(c);
}

static void swap_or_look(struct scribe *c)
{
	struct sim *s = c->s;

	c->file = (uint32_t)draw(s, 2);
	c->off = c->len = 0;
	if (draw(s, 2)) {
		memcpy(c->wrote_both, s->edges->wrote_ns, sizeof(c->wrote_both));
		ask(c, FS_LOOKUP, "stat by name", name_seen);
		return;
	}
	begins(c, "swap", false);
	memset(&c->rq, 0, sizeof(c->rq));
	c->rq.op = FS_RENAME;
	c->rq.ino = c->rq.ino2 = s->root_ino;
	c->rq.time_ns = (int64_t)s->now_ns;
	c->rq.flags = 2; /* RENAME_EXCHANGE */
	strcpy(c->rq.name, names[0]);
	strcpy(c->rq.name2, names[1]);
	c->call.tag = node_request(s, c->n, &c->rq, swapped, c);
}

/* What utimensat(2) has set after the last write stays. */
static void utimes_seen(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct scribe *c = arg;

	if (rp->err && !bad_err(c, rp->err))
		return;
	if (!rp->err && !times_may_be_old(s) && rp->attr.mtime_ns != c->set_ns)
		sim_fail(s, "%s scribe: utimensat set mtime %ld and returned, nobody wrote since, stat says %ld", c->n->name,
			(long)c->set_ns, (long)rp->attr.mtime_ns);
	finished(c);
}

static void utimes_set(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct scribe *c = arg;

	(void)s;
	if (rp->err && !bad_err(c, rp->err))
		return;
	ask(c, FS_GETATTR, "stat after utimes", utimes_seen);
}

/* A truncate(2) that fails takes no time of a write away. */
static void not_truncated(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct scribe *c = arg;

	if (!rp->err)
		sim_fail(s, "truncated to %lu", c->rq.attr.size);
	c->wrote_ns = s->edges->wrote_ns[c->file];
	c->touched_ns = dp_touched_ns(c->n->dp, s->edges->ino[c->file]);
	ask(c, FS_GETATTR, "stat after a truncate that failed", stat_done);
}

static void set_times(struct scribe *c, bool fails)
{
	struct sim *s = c->s;

	begins(c, fails ? "truncate that fails" : "utimes", false);
	memset(&c->rq, 0, sizeof(c->rq));
	c->rq.op = FS_SETATTR;
	c->rq.ino = s->edges->ino[c->file];
	c->rq.time_ns = (int64_t)s->now_ns;
	c->rq.valid = fails ? FS_SET_SIZE : FS_SET_MTIME;
	c->rq.attr.size = fails ? FILE_BYTES_MAX + 4096 : 0;
	c->rq.attr.mtime_ns = fails ? 0 : ++c->set_ns;
	c->call.tag = node_request(s, c->n, &c->rq, fails ? not_truncated : utimes_set, c);
}

static void closed_for_now(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct scribe *c = arg;

	(void)s;
	if (rp->err && !bad_err(c, rp->err))
		return;
	c->opened--;
	finished(c);
}

static void look_at_all(struct scribe *c)
{
	if (c->looked >= FILE_BYTES) {
		c->file = c->closed;
		ask(c, FS_CLOSE, "close", closed);
		return;
	}
	c->looking = true;
	c->off = c->looked;
	c->len = IO_MAX;
	data_call(c, true);
}

static void next_call(struct sim *s, void *arg)
{
	struct scribe *c = arg;

	if (!c->alive || !c->idle || c->ending || s->failed)
		return;
	c->idle = false;
	if (c->opened < 2) {
		c->file = c->opened;
		ask(c, FS_OPEN, "open", opened);
		return;
	}
	if (s->edges->stopping) {
		look_at_all(c);
		return;
	}
	if (s->plan.one_hole && !s->edges->filled) {
		around_hole(c);
		return;
	}
	if (s->plan.neighbours) {
		neighbour_call(c);
		return;
	}
	if (s->plan.moves) {
		around_move(c);
		return;
	}
	if (s->plan.lost_asks && writes_alone(c) && !draw(s, 4)) {
		c->off = c->len = 0;
		c->file = c->opened - 1;
		ask(c, FS_CLOSE, "close", closed_for_now);
		return;
	}
	if (of_times(s, SWAPS) && !writes_alone(c)) {
		swap_or_look(c);
		return;
	}
	if (s->plan.times && !of_times(s, SWAPS) && writes_alone(c) && !draw(s, 4)) {
		c->off = c->len = 0;
		c->file = (uint32_t)draw(s, 2);
		set_times(c, of_times(s, FAILS));
		return;
	}
	switch (one_writes(s) && !writes_alone(c) ? 3 : draw(s, 9)) {
	case 0:
		c->off = c->len = 0;
		c->file = (uint32_t)draw(s, 2);
		ask(c, FS_FSYNC, "fsync", fsynced);
		return;
	case 1:
	case 2:
		read_some(c);
		return;
	case 3:
		c->off = c->len = 0;
		c->file = (uint32_t)draw(s, 2);
		c->wrote_ns = s->edges->wrote_ns[c->file];
		c->touched_ns = dp_touched_ns(c->n->dp, s->edges->ino[c->file]);
		ask(c, moves_often(s) ? FS_LOOKUP : FS_GETATTR, "stat", stat_done);
		return;
	case 4:
	case 5:
		write_block(c);
		return;
	default:
		write_lane(c, hot(s, 0));
		return;
	}
}

/* ------------------------------------------------------------------ nodes come and go */

void edges_node_up(struct sim *s, struct snode *n)
{
	struct scribe *c = &s->edges->c[n->id];

	if (!s->plan.scribes)
		return;
	memset(c, 0, sizeof(*c));
	c->s = s;
	c->n = n;
	c->alive = c->idle = true;
	sim_at_node(s, n, s->now_ns, next_call, c);
}

void edges_node_down(struct sim *s, struct snode *n)
{
	struct scribe *c = &s->edges->c[n->id];

	if (!s->plan.scribes)
		return;
	forget_soft(s, n->id);
	if (c->alive && !c->idle && c->len && !c->reading)
		end_write(c, false);
	c->alive = false;
}

void edges_node_evicted(struct sim *s, struct snode *n)
{
	if (s->plan.scribes)
		forget_soft(s, n->id);
}

void edges_stop(struct sim *s)
{
	s->edges->stopping = true;
}

bool edges_idle(const struct sim *s)
{
	for (uint32_t n = 1; n <= s->plan.nodes && s->plan.scribes; n++) {
		if (!s->edges->c[n].alive || !s->edges->c[n].ending)
			return false;
	}
	return true;
}

void edges_say_stuck(struct sim *s)
{
	for (uint32_t n = 1; n <= s->plan.nodes && s->plan.scribes; n++) {
		const struct scribe *c = &s->edges->c[n];

		if (!c->alive || !c->ending)
			sim_log(s, "n%u scribe: %s, %lu+%u, since %lu us%s", n,
				c->alive ? c->what ? c->what : "nothing yet" : "is down", c->off, c->len,
				c->start_ns / 1000, c->idle ? ", idle" : "");
	}
}
