#!/usr/bin/env bash
# The LUN becomes larger, and the volume with it, on three nodes that read and write: csvctl grow on any node; all nodes
# have the new size when it returns; who cannot see the LUN's new size is named and nothing is done; a
# coordinator whose login is older than all this can take over.
# timeout: 180
# beside: yes
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 3 --size 1G >/dev/null
for n in n1 n2 n3; do probe $n data && probe $n meta; done
ctl() { # ctl NODE ARGS...
	local node=$1
	shift
	timeout 60 csvctl -s "$CSVLAB_DIR/$node/csvfs.sock" "$@"
}
PATH=$CSVFS_BUILD:$PATH
mib() { df --output=size -B1M "$(lab mnt "$1")" | tail -n 1 | tr -d ' '; }
refused() { # refused TEXT NODE ARGS...
	local text=$1 rc=0
	shift
	ctl "$@" >"$TMPDIR/out" 2>&1 || rc=$?
	[ $rc = 1 ] || fail "grow on $1: exit status $rc: $(cat "$TMPDIR/out")"
	grep -q "$text" "$TMPDIR/out" || fail "grow on $1 does not say '$text': $(cat "$TMPDIR/out")"
}
hit=$(state n1 .coordinator)
other=n2
[ "$hit" != n2 ] || other=n3
third=$(echo n1 n2 n3 | tr ' ' '\n' | grep -vx -e "$hit" -e "$other")

echo "# $hit coordinates; $other writes at full speed"
(exec "$LAB" exec "$other" -- fio --name=w --filename="$(lab mnt "$other")/fio" --size=64M --bs=4k --rw=randwrite \
	--ioengine=psync --direct=1 --verify=crc32c --do_verify=1 --loops=100 --time_based --runtime=15 \
	--verify_fatal=1 --verify_state_save=0 --output="$TMPDIR/fio.out") </dev/null &
fio=$!
refused "grow the LUN first" "$third" grow

echo "# the LUN has 2 GiB"
lab target grow 2G
for n in n1 n2 n3; do goes_on $n; done
for n in n1 n2 n3; do [ "$(mib $n)" = 1024 ] || fail "$n has $(mib $n) MiB already"; done

echo "# a node without a path"
lab san "$third" reject
within 20 mode_is "$third" '*redirected' || fail "$third is $(state "$third" .mode)"
refused "node $third has no path" "$other" grow
[ "$(mib "$other")" = 1024 ] || fail "it has grown all the same"
lab san "$third" up
within 40 mode_is "$third" direct || fail "$third is $(state "$third" .mode)"

ctl "$third" grow -n | grep -q "would grow" || fail "a dry run from $third"
ctl "$third" grow --size 1536M | grep -q "to 1.5 GiB" || fail "grow from $third"
for n in n1 n2 n3; do [ "$(mib $n)" = 1536 ] || fail "$n says $(mib $n) MiB right after"; done
ctl "$hit" grow | grep -q "to 2.0 GiB" || fail "grow on the coordinator"
for n in n1 n2 n3; do [ "$(mib $n)" = 2048 ] || fail "$n says $(mib $n) MiB right after"; done

echo "# what is new, from each node"
fallocate -l 1600M "$(lab mnt n1)/new" || fail "the new space cannot be had"
for i in 1 2 3; do
	# the last MiB of these lie behind the old end, wherever the file begins
	head -c 1M /dev/urandom >"$TMPDIR/data.$i"
	dd if="$TMPDIR/data.$i" of="$(lab mnt n$i)/new" bs=1M seek=$((1596 + i)) conv=notrunc,fsync status=none ||
		fail "n$i cannot write there"
done
for i in 1 2 3; do
	for k in 1 2 3; do
		dd if="$(lab mnt n$k)/new" bs=1M skip=$((1596 + i)) count=1 status=none | cmp -s - "$TMPDIR/data.$i" ||
			fail "n$k does not read what n$i wrote"
	done
done
for n in n1 n2 n3; do goes_on $n; done

echo "# $other coordinates: it logged in when the LUN was small"
ctl "$other" move "$other" >/dev/null
within 20 coordinator_is "$third" "$other" || fail "$(state "$third" .coordinator) coordinates"
for n in n1 n2 n3; do goes_on $n 10; done
refused "nothing to do" "$hit" grow
wait $fio || fail "fio: $(tail -n 5 "$TMPDIR/fio.out")"
for n in n1 n2 n3; do
	for k in data meta; do
		echo "$n $k: longest wait $(longest $n $k) ms"
		probe_ended $n $k
	done
done
unmount_and_check n1 n2 n3
