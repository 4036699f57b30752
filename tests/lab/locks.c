/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * locks.c - file locks as applications use them, for tests/single/t-lock.sh and tests/lab/t-lock.sh.
 *
 *	locks conform FILE		what fcntl(2) and flock(2) promise, on one node
 *	locks hold KIND TYPE FILE [START LEN]
 *					waits for a lock, says "held" and, every 100 ms, "wrote" or the error
 *					of a write to its range; until SIGTERM. A signal while it waits: says
 *					"interrupted" and ends
 *	locks try KIND TYPE FILE [START LEN]
 *					says "free" or "busy"
 *	locks count FILE SECONDS	adds one to the number in FILE under a lock, as often as it can; says
 *					how often
 *
 * KIND: posix, ofd, flock. TYPE: r, w.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum kind { POSIX, OFD, FLOCK };

static const char *file;

static void die(const char *what)
{
	fprintf(stderr, "locks: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_file(void)
{
	int fd = open(file, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die(file);
	return fd;
}

/* 0 or an errno. type: F_RDLCK, F_WRLCK, F_UNLCK. len 0: to the end. */
static int lock(enum kind k, int fd, short type, off_t start, off_t len, bool wait)
{
	static const int cmd[2][2] = {{F_SETLK, F_SETLKW}, {F_OFD_SETLK, F_OFD_SETLKW}};
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
	int op = type == F_WRLCK ? LOCK_EX : type == F_RDLCK ? LOCK_SH : LOCK_UN;

	if (k == FLOCK)
		return flock(fd, op | (wait ? 0 : LOCK_NB)) ? errno : 0;
	return fcntl(fd, cmd[k == OFD][wait], &l) ? errno : 0;
}

static struct flock test(enum kind k, int fd, short type, off_t start, off_t len)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	if (fcntl(fd, k == OFD ? F_OFD_GETLK : F_GETLK, &l))
		die("GETLK");
	return l;
}

static void nap(unsigned ms)
{
	struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};

	nanosleep(&ts, NULL);
}

/* ------------------------------------------------------------------ hold, try, count */

static volatile sig_atomic_t got;

static void on_signal(int sig)
{
	got = sig;
}

static int hold(enum kind k, short type, off_t start, off_t len)
{
	struct sigaction sa = {.sa_handler = on_signal};
	int fd = open_file(), err;

	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	setlinebuf(stdout);
	printf("waiting\n");
	err = lock(k, fd, type, start, len, true);
	if (err) {
		printf("%s\n", err == EINTR ? "interrupted" : strerrorname_np(err));
		return 0;
	}
	printf("held\n");
	for (; got != SIGTERM; nap(100)) {
		char b = 'x';

		if (type == F_WRLCK)
			printf("%s\n",
				pwrite(fd, &b, 1, start) == 1 ? "wrote" : strerrorname_np(errno));
	}
	return 0;
}

static int count(unsigned seconds)
{
	time_t end = time(NULL) + seconds;
	int fd = open_file();
	unsigned long rounds = 0;

	while (time(NULL) < end) {
		uint64_t n = 0;

		if (lock(POSIX, fd, F_WRLCK, 0, 8, true))
			die("lock");
		if (pread(fd, &n, 8, 0) < 0)
			die("read");
		n++;
		if (pwrite(fd, &n, 8, 0) != 8)
			die("write");
		if (lock(POSIX, fd, F_UNLCK, 0, 8, true))
			die("unlock");
		rounds++;
	}
	printf("%lu\n", rounds);
	return 0;
}

/* ------------------------------------------------------------------ conformance */

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "locks: line %d: not true: %s\n", __LINE__, #x);           \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

/* Another process tries; it returns what lock() says. It opens the file anew. */
static int other(enum kind k, short type, off_t start, off_t len)
{
	pid_t pid = fork();
	int st;

	if (!pid)
		_exit(lock(k, open_file(), type, start, len, false));
	CHECK(waitpid(pid, &st, 0) == pid && WIFEXITED(st));
	return WEXITSTATUS(st);
}

/* RELEASE is sent when the last close has returned: its locks go a moment later. */
static bool soon_free(enum kind k, short type, off_t start, off_t len)
{
	for (int i = 0; i < 100; i++) {
		if (!other(k, type, start, len))
			return true;
		nap(20);
	}
	return false;
}

static void posix_ranges(void)
{
	int fd = open_file();
	struct flock l;

	CHECK(!lock(POSIX, fd, F_WRLCK, 0, 100, false));
	CHECK(other(POSIX, F_RDLCK, 50, 1) == EAGAIN);
	CHECK(!other(POSIX, F_WRLCK, 100, 0));
	CHECK(!lock(POSIX, fd, F_UNLCK, 40, 10, false)); /* splits */
	CHECK(!other(POSIX, F_WRLCK, 40, 10));
	CHECK(other(POSIX, F_WRLCK, 39, 1) == EAGAIN && other(POSIX, F_WRLCK, 50, 1) == EAGAIN);
	CHECK(!lock(POSIX, fd, F_RDLCK, 0, 20, false)); /* downgrades a part */
	CHECK(!other(POSIX, F_RDLCK, 0, 20));
	CHECK(other(POSIX, F_WRLCK, 0, 20) == EAGAIN && other(POSIX, F_RDLCK, 20, 1) == EAGAIN);
	CHECK(!lock(POSIX, fd, F_WRLCK, 0, 100, false)); /* upgrades, merges */
	if (!fork()) {
		l = test(POSIX, open_file(), F_RDLCK, 10, 1);
		CHECK(l.l_type == F_WRLCK && l.l_start == 0 && l.l_len == 100);
		CHECK(l.l_pid == getppid());
		l = test(POSIX, open_file(), F_RDLCK, 100, 1);
		CHECK(l.l_type == F_UNLCK);
		_exit(0);
	}
	{
		int st;

		CHECK(wait(&st) > 0 && st == 0);
	}
	/* Another descriptor of the same file is closed: all of the process's locks go. */
	close(open_file());
	CHECK(!other(POSIX, F_WRLCK, 0, 0));
	CHECK(!lock(POSIX, fd, F_WRLCK, 0, 0, false));
	CHECK(other(POSIX, F_RDLCK, 1 << 20, 1) == EAGAIN);
	close(fd);
	CHECK(!other(POSIX, F_WRLCK, 0, 0));
}

/* A child that takes a lock, and says so over a pipe; it ends when the pipe is closed. */
struct child {
	pid_t pid;
	int out, in;
};

static int kept[16]; /* our ends of the pipes: a child must not keep another one's open */

static void keep(int fd)
{
	for (unsigned i = 0; i < 16; i++) {
		if (!kept[i]) {
			kept[i] = fd;
			return;
		}
	}
}

static void unkeep(int fd)
{
	for (unsigned i = 0; i < 16; i++) {
		if (kept[i] == fd)
			kept[i] = 0;
	}
	close(fd);
}

static struct child child_with(enum kind k, short type, off_t start, off_t len)
{
	int to[2], from[2];
	struct child c;
	char b;

	CHECK(!pipe2(to, O_CLOEXEC) && !pipe2(from, O_CLOEXEC));
	c.pid = fork();
	if (!c.pid) {
		for (unsigned i = 0; i < 16; i++) {
			if (kept[i])
				close(kept[i]);
		}
		close(to[1]);
		close(from[0]);
		CHECK(!lock(k, open_file(), type, start, len, true));
		CHECK(write(from[1], "h", 1) == 1);
		(void)!read(to[0], &b, 1);
		_exit(0);
	}
	close(to[0]);
	close(from[1]);
	c.out = to[1];
	c.in = from[0];
	keep(c.out);
	keep(c.in);
	return c;
}

static bool says(const struct child *c, int ms)
{
	struct pollfd p = {.fd = c->in, .events = POLLIN};
	char b;

	return poll(&p, 1, ms) > 0 && read(c->in, &b, 1) == 1;
}

static void end_child(struct child *c)
{
	int st;

	unkeep(c->out);
	unkeep(c->in);
	CHECK(waitpid(c->pid, &st, 0) == c->pid && st == 0);
}

static void waiting(enum kind k)
{
	struct child a = child_with(k, F_WRLCK, 0, 10), b, c;

	CHECK(says(&a, 5000));
	b = child_with(k, F_WRLCK, 0, 10);
	nap(100);
	c = child_with(k, F_WRLCK, 0, 10);
	CHECK(!says(&b, 200) && !says(&c, 0));
	end_child(&a);
	CHECK(says(&b, 5000) && !says(&c, 100));
	end_child(&b);
	CHECK(says(&c, 5000));
	/* Killed, not closed. */
	kill(c.pid, SIGKILL);
	waitpid(c.pid, NULL, 0);
	CHECK(soon_free(k, F_WRLCK, 0, 10));
	unkeep(c.out);
	unkeep(c.in);
}

static void on_alarm(int sig)
{
	(void)sig;
}

static void interrupted(enum kind k)
{
	struct sigaction sa = {.sa_handler = on_alarm};
	struct child a = child_with(k, F_WRLCK, 0, 10);
	int fd = open_file();

	CHECK(says(&a, 5000));
	sigaction(SIGALRM, &sa, NULL);
	ualarm(200000, 0);
	CHECK(lock(k, fd, F_WRLCK, 0, 10, true) == EINTR);
	end_child(&a);
	/* Who left the queue has not got it. */
	CHECK(soon_free(k, F_WRLCK, 0, 10));
	close(fd);
}

static void deadlock(void)
{
	struct child a;
	int fd = open_file(), st;
	pid_t pid;

	CHECK(!lock(POSIX, fd, F_WRLCK, 0, 1, false));
	a = child_with(POSIX, F_WRLCK, 10, 1);
	CHECK(says(&a, 5000));
	/* It holds 20, and waits for our 0; we want 20. */
	pid = fork();
	if (!pid) {
		int mine = open_file();

		CHECK(!lock(POSIX, mine, F_WRLCK, 20, 1, false));
		_exit(lock(POSIX, mine, F_WRLCK, 0, 1, true));
	}
	nap(300);
	CHECK(lock(POSIX, fd, F_WRLCK, 20, 1, true) == EDEADLK);
	CHECK(!lock(POSIX, fd, F_UNLCK, 0, 1, false));
	CHECK(waitpid(pid, &st, 0) == pid && WIFEXITED(st) && WEXITSTATUS(st) == 0);
	CHECK(!lock(POSIX, fd, F_WRLCK, 20, 1, true));
	end_child(&a);
	close(fd);
}

/* As QEMU does it: read locks on bytes that stand for what is used, looked at with F_OFD_GETLK. */
static void ofd(void)
{
	int a = open_file(), b = open_file(), d;

	CHECK(!lock(OFD, a, F_RDLCK, 100, 1, false) && !lock(OFD, a, F_RDLCK, 201, 1, false));
	CHECK(test(OFD, b, F_WRLCK, 100, 1).l_type == F_RDLCK);
	CHECK(test(OFD, b, F_WRLCK, 101, 1).l_type == F_UNLCK);
	CHECK(test(OFD, a, F_WRLCK, 100, 1).l_type == F_UNLCK);
	CHECK(!lock(OFD, b, F_RDLCK, 100, 1, false));
	CHECK(lock(OFD, b, F_WRLCK, 201, 1, false) == EAGAIN);
	CHECK(lock(POSIX, b, F_WRLCK, 201, 1, false) == EAGAIN);
	CHECK(lock(OFD, a, F_WRLCK, 100, 1, false) == EAGAIN);
	CHECK(!lock(OFD, b, F_UNLCK, 100, 1, false) && !lock(OFD, a, F_WRLCK, 100, 1, false));
	d = dup(a);
	close(a);
	CHECK(lock(OFD, b, F_RDLCK, 100, 1, false) == EAGAIN);
	close(d);
	close(b);
	CHECK(soon_free(OFD, F_WRLCK, 0, 0));
}

static void flocks(void)
{
	int a = open_file(), b = open_file(), p = open_file();

	CHECK(!flock(a, LOCK_SH) && !flock(b, LOCK_SH));
	CHECK(flock(a, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK);
	/* flock(2): to change a lock is to lose it first. */
	CHECK(!flock(b, LOCK_EX | LOCK_NB));
	CHECK(flock(a, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK);
	CHECK(!lock(POSIX, p, F_WRLCK, 0, 0, false));
	CHECK(!flock(b, LOCK_SH) && !flock(a, LOCK_SH | LOCK_NB));
	CHECK(!flock(b, LOCK_UN) && !flock(a, LOCK_EX | LOCK_NB));
	close(a);
	close(p);
	CHECK(soon_free(FLOCK, F_WRLCK, 0, 0));
	close(b);
}

static void *wait_for_it(void *arg)
{
	int fd = open_file();

	CHECK(!lock(OFD, fd, F_WRLCK, 0, 10, true));
	__atomic_add_fetch((int *)arg, 1, __ATOMIC_RELAXED);
	nap(1);
	close(fd);
	return NULL;
}

/* Many wait, and whoever wants something else need not. */
static void crowd(void)
{
	pthread_t t[60];
	int fd = open_file(), done = 0;
	struct stat st;
	char b;

	CHECK(!lock(OFD, fd, F_WRLCK, 0, 10, false));
	for (int i = 0; i < 60; i++)
		CHECK(!pthread_create(&t[i], NULL, wait_for_it, &done));
	nap(300);
	for (int i = 0; i < 50; i++)
		CHECK(!fstat(fd, &st) && pread(fd, &b, 1, 0) == 1 && pwrite(fd, &b, 1, 0) == 1);
	CHECK(!__atomic_load_n(&done, __ATOMIC_RELAXED));
	CHECK(!lock(OFD, fd, F_UNLCK, 0, 10, false));
	for (int i = 0; i < 60; i++)
		CHECK(!pthread_join(t[i], NULL));
	CHECK(done == 60);
	close(fd);
}

static int conform(void)
{
	posix_ranges();
	waiting(POSIX);
	waiting(OFD);
	waiting(FLOCK);
	interrupted(POSIX);
	interrupted(OFD);
	interrupted(FLOCK);
	deadlock();
	ofd();
	flocks();
	crowd();
	return 0;
}

int main(int argc, char **argv)
{
	enum kind k = POSIX;
	short type;
	int err;

	if (argc >= 3 && !strcmp(argv[1], "conform")) {
		file = argv[2];
		return conform();
	}
	if (argc == 4 && !strcmp(argv[1], "count")) {
		file = argv[2];
		return count((unsigned)atoi(argv[3]));
	}
	if (argc != 5 && argc != 7) {
		fprintf(stderr, "usage: see the head of locks.c\n");
		return 2;
	}
	k = !strcmp(argv[2], "flock") ? FLOCK : !strcmp(argv[2], "ofd") ? OFD : POSIX;
	type = argv[3][0] == 'w' ? F_WRLCK : F_RDLCK;
	file = argv[4];
	if (!strcmp(argv[1], "hold"))
		return hold(k, type, argc > 6 ? atol(argv[5]) : 0, argc > 6 ? atol(argv[6]) : 0);
	err = lock(k, open_file(), type, argc > 6 ? atol(argv[5]) : 0, argc > 6 ? atol(argv[6]) : 0,
		false);
	if (err && err != EAGAIN && err != EWOULDBLOCK) {
		errno = err;
		die("lock");
	}
	printf("%s\n", err ? "busy" : "free");
	return 0;
}
