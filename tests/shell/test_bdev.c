/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bdev_file.c, bdev_fault.c, bdev_sync.c, bdev_volume.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>

#include "csvfs/bdev_sync.h"
#include "metadata/verify.h"
#include "tests/shell/bdev_user.h"

#define IMAGE_BYTES (8ull << 20)

static char path[] = "/tmp/csvfs-bdev.XXXXXX", hold[64];
static uint8_t buf[1 << 20], back[1 << 20];

static int make_image(void **state)
{
	int fd;

	(void)state;
	strcpy(path, "/tmp/csvfs-bdev.XXXXXX");
	fd = mkstemp(path);
	snprintf(hold, sizeof(hold), "%s.hold", path);
	return fd < 0 || ftruncate(fd, (off_t)IMAGE_BYTES) || close(fd);
}

static int remove_image(void **state)
{
	(void)state;
	unlink(hold);
	return unlink(path);
}

static int open_error(struct bdev_config cfg, char *text)
{
	struct bdev_sync *s;
	int err = bdev_sync_open(&cfg, 1000, &s, text, BDEV_TEXT_MAX);

	if (!err)
		bdev_sync_close(s);
	return err;
}

static void image_is_a_lun_with_a_cache_and_without_reservations(void **state)
{
	struct iovec iov[] = {{buf, 100}, {buf + 100, 70000}, {buf + 70100, 131072 - 70100}};
	struct bdev_req w = {.cmd = {.op = LUN_WRITE, .fua = true, .off = 4096, .len = 131072},
		.iov = iov,
		.iov_count = 3};
	const struct bdev_info *i;
	struct stat st;
	struct user u;

	(void)state;
	for (size_t k = 0; k < sizeof(buf); k++)
		buf[k] = (uint8_t)(k * 13 + k / 512);
	assert_true(user_open(&u, path, 1, 0));
	i = bdev_info(u.b);
	assert_true(
		i->is_file && i->write_cache && !i->reservations && i->lun_bytes == IMAGE_BYTES);
	user_send(&u, &w);
	assert_true(user_wait(&u, &w, 1000));
	assert_int_equal(w.status, LUN_OK);
	assert_int_equal(
		user_cmd(&u,
			(struct lun_cmd){.op = LUN_READ, .off = 4096, .len = 131072, .buf = back}),
		LUN_OK);
	assert_memory_equal(buf, back, 131072);
	assert_int_equal(user_cmd(&u, (struct lun_cmd){.op = LUN_FLUSH}), LUN_OK);
	assert_int_equal(
		user_cmd(&u, (struct lun_cmd){.op = LUN_UNMAP, .off = 4096, .len = 131072}),
		LUN_OK);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_blocks, 0);
	assert_int_equal(
		user_cmd(&u, (struct lun_cmd){.op = LUN_PR_REGISTER, .key = 1}), LUN_UNSUPPORTED);
	/* Nothing of it outlives its session: a path that is back is used at once. */
	assert_int_equal(user_cmd(&u, (struct lun_cmd){.op = LUN_RESET}), LUN_OK);
	assert_int_equal(
		user_cmd(&u,
			(struct lun_cmd){
				.op = LUN_READ, .off = IMAGE_BYTES, .len = 4096, .buf = back}),
		LUN_UNSUPPORTED);
	bdev_close(u.b);
}

/* What another process is told: this program is run again as "open FLAGS IMAGE". */
static int stranger(const char *flags)
{
	int status;

	if (!fork()) {
		execl("/proc/self/exe", "test_bdev", "open", flags, path, NULL);
		_exit(99);
	}
	wait(&status);
	return WEXITSTATUS(status);
}

static int be_stranger(const char *flags, const char *image)
{
	char text[BDEV_TEXT_MAX] = "";
	struct bdev_config cfg = {.url = image,
		.readonly = strchr(flags, 'r') != NULL,
		.nolock = strchr(flags, 'n') != NULL};
	int err = open_error(cfg, text);

	return err == -EBUSY && !strstr(text, "in use") ? 98 : -err;
}

static void an_image_has_one_user_at_a_time(void **state)
{
	struct user a, b;

	(void)state;
	assert_true(user_open(&a, path, 1, 0));
	assert_true(user_open(&b, path, 1, 1)); /* the same process: shares the lock */
	bdev_close(a.b);
	assert_int_equal(stranger("w"), EBUSY);
	assert_int_equal(stranger("r"), EBUSY);
	assert_int_equal(stranger("rn"), 0);
	bdev_close(b.b);
	assert_int_equal(stranger("w"), 0);
}

