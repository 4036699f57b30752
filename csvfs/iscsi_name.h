/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iscsi_name.h - what a node is called at the target. */
#ifndef CSVFS_ISCSI_NAME_H
#define CSVFS_ISCSI_NAME_H

#include <stddef.h>

#include "csvfs/bdev.h"

/* The configured one, else made of the host's name and the node's number (RFC 3722). */
void iscsi_name_initiator(const struct bdev_config *cfg, char *out, size_t out_bytes);

/*
 * The ISID makes a nexus: the same (node, URL, session) is the same nexus after each login, so that the target ends the commands
 * of the old session when the new one logs in (session reinstatement, RFC 7143 6.3.5). Two volumes on one target must differ, else
 * one mount would end the other's session. Of its three bytes before the session's number: these.
 */
uint32_t iscsi_name_isid(const struct bdev_config *cfg, const char *target, int lun);

#endif
