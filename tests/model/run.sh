#!/usr/bin/env bash
# Check a Promela model with spin, exhaustively.
#
#   run.sh MODEL.pml [NAME[=VALUE]...]           every order of events is tried: there is no error
#   run.sh --safety MODEL.pml [NAME=VALUE..]     the same, but runs need not end: for larger models
#   run.sh --wrong NAME MODEL.pml [NAME=VALUE..] the model made wrong on purpose: a counterexample is found
#
# The first also checks that every run ends (pan -l: no cycle at all, since none is marked as progress) and
# that the search was not cut short by depth or memory. The second prints its counterexample's length;
# CSVFS_MODEL_TRAIL=1 prints each of its steps.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
wrong= safety=
if [ "$1" = --safety ]; then
	safety=1
	shift
elif [ "$1" = --wrong ]; then
	wrong=$2
	shift 2
fi
model=$1
shift
command -v spin >/dev/null || {
	echo "spin is not installed (tests/deps)" >&2
	exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here"/*.pml "$work"
cd "$work"

flags=("${@/#/-D}")
pan=(-O2 -DNP -DNOFAIR)
search=(-l)
if [ -n "$wrong" ]; then
	flags+=("-D$wrong" -DSAFETY)
	pan=(-O0 -DSAFETY -DREVERSE) # to compile is the longer part; REVERSE finds the rarest sooner
	search=()
fi
if [ -n "$safety" ]; then
	flags+=(-DSAFETY)
	pan=(-O2 -DSAFETY -DCOLLAPSE)
	search=()
fi
# A switch that no model knows would be a wrong variant that is right.
if [ -n "$wrong" ] && ! grep -q "def.*$wrong" "$model" lun.pml; then
	echo "$model knows no $wrong" >&2
	exit 1
fi
spin "${flags[@]}" -a "$model"
gcc -w "${pan[@]}" -DMEMLIM=1900 -o pan pan.c
rc=0
./pan ${search[@]+"${search[@]}"} -m100000 -n >out 2>&1 || rc=$?
grep -E '^pan|errors:|states, stored|total actual memory|elapsed' out || true

fail() {
	echo "FAILED: $1"
	cat out
	[ ! -e "$model.trail" ] || spin "${flags[@]}" -t -p -g "$model" | grep -v '^ .* = ' | tail -n 300
	exit 1
}
if [ -n "$wrong" ]; then
	grep -q 'assertion violated' out || fail "no counterexample with $wrong"
	[ "${CSVFS_MODEL_TRAIL:-0}" = 0 ] || spin "${flags[@]}" -t -p -g "$model"
	exit 0
fi
[ $rc = 0 ] || fail "pan ended with status $rc"
grep -q 'errors: 0' out || fail "there is an error"
! grep -qiE 'not completed|too small|out of memory|memory limit|truncated|hash array full|violated' out || fail "the search was cut short"
[ "$(awk '/states, stored/ {print ($1 > 10000)}' out)" = 1 ] || fail "the search saw next to nothing"
