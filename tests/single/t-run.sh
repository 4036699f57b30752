#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 120
# tests/run itself, on a small tree: what a script leaves behind is found and blamed on it, not on the one that runs
# beside it; clusters run one at a time, others two; a run that is ended, and one that is killed, leave nothing.
set -eu
dir=$(mktemp -d)
src=$(pwd)
export FAKE=$dir/fake
run='' # the run that is under way
cleanup() {
	[ -z "$run" ] || { kill -TERM "$run" && wait "$run"; } 2>/dev/null || true
	# What should not be there; what this test starts carries no mark of the run that it is part of.
	kill -KILL $(strangers) 2>/dev/null || true
	[ ! -s work ] || { umount -l "$(cat work)"/*/m && rm -rf --one-file-system "$(cat work)"; } 2>/dev/null || true
	cd /
	rm -rf "$dir"
}
trap cleanup EXIT
fail() {
	echo "FAILED: $*"
	cat out 2>/dev/null || true
	exit 1
}
within() { # within SECONDS COMMAND...
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || fail "not in time: $*"
		sleep 0.05
	done
}
script() { cat >"tests/$1.sh"; }
says() { grep -Eq -- "$1" out || fail "does not say '$1'"; }
marked() { grep -lsxz "FAKE=$FAKE" /proc/[0-9]*/environ | cut -d/ -f3; }
# What a script has left, of all that carries our mark.
strangers() {
	local pid
	for pid in $(marked); do
		[ "$(cat "/proc/$pid/cmdline" 2>/dev/null | tr '\0' ' ')" != "sleep 321 " ] || echo "$pid"
	done
}
nothing_left() {
	[ -z "$(strangers)" ] || fail "$1: left: $(strangers)"
	! grep -F " $(cat work) " /proc/self/mountinfo || fail "$1: a mount is left"
	[ ! -e "$(cat work)" ] || fail "$1: $(cat work) is left"
	[ ! -e build/tests.run ] || fail "$1: the note is left"
}

mkdir -p "$dir/tree/tests/lib" "$dir/tree/tests/single" "$dir/tree/tests/lab" "$FAKE"
cd "$dir/tree"
cp "$src/tests/run" tests/
cp "$src"/tests/lib/*.sh tests/lib/
: >tests/deps
cat >CMakeLists.txt <<'CMAKE'
cmake_minimum_required(VERSION 3.18)
project(fake NONE)
enable_testing()
add_test(NAME computes COMMAND true)
add_test(NAME broken COMMAND false)
add_test(NAME late COMMAND true)
set_tests_properties(late PROPERTIES LABELS waits)
CMAKE
for n in 1 2; do # the first leaves something, once both run; the second is well only if both run
	script single/t-pair$n <<-SCRIPT
		touch "\$FAKE/pair$n"
		for i in {1..100}; do [ -e "\$FAKE/pair$((3 - n))" ] && break; sleep 0.05; done
		[ -e "\$FAKE/pair$((3 - n))" ] || exit $((n - 1))
		[ $n = 2 ] || { sleep 321 & sleep 0.3; exit 0; }
		sleep 1
	SCRIPT
	script lab/t-lab$n <<-'SCRIPT'
		mkdir "$FAKE/lab" && sleep 0.5 && rmdir "$FAKE/lab" && test "$CSVLAB_DIR" = "$TMPDIR/lab"
	SCRIPT
done
script lab/t-lab3 <<<'# beside: yes'
script single/t-skips <<<'echo not here; exit 77'
script single/t-slow <<'SCRIPT'
# timeout: 1
setsid sleep 321
SCRIPT
[ "$(id -u)" != 0 ] || script single/t-mounts <<<'mkdir "$TMPDIR/m" && mount -t tmpfs none "$TMPDIR/m"'
script single/t-waits <<'SCRIPT'
[ -n "${WAITS:-}" ] || exit 0
echo "${TMPDIR%/*}" >"$FAKE/../tree/work"
setsid sleep 321 &
[ "$(id -u)" != 0 ] || { mkdir "$TMPDIR/m" && mount -t tmpfs none "$TMPDIR/m"; }
touch "$FAKE/waits"
sleep 321
SCRIPT

rc=0
tests/run >out 2>&1 || rc=$?
[ $rc = 1 ] || fail "status $rc"
for config in '' sanitize/; do
	says "^ok .* ${config}computes$"
	says "^FAILED .* ${config}broken$"
	says "^ok .* ${config}late$"
	says "^FAILED .* ${config}single/t-pair1$"
	says "^ok .* ${config}single/t-pair2$"
	says "^skipped .* ${config}single/t-skips: not here$"
	says "^FAILED .* ${config}single/t-slow$"
	[ "$(id -u)" != 0 ] || says "^FAILED .* ${config}single/t-mounts$"
	says "^ok .* ${config}single/t-waits$"
done
says '^ok .* lab/t-lab1$'
says '^ok .* lab/t-lab2$'
says '^ok .* lab/t-lab3$'
says '^process [0-9]*: sleep 321'
says '^timeout after 1 s'
[ "$(id -u)" != 0 ] || says '^mount /tmp/csvfs-test'
tail -n 1 out | grep -qxE '11 passed, [68] failed, 2 skipped' || fail "counted: $(tail -n 1 out)"
[ -z "$(strangers)" ] || fail "left: $(strangers)"
[ ! -e build/tests.run ] || fail "the note is left"

for signal in TERM KILL; do
	rm -f "$FAKE/waits"
	WAITS=1 setsid tests/run --quick t-waits >out 2>&1 &
	run=$!
	within 20 test -e "$FAKE/waits"
	kill -$signal $run
	rc=0
	wait $run 2>/dev/null || rc=$?
	run=
	if [ $signal = KILL ]; then
		[ -n "$(strangers)" ] || fail "nothing is left of a run that was killed: that shows nothing"
		tests/run --quick computes >out 2>&1 || fail "the next run"
	else
		[ $rc = 143 ] || fail "status $rc after SIG$signal"
	fi
	nothing_left "SIG$signal"
done
echo ok
