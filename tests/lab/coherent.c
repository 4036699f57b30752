/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * coherent SECONDS SEED DIR... - one file system, seen through several mounts: what was done through one shows
 * through each of the others when the call has returned.
 *
 * One thing after the other, so there is one right answer to every question: a change through a mount drawn
 * at random, then looks through others, at what was changed and at what was not. Looks are many, so that what
 * a node may know by itself it knows. Prints how many of each; the first wrong answer ends it with 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAMES 8

/* What stands behind each name: a file, shared by those that are links of it. */
struct file {
	unsigned links, mode;
	off_t size;
	ino_t ino;
};

static struct file files[NAMES];
static int at[NAMES]; /* index of files; -1: no such name */
static char **dirs;
static unsigned dir_count;
static unsigned long changes, looks;
static uint64_t rng;

static unsigned draw(unsigned n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (unsigned)((rng >> 11) % n);
}

static const char *path(unsigned dir, int name)
{
	static char room[4][4096];
	static unsigned turn;
	char *p = room[turn++ % 4];

	snprintf(p, sizeof(room[0]), "%s/name%d", dirs[dir], name);
	return p;
}

static void wrong(const char *what, unsigned dir, int name)
{
	fprintf(stderr, "coherent: %s: %s (change %lu, look %lu): %s\n", path(dir, name), what,
		changes, looks, strerror(errno));
	exit(1);
}

static void must(int ok, const char *what, unsigned dir, int name)
{
	if (!ok)
		wrong(what, dir, name);
}

static void look(unsigned dir, int name)
{
	struct stat st;
	int err = stat(path(dir, name), &st);

	looks++;
	if (at[name] < 0) {
		must(err && errno == ENOENT, "is there, and was removed", dir, name);
		return;
	}
	must(!err, "is not there, and was made", dir, name);
	must(st.st_ino == files[at[name]].ino, "is another file", dir, name);
	must(st.st_nlink == files[at[name]].links, "has another number of links", dir, name);
	must((st.st_mode & 07777) == files[at[name]].mode, "has another mode", dir, name);
	must(st.st_size == files[at[name]].size, "has another size", dir, name);
}

static void let_go(int name)
{
	if (at[name] >= 0)
		files[at[name]].links--;
	at[name] = -1;
}

static int free_file(void)
{
	int f = 0;

	while (files[f].links)
		f++;
	return f;
}

static void make(unsigned dir, int name)
{
	int f = free_file(), fd = open(path(dir, name), O_CREAT | O_EXCL | O_WRONLY, 0600);
	struct stat st;

	must(fd >= 0 && !fstat(fd, &st), "cannot be made", dir, name);
	close(fd);
	files[f] = (struct file){.links = 1, .mode = 0600, .ino = st.st_ino};
	at[name] = f;
}

static void grow(unsigned dir, int name)
{
	struct file *f = &files[at[name]];
	int fd = open(path(dir, name), O_WRONLY | O_APPEND);

	must(fd >= 0 && write(fd, "0123456789", 10) == 10, "cannot be written", dir, name);
	close(fd);
	f->size += 10;
}

static void change(unsigned dir, int name, int other)
{
	struct file *f = at[name] < 0 ? NULL : &files[at[name]];

	changes++;
	if (!f) {
		make(dir, name);
		return;
	}
	switch (draw(7)) {
	case 0:
		must(!unlink(path(dir, name)), "cannot be removed", dir, name);
		let_go(name);
		return;
	case 1:
		if (other == name || at[other] == at[name])
			return; /* rename(2) does nothing then */
		must(!rename(path(dir, name), path(dir, other)), "cannot be renamed", dir, name);
		let_go(other);
		at[other] = at[name];
		at[name] = -1;
		return;
	case 2:
		if (at[other] >= 0)
			return;
		must(!link(path(dir, name), path(dir, other)), "cannot be linked", dir, name);
		at[other] = at[name];
		f->links++;
		return;
	case 3:
		f->size = (off_t)draw(100000);
		must(!truncate(path(dir, name), f->size), "cannot be truncated", dir, name);
		return;
	case 4:
		grow(dir, name);
		return;
	default:
		f->mode = 0400 | draw(0400);
		must(!chmod(path(dir, name), f->mode), "cannot be given a mode", dir, name);
		return;
	}
}

int main(int argc, char **argv)
{
	time_t end;

	if (argc < 5)
		return 2;
	end = time(NULL) + atoi(argv[1]);
	rng = (uint64_t)atoll(argv[2]) * 0x9e3779b97f4a7c15ull + 1;
	dirs = argv + 3;
	dir_count = (unsigned)argc - 3;
	memset(at, 0xff, sizeof(at));
	while (time(NULL) < end) {
		int name = (int)draw(NAMES);

		change(draw(dir_count), name, (int)draw(NAMES));
		for (unsigned d = 0; d < dir_count; d++)
			look(d, name);
		for (unsigned i = draw(60); i; i--)
			look(draw(dir_count), (int)draw(NAMES));
		/* Now and then for so long that leases are given again. */
		if (!draw(20))
			usleep(600 * 1000);
	}
	printf("%lu changes, %lu looks through %u mounts: each as it should be\n", changes, looks,
		dir_count);
	return 0;
}
