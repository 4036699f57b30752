/* SPDX-License-Identifier: GPL-2.0-or-later */
/* data.c - reading, writing, seeking, copying; limits of sizes. */
#include "posix.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>

static void read_write(void)
{
	static char big[300000], got[300000];
	struct iovec v[3] = {{big, 7}, {big + 7, 70000}, {big + 70007, 13}};
	int fd = open("f", O_CREAT | O_RDWR, 0644);

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)rnd();
	EQ(read(fd, got, 10), 0);
	EQ(write(fd, big, sizeof(big)), sizeof(big));
	EQ(read(fd, got, 10), 0);
	EQ(lseek(fd, 0, SEEK_SET), 0);
	EQ(read(fd, got, sizeof(got)), sizeof(got));
	TRUE(!memcmp(big, got, sizeof(got)));
	EQ(pread(fd, got, 100, 299950), 50);
	EQ(pread(fd, got, 100, 300000), 0);
	EQ(pread(fd, got, 100, 1ll << 40), 0);
	ERR(EINVAL, pread(fd, got, 1, -1));
	ERR(EINVAL, pwrite(fd, got, 1, -1));
	EQ(pread(fd, got, 0, 0), 0);
	EQ(pwrite(fd, got, 0, 1000000), 0);
	EQ(st_of("f").st_size, 300000);
	doing("vectors");
	EQ(pwritev(fd, v, 3, 11), 70020);
	TRUE(same_bytes("f", 11, big, 70020));
	memset(got, 0, sizeof(got));
	v[0].iov_base = got;
	v[1].iov_base = got + 7;
	v[2].iov_base = got + 70007;
	EQ(preadv(fd, v, 3, 11), 70020);
	TRUE(!memcmp(big, got, 70020));
	ERR(EINVAL, syscall(SYS_readv, fd, v, -1l));
	ERR(EINVAL, syscall(SYS_writev, fd, v, IOV_MAX + 1l));
	EQ(pwritev2(fd, v, 1, 0, RWF_DSYNC), 7);
	EQ(pwritev2(fd, v, 1, 0, RWF_SYNC), 7);
	EQ(pwritev2(fd, v, 1, 0, RWF_APPEND), 7);
	EQ(st_of("f").st_size, 300007);
	doing("bad addresses");
	ERR(EFAULT, syscall(SYS_pread64, fd, 8l, 10l, 0l));
	ERR(EFAULT, syscall(SYS_pwrite64, fd, 8l, 10l, 0l));
	close(fd);
	ERR(EBADF, read(fd, got, 1));
	ERR(EBADF, write(fd, got, 1));
	ERR(EBADF, fsync(fd));
	ERR(EBADF, lseek(fd, 0, SEEK_SET));
}

static void holes_read_zero(void)
{
	static const off_t at[] = {0, 1, 511, 4095, 65535, 65536, 131071, 1 << 20, (1 << 20) + 1,
		1ll << 32, (1ll << 40) - 1, (1ll << 43) + 12345};
	char got[64], zero[64] = {0};
	int fd = open("f", O_CREAT | O_RDWR, 0644);

	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		doing("one byte at %lld", (long long)at[i]);
		OK(ftruncate(fd, 0));
		EQ(pwrite(fd, "x", 1, at[i]), 1);
		EQ(st_of("f").st_size, at[i] + 1);
		if (at[i] >= 64) {
			EQ(pread(fd, got, 64, at[i] - 64), 64);
			TRUE(!memcmp(got, zero, 64));
			EQ(pread(fd, got, 64, 0), 64);
			TRUE(!memcmp(got, zero, 64));
		}
		EQ(pread(fd, got, 64, at[i]), 1);
		EQ(got[0], 'x');
		TRUE(st_of("f").st_blocks * 512 <= 4 << 20);
	}
	close(fd);
}

/* 64 TiB is what a file may have. ext4 and tmpfs have other limits: the numbers are csvfs's alone. */
static void largest(void)
{
	const off_t max = 1ll << 46;
	char c = 0;
	int fd = open("f", O_CREAT | O_RDWR, 0644);

	if (!on_csvfs)
		return;
	EQ(pwrite(fd, "x", 1, max - 1), 1);
	EQ(st_of("f").st_size, max);
	EQ(pread(fd, &c, 1, max - 1), 1);
	EQ(c, 'x');
	EQ(lseek(fd, 0, SEEK_END), max);
	ERR(EFBIG, pwrite(fd, "x", 1, max));
	EQ(st_of("f").st_size, max);
	EQ(pread(fd, &c, 1, max), 0);
	ERR(EFBIG, ftruncate(fd, max + 1));
	ERR(EFBIG, fallocate(fd, 0, max - 4096, 8192));
	ERR(EFBIG, pwrite(fd, "x", 1, INT64_MAX - 1));
	doing("a write that reaches over the end is cut there");
	EQ(pwrite(fd, "abcd", 4, max - 2), 2);
	OK(ftruncate(fd, max));
	OK(ftruncate(fd, 0));
	EQ(st_of("f").st_blocks, 0);
	close(fd);
}

