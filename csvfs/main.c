/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * main.c - csvfs VOLUME MOUNTPOINT: looks at the volume, says in one line what is wrong, or mounts
 * it.
 *
 * The caller waits until the volume is mounted and usable: a child does the work and reports
 * through a pipe. Exit codes are those of mount(8).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#undef BLOCK_SIZE /* the kernel's, of old; ours is another */
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coordinator/cpg.h"
#include "csvfs/base/assert.h"
#include "csvfs/config.h"
#include "csvfs/log.h"
#include "csvfs/loop.h"
#include "csvfs/node_id.h"
#include "csvfs/probe.h"

#define EXIT_USAGE 1
#define EXIT_SYSTEM 2
#define EXIT_INTERNAL 4
#define EXIT_MOUNT 32

struct daemon {
	struct config cfg;
	struct probe volume;
	struct cpg_info cluster;
	struct loop_config loop;
	char uuid[40], ctl_path[128];
	int parent_fd; /* -1: in the foreground */
	bool mounted;
	int pid_fd; /* -1: no pidfile was asked for */
	bool pid_made; /* it was not there before */
};

static int complain(int code, const char *text)
{
	fprintf(stderr, "csvfs: %s\n", text);
	return code;
}

/* ------------------------------------------------------------------ may it be mounted? */

static bool refuse(char *text, size_t text_bytes, const char *why)
{
	snprintf(text, text_bytes, "%s", why);
	return false;
}

/* The node as the cluster knows it; the volume must be this cluster's. */
static bool join_cluster(struct daemon *d, char *text, size_t text_bytes)
{
	const struct disk_super *s = &d->volume.super;
	struct node_config *n = &d->loop.node;
	char why[200];

	if (cpg_probe(&d->cluster, why, sizeof(why))) {
		snprintf(text, text_bytes, "%s belongs to cluster %s, but %s", d->cfg.fsname,
			s->cluster_name, why);
		return false;
	}
	if (strcmp(d->cluster.cluster, s->cluster_name)) {
		snprintf(text, text_bytes, "%s belongs to cluster %s, this node is in cluster %s",
			d->cfg.fsname, s->cluster_name, d->cluster.cluster);
		return false;
	}
	if (d->volume.info.is_file)
		return refuse(text, text_bytes,
			"an image file cannot be shared by a cluster: use a LUN, or -o nocluster");
	if (!d->volume.info.reservations) {
		snprintf(text, text_bytes,
			"%s: this target has no persistent reservations, without which a cluster "
			"is not safe",
			d->cfg.fsname);
		return false;
	}
	if (!node_id_in_cluster(d->cluster.node, text, text_bytes))
		return false;
	n->node = d->cluster.node;
	memcpy(n->name, d->cluster.name, sizeof(n->name));
	snprintf(n->addr, sizeof(n->addr), "%s", d->cfg.addr ? d->cfg.addr : d->cluster.addr);
	n->port = d->cfg.port;
	n->expected_nodes = d->cluster.expected_nodes;
	d->loop.cluster = true;
	return true;
}

static void stay_alone(struct daemon *d)
{
	struct node_config *n = &d->loop.node;
	char machine[64] = "";
	FILE *f = fopen("/etc/machine-id", "re");

	n->standalone = true;
	if (gethostname(n->name, sizeof(n->name) - 1) || !n->name[0])
		strcpy(n->name, "localhost");
	if (f) {
		(void)!fgets(machine, sizeof(machine), f); /* there may be none: then the name is all */
		fclose(f);
	}
	n->node = node_id_alone(machine, n->name);
}

/*
 * A copied LUN has the uuid of its original: if both were used, each would take the other's words
 * for its own.
 */
static bool is_original(struct daemon *d, char *text, size_t text_bytes)
{
	const struct disk_super *s = &d->volume.super;
	const char *here = d->volume.info.identity;

	if (!s->lun_identity[0] || !strcmp(s->lun_identity, here) || d->cfg.copied)
		return true;
	snprintf(text, text_bytes,
		"%s is a copy: the volume was made on LUN %s, this is %s; if the original is not "
		"in use, mount it with -o copied",
		d->cfg.fsname, s->lun_identity, here[0] ? here : "a file");
	return false;
}

static void random_bytes(void *p, size_t n)
{
	csv_assert(getrandom(p, n, 0) == (ssize_t)n);
}

