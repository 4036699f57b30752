/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ctl.c - the socket at which csvctl asks.
 *
 * csvctl looks in CTL_FOLDER. A socket elsewhere (-o ctl=) has a symbolic link there, named after the process. One whose
 * daemon was killed leads to nobody: whoever starts next takes it away.
 */
#include "csvfs/ctl.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "csvfs/base/assert.h"
#include "csvfs/bdev.h"

/* epoll's data; below: a client */
#define LISTEN_EVENT CTL_CLIENTS
#define TIMER_EVENT (CTL_CLIENTS + 1)
#define LISTEN_AGAIN_NS (500 * (long)NS_PER_MS)

struct client {
	int fd; /* -1: free */
	uint64_t tag;
	uint64_t until_ns;
	bool asked;
	char line[CTL_LINE_MAX];
	size_t line_len;
	char *answer;
	size_t answer_len, sent;
};

struct ctl {
	int listen_fd, ep, timer_fd;
	char path[108];
	char link[64]; /* empty: it is not needed, or could not be made */
	uint64_t tags;
	struct client clients[CTL_CLIENTS];
	void (*on_request)(void *ctx, uint64_t tag, const struct ctl_request *rq);
	void *ctx;
};

static bool answers(const struct sockaddr_un *sa)
{
	/* Who listens and does not get round to it (EAGAIN) lives, and is not waited for. */
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool yes = fd >= 0 && (!connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) || errno == EAGAIN);

	if (fd >= 0)
		close(fd);
	return yes;
}

static int make_socket(struct ctl *c, char *text, size_t text_bytes)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct stat st;
	mode_t mask;
	int err;

	memcpy(sa.sun_path, c->path, sizeof(c->path));
	/* Ours alone: of another folder the name may be a mistake. If it cannot be made, bind() says so. */
	if (!strncmp(c->path, CTL_FOLDER "/", sizeof(CTL_FOLDER)))
		(void)mkdir(CTL_FOLDER, 0755);
	if (!lstat(c->path, &st) && !S_ISSOCK(st.st_mode)) {
		snprintf(text, text_bytes,
			"control socket %s: there is something that is no socket; it stays", c->path);
		return -EEXIST;
	}
	if (answers(&sa)) {
		snprintf(text, text_bytes, "mounted already: a csvfs answers at %s", c->path);
		return -EADDRINUSE;
	}
	(void)unlink(c->path);
	c->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	mask = umask(0177);
	err = c->listen_fd < 0 || bind(c->listen_fd, (struct sockaddr *)&sa, sizeof(sa)) ||
			      listen(c->listen_fd, CTL_CLIENTS)
		      ? -errno
		      : 0;
	umask(mask);
	if (err)
		snprintf(text, text_bytes, "control socket %s: %s", c->path, strerror(-err));
	return err;
}

/* Links of daemons that were killed. One to `real`, which is our own socket by now, is of one, too. */
static void forget_dead(const char *real)
{
	char to[PATH_MAX];
	glob_t g;

	if (glob(CTL_FOLDER "/[0-9]*.sock", 0, NULL, &g))
		return;
	for (size_t i = 0; i < g.gl_pathc; i++) {
		struct sockaddr_un sa = {.sun_family = AF_UNIX};
		struct stat st;

		if (lstat(g.gl_pathv[i], &st) || !S_ISLNK(st.st_mode) ||
			strlen(g.gl_pathv[i]) >= sizeof(sa.sun_path))
			continue;
		strcpy(sa.sun_path, g.gl_pathv[i]);
		if ((realpath(g.gl_pathv[i], to) && !strcmp(to, real)) || !answers(&sa))
			(void)unlink(g.gl_pathv[i]);
	}
	globfree(&g);
}

/* For convenience: without it csvctl wants to be told the path. */
static void make_link(struct ctl *c)
{
	char real[PATH_MAX];

	if (!strncmp(c->path, CTL_FOLDER "/", sizeof(CTL_FOLDER)) || !realpath(c->path, real))
		return;
	(void)mkdir(CTL_FOLDER, 0755);
	forget_dead(real);
	snprintf(c->link, sizeof(c->link), CTL_FOLDER "/%d.sock", (int)getpid());
	(void)unlink(c->link);
	if (symlink(real, c->link))
		c->link[0] = 0;
}

