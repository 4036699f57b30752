/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gone.c - what has lost its last name and is still held: by a working directory, an open directory or fifo, or
 * O_PATH. All that does not need a name works as before; nothing can be made in it.
 */
#include "posix.h"

#include <sys/syscall.h>
#include <sys/xattr.h>

#define KEEP ((uid_t)-1)

static char held[64]; /* a path that leads to what is held without a name */

/* Of that which `held` leads to. by: who owns it, or root. */
static void attributes(int fd, mode_t type, const struct stat *was)
{
	struct timespec t[2] = {{1000000000, 123456789}, {-5, 7}};
	struct stat st;

	OK(stat(held, &st));
	EQ(st.st_nlink, 0);
	EQ(st.st_ino, was->st_ino);
	EQ(st.st_mode, was->st_mode);
	EQ(st.st_uid, was->st_uid);
	EQ(ns_of(st.st_mtim), ns_of(was->st_mtim));
	tick();
	OK(chmod(held, 01751));
	OK(stat(held, &st));
	EQ(st.st_mode, type | 01751);
	TRUE(ns_of(st.st_ctim) > ns_of(was->st_ctim));
	EQ(ns_of(st.st_mtim), ns_of(was->st_mtim));
	OK(utimensat(AT_FDCWD, held, t, 0));
	OK(stat(held, &st));
	EQ(ns_of(st.st_atim), ns_of(t[0]));
	EQ(ns_of(st.st_mtim), ns_of(t[1]));
	OK(chown(held, KEEP, SHARED));
	OK(stat(held, &st));
	EQ(st.st_gid, SHARED);
	EQ(st.st_uid, was->st_uid);
	OK(fstatat(fd, "", &st, AT_EMPTY_PATH));
	EQ(st.st_gid, SHARED);
	EQ(st.st_mode & 0777, 0751);
}

static void by_another(void)
{
	be(&bob);
	ERR(EPERM, chmod(held, 0777));
	ERR(EPERM, chown(held, BOB, BOB));
	ERR(EPERM, utimensat(AT_FDCWD, held, (struct timespec[2]){{1, 0}, {1, 0}}, 0));
	be(&root);
}

static void xattrs(mode_t type)
{
	bool is_user = type == S_IFREG || type == S_IFDIR;
	char buf[256], list[256];
	const char *name = is_user ? "user.b" : "trusted.b";

	if (!OK(setxattr(held, name, "more", 4, XATTR_CREATE)))
		return;
	ERR(EEXIST, setxattr(held, name, "more", 4, XATTR_CREATE));
	EQ(getxattr(held, name, buf, sizeof(buf)), 4);
	OK(setxattr(held, name, "less than that", 14, XATTR_REPLACE));
	EQ(getxattr(held, name, buf, sizeof(buf)), 14);
	TRUE(!memcmp(buf, "less than that", 14));
	EQ(getxattr(held, name, NULL, 0), 14);
	ERR(ERANGE, getxattr(held, name, buf, 3));
	ERR(ENODATA, getxattr(held, "user.none", buf, 3));
	ERR(ENODATA, setxattr(held, is_user ? "user.c" : "trusted.c", "x", 1, XATTR_REPLACE));
	ERR(EOPNOTSUPP, setxattr(held, "nosuch.a", "x", 1, 0));
	EQ(getxattr(held, is_user ? "user.a" : "trusted.a", buf, sizeof(buf)), 6);
	TRUE(!memcmp(buf, "before", 6));
	EQ(listxattr(held, list, sizeof(list)), is_user ? 14 : 20);
	OK(removexattr(held, name));
	ERR(ENODATA, removexattr(held, name));
	ERR(ENODATA, getxattr(held, name, buf, sizeof(buf)));
	EQ(listxattr(held, list, sizeof(list)), is_user ? 7 : 10);
	be(&bob);
	if (is_user) /* xattr(7): of a sticky directory they are its owner's */
		ERR(type == S_IFDIR ? EPERM : EACCES, setxattr(held, "user.b", "x", 1, 0));
	else
		EQ(listxattr(held, list, sizeof(list)), 0);
	be(&root);
}

static void nothing_in_it(int fd, const char *other)
{
	struct stat st;

	ERR(ENOENT, openat(fd, "x", O_CREAT | O_RDWR, 0644));
	ERR(ENOENT, openat(fd, "x", O_RDONLY));
	ERR(ENOENT, mkdirat(fd, "x", 0755));
	ERR(ENOENT, symlinkat("x", fd, "x"));
	ERR(ENOENT, mknodat(fd, "x", S_IFIFO | 0644, 0));
	ERR(ENOENT, mknodat(fd, "x", S_IFREG | 0644, 0));
	ERR(ENOENT, linkat(AT_FDCWD, other, fd, "x", 0));
	ERR(ENOENT, renameat(AT_FDCWD, other, fd, "x"));
	ERR(ENOENT, renameat(fd, "x", AT_FDCWD, other));
	ERR(ENOENT, unlinkat(fd, "x", 0));
	ERR(ENOENT, unlinkat(fd, "x", AT_REMOVEDIR));
	ERR(ENOENT, fstatat(fd, "x", &st, 0));
}

static void remove_it(mode_t type, bool by_rename)
{
	if (!by_rename) {
		MUST(remove("x"));
		return;
	}
	if (type == S_IFDIR)
		MUST(mkdir("y", 0700));
	else
		put("y", "");
	MUST(rename("y", "x"));
}

