#!/usr/bin/env bash
# File locks over three nodes. All three kinds exclude across nodes; who waits is served in order, or not at
# all once interrupted; a node that loses power loses its locks as soon as it is fenced; a coordinator
# that moves, or is killed, loses nobody's. One
# that was cut off and given up gets EIO where it held a lock.
# timeout: 240
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 3 --size 1G >/dev/null
declare -A HELD OUT
NR=0

prog() { # prog NODE ARGS...: build/lab/locks on that node
	local node=$1
	shift
	lab exec "$node" -- "$CSVFS_BUILD/lab/locks" "$@"
}
try() { prog "$1" try "$2" "$3" "$(lab mnt "$1")/$4" "${@:5}"; }
free() { [ "$(try "$@")" = free ]; }
busy() { [ "$(try "$@")" = busy ]; }

# hold NAME NODE KIND TYPE FILE [START LEN]: a process that waits for the lock and keeps it
hold() {
	local name=$1 node=$2 kind=$3 type=$4 path
	path=$(lab mnt "$2")/$5
	shift 5
	OUT[$name]=$TMPDIR/hold.$((NR += 1))
	(exec "$LAB" exec "$node" -- "$CSVFS_BUILD/lab/locks" hold "$kind" "$type" "$path" "$@") \
		</dev/null >"${OUT[$name]}" 2>&1 &
	HELD[$name]=$!
	within 10 grep -qs waiting "${OUT[$name]}" || fail "$name does not start"
}
says() { grep -q "^$2\$" "${OUT[$1]}"; }
has() { within "${2:-5}" says "$1" held || fail "$1 does not get the lock: $(cat "${OUT[$1]}")"; }
has_not() { ! says "$1" held || fail "$1 has the lock"; }
let_go() {
	kill -TERM "${HELD[$1]}"
	within 10 gone "${HELD[$1]}" || fail "$1 does not end"
	wait "${HELD[$1]}" || fail "$1 failed: $(tail -n 1 "${OUT[$1]}")"
}

mnt1=$(lab mnt n1)
for f in a b c; do head -c 4096 /dev/zero >"$mnt1/$f"; done
sync -f "$mnt1/a"

echo "# what fcntl(2) and flock(2) promise, on one of three nodes"
asked=$(state n2 .locks.requests)
timeout 60 "$LAB" exec n2 -- "$CSVFS_BUILD/lab/locks" conform "$(lab mnt n2)/a" || fail "not as they should be"
[ "$(state n2 .locks.requests)" -gt $((asked + 50)) ] || fail "the kernel keeps locks to itself"
held_by() { [ "$(state "$1" .locks.held)" = "$2" ]; }
within 10 held_by n2 0 || fail "$(state n2 .locks.held) locks are left"

for kind in posix ofd flock; do
	echo "# $kind: across nodes, in order"
	hold one n1 $kind w a
	has one
	busy n2 $kind r a || fail "$kind: n2 got what n1 holds"
	busy n3 $kind w a || fail "$kind: n3 got what n1 holds"
	busy n1 $kind w a || fail "$kind: n1 got it twice"
	hold two n2 $kind w a
	sleep 0.3
	hold three n3 $kind w a
	sleep 0.3
	has_not two
	let_go one
	has two
	has_not three
	let_go two
	has three
	let_go three
	within 5 free n2 $kind w a || fail "$kind: n2 does not get what nobody has"

	hold one n1 $kind r a
	hold two n2 $kind r a
	has one
	has two
	busy n3 $kind w a || fail "$kind: a writer among readers"
	free n3 $kind r a || fail "$kind: a reader among readers"
	hold three n3 $kind w a
	sleep 0.3
	kill -USR1 "${HELD[three]}"
	within 5 says three interrupted || fail "$kind: the wait goes on: $(cat "${OUT[three]}")"
	let_go one
	let_go two
	within 5 free n3 $kind w a || fail "$kind: who was interrupted has it"
done

