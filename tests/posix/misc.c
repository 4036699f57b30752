/* SPDX-License-Identifier: GPL-2.0-or-later */
/* misc.c - inotify, file handles, setuid programs, many descriptors, processes that race. */
#include "posix.h"

#include <sched.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <linux/fs.h>

/* ------------------------------------------------------------------ inotify */

static uint32_t events(int fd)
{
	char buf[4096];
	ssize_t n = read(fd, buf, sizeof(buf));
	uint32_t mask = 0;

	for (char *p = buf; p < buf + n;) {
		struct inotify_event *e = (void *)p;

		mask |= e->mask;
		p += sizeof(*e) + e->len;
	}
	return mask;
}

static void notify(void)
{
	int in = inotify_init1(IN_NONBLOCK), fd;
	char c;

	MUST(mkdir("d", 0755));
	MUST(inotify_add_watch(in, "d", IN_ALL_EVENTS));
	put("d/f", "x");
	EQ(events(in) & (IN_CREATE | IN_OPEN | IN_MODIFY | IN_CLOSE_WRITE),
		IN_CREATE | IN_OPEN | IN_MODIFY | IN_CLOSE_WRITE);
	fd = open("d/f", O_RDONLY);
	EQ(read(fd, &c, 1), 1);
	close(fd);
	EQ(events(in) & (IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE),
		IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE);
	MUST(chmod("d/f", 0600));
	EQ(events(in), IN_ATTRIB);
	MUST(truncate("d/f", 0));
	EQ(events(in) & IN_MODIFY, IN_MODIFY);
	MUST(rename("d/f", "d/g"));
	EQ(events(in), IN_MOVED_FROM | IN_MOVED_TO);
	MUST(unlink("d/g"));
	EQ(events(in), IN_DELETE);
	MUST(mkdir("d/s", 0755));
	EQ(events(in), IN_CREATE | IN_ISDIR);
	MUST(rmdir("d/s"));
	EQ(events(in) & (IN_DELETE | IN_ISDIR), IN_DELETE | IN_ISDIR);
	MUST(rmdir("d"));
	EQ(events(in) & (IN_DELETE_SELF | IN_IGNORED), IN_DELETE_SELF | IN_IGNORED);
	close(in);
}

/* ------------------------------------------------------------------ file handles */

static void drop_caches(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);

	sync();
	if (fd >= 0) {
		(void)!write(fd, "2", 1);
		close(fd);
	}
}

static void handles(void)
{
	union {
		struct file_handle h;
		char room[sizeof(struct file_handle) + 128];
	} h, small = {.h.handle_bytes = 1};
	int id, fd, mount_fd = open(here, O_RDONLY | O_DIRECTORY);
	char c = 0;

	put("f", "handle");
	ERR(EOVERFLOW, name_to_handle_at(AT_FDCWD, "f", &small.h, &id, 0));
	for (int dir = 0; dir < 2; dir++) {
		const char *name = dir ? "d" : "f";
		struct stat st;

		doing("of a %s", dir ? "directory" : "file");
		if (dir)
			MUST(mkdir("d", 0755));
		h.h.handle_bytes = 128;
		OK(name_to_handle_at(AT_FDCWD, name, &h.h, &id, 0));
		for (int evicted = 0; evicted < 2; evicted++) {
			if (evicted)
				drop_caches();
			fd = open_by_handle_at(mount_fd, &h.h, O_RDONLY);
			TRUE(fd >= 0);
			OK(fstat(fd, &st));
			EQ(st.st_ino, st_of(name).st_ino);
			if (!dir) {
				EQ(read(fd, &c, 1), 1);
				EQ(c, 'h');
			}
			close(fd);
		}
		be(&alice);
		ERR(EPERM, open_by_handle_at(mount_fd, &h.h, O_RDONLY));
		be(&root);
		doing("of a %s that is gone", dir ? "directory" : "file");
		MUST(remove(name));
		ERR(ESTALE, open_by_handle_at(mount_fd, &h.h, O_RDONLY));
		drop_caches();
		ERR(ESTALE, open_by_handle_at(mount_fd, &h.h, O_RDONLY));
		doing("nor does a new one of that number answer to it");
		for (int i = 0; i < 20; i++) {
			char path[16];

			snprintf(path, sizeof(path), "n%d", i);
			put(path, "new");
		}
		ERR(ESTALE, open_by_handle_at(mount_fd, &h.h, O_RDONLY));
	}
	close(mount_fd);
}

