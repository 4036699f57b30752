/* SPDX-License-Identifier: GPL-2.0-or-later */
/* prng.h - splitmix64: small, fast, the same everywhere. Not for secrets. */
#ifndef CSVFS_BASE_PRNG_H
#define CSVFS_BASE_PRNG_H

#include <stdint.h>

struct prng {
	uint64_t s;
};

static inline uint64_t prng_u64(struct prng *r)
{
	uint64_t z = (r->s += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* 0 .. n-1; n > 0. */
static inline uint64_t prng_below(struct prng *r, uint64_t n)
{
	return prng_u64(r) % n;
}

#endif
