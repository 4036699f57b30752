/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fsx.c - random operations on one file, each checked against a model in memory.
 *
 *   fsx [-s SEED] [-n OPERATIONS] [-l BYTES] [-d] [-t THREADS] [-k MODEL] FILE
 *
 *   -d  O_DIRECT, in units of 512 bytes      -l  greatest size of the file (of a thread's part) [1 MiB]
 *   -t  that many threads, each on its own part of the file through descriptors of its own; their parts
 *       do not meet at a block or cluster, but within it. Sizes change only with one thread.
 *   -k  what the file must hold at the end is written there: for a look after another mount
 *
 * The same seed and options do the same again. A failure shows the last operations that touched the byte.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kernel.h"

enum what {
	READ,
	WRITE,
	MAPREAD,
	MAPWRITE,
	TRUNCATE,
	GROW,
	PUNCH,
	ZERO,
	ALLOCATE,
	COPY,
	SYNC,
	REOPEN,
	SEEK,
	APPEND,
	KINDS
};

static const char *const names[KINDS] = {"read", "write", "mapread", "mapwrite", "truncate", "grow",
	"punch", "zero", "allocate", "copy", "sync", "reopen", "seek", "append"};
/* of 100 */
static const unsigned weights[KINDS] = {20, 24, 6, 8, 5, 4, 8, 6, 3, 4, 3, 4, 3, 2};

struct record {
	enum what what;
	uint64_t off, len, size;
};
#define RECORDS 4096

struct runner {
	unsigned nr;
	uint64_t x; /* of the generator */
	int fd;
	uint64_t from, room; /* its part of the file */
	uint8_t *model, *buf;
	uint64_t size; /* of the file; with several threads: fixed */
	bool sizes; /* may change it */
	bool maps; /* no other thread writes to its pages */
	unsigned done;
	struct record log[RECORDS];
	pthread_t thread;
};

static const char *path;
static uint64_t seed, operations = 3000, room = 1 << 20;
static bool direct;
static unsigned threads = 1;

static uint64_t rnd(struct runner *r)
{
	r->x ^= r->x << 13;
	r->x ^= r->x >> 7;
	return r->x ^= r->x << 17;
}

static void fail(struct runner *r, uint64_t at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	flockfile(stdout);
	printf("FAILED seed %llu, thread %u, operation %u: ", (unsigned long long)seed, r->nr,
		r->done);
	vprintf(fmt, ap);
	printf("\nwhat touched byte %llu:\n", (unsigned long long)at);
	for (unsigned i = r->done >= RECORDS ? r->done - RECORDS + 1 : 0; i <= r->done; i++) {
		struct record *c = &r->log[i % RECORDS];
		bool shrinks = (c->what == TRUNCATE || c->what == GROW) && c->off <= at;

		if (shrinks || c->what == REOPEN || i == r->done ||
			(c->off <= at && at < c->off + c->len))
			printf("%6u %-8s %llu + %llu, size %llu\n", i, names[c->what],
				(unsigned long long)c->off, (unsigned long long)c->len,
				(unsigned long long)c->size);
	}
	printf("again: fsx -s %llu -n %llu -l %llu -t %u%s %s\n", (unsigned long long)seed,
		(unsigned long long)operations, (unsigned long long)room, threads,
		direct ? " -d" : "", path);
	exit(1);
}

#define NEED(r, ok, name)                                                                          \
	do {                                                                                       \
		if (!(ok))                                                                         \
			fail(r, 0, "%s: %s", name, strerror(errno));                               \
	} while (0)

static void reopen(struct runner *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = open(path, O_RDWR | O_CREAT | (direct ? O_DIRECT : 0), 0644);
	NEED(r, r->fd >= 0, "open");
}

static void compare(
	struct runner *r, uint64_t off, const uint8_t *got, uint64_t len, const char *how)
{
	for (uint64_t i = 0; i < len; i++) {
		if (got[i] != r->model[off + i])
			fail(r, off + i, "%s at %llu finds %02x, not %02x", how,
				(unsigned long long)(r->from + off + i), got[i], r->model[off + i]);
	}
}

static void check_read(struct runner *r, uint64_t off, uint64_t len)
{
	ssize_t want = off >= r->size ? 0 : (ssize_t)(off + len > r->size ? r->size - off : len);
	ssize_t got = pread(r->fd, r->buf, len, (off_t)(r->from + off));

	if (got != want)
		fail(r, off, "read of %llu at %llu gives %zd, not %zd: %s", (unsigned long long)len,
			(unsigned long long)off, got, want, got < 0 ? strerror(errno) : "");
	compare(r, off, r->buf, (uint64_t)want, "read");
}

static void grown(struct runner *r, uint64_t end)
{
	if (end > r->size)
		r->size = end;
}

static void do_write(struct runner *r, uint64_t off, uint64_t len)
{
	uint8_t tag = (uint8_t)rnd(r);
	ssize_t got;

	for (uint64_t i = 0; i < len; i++)
		r->buf[i] = (uint8_t)(tag + i * 7 + (i >> 8));
	got = pwrite(r->fd, r->buf, len, (off_t)(r->from + off));
	if (got != (ssize_t)len)
		fail(r, off, "write gives %zd: %s", got, strerror(errno));
	memcpy(r->model + off, r->buf, len);
	grown(r, off + len);
}

static void do_map(struct runner *r, uint64_t off, uint64_t len, bool store)
{
	uint64_t page = (r->from + off) & ~4095ull, skip = r->from + off - page;
	uint8_t *p, tag = (uint8_t)rnd(r);

	if (off >= r->size)
		return;
	if (off + len > r->size)
		len = r->size - off;
	p = mmap(NULL, skip + len, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, (off_t)page);
	NEED(r, p != MAP_FAILED, "mmap");
	if (store) {
		for (uint64_t i = 0; i < len; i++)
			r->model[off + i] = p[skip + i] = (uint8_t)(tag - i * 3);
		if (rnd(r) & 1)
			NEED(r, !msync(p, skip + len, MS_SYNC), "msync");
	} else {
		compare(r, off, p + skip, len, "mapped memory");
	}
	munmap(p, skip + len);
}

static void do_size(struct runner *r, uint64_t size)
{
	NEED(r, !ftruncate(r->fd, (off_t)size), "ftruncate");
	if (size < r->size)
		memset(r->model + size, 0, r->size - size);
	r->size = size;
}

static void do_space(struct runner *r, enum what what, uint64_t off, uint64_t len, bool keep)
{
	int mode = what == PUNCH ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
				 : (what == ZERO ? FALLOC_FL_ZERO_RANGE : 0) |
					   (keep ? FALLOC_FL_KEEP_SIZE : 0);

	if (fallocate(r->fd, mode, (off_t)(r->from + off), (off_t)len)) {
		NEED(r, errno == EOPNOTSUPP && what == ZERO, names[what]);
		return;
	}
	if (what != ALLOCATE)
		memset(r->model + off, 0, len);
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		grown(r, off + len);
}

static void do_copy(struct runner *r, uint64_t off, uint64_t len)
{
	uint64_t to = rnd(r) % r->room;
	loff_t in = (loff_t)(r->from + off), out;
	ssize_t n;

	if (direct)
		to &= ~511ull;
	if (off >= r->size)
		return;
	if (off + len > r->size)
		len = r->size - off;
	if (to + len > r->room)
		len = r->room - to;
	if (direct)
		len &= ~511ull;
	if ((to < off + len && off < to + len) || !len)
		return;
	out = (loff_t)(r->from + to);
	while (len) {
		n = copy_file_range(r->fd, &in, r->fd, &out, len, 0);
		if (n <= 0)
			fail(r, to, "copy gives %zd: %s", n, strerror(errno));
		memcpy(r->model + to, r->model + off, (size_t)n);
		off += (uint64_t)n;
		to += (uint64_t)n;
		len -= (uint64_t)n;
		grown(r, to);
	}
}

/* What is said to be a hole reads as zero. */
static void do_seek(struct runner *r, uint64_t off)
{
	off_t data, hole;

	if (!r->sizes || off >= r->size)
		return;
	hole = lseek(r->fd, (off_t)off, SEEK_HOLE);
	data = lseek(r->fd, (off_t)off, SEEK_DATA);
	if (hole < (off_t)off || hole > (off_t)r->size)
		fail(r, off, "SEEK_HOLE from %llu gives %lld", (unsigned long long)off,
			(long long)hole);
	if (data < 0 && errno == ENXIO)
		data = (off_t)r->size;
	if (data < (off_t)off)
		fail(r, off, "SEEK_DATA from %llu gives %lld", (unsigned long long)off,
			(long long)data);
	for (off_t i = (off_t)off; i < data; i++) {
		if (r->model[i])
			fail(r, (uint64_t)i, "byte %lld is said to be in a hole", (long long)i);
	}
}

static void do_append(struct runner *r, uint64_t len)
{
	int fd = open(path, O_WRONLY | O_APPEND);

	if (r->size + len > r->room)
		len = r->room - r->size;
	memset(r->buf, (int)rnd(r), len);
	NEED(r, fd >= 0 && write(fd, r->buf, len) == (ssize_t)len, "append");
	close(fd);
	memcpy(r->model + r->size, r->buf, len);
	r->size += len;
}

static void check_size(struct runner *r)
{
	struct stat st;

	NEED(r, !fstat(r->fd, &st), "fstat");
	if (r->sizes && (uint64_t)st.st_size != r->size)
		fail(r, r->size, "the size is %lld, not %llu", (long long)st.st_size,
			(unsigned long long)r->size);
}

static void one(struct runner *r)
{
	unsigned pick = (unsigned)(rnd(r) % 100);
	enum what what = READ;
	uint64_t off = rnd(r) % r->room, len = rnd(r) % (rnd(r) % 4 ? 20000 : r->room / 2) + 1;

	while (pick >= weights[what])
		pick -= weights[what++];
	if (rnd(r) % 4 == 0) /* edges of clusters and blocks */
		off = (off & ~65535ull) + rnd(r) % 3 - 1;
	if (off >= r->room)
		off = 0;
	if (off + len > r->room)
		len = r->room - off;
	if (direct) {
		off &= ~511ull;
		len = (len + 511) & ~511ull;
	}
	if (!r->sizes && (what == TRUNCATE || what == GROW || what == APPEND))
		what = WRITE;
	if (!r->maps && (what == MAPREAD || what == MAPWRITE))
		what = what == MAPREAD ? READ : WRITE;
	r->log[r->done % RECORDS] = (struct record){what, off, len, r->size};
	switch (what) {
	case READ:
		check_read(r, off, len);
		break;
	case WRITE:
		do_write(r, off, len);
		break;
	case MAPREAD:
	case MAPWRITE:
		do_map(r, off, len, what == MAPWRITE);
		break;
	case TRUNCATE:
		do_size(r, off);
		break;
	case GROW:
		do_size(r, r->size + rnd(r) % (r->room - r->size + 1));
		break;
	case PUNCH:
	case ZERO:
	case ALLOCATE:
		do_space(r, what, off, len, rnd(r) & 1 || !r->sizes);
		break;
	case COPY:
		do_copy(r, off, len);
		break;
	case SYNC:
		NEED(r, !(rnd(r) & 1 ? fsync(r->fd) : fdatasync(r->fd)), "fsync");
		break;
	case REOPEN:
		reopen(r);
		break;
	case SEEK:
		do_seek(r, off);
		break;
	case APPEND:
		do_append(r, len);
		break;
	case KINDS:
		break;
	}
}

static void *run(void *arg)
{
	struct runner *r = arg;

	reopen(r);
	for (r->done = 0; r->done < operations; r->done++) {
		one(r);
		check_size(r);
	}
	reopen(r);
	r->log[r->done % RECORDS] = (struct record){READ, 0, r->room, r->size};
	check_read(r, 0, r->room);
	return NULL;
}

static struct runner *runner_new(unsigned nr)
{
	struct runner *r = calloc(1, sizeof(*r));

	r->nr = nr;
	r->fd = -1;
	r->x = (seed + 1) * 0x9e3779b97f4a7c15ull ^ (nr + 1) * 0xbf58476d1ce4e5b9ull;
	r->room = room;
	/* Parts of threads meet within a block, which whoever writes there must then read first. */
	r->from = nr * (room + (direct ? 512 : 0));
	r->model = calloc(1, room);
	r->buf = aligned_alloc(4096, (room + 4095) & ~4095ull);
	r->sizes = threads == 1;
	/*
	 * Every open of csvfs is direct I/O to FUSE, and of that Linux does not promise that a write and another's
	 * store to the same page both last.
	 */
	r->maps = kernel_has_66() && (threads == 1 || (!direct && room % 4096 == 0));
	for (int i = 0; i < 20; i++)
		(void)rnd(r);
	return r;
}

static int usage(void)
{
	fprintf(stderr, "usage: fsx [-s SEED] [-n OPERATIONS] [-l BYTES] [-d] [-t THREADS] [-k "
			"MODEL] FILE\n");
	return 2;
}

static void keep(const char *to, struct runner **r)
{
	FILE *f = fopen(to, "w");

	for (unsigned i = 0; i < threads; i++) {
		if (!f || fseek(f, (long)r[i]->from, SEEK_SET) ||
			fwrite(r[i]->model, 1, r[i]->size, f) != r[i]->size)
			fail(r[i], 0, "cannot write %s", to);
	}
	fclose(f);
}

int main(int argc, char **argv)
{
	const char *model = NULL;
	struct runner *r[64];
	int c, fd;

	seed = (uint64_t)time(NULL) * 1000 + (uint64_t)getpid() % 1000;
	while ((c = getopt(argc, argv, "s:n:l:dt:k:")) != -1) {
		switch (c) {
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'n':
			operations = strtoull(optarg, NULL, 0);
			break;
		case 'l':
			room = strtoull(optarg, NULL, 0);
			break;
		case 'd':
			direct = true;
			break;
		case 't':
			threads = (unsigned)atoi(optarg);
			break;
		case 'k':
			model = optarg;
			break;
		default:
			return usage();
		}
	}
	if (optind != argc - 1 || !threads || threads > 64 || room < 4096)
		return usage();
	path = argv[optind];
	if (direct)
		room &= ~511ull;
	printf("fsx -s %llu -n %llu -l %llu -t %u%s %s\n", (unsigned long long)seed,
		(unsigned long long)operations, (unsigned long long)room, threads,
		direct ? " -d" : "", path);
	fflush(stdout);
	unlink(path);
	for (unsigned i = 0; i < threads; i++)
		r[i] = runner_new(i);
	if (threads > 1) {
		uint64_t size = r[threads - 1]->from + room;

		fd = open(path, O_RDWR | O_CREAT, 0644);
		if (fd < 0 || ftruncate(fd, (off_t)size))
			return usage();
		close(fd);
		for (unsigned i = 0; i < threads; i++)
			r[i]->size = room;
	}
	for (unsigned i = 0; i < threads; i++)
		pthread_create(&r[i]->thread, NULL, run, r[i]);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(r[i]->thread, NULL);
	if (model)
		keep(model, r);
	return 0;
}
