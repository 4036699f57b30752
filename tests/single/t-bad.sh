#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 300
# A volume with a flipped byte, in each type of block; and what else csvfs must refuse. Each time one
# clear line, nothing changed on the volume, no crash and no hang; or, where only a part is
# concerned, an error for that part, and all else works.
# usage: t-bad.sh [BUILD]
. "${0%/*}/lib.sh"
mkdir mnt2
name=setup
fail() {
	echo "FAILED: $name: $*"
	tail -n 20 log 2>/dev/null || true
	exit 1
}
# refused STATUS TEXT VOLUME MORE...: VOLUME is not mounted, in one line with TEXT, and is unchanged
refused() {
	local status=$1 text=$2 rc=0 before
	shift 2
	[ ! -f "$1" ] || before=$(sha256sum <"$1")
	timeout 60 csvfs "$@" >out 2>&1 || rc=$?
	[ $rc = "$status" ] || fail "exit status $rc, not $status: $(cat out)"
	grep -qF -- "$text" out || fail "does not say '$text': $(cat out)"
	[ "$(wc -l <out)" = 1 ] || fail "says more than one line: $(cat out)"
	[ ! -f "$1" ] || [ "$before" = "$(sha256sum <"$1")" ] || fail "the image was changed"
	! grep -q " $dir/mnt2 " /proc/mounts || fail "something is mounted"
	printf '%-26s refused: %s\n' "$name" "$(sed "s#$dir/##g" out | cut -c1-110)"
}

# ---- a volume with each type of block
mkfs.csvfs -q -s 64M good.img
mount_it good.img
mkdir mnt/big mnt/small
for i in $(seq 300); do echo "$i" >"mnt/big/a-name-that-takes-some-room-$i"; done
echo text >mnt/file
ln -s "$(head -c 1000 /dev/zero | tr '\0' x)" mnt/small/link
echo text >mnt/small/attr
setfattr -n user.a -v "$(head -c 3000 /dev/zero | tr '\0' y)" mnt/small/attr
for i in $(seq 0 2 160); do dd if=/dev/zero of=mnt/frag bs=64k seek="$i" count=1 conv=notrunc status=none; done
# which blocks of inodes each of the things to look at needs
things="file big/a-name-that-takes-some-room-7 small/attr frag small/link getfattr big"
for p in file big/a-name-that-takes-some-room-7 small/attr frag small/link big small .; do
	echo "$p $(($(stat -c %i "mnt/$p") / 8))"
done >inodes
ino_of() { stat -c %i "mnt/$1"; }
frag=$(ino_of frag) attr=$(ino_of small/attr) bigdir=$(ino_of big)
unmount
fsck.csvfs -n good.img >out || fail "$(cat out)"
at_types() { # at_types MAGIC: blocks behind the fixed areas that have it
	LC_ALL=C grep -abo "$1" good.img | awk -F: -v s="$data" '$1 % 4096 == 0 && $1 / 4096 >= s {print $1 / 4096}'
}
data=$(csvdb good.img sb | awk '$1 == "data_start" {print $2}')
trees_of() { csvdb good.img inode "$1" | awk '$2 == "block" {print $3}'; }
place_of() { csvdb good.img block "$1" | awk '$1 == "block" {print $2; exit}'; }
xattr_blocks=$(at_types CSvX)
chunks=$(at_types CSvC | while read -r b; do csvdb good.img block "$b" >b.txt 2>/dev/null && grep -q right b.txt && echo "$b"; done || true)

