#!/usr/bin/env bash
# What a host of a real cluster must not mount: each time one clear line, status 32, nothing changed on the
# LUN, no registration left there, no hang.
# timeout: 120
# beside: yes
. "$(dirname "$0")/lib/test.sh"
lab up --bare --nodes 2 --size 256M >/dev/null
PATH=$CSVFS_BUILD:$PATH
url=$(lab url) other=${CSVLAB_DIR:?}/elsewhere
mkdir -p "$other" "$TMPDIR/mnt"
csvctl pki init "$other/pki" --cluster csvlab >/dev/null
for n in n1 n2; do csvctl pki node "$other/pki" $n "$other/$n" >/dev/null; done

on() { timeout 60 "$LAB" exec n1 -- "$@"; }
lun_sum() { sha256sum <"$CSVLAB_DIR"/san/lun*; }
# refused WHAT TEXT ARGUMENTS...: of csvfs
refused() {
	local what=$1 text=$2 before rc=0
	shift 2
	before=$(lun_sum)
	on csvfs "$@" >"$TMPDIR/out" 2>&1 || rc=$?
	[ $rc = 32 ] || fail "$what: status $rc: $(cat "$TMPDIR/out")"
	grep -qF -- "$text" "$TMPDIR/out" || fail "$what: does not say '$text': $(cat "$TMPDIR/out")"
	[ "$(wc -l <"$TMPDIR/out")" = 1 ] || fail "$what: more than one line: $(cat "$TMPDIR/out")"
	[ "$before" = "$(lun_sum)" ] || fail "$what: the LUN was changed"
	! grep -q " $TMPDIR/mnt " /proc/mounts || fail "$what: mounted"
	printf '%-32s %s\n' "$what" "$(sed "s#$url#URL#;s#$CSVLAB_DIR/##g" "$TMPDIR/out" | cut -c1-150)"
}
opts=pki=$other/n1,ctl=$TMPDIR/ctl

refused "an empty LUN" "not a csvfs volume" "$url" "$TMPDIR/mnt" -o "$opts"
refused "no such LUN" "LUN 7" "${url%/*}/7" "$TMPDIR/mnt" -o "$opts"
refused "no such target" "not found" "${url%:*}:nobody/1" "$TMPDIR/mnt" -o "$opts"
on mkfs.csvfs -q -C elsewhere "$url"
refused "another cluster's volume" "belongs to cluster elsewhere, this node is in cluster csvlab" \
	"$url" "$TMPDIR/mnt" -o "$opts"
on mkfs.csvfs -q -f -C csvlab "$url"
refused "no certificates" "$other/none" "$url" "$TMPDIR/mnt" -o "pki=$other/none,ctl=$TMPDIR/ctl"
refused "another node's certificate" "n2" "$url" "$TMPDIR/mnt" -o "pki=$other/n2,ctl=$TMPDIR/ctl"
on mkfs.csvfs -q -f "$url"
on csvfs "$url" "$TMPDIR/mnt" -o "$opts,nocluster,pidfile=$TMPDIR/pid" || fail "cannot mount it alone"
mkdir "$TMPDIR/mnt2"
rc=0
on csvfs "$url" "$TMPDIR/mnt2" -o "pki=$other/n1,ctl=$TMPDIR/ctl2" >"$TMPDIR/out" 2>&1 || rc=$?
[ $rc = 32 ] && grep -q "mounted already, by" "$TMPDIR/out" || fail "a second mount: $rc $(cat "$TMPDIR/out")"
printf '%-32s %s\n' "mounted already" "$(sed "s#$url#URL#" "$TMPDIR/out")"
umount "$TMPDIR/mnt"
within 20 test ! -e "$TMPDIR/pid" || fail "csvfs does not end"
on fsck.csvfs -n "$url" || fail "fsck.csvfs finds something"

# mounted on one node, checked on another: refused whatever the mode, and the one that has it does not notice
on mkfs.csvfs -q -f -C csvlab "$url"
on csvfs "$url" "$TMPDIR/mnt" -o "$opts,pidfile=$TMPDIR/pid" || fail "cannot mount it"
echo kept >"$TMPDIR/mnt/file"
life() { csvctl -s "$TMPDIR/ctl" state --json | grep -oE '"(epoch|incarnation|path_losses)":[0-9]+' | tr '\n' ' '; }
was=$(life)
for mode in -n -p "-p -f" -y; do
	rc=0
	# shellcheck disable=SC2086
	timeout 60 "$LAB" exec n2 -- fsck.csvfs $mode "$url" >"$TMPDIR/out" 2>&1 || rc=$?
	[ $rc = 8 ] || fail "fsck $mode of a mounted volume: status $rc: $(cat "$TMPDIR/out")"
	grep -q "Unmount it on every node first" "$TMPDIR/out" || fail "fsck $mode: does not say what to do: $(cat "$TMPDIR/out")"
	echo "$mode" >"$TMPDIR/mnt/after" || fail "fsck $mode: its node cannot write any more"
done
printf '%-32s %s\n' "fsck of a mounted volume" "$(sed "s#$url#URL#" "$TMPDIR/out")"
rc=0
timeout 60 "$LAB" exec n2 -- fsck.csvfs -n -f "$url" >"$TMPDIR/out" 2>&1 || rc=$?
[ $rc = 0 ] || [ $rc = 4 ] || fail "fsck -n -f of a mounted volume: status $rc: $(cat "$TMPDIR/out")"
grep -q "what follows may be wrong" "$TMPDIR/out" || fail "fsck -n -f: no warning: $(cat "$TMPDIR/out")"
[ "$(life)" = "$was" ] || fail "the node that has it mounted was disturbed: $was, now $(life)"
[ "$(cat "$TMPDIR/mnt/file" "$TMPDIR/mnt/after")" = "kept
-y" ] || fail "its files have changed"
umount "$TMPDIR/mnt"
within 20 test ! -e "$TMPDIR/pid" || fail "csvfs does not end"
timeout 60 "$LAB" exec n2 -- fsck.csvfs -y "$url" >"$TMPDIR/out" 2>&1 || fail "fsck -y afterwards: $(cat "$TMPDIR/out")"

# -o ro binds its own node alone, also when that coordinates
on csvfs "$url" "$TMPDIR/mnt" -o "ro,$opts,pidfile=$TMPDIR/pid" || fail "cannot mount it with ro"
timeout 60 "$LAB" exec n2 -- csvfs "$url" "$TMPDIR/mnt2" -o "pki=$other/n2,ctl=$TMPDIR/ctl2,pidfile=$TMPDIR/pid2" ||
	fail "cannot mount it on the other node"
csvctl -s "$TMPDIR/ctl2" state --json | grep -q '"coordinator":"n1"' || fail "n1 does not coordinate: that shows nothing"
echo new >"$TMPDIR/mnt2/new" && sync "$TMPDIR/mnt2/new" || fail "n1 has ro, and n2 cannot write"
[ "$(cat "$TMPDIR/mnt/new")" = new ] || fail "n1 does not see what n2 has written"
! touch "$TMPDIR/mnt/other" 2>/dev/null && ! rm "$TMPDIR/mnt/new" 2>/dev/null || fail "n1 has ro, and writes"
umount "$TMPDIR/mnt2"
within 20 test ! -e "$TMPDIR/pid2" || fail "csvfs of n2 does not end"
umount "$TMPDIR/mnt"
within 20 test ! -e "$TMPDIR/pid" || fail "csvfs of n1 does not end"
on fsck.csvfs -n "$url" || fail "fsck.csvfs finds something"
