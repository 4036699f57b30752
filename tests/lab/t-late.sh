#!/usr/bin/env bash
# A machine is paused with writes in its queues, and fenced; what it wrote to is given to another file; the others unmount in
# order. When it goes on nothing of it lands: the last node has left its registration. Tools say so and work beside it, each node can
# mount, and when the fenced one has been back the last one leaves nothing.
# timeout: 90
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 3 --size 64M >/dev/null
url=$(lab url) m1=$(lab mnt n1) m3=$(lab mnt n3)
PATH=$CSVFS_BUILD:$PATH
pat() { head -c "$2" /dev/zero | tr '\0' "$1"; }
large='node 3 was fenced and has not been back'
tool() { lab exec n1 -- "$@" "$url" >"$TMPDIR/tool" 2>&1; }
kept() { # kept WHEN: the volume is in order, and the tools name n3
	tool fsck.csvfs -n || fail "$1: $(cat "$TMPDIR/tool")"
	grep -q "$large" "$TMPDIR/tool" || fail "$1: fsck.csvfs does not name who is at large: $(cat "$TMPDIR/tool")"
}

pat A 16777216 >"$m3/X"
sync "$m3/X"
for p in 0 1 2 3 4 5 6 7; do
	perl -e 'open F, "+<", $ARGV[0] or die; my $z = "Z" x 4096;
		for (my $k = 0;; $k++) { sysseek F, $ARGV[1] * 2097152 + ($k * 37 % 512) * 4096, 0; defined syswrite F, $z or exit }' \
		"$m3/X" $p &
	writers="${writers:-} $!"
done
sleep 1
lab san n3 drop
lab kill n3 STOP
lab net n3 drop
two() { [ "$(state n1 '.members|length')" = 2 ] && lab exec n1 -- timeout 2 touch "$m1/t"; }
within 20 two || fail "n1 does not go on without n3"
rm "$m1/X"
sync "$m1"
pat B 60000000 >"$m1/Y" 2>/dev/null || true
sync "$m1/Y"
sum=$(sha256sum <"$m1/Y")
lab stop n1 n2 || fail "n1 and n2 cannot be unmounted"
grep -q "$large -> our registration stays" "$CSVLAB_DIR"/n[12]/csvfs.log || fail "the log does not say why the registration stays"

lab target copy "$TMPDIR/before"
lab san n3 up
# Its kernel tries again 25 s after the cut.
sleep 10
lab target copy "$TMPDIR/after"
cmp -s "$TMPDIR/before" "$TMPDIR/after" || fail "a write of n3, which was fenced, has landed"
rm -f "$TMPDIR/before" "$TMPDIR/after"

# Tools know it, and write beside it.
kept "after the last one has left"
tool fsck.csvfs -p -f || fail "fsck.csvfs -p -f: $(cat "$TMPDIR/tool")"
! tool mkfs.csvfs || fail "mkfs.csvfs overwrites a volume without -f"
tool fsck.csvfs -y || fail "fsck.csvfs -y: $(cat "$TMPDIR/tool")"
kept "after the tools"

# Each node takes the LUN over from the registration that was left, and leaves one.
for n in n1 n2; do
	began=$SECONDS
	lab start $n >/dev/null || fail "$n cannot mount"
	[ $((SECONDS - began)) -le 3 ] || fail "$n waits $((SECONDS - began)) s for a volume that was unmounted in order"
	[ "$(sha256sum <"$(lab mnt $n)/Y")" = "$sum" ] || fail "Y, written and synced, is damaged"
	lab stop $n || fail "$n cannot be unmounted"
	kept "after $n"
done

# A new volume is as safe.
cluster=$(lab exec n1 -- csvdb "$url" sb | sed -n 's/^ *cluster_name *[:=]* *"\?\([^" ]*\).*/\1/p')
tool mkfs.csvfs -q -f -C "$cluster" || fail "mkfs.csvfs -f: $(cat "$TMPDIR/tool")"
kept "after mkfs.csvfs -f"

# n3 is back: all is as it was.
lab kill n3 KILL
kill $writers 2>/dev/null || true
lab net n3 up
lab start n1 n2 n3 >/dev/null || fail "not all can mount"
within 20 mode_is n3 direct || fail "n3 is $(state n3 .mode)"
sleep 1
lab stop n3 || fail "n3 cannot be unmounted"
lab stop n1 n2 || fail "n1 and n2 cannot be unmounted"
tool fsck.csvfs -n || fail "at the end: $(cat "$TMPDIR/tool")"
! grep -q 'at large\|has not been back\|registration' "$TMPDIR/tool" || fail "at the end: $(cat "$TMPDIR/tool")"

# What a crash leaves goes when the administrator says that nobody is left who could write.
lab start n1 >/dev/null
lab kill n1 KILL
tool fsck.csvfs -y --nodes-off || [ $? = 1 ] || fail "fsck.csvfs --nodes-off: $(cat "$TMPDIR/tool")"
tool fsck.csvfs -n || fail "after --nodes-off: $(cat "$TMPDIR/tool")"
! grep -q 'registration' "$TMPDIR/tool" || fail "after --nodes-off: $(cat "$TMPDIR/tool")"
