/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iscsi_tas.h - commands that the target has ended, and does not answer.
 *
 * The LOGICAL UNIT RESET of another I_T nexus, or its PREEMPT AND ABORT, ends our commands, too. A target with TAS=1 in its
 * control mode page (SPC-4, 7.5.10) answers each of them with TASK ABORTED. One with TAS=0 (SCST, unless it is told otherwise)
 * answers none: all that we hear is UNIT ATTENTION (29h, 2Fh), and the answer of some later command it is. Each fence of a node
 * that had written is such a reset: unnoticed, each session that was busy then would be taken for dead.
 *
 * At a target that says TAS=1 nothing of all this is done. Nor at tgt (vendor or identity "IET"), which says TAS=0 and answers all that it ends: what it runs with
 * its own status, what waits with TASK ABORTED. And there an ABORT TASK of a command that a LOGICAL UNIT RESET waits for takes that
 * over: the reset is never answered. Else:
 *
 *  1. What was sent before a command that was answered so is in doubt. Its answers may be under way, or it may be slow: it has
 *     GRACE. (TASK ABORTED comes meanwhile.)
 *  2. What has no answer then is asked for: ABORT TASK, the oldest first, one at a time. Behind the answer to that, "complete"
 *     or "does not exist", the target has nothing of the task any more and answers it no more (RFC 7143, 11.5 and 11.6),
 *     whoever has ended it. So it has ended, done or not, as by TASK ABORTED: it is to be repeated.
 *     (Not so LIO: what a reset waits for does not exist for an ABORT TASK meanwhile, and is under way. There only "complete" counts.)
 *     (libiscsi gives up the session if task management is given to it while DATA-OUT is queued: it takes over the CmdSN of that,
 *     and that is too old. So nothing may be queued, and new commands wait for that.)
 *  3. Who refuses ABORT TASK, or does not answer it in time, leaves us in doubt: the session ends.
 *  4. A session whose commands are all gone sends nothing that could hear of it. So it asks, when one waits for longer than LOOK:
 *     TEST UNIT READY.
 *  5. That cannot be sent if they fill the target's window (MaxCmdSN), which is told by answers. Task management is sent all the
 *     same: ABORT TASK of one that was answered, which is an answer and no more. Then the window is open, and what was queued
 *     goes, and hears.
 *
 * Why not just end the session: what it has sent must be drained before its next login is used (io_mode.h, P3). That is another
 * reset, and ends the commands of all others, who then do the same: with two busy nodes it need not end.
 */
#ifndef CSVFS_ISCSI_TAS_H
#define CSVFS_ISCSI_TAS_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/list.h"

struct iscsi_context;
struct iscsi_sent;
struct scsi_task;

/* A command that is in libiscsi's hands. */
struct iscsi_tas_cmd {
	struct list link;
	struct scsi_task *task;
	uint64_t number; /* among the commands of the session: see iscsi_sent.h */
	uint64_t given_ns;
};

struct iscsi_tas {
	struct iscsi_sent *sent;
	struct list waiting; /* what has no answer (iscsi_tas_cmd), oldest first */
	uint64_t doubt; /* what has a lower number is in doubt; 0: nothing is */
	uint64_t grace_ns; /* until then */
	uint64_t look_ns; /* no look before */
	bool looks; /* one is under way; the owner clears it */
	uint64_t aborts; /* the command whose ABORT TASK is under way; 0: none is */
	uint64_t abort_by_ns; /* it has to be answered by then */
	bool told; /* that is answered: */
	uint32_t response;
	uint32_t answered_itt, answered_cmdsn; /* of some command that was answered */
	bool holds; /* nothing more is to be given to libiscsi, before it has sent what it has */
	bool tas; /* the target answers what it ends */
	bool unsure; /* "does not exist" says nothing */
	bool cancels; /* what libiscsi cancels now, the target has ended */
};

void iscsi_tas_init(struct iscsi_tas *t, struct iscsi_sent *sent);
/*
 * What the login has found. vendor: of INQUIRY, with the product; identity: of page 83h (bdev_info). tgt's administrator may have changed
 * the vendor (vendor_id), and hardly both.
 */
void iscsi_tas_target(struct iscsi_tas *t, bool tas, const char *vendor, const char *identity);

void iscsi_tas_given(struct iscsi_tas *t, struct iscsi_tas_cmd *c, struct scsi_task *task, uint64_t number, uint64_t now_ns);

/* status is libiscsi's, SCSI_STATUS_*; returns what it is to be taken for. */
int iscsi_tas_answered(struct iscsi_tas *t, struct iscsi_tas_cmd *c, int status);

/*
 * Not from within a callback of libiscsi; commands may be answered by it. Not 0: the session has to end, as `response` is no answer
 * to go by (0: there is none), or the connection is lost.
 */
int iscsi_tas_step(struct iscsi_tas *t, struct iscsi_context *ctx, int lun, uint64_t now_ns);

/* True: a TEST UNIT READY is to be sent. */
bool iscsi_tas_look(struct iscsi_tas *t, struct iscsi_context *ctx, int lun, uint64_t now_ns);

/* When one of the two has something to do, if no answer comes. */
uint64_t iscsi_tas_due_ns(const struct iscsi_tas *t, struct iscsi_context *ctx);

#endif
