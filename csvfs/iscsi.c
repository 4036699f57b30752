/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iscsi.c - a block device that is one iSCSI session. With iscsi_login.c, iscsi_reinst.c, iscsi_sent.c, iscsi_status.c and
 * iscsi_tas.c all that includes libiscsi.
 *
 * Each command is made here, CDB and all, and given to libiscsi as one task; what the target
 * answers becomes an enum lun_status and nothing else is decided.
 *
 * What libiscsi would do by itself and must not (rule 6 of platform.h):
 *  - It logs in again after a lost connection and sends outstanding writes again, as a new nexus
 *    without our registration. iscsi_set_noautoreconnect() ends that; a lost connection then shows
 *    as cancelled tasks, while iscsi_service() still returns 0.
 *  - iscsi_task_mgmt_lun_reset_async() cancels our own tasks before the reset is even sent, and so
 *    does not say which of them the target has ended. We send the bare function instead.
 *  - Cancelling a task whose DATA-OUT is queued leaves a pointer to freed memory in the queue. So no task is cancelled but all at
 *    once, when the session ends, and one that the target has ended and does not answer (iscsi_tas.h): then as by an answer.
 *  - The same if a target ends a write (TASK ABORTED, BUSY) before it has all of its data: the DATA-OUT that is queued is sent,
 *    and points to the task and the data. So such an answer waits (`early`) until nothing in the queue can be its write's: a
 *    command that was given later has begun, or the queue is empty.
 *  - If the command itself is half sent when it is answered, the rest of it is forgotten, and the target takes what follows for
 *    that rest. Then the session ends. (A half-sent DATA-OUT is not forgotten.)
 *  - It does not look at the Response field of a SCSI Response (RFC 7143, 11.4.3), nor can we: "target failure" comes to us
 *    as what stands in the Status field. So a target must not say that of a command it has not done, and set GOOD.
 *
 * A LOGICAL UNIT RESET waits until everything submitted before is answered, and what is
 * submitted behind it waits for its answer: so "before" and "after" the reset mean what they say.
 * (Task management is sent ahead of queued commands. And a command of this session that the reset aborts is never answered: TASK
 * ABORTED is for the others (SAM-5, 5.3.1; so LIO), and the session would be taken for dead.)
 * At LIO it comes behind logins that end the sessions of others (iscsi_reinst.h). As long as these take, other commands go on.
 */
#include <errno.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "csvfs/base/assert.h"
#include "csvfs/iscsi_int.h"
#include "csvfs/iscsi_name.h"
#include "csvfs/iscsi_status.h"

#define PR_TYPE_WERO 5u /* SPC-4: write exclusive, registrants only */
#define IN_BYTES_MAX (8 + 8 * 2047) /* READ KEYS: each session of a node registers its key */
#define KNOCK_NS (500 * NS_PER_MS)

static struct iscsi_bdev *ib_of(const struct bdev *b)
{
	return container_of(b, struct iscsi_bdev, b);
}

/* LOGICAL UNIT RESET is not enough there. */
static bool reinstates(const struct iscsi_bdev *ib)
{
	return iscsi_reinst_needed(ib->b.info.vendor) && ib->reinst.table;
}

/* ------------------------------------------------------------------ parts */

struct part *iscsi_part_new(struct iscsi_bdev *ib, struct bdev_req *r)
{
	struct part *p = ib->free;

	if (p)
		ib->free = p->next;
	else
		p = malloc(sizeof(*p));
	csv_assert(p != NULL); /* a few hundred bytes */
	p->ib = ib;
	p->r = r;
	p->task = NULL;
	p->full = false;
	p->in = NULL;
	p->in_bytes = 0;
	p->iov_more = NULL;
	if (r)
		r->parts++;
	return p;
}

void iscsi_part_free(struct part *p)
{
	if (p->task)
		scsi_free_scsi_task(p->task);
	free(p->in);
	free(p->iov_more);
	p->next = p->ib->free;
	p->ib->free = p;
}

static void part_done(struct iscsi_context *ctx, int status, void *data, void *priv);

