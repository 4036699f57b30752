/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tls_conn.c - one connection to another node.
 *
 *	            connect()     TCP is up        handshake done
 *	 tls_connect -----> TCP ----------> HANDSHAKE ----------> UP --+
 *	 accept ----------------------------^    |                     | failed: EV_NET_DOWN
 *	                                         +---------------------+-----> (gone)
 *	                                                               | tls_close(): LINGER -> (gone)
 *
 * LINGER: what was said last (why a HELLO was refused) must reach the other side. Closing a socket with
 * unread bytes would throw it away, so we only stop sending, and read until the other side has closed too.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <openssl/err.h>

#include "redirect/tls_impl.h"

#define READ_BUDGET (2u << 20) /* bytes of one connection before the others have their turn */
#define WRITE_BUDGET (2u << 20)
#define HANDSHAKES_MAX 64 /* accepted and not proven yet */
#define ACCEPTED_MAX (TLS_CONNS_MAX * 3 / 4)
#define LINGER_MS 1000

static void count(uint64_t *counter, uint64_t n)
{
	__atomic_add_fetch(counter, n, __ATOMIC_RELAXED);
}

/* ------------------------------------------------------------------ events to the core */

static void deliver_state(
	struct tls *t, enum ev_type type, const struct conn *c, const char *reason, bool distrust)
{
	struct event ev = {.type = type};

	ev.net.conn = c->id;
	if (type == EV_NET_UP)
		snprintf(ev.net.name, sizeof(ev.net.name), "%s", c->peer.name);
	else
		snprintf(ev.net.reason, sizeof(ev.net.reason), "%.*s",
			(int)sizeof(ev.net.reason) - 1, reason);
	ev.net.distrust = distrust;
	t->cfg.deliver(t->cfg.ctx, &ev);
}

static void deliver_frame(struct tls *t, struct conn *c)
{
	struct event ev = {.type = EV_NET_MSG};

	ev.net.conn = c->id;
	ev.net.bytes = c->frame;
	ev.net.len = WIRE_HEADER_BYTES + c->body_len;
	ev.net.data = dbuf_handle(c->data);
	ev.net.data_len = c->data_len;
	if (c->data)
		c->data->len = c->data_len;
	c->frame = NULL;
	c->data = NULL;
	c->header_have = c->body_have = c->data_have = 0;
	c->deadline_ms = 0;
	count(&t->stats.bytes_in, ev.net.len);
	count(&t->stats.data_in, ev.net.data_len);
	__atomic_add_fetch(&t->inbox_bytes, ev.net.len + ev.net.data_len, __ATOMIC_SEQ_CST);
	t->cfg.deliver(t->cfg.ctx, &ev);
}

/* ------------------------------------------------------------------ connections */

static struct conn *conn_find(struct tls *t, uint64_t id)
{
	list_for_each_entry (c, &t->conns, struct conn, link)
		if (c->id == id && c->state != CONN_LINGER)
			return c;
	return NULL;
}

void tls_conn_watch(struct tls *t, struct conn *c)
{
	struct epoll_event e = {.data.ptr = c};
	uint32_t events = 0;

	if (c->state == CONN_TCP)
		events = EPOLLOUT;
	else
		events = (t->paused && c->state == CONN_UP ? 0 : EPOLLIN) |
			 (c->want_write ? EPOLLOUT : 0);
	/* Of a connection that has broken epoll always tells, again and again: while nobody would listen, once. */
	if (!events)
		events = EPOLLONESHOT;
	if (events == c->events)
		return;
	c->events = events;
	e.events = events;
	(void)epoll_ctl(t->epoll_fd, EPOLL_CTL_MOD, c->fd, &e); /* the descriptor is in the set */
}

void tls_out_free(struct out *o)
{
	list_del(&o->link);
	dbuf_put(o->data);
	free(o);
}

