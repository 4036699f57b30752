/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tls.c - one thread, one epoll: all connections between this node and the others. What happens on one
 * of them is in tls_conn.c.
 *
 * Threads: `lock` guards the list of commands; inbox_bytes, paused, stop and the statistics are atomic;
 * everything else is the TLS thread's.
 */
#include "redirect/tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "csvfs/base/assert.h"
#include "redirect/tls_impl.h"

#define EVENTS_MAX 64
#define LISTEN_AGAIN_MS 500

static void wake(struct tls *t)
{
	uint64_t one = 1;

	/* It fails only when the counter is full: then the thread is awake already. */
	if (write(t->event_fd, &one, sizeof(one)) < 0)
		return;
}

void tls_event_done(struct tls *t, const struct event *ev)
{
	uint64_t left;

	if (ev->type != EV_NET_MSG)
		return;
	left = __atomic_sub_fetch(
		&t->inbox_bytes, (uint64_t)ev->net.len + ev->net.data_len, __ATOMIC_SEQ_CST);
	free((void *)(uintptr_t)ev->net.bytes);
	if (left < TLS_INBOX_BYTES / 2 && __atomic_load_n(&t->paused, __ATOMIC_SEQ_CST))
		wake(t);
}

/* ------------------------------------------------------------------ accepting */

/* No descriptor or no memory: asking again at once would only heat the machine. */
static void listen_later(struct tls *t)
{
	(void)epoll_ctl(t->epoll_fd, EPOLL_CTL_DEL, t->listen_fd, NULL);
	t->listen_ms = tls_now_ms() + LISTEN_AGAIN_MS;
}

static void listen_again(struct tls *t)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = &t->listen_fd};

	if (epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, t->listen_fd, &e))
		t->listen_ms = tls_now_ms() + LISTEN_AGAIN_MS;
	else
		t->listen_ms = 0;
}

