/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fakecore.h - stands in for the node's core behind the data path: a directory with one file, `file`.
 *
 * The file's byte n lies at byte n of the LUN; only states of clusters, size and mtime are kept, in
 * memory. Everything a real core may do to the data path happens, on purpose and often.
 */
#ifndef TESTS_FAKECORE_H
#define TESTS_FAKECORE_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/datapath.h"

#define FAKE_ROOT 77
#define FAKE_FILE 88

struct fakecore;

struct fakecore_config {
	const char *url;     /* of the LUN */
	const char *image;   /* the same bytes as a file, for block I/O handed over; NULL: there is none */
	const char *mountpoint;
	uint64_t file_bytes; /* room for the file, whole clusters */
	uint32_t cluster_bytes;
	bool written;	     /* the file is full size and written from the start */
	bool standalone;
	bool closed_gate;    /* never direct */
	uint32_t lands_ms;   /* the first write handed over ends with EIO at once, and lands so much later; 0: none does */
	uint32_t flap_ms;    /* the gate closes and opens every so often; 0: never */
	uint32_t recall_ms;  /* the layout is recalled every so often; 0: never */
	uint32_t reopen_ms;  /* the path is closed and opened; 0: never */
	uint32_t evicts;     /* so many ask for their first layouts; then the rights end, the file is made empty by another node, and the last is answered first */
	bool places_late;    /* ... one more has not heard its place by then, and hears of a new one first */
	bool places_later;   /* ... and hears of its place when the others have asked for other ones, in the new rights */
	const char *fault;   /* see bdev_fault.c */
	uint32_t answer_ms;  /* no answer for so long: the path is lost; 0: the default */
	unsigned threads;
};

/* Mounted and served when it returns; NULL and a message on stderr if not. */
struct fakecore *fakecore_start(const struct fakecore_config *cfg);
/* Unmounts and waits for the end. */
void fakecore_stop(struct fakecore *c);
/* Asks for the end of the mount, and does not wait. */
void fakecore_unmount(struct fakecore *c);
/* Waits until somebody unmounts. */
void fakecore_wait(struct fakecore *c);

void fakecore_stats(struct fakecore *c, struct datapath_stats *st);
/* Waits for it, 10 s at most. */
bool fakecore_until_in_flight(struct fakecore *c, unsigned count);
uint64_t fakecore_size(struct fakecore *c);
/* Another node makes the file so long, and what was known of it here is taken back. */
void fakecore_set_size(struct fakecore *c, uint64_t size);
/* The locks of that open file are lost; the first one of a mount has number 1. */
void fakecore_lose_locks(struct fakecore *c, uint64_t handle);
/* Touched, written, handed over: how many events of that type came. */
uint64_t fakecore_count(struct fakecore *c, enum ev_type type);

#endif
