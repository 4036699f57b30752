#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 600
# Conformance with POSIX and Linux on a mounted image: tests/posix has the checks. Then a volume that
# is filled up, and one that is mounted read-only; fsck after each.
# usage: t-posix.sh [BUILD [NAME...]]
#   REFERENCE=DIR  runs the checks there instead, on a file system of the kernel: what they expect is
#                  what Linux does
set -eu
build=$(cd "${1:-${CSVFS_BUILD:-build}}" && pwd)
[ $# = 0 ] || shift
PATH=$build:$build/csvfs:$build/tools:$build/posix:$PATH
if [ -n "${REFERENCE:-}" ]; then
	exec posix "$REFERENCE" "$@"
fi
dir=$(mktemp -d)
cd "$dir"
mkdir mnt

cleanup() {
	umount -l mnt 2>/dev/null || true
	[ ! -s pid ] || kill -9 "$(cat pid)" 2>/dev/null || true
	cd /
	rm -rf "$dir"
}
trap cleanup EXIT
failed=0
fail() {
	echo "FAILED: $*"
	tail -n 20 log 2>/dev/null || true
	failed=1
}
mount_it() { # mount_it [OPTIONS]
	timeout 30 csvfs v.img mnt -o "${1:-rw},ctl=$dir/s,log=$dir/log,pidfile=$dir/pid" || { fail "cannot mount"; exit 1; }
}
unmount() {
	umount mnt || fail "cannot unmount"
	for _ in $(seq 600); do
		[ -e pid ] || break
		sleep 0.05
	done
	[ ! -e pid ] || { fail "csvfs does not end"; exit 1; }
	fsck.csvfs -n v.img >out 2>&1 || fail "$1: not clean: $(cat out)"
}

mkfs.csvfs -q -s 1G v.img
mount_it
posix mnt "$@" || fail "conformance"
[ -z "$(ls mnt)" ] || fail "left: $(ls mnt | head)"
unmount "after the checks"

rm v.img
mkfs.csvfs -q -s 128M v.img
mount_it
posix --full mnt || fail "a full volume"
unmount "after it was full"

mount_it
posix --prepare mnt || fail "prepare"
unmount "prepared"
mount_it ro
posix --ro mnt || fail "read-only"
unmount "read-only"
exit $failed
