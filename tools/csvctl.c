/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * csvctl.c - asks a csvfs daemon for its state, tells it what to do; makes the cluster's
 * certificates.
 */
#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <mntent.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "redirect/pki.h"
#include "tools/json.h"
#include "tools/tool.h"

#define EXIT_REFUSED 1
#define EXIT_USAGE 2
#define EXIT_NOBODY 3
#define ANSWER_MAX (256u << 10)
#define ANSWER_SECONDS 10
#define MORE_MS 200 /* a second daemon with the same mount point may take so long to say so */
#define GROW_SECONDS 60
#define SOCKETS "/run/csvfs/*.sock"

static const char usage[] =
	"usage: csvctl [-s SOCKET|MOUNTPOINT] state [--json]\n"
	"       csvctl [-s ...] move NODE           NODE is to coordinate\n"
	"       csvctl [-s ...] pause | resume      hold this node's I/O, let it go on\n"
	"       csvctl [-s ...] redirect on|off     this node's data goes through the coordinator\n"
	"       csvctl [-s ...] grow [MOUNTPOINT] [--size SIZE] [-n]\n"
	"                                           the volume takes what its LUN has gained (-n: says what\n"
	"                                           would happen)\n"
	"       csvctl [-s ...] scrub start|stop    look at all metadata on the LUN, repair what has a copy\n"
	"       csvctl [-s ...] scrub [status] [--json]\n"
	"       csvctl pki init [DIR] [--cluster NAME] [--force]\n"
	"       csvctl pki node [DIR] NODE [OUTDIR] [--force]\n"
	"Without -s: the csvfs that runs on this machine, if it is the only one.\n";

static int bad_usage(void)
{
	fputs(usage, stderr);
	return EXIT_USAGE;
}

/* ------------------------------------------------------------------ asking */

static int answer_seconds = ANSWER_SECONDS;