static void queue_drop(struct conn *c)
{
	while (!list_empty(&c->queue))
		tls_out_free(list_first_entry(&c->queue, struct out, link));
	c->queue_bytes = 0;
	c->head_at = 0;
}

static void conn_free(struct tls *t, struct conn *c)
{
	if (c->accepted && c->state == CONN_HANDSHAKE)
		t->handshakes--;
	t->conn_count--;
	list_del(&c->link);
	queue_drop(c);
	SSL_free(c->ssl);
	if (c->fd >= 0)
		close(c->fd);
	free(c->frame);
	dbuf_put(c->data);
	free(c);
}

/* Ends a connection that the core did not close. The caller touches c no more. */
static void conn_fail(struct tls *t, struct conn *c, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void conn_fail(struct tls *t, struct conn *c, const char *fmt, ...)
{
	char reason[TLS_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	if (c->state != CONN_UP)
		count(&t->stats.refused, 1);
	if (c->state != CONN_LINGER)
		deliver_state(t, EV_NET_DOWN, c, reason, c->distrust);
	conn_free(t, c);
}

static void linger_begin(struct tls *t, struct conn *c)
{
	(void)shutdown(c->fd, SHUT_WR); /* it may be gone already */
	queue_drop(c);
	c->id = 0;
	c->state = CONN_LINGER;
	c->again = false;
	c->want_write = false;
	c->deadline_ms = tls_now_ms() + LINGER_MS;
	tls_conn_watch(t, c);
}

static void conn_fail_ssl(struct tls *t, struct conn *c, int ssl_error)
{
	char text[TLS_TEXT_MAX];

	c->distrust = tls_error_text(&c->peer, t->pki_dir, ssl_error, text, sizeof(text));
	if (c->state != CONN_HANDSHAKE) {
		conn_fail(t, c, "%s", text);
		return;
	}
	/* OpenSSL has sent an alert that says why: let it arrive. */
	count(&t->stats.refused, 1);
	deliver_state(t, EV_NET_DOWN, c, text, c->distrust);
	if (c->accepted)
		t->handshakes--;
	linger_begin(t, c);
}

static void socket_options(int fd)
{
	int one = 1, idle = 5, every = 2, count = 3, user_ms = 8000;

	/* Without them a connection works less well, but works. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof(every));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_ms, sizeof(user_ms));
}

/* NULL: too many, or no memory. fd -1: to be set. */
static struct conn *conn_new(struct tls *t, uint64_t id, int fd)
{
	struct conn *c;

	/* Strangers do not take the places of those we connect to. */
	if (t->conn_count >= (fd < 0 ? TLS_CONNS_MAX : ACCEPTED_MAX))
		return NULL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->id = id;
	c->fd = fd;
	list_init(&c->queue);
	c->ssl = SSL_new(t->ctx);
	if (!c->ssl) {
		ERR_clear_error();
		free(c);
		return NULL;
	}
	SSL_set_app_data(c->ssl, &c->peer);
	c->deadline_ms = tls_now_ms() + TLS_HANDSHAKE_MS;
	list_add_tail(&c->link, &t->conns);
	t->conn_count++;
	return c;
}

static bool conn_poll(struct tls *t, struct conn *c, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = c};

	c->events = events;
	return !epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
}

/* ------------------------------------------------------------------ handshake */

static void conn_up(struct tls *t, struct conn *c)
{
	X509 *cert = SSL_get1_peer_certificate(c->ssl);
	bool named = cert && tls_cert_name(cert, c->peer.name);

	X509_free(cert);
	if (!named) {
		conn_fail(t, c, "certificate of %s names no node", c->peer.where);
		return;
	}
	if (c->peer.expect[0] && strcmp(c->peer.expect, c->peer.name) != 0) {
		conn_fail(t, c, "%s has the certificate of %s, not of %s", c->peer.where,
			c->peer.name, c->peer.expect);
		return;
	}
	if (c->accepted)
		t->handshakes--;
	c->state = CONN_UP;
	c->deadline_ms = 0;
	c->want_write = false;
	/* What the other side has sent behind its handshake may have come with it. */
	c->unread = c->again = true;
	count(&t->stats.accepted, c->accepted);
	deliver_state(t, EV_NET_UP, c, NULL, false);
}

static void handshake(struct tls *t, struct conn *c)
{
	int r, e;

	ERR_clear_error();
	errno = 0;
	r = SSL_do_handshake(c->ssl);
	if (r == 1) {
		conn_up(t, c);
		return;
	}
	e = SSL_get_error(c->ssl, r);
	if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE) {
		conn_fail_ssl(t, c, e);
		return;
	}
	c->want_write = e == SSL_ERROR_WANT_WRITE;
}

static bool handshake_begin(struct tls *t, struct conn *c)
{
	if (SSL_set_fd(c->ssl, c->fd) != 1) {
		ERR_clear_error();
		return false;
	}
	if (c->accepted) {
		SSL_set_accept_state(c->ssl);
		t->handshakes++;
	} else {
		SSL_set_connect_state(c->ssl);
	}
	c->state = CONN_HANDSHAKE;
	return true;
}

static void tcp_up(struct tls *t, struct conn *c)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len))
		err = errno;
	if (err) {
		conn_fail(t, c, "cannot reach %s (%s): %s", c->peer.expect, c->peer.where,
			strerror(err));
		return;
	}
	if (!handshake_begin(t, c)) {
		conn_fail(t, c, "%s: no memory for TLS", c->peer.where);
		return;
	}
	handshake(t, c);
}

