/* SPDX-License-Identifier: GPL-2.0-or-later */
/* check.c - everything is counted, when nobody works. */
#include "work.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t bad;

static void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void complain(const char *fmt, ...)
{
	va_list ap;

	if (bad++ >= 50)
		return;
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

/* One bit for each id. */
struct set {
	uint64_t top, *bits;
};

static struct set set_of(uint64_t top)
{
	struct set s = {top, calloc(top / 64 + 1, 8)};

	if (!s.bits)
		exit(2);
	return s;
}

static bool has(const struct set *s, uint64_t id)
{
	return id <= s->top && s->bits[id / 64] >> id % 64 & 1;
}

/* False: twice, or never begun. */
static bool put(struct set *s, uint64_t id)
{
	if (!id || id > s->top || has(s, id))
		return false;
	s->bits[id / 64] |= 1ull << id % 64;
	return true;
}

static void count_folder(const char *mnt, const char *name, struct set *sets, uint32_t nodes)
{
	char path[4096];
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/%s", mnt, name);
	dir = opendir(path);
	if (!dir) {
		complain("%s: %s", path, strerror(errno));
		return;
	}
	while ((d = readdir(dir))) {
		unsigned long long id;
		unsigned n;

		if (d->d_name[0] == '.')
			continue;
		if (sscanf(d->d_name, "%u.%llu", &n, &id) != 2 || !n || n > nodes ||
			!put(&sets[n - 1], id))
			complain("%s/%s: never made, or twice there", name, d->d_name);
	}
	closedir(dir);
}

/* Exactly those are there that were made and not removed. */
static void check_names(struct board *b, const char *mnt, const char *name, enum kind k)
{
	struct set sets[NODES_MAX];
	uint64_t total = 0, unknown = 0;

	for (uint32_t n = 0; n < b->nodes; n++)
		sets[n] = set_of(b->slot[n][k].begun);
	count_folder(mnt, name, sets, b->nodes);
	for (uint32_t n = 0; n < b->nodes; n++) {
		struct slot *s = &b->slot[n][k];

		for (uint64_t id = 1; id <= s->begun; id++) {
			bool there = has(&sets[n], id), want = id > s->gone_done;

			if (there != want && !is_unknown(s, id))
				complain("%s: %llu of n%u is %s", name, (unsigned long long)id,
					n + 1, there ? "there, and was removed" : "not there");
		}
		total += s->done;
		unknown += s->unknown_count;
		free(sets[n].bits);
	}
	printf("%-8s %llu made, %llu without an answer\n", name, (unsigned long long)total,
		(unsigned long long)unknown);
}

static void check_new(struct board *b, const char *mnt)
{
	struct set sets[NODES_MAX];

	for (uint32_t n = 0; n < b->nodes; n++)
		sets[n] = set_of(b->slot[n][NAMES].begun);
	count_folder(mnt, "new", sets, b->nodes);
	for (uint32_t n = 0; n < b->nodes; n++) {
		for (uint64_t id = 1; id <= sets[n].top; id++) {
			if (has(&sets[n], id) && !is_unknown(&b->slot[n][NAMES], id))
				complain("new: %llu of n%u was renamed, and is there",
					(unsigned long long)id, n + 1);
		}
		free(sets[n].bits);
	}
}

/*
 * Each record once, whole; in the order of its node's calls. A gap is what a node did not write that died; or wrote
 * in part, where a record lies across two blocks.
 */
static void check_append(struct board *b, const char *mnt)
{
	static const struct record none;
	struct set sets[NODES_MAX];
	uint64_t last[NODES_MAX] = {0}, gaps = 0, unknown = 0, at = 0, total = 0;
	char path[4096];
	struct record r;
	FILE *f;

	snprintf(path, sizeof(path), "%s/append", mnt);
	f = fopen(path, "re");
	if (!f) {
		complain("%s: %s", path, strerror(errno));
		return;
	}
	for (uint32_t n = 0; n < b->nodes; n++) {
		sets[n] = set_of(b->slot[n][APPEND].begun);
		unknown += b->slot[n][APPEND].unknown_count;
	}
	for (; fread(&r, 1, sizeof(r), f) == sizeof(r); at += sizeof(r)) {
		if (!memcmp(&r, &none, sizeof(r)) || !record_ok(&r) || r.node >= b->nodes)
			gaps++;
		else if (!put(&sets[r.node], r.id))
			complain("append: %llu of n%u at %llu: twice, or never",
				(unsigned long long)r.id, (unsigned)r.node + 1,
				(unsigned long long)at);
		else if (r.id < last[r.node] && !is_unknown(&b->slot[r.node][APPEND], r.id))
			complain("append: %llu of n%u at %llu: out of order",
				(unsigned long long)r.id, (unsigned)r.node + 1,
				(unsigned long long)at);
		else
			last[r.node] = r.id;
	}
	if (ferror(f) || (uint64_t)ftello(f) != at)
		complain("append: ends within a record, at %llu", (unsigned long long)ftello(f));
	fclose(f);
	if (gaps > unknown)
		complain("append: %llu gaps, and only %llu calls without an answer",
			(unsigned long long)gaps, (unsigned long long)unknown);
	for (uint32_t n = 0; n < b->nodes; n++) {
		struct slot *s = &b->slot[n][APPEND];

		for (uint64_t id = 1; id <= s->done; id++) {
			if (!has(&sets[n], id) && !is_unknown(s, id))
				complain("append: %llu of n%u is lost", (unsigned long long)id,
					n + 1);
		}
		total += s->done;
		free(sets[n].bits);
	}
	printf("append   %llu made, %llu without an answer, %llu gaps\n", (unsigned long long)total,
		(unsigned long long)unknown, (unsigned long long)gaps);
}

static void check_counter(struct board *b, const char *mnt)
{
	uint64_t c[1 + NODES_MAX], sum = 0, total = 0, unknown = 0;
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/counter", mnt);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, c, sizeof(c), 0) != sizeof(c)) {
		complain("%s: %s", path, strerror(errno));
		return;
	}
	close(fd);
	for (uint32_t n = 0; n < b->nodes; n++) {
		struct slot *s = &b->slot[n][LOCK];

		if (c[1 + n] > s->begun || c[1 + n] < s->done - s->unknown_count)
			complain("counter: n%u added %llu times, %u of them without an answer; it "
				 "says %llu",
				n + 1, (unsigned long long)s->begun, s->unknown_count,
				(unsigned long long)c[1 + n]);
		sum += c[1 + n];
		total += s->done;
		unknown += s->unknown_count;
	}
	if (sum != c[0])
		complain("counter: %llu together, not %llu", (unsigned long long)sum,
			(unsigned long long)c[0]);
	printf("counter  %llu made, %llu without an answer; it says %llu\n",
		(unsigned long long)total, (unsigned long long)unknown, (unsigned long long)c[0]);
}

