/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redirect/tls_cert.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define READ_BUFFER_BYTES (128u << 10)

static const char *ssl_says(void)
{
	unsigned long e = ERR_peek_last_error();
	const char *s = e ? ERR_reason_error_string(e) : NULL;

	return s ? s : "no reason given";
}

bool tls_cert_name(X509 *cert, char name[NODE_NAME_MAX])
{
	X509_NAME *subject = X509_get_subject_name(cert);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1), n;
	const unsigned char *from;
	const ASN1_STRING *s;

	name[0] = 0;
	if (at < 0)
		return false;
	s = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
	from = ASN1_STRING_get0_data(s);
	n = ASN1_STRING_length(s);
	if (n <= 0 || n >= NODE_NAME_MAX)
		return false;
	for (int i = 0; i < n; i++)
		if (from[i] <= ' ' || from[i] > '~') /* also what would garble a log */
			return false;
	memcpy(name, from, (size_t)n);
	name[n] = 0;
	return true;
}

/* Remembers what is wrong with whose certificate: the handshake's own error says neither. */
static int verify_cb(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_peer *p = SSL_get_app_data(ssl);

	if (ok || p->verify_error)
		return ok;
	p->verify_error = X509_STORE_CTX_get_error(store);
	(void)tls_cert_name(X509_STORE_CTX_get0_cert(store), p->verify_name);
	return ok;
}

static void verify_text(
	int error, const char *who, const char *pki_dir, char *text, size_t text_bytes)
{
	switch (error) {
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
	case X509_V_ERR_CERT_CHAIN_TOO_LONG:
	case X509_V_ERR_INVALID_CA:
		snprintf(text, text_bytes,
			"certificate of %s is not signed by this cluster's CA (%s/ca.crt)", who,
			pki_dir);
		return;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		snprintf(text, text_bytes,
			"certificate of %s has expired: make a new one with 'csvctl pki node "
			"--force'",
			who);
		return;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		snprintf(text, text_bytes, "certificate of %s is not valid yet: compare the clocks",
			who);
		return;
	}
	snprintf(text, text_bytes, "certificate of %s: %s", who,
		X509_verify_cert_error_string(error));
}

bool tls_error_text(
	const struct tls_peer *p, const char *pki_dir, int ssl_error, char *text, size_t text_bytes)
{
	const char *who = p->name[0] ? p->name : p->expect[0] ? p->expect : p->where;
	int saved = errno;

	if (p->verify_error) {
		verify_text(p->verify_error, p->verify_name[0] ? p->verify_name : who, pki_dir,
			text, text_bytes);
		return true;
	}
	if (ssl_error == SSL_ERROR_SYSCALL && saved) {
		snprintf(text, text_bytes, "%s: %s", who, strerror(saved));
		return false;
	}
	if (ssl_error == SSL_ERROR_ZERO_RETURN || ssl_error == SSL_ERROR_SYSCALL) {
		snprintf(text, text_bytes, "%s closed the connection", who);
		return false;
	}
	switch (ERR_GET_REASON(ERR_peek_last_error())) {
	case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
	case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
		snprintf(text, text_bytes,
			"%s refuses our certificate: it is not signed by the CA that %s trusts "
			"(%s/ca.crt)",
			who, who, pki_dir);
		return true;
	case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
		snprintf(text, text_bytes,
			"%s says that our certificate has expired: make a new one with 'csvctl pki "
			"node "
			"--force'",
			who);
		return true;
	case SSL_R_UNEXPECTED_EOF_WHILE_READING:
		snprintf(text, text_bytes, "%s closed the connection", who);
		return false;
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		snprintf(text, text_bytes, "%s has shown no certificate", who);
		return false;
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_HTTP_REQUEST:
	case SSL_R_UNSUPPORTED_PROTOCOL:
		snprintf(text, text_bytes, "%s does not speak TLS 1.3", who);
		return false;
	}
	snprintf(text, text_bytes, "%s: TLS: %s", who, ssl_says());
	return false;
}

/* ------------------------------------------------------------------ our own */

