/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuse_ops.h - the kernel's side: mount, requests of the kernel -> EV_REQUEST, FX_REPLY -> answers.
 *
 * Requests are read by datapath.c's threads. fuse_ops_reply() and fuse_ops_inval() are called by
 * whoever steps the core.
 *
 * POSIX and flock locks are both negotiated in a cluster, else the kernel would keep either to itself (fuse_lock.c).
 */
#ifndef CSVFS_FUSE_OPS_H
#define CSVFS_FUSE_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "csvfs/base/platform.h"

/* Set in the tags of its requests, see datapath.h. */
#define FUSE_OPS_TAG (1ull << 62)

struct fuse_ops;

struct fuse_ops_config {
	const char *mountpoint;
	const char *fsname; /* first column of mount(8): the URL without secrets, or the image */
	uint64_t root_ino; /* the kernel calls it 1 */
	bool readonly;
	bool cache; /* attributes and names may be cached: this node alone changes them */
	bool noatime, nodiratime, nosuid, nodev, noexec, sync, dirsync;
	void (*post)(void *ctx, const struct event *ev);
	/* The process of a request had a signal (dying.h). A lock of another process is different: EINTR for any. */
	void (*signalled)(void *ctx, uint32_t tid, uint64_t tag);
	void *ctx;
};

/*
 * Mounts. From now on processes that touch the mount point wait, until datapath_start(). 0, or a
 * negative errno and a line of text for the user.
 */
int fuse_ops_mount(
	const struct fuse_ops_config *cfg, struct fuse_ops **out, char *text, size_t text_bytes);

/* FX_REPLY with FUSE_OPS_TAG. Stale tags are ignored. */
void fuse_ops_reply(struct fuse_ops *f, uint64_t tag, const struct fs_reply *rp);

/* FX_INVAL: queued for a thread of its own. */
void fuse_ops_inval(struct fuse_ops *f, uint64_t ino, uint64_t generation, const char *name);

/* The same of its attributes alone; its pages stay. nodeid: what the kernel calls it. */
void fuse_ops_inval_attr(struct fuse_ops *f, uint64_t nodeid);

/* Is the request with that tag still to be answered? */
bool fuse_ops_waits(struct fuse_ops *f, uint64_t tag);

/* Requests that the core has not answered yet. */
uint32_t fuse_ops_pending(struct fuse_ops *f);

/* Asks the kernel to unmount, lazily; datapath's on_unmount follows. */
void fuse_ops_unmount(struct fuse_ops *f);

/* After datapath_stop(). */
void fuse_ops_destroy(struct fuse_ops *f);

/* ---- for datapath.c */

int fuse_ops_fd(struct fuse_ops *f);

/* A request that is neither READ nor WRITE, as read from the descriptor, in one piece. */
void fuse_ops_process(struct fuse_ops *f, void *bytes, size_t len);

/* The inode that the kernel means. */
uint64_t fuse_ops_ino_of(const struct fuse_ops *f, uint64_t nodeid);

/* Whether a read may set atime (neither noatime nor read-only). */
bool fuse_ops_atime(const struct fuse_ops *f);

/*
 * Whether the file is known to have nothing that a write must take away: neither setuid nor setgid (by others than
 * root), no capabilities (by anybody). Learnt from every answer that shows its attributes.
 */
enum fuse_ops_plain { PLAIN_MODE, PLAIN_CAPS };
bool fuse_ops_is_plain(const struct fuse_ops *f, uint64_t ino, enum fuse_ops_plain what);
void fuse_ops_saw(struct fuse_ops *f, const struct fs_attr *a);
/* What a write of a file with these attributes takes away: FS_SET_KILL_*. May read of /proc, for a setgid file. */
struct fuse_ops_writer {
	bool unprivileged; /* without CAP_FSETID */
	uint32_t tid, gid;
};
uint32_t fuse_ops_kills(const struct fs_attr *a, const struct fuse_ops_writer *w);
bool fuse_kill_keeps_sgid(const char *status, uint32_t gid); /* for tests */

/* What the answers of other requests need to know of the data path. NULL: nothing is to know. */
struct fuse_ops_hooks {
	/* The core hears of every write of ino that has been answered (EV_TOUCHED). */
	void (*settle)(void *ctx, uint64_t ino);
	/* Time of the newest write that it has not heard of; 0: none. */
	int64_t (*touched_ns)(void *ctx, uint64_t ino);
	/* The same of the newest read. */
	int64_t (*read_ns)(void *ctx, uint64_t ino);
	/* A SETATTR: the next read may set atime again. */
	void (*times_set)(void *ctx, uint64_t ino);
	/*
	 * Writes zeros to [off, off + len), which lies in one cluster, as far as the file reaches; done()
	 * is called by the same thread, with an error also by the core's (the zeros may still land then). Only from within
	 * fuse_ops_process() and done(). Through the open file `handle`; 0: none. Before that begins(), if there is memory: the
	 * tag says to dying.h what waits.
	 */
	void (*zero)(void *ctx, uint64_t ino, uint64_t handle, uint64_t off, uint32_t len,
		void (*begins)(void *arg, uint64_t tag), void (*done)(void *arg, int err), void *arg);
	/* An open file is closed. */
	void (*closed)(void *ctx, uint64_t handle);
	/* A write through it was answered to that thread with an error, since this was asked last. */
	bool (*failed)(void *ctx, uint64_t handle, uint32_t tid);
	uint32_t cluster_bytes;
	void *ctx;
};
void fuse_ops_set_hooks(struct fuse_ops *f, const struct fuse_ops_hooks *h);

#endif
