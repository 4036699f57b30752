/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loop.c - the core's thread: events in, node_step(), effects out.
 *
 * Order within a turn: commands that have ended, then the inbox, then the timer; what a step
 * submits to the LUN goes out with the next flush, at the latest at the end of the turn.
 *
 * Rules
 *  1. node_step() is never called from inside a callback or while effects are being carried out:
 *     what they have to say goes through `ended` or the inbox.
 *  2. PATH_CLOSED comes after every EV_LUN_DONE of that path: `ended` is emptied before the inbox
 *     is read.
 *  3. Without a cluster a data thread that has posted something runs the core itself, if nobody does at
 *     that moment: a request of the kernel is then read, executed, committed and answered without a change of
 *     threads. Who holds loop.core looks into the inbox once more after it has let go: so a data thread
 *     that finds it held need not wait, nor wake anybody.
 */
#include "csvfs/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "csvfs/base/assert.h"
#include "csvfs/loop_int.h"

/* What epoll says is ready. OWN_EVENT of loop_lun.c is 1. */
enum ready { READY_INBOX, READY_OWN, READY_CTL, READY_SIGNAL, READY_PARENT };

#define FLUSH_EVERY 32 /* commands collected before they are sent */
#define MEM_MORE (512ull << 20) /* of the core beside its cache; only what is used is real */

static int64_t wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * (int64_t)NS_PER_SEC + ts.tv_nsec;
}

/* ------------------------------------------------------------------ effects */

static void reply(struct loop *l, const struct effect *e)
{
	if (e->tag & FUSE_OPS_TAG)
		fuse_ops_reply(l->fuse, e->tag, e->reply);
	else
		log_line(TRACE_ERROR, "a reply to nobody: tag %llx", (unsigned long long)e->tag);
}

static void ctl_answer(struct loop *l, const struct effect *e)
{
	const char *text = e->net.bytes;
	size_t len = e->net.len;
	char *more = NULL;

	if (!e->net.err && len && text[0] == '{')
		more = loop_state(l, text, len, &len);
	ctl_reply(l->ctl, e->tag, e->net.err, more ? more : text, len);
	free(more);
}

static void leave(struct loop *l, const struct effect *e)
{
	l->exiting = true;
	l->exit_err = e->net.err;
	snprintf(l->exit_text, sizeof(l->exit_text), "%.*s", (int)e->net.len,
		(const char *)e->net.bytes);
}

static void net_effect(struct loop *l, const struct effect *e)
{
	if (!l->tls) {
		log_line(TRACE_ERROR, "the core wants the network of a volume that has none");
		return;
	}
	if (e->type == FX_NET_CONNECT)
		tls_connect(l->tls, e->net.conn, e->net.addr, e->net.port, e->net.name);
	else if (e->type == FX_NET_SEND)
		tls_send(l->tls, e->net.conn, e->net.bytes, e->net.len, e->net.data,
			e->net.data_off, e->net.data_len);
	else
		tls_close(l->tls, e->net.conn);
}

static void cpg_effect(struct loop *l, const struct effect *e)
{
	int err = 0;

	if (!l->cpg)
		return;
	if (e->type == FX_CPG_JOIN)
		cpg_rejoin(l->cpg);
	else
		err = cpg_send(l->cpg, e->net.bytes, e->net.len);
	/* Corosync being down is an event of its own, and no news here. */
	if (err && err != -ENOTCONN)
		log_line(TRACE_WARN, "corosync: a message was not sent: %s", strerror(-err));
	if (err == -ENOBUFS)
		node_not_sent(l->node, e->net.bytes, e->net.len);
}

