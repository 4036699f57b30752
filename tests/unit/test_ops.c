/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operations on names, attributes, xattrs one by one: what POSIX and ops.h say of each. On space:
 * test_ops_data.c. Random sequences: test_ops_model.c.
 */
#include <stdio.h>
#include <sys/xattr.h>

#include "csvfs/base/cursor.h"
#include "tests/unit/ops_fixture.h"

#define NOREPLACE 1u
#define EXCHANGE 2u

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
		assert_int_equal(
			run.r.reply.attr.rdev, S_ISCHR(types[i]) || S_ISBLK(types[i]) ? 0x1234 : 0);
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

/* Who saw the number in its last life means something that is gone, whatever is to be done. */
static void a_number_is_asked_for_with_the_life_that_is_meant(void **state)
{
	static const enum fs_op ops[] = {FS_GETATTR, FS_OPEN, FS_SETATTR, FS_GETXATTR, FS_SETXATTR,
		FS_LOOKUP, FS_READDIR, FS_MKDIR, FS_RMDIR, FS_CREATE};
	uint64_t d = mkdir_(root, "d");
	uint32_t before = attr_of(d).generation & FS_GENERATION_MASK, now;

	assert_int_equal(do_name(FS_RMDIR, root, "d"), 0);
	assert_int_equal(mkdir_(root, "d2"), d);
	now = attr_of(d).generation & FS_GENERATION_MASK;
	for (unsigned int i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		rq(ops[i], d, "user.x")->generation = before;
		assert_int_equal(run_request(), -ESTALE);
	}
	create(root, "f");
	for (int i = 0; i < 2; i++) {
		rq(FS_RENAME, root, "f")->ino2 = d;
		run_name(run.r.rq.name2, "f");
		run.r.rq.generation2 = i ? now : before;
		assert_int_equal(run_request(), i ? 0 : -ESTALE);
	}
	rq(FS_LOOKUP, d, "f")->generation = now;
	assert_int_equal(run_request(), 0);
}

static void capabilities_go_with_a_write_and_are_known_by_a_flag(void **state)
{
	uint64_t f = create(root, "f");

	assert_int_equal(attr_of(f).flags, 0);
	assert_int_equal(do_setxattr(f, "security.capability", "xx", 2, 0), 0);
	assert_int_equal(do_setxattr(f, "user.a", "y", 1, 0), 0);
	assert_int_equal(attr_of(f).flags, FS_ATTR_CAPS);
	rq(FS_SETATTR, f, NULL)->valid = FS_SET_KILL_SUID;
	assert_int_equal(run_request(), 0);
	assert_int_equal(attr_of(f).flags, FS_ATTR_CAPS);
	rq(FS_SETATTR, f, NULL)->valid = FS_SET_KILL_CAPS;
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.attr.flags, 0);
	assert_int_equal(do_name(FS_GETXATTR, f, "security.capability"), -ENODATA);
	assert_int_equal(do_name(FS_GETXATTR, f, "user.a"), 0);
	rq(FS_SETATTR, f, NULL)->valid = FS_SET_KILL_CAPS;
	assert_int_equal(run_request(), 0);
	assert_int_equal(do_setxattr(f, "security.capability", "xx", 2, 0), 0);
	assert_int_equal(do_name(FS_REMOVEXATTR, f, "security.capability"), 0);
	assert_int_equal(attr_of(f).flags, 0);
}

static void set_mtime(uint64_t ino, int64_t when)
{
	rq(FS_SETATTR, ino, NULL)->valid = FS_SET_MTIME;
	run.r.rq.attr.mtime_ns = when;
	assert_int_equal(run_request(), 0);
}

