/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/dying.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "csvfs/base/platform.h"
#include "csvfs/bdev.h"
#include "csvfs/proc_status.h"

#define LOOK_NS (300 * NS_PER_MS)

struct waiter {
	uint32_t tid;
	uint64_t tag;
};

struct dying {
	struct dying_config cfg;
	pthread_mutex_t lock;
	struct waiter *w;
	uint32_t count, room;
	uint64_t at_ns;
};

struct dying *dying_create(const struct dying_config *cfg)
{
	struct dying *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->cfg = *cfg;
	d->at_ns = NEVER;
	pthread_mutex_init(&d->lock, NULL);
	return d;
}

void dying_destroy(struct dying *d)
{
	if (!d)
		return;
	pthread_mutex_destroy(&d->lock);
	free(d->w);
	free(d);
}

static uint64_t mask_of(const char *status, const char *name)
{
	const char *at = strstr(status, name);

	return at ? strtoull(at + strlen(name), NULL, 16) : 0;
}

#define BIT(sig) (1ull << ((sig)-1))
/* What ends a process by default with a core dump: the kernel does not turn these into a SIGKILL for each thread. */
#define CORE_SIGNALS                                                                               \
	(BIT(SIGQUIT) | BIT(SIGILL) | BIT(SIGTRAP) | BIT(SIGABRT) | BIT(SIGFPE) | BIT(SIGSEGV) |   \
		BIT(SIGBUS) | BIT(SIGSYS) | BIT(SIGXCPU) | BIT(SIGXFSZ))

/* proc(5). A signal that kills is pending as SIGKILL in every thread of the process (complete_signal()). */
bool dying_status(const char *status)
{
	uint64_t pending = mask_of(status, "\nSigPnd:") | mask_of(status, "\nShdPnd:");
	uint64_t kept = mask_of(status, "\nSigBlk:") | mask_of(status, "\nSigIgn:") |
			mask_of(status, "\nSigCgt:");

	return (pending & BIT(SIGKILL)) || (pending & CORE_SIGNALS & ~kept);
}

static bool is_dying(uint32_t tid)
{
	char *text;
	bool yes;
	int err;

	if (!tid)
		return true;
	text = proc_status(tid, &err);
	if (!text)
		return err == -ENOENT || err == -ESRCH; /* any other error: nothing is known */
	yes = dying_status(text);
	free(text);
	return yes;
}

/* False: no memory to remember it. */
static bool remember(struct dying *d, uint32_t tid, uint64_t tag)
{
	if (d->count == d->room) {
		uint32_t room = d->room ? 2 * d->room : 64;
		struct waiter *w = realloc(d->w, room * sizeof(*w));

		if (!w)
			return false;
		d->w = w;
		d->room = room;
	}
	d->w[d->count++] = (struct waiter){tid, tag};
	return true;
}

void dying_signalled(struct dying *d, uint32_t tid, uint64_t tag)
{
	bool now = is_dying(tid), first = false;

	pthread_mutex_lock(&d->lock);
	if (remember(d, tid, tag)) {
		first = d->at_ns == NEVER;
		if (first)
			d->at_ns = bdev_now_ns() + LOOK_NS;
	} else {
		now = true;
	}
	pthread_mutex_unlock(&d->lock);
	if (now)
		d->cfg.cancel(d->cfg.ctx, tag);
	if (first)
		d->cfg.more(d->cfg.ctx);
}

void dying_step(struct dying *d, uint64_t now_ns)
{
	struct waiter *w;
	uint32_t count;

	pthread_mutex_lock(&d->lock);
	if (now_ns < d->at_ns) {
		pthread_mutex_unlock(&d->lock);
		return;
	}
	w = d->w;
	count = d->count;
	d->w = NULL;
	d->count = d->room = 0;
	d->at_ns = NEVER;
	pthread_mutex_unlock(&d->lock);
	for (uint32_t i = 0; i < count; i++) {
		if (d->cfg.waits(d->cfg.ctx, w[i].tag))
			dying_signalled(d, w[i].tid, w[i].tag);
	}
	free(w);
}

uint64_t dying_deadline(struct dying *d)
{
	uint64_t at_ns;

	pthread_mutex_lock(&d->lock);
	at_ns = d->at_ns;
	pthread_mutex_unlock(&d->lock);
	return at_ns;
}
