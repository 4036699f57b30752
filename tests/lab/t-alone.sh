#!/usr/bin/env bash
# A volume that one host has mounted without the cluster (nocluster), and whoever comes then: one clear line, status 32, and
# who has it goes on as if nobody had been there. Of two that come at one moment one has it. Who died is followed.
# timeout: 120
# beside: yes
. "$(dirname "$0")/lib/test.sh"
lab up --bare --nodes 2 --size 256M >/dev/null
PATH=$CSVFS_BUILD:$PATH
url=$(lab url)
csvctl pki init "$TMPDIR/pki" --cluster csvlab >/dev/null
for n in n1 n2; do
	csvctl pki node "$TMPDIR/pki" $n "$TMPDIR/pki.$n" >/dev/null
	mkdir -p "$TMPDIR/mnt.$n"
done
lab exec n1 -- mkfs.csvfs -q -C csvlab "$url"

leave_nothing() {
	local n
	for n in n1 n2; do
		[ ! -s "$TMPDIR/pid.$n" ] || kill -9 "$(cat "$TMPDIR/pid.$n")" 2>/dev/null || true
		umount -l "$TMPDIR/mnt.$n" 2>/dev/null || true
	done
}
trap 'rc=$?; leave_nothing; (exit $rc); at_end' EXIT

# The lab's nodes have one name and one machine-id; real hosts do not.
mounts() { # mounts NODE OPTIONS
	timeout 60 "$LAB" exec "$1" -- unshare -u bash -c 'hostname "host-$1"; shift; exec csvfs "$@"' - "$1" "$url" \
		"$TMPDIR/mnt.$1" -o "$2,ctl=$TMPDIR/ctl.$1,pidfile=$TMPDIR/pid.$1,log=$TMPDIR/log.$1" >"$TMPDIR/out.$1" 2>&1
}
alone() { mounts "$1" nocluster; }
clustered() { mounts "$1" "pki=$TMPDIR/pki.$1"; }
refused() { # refused NODE TEXT RC
	[ "$3" = 32 ] || fail "$1: status $3: $(cat "$TMPDIR/out.$1")"
	grep -qE -- "$2" "$TMPDIR/out.$1" || fail "$1 does not say '$2': $(cat "$TMPDIR/out.$1")"
	sed "s#$url#URL#" "$TMPDIR/out.$1"
}
said() { csvctl -s "$TMPDIR/ctl.$1" state --json | jq -c '[.incarnation, .path_losses, .epoch, .mode]'; }
writes() { timeout 5 bash -c "echo $2 >'$TMPDIR/mnt.$1/file' && sync '$TMPDIR/mnt.$1/file'" || fail "$1 cannot write"; }
leaves() {
	umount "$TMPDIR/mnt.$1"
	within 20 test ! -e "$TMPDIR/pid.$1" || fail "$1 does not end"
}

for a in n2 n1; do
	b=n1
	[ $a = n2 ] || b=n2
	echo "# $a has it alone, $b comes with the cluster"
	alone $a || fail "$a: $(cat "$TMPDIR/out.$a")"
	writes $a before
	was=$(said $a)
	rc=0
	clustered $b || rc=$?
	refused $b "in use by host-$a, without a cluster" $rc
	writes $a after
	[ "$was" = "$(said $a)" ] || fail "$a was disturbed: $was, now $(said $a)"
	[ $a = n2 ] || break
	leaves $a
done

echo "# n1 dies; n2 takes it"
kill -9 "$(cat "$TMPDIR/pid.n1")"
umount -l "$TMPDIR/mnt.n1"
rm -f "$TMPDIR/pid.n1"
alone n2 || fail "n2: $(cat "$TMPDIR/out.n2")"
[ "$(cat "$TMPDIR/mnt.n2/file")" = after ] || fail "n2 does not read what n1 has written"
leaves n2

echo "# both come at one moment, without the cluster"
rc1=0 rc2=0
alone n1 & p1=$!
alone n2 & p2=$!
wait $p1 || rc1=$?
wait $p2 || rc2=$?
[ $((rc1 + rc2)) = 32 ] || fail "n1: $rc1, n2: $rc2: $(cat "$TMPDIR"/out.n?)"
a=n1 b=n2 rc=$rc2
[ $rc1 = 0 ] || a=n2 b=n1 rc=$rc1
refused $b "in use by host-$a, without a cluster|mounted already, by host-$a" $rc
writes $a last
[ "$(said $a | jq -r '.[3]')" = direct ] || fail "$a: $(said $a)"
leaves $a
lab exec n1 -- fsck.csvfs -n "$url" || fail "fsck.csvfs finds something"

echo "# n1 has it with the cluster, n2 comes without"
clustered n1 || fail "n1: $(cat "$TMPDIR/out.n1")"
writes n1 clustered
was=$(said n1)
rc=0
alone n2 || rc=$?
refused n2 "mounted already, by n1" $rc
writes n1 still
[ "$was" = "$(said n1)" ] || fail "n1 was disturbed: $was, now $(said n1)"
leaves n1
