/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loop_lun.c - the core's own session to the LUN, and the path: all sessions of this node as one.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "csvfs/base/assert.h"
#include "csvfs/loop_int.h"

#define OWN_EVENT 1u /* epoll's data for the own session; see loop.c */
#define LOGIN_NS (5 * NS_PER_SEC)

/* ------------------------------------------------------------------ commands */

static void io_ended(struct lun_io *io)
{
	if (--io->waits == 0)
		list_add_tail(&io->link, &io->loop->ended);
}

static int severity(enum lun_status s)
{
	switch (s) {
	case LUN_OK:
		return 0;
	case LUN_RETRY:
		return 1;
	case LUN_FAILING:
	case LUN_MEDIUM:
	case LUN_UNSUPPORTED:
	case LUN_NOSPACE:
	case LUN_PROTECTED:
		return 2;
	case LUN_CONFLICT:
		return 3;
	case LUN_UNKNOWN:
		return 4;
	}
	return 4;
}

/* A registration is as good as it is on the worst of the sessions. */
static void io_merge(struct lun_io *io, enum lun_status s)
{
	if (severity(s) > severity(io->status))
		io->status = s;
}

static void own_done(struct bdev_req *r)
{
	struct lun_io *io = r->owner;

	io_merge(io, r->status);
	io->generation = r->generation;
	io->lun_bytes = r->lun_bytes;
	if (r->key_count) {
		io->keys = malloc(r->key_count * sizeof(*io->keys));
		csv_assert(io->keys != NULL);
		memcpy(io->keys, r->keys, r->key_count * sizeof(*io->keys));
		io->key_count = r->key_count;
	}
	/* Repeats and refusals are the protocol's everyday life; what is lost is worth a line. */
	if (r->status == LUN_MEDIUM || r->status == LUN_NOSPACE || r->status == LUN_PROTECTED)
		log_line(TRACE_ERROR, "LUN: %s at %llu: %s: %s", lun_op_name(r->cmd.op),
			(unsigned long long)r->cmd.off, lun_status_name(r->status), r->text);
	else if (r->cmd.op == LUN_RESET && r->status == LUN_UNSUPPORTED)
		log_line(TRACE_WARN, "LUN: %s: %s: %s", lun_op_name(r->cmd.op), lun_status_name(r->status), r->text);
	io_ended(io);
}

/* Called in a data thread. `arg` is the loop: the tag finds the command. */
static void data_registered(void *arg, enum lun_status status, const char *text)
{
	struct lun_io *io = arg;
	struct event ev = {.type = EV_LUN_DONE, .tag = io->tag, .lun.status = status};

	(void)text;
	inbox_post(io->loop->inbox, INBOX_REGISTERED, &ev, NULL, 0);
}

void loop_lun_registered(struct loop *l, const struct event *ev)
{
	list_for_each_entry (io, &l->registering, struct lun_io, link) {
		if (io->tag != ev->tag)
			continue;
		list_del(&io->link);
		io_merge(io, ev->lun.status);
		io_ended(io);
		return;
	}
}

/* File data of another node: WRITE takes the core's buffer, READ is given one. */
static bool io_data(struct lun_io *io, const struct lun_cmd *cmd)
{
	struct dbuf *b = dbuf_of(cmd->data);

	if (cmd->op != LUN_READ && cmd->op != LUN_WRITE)
		return true;
	if (cmd->buf) {
		io->iov.iov_base = cmd->buf;
	} else {
		b = b ? dbuf_ref(b) : cmd->op == LUN_READ ? dbuf_get((uint32_t)cmd->len) : NULL;
		if (!b || b->room < cmd->len) {
			dbuf_put(b);
			return false;
		}
		io->data = dbuf_handle(b);
		io->iov.iov_base = b->bytes;
	}
	io->iov.iov_len = cmd->len;
	io->req.iov = &io->iov;
	io->req.iov_count = 1;
	return true;
}

void loop_lun_submit(struct loop *l, uint64_t tag, const struct lun_cmd *cmd)
{
	struct lun_io *io = calloc(1, sizeof(*io));
	bool registers = cmd->op == LUN_PR_REGISTER || cmd->op == LUN_PR_UNREGISTER;

	csv_assert(io != NULL);
	list_init(&io->link);
	io->loop = l;
	io->tag = tag;
	io->waits = 1;
	io->req.cmd = *cmd;
	io->req.done = own_done;
	io->req.owner = io;
	if (!io_data(io, cmd)) {
		io->status = LUN_RETRY; /* no memory at this moment; nothing was sent */
		io_ended(io);
		return;
	}
	if (l->path != LP_UP && l->path != LP_LOST) {
		io->status = LUN_UNKNOWN;
		io_ended(io);
		return;
	}
	if (registers) {
		/* Our link is in `registering` until the data sessions have answered. */
		io->waits = 2;
		list_add_tail(&io->link, &l->registering);
		datapath_register(
			l->data, cmd->op == LUN_PR_REGISTER ? cmd->key : 0, data_registered, io);
	}
	bdev_submit(l->own, &io->req);
	l->unsent++;
}

