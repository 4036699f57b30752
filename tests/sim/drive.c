/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * drive.c - one simulated node: carries out the effects of its core, and runs its data path.
 *
 * The core and the data path are the daemon's own code; only the threads are missing: a data
 * operation's steps are items of the queue, so its commands and the core's effects interleave.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "csvfs/base/assert.h"
#include "tests/sim/sim.h"

#define REGION_BYTES (48u << 20)
#define DP_REGION_BYTES (4u << 20)
#define IMAGE_BYTES_MAX (IO_BYTES_MAX + 2 * SIM_CLUSTER_BYTES) /* the largest request and the clusters at both ends */
#define TAG_DATA (1ull << 63)
#define TAG_CLIENT (1ull << 62)
#define CHECK_EVERY 16

/* ------------------------------------------------------------------ file data handles */

struct sim_data {
	uint32_t refs, len;
	uint8_t bytes[];
};

uint64_t sim_data_new(const void *bytes, uint32_t len)
{
	struct sim_data *d = malloc(sizeof(*d) + len);

	d->refs = 1;
	d->len = len;
	memcpy(d->bytes, bytes, len);
	return (uint64_t)(uintptr_t)d;
}

void sim_data_ref(uint64_t h)
{
	((struct sim_data *)(uintptr_t)h)->refs++;
}

void sim_data_put(uint64_t h)
{
	struct sim_data *d = (struct sim_data *)(uintptr_t)h;

	if (d && !--d->refs)
		free(d);
}

uint8_t *sim_data_bytes(uint64_t h)
{
	return ((struct sim_data *)(uintptr_t)h)->bytes;
}

/* ------------------------------------------------------------------ requests of clients */

struct pending {
	struct list link;
	struct snode *n;
	uint64_t life_nr;
	bool done;
	reply_fn fn;
	void *arg;
	struct fs_request rq;
};

uint64_t node_request(
	struct sim *s, struct snode *n, const struct fs_request *rq, reply_fn fn, void *arg)
{
	struct pending *p = sim_alloc(s, sizeof(*p));
	struct event ev = {.type = EV_REQUEST};

	p->n = n;
	p->life_nr = n->life_nr;
	p->fn = fn;
	p->arg = arg;
	p->rq = *rq;
	p->rq.time_ns += WALL;
	ev.tag = TAG_CLIENT | (uint64_t)(uintptr_t)p;
	ev.rq = &p->rq;
	shell_asks(s, n, rq);
	node_feed(s, n, &ev);
	return TAG_CLIENT | (uint64_t)(uintptr_t)p;
}

static void on_reply(struct sim *s, struct snode *n, uint64_t tag, struct fs_reply *rp)
{
	struct pending *p = (struct pending *)(uintptr_t)(tag & ~TAG_CLIENT);

	if (p->done)
		sim_fail(s, "node %u: a request was answered twice", n->id);
	p->done = true;
	if (!rp->err && rp->attr.ino)
		shell_shows(n, &rp->attr);
	p->fn(s, p->arg, rp);
}

/* ------------------------------------------------------------------ the data path */

struct sop {
	struct list link;
	struct snode *n;
	struct dp_op op;
	uint8_t *buf;
	uint8_t *image;
	uint32_t image_bytes;
	uint64_t handle; /* while the core has it */
	uint32_t handle_bytes;
	uint32_t left;	 /* commands outstanding */
	enum lun_status worst;
	struct fs_request rq;
	data_fn fn; /* NULL: told already (dp_given_up) */
	void *arg;
};

static void sop_verdict(struct sim *s, struct sop *o, enum dp_verdict v);

static struct dp_now now_of(struct sim *s)
{
	return (struct dp_now){s->now_ns, (int64_t)s->now_ns + WALL};
}

static void op_events(struct sim *s, struct snode *n, struct dp_op *op)
{
	struct event ev = {0};

	while (dp_op_event(op, &ev)) {
		ev.tag = TAG_DATA | (uint64_t)(uintptr_t)container_of(op, struct sop, op);
		node_feed(s, n, &ev);
		memset(&ev, 0, sizeof(ev));
	}
}

