/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iscsi_login.c - the login, and what is asked behind it: which LUN it is, how large, and what it can do. */
#include <stdio.h>

#include "csvfs/base/assert.h"
#include "csvfs/iscsi_int.h"
#include "csvfs/iscsi_status.h"

#define UA_MAX 16 /* unit attentions in a row at login before we give up */
#define TRANSFER_BYTES_MAX (64u << 20)

static void step_send(struct iscsi_bdev *ib)
{
	struct part *p = iscsi_part_new(ib, NULL);
	uint8_t tur[6] = {0};
	uint8_t inquiry[6] = {0x12, 0, 0, 0, 255, 0};
	uint8_t pages[6] = {0x12, 1, 0x00, 0, 255, 0};
	uint8_t identity[6] = {0x12, 1, 0x83, 2, 0, 0};
	uint8_t limits[6] = {0x12, 1, 0xb0, 0, 64, 0};
	uint8_t capacity[16] = {0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32};
	uint8_t caching[6] = {0x1a, 1 << 3, 0x08, 0, 64, 0};
	uint8_t control[6] = {0x1a, 1 << 3, 0x0a, 0, 64, 0};
	uint8_t keys[10] = {0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0};

	switch (ib->step) {
	case STEP_TUR:
		iscsi_part_send(p, tur, 6, SCSI_XFER_NONE, 0, NULL, 0);
		break;
	case STEP_INQUIRY:
		iscsi_part_ask(p, inquiry, 6, 255);
		break;
	case STEP_PAGES:
		iscsi_part_ask(p, pages, 6, 255);
		break;
	case STEP_IDENTITY:
		iscsi_part_ask(p, identity, 6, 512);
		break;
	case STEP_LIMITS:
		iscsi_part_ask(p, limits, 6, 64);
		break;
	case STEP_CAPACITY:
		iscsi_part_ask(p, capacity, 16, 32);
		break;
	case STEP_CACHING:
		iscsi_part_ask(p, caching, 6, 64);
		break;
	case STEP_CONTROL:
		iscsi_part_ask(p, control, 6, 64);
		break;
	case STEP_KEYS:
		iscsi_part_ask(p, keys, 10, 8);
		break;
	case STEP_CONNECT:
	case STEP_DONE:
		csv_assert(!"no command");
	}
}

static void take_inquiry(struct iscsi_bdev *ib, const uint8_t *d, size_t n)
{
	int type = scsi_inquiry(d, n, ib->b.info.vendor, sizeof(ib->b.info.vendor));

	if (type == SCSI_NO_LUN)
		bdev_down(&ib->b, "the target has no LUN %d", ib->lun);
	else if (type)
		bdev_down(&ib->b, "LUN %d is not a disk (SCSI device type %d)", ib->lun, type);
}

static void take_capacity(struct iscsi_bdev *ib, const uint8_t *d, size_t n)
{
	struct bdev_info *info = &ib->b.info;
	uint64_t max;

	if (!scsi_capacity(d, n, info))
		return bdev_down(&ib->b, "the target reports an impossible size");
	if (info->block_bytes < 512 || info->block_bytes > BLOCK_SIZE)
		return bdev_down(&ib->b, "LUN %d has blocks of %u bytes: csvfs needs 512 to 4096",
			ib->lun, info->block_bytes);
	/* Until now in blocks, 0: no limit. libiscsi counts bytes in an int. */
	max = (uint64_t)info->max_transfer_bytes * info->block_bytes;
	if (max == 0 || max > TRANSFER_BYTES_MAX)
		max = TRANSFER_BYTES_MAX;
	info->max_transfer_bytes = (uint32_t)max;
}

static void step_next(struct iscsi_bdev *ib)
{
	ib->step++;
	ib->unit_attentions = 0;
	if (ib->step == STEP_LIMITS && !ib->has_limits_page)
		ib->step++;
	if (ib->step == STEP_DONE)
		bdev_up(&ib->b);
	else
		step_send(ib);
}

