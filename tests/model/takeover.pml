/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * takeover.pml - one coordinator at a time, though each side of a split believes to be quorate.
 *
 * Models coordinator/PROTOCOL.md, "Views" to "Takeover": what a node believes (its view, what others told
 * it, its fence list) is a hint; the LUN (lun.pml) decides. Names are those of coordinator/takeover.h:
 *
 *	OUT -announce-> COMING -register-> FOLLOW -> FENCE -> READ -> WRITE -> VERIFY -> OPEN -> SERVE
 *
 * and from everywhere back to OUT, with the next incarnation, when the node finds itself fenced, loses
 * its path, or sees a coordinator with a higher epoch.
 *
 * Faults, FAULTS of them in all, at any moment: a node crashes (and starts again), the network splits (and
 * heals), a path breaks (and comes back), a coordinator is accused of hanging though it is well.
 *
 * Shown, for every order of all that:
 *
 *  S1 No write of an older epoch, and no claim, lands after a newer epoch was opened.
 *  S2 An epoch is claimed once and opened once; the claim on the LUN never goes back.
 *  L1 Every run ends (there are no cycles), and ends with one coordinator, everybody following it, and every
 *     request answered: those of nodes that never crashed are never lost. No fairness is assumed.
 *
 * A fence list loses only what its own node has fenced: neither FENCED nor a coordinator's STATE makes it
 * shorter here, so somewhat more is drained than by real nodes.
 *
 * Left out: the two claim blocks and the beat (one block that is written whole; "the claim stands still" is
 * known at once), handover, reclaim, what a coordinator fences while it serves (redirect.pml has it), and that
 * a STATE reaches the members of one ring at different times. More is allowed than real nodes do: any view is
 * quorate, no head start, nobody waits for silent members.
 *
 * Wrong on purpose, and each must fail: NO_DRAIN, NO_INCARNATION, SERVE_BEFORE_FENCE, CLAIM_BEFORE_FENCE (it is read
 * before the fence), and FORGET_PREEMPTED: a fence that ends between PREEMPT and reset, since the view changed,
 * forgets whom it has preempted; the next one finds no key, and needs no barrier.
 */
#ifndef N
#define N 2
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#ifndef INCS
#define INCS 5 /* more than a run can use up: asserted */
#endif
#include "lun.pml"

/* SAFETY: only S1 and S2; a node may stay away after INCS lives. Three nodes need it: no fairness, no end. */
#ifdef SAFETY
#define LIVES && inc[me] < INCS
#else
#define LIVES
#endif

#define NONE 255
#define ALL ((1 << N) - 1)

/* What a write on the LUN is. */
#define CLAIM 1
#define META 2

/* State of a node, in this order: a candidate is FENCE..VERIFY, a coordinator OPEN or more. */
#define OFF 0
#define LOST 1 /* its incarnation is over, and the others have not been told yet */
#define OUT 2 /* no incarnation */
#define COMING 3 /* its incarnation is announced, and not registered yet */
#define FOLLOW 4
#define FENCE 5
#define READ 6
#define WRITE 7 /* the claim is to be written, or in flight */
#define VERIFY 8
#define OPEN 9 /* replays the journal: its first write */
#define SERVE 10

byte st[N];
byte inc[N];
byte epoch[N]; /* of a candidate that has read the claim, and of a coordinator */
bool sent[N]; /* its own write is on its way; over when the LUN has answered */
byte work[N]; /* SERVE: whose request the write is for */
bool drain[N]; /* FENCE: the drain barrier is needed, whatever the fence list says */
KEYS accused[N]; /* FENCE..: the key of the coordinator that is said to hang, a bit */
bool redo[N]; /* FENCE..: the view has changed */
bool frozen[N]; /* lost a split */
hidden byte i, j; /* used within one step only */
hidden KEYS lists;
hidden byte high;

/* What a node believes. */
byte view[N]; /* nodes, a bit each */
KEYS told[N]; /* the newest key that each node has told, a bit each */
KEYS list[N]; /* fence list: keys whose writes may still be in flight */
byte seen[N]; /* the highest epoch heard of since the start */
bool fresh[N]; /* cold: has not seen a coordinator since the start */

/* The world. */
byte side[N]; /* who is on the same side can talk */
bool path[N];
bool req[N]; /* an application on this node waits for a metadata request */
byte faults = FAULTS;

/* The LUN's content. */
byte claim;
byte opened; /* the newest epoch that was opened: what S1 and S2 speak of */