static void accept_all(struct tls *t)
{
	struct sockaddr_storage sa;
	socklen_t len;
	int fd;

	for (int i = 0; i < 16; i++) {
		len = sizeof(sa);
		fd = accept4(
			t->listen_fd, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0 && errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
			listen_later(t);
		if (fd < 0)
			return;
		tls_conn_accept(t, fd, &sa, len);
	}
}

/* ------------------------------------------------------------------ the thread */

static void cmd_free(struct cmd *cmd)
{
	list_del(&cmd->link);
	free(cmd);
}

static void event_fd_drain(struct tls *t)
{
	uint64_t n;

	if (read(t->event_fd, &n, sizeof(n)) < 0)
		return; /* drained before */
}

static void cmds_do(struct tls *t)
{
	struct list todo;

	list_init(&todo);
	pthread_mutex_lock(&t->lock);
	t->woken = false;
	list_splice_tail(&t->cmds, &todo);
	pthread_mutex_unlock(&t->lock);
	list_for_each_entry_safe (cmd, tmp, &todo, struct cmd, link) {
		switch (cmd->type) {
		case CMD_CONNECT:
			tls_conn_connect(t, cmd->conn, cmd->addr, cmd->port, cmd->name);
			break;
		case CMD_SEND:
			tls_conn_send(t, cmd->conn, cmd->out);
			break;
		case CMD_CLOSE:
			tls_conn_close(t, cmd->conn);
			break;
		}
		cmd_free(cmd);
	}
}

/* Those whose budget ran out, or that were given something to send. */
static void again_all(struct tls *t)
{
	list_for_each_entry_safe (c, tmp, &t->conns, struct conn, link)
		if (c->again)
			tls_conn_serve(t, c, 0);
}

/* Ends what is late; how long to wait at most, in ms. -1: for ever. */
static int deadlines(struct tls *t)
{
	uint64_t now = tls_now_ms(), first = UINT64_MAX;
	bool again = false;

	if (t->listen_ms && now >= t->listen_ms)
		listen_again(t);
	if (t->listen_ms)
		first = t->listen_ms;
	list_for_each_entry_safe (c, tmp, &t->conns, struct conn, link) {
		if (c->deadline_ms && t->paused && c->state == CONN_UP)
			c->deadline_ms = now + TLS_FRAME_MS; /* it is we who do not read */
		if (c->deadline_ms && now >= c->deadline_ms) {
			tls_conn_late(t, c);
			continue;
		}
		again |= c->again;
		if (c->deadline_ms && c->deadline_ms < first)
			first = c->deadline_ms;
	}
	if (again)
		return 0;
	if (first == UINT64_MAX)
		return -1;
	return first > now ? (int)(first - now) : 0;
}

/* The receiver has caught up: read again, what OpenSSL has already first. */
static void unpause(struct tls *t)
{
	if (!t->paused || __atomic_load_n(&t->inbox_bytes, __ATOMIC_SEQ_CST) >= TLS_INBOX_BYTES / 2)
		return;
	__atomic_store_n(&t->paused, false, __ATOMIC_SEQ_CST);
	list_for_each_entry (c, &t->conns, struct conn, link) {
		c->again |= c->state == CONN_UP && c->unread;
		tls_conn_watch(t, c);
	}
}

static void *tls_main(void *arg)
{
	struct epoll_event ev[EVENTS_MAX];
	struct tls *t = arg;

	while (!__atomic_load_n(&t->stop, __ATOMIC_SEQ_CST)) {
		int n = epoll_wait(t->epoll_fd, ev, EVENTS_MAX, deadlines(t));
		bool accepts = false;

		for (int i = 0; i < n; i++) {
			if (ev[i].data.ptr == t)
				event_fd_drain(t);
			else if (ev[i].data.ptr == &t->listen_fd)
				accepts = true; /* it may end connections that are in ev[] */
			else
				tls_conn_serve(t, ev[i].data.ptr, ev[i].events);
		}
		if (accepts)
			accept_all(t);
		cmds_do(t);
		again_all(t);
		unpause(t); /* after all reading: see tls_event_done() */
	}
	cmds_do(t);
	list_for_each_entry_safe (c, tmp, &t->conns, struct conn, link)
		tls_conn_end(t, c);
	return NULL;
}

/* ------------------------------------------------------------------ from other threads */

static void cmd_post(struct tls *t, struct cmd *cmd)
{
	bool sleeping;

	pthread_mutex_lock(&t->lock);
	list_add_tail(&cmd->link, &t->cmds);
	sleeping = !t->woken;
	t->woken = true;
	pthread_mutex_unlock(&t->lock);
	if (sleeping)
		wake(t);
}

/* There is no way to go on without these few bytes: the core was promised an event. */
static void *must_alloc(size_t bytes)
{
	void *p = calloc(1, bytes);

	csv_assert(p);
	return p;
}

static struct cmd *cmd_new(enum cmd_type type, uint64_t conn)
{
	struct cmd *cmd = must_alloc(sizeof(*cmd));

	cmd->type = type;
	cmd->conn = conn;
	return cmd;
}

void tls_connect(struct tls *t, uint64_t conn, const char *addr, uint16_t port, const char *name)
{
	struct cmd *cmd = cmd_new(CMD_CONNECT, conn);

	snprintf(cmd->addr, sizeof(cmd->addr), "%s", addr);
	snprintf(cmd->name, sizeof(cmd->name), "%s", name);
	cmd->port = port;
	cmd_post(t, cmd);
}

void tls_send(struct tls *t, uint64_t conn, const void *bytes, uint32_t len, uint64_t data,
	uint32_t data_off, uint32_t data_len)
{
	struct cmd *cmd = cmd_new(CMD_SEND, conn);
	struct out *o = must_alloc(sizeof(*o) + len);

	o->len = len;
	memcpy(o->bytes, bytes, len);
	if (data_len) {
		o->data = dbuf_ref(dbuf_of(data));
		o->data_off = data_off;
		o->data_len = data_len;
		csv_assert(data_off <= o->data->room);
		csv_assert(data_len <= o->data->room - data_off);
	}
	cmd->out = o;
	cmd_post(t, cmd);
}

void tls_close(struct tls *t, uint64_t conn)
{
	cmd_post(t, cmd_new(CMD_CLOSE, conn));
}

void tls_get_stats(struct tls *t, struct tls_stats *st)
{
	st->bytes_in = __atomic_load_n(&t->stats.bytes_in, __ATOMIC_RELAXED);
	st->bytes_out = __atomic_load_n(&t->stats.bytes_out, __ATOMIC_RELAXED);
	st->data_in = __atomic_load_n(&t->stats.data_in, __ATOMIC_RELAXED);
	st->data_out = __atomic_load_n(&t->stats.data_out, __ATOMIC_RELAXED);
	st->accepted = __atomic_load_n(&t->stats.accepted, __ATOMIC_RELAXED);
	st->refused = __atomic_load_n(&t->stats.refused, __ATOMIC_RELAXED);
}

uint16_t tls_port(const struct tls *t)
{
	return t->port;
}

const char *tls_name(const struct tls *t)
{
	return t->name;
}

/* ------------------------------------------------------------------ start and stop */

static int listen_on(const char *addr, uint16_t port, char *text, size_t text_bytes)
{
	struct sockaddr_storage sa;
	int fd, one = 1, off = 0, err;
	socklen_t len;

	if (!tls_address(addr, port, &sa, &len)) {
		snprintf(text, text_bytes, "'%s' is not an IP address to listen on", addr);
		return -EINVAL;
	}
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (sa.ss_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (!bind(fd, (struct sockaddr *)&sa, len) && !listen(fd, 128))
		return fd;
	err = -errno;
	if (err == -EADDRINUSE)
		snprintf(text, text_bytes, "port %u of %s is in use: choose another with -o port=N",
			port, addr);
	else
		snprintf(text, text_bytes, "cannot listen on %s port %u: %s", addr, port,
			strerror(-err));
	close(fd);
	return err;
}

/* Every address: IPv6 with IPv4 in it, or IPv4 alone where there is no IPv6. */
static int listen_any(const char *addr, uint16_t port, char *text, size_t text_bytes)
{
	int fd;

	if (addr && addr[0])
		return listen_on(addr, port, text, text_bytes);
	fd = listen_on("::", port, text, text_bytes);
	return fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL
		       ? listen_on("0.0.0.0", port, text, text_bytes)
		       : fd;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_storage sa = {0};
	socklen_t len = sizeof(sa);

	(void)getsockname(fd, (struct sockaddr *)&sa, &len); /* a bound socket has a name */
	return ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port
					      : ((struct sockaddr_in *)&sa)->sin_port);
}

static int watch(struct tls *t, int fd, void *ptr)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = ptr};

	return epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, fd, &e) ? -errno : 0;
}

