/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fsck library: it finds nothing on a sound volume, something on every damaged one, and neither
 * crashes nor runs on, whatever it is given.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "csvfs/base/claim.h"
#include "csvfs/base/prng.h"
#include "metadata/fields.h"
#include "metadata/format_inode.h"
#include "metadata/ops.h"
#include "metadata/run_sync.h"
#include "tools/check/check.h"

#define VOLUME_BYTES (32u << 20)
#define BLOCKS (VOLUME_BYTES / BLOCK_SIZE)
#define MEM_BYTES (64u << 20)
/* A check of a volume of this size reads each block a few times; more is running in circles. */
#define READS_MAX (BLOCKS * 8)

/* ------------------------------------------------------------------ a volume in memory */

static uint8_t *disk;	 /* the volume that tests look at and damage */
static uint8_t *sound;	 /* as it was */
static uint8_t *region;	 /* memory of the check */
static uint64_t reads;
static uint64_t bad_block = NEVER; /* cannot be read */
static bool used[BLOCKS]; /* blocks of the sound volume whose content counts */

static int mem_read(void *ctx, uint64_t off, void *buf, uint64_t len)
{
	assert_true(off <= VOLUME_BYTES && len <= VOLUME_BYTES - off);
	memcpy(buf, disk + off, len);
	return 0;
}

static int mem_write(void *ctx, uint64_t off, const void *buf, uint64_t len, bool fua)
{
	assert_true(off <= VOLUME_BYTES && len <= VOLUME_BYTES - off);
	memcpy(disk + off, buf, len);
	return 0;
}

static int mem_flush(void *ctx)
{
	return 0;
}

static const struct sync_dev sync_dev = {
	.bytes = VOLUME_BYTES, .read = mem_read, .write = mem_write, .flush = mem_flush};

static int check_read(void *ctx, uint64_t off, void *buf, uint32_t len)
{
	reads++;
	if (bad_block != NEVER && off <= bad_block * BLOCK_SIZE && bad_block * BLOCK_SIZE < off + len)
		return -EIO;
	return mem_read(ctx, off, buf, len);
}

/* ------------------------------------------------------------------ checking */

static struct check_report rep;
static bool verbose;
static char first_problem[512];

static void on_problem(void *ctx, const struct check_problem *p)
{
	char text[512];

	check_problem_text(p, text, sizeof(text));
	if (problem_severity(p->code) == SEVERITY_NOTE)
		return;
	if (!first_problem[0])
		snprintf(first_problem, sizeof(first_problem), "%s", text);
	if (verbose)
		print_message("  %s\n", text);
}

/* Number of faults; the report is in rep. */
static uint64_t check(void)
{
	const struct check_dev dev = {.read = check_read, .bytes = VOLUME_BYTES};
	struct check_options o = {.on_problem = on_problem};
	struct mem mem;
	int err;

	mem_init(&mem, region, MEM_BYTES);
	o.mem = &mem;
	reads = 0;
	first_problem[0] = 0;
	err = check_volume(&dev, &o, &rep);
	assert_true(err == 0 || err == -EUCLEAN);
	assert_true(err == 0 || rep.by_severity[SEVERITY_FATAL]);
	assert_true(reads <= READS_MAX);
	return check_faults(&rep);
}

static void assert_clean(void)
{
	verbose = true;
	assert_int_equal(check(), 0);
	verbose = false;
}

/* ------------------------------------------------------------------ a volume with everything on it */

static struct run_sync *rs;

static bool keep_open(void *ctx, uint64_t ino)
{
	return true;
}

static int request(struct fs_request *rq, struct fs_reply *rp)
{
	static uint64_t seq;

	rq->time_ns = 1700000000000000000;
	if (fs_op_needs_slot(rq->op))
		rq->id = (struct fs_reqid){.node = 7, .slot = 3, .life = 99, .seq = ++seq};
	return run_sync_request(rs, rq, rp);
}

static uint64_t make(uint64_t parent, const char *name, enum fs_op op, uint32_t mode, const void *data,
	uint32_t len)
{
	struct fs_request rq = {.op = op, .ino = parent, .mode = mode, .data = data, .data_len = len};
	struct fs_reply rp = {0};

	snprintf(rq.name, sizeof(rq.name), "%s", name);
	assert_int_equal(request(&rq, &rp), 0);
	return rp.attr.ino;
}

