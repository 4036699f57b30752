/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bdev_sync.h - a block device as plain calls that wait: for tools, and for the probing at
 * start-up.
 *
 * One thread, one command at a time. A command without an answer within the timeout ends the
 * session; every later call then gives -EIO.
 */
#ifndef CSVFS_BDEV_SYNC_H
#define CSVFS_BDEV_SYNC_H

#include "csvfs/bdev.h"

struct bdev_sync;

/*
 * Opens and waits until it is up. 0, or a negative errno and one line of text for the user: as
 * bdev_open, -ETIMEDOUT (no answer), -ENXIO (refused, no such LUN, lost: text says).
 * cfg->on_state and ctx are not looked at. `timeout_ms` holds for the login and for each command.
 */
int bdev_sync_open(const struct bdev_config *cfg, uint32_t timeout_ms, struct bdev_sync **out,
	char *text, size_t text_bytes);
void bdev_sync_close(struct bdev_sync *s); /* NULL is allowed */

const struct bdev_info *bdev_sync_info(const struct bdev_sync *s);
/* Why the last call failed. */
const char *bdev_sync_text(const struct bdev_sync *s);

/*
 * 0 or -EIO (bdev_sync_text says why), -ENOSPC, -EROFS. Offsets and lengths: whole blocks of the
 * LUN.
 */
int bdev_sync_read(struct bdev_sync *s, uint64_t off, void *buf, uint64_t len);
int bdev_sync_write(struct bdev_sync *s, uint64_t off, const void *buf, uint64_t len, bool fua);
int bdev_sync_flush(struct bdev_sync *s);

/*
 * Any command, with its status as the target gave it. LUN_RETRY, or LUN_FAILING, is repeated here, for up to the
 * timeout. `keys`: room for LUN_KEYS_MAX, or NULL.
 */
enum lun_status bdev_sync_cmd(
	struct bdev_sync *s, const struct lun_cmd *cmd, uint64_t *keys, uint32_t *key_count);

#endif