static bool prepare(struct daemon *d, char *text, size_t text_bytes)
{
	const struct bdev_config bc = {.url = d->cfg.volume,
		.initiator = d->cfg.initiator,
		.chap_user = d->cfg.chap_user,
		.chap_secret = d->cfg.chap_secret};
	const struct config *c = &d->cfg;
	struct node_config *n = &d->loop.node;
	const struct disk_super *s = &d->volume.super;
	int at = 0;

	if (probe_volume(&bc, c->fsname, &d->volume, text, text_bytes))
		return false;
	if (!is_original(d, text, text_bytes))
		return false;
	/* Claim and journal are written with -o ro, too: that is a promise about files. */
	if (d->volume.info.readonly) {
		snprintf(text, text_bytes,
			"%s: write protected, also for -o ro; fsck.csvfs -n and csvdb can read it",
			c->fsname);
		return false;
	}
	if (s->cluster_name[0] && !c->nocluster) {
		if (!join_cluster(d, text, text_bytes))
			return false;
	} else {
		if (probe_alone(&bc, c->fsname, &d->volume, text, text_bytes) ||
			probe_open(&bc, c->fsname, &d->volume, text, text_bytes))
			return false;
		stay_alone(d);
	}
	if (le64_get(s->rocompat) & ~FEATURE_ROCOMPAT_KNOWN && !c->readonly)
		return refuse(text, text_bytes,
			"made by a newer csvfs: this one can only mount it with -o ro");
	random_bytes(&n->life, sizeof(n->life));
	n->life |= 1;
	random_bytes(&n->seed, sizeof(n->seed));
	memcpy(n->uuid, s->h.uuid, 16);
	n->root_ino = le64_get(s->root_ino);
	n->reservations = d->volume.info.reservations;
	n->left_behind = d->volume.left_behind;
	/* The node coordinates for others, too: -o ro is the kernel's to keep. */
	n->readonly = le64_get(s->rocompat) & ~FEATURE_ROCOMPAT_KNOWN;
	n->cache_bytes = c->cache_bytes;
	n->commit_ns = c->commit_ns;
	n->recall_ns = c->recall_ns;
	n->reclaim_ns = c->reclaim_ns;
	n->path_retry_ns = c->path_retry_ns;
	n->hold_ns = c->hold_ns;
	for (int i = 0; i < 16; i++)
		at += snprintf(d->uuid + at, sizeof(d->uuid) - (size_t)at, "%s%02x",
			i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", n->uuid[i]);
	snprintf(d->ctl_path, sizeof(d->ctl_path), "%s", c->ctl ? c->ctl : "");
	if (!c->ctl)
		snprintf(d->ctl_path, sizeof(d->ctl_path), "/run/csvfs/%s.sock", d->uuid);
	d->loop.ctl_path = d->ctl_path;
	return true;
}

/* ------------------------------------------------------------------ running */

/*
 * Found out before anything is mounted: who asks for the file relies on it. The daemon leaves this folder, so from
 * here on the file has its whole path.
 */
static bool pidfile_open(struct daemon *d, char *text, size_t text_bytes)
{
	const char *path = d->cfg.pidfile;
	const int flags = O_WRONLY | O_CREAT | O_CLOEXEC;
	char *whole;

	if (!path)
		return true;
	d->pid_fd = open(path, flags | O_EXCL, 0644);
	d->pid_made = d->pid_fd >= 0;
	if (d->pid_fd < 0 && errno == EEXIST)
		d->pid_fd = open(path, flags, 0644);
	whole = d->pid_fd < 0 ? NULL : realpath(path, NULL);
	if (!whole) {
		snprintf(text, text_bytes, "pidfile=%s: %s", path, strerror(errno));
		return false;
	}
	free(d->cfg.pidfile);
	d->cfg.pidfile = whole;
	return true;
}

static void pidfile_write(struct daemon *d)
{
	if (d->pid_fd >= 0 &&
		(ftruncate(d->pid_fd, 0) || dprintf(d->pid_fd, "%d\n", (int)getpid()) < 0))
		log_line(TRACE_WARN, "pidfile %s: %s", d->cfg.pidfile, strerror(errno));
}

/* Of a daemon that has ended, or has never mounted anything: what it found there it leaves. */
static void pidfile_end(struct daemon *d)
{
	if (d->pid_fd >= 0 && (d->mounted || d->pid_made))
		(void)unlink(d->cfg.pidfile);
}

static void mounted(void *ctx)
{
	struct daemon *d = ctx;
	int null;
	char ok = 0;

	d->mounted = true;
	pidfile_write(d);
	if (d->parent_fd < 0)
		return;
	log_leave_stderr();
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; fd < 3 && null >= 0; fd++)
		(void)dup2(null, fd);
	if (null > 2)
		close(null);
	(void)!write(d->parent_fd, &ok, 1); /* if nobody waits any more, nobody is told */
}

/*
 * An I/O daemon that is killed for memory, or waits for memory that only it can free, helps nobody.
 */
static void protect_from_oom(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	(void)!write(fd, "-1000", 5); /* needs a right that we may not have: then we go without */
	close(fd);
}

/*
 * An allocation of ours must not wait for I/O: what it would free may be the cache of a file system in an image that lies on this
 * volume (a loop device), and that waits for us. (prctl(2); the threads inherit it.)
 */
static void be_io_flusher(void)
{
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0))
		log_line(TRACE_DEBUG, "no I/O flusher: %s", strerror(errno));
}

