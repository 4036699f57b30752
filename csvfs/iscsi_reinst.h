/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iscsi_reinst.h - ends what those have in flight who are registered no more, by logging in in their place.
 *
 * LIO (the Linux kernel's target) answers LOGICAL UNIT RESET at once, and neither ends nor awaits the commands of a session whose
 * connection was closed: a write that its disk holds up lands behind the fence. And as long as the victim's connection is open, and the victim
 * is silent, the reset has no answer at all. PREEMPT AND ABORT is no better. (Seen with Linux 5.10, 6.1 and 6.12.)
 *
 * But a login with the victim's own InitiatorName and ISID is the same I_T nexus: it ends the old session (session reinstatement,
 * RFC 7143 6.3.5), and LIO completes it only when every command of that has ended, whether its connection is open, silent or closed.
 * So there the barrier is such a login for each of them, and LOGICAL UNIT RESET behind it.
 *
 *  1. One after the other: LIO takes one login at a time.
 *  2. A login that waits is left alone: given up and begun anew it waits again, and the target has more to clear away. Meanwhile the target lets
 *     nobody else in who comes by the same portal group; the sessions that there are go on.
 *  3. Lost connections prove nothing: it is tried again. Whether the target lives at all is for the owner's own session to find out.
 *  4. What the target refuses (CHAP, access list), it refuses for good: then there is no barrier, and the text says why.
 *  5. The session has no other use: it is logged out at once. The victim, if it lives, has lost its own and logs in anew, which ends ours.
 *
 * Not from within a callback of libiscsi.
 */
#ifndef CSVFS_ISCSI_REINST_H
#define CSVFS_ISCSI_REINST_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/bdev.h"
#include "csvfs/iscsi_nexus.h"

struct iscsi_context;
struct iscsi_url;

/* Is this a target that needs it? `vendor` as in bdev_info. */
bool iscsi_reinst_needed(const char *vendor);

enum iscsi_reinst_st {
	ISCSI_REINST_IDLE, /* all have ended, or it has not begun */
	ISCSI_REINST_PAUSE, /* before the next try */
	ISCSI_REINST_CONNECT,
	ISCSI_REINST_LOGIN,
	ISCSI_REINST_LOGOUT,
	ISCSI_REINST_REFUSED, /* `text` says why */
};

struct iscsi_reinst {
	struct iscsi_nexus_table *table;
	char self[SCSI_NAME_MAX], portal[ADDR_MAX + 8], target[SCSI_NAME_MAX];
	char user[256], secret[256];
	enum iscsi_reinst_st st;
	struct iscsi_context *ctx;
	struct scsi_nexus nexus; /* in whose place it logs in */
	bool redirected;
	uint64_t due_ns; /* of PAUSE and LOGOUT */
	uint64_t poll_ns;
	uint64_t failing_ns; /* since when there is nothing but failures; 0: there is none */
	char text[BDEV_TEXT_MAX];
};

/* As the owner's session logs in; `self`: its InitiatorName, `session`: its number. */
void iscsi_reinst_init(struct iscsi_reinst *x, const struct bdev_config *cfg, const struct iscsi_url *u, const char *self);

/* `portal`: where the owner's session is. */
void iscsi_reinst_start(struct iscsi_reinst *x, const char *portal, uint64_t now_ns);

/* IDLE: done. REFUSED: it cannot be done. Else it goes on: call again at iscsi_reinst_due_ns(). */
enum iscsi_reinst_st iscsi_reinst_step(struct iscsi_reinst *x, uint64_t now_ns);
uint64_t iscsi_reinst_due_ns(const struct iscsi_reinst *x);

/* At any time; the connection is closed. */
void iscsi_reinst_stop(struct iscsi_reinst *x);

#endif
