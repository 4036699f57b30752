/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * work - the load of tests/lab/soak; see work.h.
 *
 *	work init BOARD NODES MNT	makes the board and the folders (once)
 *	work run BOARD NODE MNT [N [KIND...]]
 *					works on NODE (1, 2, ...) until SIGTERM, or until each activity has done N operations;
 *					without KIND all of them. Ends by itself, with 3, if NODE is down
 *	work down|out|well BOARD NODE	what the load of NODE has to expect; well: nothing
 *	work stalls BOARD		of each activity, the longest wait since the last time (one that is not over counts):
 *					NODE KIND MS OPS ERRORS LOST
 *	work moves BOARD SECONDS NODE...
 *					each activity of these nodes ends two operations more before that; else 1, and says who does not
 *	work check BOARD MNT		counts everything, while nobody works; says what is wrong
 */
#include "work.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const char *const kind_names[KINDS] = {"data", "read", "names", "look", "lock", "append", "files"};
atomic_bool work_ends;

static void die(const char *what)
{
	fprintf(stderr, "work: %s: %s\n", what, strerror(errno));
	exit(2);
}

struct board *board_map(const char *path, uint32_t nodes)
{
	int fd = open(path, O_RDWR | (nodes ? O_CREAT | O_EXCL : 0) | O_CLOEXEC, 0600);
	struct board *b;

	if (fd < 0 || (nodes && ftruncate(fd, sizeof(*b))))
		die(path);
	b = mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (b == MAP_FAILED)
		die(path);
	close(fd);
	if (nodes)
		b->nodes = nodes;
	return b;
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void nap_ms(unsigned ms)
{
	struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};

	nanosleep(&ts, NULL);
}

uint32_t below(struct work *w, uint32_t n)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return (uint32_t)(w->rng >> 33) % n;
}

void begin(struct work *w)
{
	w->s->since_ns = now_ns();
}

void end(struct work *w)
{
	uint64_t took = now_ns() - w->s->since_ns;

	w->s->since_ns = 0;
	w->s->ops++;
	if (took > w->s->longest_ns)
		w->s->longest_ns = took;
}

static void say(struct work *w, const char *what, const char *fmt, va_list ap)
{
	char text[400];
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	vsnprintf(text, sizeof(text), fmt, ap);
	fprintf(stderr, "%ld.%03ld n%u %s: %s: %s\n", (long)ts.tv_sec, ts.tv_nsec / 1000000,
		w->node + 1, kind_names[w->kind], what, text);
}

void wrong(struct work *w, const char *fmt, ...)
{
	va_list ap;

	if (w->board->down[w->node])
		_exit(3);
	w->s->errors++;
	va_start(ap, fmt);
	say(w, "WRONG", fmt, ap);
	va_end(ap);
}

void failed(struct work *w, bool may_be_lost, int err, const char *fmt, ...)
{
	char what[80];
	bool lost = may_be_lost && (err == EIO || err == ESTALE) && w->board->out[w->node];
	va_list ap;

	if (w->board->down[w->node])
		_exit(3);
	if (lost)
		w->s->lost++;
	else
		w->s->errors++;
	snprintf(what, sizeof(what), "%s %s", lost ? "lost" : "FAILED", strerrorname_np(err));
	va_start(ap, fmt);
	say(w, what, fmt, ap);
	va_end(ap);
}

void set_unknown(struct slot *s, uint64_t id)
{
	uint32_t n = s->unknown_count;

	if (!id || is_unknown(s, id))
		return;
	if (n == UNKNOWN_MAX) {
		fprintf(stderr, "work: too many operations without an answer\n");
		exit(2);
	}
	s->unknown[n] = id;
	s->unknown_count = n + 1;
}

bool is_unknown(const struct slot *s, uint64_t id)
{
	for (uint32_t i = s->unknown_count; i-- > 0;) {
		if (s->unknown[i] == id)
			return true;
	}
	return false;
}

void fill(uint64_t *block, uint32_t node, uint64_t place, uint64_t version)
{
	uint64_t x = ((uint64_t)node << 56 ^ place << 32 ^ version) * 0x9e3779b97f4a7c15u + 1;

	for (size_t i = 0; i < BLOCK / sizeof(*block); i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		block[i] = x;
	}
	block[0] = version;
}

uint64_t version_of(const uint64_t *block, uint64_t *scratch, uint32_t node, uint64_t place)
{
	fill(scratch, node, place, block[0]);
	return memcmp(block, scratch, BLOCK) ? 0 : block[0];
}

static void *thread(void *arg)
{
	static void (*const loops[KINDS])(struct work *) = {
		data_loop, read_loop, names_loop, look_loop, lock_loop, append_loop, files_loop};
	struct work *w = arg;

	w->rng = (uint64_t)getpid() * 2654435761u + (uint64_t)w->kind * 97 + w->node + 1;
	if (posix_memalign((void **)&w->buf, BLOCK, FILE_BLOCKS * BLOCK) ||
		posix_memalign((void **)&w->expected, BLOCK, BLOCK))
		die("memory");
	w->fd = -1;
	loops[w->kind](w);
	return NULL;
}

