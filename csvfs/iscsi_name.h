/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iscsi_name.h - what a node is called at the target. */
#ifndef CSVFS_ISCSI_NAME_H
#define CSVFS_ISCSI_NAME_H

#include <stddef.h>

#include "csvfs/bdev.h"

/* The configured one, else made of the host's name and the node's number (RFC 3722). */
void iscsi_name_initiator(const struct bdev_config *cfg, char *out, size_t out_bytes);

#endif