static void wrong_files_have_a_message_each(void **state)
{
	char text[BDEV_TEXT_MAX];
	int fd = open(path, O_WRONLY | O_TRUNC);

	(void)state;
	assert_int_equal(open_error((struct bdev_config){.url = "/no/such/file"}, text), -ENOENT);
	assert_non_null(strstr(text, "No such file"));
	assert_int_equal(open_error((struct bdev_config){.url = "/tmp"}, text), -EISDIR);
	assert_int_equal(
		open_error((struct bdev_config){.url = "/tmp", .readonly = true}, text), -ENOTBLK);
	assert_int_equal(open_error((struct bdev_config){.url = "/dev/null"}, text), -ENOTBLK);
	assert_int_equal(open_error((struct bdev_config){.url = path}, text), -ENODATA);
	assert_non_null(strstr(text, "empty"));
	assert_int_equal(ftruncate(fd, 100), 0);
	assert_int_equal(open_error((struct bdev_config){.url = path}, text), -ENODATA);
	assert_non_null(strstr(text, "too small: 100 bytes"));
	close(fd);
}

static void a_readonly_image_refuses_writes(void **state)
{
	struct bdev_config cfg = {.url = path, .readonly = true};
	struct bdev_sync *s, *t;
	char text[BDEV_TEXT_MAX];

	(void)state;
	assert_int_equal(bdev_sync_open(&cfg, 1000, &s, text, sizeof(text)), 0);
	assert_int_equal(bdev_sync_open(&cfg, 1000, &t, text, sizeof(text)), 0);
	assert_int_equal(bdev_sync_read(s, 0, back, 4096), 0);
	assert_int_equal(bdev_sync_write(s, 0, buf, 4096, false), -EROFS);
	bdev_sync_close(s);
	bdev_sync_close(t);
}

static void closing_ends_what_is_outstanding_as_unknown(void **state)
{
	struct bdev_req r[3];
	struct user u;

	(void)state;
	assert_true(user_open(&u, path, 1, 0));
	for (int i = 0; i < 3; i++) {
		r[i] = (struct bdev_req){
			.cmd = {.op = i ? LUN_FLUSH : LUN_READ, .len = 4096, .buf = back},
			.done = user_done};
		bdev_submit(u.b, &r[i]);
	}
	bdev_close(u.b);
	for (int i = 0; i < 3; i++)
		assert_true(user_ended(&r[i]) && r[i].status == LUN_UNKNOWN);
}

/* In front of the one of the C library: fails when it is told to. */
static bool disk_is_bad;

int fdatasync(int fd)
{
	if (!disk_is_bad)
		return (int)syscall(SYS_fdatasync, fd);
	errno = EIO;
	return -1;
}

static uint32_t pages_cached(void)
{
	int fd = open(path, O_RDONLY);
	unsigned char in[16];
	void *p = mmap(NULL, sizeof(in) * 4096, PROT_READ, MAP_SHARED, fd, 0);
	uint32_t n = 0;

	assert_true(p != MAP_FAILED);
	assert_int_equal(mincore(p, sizeof(in) * 4096, in), 0);
	for (size_t i = 0; i < sizeof(in); i++)
		n += in[i] & 1;
	munmap(p, sizeof(in) * 4096);
	close(fd);
	return n;
}

/*
 * The kernel says it once, and takes for written what it could not write. To whoever asks again it is an error still, and whoever
 * opens the image anew (replay) reads what is on the disk.
 */
