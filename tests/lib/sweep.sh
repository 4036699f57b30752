# Find and end what a test left behind. Sourced, not run.
#
#   leftovers ID WORK     names processes and mounts that are left; 1 if there are any (after 2 s)
#   sweep ID WORK         takes them away; 1 if something stays
#
# A test's processes all carry CSVFS_TEST_RUN=ID in their environment, daemons that left its
# process group too, so nobody else's process is ever ended; its mounts are all below WORK. An ID
# stands for ID.N, too: the whole run for each of what runs beside each other in it.
. "${BASH_SOURCE[0]%/*}/shm.sh"

test_pids() {
	local file
	grep -lsxz "CSVFS_TEST_RUN=${1//./\\.}\(\.[0-9]*\)\?" /proc/[0-9]*/environ 2>/dev/null | while read -r file; do
		file=${file#/proc/}
		echo "${file%/environ}"
	done
}

test_mounts() {
	awk -v d="$1/" 'index($5, d) == 1 {print $5}' /proc/self/mountinfo | tac
}

leftovers() {
	local n pids mounts
	for ((n = 0; n < 20; n++)); do
		pids=$(test_pids "$1")
		mounts=$(test_mounts "$2")
		[ -n "$pids$mounts" ] || return 0
		sleep 0.1
	done
	local pid
	for pid in $pids; do
		echo "process $pid: $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
	done
	[ -z "$mounts" ] || echo "mount $mounts"
	return 1
}

sweep() {
	local id=$1 work=$2 n lab pids pid mount corosyncs=
	[ -n "$id" ] && [ -n "$work" ] && [ "$work" != / ] || return 1
	# Labs know best how to end; what they cannot is ended below. They are found in the list of
	# mounts: to look for them in WORK could hang in a dead one.
	for lab in $(test_mounts "$work"); do
		case $lab in
		*/ns/hub) tests/lab/csvlab down --dir "${lab%/ns/hub}" ;;
		esac
	done
	for ((n = 0; n < 50; n++)); do
		pids=$(test_pids "$id")
		for pid in $pids; do
			[ "$(cat "/proc/$pid/comm" 2>/dev/null)" != corosync ] || corosyncs+=" $pid"
		done
		# Daemons first end their mounts by dying: then whoever waited for one can die.
		[ -z "$pids" ] || kill -KILL $pids 2>/dev/null
		for mount in $(test_mounts "$work"); do
			umount -l "$mount" 2>/dev/null
		done
		if [ -z "$pids$(test_mounts "$work")" ]; then
			shm_remove $corosyncs
			return 0
		fi
		sleep 0.1
	done
	shm_remove $corosyncs
	echo "cannot end: $pids $(test_mounts "$work")"
	return 1
}
