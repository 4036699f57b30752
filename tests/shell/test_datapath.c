/* SPDX-License-Identifier: GPL-2.0-or-later */
/* datapath.c and fuse_ops.c through the kernel, with a core that makes trouble (fakecore.h). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "csvfs/base/prng.h"
#include "csvfs/datapath_int.h"
#include "csvfs/dbuf.h"
#include "csvfs/fuse_ops.h"
#include "fakecore.h"
#include "tests/posix/kernel.h"

#include "aio.h" /* last: it includes a BLOCK_SIZE of its own */
#include <sys/mount.h>

#define IMAGE_BYTES (24u << 20)
#define FILE_BYTES (16u << 20)
#define CLUSTER 65536u

static char dir[64], image[96], mnt[96], file[128];

static int make_place(void **state)
{
	int fd;

	(void)state;
	strcpy(dir, "/tmp/csvfs-dp.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(image, sizeof(image), "%s/image", dir);
	snprintf(mnt, sizeof(mnt), "%s/mnt", dir);
	snprintf(file, sizeof(file), "%s/file", mnt);
	fd = open(image, O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		return -1;
	/* What is there from before must never be seen. */
	for (unsigned i = 0; i < IMAGE_BYTES / CLUSTER; i++) {
		static uint8_t old[CLUSTER];

		memset(old, 0xee, sizeof(old));
		if (write(fd, old, sizeof(old)) != (ssize_t)sizeof(old))
			return -1;
	}
	close(fd);
	return mkdir(mnt, 0700);
}

static int remove_place(void **state)
{
	(void)state;
	/*
	 * Of a test that failed. MNT_FORCE ends the connection: files that are still open would be flushed when this
	 * process ends, by threads of its own that are no more.
	 */
	(void)umount2(mnt, MNT_FORCE | MNT_DETACH);
	rmdir(mnt);
	unlink(image);
	rmdir(dir);
	return 0;
}

static struct fakecore_config config(void)
{
	return (struct fakecore_config){.url = image, .image = image, .mountpoint = mnt,
		.file_bytes = FILE_BYTES, .cluster_bytes = CLUSTER, .threads = 1};
}

static struct fakecore *start(const struct fakecore_config *cfg)
{
	struct fakecore *c = fakecore_start(cfg);

	assert_non_null(c);
	return c;
}

static void stop(struct fakecore *c)
{
	fakecore_stop(c);
	assert_int_equal(dbuf_live_bytes(), 0); /* every buffer came back */
}

/* ------------------------------------------------------------------ many writers */

/*
 * Each writer owns the stripes of STRIPE bytes whose number is its own modulo WRITERS: no stripe ends
 * where a block or cluster ends, so that writers meet in nearly every block.
 */
#define WRITERS 6
#define STRIPE 3001u

struct writer {
	pthread_t id;
	unsigned nr;
	int fd;
	uint32_t count;
	uint64_t span; /* bytes of the file that are used */
	uint8_t *shadow; /* of the whole span; only the own stripes count */
	char error[128];
};

static void complain(struct writer *w, const char *what, uint64_t off, long got)
{
	if (!w->error[0])
		snprintf(w->error, sizeof(w->error), "writer %u: %s at %llu: %ld (%s)", w->nr, what,
			(unsigned long long)off, got, got < 0 ? strerror(errno) : "");
}

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	struct prng r = {w->nr + 1};
	uint8_t buf[STRIPE];

	for (uint32_t i = 0; i < w->count && !w->error[0]; i++) {
		uint64_t stripes = w->span / STRIPE / WRITERS;
		uint64_t at = (prng_below(&r, stripes) * WRITERS + w->nr) * STRIPE;
		uint32_t from = (uint32_t)prng_below(&r, STRIPE - 1);
		uint32_t len = 1 + (uint32_t)prng_below(&r, STRIPE - from);
		ssize_t n;

		if (prng_below(&r, 2)) {
			memset(buf, (int)(1 + prng_below(&r, 200)), len);
			n = pwrite(w->fd, buf, len, (off_t)(at + from));
			if (n != (ssize_t)len)
				complain(w, "write", at + from, n);
			memcpy(w->shadow + at + from, buf, len);
			continue;
		}
		memset(buf, 0xdd, len);
		n = pread(w->fd, buf, len, (off_t)(at + from));
		for (ssize_t k = 0; k < (ssize_t)len; k++) {
			/* Behind the end: never written by us. */
			if (k >= n ? w->shadow[at + from + k] != 0
				   : buf[k] != w->shadow[at + from + k])
				complain(w, "read differs", at + from + k, n);
		}
	}
	return NULL;
}

static void check_all(int fd, struct writer *w, uint64_t span)
{
	uint8_t *all = malloc(span);
	ssize_t n = pread(fd, all, span, 0);

	assert_true(n > 0);
	for (uint64_t b = 0; b < (uint64_t)n; b++) {
		uint64_t stripe = b / STRIPE;
		uint8_t want = w[stripe % WRITERS].shadow[b];

		if (stripe / WRITERS < span / STRIPE / WRITERS && all[b] != want) {
			fprintf(stderr, "byte %llu is %u, not %u\n", (unsigned long long)b, all[b], want);
			fail();
		}
	}
	free(all);
}

static void many_writers(struct fakecore_config cfg, uint32_t count)
{
	struct fakecore *c = start(&cfg);
	struct writer w[WRITERS] = {0};
	uint64_t span = 6u << 20;
	int fd = open(file, O_RDWR);

	assert_true(fd >= 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){.nr = i, .fd = fd, .count = count, .span = span,
			.shadow = calloc(1, span)};
		assert_int_equal(pthread_create(&w[i].id, NULL, writer_main, &w[i]), 0);
	}
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_join(w[i].id, NULL);
		if (w[i].error[0])
			fail_msg("%s", w[i].error);
	}
	check_all(fd, w, span);
	for (unsigned i = 0; i < WRITERS; i++)
		free(w[i].shadow);
	close(fd);
	stop(c);
}

