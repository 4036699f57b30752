/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whoever reads the log may hang: that is no reason to wait, for the core's thread least of all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "csvfs/log.h"

#define MANY 5000 /* lines: more than a pipe or a socket holds */

static char dir[] = "/tmp/csvfs-log.XXXXXX";
static char text[1 << 20];

/* What can be read without waiting, as one text. */
static size_t read_all(int fd)
{
	size_t n = 0;
	ssize_t got;

	while (n < sizeof(text) - 1 && (got = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)got;
	text[n] = 0;
	return n;
}

static unsigned lines_lost(void)
{
	const char *p = strstr(text, " lines are lost here");
	unsigned n = 0;

	assert_non_null(p);
	while (p > text && p[-1] >= '0' && p[-1] <= '9')
		p--;
	assert_int_equal(sscanf(p, "%u", &n), 1);
	return n;
}

static unsigned count(const char *what)
{
	unsigned n = 0;

	for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
		n++;
	return n;
}

static void a_full_pipe_is_not_waited_for(void **state)
{
	char path[64];
	unsigned taken;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/pipe", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	fd = open(path, O_RDONLY | O_NONBLOCK);
	assert_true(fd >= 0);
	assert_int_equal(log_open(path, false, TRACE_INFO), 0);
	alarm(20);
	for (int i = 0; i < MANY; i++)
		log_line(TRACE_INFO, "line %d.", i);
	alarm(0);
	assert_true(read_all(fd) > 0);
	taken = count("info: line ");
	assert_true(taken > 100 && taken < MANY);
	log_line(TRACE_INFO, "the next");
	read_all(fd);
	assert_int_equal(lines_lost(), MANY - taken);
	assert_non_null(strstr(text, "info: the next\n"));
	log_line(TRACE_INFO, "and one more");
	read_all(fd);
	assert_null(strstr(text, "lost"));
	close(fd);
}

static int listens(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static void a_syslog_that_hangs_is_not_waited_for(void **state)
{
	static char path[64];
	unsigned taken;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/log", dir);
	log_syslog_at(path);
	log_line(TRACE_INFO, "nobody is there");
	fd = listens(path);
	alarm(20);
	for (int i = 0; i < MANY; i++)
		log_line(TRACE_WARN, "line %d.", i);
	alarm(0);
	read_all(fd);
	assert_int_equal(lines_lost(), 1);
	assert_memory_equal(text, "<28>", 4); /* daemon.warning */
	taken = count("]: line ");
	assert_true(taken >= 1 && taken < MANY);
	log_line(TRACE_ERROR, "the next");
	read_all(fd);
	assert_int_equal(lines_lost(), MANY - taken);
	assert_non_null(strstr(text, "<27>"));
	assert_non_null(strstr(text, "]: the next"));
	/* It is restarted. */
	close(fd);
	unlink(path);
	fd = listens(path);
	log_line(TRACE_INFO, "after it");
	read_all(fd);
	assert_non_null(strstr(text, "]: after it"));
	assert_null(strstr(text, "lost"));
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_pipe_is_not_waited_for),
		cmocka_unit_test(a_syslog_that_hangs_is_not_waited_for),
	};
	char path[64];
	int failed;

	if (!mkdtemp(dir))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, i ? "log" : "pipe");
		unlink(path);
	}
	rmdir(dir);
	return failed;
}
