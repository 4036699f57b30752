/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Superblock, its copies, and the claim. */
#include "csvfs/base/claim.h"
#include "metadata/fields.h"
#include "tools/check/mend.h"

/* True: the block is a superblock by itself, whatever it says. */
bool ck_super_valid(const void *block, uint64_t blkno)
{
	const struct disk_super *s = block;

	return le32_get(s->h.magic) == MAGIC_SUPER && fields_sealed(block) &&
	       le64_get(s->h.blkno) == blkno;
}

static uint64_t last_block(const struct check *c)
{
	return c->dev->bytes / BLOCK_SIZE - 1;
}

static bool take(struct check *c, uint64_t blkno)
{
	const void *b = ck_read_raw(c, blkno, 0);

	if (!b || !ck_super_valid(b, blkno))
		return false;
	memcpy(&c->super, b, sizeof(c->super));
	c->super_at = blkno;
	return true;
}

static int fatal(struct check *c, enum problem p, uint64_t found, uint64_t want, const char *what)
{
	if (c->say_fatal)
		ck_report(c, p, c->super_at, 0, found, want, what);
	return -EUCLEAN;
}

/* [start, start + count) lies behind `after` and in the volume; gives its end, or 0. */
static uint64_t area_end(uint64_t start, uint64_t count, uint64_t after, uint64_t limit)
{
	if (start < after || start > limit || count > limit - start)
		return 0;
	return start + count;
}

static int geometry(struct check *c)
{
	const struct disk_super *s = &c->super;
	const uint64_t bytes = le64_get(s->volume_bytes);
	const uint32_t cluster = le32_get(s->cluster_bytes);
	uint64_t end, data = le64_get(s->data_start);

	if (cluster < CLUSTER_MIN || cluster > CLUSTER_MAX || (cluster & (cluster - 1)))
		return fatal(
			c, PROBLEM_SUPER_CLUSTER_SIZE, cluster, CLUSTER_DEFAULT, "cluster size");
	c->cluster_bytes = cluster;
	c->cluster_blocks = cluster / BLOCK_SIZE;
	c->chunk_clusters = CHUNK_SIZE / cluster;
	c->chunks_per_group = GROUP_CLUSTERS / c->chunk_clusters;
	c->block_count = le64_get(s->block_count);
	c->cluster_count = le64_get(s->cluster_count);
	c->group_count = le64_get(s->group_count);
	c->data_start = data;
	c->root_ino = le64_get(s->root_ino);
	if (bytes > VOLUME_BYTES_MAX || c->block_count != bytes / BLOCK_SIZE || bytes < CHUNK_SIZE)
		return fatal(c, PROBLEM_SUPER_GEOMETRY, c->block_count, bytes / BLOCK_SIZE,
			"number of blocks");
	if (bytes > c->dev->bytes)
		return fatal(c, PROBLEM_SUPER_TRUNCATED, c->dev->bytes, bytes, "size in bytes");
	if (c->cluster_count != bytes / cluster)
		return fatal(c, PROBLEM_SUPER_GEOMETRY, c->cluster_count, bytes / cluster,
			"number of clusters");
	end = (c->cluster_count + GROUP_CLUSTERS - 1) / GROUP_CLUSTERS;
	if (c->group_count != end)
		return fatal(c, PROBLEM_SUPER_GEOMETRY, c->group_count, end, "number of groups");
	end = (c->group_count + SUMMARY_PER_BLOCK - 1) / SUMMARY_PER_BLOCK;
	if (le64_get(s->summary_blocks) != end)
		return fatal(c, PROBLEM_SUPER_GEOMETRY, le64_get(s->summary_blocks), end,
			"blocks of summary");
	if (data % CHUNK_BLOCKS || data > c->block_count)
		return fatal(c, PROBLEM_SUPER_GEOMETRY, data, data / CHUNK_BLOCKS * CHUNK_BLOCKS,
			"start of data");
	end = area_end(le64_get(s->reply_start), le64_get(s->reply_blocks), REPLY_BLOCK, data);
	if (end)
		end = area_end(le64_get(s->summary_start), le64_get(s->summary_blocks), end, data);
	if (end)
		end = area_end(le64_get(s->group_start), c->group_count, end, data);
	if (end)
		end = area_end(le64_get(s->journal_start), le64_get(s->journal_blocks), end, data);
	if (!end || le64_get(s->reply_blocks) != NODES_MAX)
		return fatal(c, PROBLEM_SUPER_GEOMETRY, end, data, "fixed areas");
	if (le64_get(s->journal_blocks) < JOURNAL_HEADS + 16)
		return fatal(c, PROBLEM_SUPER_GEOMETRY, le64_get(s->journal_blocks), 0,
			"blocks of journal");
	return 0;
}