static void named(uint64_t parent, const char *name, enum fs_op op, uint64_t ino2)
{
	struct fs_request rq = {.op = op, .ino = parent, .ino2 = ino2};
	struct fs_reply rp = {0};

	if (op == FS_LINK) {
		rq.ino = ino2;
		rq.ino2 = parent;
	}
	snprintf(rq.name, sizeof(rq.name), "%s", name);
	assert_int_equal(request(&rq, &rp), 0);
}

static void set_xattr(uint64_t ino, const char *name, uint32_t len)
{
	static uint8_t value[XATTR_BYTES_MAX];
	struct fs_request rq = {.op = FS_SETXATTR, .ino = ino, .data = value, .data_len = len};
	struct fs_reply rp = {0};

	memset(value, 'x', sizeof(value));
	snprintf(rq.name, sizeof(rq.name), "%s", name);
	assert_int_equal(request(&rq, &rp), 0);
}

/* Space for [off, off + len), and the first half of it written. */
static void allocate(uint64_t ino, uint64_t off, uint64_t len)
{
	struct fs_extent extents[EXTENTS_PER_REPLY];
	struct fs_request rq = {
		.op = FS_LAYOUT_GET, .ino = ino, .off = off, .len = len, .flags = FS_LAYOUT_WRITE};
	struct fs_reply rp = {.extents = extents, .extent_room = EXTENTS_PER_REPLY};
	struct fs_extent written;

	assert_int_equal(request(&rq, &rp), 0);
	assert_true(rp.extent_count > 0);
	written = extents[0];
	rq = (struct fs_request){.op = FS_LAYOUT_COMMIT, .ino = ino, .extent_count = 1,
		.extents = &written, .valid = FS_SET_SIZE};
	rq.attr.size = off + len;
	rp = (struct fs_reply){0};
	assert_int_equal(request(&rq, &rp), 0);
}

static void open_volume(void)
{
	const struct run_sync_config cfg = {
		.dev = &sync_dev, .ops = &metadata_ops, .ino_is_open = keep_open};
	char why[256] = "";

	if (run_sync_open(&cfg, &rs, why))
		fail_msg("%s", why);
}

static void make_volume(uint32_t cluster_bytes)
{
	struct image_params p = {.cluster_bytes = cluster_bytes, .label = "test", .time_ns = 1};
	char why[256] = "";

	memset(disk, 0, VOLUME_BYTES);
	memset(p.uuid, 0x5a, 16);
	memset(p.dir_hash_key, 0xa5, 16);
	if (run_sync_mkfs(&sync_dev, &p, &metadata_ops, NULL, why))
		fail_msg("%s", why);
}

static uint64_t root(void)
{
	return le64_get(((struct disk_super *)disk)->root_ino);
}

/* Every kind of block, every kind of record. */
static void fill_volume(void)
{
	char name[NAME_BYTES_MAX + 1], target[3000];
	uint64_t dir, file, sub;

	memset(target, 't', sizeof(target));
	dir = make(root(), "dir", FS_MKDIR, S_IFDIR | 0755, NULL, 0);
	sub = make(dir, "sub", FS_MKDIR, S_IFDIR | 0755, NULL, 0);
	make(sub, "subsub", FS_MKDIR, S_IFDIR | 0755, NULL, 0);
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "a file with a name that is not short, number %d", i);
		make(dir, name, FS_MKNOD, S_IFREG | 0644, NULL, 0);
	}
	allocate(make(root(), "one", FS_MKNOD, S_IFREG | 0644, NULL, 0), 0, 4096);
	allocate(make(root(), "two", FS_MKNOD, S_IFREG | 0644, NULL, 0), 0, 4096);
	make(root(), "fast", FS_SYMLINK, 0, "target", 6);
	make(root(), "slow", FS_SYMLINK, 0, target, sizeof(target));
	make(root(), "fifo", FS_MKNOD, S_IFIFO | 0600, NULL, 0);
	file = make(sub, "data", FS_MKNOD, S_IFREG | 0644, NULL, 0);
	named(root(), "hard link", FS_LINK, file);
	set_xattr(file, "user.small", 20);
	set_xattr(file, "user.large", 20000);
	for (uint64_t i = 0; i < 60; i++)
		allocate(file, i * 3 * (128 << 10), 4096);
	file = make(root(), "orphan", FS_MKNOD, S_IFREG | 0644, NULL, 0);
	allocate(file, 0, 4096);
	named(root(), "orphan", FS_UNLINK, 0);
}

static void restore(void)
{
	memcpy(disk, sound, VOLUME_BYTES);
}

