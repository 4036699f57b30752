#!/usr/bin/env bash
# A guest (guest.S, in QEMU without KVM) is live-migrated round three hosts while it reads and writes its virtual disk, which stays
# where it is; meanwhile the coordinator moves, a host loses its way to the SAN, and the coordinator loses
# power. The guest sees no error and no old data, not a write is lost, and nobody can start its disk a second time.
# timeout: 240
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 3 --size 1G >/dev/null
RING=256 GUEST=n1 NR=0
declare -A PID FD OUT

as --32 -o "$TMPDIR/guest.o" "$(dirname "$0")/guest.S"
ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o "$TMPDIR/guest.bin" "$TMPDIR/guest.o"
DISK() { echo "$(lab mnt "$1")/disk.raw"; }
lab exec n1 -- qemu-img create -q -f raw "$(DISK n1)" 64M
dd if="$TMPDIR/guest.bin" of="$(DISK n1)" conv=notrunc,fsync status=none

# host NODE [QEMU-OPTION...]: a QEMU on NODE, commanded by tell
host() {
	local node=$1 fifo=$TMPDIR/qemu.$((NR += 1)) fd
	shift
	mkfifo "$fifo"
	OUT[$node]=$fifo.out
	(exec "$LAB" exec "$node" -- qemu-system-x86_64 -nodefaults -display none -m 16 -accel tcg -monitor stdio \
		-blockdev "driver=raw,node-name=d,file.driver=file,file.aio=native,file.cache.direct=on,file.filename=$(DISK "$node")" \
		-device virtio-blk-pci,drive=d,werror=report,rerror=report \
		-chardev "file,id=c,append=on,path=$TMPDIR/serial" -serial chardev:c "$@") <"$fifo" >"$fifo.out" 2>&1 &
	PID[$node]=$!
	exec {fd}>"$fifo"
	FD[$node]=$fd
}
tell() { echo "$2" >&"${FD[$1]}"; }
ended() { # ended NODE: its QEMU
	local fd=${FD[$1]}
	tell "$1" quit || true
	exec {fd}>&-
	within 20 gone "${PID[$1]}" || fail "QEMU on $1 does not end"
	wait "${PID[$1]}" || fail "QEMU on $1: $(tail -n 5 "${OUT[$1]}")"
}
status_is() { # status_is NODE TEXT: the guest there
	tell "$1" "info status"
	sleep 0.1
	tail -n 2 "${OUT[$1]}" | grep -q "VM status: $2"
}
# The numbers in the ring, seen from NODE.
numbers() { dd if="$(DISK "$1")" iflag=direct bs=128k skip=8 count=1 status=none | od -A n -v -t u4 -w512 | awk '{print $1}'; }
highest() { numbers "$1" | sort -n | tail -n 1; }
above() { [ "$(highest "$1")" -gt "$2" ]; }
writes() { within "${2:-10}" above "$GUEST" $(($(highest "$GUEST") + 20)) || fail "the guest on $GUEST does not write ($1)"; }
healthy() { ! grep -q '[ED]' "$TMPDIR/serial" || fail "the guest saw an error (E) or old data (D) ($1): $(cat "$TMPDIR/serial")"; }
not_twice() {
	local out
	! out=$(timeout 20 "$LAB" exec "$1" -- qemu-io -f raw -c "read 0 4k" "$(DISK "$1")" 2>&1) || fail "$1 starts the disk as well"
	grep -q 'Failed to get .* lock' <<<"$out" || fail "$1: $out"
}

# migrate NODE [CMD...]: the guest goes there, and CMD happens on the way
migrate() {
	local from=$GUEST to=$1 port=$((4440 + NR)) t
	shift
	host "$to" -incoming "tcp:0:$port"
	within 10 lab exec "$to" -- sh -c "ss -ltn | grep -q :$port" || fail "QEMU on $to does not listen: $(cat "${OUT[$to]}")"
	t=$(date +%s%N)
	tell "$from" "migrate -d tcp:10.77.0.${to#n}:$port"
	"$@"
	within 40 status_is "$from" "paused (postmigrate)" || fail "the guest stays on $from: $(tail -n 5 "${OUT[$from]}")"
	within 20 status_is "$to" running || fail "the guest does not run on $to: $(tail -n 5 "${OUT[$to]}")"
	GUEST=$to
	writes "after it came to $to"
	echo "# $from -> $to, and writes: $((($(date +%s%N) - t) / 1000000)) ms${*:+ ($*)}"
	ended "$from"
	healthy "$from -> $to"
}
move() {
	lab exec n1 -- "$CSVFS_BUILD/csvctl" -s "$CSVLAB_DIR/n1/csvfs.sock" move "$1" >/dev/null
	within 20 coordinator_is n1 "$1" || fail "$1 does not coordinate"
}
# Neither may end on a host that is to lose its power.
loses_power() { lab crash n3 && within 20 coordinator_is_other n1 n3 || fail "nobody follows n3"; }

host n1
within 30 test -s "$TMPDIR/serial" || fail "the guest does not boot: $(cat "${OUT[n1]}")"
within 60 above n1 $RING || fail "the guest does not write"
not_twice n2
migrate n2
not_twice n1
not_twice n3
migrate n3
migrate n1 move n2
migrate n2 move n1

echo "# its host loses its way to the SAN: it goes on, and is migrated away"
lab san n2 drop

within 20 mode_is n2 "block-redirected*" || fail "n2 is $(state n2 .mode)"
writes "without a path"
migrate n1
lab san n2 up

echo "# the coordinator, n3, loses power while the guest migrates"
move n3
within 20 mode_is n2 direct || fail "n2 is $(state n2 .mode)"
migrate n2 loses_power
lab start n3
migrate n3

tell n3 stop
within 10 status_is n3 paused || fail "the guest does not stop"
ended n3
numbers n1 | sort -n | awk -v ring=$RING 'NR > 1 && $1 != last + 1 {bad = 1; print last, "and then", $1} {last = $1}
	END {exit bad || NR != ring}' || fail "the guest's writes are not there: $(numbers n1 | tr '\n' ' ')"
echo "# $(highest n1) writes, none lost"
unmount_and_check n1 n2 n3
