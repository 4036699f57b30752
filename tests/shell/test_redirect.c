/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The data path's session to a target that sends each login elsewhere (RFC 7143, 11.13.5), as the virtual address of an array does. */
#include <setjmp.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/shell/fakecore.h"
#include "tests/shell/target.h"

#include <sys/mount.h> /* last: it has a BLOCK_SIZE of its own */

#define PORT 3261
#define URL "iscsi://127.0.0.1:3261/iqn.2026-11.test:lun/1"
#define LIMIT_S 20

static int listen_fd;
static _Atomic unsigned redirected;

static bool take(int fd, uint8_t *to, size_t n)
{
	return recv(fd, to, n, MSG_WAITALL) == (ssize_t)n;
}

/* One login, answered with "target moved temporarily". */
static void redirect(int fd)
{
	static const char to[48] = "TargetAddress=127.0.0.1:3260,1";
	uint8_t rq[48], rest[8192], rp[48 + 32] = {0x23};
	size_t len;

	if (!take(fd, rq, sizeof(rq)))
		return;
	len = ((size_t)rq[6] << 8 | rq[7]) + 3;
	len -= len % 4;
	if (len > sizeof(rest) || !take(fd, rest, len))
		return;
	rp[1] = (uint8_t)((rq[1] >> 2 & 3) << 2);
	rp[7] = (uint8_t)(strlen(to) + 1);
	memcpy(rp + 8, rq + 8, 6);    /* ISID */
	memcpy(rp + 16, rq + 16, 4);  /* task tag */
	rp[27] = 1;		      /* StatSN */
	memcpy(rp + 28, rq + 24, 4);  /* ExpCmdSN */
	memcpy(rp + 32, rq + 24, 4);
	rp[35]++;		      /* MaxCmdSN */
	rp[36] = rp[37] = 1;
	memcpy(rp + 48, to, 32);
	redirected++;
	(void)!send(fd, rp, sizeof(rp), MSG_NOSIGNAL);
	(void)!recv(fd, rq, 1, 0); /* it goes */
}

static void *redirector(void *arg)
{
	int fd;

	(void)arg;
	while ((fd = accept(listen_fd, NULL, NULL)) >= 0) {
		redirect(fd);
		close(fd);
	}
	return NULL;
}

static void redirector_start(pthread_t *id)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(PORT)};

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listen_fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(listen_fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(listen_fd, 8), 0);
	assert_int_equal(pthread_create(id, NULL, redirector, NULL), 0);
}

static void session_comes_up_at_a_target_that_redirects(void **state)
{
	char mnt[] = "/tmp/csvfs-redirect.XXXXXX", file[64];
	static _Alignas(4096) uint8_t block[4096];
	struct datapath_stats st;
	struct fakecore *c;
	pthread_t id;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(mnt));
	snprintf(file, sizeof(file), "%s/file", mnt);
	redirector_start(&id);
	/* It waits for the path, and for ever. */
	alarm(LIMIT_S);
	c = fakecore_start(&(struct fakecore_config){.url = URL, .image = target_image(), .mountpoint = mnt,
		.file_bytes = 1 << 20, .cluster_bytes = 65536, .written = true, .threads = 1});
	assert_non_null(c);
	assert_int_equal(redirected, 1);
	fd = open(file, O_RDONLY | O_DIRECT);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, block, sizeof(block)), sizeof(block));
	close(fd);
	fakecore_stats(c, &st);
	assert_int_equal(st.direct_reads, 1);
	fakecore_stop(c);
	alarm(0);
	shutdown(listen_fd, SHUT_RDWR);
	assert_int_equal(pthread_join(id, NULL), 0);
	close(listen_fd);
	rmdir(mnt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(session_comes_up_at_a_target_that_redirects)};
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
