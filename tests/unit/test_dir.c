/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names that collide: the hash is replaced by one with two values. */
#include "tests/unit/ops_run.h"
#include "metadata/cookie.h"

/* In place of cookie.c: even names to one bucket, odd ones to another, long ones to the last. */
uint64_t siphash24(const uint8_t key[16], const void *data, uint32_t len)
{
	return 12345;
}

uint64_t cookie_bucket(const uint8_t key[16], const void *name, uint32_t len)
{
	if (len > 100)
		return (1ull << 63) - 512;
	return ((const char *)name)[len - 1] % 2 ? 0x1100 : 0x1000;
}

static uint64_t root;

static int setup(void **state)
{
	root = run_mkfs(1u << 16);
	run.faults = true;
	return 0;
}

static int teardown(void **state)
{
	check_volume();
	return 0;
}

static const char *name_of(uint32_t i)
{
	static char name[32];

	snprintf(name, sizeof(name), "%u", i);
	return name;
}

static const char *xattr_of(uint32_t i)
{
	static char name[32];

	snprintf(name, sizeof(name), "user.%u", i);
	return name;
}

static void names_of_one_hash_are_told_apart(void **state)
{
	uint64_t ino[300];

	for (uint32_t i = 0; i < 300; i++)
		ino[i] = create(root, name_of(i));
	for (uint32_t i = 0; i < 300; i++) {
		assert_int_equal(do_name(FS_LOOKUP, root, name_of(i)), 0);
		assert_int_equal(run.r.reply.attr.ino, ino[i]);
	}
	assert_int_equal(do_name(FS_LOOKUP, root, "300"), -ENOENT);
	for (uint32_t i = 0; i < 300; i += 3)
		assert_int_equal(do_name(FS_UNLINK, root, name_of(i)), 0);
	for (uint32_t i = 0; i < 300; i++) {
		assert_int_equal(do_name(FS_LOOKUP, root, name_of(i)), i % 3 ? 0 : -ENOENT);
		if (i % 3)
			assert_int_equal(run.r.reply.attr.ino, ino[i]);
	}
}

static void cookie_stays_while_others_of_its_hash_come_and_go(void **state)
{
	struct dir_entry e;
	struct inode in;
	uint64_t cookie;

	run.faults = false;
	for (uint32_t i = 0; i < 20; i += 2)
		create(root, name_of(i));
	fake_begin();
	assert_int_equal(inode_get(&fake, root, &in), 0);
	assert_int_equal(dir_find(&in, "10", &e), 0);
	cookie = e.cookie;
	fake_end(true);
	assert_int_equal(cookie, 0x1005);
	for (uint32_t i = 0; i < 20; i += 2)
		assert_int_equal(i == 10 ? 0 : do_name(FS_UNLINK, root, name_of(i)), 0);
	create(root, "8");
	fake_begin();
	assert_int_equal(inode_get(&fake, root, &in), 0);
	assert_int_equal(dir_find(&in, "10", &e), 0);
	assert_int_equal(e.cookie, cookie);
	/* The first free place of the hash. */
	assert_int_equal(dir_find(&in, "8", &e), 0);
	assert_int_equal(e.cookie, 0x1000);
	fake_end(true);
	/* Renamed over: the new name's cookie stays. */
	assert_int_equal(do_rename(root, "8", root, "10", 0), 0);
	fake_begin();
	assert_int_equal(dir_find(&in, "10", &e), 0);
	assert_int_equal(e.cookie, cookie);
	fake_end(true);
}

static void two_hundred_and_fifty_six_names_share_a_hash_and_no_more(void **state)
{
	run.faults = false;
	for (uint32_t i = 0; i < 512; i += 2)
		create(root, name_of(i));
	assert_int_equal(do_make(FS_CREATE, root, "512", 0644, NULL), -ENOSPC);
	create(root, "513");
	/* A name that is there can still be replaced, and one that goes makes room. */
	assert_int_equal(do_rename(root, "513", root, "100", 0), 0);
	assert_int_equal(do_rename(root, "0", root, "514", 0), -ENOSPC);
	assert_int_equal(do_name(FS_UNLINK, root, "200"), 0);
	create(root, "512");
}

static void highest_cookies_are_listed(void **state)
{
	char name[256];
	uint64_t ino;

	memset(name, 'z', 255);
	name[255] = 0;
	ino = create(root, name);
	name[0] = 'y';
	create(root, name);
	rq(FS_READDIR, root, NULL)->off = 2;
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.data_len, 2 * FS_DIRENT_SIZE(255));
	assert_int_equal(((struct fs_dirent *)run.data)->ino, ino);
	rq(FS_READDIR, root, NULL)->off =
		((struct fs_dirent *)(run.data + FS_DIRENT_SIZE(255)))->cookie;
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.data_len, 0);
	rq(FS_READDIR, root, NULL)->off = INT64_MAX;
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.data_len, 0);
}

static void xattrs_of_one_hash_are_told_apart(void **state)
{
	uint64_t f = create(root, "f");

	for (uint32_t i = 0; i < 40; i++)
		assert_int_equal(do_setxattr(f, xattr_of(i), &i, sizeof(i), 0), 0);
	for (uint32_t i = 0; i < 40; i += 3)
		assert_int_equal(do_name(FS_REMOVEXATTR, f, xattr_of(i)), 0);
	for (uint32_t i = 0; i < 40; i++) {
		assert_int_equal(do_name(FS_GETXATTR, f, xattr_of(i)), i % 3 ? 0 : -ENODATA);
		if (i % 3)
			assert_memory_equal(run.data, &i, sizeof(i));
	}
	assert_int_equal(do_name(FS_UNLINK, root, "f"), 0);
	run.faults = false;
	run_background();
	assert_int_equal(fake.blocks_used, 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(names_of_one_hash_are_told_apart),
		T(cookie_stays_while_others_of_its_hash_come_and_go),
		T(two_hundred_and_fifty_six_names_share_a_hash_and_no_more),
		T(highest_cookies_are_listed),
		T(xattrs_of_one_hash_are_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