static void post_events(struct sim *s, struct snode *n)
{
	struct event ev = {0};

	while (n->up && dp_next_event(n->dp, &ev)) {
		node_feed(s, n, &ev);
		memset(&ev, 0, sizeof(ev));
	}
}

static void tell_times(struct sim *s, struct snode *n, const struct effect *e)
{
	struct event ev = {0};

	if (dp_take_touched(n->dp, e->layout.ino, &ev))
		node_feed(s, n, &ev);
	ev = (struct event){.type = EV_TIMES, .tag = e->tag, .ino = e->layout.ino};
	node_feed(s, n, &ev);
}

static void run_ready(struct sim *s, struct snode *n)
{
	struct dp_op *op;

	while (n->up && (op = dp_next_ready(n->dp, s->now_ns))) {
		struct sop *o = op->owner;

		sop_verdict(s, o, dp_begin(n->dp, op, now_of(s)));
	}
}

static void after_dp(struct sim *s, struct snode *n);

static void dp_timer(struct sim *s, void *arg)
{
	struct snode *n = arg;

	if (n->dp_timer_at > s->now_ns)
		return;
	n->dp_timer_at = NEVER;
	run_ready(s, n);
	after_dp(s, n);
}

/* Events may be made and ops may be ready after any call into dp: the daemon's data thread looks, too. */
static void after_dp(struct sim *s, struct snode *n)
{
	uint64_t d;

	post_events(s, n);
	if (!n->up)
		return;
	if (s->verbose || s->steps % (4 * CHECK_EVERY) == 0)
		dp_check(n->dp);
	d = dp_deadline(n->dp);
	if (d < s->now_ns + 1000)
		d = s->now_ns + 1000;
	if (d >= n->dp_timer_at)
		return;
	n->dp_timer_at = d;
	sim_at_node(s, n, d, dp_timer, n);
}

static void seg_done(struct sim *s, struct snode *n, void *arg, enum lun_status st)
{
	struct sop *o = arg;

	o->worst = dp_worst(o->worst, st);
	if (--o->left)
		return;
	sop_verdict(s, o, dp_done(n->dp, &o->op, o->worst, now_of(s)));
}

/* It keeps what it has from one phase of an operation to the next. */
static void image_room(struct sop *o)
{
	uint32_t need = o->op.img_len ? o->op.img_len : 1;
	uint8_t *room;

	if (o->image_bytes >= need)
		return;
	csv_assert(need <= IMAGE_BYTES_MAX);
	room = calloc(1, need);
	if (o->image_bytes)
		memcpy(room, o->image, o->image_bytes);
	free(o->image);
	o->image = room;
	o->image_bytes = need;
}

static uint8_t *image_of(struct sop *o)
{
	struct dp_op *op = &o->op;

	image_room(o);
	if (op->io_write && !op->bounce)
		memcpy(o->image, o->buf, op->len);
	if (op->io_write && op->bounce)
		dp_fill(op, o->image, o->buf);
	return o->image;
}

static void sop_submit(struct sim *s, struct sop *o)
{
	struct dp_op *op = &o->op;
	uint8_t *image = image_of(o);

	o->left = op->seg_count;
	o->worst = LUN_OK;
	for (uint32_t i = 0; i < op->seg_count; i++)
		lun_io(s, o->n, op->io_write, op->io_fua, op->segs[i].lun_off, op->segs[i].len,
			image + op->segs[i].buf_off, seg_done, o);
}

static void sop_handover(struct sim *s, struct sop *o)
{
	struct dp_op *op = &o->op;
	struct event ev = {.type = EV_BLOCK, .tag = TAG_DATA | (uint64_t)(uintptr_t)o};

	if (o->handle_bytes < op->img_len) {
		sim_data_put(o->handle);
		o->handle = sim_data_new(image_of(o), op->img_len);
		o->handle_bytes = op->img_len;
	} else {
		memcpy(sim_data_bytes(o->handle), image_of(o), op->img_len);
	}
	ev.block.write = op->io_write;
	ev.block.fua = op->io_fua;
	ev.block.unknown = op->io_unknown && op->io_write;
	ev.block.conflict = op->io_unknown && op->io_conflict;
	ev.block.told = op->io_told;
	ev.block.refused = op->io_refused;
	ev.block.rights = op->rights;
	ev.block.ino = op->ino;
	ev.block.segs = op->segs;
	ev.block.seg_count = op->seg_count;
	ev.block.data = o->handle;
	ev.block.len = op->img_len;
	node_feed(s, o->n, &ev);
}