bool tls_address(const char *addr, uint16_t port, struct sockaddr_storage *sa, socklen_t *len)
{
	struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
	struct addrinfo *ai;
	char service[8];

	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(addr, service, &hints, &ai))
		return false;
	memcpy(sa, ai->ai_addr, ai->ai_addrlen);
	*len = ai->ai_addrlen;
	freeaddrinfo(ai);
	return true;
}

void tls_conn_connect(struct tls *t, uint64_t id, const char *addr, uint16_t port, const char *name)
{
	struct sockaddr_storage sa;
	struct conn *c;
	socklen_t len;

	c = conn_new(t, id, -1);
	if (!c) {
		struct conn none = {.id = id};

		deliver_state(t, EV_NET_DOWN, &none, "too many connections here", false);
		return;
	}
	snprintf(c->peer.where, sizeof(c->peer.where), "%s:%u", addr, port);
	snprintf(c->peer.expect, sizeof(c->peer.expect), "%s", name);
	if (!tls_address(addr, port, &sa, &len)) {
		conn_fail(t, c, "'%s' is not an IP address", addr);
		return;
	}
	c->fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0) {
		conn_fail(t, c, "no socket: %s", strerror(errno));
		return;
	}
	socket_options(c->fd);
	if (connect(c->fd, (struct sockaddr *)&sa, len) && errno != EINPROGRESS) {
		conn_fail(t, c, "cannot reach %s (%s): %s", c->peer.expect, c->peer.where,
			strerror(errno));
		return;
	}
	if (!conn_poll(t, c, EPOLLOUT))
		conn_fail(t, c, "no memory to watch a connection");
}

/* ------------------------------------------------------------------ sending */

/* The next bytes of the queue that lie together. */
static const uint8_t *queue_peek(const struct conn *c, uint32_t *n)
{
	const struct out *o;

	if (list_empty(&c->queue))
		return NULL;
	o = list_first_entry(&c->queue, struct out, link);
	if (c->head_at < o->len) {
		*n = o->len - c->head_at;
		return o->bytes + c->head_at;
	}
	*n = o->len + o->data_len - c->head_at;
	return o->data->bytes + o->data_off + (c->head_at - o->len);
}

static void queue_advance(struct conn *c, uint32_t n)
{
	struct out *o = list_first_entry(&c->queue, struct out, link);

	c->head_at += n;
	c->queue_bytes -= n;
	if (c->head_at < o->len + o->data_len)
		return;
	c->head_at = 0;
	tls_out_free(o);
}

