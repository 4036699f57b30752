/* SPDX-License-Identifier: GPL-2.0-or-later */
/* call.c - calls that are seldom used, and what they say to arguments that mean nothing. */
#include "posix.h"

#include <linux/aio_abi.h>
#include <linux/openat2.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

/* Not known to the compiler, which would warn. */
static void *volatile nowhere = (void *)8;
static volatile int minus_one = -1, too_many = 2000;
static char buf[1 << 20] __attribute__((aligned(4096)));

static int open_new(const char *name, int flags)
{
	int fd = open(name, O_CREAT | O_RDWR | flags, 0644);

	must(fd >= 0, "open");
	return fd;
}

static void copies(void)
{
	int f = open_new("f", 0), g = open_new("g", 0), p[2], d = open(".", O_RDONLY);
	int to_end = open("g", O_WRONLY | O_APPEND), ro = open("g", O_RDONLY), wo = open("f", O_WRONLY);
	loff_t a = 0, b = 100;

	MUST(pipe(p));
	memset(buf, 'a', sizeof(buf));
	EQ(write(f, buf, 100000), 100000);
	doing("copy_file_range");
	ERR(EINVAL, copy_file_range(f, &a, f, &b, 200, 0));
	EQ(copy_file_range(f, &a, f, &b, 100, 0), 100);
	ERR(EINVAL, copy_file_range(f, &a, g, &b, 1, 1));
	EQ(copy_file_range(f, &(loff_t){200000}, g, &b, 100, 0), 0);
	EQ(copy_file_range(f, &(loff_t){99990}, g, &b, 100, 0), 10);
	ERR(EISDIR, copy_file_range(d, NULL, g, NULL, 10, 0));
	ERR(EISDIR, copy_file_range(f, NULL, d, NULL, 10, 0));
	ERR(EINVAL, copy_file_range(p[0], NULL, g, NULL, 10, 0));
	ERR(EINVAL, copy_file_range(f, NULL, p[1], NULL, 10, 0));
	ERR(EBADF, copy_file_range(f, NULL, to_end, NULL, 10, 0));
	ERR(EBADF, copy_file_range(f, NULL, ro, NULL, 10, 0));
	ERR(EBADF, copy_file_range(wo, NULL, g, NULL, 10, 0));
	doing("splice, vmsplice, sendfile");
	MUST(ftruncate(g, 0));
	a = 0;
	EQ(splice(f, &a, p[1], NULL, 4000, 0), 4000);
	EQ(a, 4000);
	b = 7;
	EQ(splice(p[0], NULL, g, &b, 4000, 0), 4000);
	EQ(b, 4007);
	EQ(st_of("g").st_size, 4007);
	ERR(EINVAL, splice(f, NULL, g, NULL, 10, 0));
	EQ(vmsplice(p[1], &(struct iovec){buf, 3000}, 1, 0), 3000);
	b = 5000;
	EQ(splice(p[0], NULL, g, &b, 3000, 0), 3000);
	EQ(st_of("g").st_size, 8000);
	TRUE(same_bytes("g", 5000, buf, 3000));
	a = 90000;
	MUST((int)lseek(g, 0, SEEK_SET));
	EQ(sendfile(g, f, &a, 50000), 10000);
	EQ(a, 100000);
	EQ(st_of("g").st_size, 10000);
	ERR(EINVAL, sendfile(to_end, f, &a, 100));
	for (int i = 0; i < 2; i++)
		close(p[i]);
	close(f), close(g), close(d), close(to_end), close(ro), close(wo);
}

