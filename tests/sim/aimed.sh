#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The faults that no seed draws (aimed.c; and some of sim.h), a few seeds of each, on the core as it is: mutants.sh runs
# them with bugs.
#
#   aimed.sh CSVSIM [SEEDS]		(20)
set -u
csvsim=$1 seeds=${2:-20} failed=0
while read -r options; do
	# shellcheck disable=SC2086
	said=$("$csvsim" $options --seeds "$seeds" --jobs 2 --keep-going 2>&1) || failed=1
	echo "$options: $(tail -n 1 <<<"$said" | cut -d, -f 1-2)"
	grep -A 1 '^FAILED' <<<"$said"
done <<'LIST'
--well --set reboots=1
--well --set slow_release=1
--cut-off --set slow_release=1
--cut-off --set writes_on=1
--given-up --set next_term=1
--set unheard=1
--set moves=1
--set dies_asking=1
--set oversleeps=1
--set silent=1
--set dies_held=1
--set heirs=1
--set lost_asks=1
--set drain_looks=1
--set no_reset=1
--set long_cut=1
--set long_split=1
--set releases=1
--set second_life=1
--set elsewhere=1
--set carries=1,elsewhere=1
--set scribes=1,one_hole=1,lockers=0,watchers=0
--set neighbours=1,scribes=1,nodes=3
--set only_harmless=0,only_hangs=0,slow_fence=1,path_loss=1,fabric=1,late_writes=1
--set only_harmless=1,only_hangs=0,crawl=1,crash=0,daemon_kill=0,pause=0,path_loss=0,partition=0,move=0,late_writes=0,san_loss=0,flap=0,ctl=0,tight=0,hang=0,coro_restart=0,hostile=0,slow_net=0,hold_ns=0,port_cut=1,slow_lun=0,net_break=0,lockers=0,watchers=0,porters=0,clients=1,safety_ns=80000000000,scribes=0,busy=0,fabric=0,bulk=0,crowd=0,alone=0,image=0,media=0,ring_cut=0
--set follow=1,porters=1
--set lost_grants=1,nodes=3,zeroing=1
--set hosts_off=1
--set alone=1,image=1
--set silent_aborts=1
LIST
exit $failed
