/* SPDX-License-Identifier: GPL-2.0-or-later */
/* times.c - utimensat; which call changes which time of what; relatime. */
#include "posix.h"

#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <time.h>

static int set2(const char *path, struct timespec a, struct timespec m)
{
	return utimensat(AT_FDCWD, path, (struct timespec[2]){a, m}, AT_SYMLINK_NOFOLLOW);
}

static const struct timespec now_ = {0, UTIME_NOW}, omit_ = {0, UTIME_OMIT};

/* ------------------------------------------------------------------ utimensat */

static void utimens_values(void)
{
	/* Before 1970, after 2038, 2106 and 2446, each nanosecond. */
	static const struct timespec values[] = {{0, 0}, {0, 1}, {0, 999999999}, {1, 0},
		{1000000000, 123456789}, {2147483647, 999999999}, {2147483648ll, 1},
		{4294967295ll, 999999999}, {4294967296ll, 5}, {6442450944ll, 999999999},
		{9223372030ll, 1}, {-1, 0}, {-1, 999999999}, {-2, 1}, {-1000000000, 500000000},
		{-2147483648ll, 0}};

	for (const mode_t *t = all_types; *t; t++) {
		make("x", *t | 0644);
		for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
			struct timespec a = values[i],
					m = {a.tv_sec + 1, (a.tv_nsec + 7) % 1000000000};
			struct stat st;

			doing("%s, %lld.%09ld", type_name(*t), (long long)a.tv_sec, a.tv_nsec);
			OK(set2("x", a, m));
			st = st_of("x");
			EQ(st.st_atim.tv_sec, a.tv_sec);
			EQ(st.st_atim.tv_nsec, a.tv_nsec);
			EQ(st.st_mtim.tv_sec, m.tv_sec);
			EQ(st.st_mtim.tv_nsec, m.tv_nsec);
		}
		MUST(remove("x"));
	}
	if (!on_csvfs)
		return;
	doing("what csvfs cannot keep becomes the last that it can (as utimensat(2) of Linux 5.4)");
	put("f", "");
	OK(set2("f", (struct timespec){9223372035ll, 999999999},
		(struct timespec){-9223372036ll, 0}));
	EQ(st_of("f").st_atim.tv_sec, 9223372035ll);
	EQ(st_of("f").st_mtim.tv_sec, -9223372036ll);
	OK(set2("f", (struct timespec){99999999999ll, 0}, (struct timespec){-99999999999ll, 5}));
	EQ(st_of("f").st_atim.tv_sec, INT64_MAX / 1000000000);
	EQ(st_of("f").st_mtim.tv_sec, -9223372036ll);
}