#define key(n) KEY(n, inc[n])
#define in(set, n) (((set) & BIT(n)) != 0)
#define candidate(n) (st[n] >= FENCE && st[n] <= VERIFY)
#define coordinator(n) (st[n] >= OPEN)

#if N == 2
#define every(what, n) (what(n, 0) && what(n, 1))
#define each(what, n) (what(n, 0) | what(n, 1))
#else
#define every(what, n) (what(n, 0) && what(n, 1) && what(n, 2))
#define each(what, n) (what(n, 0) | what(n, 1) | what(n, 2))
#endif

/* The token goes round: everybody in n's view is there and has the same one. Only then is anything told. */
#define same_ring(n, k) (!in(view[n], k) || (st[k] != OFF && view[k] == view[n] && side[k] == side[n]))
#define token(n) every(same_ring, n)

/* The view that corosync will form around n. */
#define reach(n, k) ((st[k] != OFF && side[k] == side[n]) -> BIT(k) : 0)
#define ring(n) each(reach, n)

#define idle(n, k) (!in(view[n], k) || (!candidate(k) && !coordinator(k) && st[k] != LOST))
#define no_candidate(n, k) (!in(view[n], k) || !candidate(k))
#define outside(n, k) (k == n || !in(view[n], k) || !working(k)) /* k did not fence n */
#define follows(n, k) (!in(view[n], k) || !coordinator(k))
#define no_request(n, k) (!req[k] || st[k] == OFF || side[k] != side[n])
#define lower(n, k) (!in(view[n], k) || !coordinator(k) || epoch[k] <= epoch[n])
#define working(k) ((candidate(k) || coordinator(k)) && registered(key(k)))
#define unused(n, k) !working(k)

/*
 * elect_keeps(): of the registered keys, those of members that are well. Asked for each PREEMPT.
 * A coordinator that is accused is not.
 */
#define keeps(n, k) (in(view[n], k) -> KEYS_OF(k) : 0)
#define kept(n) ((each(keeps, n) & told[n] & ~list[n] & ~accused[n]) | BIT(key(n)))
#define victims(n) (reg & ~kept(n))

/* Keys on the fence list that call for the barrier, though they are not registered any more. */
#ifdef NO_INCARNATION
#define dirty(n) (list[n] & ~each(keeps, n)) /* "node k is here and well: nothing to fence" */
#else
#define dirty(n) list[n]
#endif

#define present(n) (st[n] >= COMING -> BIT(key(n)) : 0)

inline forget(n) /* what a candidate or coordinator knew */
{
	epoch[n] = 0;
	sent[n] = false;
	work[n] = NONE;
	drain[n] = false;
	accused[n] = 0;
	redo[n] = false;
}

/* What `from` had before it told its present key can no longer be trusted to stop by itself. */
inline hear(to, from)
{
	list[to] = list[to] | (told[to] & KEYS_OF(from) & ~present(from));
	told[to] = (told[to] & ~KEYS_OF(from)) | present(from)
}

inline read_claim(n)
{
	epoch[n] = (claim > seen[n] -> claim : seen[n]) + 1
}

inline stand(n)
{
#ifdef CLAIM_BEFORE_FENCE
	read_claim(n);
#endif
	skip
}

/* STATE of n, delivered to all members of its ring. */
inline tell(who)
{
	for (j : 0 .. N - 1) {
		if
		:: in(view[who], j) -> hear(j, who)
		:: else
		fi
	}
}

/* Its incarnation is over: what it had in flight has an unknown outcome. */
inline lose(n)
{
	list[n] = list[n] | BIT(key(n));
	st[n] = LOST;
	forget(n);
	if
	:: token(n) -> tell(n); st[n] = OUT
	:: else
	fi
}