static void writers_that_meet_in_blocks_do_not_harm_each_other(void **state)
{
	many_writers(config(), 2000);
}

static void with_several_data_threads_too(void **state)
{
	struct fakecore_config cfg = config();

	cfg.threads = 3;
	many_writers(cfg, 2000);
}

static void with_a_closed_gate_all_goes_through_the_core(void **state)
{
	struct fakecore_config cfg = config();

	cfg.closed_gate = true;
	many_writers(cfg, 500);
}

static void gate_that_flaps_recalls_and_lost_sessions_are_not_seen(void **state)
{
	struct fakecore_config cfg = config();

	cfg.flap_ms = 20;
	cfg.recall_ms = 30;
	cfg.reopen_ms = 70;
	cfg.threads = 2;
	many_writers(cfg, 2000);
}

static void writes_whose_outcome_is_lost_are_not_seen(void **state)
{
	struct fakecore_config cfg = config();

	cfg.fault = "lose=50";
	cfg.recall_ms = 50;
	many_writers(cfg, 500);
}

/* ------------------------------------------------------------------ one by one */

static void reads_and_writes_of_any_size_and_place(void **state)
{
	struct fakecore_config cfg = config();
	struct fakecore *c = start(&cfg);
	uint32_t len = (5u << 20) + 777;
	uint8_t *data = malloc(len), *back = malloc(len + 100);
	struct prng r = {9};
	int fd = open(file, O_RDWR);

	for (uint32_t i = 0; i < len; i++)
		data[i] = (uint8_t)prng_u64(&r);
	/* In pieces that fit nothing, with a buffer that is aligned to nothing. */
	for (uint32_t at = 0, n; at < len; at += n) {
		n = 1 + (uint32_t)prng_below(&r, 1500000);
		n = n < len - at ? n : len - at;
		assert_int_equal(pwrite(fd, data + at, n, 333 + at), n);
	}
	assert_int_equal(fakecore_size(c), 333 + len);
	assert_int_equal(pread(fd, back, len + 100, 333), len);
	assert_memory_equal(data, back, len);
	assert_int_equal(pread(fd, back, 333, 0), 333);
	for (int i = 0; i < 333; i++)
		assert_int_equal(back[i], 0);
	close(fd);
	free(data);
	free(back);
	stop(c);
}

static void truncated_bytes_do_not_come_back(void **state)
{
	struct fakecore_config cfg = config();
	struct fakecore *c = start(&cfg);
	int fd = open(file, O_RDWR);
	uint8_t buf[8192];
	struct stat st;

	memset(buf, 7, sizeof(buf));
	assert_int_equal(pwrite(fd, buf, 8192, 0), 8192);
	assert_int_equal(ftruncate(fd, 100), 0);
	assert_int_equal(ftruncate(fd, 300000), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 300000);
	assert_int_equal(pread(fd, buf, 8192, 0), 8192);
	assert_int_equal(buf[99], 7);
	for (int i = 100; i < 8192; i++)
		assert_int_equal(buf[i], 0);
	assert_int_equal(pread(fd, buf, 8192, 299999), 1);
	assert_int_equal(buf[0], 0);
	close(fd);
	stop(c);
}

