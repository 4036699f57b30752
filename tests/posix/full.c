/* SPDX-License-Identifier: GPL-2.0-or-later */
/* full.c - a volume without room, and one that is mounted read-only. */
#include "posix.h"

#include <linux/fs.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>

/* ------------------------------------------------------------------ read-only */

void prepare_ro(void)
{
	umask(0);
	put("f", "0123456789");
	MUST(chmod("f", 0666));
	put("g", "g");
	MUST(mkdir("d", 0777));
	MUST(mkdir("e", 0777));
	put("d/f", "in d");
	MUST(symlink("f", "s"));
	make("p", S_IFIFO | 0666);
	make("null", S_IFCHR | 0666);
	MUST(setxattr("f", "user.a", "1", 1, 0));
}

static void ro_changes(void)
{
	for (int i = 0; i < 2; i++) {
		be(i ? &alice : &root);
		ERR(EROFS, open("f", O_WRONLY));
		ERR(EROFS, open("f", O_RDWR));
		ERR(EROFS, open("f", O_RDONLY | O_TRUNC));
		ERR(EROFS, open("f", O_WRONLY | O_CREAT, 0644));
		ERR(EROFS, open("new", O_WRONLY | O_CREAT, 0644));
		ERR(EROFS, open("new", O_RDONLY | O_CREAT | O_EXCL, 0644));
		ERR(EEXIST, open("f", O_RDONLY | O_CREAT | O_EXCL, 0644));
		ERR(EROFS, creat("new", 0644));
		ERR(EROFS, mkdir("new", 0755));
		ERR(EEXIST, mkdir("d", 0755));
		ERR(EROFS, mknod("new", S_IFIFO | 0644, 0));
		ERR(EROFS, symlink("x", "new"));
		ERR(EROFS, link("f", "new"));
		ERR(EROFS, unlink("f"));
		ERR(EROFS, rmdir("e"));
		ERR(EROFS, rename("f", "new"));
		ERR(EROFS, rename("f", "g"));
		ERR(EROFS, truncate("f", 0));
		ERR(EROFS, chmod("f", 0600));
		ERR(EROFS, lchown("f", ALICE, ALICE));
		ERR(EROFS, lchown("s", ALICE, ALICE));
		ERR(EROFS, utimensat(AT_FDCWD, "f", NULL, 0));
		ERR(EROFS, utimensat(AT_FDCWD, "f", (struct timespec[2]){{1, 0}, {1, 0}}, 0));
		ERR(EROFS, setxattr("f", "user.a", "2", 1, 0));
		ERR(EROFS, setxattr("f", "user.b", "2", 1, XATTR_CREATE));
		ERR(EROFS, removexattr("f", "user.a"));
		ERR(EROFS, open(".", O_TMPFILE | O_RDWR, 0600));
		ERR(EROFS, access("f", W_OK));
		ERR(EROFS, access("d", W_OK));
		ERR(ENOENT, open("missing", O_RDONLY));
	}
}

