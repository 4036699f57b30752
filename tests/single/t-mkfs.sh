#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# mkfs.csvfs: what it makes is clean; what it must not overwrite it does not; its errors are clear.
# usage: t-mkfs.sh [BUILD]
set -eu
build=$(cd "${1:-${CSVFS_BUILD:-build}}" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
PATH=$build:$PATH
fail() { echo "FAILED: $*"; exit 1; }
# refuses TEXT COMMAND...: fails with 1, and says TEXT
refuses() {
	local text=$1 rc=0
	shift
	"$@" >out 2>&1 || rc=$?
	[ $rc = 1 ] || fail "$*: exit status $rc, not 1: $(cat out)"
	grep -q -- "$text" out || fail "$*: does not say '$text': $(cat out)"
}

# every cluster size, small and large
for c in 4K 8K 64K 256K 1M; do
	for s in 16M 100M 3G 5T; do
		# the fixed areas grow with the number of clusters
		[ $c$s != 1M16M ] || continue
		rm -f v.img
		mkfs.csvfs -q -c $c -s $s v.img || fail "mkfs -c $c -s $s"
		fsck.csvfs -n v.img >out || fail "a new volume is not clean (-c $c -s $s): $(cat out)"
		csvdb v.img ls >out || fail "root cannot be listed"
		[ ! -s out ] || fail "the root is not empty: $(cat out)"
	done
done

# nobody reads what it says
mkfifo nobody
(exec <nobody) &
exec 3>nobody
wait
rm -f v.img
rc=0
mkfs.csvfs -s 64M v.img >&3 || rc=$?
[ $rc = 0 ] || fail "mkfs whose words nobody reads: $rc"
exec 3>&-
fsck.csvfs -n v.img >out || fail "a volume that was made while nobody read: $(cat out)"

# a large volume costs a few MiB and little time
rm -f v.img
SECONDS=0
mkfs.csvfs -q -s 15T v.img
[ $SECONDS -le 4 ] || fail "15 TiB took $SECONDS s"
used=$(($(stat -c %b v.img) * 512 / 1048576))
[ $used -le 64 ] || fail "15 TiB wrote $used MiB"
fsck.csvfs -n v.img >out || fail "15 TiB: $(cat out)"

# what was asked for stands in the superblock
rm -f v.img
uuid=01234567-89ab-4def-8123-456789abcdef
mkfs.csvfs -C alpha -L vms -U $uuid -c 16K -j 8M -s 64M v.img >out
grep -q "$uuid" out && grep -q alpha out && grep -q vms out || fail "summary: $(cat out)"
csvdb v.img path / | grep -qE '^mtime_ns .*\(20' || fail "the root directory has no times"
csvdb v.img sb >out
grep -qE "^uuid +$uuid" out || fail "uuid"
grep -qE '^cluster_bytes +16384' out || fail "cluster size"
grep -qE '^journal_blocks +2048' out || fail "journal"
grep -qE '^cluster_name +"alpha"' out || fail "cluster"
grep -qE '^label +"vms"' out || fail "label"

# an existing volume, and other things, are not overwritten
cp v.img before.img
refuses 'contains csvfs.*vms' mkfs.csvfs v.img
cmp -s v.img before.img || fail "a refused mkfs changed the volume"
# nor, with -f, by one of the same uuid: stale blocks would pass for its own
refuses "there has the uuid $uuid" mkfs.csvfs -f -U $uuid v.img
cmp -s v.img before.img || fail "a refused uuid changed the volume"
dd if=/dev/zero of=v.img bs=4096 count=4 conv=notrunc status=none
refuses "there has the uuid $uuid" mkfs.csvfs -f -U $uuid v.img
cp before.img v.img
mkfs.csvfs -q -f v.img || fail "-f"
cmp -s v.img before.img && fail "-f changed nothing"
truncate -s 64M ext.img
if command -v mke2fs >/dev/null; then
	mke2fs -q -t ext4 ext.img
	refuses 'contains ext4' mkfs.csvfs ext.img
	mkfs.csvfs -q --force ext.img || fail "--force over ext4"
fi
truncate -s 64M mbr.img
printf '\x80\x00\x02\x00\x83\x00\x03\x00\x00\x08\x00\x00\x00\xe8\x01\x00' | dd of=mbr.img bs=1 seek=446 conv=notrunc status=none
printf '\x55\xaa' | dd of=mbr.img bs=1 seek=510 conv=notrunc status=none
refuses 'contains dos' mkfs.csvfs mbr.img

# what was there is given back to a thin volume, unless -K keeps it
used_kib() { du -k full.img | cut -f1; }
head -c 32M /dev/urandom >full.img
mkfs.csvfs -q -K full.img || fail "-K"
[ "$(used_kib)" -ge 30000 ] || fail "-K: only $(used_kib) KiB are left of 32 MiB"
fsck.csvfs -n full.img >out || fail "over what was there: $(cat out)"
mkfs.csvfs -q -f full.img || fail "discarding"
if fallocate -p -o 0 -l 4096 v.img 2>out; then
	[ "$(used_kib)" -le 8192 ] || fail "not discarded: $(used_kib) KiB of 32 MiB are in use"
fi
mkfs.csvfs -q -f v.img

# a dry run makes nothing, and finds the same faults
rm -f new.img
mkfs.csvfs -N -s 1T new.img >out || fail "dry run, as mkfs.xfs has it"
[ ! -e new.img ] || fail "a dry run with -N made the image"
mkfs.csvfs -n -s 1T new.img >out || fail "dry run"
grep -q 'dry run' out && grep -q 'size=1 TiB' out || fail "dry run: $(cat out)"
[ ! -e new.img ] || fail "a dry run made a file"
refuses 'must be from 16 MiB' mkfs.csvfs -n -s 1M new.img

# errors leave nothing behind
refuses 'no such file' mkfs.csvfs new.img
refuses 'must be from 16 MiB' mkfs.csvfs -s 1M new.img
[ ! -e new.img ] || fail "a failed mkfs left a file"
refuses 'power of two' mkfs.csvfs -c 5000 -s 64M new.img
refuses 'no size; a number of bytes, or with K, M, G or T' mkfs.csvfs -s many new.img
refuses '-s 10X: no size' mkfs.csvfs -s 10X new.img
refuses '-s 1: the volume must be from 16 MiB to 256 TiB' mkfs.csvfs -s 1 new.img
refuses '-s 257T: the volume must be from 16 MiB to 256 TiB' mkfs.csvfs -s 257T new.img
[ ! -e new.img ] || fail "a wrong size left a file"
refuses 'no UUID' mkfs.csvfs -U 123 -s 64M new.img
refuses 'nil UUID' mkfs.csvfs -U 00000000-0000-0000-0000-000000000000 -s 64M new.img
refuses 'label has a control character (0x0a)' mkfs.csvfs -L "$(printf 'a\nb')" -s 64M new.img
refuses 'name has a control character (0x1b)' mkfs.csvfs -C "$(printf 'a\033b')" -s 64M new.img
refuses 'longer than 63' mkfs.csvfs -L "$(printf 'x%.0s' {1..64})" -s 64M new.img
refuses 'usage' mkfs.csvfs
refuses '' mkfs.csvfs -s 64M "$dir/no/such/dir.img"
refuses '' mkfs.csvfs iscsi://127.0.0.1:1/iqn.x/1

# a shorter image is made longer, a longer one is used in part
mkfs.csvfs -q -f -s 128M mbr.img
[ "$(stat -c %s mbr.img)" = 134217728 ] || fail "the image was not made longer"
mkfs.csvfs -q -f -s 64M mbr.img
fsck.csvfs -n mbr.img >out || fail "a volume in a part of its image: $(cat out)"
csvdb mbr.img sb | grep -qE '^volume_bytes +67108864' || fail "size in part"
echo ok
