/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * beside.c - random calls by root and two others in a small tree, each with what came of it, and now and then all
 * that can be seen of the tree. Run with the same seed on two file systems it prints the same, or one of them does
 * not do as the other (tests/single/t-beside.sh).
 *
 *   beside DIR SEED CALLS     as root, in an empty directory
 *
 * Left out, since it may differ: setgid on what its group may not execute, which FUSE keeps longer; ZERO_RANGE, which
 * tmpfs has not; sizes of directories; inode numbers; times that the clock gave.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define COUNT(a) ((unsigned)(sizeof(a) / sizeof((a)[0])))
#define PICK(a) ((a)[below(COUNT(a))])

static uint64_t state;
static unsigned long step;
static unsigned who;
static int fds[4] = {-1, -1, -1, -1};
static char from[64], to[64]; /* paths of this call */
static mode_t mode;
static int *fd;

static unsigned below(unsigned n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)(state >> 11) % n;
}

static const uid_t users[] = {0, 60001, 60002};
#define SHARED 60100

static void must(int failed, const char *what)
{
	if (!failed)
		return;
	perror(what);
	exit(2);
}

static void be(unsigned user)
{
	gid_t groups[2] = {users[user], SHARED};

	must(setresuid(0, 0, 0) || setresgid(0, 0, 0), "root");
	must(setgroups(user == 1 ? 2 : user, groups), "setgroups");
	must(setresgid(users[user], users[user], 0) || setresuid(users[user], users[user], 0),
		"user");
	who = user;
}

static const char *path(char out[64])
{
	static const char *const dirs[] = {".", "d1", "d2", "d1/s", "d2/s", "d3"};
	static const char *const names[] = {"a", "b", "c", "s", "d1", "d2", "d3", "..", "."};

	/* ".." of the top leads out of what is compared. */
	do
		snprintf(out, 64, "%s/%s", PICK(dirs), names[below(below(6) ? 7 : 9)]);
	while (!strcmp(out, "./.."));
	return out;
}

/* What was called, by whom, and what came of it. */
__attribute__((format(printf, 2, 3))) static long tell(long ret, const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	printf("%lu user %u: ", step, who);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf(" = %s\n", ret == -1 ? strerrorname_np(err) : "done");
	return ret;
}

static void show_stat(const char *name, const struct stat *st)
{
	bool device = S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode);

	printf("   %s: %o, %lu links, %u:%u, %lld bytes, device %lx\n", name, st->st_mode,
		(unsigned long)st->st_nlink, st->st_uid, st->st_gid,
		S_ISDIR(st->st_mode) ? 0 : (long long)st->st_size, device ? (long)st->st_rdev : 0);
}

static void show(const char *name)
{
	struct stat st;

	if (lstat(name, &st))
		printf("   %s: %s\n", name, strerrorname_np(errno));
	else
		show_stat(name, &st);
}

/* ------------------------------------------------------------------ calls */

static void c_open(void)
{
	static const int all[] = {O_RDONLY, O_RDWR, O_WRONLY, O_RDWR | O_CREAT,
		O_RDWR | O_CREAT | O_EXCL, O_WRONLY | O_TRUNC, O_RDONLY | O_NOFOLLOW,
		O_RDONLY | O_DIRECTORY, O_RDWR | O_CREAT | O_TRUNC, O_WRONLY | O_APPEND, O_PATH,
		O_RDONLY | O_NOATIME, O_RDWR | O_CREAT | O_NOFOLLOW, O_RDONLY | O_TRUNC,
		O_RDWR | O_CREAT | O_APPEND | O_SYNC};
	int flags = PICK(all);

	if (*fd >= 0)
		close(*fd);
	*fd = open(from, flags | O_NONBLOCK, mode);
	tell(*fd, "open %s, %o, %o", from, flags, mode);
}

static void c_mkdir(void)
{
	tell(mkdir(from, mode), "mkdir %s, %o", from, mode);
}

static void c_rmdir(void)
{
	tell(rmdir(from), "rmdir %s", from);
}

static void c_unlink(void)
{
	tell(unlink(from), "unlink %s", from);
}

static void c_link(void)
{
	tell(link(from, to), "link %s %s", from, to);
}

static void c_symlink(void)
{
	static const char *const targets[] = {
		"a", "../d1", "b", "loop", "/proc/nothing", "../d2/s/a"};
	const char *target = PICK(targets);

	tell(symlink(target, from), "symlink %s %s", target, from);
}

static void c_rename(void)
{
	unsigned flags = below(3) ? 0 : below(15) ? 1u << below(3) : below(8);

	tell(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags), "rename %s %s, %u", from,
		to, flags);
}

