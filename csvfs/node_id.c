/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/node_id.h"

#include <string.h>

#include "csvfs/base/crc32c.h"

uint32_t node_id_alone(const char *machine_id, const char *host)
{
	/* With the zero between: what moves from one to the other makes another number. */
	uint32_t h = crc32c(0, machine_id, strlen(machine_id) + 1);

	return crc32c(h, host, strlen(host)) | NODE_ALONE;
}