static int serve(struct daemon *d)
{
	char text[512] = "";
	sigset_t signals;
	int err;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	log_catch_crashes();
	protect_from_oom();
	be_io_flusher();
	if (!prepare(d, text, sizeof(text))) {
		pidfile_end(d);
		return complain(EXIT_MOUNT, text);
	}
	d->loop.cfg = &d->cfg;
	d->loop.volume = &d->volume;
	d->loop.ready = mounted;
	d->loop.ctx = d;
	d->loop.parent_fd = d->parent_fd;
	log_line(TRACE_INFO, "csvfs " CSVFS_VERSION ": %s, volume %s, node %u (%s)%s",
		d->cfg.fsname, d->uuid, d->loop.node.node, d->loop.node.name,
		d->loop.cluster ? "" : ", alone");
	if (!d->loop.cluster && !d->volume.info.reservations && !d->volume.info.is_file)
		log_line(TRACE_WARN,
			"%s: this target has no persistent reservations: nothing but its "
			"heartbeat keeps a second mount away",
			d->cfg.fsname);
	err = loop_run(&d->loop, text, sizeof(text));
	log_line(err ? TRACE_ERROR : TRACE_INFO, "end: %s", text);
	pidfile_end(d);
	if ((err && d->parent_fd < 0) || !d->mounted) {
		char whole[1024];

		snprintf(whole, sizeof(whole), "%s: %s", d->cfg.fsname, text);
		return complain(EXIT_MOUNT, whole);
	}
	return err ? EXIT_MOUNT : 0;
}

/* The parent: waits for the child's word. */
static int wait_for_child(int fd, pid_t child)
{
	char ok;
	int status;

	if (read(fd, &ok, 1) == 1)
		return 0;
	/* It has said on stderr what is wrong; its exit code is ours. */
	if (waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status))
		return WEXITSTATUS(status);
	return complain(EXIT_INTERNAL, "the daemon ended without a word; see its log");
}

static int daemonize(struct daemon *d)
{
	int fds[2];
	pid_t child;

	if (pipe2(fds, O_CLOEXEC))
		return complain(EXIT_SYSTEM, strerror(errno));
	child = fork();
	if (child < 0)
		return complain(EXIT_SYSTEM, strerror(errno));
	if (child) {
		close(fds[1]);
		return wait_for_child(fds[0], child);
	}
	close(fds[0]);
	d->parent_fd = fds[1];
	setsid();
	(void)!chdir("/");
	return serve(d);
}

static int remount(const struct config *c)
{
	unsigned long flags = MS_REMOUNT | (c->readonly ? MS_RDONLY : 0) |
			      (c->noatime ? MS_NOATIME : 0) | (c->nosuid ? MS_NOSUID : 0) |
			      (c->nodev ? MS_NODEV : 0) | (c->noexec ? MS_NOEXEC : 0) |
			      (c->sync ? MS_SYNCHRONOUS : 0) | (c->dirsync ? MS_DIRSYNC : 0);

	char text[CONFIG_TEXT_MAX];

	if (!mount(NULL, c->mountpoint, NULL, flags, NULL))
		return 0;
	if (errno == EINVAL)
		snprintf(text, sizeof(text),
			"%s: nothing is mounted there that could be mounted again with other "
			"options; without -o remount it is mounted",
			c->mountpoint);
	else if (errno == EPERM)
		snprintf(text, sizeof(text), "%s: only root can change how it is mounted",
			c->mountpoint);
	else
		snprintf(text, sizeof(text), "%s: remount: %s", c->mountpoint, strerror(errno));
	return complain(EXIT_MOUNT, text);
}

static int run(struct daemon *d, int argc, char **argv)
{
	enum trace_level level = TRACE_INFO;
	char text[CONFIG_TEXT_MAX] = "";
	int err;

	switch (config_parse(&d->cfg, argc, argv, text)) {
	case CONFIG_DONE:
		return 0;
	case CONFIG_ERROR:
		return complain(EXIT_USAGE, text);
	case CONFIG_RUN:
		break;
	}
	if (d->cfg.loglevel && !log_parse_level(d->cfg.loglevel, &level))
		return complain(EXIT_USAGE, "loglevel is error, warn, info or debug");
	if (d->cfg.debug)
		level = TRACE_DEBUG;
	if (d->cfg.fake)
		return 0;
	if (d->cfg.remount)
		return remount(&d->cfg);
	err = log_open(d->cfg.log, d->cfg.foreground, level);
	if (err) {
		snprintf(text, sizeof(text), "log=%s: %s", d->cfg.log, strerror(-err));
		return complain(EXIT_USAGE, text);
	}
	if (!pidfile_open(d, text, sizeof(text)))
		return complain(EXIT_USAGE, text);
	/* To refuse it would leave a machine without its volume for the sake of a few times. */
	if (d->cfg.strictatime)
		fputs("csvfs: strictatime: not for csvfs; access times are kept as with relatime\n",
			stderr);
	return d->cfg.foreground ? serve(d) : daemonize(d);
}

int main(int argc, char **argv)
{
	static struct daemon d = {.parent_fd = -1, .pid_fd = -1};
	int rc = run(&d, argc, argv);

	config_free(&d.cfg);
	return rc;
}
