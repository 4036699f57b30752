/* SPDX-License-Identifier: GPL-2.0-or-later */
/* iscsi_int.h - iscsi.c and iscsi_login.c. */
#ifndef CSVFS_ISCSI_INT_H
#define CSVFS_ISCSI_INT_H

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include "csvfs/bdev.h"
#include "csvfs/iscsi_reinst.h"
#include "csvfs/iscsi_sent.h"
#include "csvfs/iscsi_tas.h"
#include "csvfs/scsi.h"

#define PART_IOVS 8

/* What is asked after the login, in this order. */
enum step {
	STEP_CONNECT, /* TCP and iSCSI login */
	STEP_TUR,
	STEP_INQUIRY,
	STEP_PAGES,
	STEP_IDENTITY,
	STEP_LIMITS,
	STEP_CAPACITY,
	STEP_CACHING,
	STEP_CONTROL,
	STEP_KEYS,
	STEP_DONE,
};

struct iscsi_bdev;

/* One command in libiscsi's hands: a request, a piece of a long one, or a step of the login. */
struct part {
	struct iscsi_bdev *ib;
	struct bdev_req *r; /* NULL: a step of the login; after it, a look (iscsi_tas.h) */
	struct scsi_task *task;
	struct part *next;
	struct iscsi_tas_cmd given;
	int status; /* of one in `early` */
	uint64_t behind; /* of one in `early`: a command with a higher number comes behind all of its data */
	uint8_t param[24]; /* PR OUT, UNMAP */
	bool full; /* READ FULL STATUS */
	uint8_t *in; /* answer of PR IN, INQUIRY, ...; malloc'ed */
	uint32_t in_bytes;
	struct scsi_iovec iov[PART_IOVS], *iov_more;
};

struct iscsi_bdev {
	struct bdev b;
	struct iscsi_context *ctx;
	struct iscsi_url *url;
	char portal[ADDR_MAX + 8];
	int lun;
	enum step step;
	uint32_t unit_attentions;
	bool has_limits_page;
	bool no_fua; /* the target does not know it: a flush behind each write that asks for it */
	bool redirected;
	bool gone; /* libiscsi has cancelled: the connection is lost */
	bool closing; /* the context is being destroyed: no callback reaches a request any more */
	uint32_t unmap_blocks_max;
	struct bdev_req *reset; /* LUN_RESET that waits for its turn or its answer */
	bool reset_sent;
	struct bdev_req *ending; /* LUN_RESET that ends the sessions of others before (iscsi_reinst.h) */
	uint64_t knock_ns; /* for `ending`: when it is asked again whether the target lives */
	struct iscsi_reinst reinst;
	struct list parked; /* submitted behind the reset, or while the queue is to get empty (iscsi_tas.h) */
	struct part *free;
	struct part *early; /* writes that have an answer, and maybe data to be sent */
	struct iscsi_sent sent;
	struct iscsi_tas tas;
	uint64_t keys[LUN_KEYS_MAX];
	char text[BDEV_TEXT_MAX];
};

/* iscsi.c. r: NULL: a step of the login. */
struct part *iscsi_part_new(struct iscsi_bdev *ib, struct bdev_req *r);
void iscsi_part_free(struct part *p);
/* dir: SCSI_XFER_*; the data is in `iov`. */
void iscsi_part_send(struct part *p, uint8_t *cdb, int cdb_bytes, int dir, size_t bytes, struct scsi_iovec *iov, int n);
/* A command with a small answer, which ends in p->in. */
void iscsi_part_ask(struct part *p, uint8_t *cdb, int cdb_bytes, uint32_t bytes);
/* In ib->text. */
const char *iscsi_error_text(struct iscsi_bdev *ib);
const char *iscsi_answer_text(struct iscsi_bdev *ib, int status, const struct scsi_task *task);

/* iscsi_login.c: the answer to a step; of iscsi_connect_async(). */
void iscsi_login_step(struct part *p, int status);
void iscsi_login_connected(struct iscsi_context *ctx, int status, void *data, void *priv);

#endif
