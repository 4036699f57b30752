/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations one by one: what POSIX and ops.h say of each. Random sequences: test_ops_model.c. */
#include <stdio.h>
#include <sys/xattr.h>

#include "tests/unit/ops_run.h"

#define NOREPLACE 1u
#define EXCHANGE 2u

static uint64_t root;

static int setup(void **state)
{
	root = run_mkfs(1u << 16);
	run.faults = true;
	return 0;
}

static int teardown(void **state)
{
	run.faults = false;
	run_background();
	check_volume();
	return 0;
}

static struct fs_attr attr_of(uint64_t ino)
{
	assert_int_equal(do_getattr(ino), 0);
	return run.r.reply.attr;
}

static uint64_t lookup(uint64_t dir, const char *name)
{
	return do_name(FS_LOOKUP, dir, name) ? 0 : run.r.reply.attr.ino;
}

/* ------------------------------------------------------------------ names */

static void new_file_has_what_was_asked_for(void **state)
{
	struct fs_request *q = rq(FS_MKNOD, root, "f");
	struct fs_attr a;

	q->mode = S_IFREG | 06666;
	q->cred = (struct fs_cred){7, 8, 022};
	q->time_ns = 123456789012345678;
	assert_int_equal(run_request(), 0);
	a = run.r.reply.attr;
	assert_int_equal(a.mode, S_IFREG | 06644);
	assert_int_equal(a.uid, 7);
	assert_int_equal(a.gid, 8);
	assert_int_equal(a.nlink, 1);
	assert_int_equal(a.size, 0);
	assert_int_equal(a.blocks, 0);
	assert_int_not_equal(a.generation, 0);
	assert_true(a.atime_ns == 123456789012345678 && a.mtime_ns == a.atime_ns &&
		    a.ctime_ns == a.atime_ns && a.btime_ns == a.atime_ns);
	assert_int_equal(lookup(root, "f"), a.ino);
	assert_true(attr_of(root).mtime_ns == 123456789012345678);
	assert_true(attr_of(root).ctime_ns == 123456789012345678);
}

static void every_type_can_be_made_and_removed(void **state)
{
	static const uint32_t types[] = {S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};

	for (unsigned int i = 0; i < 5; i++) {
		rq(FS_MKNOD, root, "x")->mode = types[i] | 0600;
		run.r.rq.rdev = 0x1234;
		assert_int_equal(run_request(), 0);
		assert_int_equal(run.r.reply.attr.mode, types[i] | 0600);
		assert_int_equal(run.r.reply.attr.rdev,
			S_ISCHR(types[i]) || S_ISBLK(types[i]) ? 0x1234 : 0);
		check_volume();
		assert_int_equal(do_name(FS_UNLINK, root, "x"), 0);
	}
	assert_int_equal(do_make(FS_MKNOD, root, "x", S_IFDIR | 0600, NULL), -EPERM);
	assert_int_equal(do_make(FS_MKNOD, root, "x", S_IFLNK | 0600, NULL), -EINVAL);
	assert_int_equal(fake.inodes_used, 1);
}

static void names_have_limits(void **state)
{
	char name[300];
	uint64_t ino;

	memset(name, 'n', sizeof(name));
	name[255] = 0;
	ino = create(root, name);
	assert_int_equal(lookup(root, name), ino);
	assert_int_equal(do_name(FS_UNLINK, root, name), 0);
	name[255] = 'n';
	name[299] = 0;
	assert_int_equal(do_make(FS_CREATE, root, name, 0644, NULL), -ENAMETOOLONG);
	assert_int_equal(do_name(FS_LOOKUP, root, name), -ENAMETOOLONG);
	assert_int_equal(do_name(FS_UNLINK, root, name), -ENAMETOOLONG);
	assert_int_equal(do_rename(root, name, root, "x", 0), -ENAMETOOLONG);
	assert_int_equal(do_make(FS_CREATE, root, "", 0644, NULL), -ENOENT);
	assert_int_equal(do_make(FS_CREATE, root, "a/b", 0644, NULL), -EEXIST);
	assert_int_equal(do_make(FS_MKDIR, root, ".", 0755, NULL), -EEXIST);
	assert_int_equal(do_make(FS_MKDIR, root, "..", 0755, NULL), -EEXIST);
	assert_int_equal(do_name(FS_RMDIR, root, "."), -EINVAL);
}

static void create_of_what_is_there(void **state)
{
	create(root, "f");
	assert_int_equal(do_make(FS_MKNOD, root, "f", S_IFREG | 0644, NULL), -EEXIST);
	assert_int_equal(do_make(FS_MKDIR, root, "f", 0755, NULL), -EEXIST);
	assert_int_equal(do_symlink(root, "f", "t", 1), -EEXIST);
	rq(FS_CREATE, root, "f")->flags = O_EXCL | O_CREAT;
	assert_int_equal(run_request(), -EEXIST);
	/* Without O_EXCL: the kernel looks again, and checks the permission to open it. */
	rq(FS_CREATE, root, "f")->flags = O_CREAT;
	assert_int_equal(run_request(), -ESTALE);
}

static void parent_must_be_a_directory_that_is_there(void **state)
{
	uint64_t f = create(root, "f"), d = mkdir_(root, "d");

	assert_int_equal(do_make(FS_CREATE, f, "x", 0644, NULL), -ENOTDIR);
	assert_int_equal(do_name(FS_LOOKUP, f, "x"), -ENOTDIR);
	assert_int_equal(do_name(FS_UNLINK, f, "x"), -ENOTDIR);
	assert_int_equal(do_name(FS_READDIR, f, ""), -ENOTDIR);
	assert_int_equal(do_name(FS_LOOKUP, root, "x"), -ENOENT);
	assert_int_equal(do_name(FS_UNLINK, root, "x"), -ENOENT);
	run_set_open(d, true);
	assert_int_equal(do_name(FS_RMDIR, root, "d"), 0);
	/* Removed, and still open somewhere. */
	assert_int_equal(attr_of(d).nlink, 0);
	assert_int_equal(do_make(FS_CREATE, d, "x", 0644, NULL), -ENOENT);
	assert_int_equal(do_link(f, d, "x"), -ENOENT);
	assert_int_equal(do_rename(root, "f", d, "x", 0), -ENOENT);
	assert_int_equal(do_name(FS_LOOKUP, d, "x"), -ENOENT);
	run_set_open(d, false);
	assert_int_equal(do_name(FS_FREE_ORPHAN, d, ""), 0);
	assert_int_equal(do_make(FS_CREATE, d, "x", 0644, NULL), -ESTALE);
}

static void stale_numbers_of_any_kind_are_refused(void **state)
{
	uint64_t f = create(root, "f"), generation = attr_of(f).generation;
	static const uint64_t wild[] = {0, 1, 8, 1ull << 40, UINT64_MAX};

	for (unsigned int i = 0; i < 5; i++)
		assert_int_equal(do_getattr(wild[i]), -ESTALE);
	assert_int_equal(do_name(FS_UNLINK, root, "f"), 0);
	assert_int_equal(do_getattr(f), -ESTALE);
	assert_int_equal(do_size(f, 5), -ESTALE);
	assert_int_equal(do_link(f, root, "g"), -ESTALE);
	assert_int_equal(do_layout(f, 0, 1, FS_LAYOUT_WRITE), -ESTALE);
	/* The same slot again is another life. */
	assert_int_equal(create(root, "g"), f);
	assert_int_equal(attr_of(f).generation, (generation + 1) & 0x7fffffff);
}