static void failed_flush_is_an_error_that_stays(void **state)
{
	struct lun_cmd write = {.op = LUN_WRITE, .len = 65536, .buf = buf}, flush = {.op = LUN_FLUSH};
	struct lun_cmd fua = {.op = LUN_WRITE, .fua = true, .len = 4096, .buf = buf};
	struct statfs fs;
	struct user u;
	int fd;

	(void)state;
	assert_true(user_open(&u, path, 1, 0));
	assert_int_equal(user_cmd(&u, write), LUN_OK);
	disk_is_bad = true;
	assert_int_equal(user_cmd(&u, flush), LUN_MEDIUM);
	disk_is_bad = false;
	assert_int_equal(user_cmd(&u, flush), LUN_MEDIUM);
	assert_int_equal(user_cmd(&u, fua), LUN_MEDIUM);
	assert_true(bdev_state(u.b) == BDEV_UP);
	bdev_close(u.b);
	/* The kernel's part: nothing is dirty any more. */
	fd = open(path, O_RDWR);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(pages_cached(), 16);
	assert_int_equal(fstatfs(fd, &fs), 0);
	close(fd);
	assert_true(user_open(&u, path, 1, 0));
	if (fs.f_type != TMPFS_MAGIC)
		assert_int_equal(pages_cached(), 0);
	assert_int_equal(user_cmd(&u, write), LUN_OK);
	assert_int_equal(user_cmd(&u, flush), LUN_OK);
	bdev_close(u.b);
}

static struct user *again_user;
static struct bdev_req again_second;

static void again(struct bdev_req *r)
{
	user_done(r);
	again_second = (struct bdev_req){.cmd = {.op = LUN_TEST}, .done = user_done};
	bdev_submit(again_user->b, &again_second);
}

static void a_completion_may_submit(void **state)
{
	struct bdev_req r = {.cmd = {.op = LUN_READ, .len = 4096, .buf = back}, .done = again};
	struct user u;

	(void)state;
	assert_true(user_open(&u, path, 1, 0));
	again_user = &u;
	bdev_submit(u.b, &r);
	assert_false(user_ended(&r)); /* never from inside submit */
	assert_true(user_wait(&u, &r, 1000));
	assert_true(user_wait(&u, &again_second, 1000));
	bdev_close(u.b);
}

/*
 * tmpfs does not say what it has in memory (no RWF_NOWAIT). A worker for each read cost more than half of the time of a
 * create in a directory that is larger than the cache.
 */
static void small_reads_of_an_image_in_memory_soon_need_no_worker(void **state)
{
	int fd = memfd_create("image", 0), at_once = 0;
	char url[64];
	struct user u;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)IMAGE_BYTES), 0);
	for (size_t k = 0; k < sizeof(buf); k++)
		buf[k] = (uint8_t)(k * 7 + k / 4096);
	assert_int_equal(pwrite(fd, buf, sizeof(buf), 0), sizeof(buf));
	snprintf(url, sizeof(url), "/proc/self/fd/%d", fd);
	assert_true(user_open(&u, url, 1, 0));
	/* Which of them are fast depends on what else the machine does. */
	for (uint32_t k = 0; k < 5000 && at_once < 10; k++) {
		struct lun_cmd cmd = {.op = LUN_READ, .off = k % 64 * 16384, .len = 16384, .buf = back};
		struct bdev_req r = {.cmd = cmd};

		memset(back, 0, 16384);
		user_send(&u, &r);
		at_once += user_ended(&r);
		assert_true(user_wait(&u, &r, 5000));
		assert_int_equal(r.status, LUN_OK);
		assert_memory_equal(back, buf + cmd.off, 16384);
	}
	assert_int_equal(at_once, 10);
	bdev_close(u.b);
	close(fd);
}

static void faults_hold_delay_fail_and_lose(void **state)
{
	char spec[256], text[BDEV_TEXT_MAX];
	struct lun_cmd cmd = {.op = LUN_WRITE, .len = 4096, .buf = buf};
	struct bdev_req w = {.cmd = cmd}, r = {.cmd = {.op = LUN_READ, .len = 4096, .buf = back}};
	struct user u;

	(void)state;
	snprintf(spec, sizeof(spec), "hold=%s,delay=30,fail=2,lose=3", hold);
	assert_int_equal(user_start(&u, (struct bdev_config){.url = path, .fault = spec}, text,
				 sizeof(text)),
		0);
	while (!u.up)
		user_turn(&u, 20);
	close(open(hold, O_CREAT | O_WRONLY, 0600));
	user_send(&u, &w);
	user_send(&u, &r);
	assert_true(user_wait(&u, &r, 1000));
	assert_true(bdev_now_ns() - r.start_ns >= 30 * NS_PER_MS);
	assert_false(user_ended(&w));
	unlink(hold);
	assert_true(user_wait(&u, &w, 1000));
	assert_int_equal(w.status, LUN_OK);
	assert_int_equal(user_cmd(&u, cmd), LUN_MEDIUM);
	assert_int_equal(user_cmd(&u, cmd), LUN_UNKNOWN);
	assert_true(u.down);
	bdev_close(u.b);
	assert_int_equal(
		user_start(&u, (struct bdev_config){.url = path, .fault = "x"}, text, sizeof(text)),
		-EINVAL);
}

