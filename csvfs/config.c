/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "csvfs/base/assert.h"
#include "csvfs/bdev.h"

static const char usage[] =
	"usage: csvfs VOLUME MOUNTPOINT [-o OPTIONS] [-f] [-d]\n"
	"\n"
	"  VOLUME       iscsi://[user[%secret]@]host[:port]/target-name/lun, or an image file\n"
	"  -f           stay in the foreground; log to stderr\n"
	"  -d           the same, with debugging messages\n"
	"  -o OPTIONS   separated by commas:\n"
	"    pki=DIR         ca.crt, node.crt and node.key [/etc/csvfs/pki]\n"
	"    addr=IP         where other nodes reach this one [corosync's ring0_addr]\n"
	"    port=N          TCP port for that [7660]\n"
	"    hold=SECONDS    I/O that is held that long fails [never]\n"
	"    io_timeout=SECONDS  a path without an answer for that long is lost [4]\n"
	"    cache=SIZE      memory for metadata [64M]\n"
	"    initiator=IQN   iSCSI name of this node [/etc/iscsi/initiatorname.iscsi]\n"
	"    chap_file=FILE  with lines user=NAME and secret=TEXT\n"
	"    ctl=PATH        socket for csvctl [/run/csvfs/UUID.sock]\n"
	"    log=FILE, loglevel=error|warn|info|debug, pidfile=FILE\n"
	"    nocluster       use the volume of a cluster alone; no other node may use it "
	"meanwhile\n"
	"    copied          accept that the LUN is a copy of the one the volume was made on\n"
	"    commit, recall, reclaim, path_retry=SECONDS, threads=N  csvfs(8) explains them\n"
	"    and those of mount(8): ro, sync, dirsync, noatime, nodiratime, strictatime, nosuid, "
	"nodev,\n"
	"    noexec, remount, _netdev, nofail, x-..., ...\n"
	"  -V           print the version\n";

static bool fail(char *text, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static bool fail(char *text, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, CONFIG_TEXT_MAX, fmt, ap);
	va_end(ap);
	return false;
}

static char *copy(const char *s)
{
	char *p = strdup(s);

	csv_assert(p != NULL);
	return p;
}

/* An option that is given twice: the last one counts. */
static void set(char **to, const char *value)
{
	free(*to);
	*to = copy(value);
}

bool config_parse_size(const char *s, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	char *end;
	const char *u;

	errno = 0;
	*bytes = strtoull(s, &end, 10);
	if (end == s || errno || *s == '-')
		return false;
	if (!*end)
		return true;
	u = strchr(units, *end & ~0x20);
	if (!u || end[1] || *bytes >> (54 - 10 * (u - units)))
		return false;
	*bytes <<= 10 * (u - units + 1);
	return true;
}

bool config_parse_time(const char *s, uint64_t *ns)
{
	char *end;
	double v = strtod(s, &end);

	if (end == s || !(v >= 0) || v > 1e8)
		return false;
	if (!strcmp(end, "ms"))
		v /= 1000;
	else if (*end && strcmp(end, "s"))
		return false;
	*ns = (uint64_t)(v * (double)NS_PER_SEC + 0.5);
	return true;
}

/* ------------------------------------------------------------------ options */

/* user=NAME and secret=TEXT, a line each. */
static bool read_chap(struct config *c, const char *path, char *text)
{
	char line[600];
	struct stat st;
	FILE *f = fopen(path, "re");

	if (!f)
		return fail(text, "chap_file=%s: %s", path, strerror(errno));
	if (fstat(fileno(f), &st) || (st.st_mode & 077)) {
		fclose(f);
		return fail(text, "chap_file=%s: others may read it; chmod 600 it", path);
	}
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\r\n")] = 0;
		if (!strncmp(line, "user=", 5))
			set(&c->chap_user, line + 5);
		else if (!strncmp(line, "secret=", 7))
			set(&c->chap_secret, line + 7);
	}
	fclose(f);
	if (!c->chap_user || !c->chap_secret)
		return fail(
			text, "chap_file=%s: needs a line user=NAME and a line secret=TEXT", path);
	return true;
}

