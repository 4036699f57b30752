#!/usr/bin/env bash
# Behind the LUN's number, or behind the target's address, is another LUN after a path loss, for one host alone: it finds
# out before it changes anything there, goes on through the coordinator, and comes back when the mapping is put right.
# timeout: 90
# beside: yes
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 2 --size 256M >/dev/null
target=$(lab url) target=${target%/*} target=${target##*/}
other=$TMPDIR/other-lun

tg() { TGT_IPC_SOCKET=$TMPDIR/other.ipc tgtadm --lld iscsi "$@"; }
truncate -s 300M "$other"
TGT_IPC_SOCKET=$TMPDIR/other.ipc nsenter --net="$CSVLAB_DIR/ns/san" -- \
	tgtd -f --iscsi portal=10.78.0.254:3261 >"$TMPDIR/other.log" 2>&1 &
other_pid=$!
trap 'kill -9 $other_pid 2>/dev/null || true; at_end' EXIT
within 10 tg --op show --mode sys >"$TMPDIR/out" 2>&1 || fail "no second target: $(cat "$TMPDIR/out")"
tg --op new --mode target --tid 1 -T "$target"
tg --op new --mode logicalunit --tid 1 --lun 1 -b "$other"
tg --op bind --mode target --tid 1 -I ALL

# Of this node alone; jq's FILTER.
asked() { lab exec "$1" -- csvctl -s "$CSVLAB_DIR/$1/csvfs.sock" state --json | jq -r "$2"; }
is_redirected() { [[ $(asked "$1" .mode) == *redirected ]]; }
is_direct() { [ "$(asked "$1" .mode)" = direct ]; }
says() { [[ $(asked "$1" .path_reason) == *"$2"* ]]; }
untouched() { [ "$(tr -d '\0' <"$other" | head -c 1 | wc -c)" = 0 ] || fail "$1 has written to another LUN"; }
remap() { # remap NODE: for it alone the address leads to the other target
	lab san "$1" reject
	nsenter --net="$CSVLAB_DIR/ns/$1" -- nft -f - <<-NFT
		add table ip remap
		add chain ip remap out { type nat hook output priority -100; }
		add rule ip remap out ip daddr 10.78.0.254 tcp dport 3260 dnat to 10.78.0.254:3261
	NFT
	within 10 is_redirected "$1" || fail "$1 is $(asked "$1" .mode)"
	lab san "$1" up
}
put_right() { nsenter --net="$CSVLAB_DIR/ns/$1" -- nft delete table ip remap; }

c=$(state n1 .coordinator)
f=n2
[ "$c" = n1 ] || f=n1
for n in $c $f; do probe $n data && probe $n meta; done
for n in "$f" "$c"; do
	echo "# $n finds another LUN, numbered alike; its coordinator is $(asked "$n" .coordinator)"
	tg --op update --mode logicalunit --tid 1 --lun 1 --params scsi_id="csvlab-${target##*:}"
	remap "$n"
	within 10 says "$n" "there is no volume on this LUN" || fail "$n does not say so: $(asked "$n" .path_reason)"
	untouched "$n"
	echo "# and one with another name"
	tg --op update --mode logicalunit --tid 1 --lun 1 --params scsi_id="ANOTHER-LUN"
	within 10 says "$n" "this is LUN t10.ANOTHER-LUN" || fail "$n does not say so: $(asked "$n" .path_reason)"
	is_redirected "$n" || fail "$n is $(asked "$n" .mode)"
	for k in $c $f; do goes_on $k; done
	untouched "$n"
	put_right "$n"
	within 15 is_direct "$n" || fail "$n is $(asked "$n" .mode): $(asked "$n" .path_reason)"
	for k in $c $f; do goes_on $k; done
done
untouched "one of them"
for n in $c $f; do probe_ended $n data && probe_ended $n meta; done
unmount_and_check n1 n2
