#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 120
# Space allocated ahead of writers that are idle is no reason for another's ENOSPC: it is taken back first. What they wrote is
# whole, and they can go on.
# usage: t-ahead.sh [BUILD]
set -eu
build=$(cd "${1:-${CSVFS_BUILD:-build}}" && pwd)
dir=$(mktemp -d)
PATH=$build:$build/csvfs:$build/tools:$PATH
cd "$dir"
mkdir mnt

cleanup() {
	exec 11>&- 12>&- 13>&- 14>&-
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
ahead_of() { # KiB that the file has and did not write
	local blocks size
	read -r blocks size < <(stat --cached=never -c '%b %s' "$1")
	echo $((blocks / 2 - size / 1024))
}

mkfs.csvfs -q -s 1G v.img
timeout 60 csvfs v.img mnt -o "ctl=$dir/ctl,log=$dir/log,pidfile=$dir/pid" || fail "cannot mount"
head -c 8M /dev/urandom >data
exec 11>mnt/11 12>mnt/12 13>mnt/13 14>mnt/14
idle=0
for fd in 11 12 13 14; do
	dd if=data bs=64k status=none >&$fd
	idle=$((idle + $(ahead_of mnt/$fd)))
done
[ $idle -gt 8192 ] || fail "only $idle KiB were allocated ahead: that shows nothing"
dd if=/dev/zero of=mnt/all bs=1M status=none 2>said && fail "the volume does not get full"
grep -q 'No space left' said || fail "$(cat said)"
for fd in 11 12 13 14; do
	[ "$(ahead_of mnt/$fd)" = 0 ] || fail "$(ahead_of mnt/$fd) KiB are still ahead of file $fd"
	cmp data mnt/$fd || fail "file $fd is not what was written"
done
left=$(df -k --output=avail mnt | tail -n 1)
[ "$left" -le 1024 ] || fail "no space for a writer, and $left KiB are free"
rm mnt/all
for fd in 11 12 13 14; do
	dd if=data bs=64k status=none >&$fd || fail "file $fd cannot grow"
	cat data data | cmp - mnt/$fd || fail "file $fd is not what was written"
done
exec 11>&- 12>&- 13>&- 14>&-
umount mnt
for _ in $(seq 600); do
	[ -e pid ] || break
	sleep 0.05
done
fsck.csvfs -n v.img || fail "fsck finds something"
echo "ok: $idle KiB were ahead, and are data now; $left KiB left"
