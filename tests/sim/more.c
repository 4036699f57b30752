/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * more.c - the calls that load.c and locks.c do not make: directories, links, extended attributes,
 * fallocate, writes of any alignment, O_APPEND of odd records, processes that are killed while they wait.
 *
 * A porter works alone in a directory that is new in each life of its node, one call after the other. So it knows
 * exactly what it must find: every entry, and every byte of its file. Only one thing is shared: a file to which the
 * porters of all nodes append; each record that was acknowledged is there once at the end, whole.
 *
 * A porter that is killed (EINTR), or whose patience has an end (EIO, only in runs with a limit), may have done what
 * it asked for, or do it yet. The next one begins with a new directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/sim/sim.h"

#define SLOTS 6
#define FILE_MAX (96u << 10)
#define RECORD 61u /* no block begins or ends with one */
#define RECORDS_MAX 160u
#define CHUNK (32u << 10)
#define RECORDS_CHUNK (512u * RECORD)
#define UNKNOWN 0x100
#define PUNCH 3u    /* FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE */
#define ZERO 0x10u  /* FALLOC_FL_ZERO_RANGE */
#define EXCHANGE 2u /* RENAME_EXCHANGE */

enum kind { NOTHING, REG, DIR, LNK };

struct slot {
	enum kind kind;
	uint64_t ino, value; /* of the xattr "user.v"; 0: it has none */
	uint32_t mode;
	uint32_t target; /* length of a symlink's */
};

struct porter {
	struct sim *s;
	struct snode *n;
	bool alive, idle, ending;
	uint32_t stage; /* of making the directory and the file; 2: at work */
	uint32_t generation; /* of this life */
	uint32_t file_life; /* as the kernel knows it: bits of its generation */
	uint64_t life, dir, file;
	struct call call;
	struct slot slot[SLOTS];
	struct slot *a, *b;
	uint64_t value;
	uint64_t off;
	uint32_t len;
	uint16_t is[FILE_MAX]; /* what each byte of the file is, or UNKNOWN */
	uint64_t size;
	bool size_unknown;
	uint64_t at; /* of the last look at the shared file */
	uint64_t append_ns; /* when the append under way was asked for */
	bool open;   /* the shared file */
	uint32_t seen[RECORDS_MAX], torn;
	bool nameless; /* its own file */
	uint32_t losses; /* of the node, before it was made */
	struct fs_request rq;
	const char *what;
	uint8_t buf[FILE_MAX];
};

struct more {
	uint64_t shared; /* its ino */
	struct porter p[SIM_NODES_MAX + 1];
	uint64_t record[RECORDS_MAX]; /* id */
	bool acked[RECORDS_MAX];
	uint32_t records;
	bool stopping;
};

static void next_call(struct sim *s, void *arg);

void more_create(struct sim *s)
{
	s->more = calloc(1, sizeof(*s->more));
}

void more_destroy(struct sim *s)
{
	free(s->more);
}

void more_set_file(struct sim *s, uint64_t ino)
{
	s->more->shared = ino;
}

/* With --set follow=1: whoever reads that hole asks, every time, and hears how long the file is (tail.c). */
uint64_t more_records_at(const struct sim *s)
{
	return s->plan.follow ? SIM_CLUSTER_BYTES : 0;
}

/* ... and one node appends, much. */
static bool appends(const struct porter *p)
{
	return !p->s->plan.follow || p->n->id == 1 + p->s->seed % p->s->plan.nodes;
}

/* ------------------------------------------------------------------ calls */

static void finished(struct porter *p)
{
	if (p->s->verbose)
		sim_log(p->s, "   %s porter: %s done: %lu+%lu, flags %x, the file has %lu", p->n->name,
			p->what, p->call.data ? p->off : p->rq.off, p->call.data ? p->len : p->rq.len,
			p->call.data ? 0 : p->rq.flags, p->size);
	p->idle = true;
	call_ends(&p->call);
	p->s->ops_done++;
	sim_at_node(p->s, p->n, p->s->now_ns + sim_delay(p->s, MS, 400 * MS), next_call, p);
}

