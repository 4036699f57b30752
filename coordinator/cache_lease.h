/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cache_lease.h - what the coordinator remembers of the nodes' *cache leases*: a node that has one of an inode may
 * answer from its own memory what the inode's attributes are and, of a directory, which of the names that it has
 * asked for are there, until it is asked to forget (coordinator/PROTOCOL.md, "Cache leases").
 *
 * In memory alone, of one term: a new coordinator begins with none.
 *
 * Invariants (cache_lease_check)
 *  C1 what a node is asked to forget it has;
 *  C2 an inode whose forgetting is asked for has a time at which it ends, whatever the node does;
 *  C3 an inode is in the table only while somebody has it;
 *  C4 an answer counts for the question that it answers, and for none after that: who answers late may have been given it anew.
 *
 * Nodes are named by an index 0 .. NODES_MAX-1, as in lease.h.
 */
#ifndef CSVFS_COORDINATOR_CACHE_LEASE_H
#define CSVFS_COORDINATOR_CACHE_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/limits.h"
#include "csvfs/base/list.h"
#include "csvfs/base/mem.h"

/*
 * A node answers from memory until this long after it sent the PING that was answered last; the coordinator gives up
 * waiting for it this long, and the margin for clocks of different speed, after it asked.
 */
#define CACHE_LEASE_NS (2 * NS_PER_SEC)
#define CACHE_LEASE_OVER_NS (CACHE_LEASE_NS + CACHE_LEASE_NS / 10)
/* Where somebody was asked to forget nobody is given a lease for so long: it is being changed. */
#define CACHE_LEASE_COOL_NS (NS_PER_SEC / 2)

#define CACHE_LEASE_INODES_MAX 131072u
#define CACHE_LEASE_SLOTS 4096u

struct cache_lease {
	struct list hash, age; /* age: oldest first; not on it while somebody is asked */
	struct list asked;
	uint64_t ino;
	uint64_t holders;
	uint64_t asks; /* of those: asked to forget */
	uint64_t unsent; /* of those: the message has not left yet */
	uint64_t until_ns; /* then they have forgotten anyway */
	uint64_t nr; /* what was asked before has a lower number */
};

/* Of all inodes with one hash. */
struct cache_lease_slot {
	uint64_t newest, of_others; /* change: the newest, and the newest not by node `by` */
	uint64_t cool_until_ns;
	uint32_t waits; /* requests that wait for one of these to be forgotten */
	uint32_t by;
};

struct cache_lease_table {
	struct mem *mem;
	struct list *bucket;
	struct cache_lease_slot *slot;
	struct list age, asked;
	uint32_t count;
	uint64_t changes; /* counts them */
	uint64_t asks_made; /* counts them, and never begins anew */
	uint64_t life[NODES_MAX]; /* grows when all that a node has ends */
	uint64_t over_ns[NODES_MAX]; /* all of it ends then; 0: no such time */
	bool freed; /* something was forgotten: who waits may go on */
	uint64_t granted, recalled; /* for state */
};

int cache_lease_init(struct cache_lease_table *t, struct mem *mem);
void cache_lease_reset(struct cache_lease_table *t);

/*
 * A request of node `idx` is about to change `ino`. False: nodes other than `but` (a mask) have it; they are asked
 * now, and the caller waits. True: nobody has.
 */
bool cache_lease_change(struct cache_lease_table *t, uint64_t ino, uint64_t but, uint64_t now_ns);
/* It was changed, by idx (NODES_MAX: the coordinator itself). Returns the number of the change. */
uint64_t cache_lease_changed(struct cache_lease_table *t, uint64_t ino, uint32_t idx);

/* While somebody waits, nobody is given one. */
void cache_lease_wait(struct cache_lease_table *t, uint64_t ino, bool begins);

/*
 * Node idx is told how `ino` was after change number `seen`; may it keep that? `own_too`: a change of its own since
 * matters as well.
 */
bool cache_lease_grant(struct cache_lease_table *t, uint64_t ino, uint32_t idx, uint64_t seen,
	bool own_too, uint64_t now_ns);

/* It has forgotten one, as message `nr` asked it to; all. */
void cache_lease_gone(struct cache_lease_table *t, uint64_t ino, uint32_t idx, uint64_t nr);
void cache_lease_drop_node(struct cache_lease_table *t, uint32_t idx);
/* Its session is gone: it answers from memory at most until over_ns. */
void cache_lease_cut(struct cache_lease_table *t, uint32_t idx, uint64_t now_ns);

/* Ends what time has ended. */
void cache_lease_step(struct cache_lease_table *t, uint64_t now_ns);
uint64_t cache_lease_deadline(const struct cache_lease_table *t);

/* The next inodes of which idx has to be told to forget them, in a message that is numbered *nr: at most `room`; how many. */
uint32_t cache_lease_unsent(
	struct cache_lease_table *t, uint32_t idx, uint64_t *inos, uint32_t room, uint64_t *nr);

void cache_lease_check(const struct cache_lease_table *t);

#endif