struct load {
	const char *dir;
	char path[1100];
	char *text;
	size_t text_bytes;
};

static const char *path_of(struct load *l, const char *file)
{
	snprintf(l->path, sizeof(l->path), "%s/%s", l->dir, file);
	return l->path;
}

/* Whoever can read the key is this node. */
static int key_guarded(struct load *l)
{
	struct stat st;

	if (stat(path_of(l, "node.key"), &st)) {
		int err = -errno;

		snprintf(l->text, l->text_bytes,
			"%s: %s: make it with 'csvctl pki node' and copy it to this node", l->path,
			strerror(-err));
		return err;
	}
	if (st.st_mode & 0007) {
		snprintf(l->text, l->text_bytes, "%s can be read by everybody: chmod 600 %s",
			l->path, l->path);
		return -EPERM;
	}
	return 0;
}

static int files_load(struct load *l, SSL_CTX *ctx)
{
	int err = key_guarded(l);

	if (err)
		return err;
	if (SSL_CTX_load_verify_file(ctx, path_of(l, "ca.crt")) != 1) {
		snprintf(l->text, l->text_bytes, "cannot use %s: %s", l->path, ssl_says());
		return -EINVAL;
	}
	if (SSL_CTX_use_certificate_file(ctx, path_of(l, "node.crt"), SSL_FILETYPE_PEM) != 1) {
		snprintf(l->text, l->text_bytes, "cannot use %s: %s", l->path, ssl_says());
		return -EINVAL;
	}
	if (SSL_CTX_use_PrivateKey_file(ctx, path_of(l, "node.key"), SSL_FILETYPE_PEM) != 1 ||
		SSL_CTX_check_private_key(ctx) != 1) {
		snprintf(l->text, l->text_bytes, "%s does not belong to node.crt beside it: %s",
			l->path, ssl_says());
		return -EINVAL;
	}
	return 0;
}

/* What every other node would find out about our certificate, found out here and now. */
static int own_check(struct load *l, SSL_CTX *ctx, char name[NODE_NAME_MAX])
{
	X509 *cert = SSL_CTX_get0_certificate(ctx);
	X509_STORE_CTX *store = X509_STORE_CTX_new();
	int err = -EINVAL, verify;

	if (!tls_cert_name(cert, name)) {
		snprintf(l->text, l->text_bytes, "%s names no node", path_of(l, "node.crt"));
		goto out;
	}
	if (!store || X509_STORE_CTX_init(store, SSL_CTX_get_cert_store(ctx), cert, NULL) != 1) {
		err = -ENOMEM;
		goto out;
	}
	if (X509_verify_cert(store) != 1) {
		verify = X509_STORE_CTX_get_error(store);
		verify_text(verify, name, l->dir, l->text, l->text_bytes);
		goto out;
	}
	err = 0;
out:
	X509_STORE_CTX_free(store);
	return err;
}

static SSL_CTX *context_new(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());

	if (!ctx)
		return NULL;
	/* AES-128-GCM first: as strong as P-256, and the fastest with AES instructions. */
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
		SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_"
					      "CHACHA20_POLY1305_SHA256") != 1 ||
		SSL_CTX_set_num_tickets(ctx, 0) != 1) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, verify_cb);
	SSL_CTX_set_verify_depth(ctx, 1);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* Fewer system calls: several records with one read. */
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_default_read_buffer_len(ctx, READ_BUFFER_BYTES);
	return ctx;
}

int tls_cert_context(
	const char *pki_dir, SSL_CTX **ctx, char name[NODE_NAME_MAX], char *text, size_t text_bytes)
{
	struct load l = {.dir = pki_dir, .text = text, .text_bytes = text_bytes};
	int err;

	*ctx = context_new();
	if (!*ctx) {
		snprintf(text, text_bytes, "cannot set up TLS 1.3: %s", ssl_says());
		return -EIO;
	}
	err = files_load(&l, *ctx);
	if (!err)
		err = own_check(&l, *ctx, name);
	ERR_clear_error();
	if (err) {
		SSL_CTX_free(*ctx);
		*ctx = NULL;
	}
	return err;
}
