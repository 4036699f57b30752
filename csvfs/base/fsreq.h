/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fsreq.h - a file-system request and its reply, as every part of csvfs passes them on.
 *
 * fuse_ops.c makes one from a kernel request; redirect/wire.c carries it to the coordinator;
 * metadata/ops.c carries it out. All three name the same struct, so that nothing is translated
 * twice.
 *
 * Errors in replies are 0 or a negative errno. Times are nanoseconds since 1970 (UTC).
 */
#ifndef CSVFS_BASE_FSREQ_H
#define CSVFS_BASE_FSREQ_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/limits.h"

/* Values go over the wire: only ever add. */
enum fs_op {
	FS_NONE = 0,
	/* Reads. Executing one twice does no harm: they take no slot. */
	FS_LOOKUP = 1,	  /* ino, name -> attr */
	FS_GETATTR = 2,	  /* ino -> attr */
	FS_READLINK = 3,  /* ino -> data (target, no ending zero) */
	FS_READDIR = 4,	  /* ino, off = cookie (0: start), len = room -> data: struct fs_dirent stream */
	FS_STATFS = 5,	  /* -> statfs */
	FS_GETXATTR = 6,  /* ino, name -> data */
	FS_LISTXATTR = 7, /* ino, cred -> data: names, each with an ending zero; trusted.* for root */
	FS_LSEEK = 8,	  /* ino, off, flags = SEEK_DATA/SEEK_HOLE -> off */

	/* Changes of names and attributes. Not idempotent: executed at most once (reply cache). */
	FS_SETATTR = 20,     /* ino, attr, valid (FS_SET_*) -> attr */
	FS_MKNOD = 21,	     /* ino = parent, name, mode (all types but directory), rdev, cred -> attr */
	FS_MKDIR = 22,	     /* ino = parent, name, mode, cred -> attr */
	FS_SYMLINK = 23,     /* ino = parent, name, data = target, cred -> attr */
	FS_LINK = 24,	     /* ino, ino2 = new parent, name -> attr */
	FS_UNLINK = 25,	     /* ino = parent, name -> data: fs_gone_put() */
	FS_RMDIR = 26,	     /* ino = parent, name -> data, the same */
	/* ino = parent, name, ino2 = new parent, name2, flags = RENAME_*, cred (of a whiteout) -> data, the same */
	FS_RENAME = 27,
	/* As MKNOD of a regular file, and opened; flags = open(2) flags, valid: FS_NO_NAME -> attr */
	FS_CREATE = 28,
	/* ino, name, data, flags = XATTR_*, valid: FS_SET_KILL_SUID with an access list: setgid goes */
	FS_SETXATTR = 29,
	FS_REMOVEXATTR = 30, /* ino, name */
	FS_FALLOCATE = 31,   /* ino, off, len, flags = FALLOC_FL_* */

	/* Opens and layouts. Idempotent: the state after two is the state after one. */
	FS_OPEN = 40,	       /* ino: this node has it open (not a count) -> attr */
	FS_CLOSE = 41,	       /* ino: this node has it open no longer; its layout is returned */
	/* ino, off, len, flags = FS_LAYOUT_* -> extents, attr, off: behind it, appends of others are under way; ask before it is read */
	FS_LAYOUT_GET = 42,
	FS_LAYOUT_COMMIT = 43, /* ino, extents = ranges first-written; attr.size = at least, mtime, atime -> attr, off */
	FS_LAYOUT_RETURN = 44, /* ino: the layout is given back, all of it (answer to a recall) */
	/* ino, len -> off: room of len at the end of the file. Twice would leave a gap: takes a slot. */
	FS_APPEND = 45,

	/*
	 * Locks. Doing one twice does no harm (coordinator/PROTOCOL.md). A kernel asks for a LOCK of any type,
	 * NONE too; between nodes LOCK makes stronger, UNLOCK weaker.
	 */
	FS_LOCK = 46,	     /* ino, lock */
	FS_UNLOCK = 47,	     /* ino, lock: at most READ, or NONE; FS_LK_HANDLE: all of that handle */
	FS_GETLK = 48,	     /* ino, lock -> lock: what stands against it, or NONE */
	/* ino, lock.seq: the LOCK of that number ends with -EINTR if it waits; lock.owner, handle: so does what has that slot and seq */
	FS_LOCK_CANCEL = 49,

	FS_APPENDED = 50, /* ino, off, attr.version: the APPEND that was told this place is written, or never will be */

	/* Not from a kernel: the coordinator asks its own metadata engine. */
	FS_FREE_ORPHAN = 60, /* ino: nobody has it open any more; free it if it has no link */

	FS_FSYNC = 61,	/* ino: reply when what this node changed there is durable */
};

