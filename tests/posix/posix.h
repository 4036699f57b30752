/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * posix.h - conformance of a mounted file system with POSIX and Linux, seen from outside: each check is one
 * system call and what the standard or the manual page says must come of it, for root and for others.
 *
 * A test is a function that starts in an empty directory of its own, as root, with umask 0. It may change
 * who it is with be(); the frame sets that back.
 */
#ifndef POSIX_H
#define POSIX_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

struct test {
	const char *name;
	void (*run)(void);
};

/* The tables of the parts; each ends with a NULL name. */
extern const struct test tests_path[], tests_name[], tests_rename[], tests_attr[], tests_owner[],
	tests_times[], tests_data[], tests_space[], tests_map[], tests_xattr[], tests_acl[],
	tests_dir[], tests_gone[], tests_call[], tests_misc[], tests_lock[], tests_ro[], tests_full[];

void prepare_ro(void); /* full.c: what tests_ro look at, in the working directory */

/* ---- who we are. Root's saved ids stay, so that be(&root) works from everywhere. */
struct user {
	uid_t uid;
	gid_t gid;
	int more_count;
	gid_t more[2];
};
extern const struct user root, alice, bob, carol;
#define ALICE 60001
#define BOB 60002
#define CAROL 60003
#define SHARED 60100 /* a group that alice has beside her own */
void be(const struct user *u);

/* ---- where we are */
extern bool on_csvfs; /* for what FUSE cannot do, or csvfs does otherwise; each use says why */
/*
 * The kernel's FUSE can map a file shared that is opened for direct I/O, and ask for a birth time: since Linux 6.6.
 * True of any other file system.
 */
extern bool fuse_66;
extern char top[PATH_MAX], here[PATH_MAX]; /* the directory given; that of the test */

/* ---- checks. What is being done, for the line that is printed if it fails. */
void doing(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool check_true(const char *file, int line, const char *text, bool ok);
bool check_ok(const char *file, int line, const char *text, long ret);
bool check_err(const char *file, int line, const char *text, long ret, int want);
bool check_eq(const char *file, int line, const char *text, long long got, long long want);
void cannot(const char *why); /* a test that this machine cannot run */

#define TRUE(e) check_true(__FILE__, __LINE__, #e, (e))
#define OK(e) check_ok(__FILE__, __LINE__, #e, (errno = 0, (long)(e)))
#define ERR(want, e) check_err(__FILE__, __LINE__, #e, (errno = 0, (long)(e)), (want))
#define EQ(got, want)                                                                              \
	check_eq(__FILE__, __LINE__, #got " == " #want, (long long)(got), (long long)(want))

/* ---- helpers; they do not count as checks, and end the program when they fail */
void must(bool ok, const char *what);
#define MUST(e) must((e) != -1, #e)
void put(const char *path, const char *text); /* a file with this text, 0644 */
void make(const char *path,
	mode_t type_and_mode); /* a file of any type; a symlink leads to "target" */
struct stat st_of(const char *path); /* lstat */
mode_t mode_of(const char *path); /* 07777 of it */
bool exists(const char *path); /* lstat */
int status_of(pid_t pid); /* waitpid */
void tick(void); /* until the clock of a file's times has moved */
uint64_t rnd(void);
bool same_bytes(const char *path, off_t off, const void *want, size_t len);

extern const mode_t all_types[]; /* S_IFREG first, S_IFDIR second; ends with 0 */
const char *type_name(mode_t type);

static inline long long ns_of(struct timespec t)
{
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

#endif
