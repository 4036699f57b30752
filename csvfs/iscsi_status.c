/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iscsi_status.c - what the target answered to a command, as an enum lun_status. */
#include "csvfs/iscsi_status.h"

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <stdio.h>
#include <string.h>

/* SPC-4 4.5. libiscsi reads a key of 0, which would be success, out of what is not there. */
static bool has_sense(const struct scsi_task *task)
{
	unsigned type = task->sense.error_type;

	return task->datain.size >= 2 + 8 && type >= 0x70 && type <= 0x73;
}

/* Of an earlier command. This one was not executed (SPC-4 4.5.7). */
static bool is_deferred(const struct scsi_sense *s)
{
	return s->error_type == 0x71 || s->error_type == 0x73;
}

/* SPC-4: INQUIRY DATA, REPORTED LUNS DATA HAS CHANGED. Behind our number may be another LUN now. */
bool iscsi_status_may_be_another(int status, const struct scsi_task *task)
{
	return status == SCSI_STATUS_CHECK_CONDITION && has_sense(task) &&
	       task->sense.key == SCSI_SENSE_UNIT_ATTENTION &&
	       (task->sense.ascq == 0x3f03 || task->sense.ascq == 0x3f0e);
}

/* SPC-4: POWER ON, RESET, OR BUS DEVICE RESET OCCURRED and its kin; COMMANDS CLEARED BY ANOTHER INITIATOR and its kin. */
bool iscsi_status_ends_others(int status, const struct scsi_task *task)
{
	unsigned asc = (unsigned)task->sense.ascq >> 8;

	return status == SCSI_STATUS_CHECK_CONDITION && has_sense(task) &&
	       task->sense.key == SCSI_SENSE_UNIT_ATTENTION && (asc == 0x29 || asc == 0x2f);
}

/* SBC-3: READ, WRITE (10, 16), SYNCHRONIZE CACHE (10). What these fail with is a matter of what is behind the LUN. */
static bool is_of_medium(const struct scsi_task *task)
{
	switch (task->cdb[0]) {
	case 0x28:
	case 0x88:
	case 0x2a:
	case 0x8a:
	case 0x35:
		return true;
	default:
		return false;
	}
}

/*
 * SAM-5, SPC-4. "To be repeated" is said only when the command has ended at the target, executed or
 * not: then sending a read or a write again is safe.
 */
static enum lun_status status_of_sense(const struct scsi_task *task)
{
	const struct scsi_sense *s = &task->sense;

	switch (s->key) {
	case SCSI_SENSE_NO_SENSE:
	case SCSI_SENSE_RECOVERED_ERROR:
		return is_deferred(s) ? LUN_RETRY : LUN_OK;
	case SCSI_SENSE_NOT_READY:
		/*
		 * LOGICAL UNIT COMMUNICATION FAILURE and its like: LIO says so of whatever error its backing store has. It goes by
		 * itself, or never.
		 */
		return s->ascq >> 8 == 0x08 && is_of_medium(task) ? LUN_FAILING : LUN_RETRY;
	case SCSI_SENSE_UNIT_ATTENTION:
	case SCSI_SENSE_COMMAND_ABORTED:
		return LUN_RETRY;
	case SCSI_SENSE_MEDIUM_ERROR:
	case SCSI_SENSE_HARDWARE_ERROR:
		return LUN_MEDIUM;
	case SCSI_SENSE_ILLEGAL_REQUEST:
		/* LOGICAL UNIT NOT SUPPORTED: it is not shown to us any more. That is a lost path, to be waited for. */
		return s->ascq == 0x2500 ? LUN_UNKNOWN : LUN_UNSUPPORTED;
	case SCSI_SENSE_DATA_PROTECTION:
		return s->ascq == 0x2707 ? LUN_NOSPACE : LUN_PROTECTED;
	default:
		return LUN_UNKNOWN;
	}
}

enum lun_status iscsi_status_of(int status, const struct scsi_task *task)
{
	switch (status) {
	case SCSI_STATUS_GOOD:
	case SCSI_STATUS_CONDITION_MET:
		return LUN_OK;
	case SCSI_STATUS_CHECK_CONDITION:
		return task && has_sense(task) ? status_of_sense(task) : LUN_UNKNOWN;
	case SCSI_STATUS_RESERVATION_CONFLICT:
		return LUN_CONFLICT;
	case SCSI_STATUS_BUSY:
	case SCSI_STATUS_TASK_SET_FULL:
	case SCSI_STATUS_ACA_ACTIVE:
	case SCSI_STATUS_TASK_ABORTED: /* by a LUN reset; it has ended */
		return LUN_RETRY;
	default: /* cancelled, rejected, protocol error */
		return LUN_UNKNOWN;
	}
}

/* Without its function names and numbers: "Connection refused". */
const char *iscsi_status_error(struct iscsi_context *ctx, char *out, size_t out_bytes)
{
	static const char *const heads[] = {"socket error ", "Status: "};
	const char *e = iscsi_get_error(ctx);
	size_t n;

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		if (strstr(e, heads[i]))
			e = strstr(e, heads[i]) + strlen(heads[i]);
	if (strstr(e, "resolv"))
		e = "host name not found";
	n = strcspn(e, "(\n");
	snprintf(out, out_bytes, "%.*s", (int)n, e);
	return out;
}

const char *iscsi_status_text(struct iscsi_context *ctx, int status, const struct scsi_task *task, char *out, size_t out_bytes)
{
	if (status != SCSI_STATUS_CHECK_CONDITION || !task)
		return iscsi_status_error(ctx, out, out_bytes);
	snprintf(out, out_bytes, "%s, %s (%x/%02x/%02x)", scsi_sense_key_str((int)task->sense.key),
		scsi_sense_ascq_str(task->sense.ascq), task->sense.key, (unsigned)task->sense.ascq >> 8,
		(unsigned)task->sense.ascq & 0xff);
	return out;
}
