/* SPDX-License-Identifier: GPL-2.0-or-later */
/* path.c - what every system call that takes a path says of a bad path, a forbidden one, a long one. */
#include "posix.h"

#include <dirent.h>
#include <sys/inotify.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/xattr.h>

/* ------------------------------------------------------------------ the calls, in one form */

enum {
	MAKES = 1, /* a new name; EEXIST if there is one */
	FOLLOWS = 2, /* a symlink at the end */
	CHANGES = 4, /* the parent: needs to write in it */
	CREAT = 8, /* open(O_CREAT): makes, or opens what is there */
};

struct op {
	const char *name;
	long (*call)(const char *path);
	unsigned flags;
};

static long done(long fd)
{
	if (fd >= 0)
		close((int)fd);
	return fd < 0 ? -1 : 0;
}

/* Without the library: it must hand even a bad pointer on. */
#define SYS(...) syscall(__VA_ARGS__)
#define AT AT_FDCWD

static long c_open(const char *p)
{
	return done(SYS(SYS_openat, AT, p, O_RDONLY | O_NONBLOCK, 0));
}
static long c_open_w(const char *p)
{
	return done(SYS(SYS_openat, AT, p, O_WRONLY | O_NONBLOCK, 0));
}
static long c_open_p(const char *p)
{
	return done(SYS(SYS_openat, AT, p, O_PATH, 0));
}
static long c_open_c(const char *p)
{
	return done(SYS(SYS_openat, AT, p, O_RDWR | O_CREAT, 0644));
}
static long c_open_x(const char *p)
{
	return done(SYS(SYS_openat, AT, p, O_WRONLY | O_CREAT | O_EXCL, 0644));
}
static long c_creat(const char *p)
{
	return done(SYS(SYS_creat, p, 0644));
}
static long c_mkdir(const char *p)
{
	return SYS(SYS_mkdirat, AT, p, 0755);
}
static long c_rmdir(const char *p)
{
	return SYS(SYS_unlinkat, AT, p, AT_REMOVEDIR);
}
static long c_mkfifo(const char *p)
{
	return SYS(SYS_mknodat, AT, p, S_IFIFO | 0644, 0);
}
static long c_mknod(const char *p)
{
	return SYS(SYS_mknodat, AT, p, S_IFREG | 0644, 0);
}
static long c_mksock(const char *p)
{
	return SYS(SYS_mknodat, AT, p, S_IFSOCK | 0644, 0);
}
static long c_symlink(const char *p)
{
	return SYS(SYS_symlinkat, "target", AT, p);
}
static long c_link_to(const char *p)
{
	return SYS(SYS_linkat, AT, "../old", AT, p, 0);
}
static long c_link_from(const char *p)
{
	return SYS(SYS_linkat, AT, p, AT, "../new", 0);
}
static long c_unlink(const char *p)
{
	return SYS(SYS_unlinkat, AT, p, 0);
}
static long c_rename_to(const char *p)
{
	return SYS(SYS_renameat2, AT, "../old2", AT, p, 0);
}
static long c_rename_from(const char *p)
{
	return SYS(SYS_renameat2, AT, p, AT, "../new2", 0);
}
static long c_readlink(const char *p)
{
	char buf[64];

	return SYS(SYS_readlinkat, AT, p, buf, sizeof(buf));
}
static long c_chmod(const char *p)
{
	return SYS(SYS_fchmodat, AT, p, 0644);
}
static long c_chown(const char *p)
{
	return SYS(SYS_fchownat, AT, p, -1, -1, 0);
}
static long c_lchown(const char *p)
{
	return SYS(SYS_fchownat, AT, p, -1, -1, AT_SYMLINK_NOFOLLOW);
}
static long c_truncate(const char *p)
{
	return SYS(SYS_truncate, p, 5);
}
static long c_utimes(const char *p)
{
	/* utimensat(NULL path) means the descriptor, so EFAULT comes from a bad pointer, not from NULL */
	return SYS(SYS_utimensat, AT, p, NULL, 0);
}
static long c_lutimes(const char *p)
{
	return SYS(SYS_utimensat, AT, p, NULL, AT_SYMLINK_NOFOLLOW);
}
static long c_stat(const char *p)
{
	struct stat st;

	return SYS(SYS_newfstatat, AT, p, &st, 0);
}
static long c_lstat(const char *p)
{
	struct stat st;

	return SYS(SYS_newfstatat, AT, p, &st, AT_SYMLINK_NOFOLLOW);
}
static long c_statx(const char *p)
{
	struct statx st;

	return SYS(SYS_statx, AT, p, 0, STATX_ALL, &st);
}
static long c_access(const char *p)
{
	return SYS(SYS_faccessat, AT, p, F_OK);
}
static long c_statfs(const char *p)
{
	struct statfs sf;

	return SYS(SYS_statfs, p, &sf);
}
static long c_chdir(const char *p)
{
	long r = SYS(SYS_chdir, p);

	if (!r)
		MUST(chdir(here));
	return r;
}
static long c_opendir(const char *p)
{
	return done(SYS(SYS_openat, AT, p, O_RDONLY | O_DIRECTORY, 0));
}
static long c_getxattr(const char *p)
{
	char buf[64];
	long r = SYS(SYS_getxattr, p, "user.a", buf, sizeof(buf));

	return r < 0 && errno == ENODATA ? 0 : r;
}
static long c_listxattr(const char *p)
{
	char buf[256];

	return SYS(SYS_listxattr, p, buf, sizeof(buf));
}
static long c_setxattr(const char *p)
{
	return SYS(SYS_setxattr, p, "trusted.a", "1", 1, 0);
}
static long c_lremovexattr(const char *p)
{
	long r = SYS(SYS_lremovexattr, p, "trusted.a");

	return r < 0 && errno == ENODATA ? 0 : r;
}
static long c_inotify(const char *p)
{
	int fd = inotify_init1(IN_CLOEXEC);
	long r = SYS(SYS_inotify_add_watch, fd, p, IN_ALL_EVENTS);
	int err = errno;

	close(fd);
	errno = err;
	return r < 0 ? -1 : 0;
}
static long c_handle(const char *p)
{
	struct {
		struct file_handle h;
		char bytes[128];
	} h = {.h.handle_bytes = 128};
	int mount_id;

	return SYS(SYS_name_to_handle_at, AT, p, &h, &mount_id, AT_SYMLINK_FOLLOW);
}
static long c_exec(const char *p)
{
	char *const none[] = {NULL};

	return SYS(SYS_execve, p, none, none);
}

