/* SPDX-License-Identifier: GPL-2.0-or-later */
/* map.c - mapped memory, and what read and write see of it. */
#include "posix.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static char *map(int fd, size_t len, int prot, int flags)
{
	char *p = mmap(NULL, len, prot, flags, fd, 0);

	must(p != MAP_FAILED, "mmap");
	return p;
}

static void shared(void)
{
	int fd = open("f", O_CREAT | O_RDWR, 0644), fd2;
	char *p, *q, c[16];
	pid_t pid;

	if (!fuse_66) {
		close(fd);
		return;
	}
	OK(ftruncate(fd, 100000));
	EQ(pwrite(fd, "start", 5, 0), 5);
	p = map(fd, 100000, PROT_READ | PROT_WRITE, MAP_SHARED);
	TRUE(!memcmp(p, "start", 6));
	doing("a store is seen by read");
	memcpy(p + 5000, "stored", 6);
	EQ(pread(fd, c, 6, 5000), 6);
	TRUE(!memcmp(c, "stored", 6));
	doing("a write is seen by the mapping");
	EQ(pwrite(fd, "written", 7, 9000), 7);
	TRUE(!memcmp(p + 9000, "written", 7));
	EQ(pwrite(fd, "written", 7, 4093), 7);
	TRUE(!memcmp(p + 4093, "written", 7));
	TRUE(!memcmp(p + 5000, "stored", 6));
	doing("another descriptor");
	fd2 = open("f", O_RDWR);
	EQ(pwrite(fd2, "second", 6, 20000), 6);
	TRUE(!memcmp(p + 20000, "second", 6));
	p[30000] = 'P';
	EQ(pread(fd2, c, 1, 30000), 1);
	EQ(c[0], 'P');
	doing("another mapping, another process");
	q = map(fd2, 100000, PROT_READ | PROT_WRITE, MAP_SHARED);
	p[40000] = 'Q';
	EQ(q[40000], 'Q');
	pid = fork();
	if (!pid) {
		q[50000] = 'C';
		_exit(0);
	}
	status_of(pid);
	EQ(p[50000], 'C');
	OK(msync(p, 100000, MS_SYNC));
	OK(msync(p, 100000, MS_ASYNC));
	ERR(EINVAL, msync(p + 1, 100, MS_SYNC));
	close(fd);
	doing("after close, and after munmap");
	p[60000] = 'L';
	OK(munmap(p, 100000));
	OK(munmap(q, 100000));
	EQ(pread(fd2, c, 1, 60000), 1);
	EQ(c[0], 'L');
	OK(fsync(fd2));
	close(fd2);
	TRUE(same_bytes("f", 0, "start", 6));
	TRUE(same_bytes("f", 50000, "C", 1));
}

static void truncated(void)
{
	int fd = open("f", O_CREAT | O_RDWR, 0644);
	char *p, c = 0;
	pid_t pid;

	if (!fuse_66) {
		close(fd);
		return;
	}
	OK(ftruncate(fd, 20000));
	p = map(fd, 65536, PROT_READ | PROT_WRITE, MAP_SHARED);
	memset(p, 'x', 20000);
	doing("behind the end, within the last page: zeros, that nobody keeps");
	EQ(p[20000], 0);
	p[20001] = 'y';
	OK(msync(p, 20480, MS_SYNC));
	EQ(st_of("f").st_size, 20000);
	doing("cut and grown again: zeros");
	OK(ftruncate(fd, 5000));
	OK(ftruncate(fd, 20000));
	EQ(p[4999], 'x');
	EQ(p[5000], 0);
	EQ(p[10000], 0);
	EQ(pread(fd, &c, 1, 10000), 1);
	EQ(c, 0);
	doing("SIGBUS behind the last page");
	pid = fork();
	if (!pid) {
		signal(SIGBUS, SIG_DFL);
		c = p[40000];
		_exit(c);
	}
	EQ(WTERMSIG(status_of(pid)), SIGBUS);
	munmap(p, 65536);
	close(fd);
}