static void restore_block(uint64_t blkno)
{
	memcpy(disk + blkno * BLOCK_SIZE, sound + blkno * BLOCK_SIZE, BLOCK_SIZE);
}

static const struct block_layout *layout_at(uint64_t blkno)
{
	le32 magic;

	memcpy(&magic, sound + blkno * BLOCK_SIZE, sizeof(magic));
	return fields_of(le32_get(magic));
}

/* In use: the check reads it, so that a wrong checksum there is found. */
static bool in_use(uint64_t blkno)
{
	bool found;

	if (!layout_at(blkno))
		return false;
	disk[blkno * BLOCK_SIZE + 4] ^= 1;
	found = check() > 0;
	restore_block(blkno);
	return found;
}

static int setup(void **state)
{
	region = aligned_alloc(4096, MEM_BYTES);
	disk = aligned_alloc(4096, VOLUME_BYTES);
	sound = aligned_alloc(4096, VOLUME_BYTES);
	if (!region || !disk || !sound)
		return -1;
	make_volume(4096);
	open_volume();
	fill_volume();
	if (run_sync_close(rs))
		return -1;
	memcpy(sound, disk, VOLUME_BYTES);
	for (uint64_t b = 0; b < BLOCKS; b++)
		used[b] = in_use(b);
	return 0;
}

static int teardown(void **state)
{
	free(region);
	free(disk);
	free(sound);
	return 0;
}

/* ------------------------------------------------------------------ sound volumes */

static void a_new_volume_is_clean(void **state)
{
	static const uint32_t sizes[] = {4096, 65536, 1 << 20};

	for (unsigned i = 0; i < 3; i++) {
		make_volume(sizes[i]);
		assert_clean();
		assert_int_equal(rep.directories, 1);
	}
	restore();
}

static void a_used_volume_is_clean_and_counted(void **state)
{
	restore();
	assert_clean();
	assert_int_equal(rep.directories, 4);
	assert_int_equal(rep.files, 304);
	assert_int_equal(rep.symlinks, 2);
	assert_int_equal(rep.others, 1);
	assert_int_equal(rep.orphans, 1);
	assert_false(rep.replayed);
}

static void a_crashed_volume_is_checked_as_replay_will_leave_it(void **state)
{
	make_volume(4096);
	open_volume();
	fill_volume();
	run_sync_crash(rs);
	assert_clean();
	assert_true(rep.replayed);
	assert_true(rep.count[PROBLEM_JOURNAL_NEEDED] > 0);
	assert_int_equal(rep.files, 304);
	restore();
}

struct place {
	uint64_t blkno; /* of the record's header */
	uint64_t seq;
	uint32_t count;
};

/* Records that a replay would take, oldest first; how many. */
static uint32_t journal_records(struct place *out, uint32_t room, uint64_t *head_seq)
{
	const struct disk_super *s = (const struct disk_super *)disk;
	const uint64_t start = le64_get(s->journal_start) + JOURNAL_HEADS;
	const uint64_t blocks = le64_get(s->journal_blocks) - JOURNAL_HEADS;
	const struct disk_jhead *h = (const struct disk_jhead *)(disk + (start - 2) * BLOCK_SIZE);
	const struct disk_jhead *h2 = (const struct disk_jhead *)(disk + (start - 1) * BLOCK_SIZE);
	uint64_t pos, seq;
	uint32_t n = 0;

	if (le64_get(h2->count) > le64_get(h->count))
		h = h2;
	pos = le64_get(h->tail_pos);
	*head_seq = le64_get(h->head_seq);
	for (seq = le64_get(h->tail_seq); n < room; seq++) {
		const uint64_t b = start + pos % blocks;
		const struct disk_jrec *r = (const struct disk_jrec *)(disk + b * BLOCK_SIZE);

		if (le32_get(r->magic) != MAGIC_JREC || le64_get(r->seq) != seq)
			break;
		out[n++] = (struct place){b, seq, le32_get(r->count)};
		pos += 1 + le32_get(r->count);
	}
	return n;
}

/* A crash may tear the last commit: then it did not happen, and that is no fault. */
static void a_torn_last_record_is_as_if_it_was_not_there(void **state)
{
	static struct place at[4096];
	uint64_t head_seq;
	uint32_t n;

	make_volume(4096);
	open_volume();
	fill_volume();
	make(root(), "last", FS_MKNOD, S_IFREG | 0644, NULL, 0);
	run_sync_crash(rs);
	n = journal_records(at, 4096, &head_seq);
	assert_in_range(n, 2, 4095);
	assert_true(at[n - 1].seq >= head_seq);
	assert_clean();
	assert_int_equal(rep.files, 305);
	for (uint32_t i = 0; i <= at[n - 1].count; i++) {
		uint8_t *byte = disk + (at[n - 1].blkno + i) * BLOCK_SIZE + 200 + i;

		*byte ^= 4;
		assert_clean();
		assert_int_equal(rep.files, 304);
		*byte ^= 4;
	}
	restore();
}

