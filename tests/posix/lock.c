/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lock.c - fcntl, OFD and flock locks between processes and descriptors of one machine. */
#include "posix.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

static int lock(int fd, int cmd, int type, off_t start, off_t len)
{
	struct flock fl = {
		.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	return fcntl(fd, cmd, &fl);
}

/* What another process is told: 0, or the errno. */
static int other(int cmd, int type, off_t start, off_t len)
{
	pid_t pid = fork();
	int fd;

	if (!pid) {
		fd = open("f", O_RDWR);
		_exit(lock(fd, cmd, type, start, len) ? errno : 0);
	}
	return WEXITSTATUS(status_of(pid));
}

static void posix_locks(void)
{
	struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
	int fd, ro;

	put("f", "0123456789");
	fd = open("f", O_RDWR);
	ro = open("f", O_RDONLY);
	OK(lock(fd, F_SETLK, F_WRLCK, 10, 10));
	EQ(other(F_SETLK, F_WRLCK, 10, 1), EAGAIN);
	EQ(other(F_SETLK, F_RDLCK, 19, 1), EAGAIN);
	EQ(other(F_SETLK, F_WRLCK, 20, 10), 0);
	EQ(other(F_SETLK, F_WRLCK, 0, 10), 0);
	EQ(other(F_SETLK, F_WRLCK, 0, 0), EAGAIN);
	doing("shared");
	OK(lock(fd, F_SETLK, F_RDLCK, 10, 10));
	EQ(other(F_SETLK, F_RDLCK, 10, 10), 0);
	EQ(other(F_SETLK, F_WRLCK, 15, 1), EAGAIN);
	doing("a part is unlocked");
	OK(lock(fd, F_SETLK, F_UNLCK, 12, 3));
	EQ(other(F_SETLK, F_WRLCK, 12, 3), 0);
	EQ(other(F_SETLK, F_WRLCK, 11, 1), EAGAIN);
	EQ(other(F_SETLK, F_WRLCK, 15, 1), EAGAIN);
	doing("who holds it");
	{
		pid_t me = getpid(), pid = fork();

		if (!pid) {
			fd = open("f", O_RDWR);
			fl.l_start = 5;
			if (fcntl(fd, F_GETLK, &fl) || fl.l_type != F_RDLCK || fl.l_pid != me)
				_exit(1);
			_exit(fl.l_start == 10 && fl.l_len == 2 ? 0 : 2);
		}
		EQ(WEXITSTATUS(status_of(pid)), 0);
	}
	doing("errors");
	ERR(EBADF, lock(ro, F_SETLK, F_WRLCK, 0, 1));
	ERR(EINVAL, lock(fd, F_SETLK, 99, 0, 1));
	ERR(EINVAL, lock(fd, F_SETLK, F_RDLCK, -1, 1));
	ERR(EINVAL, lock(fd, F_SETLK, F_RDLCK, 5, -10));
	ERR(EBADF, lock(9999, F_SETLK, F_RDLCK, 0, 1));
	doing("any close of the file by the process ends them all");
	close(ro);
	EQ(other(F_SETLK, F_WRLCK, 10, 10), 0);
	close(fd);
}

static void posix_wait(void)
{
	int fd, p[2];
	pid_t pid;
	char c;

	put("f", "0123456789");
	fd = open("f", O_RDWR);
	MUST(pipe(p));
	pid = fork();
	if (!pid) {
		fd = open("f", O_RDWR);
		if (lock(fd, F_SETLK, F_WRLCK, 0, 10))
			_exit(1);
		(void)!write(p[1], "x", 1);
		tick();
		tick();
		_exit(0);
	}
	EQ(read(p[0], &c, 1), 1);
	ERR(EAGAIN, lock(fd, F_SETLK, F_WRLCK, 0, 10));
	OK(lock(fd, F_SETLKW, F_WRLCK, 0, 10));
	EQ(status_of(pid), 0);
	doing("deadlock");
	OK(lock(fd, F_SETLK, F_UNLCK, 0, 0));
	OK(lock(fd, F_SETLK, F_WRLCK, 0, 1));
	pid = fork();
	if (!pid) {
		fd = open("f", O_RDWR);
		if (lock(fd, F_SETLK, F_WRLCK, 1, 1))
			_exit(1);
		(void)!write(p[1], "x", 1);
		_exit(lock(fd, F_SETLKW, F_WRLCK, 0, 1) ? errno : 0);
	}
	EQ(read(p[0], &c, 1), 1);
	for (int i = 0; i < 10; i++)
		tick();
	ERR(EDEADLK, lock(fd, F_SETLKW, F_WRLCK, 1, 1));
	OK(lock(fd, F_SETLK, F_UNLCK, 0, 0));
	EQ(status_of(pid), 0);
	close(fd);
	close(p[0]);
	close(p[1]);
}

static void on_alarm(int sig)
{
	(void)sig;
}

static void interrupted(void)
{
	struct sigaction sa = {.sa_handler = on_alarm};
	int fd, fd2;

	put("f", "");
	fd = open("f", O_RDWR);
	fd2 = open("f", O_RDWR);
	sigaction(SIGALRM, &sa, NULL);
	OK(flock(fd, LOCK_EX));
	ualarm(20000, 0);
	ERR(EINTR, flock(fd2, LOCK_EX));
	OK(flock(fd, LOCK_UN));
	OK(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 0));
	ualarm(20000, 0);
	ERR(EINTR, lock(fd2, F_OFD_SETLKW, F_WRLCK, 0, 0));
	OK(lock(fd, F_OFD_SETLK, F_UNLCK, 0, 0));
	OK(lock(fd2, F_OFD_SETLK, F_WRLCK, 0, 0));
	close(fd);
	close(fd2);
}

