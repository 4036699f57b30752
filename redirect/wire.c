/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire.c - one function per message describes it, and is run in three ways: to count its bytes, to
 * write them, to read them. So what is written is what is read, field by field.
 *
 * While reading, every field is checked where it is read; the same checks run while writing, so that
 * no frame is made which the other side would refuse.
 */
#include "redirect/wire.h"

#include <errno.h>
#include <string.h>

#include "csvfs/base/cursor.h"

enum mode { COUNT, WRITE, READ };

struct coder {
	enum mode mode;
	bool bad;
	struct cursor c; /* WRITE, READ */
	uint32_t count; /* COUNT */
	struct wire_room *room; /* READ */
	uint32_t room_used;
};

_Static_assert(sizeof(enum fs_op) == 4, "enums are coded as 32 bits");
_Static_assert(sizeof(enum lun_status) == 4, "enums are coded as 32 bits");

/* ------------------------------------------------------------------ bytes and integers */

static void need(struct coder *x, bool ok)
{
	if (!ok)
		x->bad = true;
}

static void code_raw(struct coder *x, void *p, uint32_t n)
{
	const void *from;

	switch (x->mode) {
	case COUNT:
		x->count += n;
		break;
	case WRITE:
		cursor_put(&x->c, p, n);
		break;
	case READ:
		from = cursor_take(&x->c, n);
		if (from && n)
			memcpy(p, from, n);
		break;
	}
}

static void code_u8(struct coder *x, uint8_t *v)
{
	code_raw(x, v, 1);
}

static void code_u16(struct coder *x, uint16_t *v)
{
	le16 b = le16_of(*v);

	code_raw(x, &b, sizeof(b));
	if (x->mode == READ)
		*v = le16_get(b);
}

static void code_u32(struct coder *x, uint32_t *v)
{
	le32 b = le32_of(*v);

	code_raw(x, &b, sizeof(b));
	if (x->mode == READ)
		*v = le32_get(b);
}

static void code_u64(struct coder *x, uint64_t *v)
{
	le64 b = le64_of(*v);

	code_raw(x, &b, sizeof(b));
	if (x->mode == READ)
		*v = le64_get(b);
}

static void code_i32(struct coder *x, int32_t *v)
{
	uint32_t u = (uint32_t)*v;

	code_u32(x, &u);
	if (x->mode == READ)
		*v = (int32_t)u;
}

static void code_i64(struct coder *x, int64_t *v)
{
	uint64_t u = (uint64_t)*v;

	code_u64(x, &u);
	if (x->mode == READ)
		*v = (int64_t)u;
}

static void code_bool(struct coder *x, bool *v)
{
	uint8_t u = *v ? 1 : 0;

	code_u8(x, &u);
	need(x, u <= 1);
	if (x->mode == READ)
		*v = u == 1;
}

/* Any enum, as 32 bits; its values are first .. last. */
static void code_enum(struct coder *x, void *e, uint32_t first, uint32_t last)
{
	uint32_t v;

	memcpy(&v, e, sizeof(v));
	code_u32(x, &v);
	need(x, v >= first && v <= last);
	if (x->mode == READ)
		memcpy(e, &v, sizeof(v));
}

/* An error as in replies: 0 or a negative errno. */
static void code_err(struct coder *x, int32_t *err)
{
	code_i32(x, err);
	need(x, *err <= 0 && *err >= -4095);
}

/* ------------------------------------------------------------------ strings and blobs */

/* Length, then bytes without the ending zero, into an array of `room` bytes. */
static void code_string(struct coder *x, char *s, uint32_t room, uint32_t least)
{
	uint16_t n = x->mode == READ ? 0 : (uint16_t)strnlen(s, room);

	code_u16(x, &n);
	need(x, n >= least && n < room);
	if (x->bad)
		return;
	code_raw(x, s, n);
	if (x->mode == READ) {
		s[n] = 0;
		need(x, !memchr(s, 0, n));
	}
}

/* A name of a directory entry. */
static void code_name(struct coder *x, char *name)
{
	code_string(x, name, NAME_BYTES_MAX + 1, 1);
	need(x, !memchr(name, '/', strnlen(name, NAME_BYTES_MAX)));
}

/* Bytes that stay where they are. */
static void code_blob(struct coder *x, const void **p, uint32_t *n, uint32_t most)
{
	code_u32(x, n);
	need(x, *n <= most);
	if (x->bad)
		return;
	if (x->mode == READ)
		*p = cursor_take(&x->c, *n);
	else
		code_raw(x, (void *)(uintptr_t)*p, *n);
}