static void appends_follow_each_other(void **state)
{
	struct fakecore_config cfg = config();
	struct fakecore *c = start(&cfg);
	int a = open(file, O_WRONLY | O_APPEND), b = open(file, O_WRONLY | O_APPEND);
	int fd = open(file, O_RDONLY);
	char line[16];

	for (int i = 0; i < 200; i++) {
		int n = snprintf(line, sizeof(line), "%06d\n", i);

		assert_int_equal(write(i % 3 ? a : b, line, (size_t)n), n);
	}
	assert_int_equal(fakecore_size(c), 200 * 7);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(read(fd, line, 7), 7);
		line[7] = 0;
		assert_int_equal(atoi(line), i);
	}
	assert_int_equal(read(fd, line, 7), 0);
	close(a);
	close(b);
	close(fd);
	stop(c);
}

/* git, sqlite and others map files shared; the library alone would refuse that with direct I/O. */
static void file_can_be_mapped_shared(void **state)
{
	struct fakecore_config cfg = config();
	struct fakecore *c;
	char buf[16] = {0};
	char *p;
	int fd;

	if (!kernel_has_66())
		skip();
	c = start(&cfg);
	fd = open(file, O_RDWR);
	assert_int_equal(ftruncate(fd, 100000), 0);
	p = mmap(NULL, 100000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(p != MAP_FAILED);
	assert_int_equal(p[5000], 0);
	memcpy(p + 5000, "through a map", 14);
	assert_int_equal(msync(p, 100000, MS_SYNC), 0);
	assert_int_equal(munmap(p, 100000), 0);
	assert_int_equal(pread(fd, buf, 14, 5000), 14);
	assert_string_equal(buf, "through a map");
	close(fd);
	stop(c);
}

static void times_of_writes_in_place_show_at_once(void **state)
{
	struct fakecore_config cfg = config();
	struct fakecore *c;
	struct stat a, b;
	char buf[512] = "x";
	int fd;

	cfg.written = true;
	c = start(&cfg);
	fd = open(file, O_RDWR);
	assert_int_equal(pwrite(fd, buf, 512, 0), 512);
	assert_int_equal(fstat(fd, &a), 0);
	for (int i = 0; i < 50; i++) {
		usleep(2000);
		assert_int_equal(pwrite(fd, buf, 512, 512 * i), 512);
	}
	assert_int_equal(fstat(fd, &b), 0);
	assert_true(b.st_mtim.tv_sec > a.st_mtim.tv_sec ||
		    (b.st_mtim.tv_sec == a.st_mtim.tv_sec && b.st_mtim.tv_nsec > a.st_mtim.tv_nsec));
	assert_true(fakecore_count(c, EV_TOUCHED) <= 2);
	assert_int_equal(fsync(fd), 0);
	assert_true(fakecore_count(c, EV_TOUCHED) >= 2); /* fsync makes the last one known */
	close(fd);
	stop(c);
}

static void *one_write(void *arg)
{
	static __thread char buf[4096] __attribute__((aligned(4096)));
	int *args = arg;

	assert_int_equal(pwrite(args[0], buf, 4096, args[1] * 4096), 4096);
	return NULL;
}

/* Each virtual disk has one queue of writes if the kernel thinks that they must go one by one. */
static void direct_writes_of_one_file_run_side_by_side(void **state)
{
	struct fakecore_config cfg = config();
	struct timespec t0, t1;
	struct fakecore *c;
	pthread_t id[8];
	int args[8][2], fd;

	cfg.written = true;
	cfg.fault = "delay=100";
	c = start(&cfg);
	fd = open(file, O_RDWR | O_DIRECT);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	for (int i = 0; i < 8; i++) {
		args[i][0] = fd;
		args[i][1] = i;
		assert_int_equal(pthread_create(&id[i], NULL, one_write, args[i]), 0);
	}
	for (int i = 0; i < 8; i++)
		pthread_join(id[i], NULL);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	assert_true((t1.tv_sec - t0.tv_sec) * 1000 + (t1.tv_nsec - t0.tv_nsec) / 1000000 < 500);
	close(fd);
	stop(c);
}

static void waiting_process_can_be_killed(void **state)
{
	struct fakecore_config cfg = config();
	struct fakecore *c;
	char hold[128], fault[160], to[160], seek[32];
	struct datapath_stats st;
	int status;
	pid_t pid[2];

	snprintf(hold, sizeof(hold), "%s/hold", dir);
	snprintf(fault, sizeof(fault), "hold=%s", hold);
	cfg.fault = fault;
	snprintf(to, sizeof(to), "of=%s", file);
	c = start(&cfg);
	/* Within the size: the kernel lets one write at a time extend a file. */
	assert_int_equal(truncate(file, CLUSTER), 0);
	close(open(hold, O_CREAT | O_WRONLY, 0600));
	/* The first is at the LUN, the second waits for the lock that the first one has. */
	for (int i = 0; i < 2; i++) {
		snprintf(seek, sizeof(seek), "seek=%d", i);
		pid[i] = fork();
		if (!pid[i]) {
			execlp("dd", "dd", "if=/dev/zero", to, "bs=4096", "count=1", seek,
				"conv=notrunc", "status=none", NULL);
			_exit(127);
		}
		assert_true(fakecore_until_in_flight(c, (unsigned)i + 1));
	}
	usleep(100000);
	fakecore_stats(c, &st);
	assert_true(st.oldest_ns > 100 * NS_PER_MS);
	kill(pid[1], SIGKILL);
	assert_int_equal(waitpid(pid[1], &status, 0), pid[1]);
	assert_true(WIFSIGNALED(status));
	fakecore_stats(c, &st);
	assert_int_equal(st.in_flight, 1);
	unlink(hold);
	assert_int_equal(waitpid(pid[0], &status, 0), pid[0]);
	assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
	stop(c);
}

/* In front of the one of the C library, for csvfs/datapath.c: fails so often. */
static _Atomic int fail_reads;
static int fail_with;

ssize_t readv(int fd, const struct iovec *v, int n)
{
	if (fail_reads > 0) {
		fail_reads--;
		errno = fail_with;
		return -1;
	}
	return syscall(SYS_readv, fd, v, n);
}

/* The kernel had no memory to hand a request over, and has ended that one. The mount goes on. */
static void request_that_cannot_be_read_ends_no_mount(void **state)
{
	struct fakecore_config cfg = config();
	struct fakecore *c = start(&cfg);
	char buf[4096] = "x";
	int status;
	pid_t pid;

	fail_with = ENOMEM;
	fail_reads = 3;
	pid = fork();
	if (!pid) {
		int fd = open(file, O_RDWR);

		_exit(pwrite(fd, buf, sizeof(buf), 0) != sizeof(buf));
	}
	for (int i = 0; i < 500 && !waitpid(pid, &status, WNOHANG); i++)
		usleep(10000);
	if (!kill(pid, 0)) {
		umount2(mnt, MNT_FORCE | MNT_DETACH);
		fail_msg("the request is not answered");
	}
	assert_int_equal(fail_reads, 0);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	stop(c);
}

/* A LUN that says nothing any more is noticed; what it was asked goes another way. */
static void silent_lun_is_a_lost_path_and_no_error(void **state)
{
	struct fakecore_config cfg = config();
	struct fakecore *c;
	struct datapath_stats st;
	char stall[128], fault[160], buf[4096] = "x";
	struct timespec t0, t1;
	int fd;

	snprintf(stall, sizeof(stall), "%s/stall", dir);
	snprintf(fault, sizeof(fault), "stall=%s", stall);
	cfg.fault = fault;
	cfg.answer_ms = 300;
	c = start(&cfg);
	fd = open(file, O_RDWR);
	assert_int_equal(pwrite(fd, buf, 4096, 0), 4096);
	close(open(stall, O_CREAT | O_WRONLY, 0600));
	clock_gettime(CLOCK_MONOTONIC, &t0);
	assert_int_equal(pwrite(fd, buf, 4096, 4096), 4096);
	assert_int_equal(pread(fd, buf, 4096, 0), 4096);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	assert_int_equal(buf[0], 'x');
	assert_true((t1.tv_sec - t0.tv_sec) * 1000 + (t1.tv_nsec - t0.tv_nsec) / 1000000 < 3000);
	unlink(stall);
	fakecore_stats(c, &st);
	assert_true(st.core_writes >= 1);
	assert_true(st.longest_ns > 300 * NS_PER_MS && st.longest_ns < 3 * NS_PER_SEC);
	assert_int_equal(st.direct_writes, 1);
	close(fd);
	stop(c);
}

/* Only root may write to a setuid program and leave it one. */
static void write_by_a_user_takes_setuid_away(void **state)
{
	struct fakecore_config cfg = config();
	struct fakecore *c = start(&cfg);
	struct stat st;
	int status;
	pid_t pid;

	assert_int_equal(chmod(dir, 0755) | chmod(file, 06777), 0);
	for (int i = 0; i < 2; i++) {
		pid = fork();
		if (!pid) {
			int fd = open(file, O_RDWR);

			if (i && (setgid(4711) || setuid(4711)))
				_exit(2);
			_exit(write(fd, "x", 1) != 1 || write(fd, "y", 1) != 1);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
		assert_int_equal(stat(file, &st), 0);
		assert_int_equal(st.st_mode & 07777, i ? 0777 : 06777);
	}
	stop(c);
}

/* setattr_should_drop_sgid(): by membership, or CAP_FSETID; what cannot be read is no membership. */
static void who_keeps_setgid_without_group_execute(void **state)
{
	const char *s = "Name:\tx\nGid:\t5\t5\t5\t5\nGroups:\t100 4294967294 7 \nCapEff:\t0000000000000000\n";

	assert_true(fuse_kill_keeps_sgid(s, 100));
	assert_true(fuse_kill_keeps_sgid(s, 7));
	assert_true(fuse_kill_keeps_sgid(s, 4294967294u));
	assert_false(fuse_kill_keeps_sgid(s, 10));
	assert_false(fuse_kill_keeps_sgid(s, 0));
	assert_true(fuse_kill_keeps_sgid("\nGroups:\t\nCapEff:\t0000000000000010\n", 1));
	assert_false(fuse_kill_keeps_sgid("\nGroups:\t\nCapEff:\t0000000000000000\n", 0));
	assert_false(fuse_kill_keeps_sgid("", 0));
}

static void failing_medium_is_an_error_of_that_write_alone(void **state)
{
	struct fakecore_config cfg = config();
	struct fakecore *c;
	char buf[4096] = "x";
	int fd, failed = 0;

	cfg.fault = "fail=5";
	c = start(&cfg);
	assert_int_equal(truncate(file, FILE_BYTES), 0);
	fd = open(file, O_RDWR);
	for (int i = 0; i < 20; i++) {
		ssize_t n = pwrite(fd, buf, 4096, (off_t)i * CLUSTER);

		if (n < 0)
			assert_int_equal(errno, EIO);
		failed += n < 0;
	}
	assert_int_equal(failed, 4);
	/* What failed was a first write: it reads as zero, not as what lay there. */
	for (int i = 0; i < 20; i++) {
		assert_int_equal(pread(fd, buf, 10, (off_t)i * CLUSTER), 10);
		assert_true(buf[0] == 'x' || buf[0] == 0);
	}
	close(fd);
	stop(c);
}

/* Of an asynchronous write: the kernel sends them all at once. */
#define PIECES 4u

static void appends_pieces(struct fakecore_config *cfg, unsigned rounds)
{
	enum { WORDS = IO_BYTES_MAX / sizeof(uint64_t) };
	static uint64_t buf[PIECES * WORDS] __attribute__((aligned(4096))), back[PIECES * WORDS];
	struct fakecore *c = start(cfg);
	int fd = open(file, O_RDWR | O_APPEND | O_DIRECT);

	assert_true(fd >= 0);
	while (rounds--) {
		for (uint64_t i = 0; i < PIECES; i++)
			buf[i * WORDS] = rounds * PIECES + i;
		assert_int_equal(write_asynchronously(fd, buf, sizeof(buf), 0), sizeof(buf));
		/* A place that was given up is a hole. */
		assert_int_equal(pread(fd, back, sizeof(back), (off_t)(fakecore_size(c) - sizeof(back))), sizeof(back));
		for (uint64_t i = 0; i < PIECES; i++)
			assert_int_equal(back[i * WORDS], rounds * PIECES + i);
		assert_int_equal(ftruncate(fd, 0), 0);
	}
	close(fd);
	stop(c);
}

/* They are appended in the order in which it is asked for their places: each data thread reads some. */
static void pieces_of_an_asynchronous_append_stay_in_order(void **state)
{
	struct fakecore_config cfg = config();

	cfg.threads = 4;
	appends_pieces(&cfg, 150);
}

/* Their places were of rights that have ended: they ask anew, and hear that in any order. */
static void pieces_that_ask_for_other_places_stay_in_order(void **state)
{
	struct fakecore_config cfg = config();

	for (unsigned i = 0; i < 6; i++) {
		cfg.threads = i % 2 ? 4 : 1;
		cfg.evicts = PIECES - (i > 1);
		cfg.places_late = i > 1;
		cfg.places_later = i > 3;
		appends_pieces(&cfg, 1);
	}
}

/* As io_uring's worker does IORING_OP_FTRUNCATE. */
static void *truncates_as_worker(void *arg)
{
	char was[16];

	assert_int_equal(prctl(PR_GET_NAME, was), 0);
	assert_int_equal(prctl(PR_SET_NAME, "iou-wrk-1"), 0);
	assert_int_equal(ftruncate(*(int *)arg, 4096), 0);
	assert_int_equal(prctl(PR_SET_NAME, was), 0);
	return NULL;
}

/*
 * The kernel takes away what such a write may have left behind the end of the file, the end that it knows; another node has made the
 * file longer since.
 */
static void failed_asynchronous_write_cuts_off_nothing_of_another_node(void **state)
{
	struct fakecore_config cfg = config();
	struct fakecore *c;
	struct stat st;
	void *buf = NULL;
	pthread_t id;
	int fd;

	cfg.written = true;
	c = start(&cfg);
	fakecore_set_size(c, 4096);
	assert_int_equal(posix_memalign(&buf, 4096, CLUSTER), 0);
	memset(buf, 1, CLUSTER);
	fd = open(file, O_RDWR | O_DIRECT);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 4096);
	fakecore_set_size(c, FILE_BYTES / 2);
	assert_int_equal(write_asynchronously(fd, buf, CLUSTER, FILE_BYTES), -ENOSPC);
	assert_int_equal(fakecore_size(c), FILE_BYTES / 2);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, FILE_BYTES / 2);
	/* What a user asks for is done, also through that one, and asynchronously: by another thread, or once the kernel has had its turn. */
	assert_int_equal(ftruncate(fd, 8192), 0);
	assert_int_equal(fakecore_size(c), 8192);
	fakecore_set_size(c, FILE_BYTES / 2);
	assert_int_equal(pthread_create(&id, NULL, truncates_as_worker, &fd), 0);
	assert_int_equal(pthread_join(id, NULL), 0);
	assert_int_equal(fakecore_size(c), 4096);
	fakecore_set_size(c, FILE_BYTES / 2);
	assert_int_equal(write_asynchronously(fd, buf, CLUSTER, FILE_BYTES), -ENOSPC);
	assert_int_equal(fakecore_size(c), FILE_BYTES / 2);
	truncates_as_worker(&fd);
	assert_int_equal(fakecore_size(c), 4096);
	close(fd);
	free(buf);
	stop(c);
}