static void ofd_locks(void)
{
	int a, b, c;

	put("f", "0123456789");
	a = open("f", O_RDWR);
	b = open("f", O_RDWR);
	c = dup(a);
	OK(lock(a, F_OFD_SETLK, F_WRLCK, 0, 5));
	ERR(EAGAIN, lock(b, F_OFD_SETLK, F_WRLCK, 4, 1));
	ERR(EAGAIN, lock(b, F_SETLK, F_WRLCK, 4, 1));
	OK(lock(b, F_OFD_SETLK, F_WRLCK, 5, 1));
	OK(lock(c, F_OFD_SETLK, F_RDLCK, 0, 5)); /* the same description */
	OK(lock(b, F_OFD_SETLK, F_RDLCK, 0, 5));
	doing("closing one of two descriptors changes nothing");
	close(c);
	ERR(EAGAIN, lock(b, F_OFD_SETLK, F_WRLCK, 0, 1));
	doing("closing the last one unlocks");
	close(a);
	OK(lock(b, F_OFD_SETLK, F_WRLCK, 0, 1));
	close(b);
}

static void flocks(void)
{
	int a, b, ro;
	pid_t pid;

	put("f", "");
	a = open("f", O_RDWR);
	b = open("f", O_RDWR);
	ro = open("f", O_RDONLY);
	OK(flock(a, LOCK_EX));
	ERR(EWOULDBLOCK, flock(b, LOCK_EX | LOCK_NB));
	ERR(EWOULDBLOCK, flock(b, LOCK_SH | LOCK_NB));
	OK(flock(a, LOCK_SH));
	OK(flock(b, LOCK_SH | LOCK_NB));
	ERR(EWOULDBLOCK, flock(a, LOCK_EX | LOCK_NB));
	OK(flock(b, LOCK_UN));
	OK(flock(a, LOCK_EX | LOCK_NB));
	doing("flock and fcntl are two kinds");
	OK(lock(b, F_SETLK, F_WRLCK, 0, 0));
	ERR(EINVAL, flock(a, LOCK_SH | LOCK_EX));
	ERR(EBADF, flock(9999, LOCK_EX));
	doing("a child has its parent's");
	pid = fork();
	if (!pid)
		_exit(flock(a, LOCK_SH | LOCK_NB) ? 1 : 0);
	EQ(status_of(pid), 0);
	OK(flock(ro, LOCK_SH | LOCK_NB));
	ERR(EWOULDBLOCK, flock(b, LOCK_EX | LOCK_NB));
	close(ro);
	close(a);
	doing("close unlocks");
	OK(flock(b, LOCK_EX | LOCK_NB));
	OK(flock(open(".", O_RDONLY), LOCK_EX | LOCK_NB)); /* directories too */
	close(b);
}

const struct test tests_lock[] = {
	{"lock-posix", posix_locks},
	{"lock-posix-wait", posix_wait},
	{"lock-interrupted", interrupted},
	{"lock-ofd", ofd_locks},
	{"lock-flock", flocks},
	{NULL, NULL},
};
