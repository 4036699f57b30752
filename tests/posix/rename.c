/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rename.c - rename(2) and renameat2(2): every type onto every type, directories, flags, permissions. */
#include "posix.h"

#include <linux/fs.h>

static int rename2(const char *from, const char *to, unsigned flags)
{
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

static void onto_each(void)
{
	for (const mode_t *a = all_types; *a; a++) {
		for (const mode_t *b = all_types; *b; b++) {
			ino_t ino;

			doing("%s onto %s", type_name(*a), type_name(*b));
			MUST(mkdir("d", 0755));
			make("x", *a | 0644);
			make("d/y", *b | 0644);
			ino = st_of("x").st_ino;
			ERR(EEXIST, rename2("x", "d/y", RENAME_NOREPLACE));
			if (*a == S_IFDIR && *b != S_IFDIR)
				ERR(ENOTDIR, rename("x", "d/y"));
			else if (*a != S_IFDIR && *b == S_IFDIR)
				ERR(EISDIR, rename("x", "d/y"));
			else
				OK(rename("x", "d/y"));
			if ((*a == S_IFDIR) == (*b == S_IFDIR)) {
				TRUE(!exists("x"));
				EQ(st_of("d/y").st_ino, ino);
				EQ(st_of("d/y").st_mode & S_IFMT, *a);
			} else {
				EQ(st_of("x").st_ino, ino);
				MUST(remove("x"));
			}
			EQ(st_of("d").st_nlink,
				2 + (st_of("d/y").st_mode & S_IFMT ? S_ISDIR(st_of("d/y").st_mode)
								   : 0));
			MUST(remove("d/y"));
			MUST(rmdir("d"));
		}
	}
}

static void exchange_each(void)
{
	for (const mode_t *a = all_types; *a; a++) {
		for (const mode_t *b = all_types; *b; b++) {
			ino_t x, y;

			doing("%s with %s", type_name(*a), type_name(*b));
			MUST(mkdir("d", 0755));
			make("x", *a | 0644);
			make("d/y", *b | 0644);
			x = st_of("x").st_ino;
			y = st_of("d/y").st_ino;
			OK(rename2("x", "d/y", RENAME_EXCHANGE));
			EQ(st_of("x").st_ino, y);
			EQ(st_of("d/y").st_ino, x);
			EQ(st_of("d").st_nlink, 2 + (*a == S_IFDIR));
			EQ(st_of(".").st_nlink, 3 + (*b == S_IFDIR));
			if (*a == S_IFDIR)
				EQ(st_of("d/y/..").st_ino, st_of("d").st_ino);
			if (*b == S_IFDIR)
				EQ(st_of("x/..").st_ino, st_of(".").st_ino);
			MUST(remove("x"));
			MUST(remove("d/y"));
			MUST(rmdir("d"));
		}
	}
}

static void plain(void)
{
	for (const mode_t *t = all_types; *t; t++) {
		struct stat a, b;

		doing("%s", type_name(*t));
		make("x", *t | 0645);
		a = st_of("x");
		OK(rename("x", "y"));
		TRUE(!exists("x"));
		b = st_of("y");
		EQ(b.st_ino, a.st_ino);
		EQ(b.st_mode, a.st_mode);
		EQ(b.st_nlink, a.st_nlink);
		EQ(ns_of(b.st_mtim), ns_of(a.st_mtim));
		OK(rename("y", "y"));
		TRUE(exists("y"));
		OK(rename2("y", "z", RENAME_NOREPLACE));
		TRUE(exists("z") && !exists("y"));
		ERR(ENOENT, rename("y", "x"));
		ERR(ENOENT, rename2("y", "z", RENAME_EXCHANGE));
		ERR(ENOENT, rename2("z", "y", RENAME_EXCHANGE));
		if (*t != S_IFDIR) {
			doing("%s, two names of one file: nothing is done", type_name(*t));
			MUST(link("z", "w"));
			OK(rename("z", "w"));
			TRUE(exists("z") && exists("w"));
			EQ(st_of("z").st_nlink, 2);
			MUST(unlink("w"));
		}
		MUST(remove("z"));
	}
}

static void directories(void)
{
	MUST(mkdir("a", 0755));
	MUST(mkdir("a/b", 0755));
	MUST(mkdir("a/b/c", 0755));
	MUST(mkdir("e", 0755));
	put("f", "");
	doing("into itself");
	ERR(EINVAL, rename("a", "a/x"));
	ERR(EINVAL, rename("a", "a/b/x"));
	ERR(EINVAL, rename("a", "a/b/c/x"));
	ERR(EINVAL, rename("a", "a/b"));
	ERR(EINVAL, rename2("a", "a/b/c", RENAME_EXCHANGE));
	ERR(EINVAL, rename2("a/b/c", "a", RENAME_EXCHANGE));
	doing("onto those above it");
	ERR(ENOTEMPTY, rename("a/b/c", "a"));
	ERR(ENOTEMPTY, rename("a/b/c", "a/b"));
	doing("onto one that is not empty");
	ERR(ENOTEMPTY, rename("e", "a"));
	ERR(ENOTEMPTY, rename("a/b/c", "a"));
	doing("onto an empty one");
	EQ(st_of(".").st_nlink, 4);
	OK(rename("a", "e"));
	EQ(st_of(".").st_nlink, 3);
	TRUE(exists("e/b/c"));
	EQ(st_of("e").st_nlink, 3);
	doing("to another parent");
	OK(rename("e/b/c", "c"));
	EQ(st_of("e/b").st_nlink, 2);
	EQ(st_of(".").st_nlink, 4);
	EQ(st_of("c/..").st_ino, st_of(".").st_ino);
	doing("with a slash behind");
	OK(rename("c/", "g/"));
	OK(rename("g", "h/"));
	ERR(ENOTDIR, rename("f", "i/"));
	ERR(ENOTDIR, rename("f/", "i"));
	ERR(ENOTDIR, rename("h/", "f"));
	ERR(ENOTDIR, rename("f", "h/"));
}

static void flags(void)
{
	put("a", "");
	put("b", "");
	ERR(EINVAL, rename2("a", "b", RENAME_NOREPLACE | RENAME_EXCHANGE));
	ERR(EINVAL, rename2("a", "b", RENAME_WHITEOUT | RENAME_EXCHANGE));
	ERR(EINVAL, rename2("a", "b", 8));
	ERR(EINVAL, rename2("a", "b", ~0u));
	OK(rename2("a", "a", RENAME_EXCHANGE));
	ERR(EEXIST, rename2("a", "a", RENAME_NOREPLACE));
	ERR(EBUSY, rename2(".", "b", 0));
	ERR(EBUSY, rename2("a", "..", 0));
}

/* renameat2(2): something stays behind that stands for nothing, for overlayfs. */
static void whiteout(void)
{
	for (const mode_t *t = all_types; *t; t++) {
		struct stat st;
		ino_t ino;

		doing("%s", type_name(*t));
		MUST(mkdir("d", 0755));
		MUST(mkdir("d2", 0755));
		make("d/x", *t | 0644);
		ino = st_of("d/x").st_ino;
		OK(rename2("d/x", "d2/y", RENAME_WHITEOUT));
		EQ(st_of("d2/y").st_ino, ino);
		st = st_of("d/x");
		EQ(st.st_mode & S_IFMT, S_IFCHR);
		EQ(st.st_rdev, 0);
		EQ(st.st_nlink, 1);
		TRUE(st.st_ino != ino);
		EQ(st_of("d").st_nlink, 2);
		EQ(st_of("d2").st_nlink, 2 + (*t == S_IFDIR));
		doing("%s, over what is there, in one directory", type_name(*t));
		make("d2/z", *t | 0644);
		ERR(EEXIST, rename2("d2/y", "d2/z", RENAME_WHITEOUT | RENAME_NOREPLACE));
		OK(rename2("d2/y", "d2/z", RENAME_WHITEOUT));
		EQ(st_of("d2/z").st_ino, ino);
		EQ(st_of("d2/y").st_mode & S_IFMT, S_IFCHR);
		EQ(st_of("d2").st_nlink, 2 + (*t == S_IFDIR));
		MUST(unlink("d2/y"));
		MUST(remove("d2/z"));
		MUST(unlink("d/x"));
		MUST(rmdir("d"));
		MUST(rmdir("d2"));
	}
	put("f", "");
	MUST(chmod(".", 0777));
	MUST(chown("f", ALICE, ALICE));
	be(&alice);
	doing("by another: the whiteout is hers");
	if (OK(rename2("f", "g", RENAME_WHITEOUT)))
		EQ(st_of("f").st_uid, ALICE);
	ERR(ENOENT, rename2("missing", "h", RENAME_WHITEOUT));
}

static void over_open(void)
{
	char c = 0;
	struct stat st;
	int fd;

	put("old", "o");
	put("new", "n");
	fd = open("old", O_RDWR);
	OK(rename("new", "old"));
	EQ(pread(fd, &c, 1, 0), 1);
	EQ(c, 'o');
	OK(fstat(fd, &st));
	EQ(st.st_nlink, 0);
	EQ(pwrite(fd, "more", 4, 1), 4);
	TRUE(same_bytes("old", 0, "n", 1));
	EQ(st_of("old").st_size, 1);
	close(fd);
	fd = open("old", O_RDWR);
	doing("the open one is moved");
	OK(rename("old", "other"));
	EQ(pwrite(fd, "M", 1, 0), 1);
	TRUE(same_bytes("other", 0, "M", 1));
	OK(link("other", "second"));
	put("third", "3");
	OK(rename("third", "second"));
	OK(fstat(fd, &st));
	EQ(st.st_nlink, 1);
	close(fd);
}

static void permissions(void)
{
	MUST(mkdir("a", 0777));
	MUST(mkdir("b", 0777));
	put("a/f", "");
	MUST(mkdir("a/d", 0755));
	MUST(chmod("b", 0555));
	be(&alice);
	ERR(EACCES, rename("a/f", "b/f"));
	be(&root);
	MUST(chmod("b", 0777));
	MUST(chmod("a", 0555));
	be(&alice);
	ERR(EACCES, rename("a/f", "b/f"));
	ERR(EACCES, rename("a/f", "a/g"));
	be(&root);
	MUST(chmod("a", 0666));
	be(&alice);
	ERR(EACCES, rename("a/f", "b/f"));
	be(&root);
	MUST(chmod("a", 0777));
	be(&alice);
	OK(rename("a/f", "b/f"));
	doing("a directory of another: its .. would change, and one may not write in it");
	ERR(EACCES, rename("a/d", "b/d"));
	OK(rename("a/d", "a/e"));
	be(&root);
	MUST(chmod("a/e", 0777));
	be(&alice);
	OK(rename("a/e", "b/e"));
	doing("exchange");
	be(&root);
	put("a/x", "");
	put("b/x", "");
	MUST(chmod("b", 0555));
	be(&alice);
	ERR(EACCES, rename2("a/x", "b/x", RENAME_EXCHANGE));
	ERR(EACCES, rename2("b/x", "a/x", RENAME_EXCHANGE));
}

const struct test tests_rename[] = {
	{"rename-plain", plain},
	{"rename-onto-each", onto_each},
	{"rename-exchange", exchange_each},
	{"rename-directories", directories},
	{"rename-flags", flags},
	{"rename-whiteout", whiteout},
	{"rename-over-open", over_open},
	{"rename-permissions", permissions},
	{NULL, NULL},
};