static void names_end(struct check *c, const struct disk_super *s, uint64_t blkno)
{
	if (!memchr(s->label, 0, sizeof(s->label)))
		ck_report(c, PROBLEM_SUPER_STRING, blkno, 0, 0, 0, "label has no end");
	if (!memchr(s->cluster_name, 0, sizeof(s->cluster_name)))
		ck_report(c, PROBLEM_SUPER_STRING, blkno, 0, 0, 0, "cluster name has no end");
	if (!memchr(s->lun_identity, 0, sizeof(s->lun_identity)))
		ck_report(c, PROBLEM_SUPER_STRING, blkno, 0, 0, 0, "LUN identity has no end");
}

static void strings(struct check *c)
{
	const struct disk_super *s = &c->super;

	names_end(c, s, c->super_at);
	if (le64_get(s->reserve_clusters) > c->cluster_count)
		ck_report(c, PROBLEM_SUPER_RESERVE, c->super_at, 0, le64_get(s->reserve_clusters),
			c->cluster_count, "reserve");
	else if ((c->cluster_count - le64_get(s->reserve_clusters)) % c->chunk_clusters)
		ck_report(c, PROBLEM_SUPER_RESERVE, c->super_at, 0, le64_get(s->reserve_clusters),
			le64_get(s->reserve_clusters), "does not start with a chunk: reserve");
	if (le64_get(s->h.owner))
		ck_report(
			c, PROBLEM_HEADER_OWNER, c->super_at, 0, le64_get(s->h.owner), 0, "owner");
	if (!ck_zero(s->reserved, sizeof(s->reserved)) || le64_get(s->h.reserved))
		ck_report(c, PROBLEM_RESERVED, c->super_at, 0, 0, 0, "reserved field");
}

#define PART(first, end) offsetof(struct disk_super, first), offsetof(struct disk_super, end)

static bool same(const struct disk_super *a, const struct disk_super *b, size_t from, size_t to)
{
	return !memcmp((const uint8_t *)a + from, (const uint8_t *)b + from, to - from);
}

/* What says whose volume it is, besides the uuid: nothing in a volume depends on it, but who may mount it does. */
static bool same_names(const struct disk_super *a, const struct disk_super *b)
{
	return same(a, b, PART(label, reserved));
}

/* The first of these fields that is another one; NULL: none is. */
static const char *other_name(const struct disk_super *a, const struct disk_super *b)
{
	if (!same(a, b, PART(label, cluster_name)))
		return "label is not that of the superblock that counts";
	if (!same(a, b, PART(cluster_name, lun_identity)))
		return "cluster name is not that of the superblock that counts";
	if (!same(a, b, PART(lun_identity, reserved)))
		return "LUN identity is not that of the superblock that counts";
	return NULL;
}

/* A transaction that the journal does not know cannot have written it, nor an epoch that nobody claimed. */
static void not_newer(struct check *c, const struct disk_super *s, uint64_t blkno)
{
	if (le64_get(s->h.epoch) > c->epoch_max)
		ck_report(c, PROBLEM_HEADER_EPOCH, blkno, 0, le64_get(s->h.epoch), c->epoch_max,
			"epoch of the superblock");
	if (le64_get(s->h.lsn) > c->lsn_max)
		ck_report(c, PROBLEM_HEADER_LSN, blkno, 0, le64_get(s->h.lsn), c->lsn_max,
			"transaction number of the superblock");
}

/* A copy must be valid, of this volume, and say the same; the last one: as far as it never changes. */
static void copy(struct check *c, uint64_t blkno, enum problem code, const char *name)
{
	const struct disk_super *s;
	const void *b;

	b = ck_read(c, blkno, 0);
	if (!b)
		return;
	s = b;
	if (!ck_super_valid(b, blkno)) {
		ck_report(c, code, blkno, 0, 0, 0, name);
		return;
	}
	not_newer(c, s, blkno);
	if (blkno == c->super_at)
		return;
	if (memcmp(s->h.uuid, c->super.h.uuid, 16))
		ck_report(c, code, blkno, 0, 0, 0, "uuid of another volume");
	else if (!same(s, &c->super, PART(version, root_ino)) ||
		 !same(s, &c->super, PART(created_ns, label)) || le64_get(s->h.owner))
		ck_report(c, code, blkno, 0, 0, 0, "describes another volume");
	else if (blkno <= SUPER_COPY_BLOCK && c->super_at <= SUPER_COPY_BLOCK &&
		 !same(s, &c->super, PART(root_ino, created_ns)))
		ck_report(c, code, blkno, 0, 0, 0, "has other roots than the superblock");
	else if (!same_names(s, &c->super)) {
		ck_report(c, PROBLEM_SUPER_DIFFERS, blkno, 0, 0, 0, other_name(s, &c->super));
		names_end(c, s, blkno);
	} else if (!ck_zero(s->reserved, BLOCK_SIZE - offsetof(struct disk_super, reserved)) ||
		   le64_get(s->h.reserved))
		ck_report(c, PROBLEM_RESERVED, blkno, 0, 0, 0, "reserved field of a copy");
}