static void types(void)
{
	for (const mode_t *t = all_types; *t; t++) {
		if (*t == S_IFLNK)
			continue;
		for (int how = 0; how < 4; how++) {
			bool is_user = *t == S_IFREG || *t == S_IFDIR;
			struct stat was;
			int fd;

			doing("%s, %s, by %s", type_name(*t), how & 2 ? "replaced" : "removed",
				how & 1 ? "its owner" : "root");
			make("x", *t | 0755);
			MUST(setxattr("x", is_user ? "user.a" : "trusted.a", "before", 6, 0));
			MUST(chown("x", ALICE, ALICE));
			fd = open("x", O_PATH);
			MUST(fd);
			snprintf(held, sizeof(held), "/proc/self/fd/%d", fd);
			was = st_of("x");
			remove_it(*t, how & 2);
			be(how & 1 ? &alice : &root);
			attributes(fd, *t, &was);
			by_another();
			xattrs(*t);
			be(&root);
			if (how & 2)
				MUST(remove("x"));
			close(fd);
		}
	}
}

static void directory(void)
{
	struct stat st, was;
	char cwd[PATH_MAX];
	int fd;

	for (int how = 0; how < 2; how++) {
		put("other", "");
		MUST(mkdir("x", 0755));
		MUST(setxattr("x", "user.a", "before", 6, 0));
		fd = open("x", O_RDONLY | O_DIRECTORY);
		was = st_of("x");
		remove_it(S_IFDIR, how);
		doing("open directory, %s", how ? "replaced" : "removed");
		snprintf(held, sizeof(held), "/proc/self/fd/%d", fd);
		OK(fchmod(fd, 0700));
		OK(fstat(fd, &st));
		EQ(st.st_mode, S_IFDIR | 0700);
		OK(fchmod(fd, 0755));
		attributes(fd, S_IFDIR, &was);
		xattrs(S_IFDIR);
		OK(fchown(fd, ALICE, ALICE));
		OK(fsync(fd));
		OK(fchdir(fd));
		close(fd);
		fd = open(".", O_RDONLY | O_DIRECTORY);
		OK(fd);
		doing("working directory, %s", how ? "replaced" : "removed");
		snprintf(held, sizeof(held), ".");
		was = st_of(".");
		was.st_mode = S_IFDIR | 01751;
		attributes(fd, S_IFDIR, &was);
		xattrs(S_IFDIR);
		ERR(ENOENT, syscall(SYS_getcwd, cwd, sizeof(cwd)));
		ERR(ENOENT, syscall(SYS_getdents64, fd, cwd, sizeof(cwd)));
		snprintf(cwd, sizeof(cwd), "%.*s/other", (int)sizeof(cwd) - 7, here);
		nothing_in_it(fd, cwd);
		close(fd);
		MUST(chdir(here));
		EQ(st_of("other").st_nlink, 1);
		if (how)
			MUST(rmdir("x"));
	}
}

static void fifo(void)
{
	struct stat st;
	int fd;

	MUST(mkfifo("x", 0600));
	fd = open("x", O_RDWR | O_NONBLOCK);
	MUST(fd);
	MUST(unlink("x"));
	OK(fchmod(fd, 0123));
	OK(fchown(fd, 5, 6));
	OK(fstat(fd, &st));
	EQ(st.st_mode, S_IFIFO | 0123);
	EQ(st.st_uid, 5);
	EQ(st.st_nlink, 0);
	EQ(write(fd, "x", 1), 1);
	close(fd);
}

static void symlink_gone(void)
{
	char buf[16];
	struct stat st;
	int fd;

	MUST(symlink("target", "x"));
	fd = open("x", O_PATH | O_NOFOLLOW);
	MUST(fd);
	MUST(unlink("x"));
	EQ(readlinkat(fd, "", buf, sizeof(buf)), 6);
	TRUE(!memcmp(buf, "target", 6));
	OK(fchownat(fd, "", 5, 6, AT_EMPTY_PATH));
	OK(fstatat(fd, "", &st, AT_EMPTY_PATH));
	EQ(st.st_uid, 5);
	EQ(st.st_mode, S_IFLNK | 0777);
	ERR(ENOENT, linkat(fd, "", AT_FDCWD, "y", AT_EMPTY_PATH));
	close(fd);
}

/* What is held goes when it is let go, and more of it than anybody would hold does no harm. */
static void many(void)
{
	enum { N = 300 };
	int fd[N];

	for (int i = 0; i < N; i++) {
		MUST(mkdir("x", 0755));
		fd[i] = open("x", O_RDONLY | O_DIRECTORY);
		MUST(fd[i]);
		MUST(rmdir("x"));
	}
	for (int i = 0; i < N; i++)
		OK(fchmod(fd[i], (mode_t)i));
	for (int i = 0; i < N; i++) {
		struct stat st;

		OK(fstat(fd[i], &st));
		EQ(st.st_mode, S_IFDIR | i);
		close(fd[i]);
	}
}

const struct test tests_gone[] = {
	{"gone-types", types},
	{"gone-directory", directory},
	{"gone-fifo", fifo},
	{"gone-symlink", symlink_gone},
	{"gone-many", many},
	{NULL, NULL},
};
