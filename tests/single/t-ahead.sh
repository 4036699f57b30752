#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 120
# Space allocated ahead of writers that are idle is no reason for another's ENOSPC: it is taken back first. What they wrote is
# whole, and they can go on.
# usage: t-ahead.sh [BUILD]
. "${0%/*}/lib.sh"
at_end() { exec 11>&- 12>&- 13>&- 14>&-; }
ahead_of() { # KiB that the file has and did not write
	local blocks size
	read -r blocks size < <(stat --cached=never -c '%b %s' "$1")
	echo $((blocks / 2 - size / 1024))
}

mkfs.csvfs -q -s 1G v.img
mount_it
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
unmount
clean
echo "ok: $idle KiB were ahead, and are data now; $left KiB left"
