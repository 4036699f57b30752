/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * extent.h - where a regular file's bytes are. Offsets and lengths are in clusters.
 */
#ifndef CSVFS_METADATA_EXTENT_H
#define CSVFS_METADATA_EXTENT_H

#include "metadata/inode.h"

/* A piece of a file: an extent, or the hole between two (state EXT_HOLE, start 0). */
struct extent {
	uint64_t off, start, len;
	uint32_t state; /* enum ext_state */
};

/*
 * Steps of long work go on while there is this much room: for a change that splits or merges two levels of the tree, and what
 * follows behind the last step (TXN_END_BLOCKS is mostly 2 of it). The few that need more may have it, see txn.h.
 */
#define EXTENT_STEP_BLOCKS 40u
/* and pieces that one step frees, or looks at, at most: others wait meanwhile. */
#define EXTENT_STEP_PIECES 1000u

/*
 * What covers cluster `off`; the whole extent or hole. A hole behind the last extent ends at
 * EXTENT_END.
 */
#define EXTENT_END (FILE_BYTES_MAX / CLUSTER_MIN)
int extent_at(const struct inode *in, uint64_t off, struct extent *e);

/*
 * The same for one piece after the other, up to EXTENT_END: extent_first() gives what covers `off`,
 * extent_next() what comes behind the last one; -ENOENT behind EXTENT_END. Nothing may change meanwhile.
 */
struct extent_walk {
	struct tree tree;
	struct tree_cursor cursor;
	struct tree_rec rec; /* the next extent; not there: at_end */
	bool at_end;
	uint64_t off; /* where the next piece begins */
};
int extent_first(const struct inode *in, uint64_t off, struct extent_walk *w, struct extent *e);
int extent_next(struct extent_walk *w, struct extent *e);

/* Space just allocated goes into a hole; joined with its neighbours where that can be. */
int extent_add(const struct inode *in, const struct extent *e, bool reserve);

/* [off, off + len) lies within one extent, which has another state: from now on `state`. */
int extent_set_state(const struct inode *in, uint64_t off, uint64_t len, uint32_t state);

/*
 * Frees what lies in [from, to), from its end backwards. 0: nothing is left there. -EINPROGRESS: the
 * operation's room is used up, go on in the next one (what is changed is consistent and stays).
 */
int extent_free(const struct inode *in, uint64_t from, uint64_t to);

/*
 * Fills holes in [from, to) with UNWRITTEN space, for a writer on `node`. At most `most` allocations.
 * *end: all in [from, *end) has space now. 0 when *end == to; -EINPROGRESS: room or `most` used up, or many pieces looked at;
 * -ENOSPC: no space for the cluster at *end; when *end > from, what was allocated is sound and the
 * operation may succeed with that. Any other error, and -ENOSPC with *end == from, must fail it.
 */
int extent_fill(const struct inode *in, uint64_t from, uint64_t to, uint32_t node, uint32_t most,
	uint64_t *end);

#endif
