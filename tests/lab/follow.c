/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * follow SECONDS DIR... - one file, seen through several mounts: through each, lines are appended, and through each somebody
 * follows it, as tail -f does. Whoever follows reads lines: no byte of one that is not there yet. At the end each line that a
 * write was answered for is there once, and those of one writer in their order.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LINE 100
#define MOUNTS 8

static struct shared {
	unsigned long made[MOUNTS];
	unsigned long reads[MOUNTS];
} *sum;

static void die(const char *what, const char *name)
{
	fprintf(stderr, "follow: %s: %s\n", name, what);
	exit(1);
}

static void append(const char *name, unsigned nr, time_t end)
{
	int fd = open(name, O_WRONLY | O_APPEND | O_CREAT, 0644);
	char line[LINE + 1];

	if (fd < 0)
		die("cannot open", name);
	while (time(NULL) < end) {
		snprintf(line, sizeof(line), "%u %0*lu\n", nr, LINE - 3, sum->made[nr]);
		if (write(fd, line, LINE) != LINE)
			die("cannot append", name);
		sum->made[nr]++;
	}
	close(fd);
}

static void follow(const char *name, unsigned nr, time_t end)
{
	int fd = open(name, O_RDONLY | O_CREAT, 0644);
	static char bytes[1 << 20];
	ssize_t n;

	if (fd < 0)
		die("cannot open", name);
	while (time(NULL) < end) {
		n = read(fd, bytes, sizeof(bytes));
		if (n < 0)
			die("cannot read", name);
		if (memchr(bytes, 0, (size_t)n))
			die("a line that is not there yet shows as zeros", name);
		if (n % LINE)
			die("a read ends within a line", name);
		sum->reads[nr] += n > 0;
	}
	close(fd);
}

static void count(const char *name, unsigned mounts)
{
	unsigned long seen[MOUNTS] = {0}, lines = 0;
	FILE *f = fopen(name, "r");
	char line[LINE + 1];

	if (!f)
		die("cannot open", name);
	while (fread(line, 1, LINE, f) == LINE) {
		unsigned nr = (unsigned)(line[0] - '0');

		line[LINE] = 0;
		if (nr >= mounts || strtoul(line + 2, NULL, 10) != seen[nr]++)
			die("a line is missing, or there twice", name);
		lines++;
	}
	for (unsigned i = 0; i < mounts; i++) {
		if (seen[i] != sum->made[i])
			die("a line is missing", name);
		if (!sum->reads[i])
			die("nothing was read while it grew", name);
	}
	printf("%lu lines\n", lines);
	fclose(f);
}

int main(int argc, char **argv)
{
	unsigned mounts = (unsigned)argc - 2;
	time_t end;
	int status, bad = 0;

	if (argc < 3 || mounts > MOUNTS) {
		fprintf(stderr, "usage: follow SECONDS DIR...\n");
		return 2;
	}
	sum = mmap(NULL, sizeof(*sum), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sum == MAP_FAILED)
		return 2;
	end = time(NULL) + atoi(argv[1]);
	for (unsigned i = 0; i < 2 * mounts; i++) {
		char name[4096];

		snprintf(name, sizeof(name), "%s/log", argv[2 + i / 2]);
		if (fork())
			continue;
		(i % 2 ? follow : append)(name, i / 2, end);
		_exit(0);
	}
	while (wait(&status) > 0)
		bad |= status;
	if (!bad) {
		char name[4096];

		snprintf(name, sizeof(name), "%s/log", argv[2]);
		count(name, mounts);
	}
	return bad != 0;
}
