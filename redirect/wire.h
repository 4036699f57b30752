/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire.h - every message between two nodes: its bytes, and what they mean. WIRE.md has the tables.
 *
 * A frame is a header of 32 bytes, a body and, behind it, file data that the core never sees:
 *
 *	magic 4 | version 2 | type 2 | body length 4 | data length 4 | tag 8 | epoch 8 | body | data
 *
 * All integers are little-endian. wire_encode() and wire_decode() are each other's inverse and share
 * one table of fields per request, so that they cannot drift apart. Decoding is strict: nothing that
 * wire_encode() would not make is accepted, so a frame that was damaged or forged is an error
 * (-EBADMSG), never a surprise further in.
 */
#ifndef CSVFS_REDIRECT_WIRE_H
#define CSVFS_REDIRECT_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "csvfs/base/fsreq.h"
#include "csvfs/base/limits.h"
#include "csvfs/base/platform.h"

#define WIRE_MAGIC 0x77565343u /* "CSVw" */
#define WIRE_VERSION 13
#define WIRE_NO_LEASE UINT64_MAX
#define WIRE_HEADER_BYTES 32u
#define WIRE_TEXT_MAX 256 /* of HELLO_NO and GOODBYE, with the ending zero */
#define WIRE_RANGES_MAX 512 /* of one RECLAIM; a file with more is reclaimed with several */
#define WIRE_LOCKS_MAX 512 /* of one RECLAIM_LOCKS */
#define WIRE_APPENDS_MAX 512 /* of one RECLAIM_APPENDS */
#define WIRE_INOS_MAX 512 /* of one CACHE_RECALL */

/* Values go over the wire: only ever add. */
enum msg_type {
	MSG_HELLO = 1, /* the first frame of a connection, from the side that connected */
	MSG_HELLO_OK = 2,
	MSG_HELLO_NO = 3, /* and the connection is closed */
	MSG_PING = 4,
	MSG_PONG = 5,
	MSG_GOODBYE = 6, /* the sender ends in order; text says why */

	MSG_REQUEST = 16, /* to the coordinator; tag is the sender's */
	MSG_REPLY = 17, /* same tag, same id */
	MSG_RECALL = 18, /* from the coordinator: give back the layout of ino (FS_LAYOUT_RETURN) */
	MSG_RECLAIM = 19, /* to a new coordinator: what the sender has of one inode */
	MSG_RECLAIM_END = 20, /* that was all */
	MSG_SERVE = 21, /* from the coordinator: reclaim is over, send your requests */
	MSG_RECLAIM_LOCKS = 25, /* to a new coordinator: locks that the sender holds */
	MSG_VOID =
		24, /* from the coordinator: layouts you reclaimed are void; forget them, reclaim again */
	MSG_CACHE_RECALL = 26, /* from the coordinator: forget what you know of these inodes */
	MSG_CACHE_GONE = 27, /* to it, with the tag of the question: forgotten */
	MSG_TIMES = 29, /* from the coordinator: commit what you have written to ino, then answer */
	MSG_TIMES_TOLD = 30, /* to it, with the tag of the question: done */
	MSG_RECLAIM_APPENDS = 28, /* to a new coordinator: appends of the sender that are under way */

	MSG_BLOCK = 32, /* read, write or flush the LUN for the sender; write: with data */
	MSG_BLOCK_REPLY = 33, /* same tag; read: with data */
	MSG_CARRY = 34, /* from the coordinator: do block I/O for that node, or do no more of it */
	MSG_CARRIED = 35, /* to it, when it was to be no more: nothing of that node is in flight here */
	MSG_WAY = 36, /* from the coordinator: your block I/O goes through that node; 0: through me */

	MSG_CTL = 48, /* an administrator's request that another node carries out */
	MSG_CTL_REPLY = 49, /* same tag */
};

/* Why a HELLO is refused. Values go over the wire. */
enum hello_no {
	HELLO_NO_VOLUME = 1, /* another volume */
	HELLO_NO_NAME = 2, /* the certificate is another node's */
	HELLO_NO_NODE = 3, /* node id: our own, or out of range */
	HELLO_NO_BUSY = 4, /* too many connections */
	HELLO_NO_STOPPING = 5,
};

enum block_op {
	BLOCK_READ = 1,
	BLOCK_WRITE = 2,
	BLOCK_FLUSH = 3,
};

struct msg_hello { /* HELLO and HELLO_OK */
	uint8_t uuid[16];
	uint32_t node;
	uint32_t incarnation; /* 0: no path to the LUN now */
	uint64_t life;
	char name[NODE_NAME_MAX];
};

