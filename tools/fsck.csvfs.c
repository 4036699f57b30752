/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fsck.csvfs - checks a volume that is not mounted. The check itself is tools/check; this is options,
 * refusing what must not be touched, printing, and exit codes as e2fsck(8) has them.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "metadata/ops.h"
#include "metadata/run_sync.h"
#include "metadata/verify.h"
#include "tools/tool.h"

enum {
	EXIT_CLEAN = 0,
	EXIT_CORRECTED = 1,
	EXIT_UNCORRECTED = 4,
	EXIT_OPERATION = 8,
	EXIT_USAGE = 16,
	EXIT_CANCELLED = 32,
};

enum mode {
	MODE_NO, /* -n: nothing is written */
	MODE_PREEN, /* -p: what is safe without asking; a volume unmounted in order is not read */
	MODE_YES, /* -y: everything */
};

/* The check's memory: address space only, pages come as they are used. Less where the system gives no more (ulimit, overcommit). */
#define CHECK_MEM_BYTES (16ull << 30)
#define CHECK_MEM_MIN (64ull << 20)
#define SHOWN_PER_CODE 50u

struct fsck {
	struct tool_volume v;
	enum mode mode;
	bool mode_given;
	bool force, verbose, json;
	bool json_comma;
	bool progress; /* shown: standard output is a terminal, or -C 0 */
	int progress_fd; /* -C: lines for a program; 0: none */
	enum check_super super;
	bool nodes_off;
	bool replayed;
	bool not_read; /* -p believes the claim */
	unsigned long long repaired; /* blocks */
	uint64_t shown_ns, told_ns;
	enum check_phase phase;
	struct check_report rep; /* of the first check */
};

static void usage(FILE *f)
{
	fprintf(f,
		"usage: fsck.csvfs [-n | -p | -y] [-f] [-v] [-C FD] [--super WHICH] [--json]\n"
		"                  [--nodes-off] [--initiator IQN] VOLUME\n"
		"  VOLUME            image file, or iscsi://[user%%secret@]host[:port]/target/lun\n"
		"  -n                check only, write nothing (the default)\n"
		"  -p, -a            replay the journal, repair what loses nothing; quick if "
		"nothing is to do\n"
		"  -y                check everything, repair everything\n"
		"  -f                check a clean volume with -p too; with -n: even if it is "
		"mounted\n"
		"  -v                say what is done, show every problem\n"
		"  -C FD             write how far it is to this file descriptor; 0: a bar on the "
		"terminal\n"
		"  --super WHICH     believe this superblock: first, copy or last\n"
		"  --nodes-off       with -p or -y: no node runs that had it mounted, or was fenced:\n"
		"                    registrations at the LUN are removed\n"
		"  --json            result as JSON on standard output\n"
		"  --initiator IQN   iSCSI name to log in with\n"
		"  -M, -T            as fsck(8) may pass them on: no effect\n"
		"  -V, --version, -h, --help   version, this help\n"
		"exit status: 0 clean, 1 corrected, 4 problems left, 8 cannot check, 16 usage,\n"
		"             32 cancelled\n");
}

/* ------------------------------------------------------------------ output */

