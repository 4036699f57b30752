/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node.h - one node's whole core: node_step(node, event, effects).
 *
 * The only part that knows metadata/, coordinator/ and redirect/ together. Pure: platform.h states
 * the rules of events and effects.
 */
#ifndef CSVFS_NODE_H
#define CSVFS_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/mem.h"
#include "csvfs/base/platform.h"
#include "csvfs/base/trace.h"

struct node;

/* A node uses its rights for so long after the last proof that nobody else was given them ("lease" in PROTOCOL.md). */
#define NODE_LEASE_NS (2 * NS_PER_SEC)

struct node_config {
	uint32_t node;		  /* corosync node id; node_id_alone() when standalone */
	char name[NODE_NAME_MAX]; /* node name; host name when standalone */
	char addr[ADDR_MAX];	  /* where other nodes reach this daemon */
	uint16_t port;
	uint64_t life;		  /* random, not 0: one per daemon life */
	uint64_t seed;		  /* random: incarnations are drawn from it */
	uint8_t uuid[16];	  /* of the volume */
	uint64_t root_ino;
	uint32_t expected_nodes;  /* of corosync's nodelist */
	bool standalone;	  /* no cluster: one node that excludes all others */
	bool reservations;	  /* the LUN has persistent reservations (an image file has a lock) */
	bool left_behind;	  /* without reservations: an earlier life may have writes in flight at the LUN */
	bool carry_elsewhere;	  /* for tests: the coordinator carries block I/O of others only if nobody else can */
	bool readonly;		  /* the volume has features of a newer csvfs that allow reading only */
	uint64_t cache_bytes;	  /* block cache of the metadata engine */
	uint32_t reclaim_ranges;  /* so many ranges of a file in one RECLAIM, and the next one in the next step; 0: as many as there is room for */
	uint32_t owned_many;	  /* with so many ranges of a file to first-write its layout goes back; 0: OWNED_MANY */

	/* Times, ns. 0: the default in brackets. */
	uint64_t lease_ns;	  /* right to do I/O after the last proof that nobody gave us up [2 s] */
	uint64_t commit_ns;	  /* first writes are committed at the latest after this [3 s] */
	uint64_t recall_ns;	  /* a layout not given back in this time: its holder is fenced [10 s] */
	uint64_t reclaim_ns;	  /* a member silent for this long after a takeover is fenced [3 s] */
	uint64_t path_retry_ns;	  /* first wait before a lost path is tried again [1 s] */
	uint64_t hold_ns;	  /* held I/O gets EIO after this [0: never] */
};

/* Memory comes from `mem` only. NULL: not enough of it. `trace` may be NULL. */
struct node *node_create(const struct node_config *cfg, struct mem *mem, const struct trace *t);

/* Feed EV_START first. `fx` is reset by this function. */
void node_step(struct node *n, const struct event *ev, struct effects *fx);

/* When EV_TIMER is due, ns; 0: at once; NEVER. */
uint64_t node_deadline(const struct node *n);

/* An FX_CPG_SEND of the last step could not be queued, and corosync is not gone: told as soon as that effect is carried out. */
void node_not_sent(struct node *n, const void *bytes, uint32_t len);

/*
 * True once the volume is usable from here (a coordinator serves this node): the mount may be shown.
 */
bool node_ready(const struct node *n);

/* In which epoch it was served last; 0: never, or its rights have ended since. */
uint64_t node_served_epoch(const struct node *n);
/* How often in this life others took this node's rights away: what it had not synced may be lost. */
uint32_t node_evictions(const struct node *n);

/* For tests and the simulator: the newest epoch that this node knows of, and whether it is its own. */
uint64_t node_epoch(const struct node *n);
bool node_coordinates(const struct node *n);
bool node_is_candidate(const struct node *n);
enum node_office {
	OFFICE_NONE,
	OFFICE_SERVES,
	OFFICE_DRAINS, /* it is given up in order, and was if OFFICE_NONE follows */
	OFFICE_LOST, /* for one step */
};
enum node_office node_office(const struct node *n);
/* It leaves, and has let go of the claim: it will not coordinate again. */
bool node_has_let_go(const struct node *n);
/* While it coordinates: that node has not reclaimed what it held from it, and others may be given that. */
bool node_gave_up(const struct node *n, uint32_t node);
/* How often in this life it ended another node's rights: what only that one held is free for others. */
uint32_t node_rights_ended(const struct node *n);
/* What it holds is its own, as far as it knows: it would do I/O under it. */
bool node_stands(const struct node *n);

/* It believes that a scrub was asked for and has not ended. */
bool node_admin_scrub_wanted(const struct node *n);

/* Asserts every invariant that can be seen from one node. For tests and the simulator. */
void node_check(const struct node *n);

#endif
