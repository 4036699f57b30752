#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# csvfs on an image file: what it refuses and in which words; a mount from start to end; kill -9 and
# replay; csvctl.
# usage: t-mount.sh [BUILD]
. "${0%/*}/lib.sh"
mkdir mnt2
at_end() { [ ! -s pid2 ] || kill -9 "$(cat pid2)" 2>/dev/null || true; }
# refuses STATUS TEXT ARGUMENT...: csvfs ends with STATUS, says TEXT in one line, and mounts nothing
refuses() {
	local status=$1 text=$2 rc=0
	shift 2
	timeout 30 csvfs "$@" >out 2>&1 || rc=$?
	[ $rc = "$status" ] || fail "csvfs $*: exit status $rc, not $status: $(cat out)"
	grep -qF -- "$text" out || fail "csvfs $*: does not say '$text': $(cat out)"
	[ "$(wc -l <out)" = 1 ] || fail "csvfs $*: says more than a line: $(cat out)"
	! grep -q " $dir/mnt " /proc/mounts || fail "csvfs $*: something is mounted"
}

mkfs.csvfs -q -s 128M v.img

# ---- refused
refuses 1 "which volume" v.img
refuses 1 "No such file" nothere.img mnt
refuses 1 "mount point" v.img nothere
refuses 1 "not a directory" v.img v.img
refuses 1 "unknown option bogus" v.img mnt -o bogus
refuses 1 "port=7660x" v.img mnt -o port=7660x
refuses 1 "threads=2x" v.img mnt -o threads=2x
refuses 32 "not an image file" /dev/null mnt
truncate -s 0 e.img
refuses 32 "empty" e.img mnt
truncate -s 8M z.img
refuses 32 "not a csvfs volume" z.img mnt
head -c 100000 /dev/urandom >r.img
refuses 32 "not a csvfs volume" r.img mnt
cp --sparse=always v.img t.img
truncate -s 64M t.img
refuses 32 "truncated" t.img mnt
mkfs.csvfs -q -s 64M -C other c.img
refuses 32 "belongs to cluster other" c.img mnt
refuses 32 "no connection" iscsi://127.0.0.1:9/iqn.2026-11.x:y/1 mnt
refuses 32 "write iscsi://" iscsi://127.0.0.1:9/iqn.2026-11.x mnt
refuses 1 "host no-such-host.invalid" iscsi://no-such-host.invalid/iqn.2026-11.x:y/1 mnt
# a secret is nowhere to be seen
refuses 32 "no connection" "iscsi://joe%geheim@127.0.0.1:9/iqn.2026-11.x:y/1" mnt
! grep -q geheim out || fail "the secret is shown"

# ---- all three superblocks gone
cp --sparse=always v.img b.img
last=$(($(stat -c %s b.img) - 4096))
for at in 0 12288 $last; do
	printf '\377' | dd of=b.img bs=1 seek=$((at + 200)) conv=notrunc status=none
done
refuses 32 "superblock is damaged" b.img mnt

