#!/usr/bin/env bash
# A node dies while it streams into a file: the space that it was given ahead is free again when its rights have ended, though nobody
# opens the file and closes it.
# timeout: 90
# beside: yes
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 2 --size 8G >/dev/null
coordinator=$(state n1 .coordinator)
[ "$coordinator" = n1 ] && dies=n2 || dies=n1
free_mib() { echo $(($(stat -f -c '%f * %S' "$(lab mnt "$coordinator")") >> 20)); }
is_free() { [ "$(free_mib)" -ge "$1" ]; }

before=$(free_mib)
(
	exec 9>"$(lab mnt $dies)/stream"
	for _ in $(seq 40); do dd if=/dev/zero bs=1M count=1 status=none >&9; done
	touch "$TMPDIR/written"
	exec sleep 60
) &
stream=$!
within 30 test -e "$TMPDIR/written" || fail "it is not written"
sleep 4 # what was first-written is committed
with=$(free_mib)
echo "# $before MiB free, $with with a stream of 40 MiB"
[ $((before - with)) -ge 60 ] || fail "nothing is allocated ahead: this shows nothing"
lab kill $dies KILL
within 40 is_free $((before - 42)) || fail "$(free_mib) of $before MiB are free after the death of $dies"
echo "# $(free_mib) MiB after it has died"
kill $stream 2>/dev/null
[ "$(stat -c %s "$(lab mnt "$coordinator")/stream")" = $((40 << 20)) ] || fail "the file has become shorter"
lab start $dies
unmount_and_check n1 n2