static void sop_ask(struct sim *s, struct sop *o, bool append)
{
	struct event ev = {.type = EV_REQUEST, .tag = TAG_DATA | (uint64_t)(uintptr_t)o};

	memset(&o->rq, 0, sizeof(o->rq));
	o->rq.op = append ? FS_APPEND : FS_LAYOUT_GET;
	o->rq.ino = o->op.ino;
	o->rq.len = o->op.len;
	if (append)
		o->rq.lock.handle = o->op.handle;
	if (!append) {
		o->rq.off = o->op.need_off;
		o->rq.len = o->op.need_len;
		o->rq.flags = (o->op.need_near ? FS_LAYOUT_NEAR : FS_LAYOUT_AROUND) |
			      (o->op.need_write ? FS_LAYOUT_WRITE : 0) | (o->op.need_edge ? FS_LAYOUT_EDGE : 0);
	}
	o->rq.time_ns = (int64_t)s->now_ns + WALL;
	ev.rq = &o->rq;
	node_feed(s, o->n, &ev);
}

static void sop_end(struct sim *s, struct sop *o)
{
	struct snode *n = o->n;
	data_fn fn = o->fn;
	void *arg = o->arg;
	int32_t result = o->op.result;

	if (!o->op.write && result > 0)
		memcpy(o->buf, o->image + o->op.skip, (uint32_t)result);
	list_del(&o->link);
	sim_data_put(o->handle);
	free(o->image);
	after_dp(s, n);
	sim_free(o);
	s->data_ops++;
	if (fn)
		fn(s, arg, result);
}

static void sop_verdict(struct sim *s, struct sop *o, enum dp_verdict v)
{
	struct snode *n = o->n;
	struct event ev = {0};

	op_events(s, n, &o->op);
	switch (v) {
	case DP_DONE:
		if (!o->op.write) {
			image_room(o);
			dp_fill(&o->op, o->image, NULL);
		}
		sop_end(s, o);
		return;
	case DP_SUBMIT:
		sop_submit(s, o);
		break;
	case DP_HANDOVER:
		sop_handover(s, o);
		break;
	case DP_NEED_LAYOUT:
		sop_ask(s, o, false);
		break;
	case DP_NEED_APPEND:
		sop_ask(s, o, true);
		break;
	case DP_COMMIT:
		ev.type = EV_COMMIT;
		ev.tag = TAG_DATA | (uint64_t)(uintptr_t)o;
		ev.range.ino = o->op.range.ino;
		ev.range.off = o->op.range.off;
		ev.range.len = o->op.range.len;
		ev.range.size = o->op.range.size;
		ev.range.mtime_ns = o->op.range.mtime_ns;
		ev.range.rights = o->op.rights;
		node_feed(s, n, &ev);
		break;
	case DP_WAIT:
		break;
	}
	after_dp(s, n);
}

void node_io_as(struct sim *s, struct snode *n, const struct dp_op *like, uint8_t *buf, data_fn fn, void *arg)
{
	struct sop *o = sim_alloc(s, sizeof(*o));

	dp_op_init(&o->op);
	o->n = n;
	o->buf = buf;
	o->fn = fn;
	o->arg = arg;
	o->op.ino = like->ino;
	o->op.handle = like->handle;
	o->op.off = like->off;
	o->op.len = like->len;
	o->op.write = like->write;
	o->op.append = like->append;
	o->op.dsync = like->dsync;
	o->op.sync = like->sync;
	o->op.atime = like->atime;
	o->op.zero = like->zero;
	o->op.owner = o;
	list_add_tail(&o->link, &n->ops);
	sop_verdict(s, o, dp_begin(n->dp, &o->op, now_of(s)));
}

