/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/base/claim.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/base/crc32c.h"
#include "csvfs/base/trace.h"

struct disk_given_up {
	le64 life;
	le32 node;
	le32 reserved;
};
_Static_assert(sizeof(struct disk_given_up) == 16, "format");

struct disk_fenced {
	le32 node;
	le32 incarnation;
	le32 name_crc;
	le32 reserved;
};
_Static_assert(sizeof(struct disk_fenced) == 16, "format");

#define FLAG_KEPT 1u
#define FLAG_FENCED_MORE 2u

struct disk_claim {
	le32 magic;
	le32 crc; /* of the block with this field zero */
	uint8_t uuid[16];
	le64 epoch;
	le64 heartbeat;
	le64 life;
	le32 state;
	le32 node;
	le32 incarnation;
	le32 given_up_count;
	char name[NODE_NAME_MAX];
	struct disk_given_up given_up[CLAIM_GIVEN_UP_MAX];
	le64 served;
	le32 flags;
	le32 fenced_count;
	struct disk_fenced fenced[CLAIM_FENCED_MAX];
};
_Static_assert(offsetof(struct disk_claim, name) == 64, "format");
_Static_assert(offsetof(struct disk_claim, given_up) == 128, "format");
_Static_assert(offsetof(struct disk_claim, served) == 1152, "format");
_Static_assert(offsetof(struct disk_claim, fenced) == 1168, "format");
_Static_assert(sizeof(struct disk_claim) <= BLOCK_SIZE, "format");

void claim_encode(const struct claim *c, void *block)
{
	struct disk_claim *d = block;

	memset(block, 0, BLOCK_SIZE);
	d->magic = le32_of(CLAIM_MAGIC);
	memcpy(d->uuid, c->uuid, 16);
	d->epoch = le64_of(c->epoch);
	d->heartbeat = le64_of(c->heartbeat);
	d->life = le64_of(c->life);
	d->state = le32_of((uint32_t)c->state);
	d->node = le32_of(c->node);
	d->incarnation = le32_of(c->incarnation);
	memcpy(d->name, c->name, sizeof(d->name));
	d->name[sizeof(d->name) - 1] = 0;
	csv_assert(c->given_up_count <= CLAIM_GIVEN_UP_MAX);
	d->given_up_count = le32_of(c->given_up_count);
	for (uint32_t i = 0; i < c->given_up_count; i++) {
		d->given_up[i].life = le64_of(c->given_up[i].life);
		d->given_up[i].node = le32_of(c->given_up[i].node);
	}
	d->served = le64_of(c->served);
	d->flags = le32_of((c->kept ? FLAG_KEPT : 0) | (c->fenced_more ? FLAG_FENCED_MORE : 0));
	csv_assert(c->fenced_count <= CLAIM_FENCED_MAX);
	d->fenced_count = le32_of(c->fenced_count);
	for (uint32_t i = 0; i < c->fenced_count; i++) {
		d->fenced[i].node = le32_of(c->fenced[i].node);
		d->fenced[i].incarnation = le32_of(c->fenced[i].incarnation);
		d->fenced[i].name_crc = le32_of(c->fenced[i].name_crc);
	}
	d->crc = le32_of(crc32c(0, block, BLOCK_SIZE));
}

static uint32_t claim_crc(const void *block)
{
	const size_t at = offsetof(struct disk_claim, crc);
	const uint8_t zero[4] = {0};
	uint32_t crc = crc32c(0, block, at);

	crc = crc32c(crc, zero, 4);
	return crc32c(crc, (const uint8_t *)block + at + 4, BLOCK_SIZE - at - 4);
}

/* A list that cannot be read is no list: who is on it would not be told. Then the other block counts. */
static bool given_up_decode(struct claim *c, const struct disk_claim *d)
{
	uint32_t count = le32_get(d->given_up_count);

	if (count > CLAIM_GIVEN_UP_MAX)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		c->given_up[i].life = le64_get(d->given_up[i].life);
		c->given_up[i].node = le32_get(d->given_up[i].node);
		if (!c->given_up[i].node)
			return false;
		for (uint32_t k = 0; k < i; k++)
			if (c->given_up[k].node == c->given_up[i].node)
				return false;
	}
	c->given_up_count = count;
	return true;
}

/* As above: somebody who is on it would write again. A flag that we do not know changes nothing of what we do. */
static bool fenced_decode(struct claim *c, const struct disk_claim *d)
{
	uint32_t count = le32_get(d->fenced_count);

	if (count > CLAIM_FENCED_MAX)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		c->fenced[i].node = le32_get(d->fenced[i].node);
		c->fenced[i].incarnation = le32_get(d->fenced[i].incarnation);
		c->fenced[i].name_crc = le32_get(d->fenced[i].name_crc);
		if (!c->fenced[i].node || !c->fenced[i].incarnation)
			return false;
	}
	c->fenced_count = count;
	c->kept = le32_get(d->flags) & FLAG_KEPT;
	c->fenced_more = le32_get(d->flags) & FLAG_FENCED_MORE;
	return true;
}

uint32_t claim_name_crc(const char name[NODE_NAME_MAX])
{
	uint32_t crc = crc32c(0, name, strnlen(name, NODE_NAME_MAX));

	return crc ? crc : 1;
}

void claim_keep(struct claim *c, const struct claim *last)
{
	if (last->kept) {
		c->node = last->node;
		c->incarnation = last->incarnation;
	}
	c->kept = last->kept;
	c->fenced_more = last->fenced_more;
	c->fenced_count = last->fenced_count;
	memcpy(c->fenced, last->fenced, sizeof(c->fenced));
}

void claim_owes_text(const struct claim *c, char *out, size_t out_bytes)
{
	bool one = c->fenced_count == 1 && !c->fenced_more;
	size_t at = trace_format(out, out_bytes, one ? "node" : "nodes");

	for (uint32_t i = 0; i < c->fenced_count && at + 48 < out_bytes; i++)
		at += trace_format(out + at, out_bytes - at, "%s %u", i ? "," : "", c->fenced[i].node);
	at += trace_format(out + at, out_bytes - at, "%s",
		!c->fenced_more ? "" : c->fenced_count ? " and more" : " of which there were too many");
	(void)trace_format(out + at, out_bytes - at, " %s fenced and %s not been back", one ? "was" : "were",
		one ? "has" : "have");
}

int claim_decode(struct claim *c, const void *block, const uint8_t uuid[16])
{
	const struct disk_claim *d = block;

	if (le32_get(d->magic) != CLAIM_MAGIC || le32_get(d->crc) != claim_crc(block))
		return -EUCLEAN;
	if (le32_get(d->state) > CLAIM_RELEASED)
		return -EUCLEAN;
	if (uuid && memcmp(uuid, d->uuid, 16))
		return -ESTALE;
	memset(c, 0, sizeof(*c));
	memcpy(c->uuid, d->uuid, 16);
	c->epoch = le64_get(d->epoch);
	c->heartbeat = le64_get(d->heartbeat);
	c->life = le64_get(d->life);
	c->state = (enum claim_state)le32_get(d->state);
	c->node = le32_get(d->node);
	c->incarnation = le32_get(d->incarnation);
	memcpy(c->name, d->name, sizeof(c->name));
	c->name[sizeof(c->name) - 1] = 0;
	c->served = le64_get(d->served);
	if (c->served > c->epoch)
		return -EUCLEAN;
	/* Of a version that did not say so. */
	if (!c->served)
		c->served = c->epoch;
	return given_up_decode(c, d) && fenced_decode(c, d) ? 0 : -EUCLEAN;
}
