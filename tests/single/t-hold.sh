#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The LUN is away: requests wait. A signal that does not kill is no error for who waits (timers, SIGCHLD); one
# that kills ends it at once, whatever it waits for; hold=SECONDS ends the wait with EIO.
# usage: t-hold.sh [BUILD]
# timeout: 240
. "${0%/*}/target.sh"
is_mode() { [ "$(csvctl -s s state --json | tr ',' '\n' | sed -n 's/^"mode":"\(.*\)"$/\1/p')" = "$1" ]; }
dead() { ! kill -0 "$1" 2>/dev/null; }
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
mkfs.csvfs -q "$url"
declare -A pid
# start_waiters OPTIONS HOW...: mounts, and for each kind a process each that waits for the file "go"
start_waiters() {
	local opt=$1 k how
	shift
	mount_it "$url" $opt
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
	gone
	fsck.csvfs -n "$url" >out 2>&1 || fail "not clean: $(cat out)"
}

echo "# signals that do not kill; signals that do"
start_waiters '' timer kill int
sleep 2
for w in "${!pid[@]}"; do
	! dead "${pid[$w]}" || fail "$w did not wait: $(cat "out.$w")"
done
for k in $KINDS; do
	kill -KILL "${pid[$k.kill]}"
	kill -TERM "${pid[$k.int]}"
done
for k in $KINDS; do
	for how in kill int; do
		within 3 dead "${pid[$k.$how]}" "$k.$how"
	done
	! dead "${pid[$k.timer]}" || fail "$k.timer did not wait: $(cat "out.$k.timer")"
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
start_waiters hold=3 timer
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