void loop_lun_flush(struct loop *l)
{
	if (l->own && l->unsent) {
		l->unsent = 0;
		(void)bdev_service(l->own, POLLOUT); /* its state tells */
	}
}

void loop_lun_service(struct loop *l, int revents)
{
	l->unsent = 0;
	if (l->own)
		(void)bdev_service(l->own, revents | POLLOUT); /* its state tells */
}

bool loop_lun_next(struct loop *l, struct event *ev, struct lun_io **out)
{
	struct lun_io *io;

	if (list_empty(&l->ended))
		return false;
	io = list_first_entry(&l->ended, struct lun_io, link);
	list_del(&io->link);
	*ev = (struct event){.type = EV_LUN_DONE, .tag = io->tag};
	ev->lun.status = io->status;
	ev->lun.key_count = io->key_count;
	ev->lun.generation = io->generation;
	ev->lun.keys = io->keys;
	ev->lun.lun_bytes = io->lun_bytes;
	/*
	 * A read's data goes to the core, which had none before; everything else was a reference of
	 * ours.
	 */
	if (io->data && io->req.cmd.op == LUN_READ && !io->req.cmd.data && io->status == LUN_OK) {
		dbuf_of(io->data)->len = (uint32_t)io->req.cmd.len;
		ev->lun.data = io->data;
		io->data = 0;
	}
	*out = io;
	return true;
}

void loop_lun_free(struct lun_io *io)
{
	if (io->data)
		dbuf_put(dbuf_of(io->data));
	free(io->keys);
	free(io);
}

/* ------------------------------------------------------------------ the own session */

static void own_state(void *ctx, struct bdev *b, enum bdev_state state)
{
	struct loop *l = ctx;

	(void)b;
	if (state == BDEV_UP)
		l->own_up = true;
	else
		l->own_down = true;
}

void loop_lun_init(struct loop *l)
{
	list_init(&l->ended);
	list_init(&l->registering);
	l->own_fd = -1;
	l->own_cfg = (struct bdev_config){.url = l->cfg->volume,
		.initiator = l->cfg->initiator,
		.chap_user = l->cfg->chap_user,
		.chap_secret = l->cfg->chap_secret,
		.node = l->lc->node.node,
		.session = BDEV_SESSION_CORE,
		.uuid = l->lc->volume->super.h.uuid,
		.identity = l->lc->volume->info.identity,
		.on_state = own_state,
		.ctx = l};
}

static void own_close(struct loop *l)
{
	struct bdev *b = l->own;

	if (!b)
		return;
	if (l->own_fd >= 0)
		(void)epoll_ctl(
			l->ep, EPOLL_CTL_DEL, l->own_fd, NULL); /* it may be closed already */
	l->own_fd = -1;
	l->own = NULL;
	l->own_up = l->own_down = false;
	l->unsent = 0;
	bdev_close(b);
}

void loop_lun_poll(struct loop *l)
{
	int fd = l->own ? bdev_fd(l->own) : -1;
	int events = l->own ? bdev_events(l->own) : 0;
	struct epoll_event e = {.events = (uint32_t)events, .data.u32 = OWN_EVENT};

	if (fd == l->own_fd && (fd < 0 || events == l->own_events))
		return;
	if (l->own_fd >= 0 && fd != l->own_fd)
		(void)epoll_ctl(
			l->ep, EPOLL_CTL_DEL, l->own_fd, NULL); /* it may be closed already */
	/* A number may come back for another socket: then MOD finds nothing, and ADD is right. */
	if (fd >= 0 && (fd != l->own_fd || epoll_ctl(l->ep, EPOLL_CTL_MOD, fd, &e)))
		(void)epoll_ctl(l->ep, EPOLL_CTL_ADD, fd, &e);
	l->own_fd = fd;
	l->own_events = events;
}

/* ------------------------------------------------------------------ the path */

/* A path that is tried again each second says so once. */
static void log_path(struct loop *l, enum path_state state, const char *text)
{
	bool again = state == PATH_FAILED && !strcmp(text, l->logged_text);

	snprintf(l->logged_text, sizeof(l->logged_text), "%s", state == PATH_FAILED ? text : "");
	switch (state) {
	case PATH_UP:
		log_line(TRACE_INFO, "path: logged in");
		return;
	case PATH_LOST:
		log_line(TRACE_WARN, "path: lost: %s", text);
		return;
	case PATH_FAILED:
		log_line(again ? TRACE_DEBUG : TRACE_WARN, "path: no login: %s", text);
		return;
	case PATH_CLOSED:
		log_line(TRACE_INFO, "path: all sessions closed");
		return;
	}
}

