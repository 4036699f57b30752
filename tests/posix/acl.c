/* SPDX-License-Identifier: GPL-2.0-or-later */
/* acl.c - POSIX access control lists (acl(5)), as the kernel's attributes. */
#include "posix.h"

#include <sys/xattr.h>

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };

struct entry {
	uint16_t tag, perm;
	uint32_t id;
};

struct list {
	uint32_t version;
	struct entry e[20];
	unsigned count; /* behind what the kernel sees */
};

static void add(struct list *l, unsigned tag, unsigned perm, uint32_t id)
{
	l->version = 2;
	l->e[l->count++] = (struct entry){(uint16_t)tag, (uint16_t)perm, id};
}

static struct list base(mode_t mode)
{
	struct list l = {.version = 2};

	add(&l, USER_OBJ, mode >> 6 & 7, ~0u);
	add(&l, GROUP_OBJ, mode >> 3 & 7, ~0u);
	add(&l, OTHER, mode & 7, ~0u);
	return l;
}

/* u::ugo's, one named user, one named group, a mask. */
static struct list named(mode_t mode, unsigned user_perm, unsigned group_perm, unsigned mask)
{
	struct list l = {.version = 2};

	add(&l, USER_OBJ, mode >> 6 & 7, ~0u);
	add(&l, USER, user_perm, ALICE);
	add(&l, GROUP_OBJ, mode >> 3 & 7, ~0u);
	add(&l, GROUP, group_perm, SHARED);
	add(&l, MASK, mask, ~0u);
	add(&l, OTHER, mode & 7, ~0u);
	return l;
}

static int set(const char *path, const char *name, const struct list *l)
{
	return setxattr(path, name, l, 4 + 8 * l->count, 0);
}

static struct list get(const char *path, const char *name)
{
	struct list l = {0};
	ssize_t n = getxattr(path, name, &l, 4 + sizeof(l.e));

	l.count = n < 4 ? 0 : (unsigned)(n - 4) / 8;
	return l;
}

static bool same(const struct list *a, const struct list *b)
{
	return a->count == b->count && !memcmp(a, b, 4 + 8 * a->count);
}

static void basics(void)
{
	struct list l = named(0640, 6, 4, 7), got;

	put("f", "");
	MUST(mkdir("d", 0755));
	OK(removexattr("f", ACCESS)); /* none: that is no error */
	OK(removexattr("d", DEFAULT));
	ERR(ENODATA, getxattr("f", ACCESS, NULL, 0));
	ERR(ENODATA, getxattr("d", DEFAULT, NULL, 0));
	EQ(listxattr("f", NULL, 0), 0);
	OK(set("f", ACCESS, &l));
	got = get("f", ACCESS);
	TRUE(same(&got, &l));
	EQ(mode_of("f"), 0670);
	EQ(listxattr("f", NULL, 0), sizeof(ACCESS));
	doing("chmod changes the mask, not the group's entry");
	OK(chmod("f", 0421));
	got = get("f", ACCESS);
	EQ(got.e[0].perm, 4);
	EQ(got.e[2].perm, 4);
	EQ(got.e[4].perm, 2);
	EQ(got.e[5].perm, 1);
	EQ(mode_of("f"), 0421);
	doing("three entries are the mode");
	l = base(0751);
	OK(set("f", ACCESS, &l));
	EQ(mode_of("f"), 0751);
	ERR(ENODATA, getxattr("f", ACCESS, NULL, 0));
	EQ(listxattr("f", NULL, 0), 0);
	doing("removal");
	l = named(0640, 6, 4, 6);
	OK(set("f", ACCESS, &l));
	OK(removexattr("f", ACCESS));
	ERR(ENODATA, getxattr("f", ACCESS, NULL, 0));
	EQ(mode_of("f"), 0660);
	OK(set("d", DEFAULT, &l));
	EQ(mode_of("d"), 0755);
	OK(removexattr("d", DEFAULT));
	ERR(ENODATA, getxattr("d", DEFAULT, NULL, 0));
	doing("special bits stay");
	MUST(chmod("f", 06755));
	l = named(0711, 7, 7, 7);
	OK(set("f", ACCESS, &l));
	EQ(mode_of("f"), 06771);
}