static int usable(struct check *c)
{
	const struct disk_super *s = &c->super;

	if (le32_get(s->version) != FORMAT_VERSION)
		return fatal(c, PROBLEM_SUPER_VERSION, le32_get(s->version), FORMAT_VERSION,
			"format version");
	if (le64_get(s->incompat) & ~FEATURE_INCOMPAT_KNOWN)
		return fatal(c, PROBLEM_SUPER_FEATURE, le64_get(s->incompat),
			FEATURE_INCOMPAT_KNOWN, "incompatible features");
	return geometry(c);
}

static bool same_volume(const struct disk_super *a, const struct disk_super *b)
{
	return !memcmp(a->h.uuid, b->h.uuid, 16) && same(a, b, PART(version, root_ino)) &&
	       same(a, b, PART(created_ns, label));
}

/* Text up to its end, and zeros behind it. */
static bool is_text(const char *s, size_t bytes)
{
	const char *end = memchr(s, 0, bytes);

	for (const char *p = s; end && p < end; p++)
		if ((unsigned char)*p < ' ' || *p == 127)
			return false;
	return end && ck_zero(end, bytes - (size_t)(end - s));
}

/* What is said for a superblock: others that tell of the same volume, and of these, that name it so. */
struct backing {
	uint32_t volume, names;
};

static bool better(const struct backing *a, const struct backing *b)
{
	return a->volume != b->volume ? a->volume > b->volume : a->names > b->names;
}

/* Where it says that the volume ends there should be a superblock, too. */
static struct backing backing(struct check *c, const struct disk_super *s, uint64_t at)
{
	const uint64_t end = le64_get(s->block_count) - 1;
	const uint64_t places[] = {SUPER_BLOCK, SUPER_COPY_BLOCK, end, last_block(c)};
	struct backing n = {0, 0};

	for (uint32_t i = 0; i < (end == last_block(c) ? 3 : 4); i++) {
		const void *b = places[i] == at ? NULL : ck_read_raw(c, places[i], 0);

		if (!b || !ck_super_valid(b, places[i]) || !same_volume(s, b))
			continue;
		n.volume++;
		n.names += 2u * same_names(s, b);
	}
	/* Of two that differ in it the one that can be right. */
	n.names += is_text(s->label, sizeof(s->label)) &&
		   is_text(s->cluster_name, sizeof(s->cluster_name)) &&
		   is_text(s->lun_identity, sizeof(s->lun_identity));
	return n;
}

/*
 * Which is believed: the one that most others agree with, and of equals the first. *tie: two or more that could be right
 * contradict each other, and each stands alone. To choose would be to bet the volume on it. (By what it is called alone nothing is lost.)
 */
static uint64_t elect(struct check *c, uint64_t *valid, bool *tie)
{
	const uint64_t places[] = {SUPER_BLOCK, SUPER_COPY_BLOCK, last_block(c)};
	struct backing n, most = {0, 0};
	uint32_t usables = 0;
	uint64_t best = NEVER;

	for (uint32_t i = 0; i < 3; i++) {
		if (c->o->super != CHECK_SUPER_VOTE && c->o->super != CHECK_SUPER_FIRST + i)
			continue;
		if (!take(c, places[i]))
			continue;
		if (*valid == NEVER)
			*valid = places[i];
		if (usable(c))
			continue;
		usables++;
		n = backing(c, &c->super, places[i]);
		if (best == NEVER || better(&n, &most)) {
			best = places[i];
			most = n;
		}
	}
	*tie = usables > 1 && !most.volume;
	return best;
}

/*
 * It stands alone, and whoever mounted this volume last claimed another one: it is what an older volume left at the end of
 * the LUN. All that is sound here would be thrown away for it.
 */
static bool is_leftover(struct check *c)
{
	struct claim claim;
	bool others = false;

	if (c->o->super != CHECK_SUPER_VOTE || backing(c, &c->super, c->super_at).volume)
		return false;
	for (uint64_t i = 0; i < 2; i++) {
		const void *b = ck_read_raw(c, CLAIM_BLOCK + i, 0);

		if (!b || claim_decode(&claim, b, NULL))
			continue;
		if (!memcmp(claim.uuid, c->super.h.uuid, 16))
			return false;
		others = true;
	}
	return others;
}