static const struct op ops[] = {
	{"open", c_open, FOLLOWS},
	{"open O_WRONLY", c_open_w, FOLLOWS},
	{"open O_PATH", c_open_p, FOLLOWS},
	{"open O_CREAT", c_open_c, FOLLOWS | CHANGES | CREAT},
	{"open O_CREAT O_EXCL", c_open_x, MAKES | CHANGES},
	{"creat", c_creat, FOLLOWS | CHANGES | CREAT},
	{"mkdir", c_mkdir, MAKES | CHANGES},
	{"rmdir", c_rmdir, CHANGES},
	{"mknod fifo", c_mkfifo, MAKES | CHANGES},
	{"mknod file", c_mknod, MAKES | CHANGES},
	{"mknod socket", c_mksock, MAKES | CHANGES},
	{"symlink", c_symlink, MAKES | CHANGES},
	{"link to", c_link_to, MAKES | CHANGES},
	{"link from", c_link_from, 0},
	{"unlink", c_unlink, CHANGES},
	{"rename to", c_rename_to, CHANGES},
	{"rename from", c_rename_from, CHANGES},
	{"readlink", c_readlink, 0},
	{"chmod", c_chmod, FOLLOWS},
	{"chown", c_chown, FOLLOWS},
	{"lchown", c_lchown, 0},
	{"truncate", c_truncate, FOLLOWS},
	{"utimensat", c_utimes, FOLLOWS},
	{"utimensat nofollow", c_lutimes, 0},
	{"stat", c_stat, FOLLOWS},
	{"lstat", c_lstat, 0},
	{"statx", c_statx, FOLLOWS},
	{"access", c_access, FOLLOWS},
	{"statfs", c_statfs, FOLLOWS},
	{"chdir", c_chdir, FOLLOWS},
	{"opendir", c_opendir, FOLLOWS},
	{"getxattr", c_getxattr, FOLLOWS},
	{"listxattr", c_listxattr, FOLLOWS},
	{"setxattr", c_setxattr, FOLLOWS},
	{"lremovexattr", c_lremovexattr, 0},
	{"inotify_add_watch", c_inotify, FOLLOWS},
	{"name_to_handle_at", c_handle, FOLLOWS},
	{"execve", c_exec, FOLLOWS},
};
#define EACH_OP(op) for (const struct op *op = ops; op < ops + sizeof(ops) / sizeof(ops[0]); op++)

