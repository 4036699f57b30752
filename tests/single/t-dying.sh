#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Processes that are killed in the middle of a call that changes a name: what is listed can be found, link counts are
# those of what is there, and the kernel keeps nothing of the time before.
# usage: t-dying.sh [BUILD]
# timeout: 120
. "${0%/*}/lib.sh"
if [ "$(id -u)" != 0 ]; then
	echo "needs root"
	exit 77
fi
mkfs.csvfs -q -s 256M v.img
# The journal takes 3 ms, so that most calls are killed while it is written.
CSVFS_FAULT=delay=3 mount_it

# Each kind of call in a folder of its own, in a loop, until the process is killed: 20 times.
if ! timeout 100 perl -e '
use strict;
my ($mnt, $wrong, $calls) = ($ARGV[0], 0, 0);
open(F, ">", "$mnt/src") or die "$!";
my %call = (
	mkdir => sub { mkdir("$_[0]/$_[1]") },
	link => sub { link("$mnt/src", "$_[0]/$_[1]") },
	symlink => sub { symlink("x", "$_[0]/$_[1]") },
	create => sub { open(my $f, ">", "$_[0]/$_[1]") },
	rename => sub { open(my $f, ">", "$_[0]/$_[1]"); rename("$_[0]/$_[1]", "$_[0]/r$_[1]") },
	unlink => sub { open(my $f, ">", "$_[0]/$_[1]"); close($f); unlink("$_[0]/$_[1]") },
);
for my $kind (sort keys %call) {
	for my $round (1 .. 20) {
		my $d = "$mnt/$kind$round";
		mkdir($d) or die "$d: $!";
		my $pid = fork;
		if (!$pid) {
			for (my $i = 0; ; $i++) { $call{$kind}->($d, $i) }
		}
		# Once it makes calls, however long it takes to run at all on a machine with other work to do.
		for (my $n = 0; $n < 500 && !lstat("$d/0") && !lstat("$d/r0") && !lstat("$d/1"); $n++) {
			select(undef, undef, undef, 0.005);
		}
		select(undef, undef, undef, 0.01 + rand(0.02));
		kill("TERM", $pid);
		waitpid($pid, 0);
		select(undef, undef, undef, 0.03); # what is under way ends
		opendir(my $h, $d) or die "$d: $!";
		my @names = grep { !/^\.\.?$/ } readdir($h);
		my ($last, %there) = (0, map { $_ => 1 } @names);
		for (@names) {
			print("$d/$_ is listed, but: $!\n") && $wrong++ if !lstat("$d/$_");
			$last = $1 if /(\d+)/ && $1 > $last;
		}
		# Nor is there what is not listed.
		for my $i (0 .. $last + 2) {
			for ("$i", "r$i") {
				print("$d/$_ is not listed, and is there\n") && $wrong++ if !$there{$_} && lstat("$d/$_");
			}
		}
		my $links = (stat($d))[3];
		my $dirs = grep { -d "$d/$_" } @names;
		print("$d has $links links and $dirs folders\n") && $wrong++ if $links != 2 + $dirs;
		$calls += $last;
	}
}
print "$calls calls, 120 processes were killed, $wrong things are wrong\n";
exit($wrong != 0 || $calls < 100);
' mnt >out 2>&1; then
	tail -n 20 out
	exit 1
fi
cat out
rm -rf mnt/*
[ -z "$(ls mnt)" ]
unmount
clean