/* ------------------------------------------------------------------ a session that is lost */

static enum lun_status ended;

static void keep_status(struct bdev_req *r)
{
	ended = r->status;
}

static void do_nothing(struct bdev *b)
{
	(void)b;
}

/* Two commands, of which the target has refused one; nothing is known of the other. */
static void half_refused(struct bdev *b, struct bdev_req *r)
{
	(void)b;
	r->parts = 1;
	r->status = LUN_UNSUPPORTED;
}

static void what_was_refused_in_part_is_unknown_when_the_session_is_lost(void **state)
{
	static const struct bdev_ops ops = {.abort = do_nothing, .free = do_nothing, .submit = half_refused};
	struct bdev_config cfg = {.url = "none"};
	struct bdev_req r = {.cmd = {.op = LUN_WRITE, .len = 4096}, .done = keep_status};
	struct bdev b;

	(void)state;
	bdev_init(&b, &ops, &cfg);
	b.info.block_bytes = 512;
	bdev_up(&b);
	bdev_submit(&b, &r);
	bdev_close(&b);
	assert_int_equal(ended, LUN_UNKNOWN);
	/* Never sent. */
	bdev_init(&b, &ops, &cfg);
	b.info.block_bytes = 512;
	bdev_up(&b);
	r.cmd.len = 100;
	bdev_submit(&b, &r);
	bdev_close(&b);
	assert_int_equal(ended, LUN_UNSUPPORTED);
}

/* ------------------------------------------------------------------ which volume is it? */

/* A LUN in memory: what it says of itself, and the three places of its superblock. */
struct which {
	const char *what;
	const char *identity, *wanted; /* of the LUN */
	char super[3];		       /* '1', '2': volume 1's, volume 2's; 'x': damaged; '0': zeros; 'u': cannot be read */
	const char *text;	       /* that it does not come up; NULL: it does */
};

static struct {
	const struct which *w;
	struct bdev b;
	struct bdev_req *r;
	unsigned reads, others, busy;
} lun;

static void lun_take(struct bdev *b, struct bdev_req *r)
{
	(void)b;
	lun.r = r;
	lun.reads += r->cmd.op == LUN_READ;
	lun.others += r->cmd.op != LUN_READ;
}

static void lun_answer(struct bdev *b, int revents)
{
	struct bdev_req *r = lun.r;
	char is;
	int at;

	(void)revents;
	if (!r)
		return;
	lun.r = NULL;
	at = r->cmd.off == 0 ? 0 : r->cmd.off == 3 * BLOCK_SIZE ? 1 : 2;
	assert_true(at < 2 || r->cmd.off == b->info.lun_bytes - BLOCK_SIZE);
	if (lun.busy && lun.busy--) {
		bdev_done(b, r, LUN_RETRY, "busy");
		return;
	}
	is = lun.w->super[at];
	memset(r->cmd.buf, 0, r->cmd.len);
	if (is == '1' || is == '2' || is == 'x') {
		const uint8_t uuid[16] = {(uint8_t)(is == '2' ? 2 : 1)};

		verify_init_header(r->cmd.buf, MAGIC_SUPER, uuid, r->cmd.off / BLOCK_SIZE, 0);
		verify_seal(r->cmd.buf);
		((uint8_t *)r->cmd.buf)[100] ^= is == 'x';
	}
	bdev_done(b, r, is == 'u' ? LUN_MEDIUM : LUN_OK, is == 'u' ? "unreadable" : "");
}

static void lun_session(const struct which *w, struct user *u)
{
	static const struct bdev_ops ops = {
		.abort = do_nothing, .free = do_nothing, .submit = lun_take, .service = lun_answer};
	static const uint8_t uuid[16] = {1};
	struct bdev_config cfg = {
		.uuid = uuid, .identity = w->wanted, .on_state = user_state, .ctx = u};

	*u = (struct user){.b = &lun.b};
	lun.w = w;
	lun.r = NULL;
	lun.reads = lun.others = 0;
	bdev_init(&lun.b, &ops, &cfg);
	lun.b.info = (struct bdev_info){.block_bytes = 512, .lun_bytes = IMAGE_BYTES};
	strcpy(lun.b.info.identity, w->identity);
	bdev_up(&lun.b);
}