/* After the call at hand there is another process, which knows nothing of its files. */
static void begin_anew(struct porter *p)
{
	p->stage = 0;
	p->generation++;
	p->dir = p->file = p->size = 0;
	p->nameless = p->size_unknown = p->open = false;
	memset(p->slot, 0, sizeof(p->slot));
	memset(p->is, 0, sizeof(p->is));
}

/* 0: it was done; 1: it was not, and that may be; 2: that is all to be said of this call. */
static int outcome(struct porter *p, int32_t err)
{
	const struct sim_plan *pl = &p->s->plan;

	if (err >= 0)
		return 0;
	/* A file without a name ends with the rights of its node, which may not know, or not yet. */
	if (err == -ESTALE && p->nameless && (p->call.data || p->rq.ino == p->file)) {
		if (p->n->losses == p->losses)
			sim_fail(p->s, "%s: a file without a name is gone, though the node was never given up",
				p->n->name);
		return 1;
	}
	if ((err == -EINTR && p->call.killed) || (err == -EIO && pl->hold_ns) ||
		(sim_refused(p->s, err) && (p->call.data || pl->image))) {
		begin_anew(p);
		finished(p);
		return 2;
	}
	if ((err == -ENOSPC && pl->tight) || (err == -EIO && p->n->evictions))
		return 1;
	sim_fail(p->s, "%s porter: %s gave error %d", p->n->name, p->what, err);
	return 2;
}

static void new_rq(struct porter *p, enum fs_op op, const char *what)
{
	memset(&p->rq, 0, sizeof(p->rq));
	p->rq.op = op;
	p->rq.ino = p->dir;
	p->what = what;
	call_begins(&p->call, p->n, p, false);
}

static void ask(struct porter *p, reply_fn fn)
{
	p->rq.time_ns = (int64_t)p->s->now_ns;
	if (p->stage >= 2 && p->rq.ino == p->file)
		p->rq.generation = p->file_life;
	call_may_be_killed(p->s, &p->call, 15);
	p->call.tag = node_request(p->s, p->n, &p->rq, fn, p);
}

static void plain_done(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct porter *p = arg;

	if (outcome(p, rp->err) < 2)
		finished(p);
}

/* ------------------------------------------------------------------ names */

static uint32_t nr_of(const struct porter *p, const struct slot *x)
{
	return (uint32_t)(x - p->slot);
}

static void name_of(const struct porter *p, const struct slot *x, char *name)
{
	trace_format(name, 32, "e%u", nr_of(p, x));
}

static uint32_t links_of(const struct porter *p, uint64_t ino)
{
	uint32_t c = 0;

	for (uint32_t i = 0; i < SLOTS; i++)
		c += p->slot[i].kind != NOTHING && p->slot[i].ino == ino;
	return c;
}

static void made(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct porter *p = arg;
	int o = outcome(p, rp->err);

	if (o == 2)
		return;
	if (!o) {
		p->a->ino = rp->attr.ino;
		p->a->value = p->rq.op == FS_LINK ? p->b->value : 0;
		p->a->target = p->rq.data_len;
		p->a->mode = p->rq.op == FS_LINK ? p->b->mode : rp->attr.mode;
		p->a->kind = p->rq.op == FS_MKDIR     ? DIR :
			     p->rq.op == FS_SYMLINK ? LNK :
						      REG;
	}
	p->b = NULL;
	finished(p);
}

static void removed(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct porter *p = arg;
	int o = outcome(p, rp->err);

	if (!o)
		p->a->kind = NOTHING;
	if (o < 2)
		finished(p);
}

static void exchanged(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct porter *p = arg;
	int o = outcome(p, rp->err);
	struct slot t;

	if (!o) {
		t = *p->a;
		*p->a = *p->b;
		*p->b = t;
	}
	if (o < 2)
		finished(p);
}

