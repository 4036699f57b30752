#!/usr/bin/env bash
# What QEMU does with virtual disks on three hosts: images of all kinds are made, written without a page
# cache by native AIO and io_uring, discarded, grown, cloned and mapped; a disk that is open on one host cannot be
# started on another; its data is there when it may; a coordinator that moves and one that loses
# power are not noticed; the disk of a host that loses power can be started elsewhere, with what was flushed.
# timeout: 240
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 3 --size 4G >/dev/null
declare -A VM
NR=0

on() { # on NODE CMD...: in its network, in the folder of its mount
	local node=$1
	shift
	timeout 60 "$LAB" exec "$node" -- env -C "$(lab mnt "$node")" "$@"
}
io() { # io NODE FORMAT FILE COMMAND...: qemu-io, which says so on stdout and exits 0 all the same if data differs
	local node=$1 format=$2 file=$3 args=() c out
	shift 3
	for c in "$@"; do args+=(-c "$c"); done
	out=$(on "$node" qemu-io -t none -n -d unmap -f "$format" "${args[@]}" "$file" 2>&1) ||
		fail "$node: $file: $* -> $out"
	! grep -qE 'failed|error|differ|can.t|Invalid' <<<"$out" || fail "$node: $file: $* -> $out"
}

# start NAME NODE FORMAT FILE: a guest: it has the image open for writing, and obeys vm
start() {
	local name=$1 node=$2 format=$3 fifo=$TMPDIR/vm.$((NR += 1))
	mkfifo "$fifo"
	(exec "$LAB" exec "$node" -- env -C "$(lab mnt "$node")" \
		qemu-io -t none -n -d unmap -f "$format" "$4") <"$fifo" >"$fifo.out" 2>&1 &
	VM[$name]=$!
	VM[$name.out]=$fifo.out
	exec {fd}>"$fifo"
	VM[$name.fd]=$fd
	vm "$name" "read 0 4k"
}
# vm NAME COMMAND [SECONDS]: the guest does it, and has done it
vm() {
	local out=${VM[$1.out]} before
	before=$(grep -c 'ops; ' "$out" || true)
	echo "$2" >&"${VM[$1.fd]}"
	[[ $2 == flush ]] && return 0
	one_more() { [ "$(grep -c 'ops; ' "$out" || true)" -gt "$before" ]; }
	within "${3:-10}" one_more || fail "$1: $2: $(tail -n 3 "$out")"
	! grep -qE 'failed|error|differ' "$out" || fail "$1: $2: $(tail -n 3 "$out")"
}
writes() { # writes ENGINE: 16 at once, until there are enough
	until [ -e "$TMPDIR/enough.$1" ]; do
		on n2 qemu-img bench -w -t none -i "$1" -c 2000 -d 16 -s 64k -f raw --pattern 0x5a thick.raw ||
			return 1
	done >"$TMPDIR/bench.$1" 2>&1
}
shut() {
	echo quit >&"${VM[$1.fd]}"
	local fd=${VM[$1.fd]}
	exec {fd}>&-
	within 20 gone "${VM[$1]}" || fail "$1 does not end"
	wait "${VM[$1]}" || fail "$1: $(tail -n 3 "${VM[$1.out]}")"
}
refused() { # refused NODE FORMAT FILE: QEMU does not start it there
	local out
	! out=$(on "$1" qemu-io -f "$2" -c "read 0 4k" "$3" 2>&1) || fail "$3 is open twice"
	grep -q 'Failed to get .* lock' <<<"$out" || fail "$1: $3: $out"
}
blocks_kib() { echo $(($(on "$1" stat -c %b "$2") / 2)); }

echo "# images of every kind, on one host, looked at from another"
on n1 qemu-img create -q -f raw thin.raw 1G
on n1 qemu-img create -q -f raw -o preallocation=falloc thick.raw 128M
on n1 qemu-img create -q -f qcow2 vm.qcow2 1G
on n1 qemu-img create -q -f qcow2 -o preallocation=metadata,cluster_size=2M fat.qcow2 1G
on n1 qemu-img create -q -f vmdk vm.vmdk 256M
on n2 qemu-img info vm.qcow2 >/dev/null
[ "$(blocks_kib n2 thin.raw)" -le 64 ] || fail "an empty thin disk takes $(blocks_kib n2 thin.raw) KiB"
[ "$(blocks_kib n2 thick.raw)" -ge $((128 * 1024)) ] || fail "a thick disk takes $(blocks_kib n2 thick.raw) KiB"