static int connect_to(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct timeval tv = {.tv_sec = answer_seconds};
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

/*
 * 0: answered, *text (malloc'ed) is what it said; 1: it refused, *text says why; -1: nobody
 * answers.
 */
static int ask(const char *socket_path, const char *line, char **text)
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
	int wait_ms = answer_seconds * 1000;
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

/* The sockets that are meant: all of them, or the one of a mount point. 0 or an exit code. */
static int find_sockets(const char *where, glob_t *g, size_t *count)
{
	char path[PATH_MAX];
	bool known = where && is_mountpoint(where, path);
	struct asked *asked;
	struct stat st;
	size_t n = 0;

	memset(g, 0, sizeof(*g));
	*count = 1;
	if (where && !known && (stat(where, &st) || !S_ISDIR(st.st_mode)))
		return glob(where, GLOB_NOCHECK | GLOB_NOMAGIC, NULL, g) ? EXIT_NOBODY : 0;
	if (!glob(SOCKETS, 0, NULL, g))
		drop_dead_links(g);
	if (!g->gl_pathc) {
		fputs("csvctl: no csvfs runs here (no socket in /run/csvfs)\n", stderr);
		return EXIT_NOBODY;
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
	fprintf(stderr, "csvctl: no csvfs has a volume mounted at %s\n", where);
	return EXIT_NOBODY;
}

/* ------------------------------------------------------------------ state as text */

static const char *size_text(uint64_t bytes, char out[32])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	double v = (double)bytes;
	int u = 0;

	while (v >= 1024 && u < 5) {
		v /= 1024;
		u++;
	}
	snprintf(out, 32, u ? "%.1f %s" : "%.0f %s", v, units[u]);
	return out;
}

static void row(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void row(const char *name, const char *fmt, ...)
{
	va_list ap;

	printf("%-12s ", name);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static void print_mode(const char *s)
{
	char mode[64], reason[256], since[32];
	time_t t = (time_t)(json_u64(s, "since_ns") / 1000000000u);
	struct tm tm;

	json_text(s, "mode", "?", mode, sizeof(mode));
	json_text(s, "reason", "", reason, sizeof(reason));
	localtime_r(&t, &tm);
	strftime(since, sizeof(since), "%Y-%m-%d %H:%M:%S", &tm);
	row("mode", "%s%s%s%s since %s", mode, *reason ? " (" : "", reason, *reason ? ")" : "",
		since);
}

static void print_members(const char *s)
{
	char id[16], name[72], path[24], rank[24];

	for (const char *m = json_first(json_find(s, "members")); m; m = json_next(m)) {
		json_text(m, "id", "?", id, sizeof(id));
		json_text(m, "name", "?", name, sizeof(name));
		json_text(m, "path", "?", path, sizeof(path));
		json_text(m, "role", "?", rank, sizeof(rank));
		printf("  %-16s id %-6s path %-8s %s\n", name, id, path, rank);
	}
}

static void print_traffic(const char *s)
{
	static const struct {
		const char *name, *read, *written;
	} rows[] = {{"direct", "bytes.direct_read", "bytes.direct_written"},
		{"redirected", "bytes.redirected_read", "bytes.redirected_written"},
		{"for others", "bytes.served_read", "bytes.served_written"}};
	char a[32], b[32];

	printf("%-12s %12s %12s\n", "", "read", "written");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		printf("%-12s %12s %12s\n", rows[i].name, size_text(json_u64(s, rows[i].read), a),
			size_text(json_u64(s, rows[i].written), b));
}

/* The data path knows how long data waited, the core how long all that goes through it did. */
static void print_waiting(const char *s)
{
	uint64_t longest = json_u64(s, "longest_stall_ms"),
		 metadata = json_u64(s, "core_stall_ms.metadata"),
		 data = json_u64(s, "core_stall_ms.data");
	char a[32], b[32];

	longest = metadata > longest ? metadata : longest;
	longest = data > longest ? data : longest;
	row("waiting", "%s metadata, %s data; longest stall %lu ms",
		json_text(s, "held.metadata", "0", a, sizeof(a)),
		json_text(s, "held.data", "0", b, sizeof(b)), longest);
}

static void print_state(const char *s)
{
	char a[256], b[256], c[64];

	row("volume", "%s", json_text(s, "device", "?", a, sizeof(a)));
	row("", "%s", json_text(s, "volume", "?", a, sizeof(a)));
	row("mounted at", "%s (csvfs %s, pid %s)", json_text(s, "mountpoint", "?", a, sizeof(a)),
		json_text(s, "version", "?", b, sizeof(b)), json_text(s, "pid", "?", c, sizeof(c)));
	row("node", "%s (id %s)%s", json_text(s, "node", "?", a, sizeof(a)),
		json_text(s, "id", "?", b, sizeof(b)), json_true(s, "standalone") ? ", alone" : "");
	row("coordinator", "%s, epoch %s, %s", json_text(s, "coordinator", "nobody", a, sizeof(a)),
		json_text(s, "epoch", "?", b, sizeof(b)),
		json_text(s, "takeover", "?", c, sizeof(c)));
	print_mode(s);
	json_text(s, "path_reason", "", a, sizeof(a));
	row("path", "%s%s%s%s, lost %s times", json_text(s, "path", "?", b, sizeof(b)),
		*a ? " (" : "", a, *a ? ")" : "", json_text(s, "path_losses", "?", c, sizeof(c)));
	if (!json_true(s, "standalone")) {
		row("cluster", "%s", json_true(s, "quorate") ? "quorate" : "NOT QUORATE");
		print_members(s);
	}
	print_traffic(s);
	row("operations", "%s metadata, %s direct reads, %s direct writes",
		json_text(s, "ops.metadata", "0", a, sizeof(a)),
		json_text(s, "ops.direct_reads", "0", b, sizeof(b)),
		json_text(s, "ops.direct_writes", "0", c, sizeof(c)));
	print_waiting(s);
}

static void print_scrub(const char *s)
{
	char a[32], problem[64];
	uint64_t found = json_u64(s, "found"), groups = json_u64(s, "groups");

	row("scrub", "%s", json_true(s, "running")    ? "running"
			   : json_true(s, "complete") ? "done"
						      : "not run, or stopped, since the present coordinator began");
	if (groups)
		row("seen", "%s blocks, %lu of %lu groups", json_text(s, "checked", "0", a, sizeof(a)),
			json_u64(s, "group"), groups);
	row("problems", "%lu, %s repaired", found, json_text(s, "repaired", "0", a, sizeof(a)));
	for (const char *f = json_first(json_find(s, "findings")); f; f = json_next(f)) {
		json_text(f, "problem", "?", problem, sizeof(problem));
		printf("  block %-10s %-24s %s\n", json_text(f, "block", "?", a, sizeof(a)), problem,
			json_true(f, "repaired") ? "repaired" : "NOT REPAIRED: run fsck.csvfs");
	}
}

/* ------------------------------------------------------------------ commands */

static int tell(const char *socket_path, const char *line, bool json)
{
	bool state = !strcmp(line, "state");
	char *text;
	int rc = ask(socket_path, line, &text);

	if (rc < 0) {
		fprintf(stderr, "csvctl: %s: %s\n", socket_path,
			errno == ENOENT || errno == ECONNREFUSED ? "no csvfs answers there"
								 : strerror(errno));
		return EXIT_NOBODY;
	}
	if (rc > 0)
		fprintf(stderr, "csvctl: %s", text);
	else if (state && !json)
		print_state(text);
	else if (!strcmp(line, "scrub status") && !json)
		print_scrub(text);
	else
		fputs(text, stdout);
	free(text);
	return rc ? EXIT_REFUSED : 0;
}

/* One line to the one daemon that is meant. */
static int command(const char *where, const char *line, bool json)
{
	size_t count;
	glob_t g;
	int rc = find_sockets(where, &g, &count);

	if (!rc && count > 1) {
		fputs("csvctl: several volumes are mounted here: say which with -s MOUNTPOINT\n",
			stderr);
		rc = EXIT_USAGE;
	}
	if (!rc)
		rc = tell(g.gl_pathv[0], line, json);
	globfree(&g);
	return rc;
}

static int grow_command(const char *where, int argc, char **argv)
{
	char line[64], size[32] = "";
	uint64_t bytes;
	bool dry = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-n") || !strcmp(argv[i], "--dry-run")) {
			dry = true;
		} else if (!strcmp(argv[i], "--size") && i + 1 < argc) {
			if (!tool_parse_size(argv[++i], &bytes) || !bytes) {
				fprintf(stderr, "csvctl: \"%s\" is not a size, as 500G or 4T\n", argv[i]);
				return EXIT_USAGE;
			}
			snprintf(size, sizeof(size), " %llu", (unsigned long long)bytes);
		} else if (argv[i][0] != '-' && !where) {
			where = argv[i];
		} else {
			return bad_usage();
		}
	}
	snprintf(line, sizeof(line), "grow%s%s", size, dry ? " dry" : "");
	answer_seconds = GROW_SECONDS;
	return command(where, line, false);
}

static int scrub_command(const char *where, int argc, char **argv)
{
	const char *what = "status";
	bool json = false;
	char line[32];

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			json = true;
		else if (i == 1 && (!strcmp(argv[i], "start") || !strcmp(argv[i], "stop") ||
					   !strcmp(argv[i], "status")))
			what = argv[i];
		else
			return bad_usage();
	}
	snprintf(line, sizeof(line), "scrub %s", what);
	return command(where, line, json);
}

