#!/usr/bin/env bash
# A scrub when its coordinator dies: every csvctl in between says how it stands or why not, in time; the next coordinator
# begins anew by itself, and it ends. (What it repairs is tests/single/t-scrub.sh's: the sound copy is in the memory of one
# coordinator, and may die with it.)
# timeout: 180
# beside: yes
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 3 --size 512M >/dev/null
PATH=$CSVFS_BUILD:$CSVFS_BUILD/bench:$PATH
ctl() { # ctl NODE ARGS...
	local node=$1
	shift
	timeout 30 csvctl -s "$CSVLAB_DIR/$node/csvfs.sock" "$@"
}
scrub() { ctl "$1" scrub status --json | jq -r ".$2"; }
ended() { [ "$(scrub "$1" complete)" = true ]; }

hit=$(state n1 .coordinator)
read -r other third <<<"$(echo n1 n2 n3 | tr ' ' '\n' | grep -vx "$hit" | tr '\n' ' ')"
mkdir "$(lab mnt "$other")/d"
metaload create "$(lab mnt "$other")/d" 6000 4 >/dev/null
sleep 3 # everything is in its place

echo "# $hit coordinates, and is killed while it scrubs; $other and $third are asked"
lab target pause # it cannot end before it is to
ctl "$third" scrub start >"$TMPDIR/out" || fail "scrub start on $third: $(cat "$TMPDIR/out")"
ctl "$other" scrub start >"$TMPDIR/out" 2>&1 && fail "started twice: $(cat "$TMPDIR/out")"
grep -q "runs already" "$TMPDIR/out" || fail "a second start: $(cat "$TMPDIR/out")"
lab kill "$hit" KILL
lab target resume
began=$SECONDS rc=1
until [ "$rc" = 0 ] && coordinator_is_other "$other" "$hit" && ended "$other"; do
	rc=0
	ctl "$other" scrub status >"$TMPDIR/out" 2>&1 || rc=$?
	[ $rc -le 1 ] || fail "status meanwhile: $rc: $(cat "$TMPDIR/out")"
	[ -s "$TMPDIR/out" ] || fail "status meanwhile says nothing"
	sed -n '1s/^/   /p' "$TMPDIR/out" >>"$TMPDIR/said"
	[ $((SECONDS - began)) -lt 60 ] || fail "it does not end: $(cat "$TMPDIR/out")"
	sleep 0.1
done
sort "$TMPDIR/said" | uniq -c | sed 's/^/#  /'
ctl "$third" scrub status >"$TMPDIR/out"
grep -q "done" "$TMPDIR/out" || fail "$third does not know that it ended: $(cat "$TMPDIR/out")"
sed 's/^/#    /' "$TMPDIR/out"

lab start "$hit"
within 20 ended "$hit" || fail "$hit, back again: $(ctl "$hit" scrub status)"
echo "# moved to $hit while it scrubs"
lab target pause
ctl "$other" scrub start >/dev/null || fail "scrub start on $other"
[ "$(scrub "$other" running)" = true ] || fail "it has ended: $(ctl "$other" scrub status)"
ctl "$other" move "$hit" >/dev/null &
moving=$!
sleep 0.3
lab target resume
wait $moving || fail "move to $hit"
within 20 coordinator_is "$other" "$hit" || fail "$other follows $(state "$other" .coordinator)"
within 60 ended "$third" || fail "after a move: $(ctl "$third" scrub status)"
[ "$(scrub "$third" found)" = 0 ] || fail "it found something: $(ctl "$third" scrub status)"
unmount_and_check n1 n2 n3
