/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bdev_volume.c - is it the LUN that the volume is on? Asked in each session as it comes up, before its owner can send
 * anything: a target may have given the LUN's number to another one, or its address may lead to another target, while
 * we were away.
 *
 * Two things must agree: what the LUN says of itself (a copy of it has the same superblock), and the uuid in the superblock
 * (two targets may number their LUNs alike). A damaged superblock is not another one: its copies are asked. If none is
 * sound it is no volume, whatever the LUN calls itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/bdev.h"
#include "metadata/verify.h"

#define AGAIN_MAX 16 /* as iscsi.c: answers in a row that say "again" */
#define PLACES 3
#define ADVICE "see the target's mapping and address"

struct bdev_volume {
	struct bdev *b;
	struct bdev_req r;
	unsigned place, again;
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(BLOCK_SIZE)));
};

static void uuid_text(const uint8_t uuid[16], char out[37])
{
	for (int i = 0, at = 0; i < 16; i++)
		at += snprintf(out + at, 37 - (size_t)at, "%s%02x",
			i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
}

static void end(struct bdev_volume *v)
{
	v->b->checking = NULL;
	free(v);
}

static bool same_identity(struct bdev *b)
{
	const char *here = b->info.identity;

	if (!*b->want_identity || !strcmp(b->want_identity, here))
		return true;
	if (*here)
		bdev_down(b, "this is LUN %.50s, the volume is on LUN %.50s: " ADVICE, here, b->want_identity);
	else
		bdev_down(b, "the target does not say which LUN this is, the volume is on LUN %.50s: " ADVICE,
			b->want_identity);
	return false;
}

/* The block that a superblock, or a copy of it, is in (metadata/FORMAT.md). */
static uint64_t place_of(const struct bdev_volume *v)
{
	const uint64_t places[PLACES] = {0, 3, v->b->info.lun_bytes / BLOCK_SIZE - 1};

	return places[v->place];
}

bool bdev_volume_asks(const struct bdev *b, const struct bdev_req *r)
{
	return b->checking && b->state == BDEV_UP && r == &b->checking->r;
}

static void ask(struct bdev_volume *v)
{
	v->r.cmd = (struct lun_cmd){
		.op = LUN_READ, .off = place_of(v) * BLOCK_SIZE, .len = BLOCK_SIZE, .buf = v->block};
	bdev_submit(v->b, &v->r);
}

/* The uuid is all that matters here: whether the superblock can be used was judged when it was mounted. */
static void compare(struct bdev_volume *v, const struct disk_super *s)
{
	struct bdev *b = v->b;
	char here[37], ours[37];

	if (memcmp(s->h.uuid, b->want_uuid, 16)) {
		uuid_text(s->h.uuid, here);
		uuid_text(b->want_uuid, ours);
		bdev_down(b, "on this LUN is volume %s, not %s: " ADVICE, here, ours);
		end(v);
		return;
	}
	end(v);
	bdev_is_up(b);
}

static void answered(struct bdev_req *r)
{
	struct bdev_volume *v = r->owner;
	struct bdev *b = v->b;
	struct verify_report rep;

	if (b->state != BDEV_UP || r->status == LUN_UNKNOWN) {
		bdev_down(b, "the superblock cannot be read: %s", r->text);
		end(v);
		return;
	}
	/* Who is busy for so long says nothing of what is there. The owner tries again later. */
	if (r->status == LUN_RETRY && v->again++ >= AGAIN_MAX) {
		bdev_down(b, "the target is too busy to be asked which volume this is: %s", r->text);
		end(v);
		return;
	}
	if (r->status == LUN_RETRY) {
		ask(v);
		return;
	}
	if (r->status == LUN_OK && verify_header(v->block, MAGIC_SUPER, NULL, place_of(v), &rep) == PROBLEM_NONE) {
		compare(v, (const struct disk_super *)v->block);
		return;
	}
	if (++v->place < PLACES) {
		ask(v);
		return;
	}
	bdev_down(b, "there is no volume on this LUN%s%s: " ADVICE, r->status == LUN_OK ? "" : ", or it cannot be read: ",
		r->text);
	end(v);
}

void bdev_volume_check(struct bdev *b)
{
	struct bdev_volume *v;

	csv_assert(b->state == BDEV_UP && !b->checking);
	if (!same_identity(b))
		return;
	if (b->info.lun_bytes < BLOCK_SIZE)
		return bdev_down(b, "the LUN has no room for a volume: " ADVICE);
	v = aligned_alloc(BLOCK_SIZE, (sizeof(*v) + BLOCK_SIZE - 1) / BLOCK_SIZE * BLOCK_SIZE);
	csv_assert(v != NULL); /* two pages */
	memset(v, 0, sizeof(*v));
	v->b = b;
	v->r.done = answered;
	v->r.owner = v;
	b->checking = v;
	ask(v);
}
