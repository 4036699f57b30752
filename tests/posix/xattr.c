/* SPDX-License-Identifier: GPL-2.0-or-later */
/* xattr.c - extended attributes: xattr(7) says which namespace is whose. */
#include "posix.h"

#include <sys/xattr.h>

static bool lists(const char *path, const char *name)
{
	static char buf[65536];
	ssize_t n = llistxattr(path, buf, sizeof(buf));

	for (char *p = buf; p < buf + n; p += strlen(p) + 1) {
		if (!strcmp(p, name))
			return true;
	}
	return false;
}

static void basics(void)
{
	static const char *const names[] = {
		"user.a", "user.with space", "trusted.t", "security.s", "user.\xff\x01"};
	char buf[64];

	put("f", "");
	EQ(listxattr("f", NULL, 0), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *n = names[i];

		doing("%s", n);
		ERR(ENODATA, getxattr("f", n, buf, sizeof(buf)));
		ERR(ENODATA, getxattr("f", n, NULL, 0));
		ERR(ENODATA, removexattr("f", n));
		ERR(ENODATA, setxattr("f", n, "x", 1, XATTR_REPLACE));
		OK(setxattr("f", n, "value", 5, XATTR_CREATE));
		ERR(EEXIST, setxattr("f", n, "x", 1, XATTR_CREATE));
		EQ(getxattr("f", n, NULL, 0), 5);
		EQ(getxattr("f", n, buf, 5), 5);
		TRUE(!memcmp(buf, "value", 5));
		ERR(ERANGE, getxattr("f", n, buf, 4));
		OK(setxattr("f", n, "other, longer", 13, XATTR_REPLACE));
		EQ(getxattr("f", n, buf, sizeof(buf)), 13);
		OK(setxattr("f", n, "z", 1, 0));
		EQ(getxattr("f", n, buf, sizeof(buf)), 1);
		OK(setxattr("f", n, "", 0, 0));
		EQ(getxattr("f", n, buf, sizeof(buf)), 0);
		EQ(getxattr("f", n, NULL, 0), 0);
		TRUE(lists("f", n));
		ERR(EINVAL, setxattr("f", n, "x", 1, 4));
		OK(removexattr("f", n));
		TRUE(!lists("f", n));
		ERR(ENODATA, removexattr("f", n));
	}
	doing("all at once");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		OK(setxattr("f", names[i], "1", 1, 0));
	EQ(listxattr("f", NULL, 0), 7 + 16 + 10 + 11 + 8);
	ERR(ERANGE, listxattr("f", buf, 20));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		TRUE(lists("f", names[i]));
	doing("a hard link, and another name");
	MUST(link("f", "g"));
	TRUE(lists("g", "user.a"));
	MUST(rename("f", "h"));
	EQ(getxattr("h", "user.a", buf, 64), 1);
}

static void values(void)
{
	static const size_t lens[] = {1, 10, 100, 500, 1000, 2000, 4000, 8000, 20000, 65535, 65536};
	static char value[65537], got[65537];
	const int many = on_csvfs ? 1000 : 100;

	put("f", "");
	for (size_t i = 0; i < sizeof(value); i++)
		value[i] = (char)rnd();
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		/* ext4 keeps them in one block; tmpfs and csvfs take all that Linux does */
		if (!on_csvfs && lens[i] > 3000)
			break;
		doing("value of %zu bytes", lens[i]);
		OK(setxattr("f", "user.v", value, lens[i], 0));
		EQ(getxattr("f", "user.v", NULL, 0), lens[i]);
		EQ(getxattr("f", "user.v", got, sizeof(got)), lens[i]);
		TRUE(!memcmp(got, value, lens[i]));
		if (lens[i] > 1)
			ERR(ERANGE, getxattr("f", "user.v", got, lens[i] - 1));
	}
	ERR(E2BIG, setxattr("f", "user.v", value, 65537, 0));
	OK(removexattr("f", "user.v"));
	doing("many names");
	for (int i = 0; i < many; i++) {
		snprintf(got, sizeof(got), "user.number-%d", i);
		OK(setxattr("f", got, value, (size_t)(i % 20), 0));
	}
	for (int i = 0; i < many; i++) {
		snprintf(got, sizeof(got), "user.number-%d", i);
		EQ(getxattr("f", got, NULL, 0), i % 20);
		OK(removexattr("f", got));
	}
	EQ(listxattr("f", NULL, 0), 0);
}

