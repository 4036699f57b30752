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

static int have_sse42(void)
{
	unsigned a = 1, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return (c >> 20) & 1;
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
		sse42 = have_sse42();
	if (sse42)
		return ~crc32c_sse42(crc, p, length_bytes);
#endif
	return ~crc32c_soft(crc, p, length_bytes);
}
