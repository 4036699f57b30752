/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "csvfs/base/prng.h"
#include "metadata/btree.h"
#include "metadata/verify_inode.h"
#include "tests/unit/fake_txn.h"

/* A tree under test: its root in a block of its own, or inline in an inode's area. */
struct fixture {
	bool inlined;
	uint64_t root_blkno;
	uint64_t blocks; /* as block_delta adds up */
	struct block *holder;
	uint8_t *area;
	enum tree_kind kind;
};

#define OWNER 4711

static void fixture_init(struct fixture *f, bool inlined, enum tree_kind kind)
{
	memset(f, 0, sizeof(*f));
	fake_init(1u << 16);
	f->inlined = inlined;
	f->kind = kind;
	if (inlined) {
		uint64_t ino;
		bool is_new;

		fake_begin();
		assert_int_equal(alloc_inode(&fake, 0, &ino, &is_new), 0);
		assert_int_equal(txn_new(&fake, INO_BLOCK(ino), MAGIC_INODE, 0, &f->holder), 0);
		f->area = ((struct disk_inode_block *)f->holder->data)->slot[0].area;
		tree_format_root(f->area, INODE_INLINE_BYTES, kind);
		fake_end(true);
	}
}

static void open_tree(struct fixture *f, struct tree *tr)
{
	if (f->inlined)
		tree_inline(tr, &fake, f->kind, OWNER, f->holder, f->area, INODE_INLINE_BYTES);
	else
		tree_block(tr, &fake, f->kind, OWNER, f->root_blkno);
}

static void close_tree(struct fixture *f, const struct tree *tr)
{
	f->root_blkno = tr->root_blkno;
	f->blocks += (uint64_t)tr->block_delta;
}

enum change { INSERT, UPDATE, DELETE };

static int change(struct fixture *f, enum change what, uint64_t key, const void *v, uint32_t len)
{
	struct tree tr;
	int err;

	fake_begin();
	open_tree(f, &tr);
	if (what == INSERT)
		err = tree_insert(&tr, key, v, len);
	else if (what == UPDATE)
		err = tree_update(&tr, key, v, len);
	else
		err = tree_delete(&tr, key);
	fake_end(err == 0);
	if (!err)
		close_tree(f, &tr);
	return err;
}

/* Each node by itself: structure without the records' meaning (TREE_INTENTS etc. are not used here). */
static void check_node(const uint8_t *node, uint32_t bytes, uint32_t level, bool may_be_empty,
	uint64_t lo, uint64_t hi, uint64_t *nodes, uint64_t *records)
{
	const struct disk_node *h = (const struct disk_node *)node;
	const struct disk_slot *s = (const struct disk_slot *)(h + 1);
	uint32_t count = le16_get(h->count), heap = le16_get(h->heap), live = 0;

	assert_int_equal(h->level, level);
	assert_true(sizeof(*h) + count * sizeof(*s) <= heap && heap <= bytes);
	assert_true(count > 0 || may_be_empty);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t key = le64_get(s[i].key);
		uint32_t off = le16_get(s[i].off), len = le16_get(s[i].len);
		uint64_t low = level && i == 0 ? lo : key;
		uint64_t high = i + 1 < count ? le64_get(s[i + 1].key) - 1 : hi;
		struct block *b;
		le64 child;

		live += len;
		assert_true(off >= heap && off + len <= bytes);
		assert_true(i == 0 || key > le64_get(s[i - 1].key));
		if (level && i == 0)
			assert_int_equal(key, 0);
		else
			assert_true(key >= lo && key <= hi);
		if (level == 0) {
			(*records)++;
			continue;
		}
		memcpy(&child, node + off, 8);
		assert_int_equal(txn_get(&fake, le64_get(child), MAGIC_TREE, OWNER, &b), 0);
		(*nodes)++;
		check_node(((struct disk_tree_block *)b->data)->node, TREE_NODE_BYTES, level - 1,
			false, low, high, nodes, records);
	}
	assert_int_equal(live + le16_get(h->frag), bytes - heap);
}

