/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <errno.h>
#include <cmocka.h>

#include "csvfs/base/cursor.h"
#include "csvfs/base/prng.h"
#include "redirect/wire.h"

#define FRAME_MAX (WIRE_HEADER_BYTES + FRAME_BODY_MAX)

static struct wire_room room;
static uint8_t frame[FRAME_MAX], again[FRAME_MAX];

/* Memory that a random message points to. */
static union {
	struct fs_extent extents[EXTENTS_PER_REPLY];
	struct msg_range ranges[WIRE_RANGES_MAX], edges[WIRE_RANGES_MAX];
	struct msg_lock locks[WIRE_LOCKS_MAX];
	struct msg_append appends[WIRE_APPENDS_MAX];
	uint64_t inos[WIRE_INOS_MAX];
	_Alignas(16) uint8_t bytes[FRAME_BODY_MAX];
} blob;

/* ------------------------------------------------------------------ random messages */

static const enum msg_type types[] = {
	MSG_HELLO,
	MSG_HELLO_OK,
	MSG_HELLO_NO,
	MSG_PING,
	MSG_PONG,
	MSG_GOODBYE,
	MSG_REQUEST,
	MSG_REPLY,
	MSG_RECALL,
	MSG_RECLAIM,
	MSG_RECLAIM_END,
	MSG_SERVE,
	MSG_VOID,
	MSG_RECLAIM_LOCKS,
	MSG_RECLAIM_APPENDS,
	MSG_CACHE_RECALL,
	MSG_CACHE_GONE,
	MSG_BLOCK,
	MSG_BLOCK_REPLY,
	MSG_TIMES,
	MSG_TIMES_TOLD,
	MSG_CARRY,
	MSG_CARRIED,
	MSG_WAY,
	MSG_CTL,
	MSG_CTL_REPLY,
};
#define TYPES (sizeof(types) / sizeof(types[0]))

static const enum fs_op ops[] = {
	FS_LOOKUP,
	FS_GETATTR,
	FS_READLINK,
	FS_READDIR,
	FS_STATFS,
	FS_GETXATTR,
	FS_LISTXATTR,
	FS_LSEEK,
	FS_SETATTR,
	FS_MKNOD,
	FS_MKDIR,
	FS_SYMLINK,
	FS_LINK,
	FS_UNLINK,
	FS_RMDIR,
	FS_RENAME,
	FS_CREATE,
	FS_SETXATTR,
	FS_REMOVEXATTR,
	FS_FALLOCATE,
	FS_OPEN,
	FS_CLOSE,
	FS_LAYOUT_GET,
	FS_LAYOUT_COMMIT,
	FS_LAYOUT_RETURN,
	FS_APPEND,
	FS_LOCK,
	FS_UNLOCK,
	FS_GETLK,
	FS_LOCK_CANCEL,
	FS_APPENDED,
	FS_FSYNC,
};
#define OPS (sizeof(ops) / sizeof(ops[0]))

static void random_text(struct prng *r, char *s, uint32_t most, uint32_t least)
{
	uint32_t n = least + (uint32_t)prng_below(r, most - least + 1);

	for (uint32_t i = 0; i < n; i++)
		s[i] = (char)('a' + prng_below(r, 26));
	s[n] = 0;
}

static void random_bytes(struct prng *r, void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)p)[i] = (uint8_t)prng_u64(r);
}

static void random_attr(struct prng *r, struct fs_attr *a)
{
	a->ino = prng_u64(r);
	a->generation = prng_u64(r);
	a->size = prng_u64(r);
	a->blocks = prng_u64(r);
	a->mode = (uint32_t)prng_u64(r);
	a->uid = (uint32_t)prng_u64(r);
	a->gid = (uint32_t)prng_u64(r);
	a->nlink = (uint32_t)prng_u64(r);
	a->rdev = (uint32_t)prng_u64(r);
	a->atime_ns = (int64_t)prng_u64(r);
	a->mtime_ns = (int64_t)prng_u64(r);
	a->ctime_ns = (int64_t)prng_u64(r);
	a->btime_ns = (int64_t)prng_u64(r);
	a->version = prng_u64(r);
}