static void c_chmod(void)
{
	tell(chmod(from, mode), "chmod %s, %o", from, mode);
	show(from);
}

static void c_chown(void)
{
	static const uid_t uids[] = {(uid_t)-1, 0, 60001, 60002};
	static const gid_t gids[] = {(gid_t)-1, 0, 60001, 60002, SHARED};
	uid_t uid = PICK(uids);
	gid_t gid = PICK(gids);

	tell(lchown(from, uid, gid), "lchown %s, %d, %d", from, (int)uid, (int)gid);
	show(from);
}

static void c_truncate(void)
{
	long size = below(300000);

	tell(truncate(from, size), "truncate %s, %ld", from, size);
}

static void c_mknod(void)
{
	static const mode_t types[] = {
		S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK, 0, S_IFDIR, S_IFLNK};
	mode_t type = PICK(types);

	tell(mknod(from, type | mode, makedev(1, 3)), "mknod %s, %o", from, type | mode);
}

static void c_readlink(void)
{
	char target[64];
	ssize_t n = tell(readlink(from, target, sizeof(target)), "readlink %s", from);

	if (n >= 0)
		printf("   %.*s\n", (int)n, target);
}

static void c_access(void)
{
	int what = (int)below(8);

	tell(access(from, what), "access %s, %d", from, what);
}

static const char *const attrs[] = {"user.a", "user.b", "trusted.a", "security.x", "foo.bar",
	"system.posix_acl_access", "system.posix_acl_default"};

static void c_setxattr(void)
{
	const char *name = attrs[below(5)];
	size_t len = below(10);
	int flags = (int)below(3);

	tell(lsetxattr(from, name, "valuevalue", len, flags), "lsetxattr %s %s, %d", from, name,
		flags);
}

static void c_removexattr(void)
{
	const char *name = PICK(attrs);

	tell(lremovexattr(from, name), "lremovexattr %s %s", from, name);
}

static void c_getxattr(void)
{
	const char *name = PICK(attrs);
	char value[200];
	size_t room = below(20) * (below(3) ? 10 : 1);
	ssize_t n = tell(lgetxattr(from, name, value, room), "lgetxattr %s %s", from, name);

	if (n >= 0)
		printf("   %zd bytes\n", n);
}

static void c_acl(void)
{
	struct {
		uint32_t version;
		struct {
			uint16_t tag, perm;
			uint32_t id;
		} e[6];
	} acl = {2, {{1, 0, ~0u}, {2, 0, 60001 + below(2)}, {4, 0, ~0u}, {8, 0, SHARED},
			    {16, 0, ~0u}, {32, 0, ~0u}}};
	const char *name = attrs[5 + below(2)];
	size_t len = below(10) ? sizeof(acl) : below(sizeof(acl));

	for (unsigned i = 0; i < 6; i++)
		acl.e[i].perm = (uint16_t)below(8);
	tell(setxattr(from, name, &acl, len, 0), "set %s of %s", name, from);
	show(from);
}

static void c_utimens(void)
{
	struct timespec t[2] = {
		{below(1000000), below(1000000000)}, {below(1000000), below(1000000000)}};
	struct stat st;

	if (!below(4))
		t[0].tv_nsec = UTIME_NOW;
	if (!below(4))
		t[1].tv_nsec = below(2) ? UTIME_NOW : UTIME_OMIT;
	if (tell(utimensat(AT_FDCWD, from, t, AT_SYMLINK_NOFOLLOW), "utimensat %s", from))
		return;
	if (!lstat(from, &st) && t[0].tv_nsec < 1000000000)
		printf("   %lld.%09ld\n", (long long)st.st_atim.tv_sec, st.st_atim.tv_nsec);
}

static void c_pwrite(void)
{
	long at = below(200000);
	size_t len = below(5000);
	char bytes[5000];

	memset(bytes, 'a' + (int)below(26), sizeof(bytes));
	if (*fd >= 0 && tell(pwrite(*fd, bytes, len, at), "pwrite %zu at %ld", len, at) >= 0)
		fsync(*fd);
}

static void c_fallocate(void)
{
	static const int modes[] = {
		0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE};
	long at = below(200000), len = below(3) ? below(100000) : below(2);
	int flags = PICK(modes);

	if (*fd >= 0)
		tell(fallocate(*fd, flags, at, len), "fallocate %d, %ld at %ld", flags, len, at);
}

static void c_fstat(void)
{
	struct stat st;

	if (*fd >= 0 && !tell(fstat(*fd, &st), "fstat"))
		show_stat("", &st);
}

static void c_fchmod(void)
{
	if (*fd >= 0)
		tell(fchmod(*fd, mode), "fchmod %o", mode);
}