static void tell(struct loop *l, enum path_state state, const char *text)
{
	struct event ev = {.type = EV_PATH};

	ev.path.state = state;
	snprintf(ev.path.text, sizeof(ev.path.text), "%s", text);
	if (state == PATH_UP) {
		const struct bdev_info *i = bdev_info(l->own);

		ev.path.block_bytes = i->block_bytes;
		ev.path.lun_bytes = i->lun_bytes;
		ev.path.write_cache = i->write_cache;
		ev.path.reservations = i->reservations;
	}
	log_path(l, state, text);
	inbox_post(l->inbox, INBOX_EVENT, &ev, NULL, 0);
}

static void broken(struct loop *l, const char *text)
{
	if (l->path == LP_OPENING) {
		snprintf(l->path_text, sizeof(l->path_text), "%s", text);
		l->path = LP_FAILING;
		own_close(l);
		if (l->data_open)
			datapath_path_close(l->data);
	} else if (l->path == LP_UP) {
		l->path = LP_LOST;
		tell(l, PATH_LOST, text);
	}
}

void loop_path_open(struct loop *l)
{
	char text[BDEV_TEXT_MAX];

	csv_assert(l->path == LP_CLOSED && !l->own && !l->data_open);
	l->path = LP_OPENING;
	l->own_up = l->own_down = l->data_up = false;
	if (bdev_open(&l->own_cfg, &l->own, text, sizeof(text))) {
		broken(l, text);
		return;
	}
	l->data_open = true;
	datapath_path_open(l->data);
}

void loop_path_close(struct loop *l)
{
	bool asked = l->path == LP_FAILING; /* the data sessions are closing already */

	l->path = LP_CLOSING;
	own_close(l);
	if (l->data_open && !asked)
		datapath_path_close(l->data);
}

void loop_path_data(struct loop *l, const struct event *ev)
{
	switch (ev->path.state) {
	case PATH_UP:
		l->data_up = true;
		return;
	case PATH_LOST:
	case PATH_FAILED:
		broken(l, ev->path.text);
		return;
	case PATH_CLOSED:
		l->data_open = l->data_up = false;
		return;
	}
}

void loop_path_step(struct loop *l)
{
	bool closed = !l->own && !l->data_open && list_empty(&l->registering);

	if (l->own_down && l->own)
		broken(l, bdev_text(l->own));
	switch (l->path) {
	case LP_OPENING:
		if (l->own_up && l->data_up) {
			l->path = LP_UP;
			tell(l, PATH_UP, "");
		}
		break;
	case LP_FAILING:
		if (closed) {
			l->path = LP_CLOSED;
			tell(l, PATH_FAILED, l->path_text);
		}
		break;
	case LP_CLOSING:
		if (closed) {
			l->path = LP_CLOSED;
			tell(l, PATH_CLOSED, "");
		}
		break;
	case LP_CLOSED:
	case LP_UP:
	case LP_LOST:
		break;
	}
}

/* A command without an answer: the target may be gone without anybody telling us so. */
uint64_t loop_lun_watch(struct loop *l)
{
	uint64_t limit_ns = l->cfg->io_timeout_ns, oldest, due;
	char text[96];

	if (!l->own || l->own_down || (l->path != LP_OPENING && l->path != LP_UP))
		return NEVER;
	if (l->path == LP_OPENING && limit_ns < LOGIN_NS)
		limit_ns = LOGIN_NS;
	oldest = bdev_oldest_ns(l->own);
	if (oldest == NEVER)
		return NEVER;
	/* (Not the time of the last step: nothing need have been stepped since.) */
	due = bdev_due_ns(l->own);
	if (bdev_now_ns() < oldest + limit_ns)
		return due < oldest + limit_ns ? due : oldest + limit_ns;
	snprintf(text, sizeof(text), "no answer from the LUN for %.1f s", (double)limit_ns / 1e9);
	broken(l, text);
	return NEVER;
}

void loop_lun_close(struct loop *l)
{
	own_close(l);
	while (!list_empty(&l->ended)) {
		struct event ev;
		struct lun_io *io;

		(void)loop_lun_next(l, &ev, &io);
		if (ev.lun.data)
			dbuf_put(dbuf_of(ev.lun.data));
		loop_lun_free(io);
	}
	while (!list_empty(&l->registering)) {
		struct lun_io *io = list_first_entry(&l->registering, struct lun_io, link);

		list_del(&io->link);
		loop_lun_free(io);
	}
}