proctype node(byte me)
{
end:
	do
	/* ---- views: a smaller one is seen by each node at its own time */
	:: atomic {
		st[me] != OFF && (view[me] & ~ring(me)) != 0 ->
		for (j : 0 .. N - 1) {
			if
			:: in(view[me] & ~ring(me), j) -> list[me] = list[me] | (told[me] & KEYS_OF(j))
			:: else
			fi
		}
		view[me] = view[me] & ring(me);
		redo[me] = candidate(me);
		frozen[me] = false
	}

	:: atomic { st[me] == LOST && token(me) -> tell(me); st[me] = OUT }

	/* ---- a path: announced, then registered */
	:: atomic {
		st[me] == OUT && path[me] && !frozen[me] && token(me) LIVES ->
		inc[me]++;
		assert(inc[me] <= INCS);
		st[me] = COMING;
		tell(me)
	}
	:: atomic {
		st[me] == COMING && path[me] ->
		lun_register(me, inc[me]);
		st[me] = FOLLOW
	}

	/* ---- election: the first candidate of a view */
	:: atomic {
		st[me] == FOLLOW && registered(key(me)) && token(me) && every(idle, me) ->
		st[me] = FENCE;
		drain[me] = fresh[me]; /* whatever was in flight before is unknown to it */
		stand(me)
	}
	:: atomic { /* a fault: somebody believes that the coordinator hangs */
		faults != 0 && st[me] == FOLLOW && registered(key(me)) && token(me) &&
		every(no_candidate, me) && !every(follows, me) ->
		faults--;
		st[me] = FENCE;
		j = 0;
		do
		:: !(in(view[me], j) && coordinator(j)) -> j++
		:: else -> break
		od;
		accused[me] = BIT(key(j));
		stand(me)
	}

	/* ---- takeover. Each step looks first: am I still registered, is the view the same? */
	:: atomic {
		st[me] == FENCE && registered(key(me)) && !redo[me] && victims(me) != 0 ->
		j = 0;
		do
		:: !in(victims(me), j) -> j++
		:: else -> break
		od;
		lun_preempt(j);
#ifdef FORGET_PREEMPTED
		drain[me] = true
#else
		list[me] = list[me] | BIT(j) /* until it is drained: this fence may end before its barrier */
#endif
	}
	:: atomic {
		st[me] == FENCE && registered(key(me)) && !redo[me] &&
#ifdef SERVE_BEFORE_FENCE
		true ->
#else
		victims(me) == 0 && ((!drain[me] && dirty(me) == 0) || lun_reset_done) ->
		list[me] = 0; /* FENCED, as far as this node needs it */
#endif
		st[me] = READ
	}
	:: atomic {
		st[me] == READ && !redo[me] ->
#ifndef CLAIM_BEFORE_FENCE
		read_claim(me);
#endif
		st[me] = WRITE
	}
	:: atomic {
		st[me] == WRITE && registered(key(me)) && !redo[me] && !sent[me] ->
		lun_write(key(me), CLAIM, epoch[me]);
		sent[me] = true
	}
	:: atomic {
		st[me] == WRITE && sent[me] && !in_flight(key(me)) ->
		sent[me] = false;
		st[me] = VERIFY
	}
	:: atomic { /* read back, and published: role recovering */
		st[me] == VERIFY && registered(key(me)) && !redo[me] && claim == epoch[me] && token(me) ->
		assert(epoch[me] > opened); /* S2 */
		opened = epoch[me];
		for (j : 0 .. N - 1) {
			if
			:: in(view[me], j) -> seen[j] = epoch[me]; fresh[j] = false
			:: else
			fi
		}
		accused[me] = 0;
		st[me] = OPEN
	}
	:: atomic { /* another one claimed: we do not coordinate */
		st[me] == VERIFY && !redo[me] && claim != epoch[me] ->
		st[me] = FOLLOW;
		forget(me)
	}
	:: atomic { /* the view has changed, and what we had in flight has ended: from the beginning */
		candidate(me) && redo[me] && (!sent[me] || !in_flight(key(me))) ->
		st[me] = FOLLOW;
		forget(me)
	}

	/* ---- coordinator: the replay, then requests */
	:: atomic {
		st[me] == OPEN && registered(key(me)) && !sent[me] ->
		lun_write(key(me), META, epoch[me]);
		sent[me] = true
	}
	:: atomic {
		st[me] == OPEN && sent[me] && !in_flight(key(me)) ->
		sent[me] = false;
		st[me] = SERVE
	}
	:: atomic {
		st[me] == SERVE && registered(key(me)) && !sent[me] && !every(no_request, me) ->
		j = 0;
		do
		:: no_request(me, j) -> j++
		:: else -> break
		od;
		work[me] = j;
		lun_write(key(me), META, epoch[me]);
		sent[me] = true
	}
	:: atomic { /* durable: the reply leaves, if whoever waits can be reached */
		st[me] == SERVE && sent[me] && !in_flight(key(me)) ->
		sent[me] = false;
		j = work[me];
		work[me] = NONE;
		if
		:: side[j] == side[me] -> req[j] = false
		:: else
		fi
	}

	/* ---- the end of an incarnation */
	:: atomic { /* CONFLICT, or the key is not there when it looks: fenced */
		st[me] >= FOLLOW && !registered(key(me)) ->
		frozen[me] = view[me] != ALL && every(outside, me);
		lose(me)
	}
	:: atomic { /* two coordinators in one view: the older one goes */
		coordinator(me) && token(me) && !every(lower, me) ->
		lose(me)
	}
	:: atomic { /* the winner of the split is gone: its claim stands still */
		frozen[me] && every(unused, me) ->
		frozen[me] = false
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
		:: held_what[k] == CLAIM ->
			assert(held_value[k] > claim && held_value[k] > opened); /* S1, S2 */
			claim = held_value[k]
		:: held_what[k] == META ->
			assert(held_value[k] == opened) /* S1 */
		:: inc[KEY_NODE(k)] - 1 != k % INCS || st[KEY_NODE(k)] < FOLLOW -> skip /* lost */
		fi;
		lun_ended(k);
		k = 0
	}
	od
}