static uint32_t random_extents(struct prng *r)
{
	uint32_t n = (uint32_t)prng_below(r, EXTENTS_PER_REPLY + 1);

	for (uint32_t i = 0; i < n; i++) {
		struct fs_extent *e = &blob.extents[i];

		*e = (struct fs_extent){0};
		e->state = (uint32_t)prng_below(r, 4);
		e->edge = (e->state == EXT_UNWRITTEN || e->state == EXT_WRITTEN) &&
			  prng_below(r, 2);
		e->len = (1 + prng_below(r, 1000)) * CLUSTER_MIN;
		e->off = prng_below(r, 1u << 30) * CLUSTER_MIN;
		e->lun_off = e->state == EXT_HOLE ? 0 : prng_below(r, 1u << 30) * CLUSTER_MIN;
	}
	return n;
}

static uint32_t random_dirents(struct prng *r)
{
	uint32_t used = 0, n = (uint32_t)prng_below(r, 40);

	memset(&blob, 0, sizeof(blob));
	while (n--) {
		struct fs_dirent *d = (struct fs_dirent *)(void *)(blob.bytes + used);

		d->ino = prng_u64(r);
		d->cookie = prng_u64(r);
		d->type = (uint32_t)prng_below(r, 16);
		d->namelen = 1 + (uint32_t)prng_below(r, NAME_BYTES_MAX);
		memset(d + 1, 'x', d->namelen);
		used += (uint32_t)FS_DIRENT_SIZE(d->namelen);
	}
	return used;
}

static void random_lock(struct prng *r, struct fs_lock *l)
{
	l->owner = prng_u64(r);
	l->handle = prng_u64(r);
	l->start = prng_u64(r) >> 2;
	l->end = l->start + (prng_u64(r) >> 2);
	l->seq = prng_u64(r);
	l->type = 1 + (uint32_t)prng_below(r, 2);
	l->flags = (uint32_t)prng_below(r, FS_LK_FLAGS + 1);
	l->pid = (uint32_t)prng_u64(r);
}

static void random_id(struct prng *r, struct fs_reqid *id, enum fs_op op)
{
	id->node = 1 + (uint32_t)prng_below(r, 1000);
	id->life = prng_u64(r) | 1;
	if (!fs_op_needs_slot(op))
		return;
	id->slot = 1 + (uint32_t)prng_below(r, SLOTS_MAX);
	id->seq = prng_u64(r) | 1;
}

/* Fields that a request may carry are tried one after the other: what its kind does not carry stays 0. */
static void random_request(struct prng *r, struct fs_request *rq, enum fs_op op)
{
	rq->op = op;
	rq->ino = prng_u64(r) | 1;
#define TRY(field, value)                                                                          \
	do {                                                                                       \
		__typeof__(rq->field) was = rq->field;                                             \
		rq->field = (value);                                                               \
		if (!wire_request_ok(rq))                                                          \
			rq->field = was;                                                           \
	} while (0)
	random_text(r, rq->name, NAME_BYTES_MAX, 1);
	if (!wire_request_ok(rq) && op != FS_SYMLINK && op != FS_RENAME && op != FS_LINK)
		memset(rq->name, 0, sizeof(rq->name));
	if (op == FS_RENAME) {
		random_text(r, rq->name2, NAME_BYTES_MAX, 1);
		rq->ino2 = prng_u64(r) | 1;
	}
	if (op == FS_LINK)
		rq->ino2 = 5;
	if (op == FS_SYMLINK || op == FS_SETXATTR) {
		rq->data = blob.bytes;
		rq->data_len = 1 + (uint32_t)prng_below(r,
					   op == FS_SYMLINK ? SYMLINK_BYTES_MAX : XATTR_BYTES_MAX);
		memset(blob.bytes, 'y', rq->data_len);
	}
	if (op == FS_LAYOUT_COMMIT) {
		rq->extent_count = random_extents(r);
		rq->extents = blob.extents;
		/* Only a grant says who else writes there. */
		for (uint32_t i = 0; i < rq->extent_count; i++)
			blob.extents[i].edge = 0;
	}
	TRY(generation, (uint32_t)prng_u64(r) & FS_GENERATION_MASK);
	TRY(generation2, (uint32_t)prng_u64(r) & FS_GENERATION_MASK);
	TRY(off, prng_u64(r) >> 2);
	TRY(len, prng_u64(r) >> 2);
	TRY(flags, (uint32_t)prng_u64(r));
	TRY(mode, (uint32_t)prng_u64(r));
	TRY(rdev, (uint32_t)prng_u64(r));
	TRY(valid, (uint32_t)prng_u64(r));
	TRY(given[0], prng_u64(r));
	TRY(given[1], prng_u64(r));
#undef TRY
	if (op == FS_SETATTR || op == FS_LAYOUT_COMMIT)
		random_attr(r, &rq->attr);
	if (op == FS_APPENDED)
		rq->attr.version = prng_u64(r);
	if (op == FS_SETATTR || op == FS_MKNOD || op == FS_CREATE)
		rq->cred = (struct fs_cred){1000, 100, 022};
	if (fs_op_needs_slot(op))
		rq->time_ns = (int64_t)prng_u64(r);
	if (op >= FS_LOCK && op <= FS_LOCK_CANCEL)
		random_lock(r, &rq->lock);
	random_id(r, &rq->id, op);
	assert_true(wire_request_ok(rq));
}

