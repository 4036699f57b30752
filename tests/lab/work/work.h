/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * work.h - the load of tests/lab/soak and what is known about it.
 *
 * A board is a file outside of the volume, mapped by the load of every node: there each activity notes a number
 * before a call begins and after it has come back. All nodes of a lab are on one machine, so who reads "done" on
 * the board before a call begins may demand that the call sees it: that is the test for old answers.
 *
 * Each activity counts its operations. The number (id) of an operation is in the name that is made, in the record
 * that is appended, in the bytes that are written. One that had no answer, since its node died, is `unknown`: it may
 * have happened or not, and is counted once at most.
 */
#ifndef TESTS_LAB_WORK_WORK_H
#define TESTS_LAB_WORK_WORK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
	NODES_MAX = 4,
	BLOCK = 4096,
	BLOCKS = 256, /* of each node's data file, all of them written before the load begins */
	NAMES_KEPT = 200, /* names that an activity leaves in the directory */
	FILES_KEPT = 8,
	FILE_BLOCKS = 96, /* at most, of a new file */
	UNKNOWN_MAX = 2048,
	RECORD = 61, /* no block of any LUN begins or ends with one */
};

/* DATA and READ use extents that exist and that the node knows; the others ask the coordinator. */
enum kind { DATA, READ, NAMES, LOOK, LOCK, APPEND, FILES, KINDS };

struct slot {
	_Atomic uint64_t begun, done; /* ids */
	_Atomic uint64_t gone_begun, gone_done; /* ids up to this are unlinked */
	_Atomic uint64_t since_ns; /* when the call that is out began; 0: none is */
	_Atomic uint64_t longest_ns;
	_Atomic uint64_t ops, errors;
	_Atomic uint64_t lost; /* errors that a node may give that was given up */
	_Atomic uint32_t unknown_count;
	uint64_t unknown[UNKNOWN_MAX];
};

struct board {
	uint32_t nodes;
	_Atomic uint32_t
		down[NODES_MAX]; /* its daemon is about to be killed: errors end its load */
	_Atomic uint32_t out
		[NODES_MAX]; /* it is about to be given up: EIO under a lock, EIO of fsync, ESTALE of what is removed */
	struct {
		_Atomic uint64_t begun, done;
	} block[NODES_MAX][BLOCKS];
	struct slot slot[NODES_MAX][KINDS];
};

/* One activity of one node: a thread. */
struct work {
	struct board *board;
	struct slot *s;
	enum kind kind;
	uint32_t node, nodes;
	const char *mnt;
	uint64_t rng;
	int fd;
	uint64_t *buf, *expected; /* FILE_BLOCKS * BLOCK bytes, aligned */
	uint64_t limit; /* operations; 0: until told to end */
};

extern const char *const kind_names[KINDS];
extern atomic_bool work_ends;

struct board *board_map(const char *path, uint32_t nodes);
uint64_t now_ns(void);
void nap_ms(unsigned ms);
uint32_t below(struct work *w, uint32_t n);

/* A call goes out; it has come back. `id` 0: it changes nothing. */
void begin(struct work *w);
void end(struct work *w);
/* Said once on stderr, counted. Never returns if the node's daemon is being killed. */
void wrong(struct work *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* err of a call: counted as an error, or as what a node may say that was given up. */
void failed(struct work *w, bool may_be_lost, int err, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void set_unknown(struct slot *s, uint64_t id);
bool is_unknown(const struct slot *s, uint64_t id);

/* BLOCK bytes that follow from who wrote them, where, and when. */
void fill(uint64_t *block, uint32_t node, uint64_t place, uint64_t version);
/* The version, or 0 if these are not the bytes of this block. */
uint64_t version_of(const uint64_t *block, uint64_t *scratch, uint32_t node, uint64_t place);

struct record {
	uint64_t magic, node, id, sum;
	char text[RECORD - 33];
	char newline;
} __attribute__((packed));
bool record_ok(const struct record *r);

void data_loop(struct work *w);
void read_loop(struct work *w);
void names_loop(struct work *w);
void look_loop(struct work *w);
void lock_loop(struct work *w);
void append_loop(struct work *w);
void files_loop(struct work *w);

/* Everything is counted through `mnt`, while nobody works. How much is wrong. */
uint64_t check_all(struct board *b, const char *mnt);

#endif
