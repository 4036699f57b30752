#!/usr/bin/env bash
# The last one of two hosts loses its path, and the target forgets whose key is whose: there is nobody to wait for.
# timeout: 90
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 2 --size 256M >/dev/null
m1=$(lab mnt n1)
lab stop n2
lab corosync n2 kill
is_half() { grep -q 'half of the cluster' "$CSVLAB_DIR/n1/csvfs.log"; }
within 20 is_half || fail "n1 does not know that it is alone"
touch "$m1/a"
within 20 mode_is n1 direct || fail "n1 is $(state n1 .mode)"

# Reconnect 1 s, 2 s until it is sure that nobody claims, a head start of 2 s; 10 s more for a claim that stands still.
echo "# the target restarts"
at=$EPOCHREALTIME
lab target restart
touch "$m1/b"
waited=$(awk "BEGIN {printf \"%d\", ($EPOCHREALTIME - $at) * 1000}")
echo "# metadata waited $waited ms"
[ "$waited" -lt 9500 ] || fail "metadata waited $waited ms"
[ -e "$m1/a" ] && [ -e "$m1/b" ] || fail "a file is gone"
unmount_and_check n1
