/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iscsi_sent.h - how far libiscsi has come with what it was given to send.
 *
 * It does not say so itself. But its queue is in the order of the commands, and the data of a command (DATA-OUT) has the place
 * of its command. So the commands leave the queue in the order in which they were given, the data that a target asks for goes
 * before each command that has not begun, and to count is enough. (Only what is no command, task management or the answer to a ping,
 * may go ahead.)
 */
#ifndef CSVFS_ISCSI_SENT_H
#define CSVFS_ISCSI_SENT_H

#include <stdbool.h>
#include <stdint.h>

struct iscsi_context;

/* Commands, counted from 1. All zero at the beginning. */
struct iscsi_sent {
	uint64_t given; /* to libiscsi */
	uint64_t answered; /* by the target, each of them once */
	uint64_t begun; /* they have left the queue; the last one may be half sent */
	uint64_t whole; /* they have been sent to the end */
	bool task_mgmt; /* one has been given to libiscsi, and has no answer: it is no command */
};

/* Something can be sent. (What is beyond the target's window cannot, and has no data in the queue.) */
bool iscsi_sent_waits(struct iscsi_context *ctx);

/* Sends what the socket takes. As iscsi_service(): not 0 when the session is lost. Not from within a callback of libiscsi. */
int iscsi_sent_more(struct iscsi_sent *s, struct iscsi_context *ctx);

#endif
