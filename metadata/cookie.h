/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cookie.h - names as keys of a tree: directory entries and xattrs. The rule of the cookie's value is
 * in format_inode.h.
 */
#ifndef CSVFS_METADATA_COOKIE_H
#define CSVFS_METADATA_COOKIE_H

#include <stdint.h>

/* SipHash-2-4 (Aumasson, Bernstein 2012). */
uint64_t siphash24(const uint8_t key[16], const void *data, uint32_t length_bytes);

/* The lowest cookie that the name may have; the highest is COOKIE_INDEX_MAX more. */
uint64_t cookie_bucket(const uint8_t key[16], const void *name, uint32_t length_bytes);

#endif
