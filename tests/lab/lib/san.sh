# csvlab: the SAN: one tgtd with one target and one LUN.
#
# tgtd takes the path of its control socket from TGT_IPC_SOCKET (".0" is added), so that several run
# on one machine and none is the system's own.  One I/O thread: with more, its COMPARE AND WRITE is
# not atomic.  thin_provisioning=1 makes it say LBPME and LBPRZ.  It takes its time over SIGTERM
# and has nothing to save: the lab ends it with SIGKILL.
#
# With $CSVLAB_LIO, a folder that lab/lio/mk has made, the SAN is another one: LIO, the target of the Linux kernel, in a guest of QEMU
# whose disk is the LUN's file (an option of no test: without KVM the guest needs a processor for itself).

san_url() {
	echo "iscsi://$SAN_TARGET_IP:3260/$TARGET/1"
}

tgt() {
	TGT_IPC_SOCKET=$DIR/san/tgtd.sock nsenter --net="$DIR/ns/san" -- tgtadm --lld iscsi "$@"
}

tgt_answers() {
	[ -S "$DIR/san/tgtd.sock.0" ] && tgt --op show --mode sys >/dev/null 2>&1
}

san_up() {
	mkdir -p "$DIR/san"
	# A LUN in memory is as fast as the machine allows; the file is sparse, so only what is
	# written counts. With little memory it stands on the disk of DIR.
	local want free
	want=$(numfmt --from=iec "$SIZE")
	free=$(awk '/^MemAvailable:/ {printf "%.0f", $2 * 1024}' /proc/meminfo)
	if [ $((want + (1 << 30))) -le "$free" ]; then
		mount -t tmpfs -o "size=$((want + (16 << 20))),mode=700" csvlab "$DIR/san"
	fi
	truncate -s "$SIZE" "$DIR/san/lun.img"
	target_start
}

# The file that says which writes wait in the target (tests/shell/slow_pwrite.c), in a lab that was made for it.
san_hold() { echo "$DIR/san/hold"; }

lio_is_up() { grep -q READY "$DIR/san/console" 2>/dev/null; }

lio_start() {
	rm -f "$DIR/san/console"
	spawn san "$DIR/san/qemu.log" qemu-system-x86_64 -accel "${ACCEL:-tcg}" -cpu max -m 512 -smp 2 -display none -no-reboot \
		-kernel "$LIO/vmlinuz" -initrd "$LIO/initrd" \
		-append "console=ttyS0 panic=0 csvlab=$TARGET,$(lab_id),$SAN_TARGET_IP" -serial "file:$DIR/san/console" \
		-drive "file=$DIR/san/lun.img,format=raw,if=virtio,discard=unmap,detect-zeroes=off" \
		-netdev tap,id=n,ifname=tap0,script=no,downscript=no -device virtio-net-pci,netdev=n,romfile=
	wait_for 180 "LIO" lio_is_up
}

target_start() {
	if [ -n "${LIO:-}" ]; then
		lio_start
		return
	fi
	local serial threads=1
	local -a preload=()
	serial=$(lab_id)
	if [ "${HOLD:-0}" = 1 ]; then
		# With one thread a write that waits would hold up all others.
		threads=8
		preload=(env "LD_PRELOAD=$BUILD/shell/slow_pwrite.so" "HOLD=$(san_hold)")
	fi
	TGT_IPC_SOCKET=$DIR/san/tgtd.sock spawn san "$DIR/san/tgtd.log" ${preload[@]+"${preload[@]}"} \
		tgtd -f --nr_iothreads $threads --iscsi portal=$SAN_TARGET_IP:3260
	wait_for 10 "answer from tgtd" tgt_answers
	tgt --op new --mode target --tid 1 -T "$TARGET"
	tgt --op new --mode logicalunit --tid 1 --lun 1 -b "$DIR/san/lun.img"
	tgt --op update --mode logicalunit --tid 1 --lun 1 \
		--params "thin_provisioning=1,scsi_id=csvlab-$serial,scsi_sn=$serial"
	tgt --op bind --mode target --tid 1 -I ALL
}

target_pid() { ns_pids san | head -n 1; }

# A process that was killed is out of every list when its first thread has gone: the others may still have its socket.
target_port_free() {
	[ -z "$(nsenter --net="$DIR/ns/san" -- ss -Hltn "sport = :3260")" ]
}

# Killed and started again: it has forgotten every session and every registration.
target_restart() {
	ns_kill san
	wait_for 10 "end of tgtd" target_port_free
	rm -f "$DIR/san/tgtd.sock" "$DIR/san/tgtd.sock.0"*
	target_start
}

# The LUN becomes larger while it is in use. tgt looks at the size of a medium only when it is put in: for that moment
# (some ms) the LUN is not ready, which initiators wait out.
target_grow() {
	local lun=(--op update --mode logicalunit --tid 1 --lun 1 --params)
	! mountpoint -q "$DIR/san" || mount -o "remount,size=$(($(numfmt --from=iec "$1") + (16 << 20)))" "$DIR/san"
	truncate -s "$1" "$DIR/san/lun.img"
	tgt "${lun[@]}" removable=1,online=0
	tgt "${lun[@]}" "path=$DIR/san/lun.img"
	tgt "${lun[@]}" online=1,removable=0
}

# What is on the LUN at one moment, as if power had gone for all: tgtd stands still meanwhile.
lun_copy() {
	local pid rc=0
	pid=$(target_pid)
	kill -STOP "$pid"
	cp --sparse=always "$DIR/san/lun.img" "$1" || rc=$?
	kill -CONT "$pid"
	return $rc
}
