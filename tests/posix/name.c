/* SPDX-License-Identifier: GPL-2.0-or-later */
/* name.c - making and removing names: open, mkdir, mknod, symlink, link, unlink, rmdir. */
#include "posix.h"

#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

/* ------------------------------------------------------------------ open */

static int opened(const char *path, int flags)
{
	int fd = open(path, flags, 0640), err = errno;

	if (fd >= 0)
		close(fd);
	errno = err;
	return fd < 0 ? -1 : 0;
}

/* The three ways to open, by each of owner, group and others, with each mode. */
static void open_permissions(void)
{
	static const struct {
		const struct user *who;
		int shift;
	} classes[] = {{&alice, 6}, {&bob, 3}, {&carol, 0}};
	static const int ways[] = {O_RDONLY, O_WRONLY, O_RDWR}, needs[] = {4, 2, 6};

	put("f", "x");
	MUST(chown("f", ALICE, BOB));
	for (int c = 0; c < 3; c++) {
		for (int bits = 0; bits < 8; bits++) {
			/* the other two classes may do what this one may not: the first that fits decides */
			MUST(chmod("f", (mode_t)((0777 & ~(7 << classes[c].shift)) |
						 bits << classes[c].shift)));
			be(classes[c].who);
			for (int w = 0; w < 3; w++) {
				doing("open(%d), class %d, bits %d", ways[w], c, bits);
				if ((bits & needs[w]) == needs[w])
					OK(opened("f", ways[w]));
				else
					ERR(EACCES, opened("f", ways[w]));
			}
			doing("truncation, class %d, bits %d", c, bits);
			if (bits & 2)
				OK(truncate("f", 1));
			else
				ERR(EACCES, truncate("f", 1));
			if (!(bits & 2))
				ERR(EACCES, opened("f", O_RDONLY | O_TRUNC));
			be(&root);
		}
	}
}

static void open_creates(void)
{
	struct stat st;

	be(&alice);
	umask(027);
	OK(opened("f", O_CREAT | O_WRONLY));
	st = st_of("f");
	EQ(st.st_mode, S_IFREG | 0640);
	EQ(st.st_uid, ALICE);
	EQ(st.st_gid, ALICE);
	EQ(st.st_size, 0);
	EQ(st.st_nlink, 1);
	umask(0777);
	MUST(mkdir("d", 0777));
	EQ(mode_of("d"), 0);
	umask(0);
	ERR(EEXIST, opened("f", O_CREAT | O_EXCL | O_RDWR));
	OK(opened("f", O_CREAT | O_RDWR));
	EQ(mode_of("f"), 0640);
	MUST(symlink("f", "s"));
	MUST(symlink("new", "dangling"));
	ERR(EEXIST, opened("s", O_CREAT | O_EXCL | O_RDWR));
	ERR(EEXIST, opened("dangling", O_CREAT | O_EXCL | O_RDWR));
	ERR(ELOOP, opened("s", O_RDONLY | O_NOFOLLOW));
	ERR(ELOOP, opened("dangling", O_CREAT | O_RDWR | O_NOFOLLOW));
	OK(opened("dangling", O_CREAT | O_RDWR));
	TRUE(exists("new"));
	doing("a mode that does not allow what is opened for");
	EQ(close(open("ro", O_CREAT | O_RDWR, 0)), 0);
	ERR(EACCES, opened("ro", O_RDWR));
	doing("special bits at creation");
	EQ(close(open("suid", O_CREAT | O_RDWR, 06755)), 0);
	EQ(mode_of("suid"), 06755);
	EQ(close(open("sticky", O_CREAT | O_RDWR, 01755)), 0);
	EQ(mode_of("sticky"), 01755);
}

