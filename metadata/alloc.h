/* SPDX-License-Identifier: GPL-2.0-or-later */
/* alloc.h - what alloc.c (groups, metadata chunks) and alloc_data.c (clusters for data) share. */
#ifndef CSVFS_METADATA_ALLOC_H
#define CSVFS_METADATA_ALLOC_H

#include "metadata/engine.h"

#define HINT_NO_CHUNK (1u << 0) /* no free chunk was found here; cleared when something is freed */
#define HINT_NO_DATA (1u << 1) /* nothing at all for data */

#define MASK_WINDOWS (1u << 0) /* keep out of other writers' windows */
#define MASK_RESERVE (1u << 1) /* keep out of the reserve */
#define MASK_WHOLE (1u << 2) /* keep out of chunks that are free as a whole */

#define MASK_KEEP (1u << 3) /* leave the free chunks that are kept (A6) */

enum want { WANT_DATA, WANT_CHUNK, WANT_META, WANT_INODE };

/* Bitmaps: bit i of byte i/8. */
bool alloc_bit(const uint8_t *map, uint32_t i);
void alloc_bits_fill(uint8_t *map, uint32_t from, uint32_t count, bool on);
/* First bit with that value in [from, end); end: none. */
uint32_t alloc_bits_next(const uint8_t *map, uint32_t from, uint32_t end, bool on);

/*
 * The next group in [from, end) that may have it; end: none. Whole summary blocks without any are
 * skipped, so this is fast on a full volume too.
 */
uint32_t alloc_find_group(const struct alloc *a, uint32_t from, uint32_t end, enum want want);
/* The index of a group, and what is summed up from it (A3). */
void alloc_index_set(struct vol *v, uint32_t g, uint32_t free, uint32_t flags);
/* The group's block; one that was never written is made. */
int alloc_group_get(struct txn *t, uint32_t g, struct block **out);
/* What the group block now says, into the summary. */
int alloc_group_changed(struct txn *t, uint32_t g, const struct block *b);
void alloc_group_take(struct disk_group *d, uint32_t from, uint32_t count);
void alloc_group_give(struct disk_group *d, uint32_t from, uint32_t count);
/* Bitmap of what must not be taken, by `who`. */
void alloc_group_mask(struct vol *v, uint32_t g, const struct disk_group *d, uint64_t who,
	unsigned mask, uint8_t map[GROUP_BITMAP_BYTES]);
/* Clusters freed by this operation, all in one group, are not to be used yet. */
int alloc_pend(struct txn *t, uint64_t start, uint32_t count, bool chunk);

/* alloc_keep.c. Free chunks of a group whose block was read; or was not: as many as there can be. */
void alloc_whole_count(struct alloc *a, uint32_t g, const struct disk_group *d);
void alloc_whole_guess(struct alloc *a, uint32_t g);
bool alloc_chunk_is_whole(const struct alloc *a, const struct disk_group *d, uint32_t c);
/* A6: how many must be left. */
uint64_t alloc_kept(const struct alloc *a);
/* A5, A6: how many more may data break up? */
uint64_t alloc_whole_to_spare(const struct alloc *a);
/*
 * There may be more to spare than is known, since not all groups were looked at: looks at some of them. -EINPROGRESS: there still
 * may be, nothing has changed.
 */
int alloc_whole_look(struct txn *t);

int alloc_chunk_header(struct txn *t, uint64_t chunk, struct block **out);
/* In that chunk an inode was made or freed by the operation that runs. */
void alloc_count_change(struct txn *t, uint64_t chunk, int by);

#endif
