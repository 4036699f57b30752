#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# File locks on one node, as fcntl(2) and flock(2) promise them: by the kernel's own file system first, so
# that it is the test that is right, then on csvfs. (A node that is alone leaves them to the kernel;
# tests/lab/t-lock.sh asks the same of a cluster's node.)
# usage: t-lock.sh [BUILD]
set -eu
build=$(cd "${1:-${CSVFS_BUILD:-build}}" && pwd)
dir=$(mktemp -d)
PATH=$build:$build/csvfs:$PATH
cd "$dir"
mkdir mnt

cleanup() {
	umount -l mnt 2>/dev/null || true
	[ ! -s pid ] || kill -9 "$(cat pid)" 2>/dev/null || true
	cd /
	rm -rf "$dir"
}
trap cleanup EXIT
fail() {
	echo "FAILED: $*"
	tail -n 20 log 2>/dev/null || true
	exit 1
}
locks=$build/lab/locks

head -c 4096 /dev/zero >plain
timeout 60 "$locks" conform plain || fail "the test itself is wrong: $(stat -f -c %T .)"

mkfs.csvfs -q -s 64M v.img
timeout 30 csvfs v.img mnt -o "ctl=$dir/s,log=$dir/log,pidfile=$dir/pid" || fail "cannot mount"
head -c 4096 /dev/zero >mnt/f
timeout 60 "$locks" conform mnt/f || fail "csvfs: locks are not as they should be"

umount mnt
for i in $(seq 200); do
	[ -e pid ] || break
	sleep 0.05
done
fsck.csvfs -n v.img || fail "fsck finds something"
