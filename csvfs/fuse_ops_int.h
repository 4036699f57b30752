/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuse_ops_int.h - what fuse_ops.c and its neighbours share, behind <fuse_lowlevel.h>. Nobody else includes it. */
#ifndef CSVFS_FUSE_OPS_INT_H
#define CSVFS_FUSE_OPS_INT_H

#include <linux/fuse.h>
#include <pthread.h>

#include "csvfs/base/list.h"
#include "csvfs/fuse_ops.h"

#define PLAIN_SLOTS 8192u
#define LOCKED_SLOTS 8192u
#define SEEN_SLOTS 4096u
#define GONE_BUCKETS 256u
#define DIR_NOATIME 1u

/* A request that the core has. */
struct frq {
	struct fs_request rq; /* first, and valid until the answer: EV_REQUEST points to it */
	fuse_req_t req;	      /* NULL: nobody waits for the answer */
	size_t size;	      /* READDIR, GETXATTR, LISTXATTR: room of the kernel */
	uint32_t idx, gen;
	bool open_dot;	      /* LOOKUP of ".": by inode number */
	uint64_t handle; /* OPEN, CREATE: its number from now on; READDIR: DIR_NOATIME or 0 */
	bool statx;	      /* GETATTR: fuse_more.c */
	int64_t touched_ns;   /* GETATTR: what the core had not been told when it was asked; 0: nothing */
	struct fs_request *later; /* this is a GETATTR before it: post_change() */
	/* FALLOCATE: parts of clusters to be written with zeros before */
	uint32_t part_count, part_at;
	struct {
		uint64_t off;
		uint32_t len;
	} part[2];
	void *data;
	struct list link;     /* free */
};

struct fuse_ops {
	struct fuse_ops_config cfg;
	struct fuse_ops_hooks hooks;
	char *mountpoint;
	char device[32]; /* of the mount, as mountinfo names it; "": not known */
	struct fuse_session *se;
	/* Of the thread that processes INIT, alone at that time. */
	bool in_init, kernel_mmap, kernel_setxattr_ext, kernel_parallel;
	/* Files and how they are plain, by a hash of their number: plain_bit() with it. Atomic, each by itself. */
	uint64_t plain[PLAIN_SLOTS];
	/* Files that were ever locked here, by a hash: a close of others needs no message. Atomic bytes. */
	uint8_t locked[LOCKED_SLOTS];
	uint64_t handles; /* given to open files; atomic */
	/*
	 * Attributes as last answered, by a hash of the number; of what another node removed they are the last (fuse_gone.c).
	 * Of whoever steps the core.
	 */
	struct fs_attr seen[SEEN_SLOTS];

	/* fuse_gone.c */
	pthread_mutex_t gone_lock;
	uint32_t gone_count;
	struct list gone[GONE_BUCKETS], gone_age;

	pthread_mutex_t lock;
	struct frq **table;
	uint32_t table_len, pending;
	struct list free;

	pthread_mutex_t inval_lock;
	pthread_cond_t inval_more;
	struct list invals;
	bool inval_stop;
	pthread_t inval_thread;
	bool inval_running;
};

/*
 * What the kernel knows an inode by: its number, and above that bits of its generation, so that an inode of another
 * life is another one to the kernel as well.
 */
#define NODEID_INO_BITS 40
_Static_assert(VOLUME_BYTES_MAX / BLOCK_SIZE * 8 <= 1ull << NODEID_INO_BITS, "INO_MAKE() fits");

static inline fuse_ino_t fuse_ops_nodeid(
	const struct fuse_ops *f, uint64_t ino, uint64_t generation)
{
	if (ino == f->cfg.root_ino)
		return FUSE_ROOT_ID;
	return ino | (generation & FS_GENERATION_MASK) << NODEID_INO_BITS;
}

static inline uint64_t fuse_ops_ino(const struct fuse_ops *f, fuse_ino_t nodeid)
{
	return nodeid == FUSE_ROOT_ID ? f->cfg.root_ino
				      : nodeid & ((1ull << NODEID_INO_BITS) - 1);
}

static inline uint32_t fuse_ops_generation(fuse_ino_t nodeid)
{
	return (uint32_t)(nodeid >> NODEID_INO_BITS);
}

/* fuse_ops.c */
extern const struct fuse_lowlevel_ops fuse_ops_lowlevel;
void fuse_ops_forget_requests(struct fuse_ops *f);
/* A request with its common fields filled in, then handed to the core. NULL: answered with ENOMEM. */
struct fs_request *fuse_ops_begin(fuse_req_t req, enum fs_op op, fuse_ino_t ino);
void fuse_ops_post(fuse_req_t req, struct fs_request *rq);

/* A directory or a symlink, which have no layout whose commit would tell it: nobody waits for that. */
void fuse_ops_was_read(struct fuse_ops *f, fuse_ino_t nodeid, int64_t when_ns);
/* An interrupted open is not followed by a RELEASE: see fuse_answer.c. */
void fuse_ops_close_unasked(struct fuse_ops *f, fuse_ino_t nodeid);

/* fuse_answer.c */
void fuse_answer(struct fuse_ops *f, struct frq *q, const struct fs_reply *rp);

/* The attributes of q->rq.ino as they were seen last; NULL: not known any more. For whoever steps the core. */
const struct fs_attr *fuse_answer_seen(struct fuse_ops *f, const struct frq *q);

/* fuse_gone.c */
void fuse_gone_init(struct fuse_ops *f);
void fuse_gone_end(struct fuse_ops *f);
/* It was asked for something that is gone, and has been answered. */
bool fuse_gone_answer(struct fuse_ops *f, struct frq *q);
/* The core said ESTALE: true: it has been answered otherwise. */
bool fuse_gone_stale(struct fuse_ops *f, struct frq *q);
/* The reply to UNLINK, RMDIR or RENAME; before the kernel has it. */
void fuse_gone_removed(struct fuse_ops *f, const struct fs_reply *rp);
void fuse_gone_forget(struct fuse_ops *f, fuse_ino_t nodeid);

/* fuse_kill.c: an extended attribute was set, and the answer does not show what the file is like now. */
void fuse_kill_xattr_set(struct fuse_ops *f, const struct fs_request *rq);

/* fuse_lock.c */
void fuse_lock_get(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock);
void fuse_lock_set(
	fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock, int sleep);
void fuse_lock_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op);
void fuse_lock_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fuse_lock_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fuse_lock_answer(fuse_req_t req, const struct fs_request *rq, const struct fs_reply *rp);

/* fuse_more.c: beside the request that this thread has in fuse_ops_process(). */
struct fuse_beside {
	bool statx, tmpfile, kill_sgid;
};
extern __thread struct fuse_beside fuse_more_beside;
/* Makes a request the library's; its new length. */
size_t fuse_more_translate(const struct fuse_ops *f, void *bytes, size_t len);
void fuse_more_answer_statx(
	fuse_req_t req, const struct stat *st, struct timespec btime, double timeout_s);
void fuse_more_kernel_attr(struct fuse_attr *to, const struct stat *st);

/* fuse_mount.c */
void fuse_mount_init(void *userdata, struct fuse_conn_info *conn);

#endif