static void open_flags(void)
{
	struct stat st;
	int fd;

	put("f", "0123456789");
	MUST(mkdir("d", 0755));
	ERR(EISDIR, opened("d", O_WRONLY));
	ERR(EISDIR, opened("d", O_RDWR));
	ERR(EISDIR, opened("d", O_RDONLY | O_TRUNC));
	ERR(EISDIR, opened("d", O_CREAT | O_RDONLY));
	ERR(EINVAL, opened("d", O_CREAT | O_RDONLY | O_DIRECTORY));
	ERR(EINVAL, opened("new", O_CREAT | O_RDONLY | O_DIRECTORY));
	ERR(ENOTDIR, opened("f", O_RDONLY | O_DIRECTORY));
	OK(opened("d", O_RDONLY | O_DIRECTORY));
	OK(opened("f", O_RDONLY | O_NOFOLLOW));
	OK(opened("f", O_RDWR | O_SYNC));
	OK(opened("f", O_RDWR | O_DSYNC));
	OK(opened("f", O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
	OK(opened("f", O_RDONLY | O_NOATIME));
	EQ(st_of("f").st_size, 10);
	OK(opened("f", O_WRONLY | O_TRUNC));
	EQ(st_of("f").st_size, 0);
	put("f", "0123456789");
	OK(opened("f", O_CREAT | O_TRUNC | O_RDWR));
	EQ(st_of("f").st_size, 0);
	doing("O_PATH");
	fd = open("f", O_PATH);
	TRUE(fd >= 0);
	OK(fstat(fd, &st));
	ERR(EBADF, read(fd, &st, 1));
	ERR(EBADF, write(fd, &st, 1));
	ERR(EBADF, fchmod(fd, 0600));
	ERR(EBADF, ftruncate(fd, 0));
	close(fd);
	MUST(symlink("f", "s"));
	fd = open("s", O_PATH | O_NOFOLLOW);
	OK(fstat(fd, &st));
	EQ(st.st_mode & S_IFMT, S_IFLNK);
	EQ(readlinkat(fd, "", (char[8]){0}, 8), 1);
	close(fd);
	be(&alice);
	doing("O_NOATIME of another's file");
	ERR(EPERM, opened("f", O_RDONLY | O_NOATIME));
}

static void open_descriptor(void)
{
	char buf[16];
	int fd;

	put("f", "0123456789");
	fd = open("f", O_RDONLY);
	ERR(EBADF, write(fd, "x", 1));
	ERR(EINVAL, ftruncate(fd, 0));
	OK(fsync(fd));
	OK(fdatasync(fd));
	close(fd);
	fd = open("f", O_WRONLY);
	ERR(EBADF, read(fd, buf, 1));
	EQ(write(fd, "ab", 2), 2);
	OK(fsync(fd));
	close(fd);
	TRUE(same_bytes("f", 0, "ab23456789", 10));
	MUST(mkdir("d", 0755));
	fd = open("d", O_RDONLY);
	ERR(EISDIR, read(fd, buf, 1));
	ERR(EBADF, write(fd, buf, 1));
	ERR(EINVAL, ftruncate(fd, 0));
	OK(fsync(fd));
	OK(fdatasync(fd));
	OK(syncfs(fd));
	close(fd);
	doing("O_APPEND");
	fd = open("f", O_RDWR | O_APPEND);
	EQ(lseek(fd, 2, SEEK_SET), 2);
	EQ(write(fd, "YZ", 2), 2);
	EQ(lseek(fd, 0, SEEK_CUR), 12);
	EQ(pread(fd, buf, 3, 9), 3);
	TRUE(!memcmp(buf, "9YZ", 3));
	EQ(pwrite(fd, "!", 1, 0), 1); /* Linux: appends all the same */
	EQ(st_of("f").st_size, 13);
	close(fd);
	doing("execute permission is no read permission");
	MUST(chmod("f", 0111));
	be(&alice);
	ERR(EACCES, opened("f", O_RDONLY));
}

static void open_special(void)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX, .sun_path = "sock"};
	int fd, fd2;
	char c = 0;

	make("fifo", S_IFIFO | 0644);
	doing("fifo");
	ERR(ENXIO, opened("fifo", O_WRONLY | O_NONBLOCK));
	fd = open("fifo", O_RDONLY | O_NONBLOCK);
	fd2 = open("fifo", O_WRONLY | O_NONBLOCK);
	TRUE(fd >= 0);
	TRUE(fd2 >= 0);
	EQ(write(fd2, "x", 1), 1);
	EQ(read(fd, &c, 1), 1);
	EQ(c, 'x');
	ERR(ESPIPE, lseek(fd, 0, SEEK_SET));
	close(fd);
	close(fd2);
	doing("socket");
	make("sock0", S_IFSOCK | 0644);
	ERR(ENXIO, opened("sock0", O_RDWR));
	ERR(ENXIO, opened("sock0", O_RDONLY));
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	OK(bind(fd, (struct sockaddr *)&sun, sizeof(sun)));
	EQ(st_of("sock").st_mode & S_IFMT, S_IFSOCK);
	OK(listen(fd, 1));
	fd2 = socket(AF_UNIX, SOCK_STREAM, 0);
	OK(connect(fd2, (struct sockaddr *)&sun, sizeof(sun)));
	close(fd2);
	fd2 = socket(AF_UNIX, SOCK_STREAM, 0);
	ERR(EADDRINUSE, bind(fd2, (struct sockaddr *)&sun, sizeof(sun)));
	close(fd);
	ERR(ECONNREFUSED, connect(fd2, (struct sockaddr *)&sun, sizeof(sun)));
	close(fd2);
	doing("device");
	make("null", S_IFCHR | 0666); /* 1:3 */
	fd = open("null", O_RDWR);
	TRUE(fd >= 0);
	EQ(write(fd, "x", 1), 1);
	EQ(read(fd, &c, 1), 0);
	close(fd);
	MUST(mknod("none", S_IFCHR | 0666, makedev(234, 250)));
	ERR(ENXIO, opened("none", O_RDWR));
	MUST(mknod("noblk", S_IFBLK | 0666, makedev(234, 250)));
	ERR(ENXIO, opened("noblk", O_RDWR));
	be(&alice);
	ERR(EACCES, opened("fifo", O_WRONLY | O_NONBLOCK));
}

