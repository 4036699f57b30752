/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fusenull - the ceiling of names through FUSE: a file system that keeps them in memory and answers at once.
 *
 *   fusenull MOUNTPOINT             ends when it is unmounted
 *
 * Directories, empty files, rename and unlink; nothing is stored, nothing is durable, names are never
 * compared by anybody else. One thread, which looks for the next request for LOOK_NS before it sleeps,
 * as csvfs does. What csvfs lacks to this is csvfs's own cost; what this lacks to a file system of the
 * kernel is the price of FUSE: several requests for each call, and wake-ups of two processes.
 */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <sched.h>
#include <search.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define CACHE_SECONDS 1000.0
#define LOOK_NS 30000u

struct name {
	fuse_ino_t parent, ino;
	mode_t mode;
	char name[256];
};

static void *names; /* tsearch(3), by parent and name */
static fuse_ino_t last_ino = FUSE_ROOT_ID;

static int order(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	if (x->parent != y->parent)
		return x->parent < y->parent ? -1 : 1;
	return strcmp(x->name, y->name);
}

static struct name key_of(fuse_ino_t parent, const char *name)
{
	struct name k = {.parent = parent};

	snprintf(k.name, sizeof(k.name), "%s", name);
	return k;
}

static struct name *find(fuse_ino_t parent, const char *name)
{
	struct name k = key_of(parent, name), **n = tfind(&k, &names, order);

	return n ? *n : NULL;
}

/* Directories have even numbers, files odd ones: so attributes need no second table. */
static struct stat stat_of(fuse_ino_t ino)
{
	return (struct stat){.st_ino = ino,
		.st_mode = ino == FUSE_ROOT_ID || ino % 2 == 0 ? S_IFDIR | 0755 : S_IFREG | 0644,
		.st_nlink = 1};
}

static struct fuse_entry_param entry_of(const struct name *n)
{
	return (struct fuse_entry_param){.ino = n->ino,
		.attr = stat_of(n->ino),
		.attr_timeout = CACHE_SECONDS,
		.entry_timeout = CACHE_SECONDS};
}

static struct name *add(fuse_ino_t parent, const char *name, bool dir)
{
	struct name *n = malloc(sizeof(*n));

	if (!n)
		return NULL;
	*n = key_of(parent, name);
	last_ino += 2;
	n->ino = dir ? last_ino & ~(fuse_ino_t)1 : last_ino | 1;
	if (tsearch(n, &names, order))
		return n;
	free(n);
	return NULL;
}

static void drop(fuse_ino_t parent, const char *name)
{
	struct name *n = find(parent, name);

	if (n)
		tdelete(n, &names, order);
	free(n);
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct name *n = find(parent, name);
	struct fuse_entry_param e;

	if (!n) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	e = entry_of(n);
	fuse_reply_entry(req, &e);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st = stat_of(ino);

	(void)fi;
	fuse_reply_attr(req, &st, CACHE_SECONDS);
}

static void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct name *n = add(parent, name, true);
	struct fuse_entry_param e;

	(void)mode;
	if (!n) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	e = entry_of(n);
	fuse_reply_entry(req, &e);
}

static void on_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct name *n = add(parent, name, false);
	struct fuse_entry_param e;

	(void)mode;
	if (!n) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	e = entry_of(n);
	fi->noflush = 1;
	fuse_reply_create(req, &e, fi);
}

static void on_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, 0);
}

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	drop(parent, name);
	fuse_reply_err(req, 0);
}

static void on_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned int flags)
{
	struct name *n = find(parent, name), was;

	(void)flags;
	if (!n) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	was = *n;
	drop(parent, name);
	drop(new_parent, new_name);
	n = add(new_parent, new_name, was.ino % 2 == 0);
	if (n)
		n->ino = was.ino;
	fuse_reply_err(req, n ? 0 : ENOMEM);
}

static const struct fuse_lowlevel_ops ops = {
	.lookup = on_lookup,
	.getattr = on_getattr,
	.mkdir = on_mkdir,
	.create = on_create,
	.release = on_release,
	.unlink = on_unlink,
	.rename = on_rename,
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The next request; looked for before it is waited for. 0: the mount is gone. */
static int receive(struct fuse_session *se, struct fuse_buf *buf)
{
	struct pollfd p = {.fd = fuse_session_fd(se), .events = POLLIN};
	uint64_t end_ns = now_ns() + LOOK_NS;
	int n;

	for (;;) {
		n = fuse_session_receive_buf(se, buf);
		if (n != -EAGAIN && n != -EINTR)
			return n < 0 ? 0 : n;
		if (now_ns() < end_ns)
			sched_yield();
		else
			(void)poll(&p, 1, -1);
	}
}

int main(int argc, char **argv)
{
	char *fuse_argv[] = {"fusenull", "-oallow_other,default_permissions,fsname=fusenull"};
	struct fuse_args args = FUSE_ARGS_INIT(2, fuse_argv);
	struct fuse_buf buf = {0};
	struct fuse_session *se;

	if (argc != 2) {
		fputs("usage: fusenull MOUNTPOINT\n", stderr);
		return 2;
	}
	se = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	if (!se || fuse_session_mount(se, argv[1]))
		return 1;
	(void)fcntl(fuse_session_fd(se), F_SETFL, O_NONBLOCK);
	if (fuse_daemonize(0))
		return 1;
	while (receive(se, &buf) > 0)
		fuse_session_process_buf(se, &buf);
	fuse_session_unmount(se);
	fuse_session_destroy(se);
	free(buf.mem);
	fuse_opt_free_args(&args);
	return 0;
}
