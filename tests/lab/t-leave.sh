#!/usr/bin/env bash
# A host is shut down as systemd does it: umount(8), with the helper that it calls, and then corosync at once. One, and then the
# others at one moment; or all at one moment, or a tenth of a second after each other: the volume was unmounted in order, and nobody
# had to be fenced.
# timeout: 120
. "$(dirname "$0")/lib/test.sh"
HELPER=${HELPER:-$CSVFS_BUILD/umount.fuse.csvfs}
PATH=$CSVFS_BUILD:$PATH

leave() { # as libmount calls it: the options behind the mount point
	timeout 60 $HELPER "$(lab mnt "$1")" -t fuse.csvfs && lab corosync "$1" kill
}
leave_together() {
	local n pids=()
	for n in "$@"; do leave $n & pids+=($!); sleep ${GAP:-0}; done
	for n in "${pids[@]}"; do wait "$n" || fail "cannot unmount $*"; done
}
in_order() {
	lab exec n1 -- fsck.csvfs -p "$(lab url)" >"$TMPDIR/fsck" 2>&1 || fail "$1: $(cat "$TMPDIR/fsck")"
	grep -q 'unmounted in order' "$TMPDIR/fsck" || fail "$1: $(cat "$TMPDIR/fsck")"
	lab exec n1 -- fsck.csvfs -n "$(lab url)" >"$TMPDIR/fsck" 2>&1 || fail "$1: $(cat "$TMPDIR/fsck")"
	! grep -E 'corosync is gone|/[0-9a-f]+ preempted$' "$CSVLAB_DIR"/n*/csvfs.log ||
		fail "$1: a host lost its cluster before it had left, or had to be fenced"
	rm -f "$CSVLAB_DIR"/n*/csvfs.log
}
work() {
	local n
	for n in n1 n2 n3; do
		within 20 mode_is $n direct || fail "$n is $(state $n .mode)"
		echo $n >"$(lab mnt $n)/$n"
	done
}

lab up --nodes 3 --size 256M >/dev/null
work
leave n1 || fail "cannot unmount n1"
leave_together n2 n3
in_order "n1, then n2 and n3"
lab start n1 n2 n3
work
leave_together n1 n2 n3
in_order "all at one moment"
lab start n1 n2 n3
work
GAP=0.1 leave_together n1 n2 n3
in_order "one after the other"