/*
 * What mount(8), fstab and systemd pass that is not for csvfs, or is done by the kernel. For a remount
 * mount(8) passes all that /proc/mounts shows, with what FUSE adds there.
 */
static bool is_generic(const char *name)
{
	static const char *const names[] = {"defaults", "auto", "noauto", "user", "nouser", "users",
		"owner", "group", "_netdev", "nofail", "relatime", "norelatime",
		"lazytime", "nolazytime", "mand", "nomand", "iversion",
		"noiversion", "silent", "loud", "context", "fscontext", "defcontext", "rootcontext",
		"seclabel", "comment", "allow_other", "default_permissions", "uhelper", "helper",
		"nosymfollow", "user_id", "group_id", "max_read",
		/* always so here */
		"acl", "user_xattr"};

	if (!strncmp(name, "x-", 2) || !strncmp(name, "X-", 2))
		return true;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

/* Of two that contradict each other the later one counts, as with every mount (an fstab line, then -o). */
static bool set_flag(struct config *c, const char *name)
{
	struct {
		const char *name, *opposite;
		bool *flag;
	} flags[] = {{"ro", "rw", &c->readonly}, {"noatime", "atime", &c->noatime},
		{"nodiratime", "diratime", &c->nodiratime}, {"nosuid", "suid", &c->nosuid},
		{"nodev", "dev", &c->nodev}, {"noexec", "exec", &c->noexec},
		{"sync", "async", &c->sync}, {"dirsync", NULL, &c->dirsync},
		{"strictatime", "nostrictatime", &c->strictatime},
		{"remount", NULL, &c->remount}, {"nocluster", NULL, &c->nocluster},
		{"copied", NULL, &c->copied}};

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		bool is = !strcmp(name, flags[i].name);

		if (is || (flags[i].opposite && !strcmp(name, flags[i].opposite))) {
			*flags[i].flag = is;
			return true;
		}
	}
	return false;
}

static bool set_string(struct config *c, const char *name, const char *value)
{
	struct {
		const char *name;
		char **to;
	} strings[] = {{"pki", &c->pki}, {"addr", &c->addr}, {"ctl", &c->ctl}, {"log", &c->log},
		{"loglevel", &c->loglevel}, {"pidfile", &c->pidfile}, {"initiator", &c->initiator}};

	for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
		if (!strcmp(name, strings[i].name)) {
			set(strings[i].to, value);
			return true;
		}
	}
	return false;
}

/* 1: it was one, 0: it was none, -1: a bad value, and `text` says what would be a good one. */
static int set_time(struct config *c, const char *name, const char *value, char *text)
{
	struct {
		const char *name;
		uint64_t *to, min_ns, max_ns;
		bool never; /* 0 is allowed, and means that */
	} times[] = {{"hold", &c->hold_ns, NS_PER_SEC / 10, 1000000 * NS_PER_SEC, true},
		{"io_timeout", &c->io_timeout_ns, NS_PER_SEC / 10, 3600 * NS_PER_SEC, false},
		{"commit", &c->commit_ns, NS_PER_SEC / 100, 300 * NS_PER_SEC, false},
		{"recall", &c->recall_ns, NS_PER_SEC / 10, 3600 * NS_PER_SEC, false},
		{"reclaim", &c->reclaim_ns, NS_PER_SEC / 10, 3600 * NS_PER_SEC, false},
		{"path_retry", &c->path_retry_ns, NS_PER_SEC / 100, 3600 * NS_PER_SEC, false}};

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		uint64_t ns;

		if (strcmp(name, times[i].name))
			continue;
		if (!config_parse_time(value, &ns)) {
			(void)fail(text, "option %s=%s: not a time in seconds", name, value);
			return -1;
		}
		if ((ns || !times[i].never) && (ns < times[i].min_ns || ns > times[i].max_ns)) {
			(void)fail(text, "option %s=%s: from %llums to %llu seconds%s", name, value,
				(unsigned long long)(times[i].min_ns / NS_PER_MS),
				(unsigned long long)(times[i].max_ns / NS_PER_SEC),
				times[i].never ? ", or 0: never" : "");
			return -1;
		}
		*times[i].to = ns;
		return 1;
	}
	return 0;
}

