#!/usr/bin/env bash
# Several nodes without a path are spread over those that have one, and go on when the one through which they go is lost. No
# application sees an error.
# timeout: 180
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 5 --size 1G >/dev/null
NODES="n1 n2 n3 n4 n5"
for n in $NODES; do probe $n data && probe $n meta; done

coord=$(state n1 .coordinator)
others=$(echo $NODES | tr ' ' '\n' | grep -vx "$coord")
read -r a b c d <<<"$(echo $others)"

goes_through() { # goes_through NODE ONE-OF...
	local through node
	through=$(state "$1" .through)
	shift
	for node in "$@"; do
		[ "$through" != "$node" ] || return 0
	done
	return 1
}
carries_for_all() { # carries_for_all NODE...: each of them carries for somebody
	local n
	for n in "$@"; do
		[ "$(state "$n" .core_ops.served)" -gt "${before[$n]}" ] || return 1
	done
}

echo "# $coord coordinates; $a, $b and $c lose their paths one after the other"
declare -A before
for n in $NODES; do before[$n]=$(state $n .core_ops.served); done
lab san $a drop
within 20 goes_through $a "$coord" || fail "$a goes through $(state $a .through), not the coordinator, which carries for nobody"
lab san $b drop
within 20 goes_through $b $c $d || fail "$b goes through $(state $b .through): that one carries for somebody, or nobody does"
carrier=$(state $b .through)
within 5 carries_for_all "$coord" "$carrier" || fail "nothing goes through $carrier"
for n in $NODES; do goes_on $n; done
left=$(echo $c $d | tr ' ' '\n' | grep -vx "$carrier")
lab san $left drop
within 20 goes_through $left "$coord" "$carrier" || fail "$left goes through $(state $left .through)"
for n in $NODES; do goes_on $n; done

echo "# $carrier, which carries, is lost"
lab crash $carrier
for n in $a $b $left; do
	within 20 goes_through $n "$coord" || fail "$n goes through $(state $n .through)"
	goes_on $n 20
done
lab start $carrier
probe_ended $a data && probe_ended $a meta
probe $a data && probe $a meta

echo "# the coordinator moves while others are carried for"
lab exec $b -- csvctl -s "$CSVLAB_DIR/$b/csvfs.sock" move "$carrier" || fail "cannot move to $carrier"
within 20 coordinator_is $b "$carrier" || fail "$b follows $(state $b .coordinator)"
for n in $coord $a $b $left; do goes_on $n 20; done

echo "# the paths are back"
for n in $a $b $left; do lab san $n up; done
for n in $a $b $left; do within 40 mode_is $n direct || fail "$n is $(state $n .mode)"; done
for n in $coord $a $b $left; do goes_on $n; done
for n in $coord $a $b $left; do probe_ended $n data && probe_ended $n meta; done
unmount_and_check $NODES
