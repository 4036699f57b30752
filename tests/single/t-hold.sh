#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The LUN is away: requests wait. A signal that does not kill is no error for who waits (timers, SIGCHLD); one
# that kills ends it at once, whatever it waits for; hold=SECONDS ends the wait with EIO.
# usage: t-hold.sh [BUILD]
# timeout: 240
set -eu
build=$(cd "${1:-${CSVFS_BUILD:-build}}" && pwd)
if ! command -v tgtd >/dev/null || [ "$(id -u)" != 0 ]; then
	echo "needs root and tgtd"
	exit 77
fi
if [ -z "${INSIDE:-}" ]; then
	INSIDE=1 exec unshare -n "$0" "$build"
fi
ip link set lo up
dir=$(mktemp -d)
tgtd=''
cleanup() {
	umount -l "$dir/mnt" 2>/dev/null || true
	[ ! -s "$dir/pid" ] || kill -9 "$(cat "$dir/pid")" 2>/dev/null || true
	[ -z "$tgtd" ] || { kill -9 "$tgtd" && wait "$tgtd"; } 2>/dev/null || true
	cd /
	rm -rf "$dir"
}
trap cleanup EXIT
cd "$dir"
mkdir mnt
PATH=$build:$build/csvfs:$PATH
export TGT_IPC_SOCKET=$dir/ipc
fail() {
	echo "FAILED: $*"
	tail -n 20 log 2>/dev/null || true
	exit 1
}
within() { # within SECONDS COMMAND...
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || fail "not in time: $*"
		sleep 0.1
	done
}
tgt() { tgtadm --lld iscsi "$@"; }
target_up() {
	tgtd -f --nr_iothreads 1 --iscsi portal=127.0.0.1:3260 >tgtd.log 2>&1 &
	tgtd=$!
	within 5 tgt --op show --mode sys >/dev/null
	tgt --op new --mode target --tid 1 -T iqn.2026-11.test:h
	tgt --op new --mode logicalunit --tid 1 --lun 1 -b "$dir/lun.img"
	tgt --op update --mode logicalunit --tid 1 --lun 1 --params "thin_provisioning=1,scsi_id=h-1,scsi_sn=1"
	tgt --op bind --mode target --tid 1 -I ALL
}
target_down() {
	kill -9 "$tgtd"
	wait "$tgtd" 2>/dev/null || true
	tgtd=''
}
is_mode() { [ "$(csvctl -s s state --json | tr ',' '\n' | sed -n 's/^"mode":"\(.*\)"$/\1/p')" = "$1" ]; }
ended() { [ ! -e pid ]; }
gone() { ! kill -0 "$1" 2>/dev/null; }
# waiter WHAT.HOW: a process that does one thing on the mount; "timer": with a timer that fires all the
# while and a handler that does not restart. It prints "ok", or what the system call said.
waiter() {
	exec perl -e '
		use POSIX; use Fcntl; use IO::Handle; use Time::HiRes qw(setitimer ITIMER_REAL);
		my ($what, $n, $buf, $fh) = (shift, 0);
		my $dir = "mnt/$what";
		if ($what =~ /read|write|sync/) {
			sysopen($fh, "$dir/a", O_RDWR) or die;
			syswrite($fh, "HELLO") if $what =~ /sync/;
		}
		open(my $ready, ">", "ready.$what") or die;
		if ($what =~ /timer/) {
			sigaction(SIGALRM, POSIX::SigAction->new(sub { $n++ }, POSIX::SigSet->new, 0));
			setitimer(ITIMER_REAL, 0.1, 0.1);
		}
		select(undef, undef, undef, 0.3) while ! -e "go";
		my $r = $what =~ /read/ ? POSIX::read(fileno($fh), $buf, 5)
			: $what =~ /write/ ? POSIX::write(fileno($fh), "HELLO", 5)
			: $what =~ /sync/ ? $fh->sync
			: $what =~ /open/ ? POSIX::open("$dir/b", O_RDONLY)
			: $what =~ /create/ ? POSIX::open("$dir/new", O_CREAT | O_WRONLY, 0644)
			: $what =~ /mkdir/ ? mkdir("$dir/dir")
			: $what =~ /stat/ ? scalar(my @s = stat("$dir/b"))
			: die;
		my $error = $!;
		setitimer(ITIMER_REAL, 0);
		print $r ? "ok\n" : "$what: $error\n";
		$n or die "the timer did not fire" if $what =~ /timer/;
	' "$1"
}
KINDS="read write sync open create mkdir stat"

