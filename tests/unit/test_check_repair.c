/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Repair. Whatever happened to a volume: a repair ends, a check finds nothing afterwards, the engine opens
 * it; and a file of which no block was damaged has its content still, and its name too if no
 * directory above it was damaged.
 *
 *   CSVFS_DAMAGES=N      how many random damages
 *   CSVFS_SEED=S         the one with this seed only, told in full
 *   CSVFS_IMAGE=FILE     no test: writes the volume of fill_volume() to FILE, and as a power failure would
 *                        leave it to FILE.crashed, for scripts
 */
#include "tests/unit/check_volume.h"

#define FILES_MAX 2000u
#define SNAPSHOTS 3u
#ifdef __SANITIZE_ADDRESS__
#define DAMAGES 100u
#else
#define DAMAGES 400u
#endif

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
	assert_int_equal(run_sync_close(rs), 0);
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
	return 0;
}

/* ------------------------------------------------------------------ damage */

/* Mostly metadata; the ring of the journal, which is large, seldom. */
static uint64_t some_block(struct prng *r)
{
	const struct disk_super *s = (const struct disk_super *)sound;
	const uint64_t ring = le64_get(s->journal_start) + JOURNAL_HEADS;

	for (;;) {
		uint64_t b = prng_below(r, BLOCKS);
		bool seldom = !used[b] || (b >= ring && b < le64_get(s->data_start));

		if (!seldom || prng_below(r, 200) == 0)
			return b;
	}
}

static void hurt(struct prng *r, char *what, size_t room)
{
	uint64_t b = some_block(r), other = some_block(r), n;
	uint8_t *p = disk + b * BLOCK_SIZE, *q = disk + other * BLOCK_SIZE, t[BLOCK_SIZE];
	const uint8_t *old = snapshot[prng_below(r, SNAPSHOTS)] + b * BLOCK_SIZE;

	damaged[b] = true;
	switch (prng_below(r, 8)) {
	case 0:
		p[prng_below(r, BLOCK_SIZE)] ^= (uint8_t)(1u << prng_below(r, 8));
		snprintf(what, room, "a bit of block %u flipped", (unsigned)b);
		break;
	case 1:
		n = 2 + prng_below(r, 30);
		for (uint64_t i = 0; i < n; i++)
			p[prng_below(r, BLOCK_SIZE)] ^= (uint8_t)(1u << prng_below(r, 8));
		snprintf(what, room, "%u bits of block %u flipped", (unsigned)n, (unsigned)b);
		break;
	case 2:
		memset(p, 0, BLOCK_SIZE);
		snprintf(what, room, "block %u zeroed", (unsigned)b);
		break;
	case 3:
		memset(p + 512 * prng_below(r, 8), (int)prng_below(r, 256), 512);
		snprintf(what, room, "a sector of block %u overwritten", (unsigned)b);
		break;
	case 4:
		damaged[other] = true;
		memcpy(t, p, BLOCK_SIZE);
		memcpy(p, q, BLOCK_SIZE);
		memcpy(q, t, BLOCK_SIZE);
		snprintf(what, room, "blocks %u and %u swapped", (unsigned)b, (unsigned)other);
		break;
	case 5:
		memcpy(p, q, BLOCK_SIZE);
		snprintf(what, room, "block %u overwritten with block %u", (unsigned)b,
			(unsigned)other);
		break;
	case 6: /* a write that was lost, or came late */
		memcpy(p, old, BLOCK_SIZE);
		snprintf(what, room, "block %u is as it was", (unsigned)b);
		break;
	default: /* what a program error would do: with a right checksum */
		n = prng_below(r, BLOCK_SIZE - 8);
		for (uint64_t i = 0; i < 1 + prng_below(r, 8); i++)
			p[n + i] = (uint8_t)prng_u64(r);
		if (layout_at(b))
			fields_seal(p);
		snprintf(what, room, "block %u is wrong at %u", (unsigned)b, (unsigned)n);
		break;
	}
}

static bool told;

/* The damage of this seed; how many acts of it. */
static uint32_t damage_of(uint64_t seed, char *what, size_t room)
{
	struct prng r = {seed * 7919 + 17};
	const uint32_t count = 1 + (uint32_t)(prng_below(&r, 4) ? 0 : prng_below(&r, 6));

	restore();
	memset(damaged, 0, sizeof(damaged));
	for (uint32_t i = 0; i < count; i++) {
		hurt(&r, what, room);
		if (told)
			print_message("seed %llu: %s\n", (unsigned long long)seed, what);
	}
	return count;
}