/* No descriptor or no memory: asking again at once would only heat the machine. */
static void listen_later(struct ctl *c)
{
	const struct itimerspec when = {.it_value.tv_nsec = LISTEN_AGAIN_NS};

	(void)epoll_ctl(c->ep, EPOLL_CTL_DEL, c->listen_fd, NULL);
	(void)timerfd_settime(c->timer_fd, 0, &when, NULL);
}

static void listen_now(struct ctl *c)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u32 = LISTEN_EVENT};
	uint64_t n;

	(void)!read(c->timer_fd, &n, sizeof(n)); /* so that it is not readable any more */
	if (epoll_ctl(c->ep, EPOLL_CTL_ADD, c->listen_fd, &e))
		listen_later(c);
}

int ctl_open(const char *path,
	void (*on_request)(void *ctx, uint64_t tag, const struct ctl_request *rq), void *ctx,
	struct ctl **out, char *text, size_t text_bytes)
{
	struct ctl *c = calloc(1, sizeof(*c));
	struct epoll_event e = {.events = EPOLLIN, .data.u32 = TIMER_EVENT};
	int err;

	csv_assert(c != NULL);
	for (int i = 0; i < CTL_CLIENTS; i++)
		c->clients[i].fd = -1;
	c->listen_fd = -1;
	c->on_request = on_request;
	c->ctx = ctx;
	if (strlen(path) >= sizeof(c->path)) {
		snprintf(text, text_bytes, "control socket %s: the path is too long", path);
		free(c);
		return -ENAMETOOLONG;
	}
	strcpy(c->path, path);
	err = make_socket(c, text, text_bytes);
	if (err) {
		if (c->listen_fd >= 0)
			close(c->listen_fd);
		free(c);
		return err;
	}
	make_link(c);
	c->ep = epoll_create1(EPOLL_CLOEXEC);
	c->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	csv_assert(c->ep >= 0 && c->timer_fd >= 0);
	epoll_ctl(c->ep, EPOLL_CTL_ADD, c->timer_fd, &e);
	listen_now(c);
	*out = c;
	return 0;
}

static void drop(struct client *cl)
{
	close(cl->fd);
	free(cl->answer);
	*cl = (struct client){.fd = -1};
}

static void flush(struct client *cl)
{
	while (cl->answer && cl->sent < cl->answer_len) {
		ssize_t n = send(cl->fd, cl->answer + cl->sent, cl->answer_len - cl->sent,
			MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0)
			break;
		cl->sent += (size_t)n;
	}
	if (cl->answer)
		drop(cl);
}

static void set_answer(struct client *cl, int32_t err, const char *text, size_t len)
{
	char head[32];
	int n = err ? snprintf(head, sizeof(head), "error %d\n", -err)
		    : snprintf(head, sizeof(head), "ok\n");

	cl->answer = malloc((size_t)n + len + 1);
	csv_assert(cl->answer != NULL);
	memcpy(cl->answer, head, (size_t)n);
	memcpy(cl->answer + n, text, len);
	cl->answer_len = (size_t)n + len;
	if (!len || text[len - 1] != '\n')
		cl->answer[cl->answer_len++] = '\n';
}

/* "BYTES", "dry", or both: 0 bytes are as many as the LUN has. */
static bool parse_grow(char *arg, struct ctl_request *rq)
{
	char *end = arg;

	if (*arg >= '0' && *arg <= '9') {
		errno = 0;
		rq->bytes = strtoull(arg, &end, 10);
		if (errno)
			return false;
	}
	if (!*end)
		return true;
	rq->on = !strcmp(end + (*end == ' '), "dry");
	return rq->on;
}

static bool parse(char *line, struct ctl_request *rq)
{
	char *arg = strchr(line, ' ');

	memset(rq, 0, sizeof(*rq));
	if (arg)
		*arg++ = 0;
	if (!strcmp(line, "state") && !arg)
		rq->op = CTL_STATE;
	else if (!strcmp(line, "pause") && !arg)
		rq->op = CTL_PAUSE;
	else if (!strcmp(line, "resume") && !arg)
		rq->op = CTL_RESUME;
	else if (!strcmp(line, "move") && arg && *arg && strlen(arg) < sizeof(rq->name))
		rq->op = CTL_MOVE;
	else if (!strcmp(line, "redirect") && arg && (!strcmp(arg, "on") || !strcmp(arg, "off")))
		rq->op = CTL_REDIRECT;
	else if (!strcmp(line, "grow") && (!arg || parse_grow(arg, rq)))
		rq->op = CTL_GROW;
	else if (!strcmp(line, "scrub") && arg &&
		 (!strcmp(arg, "start") || !strcmp(arg, "stop") || !strcmp(arg, "status")))
		rq->op = CTL_SCRUB;
	else
		return false;
	if (rq->op == CTL_MOVE || rq->op == CTL_SCRUB)
		strcpy(rq->name, arg);
	if (rq->op == CTL_REDIRECT)
		rq->on = !strcmp(arg, "on");
	return true;
}

