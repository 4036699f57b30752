/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/crash/table.h"

#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "csvfs/base/assert.h"

#define C 4096ull /* a cluster */

uint64_t things[T_COUNT];

/* Left out: STATFS is an estimate; FS_LAYOUT_RETURN, FS_APPENDED and locks are the node's, nothing of them is on disk. */
const struct table_op table[] = {
	{"mknod", FS_MKNOD, T_SMALL, .n1 = "new", .mode = S_IFREG | 0644},
	{"mknod-split", FS_MKNOD, T_BIG, .n1 = "new", .mode = S_IFREG | 0644},
	{"fifo", FS_MKNOD, T_SMALL, .n1 = "new fifo", .mode = S_IFIFO | 0600},
	{"device", FS_MKNOD, T_EMPTY, .n1 = "new device", .mode = S_IFBLK | 0600},
	{"create", FS_CREATE, T_EMPTY, .n1 = "new", .mode = S_IFREG | 0600},
	{"tmpfile", FS_CREATE, T_SMALL, .n1 = "-", .mode = S_IFREG | 0600, .valid = FS_NO_NAME},
	{"tmpfile-link", FS_LINK, T_NAMELESS, T_EMPTY, .n1 = "named"},
	{"mkdir", FS_MKDIR, T_SMALL, .n1 = "new dir", .mode = S_IFDIR | 0755},
	{"symlink", FS_SYMLINK, T_SMALL, .n1 = "new link", .data_len = 30},
	{"symlink-long", FS_SYMLINK, T_ROOT, .n1 = "new link", .data_len = 4000},
	{"link", FS_LINK, T_A, T_SMALL, .n1 = "linked"},
	{"unlink", FS_UNLINK, T_SMALL, .n1 = "plain"},
	{"unlink-data", FS_UNLINK, T_SMALL, .n1 = "a", .frees = true},
	{"unlink-hard", FS_UNLINK, T_SMALL, .n1 = "hard"},
	{"unlink-open", FS_UNLINK, T_SMALL, .n1 = "open"},
	{"unlink-symlink", FS_UNLINK, T_SMALL, .n1 = "symlink"},
	{"unlink-big", FS_UNLINK, T_BIG, .n1 = "entry", .mode = 17},
	{"rmdir", FS_RMDIR, T_ROOT, .n1 = "empty"},
	{"rename", FS_RENAME, T_SMALL, T_SMALL, .n1 = "b", .n2 = "bb"},
	{"rename-move", FS_RENAME, T_SMALL, T_BIG, .n1 = "b", .n2 = "moved"},
	{"rename-over", FS_RENAME, T_SMALL, T_SMALL, .n1 = "b", .n2 = "a", .frees = true},
	{"rename-over-open", FS_RENAME, T_SMALL, T_SMALL, .n1 = "b", .n2 = "open"},
	{"rename-dir", FS_RENAME, T_SMALL, T_ROOT, .n1 = "sub", .n2 = "sub moved"},
	{"rename-dir-over", FS_RENAME, T_SMALL, T_ROOT, .n1 = "sub", .n2 = "empty"},
	{"rename-noreplace", FS_RENAME, T_SMALL, T_EMPTY, .n1 = "a", .n2 = "there", .flags = 1},
	{"rename-whiteout", FS_RENAME, T_SMALL, T_BIG, .n1 = "b", .n2 = "moved", .flags = 4},
	{"rename-whiteout-dir", FS_RENAME, T_SMALL, T_ROOT, .n1 = "sub", .n2 = "sub moved",
		.flags = 4},
	{"exchange", FS_RENAME, T_SMALL, T_SMALL, .n1 = "a", .n2 = "b", .flags = 2},
	{"exchange-dir", FS_RENAME, T_SMALL, T_ROOT, .n1 = "sub", .n2 = "file", .flags = 2},
	{"chmod", FS_SETATTR, T_A, .valid = FS_SET_MODE, .attr.mode = S_IFREG | 0640},
	{"chown", FS_SETATTR, T_SUID, .valid = FS_SET_UID | FS_SET_GID | FS_SET_KILL_SUID,
		.attr.uid = 5, .attr.gid = 6},
	{"utimes", FS_SETATTR, T_SMALL, .valid = FS_SET_ATIME | FS_SET_MTIME, .attr.atime_ns = 5,
		.attr.mtime_ns = -7},
	{"read-dir", FS_SETATTR, T_SMALL, .valid = FS_SET_READ,
		.attr.atime_ns = 1900000000000000000ll},
	{"truncate", FS_SETATTR, T_A, .valid = FS_SET_SIZE, .attr.size = 0, .frees = true},
	{"truncate-part", FS_SETATTR, T_A, .valid = FS_SET_SIZE, .attr.size = 3 * C, .frees = true},
	{"truncate-grow", FS_SETATTR, T_B, .valid = FS_SET_SIZE, .attr.size = 1000 * C},
	{"setxattr", FS_SETXATTR, T_A, .n1 = "user.x", .data_len = 40},
	{"setxattr-large", FS_SETXATTR, T_B, .n1 = "user.x", .data_len = 9000},
	{"setxattr-replace", FS_SETXATTR, T_HARD, .n1 = "user.x", .data_len = 5000},
	{"setxattr-dir", FS_SETXATTR, T_SMALL, .n1 = "trusted.y", .data_len = 100},
	{"setcap", FS_SETXATTR, T_A, .n1 = "security.capability", .data_len = 20},
	{"kill-caps", FS_SETATTR, T_HARD, .valid = FS_SET_KILL_CAPS},
	{"removexattr", FS_REMOVEXATTR, T_HARD, .n1 = "user.x"},
	{"allocate", FS_FALLOCATE, T_HOLES, .off = 2 * C, .len = 5 * C, .takes = true},
	{"allocate-keep", FS_FALLOCATE, T_B, .off = 20 * C, .len = 3 * C, .takes = true,
		.flags = FALLOC_FL_KEEP_SIZE},
	{"punch", FS_FALLOCATE, T_A, .off = C, .len = 2 * C, .frees = true,
		.flags = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE},
	{"zero-range", FS_FALLOCATE, T_B, .off = C, .len = 4 * C, .flags = FALLOC_FL_ZERO_RANGE},
	{"layout", FS_LAYOUT_GET, T_HOLES, .off = 0, .len = 3 * C, .flags = FS_LAYOUT_WRITE,
		.takes = true},
	{"write", FS_LAYOUT_GET, T_HOLES, .off = 4 * C, .len = 3 * C, .flags = FS_LAYOUT_WRITE,
		.writes = true, .takes = true},
	{"write-unwritten", FS_LAYOUT_GET, T_PRE, .off = C, .len = 3 * C, .flags = FS_LAYOUT_WRITE,
		.writes = true},
	{"write-append", FS_LAYOUT_GET, T_B, .off = 8 * C, .len = 4 * C, .flags = FS_LAYOUT_WRITE,
		.writes = true, .takes = true},
	{"append", FS_APPEND, T_SUID, .len = 100, .valid = FS_SET_KILL_SUID},
	{"close", FS_CLOSE, T_PRE, .frees = true},
	{"free-orphan", FS_FREE_ORPHAN, T_ORPHAN, .frees = true},
	{"truncate-many", FS_SETATTR, T_MANY, .valid = FS_SET_SIZE, .attr.size = 10 * C,
		.frees = true, .is_long = true},
	{"punch-many", FS_FALLOCATE, T_MANY, .off = 10 * C, .len = 100000 * C, .frees = true, .is_long = true,
		.flags = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE},
	{"zero-many", FS_FALLOCATE, T_MANY, .len = 2400 * C, .flags = FALLOC_FL_ZERO_RANGE, .takes = true,
		.is_long = true},
	{"unlink-many", FS_UNLINK, T_SMALL, .n1 = "many", .frees = true, .is_long = true},
	{"rename-over-many", FS_RENAME, T_SMALL, T_SMALL, .n1 = "b", .n2 = "many", .frees = true,
		.is_long = true},
	{"unlink-attrs", FS_UNLINK, T_SMALL, .n1 = "attrs", .is_long = true},
};
const uint32_t table_count = sizeof(table) / sizeof(table[0]);

