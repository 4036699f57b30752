/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dp_attr.c - what the data path knows of a file's attributes and times. */
#include "csvfs/base/assert.h"
#include "csvfs/dp_int.h"

void dp_attr_seen(struct dp *dp, uint64_t ino)
{
	struct dp_file *f = dp_file_find(dp, ino);

	/* Closed: the layout that they came with is on its way back. */
	if (f && !f->lf.closed)
		f->attr_seen = true;
}

bool dp_attr_holds(struct dp *dp, uint64_t ino)
{
	const struct dp_file *f = dp_file_find(dp, ino);

	return f && f->attr_seen;
}

int64_t dp_read_ns(struct dp *dp, uint64_t ino)
{
	struct dp_file *f = dp_file_find(dp, ino);

	return f && f->touched ? f->read_wall_ns : 0;
}

void dp_times_set(struct dp *dp, uint64_t ino)
{
	struct dp_file *f = dp_file_find(dp, ino);

	if (f)
		f->changed = true;
}

int64_t dp_touched_ns(struct dp *dp, uint64_t ino)
{
	struct dp_file *f = dp_file_find(dp, ino);

	return f && f->touched ? f->touched_wall_ns : 0;
}

void dp_layout_size(struct dp *dp, uint64_t ino, uint64_t size)
{
	struct dp_file *f = dp_file_find(dp, ino);

	if (f && f->lf.size_known)
		f->lf.size = f->shown = size;
}

void dp_layout_version(struct dp *dp, uint64_t ino, uint64_t version)
{
	struct dp_file *f = dp_file_find(dp, ino);

	if (f && f->lf.size_known)
		f->version_1 = version + 1;
}

void dp_place_version(struct dp_op *op, uint64_t version)
{
	op->place_version_1 = version + 1;
}

void dp_place_asked(struct dp *dp, struct dp_op *op)
{
	const struct dp_file *f = op->file;

	csv_assert(op->state == DP_ST_APPEND);
	op->append_from = f->lf.size_known ? f->lf.size : 0;
	op->drops = f->lf.size_known ? f->lf.drops : UINT64_MAX;
	op->place_rights = dp->rights;
}

bool dp_place_stands(const struct dp *dp, const struct dp_op *op)
{
	return op->place_rights == dp->rights;
}

void dp_place_void(struct dp_op *op)
{
	op->place_rights--;
	op->place_version_1 = 0;
}

void dp_layout_shown(struct dp *dp, uint64_t ino, uint64_t shown)
{
	struct dp_file *f = dp_file_find(dp, ino);

	if (f && f->lf.size_known && shown < f->shown)
		f->shown = shown;
}