static void open_tmpfile(void)
{
	char path[64];
	struct stat st;
	int fd = open(".", O_TMPFILE | O_RDWR, 0640);

	TRUE(fd >= 0);
	OK(fstat(fd, &st));
	EQ(st.st_nlink, 0);
	EQ(st.st_mode, S_IFREG | 0640);
	EQ(write(fd, "abc", 3), 3);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	OK(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
	EQ(st_of("named").st_nlink, 1);
	TRUE(same_bytes("named", 0, "abc", 3));
	close(fd);
	fd = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0640);
	TRUE(fd >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ERR(ENOENT, linkat(AT_FDCWD, path, AT_FDCWD, "no", AT_SYMLINK_FOLLOW));
	close(fd);
	ERR(EINVAL, opened(".", O_TMPFILE | O_RDONLY));
	put("f", "");
	ERR(ENOTDIR, opened("f", O_TMPFILE | O_RDWR));
	MUST(mkdir("ro", 0555));
	be(&alice);
	ERR(EACCES, opened("ro", O_TMPFILE | O_RDWR));
}

/* A file that nobody may read again, but the one who has it open. */
static void open_unlinked(void)
{
	char buf[8];
	struct stat st;
	int fd = open("f", O_CREAT | O_RDWR, 0644);

	EQ(write(fd, "abc", 3), 3);
	OK(unlink("f"));
	TRUE(!exists("f"));
	OK(fstat(fd, &st));
	EQ(st.st_nlink, 0);
	EQ(st.st_size, 3);
	EQ(pread(fd, buf, 8, 0), 3);
	EQ(pwrite(fd, "def", 3, 3), 3);
	OK(ftruncate(fd, 100000));
	OK(fchmod(fd, 0600));
	OK(fchown(fd, ALICE, ALICE));
	OK(futimens(fd, NULL));
	OK(fsync(fd));
	EQ(pread(fd, buf, 8, 1), 8);
	TRUE(!memcmp(buf, "bcdef\0\0\0", 8));
	OK(fstat(fd, &st));
	EQ(st.st_size, 100000);
	EQ(st.st_uid, ALICE);
	close(fd);
	doing("a new file of that name is another");
	put("f", "1");
	fd = open("f", O_RDONLY);
	MUST(unlink("f"));
	put("f", "2");
	EQ(pread(fd, buf, 1, 0), 1);
	EQ(buf[0], '1');
	close(fd);
	doing("directory removed while open");
	MUST(mkdir("d", 0755));
	fd = open("d", O_RDONLY);
	OK(rmdir("d"));
	OK(fstat(fd, &st));
	EQ(st.st_nlink, 0);
	ERR(ENOENT, openat(fd, "x", O_CREAT | O_RDWR, 0644));
	ERR(ENOENT, mkdirat(fd, "x", 0755));
	ERR(ENOENT, symlinkat("x", fd, "x"));
	ERR(ENOENT, mknodat(fd, "x", S_IFIFO, 0));
	ERR(ENOENT, linkat(AT_FDCWD, "f", fd, "x", 0));
	ERR(ENOENT, renameat(AT_FDCWD, "f", fd, "x"));
	close(fd);
}

/* ------------------------------------------------------------------ what is made */

static void make_types(void)
{
	static const mode_t modes[] = {0, 0151, 0345, 0644, 0755, 0777, 01755, 02755, 04755, 07777};
	char name[32];

	for (const mode_t *t = all_types; *t; t++) {
		if (*t == S_IFLNK)
			continue;
		for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
			mode_t mode = modes[i];
			struct stat st, before = st_of(".");

			doing("%s with mode %o", type_name(*t), mode);
			snprintf(name, sizeof(name), "%o", *t | mode);
			umask(022);
			if (*t == S_IFDIR)
				OK(mkdir(name, mode));
			else
				OK(mknod(name, *t | mode, makedev(12, 345)));
			umask(0);
			st = st_of(name);
			/* mkdir(2): of the special bits Linux takes the sticky bit alone */
			EQ(st.st_mode, *t | (mode & (*t == S_IFDIR ? 01755u : 07755u)));
			EQ(st.st_nlink, *t == S_IFDIR ? 2 : 1);
			EQ(st.st_uid, 0);
			EQ(st.st_rdev, S_ISCHR(*t) || S_ISBLK(*t) ? makedev(12, 345) : 0);
			TRUE(st.st_ino != before.st_ino);
			TRUE(st.st_dev == before.st_dev);
		}
	}
}