static void vectors(void)
{
	struct iovec v[3] = {{buf, 10}, {buf, 0}, {buf, 20}};
	int f = open_new("f", 0), d = open(".", O_RDONLY);

	EQ(pwritev2(f, v, 3, 0, 0), 30);
	EQ(pwritev2(f, v, 3, 0, RWF_APPEND), 30);
	EQ(st_of("f").st_size, 60);
	EQ(lseek(f, 0, SEEK_CUR), 0);
	EQ(pwritev2(f, v, 3, -1, RWF_DSYNC), 30);
	EQ(lseek(f, 0, SEEK_CUR), 30);
	EQ(pwritev2(f, v, 3, 0, RWF_SYNC | RWF_HIPRI), 30);
	ERR(EOPNOTSUPP, preadv2(f, v, 3, 0, 1 << 20));
	ERR(EINVAL, preadv(f, v, minus_one, 0));
	ERR(EINVAL, pwritev(f, v, too_many, 0));
	ERR(EINVAL, preadv(f, v, 3, -5));
	EQ(readv(f, v, 0), 0);
	ERR(EINVAL, pwrite(f, buf, 10, -1));
	ERR(EINVAL, pread(f, buf, 10, -1));
	ERR(EFAULT, pread(f, nowhere, 10, 0));
	EQ(pread(f, buf, 0, 0), 0);
	ERR(EFAULT, write(f, nowhere, 10));
	EQ(st_of("f").st_size, 60);
	EQ(lseek(f, 0, SEEK_CUR), 30);
	ERR(EISDIR, read(d, buf, 10));
	ERR(EBADF, write(d, buf, 1));
	ERR(EFBIG, pwrite(f, buf, 1, INT64_MAX - 15));
	EQ(st_of("f").st_size, 60);
	close(f), close(d);
}

static long aio(aio_context_t ctx, struct iocb *cb)
{
	struct io_event ev = {.res = -1};

	if (!OK(syscall(SYS_io_submit, ctx, 1, &cb)))
		return -1;
	EQ(syscall(SYS_io_getevents, ctx, 1, 1, &ev, NULL), 1);
	return (long)ev.res;
}

static void asynchronous(void)
{
	int f = open_new("f", O_DIRECT);
	struct iocb cb = {.aio_fildes = (uint32_t)f, .aio_buf = (uintptr_t)buf, .aio_nbytes = 8192};
	aio_context_t ctx = 0;

	memset(buf, 'q', 8192);
	OK(syscall(SYS_io_setup, 8, &ctx));
	cb.aio_lio_opcode = IOCB_CMD_PWRITE;
	cb.aio_offset = 8192;
	EQ(aio(ctx, &cb), 8192);
	EQ(st_of("f").st_size, 16384);
	TRUE(same_bytes("f", 8192, buf, 8192));
	cb.aio_lio_opcode = IOCB_CMD_PREAD;
	EQ(aio(ctx, &cb), 8192);
	cb.aio_offset = 12288;
	EQ(aio(ctx, &cb), 4096);
	cb.aio_offset = 1 << 20;
	EQ(aio(ctx, &cb), 0);
	cb = (struct iocb){.aio_fildes = (uint32_t)f, .aio_lio_opcode = IOCB_CMD_FSYNC};
	EQ(aio(ctx, &cb), 0);
	cb.aio_lio_opcode = IOCB_CMD_FDSYNC;
	EQ(aio(ctx, &cb), 0);
	OK(syscall(SYS_io_destroy, ctx));
	close(f);
}

static long openat2_(const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
	struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
	long fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));

	if (fd >= 0)
		close((int)fd);
	return fd;
}

static void resolving(void)
{
	struct statx sx;

	put("f", "12345");
	MUST(symlink("f", "s"));
	OK(openat2_("f", O_RDONLY, 0, RESOLVE_BENEATH));
	OK(openat2_("s", O_RDONLY, 0, RESOLVE_BENEATH));
	ERR(EXDEV, openat2_("../x", O_RDONLY, 0, RESOLVE_BENEATH));
	OK(openat2_("f", O_RDONLY, 0, RESOLVE_NO_XDEV));
	ERR(ELOOP, openat2_("s", O_RDONLY, 0, RESOLVE_NO_SYMLINKS));
	OK(openat2_("/f", O_RDONLY, 0, RESOLVE_IN_ROOT));
	ERR(EINVAL, openat2_("f", O_RDONLY, 0644, 0));
	ERR(EINVAL, openat2_("g", O_CREAT | O_RDWR, 01777777, 0));
	TRUE(!exists("g"));
	doing("statx");
	OK(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC, STATX_ALL, &sx));
	EQ(sx.stx_mask & (STATX_BASIC_STATS | STATX_BTIME), STATX_BASIC_STATS | STATX_BTIME);
	EQ(sx.stx_size, 5);
	OK(statx(AT_FDCWD, "f", AT_STATX_DONT_SYNC, STATX_ALL, &sx));
	ERR(EINVAL, statx(AT_FDCWD, "f", AT_STATX_DONT_SYNC | AT_STATX_FORCE_SYNC, STATX_ALL, &sx));
	ERR(EINVAL, statx(AT_FDCWD, "f", 0x10000, STATX_ALL, &sx));
	ERR(EINVAL, statx(AT_FDCWD, "f", 0, 0x80000000u, &sx));
	ERR(ENOENT, statx(AT_FDCWD, "", 0, STATX_ALL, &sx));
	ERR(EFAULT, statx(AT_FDCWD, "f", 0, STATX_ALL, nowhere));
}

