/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * main.c - the frame: runs the tests of all parts in a directory, counts, cleans up.
 *
 *   posix DIR [NAME...]   tests with one of these in their name; "N passed, N failed" at the end
 *   posix --prepare DIR   makes what --ro looks at
 *   posix --ro DIR        of a file system that is mounted read-only
 *   posix --full DIR      of one that may be filled: some 100 MiB
 */
#include "posix.h"
#include "kernel.h"

#include <ftw.h>
#include <grp.h>
#include <stdarg.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>

#define FUSE_MAGIC 0x65735546

const struct user root = {0, 0, 0, {0}};
const struct user alice = {ALICE, ALICE, 2, {ALICE, SHARED}};
const struct user bob = {BOB, BOB, 1, {BOB}};
const struct user carol = {CAROL, CAROL, 1, {CAROL}};

bool on_csvfs, fuse_66;
char top[PATH_MAX], here[PATH_MAX];

static unsigned passed, failed;
static const char *test_name;
static char now_doing[256];
static const struct user *now_user = &root;
static bool read_only;

const mode_t all_types[] = {S_IFREG, S_IFDIR, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK, S_IFLNK, 0};

const char *type_name(mode_t type)
{
	static const char *const names[16] = {[1] = "fifo",
		[2] = "char device",
		[4] = "directory",
		[6] = "block device",
		[8] = "file",
		[10] = "symlink",
		[12] = "socket"};
	const char *n = names[(type & S_IFMT) >> 12];

	return n ? n : "nothing";
}

/* ------------------------------------------------------------------ checks */

void doing(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(now_doing, sizeof(now_doing), fmt, ap);
	va_end(ap);
}

static bool result(bool ok, const char *file, int line, const char *text, const char *more)
{
	const char *base = strrchr(file, '/');

	if (ok) {
		passed++;
		return true;
	}
	failed++;
	printf("FAILED %s:%d [%s%s%s%s%s] %s: %s\n", base ? base + 1 : file, line, test_name,
		now_doing[0] ? ", " : "", now_doing, now_user == &root ? "" : ", not root", "",
		text, more);
	return false;
}

bool check_true(const char *file, int line, const char *text, bool ok)
{
	return result(ok, file, line, text, "no");
}

bool check_ok(const char *file, int line, const char *text, long ret)
{
	return result(ret != -1, file, line, text, strerrorname_np(errno) ?: "?");
}

bool check_err(const char *file, int line, const char *text, long ret, int want)
{
	char more[128];
	int got = ret == -1 ? errno : 0;

	snprintf(more, sizeof(more), "%s, not %s", got ? strerrorname_np(got) : "success",
		strerrorname_np(want));
	return result(got == want, file, line, text, more);
}

bool check_eq(const char *file, int line, const char *text, long long got, long long want)
{
	char more[128];

	snprintf(more, sizeof(more), "%lld (0%llo), not %lld (0%llo)", got, got, want, want);
	return result(got == want, file, line, text, more);
}

void cannot(const char *why)
{
	printf("cannot run %s: %s\n", test_name, why);
}

void must(bool ok, const char *what)
{
	if (ok)
		return;
	printf("FAILED [%s, %s] cannot go on: %s: %s\n", test_name, now_doing, what,
		strerror(errno));
	failed++;
	printf("%u passed, %u failed\n", passed, failed);
	exit(2);
}

/* ------------------------------------------------------------------ helpers */

void be(const struct user *u)
{
	int err = errno;

	must(!setresuid(0, 0, 0) && !setresgid(0, 0, 0), "be root");
	must(!setgroups((size_t)u->more_count, u->more), "setgroups");
	must(!setresgid(u->gid, u->gid, 0) && !setresuid(u->uid, u->uid, 0), "be another");
	now_user = u;
	errno = err;
}

void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), path);
	close(fd);
}

void make(const char *path, mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		MUST(mkdir(path, mode & 07777));
		MUST(chmod(path, mode & 07777));
		return;
	case S_IFLNK:
		MUST(symlink("target", path));
		return;
	default:
		MUST(mknod(path, mode, makedev(1, 3)));
	}
}

struct stat st_of(const char *path)
{
	struct stat st;

