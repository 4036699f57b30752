#!/usr/bin/env bash
# A node is given up with first writes that nobody has committed: each file that was open then hears of it by its next fsync, once; who
# opens it afterwards does not.
# timeout: 120
. "$(dirname "$0")/lib/test.sh"
lab up --nodes 3 --size 1G >/dev/null

hit=$(state n1 .coordinator)
for other in n1 n2 n3; do [ $other = "$hit" ] || break; done
asked() { lab exec "$1" -- csvctl -s "$CSVLAB_DIR/$1/csvfs.sock" state --json 2>/dev/null | jq -r "$2"; }
follows_other() {
	local c
	c=$(asked $other .coordinator)
	[[ $c == n* && $c != "$hit" ]]
}

# Two open files of one process, as of a guest's disk and of who makes a copy of it. It has its size: then a write there is answered at once.
file=$(lab mnt "$hit")/disk
truncate -s 1M "$file"
perl -MIO::Handle -e '$| = 1; my ($file, $go) = @ARGV; my %f;
	open $f{$_}, "+<", $file or die for "disk", "copy";
	syswrite($f{disk}, "x" x 65536) == 65536 or die; print "written\n";
	until (-e $go) { select undef, undef, undef, 0.1 }
	sub told { my $w = shift; print "$w: ", $f{$w}->sync ? "durable" : $!, "\n" }
	told("copy"), told("copy"), told("disk"), told("disk");
	open $f{late}, "+<", $file or die; told("late")' "$file" "$TMPDIR/go" >"$TMPDIR/told" 2>&1 &
keeper=$!
within 5 test -s "$TMPDIR/told" || fail "nothing was written"
lab kill "$hit" STOP
within 20 follows_other || fail "$other follows $(asked $other .coordinator)"
lab kill "$hit" CONT
within 30 mode_is "$hit" direct || fail "$hit is $(state "$hit" .mode)"
touch "$TMPDIR/go"
wait $keeper || fail "$(cat "$TMPDIR/told")"
diff - "$TMPDIR/told" <<EOF || fail "not what was to be told"
written
copy: Input/output error
copy: durable
disk: Input/output error
disk: durable
late: durable
EOF
unmount_and_check n1 n2 n3
