/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rawlun - how fast the LUN itself is: reads or writes through libiscsi, and nothing above it.
 *
 *   rawlun URL read|write random|sequential BLOCK-BYTES DEPTH MILLISECONDS FIRST-BYTE REGION-BYTES
 *
 * Keeps DEPTH commands outstanding in a region of the LUN for that long, and prints how many bytes
 * a second were moved, and how many in all. One session, one thread, one poll loop; an answer is followed by the next
 * command at once. This is what the rest is a fraction of, so it does as little as can be done.
 * A write overwrites what is there.
 */
#include <errno.h>
#include <inttypes.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEPTH_MAX 1024
#define NS_PER_MS 1000000ull

struct run {
	struct iscsi_context *ctx;
	int lun;
	bool write, random;
	uint32_t lba_bytes, block_bytes, depth, outstanding;
	uint64_t first_bytes, blocks; /* of the region */
	uint64_t next, seed;
	uint64_t done, late; /* answered in time, and after the end */
	uint64_t end_ns;
};

struct slot {
	struct run *run;
	unsigned char *buf;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 * NS_PER_MS + (uint64_t)ts.tv_nsec;
}

static void die(const char *what, const char *why)
{
	fprintf(stderr, "rawlun: %s: %s\n", what, why);
	exit(1);
}

static uint64_t pick(struct run *r)
{
	if (!r->random)
		return r->next++ % r->blocks;
	/* xorshift64*: a good spread is all that is asked of it */
	r->seed ^= r->seed >> 12;
	r->seed ^= r->seed << 25;
	r->seed ^= r->seed >> 27;
	return (r->seed * 2685821657736338717ull >> 32) % r->blocks;
}

static void answered(struct iscsi_context *ctx, int status, void *data, void *priv);

static void send_one(struct slot *s)
{
	struct run *r = s->run;
	uint64_t lba = (r->first_bytes + pick(r) * r->block_bytes) / r->lba_bytes;
	struct scsi_task *task;

	if (r->write) {
		task = iscsi_write16_task(r->ctx, r->lun, lba, s->buf, r->block_bytes,
			(int)r->lba_bytes, 0, 0, 0, 0, 0, answered, s);
	} else {
		task = iscsi_read16_task(r->ctx, r->lun, lba, r->block_bytes, (int)r->lba_bytes, 0,
			0, 0, 0, 0, answered, s);
		if (task)
			scsi_task_add_data_in_buffer(task, (int)r->block_bytes, s->buf);
	}
	if (!task)
		die("submit", iscsi_get_error(r->ctx));
	r->outstanding++;
}

static void answered(struct iscsi_context *ctx, int status, void *data, void *priv)
{
	struct slot *s = priv;
	struct run *r = s->run;

	if (status != SCSI_STATUS_GOOD)
		die("command", iscsi_get_error(ctx));
	scsi_free_scsi_task(data);
	r->outstanding--;
	/* Those that are under way when the time is over are waited for, but not counted as speed. */
	if (now_ns() >= r->end_ns) {
		r->late++;
		return;
	}
	r->done++;
	send_one(s);
}

static void login(struct run *r, const char *url_text)
{
	char name[64];
	struct iscsi_url *url;
	struct scsi_task *task;
	struct scsi_readcapacity16 *capacity;

	snprintf(name, sizeof(name), "iqn.2026-11.bench.csvfs:raw-%llx",
		(unsigned long long)now_ns());
	r->ctx = iscsi_create_context(name);
	url = r->ctx ? iscsi_parse_full_url(r->ctx, url_text) : NULL;
	if (!url)
		die(url_text, "not a LUN's URL");
	r->lun = url->lun;
	iscsi_set_session_type(r->ctx, ISCSI_SESSION_NORMAL);
	iscsi_set_header_digest(r->ctx, ISCSI_HEADER_DIGEST_NONE);
	iscsi_set_noautoreconnect(r->ctx, 1);
	iscsi_set_targetname(r->ctx, url->target);
	if (iscsi_full_connect_sync(r->ctx, url->portal, r->lun))
		die(url_text, iscsi_get_error(r->ctx));
	iscsi_destroy_url(url);
	task = iscsi_readcapacity16_sync(r->ctx, r->lun);
	capacity = task && task->status == SCSI_STATUS_GOOD ? scsi_datain_unmarshall(task) : NULL;
	if (!capacity)
		die(url_text, "the target does not say how large the LUN is");
	r->lba_bytes = capacity->block_length;
	if ((capacity->returned_lba + 1) * r->lba_bytes <
		r->first_bytes + r->blocks * r->block_bytes)
		die(url_text, "the LUN is smaller than the region");
	scsi_free_scsi_task(task);
}

static void serve(struct run *r)
{
	struct pollfd pfd = {.fd = iscsi_get_fd(r->ctx)};

	pfd.events = (short)iscsi_which_events(r->ctx);
	if (poll(&pfd, 1, -1) < 0 && errno != EINTR)
		die("poll", strerror(errno));
	if (iscsi_service(r->ctx, pfd.revents) < 0)
		die("connection", iscsi_get_error(r->ctx));
	/* What the answers made us submit goes out at once, not with the next POLLOUT. */
	if ((iscsi_which_events(r->ctx) & POLLOUT) && iscsi_service(r->ctx, POLLOUT) < 0)
		die("connection", iscsi_get_error(r->ctx));
}

int main(int argc, char **argv)
{
	struct run r = {.seed = 88172645463325252ull};
	static struct slot slots[DEPTH_MAX];
	uint64_t start_ns;

	if (argc != 9) {
		fprintf(stderr, "usage: rawlun URL read|write random|sequential BLOCK-BYTES DEPTH "
				"MILLISECONDS FIRST-BYTE REGION-BYTES\n");
		return 2;
	}
	r.write = !strcmp(argv[2], "write");
	r.random = !strcmp(argv[3], "random");
	r.block_bytes = (uint32_t)strtoul(argv[4], NULL, 10);
	r.depth = (uint32_t)strtoul(argv[5], NULL, 10);
	r.first_bytes = strtoull(argv[7], NULL, 10);
	if (!r.block_bytes || r.block_bytes % 4096 || !r.depth || r.depth > DEPTH_MAX)
		die("arguments", "blocks of a multiple of 4096 bytes, depth 1 to 1024");
	r.blocks = strtoull(argv[8], NULL, 10) / r.block_bytes;
	if (!r.blocks || r.first_bytes % 4096)
		die("arguments", "no such region");
	login(&r, argv[1]);
	start_ns = now_ns();
	r.end_ns = start_ns + strtoull(argv[6], NULL, 10) * NS_PER_MS;
	for (uint32_t i = 0; i < r.depth; i++) {
		slots[i].run = &r;
		if (posix_memalign((void **)&slots[i].buf, 4096, r.block_bytes))
			die("memory", strerror(ENOMEM));
		memset(slots[i].buf, 0x5a, r.block_bytes);
		send_one(&slots[i]);
	}
	while (r.outstanding)
		serve(&r);
	printf("%.0f %" PRIu64 "\n",
		(double)r.done * r.block_bytes * 1e9 / (double)(r.end_ns - start_ns),
		(r.done + r.late) * r.block_bytes);
	iscsi_logout_sync(r.ctx);
	iscsi_destroy_context(r.ctx);
	for (uint32_t i = 0; i < r.depth; i++)
		free(slots[i].buf);
	return 0;
}