static void utimens_special(void)
{
	struct timespec t0 = {1000, 5}, t1 = {2000, 6}, before, after;
	struct stat st;
	int fd;

	put("f", "");
	OK(set2("f", t0, t1));
	OK(set2("f", omit_, (struct timespec){3000, 7}));
	st = st_of("f");
	EQ(st.st_atim.tv_sec, 1000);
	EQ(st.st_mtim.tv_sec, 3000);
	OK(set2("f", (struct timespec){4000, 8}, omit_));
	st = st_of("f");
	EQ(st.st_atim.tv_sec, 4000);
	EQ(st.st_mtim.tv_nsec, 7);
	tick();
	clock_gettime(CLOCK_REALTIME, &before);
	before.tv_sec -= 1;
	OK(set2("f", now_, omit_));
	clock_gettime(CLOCK_REALTIME, &after);
	st = st_of("f");
	TRUE(ns_of(st.st_atim) >= ns_of(before) && ns_of(st.st_atim) <= ns_of(after));
	EQ(st.st_mtim.tv_sec, 3000);
	OK(set2("f", omit_, now_));
	TRUE(ns_of(st_of("f").st_mtim) >= ns_of(before));
	OK(set2("f", t0, t0));
	OK(utimensat(AT_FDCWD, "f", NULL, 0));
	TRUE(ns_of(st_of("f").st_mtim) >= ns_of(before) &&
		ns_of(st_of("f").st_atim) >= ns_of(before));
	doing("both omitted: nothing changes, not even ctime");
	st = st_of("f");
	tick();
	OK(set2("f", omit_, omit_));
	EQ(ns_of(st_of("f").st_ctim), ns_of(st.st_ctim));
	doing("values that are none");
	ERR(EINVAL, set2("f", (struct timespec){0, 1000000000}, t0));
	ERR(EINVAL, set2("f", t0, (struct timespec){0, -1}));
	ERR(EINVAL, utimensat(AT_FDCWD, "f", NULL, 0x8000));
	fd = open("f", O_RDONLY);
	OK(futimens(fd, (struct timespec[2]){t0, t1}));
	EQ(st_of("f").st_mtim.tv_sec, 2000);
	close(fd);
	ERR(EBADF, futimens(fd, NULL));
	doing("a symlink itself");
	MUST(symlink("f", "s"));
	OK(set2("s", t1, t0));
	EQ(st_of("s").st_mtim.tv_sec, 1000);
	EQ(st_of("f").st_mtim.tv_sec, 2000);
	OK(utimensat(AT_FDCWD, "s", (struct timespec[2]){t0, {77, 0}}, 0));
	EQ(st_of("f").st_mtim.tv_sec, 77);
}

/* utimensat(2): now needs to be the owner or to write; anything else needs the owner. */
static void utimens_permissions(void)
{
	struct timespec t0 = {1000, 5};

	for (int dir = 0; dir < 2; dir++) {
		make("x", (dir ? S_IFDIR : S_IFREG) | 0444);
		MUST(chown("x", ALICE, ALICE));
		be(&alice);
		OK(set2("x", t0, t0));
		OK(set2("x", now_, now_));
		OK(set2("x", now_, omit_));
		be(&bob);
		ERR(EPERM, set2("x", t0, t0));
		ERR(EACCES, set2("x", now_, now_));
		ERR(EACCES, utimensat(AT_FDCWD, "x", NULL, 0));
		ERR(EPERM, set2("x", now_, omit_));
		ERR(EPERM, set2("x", omit_, now_));
		ERR(EPERM, set2("x", t0, now_));
		OK(set2("x", omit_, omit_));
		be(&root);
		MUST(chmod("x", 0666));
		be(&bob);
		ERR(EPERM, set2("x", t0, t0));
		OK(set2("x", now_, now_));
		OK(utimensat(AT_FDCWD, "x", NULL, 0));
		ERR(EPERM, set2("x", now_, omit_));
		ERR(EPERM, set2("x", omit_, now_));
		be(&root);
		MUST(chmod("x", 0));
		OK(set2("x", t0, t0));
		MUST(remove("x"));
	}
}

/* ------------------------------------------------------------------ what changes which time */

enum { A = 1, M = 2, C = 4 };

static char buf_[8192];
static int fd_ = -1;

static long w_write(void)
{
	return write(fd_, "x", 1);
}
static long w_dsync(void)
{
	int fd = open("f", O_WRONLY | O_DSYNC);

	return write(fd, "x", 1) | close(fd);
}

