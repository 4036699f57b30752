/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/iscsi_name.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "csvfs/base/crc32c.h"
#include "csvfs/base/limits.h"

void iscsi_name_initiator(const struct bdev_config *cfg, char *out, size_t out_bytes)
{
	char host[65] = "";
	size_t n;

	if (cfg->initiator && *cfg->initiator) {
		snprintf(out, out_bytes, "%s", cfg->initiator);
		return;
	}
	(void)gethostname(host, sizeof(host) - 1);
	n = (size_t)snprintf(out, out_bytes, "iqn.2026-11.csvfs:");
	/* RFC 3722: lower case letters, digits, '-', '.', ':'. */
	for (char *c = host; *c && n + 16 < out_bytes; c++) {
		if (*c >= 'A' && *c <= 'Z')
			out[n++] = (char)(*c - 'A' + 'a');
		else if ((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '.')
			out[n++] = *c;
		else
			out[n++] = '-';
	}
	/* Targets let initiators in by name: without a cluster it has always been this one. */
	snprintf(out + n, out_bytes - n, "-n%u", cfg->node & NODE_ALONE ? 1 : cfg->node);
}

uint32_t iscsi_name_isid(const struct bdev_config *cfg, const char *target, int lun)
{
	uint32_t h = crc32c(0, &cfg->node, sizeof(cfg->node));

	h = crc32c(h, target, strlen(target));
	return crc32c(h, &lun, sizeof(lun)) & 0xffffff;
}
