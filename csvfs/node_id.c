/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/node_id.h"

#include <string.h>

#include "csvfs/base/crc32c.h"
#include "csvfs/base/trace.h"

uint32_t node_id_alone(const char *machine_id, const char *host)
{
	/* With the zero between: what moves from one to the other makes another number. */
	uint32_t h = crc32c(0, machine_id, strlen(machine_id) + 1);

	return crc32c(h, host, strlen(host)) | NODE_ALONE;
}

bool node_id_in_cluster(uint32_t id, char *text, size_t text_bytes)
{
	if (!(id & NODE_ALONE))
		return true;
	(void)trace_format(text, text_bytes,
		"corosync gives this node the id %u, made of its address: csvfs needs one below %u, set nodeid for each node in "
		"corosync.conf",
		id, NODE_ALONE);
	return false;
}