/* dir: SCSI_XFER_*; the data is in `iov`. */
void iscsi_part_send(struct part *p, uint8_t *cdb, int cdb_bytes, int dir, size_t bytes,
	struct scsi_iovec *iov, int n)
{
	struct iscsi_bdev *ib = p->ib;

	p->task = scsi_create_task(cdb_bytes, cdb, dir, (int)bytes);
	csv_assert(p->task != NULL);
	if (dir == SCSI_XFER_READ)
		scsi_task_set_iov_in(p->task, iov, n);
	else if (dir == SCSI_XFER_WRITE)
		scsi_task_set_iov_out(p->task, iov, n);
	if (iscsi_scsi_command_async(ib->ctx, ib->lun, p->task, part_done, NULL, p)) {
		/*
		 * Not logged in any more: the next service finds out why; until then it is in
		 * nobody's list.
		 */
		ib->gone = true;
		iscsi_part_free(p);
		return;
	}
	iscsi_tas_given(&ib->tas, &p->given, p->task, ++ib->sent.given, bdev_now_ns());
}

/* A command with a small answer, which ends in p->in. */
void iscsi_part_ask(struct part *p, uint8_t *cdb, int cdb_bytes, uint32_t bytes)
{
	p->in = calloc(1, bytes);
	csv_assert(p->in != NULL);
	p->in_bytes = bytes;
	p->iov[0] = (struct scsi_iovec){p->in, bytes};
	iscsi_part_send(p, cdb, cdb_bytes, SCSI_XFER_READ, bytes, p->iov, 1);
}

/* The piece [skip, skip + bytes) of the request's buffer. */
static void part_map(struct part *p, size_t skip, size_t bytes, struct scsi_iovec **iov, int *n)
{
	const struct bdev_req *r = p->r;
	struct iovec whole = {r->cmd.buf, r->cmd.len};
	const struct iovec *v = r->iov ? r->iov : &whole;
	int count = r->iov ? r->iov_count : 1;
	struct scsi_iovec *to = p->iov;

	if (count > PART_IOVS) {
		to = p->iov_more = calloc((size_t)count, sizeof(*to));
		csv_assert(to != NULL);
	}
	*iov = to;
	*n = 0;
	for (int i = 0; i < count && bytes; i++) {
		size_t len = v[i].iov_len;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		len -= skip;
		if (len > bytes)
			len = bytes;
		to[(*n)++] = (struct scsi_iovec){(uint8_t *)v[i].iov_base + skip, len};
		bytes -= len;
		skip = 0;
	}
}

/* ------------------------------------------------------------------ what the target answered */

const char *iscsi_error_text(struct iscsi_bdev *ib)
{
	return iscsi_status_error(ib->ctx, ib->text, sizeof(ib->text));
}

const char *iscsi_answer_text(struct iscsi_bdev *ib, int status, const struct scsi_task *task)
{
	return iscsi_status_text(ib->ctx, status, task, ib->text, sizeof(ib->text));
}

static enum lun_status read_keys(struct part *p, size_t got)
{
	struct bdev_req *r = p->r;
	uint32_t count;

	count = scsi_pr_keys(p->in, got, r->cmd.op == LUN_PR_READ_RESERVATION,
		&r->generation, p->ib->keys, LUN_KEYS_MAX);
	r->keys = p->ib->keys;
	r->key_count = count == SCSI_KEYS_CUT ? 0 : count;
	if (count == SCSI_KEYS_CUT)
		snprintf(p->ib->text, sizeof(p->ib->text),
			"more keys are registered than csvfs can read: fewer sessions (threads=), or remove old keys");
	return count == SCSI_KEYS_CUT ? LUN_MEDIUM : LUN_OK;
}

/* Beside the keys it is only kept for later: what cannot be used is no failure of theirs, but whom it left out may go. A reset needs it. */
static enum lun_status read_full(struct part *p, enum lun_status s)
{
	struct iscsi_bdev *ib = p->ib;
	bool used = s == LUN_OK && iscsi_nexus_seen(ib->reinst.table, ib->reinst.self, p->in, p->in_bytes);