/* Of what was sent before it is known nothing may change the LUN. */
static void a_session_comes_up_on_the_volumes_own_lun_alone(void **state)
{
	static const struct which cases[] = {
		{"it", "naa.1", "naa.1", "111", NULL},
		{"another LUN", "naa.2", "naa.1", "111", "this is LUN naa.2, the volume is on LUN naa.1"},
		{"it does not say which", "", "naa.1", "111", "the volume is on LUN naa.1"},
		{"made anew", "naa.1", "naa.1", "222", "on this LUN is volume 02000000-"},
		{"numbered alike by another target", "IET 1", "IET 1", "222", "not 01000000-"},
		{"numbered alike, empty", "IET 1", "IET 1", "000", "there is no volume on this LUN: see"},
		{"damaged", "naa.1", "naa.1", "x11", NULL},
		{"a copy is another's", "naa.1", "naa.1", "x21", "on this LUN is volume 02000000-"},
		{"all damaged", "naa.1", "naa.1", "xux", "there is no volume on this LUN: see"},
		{"none can be read", "naa.1", "naa.1", "uuu", "cannot be read: unreadable"},
		{"no name, but the volume", "", "", "111", NULL},
		{"a name that it had not", "naa.1", "", "u01", NULL},
		{"no name, another volume", "", "", "222", "on this LUN is volume 02000000-"},
		{"no name, nothing there", "", "", "000", "there is no volume on this LUN"},
	};
	struct bdev_req w = {.cmd = {.op = LUN_WRITE, .len = 4096, .buf = buf}};
	struct user u;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct which *c = &cases[i];

		lun_session(c, &u);
		for (int turns = 0; turns < 4; turns++)
			(void)bdev_service(u.b, 0);
		if (u.up == !!c->text || u.down != !!c->text ||
			(c->text && !strstr(bdev_text(u.b), c->text)))
			fail_msg("%s: %s: %s", c->what, u.up ? "up" : "not up", bdev_text(u.b));
		assert_int_equal(lun.others, 0);
		bdev_close(u.b);
	}
	/* Until then it is opening, and takes nothing. */
	lun_session(&cases[0], &u);
	lun.busy = 5;
	for (int turns = 0; turns < 5; turns++) {
		assert_int_equal(bdev_state(u.b), BDEV_OPENING);
		assert_true(bdev_oldest_ns(u.b) != NEVER);
		(void)bdev_service(u.b, 0);
	}
	user_send(&u, &w);
	assert_true(u.up && user_ended(&w) && w.status == LUN_UNKNOWN && !lun.others);
	bdev_close(u.b);
	/* A target that never says anything else. */
	lun_session(&cases[0], &u);
	lun.busy = UINT32_MAX;
	for (int turns = 0; turns < 100; turns++)
		(void)bdev_service(u.b, 0);
	lun.busy = 0;
	assert_true(u.down && lun.reads < 40);
	assert_string_equal(bdev_text(u.b), "the target is too busy to be asked which volume this is: busy");
	bdev_close(u.b);
	lun_session(&cases[0], &u);
	bdev_close(u.b);
	assert_false(u.up || u.down);
}

#define with_image(t) cmocka_unit_test_setup_teardown(t, make_image, remove_image)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		with_image(image_is_a_lun_with_a_cache_and_without_reservations),
		with_image(an_image_has_one_user_at_a_time),
		with_image(wrong_files_have_a_message_each),
		with_image(a_readonly_image_refuses_writes),
		with_image(closing_ends_what_is_outstanding_as_unknown),
		with_image(a_completion_may_submit),
		with_image(failed_flush_is_an_error_that_stays),
		cmocka_unit_test(small_reads_of_an_image_in_memory_soon_need_no_worker),
		with_image(faults_hold_delay_fail_and_lose),
		cmocka_unit_test(what_was_refused_in_part_is_unknown_when_the_session_is_lost),
		cmocka_unit_test(a_session_comes_up_on_the_volumes_own_lun_alone),
	};

	if (argc == 4 && !strcmp(argv[1], "open"))
		return be_stranger(argv[2], argv[3]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
