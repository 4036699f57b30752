/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_admin.c - what an administrator asks on any node and the coordinator carries out: grow, scrub.
 *
 * A node that does not coordinate sends the request on (MSG_CTL) and passes the answer back. If the session ends
 * meanwhile the asker is told so: what was begun is finished or was never done, asking again shows which.
 *
 * Growing, at the coordinator:
 *
 *   IDLE --asked--> ASK --every member has told how large the LUN is to it--> RUN --the engine has done it--> IDLE
 *   ASK, RUN --a refusal, no answer in time, coordination lost--> IDLE
 *
 * Rule: the volume becomes no larger than the LUN is to any member. Who comes later logs in later, and a
 * coordinator that finds the volume larger than its login told asks again (volume.c, open_size()).
 */
#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/node_int.h"
#include "metadata/problem.h"

#define ASK_NS (10 * NS_PER_SEC)
#define RETRY_NS (50 * NS_PER_MS)
#define TELL_NS (2 * NS_PER_SEC)
#define TEXT_MAX 256u
#define STATUS_MAX 4096u

/* ------------------------------------------------------------------ answers */

void node_admin_reply(struct node *n, const struct admin_asker *a, int32_t err, const char *text,
	struct effects *fx)
{
	uint32_t len = (uint32_t)strlen(text);
	char *copy = effects_alloc(fx, len + 1);
	struct msg m = {.type = MSG_CTL_REPLY, .tag = a->tag};
	struct effect *e;
	struct session *s;

	memcpy(copy, text, len + 1);
	if (!a->node) {
		e = effects_add(fx, FX_CTL_REPLY, a->tag);
		e->net.err = err;
		e->net.bytes = copy;
		e->net.len = len;
		return;
	}
	m.ctl_reply.err = err;
	m.ctl_reply.text = copy;
	m.ctl_reply.text_len = len;
	s = n->coord && n->coord->peer == a->node ? n->coord : session_from(n->sessions, a->node);
	if (s)
		(void)session_send(s, &m, 0, 0, fx);
}

