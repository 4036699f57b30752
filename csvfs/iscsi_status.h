/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iscsi_status.h - what the target answered to a command. */
#ifndef CSVFS_ISCSI_STATUS_H
#define CSVFS_ISCSI_STATUS_H

#include <stdbool.h>

#include "csvfs/base/platform.h"

struct scsi_task;

/* status: what libiscsi says, SCSI_STATUS_*; task: with the sense data, may be NULL. */
enum lun_status iscsi_status_of(int status, const struct scsi_task *task);

/* Behind the LUN's number there may be another LUN now. */
bool iscsi_status_may_be_another(int status, const struct scsi_task *task);

#endif
