/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * script.h - what is done to a volume while power fails: several actors, each with names and files of
 * its own in directories of all. The same requests go to a second volume that never crashes, one
 * after the other in the order in which the first executed them: after each its state is a
 * number, and a recovered volume must have one of these.
 */
#ifndef CSVFS_TESTS_CRASH_SCRIPT_H
#define CSVFS_TESTS_CRASH_SCRIPT_H

#include "tests/crash/world.h"

#define ACTORS_MAX 4u
#define SLOTS 6u
#define STATES_MAX 4096u

enum act {
	ACT_MKNOD,
	ACT_MKDIR,
	ACT_SYMLINK,
	ACT_LINK,
	ACT_UNLINK,
	ACT_RMDIR,
	ACT_RENAME,
	ACT_CHMOD,
	ACT_TRUNCATE,
	ACT_SETXATTR,
	ACT_REMOVEXATTR,
	ACT_WRITE, /* layout, data, commit */
	ACT_FALLOCATE,
	ACT_PUNCH,
	ACT_COUNT
};

/* Which of the two volumes: inode numbers differ. */
enum which { MAIN, MODEL };

struct node_of {
	uint64_t ino[2];
	uint32_t kind; /* S_IFMT; 0: unused */
	uint32_t names; /* that lead to it */
	uint32_t children;
	bool has_xattr;
};

struct entry {
	bool present;
	uint32_t dir, node; /* indices of script.nodes */
};

struct action {
	enum act act;
	uint32_t slot, slot2, dir, node; /* of the entries; directory of the new name; what it is about */
	uint32_t value;
	uint64_t off, len;
	int64_t time_ns;
};

#define DATA_WRITES_MAX 16u
struct actor {
	uint32_t id, left; /* actions */
	struct prng prng;
	struct entry entry[SLOTS];
	struct action now;
	enum { ACTOR_IDLE, ACTOR_REQUEST, ACTOR_DATA, ACTOR_COMMIT } phase;
	struct vol_req req; /* to the main volume */
	uint64_t seq;
	uint32_t executed; /* states when the request in flight had been executed; 0: not yet */
	struct fs_extent got[64], wrote[DATA_WRITES_MAX];
	uint32_t wrote_count;
	uint64_t data[DATA_WRITES_MAX]; /* writes in flight */
	uint32_t data_count;
	uint8_t room[65536];
};

struct script {
	struct world *main, *model;
	uint64_t seed;
	uint32_t cluster_bytes;
	struct actor actor[ACTORS_MAX];
	uint32_t actors;
	struct node_of node[256];
	uint32_t nodes;
	int64_t time_ns;
	uint64_t state[STATES_MAX]; /* after 0, 1, ... requests executed */
	uint32_t states;
	uint32_t logged[STATES_MAX]; /* actor whose request made state i + 1 */
	uint32_t acked; /* states that a recovered volume must have reached */
	struct prng prng;
	char fault[256]; /* something was wrong before any crash */
};

/* The operations of the main volume: as metadata_ops, and what was executed is noted. */
extern const struct vol_ops script_ops;

void script_start(struct script *s, struct world *main, struct world *model, uint64_t seed,
	uint32_t actors, uint32_t actions, uint32_t cluster_bytes);
/* Actors that are idle begin their next action, or not, as the seed says. */
void script_submit(struct script *s);
/* Ends one write of data; false: none is in flight. */
bool script_data_done(struct script *s);
/* Replies of the main volume; what it executed is executed on the model. */
void script_collect(struct script *s);
bool script_finished(const struct script *s);

/* Names, attributes, contents: everything a user can see, as one number. *err: the first error. */
uint64_t script_dump(struct world *w, uint32_t cluster_bytes, bool print, int *err);

/* The request in flight of this actor as it would be sent again; false: it has none with a slot. */
bool script_resend(struct script *s, uint32_t actor, struct fs_request *rq);

#endif