static uint64_t check_tree(struct fixture *f)
{
	uint64_t nodes = 0, records = 0;
	struct block *b;

	fake_begin();
	if (f->inlined) {
		check_node(f->area, INODE_INLINE_BYTES, f->area[1], f->area[1] == 0, 0, UINT64_MAX,
			&nodes, &records);
	} else if (f->root_blkno) {
		nodes = 1;
		assert_int_equal(txn_get(&fake, f->root_blkno, MAGIC_TREE, OWNER, &b), 0);
		check_node(((struct disk_tree_block *)b->data)->node, TREE_NODE_BYTES,
			((struct disk_tree_block *)b->data)->node[1], false, 0, UINT64_MAX, &nodes,
			&records);
	}
	fake_end(true);
	assert_int_equal(nodes, f->blocks);
	assert_int_equal(nodes, fake.blocks_used);
	return records;
}

/* ------------------------------------------------------------------ model: a sorted array */

#define KEYS 4096

struct model {
	bool there[KEYS];
	uint16_t len[KEYS];
	uint8_t fill[KEYS];
	uint32_t count;
};

static uint64_t key_of(uint32_t i)
{
	return (uint64_t)i * 1000003u + 5;
}

static void compare(struct fixture *f, const struct model *m)
{
	uint8_t expect[TREE_VALUE_MAX];
	struct tree_cursor cur;
	struct tree_rec rec;
	struct tree tr;
	int err;

	fake_begin();
	open_tree(f, &tr);
	err = tree_first(&tr, 0, &cur, &rec);
	for (uint32_t i = 0; i < KEYS; i++) {
		if (!m->there[i])
			continue;
		assert_int_equal(err, 0);
		assert_int_equal(rec.key, key_of(i));
		assert_int_equal(rec.len, m->len[i]);
		memset(expect, m->fill[i], m->len[i]);
		assert_memory_equal(rec.value, expect, m->len[i]);
		err = tree_next(&cur, &rec);
	}
	assert_int_equal(err, -ENOENT);
	fake_end(true);
}

static void compare_points(struct fixture *f, const struct model *m, struct prng *p)
{
	uint32_t i = (uint32_t)prng_below(p, KEYS), j;
	struct tree_rec rec;
	struct tree tr;
	int err;

	fake_begin();
	open_tree(f, &tr);
	err = tree_get(&tr, key_of(i), &rec);
	assert_int_equal(err, m->there[i] ? 0 : -ENOENT);
	assert_int_equal(tree_get(&tr, key_of(i) + 1, &rec), -ENOENT);
	for (j = i; j < KEYS && !m->there[j]; j++)
		;
	err = tree_seek(&tr, key_of(i) - 1, &rec);
	assert_int_equal(err, j < KEYS ? 0 : -ENOENT);
	if (!err)
		assert_int_equal(rec.key, key_of(j));
	for (j = i; j > 0 && !m->there[j]; j--)
		;
	err = tree_floor(&tr, key_of(i) + 1, &rec);
	assert_int_equal(err, m->there[j] ? 0 : -ENOENT);
	if (!err)
		assert_int_equal(rec.key, key_of(j));
	fake_end(true);
}

/* Runs the change with a fault at the first, second, ... block or allocation, until none is met. */
static int change_with_faults(
	struct fixture *f, enum change what, uint64_t key, const void *v, uint32_t len, bool faults)
{
	uint32_t blocks = fake.blocks_used;
	int err = -EAGAIN;

	for (uint32_t n = 1; faults && err == -EAGAIN; n++) {
		fake.fail_get = n;
		err = change(f, what, key, v, len);
		fake.fail_get = 0;
		if (err == -EAGAIN)
			assert_int_equal(fake.blocks_used, blocks);
	}
	if (err != -EAGAIN)
		return err;
	for (uint32_t n = 1; faults; n++) {
		fake.fail_alloc = n;
		err = change(f, what, key, v, len);
		fake.fail_alloc = 0;
		if (err != -ENOSPC)
			return err;
		assert_int_equal(fake.blocks_used, blocks);
	}
	return change(f, what, key, v, len);
}