const struct table_op table_reads[] = {
	{"lookup", FS_LOOKUP, T_SMALL, .n1 = "a"},
	{"lookup-b", FS_LOOKUP, T_SMALL, .n1 = "b"},
	{"getattr", FS_GETATTR, T_A, .off = 0},
	{"getattr-dir", FS_GETATTR, T_SMALL, .off = 0},
	{"open-holes", FS_OPEN, T_HOLES, .off = 0},
	{"fsync-a", FS_FSYNC, T_A, .off = 0},
	{"readdir", FS_READDIR, T_SMALL, .len = 8192},
	{"readdir-root", FS_READDIR, T_ROOT, .len = 8192},
	{"getxattr", FS_GETXATTR, T_HARD, .n1 = "user.x"},
	{"listxattr", FS_LISTXATTR, T_SMALL, .off = 0},
	{"readlink", FS_READLINK, T_SYMLINK, .off = 0},
	{"lseek", FS_LSEEK, T_A, .off = C, .flags = 3},
	{"layout-read", FS_LAYOUT_GET, T_A, .len = 8 * C},
	{"layout-holes", FS_LAYOUT_GET, T_HOLES, .len = 8 * C},
};
const uint32_t table_reads_count = sizeof(table_reads) / sizeof(table_reads[0]);