static void handle_is_found_by_dot(void **state)
{
	uint64_t d = mkdir_(root, "d"), f = create(d, "f");

	assert_int_equal(lookup(f, "."), f);
	assert_int_equal(lookup(d, ".."), root);
	assert_int_equal(lookup(root, ".."), root);
	assert_int_equal(do_name(FS_LOOKUP, f, ".."), -ENOTDIR);
	assert_int_equal(do_name(FS_LOOKUP, 12345678, "."), -ESTALE);
}

static void setgid_directory_passes_on_its_group(void **state)
{
	uint64_t d = mkdir_(root, "d");
	struct fs_request *q = rq(FS_SETATTR, d, NULL);

	q->valid = FS_SET_MODE | FS_SET_GID;
	q->attr.mode = 02775;
	q->attr.gid = 42;
	assert_int_equal(run_request(), 0);
	create(d, "f");
	assert_int_equal(run.r.reply.attr.gid, 42);
	assert_int_equal(run.r.reply.attr.mode, S_IFREG | 0644);
	mkdir_(d, "sub");
	assert_int_equal(run.r.reply.attr.gid, 42);
	assert_int_equal(run.r.reply.attr.mode, S_IFDIR | 02755);
}

static void links_are_counted_to_their_limit(void **state)
{
	uint64_t f = create(root, "f"), d = mkdir_(root, "d");
	char name[16];

	assert_int_equal(do_link(f, d, "g"), 0);
	assert_int_equal(run.r.reply.attr.nlink, 2);
	assert_int_equal(do_link(f, d, "g"), -EEXIST);
	assert_int_equal(do_link(d, root, "e"), -EPERM);
	assert_int_equal(do_link(f, f, "e"), -ENOTDIR);
	assert_int_equal(do_name(FS_UNLINK, root, "f"), 0);
	assert_int_equal(attr_of(f).nlink, 1);
	run.faults = false;
	for (uint32_t i = 1; i < LINKS_MAX; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(do_link(f, d, name), 0);
	}
	assert_int_equal(do_link(f, d, "more"), -EMLINK);
	assert_int_equal(do_rename(root, "d", root, "dd", 0), 0);
}

static void directory_links_follow_subdirectories(void **state)
{
	uint64_t a = mkdir_(root, "a"), b = mkdir_(root, "b");

	assert_int_equal(attr_of(root).nlink, 4);
	mkdir_(a, "s");
	assert_int_equal(attr_of(a).nlink, 3);
	assert_int_equal(do_rename(a, "s", b, "s", 0), 0);
	assert_int_equal(attr_of(a).nlink, 2);
	assert_int_equal(attr_of(b).nlink, 3);
	assert_int_equal(lookup(lookup(b, "s"), ".."), b);
	assert_int_equal(do_name(FS_RMDIR, root, "b"), -ENOTEMPTY);
	assert_int_equal(do_name(FS_RMDIR, b, "s"), 0);
	assert_int_equal(do_name(FS_RMDIR, root, "b"), 0);
	assert_int_equal(attr_of(root).nlink, 3);
	assert_int_equal(do_name(FS_UNLINK, root, "a"), -EISDIR);
	create(root, "f");
	assert_int_equal(do_name(FS_RMDIR, root, "f"), -ENOTDIR);
}

static void removing_sets_times(void **state)
{
	uint64_t f = create(root, "f");

	assert_int_equal(do_link(f, root, "g"), 0);
	rq(FS_UNLINK, root, "f")->time_ns = 5555;
	assert_int_equal(run_request(), 0);
	assert_int_equal(attr_of(root).mtime_ns, 5555);
	assert_int_equal(attr_of(root).ctime_ns, 5555);
	assert_int_equal(attr_of(f).ctime_ns, 5555);
	assert_int_not_equal(attr_of(f).mtime_ns, 5555);
}

/* ------------------------------------------------------------------ rename */

static void rename_replaces_what_may_be_replaced(void **state)
{
	uint64_t f = create(root, "f"), g = create(root, "g"), d = mkdir_(root, "d");
	uint64_t e = mkdir_(root, "e"), s;

	rq(FS_RENAME, root, "f")->ino2 = root;
	strcpy(run.r.rq.name2, "g");
	run.r.rq.time_ns = 999;
	assert_int_equal(run_request(), 0);
	assert_int_equal(lookup(root, "g"), f);
	assert_int_equal(lookup(root, "f"), 0);
	assert_int_equal(do_getattr(g), -ESTALE);
	assert_int_equal(attr_of(f).ctime_ns, 999);
	assert_int_equal(attr_of(root).mtime_ns, 999);

	assert_int_equal(do_rename(root, "g", root, "d", 0), -EISDIR);
	assert_int_equal(do_rename(root, "d", root, "g", 0), -ENOTDIR);
	assert_int_equal(do_rename(root, "x", root, "g", 0), -ENOENT);
	assert_int_equal(do_rename(root, "d", root, "e", 0), 0);
	assert_int_equal(lookup(root, "e"), d);
	assert_int_equal(do_getattr(e), -ESTALE);
	assert_int_equal(attr_of(root).nlink, 3);
	s = mkdir_(d, "s");
	create(s, "f");
	mkdir_(root, "t");
	assert_int_equal(do_rename(root, "t", d, "s", 0), -ENOTEMPTY);
	assert_int_equal(do_name(FS_UNLINK, s, "f"), 0);
	/* A directory over a directory of another parent: one comes, one goes. */
	assert_int_equal(do_rename(root, "t", d, "s", 0), 0);
	assert_int_equal(attr_of(d).nlink, 3);
	assert_int_equal(attr_of(root).nlink, 3);
}

static void rename_of_two_names_of_one_file_does_nothing(void **state)
{
	uint64_t f = create(root, "f");

	assert_int_equal(do_link(f, root, "g"), 0);
	assert_int_equal(do_rename(root, "f", root, "g", 0), 0);
	assert_int_equal(lookup(root, "f"), f);
	assert_int_equal(attr_of(f).nlink, 2);
	assert_int_equal(do_rename(root, "f", root, "f", 0), 0);
	assert_int_equal(do_rename(root, "f", root, "g", NOREPLACE), -EEXIST);
}