static void descriptors(void)
{
	int f = open_new("f", 0), d = open(".", O_RDONLY), ro;

	OK(fcntl(f, F_SETLEASE, F_WRLCK));
	EQ(fcntl(f, F_GETLEASE), F_WRLCK);
	OK(fcntl(f, F_SETLEASE, F_UNLCK));
	ro = open("f", O_RDONLY);
	ERR(EAGAIN, fcntl(ro, F_SETLEASE, F_RDLCK)); /* f is open for writing */
	OK(fcntl(f, F_SETFL, O_APPEND));
	EQ(pwrite(f, "x", 1, 10), 1);
	EQ(st_of("f").st_size, 1);
	OK(fcntl(f, F_SETFL, 0));
	EQ(pwrite(f, "x", 1, 10), 1);
	EQ(st_of("f").st_size, 11);
	OK(fcntl(f, F_SETFL, O_DIRECT));
	OK(fcntl(f, F_SETFL, 0));
	doing("what is mapped must be open for it");
	TRUE(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, ro, 0) == MAP_FAILED && errno == EACCES);
	TRUE(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, d, 0) == MAP_FAILED && errno == ENODEV);
	TRUE(mmap(NULL, 4096, PROT_READ, MAP_SHARED, ro, 100) == MAP_FAILED && errno == EINVAL);
	doing("what only a file has");
	ERR(EINVAL, ftruncate(d, 0));
	ERR(EINVAL, ftruncate(ro, 0));
	ERR(EINVAL, ftruncate(f, -1));
	ERR(EINVAL, lseek(f, 0, 9));
	EQ(posix_fadvise(f, 0, 0, 77), EINVAL);
	ERR(EINVAL, readahead(d, 0, 100));
	ERR(EINVAL, sync_file_range(f, -1, 10, 0));
	OK(fdatasync(d));
	close(f), close(d), close(ro);
}

static void limited(void)
{
	struct rlimit was, limit;
	int f = open_new("f", 0);

	signal(SIGXFSZ, SIG_IGN);
	MUST(getrlimit(RLIMIT_FSIZE, &was));
	limit = (struct rlimit){150000, was.rlim_max};
	MUST(setrlimit(RLIMIT_FSIZE, &limit));
	EQ(pwrite(f, buf, 100000, 100000), 50000);
	ERR(EFBIG, pwrite(f, buf, 10, 150000));
	EQ(pwrite(f, buf, 10, 149995), 5);
	ERR(EFBIG, ftruncate(f, 150001));
	ERR(EFBIG, fallocate(f, 0, 0, 150001));
	EQ(st_of("f").st_size, 150000);
	OK(ftruncate(f, 1));
	OK(ftruncate(f, 150000));
	MUST(setrlimit(RLIMIT_FSIZE, &was));
	signal(SIGXFSZ, SIG_DFL);
	close(f);
}

const struct test tests_call[] = {
	{"call-copies", copies},
	{"call-vectors", vectors},
	{"call-aio", asynchronous},
	{"call-resolving", resolving},
	{"call-descriptors", descriptors},
	{"call-limited", limited},
	{NULL, NULL},
};
