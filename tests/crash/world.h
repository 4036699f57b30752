/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * world.h - the metadata engine on a disk: commands end in an order drawn from a seed, one at a time.
 */
#ifndef CSVFS_TESTS_CRASH_WORLD_H
#define CSVFS_TESTS_CRASH_WORLD_H

#include "csvfs/base/claim.h"
#include "csvfs/base/mem.h"
#include "metadata/image.h"
#include "metadata/txn.h"
#include "metadata/volume.h"
#include "tests/crash/disk.h"

#define WORLD_CMDS 1024u

struct world_cmd {
	uint64_t tag;
	struct lun_cmd lun;
	uint64_t handle; /* of a write, a flush */
};

struct world {
	struct disk *disk;
	struct vol *vol;
	void *region;
	struct mem mem;
	struct effects *fx;
	const struct vol_ops *ops;
	uint64_t now_ns;
	uint64_t completions;
	struct prng prng; /* for the order of completions */
	bool in_order;
	bool hold_places; /* checkpoint writes and flushes end last: the journal fills */
	bool write_cache;
	uint64_t volume_bytes; /* of the next world_mkfs(); 0: all of the disk */
	bool small; /* a cache of 4 MiB, which reads no neighbours */
	struct world_cmd cmd[WORLD_CMDS];
	uint32_t cmd_count;
	struct claim claim;
	bool (*ino_is_open)(void *ctx, uint64_t ino); /* NULL: none is */
};

struct world *world_new(const struct vol_ops *ops, bool write_cache);
void world_free(struct world *w);

/* Takes the claim of the disk with the next epoch, begins to open. */
void world_open(struct world *w, struct disk *d);
/* One step of the engine; its commands are sent. */
void world_step(struct world *w);
/* One command ends; false: none is in flight. */
bool world_complete(struct world *w);
/* Blocks that may be evicted are: what follows must read them again, and waits. */
void world_evict(struct world *w);
/* The engine is left as it is; what is in flight ends without an effect. */
void world_abandon(struct world *w);
/* Until there is nothing to do but wait. With `later`: not even that. */
void world_settle(struct world *w, bool later);
/* Executes; reply->err. -EIO: the volume froze. */
int world_request(struct world *w, const struct fs_request *rq, struct fs_reply *reply);

/* Runs it as an operation, and waits until it is durable. */
int world_call(struct world *w, int (*fn)(struct txn *t, void *arg), void *arg);

/* A volume made by image_format() on the disk, with a root directory. */
void world_mkfs(struct world *w, struct disk *d, uint32_t cluster_bytes);

extern bool world_traces;

#endif