struct msg_range {
	uint64_t off, len;
};

struct msg_lock {
	uint64_t ino;
	struct fs_lock lock;
};

/* Told its place, `off` of `version` (slot and seq are 0); or asked for, as request `seq` in `slot`, and not answered (off and version are 0). */
struct msg_append {
	uint64_t ino, off, version, seq;
	uint32_t slot;
};

struct msg {
	enum msg_type type;
	uint32_t data_len; /* bytes of file data behind the frame */
	uint64_t tag; /* the sender's number, returned in the answer; 0 where nothing is answered */
	uint64_t epoch; /* newest the sender knows */
	union {
		struct msg_hello hello;
		struct {
			enum hello_no code;
			char text[WIRE_TEXT_MAX];
		} hello_no;
		struct {
			uint64_t seq;
			uint64_t age_ns; /* PONG: of the proof that the answerer may give leases; WIRE_NO_LEASE: it gives none */
		} ping; /* PING, PONG */
		struct {
			char text[WIRE_TEXT_MAX];
		} goodbye;
		struct fs_request request;
		struct {
			enum fs_op op; /* of the request: says which fields follow */
			struct fs_reqid id;
			struct fs_reply r; /* err != 0: nothing else is carried */
		} reply;
		struct {
			uint64_t ino;
		} recall; /* RECALL, TIMES */
		struct {
			uint64_t ino;
			bool open; /* the sender has it open */
			bool writes; /* ... and asked for a layout to write */
			bool holder; /* it knows extents of it ... */
			bool blank; /* ... and some of them read as zero */
			uint32_t
				range_count; /* own ranges: granted to first-write, not committed yet */
			const struct msg_range *ranges;
			uint32_t edge_count; /* in which nobody else writes */
			const struct msg_range *edges;
		} reclaim;
		struct {
			uint32_t count; /* RECLAIM messages sent in this epoch */
		} reclaim_end;
		struct {
			uint32_t count;
			const struct msg_lock *locks;
		} reclaim_locks;
		struct {
			uint32_t count; /* not 0 */
			const struct msg_append *appends;
		} reclaim_appends;
		struct {
			uint32_t count; /* not 0 */
			const uint64_t *inos;
		} cache; /* CACHE_RECALL, CACHE_GONE */
		struct {
			enum block_op op;
			bool fua;
			uint32_t node, incarnation; /* on whose behalf; a fenced one is refused */
			uint64_t lun_off;
			uint32_t len; /* at most IO_BYTES_MAX; WRITE: data_len */
		} block;
		struct {
			enum lun_status status;
		} block_reply;
		struct {
			uint32_t node;
			uint32_t ticket; /* CARRY (on) and WAY: what the block I/O has to show as its incarnation */
			uint64_t life; /* of the node; WAY: 0 */
			bool on; /* CARRY */
		} carry; /* CARRY, CARRIED, WAY */
		struct ctl_request ctl;
		struct {
			int32_t err;
			uint32_t text_len;
			const char *text; /* text_len bytes and an ending zero */
		} ctl_reply;
	};
};

/*
 * Room for what cannot point into the frame: extents, ranges and directory entries in native byte
 * order. One per decoder; a decoded message is valid until the next one is decoded into the same room,
 * and not longer than its frame.
 */
struct wire_room {
	_Alignas(16) uint8_t bytes[FRAME_BODY_MAX];
};

/* Bytes that wire_encode() needs at most for m: WIRE_HEADER_BYTES + FRAME_BODY_MAX is never exceeded. */
uint32_t wire_bound(const struct msg *m);

/*
 * The frame of m without its data; its length, or 0: m cannot be carried (a field out of its limits), or
 * room is too small.
 */
uint32_t wire_encode(const struct msg *m, void *room, uint32_t room_bytes);

/*
 * 0 or -EBADMSG. Strings and blobs in *m point into the frame, all else into *m and *room. The frame is
 * exactly header and body.
 */
int wire_decode(struct msg *m, const void *frame, uint32_t len, struct wire_room *room);

/*
 * For the transport: lengths of body and data that follow this header of 32 bytes. -EBADMSG: no header of
 * ours; -EPROTONOSUPPORT: another version; -EMSGSIZE: longer than any frame.
 */
int wire_frame(const void *header, uint32_t *body_len, uint32_t *data_len);

/*
 * True when the coordinator could decode this request: otherwise it is answered where it came from, with
 * -EINVAL. (Sent, it would end the session, be sent again, and so on for ever.)
 */
bool wire_request_ok(const struct fs_request *rq);

const char *msg_type_name(enum msg_type type);

#endif