static void random_reply(struct prng *r, struct msg *m, enum fs_op op)
{
	struct fs_reply *rp = &m->reply.r;

	m->reply.op = op;
	random_id(r, &m->reply.id, op);
	rp->lease = (uint32_t)prng_below(r, 4);
	if (prng_below(r, 4) == 0) {
		rp->err = -(int32_t)(1 + prng_below(r, 4095));
		return;
	}
	if (op == FS_STATFS) {
		rp->statfs = (struct fs_statfs){1, 2, 3, 4, 5, 6, 7};
		return;
	}
	if (op == FS_READDIR) {
		rp->data_len = random_dirents(r);
		rp->data = rp->data_len ? blob.bytes : NULL;
	} else if (op == FS_READLINK || op == FS_GETXATTR || op == FS_LISTXATTR) {
		rp->data_len = (uint32_t)prng_below(r, XATTR_BYTES_MAX + 1);
		rp->data = blob.bytes;
		random_bytes(r, blob.bytes, rp->data_len);
	} else if (op == FS_LAYOUT_GET) {
		rp->extent_count = random_extents(r);
		rp->extents = blob.extents;
	} else if (op == FS_LSEEK || op == FS_APPEND) {
		rp->off = prng_u64(r);
	} else if (op == FS_GETLK) {
		random_lock(r, &rp->lock);
	}
	if (op == FS_LOOKUP || op == FS_CREATE || op == FS_OPEN || op == FS_LAYOUT_GET)
		random_attr(r, &rp->attr);
}

static void random_block(struct prng *r, struct msg *m)
{
	m->block.op = (enum block_op)(1 + prng_below(r, 3));
	m->block.node = 3;
	m->block.incarnation = (uint32_t)prng_u64(r) | 1;
	if (m->block.op == BLOCK_FLUSH)
		return;
	m->block.lun_off = prng_below(r, 1ull << 38) * 512;
	m->block.len = (1 + (uint32_t)prng_below(r, IO_BYTES_MAX / 512)) * 512;
	if (m->block.op == BLOCK_WRITE) {
		m->data_len = m->block.len;
		m->block.fua = prng_below(r, 2);
	}
}

static void random_reclaim(struct prng *r, struct msg *m)
{
	m->reclaim.ino = prng_u64(r) | 1;
	m->reclaim.open = true;
	m->reclaim.holder = prng_below(r, 2);
	if (!m->reclaim.holder)
		return;
	m->reclaim.blank = prng_below(r, 2);
	m->reclaim.range_count = (uint32_t)prng_below(r, WIRE_RANGES_MAX + 1);
	m->reclaim.ranges = blob.ranges;
	for (uint32_t i = 0; i < m->reclaim.range_count; i++) {
		blob.ranges[i].off = prng_below(r, 1u << 20) * CLUSTER_MIN;
		blob.ranges[i].len = (1 + prng_below(r, 100)) * CLUSTER_MIN;
	}
	m->reclaim.edge_count = (uint32_t)prng_below(r, WIRE_RANGES_MAX + 1);
	m->reclaim.edges = blob.edges;
	for (uint32_t i = 0; i < m->reclaim.edge_count; i++) {
		blob.edges[i].off = prng_below(r, 1u << 20) * CLUSTER_MIN;
		blob.edges[i].len = (1 + prng_below(r, 100)) * CLUSTER_MIN;
	}
}

static void random_carry(struct prng *r, struct msg *m)
{
	bool way = m->type == MSG_WAY;

	m->carry.on = m->type == MSG_CARRY && prng_below(r, 2);
	m->carry.node = way ? (uint32_t)prng_below(r, 3) : 1 + (uint32_t)prng_below(r, 99);
	m->carry.life = way ? 0 : prng_u64(r) | 1;
	if (m->carry.on || (way && m->carry.node))
		m->carry.ticket = (uint32_t)prng_u64(r) | 1;
}