static void names(void)
{
	char name[260] = "user.", buf[8];

	put("f", "");
	memset(name + 5, 'n', 251);
	name[255] = 0;
	OK(setxattr("f", name, "x", 1, 0)); /* XATTR_NAME_MAX */
	EQ(getxattr("f", name, buf, 8), 1);
	OK(removexattr("f", name));
	name[255] = 'n';
	ERR(ERANGE, setxattr("f", name, "x", 1, 0));
	ERR(ERANGE, getxattr("f", name, buf, 8));
	ERR(ERANGE, removexattr("f", name));
	ERR(ERANGE, setxattr("f", "", "x", 1, 0));
	ERR(EFAULT, setxattr("f", (char *)8, "x", 1, 0));
	ERR(EFAULT, syscall(SYS_setxattr, "f", "user.a", 8l, 1l, 0));
	doing("namespaces that are none");
	ERR(EOPNOTSUPP, setxattr("f", "foo.bar", "x", 1, 0));
	ERR(EOPNOTSUPP, setxattr("f", "nothing", "x", 1, 0));
	ERR(EOPNOTSUPP, getxattr("f", "foo.bar", buf, 8));
	ERR(EOPNOTSUPP, removexattr("f", "foo.bar"));
	ERR(EOPNOTSUPP, setxattr("f", "system.foo", "x", 1, 0));
	ERR(EOPNOTSUPP, getxattr("f", "system.foo", buf, 8));
	ERR(EINVAL, setxattr("f", "user.", "x", 1, 0));
	ERR(EINVAL, setxattr("f", "trusted.", "x", 1, 0));
}

/* user.* is of files and directories alone; trusted.* and security.* of all. */
static void types(void)
{
	char buf[8];

	for (const mode_t *t = all_types; *t; t++) {
		make("x", *t | 0666);
		doing("%s", type_name(*t));
		if (*t == S_IFREG || *t == S_IFDIR) {
			OK(lsetxattr("x", "user.a", "1", 1, 0));
			EQ(lgetxattr("x", "user.a", buf, 8), 1);
		} else {
			ERR(EPERM, lsetxattr("x", "user.a", "1", 1, 0));
			ERR(ENODATA, lgetxattr("x", "user.a", buf, 8));
			ERR(EPERM, lremovexattr("x", "user.a"));
		}
		OK(lsetxattr("x", "trusted.a", "1", 1, 0));
		EQ(lgetxattr("x", "trusted.a", buf, 8), 1);
		TRUE(lists("x", "trusted.a"));
		OK(lremovexattr("x", "trusted.a"));
		OK(lsetxattr("x", "security.a", "1", 1, 0));
		OK(lremovexattr("x", "security.a"));
		MUST(remove("x"));
	}
}

static void permissions(void)
{
	char buf[64];

	put("f", "");
	MUST(chown("f", ALICE, ALICE));
	MUST(chmod("f", 0640));
	MUST(setxattr("f", "user.a", "1", 1, 0));
	MUST(setxattr("f", "trusted.a", "1", 1, 0));
	MUST(setxattr("f", "security.a", "1", 1, 0));
	be(&bob);
	ERR(EACCES, getxattr("f", "user.a", buf, 8));
	ERR(EACCES, setxattr("f", "user.a", "2", 1, 0));
	ERR(EACCES, removexattr("f", "user.a"));
	ERR(EPERM, setxattr("f", "trusted.a", "2", 1, 0));
	ERR(EPERM, removexattr("f", "trusted.a"));
	ERR(ENODATA, getxattr("f", "trusted.a", buf, 8));
	ERR(EPERM, setxattr("f", "security.a", "2", 1, 0));
	EQ(getxattr("f", "security.a", buf, 8), 1);
	be(&alice);
	OK(setxattr("f", "user.a", "2", 1, 0));
	EQ(getxattr("f", "user.a", buf, 8), 1);
	ERR(EPERM, setxattr("f", "trusted.a", "2", 1, 0));
	ERR(ENODATA, getxattr("f", "trusted.a", buf, 8));
	TRUE(lists("f", "user.a"));
	doing("trusted names are not shown to others than root");
	TRUE(!lists("f", "trusted.a"));
	doing("read only");
	MUST(chmod("f", 0444));
	ERR(EACCES, setxattr("f", "user.a", "2", 1, 0));
	EQ(getxattr("f", "user.a", buf, 8), 1);
	be(&root);
	doing("sticky directory: only its owner");
	MUST(mkdir("d", 0777));
	MUST(chmod("d", 01777));
	be(&alice);
	ERR(EPERM, setxattr("d", "user.a", "1", 1, 0));
	be(&root);
	MUST(chmod("d", 0777));
	be(&alice);
	OK(setxattr("d", "user.a", "1", 1, 0));
}