static bool is_address(const char *s)
{
	struct in6_addr a;

	return inet_pton(AF_INET, s, &a) == 1 || inet_pton(AF_INET6, s, &a) == 1;
}

static bool set_value(struct config *c, const char *name, const char *value, char *text)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);
	int is_time;

	if (*end)
		n = 0; /* 12x is no number */

	if (set_string(c, name, value)) {
		if (!strcmp(name, "addr") && *value && !is_address(value))
			return fail(text, "option addr=%s: not an IP address", value);
		return *value || fail(text, "option %s needs a value", name);
	}
	is_time = set_time(c, name, value, text);
	if (is_time)
		return is_time > 0;
	if (!strcmp(name, "chap_file"))
		return read_chap(c, value, text);
	if (!strcmp(name, "port")) {
		c->port = (uint16_t)n;
		return (n > 0 && n < 65536) || fail(text, "option port=%s: not a port", value);
	}
	if (!strcmp(name, "threads")) {
		c->threads = (unsigned)n;
		return (n > 0 && n <= 16) || fail(text, "option threads=%s: 1 to 16", value);
	}
	if (!strcmp(name, "cache"))
		return (config_parse_size(value, &c->cache_bytes) && c->cache_bytes >= (8u << 20) &&
			       c->cache_bytes <= (64ull << 30)) ||
		       fail(text, "option cache=%s: a size from 8M to 64G", value);
	return fail(text, "unknown option %s (csvfs -h lists them)", name);
}

static bool set_option(struct config *c, char *word, char *text)
{
	char *value = strchr(word, '=');

	if (!*word)
		return true;
	if (value)
		*value++ = 0;
	if (is_generic(word))
		return true;
	if (!value && set_flag(c, word))
		return true;
	return set_value(c, word, value ? value : "", text);
}

/* A comma inside quotes does not end an option: context="a,b". */
static bool set_options(struct config *c, const char *list, char *text)
{
	char *s = copy(list), *word = s;
	bool quoted = false, ok = true;

	for (char *p = s; ok; p++) {
		char ch = *p;

		if (ch == '"')
			quoted = !quoted;
		if (ch && (ch != ',' || quoted))
			continue;
		*p = 0;
		ok = set_option(c, word, text);
		word = p + 1;
		if (!ch)
			break;
	}
	free(s);
	return ok;
}

/* ------------------------------------------------------------------ volume and mount point */

/*
 * The host name becomes an address now: later it would be looked up by the thread that must never
 * block, at the very moment when something is wrong with the network.
 */
static bool resolve_url(struct config *c, const char *url, char *text)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *ai;
	const char *host = strstr(url, "://") + 3, *end;
	char name[256], number[NI_MAXHOST], *out;
	int err;

	if (strchr(host, '@'))
		host = strchr(host, '@') + 1;
	end = host + strcspn(host, ":/");
	if (*host == '[' || *end == 0 || end == host || (size_t)(end - host) >= sizeof(name)) {
		c->volume = copy(url); /* an IPv6 number, or wrong: bdev_open() says how */
		return true;
	}
	snprintf(name, sizeof(name), "%.*s", (int)(end - host), host);
	err = getaddrinfo(name, NULL, &hints, &ai);
	if (err)
		return fail(text, "%s: host %s: %s", c->fsname, name, gai_strerror(err));
	err = getnameinfo(
		ai->ai_addr, ai->ai_addrlen, number, sizeof(number), NULL, 0, NI_NUMERICHOST);
	if (!err && asprintf(&out, "%.*s%s%s%s%s", (int)(host - url), url,
			    ai->ai_family == AF_INET6 ? "[" : "", number,
			    ai->ai_family == AF_INET6 ? "]" : "", end) > 0)
		c->volume = out;
	else
		c->volume = copy(url);
	freeaddrinfo(ai);
	return true;
}