static void ro_reads(void)
{
	struct statvfs sv;
	char buf[16];
	int fd;

	TRUE(same_bytes("f", 0, "0123456789", 10));
	TRUE(same_bytes("d/f", 0, "in d", 4));
	OK(access("f", R_OK));
	EQ(readlink("s", buf, 16), 1);
	EQ(getxattr("f", "user.a", buf, 16), 1);
	OK(statvfs(".", &sv));
	TRUE(sv.f_flag & ST_RDONLY);
	fd = open("f", O_RDONLY | O_CREAT, 0644); /* what is there may be opened */
	TRUE(fd >= 0);
	OK(fsync(fd));
	TRUE(!fuse_66 || mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED);
	ERR(EACCES, (long)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	ERR(EROFS, fchmod(fd, 0600));
	ERR(EROFS, futimens(fd, NULL));
	close(fd);
	doing("what is written to is no part of the file system");
	fd = open("null", O_RDWR);
	TRUE(fd >= 0);
	EQ(write(fd, "x", 1), 1);
	close(fd);
	fd = open("p", O_RDWR | O_NONBLOCK);
	TRUE(fd >= 0);
	EQ(write(fd, "x", 1), 1);
	close(fd);
	EQ(st_of("f").st_atim.tv_sec, st_of("f").st_atim.tv_sec);
}

const struct test tests_ro[] = {
	{"ro-changes", ro_changes},
	{"ro-reads", ro_reads},
	{NULL, NULL},
};

/* ------------------------------------------------------------------ full */

static uint64_t free_bytes(void)
{
	struct statvfs sv;

	MUST(statvfs(".", &sv));
	return (uint64_t)sv.f_bavail * sv.f_frsize;
}

/* Soon (space is given back in the background). */
static bool free_again(uint64_t bytes, uint64_t slack)
{
	for (int i = 0; i < 300; i++) {
		if (free_bytes() + slack >= bytes)
			return true;
		tick();
	}
	printf("%llu bytes free, not %llu\n", (unsigned long long)free_bytes(),
		(unsigned long long)bytes);
	return false;
}

static char block[1 << 20];

static off_t by_less; /* what fill_with() got by writes of less than a block */

/* Writes to the end of the space; how much there was. */
static off_t fill_with(int fd)
{
	off_t got = 0;
	size_t len = sizeof(block);
	ssize_t n;

	memset(block, 'b', sizeof(block));
	by_less = 0;
	while (len >= 4096) {
		n = pwrite(fd, block, len, got);
		if (n > 0) {
			got += n;
			by_less += len < sizeof(block) ? n : 0;
			continue;
		}
		must(errno == ENOSPC, "nothing but ENOSPC");
		len /= 2;
	}
	return got;
}

static void full_of_data(void)
{
	uint64_t before = free_bytes();
	int fd, fd2;
	off_t got;

	put("small", "0123456789");
	MUST(mkdir("d", 0755));
	fd2 = open("sparse", O_CREAT | O_RDWR, 0644);
	MUST(ftruncate(fd2, 1 << 30));
	fd = open("f", O_CREAT | O_RDWR, 0644);
	got = fill_with(fd);
	doing("the write that does not fit ends where the space does");
	EQ(by_less, 0);
	TRUE((uint64_t)got > before - before / 8 && (uint64_t)got <= before);
	EQ(st_of("f").st_size, got);
	TRUE(free_bytes() < 1 << 20);
	doing("what has its place can be written");
	EQ(pwrite(fd, "over", 4, 12345), 4);
	EQ(pwrite(fd, "over", 4, got - 4), 4);
	OK(fsync(fd));
	TRUE(same_bytes("f", 12340, "bbbbboverbbb", 12));
	doing("what has none cannot");
	ERR(ENOSPC, pwrite(fd2, "x", 1, 1 << 29));
	ERR(ENOSPC, fallocate(fd2, 0, 0, 16 << 20));
	ERR(ENOSPC, fallocate(fd2, FALLOC_FL_KEEP_SIZE, 16 << 20, 1ll << 33));
	EQ(st_of("sparse").st_size, 1 << 30);
	doing("metadata has its reserve");
	OK(mkdir("d/sub", 0755));
	OK(symlink("x", "d/link"));
	OK(close(open("d/empty", O_CREAT | O_RDWR, 0644)));
	OK(rename("d/empty", "d/moved"));
	OK(chmod("f", 0600));
	OK(setxattr("small", "user.a", "1", 1, 0));
	OK(ftruncate(fd2, 5));
	OK(ftruncate(fd2, 1 << 28));
	OK(unlink("d/moved"));
	doing("a part of the space comes back");
	OK(ftruncate(fd, got / 2));
	TRUE(free_again((uint64_t)(got / 2), 2 << 20));
	EQ(pwrite(fd2, "x", 1, 1 << 20), 1);
	OK(unlink("f"));
	close(fd);
	doing("all of it comes back");
	TRUE(free_again(before, 3 << 20)); /* but for a chunk of metadata */
	close(fd2);
}

/* Written to the end of what fallocate() gave beyond the end of the file, and hole by hole what was punched. */
static void full_of_allocated(void)
{
	const off_t len = 4 << 20, step = 65536;
	int given = open("given", O_CREAT | O_RDWR, 0644), fd = open("f", O_CREAT | O_RDWR, 0644);
	unsigned wrong = 0;
	off_t got;

	EQ(pwrite(given, "0123456789", 10, 0), 10);
	OK(fallocate(given, FALLOC_FL_KEEP_SIZE, 10, len - 10));
	got = fill_with(fd);
	for (off_t off = 10; off < len; off += 4095)
		wrong += pwrite(given, block, off + 4095 < len ? 4095 : (size_t)(len - off), off) <
			 0;
	EQ(wrong, 0);
	OK(fsync(given));
	EQ(st_of("given").st_size, len);
	TRUE(same_bytes("given", len - 4096, block, 4096));
	doing("holes all over a full volume, and all filled again");
	for (off_t off = 0; off + step < got; off += 2 * step)
		wrong += fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, step) != 0;
	EQ(wrong, 0);
	for (off_t off = 0; off + step < got; off += 2 * step)
		wrong += pwrite(fd, block, (size_t)step, off) != step;
	EQ(wrong, 0);
	OK(fsync(fd));
	EQ(st_of("f").st_size, got);
	close(fd);
	close(given);
}

