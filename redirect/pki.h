/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pki.h - the cluster's own certificates: `csvctl pki init` and `csvctl pki node`.
 *
 * A cluster has one CA, made once on one machine. Each node has a key and a certificate whose name (CN and
 * DNS name) is the node's name in corosync. Keys are EC P-256, files of keys have mode 0600.
 */
#ifndef CSVFS_REDIRECT_PKI_H
#define CSVFS_REDIRECT_PKI_H

#include <stdbool.h>
#include <stddef.h>

#define PKI_DAYS 3650
#define PKI_TEXT_MAX 256

/*
 * Makes dir (mode 0700) and in it ca.key, ca.crt ("cluster CA"). 0, or -errno and one line of text;
 * -EEXIST: there is a CA, and `force` is not given (with it every node needs a new certificate).
 */
int pki_init(const char *dir, const char *cluster, bool force, char *text, size_t text_bytes);

/*
 * With the CA in dir: node.key, node.crt and a copy of ca.crt in out_dir (made; NULL: dir/NODE), to be copied
 * to that node. -EEXIST, as above.
 */
int pki_node(const char *dir, const char *node, const char *out_dir, bool force, char *text,
	size_t text_bytes);

#endif