echo "# a virtual disk on two nodes: byte ranges, as QEMU does it"
hold vm1 n1 ofd r b 100 1
hold vm1w n1 ofd r b 201 1
has vm1
has vm1w
free n2 ofd r b 100 1 || fail "two may read"
busy n2 ofd w b 201 1 || fail "n2 may start a disk that runs on n1"
free n2 ofd w b 102 1 || fail "another byte is another lock"
let_go vm1
let_go vm1w

echo "# the coordinator moves, and is killed, under locks and waits"
hold keeps n1 ofd w a
hold reads n2 flock r b
has keeps
has reads
hold waits n3 ofd w a
for to in n2 n3 n1; do
	lab exec n1 -- "$CSVFS_BUILD/csvctl" -s "$CSVLAB_DIR/n1/csvfs.sock" move $to || fail "cannot move to $to"
	within 20 coordinator_is n1 $to || fail "$to does not coordinate"
	busy n3 ofd r a || fail "after a move to $to the lock is gone"
	busy n1 flock w b || fail "after a move to $to the flock is gone"
	free n1 flock r b || fail "after a move to $to more is locked than was"
done
lab exec n1 -- "$CSVFS_BUILD/csvctl" -s "$CSVLAB_DIR/n1/csvfs.sock" move n3
within 20 coordinator_is n1 n3 || fail "n3 does not coordinate"
hold waits2 n2 ofd w a
lab kill n3 KILL
within 20 coordinator_is_other n1 n3 || fail "n1 follows $(state n1 .coordinator)"
busy n2 ofd r a || fail "after the coordinator's death the lock is gone"
busy n1 flock w b || fail "after the coordinator's death the flock is gone"
has_not waits2
let_go keeps
has waits2
let_go waits2
let_go reads
wait "${HELD[waits]}" || true # its node's csvfs was killed
lab start n3

echo "# a node that holds locks loses power: they go to who waits, when it is fenced"
victim=n3
[ "$(state n1 .coordinator)" != n3 ] || victim=n2
other=n2
[ $victim = n3 ] || other=n3
hold dead $victim posix w c
hold dead2 $victim flock w c
has dead
has dead2
hold heir $other posix w c
hold heir2 n1 flock w c
sleep 0.5
has_not heir
t=$(date +%s%N)
lab crash $victim
has heir 25
has heir2 25
echo "# granted $((($(date +%s%N) - t) / 1000000)) ms after the crash"
let_go heir
let_go heir2
wait "${HELD[dead]}" "${HELD[dead2]}" || true
lab start $victim
within 20 mode_is $victim direct || fail "$victim is $(state $victim .mode)"

echo "# a node is cut off, and comes back: what it had locked is another's; what it had not locked goes on"
hold cut n3 ofd w c
has cut
probe n3 data
hold next n1 ofd w c
lab net n3 drop
has next 40
within 5 says next wrote || fail "n1 has the lock, and cannot write"
lab net n3 up
within 40 says cut EIO || fail "n3 writes under a lock that n1 has: $(tail -n 3 "${OUT[cut]}")"
moves n3 data 20 || fail "n3: an open file that held no lock does not go on"
probe_ended n3 data
let_go cut
let_go next
within 5 free n3 ofd w c || fail "n3 does not get what nobody has"

echo "# the same without a path, so that nothing at the LUN tells it; and who gave it up does not coordinate any more"
coord=$(state n1 .coordinator)
if [ "$coord" = n3 ]; then
	lab exec n1 -- "$CSVFS_BUILD/csvctl" -s "$CSVLAB_DIR/n1/csvfs.sock" move n1
	within 20 coordinator_is n2 n1 || fail "n1 does not coordinate"
	coord=n1
fi
hold cut n3 ofd w c
has cut
lab san n3 drop
within 30 mode_is n3 '*redirected' || fail "n3 is $(state n3 .mode)"
hold next $([ "$coord" = n1 ] && echo n2 || echo n1) ofd w c
lab net n3 drop
has next 40
lab exec "$coord" -- "$CSVFS_BUILD/csvctl" -s "$CSVLAB_DIR/$coord/csvfs.sock" move \
	$([ "$coord" = n1 ] && echo n2 || echo n1)