/* Text with an ending zero, in place. */
static void code_text(struct coder *x, const char **text, uint32_t *len)
{
	const void *p = *text;
	uint32_t n = *len + 1;

	if (x->mode != READ && (*len >= FRAME_BODY_MAX || !p || (*text)[*len] != 0)) {
		x->bad = true;
		return;
	}
	code_blob(x, &p, &n, FRAME_BODY_MAX);
	need(x, n > 0);
	if (x->mode != READ || x->bad || !p)
		return;
	*text = p;
	*len = n - 1;
	need(x, memchr(p, 0, n) == (const char *)p + *len);
}

/* READ: n bytes of the decoder's room. */
static void *room_take(struct coder *x, uint32_t n)
{
	void *p = x->room->bytes + x->room_used;

	if (x->bad || n > sizeof(x->room->bytes) - x->room_used) {
		x->bad = true;
		return NULL;
	}
	x->room_used += (n + 15) & ~15u;
	return p;
}

/* ------------------------------------------------------------------ parts of requests and replies */

static bool range_ok(uint64_t off, uint64_t len, uint64_t unit, uint64_t end)
{
	return len > 0 && off % unit == 0 && len % unit == 0 && len <= end && off <= end - len;
}

static void code_extent(struct coder *x, struct fs_extent *e)
{
	code_u64(x, &e->off);
	code_u64(x, &e->len);
	code_u64(x, &e->lun_off);
	code_u32(x, &e->state);
	code_u32(x, &e->edge);
	need(x, e->state <= EXT_SHARED);
	need(x, e->edge <= (e->state == EXT_UNWRITTEN || e->state == EXT_WRITTEN));
	/* An empty file's extents may reach to the end of all files: a hole is bounded like data. */
	need(x, range_ok(e->off, e->len, CLUSTER_MIN, FILE_BYTES_MAX));
	if (e->state == EXT_HOLE)
		need(x, e->lun_off == 0);
	else
		need(x, range_ok(e->lun_off, e->len, CLUSTER_MIN, VOLUME_BYTES_MAX));
}

static void code_extents(struct coder *x, struct fs_extent **extents, uint32_t *count)
{
	code_u32(x, count);
	need(x, *count <= EXTENTS_PER_REPLY);
	if (x->bad)
		return;
	if (x->mode == READ) {
		*extents = room_take(x, *count * (uint32_t)sizeof(**extents));
		if (!*extents)
			return;
		memset(*extents, 0, *count * sizeof(**extents));
	}
	for (uint32_t i = 0; i < *count && !x->bad; i++)
		code_extent(x, &(*extents)[i]);
}

static void code_ranges(struct coder *x, const struct msg_range **ranges, uint32_t *count)
{
	struct msg_range *r = (struct msg_range *)(uintptr_t)*ranges;

	code_u32(x, count);
	need(x, *count <= WIRE_RANGES_MAX);
	if (x->bad)
		return;
	if (x->mode == READ) {
		r = room_take(x, *count * (uint32_t)sizeof(*r));
		if (!r)
			return;
		*ranges = r;
	}
	for (uint32_t i = 0; i < *count && !x->bad; i++) {
		code_u64(x, &r[i].off);
		code_u64(x, &r[i].len);
		need(x, range_ok(r[i].off, r[i].len, CLUSTER_MIN, FILE_BYTES_MAX));
	}
}

static void code_lock(struct coder *x, struct fs_lock *l)
{
	code_u64(x, &l->owner);
	code_u64(x, &l->handle);
	code_u64(x, &l->start);
	code_u64(x, &l->end);
	code_u64(x, &l->seq);
	code_u32(x, &l->type);
	code_u32(x, &l->flags);
	code_u32(x, &l->pid);
	need(x, l->start <= l->end && l->end <= FS_LK_END);
	need(x, l->type <= FS_LK_WRITE && !(l->flags & ~FS_LK_FLAGS));
}

static void code_locks(struct coder *x, const struct msg_lock **locks, uint32_t *count)
{
	struct msg_lock *l = (struct msg_lock *)(uintptr_t)*locks;

	code_u32(x, count);
	need(x, *count <= WIRE_LOCKS_MAX);
	if (x->bad)
		return;
	if (x->mode == READ) {
		l = room_take(x, *count * (uint32_t)sizeof(*l));
		if (!l)
			return;
		memset(l, 0, *count * sizeof(*l));
		*locks = l;
	}
	for (uint32_t i = 0; i < *count && !x->bad; i++) {
		code_u64(x, &l[i].ino);
		code_lock(x, &l[i].lock);
		need(x, l[i].ino != 0 && l[i].lock.type != FS_LK_NONE);
	}
}