static void check_data(struct board *b, const char *mnt)
{
	static uint64_t buf[BLOCK / 8], scratch[BLOCK / 8];
	char path[4096];

	for (uint32_t n = 0; n < b->nodes; n++) {
		int fd;

		if (!b->slot[n][DATA].done)
			continue;
		snprintf(path, sizeof(path), "%s/data.%u", mnt, n + 1);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		for (uint32_t i = 0; i < BLOCKS; i++) {
			uint64_t v = 0;

			if (pread(fd, buf, BLOCK, (off_t)i * BLOCK) == BLOCK)
				v = version_of(buf, scratch, n, i);
			if (!v || v < b->block[n][i].done || v > b->block[n][i].begun)
				complain("data.%u: block %u: version %llu, written were %llu to "
					 "%llu",
					n + 1, i, (unsigned long long)v,
					(unsigned long long)b->block[n][i].done,
					(unsigned long long)b->block[n][i].begun);
		}
		if (fd >= 0)
			close(fd);
	}
}

uint64_t check_all(struct board *b, const char *mnt)
{
	bad = 0;
	check_data(b, mnt);
	check_new(b, mnt);
	check_names(b, mnt, "names", NAMES);
	check_names(b, mnt, "files", FILES);
	check_append(b, mnt);
	check_counter(b, mnt);
	for (uint32_t n = 0; n < b->nodes; n++) {
		for (unsigned k = 0; k < KINDS; k++) {
			if (b->slot[n][k].errors)
				complain("n%u %s: %llu errors while it ran", n + 1, kind_names[k],
					(unsigned long long)b->slot[n][k].errors);
		}
	}
	return bad;
}
