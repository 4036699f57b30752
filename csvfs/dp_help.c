/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dp_help.c - what shells of the data path share: images, and the outcome of several commands. */
#include <string.h>

#include "csvfs/dp.h"

void dp_fill(const struct dp_op *op, void *image, const void *data)
{
	uint8_t *img = image;

	for (uint32_t i = 0; i < op->zero_count; i++)
		memset(img + op->zeros[i].buf_off, 0, op->zeros[i].len);
	if (!op->write || op->tail)
		return;
	if (op->zero)
		memset(img + op->skip, 0, op->len);
	else
		memcpy(img + op->skip, data, op->len);
}

static int badness(enum lun_status s)
{
	switch (s) {
	case LUN_OK:
		return 0;
	case LUN_RETRY:
		return 1;
	case LUN_FAILING:
		return 2;
	case LUN_NOSPACE:
		return 3;
	case LUN_MEDIUM:
		return 4;
	case LUN_UNSUPPORTED:
		return 5;
	case LUN_PROTECTED:
		return 6;
	case LUN_CONFLICT:
		return 7;
	case LUN_UNKNOWN:
		return 8;
	}
	return 8;
}

enum lun_status dp_worst(enum lun_status a, enum lun_status b)
{
	return badness(a) >= badness(b) ? a : b;
}
