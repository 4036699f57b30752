/* SPDX-License-Identifier: GPL-2.0-or-later */
/* client_block.c - block I/O through a peer, while this node has no path to the LUN. */
#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "redirect/client_impl.h"

/* A tag on the wire: number of the I/O, number of the piece. */
#define PIECE_BITS 16

void client_block_init(struct client *c)
{
	list_init(&c->ios);
	for (uint32_t i = 0; i < CLIENT_BUCKETS; i++)
		list_init(&c->io_bucket[i]);
}

/* ------------------------------------------------------------------ I/Os and pieces */

static bool session_alive(const struct session *s, uint32_t nr)
{
	return s && s->state == SESSION_UP && s->nr == nr;
}

static void piece_move(
	struct client *c, struct client_io *io, struct client_piece *p, enum client_piece_state to)
{
	if (p->state == CLIENT_PIECE_SENT)
		c->sent_bytes -= p->len;
	if (to == CLIENT_PIECE_SENT)
		c->sent_bytes += p->len;
	io->count[p->state]--;
	c->pieces[p->state]--;
	p->state = to;
	io->count[to]++;
	c->pieces[to]++;
}

/* What is sent is not known to have happened: the connection or the peer's path is gone. */
static void piece_lost(struct client *c, struct client_io *io, struct client_piece *p)
{
	/* B1. To read or flush again does no harm. */
	piece_move(c, io, p, io->write ? CLIENT_PIECE_UNKNOWN : CLIENT_PIECE_HELD);
}

static size_t io_bytes(uint32_t piece_count)
{
	return sizeof(struct client_io) + piece_count * sizeof(struct client_piece);
}

static void io_free(struct client *c, struct client_io *io)
{
	for (uint32_t i = 0; i < io->piece_count; i++) {
		csv_assert(io->pieces[i].state != CLIENT_PIECE_SENT);
		c->pieces[io->pieces[i].state]--;
	}
	c->expired_writes -= io->expired && io->write;
	list_del(&io->link);
	list_del(&io->hash);
	mem_free(c->cfg.mem, io, io_bytes(io->piece_count));
}

/* Nobody waits for it any more, and nothing of it can still land. */
static bool io_is_over(const struct client_io *io)
{
	return io->expired && !io->count[CLIENT_PIECE_SENT] && !io->count[CLIENT_PIECE_UNKNOWN];
}

/* B5: a write's end is told (client_block_next_over); of what has been read nobody needs to know. */
static void io_over(struct client *c, struct client_io *io)
{
	if (io_is_over(io) && !io->write)
		io_free(c, io);
}

static struct client_io *io_find(struct client *c, uint64_t nr)
{
	list_for_each_entry (io, &c->io_bucket[nr % CLIENT_BUCKETS], struct client_io, hash)
		if (io->nr == nr)
			return io;
	return NULL;
}

static uint32_t pieces_of(const struct seg *segs, uint32_t count)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < count; i++)
		n += (segs[i].len + IO_BYTES_MAX - 1) / IO_BYTES_MAX;
	return n;
}

/* A segment longer than one message carries becomes several pieces. */
static void pieces_fill(struct client_io *io, const struct seg *segs, uint32_t count)
{
	struct client_piece *p = io->pieces;

	for (uint32_t i = 0; i < count; i++) {
		for (uint32_t at = 0; at < segs[i].len; p++) {
			p->lun_off = segs[i].lun_off + at;
			p->buf_off = segs[i].buf_off + at;
			p->len = segs[i].len - at < IO_BYTES_MAX ? segs[i].len - at : IO_BYTES_MAX;
			at += p->len;
		}
	}
}

