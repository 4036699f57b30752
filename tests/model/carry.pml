/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * carry.pml - a node without a path writes through its coordinator, or through whom that has told to carry.
 *
 * Models coordinator/PROTOCOL.md, "Who carries" (csvfs/node_carry.c, whose rules are named here), on the fence of redirect.pml. Node A has
 * no path. It writes the values 1, 2, ... VALUES to one block, each when the one before was acknowledged, through B or C: one of
 * them coordinates, the other may carry. Who coordinates is taken for settled (takeover.pml), as is A's own lost incarnation (redirect.pml).
 *
 * Faults, FAULTS of them in all, at any moment: a peer crashes, its path breaks (and comes back), the coordinator moves, or is cut off,
 * fences the other one, or loses its session with it; A's sessions break; A is given up, and its block is another's.
 * What ends at the other end of a session is not noticed at once, and what A has sent to a carrier may arrive when A has
 * forgotten it long since.
 *
 * Shown, for every order of all that:
 *
 *  S3 No older value lands on an acknowledged one, and what is acknowledged is on the LUN: also when A was given up.
 *  L2 Every run ends (there are no cycles), and ends with everything acknowledged. No fairness is assumed.
 *
 * Wrong on purpose, and each must fail: SERVE_BEFORE_CARRIED (rule 2), RECLAIM_CARRIES (rule 3), ANY_TICKET (rule 5), SENT_AGAIN
 * (rule 6), CARRIED_EARLY (it is said while something is in flight), UNSEEN_PATH (a path that the coordinator does not know carries: rule 8).
 */
#ifndef FAULTS
#define FAULTS 3
#endif
#ifndef VALUES
#define VALUES 2
#endif
#define N 2
#define INCS 5 /* more than a run can use up: asserted */
#include "lun.pml"

#define NONE 255

/* A's present write: waits to be sent, is with the coordinator, or with the carrier. */
#define WAITS 0
#define COORD 1
#define CARRIER 2

/* B and C. */
bool up[N];
byte inc[N]; /* of the present path, or the last one */
bool path[N]; /* as it believes */
bool seen[N]; /* ... and the coordinator has answered since */
byte inbox[N]; /* A's write that is not sent to the LUN yet; 0: none */
byte inbox_of[N]; /* which of A's requests to a carrier it is; NONE: to a coordinator */
byte busy[N]; /* the key under which one is in flight; NONE */
byte boss[N]; /* who coordinates, as it believes: it is served by that one */
byte ticket[N]; /* what its session with it has told it to carry; 0: nothing */
bool ending[N]; /* CARRY off: CARRIED is to follow */
KEYS list; /* fence list */
KEYS fenced;

/* The coordinator. */
byte coord = NONE; /* a node */
bool ready; /* has the other's RECLAIM_END, or has fenced it */
bool served; /* the other one has a session */
bool victim; /* the other one was given up: what it carried has ended when it is fenced */
bool older; /* ... and was an older life */
bool carried; /* rule 2: the other may have I/O of A in flight */
bool told_off; /* it was sent CARRY off */
bool placed; /* A goes through the other one */
byte tickets;
chan carry = [2] of { byte }; /* CARRY: a ticket, or 0: off */
chan has_carried = [2] of { bit }; /* CARRIED */

/* A. */
byte at;
byte acked;
bool unknown; /* an older attempt may still land */
bool gone; /* it was given up, and is told when it is back */
byte session = NONE; /* with the coordinator */
byte way = NONE, way_ticket;
bool refused; /* by the carrier: this write goes through the coordinator */
byte carrier = NONE; /* a session with it, ... */
byte count; /* ... and which request over it */
chan ways = [2] of { byte, byte }; /* WAY */
chan blocks[N] = [2] of { byte, byte, byte }; /* BLOCK: value, ticket, which request */

byte block; /* the LUN's content */
byte faults = FAULTS;

#define key(n) KEY(n, inc[n])
#define in(set, k) (((set) & BIT(k)) != 0)
#define other(n) (1 - (n))
#define idle(n) (inbox[n] == 0 && busy[n] == NONE)
#define well(n) (up[n] && path[n] && registered(key(n)) && !in(list, key(n)))