	if (p->r->cmd.op != LUN_RESET && s == LUN_OK && !used)
		iscsi_nexus_full(ib->reinst.table);
	if (p->r->cmd.op != LUN_RESET)
		return s == LUN_MEDIUM || s == LUN_UNSUPPORTED ? LUN_OK : s;
	if (s == LUN_OK && !used)
		snprintf(ib->text, sizeof(ib->text), "READ FULL STATUS does not tell all who are registered");
	return s == LUN_OK && !used ? LUN_UNSUPPORTED : s;
}

/* One session's word. What does not make sense changes nothing. */
static void read_capacity(struct part *p, size_t got)
{
	struct bdev_info was = p->ib->b.info, *info = &p->ib->b.info;

	if (!scsi_capacity(p->in, got, info) || info->block_bytes != was.block_bytes)
		*info = was;
	p->r->lun_bytes = info->lun_bytes;
}

/*
 * SYNCHRONIZE CACHE(10): from block 0 to the end, however large the LUN is. Not (16), which many targets do not know:
 * who refuses is taken to have no cache.
 */
static void send_flush(struct iscsi_bdev *ib, struct bdev_req *r)
{
	uint8_t cdb[10] = {0x35};

	iscsi_part_send(iscsi_part_new(ib, r), cdb, 10, SCSI_XFER_NONE, 0, NULL, 0);
}

/* All parts of r have ended. True: it goes on with a flush. */
static bool flush_follows(struct iscsi_bdev *ib, struct bdev_req *r)
{
	if (r->cmd.op != LUN_WRITE || !r->cmd.fua || !ib->no_fua || !ib->b.info.write_cache)
		return false;
	if (r->flushing || r->status != LUN_OK)
		return false;
	r->flushing = true;
	send_flush(ib, r);
	return true;
}

/* Who is registered is known now: the logins can begin. */
static bool ending_follows(struct iscsi_bdev *ib, struct bdev_req *r)
{
	if (r != ib->ending)
		return false;
	if (r->status != LUN_OK) {
		ib->ending = NULL;
		return false;
	}
	iscsi_reinst_start(&ib->reinst, ib->portal, bdev_now_ns());
	ib->knock_ns = bdev_now_ns() + KNOCK_NS;
	return true;
}

/*
 * The target answers: what is outstanding for `ending` is a login, and may take as long as what that waits for. (As the newest it is
 * the last in the list: the others are watched as ever.)
 */
static void ending_lives(struct iscsi_bdev *ib)
{
	struct bdev_req *r = ib->ending;

	if (!r || r->parts)
		return;
	r->start_ns = bdev_now_ns();
	list_del(&r->link);
	list_add_tail(&r->link, &ib->b.busy);
}

static int severity(enum lun_status s)
{
	return s == LUN_OK ? 0 : s == LUN_RETRY ? 1 : s == LUN_UNKNOWN ? 3 : 2;
}

/* Gone as a whole: the LUN was unmapped, or its number is another's now (true: it may be). A matter of the path. ib->text says why. */
static bool is_another(struct iscsi_bdev *ib, int status, const struct scsi_task *task)
{
	if (status == SCSI_STATUS_CHECK_CONDITION && task->sense.ascq == 0x2500)
		bdev_down(&ib->b, "the target has no LUN %d any more", ib->lun);
	if (!iscsi_status_may_be_another(status, task))
		return false;
	bdev_down(&ib->b, "LUN %d may be another one now: %s", ib->lun, ib->text);
	return true;
}