static long w_write0(void)
{
	return write(fd_, "x", 0);
}
static long w_pwrite_far(void)
{
	return pwrite(fd_, "x", 1, 300000);
}
static long w_ftrunc_up(void)
{
	return ftruncate(fd_, 1000);
}
static long w_ftrunc_down(void)
{
	return ftruncate(fd_, 1);
}
static long w_ftrunc_same(void)
{
	return ftruncate(fd_, 4);
}
static long w_trunc_up(void)
{
	return truncate("f", 1000);
}
static long w_trunc_same(void)
{
	return truncate("f", 4);
}
static long w_open_trunc(void)
{
	return close(open("f", O_WRONLY | O_TRUNC));
}
static long w_open(void)
{
	return close(open("f", O_RDWR));
}
static long w_creat_there(void)
{
	return close(open("f", O_RDWR | O_CREAT, 0600));
}
static long w_chmod(void)
{
	return chmod("f", 0600);
}
static long w_fchmod(void)
{
	return fchmod(fd_, 0640);
}
static long w_chown(void)
{
	return chown("f", 1, 1);
}
static long w_chown_none(void)
{
	return chown("f", (uid_t)-1, (gid_t)-1);
}
static long w_link(void)
{
	return link("f", "d/l");
}
static long w_rename(void)
{
	return rename("f", "d/f2") | rename("d/f2", "f");
}
static long w_setxattr(void)
{
	return setxattr("f", "user.a", "1", 1, 0);
}
static long w_fallocate(void)
{
	return fallocate(fd_, 0, 0, 100000);
}
static long w_fallocate_keep(void)
{
	return fallocate(fd_, FALLOC_FL_KEEP_SIZE, 0, 100000);
}
static long w_punch(void)
{
	return fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2);
}
static long w_zero(void)
{
	return fallocate(fd_, FALLOC_FL_ZERO_RANGE, 0, 2);
}
static long w_utimens(void)
{
	return set2("f", (struct timespec){1, 1}, omit_);
}
static long w_stat(void)
{
	return access("f", R_OK) | (st_of("f").st_ino == 0);
}
static long w_fsync(void)
{
	return fsync(fd_);
}
static long w_lseek(void)
{
	return lseek(fd_, 0, SEEK_HOLE) < 0 ? -1 : 0;
}
static long w_getxattr(void)
{
	return getxattr("f", "user.none", buf_, 8) < 0 ? 0 : -1;
}
static long w_chmod_fails(void)
{
	be(&bob);
	chmod("f", 0777);
	chown("f", BOB, BOB);
	truncate("f", 0);
	be(&root);
	return 0;
}
static long w_link_fails(void)
{
	return link("f", "d/missing/l") & link("f", "d") & link("f", "/proc/x") ? 0 : -1;
}
static long w_mmap_write(void)
{
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);

	if (p == MAP_FAILED)
		return -1;
	p[0] = 'm';
	return msync(p, 4096, MS_SYNC) | munmap(p, 4096);
}

static const struct {
	const char *name;
	long (*call)(void);
	int changes; /* of f */
} file_ops[] = {
	{"write", w_write, M | C},
	{"write to O_DSYNC", w_dsync, M | C},
	{"write of nothing", w_write0, 0},
	{"pwrite", w_pwrite_far, M | C},
	{"ftruncate up", w_ftrunc_up, M | C},
	{"ftruncate down", w_ftrunc_down, M | C},
	{"ftruncate to the same size", w_ftrunc_same, M | C},
	{"truncate up", w_trunc_up, M | C},
	{"truncate to the same size", w_trunc_same, M | C},
	{"open O_TRUNC", w_open_trunc, M | C},
	{"open", w_open, 0},
	{"open O_CREAT of what is there", w_creat_there, 0},
	{"chmod", w_chmod, C},
	{"fchmod", w_fchmod, C},
	{"chown", w_chown, C},
	{"chown to none", w_chown_none, C},
	{"link", w_link, C},
	{"rename", w_rename, C},
	{"setxattr", w_setxattr, C},
	{"fallocate", w_fallocate, M | C},
	{"fallocate KEEP_SIZE", w_fallocate_keep, C},
	{"fallocate PUNCH_HOLE", w_punch, M | C},
	{"fallocate ZERO_RANGE", w_zero, M | C},
	{"utimensat", w_utimens, C},
	{"stat", w_stat, 0},
	{"fsync", w_fsync, 0},
	{"lseek", w_lseek, 0},
	{"getxattr", w_getxattr, 0},
	{"what fails for lack of permission", w_chmod_fails, 0},
	{"link that fails", w_link_fails, 0},
	{"store to mapped memory", w_mmap_write, M | C},
};