flip() { # flip BLOCK [BYTE]: of v.img
	local at=$(($1 * 4096 + ${2:-300})) was
	was=$(od -An -tu1 -j $at -N 1 v.img)
	printf '%b' "\\0$(printf %o $((was ^ 255)))" | dd of=v.img bs=1 seek=$at conv=notrunc status=none
}
flipped() { # flipped NAME BLOCK...
	local b
	name=$1
	shift
	cp --sparse=always good.img v.img
	for b; do flip "$(place_of "$b")"; done
	rm -f log
}
needs() { # needs BLOCK: the things that cannot do without this block of inodes
	local t p
	for t in $things; do
		p=$t
		[ "$t" != getfattr ] || p=small/attr
		while :; do
			if grep -qxF "$p $1" inodes; then
				echo "$t"
				break
			fi
			[ "$p" != . ] || break
			p=$(dirname "$p")
		done
	done
}
look_at() {
	case $1 in
	getfattr) getfattr -n user.a mnt/small/attr ;;
	small/link) readlink -v mnt/small/link ;;
	big) ls mnt/big ;;
	*) cat "mnt/$1" ;;
	esac
}
export -f look_at
# goes_on FINDING [BAD...]: it is mounted; of the things just BAD are in error; whatever else is asked
# of csvfs ends, and csvfs lives. fsck then says FINDING, or nothing if it is "clean".
goes_on() {
	local finding=$1 t bad rc
	shift
	mount_it v.img
	for t in $things; do
		rc=0 bad=0
		timeout 20 bash -c "look_at $t" >/dev/null 2>err || rc=$?
		[[ " $* " != *" $t "* ]] || bad=1
		[ $rc != 124 ] || fail "$t hangs"
		[ $((rc != 0)) = $bad ] || fail "$t: status $rc, $(cat err)"
		[ $rc = 0 ] || grep -qE 'Structure needs cleaning|Input/output' err || fail "$t: $(cat err)"
	done
	# changes may fail now, but must end
	rc=0
	timeout 20 sh -c 'echo new >mnt/new && sync mnt/new && rm mnt/new && mkdir mnt/n; rm -rf mnt/big; rm -f mnt/frag' \
		>/dev/null 2>&1 || rc=$?
	[ $rc != 124 ] || fail "changes hang"
	kill -0 "$(cat pid)" || fail "csvfs is gone"
	! grep -qiE 'assert|signal [0-9]' log || fail "csvfs crashed"
	unmount
	rc=0
	timeout 60 fsck.csvfs -n v.img >out 2>&1 || rc=$?
	if [ "$finding" = clean ]; then
		[ $rc = 0 ] || fail "fsck: $rc $(cat out)"
	else
		[ $rc = 4 ] && grep -q "$finding" out || fail "fsck: $rc, not 4 and $finding: $(cat out)"
	fi
	bad=${*:-nothing}
	[ "$bad" != "$things" ] || bad=everything
	printf '%-26s mounted, in error: %s; fsck: %s\n' "$name" "$bad" "$finding"
}
# shellcheck disable=SC2086
{
	flipped superblock sb
	goes_on clean
	flipped "superblock's copy" sb2
	goes_on clean
	flipped "all superblocks" sb sb2 last
	refused 32 "superblock is damaged" v.img mnt2
	flipped claim claim
	goes_on clean
	flipped "other claim" claim2
	goes_on clean
	flipped "both claims" claim claim2
	refused 32 "neither claim block is valid" v.img mnt2
	flipped "reply cache" reply:0
	refused 32 "header-crc: block" v.img mnt2
	flipped summary summary:0
	refused 32 "header-crc: block" v.img mnt2
	flipped "journal head" journal:0
	goes_on clean
	flipped "other journal head" journal:1
	goes_on clean
	flipped "both journal heads" journal:0 journal:1
	refused 32 "journal-head" v.img mnt2
	flipped group group:0
	goes_on header-crc $things
	for b in $chunks; do
		if csvdb good.img block "$b" | grep -qE '^is_inode +1'; then
			flipped "chunk of inodes" "$b"
			goes_on header-crc $things
		else
			flipped "chunk of metadata" "$b"
			goes_on header-crc
		fi
	done
	for b in $(cut -d' ' -f2 inodes | sort -u); do
		flipped "inodes, block $b" "$b"
		goes_on header-crc $(needs "$b")
	done
	flipped "trees of a directory" $(trees_of "$bigdir")
	goes_on header-crc big/a-name-that-takes-some-room-7 big
	flipped "tree of extents" $(trees_of "$frag")
	goes_on header-crc frag
	flipped "tree of xattrs" "$(csvdb good.img inode "$attr" | awk '$1 == "xattr_root" {print $2}')"
	goes_on header-crc getfattr
	for b in $xattr_blocks; do
		flipped "long value" "$b"
		if csvdb good.img block "$b" | grep -qE "^owner +$attr$"; then
			name="value of an xattr"
			goes_on header-crc getfattr
		else
			name="text of a symlink"
			goes_on header-crc small/link
		fi
	done
}

