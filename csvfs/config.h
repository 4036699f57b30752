/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config.h - what the user asked for: command line and mount options of csvfs. */
#ifndef CSVFS_CONFIG_H
#define CSVFS_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "csvfs/base/limits.h"

#define CONFIG_TEXT_MAX 512

struct config {
	char *volume;	  /* iscsi://... with its host as a number, or absolute path */
	char *fsname;	  /* for people: without secrets */
	char *mountpoint; /* absolute */
	bool foreground, debug, verbose, fake;

	/* generic mount options */
	bool readonly, noatime, nodiratime, nosuid, nodev, noexec, remount;
	bool sync;	  /* every write as if its file had been opened with O_SYNC */
	bool dirsync;	  /* names are durable when a call returns anyway; for /proc/mounts */
	bool strictatime; /* cannot be had */

	/* csvfs's own */
	char *pki;	 /* folder of ca.crt, node.crt, node.key */
	char *addr;	 /* to listen on and to be reached at; NULL: corosync's ring0_addr */
	uint16_t port;
	char *ctl;	 /* NULL: /run/csvfs/UUID.sock */
	char *log;	 /* NULL: syslog, or stderr with -f */
	char *loglevel;	 /* NULL: info */
	char *pidfile;
	char *initiator;
	char *chap_user, *chap_secret;
	bool nocluster;	 /* use a cluster's volume alone */
	bool copied;	 /* accept a LUN that is a copy of the original one */
	unsigned threads;
	uint64_t cache_bytes;
	uint64_t io_timeout_ns;
	/* 0: the default of node.h */
	uint64_t hold_ns, commit_ns, recall_ns, reclaim_ns, path_retry_ns;
};

enum config_result {
	CONFIG_RUN,
	CONFIG_DONE,  /* --help, --version: said what was asked for */
	CONFIG_ERROR, /* text says why; exit code 1 */
};

/*
 * argv[0] ending in "mount.csvfs" means mount(8)'s conventions: -f is "fake", -n, -s, -v, -t are
 * accepted. Resolves paths and host names, so it may block. config_free() in any case.
 */
enum config_result config_parse(
	struct config *c, int argc, char **argv, char text[CONFIG_TEXT_MAX]);

void config_free(struct config *c);

/* "64M", "1G", "4096": powers of 1024. */
bool config_parse_size(const char *s, uint64_t *bytes);
/* "4", "2.5", "300ms": seconds if nothing else is said. */
bool config_parse_time(const char *s, uint64_t *ns);

#endif
