/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_sweep.c - the coordinator frees files without a name that nobody has reclaimed: their nodes are gone, and so are
 * they. One after the other, once all members have reclaimed; and again when the rights of a node have ended, or it says no
 * more of a file that it has it open.
 *
 * Rule: each of them is tried once in a sweep. One that cannot be freed (damaged, unreadable) stays on the list, and keeps
 * none behind it there. None is freed before our term counts: who holds it may be given up, and must hear of it from whoever
 * coordinates next (rule 6 of takeover_given.c).
 */
#include <errno.h>

#include "csvfs/node_int.h"

#define AGAIN_NS NS_PER_SEC

void node_sweep_begin(struct node *n)
{
	n->orphans_left = true;
	n->sweeping = n->sweep_anew = false;
	n->orphan_off = 0;
	n->sweep_after_ns = 0;
}

static void next_orphan(struct node *n)
{
	struct sreq *s = mem_alloc(n->mem, sizeof(*s));

	if (!s) {
		n->sweep_after_ns = n->now_ns + AGAIN_NS;
		return;
	}
	n->orphans_left = false;
	n->sweeping = true;
	list_add_tail(&s->link, &n->sreqs);
	list_init(&s->waiting);
	s->drop = s->sweep = true;
	s->vr.owner = s;
	s->vr.rq.op = FS_FREE_ORPHAN;
	s->vr.rq.off = n->orphan_off;
	s->vr.rq.time_ns = n->wall_ns;
	node_server_engine(n, s);
}

/* The reply's number is that of the orphan, also of one that cannot be freed; 0: the list has ended, or cannot be read. */
void node_sweep_done(struct node *n, struct sreq *s)
{
	const struct fs_reply *rp = &s->vr.reply;

	n->sweeping = false;
	n->orphans_left = rp->off > n->orphan_off;
	n->orphan_off = rp->off;
	if (rp->err && rp->err != -ENOENT)
		trace(n->trace, TRACE_ERROR, "file %llu without a name cannot be freed: error %d",
			(unsigned long long)rp->off, rp->err);
}

void node_sweep_step(struct node *n)
{
	if (n->sweep_anew && !n->orphans_left && !n->sweeping) {
		n->sweep_anew = false;
		n->orphans_left = true;
		n->orphan_off = 0;
	}
	if (n->orphans_left && n->now_ns >= n->sweep_after_ns && takeover_given_counts(n->tk))
		next_orphan(n);
}

uint64_t node_sweep_deadline(const struct node *n)
{
	return n->vol && n->orphans_left && takeover_given_counts(n->tk) ? n->sweep_after_ns : NEVER;
}
