/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The fsck library finds nothing on a sound volume, and each kind of damage on others. */
#include "tests/unit/check_volume.h"

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
	else if (!strcmp(f->name, "inode.mode") || !strcmp(f->name, "e.mode"))
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

static void seal(const void *p)
{
	fields_seal(disk + ((const uint8_t *)p - disk) / BLOCK_SIZE * BLOCK_SIZE);
}

static struct disk_inode *inode(uint64_t ino)
{
	struct disk_inode_block *b = (struct disk_inode_block *)(disk + INO_BLOCK(ino) * BLOCK_SIZE);

	return &b->slot[INO_SLOT(ino) - 1];
}

static void set_entry(const char *name, uint64_t ino)
{
	uint8_t *p = entry(name);
	le64 v = le64_of(ino);

	memcpy(p, &v, sizeof(v));
	seal(p);
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
	x->len = le32_of(EXTENT_LEN_MAX);
	seal(x);
	finds(PROBLEM_EXTENT_RANGE);
	x->len = le32_of(EXTENT_LEN_MAX + 1);
	seal(x);
	finds(PROBLEM_EXTENT_EMPTY);
	x->len = le32_of(0);
	seal(x);
	finds(PROBLEM_EXTENT_EMPTY);
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

/* ------------------------------------------------------------------ the table of fields */

static void the_claims_fields_are_where_the_claim_puts_them(void **state)
{
	struct claim c = {.epoch = 1, .heartbeat = 2, .state = CLAIM_HELD, .node = 3, .incarnation = 4,
		.life = 5, .name = "six", .given_up_count = 2, .given_up = {{7, 8}, {9, 10}},
		.kept = true, .fenced_count = 2, .fenced = {{11, 12, 13}, {14, 15, 16}}};
	const struct block_layout *l = fields_of(CLAIM_MAGIC);
	static const struct {
		const char *name;
		uint64_t value;
	} want[] = {{"epoch", 1}, {"heartbeat", 2}, {"state", 1}, {"node", 3}, {"incarnation", 4},
		{"life", 5}, {"given_up", 2}, {"given_up.node[0]", 7}, {"given_up.life[0]", 8},
		{"given_up.node[1]", 9}, {"given_up.life[1]", 10}, {"flags", 1}, {"fenced", 2},
		{"fenced.node[0]", 11}, {"fenced.incarnation[1]", 15}, {"fenced.name_crc[1]", 16}};
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
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
