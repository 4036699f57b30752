#!/usr/bin/env bash
# The coordinator's daemon hangs (SIGSTOP) while corosync on its node is well: no view changes. The others
# notice it by its silence and by its claim, and replace it. When it wakes up it finds out, and goes on as
# one of them: its applications have seen a pause, no error.
# HANG=SECONDS: how long (20). ROUNDS=N: how often (1).
# timeout: 240
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 3 --size 1G >/dev/null

# Of this node alone: "lab state" asks all of them, and waits 5 s for one that hangs.
asked() { lab exec "$1" -- csvctl -s "$CSVLAB_DIR/$1/csvfs.sock" state --json 2>/dev/null | jq -r "$2"; }
follows_other() {
	local c
	c=$(asked "$1" .coordinator)
	[[ $c == n* && $c != "$2" ]]
}

load() { # load NODE NUMBER: each file is verified, from the page cache's other side, on another node
	local i dir
	dir=$(lab mnt "$1")/load.$1
	mkdir -p "$dir"
	for ((i = 0; ; i++)); do
		head -c $((RANDOM * 8)) /dev/urandom >"$TMPDIR/load.$1"
		cp "$TMPDIR/load.$1" "$dir/$((i % 50))" && sync "$dir/$((i % 50))" || exit 1
		cmp -s "$TMPDIR/load.$1" "$dir/$((i % 50))" || exit 1
		sha256sum <"$TMPDIR/load.$1" >"$TMPDIR/sum.$1.$((i % 50))"
	done
}

for ((round = 1; round <= ${ROUNDS:-1}; round++)); do
	hit=$(state n1 .coordinator)
	others=()
	for n in n1 n2 n3; do [ $n = "$hit" ] || others+=($n); done
	echo "# $hit, the coordinator, hangs for ${HANG:-20} s"
	for n in n1 n2 n3; do probe $n data && probe $n meta; done
	pids=()
	for n in "${others[@]}"; do
		load $n &
		pids+=($!)
	done
	sleep 2
	echo old >"$(lab mnt "$hit")/old"
	number=$(stat -c %i "$(lab mnt "$hit")/old")
	# In a process of its own: each child of this one that ends would close it, and wait for the daemon that hangs.
	perl -e 'open F, "+<", $ARGV[0] or die; until (-e $ARGV[1]) { select undef, undef, undef, 0.1 }
		my $n = sysread(F, my $got, 10); print defined $n ? "read $got\n" : "read: $!\n";
		sysseek F, 0, 0; print syswrite(F, "damage") ? "wrote\n" : "write: $!\n"' \
		"$(lab mnt "$hit")/old" "$TMPDIR/go" >"$TMPDIR/keeper" 2>&1 &
	keeper=$!
	sleep 0.5
	# One of the others is asked to give something back, and answers when the coordinator hears nothing any more: that it
	# did not answer in time is not for the coordinator to say when it wakes.
	owes=${others[1]} dir=$(lab mnt "${others[0]}")
	echo owed >"$(lab mnt "$owes")/owed.$round"
	perl -e '$| = 1; open F, "<", $ARGV[0] or die; sysread(F, my $got, 1); print "read\n"; sleep 100' \
		"$(lab mnt "$owes")/owed.$round" >"$TMPDIR/reads" 2>&1 &
	reads=$!
	within 5 test -s "$TMPDIR/reads"
	lab kill "$owes" STOP
	truncate -s 0 "$dir/owed.$round" &
	owed=$!
	sleep 0.3
	at=$EPOCHREALTIME
	lab kill "$hit" STOP
	lab kill "$owes" CONT
	for n in "${others[@]}"; do
		within 12 follows_other $n "$hit" || fail "$n follows $(asked $n .coordinator)"
	done
	for n in "${others[@]}"; do goes_on $n; done
	# A file that it has open goes away, since it has been given up, and another one gets its inode's slot.
	dir=$(lab mnt "${others[0]}")
	rm "$dir/old"
	for ((i = 0; i < 50; i++)); do
		echo "new $i" >"$dir/new.$i"
		[ "$(stat -c %i "$dir/new.$i")" != "$number" ] || new=$dir/new.$i
	done
	# Else a file of the load has it, which is compared below.
	[ -z "${new:-}" ] || want=$(cat "$new")
	echo "replaced by $(asked "${others[0]}" .coordinator)" \
		"within $(awk "BEGIN {print $EPOCHREALTIME - $at}") s"
	sleep "$(awk "BEGIN {s = ${HANG:-20} - ($EPOCHREALTIME - $at); print (s > 0 ? s : 0)}")"
	lab kill "$hit" CONT
	within 20 coordinator_is "$hit" "$(state "${others[0]}" .coordinator)" ||
		fail "$hit follows $(state "$hit" .coordinator)"
	within 20 mode_is "$hit" direct || fail "$hit is $(state "$hit" .mode)"
	for n in n1 n2 n3; do goes_on $n; done
	: >"$TMPDIR/go"
	within 10 gone $keeper || fail "who has a file open that is gone hangs"
	echo "a file that is gone: $(tr '\n' ' ' <"$TMPDIR/keeper")"
	# Its own bytes, if they were kept, or an error: another file's never.
	grep -qE '^read(: | old$)' "$TMPDIR/keeper" || fail "$hit reads another file through an open one that is gone"
	[ -z "${new:-}" ] || [ "$(cat "$new")" = "$want" ] || fail "$hit wrote into another file: $(cat "$new")"
	rm "$dir"/new.* "$TMPDIR/go"
	new=
	for n in "${others[@]}"; do
		echo "$n waited: data $(longest $n data) ms, metadata $(longest $n meta) ms"
		[ "$(longest $n data)" -lt 1000 ] || fail "$n: data waited $(longest $n data) ms"
		[ "$(longest $n meta)" -lt 10000 ] || fail "$n: metadata waited $(longest $n meta) ms"
	done
	kill $reads
	wait $reads || true
	wait $owed || fail "truncate saw an error"
	! grep 'did not answer a recall' "$CSVLAB_DIR/$hit/csvfs.log" || fail "$hit slept, and blames $owes"
	for pid in "${pids[@]}"; do
		kill -0 "$pid" || fail "a writer saw an error, or other bytes than it wrote"
		kill "$pid"
		wait "$pid" || true
	done
	for n in n1 n2 n3; do probe_ended $n data && probe_ended $n meta; done
	# What each wrote is what the one that slept reads.
	for n in "${others[@]}"; do
		for sum in "$TMPDIR/sum.$n".*; do
			file=$(lab mnt "$hit")/load.$n/${sum##*.}
			[ "$(sha256sum <"$file")" = "$(cat "$sum")" ] || echo "$file" >>"$TMPDIR/differ"
		done
		# The one that was being written when the writer was ended may differ.
		[ ! -s "$TMPDIR/differ" ] || [ "$(wc -l <"$TMPDIR/differ")" -le 1 ] || fail "$n: $(cat "$TMPDIR/differ")"
		rm -f "$TMPDIR/differ" "$TMPDIR/sum.$n".*
	done
done
unmount_and_check n1 n2 n3
