/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * umount.fuse.csvfs: what umount(8) calls for a csvfs. Unmounts, and comes back when the daemon has left.
 *
 * A kernel's file system has left its cluster when umount(2) returns, and who stops a host relies on that: corosync is
 * stopped next. The kernel tells a FUSE daemon that it was unmounted, and waits for nothing: a volume whose host lost
 * its corosync a moment later was not unmounted in order, and the others had to fence it.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tools/ask.h"
#include "tools/json.h"

#define EXIT_USAGE 1
#define EXIT_UMOUNT 32
/* More than a daemon gives itself, all steps together (csvfs/node_stop.c). */
#define LEAVE_SECONDS 60
#define LOOK_MS 250
/* So often it may say that it is not leaving: it is told at once, but may have to wait for a processor. */
#define LOOKS 4

struct job {
	const char *mountpoint;
	int flags; /* of umount2() */
	bool readonly; /* if it is in use, make it read-only */
};

static bool parse(struct job *j, int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "flnrvt:N:V")) != -1) {
		switch (c) {
		case 'f':
			j->flags |= MNT_FORCE;
			break;
		case 'l':
			j->flags |= MNT_DETACH;
			break;
		case 'r':
			j->readonly = true;
			break;
		case 'n':
		case 'v':
		case 't':
		case 'N':
			break;
		case 'V':
			puts("umount.fuse.csvfs " CSVFS_VERSION);
			exit(0);
		default:
			return false;
		}
	}
	if (optind != argc - 1)
		return false;
	j->mountpoint = argv[optind];
	return true;
}

/* The daemon that is meant: its process, and in `g` its socket. -1: there is none, or several might be meant. */
static int daemon_of(const char *mountpoint, glob_t *g)
{
	char pid[16] = "";
	size_t count;
	char *text;
	int fd = -1;

	if (ask_find(mountpoint, NULL, g, &count) || count != 1)
		return -1;
	if (!ask_one(g->gl_pathv[0], "state", &text))
		fd = (int)syscall(SYS_pidfd_open,
			(pid_t)atoi(json_text(text, "pid", "0", pid, sizeof(pid))), 0);
	free(text);
	return fd;
}

/* A user's own mount: only fusermount3 may take it away. */
static int as_user(const struct job *j)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (j->flags & MNT_DETACH)
			execlp("fusermount3", "fusermount3", "-u", "-z", "--", j->mountpoint, NULL);
		else
			execlp("fusermount3", "fusermount3", "-u", "--", j->mountpoint, NULL);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
			       !WEXITSTATUS(status)
		       ? 0
		       : EXIT_UMOUNT;
}

/* *gone: it is mounted here no more. */
static int take_away(const struct job *j, bool *gone)
{
	const char *what = j->mountpoint;
	int rc;

	*gone = !umount2(what, j->flags);
	if (*gone)
		return 0;
	if (errno == EPERM && geteuid() != 0) {
		rc = as_user(j);
		*gone = !rc;
		return rc;
	}
	if (errno == EBUSY && j->readonly &&
		!mount(NULL, what, NULL, MS_REMOUNT | MS_RDONLY, NULL)) {
		fprintf(stderr, "umount: %s: in use; it is read-only now\n", what);
		return 0;
	}
	if (errno == EBUSY)
		fprintf(stderr, "umount: %s: target is busy.\n", what);
	else if (errno == EINVAL)
		fprintf(stderr, "umount: %s: not mounted.\n", what);
	else
		fprintf(stderr, "umount: %s: %s\n", what, strerror(errno));
	return EXIT_UMOUNT;
}

/* It does not leave while the file system is mounted elsewhere, too. */
static bool says_it_stays(const char *socket_path)
{
	char leaving[8];
	char *text;
	bool stays = !ask_one(socket_path, "state", &text) &&
		     !strcmp(json_text(text, "leaving", "", leaving, sizeof(leaving)), "false");

	free(text);
	return stays;
}

static time_t seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

static void wait_for(const char *mountpoint, int fd, const char *socket_path)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	time_t end = seconds() + LEAVE_SECONDS;
	unsigned stays = 0;

	ask_seconds = 1;
	while (poll(&p, 1, LOOK_MS) != 1) {
		if (stays < LOOKS)
			stays = says_it_stays(socket_path) ? stays + 1 : 0;
		if (stays == LOOKS) {
			fprintf(stderr,
				"umount: %s: unmounted here, and still mounted elsewhere (a bind "
				"mount, or "
				"another mount namespace): csvfs goes on\n",
				mountpoint);
			return;
		}
		if (seconds() >= end) {
			fprintf(stderr,
				"umount: %s: unmounted, but csvfs has not left after %d s\n",
				mountpoint, LEAVE_SECONDS);
			return;
		}
	}
}

int main(int argc, char **argv)
{
	struct job j = {.mountpoint = NULL};
	glob_t g = {0};
	bool gone;
	int fd, rc;

	if (!parse(&j, argc, argv)) {
		fputs("usage: umount.fuse.csvfs [-flnrv] MOUNTPOINT\n", stderr);
		return EXIT_USAGE;
	}
	/* Who hangs for longer is unmounted, and not waited for: which daemon it is only it can tell. */
	ask_seconds = 15;
	fd = j.flags & MNT_DETACH ? -1 : daemon_of(j.mountpoint, &g);
	rc = take_away(&j, &gone);
	if (gone && fd >= 0)
		wait_for(j.mountpoint, fd, g.gl_pathv[0]);
	globfree(&g);
	return rc;
}
