/* SPDX-License-Identifier: GPL-2.0-or-later */
/* attr.c - chmod, access, stat, statx, statfs, truncate; setuid and setgid that go with a write. */
#include "posix.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

/* ------------------------------------------------------------------ chmod */

static void chmod_each(void)
{
	for (const mode_t *t = all_types; *t; t++) {
		if (*t == S_IFLNK)
			continue;
		make("x", *t | 0644);
		doing("%s", type_name(*t));
		for (mode_t mode = 0; mode < 010000; mode += 0111) {
			OK(chmod("x", mode));
			EQ(st_of("x").st_mode, *t | mode);
		}
		MUST(symlink("x", "s"));
		OK(chmod("s", 0700));
		EQ(mode_of("x"), 0700);
		EQ(mode_of("s"), 0777);
		OK(fchmodat(AT_FDCWD, "x", 0711, 0));
		EQ(mode_of("x"), 0711);
		MUST(unlink("s"));
		MUST(remove("x"));
	}
	put("f", "");
	MUST(symlink("f", "s"));
	ERR(EOPNOTSUPP, fchmodat(AT_FDCWD, "s", 0600, AT_SYMLINK_NOFOLLOW));
	doing("fchmod");
	{
		int fd = open("f", O_RDONLY);

		OK(fchmod(fd, 0612));
		EQ(mode_of("f"), 0612);
		close(fd);
		ERR(EBADF, fchmod(fd, 0612));
	}
}

static void chmod_permissions(void)
{
	for (const mode_t *t = all_types; *t; t++) {
		if (*t == S_IFLNK)
			continue;
		doing("%s", type_name(*t));
		make("x", *t | 0644);
		MUST(chown("x", ALICE, SHARED));
		be(&bob);
		ERR(EPERM, chmod("x", 0777));
		be(&alice);
		OK(chmod("x", 0751));
		EQ(mode_of("x"), 0751);
		OK(chmod("x", 06751)); /* she is in the group */
		EQ(mode_of("x"), 06751);
		OK(chmod("x", 01751));
		EQ(mode_of("x"), 01751);
		be(&root);
		MUST(chown("x", ALICE, BOB)); /* now she is not */
		be(&alice);
		OK(chmod("x", 06751));
		EQ(mode_of("x"), 04751);
		OK(chmod("x", 02700));
		EQ(mode_of("x"), 0700);
		be(&root);
		OK(chmod("x", 02700));
		EQ(mode_of("x"), 02700);
		MUST(remove("x"));
	}
}

/* ------------------------------------------------------------------ access */

static void access_each(void)
{
	static const struct user *const who[] = {&alice, &bob, &carol};

	for (int dir = 0; dir < 2; dir++) {
		make("x", (dir ? S_IFDIR : S_IFREG) | 0644);
		MUST(chown("x", ALICE, BOB));
		for (int c = 0; c < 3; c++) {
			for (int bits = 0; bits < 8; bits++) {
				MUST(chmod("x", (mode_t)bits << (6 - 3 * c)));
				be(who[c]);
				for (int want = 0; want < 8; want++) {
					doing("%s, class %d, bits %d, asked %d",
						dir ? "directory" : "file", c, bits, want);
					if ((bits & want) == want)
						OK(access("x", want));
					else
						ERR(EACCES, access("x", want));
				}
				be(&root);
			}
		}
		doing("root");
		MUST(chmod("x", 0));
		OK(access("x", R_OK | W_OK));
		if (dir)
			OK(access("x", X_OK));
		else
			ERR(EACCES, access("x", X_OK));
		MUST(chmod("x", 0001));
		OK(access("x", X_OK));
		MUST(remove("x"));
	}
	put("f", "");
	ERR(EINVAL, syscall(SYS_faccessat2, AT_FDCWD, "f", 8, 0));
	ERR(EINVAL, syscall(SYS_faccessat2, AT_FDCWD, "f", R_OK, 0x8000));
	doing("real and effective user");
	MUST(chmod("f", 0600));
	MUST(setresgid(ALICE, 0, 0) | setresuid(ALICE, 0, 0));
	ERR(EACCES, access("f", R_OK));
	OK(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS));
}

/* ------------------------------------------------------------------ stat */