/* The ends of a hole are zeroed by writes, which are none of the kernel's. */
static void no_hole_is_made_through_an_open_file_that_lost_its_locks(void **state)
{
	struct fakecore_config cfg = config();
	uint8_t got[512], want[512];
	struct fakecore *c;
	int fd;

	cfg.written = true;
	c = start(&cfg);
	fd = open(file, O_RDWR);
	assert_true(fd >= 0);
	memset(want, 0xee, sizeof(want));
	assert_int_equal(pwrite(fd, want, sizeof(want), 512), sizeof(want));
	fakecore_lose_locks(c, 1);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 512, 3 * CLUSTER), -1);
	assert_int_equal(errno, EIO);
	close(fd);
	fd = open(file, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, got, sizeof(got), 512), sizeof(got));
	assert_memory_equal(got, want, sizeof(got));
	close(fd);
	stop(c);
}

static void names_and_statfs_pass_through(void **state)
{
	struct fakecore_config cfg = config();
	struct fakecore *c = start(&cfg);
	char name[400], target[512];
	struct statvfs v;
	struct dirent *e;
	struct stat st;
	int seen = 0;
	DIR *d = opendir(mnt);

	assert_non_null(d);
	while ((e = readdir(d))) {
		if (!strcmp(e->d_name, "file")) {
			assert_int_equal(e->d_ino, FAKE_FILE);
			assert_int_equal(e->d_type, DT_REG);
		}
		seen++;
	}
	closedir(d);
	assert_int_equal(seen, 3);
	assert_int_equal(stat(mnt, &st), 0);
	assert_int_equal(st.st_ino, FAKE_ROOT);
	assert_int_equal(statvfs(mnt, &v), 0);
	assert_int_equal(v.f_blocks, 1000);
	memset(name, 'n', sizeof(name));
	name[300] = 0;
	snprintf(target, sizeof(target), "%s/%s", mnt, name);
	assert_int_equal(stat(target, &st), -1);
	assert_int_equal(errno, ENAMETOOLONG);
	snprintf(target, sizeof(target), "%s/none", mnt);
	assert_int_equal(stat(target, &st), -1);
	assert_int_equal(errno, ENOENT);
	stop(c);
}