static void xattr_set(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct porter *p = arg;
	int o = outcome(p, rp->err);

	for (uint32_t i = 0; i < SLOTS && !o; i++) {
		if (p->slot[i].ino == p->a->ino)
			p->slot[i].value = p->value;
	}
	if (o < 2)
		finished(p);
}

static void xattr_got(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct porter *p = arg;
	uint64_t v = 0;

	if (rp->err == -ENODATA && !p->a->value) {
		finished(p);
		return;
	}
	if (rp->err) {
		if (outcome(p, rp->err) < 2)
			finished(p);
		return;
	}
	if (rp->data_len == 64)
		memcpy(&v, rp->data, 8);
	if (v != p->a->value)
		sim_fail(s, "%s porter: an attribute is %lx, should be %lx", p->n->name, v,
			p->a->value);
	finished(p);
}

static void listed(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct porter *p = arg;
	int o = outcome(p, rp->err);

	if (!o && rp->data_len != (p->a->value ? sizeof("user.v") : 0))
		sim_fail(s, "%s porter: a list of attributes has %u bytes", p->n->name, rp->data_len);
	if (o < 2)
		finished(p);
}

static void link_read(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct porter *p = arg;
	int o = outcome(p, rp->err);

	if (!o && rp->data_len != p->a->target)
		sim_fail(s, "%s porter: a symlink has %u bytes, not %u", p->n->name, rp->data_len,
			p->a->target);
	if (o < 2)
		finished(p);
}

static void attr_got(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct porter *p = arg;
	int o = outcome(p, rp->err);

	if (!o && (rp->attr.mode != p->a->mode ||
			  (p->a->kind != DIR && rp->attr.nlink != links_of(p, p->a->ino))))
		sim_fail(s, "%s porter: e%u has mode %o and %u links, not %o and %u", p->n->name,
			nr_of(p, p->a), rp->attr.mode, rp->attr.nlink, p->a->mode,
			links_of(p, p->a->ino));
	if (o < 2)
		finished(p);
}

static void mode_set(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct porter *p = arg;
	int o = outcome(p, rp->err);

	for (uint32_t i = 0; i < SLOTS && !o; i++) {
		if (p->slot[i].ino == p->a->ino)
			p->slot[i].mode = (p->slot[i].mode & S_IFMT) | p->rq.attr.mode;
	}
	if (o < 2)
		finished(p);
}

static void dir_read(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct porter *p = arg;
	int o = outcome(p, rp->err);
	uint32_t want = 0, got = 0, at = 0;

	for (uint32_t i = 0; i < SLOTS; i++)
		want += p->slot[i].kind != NOTHING ? 1u << i : 0;
	while (!o && at + sizeof(struct fs_dirent) <= rp->data_len) {
		const uint8_t *d = (const uint8_t *)rp->data + at;
		struct fs_dirent e;

		memcpy(&e, d, sizeof(e));
		if (e.namelen == 2 && d[sizeof(e)] == 'e')
			got |= 1u << (d[sizeof(e) + 1] - '0');
		at += (uint32_t)FS_DIRENT_SIZE(e.namelen);
	}
	if (!o && got != want)
		sim_fail(s, "%s porter: its directory has entries %x, not %x", p->n->name, got, want);
	if (o < 2)
		finished(p);
}

static void make(struct porter *p)
{
	struct sim *s = p->s;
	static const char target[64] = "../somewhere/else/that/is/long/enough/to/be/a/target/of/a/link";

	p->b = &p->slot[draw(s, SLOTS)];
	if (p->b->kind == REG && chance(s, 30)) {
		new_rq(p, FS_LINK, "link");
		p->rq.ino = p->b->ino;
		p->rq.ino2 = p->dir;
	} else if (chance(s, 30)) {
		p->b = NULL;
		new_rq(p, FS_MKDIR, "mkdir");
		p->rq.mode = 0755;
	} else if (chance(s, 30)) {
		p->b = NULL;
		new_rq(p, FS_SYMLINK, "symlink");
		p->rq.data = target;
		p->rq.data_len = 1 + (uint32_t)draw(s, 60);
	} else {
		p->b = NULL;
		new_rq(p, FS_MKNOD, "mknod");
		p->rq.mode = S_IFREG | 0640;
	}
	name_of(p, p->a, p->rq.name);
	ask(p, made);
}

