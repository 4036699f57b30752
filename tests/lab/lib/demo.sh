# csvlab demo: three nodes, one LUN; a path is lost, then the coordinator, and no application notices
# more than a pause. Each step prints what it does and what it measured; a figure with a bound is
# checked, and the demo ends with 0 only if every bound held.

DEMO_FILE_MIB=256
DEMO_LOAD_MIB=64

demo() {
	[ $# = 0 ] || die "demo takes no arguments but --dir"
	need_tools
	[ ! -e "$DIR/lab" ] || die "a lab is up in $DIR (csvlab down takes it away)"
	echo "building"
	need_programs
	export CSVFS_BUILD=$BUILD CSVLAB_DIR=$DIR
	BAD=0 STEP=0 DEMO_START=$EPOCHREALTIME
	trap demo_end EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP

	demo_up
	demo_same_bytes
	demo_load
	demo_lost_path reject 5
	demo_lost_path drop 10
	demo_move
	demo_crash
	demo_back
	demo_finish
	[ $BAD = 0 ]
}

demo_end() {
	local rc=$?
	trap '' INT TERM HUP
	if [ $rc != 0 ] && [ -e "$DIR/lab" ]; then
		printf '\nThe demo did not hold what it promises. The logs end with:\n'
		lab_quiet logs
	fi
	lab_quiet down || rc=1
	printf '\n'
	if [ $rc = 0 ]; then
		echo "Every bound held. Nothing is left behind. ($(elapsed) s)"
	else
		echo "FAILED after $(elapsed) s"
	fi
	exit $rc
}

# ---- telling

elapsed() { awk -v a="$DEMO_START" -v b="$EPOCHREALTIME" 'BEGIN {printf "%.0f", b - a}'; }
now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }
seconds() { awk -v ms="$1" 'BEGIN {printf "%.2f s", ms / 1000}'; }
mib() { awk -v b="$1" 'BEGIN {printf "%.*f MiB", b < 1048576 ? 3 : 1, b / 1048576}'; }

step() {
	STEP=$((STEP + 1))
	printf '\n[%3s s] %d. %s\n' "$(elapsed)" $STEP "$1"
}

figure() { printf '         %-46s %s\n' "$1" "$2"; }

# bound WHAT VALUE-SHOWN HOLDS BOUND-SHOWN: HOLDS is an arithmetic expression
bound() {
	local verdict=ok
	if ! (($3)); then
		verdict="NOT MET"
		BAD=1
	fi
	printf '         %-46s %-12s (%s) %s\n' "$1" "$2" "$4" "$verdict"
}

lab_quiet() { "$LAB_SOURCE/csvlab" "$@" 9>&-; }

lab() {
	echo "         \$ csvlab $*"
	lab_quiet "$@"
}

# One line of the picture: the argument list is printed in boxes, one for each node.
picture_row() {
	local cell
	printf '        '
	for cell in "$@"; do printf '   | %-16s |' "$cell"; done
	printf '\n'
}

picture() {
	local node mode role state cut
	local -a names=() modes=() tops=() ways=()
	for node in $(all_nodes); do
		state=$(node_state "$node")
		mode=$(jq -r '.mode' <<<"$state")
		role=
		[ "$(jq -r '.coordinator // ""' <<<"$state")" = "$node" ] && role=" coordinator"
		cut=$(cat "$DIR/$node/cut.san")
		names+=("$node$role")
		modes+=("$mode")
		if [ "$mode" = off ]; then tops+=(' '); else tops+=('|'); fi
		case $mode/$cut in
		off/*) ways+=(' ') ;;
		*/up) ways+=('|') ;;
		*) ways+=('X') ;;
		esac
	done
	local edge='   +------------------+'
	local line='-----------+----------'
	printf '        %s%s%s  cluster network: corosync, TLS\n' "$line" "$line" "$line"
	printf '                   %s                     %s                     %s\n' "${tops[@]}"
	printf '        %s%s%s\n' "$edge" "$edge" "$edge"
	picture_row "${names[@]}"
	picture_row "${modes[@]}"
	printf '        %s%s%s\n' "$edge" "$edge" "$edge"
	printf '                   %s                     %s                     %s\n' "${ways[@]}"
	printf '        %s%s%s  SAN: iSCSI\n' "$line" "$line" "$line"
	printf '                                 [ LUN, %s ]\n' "$SIZE"
}

