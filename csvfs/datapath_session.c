/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * datapath_session.c - each data thread's session to the LUN: opened, registered and closed when the core
 * says so; watched for a loss. What all sessions together are is reported as one path.
 */
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "csvfs/base/assert.h"
#include "csvfs/datapath_int.h"

static void path_says(struct datapath *d, enum path_state st, const char *text)
{
	d->cfg.on_path(d->cfg.ctx, st, text);
}

/* Once per opening: the first reason is the cause. */
static void path_bad(struct dthread *t, enum path_state st, const char *text)
{
	struct datapath *d = t->d;
	bool first;

	pthread_mutex_lock(&d->lock);
	first = !d->path_told;
	d->path_told = true;
	t->up = false;
	t->lost = true;
	pthread_mutex_unlock(&d->lock);
	if (first)
		path_says(d, st, text);
}

static void session_up(struct dthread *t, const struct bdev_info *info)
{
	struct datapath *d = t->d;
	bool all = true;

	pthread_mutex_lock(&d->lock);
	t->up = true;
	d->block_bytes = info->block_bytes;
	dp_set_block_bytes(d->dp, info->block_bytes);
	for (unsigned i = 0; i < d->threads; i++)
		all &= d->t[i].up;
	pthread_mutex_unlock(&d->lock);
	if (all)
		path_says(d, PATH_UP, "");
}

static void on_state(void *ctx, struct bdev *b, enum bdev_state st)
{
	struct dthread *t = ctx;

	if (st == BDEV_UP)
		session_up(t, bdev_info(b));
	else if (st == BDEV_DOWN)
		path_bad(t, t->up ? PATH_LOST : PATH_FAILED, bdev_text(b));
}

static void unpoll(struct dthread *t)
{
	if (t->b_fd >= 0)
		(void)epoll_ctl(t->epfd, EPOLL_CTL_DEL, t->b_fd, NULL);
	t->b_fd = -1;
}

void datapath_session_close(struct dthread *t)
{
	struct bdev *b = t->b;

	unpoll(t);
	/* No new ones while the old ones end: submit() sees that there is no session. */
	t->b = NULL;
	bdev_close(b);
	pthread_mutex_lock(&t->d->lock);
	t->up = false;
	pthread_mutex_unlock(&t->d->lock);
}

static void session_open(struct dthread *t)
{
	struct bdev_config cfg = t->d->cfg.bdev;
	char text[BDEV_TEXT_MAX] = "";

	datapath_session_close(t);
	cfg.session = BDEV_SESSION_DATA(t->nr);
	cfg.on_state = on_state;
	cfg.ctx = t;
	if (bdev_open(&cfg, &t->b, text, sizeof(text))) {
		t->b = NULL;
		path_bad(t, PATH_FAILED, text);
	}
}

static void register_ended(struct dthread *t, enum lun_status status, const char *text)
{
	struct datapath *d = t->d;
	void (*done)(void *, enum lun_status, const char *) = NULL;

	pthread_mutex_lock(&d->lock);
	if (dp_worst(status, d->register_worst) == status && status != LUN_OK)
		snprintf(d->register_text, sizeof(d->register_text), "%s", text ? text : "");
	d->register_worst = dp_worst(d->register_worst, status);
	if (!--d->registering)
		done = d->register_done;
	pthread_mutex_unlock(&d->lock);
	if (done)
		done(d->register_arg, d->register_worst, d->register_text);
}

static void register_done(struct bdev_req *r)
{
	register_ended(r->owner, r->status, r->text);
}

static void register_here(struct dthread *t)
{
	struct bdev_req *r = &t->register_req;
	uint64_t key = t->d->key;

	if (!t->b) {
		register_ended(t, LUN_UNKNOWN, "no session");
		return;
	}
	memset(r, 0, sizeof(*r));
	r->cmd.op = key ? LUN_PR_REGISTER : LUN_PR_UNREGISTER;
	r->cmd.key = key;
	r->done = register_done;
	r->owner = t;
	bdev_submit(t->b, r);
	t->submitted = true;
}