/* dp.h, rule 12. */
static void a_write_that_was_given_up_does_not_land_over_a_later_one(void **state)
{
	struct fakecore_config cfg = config();
	struct fakecore *c;
	static uint8_t buf[8192];
	struct timespec t0, t1;
	int fd;

	(void)state;
	cfg.closed_gate = cfg.written = true;
	cfg.lands_ms = 400;
	c = start(&cfg);
	fd = open(file, O_RDWR | O_DIRECT);
	memset(buf, 1, sizeof(buf));
	clock_gettime(CLOCK_MONOTONIC, &t0);
	assert_int_equal(pwrite(fd, buf, 8192, 0), -1);
	assert_int_equal(errno, EIO);
	memset(buf, 2, sizeof(buf));
	assert_int_equal(pwrite(fd, buf, 4096, 4096), 4096);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	assert_true((t1.tv_sec - t0.tv_sec) * 1000 + (t1.tv_nsec - t0.tv_nsec) / 1000000 >= 350);
	assert_int_equal(pread(fd, buf, 8192, 0), 8192);
	assert_int_equal(buf[0], 1);
	for (int i = 4096; i < 8192; i++)
		assert_int_equal(buf[i], 2);
	close(fd);
	stop(c);
}

static long ms_since(const struct timespec *t0)
{
	struct timespec t1;

	clock_gettime(CLOCK_MONOTONIC, &t1);
	return (t1.tv_sec - t0->tv_sec) * 1000 + (t1.tv_nsec - t0->tv_nsec) / 1000000;
}

