/* SPDX-License-Identifier: GPL-2.0-or-later */
/* node_ctl.c - what an administrator asks: state as JSON, move, pause, redirect. */
#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/node_int.h"

#define STATE_MAX 8192

struct text {
	char *p;
	size_t len, room;
};

static void add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	t->len += trace_vformat(t->p + t->len, t->room - t->len, fmt, ap);
	va_end(ap);
}

/* Text from elsewhere (names, reasons) as a JSON string. */
static void add_string(struct text *t, const char *s)
{
	add(t, "\"");
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			add(t, "\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			add(t, "\\u%04x", (unsigned)(unsigned char)*s);
		else
			add(t, "%c", *s);
	}
	add(t, "\"");
}

static void add_member(struct text *t, const struct member_node *m)
{
	add(t, "{\"id\":%u,\"name\":", m->node);
	add_string(t, m->heard ? m->state.name : "");
	add(t, ",\"path\":");
	add_string(t, m->heard ? member_path_name(m->state.path) : "unknown");
	add(t, ",\"role\":");
	add_string(t, m->heard ? member_role_name(m->state.role) : "unknown");
	add(t, "}");
}

static void add_cluster(struct node *n, struct text *t)
{
	const struct member_view *v = member_view(&n->member);
	struct takeover_coordinator c = takeover_coordinator(n->tk);
	bool first = true;

	add(t, ",\"coordinator\":");
	if (c.node)
		add_string(t, c.name ? c.name : "");
	else
		add(t, "null");
	add(t, ",\"coordinator_id\":%u,\"epoch\":%lu,\"takeover\":", c.node, takeover_epoch(n->tk));
	add_string(t, takeover_state_name(takeover_state(n->tk)));
	add(t, ",\"takeover_reason\":");
	add_string(t, takeover_reason(n->tk));
	add(t, ",\"quorate\":%s,\"view\":%lu,\"members\":[", v->quorate ? "true" : "false",
		v->number);
	for (uint32_t i = 0; i < v->count; i++) {
		const struct member_node *m = member_find(&n->member, v->nodes[i]);

		if (!m)
			continue;
		if (!first)
			add(t, ",");
		first = false;
		add_member(t, m);
	}
	add(t, "]");
}

static void add_counters(struct node *n, struct text *t)
{
	struct client_stats cs;
	uint64_t stall, block_stall;

	client_get_stats(n->client, &cs);
	stall = cs.longest_stall_ns;
	block_stall = cs.block_longest_stall_ns;
	if (cs.oldest_ns != NEVER && n->now_ns - cs.oldest_ns > stall)
		stall = n->now_ns - cs.oldest_ns;
	if (cs.block_oldest_ns != NEVER && n->now_ns - cs.block_oldest_ns > block_stall)
		block_stall = n->now_ns - cs.block_oldest_ns;
	add(t, ",\"files_open\":%u", n->files.count);
	add(t, ",\"held\":{\"metadata\":%u,\"data\":%u,\"data_at_peer\":%u,\"data_unknown\":%u}",
		cs.queued + cs.ready + cs.sent, cs.block_held + cs.block_sent + cs.block_unknown,
		cs.block_sent, cs.block_unknown);
	add(t,
		",\"core_bytes\":{\"redirected_read\":%lu,\"redirected_written\":%lu,"
		"\"served_read\":%lu,\"served_written\":%lu}",
		cs.block_read_bytes, cs.block_write_bytes, n->stats.served_read_bytes,
		n->stats.served_write_bytes);
	add(t, ",\"core_ops\":{\"metadata\":%lu,\"redirected\":%lu,\"served\":%lu}", cs.requests,
		cs.block_ops, n->stats.served_ops);
	add(t, ",\"core_stall_ms\":{\"metadata\":%lu,\"data\":%lu}", stall / NS_PER_MS,
		block_stall / NS_PER_MS);
	add(t, ",\"takeovers\":%lu", n->stats.takeovers);
	add(t, ",\"cache\":{\"inodes\":%u,\"names\":%u,\"answers\":%lu,\"leases\":%u,\"recalled\":%lu}",
		n->cache.ino_count, n->cache.name_count, n->cache.hits, n->cache_leases.count,
		n->cache_leases.recalled);
	add(t, ",\"locks\":{\"held\":%u,\"requests\":%lu,\"held_of_all\":%u,\"waiting_of_all\":%u}",
		n->held.count, n->lock_seq, n->locks.count, n->locks.waits);
}