/* Signals are the daemon's main thread's; a write to a dead peer is an error code here. */
static int thread_start(struct tls *t)
{
	sigset_t all, was;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	err = pthread_create(&t->thread, NULL, tls_main, t);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	if (!err)
		(void)pthread_setname_np(t->thread, "csvfs-tls");
	return -err;
}

static void tls_free(struct tls *t)
{
	list_for_each_entry_safe (cmd, tmp, &t->cmds, struct cmd, link) {
		if (cmd->out) {
			list_init(&cmd->out->link);
			tls_out_free(cmd->out);
		}
		cmd_free(cmd);
	}
	if (t->listen_fd >= 0)
		close(t->listen_fd);
	if (t->epoll_fd >= 0)
		close(t->epoll_fd);
	if (t->event_fd >= 0)
		close(t->event_fd);
	SSL_CTX_free(t->ctx);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static int tls_open(struct tls *t, char *text, size_t text_bytes)
{
	int err = tls_cert_context(t->pki_dir, &t->ctx, t->name, text, text_bytes);

	if (err)
		return err;
	t->listen_fd = listen_any(t->cfg.addr, t->cfg.port, text, text_bytes);
	if (t->listen_fd < 0)
		return t->listen_fd;
	t->port = port_of(t->listen_fd);
	t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	t->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (t->epoll_fd < 0 || t->event_fd < 0)
		return -errno;
	err = watch(t, t->listen_fd, &t->listen_fd);
	if (!err)
		err = watch(t, t->event_fd, t);
	return err ? err : thread_start(t);
}

int tls_start(const struct tls_config *cfg, struct tls **out, char *text, size_t text_bytes)
{
	struct tls *t = calloc(1, sizeof(*t));
	int err;

	if (!t)
		return -ENOMEM;
	t->cfg = *cfg;
	t->listen_fd = t->epoll_fd = t->event_fd = -1;
	pthread_mutex_init(&t->lock, NULL);
	list_init(&t->cmds);
	list_init(&t->conns);
	snprintf(t->pki_dir, sizeof(t->pki_dir), "%s", cfg->pki_dir);
	text[0] = 0;
	err = tls_open(t, text, text_bytes);
	if (!err) {
		*out = t;
		return 0;
	}
	if (!text[0])
		snprintf(text, text_bytes, "cannot start TLS: %s", strerror(-err));
	tls_free(t);
	return err;
}

void tls_stop(struct tls *t)
{
	if (!t)
		return;
	__atomic_store_n(&t->stop, true, __ATOMIC_SEQ_CST);
	wake(t);
	pthread_join(t->thread, NULL);
	tls_free(t);
}