static void random_other(struct prng *r, struct msg *m)
{
	switch (m->type) {
	case MSG_TIMES:
		m->recall.ino = prng_u64(r) | 1;
		break;
	case MSG_CARRY:
	case MSG_CARRIED:
	case MSG_WAY:
		random_carry(r, m);
		break;
	case MSG_RECLAIM_END:
		m->reclaim_end.count = (uint32_t)prng_u64(r);
		break;
	case MSG_SERVE:
	case MSG_VOID:
		break;
	case MSG_RECLAIM_LOCKS:
		m->reclaim_locks.count = (uint32_t)prng_below(r, WIRE_LOCKS_MAX + 1);
		m->reclaim_locks.locks = blob.locks;
		memset(blob.locks, 0, sizeof(blob.locks));
		for (uint32_t i = 0; i < m->reclaim_locks.count; i++) {
			blob.locks[i].ino = prng_u64(r) | 1;
			random_lock(r, &blob.locks[i].lock);
		}
		break;
	case MSG_RECLAIM_APPENDS:
		m->reclaim_appends.count = 1 + (uint32_t)prng_below(r, WIRE_APPENDS_MAX);
		m->reclaim_appends.appends = blob.appends;
		memset(blob.appends, 0, sizeof(blob.appends));
		for (uint32_t i = 0; i < m->reclaim_appends.count; i++) {
			blob.appends[i].ino = prng_u64(r) | 1;
			blob.appends[i].slot = (uint32_t)prng_below(r, SLOTS_MAX + 1);
			if (blob.appends[i].slot)
				blob.appends[i].seq = prng_u64(r) | 1;
			else
				blob.appends[i].off = prng_below(r, FILE_BYTES_MAX);
			if (!blob.appends[i].slot)
				blob.appends[i].version = prng_u64(r);
		}
		break;
	case MSG_CACHE_RECALL:
	case MSG_CACHE_GONE:
		m->tag |= 1;
		m->cache.count = 1 + (uint32_t)prng_below(r, WIRE_INOS_MAX);
		m->cache.inos = blob.inos;
		for (uint32_t i = 0; i < m->cache.count; i++)
			blob.inos[i] = prng_u64(r) | 1;
		break;
	case MSG_BLOCK:
		random_block(r, m);
		break;
	case MSG_BLOCK_REPLY:
		m->block_reply.status = (enum lun_status)prng_below(r, 8);
		m->data_len =
			m->block_reply.status == LUN_OK ? (uint32_t)prng_below(r, IO_BYTES_MAX) : 0;
		break;
	case MSG_CTL:
		m->ctl.op = (enum ctl_op)(1 + prng_below(r, CTL_SCRUB));
		m->ctl.on = prng_below(r, 2);
		m->ctl.bytes = prng_u64(r);
		random_text(r, m->ctl.name, NODE_NAME_MAX - 1, 0);
		break;
	case MSG_CTL_REPLY:
		m->ctl_reply.err = -EINVAL;
		random_text(r, (char *)blob.bytes, 100000, 0);
		m->ctl_reply.text = (char *)blob.bytes;
		m->ctl_reply.text_len = (uint32_t)strlen(m->ctl_reply.text);
		break;
	default: /* empty */
		break;
	}
}

static void random_msg(struct prng *r, struct msg *m, enum msg_type type)
{
	memset(m, 0, sizeof(*m));
	m->type = type;
	m->tag = prng_u64(r);
	m->epoch = prng_u64(r);
	switch (type) {
	case MSG_HELLO:
	case MSG_HELLO_OK:
		random_bytes(r, m->hello.uuid, 16);
		m->hello.node = 1 + (uint32_t)prng_below(r, 99);
		m->hello.life = prng_u64(r) | 1;
		m->hello.incarnation = (uint32_t)prng_u64(r);
		random_text(r, m->hello.name, NODE_NAME_MAX - 1, 1);
		break;
	case MSG_HELLO_NO:
		m->hello_no.code = (enum hello_no)(1 + prng_below(r, 5));
		random_text(r, m->hello_no.text, WIRE_TEXT_MAX - 1, 0);
		break;
	case MSG_PING:
		m->ping.seq = prng_u64(r);
		break;
	case MSG_PONG:
		m->ping.seq = prng_u64(r);
		m->ping.age_ns = prng_u64(r);
		break;
	case MSG_GOODBYE:
		random_text(r, m->goodbye.text, WIRE_TEXT_MAX - 1, 0);
		break;
	case MSG_REQUEST:
		random_request(r, &m->request, ops[prng_below(r, OPS)]);
		break;
	case MSG_REPLY:
		random_reply(r, m, ops[prng_below(r, OPS)]);
		break;
	case MSG_RECALL:
		m->recall.ino = prng_u64(r) | 1;
		break;
	case MSG_RECLAIM:
		random_reclaim(r, m);
		break;
	default:
		random_other(r, m);
	}
}