static void random_changes(
	bool inlined, uint32_t max_len, uint32_t steps, uint64_t seed, bool faults)
{
	struct prng p = {seed};
	struct model *m = calloc(1, sizeof(*m));
	uint8_t value[TREE_VALUE_MAX];
	struct fixture f;

	fixture_init(&f, inlined, TREE_DIR);
	for (uint32_t n = 0; n < steps; n++) {
		/* Grows and shrinks in turns, so that every size is passed both ways. */
		bool growing = (n / 1500) % 2 == 0;
		uint32_t i = (uint32_t)prng_below(&p, KEYS), len, op = (uint32_t)prng_below(&p, 10);
		int err;

		len = max_len ? (uint32_t)prng_below(&p, max_len + 1) : 16;
		memset(value, (int)(n & 0xff), sizeof(value));
		if (op == 0) {
			err = change_with_faults(&f, UPDATE, key_of(i), value, len, faults);
			assert_int_equal(err, m->there[i] ? 0 : -ENOENT);
		} else if ((op < 8) == growing) {
			err = change_with_faults(&f, INSERT, key_of(i), value, len, faults);
			assert_int_equal(err, m->there[i] ? -EEXIST : 0);
			m->count += !m->there[i];
			if (!err)
				m->there[i] = true;
		} else {
			err = change_with_faults(&f, DELETE, key_of(i), NULL, 0, faults);
			assert_int_equal(err, m->there[i] ? 0 : -ENOENT);
			m->count -= m->there[i];
			m->there[i] = false;
		}
		if (!err && m->there[i]) {
			m->len[i] = (uint16_t)len;
			m->fill[i] = (uint8_t)n;
		}
		compare_points(&f, m, &p);
		if (n % 100 == 0) {
			assert_int_equal(check_tree(&f), m->count);
			compare(&f, m);
		}
	}
	for (uint32_t i = 0; i < KEYS; i++) {
		if (m->there[i])
			assert_int_equal(change(&f, DELETE, key_of(i), NULL, 0), 0);
	}
	assert_int_equal(check_tree(&f), 0);
	assert_int_equal(fake.blocks_used, 0);
	assert_int_equal(fake.damages, 0);
	free(m);
}

static void random_changes_match_a_sorted_array(void **state)
{
	random_changes(false, 0, 12000, 1, false);
	random_changes(true, 0, 12000, 2, false);
	random_changes(true, 300, 12000, 3, false);
	random_changes(false, TREE_VALUE_MAX, 12000, 4, false);
}

static void fault_at_every_block_and_allocation_leaves_nothing_behind(void **state)
{
	random_changes(true, 0, 4000, 5, true);
	random_changes(true, TREE_VALUE_MAX, 4000, 6, true);
	random_changes(false, 200, 4000, 7, true);
}

static void fill_and_empty(bool inlined, int order, uint32_t n)
{
	struct fixture f;
	uint8_t value[16] = {1};
	uint64_t k, used;

	fixture_init(&f, inlined, TREE_EXTENTS);
	for (uint32_t i = 0; i < n; i++) {
		k = order == 0 ? i : order == 1 ? n - 1 - i : (uint64_t)i * 2654435761u % n;
		assert_int_equal(change(&f, INSERT, k, value, sizeof(value)), 0);
	}
	assert_int_equal(check_tree(&f), n);
	used = (uint64_t)n * 28 * 100 / (f.blocks * TREE_NODE_BYTES);
	/* What is appended fills its nodes; at random they are two thirds full. */
	print_message("order %d: %u%% full\n", order, (unsigned)used);
	assert_true(used >= (order == 0 ? 97 : order == 1 ? 45 : 60));
	for (uint32_t i = 0; i < n; i++) {
		k = (uint64_t)i * 40503u % n;
		assert_int_equal(change(&f, DELETE, k, NULL, 0), 0);
		if (i % (n / 16) == 0) {
			assert_int_equal(check_tree(&f), n - 1 - i);
			/* It shrinks as records go: never less than a quarter full. */
			assert_true(f.blocks <= 4 + (uint64_t)(n - i) * 28 * 4 / TREE_NODE_BYTES);
		}
	}
	assert_int_equal(check_tree(&f), 0);
	assert_int_equal(fake.blocks_used, 0);
}

static void hundred_thousand_records_come_and_go_in_any_order(void **state)
{
	fill_and_empty(false, 0, 100000);
	fill_and_empty(true, 1, 100003);
	fill_and_empty(true, 2, 100003);
}