static void a_read_sets_atime_if_it_is_due_and_nothing_else(void **state)
{
	uint64_t d = mkdir_(root, "d");
	struct fs_attr before = attr_of(d), after;
	int64_t when = before.ctime_ns + 5;

	for (int i = 0; i < 2; i++) {
		rq(FS_SETATTR, d, NULL)->valid = FS_SET_READ;
		run.r.rq.attr.atime_ns = when + i;
		assert_int_equal(run_request(), 0);
		after = attr_of(d);
		assert_int_equal(after.atime_ns, when); /* the second one is not due */
		assert_int_equal(after.mtime_ns, before.mtime_ns);
		assert_int_equal(after.ctime_ns, before.ctime_ns);
		assert_int_equal(run.r.reply.attr.atime_ns, when);
	}
	/* What somebody else knows to be later stays (client_void_change() asks so for nothing at all). */
	set_mtime(d, when + 100);
	before = attr_of(d);
	rq(FS_SETATTR, d, NULL)->valid = FS_SET_READ;
	run.r.rq.attr.atime_ns = INT64_MIN;
	assert_int_equal(run_request(), 0);
	after = attr_of(d);
	assert_int_equal(after.atime_ns, when);
	assert_int_equal(after.ctime_ns, before.ctime_ns);
}

static void rename_leaves_a_whiteout_if_asked(void **state)
{
	uint64_t d = mkdir_(root, "d"), f = create(root, "f"), w;

	rq(FS_RENAME, root, "f")->ino2 = d;
	run_name(run.r.rq.name2, "g");
	run.r.rq.flags = 4; /* RENAME_WHITEOUT */
	assert_int_equal(run_request(), 0);
	assert_int_equal(lookup(d, "g"), f);
	w = lookup(root, "f");
	assert_int_not_equal(w, f);
	assert_int_equal(attr_of(w).mode, S_IFCHR);
	assert_int_equal(attr_of(w).rdev, 0);
	assert_int_equal(attr_of(w).nlink, 1);
	assert_int_equal(attr_of(w).uid, 1000);
	rq(FS_RENAME, root, "d")->ino2 = root;
	run_name(run.r.rq.name2, "e");
	run.r.rq.flags = 4; /* RENAME_WHITEOUT */
	assert_int_equal(run_request(), 0);
	assert_int_equal(attr_of(root).nlink, 3);
	assert_int_equal(attr_of(lookup(root, "d")).mode, S_IFCHR);
	rq(FS_RENAME, root, "d")->ino2 = root;
	run_name(run.r.rq.name2, "f");
	run.r.rq.flags = 4 | 2; /* RENAME_WHITEOUT | RENAME_EXCHANGE */
	assert_int_equal(run_request(), -EINVAL);
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

/* As on ext4 and XFS: a directory may have a million of them, too. */
static void subdirectories_are_as_many_as_there_is_room_for(void **state)
{
	uint64_t a = mkdir_(root, "a"), b = mkdir_(root, "b");
	char name[16];

	run.faults = false;
	for (uint32_t i = 1; i <= LINKS_MAX; i++) {
		snprintf(name, sizeof(name), "%u", i);
		mkdir_(a, name);
	}
	assert_int_equal(attr_of(a).nlink, LINKS_MAX + 2);
	assert_int_equal(do_rename(root, "b", a, "b", 0), 0);
	assert_int_equal(attr_of(a).nlink, LINKS_MAX + 3);
	assert_int_equal(lookup(b, ".."), a);
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
	assert_int_equal(do_rename(d, "f", root, "x", 8), -EINVAL);
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

static int do_nameless(uint64_t dir)
{
	struct fs_request *q = rq(FS_CREATE, dir, "-");

	q->mode = S_IFREG | 0600;
	q->valid = FS_NO_NAME;
	return run_request();
}

static int do_link_to(uint64_t ino, const char *name)
{
	rq(FS_LINK, ino, name)->ino2 = root;
	return run_request();
}

static void file_without_a_name_goes_with_its_last_close(void **state)
{
	uint64_t inodes, ino;

	(void)create(root, "f"); /* so that there is a block of inodes */
	inodes = fake.inodes_used;
	assert_int_equal(do_nameless(root), 0);
	ino = run.r.reply.attr.ino;
	assert_int_equal(run.r.reply.attr.nlink, 0);
	run_set_open(ino, true);
	check_volume();
	assert_int_equal(do_name(FS_UNLINK, root, "-"), -ENOENT);
	run_set_open(ino, false);
	rq(FS_CLOSE, ino, NULL);
	assert_int_equal(run_request(), 0);
	assert_int_equal(fake.inodes_used, inodes);
	check_volume();
}

static void file_without_a_name_can_get_one_once_it_had_none(void **state)
{
	uint64_t ino;

	assert_int_equal(do_nameless(root), 0);
	ino = run.r.reply.attr.ino;
	run_set_open(ino, true);
	assert_int_equal(do_link_to(ino, "one"), 0);
	assert_int_equal(run.r.reply.attr.nlink, 1);
	check_volume();
	assert_int_equal(do_link_to(ino, "two"), 0);
	assert_int_equal(run.r.reply.attr.nlink, 2);
	/* but not again when it has lost them all */
	assert_int_equal(do_name(FS_UNLINK, root, "one"), 0);
	assert_int_equal(do_name(FS_UNLINK, root, "two"), 0);
	assert_int_equal(do_link_to(ino, "three"), -ENOENT);
	check_volume();
	run_set_open(ino, false);
	rq(FS_CLOSE, ino, NULL);
	assert_int_equal(run_request(), 0);
	check_volume();
}

static void access_list_by_one_outside_the_group_takes_setgid(void **state)
{
	uint64_t f = create(root, "f");

	rq(FS_SETATTR, f, NULL)->valid = FS_SET_MODE;
	run.r.rq.attr.mode = 02775;
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.attr.mode & 07777, 02775);
	assert_int_equal(do_setxattr(f, "user.a", "v", 1, 0), 0);
	rq(FS_GETATTR, f, NULL);
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.attr.mode & 07777, 02775);
	rq(FS_SETXATTR, f, "user.a")->valid = FS_SET_KILL_SUID;
	assert_int_equal(run_request(), 0);
	rq(FS_GETATTR, f, NULL);
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.attr.mode & 07777, 0775);
}