static void set_xattr(struct porter *p)
{
	static uint64_t data[8];

	p->value = chance(p->s, 25) ? 0 : p->call.nr + 1;
	if (!p->value && !p->a->value)
		p->value = p->call.nr + 1;
	new_rq(p, p->value ? FS_SETXATTR : FS_REMOVEXATTR, p->value ? "setxattr" : "removexattr");
	data[0] = p->value;
	p->rq.ino = p->a->ino;
	strcpy(p->rq.name, "user.v");
	if (p->value) {
		p->rq.data = data;
		p->rq.data_len = sizeof(data);
	}
	ask(p, xattr_set);
}

static void look(struct porter *p)
{
	struct sim *s = p->s;

	switch (draw(s, 6)) {
	case 0:
		new_rq(p, FS_READDIR, "readdir");
		p->rq.len = 4096;
		ask(p, dir_read);
		return;
	case 1:
		new_rq(p, FS_STATFS, "statfs");
		ask(p, plain_done);
		return;
	case 2:
		if (p->a->kind == LNK) {
			new_rq(p, FS_READLINK, "readlink");
			p->rq.ino = p->a->ino;
			ask(p, link_read);
			return;
		}
		new_rq(p, FS_LISTXATTR, "listxattr");
		p->rq.ino = p->a->ino;
		ask(p, listed);
		return;
	case 3:
		new_rq(p, FS_GETXATTR, "getxattr");
		p->rq.ino = p->a->ino;
		strcpy(p->rq.name, "user.v");
		ask(p, xattr_got);
		return;
	case 4:
		new_rq(p, FS_GETLK, "getlk");
		p->rq.ino = p->file;
		p->rq.lock = (struct fs_lock){.owner = 77, .end = FS_LK_END, .type = FS_LK_WRITE};
		if (chance(s, 70))
			p->rq.ino = locks_file(s, (uint32_t)draw(s, 2));
		ask(p, plain_done);
		return;
	default:
		new_rq(p, FS_GETATTR, "getattr");
		p->rq.ino = p->a->ino;
		ask(p, attr_got);
		return;
	}
}

static void name_call(struct porter *p)
{
	struct sim *s = p->s;

	p->a = &p->slot[draw(s, SLOTS)];
	p->b = NULL;
	if (p->a->kind == NOTHING)
		return make(p);
	p->b = &p->slot[draw(s, SLOTS)];
	switch (draw(s, 6)) {
	case 0:
		p->b = NULL;
		new_rq(p, p->a->kind == DIR ? FS_RMDIR : FS_UNLINK, "unlink or rmdir");
		name_of(p, p->a, p->rq.name);
		ask(p, removed);
		return;
	case 1:
		if (p->a->kind == LNK)
			break;
		p->b = NULL;
		set_xattr(p);
		return;
	case 2:
		if (p->b == p->a || p->b->kind == NOTHING)
			break;
		new_rq(p, FS_RENAME, "exchange");
		p->rq.ino2 = p->dir;
		p->rq.flags = EXCHANGE;
		name_of(p, p->a, p->rq.name);
		name_of(p, p->b, p->rq.name2);
		ask(p, exchanged);
		return;
	case 3:
		if (p->a->kind == LNK)
			break;
		p->b = NULL;
		new_rq(p, FS_SETATTR, "chmod");
		p->rq.ino = p->a->ino;
		p->rq.valid = FS_SET_MODE | FS_SET_ATIME;
		p->rq.attr.mode = 0600 | (uint32_t)draw(s, 64);
		p->rq.attr.atime_ns = (int64_t)s->now_ns;
		ask(p, mode_set);
		return;
	default:
		break;
	}
	p->b = NULL;
	look(p);
}

