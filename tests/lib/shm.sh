# What a killed corosync leaves in shared memory. Sourced, not run.
#
#   shm_remove PID...     the corosyncs with these pids are dead: take it away
#
# libqb names its folders and files after the server's pid: 8 MiB of trace, and its clients' rings.

shm_remove() {
	local pid
	for pid in "$@"; do
		rm -rf /dev/shm/qb-corosync-"$pid"-* /dev/shm/qb-"$pid"-*
	done
}
