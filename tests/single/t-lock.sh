#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# File locks on one node, as fcntl(2) and flock(2) promise them: by the kernel's own file system first, so
# that it is the test that is right, then on csvfs. (A node that is alone leaves them to the kernel;
# tests/lab/t-lock.sh asks the same of a cluster's node.)
# usage: t-lock.sh [BUILD]
. "${0%/*}/lib.sh"
locks=$build/lab/locks

head -c 4096 /dev/zero >plain
timeout 60 "$locks" conform plain || fail "the test itself is wrong: $(stat -f -c %T .)"

mkfs.csvfs -q -s 64M v.img
mount_it
head -c 4096 /dev/zero >mnt/f
timeout 60 "$locks" conform mnt/f || fail "csvfs: locks are not as they should be"

unmount
clean
