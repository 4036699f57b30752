/* SPDX-License-Identifier: GPL-2.0-or-later */
/* table.h - a volume with everything on it, and every operation that can be done to it. */
#ifndef CSVFS_TESTS_CRASH_TABLE_H
#define CSVFS_TESTS_CRASH_TABLE_H

#include "tests/crash/world.h"

/* What is on the volume; an operation names what it is about. */
enum thing {
	T_ROOT,
	T_BIG, /* directory of several blocks */
	T_SMALL, /* directory; most of the files are in it */
	T_EMPTY,
	T_SUB, /* directory in T_SMALL */
	T_SUB_EMPTY, /* directory in T_SUB */
	T_A, /* files with written extents, with and without attributes */
	T_B,
	T_HARD, /* two names */
	T_PRE, /* space ahead of its end, and unwritten space within */
	T_HOLES, /* nothing but holes */
	T_SUID,
	T_OPEN, /* open on some node */
	T_ORPHAN,
	T_NAMELESS, /* open when it was unlinked */
	T_SYMLINK, /* a long one */
	T_FIFO,
	T_MANY, /* 1200 extents */
	T_ATTRS, /* 64 KiB of attributes, several of them */
	T_FILL, /* all the rest of the space, on a full volume */
	T_COUNT
};
extern uint64_t things[T_COUNT];

struct table_op {
	const char *name;
	enum fs_op op;
	enum thing at, at2;
	const char *n1, *n2;
	uint32_t mode, flags, valid;
	uint32_t data_len; /* of 'x' */
	uint64_t off, len;
	struct fs_attr attr;
	bool writes; /* data into what it was given, then FS_LAYOUT_COMMIT */
	bool frees, takes; /* space for data */
	bool is_long; /* several transactions */
};
extern const struct table_op table[];
extern const uint32_t table_count;
/* Operations that change nothing, of what the others change. */
extern const struct table_op table_reads[];
extern const uint32_t table_reads_count;

enum fixture {
	FIXTURE_ROOMY,
	FIXTURE_LONG, /* with those things that take several transactions to free */
	FIXTURE_FULL, /* no cluster is left for data */
	FIXTURE_HOLE, /* but for one aligned chunk */
};
void table_fixture(struct world *w, struct disk *d, enum fixture kind);
bool table_is_open(void *ctx, uint64_t ino);
void table_request(const struct table_op *o, struct fs_request *rq);

#endif
