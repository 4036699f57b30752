/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/ask.h"

#include <errno.h>
#include <limits.h>
#include <mntent.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/json.h"

#define ANSWER_MAX (256u << 10)
#define MORE_MS 200 /* a second daemon with the same mount point may take so long to say so */
#define SOCKETS "/run/csvfs/*.sock"

/* ------------------------------------------------------------------ asking */

unsigned ask_seconds = 10;

static int connect_to(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct timeval tv = {.tv_sec = (time_t)ask_seconds};
	int fd;

	if (strlen(path) >= sizeof(sa.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa))) {
		int err = errno;

		close(fd);
		errno = err;
		return -1;
	}
	return fd;
}

int ask_one(const char *socket_path, const char *line, char **text)
{
	int fd = connect_to(socket_path), rc = -1;
	char *buf = malloc(ANSWER_MAX), *body;
	size_t len = 0;
	ssize_t n = 0;

	*text = NULL;
	if (fd < 0 || !buf) {
		free(buf);
		return -1;
	}
	if (dprintf(fd, "%s\n", line) > 0)
		while (len < ANSWER_MAX - 1 &&
			(n = recv(fd, buf + len, ANSWER_MAX - 1 - len, 0)) > 0)
			len += (size_t)n;
	buf[len] = 0;
	if (n < 0 || !len)
		errno = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? ETIMEDOUT : ECONNRESET;
	close(fd);
	body = strchr(buf, '\n');
	if (n == 0 && body && (!strncmp(buf, "ok\n", 3) || !strncmp(buf, "error ", 6))) {
		rc = buf[0] == 'o' ? 0 : 1;
		*text = strdup(body + 1);
	}
	free(buf);
	return rc;
}

/* ------------------------------------------------------------------ which daemon? */

struct asked {
	int fd; /* -1: nobody listens */
	char *text;
	size_t len;
	bool match;
};

/* What one of them says by now; true: nothing more will come. */
static bool hear(struct asked *a, const char *mountpoint)
{
	char at[PATH_MAX];
	ssize_t n = recv(a->fd, a->text + a->len, ANSWER_MAX - 1 - a->len, MSG_DONTWAIT);

	if (n > 0) {
		a->len += (size_t)n;
		return false;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	a->text[a->len] = 0;
	a->match = n == 0 && !strncmp(a->text, "ok\n", 3) &&
		   !strcmp(json_text(a->text + 3, "mountpoint", "", at, sizeof(at)), mountpoint);
	return true;
}

/*
 * Which of them have the volume that is mounted there? All are asked at once: one that hangs, which is somebody else's,
 * is not waited for when the right one has answered.
 */
static void who_has(char **paths, struct asked *a, size_t count, const char *mountpoint)
{
	struct pollfd *p = calloc(count, sizeof(*p));
	int wait_ms = (int)ask_seconds * 1000;
	size_t open = 0;

	for (size_t i = 0; p && i < count; i++) {
		a[i].text = malloc(ANSWER_MAX);
		a[i].fd = a[i].text ? connect_to(paths[i]) : -1;
		p[i] = (struct pollfd){.fd = -1, .events = POLLIN};
		if (a[i].fd < 0 || dprintf(a[i].fd, "state\n") < 0)
			continue;
		p[i].fd = a[i].fd;
		open++;
	}
	while (open && poll(p, count, wait_ms) > 0) {
		for (size_t i = 0; i < count; i++) {
			if (p[i].fd < 0 || !p[i].revents || !hear(&a[i], mountpoint))
				continue;
			p[i].fd = -1;
			open--;
			if (a[i].match)
				wait_ms = MORE_MS;
		}
	}
	for (size_t i = 0; p && i < count; i++) {
		if (a[i].fd >= 0)
			close(a[i].fd);
		free(a[i].text);
	}
	free(p);
}

/*
 * Is it where a csvfs is mounted? Told by the table of mounts: to look at the file system itself may wait for the very
 * thing that csvctl is asked about.
 */
static bool is_mountpoint(const char *where, char path[PATH_MAX])
{
	FILE *f = setmntent("/proc/self/mounts", "r");
	const struct mntent *m;
	char cwd[PATH_MAX / 2] = "";
	bool found = false;
	size_t n;

	if (where[0] != '/' && !getcwd(cwd, sizeof(cwd)))
		cwd[0] = 0;
	n = (size_t)snprintf(path, PATH_MAX, "%s%s%s", cwd, cwd[0] ? "/" : "", where);
	while (n > 1 && n < PATH_MAX && path[n - 1] == '/')
		path[--n] = 0;
	while (f && !found && (m = getmntent(f)))
		found = !strcmp(m->mnt_type, "fuse.csvfs") && !strcmp(m->mnt_dir, path);
	if (f)
		endmntent(f);
	return found;
}

/* A link whose daemon was killed is nobody's. */
static void drop_dead_links(glob_t *g)
{
	size_t n = 0;

	for (size_t i = 0; i < g->gl_pathc; i++) {
		char *p = g->gl_pathv[i];
		struct stat st;
		int fd;

		if (!lstat(p, &st) && S_ISLNK(st.st_mode)) {
			fd = connect_to(p);
			if (fd < 0) {
				free(p);
				continue;
			}
			close(fd);
		}
		g->gl_pathv[n++] = p;
	}
	g->gl_pathc = n;
}

int ask_find(const char *where, const char *who, glob_t *g, size_t *count)
{
	char path[PATH_MAX];
	bool known = where && is_mountpoint(where, path);
	struct asked *asked;
	struct stat st;
	size_t n = 0;

	memset(g, 0, sizeof(*g));
	*count = 1;
	if (where && !known && (stat(where, &st) || !S_ISDIR(st.st_mode)))
		return glob(where, GLOB_NOCHECK | GLOB_NOMAGIC, NULL, g) ? ASK_NOBODY : 0;
	if (!glob(SOCKETS, 0, NULL, g))
		drop_dead_links(g);
	if (!g->gl_pathc) {
		if (who)
			fprintf(stderr, "%s: no csvfs runs here (no socket in /run/csvfs)\n", who);
		return ASK_NOBODY;
	}
	*count = g->gl_pathc;
	if (!where)
		return 0;
	if (!known && !realpath(where, path))
		strcpy(path, where);
	asked = calloc(g->gl_pathc, sizeof(*asked));
	if (asked)
		who_has(g->gl_pathv, asked, g->gl_pathc, path);
	for (size_t i = 0; asked && i < g->gl_pathc; i++) {
		char *p = g->gl_pathv[i];

		if (!asked[i].match)
			continue;
		g->gl_pathv[i] = g->gl_pathv[n]; /* swapped: the rest is freed, too */
		g->gl_pathv[n++] = p;
	}
	free(asked);
	*count = n;
	if (n)
		return 0;
	if (who)
		fprintf(stderr, "%s: no csvfs has a volume mounted at %s\n", who, where);
	return ASK_NOBODY;
}