/* "10.5 GiB (11274289152 bytes)" */
static const char *size_text(uint64_t bytes, char out[64])
{
	static const char *const unit[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	uint64_t whole = bytes, tenth = 0;
	uint32_t u = 0;

	while (whole >= 1024 && u < 4) {
		tenth = whole % 1024 * 10 / 1024;
		whole /= 1024;
		u++;
	}
	if (!u)
		trace_format(out, 64, "%lu bytes", bytes);
	else
		trace_format(out, 64, "%lu.%lu %s (%lu bytes)", whole, tenth, unit[u], bytes);
	return out;
}

static const char *node_name_of(const struct node *n, uint32_t node)
{
	const struct member_node *m = member_find(&n->member, node);

	return m && m->heard && m->state.name[0] ? m->state.name : "?";
}

/* ------------------------------------------------------------------ how large is the LUN? */

static void capacity_send(struct node *n, struct effects *fx)
{
	struct effect *e;

	n->admin.size_tag = node_lun(n, TAG_NODE, LUN_CAPACITY, fx, &e);
	n->admin.size_retry_ns = NEVER;
}

static void capacity_told(struct node *n, uint64_t bytes, struct effects *fx);

/* Our answer, to whoever waits for it. bytes 0: we cannot tell. */
static void capacity_known(struct node *n, uint64_t bytes, struct effects *fx)
{
	struct admin *a = &n->admin;
	char text[32];

	a->size_tag = 0;
	a->size_retry_ns = NEVER;
	if (bytes > n->path.lun_bytes)
		n->path.lun_bytes = bytes;
	trace_format(text, sizeof(text), "%lu", bytes);
	if (a->size_asker.tag)
		node_admin_reply(
			n, &a->size_asker, bytes ? 0 : -ENODEV, bytes ? text : "no path", fx);
	a->size_asker.tag = 0;
	capacity_told(n, bytes, fx);
}

static void capacity_ask(struct node *n, struct effects *fx)
{
	if (n->admin.size_tag || n->admin.size_retry_ns != NEVER)
		return;
	n->admin.size_until_ns = n->now_ns + ASK_NS / 2;
	if (n->path.st == PST_UP)
		capacity_send(n, fx);
	else
		capacity_known(n, 0, fx);
}

bool node_admin_lun_done(struct node *n, const struct event *ev, struct effects *fx)
{
	if (!n->admin.size_tag || ev->tag != n->admin.size_tag)
		return false;
	n->admin.size_tag = 0;
	/* A unit attention: that it has changed, for example (2Ah/09h). */
	if (ev->lun.status == LUN_RETRY && n->now_ns < n->admin.size_until_ns &&
		n->path.st == PST_UP)
		n->admin.size_retry_ns = n->now_ns + RETRY_NS;
	else
		capacity_known(n, ev->lun.status == LUN_OK ? ev->lun.lun_bytes : 0, fx);
	return true;
}

/* ------------------------------------------------------------------ growing */

static void grow_end(struct node *n, int32_t err, struct effects *fx, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static void grow_end(struct node *n, int32_t err, struct effects *fx, const char *fmt, ...)
{
	char text[TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)trace_vformat(text, sizeof(text), fmt, ap);
	va_end(ap);
	trace(n->trace, err ? TRACE_WARN : TRACE_INFO, "grow: %s", text);
	node_admin_reply(n, &n->admin.grow.asker, err, text, fx);
	n->admin.grow.st = NGROW_IDLE;
}

static struct grow_member *grow_member(struct node *n, uint32_t node)
{
	for (uint32_t i = 0; i < n->admin.grow.count; i++)
		if (n->admin.grow.member[i].node == node)
			return &n->admin.grow.member[i];
	return NULL;
}

/* Asks each member that was not asked in this life of it. False: it has ended. */
static bool grow_ask(struct node *n, struct effects *fx)
{
	struct node_grow *g = &n->admin.grow;
	const struct member_view *v = member_view(&n->member);
	struct msg m = {.type = MSG_CTL, .ctl.op = CTL_CAPACITY};

	for (uint32_t i = 0; i < v->count; i++) {
		const struct member_node *o = member_find(&n->member, v->nodes[i]);
		struct grow_member *gm = grow_member(n, v->nodes[i]);
		struct session *s = session_from(n->sessions, v->nodes[i]);

		if (v->nodes[i] == n->cfg.node || (gm && o && gm->life == o->state.life))
			continue;
		if (!o || !o->heard || !s) {
			grow_end(n, -EAGAIN, fx, "node %s is not connected: try again in a moment",
				node_name_of(n, v->nodes[i]));
			return false;
		}
		if (!gm)
			gm = &g->member[g->count++];
		*gm = (struct grow_member){.node = v->nodes[i], .life = o->state.life};
		m.tag = v->nodes[i];
		(void)session_send(s, &m, 0, 0, fx);
	}
	return true;
}

/* Everybody has answered: is there a reason not to? */
static bool grow_refused(struct node *n, uint64_t was, uint64_t bytes, struct effects *fx)
{
	struct node_grow *g = &n->admin.grow;
	uint64_t most = vol_grow_max(n->vol);
	char a[64], b[64];

	if (g->own_bytes < was || (g->rq.bytes && g->rq.bytes > g->own_bytes)) {
		grow_end(n, -ENOSPC, fx,
			"the LUN has only %s; the volume has %s: grow the LUN first",
			size_text(g->own_bytes, a), size_text(was, b));
		return true;
	}
	if (bytes < was) {
		grow_end(n, -EINVAL, fx, "the volume has %s: it cannot become smaller",
			size_text(was, a));
		return true;
	}
	if (bytes == was) {
		grow_end(n, -EALREADY, fx,
			"nothing to do: the volume has %s and the LUN %s; grow the LUN first",
			size_text(was, a), size_text(g->own_bytes, b));
		return true;
	}
	for (uint32_t i = 0; i < g->count; i++) {
		if (g->member[i].bytes >= bytes || !member_present(&n->member, g->member[i].node))
			continue;
		if (!g->member[i].bytes) {
			grow_end(n, -ENODEV, fx,
				"node %s has no path to the LUN and cannot see its size: mend "
				"that, "
				"or unmount there",
				node_name_of(n, g->member[i].node));
			return true;
		}
		grow_end(n, -ESTALE, fx,
			"node %s sees only %s of the LUN: see that the target shows it the new "
			"size, "
			"or unmount there",
			node_name_of(n, g->member[i].node), size_text(g->member[i].bytes, a));
		return true;
	}
	if (bytes <= most)
		return false;
	grow_end(n, -EFBIG, fx, "mkfs.csvfs has left room for %s; ask for that size, or less",
		size_text(most, a));
	return true;
}

static void grow_begin(struct node *n, struct effects *fx)
{
	struct node_grow *g = &n->admin.grow;
	uint64_t bytes = (g->rq.bytes ? g->rq.bytes : g->own_bytes) / BLOCK_SIZE * BLOCK_SIZE;
	char a[64], b[64];

	g->was_bytes = le64_get(vol_super(n->vol)->volume_bytes);
	if (!g->rq.bytes && bytes > g->was_bytes && bytes > vol_grow_max(n->vol) &&
		vol_grow_max(n->vol) > g->was_bytes)
		bytes = vol_grow_max(n->vol);
	if (grow_refused(n, g->was_bytes, bytes, fx))
		return;
	if (g->rq.on) {
		grow_end(n, 0, fx, "would grow from %s to %s", size_text(g->was_bytes, a),
			size_text(bytes, b));
		return;
	}
	g->bytes = bytes;
	g->st = NGROW_RUN;
	n->again = true;
}

static void grow_run(struct node *n, struct effects *fx)
{
	struct node_grow *g = &n->admin.grow;
	int err = vol_grow_result(n->vol);
	char a[64], b[64];

	if (err == -EINPROGRESS)
		return;
	if (!err && le64_get(vol_super(n->vol)->volume_bytes) < g->bytes) {
		err = vol_grow(n->vol, g->own_bytes, g->bytes);
		n->again = true;
		if (!err)
			return;
	}
	if (err)
		grow_end(n, err, fx, "not grown: %s",
			err == -EROFS	 ? "the volume is read-only"
			: err == -ENOMEM ? "not enough memory"
			: err == -ENOSPC ? "no space for a block of metadata"
					 : "the metadata engine refuses it; see the log");
	else
		grow_end(n, 0, fx, "grown from %s to %s%s", size_text(g->was_bytes, a),
			size_text(g->bytes, b),
			g->bytes == vol_grow_max(n->vol) ? ", as far as mkfs.csvfs has left room"
							 : "");
}

static void grow_step(struct node *n, struct effects *fx)
{
	struct node_grow *g = &n->admin.grow;

	if (g->st == NGROW_IDLE)
		return;
	if (!n->vol || vol_state(n->vol) != VOL_READY || takeover_state(n->tk) != TK_SERVE) {
		grow_end(n, -EAGAIN, fx, "the coordinator has changed meanwhile: ask again");
		return;
	}
	if (g->st == NGROW_RUN) {
		grow_run(n, fx);
		return;
	}
	if (n->now_ns >= g->until_ns) {
		for (uint32_t i = 0; i < g->count; i++)
			if (!g->member[i].answered)
				g->late = g->member[i].node;
		grow_end(n, -ETIMEDOUT, fx, "node %s does not say how large the LUN is to it",
			node_name_of(n, g->late));
		return;
	}
	if (!grow_ask(n, fx) || !g->own_known)
		return;
	for (uint32_t i = 0; i < g->count; i++)
		if (!g->member[i].answered && member_present(&n->member, g->member[i].node))
			return;
	grow_begin(n, fx);
}

static void capacity_told(struct node *n, uint64_t bytes, struct effects *fx)
{
	struct node_grow *g = &n->admin.grow;

	if (g->st != NGROW_ASK || g->own_known)
		return;
	g->own_known = true;
	g->own_bytes = bytes;
	if (!bytes)
		grow_end(n, -ENODEV, fx, "the LUN does not tell the coordinator how large it is");
	n->again = true;
}

static void grow_start(struct node *n, const struct admin_asker *a, const struct ctl_request *rq,
	struct effects *fx)
{
	struct node_grow *g = &n->admin.grow;

	if (g->st != NGROW_IDLE) {
		node_admin_reply(n, a, -EBUSY, "the volume grows just now", fx);
		return;
	}
	memset(g, 0, sizeof(*g));
	g->st = NGROW_ASK;
	g->asker = *a;
	g->rq = *rq;
	g->late = n->cfg.node;
	g->until_ns = n->now_ns + ASK_NS;
	n->again = true;
	capacity_ask(n, fx);
}

/* ------------------------------------------------------------------ scrub */

static void scrub_tell(struct node *n, struct effects *fx)
{
	const struct member_view *v = member_view(&n->member);

	for (uint32_t i = 0; i < v->count; i++) {
		struct session *s = session_from(n->sessions, v->nodes[i]);
		struct msg m = {
			.type = MSG_CTL, .ctl = {.op = CTL_SCRUB, .on = n->admin.scrub_wanted}};

		if (s)
			(void)session_send(s, &m, 0, 0, fx);
	}
	n->admin.scrub_told = true;
	n->admin.scrub_tell_ns = n->admin.scrub_wanted ? n->now_ns + TELL_NS : NEVER;
}

/* Who comes to coordinate while one is wanted begins anew: what the other had seen nobody knows. */
static void scrub_step(struct node *n, struct effects *fx)
{
	struct admin *a = &n->admin;
	struct vol_scrub st;

	if (!n->vol || vol_state(n->vol) != VOL_READY || takeover_state(n->tk) != TK_SERVE) {
		a->scrub_started = a->scrub_told = false;
		a->scrub_tell_ns = NEVER;
		return;
	}
	/* Who had no session when it was stopped or had ended would begin it anew when he coordinates, however much later. */
	if (!a->scrub_told)
		scrub_tell(n, fx);
	if (!a->scrub_wanted)
		return;
	vol_get_scrub(n->vol, &st);
	if (!a->scrub_started) {
		if (st.running || vol_scrub(n->vol, true) == 0)
			a->scrub_started = n->again = true;
	} else if (!st.running) {
		a->scrub_wanted = a->scrub_started = false;
		scrub_tell(n, fx);
		return;
	}
	if (a->scrub_tell_ns == NEVER || a->scrub_tell_ns <= n->now_ns)
		scrub_tell(n, fx);
}

static void scrub_status(struct node *n, const struct admin_asker *a, struct effects *fx)
{
	struct vol_scrub st;
	char *t = effects_alloc(fx, STATUS_MAX);
	size_t len;

	vol_get_scrub(n->vol, &st);
	len = trace_format(t, STATUS_MAX,
		"{\"running\":%s,\"complete\":%s,\"group\":%u,\"groups\":%u,\"checked\":%lu,"
		"\"found\":%lu,\"repaired\":%lu,\"findings\":[",
		st.running ? "true" : "false", st.complete ? "true" : "false", st.group, st.groups,
		st.checked, st.found, st.repaired);
	for (uint32_t i = 0; i < st.finding_count; i++)
		len += trace_format(t + len, STATUS_MAX - len,
			"%s{\"block\":%lu,\"problem\":\"%s\",\"repaired\":%s}", i ? "," : "",
			st.finding[i].blkno, problem_name((enum problem)st.finding[i].problem),
			st.finding[i].repaired ? "true" : "false");
	(void)trace_format(t + len, STATUS_MAX - len, "]}");
	node_admin_reply(n, a, 0, t, fx);
}

static void scrub_asked(struct node *n, const struct admin_asker *a, const struct ctl_request *rq,
	struct effects *fx)
{
	int err;

	if (!strcmp(rq->name, "status")) {
		scrub_status(n, a, fx);
		return;
	}
	if (!strcmp(rq->name, "start")) {
		err = vol_scrub(n->vol, true);
		n->admin.scrub_wanted = n->admin.scrub_wanted || !err;
		n->admin.scrub_started = n->admin.scrub_wanted;
		node_admin_reply(n, a, err,
			!err		? "scrub started"
			: err == -EBUSY ? "a scrub runs already: csvctl scrub status"
			: err == -EROFS ? "the volume is mounted read-only"
					: "it cannot be started now: try again",
			fx);
	} else {
		err = vol_scrub(n->vol, false);
		n->admin.scrub_wanted = false;
		node_admin_reply(n, a, err, err ? "no scrub runs" : "scrub stopped", fx);
	}
	scrub_tell(n, fx);
	n->again = true;
}

/* ------------------------------------------------------------------ on their way */

/* Carried out here, or nowhere. */
static void serve(struct node *n, const struct admin_asker *a, const struct ctl_request *rq,
	struct effects *fx)
{
	if (!n->vol || takeover_state(n->tk) != TK_SERVE) {
		node_admin_reply(
			n, a, -EAGAIN, "nobody coordinates just now: try again in a moment", fx);
		return;
	}
	if (rq->op == CTL_SCRUB)
		scrub_asked(n, a, rq, fx);
	else
		grow_start(n, a, rq, fx);
}

void node_admin_request(
	struct node *n, uint64_t tag, const struct ctl_request *rq, struct effects *fx)
{
	struct admin_asker a = {.tag = tag};
	struct msg m = {.type = MSG_CTL, .tag = tag, .ctl = *rq};

	if (!n->coord || n->reclaim != RECLAIM_SERVED) {
		serve(n, &a, rq, fx);
		return;
	}
	for (uint32_t i = 0; i < ADMIN_SENT_MAX; i++) {
		if (n->admin.sent[i])
			continue;
		if (session_send(n->coord, &m, 0, 0, fx)) {
			n->admin.sent[i] = tag;
			return;
		}
		break;
	}
	node_admin_reply(n, &a, -EAGAIN, "the coordinator cannot be asked now: try again", fx);
}

/* True: it was taken. */
bool node_admin_message(struct node *n, struct session *s, const struct msg *m, struct effects *fx)
{
	struct admin_asker a = {.tag = m->tag, .node = s->peer};
	struct grow_member *gm;
	uint64_t bytes = 0;

	if (m->type == MSG_CTL && s == n->coord && m->ctl.op == CTL_CAPACITY && m->tag) {
		n->admin.size_asker = a;
		capacity_ask(n, fx);
		return true;
	}
	if (m->type == MSG_CTL && s == n->coord && m->ctl.op == CTL_SCRUB && !m->tag) {
		n->admin.scrub_wanted = m->ctl.on;
		return true;
	}
	if (m->type == MSG_CTL && s != n->coord && m->tag &&
		(m->ctl.op == CTL_GROW || m->ctl.op == CTL_SCRUB)) {
		serve(n, &a, &m->ctl, fx);
		return true;
	}
	if (m->type != MSG_CTL_REPLY)
		return false;
	for (uint32_t i = 0; s == n->coord && i < ADMIN_SENT_MAX; i++) {
		if (!m->tag || n->admin.sent[i] != m->tag)
			continue;
		n->admin.sent[i] = 0;
		a.node = 0;
		node_admin_reply(n, &a, m->ctl_reply.err, m->ctl_reply.text, fx);
		return true;
	}
	gm = s != n->coord && n->admin.grow.st == NGROW_ASK ? grow_member(n, s->peer) : NULL;
	for (uint32_t i = 0; i < m->ctl_reply.text_len && i < 19; i++) {
		if (m->ctl_reply.text[i] < '0' || m->ctl_reply.text[i] > '9')
			break;
		bytes = bytes * 10 + (uint64_t)(m->ctl_reply.text[i] - '0');
	}
	if (gm && !gm->answered) {
		gm->answered = true;
		gm->bytes = m->ctl_reply.err ? 0 : bytes;
	}
	return true;
}

bool node_admin_scrub_wanted(const struct node *n)
{
	return n->admin.scrub_wanted;
}

void node_admin_session_up(struct node *n)
{
	n->admin.scrub_told = false;
}

void node_admin_coord_down(struct node *n, struct effects *fx)
{
	for (uint32_t i = 0; i < ADMIN_SENT_MAX; i++) {
		struct admin_asker a = {.tag = n->admin.sent[i]};

		n->admin.sent[i] = 0;
		if (a.tag)
			node_admin_reply(n, &a, -EAGAIN,
				"the coordinator was lost meanwhile: ask again", fx);
	}
	n->admin.size_asker.tag = 0;
}

void node_admin_step(struct node *n, struct effects *fx)
{
	struct admin *a = &n->admin;

	if (a->size_retry_ns <= n->now_ns) {
		if (n->path.st == PST_UP)
			capacity_send(n, fx);
		else
			capacity_known(n, 0, fx);
	}
	grow_step(n, fx);
	scrub_step(n, fx);
}

uint64_t node_admin_deadline(const struct node *n)
{
	const struct admin *a = &n->admin;
	uint64_t d = a->size_retry_ns;

	if (a->scrub_tell_ns < d)
		d = a->scrub_tell_ns;

	if (a->grow.st == NGROW_ASK && a->grow.until_ns < d)
		d = a->grow.until_ns;
	return d;
}

void node_admin_init(struct node *n)
{
	n->admin.size_retry_ns = NEVER;
	n->admin.scrub_tell_ns = NEVER;
}
