/* SPDX-License-Identifier: GPL-2.0-or-later */
/* json.h - reads the JSON that csvfs itself has made (RFC 8259, without surrogate pairs). */
#ifndef CSVFS_TOOLS_JSON_H
#define CSVFS_TOOLS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The value at a path: "name", "name.name". NULL: not there, or no JSON. */
const char *json_find(const char *json, const char *path);

/* The first value of an array, the next one behind `value`; NULL: no more. */
const char *json_first(const char *array);
const char *json_next(const char *value);

/*
 * At a path, as text: a string without its quotes, or a number, true, false as written; else
 * `none`.
 */
char *json_text(const char *json, const char *path, const char *none, char *out, size_t out_bytes);
/* 0 if it is not there, or no number. */
uint64_t json_u64(const char *json, const char *path);
bool json_true(const char *json, const char *path);

#endif
