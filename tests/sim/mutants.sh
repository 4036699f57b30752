#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Each known bug in mutants/ must be caught by csvsim within its budget of seeds: a simulator that
# cannot fail shows nothing.
#
#   mutants.sh BUILD_DIR [NAME...]		without names: those whose patch says "Quick"
#
#   MUTANTS=all: all of them (minutes each)	SEEDS=N: the budget (quick ones 1000, else 5000)
#   LIMIT=SECONDS: for each (1200)
#
# A patch changes one file of the core; that file alone is compiled anew, the rest comes from the
# build folder. Its first line says what is broken; "Options:" what csvsim is to be run with.
set -u
build=$(realpath "$1") || exit 2
shift
src=$(realpath "$(dirname "$0")/../..")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
flags=(-std=gnu11 -O2 -D_GNU_SOURCE -fno-strict-aliasing -w)
missed=0 caught=0 limit=${LIMIT:-1200}

if [ "${MUTANTS:-}" = all ]; then
	set -- $(basename -s .patch "$src"/tests/sim/mutants/*.patch)
elif [ $# = 0 ]; then
	set -- $(grep -lx Quick "$src"/tests/sim/mutants/*.patch | xargs -n 1 basename -s .patch)
fi

for f in "$src"/tests/sim/*.c; do
	gcc "${flags[@]}" -I"$src" -c "$f" -o "$tmp/sim-$(basename "$f" .c).o" || exit 2
done
for name in "$@"; do
	patch=$src/tests/sim/mutants/$name.patch
	file=$(sed -n 's,^+++ b/,,p' "$patch")
	seeds=${SEEDS:-$(grep -qx Quick "$patch" && echo 1000 || echo 5000)}
	mkdir -p "$tmp/src/$(dirname "$file")"
	cp "$src/$file" "$tmp/src/$file"
	if ! patch -s -p1 -d "$tmp/src" <"$patch"; then
		echo "$name: the patch does not apply any more"
		missed=$((missed + 1))
		continue
	fi
	gcc "${flags[@]}" -I"$src" -c "$tmp/src/$file" -o "$tmp/mutant.o" &&
		gcc "$tmp"/sim-*.o "$tmp/mutant.o" -Wl,--start-group "$build/libcsvcore.a" \
			"$build/libcsvsync.a" "$(find "$build" -name libcsvcheck.a)" -Wl,--end-group \
			-o "$tmp/csvsim" || exit 2
	opts=$(sed -n 's/^Options: //p' "$patch")
	out=$(timeout "$limit" "$tmp/csvsim" --seeds "$seeds" --jobs 2 --twice 0 $opts 2>&1)
	rc=$?
	# Only what csvsim itself says: a run that ends for want of time has shown nothing (one without end says so).
	if why=$(grep -m1 -E '^FAILED|assertion failed' <<<"$out"); then
		echo "$name: caught: ${why:0:150}"
		caught=$((caught + 1))
	elif [ $rc = 2 ]; then
		echo "$name: csvsim does not understand '$opts'"
		missed=$((missed + 1))
	elif [ $rc = 124 ]; then
		echo "$name: NOT CAUGHT in $limit s, and not all of $seeds seeds have been run"
		missed=$((missed + 1))
	elif [ $rc = 0 ]; then
		echo "$name: NOT CAUGHT: $(tail -1 <<<"$out")"
		missed=$((missed + 1))
	else
		echo "$name: caught: a run was ended by a signal: $(tail -1 <<<"$out" | cut -c1-100)"
		caught=$((caught + 1))
	fi
done
echo "$caught caught, $missed missed"
[ "$missed" -eq 0 ]