void node_io(struct sim *s, struct snode *n, uint64_t ino, uint64_t handle, bool write, bool dsync, uint64_t off,
	uint32_t len, uint8_t *buf, data_fn fn, void *arg)
{
	struct dp_op like = {.ino = ino, .handle = handle, .write = write, .dsync = dsync, .off = off,
		.len = len};

	node_io_as(s, n, &like, buf, fn, arg);
}

/* As datapath_io_interrupt() does it. */
void node_io_cancel(struct sim *s, struct snode *n, const void *arg)
{
	struct event ev = {.type = EV_CANCEL};
	struct sop *o = NULL;

	list_for_each_entry (x, &n->ops, struct sop, link) {
		if (x->arg == arg)
			o = x;
	}
	if (!o)
		return;
	if (dp_cancel(n->dp, &o->op)) {
		op_events(s, n, &o->op);
		sop_end(s, o);
		return;
	}
	switch (o->op.state) {
	case DP_ST_ASK:
	case DP_ST_APPEND:
	case DP_ST_CORE:
	case DP_ST_COMMIT:
		ev.tag = TAG_DATA | (uint64_t)(uintptr_t)o;
		node_feed(s, n, &ev);
		return;
	default:
		return; /* ends by itself, soon */
	}
}

static struct sop *sop_of(uint64_t tag)
{
	return (struct sop *)(uintptr_t)(tag & ~TAG_DATA);
}

static void data_reply(struct sim *s, const struct effect *e)
{
	struct sop *o = sop_of(e->tag);
	struct dp_now t = now_of(s);

	if (o->rq.op == FS_APPEND) {
		dp_place_version(&o->op, e->reply->attr.version);
		sop_verdict(s, o, dp_append_done(o->n->dp, &o->op, e->reply->err, e->reply->off, t));
		return;
	}
	sop_verdict(s, o, dp_layout_done(o->n->dp, &o->op, e->reply->err, t));
}

void nodes_say_stuck(struct sim *s)
{
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		struct snode *n = &s->n[i];
		struct event ev = {.type = EV_CTL, .ctl.op = CTL_STATE};

		if (!n->up)
			continue;
		list_for_each_entry(o, &n->ops, struct sop, link)
			sim_log(s, "n%u: %s of ino %lx at %lu, %u bytes: state %d, cause %d, inside %d, gate %d",
				i, o->op.write ? "write" : "read", o->op.ino, o->op.off, o->op.len,
				(int)o->op.state, (int)o->op.cause, o->op.inside,
				(int)dp_gate_now(n->dp, s->now_ns));
		node_feed(s, n, &ev);
	}
}

/* ------------------------------------------------------------------ effects */

/* Effects are carried out after the step, since they may lead to another one. */
struct later {
	struct snode *n;
	struct effect e;
	struct fs_reply reply;
};

static void late_reply(struct sim *s, void *arg)
{
	struct later *l = arg;

	l->e.reply = &l->reply;
	if (l->e.tag & TAG_DATA)
		data_reply(s, &l->e);
	else
		on_reply(s, l->n, l->e.tag, &l->reply);
	sim_free(l);
}

static void late_block(struct sim *s, void *arg)
{
	struct later *l = arg;
	struct sop *o = sop_of(l->e.tag);

	if (l->e.type == FX_BLOCK_DONE && l->e.block.lands) {
		data_fn fn = o->fn;
		void *arg = o->arg;

		dp_given_up(l->n->dp, &o->op);
		o->fn = NULL;
		o->arg = NULL;
		fn(s, arg, l->e.block.err);
	} else if (l->e.type == FX_BLOCK_DONE)
		sop_verdict(s, o, dp_block_done(l->n->dp, &o->op, l->e.block.err, now_of(s)));
	else
		sop_verdict(s, o, dp_block_retry(l->n->dp, &o->op, now_of(s)));
	sim_free(l);
}

