/* SPDX-License-Identifier: GPL-2.0-or-later */
/* data.c - the load on file data: on extents that exist, in new files, and the appends of all nodes to one file. */
#include "work.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_data(struct work *w, uint32_t node, int flags)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/data.%u", w->mnt, node + 1);
	return open(path, flags | O_DIRECT | O_CLOEXEC, 0644);
}

static bool goes_on(const struct work *w, uint64_t done)
{
	return !work_ends && (!w->limit || done < w->limit);
}

/* A block is only ever written by its node: what is there is what was acknowledged last, or begun after. */
static void check_block(struct work *w, int fd, uint32_t node, uint32_t i)
{
	_Atomic uint64_t *begun = &w->board->block[node][i].begun;
	uint64_t least = w->board->block[node][i].done, got;
	ssize_t n;

	begin(w);
	n = pread(fd, w->buf, BLOCK, (off_t)i * BLOCK);
	end(w);
	if (n != BLOCK) {
		failed(w, false, n < 0 ? errno : ENODATA, "read of block %u of n%u", i, node + 1);
		return;
	}
	got = version_of(w->buf, w->expected, node, i);
	if (!got || got < least || got > *begun)
		wrong(w, "block %u of n%u: version %llu (in it: %llu), written were %llu to %llu",
			i, node + 1, (unsigned long long)got, (unsigned long long)w->buf[0],
			(unsigned long long)least, (unsigned long long)*begun);
}

static void write_block(struct work *w, uint32_t i)
{
	uint64_t version = w->board->block[w->node][i].begun + 1;
	ssize_t n;

	fill(w->buf, w->node, i, version);
	w->board->block[w->node][i].begun = version;
	begin(w);
	n = pwrite(w->fd, w->buf, BLOCK, (off_t)i * BLOCK);
	end(w);
	if (n == BLOCK)
		w->board->block[w->node][i].done = version;
	else
		failed(w, false, n < 0 ? errno : ENOSPC, "write of block %u", i);
}

void data_loop(struct work *w)
{
	w->fd = open_data(w, w->node, O_RDWR | O_CREAT);
	if (w->fd < 0) {
		failed(w, false, errno, "open");
		return;
	}
	for (uint32_t i = 0; i < BLOCKS; i++)
		write_block(w, i);
	if (fsync(w->fd))
		failed(w, false, errno, "fsync");
	w->s->longest_ns = 0; /* these were no extents that existed */
	w->s->done = 1; /* who reads may begin */
	for (uint64_t n = 0; goes_on(w, n); n++) {
		write_block(w, below(w, BLOCKS));
		check_block(w, w->fd, w->node, below(w, BLOCKS));
		nap_ms(10);
	}
	close(w->fd);
}

void read_loop(struct work *w)
{
	int fd[NODES_MAX] = {-1, -1, -1, -1};

	for (uint64_t n = 0; goes_on(w, n); n++) {
		uint32_t node = below(w, w->nodes), i = below(w, BLOCKS);
		bool first = fd[node] < 0;

		nap_ms(10);
		if (node == w->node || !w->board->slot[node][DATA].done)
			continue;
		if (first)
			fd[node] = open_data(w, node, O_RDONLY);
		if (fd[node] < 0) {
			failed(w, false, errno, "open of n%u's file", node + 1);
			continue;
		}
		check_block(w, fd[node], node, i);
		if (first)
			w->s->longest_ns = 0; /* the extents were asked for */
	}
	for (uint32_t i = 0; i < NODES_MAX; i++) {
		if (fd[i] >= 0)
			close(fd[i]);
	}
}

/* ------------------------------------------------------------------ new files */

static void file_path(const struct work *w, char *path, size_t len, uint32_t node, uint64_t id)
{
	snprintf(path, len, "%s/files/%u.%llu", w->mnt, node + 1, (unsigned long long)id);
}

static uint32_t file_blocks(uint64_t id)
{
	return 1 + (uint32_t)(id * 2654435761u >> 7) % FILE_BLOCKS;
}

/* Written in pieces of odd sizes, synced, published. */
static int write_file(struct work *w, int fd, uint64_t id)
{
	size_t all = (size_t)file_blocks(id) * BLOCK, at = 0;
	int err;

	for (size_t i = 0; i < file_blocks(id); i++)
		fill(w->buf + i * (BLOCK / 8), w->node, id, i + 1);
	while (at < all) {
		size_t len = 1 + below(w, 100000);
		ssize_t n;

		if (len > all - at)
			len = all - at;
		begin(w);
		n = write(fd, (char *)w->buf + at, len);
		end(w);
		if (n <= 0)
			return n < 0 ? errno : ENOSPC;
		at += (size_t)n;
	}
	begin(w);
	err = fsync(fd) ? errno : 0;
	end(w);
	return err;
}