static void on_signal(int number)
{
	(void)number;
	work_ends = true;
}

static bool is_wanted(const char *name, char **names, int count)
{
	for (int i = 0; i < count; i++) {
		if (!strcmp(names[i], name))
			return true;
	}
	return !count;
}

static int run(
	struct board *b, uint32_t node, const char *mnt, uint64_t limit, char **names, int count)
{
	struct sigaction sa = {.sa_handler = on_signal};
	static struct work w[KINDS];
	pthread_t t[KINDS];
	uint64_t errors = 0;

	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	setlinebuf(stderr);
	for (unsigned k = 0; k < KINDS; k++) {
		if (!is_wanted(kind_names[k], names, count))
			continue;
		w[k] = (struct work){.board = b,
			.s = &b->slot[node][k],
			.kind = k,
			.node = node,
			.nodes = b->nodes,
			.mnt = mnt,
			.limit = limit};
		if (pthread_create(&t[k], NULL, thread, &w[k]))
			die("thread");
	}
	for (unsigned k = 0; k < KINDS; k++) {
		if (!w[k].board)
			continue;
		pthread_join(t[k], NULL);
		errors += w[k].s->errors;
	}
	return errors ? 1 : 0;
}

static void stalls(struct board *b)
{
	for (uint32_t n = 0; n < b->nodes; n++) {
		for (unsigned k = 0; k < KINDS; k++) {
			struct slot *s = &b->slot[n][k];
			uint64_t longest = atomic_exchange(&s->longest_ns, 0), since = s->since_ns;
			uint64_t out = since && !b->down[n] ? now_ns() - since : 0;

			printf("n%u %s %llu %llu %llu %llu\n", n + 1, kind_names[k],
				(unsigned long long)((out > longest ? out : longest) / 1000000),
				(unsigned long long)s->ops, (unsigned long long)s->errors,
				(unsigned long long)s->lost);
		}
	}
}

static bool still(struct board *b, const uint64_t (*from)[KINDS], uint32_t n, bool tell)
{
	bool is_still = false;

	for (unsigned k = 0; k < KINDS; k++) {
		if (b->slot[n][k].ops >= from[n][k] + 2)
			continue;
		is_still = true;
		if (tell)
			printf("n%u %s does not go on\n", n + 1, kind_names[k]);
	}
	return is_still;
}

static int moves(struct board *b, unsigned seconds, char **nodes, int count)
{
	uint64_t from[NODES_MAX][KINDS], until = now_ns() + seconds * 1000000000ull;
	bool waits = true;

	for (uint32_t n = 0; n < b->nodes; n++) {
		for (unsigned k = 0; k < KINDS; k++)
			from[n][k] = b->slot[n][k].ops;
	}
	while (waits) {
		bool late = now_ns() > until;

		waits = false;
		for (int i = 0; i < count; i++)
			waits |= still(b, from, (uint32_t)atoi(nodes[i]) - 1, late);
		if (waits && late)
			return 1;
		nap_ms(20);
	}
	return 0;
}

static void make(const char *mnt, const char *name, bool folder)
{
	char path[4096];
	int fd = -1;

	snprintf(path, sizeof(path), "%s/%s", mnt, name);
	if (folder ? mkdir(path, 0755) : (fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0644)) < 0)
		die(path);
	if (!folder && !strcmp(name, "counter")) {
		static const char zero[BLOCK];

		if (write(fd, zero, BLOCK) != BLOCK || fsync(fd))
			die(path);
	}
	if (fd >= 0)
		close(fd);
}

static int init(const char *board, uint32_t nodes, const char *mnt)
{
	(void)board_map(board, nodes);
	make(mnt, "new", true);
	make(mnt, "names", true);
	make(mnt, "files", true);
	make(mnt, "append", false);
	make(mnt, "counter", false);
	return 0;
}

int main(int argc, char **argv)
{
	struct board *b;
	uint32_t node;

	if (argc == 5 && !strcmp(argv[1], "init"))
		return init(argv[2], (uint32_t)atoi(argv[3]), argv[4]);
	if (argc < 3) {
		fprintf(stderr, "usage: see the head of main.c\n");
		return 2;
	}
	b = board_map(argv[2], 0);
	if (!strcmp(argv[1], "stalls")) {
		stalls(b);
		return 0;
	}
	if (argc > 4 && !strcmp(argv[1], "moves"))
		return moves(b, (unsigned)atoi(argv[3]), argv + 4, argc - 4);
	if (argc == 4 && !strcmp(argv[1], "check"))
		return check_all(b, argv[3]) ? 1 : 0;
	node = argc > 3 ? (uint32_t)atoi(argv[3]) - 1 : NODES_MAX;
	if (node >= b->nodes) {
		fprintf(stderr, "work: which node?\n");
		return 2;
	}
	if (argc >= 5 && !strcmp(argv[1], "run"))
		return run(b, node, argv[4], argc > 5 ? strtoull(argv[5], NULL, 10) : 0, argv + 6,
			argc > 6 ? argc - 6 : 0);
	b->down[node] = !strcmp(argv[1], "down");
	b->out[node] = !strcmp(argv[1], "out");
	return 0;
}
