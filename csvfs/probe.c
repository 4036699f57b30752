/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/probe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "csvfs/base/claim.h"
#include "csvfs/bdev_sync.h"
#include "metadata/ops.h"
#include "metadata/run_sync.h"
#include "metadata/verify.h"

#define LOGIN_MS 15000
#define HEAD_BYTES (72u << 10)

/* What else may be there: enough to see that the wrong LUN was named. */
static const char *looks_like(const uint8_t *head, size_t bytes)
{
	static const struct {
		size_t at;
		const char *magic;
		size_t len;
		const char *name;
	} known[] = {{1080, "\x53\xef", 2, "ext4"}, {0, "XFSB", 4, "XFS"},
		{65600, "_BHRfS_M", 8, "btrfs"}, {65536, "\x01\x16\x19\x70", 4, "GFS2"},
		{8192, "OCFSV2", 6, "OCFS2"}, {0, "LUKS\xba\xbe", 6, "a LUKS volume"},
		{536, "LVM2 001", 8, "an LVM physical volume"}, {3, "NTFS", 4, "NTFS"},
		{512, "EFI PART", 8, "a partitioned disk"}, {0, "QFI\xfb", 4, "a qcow2 image"},
		{510, "\x55\xaa", 2, "a partitioned disk"}};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].at + known[i].len <= bytes &&
			!memcmp(head + known[i].at, known[i].magic, known[i].len))
			return known[i].name;
	for (size_t i = 0; i < bytes; i++)
		if (head[i])
			return "something else";
	return "an empty one: it begins with zeros";
}

static int refuse(enum problem problem, const struct verify_report *rep, const char *name,
	char *text, size_t text_bytes)
{
	switch (problem) {
	case PROBLEM_SUPER_VERSION:
	case PROBLEM_SUPER_FEATURE:
		snprintf(text, text_bytes,
			"%s: made by a newer csvfs (%s: %llu, known here: %llu); use that one",
			name, problem == PROBLEM_SUPER_VERSION ? "format version" : "features",
			(unsigned long long)rep->found, (unsigned long long)rep->expected);
		return -EPROTONOSUPPORT;
	case PROBLEM_SUPER_TRUNCATED:
		snprintf(text, text_bytes,
			"%s: truncated: the volume has %llu bytes, here are only %llu", name,
			(unsigned long long)rep->expected, (unsigned long long)rep->found);
		return -EUCLEAN;
	default:
		snprintf(text, text_bytes, "%s: the superblock is damaged (%s); run fsck.csvfs",
			name, problem_name(problem));
		return -EUCLEAN;
	}
}

/*
 * The superblock in block 0, or a copy of it. A sound superblock that cannot be used (newer,
 * truncated) tells more than a damaged one.
 */
static int read_super(
	struct bdev_sync *s, const char *name, struct probe *p, char *text, size_t text_bytes)
{
	uint64_t blocks = p->info.lun_bytes / BLOCK_SIZE;
	const uint64_t places[] = {0, 3, blocks - 1};
	enum problem worst = PROBLEM_SUPER_NONE;
	struct verify_report rep, worst_rep = {0};
	uint8_t *head = aligned_alloc(BLOCK_SIZE, HEAD_BYTES);
	size_t head_bytes = p->info.lun_bytes < HEAD_BYTES ? p->info.lun_bytes : HEAD_BYTES;
	int err = head ? 0 : -ENOMEM;

	if (!err)
		err = bdev_sync_read(s, 0, head, head_bytes / 512 * 512);
	if (err) {
		snprintf(text, text_bytes, "%s: cannot be read: %s", name,
			head ? bdev_sync_text(s) : "no memory");
		free(head);
		return err;
	}
	for (size_t i = 0; i < 3; i++) {
		_Alignas(BLOCK_SIZE) uint8_t block[BLOCK_SIZE];
		enum problem problem;

		if (places[i] >= blocks ||
			bdev_sync_read(s, places[i] * BLOCK_SIZE, block, BLOCK_SIZE))
			continue; /* a place that cannot be read: that is what the copies are for */
		problem = verify_super(block, places[i], p->info.lun_bytes, &rep);
		if (problem == PROBLEM_NONE) {
			memcpy(&p->super, block, sizeof(p->super));
			free(head);
			return 0;
		}
		if (problem != PROBLEM_HEADER_MAGIC &&
			(worst == PROBLEM_SUPER_NONE || worst == PROBLEM_HEADER_CRC)) {
			worst = problem;
			worst_rep = rep;
		}
	}
	if (worst != PROBLEM_SUPER_NONE) {
		err = refuse(worst, &worst_rep, name, text, text_bytes);
	} else {
		snprintf(text, text_bytes,
			"%s: not a csvfs volume (it looks like %s); mkfs.csvfs makes one", name,
			looks_like(head, head_bytes / 512 * 512));
		err = -EMEDIUMTYPE;
	}
	free(head);
	return err;
}

