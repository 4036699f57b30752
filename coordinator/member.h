/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * member.h - who is in the cluster, what each says of itself, and who has to be fenced.
 *
 * Merges EV_CPG_CONF, EV_QUORUM and EV_CPG_MSG into views. A view counts when the ring of the CPG
 * group is the ring of the quorum and it is quorate; it is agreed when every member has told its
 * STATE in it, or MEMBER_AGREE_NS have passed (who is silent then is a ghost). A view is a hint,
 * the authority is the LUN: takeover.h fences before it believes.
 *
 * Pure. The states, rules and invariants are at the head of member.c.
 */
#ifndef CSVFS_COORDINATOR_MEMBER_H
#define CSVFS_COORDINATOR_MEMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/limits.h"
#include "csvfs/base/platform.h"
#include "csvfs/base/trace.h"

#define MEMBER_AGREE_NS (2 * NS_PER_SEC)
#define MEMBER_FORM_NS (2 * NS_PER_SEC) /* two rings that differ so long: the view does not count */
#define MEMBER_REJOIN_NS NS_PER_SEC
#define MEMBER_AGAIN_NS NS_PER_SEC
#define MEMBER_VICTIMS_MAX 64 /* all fit into one STATE */

/* A key of the LUN's persistent reservation: one life of one node's path. */
#define FENCE_KEY(node, incarnation) ((uint64_t)(node) << 32 | (incarnation))
#define FENCE_KEY_NODE(key) ((uint32_t)((key) >> 32))
#define FENCE_KEY_INCARNATION(key) ((uint32_t)(key))

/* Values go over the wire: only ever add. */
enum member_role {
	ROLE_NONE = 0,
	ROLE_CANDIDATE = 1, /* about to fence and claim */
	ROLE_RECOVERING = 2, /* has claimed `epoch`: replays, then members reclaim */
	ROLE_SERVING = 3,
	ROLE_DRAINING = 4, /* ends its work in order, to hand over */
};

/*
 * A node's own way to the LUN. The incarnation is announced (MPATH_COMING) and seen to come back
 * (member_announced()) before its key is registered: else a takeover would take it for a
 * stranger's.
 */
enum member_path {
	MPATH_NONE = 0, /* no key, nothing in flight; incarnation 0 */
	MPATH_COMING = 1, /* the incarnation is announced; registering, testing */
	MPATH_OK = 2,
	MPATH_LOST =
		3, /* writes of this incarnation may be in flight: whoever coordinates fences it */
	MPATH_CLEAN = 4, /* leaving: nothing of this incarnation is in flight or will be sent */
};

/* A daemon that is to end (takeover_serve.c, who is last). */
enum member_leaving {
	LEAVING_NO = 0,
	LEAVING_SOON = 1, /* it closes its files, or coordinates: it takes over only if nobody stays who could */
	LEAVING_READY = 2, /* it needs nobody any more, and goes if another one still serves when that is known to all */
	LEAVING_DONE = 3, /* it uses the LUN no more; it may still be in the group */
};

struct member_state {
	uint32_t node;
	uint64_t life;
	uint32_t incarnation;
	enum member_path path;
	enum member_role role;
	uint64_t epoch; /* the highest it knows; of RECOVERING and more: the one it claimed */
	uint32_t handover; /* of a coordinator that gave up in order: who shall follow; 0: anyone */
	uint64_t against; /* of a CANDIDATE: the epoch whose coordinator it says to hang; 0: none */
	uint64_t before; /* of RECOVERING and more: the newest epoch before its own in which somebody may have been served */
	uint32_t load; /* volumes it coordinates */
	bool unfit; /* tried to take over and could not: others first */
	enum member_leaving leaving;
	uint16_t port; /* of its redirect service */
	char name[NODE_NAME_MAX];
	char addr[ADDR_MAX];
};

struct member_config {
	const struct trace *trace;
	uint8_t uuid[16]; /* of the volume */
	bool standalone; /* no corosync: the view is {self}, quorate, at once */
	/*
	 * Of corosync's nodelist; 0: not known. Who starts in half of a cluster has never seen the whole of it, and
	 * must know all the same that it is a half.
	 */
	uint32_t expected_nodes;
	struct member_state self; /* node, life, name, addr, port; path NONE, role NONE */
};