/* ------------------------------------------------------------------ comparing */

/* What the pointers of a message point to, compared; then they are made equal for memcmp. */
static void same_blob(const void **a, const void *b, uint32_t n)
{
	if (n)
		assert_memory_equal(*a, b, n);
	*a = b;
}

static void assert_same(struct msg *a, const struct msg *b)
{
	const void *p;

	if (a->type == MSG_REQUEST) {
		same_blob(&a->request.data, b->request.data, a->request.data_len);
		p = a->request.extents;
		same_blob(
			&p, b->request.extents, a->request.extent_count * sizeof(struct fs_extent));
		a->request.extents = p;
	} else if (a->type == MSG_REPLY) {
		p = a->reply.r.data;
		same_blob(&p, b->reply.r.data, a->reply.r.data_len);
		a->reply.r.data = (void *)(uintptr_t)p;
		p = a->reply.r.extents;
		same_blob(
			&p, b->reply.r.extents, a->reply.r.extent_count * sizeof(struct fs_extent));
		a->reply.r.extents = (void *)(uintptr_t)p;
	} else if (a->type == MSG_RECLAIM) {
		p = a->reclaim.ranges;
		same_blob(&p, b->reclaim.ranges, a->reclaim.range_count * sizeof(struct msg_range));
		a->reclaim.ranges = p;
		p = a->reclaim.edges;
		same_blob(&p, b->reclaim.edges, a->reclaim.edge_count * sizeof(struct msg_range));
		a->reclaim.edges = p;
	} else if (a->type == MSG_RECLAIM_LOCKS) {
		p = a->reclaim_locks.locks;
		same_blob(&p, b->reclaim_locks.locks,
			a->reclaim_locks.count * sizeof(struct msg_lock));
		a->reclaim_locks.locks = p;
	} else if (a->type == MSG_RECLAIM_APPENDS) {
		p = a->reclaim_appends.appends;
		same_blob(&p, b->reclaim_appends.appends, a->reclaim_appends.count * sizeof(struct msg_append));
		a->reclaim_appends.appends = p;
	} else if (a->type == MSG_CACHE_RECALL || a->type == MSG_CACHE_GONE) {
		p = a->cache.inos;
		same_blob(&p, b->cache.inos, a->cache.count * sizeof(uint64_t));
		a->cache.inos = p;
	} else if (a->type == MSG_CTL_REPLY) {
		assert_string_equal(a->ctl_reply.text, b->ctl_reply.text);
		a->ctl_reply.text = b->ctl_reply.text;
	}
	assert_memory_equal(a, b, sizeof(*a));
}

/* Exactly its bytes, so that a sanitizer sees a read behind them. */
static int decode_exact(struct msg *m, const uint8_t *bytes, uint32_t len, uint8_t **copy)
{
	*copy = malloc(len ? len : 1);
	memcpy(*copy, bytes, len);
	return wire_decode(m, *copy, len, &room);
}

/* ------------------------------------------------------------------ tests */

static void every_message_comes_back_as_it_was(void **state)
{
	struct prng r = {1};
	struct msg m, back;

	for (uint32_t i = 0; i < TYPES * 300; i++) {
		uint32_t len, body, data;
		uint8_t *copy;

		random_msg(&r, &m, types[i % TYPES]);
		len = wire_encode(&m, frame, sizeof(frame));
		assert_int_not_equal(len, 0);
		assert_int_equal(len, wire_bound(&m));
		assert_int_equal(wire_frame(frame, &body, &data), 0);
		assert_int_equal(body + WIRE_HEADER_BYTES, len);
		assert_int_equal(data, m.data_len);
		assert_int_equal(decode_exact(&back, frame, len, &copy), 0);
		assert_same(&back, &m);
		free(copy);
	}
}

