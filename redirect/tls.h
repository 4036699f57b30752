/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tls.h - frames between nodes over TLS 1.3: the shell under redirect/session.h.
 *
 * One thread of its own, so that encryption does not hold up the core. It listens, connects when told to,
 * checks certificates in both directions, cuts the stream into frames (wire_frame) and delivers events:
 *
 *	EV_NET_UP    handshake done; name = CN of the other side's certificate, signed by our CA
 *	EV_NET_MSG   one frame; its data in a dbuf (csvfs/dbuf.h)
 *	EV_NET_DOWN  gone, or never came up; reason in words
 *
 * It decides nothing: it never connects again. Bounds: a handshake takes TLS_HANDSHAKE_MS at most, a frame
 * that has begun to come must go on coming; a connection whose other side does not read is closed when
 * TLS_QUEUE_BYTES wait for it; while more than TLS_INBOX_BYTES have been delivered and not been handled
 * nothing more is read.
 */
#ifndef CSVFS_REDIRECT_TLS_H
#define CSVFS_REDIRECT_TLS_H

#include <stddef.h>
#include <stdint.h>

#include "csvfs/base/platform.h"

#define TLS_HANDSHAKE_MS 3000
#define TLS_FRAME_MS 5000
#define TLS_QUEUE_BYTES (256u << 20)
#define TLS_INBOX_BYTES (64u << 20)
#define TLS_CONNS_MAX 256
#define TLS_TEXT_MAX 256

/* Connections that were accepted have this bit; the core's own numbers do not. */
#define TLS_CONN_ACCEPTED (1ull << 63)

struct tls;

struct tls_config {
	const char *addr; /* to listen on; NULL or "": all addresses of this machine */
	uint16_t port; /* 0: any; tls_port() says which */
	const char *pki_dir; /* ca.crt, node.crt, node.key */
	/*
	 * Called in the TLS thread; must not block. The event is a copy made for the receiver, who gives
	 * its frame back with tls_event_done() when it has been handled. now_ns and wall_ns are not set.
	 */
	void (*deliver)(void *ctx, const struct event *ev);
	void *ctx;
};

/* 0, or -errno with one line of text that says what to do: bad certificate, address in use, ... */
int tls_start(const struct tls_config *cfg, struct tls **out, char *text, size_t text_bytes);

/* What is queued is sent if it can be at once; every connection ends, without events. NULL is allowed. */
void tls_stop(struct tls *t);

uint16_t tls_port(const struct tls *t);
/* CN of our own certificate: what other nodes will see as our name. */
const char *tls_name(const struct tls *t);

/* From any thread, none of them blocks. They take what they need: nothing passed is kept. */

/* -> EV_NET_UP or EV_NET_DOWN. `name`: the other side's certificate must say so. conn: top bit clear. */
void tls_connect(struct tls *t, uint64_t conn, const char *addr, uint16_t port, const char *name);

/* A frame, and bytes [data_off, data_off + data_len) of the dbuf `data` (a reference of our own is taken). */
void tls_send(struct tls *t, uint64_t conn, const void *bytes, uint32_t len, uint64_t data,
	uint32_t data_off, uint32_t data_len);

/* No event of this connection is delivered after those that are under way already. */
void tls_close(struct tls *t, uint64_t conn);

/* The receiver has handled an EV_NET_MSG: its frame is freed. Its data handle is not touched. */
void tls_event_done(struct tls *t, const struct event *ev);

struct tls_stats {
	uint64_t bytes_in, bytes_out, data_in, data_out; /* frames; file data in them */
	uint64_t accepted, refused; /* connections; handshakes that failed */
};
void tls_get_stats(struct tls *t, struct tls_stats *st);

#endif
