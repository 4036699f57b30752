/* SPDX-License-Identifier: GPL-2.0-or-later */
/* space.c - fallocate in all its ways. A full volume and a read-only one: t-posix.sh, with full.c. */
#include "posix.h"

#define KEEP FALLOC_FL_KEEP_SIZE
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO FALLOC_FL_ZERO_RANGE

static void allocate(void)
{
	struct stat st;
	int fd = open("f", O_CREAT | O_RDWR, 0644);

	OK(fallocate(fd, 0, 0, 1 << 20));
	st = st_of("f");
	EQ(st.st_size, 1 << 20);
	TRUE(st.st_blocks * 512 >= 1 << 20);
	TRUE(same_bytes("f", 500000, (char[1000]){0}, 1000));
	OK(fallocate(fd, KEEP, 0, 4 << 20));
	st = st_of("f");
	EQ(st.st_size, 1 << 20);
	TRUE(st.st_blocks * 512 >= 4 << 20);
	OK(fallocate(fd, 0, 100, 1));
	EQ(st_of("f").st_size, 1 << 20);
	OK(fallocate(fd, 0, 5 << 20, 1));
	EQ(st_of("f").st_size, (5 << 20) + 1);
	EQ(posix_fallocate(fd, 6 << 20, 10), 0);
	EQ(st_of("f").st_size, (6 << 20) + 10);
	doing("what is there stays");
	EQ(pwrite(fd, "hello", 5, 1000), 5);
	OK(fallocate(fd, 0, 0, 2 << 20));
	OK(fallocate(fd, KEEP, 0, 2 << 20));
	TRUE(same_bytes("f", 998, "\0\0hello\0\0", 9));
	OK(ftruncate(fd, 0));
	EQ(st_of("f").st_blocks, 0);
	close(fd);
}

static void errors(void)
{
	int fd = open("f", O_CREAT | O_RDWR, 0644), p[2], d = open(".", O_RDONLY),
	    ro = open("f", O_RDONLY);

	ERR(EINVAL, fallocate(fd, 0, 0, 0));
	ERR(EINVAL, fallocate(fd, 0, -1, 10));
	ERR(EINVAL, fallocate(fd, 0, 0, -1));
	ERR(EINVAL, fallocate(fd, PUNCH, 0, 0));
	ERR(EFBIG, fallocate(fd, 0, INT64_MAX - 10, 100));
	ERR(EOPNOTSUPP, fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10)); /* without KEEP_SIZE */
	ERR(EOPNOTSUPP, fallocate(fd, PUNCH | ZERO, 0, 10));
	ERR(EOPNOTSUPP, fallocate(fd, 0x8000, 0, 10));
	ERR(EBADF, fallocate(ro, 0, 0, 10));
	ERR(EBADF, fallocate(d, 0, 0, 10));
	MUST(pipe(p));
	ERR(ESPIPE, fallocate(p[1], 0, 0, 10));
	close(p[0]);
	close(p[1]);
	close(d);
	close(ro);
	if (on_csvfs) {
		/* The kernel does not hand these to FUSE. */
		ERR(EOPNOTSUPP, fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 65536));
		ERR(EOPNOTSUPP, fallocate(fd, FALLOC_FL_INSERT_RANGE, 0, 65536));
		ERR(EOPNOTSUPP, fallocate(fd, FALLOC_FL_UNSHARE_RANGE, 0, 65536));
	}
	close(fd);
	ERR(EBADF, fallocate(fd, 0, 0, 10));
}

/* Holes and zeros at each kind of edge, within one cluster and over several; then what lies around it. */
static void punch_and_zero(void)
{
	static const struct {
		off_t off, len;
	} ranges[] = {{0, 1}, {0, 4096}, {1, 4094}, {100, 65336}, {0, 65536}, {65536, 65536},
		{65535, 2}, {65500, 131072}, {131072, 131072}, {0, 400000}, {299999, 1},
		{299000, 5000}, {4096, 290000}, {70000, 1}, {12345, 54321}, {196608, 100000},
		{400000, 10}};
	enum { SIZE = 300000 };
	static char model[500000];

	for (int zero = 0; zero < 3; zero++) {
		int mode = zero == 0 ? PUNCH : zero == 1 ? ZERO | KEEP : ZERO;

		for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
			off_t off = ranges[i].off, len = ranges[i].len, size = SIZE;
			int fd = open("f", O_CREAT | O_RDWR | O_TRUNC, 0644);

			memset(model, 0, sizeof(model));
			memset(model, 'x', SIZE);
			must(write(fd, model, SIZE) == SIZE, "write");
			doing("%s of %lld at %lld",
				zero ? mode & KEEP ? "zero, keep" : "zero" : "punch",
				(long long)len, (long long)off);
			if (fallocate(fd, mode, off, len) && errno == EOPNOTSUPP && !on_csvfs) {
				close(fd); /* tmpfs has no ZERO_RANGE */
				continue;
			}
			memset(model + off, 0, (size_t)len);
			if (mode == ZERO && off + len > size)
				size = off + len;
			EQ(st_of("f").st_size, size);
			TRUE(same_bytes("f", 0, model, (size_t)size));
			if (!zero && len >= 200000)
				TRUE(st_of("f").st_blocks * 512 < 200000);
			if (zero)
				TRUE(st_of("f").st_blocks * 512 >= SIZE);
			OK(ftruncate(fd, 450000));
			TRUE(same_bytes("f", 0, model, 300000));
			EQ(pwrite(fd, "yy", 2, off), 2);
			memset(model + off, 'y', 2);
			TRUE(same_bytes("f", 0, model, 300000));
			close(fd);
		}
	}
}