static uint8_t xs[65536];

void table_request(const struct table_op *o, struct fs_request *rq)
{
	memset(rq, 0, sizeof(*rq));
	rq->op = o->op;
	rq->ino = things[o->at];
	rq->ino2 = things[o->at2];
	rq->mode = o->mode;
	rq->flags = o->flags;
	rq->valid = o->valid;
	rq->off = o->off;
	rq->len = o->len;
	rq->attr = o->attr;
	rq->rdev = S_ISBLK(o->mode) ? 0x0801 : 0;
	rq->data = xs;
	rq->data_len = o->data_len;
	rq->cred = (struct fs_cred){1000, 100, 022};
	rq->id.node = 7;
	if (o->n1)
		(void)snprintf(rq->name, sizeof(rq->name), "%s", o->n1);
	if (o->n2)
		(void)snprintf(rq->name2, sizeof(rq->name2), "%s", o->n2);
	if (o->n1 && !strcmp(o->n1, "entry"))
		(void)snprintf(rq->name, sizeof(rq->name), "%0200u", o->mode);
}

/* ------------------------------------------------------------------ the volume */

static bool orphan_open; /* while the volume is made */

bool table_is_open(void *ctx, uint64_t ino)
{
	return ino == things[T_OPEN] || ino == things[T_NAMELESS] ||
	       (orphan_open && ino == things[T_ORPHAN]);
}

static void must(struct world *w, struct fs_request *rq, struct fs_reply *rp)
{
	static struct fs_extent x[64];
	int err;

	if (!rp->extents) {
		rp->extents = x;
		rp->extent_room = 64;
	}
	rq->time_ns = 1700000000000000000ll;
	rq->id.node = 7;
	err = world_request(w, rq, rp);
	if (err)
		fprintf(stderr, "%s: error %d\n", fs_op_name(rq->op), err);
	csv_assert(err == 0);
}

static uint64_t make(
	struct world *w, enum thing dir, const char *name, enum fs_op op, uint32_t mode)
{
	struct fs_request rq = {.op = op, .ino = things[dir], .mode = mode, .data = xs};
	struct fs_reply rp = {.err = 0};

	rq.data_len = op == FS_SYMLINK ? 2000 : 0;
	(void)snprintf(rq.name, sizeof(rq.name), "%s", name);
	must(w, &rq, &rp);
	return rp.attr.ino;
}

static uint64_t file(struct world *w, const char *name)
{
	return make(w, T_SMALL, name, FS_MKNOD, S_IFREG | 0644);
}

