/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/base/trace.h"
#include "tools/check/internal.h"

/* What of an inode is to be made anew when this is said of it. */
static uint16_t mend_of(enum problem code)
{
	switch ((int)code) {
	case PROBLEM_MEDIUM:
	case PROBLEM_HEADER_MAGIC:
	case PROBLEM_HEADER_CRC:
	case PROBLEM_HEADER_UUID:
	case PROBLEM_HEADER_BLKNO:
	case PROBLEM_HEADER_OWNER:
	case PROBLEM_RESERVED:
	case PROBLEM_BLKNO_RANGE:
	case PROBLEM_BLOCK_DOUBLE:
	case PROBLEM_BLOCK_NOT_META:
	case PROBLEM_CLUSTER_IN_META:
	case PROBLEM_TREE_LEVEL:
	case PROBLEM_TREE_COUNT:
	case PROBLEM_TREE_KIND:
	case PROBLEM_TREE_ORDER:
	case PROBLEM_TREE_BOUNDS:
	case PROBLEM_TREE_RECORD:
	case PROBLEM_EXTENT_RANGE:
	case PROBLEM_EXTENT_EMPTY:
	case PROBLEM_EXTENT_STATE:
	case PROBLEM_EXTENT_OVERLAP:
	case PROBLEM_EXTENT_BEYOND:
	case PROBLEM_XATTR:
	case PROBLEM_SYMLINK:
		return CK_MEND_FIELDS | CK_MEND_TREES;
	case PROBLEM_INODE_MODE:
	case PROBLEM_INODE_FLAGS:
	case PROBLEM_INODE_SIZE:
	case PROBLEM_INODE_BEHIND_END:
	case PROBLEM_INODE_INLINE:
	case PROBLEM_INODE_GENERATION:
	case PROBLEM_INODE_NUMBER:
	case PROBLEM_INODE_NOT_CLEARED:
	case PROBLEM_INODE_PARENT:
		return CK_MEND_FIELDS;
	case PROBLEM_CLUSTER_DOUBLE:
	case PROBLEM_CLUSTER_IN_RESERVE:
		return CK_MEND_SPACE;
	case PROBLEM_DIRENT_NAME:
	case PROBLEM_DIRENT_HASH:
	case PROBLEM_DIRENT_INO:
	case PROBLEM_DIRENT_DUPLICATE:
		return CK_MEND_NAMES;
	}
	return 0;
}

static void mark(struct check *c, enum problem code, uint64_t ino)
{
	struct ck_inode *i = ino ? ck_inode(c, ino) : NULL;

	if (i)
		i->flags |= mend_of(code);
	if (code == PROBLEM_ORPHAN_INO || code == PROBLEM_ORPHAN_LINKED ||
		code == PROBLEM_ORPHAN_NOT_LISTED || code == PROBLEM_INTENT ||
		code == PROBLEM_INTENT_NOT_LISTED)
		c->lists_bad = true;
}

void ck_report(struct check *c, enum problem code, uint64_t blkno, uint64_t ino, uint64_t found,
	uint64_t want, const char *what)
{
	const struct check_problem p = {code, blkno, ino, found, want, what};

	c->rep->count[code]++;
	c->rep->by_severity[problem_severity(code)]++;
	if (problem_severity(code) != SEVERITY_NOTE && !ck_repairable(c, code))
		c->lost++;
	mark(c, code, ino);
	if (c->o->on_problem)
		c->o->on_problem(c->o->ctx, &p);
}

uint64_t check_faults(const struct check_report *rep)
{
	return rep->by_severity[SEVERITY_LEAK] + rep->by_severity[SEVERITY_DAMAGE] +
	       rep->by_severity[SEVERITY_FATAL];
}

/* Codes whose `found` and `want` are a start and a count. */
static bool is_range(enum problem code)
{
	return code == PROBLEM_CLUSTER_LEAK || code == PROBLEM_CLUSTER_NOT_MARKED ||
	       code == PROBLEM_CLUSTER_DOUBLE || code == PROBLEM_CLUSTER_IN_META ||
	       code == PROBLEM_BLOCK_LEAK || code == PROBLEM_GROUP_FIXED_AREA;
}

size_t check_problem_text(const struct check_problem *p, char *out, size_t out_bytes)
{
	const unsigned long long found = p->found, want = p->want;
	size_t n = 0;

	if (p->blkno)
		n += trace_format(
			out + n, out_bytes - n, "block %llu: ", (unsigned long long)p->blkno);
	if (p->ino)
		n += trace_format(
			out + n, out_bytes - n, "inode %llu: ", (unsigned long long)p->ino);
	n += trace_format(out + n, out_bytes - n, "%s: %s", problem_name(p->code), p->what);
	if (is_range(p->code) && want == 1)
		n += trace_format(out + n, out_bytes - n, " %llu", found);
	else if (is_range(p->code) && want)
		n += trace_format(out + n, out_bytes - n, " %llu to %llu", found, found + want - 1);
	else if (p->code == PROBLEM_HEADER_MAGIC || p->code == PROBLEM_INODE_MODE)
		n += trace_format(
			out + n, out_bytes - n, " is 0x%llx, should be 0x%llx", found, want);
	else if (found == want && strchr(p->what, ':')) /* the number says where */
		n += trace_format(out + n, out_bytes - n, " %llu", found);
	else if (found != want)
		n += trace_format(out + n, out_bytes - n, " is %llu, should be %llu", found, want);
	return n;
}