/* What the head says was durable must be there. */
static void a_hole_in_the_needed_part_of_the_journal_is_found(void **state)
{
	struct disk_jhead *h;
	struct place at[16];
	uint64_t head_seq;

	make_volume(4096);
	open_volume();
	fill_volume();
	run_sync_crash(rs);
	assert_true(journal_records(at, 16, &head_seq) > 2);
	for (uint64_t i = 0; i < JOURNAL_HEADS; i++) {
		h = (struct disk_jhead *)(disk +
					  (le64_get(((struct disk_super *)disk)->journal_start) + i) * BLOCK_SIZE);
		h->head_seq = le64_of(at[2].seq);
		fields_seal(h);
	}
	assert_clean();
	disk[at[1].blkno * BLOCK_SIZE + 50] ^= 1;
	assert_true(check() > 0);
	assert_int_equal(rep.count[PROBLEM_JOURNAL_RECORD], 1);
	restore();
}

/* ------------------------------------------------------------------ damage */

static void a_flipped_byte_in_each_type_of_block_is_found(void **state)
{
	static const uint32_t types[] = {MAGIC_SUPER, MAGIC_SUMMARY, MAGIC_GROUP, MAGIC_CHUNK, MAGIC_REPLY,
		MAGIC_INODE, MAGIC_TREE, MAGIC_XATTR};
	uint32_t tried[8] = {0};
	struct prng r = {1};

	restore();
	for (uint64_t b = 0; b < BLOCKS; b++) {
		const struct block_layout *l = layout_at(b);

		for (unsigned t = 0; l && t < 8; t++) {
			if (l->magic != types[t] || tried[t] >= 5 || !used[b])
				continue;
			tried[t]++;
			for (unsigned i = 0; i < 40; i++) {
				disk[b * BLOCK_SIZE + prng_below(&r, BLOCK_SIZE)] ^= (uint8_t)(1u << (i % 8));
				if (!check())
					fail_msg("block %u (%s): a flipped byte was not found", (unsigned)b,
						l->name);
				restore_block(b);
			}
		}
	}
	for (unsigned t = 0; t < 8; t++)
		assert_true(tried[t] > 0);
}

static void a_block_that_cannot_be_read_is_named(void **state)
{
	restore();
	for (uint64_t b = 0; b < BLOCKS; b++) {
		if (!used[b])
			continue;
		bad_block = b;
		assert_true(check() > 0);
		bad_block = NEVER;
	}
}

/* Fields in which any value may be right, or which nothing else on the volume can confirm. */
static const char *const any_value[] = {"crc", "lsn", "epoch", "compat", "rocompat", "created_ns",
	"label", "cluster_name", "lun_identity", "life", "node", "e.seq", "e.ino", "e.generation",
	"e.off", "data", "inode.uid", "inode.gid", "inode.atime_ns", "inode.mtime_ns",
	"inode.ctime_ns", "inode.btime_ns", "inode.version", "inode.generation", NULL};

static bool confirmed(const uint8_t *block, const struct field *f, uint32_t at)
{
	const struct disk_inode_block *b = (const struct disk_inode_block *)block;
	const struct disk_tree_block *t = (const struct disk_tree_block *)block;
	struct disk_node n;

	for (unsigned i = 0; any_value[i]; i++)
		if (!strcmp(any_value[i], f->name))
			return false;
	if (!strcmp(f->name, "inode.size"))
		return !S_ISREG(le32_get(b->slot[at].mode));
	memcpy(&n, t->node, sizeof(n));
	/* The last copy of the superblock keeps the roots of the day it was made. */
	if (strstr(f->name, "_root") || !strcmp(f->name, "root_ino"))
		return le64_get(b->h.blkno) != BLOCKS - 1;
	if (!strncmp(f->name, "slot.", 5))
		return at < le16_get(n.count);
	/* A free slot of the reply cache. */
	if (!strncmp(f->name, "e.", 2))
		return le64_get(((const struct disk_reply_block *)block)->life) != 0;
	return true;
}

