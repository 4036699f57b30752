/* SPDX-License-Identifier: GPL-2.0-or-later */
/* load_int.h - what load.c and registers.c share. minimise.c knows the limits; nobody else includes it. */
#ifndef CSVFS_TESTS_SIM_LOAD_INT_H
#define CSVFS_TESTS_SIM_LOAD_INT_H

#include "tests/sim/sim.h"

#define SECTOR 512u
#define FILE_SECTORS 256u /* 128 KiB: eight clusters */
#define CLUSTER_SECTORS (SIM_CLUSTER_BYTES / SECTOR)
#define HISTORY 48
#define CLIENTS_MAX 4
#define FILES_MAX 6
#define NAMES_MAX 8
#define IO_SECTORS_MAX 72u
#define DEAD_NS (5 * SEC)

struct entry {
	uint64_t id;
	uint64_t value;	     /* what shows: the id, or 0 */
	uint64_t start, end; /* end NEVER: under way */
	uint64_t over;	     /* reads that begin later do not see it */
	uint64_t gone_ns;    /* it was seen to be lost then, and does not come back; 0: it was not */
	uint64_t weak_ns;    /* since when it is weak */
	bool undone;	     /* gone: what was there before it showed again */
	uint64_t given_ns;   /* the limit of patience (hold=) ended the call then; it may land later. 0: no */
	bool acked;
	bool failed;	     /* it was told that it failed: what of it is there, is there by then */
	bool weak;	     /* acked by a node that died before it was durable: may be gone */
	bool durable;	     /* a sync write, or one before an fsync of its node */
	uint32_t by;	     /* node */
	uint32_t node;	     /* of a client that died before the answer: 0 otherwise */
	uint32_t asked;	     /* the same, of what its coordinator does: until the node is fenced, and a little longer */
	uint32_t death;	     /* ... which one: 0 as long as it lives */
	bool killed;	     /* who asked was killed, or told that its patience is over; its node lives, and may ask again */
};

struct sector {
	struct entry *e; /* of `count` are used, at most HISTORY */
	uint32_t count, room;
	uint32_t loose;	  /* nodes, a bit each, that may have written what is not durable yet */
	uint64_t lost_ns; /* when something that may show had to be forgotten; 0: nothing had */
};

enum presence { ABSENT, PRESENT, UNSURE };

struct name {
	char text[32];
	enum presence is;
	bool busy;
	uint64_t version;
	uint64_t ino;
	uint32_t renewed; /* so many texts it has had before this */
};

struct client {
	struct sim *s;
	struct snode *n;
	uint32_t nr;
	bool alive, idle, ending;
	uint64_t life;
	uint64_t opened[FILES_MAX]; /* life in which it has the file open; 0: no */
	uint64_t opened_ns[FILES_MAX]; /* when that was asked for */
	uint64_t start_ns;
	uint64_t evicted_ns; /* an fsync: when its node had last heard before that it was given up */
	struct name *name, *name2;
	uint64_t version;
	uint32_t file, first, count;
	uint64_t id;
	bool reading, dsync, redirected, zeroing;
	bool quiet; /* a read, or a truncation: nobody was writing to that file when it began */
	uint32_t probe; /* probe_tail(): its next step; 0: it is at none */
	bool spoilt;	/* ... its next write is to fail */
	uint32_t tail;	/* ... the sector where the file was made to end */
	struct call call;
	uint8_t buf[IO_SECTORS_MAX * SECTOR];
	struct fs_request rq;
	const char *what;
};

/* The last death of a node with writes under way (gone.c). */
struct gone {
	uint64_t life;
	uint32_t death;
	bool looking; /* no coordinator knows of it yet, */
	bool given;   /* one does, */
	uint32_t held[FILES_MAX]; /* and these nodes had a layout of that file then */
	uint64_t known_ns[SIM_NODES_MAX + 1]; /* when that node's view was without it first; 0: not yet */
};

struct load {
	uint64_t ino[FILES_MAX];
	struct sector sectors[FILES_MAX][FILE_SECTORS];
	bool written[FILES_MAX][FILE_SECTORS / CLUSTER_SECTORS]; /* ... holds something that is durable */
	struct {
		uint32_t bound; /* it ends there at the latest, in sectors */
		uint32_t since; /* ... what may have made it longer since it was last made shorter */
	} ends[FILES_MAX];
	bool orphans[SIM_NODES_MAX + 1]; /* it died with writes under way (entry.node) */
	struct gone gone[SIM_NODES_MAX + 1];
	uint64_t killed[SIM_NODES_MAX + 1]; /* the life in which it has entries that are; 0: none */
	uint32_t deaths;
	struct client c[SIM_NODES_MAX + 1][CLIENTS_MAX];
	struct name names[SIM_NODES_MAX + 1][CLIENTS_MAX][NAMES_MAX];
	uint64_t next_id;
	bool stopping;
	struct {
		uint32_t file, first, end; /* of the last write that failed, in every other run; end 0: none has */
		bool cut; /* the file was truncated before it */
	} failed;
};

/* registers.c: what each sector of each file may read as. */
void registers_create(struct sim *s);
void registers_destroy(struct sim *s);
void registers_begin(struct client *c);
void registers_end(struct client *c);
/* Nobody else is writing to the client's file. */
bool registers_quiet(const struct client *c);
void registers_check(struct client *c, uint32_t i, const uint8_t *bytes);
void registers_forget(struct sim *s, uint32_t node);
/* What the LUN had not made durable may be gone, of all nodes. */
void registers_power_lost(struct sim *s);
/* It is a write in place: whoever is lost later, it is not. */
bool registers_in_place(const struct client *c, uint32_t i);
void registers_durable(struct client *c, uint32_t i, struct entry *e);
bool registers_synced(struct client *c, uint32_t i, struct entry *e);
void registers_give_up(struct client *c, int32_t err);
void registers_may_land(struct client *c);
/* A call that changes the file has ended, and may have an effect. */
void registers_killed(struct client *c);
/* Its coordinator has given the node up: what was killed there before is not asked for again. */
void registers_killed_ends(struct sim *s, struct snode *n);

/* gone.c: what a node that died had under way, and when that is over for whom. */
void gone_died(struct sim *s, struct snode *n);
void gone_killed(struct sim *s, struct snode *n);
/* Nothing of e, whose node has died, lands over what c, which has been acknowledged now, has written. */
bool gone_is_over(const struct client *c, const struct entry *e);
/* The same of what it has read: it has opened the file since. */
bool gone_before_open(const struct client *c, const struct entry *e);

#endif
