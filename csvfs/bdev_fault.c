/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bdev_fault.c - a block device in front of another that does harm on purpose. For tests.
 *
 * The faults are a comma-separated list ($CSVFS_FAULT, or bdev_config.fault):
 *	delay=MS     every read, write and flush takes that much longer
 *	hold=PATH    while the file PATH exists writes are held back; they go on when it is gone
 *	from=BYTE    of these only the ones from there on: with the end of the journal the checkpoint stands still
 *	fail=N       each Nth write fails (medium error) and changes nothing
 *	lose=N       the Nth write is done, but its outcome is unknown and the session breaks
 *	stall=PATH   while the file PATH exists nothing is sent and nothing is answered
 *	drain=off    a LUN reset is not sent, and answered all the same: what it was to wait for may land later
 *	keys=off     READ KEYS fails: who is registered cannot be known
 */
#include "csvfs/bdev.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "csvfs/base/assert.h"

#define TICK_MS 5

struct fault_bdev {
	struct bdev b;
	struct bdev *io;
	int timer_fd; /* ticks while something waits */
	uint64_t delay_ns;
	uint64_t fail_nth, lose_nth, writes, hold_from;
	char hold[256], stall[256];
	struct list waiting; /* struct shadow, in order of submission */
	bool ticking, no_drain, no_keys;
};

/* The request as it goes to the bdev behind. */
struct shadow {
	struct list link;
	struct fault_bdev *fb;
	struct bdev_req *r, io;
	uint64_t due_ns;
	bool held, fail, lose;
};

static struct fault_bdev *fb_of(const struct bdev *b)
{
	return container_of(b, struct fault_bdev, b);
}

static void tick(struct fault_bdev *fb, bool on)
{
	struct timespec t = {.tv_nsec = on ? TICK_MS * 1000000 : 0};
	struct itimerspec its = {.it_interval = t, .it_value = t};

	if (fb->ticking == on)
		return;
	fb->ticking = on;
	timerfd_settime(fb->timer_fd, 0, &its, NULL);
}

static void io_done(struct bdev_req *io)
{
	struct shadow *s = container_of(io, struct shadow, io);
	struct fault_bdev *fb = s->fb;
	struct bdev_req *r = s->r;

	if (s->lose) {
		bdev_down(&fb->b, "fault: a write was lost");
		free(s);
		return; /* r ends with all others */
	}
	r->lun_bytes = io->lun_bytes;
	r->key_count = io->key_count;
	r->generation = io->generation;
	r->keys = io->keys;
	bdev_done(&fb->b, r, io->status, io->text);
	free(s);
}

static bool moves(const struct bdev_req *r)
{
	return r->cmd.op == LUN_READ || r->cmd.op == LUN_WRITE || r->cmd.op == LUN_FLUSH;
}

static void fault_submit(struct bdev *b, struct bdev_req *r)
{
	struct fault_bdev *fb = fb_of(b);
	struct shadow *s = calloc(1, sizeof(*s));

	csv_assert(s != NULL);
	s->fb = fb;
	s->r = r;
	s->due_ns = r->start_ns + (moves(r) ? fb->delay_ns : 0);
	s->io = (struct bdev_req){
		.cmd = r->cmd, .iov = r->iov, .iov_count = r->iov_count, .done = io_done};
	if (r->cmd.op == LUN_WRITE) {
		fb->writes++;
		s->lose = fb->lose_nth && fb->writes == fb->lose_nth;
		s->fail = fb->fail_nth && fb->writes % fb->fail_nth == 0;
		s->held = fb->hold[0] != 0 && r->cmd.off >= fb->hold_from;
	}
	list_add_tail(&s->link, &fb->waiting);
}

static void send_due(struct fault_bdev *fb)
{
	bool hold = fb->hold[0] && access(fb->hold, F_OK) == 0;
	uint64_t now = bdev_now_ns();

	list_for_each_entry_safe (s, tmp, &fb->waiting, struct shadow, link) {
		struct bdev_req *r = s->r;

		if ((s->held && hold) || s->due_ns > now)
			continue;
		list_del(&s->link);
		if (r->cmd.op == LUN_RESET && fb->no_drain) {
			free(s);
			bdev_done(&fb->b, r, LUN_OK, "");
			continue;
		}
		if (r->cmd.op == LUN_PR_READ_KEYS && fb->no_keys) {
			free(s);
			bdev_done(&fb->b, r, LUN_MEDIUM, "fault: READ KEYS failed");
			continue;
		}
		if (s->fail) {
			free(s);
			bdev_done(&fb->b, r, LUN_MEDIUM, "fault: write failed");
			continue;
		}
		bdev_submit(fb->io, &s->io);
	}
}