static void part_ended(struct part *p, int status)
{
	struct iscsi_bdev *ib = p->ib;
	struct bdev_req *r = p->r;
	enum lun_status s = iscsi_status_of(status, p->task);

	if (s == LUN_OK && p->task->residual_status == SCSI_RESIDUAL_UNDERFLOW) {
		if (p->in) {
			size_t left = p->task->residual;

			p->in_bytes = left < p->in_bytes ? p->in_bytes - (uint32_t)left : 0;
		} else if (r->cmd.op == LUN_READ || (r->cmd.op == LUN_WRITE && !r->flushing)) {
			s = LUN_UNKNOWN; /* (tgt reports a residual for each UNMAP) */
		}
	}
	if (s == LUN_OK && p->in && r->cmd.op == LUN_CAPACITY)
		read_capacity(p, p->in_bytes);
	else if (s == LUN_OK && p->in && !p->full)
		s = read_keys(p, p->in_bytes);
	if (s == LUN_UNKNOWN && status == SCSI_STATUS_GOOD)
		snprintf(ib->text, sizeof(ib->text), "the target moved less than was asked for");
	else if (s != LUN_OK && status != SCSI_STATUS_GOOD)
		iscsi_answer_text(ib, status, p->task);
	if (p->full)
		s = read_full(p, s);
	/* Nor is it repeated in this session: a new one finds out. */
	if (is_another(ib, status, p->task))
		s = LUN_UNKNOWN;
	iscsi_part_free(p);
	if (r->flushing && s == LUN_UNSUPPORTED)
		s = LUN_OK;
	if (severity(s) > severity(r->status))
		r->status = s;
	if (--r->parts == 0 && !flush_follows(ib, r) && !ending_follows(ib, r))
		bdev_done(&ib->b, r, r->status, r->status == LUN_OK ? "" : ib->text);
}

/* What it was sent for is in iscsi_tas.c; what else it hears nobody else does. */
static void looked(struct part *p, int status)
{
	struct iscsi_bdev *ib = p->ib;

	ib->tas.looks = false;
	ending_lives(ib);
	if (status == SCSI_STATUS_CHECK_CONDITION) {
		iscsi_answer_text(ib, status, p->task);
		(void)is_another(ib, status, p->task);
	}
	iscsi_part_free(p);
}

static void part_done(struct iscsi_context *ctx, int status, void *data, void *priv)
{
	struct part *p = priv;
	struct iscsi_bdev *ib = p->ib;

	(void)data;
	ib->sent.answered++;
	status = iscsi_tas_answered(&ib->tas, &p->given, status);
	if (status == SCSI_STATUS_CANCELLED || ib->closing) {
		/*
		 * Lost. The request ends with all others; nothing new may enter libiscsi meanwhile.
		 */
		ib->gone = true;
		iscsi_part_free(p);
	} else if (!p->r && ib->step == STEP_DONE) {
		looked(p, status);
	} else if (!p->r) {
		iscsi_login_step(p, status);
	} else if (status != SCSI_STATUS_GOOD && p->task->xfer_dir == SCSI_XFER_WRITE && iscsi_sent_waits(ctx)) {
		p->status = status;
		p->behind = ib->sent.begun;
		p->next = ib->early;
		ib->early = p;
		if (p->given.number > ib->sent.whole)
			bdev_down(&ib->b, "the target ended a write before it had the whole command");
	} else {
		part_ended(p, status);
	}
}

/*
 * Those whose data is sent end. It is, at the latest, when what the target has asked for is: nothing that is submitted meanwhile
 * goes ahead of that. If the target does not take it, the request is the oldest one at some time, as if it had no answer.
 */
static int early_end(struct iscsi_bdev *ib)
{
	struct part **at = &ib->early, *p;
	bool all;
	int err;

	if (!ib->early)
		return 0;
	err = iscsi_sent_more(&ib->sent, ib->ctx);
	all = !iscsi_sent_waits(ib->ctx);
	while (!err && !ib->gone && ib->b.state != BDEV_DOWN && (p = *at)) {
		if (!all && ib->sent.begun <= p->behind) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		part_ended(p, p->status);
	}
	return err;
}

/* ------------------------------------------------------------------ commands */

static void send_rw(struct iscsi_bdev *ib, struct bdev_req *r)
{
	const struct bdev_info *info = &ib->b.info;
	bool write = r->cmd.op == LUN_WRITE;
	uint64_t off = 0;

	r->parts++; /* until the last piece is sent */
	while (off < r->cmd.len) {
		uint64_t len = r->cmd.len - off;
		struct part *p = iscsi_part_new(ib, r);
		uint8_t cdb[16] = {write ? 0x8a : 0x88};
		struct scsi_iovec *iov;
		int n;

		if (len > info->max_transfer_bytes)
			len = info->max_transfer_bytes;
		cdb[1] = r->cmd.fua && !ib->no_fua ? 1 << 3 : 0;
		scsi_put_be(cdb + 2, (r->cmd.off + off) / info->block_bytes, 8);
		scsi_put_be(cdb + 10, len / info->block_bytes, 4);
		part_map(p, off, len, &iov, &n);
		iscsi_part_send(p, cdb, 16, write ? SCSI_XFER_WRITE : SCSI_XFER_READ, len, iov, n);
		off += len;
	}
	r->parts--; /* none can have ended: the answers come from bdev_service() */
}

