/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_wire.c - wire_decode() on any bytes: no read out of bounds, and what is accepted is exactly what
 * wire_encode() makes of it.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "redirect/wire.h"

static struct wire_room room;
static uint8_t again[WIRE_HEADER_BYTES + FRAME_BODY_MAX];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t body, data_len;
	struct msg m;

	if (size < WIRE_HEADER_BYTES || size > sizeof(again))
		return -1;
	if (wire_frame(data, &body, &data_len))
		return 0;
	if (wire_decode(&m, data, (uint32_t)size, &room))
		return 0;
	csv_assert(wire_encode(&m, again, sizeof(again)) == size);
	csv_assert(memcmp(again, data, size) == 0);
	return 0;
}