/* What data of this file's cluster begins with. */
static void write_data(struct world *w, uint64_t ino, uint64_t off, uint64_t clusters)
{
	struct fs_request rq = {.op = FS_LAYOUT_GET,
		.ino = ino,
		.off = off,
		.len = clusters * C,
		.flags = FS_LAYOUT_WRITE};
	struct fs_reply rp = {.err = 0};
	struct fs_extent x[8];
	uint64_t page[C / 8] = {0};

	must(w, &rq, &rp);
	csv_assert(rp.extent_count <= 8);
	memcpy(x, rp.extents, rp.extent_count * sizeof(x[0]));
	rq = (struct fs_request){.op = FS_LAYOUT_COMMIT,
		.ino = ino,
		.extents = x,
		.valid = FS_SET_SIZE,
		.attr.size = off + clusters * C};
	for (uint32_t i = 0; i < rp.extent_count; i++) {
		if (x[i].off >= off + clusters * C)
			break;
		if (x[i].off + x[i].len > off + clusters * C)
			x[i].len = off + clusters * C - x[i].off;
		for (uint64_t o = 0; o < x[i].len; o += C) {
			page[0] = 0xdada000000000000ull ^ ino << 20 ^ (x[i].off + o) / C;
			disk_write_now(w->disk, x[i].lun_off + o, page, C);
		}
		rq.extent_count++;
	}
	rp = (struct fs_reply){.err = 0};
	must(w, &rq, &rp);
}

static void allocate(struct world *w, uint64_t ino, uint64_t off, uint64_t len, uint32_t flags)
{
	struct fs_request rq = {
		.op = FS_FALLOCATE, .ino = ino, .off = off, .len = len, .flags = flags};
	struct fs_reply rp = {.err = 0};

	must(w, &rq, &rp);
}

static void set_xattr(struct world *w, uint64_t ino, const char *name, uint32_t len)
{
	struct fs_request rq = {.op = FS_SETXATTR, .ino = ino, .data = xs, .data_len = len};
	struct fs_reply rp = {.err = 0};

	(void)snprintf(rq.name, sizeof(rq.name), "%s", name);
	must(w, &rq, &rp);
}

static void remove_name(struct world *w, const char *name)
{
	struct fs_request rq = {.op = FS_UNLINK, .ino = things[T_SMALL]};
	struct fs_reply rp = {.err = 0};

	(void)snprintf(rq.name, sizeof(rq.name), "%s", name);
	must(w, &rq, &rp);
}

static void make_dirs(struct world *w)
{
	char name[NAME_BYTES_MAX + 1];

	things[T_ROOT] = le64_get(vol_super(w->vol)->root_ino);
	things[T_BIG] = make(w, T_ROOT, "big", FS_MKDIR, S_IFDIR | 0755);
	things[T_SMALL] = make(w, T_ROOT, "small", FS_MKDIR, S_IFDIR | 02755);
	things[T_EMPTY] = make(w, T_ROOT, "empty", FS_MKDIR, S_IFDIR | 0755);
	things[T_SUB] = make(w, T_SMALL, "sub", FS_MKDIR, S_IFDIR | 0755);
	things[T_SUB_EMPTY] = make(w, T_SUB, "sub", FS_MKDIR, S_IFDIR | 0755);
	(void)make(w, T_ROOT, "file", FS_MKNOD, S_IFREG | 0600);
	for (uint32_t i = 0; i < 22; i++) {
		(void)snprintf(name, sizeof(name), "%0200u", i);
		(void)make(w, T_BIG, name, FS_MKNOD, S_IFREG | 0644);
	}
}

