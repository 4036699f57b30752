#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Each known bug in mutants/ must be caught by csvsim within its budget of seeds: a simulator that
# cannot fail shows nothing.
#
#   mutants.sh BUILD_DIR [NAME...]		without names: those whose patch says "Quick"
#
#   MUTANTS=all: all of them (minutes each)	SEEDS=N: the budget (quick ones 1000, else 5000)
#   LIMIT=SECONDS: for each (1200)		JOBS=N: at once (2)
#
# A patch changes files of the core; those alone are compiled anew, the rest comes from the
# build folder. Its first line says what is broken; "Options:" what csvsim is to be run with; "Seed:" which one has caught
# it, and is tried first. When the simulator or the core has changed, that may be another one.
#
# A seed that fails without the bug, too, has caught nothing.
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

# build_mutant PATCH: $tmp/csvsim, or what is wrong with the patch
build_mutant() {
	local file

	rm -rf "$tmp/src" "$tmp"/mutant-*.o
	for file in $(sed -n 's,^+++ b/,,p' "$1"); do
		mkdir -p "$tmp/src/$(dirname "$file")"
		cp "$src/$file" "$tmp/src/$file"
	done
	patch -s -p1 -d "$tmp/src" <"$1" || return 1
	for file in $(sed -n 's,^+++ b/,,p' "$1"); do
		gcc "${flags[@]}" -I"$src" -c "$tmp/src/$file" -o "$tmp/mutant-$(basename "$file" .c).o" || return 1
	done
	gcc "$tmp"/sim-*.o "$tmp"/mutant-*.o -Wl,--start-group "$build/libcsvcore.a" "$build/libcsvsync.a" \
		"$(find "$build" -name libcsvcheck.a)" -Wl,--end-group -o "$tmp/csvsim"
}

# run_seeds FROM COUNT JOBS: $out and $rc, of csvsim
run_seeds() {
	local left=$((limit - (SECONDS - began)))

	out=$(timeout $((left > 0 ? left : 1)) "$tmp/csvsim" --from "$1" --seeds "$2" --jobs "$3" --twice 0 $opts 2>&1)
	rc=$?
}

# The seed that failed, if it passes without the bug.
shown() {
	local seed

	seed=$(sed -n 's/^FAILED seed \([0-9]*\).*/\1/p' <<<"$out" | head -1)
	[ -n "$seed" ] || return 1
	"$build/sim/csvsim" --seed "$seed" --twice 0 $opts >/dev/null 2>&1 && echo "$seed"
}

for name in "$@"; do
	patch=$src/tests/sim/mutants/$name.patch
	seeds=${SEEDS:-$(grep -qx Quick "$patch" && echo 1000 || echo 5000)}
	opts=$(sed -n 's/^Options: //p' "$patch")
	first=$(sed -n 's/^Seed: //p' "$patch")
	began=$SECONDS
	if ! build_mutant "$patch"; then
		echo "$name: the patch does not apply any more"
		missed=$((missed + 1))
		continue
	fi
	rc=0 by=
	if [ -n "$first" ]; then
		run_seeds "$first" 1 1
		by=$(shown)
	fi
	from=1
	while [ -z "$by" ] && [ "$from" -le "$seeds" ]; do
		run_seeds "$from" $((seeds - from + 1)) "${JOBS:-2}"
		# Only what csvsim itself says: a run that ends for want of time has shown nothing (one without end says so).
		failed=$(sed -n 's/^FAILED seed \([0-9]*\).*/\1/p' <<<"$out" | head -1)
		[ -n "$failed" ] || break
		by=$(shown)
		from=$((failed + 1))
	done
	if [ -n "$by" ]; then
		why=$(grep -m1 -E '^FAILED|assertion failed' <<<"$out")
		echo "$name: caught by seed $by: ${why:0:150}"
		caught=$((caught + 1))
	elif [ "$rc" = 2 ]; then
		echo "$name: csvsim does not understand '$opts'"
		missed=$((missed + 1))
	elif [ "$rc" = 124 ]; then
		echo "$name: NOT CAUGHT in $limit s, and not all of $seeds seeds have been run"
		missed=$((missed + 1))
	elif [ "$rc" = 0 ] || [ "$from" -gt "$seeds" ]; then
		echo "$name: NOT CAUGHT: $(tail -1 <<<"$out")"
		missed=$((missed + 1))
	else
		echo "$name: caught: a run was ended by a signal: $(tail -1 <<<"$out" | cut -c1-100)"
		caught=$((caught + 1))
	fi
done
echo "$caught caught, $missed missed"
[ "$missed" -eq 0 ]
