# What the scripts of tests/single share. Sourced first by each that mounts a volume:
#
#   . "${0%/*}/lib.sh"
#
# The build is the script's first argument, or $CSVFS_BUILD. It finds itself in a folder of its own, $dir, with mnt in it, and
# the build's programs in PATH. At the end, also by `set -e`, everything that is mounted there and the daemon whose
# pid is in the file `pid` are ended, and the folder goes.
#
#   at_end               to be defined anew: called first at the end (loads that must stop, descriptors)
#   fail TEXT            the script has failed; shows the end of the daemon's log
#   within SECONDS CMD.. CMD succeeds before that, or the script has failed
#   mount_it [VOLUME [OPTIONS]]   a daemon with $opts mounts it (v.img) on mnt
#   gone                 that daemon ends
#   unmount              umount, and its daemon ends
#   power_off            kill -9 of the daemon; nothing is mounted
#   clean [WHEN]         fsck.csvfs -n of v.img finds nothing
set -eu
build=$(cd "${1:-${CSVFS_BUILD:-build}}" && pwd)
dir=$(mktemp -d)
PATH=$build:$build/csvfs:$build/tools:$build/posix:$PATH
opts=ctl=$dir/s,log=$dir/log,pidfile=$dir/pid
cd "$dir"
mkdir mnt

at_end() { :; }
ends() {
	local mount
	at_end
	cd "$dir"
	# Lazily, before the daemon is killed: then whoever waits for it has an answer, and can be ended.
	for mount in $(awk -v d="$dir/" 'index($5, d) == 1 {print $5}' /proc/self/mountinfo | tac); do
		umount -l "$mount" || true
	done
	[ ! -s pid ] || kill -9 "$(cat pid)" 2>/dev/null || true
	cd /
	rm -rf --one-file-system "$dir"
}
trap ends EXIT

fail() {
	echo "FAILED: $*"
	tail -n 20 log 2>/dev/null || true
	exit 1
}

within() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || fail "not in time: $*"
		sleep 0.05
	done
}

mount_it() {
	timeout 60 csvfs "${1:-v.img}" mnt -o "$opts${2:+,$2}" >out 2>&1 || fail "cannot mount $*: $? $(cat out)"
}
ended() { [ ! -e pid ]; }
gone() { within 30 ended; }
unmount() {
	timeout 30 umount mnt || fail "cannot unmount"
	gone
}
power_off() {
	kill -9 "$(cat pid)"
	umount -l mnt
	rm -f pid
}
clean() { fsck.csvfs -n v.img >out 2>&1 || fail "not clean${1:+, $1}: $(cat out)"; }