/* What the calls with two paths take for the other one. */
static void others(void)
{
	put("../old", "old");
	put("../old2", "old2");
}

static void no_others(void)
{
	unlink("../old");
	unlink("../old2");
	unlink("../new");
	unlink("../new2");
}

/* ------------------------------------------------------------------ tests */

static void enotdir(void)
{
	others();
	for (const mode_t *t = all_types; *t; t++) {
		if (*t == S_IFDIR || *t == S_IFLNK)
			continue;
		make("f", *t | 0755);
		EACH_OP(op)
		{
			doing("%s of %s/x", op->name, type_name(*t));
			ERR(ENOTDIR, op->call("f/x"));
		}
		MUST(unlink("f"));
	}
	no_others();
}

static void enoent(void)
{
	others();
	EACH_OP(op)
	{
		doing("%s of missing/x", op->name);
		ERR(ENOENT, op->call("missing/x"));
		doing("%s of an empty path", op->name);
		ERR(ENOENT, op->call(""));
		if (op->flags & (MAKES | CREAT) || op->call == c_rename_to)
			continue;
		doing("%s of missing", op->name);
		ERR(ENOENT, op->call("missing"));
	}
	make("dangling", S_IFLNK);
	EACH_OP(op)
	{
		if (!(op->flags & FOLLOWS) || (op->flags & CREAT))
			continue;
		doing("%s of a dangling symlink", op->name);
		ERR(ENOENT, op->call("dangling"));
	}
	no_others();
}

static void eloop(void)
{
	others();
	MUST(symlink("loop2", "loop1"));
	MUST(symlink("loop1", "loop2"));
	EACH_OP(op)
	{
		doing("%s of loop/x", op->name);
		ERR(ELOOP, op->call("loop1/x"));
		if (!(op->flags & FOLLOWS))
			continue;
		doing("%s of loop", op->name);
		ERR(ELOOP, op->call("loop1"));
	}
	/* 40 symlinks are followed, not 41 */
	put("link0", "end");
	for (int i = 1; i <= 41; i++) {
		char from[16], to[16];

		snprintf(from, sizeof(from), "link%d", i);
		snprintf(to, sizeof(to), "link%d", i - 1);
		MUST(symlink(to, from));
	}
	doing("chain of symlinks");
	OK(c_stat("link40"));
	ERR(ELOOP, c_stat("link41"));
	OK(c_open("link40"));
	ERR(ELOOP, c_open("link41"));
	no_others();
}

static void efault(void)
{
	static const uintptr_t bad[] = {~(uintptr_t)0, 8};

	others();
	EACH_OP(op)
	{
		for (int i = 0; i < 2; i++) {
			doing("%s of a bad address", op->name);
			ERR(EFAULT, op->call((const char *)bad[i]));
		}
	}
	no_others();
}

static void name_too_long(void)
{
	char ok[256], bad[257], path[300];

	memset(ok, 'n', 255);
	ok[255] = 0;
	memset(bad, 'n', 256);
	bad[256] = 0;
	others();
	EACH_OP(op)
	{
		doing("%s of a name of 256 bytes", op->name);
		ERR(ENAMETOOLONG, op->call(bad));
		snprintf(path, sizeof(path), "%s/x", bad);
		doing("%s of a path with a name of 256 bytes", op->name);
		ERR(ENAMETOOLONG, op->call(path));
		doing("%s of a name of 255 bytes", op->name);
		if (op->flags & (MAKES | CREAT) || op->call == c_rename_to) {
			OK(op->call(ok));
			TRUE(exists(ok));
			MUST(remove(ok));
			if (op->call == c_rename_to)
				put("../old2", "");
		} else {
			ERR(ENOENT, op->call(ok));
		}
	}
	no_others();
}

