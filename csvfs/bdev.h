/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bdev.h - a block device: ONE session to a LUN, or an image file.
 *
 * A struct bdev belongs to one thread and lives in its epoll loop:
 *
 *	bdev_open(&cfg, &b, ...);                     -> BDEV_OPENING
 *	epoll on bdev_fd(b) for bdev_events(b)        (both may change after each call: see bdev_fd)
 *	bdev_service(b, revents)                      -> on_state(BDEV_UP), completions
 *	bdev_submit(b, &req) ... bdev_service(b, POLLOUT)
 *
 * A bdev decides nothing: it never logs in again, sends nothing twice and never times out. Who owns
 * it watches bdev_oldest_ns() and closes it. Once BDEV_DOWN it stays so until it is closed.
 *
 *	BDEV_OPENING --login, size, caching mode read--> BDEV_UP --connection lost--> BDEV_DOWN
 *	     +--refused, no LUN, not the volume's LUN, connection lost-----------------^
 *
 * Rules
 *  1. done() and on_state() are called from bdev_service() and bdev_close(), never from
 *     bdev_submit().
 *  2. Each submitted request ends exactly once. When a session is lost or closed, what is
 *     outstanding ends LUN_UNKNOWN, all of it before on_state(BDEV_DOWN) is called.
 *  3. done() and on_state() may submit further requests to the same bdev; they may neither close
 *     nor service it.
 *  4. A write that ended LUN_UNKNOWN may still land, even after bdev_close().
 */
#ifndef CSVFS_BDEV_H
#define CSVFS_BDEV_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "csvfs/base/list.h"
#include "csvfs/base/platform.h"

#define BDEV_TEXT_MAX 192
#define BDEV_IDENTITY_MAX 128 /* as disk_super.lun_identity */

struct bdev;

enum bdev_state {
	BDEV_OPENING,
	BDEV_UP,
	BDEV_DOWN, /* bdev_text() says why */
};

/* Known from BDEV_UP on. */
struct bdev_info {
	uint32_t block_bytes;	     /* logical block: offsets and lengths are multiples of it */
	uint32_t max_transfer_bytes; /* the target's limit; longer commands are split here */
	uint64_t lun_bytes;	     /* as it was read last: the LUN may have grown since */
	bool write_cache;  /* a write without FUA is durable only after LUN_FLUSH */
	bool reservations; /* the target knows persistent reservations */
	bool unmap;	   /* LUN_UNMAP is worth sending */
	bool readonly;	   /* the LUN is write protected, or opened so */
	bool is_file;
	char identity[BDEV_IDENTITY_MAX]; /* VPD page 83h as text; empty: image file */
	char vendor[32];		  /* vendor and product, for messages */
};

/* Sessions of one node to one LUN differ by this; the same number is the same nexus again. */
#define BDEV_SESSION_CORE 0
#define BDEV_SESSION_DATA(i) ((uint16_t)(1 + (i)))
#define BDEV_SESSION_RANDOM 0xffffu /* tools, start-up probes: never a mounted node's */

struct bdev_config {
	const char *url;	 /* iscsi://[user%secret@]host[:port]/target/lun, or a path */
	const char *initiator;	 /* iSCSI name; NULL: made from `node` and the host's name */
	const char *chap_user, *chap_secret; /* NULL: as in the URL, else no CHAP */
	const char *fault;	 /* see bdev_fault.c; NULL: $CSVFS_FAULT, else none */
	uint32_t node;		 /* node id; with `session` and the URL it fixes the ISID */
	uint16_t session;	 /* BDEV_SESSION_* */
	bool readonly;		 /* image: opened for reading, lock shared */
	bool nolock;		 /* image: no lock at all (looking at a mounted one) */
	/*
	 * The volume that must be there, or the session does not come up (bdev_volume.c): the uuid of its superblock
	 * (NULL: whatever is there), and what its LUN says of itself (as bdev_info.identity; empty: that is not known).
	 * Both stay valid until bdev_close().
	 */
	const uint8_t *uuid;
	const char *identity;
	/*
	 * state: BDEV_UP or BDEV_DOWN. Called once or twice: up, then perhaps down; or down at
	 * once.
	 */
	void (*on_state)(void *ctx, struct bdev *b, enum bdev_state state);
	void *ctx;
};

/*
 * One command. The caller fills cmd, iov or cmd.buf, done and owner, and keeps it and its buffers
 * until done(). cmd.data (handles) is not looked at: give an iov.
 */
struct bdev_req {
	struct lun_cmd cmd;
	const struct iovec *iov; /* LUN_READ, LUN_WRITE: cmd.len bytes together; NULL: cmd.buf */
	int iov_count;
	void (*done)(struct bdev_req *r);
	void *owner;

	/* Result, valid in done(). */
	enum lun_status status;
	uint64_t lun_bytes; /* of LUN_CAPACITY */
	uint32_t key_count, generation;
	const uint64_t *keys;	/* the bdev's memory, until done() returns */
	const char *text;	/* why, when status is not LUN_OK; as long as keys */