int client_block_submit(struct client *c, const struct event *ev)
{
	uint32_t n = ev->block.flush ? 1 : pieces_of(ev->block.segs, ev->block.seg_count);
	enum client_piece_state state = CLIENT_PIECE_HELD;
	struct client_io *io;

	csv_assert(n > 0);
	csv_assert(n < 1u << PIECE_BITS);
	io = mem_alloc(c->cfg.mem, io_bytes(n));
	if (!io)
		return -ENOMEM;
	io->tag = ev->tag;
	io->nr = ++c->next_io_nr;
	io->data = ev->block.data;
	io->submitted_ns = ev->now_ns;
	io->flush = ev->block.flush;
	io->write = ev->block.write && !ev->block.flush;
	io->fua = ev->block.fua && io->write;
	io->piece_count = n;
	if (!io->flush)
		pieces_fill(io, ev->block.segs, ev->block.seg_count);
	if (io->write && ev->block.unknown) {
		state = CLIENT_PIECE_UNKNOWN;
		io->ever_sent = true;
	}
	for (uint32_t i = 0; i < n; i++)
		io->pieces[i].state = state;
	io->count[state] = n;
	c->pieces[state] += n;
	c->block_ops++;
	list_add_tail(&io->link, &c->ios);
	list_add_tail(&io->hash, &c->io_bucket[io->nr % CLIENT_BUCKETS]);
	return 0;
}

/* ------------------------------------------------------------------ the peer */

void client_block_peer(struct client *c, struct session *s, uint32_t incarnation)
{
	csv_assert(!s || s->state == SESSION_UP);
	csv_assert(!s || incarnation != 0);
	c->peer = s;
	c->peer_nr = s ? s->nr : 0;
	c->incarnation = incarnation;
	client_block_lost(c);
}

void client_block_lost(struct client *c)
{
	if (!c->pieces[CLIENT_PIECE_SENT])
		return;
	/* A session that is still up will still answer what it was given. */
	list_for_each_entry_safe (io, tmp, &c->ios, struct client_io, link) {
		for (uint32_t i = 0; io->count[CLIENT_PIECE_SENT] && i < io->piece_count; i++) {
			struct client_piece *p = &io->pieces[i];

			if (p->state == CLIENT_PIECE_SENT &&
				!session_alive(p->session, p->session_nr))
				piece_lost(c, io, p);
		}
		io_over(c, io);
	}
}

const struct session *client_block_session(const struct client *c)
{
	return session_alive(c->peer, c->peer_nr) ? c->peer : NULL;
}

bool client_block_unknown(const struct client *c)
{
	return c->pieces[CLIENT_PIECE_UNKNOWN] != 0;
}

bool client_block_under_way(const struct client *c, const struct session *s)
{
	if (!c->pieces[CLIENT_PIECE_SENT])
		return false;
	list_for_each_entry (io, &c->ios, struct client_io, link) {
		for (uint32_t i = 0; io->count[CLIENT_PIECE_SENT] && i < io->piece_count; i++) {
			const struct client_piece *p = &io->pieces[i];

			if (p->state == CLIENT_PIECE_SENT && p->session == s && p->session_nr == s->nr)
				return true;
		}
	}
	return false;
}

void client_block_resend(struct client *c)
{
	list_for_each_entry_safe (io, tmp, &c->ios, struct client_io, link) {
		if (!io->count[CLIENT_PIECE_UNKNOWN])
			continue;
		for (uint32_t i = 0; i < io->piece_count; i++)
			if (io->pieces[i].state == CLIENT_PIECE_UNKNOWN)
				piece_move(c, io, &io->pieces[i], CLIENT_PIECE_HELD);
		io_over(c, io);
	}
}

/* ------------------------------------------------------------------ sending */

static bool overlap(const struct client_piece *a, const struct client_piece *b)
{
	return a->lun_off < b->lun_off + b->len && b->lun_off < a->lun_off + a->len;
}