static void send_unmap(struct iscsi_bdev *ib, struct bdev_req *r)
{
	uint64_t lba = r->cmd.off / ib->b.info.block_bytes;
	uint64_t left = r->cmd.len / ib->b.info.block_bytes;

	while (left) {
		uint64_t n = left < ib->unmap_blocks_max ? left : ib->unmap_blocks_max;
		struct part *p = iscsi_part_new(ib, r);
		uint8_t cdb[10] = {0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0};

		memset(p->param, 0, sizeof(p->param));
		scsi_put_be(p->param, 22, 2);
		scsi_put_be(p->param + 2, 16, 2);
		scsi_put_be(p->param + 8, lba, 8);
		scsi_put_be(p->param + 16, n, 4);
		p->iov[0] = (struct scsi_iovec){p->param, 24};
		iscsi_part_send(p, cdb, 10, SCSI_XFER_WRITE, 24, p->iov, 1);
		lba += n;
		left -= n;
	}
}

static void send_pr_out(struct iscsi_bdev *ib, struct bdev_req *r)
{
	struct part *p = iscsi_part_new(ib, r);
	uint8_t cdb[10] = {0x5f, 0, PR_TYPE_WERO, 0, 0, 0, 0, 0, 24, 0};

	cdb[1] = scsi_pr_out(&r->cmd, p->param);
	p->iov[0] = (struct scsi_iovec){p->param, 24};
	iscsi_part_send(p, cdb, 10, SCSI_XFER_WRITE, 24, p->iov, 1);
}

/* Who is registered, by name (iscsi_nexus.h). */
static void send_full(struct iscsi_bdev *ib, struct bdev_req *r)
{
	struct part *p = iscsi_part_new(ib, r);
	uint8_t cdb[10] = {0x5e, SCSI_PERSISTENT_RESERVE_READ_FULL_STATUS};

	p->full = true;
	scsi_put_be(cdb + 7, SCSI_FULL_BYTES, 2);
	iscsi_part_ask(p, cdb, 10, SCSI_FULL_BYTES);
}

static void send_pr_in(struct iscsi_bdev *ib, struct bdev_req *r)
{
	uint8_t cdb[10] = {0x5e};

	/* Keys are read before one is taken away, and now and then: so it is known whose it was. */
	if (r->cmd.op == LUN_PR_READ_KEYS && reinstates(ib))
		send_full(ib, r);
	cdb[1] = r->cmd.op == LUN_PR_READ_KEYS ? SCSI_PERSISTENT_RESERVE_READ_KEYS
					       : SCSI_PERSISTENT_RESERVE_READ_RESERVATION;
	scsi_put_be(cdb + 7, IN_BYTES_MAX, 2);
	iscsi_part_ask(iscsi_part_new(ib, r), cdb, 10, IN_BYTES_MAX);
}

/* SBC-3 5.16 */
static void send_capacity(struct iscsi_bdev *ib, struct bdev_req *r)
{
	uint8_t cdb[16] = {0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32};

	iscsi_part_ask(iscsi_part_new(ib, r), cdb, 16, 32);
}

static void send_plain(struct iscsi_bdev *ib, struct bdev_req *r)
{
	uint8_t test[6] = {0}; /* TEST UNIT READY */

	if (r->cmd.op == LUN_FLUSH)
		send_flush(ib, r);
	else
		iscsi_part_send(iscsi_part_new(ib, r), test, 6, SCSI_XFER_NONE, 0, NULL, 0);
}

static void reset_take(struct iscsi_bdev *ib, struct bdev_req *r)
{
	ib->reset = r;
	ib->reset_sent = false;
}