/* ------------------------------------------------------------------ bytes */

static void set_bytes(struct porter *p, uint64_t from, uint64_t to, uint16_t as)
{
	for (uint64_t i = from; i < to && i < FILE_MAX; i++)
		p->is[i] = as;
}

static void written(struct sim *s, void *arg, int32_t result)
{
	struct porter *p = arg;
	int o = outcome(p, result);

	if (o == 2)
		return;
	if (o) {
		set_bytes(p, p->off, p->off + p->len, UNKNOWN);
		p->size_unknown |= p->off + p->len > p->size;
	} else {
		for (uint32_t i = 0; i < p->len; i++)
			p->is[p->off + i] = p->buf[i];
		if (p->off + p->len > p->size)
			p->size = p->off + p->len;
	}
	finished(p);
}

static void zeroed(struct sim *s, void *arg, int32_t result)
{
	struct porter *p = arg;
	uint64_t end = p->off + p->len < p->size ? p->off + p->len : p->size;
	int o = outcome(p, result);

	if (o == 2)
		return;
	set_bytes(p, p->off, end, o ? UNKNOWN : 0);
	finished(p);
}

static void bytes_read(struct sim *s, void *arg, int32_t result)
{
	struct porter *p = arg;
	uint64_t room = p->off < p->size ? p->size - p->off : 0;
	int o = outcome(p, result);

	if (o == 2)
		return;
	if (!o && !p->size_unknown && (uint64_t)result != (room < p->len ? room : p->len)) {
		sim_fail(s, "%s porter: a read at %lu of a file of %lu bytes gave %d", p->n->name,
			p->off, p->size, result);
		return;
	}
	for (int32_t i = 0; i < result; i++) {
		uint16_t want = p->is[p->off + (uint64_t)i];

		if (want == UNKNOWN || want == p->buf[i])
			continue;
		sim_fail(s, "%s porter: byte %lu of its file is %x, not %x", p->n->name,
			p->off + (uint64_t)i, p->buf[i], want);
		return;
	}
	finished(p);
}

static void data_call(struct porter *p, const struct dp_op *op, data_fn fn)
{
	p->off = op->off;
	p->len = op->len;
	call_begins(&p->call, p->n, p, true);
	call_may_be_killed(p->s, &p->call, 15);
	node_io_as(p->s, p->n, op, p->buf, fn, p);
}

static void write_bytes(struct porter *p)
{
	struct sim *s = p->s;
	struct dp_op op = {.ino = p->file, .write = true, .handle = 1, .dsync = true};

	op.off = draw(s, FILE_MAX - 1);
	op.len = 1 + (uint32_t)draw(s, chance(s, 50) ? 600 : CHUNK);
	if (op.off + op.len > FILE_MAX)
		op.len = (uint32_t)(FILE_MAX - op.off);
	op.sync = chance(s, 50);
	op.zero = chance(s, 20);
	if (op.zero && op.off % SIM_CLUSTER_BYTES + op.len > SIM_CLUSTER_BYTES)
		op.len = SIM_CLUSTER_BYTES - (uint32_t)(op.off % SIM_CLUSTER_BYTES);
	p->what = op.zero ? "zero bytes" : "write bytes";
	memset(p->buf, op.zero ? 0 : (int)(1 + draw(s, 255)), op.len);
	data_call(p, &op, op.zero ? zeroed : written);
}

static void read_bytes(struct porter *p)
{
	struct dp_op op = {.ino = p->file, .handle = 1, .atime = chance(p->s, 50)};

	op.off = draw(p->s, FILE_MAX);
	op.len = (uint32_t)draw(p->s, FILE_MAX - op.off + 1);
	p->what = "read bytes";
	data_call(p, &op, bytes_read);
}

