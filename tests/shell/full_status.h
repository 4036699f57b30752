/* SPDX-License-Identifier: GPL-2.0-or-later */
/* full_status.h - the answer to READ FULL STATUS (SPC-4 6.15.5), as LIO makes it. */
#ifndef TESTS_SHELL_FULL_STATUS_H
#define TESTS_SHELL_FULL_STATUS_H

#include <stdio.h>
#include <string.h>

#include "csvfs/scsi.h"

/* Adds a registration to an answer of n bytes (8: of none); the text stands in the TransportID. Returns how long it is now. */
static inline size_t full_add(uint8_t *d, size_t n, uint64_t key, uint8_t format, const char *text)
{
	size_t len = (strlen(text) + 1 + 3) & ~(size_t)3;
	uint8_t *at = d + n;

	memset(at, 0, 28 + len);
	scsi_put_be(at, key, 8);
	scsi_put_be(at + 18, 1, 2);
	scsi_put_be(at + 20, 4 + len, 4);
	at[24] = (uint8_t)(format << 6 | 5);
	scsi_put_be(at + 26, len, 2);
	memcpy(at + 28, text, strlen(text));
	n += 28 + len;
	scsi_put_be(d + 4, n - 8, 4);
	return n;
}

static inline const char *full_port(char *out, size_t out_bytes, const char *name, uint64_t isid)
{
	snprintf(out, out_bytes, "%s,i,0x%012llx", name, (unsigned long long)isid);
	return out;
}

#endif