truncate -s 256M lun.img
target_up
url=iscsi://127.0.0.1/iqn.2026-11.test:h/1
opts=ctl=$dir/s,log=$dir/log,pidfile=$dir/pid
mkfs.csvfs -q "$url"
declare -A pid
# start_waiters OPTIONS HOW...: mounts, and for each kind a process each that waits for the file "go"
start_waiters() {
	local opt=$1 k how
	shift
	timeout 30 csvfs "$url" mnt -o "$opts$opt" || fail "cannot mount"
	rm -f go ready.*
	pid=()
	for k in $KINDS; do
		for how in "$@"; do # each in a directory of its own: its users wait for each other in the kernel
			mkdir "mnt/$k.$how"
			printf hello >"mnt/$k.$how/a"
			touch "mnt/$k.$how/b"
			pid[$k.$how]=0
		done
	done
	sync mnt/*/*
	for k in "${!pid[@]}"; do
		waiter "$k" >"out.$k" &
		pid[$k]=$!
	done
	within 10 all_ready ${#pid[@]}
	target_down
	echo 3 >/proc/sys/vm/drop_caches
	touch go
	within 10 is_mode paused
}
all_ready() { [ "$(ls ready.* 2>/dev/null | wc -l)" = "$1" ]; }
unmount() {
	within 20 is_mode direct
	umount mnt
	within 20 ended
	fsck.csvfs -n "$url" >out 2>&1 || fail "not clean: $(cat out)"
}

echo "# signals that do not kill; signals that do"
start_waiters '' timer kill int
sleep 2
for w in "${!pid[@]}"; do
	! gone "${pid[$w]}" || fail "$w did not wait: $(cat "out.$w")"
done
for k in $KINDS; do
	kill -KILL "${pid[$k.kill]}"
	kill -TERM "${pid[$k.int]}"
done
for k in $KINDS; do
	for how in kill int; do
		within 3 gone "${pid[$k.$how]}" "$k.$how"
	done
	! gone "${pid[$k.timer]}" || fail "$k.timer did not wait: $(cat "out.$k.timer")"
done
target_up
for k in $KINDS; do
	wait "${pid[$k.timer]}" || fail "$k.timer: $?"
	[ "$(cat "out.$k.timer")" = ok ] || fail "an error for who had a timer: $(cat "out.$k.timer")"
done
[ -e mnt/create.timer/new ] && [ -d mnt/mkdir.timer/dir ] || fail "what was waited for was not done"
[ "$(cat mnt/write.timer/a)" = HELLO ] || fail "a write that waited was not done"
unmount

echo "# -o hold=3"
rm -rf out.*
mkfs.csvfs -qf "$url"
start_waiters ,hold=3 timer
since=$SECONDS
for k in $KINDS; do
	wait "${pid[$k.timer]}" || fail "$k.timer: $?"
	[ "$(cat "out.$k.timer")" = "$k.timer: Input/output error" ] || fail "not EIO: $k: $(cat "out.$k.timer")"
done
[ $((SECONDS - since)) -le 6 ] || fail "the limit of 3 s took $((SECONDS - since)) s"
target_up
within 20 is_mode direct
[ "$(cat mnt/read.timer/a)" = hello ] || fail "wrong data after the limit"
echo again >mnt/again || fail "it does not go on after the limit"
unmount
