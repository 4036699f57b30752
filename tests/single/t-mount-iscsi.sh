#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# csvfs alone on a LUN of a real target (tgtd, in a network namespace of its own): what is refused, one
# mount at a time, the target's restart, a target that is silent for a while.
# usage: t-mount-iscsi.sh [BUILD]
set -eu
build=$(cd "${1:-${CSVFS_BUILD:-build}}" && pwd)
if ! command -v tgtd >/dev/null || [ "$(id -u)" != 0 ]; then
	echo "needs root and tgtd"
	exit 77
fi
if [ -z "${INSIDE:-}" ]; then
	INSIDE=1 exec unshare -n "$0" "$build"
fi
ip link set lo up
dir=$(mktemp -d)
tgtd=''
cleanup() {
	umount -l "$dir/mnt" 2>/dev/null || true
	[ ! -s "$dir/pid" ] || kill -9 "$(cat "$dir/pid")" 2>/dev/null || true
	[ -z "$tgtd" ] || { kill -9 "$tgtd" && wait "$tgtd"; } 2>/dev/null || true
	cd /
	rm -rf "$dir"
}
trap cleanup EXIT
cd "$dir"
mkdir mnt mnt2
PATH=$build:$build/csvfs:$PATH
export TGT_IPC_SOCKET=$dir/ipc
fail() {
	echo "FAILED: $*"
	tail -n 20 log 2>/dev/null || true
	exit 1
}
refuses() {
	local text=$1 rc=0
	shift
	timeout 60 csvfs "$@" >out 2>&1 || rc=$?
	[ $rc = 32 ] && grep -qF -- "$text" out || fail "csvfs $*: $rc, not 32 and '$text': $(cat out)"
}
within() { # within SECONDS COMMAND...
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || fail "not in time: $*"
		sleep 0.1
	done
}
tgt() { tgtadm --lld iscsi "$@"; }
target_up() {
	tgtd -f --nr_iothreads 1 --iscsi portal=127.0.0.1:3260 >tgtd.log 2>&1 &
	tgtd=$!
	within 5 tgt --op show --mode sys >/dev/null
	tgt --op new --mode target --tid 1 -T iqn.2026-11.test:m
	tgt --op new --mode logicalunit --tid 1 --lun 1 -b "$dir/lun.img"
	tgt --op update --mode logicalunit --tid 1 --lun 1 --params "thin_provisioning=1,scsi_id=${1:-m-1},scsi_sn=1"
	tgt --op bind --mode target --tid 1 -I ALL
}
target_down() {
	kill -9 "$tgtd"
	wait "$tgtd" 2>/dev/null || true
	tgtd=''
}
mode() { csvctl -s s state --json | tr ',' '\n' | sed -n 's/^"mode":"\(.*\)"$/\1/p'; }
is_mode() { [ "$(mode)" = "$1" ]; }
ended() { [ ! -e pid ]; }

truncate -s 256M lun.img
target_up
url=iscsi://127.0.0.1/iqn.2026-11.test:m/1
opts=ctl=$dir/s,log=$dir/log,pidfile=$dir/pid
mkfs.csvfs -q "$url"

refuses "has no LUN 7" iscsi://127.0.0.1/iqn.2026-11.test:m/7 mnt
refuses "not a disk" iscsi://127.0.0.1/iqn.2026-11.test:m/0 mnt
refuses "Target not found" iscsi://127.0.0.1/iqn.2026-11.test:other/1 mnt

timeout 30 csvfs "$url" mnt -o "$opts" || fail "cannot mount"
echo hello >mnt/a
sync mnt/a

# one mount at a time, from wherever
refuses "already" "$url" mnt2 -o "ctl=$dir/s2"
[ "$(cat mnt/a)" = hello ] || fail "the refused mount has harmed the first"

# The target starts again: connections and registrations are gone, and come back; nobody gets an error.
dd if=/dev/urandom of=data bs=64k count=300 status=none
(for i in $(seq 30); do dd if=data of=mnt/b bs=64k conv=fsync,notrunc status=none && sleep 0.05 || exit 1; done) &
writer=$!
sleep 0.3
target_down
sleep 1
target_up
wait $writer || fail "the writer had an error when the target was restarted"
cmp data mnt/b || fail "wrong data after the target's restart"
within 20 is_mode direct

# The target says nothing for longer than io_timeout
kill -STOP "$tgtd"
(echo more >>mnt/a && sync mnt/a) &
writer=$!
within 10 is_mode paused
kill -CONT "$tgtd"
wait $writer || fail "the writer had an error when the target was silent"
within 20 is_mode direct
[ "$(cat mnt/a)" = "hello
more" ] || fail "wrong data after silence"
umount mnt
within 20 ended
fsck.csvfs -n "$url" >out 2>&1 || fail "not clean: $(cat out)"

# a LUN that is a copy
target_down
target_up m-2
refuses "is a copy" "$url" mnt
timeout 30 csvfs "$url" mnt -o "copied,$opts" || fail "-o copied is not enough"
umount mnt
within 20 ended