/* Finds a valid superblock; what it says is believed as far as it does not contradict itself. */
int ck_super(struct check *c)
{
	uint64_t valid = NEVER, use;
	bool tie;

	c->say_fatal = true;
	if (c->dev->bytes < CHUNK_SIZE) {
		/* So little is left of it that only the first superblock is. */
		if (c->dev->bytes >= BLOCK_SIZE && take(c, SUPER_BLOCK))
			return fatal(c, PROBLEM_SUPER_TRUNCATED, c->dev->bytes,
				le64_get(c->super.volume_bytes), "size in bytes");
		return fatal(c, PROBLEM_SUPER_NONE, c->dev->bytes, CHUNK_SIZE, "size in bytes");
	}
	c->say_fatal = false;
	use = elect(c, &valid, &tie);
	c->say_fatal = true;
	if (valid == NEVER)
		return fatal(c, PROBLEM_SUPER_NONE, 0, 0,
			c->o->super == CHECK_SUPER_VOTE
				? "no valid superblock"
				: "the superblock that was asked for is not valid");
	(void)take(c, use == NEVER ? valid : use);
	memcpy(c->rep->uuid, c->super.h.uuid, 16);
	if (tie)
		return fatal(c, PROBLEM_SUPER_TIE, 0, 0,
			"those in block 0, its copy, and at the end describe different volumes");
	if (use != NEVER && is_leftover(c))
		return fatal(c, PROBLEM_SUPER_TIE, 0, 0,
			"the only valid one is not of the volume that was claimed last");
	return usable(c);
}

/*
 * The superblock that the journal holds: what it says is no more to be believed than that in place. False:
 * it cannot be right, and what stands in place is used.
 */
static bool super_of_journal(struct check *c, const struct disk_super *s)
{
	const struct disk_super now = c->super;

	memcpy(&c->super, s, sizeof(c->super));
	c->say_fatal = false;
	if (le64_get(s->journal_start) == le64_get(now.journal_start) &&
		le64_get(s->journal_blocks) == le64_get(now.journal_blocks) && !usable(c))
		return true;
	c->super = now;
	return false;
}

/* After the journal: what changes in the superblock may stand there. */
int ck_super_after_replay(struct check *c)
{
	const void *b = ck_read(c, c->super_at, 0);

	if (b && ck_super_valid(b, c->super_at) && !super_of_journal(c, b))
		ck_report(c, PROBLEM_SUPER_PRIMARY, c->super_at, 0, 0, 0,
			"the journal's image cannot be right");
	c->say_fatal = true;
	if (usable(c))
		return -EUCLEAN;
	c->root_ino = le64_get(c->super.root_ino);
	strings(c);
	if (b)
		ck_tail(c, b, sizeof(c->super), c->super_at);
	copy(c, SUPER_BLOCK, PROBLEM_SUPER_PRIMARY, "not a valid superblock");
	copy(c, SUPER_COPY_BLOCK, PROBLEM_SUPER_COPY, "not a valid copy");
	copy(c, c->block_count - 1, PROBLEM_SUPER_COPY, "not a valid copy");
	return 0;
}

void ck_claim(struct check *c)
{
	struct claim best = {.epoch = 0}, claim;
	bool found = false;
	uint64_t bad = 0;

	for (uint64_t i = 0; i < 2; i++) {
		const void *b = ck_read_raw(c, CLAIM_BLOCK + i, 0);
		int err = b ? claim_decode(&claim, b, c->super.h.uuid) : -EIO;

		if (err == -ESTALE)
			ck_report(c, PROBLEM_CLAIM_FOREIGN, CLAIM_BLOCK + i, 0, 0, 0,
				"uuid of another volume");
		else if (err)
			bad = CLAIM_BLOCK + i;
		if (!err && claim.epoch >= CK_NUMBER_MAX) {
			ck_report(c, PROBLEM_CLAIM_EPOCH, CLAIM_BLOCK + i, 0, claim.epoch, 0,
				"epoch is out of all reason:");
			continue;
		}
		if (err)
			continue;
		if (!found || claim.epoch > best.epoch ||
			(claim.epoch == best.epoch && claim.heartbeat > best.heartbeat))
			best = claim;
		found = true;
	}
	if (!found) {
		ck_report(c, PROBLEM_CLAIM_NONE, CLAIM_BLOCK, 0, 0, 0, "no valid claim");
		c->epoch_max = NEVER;
		return;
	}
	/* A crash leaves this, too: it does not make the volume a damaged one. */
	if (bad)
		ck_report(c, PROBLEM_CLAIM_BLOCK, bad, 0, 0, 0, "not a valid claim");
	c->claim = best;
	c->epoch_max = best.epoch;
	c->rep->epoch = best.epoch;
	if (best.state == CLAIM_HELD)
		ck_report(c, PROBLEM_CLAIM_HELD, CLAIM_BLOCK, 0, best.node, best.node,
			"not unmounted in order, or mounted now");
}