static void size_set(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct porter *p = arg;
	int o = outcome(p, rp->err);

	if (o == 2)
		return;
	if (o) {
		/* Not a byte of it is known: it ends in this life. */
		p->size_unknown = true;
		set_bytes(p, 0, FILE_MAX, UNKNOWN);
	} else {
		set_bytes(p, p->rq.attr.size, FILE_MAX, 0);
		p->size = p->rq.attr.size;
		p->size_unknown = false;
	}
	finished(p);
}

static void allocated(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct porter *p = arg;
	uint64_t end = p->rq.off + p->rq.len;
	int o = outcome(p, rp->err);

	if (o == 2)
		return;
	if (p->rq.flags & (2 | ZERO))
		set_bytes(p, p->rq.off, end, o ? UNKNOWN : 0);
	if (!(p->rq.flags & 1) && end > p->size) {
		p->size_unknown |= o;
		p->size = o ? p->size : end;
	}
	finished(p);
}

static void sought(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct porter *p = arg;

	if (rp->err == -ENXIO) {
		finished(p);
		return;
	}
	if (outcome(p, rp->err) == 2)
		return;
	if (!rp->err && !p->size_unknown && (rp->off < p->rq.off || rp->off > p->size))
		sim_fail(s, "%s porter: lseek from %lu gave %lu", p->n->name, p->rq.off, rp->off);
	for (uint64_t i = p->rq.off; !rp->err && p->rq.flags == SEEK_DATA && i < rp->off; i++) {
		if (!p->size_unknown && i < FILE_MAX && p->is[i] && p->is[i] != UNKNOWN)
			sim_fail(s, "%s porter: lseek has passed over byte %lu", p->n->name, i);
	}
	finished(p);
}

static void space_call(struct porter *p)
{
	struct sim *s = p->s;
	uint64_t per = SIM_CLUSTER_BYTES;

	switch (draw(s, 5)) {
	case 0:
		new_rq(p, FS_SETATTR, "truncate bytes");
		p->rq.ino = p->file;
		p->rq.valid = FS_SET_SIZE;
		p->rq.attr.size = draw(s, FILE_MAX);
		ask(p, size_set);
		return;
	case 1:
		new_rq(p, FS_LSEEK, "lseek");
		p->rq.ino = p->file;
		p->rq.off = draw(s, FILE_MAX);
		p->rq.flags = chance(s, 50) ? SEEK_DATA : SEEK_HOLE;
		ask(p, sought);
		return;
	case 2:
		new_rq(p, FS_FSYNC, "fsync");
		p->rq.ino = p->file;
		ask(p, plain_done);
		return;
	default:
		new_rq(p, FS_FALLOCATE, "fallocate");
		p->rq.ino = p->file;
		p->rq.off = per * draw(s, FILE_MAX / per);
		p->rq.len = per * (1 + draw(s, (FILE_MAX - p->rq.off) / per));
		p->rq.flags = (uint32_t[]){0, 1, PUNCH, ZERO, ZERO | 1}[draw(s, 5)];
		if (p->rq.flags > 1)
			p->rq.valid = FS_EDGES_ZEROED;
		ask(p, allocated);
		return;
	}
}

/* ------------------------------------------------------------------ the file to which all append */

static void appended(struct sim *s, void *arg, int32_t result)
{
	struct porter *p = arg;
	int o = outcome(p, result);

	s->append_failed |= result < 0 || s->now_ns - p->append_ns > APPEND_NS;
	p->append_ns = 0;
	if (o == 2)
		return;
	if (!o && result != (int32_t)RECORD)
		sim_fail(s, "%s porter: an append was cut short", p->n->name);
	s->more->acked[p->value] = !o;
	finished(p);
}

static void make_record(uint8_t *out, uint64_t id)
{
	for (uint32_t i = 0; i < RECORD; i++)
		out[i] = (uint8_t)(id >> i % 8 * 8);
}