static void code_appends(struct coder *x, const struct msg_append **appends, uint32_t *count)
{
	struct msg_append *a = (struct msg_append *)(uintptr_t)*appends;

	code_u32(x, count);
	need(x, *count > 0 && *count <= WIRE_APPENDS_MAX);
	if (x->bad)
		return;
	if (x->mode == READ) {
		a = room_take(x, *count * (uint32_t)sizeof(*a));
		if (!a)
			return;
		memset(a, 0, *count * sizeof(*a));
		*appends = a;
	}
	for (uint32_t i = 0; i < *count && !x->bad; i++) {
		code_u64(x, &a[i].ino);
		code_u64(x, &a[i].off);
		code_u64(x, &a[i].version);
		code_u32(x, &a[i].slot);
		code_u64(x, &a[i].seq);
		need(x, a[i].ino != 0 && a[i].off <= FILE_BYTES_MAX && a[i].slot <= SLOTS_MAX);
		need(x, a[i].slot ? a[i].seq != 0 && a[i].off == 0 && a[i].version == 0 : a[i].seq == 0);
	}
}

static void code_inos(struct coder *x, const uint64_t **inos, uint32_t *count)
{
	uint64_t *p = (uint64_t *)(uintptr_t)*inos;

	code_u32(x, count);
	need(x, *count > 0 && *count <= WIRE_INOS_MAX);
	if (x->bad)
		return;
	if (x->mode == READ) {
		p = room_take(x, *count * (uint32_t)sizeof(*p));
		if (!p)
			return;
		*inos = p;
	}
	for (uint32_t i = 0; i < *count && !x->bad; i++) {
		code_u64(x, &p[i]);
		need(x, p[i] != 0);
	}
}

static void code_attr(struct coder *x, struct fs_attr *a)
{
	code_u64(x, &a->ino);
	code_u64(x, &a->generation);
	code_u64(x, &a->size);
	code_u64(x, &a->blocks);
	code_u32(x, &a->mode);
	code_u32(x, &a->uid);
	code_u32(x, &a->gid);
	code_u32(x, &a->nlink);
	code_u32(x, &a->rdev);
	code_u32(x, &a->flags);
	code_i64(x, &a->atime_ns);
	code_i64(x, &a->mtime_ns);
	code_i64(x, &a->ctime_ns);
	code_i64(x, &a->btime_ns);
	code_u64(x, &a->version);
}

static void code_statfs(struct coder *x, struct fs_statfs *s)
{
	code_u64(x, &s->blocks);
	code_u64(x, &s->bfree);
	code_u64(x, &s->bavail);
	code_u64(x, &s->files);
	code_u64(x, &s->ffree);
	code_u32(x, &s->bsize);
	code_u32(x, &s->namelen);
}

/* One entry: 24 bytes of header, the name, zeros up to a multiple of 8. */
static void code_dirent(struct coder *x, struct fs_dirent *d, uint32_t left)
{
	uint8_t *name = (uint8_t *)(d + 1);

	code_u64(x, &d->ino);
	code_u64(x, &d->cookie);
	code_u32(x, &d->type);
	code_u32(x, &d->namelen);
	need(x, d->namelen > 0 && d->namelen <= NAME_BYTES_MAX);
	need(x, d->type <= 15);
	if (x->bad || FS_DIRENT_SIZE(d->namelen) > left) {
		x->bad = true;
		return;
	}
	code_raw(x, name, (uint32_t)(FS_DIRENT_SIZE(d->namelen) - sizeof(*d)));
	need(x, !memchr(name, 0, d->namelen) && !memchr(name, '/', d->namelen));
	for (uint32_t i = d->namelen; i < FS_DIRENT_SIZE(d->namelen) - sizeof(*d); i++)
		need(x, name[i] == 0);
}

/* The stream of a READDIR reply: entries have the same length here and in memory. */
static void code_dirents(struct coder *x, void **data, uint32_t *len)
{
	uint32_t left;
	uint8_t *p;

	code_u32(x, len);
	need(x, *len <= FRAME_BODY_MAX && *len % 8 == 0);
	if (x->mode == READ && !x->bad && *len > cursor_left(&x->c))
		x->bad = true;
	if (x->bad)
		return;
	if (x->mode == READ)
		*data = room_take(x, *len);
	p = *data;
	for (left = *len; left && !x->bad;) {
		struct fs_dirent *d = (struct fs_dirent *)(void *)p;
		uint32_t n;

		if (left < sizeof(*d)) {
			x->bad = true;
			return;
		}
		code_dirent(x, d, left);
		if (x->bad)
			return;
		n = (uint32_t)FS_DIRENT_SIZE(d->namelen);
		p += n;
		left -= n;
	}
}