static bool set_volume(struct config *c, const char *volume, char *text)
{
	char shown[BDEV_TEXT_MAX], *path;

	bdev_url_text(volume, shown, sizeof(shown));
	c->fsname = copy(shown);
	if (strstr(volume, "://") && strncmp(volume, "iscsi://", 8))
		return fail(text, "%s: a volume is an image file or iscsi://host/target-name/lun",
			shown);
	if (strstr(volume, "://"))
		return resolve_url(c, volume, text);
	path = realpath(volume, NULL);
	if (!path)
		return fail(text, "%s: %s", volume, strerror(errno));
	c->volume = path;
	set(&c->fsname, path);
	return true;
}

static bool set_mountpoint(struct config *c, const char *path, char *text)
{
	struct stat st;

	int err;

	c->mountpoint = realpath(path, NULL);
	err = c->mountpoint && !stat(c->mountpoint, &st) ? 0 : errno;
	if (err == ENOTCONN || err == ECONNABORTED) /* the second: it died while we asked */
		return fail(text,
			"mount point %s: a daemon that died is still mounted there; umount -l it",
			path);
	if (err)
		return fail(text, "mount point %s: %s", path, strerror(err));
	return S_ISDIR(st.st_mode) || fail(text, "mount point %s: not a directory", path);
}

/* InitiatorName=... of open-iscsi, since targets may already know this node by it. */
static void default_initiator(struct config *c)
{
	char line[300];
	FILE *f = c->initiator ? NULL : fopen("/etc/iscsi/initiatorname.iscsi", "re");

	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, " \t\r\n")] = 0;
		if (!strncmp(line, "InitiatorName=", 14) && line[14])
			set(&c->initiator, line + 14);
	}
	if (f)
		fclose(f);
}

/* ------------------------------------------------------------------ command line */

static bool parse_words(struct config *c, int argc, char **argv, const char *words[2], char *text)
{
	bool helper = strstr(argv[0], "mount.csvfs") != NULL;
	int n = 0;

	for (int i = 1; i < argc; i++) {
		const char *a = argv[i];

		if (a[0] != '-') {
			if (n == 2)
				return fail(text, "too many arguments: %s", a);
			words[n++] = a;
		} else if (!strcmp(a, "-o") || (helper && (!strcmp(a, "-t") || !strcmp(a, "-N")))) {
			if (++i == argc)
				return fail(text, "%s needs a value", a);
			if (a[1] == 'o' && !set_options(c, argv[i], text))
				return false;
		} else if (!strncmp(a, "-o", 2)) {
			if (!set_options(c, a + 2, text))
				return false;
		} else if (!strcmp(a, "-d") || !strcmp(a, "--debug")) {
			c->foreground = c->debug = true;
		} else if (!strcmp(a, "-f") && !helper) {
			c->foreground = true;
		} else if (helper && strspn(a + 1, "fnsv") == strlen(a + 1)) {
			c->fake |= strchr(a, 'f') != NULL;
		} else {
			return fail(text, "unknown option %s (csvfs -h lists them)", a);
		}
	}
	return n == 2 || fail(text, "which volume, and where to mount it? (csvfs -h)");
}

enum config_result config_parse(struct config *c, int argc, char **argv, char text[CONFIG_TEXT_MAX])
{
	const char *words[2] = {NULL, NULL};

	memset(c, 0, sizeof(*c));
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help")) {
			fputs(usage, stdout);
			return CONFIG_DONE;
		}
		if (!strcmp(argv[i], "-V") || !strcmp(argv[i], "--version")) {
			puts("csvfs " CSVFS_VERSION);
			return CONFIG_DONE;
		}
	}
	c->pki = copy("/etc/csvfs/pki");
	c->port = 7660;
	c->threads = 1;
	c->cache_bytes = 64u << 20;
	c->io_timeout_ns = 4 * NS_PER_SEC;
	if (!parse_words(c, argc, argv, words, text) || !set_mountpoint(c, words[1], text) ||
		(!c->remount && !set_volume(c, words[0], text)))
		return CONFIG_ERROR;
	default_initiator(c);
	return CONFIG_RUN;
}

void config_free(struct config *c)
{
	char *strings[] = {c->volume, c->fsname, c->mountpoint, c->pki, c->addr, c->ctl, c->log,
		c->loglevel, c->pidfile, c->initiator, c->chap_user, c->chap_secret};

	for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++)
		free(strings[i]);
	memset(c, 0, sizeof(*c));
}
