/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redirect/pki.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "csvfs/base/limits.h"

#define PATH_BYTES 4096
#define CLUSTER_NAME_MAX 48 /* with "csvfs CA of " it fits a certificate's 64 */

struct text {
	char *p;
	size_t bytes;
};

/* One line for the user; returns err. */
static int say(struct text *t, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int say(struct text *t, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t->p, t->bytes, fmt, ap);
	va_end(ap);
	ERR_clear_error();
	return err;
}

/* What OpenSSL says went wrong; there is always something to say. */
static const char *ssl_says(void)
{
	const char *s = ERR_reason_error_string(ERR_peek_last_error());

	return s ? s : "no reason given";
}

/* Names stand in certificates, paths and messages: letters, digits, '.', '-', '_'. */
static bool name_ok(const char *name, size_t room)
{
	static const char good[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
	size_t n = strlen(name);

	return n > 0 && n < room && strspn(name, good) == n && name[0] != '.' && name[0] != '-';
}

static int path_join(char path[PATH_BYTES], const char *dir, const char *file, struct text *t)
{
	if (snprintf(path, PATH_BYTES, "%s/%s", dir, file) >= PATH_BYTES)
		return say(t, -ENAMETOOLONG, "%s: the name is too long", dir);
	return 0;
}

static int dir_make(const char *dir, struct text *t)
{
	struct stat st;

	if (!mkdir(dir, 0700))
		return 0;
	if (errno != EEXIST)
		return say(t, -errno, "cannot make %s: %s", dir, strerror(errno));
	if (stat(dir, &st) || !S_ISDIR(st.st_mode))
		return say(t, -ENOTDIR, "%s is not a directory", dir);
	return 0;
}

/* ------------------------------------------------------------------ files */

/*
 * Writes beside the file and renames, so that a failure leaves what was there. `write` puts the PEM.
 * Mode 0600 from the first moment for keys.
 */
static int file_put(const char *path, mode_t mode, int (*write_pem)(BIO *bio, void *what),
	void *what, struct text *t)
{
	char tmp[PATH_BYTES];
	int fd, err = 0;
	BIO *bio;

	if (snprintf(tmp, sizeof(tmp), "%s.new", path) >= (int)sizeof(tmp))
		return say(t, -ENAMETOOLONG, "%s: the name is too long", path);
	(void)unlink(tmp); /* left by one that was interrupted */
	fd = open(tmp, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, mode);
	if (fd < 0)
		return say(t, -errno, "cannot write %s: %s", tmp, strerror(errno));
	bio = BIO_new_fd(fd, BIO_NOCLOSE);
	if (!bio || write_pem(bio, what) != 1)
		err = say(t, -EIO, "cannot write %s: %s", tmp, ssl_says());
	BIO_free(bio);
	if (!err && (fchmod(fd, mode) || fsync(fd)))
		err = say(t, -errno, "cannot write %s: %s", tmp, strerror(errno));
	close(fd);
	if (!err && rename(tmp, path))
		err = say(t, -errno, "cannot write %s: %s", path, strerror(errno));
	if (err)
		(void)unlink(tmp);
	return err;
}

static int pem_put_key(BIO *bio, void *key)
{
	return PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
}

static int pem_put_cert(BIO *bio, void *cert)
{
	return PEM_write_bio_X509(bio, cert);
}

static int exists(const char *path, bool force, struct text *t)
{
	if (force || access(path, F_OK))
		return 0;
	return say(t, -EEXIST, "%s exists: --force makes a new one in its place", path);
}

static BIO *file_open(const char *path, struct text *t, int *err)
{
	BIO *bio = BIO_new_file(path, "r");

	if (!bio)
		*err = say(t, errno ? -errno : -EIO, "cannot read %s: %s", path, strerror(errno));
	return bio;
}

static int ca_get(const char *dir, EVP_PKEY **key, X509 **cert, struct text *t)
{
	char path[PATH_BYTES];
	int err = path_join(path, dir, "ca.key", t);
	BIO *bio;

	if (!err && access(path, F_OK))
		return say(t, -ENOENT,
			"no CA in %s: make one with 'csvctl pki init %s --cluster NAME'", dir, dir);
	bio = err ? NULL : file_open(path, t, &err);
	if (bio) {
		*key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
		BIO_free(bio);
		if (!*key)
			return say(t, -EINVAL, "%s is not a private key: %s", path, ssl_says());
	}
	if (!err)
		err = path_join(path, dir, "ca.crt", t);
	bio = err ? NULL : file_open(path, t, &err);
	if (bio) {
		*cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
		BIO_free(bio);
		if (!*cert)
			return say(t, -EINVAL, "%s is not a certificate: %s", path, ssl_says());
	}
	if (!err && X509_check_private_key(*cert, *key) != 1)
		return say(t, -EINVAL, "ca.key and ca.crt in %s do not belong together", dir);
	return err;
}

/* ------------------------------------------------------------------ certificates */

static bool cert_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *ext;
	X509V3_CTX ctx;
	bool ok;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	if (!ext)
		return false;
	ok = X509_add_ext(cert, ext, -1) == 1;
	X509_EXTENSION_free(ext);
	return ok;
}

/* A random serial number of 127 bits, so that a certificate made anew never repeats one. */
static bool cert_serial(X509 *cert)
{
	BIGNUM *n = BN_new();
	bool ok = n && BN_rand(n, 127, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1 &&
		  BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert));

	BN_free(n);
	return ok;
}

