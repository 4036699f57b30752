/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iscsi_sent.c - see iscsi_sent.h. */
#include "csvfs/iscsi_sent.h"

#include <iscsi/iscsi.h>
#include <poll.h>

bool iscsi_sent_waits(struct iscsi_context *ctx)
{
	return iscsi_which_events(ctx) & POLLOUT;
}

/* Beside the queue, libiscsi has a list of what waits for an answer: it is there from the moment on when it leaves the queue. */
static uint64_t count_begun(const struct iscsi_sent *s, struct iscsi_context *ctx)
{
	uint64_t waiting = (uint64_t)(iscsi_queue_length(ctx) - iscsi_out_queue_length(ctx));
	uint64_t n = s->answered + waiting - (s->task_mgmt && waiting);

	/* (As long as task management itself is in the queue, that is one too few.) */
	n = n > s->begun ? n : s->begun;
	return n < s->given ? n : s->given;
}

int iscsi_sent_more(struct iscsi_sent *s, struct iscsi_context *ctx)
{
	uint64_t was = s->begun;
	int queued, err = 0;

	if (!iscsi_sent_waits(ctx) && s->whole == s->given)
		return 0;
	queued = iscsi_out_queue_length(ctx);
	if (iscsi_sent_waits(ctx))
		err = iscsi_service(ctx, POLLOUT);
	if (err)
		return err;
	s->begun = count_begun(s, ctx);
	/* One thing is taken out after the other: what came before the last one taken is sent, and that may be no command. */
	if (!iscsi_sent_waits(ctx) || (s->begun == was && iscsi_out_queue_length(ctx) < queued))
		s->whole = s->begun;
	else if (s->begun > s->whole + 1)
		s->whole = s->begun - 1;
	return 0;
}