/* ------------------------------------------------------------------ requests */

#define F_INO (1u << 0)
#define F_INO2 (1u << 1)
#define F_NAME (1u << 2)
#define F_NAME2 (1u << 3)
#define F_XNAME (1u << 4) /* in `name`, and may contain '/' */
#define F_OFF (1u << 5) /* with len: a range of a file */
#define F_COOKIE (1u << 6) /* in `off`, any value */
#define F_LEN (1u << 7)
#define F_FLAGS (1u << 8)
#define F_MODE (1u << 9)
#define F_CRED (1u << 10)
#define F_TIME (1u << 11)
#define F_ATTR (1u << 12)
#define F_DATA (1u << 13)
#define F_EXTENTS (1u << 14)
#define F_MAYBE_INO (1u << 15) /* ino, 0 allowed */
#define F_VALID (1u << 16)
#define F_LOCK (1u << 17)
#define F_GIVEN (1u << 18)
#define F_VERSION (1u << 19) /* in attr, which is not sent otherwise */

#define R_ATTR (1u << 24)
#define R_STATFS (1u << 25)
#define R_OFF (1u << 26)
#define R_DATA (1u << 27)
#define R_EXTENTS (1u << 28)
#define R_DIRENTS (1u << 29)
#define R_LOCK (1u << 30)

/* What a request of this kind, and its reply without an error, carry. 0: not sent between nodes. */
static uint32_t op_fields(enum fs_op op)
{
	switch (op) {
	case FS_NONE:
		return 0;
	case FS_LOOKUP:
		return F_INO | F_NAME | R_ATTR;
	case FS_GETATTR:
		return F_INO | R_ATTR;
	case FS_READLINK:
		return F_INO | R_DATA;
	case FS_READDIR:
		return F_INO | F_COOKIE | F_LEN | F_FLAGS | R_DIRENTS;
	case FS_STATFS:
		return F_MAYBE_INO | R_STATFS;
	case FS_GETXATTR:
		return F_INO | F_XNAME | F_LEN | R_DATA;
	case FS_LISTXATTR:
		return F_INO | F_LEN | F_CRED | R_DATA;
	case FS_LSEEK:
		return F_INO | F_COOKIE | F_FLAGS | R_OFF;
	case FS_SETATTR:
		return F_INO | F_VALID | F_ATTR | F_CRED | F_TIME | R_ATTR;
	case FS_MKNOD:
		return F_INO | F_NAME | F_MODE | F_CRED | F_TIME | R_ATTR;
	case FS_MKDIR:
		return F_INO | F_NAME | F_MODE | F_CRED | F_TIME | R_ATTR;
	case FS_SYMLINK:
		return F_INO | F_NAME | F_MODE | F_DATA | F_CRED | F_TIME | R_ATTR;
	case FS_LINK:
		return F_INO | F_INO2 | F_NAME | F_TIME | R_ATTR;
	case FS_UNLINK:
		return F_INO | F_NAME | F_TIME | F_GIVEN | R_ATTR | R_DATA;
	case FS_RMDIR:
		return F_INO | F_NAME | F_TIME | F_GIVEN | R_ATTR | R_DATA;
	case FS_RENAME:
		return F_INO | F_NAME | F_INO2 | F_NAME2 | F_FLAGS | F_CRED | F_TIME | F_GIVEN | R_ATTR |
		       R_DATA;
	case FS_CREATE:
		return F_INO | F_NAME | F_MODE | F_FLAGS | F_CRED | F_TIME | F_VALID | R_ATTR;
	case FS_SETXATTR:
		return F_INO | F_XNAME | F_DATA | F_FLAGS | F_CRED | F_TIME | F_VALID;
	case FS_REMOVEXATTR:
		return F_INO | F_XNAME | F_CRED | F_TIME;
	case FS_FALLOCATE:
		return F_INO | F_OFF | F_LEN | F_FLAGS | F_VALID | F_TIME | R_ATTR;
	case FS_OPEN:
		return F_INO | F_FLAGS | F_TIME | R_ATTR;
	case FS_CLOSE:
		return F_INO | F_TIME;
	case FS_LAYOUT_GET:
		return F_INO | F_OFF | F_LEN | F_FLAGS | F_TIME | R_EXTENTS | R_OFF | R_ATTR;
	case FS_LAYOUT_COMMIT:
		return F_INO | F_EXTENTS | F_VALID | F_ATTR | F_FLAGS | F_TIME | R_OFF | R_ATTR;
	case FS_LAYOUT_RETURN:
		return F_INO | F_TIME;
	case FS_APPEND:
		return F_INO | F_LEN | F_TIME | R_OFF | R_ATTR;
	case FS_LOCK:
	case FS_UNLOCK:
	case FS_LOCK_CANCEL:
		return F_INO | F_LOCK;
	case FS_GETLK:
		return F_INO | F_LOCK | R_LOCK;
	case FS_APPENDED:
		return F_INO | F_OFF | F_VERSION | F_TIME;
	case FS_FREE_ORPHAN:
		return 0;
	case FS_FSYNC:
		return F_INO | F_FLAGS | F_TIME | R_ATTR;
	}
	return 0;
}