static void rename_flags(void **state)
{
	uint64_t f = create(root, "f"), d = mkdir_(root, "d"), s = mkdir_(d, "s");

	assert_int_equal(do_rename(root, "f", d, "f", NOREPLACE), 0);
	assert_int_equal(do_rename(d, "f", root, "d", NOREPLACE), -EEXIST);
	assert_int_equal(do_rename(d, "f", root, "x", EXCHANGE), -ENOENT);
	assert_int_equal(do_rename(d, "f", root, "d", EXCHANGE | NOREPLACE), -EINVAL);
	assert_int_equal(do_rename(d, "f", root, "x", 4), -EINVAL);
	create(root, "x");
	/* A file for a directory of another parent. */
	assert_int_equal(do_rename(root, "x", d, "s", EXCHANGE), 0);
	assert_int_equal(lookup(root, "x"), s);
	assert_int_equal(lookup(s, ".."), root);
	assert_int_equal(attr_of(d).nlink, 2);
	assert_int_equal(attr_of(root).nlink, 4);
	/* Two directories of different parents. */
	mkdir_(d, "u");
	assert_int_equal(do_rename(d, "u", root, "x", EXCHANGE), 0);
	assert_int_equal(lookup(d, "u"), s);
	assert_int_equal(lookup(s, ".."), d);
	assert_int_equal(attr_of(d).nlink, 3);
	assert_int_equal(attr_of(root).nlink, 4);
	assert_int_equal(do_rename(root, "d", d, "f", EXCHANGE), -EINVAL);
	assert_int_equal(do_rename(d, "f", root, "d", EXCHANGE), -EINVAL);
	assert_int_equal(lookup(d, "f"), f);
}

static void directory_cannot_come_into_itself(void **state)
{
	uint64_t a = mkdir_(root, "a"), b = mkdir_(a, "b"), c = mkdir_(b, "c");

	assert_int_equal(do_rename(root, "a", a, "x", 0), -EINVAL);
	assert_int_equal(do_rename(root, "a", c, "x", 0), -EINVAL);
	assert_int_equal(do_rename(a, "b", c, "x", 0), -EINVAL);
	assert_int_equal(do_rename(b, "c", root, "a", 0), -ENOTEMPTY);
	assert_int_equal(do_rename(b, "c", root, "c", 0), 0);
	assert_int_equal(do_rename(root, "a", c, "a", 0), 0);
	assert_int_equal(lookup(a, ".."), c);
}

/* ------------------------------------------------------------------ readdir */

static uint64_t next_cookie;

/* Reads up to `most` entries behind the cookie into marks by number in the name. */
static uint32_t list(uint64_t dir, uint64_t cookie, uint32_t room, uint8_t *marks)
{
	struct fs_request *q = rq(FS_READDIR, dir, NULL);
	uint32_t n = 0;

	q->off = cookie;
	q->len = room;
	assert_int_equal(run_request(), 0);
	assert_true(run.r.reply.data_len <= room);
	for (uint32_t at = 0; at < run.r.reply.data_len; n++) {
		struct fs_dirent d;
		char name[256];

		memcpy(&d, run.data + at, sizeof(d));
		memcpy(name, run.data + at + sizeof(d), d.namelen);
		name[d.namelen] = 0;
		if (name[0] != '.') {
			marks[atoi(name)]++;
			assert_true(d.cookie > next_cookie && d.cookie <= INT64_MAX);
		}
		next_cookie = d.cookie;
		at += (uint32_t)FS_DIRENT_SIZE(d.namelen);
	}
	return n;
}

static void readdir_neither_skips_nor_repeats_what_stays(void **state)
{
	uint64_t d = mkdir_(root, "d");
	static uint8_t marks[4000];
	uint32_t seen = 0, n, step = 0;
	char name[16];

	run.faults = false;
	for (uint32_t i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "%u", i);
		create(d, name);
	}
	memset(marks, 0, sizeof(marks));
	next_cookie = 0;
	while ((n = list(d, next_cookie, 300, marks)) > 0) {
		seen += n;
		/* Meanwhile odd ones go, and others come. */
		for (uint32_t k = 0; k < 10; k++, step++) {
			snprintf(name, sizeof(name), "%u", (step * 2 + 1) % 2000);
			(void)do_name(FS_UNLINK, d, name);
			snprintf(name, sizeof(name), "%u", 2000 + step % 2000);
			(void)do_make(FS_CREATE, d, name, 0644, NULL);
		}
	}
	for (uint32_t i = 0; i < 2000; i += 2)
		assert_int_equal(marks[i], 1);
	for (uint32_t i = 0; i < 4000; i++)
		assert_true(marks[i] <= 1);
}

static void readdir_begins_with_dot_and_dotdot(void **state)
{
	uint64_t d = mkdir_(root, "d");
	struct fs_dirent e[2];

	rq(FS_READDIR, d, NULL)->len = 64;
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.data_len, 64);
	memcpy(&e[0], run.data, sizeof(e[0]));
	memcpy(&e[1], run.data + 32, sizeof(e[1]));
	assert_true(e[0].ino == d && e[0].cookie == 1 && e[0].namelen == 1 && e[0].type == 4);
	assert_true(e[1].ino == root && e[1].cookie == 2 && e[1].namelen == 2);
	rq(FS_READDIR, d, NULL)->len = 16;
	assert_int_equal(run_request(), -EINVAL);
	rq(FS_READDIR, d, NULL)->off = 2;
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.data_len, 0);
}

/* ------------------------------------------------------------------ symlinks, xattrs */

static void symlink_keeps_any_target(void **state)
{
	static const uint32_t lens[] = {1, 431, 432, 433, 4016, 4017, 4095};
	char target[5000];

	memset(target, 't', sizeof(target));
	for (unsigned int i = 0; i < 7; i++) {
		uint64_t ino;

		target[lens[i] - 1] = 'e';
		assert_int_equal(do_symlink(root, "l", target, lens[i]), 0);
		assert_int_equal(run.r.reply.attr.size, lens[i]);
		assert_int_equal(run.r.reply.attr.mode, S_IFLNK | 0777);
		ino = run.r.reply.attr.ino;
		rq(FS_READLINK, ino, NULL);
		assert_int_equal(run_request(), 0);
		assert_int_equal(run.r.reply.data_len, lens[i]);
		assert_memory_equal(run.data, target, lens[i]);
		target[lens[i] - 1] = 't';
		check_volume();
		assert_int_equal(do_name(FS_UNLINK, root, "l"), 0);
	}
	assert_int_equal(do_symlink(root, "l", target, 4096), -ENAMETOOLONG);
	assert_int_equal(do_symlink(root, "l", "", 0), -ENOENT);
	assert_int_equal(do_symlink(root, "l", "a\0b", 3), -EINVAL);
	rq(FS_READLINK, root, NULL);
	assert_int_equal(run_request(), -EINVAL);
	assert_int_equal(fake.blocks_used, 0);
}

static int get_xattr(uint64_t ino, const char *name)
{
	rq(FS_GETXATTR, ino, name);
	return run_request();
}

