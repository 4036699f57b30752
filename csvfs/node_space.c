/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_space.c - the coordinator's side when the volume is full: space that was allocated ahead of writers, and that
 * nobody wrote, is taken back before anybody is told that there is none.
 *
 * Who has such space is what the leases call owned. The layouts of those files are recalled, as for a truncation, and
 * what the files have behind their ends is freed; then the requests that found no space begin anew, once. A
 * request that fails then is refused. Rounds are a second apart at least: on a volume that is full for good each failing
 * write must not cost its neighbours their layouts.
 *
 * Two do not wait: what is of a node that is gone (rule 9 of node_server.c: it would be done when others know that); and a
 * LAYOUT_COMMIT, for whose answer its node waits before it gives the layout back.
 *
 * What a node that is gone had ahead is taken back when its rights end, if nobody else has the file open: a CLOSE would have done it.
 */
#include <errno.h>

#include "csvfs/base/assert.h"
#include "csvfs/node_int.h"
#include "metadata/ops.h"

#define ROUND_NS NS_PER_SEC
#define ROUND_FILES 256u

/* `round`: those that were begun for want of space; else also what a node that is gone had ahead. */
static bool trims_run(const struct node *n, bool round)
{
	list_for_each_entry(s, &n->sreqs, struct sreq, link) {
		if (s->trim && (s->round || !round))
			return true;
	}
	return false;
}

/* It frees what lies behind the end, when it is its turn and nobody has a layout of the file. */
static bool trim(struct node *n, struct lease_ino *li, bool round)
{
	struct sreq *s = mem_alloc(n->mem, sizeof(*s));

	if (!s)
		return false;
	list_add_tail(&s->link, &n->sreqs);
	list_init(&s->waiting);
	s->drop = s->trim = s->exclusive = true;
	s->round = round;
	s->stage = SREQ_LEASE;
	s->vr.owner = s;
	s->vr.rq.op = FS_FREE_ORPHAN;
	s->vr.rq.ino = li->ino;
	s->vr.rq.flags = FS_TRIM_OPEN;
	s->vr.rq.time_ns = n->wall_ns;
	list_add_tail(&s->waiting, &li->waiting);
	return true;
}

/*
 * Not while we take over: others may not have said yet what they hold. Nor before our term counts: whoever has not said it may yet keep
 * it, if we are lost. Then, and without memory for it, the space stays until somebody opens the file and closes it.
 */
void node_space_left_ahead(struct node *n, struct lease_ino *li)
{
	if (takeover_given_counts(n->tk) && n->vol)
		(void)trim(n, li, false);
}

/* False: nobody has any. */
static bool round_begins(struct node *n)
{
	uint32_t files = 0;

	for (unsigned b = 0; b < LEASE_BUCKETS; b++) {
		list_for_each_entry(li, &n->leases.bucket[b], struct lease_ino, hash) {
			if (files < ROUND_FILES && !list_empty(&li->ranges.all) && trim(n, li, true))
				files++;
		}
	}
	if (files)
		trace(n->trace, TRACE_INFO, "no space: what is allocated ahead in %u files is taken back", files);
	n->press_after_ns = n->now_ns + ROUND_NS;
	n->leases_changed = true; /* the queues are looked at */
	return files > 0;
}

bool node_space_wait(struct node *n, struct sreq *s, struct effects *fx)
{
	const struct peer *p = node_peer(n, s->node);

	(void)fx;
	if (s->pressed || s->drop || takeover_state(n->tk) != TK_SERVE || s->vr.rq.op == FS_LAYOUT_COMMIT)
		return false;
	if (!p || p->life != s->id.life || p->evicted_ns)
		return false;
	if (!trims_run(n, true) && n->now_ns >= n->press_after_ns)
		(void)round_begins(n);
	if (!trims_run(n, false))
		return false;
	s->pressed = true;
	s->stage = SREQ_LEASE;
	csv_assert(list_empty(&s->waiting));
	list_add_tail(&s->waiting, &n->short_of_space);
	return true;
}

void node_space_step(struct node *n, struct effects *fx)
{
	struct list again;

	if (list_empty(&n->short_of_space) || trims_run(n, false))
		return;
	list_init(&again);
	list_splice_tail(&n->short_of_space, &again);
	while (!list_empty(&again)) {
		struct sreq *s = list_first_entry(&again, struct sreq, waiting);

		node_server_again(n, s, fx);
	}
}