/* Longest data of a request. */
static uint32_t op_data_max(enum fs_op op)
{
	return op == FS_SYMLINK ? SYMLINK_BYTES_MAX : XATTR_BYTES_MAX;
}

/* A field that this kind of request does not carry must be empty: silently losing it would be worse. */
static void code_unused(struct coder *x, const struct fs_request *rq, uint32_t f)
{
	if (x->mode == READ)
		return;
	need(x, (f & F_INO2) || (!rq->ino2 && !rq->generation2));
	need(x, (f & (F_NAME | F_XNAME)) || !rq->name[0]);
	need(x, (f & F_NAME2) || !rq->name2[0]);
	need(x, (f & (F_OFF | F_COOKIE)) || !rq->off);
	need(x, (f & F_LEN) || !rq->len);
	need(x, (f & F_GIVEN) || (!rq->given[0] && !rq->given[1]));
	need(x, (f & F_FLAGS) || !rq->flags);
	need(x, (f & F_MODE) || (!rq->mode && !rq->rdev));
	need(x, (f & F_VALID) || !rq->valid);
	need(x, (f & F_DATA) || !rq->data_len);
	need(x, (f & F_EXTENTS) || !rq->extent_count);
	need(x, (f & F_LOCK) || (!rq->lock.owner && !rq->lock.handle && !rq->lock.seq));
}

static void code_request_data(struct coder *x, struct fs_request *rq)
{
	code_blob(x, &rq->data, &rq->data_len, op_data_max(rq->op));
	if (rq->op == FS_SYMLINK && !x->bad)
		need(x, rq->data_len > 0 && rq->data && !memchr(rq->data, 0, rq->data_len));
}

static void code_inode(struct coder *x, uint64_t *ino, uint32_t *generation)
{
	code_u64(x, ino);
	code_u32(x, generation);
	need(x, *generation <= FS_GENERATION_MASK);
}

/* All but who asks. */
static void code_request_fields(struct coder *x, struct fs_request *rq)
{
	uint32_t f;

	code_enum(x, &rq->op, FS_LOOKUP, FS_FSYNC);
	f = op_fields(rq->op);
	need(x, f != 0);
	if (x->bad)
		return;
	code_unused(x, rq, f);
	if (f & (F_INO | F_MAYBE_INO))
		code_inode(x, &rq->ino, &rq->generation);
	need(x, (f & F_MAYBE_INO) || rq->ino != 0);
	if (f & F_INO2) {
		code_inode(x, &rq->ino2, &rq->generation2);
		need(x, rq->ino2 != 0);
	}
	if (f & F_NAME)
		code_name(x, rq->name);
	if (f & F_XNAME)
		code_string(x, rq->name, sizeof(rq->name), 1);
	if (f & F_NAME2)
		code_name(x, rq->name2);
	if (f & (F_OFF | F_COOKIE))
		code_u64(x, &rq->off);
	if (f & F_LEN)
		code_u64(x, &rq->len);
	if (f & F_OFF)
		need(x, rq->len <= INT64_MAX && rq->off <= INT64_MAX - rq->len);
	if (f & F_FLAGS)
		code_u32(x, &rq->flags);
	if (f & F_MODE) {
		code_u32(x, &rq->mode);
		code_u32(x, &rq->rdev);
	}
	if (f & F_CRED) {
		code_u32(x, &rq->cred.uid);
		code_u32(x, &rq->cred.gid);
		code_u32(x, &rq->cred.umask);
	}
	if (f & F_TIME)
		code_i64(x, &rq->time_ns);
	if (f & F_VALID)
		code_u32(x, &rq->valid);
	if (f & F_ATTR)
		code_attr(x, &rq->attr);
	if (f & F_VERSION)
		code_u64(x, &rq->attr.version);
	if (f & F_DATA)
		code_request_data(x, rq);
	if (f & F_EXTENTS)
		code_extents(x, (struct fs_extent **)(uintptr_t)&rq->extents, &rq->extent_count);
	for (uint32_t i = 0; (f & F_EXTENTS) && i < rq->extent_count && !x->bad; i++)
		need(x, !rq->extents[i].edge);
	if (f & F_LOCK)
		code_lock(x, &rq->lock);
	if (f & F_GIVEN) {
		code_u64(x, &rq->given[0]);
		code_u64(x, &rq->given[1]);
	}
}

