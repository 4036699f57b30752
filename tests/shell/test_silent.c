/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The data path at a target whose answer is lost with a reset by another node (csvfs/iscsi_tas.h): nobody sends anything but that write. */
#include <setjmp.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/shell/fakecore.h"
#include "tests/shell/liar.h"
#include "tests/shell/target.h"

#include <sys/mount.h> /* last: it has a BLOCK_SIZE of its own */

#define LIMIT_S 60
#define GIVEN_UP_MS 30000u

static const struct lie was_reset = {"BUS DEVICE RESET OCCURRED", 2, {0x70, 0, 6, [7] = 10, [12] = 0x29, [13] = 0x03}, 18, LUN_RETRY};

static char mnt[] = "/tmp/csvfs-silent.XXXXXX";

/* The write does not end. */
static void give_up(int sig)
{
	(void)sig;
	(void)umount2(mnt, MNT_FORCE);
}

static void a_write_that_a_reset_has_ended_is_sent_again(void **state)
{
	char file[64];
	static _Alignas(4096) uint8_t block[4096];
	struct datapath_stats st;
	struct fakecore *c;
	uint64_t start_ns, took_ns;
	ssize_t n;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(mnt));
	snprintf(file, sizeof(file), "%s/file", mnt);
	liar.vendor = "ANOTHER "; /* (at tgt itself nothing is asked: iscsi_tas.h) */
	liar_start();
	signal(SIGALRM, give_up);
	alarm(LIMIT_S);
	c = fakecore_start(&(struct fakecore_config){.url = LIAR_URL, .image = target_image(), .mountpoint = mnt,
		.file_bytes = 1 << 20, .cluster_bytes = 65536, .written = true, .answer_ms = GIVEN_UP_MS, .threads = 1});
	assert_non_null(c);
	fd = open(file, O_RDWR | O_DIRECT);
	assert_true(fd >= 0);
	liar.silent = 1;
	liar.once = true;
	liar.lie = &was_reset;
	start_ns = bdev_now_ns();
	n = write(fd, block, sizeof(block));
	took_ns = bdev_now_ns() - start_ns;
	/* (First of all: a process that serves its own open file cannot even be killed.) */
	close(fd);
	fakecore_stats(c, &st);
	fakecore_stop(c);
	alarm(0);
	assert_int_equal(n, sizeof(block));
	/* Before the session would be given up. */
	assert_true(took_ns < GIVEN_UP_MS * NS_PER_MS / 2);
	assert_int_equal(liar.silent, 0);
	assert_null(liar.lie);
	assert_int_equal(st.direct_writes, 1);
	liar_stop();
	rmdir(mnt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_write_that_a_reset_has_ended_is_sent_again)};
	int failed;

	/* A mount of its own, that ends with it whatever happens. */
	if (geteuid() || access("/dev/fuse", R_OK | W_OK) || unshare(CLONE_NEWNS) ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || !target_up()) {
		printf("needs root, FUSE and tgtd\n");
		return 77;
	}
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	target_down();
	return failed;
}
