/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuse_kill.c - what a write takes away: setuid, setgid, capabilities. The kernel leaves it to us where it writes past
 * its page cache, and says only whether the writer has CAP_FSETID; of truncate and fallocate it does the first line itself
 * and leaves the second alone (fuse_setattr()). The rule is that of Linux (setattr_should_drop_sgid()):
 *
 *   setuid, and setgid with group execute   by a writer without CAP_FSETID
 *   setgid without group execute            by one who is not in the file's group either
 *   security.capability                     by anybody
 *
 * Most files have none of these, and that must cost a write nothing: so it is remembered which (plain).
 */
#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "csvfs/fuse_ops_int.h"
#include "csvfs/proc_status.h"

/* proc(5): a member of the group, or CAP_FSETID. In doubt no: then a bit goes that might have stayed. */
bool fuse_kill_keeps_sgid(const char *status, uint32_t gid)
{
	const char *caps = strstr(status, "\nCapEff:"), *p = strstr(status, "\nGroups:");
	char *end;

	if (caps && (strtoull(caps + strlen("\nCapEff:"), NULL, 16) & 1ull << CAP_FSETID))
		return true;
	if (!p)
		return false;
	for (p += strlen("\nGroups:"); *p && *p != '\n'; p = end) {
		unsigned long long g = strtoull(p, &end, 10);

		if (end == p)
			break;
		if (g == gid)
			return true;
		while (*end == ' ' || *end == '\t')
			end++;
	}
	return false;
}

static bool keeps_sgid(uint32_t tid, uint32_t gid)
{
	int err;
	char *text = tid ? proc_status(tid, &err) : NULL;
	bool yes = text && fuse_kill_keeps_sgid(text, gid);

	free(text);
	return yes;
}

uint32_t fuse_ops_kills(const struct fs_attr *a, const struct fuse_ops_writer *w)
{
	bool suid = a->mode & S_ISUID, sgid = a->mode & S_ISGID;
	uint32_t kill = a->flags & FS_ATTR_CAPS ? FS_SET_KILL_CAPS : 0;

	if (!w->unprivileged)
		return kill;
	if (sgid && !(a->mode & S_IXGRP) && a->gid != w->gid && !keeps_sgid(w->tid, a->gid))
		return kill | FS_SET_KILL_SUID | FS_SET_KILL_SGID;
	return suid || (sgid && (a->mode & S_IXGRP)) ? kill | FS_SET_KILL_SUID : kill;
}

/* ------------------------------------------------------------------ files that have nothing of it */

static uint64_t *plain_slot(const struct fuse_ops *f, uint64_t ino)
{
	return (uint64_t *)(uintptr_t)&f->plain[(ino ^ ino >> 13) % PLAIN_SLOTS];
}

static uint64_t plain_bit(enum fuse_ops_plain what)
{
	_Static_assert(NODEID_INO_BITS < 62, "two bits are above the number");
	return 1ull << (62 + what);
}

#define PLAIN_BITS (3ull << 62)

bool fuse_ops_is_plain(const struct fuse_ops *f, uint64_t ino, enum fuse_ops_plain what)
{
	uint64_t slot = __atomic_load_n(plain_slot(f, ino), __ATOMIC_RELAXED);

	return (slot & ~PLAIN_BITS) == ino && (slot & plain_bit(what));
}

void fuse_ops_saw(struct fuse_ops *f, const struct fs_attr *a)
{
	uint64_t *slot = plain_slot(f, a->ino), bits = 0;
	uint64_t was = __atomic_load_n(slot, __ATOMIC_RELAXED);

	if (!(a->mode & (S_ISUID | S_ISGID)))
		bits |= plain_bit(PLAIN_MODE);
	if (!(a->flags & FS_ATTR_CAPS))
		bits |= plain_bit(PLAIN_CAPS);
	/* What is not plain in any way takes nobody's place. */
	if (bits || (was & ~PLAIN_BITS) == a->ino)
		__atomic_store_n(slot, a->ino | bits, __ATOMIC_RELAXED);
}

void fuse_kill_xattr_set(struct fuse_ops *f, const struct fs_request *rq)
{
	uint64_t *slot = plain_slot(f, rq->ino);

	if (!strcmp(rq->name, "security.capability") &&
		(__atomic_load_n(slot, __ATOMIC_RELAXED) & ~PLAIN_BITS) == rq->ino)
		__atomic_store_n(slot, 0, __ATOMIC_RELAXED);
}
