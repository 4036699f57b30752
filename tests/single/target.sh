# For the scripts of tests/single that need a LUN of a real target. Sourced instead of lib.sh, and sources that: the script
# runs in a network namespace of its own, with root and tgtd, or is skipped.
#
#   target_up [IDENTITY]   tgtd is started, with lun.img as $url
#   target_down            it is killed
#   tgt ARGS               tgtadm
if ! command -v tgtd >/dev/null || [ "$(id -u)" != 0 ]; then
	echo "needs root and tgtd"
	exit 77
fi
if [ -z "${INSIDE:-}" ]; then
	INSIDE=1 exec unshare -n bash "$0" "$@"
fi
ip link set lo up
. "${0%/*}/lib.sh"
export TGT_IPC_SOCKET=$dir/ipc
url=iscsi://127.0.0.1/iqn.2026-11.test:single/1
tgtd=''

# tgtd goes last: what is mounted may wait for it.
target_ends() {
	ends
	target_down
}
trap target_ends EXIT

tgt() { tgtadm --lld iscsi "$@"; }
tgt_answers() { tgt --op show --mode sys >/dev/null 2>&1; }
target_up() {
	local identity=${1:-one}
	tgtd -f --nr_iothreads 1 --iscsi portal=127.0.0.1:3260 >tgtd.log 2>&1 &
	tgtd=$!
	within 10 tgt_answers
	tgt --op new --mode target --tid 1 -T "${url:18:-2}"
	tgt --op new --mode logicalunit --tid 1 --lun 1 -b "$dir/lun.img"
	tgt --op update --mode logicalunit --tid 1 --lun 1 --params "thin_provisioning=1,scsi_id=$identity,scsi_sn=$identity"
	tgt --op bind --mode target --tid 1 -I ALL
}
target_down() {
	[ -n "$tgtd" ] || return 0
	kill -9 "$tgtd"
	wait "$tgtd" 2>/dev/null || true
	tgtd=''
}