static void make_owner(void)
{
	MUST(mkdir("d", 0777));
	MUST(mkdir("sg", 0777));
	MUST(chown("sg", 0, SHARED));
	MUST(chmod("sg", 02777));
	put("f", "");
	for (const mode_t *t = all_types; *t; t++) {
		doing("%s", type_name(*t));
		be(&alice);
		if (*t == S_IFCHR || *t == S_IFBLK) {
			ERR(EPERM, mknod("d/x", *t | 0666, makedev(1, 3)));
			be(&root);
			continue;
		}
		make("d/x", *t | 0755);
		make("sg/x", *t | 0755);
		EQ(st_of("d/x").st_uid, ALICE);
		EQ(st_of("d/x").st_gid, ALICE);
		EQ(st_of("sg/x").st_uid, ALICE);
		EQ(st_of("sg/x").st_gid, SHARED);
		be(&root);
		MUST(remove("d/x"));
		MUST(remove("sg/x"));
	}
	doing("a directory in a setgid directory");
	be(&bob); /* who is not in the group */
	MUST(mkdir("sg/sub", 0777));
	EQ(mode_of("sg/sub"), 02777);
	EQ(st_of("sg/sub").st_gid, SHARED);
	MUST(mkdir("sg/sub/sub", 0700));
	EQ(mode_of("sg/sub/sub"), 02700);
	doing("setgid and group execute by one who is not in the group");
	EQ(close(open("sg/x", O_CREAT | O_RDWR, 02775)), 0);
	EQ(mode_of("sg/x"), 0775);
	EQ(close(open("sg/y", O_CREAT | O_RDWR, 02765)), 0);
	MUST(mknod("sg/z", S_IFREG | 02775, 0));
	EQ(mode_of("sg/z"), 0775);
	be(&alice);
	EQ(close(open("sg/a", O_CREAT | O_RDWR, 02775)), 0);
	EQ(mode_of("sg/a"), 02775);
}

static void symlinks(void)
{
	char target[PATH_MAX], got[PATH_MAX];
	static const size_t lens[] = {
		1, 2, 59, 60, 61, 100, 127, 128, 255, 256, 1000, 2047, 3000, 4000, 4094, 4095};

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		size_t len = lens[i];

		doing("target of %zu bytes", len);
		memset(target, 'a' + (int)i, len);
		target[len] = 0;
		OK(symlink(target, "s"));
		EQ(st_of("s").st_size, len);
		EQ(readlink("s", got, sizeof(got)), len);
		TRUE(!memcmp(got, target, len));
		EQ(st_of("s").st_mode, S_IFLNK | 0777);
		OK(unlink("s"));
	}
	memset(target, 'x', sizeof(target) - 1);
	target[4095] = 0;
	doing("readlink into a short buffer");
	OK(symlink("0123456789", "s"));
	memset(got, '.', 16);
	EQ(readlink("s", got, 4), 4);
	TRUE(!memcmp(got, "0123....", 8));
	ERR(EINVAL, readlink("s", got, 0));
	ERR(EFAULT, syscall(SYS_readlink, "s", 8l, 10));
	ERR(ENOENT, symlink("", "e"));
	put("f", "");
	ERR(EINVAL, readlink("f", got, sizeof(got)));
	ERR(EINVAL, readlink(".", got, sizeof(got)));
	make("p", S_IFIFO | 0644);
	ERR(EINVAL, readlink("p", got, sizeof(got)));
	doing("target of 4096 bytes");
	{
		char *big = malloc(4097);

		memset(big, 'x', 4096);
		big[4096] = 0;
		ERR(ENAMETOOLONG, symlink(big, "big"));
		free(big);
	}
	doing("umask and symlinks");
	umask(0777);
	OK(symlink("f", "u"));
	EQ(mode_of("u"), 0777);
}