/*
 * What to give to OpenSSL next: a full record straight from a buffer, or small pieces put together, so
 * that a header does not travel in a record and a packet of its own.
 */
static const uint8_t *next_record(struct conn *c, uint32_t *n, bool *direct)
{
	const uint8_t *p;
	uint32_t m;

	*direct = false;
	if (c->record_at == c->record_len) {
		c->record_at = c->record_len = 0;
		p = queue_peek(c, &m);
		if (!p)
			return NULL;
		if (m >= RECORD_BYTES) {
			*direct = true;
			*n = m;
			return p;
		}
		while (c->record_len < RECORD_BYTES && (p = queue_peek(c, &m))) {
			if (m > RECORD_BYTES - c->record_len)
				m = RECORD_BYTES - c->record_len;
			memcpy(c->record + c->record_len, p, m);
			c->record_len += m;
			queue_advance(c, m);
		}
	}
	*n = c->record_len - c->record_at;
	return c->record + c->record_at;
}

/* False: the connection failed and is gone. */
static bool conn_write(struct tls *t, struct conn *c)
{
	uint32_t done = 0, n = 0;
	const uint8_t *p;
	bool direct;

	c->want_write = false;
	while ((p = next_record(c, &n, &direct))) {
		size_t wrote = 0;
		int e;

		if (done >= WRITE_BUDGET) {
			c->again = true;
			return true;
		}
		ERR_clear_error();
		errno = 0;
		if (SSL_write_ex(c->ssl, p, n, &wrote) != 1) {
			e = SSL_get_error(c->ssl, 0);
			if (e == SSL_ERROR_WANT_WRITE || e == SSL_ERROR_WANT_READ) {
				c->want_write = e == SSL_ERROR_WANT_WRITE;
				return true;
			}
			conn_fail_ssl(t, c, e);
			return false;
		}
		done += (uint32_t)wrote;
		count(&t->stats.bytes_out, wrote);
		if (direct)
			queue_advance(c, (uint32_t)wrote);
		else
			c->record_at += (uint32_t)wrote;
	}
	return true;
}

void tls_conn_send(struct tls *t, uint64_t id, struct out *o)
{
	struct conn *c = conn_find(t, id);

	list_init(&o->link);
	if (!c || c->state != CONN_UP) {
		tls_out_free(o);
		return;
	}
	list_add_tail(&o->link, &c->queue);
	c->queue_bytes += o->len + o->data_len;
	count(&t->stats.data_out, o->data_len);
	if (c->queue_bytes > TLS_QUEUE_BYTES) {
		conn_fail(t, c, "%s does not read what we send", c->peer.name);
		return;
	}
	/* Later than the other commands of this turn: more frames may share a record. */
	c->again = true;
}

static bool queue_has_data(const struct conn *c)
{
	list_for_each_entry (o, &c->queue, struct out, link)
		if (o->data)
			return true;
	return false;
}

/* Says what is left to say if that is possible at once. False: c is gone. */
static bool conn_finish(struct tls *t, struct conn *c)
{
	/* Not data: who closes a connection no longer counts on it, and it could take long. */
	if (queue_has_data(c))
		return true;
	if (!conn_write(t, c))
		return false;
	(void)SSL_shutdown(c->ssl); /* a courtesy: the end of TCP says the same */
	return true;
}

void tls_conn_close(struct tls *t, uint64_t id)
{
	struct conn *c = conn_find(t, id);

	if (!c)
		return;
	if (c->state != CONN_UP || queue_has_data(c)) {
		conn_free(t, c);
		return;
	}
	c->state = CONN_LINGER; /* no more events, not even of a failure here */
	if (conn_finish(t, c))
		linger_begin(t, c);
}

/* ------------------------------------------------------------------ receiving */