void datapath_session_commands(struct dthread *t)
{
	struct datapath *d = t->d;
	enum session_cmd cmd;
	bool last = false, want_register;

	pthread_mutex_lock(&d->lock);
	cmd = t->cmd;
	want_register = t->want_register;
	t->cmd = CMD_NONE;
	t->want_register = false;
	pthread_mutex_unlock(&d->lock);
	if (cmd == CMD_OPEN)
		session_open(t);
	if (cmd == CMD_CLOSE) {
		datapath_session_close(t);
		pthread_mutex_lock(&d->lock);
		last = !--d->closing;
		pthread_mutex_unlock(&d->lock);
	}
	if (want_register)
		register_here(t);
	if (last)
		path_says(d, PATH_CLOSED, "");
}

static void command_all(struct datapath *d, enum session_cmd cmd)
{
	for (unsigned i = 0; i < d->threads; i++) {
		d->t[i].cmd = cmd;
		datapath_wake(&d->t[i]);
	}
}

void datapath_path_open(struct datapath *d)
{
	pthread_mutex_lock(&d->lock);
	d->path_told = false;
	for (unsigned i = 0; i < d->threads; i++)
		d->t[i].lost = false;
	command_all(d, CMD_OPEN);
	pthread_mutex_unlock(&d->lock);
}

void datapath_path_close(struct datapath *d)
{
	pthread_mutex_lock(&d->lock);
	d->closing = d->threads;
	command_all(d, CMD_CLOSE);
	pthread_mutex_unlock(&d->lock);
}

void datapath_register(struct datapath *d, uint64_t key,
	void (*done)(void *arg, enum lun_status status, const char *text), void *arg)
{
	pthread_mutex_lock(&d->lock);
	csv_assert(!d->registering);
	d->key = key;
	d->registering = d->threads;
	d->register_worst = LUN_OK;
	d->register_text[0] = 0;
	d->register_done = done;
	d->register_arg = arg;
	for (unsigned i = 0; i < d->threads; i++) {
		d->t[i].want_register = true;
		datapath_wake(&d->t[i]);
	}
	pthread_mutex_unlock(&d->lock);
}

/* A command without an answer for too long is reported; who closes the session decides. */
void datapath_session_watch(struct dthread *t)
{
	uint64_t oldest_ns, now_ns = bdev_now_ns();
	char text[64];
	bool lost;

	if (t->b && now_ns >= bdev_due_ns(t->b))
		(void)bdev_service(t->b, 0);
	oldest_ns = t->b ? bdev_oldest_ns(t->b) : NEVER;
	if (oldest_ns == NEVER || now_ns < oldest_ns + t->d->cfg.answer_ns)
		return;
	pthread_mutex_lock(&t->d->lock);
	lost = t->lost;
	pthread_mutex_unlock(&t->d->lock);
	if (lost)
		return;
	snprintf(text, sizeof(text), "no answer for %llu s",
		(unsigned long long)((now_ns - oldest_ns) / NS_PER_SEC));
	path_bad(t, t->up ? PATH_LOST : PATH_FAILED, text);
}

void datapath_session_poll(struct dthread *t)
{
	int fd = t->b ? bdev_fd(t->b) : -1, events = fd >= 0 ? bdev_events(t->b) : 0;
	struct epoll_event ev = {.events = (uint32_t)events, .data.fd = fd};

	if (fd == t->b_fd && events == t->b_events)
		return;
	if (fd != t->b_fd)
		unpoll(t);
	/* A number may come back for another socket (a target that redirects): then MOD finds nothing, and ADD is right. */
	if (fd >= 0 && (fd != t->b_fd || epoll_ctl(t->epfd, EPOLL_CTL_MOD, fd, &ev)))
		(void)epoll_ctl(t->epfd, EPOLL_CTL_ADD, fd, &ev);
	t->b_fd = fd;
	t->b_events = events;
}