/* Whoever still holds it goes on with what the reply said (csvfs/fuse_gone.c). */
static void a_removal_says_what_went_for_good(void **state)
{
	static char big[2000];
	uint64_t d, f = create(root, "f");
	struct fs_gone_xattr x;
	struct fs_attr a;
	struct cursor c;
	bool open;

	assert_int_equal(do_make(FS_MKDIR, root, "d", S_IFDIR | 0751, NULL), 0);
	d = run.r.reply.attr.ino;
	assert_int_equal(do_setxattr(d, "user.a", "value", 5, 0), 0);
	assert_int_equal(do_setxattr(d, "user.big", big, sizeof(big), 0), 0);
	assert_int_equal(do_name(FS_RMDIR, root, "d"), 0);
	c = cursor_of(run.r.reply.data, run.r.reply.data_len);
	assert_true(fs_gone_get(&c, &a, &open));
	assert_true(a.ino == d && a.generation != 0 && !open);
	assert_int_equal(a.mode, S_IFDIR | 0751);
	assert_true(fs_gone_get_xattr(&c, &x));
	assert_true(x.name_len == 6 && !memcmp(x.name, "user.a", 6));
	assert_true(x.value_len == 5 && !memcmp(x.value, "value", 5));
	assert_false(fs_gone_get_xattr(&c, &x)); /* the other one has a block of its own */
	assert_int_equal(cursor_left(&c), 0);

	rq(FS_LINK, f, "g")->ino2 = root;
	assert_int_equal(run_request(), 0);
	assert_int_equal(do_name(FS_UNLINK, root, "g"), 0);
	assert_int_equal(run.r.reply.data_len, 0); /* there is another link */
	run_set_open(f, true);
	assert_int_equal(do_name(FS_UNLINK, root, "f"), 0);
	c = cursor_of(run.r.reply.data, run.r.reply.data_len);
	assert_true(fs_gone_get(&c, &a, &open));
	assert_true(a.ino == f && open); /* the engine has it, until it is closed */
	run_set_open(f, false);
	rq(FS_CLOSE, f, NULL);
	assert_int_equal(run_request(), 0);
	/* Cut short on its way: nothing, not half of it. */
	for (uint32_t n = 0; n < 81; n++) {
		c = cursor_of(big, n);
		assert_false(fs_gone_get(&c, &a, &open));
	}
}