static void change(uint8_t *block, const struct field *f, uint32_t at)
{
	uint64_t v;

	if (!field_get(block, f, at, &v)) {
		block[field_offset(f, at)] ^= 1;
		return;
	}
	if (f->type == FIELD_BIT)
		v = !v;
	else if (!strcmp(f->name, "slot.key"))
		v ^= 1ull << 62; /* a cookie's low bits may be any */
	else if (!strcmp(f->name, "inode.mode"))
		v ^= 0170000; /* so may permissions */
	else if (!strcmp(f->name, "e.op"))
		v = 99;
	else
		v++;
	if (!field_set(block, f, at, v))
		assert_true(field_set(block, f, at, 0));
}

/* Each field of a few blocks of each type is changed, and the block sealed again. */
static void a_changed_field_is_found_though_the_checksum_is_right(void **state)
{
	uint32_t tried[32] = {0}, missed = 0, changed = 0;

	restore();
	for (uint64_t b = 0; b < BLOCKS; b++) {
		const struct block_layout *l = layout_at(b);
		uint8_t *block = disk + b * BLOCK_SIZE;

		if (!used[b] || tried[l->magic >> 24 & 31]++ >= 4)
			continue;
		for (uint32_t i = 0; i < l->field_count; i++) {
			const struct field *f = &l->fields[i];
			uint32_t step = f->count > 300 ? 31 : f->count > 64 ? 7 : 1;

			for (uint32_t at = 0; at < f->count; at += step) {
				if (!confirmed(block, f, at))
					continue;
				change(block, f, at);
				fields_seal(block);
				changed++;
				if (!check() && missed++ < 20)
					print_message("block %u (%s): %s[%u] was not found\n", (unsigned)b,
						l->name, f->name, f->first + at);
				restore_block(b);
			}
		}
	}
	print_message("%u fields changed\n", changed);
	assert_int_equal(missed, 0);
}

/* ------------------------------------------------------------------ what only all blocks together show */

/* The place of a record: whose value has `tail` at its end. Every name below is there once. */
static uint8_t *entry(const char *name)
{
	const size_t n = strlen(name);

	for (uint64_t b = 0; b < BLOCKS; b++) {
		uint8_t *p = disk + b * BLOCK_SIZE;

		if (!used[b] || (layout_at(b)->magic != MAGIC_INODE && layout_at(b)->magic != MAGIC_TREE))
			continue;
		for (size_t i = 64 + DIRENT_BYTES; i + n <= BLOCK_SIZE; i++)
			if (!memcmp(p + i, name, n) && p[i - 1] < 16 && p[i - 2] == 0)
				return p + i - DIRENT_BYTES;
	}
	fail_msg("no entry %s", name);
	return NULL;
}

static uint64_t entry_ino(const char *name)
{
	le64 v;

	memcpy(&v, entry(name), sizeof(v));
	return le64_get(v);
}

static void seal(const void *p)
{
	fields_seal(disk + ((const uint8_t *)p - disk) / BLOCK_SIZE * BLOCK_SIZE);
}

static void set_entry(const char *name, uint64_t ino)
{
	uint8_t *p = entry(name);
	le64 v = le64_of(ino);

	memcpy(p, &v, sizeof(v));
	seal(p);
}

static struct disk_inode *inode(uint64_t ino)
{
	struct disk_inode_block *b = (struct disk_inode_block *)(disk + INO_BLOCK(ino) * BLOCK_SIZE);

	return &b->slot[INO_SLOT(ino) - 1];
}

/* The first extent of a file whose extents are all in its inode. */
static struct disk_extent *extent(uint64_t ino)
{
	uint8_t *node = inode(ino)->area;
	struct disk_slot s;

	assert_int_equal(node[1], 0);
	memcpy(&s, node + sizeof(struct disk_node), sizeof(s));
	return (struct disk_extent *)(node + le16_get(s.off));
}

static void finds(enum problem p)
{
	assert_true(check() > 0);
	if (!rep.count[p]) {
		verbose = true;
		(void)check();
		verbose = false;
		fail_msg("%s was not found", problem_name(p));
	}
	restore();
}

static void two_files_with_one_cluster_are_both_named(void **state)
{
	struct disk_extent *a, *b;

	restore();
	a = extent(entry_ino("one"));
	b = extent(entry_ino("two"));
	a->start = b->start;
	seal(a);
	assert_true(check() > 0);
	assert_int_equal(rep.count[PROBLEM_CLUSTER_DOUBLE], 2);
	finds(PROBLEM_CLUSTER_LEAK);
}