static void descriptors(void)
{
	char buf[8];
	int fd;

	put("f", "");
	fd = open("f", O_RDONLY);
	OK(fsetxattr(fd, "user.a", "1", 1, 0));
	EQ(fgetxattr(fd, "user.a", buf, 8), 1);
	EQ(flistxattr(fd, NULL, 0), 7);
	OK(unlink("f"));
	EQ(fgetxattr(fd, "user.a", buf, 8), 1);
	OK(fremovexattr(fd, "user.a"));
	close(fd);
	ERR(EBADF, fsetxattr(fd, "user.a", "1", 1, 0));
	ERR(EBADF, fgetxattr(fd, "user.a", buf, 8));
	ERR(EBADF, flistxattr(fd, NULL, 0));
	ERR(EBADF, fremovexattr(fd, "user.a"));
	put("f", "");
	fd = open("f", O_PATH);
	ERR(EBADF, fsetxattr(fd, "user.a", "1", 1, 0));
	close(fd);
}

/* What a program may do is for the program that it was: a change of its bytes takes that away, whoever makes it. */
static void capability(void)
{
	static const unsigned char cap[20] = {0, 0, 0, 2, 1};
	static const char name[] = "security.capability";
	static const char *const ways[] = {"write", "write, opened before", "pwrite far behind",
		"append", "direct write", "chown", "truncate", "fallocate", "punch"};
	char *block = aligned_alloc(4096, 4096), buf[32];
	int fd, before;

	memset(block, 'x', 4096);
	for (int who = 0; who < 2; who++) {
		for (int way = 0; way < 9; way++) {
			doing("%s", ways[way]);
			put("f", "");
			MUST(chmod("f", 04777));
			before = open("f", O_RDWR);
			EQ(pwrite(before, "b", 1, 0), 1);
			OK(setxattr("f", name, cap, 20, 0));
			EQ(getxattr("f", name, buf, 32), 20);
			if (who)
				be(&alice);
			fd = open("f", way == 3	  ? O_WRONLY | O_APPEND
				       : way == 4 ? O_WRONLY | O_DIRECT
						  : O_RDWR);
			if (way == 0)
				EQ(write(fd, "x", 1), 1);
			if (way == 1)
				EQ(pwrite(before, "x", 1, 0), 1);
			if (way == 2)
				EQ(pwrite(fd, "x", 1, 1 << 20), 1);
			if (way == 3)
				EQ(write(fd, "x", 1), 1);
			if (way == 4)
				EQ(write(fd, block, 4096), 4096);
			if (way == 5 && !who)
				OK(chown("f", ALICE, ALICE));
			if (way == 6)
				OK(ftruncate(fd, 0));
			if (way == 7)
				OK(fallocate(fd, 0, 0, 1 << 20));
			if (way == 8)
				OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1));
			be(&root);
			if (way != 5 || !who)
				ERR(ENODATA, getxattr("f", name, buf, 32));
			if (way < 5)
				EQ(mode_of("f") & 04000, who ? 0 : 04000);
			EQ(listxattr("f", NULL, 0), way == 5 && who ? (int)sizeof(name) : 0);
			close(fd);
			close(before);
			MUST(unlink("f"));
		}
	}
	doing("what only reads, or sets other attributes, leaves it");
	put("f", "");
	OK(setxattr("f", name, cap, 20, 0));
	OK(chmod("f", 0755));
	OK(setxattr("f", "user.a", "1", 1, 0));
	OK(utimensat(AT_FDCWD, "f", NULL, 0));
	close(open("f", O_RDWR));
	EQ(getxattr("f", name, buf, 32), 20);
	ERR(EINVAL, setxattr("f", name, "x", 1, 0));
	be(&alice);
	ERR(EPERM, setxattr("f", name, cap, 20, 0));
	be(&root);
	OK(removexattr("f", name));
	ERR(ENODATA, getxattr("f", name, buf, 32));
	free(block);
}

const struct test tests_xattr[] = {
	{"xattr-basics", basics},
	{"xattr-values", values},
	{"xattr-names", names},
	{"xattr-types", types},
	{"xattr-permissions", permissions},
	{"xattr-descriptors", descriptors},
	{"xattr-capability", capability},
	{NULL, NULL},
};
