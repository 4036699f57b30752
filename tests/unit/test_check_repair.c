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
#include "tests/unit/check_known.h"

#ifdef __SANITIZE_ADDRESS__
#define DAMAGES 100u
#define LOST_STEP 5u
#else
#define DAMAGES 400u
#define LOST_STEP 1u
#endif

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

/* On a volume that has been used for long the journal's ring does not have most blocks any more. */
static void forget_ring(void)
{
	const struct disk_super *s = (const struct disk_super *)sound;

	memset(disk + (le64_get(s->journal_start) + JOURNAL_HEADS) * BLOCK_SIZE, 0,
		(le64_get(s->journal_blocks) - JOURNAL_HEADS) * BLOCK_SIZE);
}

/*
 * The journal's ring has no image of this block any more, and of other blocks as before. (A record of
 * which an image is damaged is no record, so the image is not destroyed but said to be of a
 * block of the ring, which no image is ever for.)
 */
static void forget_image(uint64_t blkno)
{
	const struct disk_super *s = (const struct disk_super *)sound;
	const uint64_t ring = le64_get(s->journal_start) + JOURNAL_HEADS;

	for (uint64_t b = ring; b < le64_get(s->data_start); b++) {
		struct disk_jrec *d = (struct disk_jrec *)(disk + b * BLOCK_SIZE);
		bool changed = false;

		if (le32_get(d->magic) != MAGIC_JREC || !fields_sealed(d))
			continue;
		for (uint32_t i = 0; i < le32_get(d->count); i++) {
			if (le64_get(d->image[i].blkno) != blkno)
				continue;
			d->image[i].blkno = le64_of(ring);
			changed = true;
		}
		if (changed)
			fields_seal(d);
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
	if (seed % 4)
		forget_ring();
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

/* ------------------------------------------------------------------ one situation each */

static struct known *find(const char *name)
{
	for (uint32_t i = 0; i < known_count; i++)
		if (!strcmp(known[i].name, name))
			return &known[i];
	fail_msg("no %s", name);
	return NULL;
}

static void start(void)
{
	restore();
	forget_ring();
	memset(damaged, 0, sizeof(damaged));
}

static void lose(uint64_t blkno)
{
	memset(disk + blkno * BLOCK_SIZE, 0, BLOCK_SIZE);
	damaged[blkno] = true;
}

static uint64_t entries;

static void count_entry(void *ctx, uint64_t key, const uint8_t *value, uint32_t len)
{
	entries++;
}

static void reseal(const void *p)
{
	fields_seal(disk + ((const uint8_t *)p - disk) / BLOCK_SIZE * BLOCK_SIZE);
}

static struct disk_extent *first_extent(uint64_t ino)
{
	struct disk_slot s;

	assert_int_equal(inode(ino)->area[1], 0);
	memcpy(&s, inode(ino)->area + sizeof(struct disk_node), sizeof(s));
	return (struct disk_extent *)(inode(ino)->area + le16_get(s.off));
}

static void an_inode_that_had_a_tree_comes_back_with_it(void **state)
{
	const struct known *file = find("many extents"), *dir = find("wide");
	struct content x = {.ino = file->ino};

	start();
	lose(INO_BLOCK(file->ino));
	if (INO_BLOCK(dir->ino) != INO_BLOCK(file->ino))
		lose(INO_BLOCK(dir->ino));
	fully();
	assert_mended(0, "lost inodes");
	assert_true(S_ISREG(le32_get(inode(file->ino)->mode)));
	tree_each(inode(file->ino)->area, content, &x, NULL);
	assert_int_equal(x.clusters, 80);
	assert_false(x.wrong);
	assert_int_equal(le64_get(inode(file->ino)->size), 159 * 4096);
	wanted = "many extents";
	found_ino = 0;
	tree_each(inode(root())->area, match, NULL, NULL);
	assert_int_equal(found_ino, file->ino);
	assert_true(S_ISDIR(le32_get(inode(dir->ino)->mode)));
	/* But for those that had no tree. */
	entries = 0;
	tree_each(inode(dir->ino)->area, count_entry, NULL, NULL);
	assert_in_range(entries, 900 - 2 * INODES_PER_BLOCK, 900);
}

static void leaves_that_were_cut_off_fill_the_gap(void **state)
{
	const struct known *dir = find("wide");
	struct disk_slot s;
	le64 v;

	start();
	assert_int_equal(inode(dir->ino)->area[1], 2);
	memcpy(&s, inode(dir->ino)->area + sizeof(struct disk_node), sizeof(s));
	memcpy(&v, inode(dir->ino)->area + le16_get(s.off), sizeof(v));
	lose(le64_get(v));
	fully();
	assert_mended(0, "a lost node");
	entries = 0;
	tree_each(inode(dir->ino)->area, count_entry, NULL, NULL);
	assert_int_equal(entries, 900);
}

static void of_two_files_with_one_cluster_each_reads_what_it_read(void **state)
{
	const struct known *a = find("file number 5"), *b = find("at the bottom");
	const uint64_t ours = le64_get(first_extent(b->ino)->start);
	struct content x = {.ino = b->ino};
	uint8_t *at;

	start();
	first_extent(a->ino)->start = le64_of(ours);
	reseal(first_extent(a->ino));
	damaged[INO_BLOCK(a->ino)] = true;
	fully();
	assert_mended(0, "crossed extents");
	assert_int_not_equal(
		le64_get(first_extent(a->ino)->start), le64_get(first_extent(b->ino)->start));
	tree_each(inode(b->ino)->area, content, &x, NULL);
	assert_false(x.wrong);
	at = disk + le64_get(first_extent(a->ino)->start) * BLOCK_SIZE;
	assert_memory_equal(at, sound + ours * BLOCK_SIZE, BLOCK_SIZE);
}

static uint64_t moves_key, moves_to;

static void move_extent(void *ctx, uint64_t key, const uint8_t *value, uint32_t len)
{
	const le64 start = le64_of(moves_to);

	if (key != moves_key)
		return;
	memcpy(disk + (value - disk), &start, sizeof(start));
	reseal(value);
	damaged[(uint64_t)(value - disk) / BLOCK_SIZE] = true;
}

/* That extent is a hole then, and what else its leaf has stays; it is the same with one that leads outside of the volume. */
static void one_extent_where_no_data_may_lie_costs_no_other(void **state)
{
	const struct disk_super *s = (const struct disk_super *)sound;
	const uint64_t count = le64_get(s->cluster_count);
	const uint64_t to[] = {0, le64_get(s->data_start) - 1, count - 1, count};
	const struct known *file = find("many extents");

	for (uint32_t i = 0; i < 4; i++) {
		struct content x = {.ino = file->ino};

		start();
		moves_key = 80;
		moves_to = to[i];
		tree_each(inode(file->ino)->area, move_extent, NULL, NULL);
		assert_true(check() > 0);
		assert_int_equal(rep.count[i == 3 ? PROBLEM_EXTENT_RANGE : PROBLEM_CLUSTER_IN_META], 1);
		fully();
		assert_mended(0, "an extent of the fixed areas");
		tree_each(inode(file->ino)->area, content, &x, NULL);
		assert_int_equal(x.clusters, 79);
		assert_false(x.wrong);
		assert_int_equal(le64_get(inode(file->ino)->clusters), 79);
		open_volume();
		(void)make(root(), "after the repair", FS_MKNOD, S_IFREG | 0644, NULL, 0);
		assert_int_equal(run_sync_close(rs), 0);
		assert_clean();
	}
}

static enum claim_state claims[4];
static int claimed, claim_err;

static int claim_is(void *ctx, const struct claim *claim)
{
	if (claimed < 4)
		claims[claimed] = claim->state;
	claimed++;
	if (!claim_err)
		claim_encode(claim, disk + CLAIM_BLOCK * BLOCK_SIZE);
	return claim_err;
}

/* Clusters that are to be copied, too, wait for it; and it is let go after the last write. */
static void nothing_is_written_before_the_claim_is_taken(void **state)
{
	const struct known *a = find("file number 5"), *b = find("at the bottom");
	const struct check_dev dev = {
		.read = check_read, .bytes = VOLUME_BYTES, .write = check_write, .claim = claim_is};
	struct check_options o = {.on_problem = on_problem};
	struct mem mem;

	for (int mounted = 1; mounted >= 0; mounted--) {
		start();
		first_extent(a->ino)->start = first_extent(b->ino)->start;
		reseal(first_extent(a->ino));
		memcpy(snapshot[0], disk, VOLUME_BYTES);
		claim_err = mounted ? -EBUSY : 0;
		claimed = 0;
		mem_init(&mem, region, MEM_BYTES);
		o.mem = &mem;
		assert_int_equal(check_repair(&dev, &o, true, &rep), claim_err);
		assert_int_equal(claimed, 2 - mounted);
		assert_int_equal(claims[0], CLAIM_HELD);
		assert_true(mounted || claims[1] == CLAIM_CLEAN);
		assert_int_equal(!memcmp(snapshot[0], disk, VOLUME_BYTES), mounted);
		assert_int_equal(!rep.repaired, mounted);
	}
	assert_clean();
}

static void a_flipped_bit_is_flipped_back(void **state)
{
	const uint64_t blkno = INO_BLOCK(root());
	struct prng r = {77};

	for (uint32_t i = 0; i < 20; i++) {
		start();
		disk[blkno * BLOCK_SIZE + prng_below(&r, BLOCK_SIZE)] ^=
			(uint8_t)(1u << prng_below(&r, 8));
		fully();
		assert_mended(0, "a flipped bit");
		assert_memory_equal(disk + blkno * BLOCK_SIZE + 64, sound + blkno * BLOCK_SIZE + 64,
			BLOCK_SIZE - 64);
	}
}

static const uint64_t supers[] = {SUPER_BLOCK, SUPER_COPY_BLOCK, BLOCKS - 1};

static void same_supers_as_before(void)
{
	const size_t from = offsetof(struct disk_super, version);

	for (uint32_t i = 0; i < 3; i++)
		assert_memory_equal(disk + supers[i] * BLOCK_SIZE + from,
			sound + supers[i] * BLOCK_SIZE + from, BLOCK_SIZE - from);
}

/* Some bits of each of them; of the checksums only two are hit. */
static void spoil_supers(struct prng *r, uint32_t bits)
{
	bool hit[BLOCK_SIZE * 8] = {false};

	for (uint32_t i = 0; i < 3; i++) {
		for (uint32_t k = 0; k < bits; k++) {
			const uint64_t bit = prng_below(r, 2) ? prng_below(r, 8 * 512) :
								prng_below(r, 8 * BLOCK_SIZE);

			if (hit[bit] || (i == 2 && bit / 32 == 1))
				continue;
			hit[bit] = true;
			disk[supers[i] * BLOCK_SIZE + bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		disk[supers[i] * BLOCK_SIZE + 600 + i] ^= 0x10;
	}
}

static void superblocks_that_all_have_wrong_bits_are_put_together(void **state)
{
	for (uint64_t seed = 0; seed < 40; seed++) {
		struct prng r = {seed * 7919 + 3};

		start();
		spoil_supers(&r, (uint32_t)(seed % 8));
		assert_true(check() > 0);
		assert_int_equal(rep.count[PROBLEM_SUPER_NONE], 1);
		/* Not without being asked. */
		repair = SAFE_REPAIR;
		(void)check();
		assert_int_equal(rep.count[PROBLEM_SUPER_NONE], 1);
		fully();
		assert_mended(seed, "bits of each superblock");
		same_supers_as_before();
	}
	/* Power fails at each sector that is written: the next repair finds as much. */
	for (uint64_t at = 0, all = 1; at < all; at += at ? LOST_STEP : 1) {
		struct prng r = {3};

		start();
		spoil_supers(&r, 4);
		sectors = 0;
		sectors_left = at ? at - 1 : NEVER;
		fully();
		sectors_left = NEVER;
		all = at ? all : sectors;
		fully();
		assert_mended(at, "bits of each superblock, and no power");
		same_supers_as_before();
	}
}

/* Two of three have the same wrong bit: no checksum agrees with that, and nothing is written. */
static void superblocks_without_a_majority_stay(void **state)
{
	start();
	for (uint32_t i = 0; i < 3; i++)
		disk[supers[i] * BLOCK_SIZE + 300 + i / 2] ^= 4;
	memset(touched, 0, sizeof(touched));
	fully();
	assert_int_equal(rep.count[PROBLEM_SUPER_NONE], 1);
	for (uint64_t b = 0; b < BLOCKS; b++)
		assert_false(touched[b]);
}

static void blocks_that_changed_places_go_back(void **state)
{
	const uint64_t a = INO_BLOCK(root()), b = INO_BLOCK(find("many extents")->ino);
	uint8_t t[BLOCK_SIZE];

	start();
	assert_int_not_equal(a, b);
	memcpy(t, disk + a * BLOCK_SIZE, BLOCK_SIZE);
	memcpy(disk + a * BLOCK_SIZE, disk + b * BLOCK_SIZE, BLOCK_SIZE);
	memcpy(disk + b * BLOCK_SIZE, t, BLOCK_SIZE);
	fully();
	assert_mended(0, "swapped blocks"); /* none counts as damaged */
}

static void a_lost_root_is_made_anew_and_all_is_in_lost_found(void **state)
{
	struct known *dir = find("wide");

	start();
	for (uint32_t i = 0; i < known[0].block_count; i++)
		lose(known[0].blocks[i]);
	fully();
	assert_mended(0, "a lost root");
	assert_int_equal(le64_get(inode(root())->parent), root());
	wanted = "lost+found";
	found_ino = 0;
	tree_each(inode(root())->area, match, NULL, NULL);
	assert_int_not_equal(found_ino, 0);
	entries = 0;
	tree_each(inode(dir->ino)->area, count_entry, NULL, NULL);
	assert_int_equal(entries, 900);
}

static void a_block_that_cannot_be_read_is_written_anew(void **state)
{
	const struct known *file = find("many extents");
	const uint64_t leaf = file->blocks[1];

	start();
	damaged[leaf] = true;
	bad_block = leaf;
	fully();
	bad_block = NEVER;
	assert_true(rep.count[PROBLEM_MEDIUM] > 0);
	assert_mended(0, "a bad block");
}

static void too_little_memory_is_said_and_nothing_is_written(void **state)
{
	const struct check_dev dev = {
		.read = check_read, .bytes = VOLUME_BYTES, .write = check_write};
	struct check_options o = {.on_problem = on_problem};
	struct mem mem;

	start();
	lose(INO_BLOCK(root()));
	memcpy(snapshot[0], disk, VOLUME_BYTES);
	for (size_t bytes = 1 << 20; bytes < 16 << 20; bytes += 1 << 20) {
		mem_init(&mem, region, bytes);
		o.mem = &mem;
		if (!check_repair(&dev, &o, true, &rep))
			return;
		assert_memory_equal(snapshot[0], disk, VOLUME_BYTES);
	}
	fail();
}

/* ------------------------------------------------------------------ each block in turn */

static void set_atime(uint64_t ino)
{
	struct fs_request rq = {.op = FS_SETATTR, .ino = ino, .valid = FS_SET_ATIME};
	struct fs_reply rp = {0};

	rq.attr.atime_ns = 1700000001000000000;
	assert_int_equal(request(&rq, &rp), 0);
}

/*
 * Files go into the directories by turns: neighbours in a block of inodes have their names in as many
 * directories. Those of many extents have nodes of their own.
 */
static void round_robin(uint32_t dirs)
{
	uint64_t dir[16], file;
	char name[64];

	make_volume(4096);
	open_volume();
	for (uint32_t i = 0; i < dirs; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		dir[i] = make(root(), name, FS_MKDIR, S_IFDIR | 0755, NULL, 0);
		make(dir[i], "e", FS_MKDIR, S_IFDIR | 0755, NULL, 0);
	}
	for (uint32_t i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "a file with a name that is not short, %u", i);
		file = make(dir[i % dirs], name, FS_MKNOD, S_IFREG | 0644, NULL, 0);
		for (uint64_t e = 0; e < (i % 37 ? i % 3 : 40u); e++)
			allocate(file, e * 2 * 4096, 4096);
	}
	assert_int_equal(run_sync_close(rs), 0);
	remember();
}

/* All of them were looked at, and nothing else happened: inodes have newer images in the ring. */
static void read_all(void)
{
	open_volume();
	for (uint32_t i = 0; i < known_count; i++)
		set_atime(known[i].ino);
	assert_int_equal(run_sync_close(rs), 0);
	remember();
}

/* Blocks of that type that hold what the volume's names lead to. */
static uint32_t blocks_of(uint32_t magic, uint64_t out[BLOCKS])
{
	uint32_t n = 0;

	for (uint64_t b = 0; b < BLOCKS; b++) {
		bool ours = false;

		if (!layout_at(b) || layout_at(b)->magic != magic)
			continue;
		for (uint32_t i = 0; i < known_count && !ours; i++)
			for (uint32_t k = 0; k < known[i].block_count && !ours; k++)
				ours = known[i].blocks[k] == b;
		if (ours)
			out[n++] = b;
	}
	return n;
}

static void lost_together(uint32_t dirs, uint64_t a, uint64_t b, bool ring)
{
	char what[80];

	restore();
	memset(damaged, 0, sizeof(damaged));
	if (!ring)
		forget_ring();
	/* The images of these blocks only: the others' are what a repair must not go back to. */
	forget_image(a);
	lose(a);
	if (b != a) {
		forget_image(b);
		lose(b);
	}
	snprintf(what, sizeof(what), "%u directories, blocks %u and %u", dirs, (unsigned)a,
		(unsigned)b);
	fully();
	assert_true(rep.repaired > 0);
	assert_mended(0, what);
}

static void each_block_in_turn(uint32_t dirs)
{
	static uint64_t inodes[BLOCKS], nodes[BLOCKS];
	const uint32_t n = blocks_of(MAGIC_INODE, inodes), t = blocks_of(MAGIC_TREE, nodes);

	assert_true(n > 200 / INODES_PER_BLOCK && t >= dirs);
	for (uint32_t i = 0; i < n; i += LOST_STEP) {
		lost_together(dirs, inodes[i], inodes[i], true);
		if (i % 2)
			lost_together(dirs, inodes[i], inodes[(i + 1) % n], true);
		else
			lost_together(dirs, inodes[i], inodes[(i + n / 2) % n], i % 4 != 0);
		if (i % 3 == 0)
			lost_together(dirs, inodes[i], nodes[i % t], true);
	}
	for (uint32_t i = 0; i < t; i += LOST_STEP)
		lost_together(dirs, nodes[i], nodes[i], true);
}

static void any_lost_block_costs_no_more_than_itself(void **state)
{
	static const uint32_t dirs[] = {7, 8, 16};

	for (uint32_t i = 0; i < 3; i++) {
		round_robin(dirs[i]);
		each_block_in_turn(dirs[i]);
		read_all();
		each_block_in_turn(dirs[i]);
	}
}

int main(void)
{
	const struct CMUnitTest image[] = {cmocka_unit_test(image_is_written)};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_damage_is_repaired),
		cmocka_unit_test(power_may_fail_during_a_repair),
		cmocka_unit_test(an_inode_that_had_a_tree_comes_back_with_it),
		cmocka_unit_test(leaves_that_were_cut_off_fill_the_gap),
		cmocka_unit_test(of_two_files_with_one_cluster_each_reads_what_it_read),
		cmocka_unit_test(one_extent_where_no_data_may_lie_costs_no_other),
		cmocka_unit_test(nothing_is_written_before_the_claim_is_taken),
		cmocka_unit_test(a_flipped_bit_is_flipped_back),
		cmocka_unit_test(superblocks_that_all_have_wrong_bits_are_put_together),
		cmocka_unit_test(superblocks_without_a_majority_stay),
		cmocka_unit_test(blocks_that_changed_places_go_back),
		cmocka_unit_test(a_lost_root_is_made_anew_and_all_is_in_lost_found),
		cmocka_unit_test(a_block_that_cannot_be_read_is_written_anew),
		cmocka_unit_test(too_little_memory_is_said_and_nothing_is_written),
		/* The last: it makes other volumes. */
		cmocka_unit_test(any_lost_block_costs_no_more_than_itself),
	};

	if (getenv("CSVFS_IMAGE"))
		return cmocka_run_group_tests(image, NULL, teardown);
	return cmocka_run_group_tests(tests, setup_varied, teardown);
}
