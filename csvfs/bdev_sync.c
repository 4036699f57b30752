/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bdev_sync.c - see bdev_sync.h */
#include "csvfs/bdev_sync.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct bdev_sync {
	struct bdev *b;
	uint64_t timeout_ns;
	bool done;
	uint64_t *keys;
	struct bdev_info info;
	char text[BDEV_TEXT_MAX];
};

/* One turn of the loop. False when the deadline is over. */
static bool turn(struct bdev_sync *s, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = bdev_fd(s->b), .events = (short)bdev_events(s->b)};
	uint64_t now = bdev_now_ns(), until_ns = bdev_due_ns(s->b);
	int ms = 0;

	if (now >= deadline_ns)
		return false;
	if (until_ns > deadline_ns)
		until_ns = deadline_ns;
	if (until_ns > now)
		ms = (int)((until_ns - now) / NS_PER_MS) + 1;
	if (poll(&p, p.fd >= 0, p.fd >= 0 ? ms : 50) <= 0)
		p.revents = 0;
	(void)bdev_service(s->b, p.revents); /* its state tells */
	return true;
}

int bdev_sync_open(const struct bdev_config *cfg, uint32_t timeout_ms, struct bdev_sync **out,
	char *text, size_t text_bytes)
{
	struct bdev_config c = *cfg;
	struct bdev_sync *s = calloc(1, sizeof(*s));
	char shown[BDEV_TEXT_MAX];
	uint64_t deadline_ns;
	int err = -ENOMEM;

	*out = NULL;
	bdev_url_text(cfg->url, shown, sizeof(shown));
	snprintf(text, text_bytes, "out of memory");
	if (!s)
		return err;
	c.on_state = NULL;
	s->timeout_ns = timeout_ms * NS_PER_MS;
	err = bdev_open(&c, &s->b, text, text_bytes);
	deadline_ns = bdev_now_ns() + s->timeout_ns;
	while (!err && bdev_state(s->b) == BDEV_OPENING) {
		if (!turn(s, deadline_ns)) {
			snprintf(text, text_bytes, "%s: no answer within %u s", shown,
				(timeout_ms + 999) / 1000);
			err = -ETIMEDOUT;
		}
	}
	if (!err && bdev_state(s->b) == BDEV_DOWN) {
		snprintf(text, text_bytes, "%s: %s", shown, bdev_text(s->b));
		err = -ENXIO;
	}
	if (err) {
		bdev_sync_close(s);
		return err;
	}
	s->info = *bdev_info(s->b);
	*out = s;
	return 0;
}

void bdev_sync_close(struct bdev_sync *s)
{
	if (!s)
		return;
	bdev_close(s->b);
	free(s);
}

const struct bdev_info *bdev_sync_info(const struct bdev_sync *s)
{
	return &s->info;
}

const char *bdev_sync_text(const struct bdev_sync *s)
{
	return s->text;
}

static void req_done(struct bdev_req *r)
{
	struct bdev_sync *s = r->owner;

	s->done = true;
	snprintf(s->text, sizeof(s->text), "%s: %s%s%s", lun_op_name(r->cmd.op),
		lun_status_name(r->status), *r->text ? ": " : "", r->text);
	if (s->keys && r->key_count)
		memcpy(s->keys, r->keys, r->key_count * sizeof(*s->keys));
}

/*
 * A reset may wait for what dead nodes have in flight, as long as the target answers meanwhile (iscsi_reinst.h): who gives that up has forgotten
 * next time whom it was to wait for. The device moves its beginning on.
 */
static uint64_t give_up_ns(const struct bdev_sync *s, const struct lun_cmd *cmd, uint64_t deadline_ns)
{
	uint64_t begin_ns = cmd->op == LUN_RESET ? bdev_oldest_ns(s->b) : NEVER;

	if (begin_ns == NEVER || begin_ns + s->timeout_ns < deadline_ns)
		return deadline_ns;
	return begin_ns + s->timeout_ns;
}

enum lun_status bdev_sync_cmd(
	struct bdev_sync *s, const struct lun_cmd *cmd, uint64_t *keys, uint32_t *key_count)
{
	struct bdev_req r = {.cmd = *cmd, .done = req_done, .owner = s};
	uint64_t deadline_ns = bdev_now_ns() + s->timeout_ns;

	s->keys = keys;
	if (key_count)
		*key_count = 0;
	if (!s->b)
		return LUN_UNKNOWN; /* the session ended with an earlier command */
	for (;;) {
		s->done = false;
		bdev_submit(s->b, &r);
		(void)bdev_service(s->b, POLLOUT); /* its state tells */
		while (!s->done && turn(s, deadline_ns))
			deadline_ns = give_up_ns(s, cmd, deadline_ns);
		if (!s->done) {
			/* r is on this stack: the session must go before we return. */
			bdev_close(s->b);
			s->b = NULL;
			snprintf(s->text, sizeof(s->text), "%s: no answer", lun_op_name(cmd->op));
			return LUN_UNKNOWN;
		}
		if ((r.status != LUN_RETRY && r.status != LUN_FAILING) || bdev_now_ns() >= deadline_ns)
			break;
		nanosleep(&(struct timespec){.tv_nsec = 10 * 1000000}, NULL);
	}
	if (key_count)
		*key_count = r.key_count;
	return r.status;
}

static int io(struct bdev_sync *s, const struct lun_cmd *cmd)
{
	switch (bdev_sync_cmd(s, cmd, NULL, NULL)) {
	case LUN_OK:
		return 0;
	case LUN_NOSPACE:
		return -ENOSPC;
	case LUN_PROTECTED:
		return -EROFS;
	default:
		return -EIO;
	}
}

int bdev_sync_read(struct bdev_sync *s, uint64_t off, void *buf, uint64_t len)
{
	return io(s, &(struct lun_cmd){.op = LUN_READ, .off = off, .len = len, .buf = buf});
}

int bdev_sync_write(struct bdev_sync *s, uint64_t off, const void *buf, uint64_t len, bool fua)
{
	return io(s, &(struct lun_cmd){.op = LUN_WRITE,
			     .fua = fua,
			     .off = off,
			     .len = len,
			     .buf = (void *)(uintptr_t)buf});
}

int bdev_sync_flush(struct bdev_sync *s)
{
	return io(s, &(struct lun_cmd){.op = LUN_FLUSH});
}