static void lun_send(struct iscsi_bdev *ib, struct bdev_req *r)
{
	switch (r->cmd.op) {
	case LUN_READ:
	case LUN_WRITE:
		send_rw(ib, r);
		break;
	case LUN_UNMAP:
		send_unmap(ib, r);
		break;
	case LUN_FLUSH:
	case LUN_TEST:
		send_plain(ib, r);
		break;
	case LUN_PR_REGISTER:
	case LUN_PR_UNREGISTER:
	case LUN_PR_RESERVE:
	case LUN_PR_PREEMPT:
	case LUN_PR_PREEMPT_ABORT:
	case LUN_PR_CLEAR:
		send_pr_out(ib, r);
		break;
	case LUN_PR_READ_KEYS:
	case LUN_PR_READ_RESERVATION:
		send_pr_in(ib, r);
		break;
	case LUN_CAPACITY:
		send_capacity(ib, r);
		break;
	case LUN_RESET:
		if (reinstates(ib)) {
			ib->ending = r;
			send_full(ib, r);
		} else {
			reset_take(ib, r);
		}
		break;
	}
}

static void lun_submit(struct bdev *b, struct bdev_req *r)
{
	struct iscsi_bdev *ib = ib_of(b);

	if (ib->gone)
		return; /* stays in `busy`: ends with the others */
	if (ib->reset || ib->tas.holds || (ib->ending && r->cmd.op == LUN_RESET) || !list_empty(&ib->parked)) {
		list_del(&r->link);
		list_add_tail(&r->link, &ib->parked);
		return;
	}
	lun_send(ib, r);
}

/* ------------------------------------------------------------------ LOGICAL UNIT RESET */

static void reset_done(struct iscsi_context *ctx, int status, void *data, void *priv)
{
	struct iscsi_bdev *ib = priv;
	struct bdev_req *r = ib->reset;
	uint32_t response = data ? *(uint32_t *)data : 0xff;
	enum lun_status s = LUN_UNKNOWN;

	(void)ctx;
	if (status == SCSI_STATUS_CANCELLED || ib->closing || !r) {
		ib->gone = true;
		return;
	}
	if (status == SCSI_STATUS_GOOD) {
		if (response == ISCSI_TMR_FUNC_COMPLETE)
			s = LUN_OK;
		else if (response == ISCSI_TMR_TMF_NOT_SUPPORTED ||
			 response == ISCSI_TMR_FUNC_REJECTED)
			s = LUN_UNSUPPORTED;
		snprintf(ib->text, sizeof(ib->text), "LOGICAL UNIT RESET answered with %u",
			response);
	}
	ib->reset = NULL;
	ib->sent.task_mgmt = false;
	bdev_done(&ib->b, r, s, s == LUN_OK ? "" : ib->text);
}

static void parked_send(struct iscsi_bdev *ib)
{
	while (!ib->reset && !ib->tas.holds && !ib->gone && !list_empty(&ib->parked)) {
		struct bdev_req *r = list_first_entry(&ib->parked, struct bdev_req, link);

		if (ib->ending && r->cmd.op == LUN_RESET)
			return; /* one at a time */
		list_del(&r->link);
		list_add_tail(&r->link, &ib->b.busy);
		r->start_ns = bdev_now_ns(); /* from here on the target is waited for */
		lun_send(ib, r);
	}
}

static void reset_try(struct iscsi_bdev *ib)
{
	if (!ib->reset || ib->reset_sent || ib->gone)
		return;
	if (ib->sent.answered < ib->sent.given || ib->sent.task_mgmt || iscsi_out_queue_length(ib->ctx) > 0)
		return; /* something older is under way */
	ib->reset_sent = ib->sent.task_mgmt = true;
	ib->reset->start_ns = bdev_now_ns(); /* what it has waited for was watched itself */
	if (iscsi_task_mgmt_async(
		    ib->ctx, ib->lun, ISCSI_TM_LUN_RESET, 0xffffffff, 0, reset_done, ib))
		ib->gone = true;
	else if (iscsi_sent_more(&ib->sent, ib->ctx))
		ib->gone = true;
}