/* The zeros at its ends are writes as any others: who waits for the hole is answered with them, and they land before what comes later. */
static void a_hole_whose_end_was_given_up_is_answered_and_zeroes_nothing_later(void **state)
{
	struct fakecore_config cfg = config();
	struct fakecore *c;
	struct timespec t0;
	uint8_t got[8192];
	void *buf = NULL;
	int fd;

	(void)state;
	cfg.closed_gate = cfg.written = true;
	cfg.lands_ms = 1000;
	c = start(&cfg);
	assert_int_equal(posix_memalign(&buf, 4096, 4096), 0);
	memset(buf, 2, 4096);
	fd = open(file, O_RDWR | O_DIRECT);
	assert_true(fd >= 0);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 512, 3 * CLUSTER), -1);
	assert_int_equal(errno, EIO);
	assert_true(ms_since(&t0) < 700);
	assert_int_equal(pwrite(fd, buf, 4096, 4096), 4096);
	assert_true(ms_since(&t0) >= 900);
	close(fd);
	fd = open(file, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, got, sizeof(got), 0), sizeof(got));
	for (int i = 512; i < 8192; i++)
		assert_int_equal(got[i], i < 4096 ? 0 : 2);
	close(fd);
	free(buf);
	stop(c);
}

static void a_process_that_waits_for_the_end_of_a_hole_can_be_killed(void **state)
{
	struct fakecore_config cfg = config();
	struct datapath_stats st = {0};
	struct fakecore *c;
	struct timespec t0;
	void *buf = NULL;
	int fd, status;
	pid_t pid;

	(void)state;
	cfg.closed_gate = cfg.written = true;
	cfg.lands_ms = 2000;
	c = start(&cfg);
	assert_int_equal(posix_memalign(&buf, 4096, 4096), 0);
	memset(buf, 1, 4096);
	fd = open(file, O_RDWR | O_DIRECT);
	assert_true(fd >= 0);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	assert_int_equal(pwrite(fd, buf, 4096, 0), -1); /* given up, and may still land: the zeros wait for that */
	pid = fork();
	if (!pid)
		_exit(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 512, 3 * CLUSTER) != 0);
	for (int i = 0; i < 100 && st.in_flight != 2; i++) {
		usleep(5000);
		fakecore_stats(c, &st);
	}
	assert_int_equal(st.in_flight, 2);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_true(ms_since(&t0) < 1500);
	close(fd);
	free(buf);
	stop(c);
}