static void carry_out(struct loop *l, const struct effect *e)
{
	switch (e->type) {
	case FX_LUN:
		loop_lun_submit(l, e->tag, &e->lun);
		return;
	case FX_PATH_OPEN:
		loop_path_open(l);
		return;
	case FX_PATH_CLOSE:
		loop_path_close(l);
		return;
	case FX_CPG_SEND:
	case FX_CPG_JOIN:
		cpg_effect(l, e);
		return;
	case FX_NET_CONNECT:
	case FX_NET_SEND:
	case FX_NET_CLOSE:
		net_effect(l, e);
		return;
	case FX_REPLY:
		if (!(e->tag & DATAPATH_TAG) || !datapath_apply(l->data, e))
			reply(l, e);
		return;
	case FX_DATA_FREE:
		dbuf_put(dbuf_of(e->data));
		return;
	case FX_BLOCK_DONE:
	case FX_BLOCK_RETRY:
	case FX_BLOCK_DATA:
	case FX_LAYOUT_PUT:
	case FX_LAYOUT_SIZE:
	case FX_LAYOUT_CLOSE:
	case FX_LAYOUT_DROP:
	case FX_TIMES:
	case FX_GATE:
	case FX_LOCKS_LOST:
		if (!datapath_apply(l->data, e))
			log_line(
				TRACE_ERROR, "the data path does not know effect %d", (int)e->type);
		return;
	case FX_CTL_REPLY:
		ctl_answer(l, e);
		return;
	case FX_INVAL:
		fuse_ops_inval(l->fuse, e->inval.ino, e->inval.generation, NULL);
		return;
	case FX_EXIT:
		leave(l, e);
		return;
	}
}

static void step(struct loop *l, struct event *ev)
{
	l->now_ns = bdev_now_ns();
	ev->now_ns = l->now_ns;
	ev->wall_ns = wall_ns();
	node_step(l->node, ev, l->fx);
	for (uint32_t i = 0; i < l->fx->count; i++)
		carry_out(l, &l->fx->fx[i]);
	if (l->unsent >= FLUSH_EVERY)
		loop_lun_flush(l);
	if (!l->ready && !l->exiting && node_ready(l->node)) {
		l->ready = true;
		log_line(TRACE_INFO, "%s is mounted at %s", l->cfg->fsname, l->cfg->mountpoint);
		l->lc->ready(l->lc->ctx);
	}
}

/* ------------------------------------------------------------------ events */

static void stop(struct loop *l)
{
	struct event ev = {.type = EV_STOP};

	if (l->stopping)
		return;
	l->stopping = true;
	inbox_post(l->inbox, INBOX_EVENT, &ev, NULL, 0);
}

static void run_ended(struct loop *l)
{
	struct event ev;
	struct lun_io *io;

	while (!l->exiting && loop_lun_next(l, &ev, &io)) {
		step(l, &ev);
		loop_lun_free(io);
	}
}

static void run_item(struct loop *l, struct inbox_item *i)
{
	switch (i->kind) {
	case INBOX_EVENT:
		step(l, &i->ev);
		return;
	case INBOX_NET:
		step(l, &i->ev);
		tls_event_done(l->tls, &i->ev);
		return;
	case INBOX_DATA_PATH:
		loop_path_data(l, &i->ev);
		return;
	case INBOX_REGISTERED:
		loop_lun_registered(l, &i->ev);
		return;
	case INBOX_UNMOUNTED:
		log_line(TRACE_INFO, "%s was unmounted", l->cfg->mountpoint);
		stop(l);
		return;
	}
}

/* After leaving: what came with the item must not be lost. */
static void drop_item(struct loop *l, struct inbox_item *i)
{
	if (i->kind != INBOX_NET)
		return;
	if (i->ev.type == EV_NET_MSG && i->ev.net.data)
		dbuf_put(dbuf_of(i->ev.net.data));
	tls_event_done(l->tls, &i->ev);
}

static void run_inbox(struct loop *l)
{
	struct inbox_item *i = inbox_take(l->inbox);

	while (i) {
		struct inbox_item *next = i->next;

		run_ended(l);
		if (l->exiting)
			drop_item(l, i);
		else
			run_item(l, i);
		loop_path_step(l);
		free(i);
		i = next;
	}
}

static void run_timer(struct loop *l)
{
	struct event ev = {.type = EV_TIMER};

	if (!l->exiting && node_deadline(l->node) <= bdev_now_ns())
		step(l, &ev);
}

static void on_signal(struct loop *l)
{
	struct signalfd_siginfo si;

	while (read(l->signal_fd, &si, sizeof(si)) == sizeof(si)) {
		if (l->stop_signals++ || !l->ready) {
			log_line(TRACE_INFO, "signal %u: leaving now", si.ssi_signo);
			stop(l);
		} else {
			/*
			 * It ends when the last file is closed; a second signal does not wait for
			 * that.
			 */
			log_line(TRACE_INFO, "signal %u: unmounting", si.ssi_signo);
			fuse_ops_unmount(l->fuse);
		}
	}
}