static void of_files(void)
{
	MUST(mkdir("d", 0755));
	for (size_t i = 0; i < sizeof(file_ops) / sizeof(file_ops[0]); i++) {
		struct stat a, b;

		if (file_ops[i].call == w_mmap_write && !fuse_66)
			continue;
		put("f", "1234");
		fd_ = open("f", O_RDWR);
		doing("%s", file_ops[i].name);
		a = st_of("f");
		tick();
		OK(file_ops[i].call());
		b = st_of("f");
		TRUE((ns_of(b.st_mtim) > ns_of(a.st_mtim)) == !!(file_ops[i].changes & M) ||
			(file_ops[i].call == w_fallocate_keep));
		TRUE((ns_of(b.st_ctim) > ns_of(a.st_ctim)) == !!(file_ops[i].changes & C));
		doing("%s, later", file_ops[i].name);
		MUST(fsync(fd_));
		close(fd_);
		EQ(ns_of(st_of("f").st_mtim), ns_of(b.st_mtim));
		EQ(ns_of(st_of("f").st_ctim), ns_of(b.st_ctim));
		MUST(unlink("f"));
		unlink("d/l");
	}
}

static long p_mkdir(void)
{
	return mkdir("d/n", 0755);
}
static long p_creat(void)
{
	return close(creat("d/n", 0644));
}
static long p_mknod(void)
{
	return mknod("d/n", S_IFIFO | 0644, 0);
}
static long p_symlink(void)
{
	return symlink("x", "d/n");
}
static long p_link(void)
{
	return link("f", "d/n");
}
static long p_rename_in(void)
{
	return rename("f", "d/n");
}
static long p_rename_over(void)
{
	return rename("f", "d/f");
}
static long p_rename_out(void)
{
	return rename("d/f", "n");
}
static long p_rename_within(void)
{
	return rename("d/f", "d/n");
}
static long p_unlink(void)
{
	return unlink("d/f");
}
static long p_rmdir(void)
{
	return rmdir("d/d");
}
static long p_chmod_in(void)
{
	return chmod("d/f", 0600);
}
static long p_write_in(void)
{
	return truncate("d/f", 10);
}
static long p_fails(void)
{
	return mkdir("d/f", 0755) & unlink("d/none") & rmdir("d/f") & unlink("d/d") &
			       symlink("x", "d/f")
		       ? 0
		       : -1;
}
static long p_chmod(void)
{
	return chmod("d", 0700);
}
static long p_sub(void)
{
	return mkdir("d/d/n", 0755) | rmdir("d/d/n");
}

static const struct {
	const char *name;
	long (*call)(void);
	int changes; /* of d */
} dir_ops[] = {
	{"mkdir", p_mkdir, M | C},
	{"creat", p_creat, M | C},
	{"mknod", p_mknod, M | C},
	{"symlink", p_symlink, M | C},
	{"link", p_link, M | C},
	{"rename into", p_rename_in, M | C},
	{"rename over", p_rename_over, M | C},
	{"rename out of", p_rename_out, M | C},
	{"rename within", p_rename_within, M | C},
	{"unlink", p_unlink, M | C},
	{"rmdir", p_rmdir, M | C},
	{"chmod of a file in it", p_chmod_in, 0},
	{"truncate of a file in it", p_write_in, 0},
	{"what fails", p_fails, 0},
	{"chmod", p_chmod, C},
	{"a name in a directory in it", p_sub, 0},
};