static void xattr_keeps_any_value(void **state)
{
	static const uint32_t lens[] = {0, 1, 704, 705, 4016, 4017, 65536};
	uint8_t *value = malloc(70000);
	uint64_t f = create(root, "f");

	memset(value, 'v', 70000);
	for (unsigned int i = 0; i < 7; i++) {
		value[0] = (uint8_t)i;
		assert_int_equal(do_setxattr(f, "user.a", value, lens[i], 0), 0);
		assert_int_equal(get_xattr(f, "user.a"), 0);
		assert_int_equal(run.r.reply.data_len, lens[i]);
		assert_memory_equal(run.data, value, lens[i]);
		check_volume();
	}
	assert_int_equal(do_setxattr(f, "user.a", value, 65537, 0), -E2BIG);
	assert_int_equal(do_setxattr(f, "", value, 1, 0), -ERANGE);
	assert_int_equal(do_setxattr(f, "user.a", value, 1, XATTR_CREATE), -EEXIST);
	assert_int_equal(do_setxattr(f, "user.b", value, 1, XATTR_REPLACE), -ENODATA);
	assert_int_equal(do_setxattr(f, "user.b", value, 1, 8), -EINVAL);
	assert_int_equal(do_setxattr(f, "user.b", value, 1, XATTR_CREATE), 0);
	rq(FS_LISTXATTR, f, NULL);
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.data_len, 14);
	assert_int_equal(do_name(FS_REMOVEXATTR, f, "user.a"), 0);
	assert_int_equal(do_name(FS_REMOVEXATTR, f, "user.a"), -ENODATA);
	assert_int_equal(get_xattr(f, "user.a"), -ENODATA);
	assert_int_equal(do_name(FS_REMOVEXATTR, f, "user.b"), 0);
	assert_int_equal(fake.blocks_used, 0);
	free(value);
}

static void names_of_xattrs_are_limited_to_what_a_list_can_hold(void **state)
{
	uint64_t f = create(root, "f");
	char name[256];
	uint32_t n;
	int err = 0;

	run.faults = false;
	memset(name, 'x', 255);
	name[255] = 0;
	for (n = 0; !err; n++) {
		memcpy(name, "user.", 5);
		snprintf(name + 5, 9, "%08u", n);
		name[13] = 'x';
		err = do_setxattr(f, name, "v", 1, 0);
	}
	assert_int_equal(err, -ENOSPC);
	assert_int_equal(n - 1, 256);
	rq(FS_LISTXATTR, f, NULL);
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.data_len, 65536);
	check_volume();
	assert_int_equal(do_name(FS_UNLINK, root, "f"), 0);
	run_background();
	assert_int_equal(fake.blocks_used, 0);
}

/* ------------------------------------------------------------------ attributes */

static void setattr_sets_what_it_is_told(void **state)
{
	uint64_t f = create(root, "f");
	struct fs_request *q = rq(FS_SETATTR, f, NULL);

	q->valid = FS_SET_MODE | FS_SET_UID | FS_SET_GID | FS_SET_ATIME | FS_SET_MTIME;
	q->attr = (struct fs_attr){
		.mode = 07777, .uid = 3, .gid = 4, .atime_ns = -5, .mtime_ns = 1234567890123456789};
	q->time_ns = 50;
	assert_int_equal(run_request(), 0);
	assert_int_equal(attr_of(f).mode, S_IFREG | 07777);
	assert_int_equal(attr_of(f).uid, 3);
	assert_int_equal(attr_of(f).gid, 4);
	assert_true(attr_of(f).atime_ns == -5);
	assert_true(attr_of(f).mtime_ns == 1234567890123456789);
	assert_true(attr_of(f).ctime_ns == 50);

	rq(FS_SETATTR, f, NULL)->valid = FS_SET_KILL_SUID;
	assert_int_equal(run_request(), 0);
	assert_int_equal(attr_of(f).mode, S_IFREG | 01777);
	rq(FS_SETATTR, f, NULL)->valid = FS_SET_MODE;
	run.r.rq.attr.mode = 06745; /* no group execute: setgid stays */
	assert_int_equal(run_request(), 0);
	rq(FS_SETATTR, f, NULL)->valid = FS_SET_KILL_SUID;
	assert_int_equal(run_request(), 0);
	assert_int_equal(attr_of(f).mode, S_IFREG | 02745);
}

static void size_is_for_regular_files_up_to_a_limit(void **state)
{
	uint64_t f = create(root, "f");

	assert_int_equal(do_size(root, 0), -EISDIR);
	do_make(FS_MKNOD, root, "p", S_IFIFO | 0600, NULL);
	assert_int_equal(do_size(run.r.reply.attr.ino, 0), -EINVAL);
	assert_int_equal(do_size(f, FILE_BYTES_MAX), 0);
	assert_int_equal(attr_of(f).size, FILE_BYTES_MAX);
	assert_int_equal(attr_of(f).blocks, 0);
	assert_int_equal(do_size(f, FILE_BYTES_MAX + 1), -EFBIG);
	assert_int_equal(do_layout(f, FILE_BYTES_MAX, 1, FS_LAYOUT_WRITE), -EFBIG);
	do_write(f, FILE_BYTES_MAX - 1, 1);
	assert_int_equal(attr_of(f).blocks, CLUSTER / 512);
	rq(FS_APPEND, f, NULL)->len = 1;
	assert_int_equal(run_request(), -EFBIG);
}

/* ------------------------------------------------------------------ layouts and space */

static void first_write_gets_space_and_commit_makes_it_written(void **state)
{
	uint64_t f = create(root, "f"), version;

	assert_int_equal(do_layout(f, 100, 10, 0), 0);
	assert_int_equal(run.r.reply.extent_count, 1);
	assert_int_equal(run.extents[0].state, EXT_HOLE);
	assert_int_equal(run.extents[0].len, CLUSTER);
	assert_int_equal(do_layout(f, 100, 10, FS_LAYOUT_WRITE), 0);
	version = run.r.reply.attr.version;
	assert_int_equal(run.extents[0].state, EXT_UNWRITTEN);
	assert_int_equal(run.extents[0].off, 0);
	assert_true(run.extents[0].lun_off >= FAKE_CLUSTER_FIRST * CLUSTER);
	assert_int_equal(attr_of(f).size, 0);
	assert_int_equal(attr_of(f).blocks, CLUSTER / 512);

	assert_int_equal(do_commit(f, 0, CLUSTER, 110), 0);
	assert_int_equal(attr_of(f).size, 110);
	assert_int_equal(attr_of(f).mtime_ns, 77);
	assert_int_equal(state_at(f, 0), EXT_WRITTEN);
	/* Twice does no harm, over a hole neither; a smaller size does not shrink. */
	assert_int_equal(do_commit(f, 0, 10 * CLUSTER, 50), 0);
	assert_int_equal(attr_of(f).size, 110);
	assert_int_equal(state_at(f, CLUSTER), EXT_HOLE);
	assert_int_equal(attr_of(f).version, version);
	assert_int_equal(do_commit(f, 1, CLUSTER, 0), -EINVAL);
	assert_int_equal(do_layout(root, 0, 1, 0), -EISDIR);
	assert_int_equal(do_layout(f, 0, 0, 0), -EINVAL);
}

static void commit_of_other_clusters_than_are_there_now_is_ignored(void **state)
{
	uint64_t f = create(root, "f");
	struct fs_extent x;
	struct fs_request *q;

	assert_int_equal(do_layout(f, 0, 1, FS_LAYOUT_WRITE), 0);
	x = run.extents[0];
	x.len = CLUSTER;
	x.lun_off += CLUSTER;
	q = rq(FS_LAYOUT_COMMIT, f, NULL);
	q->extents = &x;
	q->extent_count = 1;
	assert_int_equal(run_request(), 0);
	assert_int_equal(state_at(f, 0), EXT_UNWRITTEN);
	x.lun_off -= CLUSTER;
	q = rq(FS_LAYOUT_COMMIT, f, NULL);
	q->extents = &x;
	q->extent_count = 1;
	assert_int_equal(run_request(), 0);
	assert_int_equal(state_at(f, 0), EXT_WRITTEN);
}

