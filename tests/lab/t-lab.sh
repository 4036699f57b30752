#!/usr/bin/env bash
# The lab itself: what every cluster test stands on must do what it says.
# timeout: 180
set -euo pipefail
cd "$(dirname "$0")"
: "${TMPDIR:=/tmp}" "${CSVLAB_DIR:=$TMPDIR/csvlab-t-lab}"
export CSVLAB_DIR
trap './csvlab down' EXIT

fail() {
	echo "FAILED: $*" >&2
	exit 1
}
# within SECONDS CMD...: CMD succeeds before that
within() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}
lun_answers() { timeout 5 ./csvlab exec "$1" -- iscsi-inq "$(./csvlab url)" >/dev/null 2>&1; }
members() { ./csvlab exec "$1" -- corosync-quorumtool -l | grep -c '^ *[0-9]* *1 n[0-9]'; }
sees() { [ "$(members "$1")" = "$2" ]; }
quorate() { ./csvlab exec "$1" -- corosync-quorumtool -s | grep -q '^Quorate: *Yes'; }
not() { ! "$@"; }
own_pids() { grep -lsxz -F "CSVLAB_MARK=$$" /proc/[0-9]*/environ | cut -d/ -f3; }
# What a killed corosync would leave in shared memory carries its pid: take note of each.
corosyncs=
note_corosyncs() {
	local pid
	for pid in $(own_pids); do
		[ "$(cat "/proc/$pid/comm" 2>/dev/null)" != corosync ] || corosyncs+=" $pid"
	done
}
lab_traces() {
	local pid pids
	grep -F " $TMPDIR/" /proc/self/mountinfo || true
	pids=$(own_pids)
	sleep 0.5 # what own_pids itself started is gone then
	for pid in $pids; do [ ! -e "/proc/$pid" ] || echo "process $pid"; done
	for pid in $corosyncs; do
		ls -d /dev/shm/qb-corosync-"$pid"-* /dev/shm/qb-"$pid"-* 2>/dev/null || true
	done
}
export CSVLAB_MARK=$$

echo "# three nodes see each other and the LUN"
./csvlab up --bare --nodes 3 --size 256M >"$TMPDIR/up.out"
note_corosyncs
[ "$(wc -w <<<"$corosyncs")" = 3 ] || fail "three corosyncs run:$corosyncs"
[ "$(wc -l <"$TMPDIR/up.out")" = 3 ] || fail "up prints three mount points"
[ "$(sed -n 2p "$TMPDIR/up.out")" = "$(./csvlab mnt n2)" ] || fail "mnt n2"
for n in n1 n2 n3; do
	within 10 sees $n 3 || fail "$n sees $(members $n) members"
	lun_answers $n || fail "$n reaches the LUN"
done
./csvlab exec n1 -- iscsi-readcapacity16 "$(./csvlab url)" | grep -q 'Total size:268435456' ||
	fail "the LUN's size"
not ./csvlab up --bare 2>/dev/null || fail "a second up in one DIR is refused"
not ./csvlab mnt n4 2>/dev/null || fail "n4 is refused"

echo "# a rejected SAN path: an error at once, for that node only"
./csvlab san n2 reject
start=$SECONDS
not lun_answers n2 || fail "n2 reaches the LUN through a rejected path"
[ $((SECONDS - start)) -le 2 ] || fail "a rejected path took $((SECONDS - start)) s to say so"
lun_answers n1 || fail "n1's path is cut too"
./csvlab san n2 up
lun_answers n2 || fail "n2's path is back"

echo "# a dropped SAN path: no answer at all"
./csvlab san n3 drop
start=$SECONDS
not lun_answers n3 || fail "n3 reaches the LUN through a dropped path"
[ $((SECONDS - start)) -ge 4 ] || fail "a dropped path answered"
sees n3 3 || fail "the cluster network is cut too"
./csvlab san n3 up
lun_answers n3 || fail "n3's path is back"

echo "# a cut cluster network: that node is out, and alone without quorum; its SAN path is not touched"
./csvlab net n1 drop
within 10 sees n2 2 || fail "n2 still sees n1"
within 10 not quorate n1 || fail "n1 alone is quorate"
quorate n2 || fail "n2 and n3 are not quorate"
lun_answers n1 || fail "n1's SAN path is cut too"
./csvlab net n1 up
within 15 sees n1 3 || fail "n1 is not back"

echo "# corosync dies: nothing of it is left in memory"
for n in n1 n2; do ./csvlab corosync $n kill; done
not sees n1 3 2>/dev/null || fail "n1's corosync lives"
left=$(lab_traces | grep /dev/shm || true)
for pid in $corosyncs; do [ -e "/proc/$pid" ] || ! grep -q "/qb-[a-z-]*$pid-" <<<"$left" || fail "left behind: $left"; done
for n in n1 n2; do ./csvlab corosync $n start; done
note_corosyncs
within 15 sees n1 3 || fail "n1 is not back"

echo "# power loss: everything of the node is gone at once, and nothing of it speaks any more"
./csvlab exec n3 -- sleep 1000 &
./csvlab crash n3
wait $! && fail "a process of n3 survived"
not ./csvlab exec n3 -- true 2>/dev/null || fail "n3 is off, and exec runs"
within 10 sees n1 2 || fail "n1 still sees n3"
./csvlab start n3
note_corosyncs
within 15 sees n3 3 || fail "n3 is not back"
lun_answers n3 || fail "n3 does not reach the LUN after its start"

echo "# a second lab beside it: two nodes, one of which may be quorate alone"
export CSVLAB_DIR_1=$CSVLAB_DIR
CSVLAB_DIR=$TMPDIR/lab2
./csvlab up --bare --nodes 2 --size 64M >/dev/null
note_corosyncs
trap './csvlab down; ./csvlab down --dir "$CSVLAB_DIR_1"' EXIT
sees n1 2 || fail "the second lab has $(members n1) members"
./csvlab crash n1
within 10 sees n2 1 || fail "n2 still sees n1"
quorate n2 || fail "two_node: the survivor is not quorate"
./csvlab down
./csvlab down
[ ! -e "$CSVLAB_DIR" ] || fail "down left $CSVLAB_DIR"
CSVLAB_DIR=$CSVLAB_DIR_1
sees n1 3 || fail "the first lab was disturbed"

echo "# an up that was killed in the middle is taken away as well"
./csvlab down
setsid ./csvlab up --bare --size 64M >/dev/null 2>&1 &
within 10 test -S "$CSVLAB_DIR/san/tgtd.sock.0" || fail "up does not get far enough"
kill -KILL -- -$!
note_corosyncs
./csvlab down
trap - EXIT

left=$(lab_traces)
[ -z "$left" ] || fail "left behind: $left"