int probe_volume(const struct bdev_config *cfg, const char *name, struct probe *p, char *text,
	size_t text_bytes)
{
	struct bdev_config c = *cfg;
	struct bdev_sync *s;
	int err;

	c.session = BDEV_SESSION_RANDOM;
	err = bdev_sync_open(&c, LOGIN_MS, &s, text, text_bytes);
	if (err)
		return err;
	p->info = *bdev_sync_info(s);
	err = read_super(s, name, p, text, text_bytes);
	bdev_sync_close(s);
	return err;
}

/* The better of the two claims; false: none can be read. */
static bool read_claim(struct bdev_sync *s, const uint8_t uuid[16], struct claim *best)
{
	_Alignas(BLOCK_SIZE) uint8_t block[BLOCK_SIZE];
	bool found = false;

	for (uint64_t i = 0; i < 2; i++) {
		struct claim c;

		if (bdev_sync_read(s, (CLAIM_BLOCK + i) * BLOCK_SIZE, block, BLOCK_SIZE) ||
			claim_decode(&c, block, uuid))
			continue;
		if (!found || c.epoch > best->epoch ||
			(c.epoch == best->epoch && c.heartbeat > best->heartbeat))
			*best = c;
		found = true;
	}
	return found;
}

int probe_alone(const struct bdev_config *cfg, const char *name, struct probe *p, char *text,
	size_t text_bytes)
{
	uint64_t end_ns = bdev_now_ns() + 5 * CLAIM_BEAT_NS / 2;
	struct bdev_config c = *cfg;
	struct claim first = {0}, now;
	struct bdev_sync *s;
	int err;

	if (p->info.is_file)
		return 0; /* its lock says more */
	c.session = BDEV_SESSION_RANDOM;
	c.uuid = p->super.h.uuid;
	c.identity = p->info.identity;
	err = bdev_sync_open(&c, LOGIN_MS, &s, text, text_bytes);
	if (err)
		return err;
	p->left_behind = !read_claim(s, p->super.h.uuid, &first) || first.state != CLAIM_CLEAN;
	if (!p->left_behind || first.state != CLAIM_HELD)
		goto out;
	now = first;
	while (bdev_now_ns() < end_ns && now.epoch == first.epoch &&
		now.heartbeat == first.heartbeat) {
		nanosleep(&(struct timespec){.tv_nsec = 200 * 1000000}, NULL);
		if (!read_claim(s, p->super.h.uuid, &now))
			break;
	}
	if (now.epoch != first.epoch || now.heartbeat != first.heartbeat) {
		snprintf(text, text_bytes, "%s: mounted already, by %.*s; unmount it there first",
			name, (int)sizeof(now.name), now.name);
		err = -EBUSY;
	}
out:
	bdev_sync_close(s);
	return err;
}

/* ------------------------------------------------------------------ can it be opened? */

static int dev_read(void *ctx, uint64_t off, void *buf, uint64_t len)
{
	return bdev_sync_read(ctx, off, buf, len);
}

static int dev_write(void *ctx, uint64_t off, const void *buf, uint64_t len, bool fua)
{
	(void)ctx, (void)off, (void)buf, (void)len, (void)fua;
	return -EROFS;
}

static int dev_flush(void *ctx)
{
	(void)ctx;
	return 0;
}

int probe_open(const struct bdev_config *cfg, const char *name, const struct probe *p, char *text,
	size_t text_bytes)
{
	struct bdev_config c = *cfg;
	struct bdev_sync *s;
	struct run_sync *rs;
	struct claim claim;
	char why[256] = "neither claim block is valid";
	int err;

	c.session = BDEV_SESSION_RANDOM;
	c.uuid = p->super.h.uuid;
	c.identity = p->info.identity;
	err = bdev_sync_open(&c, LOGIN_MS, &s, text, text_bytes);
	if (err)
		return err;
	if (!read_claim(s, p->super.h.uuid, &claim))
		err = -EUCLEAN;
	else
		err = run_sync_open(
			&(struct run_sync_config){.dev = &(struct sync_dev){s, p->info.lun_bytes,
							  dev_read, dev_write, dev_flush},
				.ops = &metadata_ops,
				.readonly = true},
			&rs, why);
	if (!err)
		(void)run_sync_close(rs); /* nothing was written */
	bdev_sync_close(s);
	if (err != -EUCLEAN)
		return 0; /* a journal to be replayed, or an error that the mount will meet itself */
	snprintf(text, text_bytes, "%s: damaged: %s%s", name, why,
		strstr(why, "fsck.csvfs") ? "" : "; run fsck.csvfs");
	return err;
}
