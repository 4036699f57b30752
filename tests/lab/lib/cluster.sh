# csvlab: corosync, certificates, and csvfs of each node.
#
# Several corosyncs on one machine (measured with 3.1.7): each network namespace has its own abstract
# sockets, by which libqb's clients find the server, and the shared memory they then use is named
# after the server's pid, so neither needs to be kept apart; the state folder is a setting.  Only
# the lock file /run/corosync.pid is fixed, so corosync, and it alone, gets a /run of its own.
#
# The mount namespace that takes is a copy, with every mount of the machine in it, and a FUSE mount
# ends only when its last copy does: a node that was unmounted would stay mounted inside another's
# corosync, with its daemon still running (seen: umount of n1 after a start of n3 never ended n1's
# daemon).  So FUSE mounts are taken out of the copy at once.

node_mnt() { echo "$DIR/$1/mnt"; }

node_files() {
	local node=$1 conf=$DIR/$1/corosync/corosync.conf peer
	mkdir -p "$DIR/$node/mnt" "$DIR/$node/corosync/state" "$DIR/$node/pki"
	{
		cat <<-CONF
			totem {
				version: 2
				cluster_name: $CLUSTER
				transport: knet
				token: 1000
			}
			quorum {
				provider: corosync_votequorum
				two_node: $([ "$NODES" = 2 ] && echo 1 || echo 0)
			}
			system {
				state_dir: $DIR/$node/corosync/state
			}
			logging {
				to_stderr: no
				to_syslog: no
				to_logfile: yes
				logfile: $DIR/$node/corosync/corosync.log
				timestamp: hires
			}
			nodelist {
		CONF
		for peer in $(all_nodes); do
			cat <<-CONF
				node {
					name: $peer
					nodeid: ${peer#n}
					ring0_addr: $(cluster_ip "$peer")
				}
			CONF
		done
		echo "}"
	} >"$conf"
}

corosync_pid() {
	local pid
	for pid in $(ns_pids "$1"); do
		if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = corosync ]; then
			echo "$pid"
			return 0
		fi
	done
	return 1
}

corosync_gone() { ! corosync_pid "$1" >/dev/null; }

corosync_quorate() {
	nsenter --net="$DIR/ns/$1" -- corosync-quorumtool -s 2>/dev/null |
		grep -q '^Quorate: *Yes'
}

corosync_up() {
	local node
	for node in "$@"; do
		corosync_pid "$node" >/dev/null && continue
		spawn "$node" "$DIR/$node/corosync/stderr" unshare --mount sh -c '
			awk '\''$3 ~ /^fuse(blk)?(\.|$)/ {print $2}'\'' /proc/mounts | tac |
				while read -r m; do umount -l "$(printf %b "$m")"; done
			mount -t tmpfs -o size=1m csvlab /run
			exec corosync -f -c "$1"' sh "$DIR/$node/corosync/corosync.conf"
	done
	# Nodes that are started while a majority is off stay without quorum, and that is no error of
	# start: csvfs waits for quorum itself.
	for node in "$@"; do
		wait_for 20 "quorum on $node" corosync_quorate "$node" || [ "$command" = start ]
	done
}

pki_up() {
	csvctl pki init "$DIR/pki" --cluster "$CLUSTER" >"$DIR/pki.log" 2>&1 || die_with "$DIR/pki.log"
	local node
	for node in $(all_nodes); do
		csvctl pki node "$DIR/pki" "$node" "$DIR/$node/pki" >>"$DIR/pki.log" 2>&1 ||
			die_with "$DIR/pki.log"
	done
}

volume_make() {
	nsenter --net="$DIR/ns/n1" -- mkfs.csvfs -C "$CLUSTER" -L lab "$(san_url)" \
		>"$DIR/mkfs.log" 2>&1 </dev/null 9>&- || die_with "$DIR/mkfs.log"
}

die_with() {
	cat "$1" >&2
	die "${2:-failed: see above}"
}

# csvfs's pid, if it runs. The pid is believed only of a process in the node's own namespace.
csvfs_pid() {
	local pid
	pid=$(cat "$DIR/$1/csvfs.pid" 2>/dev/null) || return 1
	[[ $pid =~ ^[0-9]+$ ]] && in_ns "$1" "$pid" && echo "$pid"
}

mount_one() {
	local node=$1 mnt
	mnt=$(node_mnt "$node")
	if csvfs_pid "$node" >/dev/null && mountpoint_listed "$mnt"; then
		return 0
	fi
	lazy_umount "$mnt"
	rm -f "$DIR/$node/csvfs.pid" "$DIR/$node/csvfs.sock"
	timeout 60 nsenter --net="$DIR/ns/$node" -- csvfs "$(san_url)" "$mnt" -o \
		"pki=$DIR/$node/pki,port=7660,addr=$(cluster_ip "$node"),ctl=$DIR/$node/csvfs.sock,\
log=$DIR/$node/csvfs.log,pidfile=$DIR/$node/csvfs.pid,initiator=iqn.2026-11.lab.csvfs:$node${CSVLAB_OPTIONS:+,$CSVLAB_OPTIONS}" \
		</dev/null >>"$DIR/$node/csvfs.out" 2>&1 9>&-
}

mount_up() {
	local node failed=0
	local -A job
	for node in "$@"; do
		mount_one "$node" &
		job[$node]=$!
	done
	for node in "$@"; do
		if ! wait "${job[$node]}"; then
			echo "csvlab: $node could not mount:" >&2
			tail -n 5 "$DIR/$node/csvfs.out" >&2 || true
			failed=1
		fi
	done
	[ $failed = 0 ] || exit 1
}

# A node whose path has just come up waits for a word of the coordinator before it uses it: what is done to
# the cluster before that would find nobody at work. In 5 s at most.
settle() {
	local node n
	for node in "$@"; do
		for ((n = 0; n < 100; n++)); do
			! csvctl -s "$DIR/$node/csvfs.sock" state 2>/dev/null | grep -q '^mode *direct' || break
			sleep 0.05
		done
	done
}

csvfs_gone() { ! csvfs_pid "$1" >/dev/null; }

mount_down() {
	local node=$1 mnt
	mnt=$(node_mnt "$node")
	if mountpoint_listed "$mnt"; then
		timeout 30 umount "$mnt" || die "cannot unmount $node"
	fi
	wait_for 30 "end of csvfs on $node" csvfs_gone "$node" || exit 1
}

# csvctl state of every node. A node that is off or whose daemon does not run has a mode too: off,
# and one that does not answer within 5 s: silent.
lab_state() {
	local json=0 node text
	[ "${1:-}" = --json ] && json=1 && shift
	[ $# = 0 ] || die "state [--json]"
	for node in $(all_nodes); do
		if [ -e "$DIR/$node/off" ] || ! csvfs_pid "$node" >/dev/null; then
			text=off
		elif ! text=$(timeout 5 csvctl -s "$DIR/$node/csvfs.sock" state \
			$([ $json = 1 ] && echo --json) 2>/dev/null); then
			text=silent
		fi
		case $json/$text in
		1/off | 1/silent) printf '{"node":"%s","mode":"%s"}\n' "$node" "$text" ;;
		0/off | 0/silent) printf '%s: %s\n' "$node" "$text" ;;
		*) printf '%s\n' "$text" ;;
		esac
	done | if [ $json = 1 ]; then jq -s .; else cat; fi
}