static void every_kind_of_request_and_reply_comes_back(void **state)
{
	struct prng r = {2};
	struct msg m, back;
	uint8_t *copy;
	uint32_t len;

	for (uint32_t i = 0; i < OPS * 100; i++) {
		memset(&m, 0, sizeof(m));
		m.type = i & 1 ? MSG_REQUEST : MSG_REPLY;
		if (i & 1)
			random_request(&r, &m.request, ops[i / 2 % OPS]);
		else
			random_reply(&r, &m, ops[i / 2 % OPS]);
		len = wire_encode(&m, frame, sizeof(frame));
		assert_int_not_equal(len, 0);
		assert_int_equal(decode_exact(&back, frame, len, &copy), 0);
		assert_same(&back, &m);
		free(copy);
	}
}

/* Whatever is accepted is what wire_encode() makes of it: there are no two frames with one meaning. */
static void a_damaged_frame_is_refused_or_has_one_meaning(void **state)
{
	uint32_t refused = 0, accepted = 0;
	struct prng r = {3};
	struct msg m;

	for (uint32_t i = 0; i < 60000; i++) {
		uint32_t len, hits = 1 + (uint32_t)prng_below(&r, 4), n;
		uint8_t *copy;

		random_msg(&r, &m, types[i % TYPES]);
		len = wire_encode(&m, frame, sizeof(frame));
		while (hits--) {
			uint64_t at = prng_below(&r, prng_below(&r, 2) ? len
						     : len < 120       ? len
								       : 120);

			frame[at] = (uint8_t)prng_u64(&r);
		}
		if (prng_below(&r, 4) == 0) {
			len = (uint32_t)prng_below(&r, len + 1);
			if (len >= 12) {
				le32 body = le32_of(len - WIRE_HEADER_BYTES);

				memcpy(frame + 8, &body, 4);
			}
		}
		if (decode_exact(&m, frame, len, &copy)) {
			refused++;
		} else {
			accepted++;
			n = wire_encode(&m, again, sizeof(again));
			assert_int_equal(n, len);
			assert_memory_equal(again, frame, len);
		}
		free(copy);
	}
	assert_true(refused > 10000);
	assert_true(accepted > 1000);
}

static void noise_is_refused(void **state)
{
	struct prng r = {4};
	struct msg m;

	for (uint32_t i = 0; i < 20000; i++) {
		uint32_t len = (uint32_t)prng_below(&r, 300);
		uint8_t *copy;

		random_bytes(&r, frame, len);
		if (len >= WIRE_HEADER_BYTES) {
			struct cursor c = cursor_of(frame, WIRE_HEADER_BYTES);

			cursor_put_u32(&c, WIRE_MAGIC);
			cursor_put_u16(&c, WIRE_VERSION);
			cursor_put_u16(&c, (uint16_t)prng_below(&r, 60));
			cursor_put_u32(&c, len - WIRE_HEADER_BYTES);
			cursor_put_u32(&c, 0);
		}
		(void)decode_exact(&m, frame, len, &copy);
		free(copy);
	}
}

/* Who could not say which question it answers would answer a later one. */
static void what_is_to_be_forgotten_is_asked_for_with_a_number(void **state)
{
	const uint64_t ino = 7;
	struct msg m = {.cache = {1, &ino}}, got;
	uint8_t *copy;
	uint32_t len;

	for (m.type = MSG_CACHE_RECALL; m.type <= MSG_CACHE_GONE; m.type++) {
		m.tag = 0;
		assert_int_equal(wire_encode(&m, frame, sizeof(frame)), 0);
		m.tag = 1;
		len = wire_encode(&m, frame, sizeof(frame));
		assert_int_equal(len, WIRE_HEADER_BYTES + 4 + 8);
		assert_int_equal(decode_exact(&got, frame, len, &copy), 0);
		assert_int_equal(got.tag, 1);
		free(copy);
		memset(frame + 16, 0, 8);
		assert_int_equal(decode_exact(&got, frame, len, &copy), -EBADMSG);
		free(copy);
	}
}

