/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ask.h - a question to a csvfs daemon at its control socket, and which daemon is meant. */
#ifndef CSVFS_TOOLS_ASK_H
#define CSVFS_TOOLS_ASK_H

#include <glob.h>
#include <stddef.h>

#define ASK_NOBODY 3 /* an exit code: nobody answers */

/* How long one is waited for: 10, if nobody says something else. */
extern unsigned ask_seconds;

/*
 * 0: answered, *text (malloc'ed) is what it said; 1: it refused, *text says why; -1: nobody
 * answers (errno).
 */
int ask_one(const char *socket_path, const char *line, char **text);

/*
 * The sockets that are meant: all of them (`where` NULL), or the one of a mount point. 0, or an exit code, and `who` says on
 * stderr why there is none (NULL: nobody does). globfree(g) in any case.
 */
int ask_find(const char *where, const char *who, glob_t *g, size_t *count);

#endif
