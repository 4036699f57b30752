#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# umount.fuse.csvfs, which umount(8) calls: it comes back when the daemon has left, not before; it does not wait for what does
# not happen (a file that is open, a bind mount, -l), and not for ever for a daemon that hangs.
# usage: t-umount.sh [BUILD]
. "${0%/*}/lib.sh"
helper() { # as libmount calls it: the options behind the mount point
	rc=0
	timeout 100 umount.fuse.csvfs "$@" -t fuse.csvfs >out 2>&1 || rc=$?
}
at_end() {
	[ -z "${stopped:-}" ] || kill -CONT "$stopped" 2>/dev/null || true
}
took() { awk -v a="$since" -v b="$EPOCHREALTIME" 'BEGIN {print int(b - a)}'; }
mkfs.csvfs -q -s 64M v.img

mount_it
for i in {1..200}; do echo "$i" >mnt/$i; done
helper "$dir/mnt"
[ $rc = 0 ] && [ ! -s out ] || fail "status $rc: $(cat out)"
[ ! -e pid ] || fail "it came back while the daemon is there"
clean

# in use
mount_it
exec 5<mnt/1
helper "$dir/mnt"
[ $rc = 32 ] && grep -q "$dir/mnt: target is busy" out || fail "in use: status $rc: $(cat out)"
helper "$dir/mnt" -r
[ $rc = 0 ] && grep -q "read-only now" out || fail "in use, -r: status $rc: $(cat out)"
! touch mnt/new 2>/dev/null || fail "-r: it can be written"
# taken away all the same: nobody waits for who has it open
since=$EPOCHREALTIME
helper "$dir/mnt" -l
[ $rc = 0 ] && [ "$(took)" -lt 3 ] || fail "-l: status $rc after $(took) s: $(cat out)"
[ -e pid ] || fail "-l: the daemon does not wait for who has a file open"
exec 5<&-
gone
clean

# mounted elsewhere, too
mount_it
mkdir bind
mount --bind mnt bind
since=$EPOCHREALTIME
helper "$dir/mnt"
[ $rc = 0 ] && grep -q "still mounted elsewhere" out || fail "a bind mount is left: status $rc: $(cat out)"
[ "$(took)" -lt 10 ] || fail "a bind mount is left: $(took) s"
[ "$(cat bind/7)" = 7 ] || fail "the bind mount is gone"
helper "$dir/bind" # which daemon that is is not known by the mount point
[ $rc = 0 ] || fail "the last one: status $rc: $(cat out)"
gone
clean

# what is no csvfs, and nothing
helper "$dir/mnt"
[ $rc = 32 ] && grep -q "not mounted" out || fail "not mounted: status $rc: $(cat out)"
helper "$dir/nothere"
[ $rc = 32 ] || fail "no such folder: status $rc: $(cat out)"
rc=0
umount.fuse.csvfs >out 2>&1 || rc=$?
[ $rc = 1 ] && grep -q usage out || fail "no argument: status $rc: $(cat out)"

# a daemon that was killed: its mount is there, and it is not
mount_it
kill -9 "$(cat pid)"
helper "$dir/mnt"
[ $rc = 0 ] || fail "a daemon that was killed: status $rc: $(cat out)"
! grep -q " $dir/mnt " /proc/mounts || fail "a daemon that was killed: still mounted"
rm -f pid
# one that hangs, and goes on
mount_it
stopped=$(cat pid)
kill -STOP "$stopped"
{ sleep 4 && kill -CONT "$stopped"; } &
helper "$dir/mnt"
wait $!
stopped=
[ $rc = 0 ] && [ ! -e pid ] || fail "a daemon that hangs: status $rc: $(cat out)"
clean
echo ok
