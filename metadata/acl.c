/* SPDX-License-Identifier: GPL-2.0-or-later */
/* acl.c - see acl.h. The algorithms are POSIX 1003.1e draft 17's, as fs/posix_acl.c has them. */
#include "metadata/acl.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "metadata/xattr.h"

#define ACL_VERSION 2u

enum {
	TAG_USER_OBJ = 0x01,
	TAG_USER = 0x02,
	TAG_GROUP_OBJ = 0x04,
	TAG_GROUP = 0x08,
	TAG_MASK = 0x10,
	TAG_OTHER = 0x20,
};

struct acl_entry {
	le16 tag, perm;
	le32 id;
};
_Static_assert(sizeof(struct acl_entry) == 8, "kernel's form");

struct acl {
	uint32_t bytes; /* 0: none */
	uint32_t count;
	union {
		uint8_t raw[ACL_BYTES_MAX];
		struct {
			le32 version;
			struct acl_entry e[(ACL_BYTES_MAX - 4) / 8];
		};
	};
};

bool acl_is_acl(const char *xattr_name)
{
	return !strcmp(xattr_name, ACL_ACCESS) || !strcmp(xattr_name, ACL_DEFAULT);
}

static struct acl_entry *entry(struct acl *a, uint32_t tag)
{
	for (uint32_t i = 0; i < a->count; i++) {
		if (le16_get(a->e[i].tag) == tag)
			return &a->e[i];
	}
	return NULL;
}

/* Each of the three base entries once, a mask if there are named ones, in ascending order of tag. */
static int check(struct acl *a)
{
	uint32_t last = 0, tag, base = 0;

	for (uint32_t i = 0; i < a->count; i++) {
		tag = le16_get(a->e[i].tag);
		if (le16_get(a->e[i].perm) > 7 || tag < last)
			return -EINVAL;
		switch (tag) {
		case TAG_USER:
		case TAG_GROUP:
			base |= TAG_USER;
			break;
		case TAG_USER_OBJ:
		case TAG_GROUP_OBJ:
		case TAG_MASK:
		case TAG_OTHER:
			if (tag == last)
				return -EINVAL;
			base |= tag;
			break;
		default:
			return -EINVAL;
		}
		last = tag;
	}
	if ((base & (TAG_USER_OBJ | TAG_GROUP_OBJ | TAG_OTHER)) !=
		(TAG_USER_OBJ | TAG_GROUP_OBJ | TAG_OTHER))
		return -EINVAL;
	return (base & TAG_USER) && !(base & TAG_MASK) ? -EINVAL : 0;
}

/* An empty value, or one without entries, is no list: count 0. */
static int parse(struct acl *a, const void *value, uint32_t len)
{
	a->bytes = 0;
	a->count = 0;
	if (len == 0)
		return 0;
	if (len > ACL_BYTES_MAX)
		return -E2BIG;
	if (len < 4 || (len - 4) % sizeof(struct acl_entry))
		return -EINVAL;
	memcpy(a->raw, value, len);
	if (le32_get(a->version) != ACL_VERSION)
		return -EOPNOTSUPP;
	a->bytes = len;
	a->count = (len - 4) / (uint32_t)sizeof(struct acl_entry);
	return a->count ? check(a) : 0;
}

/* 0 and count 0 when there is none. */
static int load(const struct inode *in, const char *name, struct acl *a)
{
	uint8_t value[ACL_BYTES_MAX];
	uint32_t len;
	int err = xattr_get(in, name, value, sizeof(value), &len);

	a->count = 0;
	if (err == -ENODATA)
		return 0;
	if (err == -ERANGE)
		err = -EINVAL;
	if (!err)
		err = parse(a, value, len);
	/* acl_set() stores no such thing. */
	if (err == -EINVAL || err == -EOPNOTSUPP)
		return txn_damaged(in->t, PROBLEM_XATTR, in->b->blkno, in->ino, len, 0);
	return err;
}

/* The bits that the list has for owner, group class and others. */
static uint32_t mode_of(struct acl *a)
{
	struct acl_entry *group = entry(a, TAG_MASK);

	if (!group)
		group = entry(a, TAG_GROUP_OBJ);
	return (uint32_t)le16_get(entry(a, TAG_USER_OBJ)->perm) << 6 |
	       (uint32_t)le16_get(group->perm) << 3 | (uint32_t)le16_get(entry(a, TAG_OTHER)->perm);
}

static void set_mode(const struct inode *in, uint32_t bits)
{
	inode_dirty(in);
	in->d->mode = le32_of((inode_mode(in) & ~0777u) | bits);
}

int acl_set(
	const struct inode *in, const char *name, const void *value, uint32_t len, uint32_t flags)
{
	bool is_default = !strcmp(name, ACL_DEFAULT);
	struct acl a;
	int err = parse(&a, value, len);

	if (err)
		return err;
	if (inode_type(in) == S_IFLNK)
		return -EOPNOTSUPP;
	if (is_default && inode_type(in) != S_IFDIR)
		return a.count ? -EACCES : 0;
	if (!is_default && a.count) {
		inode_touch_ctime(in);
		set_mode(in, mode_of(&a));
	}
	/* Three entries without a mask say what the mode says. */
	if (a.count == 0 || (!is_default && a.count == 3)) {
		err = xattr_remove(in, name);
		return err == -ENODATA ? 0 : err;
	}
	return xattr_set(in, name, value, len, flags);
}

int acl_chmod(const struct inode *in)
{
	uint32_t mode = inode_mode(in);
	struct acl_entry *group;
	struct acl a;
	int err = load(in, ACL_ACCESS, &a);

	if (err || !a.count)
		return err;
	group = entry(&a, TAG_MASK);
	if (!group)
		group = entry(&a, TAG_GROUP_OBJ);
	entry(&a, TAG_USER_OBJ)->perm = le16_of((uint16_t)(mode >> 6 & 7));
	group->perm = le16_of((uint16_t)(mode >> 3 & 7));
	entry(&a, TAG_OTHER)->perm = le16_of((uint16_t)(mode & 7));
	return xattr_set(in, ACL_ACCESS, a.raw, a.bytes, XATTR_REPLACE);
}

static void limit(struct acl_entry *e, uint32_t bits)
{
	e->perm = le16_of((uint16_t)(le16_get(e->perm) & bits));
}

int acl_inherit(const struct inode *dir, const struct inode *in, uint32_t umask)
{
	uint32_t mode = inode_mode(in);
	struct acl_entry *group;
	struct acl a;
	int err;

	if (S_ISLNK(mode))
		return 0;
	err = load(dir, ACL_DEFAULT, &a);
	if (err)
		return err;
	if (!a.count) {
		set_mode(in, mode & 0777 & ~umask);
		return 0;
	}
	if (S_ISDIR(mode)) {
		err = xattr_set(in, ACL_DEFAULT, a.raw, a.bytes, XATTR_CREATE);
		if (err)
			return err;
	}
	/* What was asked for limits the list, and the list limits what was asked for. */
	group = entry(&a, TAG_MASK);
	if (!group)
		group = entry(&a, TAG_GROUP_OBJ);
	limit(entry(&a, TAG_USER_OBJ), mode >> 6 & 7);
	limit(group, mode >> 3 & 7);
	limit(entry(&a, TAG_OTHER), mode & 7);
	set_mode(in, mode_of(&a));
	if (a.count == 3)
		return 0;
	return xattr_set(in, ACL_ACCESS, a.raw, a.bytes, XATTR_CREATE);
}