static void defer(struct sim *s, struct snode *n, const struct effect *e, sim_fn fn)
{
	struct later *l = sim_alloc(s, sizeof(*l));

	l->n = n;
	l->e = *e;
	if (e->type == FX_REPLY) {
		const struct fs_reply *r = e->reply;

		l->reply = *r;
		if (r->data_len) {
			l->reply.data = sim_alloc(s, r->data_len);
			memcpy(l->reply.data, r->data, r->data_len);
		}
		l->reply.extents = NULL;
	}
	sim_at_node(s, n, s->now_ns, fn, l);
}

static void on_exit_effect(struct sim *s, struct snode *n, const struct effect *e)
{
	sim_log(s, "node %u exits (%d): %.*s", n->id, e->net.err, (int)e->net.len,
		(const char *)e->net.bytes);
	if (e->net.err && !n->stopping)
		sim_fail(s, "node %u gave up: %.*s", n->id, (int)e->net.len,
			(const char *)e->net.bytes);
	node_stop(s, n);
	leave_exited(s, n);
}

static void block_data(const struct effect *e)
{
	struct sop *o = sop_of(e->tag);

	image_room(o);
	csv_assert(e->blockdata.buf_off + e->blockdata.len <= o->image_bytes);
	memcpy(o->image + e->blockdata.buf_off, sim_data_bytes(e->blockdata.data), e->blockdata.len);
}

static void put_layout(struct sim *s, struct snode *n, const struct effect *e)
{
	static const char *const names[] = {"a hole", "unwritten", "written", "shared"};

	for (uint32_t i = 0; s->verbose && i < e->layout.extent_count; i++) {
		const struct fs_extent *x = &e->layout.extents[i];

		sim_log(s, "%s: layout of ino %lx: %lu+%lu is %s%s", n->name, e->layout.ino, x->off / 512,
			x->len / 512, names[x->state & 3], x->edge ? ", nobody else writes" : "");
	}
	/* Who slept finds what was granted to it before others went on without it, and forgets that before it does any I/O. */
	if (n->woke_ns != s->now_ns)
		registers_size_seen(s, e->layout.ino, e->layout.size);
	(void)dp_layout_put(n->dp, e->layout.ino, e->layout.off, e->layout.len, e->layout.size,
		e->layout.extents, e->layout.extent_count);
	dp_layout_version(n->dp, e->layout.ino, e->layout.version);
	dp_layout_shown(n->dp, e->layout.ino, e->layout.shown);
}

static void put_size(struct snode *n, const struct effect *e)
{
	dp_layout_size(n->dp, e->layout.ino, e->layout.size);
	dp_layout_shown(n->dp, e->layout.ino, e->layout.shown);
}

static void answer(struct sim *s, struct snode *n, const struct effect *e)
{
	if ((e->tag & TAG_DATA) && !e->reply->err && sop_of(e->tag)->rq.op == FS_LAYOUT_GET)
		dp_answered(n->dp, &sop_of(e->tag)->op);
	defer(s, n, e, late_reply);
}

static void drop_layout(struct sim *s, struct snode *n, const struct effect *e)
{
	if (s->verbose)
		sim_log(s, "%s: layout of ino %lx is dropped", n->name, e->layout.ino);
	if (e->layout.ino)
		dp_layout_drop(n->dp, e->layout.ino);
	else
		dp_layout_drop_all(n->dp);
}