static void of_directories(void)
{
	for (size_t i = 0; i < sizeof(dir_ops) / sizeof(dir_ops[0]); i++) {
		struct stat a, b;

		doing("%s", dir_ops[i].name);
		MUST(mkdir("d", 0755));
		MUST(mkdir("d/d", 0755));
		put("d/f", "");
		put("f", "");
		a = st_of("d");
		tick();
		OK(dir_ops[i].call());
		b = st_of("d");
		TRUE((ns_of(b.st_mtim) > ns_of(a.st_mtim)) == !!(dir_ops[i].changes & M));
		TRUE((ns_of(b.st_ctim) > ns_of(a.st_ctim)) == !!(dir_ops[i].changes & C));
		if (exists("d/n"))
			remove("d/n");
		unlink("n");
		unlink("f");
		unlink("d/f");
		rmdir("d/d");
		OK(rmdir("d"));
	}
}

/* ctime of a file whose other name goes. */
static void of_links(void)
{
	struct stat a, b;

	put("f", "");
	MUST(link("f", "g"));
	MUST(link("f", "h"));
	a = st_of("f");
	tick();
	OK(unlink("g"));
	b = st_of("f");
	TRUE(ns_of(b.st_ctim) > ns_of(a.st_ctim));
	EQ(ns_of(b.st_mtim), ns_of(a.st_mtim));
	put("i", "");
	tick();
	doing("its name is replaced");
	OK(rename("i", "h"));
	TRUE(ns_of(st_of("f").st_ctim) > ns_of(b.st_ctim));
	doing("unlinked, but open");
	int fd = open("f", O_RDONLY);
	MUST(fstat(fd, &a));
	tick();
	OK(unlink("f"));
	OK(fstat(fd, &b));
	TRUE(ns_of(b.st_ctim) > ns_of(a.st_ctim));
	close(fd);
}

/* A time that was set stays, whatever was written just before (rsync, cp and tar set it last). */
static void set_after_write(void)
{
	static const time_t times[] = {1000, -500, 4000000000};
	static char big[300000];
	struct stat st;
	int fd = open("f", O_CREAT | O_RDWR, 0644);

	for (int i = 0; i < 6; i++) {
		struct timespec t = {times[i % 3], 7};

		doing("%s, then %lld", i < 3 ? "more than there was" : "in place",
			(long long)t.tv_sec);
		EQ(pwrite(fd, big, sizeof(big), i < 3 ? i * 200000 : 0), sizeof(big));
		OK(futimens(fd, (struct timespec[2]){t, t}));
		OK(fstat(fd, &st));
		EQ(st.st_mtim.tv_sec, t.tv_sec);
		EQ(st.st_atim.tv_sec, t.tv_sec);
		if (i & 1)
			OK(fsync(fd));
		OK(fstat(fd, &st));
		EQ(st.st_mtim.tv_sec, t.tv_sec);
		if (i == 5)
			sleep(4); /* whatever is told later has been told */
		close(fd);
		EQ(st_of("f").st_mtim.tv_sec, t.tv_sec);
		fd = open("f", O_RDWR);
		EQ(st_of("f").st_mtim.tv_sec, t.tv_sec);
	}
	doing("a write after it counts");
	EQ(pwrite(fd, "x", 1, 0), 1);
	TRUE(st_of("f").st_mtim.tv_sec > 4000);
	TRUE(st_of("f").st_mtim.tv_sec < 4000000000);
	close(fd);
	TRUE(st_of("f").st_mtim.tv_sec < 4000000000);
}

static void new_times(void)
{
	struct timespec before, after;

	for (const mode_t *t = all_types; *t; t++) {
		struct stat st;

		doing("%s", type_name(*t));
		clock_gettime(CLOCK_REALTIME, &before);
		before.tv_nsec = 0;
		tick();
		make("x", *t | 0644);
		clock_gettime(CLOCK_REALTIME, &after);
		st = st_of("x");
		TRUE(ns_of(st.st_atim) >= ns_of(before) && ns_of(st.st_atim) <= ns_of(after));
		TRUE(ns_of(st.st_mtim) >= ns_of(before) && ns_of(st.st_mtim) <= ns_of(after));
		TRUE(ns_of(st.st_ctim) >= ns_of(before) && ns_of(st.st_ctim) <= ns_of(after));
		MUST(remove("x"));
	}
}

