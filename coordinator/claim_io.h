/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * claim_io.h - reads both claim blocks, writes one: the two commands that takeover.c needs, with
 * the place, the repeats and the statuses settled. The format is csvfs/base/claim.h's.
 *
 * Invariant: one operation at a time; its buffers belong to the driver until its completions are
 * in, however it ends, so that nothing new is sent before that.
 *
 * A block that is believed to be damaged makes the other, older one count, so a read gives a block up only after seconds of nothing but
 * LUN_FAILING. What the other one said before that is old by then, and is read anew.
 */
#ifndef CSVFS_COORDINATOR_CLAIM_IO_H
#define CSVFS_COORDINATOR_CLAIM_IO_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/claim.h"
#include "csvfs/base/mem.h"
#include "csvfs/base/platform.h"

#define CLAIM_RETRY_NS (100 * NS_PER_MS)
#define CLAIM_RETRIES_MAX 100
#define CLAIM_FAILING_MAX 10 /* of a write */
#define CLAIM_FAILING_NS (10 * NS_PER_SEC) /* of a read: nothing but LUN_FAILING of a block for so long is damage */
#define CLAIM_FAILINGS_MAX 300 /* of a read: more than that is no answer of either kind */

enum claim_result {
	CLAIM_NONE, /* nothing asked for yet */
	CLAIM_BUSY,
	CLAIM_DONE,
	CLAIM_FENCED, /* RESERVATION CONFLICT */
	CLAIM_UNKNOWN, /* the path broke */
	CLAIM_FAILED, /* this place of the LUN, or the target, failed */
};

struct claim_io {
	uint8_t uuid[16];
	uint8_t *buf[2], *out;
	struct claim seen[2];
	int seen_err[2]; /* 0: seen[i] is valid */
	enum claim_result result;
	bool writing;
	bool is_protected; /* the last write was refused: the LUN is write protected */
	unsigned place; /* where the next claim goes: 0 or 1 */
	uint64_t tag[2], next_tag;
	uint32_t retries, failings; /* the latter of a read: LUN_FAILING, of both */
	uint64_t failing_since_ns[2]; /* of a read: this block has said nothing else since then; NEVER: it has */
	bool again[2];
	uint64_t retry_ns;
};

int claim_io_init(struct claim_io *c, struct mem *mem, const uint8_t uuid[16], uint64_t tag_base);
void claim_io_fini(struct claim_io *c, struct mem *mem);

void claim_io_read(struct claim_io *c, struct effects *fx);
/* To the place of the older claim; durable when done. The next goes to the other place. */
void claim_io_write(struct claim_io *c, const struct claim *claim, struct effects *fx);

/* Sends nothing again; CLAIM_FAILED once what is outstanding is in. */
void claim_io_cancel(struct claim_io *c);
/* The result was taken: CLAIM_NONE. */
void claim_io_forget(struct claim_io *c);

bool claim_io_busy(const struct claim_io *c);
bool claim_io_lun_done(struct claim_io *c, const struct event *ev, struct effects *fx);
void claim_io_step(struct claim_io *c, uint64_t now_ns, struct effects *fx);
uint64_t claim_io_deadline(const struct claim_io *c);
enum claim_result claim_io_result(const struct claim_io *c);

/* The claim that counts, of the last read; NULL: neither block is valid. */
const struct claim *claim_io_best(const struct claim_io *c);

#endif
