#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# timeout: 300
# Random calls on csvfs and on a file system of the kernel: both must say the same to each (tests/posix/beside.c).
# usage: t-beside.sh [BUILD]
#   SEEDS="5 6"    these, instead of eight
#   CALLS=N        of each seed, instead of 600
#   REFERENCE=DIR  an empty directory of another file system than a new tmpfs (ext4 agrees, too)
. "${0%/*}/lib.sh"
mkdir reference
mkfs.csvfs -q -s 1G v.img
mount_it
if [ -n "${REFERENCE:-}" ]; then
	mount --bind "$REFERENCE" reference
else
	mount -t tmpfs -o size=256M,mode=755 csvfs-beside reference
fi
# user.* on tmpfs is younger than others of its attributes
touch reference/f
if ! setfattr -n user.a -v 1 reference/f 2>/dev/null; then
	echo "cannot run: the reference has no user attributes (tmpfs has them from Linux 6.6 on)"
	exit 0
fi
rm reference/f

failed=0
for seed in ${SEEDS:-1 2 3 4 5 6 7 8}; do
	for fs in mnt reference; do
		mkdir -p $fs/x/y
		beside $fs/x/y "$seed" "${CALLS:-600}" >$fs.out 2>&1 || { echo "FAILED: seed $seed: $(tail -n 1 $fs.out)"; failed=1; }
		rm -rf $fs/x
	done
	cmp -s mnt.out reference.out && continue
	echo "FAILED: seed $seed: csvfs (<) and the reference (>) differ"
	diff mnt.out reference.out | head -n 12
	failed=1
done
unmount
clean
exit $failed