echo "# written on one, read on the next; odd sizes, zeroes, discards"
for f in raw:thin.raw raw:thick.raw qcow2:vm.qcow2 qcow2:fat.qcow2 vmdk:vm.vmdk; do
	format=${f%:*} file=${f#*:}
	io n1 "$format" "$file" "write -P 0x11 0 4M" "write -P 0x22 1536 1k" "write -P 0x33 64M 8M" flush
	io n2 "$format" "$file" "read -P 0x11 0 1536" "read -P 0x22 1536 1k" "read -P 0x11 2560 1536" \
		"read -P 0x33 64M 8M" "read -P 0 32M 1M" "write -P 0x44 512 512" "write -z 66M 1M"
	io n3 "$format" "$file" "read -P 0x44 512 512" "read -P 0x22 1536 1k" "read -P 0 66M 1M" "read -P 0x33 67M 1M"
done
before=$(blocks_kib n3 thin.raw)
io n3 raw thin.raw "discard 64M 8M"
after=$(blocks_kib n1 thin.raw)
[ "$after" -le $((before - 7000)) ] || fail "a discard gave back $((before - after)) of 7168 KiB"
io n1 raw thin.raw "read -P 0 64M 8M" "read -P 0x11 4k 1M"
on n2 qemu-img map --output=json -f raw thin.raw |
	jq -e '[.[] | select(.data) | .length] | add <= 5 * 1048576' >/dev/null || fail "qemu-img map: a hole is data"

echo "# cloned, compared, grown, with snapshots and a backing file"
on n2 qemu-img convert -q -t none -T none -n -f qcow2 -O raw vm.qcow2 thin.raw
on n3 qemu-img compare -q -f qcow2 -F raw vm.qcow2 thin.raw || fail "the clone differs"
on n3 qemu-img resize -q -f raw thin.raw 3G
on n1 qemu-img resize -q vm.qcow2 2G
io n2 raw thin.raw "write -P 0x55 2G 64k" "read -P 0 1536M 1M"
on n1 qemu-img snapshot -q -c before vm.qcow2
io n2 qcow2 vm.qcow2 "write -P 0x66 0 1M"
on n3 qemu-img snapshot -q -a before vm.qcow2
io n1 qcow2 vm.qcow2 "read -P 0x11 4k 1M"
on n1 qemu-img create -q -f qcow2 -b vm.qcow2 -F qcow2 linked.qcow2
io n2 qcow2 linked.qcow2 "write -P 0x77 1M 64k" "read -P 0x11 4k 64k"
io n3 qcow2 linked.qcow2 "read -P 0x77 1M 64k"
on n1 qemu-img check -q vm.qcow2 || fail "qemu-img check finds something"

echo "# a disk that is open on one host is not started on another, nor copied without -U"
start vm1 n1 qcow2 vm.qcow2
refused n2 qcow2 vm.qcow2
refused n3 qcow2 vm.qcow2
on n2 qemu-img info -U vm.qcow2 >/dev/null || fail "qemu-img info -U"
vm vm1 "write -P 0x81 0 1M"
shut vm1
start vm1 n2 qcow2 vm.qcow2
vm vm1 "read -P 0x81 0 1M"
refused n1 qcow2 vm.qcow2

echo "# the coordinator moves, and loses power, under a guest and under 16 writes at once, by both engines"
for engine in native io_uring; do
	writes $engine &
	VM[bench]=$!
	within 10 test -s "$TMPDIR/bench.$engine" || fail "qemu-img bench does not start"
	if [ $engine = native ]; then
		for to in n3 n1; do
			lab exec n1 -- "$CSVFS_BUILD/csvctl" -s "$CSVLAB_DIR/n1/csvfs.sock" move $to >/dev/null
			within 20 coordinator_is n2 $to || fail "$to does not coordinate"
			vm vm1 "write -P 0x82 8M 1M"
		done
	else
		lab crash n1
		within 20 coordinator_is_other n2 n1 || fail "n2 follows $(state n2 .coordinator)"
		vm vm1 "write -P 0x83 600M 1M"
	fi
	touch "$TMPDIR/enough.$engine"
	wait "${VM[bench]}" || fail "qemu-img bench -i $engine: $(cat "$TMPDIR/bench.$engine")"
	io n3 raw thick.raw "read -P 0x5a 0 64M"
done
vm vm1 "read -P 0x82 8M 1M"
vm vm1 flush
vm vm1 "read -P 0x83 600M 1M"
lab start n1

echo "# the guest's host loses power: the disk is started elsewhere"
t=$(date +%s%N)
lab crash n2
starts() { on n3 qemu-io -t none -n -f qcow2 -c "read -P 0x83 600M 1M" -c "read -P 0x81 0 1M" vm.qcow2 >"$TMPDIR/heir" 2>&1; }
within 30 starts || fail "n3 cannot start it: $(cat "$TMPDIR/heir")"
echo "# started $((($(date +%s%N) - t) / 1000000)) ms after the crash"
! grep -q failed "$TMPDIR/heir" || fail "what was flushed is not there: $(cat "$TMPDIR/heir")"
fd=${VM[vm1.fd]}
exec {fd}>&-
wait "${VM[vm1]}" || true # it was on n2
on n3 qemu-img check -q vm.qcow2 || fail "qemu-img check finds something after the crash"
lab start n2
io n2 raw thick.raw "read -P 0x5a 0 64M"
unmount_and_check n1 n2 n3
echo ok