static void carry_out(struct sim *s, struct snode *n, const struct effect *e)
{
	switch (e->type) {
	case FX_LUN:
		lun_submit(s, n, e);
		return;
	case FX_PATH_OPEN:
		lun_path_open(s, n);
		return;
	case FX_PATH_CLOSE:
		lun_path_close(s, n);
		return;
	case FX_CPG_SEND:
		cluster_send(s, n, e->net.bytes, e->net.len);
		return;
	case FX_CPG_JOIN:
		cluster_join(s, n);
		return;
	case FX_NET_CONNECT:
		net_connect(s, n, e);
		return;
	case FX_NET_SEND:
		net_send(s, n, e);
		return;
	case FX_NET_CLOSE:
		net_close(s, n, e->net.conn);
		return;
	case FX_REPLY:
		answer(s, n, e);
		return;
	case FX_BLOCK_DONE:
	case FX_BLOCK_RETRY:
		defer(s, n, e, late_block);
		return;
	case FX_BLOCK_DATA:
		block_data(e);
		return;
	case FX_LAYOUT_PUT:
		put_layout(s, n, e);
		return;
	case FX_LAYOUT_SIZE:
		put_size(n, e);
		return;
	case FX_TIMES:
		tell_times(s, n, e);
		return;
	case FX_LAYOUT_CLOSE:
		dp_layout_close(n->dp, e->layout.ino);
		return;
	case FX_LAYOUT_DROP:
		drop_layout(s, n, e);
		return;
	case FX_LOCKS_LOST:
		dp_handles_lost(n->dp, e->lost.handles, e->lost.count);
		return;
	case FX_GATE:
		dp_rights(n->dp, e->gate.rights);
		dp_gate(n->dp, e->gate.gate, e->gate.lease_ns);
		dp_pause(n->dp, e->gate.paused);
		return;
	case FX_DATA_FREE:
		sim_data_put(e->data);
		return;
	case FX_CTL_REPLY:
		admin_answered(s, n, e);
		return;
	case FX_INVAL:
		return; /* there is no kernel */
	case FX_EXIT:
		on_exit_effect(s, n, e);
		return;
	}
}

static void timer(struct sim *s, void *arg)
{
	struct snode *n = arg;
	struct event ev = {.type = EV_TIMER};

	if (n->timer_at > s->now_ns)
		return;
	n->timer_at = NEVER;
	node_feed(s, n, &ev);
}

static void set_timer(struct sim *s, struct snode *n)
{
	uint64_t d = node_deadline(n->core);

	if (d == NEVER)
		return;
	/* Time passes between two steps: a core that always says "now" shows as a run without end. */
	if (d < s->now_ns + 10000)
		d = s->now_ns + 10000;
	if (d >= n->timer_at)
		return;
	n->timer_at = d;
	sim_at_node(s, n, d, timer, n);
}

struct held_event {
	struct list link;
	struct event ev;
};

/*
 * A term begins: whoever has not reclaimed by now is given up, be it that it was fenced, or that it has no path and
 * no way to the new coordinator. In a term, too, the rights of a node that is away end. What it had not synced may go. It
 * hears of it when it is back, unless it held nothing by then but open files: what it has open stays, but for a file
 * without a name that it alone kept.
 */
static void rights_ended(struct sim *s, struct snode *n)
{
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		if (i == n->id || !s->n[i].up || !node_gave_up(n->core, i))
			continue;
		load_node_evicted(s, &s->n[i]);
		edges_node_evicted(s, &s->n[i]);
		s->n[i].losses++;
		s->append_failed = true;
	}
}

static void office_lost(struct sim *s, struct snode *n)
{
	if (n->office > s->served_epoch && n->office > s->lost_epoch)
		s->lost_epoch = n->office;
	n->office = 0;
}

static void offices(struct sim *s, struct snode *n)
{
	enum node_office office = node_office(n->core);

	if (node_served_epoch(n->core) > s->served_epoch)
		s->served_epoch = node_served_epoch(n->core);
	if (office == OFFICE_SERVES && node_epoch(n->core) > s->office_epoch)
		s->office_epoch = node_epoch(n->core);
	if (office == OFFICE_SERVES || office == OFFICE_DRAINS)
		n->office = node_epoch(n->core);
	else if (office == OFFICE_LOST)
		office_lost(s, n);
	else
		n->office = 0;
}

/*
 * An office that was lost before anybody was served, and had said in its claim that it counts, takes from all what they hold: a known gap
 * (PROTOCOL.md). One that was given up in order takes nothing from anybody who was served in the one before it.
 */
static bool by_a_lost_office(const struct sim *s, uint64_t served)
{
	return s->served_epoch != s->office_epoch && s->lost_epoch > served;
}