static uint64_t signalled_tag;

static void on_signalled(void *ctx, uint32_t tid, uint64_t tag)
{
	(void)ctx;
	assert_int_equal(tid, 77);
	signalled_tag = tag;
}

/* Two threads read from the kernel: one has the request, and the other is first with its interrupt. */
static void interrupt_that_overtakes_its_request_is_not_lost(void **state)
{
	static struct datapath d = {.threads = 2, .cfg.signalled = on_signalled, .lock = PTHREAD_MUTEX_INITIALIZER};
	struct dthread *t = &d.t[0];
	struct io *io;

	(void)state;
	t->d = &d;
	list_init(&t->free);
	for (uint64_t other = 100; other < 100 + 2 * EARLY_MAX; other += 2)
		assert_false(datapath_io_interrupt(&d, other));
	assert_false(datapath_io_interrupt(&d, 42));
	io = datapath_io_get(t, 44, 77);
	assert_false(io->early);
	datapath_io_put(io);
	assert_ptr_equal(datapath_io_get(t, 42, 77), io);
	assert_true(io->early);
	assert_true(datapath_io_interrupt(&d, 42));
	assert_true(datapath_waits(&d, signalled_tag));
	free(io);
	free(d.ios);
}

static int write_it(const char *path)
{
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? -1 : 0;
}

