#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# csvctl scrub on a mounted image: blocks that are damaged on the device under the mount are found, those with a
# sound copy are repaired while files are written; what has none is named, and fsck.csvfs mends it afterwards.
# usage: t-scrub.sh [BUILD]
# timeout: 120
. "${0%/*}/lib.sh"
load=''
at_end() { [ -z "$load" ] || kill "$load" 2>/dev/null || true; }
ctl() { timeout 20 csvctl -s s "$@"; }
field() { ctl scrub status --json | tr ',{' '\n\n' | sed -n "s/^\"$1\"://p" | head -n 1; }
scrubbed() { # until it has ended
	ctl scrub start >out || fail "scrub start: $(cat out)"
	for _ in $(seq 400); do
		[ "$(field running)" = false ] && break
		sleep 0.05
	done
	[ "$(field complete)" = true ] || fail "not complete: $(ctl scrub status --json)"
}
damage() { # damage BLOCK: one byte of it, on the device
	printf '\252' | dd of=v.img bs=1 seek=$(($1 * 4096 + 2000)) conv=notrunc status=none
}

mkfs.csvfs -q -s 128M v.img
journal=$(csvdb v.img sb | sed -n 's/^ *journal_start *//p' | cut -d' ' -f1)
group=$(csvdb v.img sb | sed -n 's/^ *group_start *//p' | cut -d' ' -f1)
root=$(($(csvdb v.img sb | sed -n 's/^ *root_ino *//p' | cut -d' ' -f1) / 8))
mount_it
ctl scrub stop >out 2>&1 && fail "stopped what does not run: $(cat out)"
ctl scrub | grep -q "not run" || fail "status before: $(ctl scrub)"
for i in $(seq 200); do echo "$i" >"mnt/f$i"; done
sync mnt/f200
sleep 2 # everything is in its place
scrubbed
[ "$(field found)" = 0 ] || fail "a sound volume: $(ctl scrub status)"
[ "$(field checked)" -gt 70 ] || fail "only $(field checked) blocks were looked at"

echo "# under load: superblocks, a reply block, the summary, journal heads, the group, the root's block"
(
	i=0
	while echo $i >mnt/load; do i=$((i + 1)); done
) 2>/dev/null &
load=$!
for b in 0 3 20 72 "$journal" "$group" "$root" 32767; do damage "$b"; done
scrubbed
kill $load
wait $load 2>/dev/null || true
load=''
# The load may have written some of them over by itself, before they were looked at.
[ "$(field found)" -ge 3 ] || fail "found only $(ctl scrub status)"
[ "$(field found)" = "$(field repaired)" ] || fail "not all repaired: $(ctl scrub status)"
grep -q "scrub: header-crc: block 20: repaired" log || fail "the log does not say so"
ctl state --json | grep -q '"scrub":{"running":false' || fail "csvctl state does not count"
sync -f mnt
sleep 2
scrubbed
[ "$(field found)" = 0 ] || fail "after the repair: $(ctl scrub status)"
unmount
clean "after the repair"

echo "# nothing in the cache: named, left, and mended by fsck.csvfs"
mount_it
damage "$root"
scrubbed
[ "$(field found).$(field repaired)" = 1.0 ] || [ "$(field found).$(field repaired)" = 1.1 ] ||
	fail "one block without a copy: $(ctl scrub status)"
ctl scrub status | grep -q "block $root .*header-crc" || fail "not named: $(ctl scrub status)"
umount -l mnt
gone
rc=0
fsck.csvfs -y v.img >out 2>&1 || rc=$?
[ $rc -le 1 ] || fail "fsck.csvfs -y: $rc: $(cat out)"
clean
echo "online scrub: ok"