/* B2: a write that may still land would undo this one. */
static bool behind_unknown(const struct client *c, const struct client_piece *p)
{
	if (!c->pieces[CLIENT_PIECE_UNKNOWN])
		return false;
	list_for_each_entry (io, &c->ios, struct client_io, link) {
		if (!io->count[CLIENT_PIECE_UNKNOWN])
			continue;
		for (uint32_t i = 0; i < io->piece_count; i++)
			if (io->pieces[i].state == CLIENT_PIECE_UNKNOWN &&
				overlap(&io->pieces[i], p))
				return true;
	}
	return false;
}

/* False: no room for it now. */
static bool piece_send(struct client *c, struct client_io *io, uint32_t i, struct effects *fx)
{
	struct client_piece *p = &io->pieces[i];
	struct msg *m = &c->out;
	bool sent;

	memset(&m->block, 0, sizeof(m->block));
	m->type = MSG_BLOCK;
	m->tag = io->nr << PIECE_BITS | i;
	m->data_len = io->write ? p->len : 0;
	m->block.op = io->flush ? BLOCK_FLUSH : io->write ? BLOCK_WRITE : BLOCK_READ;
	m->block.fua = io->fua;
	m->block.node = c->cfg.node;
	m->block.incarnation = c->incarnation;
	m->block.lun_off = p->lun_off;
	m->block.len = p->len;
	if (!session_room(m, fx))
		return false;
	sent = session_send(c->peer, m, io->data, p->buf_off, fx);
	csv_assert(sent); /* segments come from our own layouts, which wire.c checked */
	p->session = c->peer;
	p->session_nr = c->peer_nr;
	io->ever_sent = true;
	piece_move(c, io, p, CLIENT_PIECE_SENT);
	return true;
}

void client_block_step(struct client *c, uint64_t now_ns, struct effects *fx)
{
	if (!client_block_session(c) || !c->pieces[CLIENT_PIECE_HELD])
		return;
	if (c->peer_nr == c->pause_nr && now_ns < c->pause_ns) {
		c->paused = true;
		return;
	}
	list_for_each_entry (io, &c->ios, struct client_io, link) {
		if (io->expired)
			continue;
		for (uint32_t i = 0; io->count[CLIENT_PIECE_HELD] && i < io->piece_count; i++) {
			struct client_piece *p = &io->pieces[i];

			if (p->state != CLIENT_PIECE_HELD)
				continue;
			if (c->sent_bytes && c->sent_bytes + p->len > CLIENT_BLOCK_WINDOW)
				return; /* a reply makes room */
			if (io->write && behind_unknown(c, p))
				continue;
			if (!piece_send(c, io, i, fx)) {
				c->more = true;
				return;
			}
		}
	}
}

/* ------------------------------------------------------------------ replies */

static void data_free(uint64_t data, struct effects *fx)
{
	if (data)
		effects_add(fx, FX_DATA_FREE, 0)->data = data;
}

static void piece_done(struct client *c, struct client_io *io, struct client_piece *p, int32_t err)
{
	if (err && !io->err)
		io->err = err;
	piece_move(c, io, p, CLIENT_PIECE_DONE);
}

/* B3. */
static void io_end(struct client *c, struct client_io *io, uint64_t now_ns, struct effects *fx)
{
	uint64_t stall_ns = now_ns - io->submitted_ns;

	if (io->count[CLIENT_PIECE_DONE] < io->piece_count) {
		io_over(c, io);
		return;
	}
	if (stall_ns > c->block_longest_stall_ns)
		c->block_longest_stall_ns = stall_ns;
	if (!io->expired || io->write)
		effects_add(fx, FX_BLOCK_DONE, io->tag)->block.err = io->err;
	io_free(c, io);
}

static void piece_ok(struct client *c, struct client_io *io, struct client_piece *p, uint64_t data,
	struct effects *fx)
{
	struct effect *e;

	if (io->write) {
		c->block_write_bytes += p->len;
	} else if (!io->flush && !io->expired) {
		c->block_read_bytes += p->len;
		e = effects_add(fx, FX_BLOCK_DATA, io->tag);
		e->blockdata.data = data;
		e->blockdata.buf_off = p->buf_off;
		e->blockdata.len = p->len;
	}
	piece_done(c, io, p, 0);
}