static void stat_all(void)
{
	struct statx sx;
	struct stat st, st2;
	int fd;

	put("f", "hello");
	st = st_of("f");
	EQ(st.st_size, 5);
	TRUE(st.st_blksize >= 512);
	TRUE(st.st_blocks > 0 && st.st_blocks < 100000);
	fd = open("f", O_RDONLY);
	OK(fstat(fd, &st2));
	TRUE(!memcmp(&st, &st2, sizeof(st)));
	OK(fstatat(fd, "", &st2, AT_EMPTY_PATH));
	EQ(st2.st_ino, st.st_ino);
	close(fd);
	ERR(EBADF, fstat(fd, &st2));
	ERR(EINVAL, fstatat(AT_FDCWD, "f", &st2, 0x40000000));
	ERR(ENOENT, fstatat(AT_FDCWD, "", &st2, 0));
	doing("statx");
	OK(statx(AT_FDCWD, "f", 0, STATX_ALL, &sx));
	EQ(sx.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
	EQ(sx.stx_ino, st.st_ino);
	EQ(sx.stx_size, 5);
	EQ(sx.stx_blocks, st.st_blocks);
	EQ(sx.stx_mode, st.st_mode);
	EQ(sx.stx_nlink, 1);
	EQ(sx.stx_mtime.tv_sec, st.st_mtim.tv_sec);
	EQ(sx.stx_mtime.tv_nsec, st.st_mtim.tv_nsec);
	EQ(sx.stx_ctime.tv_nsec, st.st_ctim.tv_nsec);
	OK(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC, STATX_ALL, &sx));
	OK(statx(AT_FDCWD, "f", AT_STATX_DONT_SYNC, STATX_ALL, &sx));
	ERR(EINVAL, statx(AT_FDCWD, "f", AT_STATX_DONT_SYNC | AT_STATX_FORCE_SYNC, STATX_ALL, &sx));
	ERR(EINVAL, statx(AT_FDCWD, "f", 0, 0x80000000u, &sx));
	doing("blocks");
	EQ(st_of(".").st_nlink, 2);
	fd = open("sparse", O_CREAT | O_RDWR, 0644);
	OK(ftruncate(fd, 1 << 30));
	EQ(st_of("sparse").st_size, 1 << 30);
	EQ(st_of("sparse").st_blocks, 0);
	EQ(pwrite(fd, "x", 1, 1 << 29), 1);
	OK(fsync(fd));
	TRUE(st_of("sparse").st_blocks >= 8);
	TRUE(st_of("sparse").st_blocks <= 4096);
	OK(ftruncate(fd, 0));
	EQ(st_of("sparse").st_blocks, 0);
	close(fd);
}

static void stat_btime(void)
{
	struct statx a, b;

	put("f", "");
	OK(statx(AT_FDCWD, "f", 0, STATX_BTIME, &a));
	TRUE(!fuse_66 || a.stx_mask & STATX_BTIME);
	tick();
	OK(chmod("f", 0600));
	OK(truncate("f", 100));
	OK(rename("f", "g"));
	OK(statx(AT_FDCWD, "g", 0, STATX_BTIME, &b));
	EQ(b.stx_btime.tv_sec, a.stx_btime.tv_sec);
	EQ(b.stx_btime.tv_nsec, a.stx_btime.tv_nsec);
}

/* Soon not more than this is used beyond what was before. */
static void used_soon(const struct statvfs *before, uint64_t bytes)
{
	struct statvfs now;

	for (int i = 0; i < 100; i++) {
		MUST(statvfs(".", &now));
		if ((before->f_bfree - now.f_bfree) * now.f_frsize <= bytes)
			break;
		tick();
	}
	TRUE((before->f_bfree - now.f_bfree) * now.f_frsize <= bytes);
}

