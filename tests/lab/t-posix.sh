#!/usr/bin/env bash
# What one host does to a file shows in what the system calls of another may do: a directory that is removed while
# somebody stands in it elsewhere; setuid, setgid and capabilities that are set while somebody writes elsewhere.
# usage: t-posix.sh [all]   all: the whole of tests/posix on a host that does not coordinate (about a minute)
# timeout: 120
# beside: yes
. "$(dirname "$0")/lib/test.sh"
lab up --size 1G >/dev/null
a=$CSVLAB_DIR/n1/mnt b=$CSVLAB_DIR/n2/mnt

echo "# a directory is removed on another host"
mkdir "$a/d" "$b/e"
chmod 755 "$a/d" "$a/e"
coproc IN { cd "$a/d"; while read -r line; do ( eval "$line" ) >/dev/null 2>&1 && echo ok || echo "$?"; done; }
pid=$IN_PID # bash forgets it when it has ended
in_d() { # what it says to a command
	local answer
	echo "$*" >&"${IN[1]}"
	read -r -t 30 -u "${IN[0]}" answer || fail "no answer to: $*"
	echo "$answer"
}
[ "$(in_d 'stat .')" = ok ] || fail "cannot stand in a directory"
rmdir "$b/d"
[ "$(in_d 'chmod 700 . && [ "$(stat -c "%a %h" .)" = "700 0" ]')" = ok ] || fail "chmod where one stands, gone"
[ "$(in_d 'touch -d @5 . && [ "$(stat -c %Y .)" = 5 ]')" = ok ] || fail "utimensat where one stands, gone"
[ "$(in_d 'setfattr -n user.a -v x . && getfattr -n user.a .')" = ok ] || fail "an attribute where one stands, gone"
[ "$(in_d '[[ $(mkdir x 2>&1) = *"No such file"* ]]')" = ok ] || fail "mkdir where one stands, gone"
[ "$(in_d 'echo >x')" != ok ] || fail "made something in a directory that is gone"
mkdir "$b/d"
[ "$(in_d 'cd ../d && echo >x')" = ok ] || fail "the new directory of that name is not found"
[ -e "$b/d/x" ] || fail "made elsewhere"
exec {IN[1]}>&-
wait "$pid" || true

echo "# bits that a write takes away are set on another host"
: >"$a/f"
chmod 777 "$a/f"
# Opened by root: nobody need not be able to get there.
coproc W {
	exec 3<>"$b/f"
	exec setpriv --reuid 65534 --regid 65534 --clear-groups bash -c \
		'while read -r n; do printf %s "$n" >&3 && echo ok || echo no; done'
}
pid=$W_PID
write_as_nobody() {
	local answer
	echo x >&"${W[1]}"
	read -r -t 30 -u "${W[0]}" answer || fail "no answer"
	[ "$answer" = ok ] || fail "cannot write"
}
check() { # check MODE-SET MODE-WANTED
	chmod "$1" "$a/f"
	write_as_nobody
	[ "$(stat -c %a "$b/f")" = "$2" ] || fail "after a write there: $(stat -c %a "$b/f"), not $2, on the writer's host"
	[ "$(stat -c %a "$a/f")" = "$2" ] || fail "after a write there: $(stat -c %a "$a/f"), not $2"
}
for ((i = 0; i < 3; i++)); do
	check 6777 777 # the first time, it has no layout yet; then it has
	write_as_nobody
	check 2666 666
	write_as_nobody
	stat "$b/f" >/dev/null
	check 4777 777
done
if setcap cap_net_raw=ep "$a/f"; then
	getcap "$b/f" | grep -q cap_net_raw || fail "capabilities do not show"
	write_as_nobody
	[ -z "$(getcap "$a/f")" ] || fail "a write there leaves capabilities: $(getcap "$a/f")"
fi
exec {W[1]}>&-
wait "$pid" || true
echo "# a symlink that another host removes while it is held or followed"
ln -s target "$a/s"
# readlinkat(2) of a descriptor: Perl has no other way
case $(uname -m) in
x86_64) nr=267 ;;
aarch64) nr=78 ;;
*) nr= ;;
esac
[ -z "$nr" ] || got=$(perl -MFcntl -e 'sysopen(F, $ARGV[0], 0x200000 | O_NOFOLLOW) or die "$!"; system("rm", $ARGV[1]) && die;
	my $buf = " " x 64; print syscall($ARGV[2], fileno(F), my $none = "", $buf, 64) < 0 ? $!{ESTALE} ? "ESTALE" : "$!" : "success"' \
	"$a/s" "$b/s" "$nr")
[ "${got:-ESTALE}" = ESTALE ] || fail "what is left of a symlink that another host removed is read: $got"
: >"$a/target"
(for ((i = 0; i < 300; i++)); do ln -s target "$b/s" && rm "$b/s"; done) &
pid=$!
while kill -0 $pid 2>/dev/null; do
	# ESTALE: it was overtaken when the kernel had walked the path for the second time, which is the last
	wrong=$(perl -e 'for (1 .. 200) { stat($ARGV[0]) || $!{ENOENT} || $!{ESTALE} || print "$!\n" }' "$a/s")
	[ -z "$wrong" ] || fail "stat of a symlink that comes and goes on another host: $wrong"
done
wait $pid || fail "cannot make and remove a symlink"
echo "# where data is, while another host writes"
seek() { # seek FILE OFFSET 3 (SEEK_DATA) or 4 (SEEK_HOLE)
	perl -e 'open(F, "<", $ARGV[0]) or die; print 0 + (sysseek(F, $ARGV[1], $ARGV[2]) || die "$!")' "$@"
}
exec 4<>"$b/g"
for ((i = 1; i < 6; i++)); do
	dd if=/dev/zero bs=1M count=1 seek=$((i * 10)) conv=notrunc status=none of="/proc/self/fd/4"
	at=$(seek "$a/g" $(((i * 10 - 5) << 20)) 3)
	[ "$at" = $((i * 10 << 20)) ] || fail "data that another host has just written is at $at"
	at=$(seek "$a/g" $((i * 10 << 20)) 4)
	[ "$at" = $((i * 10 + 1 << 20)) ] || fail "the hole behind it is at $at"
done
exec 4>&-

echo "# the same calls as without a cluster, on a host that does not coordinate"
for n in n1 n2; do [ "$(state n1 .coordinator)" = $n ] || other=$n; done
which=(gone- call- suid- space- open-tmpfile times-set-after)
[ "${1:-}" != all ] || which=()
mkdir "$CSVLAB_DIR/$other/mnt/w"
"$CSVFS_BUILD/posix/posix" "$CSVLAB_DIR/$other/mnt/w" "${which[@]}" || fail "conformance on $other"
unmount_and_check n1 n2 n3