static void c_ftruncate(void)
{
	long size = below(300000);

	if (*fd >= 0)
		tell(ftruncate(*fd, size), "ftruncate %ld", size);
}

static void c_tmpfile(void)
{
	int f = open(from, O_TMPFILE | O_RDWR | (below(4) ? 0 : O_EXCL), mode);
	struct stat st;
	char self[64];

	tell(f, "open %s, O_TMPFILE, %o", from, mode);
	if (f < 0)
		return;
	must(fstat(f, &st), "fstat");
	show_stat("", &st);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", f);
	tell(linkat(AT_FDCWD, self, AT_FDCWD, to, AT_SYMLINK_FOLLOW), "linkat it %s", to);
	show(to);
	close(f);
}

static void c_stat(void)
{
	struct stat st;

	tell(stat(from, &st), "stat %s", from);
	show(from);
}

/* ------------------------------------------------------------------ all that can be seen */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void show_xattrs(const char *name)
{
	char list[4096], *names[64];
	ssize_t n = llistxattr(name, list, sizeof(list));
	unsigned count = 0;

	for (char *p = list; p < list + n && count < 64; p += strlen(p) + 1)
		names[count++] = p;
	qsort(names, count, sizeof(*names), by_name);
	for (unsigned i = 0; i < count; i++) {
		unsigned char value[256];
		ssize_t len = lgetxattr(name, names[i], value, sizeof(value));

		printf("      %s=", names[i]);
		for (ssize_t k = 0; k < len; k++)
			printf("%02x", value[k]);
		printf("\n");
	}
}

static void show_data(const char *name)
{
	static unsigned char bytes[400000];
	int f = open(name, O_RDONLY);
	ssize_t n = read(f, bytes, sizeof(bytes));
	uint64_t sum = 14695981039346656037ull;

	for (ssize_t i = 0; i < n; i++)
		sum = (sum ^ bytes[i]) * 1099511628211ull;
	printf("      %zd bytes: %llx\n", n, (unsigned long long)sum);
	close(f);
}

static void show_tree(const char *name)
{
	struct dirent **list;
	struct stat st;
	int n;

	if (lstat(name, &st))
		return;
	show(name);
	show_xattrs(name);
	if (S_ISREG(st.st_mode))
		show_data(name);
	if (!S_ISDIR(st.st_mode))
		return;
	n = scandir(name, &list, NULL, alphasort);
	must(n < 0, name);
	for (int i = 0; i < n; i++) {
		char sub[4096];

		snprintf(sub, sizeof(sub), "%s/%s", name, list[i]->d_name);
		printf("   type %d\n", list[i]->d_type);
		if (strcmp(list[i]->d_name, ".") && strcmp(list[i]->d_name, ".."))
			show_tree(sub);
		free(list[i]);
	}
	free(list);
}

static void (*const calls[])(void) = {c_open, c_open, c_mkdir, c_rmdir, c_unlink, c_link, c_symlink,
	c_rename, c_rename, c_rename, c_chmod, c_chown, c_truncate, c_mknod, c_readlink, c_access,
	c_setxattr, c_removexattr, c_getxattr, c_acl, c_utimens, c_pwrite, c_pwrite, c_fallocate,
	c_fstat, c_fchmod, c_ftruncate, c_tmpfile, c_stat};

static void prepare(void)
{
	umask(0);
	must(mkdir("d1", 0777) || mkdir("d2", 01777) || mkdir("d3", 0755), "mkdir");
	must(mkdir("d1/s", 0775) || chown("d1/s", 60001, SHARED), "d1/s");
	must(mkdir("d2/s", 0777) || chown("d2/s", 0, 60002) || chmod("d2/s", 02777), "d2/s");
}

int main(int argc, char **argv)
{
	static const mode_t masks[] = {0, 022, 077, 007};
	static const mode_t modes[] = {
		0644, 0666, 0777, 0755, 0600, 0, 04755, 04644, 01777, 0070, 0007, 0444, 0711};
	unsigned long count = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;

	if (!count || geteuid()) {
		fprintf(stderr, "usage, as root: beside DIR SEED CALLS\n");
		return 2;
	}
	must(chdir(argv[1]), argv[1]);
	state = (strtoull(argv[2], NULL, 10) + 1) * 0x9e3779b97f4a7c15ull;
	prepare();
	for (step = 0; step < count; step++) {
		be(below(3));
		umask(PICK(masks));
		path(from);
		path(to);
		mode = PICK(modes);
		fd = &PICK(fds);
		PICK(calls)();
		if (step % 50 != 49)
			continue;
		be(0);
		show_tree(".");
	}
	return 0;
}
