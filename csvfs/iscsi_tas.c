/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iscsi_tas.c - see iscsi_tas.h. */
#include "csvfs/iscsi_tas.h"

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <string.h>

#include "csvfs/base/platform.h"
#include "csvfs/iscsi_reinst.h"
#include "csvfs/iscsi_sent.h"
#include "csvfs/iscsi_status.h"

/* Together well below the time after which a session without an answer is given up (seconds). */
#define LOOK_NS (500 * NS_PER_MS)
#define GRACE_NS (500 * NS_PER_MS)
#define KNOCK_NS (2 * NS_PER_SEC)
#define ABORT_NS (4 * NS_PER_SEC)
#define KNOCK UINT64_MAX /* in `aborts`: of none that waits */

void iscsi_tas_init(struct iscsi_tas *t, struct iscsi_sent *sent)
{
	*t = (struct iscsi_tas){.sent = sent};
	list_init(&t->waiting);
}

void iscsi_tas_target(struct iscsi_tas *t, bool tas, const char *vendor, const char *identity)
{
	t->tas = tas || !strncmp(vendor, "IET ", 4) || !strncmp(identity, "t10.IET ", 8);
	t->unsure = iscsi_reinst_needed(vendor);
}

static struct iscsi_tas_cmd *oldest(const struct iscsi_tas *t)
{
	return list_empty(&t->waiting) ? NULL : list_first_entry(&t->waiting, struct iscsi_tas_cmd, link);
}

void iscsi_tas_given(struct iscsi_tas *t, struct iscsi_tas_cmd *c, struct scsi_task *task, uint64_t number, uint64_t now_ns)
{
	*c = (struct iscsi_tas_cmd){.task = task, .number = number, .given_ns = now_ns};
	list_add_tail(&c->link, &t->waiting);
}

int iscsi_tas_answered(struct iscsi_tas *t, struct iscsi_tas_cmd *c, int status)
{
	list_del(&c->link);
	t->answered_itt = c->task->itt;
	t->answered_cmdsn = c->task->cmdsn;
	if (status == SCSI_STATUS_CANCELLED && t->cancels)
		return SCSI_STATUS_TASK_ABORTED;
	if (t->tas || !iscsi_status_ends_others(status, c->task))
		return status;
	/* One after the other must not put it off for ever. */
	if (!t->doubt)
		t->grace_ns = 0;
	if (c->number > t->doubt)
		t->doubt = c->number;
	return status;
}

static void abort_done(struct iscsi_context *ctx, int status, void *data, void *priv)
{
	struct iscsi_tas *t = priv;

	(void)ctx;
	/* (With the session all ends, and what waits says so itself.) */
	if (status == SCSI_STATUS_CANCELLED)
		return;
	t->sent->task_mgmt = false;
	t->told = true;
	t->response = status == SCSI_STATUS_GOOD && data ? *(uint32_t *)data : ISCSI_TMR_FUNC_REJECTED;
}

static int send_abort(struct iscsi_tas *t, struct iscsi_context *ctx, int lun, uint64_t number, uint32_t itt, uint32_t cmdsn, uint64_t now_ns)
{
	t->aborts = number;
	t->abort_by_ns = now_ns + ABORT_NS;
	t->sent->task_mgmt = true;
	t->response = 0;
	return iscsi_task_mgmt_async(ctx, lun, ISCSI_TM_ABORT_TASK, itt, cmdsn, abort_done, t);
}

/* The answer to ABORT TASK. What it is about may have been answered just before. */
static int take_answer(struct iscsi_tas *t, struct iscsi_context *ctx)
{
	struct iscsi_tas_cmd *c = oldest(t);
	bool waits = c && c->number == t->aborts;

	t->told = false;
	t->aborts = 0;
	if (!waits)
		return 0;
	if (t->response != ISCSI_TMR_FUNC_COMPLETE && (t->unsure || t->response != ISCSI_TMR_TASK_DOES_NOT_EXIST))
		return -1;
	t->cancels = true;
	(void)iscsi_scsi_cancel_task(ctx, c->task); /* it is answered: `c` is gone */
	t->cancels = false;
	return 0;
}

int iscsi_tas_step(struct iscsi_tas *t, struct iscsi_context *ctx, int lun, uint64_t now_ns)
{
	struct iscsi_tas_cmd *c;

	if (t->told && take_answer(t, ctx))
		return -1;
	if (t->aborts && now_ns >= t->abort_by_ns)
		return -1;
	if (!t->doubt || t->aborts)
		return 0;
	c = oldest(t);
	if (!c || c->number >= t->doubt) {
		t->doubt = 0;
		t->holds = false;
		return 0;
	}
	if (!t->grace_ns)
		t->grace_ns = now_ns + GRACE_NS;
	/* (It has been sent as a whole: a command behind it is answered.) */
	if (now_ns < t->grace_ns)
		return 0;
	t->holds = iscsi_sent_waits(ctx);
	if (t->holds)
		return 0;
	return send_abort(t, ctx, lun, c->number, c->task->itt, c->task->cmdsn, now_ns);
}

static uint64_t look_due_ns(const struct iscsi_tas *t)
{
	const struct iscsi_tas_cmd *c = oldest(t);

	if (!c || t->tas || t->looks || t->doubt || t->aborts)
		return NEVER;
	return c->given_ns + LOOK_NS > t->look_ns ? c->given_ns + LOOK_NS : t->look_ns;
}

bool iscsi_tas_look(struct iscsi_tas *t, struct iscsi_context *ctx, int lun, uint64_t now_ns)
{
	bool shut = iscsi_out_queue_length(ctx) > 0 && !iscsi_sent_waits(ctx);

	if (now_ns < look_due_ns(t))
		return false;
	t->look_ns = now_ns + LOOK_NS;
	if (!shut) {
		t->looks = true;
		return true;
	}
	/* (If it fails, the session is lost, and says so.) */
	if (now_ns >= oldest(t)->given_ns + KNOCK_NS)
		(void)send_abort(t, ctx, lun, KNOCK, t->answered_itt, t->answered_cmdsn, now_ns);
	return false;
}

uint64_t iscsi_tas_due_ns(const struct iscsi_tas *t, struct iscsi_context *ctx)
{
	if (t->aborts)
		return t->abort_by_ns;
	if (!t->doubt)
		return look_due_ns(t);
	/* (While something is to be sent, that is polled for.) */
	if (t->holds)
		return iscsi_sent_waits(ctx) ? NEVER : 0;
	return t->grace_ns;
}