/* A node as we know it. */
struct member_node {
	uint32_t node;
	bool member; /* in the present view */
	bool answered; /* and has told its STATE in it */
	bool heard; /* `state` was told since it last appeared in the group: no older life's */
	bool counted; /* in the last view that counted: to be absent in the next is to leave */
	bool ended; /* when it left last, its corosync stayed and saw its daemon end: of that life nothing runs */
	bool fenced; /* its present incarnation has been fenced; it may not know yet */
	uint32_t fenced_last[2]; /* the last ones that were */
	uint32_t unlisted; /* its incarnation that we, the coordinator, have decided to fence, and for which the list had no room; 0: none */
	uint32_t at_large; /* fenced, it had not let go, and no path of a later incarnation has been told since; 0: none */
	uint32_t at_large_name; /* under which it was told (member_name_crc()) */
	uint32_t ended_last, ended_name; /* the incarnation that ended last; the same of it */
	uint64_t told_ns; /* when its last STATE was delivered */
	bool silent; /* a CANDIDATE that has told nothing for so long that it hangs; until it tells something */
	bool excused; /* it was READY to leave when a coordinator began to drain: it is not counted on to take over */
	uint64_t stood; /* order in which the CANDIDATEs were delivered; 0: it is none */
	uint64_t told_seq; /* the view its last STATE answers: ring and view_sum */
	uint32_t told_node, told_sum;
	struct member_state
		state; /* the last that it told; when it has left, but for the incarnation */
};

/* (node, incarnation) that left without saying MPATH_CLEAN, and is not yet known to be fenced. */
struct member_victim {
	uint32_t node, incarnation;
	bool dirty; /* its writes may be in flight: the fence needs the drain barrier */
	bool decided; /* by us as the coordinator, of a member that is there: ends with our office */
	uint64_t view; /* in which it came onto the list */
	uint32_t name_crc; /* member_name_crc(), then */
};

struct member_ring {
	uint64_t seq;
	uint32_t node;
};

struct member_view {
	uint64_t number; /* counts views of this life; 0: none yet */
	struct member_ring ring;
	bool quorate; /* and the rings are the same: the view counts */
	bool agreed; /* counts, and every STATE is in or its time is over */
	bool halved; /* half of the last quorate cluster, or fewer: the rest may be too (two_node) */
	uint32_t count;
	uint32_t nodes[NODES_MAX]; /* ascending */
};

struct member {
	struct member_config cfg;
	struct member_view view;
	uint32_t node_count;
	struct member_node nodes[2 * NODES_MAX];
	uint32_t victim_count;
	struct member_victim victims[MEMBER_VICTIMS_MAX];
	bool victims_overflow; /* more than fit: only a fence of all but the members covers them */
	uint64_t unlisted_count; /* so often there was one more than fit */
	uint32_t
		asked_move; /* target of a MOVE that was received; takeover.c takes it and sets 0 */
	uint64_t departures; /* how often somebody has left, or came back with another life */
	uint64_t path_news; /* how often a member has told a path that comes, or has come */
	uint64_t changes; /* grows when anything that others look at changed */
	/* When a node was lost, or known to be fenced, last that may not know of it; a coordinator. 0: none was. */
	uint64_t lost_ns, office_lost_ns;
	/* private */
	uint64_t now_ns;
	struct cpg_conf cpg, quorum;
	bool have_cpg, have_quorum, down, publish;
	uint32_t quorate_count; /* nodes in the last quorate cluster; at first, of the nodelist */
	struct cpg_conf quorate_view; /* ... and of its view */
	bool half; /* what the last view that was quorate is of the cluster before (halved) */
	uint64_t agree_ns; /* deadline of STATEs; NEVER: none is awaited */
	uint64_t form_ns; /* deadline of the two rings becoming one; NEVER: they are */
	uint64_t join_ns; /* when to try to join again; NEVER: joined, or being tried */
	uint64_t again_ns; /* a STATE was not sent: it is told then; NEVER: none */
	uint64_t fenced_again_ns; /* the same of who is fenced (tell_fenced() of takeover_serve.c) */
	uint64_t stands; /* CANDIDATEs delivered so far */
	uint32_t view_sum; /* crc32c of the member list: names a view together with the ring */
	uint64_t announced; /* key of the last STATE of ours that was delivered */
	uint64_t told_count, back_count; /* STATEs of ours that were sent; that were delivered, or died with corosync */
};

void member_init(struct member *m, const struct member_config *cfg);

/* EV_START, EV_TIMER, EV_CPG_CONF, EV_QUORUM, EV_CPG_MSG, EV_CPG_DOWN; others are ignored. */
void member_event(struct member *m, const struct event *ev);
uint64_t member_deadline(const struct member *m);

