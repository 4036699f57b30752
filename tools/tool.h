/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tool.h - what mkfs.csvfs, fsck.csvfs and csvdb share: opening a volume safely, sizes, messages. */
#ifndef CSVFS_TOOLS_TOOL_H
#define CSVFS_TOOLS_TOOL_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/claim.h"
#include "csvfs/bdev_sync.h"
#include "metadata/image.h"
#include "tools/check/check.h"

/* "mkfs.csvfs", for messages; set first in main(). */
extern const char *tool_name;

/* "mkfs.csvfs: text" on stderr. */
void tool_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* "64K", "10G", "1.5T", "4096"; false: no size. Powers of 1024. */
bool tool_parse_size(const char *s, uint64_t *bytes);
/* "64 KiB", "1.5 TiB"; returns out. */
char *tool_size_text(uint64_t bytes, char *out, size_t out_bytes);
/* "01234567-89ab-..."; out: 37 bytes. */
char *tool_uuid_text(const uint8_t uuid[16], char out[37]);
bool tool_parse_uuid(const char *s, uint8_t uuid[16]);
/* Random bytes, of the kernel. */
void tool_random(void *out, size_t n);

struct tool_volume {
	struct bdev_sync *dev;
	const struct bdev_info *info;
	uint64_t bytes; /* whole blocks of BLOCK_SIZE */
	char name[BDEV_TEXT_MAX]; /* for messages, without secrets */
	bool kept; /* found by tool_use_of(): the last node has left its registration, since a fenced one has not been back */
	struct claim judged; /* kept: the claim that says so */
	bool beside; /* we have one as well, until tool_close() */
	uint64_t key; /* beside: ours */
	bool dirty; /* by tool_use_of(): writes of a life that has ended may still be held in the target */

	/* take.c: the claim's two blocks as they were read last; as they were judged, or as we have written them since. */
	uint8_t now[2][BLOCK_SIZE], seen[2][BLOCK_SIZE];
	bool taken, lost; /* the claim is ours; it was, and another's now */
	struct claim claim; /* ours */
	unsigned place;
	uint64_t beat_ns;
};

#define TOOL_READONLY (1u << 0)
#define TOOL_NOLOCK (1u << 1) /* look at an image that is mounted */
/*
 * umount(8) comes back before the daemon has put its volume in order: give an image that is in use a
 * few seconds to be let go.
 */
#define TOOL_WAIT (1u << 2)

/* False: told why on stderr. */
bool tool_open(struct tool_volume *v, const char *volume, const char *initiator, unsigned flags);
void tool_close(struct tool_volume *v);

/* A block of BLOCK_SIZE bytes, or more. 0 or a negative errno. */
int tool_read(struct tool_volume *v, uint64_t off, void *buf, uint64_t len);

struct sync_dev tool_sync_dev(struct tool_volume *v);
struct check_dev tool_check_dev(struct tool_volume *v);

enum tool_use {
	TOOL_FREE,	  /* nobody has it mounted */
	TOOL_UNCLEAN,	  /* nobody has it mounted, but it was not unmounted in order */
	TOOL_MOUNTED,	  /* its coordinator is alive */
	TOOL_REGISTERED,  /* nodes are registered at the LUN, without sign of a coordinator */
	TOOL_UNKNOWN,	  /* the LUN does not tell who is registered */
};

/*
 * Watches the claim's heartbeat for up to 2.5 beats if it is held, and asks the LUN who is registered.
 * `text` says in words what was found. An image file that is mounted cannot be opened at all: its lock
 * is the sign.
 */
enum tool_use tool_use_of(struct tool_volume *v, char *text, size_t text_bytes);

/*
 * Before anything is written to a LUN that has reservations: registers, so that a mount fences us, and drains what we have sent; beside
 * what was left on purpose (v->kept), which goes on holding the reservation. Then looks whether all is still as tool_use_of() found
 * it. False: it is not, or it cannot be done; told why on stderr.
 */
bool tool_register(struct tool_volume *v);
/* The look alone; false: `why` says what is not as it was. */
bool tool_as_judged(struct tool_volume *v, char *why, size_t why_bytes);

/* The administrator's word that no node uses the LUN any more, nor any that was fenced: all registrations go. False: told why. */
bool tool_clear_registrations(struct tool_volume *v);
/* The same, for the claim. */
bool tool_nobody_at_large(struct tool_volume *v);

/* The better claim of the two, of any volume; the blocks are in v->now. False: none. */
bool tool_claim(struct tool_volume *v, struct claim *out);

/* ------------------------------------------------------------------ take.c */

/* The claim stands as it was judged, or as we wrote it last. */
bool tool_claim_is_seen(struct tool_volume *v);
/* What was read last is what is judged. */
void tool_claim_see(struct tool_volume *v);

/*
 * Before the first write to a LUN that was not left in order: what a life that has ended has sent is done, or never will be. False: told why.
 */
bool tool_drain(struct tool_volume *v);

/*
 * Takes the claim, as it was judged, for ourselves: HELD, with the epoch and what else is in *as. 0: it is ours, and beats with each
 * read and write through tool_sync_dev() and tool_check_dev(); -EBUSY, -EIO: it is not, told why on stderr, and nothing but a claim was written.
 */
int tool_take(struct tool_volume *v, const struct claim *as);
/* Before each write, and with each read: not 0: the claim is not ours any more (told once), and nothing may be written. */
int tool_beat(struct tool_volume *v);
/* All is written: CLEAN, in both places. 0, or -EIO. */
int tool_release(struct tool_volume *v);

#endif