	if (lstat(path, &st))
		memset(&st, 0, sizeof(st));
	return st;
}

mode_t mode_of(const char *path)
{
	return st_of(path).st_mode & 07777;
}

bool exists(const char *path)
{
	struct stat st;

	return !lstat(path, &st);
}

int status_of(pid_t pid)
{
	int status = -1;

	must(pid > 0 && waitpid(pid, &status, 0) == pid, "wait for a child");
	return status;
}

void tick(void)
{
	/* Kernel file systems have the time of the last timer interrupt: at most 10 ms old. */
	nanosleep(&(struct timespec){0, 11000000}, NULL);
}

uint64_t rnd(void)
{
	static uint64_t x = 88172645463325252ull;

	x ^= x << 13;
	x ^= x >> 7;
	return x ^= x << 17;
}

bool same_bytes(const char *path, off_t off, const void *want, size_t len)
{
	int fd = open(path, O_RDONLY);
	char *got = malloc(len + 1);
	bool same = fd >= 0 && pread(fd, got, len, off) == (ssize_t)len && !memcmp(got, want, len);

	close(fd);
	free(got);
	return same;
}

/* ------------------------------------------------------------------ the frame */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

static void run(const struct test *t)
{
	static unsigned nr;
	unsigned before = failed;

	test_name = t->name;
	now_doing[0] = 0;
	snprintf(here, sizeof(here), "%.3000s/t%u.%s", top, nr++, t->name);
	umask(0);
	if (read_only)
		memcpy(here, top, sizeof(top));
	else
		MUST(mkdir(here, 0777));
	MUST(chdir(here));
	t->run();
	be(&root);
	umask(0);
	MUST(chdir(top));
	doing("removing what the test made");
	if (!read_only && nftw(here, remove_one, 16, FTW_DEPTH | FTW_PHYS))
		check_ok(__FILE__, __LINE__, here, -1);
	if (failed > before)
		printf("%s: %u failed\n", t->name, failed - before);
}

static bool wanted(const char *name, char **names)
{
	if (!*names)
		return true;
	for (; *names; names++) {
		if (strstr(name, *names))
			return true;
	}
	return false;
}

static void run_part(const struct test *part, char **names)
{
	bool times = getenv("POSIX_TIMES") != NULL;

	for (const struct test *t = part; t->name; t++) {
		struct timespec a, b;

		if (!wanted(t->name, names))
			continue;
		clock_gettime(CLOCK_MONOTONIC, &a);
		run(t);
		clock_gettime(CLOCK_MONOTONIC, &b);
		if (times)
			printf("%5lld ms %s\n", (ns_of(b) - ns_of(a)) / 1000000, t->name);
	}
}

int main(int argc, char **argv)
{
	const struct test *const parts[] = {tests_path, tests_name, tests_rename, tests_attr,
		tests_owner, tests_times, tests_data, tests_space, tests_map, tests_xattr,
		tests_acl, tests_dir, tests_gone, tests_call, tests_misc, tests_lock};
	const char *mode = argc > 1 && argv[1][0] == '-' ? argv[1] : "";
	struct statfs sf;

	setvbuf(stdout, NULL, _IOLBF, 0);
	argv += *mode ? 2 : 1;
	if (!*argv || !realpath(*argv, top) || statfs(top, &sf) || geteuid()) {
		fprintf(stderr,
			"usage, as root: posix [--prepare | --ro | --full] DIR [NAME...]\n");
		return 2;
	}
	argv++;
	on_csvfs = sf.f_type == FUSE_MAGIC;
	fuse_66 = !on_csvfs || kernel_has_66();
	if (!fuse_66)
		printf("left out: shared maps and birth times, which FUSE has since Linux 6.6\n");
	if (!strcmp(mode, "--prepare")) {
		MUST(chdir(top));
		prepare_ro();
		return 0;
	}
	read_only = !strcmp(mode, "--ro");
	if (read_only)
		run_part(tests_ro, argv);
	else if (!strcmp(mode, "--full"))
		run_part(tests_full, argv);
	else
		for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
			run_part(parts[i], argv);
	printf("%u passed, %u failed\n", passed, failed);
	return failed ? 1 : 0;
}
