/* SPDX-License-Identifier: GPL-2.0-or-later */
/* image.h - makes an empty volume: mkfs as a function. */
#ifndef CSVFS_METADATA_IMAGE_H
#define CSVFS_METADATA_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

/* A block device that does what it is told before it returns. 0 or a negative errno. */
struct sync_dev {
	void *ctx;
	uint64_t bytes;
	int (*read)(void *ctx, uint64_t off, void *buf, uint64_t len);
	int (*write)(void *ctx, uint64_t off, const void *buf, uint64_t len, bool fua);
	int (*flush)(void *ctx);
};

struct claim;

struct image_params {
	uint64_t volume_bytes;	/* 0: the device's size, rounded down to a block */
	uint32_t cluster_bytes; /* 0: CLUSTER_DEFAULT */
	uint64_t journal_bytes; /* 0: 1/1024 of the volume, at least 4 MiB, at most 128 MiB */
	/* Must never have been used on this device before: stale blocks are told apart by it. */
	uint8_t uuid[16];
	uint8_t dir_hash_key[16]; /* random */
	const char *label, *cluster_name, *lun_identity; /* NULL: empty */
	int64_t time_ns;
	const struct claim *before; /* its list of who was fenced, and what was left for them, is the new volume's; NULL: there was none */
};

#define IMAGE_BYTES_MIN (16ull << 20)
#define IMAGE_JOURNAL_BYTES_MIN (4ull << 20)
#define IMAGE_JOURNAL_BYTES_MAX (1ull << 30)

/*
 * Writes superblock and copies, claim, reply cache, summary, the groups that are not all free,
 * journal heads: a few MiB. What is not written need not be zero. The root directory is made by
 * the first vol_open. 0, -EINVAL (`why`: 128 bytes, says what is wrong), -EIO.
 */
int image_format(const struct sync_dev *dev, const struct image_params *p, char why[128]);

/* Clusters at the end of a volume of that size that are for metadata alone; see struct disk_super. */
uint64_t image_reserve(uint64_t bytes, uint32_t cluster_bytes);

#endif
