/* SPDX-License-Identifier: GPL-2.0-or-later */
/* owner.c - chown, fchown, lchown: who may, and what becomes of setuid and setgid. */
#include "posix.h"

#define KEEP ((uid_t)-1)

static bool owned(const char *path, uid_t uid, gid_t gid)
{
	struct stat st = st_of(path);

	return EQ(st.st_uid, uid) & EQ(st.st_gid, gid);
}

static void by_root(void)
{
	for (const mode_t *t = all_types; *t; t++) {
		doing("%s", type_name(*t));
		make("x", *t | 0755);
		OK(lchown("x", 123, 456));
		owned("x", 123, 456);
		OK(lchown("x", 0, KEEP));
		owned("x", 0, 456);
		OK(lchown("x", KEEP, 0));
		owned("x", 0, 0);
		OK(lchown("x", 4294967294u, 4294967294u));
		owned("x", 4294967294u, 4294967294u);
		OK(lchown("x", KEEP, KEEP));
		owned("x", 4294967294u, 4294967294u);
		OK(lchown("x", 65535, 65536));
		owned("x", 65535, 65536);
		if (*t != S_IFLNK) {
			MUST(symlink("x", "s"));
			OK(chown("s", 7, 8));
			owned("x", 7, 8);
			owned("s", 0, 0);
			OK(lchown("s", 9, 10));
			owned("x", 7, 8);
			owned("s", 9, 10);
			OK(fchownat(AT_FDCWD, "s", 11, 12, AT_SYMLINK_NOFOLLOW));
			owned("s", 11, 12);
			MUST(unlink("s"));
		}
		MUST(remove("x"));
	}
	put("f", "");
	ERR(EINVAL, fchownat(AT_FDCWD, "f", 1, 1, 0x8000));
	int fd = open("f", O_RDONLY);
	OK(fchown(fd, 5, 6));
	owned("f", 5, 6);
	OK(fchownat(fd, "", 6, 7, AT_EMPTY_PATH));
	owned("f", 6, 7);
	close(fd);
	ERR(EBADF, fchown(fd, 5, 6));
}

static void by_others(void)
{
	for (const mode_t *t = all_types; *t; t++) {
		doing("%s", type_name(*t));
		make("x", *t | 0755);
		MUST(lchown("x", ALICE, ALICE));
		be(&alice);
		OK(lchown("x", KEEP, KEEP));
		OK(lchown("x", ALICE, KEEP));
		OK(lchown("x", KEEP, SHARED));
		owned("x", ALICE, SHARED);
		OK(lchown("x", ALICE, ALICE));
		owned("x", ALICE, ALICE);
		ERR(EPERM, lchown("x", BOB, KEEP));
		ERR(EPERM, lchown("x", BOB, ALICE));
		ERR(EPERM, lchown("x", 0, 0));
		ERR(EPERM, lchown("x", KEEP, BOB));
		ERR(EPERM, lchown("x", KEEP, 0));
		ERR(EPERM, lchown("x", ALICE, BOB));
		owned("x", ALICE, ALICE);
		doing("%s of another", type_name(*t));
		be(&bob);
		ERR(EPERM, lchown("x", BOB, BOB));
		ERR(EPERM, lchown("x", ALICE, KEEP));
		ERR(EPERM, lchown("x", KEEP, BOB));
		ERR(EPERM, lchown("x", KEEP, ALICE));
		owned("x", ALICE, ALICE);
		be(&root);
		doing("a group she is not in, but the file is: staying there is allowed");
		MUST(lchown("x", ALICE, BOB));
		be(&alice);
		OK(lchown("x", KEEP, BOB));
		OK(lchown("x", ALICE, BOB));
		OK(lchown("x", KEEP, SHARED));
		ERR(EPERM, lchown("x", KEEP, BOB));
		be(&root);
		MUST(remove("x"));
	}
}

/* chown(2): the bits go, whoever asks; of a directory they stay. */
static void bits_go(void)
{
	static const struct {
		mode_t before, file;
	} modes[] = {{06755, 0755}, {04755, 0755}, {02755, 0755}, {06710, 0710}, {04600, 0600},
		{07777, 01777}, {0777, 0777}};

	for (const mode_t *t = all_types; *t; t++) {
		if (*t == S_IFLNK)
			continue;
		for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
			mode_t want = *t == S_IFDIR ? modes[i].before : modes[i].file;

			make("x", *t | 0755);
			MUST(chown("x", ALICE, ALICE));
			for (int who = 0; who < 2; who++) {
				MUST(chmod("x", modes[i].before));
				be(who ? &alice : &root);
				doing("%s, mode %o, by %s", type_name(*t), modes[i].before,
					who ? "the owner" : "root");
				OK(chown("x", ALICE, SHARED));
				EQ(mode_of("x"), want);
				be(&root);
				MUST(chmod("x", modes[i].before));
				be(who ? &alice : &root);
				OK(chown("x", KEEP, ALICE));
				EQ(mode_of("x"), want);
				be(&root);
				MUST(chmod("x", modes[i].before));
				be(who ? &alice : &root);
				OK(chown("x", KEEP, KEEP));
				EQ(mode_of("x"), want);
				be(&root);
			}
			MUST(remove("x"));
		}
	}
}

/* What others may do to the attributes of a file that is not theirs: nothing. */
static void not_owner(void)
{
	static const mode_t modes[] = {0, 0666, 0777, 06777};

	for (const mode_t *t = all_types; *t; t++) {
		if (*t == S_IFLNK)
			continue;
		for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
			doing("%s with mode %o", type_name(*t), modes[i]);
			make("x", *t | 0644);
			MUST(chmod("x", modes[i]));
			be(&bob);
			ERR(EPERM, chmod("x", 0700));
			ERR(EPERM, chown("x", BOB, BOB));
			ERR(EPERM, chown("x", 0, KEEP));
			ERR(EPERM,
				utimensat(AT_FDCWD, "x", (struct timespec[2]){{1, 0}, {1, 0}}, 0));
			be(&root);
			EQ(mode_of("x"), modes[i]);
			MUST(remove("x"));
		}
	}
}

const struct test tests_owner[] = {
	{"chown-root", by_root},
	{"chown-others", by_others},
	{"chown-bits-go", bits_go},
	{"chown-not-owner", not_owner},
	{NULL, NULL},
};