within 20 coordinator_is_other "$coord" "$coord" || fail "$coord still coordinates"
lab san n3 up
lab net n3 up
within 60 says cut EIO || fail "n3 goes on under a lock that another has: $(tail -n 3 "${OUT[cut]}")"
within 40 mode_is n3 direct || fail "n3 is $(state n3 .mode)"
let_go cut
let_go next

echo "# a target that restarts twice: the second time during the takeover that the first one has caused. That one has served nobody, so nobody has lost a lock"
coord=$(state n1 .coordinator)
stopped=n2
[ "$coord" != n2 ] || stopped=n3
other=$(tr ' ' '\n' <<<"n1 n2 n3" | grep -vxe "$coord" -e "$stopped")
hold here "$coord" ofd w a
hold there "$other" ofd w b
has here
has there
epoch=$(state "$coord" .epoch)
lab kill "$stopped" STOP # it is waited for, and then its lease
lab target restart
recovers() { # whoever it is, it has claimed the next epoch, and waits
	grep -qs "epoch $((epoch + 1)): the volume is open" "$CSVLAB_DIR"/n*/csvfs.log
}
within 20 recovers || fail "nobody takes over"
lab target restart
later() { grep -qsE "info: epoch ($((epoch + 2))|$((epoch + 3))): serves" "$CSVLAB_DIR"/n*/csvfs.log; }
within 40 later || fail "nobody takes over the second time"
! grep -s "epoch $((epoch + 1)): serves" "$CSVLAB_DIR"/n*/csvfs.log || fail "it had served: that shows nothing"
lab kill "$stopped" CONT
for n in n1 n2 n3; do within 40 mode_is $n direct || fail "$n is $(state $n .mode)"; done
for h in here there; do
	count=$(grep -c '^wrote$' "${OUT[$h]}")
	writes() { [ "$(grep -c '^wrote$' "${OUT[$h]}")" -gt "$count" ]; }
	within 10 writes || fail "$h does not go on: $(tail -n 3 "${OUT[$h]}")"
	! grep '^E' "${OUT[$h]}" || fail "$h has lost its lock"
	let_go $h
done

echo "# a node's path is lost and the coordinator's daemon dies at one moment: the node has to find out about its path before it can say what it holds, and is waited for"
coord=$(state n1 .coordinator)
cut=n2
[ "$coord" != n2 ] || cut=n3
hold there "$cut" ofd w b
has there
lab san "$cut" drop
lab kill "$coord" KILL
within 20 coordinator_is_other "$cut" "$coord" || fail "$cut follows $(state "$cut" .coordinator)"
within 20 mode_is "$cut" '*redirected' || fail "$cut is $(state "$cut" .mode)"
count=$(grep -c '^wrote$' "${OUT[there]}")
writes() { [ "$(grep -c '^wrote$' "${OUT[there]}")" -gt "$count" ]; }
within 10 writes || fail "there does not go on: $(tail -n 3 "${OUT[there]}")"
! grep '^E' "${OUT[there]}" || fail "$cut has lost its lock"
let_go there
lab san "$cut" up
lab start "$coord"
for n in n1 n2 n3; do within 60 mode_is $n direct || fail "$n is $(state $n .mode)"; done

echo "# three nodes, one lock, one number"
pids=()
head -c 8 /dev/zero >"$mnt1/n"
sync -f "$mnt1/n"
for n in n1 n2 n3; do
	prog $n count "$(lab mnt $n)/n" 5 >"$TMPDIR/count.$n" &
	pids+=($!)
done
for p in "${pids[@]}"; do wait "$p" || fail "count"; done
sum=0
for n in n1 n2 n3; do sum=$((sum + $(cat "$TMPDIR/count.$n"))); done
is=$(od -An -td8 "$mnt1/n" | tr -d ' ')
[ "$sum" = "$is" ] || fail "$sum times one was added, and it is $is"
echo "# ping-pong of three nodes: $((sum / 5)) locks a second"
unmount_and_check n1 n2 n3
