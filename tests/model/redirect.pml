/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * redirect.pml - a node loses its path, and writes through a peer that may die, too.
 *
 * Models redirect/WIRE.md, part 7, and the fence of coordinator/PROTOCOL.md. Node A writes the values 1, 2, ...
 * VALUES to one block of the LUN, each when the one before was acknowledged: on its own path, or through the
 * coordinator, which is B or C. Who coordinates is taken for settled (takeover.pml shows that): a peer takes
 * over when it has fenced all that are on the fence list.
 *
 * Faults, FAULTS of them in all, at any moment: A's path breaks (and comes back), A's session breaks, a peer
 * crashes (and starts again), the coordinator is given up though it is alive and goes on writing.
 *
 * Shown, for every order of all that:
 *
 *  S3 No older value lands on an acknowledged one, and what is acknowledged is on the LUN (invariant 9).
 *  L2 Every run ends (there are no cycles), and ends with everything acknowledged. No fairness is assumed.
 *
 * Wrong on purpose: NO_DRAIN, NO_INCARNATION, REDIRECT_BEFORE_FENCE (the own lost path is forgotten), and
 * NEXT_PEER_BEFORE_FENCE (a peer that died or was given up is); each must fail.
 */
#ifndef FAULTS
#define FAULTS 3
#endif
#ifndef VALUES
#define VALUES 3
#endif
#define N 3
#define INCS 5 /* more than a run can use up: asserted */
#include "lun.pml"

#define A 0
#define NONE 255

/* A's present write: waits to be sent, is on the own path, or with a peer. */
#define WAITS 0
#define DIRECT 1
#define PEER 2

byte inc[N];
KEYS list; /* fence list: the members tell it each other, so it outlives the coordinator */
KEYS fenced; /* FENCED: proven and drained */
byte coord = NONE; /* the key of the coordinator; NONE: nobody serves */
byte faults = FAULTS;

/* A */
bool path; /* its own */
byte at; /* its present write: value acked + 1 */
byte acked;
KEYS unknown; /* keys under which an older attempt of it may still land */
byte session = NONE; /* with the peer that has this key */

/* A peer. */
bool up[N];
byte inbox[N]; /* a BLOCK that it has not sent to the LUN yet: its value */
bool busy[N]; /* and one that it has */

byte block; /* the LUN's content */

#define key(n) KEY(n, inc[n])
#define in(set, k) (((set) & BIT(k)) != 0)

inline acknowledge()
{
	assert(block == acked + 1); /* S3 */
	acked++;
	at = WAITS
}

inline session_down()
{
	if
	:: at == PEER -> unknown = unknown | BIT(session); at = WAITS
	:: else
	fi;
	session = NONE
}

/* All of one life of a peer ends: its session with A as well. */
inline peer_down(n)
{
	if
	:: session == key(n) -> session_down()
	:: else
	fi;
	if
	:: coord == key(n) -> coord = NONE
	:: else
	fi;
	list = list | (BIT(key(n)) & ~fenced);
	up[n] = false;
	inbox[n] = 0;
	busy[n] = false
}