/* A path of len bytes, of ././., that leads to name. */
static char *long_path(const char *name, size_t len)
{
	static char path[PATH_MAX + 64];
	size_t n = strlen(name), i;

	for (i = 0; i + n < len; i++)
		path[i] = i & 1 ? '/' : '.';
	if (i && path[i - 1] == '.')
		path[i - 1] = '/';
	memcpy(path + i, name, n + 1);
	return path;
}

static void path_too_long(void)
{
	others();
	put("f", "");
	EACH_OP(op)
	{
		doing("%s of a path of PATH_MAX bytes", op->name);
		ERR(ENAMETOOLONG, op->call(long_path("f", PATH_MAX)));
	}
	doing("path of PATH_MAX - 1 bytes");
	OK(c_stat(long_path("f", PATH_MAX - 1)));
	OK(c_open(long_path("f", PATH_MAX - 1)));
	OK(c_mkdir(long_path("d", PATH_MAX - 1)));
	OK(c_open_c(long_path("g", PATH_MAX - 1)));
	OK(c_symlink(long_path("s", PATH_MAX - 1)));
	OK(c_mkfifo(long_path("p", PATH_MAX - 1)));
	OK(c_link_to(long_path("l", PATH_MAX - 1)));
	OK(c_rename_to(long_path("r", PATH_MAX - 1)));
	OK(c_chmod(long_path("f", PATH_MAX - 1)));
	OK(c_unlink(long_path("f", PATH_MAX - 1)));
	OK(c_rmdir(long_path("d", PATH_MAX - 1)));
	no_others();
}

/* A directory that others may not search, or not write to. */
static void eacces(void)
{
	others();
	MUST(chown("../old", ALICE, ALICE));
	MUST(chown("../old2", ALICE, ALICE));
	make("closed", S_IFDIR | 0666);
	put("closed/x", "");
	make("readonly", S_IFDIR | 0555);
	put("readonly/x", "");
	make("readonly/d", S_IFDIR | 0777);
	be(&alice);
	EACH_OP(op)
	{
		doing("%s in a directory without search permission", op->name);
		ERR(EACCES, op->call("closed/x"));
		if (!(op->flags & CHANGES))
			continue;
		doing("%s in a directory without write permission", op->name);
		if (op->flags & MAKES)
			ERR(EACCES, op->call("readonly/new"));
		else if (op->call == c_rmdir)
			ERR(EACCES, op->call("readonly/d"));
		else
			ERR(EACCES, op->call(op->flags & CREAT ? "readonly/new" : "readonly/x"));
		doing("%s of what is there, without write permission", op->name);
		if (op->flags & MAKES)
			ERR(EEXIST, op->call("readonly/x"));
	}
	be(&root);
	doing("root is not asked");
	OK(c_stat("closed/x"));
	OK(c_open_c("closed/y"));
	OK(c_unlink("readonly/x"));
	no_others();
}

static void eexist(void)
{
	others();
	for (const mode_t *t = all_types; *t; t++) {
		make("there", *t | 0644);
		EACH_OP(op)
		{
			if (!(op->flags & MAKES))
				continue;
			doing("%s over a %s", op->name, type_name(*t));
			ERR(EEXIST, op->call("there"));
			ERR(EEXIST, op->call("."));
			ERR(EEXIST, op->call(".."));
			ERR(EEXIST, op->call("/"));
		}
		EQ(st_of("there").st_mode & S_IFMT, *t);
		MUST(remove("there"));
	}
	no_others();
}

static void trailing_slash(void)
{
	others();
	put("f", "");
	EACH_OP(op)
	{
		if (op->flags & MAKES)
			continue;
		doing("%s of file/", op->name);
		if (op->flags & CREAT)
			ERR(EISDIR, op->call("f/"));
		else
			ERR(ENOTDIR, op->call("f/"));
	}
	doing("a new name with a slash behind");
	ERR(EISDIR, c_open_c("new/"));
	ERR(ENOENT, c_mkfifo("new/"));
	ERR(ENOENT, c_symlink("new/"));
	ERR(ENOENT, c_link_to("new/"));
	ERR(ENOTDIR, c_rename_to("new/"));
	OK(c_mkdir("new/"));
	ERR(EEXIST, c_mkdir("new/"));
	ERR(EISDIR, c_unlink("new/"));
	ERR(EINVAL, c_readlink("new/"));
	OK(c_stat("new/"));
	MUST(symlink("new", "s"));
	OK(c_lstat("s/"));
	EQ(st_of("s/").st_mode & S_IFMT, S_IFDIR);
	ERR(ENOTDIR, c_rmdir("s/"));
	ERR(ENOTDIR, c_unlink("s/"));
	MUST(mkdir("other", 0755));
	OK(rename("other/", "moved/"));
	OK(c_rmdir("new/"));
	no_others();
}

