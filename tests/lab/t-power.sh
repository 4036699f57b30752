#!/usr/bin/env bash
# All nodes lose power at once while they write files: what was fsynced is there afterwards, whole
# (invariant 16), and fsck finds nothing (15).
# timeout: 180
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 3 --size 1G >/dev/null

# Each writer makes files of its own, and notes a file outside once fsync has said that it is there.
writer() {
	local node=$1 i=0 dir
	dir=$(lab mnt "$node")/files.$node
	mkdir -p "$dir"
	while :; do
		i=$((i + 1))
		head -c $((RANDOM * 4)) /dev/urandom >"$TMPDIR/data.$node"
		cp "$TMPDIR/data.$node" "$dir/$i" && sync "$dir/$i" "$dir" &&
			echo "$(sha256sum <"$TMPDIR/data.$node" | cut -d' ' -f1) $dir/$i" >>"$TMPDIR/done.$node"
	done
}

for round in 1 2; do
	echo "# round $round"
	pids=()
	for n in n1 n2 n3; do
		: >"$TMPDIR/done.$n"
		writer $n 2>/dev/null &
		pids+=($!)
	done
	sleep 4
	lab crash n1 & lab crash n2 & lab crash n3 &
	wait -n && wait -n && wait -n || true
	kill -KILL "${pids[@]}" 2>/dev/null || true
	wait 2>/dev/null || true
	lab start n1 n2 n3
	for n in n1 n2 n3; do
		[ "$(wc -l <"$TMPDIR/done.$n")" -gt 5 ] || fail "$n wrote next to nothing"
		# sha256sum wants two spaces between sum and name
		sed 's/ /  /' "$TMPDIR/done.$n" | sha256sum -c --quiet || fail "$n lost what was fsynced"
	done
	wc -l "$TMPDIR"/done.n? | tail -n 1
	rm -rf "$(lab mnt n1)"/files.*
done
unmount_and_check n1 n2 n3