static void an_extent_must_lie_in_clusters_for_data(void **state)
{
	const struct disk_super *s = (const struct disk_super *)sound;
	struct disk_extent *x;

	restore();
	x = extent(entry_ino("one"));
	x->start = le64_of(INO_BLOCK(entry_ino("one"))); /* clusters are blocks here */
	seal(x);
	finds(PROBLEM_CLUSTER_IN_META);
	x->start = le64_of(1);
	seal(x);
	finds(PROBLEM_CLUSTER_IN_META);
	x->start = le64_of(le64_get(s->cluster_count) - 1); /* the superblock's last copy */
	x->len = le32_of(1);
	seal(x);
	finds(PROBLEM_CLUSTER_IN_META);
	x->start = le64_of(le64_get(s->cluster_count) - 2);
	x->len = le32_of(1);
	seal(x);
	finds(PROBLEM_CLUSTER_IN_RESERVE);
	x->start = s->cluster_count;
	seal(x);
	finds(PROBLEM_EXTENT_RANGE);
	x->start = le64_of(UINT64_MAX);
	seal(x);
	finds(PROBLEM_EXTENT_RANGE);
	x->start = le64_of(le64_get(s->cluster_count) - 2 - le32_get(x->len));
	seal(x);
	finds(PROBLEM_CLUSTER_NOT_MARKED);
	x->len = le32_of(UINT32_MAX);
	seal(x);
	finds(PROBLEM_EXTENT_RANGE);
}

static void directories_that_contain_each_other_are_a_loop(void **state)
{
	uint64_t dir = entry_ino("dir"), subsub = entry_ino("subsub");

	restore();
	set_entry("dir", subsub);
	set_entry("subsub", dir);
	finds(PROBLEM_DIR_LOOP);
}

static void a_directory_has_one_name(void **state)
{
	restore();
	set_entry("subsub", entry_ino("dir"));
	finds(PROBLEM_DIR_TWO_PARENTS);
	set_entry("subsub", entry_ino("dir"));
	finds(PROBLEM_INODE_UNREACHABLE); /* what was subsub */
}

static void a_name_leads_to_an_inode_in_use(void **state)
{
	restore();
	set_entry("one", entry_ino("two"));
	finds(PROBLEM_INODE_NLINK);
	set_entry("one", 0);
	finds(PROBLEM_DIRENT_INO);
	set_entry("one", UINT64_MAX);
	finds(PROBLEM_DIRENT_INO);
	set_entry("one", (BLOCKS - 3) * 8 + 1);
	finds(PROBLEM_DIRENT_INO);
	set_entry("fifo", entry_ino("one"));
	finds(PROBLEM_DIRENT_TYPE);
}

static void names_are_possible_and_where_their_hash_says(void **state)
{
	static const char bad[] = {'/', 0};
	uint8_t *p;

	for (unsigned i = 0; i < 2; i++) {
		restore();
		p = entry("one");
		p[DIRENT_BYTES] = (uint8_t)bad[i];
		seal(p);
		finds(PROBLEM_DIRENT_NAME);
	}
	p = entry("one");
	p[DIRENT_BYTES] = 'O';
	seal(p);
	finds(PROBLEM_DIRENT_HASH);
}

static void an_orphan_is_in_the_list(void **state)
{
	struct disk_super *s = (struct disk_super *)disk;

	restore();
	assert_int_not_equal(le64_get(s->orphan_root), 0);
	s->orphan_root = le64_of(0);
	memcpy(&((struct disk_super *)(disk + SUPER_COPY_BLOCK * BLOCK_SIZE))->orphan_root, &s->orphan_root, 8);
	seal(disk);
	seal(disk + SUPER_COPY_BLOCK * BLOCK_SIZE);
	finds(PROBLEM_ORPHAN_NOT_LISTED);
}

static void flags_and_intents_agree(void **state)
{
	struct disk_inode *d;

	restore();
	d = inode(entry_ino("one"));
	d->flags = le32_of(INODE_TRUNCATE);
	seal(d);
	finds(PROBLEM_INTENT_NOT_LISTED);
	d->flags = le32_of(INODE_ORPHAN);
	seal(d);
	finds(PROBLEM_INODE_FLAGS);
	d->flags = le32_of(1u << 31);
	seal(d);
	finds(PROBLEM_INODE_FLAGS);
}

