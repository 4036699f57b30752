#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Each problem of problems.def: made with csvdb, found by name, repaired by `fsck.csvfs -y` (exit status 1),
# and then `fsck.csvfs -n` finds nothing. What cannot be repaired says so and stays as it is.
# timeout: 300
# usage: t-problems.sh [BUILD]
set -eu
build=$(cd "${1:-${CSVFS_BUILD:-build}}" && pwd)
src=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
PATH=$build:$PATH
fail() { echo "FAILED: $*"; exit 1; }

CSVFS_IMAGE=$dir/good.img "$build/unit/test_check_repair" >out 2>&1 || fail "no image: $(cat out)"
done=" medium-error check-memory " # by unit tests: an image has no bad blocks, and the memory is large

# damages CODE [PLACE FIELD VALUE]... : on v.img, which is a copy of $from
from=good.img
damages() {
	local code=$1
	shift
	cp --sparse=always $from v.img
	while [ $# -gt 0 ]; do
		csvdb v.img set "$1" "$2" "$3" >out 2>&1 || fail "$code: set $1 $2 $3: $(cat out)"
		shift 3
	done
	done="$done$code "
}
gives() {
	local want=$1 rc=0
	shift
	"$@" >out 2>&1 || rc=$?
	[ $rc = "$want" ] || fail "$code: $*: exit status $rc, not $want: $(cat out)"
}
finds() {
	local code=$1
	gives "$2" fsck.csvfs -n v.img
	grep -q "[ :]*$code:" out || fail "$code is not found: $(cat out)"
}
mends() {
	local code=$1
	gives 1 fsck.csvfs -y v.img
	gives 0 fsck.csvfs -n v.img
}
# repairs CODE PLACE FIELD VALUE ...
repairs() {
	damages "$@"
	finds "$1" 4
	mends "$1"
}
# refuses CODE STATUS PLACE FIELD VALUE ...: what no repair can know
refuses() {
	local code=$1 status=$2
	shift 2
	damages "$code" "$@"
	cp v.img before.img
	finds "$code" "$status"
	gives "$status" fsck.csvfs -y v.img
	cmp -s v.img before.img || fail "$code: the volume was changed"
}

# ---- where things are
ino() { csvdb good.img path "$1" | awk '$1 == "ino" {print $2}'; }
sb() { csvdb good.img sb | awk -v f="$1" '$1 == f {print $2}'; }
u16() { od -An -tu2 -j $(($1 * 4096 + $2)) -N 2 good.img | tr -d ' '; }
# bytes BLOCK OFFSET VALUE COUNT: for csvdb, little-endian
bytes() {
	local i
	for ((i = 0; i < $4; i++)); do echo "$1 byte[$(($2 + i))] $((($3 >> (8 * i)) & 255))"; done
}
at() { # INO: sets block, slot, area (offset in the block)
	block=$(($1 / 8)) slot=$(($1 % 8)) area=$((64 + ($1 % 8 - 1) * 576 + 144))
}
value() { # BLOCK NODE-OFFSET N: offset in the block of the value of slot N
	echo $(($2 + $(u16 "$1" $(($2 + 8 + 12 * $3 + 8)))))
}
entry() { # NAME: sets ebyte, the byte of the image where its entry's 13 (inode, type, name) begin
	local p
	# An entry's type is a byte below 16, and its inode number has zeros above.
	ebyte=
	for p in $(grep -abo -- "$1" good.img | cut -d: -f1); do
		[ "$(od -An -tx1 -j $((p - 5)) -N 4 good.img | tr -d ' ')" = 00000000 ] || continue
		# in its place, not in the journal
		[ $((p / 4096)) -ge "$data" ] || continue
		ebyte=$((p - 9))
	done
	[ "$ebyte" ] || fail "no entry $1"
	eblock=$((ebyte / 4096)) eoff=$((ebyte % 4096))
}
data=$(sb data_start)
root=$(sb root_ino) dirino=$(ino /dir) one=$(ino /one) two=$(ino /two) fifo=$(ino /fifo) fast=$(ino /fast)
file=$(ino /dir/sub/data) subsub=$(ino /dir/sub/subsub)
at "$root"; rblock=$block rslot=$slot
chunk=$((rblock / 256 * 256)) trees=$(($(sb orphan_root) / 256 * 256)) orphans=$(sb orphan_root)
read -r leaf leaf2 _ < <(csvdb good.img inode "$dirino" | awk '/: block/ {printf "%s ", $NF}'; echo)
extents=$(csvdb good.img inode "$file" | awk '/: block/ {print $NF; exit}')
at "$dirino"; child0=$(value "$block" "$area" 0) child1=$(value "$block" "$area" 1)

# ---- any metadata block
repairs header-magic "$rblock" magic 17
repairs header-crc "$rblock" crc 1
repairs header-uuid "$leaf" uuid 01234567-89ab-4def-8123-456789abcdef
repairs header-blkno "$leaf" blkno 17
repairs header-owner "$leaf" owner 17
repairs header-epoch "$leaf" epoch 99
repairs header-lsn "$leaf" lsn 99999
repairs reserved-not-zero sb 'byte[3000]' 1
repairs block-out-of-range "$block" "byte[$((child0 + 5))]" 255

# ---- superblock, claim
refuses superblock-version 4 sb version 9 sb2 version 9 last version 9
refuses superblock-feature 4 sb incompat 1 sb2 incompat 1 last incompat 1
refuses superblock-cluster-size 4 sb cluster_bytes 5000 sb2 cluster_bytes 5000 last cluster_bytes 5000
refuses superblock-geometry 4 last block_count 77 sb2 block_count 77 sb block_count 77
refuses superblock-missing 8 last magic 1 sb2 magic 1 sb magic 1
# two that are sound and contradict each other: two against one decide, else nobody but the administrator
repairs superblock-primary sb data_start 512 sb summary_blocks 2
code=superblock-tie
damages superblock-tie last crc 1 sb2 created_ns 5
cp v.img before.img
for mode in -n "-p -f" -y; do
	# shellcheck disable=SC2086
	gives 4 fsck.csvfs $mode v.img
	grep -q '^superblock-tie: ' out || fail "not found with $mode: $(cat out)"
	grep -q -- '--super first, copy or last' out || fail "does not say what to do: $(cat out)"
	cmp -s v.img before.img || fail "$mode changed a volume whose superblocks contradict each other"
done
gives 16 fsck.csvfs -n --super second v.img
gives 8 fsck.csvfs -y --super last v.img
gives 4 fsck.csvfs -n --super first v.img
cmp -s v.img before.img || fail "-n --super changed it"
for which in first copy; do
	cp before.img v.img
	gives 1 fsck.csvfs -y --super $which v.img
	gives 0 fsck.csvfs -n v.img
	made=$(csvdb v.img sb | awk '$1 == "created_ns" {print $2}')
	[ $which = copy ] && [ "$made" = 5 ] || [ $which = first -a "$made" != 5 ] || fail "--super $which: the other one was taken"
done
damages superblock-truncated
for size in 20M 1M 16K 4K; do
	truncate -s $size v.img
	finds superblock-truncated 4
done
for field in version incompat cluster_bytes data_start journal_start; do
	damages superblock-primary sb $field 4
	finds superblock-primary 4
	mends superblock-primary
done
# shellcheck disable=SC2046
repairs superblock-string $(for i in $(seq 248 311); do echo "sb byte[$i] 120"; done)
repairs superblock-primary sb crc 1
repairs superblock-copy sb2 crc 1
repairs superblock-copy last crc 1
# what only says whose volume it is: two against one, and of two the one that is text
for try in "sb label" "sb2 cluster_name" "last lun_identity" "sb cluster_name"; do
	read -r place field <<<"$try"
	repairs superblock-differs "$place" "$field" other
	[ "$(csvdb v.img sb | grep -E '^(label|cluster_name|lun_identity) ')" = "$(csvdb good.img sb |
		grep -E '^(label|cluster_name|lun_identity) ')" ] || fail "the one that was changed was believed"
done
repairs header-lsn sb lsn 99999
repairs header-epoch sb2 epoch 99
repairs header-lsn last lsn 99999
repairs superblock-differs last crc 1 sb 'byte[280]' 7
repairs superblock-root sb root_ino 0 sb2 root_ino 0
repairs superblock-reserve sb reserve_clusters 99999999 sb2 reserve_clusters 99999999 last reserve_clusters 99999999
repairs claim-missing claim crc 1 claim2 crc 1
repairs claim-epoch claim epoch 18446744073709551615
for place in claim claim2; do
	damages claim-block $place crc 1
	finds claim-block 0
	mends claim-block
	csvdb v.img claim | grep -q ' no metadata block' && fail "claim-block: one of them is bad still"
done
repairs claim-foreign claim uuid 01234567-89ab-4def-8123-456789abcdef
damages claim-held claim state 1 claim2 state 1
finds claim-held 0
mends claim-held

# ---- journal
from=good.img.crashed
damages journal-not-empty
finds journal-not-empty 0
mends journal-not-empty
repairs journal-record journal:0 head_seq 99999 journal:1 head_seq 99999
repairs journal-order journal:0 tail_pos 99999 journal:1 tail_pos 99999
repairs journal-head journal:0 crc 1 journal:1 crc 1
# the newest head, its tail's place and number
read -r pos seq < <(csvdb good.img.crashed journal | awk '/^head/ {
	for (i = 1; i <= NF; i++) { if ($i == "count") c = $(i + 1); if ($i == "tail") { s = $(i + 1); p = $(i + 3) } }
	if (c > best) { best = c; out = p " " s } } END {gsub(",", "", out); print out}')
repairs journal-target "journal:$((pos + 2))" 'image.blkno[0]' 1
repairs journal-image journal:0 head_seq $((seq + 1)) journal:1 head_seq $((seq + 1)) "journal:$((pos + 3))" 'byte[99]' 77
from=good.img
repairs journal-head journal:0 crc 1 journal:1 crc 1
repairs journal-order journal:0 epoch 99
for n in 0 1; do
	damages journal-head-copy journal:$n crc 1
	finds journal-head-copy 0
	mends journal-head-copy
	csvdb v.img journal | grep -q DAMAGED && fail "journal-head-copy: one of them is bad still"
done

# ---- space
repairs summary-free-count summary:0 'free_clusters[0]' 3
repairs summary-flags summary:0 'flags[0]' 1
repairs summary-padding summary:0 'free_clusters[5]' 7
repairs summary-lost-group summary:0 'flags[0]' 0
repairs group-free-count group:0 free_clusters 3
repairs group-chunk-count group:0 meta_chunks 77
repairs group-chunk-not-allocated group:0 "used[$((chunk + 9))]" 0
repairs group-inode-chunk group:0 'inode[9]' 1
repairs group-chunk-free group:0 'meta_free[9]' 1
repairs group-beyond-end group:0 'meta[100]' 1
repairs group-fixed-area group:0 'used[0]' 0
repairs chunk-used-count "$chunk" used_blocks 77
repairs chunk-self "$chunk" 'used[0]' 0
repairs chunk-kind "$chunk" is_inode 0
repairs chunk-kind "$trees" is_inode 1
repairs chunk-slots "$chunk" 'slots[200]' 6
cluster=$(csvdb good.img where "$one" 0 | grep -oE 'cluster [0-9]+' | head -n 1 | cut -d' ' -f2)
other=$(csvdb good.img where "$two" 0 | grep -oE 'cluster [0-9]+' | head -n 1 | cut -d' ' -f2)
repairs cluster-leaked group:0 'used[4000]' 1
repairs cluster-not-marked "group:$((cluster / 4096))" "used[$((cluster % 4096))]" 0
at "$one"; start=$(value "$block" "$area" 0)
# shellcheck disable=SC2046
{
	repairs cluster-doubly-used $(bytes "$block" "$start" "$other" 4)
	[ "$(csvdb v.img where "$one" 0)" != "$(csvdb v.img where "$two" 0)" ] || fail "two files still have one cluster"
	repairs cluster-in-metadata $(bytes "$block" "$start" $((chunk + 1)) 4)
	repairs cluster-in-reserve $(bytes "$block" "$start" 8000 4)
	repairs extent-range $(bytes "$block" "$start" 99999999 4)
	repairs extent-empty $(bytes "$block" $((start + 8)) 0 4)
	repairs extent-state $(bytes "$block" $((start + 12)) 9 4)
}
repairs block-leaked "$trees" 'used[200]' 1
repairs block-not-marked "$trees" "used[$((leaf % 256))]" 0
at "$dirino"
# shellcheck disable=SC2046
repairs block-doubly-used $(bytes "$block" "$child1" "$leaf" 8)
repairs block-not-in-metadata group:0 "meta[$((trees / 256))]" 0
# a group that forgot the chunk with all the inodes: they are found again
repairs superblock-root group:0 "meta[$((chunk / 256))]" 0 group:0 "inode[$((chunk / 256))]" 0
fsck.csvfs -n -v v.img | grep -q '304 files, 4 directories' || fail "a chunk of inodes is lost: $(fsck.csvfs -n -v v.img)"

# ---- inodes
repairs inode-not-marked "$chunk" "slots[$((rblock % 256))]" 0x7e
last=$((fifo / 8))
repairs inode-free "$chunk" "slots[$((last % 256))]" 254
repairs inode-mode "$rblock" "inode.mode[$rslot]" 0177777
# A mode that cannot be right loses nothing: what the inode holds says what it is.
is() { # INO FIELD VALUE
	[ "$(csvdb v.img inode "$1" | awk -v f="$2" '$1 == f {print $2}')" = "$3" ] ||
		fail "$code: $2 of inode $1 is not $3: $(csvdb v.img inode "$1")"
}
same_file() { # PATH
	[ "$(csvdb v.img path "$1" | grep -vE '^(mode|size)')" = "$(csvdb good.img path "$1" | grep -vE '^(mode|size)')" ] ||
		fail "$code: $1 is not as it was"
}
for try in "/ 0 040700" "/dir 0xffff 040700" "/dir/sub/data 0 0100600" "/one 0xffffffff 0100600" "/fast 0 0120777" \
	"/slow 0x10000 0120777" "/fifo 0 010600"; do
	read -r path mode want <<<"$try"
	i=$(ino "$path")
	repairs inode-mode "$((i / 8))" "inode.mode[$((i % 8))]" "$mode"
	same_file "$path"
	is "$i" mode "$want"
done
at "$file"
n=$(csvdb good.img where "$file" $((59 * 3 * 131072)) | grep -c cluster)
for size in 18446744073709551615; do
	repairs inode-size "$block" "inode.size[$slot]" $size
	is "$file" size $((59 * 3 * 131072 + 4096 * n))
	same_file /dir/sub/data
done
repairs inode-written-behind-end "$block" "inode.size[$slot]" 0
is "$file" size $((59 * 3 * 131072 + 4096 * n))
same_file /dir/sub/data
at "$fifo"
repairs inode-flags "$block" "inode.flags[$slot]" 128
repairs inode-size "$block" "inode.size[$slot]" 5
repairs inode-inline "$block" "byte[$area]" 1
repairs inode-generation "$block" "inode.generation[$slot]" 0
repairs inode-number "$block" "inode.ino[$slot]" 77
repairs inode-parent "$block" "inode.parent[$slot]" "$root"
repairs inode-not-cleared "$last" 'inode.uid[7]' 5
repairs inode-blocks "$((file / 8))" "inode.clusters[$((file % 8))]" 9
repairs inode-tree-blocks "$((file / 8))" "inode.tree_blocks[$((file % 8))]" 9
repairs inode-link-count "$((file / 8))" "inode.nlink[$((file % 8))]" 9
repairs inode-parent "$((dirino / 8))" "inode.parent[$((dirino % 8))]" 8
repairs xattr "$((file / 8))" "inode.xattr_count[$((file % 8))]" 9
repairs symlink "$((fast / 8))" "inode.size[$((fast % 8))]" 0

# ---- trees, extents
repairs tree-level "$leaf2" node.level 3
repairs tree-count "$leaf2" node.count 0
repairs tree-kind "$leaf2" node.kind 1
repairs tree-order "$leaf2" "byte[$((64 + 8 + 12 + 7))]" 0
repairs tree-bounds "$leaf2" "byte[$((64 + 8 + 7))]" 0
repairs tree-record "$leaf2" node.frag 777
v=$(value "$extents" 64 0)
repairs extent-overlap "$extents" "byte[$((v + 8))]" 100
count=$(u16 "$extents" $((64 + 2)))
repairs extent-beyond-limit "$extents" "byte[$((64 + 8 + 12 * (count - 1) + 5))]" 1

# ---- names
entry one
# shellcheck disable=SC2046
{
	repairs dirent-name "$eblock" "byte[$((eoff + 9))]" 47
	repairs dirent-hash "$eblock" "byte[$((eoff + 9))]" 79
	csvdb v.img path /One >out || fail "a name that was hashed wrongly is not found"
	repairs dirent-ino $(bytes "$eblock" "$eoff" 8 8)
	repairs dirent-type "$eblock" "byte[$((eoff + 8))]" 4
	repairs inode-unreachable $(bytes "$eblock" "$eoff" "$two" 8)
	csvdb v.img path "/lost+found/#$one" >out || fail "what has lost its name is not in lost+found: $(cat out)"
	# the entry behind "one" gets its name, and the next cookie
	read -r key next < <(csvdb good.img ls | awk '{print $3, $4}' | grep -A1 ' one$' | awk '{printf "%s ", NR == 1 ? $1 : $2}'; echo)
	at "$root"
	n=$(csvdb good.img ls | awk '$4 == "one" {print NR}')
	entry "$next"
	[ ${#next} = 3 ] || fail "the entry behind one is $next"
	repairs dirent-duplicate $(bytes "$eblock" $((eoff + 9)) $((0x656e6f)) 3) \
		$(bytes "$block" $((area + 8 + 12 * n)) $((key + 1)) 8)
	entry subsub
	repairs directory-two-parents $(bytes "$eblock" "$eoff" "$dirino" 8)
	damages directory-loop $(bytes "$eblock" "$eoff" "$dirino" 8)
	entry dir
	for set in $(bytes "$eblock" "$eoff" "$subsub" 8 | tr ' ' ,); do
		IFS=, read -r b f w <<<"$set"
		csvdb v.img set "$b" "$f" "$w"
	done
}
finds directory-loop 4
mends directory-loop
repairs directory-count "$rblock" "inode.size[$rslot]" 1

# ---- orphans, intents, reply cache
# shellcheck disable=SC2046
{
	repairs orphan-ino $(bytes "$orphans" 72 8 8)
	repairs orphan-linked $(bytes "$orphans" 72 "$one" 8)
	# a list that loops: its root says that it is a node above itself
	repairs tree-record "$orphans" node.level 1
}
repairs orphan-not-listed sb orphan_root 0 sb2 orphan_root 0
repairs intent-not-listed "$((one / 8))" "inode.flags[$((one % 8))]" 2
repairs intent sb orphan_root 0 sb2 orphan_root 0 sb intent_root "$orphans" sb2 intent_root "$orphans" \
	"$orphans" node.kind 5
repairs reply-cache reply:5 life 1 reply:5 node 7

# ---- all of them
for code in $(sed -n 's/^PROBLEM([A-Z_]*, "\([a-z-]*\)".*/\1/p' "$src/metadata/problems.def"); do
	case $done in
	*" $code "*) ;;
	*) fail "no test of $code" ;;
	esac
done
echo ok