	/* The bdev's own. */
	struct list link;
	uint64_t start_ns;	/* CLOCK_BOOTTIME at submit */
	uint32_t parts;		/* iscsi.c: commands in flight for this request */
	bool flushing;		/* iscsi.c: it was written, and is flushed in place of FUA */
};

/*
 * Starts to open. 0 and *out, or a negative errno and one line of text for the user: -EINVAL (bad
 * URL), -ENOENT, -EACCES, -EBUSY (image in use by another csvfs), -ENOTBLK (neither URL nor image
 * file), ... What only the target can tell comes later as on_state(BDEV_DOWN).
 */
int bdev_open(const struct bdev_config *cfg, struct bdev **out, char *text, size_t text_bytes);

/*
 * Ends all requests (LUN_UNKNOWN), without on_state; drops the session; frees b. NULL is allowed.
 */
void bdev_close(struct bdev *b);

/*
 * Never blocks. The request is sent with the next bdev_service(b, POLLOUT): submit a batch, then
 * call it once. On a bdev that is not BDEV_UP it ends LUN_UNKNOWN with the next bdev_service().
 */
void bdev_submit(struct bdev *b, struct bdev_req *r);

/*
 * Moves what can be moved without blocking; revents are poll(2) bits, 0: none. Returns 0, or -1
 * from BDEV_DOWN on.
 */
int bdev_service(struct bdev *b, int revents);

/*
 * What to poll for; ask again after bdev_submit() and bdev_service(). The descriptor stays the same
 * from BDEV_UP to BDEV_DOWN (while opening it may change). -1: nothing to poll, call
 * bdev_service(b, 0) within 100 ms.
 */
int bdev_fd(const struct bdev *b);
int bdev_events(const struct bdev *b);

/*
 * When the oldest command that is outstanding was submitted (login: when it began), CLOCK_BOOTTIME;
 * NEVER: none is outstanding. For "no answer for N s". Of an image always NEVER: nothing is won by giving it up, as to close it
 * waits for the same disk.
 */
uint64_t bdev_oldest_ns(const struct bdev *b);

/* bdev_service(b, 0) is wanted then, whether there is something to poll or not; NEVER: it is not. */
uint64_t bdev_due_ns(const struct bdev *b);

enum bdev_state bdev_state(const struct bdev *b);
const struct bdev_info *bdev_info(const struct bdev *b);
const char *bdev_text(const struct bdev *b); /* why BDEV_DOWN; empty before */

/* The URL without its secret, for messages. Returns out. */
char *bdev_url_text(const char *url, char *out, size_t out_bytes);
const char *lun_op_name(enum lun_op op);
const char *lun_status_name(enum lun_status status);

/* ---- for the drivers: iscsi.c, bdev_file.c, bdev_fault.c */

struct bdev_ops {
	/* Drop the session: nothing of it touches a buffer or is called back any more. */
	void (*abort)(struct bdev *b);
	void (*free)(struct bdev *b); /* after abort */
	void (*submit)(struct bdev *b, struct bdev_req *r);
	void (*service)(struct bdev *b, int revents);
	int (*fd)(const struct bdev *b);
	int (*events)(const struct bdev *b);
	uint64_t (*due)(const struct bdev *b); /* NULL: never */
};

/* Embedded in each driver's own struct. */
struct bdev {
	const struct bdev_ops *ops;
	enum bdev_state state;
	bool told;		/* on_state(BDEV_DOWN) has been called */
	bool serving;		/* bdev_service() or bdev_close() is running */
	bool patient;		/* an image: see bdev_oldest_ns() */
	struct bdev_info info;
	const uint8_t *want_uuid;  /* bdev_config.uuid, .identity */
	const char *want_identity;
	struct bdev_volume *checking; /* it is not up yet for its owner: what is there is being looked at */
	char text[BDEV_TEXT_MAX];
	struct list busy;	/* outstanding requests, oldest first */
	struct list late;	/* submitted while not up: end with the next service */
	uint64_t open_ns;	/* when opening began */
	void (*on_state)(void *ctx, struct bdev *b, enum bdev_state state);
	void *ctx;
};

int iscsi_bdev_open(
	const struct bdev_config *cfg, struct bdev **out, char *text, size_t text_bytes);
int file_bdev_open(const struct bdev_config *cfg, struct bdev **out, char *text, size_t text_bytes);
/* Puts itself in front of *io; `spec` says which faults. */
int fault_bdev_wrap(struct bdev **io, const char *spec, char *text, size_t text_bytes);

void bdev_init(struct bdev *b, const struct bdev_ops *ops, const struct bdev_config *cfg);
/* Takes r out of `busy` and calls done(). */
void bdev_done(struct bdev *b, struct bdev_req *r, enum lun_status status, const char *text);
/* The driver is ready. It is up for its owner (bdev_is_up) once it is known to be the volume's. */
void bdev_up(struct bdev *b);
void bdev_is_up(struct bdev *b);
void bdev_volume_check(struct bdev *b);
/* Is that its question? */
bool bdev_volume_asks(const struct bdev *b, const struct bdev_req *r);
/* The session is lost: from the end of this service on the bdev is BDEV_DOWN. */
void bdev_down(struct bdev *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint64_t bdev_now_ns(void);

#endif