static void a_request_that_no_coordinator_could_read_is_known_at_once(void **state)
{
	struct fs_request rq = {.op = FS_LOOKUP, .ino = 1};

	assert_false(wire_request_ok(&rq)); /* no name */
	strcpy(rq.name, "a");
	assert_true(wire_request_ok(&rq));
	strcpy(rq.name, "a/b");
	assert_false(wire_request_ok(&rq));
	memset(rq.name, 'n', NAME_BYTES_MAX);
	rq.name[NAME_BYTES_MAX] = 0;
	assert_true(wire_request_ok(&rq));
	rq.name[NAME_BYTES_MAX] = 'n'; /* 256 bytes, no end */
	assert_false(wire_request_ok(&rq));
	strcpy(rq.name, "a");
	rq.ino = 0;
	assert_false(wire_request_ok(&rq));
	rq.ino = 1;
	rq.len = 5; /* a lookup has no length: it would be lost on the way */
	assert_false(wire_request_ok(&rq));
	rq = (struct fs_request){.op = FS_FREE_ORPHAN, .ino = 1};
	assert_false(wire_request_ok(&rq));
	rq = (struct fs_request){.op = FS_FALLOCATE, .ino = 1, .off = INT64_MAX, .len = 1};
	assert_false(wire_request_ok(&rq));
	rq = (struct fs_request){.op = FS_GETXATTR, .ino = 1, .name = "user.a/b"};
	assert_true(wire_request_ok(&rq));
	rq.op = (enum fs_op)9;
	assert_false(wire_request_ok(&rq));
}

static void extents_stay_on_the_volume(void **state)
{
	static struct fs_extent many[EXTENTS_PER_REPLY + 1];
	struct fs_extent good = {
		.off = 0, .len = CLUSTER_MIN, .lun_off = CLUSTER_MIN, .state = EXT_WRITTEN};
	struct fs_extent e = good;
	struct fs_request rq = {.op = FS_LAYOUT_COMMIT, .ino = 1, .extent_count = 1, .extents = &e};

	assert_true(wire_request_ok(&rq));
	e.off = 1;
	assert_false(wire_request_ok(&rq));
	e = good;
	e.len = 0;
	assert_false(wire_request_ok(&rq));
	e = good;
	e.off = UINT64_MAX - CLUSTER_MIN + 1; /* off + len is 0 */
	assert_false(wire_request_ok(&rq));
	e = good;
	e.lun_off = VOLUME_BYTES_MAX;
	assert_false(wire_request_ok(&rq));
	e = good;
	e.state = 4;
	assert_false(wire_request_ok(&rq));
	e = good;
	e.state = EXT_HOLE; /* and yet a place on the LUN */
	assert_false(wire_request_ok(&rq));
	for (uint32_t i = 0; i <= EXTENTS_PER_REPLY; i++)
		many[i] = good;
	rq.extents = many;
	rq.extent_count = EXTENTS_PER_REPLY;
	assert_true(wire_request_ok(&rq));
	rq.extent_count++;
	assert_false(wire_request_ok(&rq));
}

static void names_of_a_directory_hold_no_slash_and_no_zero(void **state)
{
	struct msg m = {.type = MSG_REPLY}, back;
	struct fs_dirent *d = (struct fs_dirent *)(void *)blob.bytes;
	char *name = (char *)(d + 1);
	uint32_t len;

	memset(&blob, 0, sizeof(blob));
	m.reply.op = FS_READDIR;
	m.reply.id = (struct fs_reqid){.node = 1, .life = 1};
	m.reply.r.data = d;
	m.reply.r.data_len = (uint32_t)FS_DIRENT_SIZE(3);
	*d = (struct fs_dirent){.ino = 1, .cookie = 2, .type = 8, .namelen = 3};
	memcpy(name, "abc", 3);
	len = wire_encode(&m, frame, sizeof(frame));
	assert_int_not_equal(len, 0);
	frame[len - 8] = '/';
	assert_int_equal(wire_decode(&back, frame, len, &room), -EBADMSG);
	frame[len - 8] = 0;
	assert_int_equal(wire_decode(&back, frame, len, &room), -EBADMSG);
	frame[len - 8] = 'a';
	assert_int_equal(wire_decode(&back, frame, len, &room), 0);
	frame[len - 1] = 1; /* behind the name, zeros */
	assert_int_equal(wire_decode(&back, frame, len, &room), -EBADMSG);
	d->namelen = 300;
	assert_int_equal(wire_encode(&m, frame, sizeof(frame)), 0);
}