/* The peer will not do it: choose another. Nothing more goes through this one. */
static enum client_block_result peer_refuses(
	struct client *c, struct session *s, enum client_block_result why)
{
	if (c->peer == s && c->peer_nr == s->nr)
		c->peer = NULL;
	return why;
}

static enum client_block_result piece_status(struct client *c, struct session *s,
	struct client_io *io, struct client_piece *p, enum lun_status status, uint64_t data,
	struct effects *fx)
{
	switch (status) {
	case LUN_OK:
		piece_ok(c, io, p, data, fx);
		return CLIENT_BLOCK_OK;
	case LUN_MEDIUM:
	case LUN_FAILING: /* (a peer has tried again, and says MEDIUM) */
	case LUN_UNSUPPORTED:
		piece_done(c, io, p, -EIO);
		return CLIENT_BLOCK_OK;
	case LUN_NOSPACE:
		piece_done(c, io, p, -ENOSPC);
		return CLIENT_BLOCK_OK;
	case LUN_PROTECTED:
		piece_done(c, io, p, -EROFS);
		return CLIENT_BLOCK_OK;
	case LUN_UNKNOWN:
		piece_lost(c, io, p);
		return peer_refuses(c, s, CLIENT_BLOCK_NO_PATH);
	case LUN_RETRY: /* not executed */
		piece_move(c, io, p, CLIENT_PIECE_HELD);
		return peer_refuses(c, s, CLIENT_BLOCK_NO_PATH);
	case LUN_CONFLICT: /* not executed: in the name of a fenced incarnation */
		piece_move(c, io, p, CLIENT_PIECE_HELD);
		return peer_refuses(c, s, CLIENT_BLOCK_FENCED);
	}
	return CLIENT_BLOCK_STALE;
}

enum client_block_result client_block_reply(struct client *c, struct session *s,
	const struct msg *m, uint64_t data, uint64_t now_ns, struct effects *fx)
{
	struct client_io *io = io_find(c, m->tag >> PIECE_BITS);
	uint32_t i = m->tag & ((1u << PIECE_BITS) - 1), want;
	enum lun_status status = m->block_reply.status;
	enum client_block_result result;
	struct client_piece *p;

	if (!io || i >= io->piece_count || io->pieces[i].state != CLIENT_PIECE_SENT ||
		io->pieces[i].session != s || io->pieces[i].session_nr != s->nr) {
		data_free(data, fx);
		return CLIENT_BLOCK_STALE;
	}
	p = &io->pieces[i];
	want = status == LUN_OK && !io->write && !io->flush ? p->len : 0;
	if (m->data_len != want) {
		trace(c->cfg.trace, TRACE_ERROR, "%s answers a read of %u bytes with %u", s->name,
			want, m->data_len);
		status = LUN_UNKNOWN;
	}
	result = piece_status(c, s, io, p, status, data, fx);
	if (result != CLIENT_BLOCK_OK) {
		c->pause_nr = s->nr;
		c->pause_ns = now_ns + CLIENT_BLOCK_PAUSE_NS;
	}
	io_end(c, io, now_ns, fx);
	data_free(data, fx);
	return result;
}

/* ------------------------------------------------------------------ taken back */

bool client_block_next_idle(struct client *c, uint64_t *tag)
{
	list_for_each_entry (io, &c->ios, struct client_io, link) {
		if (io->expired || io->count[CLIENT_PIECE_SENT] || io->count[CLIENT_PIECE_UNKNOWN])
			continue;
		*tag = io->tag;
		io_free(c, io);
		return true;
	}
	return false;
}

bool client_block_next_void(struct client *c, uint64_t *tag)
{
	list_for_each_entry_safe (io, tmp, &c->ios, struct client_io, link) {
		bool answered = io->expired;

		if (io->flush || io->count[CLIENT_PIECE_SENT] || (io->expired && io->write))
			continue;
		*tag = io->tag;
		io_free(c, io);
		if (!answered)
			return true;
	}
	return false;
}