static void make_file(struct work *w, uint64_t id)
{
	char path[4096];
	int fd, err;

	file_path(w, path, sizeof(path), w->node, id);
	w->s->begun = id;
	begin(w);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	end(w);
	if (fd < 0) {
		failed(w, false, errno, "create of file %llu", (unsigned long long)id);
		set_unknown(w->s, id);
		return;
	}
	err = write_file(w, fd, id);
	if (err) {
		failed(w, true, err, "write and fsync of file %llu", (unsigned long long)id);
		set_unknown(w->s, id); /* only its bytes are */
	}
	if (close(fd))
		failed(w, true, errno, "close of file %llu", (unsigned long long)id);
	w->s->done = id;
}

static void remove_file(struct work *w, uint64_t id)
{
	char path[4096];
	int rc;

	file_path(w, path, sizeof(path), w->node, id);
	w->s->gone_begun = id;
	begin(w);
	rc = unlink(path);
	end(w);
	if (rc && !(errno == ENOENT && is_unknown(w->s, id)))
		failed(w, false, errno, "unlink of file %llu", (unsigned long long)id);
	w->s->gone_done = id;
}

static void check_file(struct work *w, uint32_t node)
{
	struct slot *s = &w->board->slot[node][FILES];
	uint64_t id = s->done;
	size_t all = (size_t)file_blocks(id) * BLOCK;
	char path[4096];
	ssize_t n;
	int fd;

	if (!id || is_unknown(s, id))
		return;
	file_path(w, path, sizeof(path), node, id);
	begin(w);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	end(w);
	if (fd < 0) {
		if (errno != ENOENT || s->gone_begun < id)
			failed(w, false, errno, "open of file %llu of n%u", (unsigned long long)id,
				node + 1);
		return;
	}
	begin(w);
	n = pread(fd, w->buf, all, 0);
	end(w);
	if (n != (ssize_t)all) {
		if (n >= 0)
			wrong(w, "file %llu of n%u has %zd bytes, not %zu", (unsigned long long)id,
				node + 1, n, all);
		else
			failed(w, s->gone_begun >= id, errno, "read of file %llu of n%u",
				(unsigned long long)id, node + 1);
	}
	for (size_t i = 0; n == (ssize_t)all && i < file_blocks(id); i++) {
		if (version_of(w->buf + i * (BLOCK / 8), w->expected, node, id) != i + 1) {
			wrong(w, "file %llu of n%u: block %zu has other bytes",
				(unsigned long long)id, node + 1, i);
			break;
		}
	}
	close(fd);
}

void files_loop(struct work *w)
{
	uint64_t left = w->s->begun;

	/* The one that a killed load was at: whatever there is of it goes away in its turn. */
	if (w->s->begun > w->s->done)
		set_unknown(w->s, left);
	if (w->s->gone_begun > w->s->gone_done)
		set_unknown(w->s, w->s->gone_begun);
	for (uint64_t id = left + 1; goes_on(w, id - 1); id++) {
		make_file(w, id);
		while (w->s->gone_done + FILES_KEPT < id && w->s->gone_done < id)
			remove_file(w, w->s->gone_done + 1);
		check_file(w, below(w, w->nodes));
		nap_ms(100);
	}
}

/* ------------------------------------------------------------------ append */

static uint64_t record_sum(const struct record *r)
{
	return (r->magic ^ r->node << 60 ^ r->id) * 0x9e3779b97f4a7c15u;
}

#define RECORD_MAGIC 0x64726f6365722d61u

bool record_ok(const struct record *r)
{
	return r->magic == RECORD_MAGIC && r->sum == record_sum(r) && r->newline == '\n';
}

void append_loop(struct work *w)
{
	struct record r = {.magic = RECORD_MAGIC, .node = w->node, .newline = '\n'};
	char path[4096];

	_Static_assert(sizeof(struct record) == RECORD, "record");
	snprintf(path, sizeof(path), "%s/append", w->mnt);
	if (w->s->begun > w->s->done)
		set_unknown(w->s, w->s->begun);
	w->fd = open(path, O_WRONLY | O_APPEND | O_DSYNC | O_CLOEXEC);
	if (w->fd < 0) {
		failed(w, false, errno, "open");
		return;
	}
	for (uint64_t id = w->s->begun + 1; goes_on(w, id - 1); id++) {
		ssize_t n;

		memset(r.text, 'a' + (int)(id % 26), sizeof(r.text));
		r.id = id;
		r.sum = record_sum(&r);
		w->s->begun = id;
		begin(w);
		n = write(w->fd, &r, sizeof(r));
		end(w);
		if (n != sizeof(r)) {
			failed(w, true, n < 0 ? errno : ENOSPC, "append of record %llu",
				(unsigned long long)id);
			set_unknown(w->s, id);
		}
		w->s->done = id;
		if (!w->limit)
			nap_ms(20);
	}
	close(w->fd);
}