/* Removed when they had just been closed: they are known, whatever else has been seen since. */
static void path_descriptors(void)
{
	int p[8], fd;
	struct stat st;
	char name[64];

	for (int i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		put(name, "old");
		p[i] = open(name, O_PATH);
		fd = open(name, O_RDONLY);
		close(fd);
		MUST(unlink(name));
	}
	for (int i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		MUST(mknod(name, S_IFREG | 0600, 0));
	}
	for (int i = 0; i < 8; i++) {
		OK(fstat(p[i], &st));
		EQ(st.st_nlink, 0);
		EQ(st.st_size, 3);
		close(p[i]);
	}
	for (int i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		MUST(unlink(name));
	}
}

/* A file that is known but not open (O_PATH), and goes: what is asked through it is asked of nobody else. */
static void path_descriptor(void)
{
	struct stat st, was;
	char self[64];
	int p, fd;

	put("f", "old");
	MUST(chmod("f", 0641));
	p = open("f", O_PATH);
	OK(fstat(p, &was));
	snprintf(self, sizeof(self), "/proc/self/fd/%d", p);
	fd = open(self, O_RDONLY);
	TRUE(fd >= 0);
	close(fd);
	ERR(EBADF, read(p, self, 1));
	ERR(EBADF, fchmod(p, 0600));
	ERR(EBADF, ftruncate(p, 0));
	ERR(EBADF, ioctl(p, FIONREAD, &fd));
	MUST(unlink("f"));
	for (int i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%d", i);
		put(name, "new");
	}
	OK(fstat(p, &st));
	EQ(st.st_nlink, 0);
	EQ(st.st_ino, was.st_ino);
	EQ(st.st_mode, S_IFREG | 0641);
	EQ(st.st_size, 3);
	(void)fchownat(p, "", ALICE, ALICE, AT_EMPTY_PATH);
	(void)chmod(self, 0);
	fd = open(self, O_RDWR | O_TRUNC);
	close(fd);
	for (int i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%d", i);
		doing("%s, new", name);
		TRUE(same_bytes(name, 0, "new", 3));
		EQ(st_of(name).st_uid, 0);
		EQ(mode_of(name), 0644);
	}
	close(p);
}

/* ------------------------------------------------------------------ programs */

static void setuid_program(void)
{
	char buf[65536], *const argv[] = {(char *)"id", (char *)"-u", NULL}, *const env[] = {NULL};
	int in = open("/usr/bin/id", O_RDONLY), out = open("id", O_WRONLY | O_CREAT, 0755), p[2];
	ssize_t n;
	pid_t pid;

	while ((n = read(in, buf, sizeof(buf))) > 0)
		must(write(out, buf, (size_t)n) == n, "copy of id");
	close(in);
	close(out);
	for (int suid = 0; suid < 2; suid++) {
		doing(suid ? "with setuid" : "without setuid");
		MUST(chmod("id", suid ? 04755 : 0755));
		MUST(pipe(p));
		pid = fork();
		if (!pid) {
			be(&alice);
			MUST(setresuid(ALICE, ALICE, ALICE));
			dup2(p[1], 1);
			execve("id", argv, env);
			_exit(99);
		}
		EQ(status_of(pid), 0);
		memset(buf, 0, 64);
		TRUE(read(p[0], buf, 63) > 0);
		EQ(atoi(buf), suid ? 0 : ALICE);
		close(p[0]);
		close(p[1]);
	}
}

static void many_open(void)
{
	struct rlimit rl = {20000, 20000};
	static int fds[3000];
	unsigned wrong = 0;
	char name[16], c;

	if (setrlimit(RLIMIT_NOFILE, &rl)) {
		cannot("no 20000 descriptors");
		return;
	}
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "%d", i % 1000);
		fds[i] = open(name, O_CREAT | O_RDWR, 0644);
		wrong += fds[i] < 0;
	}
	EQ(wrong, 0);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "%d", i);
		wrong += pwrite(fds[i], &i, 1, 0) != 1 || unlink(name);
	}
	for (int i = 0; i < 3000; i++) {
		c = 0;
		wrong += pread(fds[i], &c, 1, 0) != 1 || c != (char)(i % 1000);
		wrong += close(fds[i]);
	}
	EQ(wrong, 0);
}

