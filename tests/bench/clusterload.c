/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * clusterload - the load of tests/bench/cluster. Prints operations a second, nothing else.
 *
 *   clusterload make DIR FILES                creates that many empty files
 *   clusterload stat DIR FILES ROUNDS         stat(2) of each of them, again and again
 *   clusterload small DIR FILES               create, write 100 bytes, close
 *   clusterload pingpong DIR-A DIR-B ROUNDS   create through A, then stat through B
 *   clusterload write PLACES MIB FILE...      4 KiB direct writes, a process per FILE
 *
 * PLACES of `write`: each writer in a part of MIB of its own ("parts"), or all in stripes of 64 KiB in turn
 * ("stripes"). One FILE may be named several times, through several mounts: then all write into one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WRITE_BYTES 4096u
#define STRIPE_BYTES 65536u
#define THREADS 4

static void die(const char *what)
{
	fprintf(stderr, "clusterload: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static char *path_of(char *room, const char *dir, const char *kind, unsigned i)
{
	snprintf(room, 4096, "%s/%s%u", dir, kind, i);
	return room;
}

static void create(const char *path, unsigned bytes)
{
	static const char text[100];
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);

	if (fd < 0)
		die(path);
	if (bytes && write(fd, text, bytes) != (ssize_t)bytes)
		die(path);
	if (close(fd))
		die(path);
}

static void stat_one(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		die(path);
}

/* ------------------------------------------------------------------ writers */

struct job {
	const char *file;
	unsigned writer, writers, thread;
	uint64_t bytes;
	int stripes;
};

static uint64_t place(const struct job *j, uint64_t i)
{
	uint64_t at = i * WRITE_BYTES;

	if (!j->stripes)
		return j->writer * j->bytes + at;
	return (at / STRIPE_BYTES * j->writers + j->writer) * STRIPE_BYTES + at % STRIPE_BYTES;
}

static void write_all(const struct job *j)
{
	int fd = open(j->file, O_WRONLY | O_DIRECT);
	uint64_t n = j->bytes / WRITE_BYTES, per = n / THREADS;
	void *buf;

	if (fd < 0)
		die(j->file);
	if (posix_memalign(&buf, 4096, WRITE_BYTES))
		die("memory");
	memset(buf, (int)('a' + j->writer), WRITE_BYTES);
	for (uint64_t i = j->thread * per; i < (j->thread + 1) * per; i++) {
		if (pwrite(fd, buf, WRITE_BYTES, (off_t)place(j, i)) != WRITE_BYTES)
			die(j->file);
	}
	if (close(fd))
		die(j->file);
	free(buf);
}

static double writers(int stripes, uint64_t bytes, char **files, unsigned count)
{
	struct job j = {.writers = count, .bytes = bytes, .stripes = stripes};
	double start = now_s();
	int status, bad = 0;

	for (j.writer = 0; j.writer < count; j.writer++) {
		j.file = files[j.writer];
		for (j.thread = 0; j.thread < THREADS; j.thread++) {
			pid_t pid = fork();

			if (pid < 0)
				die("fork");
			if (!pid) {
				write_all(&j);
				_exit(0);
			}
		}
	}
	while (wait(&status) > 0)
		bad |= status;
	if (bad)
		exit(1);
	return (double)(bytes / WRITE_BYTES * count) / (now_s() - start);
}

/* ------------------------------------------------------------------ */

int main(int argc, char **argv)
{
	const char *what = argc > 3 ? argv[1] : "";
	unsigned n = argc > 3 ? (unsigned)atoi(argv[3]) : 0, rounds = 1;
	char path[4096], other[4096];
	double start = now_s();

	if (!strcmp(what, "make") || !strcmp(what, "small")) {
		for (unsigned i = 0; i < n; i++)
			create(path_of(path, argv[2], what, i), strcmp(what, "make") ? 100 : 0);
	} else if (!strcmp(what, "stat") && argc > 4) {
		rounds = (unsigned)atoi(argv[4]);
		for (unsigned r = 0; r < rounds; r++)
			for (unsigned i = 0; i < n; i++)
				stat_one(path_of(path, argv[2], "make", i));
	} else if (!strcmp(what, "pingpong") && argc > 4) {
		n = (unsigned)atoi(argv[4]);
		for (unsigned i = 0; i < n; i++) {
			create(path_of(path, argv[2], "ping", i), 0);
			stat_one(path_of(other, argv[3], "ping", i));
		}
	} else if (!strcmp(what, "write") && argc > 4) {
		printf("%.0f\n", writers(!strcmp(argv[2], "stripes"), (uint64_t)n << 20, argv + 4,
					 (unsigned)argc - 4));
		return 0;
	} else {
		fprintf(stderr, "see the head of tests/bench/clusterload.c\n");
		return 2;
	}
	printf("%.0f\n", n * rounds / (now_s() - start));
	return 0;
}
