#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# fsck.csvfs: exit codes, JSON, refusing what is in use, finding damage made with csvdb.
# usage: t-fsck.sh [BUILD]
set -eu
build=$(cd "${1:-${CSVFS_BUILD:-build}}" && pwd)
dir=$(mktemp -d)
lock=
trap '[ -z "$lock" ] || kill "$lock" 2>/dev/null; rm -rf "$dir"' EXIT
cd "$dir"
PATH=$build:$PATH
fail() { echo "FAILED: $*"; exit 1; }
# gives STATUS COMMAND...
gives() {
	local want=$1 rc=0
	shift
	"$@" >out 2>&1 || rc=$?
	[ $rc = "$want" ] || fail "$*: exit status $rc, not $want: $(cat out)"
}
says() { grep -q -- "$1" out || fail "does not say '$1': $(cat out)"; }

mkfs.csvfs -q -s 64M v.img
cp v.img good.img

gives 0 fsck.csvfs v.img
says clean
gives 0 fsck.csvfs -n -v v.img
says directories
gives 0 fsck.csvfs -p v.img
gives 0 fsck.csvfs -p -f v.img
gives 0 fsck.csvfs -y v.img
gives 0 fsck.csvfs --json v.img
says '"faults": 0'
if command -v python3 >/dev/null; then python3 -m json.tool <out >/dev/null || fail "no JSON"; fi
cmp -s v.img good.img || fail "checking a clean volume changed it"

gives 16 fsck.csvfs
gives 16 fsck.csvfs --nonsense v.img
gives 16 fsck.csvfs v.img v.img
gives 16 fsck.csvfs -n -y v.img
says 'only one of -n, -p (or -a) and -y'
gives 16 fsck.csvfs -y -p v.img
gives 16 fsck.csvfs -an v.img
gives 0 fsck.csvfs -n -n v.img
gives 0 fsck.csvfs -p -a v.img
gives 8 fsck.csvfs none.img
truncate -s 64M empty.img
gives 8 fsck.csvfs empty.img
says 'no csvfs volume'
head -c 1000 good.img >short.img
gives 8 fsck.csvfs short.img

# a truncated image is not a damaged one: it says what it is
head -c 50000000 good.img >cut.img
gives 4 fsck.csvfs cut.img
says superblock-truncated

# damage, one at a time: csvdb's place and field, and the name of the problem
damage() {
	local place=$1 field=$2 value=$3 problem=$4
	cp good.img v.img
	csvdb v.img set "$place" "$field" "$value" || fail "set $place $field $value"
	gives 4 fsck.csvfs -n v.img
	says "$problem"
	gives 4 fsck.csvfs --json v.img
	says "\"$problem\""
	if command -v python3 >/dev/null; then
		fsck.csvfs --json v.img 2>/dev/null | python3 -m json.tool >/dev/null || fail "no JSON"
	fi
}
root=$(csvdb v.img sb | awk '$1 == "root_ino" {print $2}')
block=$((root / 8)) slot=$((root % 8)) chunk=$((root / 8 / 256 * 256))
damage sb byte[3000] 1 reserved-not-zero
damage sb crc 1 superblock-primary
damage sb2 crc 1 superblock-copy
damage last crc 1 superblock-copy
damage summary:0 'free_clusters[0]' 3 summary-free-count
damage group:0 free_clusters 3 group-free-count
damage group:0 'used[0]' 0 group-fixed-area
damage group:0 'used[500]' 1 group-free-count
damage group:0 'used[4000]' 0 group-beyond-end
damage "$chunk" used_blocks 77 chunk-used-count
damage "$chunk" 'used[200]' 1 chunk-slots
damage reply:3 crc 7 header-crc
damage $block magic 17 header-magic
damage $block blkno 17 header-blkno
damage $block owner 17 header-owner
damage $block epoch 99 header-epoch
damage $block lsn 99999 header-lsn
damage $block "inode.nlink[$slot]" 5 inode-link-count
damage $block "inode.mode[$slot]" 0177777 inode-mode
damage $block "inode.parent[$slot]" 8 inode-parent
damage $block "inode.size[$slot]" 1 directory-count
damage sb root_ino 0 superblock-root