static void append(struct porter *p)
{
	struct more *m = p->s->more;
	struct dp_op op = {.ino = m->shared, .write = true, .append = true, .dsync = true, .len = RECORD};
	uint64_t id;

	p->value = m->records++;
	id = (p->value + 1) << 8 | p->n->id;
	m->record[p->value] = id;
	make_record(p->buf, id);
	p->what = "append";
	p->append_ns = p->s->now_ns;
	data_call(p, &op, appended);
}

bool more_append_is_old(const struct sim *s, uint64_t ns)
{
	for (uint32_t i = 1; i <= s->plan.nodes; i++) {
		const struct porter *p = &s->more->p[i];

		if (p->append_ns && s->now_ns - p->append_ns > ns)
			return true;
	}
	return false;
}

static void opened(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct porter *p = arg;
	int o = outcome(p, rp->err);

	if (o == 2)
		return;
	p->open = !o;
	if (p->open)
		tail_follow(s, p->n, s->more->shared, RECORD);
	finished(p);
}

static void check_records(struct porter *p, uint32_t bytes)
{
	struct more *m = p->s->more;

	for (uint32_t at = 0; at + RECORD <= bytes; at += RECORD) {
		uint8_t want[RECORD];
		uint64_t id;

		memcpy(&id, p->buf + at, 8);
		make_record(want, id);
		/* Blocks are written whole: a record over two of them may be there in part, if nobody was told of it. */
		if (memcmp(want, p->buf + at, RECORD)) {
			p->torn++;
			continue;
		}
		if (!id)
			continue;
		if (!(id >> 8) || (id >> 8) > m->records || m->record[(id >> 8) - 1] != id) {
			sim_fail(p->s, "%s porter: record %lx is nobody's", p->n->name, id);
			return;
		}
		p->seen[(id >> 8) - 1]++;
	}
}

static void shared_read(struct sim *s, void *arg, int32_t result)
{
	struct porter *p = arg;
	struct more *m = s->more;
	uint32_t untold = 0;

	if (outcome(p, result) == 2)
		return;
	if (result < 0) {
		p->ending = p->idle = true; /* somebody else looks */
		return;
	}
	check_records(p, (uint32_t)result);
	p->at += (uint32_t)result;
	if (result == (int32_t)RECORDS_CHUNK) {
		finished(p);
		return;
	}
	for (uint32_t i = 0; i < m->records && !s->failed; i++) {
		if (p->seen[i] > 1 || (m->acked[i] && !p->seen[i]))
			sim_fail(s, "%s porter: record %lx was %sacknowledged, and is there %u times",
				p->n->name, m->record[i], m->acked[i] ? "" : "not ", p->seen[i]);
		untold += !m->acked[i];
	}
	if (p->torn > untold)
		sim_fail(s, "%s porter: %u appended records are torn", p->n->name, p->torn);
	p->ending = p->idle = true;
}

/* At the end, when nobody appends any more: everything is there. */
static void look_at_shared(struct porter *p)
{
	struct dp_op op = {.ino = p->s->more->shared, .off = p->at, .len = RECORDS_CHUNK};

	if (!p->open) {
		new_rq(p, FS_OPEN, "open");
		p->rq.ino = p->s->more->shared;
		ask(p, opened);
		return;
	}
	if (p->at == more_records_at(p->s)) {
		memset(p->seen, 0, sizeof(p->seen));
		p->torn = 0;
	}
	p->what = "read of what was appended";
	data_call(p, &op, shared_read);
}

/* ------------------------------------------------------------------ a life */

static void dir_made(struct sim *s, void *arg, const struct fs_reply *rp)
{
	struct porter *p = arg;
	int o = outcome(p, rp->err);

	if (o == 2)
		return;
	if (o && rp->err == -ENOSPC) {
		p->stage = 9; /* it cannot work in this life */
	} else if (!o) {
		if (p->stage == 0)
			p->dir = rp->attr.ino;
		else
			p->file = rp->attr.ino;
		p->file_life = (uint32_t)(rp->attr.generation & FS_GENERATION_MASK);
		p->stage++;
	}
	finished(p);
}