inline crash(n)
{
	st[n] = OFF;
	forget(n);
	frozen[n] = false;
	view[n] = 0;
	told[n] = 0;
	list[n] = 0;
	seen[n] = 0;
	fresh[n] = true;
	req[n] = false
}

/* A larger ring: all of its members enter it together, and tell all that they know. */
#define smaller(n, k) (!in(ring(n), k) || (view[k] & ~ring(n)) == 0)
#define well(n, k) ((in(view[n], k) && st[k] >= COMING) -> BIT(key(k)) : 0)
#define together(n, k) (side[k] == 0)
#define grows(n) (st[n] != OFF && view[n] != ring(n) && every(smaller, n))

inline merge(at)
{
	for (i : 0 .. N - 1) {
		if
		:: in(ring(at), i) ->
			view[i] = ring(at);
			redo[i] = candidate(i);
			frozen[i] = false
		:: else
		fi
	}
	lists = 0;
	high = 0;
	for (i : 0 .. N - 1) {
		if
		:: in(view[at], i) ->
			for (j : 0 .. N - 1) {
				if
				:: in(view[at], j) -> hear(i, j)
				:: else
				fi
			}
			lists = lists | list[i];
			high = (seen[i] > high -> seen[i] : high);
			fresh[i] = fresh[i] && every(follows, i)
		:: else
		fi
	}
	for (i : 0 .. N - 1) {
		if
		:: in(view[at], i) ->
			list[i] = list[i] | (lists & ~each(well, at));
			seen[i] = high
		:: else
		fi
	}
}

/* Faults, while there are some left, and their ends, which always come. */
proctype fate(byte n)
{
end:
	do
	:: atomic { faults != 0 && st[n] != OFF -> faults--; crash(n) }
	:: atomic { st[n] == OFF -> st[n] = OUT; view[n] = BIT(n) }
	:: atomic {
		faults != 0 && path[n] ->
		faults--;
		path[n] = false;
		if
		:: st[n] >= COMING ->
			lose(n)
		:: else
		fi
	}
	:: atomic { !path[n] -> path[n] = true }
	:: atomic { faults != 0 && every(together, n) -> faults--; side[n] = 1 }
	:: atomic { side[n] != 0 -> side[n] = 0 }
	:: atomic { grows(n) -> merge(n) }
	od
}

#define well_off(n, k) (view[k] == ALL && !req[k] && (st[k] == FOLLOW || st[k] == SERVE))
#define serving(n, k) (st[k] == SERVE -> BIT(k) : 0)

#define first_key(n, k) BIT(KEY(k, 1))

/* At first all is well: node 0 coordinates, epoch 1. */
init {
	atomic {
		for (i : 0 .. N - 1) {
			st[i] = FOLLOW;
			inc[i] = 1;
			lun_register(i, 1);
			view[i] = ALL;
			told[i] = each(first_key, i);
			seen[i] = 1;
			work[i] = NONE;
			path[i] = true;
			req[i] = (i != 0)
		}
		st[0] = SERVE;
		epoch[0] = 1;
		claim = 1;
		opened = 1;
#ifdef STARTING
		crash(1); /* one fault more, always this one */
#endif
		for (i : 0 .. N - 1) {
			run node(i);
			run fate(i)
		}
		run target()
	}
#ifndef SAFETY
	timeout; /* L1 */
	assert(held == 0 && every(well_off, 0));
	i = each(serving, 0);
	assert(i != 0 && (i & (i - 1)) == 0)
#endif
}
