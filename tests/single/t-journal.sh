#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 120
# The smallest journal that mkfs makes, with the checkpoint held back: it becomes full and requests wait, none fails.
# When the checkpoint goes on so do they, to the end; and after kill -9 of a daemon with a full journal all names whose
# creation was answered are there.
# usage: t-journal.sh [BUILD]
. "${0%/*}/lib.sh"
opts=$opts,cache=8M,io_timeout=300
at_end() {
	rm -f hold
	touch stop
}
field() { csvctl -s "$dir/s" state --json | grep -o "\"$1\":[0-9]*" | cut -d: -f2; }
# Names until `stop` is there, noted outside when they are made.
load() {
	local i=0
	while [ ! -e stop ]; do
		: >"mnt/$1.$i" && echo "$1.$i" >>"made.$1" || return 0
		i=$((i + 1))
	done 2>/dev/null
}
wait_for_a_full_journal() { # and for requests that wait
	local used=0 was=-1
	for _ in $(seq 100); do
		[ "$used" != "$was" ] || [ $((used * 10)) -lt $((blocks * 8)) ] || break
		was=$used
		sleep 0.3
		used=$(field journal_used_blocks)
	done
	[ $((used * 10)) -ge $((blocks * 8)) ] || fail "$used of $blocks blocks are in use: that is not full"
	used=$(cat made.[123] | wc -l)
	sleep 0.5
	[ "$used" = "$(cat made.[123] | wc -l)" ] || fail "names are made with a full journal"
}

mkfs.csvfs -s 1G -j 4M v.img >made
at=$(sed -n 's/.*data from block \([0-9]*\).*/\1/p' made)
[ -n "$at" ] || fail "mkfs does not say where data begins"
export CSVFS_FAULT="hold=$dir/hold,from=$((at * 4096))"
mount_it
blocks=$(field journal_blocks)
touch hold
for k in 1 2 3; do load $k & done
wait_for_a_full_journal
was=$(cat made.[123] | wc -l)
rm hold
for _ in $(seq 300); do
	[ "$(cat made.[123] | wc -l)" -lt $((was * 4)) ] || break
	sleep 0.1
done
[ "$(cat made.[123] | wc -l)" -ge $((was * 4)) ] || fail "it does not go on"

touch hold
wait_for_a_full_journal
kill -9 "$(cat pid)"
umount -l mnt
touch stop
wait
rm -f pid hold
unset CSVFS_FAULT
mount_it
for k in 1 2 3; do
	while read -r name; do
		[ -e "mnt/$name" ] || fail "$name was answered and is not there"
	done <"made.$k"
done
umount mnt
gone
fsck.csvfs -n v.img || fail "fsck finds something"
echo "ok: $(cat made.[123] | wc -l) names, $(grep -o 'replay: transactions.*' log | tail -n 1)"