/* What we say of ourselves. Published by the next member_publish() if it changed. */
void member_set_path(struct member *m, enum member_path path, uint32_t incarnation);
void member_set_load(struct member *m, uint32_t load);
/* Never back. */
void member_set_leaving(struct member *m, enum member_leaving leaving);
/* For takeover.c only. */
void member_set_role(
	struct member *m, enum member_role role, uint64_t epoch, uint32_t handover, bool unfit);
/* Goes with the role CANDIDATE: against the coordinator of that epoch, which hangs; 0: against nobody. */
void member_set_against(struct member *m, uint64_t epoch);
/* Goes with the role RECOVERING and more: the newest epoch before ours in which somebody may have been served; else 0. */
void member_set_before(struct member *m, uint64_t epoch);

/*
 * Emits FX_CPG_SEND of our STATE if a view waits for it or it changed, FX_CPG_JOIN when corosync
 * is gone. Called at the end of every step (takeover_step() does). Standalone: nothing is sent,
 * it is taken as delivered.
 */
void member_publish(struct member *m, uint64_t now_ns, struct effects *fx);

/*
 * Corosync has taken nothing for so long that this FX_CPG_SEND, of the last step, could not be queued. What is so then is told
 * MEMBER_AGAIN_NS later, behind what is queued.
 */
void member_not_sent(struct member *m, const void *bytes, uint32_t len);

/*
 * True once our own STATE with this incarnation was delivered to us, so to every member: register
 * now. Not where no view counts: to the others, who fence, that would be a stranger's key, at each try another one.
 */
bool member_announced(const struct member *m, uint32_t incarnation);

/* Our STATE goes out once more, though nothing has changed: we are there. */
void member_tell_again(struct member *m);
/*
 * The same, and a number for member_came_back(): true when that STATE, or a later one, has been delivered to us, and no view is
 * about to form. The group delivers in one order: so has everything then that anybody had been delivered when we asked.
 */
uint64_t member_ask_back(struct member *m);
bool member_came_back(const struct member *m, uint64_t ask);
/* A CANDIDATE hangs (takeover_hang.c). */
void member_set_silent(struct member *m, uint32_t node);

const struct member_view *member_view(const struct member *m);
/* What we say of ourselves now, and what of it was delivered last. */
const struct member_state *member_own(const struct member *m);
const struct member_node *member_self(const struct member *m);
const struct member_node *member_find(
	const struct member *m, uint32_t node); /* NULL: never heard of */
/*
 * Checksum (claim_name_crc()) of the name that was told with this incarnation; 0: not known. The number may be another machine's by
 * now, which tells another name.
 */
uint32_t member_name_crc(const struct member *m, uint32_t node, uint32_t incarnation);
/* By name, members of the view only; NULL: none. */
const struct member_node *member_named(const struct member *m, const char *name);
bool member_present(const struct member *m, uint32_t node);
uint64_t member_epoch_seen(const struct member *m); /* highest in any STATE ever delivered */

/* The fence list. Adding what is there already only makes it dirty. */
void member_victim_add(struct member *m, uint32_t node, uint32_t incarnation, bool dirty);
/*
 * A member's present one, because it does not answer us, the coordinator. If we coordinate no longer, and it has not been
 * fenced, then that was ours to say and is void: it says to the next one what it holds. _undecide() drops these.
 */
void member_victim_decide(struct member *m, uint32_t node, uint32_t incarnation);
void member_victims_undecide(struct member *m);
/* There is more to fence and to drain than the list says: told to all, until a fence of all but the members. */
void member_victims_more(struct member *m);
bool member_victim_pending(const struct member *m, uint32_t node);
/* A fence of all but the members has succeeded; when it began unlisted_count was that. What came since is not covered by it. */
void member_victims_covered(struct member *m, uint64_t unlisted_count, uint64_t now_ns);
/* Nobody has to be fenced. */
void member_victims_forget(struct member *m);
/* For member.c only. */
struct member_victim *member_victims_find(struct member *m, uint32_t node, uint32_t incarnation);
void member_victims_list_rest(struct member *m);
/* After a fence has succeeded: these are done, here and (by message) on every member. */
void member_send_fenced(struct member *m, const struct member_victim *v, uint32_t count,
	uint64_t now_ns, struct effects *fx);
/* True when (our node, incarnation) was told to be fenced: by a FENCED message. */
bool member_was_fenced(const struct member *m, uint32_t incarnation);

/* To the coordinator: hand over to `target`. Delivered as asked_move on it. */
void member_send_move(struct member *m, uint32_t target, struct effects *fx);

/* Asserts the invariants at the head of member.c. */
void member_check(const struct member *m);

const char *member_role_name(enum member_role role);
const char *member_path_name(enum member_path path);

#endif
