/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bdev.c - what all block devices share: opening, the list of outstanding requests, the end. */
#include "csvfs/bdev.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "csvfs/base/assert.h"

uint64_t bdev_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

int bdev_open(const struct bdev_config *cfg, struct bdev **out, char *text, size_t text_bytes)
{
	const char *fault = cfg->fault ? cfg->fault : getenv("CSVFS_FAULT");
	bool iscsi = strstr(cfg->url, "://") != NULL;
	struct bdev *b;
	int err;

	*out = NULL;
	err = iscsi ? iscsi_bdev_open(cfg, &b, text, text_bytes)
		    : file_bdev_open(cfg, &b, text, text_bytes);
	if (!err && fault && *fault) {
		err = fault_bdev_wrap(&b, fault, text, text_bytes);
		if (err)
			bdev_close(b);
	}
	if (!err)
		*out = b;
	return err;
}

void bdev_init(struct bdev *b, const struct bdev_ops *ops, const struct bdev_config *cfg)
{
	memset(b, 0, sizeof(*b));
	b->ops = ops;
	b->state = BDEV_OPENING;
	list_init(&b->busy);
	list_init(&b->late);
	b->open_ns = bdev_now_ns();
	b->want_uuid = cfg->uuid;
	b->want_identity = cfg->identity ? cfg->identity : "";
	b->on_state = cfg->on_state;
	b->ctx = cfg->ctx;
}

void bdev_done(struct bdev *b, struct bdev_req *r, enum lun_status status, const char *text)
{
	(void)b;
	list_del(&r->link);
	r->status = status;
	r->text = text;
	r->done(r);
}

void bdev_up(struct bdev *b)
{
	csv_assert(b->state == BDEV_OPENING);
	b->state = BDEV_UP;
	if (b->want_uuid)
		bdev_volume_check(b);
	else
		bdev_is_up(b);
}

void bdev_is_up(struct bdev *b)
{
	csv_assert(b->state == BDEV_UP && !b->checking);
	if (b->on_state)
		b->on_state(b->ctx, b, BDEV_UP);
}

void bdev_down(struct bdev *b, const char *fmt, ...)
{
	va_list ap;

	if (b->state == BDEV_DOWN)
		return; /* the first reason is the cause, later ones are its consequences */
	b->state = BDEV_DOWN;
	va_start(ap, fmt);
	vsnprintf(b->text, sizeof(b->text), fmt, ap);
	va_end(ap);
}

/* Refused is what was never sent: of what was, a part may have been refused, and another one may still land. */
static void end_all(struct bdev *b, struct list *reqs, const char *text)
{
	while (!list_empty(reqs)) {
		struct bdev_req *r = list_first_entry(reqs, struct bdev_req, link);
		bool refused = r->status == LUN_UNSUPPORTED && !r->parts;

		bdev_done(b, r, refused ? LUN_UNSUPPORTED : LUN_UNKNOWN,
			refused ? "not whole blocks of the LUN" : text);
	}
}

int bdev_service(struct bdev *b, int revents)
{
	struct list late;

	csv_assert(!b->serving);
	b->serving = true;
	/* Those that done() submits meanwhile end with the next call: no endless loop. */
	list_init(&late);
	list_splice_tail(&b->late, &late);
	end_all(b, &late, b->text[0] ? b->text : "not open");
	if (b->state != BDEV_DOWN)
		b->ops->service(b, revents);
	if (b->state == BDEV_DOWN && !b->told) {
		b->told = true;
		b->ops->abort(b);
		end_all(b, &b->busy, b->text);
		if (b->on_state)
			b->on_state(b->ctx, b, BDEV_DOWN);
	}
	b->serving = false;
	return b->state == BDEV_DOWN ? -1 : 0;
}

/* Where the LUN ends is the target's to say (an image's, its file's): it may have grown since we asked. */
static bool in_bounds(const struct bdev_info *info, const struct lun_cmd *c)
{
	return c->off % info->block_bytes == 0 && c->len % info->block_bytes == 0 && c->len > 0 &&
	       c->off <= INT64_MAX && c->len <= INT64_MAX - c->off;
}