static void one_step(struct sim *s, struct snode *n, struct event *ev)
{
	uint64_t life = n->life_nr;
	bool serves = node_coordinates(n->core);
	uint32_t ended = node_rights_ended(n->core);
	uint64_t served = node_served_epoch(n->core);

	ev->now_ns = s->now_ns;
	ev->wall_ns = (int64_t)s->now_ns + WALL;
	node_step(n->core, ev, &n->fx);
	/*
	 * What is wrong stays wrong: a look now and then finds it, and costs a quarter of the time less. A
	 * replay looks after each step.
	 */
	if (s->verbose || s->steps % CHECK_EVERY == 0)
		node_check(n->core);
	if (!serves && node_coordinates(n->core))
		rights_ended(s, n);
	offices(s, n);
	gone_look(s, n);
	/* Who coordinated has lost its opens with its epoch, if others served before it was back. */
	if (serves && !node_coordinates(n->core))
		n->losses++;
	if (node_rights_ended(n->core) != ended)
		rights_ended(s, n);
	for (uint32_t i = 0; i < n->fx.count && n->up && n->life_nr == life; i++)
		carry_out(s, n, &n->fx.fx[i]);
	if (n->up && n->life_nr == life && node_evictions(n->core) != n->evictions) {
		n->evictions = node_evictions(n->core);
		n->evicted_ns = s->now_ns;
		n->losses++;
		s->append_failed = true;
		sim_log(s, "node %u was EVICTED", n->id);
		if (s->plan.well && !s->healing && !by_a_lost_office(s, served))
			sim_fail(s, "n%u was up and well, and has lost its rights", n->id);
		load_node_evicted(s, n);
		locks_node_evicted(s, n);
		edges_node_evicted(s, n);
	}
	if (n->up && n->life_nr == life)
		after_dp(s, n);
	if (s->plan.only_harmless && s->settled_epoch && !s->healing && n->up &&
		node_epoch(n->core) > s->settled_epoch)
		sim_fail(s, "a healthy coordinator has lost its epoch: %lu -> %lu", s->settled_epoch,
			node_epoch(n->core));
}

/*
 * Events are taken in the order in which they were fed, one step after the other: what a
 * carried-out effect causes at once (the data path's events) comes behind the step it belongs to.
 */
void node_feed(struct sim *s, struct snode *n, struct event *ev)
{
	struct held_event *h;

	if (!n->up || s->failed)
		return;
	if (n->busy) {
		h = sim_alloc(s, sizeof(*h));
		h->ev = *ev;
		list_add_tail(&h->link, &n->inbox);
		return;
	}
	n->busy = true;
	one_step(s, n, ev);
	while (n->up && !s->failed && !list_empty(&n->inbox)) {
		h = list_first_entry(&n->inbox, struct held_event, link);
		list_del(&h->link);
		one_step(s, n, &h->ev);
		sim_free(h);
	}
	n->busy = false;
	if (!n->up || s->failed)
		return;
	set_timer(s, n);
	if (!n->ready && node_ready(n->core)) {
		n->ready = true;
		load_node_up(s, n);
		locks_node_up(s, n);
		more_node_up(s, n);
		leases_node_up(s, n);
		edges_node_up(s, n);
		bulk_node_up(s, n);
		crowds_node_up(s, n);
	}
}

/* ------------------------------------------------------------------ life and death */

static void trace_sink(void *ctx, enum trace_level level, const char *line)
{
	struct snode *n = ctx;

	(void)level;
	sim_log(n->s, "%s: %s", n->name, line);
}

static struct trace traces[SIM_NODES_MAX + 1];