#define FS_SET_MODE (1u << 0)
#define FS_SET_UID (1u << 1)
#define FS_SET_GID (1u << 2)
#define FS_SET_SIZE (1u << 3)
#define FS_SET_ATIME (1u << 4)
#define FS_SET_MTIME (1u << 5)
#define FS_SET_CTIME (1u << 6)
#define FS_SET_KILL_SUID (1u << 7) /* clear setuid/setgid as chown(2) and write(2) do */

/*
 * FALLOCATE with PUNCH_HOLE or ZERO_RANGE: whoever asks has zeroed on the LUN what the range covers of
 * clusters that it does not cover whole. Without, such a range is refused where they are WRITTEN.
 */
#define FS_EDGES_ZEROED (1u << 8)

/* CREATE, as open(O_TMPFILE): the file has no name (the request's is not looked at) until LINK gives it one. */
#define FS_NO_NAME (1u << 9)

/* SETATTR: security.capability goes, as with write(2) by whomever. */
#define FS_SET_KILL_CAPS (1u << 10)

/* SETATTR, nothing else with it: it was read at attr.atime_ns (a directory, a symlink): fs_atime_due(). */
#define FS_SET_READ (1u << 11)

/* With KILL_SUID: setgid goes without group execute, too. Who writes is not in the file's group. */
#define FS_SET_KILL_SGID (1u << 12)

#define FS_TRIM_OPEN (1u << 0) /* FS_FREE_ORPHAN with ino, of the coordinator alone */
#define FS_LAYOUT_WRITE (1u << 0) /* allocate what is a hole; hand out the right to first-write */
#define FS_LAYOUT_NEAR (1u << 2) /* nothing behind the range but what was allocated: it is known to who asks */
#define FS_LAYOUT_AROUND (1u << 1) /* the reply may begin before off: with written extents up to there */
#define FS_LAYOUT_EDGE (1u << 3) /* with WRITE: nobody else writes in the clusters of the range (fs_extent.edge) */

/* True for what must be executed at most once and so takes a slot of the reply cache. */
bool fs_op_needs_slot(enum fs_op op);
/* One of the seven types of file. */
bool fs_type_known(uint32_t mode);
const char *fs_op_name(enum fs_op op);

enum fs_lock_type { FS_LK_NONE = 0, FS_LK_READ = 1, FS_LK_WRITE = 2 };
#define FS_LK_FLOCK (1u << 0)  /* flock(2): the whole file, a kind of its own. Else POSIX or OFD */
#define FS_LK_WAIT (1u << 1)   /* until it is granted */
#define FS_LK_HANDLE (1u << 2) /* UNLOCK: whatever was taken through that handle */
#define FS_LK_FLAGS 7u
#define FS_LK_END ((uint64_t)INT64_MAX) /* `end`: of all files */

struct fs_lock {
	uint64_t owner;	     /* the kernel's: a process (POSIX) or an open file (OFD, flock) */
	uint64_t handle;     /* of the open file, unique in one life of its node; 0: none */
	uint64_t start, end; /* bytes, the last one included */
	uint64_t seq;	     /* of a LOCK, of one life of its node: for FS_LOCK_CANCEL */
	uint32_t type, flags, pid, pad;
};

/*
 * The number of an inode is used again. What a kernel knows it by are these bits of the generation beside it, and
 * with them it asks: what has another life by now is gone (ESTALE), for an open, a name or an attribute. 0: any life.
 */
#define FS_GENERATION_MASK 0xffffffu
static inline bool fs_is_life(uint32_t asked, uint64_t generation)
{
	return asked == 0 || asked == (generation & FS_GENERATION_MASK);
}

struct fs_cred {
	uint32_t uid, gid, umask;
};

#define FS_ATTR_CAPS (1u << 0) /* it may have security.capability */

struct fs_attr {
	uint64_t ino, generation;
	uint64_t size;	 /* bytes */
	uint64_t blocks; /* units of 512 bytes, as st_blocks */
	uint32_t mode, uid, gid, nlink, rdev;
	uint32_t flags; /* FS_ATTR_* */
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
	uint64_t version; /* of the layout: grows when extents change other than by allocation */
};

/*
 * The file was written at this time. Nothing changes if it has been changed since and its mtime is newer; but
 * an mtime that was set to the future goes with the first write behind that.
 */
static inline void fs_attr_written(struct fs_attr *a, int64_t when_ns)
{
	if (when_ns > a->ctime_ns)
		a->ctime_ns = a->mtime_ns = when_ns;
	else if (when_ns > a->mtime_ns)
		a->mtime_ns = when_ns;
}

/* A read at now_ns sets atime: the first one since the file was changed, and one a day (relatime of mount(8)). */
#define FS_ATIME_AGE_NS (86400ll * 1000000000ll)
static inline bool fs_atime_due(const struct fs_attr *a, int64_t now_ns)
{
	return a->atime_ns <= a->mtime_ns || a->atime_ns <= a->ctime_ns ||
	       a->atime_ns <= now_ns - FS_ATIME_AGE_NS;
}