static void code_reqid(struct coder *x, struct fs_reqid *id, enum fs_op op)
{
	code_u32(x, &id->node);
	code_u32(x, &id->slot);
	code_u64(x, &id->life);
	code_u64(x, &id->seq);
	need(x, id->node != 0 && id->life != 0 && id->slot <= SLOTS_MAX);
	need(x, (id->slot != 0) == fs_op_needs_slot(op));
	need(x, (id->slot != 0) == (id->seq != 0));
}

static void code_request(struct coder *x, struct msg *m)
{
	code_request_fields(x, &m->request);
	code_reqid(x, &m->request.id, m->request.op);
}

static void code_reply(struct coder *x, struct msg *m)
{
	struct fs_reply *r = &m->reply.r;
	const void *data = r->data;
	uint32_t f;

	code_enum(x, &m->reply.op, FS_LOOKUP, FS_FSYNC);
	f = op_fields(m->reply.op);
	need(x, f != 0);
	code_reqid(x, &m->reply.id, m->reply.op);
	code_err(x, &r->err);
	code_u32(x, &r->lease);
	need(x, !(r->lease & ~(FS_LEASE_ATTR | FS_LEASE_NAME)));
	if (x->bad || r->err)
		return;
	if (f & R_ATTR)
		code_attr(x, &r->attr);
	if (f & R_STATFS)
		code_statfs(x, &r->statfs);
	if (f & R_OFF)
		code_u64(x, &r->off);
	if (f & R_DATA) {
		code_blob(x, &data, &r->data_len, XATTR_BYTES_MAX);
		if (x->mode == READ)
			r->data = (void *)(uintptr_t)data;
	}
	if (f & R_DIRENTS)
		code_dirents(x, &r->data, &r->data_len);
	if (f & R_EXTENTS)
		code_extents(x, &r->extents, &r->extent_count);
	if (f & R_LOCK)
		code_lock(x, &r->lock);
}

/* ------------------------------------------------------------------ the other messages */

/* A node's name stands in certificates, in messages and on the screen: printable, no blanks. */
static void code_node_name(struct coder *x, char *name)
{
	code_string(x, name, NODE_NAME_MAX, 1);
	for (uint32_t i = 0; !x->bad && name[i]; i++)
		need(x, name[i] > ' ' && name[i] < 0x7f);
}

static void code_hello(struct coder *x, struct msg_hello *h)
{
	code_raw(x, h->uuid, sizeof(h->uuid));
	code_u32(x, &h->node);
	code_u32(x, &h->incarnation);
	code_u64(x, &h->life);
	need(x, h->node != 0 && h->life != 0);
	code_node_name(x, h->name);
}

static void code_reclaim(struct coder *x, struct msg *m)
{
	code_u64(x, &m->reclaim.ino);
	code_bool(x, &m->reclaim.open);
	code_bool(x, &m->reclaim.writes);
	code_bool(x, &m->reclaim.holder);
	code_bool(x, &m->reclaim.blank);
	code_ranges(x, &m->reclaim.ranges, &m->reclaim.range_count);
	code_ranges(x, &m->reclaim.edges, &m->reclaim.edge_count);
	need(x, m->reclaim.ino != 0);
	need(x, m->reclaim.open || (m->reclaim.holder && !m->reclaim.writes));
	need(x, m->reclaim.holder || (!m->reclaim.blank && !m->reclaim.range_count &&
					     !m->reclaim.edge_count));
}

/* What a node has, to a new coordinator. */
static void code_reclaims(struct coder *x, struct msg *m)
{
	if (m->type == MSG_RECLAIM)
		code_reclaim(x, m);
	else if (m->type == MSG_RECLAIM_END)
		code_u32(x, &m->reclaim_end.count);
	else if (m->type == MSG_RECLAIM_LOCKS)
		code_locks(x, &m->reclaim_locks.locks, &m->reclaim_locks.count);
	else
		code_appends(x, &m->reclaim_appends.appends, &m->reclaim_appends.count);
}

