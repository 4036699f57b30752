# csvlab: the processes of a lab.
#
# A process belongs to the lab if it is in one of the lab's network namespaces: whatever the lab
# started is in one, nothing else ever is, and the namespace cannot be mistaken for another while
# the lab holds it.  So no list of process ids has to be kept, none can be stale, and what a killed
# csvlab left running is found as well.

# The pids in the network namespace of $1 (hub, san, n1, ...). A zombie has no namespace any more.
ns_pids() {
	local inode
	[ -e "$DIR/ns/$1" ] || return 0
	inode=$(stat -Lc %i "$DIR/ns/$1")
	{ find /proc/[0-9]*/ns/net -maxdepth 0 -lname "net:\\[$inode\\]" 2>/dev/null || true; } |
		cut -d/ -f3
}

in_ns() {
	[ "$(readlink "/proc/$2/ns/net" 2>/dev/null)" = "net:[$(stat -Lc %i "$DIR/ns/$1")]" ]
}

# This shell and those that wait for it: `csvlab exec n1 -- csvlab down` must not kill itself.
own_pids() {
	local pid=$$
	while [ "$pid" -gt 1 ]; do
		echo "$pid"
		pid=$(awk '/^PPid:/ {print $2}' "/proc/$pid/status" 2>/dev/null) || return 0
		[ -n "$pid" ] || return 0
	done
}

# End every process in the namespaces named, at once, and return when none is left.
ns_kill() {
	local name pid round spare
	local -a pids
	spare=" $(own_pids | tr '\n' ' ') "
	NS_KILLED=()
	for ((round = 0; round < 100; round++)); do
		pids=()
		for name in "$@"; do
			for pid in $(ns_pids "$name"); do
				[[ $spare == *" $pid "* ]] || pids+=("$pid")
			done
		done
		if [ ${#pids[@]} = 0 ]; then
			shm_remove ${NS_KILLED[@]+"${NS_KILLED[@]}"}
			return 0
		fi
		kill -KILL "${pids[@]}" 2>/dev/null || true
		NS_KILLED+=("${pids[@]}")
		[ $round = 0 ] || sleep 0.05
	done
	echo "csvlab: these do not end: ${pids[*]}" >&2
	return 1
}

# Wait for init to reap what ns_kill ended, so that no process list shows it any more.
ns_reaped() {
	local pid
	for pid in ${NS_KILLED[@]+"${NS_KILLED[@]}"}; do
		[ ! -e "/proc/$pid" ] || return 1
	done
}

# spawn NAMESPACE LOG CMD...: start a daemon that stays in the foreground, in a session of its own.
# It gets no descriptor of ours: neither the lock, nor the pipe of whoever reads our output.
spawn() {
	local name=$1 log=$2
	shift 2
	setsid nsenter --net="$DIR/ns/$name" -- "$@" </dev/null >>"$log" 2>&1 9>&- &
	disown
}

# wait_for SECONDS WHAT CMD...: 0 as soon as CMD succeeds, else 1 with a message.
wait_for() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@"; do
		if [ $SECONDS -gt $end ]; then
			echo "csvlab: no $what" >&2
			return 1
		fi
		sleep 0.05
	done
}

lazy_umount() {
	local n=0
	while mountpoint_listed "$1" && [ $n -lt 8 ]; do
		umount -l "$1" 2>/dev/null || true
		n=$((n + 1))
	done
}

# mountpoint(1) asks the file system, and a dead one answers with an error: look at the list.
mountpoint_listed() {
	awk -v m="$1" '$5 == m {found = 1} END {exit !found}' /proc/self/mountinfo
}
