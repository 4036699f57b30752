/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * run_sync.h - drives the metadata engine on a synchronous block device: each effect is carried out
 * at once. For mkfs, fsck, csvdb, unit tests and crash tests. Not part of the core (library csvsync).
 */
#ifndef CSVFS_METADATA_RUN_SYNC_H
#define CSVFS_METADATA_RUN_SYNC_H

#include "metadata/image.h"
#include "metadata/txn.h"
#include "metadata/volume.h"

struct claim;
struct run_sync;

struct run_sync_config {
	const struct sync_dev *dev;
	const struct vol_ops *ops;
	const struct trace *trace; /* may be NULL */
	size_t mem_bytes;	   /* all the engine may use; 0: 64 MiB */
	uint64_t cache_bytes;	   /* 0: 16 MiB */
	bool readonly;
	bool write_cache;	   /* the device loses unflushed writes: flush */
	bool steal;		   /* open even though the claim says HELD (the caller knows better) */
	const struct claim *claim; /* taken by the caller, who makes it beat, and lets it go; NULL: it is taken here */
	bool (*ino_is_open)(void *ctx, uint64_t ino);
	void *ctx;
};

/*
 * Takes the claim (epoch + 1), replays, opens. 0, -EBUSY (claim held), -EUCLEAN, -EIO; `why` (256
 * bytes, may be NULL) says it in words. readonly: nothing is written, so a volume that needs replay
 * is refused with -EROFS: put an overlay under it.
 */
int run_sync_open(const struct run_sync_config *cfg, struct run_sync **out, char why[256]);

/* Executes a request and waits until it is durable. Room for reply data is the caller's. Returns
 * reply->err, or -EIO when the volume froze. */
int run_sync_request(struct run_sync *rs, const struct fs_request *rq, struct fs_reply *reply);

/* Several at once: they share commits. Returns 0, or -EIO when the volume froze. */
int run_sync_batch(struct run_sync *rs, struct vol_req *reqs, uint32_t count);

/* Runs `fn` as one operation (with re-runs on -EAGAIN) and waits until it is durable. For tests. */
int run_sync_op(struct run_sync *rs, int (*fn)(struct txn *t, void *arg), void *arg);

/* Steps until nothing is to be done: background work, checkpoint. */
int run_sync_settle(struct run_sync *rs);

struct vol *run_sync_vol(struct run_sync *rs);
struct mem *run_sync_mem(struct run_sync *rs);

/* Closes in order and releases the claim. Frees rs in any case. */
int run_sync_close(struct run_sync *rs);
/* As if the power were lost: nothing more is written. */
void run_sync_crash(struct run_sync *rs);

/* image_format(), then the root directory is made, then closed in order. */
int run_sync_mkfs(const struct sync_dev *dev, const struct image_params *p,
	const struct vol_ops *ops, const struct trace *trace, char why[256]);

/* A block device in memory, sparse by 64 KiB. For tests. */
struct run_sync_mem_dev;
struct run_sync_mem_dev *run_sync_mem_new(uint64_t bytes);
void run_sync_mem_free(struct run_sync_mem_dev *m);
struct sync_dev run_sync_mem_dev(struct run_sync_mem_dev *m);

#endif