void bdev_submit(struct bdev *b, struct bdev_req *r)
{
	r->status = LUN_OK;
	r->text = "";
	r->key_count = 0;
	r->generation = 0;
	r->keys = NULL;
	r->parts = 0;
	r->flushing = false;
	r->start_ns = bdev_now_ns();
	if (bdev_state(b) == BDEV_UP &&
		(r->cmd.op == LUN_READ || r->cmd.op == LUN_WRITE || r->cmd.op == LUN_UNMAP) &&
		!in_bounds(&b->info, &r->cmd))
		r->status = LUN_UNSUPPORTED;
	if ((bdev_state(b) != BDEV_UP && !bdev_volume_asks(b, r)) || r->status != LUN_OK) {
		list_add_tail(&r->link, &b->late);
		return;
	}
	list_add_tail(&r->link, &b->busy);
	b->ops->submit(b, r);
}

void bdev_close(struct bdev *b)
{
	if (!b)
		return;
	csv_assert(!b->serving);
	b->serving = true;
	bdev_down(b, "closed");
	if (!b->told)
		b->ops->abort(b);
	b->told = true;
	/* done() may submit more: it ends too. */
	while (!list_empty(&b->busy) || !list_empty(&b->late)) {
		end_all(b, &b->busy, b->text);
		end_all(b, &b->late, b->text);
	}
	b->ops->free(b);
}

int bdev_fd(const struct bdev *b)
{
	return b->state == BDEV_DOWN ? -1 : b->ops->fd(b);
}

int bdev_events(const struct bdev *b)
{
	return b->state == BDEV_DOWN ? 0 : b->ops->events(b);
}

uint64_t bdev_oldest_ns(const struct bdev *b)
{
	if (b->patient)
		return NEVER;
	if (bdev_state(b) == BDEV_OPENING)
		return b->open_ns;
	if (list_empty(&b->busy))
		return NEVER;
	return list_first_entry(&b->busy, struct bdev_req, link)->start_ns;
}

uint64_t bdev_due_ns(const struct bdev *b)
{
	return b->state != BDEV_DOWN && b->ops->due ? b->ops->due(b) : NEVER;
}

enum bdev_state bdev_state(const struct bdev *b)
{
	return b->checking && b->state == BDEV_UP ? BDEV_OPENING : b->state;
}

const struct bdev_info *bdev_info(const struct bdev *b)
{
	return &b->info;
}

const char *bdev_text(const struct bdev *b)
{
	return b->text;
}

char *bdev_url_text(const char *url, char *out, size_t out_bytes)
{
	const char *scheme = strstr(url, "://");
	const char *at = scheme ? strchr(scheme + 3, '@') : NULL;

	/* Only what stands before '@' can be a secret: user%secret@host */
	if (at)
		snprintf(out, out_bytes, "%.*s://%s", (int)(scheme - url), url, at + 1);
	else
		snprintf(out, out_bytes, "%s", url);
	return out;
}

const char *lun_op_name(enum lun_op op)
{
	switch (op) {
	case LUN_READ:
		return "READ";
	case LUN_WRITE:
		return "WRITE";
	case LUN_FLUSH:
		return "SYNCHRONIZE CACHE";
	case LUN_UNMAP:
		return "UNMAP";
	case LUN_PR_REGISTER:
		return "PR REGISTER";
	case LUN_PR_UNREGISTER:
		return "PR UNREGISTER";
	case LUN_PR_RESERVE:
		return "PR RESERVE";
	case LUN_PR_PREEMPT:
		return "PR PREEMPT";
	case LUN_PR_PREEMPT_ABORT:
		return "PR PREEMPT AND ABORT";
	case LUN_PR_READ_KEYS:
		return "PR READ KEYS";
	case LUN_PR_READ_RESERVATION:
		return "PR READ RESERVATION";
	case LUN_PR_CLEAR:
		return "PR CLEAR";
	case LUN_RESET:
		return "LOGICAL UNIT RESET";
	case LUN_TEST:
		return "TEST UNIT READY";
	case LUN_CAPACITY:
		return "READ CAPACITY";
	}
	return "?";
}

const char *lun_status_name(enum lun_status status)
{
	switch (status) {
	case LUN_OK:
		return "ok";
	case LUN_CONFLICT:
		return "reservation conflict";
	case LUN_MEDIUM:
		return "medium error";
	case LUN_UNKNOWN:
		return "outcome unknown";
	case LUN_UNSUPPORTED:
		return "not supported";
	case LUN_RETRY:
		return "to be repeated";
	case LUN_NOSPACE:
		return "out of space";
	case LUN_PROTECTED:
		return "write protected";
	case LUN_FAILING:
		return "failing behind the target";
	}
	return "?";
}
