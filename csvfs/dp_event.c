/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dp_event.c - what an op has to tell the core. */
#include "csvfs/dp_int.h"

static void event_range(struct event *ev, enum ev_type type, const struct dp_op *op)
{
	memset(ev, 0, sizeof(*ev));
	ev->type = type;
	ev->range.ino = op->range.ino;
	ev->range.off = op->range.off;
	ev->range.len = op->range.len;
	ev->range.mtime_ns = op->range.mtime_ns;
	ev->range.size = op->range.size;
	ev->range.rights = op->rights;
}

void dp_event_touched(struct event *ev, uint64_t ino, int64_t mtime_ns, int64_t atime_ns)
{
	memset(ev, 0, sizeof(*ev));
	ev->type = EV_TOUCHED;
	ev->range.ino = ino;
	ev->range.mtime_ns = mtime_ns;
	ev->range.atime_ns = atime_ns;
}

static void event_appended(struct event *ev, const struct dp_op *op)
{
	memset(ev, 0, sizeof(*ev));
	ev->type = EV_APPENDED;
	ev->range.ino = op->ino;
	ev->range.off = op->off;
}

bool dp_op_event(struct dp_op *op, struct event *ev)
{
	if (op->note_written) {
		event_range(ev, EV_WRITTEN, op);
	} else if (op->note_touched) {
		dp_event_touched(ev, op->ino, op->note_mtime_ns, op->note_atime_ns);
	} else if (op->note_appended) {
		event_appended(ev, op);
		op->note_appended = false;
		return true;
	} else {
		return false;
	}
	op->note_written = op->note_touched = false;
	return true;
}