print_logs() {
	local file
	for file in "$DIR"/*.log "$DIR"/san/tgtd.log "$DIR"/n*/corosync/stderr \
		"$DIR"/n*/corosync/corosync.log "$DIR"/n*/csvfs.out "$DIR"/n*/csvfs.log; do
		[ -s "$file" ] || continue
		echo "==> ${file#"$DIR"/}"
		case $file in
		*/csvfs.log) tail -n 40 "$file" ;;
		*) tail -n 12 "$file" ;;
		esac
	done
}

# Everything away, in an order in which nothing can come back or hang: processes, mounts,
# namespaces (the links and bridges go with them), files. It may be run on any part of a lab.
lab_down() {
	local name path rc=0
	local -a names=()
	for path in "$DIR"/ns/*; do
		[ -e "$path" ] && names+=("${path##*/}")
	done
	ns_kill ${names[@]+"${names[@]}"} || rc=1
	for path in $(awk -v d="$DIR/" 'index($5, d) == 1 {print $5}' /proc/self/mountinfo | tac); do
		lazy_umount "$path"
	done
	for name in ${names[@]+"${names[@]}"}; do ns_remove "$name"; done
	if awk -v d="$DIR/" 'index($5, d) == 1 {found = 1} END {exit !found}' /proc/self/mountinfo; then
		die "mounts are left below $DIR"
	fi
	rm -rf --one-file-system "$DIR"/n[0-9]* "$DIR/san" "$DIR/ns" "$DIR/pki" "$DIR"/*.log "$DIR/demo"
	[ $rc = 0 ] || exit 1
	rm -f "$DIR/lab"
	rmdir "$DIR" 2>/dev/null || true
	wait_for 5 "end of zombies" ns_reaped 2>/dev/null || true
}