static void set_up(struct porter *p)
{
	new_rq(p, p->stage ? FS_CREATE : FS_MKDIR, p->stage ? "create" : "mkdir");
	if (p->stage) {
		p->nameless = chance(p->s, 30);
		p->losses = p->n->losses;
		p->rq.mode = S_IFREG | 0600;
		p->rq.flags = O_RDWR;
		strcpy(p->rq.name, "file");
		if (p->nameless)
			p->rq.valid = FS_NO_NAME;
	} else {
		p->rq.ino = p->s->root_ino;
		p->rq.mode = 0700;
		trace_format(p->rq.name, 32, "p%u-%lu.%u", p->n->id, p->life,
			p->generation);
	}
	ask(p, dir_made);
}

static bool porters_rest(const struct sim *s, const struct porter *but)
{
	for (uint32_t n = 1; n <= s->plan.nodes; n++) {
		const struct porter *p = &s->more->p[n];

		if (p != but && p->alive && !p->ending && !(p->idle && s->more->stopping))
			return false;
	}
	return true;
}

static void next_call(struct sim *s, void *arg)
{
	struct porter *p = arg;

	if (!p->alive || !p->idle || p->ending || s->failed)
		return;
	if (s->more->stopping) {
		/* One after the other, when all have come to rest. */
		if (!porters_rest(s, p)) {
			sim_at_node(s, p->n, s->now_ns + 100 * MS, next_call, p);
			return;
		}
		p->idle = false;
		look_at_shared(p);
		return;
	}
	if (p->stage == 9)
		return;
	p->idle = false;
	if (p->stage < 2) {
		set_up(p);
		return;
	}
	if (!p->open) {
		new_rq(p, FS_OPEN, "open");
		p->rq.ino = s->more->shared;
		ask(p, opened);
		return;
	}
	switch (s->plan.follow && chance(s, 60) ? 0 : draw(s, 10)) {
	case 0:
		/* Alone the kernel knows the end, and appends by itself. */
		if (s->more->records < RECORDS_MAX && !s->plan.alone && appends(p)) {
			append(p);
			return;
		}
		/* fall through */
	case 1:
	case 2:
		write_bytes(p);
		return;
	case 3:
	case 4:
		read_bytes(p);
		return;
	case 5:
		space_call(p);
		return;
	default:
		name_call(p);
		return;
	}
}

void more_node_up(struct sim *s, struct snode *n)
{
	struct porter *p = &s->more->p[n->id];

	if (!s->plan.porters)
		return;
	memset(p, 0, sizeof(*p));
	p->s = s;
	p->n = n;
	p->life = n->life_nr;
	p->at = more_records_at(s);
	p->alive = p->idle = true;
	sim_at_node(s, n, s->now_ns, next_call, p);
}

void more_node_down(struct sim *s, struct snode *n)
{
	struct porter *p = &s->more->p[n->id];

	p->alive = false;
	s->append_failed |= p->append_ns != 0;
	p->append_ns = 0;
}

void more_stop(struct sim *s)
{
	s->more->stopping = true;
	for (uint32_t n = 1; n <= s->plan.nodes; n++) {
		if (s->more->p[n].alive && s->more->p[n].stage == 9)
			s->more->p[n].ending = true;
	}
}

bool more_idle(const struct sim *s)
{
	for (uint32_t n = 1; n <= s->plan.nodes && s->plan.porters; n++) {
		if (!s->more->p[n].alive || !s->more->p[n].ending)
			return false;
	}
	return true;
}

void more_say_stuck(struct sim *s)
{
	for (uint32_t n = 1; n <= s->plan.nodes && s->plan.porters; n++) {
		const struct porter *p = &s->more->p[n];

		if (!p->alive || !p->ending)
			sim_log(s, "n%u porter: %s%s, stage %u", n,
				p->alive ? p->what ? p->what : "nothing yet" : "is down",
				p->idle ? ", idle" : "", p->stage);
	}
}
