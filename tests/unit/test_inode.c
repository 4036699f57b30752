/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The hash of names, and what the verifiers of inodes and nodes refuse. */
#include "metadata/cookie.h"
#include "tests/unit/ops_run.h"

static void siphash_is_the_published_one(void **state)
{
	/* Aumasson, Bernstein: SipHash, appendix A; and the first of their test vectors. */
	uint8_t key[16], in[15];

	for (uint8_t i = 0; i < 16; i++)
		key[i] = i;
	for (uint8_t i = 0; i < 15; i++)
		in[i] = i;
	assert_true(siphash24(key, in, 15) == 0xa129ca6149be45e5ull);
	assert_true(siphash24(key, in, 0) == 0x726fdb47dd0e0e31ull);
	assert_true(siphash24(key, in, 8) == 0x93f5f5799a932462ull);
}

static void bucket_leaves_room_for_dots_index_and_end(void **state)
{
	uint8_t key[16] = {1};

	for (uint32_t i = 0; i < 10000; i++) {
		uint64_t b = cookie_bucket(key, &i, sizeof(i));

		assert_int_equal(b & COOKIE_INDEX_MAX, 0);
		assert_true(b > COOKIE_INDEX_MAX && b + COOKIE_INDEX_MAX < INT64_MAX - 255);
	}
}

/* ------------------------------------------------------------------ verifiers */

static struct disk_inode_block block;
static struct disk_inode *in = &block.slot[2];
#define INO INO_MAKE(1000, 3)

/* A block with one file of two extents in slot 3. */
static int setup(void **state)
{
	struct disk_node *n = (struct disk_node *)in->area;
	struct disk_slot *s = (struct disk_slot *)(n + 1);
	struct disk_extent e[2] = {{le64_of(100), le32_of(5), le32_of(EXT_WRITTEN)},
		{le64_of(300), le32_of(1), le32_of(EXT_UNWRITTEN)}};

	memset(&block, 0, sizeof(block));
	block.h.blkno = le64_of(1000);
	in->ino = le64_of(INO);
	in->generation = le64_of(1);
	in->mode = le32_of(S_IFREG | 0644);
	in->nlink = le32_of(1);
	in->clusters = le64_of(6);
	*n = (struct disk_node){TREE_EXTENTS, 0, le16_of(2), le16_of(400), le16_of(0)};
	s[0] = (struct disk_slot){le64_of(0), le16_of(400), le16_of(16)};
	s[1] = (struct disk_slot){le64_of(7), le16_of(416), le16_of(16)};
	memcpy(in->area + 400, e, sizeof(e));
	return 0;
}

static enum problem verify(void)
{
	static struct disk_super super;
	struct verify_report rep = {0};
	enum problem p;

	super.cluster_bytes = le32_of(65536);
	super.cluster_count = le64_of(10000);
	super.block_count = le64_of(160000);
	super.data_start = le64_of(500);
	p = verify_inodes(&block, &super, &rep);
	assert_int_equal(p, rep.problem);
	return p;
}

static struct disk_extent *extent(uint32_t i)
{
	return (struct disk_extent *)(in->area + 400) + i;
}

static struct disk_slot *slot(uint32_t i)
{
	return (struct disk_slot *)(in->area + sizeof(struct disk_node)) + i;
}

static struct disk_node *node(void)
{
	return (struct disk_node *)in->area;
}

