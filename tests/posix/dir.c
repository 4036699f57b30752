/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dir.c - reading directories, while they change too; deep ones. */
#include "posix.h"

#include <dirent.h>

struct linux_dirent64 {
	uint64_t ino;
	int64_t off;
	unsigned short reclen;
	unsigned char type;
	char name[];
};

static void listing(void)
{
	unsigned seen = 0, dots = 0;
	struct dirent *e;
	DIR *d;

	for (const mode_t *t = all_types; *t; t++)
		make(type_name(*t), *t | 0644);
	d = opendir(".");
	TRUE(d != NULL);
	while ((e = readdir(d))) {
		struct stat st = st_of(e->d_name);

		doing("%s", e->d_name);
		EQ(e->d_type, (st.st_mode & S_IFMT) >> 12);
		EQ(e->d_ino, st.st_ino);
		if (e->d_name[0] == '.')
			dots++;
		else
			seen++;
	}
	EQ(seen, 7);
	EQ(dots, 2);
	doing("again, from the start");
	rewinddir(d);
	put("one more", "");
	for (seen = 0; (e = readdir(d));)
		seen++;
	EQ(seen, 10);
	closedir(d);
}

#define MANY 1500

static void fill(unsigned n)
{
	char name[64];

	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "d/entry-%u", i);
		MUST(mknod(name, S_IFREG | 0644, 0));
	}
}

static void seeking(void)
{
	static long at[MANY + 2];
	static char names[MANY + 2][32];
	unsigned n = 0, wrong = 0;
	struct dirent *e;
	DIR *d;

	MUST(mkdir("d", 0755));
	fill(MANY);
	d = opendir("d");
	for (;;) {
		at[n] = telldir(d);
		e = readdir(d);
		if (!e)
			break;
		snprintf(names[n], 32, "%.31s", e->d_name);
		must(++n <= MANY + 1 || n == MANY + 2, "more entries than there are");
		if (n == MANY + 2)
			break;
	}
	EQ(n, MANY + 2);
	for (unsigned i = 0; i < 300; i++) {
		unsigned k = (unsigned)(rnd() % n);

		seekdir(d, at[k]);
		e = readdir(d);
		wrong += !e || strcmp(e->d_name, names[k]);
	}
	EQ(wrong, 0);
	doing("a position is good though the entry there is gone, and others came");
	for (unsigned i = 0; i < n; i += 2) {
		char path[64];

		snprintf(path, sizeof(path), "d/%.31s", names[i]);
		if (names[i][0] != '.')
			MUST(unlink(path));
		snprintf(path, sizeof(path), "d/new-%u", i);
		put(path, "");
	}
	wrong = 0;
	for (unsigned i = 1; i < n; i += 2) {
		seekdir(d, at[i]);
		while ((e = readdir(d)) && !strncmp(e->d_name, "new-", 4))
			;
		wrong += names[i][0] != '.' && (!e || strcmp(e->d_name, names[i]));
	}
	EQ(wrong, 0);
	closedir(d);
}

/* Entries that stay are seen once each, whatever comes and goes while the directory is read in small pieces. */
static void changing(unsigned bytes)
{
	static unsigned char seen[MANY];
	char buf[4096], path[64];
	unsigned missed = 0, twice = 0, stale = 0, nr, step = 0, pieces = 0;
	int fd;
	long n;

	doing("pieces of %u bytes", bytes);
	memset(seen, 0, sizeof(seen));
	MUST(mkdir("d", 0755));
	fill(MANY);
	fd = open("d", O_RDONLY | O_DIRECTORY);
	while ((n = syscall(SYS_getdents64, fd, buf, bytes)) > 0) {
		pieces++;
		for (char *p = buf; p < buf + n; p += ((struct linux_dirent64 *)p)->reclen) {
			if (sscanf(((struct linux_dirent64 *)p)->name, "entry-%u", &nr) != 1)
				continue;
			twice += seen[nr] != 0;
			stale += seen[nr] == 2;
			seen[nr] = 1;
		}
		/* every third one goes, others come */
		for (int i = 0; i < 10; i++, step++) {
			snprintf(path, sizeof(path), "d/entry-%u", step * 3);
			if (step * 3 < MANY && !unlink(path) && !seen[step * 3])
				seen[step * 3] = 2;
			snprintf(path, sizeof(path), "d/new-%u", step);
			MUST(mknod(path, S_IFREG | 0644, 0));
		}
		must(pieces < 100000, "an end of the directory");
	}
	EQ(n, 0);
	close(fd);
	for (unsigned i = 0; i < MANY; i++)
		missed += i % 3 && !seen[i];
	EQ(missed, 0);
	EQ(twice - stale, 0);
	doing("removing all while reading");
	fd = open("d", O_RDONLY | O_DIRECTORY);
	while ((n = syscall(SYS_getdents64, fd, buf, bytes)) > 0) {
		for (char *p = buf; p < buf + n; p += ((struct linux_dirent64 *)p)->reclen) {
			snprintf(path, sizeof(path), "d/%s", ((struct linux_dirent64 *)p)->name);
			if (((struct linux_dirent64 *)p)->name[0] != '.')
				unlink(path);
		}
	}
	close(fd);
	OK(rmdir("d"));
}

static void concurrent(void)
{
	/* tmpfs and ext4 promise less for entries that go and come again; these checks are of those that stay */
	changing(400);
	changing(4096);
}

