/* SPDX-License-Identifier: GPL-2.0-or-later */
/* size.c - sizes as people write and read them. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/tool.h"

static int unit_shift(const char *s)
{
	static const char units[] = "KMGTP";
	const char *u = *s ? strchr(units, toupper((unsigned char)*s)) : NULL;

	if (!*s)
		return 0;
	if (!u || (s[1] && strcasecmp(s + 1, "iB") && strcasecmp(s + 1, "B")))
		return -1;
	return 10 * (int)(u - units + 1);
}

bool tool_parse_size(const char *s, uint64_t *bytes)
{
	char *end;
	double v;
	int shift;

	if (!isdigit((unsigned char)*s))
		return false;
	errno = 0;
	v = strtod(s, &end);
	shift = unit_shift(end);
	if (errno || shift < 0 || v * (double)(1ull << shift) > 1e18)
		return false;
	*bytes = (uint64_t)(v * (double)(1ull << shift));
	return true;
}

char *tool_size_text(uint64_t bytes, char *out, size_t out_bytes)
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	double v = (double)bytes;
	unsigned u = 0;

	while (v >= 1024 && u < 4) {
		v /= 1024;
		u++;
	}
	if (v == (double)(uint64_t)v)
		snprintf(out, out_bytes, "%.0f %s", v, units[u]);
	else
		snprintf(out, out_bytes, "%.1f %s", v, units[u]);
	return out;
}