/* Bytes of the character of UTF-8 that s begins with; 0: it begins with none. */
static unsigned utf8_bytes(const unsigned char *s)
{
	const unsigned n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

	/* Too long for what it says, a surrogate, behind the last one. */
	if (s[0] > 0xf4 || (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
		(s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	for (unsigned i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

/* A file's name is any bytes, JSON is UTF-8: what is none becomes U+FFFD. */
static void json_string(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;
	unsigned n;

	putchar('"');
	for (; *p; p += n ? n : 1) {
		n = utf8_bytes(p);
		if (*p == '"' || *p == '\\')
			printf("\\%c", *p);
		else if (*p < 32)
			printf("\\u%04x", *p);
		else if (n)
			printf("%.*s", (int)n, (const char *)p);
		else
			printf("\\ufffd");
	}
	putchar('"');
}

static void json_begin(const struct fsck *f)
{
	printf("{\n  \"volume\": ");
	json_string(f->v.name);
	printf(",\n  \"problems\": [");
}

/* Takes the line of progress away again. */
static void progress_end(struct fsck *f)
{
	if (f->shown_ns)
		printf("\r\033[K");
	f->shown_ns = 0;
}

static void on_problem(void *ctx, const struct check_problem *p)
{
	struct fsck *f = ctx;
	char text[512];

	check_problem_text(p, text, sizeof(text));
	progress_end(f);
	if (f->json) {
		printf("%s\n    {\"problem\": \"%s\", \"severity\": \"%s\", \"block\": %llu, "
		       "\"inode\": %llu, "
		       "\"found\": %llu, \"want\": %llu, \"text\": ",
			f->json_comma ? "," : "", problem_name(p->code),
			severity_name(problem_severity(p->code)), (unsigned long long)p->blkno,
			(unsigned long long)p->ino, (unsigned long long)p->found,
			(unsigned long long)p->want);
		json_string(text);
		putchar('}');
		f->json_comma = true;
		return;
	}
	if (f->verbose || f->rep.count[p->code] <= SHOWN_PER_CODE)
		printf("%s\n", text);
	else if (f->rep.count[p->code] == SHOWN_PER_CODE + 1)
		printf("further problems of the kind %s are not shown (-v shows them)\n",
			problem_name(p->code));
}

static const char *const passes[] = {"superblock and claim", "journal", "groups and chunks",
	"inodes and extents", "directories", "orphans, intents, reply cache, link counts",
	"space in use"};

/* As e2fsck -C writes it: pass, done, of how many, of what. */
static void progress_line(struct fsck *f, uint64_t done, uint64_t total)
{
	if (f->progress_fd > 0 &&
		dprintf(f->progress_fd, "%d %llu %llu %s\n", (int)f->phase + 1,
			(unsigned long long)done, (unsigned long long)total, f->v.name) < 0)
		f->progress_fd = 0; /* whoever read it has gone */
}

static void on_phase(void *ctx, enum check_phase phase)
{
	struct fsck *f = ctx;

	progress_end(f);
	f->phase = phase;
	f->told_ns = 0;
	progress_line(f, 0, 1);
	if (f->verbose && !f->json)
		printf("pass %d of %d: %s\n", (int)phase + 1, CHECK_COMPARE + 1, passes[phase]);
}

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
	static const char bar[] = "========================";
	struct fsck *f = ctx;
	const unsigned percent = (unsigned)(total ? done * 100 / total : 100);
	const uint64_t now_ns = bdev_now_ns();

	if (f->progress_fd && (done == total || now_ns >= f->told_ns + 200 * NS_PER_MS)) {
		f->told_ns = now_ns;
		progress_line(f, done, total);
	}
	if (!f->progress || now_ns < f->shown_ns + 200 * NS_PER_MS)
		return;
	f->shown_ns = now_ns;
	printf("\rpass %d of %d: %-*.*s %u %% %s\033[K", (int)f->phase + 1, CHECK_COMPARE + 1,
		(int)sizeof(bar) - 1, (int)(percent * (sizeof(bar) - 1) / 100), bar, percent,
		passes[f->phase]);
	fflush(stdout);
}

static void print_counts(const struct fsck *f)
{
	const struct check_report *r = &f->rep;

	printf("%s: %llu files, %llu directories, %llu symlinks, %llu others, %llu orphans\n",
		f->v.name, (unsigned long long)r->files, (unsigned long long)r->directories,
		(unsigned long long)r->symlinks, (unsigned long long)r->others,
		(unsigned long long)r->orphans);
	printf("%s: %llu clusters of data in %llu extents, %llu free; %llu metadata chunks, %llu "
	       "blocks in use\n",
		f->v.name, (unsigned long long)r->data_clusters, (unsigned long long)r->extents,
		(unsigned long long)r->free_clusters, (unsigned long long)r->meta_chunks,
		(unsigned long long)r->meta_blocks);
}

static void json_result(const struct fsck *f, int status)
{
	const struct check_report *r = &f->rep;
	char uuid[37];

	printf("\n  ],\n  \"faults\": %llu,\n  \"repaired\": %llu,\n  \"replayed\": %s,\n",
		(unsigned long long)check_faults(r), f->repaired,
		r->replayed || f->replayed ? "true" : "false");
	printf("  \"left\": %llu,\n  \"found_again\": %llu,\n  \"cleared\": %llu,\n",
		(unsigned long long)r->left, (unsigned long long)r->found_again,
		(unsigned long long)r->cleared);
	printf("  \"uuid\": \"%s\",\n", tool_uuid_text(r->uuid, uuid));
	if (!f->not_read)
		printf("  \"files\": %llu,\n  \"directories\": %llu,\n", (unsigned long long)r->files,
			(unsigned long long)r->directories);
	printf("  \"status\": %d\n}\n", status);
}

static void text_result(const struct fsck *f)
{
	const struct check_report *r = &f->rep;
	const unsigned long long faults = check_faults(r);

	if (r->by_severity[SEVERITY_FATAL]) {
		printf("%s: the check could not go on\n", f->v.name);
		if (r->count[PROBLEM_SUPER_TIE])
			printf("%s: look at them (csvdb sb, sb2, last), and say which is right: "
			       "--super first, copy or "
			       "last\n",
				f->v.name);
		if (r->count[PROBLEM_SUPER_TRUNCATED])
			printf("%s: nothing was changed: make it as large as it was, or copy it again\n",
				f->v.name);
		return;
	}
	if (f->verbose || faults)
		print_counts(f);
	if (faults)
		printf("%s: %llu problem%s, %llu of them damage%s\n", f->v.name, faults,
			faults == 1 ? "" : "s", (unsigned long long)r->by_severity[SEVERITY_DAMAGE],
			f->mode == MODE_YES || !r->left ? ""
			: r->repairable			? "; -p and -y can repair this"
							: "; -y can repair this");
	else if (r->replayed && !f->replayed)
		printf("%s: clean (after replay of its journal)\n", f->v.name);
	else
		printf("%s: clean%s\n", f->v.name, f->replayed ? ", its journal was replayed" : "");
	if (r->found_again)
		printf("%s: %llu files and directories were put into /lost+found\n", f->v.name,
			(unsigned long long)r->found_again);
	if (r->cleared)
		printf("%s: %llu inodes could not be saved\n", f->v.name,
			(unsigned long long)r->cleared);
	if (f->repaired && !r->left)
		printf("%s: clean now, %llu blocks were written\n", f->v.name, f->repaired);
}

/* ------------------------------------------------------------------ work */

static void *get_memory(uint64_t *bytes)
{
	void *base = MAP_FAILED;

	for (*bytes = CHECK_MEM_BYTES; *bytes >= CHECK_MEM_MIN; *bytes /= 2) {
		base = mmap(NULL, *bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (base != MAP_FAILED)
			return base;
	}
	return NULL;
}

/* One check of everything, and a repair if the mode says so; the report is in *rep. */
static int check(struct fsck *f, bool repair, struct check_report *rep)
{
	const struct check_dev dev = tool_check_dev(&f->v);
	struct check_options o = {.on_problem = on_problem,
		.on_phase = on_phase,
		.on_progress = on_progress,
		.super = f->super,
		.ctx = f};
	struct mem mem;
	uint64_t bytes;
	void *base = get_memory(&bytes);
	int err;

	if (!base) {
		tool_error("no memory: %s", strerror(errno));
		return EXIT_OPERATION;
	}
	mem_init(&mem, base, bytes);
	o.mem = &mem;
	err = repair ? check_repair(&dev, &o, f->mode == MODE_YES, rep)
		     : check_volume(&dev, &o, rep);
	munmap(base, bytes);
	progress_end(f);
	if (err == -ENOMEM) {
		tool_error("%s: out of memory; nothing can be said about the volume", f->v.name);
		return EXIT_OPERATION;
	}
	if (rep->count[PROBLEM_SUPER_NONE]) {
		tool_error("%s: no csvfs volume is here", f->v.name);
		return EXIT_OPERATION;
	}
	if (err == -EBUSY)
		return EXIT_OPERATION; /* tool_take() has said it */
	if (err == -EIO)
		tool_error("%s: a write failed: the repair is not complete. Repair it again",
			f->v.name);
	if (!repair)
		rep->left = check_faults(rep);
	return err || rep->left ? EXIT_UNCORRECTED : EXIT_CLEAN;
}

/* In the next epoch, as a mount. What the last claim owes it goes on owing. */
static int take(struct fsck *f)
{
	struct claim c;

	if (!tool_claim(&f->v, &c)) {
		tool_error("%s: neither claim block is valid", f->v.name);
		return -EUCLEAN;
	}
	c.served = ++c.epoch;
	c.given_up_count = 0;
	if (!c.kept) {
		c.node = 1;
		c.incarnation = 0;
	}
	snprintf(c.name, sizeof(c.name), "%s", tool_name);
	return tool_take(&f->v, &c);
}

/* Replays as a mount would, and empties the journal. False: it could not be done. */
static bool replay(struct fsck *f)
{
	const struct sync_dev dev = tool_sync_dev(&f->v);
	const struct run_sync_config cfg = {.dev = &dev,
		.ops = &metadata_ops,
		.write_cache = f->v.info->write_cache,
		.claim = &f->v.claim};
	struct run_sync *rs;
	char why[256] = "";
	int err = take(f);

	if (err)
		return false; /* said */
	err = run_sync_open(&cfg, &rs, why);
	if (!err) {
		run_sync_settle(rs);
		err = run_sync_close(rs);
	}
	if (!err)
		err = tool_release(&f->v);
	if (err)
		tool_error("%s: the journal cannot be replayed: %s", f->v.name,
			why[0] ? why : strerror(-err));
	f->replayed = !err;
	return !err;
}

/* The administrator's word. It was asked for a volume that nobody is seen to use. */
static bool nodes_are_off(struct fsck *f, enum tool_use *use)
{
	const bool registered = *use == TOOL_REGISTERED || f->v.kept;

	if (*use == TOOL_MOUNTED || *use == TOOL_UNKNOWN)
		return true; /* may_check() says it */
	if ((registered && !tool_clear_registrations(&f->v)) || !tool_drain(&f->v) || !tool_nobody_at_large(&f->v))
		return false;
	if (*use == TOOL_REGISTERED)
		*use = TOOL_UNCLEAN;
	return true;
}

/* True: go on. */
static bool may_check(struct fsck *f, enum tool_use use, const char *text)
{
	if (use == TOOL_FREE || use == TOOL_UNCLEAN) {
		if (f->v.kept && !f->json)
			printf("%s: %s\n", f->v.name, text);
		/* Else before the first write: a check that finds nothing leaves no trace. */
		return f->mode == MODE_NO || !f->v.kept || tool_register(&f->v);
	}
	if (f->mode == MODE_NO && f->force) {
		if (!f->json)
			printf("%s: %s; what follows may be wrong\n", f->v.name, text);
		return true;
	}
	tool_error("%s: %s. %s%s.", f->v.name, text,
		use == TOOL_UNKNOWN	 ? "Nothing is written to a LUN that nodes may use"
		: use == TOOL_REGISTERED ? "Unmount it on every node first; if none runs any more: -y --nodes-off"
					 : "Unmount it on every node first",
		f->mode == MODE_NO ? ", or use -f to look at it all the same" : "");
	return false;
}

/* What is not a fault of the volume, and is gone when it has been opened and closed again. */
static bool wants_opening(const struct fsck *f, enum tool_use use)
{
	return use == TOOL_UNCLEAN || f->rep.count[PROBLEM_CLAIM_BLOCK] ||
	       f->rep.count[PROBLEM_JOURNAL_HEAD_COPY];
}

/* Check; if need be replay, or repair, and check again. */
static int check_and_mend(struct fsck *f, enum tool_use use)
{
	struct check_report again;
	int status = check(f, f->mode != MODE_NO, &f->rep);

	if (f->mode == MODE_NO || status != EXIT_CLEAN)
		return status;
	f->repaired = f->rep.repaired;
	/* A sound volume is replayed as a mount would do it. */
	if (!f->repaired && wants_opening(f, use) && !replay(f))
		return EXIT_OPERATION;
	if (!f->repaired && !f->replayed)
		return EXIT_CLEAN;
	status = check(f, false, &again);
	if (!tool_claim_is_seen(&f->v)) {
		tool_error("%s: it was mounted as soon as it was mended: what the check of that found means nothing", f->v.name);
		return EXIT_CORRECTED;
	}
	f->rep.left = again.left;
	return status == EXIT_CLEAN ? EXIT_CORRECTED : status;
}

/* A volume that was changed under the check: what it found may never have been so. */
static bool was_mounted(struct fsck *f)
{
	if ((f->mode == MODE_NO && f->force) || f->rep.repaired || f->replayed || tool_claim_is_seen(&f->v))
		return false;
	tool_error("%s: it was mounted, or another tool worked on it, while it was checked: what was found means nothing", f->v.name);
	return true;
}

/* An image that was cut short by a copy was unmounted in order, too. */
static bool is_whole(struct fsck *f)
{
	struct verify_report rep;
	struct disk_super *s = malloc(BLOCK_SIZE);
	bool whole = s && !tool_read(&f->v, SUPER_BLOCK * BLOCK_SIZE, s, BLOCK_SIZE) &&
		     verify_super(s, SUPER_BLOCK, f->v.info->lun_bytes, &rep) == PROBLEM_NONE;

	if (whole)
		memcpy(f->rep.uuid, s->h.uuid, sizeof(f->rep.uuid));
	free(s);
	return whole;
}

static int run(struct fsck *f)
{
	char text[400];
	enum tool_use use = tool_use_of(&f->v, text, sizeof(text));
	int status = EXIT_CLEAN;
	struct claim c;

	if ((f->nodes_off && !nodes_are_off(f, &use)) || !may_check(f, use, text))
		return EXIT_OPERATION;
	f->not_read = f->mode == MODE_PREEN && use == TOOL_FREE && !f->force &&
		      tool_claim(&f->v, &c) && is_whole(f);
	/* What the life before has sent must not land on what we write, nor on what we have read. */
	f->v.dirty |= !tool_claim(&f->v, &c);
	if (f->mode != MODE_NO && !tool_drain(&f->v))
		return EXIT_OPERATION;
	if (f->json)
		json_begin(f);
	if (!f->not_read) {
		status = check_and_mend(f, use);
		if (status != EXIT_OPERATION && was_mounted(f))
			status = EXIT_OPERATION;
	}
	if (f->json)
		json_result(f, status);
	else if (f->not_read)
		printf("%s: clean, unmounted in order\n", f->v.name);
	else if (status != EXIT_OPERATION)
		text_result(f);
	if (status == EXIT_UNCORRECTED && f->mode == MODE_YES)
		tool_error("%s: this could not be repaired%s", f->v.name,
			f->repaired || f->replayed ? "" : "; nothing was changed");
	return status;
}

/* Nothing is held that needs to be put back: what a repair has begun to write, the next one goes on with. */
static void cancelled(int sig)
{
	(void)sig;
	_exit(EXIT_CANCELLED);
}

static bool parse_super(struct fsck *f, const char *word)
{
	static const char *const words[] = {[CHECK_SUPER_FIRST] = "first",
		[CHECK_SUPER_COPY] = "copy",
		[CHECK_SUPER_LAST] = "last"};

	for (unsigned i = CHECK_SUPER_FIRST; i <= CHECK_SUPER_LAST; i++) {
		if (!strcmp(word, words[i])) {
			f->super = (enum check_super)i;
			return true;
		}
	}
	tool_error("--super %s: not first, copy or last", word);
	return false;
}

/* Who asks for two of them does not mean one: with -n -y nothing may be written, or everything. */
static bool set_mode(struct fsck *f, enum mode mode)
{
	if (f->mode_given && f->mode != mode) {
		tool_error("only one of -n, -p (or -a) and -y may be given");
		return false;
	}
	f->mode_given = true;
	f->mode = mode;
	return true;
}

/* A descriptor that is open: else lines of progress would go into whatever is opened under its number. */
static bool parse_progress(struct fsck *f, const char *word)
{
	char *end;
	const long fd = strtol(word, &end, 10);

	if (*end || end == word || fd < -INT_MAX || fd > INT_MAX) {
		tool_error("-C %s: not a file descriptor", word);
		return false;
	}
	f->progress = !fd;
	f->progress_fd = fd > 0 ? (int)fd : 0; /* negative: e2fsck waits for a signal to begin */
	if (fd > 0 && fcntl((int)fd, F_GETFD) < 0) {
		tool_error("-C %s: %s", word, strerror(errno));
		return false;
	}
	return true;
}

/* How to open the volume. */
static unsigned begin(struct fsck *f)
{
	f->progress = (f->progress || isatty(STDOUT_FILENO)) && !f->json;
	signal(SIGINT, cancelled);
	signal(SIGTERM, cancelled);
	if (f->mode != MODE_NO)
		return TOOL_WAIT;
	return TOOL_WAIT | TOOL_READONLY | (f->force ? TOOL_NOLOCK : 0);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"json", no_argument, NULL, 'j'},
		{"super", required_argument, NULL, 's'}, {"nodes-off", no_argument, NULL, 'o'},
		{"initiator", required_argument, NULL, 'i'}, {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'}, {NULL, 0, NULL, 0}};
	static struct fsck f;
	const char *initiator = NULL;
	unsigned flags;
	int o, status;

	tool_name = "fsck.csvfs";
	while ((o = getopt_long(argc, argv, "npayfvC:MTVh", longs, NULL)) != -1) {
		switch (o) {
		case 'n':
		case 'p':
		case 'a':
		case 'y':
			if (!set_mode(&f, o == 'n' ? MODE_NO : o == 'y' ? MODE_YES : MODE_PREEN))
				return EXIT_USAGE;
			break;
		case 'f':
			f.force = true;
			break;
		case 'v':
			f.verbose = true;
			break;
		case 'C':
			if (!parse_progress(&f, optarg))
				return EXIT_USAGE;
			break;
		case 's':
			if (!parse_super(&f, optarg))
				return EXIT_USAGE;
			break;
		case 'M': /* what fsck(8) may pass on */
		case 'T':
			break;
		case 'j':
			f.json = true;
			break;
		case 'o':
			f.nodes_off = true;
			break;
		case 'i':
			initiator = optarg;
			break;
		case 'V':
			printf("fsck.csvfs %s\n", CSVFS_VERSION);
			return EXIT_CLEAN;
		case 'h':
			usage(stdout);
			return EXIT_CLEAN;
		default:
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (optind + 1 != argc) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (f.nodes_off && f.mode == MODE_NO) {
		tool_error("--nodes-off: only with -p or -y");
		return EXIT_USAGE;
	}
	flags = begin(&f);
	if (!tool_open(&f.v, argv[optind], initiator, flags))
		return EXIT_OPERATION;
	status = run(&f);
	tool_close(&f.v);
	return status;
}
