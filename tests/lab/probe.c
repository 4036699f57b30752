/*
 * probe - how long does an application have to wait, and does it ever see an error?
 *
 *   probe data FILE LOG    overwrite and read back 4 KiB blocks of FILE, O_DIRECT, all of them
 *                          written (so their extents exist) before the measurement begins
 *   probe meta DIR LOG     create, stat and unlink a file in DIR
 *
 * One operation after the other, every 10 ms. The time from one completion to the next is what an
 * application would notice as a stall; the longest of each interval goes to LOG, one line at least
 * every 200 ms while operations complete:
 *
 *   END GAP OPS ERRORS     end of the interval (ms, wall clock), longest gap in it (ms), and the
 *                          operations and errors since the start
 *
 * An operation that hangs writes no line until it returns; its whole gap is in the line then. The
 * data probe also compares what it reads with what it wrote; a difference is an error, named on
 * standard error like every first error of a kind. SIGTERM or SIGINT ends the probe after the
 * current operation; it prints {"ops":N,"errors":N,"longest_ms":N} and exits 1 if it saw errors.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 256, PERIOD_NS = 10 * 1000 * 1000, LINE_NS = 200 * 1000 * 1000 };

struct probe {
	FILE *log;
	uint64_t last_end_ns; /* completion of the latest operation */
	uint64_t last_line_ns; /* when LOG was written last */
	uint64_t interval_gap_ns;
	uint64_t longest_ns;
	uint64_t ops;
	uint64_t errors;
};

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
	(void)number;
	stop = 1;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void write_line(struct probe *p, uint64_t now_ns)
{
	fprintf(p->log, "%llu %llu %llu %llu\n",
		(unsigned long long)(clock_ns(CLOCK_REALTIME) / 1000000),
		(unsigned long long)(p->interval_gap_ns / 1000000), (unsigned long long)p->ops,
		(unsigned long long)p->errors);
	fflush(p->log);
	p->interval_gap_ns = 0;
	p->last_line_ns = now_ns;
}

static void begin(struct probe *p)
{
	p->last_end_ns = clock_ns(CLOCK_BOOTTIME);
	write_line(p, p->last_end_ns);
}

/* An operation has come back: with 0, or with what went wrong. */
static void completed(struct probe *p, const char *what, int error)
{
	uint64_t now_ns = clock_ns(CLOCK_BOOTTIME);
	uint64_t gap_ns = now_ns - p->last_end_ns;

	p->last_end_ns = now_ns;
	p->ops++;
	if (gap_ns > p->interval_gap_ns)
		p->interval_gap_ns = gap_ns;
	if (gap_ns > p->longest_ns)
		p->longest_ns = gap_ns;
	if (error) {
		if (p->errors++ < 20)
			fprintf(stderr, "probe: %s: %s\n", what, strerror(error));
	}
	if (now_ns - p->last_line_ns >= LINE_NS || error)
		write_line(p, now_ns);
}

static void pause_period(void)
{
	struct timespec ts = {.tv_nsec = PERIOD_NS};

	(void)nanosleep(&ts, NULL); /* a signal only ends the pause early */
}

/* A block's bytes follow from its place and from how often it was written. */
static void fill(uint64_t *block, uint64_t index, uint64_t version)
{
	uint64_t x = (index << 32 | version) * 0x9e3779b97f4a7c15u + 1;

	for (size_t i = 0; i < BLOCK / sizeof(*block); i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		block[i] = x;
	}
	block[0] = index;
	block[1] = version;
}

struct data {
	int fd;
	uint64_t *buf;
	uint64_t *expected;
	uint64_t version[BLOCKS]; /* what is in the file; 0: unknown, a write of it failed */
	uint64_t next_version;
};

static int transfer_result(ssize_t n)
{
	return n == BLOCK ? 0 : n < 0 ? errno : EIO;
}

static int write_block(struct data *d, uint64_t index)
{
	int error;

	fill(d->buf, index, ++d->next_version);
	error = transfer_result(pwrite(d->fd, d->buf, BLOCK, (off_t)(index * BLOCK)));
	d->version[index] = error ? 0 : d->next_version;
	return error;
}

static int check_block(struct data *d, uint64_t index)
{
	int error = transfer_result(pread(d->fd, d->buf, BLOCK, (off_t)(index * BLOCK)));

	if (error || !d->version[index])
		return error;
	fill(d->expected, index, d->version[index]);
	if (!memcmp(d->buf, d->expected, BLOCK))
		return 0;
	fprintf(stderr,
		"probe: block %llu: version %llu was written, block %llu version %llu read\n",
		(unsigned long long)index, (unsigned long long)d->version[index],
		(unsigned long long)d->buf[0], (unsigned long long)d->buf[1]);
	return EBADMSG;
}

static int data_loop(struct probe *p, const char *path)
{
	struct data d = {.fd = open(path, O_RDWR | O_CREAT | O_DIRECT, 0644)};

	if (d.fd < 0 || posix_memalign((void **)&d.buf, BLOCK, BLOCK) ||
		posix_memalign((void **)&d.expected, BLOCK, BLOCK)) {
		perror(path);
		return -1;
	}
	for (uint64_t i = 0; i < BLOCKS; i++) {
		if (write_block(&d, i) || (i == BLOCKS - 1 && fsync(d.fd))) {
			perror(path);
			return -1;
		}
	}
	begin(p);
	for (uint64_t i = 0; !stop; i = (i + 1) % BLOCKS) {
		completed(p, "write", write_block(&d, i));
		/* An older block, too: one that was acknowledged before a path was lost. */
		completed(p, "read", check_block(&d, i % 2 ? i : (i + BLOCKS / 2) % BLOCKS));
		pause_period();
	}
	close(d.fd);
	return 0;
}

static int meta_loop(struct probe *p, const char *dir)
{
	char path[4096];

	begin(p);
	for (unsigned i = 0; !stop; i++) {
		struct stat st;
		int fd;

		if ((size_t)snprintf(path, sizeof(path), "%s/probe.%d.%u", dir, getpid(), i) >=
			sizeof(path))
			return -1;
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
		completed(p, "create", fd < 0 ? errno : 0);
		if (fd < 0) {
			pause_period();
			continue;
		}
		close(fd);
		completed(p, "stat", stat(path, &st) ? errno : 0);
		completed(p, "unlink", unlink(path) ? errno : 0);
		pause_period();
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	struct probe p = {0};
	int failed;

	if (argc != 4 || (strcmp(argv[1], "data") && strcmp(argv[1], "meta"))) {
		fprintf(stderr, "usage: probe data FILE LOG | probe meta DIR LOG\n");
		return 2;
	}
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	p.log = fopen(argv[3], "we");
	if (!p.log) {
		perror(argv[3]);
		return 2;
	}
	failed = argv[1][0] == 'd' ? data_loop(&p, argv[2]) : meta_loop(&p, argv[2]);
	write_line(&p, clock_ns(CLOCK_BOOTTIME));
	printf("{\"ops\":%llu,\"errors\":%llu,\"longest_ms\":%llu}\n", (unsigned long long)p.ops,
		(unsigned long long)p.errors, (unsigned long long)(p.longest_ns / 1000000));
	return failed || p.errors ? 1 : 0;
}