static void make_files(struct world *w)
{
	struct fs_request rq = {.op = FS_LINK};
	struct fs_reply rp = {.err = 0};

	(void)file(w, "plain");
	write_data(w, things[T_A] = file(w, "a"), 0, 6);
	write_data(w, things[T_A], 9 * C, 3);
	write_data(w, things[T_B] = file(w, "b"), 0, 8);
	things[T_HARD] = file(w, "hard");
	rq.ino = things[T_HARD];
	rq.ino2 = things[T_SUB];
	(void)strcpy(rq.name, "hard2");
	must(w, &rq, &rp);
	set_xattr(w, things[T_HARD], "user.x", 300);
	set_xattr(w, things[T_HARD], "user.large", 20000);
	set_xattr(w, things[T_HARD], "security.capability", 20);
	things[T_PRE] = file(w, "pre");
	allocate(w, things[T_PRE], 0, 6 * C, 0);
	allocate(w, things[T_PRE], 6 * C, 9 * C, FALLOC_FL_KEEP_SIZE);
	things[T_HOLES] = file(w, "holes");
	rq = (struct fs_request){
		.op = FS_SETATTR, .ino = things[T_HOLES], .valid = FS_SET_SIZE, .attr.size = 8 * C};
	rp = (struct fs_reply){.err = 0};
	must(w, &rq, &rp);
	things[T_SUID] = make(w, T_SMALL, "suid", FS_MKNOD, S_IFREG | 06755);
	things[T_OPEN] = file(w, "open");
	write_data(w, things[T_OPEN], 0, 2);
	things[T_SYMLINK] = make(w, T_SMALL, "symlink", FS_SYMLINK, 0);
	things[T_FIFO] = make(w, T_SMALL, "pipe", FS_MKNOD, S_IFIFO | 0600);
	rq = (struct fs_request){.op = FS_CREATE,
		.ino = things[T_SMALL],
		.mode = S_IFREG | 0600,
		.valid = FS_NO_NAME};
	(void)strcpy(rq.name, "-");
	rp = (struct fs_reply){.err = 0};
	must(w, &rq, &rp);
	things[T_NAMELESS] = rp.attr.ino;
	write_data(w, things[T_NAMELESS], 0, 2);
	orphan_open = true;
	things[T_ORPHAN] = file(w, "orphan");
	write_data(w, things[T_ORPHAN], 0, 3);
	remove_name(w, "orphan");
	orphan_open = false;
}

/* More than one transaction can free: those that are long. */
static void make_long(struct world *w)
{
	things[T_MANY] = file(w, "many");
	write_data(w, things[T_MANY], 0, 3);
	for (uint64_t i = 0; i < 1200; i++)
		allocate(w, things[T_MANY], (4 + 2 * i) * C, C, 0);
	things[T_ATTRS] = file(w, "attrs");
	for (char c = 'a'; c < 'h'; c++) {
		char name[] = {'u', 's', 'e', 'r', '.', c, 0};

		set_xattr(w, things[T_ATTRS], name, 65536);
	}
}

/* Everything that data may have. An aligned chunk of it is given back. */
static void fill(struct world *w, bool hole)
{
	struct fs_request rq = {.op = FS_STATFS};
	struct fs_reply rp;
	uint64_t end = 0;

	things[T_FILL] = file(w, "fill");
	for (;;) {
		rp = (struct fs_reply){.err = 0};
		must(w, &rq, &rp);
		if (!rp.statfs.bavail)
			break;
		allocate(w, things[T_FILL], end, rp.statfs.bavail * C, 0);
		end += rp.statfs.bavail * C;
	}
	if (!hole)
		return;
	rq = (struct fs_request){.op = FS_LAYOUT_GET, .ino = things[T_FILL], .len = end};
	rp = (struct fs_reply){.err = 0};
	must(w, &rq, &rp);
	for (uint32_t i = 0; i < rp.extent_count; i++) {
		const struct fs_extent *x = &rp.extents[i];
		uint64_t skip = -x->lun_off % CHUNK_SIZE;

		if (x->len < skip + CHUNK_SIZE)
			continue;
		allocate(w, things[T_FILL], x->off + skip, CHUNK_SIZE,
			FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
		return;
	}
	csv_assert(!"an aligned chunk of the file");
}

void table_fixture(struct world *w, struct disk *d, enum fixture kind)
{
	memset(xs, 'x', sizeof(xs));
	memset(things, 0, sizeof(things));
	w->ino_is_open = table_is_open;
	world_mkfs(w, d, (uint32_t)C);
	world_open(w, d);
	world_settle(w, true);
	make_dirs(w);
	make_files(w);
	if (kind == FIXTURE_LONG)
		make_long(w);
	if (kind == FIXTURE_FULL || kind == FIXTURE_HOLE)
		fill(w, kind == FIXTURE_HOLE);
	world_settle(w, true);
	vol_close(w->vol, w->fx);
	world_settle(w, true);
	csv_assert(vol_state(w->vol) == VOL_CLOSED);
	world_abandon(w);
}
