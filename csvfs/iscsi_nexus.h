/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iscsi_nexus.h - who has been registered at a LUN, for a target whose LOGICAL UNIT RESET is no barrier (iscsi_reinst.h).
 *
 * An I_T nexus that is registered no more may have commands in flight in the target. So the table keeps each one that was ever seen
 * registered, until its old session is known to have ended. It outlives the sessions of this process: after the loss of a path, or by
 * another coordinator's fence, a registration goes that only an earlier session had seen.
 *
 *   seen registered: HERE --not seen any more--> GONE --iscsi_nexus_ended()--> ended
 *     ^                                            |                             |
 *     +--------------------------------------------+-----------------------------+ seen registered again
 *
 * Rules
 *  1. HERE is never handed out: its session is a living node's.
 *  2. Nor is a nexus of this very process, which may be logged in: the ISIDs of a node's sessions are always the same, and each
 *     login of them ends what the one before had in flight, of an earlier life, too.
 *  3. What has no room, here or in the target's answer, is not forgotten: then iscsi_nexus_next() says so, for ever.
 *  4. Tables live as long as the process (it has one or two LUNs), and may be used from several threads.
 */
#ifndef CSVFS_ISCSI_NEXUS_H
#define CSVFS_ISCSI_NEXUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "csvfs/scsi.h"

#define ISCSI_NEXUS_MAX 2047

struct iscsi_nexus_table;

/* That of the LUN; made, if there is none. NULL: no memory. */
struct iscsi_nexus_table *iscsi_nexus_table(const char *portal, const char *target, int lun);

/* This process is going to log in so. */
void iscsi_nexus_ours(struct iscsi_nexus_table *t, const char *name, const uint8_t *isid);

/* The relative port of the target by which this process is logged in, from its own mouth (scsi_port()); 0: not told. */
void iscsi_nexus_port(struct iscsi_nexus_table *t, uint16_t port);

/* Somebody may be registered who was not told (rule 3). */
void iscsi_nexus_full(struct iscsi_nexus_table *t);

/* The answer to READ FULL STATUS. False: nothing of it could be used, and the table is as it was. */
bool iscsi_nexus_seen(struct iscsi_nexus_table *t, const char *self, const uint8_t *full, size_t n);

enum iscsi_nexus_next {
	ISCSI_NEXUS_NONE, /* none is left */
	ISCSI_NEXUS_NEXT, /* this one is gone, and not known to have ended */
	ISCSI_NEXUS_NEVER, /* there is one that nobody can log in for; `why`, not a whole sentence */
};

/* Who asks is called `self`. */
enum iscsi_nexus_next iscsi_nexus_next(struct iscsi_nexus_table *t, const char *self, struct scsi_nexus *out, const char **why);

/* What it had in flight when iscsi_nexus_next() named it has ended. */
void iscsi_nexus_ended(struct iscsi_nexus_table *t, const struct scsi_nexus *x);

#endif
