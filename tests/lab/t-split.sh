#!/usr/bin/env bash
# The cluster network of one node is cut while its way to the LUN stays: it is out, writes nothing
# more, and comes back without an error; the majority goes on (DESIGN.md, invariants 12 and 14).
# timeout: 400
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 3 --size 1G >/dev/null

for role in coordinator member; do
	coordinator=$(state n1 .coordinator)
	if [ $role = coordinator ]; then out=$coordinator; else
		for out in n1 n2 n3; do [ "$out" = "$coordinator" ] || break; done
	fi
	others=()
	for n in n1 n2 n3; do [ $n = "$out" ] || others+=($n); done
	echo "# $out, a $role, is cut off; ${others[*]} go on"
	for n in n1 n2 n3; do probe $n data && probe $n meta; done
	lab net "$out" drop
	sleep 8
	for n in "${others[@]}"; do
		coordinator_is_other $n "$out" || fail "$n follows $(state $n .coordinator)"
		goes_on $n
		[ "$(longest $n data)" -lt 1000 ] || fail "$n: data waited $(longest $n data) ms"
		[ "$(longest $n meta)" -lt 10000 ] || fail "$n: metadata waited $(longest $n meta) ms"
	done
	mode_is "$out" paused || fail "$out, without quorum, is $(state "$out" .mode)"
	! moves "$out" data 2 || fail "$out does I/O without quorum"
	! moves "$out" meta 2 || fail "$out serves metadata without quorum"

	echo "# $out is back"
	lab net "$out" up
	# corosync merges rings in its own time (seen: several tries of 2 s each); ours runs from then on.
	sees_all() { [ "$(state "$out" '.members | length')" = 3 ]; }
	within 90 sees_all || fail "corosync does not merge: $out sees $(state "$out" '.members | length') nodes"
	within 20 mode_is "$out" direct || fail "$out is $(state "$out" .mode)"
	goes_on "$out"
	for n in n1 n2 n3; do probe_ended $n data && probe_ended $n meta; done
done
unmount_and_check n1 n2 n3
