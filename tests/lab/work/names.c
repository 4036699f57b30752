/* SPDX-License-Identifier: GPL-2.0-or-later */
/* names.c - the load on names and on locks. */
#include "work.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static void name_path(
	const struct work *w, char *path, size_t len, const char *dir, uint32_t node, uint64_t id)
{
	snprintf(path, len, "%s/%s/%u.%llu", w->mnt, dir, node + 1, (unsigned long long)id);
}

static bool goes_on(const struct work *w, uint64_t done)
{
	return !work_ends && (!w->limit || done < w->limit);
}

/* Created in one folder, renamed into the other. Executed twice, either would fail. */
static void make_name(struct work *w, uint64_t id)
{
	char from[4096], to[4096];
	int fd, rc;

	name_path(w, from, sizeof(from), "new", w->node, id);
	name_path(w, to, sizeof(to), "names", w->node, id);
	w->s->begun = id;
	begin(w);
	fd = open(from, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	end(w);
	if (fd < 0) {
		failed(w, false, errno, "create of %llu", (unsigned long long)id);
		set_unknown(w->s, id);
		return;
	}
	close(fd);
	begin(w);
	rc = rename(from, to);
	end(w);
	if (rc) {
		failed(w, false, errno, "rename of %llu", (unsigned long long)id);
		set_unknown(w->s, id);
		return;
	}
	w->s->done = id;
}

static void remove_name(struct work *w, uint64_t id)
{
	char path[4096];
	int rc;

	name_path(w, path, sizeof(path), "names", w->node, id);
	w->s->gone_begun = id;
	begin(w);
	rc = unlink(path);
	end(w);
	if (rc && !(errno == ENOENT && is_unknown(w->s, id)))
		failed(w, false, errno, "unlink of %llu", (unsigned long long)id);
	w->s->gone_done = id;
}

/* What a killed load was at has happened or not; it is made away with, and counted no more. */
static void resume(struct work *w)
{
	uint64_t made = w->s->begun > w->s->done ? w->s->begun : 0;
	uint64_t gone = w->s->gone_begun > w->s->gone_done ? w->s->gone_begun : 0;
	char path[4096];

	if (made) {
		set_unknown(w->s, made);
		name_path(w, path, sizeof(path), "new", w->node, made);
		if (unlink(path) && errno != ENOENT)
			failed(w, false, errno, "unlink of what was left");
		name_path(w, path, sizeof(path), "names", w->node, made);
		if (unlink(path) && errno != ENOENT)
			failed(w, false, errno, "unlink of what was left");
		w->s->done = made;
	}
	if (gone) {
		set_unknown(w->s, gone);
		remove_name(w, gone);
	}
}

void names_loop(struct work *w)
{
	resume(w);
	for (uint64_t id = w->s->begun + 1; goes_on(w, id - 1); id++) {
		make_name(w, id);
		if (!w->limit) {
			while (w->s->gone_done + NAMES_KEPT < id)
				remove_name(w, w->s->gone_done + 1);
			nap_ms(10);
		}
	}
}

/* ------------------------------------------------------------------ what other nodes made */

static int stat_of(struct work *w, const char *dir, uint32_t node, uint64_t id)
{
	char path[4096];
	struct stat st;
	int rc;

	name_path(w, path, sizeof(path), dir, node, id);
	begin(w);
	rc = stat(path, &st);
	end(w);
	return rc ? errno : 0;
}

/* The newest name, the newest that has gone, and the one that was renamed. */
static void look_at_names(struct work *w, uint32_t node)
{
	struct slot *s = &w->board->slot[node][NAMES];
	uint64_t made = s->done, gone = s->gone_done;
	int err;

	if (made && !is_unknown(s, made)) {
		err = stat_of(w, "names", node, made);
		if (err && (err != ENOENT || (s->gone_begun < made && !is_unknown(s, made))))
			failed(w, false, err, "stat of %llu of n%u, which was there before",
				(unsigned long long)made, node + 1);
		err = stat_of(w, "new", node, made);
		if (err != ENOENT)
			wrong(w, "%llu of n%u has its old name (%s)", (unsigned long long)made,
				node + 1, strerror(err));
	}
	if (gone) {
		err = stat_of(w, "names", node, gone);
		if (err != ENOENT)
			wrong(w, "%llu of n%u is still there (%s)", (unsigned long long)gone,
				node + 1, strerror(err));
	}
}

/* A folder lists what was there before and is there after, once. */
static void look_at_folder(struct work *w, uint32_t node)
{
	struct slot *s = &w->board->slot[node][NAMES];
	uint64_t made = s->done;
	static _Thread_local uint8_t seen[NAMES_KEPT * 4];
	char path[4096];
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/names", w->mnt);
	memset(seen, 0, sizeof(seen));
	begin(w);
	dir = opendir(path);
	while (dir && (errno = 0, d = readdir(dir))) {
		unsigned long long id;
		unsigned n;

		if (sscanf(d->d_name, "%u.%llu", &n, &id) == 2 && n == node + 1 && id <= made &&
			made - id < sizeof(seen) && ++seen[made - id] > 1)
			wrong(w, "n%u's %llu is listed twice", n, id);
	}
	if (errno || !dir)
		failed(w, false, errno, "readdir");
	if (dir)
		closedir(dir);
	end(w);
	for (uint64_t id = made; id > s->gone_begun && id > 0 && made - id < sizeof(seen); id--) {
		if (!seen[made - id] && !is_unknown(s, id)) {
			wrong(w, "n%u's %llu is not listed", node + 1, (unsigned long long)id);
			break;
		}
	}
}

static void look_at_size(struct work *w)
{
	uint64_t least = 0;
	char path[4096];
	struct stat st;
	int rc;

	for (uint32_t n = 0; n < w->nodes; n++) {
		struct slot *s = &w->board->slot[n][APPEND];
		uint64_t done = s->done, unknown = s->unknown_count;

		least += (done > unknown ? done - unknown : 0) * RECORD;
	}
	snprintf(path, sizeof(path), "%s/append", w->mnt);
	begin(w);
	rc = stat(path, &st);
	end(w);
	if (rc)
		failed(w, false, errno, "stat of the file that all append to");
	else if ((uint64_t)st.st_size < least)
		wrong(w, "the file that all append to has %llu bytes, and had %llu",
			(unsigned long long)st.st_size, (unsigned long long)least);
}

void look_loop(struct work *w)
{
	for (uint64_t i = 0; goes_on(w, i); i++) {
		uint32_t node = below(w, w->nodes);

		look_at_names(w, node);
		if (i % 8 == 0)
			look_at_size(w);
		if (i % 16 == 0)
			look_at_folder(w, node);
		nap_ms(20);
	}
}

/* ------------------------------------------------------------------ locks */

struct counter {
	uint64_t total, of[NODES_MAX];
	uint64_t more[59];
};

/* 0 or an errno. POSIX and OFD locks exclude each other: they take turns. */
static int lock(struct work *w, short type, uint64_t id)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_len = sizeof(struct counter)};
	int rc;

	begin(w);
	rc = fcntl(w->fd, id % 2 ? F_SETLKW : F_OFD_SETLKW, &l);
	end(w);
	return rc ? errno : 0;
}