static int daemon_command(const char *where, int argc, char **argv)
{
	bool state = !strcmp(argv[0], "state"),
	     json = state && argc == 2 && !strcmp(argv[1], "--json");
	char line[256];
	size_t count;
	glob_t g;
	int rc;

	if (state							   ? argc > 1 && !json
		: !strcmp(argv[0], "move") || !strcmp(argv[0], "redirect") ? argc != 2
									   : argc != 1)
		return bad_usage();
	if (snprintf(line, sizeof(line), "%s%s%s", argv[0], argc == 2 && !json ? " " : "",
		    argc == 2 && !json ? argv[1] : "") >= (int)sizeof(line))
		return bad_usage();
	rc = find_sockets(where, &g, &count);
	if (!rc && count > 1 && !state) {
		fputs("csvctl: several volumes are mounted here: say which with -s MOUNTPOINT\n",
			stderr);
		rc = EXIT_USAGE;
	}
	for (size_t i = 0; i < count && !rc; i++) {
		if (i && !json)
			putchar('\n');
		rc = tell(g.gl_pathv[i], line, json);
	}
	globfree(&g);
	return rc;
}

static int pki_command(int argc, char **argv)
{
	const char *words[4] = {NULL}, *cluster = "csvfs";
	char text[PKI_TEXT_MAX] = "";
	bool force = false;
	int n = 0, err;

	for (int i = 0; i < argc; i++) {
		if (!strcmp(argv[i], "--force"))
			force = true;
		else if (!strcmp(argv[i], "--cluster") && i + 1 < argc)
			cluster = argv[++i];
		else if (argv[i][0] == '-' || n == 4)
			return bad_usage();
		else
			words[n++] = argv[i];
	}
	if (n >= 1 && n <= 2 && !strcmp(words[0], "init"))
		err = pki_init(
			n == 2 ? words[1] : "/etc/csvfs/pki", cluster, force, text, sizeof(text));
	else if (n == 2 && !strcmp(words[0], "node"))
		err = pki_node("/etc/csvfs/pki", words[1], NULL, force, text, sizeof(text));
	else if (n >= 3 && !strcmp(words[0], "node"))
		err = pki_node(words[1], words[2], words[3], force, text, sizeof(text));
	else
		return bad_usage();
	if (err)
		fprintf(stderr, "csvctl: %s\n", text);
	else if (*text)
		puts(text);
	return err ? EXIT_REFUSED : 0;
}

int main(int argc, char **argv)
{
	static const char *const commands[] = {"state", "move", "pause", "resume", "redirect"};
	const char *where = NULL;
	int i = 1;

	if (argc > 1 && (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))) {
		fputs(usage, stdout);
		return 0;
	}
	if (argc > 1 && (!strcmp(argv[1], "-V") || !strcmp(argv[1], "--version"))) {
		puts("csvctl " CSVFS_VERSION);
		return 0;
	}
	if (argc > 2 && !strcmp(argv[1], "-s")) {
		where = argv[2];
		i = 3;
	}
	if (i < argc && !strcmp(argv[i], "pki"))
		return pki_command(argc - i - 1, argv + i + 1);
	if (i < argc && !strcmp(argv[i], "scrub"))
		return scrub_command(where, argc - i, argv + i);
	if (i < argc && !strcmp(argv[i], "grow"))
		return grow_command(where, argc - i, argv + i);
	for (size_t k = 0; i < argc && k < sizeof(commands) / sizeof(commands[0]); k++)
		if (!strcmp(argv[i], commands[k]))
			return daemon_command(where, argc - i, argv + i);
	return bad_usage();
}