# ---- a mount from start to end
mount_it v.img loglevel=debug
# None of its threads waits for I/O when it needs memory (PF_MEMALLOC_NOIO), or it has no right to say so.
needs_no_io_for_memory() {
	local task
	! grep -q "no I/O flusher: Operation not permitted" log || return 0
	for task in /proc/"$(cat pid)"/task/*; do
		(($(sed 's/.*) //' "$task/stat" | cut -d' ' -f7) & 0x80000)) || fail "$task waits for I/O"
	done
}
needs_no_io_for_memory
grep -q " $dir/mnt fuse.csvfs " /proc/mounts || fail "not in /proc/mounts"
[ "$(stat -c %a s)" = 600 ] || fail "others may use the control socket"
refuses_second() {
	local rc=0
	timeout 30 csvfs v.img mnt2 -o "ctl=$dir/s2" >out 2>&1 || rc=$?
	[ $rc = 32 ] && grep -q "in use" out || fail "a second mount: $rc, $(cat out)"
}
refuses_second
later_counts() { # later_counts OPTIONS ro|rw
	cp --sparse=always v.img w.img
	timeout 30 csvfs w.img mnt2 -o "copied,$1,ctl=$dir/s2,pidfile=$dir/pid2" || fail "cannot mount with $1"
	grep -q " $dir/mnt2 fuse.csvfs $2," /proc/mounts || fail "$1: $(grep mnt2 /proc/mounts)"
	umount mnt2 || fail "cannot unmount"
	within 30 test ! -e pid2
	rm -f w.img
}
later_counts ro,rw rw
later_counts rw,ro ro
spares_what_is_no_socket() {
	local rc=0
	echo precious >precious
	cp --sparse=always v.img w.img
	timeout 30 csvfs w.img mnt2 -o "copied,ctl=$dir/precious" >out 2>&1 || rc=$?
	[ $rc = 32 ] && grep -q "is no socket" out || fail "a control socket that is a file: $rc, $(cat out)"
	[ "$(cat precious)" = precious ] || fail "the file is gone"
	rc=0
	timeout 30 csvfs w.img mnt2 -o "copied,ctl=$dir/nofolder/s" >out 2>&1 || rc=$?
	[ $rc = 32 ] && [ ! -e nofolder ] || fail "a control socket in no folder: $rc, $(cat out)"
	rm -f w.img
}
spares_what_is_no_socket
# Another daemon on this machine hangs: who asks for this mount point does not wait for that one.
waits_for_nobody_else() {
	cp --sparse=always v.img w.img
	timeout 30 csvfs w.img mnt2 -o "copied,ctl=$dir/s2,pidfile=$dir/pid2" || fail "cannot mount a copy"
	kill -STOP "$(cat pid2)"
	for where in "$dir/mnt" mnt/; do
		timeout 5 csvctl -s $where state >out 2>&1 && grep -q "$dir/mnt " out || fail "-s $where: $(cat out)"
	done
	kill -CONT "$(cat pid2)"
	umount mnt2
	within 30 test ! -e pid2
	rm w.img
}
waits_for_nobody_else
echo hello >mnt/a
csvctl -s s state >out || fail "csvctl state"
grep -q '^mode *direct' out || fail "the mode is not direct: $(cat out)"
csvctl -s s state --json >out
grep -q '"mode":"direct"' out || fail "no JSON: $(cat out)"
csvctl -s s pause >/dev/null
! timeout 1 cat mnt/a >/dev/null || [ -z "$(csvctl -s s state | grep '^mode *direct')" ] ||
	fail "still direct after pause"
csvctl -s s resume >/dev/null
[ "$(timeout 5 cat mnt/a)" = hello ] || fail "no I/O after resume"
rc=0
csvctl -s s move nobody >/dev/null 2>&1 || rc=$?
[ $rc = 1 ] || fail "move to nobody: $rc"
rc=0
csvctl -s nosocket state >/dev/null 2>&1 || rc=$?
[ $rc = 3 ] || fail "csvctl without a daemon: $rc"
unmount
[ ! -e s ] || fail "the socket is still there"
for link in /run/csvfs/*.sock; do
	[ "$(readlink "$link")" != "$dir/s" ] || fail "the link to the socket is still there"
done
clean "after umount"

# ---- power loss
mount_it
for i in $(seq 50); do echo "$i" >mnt/f$i; done
sync mnt/f50
power_off
mount_it
[ "$(cat mnt/f50)" = 50 ] || fail "what was synced is not there"
unmount
clean "after replay"

# ---- read-only
mount_it v.img ro
[ "$(cat mnt/a)" = hello ] || fail "cannot read"
! touch mnt/new 2>/dev/null || fail "ro, and yet a file was made"
unmount

# ---- SIGTERM unmounts; a dead mount has a message of its own
mount_it
kill "$(cat pid)"
gone
! grep -q " $dir/mnt " /proc/mounts || fail "still mounted after SIGTERM"
mount_it
kill -9 "$(cat pid)"
rm -f pid
rc=0
timeout 30 csvfs v.img mnt -o "$opts" >out 2>&1 || rc=$?
[ $rc = 1 ] && grep -q "umount -l" out || fail "over a dead mount: $rc, $(cat out)"
umount -l mnt

# ---- umount -l: the last close ends the mount, and the kernel does not tell of that close
mount_it
exec 7>mnt/lazy
echo kept >&7
umount -l mnt
exec 7>&-
within 3 ended # it waits for no file that was closed with the mount
mount_it
[ "$(cat mnt/lazy)" = kept ] || fail "what was written before the last close is gone"
unmount

# ---- -o sync: what was written is there, though nobody has called fsync
"$build/csvfs/csvfs" v.img mnt -o "sync,dirsync,strictatime,commit=300,$opts" 2>out || fail "cannot mount with sync: $(cat out)"
grep -q 'strictatime: not for csvfs' out || fail "strictatime is taken without a word"
grep " $dir/mnt " /proc/mounts | grep -q ',sync,dirsync,' || fail "sync is not in /proc/mounts"
truncate -s 64K mnt/synced
sync mnt/synced
# Within the file, so that no new size commits it, and no close does.
exec 9<>mnt/synced
echo synced >&9
power_off
exec 9>&- 2>/dev/null || true
mount_it
[ "$(head -c 6 mnt/synced)" = synced ] || fail "-o sync: lost by a crash"
unmount

# ---- what cannot be done is said before anything is mounted
says() { # TEXT OPTIONS
	local rc=0
	timeout 30 csvfs v.img mnt -o "$2" >out 2>&1 || rc=$?
	[ $rc = 1 ] || [ $rc = 32 ] || fail "$2: exit status $rc: $(cat out)"
	grep -qF -- "$1" out || fail "$2 does not say \"$1\": $(cat out)"
	! grep -q " $dir/mnt " /proc/mounts || fail "$2: mounted"
}
says "pidfile=$dir/nofolder/pid: No such file" "pidfile=$dir/nofolder/pid,ctl=$dir/s"
says "not an IP address" "addr=foo"
says "from 10ms to 300 seconds" "commit=0"
says "without -o remount it is mounted" remount,ro

# ---- the mount helper
"$build/csvfs/mount.csvfs" v.img mnt -o "rw,_netdev,x-systemd.after=a,$opts" || fail "mount.csvfs"
[ -e mnt/a ] || fail "mount.csvfs mounted something else"
# mount(8) gives the helper what /proc/mounts says of the mount, with what FUSE adds
remount() {
	"$build/csvfs/mount.csvfs" v.img mnt -o "$1,remount,$(awk -v m="$dir/mnt" '$2 == m {print $4}' /proc/mounts | sed 's/^r[wo],//')" ||
		fail "cannot remount with $1"
}
remount ro
! touch mnt/ro 2>/dev/null || fail "remounted with ro, and a file can be made"
remount rw
touch mnt/rw || fail "remounted with rw, and no file can be made"
unmount

# ---- an image that is cut while it is mounted does not grow again: errors, and the next look sees it
mkfs.csvfs -q -s 64M cut.img
mount_it cut.img
yes text | head -c 40M >mnt/long || fail "cannot fill cut.img"
sync mnt/long
truncate -s 20M cut.img
! timeout 30 cat mnt/long >/dev/null 2>&1 || fail "a read behind the end gives no error"
! timeout 30 dd if=/dev/zero of=mnt/long bs=1M count=40 conv=notrunc,fsync 2>/dev/null ||
	fail "a write behind the end gives no error"
unmount
[ "$(stat -c %s cut.img)" = 20971520 ] || fail "the image has grown again"
refuses 32 "truncated" cut.img mnt

# A disk under an image that takes longer than io_timeout is slow, and no lost path: what it was asked would be done twice.
mkfs.csvfs -q -s 64M slow.img
CSVFS_FAULT=delay=120 mount_it slow.img io_timeout=0.1
mkdir mnt/once || fail "mkdir on a slow disk"
mv mnt/once mnt/moved || fail "rename on a slow disk"
unmount
! grep 'path: lost' log || fail "a slow disk is taken for a lost path"
