/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check_known.h - a varied volume whose every file and name is known, and whether they are there still.
 * A walk that shares no code with the check and the engine. Included by one .c file per program.
 */
#include "tests/unit/check_volume.h"

#define FILES_MAX 2000u
#define SNAPSHOTS 3u

/* What must be there again. */
struct known {
	uint64_t ino, dir; /* dir: index of the directory that names it */
	uint32_t mode;
	char name[64];
	uint32_t block_count; /* its inode's, its tree's, its data's */
	uint32_t *blocks;
};

static struct known known[FILES_MAX];
static uint32_t known_count;
static uint8_t *snapshot[SNAPSHOTS];
static bool damaged[BLOCKS]; /* by the test */

static void fully(void)
{
	repair = FULL_REPAIR;
	(void)check();
	repair = NO_REPAIR;
}

/* ------------------------------------------------------------------ a walk that shares no code */

static struct disk_inode *inode(uint64_t ino)
{
	struct disk_inode_block *b =
		(struct disk_inode_block *)(disk + INO_BLOCK(ino) * BLOCK_SIZE);

	return &b->slot[INO_SLOT(ino) - 1];
}

typedef void (*record_fn)(void *ctx, uint64_t key, const uint8_t *value, uint32_t len);

static void tree_each(const uint8_t *node, record_fn fn, void *ctx, void (*block)(uint64_t blkno))
{
	struct disk_node n;
	struct disk_slot s;
	le64 v;

	memcpy(&n, node, sizeof(n));
	for (uint32_t i = 0; i < le16_get(n.count); i++) {
		memcpy(&s, node + sizeof(n) + i * sizeof(s), sizeof(s));
		if (!n.level) {
			fn(ctx, le64_get(s.key), node + le16_get(s.off), le16_get(s.len));
			continue;
		}
		memcpy(&v, node + le16_get(s.off), 8);
		if (block)
			block(le64_get(v));
		tree_each(disk + le64_get(v) * BLOCK_SIZE + 64, fn, ctx, block);
	}
}

static struct known *now;

static void add_block(uint64_t blkno)
{
	now->blocks = realloc(now->blocks, (now->block_count + 1) * sizeof(*now->blocks));
	now->blocks[now->block_count++] = (uint32_t)blkno;
}

static void add_extent(void *ctx, uint64_t key, const uint8_t *value, uint32_t len)
{
	struct disk_extent e;

	memcpy(&e, value, sizeof(e));
	for (uint32_t i = 0; i < le32_get(e.len); i++)
		add_block(le64_get(e.start) + i);
}

static void nothing(void *ctx, uint64_t key, const uint8_t *value, uint32_t len)
{
}

static void learn(uint64_t ino, uint64_t dir, const uint8_t *name, uint32_t len);

static void learn_entry(void *ctx, uint64_t key, const uint8_t *value, uint32_t len)
{
	le64 ino;

	memcpy(&ino, value, 8);
	learn(le64_get(ino), (uint64_t)(uintptr_t)ctx, value + DIRENT_BYTES, len - DIRENT_BYTES);
}

static void learn(uint64_t ino, uint64_t dir, const uint8_t *name, uint32_t len)
{
	const struct disk_inode *d = inode(ino);
	const uint64_t index = known_count++;
	struct known *k = &known[index];

	assert_true(known_count < FILES_MAX && len < sizeof(k->name));
	*k = (struct known){.ino = ino, .dir = dir, .mode = le32_get(d->mode)};
	memcpy(k->name, name, len);
	now = k;
	add_block(INO_BLOCK(ino));
	if (S_ISREG(k->mode))
		tree_each(d->area, add_extent, NULL, add_block);
	/* A long target lies in one value block. */
	if (S_ISLNK(k->mode) && le64_get(d->size) > INODE_INLINE_BYTES) {
		le64 v;

		memcpy(&v, d->area, sizeof(v));
		add_block(le64_get(v));
	}
	if (!S_ISDIR(k->mode))
		return;
	tree_each(d->area, nothing, NULL, add_block);
	tree_each(d->area, learn_entry, (void *)(uintptr_t)index, NULL);
}

/* ------------------------------------------------------------------ is it there? */

static uint64_t found_ino;
static const char *wanted;
static bool reached[BLOCKS * 8];

static void match(void *ctx, uint64_t key, const uint8_t *value, uint32_t len)
{
	le64 ino;

	memcpy(&ino, value, 8);
	if (strlen(wanted) == len - DIRENT_BYTES &&
		!memcmp(value + DIRENT_BYTES, wanted, len - DIRENT_BYTES))
		found_ino = le64_get(ino);
}

static void reach(void *ctx, uint64_t key, const uint8_t *value, uint32_t len)
{
	le64 v;
	uint64_t ino;

	memcpy(&v, value, 8);
	ino = le64_get(v);
	if (reached[ino])
		return;
	reached[ino] = true;
	if (S_ISDIR(le32_get(inode(ino)->mode)))
		tree_each(inode(ino)->area, reach, NULL, NULL);
}

/* Cluster (block, here) `index` of the file: what it holds. */
static void pattern(uint64_t ino, uint64_t index, uint64_t out[512])
{
	for (uint64_t i = 0; i < 512; i++)
		out[i] = (ino * 1000003 + index) * 512 + i;
}

struct content {
	uint64_t ino;
	uint64_t clusters;
	bool write, wrong;
};