/* The sessions of others. Other commands go on meanwhile: the reset itself comes behind them. */
static void ending_step(struct iscsi_bdev *ib)
{
	struct bdev_req *r = ib->ending;
	uint64_t now_ns = bdev_now_ns();
	uint8_t tur[6] = {0};

	if (!r || r->parts)
		return;
	switch (iscsi_reinst_step(&ib->reinst, now_ns)) {
	case ISCSI_REINST_IDLE:
		ib->ending = NULL;
		reset_take(ib, r);
		break;
	case ISCSI_REINST_REFUSED:
		ib->ending = NULL;
		bdev_done(&ib->b, r, LUN_UNSUPPORTED, ib->reinst.text);
		break;
	default:
		/* (Not more of them than have an answer: then the request is the oldest one some time.) */
		if (now_ns < ib->knock_ns || ib->tas.looks)
			break;
		ib->knock_ns = now_ns + KNOCK_NS;
		ib->tas.looks = true;
		iscsi_part_send(iscsi_part_new(ib, NULL), tur, 6, SCSI_XFER_NONE, 0, NULL, 0);
		break;
	}
}

/* What the reset of another has ended, and is not answered (iscsi_tas.h). */
static void silent_end(struct iscsi_bdev *ib)
{
	uint64_t now_ns = bdev_now_ns();
	uint8_t tur[6] = {0};

	if (iscsi_tas_step(&ib->tas, ib->ctx, ib->lun, now_ns))
		bdev_down(&ib->b, "commands were ended by a reset without an answer, and the target does not say of which: ABORT TASK "
			"answered with %u (it should have TAS=1)", ib->tas.response);
	else if (iscsi_tas_look(&ib->tas, ib->ctx, ib->lun, now_ns))
		iscsi_part_send(iscsi_part_new(ib, NULL), tur, 6, SCSI_XFER_NONE, 0, NULL, 0);
}

/* ------------------------------------------------------------------ the driver */

static void lost(struct iscsi_bdev *ib)
{
	const char *why = iscsi_get_error(ib->ctx);

	why = strstr(why, "socket error ") ? iscsi_error_text(ib) : "the target closed the connection";
	bdev_down(&ib->b, "connection to %s lost: %s", ib->portal, why);
}

static void lun_service(struct bdev *b, int revents)
{
	struct iscsi_bdev *ib = ib_of(b);
	struct pollfd pfd = {.fd = iscsi_get_fd(ib->ctx)};
	int err = 0;

	/*
	 * While connecting libiscsi takes any POLLOUT for "connected": only what is true may be
	 * passed.
	 */
	if (b->state == BDEV_OPENING) {
		pfd.events = (short)iscsi_which_events(ib->ctx);
		revents = poll(&pfd, 1, 0) > 0 ? pfd.revents : 0;
	} else if (!(revents & (POLLERR | POLLHUP))) {
		err = iscsi_sent_more(&ib->sent, ib->ctx);
		revents &= ~POLLOUT;
	}
	if (!err)
		err = iscsi_service(ib->ctx, revents);
	if (!err && !ib->gone && b->state == BDEV_UP)
		silent_end(ib);
	if (!err && !ib->gone && b->state != BDEV_DOWN)
		err = early_end(ib);
	if (b->state == BDEV_DOWN)
		return;
	if (!err && !ib->gone) {
		ending_step(ib);
		reset_try(ib);
		parked_send(ib);
		/*
		 * What the answers made the owner submit goes out at once, not with the next
		 * POLLOUT.
		 */
		if (!ib->gone && b->state == BDEV_UP)
			err = iscsi_sent_more(&ib->sent, ib->ctx);
	}
	if (err || ib->gone)
		lost(ib);
}

static int lun_fd(const struct bdev *b)
{
	return iscsi_get_fd(ib_of(b)->ctx);
}

static int lun_events(const struct bdev *b)
{
	return iscsi_which_events(ib_of(b)->ctx);
}

static uint64_t lun_due(const struct bdev *b)
{
	const struct iscsi_bdev *ib = ib_of(b);
	uint64_t tas_ns, ending_ns = NEVER;

	if (b->state != BDEV_UP || ib->gone)
		return NEVER;
	tas_ns = iscsi_tas_due_ns(&ib->tas, ib->ctx);
	if (ib->ending && !ib->ending->parts)
		ending_ns = iscsi_reinst_due_ns(&ib->reinst);
	return tas_ns < ending_ns ? tas_ns : ending_ns;
}