static void on_ready(struct loop *l, const struct epoll_event *e)
{
	switch ((enum ready)e->data.u32) {
	case READY_INBOX: /* run each turn */
		return;
	case READY_OWN:
		loop_lun_service(l, (int)e->events);
		return;
	case READY_CTL:
		ctl_service(l->ctl);
		return;
	case READY_SIGNAL:
		on_signal(l);
		return;
	case READY_PARENT:
		(void)epoll_ctl(l->ep, EPOLL_CTL_DEL, l->lc->parent_fd, NULL);
		if (!l->ready) {
			log_line(TRACE_INFO, "whoever asked for the mount has gone: leaving");
			stop(l);
		}
		return;
	}
}

static uint64_t until_ns(struct loop *l)
{
	uint64_t until = node_deadline(l->node), watch = loop_lun_watch(l);
	uint64_t dying = dying_deadline(l->dying);

	if (watch < until)
		until = watch;
	return dying < until ? dying : until;
}

static int wait_ms(struct loop *l)
{
	uint64_t until = until_ns(l), now = bdev_now_ns();

	l->sleep_ns = until;
	if (!list_empty(&l->ended) || until <= now)
		return 0;
	/* While a session without a descriptor is opening it wants to be asked. */
	if (l->own && l->own_fd < 0)
		return 50;
	if (until == NEVER || until - now > 3600 * NS_PER_SEC)
		return 3600 * 1000;
	return (int)((until - now + NS_PER_MS - 1) / NS_PER_MS);
}

static void turns(struct loop *l)
{
	struct event start = {.type = EV_START};

	pthread_mutex_lock(&l->core);
	step(l, &start);
	while (!l->exiting) {
		struct epoll_event e[8];
		int n, ms;

		loop_lun_flush(l);
		loop_path_step(l);
		loop_lun_poll(l);
		ms = wait_ms(l);
		pthread_mutex_unlock(&l->core);
		atomic_thread_fence(memory_order_seq_cst); /* rule 3 */
		n = epoll_wait(l->ep, e, 8, inbox_is_empty(l->inbox) ? ms : 0);
		pthread_mutex_lock(&l->core);
		l->sleep_ns = 0;
		for (int i = 0; i < n; i++)
			on_ready(l, &e[i]);
		if (l->own && (l->own_fd < 0 || bdev_now_ns() >= bdev_due_ns(l->own)))
			loop_lun_service(l, 0);
		loop_path_step(l);
		run_ended(l);
		run_inbox(l);
		run_ended(l);
		run_timer(l);
		dying_step(l->dying, bdev_now_ns());
	}
	pthread_mutex_unlock(&l->core);
}

/* All that there is to do at this moment. The core is held. */
static void run_all(struct loop *l)
{
	do {
		loop_path_step(l);
		run_ended(l);
		run_inbox(l);
		run_ended(l);
		loop_lun_flush(l);
	} while (!l->exiting && (!list_empty(&l->ended) || !inbox_is_empty(l->inbox)));
	if (l->exiting) {
		inbox_ring(l->inbox);
		return;
	}
	loop_path_step(l);
	loop_lun_poll(l);
	if (until_ns(l) < l->sleep_ns) {
		l->sleep_ns = 0;
		inbox_ring(l->inbox);
	}
}

/* A data thread has done what it could, and posted: rule 3. */
static void turn(void *ctx)
{
	struct loop *l = ctx;

	while (!inbox_is_empty(l->inbox)) {
		if (pthread_mutex_trylock(&l->core))
			return;
		if (!l->exiting)
			run_all(l);
		if (l->exiting) {
			pthread_mutex_unlock(&l->core);
			return;
		}
		pthread_mutex_unlock(&l->core);
		atomic_thread_fence(memory_order_seq_cst);
	}
}

/* ------------------------------------------------------------------ what others call */

static void post(void *ctx, const struct event *ev)
{
	struct loop *l = ctx;

	if (l->lc->cluster)
		inbox_post(l->inbox, INBOX_EVENT, ev, NULL, 0);
	else
		inbox_post_quietly(l->inbox, INBOX_EVENT, ev); /* turn() follows */
}

static void signalled(void *ctx, uint32_t tid, uint64_t tag)
{
	struct loop *l = ctx;

	dying_signalled(l->dying, tid, tag);
}

static bool still_waits(void *ctx, uint64_t tag)
{
	struct loop *l = ctx;

	return tag & DATAPATH_TAG ? datapath_waits(l->data, tag) : fuse_ops_waits(l->fuse, tag);
}

