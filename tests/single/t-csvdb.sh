#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# csvdb: shows what is there, sets what it is told to, survives damage.
# usage: t-csvdb.sh [BUILD]
. "${0%/*}/lib.sh"
mkfs.csvfs -q -L one -s 64M v.img
root=$(csvdb v.img sb | awk '$1 == "root_ino" {print $2}')

csvdb v.img sb | grep -q 'superblock, checksum right' || fail sb
csvdb v.img block 0 | grep -qE '^label +"one"' || fail "block 0"
csvdb v.img inode "$root" | grep -qE '^type +directory' || fail inode
csvdb v.img path / | grep -qE "^ino +$root" || fail path
csvdb v.img claim | grep -qE '^epoch' || fail claim
csvdb v.img journal | grep -q '^head 0' || fail journal
csvdb v.img group 0 | grep -q '^free_clusters' || fail group

# every value type can be set, and is read back
set_and_see() {
	csvdb v.img set "$1" "$2" "$3" || fail "set $*"
	csvdb v.img block "$1" | grep -qE "^$4" || fail "set $*: $(csvdb v.img block "$1" | grep -F "${2%%[*}")"
}
set_and_see sb label "with space" 'label +"with space"'
set_and_see sb uuid 01234567-89ab-4def-8123-456789abcdef 'uuid +01234567-89ab-4def-8123-456789abcdef'
set_and_see sb dir_hash_key 00112233445566778899aabbccddeeff 'dir_hash_key +00112233445566778899aabbccddeeff'
set_and_see sb compat 0xff 'compat +0xff'
set_and_see group:0 'used[500]' 1 'used .*500'
csvdb v.img block sb | grep -q 'checksum right' || fail "set did not seal the block"
csvdb --no-seal v.img set sb version 9
csvdb v.img block sb 2>/dev/null | grep -q 'checksum WRONG' || fail "--no-seal sealed the block"

# errors
no() { if csvdb "$@" >out 2>&1; then fail "csvdb $* succeeded"; fi; }
no
no v.img
no v.img nonsense
no v.img block
no v.img block 99999999
no v.img block -1
no v.img inode 8
no v.img inode 7
no v.img path /none
no v.img set sb nonsense 1
no v.img set sb version many
no v.img set sb version 4294967296
no v.img set sb 'version[1]' 1
no v.img set group:0 'used[4096]' 1
# and what would be right is said
no v.img set sb dir_hash_key 123
grep -q 'two hexadecimal digits for each, at most 16 bytes' out || fail "dir_hash_key: $(cat out)"
no v.img set sb uuid 0
grep -q '32 hexadecimal digits' out || fail "uuid: $(cat out)"
no v.img set sb version 4294967296
grep -q 'a number of 32 bits' out || fail "version: $(cat out)"
no none.img sb

# what is no csvfs volume is said to be none, whatever is asked for
head -c 1M /dev/urandom >other.img
for c in sb claim journal ls "block 5" "group 0" "path /"; do
	# shellcheck disable=SC2086
	no other.img $c
	grep -q 'other.img: this is no csvfs volume' out || fail "csvdb other.img $c: $(cat out)"
done
# a damaged one is looked at by its copies, the last too
cp v.img cut.img
dd if=/dev/zero of=cut.img bs=4096 count=1 conv=notrunc status=none
csvdb cut.img ls >out 2>&1 || fail "csvdb without a superblock: $(cat out)"
grep -q 'the superblock is damaged' out || fail "csvdb says nothing of a lost superblock: $(cat out)"
csvdb cut.img set sb2 version 0 2>/dev/null
csvdb --no-seal cut.img set sb2 crc 1 2>/dev/null
csvdb cut.img ls >out 2>&1 || fail "csvdb with the last copy only: $(cat out)"

# names are shown as people wrote them, but for what a terminal would obey
mkfs.csvfs -q -s 64M n.img
mount_it n.img
touch "mnt/$(printf 'a\033]0;b\007\\c')" "$(printf 'mnt/gr\303\274n')"
unmount
csvdb n.img ls >out
grep -qF 'a\x1b]0;b\x07\x5cc' out && grep -qF "$(printf 'gr\303\274n')" out || fail "csvdb ls: $(cat out)"
! grep -q "$(printf '\033')" out || fail "csvdb ls: an escape sequence"

# whatever is on it, nothing crashes
for i in $(seq 60); do
	head -c 65536 /dev/urandom | dd of=v.img bs=4096 seek=$((i * 16)) conv=notrunc status=none
	for c in sb claim journal "group 0" "ls" "inode $root" "path /a" "block $((i * 16))" "where $root 0"; do
		rc=0
		# shellcheck disable=SC2086
		timeout 10 csvdb v.img $c >out 2>&1 || rc=$?
		[ $rc -le 1 ] || fail "csvdb $c: exit status $rc"
	done
done
echo ok
