#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# csvctl grow on an image file that has become longer: what it refuses, what it says, that names and data go on
# meanwhile, that what is new can be used to its end, and that power may fail at any time.
# usage: t-grow.sh [BUILD]
# timeout: 240
. "${0%/*}/lib.sh"
load=''
at_end() { [ -z "$load" ] || kill "$load" 2>/dev/null || true; }
# grow STATUS TEXT [ARGUMENT...]
grow() {
	local status=$1 text=$2 rc=0
	shift 2
	timeout 60 csvctl -s s grow "$@" >out 2>&1 || rc=$?
	[ $rc = "$status" ] || fail "grow $*: exit status $rc, not $status: $(cat out)"
	grep -qF -- "$text" out || fail "grow $*: does not say '$text': $(cat out)"
}
mib() { df --output=size -B1M mnt | tail -1 | tr -d ' '; }

# ---- what is refused changes nothing
mkfs.csvfs -q -s 64M v.img
mount_it
head -c 4M /dev/urandom >mnt/old
sum=$(sha256sum <mnt/old)
grow 1 "grow the LUN first"
grow 1 "the LUN has only" --size 1G
grow 2 "is not a size" --size x
truncate -s 160M v.img
grow 1 "cannot become smaller" --size 32M
grow 0 "would grow from 64.0 MiB" -n
[ "$(mib)" = 64 ] || fail "a dry run has changed the size"

# ---- in two steps, while names and data are written
(
	i=0
	while echo $i >mnt/f$i && mv mnt/f$i mnt/g$i && sync mnt/g$i; do
		i=$((i + 1))
		echo $i >>n
	done
	touch load-failed
) 2>load-says &
load=$!
sleep 0.3
grow 0 "grown from 64.0 MiB (67108864 bytes) to 100.0 MiB" --size 100M
[ "$(mib)" = 100 ] || fail "df says $(mib) MiB, not 100"
# a socket elsewhere (ctl=) is found by the mount point, however it is written
for where in "$dir/mnt" "$dir/mnt/" mnt; do
	csvctl -s "$where" state >out 2>&1 || fail "no socket for $where: $(cat out)"
done
csvctl grow "$dir/mnt" -n >out 2>&1 || fail "grow by the mount point: $(cat out)"
grow 0 "to 160.0 MiB"
[ "$(mib)" = 160 ] || fail "df says $(mib) MiB, not 160"
before=$(wc -l <n)
sleep 0.5
[ "$(wc -l <n)" -gt "$before" ] || fail "nothing goes on any more"
[ ! -e load-failed ] || fail "a name or its data failed meanwhile: $(cat load-says)"
kill $load
wait $load 2>/dev/null || true
load=''
# to the last cluster, by data
head -c 200M /dev/zero | tr '\0' 'x' >mnt/new 2>/dev/null || true
[ "$(stat -c %s mnt/new)" -gt $((110 << 20)) ] || fail "of 150 MiB only $(stat -c %s mnt/new) can be used"
[ "$(sha256sum <mnt/old)" = "$sum" ] || fail "what was there has changed"
unmount
clean "grown and full"
csvdb v.img sb | grep -q 'volume_bytes *167772160' || fail "the superblock: $(csvdb v.img sb)"
mount_it
[ "$(mib)" = 160 ] || fail "after a mount it is $(mib) MiB"
[ "$(sha256sum <mnt/old)" = "$sum" ] || fail "what was there has changed"
rm mnt/new
unmount
clean "emptied"

# ---- the device is cut: refused, as ever; longer than the volume: fine
cp --sparse=always v.img c.img
truncate -s 120M c.img
timeout 30 csvfs c.img mnt -o "$opts" >out 2>&1 && fail "a volume that was cut is mounted"
grep -q truncated out || fail "does not say that it was cut: $(cat out)"
rm c.img
truncate -s 170M v.img
clean "the device is longer"

# ---- killed at any time: small or large, and clean
for i in 1 2; do
	truncate -s +$((40 + i))M v.img
	mount_it
	(for k in $(seq 100); do echo $k >"mnt/k$i.$k" || exit; done) 2>/dev/null &
	load=$!
	csvctl -s s grow >/dev/null 2>&1 &
	ask=$!
	sleep 0.0$((i * 7 % 10))
	kill -9 "$(cat pid)"
	wait $ask $load 2>/dev/null || true
	load=''
	umount -l mnt
	rm -f pid
	clean "killed while it grew, $i"
	mount_it
	rc=0
	timeout 60 csvctl -s s grow >out 2>&1 || rc=$?
	[ $rc = 0 ] || grep -q "nothing to do" out || fail "cannot grow after a crash: $(cat out)"
	[ $(($(mib) * 1048576)) = "$(stat -c %s v.img)" ] || fail "$(mib) MiB of $(stat -c %s v.img)"
	unmount
	clean "after the next mount, $i"
done

# ---- many transactions: 122880 new groups; the room that mkfs leaves
rm v.img
mkfs.csvfs -q -c 4K -s 128G v.img
truncate -s 2T v.img
mount_it
echo kept >mnt/kept
grow 0 "to 2.0 TiB (2199023255552 bytes), as far as"
[ "$(mib)" = 2097152 ] || fail "2 TiB are $(mib) MiB"
truncate -s 3T v.img
grow 1 "has left room for 2.0 TiB"
fallocate -l 200G mnt/large || fail "the new space cannot be had"
[ "$(cat mnt/kept)" = kept ] || fail "what was there has changed"
unmount
clean "2 TiB"
echo "online growth: ok"
