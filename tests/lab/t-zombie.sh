#!/usr/bin/env bash
# A write that the target has accepted, and not carried out, when its sender loses the right to write: the target holds it
# after the reservation check, a later write of the same block is acknowledged, then the old one lands. The
# drain barrier of the fence keeps that from happening: nothing is acknowledged while such a write is out. With the barrier switched
# off (CSVFS_FAULT=drain=off) the same scenes do the harm: else they would prove nothing.
# ROUNDS=N: how often (1).
# timeout: 240
. "$(dirname "$0")/lib/test.sh"
BLOCK=4096

put() { # put NODE TEXT: the first block of file z, straight to the LUN or through a peer
	head -c $BLOCK <(printf '%s' "$2" && cat /dev/zero) >"$TMPDIR/block.$2"
	dd if="$TMPDIR/block.$2" of="$(lab mnt "$1")/z" bs=$BLOCK count=1 conv=notrunc oflag=direct status=none
}
got() { dd if="$(lab mnt "$1")/z" bs=$BLOCK count=1 iflag=direct status=none | head -c 8 | tr -d '\0'; }
put_in_background() { # BG: its pid
	put "$1" "$2" 2>"$TMPDIR/put.err" &
	BG=$!
}
held() { [ -e "$CSVLAB_DIR/san/hold.held" ]; }
caught() { # put_in_background NODE zombie, and the target holds it
	lab hold zombie
	put_in_background "$1" zombie
	within 10 held || fail "the write was not caught"
	lab hold
	! gone $BG || fail "the write was acknowledged before it landed"
}

roles() { # c: the coordinator, m and o: the others
	c=$(state n1 .coordinator)
	read -r m o <<<"$(printf '%s\n' n1 n2 n3 | grep -v "$c" | tr '\n' ' ')"
	put n1 before
	sync -f "$(lab mnt n1)/z"
	local n
	for n in n1 n2 n3; do [ "$(got $n)" = before ] || fail "$n reads $(got $n)"; done
}

# Each: the zombie is out, and its node has lost the right to write; WAITS is who must not be acknowledged now.
scene_path() {
	caught $m
	lab san $m reject
	WAITS=$BG then=$m reads=$o
}
scene_takeover() {
	caught $c
	lab kill $c KILL
	put_in_background $o after
	WAITS=$BG then= reads=$o
}
scene_member() { # the coordinator stays, and whoever restarts what ran there opens its disk on another node
	caught $m
	lab kill $m KILL
	put_in_background $o after
	WAITS=$BG then= reads=$o
}
scene_peer() {
	lab san $m reject
	within 20 mode_is $m '*redirected' || fail "$m is $(state $m .mode)"
	c=$(state $m .coordinator)
	[ "$m" != "$c" ] || fail "$m coordinates without a path"
	caught $m
	lab kill $c KILL
	WAITS=$BG then=$m reads=$m
}

repaired() {
	local n
	for n in n1 n2 n3; do
		lab san $n up
		lab start $n
	done
	for n in n1 n2 n3; do within 60 mode_is $n direct || fail "$n is $(state $n .mode)"; done
}

round() { # round SCENE DRAIN
	local scene=$1 drain=$2 result
	roles
	"scene_$scene"
	if [ "$drain" = on ]; then
		sleep 3
		! gone $WAITS || fail "$scene: acknowledged while an older write is in the target"
		held || fail "$scene: nobody held the write any more"
		lab release
		within 30 gone $WAITS || fail "$scene: does not go on"
	else
		within 20 gone $WAITS || fail "$scene: waits, and the drain is switched off"
	fi
	wait $WAITS || fail "$scene: $(cat "$TMPDIR/put.err")"
	[ -z "$then" ] || put $then after || fail "$scene: an error"
	[ "$drain" = on ] || [ "$(got $reads)" = after ] || fail "$scene: reads $(got $reads) before the old write lands"
	lab release
	sleep 0.5
	result=$(got $reads)
	echo "# $scene, drain $drain: \"after\" was acknowledged, then \"$result\" is read"
	if [ "$drain" = on ]; then
		[ "$result" = after ] || fail "$scene: an older write has landed on a later one"
	else
		[ "$result" = zombie ] || fail "$scene: no harm without the drain: the test shows nothing"
	fi
	repaired
}

for drain in on off; do
	[ $drain = on ] || export CSVFS_FAULT=drain=off
	lab up --nodes 3 --size 1G --hold >/dev/null
	put n1 before
	for ((i = 0; i < ${ROUNDS:-1}; i++)); do
		for scene in path takeover member peer; do round $scene $drain; done
	done
	lab stop n1 n2 n3
	unset CSVFS_FAULT
	lab exec n1 -- fsck.csvfs -n "$(lab url)" || fail "fsck.csvfs finds something"
	lab down
done