bool client_block_cancel(struct client *c, uint64_t tag)
{
	list_for_each_entry (io, &c->ios, struct client_io, link) {
		if (io->tag != tag || io->expired)
			continue;
		if (io->count[CLIENT_PIECE_SENT] || (io->write && io->ever_sent))
			return false;
		io_free(c, io);
		return true;
	}
	return false;
}

bool client_block_next_over(struct client *c, uint64_t *tag)
{
	if (!c->expired_writes)
		return false;
	list_for_each_entry (io, &c->ios, struct client_io, link) {
		if (!io->write || !io_is_over(io))
			continue;
		*tag = io->tag;
		io_free(c, io);
		return true;
	}
	return false;
}

bool client_block_next_expired(struct client *c, uint64_t before_ns, uint64_t *tag, bool *lands)
{
	list_for_each_entry (io, &c->ios, struct client_io, link) {
		if (io->submitted_ns >= before_ns)
			return false;
		if (io->expired)
			continue;
		*tag = io->tag;
		*lands = io->write && (io->count[CLIENT_PIECE_SENT] || io->count[CLIENT_PIECE_UNKNOWN]);
		c->expired_writes += *lands;
		if (io->count[CLIENT_PIECE_SENT] || io->count[CLIENT_PIECE_UNKNOWN])
			io->expired = true;
		else
			io_free(c, io);
		return true;
	}
	return false;
}

/* ------------------------------------------------------------------ statistics, invariants */

void client_block_get_stats(const struct client *c, struct client_stats *st)
{
	st->block_oldest_ns = NEVER;
	list_for_each_entry (io, &c->ios, struct client_io, link) {
		if (st->block_oldest_ns == NEVER)
			st->block_oldest_ns = io->submitted_ns;
		if (io->count[CLIENT_PIECE_UNKNOWN])
			st->block_unknown++;
		else if (io->count[CLIENT_PIECE_SENT])
			st->block_sent++;
		else
			st->block_held++;
	}
	st->block_ops = c->block_ops;
	st->block_read_bytes = c->block_read_bytes;
	st->block_write_bytes = c->block_write_bytes;
	st->block_longest_stall_ns = c->block_longest_stall_ns;
}

static void io_check(
	const struct client_io *io, uint32_t pieces[CLIENT_PIECE_STATES], uint64_t *sent_bytes)
{
	uint32_t count[CLIENT_PIECE_STATES] = {0};

	for (uint32_t i = 0; i < io->piece_count; i++) {
		const struct client_piece *p = &io->pieces[i];

		count[p->state]++;
		pieces[p->state]++;
		if (p->state == CLIENT_PIECE_SENT)
			*sent_bytes += p->len;
	}
	for (uint32_t k = 0; k < CLIENT_PIECE_STATES; k++)
		csv_assert(count[k] == io->count[k]);
	csv_assert(io->count[CLIENT_PIECE_DONE] < io->piece_count); /* B3: else it was answered */
	csv_assert(io->write || !io->count[CLIENT_PIECE_UNKNOWN]); /* B1 */
	csv_assert(io->ever_sent ||
		   (!io->count[CLIENT_PIECE_SENT] && !io->count[CLIENT_PIECE_UNKNOWN]));
}

void client_block_check(const struct client *c)
{
	uint32_t pieces[CLIENT_PIECE_STATES] = {0};
	uint64_t sent_bytes = 0;

	list_for_each_entry (io, &c->ios, struct client_io, link)
		io_check(io, pieces, &sent_bytes);
	for (uint32_t k = 0; k < CLIENT_PIECE_STATES; k++)
		csv_assert(pieces[k] == c->pieces[k]);
	csv_assert(sent_bytes == c->sent_bytes);
	csv_assert(sent_bytes <= CLIENT_BLOCK_WINDOW);
}
