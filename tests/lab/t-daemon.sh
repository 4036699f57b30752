#!/usr/bin/env bash
# The coordinator's daemon is killed: another one takes over. Then a coordinator's daemon hangs for less
# time than it takes to be given up (t-hang.sh: for more) and wakes up: nobody replaces it, metadata
# waits for it, data does not, and no application sees an error.
# timeout: 180
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 3 --size 1G >/dev/null

for how in KILL STOP; do
	hit=$(state n1 .coordinator)
	others=()
	for n in n1 n2 n3; do [ $n = "$hit" ] || others+=($n); done
	echo "# SIG$how for $hit, the coordinator"
	for n in "${others[@]}"; do probe $n data && probe $n meta; done
	echo "from $hit" >"$(lab mnt "$hit")/file.$how"
	sync -f "$(lab mnt "$hit")/file.$how"
	sleep 1
	lab kill "$hit" $how
	for n in "${others[@]}"; do
		if [ $how = STOP ]; then
			sleep 3
			lab kill "$hit" CONT
		else
			within 20 coordinator_is_other $n "$hit" || fail "$n follows $(state $n .coordinator)"
		fi
		goes_on $n
		[ "$(longest $n data)" -lt 1000 ] || fail "$n: data waited $(longest $n data) ms"
		[ "$(longest $n meta)" -lt 10000 ] || fail "$n: metadata waited $(longest $n meta) ms"
		[ "$(cat "$(lab mnt $n)/file.$how")" = "from $hit" ] || fail "$n: file.$how"
	done
	if [ $how = STOP ]; then
		within 20 coordinator_is "$hit" "$(state "${others[0]}" .coordinator)" ||
			fail "$hit follows $(state "$hit" .coordinator)"
		within 20 mode_is "$hit" direct || fail "$hit is $(state "$hit" .mode)"
	else
		lab start "$hit"
	fi
	[ "$(cat "$(lab mnt "$hit")/file.$how")" = "from $hit" ] || fail "$hit: file.$how"
	for n in "${others[@]}"; do probe_ended $n data && probe_ended $n meta; done
done
unmount_and_check n1 n2 n3