static void a_reply_with_an_error_carries_nothing_else(void **state)
{
	struct msg m = {.type = MSG_REPLY}, back;
	uint32_t len;

	m.reply.op = FS_LOOKUP;
	m.reply.id = (struct fs_reqid){.node = 1, .life = 1};
	m.reply.r.err = -ENOENT;
	m.reply.r.attr.ino = 77;
	len = wire_encode(&m, frame, sizeof(frame));
	assert_int_equal(len, WIRE_HEADER_BYTES + 4 + 24 + 4 + 4);
	assert_int_equal(wire_decode(&back, frame, len, &room), 0);
	assert_int_equal(back.reply.r.err, -ENOENT);
	assert_int_equal(back.reply.r.attr.ino, 0);
}

static void the_header_tells_version_and_length_from_noise(void **state)
{
	struct msg m = {.type = MSG_PING};
	uint32_t body, data;

	assert_int_not_equal(wire_encode(&m, frame, sizeof(frame)), 0);
	frame[4] = WIRE_VERSION + 1;
	assert_int_equal(wire_frame(frame, &body, &data), -EPROTONOSUPPORT);
	frame[4] = WIRE_VERSION;
	frame[11] = 1;
	assert_int_equal(wire_frame(frame, &body, &data), -EMSGSIZE);
	frame[11] = 0;
	frame[15] = 1;
	assert_int_equal(wire_frame(frame, &body, &data), -EMSGSIZE);
	frame[15] = 0;
	frame[0] = 'G';
	assert_int_equal(wire_frame(frame, &body, &data), -EBADMSG);
}

static void who_carries_is_told_whole_or_not_at_all(void **state)
{
	struct msg m = {.type = MSG_CARRY, .carry = {.node = 3, .life = 7, .ticket = 9, .on = true}};

	assert_int_not_equal(wire_encode(&m, frame, sizeof(frame)), 0);
	m.carry.ticket = 0; /* on, and nothing to show */
	assert_int_equal(wire_encode(&m, frame, sizeof(frame)), 0);
	m.carry.on = false;
	assert_int_not_equal(wire_encode(&m, frame, sizeof(frame)), 0);
	m.carry.life = 0; /* of which life? */
	assert_int_equal(wire_encode(&m, frame, sizeof(frame)), 0);
	m.type = MSG_WAY;
	assert_int_equal(wire_encode(&m, frame, sizeof(frame)), 0);
	m.carry.ticket = 9;
	assert_int_not_equal(wire_encode(&m, frame, sizeof(frame)), 0);
	m.carry.node = 0; /* the coordinator itself wants none */
	assert_int_equal(wire_encode(&m, frame, sizeof(frame)), 0);
	m.carry.ticket = 0;
	assert_int_not_equal(wire_encode(&m, frame, sizeof(frame)), 0);
}

static void block_io_and_its_data_have_one_length(void **state)
{
	struct msg m = {.type = MSG_BLOCK, .data_len = 4096};

	m.block.op = BLOCK_WRITE;
	m.block.node = m.block.incarnation = 1;
	m.block.len = 4096;
	assert_int_not_equal(wire_encode(&m, frame, sizeof(frame)), 0);
	m.data_len = 512;
	assert_int_equal(wire_encode(&m, frame, sizeof(frame)), 0);
	m.data_len = 4096;
	m.block.op = BLOCK_READ; /* asks, and brings data */
	assert_int_equal(wire_encode(&m, frame, sizeof(frame)), 0);
	m.data_len = 0;
	assert_int_not_equal(wire_encode(&m, frame, sizeof(frame)), 0);
	m.block.lun_off = VOLUME_BYTES_MAX;
	assert_int_equal(wire_encode(&m, frame, sizeof(frame)), 0);
	m.block.lun_off = 100;
	assert_int_equal(wire_encode(&m, frame, sizeof(frame)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_message_comes_back_as_it_was),
		cmocka_unit_test(every_kind_of_request_and_reply_comes_back),
		cmocka_unit_test(a_damaged_frame_is_refused_or_has_one_meaning),
		cmocka_unit_test(noise_is_refused),
		cmocka_unit_test(what_is_to_be_forgotten_is_asked_for_with_a_number),
		cmocka_unit_test(a_request_that_no_coordinator_could_read_is_known_at_once),
		cmocka_unit_test(extents_stay_on_the_volume),
		cmocka_unit_test(names_of_a_directory_hold_no_slash_and_no_zero),
		cmocka_unit_test(a_reply_with_an_error_carries_nothing_else),
		cmocka_unit_test(the_header_tells_version_and_length_from_noise),
		cmocka_unit_test(block_io_and_its_data_have_one_length),
		cmocka_unit_test(who_carries_is_told_whole_or_not_at_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