inline flush(c)
{
	do
	:: len(c) != 0 -> c?_
	:: else -> break
	od
}

inline flush_ways()
{
	do
	:: len(ways) != 0 -> ways?_, _
	:: else -> break
	od
}

inline acknowledge()
{
	assert(block == acked + 1); /* S3 */
	acked++;
	at = WAITS;
	refused = false
}

inline session_down()
{
	if
	:: at == COORD -> unknown = true; at = WAITS
	:: else
	fi;
	session = NONE;
	way = NONE;
	way_ticket = 0;
	refused = false;
	flush_ways()
}

/* Rule 6. */
inline carrier_down()
{
	carrier = NONE;
	if
	:: at == CARRIER ->
		at = WAITS;
#ifndef SENT_AGAIN
		unknown = true;
		session_down()
#endif
	:: else
	fi
}

inline follower_forgets(n) /* its session with its coordinator is over */
{
	boss[n] = NONE;
	ticket[n] = 0;
	ending[n] = false;
	flush(carry);
	flush(has_carried)
}

/* Nobody coordinates any more. What the last one knew is lost. */
inline no_coordinator()
{
	coord = NONE;
	ready = false;
	served = false;
	victim = false;
	older = false;
	carried = false;
	told_off = false;
	placed = false;
	session_down()
}

/* An answer to A that says: not executed. */
inline refuse(n, which)
{
	if
	:: at == CARRIER && carrier == n && count == which -> at = WAITS; refused = true
	:: at == COORD && session == n && which == NONE -> unknown = true; at = WAITS; session_down() /* looks for another way */
	:: else
	fi
}

inline path_down(n)
{
	path[n] = false;
	seen[n] = false;
	list = list | (BIT(key(n)) & ~fenced);
	if
	:: coord == n -> no_coordinator()
	:: else
	fi;
	if
	:: inbox[n] != 0 -> inbox[n] = 0; refuse(n, inbox_of[n]); inbox_of[n] = 0
	:: else
	fi
}

inline crash(n)
{
	list = list | (BIT(key(n)) & ~fenced);
	if
	:: coord == n -> no_coordinator()
	:: coord == other(n) -> served = false; victim = true; older = true
	:: else
	fi;
	up[n] = false;
	path[n] = false;
	seen[n] = false;
	inbox[n] = 0;
	inbox_of[n] = 0;
	busy[n] = NONE;
	follower_forgets(n);
	do
	:: len(blocks[n]) != 0 -> blocks[n]?_, _, _
	:: else -> break
	od;
	if
	:: carrier == n -> carrier_down()
	:: else
	fi
}

proctype writer()
{
	byte w, t;

end:
	do
	:: atomic { session != NONE && ways?[w, t] -> ways?w, t; way = w; way_ticket = t }
	:: atomic { way != NONE && carrier == NONE && up[way] -> carrier = way; refused = false }
	:: atomic { carrier != NONE && carrier != way && at != CARRIER -> carrier = NONE } /* no longer needed */

	:: atomic {
		at == WAITS && acked < VALUES && session != NONE && !unknown &&
		(way == NONE || carrier != way || refused) && idle(session) ->
		inbox[session] = acked + 1;
		inbox_of[session] = NONE;
		at = COORD
	}
	:: atomic {
		at == WAITS && acked < VALUES && session != NONE && !unknown && way != NONE && carrier == way && !refused &&
		nfull(blocks[carrier]) ->
		count++;
		blocks[carrier]!acked + 1, way_ticket, count;
		at = CARRIER
	}

	/* ---- faults */
	:: atomic { faults != 0 && session != NONE -> faults--; session_down() }
	:: atomic { faults != 0 && carrier != NONE -> faults--; carrier_down() }
	:: atomic { /* cut off, longer than its lease: it plans anew what it has not done */
		faults != 0 && !gone && coord != NONE ->
		faults--;
		gone = true;
		at = WAITS;
		session_down();
		unknown = true
	}
	od
}

