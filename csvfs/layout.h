/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * layout.h - what this node knows of its open files: ino -> extents, size, gate of the file.
 *
 * The knowledge is what the coordinator granted (FX_LAYOUT_PUT) plus what this node has
 * first-written itself. It is dropped as a whole (FX_LAYOUT_DROP), never aged: a range that is known
 * stays as it is until the layout goes back: recalled, or since too much is known (dp_shed.c).
 *
 * Invariants (layout_check)
 *  L1 the extents of a file are sorted, do not overlap, are multiples of a cluster in offset and
 *     length, and neighbours that could be one are one;
 *  L2 a WRITTEN extent is never made UNWRITTEN at the same place by a later put: a grant may have been
 *     made before the coordinator heard of our first write, and believing it would zero data;
 *  L3 what a first write needs to be recorded was reserved before it was submitted.
 */
#ifndef CSVFS_LAYOUT_H
#define CSVFS_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/fsreq.h"
#include "csvfs/base/list.h"
#include "csvfs/base/mem.h"

struct lext; /* an extent, node of the file's tree */

/* First member of the owner's own struct (layout_init: file_bytes). */
struct layout_file {
	struct list hash;
	uint64_t ino;
	uint64_t size;	   /* bytes; meaningless while !size_known */
	uint64_t drops;	   /* how often all was forgotten: a plan of before is void */
	bool size_known;
	bool closed;	   /* gate of the file: nobody enters */
	struct lext *root;
	uint32_t count;	   /* extents */
};

#define LAYOUT_BUCKETS 4096u

struct layout {
	struct mem *mem;
	uint64_t data_start;
	uint32_t cluster_bytes;
	uint32_t file_bytes;
	uint32_t file_count;
	uint32_t extent_count;	/* of all files */
	uint32_t spare_count;	/* extents set aside */
	uint32_t promised;	/* of those, for first writes in flight (L3) */
	struct lext *spare;
	struct lext *aside;	/* trees of what was forgotten: taken from before memory is */
	struct list *buckets;	/* LAYOUT_BUCKETS heads */
};

/*
 * -ENOMEM. data_start: no file's data lies before this byte of the LUN. `file_bytes`: size of the struct that begins with a
 * struct layout_file.
 */
int layout_init(struct layout *l, struct mem *mem, uint64_t data_start, uint32_t cluster_bytes,
	uint32_t file_bytes);

/* Forgets and frees every file. */
void layout_fini(struct layout *l);

/* NULL: nothing is known of it. */
struct layout_file *layout_find(struct layout *l, uint64_t ino);

/* Found or made, zeroed behind its head; *is_new says which. NULL: out of memory. */
struct layout_file *layout_file_get(struct layout *l, uint64_t ino, bool *is_new);

/* Forgets its extents, and that there was such a file. */
void layout_file_free(struct layout *l, struct layout_file *f);

/*
 * What is known at byte `off`: the whole extent that covers it. False: nothing; then *next (may be
 * NULL) is where the next known extent begins, or UINT64_MAX.
 */
bool layout_at(const struct layout_file *f, uint64_t off, struct fs_extent *e, uint64_t *next);

/*
 * Replaces what was known in [off, off + len), except as L2 says. The extents must lie in the range,
 * sorted, not overlapping, in whole clusters, and lead to where data may lie; what they leave out
 * becomes unknown. -EINVAL: they do not; -ENOMEM. Nothing has changed then.
 */
int layout_put(struct layout *l, struct layout_file *f, uint64_t off, uint64_t len,
	const struct fs_extent *e, uint32_t count);

/* Nothing is known any more; the gate opens. */
void layout_drop(struct layout *l, struct layout_file *f);

/* Before a first write: its recording will find memory. -ENOMEM. */
int layout_promise(struct layout *l);
void layout_unpromise(struct layout *l);

/*
 * What is UNWRITTEN in [off, off + len), whole clusters, is WRITTEN from now on. Needs a promise;
 * uses it up. Fails never.
 */
void layout_written(struct layout *l, struct layout_file *f, uint64_t off, uint64_t len);

/* Each file in turn; NULL: start. For checks and the end. */
struct layout_file *layout_next(struct layout *l, struct layout_file *f);

void layout_check(struct layout *l);

#endif