static void errors(void)
{
	struct list l = named(0640, 6, 4, 6), bad;

	put("f", "");
	MUST(symlink("f", "s"));
	make("p", S_IFIFO | 0644);
	ERR(EACCES, set("f", DEFAULT, &l));
	ERR(EACCES, set("p", DEFAULT, &l));
	OK(set("p", ACCESS, &l));
	ERR(EOPNOTSUPP, lsetxattr("s", ACCESS, &l, 4 + 8 * l.count, 0));
	ERR(EOPNOTSUPP, lgetxattr("s", ACCESS, NULL, 0));
	bad = l;
	bad.version = 3;
	ERR(EOPNOTSUPP, set("f", ACCESS, &bad));
	ERR(EINVAL, setxattr("f", ACCESS, &l, 7, 0));
	ERR(EINVAL, setxattr("f", ACCESS, &l, 4 + 8 * 5, 0)); /* no entry for others */
	bad = l;
	bad.e[4].tag = OTHER;
	bad.count = 5; /* named ones without a mask */
	ERR(EINVAL, set("f", ACCESS, &bad));
	bad = l;
	bad.e[0].perm = 8;
	ERR(EINVAL, set("f", ACCESS, &bad));
	bad = l;
	bad.e[1].tag = 3;
	ERR(EINVAL, set("f", ACCESS, &bad));
	bad = l;
	bad.e[0] = l.e[1];
	bad.e[1] = l.e[0];
	ERR(EINVAL, set("f", ACCESS, &bad));
	MUST(chown("f", ALICE, ALICE));
	be(&bob);
	ERR(EPERM, set("f", ACCESS, &l));
	ERR(EPERM, removexattr("f", ACCESS));
	be(&alice);
	OK(set("f", ACCESS, &l));
	OK(removexattr("f", ACCESS));
}

/* Who may what: acl(5), "ACCESS CHECK ALGORITHM". */
static void checks(void)
{
	put("f", "x");
	MUST(chown("f", CAROL, CAROL));
	/* Not with an empty mask: Linux then does not look at the list at all (acl_permission_check()). */
	for (unsigned mask = 1; mask < 8; mask++) {
		for (unsigned perm = 0; perm < 8; perm++) {
			struct list l = named(0007, perm, 0, mask), g = named(0007, 0, perm, mask);

			doing("named user %u, mask %u", perm, mask);
			MUST(set("f", ACCESS, &l));
			be(&alice);
			if (perm & mask & 4)
				OK(access("f", R_OK));
			else
				ERR(EACCES, access("f", R_OK));
			if (perm & mask & 2)
				OK(access("f", W_OK));
			else
				ERR(EACCES, access("f", W_OK));
			be(&root);
			doing("named group %u, mask %u", perm, mask);
			g.e[1].id = 12345;
			MUST(set("f", ACCESS, &g));
			be(&alice);
			if (perm & mask & 4)
				OK(access("f", R_OK));
			else
				ERR(EACCES, access("f", R_OK));
			if (perm & mask & 1)
				OK(access("f", X_OK));
			else
				ERR(EACCES, access("f", X_OK));
			doing("others, whom the mask does not touch");
			be(&bob);
			OK(access("f", R_OK | W_OK | X_OK));
			be(&root);
		}
	}
}

