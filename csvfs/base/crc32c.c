/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/base/crc32c.h"

#include <string.h>

/* Table of the reflected polynomial 0x82f63b78, four bits at a time: small, and built by the compiler. */
static const uint32_t nibble[16] = {
	0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
	0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
	0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

static uint32_t crc32c_soft(uint32_t crc, const uint8_t *p, size_t n)
{
	while (n--) {
		crc ^= *p++;
		crc = (crc >> 4) ^ nibble[crc & 15];
		crc = (crc >> 4) ^ nibble[crc & 15];
	}
	return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(
	uint32_t crc, const uint8_t *p, size_t n)
{
	uint64_t c = crc;

	for (; n >= 8; n -= 8, p += 8) {
		uint64_t v;

		memcpy(&v, p, 8);
		c = __builtin_ia32_crc32di(c, v);
	}
	crc = (uint32_t)c;
	while (n--)
		crc = __builtin_ia32_crc32qi(crc, *p++);
	return crc;
}

/*
 * The instruction answers after 3 cycles and can begin every cycle: three thirds of a block at once.
 * What a third makes is then moved over the bytes behind it: a product modulo the polynomial, with
 * x^(8 n - 33) for n bytes (33: the instruction gives 32, a product of reflected numbers 1).
 */
#define THIRD 1360u
#define OVER_ONE 0x3f70cc6fu
#define OVER_TWO 0x5aa1f3cfu

__attribute__((target("sse4.2,pclmul"))) static uint64_t crc32c_moved(uint64_t crc, uint32_t by)
{
	typedef long long v2 __attribute__((vector_size(16)));
	const v2 a = {(long long)crc, 0}, b = {by, 0};
	const v2 product = __builtin_ia32_pclmulqdq128(a, b, 0);

	return __builtin_ia32_crc32di(0, (uint64_t)product[0]);
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t crc32c_thirds(
	uint32_t crc, const uint8_t *p, size_t n)
{
	for (; n >= 3 * THIRD; n -= 3 * THIRD, p += 3 * THIRD) {
		uint64_t a = crc, b = 0, c = 0, v[3];

		for (size_t i = 0; i < THIRD; i += 8) {
			memcpy(&v[0], p + i, 8);
			memcpy(&v[1], p + THIRD + i, 8);
			memcpy(&v[2], p + 2 * THIRD + i, 8);
			a = __builtin_ia32_crc32di(a, v[0]);
			b = __builtin_ia32_crc32di(b, v[1]);
			c = __builtin_ia32_crc32di(c, v[2]);
		}
		crc = (uint32_t)(crc32c_moved(a, OVER_TWO) ^ crc32c_moved(b, OVER_ONE) ^ c);
	}
	return crc32c_sse42(crc, p, n);
}

/* 0: none; 1: the instruction for the checksum; 2: that for products, too. */
static int instructions(void)
{
	unsigned a = 1, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return (c >> 20) & 1 ? 1 + ((c >> 1) & 1) : 0;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t length_bytes)
{
	const uint8_t *p = data;

	crc = ~crc;
#if defined(__x86_64__)
	/* Asked once: CPUID traps in a virtual machine, and the answer never changes. */
	static int sse42 = -1;

	if (sse42 < 0)
		sse42 = instructions();
	if (sse42 == 2)
		return ~crc32c_thirds(crc, p, length_bytes);
	if (sse42)
		return ~crc32c_sse42(crc, p, length_bytes);
#endif
	return ~crc32c_soft(crc, p, length_bytes);
}