/* Valid from an hour ago: the clocks of the nodes may differ a little. */
static X509 *cert_new(EVP_PKEY *key, const char *cn)
{
	X509 *cert = X509_new();
	X509_NAME *name;

	if (!cert)
		return NULL;
	name = X509_get_subject_name(cert);
	if (X509_set_version(cert, 2) == 1 && cert_serial(cert) &&
		X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
		X509_time_adj_ex(X509_getm_notAfter(cert), PKI_DAYS, 0, NULL) &&
		X509_NAME_add_entry_by_txt(
			name, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0) == 1 &&
		X509_set_pubkey(cert, key) == 1)
		return cert;
	X509_free(cert);
	return NULL;
}

static X509 *cert_ca(EVP_PKEY *key, const char *cluster)
{
	char cn[64];
	X509 *cert;

	snprintf(cn, sizeof(cn), "csvfs CA of %s", cluster);
	cert = cert_new(key, cn);
	if (cert && X509_set_issuer_name(cert, X509_get_subject_name(cert)) == 1 &&
		cert_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
		cert_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") &&
		cert_extension(cert, cert, NID_subject_key_identifier, "hash") &&
		X509_sign(cert, key, EVP_sha256()) > 0)
		return cert;
	X509_free(cert);
	return NULL;
}

static X509 *cert_node(EVP_PKEY *key, const char *node, X509 *ca, EVP_PKEY *ca_key)
{
	char dns[NODE_NAME_MAX + 8];
	X509 *cert = cert_new(key, node);

	snprintf(dns, sizeof(dns), "DNS:%s", node);
	if (cert && X509_set_issuer_name(cert, X509_get_subject_name(ca)) == 1 &&
		cert_extension(cert, ca, NID_basic_constraints, "critical,CA:FALSE") &&
		cert_extension(cert, ca, NID_key_usage, "critical,digitalSignature") &&
		cert_extension(cert, ca, NID_ext_key_usage, "serverAuth,clientAuth") &&
		cert_extension(cert, ca, NID_subject_key_identifier, "hash") &&
		cert_extension(cert, ca, NID_authority_key_identifier, "keyid:always") &&
		cert_extension(cert, ca, NID_subject_alt_name, dns) &&
		X509_sign(cert, ca_key, EVP_sha256()) > 0)
		return cert;
	X509_free(cert);
	return NULL;
}

/* ------------------------------------------------------------------ the two commands */

static int pair_put(const char *dir, const char *key_file, EVP_PKEY *key, const char *cert_file,
	X509 *cert, struct text *t)
{
	char path[PATH_BYTES];
	int err = path_join(path, dir, key_file, t);

	if (!err)
		err = file_put(path, 0600, pem_put_key, key, t);
	if (!err)
		err = path_join(path, dir, cert_file, t);
	if (!err)
		err = file_put(path, 0644, pem_put_cert, cert, t);
	return err;
}

int pki_init(const char *dir, const char *cluster, bool force, char *text, size_t text_bytes)
{
	struct text t = {text, text_bytes};
	EVP_PKEY *key = NULL;
	X509 *cert = NULL;
	char path[PATH_BYTES];
	int err;

	if (!name_ok(cluster, CLUSTER_NAME_MAX))
		return say(&t, -EINVAL,
			"'%s' cannot be a cluster's name: letters, digits, '.', '-', '_', at most "
			"%d",
			cluster, CLUSTER_NAME_MAX - 1);
	err = path_join(path, dir, "ca.key", &t);
	if (!err)
		err = exists(path, force, &t);
	if (!err)
		err = dir_make(dir, &t);
	if (err)
		return err;
	key = EVP_EC_gen("P-256");
	cert = key ? cert_ca(key, cluster) : NULL;
	if (cert)
		err = pair_put(dir, "ca.key", key, "ca.crt", cert, &t);
	else
		err = say(&t, -EIO, "cannot make a CA: %s", ssl_says());
	X509_free(cert);
	EVP_PKEY_free(key);
	return err;
}

static int node_put(const char *out_dir, EVP_PKEY *key, X509 *cert, X509 *ca, struct text *t)
{
	char path[PATH_BYTES];
	int err = pair_put(out_dir, "node.key", key, "node.crt", cert, t);

	if (!err)
		err = path_join(path, out_dir, "ca.crt", t);
	if (!err)
		err = file_put(path, 0644, pem_put_cert, ca, t);
	return err;
}

int pki_node(const char *dir, const char *node, const char *out_dir, bool force, char *text,
	size_t text_bytes)
{
	struct text t = {text, text_bytes};
	EVP_PKEY *ca_key = NULL, *key = NULL;
	X509 *ca = NULL, *cert = NULL;
	char out[PATH_BYTES], path[PATH_BYTES];
	int err;

	if (!name_ok(node, NODE_NAME_MAX))
		return say(&t, -EINVAL,
			"'%s' cannot be a node's name: letters, digits, '.', '-', '_', at most %d",
			node, NODE_NAME_MAX - 1);
	if (out_dir)
		err = snprintf(out, sizeof(out), "%s", out_dir) < (int)sizeof(out)
			      ? 0
			      : say(&t, -ENAMETOOLONG, "%s: the name is too long", out_dir);
	else
		err = path_join(out, dir, node, &t);
	if (!err)
		err = ca_get(dir, &ca_key, &ca, &t);
	if (!err)
		err = path_join(path, out, "node.key", &t);
	if (!err)
		err = exists(path, force, &t);
	if (!err)
		err = dir_make(out, &t);
	if (err)
		goto out;
	key = EVP_EC_gen("P-256");
	cert = key ? cert_node(key, node, ca, ca_key) : NULL;
	if (cert)
		err = node_put(out, key, cert, ca, &t);
	else
		err = say(&t, -EIO, "cannot make a certificate: %s", ssl_says());
out:
	X509_free(cert);
	EVP_PKEY_free(key);
	X509_free(ca);
	EVP_PKEY_free(ca_key);
	return err;
}