/* State of a range in a layout. */
enum ext_state {
	EXT_HOLE = 0,	   /* no space: reads as zero; to write, ask */
	EXT_UNWRITTEN = 1, /* space of ours to first-write, in whole clusters: reads as zero */
	EXT_WRITTEN = 2,   /* read and write in place */
	EXT_SHARED = 3,	   /* read in place; to write, ask (copy on write; others may write parts of blocks) */
};

struct fs_extent {
	uint64_t off;	  /* in the file, bytes, multiple of the cluster size */
	uint64_t len;	  /* bytes, multiple of the cluster size */
	uint64_t lun_off; /* on the LUN, bytes; 0 for a hole */
	uint32_t state;	  /* enum ext_state */
	uint32_t edge;	  /* in a grant, 1: nobody else writes there, so parts of blocks can be written */
};

struct fs_statfs {
	uint64_t blocks, bfree, bavail, files, ffree; /* blocks in units of bsize */
	uint32_t bsize, namelen;
};

/*
 * In the data of a READDIR reply: this header, then namelen bytes of name, then zeros up to a
 * multiple of 8. Native byte order: the wire turns it (redirect/wire.c).
 * cookie: pass it as `off` to go on behind this entry.
 */
struct fs_dirent {
	uint64_t ino, cookie;
	uint32_t type; /* S_IFMT bits of mode >> 12, as d_type */
	uint32_t namelen;
};
#define FS_DIRENT_SIZE(namelen) (sizeof(struct fs_dirent) + (((namelen) + 7u) & ~7u))

/*
 * What was removed for good, with its attributes as they were: a process may still hold it without having it open as the
 * core means it (a directory, a fifo, O_PATH), and then its node alone keeps what is left of it: at once, or if it is `open`,
 * when it has been closed. In the data of a reply to
 * UNLINK, RMDIR and RENAME: this, and behind it extended attributes as far as there is room (long values are left out); of a
 * symlink its target, if short, as one without a name. Nothing at all: it lives, or nobody could say any more (a reply that is sent again).
 */
#define FS_GONE_BYTES_MAX 4096u
struct cursor;
void fs_gone_put(struct cursor *c, const struct fs_attr *a, bool open);
bool fs_gone_get(struct cursor *c, struct fs_attr *a, bool *open);
#define FS_GONE_XATTR_BYTES(name_len, value_len) (5u + (name_len) + (value_len))
void fs_gone_put_xattr(struct cursor *c, const char *name, uint32_t name_len, const void *value,
	uint32_t value_len);
/* False: no more, or not well formed. name, value: in place, without ending zeros. */
struct fs_gone_xattr {
	const char *name;
	const void *value;
	uint32_t name_len, value_len;
};
bool fs_gone_get_xattr(struct cursor *c, struct fs_gone_xattr *x);

/* Who asks: a request of one life of one node, in one of its slots. seq grows by one per use. */
struct fs_reqid {
	uint32_t node;
	uint32_t slot; /* 0: needs no slot; else 1 .. SLOTS_MAX */
	uint64_t life;
	uint64_t seq;
};

struct fs_request {
	enum fs_op op;
	uint32_t flags, valid, mode, rdev;
	struct fs_reqid id;
	struct fs_cred cred;
	int64_t time_ns; /* wall clock of the asking node: becomes mtime, ctime */
	uint64_t ino, ino2;
	uint32_t generation, generation2; /* of ino and ino2: fs_is_life() */
	uint64_t given[2]; /* of what goes with its name: the asking node has forgotten it (0: none) */
	uint64_t off, len;
	struct fs_attr attr;
	char name[NAME_BYTES_MAX + 1], name2[NAME_BYTES_MAX + 1];
	const void *data; /* xattr value, symlink target */
	uint32_t data_len;
	uint32_t extent_count;
	const struct fs_extent *extents; /* for LAYOUT_COMMIT */
	struct fs_lock lock;		 /* of a CLOSE, which never travels so: handle */
};

#define FS_LEASE_ATTR (1u << 0) /* attr */
#define FS_LEASE_NAME (1u << 1) /* that the name leads there, or that there is none */

/*
 * `data` and `extents` are room given by whoever asks the engine (data_room bytes, extent_room
 * entries); in an effect or event they are valid as long as the effect or event is.
 */
struct fs_reply {
	int32_t err;
	uint32_t data_len, data_room;
	uint32_t extent_count, extent_room;
	struct fs_attr attr;
	struct fs_statfs statfs;
	uint64_t off;
	uint32_t lease; /* FS_LEASE_*: what the asking node may keep of it */
	struct fs_lock lock;
	void *data;
	struct fs_extent *extents;
};

#endif
