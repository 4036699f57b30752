/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "csvfs/base/assert.h"

#define RING_LINES 512
#define LINE_MAX_BYTES 320

static struct {
	pthread_mutex_t lock;
	int fd; /* -1: syslog */
	int syslog_fd; /* -1: not connected */
	const char *syslog_path;
	enum trace_level level;
	unsigned lost; /* lines that the log would not take since the last that it took */
	unsigned next;
	char ring[RING_LINES][LINE_MAX_BYTES];
} out = {.lock = PTHREAD_MUTEX_INITIALIZER,
	.fd = 2,
	.syslog_fd = -1,
	.syslog_path = "/dev/log",
	.level = TRACE_INFO};

static const char *const level_names[] = {"error", "warn", "info", "debug"};

bool log_parse_level(const char *s, enum trace_level *level)
{
	for (unsigned i = 0; i < 4; i++) {
		if (!strcmp(s, level_names[i])) {
			*level = (enum trace_level)i;
			return true;
		}
	}
	return false;
}

int log_open(const char *file, bool foreground, enum trace_level level)
{
	out.level = level;
	if (file) {
		int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

		if (fd < 0)
			return -errno;
		out.fd = fd;
	} else {
		out.fd = foreground ? 2 : -1;
	}
	return 0;
}

void log_leave_stderr(void)
{
	pthread_mutex_lock(&out.lock);
	if (out.fd == 2)
		out.fd = -1;
	pthread_mutex_unlock(&out.lock);
}

static int syslog_level(enum trace_level level)
{
	switch (level) {
	case TRACE_ERROR:
		return LOG_ERR;
	case TRACE_WARN:
		return LOG_WARNING;
	case TRACE_INFO:
		return LOG_INFO;
	case TRACE_DEBUG:
		return LOG_DEBUG;
	}
	return LOG_INFO;
}

void log_syslog_at(const char *path)
{
	pthread_mutex_lock(&out.lock);
	out.syslog_path = path;
	out.fd = -1;
	pthread_mutex_unlock(&out.lock);
}

static bool syslog_connect(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	if (out.syslog_fd >= 0)
		return true;
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", out.syslog_path);
	out.syslog_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (out.syslog_fd >= 0 && connect(out.syslog_fd, (struct sockaddr *)&a, sizeof(a))) {
		close(out.syslog_fd);
		out.syslog_fd = -1;
	}
	return out.syslog_fd >= 0;
}

/* RFC 3164, as syslog(3) writes it; that waits for who reads. */
static bool syslog_put(enum trace_level level, const struct tm *tm, const char *line)
{
	char date[32], text[LINE_MAX_BYTES + 64];
	int n;

	strftime(date, sizeof(date), "%b %e %T", tm);
	n = snprintf(text, sizeof(text), "<%d>%s csvfs[%d]: %s", LOG_DAEMON | syslog_level(level),
		date, (int)getpid(), line);
	if (n >= (int)sizeof(text))
		n = (int)sizeof(text) - 1;
	/* Who reads may have been restarted. */
	for (int i = 0; i < 2 && syslog_connect(); i++) {
		if (send(out.syslog_fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) == n)
			return true;
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return false;
		close(out.syslog_fd);
		out.syslog_fd = -1;
	}
	return false;
}

/* Less than PIPE_BUF bytes: who is ready to take any takes all. A log that is full, or whose reader hangs, stops nobody. */
static bool file_put(const char *line, int n)
{
	struct pollfd p = {.fd = out.fd, .events = POLLOUT};

	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
		return false;
	return write(out.fd, line, (size_t)n) == n;
}

static void say_lost(const struct tm *tm)
{
	char text[64];
	int n;

	if (!out.lost)
		return;
	n = snprintf(text, sizeof(text), "%u lines are lost here: the log took none%s", out.lost,
		out.fd >= 0 ? "\n" : "");
	if (out.fd >= 0 ? file_put(text, n) : syslog_put(TRACE_WARN, tm, text))
		out.lost = 0;
}

static void put(enum trace_level level, const char *line)
{
	struct timespec ts;
	struct tm tm;
	char *slot;
	int n;

	clock_gettime(CLOCK_REALTIME, &ts);
	localtime_r(&ts.tv_sec, &tm);
	pthread_mutex_lock(&out.lock);
	slot = out.ring[out.next++ % RING_LINES];
	n = snprintf(slot, LINE_MAX_BYTES, "%04d-%02d-%02d %02d:%02d:%02d.%03ld %s: %s\n",
		tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		ts.tv_nsec / 1000000, level_names[level], line);
	if (n >= LINE_MAX_BYTES) {
		n = LINE_MAX_BYTES - 1;
		slot[n - 1] = '\n';
	}
	if (level <= out.level) {
		say_lost(&tm);
		if (!(out.fd >= 0 ? file_put(slot, n) : syslog_put(level, &tm, line)))
			out.lost++;
	}
	pthread_mutex_unlock(&out.lock);
}

void log_line(enum trace_level level, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	put(level, line);
}

static void sink(void *ctx, enum trace_level level, const char *line)
{
	(void)ctx;
	put(level, line);
}

const struct trace *log_trace(void)
{
	static struct trace t;

	t = (struct trace){.level = out.level > TRACE_INFO ? out.level : TRACE_INFO, .sink = sink};
	return &t;
}

/* ------------------------------------------------------------------ the black box */

/* Only what may be called in a signal handler; the lock may be held by the thread that died. */
static void dump(int fd)
{
	static const char head[] = "--- csvfs has crashed; its last lines were:\n";
	unsigned first = out.next > RING_LINES ? out.next - RING_LINES : 0;

	(void)!write(fd, head, sizeof(head) - 1);
	for (unsigned i = first; i < out.next; i++) {
		const char *line = out.ring[i % RING_LINES];

		(void)!write(fd, line, strnlen(line, LINE_MAX_BYTES));
	}
}

__attribute__((unused)) static void on_crash(int sig)
{
	int fd = out.fd;

	if (fd < 0)
		fd = open("/var/log/csvfs.crash", O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (fd >= 0)
		dump(fd);
	raise(sig); /* SA_RESETHAND: as if there were no handler */
}

void log_catch_crashes(void)
{
#ifndef __SANITIZE_ADDRESS__ /* which says more than we could */
	static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
	static uint8_t stack[64 << 10];
	stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction sa = {
		.sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND | SA_ONSTACK | SA_NODEFER};

	sigaltstack(&ss, NULL);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &sa, NULL);
#endif
}

void csv_assert_fail(const char *expr, const char *file, int line)
{
	log_line(TRACE_ERROR, "%s:%d: assertion failed: %s", file, line, expr);
	abort();
}
