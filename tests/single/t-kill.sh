#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 420
# kill -9 of csvfs under load, again and again: after another mount (replay) all that was fsynced is
# whole, a renamed file is one of its versions, sqlite3's committed rows are there; after umount fsck
# finds nothing.
# usage: t-kill.sh [BUILD [ROUNDS]]
. "${0%/*}/lib.sh"
rounds=${2:-20}
[ "${CSVFS_QUICK:-0}" = 0 ] || rounds=3
round=0 loads=
# loads end when the daemon does: what waits for its mount can be ended only then
at_end() { touch stop; }
fail() {
	echo "FAILED in round $round: $*"
	tail -n 20 log 2>/dev/null || true
	exit 1
}

# ---- loads: what they note outside the mount is promised inside; they end with the daemon
# files of all sizes, some of them written in pieces or appended to, each fsynced
load_files() {
	local i=0 size
	while :; do
		i=$((i + 1)) size=$((RANDOM % 3 ? RANDOM % 20000 + 1 : RANDOM * 12 + 1))
		head -c $size pool >"part.$1"
		dd if="part.$1" of="mnt/files/$1.$i" bs=$((RANDOM % 2 ? 3333 : 65536)) conv=fsync status=none || return 0
		if [ $((i % 4)) = 0 ]; then
			head -c $((RANDOM % 9000)) pool >"more.$1"
			dd if="more.$1" of="mnt/files/$1.$i" bs=4096 oflag=append conv=notrunc,fsync status=none || return 0
			cat "more.$1" >>"part.$1"
		fi
		echo "$(sha256sum <"part.$1" | cut -d' ' -f1)  files/$1.$i" >>sums
	done
}
# one file, replaced again and again in the way editors do; then it is this version or a later one
load_rename() {
	local i=0
	while :; do
		i=$((i + 1))
		{ echo "$i" && head -c $((RANDOM % 30000)) pool && echo; } >version
		{ cat version && sha256sum <version; } >mnt/names/new 2>/dev/null || return 0
		sync mnt/names/new && mv mnt/names/new mnt/names/it && sync mnt/names || return 0
		echo "$i" >renamed
	done 2>/dev/null
}
# names that come and go, and are never promised: for the replay and fsck
load_names() {
	local i=0 n=mnt/names
	while :; do
		i=$((i + 1))
		mkdir "$n/d$((i % 7))" 2>/dev/null || rmdir "$n/d$((i % 7))" || return 0
		echo "$i" >"$n/f$((i % 11))" && ln -f "$n/f$((i % 11))" "$n/l$((i % 5))" || return 0
		mv "$n/f$((i % 11))" "$n/f$((i % 13))" || [ -d "$n" ] || return 0
		ln -sf "$(head -c 200 /dev/zero | tr '\0' x)" "$n/s" && truncate -s $((RANDOM * 50)) "$n/l$((i % 5))" || return 0
		rm -f "$n/f$((i % 3))" || return 0
		[ -d "$n/." ] || return 0
	done 2>/dev/null
}
load_sqlite() {
	local i mode
	i=$(cat committed)
	mode=$(echo delete truncate persist | cut -d' ' -f$((round % 3 + 1)))
	while :; do
		i=$((i + 1))
		sqlite3 -bail mnt/db "pragma journal_mode=$mode; pragma synchronous=extra; begin;
			insert into t values ($i, hex(randomblob($((RANDOM % 3000))))); update t set x = x || 'u' where n = $i - 3;
			insert into sums select $i, count(*), sum(length(x)) from t; commit;" >/dev/null 2>&1 || return 0
		echo $i >committed
	done
}

check_sqlite() {
	local want
	want=$(cat committed)
	[ "$(sqlite3 mnt/db 'pragma integrity_check' 2>&1)" = ok ] || fail "sqlite3: $(sqlite3 mnt/db 'pragma integrity_check' 2>&1)"
	n=$(sqlite3 mnt/db 'select max(n) from t')
	[ "$n" -ge "$want" ] || fail "sqlite3: row $want was committed, the last one is $n"
	[ "$(sqlite3 mnt/db "select count(*), sum(length(x)) from t")" = \
		"$(sqlite3 mnt/db "select rows, bytes from sums where n = $n")" ] || fail "sqlite3: half a transaction"
	echo "$n" >committed
}
check_rename() {
	local want
	want=$(cat renamed)
	[ "$want" = 0 ] || [ -e mnt/names/it ] || fail "the renamed file is gone"
	[ -e mnt/names/it ] || return 0
	head -n -1 mnt/names/it >version
	[ "$(sha256sum <version)" = "$(tail -n 1 mnt/names/it)" ] || fail "the renamed file is none of its versions"
	[ "$(head -n 1 version)" -ge "$want" ] || fail "version $want was synced, but there is $(head -n 1 version)"
}

round=0
head -c 500000 /dev/urandom | base64 -w 70 >pool
mkfs.csvfs -q -s 512M v.img
mount_it
sqlite3 mnt/db 'create table t(n integer primary key, x text); create table sums(n integer primary key, rows, bytes);
	insert into t values(0, ""); insert into sums values(0, 1, 0);'
echo 0 >committed
mkdir mnt/files mnt/names
total=0 replayed=0
unmount
for round in $(seq "$rounds"); do
	mount_it
	rm -rf mnt/files/* mnt/names/*
	sync mnt
	: >sums
	echo 0 >renamed
	load_files a 2>/dev/null &
	loads=$!
	load_files b 2>/dev/null &
	loads="$loads $!"
	load_rename &
	loads="$loads $!"
	load_names &
	loads="$loads $!"
	load_sqlite &
	loads="$loads $!"
	sleep "$((RANDOM % 2)).$((RANDOM % 8 + 2))"
	daemon=$(cat pid)
	kill -9 "$daemon"
	rm -f pid
	# shellcheck disable=SC2086
	for _ in $(seq 200); do
		kill -0 $loads 2>/dev/null || break
		sleep 0.05
	done
	umount -l mnt
	# shellcheck disable=SC2086
	wait $loads || true
	loads=
	mount_it
	grep -q ' replay' log && replayed=$((replayed + 1))
	grep -E '^[0-9a-f]{64}  files/[ab]\.[0-9]+$' sums >whole || true
	[ ! -s whole ] || (cd mnt && sha256sum --quiet -c ../whole) >out 2>&1 ||
		fail "a file that was fsynced is not whole: $(head -n 5 out)"
	check_rename
	check_sqlite
	find mnt -type f -exec cat {} + >/dev/null || fail "a file cannot be read"
	printf 'round %2d: %3d files whole, version %s, row %s\n' "$round" "$(wc -l <whole)" "$(cat renamed)" "$(cat committed)"
	total=$((total + $(wc -l <whole)))
	unmount
	clean
done
[ "$total" -ge "$rounds" ] || fail "the loads have done nothing"
echo "$rounds rounds, $total fsynced files whole"
echo ok