static void xattr_names_belong_to_a_namespace(void **state)
{
	static const char *const none[] = {
		"foo.bar", "nothing", "system.foo", "usera", "User.a", "."};
	uint64_t f = create(root, "f");

	for (unsigned int i = 0; i < 6; i++) {
		assert_int_equal(do_setxattr(f, none[i], "v", 1, 0), -EOPNOTSUPP);
		assert_int_equal(get_xattr(f, none[i]), -EOPNOTSUPP);
		assert_int_equal(do_name(FS_REMOVEXATTR, f, none[i]), -EOPNOTSUPP);
	}
	assert_int_equal(do_setxattr(f, "user.", "v", 1, 0), -EINVAL);
	assert_int_equal(do_setxattr(f, "trusted.", "v", 1, 0), -EINVAL);
	assert_int_equal(do_setxattr(f, "security.a", "v", 1, 0), 0);
}

static void trusted_names_are_shown_to_root_alone(void **state)
{
	uint64_t f = create(root, "f");

	assert_int_equal(do_setxattr(f, "trusted.one", "v", 1, 0), 0);
	assert_int_equal(do_setxattr(f, "user.b", "v", 1, 0), 0);
	assert_int_equal(do_setxattr(f, "trusted.two", "v", 1, 0), 0);
	rq(FS_LISTXATTR, f, NULL)->cred.uid = 1000;
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.data_len, 7);
	assert_memory_equal(run.data, "user.b", 7);
	rq(FS_LISTXATTR, f, NULL)->cred.uid = 0;
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.data_len, 12 + 7 + 12);
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
	assert_int_equal(run.data[4 + 2], 6); /* owner */
	assert_int_equal(run.data[4 + 2 * 8 + 2], 5); /* group: as it was */
	assert_int_equal(run.data[4 + 3 * 8 + 2], 4); /* mask */
	assert_int_equal(run.data[4 + 4 * 8 + 2], 0); /* others */
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
	memset(&run.r.reply.attr, 0, sizeof(a));
	run.r.reply.attr.ino = f;
	run.r.reply.attr.generation = a.generation;
	run.r.rq.op = FS_CREATE;
	run.r.reply.attr.mode = a.mode;
	assert_int_equal(op_replied(&fake, &run.r), -ESTALE); /* it cannot be opened */
	/* The kernel would do again what was done. */
	run.r.rq.op = FS_LINK;
	assert_int_equal(op_replied(&fake, &run.r), 0);
	assert_int_equal(run.r.reply.attr.mode, a.mode);
	assert_int_equal(run.r.reply.attr.nlink, 0);
	run.r.reply.attr.mode = 0; /* not recorded */
	assert_int_equal(op_replied(&fake, &run.r), -ESTALE);
	run.r.reply.attr.mode = a.mode;
	run.r.rq.op = FS_FALLOCATE;
	assert_int_equal(op_replied(&fake, &run.r), -ESTALE);
	fake_end(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(new_file_has_what_was_asked_for),
		T(every_type_can_be_made_and_removed),
		T(names_have_limits),
		T(create_of_what_is_there),
		T(parent_must_be_a_directory_that_is_there),
		T(stale_numbers_of_any_kind_are_refused),
		T(a_number_is_asked_for_with_the_life_that_is_meant),
		T(capabilities_go_with_a_write_and_are_known_by_a_flag),
		T(a_read_sets_atime_if_it_is_due_and_nothing_else),
		T(rename_leaves_a_whiteout_if_asked),
		T(handle_is_found_by_dot),
		T(setgid_directory_passes_on_its_group),
		T(links_are_counted_to_their_limit),
		T(subdirectories_are_as_many_as_there_is_room_for),
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
		T(file_without_a_name_goes_with_its_last_close),
		T(file_without_a_name_can_get_one_once_it_had_none),
		T(access_list_by_one_outside_the_group_takes_setgid),
		T(a_removal_says_what_went_for_good),
	T(xattr_names_belong_to_a_namespace),
		T(trusted_names_are_shown_to_root_alone),
		T(setattr_sets_what_it_is_told),
		T(size_is_for_regular_files_up_to_a_limit),
		T(mode_and_access_list_stay_in_step),
		T(default_list_is_inherited_instead_of_the_umask),
		T(recorded_reply_is_filled_in_or_found_stale),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