# ---- asking

# csvctl state of one node; an object with a mode even if nobody answers.
node_state() {
	local state
	if [ -e "$DIR/$1/off" ]; then
		echo '{"mode":"off"}'
	elif state=$(timeout 5 csvctl -s "$DIR/$1/csvfs.sock" state --json 2>/dev/null); then
		echo "$state"
	else
		echo '{"mode":"silent"}'
	fi
}

mode_is() { [[ $(node_state "$1" | jq -r .mode) =~ ^($2)$ ]]; }
coordinator() { node_state "$1" | jq -r '.coordinator // ""'; }
coordinator_is() { [ "$(coordinator "$1")" = "$2" ]; }
new_coordinator() { # not the node that crashed
	local c
	c=$(coordinator "$1")
	[[ $c == n* && $c != "$2" ]]
}

# until_ms SECONDS CMD...: prints how many ms it took until CMD succeeded; 1 if it did not.
until_ms() {
	local start limit=$1
	start=$(now_ms)
	shift
	until "$@"; do
		if [ $(($(now_ms) - start)) -gt $((limit * 1000)) ]; then
			echo $(($(now_ms) - start))
			return 1
		fi
		sleep 0.05
	done
	echo $(($(now_ms) - start))
}

# File data that went straight to the LUN, of all nodes, and that NODE sent through another one, in
# bytes. These two know the names in csvctl's state.
direct_bytes() {
	local node
	for node in $(all_nodes); do
		node_state "$node" |
			jq '.bytes | (.direct_read // 0) + (.direct_written // 0)'
	done | awk '{n += $1} END {printf "%.0f", n}'
}

redirected_bytes() {
	node_state "$1" |
		jq '.bytes | (.redirected_read // 0) + (.redirected_written // 0)'
}

# Bytes that the nodes have sent, and sent and received, on an interface.
sent_on() { sum_on '$10' "$1"; }
carried_on() { sum_on '$2 + $10' "$1"; }

sum_on() {
	local node
	for node in $(all_nodes); do
		nsenter --net="$DIR/ns/$node" -- cat /proc/net/dev
	done | awk -v i="$2:" '$1 == i {n += '"$1"'} END {printf "%.0f", n}'
}

# Every byte of a node's file, read through its mount.
sum_of_file() {
	dd if="$DIR/$1/mnt/file" bs=1M iflag=direct 2>/dev/null | sha256sum || true
}

# ---- what runs on the nodes

declare -A PROBE LOAD # their pids: of the programs themselves, since nsenter becomes them

probes_start() {
	local node kind target
	for node in "$@"; do
		mkdir -p "$DIR/$node/mnt/probe.$node"
		for kind in data meta; do
			target=$DIR/$node/mnt/probe.$node
			[ $kind = data ] && target+=/data
			rm -f "$DIR/demo/$node.$kind.log"
			nsenter --net="$DIR/ns/$node" -- "$BUILD/lab/probe" $kind "$target" "$DIR/demo/$node.$kind.log" \
				</dev/null >"$DIR/demo/$node.$kind.end" 2>"$DIR/demo/$node.$kind.err" 9>&- &
			PROBE[$node.$kind]=$!
		done
	done
	for node in "$@"; do
		for kind in data meta; do
			until_ms 20 test -s "$DIR/demo/$node.$kind.log" >/dev/null ||
				die "the $kind probe of $node does not start"
		done
	done
}

# The longest stall that a probe saw since T (ms). It is known once an operation that ended now or
# later has been logged; one that hangs for 40 s is a stall of at least that.
stall_since() {
	local log=$DIR/demo/$1.$2.log since=$3 mark waited
	mark=$(now_ms)
	until [ "$(tail -n 1 "$log" | cut -d' ' -f1)" -ge "$mark" ]; do
		waited=$(($(now_ms) - mark))
		if [ $waited -gt 40000 ]; then
			echo $(($(now_ms) - $(tail -n 1 "$log" | cut -d' ' -f1)))
			return
		fi
		sleep 0.05
	done
	awk -v t="$since" '$1 >= t && $2 > max {max = $2} END {print max + 0}' "$log"
}