/* After a repair: clean, and nothing is lost that need not be. */
static void assert_mended(uint64_t seed, const char *what)
{
	const char *bad;

	if (repair_err || check())
		fail_msg("seed %llu (%s): error %d, %u faults left, %s", (unsigned long long)seed,
			what, repair_err, (unsigned)rep.left, first_problem);
	memset(reached, 0, sizeof(reached));
	reached[root()] = true;
	tree_each(inode(root())->area, reach, NULL, NULL);
	for (uint32_t i = 0; i < known_count; i++) {
		bad = trouble(i);
		if (bad)
			fail_msg("seed %llu (%s): %s (inode %llu) %s", (unsigned long long)seed,
				what, known[i].name, (unsigned long long)known[i].ino, bad);
	}
}

static void mended(uint64_t seed)
{
	char what[200];
	const uint32_t count = damage_of(seed, what, sizeof(what));

	verbose = told;
	fully();
	verbose = false;
	if (rep.by_severity[SEVERITY_FATAL]) {
		if (count == 1)
			fail_msg("seed %llu (%s): fatal: %s", (unsigned long long)seed, what,
				first_problem);
		return;
	}
	assert_mended(seed, what);
	if (seed % 16 && !told)
		return;
	open_volume();
	make(root(), "after the repair", FS_MKNOD, S_IFREG | 0644, NULL, 0);
	assert_int_equal(run_sync_close(rs), 0);
	assert_clean();
}

/* Power fails during the repair, within any sector: a further repair finds as much. */
static void power_may_fail_during_a_repair(void **state)
{
	const char *many = getenv("CSVFS_DAMAGES");
	const uint64_t n = many ? strtoull(many, NULL, 0) / 10 : DAMAGES / 16;
	uint64_t cases = 0, replays = 0, all, step;
	char what[200];

	for (uint64_t seed = 1000000; seed < 1000000 + n; seed++) {
		(void)damage_of(seed, what, sizeof(what));
		sectors = 0;
		fully();
		all = sectors;
		if (rep.by_severity[SEVERITY_FATAL] || !rep.repaired)
			continue;
		step = 1 + all / 12;
		for (uint64_t at = seed % step; at < all; at += step) {
			(void)damage_of(seed, what, sizeof(what));
			sectors_left = at;
			fully();
			sectors_left = NEVER;
			if (!repair_err || rep.left)
				fail_msg("seed %llu (%s): power failed, error %d",
					(unsigned long long)seed, what, repair_err);
			fully();
			if (!check_faults(&rep) && rep.replayed) {
				/* A whole transaction of the repair: any mount replays it. */
				open_volume();
				assert_int_equal(run_sync_close(rs), 0);
				repair_err = 0;
				replays++;
			}
			/* What power tore is damage of its own, but only of what was being written. */
			assert_mended(seed, what);
			cases++;
		}
	}
	print_message("%llu power failures, after %llu of them a replay\n",
		(unsigned long long)cases, (unsigned long long)replays);
	assert_true(cases > 20);
}

static void random_damage_is_repaired(void **state)
{
	const char *one = getenv("CSVFS_SEED"), *many = getenv("CSVFS_DAMAGES");
	const uint64_t n = many ? strtoull(many, NULL, 0) : DAMAGES;

	if (one) {
		told = true;
		mended(strtoull(one, NULL, 0));
		told = false;
		return;
	}
	for (uint64_t seed = 0; seed < n; seed++)
		mended(seed);
	print_message("%llu damages repaired\n", (unsigned long long)n);
}

static void write_image(const char *name, const char *more)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s%s", name, more);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(disk, VOLUME_BYTES, 1, f), 1);
	assert_int_equal(fclose(f), 0);
}

static void image_is_written(void **state)
{
	const char *name = getenv("CSVFS_IMAGE");

	region = aligned_alloc(4096, MEM_BYTES);
	disk = aligned_alloc(4096, VOLUME_BYTES);
	sound = aligned_alloc(4096, VOLUME_BYTES);
	make_volume(4096);
	open_volume();
	fill_volume();
	assert_int_equal(run_sync_close(rs), 0);
	write_image(name, "");
	make_volume(4096);
	open_volume();
	fill_volume();
	run_sync_crash(rs);
	write_image(name, ".crashed");
}

int main(void)
{
	const struct CMUnitTest image[] = {cmocka_unit_test(image_is_written)};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_damage_is_repaired),
		cmocka_unit_test(power_may_fail_during_a_repair),
	};

	if (getenv("CSVFS_IMAGE"))
		return cmocka_run_group_tests(image, NULL, teardown);
	return cmocka_run_group_tests(tests, setup_varied, teardown);
}