/* Nodes that become empty one after the other, at either end: neighbours are too full to merge with. */
static void full_nodes_are_freed_as_they_become_empty(void **state)
{
	struct fixture f;
	uint8_t value[16] = {1};
	const uint32_t n = 60000;

	for (uint32_t from_end = 0; from_end < 2; from_end++) {
		fixture_init(&f, true, TREE_EXTENTS);
		for (uint32_t i = 0; i < n; i++)
			assert_int_equal(change(&f, INSERT, i, value, sizeof(value)), 0);
		for (uint32_t i = 0; i < n; i++) {
			assert_int_equal(change(&f, DELETE, from_end ? n - 1 - i : i, NULL, 0), 0);
			if (i % 500 == 0)
				assert_int_equal(check_tree(&f), n - 1 - i);
		}
		assert_int_equal(check_tree(&f), 0);
	}
}

static void one_change_touches_few_blocks(void **state)
{
	struct fixture f;
	uint8_t value[16] = {1};

	fixture_init(&f, true, TREE_EXTENTS);
	for (uint32_t i = 0; i < 100000; i++)
		assert_int_equal(
			change(&f, INSERT, (uint64_t)i * 2654435761u % 1000003, value, 16), 0);
	/* Three levels below the inode: a path, three splits, and the allocator's blocks. */
	assert_true(fake.gets_max <= 8);
	assert_true(fake.dirtied_max <= 12);
}

/* ------------------------------------------------------------------ damage */

static struct disk_node *first_leaf(struct fixture *f)
{
	const struct disk_slot *s = (const struct disk_slot *)(f->area + sizeof(struct disk_node));
	struct block *b;
	le64 child;

	memcpy(&child, f->area + le16_get(s->off), 8);
	assert_int_equal(txn_get(&fake, le64_get(child), MAGIC_TREE, OWNER, &b), 0);
	return (struct disk_node *)((struct disk_tree_block *)b->data)->node;
}

static int find(struct fixture *f, uint64_t key)
{
	struct tree_rec rec;
	struct tree tr;
	int err;

	fake_begin();
	open_tree(f, &tr);
	err = tree_get(&tr, key, &rec);
	fake_end(true);
	return err;
}

static void wrong_child_is_damage_and_never_followed(void **state)
{
	struct disk_slot *root_slot;
	struct disk_node *leaf;
	struct fixture f;
	uint8_t value[16] = {1};
	le64 old;

	fixture_init(&f, true, TREE_EXTENTS);
	for (uint32_t i = 0; i < 300; i++)
		assert_int_equal(change(&f, INSERT, i, value, 16), 0);
	fake.quiet = true;
	assert_int_equal(find(&f, 3), 0);

	leaf = first_leaf(&f);
	leaf->level = 1; /* would lead on for ever if a block pointed to itself */
	assert_int_equal(find(&f, 3), -EUCLEAN);
	leaf->level = 0;
	leaf->kind = TREE_DIR;
	assert_int_equal(find(&f, 3), -EUCLEAN);
	leaf->kind = TREE_EXTENTS;
	assert_int_equal(find(&f, 3), 0);

	/* The second child's bound moved up: keys below it in that child are lost to a look-up. */
	root_slot = (struct disk_slot *)(f.area + sizeof(struct disk_node)) + 1;
	old = root_slot->key;
	root_slot->key = le64_of(le64_get(old) + 1);
	assert_int_equal(find(&f, le64_get(old) + 1), -EUCLEAN);
	root_slot->key = le64_of(le64_get(old) - 1);
	assert_int_equal(find(&f, 3), -EUCLEAN);
	root_slot->key = old;
	assert_int_equal(find(&f, 3), 0);

	fake.block[FAKE_FIRST_BLOCK]->owner = OWNER + 1;
	assert_int_equal(find(&f, 3), -EUCLEAN);
	fake.block[FAKE_FIRST_BLOCK]->owner = OWNER;
	assert_int_equal(change(&f, DELETE, 3, NULL, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_changes_match_a_sorted_array),
		cmocka_unit_test(fault_at_every_block_and_allocation_leaves_nothing_behind),
		cmocka_unit_test(hundred_thousand_records_come_and_go_in_any_order),
		cmocka_unit_test(full_nodes_are_freed_as_they_become_empty),
		cmocka_unit_test(one_change_touches_few_blocks),
		cmocka_unit_test(wrong_child_is_damage_and_never_followed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
