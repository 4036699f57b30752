/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_reopen.c - a file that is open on this node is opened once more.
 *
 * Nobody else need know of that; but whoever restarts what ran on a node that is gone opens its disk first, and nothing old may land in
 * it (rule 8 of node_server.c). This node may hold a layout to read it since before, and would read at once what the last writes of the dead
 * one may still change. So since somebody has left, the coordinator is asked: its answer waits until nothing of who is gone can land there.
 *
 * Rules
 *  1. It is asked when it has told its STATE in our view: it knows who has left, too. An answer to what was asked before is good for nothing
 *     but that the file is open.
 *  2. One OPEN for all who wait. If another node leaves while it is out, it is asked once more.
 *  3. While it is out the file is not closed: the coordinator may execute it behind the CLOSE.
 */
#include "csvfs/node_int.h"

static bool coordinator_knows(const struct node *n)
{
	const struct member_node *m = member_find(&n->member, takeover_coordinator(n->tk).node);

	return m && m->member && m->answered;
}

bool node_reopen_due(const struct node *n, const struct file *f)
{
	return f->departures != n->member.departures;
}

void node_reopen_asks(const struct node *n, struct file *f)
{
	uint64_t count = n->member.departures;

	f->asked_departures = !count || coordinator_knows(n) ? count : count - 1;
}

void node_reopen_waits(struct node *n, struct file *f, struct effects *fx)
{
	if (f->reopening)
		return;
	if (!coordinator_knows(n)) {
		n->reopens = true;
		return;
	}
	f->reopening = true;
	node_file_open_send(n, f, fx);
}

/* Also of one whose processes have been killed since: the answer closes it. */
void node_reopen_step(struct node *n, struct effects *fx)
{
	if (!n->reopens || !coordinator_knows(n))
		return;
	n->reopens = false;
	for (struct file *f = node_file_next(n, NULL); f; f = node_file_next(n, f)) {
		if (f->st == FILE_OPEN && (!list_empty(&f->open_waiters) || !f->opens))
			node_reopen_waits(n, f, fx);
	}
}