static void read_line(struct ctl *c, struct client *cl)
{
	static const char bad[] = "not understood";
	struct ctl_request rq;
	ssize_t n = recv(
		cl->fd, cl->line + cl->line_len, sizeof(cl->line) - 1 - cl->line_len, MSG_DONTWAIT);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop(cl);
		return;
	}
	cl->line_len += (size_t)n;
	cl->line[cl->line_len] = 0;
	end = strchr(cl->line, '\n');
	if (!end && cl->line_len < sizeof(cl->line) - 1)
		return;
	if (end)
		*end = 0;
	cl->asked = true;
	if (end && parse(cl->line, &rq)) {
		c->on_request(c->ctx, cl->tag, &rq);
		return;
	}
	set_answer(cl, -EINVAL, bad, sizeof(bad) - 1);
	flush(cl);
}

static void drop_late(struct ctl *c)
{
	uint64_t now = bdev_now_ns();

	for (int i = 0; i < CTL_CLIENTS; i++)
		if (c->clients[i].fd >= 0 && now > c->clients[i].until_ns)
			drop(&c->clients[i]);
}

static void accept_one(struct ctl *c)
{
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET};
	struct client *cl = NULL;

	if (fd < 0 && errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
		listen_later(c);
	if (fd < 0)
		return;
	drop_late(c);
	for (uint32_t i = 0; i < CTL_CLIENTS; i++) {
		if (c->clients[i].fd < 0) {
			cl = &c->clients[i];
			e.data.u32 = i;
		}
	}
	if (!cl) {
		close(fd);
		return;
	}
	/* Tags of the data path and of FUSE have one of the top bits set; ours never. */
	*cl = (struct client){
		.fd = fd, .tag = ++c->tags, .until_ns = bdev_now_ns() + CTL_SECONDS * NS_PER_SEC};
	epoll_ctl(c->ep, EPOLL_CTL_ADD, fd, &e);
	read_line(c, cl);
}

void ctl_service(struct ctl *c)
{
	struct epoll_event e[CTL_CLIENTS + 2];
	int n = epoll_wait(c->ep, e, CTL_CLIENTS + 2, 0);

	for (int i = 0; i < n; i++) {
		struct client *cl;

		if (e[i].data.u32 == LISTEN_EVENT) {
			accept_one(c);
			continue;
		}
		if (e[i].data.u32 == TIMER_EVENT) {
			listen_now(c);
			continue;
		}
		cl = &c->clients[e[i].data.u32];
		if (cl->fd >= 0 && cl->asked) {
			/* It says no more: readable means gone. */
			if (e[i].events & (EPOLLHUP | EPOLLERR))
				drop(cl);
			else
				flush(cl);
		} else if (cl->fd >= 0) {
			read_line(c, cl);
		}
	}
}

void ctl_reply(struct ctl *c, uint64_t tag, int32_t err, const char *text, size_t len)
{
	for (int i = 0; i < CTL_CLIENTS; i++) {
		struct client *cl = &c->clients[i];

		if (cl->fd < 0 || cl->tag != tag || cl->answer)
			continue;
		set_answer(cl, err, text, len);
		flush(cl);
		return;
	}
}

int ctl_fd(const struct ctl *c)
{
	return c->ep;
}

void ctl_close(struct ctl *c)
{
	if (!c)
		return;
	(void)unlink(c->path);
	if (c->link[0])
		(void)unlink(c->link);
	for (int i = 0; i < CTL_CLIENTS; i++) {
		if (c->clients[i].fd >= 0) {
			flush(&c->clients[i]);
			if (c->clients[i].fd >= 0)
				drop(&c->clients[i]);
		}
	}
	close(c->listen_fd);
	close(c->timer_fd);
	close(c->ep);
	free(c);
}