# with the first superblock gone, all else is still checked from the copy
cp good.img v.img
dd if=/dev/zero of=v.img bs=4096 count=1 conv=notrunc status=none
gives 4 fsck.csvfs v.img
says superblock-primary
grep -q '1 problem' out || fail "more than the superblock is said to be damaged: $(cat out)"

# both claims gone; one is enough
cp good.img v.img
dd if=/dev/zero of=v.img bs=4096 seek=1 count=2 conv=notrunc status=none
gives 4 fsck.csvfs v.img
says claim-missing

# what follows from the rest is repaired, and then all is as it was
repairs() {
	local place=$1 field=$2 value=$3
	cp good.img v.img
	csvdb v.img set "$place" "$field" "$value" || fail "set $place $field $value"
	gives 4 fsck.csvfs -n v.img
	says 'can repair'
	gives 1 fsck.csvfs -y v.img
	says 'clean now'
	gives 0 fsck.csvfs -n v.img
	csvdb v.img block "$place" 2>/dev/null | grep -vE '^(crc|lsn|epoch) ' >now
	csvdb good.img block "$place" 2>/dev/null | grep -vE '^(crc|lsn|epoch) ' >then
	cmp -s now then || fail "repair of $place $field: $(diff then now)"
}
repairs sb crc 1
repairs sb2 crc 1
repairs last crc 1
repairs sb2 uuid 01234567-89ab-4def-8123-456789abcdef
repairs summary:0 crc 1
repairs summary:0 'flags[0]' 0
repairs group:0 crc 1
repairs group:0 free_clusters 3
repairs group:0 'used[500]' 1
repairs group:0 'used[0]' 0
repairs group:0 'used[4000]' 0
repairs "$chunk" crc 1
repairs "$chunk" used_blocks 77
repairs "$chunk" 'slots[1]' 6
repairs reply:63 crc 1
repairs $block "inode.nlink[$slot]" 5
repairs $block "inode.size[$slot]" 1
cp good.img v.img
dd if=/dev/zero of=v.img bs=4096 count=3 conv=notrunc status=none
gives 1 fsck.csvfs -y v.img
gives 0 fsck.csvfs -n v.img
csvdb v.img claim >out
says 'state  *0'

# not unmounted in order: -p replays, once
cp good.img v.img
csvdb v.img set claim state 1
csvdb v.img set claim2 state 1
gives 0 fsck.csvfs -n v.img
gives 1 fsck.csvfs -p v.img
says 'replayed'
gives 0 fsck.csvfs -p v.img
gives 0 fsck.csvfs -n v.img

# a copy that was cut short: -p does not call it clean
cp good.img v.img
truncate -s -1 v.img
gives 4 fsck.csvfs -n v.img
gives 4 fsck.csvfs -p v.img
says 'superblock-truncated'

# what nobody writes to is not waited for
mkfifo fifo
gives 8 fsck.csvfs -n fifo
says 'not an image file'

# an older, larger volume was there before, and its superblock still is at the end of the device (mkfs takes it away;
# a program that copies an image does not): it is not believed when those of this volume are lost
mkfs.csvfs -q -s 128M big.img
head -c 4096 /dev/zero | tr '\0' x | dd of=big.img bs=4096 seek=5000 conv=notrunc status=none
tail -c 4096 big.img >end
mkfs.csvfs -q -K -f -s 32M big.img
[ "$(dd if=big.img bs=4096 skip=5000 count=1 status=none | tr -d x | wc -c)" = 0 ] || fail "-K discards"
[ "$(tail -c 4096 big.img | tr -d '\0' | wc -c)" = 0 ] || fail "mkfs leaves the superblock of an older volume at the end"
dd if=end of=big.img bs=4096 seek=32767 conv=notrunc status=none
gives 0 fsck.csvfs -n big.img
dd if=/dev/zero of=big.img bs=4096 count=1 conv=notrunc status=none
gives 1 fsck.csvfs -y big.img
for n in 0 3; do dd if=/dev/zero of=big.img bs=4096 seek=$n count=1 conv=notrunc status=none; done
cp big.img damaged.img
gives 4 fsck.csvfs -y big.img
says 'superblock-tie: the only valid one is not of the volume that was claimed last'
cmp -s big.img damaged.img || fail "-y repaired a volume for a superblock that is not its own"