static void step_parse(struct iscsi_bdev *ib, const uint8_t *d, size_t n)
{
	switch (ib->step) {
	case STEP_INQUIRY:
		take_inquiry(ib, d, n);
		break;
	case STEP_PAGES:
		ib->has_limits_page = scsi_has_page(d, n, 0xb0);
		break;
	case STEP_IDENTITY:
		scsi_identity(d, n, ib->b.info.identity, sizeof(ib->b.info.identity));
		if (ib->reinst.table)
			iscsi_nexus_port(ib->reinst.table, scsi_port(d, n));
		break;
	case STEP_LIMITS:
		scsi_limits(d, n, &ib->b.info.max_transfer_bytes, &ib->unmap_blocks_max);
		break;
	case STEP_CAPACITY:
		take_capacity(ib, d, n);
		break;
	case STEP_CACHING:
		scsi_caching(d, n, &ib->b.info.write_cache, &ib->b.info.readonly, &ib->no_fua);
		break;
	case STEP_CONTROL:
		iscsi_tas_target(&ib->tas, scsi_tas(d, n), ib->b.info.vendor, ib->b.info.identity);
		break;
	case STEP_KEYS:
		ib->b.info.reservations = true;
		break;
	case STEP_TUR:
	case STEP_CONNECT:
	case STEP_DONE:
		break;
	}
}

/*
 * What the target refuses it does not have, and that is an answer. Without one there is none to go by: a write cache that we do not
 * know of would never be flushed, limits that we do not know of not be kept.
 */
static bool step_matters(const struct iscsi_bdev *ib, enum lun_status s)
{
	if (ib->step == STEP_INQUIRY || ib->step == STEP_CAPACITY || s == LUN_RETRY)
		return true;
	if (ib->step == STEP_TUR)
		return s != LUN_CONFLICT;
	return s == LUN_UNKNOWN && ib->step != STEP_KEYS; /* (a target may reject what it does not know as a whole) */
}

void iscsi_login_step(struct part *p, int status)
{
	struct iscsi_bdev *ib = p->ib;
	enum lun_status s = iscsi_status_of(status, p->task);
	size_t n = p->in_bytes;

	/* Until then it is no more than news: which one it is, is yet to be asked. */
	if (ib->step > STEP_IDENTITY && iscsi_status_may_be_another(status, p->task)) {
		bdev_down(&ib->b, "LUN %d may be another one now", ib->lun);
	} else if (s == LUN_RETRY && ib->unit_attentions++ < UA_MAX) {
		iscsi_part_free(p);
		step_send(ib);
		return;
	}
	if (s == LUN_OK && p->task->residual_status == SCSI_RESIDUAL_UNDERFLOW)
		n = p->task->residual < n ? n - p->task->residual : 0;
	if (s == LUN_OK)
		step_parse(ib, p->in, n);
	else if (status == SCSI_STATUS_CHECK_CONDITION && p->task->sense.ascq == 0x2500)
		bdev_down(&ib->b, "the target has no LUN %d", ib->lun);
	else if (step_matters(ib, s))
		bdev_down(&ib->b, "LUN %d does not answer as a disk should: %s", ib->lun,
			iscsi_answer_text(ib, status, p->task));
	iscsi_part_free(p);
	if (ib->b.state != BDEV_DOWN)
		step_next(ib);
}

/* (Not iscsi_full_connect_async(): it loses memory when a login is given up.) */
static void logged_in(struct iscsi_context *ctx, int status, void *data, void *priv)
{
	struct iscsi_bdev *ib = priv;
	const char *other = iscsi_get_target_address(ctx);

	(void)data;
	if (ib->closing)
		return;
	if (status == SCSI_STATUS_REDIRECT && *other && !ib->redirected) {
		/* RFC 7143 11.13.5: the target has moved, for this login. */
		ib->redirected = true;
		snprintf(
			ib->portal, sizeof(ib->portal), "%.*s", (int)sizeof(ib->portal) - 1, other);
		iscsi_disconnect(ctx);
		if (iscsi_connect_async(ctx, ib->portal, iscsi_login_connected, ib))
			bdev_down(&ib->b, "no connection to %s: %s", ib->portal, iscsi_error_text(ib));
	} else if (status != SCSI_STATUS_GOOD) {
		bdev_down(&ib->b, "login refused by %s: %s", ib->portal, iscsi_error_text(ib));
	} else {
		ib->unmap_blocks_max = UINT32_MAX;
		step_next(ib);
	}
}

void iscsi_login_connected(struct iscsi_context *ctx, int status, void *data, void *priv)
{
	struct iscsi_bdev *ib = priv;

	(void)data;
	if (ib->closing)
		return;
	if (status != SCSI_STATUS_GOOD || iscsi_login_async(ctx, logged_in, ib))
		bdev_down(&ib->b, "no connection to %s: %s", ib->portal, iscsi_error_text(ib));
}
