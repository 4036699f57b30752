/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuse_more.c - what the kernel can ask and the library (libfuse 3.14) does not know: each such request is handed to
 * it as one that it knows, and what is lost by that goes beside it (struct fuse_beside).
 *
 *   FUSE_STATX    -> GETATTR, whose fields it begins with; answered in its own form, with the birth time
 *   FUSE_TMPFILE  -> CREATE (O_TMPFILE); the answer has the same form
 *   FUSE_SETXATTR -> the form it had before FUSE_SETXATTR_EXT, without the flags that came with that
 *
 * And the other way: the kernel's own struct, for answers in which the library has no field for all of it.
 */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fuse_lowlevel.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "csvfs/fuse_ops_int.h"

/* Younger than the kernel headers of Debian 12 (Linux 6.6, protocol 7.39). */
#define OP_STATX 52
#define OP_TMPFILE 51

struct sx_time {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t reserved;
};

struct sx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec, flags;
	uint64_t spare[2];
	uint32_t mask, blksize;
	uint64_t attributes;
	uint32_t nlink, uid, gid;
	uint16_t mode, spare0;
	uint64_t ino, size, blocks, attributes_mask;
	struct sx_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
	uint64_t spare2[14];
};
_Static_assert(sizeof(struct sx_out) == 288, "struct fuse_statx_out");

__thread struct fuse_beside fuse_more_beside;

size_t fuse_more_translate(const struct fuse_ops *f, void *bytes, size_t len)
{
	struct fuse_in_header *h = bytes;
	uint8_t *body = (uint8_t *)(h + 1);
	struct fuse_setxattr_in in;

	memset(&fuse_more_beside, 0, sizeof(fuse_more_beside));
	switch (h->opcode) {
	case OP_STATX:
		fuse_more_beside.statx = true;
		h->opcode = FUSE_GETATTR;
		break;
	case OP_TMPFILE:
		fuse_more_beside.tmpfile = true;
		h->opcode = FUSE_CREATE;
		break;
	case FUSE_SETXATTR:
		if (!f->kernel_setxattr_ext || len < sizeof(*h) + sizeof(in))
			break;
		memcpy(&in, body, sizeof(in));
		fuse_more_beside.kill_sgid = in.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID;
		memmove(body + 8, body + sizeof(in), len - sizeof(*h) - sizeof(in));
		len -= sizeof(in) - 8;
		h->len = (uint32_t)len;
		break;
	}
	return len;
}

static struct sx_time sx_time_of(struct timespec ts)
{
	return (struct sx_time){.tv_sec = ts.tv_sec, .tv_nsec = (uint32_t)ts.tv_nsec};
}

void fuse_more_answer_statx(
	fuse_req_t req, const struct stat *st, struct timespec btime, double timeout_s)
{
	struct sx_out out = {
		.attr_valid = (uint64_t)timeout_s,
		.mask = STATX_BASIC_STATS | STATX_BTIME,
		.blksize = (uint32_t)st->st_blksize,
		.nlink = (uint32_t)st->st_nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.mode = (uint16_t)st->st_mode,
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = sx_time_of(st->st_atim),
		.btime = sx_time_of(btime),
		.ctime = sx_time_of(st->st_ctim),
		.mtime = sx_time_of(st->st_mtim),
		.rdev_major = major(st->st_rdev),
		.rdev_minor = minor(st->st_rdev),
	};

	fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

void fuse_more_kernel_attr(struct fuse_attr *to, const struct stat *st)
{
	*to = (struct fuse_attr){
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = (uint64_t)st->st_atim.tv_sec,
		.mtime = (uint64_t)st->st_mtim.tv_sec,
		.ctime = (uint64_t)st->st_ctim.tv_sec,
		.atimensec = (uint32_t)st->st_atim.tv_nsec,
		.mtimensec = (uint32_t)st->st_mtim.tv_nsec,
		.ctimensec = (uint32_t)st->st_ctim.tv_nsec,
		.mode = st->st_mode,
		.nlink = (uint32_t)st->st_nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.rdev = (uint32_t)st->st_rdev,
		.blksize = (uint32_t)st->st_blksize,
	};
}
