/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * scsi.h - what a LUN answers to INQUIRY, READ CAPACITY and the like, taken apart. Pure; nothing is
 * believed before its length was checked: the bytes come from a target that may be broken.
 */
#ifndef CSVFS_SCSI_H
#define CSVFS_SCSI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "csvfs/bdev.h"

#define SCSI_NO_LUN (-1)

void scsi_put_be(uint8_t *p, uint64_t v, int bytes);

/* SPC-4 6.6.2: the device type, 0 is a disk; SCSI_NO_LUN. `vendor`: vendor and product as text. */
int scsi_inquiry(const uint8_t *d, size_t n, char *vendor, size_t vendor_bytes);

/* SPC-4 7.8.13, page 00h: is that page there? */
bool scsi_has_page(const uint8_t *d, size_t n, uint8_t page);

/* Page 83h: the best name of the logical unit; out is left as it is if there is none. */
void scsi_identity(const uint8_t *d, size_t n, char *out, size_t out_bytes);

/* Page 83h: the relative target port identifier (SPC-4 7.8.5.8) of the port that was asked; 0: it is not there. */
uint16_t scsi_port(const uint8_t *d, size_t n);

/* SBC-3 6.6.4, page B0h, in blocks; what it does not say is left as it is. */
void scsi_limits(
	const uint8_t *d, size_t n, uint32_t *max_transfer_blocks, uint32_t *max_unmap_blocks);

/* SBC-3 5.16: block_bytes, lun_bytes, unmap. False: it makes no sense. */
bool scsi_capacity(const uint8_t *d, size_t n, struct bdev_info *info);

/* SPC-4 7.5, MODE SENSE(6) with SBC-3's caching page. no_fua: the target does not know the FUA bit (SBC-3 6.5.1, DPOFUA). */
void scsi_caching(const uint8_t *d, size_t n, bool *write_cache, bool *readonly, bool *no_fua);

/* SPC-4 7.5.10, MODE SENSE(6) with the control page: TAS. False also if it does not say so. */
bool scsi_tas(const uint8_t *d, size_t n);

/*
 * The parameters of PERSISTENT RESERVE OUT (SPC-4 6.16) for LUN_PR_REGISTER .. LUN_PR_CLEAR, 24 bytes; returns the service action,
 * which belongs into byte 1 of the CDB.
 */
uint8_t scsi_pr_out(const struct lun_cmd *cmd, uint8_t *param);

#define SCSI_KEYS_CUT UINT32_MAX

/*
 * SPC-4 6.14.2, 6.14.3: keys, each once however many sessions registered it, or the holder's key alone. Returns how many.
 * SCSI_KEYS_CUT: there are more than fit, into keys[] or into the answer: then nobody knows that one is gone (invariant 10).
 */
uint32_t scsi_pr_keys(const uint8_t *d, size_t n, bool is_reservation, uint32_t *generation,
	uint64_t *keys, uint32_t keys_room);

#define SCSI_NAME_MAX 224 /* an iSCSI name and its end (RFC 7143, 4.2.7.2) */
#define SCSI_FULL_BYTES 65535u /* so much READ FULL STATUS is asked for */

/* A registration, and the I_T nexus that has it. */
struct scsi_nexus {
	uint64_t key;
	uint16_t port; /* of the target; 0: all of them */
	bool iscsi; /* name and ISID are known. False: it is of another transport, or they are not told */
	uint8_t isid[6];
	char name[SCSI_NAME_MAX];
};

/*
 * SPC-4 6.15.5 and 7.6.4.6, READ FULL STATUS: each() is called for each registration. False: it makes no sense, or there may be more
 * than have room (LIO cuts its list off, and does not say so); then each() was not called.
 */
bool scsi_pr_full(const uint8_t *d, size_t n, void (*each)(void *ctx, const struct scsi_nexus *x), void *ctx);

#endif