static void cancel(void *ctx, uint64_t tag)
{
	struct loop *l = ctx;
	struct event ev = {.type = EV_CANCEL, .tag = tag};

	if (tag & DATAPATH_TAG)
		datapath_cancel(l->data, tag);
	else
		post(l, &ev);
}

static void dying_more(void *ctx)
{
	struct loop *l = ctx;

	inbox_ring(l->inbox);
}

static void post_cpg(void *ctx, const struct event *ev)
{
	struct loop *l = ctx;
	bool msg = ev->type == EV_CPG_MSG;

	inbox_post(l->inbox, INBOX_EVENT, ev, msg ? ev->msg.bytes : NULL, msg ? ev->msg.len : 0);
}

static void post_net(void *ctx, const struct event *ev)
{
	struct loop *l = ctx;

	inbox_post(l->inbox, INBOX_NET, ev, NULL, 0);
}

static void post_path(void *ctx, enum path_state state, const char *text)
{
	struct loop *l = ctx;
	struct event ev = {.type = EV_PATH, .path.state = state};

	snprintf(ev.path.text, sizeof(ev.path.text), "%s", text ? text : "");
	inbox_post(l->inbox, INBOX_DATA_PATH, &ev, NULL, 0);
}

static void post_unmount(void *ctx)
{
	struct loop *l = ctx;
	struct event ev = {.type = EV_STOP};

	inbox_post(l->inbox, INBOX_UNMOUNTED, &ev, NULL, 0);
}

static void ctl_asked(void *ctx, uint64_t tag, const struct ctl_request *rq)
{
	struct loop *l = ctx;
	struct event ev = {.type = EV_CTL, .tag = tag, .ctl = *rq};

	if (rq->op != CTL_STATE)
		log_line(TRACE_INFO, "csvctl asks for %s %s",
			rq->op == CTL_MOVE     ? "move to"
			: rq->op == CTL_PAUSE  ? "pause"
			: rq->op == CTL_RESUME ? "resume"
			: rq->op == CTL_GROW   ? "grow"
			: rq->op == CTL_SCRUB  ? "scrub"
					       : "redirect",
			rq->op == CTL_MOVE || rq->op == CTL_SCRUB ? rq->name
			: rq->op != CTL_REDIRECT ? ""
			: rq->on		 ? "on"
						 : "off");
	inbox_post(l->inbox, INBOX_EVENT, &ev, NULL, 0);
}

/* ------------------------------------------------------------------ start and end */

static void watch_fd(struct loop *l, int fd, enum ready what)
{
	struct epoll_event e = {.events = what == READY_PARENT ? 0 : EPOLLIN, .data.u32 = what};

	csv_assert(epoll_ctl(l->ep, EPOLL_CTL_ADD, fd, &e) == 0);
}