static void append_two(void)
{
	int a = open("f", O_CREAT | O_WRONLY | O_APPEND, 0644), b = open("f", O_WRONLY | O_APPEND);
	char want[600], line[8];
	pid_t pid[4];
	unsigned n = 0;
	FILE *f;

	for (int i = 0; i < 100; i++) {
		EQ(write(a, "aaa", 3), 3);
		EQ(write(b, "bbb", 3), 3);
		memcpy(want + 6 * i, "aaabbb", 6);
	}
	TRUE(same_bytes("f", 0, want, 600));
	EQ(st_of("f").st_size, 600);
	close(a);
	close(b);
	doing("four processes: no line is lost or torn");
	MUST(truncate("f", 0));
	for (int i = 0; i < 4; i++) {
		pid[i] = fork();
		if (pid[i])
			continue;
		a = open("f", O_WRONLY | O_APPEND);
		for (int k = 0; k < 100; k++) {
			if (write(a, "wxyz\n", 5) != 5)
				_exit(1);
		}
		_exit(0);
	}
	for (int i = 0; i < 4; i++)
		EQ(status_of(pid[i]), 0);
	EQ(st_of("f").st_size, 2000);
	f = fopen("f", "r");
	while (fgets(line, sizeof(line), f))
		n += !strcmp(line, "wxyz\n");
	fclose(f);
	EQ(n, 400);
}

/* Alignment: what a device of 512-byte blocks allows. */
static void direct(void)
{
	char *buf = aligned_alloc(4096, 1 << 20), *got = aligned_alloc(4096, 1 << 20);
	int fd = open("f", O_CREAT | O_RDWR | O_DIRECT, 0644), fd2;

	if (fd < 0) {
		EQ(errno, EINVAL);
		return;
	}
	for (size_t i = 0; i < 1 << 20; i++)
		buf[i] = (char)rnd();
	EQ(pwrite(fd, buf, 4096, 0), 4096);
	EQ(pwrite(fd, buf, 1 << 20, 4096), 1 << 20);
	EQ(pread(fd, got, 1 << 20, 4096), 1 << 20);
	TRUE(!memcmp(buf, got, 1 << 20));
	EQ(pwrite(fd, buf, 65536, 1 << 22), 65536);
	EQ(pread(fd, got, 65536, (1 << 22) - 65536), 65536);
	TRUE(got[0] == 0 && !memcmp(got, got + 1, 65535));
	doing("direct and not, on one file");
	fd2 = open("f", O_RDWR);
	EQ(pwrite(fd2, "0123456789", 10, 8190), 10);
	EQ(pread(fd, got, 8192, 4096), 8192);
	TRUE(!memcmp(got + 4094, "0123456789", 10));
	memset(got, 'd', 4096);
	EQ(pwrite(fd, got, 4096, 8192), 4096);
	EQ(pread(fd2, got + 4096, 10, 8190), 10);
	TRUE(!memcmp(got + 4096, "01dddddddd", 10));
	doing("end of file");
	OK(ftruncate(fd2, 10000));
	EQ(pread(fd, got, 8192, 8192), 1808);
	EQ(pread(fd, got, 4096, 12288), 0);
	close(fd);
	close(fd2);
	free(buf);
	free(got);
}

static void seeks(void)
{
	int fd = open("f", O_CREAT | O_RDWR, 0644);

	EQ(write(fd, "0123456789", 10), 10);
	EQ(lseek(fd, 3, SEEK_SET), 3);
	EQ(lseek(fd, 3, SEEK_CUR), 6);
	EQ(lseek(fd, -3, SEEK_END), 7);
	EQ(lseek(fd, 100, SEEK_END), 110);
	EQ(st_of("f").st_size, 10);
	ERR(EINVAL, lseek(fd, -1, SEEK_SET));
	ERR(EINVAL, lseek(fd, -11, SEEK_END));
	ERR(EINVAL, lseek(fd, 0, 99));
	EQ(lseek(fd, 0, SEEK_CUR), 110);
	doing("data and holes");
	EQ(lseek(fd, 0, SEEK_DATA), 0);
	EQ(lseek(fd, 9, SEEK_DATA), 9);
	EQ(lseek(fd, 0, SEEK_HOLE), 10);
	ERR(ENXIO, lseek(fd, 10, SEEK_DATA));
	ERR(ENXIO, lseek(fd, 10, SEEK_HOLE));
	ERR(ENXIO, lseek(fd, 1000, SEEK_HOLE));
	ERR(ENXIO, lseek(fd, -1, SEEK_DATA));
	OK(ftruncate(fd, 0));
	ERR(ENXIO, lseek(fd, 0, SEEK_DATA));
	ERR(ENXIO, lseek(fd, 0, SEEK_HOLE));
	OK(ftruncate(fd, 10 << 20));
	ERR(ENXIO, lseek(fd, 0, SEEK_DATA));
	EQ(lseek(fd, 0, SEEK_HOLE), 0);
	EQ(lseek(fd, 12345, SEEK_HOLE), 12345);
	EQ(pwrite(fd, "x", 1, 5 << 20), 1);
	EQ(pwrite(fd, "x", 1, 8 << 20), 1);
	EQ(lseek(fd, 0, SEEK_HOLE), 0);
	EQ(lseek(fd, 0, SEEK_DATA), 5 << 20);
	TRUE(lseek(fd, 5 << 20, SEEK_HOLE) > 5 << 20);
	TRUE(lseek(fd, 5 << 20, SEEK_HOLE) <= 8 << 20);
	EQ(lseek(fd, 6 << 20, SEEK_DATA), 8 << 20);
	ERR(ENXIO, lseek(fd, 9 << 20, SEEK_DATA));
	EQ(lseek(fd, 9 << 20, SEEK_HOLE), 9 << 20);
	close(fd);
}