static void private_(void)
{
	int fd = open("f", O_CREAT | O_RDWR, 0644), ro, wo;
	char *p;

	EQ(write(fd, "0123456789", 10), 10);
	p = map(fd, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	TRUE(!memcmp(p, "0123456789", 10));
	p[0] = 'x';
	TRUE(same_bytes("f", 0, "0", 1));
	munmap(p, 4096);
	ro = open("f", O_RDONLY);
	if (fuse_66) {
		p = map(ro, 4096, PROT_READ, MAP_SHARED);
		EQ(p[3], '3');
		munmap(p, 4096);
	}
	p = map(ro, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	p[3] = 'y';
	munmap(p, 4096);
	ERR(EACCES, (long)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0));
	wo = open("f", O_WRONLY);
	ERR(EACCES, (long)mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, wo, 0));
	ERR(EINVAL, (long)mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 100));
	ERR(EINVAL, (long)mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 0));
	close(ro);
	close(wo);
	ro = open(".", O_RDONLY);
	ERR(ENODEV, (long)mmap(NULL, 4096, PROT_READ, MAP_SHARED, ro, 0));
	close(ro);
	close(fd);
}

static void punched(void)
{
	int fd = open("f", O_CREAT | O_RDWR, 0644);
	static char buf[400000];
	char *p;

	if (!fuse_66) {
		close(fd);
		return;
	}
	memset(buf, 'x', sizeof(buf));
	EQ(write(fd, buf, sizeof(buf)), sizeof(buf));
	p = map(fd, sizeof(buf), PROT_READ | PROT_WRITE, MAP_SHARED);
	EQ(p[200000], 'x');
	p[200001] = 'y';
	OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100000, 200000));
	EQ(p[99999], 'x');
	EQ(p[100000], 0);
	EQ(p[200001], 0);
	EQ(p[299999], 0);
	EQ(p[300000], 'x');
	p[150000] = 'z';
	OK(msync(p, sizeof(buf), MS_SYNC));
	TRUE(same_bytes("f", 149999, "\0z\0", 3));
	munmap(p, sizeof(buf));
	close(fd);
}

static void unlinked(void)
{
	int fd = open("f", O_CREAT | O_RDWR, 0644);
	char *p;

	if (!fuse_66) {
		close(fd);
		return;
	}
	OK(ftruncate(fd, 8192));
	p = map(fd, 8192, PROT_READ | PROT_WRITE, MAP_SHARED);
	close(fd);
	OK(unlink("f"));
	memset(p, 'u', 8192);
	OK(msync(p, 8192, MS_SYNC));
	EQ(p[8191], 'u');
	OK(munmap(p, 8192));
}

/* Direct I/O whose memory is the file itself, or another one: pages come and go while the call holds them. */
static void direct(void)
{
	int fd = open("f", O_CREAT | O_RDWR | O_DIRECT, 0644),
	    fd2 = open("g", O_CREAT | O_RDWR, 0644);
	char *buf = aligned_alloc(4096, 65536), *p, *q;

	if (!fuse_66 || fd < 0) {
		close(fd);
		close(fd2);
		free(buf);
		return;
	}
	for (int i = 0; i < 65536; i++)
		buf[i] = (char)rnd();
	EQ(pwrite(fd, buf, 65536, 0), 65536);
	OK(ftruncate(fd2, 65536));
	p = map(fd, 65536, PROT_READ | PROT_WRITE, MAP_SHARED);
	q = map(fd2, 65536, PROT_READ | PROT_WRITE, MAP_SHARED);
	alarm(60);
	doing("a file is read into its own mapping");
	EQ(pread(fd, p, 65536, 0), 65536);
	TRUE(!memcmp(p, buf, 65536));
	doing("the half of a file is written from the other");
	EQ(pwrite(fd, p, 32768, 32768), 32768);
	TRUE(!memcmp(p + 32768, buf, 32768));
	doing("from the mapping of another file");
	EQ(pwrite(fd2, p, 65536, 0), 65536);
	TRUE(same_bytes("g", 0, buf, 32768));
	doing("a hole's pages are written into the hole");
	OK(ftruncate(fd2, 0));
	OK(ftruncate(fd2, 65536));
	EQ(pwrite(fd2, q, 4096, 8192), 4096);
	memset(buf, 0, 65536);
	TRUE(same_bytes("g", 0, buf, 65536));
	doing("what was stored there, and not yet written");
	memset(p, 's', 4096);
	memset(buf, 's', 4096);
	EQ(pwrite(fd2, p, 4096, 12288), 4096);
	TRUE(same_bytes("g", 12288, buf, 4096));
	alarm(0);
	munmap(p, 65536);
	munmap(q, 65536);
	close(fd);
	close(fd2);
	free(buf);
}

const struct test tests_map[] = {
	{"map-shared", shared},
	{"map-truncated", truncated},
	{"map-private", private_},
	{"map-punched", punched},
	{"map-unlinked", unlinked},
	{"map-direct", direct},
	{NULL, NULL},
};
