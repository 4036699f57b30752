/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * le.h - little-endian integers of disk and wire.
 *
 * They have types of their own, so that native arithmetic on them does not compile.
 */
#ifndef CSVFS_BASE_LE_H
#define CSVFS_BASE_LE_H

#include <stdint.h>
#include <string.h>

typedef struct {
	uint8_t b[2];
} le16;
typedef struct {
	uint8_t b[4];
} le32;
typedef struct {
	uint8_t b[8];
} le64;

/* By one load or store, not byte by byte: these are in every search, check and seal. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LE_SWAP(bits, v) (v)
#else
#define LE_SWAP(bits, v) __builtin_bswap##bits(v)
#endif

#define LE_TYPE(bits)                                                                              \
	static inline uint##bits##_t le##bits##_get(le##bits v)                                    \
	{                                                                                          \
		uint##bits##_t x;                                                                  \
                                                                                                   \
		memcpy(&x, v.b, sizeof(x));                                                        \
		return LE_SWAP(bits, x);                                                           \
	}                                                                                          \
                                                                                                   \
	static inline le##bits le##bits##_of(uint##bits##_t v)                                     \
	{                                                                                          \
		uint##bits##_t x = LE_SWAP(bits, v);                                               \
		le##bits r;                                                                        \
                                                                                                   \
		memcpy(r.b, &x, sizeof(x));                                                        \
		return r;                                                                          \
	}

LE_TYPE(16)
LE_TYPE(32)
LE_TYPE(64)

#endif
