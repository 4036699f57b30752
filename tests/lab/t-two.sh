#!/usr/bin/env bash
# Two nodes, without any fencing hardware: one loses power, and the other goes on; then the network
# between them is cut, and exactly one goes on while the other waits.
# timeout: 180
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 2 --size 1G >/dev/null

hit=$(state n1 .coordinator)
if [ "$hit" = n1 ]; then other=n2; else other=n1; fi
echo "# $hit, the coordinator, loses power"
probe $other data
probe $other meta
within 20 mode_is $other direct || fail "$other is $(state $other .mode)"
lab crash "$hit"
within 20 coordinator_is $other $other || fail "$other follows $(state $other .coordinator)"
goes_on $other
[ "$(longest $other data)" -lt 1000 ] || fail "data waited $(longest $other data) ms"
[ "$(longest $other meta)" -lt 10000 ] || fail "metadata waited $(longest $other meta) ms"
lab start "$hit"
within 20 mode_is "$hit" direct || fail "$hit is $(state "$hit" .mode)"

echo "# the network between them is cut"
probe "$hit" data
probe "$hit" meta
lab net n1 drop
sleep 12
going=()
for n in n1 n2; do
	if moves $n data 2 && moves $n meta 2; then going+=($n); fi
done
[ ${#going[@]} = 1 ] || fail "${#going[@]} of two go on: ${going[*]}"
loser=n1
[ "${going[0]}" = n2 ] || loser=n2
! moves $loser data 1 || fail "$loser lost, and does I/O"
echo "# ${going[0]} goes on; $loser leaves it in peace"
epoch=$(state "${going[0]}" .epoch)
sleep 10
[ "$(state "${going[0]}" .epoch)" = "$epoch" ] || fail "the two take the LUN from each other in turn"
goes_on "${going[0]}"
echo "# the network is back"
lab net n1 up
within 30 mode_is $loser direct || fail "$loser is $(state $loser .mode)"
goes_on $loser
for n in n1 n2; do probe_ended $n data && probe_ended $n meta; done
unmount_and_check n1 n2