static void stat_fs(void)
{
	struct statvfs a, b;
	struct statfs sf;
	int fd;

	OK(statvfs(".", &a));
	TRUE(a.f_bsize >= 512);
	TRUE(a.f_frsize >= 512);
	TRUE(a.f_blocks > 0);
	TRUE(a.f_bfree <= a.f_blocks);
	TRUE(a.f_bavail <= a.f_bfree);
	TRUE(a.f_files == 0 || a.f_ffree <= a.f_files);
	EQ(a.f_namemax, 255);
	OK(statfs(".", &sf));
	EQ(sf.f_namelen, 255);
	EQ(sf.f_blocks, a.f_blocks);
	doing("8 MiB written and removed again");
	fd = open("f", O_CREAT | O_RDWR, 0644);
	OK(fstatfs(fd, &sf));
	for (int i = 0; i < 8; i++) {
		static char buf[1 << 20];

		EQ(write(fd, memset(buf, 1, sizeof(buf)), sizeof(buf)), sizeof(buf));
	}
	OK(fsync(fd));
	OK(statvfs(".", &b));
	TRUE((a.f_bfree - b.f_bfree) * a.f_frsize >= 8 << 20);
	EQ(b.f_blocks, a.f_blocks);
	close(fd);
	doing("space ahead of the end is given back a moment after the close");
	used_soon(&a, 9 << 20);
	OK(unlink("f"));
	used_soon(&a, 256 << 10);
	ERR(EBADF, fstatfs(9999, &sf));
}

/* ------------------------------------------------------------------ truncate */

static void truncates(void)
{
	static const off_t sizes[] = {0, 1, 511, 512, 4095, 4096, 4097, 65535, 65536, 65537,
		1000000, 1048576, (1 << 30) + 1, 1ll << 40};
	struct stat st;
	int fd;

	put("f", "0123456789");
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		doing("to %lld", (long long)sizes[i]);
		OK(truncate("f", sizes[i]));
		EQ(st_of("f").st_size, sizes[i]);
	}
	OK(truncate("f", 5));
	doing("what came back is zero");
	put("f", "0123456789");
	OK(truncate("f", 3));
	OK(truncate("f", 8));
	TRUE(same_bytes("f", 0, "012\0\0\0\0\0", 8));
	fd = open("f", O_RDWR);
	OK(ftruncate(fd, 200000));
	EQ(pwrite(fd, "tail", 4, 150000), 4);
	OK(ftruncate(fd, 150002));
	OK(ftruncate(fd, 200000));
	TRUE(same_bytes("f", 149999, "\0ta\0\0\0", 6));
	OK(ftruncate(fd, 150002));
	EQ(pwrite(fd, "z", 1, 150010), 1);
	TRUE(same_bytes("f", 149999, "\0ta\0\0\0\0\0\0\0\0z", 12));
	ERR(EINVAL, ftruncate(fd, -1));
	ERR(EINVAL, truncate("f", -1));
	close(fd);
	ERR(EBADF, ftruncate(fd, 0));
	MUST(mkdir("d", 0755));
	ERR(EISDIR, truncate("d", 0));
	for (const mode_t *t = all_types; *t; t++) {
		if (*t == S_IFREG || *t == S_IFDIR || *t == S_IFLNK)
			continue;
		doing("%s", type_name(*t));
		make("x", *t | 0666);
		ERR(EINVAL, truncate("x", 0));
		MUST(unlink("x"));
	}
	doing("size that a file cannot have");
	ERR(EFBIG, truncate("f", INT64_MAX));
	MUST(chmod("f", 0444));
	be(&alice);
	ERR(EACCES, truncate("f", 0));
	be(&root);
	OK(truncate("f", 0));
	st = st_of("f");
	EQ(st.st_size, 0);
	EQ(st.st_blocks, 0);
}

/* ------------------------------------------------------------------ setuid and setgid */

enum {
	WRITE,
	PWRITE,
	TRUNCATE,
	FTRUNCATE,
	O_TRUNCATE,
	FALLOC,
	KEEP_SIZE,
	ZERO_RANGE,
	PUNCH,
	COPY,
	MMAP,
	WAYS
};

static void change(int way)
{
	int fd = open("f", way == O_TRUNCATE ? O_RDWR | O_TRUNC : O_RDWR);
	char *p;

	must(fd >= 0, "open f");
	switch (way) {
	case WRITE:
		EQ(write(fd, "x", 1), 1);
		break;
	case PWRITE:
		EQ(pwrite(fd, "x", 1, 100000), 1);
		break;
	case TRUNCATE:
		OK(truncate("f", 3));
		break;
	case FTRUNCATE:
		OK(ftruncate(fd, 3));
		break;
	case FALLOC:
		OK(fallocate(fd, 0, 0, 200000));
		break;
	case KEEP_SIZE:
		OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 300000));
		break;
	case ZERO_RANGE:
		if (fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 5) && errno == EOPNOTSUPP)
			OK(write(fd, "x", 1)); /* tmpfs */
		break;
	case COPY:
		EQ(copy_file_range(fd, &(off64_t){0}, fd, &(off64_t){5}, 3, 0), 3);
		break;
	case PUNCH:
		OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
		break;
	case MMAP:
		if (!fuse_66) {
			OK(write(fd, "x", 1));
			break;
		}
		p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		must(p != MAP_FAILED, "mmap");
		p[0] = 'x';
		OK(msync(p, 4096, MS_SYNC));
		munmap(p, 4096);
		break;
	}
	close(fd);
}

