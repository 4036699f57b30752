#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 120
# A preallocated file of which a cluster is written here and one there: when it is in many pieces its layout goes back, now and then, and
# what was written is there, also after the daemon was killed.
# usage: t-pieces.sh [BUILD]
. "${0%/*}/lib.sh"
clusters=65536

# Cluster $1 of each three holds its number. Not in the order of the file.
writes() {
	perl -e '
		use Fcntl; my ($first, $n) = @ARGV;
		sysopen(my $f, "mnt/f", O_RDWR) or die "open: $!";
		for (my $i = 0; $i < $n / 3; $i++) {
			my $at = 3 * ($i * 7919 % int($n / 3)) + $first;
			sysseek($f, $at * 4096, 0); syswrite($f, pack("Q<", $at + 1) x 512) == 4096 or die "write: $!";
		}
		open(my $h, "<&=", fileno($f)); require IO::Handle; $h->sync or die "fsync: $!";' "$1" $clusters || fail "cannot write"
}
# What clusters $1 and $2 of each three hold; the third one reads as zeros.
holds() {
	perl -e '
		my ($n, @in) = @ARGV; my %in = map { $_ => 1 } @in;
		open(my $f, "<:raw", "mnt/f") or die "open: $!";
		for (my $at = 0; $at < 3 * int($n / 3); $at++) {
			read($f, my $b, 4096) == 4096 or die "read: $!";
			die "cluster $at is not what was written" if $b ne pack("Q<", $in{$at % 3} ? $at + 1 : 0) x 512;
		}' $clusters "$@" || fail "not what was written"
}
back() { grep -c 'too many pieces' log || true; }

mkfs.csvfs -q -s 1G -c 4096 v.img
mount_it v.img loglevel=debug
fallocate -l $((clusters * 4096)) mnt/f
writes 0
[ "$(back)" -ge 1 ] || fail "a file in $((clusters / 3)) pieces stays so"
[ "$(back)" -le 4 ] || fail "its layout went back $(back) times"
holds 0
writes 1
power_off
mount_it
holds 0 1
unmount
clean
echo "ok"