#ifdef SERVE_BEFORE_CARRIED
#define none_carried true
#else
#define none_carried !carried
#endif
#ifdef RECLAIM_CARRIES
#define may_reclaim true
#else
#define may_reclaim idle(me)
#endif
#ifdef CARRIED_EARLY
#define may_say_carried true
#else
#define may_say_carried idle(me)
#endif
#ifdef ANY_TICKET
#define ticket_is(t) true
#else
#define ticket_is(t) (ticket[me] == t)
#endif
#ifdef UNSEEN_PATH
#define path_seen true
#else
#define path_seen seen[me]
#endif

proctype peer(byte me)
{
	byte k, t, s;

end:
	do
	/* ---- A's block I/O */
	:: atomic {
		up[me] && idle(me) && blocks[me]?[k, t, s] ->
		blocks[me]?k, t, s;
		if
		:: path[me] && boss[me] != NONE && ticket[me] != 0 && !ending[me] && ticket_is(t) && path_seen ->
			inbox[me] = k; inbox_of[me] = s
		:: else -> refuse(me, s)
		fi;
		k = 0; t = 0; s = 0
	}
	:: atomic {
		inbox[me] != 0 && path[me] && registered(key(me)) && !in_flight(key(me)) ->
		lun_write(key(me), 0, inbox[me]);
		inbox[me] = 0;
		busy[me] = key(me)
	}
	:: atomic {
		busy[me] == key(me) && path[me] && registered(key(me)) && !in_flight(key(me)) ->
		busy[me] = NONE;
		if
		:: inbox_of[me] == NONE && at == COORD && session == me -> acknowledge()
		:: inbox_of[me] != NONE && at == CARRIER && carrier == me && count == inbox_of[me] -> acknowledge()
		:: else
		fi;
		inbox_of[me] = 0
	}
	:: atomic { /* of an incarnation that is lost: the outcome stays unknown */
		busy[me] != NONE && in(fenced, busy[me]) ->
		busy[me] = NONE;
		if
		:: inbox_of[me] == NONE && at == COORD && session == me -> session_down()
		:: inbox_of[me] != NONE && at == CARRIER && carrier == me && count == inbox_of[me] -> carrier_down()
		:: else
		fi;
		inbox_of[me] = 0
	}

	/* ---- who may carry */
	:: atomic { /* RECLAIM .. RECLAIM_END, in a new session: rule 3 */
		up[me] && coord == other(me) && !served && boss[me] == NONE && !older && may_reclaim ->
		boss[me] = coord;
		served = true;
		ready = true;
		victim = false;
		carried = false;
		told_off = false
	}
	:: atomic { /* the session is over, and it sees it */
		boss[me] != NONE && (boss[me] != coord || !served) ->
		follower_forgets(me)
	}
	:: atomic {
		boss[me] != NONE && boss[me] == coord && served && path[me] && !seen[me] && registered(key(me)) ->
		seen[me] = true
	}
	:: atomic {
		boss[me] != NONE && carry?[t] ->
		carry?t;
		if
		:: t != 0 -> ticket[me] = t; ending[me] = false
		:: else -> ending[me] = true
		fi;
		t = 0
	}
	:: atomic {
		boss[me] != NONE && ending[me] && nfull(has_carried) && may_say_carried ->
		ending[me] = false;
		ticket[me] = 0;
		if
		:: boss[me] == coord && served -> has_carried!1
		:: else
		fi
	}

	/* ---- coordinates */
	:: atomic {
		coord == me && !ready && !up[other(me)] && list == 0 -> /* it was fenced */
		ready = true
	}
	:: atomic { /* SERVE */
		coord == me && ready && session == NONE && idle(me) && none_carried ->
		session = me;
		unknown = false;
		gone = false;
		do
		:: len(blocks[me]) != 0 -> blocks[me]?_, _, _ /* of an older session with A */
		:: else -> break
		od;
		if
		:: carrier == me && at == CARRIER -> at = WAITS
		:: else
		fi;
		if
		:: carrier == me -> carrier = NONE
		:: else
		fi
	}
	:: atomic { /* its rights are another's, who writes at once */
		coord == me && ready && gone && session == NONE && idle(me) && acked < VALUES + 4 && none_carried && faults != 0 ->
		faults--;
		acked = acked + 2; /* A's own next value would have been one of these */
		block = acked
	}
	:: atomic {
		coord == me && session == me && !placed && served && !carried && well(other(me)) && nfull(carry) && nfull(ways) ->
		placed = true;
		carried = true;
		tickets++;
		carry!tickets;
		ways!other(me), tickets
	}
	:: atomic {
		coord == me && placed && (session != me || !served || !well(other(me))) && nfull(ways) ->
		placed = false;
		if
		:: session == me -> ways!NONE, 0
		:: else
		fi
	}
	:: atomic {
		coord == me && carried && !placed && !told_off && served && nfull(carry) ->
		told_off = true;
		carry!0
	}
	:: atomic {
		coord == me && served && has_carried?[1] ->
		has_carried?_;
		if
		:: told_off -> carried = false; told_off = false
		:: else
		fi
	}
	:: atomic {
		coord == me && victim && list == 0 ->
		victim = false;
		older = false;
		carried = false;
		told_off = false
	}
	:: atomic { /* each PREEMPT a step, then the barrier */
		well(me) && (coord == NONE || coord == me) && (list & reg) != 0 ->
		k = 0;
		do
		:: !in(list & reg, k) -> k++
		:: else -> break
		od;
		lun_preempt(k);
		k = 0
	}
	:: atomic {
		well(me) && (coord == NONE || coord == me) && list != 0 && (list & reg) == 0 && lun_reset_done ->
		fenced = fenced | list;
		list = 0
	}
	:: atomic {
		well(me) && coord == NONE && list == 0 ->
		coord = me;
		seen[me] = true;
		follower_forgets(me)
	}

	/* ---- its life */
	:: atomic { path[me] && (!registered(key(me)) || in(list, key(me))) -> path_down(me) } /* finds itself fenced, or on the list */
	:: atomic {
		up[me] && !path[me] ->
		inc[me]++;
		assert(inc[me] <= INCS);
		lun_register(me, inc[me]);
		path[me] = true
	}
	:: atomic { !up[me] -> up[me] = true }

	/* ---- faults */
	:: atomic { faults != 0 && up[me] -> faults--; crash(me) }
	:: atomic { faults != 0 && path[me] -> faults--; path_down(me) }
	:: atomic { faults != 0 && coord == me && served -> faults--; served = false } /* the session breaks */
	:: atomic { /* CARRY, or a recall, was not answered in time */
		faults != 0 && coord == me && served && path[other(me)] ->
		faults--;
		served = false;
		victim = true;
		list = list | (BIT(key(other(me))) & ~fenced)
	}
	:: atomic { faults != 0 && coord == me -> faults--; no_coordinator() } /* moves */
	:: atomic { /* cut off: the other gives it up, and it goes on */
		faults != 0 && coord == me ->
		faults--;
		no_coordinator();
		list = list | (BIT(key(me)) & ~fenced)
	}
	od
}

/* Held writes land when they like. Only one whose sender is gone can be lost. */
proctype target()
{
	byte k;

end:
	do
	:: atomic {
		held != 0 ->
		k = 0;
		do
		:: (held >> (k + 1)) != 0 -> k++ /* any of them */
		:: in_flight(k) -> break
		od;
		if
		:: true ->
			assert(held_value[k] >= acked); /* S3 */
			block = held_value[k]
		:: k != key(KEY_NODE(k)) || !path[KEY_NODE(k)] -> skip /* lost */
		fi;
		lun_ended(k);
		k = 0
	}
	od
}

init {
	atomic {
		inc[0] = 1;
		inc[1] = 1;
		lun_register(0, 1);
		lun_register(1, 1);
		busy[0] = NONE;
		busy[1] = NONE;
		boss[0] = NONE;
		boss[1] = NONE;
		up[0] = true;
		up[1] = true;
		path[0] = true;
		path[1] = true;
		run writer();
		run peer(0);
		run peer(1);
		run target()
	}
#ifndef SAFETY
	timeout; /* L2 */
	assert(acked >= VALUES && held == 0 && !unknown && list == 0 && coord != NONE && session != NONE && !gone)
#endif
}
