#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# csvfs alone on a LUN of a real target (tgtd, in a network namespace of its own): what is refused, one
# mount at a time, the target's restart, a target that is silent for a while.
# usage: t-mount-iscsi.sh [BUILD]
. "${0%/*}/target.sh"
mkdir mnt2
refuses() {
	local text=$1 rc=0
	shift
	timeout 60 csvfs "$@" >out 2>&1 || rc=$?
	[ $rc = 32 ] && grep -qF -- "$text" out || fail "csvfs $*: $rc, not 32 and '$text': $(cat out)"
}
mode() { csvctl -s s state --json | tr ',' '\n' | sed -n 's/^"mode":"\(.*\)"$/\1/p'; }
is_mode() { [ "$(mode)" = "$1" ]; }

truncate -s 256M lun.img
target_up
mkfs.csvfs -q "$url"

refuses "has no LUN 7" ${url%/*}/7 mnt
refuses "not a disk" ${url%/*}/0 mnt
refuses "Target not found" ${url%:*}:other/1 mnt

mount_it "$url"
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
unmount
fsck.csvfs -n "$url" >out 2>&1 || fail "not clean: $(cat out)"

# a LUN that is a copy
target_down
target_up two
refuses "is a copy" "$url" mnt
mount_it "$url" copied
unmount