static void lun_abort(struct bdev *b)
{
	struct iscsi_bdev *ib = ib_of(b);
	int fd = iscsi_get_fd(ib->ctx);
	struct part *p;
	/*
	 * With commands outstanding: a reset instead of an orderly end, so that the kernel does not
	 * go on sending what is in its buffer after we have said "unknown".
	 */
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	ib->closing = true;
	if (fd >= 0 && !list_empty(&b->busy))
		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	iscsi_destroy_context(ib->ctx);
	ib->ctx = NULL;
	iscsi_reinst_stop(&ib->reinst);
	ib->ending = NULL;
	while ((p = ib->early)) {
		ib->early = p->next;
		iscsi_part_free(p);
	}
	list_splice_tail(&ib->parked, &b->busy);
}

static void lun_free(struct bdev *b)
{
	struct iscsi_bdev *ib = ib_of(b);
	struct part *p;

	while ((p = ib->free)) {
		ib->free = p->next;
		free(p);
	}
	free(ib);
}

static const struct bdev_ops lun_ops = {
	.abort = lun_abort,
	.free = lun_free,
	.submit = lun_submit,
	.service = lun_service,
	.fd = lun_fd,
	.events = lun_events,
	.due = lun_due,
};

int iscsi_bdev_open(const struct bdev_config *cfg, struct bdev **out, char *text, size_t text_bytes)
{
	char name[224], shown[BDEV_TEXT_MAX];
	struct iscsi_bdev *ib = NULL;
	struct iscsi_context *ctx;
	struct iscsi_url *u = NULL;
	int err = -EINVAL;

	bdev_url_text(cfg->url, shown, sizeof(shown));
	iscsi_name_initiator(cfg, name, sizeof(name));
	ctx = iscsi_create_context(name);
	if (ctx && strlen(cfg->url) < MAX_STRING_SIZE)
		u = iscsi_parse_full_url(ctx, cfg->url);
	if (!u) {
		snprintf(text, text_bytes,
			"%s: not a LUN's URL; write "
			"iscsi://[user[%%secret]@]host[:port]/target-name/lun",
			shown);
		goto out;
	}
	err = -ENOMEM;
	ib = calloc(1, sizeof(*ib));
	if (!ib)
		goto out;
	bdev_init(&ib->b, &lun_ops, cfg);
	list_init(&ib->parked);
	iscsi_tas_init(&ib->tas, &ib->sent);
	iscsi_reinst_init(&ib->reinst, cfg, u, name);
	ib->ctx = ctx;
	ib->lun = u->lun;
	snprintf(ib->portal, sizeof(ib->portal), "%.*s", (int)sizeof(ib->portal) - 1, u->portal);
	iscsi_set_session_type(ctx, ISCSI_SESSION_NORMAL);
	iscsi_set_header_digest(ctx, ISCSI_HEADER_DIGEST_NONE);
	iscsi_set_noautoreconnect(ctx, 1);
	iscsi_set_targetname(ctx, u->target);
	if (cfg->session != BDEV_SESSION_RANDOM) /* (then libiscsi has drawn one) */
		iscsi_set_isid_random(ctx, iscsi_name_isid(cfg, u->target, u->lun), cfg->session);
	if (cfg->chap_user && cfg->chap_secret)
		iscsi_set_initiator_username_pwd(ctx, cfg->chap_user, cfg->chap_secret);
	else if (u->user[0])
		iscsi_set_initiator_username_pwd(ctx, u->user, u->passwd);
	err = 0;
	if (iscsi_connect_async(ctx, u->portal, iscsi_login_connected, ib)) {
		snprintf(text, text_bytes, "%s: no connection: %s", shown, iscsi_error_text(ib));
		err = -EHOSTUNREACH;
		goto out;
	}
	*out = &ib->b;
out:
	if (u)
		iscsi_destroy_url(u);
	if (err) {
		if (err == -ENOMEM)
			snprintf(text, text_bytes, "out of memory");
		if (ctx)
			iscsi_destroy_context(ctx);
		free(ib);
	}
	return err;
}