void node_start(struct sim *s, struct snode *n)
{
	struct node_config cfg = {.node = n->id, .port = 7660, .reservations = !s->plan.image && !s->plan.bare, .carry_elsewhere = s->plan.elsewhere,
		.cache_bytes = 8u << 20, .root_ino = s->root_ino, .expected_nodes = s->plan.nodes,
		.hold_ns = s->plan.hold_ns, .standalone = s->plan.alone, .left_behind = s->plan.bare && n->life_nr};
	struct dp_config dc = {.mem = &n->dp_mem, .data_start = s->data_start, .cluster_bytes = SIM_CLUSTER_BYTES,
		.block_bytes = s->lun.block_bytes, .hold_ns = s->plan.hold_ns, .sole_node = s->plan.alone};
	struct event ev = {.type = EV_START};

	/* In some runs next to nothing may be known: layouts go back all the time. Not drawn: no other run changes. */
	if (s->seed % 4 == 1)
		dc.extents_max = 2;
	if (s->seed % 4 == 3)
		cfg.owned_many = 1;
	/* What a node has is told in many messages, with other things between. */
	if (s->seed % 8 == 2)
		cfg.reclaim_ranges = 1;
	n->s = s;
	n->life_nr++;
	n->let_go = false;
	n->up = true;
	n->ready = n->stopping = false;
	n->paused_until = 0;
	n->timer_at = n->dp_timer_at = NEVER;
	n->evictions = n->losses = 0;
	n->office = 0;
	n->evicted_ns = s->now_ns;
	n->frozen = false;
	list_init(&n->ops);
	list_init(&n->inbox);
	if (!n->region) {
		n->region = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		n->dp_region = mmap(NULL, DP_REGION_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		n->fx.arena = malloc(EFFECTS_ARENA);
	}
	mem_init(&n->mem, n->region, REGION_BYTES);
	mem_init(&n->dp_mem, n->dp_region, DP_REGION_BYTES);
	memcpy(cfg.uuid, s->uuid, 16);
	memcpy(cfg.name, n->name, sizeof(cfg.name));
	trace_format(cfg.addr, sizeof(cfg.addr), "10.0.0.%u", n->id);
	cfg.life = prng_u64(&s->rng) | 1;
	cfg.seed = prng_u64(&s->rng);
	traces[n->id] = (struct trace){s->verbose ? TRACE_DEBUG : TRACE_ERROR, trace_sink, n};
	n->core = node_create(&cfg, &n->mem, s->verbose ? &traces[n->id] : NULL);
	n->dp = dp_create(&dc);
	if (!n->core || !n->dp) {
		sim_fail(s, "node %u: no memory to start", n->id);
		return;
	}
	sim_log(s, "node %u starts", n->id);
	node_feed(s, n, &ev);
	if (s->plan.alone)
		return;
	cluster_start(s, n, false);
	cluster_join(s, n);
}

static void down(struct sim *s, struct snode *n, bool silently)
{
	if (!n->up)
		return;
	if (silently && !s->plan.alone)
		cluster_stop(s, n);
	else if (!s->plan.alone)
		cluster_leave(s, n, n->life_nr);
	/* What a peer is doing for it ends there, whenever that is. */
	list_for_each_entry(o, &n->ops, struct sop, link) {
		if (o->handle && !o->op.handle)
			load_op_redirected(s, o->arg);
	}
	lun_node_died(s, n);
	net_node_died(s, n, silently);
	load_node_down(s, n);
	locks_node_down(s, n);
	more_node_down(s, n);
	leases_node_down(s, n);
	edges_node_down(s, n);
	bulk_node_down(s, n);
	crowds_node_down(s, n);
	admins_node_down(s, n);
	n->up = false;
	office_lost(s, n);
	n->let_go = node_has_let_go(n->core);
	n->life_nr++;
	list_for_each_entry_safe(o, tmp, &n->ops, struct sop, link) {
		list_del(&o->link);
		sim_data_put(o->handle);
		free(o->image);
	}
	if (lun_idle_of(s, n->id))
		load_node_drained(s, n->id);
}

static void token_lost(struct sim *s, void *arg)
{
	cluster_change(s);
}

void node_crash(struct sim *s, struct snode *n)
{
	sim_log(s, "node %u CRASHES", n->id);
	down(s, n, true);
	sim_at(s, s->now_ns + 1 * SEC + draw(s, 500) * MS, token_lost, NULL);
}

void node_kill(struct sim *s, struct snode *n)
{
	sim_log(s, "node %u: daemon KILLED", n->id);
	down(s, n, false);
}

void node_stop(struct sim *s, struct snode *n)
{
	down(s, n, false);
}