static void streaming_writer_gets_one_extent_and_space_ahead(void **state)
{
	uint64_t f = create(root, "f");

	run.faults = false;
	for (uint64_t off = 0; off < 64 << 20; off += CLUSTER)
		do_write(f, off, CLUSTER);
	assert_int_equal(do_layout(f, 0, 64 << 20, 0), 0);
	assert_int_equal(run.extents[0].state, EXT_WRITTEN);
	assert_int_equal(run.extents[0].len, 64 << 20);
	assert_true(attr_of(f).blocks * 512 <= 192 << 20);
	/* What is ahead goes when nobody has it open any more, and not before. */
	run_set_open(f, true);
	assert_int_equal(do_name(FS_CLOSE, f, ""), 0);
	assert_true(attr_of(f).blocks * 512 > 64 << 20);
	run_set_open(f, false);
	assert_int_equal(do_name(FS_CLOSE, f, ""), 0);
	run_background();
	assert_int_equal(attr_of(f).blocks * 512, 64 << 20);
	assert_int_equal(attr_of(f).size, 64 << 20);
}

static void scattered_writers_get_nothing_ahead(void **state)
{
	uint64_t f = create(root, "f");

	/* Not even when their sizes are not committed yet. */
	for (uint64_t off = 40; off < 400; off += 7)
		assert_int_equal(do_layout(f, off * CLUSTER, CLUSTER, FS_LAYOUT_WRITE), 0);
	assert_int_equal(attr_of(f).blocks * 512, (400 - 40 + 6) / 7 * CLUSTER);
}

static void small_file_takes_one_cluster(void **state)
{
	uint64_t f = create(root, "f");

	do_write(f, 0, 5000);
	assert_int_equal(attr_of(f).blocks * 512, CLUSTER);
}

static void no_space_is_said_only_when_nothing_was_got(void **state)
{
	uint64_t f = create(root, "f"), g = create(root, "g");

	run.faults = false;
	fake.cluster_count = FAKE_CLUSTER_FIRST + 4;
	do_write(g, 0, 2 * CLUSTER);
	assert_int_equal(do_layout(f, 0, 10 * CLUSTER, FS_LAYOUT_WRITE), 0);
	assert_int_equal(run.extents[0].len, 2 * CLUSTER);
	assert_int_equal(run.extents[1].state, EXT_HOLE);
	assert_int_equal(do_layout(f, 2 * CLUSTER, 8 * CLUSTER, FS_LAYOUT_WRITE), -ENOSPC);
	assert_int_equal(do_layout(f, CLUSTER, 8 * CLUSTER, FS_LAYOUT_WRITE), 0);
	assert_int_equal(do_fallocate(f, 0, 3 * CLUSTER, 0), -ENOSPC);
	assert_int_equal(do_name(FS_UNLINK, root, "g"), 0);
	assert_int_equal(do_layout(f, 2 * CLUSTER, CLUSTER, FS_LAYOUT_WRITE), 0);
}

static void shrinking_frees_what_is_behind_the_end(void **state)
{
	uint64_t f = create(root, "f"), version;

	do_write(f, 0, 10 * CLUSTER);
	version = attr_of(f).version;
	assert_int_equal(do_size(f, 2 * CLUSTER + 1), 0);
	assert_int_equal(attr_of(f).blocks * 512, 3 * CLUSTER);
	assert_true(attr_of(f).version > version);
	assert_int_equal(do_size(f, 9 * CLUSTER), 0);
	assert_int_equal(state_at(f, 2 * CLUSTER), EXT_WRITTEN);
	assert_int_equal(state_at(f, 3 * CLUSTER), EXT_HOLE);
	assert_int_equal(do_size(f, 0), 0);
	assert_int_equal(fake.clusters_used, 0);
}

/* A file of n extents: every second cluster of it. */
static uint64_t scattered(const char *name, uint32_t n)
{
	uint64_t f = create(root, name);
	bool faults = run.faults;

	run.faults = false;
	for (uint64_t i = 0; i < n; i++) {
		assert_int_equal(do_layout(f, 2 * i * CLUSTER, 1, FS_LAYOUT_WRITE), 0);
		assert_int_equal(do_commit(f, 2 * i * CLUSTER, CLUSTER, 2 * i * CLUSTER + 1), 0);
		fake.cluster_hint = FAKE_CLUSTER_FIRST + i * 61 % 50000;
	}
	run.faults = faults;
	return f;
}

static void large_truncate_takes_effect_at_once_and_space_comes_back_later(void **state)
{
	uint64_t f, left;

	fake.run_max = 1;
	f = scattered("f", 6000);
	run.steps = 0;
	run.faults = false;
	assert_int_equal(do_size(f, CLUSTER), 0);
	assert_int_equal(run.steps, 1);
	assert_int_equal(attr_of(f).size, CLUSTER);
	left = fake.clusters_used;
	assert_true(left > 1);
	check_volume();
	/* Others are not held up. */
	run.steps = 0;
	create(root, "g");
	assert_int_equal(run.steps, 1);
	/* Whoever makes the file grow sees none of the old extents. */
	assert_int_equal(do_size(f, 12000 * CLUSTER), 0);
	assert_int_equal(fake.clusters_used, 1);
	assert_int_equal(state_at(f, 2000 * CLUSTER), EXT_HOLE);
	assert_int_equal(run_background(), 0);
	assert_int_equal(le64_get(fake.super.intent_root), 0);
}

static void large_file_is_unlinked_at_once_and_freed_later(void **state)
{
	uint64_t f, steps;

	fake.run_max = 1;
	f = scattered("f", 6000);
	run.faults = true;
	assert_int_equal(do_name(FS_UNLINK, root, "f"), 0);
	assert_true(fake.clusters_used > 0);
	assert_int_equal(do_getattr(f), -ESTALE);
	assert_int_equal(do_name(FS_LOOKUP, f, "."), -ESTALE);
	check_volume();
	assert_true(fake.kicks > 0);
	steps = run_background();
	assert_true(steps >= 5 && steps < 100);
	assert_int_equal(fake.clusters_used, 0);
	assert_int_equal(fake.blocks_used, 0);
	assert_int_equal(fake.inodes_used, 1);
}

static void truncated_large_file_can_be_unlinked_meanwhile(void **state)
{
	uint64_t f;

	run.faults = false;
	f = scattered("f", 6000);
	assert_int_equal(do_size(f, 1), 0);
	assert_true(le64_get(fake.super.intent_root) != 0);
	run_set_open(f, true);
	assert_int_equal(do_name(FS_UNLINK, root, "f"), 0);
	assert_int_equal(attr_of(f).nlink, 0);
	run_set_open(f, false);
	assert_int_equal(do_name(FS_FREE_ORPHAN, f, ""), 0);
	run_background();
	assert_int_equal(fake.inodes_used, 1);
	assert_int_equal(fake.blocks_used, 0);
}

