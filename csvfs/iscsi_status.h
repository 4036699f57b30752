/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iscsi_status.h - what the target answered to a command. */
#ifndef CSVFS_ISCSI_STATUS_H
#define CSVFS_ISCSI_STATUS_H

#include <stdbool.h>
#include <stddef.h>

#include "csvfs/base/platform.h"

struct iscsi_context;
struct scsi_task;

/* status: what libiscsi says, SCSI_STATUS_*; task: with the sense data, may be NULL. */
enum lun_status iscsi_status_of(int status, const struct scsi_task *task);

/* Behind the LUN's number there may be another LUN now. */
bool iscsi_status_may_be_another(int status, const struct scsi_task *task);

/* UNIT ATTENTION: what the session had sent before may have been ended, and maybe without an answer (iscsi_tas.h). */
bool iscsi_status_ends_others(int status, const struct scsi_task *task);

/* libiscsi's last error, as a person reads it; what the target answered. They return out. */
const char *iscsi_status_error(struct iscsi_context *ctx, char *out, size_t out_bytes);
const char *iscsi_status_text(struct iscsi_context *ctx, int status, const struct scsi_task *task, char *out, size_t out_bytes);

#endif