/* ------------------------------------------------------------------ links */

static void links(void)
{
	struct stat st;

	for (const mode_t *t = all_types; *t; t++) {
		if (*t == S_IFDIR)
			continue;
		doing("%s", type_name(*t));
		make("a", *t | 0644);
		EQ(st_of("a").st_nlink, 1);
		OK(link("a", "b"));
		EQ(st_of("a").st_nlink, 2);
		EQ(st_of("b").st_nlink, 2);
		EQ(st_of("a").st_ino, st_of("b").st_ino);
		EQ(st_of("b").st_mode, st_of("a").st_mode);
		if (*t != S_IFLNK) {
			OK(chmod("b", 0201));
			EQ(mode_of("a"), 0201);
		}
		OK(lchown("b", ALICE, BOB));
		EQ(st_of("a").st_uid, ALICE);
		MUST(mkdir("d", 0755));
		OK(link("b", "d/c"));
		EQ(st_of("a").st_nlink, 3);
		OK(unlink("a"));
		st = st_of("b");
		EQ(st.st_nlink, 2);
		EQ(st.st_uid, ALICE);
		OK(rename("d/c", "c"));
		EQ(st_of("b").st_nlink, 2);
		OK(unlink("b"));
		EQ(st_of("c").st_nlink, 1);
		OK(unlink("c"));
		ERR(ENOENT, unlink("c"));
		MUST(rmdir("d"));
	}
	doing("linkat");
	put("f", "x");
	MUST(symlink("f", "s"));
	OK(link("s", "s2"));
	EQ(st_of("s2").st_mode & S_IFMT, S_IFLNK);
	OK(linkat(AT_FDCWD, "s", AT_FDCWD, "s3", AT_SYMLINK_FOLLOW));
	EQ(st_of("s3").st_ino, st_of("f").st_ino);
	ERR(EINVAL, linkat(AT_FDCWD, "s", AT_FDCWD, "s4", 0x8000));
	ERR(ENOENT, link("missing", "x"));
	ERR(EXDEV, link("/proc/version", "x"));
	ERR(EXDEV, rename("/proc/version", "x"));
	ERR(EBADF, linkat(9999, "f", AT_FDCWD, "x", 0));
}

static void link_permissions(void)
{
	MUST(mkdir("d", 0777));
	put("d/f", "");
	be(&alice);
	doing("another's file, without protected_hardlinks one may");
	/* fs.protected_hardlinks decides in the kernel; either is right */
	errno = 0;
	TRUE(!link("d/f", "d/g") || errno == EPERM);
	be(&root);
	MUST(chown("d/f", ALICE, ALICE));
	be(&alice);
	OK(link("d/f", "d/h"));
	be(&root);
	MUST(chmod("d", 0555));
	be(&alice);
	ERR(EACCES, link("d/f", "d/i"));
	ERR(EACCES, unlink("d/f"));
	be(&root);
	MUST(chmod("d", 0666));
	be(&alice);
	ERR(EACCES, link("d/f", "i"));
	ERR(EACCES, unlink("d/f"));
}

static void link_max(void)
{
	unsigned n = 1;
	char name[32];

	/* the limits of the kernel's file systems: ext4 65000; csvfs the same, of a file; tmpfs none */
	put("f", "");
	MUST(mkdir("d", 0755));
	for (; n < 3000; n++) {
		snprintf(name, sizeof(name), "d/%u", n);
		if (link("f", name))
			break;
	}
	EQ(n, 3000);
	EQ(st_of("f").st_nlink, 3000);
	for (n = 1; n < 3000; n++) {
		snprintf(name, sizeof(name), "d/%u", n);
		if (unlink(name))
			break;
	}
	EQ(n, 3000);
	EQ(st_of("f").st_nlink, 1);
	doing("directories count those in them");
	for (n = 0; n < 100; n++) {
		snprintf(name, sizeof(name), "d/%u", n);
		MUST(mkdir(name, 0755));
	}
	EQ(st_of("d").st_nlink, 102);
	MUST(rename("d/5", "moved"));
	EQ(st_of("d").st_nlink, 101);
	MUST(rename("d/6", "d/66x"));
	EQ(st_of("d").st_nlink, 101);
	MUST(rmdir("d/66x"));
	EQ(st_of("d").st_nlink, 100);
}

