/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CSVFS_BASE_CRC32C_H
#define CSVFS_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/*
 * CRC-32C (Castagnoli) as in RFC 3720 appendix B.4. crc32c(0, "123456789", 9) == 0xe3069283.
 * `crc` is 0 or the result over what came before. Uses the CPU's instruction where there is one.
 */
uint32_t crc32c(uint32_t crc, const void *data, size_t length_bytes);

#endif