static void dots(void)
{
	MUST(mkdir("d", 0755));
	MUST(mkdir("d/e", 0755));
	ERR(EINVAL, rmdir("."));
	ERR(EINVAL, rmdir("d/."));
	ERR(ENOTEMPTY, rmdir("d/e/.."));
	ERR(ENOTEMPTY, rmdir(".."));
	ERR(EBUSY, rmdir("/"));
	ERR(EISDIR, unlink("."));
	ERR(EISDIR, unlink(".."));
	ERR(EISDIR, unlink("d/."));
	ERR(EBUSY, rename("d/.", "x"));
	ERR(EBUSY, rename("d/e/..", "x"));
	ERR(EBUSY, rename("d", "d/e/.."));
	ERR(EBUSY, rename("d", "."));
	ERR(EINVAL, readlink(".", (char[8]){0}, 8));
	EQ(st_of("d/e/..").st_ino, st_of("d").st_ino);
	EQ(st_of("d/.").st_ino, st_of("d").st_ino);
	EQ(st_of("..").st_ino, st_of(top).st_ino);
	ERR(EPERM, link("d", "x"));
	ERR(EPERM, link(".", "x"));
}

static void odd_names(void)
{
	char name[3] = "xa";
	unsigned n = 0;

	/* every byte but '/' and 0 may be in a name */
	for (int c = 1; c < 256; c++) {
		if (c == '/')
			continue;
		name[1] = (char)c;
		n += mknod(name, S_IFREG | 0644, 0) == 0 && exists(name);
	}
	EQ(n, 254);
	for (int c = 1; c < 256; c++) {
		name[1] = (char)c;
		n -= c != '/' && unlink(name) == 0;
	}
	EQ(n, 0);
	OK(c_mkdir("..."));
	OK(c_mkdir(" "));
	OK(c_mkdir("-"));
	OK(c_mkdir("\xff\xfe"));
	OK(c_mkdir("a:b"));
	doing("upper and lower case are two names");
	OK(c_mkdir("abc"));
	OK(c_mkdir("ABC"));
}

static void etxtbsy(void)
{
	char buf[65536];
	int in = open("/bin/true", O_RDONLY), out = open("prog", O_WRONLY | O_CREAT, 0755);
	char *const none[] = {NULL};
	ssize_t n;
	pid_t pid;

	while ((n = read(in, buf, sizeof(buf))) > 0)
		must(write(out, buf, (size_t)n) == n, "copy of true");
	close(in);
	doing("exec of what is open for writing");
	ERR(ETXTBSY, c_exec("prog"));
	close(out);
	doing("exec");
	pid = fork();
	if (!pid) {
		execve("prog", none, none);
		_exit(99);
	}
	EQ(status_of(pid), 0);
	MUST(chmod("prog", 0644));
	ERR(EACCES, c_exec("prog"));
	MUST(mkdir("d", 0755));
	ERR(EACCES, c_exec("d"));
	put("text", "nothing that runs");
	MUST(chmod("text", 0755));
	ERR(ENOEXEC, c_exec("text"));
}

const struct test tests_path[] = {
	{"path-enotdir", enotdir},
	{"path-enoent", enoent},
	{"path-eloop", eloop},
	{"path-efault", efault},
	{"path-name-too-long", name_too_long},
	{"path-too-long", path_too_long},
	{"path-eacces", eacces},
	{"path-eexist", eexist},
	{"path-trailing-slash", trailing_slash},
	{"path-dots", dots},
	{"path-odd-names", odd_names},
	{"path-etxtbsy", etxtbsy},
	{NULL, NULL},
};