static void add_uuid(struct text *t, const uint8_t u[16])
{
	for (int i = 0; i < 16; i++)
		add(t, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", (unsigned)u[i]);
}

static void add_engine(struct node *n, struct text *t)
{
	struct vol_stats vs;
	struct vol_scrub sc;

	add(t, ",\"lun_bytes\":%lu", n->path.lun_bytes);
	if (!n->vol)
		return;
	if (vol_super(n->vol))
		add(t, ",\"volume_bytes\":%lu", le64_get(vol_super(n->vol)->volume_bytes));
	vol_get_scrub(n->vol, &sc);
	add(t, ",\"scrub\":{\"running\":%s,\"checked\":%lu,\"found\":%lu,\"repaired\":%lu}",
		sc.running ? "true" : "false", sc.checked, sc.found, sc.repaired);
	vol_get_stats(n->vol, &vs);
	add(t,
		",\"engine\":{\"commits\":%lu,\"checkpoints\":%lu,\"journal_used_blocks\":%lu,"
		"\"journal_blocks\":%lu,\"cache_hits\":%lu,\"cache_misses\":%lu}",
		vs.commits, vs.checkpoints, vs.journal_used_blocks, vs.journal_blocks,
		vs.cache_hits, vs.cache_misses);
}

/* The shell adds what only the data threads know (data path counters) before the last brace. */
static void state(struct node *n, struct text *t)
{
	add(t, "{\"node\":");
	add_string(t, n->cfg.name);
	add(t, ",\"id\":%u,\"volume\":\"", n->cfg.node);
	add_uuid(t, n->cfg.uuid);
	add(t, "\",\"standalone\":%s", n->cfg.standalone ? "true" : "false");
	add_cluster(n, t);
	add(t, ",\"mode\":");
	add_string(t, node_mode_name(n));
	add(t, ",\"reason\":");
	add_string(t, n->mode_reason);
	add(t, ",\"since_ns\":%lu", (uint64_t)n->mode_since_ns);
	if (n->mode == IO_BLOCK_REDIRECTED && client_block_session(n->client)) {
		add(t, ",\"through\":");
		add_string(t, client_block_session(n->client)->name);
	}
	add(t, ",\"path\":");
	add_string(t, io_path_state_name(n->path.st));
	add(t, ",\"path_reason\":");
	add_string(t, n->path.reason);
	add(t, ",\"incarnation\":%u,\"path_losses\":%u", n->path.incarnation, n->path.lost_count);
	add_counters(n, t);
	add_engine(n, t);
	add(t, "}");
}

static void reply(uint64_t tag, int32_t err, const char *text, size_t len, struct effects *fx)
{
	struct effect *e = effects_add(fx, FX_CTL_REPLY, tag);

	e->net.err = err;
	e->net.bytes = text;
	e->net.len = (uint32_t)len;
}

static void reply_text(uint64_t tag, int32_t err, const char *text, struct effects *fx)
{
	reply(tag, err, text, strlen(text), fx);
}

static void move_to(struct node *n, const struct event *ev, struct effects *fx)
{
	const struct member_node *m = member_named(&n->member, ev->ctl.name);
	int err = m ? takeover_move(n->tk, m->node, fx) : -ENOENT;

	switch (err) {
	case 0:
		reply_text(ev->tag, 0, "moving", fx);
		return;
	case -EALREADY:
		reply_text(ev->tag, 0, "that node coordinates already", fx);
		return;
	case -ENOENT:
		reply_text(ev->tag, err, "no node of that name has this volume mounted", fx);
		return;
	case -ENODEV:
		reply_text(ev->tag, err, "that node has no path to the LUN", fx);
		return;
	case -EBUSY:
		reply_text(ev->tag, err,
			"that node could not take over a moment ago: try again in 15 s", fx);
		return;
	default:
		reply_text(ev->tag, err, "nobody coordinates just now: try again in a moment", fx);
		return;
	}
}

static void redirect(struct node *n, const struct event *ev, struct effects *fx)
{
	const char *text = "data of this node goes direct when its path is up";

	n->admin_redirect = ev->ctl.on;
	if (ev->ctl.on)
		text = "data of this node goes through the coordinator (which stays direct)";
	else if (io_path_trust(&n->path, n->now_ns))
		text = "data of this node goes direct; its path, which came and went, is used at once";
	else if (n->path.st == PST_UP)
		text = "data of this node goes direct";
	reply_text(ev->tag, 0, text, fx);
}

void node_ctl(struct node *n, const struct event *ev, struct effects *fx)
{
	struct text t = {.room = STATE_MAX};

	switch (ev->ctl.op) {
	case CTL_STATE:
		t.p = effects_alloc(fx, STATE_MAX);
		t.p[0] = 0;
		state(n, &t);
		reply(ev->tag, 0, t.p, t.len, fx);
		return;
	case CTL_MOVE:
		move_to(n, ev, fx);
		return;
	case CTL_PAUSE:
		n->admin_pause = true;
		reply_text(ev->tag, 0, "I/O of this node is held until csvctl resume", fx);
		return;
	case CTL_RESUME:
		n->admin_pause = false;
		reply_text(ev->tag, 0, "I/O goes on", fx);
		return;
	case CTL_REDIRECT:
		redirect(n, ev, fx);
		return;
	case CTL_GROW:
	case CTL_SCRUB:
		node_admin_request(n, ev->tag, &ev->ctl, fx);
		return;
	case CTL_CAPACITY:
		break;
	}
	reply_text(ev->tag, -EINVAL, "unknown request", fx);
}
