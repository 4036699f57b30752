/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Three superblocks of which none has a right checksum. They say the same, but for their place and, of the last
 * one, its transaction and roots; so if few bits of each are wrong, of each bit what two of three say
 * is what was written. That is no guess: the checksum that one of them carries must agree. A repair sees
 * the volume with this one in its place, and writes it there before all else but the claim.
 */
#include "metadata/fields.h"
#include "tools/check/mend.h"

#define SUPERS 3u

struct ck_vote {
	struct check_dev dev; /* the volume with `block` at `at` */
	const struct check_dev *under;
	uint64_t at;
	bool written;
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8)));
	uint8_t said[SUPERS][BLOCK_SIZE];
};

static int vote_read(void *ctx, uint64_t off, void *buf, uint32_t len)
{
	const struct ck_vote *v = ctx;
	const uint64_t at = v->at * BLOCK_SIZE;
	const int err = v->under->read(v->under->ctx, off, buf, len);

	if (!err && !v->written && off <= at && at < off + len)
		memcpy((uint8_t *)buf + (at - off), v->block, BLOCK_SIZE);
	return err;
}

static const void *vote_at(void *ctx, uint64_t off)
{
	const struct ck_vote *v = ctx;

	return !v->written && off == v->at * BLOCK_SIZE ? v->block
							: v->under->at(v->under->ctx, off);
}

static int vote_write(void *ctx, uint64_t off, const void *buf, uint32_t len)
{
	struct ck_vote *v = ctx;
	int err = 0;

	if (!v->written)
		err = v->under->write(v->under->ctx, v->at * BLOCK_SIZE, v->block, BLOCK_SIZE);
	if (err)
		return err;
	v->written = true;
	return v->under->write(v->under->ctx, off, buf, len);
}

static int vote_claim(void *ctx, const struct claim *claim)
{
	const struct ck_vote *v = ctx;

	return v->under->claim(v->under->ctx, claim);
}

/* What most of them say, as the superblock of block `at`, whose checksum is taken from `own`. */
static bool most_say(struct ck_vote *v, const uint8_t *own, uint64_t at)
{
	struct disk_header *h = (struct disk_header *)v->block;

	for (uint32_t i = 0; i < BLOCK_SIZE; i++) {
		const uint8_t a = v->said[0][i], b = v->said[1][i], c = v->said[2][i];

		v->block[i] = (uint8_t)((a & b) | (a & c) | (b & c));
	}
	memcpy(&h->crc, own + offsetof(struct disk_header, crc), sizeof(h->crc));
	h->blkno = le64_of(at);
	v->at = at;
	return ck_super_valid(v->block, at);
}

const struct check_dev *ck_vote(const struct check_dev *dev, struct mem *mem)
{
	const uint64_t places[SUPERS] = {
		SUPER_BLOCK, SUPER_COPY_BLOCK, dev->bytes / BLOCK_SIZE - 1};
	struct ck_vote *v = dev->bytes < CHUNK_SIZE ? NULL : mem_alloc(mem, sizeof(*v));

	if (!v)
		return dev;
	for (uint32_t i = 0; i < SUPERS; i++)
		if (dev->read(dev->ctx, places[i] * BLOCK_SIZE, v->said[i], BLOCK_SIZE) ||
			ck_super_valid(v->said[i], places[i]))
			return dev;
	v->under = dev;
	v->dev = (struct check_dev){.ctx = v,
		.read = vote_read,
		.at = dev->at ? vote_at : NULL,
		.bytes = dev->bytes,
		.write = vote_write,
		.claim = dev->claim ? vote_claim : NULL};
	for (uint32_t i = 0; i < SUPERS; i++)
		if (most_say(v, v->said[i], places[i]))
			return &v->dev;
	return dev;
}
