/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dp_shed.c - what is known of all files together stays bounded (rule 11 of dp.h).
 *
 * Whole files, never ranges of one: what was first-written here and is not committed yet would be taken for
 * unwritten when it is asked for again. Giving the layout back commits it first.
 *
 * One file at a time. The core may leave it (the file is being closed, no coordinator serves us); it is told
 * again when an eighth more is known.
 */
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/base/limits.h"
#include "csvfs/dp_int.h"

#define AGAIN_PART 8u

/*
 * What a question brings is there for who asked: to give it back before the op has seen it could go on for ever.
 * Unless questions never end: then when half as much again is known.
 */
static bool may_go(const struct dp *dp, const struct dp_file *f)
{
	uint32_t max = dp->cfg.extents_max;

	if (f->lf.closed)
		return false; /* on its way back already */
	return !f->ask_count || dp->layout.extent_count > max + max / 2 + EXTENTS_PER_REPLY;
}

void dp_shed_used(struct dp *dp, struct dp_file *f)
{
	if (list_empty(&f->ulink))
		return;
	list_del(&f->ulink);
	list_add_tail(&f->ulink, &dp->used);
}

void dp_shed_put(struct dp *dp, struct dp_file *f)
{
	list_del(&f->ulink);
	if (f->lf.count)
		list_add_tail(&f->ulink, &dp->used);
}

void dp_shed_dropped(struct dp *dp, struct dp_file *f)
{
	list_del(&f->ulink);
	if (dp->shed_ino == f->lf.ino)
		dp->shed_ino = 0;
}

bool dp_shed_next(struct dp *dp, struct event *ev)
{
	uint32_t count = dp->layout.extent_count, max = dp->cfg.extents_max;

	if (!max || count <= max || (dp->shed_ino && count < dp->shed_again))
		return false;
	list_for_each_entry(f, &dp->used, struct dp_file, ulink) {
		if (!may_go(dp, f))
			continue;
		dp->shed_ino = f->lf.ino;
		dp->shed_again = count + max / AGAIN_PART + 1;
		memset(ev, 0, sizeof(*ev));
		ev->type = EV_SHED;
		ev->ino = f->lf.ino;
		return true;
	}
	return false;
}

void dp_shed_check(struct dp *dp)
{
	uint32_t known = 0, used = 0;

	for (struct layout_file *lf = layout_next(&dp->layout, NULL); lf;
		lf = layout_next(&dp->layout, lf))
		known += lf->count > 0;
	list_for_each_entry(f, &dp->used, struct dp_file, ulink) {
		csv_assert(f->lf.count > 0);
		used++;
	}
	csv_assert(known == used);
}
