/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * csvctl.c - asks a csvfs daemon for its state, tells it what to do; makes the cluster's
 * certificates.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "redirect/pki.h"
#include "tools/ask.h"
#include "tools/json.h"
#include "tools/tool.h"

#define EXIT_REFUSED 1
#define EXIT_USAGE 2
#define GROW_SECONDS 60

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
	char mode[64], reason[256], since[32], through[72];
	time_t t = (time_t)(json_u64(s, "since_ns") / 1000000000u);
	struct tm tm;

	json_text(s, "mode", "?", mode, sizeof(mode));
	json_text(s, "reason", "", reason, sizeof(reason));
	localtime_r(&t, &tm);
	strftime(since, sizeof(since), "%Y-%m-%d %H:%M:%S", &tm);
	json_text(s, "through", "", through, sizeof(through));
	row("mode", "%s%s%s%s%s%s since %s", mode, *through ? " through " : "", through, *reason ? " (" : "", reason,
		*reason ? ")" : "", since);
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
	json_text(s, "node", "?", a, sizeof(a));
	if (json_true(s, "standalone"))
		row("node", "%s, alone", a);
	else
		row("node", "%s (id %s)", a, json_text(s, "id", "?", b, sizeof(b)));
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
	int rc = ask_one(socket_path, line, &text);

	if (rc < 0) {
		fprintf(stderr, "csvctl: %s: %s\n", socket_path,
			errno == ENOENT || errno == ECONNREFUSED ? "no csvfs answers there"
								 : strerror(errno));
		return ASK_NOBODY;
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
	int rc = ask_find(where, "csvctl", &g, &count);

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
	ask_seconds = GROW_SECONDS;
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
	rc = ask_find(where, "csvctl", &g, &count);
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