static void unlinked_file_lives_until_its_last_close(void **state)
{
	uint64_t f = create(root, "f"), g = create(root, "g");

	do_write(f, 0, CLUSTER);
	run_set_open(f, true);
	run_set_open(g, true);
	assert_int_equal(do_name(FS_UNLINK, root, "f"), 0);
	assert_int_equal(do_rename(root, "g", root, "h", 0), 0);
	create(root, "i");
	assert_int_equal(do_rename(root, "i", root, "h", 0), 0);
	assert_int_equal(attr_of(f).nlink, 0);
	assert_int_equal(attr_of(f).size, CLUSTER);
	do_write(f, CLUSTER, CLUSTER);
	assert_int_equal(do_link(f, root, "again"), -ENOENT);
	/* Asked too early: it stays. */
	assert_int_equal(do_name(FS_FREE_ORPHAN, f, ""), 0);
	assert_int_equal(attr_of(f).nlink, 0);
	check_volume();
	/* After a crash only f is found to be open still. */
	run_set_open(g, false);
	rq(FS_FREE_ORPHAN, 0, NULL);
	run.faults = false;
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.off, g);
	rq(FS_FREE_ORPHAN, 0, NULL);
	assert_int_equal(run_request(), -ENOENT);
	assert_int_equal(do_getattr(g), -ESTALE);
	run_set_open(f, false);
	assert_int_equal(do_name(FS_CLOSE, f, ""), 0);
	assert_int_equal(do_getattr(f), -ESTALE);
	assert_int_equal(do_name(FS_FREE_ORPHAN, f, ""), 0);
	assert_int_equal(fake.clusters_used, 0);
	assert_int_equal(le64_get(fake.super.orphan_root), 0);
}

