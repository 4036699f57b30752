#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Each known bug in mutants/ must be caught by csvcrash: a test that cannot fail shows nothing.
#
#   mutants.sh BUILD_DIR [NAME...]
#
# A patch changes one file of the core; that file alone is compiled anew, the rest comes from the
# build folder.
set -u
build=$(realpath "$1") || exit 2
shift
src=$(realpath "$(dirname "$0")/../..")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
flags=(-std=gnu11 -O2 -D_GNU_SOURCE -fno-strict-aliasing -w)
missed=0 caught=0

[ $# -gt 0 ] || set -- $(basename -s .patch "$src"/tests/crash/mutants/*.patch)

parts="crash drive pairs table recover script world disk"
for f in $parts; do
	gcc "${flags[@]}" -I"$src" -c "$src/tests/crash/$f.c" -o "$tmp/$f.o" || exit 2
done
for name in "$@"; do
	patch=$src/tests/crash/mutants/$name.patch
	file=$(sed -n 's,^+++ b/,,p' "$patch")
	mkdir -p "$tmp/src/$(dirname "$file")"
	cp "$src/$file" "$tmp/src/$file"
	if ! patch -s -p1 -d "$tmp/src" <"$patch"; then
		echo "$name: the patch does not apply any more"
		missed=$((missed + 1))
		continue
	fi
	gcc "${flags[@]}" -I"$src" -c "$tmp/src/$file" -o "$tmp/mutant.o" &&
		gcc $(for f in $parts; do echo "$tmp/$f.o"; done) "$tmp/mutant.o" \
			-Wl,--start-group "$build/libcsvcore.a" "$(find "$build" -name libcsvcheck.a)" \
			-Wl,--end-group -o "$tmp/csvcrash" || exit 2
	out=
	# Those of growing are seen there alone; another one may replay for ever there, which shows nothing.
	case $name in
	grow-*) runs=(grow) ;;
	# The part that catches them soonest goes first.
	reuse-before-commit | replay-over-reused) runs=("pairs" "--seeds ${SEEDS:-60} scripts" "--cuts 8 single") ;;
	*) runs=("--seeds ${SEEDS:-60} scripts" "--cuts 8 single" "pairs") ;;
	esac
	for part in "${runs[@]}"; do
		# shellcheck disable=SC2086 # options
		out=$(timeout 300 "$tmp/csvcrash" --every "${EVERY:-1}" $part 2>&1) || break
	done
	if ! grep -q FAILED <<<"$out"; then
		echo "$name: NOT CAUGHT: $(tail -1 <<<"$out")"
		missed=$((missed + 1))
	else
		echo "$name: caught: $(grep -m1 FAILED <<<"$out" | cut -c1-150)"
		caught=$((caught + 1))
	fi
done
echo "$caught caught, $missed missed"
[ "$missed" -eq 0 ]
