#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# -o ro: files are read and not written, and a journal is replayed as by any other mount; what cannot be written at all
# is refused at once, with the reason. Nobody waits.
# usage: t-ro.sh [BUILD]
. "${0%/*}/target.sh"
mkdir lower protected
refused() { # refused TEXT VOLUME [OPTION]: in one line
	local rc=0
	timeout 20 csvfs "$2" mnt -o "$opts${3:+,$3}" >out 2>&1 || rc=$?
	[ $rc = 32 ] && grep -qF -- "$1" out && [ "$(wc -l <out)" = 1 ] || fail "$2 $3: $rc, not 32 and '$1': $(cat out)"
	[ ! -e pid ] || fail "a csvfs that has refused is there"
}
reads_only() { # reads_only FILE TEXT
	[ "$(cat "mnt/$1")" = "$2" ] || fail "$1 is not '$2'"
	! touch mnt/new 2>/dev/null && ! rm "mnt/$1" 2>/dev/null && ! echo x 2>/dev/null >>"mnt/$1" || fail "ro, and it writes"
}
crash() { # it has been mounted; the file `last` was synced
	echo "$1" >mnt/last
	sync mnt/last
	power_off
	rm log
}
sound() { fsck.csvfs -n "$1" >out 2>&1 || fail "not clean: $(cat out)"; }

echo "# unmounted in order"
mkfs.csvfs -q -s 64M v.img
mount_it v.img
echo hello >mnt/a
unmount
mount_it v.img ro
reads_only a hello
unmount
sound v.img

echo "# not unmounted in order: the journal is replayed"
mount_it v.img
crash one
cp --sparse=always v.img dirty.img
mount_it v.img ro
grep -q ' replay: transactions' log || fail "nothing was replayed: that shows nothing"
reads_only last one
mount -o remount,rw mnt 2>/dev/null || "$build/csvfs/mount.csvfs" v.img mnt -o remount,rw || fail "cannot remount"
echo more >mnt/last || fail "remounted with rw, and nothing can be written"
unmount
sound v.img

echo "# write protected: refused, in order or not"
mv v.img dirty.img lower
mount --bind lower protected
mount -o remount,ro,bind protected
for i in v dirty; do
	for o in ro rw; do refused "protected/$i.img: " protected/$i.img $o; done
done
grep -q 'Read-only file system' out || fail "does not say why: $(cat out)"
mount_it lower/dirty.img ro
reads_only last one
unmount

echo "# features of a newer csvfs that allow reading only"
for p in sb sb2 last; do csvdb lower/v.img set $p rocompat 1; done
refused "only mount it with -o ro" lower/v.img
mount_it lower/v.img ro
reads_only last more
unmount
cp --sparse=always lower/v.img n.img
for p in sb sb2 last; do csvdb n.img set $p rocompat 0; done
mount_it n.img
crash two
for p in sb sb2 last; do csvdb n.img set $p rocompat 1; done
refused "made by a newer csvfs, and not unmounted in order" n.img ro
for p in sb sb2 last; do csvdb n.img set $p rocompat 0; done
mount_it n.img ro
reads_only last two
unmount
sound n.img

echo "# a LUN that is write protected"
cp --sparse=always lower/dirty.img lun.img
target_up
mkfs.csvfs -q -f $url
mount_it $url
crash three
tgt --op update --mode logicalunit --tid 1 --lun 1 --params readonly=1
for o in ro rw; do refused "write protected" $url $o; done
tgt --op update --mode logicalunit --tid 1 --lun 1 --params readonly=0
mount_it $url ro
reads_only last three
unmount
sound $url
echo ok