static void a_block_that_nothing_uses_is_leaked(void **state)
{
	restore();
	for (uint64_t b = 0; b < BLOCKS; b += CHUNK_BLOCKS) {
		struct disk_chunk *d = (struct disk_chunk *)(disk + b * BLOCK_SIZE);

		if (!used[b] || le32_get(d->h.magic) != MAGIC_CHUNK || le32_get(d->is_inode))
			continue;
		assert_false(d->used[31] & 0x80);
		d->used[31] |= 0x80;
		d->used_blocks = le32_of(le32_get(d->used_blocks) + 1);
		seal(d);
		assert_int_equal(check(), 1);
		finds(PROBLEM_BLOCK_LEAK);
		return;
	}
	fail();
}

/* The root of the large directory's tree: a node with children. */
static uint8_t *inner_node(void)
{
	uint8_t *node = inode(entry_ino("dir"))->area;

	assert_int_equal(node[1], 1);
	assert_true(node[2] >= 2);
	return node;
}

static void a_block_is_followed_once(void **state)
{
	struct disk_slot s[2];
	uint8_t *node;

	restore();
	node = inner_node();
	memcpy(s, node + sizeof(struct disk_node), sizeof(s));
	memcpy(node + le16_get(s[1].off), node + le16_get(s[0].off), 8);
	seal(node);
	finds(PROBLEM_BLOCK_DOUBLE);
}

static void keys_are_in_order_and_within_bounds(void **state)
{
	struct disk_slot s[3];
	uint8_t *node;
	le64 child;

	restore();
	node = inner_node();
	memcpy(s, node + sizeof(struct disk_node), sizeof(s));
	memcpy(&child, node + le16_get(s[0].off), 8);
	memcpy(node + le16_get(s[0].off), node + le16_get(s[1].off), 8);
	memcpy(node + le16_get(s[1].off), &child, 8);
	seal(node);
	finds(PROBLEM_TREE_BOUNDS);

	node = disk + le64_get(child) * BLOCK_SIZE + sizeof(struct disk_header) + sizeof(struct disk_node);
	memcpy(s, node, sizeof(s));
	memcpy(node, &s[1], sizeof(s[1]));
	memcpy(node + sizeof(s[0]), &s[0], sizeof(s[0]));
	seal(node);
	finds(PROBLEM_TREE_ORDER);
}

/* ------------------------------------------------------------------ anything at all */

static uint64_t random_block(struct prng *r)
{
	for (;;) {
		uint64_t b = prng_below(r, BLOCKS);

		if (used[b] || prng_below(r, 500) == 0)
			return b;
	}
}

static uint64_t interesting(struct prng *r)
{
	static const uint64_t values[] = {0, 1, 2, 7, 8, 255, 256, 4095, 4096, 65535, 1ull << 31, 1ull << 32,
		1ull << 62, 1ull << 63, UINT64_MAX, UINT64_MAX - 1, BLOCKS, BLOCKS - 1};

	return prng_below(r, 3) ? values[prng_below(r, sizeof(values) / 8)] : prng_u64(r) % (BLOCKS * 8);
}

/* One act of damage; the block that was changed. */
static uint64_t damage(struct prng *r)
{
	uint64_t b = random_block(r), from = random_block(r);
	uint8_t *block = disk + b * BLOCK_SIZE;
	uint64_t v = interesting(r);
	size_t size = 1ul << prng_below(r, 4);
	le64 own = le64_of(b);

	switch (prng_below(r, 6)) {
	case 0:
		block[prng_below(r, BLOCK_SIZE)] ^= (uint8_t)(1u << prng_below(r, 8));
		break;
	case 1:
		memcpy(block, disk + from * BLOCK_SIZE, BLOCK_SIZE);
		break;
	case 2: /* another block's content, as if it belonged here */
		memcpy(block, disk + from * BLOCK_SIZE, BLOCK_SIZE);
		memcpy(block + 24, &own, 8);
		break;
	case 3:
		memset(block + prng_below(r, BLOCK_SIZE / 2), (int)prng_below(r, 256), BLOCK_SIZE / 4);
		break;
	default:
		memcpy(block + prng_below(r, BLOCK_SIZE / 8) * 8, &v, size);
		break;
	}
	/* Most with a right checksum: what a wrong one hides is where the check could fall. */
	if (prng_below(r, 8))
		fields_seal(block);
	return b;
}

