/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tls_impl.h - what tls.c (thread, commands, listening) and tls_conn.c (one connection) share. */
#ifndef CSVFS_REDIRECT_TLS_IMPL_H
#define CSVFS_REDIRECT_TLS_IMPL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#include "csvfs/base/list.h"
#include "csvfs/dbuf.h"
#include "redirect/tls.h"
#include "redirect/tls_cert.h"
#include "redirect/wire.h"

#define RECORD_BYTES 16384 /* the longest TLS record */

enum conn_state { CONN_TCP, CONN_HANDSHAKE, CONN_UP, CONN_LINGER };

/* A frame on its way out. */
struct out {
	struct list link;
	struct dbuf *data;
	uint32_t data_off, data_len;
	uint32_t len;
	uint8_t bytes[];
};

struct conn {
	struct list link;
	enum conn_state state;
	uint64_t id;
	int fd;
	SSL *ssl;
	bool accepted;
	bool distrust; /* a certificate was refused, here or there */
	uint32_t events; /* what epoll watches for */
	bool want_write; /* OpenSSL cannot go on before the socket takes more */
	bool again; /* go on without waiting: a budget ran out, or there is something new to do */
	bool unread; /* OpenSSL may hold what could be read: epoll does not see that. tls_conn.c, "receiving" */
	uint64_t
		deadline_ms; /* of the handshake, of the frame that comes, of the linger; 0: none */
	struct tls_peer peer;

	/* In: header, then body behind it, then data. */
	uint8_t header[WIRE_HEADER_BYTES];
	uint32_t header_have, body_len, data_len, body_have, data_have;
	uint8_t *frame;
	struct dbuf *data;

	/* Out: a record put together from small pieces, and the queue behind it. */
	uint8_t record[RECORD_BYTES];
	uint32_t record_len, record_at;
	struct list queue;
	uint32_t head_at; /* bytes of the first frame, with its data, that are gone */
	uint64_t queue_bytes;
};

enum cmd_type { CMD_CONNECT, CMD_SEND, CMD_CLOSE };

struct cmd {
	struct list link;
	enum cmd_type type;
	uint64_t conn;
	struct out *out;
	char addr[ADDR_MAX], name[NODE_NAME_MAX];
	uint16_t port;
};

struct tls {
	struct tls_config cfg;
	char pki_dir[1024];
	char name[NODE_NAME_MAX];
	uint16_t port;
	SSL_CTX *ctx;
	int listen_fd, epoll_fd, event_fd;
	pthread_t thread;

	pthread_mutex_t lock;
	struct list cmds;
	bool woken, stop;

	/* The thread's own. */
	struct list conns;
	uint32_t conn_count, handshakes;
	uint64_t next_accepted;
	uint64_t listen_ms; /* not 0: no connections are accepted until then */
	bool paused; /* the receiver is behind: nothing is read */
	uint64_t inbox_bytes;
	struct tls_stats stats;
};

static inline uint64_t tls_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- tls_conn.c. A function that may end the connection says so; c is not touched after it then. */

/* -> EV_NET_UP or EV_NET_DOWN. */
void tls_conn_connect(
	struct tls *t, uint64_t id, const char *addr, uint16_t port, const char *name);
void tls_conn_accept(struct tls *t, int fd, const struct sockaddr_storage *sa, socklen_t len);

/* Queues a frame, which is sent when tls_conn_serve() is called next. Takes o. May end it. */
void tls_conn_send(struct tls *t, uint64_t id, struct out *o);
void tls_conn_close(struct tls *t, uint64_t id);

/* Moves what can be moved; events of epoll, 0: none. May end it. */
void tls_conn_serve(struct tls *t, struct conn *c, uint32_t events);
/* What epoll watches for, after a change of t->paused. */
void tls_conn_watch(struct tls *t, struct conn *c);
/* deadline_ms has come. Ends it. */
void tls_conn_late(struct tls *t, struct conn *c);
/* The daemon ends: says what is left to say if that is possible at once. Ends it, without an event. */
void tls_conn_end(struct tls *t, struct conn *c);

void tls_out_free(struct out *o);
bool tls_address(const char *addr, uint16_t port, struct sockaddr_storage *sa, socklen_t *len);

#endif
