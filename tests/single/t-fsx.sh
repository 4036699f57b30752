#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 600
# Random reads, writes, truncations, holes, maps and copies against a model in memory (tests/posix/fsx.c): with
# O_DIRECT and without, by one and by several at once, with clusters of 4 KiB and of 64 KiB; then the files
# once more after another mount, and fsck.
# usage: t-fsx.sh [BUILD]
#   FSX_SEED=N        the same again [drawn, and printed]
#   FSX_OPERATIONS=N  of each run [400]; a soak: 100000
. "${0%/*}/lib.sh"
seed=${FSX_SEED:-$((RANDOM * 32768 + RANDOM))}
operations=${FSX_OPERATIONS:-400}

echo "FSX_SEED=$seed FSX_OPERATIONS=$operations"
for cluster in 64K 4K; do
	mkfs.csvfs -q -s 512M -c $cluster v.img
	mount_it
	k=0
	for options in "" "-d" "-l 20000" "-l 4000000" "-t 4 -l 262144" "-t 4 -l 99999" "-t 3 -d -l 65536"; do
		k=$((k + 1))
		# shellcheck disable=SC2086
		fsx -s $((seed + k)) -n "$operations" $options -k "model.$k" "mnt/$k" >out 2>&1 || {
			cat out
			fail "clusters of $cluster, fsx $options"
		}
	done
	unmount
	mount_it
	for i in $(seq $k); do
		cmp "model.$i" "mnt/$i" || fail "clusters of $cluster, file $i after another mount"
	done
	unmount
	clean
	rm -f v.img model.*
done
