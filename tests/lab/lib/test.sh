# What the cluster scenarios (tests/lab/t-*.sh) share. Sourced first by each; it names the lab's
# folder, and takes the lab away at the end, after its logs if the scenario failed.
#
#   lab ARGS...                csvlab
#   fail TEXT                  the scenario has failed
#   within SECONDS CMD...      CMD succeeds before that; 1 if not
#   state NODE FILTER          a value of csvctl's state, by a jq filter
#   probe NODE data|meta       an application that must never see an error (see probe.c) starts
#   probe_ended NODE data|meta it is told to end; fails if it saw an error, or hangs for 30 s
#   progress NODE data|meta    the operations that it has completed
#   moves NODE data|meta       it completes one now (within 5 s)
#   goes_on NODE [SECONDS]     both do, or the scenario has failed
#   longest NODE data|meta     its longest stall until now, in ms
#   unmount_and_check NODE...  they unmount, and fsck finds nothing

set -euo pipefail
LAB=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/csvlab
: "${TMPDIR:=/tmp}" "${CSVLAB_DIR:=$TMPDIR/csvlab-test}"
export CSVLAB_DIR
[ -n "${CSVFS_BUILD:-}" ] || CSVFS_BUILD=$(cd "$(dirname "$LAB")/../.." && pwd)/build/default
export CSVFS_BUILD
declare -A PROBE
FAILED=

lab() { "$LAB" "$@"; }

# Whole, and the LUN, for who wants to look at a failure: $KEEP is a folder.
keep_logs() {
	local file
	[ -n "${KEEP:-}" ] || return 0
	mkdir -p "$KEEP"
	for file in "$CSVLAB_DIR"/n*/csvfs.log "$CSVLAB_DIR"/n*/corosync/corosync.log "$CSVLAB_DIR"/san/*; do
		[ ! -f "$file" ] || cp --sparse=always "$file" "$KEEP/$(tr / . <<<"${file#"$CSVLAB_DIR"/}")" || true
	done
}

at_end() {
	local rc=$?
	trap '' INT TERM
	if [ $rc != 0 ]; then
		[ -n "$FAILED" ] || echo "FAILED: status $rc" >&2
		lab state >&2 || true
		lab logs >&2 || true
		keep_logs
	fi
	lab down || rc=1
	exit $rc
}
trap at_end EXIT
trap 'exit 143' TERM INT HUP

fail() {
	FAILED=1
	echo "FAILED: $*" >&2
	exit 1
}

within() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

state() { lab state --json | jq -r --arg n "$1" ".[] | select(.node == \$n) | $2"; }
mode_is() { [[ $(state "$1" .mode) == $2 ]]; }
coordinator_is() { [ "$(state "$1" .coordinator)" = "$2" ]; }
coordinator_is_other() { # coordinator_is_other NODE THAN: NODE follows somebody else
	local c
	c=$(state "$1" .coordinator)
	[[ $c == n* && $c != "$2" ]]
}

probe_log() { echo "$CSVLAB_DIR/$1/probe.$2"; }

probe() {
	local node=$1 kind=$2 target
	target=$(lab mnt "$node")/probe.$node
	mkdir -p "$target"
	[ "$kind" = meta ] || target+=/data
	rm -f "$(probe_log "$node" "$kind")" # of one before
	# exec: the pid is the probe's own.
	(exec "$LAB" exec "$node" -- "$CSVFS_BUILD/lab/probe" "$kind" "$target" \
		"$(probe_log "$node" "$kind")") </dev/null &
	PROBE[$node.$kind]=$!
	within 20 test -s "$(probe_log "$node" "$kind")" || fail "the $kind probe of $node does not start"
}

progress() { tail -n 1 "$(probe_log "$1" "$2")" | cut -d' ' -f3; }
longest() { awk '$2 > max {max = $2} END {print max + 0}' "$(probe_log "$1" "$2")"; }

more_than() { [ "$(progress "$1" "$2")" -gt "$3" ]; }
moves() { within "${3:-5}" more_than "$1" "$2" "$(progress "$1" "$2")"; }
goes_on() { # goes_on NODE [SECONDS]: data and metadata
	moves "$1" data "${2:-5}" || fail "$1: data does not go on"
	moves "$1" meta "${2:-5}" || fail "$1: metadata does not go on"
}

gone() { ! kill -0 "$1" 2>/dev/null; }

probe_ended() {
	local pid=${PROBE[$1.$2]}
	kill -TERM "$pid" 2>/dev/null || true
	within 30 gone "$pid" || fail "the $2 probe of $1 hangs"
	wait "$pid" || fail "the $2 probe of $1 saw an error"
	unset "PROBE[$1.$2]"
}

unmount_and_check() {
	lab stop "$@" || fail "cannot unmount"
	lab exec "$1" -- fsck.csvfs -n "$(lab url)" || fail "fsck.csvfs finds something"
}