static void code_block(struct coder *x, struct msg *m)
{
	code_enum(x, &m->block.op, BLOCK_READ, BLOCK_FLUSH);
	code_bool(x, &m->block.fua);
	code_u32(x, &m->block.node);
	code_u32(x, &m->block.incarnation);
	code_u64(x, &m->block.lun_off);
	code_u32(x, &m->block.len);
	need(x, m->block.node != 0 && m->block.incarnation != 0);
	need(x, m->block.len <= IO_BYTES_MAX);
	need(x, m->data_len == (m->block.op == BLOCK_WRITE ? m->block.len : 0));
	need(x, m->block.op == BLOCK_WRITE || !m->block.fua);
	if (m->block.op == BLOCK_FLUSH)
		need(x, m->block.lun_off == 0 && m->block.len == 0);
	else
		need(x, range_ok(m->block.lun_off, m->block.len, 512, VOLUME_BYTES_MAX));
}

static void code_carry(struct coder *x, struct msg *m)
{
	bool way = m->type == MSG_WAY, ticket;

	code_u32(x, &m->carry.node);
	code_u32(x, &m->carry.ticket);
	code_u64(x, &m->carry.life);
	code_bool(x, &m->carry.on);
	ticket = way ? m->carry.node != 0 : m->carry.on;
	need(x, way ? m->carry.life == 0 : m->carry.node != 0 && m->carry.life != 0);
	need(x, m->type == MSG_CARRY || !m->carry.on);
	need(x, ticket == (m->carry.ticket != 0));
}

static void code_ctl(struct coder *x, struct msg *m)
{
	code_enum(x, &m->ctl.op, CTL_STATE, CTL_SCRUB);
	code_bool(x, &m->ctl.on);
	code_u64(x, &m->ctl.bytes);
	code_string(x, m->ctl.name, sizeof(m->ctl.name), 0);
}

static void code_body(struct coder *x, struct msg *m)
{
	switch (m->type) {
	case MSG_HELLO:
	case MSG_HELLO_OK:
		code_hello(x, &m->hello);
		return;
	case MSG_HELLO_NO:
		code_enum(x, &m->hello_no.code, HELLO_NO_VOLUME, HELLO_NO_STOPPING);
		code_string(x, m->hello_no.text, sizeof(m->hello_no.text), 0);
		return;
	case MSG_PING:
		code_u64(x, &m->ping.seq);
		return;
	case MSG_PONG:
		code_u64(x, &m->ping.seq);
		code_u64(x, &m->ping.age_ns);
		return;
	case MSG_GOODBYE:
		code_string(x, m->goodbye.text, sizeof(m->goodbye.text), 0);
		return;
	case MSG_REQUEST:
		code_request(x, m);
		return;
	case MSG_REPLY:
		code_reply(x, m);
		return;
	case MSG_RECALL:
	case MSG_TIMES:
		code_u64(x, &m->recall.ino);
		need(x, m->recall.ino != 0);
		return;
	case MSG_RECLAIM:
	case MSG_RECLAIM_END:
	case MSG_RECLAIM_LOCKS:
	case MSG_RECLAIM_APPENDS:
		code_reclaims(x, m);
		return;
	case MSG_CACHE_RECALL:
	case MSG_CACHE_GONE:
		need(x, m->tag != 0);
		code_inos(x, &m->cache.inos, &m->cache.count);
		return;
	case MSG_SERVE:
	case MSG_VOID:
	case MSG_TIMES_TOLD:
		return;
	case MSG_BLOCK:
		code_block(x, m);
		return;
	case MSG_BLOCK_REPLY:
		code_enum(x, &m->block_reply.status, LUN_OK, LUN_PROTECTED);
		need(x, m->block_reply.status == LUN_OK || m->data_len == 0);
		return;
	case MSG_CARRY:
	case MSG_CARRIED:
	case MSG_WAY:
		code_carry(x, m);
		return;
	case MSG_CTL:
		code_ctl(x, m);
		return;
	case MSG_CTL_REPLY:
		code_err(x, &m->ctl_reply.err);
		code_text(x, &m->ctl_reply.text, &m->ctl_reply.text_len);
		return;
	}
	x->bad = true;
}

/* File data goes along with these alone. */
static bool data_allowed(const struct msg *m)
{
	return m->type == MSG_BLOCK || m->type == MSG_BLOCK_REPLY;
}

/* ------------------------------------------------------------------ frames */

/* In the two modes that write nothing to m, its const may be cast away. */
static struct msg *msg_of(const struct msg *m)
{
	return (struct msg *)(uintptr_t)m;
}

uint32_t wire_bound(const struct msg *m)
{
	struct coder x = {.mode = COUNT};

	code_body(&x, msg_of(m));
	return WIRE_HEADER_BYTES + x.count;
}

