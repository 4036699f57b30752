/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * metaload.c - the load of tests/bench/metadata: one kind of call, many times, by several threads.
 *
 *   metaload OP DIR COUNT THREADS [FIRST]
 *
 * create: open(O_CREAT | O_EXCL) and close of the names FIRST.. ; stat, rename, unlink: of those names,
 * in an order that is not the one they were made in; list: readdir and stat of what it says, THREADS
 * times; write: COUNT first writes of 4 KiB at random clusters of 64 KiB in DIR/sparse, a file of 64 GiB;
 * truncate: DIR/sparse to nothing. Prints: calls a second; of the first tenth, 10,000
 * at most; of the last such part; the longest call in milliseconds.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SPARSE_BYTES (64ull << 30)
#define PIECE_BYTES (64ull << 10)

struct load {
	int (*call)(uint64_t i);
	uint64_t first, count, threads, step;
	uint64_t *done_ns; /* when each call ended, by its number in the run */
	_Atomic uint64_t next, longest_ns;
};

static int dir_fd, file_fd;
static struct load load;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "metaload: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void name_of(char *to, uint64_t i)
{
	sprintf(to, "file-%08llu", (unsigned long long)i);
}

/* Another order than that of the names; no number twice, since the step is prime and count is less. */
static uint64_t mixed(uint64_t i)
{
	return load.first + (i * 1000003u) % load.count;
}

static int do_create(uint64_t i)
{
	char name[32];
	int fd;

	name_of(name, load.first + i);
	fd = openat(dir_fd, name, O_CREAT | O_EXCL | O_WRONLY, 0644);
	return fd < 0 ? -1 : close(fd);
}

static int do_stat(uint64_t i)
{
	struct stat st;
	char name[32];

	name_of(name, mixed(i));
	return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW);
}

static int do_rename(uint64_t i)
{
	char name[32], to[40];

	name_of(name, mixed(i));
	sprintf(to, "%s.new", name);
	return renameat(dir_fd, name, dir_fd, to);
}

static int do_unlink(uint64_t i)
{
	char name[40];

	name_of(name, mixed(i));
	if (!unlinkat(dir_fd, name, 0))
		return 0;
	strcat(name, ".new");
	return unlinkat(dir_fd, name, 0);
}

static int do_list(uint64_t i)
{
	DIR *d = fdopendir(openat(dir_fd, ".", O_RDONLY | O_DIRECTORY));
	struct dirent *e;
	uint64_t seen = 0;
	struct stat st;

	(void)i;
	if (!d)
		return -1;
	while ((e = readdir(d))) {
		if (fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW))
			return -1;
		seen++;
	}
	load.step = seen;
	return closedir(d);
}

static int do_write(uint64_t i)
{
	static const uint8_t bytes[4096] = {1};
	uint64_t piece = (i + load.first) * 40503u % (SPARSE_BYTES / PIECE_BYTES);

	return pwrite(file_fd, bytes, sizeof(bytes), (off_t)(piece * PIECE_BYTES)) ==
			       (ssize_t)sizeof(bytes)
		       ? 0
		       : -1;
}

static int do_truncate(uint64_t i)
{
	(void)i;
	return ftruncate(file_fd, 0);
}

static void *worker(void *arg)
{
	uint64_t i;

	(void)arg;
	while ((i = load.next++) < load.count) {
		uint64_t start = now_ns(), took, longest = load.longest_ns;

		if (load.call(i))
			die("a call");
		load.done_ns[i] = now_ns();
		took = load.done_ns[i] - start;
		while (took > longest &&
			!__atomic_compare_exchange_n((uint64_t *)&load.longest_ns, &longest, took,
				0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			;
	}
	return NULL;
}

static const struct {
	const char *name;
	int (*call)(uint64_t i);
} kinds[] = {{"create", do_create}, {"stat", do_stat}, {"rename", do_rename}, {"unlink", do_unlink},
	{"list", do_list}, {"write", do_write}, {"truncate", do_truncate}};

static double rate(uint64_t calls, uint64_t ns)
{
	return ns ? (double)calls * 1e9 / (double)ns : 0;
}

static void run(void)
{
	uint64_t start, part = load.count / 10 ? load.count / 10 : 1, last = load.count - 1;
	pthread_t *t = calloc(load.threads, sizeof(*t));

	if (part > 10000)
		part = 10000;
	start = now_ns();
	for (uint64_t i = 0; i < load.threads; i++)
		if (pthread_create(&t[i], NULL, worker, NULL))
			die("a thread");
	for (uint64_t i = 0; i < load.threads; i++)
		pthread_join(t[i], NULL);
	printf("%.0f %.0f %.0f %.1f\n",
		rate(load.call == do_list ? load.step : load.count, now_ns() - start),
		rate(part, load.done_ns[part - 1] - start),
		rate(part, load.done_ns[last] - (last >= part ? load.done_ns[last - part] : start)),
		(double)load.longest_ns / 1e6);
	free(t);
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "usage: metaload OP DIR COUNT THREADS [FIRST]\n");
		return 2;
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(argv[1], kinds[i].name))
			load.call = kinds[i].call;
	load.count = strtoull(argv[3], NULL, 10);
	load.threads = strtoull(argv[4], NULL, 10);
	load.first = argc > 5 ? strtoull(argv[5], NULL, 10) : 0;
	load.done_ns = calloc(load.count, sizeof(*load.done_ns));
	dir_fd = open(argv[2], O_RDONLY | O_DIRECTORY);
	if (!load.call || !load.count || !load.threads || !load.done_ns || dir_fd < 0)
		die(argv[2]);
	if (load.call == do_write || load.call == do_truncate) {
		file_fd = openat(dir_fd, "sparse", O_CREAT | O_WRONLY, 0644);
		if (file_fd < 0 ||
			(load.call == do_write && ftruncate(file_fd, (off_t)SPARSE_BYTES)))
			die("sparse");
	}
	run();
	return 0;
}