static void fault_service(struct bdev *b, int revents)
{
	struct fault_bdev *fb = fb_of(b);
	uint64_t n;

	(void)!read(fb->timer_fd, &n, sizeof(n)); /* only to make it quiet */
	if (fb->stall[0] && access(fb->stall, F_OK) == 0) {
		tick(fb, true);
		return;
	}
	send_due(fb);
	/* With the timer's descriptor we do not know what is ready behind: ask. */
	if (b->state != BDEV_DOWN) {
		struct pollfd p = {.fd = bdev_fd(fb->io), .events = (short)bdev_events(fb->io)};

		revents = poll(&p, 1, 0) > 0 ? p.revents : 0;
		(void)bdev_service(fb->io, revents | (b->state == BDEV_UP ? POLLOUT : 0));
	}
	tick(fb, b->state != BDEV_DOWN); /* polling is good enough for a test */
}

static void io_state(void *ctx, struct bdev *io, enum bdev_state state)
{
	struct fault_bdev *fb = ctx;

	if (state == BDEV_UP) {
		fb->b.info = *bdev_info(io);
		bdev_up(&fb->b);
	} else {
		bdev_down(&fb->b, "%s", bdev_text(io));
	}
}

static int fault_fd(const struct bdev *b)
{
	return fb_of(b)->timer_fd;
}

static int fault_events(const struct bdev *b)
{
	(void)b;
	return POLLIN;
}

static void fault_abort(struct bdev *b)
{
	struct fault_bdev *fb = fb_of(b);

	list_for_each_entry_safe (s, tmp, &fb->waiting, struct shadow, link) {
		list_del(&s->link);
		free(s);
	}
	/* Each shadow that is with the bdev behind ends its request by this. */
	bdev_close(fb->io);
	fb->io = NULL;
}

static void fault_free(struct bdev *b)
{
	struct fault_bdev *fb = fb_of(b);

	close(fb->timer_fd);
	free(fb);
}

static const struct bdev_ops fault_ops = {
	.abort = fault_abort,
	.free = fault_free,
	.submit = fault_submit,
	.service = fault_service,
	.fd = fault_fd,
	.events = fault_events,
};

static bool parse(struct fault_bdev *fb, const char *spec)
{
	char copy[600], *save = NULL;

	if (strlen(spec) >= sizeof(copy))
		return false;
	strcpy(copy, spec);
	for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
		char *value = strchr(w, '=');

		if (!value)
			return false;
		*value++ = 0;
		if (!strcmp(w, "delay"))
			fb->delay_ns = strtoull(value, NULL, 10) * NS_PER_MS;
		else if (!strcmp(w, "hold"))
			snprintf(fb->hold, sizeof(fb->hold), "%s", value);
		else if (!strcmp(w, "from"))
			fb->hold_from = strtoull(value, NULL, 10);
		else if (!strcmp(w, "stall"))
			snprintf(fb->stall, sizeof(fb->stall), "%s", value);
		else if (!strcmp(w, "drain") && !strcmp(value, "off"))
			fb->no_drain = true;
		else if (!strcmp(w, "keys") && !strcmp(value, "off"))
			fb->no_keys = true;
		else if (!strcmp(w, "fail"))
			fb->fail_nth = strtoull(value, NULL, 10);
		else if (!strcmp(w, "lose"))
			fb->lose_nth = strtoull(value, NULL, 10);
		else
			return false;
	}
	return true;
}

int fault_bdev_wrap(struct bdev **io, const char *spec, char *text, size_t text_bytes)
{
	struct bdev_config cfg = {.on_state = (*io)->on_state, .ctx = (*io)->ctx};
	struct fault_bdev *fb = calloc(1, sizeof(*fb));

	if (!fb || !parse(fb, spec)) {
		snprintf(text, text_bytes, "faults not understood: %s", spec);
		free(fb);
		return -EINVAL;
	}
	bdev_init(&fb->b, &fault_ops, &cfg);
	list_init(&fb->waiting);
	fb->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	csv_assert(fb->timer_fd >= 0);
	fb->io = *io;
	fb->b.patient = fb->io->patient && !fb->stall[0]; /* a stall is one of a LUN */
	fb->io->on_state = io_state;
	fb->io->ctx = fb;
	tick(fb, true);
	*io = &fb->b;
	return 0;
}