# ---- the journal of a volume that was not unmounted in order
name="journal record"
cp --sparse=always good.img dirty.img
mount_it dirty.img
for i in $(seq 30); do echo "$i" >"mnt/later-$i"; done
sync mnt/later-30
kill -9 "$(cat pid)"
umount -l mnt
rm -f pid
cp --sparse=always dirty.img good.img
# the record that replay begins with; what follows it can then not be reached
tail_at=$(csvdb good.img journal | awk '$1 == "head" && $4 > best {best = $4; for (i = 1; i <= NF; i++) if ($i == "at") at = $(i + 1)} END {print at + 0}')
for part in 0 1; do # its head, an image in it
	name="journal record, block $part"
	flipped "$name" "journal:$((2 + tail_at + part))"
	rc=0
	timeout 60 csvfs v.img mnt -o "$opts" >out 2>&1 || rc=$?
	case $rc in
	0)
		# it looks like a record that was being written when the power went
		[ "$(timeout 20 cat mnt/file)" = text ] || fail "an older file is gone"
		unmount
		timeout 60 fsck.csvfs -n v.img >out || fail "fsck: $(cat out)"
		printf '%-26s mounted, as it was before that record; fsck: clean\n' "$name"
		;;
	32)
		grep -qE 'damaged.*journal' out || fail "does not say what is wrong: $(cat out)"
		[ "$(wc -l <out)" = 1 ] || fail "says more than one line: $(cat out)"
		printf '%-26s refused: %s\n' "$name" "$(sed "s#$dir/##g" out | cut -c1-110)"
		;;
	*) fail "exit status $rc: $(cat out)" ;;
	esac
done

# Damage that shows only after the replay: the mount must not wait for what never comes. A block that is in the
# journal, too, is made whole by it (the first of the replies: what the mount had executed).
for what in reply:0 summary:0 reply:9 "summary:0 reply:9"; do
	name="dirty, and $what"
	# shellcheck disable=SC2086
	flipped "$name" $what
	rc=0
	timeout 60 csvfs v.img mnt -o "$opts" >out 2>&1 || rc=$?
	case $rc in
	0)
		[ "$(timeout 20 cat mnt/later-30)" = 30 ] || fail "a synced file is gone"
		unmount
		timeout 60 fsck.csvfs -n v.img >out || fail "fsck: $(cat out)"
		printf '%-26s mounted, made whole by the journal\n' "$name"
		;;
	32)
		grep -qE 'header-crc.*fsck.csvfs' out || fail "does not say what is wrong: $(cat out)"
		[ "$(wc -l <out)" = 1 ] || fail "says more than one line: $(cat out)"
		printf '%-26s refused: %s\n' "$name" "$(sed "s#$dir/##g" out | cut -c1-110)"
		refused_after_replay=1
		;;
	*) fail "exit status $rc: $(cat out)" ;;
	esac
done
[ -n "${refused_after_replay:-}" ] || fail "no damage was left by the journal"

# ---- no volume, not this one, not now
name="mounted already"
cp --sparse=always dirty.img v.img
mount_it v.img
rc=0
timeout 60 csvfs v.img mnt2 -o "ctl=$dir/s2" >out 2>&1 || rc=$?
[ $rc = 32 ] && grep -q "in use by another csvfs" out && [ "$(wc -l <out)" = 1 ] || fail "$rc $(cat out)"
printf '%-26s refused: %s\n' "$name" "$(sed "s#$dir/##g" out)"
for tool in "mkfs.csvfs -f v.img" "fsck.csvfs -y v.img" "csvdb v.img set sb version 9"; do
	! timeout 60 $tool >out 2>&1 || fail "$tool works on a mounted image"
	grep -q "in use" out || fail "$tool: $(cat out)"
done
[ "$(cat mnt/later-30)" = 30 ] || fail "the refused mount has harmed the first"
unmount
fsck.csvfs -n v.img >out || fail "fsck: $(cat out)"
name="truncated image"
cp --sparse=always v.img t.img
truncate -s 50M t.img
refused 32 "truncated" t.img mnt2
truncate -s 6000 t.img
refused 32 "truncated" t.img mnt2
name="not a csvfs volume"
head -c 3000000 /dev/urandom >r.img
refused 32 "not a csvfs volume" r.img mnt2
truncate -s 20M z.img
refused 32 "not a csvfs volume" z.img mnt2
name="newer format"
cp --sparse=always v.img n.img
for p in sb sb2 last; do csvdb n.img set $p version 9; done
refused 32 "newer csvfs" n.img mnt2
name="wrong option"
refused 1 "unknown option nocluter" v.img mnt2 -o nocluter
refused 1 "io_timeout=soon" v.img mnt2 -o io_timeout=soon
refused 1 "cache=1K" v.img mnt2 -o cache=1K
name="no mount point"
refused 1 "mount point nothere: No such file" v.img nothere
name="no such image"
refused 1 "No such file" nothere.img mnt2
name="wrong URL"
refused 32 "write iscsi://" iscsi://127.0.0.1/iqn.2026-11.x:y mnt2
refused 1 "is an image file or iscsi://" nfs://127.0.0.1/x mnt2
refused 32 "no connection" iscsi://127.0.0.1:9/iqn.2026-11.x:y/1 mnt2
name="not in the cluster"
rm -f c.img
mkfs.csvfs -q -s 64M -C other c.img
refused 32 "belongs to cluster other, " c.img mnt2
echo ok