/* umount -l while a file is open: the mount has ended for all who come, and its place is another's. */
static void what_is_mounted_there_later_is_left_alone(void **state)
{
	struct fakecore_config cfg = config();
	char other[128];
	struct fakecore *c;
	bool left;
	int fd;

	(void)state;
	cfg.written = true;
	c = start(&cfg);
	fd = open(file, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(umount2(mnt, MNT_DETACH), 0);
	assert_int_equal(mount("other", mnt, "tmpfs", 0, NULL), 0);
	snprintf(other, sizeof(other), "%s/other", mnt);
	assert_int_equal(write_it(other), 0);
	fakecore_unmount(c);
	left = !access(other, F_OK);
	close(fd); /* before anything can fail: without the mount nobody else would end the connection */
	stop(c);
	left = left && !access(other, F_OK);
	assert_true(left);
	assert_int_equal(umount(mnt), 0);
}

static bool can_mount(void)
{
	int fd = open("/dev/fuse", O_RDWR);

	if (fd < 0)
		return false;
	close(fd);
	return geteuid() == 0;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, make_place, remove_place)
	const struct CMUnitTest tests[] = {
		T(reads_and_writes_of_any_size_and_place),
		T(truncated_bytes_do_not_come_back),
		T(appends_follow_each_other),
		T(file_can_be_mapped_shared),
		T(times_of_writes_in_place_show_at_once),
		T(direct_writes_of_one_file_run_side_by_side),
		T(waiting_process_can_be_killed),
		T(request_that_cannot_be_read_ends_no_mount),
		T(silent_lun_is_a_lost_path_and_no_error),
		T(write_by_a_user_takes_setuid_away),
		T(who_keeps_setgid_without_group_execute),
		T(failing_medium_is_an_error_of_that_write_alone),
		T(pieces_of_an_asynchronous_append_stay_in_order),
		T(pieces_that_ask_for_other_places_stay_in_order),
		T(failed_asynchronous_write_cuts_off_nothing_of_another_node),
		T(no_hole_is_made_through_an_open_file_that_lost_its_locks),
		T(names_and_statfs_pass_through),
		T(writers_that_meet_in_blocks_do_not_harm_each_other),
		T(with_several_data_threads_too),
		T(with_a_closed_gate_all_goes_through_the_core),
		T(gate_that_flaps_recalls_and_lost_sessions_are_not_seen),
		T(writes_whose_outcome_is_lost_are_not_seen),
		T(a_write_that_was_given_up_does_not_land_over_a_later_one),
		T(a_hole_whose_end_was_given_up_is_answered_and_zeroes_nothing_later),
		T(a_process_that_waits_for_the_end_of_a_hole_can_be_killed),
		T(what_is_mounted_there_later_is_left_alone),
		T(interrupt_that_overtakes_its_request_is_not_lost),
	};

	if (!can_mount()) {
		fprintf(stderr, "needs root and /dev/fuse\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