# JSON is JSON: of a volume that -p does not read, and of one whose name is no UTF-8
if command -v python3 >/dev/null; then
	cp good.img v.img
	gives 0 fsck.csvfs -p --json v.img
	python3 -m json.tool <out >/dev/null || fail "no JSON from -p: $(cat out)"
	says '"status": 0'
	name=$(printf 'a\xff\xc3\xa9\xed\xa0\x80"\\.img')
	cp good.img "$name"
	gives 0 fsck.csvfs --json "$name"
	python3 -c 'import json, sys; sys.exit(json.load(sys.stdin)["volume"] != "a\ufffd\u00e9\ufffd\ufffd\ufffd\"\\.img")' <out ||
		fail "no JSON: $(cat out)"
	rm "$name"
fi

# less memory than it asks for first (AddressSanitizer asks for terabytes itself)
if ! grep -q __asan_init "$(command -v fsck.csvfs)"; then
	(ulimit -v 1000000 && fsck.csvfs -n good.img) >out 2>&1 || fail "with little address space: $(cat out)"
fi

# a mode that is no mode: the directory is one by its tree
cp good.img v.img
csvdb v.img set $block "inode.mode[$slot]" 0177777
cp v.img damaged.img
gives 4 fsck.csvfs -p -f v.img
says '-y can repair'
cmp -s v.img damaged.img || fail "-p repaired what is not safe"
gives 1 fsck.csvfs -y v.img
gives 0 fsck.csvfs -n v.img
csvdb v.img path / >out
says "$root"

# -C: lines for a program, in the order of the passes, the last one of each at its end; or a bar
fsck.csvfs -n -C 3 v.img 3>lines >out || fail "-C 3: $(cat out)"
[ "$(cut -d' ' -f1 lines | uniq | tr -d '\n')" = 1234567 ] || fail "passes: $(cat lines)"
! grep -vE '^[1-7] [0-9]+ [1-9][0-9]* v.img$' lines || fail "lines of progress: $(cat lines)"
awk '$2 > $3 {exit 1}' lines || fail "more is done than there is: $(cat lines)"
gives 0 fsck.csvfs -n -C0 v.img
says 'pass 4 of 7: '
gives 16 fsck.csvfs -n -C 77 v.img
gives 16 fsck.csvfs -n -C x v.img

# cancelled: while it waits for who reads its progress
mkfifo full
exec 5<>full
head -c 65536 /dev/zero >&5
fsck.csvfs -y -C 5 v.img >out 2>&1 &
sleep 0.3
kill -TERM $!
rc=0
wait $! || rc=$?
[ $rc = 32 ] || fail "cancelled: exit status $rc: $(cat out)"
exec 5>&-

# progress, on a terminal only
if command -v script >/dev/null; then
	script -qec "fsck.csvfs -n v.img" /dev/null >out 2>&1 || fail "on a terminal: $(cat out)"
	says 'pass 4 of 7'
fi

# an image that somebody holds is refused; -n -f looks all the same
if command -v python3 >/dev/null; then
	cp good.img v.img
	python3 - <<'PY' &
import fcntl, struct, time
f = open("v.img", "r+b")
fcntl.fcntl(f, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))  # F_OFD_SETLK
open("locked", "w").close()
time.sleep(60)
PY
	lock=$!
	for _ in $(seq 100); do [ -e locked ] && break; sleep 0.05; done
	gives 8 fsck.csvfs -n v.img
	says 'in use'
	gives 8 fsck.csvfs -p v.img
	gives 0 fsck.csvfs -n -f v.img
	rc=0
	mkfs.csvfs -f v.img >out 2>&1 || rc=$?
	[ $rc = 1 ] || fail "mkfs -f of an image in use: $rc"
	kill $lock
	wait $lock 2>/dev/null || true
	lock=
	cmp -s v.img good.img || fail "an image in use was changed"
fi
echo ok