static void content(void *ctx, uint64_t key, const uint8_t *value, uint32_t len)
{
	struct content *x = ctx;
	struct disk_extent e;
	uint64_t want[512];

	memcpy(&e, value, sizeof(e));
	for (uint32_t i = 0; i < le32_get(e.len); i++) {
		uint8_t *at = disk + (le64_get(e.start) + i) * BLOCK_SIZE;

		if (le32_get(e.state) != EXT_WRITTEN)
			continue;
		pattern(x->ino, key + i, want);
		x->clusters++;
		if (x->write)
			memcpy(at, want, BLOCK_SIZE);
		else if (memcmp(at, want, BLOCK_SIZE))
			x->wrong = true;
	}
}

static uint64_t written_clusters[FILES_MAX];

/* NULL: all is as it must be; else the trouble. */
static const char *trouble(uint32_t i)
{
	const struct known *k = &known[i];
	struct content x = {.ino = k->ino};
	bool whole = true, path = true;

	for (uint32_t b = 0; b < k->block_count; b++)
		whole = whole && !damaged[k->blocks[b]];
	if (!whole)
		return NULL;
	for (uint64_t d = k->dir, last = i; last; last = d, d = known[d].dir)
		for (uint32_t b = 0; b < known[d].block_count; b++)
			path = path && !damaged[known[d].blocks[b]];
	if ((le32_get(inode(k->ino)->mode) & S_IFMT) != (k->mode & S_IFMT))
		return "is gone";
	if (!reached[k->ino])
		return "cannot be reached";
	if (S_ISREG(k->mode)) {
		tree_each(inode(k->ino)->area, content, &x, NULL);
		if (x.wrong)
			return "has other content";
		if (x.clusters != written_clusters[i])
			return "has lost content";
	}
	if (!path || !i)
		return NULL;
	wanted = k->name;
	found_ino = 0;
	tree_each(inode(known[k->dir].ino)->area, match, NULL, NULL);
	return found_ino == k->ino ? NULL : "has lost its name";
}

/* ------------------------------------------------------------------ a varied volume */

static void snap(uint32_t i)
{
	assert_int_equal(run_sync_close(rs), 0);
	snapshot[i] = malloc(VOLUME_BYTES);
	memcpy(snapshot[i], disk, VOLUME_BYTES);
	open_volume();
}

static void grow(uint32_t generation)
{
	char name[64];

	for (uint32_t i = 0; i < 6; i++) {
		uint64_t dir, file;

		snprintf(name, sizeof(name), "tree%u.%u", generation, i);
		dir = make(root(), name, FS_MKDIR, S_IFDIR | 0755, NULL, 0);
		for (uint32_t k = 0; k < 12; k++) {
			snprintf(name, sizeof(name), "file number %u", k);
			file = make(dir, name, FS_MKNOD, S_IFREG | 0644, NULL, 0);
			for (uint32_t e = 0; e < k; e++)
				allocate(file, e * 3ull * 4096, 4096);
			if (k == 3)
				set_xattr(file, "user.large", 9000);
		}
		dir = make(dir, "deeper", FS_MKDIR, S_IFDIR | 0700, NULL, 0);
		make(dir, "deepest", FS_MKDIR, S_IFDIR | 0700, NULL, 0);
		allocate(make(dir, "at the bottom", FS_MKNOD, S_IFREG | 0600, NULL, 0), 0, 4096);
	}
}

/* A directory whose tree has a node between root and leaves, and a file of many extents. */
static void wide(void)
{
	const uint64_t dir = make(root(), "wide", FS_MKDIR, S_IFDIR | 0755, NULL, 0);
	uint64_t file;
	char name[64];

	for (uint32_t i = 0; i < 900; i++) {
		snprintf(name, sizeof(name),
			"one of many names, which is as long as names can be %u", i);
		make(dir, name, FS_MKNOD, S_IFREG | 0644, NULL, 0);
	}
	file = make(root(), "many extents", FS_MKNOD, S_IFREG | 0644, NULL, 0);
	for (uint64_t i = 0; i < 80; i++)
		allocate(file, i * 2 * 4096, 4096);
}

/* The volume as it stands, closed, is the sound one; its files have their content from here. */
static void remember(void)
{
	while (known_count)
		free(known[--known_count].blocks);
	learn(root(), 0, (const uint8_t *)"/", 1);
	for (uint32_t i = 0; i < known_count; i++) {
		struct content x = {.ino = known[i].ino, .write = true};

		if (S_ISREG(known[i].mode))
			tree_each(inode(known[i].ino)->area, content, &x, NULL);
		written_clusters[i] = x.clusters;
	}
	memcpy(sound, disk, VOLUME_BYTES);
	for (uint64_t b = 0; b < BLOCKS; b++)
		used[b] = layout_at(b) != NULL;
	assert_clean();
}

static int setup_varied(void **state)
{
	region = aligned_alloc(4096, MEM_BYTES);
	disk = aligned_alloc(4096, VOLUME_BYTES);
	sound = aligned_alloc(4096, VOLUME_BYTES);
	make_volume(4096);
	open_volume();
	grow(0);
	snap(0);
	fill_volume();
	for (uint32_t i = 0; i < 3; i++)
		named(root(), i == 0 ? "fast" : i == 1 ? "fifo" : "two", FS_UNLINK, 0);
	snap(1);
	grow(1);
	snap(2);
	grow(2);
	wide();
	assert_int_equal(run_sync_close(rs), 0);
	remember();
	return 0;
}
