#!/usr/bin/env bash
# What was done through one node shows on all others when the call has returned, and what has not changed is answered
# without a message. It stays so while the coordinator moves, is killed, and comes back.
# timeout: 120
# beside: yes
. "$(dirname "$0")/lib/test.sh"
lab up --size 1G >/dev/null
mnt() { echo "$CSVLAB_DIR/$1/mnt"; }
coherent() { timeout 60 "$CSVFS_BUILD/lab/coherent" "$@"; }
mkdir "$(mnt n1)/d"
dirs=("$(mnt n1)/d" "$(mnt n2)/d" "$(mnt n3)/d")
lab state --json | jq -e '[.[].coordinator] | unique | length == 1' >/dev/null || fail "nobody coordinates"
coordinator=$(state n1 .coordinator)

coherent 3 1 "${dirs[@]}" || fail "an old answer"
for n in n1 n2 n3; do
	[ "$n" = "$coordinator" ] && continue
	[ "$(state $n .cache.answers)" -gt 100 ] || fail "$n answers nothing from memory"
	before=$(state $n .core_ops.metadata)
	stat "$(mnt $n)/d" >/dev/null
	sleep 0.6
	stat "$(mnt $n)/d" >/dev/null
	first=$(state $n .core_ops.metadata)
	for ((i = 0; i < 50; i++)); do stat "$(mnt $n)/d" >/dev/null; done
	[ "$(state $n .core_ops.metadata)" = "$first" ] ||
		fail "50 times stat on $n cost $(($(state $n .core_ops.metadata) - first)) requests"
done

echo "# who follows a file to which all append sees lines, never the zeros of one that is not there yet"
timeout 60 "$CSVFS_BUILD/lab/follow" 3 "${dirs[@]}" || fail "what was appended is not seen as it should"

echo "# when a file was written last shows everywhere, though it is overwritten in place and stays open"
head -c 1M /dev/zero >"$(mnt n1)/d.times"
cp "$(mnt n1)/d.times" "$(mnt n1)/d.set"
exec {fd}<>"$(mnt n1)/d.times" {set}<>"$(mnt n2)/d.set"
for ((i = 0; i < 20; i++)); do
	before=$(date +%s.%N)
	printf %8d $i >&$fd
	for n in n2 n3 n1; do
		shown=$(stat -c %.9Y "$(mnt $n)/d.times")
		jq -ne "$shown >= $before" >/dev/null || fail "stat on $n says $shown, it was written at $before or later"
	done
done
printf x >&$set
touch -d @5 "$(mnt n3)/d.set"

echo "# while the coordinator moves, and is killed"
rm -f "$(mnt n1)"/d/*
coherent 7 2 "${dirs[@]}" &
job=$!
for n in n2 n3 n1; do
	"$CSVFS_BUILD/csvctl" -s "$CSVLAB_DIR/n1/csvfs.sock" move $n >/dev/null
	sleep 2
done
wait $job || fail "an old answer while the coordinator moved"
rm -f "$(mnt n1)"/d/*
coordinator=$(state n1 .coordinator)
others=()
for n in n1 n2 n3; do [ "$n" = "$coordinator" ] || others+=("$(mnt $n)/d"); done
coherent 6 3 "${others[@]}" &
job=$!
sleep 2
lab kill "$coordinator"
wait $job || fail "an old answer after the coordinator was killed"
for n in n1 n2 n3; do
	[ "$n" = "$coordinator" ] || [ "$(stat -c %Y "$(mnt $n)/d.set")" = 5 ] ||
		fail "touch -d was undone by a write before it ($n: $(stat -c %Y "$(mnt $n)/d.set"))"
done
exec {fd}>&- {set}>&-
lab start "$coordinator"
unmount_and_check n1 n2 n3
