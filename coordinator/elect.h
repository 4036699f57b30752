/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * elect.h - who coordinates, who should, whose key stays: questions to an agreed view, without
 * state.
 *
 * All members of a view get the same answers from the same STATEs; where they had different
 * ones, two may stand, and the order of delivery decides (elect_standing()).
 */
#ifndef CSVFS_COORDINATOR_ELECT_H
#define CSVFS_COORDINATOR_ELECT_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/member.h"

/* A CANDIDATE stands against this epoch: its coordinator hangs. */
bool elect_accused(const struct member *m, uint64_t epoch);

/*
 * Who has claimed: RECOVERING or more, answered, and not accused; of several the highest epoch. NULL:
 * nobody.
 */
const struct member_node *elect_coordinator(const struct member *m);

/* The CANDIDATE that was delivered first in this view; NULL: none. */
const struct member_node *elect_standing(const struct member *m);
/*
 * Each member of the view has told us its STATE since it appeared. One that has not (it hangs, and we came
 * later) has rights of the last coordinator's that we do not know, and will not be asked to reclaim.
 */
bool elect_all_heard(const struct member *m);
/* Members that are CANDIDATE or more, beside `node` and who is accused. */
uint32_t elect_others(const struct member *m, uint32_t node);

/*
 * Who should stand: whom the last coordinator named when it gave up, else one that stays before one that
 * leaves, the fit one with a working path that coordinates least, the lowest id of those. `except`: not this
 * one (0: none). NULL: nobody has a path.
 */
const struct member_node *elect_best(const struct member *m, uint32_t except);
/* The same of those that stay; NULL: nobody who stays has a path. */
const struct member_node *elect_best_staying(const struct member *m, uint32_t except);

/*
 * The coordinator that gave up the highest epoch in order, and named who follows; NULL: none did.
 */
const struct member_node *elect_released(const struct member *m);

/*
 * True for a key that a fence of everybody else keeps: of a member whose incarnation is current for
 * certain, and who runs no metadata engine. `m` is a struct member: this is the fence's keep().
 */
bool elect_keeps(const void *m, uint64_t key);

/* True when the node could coordinate now. */
bool elect_able(const struct member *m, const struct member_node *n);

#endif