/* Each entry is given another name and its own again while the directory is read: that ends, and each is seen. */
static void renaming(void)
{
	static unsigned char seen[MANY];
	char path[300];
	unsigned n = 0, nr, missed = 0;
	struct dirent *e;
	DIR *d;

	MUST(mkdir("d", 0755));
	fill(MANY);
	d = opendir("d");
	must(d != NULL, "opendir");
	while (n < 4 * MANY && (e = readdir(d))) {
		if (sscanf(e->d_name, "entry-%u", &nr) != 1)
			continue;
		n++;
		seen[nr] = 1;
		snprintf(path, sizeof(path), "d/%s", e->d_name);
		MUST(rename(path, "d/other"));
		MUST(rename("d/other", path));
	}
	TRUE(n < 4 * MANY);
	for (unsigned i = 0; i < MANY; i++)
		missed += !seen[i];
	EQ(missed, 0);
	doing("what came after opendir() is seen by the first readdir()");
	closedir(d);
	d = opendir("d");
	put("d/late", "");
	for (n = 0; (e = readdir(d));)
		n += !strcmp(e->d_name, "late");
	EQ(n, 1);
	closedir(d);
}

static void errors(void)
{
	char buf[300];
	int fd = open(".", O_RDONLY), f;

	ERR(EINVAL, syscall(SYS_getdents64, fd, buf, 10));
	OK(lseek(fd, 0, SEEK_SET));
	ERR(EFAULT, syscall(SYS_getdents64, fd, 8l, 1000));
	close(fd);
	ERR(EBADF, syscall(SYS_getdents64, fd, buf, sizeof(buf)));
	put("f", "");
	f = open("f", O_RDONLY);
	ERR(ENOTDIR, syscall(SYS_getdents64, f, buf, sizeof(buf)));
	close(f);
	MUST(mkdir("d", 0755));
	fd = open("d", O_RDONLY);
	MUST(rmdir("d"));
	ERR(ENOENT, syscall(SYS_getdents64, fd, buf, sizeof(buf)));
	close(fd);
	MUST(mkdir("closed", 0311));
	be(&alice);
	ERR(EACCES, open("closed", O_RDONLY));
	OK(chdir("closed"));
}

static void deep(void)
{
	char name[100], cwd[PATH_MAX * 8];
	struct stat st;
	int depth = 200;

	for (int i = 0; i < depth; i++) {
		snprintf(name, sizeof(name),
			"directory-of-level-%03d-with-a-long-name-to-get-over-PATH_MAX", i);
		MUST(mkdir(name, 0755));
		MUST(chdir(name));
	}
	put("bottom", "b");
	TRUE(same_bytes("bottom", 0, "b", 1));
	TRUE(syscall(SYS_getcwd, cwd, sizeof(cwd)) > 0 || errno == ENAMETOOLONG);
	OK(rename("bottom", "moved"));
	OK(mkdir("last", 0755));
	OK(rmdir("last"));
	OK(unlink("moved"));
	for (int i = depth - 1; i >= 0; i--) {
		MUST(chdir(".."));
		snprintf(name, sizeof(name),
			"directory-of-level-%03d-with-a-long-name-to-get-over-PATH_MAX", i);
		MUST(rmdir(name));
	}
	OK(stat(".", &st));
	EQ(st.st_ino, st_of(here).st_ino);
}

/* A directory that is removed while somebody stands in it. */
static void removed(void)
{
	char cwd[PATH_MAX];
	struct stat st, was;
	int fd;

	MUST(mkdir("d", 0751));
	MUST(mkdir("e", 0755));
	fd = open("e", O_RDONLY | O_DIRECTORY);
	MUST(chdir("d"));
	was = st_of(".");
	OK(rmdir("../d"));
	doing("fstat of where one stands, gone");
	OK(stat(".", &st));
	EQ(st.st_nlink, 0);
	EQ(st.st_ino, was.st_ino);
	EQ(st.st_mode, S_IFDIR | 0751);
	doing("fstat of an open one, gone, another in its place");
	OK(fstat(fd, &was));
	OK(rename("../e", "../f"));
	MUST(mkdir("../e", 0700));
	OK(rename("../e", "../f"));
	for (int i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "../n%d", i);
		MUST(mkdir(name, 0711));
	}
	OK(fstat(fd, &st));
	EQ(st.st_nlink, 0);
	EQ(st.st_ino, was.st_ino);
	EQ(st.st_mode, S_IFDIR | 0755);
	OK(fsync(fd));
	ERR(ENOENT, openat(fd, "x", O_CREAT | O_RDWR, 0644));
	ERR(ENOENT, mkdirat(fd, "x", 0755));
	(void)fchmod(fd, 0123);
	(void)fchown(fd, BOB, BOB);
	doing("what is done to it is done to nobody else");
	for (int i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "../n%d", i);
		EQ(mode_of(name), 0711);
		EQ(st_of(name).st_uid, 0);
		MUST(rmdir(name));
	}
	close(fd);
	doing("what one may do there");
	ERR(ENOENT, mkdir("x", 0755));
	ERR(ENOENT, open("x", O_CREAT | O_RDWR, 0644));
	ERR(ENOENT, syscall(SYS_getcwd, cwd, sizeof(cwd)));
	OK(chdir(".."));
	TRUE(!exists("d"));
}

const struct test tests_dir[] = {
	{"dir-listing", listing},
	{"dir-seeking", seeking},
	{"dir-changing", concurrent},
	{"dir-renaming", renaming},
	{"dir-errors", errors},
	{"dir-deep", deep},
	{"dir-removed", removed},
	{NULL, NULL},
};
