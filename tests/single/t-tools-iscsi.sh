#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The tools on a LUN of a real target (tgtd, in a network namespace of its own): making, checking,
# looking; a LUN whose coordinator is alive is refused.
# usage: t-tools-iscsi.sh [BUILD]
# timeout: 300
. "${0%/*}/target.sh"
beat=''
at_end() { [ -z "$beat" ] || { kill "$beat" && wait "$beat"; } 2>/dev/null || true; }
gives() {
	local want=$1 rc=0
	shift
	"$@" >out 2>&1 || rc=$?
	[ $rc = "$want" ] || fail "$*: exit status $rc, not $want: $(cat out)"
}
says() { grep -q -- "$1" out || fail "does not say '$1': $(cat out)"; }

truncate -s 1G lun.img
target_up

gives 8 fsck.csvfs $url
says 'no csvfs volume'
gives 0 mkfs.csvfs -n $url
gives 8 fsck.csvfs $url
gives 0 mkfs.csvfs -C alpha -L lun $url
says 'lun='
gives 0 fsck.csvfs $url
says clean
gives 0 fsck.csvfs -p $url
gives 0 fsck.csvfs -y $url
gives 0 csvdb $url sb
says 'alpha'
grep -q 'lun_identity *"..*"' out || fail "the LUN's identity is not recorded: $(cat out)"
gives 0 csvdb $url ls
gives 1 mkfs.csvfs $url
says 'contains csvfs'
gives 0 mkfs.csvfs -q -f $url
gives 0 fsck.csvfs $url

# who is registered cannot be known: nothing is written, also by force
sum=$(sha256sum <lun.img)
export CSVFS_FAULT=keys=off
for tool in 'fsck.csvfs -n' 'fsck.csvfs -y' 'fsck.csvfs -y --nodes-off' 'fsck.csvfs -p'; do
	gives 8 $tool $url
	says 'cannot be known'
done
gives 1 mkfs.csvfs -f $url
says 'cannot be known'
gives 1 csvdb $url set sb compat 1
unset CSVFS_FAULT
[ "$(sha256sum <lun.img)" = "$sum" ] || fail "something was written"

# no such LUN, no such target, nobody there
gives 8 fsck.csvfs ${url%/*}/9
gives 8 fsck.csvfs ${url%:*}:none/1
gives 8 fsck.csvfs iscsi://127.0.0.1:1/iqn.2026-11.test:single/1
gives 8 fsck.csvfs iscsi://nonsense

# a claim that is held, but does not beat, is a node that died: it is checked, and replayed
for claim in claim claim2; do csvdb lun.img set $claim state 1; done
gives 0 fsck.csvfs -n $url
gives 1 fsck.csvfs -p $url
gives 0 fsck.csvfs $url
csvdb $url claim >out
[ "$(grep -c '^state *0' out)" -ge 1 ] || fail "the claim was not released: $(cat out)"

# a claim that beats is a mounted volume
for claim in claim claim2; do csvdb lun.img set $claim state 1; done
(for n in $(seq 1000 1100); do csvdb lun.img set claim heartbeat "$n"; sleep 0.5; done) >/dev/null 2>&1 &
beat=$!
gives 8 fsck.csvfs -n $url
says 'mounted'
gives 8 fsck.csvfs -y $url
gives 1 mkfs.csvfs -f $url
says 'mounted'
gives 1 csvdb $url set sb compat 1
gives 0 fsck.csvfs -n -f $url
kill $beat
wait $beat 2>/dev/null || true
beat=
gives 1 fsck.csvfs -y $url
gives 0 fsck.csvfs -n $url

# while it is checked the claim changes: it was mounted meanwhile. What was found means nothing, and nothing is written
csvdb lun.img set group:0 free_clusters 5
cp lun.img was.img
for mode in -n '-p -f' -y; do
	(sleep 1.5; csvdb lun.img set claim heartbeat $((2000 + SECONDS)); csvdb lun.img set claim2 heartbeat $((2000 + SECONDS))) >/dev/null &
	beat=$!
	CSVFS_FAULT=delay=40 gives 8 fsck.csvfs $mode $url
	says 'means nothing\|Nothing was written'
	wait $beat
	beat=
	cmp -i 12288 lun.img was.img || fail "fsck.csvfs $mode has written to a volume that was mounted"
done

# killed while it writes: the next one goes on
is_held() { csvdb lun.img claim | grep -q '^state *1'; }
CSVFS_FAULT=delay=30 fsck.csvfs -y $url >/dev/null 2>&1 &
beat=$!
within 60 is_held
gives 8 fsck.csvfs -n $url
says mounted
kill -9 $beat
wait $beat 2>/dev/null || true
beat=
is_held || fail "it was done when it was killed"
gives 1 fsck.csvfs -y $url
gives 0 fsck.csvfs -n $url
says clean

# ext4 on the LUN is recognised
if command -v mke2fs >/dev/null; then
	mke2fs -q -t ext4 -F lun.img
	gives 1 mkfs.csvfs $url
	says 'contains ext4'
	gives 0 mkfs.csvfs -f -q $url
fi
echo ok