static int make_node(struct loop *l, char *text, size_t text_bytes)
{
	l->region_bytes = l->cfg->cache_bytes + MEM_MORE;
	l->region = mmap(NULL, l->region_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (l->region == MAP_FAILED) {
		l->region = NULL;
		snprintf(text, text_bytes, "out of memory: %llu bytes of address space",
			(unsigned long long)l->region_bytes);
		return -ENOMEM;
	}
	mem_init(&l->mem, l->region, l->region_bytes);
	l->fx = calloc(1, sizeof(*l->fx));
	csv_assert(l->fx != NULL);
	l->fx->arena = malloc(EFFECTS_ARENA);
	csv_assert(l->fx->arena != NULL);
	l->node = node_create(&l->lc->node, &l->mem, log_trace());
	if (!l->node) {
		snprintf(text, text_bytes, "out of memory: cache=%llu is too little",
			(unsigned long long)l->cfg->cache_bytes);
		return -ENOMEM;
	}
	return 0;
}

static int start_cluster(struct loop *l, char *text, size_t text_bytes)
{
	const struct tls_config tc = {.addr = l->lc->node.addr,
		.port = l->cfg->port,
		.pki_dir = l->cfg->pki,
		.deliver = post_net,
		.ctx = l};
	int err;

	if (!l->lc->cluster)
		return 0;
	err = tls_start(&tc, &l->tls, text, text_bytes);
	if (!err && strcmp(tls_name(l->tls), l->lc->node.name)) {
		snprintf(text, text_bytes,
			"%s/node.crt is the certificate of %s, but this node is %s; csvctl pki "
			"node %s makes it",
			l->cfg->pki, tls_name(l->tls), l->lc->node.name, l->lc->node.name);
		err = -EINVAL;
	}
	if (!err)
		err = cpg_open(&l->cpg, l->lc->node.uuid, post_cpg, l, text, text_bytes);
	return err;
}

static int start_kernel(struct loop *l, char *text, size_t text_bytes)
{
	const struct config *c = l->cfg;
	const struct probe *v = l->lc->volume;
	const struct fuse_ops_config fc = {.mountpoint = c->mountpoint,
		.fsname = c->fsname,
		.root_ino = l->lc->node.root_ino,
		.readonly = c->readonly,
		.cache = !l->lc->cluster,
		.noatime = c->noatime,
		.nodiratime = c->nodiratime,
		.nosuid = c->nosuid,
		.nodev = c->nodev,
		.noexec = c->noexec,
		.sync = c->sync,
		.dirsync = c->dirsync,
		.post = post,
		.signalled = signalled,
		.ctx = l};
	struct datapath_config dc = {.bdev = l->own_cfg,
		.threads = c->threads,
		.data_start = le64_get(v->super.data_start) * BLOCK_SIZE,
		.cluster_bytes = le32_get(v->super.cluster_bytes),
		.standalone = !l->lc->cluster,
		.answer_ns = c->io_timeout_ns,
		.hold_ns = c->hold_ns,
		.sync = c->sync,
		.post = post,
		.turn = l->lc->cluster ? NULL : turn,
		.signalled = signalled,
		.on_path = post_path,
		.on_unmount = post_unmount,
		.ctx = l};
	int err = fuse_ops_mount(&fc, &l->fuse, text, text_bytes);

	if (err)
		return err;
	dc.fuse = l->fuse;
	dc.bdev.on_state = NULL;
	dc.bdev.ctx = NULL;
	err = datapath_start(&dc, &l->data);
	if (err)
		snprintf(text, text_bytes, "data threads: %s", strerror(-err));
	return err;
}

static int start(struct loop *l, char *text, size_t text_bytes)
{
	const struct dying_config dc = {
		.waits = still_waits, .cancel = cancel, .more = dying_more, .ctx = l};
	sigset_t signals;
	int err;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	l->ep = epoll_create1(EPOLL_CLOEXEC);
	l->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	csv_assert(l->ep >= 0 && l->signal_fd >= 0);
	pthread_mutex_init(&l->core, NULL);
	l->inbox = inbox_create();
	l->dying = dying_create(&dc);
	csv_assert(l->dying != NULL);
	loop_lun_init(l);
	err = make_node(l, text, text_bytes);
	if (!err)
		err = ctl_open(l->lc->ctl_path, ctl_asked, l, &l->ctl, text, text_bytes);
	if (!err)
		err = start_cluster(l, text, text_bytes);
	if (!err)
		err = start_kernel(l, text, text_bytes);
	if (err)
		return err;
	watch_fd(l, inbox_fd(l->inbox), READY_INBOX);
	watch_fd(l, ctl_fd(l->ctl), READY_CTL);
	watch_fd(l, l->signal_fd, READY_SIGNAL);
	if (l->lc->parent_fd >= 0)
		watch_fd(l, l->lc->parent_fd, READY_PARENT);
	return 0;
}

static void finish(struct loop *l)
{
	if (l->fuse)
		fuse_ops_unmount(l->fuse);
	if (l->data)
		datapath_stop(l->data);
	loop_lun_close(l);
	l->exiting = true;
	run_inbox(l); /* drops what is in it */
	if (l->cpg)
		cpg_close(l->cpg);
	tls_stop(l->tls);
	if (l->fuse)
		fuse_ops_destroy(l->fuse);
	ctl_close(l->ctl);
	inbox_destroy(l->inbox);
	dying_destroy(l->dying);
	pthread_mutex_destroy(&l->core);
	close(l->signal_fd);
	close(l->ep);
	if (l->fx)
		free(l->fx->arena);
	free(l->fx);
	if (l->region)
		munmap(l->region, l->region_bytes);
}

int loop_run(const struct loop_config *cfg, char *text, size_t text_bytes)
{
	struct loop *l = calloc(1, sizeof(*l));
	int err;

	csv_assert(l != NULL);
	l->lc = cfg;
	l->cfg = cfg->cfg;
	err = start(l, text, text_bytes);
	if (!err) {
		turns(l);
		err = l->exit_err;
		snprintf(text, text_bytes, "%s", l->exit_text);
	}
	finish(l);
	free(l);
	return err;
}