/* ------------------------------------------------------------------ removing */

static void removing(void)
{
	char name[32];

	for (const mode_t *t = all_types; *t; t++) {
		doing("%s", type_name(*t));
		make("x", *t | 0644);
		if (*t == S_IFDIR) {
			ERR(EISDIR, unlink("x"));
			OK(rmdir("x"));
		} else {
			ERR(ENOTDIR, rmdir("x"));
			OK(unlink("x"));
		}
		TRUE(!exists("x"));
		doing("a directory with a %s in it", type_name(*t));
		MUST(mkdir("d", 0755));
		make("d/x", *t | 0644);
		errno = 0;
		ERR(ENOTEMPTY, rmdir("d"));
		MUST(remove("d/x"));
		OK(rmdir("d"));
	}
	doing("a directory that had many");
	MUST(mkdir("d", 0755));
	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		put(name, "");
	}
	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		if (i == 250)
			ERR(ENOTEMPTY, rmdir("d"));
		MUST(unlink(name));
	}
	OK(rmdir("d"));
	doing("unlinkat");
	MUST(mkdir("d", 0755));
	put("f", "");
	ERR(EINVAL, unlinkat(AT_FDCWD, "f", 0x4000));
	ERR(ENOTDIR, unlinkat(AT_FDCWD, "f", AT_REMOVEDIR));
	OK(unlinkat(AT_FDCWD, "d", AT_REMOVEDIR));
	ERR(EBADF, unlinkat(9999, "f", 0));
	OK(unlinkat(9999, strcat(strcpy((char[PATH_MAX + 8]){0}, here), "/f"), 0));
}

/*
 * A sticky directory: only the owner of the file, the owner of the directory and root may take a name
 * away. Each type, each pair of owners.
 */
static void sticky(void)
{
	static const uid_t owners[] = {ALICE, BOB};

	for (const mode_t *t = all_types; *t; t++) {
		for (int k = 0; k < 4; k++) {
			uid_t of_dir = owners[k & 1], of_file = owners[k >> 1];
			bool may = of_dir == ALICE || of_file == ALICE;

			doing("%s of %s in a sticky directory of %s", type_name(*t),
				of_file == ALICE ? "hers" : "another",
				of_dir == ALICE ? "hers" : "another");
			MUST(mkdir("d", 0777));
			MUST(mkdir("to", 0777));
			MUST(chown("d", of_dir, of_dir));
			MUST(chmod("d", 01777));
			make("d/x", *t | 0777);
			MUST(lchown("d/x", of_file, of_file));
			make("y", *t | 0777);
			MUST(lchown("y", ALICE, ALICE));
			MUST(rename("y", "to/y"));
			be(&alice);
			if (may) {
				OK(rename("to/y", "d/x"));
				OK(rename("d/x", "d/z"));
				OK(rename("d/z", "to/z"));
				OK(remove("to/z"));
			} else {
				ERR(EPERM, rename("to/y", "d/x"));
				ERR(EPERM, rename("d/x", "d/z"));
				ERR(EPERM, rename("d/x", "to/z"));
				ERR(EPERM, *t == S_IFDIR ? rmdir("d/x") : unlink("d/x"));
			}
			be(&root);
			remove("d/x");
			remove("to/y");
			OK(rmdir("d"));
			OK(rmdir("to"));
		}
	}
}

const struct test tests_name[] = {
	{"open-permissions", open_permissions},
	{"open-creates", open_creates},
	{"open-flags", open_flags},
	{"open-descriptor", open_descriptor},
	{"open-special", open_special},
	{"open-tmpfile", open_tmpfile},
	{"open-unlinked", open_unlinked},
	{"make-types", make_types},
	{"make-owner", make_owner},
	{"symlinks", symlinks},
	{"links", links},
	{"link-permissions", link_permissions},
	{"link-max", link_max},
	{"removing", removing},
	{"sticky", sticky},
	{NULL, NULL},
};
