/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bdev_user.h - a block device and what it has told, for tests. */
#ifndef TESTS_SHELL_BDEV_USER_H
#define TESTS_SHELL_BDEV_USER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csvfs/bdev.h"

struct user {
	struct bdev *b;
	bool up, down;
};

static inline void user_state(void *ctx, struct bdev *b, enum bdev_state state)
{
	struct user *u = ctx;

	(void)b;
	if (state == BDEV_UP)
		u->up = true;
	else
		u->down = true;
}

static inline void user_turn(struct user *u, int ms)
{
	struct pollfd p = {.fd = bdev_fd(u->b), .events = (short)bdev_events(u->b)};
	int n = poll(&p, p.fd >= 0, ms);

	(void)bdev_service(u->b, n > 0 ? p.revents : 0);
}

static inline int user_start(struct user *u, struct bdev_config cfg, char *text, size_t text_bytes)
{
	memset(u, 0, sizeof(*u));
	cfg.on_state = user_state;
	cfg.ctx = u;
	return bdev_open(&cfg, &u->b, text, text_bytes);
}

/* True when it came up within 5 s. */
static inline bool user_open(struct user *u, const char *url, uint32_t node, uint16_t session)
{
	char text[BDEV_TEXT_MAX] = "";
	uint64_t end = bdev_now_ns() + 5 * NS_PER_SEC;

	if (user_start(u, (struct bdev_config){.url = url, .node = node, .session = session}, text,
		    sizeof(text))) {
		fprintf(stderr, "%s\n", text);
		return false;
	}
	while (!u->up && !u->down && bdev_now_ns() < end)
		user_turn(u, 50);
	if (u->down)
		fprintf(stderr, "%s\n", bdev_text(u->b));
	return u->up && !u->down;
}

static inline void user_done(struct bdev_req *r)
{
	r->owner = r;
}

static inline bool user_ended(const struct bdev_req *r)
{
	return r->owner == r;
}

static inline void user_send(struct user *u, struct bdev_req *r)
{
	r->done = user_done;
	r->owner = NULL;
	bdev_submit(u->b, r);
	(void)bdev_service(u->b, POLLOUT);
}

static inline bool user_wait(struct user *u, struct bdev_req *r, uint64_t ms)
{
	uint64_t end = bdev_now_ns() + ms * NS_PER_MS;

	while (!user_ended(r) && bdev_now_ns() < end)
		user_turn(u, 5);
	return user_ended(r);
}

/* One command, awaited; -1: no answer within 3 s. */
static inline int user_cmd(struct user *u, struct lun_cmd cmd)
{
	struct bdev_req r = {.cmd = cmd};

	user_send(u, &r);
	if (user_wait(u, &r, 3000))
		return (int)r.status;
	abort(); /* r is on the stack */
}

/* The same, until it is not LUN_RETRY. */
static inline int user_do(struct user *u, struct lun_cmd cmd)
{
	int s;

	do
		s = user_cmd(u, cmd);
	while (s == LUN_RETRY);
	return s;
}

#endif