/* ------------------------------------------------------------------ atime */

static void read_it(int flags)
{
	int fd = open("f", O_RDONLY | flags);

	EQ(read(fd, buf_, 4), 4);
	close(fd);
}

static void list_it(int flags)
{
	int fd = open("d", O_RDONLY | O_DIRECTORY | flags);

	TRUE(syscall(SYS_getdents64, fd, buf_, sizeof(buf_)) > 0);
	close(fd);
}

/* The same of a directory that is listed, and of a symlink that is read or followed. */
static void atime_of_others(void)
{
	const struct timespec old = {1000, 0}, newer = {2000, 0};
	struct stat a;

	MUST(mkdir("d", 0755));
	put("f", "1234");
	MUST(symlink("f", "s"));
	doing("a directory");
	OK(set2("d", old, newer));
	a = st_of("d");
	tick();
	list_it(O_NOATIME);
	EQ(st_of("d").st_atim.tv_sec, 1000);
	list_it(0);
	TRUE(st_of("d").st_atim.tv_sec > 2000);
	EQ(st_of("d").st_mtim.tv_sec, 2000);
	EQ(ns_of(st_of("d").st_ctim), ns_of(a.st_ctim));
	a = st_of("d");
	tick();
	list_it(0);
	EQ(ns_of(st_of("d").st_atim), ns_of(a.st_atim));
	put("d/f", "");
	tick();
	list_it(0);
	TRUE(ns_of(st_of("d").st_atim) > ns_of(a.st_atim));
	for (int follow = 0; follow < 2; follow++) {
		doing(follow ? "a symlink that is followed" : "a symlink that is read");
		OK(set2("s", old, newer));
		a = st_of("s");
		tick();
		OK(follow ? access("s", R_OK) : readlink("s", buf_, 16));
		TRUE(st_of("s").st_atim.tv_sec > 2000);
		EQ(st_of("s").st_mtim.tv_sec, 2000);
		EQ(ns_of(st_of("s").st_ctim), ns_of(a.st_ctim));
	}
}

static void atime(void)
{
	struct statvfs sv;
	struct stat a;

	MUST(statvfs(".", &sv));
	if (sv.f_flag & ST_NOATIME)
		return;
	atime_of_others();
	tick();
	doing("relatime: an atime older than mtime is set anew");
	OK(set2("f", (struct timespec){1000, 0}, (struct timespec){2000, 0}));
	tick();
	read_it(0);
	TRUE(st_of("f").st_atim.tv_sec > 2000);
	doing("relatime: a new one stays");
	a = st_of("f");
	tick();
	read_it(0);
	EQ(ns_of(st_of("f").st_atim), ns_of(a.st_atim));
	doing("relatime: one older than a day is set anew");
	OK(set2("f", (struct timespec){a.st_atim.tv_sec - 90000, 0}, (struct timespec){2000, 0}));
	read_it(0);
	TRUE(st_of("f").st_atim.tv_sec >= a.st_atim.tv_sec);
	doing("O_NOATIME");
	OK(set2("f", (struct timespec){1000, 0}, (struct timespec){2000, 0}));
	read_it(O_NOATIME);
	EQ(st_of("f").st_atim.tv_sec, 1000);
	doing("a read that sets atime leaves mtime alone");
	a = st_of("f");
	read_it(0);
	EQ(st_of("f").st_mtim.tv_sec, 2000);
	EQ(ns_of(st_of("f").st_ctim), ns_of(a.st_ctim));
}

const struct test tests_times[] = {
	{"utimens-values", utimens_values},
	{"utimens-special", utimens_special},
	{"utimens-permissions", utimens_permissions},
	{"times-files", of_files},
	{"times-directories", of_directories},
	{"times-links", of_links},
	{"times-set-after-write", set_after_write},
	{"times-new", new_times},
	{"times-atime", atime},
	{NULL, NULL},
};