static void inherits(void)
{
	struct list l = named(0751, 7, 5, 7), got;

	MUST(mkdir("d", 0777));
	MUST(set("d", DEFAULT, &l));
	umask(077); /* has no say where there is a default list */
	put("d/f", "");
	got = get("d/f", ACCESS);
	EQ(got.count, 6);
	EQ(got.e[0].perm, 6); /* 7 & 0644 */
	EQ(got.e[1].perm, 7);
	EQ(got.e[1].id, ALICE);
	EQ(got.e[2].perm, 5);
	EQ(got.e[4].perm, 4); /* the mask takes what is asked for the group */
	EQ(got.e[5].perm, 0); /* 1 & 4 */
	EQ(mode_of("d/f"), 0640);
	ERR(ENODATA, getxattr("d/f", DEFAULT, NULL, 0));
	OK(mkdir("d/sub", 0777));
	got = get("d/sub", DEFAULT);
	TRUE(same(&got, &l));
	got = get("d/sub", ACCESS);
	TRUE(same(&got, &l));
	EQ(mode_of("d/sub"), 0771);
	OK(mkdir("d/sub/sub", 0700));
	got = get("d/sub/sub", DEFAULT);
	TRUE(same(&got, &l));
	EQ(mode_of("d/sub/sub"), 0700);
	OK(mknod("d/p", S_IFIFO | 0666, 0));
	EQ(mode_of("d/p"), 0660);
	OK(symlink("x", "d/s"));
	EQ(mode_of("d/s"), 0777);
	EQ(llistxattr("d/s", NULL, 0), 0);
	doing("three default entries: a mode, no list");
	l = base(0751);
	MUST(set("d", DEFAULT, &l));
	EQ(get("d", DEFAULT).count, 3);
	OK(close(open("d/g", O_CREAT | O_RDWR, 0666)));
	EQ(mode_of("d/g"), 0640);
	ERR(ENODATA, getxattr("d/g", ACCESS, NULL, 0));
	OK(mkdir("d/h", 0777));
	EQ(mode_of("d/h"), 0751);
	EQ(get("d/h", DEFAULT).count, 3);
	MUST(removexattr("d", DEFAULT));
	doing("without a default list the umask counts");
	OK(close(open("d/i", O_CREAT | O_RDWR, 0666)));
	EQ(mode_of("d/i"), 0600);
	umask(0);
}

static void of_directories(void)
{
	struct list l = named(0700, 7, 0, 7);

	MUST(mkdir("d", 0700));
	put("d/f", "");
	be(&alice);
	ERR(EACCES, access("d/f", F_OK));
	be(&root);
	MUST(set("d", ACCESS, &l));
	be(&alice);
	OK(access("d/f", F_OK));
	OK(close(open("d/new", O_CREAT | O_RDWR, 0600)));
	OK(unlink("d/f"));
	be(&bob);
	ERR(EACCES, access("d/new", F_OK));
	be(&root);
	doing("the mask takes search away");
	MUST(chmod("d", 0760));
	be(&alice);
	ERR(EACCES, access("d/new", F_OK));
}

/* chmod(2), acl(5): setgid goes when one who is not in the group changes what the mode says. */
static void loses_setgid(void)
{
	struct list l = named(0775, 7, 7, 7), b = base(0775);

	put("f", "");
	MUST(chown("f", ALICE, BOB));
	MUST(chmod("f", 02775));
	be(&alice);
	OK(set("f", ACCESS, &l));
	EQ(mode_of("f"), 0775);
	be(&root);
	MUST(chmod("f", 02775));
	OK(set("f", ACCESS, &l));
	EQ(mode_of("f"), 02775);
	MUST(chown("f", ALICE, SHARED));
	MUST(chmod("f", 02775));
	be(&alice);
	OK(set("f", ACCESS, &b));
	EQ(mode_of("f"), 02775);
	be(&root);
	doing("a default list says nothing of the mode");
	MUST(mkdir("d", 0777));
	MUST(chown("d", ALICE, BOB));
	MUST(chmod("d", 02777));
	be(&alice);
	OK(set("d", DEFAULT, &l));
	EQ(mode_of("d"), 02777);
	OK(removexattr("d", DEFAULT));
	EQ(mode_of("d"), 02777);
}

const struct test tests_acl[] = {
	{"acl-basics", basics},
	{"acl-errors", errors},
	{"acl-checks", checks},
	{"acl-inherits", inherits},
	{"acl-directories", of_directories},
	{"acl-setgid", loses_setgid},
	{NULL, NULL},
};
