/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "metadata/cookie.h"

#include "metadata/format_inode.h"

struct sip {
	uint64_t v0, v1, v2, v3;
};

static uint64_t rotl(uint64_t x, int n)
{
	return (x << n) | (x >> (64 - n));
}

static void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v1 = rotl(s->v1, 13) ^ s->v0;
	s->v0 = rotl(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = rotl(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = rotl(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = rotl(s->v1, 17) ^ s->v2;
	s->v2 = rotl(s->v2, 32);
}

static void sip_word(struct sip *s, uint64_t m)
{
	s->v3 ^= m;
	sip_round(s);
	sip_round(s);
	s->v0 ^= m;
}

static uint64_t load(const uint8_t *p)
{
	le64 v;

	memcpy(&v, p, sizeof(v));
	return le64_get(v);
}

uint64_t siphash24(const uint8_t key[16], const void *data, uint32_t length_bytes)
{
	uint64_t k0 = load(key), k1 = load(key + 8), last = (uint64_t)length_bytes << 56;
	struct sip s = {k0 ^ 0x736f6d6570736575ull, k1 ^ 0x646f72616e646f6dull,
		k0 ^ 0x6c7967656e657261ull, k1 ^ 0x7465646279746573ull};
	const uint8_t *p = data;
	uint32_t n = length_bytes;

	for (; n >= 8; n -= 8, p += 8)
		sip_word(&s, load(p));
	for (uint32_t i = 0; i < n; i++)
		last |= (uint64_t)p[i] << (8 * i);
	sip_word(&s, last);
	s.v2 ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

uint64_t cookie_bucket(const uint8_t key[16], const void *name, uint32_t length_bytes)
{
	uint64_t step = COOKIE_INDEX_MAX + 1;
	uint64_t bucket = (siphash24(key, name, length_bytes) >> 1) & ~(uint64_t)COOKIE_INDEX_MAX;

	if (bucket == 0)
		return step;
	/* The highest is left out: some programs take INT64_MAX for the end of a directory. */
	if (bucket + step > (uint64_t)INT64_MAX)
		return bucket - step;
	return bucket;
}
