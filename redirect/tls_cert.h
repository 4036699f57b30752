/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tls_cert.h - certificates as tls.c uses them: load ours, check theirs, say what is wrong. */
#ifndef CSVFS_REDIRECT_TLS_CERT_H
#define CSVFS_REDIRECT_TLS_CERT_H

#include <stdbool.h>
#include <stddef.h>

#include <openssl/ssl.h>

#include "csvfs/base/limits.h"

/* Who is, or should be, at the other end. SSL_get_app_data() of every connection points to one. */
struct tls_peer {
	char where[ADDR_MAX + 8]; /* address, and port if we connected */
	char expect[NODE_NAME_MAX]; /* name that its certificate must have; empty: any */
	char name[NODE_NAME_MAX]; /* name that its certificate has; empty: not known yet */
	/* Set while its certificate is checked. */
	int verify_error;
	char verify_name[NODE_NAME_MAX];
};

/*
 * TLS 1.3 alone, mutual certificates, no resumption: a connection always proves who is there. `name` gets
 * the CN of our certificate. 0, or -errno and one line of text that says what to do.
 */
int tls_cert_context(const char *pki_dir, SSL_CTX **ctx, char name[NODE_NAME_MAX], char *text,
	size_t text_bytes);

/* The CN of a certificate; false: it has none that could be a node's name. */
bool tls_cert_name(X509 *cert, char name[NODE_NAME_MAX]);

/*
 * Why an SSL call failed: ssl_error is what SSL_get_error() said; errno and the error queue as it left them.
 * True: one side does not accept the other's certificate, so that connecting again will not help.
 */
bool tls_error_text(const struct tls_peer *p, const char *pki_dir, int ssl_error, char *text,
	size_t text_bytes);

#endif