static void copies(void)
{
	static char big[200000];
	loff_t in = 100, out = 5;
	int a = open("a", O_CREAT | O_RDWR, 0644), b = open("b", O_CREAT | O_RDWR, 0644), d;
	ssize_t n, got = 0;

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)rnd();
	EQ(write(a, big, sizeof(big)), sizeof(big));
	while (got < 150000 &&
		(n = copy_file_range(a, &in, b, &out, (size_t)(150000 - got), 0)) > 0)
		got += n;
	EQ(got, 150000);
	EQ(in, 150100);
	EQ(out, 150005);
	TRUE(same_bytes("b", 5, big + 100, 150000));
	TRUE(same_bytes("b", 0, "\0\0\0\0\0", 5));
	in = 200000;
	EQ(copy_file_range(a, &in, b, &out, 100, 0), 0);
	in = 0;
	ERR(EINVAL, copy_file_range(a, &in, b, &out, 100, 1));
	out = 50;
	ERR(EINVAL, copy_file_range(a, &in, a, &out, 100, 0));
	d = open(".", O_RDONLY);
	ERR(EISDIR, copy_file_range(d, NULL, b, NULL, 100, 0));
	close(d);
	d = open("a", O_RDONLY);
	ERR(EBADF, copy_file_range(a, NULL, d, NULL, 100, 0));
	close(d);
	d = open("b", O_WRONLY | O_APPEND);
	ERR(EBADF, copy_file_range(a, NULL, d, NULL, 100, 0));
	close(d);
	doing("sendfile");
	MUST(ftruncate(b, 0));
	MUST((int)lseek(b, 0, SEEK_SET));
	in = 7;
	EQ(sendfile(b, a, &in, 1000), 1000);
	TRUE(same_bytes("b", 0, big + 7, 1000));
	doing("advice");
	EQ(posix_fadvise(a, 0, 0, POSIX_FADV_SEQUENTIAL), 0);
	EQ(posix_fadvise(a, 0, 4096, POSIX_FADV_WILLNEED), 0);
	EQ(posix_fadvise(a, 0, 0, POSIX_FADV_DONTNEED), 0);
	EQ(posix_fadvise(a, 0, 0, 99), EINVAL);
	OK(readahead(a, 0, 65536));
	OK(sync_file_range(a, 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
	close(a);
	close(b);
}

/* RLIMIT_FSIZE: a write is cut there; behind it SIGXFSZ and EFBIG. */
static void size_limit(void)
{
	struct rlimit rl = {10000, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
	static char buf[20000];
	int fd = open("f", O_CREAT | O_RDWR, 0644);
	pid_t pid;

	signal(SIGXFSZ, SIG_IGN);
	MUST(setrlimit(RLIMIT_FSIZE, &rl));
	EQ(write(fd, buf, 20000), 10000);
	ERR(EFBIG, write(fd, buf, 1));
	ERR(EFBIG, pwrite(fd, buf, 1, 10000));
	EQ(pwrite(fd, buf, 100, 9950), 50);
	ERR(EFBIG, ftruncate(fd, 10001));
	OK(ftruncate(fd, 10000));
	ERR(EFBIG, truncate("f", 20000));
	ERR(EFBIG, fallocate(fd, 0, 0, 20000));
	EQ(st_of("f").st_size, 10000);
	MUST(setrlimit(RLIMIT_FSIZE, &none));
	signal(SIGXFSZ, SIG_DFL);
	pid = fork();
	if (!pid) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
		setrlimit(RLIMIT_FSIZE, &rl);
		(void)!pwrite(fd, buf, 1, 10000);
		_exit(0);
	}
	TRUE(WIFSIGNALED(status_of(pid)));
	close(fd);
}

const struct test tests_data[] = {
	{"data-read-write", read_write},
	{"data-holes", holes_read_zero},
	{"data-largest", largest},
	{"data-append", append_two},
	{"data-direct", direct},
	{"data-seeks", seeks},
	{"data-copies", copies},
	{"data-size-limit", size_limit},
	{NULL, NULL},
};