probe_errors() { tail -n 1 "$DIR/demo/$1.$2.log" | awk '{print $4 + 0}'; }

stalls() { # stalls SINCE KIND BOUND-MS NODE...
	local since=$1 kind=$2 limit=$3 node ms name=data
	shift 3
	[ "$kind" = meta ] && name=metadata
	for node in "$@"; do
		ms=$(stall_since "$node" "$kind" "$since")
		if [ "$limit" = - ]; then
			figure "longest stall, $name of $node" "$(seconds "$ms")"
		else
			bound "longest stall, $name of $node" "$(seconds "$ms")" "$ms < $limit" \
				"under $((limit / 1000)) s"
		fi
	done
}

# fio tells how long each of its requests waited only when it ends. So each step leaves a note:
# watch WHAT SINCE BOUND-MS NODE..., and fio_waits judges them then.
WATCHES=()
watch() {
	WATCHES+=("$1;$2;$(now_ms);$3;${*:4}")
}

fio_waits() {
	local what since until limit nodes node ms
	while IFS=';' read -r what since until limit nodes; do
		for node in $nodes; do
			[ "$node" != "$DEAD" ] || continue # its fio went down with it
			# a line: end of the request (ms), how long it waited (ns), ...
			ms=$(cat "$DIR/demo/$node"_lat.*.log 2>/dev/null | awk -F', *' -v a="$since" -v b="$until" '
				$1 >= a && $1 <= b {n++; if ($2 > max) max = $2}
				END {printf "%d", n ? max / 1e6 : -1}')
			bound "fio's longest wait on $node, $what" "$(seconds "$ms")" \
				"$ms >= 0 && $ms < $limit" "under $((limit / 1000)) s"
		done
	done < <(printf '%s\n' "${WATCHES[@]}")
}

no_errors() {
	local node kind n=0
	for node in "$@"; do
		for kind in data meta; do n=$((n + $(probe_errors "$node" $kind))); done
		kill -0 "${LOAD[$node]}" 2>/dev/null || n=$((n + 1))
	done
	bound "errors seen by applications on $*" "$n" "$n == 0" "none"
}

ended() {
	local pid
	for pid in "$@"; do
		kill -0 "$pid" 2>/dev/null && return 1
	done
	return 0
}

load_start() {
	local node
	for node in "$@"; do
		nsenter --net="$DIR/ns/$node" -- fio --name="load-$node" --filename="$DIR/$node/mnt/load.$node" \
			--size=${DEMO_LOAD_MIB}m --rw=randwrite --bs=64k --direct=1 --ioengine=libaio \
			--iodepth=4 --rate=6m --verify=crc32c --verify_backlog=64 --verify_fatal=1 --verify_state_save=0 \
			--time_based --runtime=1000 --write_lat_log="$DIR/demo/$node" --log_unix_epoch=1 \
			--output-format=json --output="$DIR/demo/$node.fio" \
			</dev/null >/dev/null 2>"$DIR/demo/$node.fio.err" 9>&- &
		LOAD[$node]=$!
	done
}

# ---- the story

demo_up() {
	step "Three nodes mount one LUN"
	local mounts
	mounts=$(lab up --nodes 3)
	printf '%s\n' "$mounts" | sed 's/^\//         \//'
	. "$DIR/lab"
	mkdir -p "$DIR/demo"
	# The story takes n2's path away; somebody else should coordinate then.
	if coordinator_is n1 n2; then
		csvctl -s "$DIR/n1/csvfs.sock" move n1 >/dev/null
		until_ms 10 coordinator_is n1 n1 >/dev/null || true
	fi
	local node
	for node in n1 n2 n3; do
		until_ms 10 mode_is $node direct >/dev/null || true
		bound "mode of $node" "$(node_state $node | jq -r .mode)" "$(is_direct $node)" direct
	done
	picture
}

is_direct() { mode_is "$1" direct && echo 1 || echo 0; }

demo_same_bytes() {
	step "A file of $DEMO_FILE_MIB MiB written on n1 is the same on n2 and n3"
	local node sum want start
	head -c ${DEMO_FILE_MIB}M /dev/urandom >"$DIR/san/random" 2>/dev/null
	want=$(sha256sum <"$DIR/san/random")
	start=$(now_ms)
	dd if="$DIR/san/random" of="$DIR/n1/mnt/file" bs=1M oflag=direct conv=fsync 2>/dev/null ||
		die "cannot write the file on n1"
	figure "written on n1 in" "$(seconds $(($(now_ms) - start)))"
	rm -f "$DIR/san/random"
	for node in n1 n2 n3; do
		sum=$(sum_of_file $node)
		bound "sha256 on $node" "${sum:0:12}" "$([ "$sum" = "$want" ] && echo 1 || echo 0)" \
			"${want:0:12}"
	done
	WANT_SUM=$want
}

demo_load() {
	step "Verified load on all three nodes (fio, O_DIRECT, crc32c): it goes straight to the LUN"
	local node direct network san data
	for node in n1 n2 n3; do
		dd if=/dev/zero of="$DIR/$node/mnt/load.$node" bs=1M count=$DEMO_LOAD_MIB oflag=direct \
			conv=fsync 2>/dev/null || die "cannot write on $node"
	done
	load_start n1 n2 n3
	sleep 2
	direct=$(direct_bytes)
	network=$(sent_on cl0)
	san=$(carried_on san0)
	sleep 3
	direct=$(($(direct_bytes) - direct))
	network=$(($(sent_on cl0) - network))
	san=$(($(carried_on san0) - san))
	figure "data, direct to the LUN, in 10 s" "$(mib $direct)"
	figure "all bytes on the SAN, both ways" "$(mib $san)"
	figure "all bytes on the cluster network" "$(mib $network)"
	bound "data that went direct" "$(mib $direct)" "$direct > 64 << 20" "over 64 MiB"
	bound "network for each byte of data" \
		"$(awk -v n=$network -v d=$direct 'BEGIN {printf "%.2f %%", d ? 100 * n / d : 100}')" \
		"$network * 100 < $direct" "under 1 %"
	probes_start n1 n2 n3
	sleep 2
	no_errors n1 n2 n3
}

demo_lost_path() {
	local how=$1 limit=$2 since ms redirected
	step "n2's way to the LUN is cut ($how). It goes on through another node"
	redirected=$(redirected_bytes n2)
	since=$(now_ms)
	lab san n2 "$how"
	ms=$(until_ms $((limit + 5)) mode_is n2 '.*redirected') || true
	figure "n2 is redirected after" "$(seconds "$ms")"
	bound "mode of n2" "$(node_state n2 | jq -r .mode)" \
		"$(mode_is n2 '.*redirected' && echo 1 || echo 0)" "redirected"
	figure "reason" "$(node_state n2 | jq -r '.reason // "-"')"
	sleep 3
	stalls "$since" data $((limit * 1000)) n2
	stalls "$since" meta $((limit * 1000)) n2
	redirected=$(($(redirected_bytes n2) - redirected))
	bound "data that n2 sent through another node" "$(mib $redirected)" "$redirected > 0" "some"
	stalls "$since" data - n1 n3
	no_errors n1 n2 n3
	watch "path lost ($how)" "$since" $((limit * 1000)) n2
	picture

	step "n2's way to the LUN is back"
	since=$(now_ms)
	lab san n2 up
	ms=$(until_ms 15 mode_is n2 direct) || true
	bound "n2 is direct again, by itself, after" "$(seconds "$ms")" "$ms < 10000" "under 10 s"
	stalls "$since" data - n2
	no_errors n1 n2 n3
}

demo_move() {
	step "The coordinator is moved by hand"
	local since from to=n3 ms
	from=$(coordinator n1)
	[ "$from" != n3 ] || to=n1
	since=$(now_ms)
	echo "         \$ csvctl move $to"
	csvctl -s "$DIR/n1/csvfs.sock" move $to >/dev/null || BAD=1
	ms=$(until_ms 10 coordinator_is n2 $to) || true
	bound "$from -> $to, seen by n2 after" "$(seconds "$ms")" \
		"$(coordinator_is n2 $to && echo 1 || echo 0)" "moved"
	sleep 1
	stalls "$since" meta 1000 n1 n2 n3
	stalls "$since" data 1000 n1 n2 n3
	no_errors n1 n2 n3
	watch "coordinator moved" "$since" 1000 n1 n2 n3
}

demo_crash() {
	local dead since ms node
	local -a others=()
	dead=$(coordinator n2)
	[[ $dead == n[123] ]] || die "nobody coordinates"
	step "$dead, the coordinator's node, loses power"
	for node in n1 n2 n3; do [ "$node" = "$dead" ] || others+=("$node"); done
	since=$(now_ms)
	# What ran on it dies with it, and bash would say so of each.
	lab crash "$dead" 2>"$DIR/demo/crash.err" || die "$(cat "$DIR/demo/crash.err")"
	wait "${PROBE[$dead.data]}" "${PROBE[$dead.meta]}" "${LOAD[$dead]}" 2>/dev/null || true
	ms=$(until_ms 20 new_coordinator "${others[0]}" "$dead") || true
	bound "coordinator is now" "$(coordinator "${others[0]}")" \
		"$(new_coordinator "${others[0]}" "$dead" && echo 1 || echo 0)" "not $dead"
	figure "it took over after" "$(seconds "$ms")"
	sleep 3
	stalls "$since" meta 10000 "${others[@]}"
	stalls "$since" data 1000 "${others[@]}"
	no_errors "${others[@]}"
	watch "$dead crashed" "$since" 1000 "${others[@]}"
	picture
	DEAD=$dead OTHERS=("${others[@]}")
}

demo_back() {
	step "$DEAD comes back"
	local since ms sum
	since=$(now_ms)
	lab start "$DEAD"
	figure "it has mounted after" "$(seconds $(($(now_ms) - since)))"
	ms=$(until_ms 10 mode_is "$DEAD" direct) || true
	bound "mode of $DEAD" "$(node_state "$DEAD" | jq -r .mode)" "$(is_direct "$DEAD")" direct
	sum=$(sum_of_file "$DEAD")
	bound "sha256 of the first file on $DEAD" "${sum:0:12}" \
		"$([ "$sum" = "$WANT_SUM" ] && echo 1 || echo 0)" "${WANT_SUM:0:12}"
	stalls "$since" meta - "${OTHERS[@]}"
	stalls "$since" data - "${OTHERS[@]}"
	no_errors "${OTHERS[@]}"
	load_start "$DEAD"
	probes_start "$DEAD"
	sleep 3
	no_errors n1 n2 n3
	picture
}

demo_finish() {
	step "The load ends, all nodes unmount, and the volume is checked"
	local node kind errors json n
	for node in n1 n2 n3; do
		kill -TERM "${LOAD[$node]}" 2>/dev/null || true
		for kind in data meta; do kill -TERM "${PROBE[$node.$kind]}" 2>/dev/null || true; done
	done
	for node in n1 n2 n3; do
		until_ms 20 ended "${LOAD[$node]}" "${PROBE[$node.data]}" "${PROBE[$node.meta]}" >/dev/null ||
			die "the load of $node does not end"
		errors=0
		for kind in data meta; do wait "${PROBE[$node.$kind]}" || errors=$((errors + 1)); done
		# After a signal fio ends with a status of its own: what counts is in its report.
		wait "${LOAD[$node]}" || true
		json=$(sed -n '/^{/,$p' "$DIR/demo/$node.fio")
		n=$(jq '[.jobs[] | .error + .total_err] | add' <<<"$json" 2>/dev/null) || n=1
		errors=$((errors + ${n:-1}))
		bound "errors on $node, fio and probes" $errors "$errors == 0" "none"
		figure "fio on $node wrote, read back, longest wait" \
			"$(jq -r '.jobs[0] | "\(.write.io_bytes / 1048576 | floor) MiB, \(.read.io_bytes
				/ 1048576 | floor) MiB, \([.write.clat_ns.max, .read.clat_ns.max] | max
				/ 1e7 | round / 100) s"' <<<"$json" 2>/dev/null || echo "no report")"
		cat "$DIR/demo/$node".*.err | head -n 5
	done
	fio_waits
	lab state
	lab stop n1 n2 n3
	echo "         \$ fsck.csvfs -n $(san_url)"
	local rc=0
	nsenter --net="$DIR/ns/n1" -- fsck.csvfs -n "$(san_url)" >"$DIR/demo/fsck" 2>&1 </dev/null 9>&- || rc=$?
	tail -n 5 "$DIR/demo/fsck" | sed 's/^/         /'
	bound "fsck.csvfs" "status $rc" "$rc == 0" "0: nothing found"
}