/* The volume is full. */
static void store_to_hole(void)
{
	int fd = open("sparse", O_CREAT | O_RDWR, 0644), st;
	pid_t pid;
	char *p;

	doing("a store to a hole of a mapped file");
	MUST(ftruncate(fd, 1 << 20));
	p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(p != MAP_FAILED, "mmap");
	pid = fork();
	if (!pid) {
		memset(p, 'm', 1 << 20);
		_exit(msync(p, 1 << 20, MS_SYNC) ? errno : 0);
	}
	st = status_of(pid);
	/* kernel file systems say so at the store, FUSE at msync */
	TRUE(WIFSIGNALED(st) || WEXITSTATUS(st) == ENOSPC || WEXITSTATUS(st) == EIO);
	munmap(p, 1 << 20);
	close(fd);
}

static void full_of_holes(void)
{
	uint64_t before = free_bytes();
	int fd = open("f", O_CREAT | O_RDWR, 0644);
	off_t got = fill_with(fd);

	if (fuse_66)
		store_to_hole();
	doing("punched holes are free space");
	OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, got));
	EQ(st_of("f").st_size, got);
	TRUE(free_again(before, 3 << 20));
	EQ(pwrite(fd, "x", 1, 12345), 1);
	OK(fsync(fd));
	close(fd);
}

static void full_of_files(void)
{
	uint64_t before = free_bytes();
	char name[32];
	int n, err = 0;

	for (n = 0; n < 100000; n++) {
		int fd;
		ssize_t w;

		snprintf(name, sizeof(name), "%d", n);
		fd = open(name, O_CREAT | O_RDWR, 0644);
		if (fd < 0) {
			err = errno;
			break;
		}
		w = write(fd, block, 262144);
		err = w < 0 ? errno : 0;
		close(fd);
		if (w < 262144) {
			n++;
			break;
		}
	}
	TRUE(n > 50 && n < 100000);
	TRUE(!err || err == ENOSPC);
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "%d", i);
		if (!OK(unlink(name)))
			break;
	}
	TRUE(free_again(before, 3 << 20));
}

const struct test tests_full[] = {
	{"full-data", full_of_data},
	{"full-allocated", full_of_allocated},
	{"full-holes", full_of_holes},
	{"full-files", full_of_files},
	{NULL, NULL},
};