#define REFUSES(change, code)                                                                      \
	do {                                                                                       \
		setup(NULL);                                                                       \
		assert_int_equal(verify(), PROBLEM_NONE);                                          \
		change;                                                                            \
		assert_string_equal(problem_name(verify()), problem_name(PROBLEM_##code));         \
	} while (0)

static void inode_that_contradicts_itself_is_refused(void **state)
{
	REFUSES(in->ino = le64_of(INO + 1), INODE_SLOT);
	REFUSES(in->generation = le64_of(0), INODE_GENERATION);
	REFUSES(in->mode = le32_of(0644), INODE_MODE);
	REFUSES(in->mode = le32_of(0), INODE_MODE);
	REFUSES(in->mode = le32_of(S_IFDIR | 0755), TREE_KIND);
	REFUSES(in->mode = le32_of(S_IFIFO | 0755), INODE_INLINE);
	REFUSES(in->nlink = le32_of(0), INODE_NLINK);
	REFUSES(in->flags = le32_of(INODE_ORPHAN), INODE_NLINK);
	REFUSES(in->flags = le32_of(1u << 20), INODE_FLAGS);
	REFUSES((in->nlink = le32_of(0), in->flags = le32_of(INODE_FREEING | INODE_ORPHAN)),
		INODE_FLAGS);
	REFUSES(in->parent = le64_of(INO), INODE_PARENT);
	REFUSES(in->size = le64_of(FILE_BYTES_MAX + 1), INODE_SIZE);
	REFUSES(in->xattr_count = le32_of(1), XATTR);
	REFUSES(in->xattr_root = le64_of(600), XATTR);
	REFUSES(in->reserved[1] = le64_of(1), RESERVED);
	REFUSES(block.slot[0].size = le64_of(1), INODE_MODE);
	REFUSES(block.h.owner = le64_of(1), HEADER_OWNER);
}

static void node_that_leads_outside_is_refused(void **state)
{
	REFUSES(node()->kind = 0, TREE_KIND);
	REFUSES(node()->kind = 9, TREE_KIND);
	REFUSES(node()->level = TREE_LEVELS_MAX, TREE_LEVEL);
	REFUSES(node()->count = le16_of(40), TREE_COUNT);
	REFUSES(node()->count = le16_of(65535), TREE_COUNT);
	REFUSES(node()->heap = le16_of(10), TREE_COUNT);
	REFUSES(node()->heap = le16_of(433), TREE_COUNT);
	REFUSES(node()->frag = le16_of(1), TREE_RECORD);
	REFUSES(slot(0)->off = le16_of(399), TREE_RECORD);
	REFUSES(slot(1)->off = le16_of(417), TREE_RECORD);
	REFUSES(slot(1)->off = le16_of(65535), TREE_RECORD);
	REFUSES(slot(1)->len = le16_of(15), TREE_RECORD);
	REFUSES(slot(1)->key = le64_of(0), TREE_ORDER);
	REFUSES(node()->level = 1, TREE_RECORD);
}

static void extent_that_cannot_be_is_refused(void **state)
{
	REFUSES(extent(0)->len = le32_of(0), EXTENT_EMPTY);
	REFUSES(extent(0)->len = le32_of(EXTENT_LEN_MAX + 1), EXTENT_EMPTY);
	REFUSES(extent(0)->len = le32_of(8), EXTENT_OVERLAP);
	REFUSES(extent(1)->state = le32_of(EXT_HOLE), EXTENT_STATE);
	REFUSES(extent(1)->state = le32_of(4), EXTENT_STATE);
	REFUSES(extent(1)->start = le64_of(10000), EXTENT_RANGE);
	REFUSES(extent(1)->start = le64_of(UINT64_MAX), EXTENT_RANGE);
	REFUSES(extent(0)->start = le64_of(9996), EXTENT_RANGE);
	REFUSES(extent(0)->start = le64_of(0), CLUSTER_IN_META);
	REFUSES(extent(1)->start = le64_of(500 / 16), CLUSTER_IN_META);
	REFUSES(extent(1)->start = le64_of(9999), CLUSTER_IN_META);
	REFUSES(extent(0)->start = le64_of(9995), CLUSTER_IN_META);
	REFUSES(slot(1)->key = le64_of(FILE_BYTES_MAX / 65536), EXTENT_BEYOND);
	REFUSES(slot(1)->key = le64_of(UINT64_MAX), EXTENT_BEYOND);
}

static void dirent_that_cannot_be_is_refused(void **state)
{
	struct disk_dirent d = {le64_of(INO), S_IFREG >> 12};
	uint8_t v[300] = {0};
	struct verify_report rep;

	memcpy(v, &d, sizeof(d));
	memcpy(v + 9, "name", 4);
#define DIRENT(key, len) verify_record(TREE_DIR, key, v, len, NULL, &rep)
	assert_int_equal(DIRENT(256, 13), PROBLEM_NONE);
	assert_int_equal(DIRENT(255, 13), PROBLEM_DIRENT_HASH);
	assert_int_equal(DIRENT(1ull << 63, 13), PROBLEM_DIRENT_HASH);
	assert_int_equal(DIRENT(256, 9), PROBLEM_TREE_RECORD);
	assert_int_equal(DIRENT(256, 265), PROBLEM_TREE_RECORD);
	assert_int_equal(DIRENT(256, 14), PROBLEM_DIRENT_NAME); /* a zero in it */
	v[10] = '/';
	assert_int_equal(DIRENT(256, 13), PROBLEM_DIRENT_NAME);
	memcpy(v + 9, "..", 2);
	assert_int_equal(DIRENT(256, 10), PROBLEM_DIRENT_NAME);
	assert_int_equal(DIRENT(256, 11), PROBLEM_DIRENT_NAME);
	v[9] = 'a';
	assert_int_equal(DIRENT(256, 11), PROBLEM_NONE);
	v[8] = 3;
	assert_int_equal(DIRENT(256, 11), PROBLEM_DIRENT_TYPE);
	v[8] = 8;
	v[0] &= 0xf8; /* slot 0 */
	assert_int_equal(DIRENT(256, 11), PROBLEM_DIRENT_INO);
}

static void symlink_that_cannot_be_is_refused(void **state)
{
#define LINK()                                                                                     \
	(memset(in->area, 0, sizeof(in->area)), memcpy(in->area, "target", 6),                     \
		in->mode = le32_of(S_IFLNK | 0777), in->clusters = le64_of(0),                     \
		in->size = le64_of(6))
	setup(NULL);
	LINK();
	assert_int_equal(verify(), PROBLEM_NONE);
	REFUSES((LINK(), in->size = le64_of(0)), SYMLINK);
	REFUSES((LINK(), in->size = le64_of(7)), SYMLINK);
	REFUSES((LINK(), in->size = le64_of(5)), INODE_INLINE);
	REFUSES((LINK(), in->size = le64_of(4096)), SYMLINK);
	REFUSES((LINK(), in->size = le64_of(433)), BLKNO_RANGE);
	REFUSES((LINK(), in->clusters = le64_of(1)), INODE_BLOCKS);
	REFUSES((LINK(), in->tree_blocks = le64_of(1)), INODE_BLOCKS);
}

static void slot_that_is_used_again_has_another_generation(void **state)
{
	uint64_t root = run_mkfs(1u << 16), first[3], again;

	for (uint32_t i = 0; i < 3; i++) {
		do_make(FS_CREATE, root, "f", 0644, &again);
		first[i] = run.r.reply.attr.generation;
		assert_int_equal(do_name(FS_UNLINK, root, "f"), 0);
	}
	assert_int_equal(first[1], first[0] + 1);
	assert_int_equal(first[2], first[0] + 2);
	assert_true(first[2] < 1ull << 31);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(siphash_is_the_published_one),
		cmocka_unit_test(bucket_leaves_room_for_dots_index_and_end),
		cmocka_unit_test(inode_that_contradicts_itself_is_refused),
		cmocka_unit_test(node_that_leads_outside_is_refused),
		cmocka_unit_test(extent_that_cannot_be_is_refused),
		cmocka_unit_test(dirent_that_cannot_be_is_refused),
		cmocka_unit_test(symlink_that_cannot_be_is_refused),
		cmocka_unit_test(slot_that_is_used_again_has_another_generation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