/* ------------------------------------------------------------------ races */

/* Of n processes that all try, one succeeds. */
static unsigned winners(int (*try)(int nr))
{
	unsigned won = 0;
	pid_t pid[8];

	for (int i = 0; i < 8; i++) {
		pid[i] = fork();
		if (!pid[i])
			_exit(try(i) < 0);
	}
	for (int i = 0; i < 8; i++)
		won += status_of(pid[i]) == 0;
	return won;
}

static int r_create(int nr)
{
	(void)nr;
	return open("x", O_CREAT | O_EXCL | O_RDWR, 0644);
}
static int r_mkdir(int nr)
{
	(void)nr;
	return mkdir("x", 0755);
}
static int r_link(int nr)
{
	(void)nr;
	return link("f", "x");
}
static int r_symlink(int nr)
{
	(void)nr;
	return symlink("f", "x");
}
static int r_unlink(int nr)
{
	(void)nr;
	return unlink("x");
}
static int r_rename_from(int nr)
{
	char to[8];

	snprintf(to, sizeof(to), "r%d", nr);
	return rename("x", to);
}
static int r_noreplace(int nr)
{
	char from[8];

	snprintf(from, sizeof(from), "n%d", nr);
	put(from, "");
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, "x", RENAME_NOREPLACE);
}

static void races(void)
{
	put("f", "");
	for (int round = 0; round < 10; round++) {
		EQ(winners(r_create), 1);
		EQ(winners(r_unlink), 1);
		EQ(winners(r_mkdir), 1);
		EQ(winners(r_rename_from), 1);
		EQ(winners(r_link), 1);
		EQ(winners(r_unlink), 1);
		EQ(winners(r_symlink), 1);
		EQ(winners(r_unlink), 1);
		EQ(winners(r_noreplace), 1);
		EQ(winners(r_unlink), 1);
		EQ(st_of("f").st_nlink, 1);
		for (int i = 0; i < 8; i++) {
			char name[8];

			snprintf(name, sizeof(name), "r%d", i);
			rmdir(name);
		}
	}
}

/* A name that is replaced again and again is always there. */
static void replace_is_atomic(void)
{
	unsigned missing = 0, stale = 0, wrong = 0;
	char buf[8];
	pid_t pid;

	put("x", "12345678");
	pid = fork();
	if (!pid) {
		for (int i = 0; i < 300; i++) {
			put("tmp", "12345678");
			if (rename("tmp", "x"))
				_exit(1);
		}
		_exit(0);
	}
	while (!waitpid(pid, NULL, WNOHANG)) {
		int fd = open("x", O_RDONLY);

		stale += fd < 0 && errno == ESTALE;
		missing += fd < 0 && errno != ESTALE;
		wrong += fd >= 0 && (read(fd, buf, 8) != 8 || memcmp(buf, "12345678", 8));
		close(fd);
	}
	EQ(missing, 0);
	EQ(wrong, 0);
	/*
	 * A file that loses its last name between the kernel's lookup and its open is gone from csvfs. The kernel
	 * looks again, once; only if that is overtaken too does the program hear of it.
	 */
	TRUE(stale <= (on_csvfs ? 5 : 0));
}

static void ioctls(void)
{
	int fd, n = 0;

	put("f", "0123456789");
	fd = open("f", O_RDWR);
	OK(ioctl(fd, FIONREAD, &n));
	EQ(n, 10);
	ERR(ENOTTY, ioctl(fd, 0x1234, &n));
	ERR(EBADF, ioctl(9999, FIONREAD, &n));
	close(fd);
}

const struct test tests_misc[] = {
	{"inotify", notify},
	{"handles", handles},
	{"path-descriptors", path_descriptors},
	{"path-descriptor", path_descriptor},
	{"setuid-program", setuid_program},
	{"many-open", many_open},
	{"races", races},
	{"replace-is-atomic", replace_is_atomic},
	{"ioctls", ioctls},
	{NULL, NULL},
};