/* Damaged volumes that were found to be so, in percent. */
static unsigned fuzz(unsigned n)
{
	const char *rounds = getenv("CSVFS_FUZZ_ROUNDS");
	const char *seed = getenv("CSVFS_SEED");
	unsigned found = 0;

	if (rounds)
		n = (unsigned)atoi(rounds);
	for (unsigned i = 0; i < n; i++) {
		struct prng r = {seed ? strtoull(seed, NULL, 0) + i : i * 7919ull + 17};
		uint64_t changed[8];
		uint32_t count = 1 + (uint32_t)prng_below(&r, 8);

		for (uint32_t k = 0; k < count; k++)
			changed[k] = damage(&r);
		found += check() > 0;
		for (uint32_t k = 0; k < count; k++)
			restore_block(changed[k]);
	}
	print_message("%u of %u damaged volumes were found to be so\n", found, n);
	assert_clean();
	return found * 100 / n;
}

static void random_damage_neither_crashes_nor_hangs_the_check(void **state)
{
	restore();
	assert_true(fuzz(3000) > 50);
}

static void random_damage_of_a_journal_does_not_either(void **state)
{
	make_volume(4096);
	open_volume();
	fill_volume();
	run_sync_crash(rs);
	memcpy(sound, disk, VOLUME_BYTES);
	for (uint64_t b = 0; b < BLOCKS; b++)
		used[b] = layout_at(b) != NULL;
	(void)fuzz(2000); /* much of a journal is of no account */
}

/* ------------------------------------------------------------------ the table of fields */

static void the_claims_fields_are_where_the_claim_puts_them(void **state)
{
	struct claim c = {.epoch = 1, .heartbeat = 2, .state = CLAIM_HELD, .node = 3, .incarnation = 4,
		.life = 5, .name = "six"};
	const struct block_layout *l = fields_of(CLAIM_MAGIC);
	static const struct {
		const char *name;
		uint64_t value;
	} want[] = {{"epoch", 1}, {"heartbeat", 2}, {"state", 1}, {"node", 3}, {"incarnation", 4},
		{"life", 5}};
	uint8_t block[BLOCK_SIZE];
	uint32_t at;
	uint64_t v;

	claim_encode(&c, block);
	assert_true(fields_sealed(block));
	for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		const struct field *f = field_find(l, want[i].name, &at);

		assert_non_null(f);
		assert_true(field_get(block, f, at, &v));
		assert_int_equal(v, want[i].value);
	}
}

static void a_field_is_found_by_its_name_and_index(void **state)
{
	const struct block_layout *l = fields_of(MAGIC_INODE);
	uint32_t at;

	assert_non_null(field_find(l, "inode.nlink[1]", &at));
	assert_int_equal(at, 0);
	assert_non_null(field_find(l, "inode.nlink[7]", &at));
	assert_int_equal(at, 6);
	assert_null(field_find(l, "inode.nlink[0]", &at));
	assert_null(field_find(l, "inode.nlink[8]", &at));
	assert_null(field_find(l, "inode.nlink[", &at));
	assert_null(field_find(l, "inode.nlink[1", &at));
	assert_null(field_find(l, "nlink", &at));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_claims_fields_are_where_the_claim_puts_them),
		cmocka_unit_test(a_field_is_found_by_its_name_and_index),
		cmocka_unit_test(a_new_volume_is_clean),
		cmocka_unit_test(a_used_volume_is_clean_and_counted),
		cmocka_unit_test(a_crashed_volume_is_checked_as_replay_will_leave_it),
		cmocka_unit_test(a_torn_last_record_is_as_if_it_was_not_there),
		cmocka_unit_test(a_hole_in_the_needed_part_of_the_journal_is_found),
		cmocka_unit_test(a_flipped_byte_in_each_type_of_block_is_found),
		cmocka_unit_test(a_block_that_cannot_be_read_is_named),
		cmocka_unit_test(a_changed_field_is_found_though_the_checksum_is_right),
		cmocka_unit_test(two_files_with_one_cluster_are_both_named),
		cmocka_unit_test(an_extent_must_lie_in_clusters_for_data),
		cmocka_unit_test(directories_that_contain_each_other_are_a_loop),
		cmocka_unit_test(a_directory_has_one_name),
		cmocka_unit_test(a_name_leads_to_an_inode_in_use),
		cmocka_unit_test(names_are_possible_and_where_their_hash_says),
		cmocka_unit_test(an_orphan_is_in_the_list),
		cmocka_unit_test(a_block_that_nothing_uses_is_leaked),
		cmocka_unit_test(a_block_is_followed_once),
		cmocka_unit_test(keys_are_in_order_and_within_bounds),
		cmocka_unit_test(flags_and_intents_agree),
		cmocka_unit_test(random_damage_neither_crashes_nor_hangs_the_check),
		cmocka_unit_test(random_damage_of_a_journal_does_not_either),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