proctype writer()
{
end:
	do
	/* ---- direct. Nothing is sent while an older attempt has an unknown outcome */
	:: atomic {
		at == WAITS && acked < VALUES && path && unknown == 0 ->
		lun_write(key(A), 0, acked + 1);
		at = DIRECT
	}
	:: atomic { at == DIRECT && !in_flight(key(A)) -> acknowledge() }

	/* ---- redirected */
	:: atomic { /* SERVE: a peer says it only when it has finished what the session before has left */
		session == NONE && coord != NONE && inbox[KEY_NODE(coord)] == 0 && !busy[KEY_NODE(coord)] ->
		session = coord;
		unknown = unknown & ~BIT(coord)
	}
	:: atomic {
		at == WAITS && acked < VALUES && !path && unknown == 0 && session != NONE ->
		inbox[KEY_NODE(session)] = acked + 1;
		at = PEER
	}
	:: atomic { session != NONE && session != coord -> session_down() } /* hears of it some time */

	/* ---- what becomes known */
	:: atomic { (unknown & fenced) != 0 -> unknown = unknown & ~fenced }
#ifdef REDIRECT_BEFORE_FENCE
	:: atomic { (unknown & KEYS_OF(A)) != 0 -> unknown = unknown & ~KEYS_OF(A) }
#endif
#ifdef NEXT_PEER_BEFORE_FENCE
	:: atomic { (unknown & ~KEYS_OF(A)) != 0 -> unknown = unknown & KEYS_OF(A) }
#endif

	/* ---- the path. It comes back with another incarnation, which replaces the key */
	:: atomic {
		faults != 0 && path ->
		faults--;
		path = false;
		list = list | BIT(key(A));
		if
		:: at == DIRECT -> unknown = unknown | BIT(key(A)); at = WAITS
		:: else
		fi
	}
	:: atomic {
		!path && at != PEER ->
		inc[A]++;
		assert(inc[A] <= INCS);
		lun_register(A, inc[A]);
		path = true
	}
	:: atomic { faults != 0 && session != NONE -> faults--; session_down() }
	od
}

/* Given up by the others, or fenced. */
#define gone(n) (in(list, key(n)) || !registered(key(n)))

#ifdef NO_INCARNATION
#define back(n) (((reg & ~list & KEYS_OF(n)) != 0) -> KEYS_OF(n) : 0)
#define dirty (list & ~(back(0) | back(1) | back(2))) /* "node n is here and well: nothing to fence" */
#else
#define dirty list
#endif

proctype peer(byte me)
{
	byte k;

end:
	do
	/* ---- blocks of A */
	:: atomic {
		inbox[me] != 0 && registered(key(me)) ->
		lun_write(key(me), 0, inbox[me]);
		inbox[me] = 0;
		busy[me] = true
	}
	:: atomic {
		busy[me] && !in_flight(key(me)) ->
		busy[me] = false;
		if
		:: session == key(me) -> acknowledge()
		:: else
		fi
	}

	/* ---- coordinates, or takes over: the fence list first, each PREEMPT a step, then the barrier */
	:: atomic {
		up[me] && !gone(me) && (coord == NONE || coord == key(me)) && (list & reg) != 0 ->
		k = 0;
		do
		:: !in(list & reg, k) -> k++
		:: else -> break
		od;
		lun_preempt(k);
		k = 0
	}
	:: atomic {
		up[me] && !gone(me) && (coord == NONE || coord == key(me)) && list != 0 &&
		(list & reg) == 0 && (dirty == 0 || lun_reset_done) ->
		fenced = fenced | list;
		list = 0
	}
	:: atomic {
		up[me] && !gone(me) && coord == NONE && list == 0 ->
		coord = key(me)
	}

	/* ---- its life */
	:: atomic { up[me] && !registered(key(me)) -> peer_down(me) } /* finds itself fenced */
	:: atomic { faults != 0 && up[me] -> faults--; peer_down(me) } /* crashes */
	:: atomic { /* cut off: the others give it up, and it goes on */
		faults != 0 && coord == key(me) ->
		faults--;
		coord = NONE;
		list = list | BIT(key(me))
	}
	:: atomic {
		!up[me] ->
		inc[me]++;
		assert(inc[me] <= INCS);
		lun_register(me, inc[me]);
		up[me] = true
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
		:: k != key(KEY_NODE(k)) || (KEY_NODE(k) == A -> !path : !up[KEY_NODE(k)]) -> skip /* lost */
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
		inc[2] = 1;
		lun_register(0, 1);
		lun_register(1, 1);
		lun_register(2, 1);
		path = true;
		up[1] = true;
		up[2] = true;
		coord = key(1);
		run writer();
		run peer(1);
		run peer(2);
		run target()
	}
#ifndef SAFETY
	timeout; /* L2 */
	assert(acked == VALUES && block == VALUES && held == 0 && unknown == 0 && list == 0 && coord != NONE)
#endif
}