uint32_t wire_encode(const struct msg *m, void *room, uint32_t room_bytes)
{
	struct coder x = {.mode = COUNT};
	uint32_t body;

	code_body(&x, msg_of(m));
	body = x.count;
	if (x.bad || body > FRAME_BODY_MAX || room_bytes < WIRE_HEADER_BYTES + body)
		return 0;
	if (m->data_len > IO_BYTES_MAX || (m->data_len && !data_allowed(m)))
		return 0;
	x = (struct coder){.mode = WRITE, .c = cursor_of(room, WIRE_HEADER_BYTES + body)};
	cursor_put_u32(&x.c, WIRE_MAGIC);
	cursor_put_u16(&x.c, WIRE_VERSION);
	cursor_put_u16(&x.c, (uint16_t)m->type);
	cursor_put_u32(&x.c, body);
	cursor_put_u32(&x.c, m->data_len);
	cursor_put_u64(&x.c, m->tag);
	cursor_put_u64(&x.c, m->epoch);
	code_body(&x, msg_of(m));
	if (x.bad || !cursor_ok(&x.c) || cursor_left(&x.c))
		return 0;
	return WIRE_HEADER_BYTES + body;
}

int wire_frame(const void *header, uint32_t *body_len, uint32_t *data_len)
{
	struct cursor c = cursor_of_const(header, WIRE_HEADER_BYTES);

	if (cursor_u32(&c) != WIRE_MAGIC)
		return -EBADMSG;
	if (cursor_u16(&c) != WIRE_VERSION)
		return -EPROTONOSUPPORT;
	(void)cursor_u16(&c); /* the type is for wire_decode() */
	*body_len = cursor_u32(&c);
	*data_len = cursor_u32(&c);
	if (*body_len > FRAME_BODY_MAX || *data_len > IO_BYTES_MAX)
		return -EMSGSIZE;
	return 0;
}

int wire_decode(struct msg *m, const void *frame, uint32_t len, struct wire_room *room)
{
	struct coder x = {.mode = READ, .c = cursor_of_const(frame, len), .room = room};
	uint32_t body_len, data_len;

	if (len < WIRE_HEADER_BYTES || wire_frame(frame, &body_len, &data_len) ||
		len != WIRE_HEADER_BYTES + body_len)
		return -EBADMSG;
	memset(m, 0, sizeof(*m));
	(void)cursor_take(&x.c, 6);
	m->type = (enum msg_type)cursor_u16(&x.c);
	(void)cursor_take(&x.c, 8);
	m->data_len = data_len;
	m->tag = cursor_u64(&x.c);
	m->epoch = cursor_u64(&x.c);
	if (data_len && !data_allowed(m))
		return -EBADMSG;
	code_body(&x, m);
	if (x.bad || !cursor_ok(&x.c) || cursor_left(&x.c))
		return -EBADMSG;
	return 0;
}

bool wire_request_ok(const struct fs_request *rq)
{
	struct coder x = {.mode = COUNT};

	code_request_fields(&x, (struct fs_request *)(uintptr_t)rq);
	return !x.bad && x.count <= FRAME_BODY_MAX - 64;
}

const char *msg_type_name(enum msg_type type)
{
	switch (type) {
	case MSG_HELLO:
		return "HELLO";
	case MSG_HELLO_OK:
		return "HELLO_OK";
	case MSG_HELLO_NO:
		return "HELLO_NO";
	case MSG_PING:
		return "PING";
	case MSG_PONG:
		return "PONG";
	case MSG_GOODBYE:
		return "GOODBYE";
	case MSG_REQUEST:
		return "REQUEST";
	case MSG_REPLY:
		return "REPLY";
	case MSG_RECALL:
		return "RECALL";
	case MSG_RECLAIM:
		return "RECLAIM";
	case MSG_RECLAIM_END:
		return "RECLAIM_END";
	case MSG_RECLAIM_LOCKS:
		return "RECLAIM_LOCKS";
	case MSG_RECLAIM_APPENDS:
		return "RECLAIM_APPENDS";
	case MSG_TIMES:
		return "TIMES";
	case MSG_TIMES_TOLD:
		return "TIMES_TOLD";
	case MSG_CACHE_RECALL:
		return "CACHE_RECALL";
	case MSG_CACHE_GONE:
		return "CACHE_GONE";
	case MSG_SERVE:
		return "SERVE";
	case MSG_VOID:
		return "VOID";
	case MSG_BLOCK:
		return "BLOCK";
	case MSG_BLOCK_REPLY:
		return "BLOCK_REPLY";
	case MSG_CARRY:
		return "CARRY";
	case MSG_CARRIED:
		return "CARRIED";
	case MSG_WAY:
		return "WAY";
	case MSG_CTL:
		return "CTL";
	case MSG_CTL_REPLY:
		return "CTL_REPLY";
	}
	return "?";
}
