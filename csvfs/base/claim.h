/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * claim.h - the block on the LUN that says who coordinates: block 1, and a copy in block 2.
 *
 * The authority on coordination is the LUN, not a view of the cluster. Whoever takes over writes a
 * claim with a higher epoch and reads it back before it does anything else.
 *  - Each claim is written to the older (or damaged) of the two places; the valid one with the
 *    higher (epoch, heartbeat) counts. So a torn write never loses the claim that was there.
 *  - The coordinator beats: it rewrites the claim with heartbeat + 1 every CLAIM_BEAT_NS or sooner. Tools,
 *    and a standalone mount, tell a live volume from one whose node died by watching the beat.
 *  - It names who was given up in this term: (node, life) whose layouts and locks others may have by now.
 *    The next coordinator reads it there, and says so to whoever comes back (coordinator/PROTOCOL.md, "Given up").
 *  - It names who was fenced and has not been back since, in whatever term that was: a machine that was paused may still send what
 *    it had queued, at any time. So the last node that leaves in order leaves its registration, and says that it did (`kept`).
 *  - It says in which term somebody may have been served last. A term that ended before it served anybody has taken
 *    nothing from anybody.
 */
#ifndef CSVFS_BASE_CLAIM_H
#define CSVFS_BASE_CLAIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "csvfs/base/le.h"
#include "csvfs/base/limits.h"

#define CLAIM_BLOCK 1 /* and CLAIM_BLOCK + 1 */
#define CLAIM_MAGIC 0x6d6c4356u /* "VClm" */
#define CLAIM_BEAT_NS (2 * NS_PER_SEC)

enum claim_state {
	CLAIM_CLEAN = 0, /* nobody coordinates: unmounted in order */
	CLAIM_HELD = 1,
	CLAIM_RELEASED = 2, /* given up in order, for another node to take (handover) */
};

#define CLAIM_GIVEN_UP_MAX NODES_MAX

struct claim_given_up {
	uint32_t node;
	uint64_t life;
};

#define CLAIM_FENCED_MAX NODES_MAX

struct claim_fenced {
	uint32_t node;
	uint32_t incarnation; /* the last that was fenced */
	uint32_t name_crc;    /* of its name (claim_name_crc()); 0: it is not known */
};

struct claim {
	uint8_t uuid[16];
	uint64_t epoch;
	uint64_t heartbeat;
	enum claim_state state;
	uint32_t node;
	uint32_t incarnation;
	uint64_t life;
	char name[NODE_NAME_MAX]; /* node name or host name, for messages */
	uint32_t given_up_count;
	struct claim_given_up given_up[CLAIM_GIVEN_UP_MAX]; /* each node once */
	uint64_t served; /* the newest epoch, up to this one, in which somebody may have been served; never 0 when read */
	bool kept; /* CLEAN: the registration of (node, incarnation), and with it the reservation, was left on purpose */
	bool fenced_more; /* others were fenced, too, than there is room for */
	uint32_t fenced_count;
	struct claim_fenced fenced[CLAIM_FENCED_MAX]; /* and have not been back; each (node, known name) once */
};

/* Never 0. */
uint32_t claim_name_crc(const char name[NODE_NAME_MAX]);

/* Is somebody fenced who has not been back? */
static inline bool claim_owes(const struct claim *c)
{
	return c->fenced_count || c->fenced_more;
}

/* A tool's claim follows `last`: who was fenced, and what was left at the LUN for that, is as before. */
void claim_keep(struct claim *c, const struct claim *last);

/* "node 3 was fenced and has not been back", of an owing claim. */
void claim_owes_text(const struct claim *c, char *out, size_t out_bytes);

/* Fills a whole block (BLOCK_SIZE bytes), sealed with crc32c. */
void claim_encode(const struct claim *c, void *block);

/* 0, -EUCLEAN (no valid claim there), -ESTALE (a valid claim of another volume). uuid NULL: any. */
int claim_decode(struct claim *c, const void *block, const uint8_t uuid[16]);

#endif