/* Where the next bytes of the frame go; *n: how many are wanted there. NULL: no memory. */
static uint8_t *frame_room(struct conn *c, uint32_t *n)
{
	if (c->header_have < WIRE_HEADER_BYTES) {
		*n = WIRE_HEADER_BYTES - c->header_have;
		return c->header + c->header_have;
	}
	if (c->body_have < c->body_len) {
		*n = c->body_len - c->body_have;
		return c->frame + WIRE_HEADER_BYTES + c->body_have;
	}
	if (!c->data)
		c->data = dbuf_get(c->data_len);
	if (!c->data)
		return NULL;
	*n = c->data_len - c->data_have;
	return c->data->bytes + c->data_have;
}

/* The header is complete. False: c is gone. */
static bool header_done(struct tls *t, struct conn *c)
{
	int err = wire_frame(c->header, &c->body_len, &c->data_len);

	if (err == -EPROTONOSUPPORT) {
		conn_fail(t, c,
			"%s speaks another version of the protocol: run one release of csvfs",
			c->peer.name);
		return false;
	}
	if (err) {
		conn_fail(t, c, "%s sent %s", c->peer.name,
			err == -EMSGSIZE ? "a frame that is too long"
					 : "what is no frame of csvfs");
		return false;
	}
	c->frame = malloc(WIRE_HEADER_BYTES + c->body_len);
	if (!c->frame) {
		conn_fail(t, c, "no memory for a frame of %s", c->peer.name);
		return false;
	}
	memcpy(c->frame, c->header, WIRE_HEADER_BYTES);
	return true;
}

/* n bytes more are in their place. False: c is gone. */
static bool frame_advance(struct tls *t, struct conn *c, uint32_t n)
{
	if (c->header_have < WIRE_HEADER_BYTES) {
		c->header_have += n;
		if (!c->deadline_ms)
			c->deadline_ms = tls_now_ms() + TLS_FRAME_MS;
		if (c->header_have < WIRE_HEADER_BYTES)
			return true;
		if (!header_done(t, c))
			return false;
	} else if (c->body_have < c->body_len) {
		c->body_have += n;
	} else {
		c->data_have += n;
	}
	if (c->body_have == c->body_len && c->data_have == c->data_len)
		deliver_frame(t, c);
	return true;
}

static bool inbox_full(const struct tls *t)
{
	return __atomic_load_n(&t->inbox_bytes, __ATOMIC_SEQ_CST) > TLS_INBOX_BYTES;
}

/*
 * What has come is in the socket, of which epoll tells as long as there is any, or OpenSSL has taken it from there (it reads
 * ahead). That it has something says nothing: a part of a record can only be waited for. But SSL_ERROR_WANT_READ says that
 * the socket had no more and that no whole record is left: then all that comes next shows in epoll, and there is
 * nothing to do before. Until it has been said, `unread` is set, and one of these is to come, each of which leads here:
 *   again       the budget ran out, or the handshake has just ended
 *   t->paused   unpause() sets `again`
 *   want_write  EPOLLOUT
 */
static void conn_read(struct tls *t, struct conn *c)
{
	uint32_t done = 0, n = 0;

	while (!t->paused) {
		uint8_t *p = frame_room(c, &n);
		size_t got = 0;
		int e;

		c->unread = true;
		if (!p) {
			conn_fail(t, c, "no memory for data of %s", c->peer.name);
			return;
		}
		ERR_clear_error();
		errno = 0;
		if (SSL_read_ex(c->ssl, p, n, &got) != 1) {
			e = SSL_get_error(c->ssl, 0);
			if (e == SSL_ERROR_WANT_READ)
				c->unread = false;
			else if (e == SSL_ERROR_WANT_WRITE)
				c->want_write = true;
			else
				conn_fail_ssl(t, c, e);
			return;
		}
		if (!frame_advance(t, c, (uint32_t)got))
			return;
		if (inbox_full(t))
			__atomic_store_n(&t->paused, true, __ATOMIC_SEQ_CST);
		done += (uint32_t)got;
		if (done >= READ_BUDGET) {
			c->again = true;
			return;
		}
	}
}