static void punch_finds(void)
{
	int fd = open("f", O_CREAT | O_RDWR, 0644);
	static char buf[1 << 20];

	memset(buf, 'x', sizeof(buf));
	EQ(write(fd, buf, sizeof(buf)), sizeof(buf));
	OK(fallocate(fd, PUNCH, 262144, 262144));
	EQ(lseek(fd, 0, SEEK_HOLE), 262144);
	EQ(lseek(fd, 262144, SEEK_DATA), 524288);
	EQ(lseek(fd, 524288, SEEK_HOLE), 1 << 20);
	OK(fallocate(fd, PUNCH, 0, 1 << 20));
	ERR(ENXIO, lseek(fd, 0, SEEK_DATA));
	EQ(st_of("f").st_blocks, 0);
	EQ(st_of("f").st_size, 1 << 20);
	doing("behind the end");
	OK(fallocate(fd, PUNCH, 2 << 20, 1 << 20));
	EQ(st_of("f").st_size, 1 << 20);
	close(fd);
}

/* Space that nothing was written to is a hole, whoever asked for it, and whether the file is open or not. */
static void unwritten_is_hole(void)
{
	enum { M = 1 << 20, K64 = 64 << 10 };
	static char buf[M];
	struct stat st;
	int fd = open("f", O_CREAT | O_RDWR, 0644);

	MUST(fd);
	memset(buf, 'x', sizeof(buf));
	doing("fallocate");
	OK(fallocate(fd, 0, 0, 4 * M));
	ERR(ENXIO, lseek(fd, 0, SEEK_DATA));
	EQ(lseek(fd, 0, SEEK_HOLE), 0);
	EQ(lseek(fd, 3 * M, SEEK_HOLE), 3 * M);
	doing("a write into it, not synced");
	EQ(pwrite(fd, buf, K64, M), K64);
	EQ(lseek(fd, 0, SEEK_DATA), M);
	EQ(lseek(fd, M, SEEK_HOLE), M + K64);
	ERR(ENXIO, lseek(fd, M + K64, SEEK_DATA));
	EQ(lseek(fd, 0, SEEK_HOLE), 0);
	EQ(lseek(fd, M + K64 + 5, SEEK_HOLE), M + K64 + 5);
	close(fd);
	MUST(unlink("f"));
	doing("what is allocated ahead of a writer");
	fd = open("f", O_CREAT | O_RDWR, 0644);
	MUST(fd);
	for (int i = 0; i < 5; i++) {
		EQ(write(fd, buf, M), M);
		EQ(lseek(fd, i * M, SEEK_DATA), i * M);
		EQ(lseek(fd, 0, SEEK_HOLE), (i + 1) * M);
		EQ(lseek(fd, 0, SEEK_SET), 0);
		EQ(lseek(fd, 0, SEEK_END), (i + 1) * M);
	}
	OK(ftruncate(fd, 100 * M));
	ERR(ENXIO, lseek(fd, 5 * M, SEEK_DATA));
	EQ(lseek(fd, 0, SEEK_HOLE), 5 * M);
	OK(fstat(fd, &st));
	TRUE(st.st_blocks >= 5 * M / 512 && st.st_blocks <= 5 * M / 512 + 16);
	EQ(pwrite(fd, buf, K64, 90 * M), K64);
	EQ(lseek(fd, 5 * M, SEEK_DATA), 90 * M);
	EQ(lseek(fd, 90 * M, SEEK_HOLE), 90 * M + K64);
	close(fd);
	st = st_of("f");
	TRUE(st.st_blocks >= (5 * M + K64) / 512 && st.st_blocks <= (5 * M + K64) / 512 + 16);
}

const struct test tests_space[] = {
	{"fallocate", allocate},
	{"fallocate-errors", errors},
	{"fallocate-punch-zero", punch_and_zero},
	{"fallocate-punch-seek", punch_finds},
	{"space-unwritten", unwritten_is_hole},
	{NULL, NULL},
};