/* Adds one, under the lock. 0 or an errno; then nobody knows whether it was written. */
static int add_one(struct work *w, uint64_t id)
{
	struct counter *c = (struct counter *)w->buf;
	uint64_t least[NODES_MAX], sum = 0;
	ssize_t n;

	for (uint32_t i = 0; i < w->nodes; i++)
		least[i] = w->board->slot[i][LOCK].done - w->board->slot[i][LOCK].unknown_count;
	begin(w);
	n = pread(w->fd, c, sizeof(*c), 0);
	end(w);
	if (n != sizeof(*c))
		return n < 0 ? errno : ENODATA;
	for (uint32_t i = 0; i < w->nodes; i++) {
		sum += c->of[i];
		if (c->of[i] < least[i])
			wrong(w, "n%u had added %llu times at least, the counter says %llu", i + 1,
				(unsigned long long)least[i], (unsigned long long)c->of[i]);
	}
	if (sum != c->total)
		wrong(w, "the counters are %llu together, not %llu", (unsigned long long)sum,
			(unsigned long long)c->total);
	if (c->of[w->node] > id - 1)
		wrong(w, "the counter says %llu, we added %llu times at most",
			(unsigned long long)c->of[w->node], (unsigned long long)(id - 1));
	c->of[w->node]++;
	c->total++;
	w->s->begun = id;
	begin(w);
	n = pwrite(w->fd, c, sizeof(*c), 0);
	end(w);
	return n == sizeof(*c) ? 0 : n < 0 ? errno : ENOSPC;
}

static bool open_counter(struct work *w)
{
	char path[4096];

	if (w->fd >= 0)
		close(w->fd);
	snprintf(path, sizeof(path), "%s/counter", w->mnt);
	w->fd = open(path, O_RDWR | O_CLOEXEC);
	if (w->fd < 0)
		failed(w, false, errno, "open");
	return w->fd >= 0;
}

void lock_loop(struct work *w)
{
	if (w->s->begun > w->s->done) {
		set_unknown(w->s, w->s->begun);
		w->s->done = w->s->begun;
	}
	open_counter(w);
	while (goes_on(w, w->s->done)) {
		uint64_t id = w->s->done + 1;
		int err = w->fd < 0 ? EBADF : lock(w, F_WRLCK, id);

		if (err) {
			failed(w, true, err, "lock");
			nap_ms(100);
			open_counter(w);
			continue;
		}
		err = add_one(w, id);
		if (err) {
			/* Who was given up has lost the lock: what it wrote may be there or not. */
			failed(w, true, err, "under the lock");
			if (w->s->begun == id) {
				set_unknown(w->s, id);
				w->s->done = id;
			}
			open_counter(w);
			nap_ms(20);
			continue;
		}
		w->s->done = id;
		err = lock(w, F_UNLCK, id);
		if (err)
			failed(w, true, err, "unlock");
		if (!w->limit)
			nap_ms(20);
	}
	if (w->fd >= 0)
		close(w->fd);
}
