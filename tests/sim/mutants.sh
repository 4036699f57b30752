#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Each known bug in mutants/ must be caught by csvsim within its budget of seeds: a simulator that
# cannot fail shows nothing.
#
#   mutants.sh BUILD_DIR [NAME...]		SEEDS=N: the budget (600)
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

[ $# -gt 0 ] || set -- $(basename -s .patch "$src"/tests/sim/mutants/*.patch)

for f in "$src"/tests/sim/*.c; do
	gcc "${flags[@]}" -I"$src" -c "$f" -o "$tmp/sim-$(basename "$f" .c).o" || exit 2
done
for name in "$@"; do
	patch=$src/tests/sim/mutants/$name.patch
	file=$(sed -n 's,^+++ b/,,p' "$patch")
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
	if out=$(timeout 300 "$tmp/csvsim" --seeds "${SEEDS:-600}" --jobs 2 2>&1); then
		echo "$name: NOT CAUGHT: $(tail -1 <<<"$out")"
		missed=$((missed + 1))
	else
		echo "$name: caught: $(grep -m1 -E 'FAILED|assertion' <<<"$out" | cut -c1-150)"
		caught=$((caught + 1))
	fi
done
echo "$caught caught, $missed missed"
[ "$missed" -eq 0 ]