/* LINGER: what comes is of no interest; the end is. */
static void linger(struct tls *t, struct conn *c)
{
	uint8_t junk[4096];
	ssize_t n;

	for (int i = 0; i < 64; i++) {
		n = read(c->fd, junk, sizeof(junk));
		if (n > 0)
			continue;
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			conn_free(t, c);
		return;
	}
}

/* ------------------------------------------------------------------ accepting */

/* Who cannot prove anything in time makes room for others. */
static void oldest_handshake_drop(struct tls *t)
{
	list_for_each_entry (c, &t->conns, struct conn, link) {
		if (!c->accepted || c->state != CONN_HANDSHAKE)
			continue;
		conn_fail(t, c, "%s: too many handshakes at once", c->peer.where);
		return;
	}
}

/* To hear why one was refused is a courtesy: nobody who may come in waits for that. */
static void oldest_linger_drop(struct tls *t)
{
	list_for_each_entry (c, &t->conns, struct conn, link) {
		if (c->state != CONN_LINGER)
			continue;
		conn_free(t, c);
		return;
	}
}

void tls_conn_accept(struct tls *t, int fd, const struct sockaddr_storage *sa, socklen_t len)
{
	char host[ADDR_MAX], service[8];
	struct conn *c;

	if (t->handshakes >= HANDSHAKES_MAX)
		oldest_handshake_drop(t);
	if (t->conn_count >= ACCEPTED_MAX)
		oldest_linger_drop(t);
	c = conn_new(t, TLS_CONN_ACCEPTED | ++t->next_accepted, fd);
	if (!c) {
		close(fd);
		return;
	}
	c->accepted = true;
	if (getnameinfo((const struct sockaddr *)sa, len, host, sizeof(host), service,
		    sizeof(service), NI_NUMERICHOST | NI_NUMERICSERV))
		snprintf(host, sizeof(host), "?");
	snprintf(c->peer.where, sizeof(c->peer.where), "%s", host);
	socket_options(fd);
	if (!handshake_begin(t, c) || !conn_poll(t, c, EPOLLIN))
		conn_free(t, c);
}

/* ------------------------------------------------------------------ what happens to it */

void tls_conn_serve(struct tls *t, struct conn *c, uint32_t events)
{
	uint64_t id = c->id;

	switch (c->state) {
	case CONN_TCP:
		tcp_up(t, c);
		break;
	case CONN_HANDSHAKE:
		handshake(t, c);
		break;
	case CONN_UP:
		c->again = false;
		if (!conn_write(t, c))
			return;
		/* conn_write() has forgotten what a read may have waited to write. */
		if (events || c->unread)
			conn_read(t, c);
		break;
	case CONN_LINGER:
		linger(t, c);
		return;
	}
	c = conn_find(t, id); /* it may be gone */
	if (c)
		tls_conn_watch(t, c);
}

void tls_conn_late(struct tls *t, struct conn *c)
{
	switch (c->state) {
	case CONN_TCP:
		conn_fail(t, c, "cannot reach %s (%s): no answer in %d s", c->peer.expect,
			c->peer.where, TLS_HANDSHAKE_MS / 1000);
		return;
	case CONN_HANDSHAKE:
		conn_fail(t, c, "%s did not finish the TLS handshake in %d s", c->peer.where,
			TLS_HANDSHAKE_MS / 1000);
		return;
	case CONN_UP:
		conn_fail(t, c, "%s did not finish a frame in %d s", c->peer.name,
			TLS_FRAME_MS / 1000);
		return;
	case CONN_LINGER:
		conn_free(t, c);
		return;
	}
}

void tls_conn_end(struct tls *t, struct conn *c)
{
	c->id = 0;
	if (c->state == CONN_UP) {
		c->state = CONN_LINGER;
		if (!conn_finish(t, c))
			return;
	}
	conn_free(t, c);
}
