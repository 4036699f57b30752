/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/fuzz/mounted.h"

#include <string.h>
#include <sys/stat.h>

#include "csvfs/base/assert.h"
#include "metadata/engine.h"
#include "metadata/ops.h"
#include "tests/crash/table.h"

#define REQUESTS_MAX 2000u /* a damaged directory may have itself as a child */
#define DEPTH_MAX 8u

static struct world *w;
static uint32_t left;

static int ask(struct fs_request *rq, struct fs_reply *rp)
{
	if (!left || vol_state(w->vol) != VOL_READY)
		return -1;
	left--;
	rq->time_ns = 1;
	return world_request(w, rq, rp);
}

static void look_at(uint64_t ino, uint32_t depth);

static void look_at_entries(uint64_t ino, uint32_t depth)
{
	uint64_t buf[1024];
	struct fs_request rq = {.op = FS_READDIR, .ino = ino, .len = sizeof(buf)};

	for (;;) {
		struct fs_reply rp = {.data = buf, .data_room = sizeof(buf)};
		uint8_t *p = (uint8_t *)buf;

		if (ask(&rq, &rp) || !rp.data_len)
			return;
		while (p < (uint8_t *)buf + rp.data_len) {
			struct fs_dirent *e = (struct fs_dirent *)p;
			struct fs_request look = {.op = FS_LOOKUP, .ino = ino};
			struct fs_reply found = {.err = 0};
			const char *name = (const char *)(e + 1);

			csv_assert(p + FS_DIRENT_SIZE(e->namelen) <= (uint8_t *)buf + rp.data_len);
			csv_assert(e->namelen && e->namelen <= NAME_BYTES_MAX);
			rq.off = e->cookie;
			p += FS_DIRENT_SIZE(e->namelen);
			memcpy(look.name, name, e->namelen);
			if (!strcmp(look.name, ".") || !strcmp(look.name, ".."))
				continue;
			if (!ask(&look, &found))
				look_at(found.attr.ino, depth + 1);
		}
	}
}

static void look_at(uint64_t ino, uint32_t depth)
{
	static uint8_t buf[65536];
	static const enum fs_op ops[] = {
		FS_GETATTR, FS_READLINK, FS_LISTXATTR, FS_GETXATTR, FS_LSEEK, FS_LAYOUT_GET};
	uint32_t mode = 0;

	if (depth > DEPTH_MAX)
		return;
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		struct fs_extent x[32];
		struct fs_reply rp = {
			.data = buf, .data_room = sizeof(buf), .extents = x, .extent_room = 32};
		struct fs_request rq = {.op = ops[i], .ino = ino, .name = "user.x"};

		rq.flags = ops[i] == FS_LSEEK ? 4 : 0;
		rq.len = 1ull << 40;
		if (!ask(&rq, &rp) && ops[i] == FS_GETATTR)
			mode = rp.attr.mode;
	}
	if (S_ISDIR(mode))
		look_at_entries(ino, depth);
}

static void do_everything(void)
{
	for (uint32_t i = 0; i < table_count && vol_state(w->vol) == VOL_READY; i++) {
		struct fs_extent x[16];
		struct fs_reply rp = {.extents = x, .extent_room = 16};
		struct fs_request rq;

		left = 1;
		table_request(&table[i], &rq);
		rq.id = (struct fs_reqid){.node = 7, .slot = 1, .life = 9, .seq = i + 1};
		(void)ask(&rq, &rp);
	}
	for (uint64_t ino = 0, n = 0; n < 100; n++) {
		struct fs_request rq = {.op = FS_FREE_ORPHAN, .off = ino};
		struct fs_reply rp = {.err = 0};

		left = 1;
		if (ask(&rq, &rp))
			break;
		ino = rp.off;
	}
}

void mounted_start(void)
{
	w = world_new(&metadata_ops, false);
	w->in_order = true;
	w->ino_is_open = table_is_open;
}

void mounted_run(struct disk *d)
{
	for (uint32_t twice = 0; twice < 2; twice++) {
		world_open(w, d);
		while (vol_state(w->vol) == VOL_OPENING && world_complete(w))
			world_step(w);
		if (vol_state(w->vol) != VOL_READY)
			break;
		left = REQUESTS_MAX;
		look_at(le64_get(vol_super(w->vol)->root_ino), 0);
		if (!twice)
			do_everything();
		if (vol_state(w->vol) != VOL_READY)
			break;
		world_settle(w, true);
		vol_check(w->vol);
		vol_close(w->vol, w->fx);
		world_settle(w, true);
		csv_assert(vol_state(w->vol) == VOL_CLOSED || vol_state(w->vol) == VOL_FROZEN);
		if (vol_state(w->vol) != VOL_CLOSED)
			break;
	}
	world_abandon(w);
}