static void nothing_is_lost_when_a_tree_finds_no_block_for_what_was_allocated(void **state)
{
	uint64_t a = create(root, "a"), b = create(root, "b");
	uint32_t failed = 0;

	run.faults = false;
	/* Holes of one cluster each on the LUN, so that each allocation is an extent. */
	do_write(b, 0, 200 * CLUSTER);
	for (uint64_t c = 0; c < 200; c += 2)
		assert_int_equal(do_fallocate(b, c * CLUSTER, CLUSTER,
					 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
			0);
	fake.cluster_hint = FAKE_CLUSTER_FIRST;
	do_write(a, 0, 12 * CLUSTER);
	for (uint32_t n = 1; n < 20; n++) {
		fake.fail_alloc = n;
		/* No cluster: what was got is enough. No block for the tree: all is undone. */
		if (do_layout(a, 12 * CLUSTER, 9 * CLUSTER, FS_LAYOUT_WRITE))
			failed++;
		fake.fail_alloc = 0;
		check_volume();
		assert_int_equal(do_size(a, 12 * CLUSTER), 0);
		check_volume();
	}
	assert_int_equal(failed, 1);
}

static void full_volume_can_be_emptied(void **state)
{
	uint64_t f, g = create(root, "g"), h = create(root, "h");

	run.faults = false;
	f = scattered("f", 6000);
	do_write(h, 0, 100 * CLUSTER);
	fake.blocks_limit = fake.blocks_used; /* from here on only of the reserve */
	assert_int_equal(do_setxattr(g, "user.a", "v", 1, 0), -ENOSPC);
	run_set_open(g, true);
	assert_int_equal(do_name(FS_UNLINK, root, "g"), 0);
	/* A hole, and a state: more extents than before. */
	for (uint64_t c = 1; c < 100; c += 2)
		assert_int_equal(do_fallocate(h, c * CLUSTER, CLUSTER,
					 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
			0);
	assert_int_equal(do_size(f, CLUSTER), 0);
	assert_int_equal(do_name(FS_UNLINK, root, "f"), 0);
	assert_int_equal(do_name(FS_UNLINK, root, "h"), 0);
	run_background();
	run_set_open(g, false);
	assert_int_equal(do_name(FS_FREE_ORPHAN, g, ""), 0);
	assert_int_equal(fake.clusters_used, 0);
	assert_int_equal(fake.blocks_used, 0);
}

static void what_was_written_is_committed_on_a_full_volume(void **state)
{
	uint64_t f = create(root, "f");

	run.faults = false;
	assert_int_equal(do_fallocate(f, 0, 1000 * CLUSTER, 0), 0);
	fake.blocks_limit = 1;
	for (uint64_t c = 0; c < 1000; c += 2)
		assert_int_equal(do_commit(f, c * CLUSTER, CLUSTER, 0), 0);
	assert_int_equal(state_at(f, 500 * CLUSTER), EXT_WRITTEN);
	assert_int_equal(state_at(f, 501 * CLUSTER), EXT_UNWRITTEN);
}

static void commit_of_everything_goes_in_steps(void **state)
{
	const uint64_t n = 20000;
	uint64_t f = create(root, "f");

	run.faults = false;
	for (uint64_t i = 0; i < n; i++)
		assert_int_equal(do_layout(f, 2 * i * CLUSTER, 1, FS_LAYOUT_WRITE), 0);
	run.steps = 0;
	assert_int_equal(do_commit(f, 0, 2 * n * CLUSTER, 2 * n * CLUSTER), 0);
	assert_true(run.steps > 1);
	assert_int_equal(attr_of(f).size, 2 * n * CLUSTER);
	for (uint64_t i = 0; i < n; i += 777)
		assert_int_equal(state_at(f, 2 * i * CLUSTER), EXT_WRITTEN);
	assert_int_equal(state_at(f, 2 * (n - 1) * CLUSTER), EXT_WRITTEN);
}

static void append_gives_each_its_own_room(void **state)
{
	uint64_t f = create(root, "f");

	for (uint64_t i = 0; i < 5; i++) {
		rq(FS_APPEND, f, NULL)->len = 1000;
		assert_int_equal(run_request(), 0);
		assert_int_equal(run.r.reply.off, i * 1000);
		assert_int_equal(run.r.reply.attr.size, i * 1000 + 1000);
	}
}

static void fallocate_gives_space_that_reads_as_zero(void **state)
{
	uint64_t f = create(root, "f");

	assert_int_equal(do_fallocate(f, 100, 3 * CLUSTER, 0), 0);
	assert_int_equal(attr_of(f).size, 3 * CLUSTER + 100);
	assert_int_equal(attr_of(f).blocks * 512, 4 * CLUSTER);
	assert_int_equal(state_at(f, 0), EXT_UNWRITTEN);
	assert_int_equal(do_fallocate(f, 8 * CLUSTER, CLUSTER, FALLOC_FL_KEEP_SIZE), 0);
	assert_int_equal(attr_of(f).size, 3 * CLUSTER + 100);
	assert_int_equal(attr_of(f).blocks * 512, 5 * CLUSTER);
	/* That was asked for: it stays at close. */
	assert_int_equal(do_name(FS_CLOSE, f, ""), 0);
	assert_int_equal(attr_of(f).blocks * 512, 5 * CLUSTER);
	assert_int_equal(do_size(f, 3 * CLUSTER), 0);
	assert_int_equal(attr_of(f).blocks * 512, 3 * CLUSTER);
	/* It went with the end of the file, and what is ahead of a writer now goes at close. */
	do_write(f, 3 * CLUSTER, 4 * CLUSTER);
	assert_true(attr_of(f).blocks * 512 > 7 * CLUSTER);
	assert_int_equal(do_name(FS_CLOSE, f, ""), 0);
	assert_int_equal(attr_of(f).blocks * 512, 7 * CLUSTER);
	assert_int_equal(do_fallocate(f, 0, 0, 0), -EINVAL);
	assert_int_equal(do_fallocate(f, 0, 1, FALLOC_FL_COLLAPSE_RANGE), -EOPNOTSUPP);
	assert_int_equal(do_fallocate(f, 0, 1, FALLOC_FL_PUNCH_HOLE), -EOPNOTSUPP);
	assert_int_equal(do_fallocate(f, FILE_BYTES_MAX, 1, 0), -EFBIG);
	assert_int_equal(do_fallocate(root, 0, 1, 0), -ENODEV);
}

static void fallocate_of_a_fragmented_volume_goes_in_steps(void **state)
{
	uint64_t f = create(root, "f");

	fake.run_max = 1;
	run.faults = false;
	run.steps = 0;
	assert_int_equal(do_fallocate(f, 0, 5000 * CLUSTER, 0), 0);
	assert_true(run.steps > 50);
	assert_int_equal(attr_of(f).size, 5000 * CLUSTER);
	assert_int_equal(attr_of(f).blocks * 512, 5000 * CLUSTER);
	/* More than there is: refused before anything is taken. */
	assert_int_equal(do_fallocate(f, 0, 70000 * CLUSTER, 0), -ENOSPC);
	assert_int_equal(fake.clusters_used, 5000);
}

static void punch_frees_whole_clusters(void **state)
{
	const uint32_t punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	uint64_t f = create(root, "f");

	do_write(f, 0, 10 * CLUSTER);
	assert_int_equal(do_fallocate(f, CLUSTER + 1, 3 * CLUSTER, punch), 0);
	assert_int_equal(state_at(f, CLUSTER), EXT_WRITTEN);
	assert_int_equal(state_at(f, 2 * CLUSTER), EXT_HOLE);
	assert_int_equal(state_at(f, 3 * CLUSTER), EXT_HOLE);
	assert_int_equal(state_at(f, 4 * CLUSTER), EXT_WRITTEN);
	assert_int_equal(attr_of(f).blocks * 512, 8 * CLUSTER);
	assert_int_equal(attr_of(f).size, 10 * CLUSTER);
	assert_int_equal(do_fallocate(f, 9 * CLUSTER + 5, CLUSTER, punch), 0);
	assert_int_equal(state_at(f, 9 * CLUSTER), EXT_WRITTEN);
	assert_int_equal(do_fallocate(f, 0, FILE_BYTES_MAX, punch), 0);
	assert_int_equal(fake.clusters_used, 0);
}

static void range_that_cuts_written_clusters_needs_somebody_to_zero_them(void **state)
{
	const uint32_t punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	static const struct {
		uint64_t off, len;
		int err;
	} cases[] = {
		{CLUSTER, CLUSTER, 0},
		{CLUSTER + 1, CLUSTER - 1, -EOPNOTSUPP},
		{CLUSTER, CLUSTER - 1, -EOPNOTSUPP},
		{1, 2, -EOPNOTSUPP},
		{3 * CLUSTER, CLUSTER + 5, 0},	   /* behind the end */
		{2 * CLUSTER + 7, 9 * CLUSTER, -EOPNOTSUPP},
		{6 * CLUSTER + 7, 9 * CLUSTER, 0}, /* unwritten, and a hole */
	};

	for (unsigned int i = 0; i < 14; i++) {
		uint64_t f = create(root, "f");
		struct fs_request *q;

		do_write(f, 0, 3 * CLUSTER + 100);
		assert_int_equal(do_fallocate(f, 6 * CLUSTER, CLUSTER, FALLOC_FL_KEEP_SIZE), 0);
		q = rq(FS_FALLOCATE, f, NULL);
		q->flags = i % 2 ? punch : FALLOC_FL_ZERO_RANGE;
		q->off = cases[i / 2].off;
		q->len = cases[i / 2].len;
		assert_int_equal(run_request(), cases[i / 2].err);
		assert_int_equal(do_name(FS_UNLINK, root, "f"), 0);
	}
}

static void zero_range_makes_whole_clusters_unwritten(void **state)
{
	uint64_t f = create(root, "f");

	do_write(f, 0, 4 * CLUSTER);
	assert_int_equal(do_fallocate(f, 1, 6 * CLUSTER, FALLOC_FL_ZERO_RANGE), 0);
	assert_int_equal(state_at(f, 0), EXT_WRITTEN);
	assert_int_equal(state_at(f, CLUSTER), EXT_UNWRITTEN);
	assert_int_equal(state_at(f, 6 * CLUSTER), EXT_UNWRITTEN);
	assert_int_equal(attr_of(f).size, 6 * CLUSTER + 1);
	assert_int_equal(do_layout(f, CLUSTER, CLUSTER, 0), 0);
	assert_int_equal(run.extents[0].len, 6 * CLUSTER); /* one extent again */
}

static int seek(uint64_t ino, uint64_t off, uint32_t whence)
{
	rq(FS_LSEEK, ino, NULL)->off = off;
	run.r.rq.flags = whence;
	return run_request();
}

static void lseek_finds_data_and_holes(void **state)
{
	uint64_t f = create(root, "f");

	assert_int_equal(seek(f, 0, SEEK_DATA), -ENXIO);
	do_write(f, 2 * CLUSTER, CLUSTER);
	assert_int_equal(do_name(FS_CLOSE, f, ""), 0); /* nothing is ahead */
	assert_int_equal(do_size(f, 10 * CLUSTER), 0);
	assert_int_equal(seek(f, 5, SEEK_DATA), 0);
	assert_int_equal(run.r.reply.off, 2 * CLUSTER);
	assert_int_equal(seek(f, 5, SEEK_HOLE), 0);
	assert_int_equal(run.r.reply.off, 5);
	assert_int_equal(seek(f, 2 * CLUSTER + 7, SEEK_DATA), 0);
	assert_int_equal(run.r.reply.off, 2 * CLUSTER + 7);
	assert_int_equal(seek(f, 2 * CLUSTER + 7, SEEK_HOLE), 0);
	assert_int_equal(run.r.reply.off, 3 * CLUSTER);
	assert_int_equal(seek(f, 3 * CLUSTER, SEEK_DATA), -ENXIO);
	assert_int_equal(seek(f, 10 * CLUSTER, SEEK_HOLE), -ENXIO);
	assert_int_equal(seek(f, 0, 0), -EINVAL);
	do_write(f, 9 * CLUSTER, CLUSTER);
	assert_int_equal(seek(f, 9 * CLUSTER, SEEK_HOLE), 0);
	assert_int_equal(run.r.reply.off, 10 * CLUSTER);
}

/* ------------------------------------------------------------------ access control lists */

struct acl_item {
	uint16_t tag, perm;
	uint32_t id;
};

static int set_acl(uint64_t ino, const char *name, const struct acl_item *items, uint32_t n)
{
	static uint8_t value[256];
	uint32_t version = 2;

	memcpy(value, &version, 4);
	memcpy(value + 4, items, n * sizeof(*items));
	return do_setxattr(ino, name, value, 4 + n * (uint32_t)sizeof(*items), 0);
}

static const struct acl_item named[] = {
	{0x01, 7, 0}, {0x02, 6, 1001}, {0x04, 5, 0}, {0x10, 6, 0}, {0x20, 1, 0}};
static const struct acl_item plain[] = {{0x01, 6, 0}, {0x04, 4, 0}, {0x20, 0, 0}};

static void mode_and_access_list_stay_in_step(void **state)
{
	uint64_t f = create(root, "f");

	assert_int_equal(set_acl(f, "system.posix_acl_access", named, 5), 0);
	/* The group bits show the mask. */
	assert_int_equal(attr_of(f).mode, S_IFREG | 0761);
	rq(FS_SETATTR, f, NULL)->valid = FS_SET_MODE;
	run.r.rq.attr.mode = 0640;
	assert_int_equal(run_request(), 0);
	assert_int_equal(get_xattr(f, "system.posix_acl_access"), 0);
	assert_int_equal(run.r.reply.data_len, 44);
	assert_int_equal(run.data[4 + 2], 6);	       /* owner */
	assert_int_equal(run.data[4 + 2 * 8 + 2], 5);  /* group: as it was */
	assert_int_equal(run.data[4 + 3 * 8 + 2], 4);  /* mask */
	assert_int_equal(run.data[4 + 4 * 8 + 2], 0);  /* others */
	/* What the mode says by itself is not stored. */
	assert_int_equal(set_acl(f, "system.posix_acl_access", plain, 3), 0);
	assert_int_equal(attr_of(f).mode, S_IFREG | 0640);
	assert_int_equal(get_xattr(f, "system.posix_acl_access"), -ENODATA);
	assert_int_equal(set_acl(f, "system.posix_acl_access", named, 4), -EINVAL);
	assert_int_equal(set_acl(f, "system.posix_acl_access", named + 1, 4), -EINVAL);
	assert_int_equal(set_acl(f, "system.posix_acl_default", named, 5), -EACCES);
	assert_int_equal(do_setxattr(f, "system.posix_acl_access", "xx", 2, 0), -EINVAL);
	assert_int_equal(fake.blocks_used, 0);
}

static void default_list_is_inherited_instead_of_the_umask(void **state)
{
	uint64_t d = mkdir_(root, "d"), sub;

	assert_int_equal(set_acl(d, "system.posix_acl_default", named, 5), 0);
	assert_int_equal(attr_of(d).mode, S_IFDIR | 0755);
	rq(FS_CREATE, d, "f")->mode = 0644;
	run.r.rq.cred.umask = 077;
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.attr.mode, S_IFREG | 0640);
	assert_int_equal(get_xattr(run.r.reply.attr.ino, "system.posix_acl_access"), 0);
	assert_int_equal(run.data[4 + 3 * 8 + 2], 4); /* mask 6, of which 0644 leaves 4 */
	rq(FS_MKDIR, d, "s")->mode = 0777;
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.attr.mode, S_IFDIR | 0761);
	sub = run.r.reply.attr.ino;
	assert_int_equal(get_xattr(sub, "system.posix_acl_default"), 0);
	assert_int_equal(do_symlink(d, "l", "t", 1), 0);
	assert_int_equal(run.r.reply.attr.mode, S_IFLNK | 0777);
	rq(FS_CREATE, root, "f")->mode = 0666;
	run.r.rq.cred.umask = 027;
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.attr.mode, S_IFREG | 0640);
}