static const char *const way_names[] = {"write", "pwrite", "truncate", "ftruncate", "O_TRUNC", "fallocate",
	"keep size", "zero range", "punch", "copy_file_range", "mmap"};

static void suid_goes(void)
{
	static const mode_t modes[][2] = {{06777, 0777}, {04777, 0777}, {02777, 0777},
		{02767, 02767}, {06767, 02767}, {01777, 01777}, {0777, 0777}};

	for (int way = 0; way < WAYS; way++) {
		/* A store to memory is no write(2): Linux's file systems leave the bits alone. */
		if (way == MMAP)
			continue;
		for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
			mode_t want = modes[i][1];

			put("f", "0123456789");
			MUST(chmod("f", modes[i][0]));
			doing("%s by root, mode %o", way_names[way], modes[i][0]);
			change(way);
			EQ(mode_of("f"), modes[i][0]);
			doing("%s by another, mode %o", way_names[way], modes[i][0]);
			be(&alice);
			change(way);
			be(&root);
			/* Setgid without group execute goes for one who is not in the group (Linux 6.2). */
			EQ(mode_of("f"), want & ~02000u);
			doing("%s by the owner, who is in the group, mode %o", way_names[way],
				modes[i][0]);
			MUST(chown("f", ALICE, SHARED));
			MUST(chmod("f", modes[i][0]));
			be(&alice);
			change(way);
			be(&root);
			EQ(mode_of("f"), want);
			MUST(unlink("f"));
		}
	}
}

/* The bits must go even where the file was written before they were set, and is still open. */
static void suid_goes_later(void)
{
	static const mode_t modes[][2] = {{06777, 0777}, {02767, 0767}, {04666, 0666}, {02666, 0666}};
	int fd;

	put("f", "0123456789");
	MUST(chmod("f", 0777));
	be(&alice);
	fd = open("f", O_RDWR);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		EQ(pwrite(fd, "x", 1, i), 1);
		be(&root);
		MUST(chmod("f", modes[i][0]));
		EQ(mode_of("f"), modes[i][0]);
		be(&alice);
		doing("mode %o", modes[i][0]);
		EQ(pwrite(fd, "y", 1, i), 1);
		EQ(mode_of("f"), modes[i][1]);
	}
	close(fd);
	be(&root);
}

/* Who is in the group by a supplementary group only is in it; the bits do not stay for others because of that. */
static void sgid_of_a_group(void)
{
	static const gid_t groups[] = {SHARED, ALICE, 0, BOB};
	int fd;

	for (int who = 0; who < 2; who++) {
		for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
			bool member = who ? groups[i] == BOB : groups[i] == SHARED || groups[i] == ALICE;

			put("f", "0123456789");
			MUST(chown("f", CAROL, groups[i]));
			MUST(chmod("f", 06666));
			be(who ? &bob : &alice);
			fd = open("f", O_WRONLY);
			for (int again = 0; again < 2; again++) {
				doing("%s, group %u, write %d", who ? "bob" : "alice", groups[i], again);
				EQ(write(fd, "x", 1), 1);
				EQ(mode_of("f"), member ? 02666 : 0666);
			}
			close(fd);
			be(&root);
			MUST(unlink("f"));
		}
	}
}

const struct test tests_attr[] = {
	{"chmod-each", chmod_each},
	{"chmod-permissions", chmod_permissions},
	{"access-each", access_each},
	{"stat", stat_all},
	{"stat-btime", stat_btime},
	{"statfs", stat_fs},
	{"truncate", truncates},
	{"suid-goes", suid_goes},
	{"suid-goes-later", suid_goes_later},
	{"suid-sgid-of-a-group", sgid_of_a_group},
	{NULL, NULL},
};