static void recorded_reply_is_filled_in_or_found_stale(void **state)
{
	uint64_t f = create(root, "f");
	struct fs_attr a = run.r.reply.attr;

	fake_begin();
	memset(&run.r.reply.attr, 0, sizeof(a));
	run.r.reply.attr.ino = a.ino;
	run.r.reply.attr.generation = a.generation;
	assert_int_equal(op_replied(&fake, &run.r), 0);
	assert_memory_equal(&run.r.reply.attr, &a, sizeof(a));
	run.r.reply.attr.generation++;
	assert_int_equal(op_replied(&fake, &run.r), -ESTALE);
	run.r.reply.attr.ino = 0;
	assert_int_equal(op_replied(&fake, &run.r), 0);
	fake_end(true);
	assert_int_equal(do_name(FS_UNLINK, root, "f"), 0);
	fake_begin();
	run.r.reply.attr.ino = f;
	assert_int_equal(op_replied(&fake, &run.r), -ESTALE);
	fake_end(true);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(new_file_has_what_was_asked_for),
		T(every_type_can_be_made_and_removed),
		T(names_have_limits),
		T(create_of_what_is_there),
		T(parent_must_be_a_directory_that_is_there),
		T(stale_numbers_of_any_kind_are_refused),
		T(handle_is_found_by_dot),
		T(setgid_directory_passes_on_its_group),
		T(links_are_counted_to_their_limit),
		T(directory_links_follow_subdirectories),
		T(removing_sets_times),
		T(rename_replaces_what_may_be_replaced),
		T(rename_of_two_names_of_one_file_does_nothing),
		T(rename_flags),
		T(directory_cannot_come_into_itself),
		T(readdir_neither_skips_nor_repeats_what_stays),
		T(readdir_begins_with_dot_and_dotdot),
		T(symlink_keeps_any_target),
		T(xattr_keeps_any_value),
		T(names_of_xattrs_are_limited_to_what_a_list_can_hold),
		T(setattr_sets_what_it_is_told),
		T(size_is_for_regular_files_up_to_a_limit),
		T(first_write_gets_space_and_commit_makes_it_written),
		T(commit_of_other_clusters_than_are_there_now_is_ignored),
		T(streaming_writer_gets_one_extent_and_space_ahead),
		T(scattered_writers_get_nothing_ahead),
		T(small_file_takes_one_cluster),
		T(no_space_is_said_only_when_nothing_was_got),
		T(shrinking_frees_what_is_behind_the_end),
		T(large_truncate_takes_effect_at_once_and_space_comes_back_later),
		T(large_file_is_unlinked_at_once_and_freed_later),
		T(truncated_large_file_can_be_unlinked_meanwhile),
		T(unlinked_file_lives_until_its_last_close),
		T(nothing_is_lost_when_a_tree_finds_no_block_for_what_was_allocated),
		T(full_volume_can_be_emptied),
		T(what_was_written_is_committed_on_a_full_volume),
		T(commit_of_everything_goes_in_steps),
		T(append_gives_each_its_own_room),
		T(fallocate_gives_space_that_reads_as_zero),
		T(fallocate_of_a_fragmented_volume_goes_in_steps),
		T(punch_frees_whole_clusters),
		T(range_that_cuts_written_clusters_needs_somebody_to_zero_them),
		T(zero_range_makes_whole_clusters_unwritten),
		T(lseek_finds_data_and_holes),
		T(mode_and_access_list_stay_in_step),
		T(default_list_is_inherited_instead_of_the_umask),
		T(recorded_reply_is_filled_in_or_found_stale),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
